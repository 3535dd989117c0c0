"""The tables of `vtrial simulate`, read strictly: individual parameters, and NONMEM-style events with observations.

Errors name file, line, column, value and remedy. The events are handed on to the reader of `pkpd.model.records`,
line for line, so that every rule about doses is said in one place.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["Told", "events", "key", "parameters", "unused"]

Floats = NDArray[np.float64]
MAX_BYTES: Final = 200_000_000
MISSING: Final = frozenset({"", ".", "NA"})
DOSES: Final = ("RATE", "DUR", "II", "SS", "ADDL")
RESERVED: Final = ("ID", "TIME", "AMT", "EVID", "CMT", "MDV", "DV", "DVID", *DOSES)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FORMULA: Final = ("=", "+", "-", "@", "\t")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table: its number in the file and its cells."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """The records of a file; own {name: (m,)}: what the line of each observation itself says of the covariates that
    change within a subject and of the occasion, NaN where it says nothing.
    """

    file: str
    records: Records
    own: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file: its header and lines, every line as wide as the header."""

    file: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]

    def fail(self, line: Line | None, column: str | None, problem: str, remedy: str) -> NoReturn:
        """InputError at a line and column."""
        value = line.cells.get(column) if line is not None and column is not None else None
        number = line.number if line is not None else 1
        raise InputError(problem, file=self.file, line=number, field=column, value=value, remedy=remedy)

    def number(self, line: Line, column: str) -> float:
        """A finite number."""
        cell = line.cells[column]
        if cell in MISSING:
            self.fail(line, column, "is missing", "write a number")
        if not _NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
            self.fail(line, column, "must be a number", "write digits, a point, an exponent")
        return float(cell)


def key(name: str) -> str:
    """An ID as it is compared: `1`, `1.0` and `01` are the same subject.

    >>> key("1.0") == key("01"), key("A-1")
    (True, 'A-1')
    """
    return repr(float(name)) if _NUMBER.fullmatch(name) else name


def parameters(path: Path, model: Model) -> dict[str, dict[int | None, tuple[float, ...]]]:
    """ID (as `key`) -> occasion -> individual parameters in the order of the model; a column for each and no other.

    One line an ID, its occasion None, or with the column of the model's occasions one line an ID and occasion.
    """
    table = _table(path)
    names = tuple(model.parameters)
    column = None if model.occasion is None else model.occasion.column or "OCC"
    column = column if column in table.header else None
    _columns(table, ("ID", *names), column)
    found: dict[str, dict[int | None, tuple[float, ...]]] = {}
    lines: dict[tuple[str, int | None], int] = {}
    for line in table.lines:
        who = key(_identity(table, line))
        occasion = None if column is None else _occasion(table, line, column)
        if (who, occasion) in lines:
            again = f"has parameters already (line {lines[who, occasion]})"
            table.fail(line, "ID", again, "keep one line an ID" + (f" and {column}" if column else ""))
        lines[who, occasion] = line.number
        found.setdefault(who, {})[occasion] = tuple(table.number(line, p) for p in names)
    return found


def _occasion(table: Table, line: Line, column: str) -> int:
    value = table.number(line, column)
    if value != int(value) or value < 0:
        table.fail(line, column, "must be a whole number >= 0", "number the occasions as the events do")
    return int(value)


def _columns(table: Table, needed: Sequence[str], extra: str | None) -> None:
    known = (*needed, extra) if extra is not None else tuple(needed)
    for name in known:
        if name not in table.header:
            table.fail(None, name, "the column is missing", nearest(name, table.header) or "add it")
    for name in table.header:
        if name not in known:
            table.fail(None, name, "the model has no such parameter", nearest(name, known) or "remove the column")


def events(path: Path, model: Model) -> Told:
    """Doses and observations of a NONMEM-style file.

    Columns ID and TIME; AMT, EVID (without it a line with AMT > 0 is a dose), CMT by number or state's name, RATE, DUR,
    II, SS, ADDL as in NONMEM; any other column is a covariate. Every line with EVID 0 is an observation, whatever its
    DV, MDV, DVID and CMT, which are not looked at: all outputs are given for it.
    """
    from pkpd.model.records import Records

    table = _table(path)
    for name in table.header:
        if name not in RESERVED and name.upper() in RESERVED:
            table.fail(None, name, "must be in capitals", f"rename it to {name.upper()}")
    for name in ("ID", "TIME"):
        if name not in table.header:
            table.fail(None, name, "the column is missing", f"add a column {name}")
    records = Records.parse(_rewritten(table, model), table.file, model)
    return Told(table.file, records, _own(table, model, records))


