"""Records of a study: a strict reader of NONMEM-style CSV. Errors name file, line, column, value and remedy.

Columns: ID, TIME [h], AMT, DV, EVID (0 observation, 1 dose, 2 other); optional MDV, CMT (number of the model's state),
DVID (number of the model's output), RATE, II, SS, ADDL. Every other column is a covariate. `.`, `NA` and an empty cell
are missing. Lines of a subject stand together, in order of time.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pkpd.ground import digest, text
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.regimen import Events, Schedule

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["Records"]

Floats = NDArray[np.float64]
MAX_BYTES: Final = 50_000_000
NEEDED: Final = ("ID", "TIME", "AMT", "DV", "EVID")
OPTIONAL: Final = ("MDV", "CMT", "DVID", "RATE", "II", "SS", "ADDL")
MISSING: Final = frozenset({".", "", "NA"})
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Doses, observations and covariates of n subjects.

    ids (n); doses: `Events` of n subjects (target = CMT - 1); subject, time [h], dv, output (m) of the observations in
    the order of the file (output = DVID - 1, else 0); after (m): the observation follows a dose at the same time;
    covariates {name: (n,)} constant within subject; varying: names of the covariates that are not.
    """

    ids: tuple[str, ...]
    doses: Events
    subject: NDArray[np.int64]
    time: Floats
    dv: Floats
    output: NDArray[np.int64]
    after: NDArray[np.bool_]
    covariates: dict[str, Floats]
    varying: tuple[str, ...]
    digest: str

    @classmethod
    def read(cls, path: str | Path, model: Model | None = None) -> Records:
        """The records of a file; with a model, CMT and DVID must be states and outputs of it.

        Example: `Records.read(library.data_path("theophylline.csv")).dv.size` is 132.
        """
        return cls.parse(text.read_text(path, MAX_BYTES), str(path), model)

    @classmethod
    def parse(cls, source: str, file: str = "<text>", model: Model | None = None) -> Records:
        """The records of a CSV text."""
        return _Reader(file, source, model).records()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class _Row:
    """One data line: its number in the file and its cells."""

    line: int
    cells: dict[str, str]


@dataclass(slots=True)
class _Subject:
    """The lines of one subject."""

    name: str
    rows: list[_Row]


