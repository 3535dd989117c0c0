"""Records of a study: a strict reader and a writer of NONMEM-style CSV. Errors name file, line, column, value, remedy.

Columns: ID, TIME [h], AMT, DV, EVID; optional MDV, CMT, DVID, RATE, DUR, II, SS, ADDL, CENS and the model's occasion.
Every other column is a covariate. CENS 1: the value lies below DV, the limit of quantification, and above LIMIT where
that column has a number; CENS -1: it lies above DV (Monolix's codes). `.`, `NA` and an empty cell are missing. Lines
of a subject stand together, in order of time; at one time they act in the order of the file.

EVID 0 observation, 1 dose, 2 other (CMT < 0 switches the compartment off, CMT > 0 on again), 3 reset, 4 reset and
dose, 5 replace the amount by AMT, 6 multiply it by AMT. CMT: number or name of a state. DVID: number or name of an
output. RATE: of an infusion, -1 rate and -2 duration by the model; DUR: its duration instead. SS 1: steady state of II,
2: added to what is there; with AMT 0, RATE > 0 and II 0 the steady state of a constant infusion that ends there. ADDL:
additional doses every II; a later reset or SS 1 cancels those at or after it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pkpd.ground import digest, text
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.regimen import EventKind, Events, Schedule
from pkpd.model.timeline import Series

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["Records"]

Floats = NDArray[np.float64]
MAX_BYTES: Final = 50_000_000
NEEDED: Final = ("ID", "TIME", "AMT", "DV", "EVID")
OPTIONAL: Final = ("MDV", "CMT", "DVID", "RATE", "DUR", "II", "SS", "ADDL", "CENS")
MAX_DOSES: Final = 2_000_000
MISSING: Final = frozenset({".", "", "NA"})
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Doses, observations and covariates of n subjects.

    ids (n); doses: `Events` of n subjects (target = CMT - 1, additional doses written out, an infusion by its rate with
    its nominal duration); subject, time [h], dv, output (m) of the observations in the order of the file (output =
    DVID - 1, else 0); after (m): the observation follows a dose at the same time; below (m): it lies
    below dv, the limit of quantification (nowhere, if left out), and above floor (m; -inf: no lower end); over (m): it
    lies above dv; line (m): of the file (0: none); covariates {name: (n,)} constant within subject, NaN where missing;
    varying: names of the covariates that are not, series {name: `Series`} what they say;
    occasion: `Series` of the model's occasion column.
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
    series: dict[str, Series] = field(default_factory=dict)
    occasion: Series | None = None
    below: NDArray[np.bool_] = None  # type: ignore[assignment]
    line: NDArray[np.int64] = None  # type: ignore[assignment]
    over: NDArray[np.bool_] = None  # type: ignore[assignment]
    floor: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        whole, logical = np.int64, np.bool_
        defaults = (("below", logical, 0), ("line", whole, 0), ("over", logical, 0), ("floor", np.float64, -np.inf))
        for name, kind, value in defaults:
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(len(self.dv), value, kind))

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

    def require_doses(self, purpose: str) -> None:
        """InputError unless every record is a plain dose: what resets or replaces cannot be used for `purpose`."""
        d = self.doses
        odd = (d.kind != EventKind.DOSE) | (d.steady > 1) | (d.rate < 0.0) | (d.amount <= 0.0)
        if odd.any():
            k = int(np.flatnonzero(odd)[0])
            problem = f"resets, SS 2, switched, replaced and modelled records cannot be {purpose} yet"
            remedy = f"see subject {self.ids[int(np.searchsorted(d.offsets, k, side='right')) - 1]} at {d.time[k]:g} h"
            raise InputError(problem, field="EVID", value=int(d.kind[k]), remedy=remedy)

    def require_measured(self, purpose: str) -> None:
        """InputError unless every value was measured: a censored one cannot be used for `purpose`."""
        odd = self.below | self.over
        if odd.any():
            k = int(np.flatnonzero(odd)[0])
            problem = f"values beyond a limit of quantification cannot be {purpose} yet"
            remedy = f"see subject {self.ids[int(self.subject[k])]} at {self.time[k]:g} h"
            raise InputError(problem, field="CENS", value=1 if self.below[k] else -1, remedy=remedy)

    def to_csv(self, model: Model | None = None) -> str:
        """The text that reads back as the same records (CMT and DVID by name with a model)."""
        from pkpd.model.record_writer import csv_text

        return csv_text(self, model)


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
        covariates, series = self._covariates(subjects)
        return Records(
            ids=tuple(s.name for s in subjects),
            doses=Events.pack(doses),
            subject=np.asarray([n for n, _, _ in seen], np.int64),
            time=np.asarray([self._number(row, "TIME") for _, row, _ in seen]),
            dv=np.asarray([self._number(row, "DV") for _, row, _ in seen]),
            output=np.asarray([self._output(row) for _, row, _ in seen], np.int64),
            after=np.asarray([after for _, _, after in seen], np.bool_),
            covariates=covariates,
            varying=tuple(series),
            digest=digest.of_text(self.source),
            series=series,
            occasion=self._occasions(subjects),
            below=np.asarray([self._censored(row) == 1 for _, row, _ in seen], np.bool_),
            over=np.asarray([self._censored(row) == -1 for _, row, _ in seen], np.bool_),
            floor=np.asarray([self._floor(row) for _, row, _ in seen], np.float64),
            line=np.asarray([row.line for _, row, _ in seen], np.int64),
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
        if len(names) == 1 and (mark := next((m for m in (";", "\t") if m in names[0]), None)):
            advice = "save the file with commas between its columns and a point in its numbers"
            problem = "the columns are not separated by commas"
            raise InputError(problem, file=self.file, line=1, value=mark, remedy=advice)
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

    def _censored(self, row: _Row) -> int:
        value = self._number(row, "CENS", 0)
        if value not in (-1.0, 0.0, 1.0):
            self.fail(row, "CENS", "must be 0, 1 or -1", "1: below DV, -1: above DV, 0: measured")
        return int(value)

    def _floor(self, row: _Row) -> float:
        """Lower end of what a value below the limit may be."""
        if "CENS" not in self.header or row.cells.get("LIMIT", ".") in MISSING:
            return -math.inf
        low = self._number(row, "LIMIT")
        if self._censored(row) != 1 or not low < self._number(row, "DV"):
            self.fail(row, "LIMIT", "goes with CENS 1 and lies below DV", "leave it empty elsewhere")
        return low

    def _event(self, row: _Row) -> int:
        if row.cells["EVID"] in MISSING:
            self.fail(row, "EVID", "is missing", "0 for an observation, 1 for a dose")
        return self._whole(row, "EVID", 0, most=6)

    def _is_observation(self, row: _Row) -> bool:
        return self._event(row) == 0 and self._whole(row, "MDV", 0, most=1) == 0

    def _state(self, row: _Row) -> int:
        """CMT as the index of a state, whatever its sign."""
        cell = row.cells.get("CMT", ".")
        states = list(self.model.states) if self.model is not None else []
        if cell.lstrip("-") in states:
            return states.index(cell.lstrip("-"))
        if cell[:1].isalpha() and cell not in MISSING:
            remedy = nearest(cell, states) if states else "without a model CMT is a number"
            self.fail(row, "CMT", "no such compartment", remedy)
        number = abs(self._signed(row, "CMT", 1))
        if not 1 <= number <= (len(states) if self.model is not None else 1_000_000):
            names = ", ".join(f"{i + 1} {n}" for i, n in enumerate(states)) or "1, 2, ..."
            self.fail(row, "CMT", "no such compartment", f"one of: {names}")
        return number - 1

    def _signed(self, row: _Row, column: str, default: int) -> int:
        value = self._number(row, column, default)
        if value != int(value):
            self.fail(row, column, "must be a whole number or a name", "correct the number")
        return int(value)

    def _output(self, row: _Row) -> int:
        outputs = list(self.model.outputs) if self.model is not None else []
        cell, place = row.cells.get("DVID", "."), row.cells.get("CMT", ".")
        if "DVID" not in self.header and place in outputs and self.model and place not in self.model.states:
            return outputs.index(place)
        if "CMT" in row.cells and place not in outputs:
            self._state(row)
        if "DVID" not in self.header:
            if len(outputs) > 1:
                names = ", ".join(f"{i + 1} {n}" for i, n in enumerate(outputs))
                self.fail(row, "DVID", "is needed: the model has several outputs", f"add a column DVID: {names}")
            return 0
        if cell in outputs:
            return outputs.index(cell)
        if cell[:1].isalpha() and cell not in MISSING:
            self.fail(row, "DVID", "no such output", nearest(cell, outputs) or "without a model DVID is a number")
        number = self._whole(row, "DVID", 0)
        if not 1 <= number <= (len(outputs) if self.model is not None else 1_000_000):
            self.fail(row, "DVID", "no such output", f"a number from 1 to {len(outputs)}, or a name")
        return number - 1

    # meaning --------------------------------------------------------------------------------------------------------

    def _observed(self, subject: _Subject) -> list[tuple[_Row, bool]]:
        """(line, whether it follows a dose at the same time)."""
        found: list[tuple[_Row, bool]] = []
        dosed = -1.0
        for row in subject.rows:
            time, event = self._number(row, "TIME"), self._event(row)
            if event not in (0, 2):
                if found and found[-1][1] and self._number(found[-1][0], "TIME") == time:
                    remedy = "put the observation before or after all of them, or at another time"
                    self.fail(row, "TIME", "stands after an observation that follows a record of the same time", remedy)
                dosed = time
                continue
            for column in ("AMT", "RATE", "DUR", "SS", "ADDL"):
                if self._number(row, column, 0.0) != 0:
                    what = "amount" if column == "AMT" else column
                    self.fail(row, column, f"an observation has no {what}", "set EVID to 1 if it is a dose")
            if self._is_observation(row):
                self._number(row, "DV")
                found.append((row, dosed == time))
        return found

    def _doses(self, subject: _Subject) -> Schedule:
        """The subject's records other than observations, additional doses written out."""
        lines: list[_Line] = []
        for row in subject.rows:
            lines = self._acted(row, lines)
            if len(lines) > MAX_DOSES:
                self.fail(row, "ADDL", f"asks for more than {MAX_DOSES} doses", "give fewer doses")
        lines.sort(key=lambda line: line[0])
        columns = list(zip(*lines, strict=True))[:-1] if lines else [()] * len(_KINDS)
        time, amount, target, duration, interval, steady, kind, rate = (
            np.asarray(c, k) for c, k in zip(columns, _KINDS, strict=True)
        )
        return Schedule(time, amount, target, duration, interval, steady, kind, rate)

    def _acted(self, row: _Row, lines: list[_Line]) -> list[_Line]:
        """The lines after one more record: a reset or SS 1 cancels the additional doses at or after it."""
        event, time = self._event(row), self._number(row, "TIME")
        if event == 0 or (event == 2 and row.cells.get("CMT", ".") in MISSING):
            return lines
        if event == 2:
            return lines + self._switched(row, time, lines)
        made = self._dose(row, event) if event in (1, 4) else [self._set(row, event)]
        if event in (3, 4) or (event == 1 and made[0][5] == 1):
            lines = [line for line in lines if not (line[-1] and line[0] >= time)]
        return lines + made

    def _set(self, row: _Row, event: int) -> _Line:
        """EVID 3, 5 and 6."""
        for column in ("RATE", "DUR", "II", "SS", "ADDL", *(("AMT",) if event == 3 else ())):
            if self._number(row, column, 0.0) != 0:
                self.fail(row, column, f"has no meaning with EVID {event}", "leave it out")
        amount = 0.0 if event == 3 else self._number(row, "AMT")
        target = 0 if event == 3 else self._state(row)
        return (self._number(row, "TIME"), amount, target, 0.0, 0.0, 0, event, 0.0, False)

    def _switched(self, row: _Row, time: float, lines: list[_Line]) -> list[_Line]:
        """EVID 2 with a compartment: off where it is negative, on again where it was off."""
        target = self._state(row)
        off = row.cells["CMT"].startswith("-")
        was_off = any(line[2] == target and line[6] == EventKind.OFF for line in lines)
        if not off and not was_off:
            return []
        return [(time, 0.0, target, 0.0, 0.0, 0, int(EventKind.OFF if off else EventKind.ON), 0.0, False)]

    def _dose(self, row: _Row, event: int) -> list[_Line]:
        time, amount = self._number(row, "TIME"), self._number(row, "AMT", 0.0)
        rate, length = self._number(row, "RATE", 0.0), self._number(row, "DUR", 0.0)
        every, steady = self._number(row, "II", 0.0), self._whole(row, "SS", 0, most=2)
        more = self._whole(row, "ADDL", 0)
        constant = steady == 1 and rate > 0 and amount == 0 and every == 0
        if not (amount > 0 or constant):
            self.fail(row, "AMT", "a dose must be > 0", "remove the line, or set EVID to 0")
        if every < 0 or length < 0:
            self.fail(row, "II" if every < 0 else "DUR", "must be >= 0", "correct the number")
        if rate < 0 and rate not in (-1.0, -2.0):
            self.fail(row, "RATE", "must be >= 0, -1 or -2", "-1: rate by the model, -2: duration by the model")
        if rate != 0 and length != 0:
            self.fail(row, "DUR", "goes not with RATE", "keep one of them")
        if ((steady and not constant) or more) and not every > 0:
            self.fail(row, "II", "is needed with SS or ADDL", "give the dosing interval in hours")
        if row.cells.get("CMT", "").startswith("-"):
            self.fail(row, "CMT", "a dose needs a compartment", "write its number or name without the minus sign")
        target = self._state(row)
        self._by_model(row, target, rate)
        duration = amount / rate if rate > 0 else length
        first = (time, amount, target, duration, every if steady else 0.0, steady, event, rate, False)
        if more > 100_000:
            self.fail(row, "ADDL", "asks for more than 100000 doses", "give fewer doses")
        later = (amount, target, duration, 0.0, 0, int(EventKind.DOSE), rate, True)
        return [first, *((time + k * every, *later) for k in range(1, more + 1))]

    def _by_model(self, row: _Row, target: int, rate: float) -> None:
        """RATE -1 and -2 need a rate and a duration in the model's `doses`."""
        if rate >= 0 or self.model is None:
            return
        name, key = list(self.model.states)[target], "rate" if rate == -1.0 else "duration"
        options = self.model.doses.get(name)
        if options is None or getattr(options, key) is None:
            self.fail(
                row, "RATE", f"the model gives doses into {name} no {key}", f"add doses: {{{name}: {{{key}: ...}}}}"
            )

    def _covariates(self, subjects: list[_Subject]) -> tuple[dict[str, Floats], dict[str, Series]]:
        constant: dict[str, Floats] = {}
        series: dict[str, Series] = {}
        apart = {self._column_of_occasions(), *NEEDED, *OPTIONAL, *(["LIMIT"] if "CENS" in self.header else [])}
        for name in (n for n in self.header if n not in apart):
            rows = [[(r, self._number(r, "TIME")) for r in s.rows if self._told(r, name, s)] for s in subjects]
            for subject, told in zip(subjects, rows, strict=True):
                if not told and self.model is not None and name in self.model.varying:
                    self.fail(subject.rows[0], name, "is missing in every line of the subject", "write its value")
            values = [[self._number(r, name) for r, _ in told] for told in rows]
            if all(len(set(v)) <= 1 for v in values):
                constant[name] = np.asarray([v[0] if v else math.nan for v in values])
            else:
                series[name] = Series.of([[t for _, t in told] for told in rows], values)
        return constant, series

    def _told(self, row: _Row, name: str, subject: _Subject) -> bool:
        """Whether a line says something of a covariate; where only some of a subject's lines leave it out, it must be
        one that may change (`between:`).
        """
        if row.cells[name] not in MISSING:
            return True
        varying = self.model is not None and name in self.model.varying
        return not varying and any(other.cells[name] not in MISSING for other in subject.rows)

    def _column_of_occasions(self) -> str:
        occasion = self.model.occasion if self.model is not None else None
        return str(occasion.column) if occasion is not None and occasion.column else ""

    def _occasions(self, subjects: list[_Subject]) -> Series | None:
        name = self._column_of_occasions()
        if not name:
            return None
        if name not in self.header:
            self.fail(None, name, "the column of the model's occasions is missing", "add it")
        times = [[self._number(r, "TIME") for r in s.rows] for s in subjects]
        return Series.of(times, [[float(self._whole(r, name, -1)) for r in s.rows] for s in subjects])


_Line = tuple[float, float, int, float, float, int, int, float, bool]
"""time, amount, target, duration, interval, steady, kind, rate, whether it is an additional dose."""
_KINDS: Final = (np.float64, np.float64, np.int32, np.float64, np.float64, np.int8, np.int8, np.float64)