def _own(table: Table, model: Model, records: Records) -> dict[str, Floats]:
    """What each observation's line says of what changes; lines with EVID 0 are the observations, in order."""
    column = str(model.occasion.column) if records.occasion is not None and model.occasion is not None else None
    names = [*records.series, *([column] if column is not None else [])]
    seen = [line for line in table.lines if float(_kind(table, line)) == 0.0]
    found = {
        name: [np.nan if line.cells[name] in MISSING else float(line.cells[name]) for line in seen] for name in names
    }
    return {name: np.asarray(values) for name, values in found.items()}


def _rewritten(table: Table, model: Model) -> str:
    """The same table as a data file for a fit: names of compartments as numbers, a stand-in for what was measured."""
    given = [name for name in DOSES if name in table.header]
    covariates = [name for name in table.header if name not in RESERVED]
    header = ["ID", "TIME", "AMT", "DV", "EVID", "CMT", "DVID", *given, *covariates]
    lines = [""] * (max(line.number for line in table.lines))
    lines[0] = ",".join(header)
    for count, line in enumerate(table.lines):
        _identity(table, line)
        kind = _kind(table, line)
        seen = kind == "0"
        stand_in = {
            "DV": str(count) if seen else ".",  # the observation's own number: no two lines are the same
            "EVID": kind,
            "CMT": "." if seen else _compartment(table, line, model),
            "DVID": "1" if seen else ".",
        }
        lines[line.number - 1] = _csv_line([stand_in.get(name, line.cells.get(name, ".")) for name in header])
    return "\n".join(lines)


def _kind(table: Table, line: Line) -> str:
    """EVID; without that column, 1 for a line with an amount."""
    if "EVID" in table.header:
        return line.cells["EVID"]
    return "1" if line.cells.get("AMT", ".") not in MISSING and table.number(line, "AMT") != 0 else "0"


def _compartment(table: Table, line: Line, model: Model) -> str:
    """CMT as a number: what is not a number is the name of a state. Without CMT: the only state that takes doses."""
    cell = line.cells.get("CMT", ".")
    states = list(model.states)
    if cell in states:
        return str(states.index(cell) + 1)
    if cell in MISSING and len(model.doses) == 1:
        return str(states.index(next(iter(model.doses))) + 1)
    if cell not in MISSING and not _NUMBER.fullmatch(cell):
        table.fail(line, "CMT", "no such compartment", nearest(cell, states) or f"one of {', '.join(states)}")
    return cell


def _identity(table: Table, line: Line) -> str:
    name = line.cells["ID"]
    if name in MISSING:
        table.fail(line, "ID", "is missing", "write the subject's number or name")
    if name.startswith(_FORMULA) and not _NUMBER.fullmatch(name):
        table.fail(line, "ID", "would be a formula to a spreadsheet", "begin it with a letter or digit")
    return name


def _table(path: Path) -> Table:
    source = text.read_text(path, MAX_BYTES)
    file = str(path)
    reader = csv.reader(io.StringIO(source), strict=True)
    header: tuple[str, ...] = ()
    lines: list[Line] = []
    try:
        for cells in reader:
            trimmed = [cell.strip() for cell in cells]
            if not any(trimmed):
                continue
            if not header:
                header = _header(file, reader.line_num, trimmed)
            else:
                lines.append(_line(file, reader.line_num, header, trimmed))
    except csv.Error as error:
        problem = f"is not valid CSV: {error}"
        raise InputError(problem, file=file, line=reader.line_num, remedy="close the quotes") from None
    if not lines:
        raise InputError("has no data", file=file, line=1, remedy="write a header, then a line for each record")
    return Table(file, header, tuple(lines))


def _header(file: str, line: int, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise InputError("is not a column name", file=file, line=line, value=name, remedy="name every column")
        if names.count(name) > 1:
            raise InputError("the column is there twice", file=file, line=line, field=name, remedy="keep one")
    if "ID" not in names:
        remedy = nearest("ID", names) or "add a column ID"
        raise InputError("the column is missing", file=file, line=line, field="ID", remedy=remedy)
    return tuple(names)


def _line(file: str, number: int, header: Sequence[str], cells: Sequence[str]) -> Line:
    if len(cells) != len(header):
        problem = f"the line has {len(cells)} cells, the header {len(header)}"
        raise InputError(problem, file=file, line=number, remedy="check the commas")
    if any("\n" in cell for cell in cells):
        raise InputError("a cell has a line break in it", file=file, line=number, remedy="close the quotes")
    return Line(number, dict(zip(header, cells, strict=True)))


def _csv_line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(list(cells))
    return out.getvalue()


def unused(people: Mapping[str, object], ids: Iterable[str]) -> list[str]:
    """IDs with parameters and no events."""
    asked = {key(name) for name in ids}
    return [name for name in people if name not in asked]