class _Reader:
    def __init__(self, file: str, source: str, model: Model | None) -> None:
        self.file, self.source, self.model = file, source, model
        self.header: list[str] = []

    def fail(self, row: _Row | None, column: str | None, problem: str, remedy: str | None = None) -> NoReturn:
        value = row.cells.get(column) if row is not None and column is not None else None
        line = row.line if row is not None else 1
        raise InputError(problem, file=self.file, line=line, field=column, value=value, remedy=remedy)

    def records(self) -> Records:
        subjects = self._subjects(self._rows())
        doses = [self._doses(s) for s in subjects]
        seen = [(n, row, after) for n, s in enumerate(subjects) for row, after in self._observed(s)]
        covariates, varying = self._covariates(subjects)
        return Records(
            ids=tuple(s.name for s in subjects),
            doses=Events.pack(doses),
            subject=np.asarray([n for n, _, _ in seen], np.int64),
            time=np.asarray([self._number(row, "TIME") for _, row, _ in seen]),
            dv=np.asarray([self._number(row, "DV") for _, row, _ in seen]),
            output=np.asarray([self._output(row) for _, row, _ in seen], np.int64),
            after=np.asarray([after for _, _, after in seen], np.bool_),
            covariates=covariates,
            varying=varying,
            digest=digest.of_text(self.source),
        )

    # lines ----------------------------------------------------------------------------------------------------------

    def _rows(self) -> list[_Row]:
        if not self.source.strip():
            raise InputError("is empty", file=self.file, remedy="name a file with a header and data")
        reader = csv.reader(self.source.split("\n"), strict=True)
        rows: list[_Row] = []
        try:
            for cells in reader:
                if not self.header:
                    self._take_header([c.strip() for c in cells])
                elif any(c.strip() for c in cells):
                    rows.append(self._row(reader.line_num, cells))
        except csv.Error as error:
            problem = f"is not valid CSV: {error}"
            raise InputError(problem, file=self.file, line=reader.line_num, remedy="close the quotes") from None
        if not rows:
            raise InputError("has a header but no data", file=self.file, line=1, remedy="add a line for each record")
        return rows

    def _take_header(self, names: list[str]) -> None:
        self.header = names
        for name in names:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise InputError("is not a column name", file=self.file, line=1, value=name, remedy="name every column")
            if names.count(name) > 1:
                raise InputError("the column is there twice", file=self.file, line=1, field=name, remedy="keep one")
        for name in NEEDED:
            if name not in names:
                remedy = nearest(name, [n for n in names if n.upper() == name] or names)
                raise InputError("the column is missing", file=self.file, line=1, field=name, remedy=remedy)

    def _row(self, line: int, cells: Sequence[str]) -> _Row:
        if len(cells) != len(self.header):
            problem = f"the line has {len(cells)} cells, the header {len(self.header)}"
            raise InputError(problem, file=self.file, line=line, remedy="check the commas")
        return _Row(line, {name: cell.strip() for name, cell in zip(self.header, cells, strict=True)})

    def _subjects(self, rows: list[_Row]) -> list[_Subject]:
        """Lines by subject, in the order of the file; order, repetition and EVID checked."""
        found: dict[str, _Subject] = {}
        last = ""
        for row in rows:
            name = row.cells["ID"]
            if name in MISSING:
                self.fail(row, "ID", "is missing", "write the subject's number")
            if name in found and name != last:
                self.fail(row, "ID", "comes back after other subjects", "put the subject's lines together")
            self._in_time(row, found.setdefault(name, _Subject(name, [])))
            found[name].rows.append(row)
            last = name
        for subject in found.values():
            if not any(self._is_observation(row) for row in subject.rows):
                self.fail(subject.rows[0], "ID", "the subject has no observation", "remove the subject")
        return list(found.values())

    def _in_time(self, row: _Row, subject: _Subject) -> None:
        time = self._number(row, "TIME")
        if time < 0:
            self.fail(row, "TIME", "must be >= 0", "count hours from the first record")
        if subject.rows and time < self._number(subject.rows[-1], "TIME"):
            self.fail(row, "TIME", "goes backwards within the subject", "sort the lines by time")
        together = takewhile(lambda other: self._number(other, "TIME") == time, reversed(subject.rows))
        if any(row.cells == other.cells for other in together):
            self.fail(row, None, "the line repeats an earlier one", "remove one of them")

    # cells ----------------------------------------------------------------------------------------------------------

    def _number(self, row: _Row, column: str, default: float | None = None) -> float:
        cell = row.cells.get(column, ".")
        if cell in MISSING:
            if default is None:
                remedy = "set MDV to 1 if it was not measured" if column == "DV" else "write a number"
                self.fail(row, column, "is missing", remedy)
            return default
        if not _NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
            self.fail(row, column, "must be a number", "write . where it is missing")
        return float(cell)

    def _whole(self, row: _Row, column: str, default: int, most: int = 1_000_000) -> int:
        value = self._number(row, column, default)
        if value != int(value) or not 0 <= value <= most:
            self.fail(row, column, f"must be a whole number from 0 to {most}", "correct the number")
        return int(value)

    def _event(self, row: _Row) -> int:
        if row.cells["EVID"] in MISSING:
            self.fail(row, "EVID", "is missing", "0 for an observation, 1 for a dose")
        event = self._whole(row, "EVID", 0, most=4)
        if event > 2:
            self.fail(row, "EVID", "resets (3 and 4) are not read yet", "use 0, 1 or 2")
        return event

    def _is_observation(self, row: _Row) -> bool:
        return self._event(row) == 0 and self._whole(row, "MDV", 0, most=1) == 0

    def _state(self, row: _Row) -> int:
        """CMT as the index of a state."""
        number = self._whole(row, "CMT", 1)
        states = len(self.model.states) if self.model is not None else 1_000_000
        if not 1 <= number <= states:
            names = ", ".join(f"{i + 1} {n}" for i, n in enumerate(self.model.states)) if self.model else "1, 2, ..."
            self.fail(row, "CMT", "no such compartment", f"one of: {names}")
        return number - 1

    def _output(self, row: _Row) -> int:
        if "CMT" in row.cells:
            self._state(row)
        if "DVID" not in self.header:
            if self.model is not None and len(self.model.outputs) > 1:
                names = ", ".join(f"{i + 1} {n}" for i, n in enumerate(self.model.outputs))
                self.fail(row, "DVID", "is needed: the model has several outputs", f"add a column DVID: {names}")
            return 0
        number = self._whole(row, "DVID", 0)
        outputs = len(self.model.outputs) if self.model is not None else 1_000_000
        if not 1 <= number <= outputs:
            self.fail(row, "DVID", "no such output", f"a number from 1 to {outputs}")
        return number - 1

    # meaning --------------------------------------------------------------------------------------------------------

    def _observed(self, subject: _Subject) -> list[tuple[_Row, bool]]:
        """(line, whether it follows a dose at the same time)."""
        found: list[tuple[_Row, bool]] = []
        dosed = -1.0
        for row in subject.rows:
            time = self._number(row, "TIME")
            if self._event(row) == 1:
                dosed = time
            elif self._number(row, "AMT", 0.0) != 0:
                self.fail(row, "AMT", "an observation has no amount", "set EVID to 1 if it is a dose")
            elif self._is_observation(row):
                self._number(row, "DV")
                found.append((row, dosed == time))
        return found

    def _doses(self, subject: _Subject) -> Schedule:
        """The subject's doses, ADDL expanded."""
        parts = [self._dose(row) for row in subject.rows if self._event(row) == 1]
        flat = sorted((d for part in parts for d in part), key=lambda d: d[0])
        columns = list(zip(*flat, strict=True)) if flat else [()] * 6
        kinds = (np.float64, np.float64, np.int32, np.float64, np.float64, np.bool_)
        time, amount, target, duration, interval, steady = (
            np.asarray(c, k) for c, k in zip(columns, kinds, strict=True)
        )
        return Schedule(time, amount, target, duration, interval, steady)

    def _dose(self, row: _Row) -> list[tuple[float, float, int, float, float, bool]]:
        amount, time = self._number(row, "AMT"), self._number(row, "TIME")
        if not amount > 0:
            self.fail(row, "AMT", "a dose must be > 0", "remove the line, or set EVID to 0")
        rate, every = self._number(row, "RATE", 0.0), self._number(row, "II", 0.0)
        if rate < 0 or every < 0:
            self.fail(row, "RATE" if rate < 0 else "II", "must be >= 0", "give the rate of infusion in the data")
        steady, more = self._whole(row, "SS", 0, most=1) == 1, self._whole(row, "ADDL", 0)
        if (steady or more) and not every > 0:
            self.fail(row, "II", "is needed with SS or ADDL", "give the dosing interval in hours")
        if more > 100_000:
            self.fail(row, "ADDL", "asks for more than 100000 doses", "give fewer doses")
        target, duration = self._state(row), amount / rate if rate > 0 else 0.0
        first = (time, amount, target, duration, every if steady else 0.0, steady)
        return [first, *((time + k * every, amount, target, duration, 0.0, False) for k in range(1, more + 1))]

    def _covariates(self, subjects: list[_Subject]) -> tuple[dict[str, Floats], tuple[str, ...]]:
        constant: dict[str, Floats] = {}
        varying: list[str] = []
        for name in (n for n in self.header if n not in NEEDED + OPTIONAL):
            values = [[self._number(row, name) for row in s.rows] for s in subjects]
            if all(len(set(v)) == 1 for v in values):
                constant[name] = np.asarray([v[0] for v in values])
            else:
                varying.append(name)
        return constant, tuple(varying)
