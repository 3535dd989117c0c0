"""Spontaneous reports as a table: one line names a report, a product and an event; texts are compared as written."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError

__all__ = ["Columns", "Reports", "read", "reports"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a file of reports; `strata`: any number of columns, their combinations are the strata."""

    report: str = "report_id"
    product: str = "product"
    event: str = "event"
    strata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Lines (M,) of codes into the sorted names, and the stratum (R,) of every report; a line may be there twice."""

    report: Ints
    product: Ints
    event: Ints
    stratum: Ints
    products: tuple[str, ...]
    events: tuple[str, ...]
    strata: tuple[str, ...]


def reports(
    report: Sequence[str], product: Sequence[str], event: Sequence[str], stratum: Sequence[str] | None = None
) -> Reports:
    """Code four columns of one length; without `stratum` all reports are in one.

    Errors: InputError for columns of unequal length, or a report in two strata (`line` counts from 1).

    >>> made = reports(["1", "1", "2"], ["A", "A", "B"], ["rash", "rash", "fever"])
    >>> made.products, made.events, made.product.tolist()
    (('A', 'B'), ('fever', 'rash'), [0, 0, 1])
    """
    lengths = {len(report), len(product), len(event), len(report if stratum is None else stratum)}
    if len(lengths) > 1:
        raise InputError("the columns must have one length", field="reports", value=sorted(lengths))
    codes, names = _coded(report)
    products, events = _coded(product), _coded(event)
    strata = (np.zeros(len(codes), dtype=np.int64), ("",)) if stratum is None else _coded(stratum)
    return Reports(
        report=codes, product=products[0], event=events[0], stratum=_of_reports(codes, strata[0], names, strata[1]),
        products=products[1], events=events[1], strata=strata[1],
    )  # fmt: skip


def _coded(column: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """Codes into the sorted names: the order of the lines does not matter."""
    names = tuple(sorted(set(column)))
    place = {name: k for k, name in enumerate(names)}
    return np.fromiter((place[name] for name in column), dtype=np.int64, count=len(column)), names


def _of_reports(report: Ints, stratum: Ints, names: tuple[str, ...], strata: tuple[str, ...]) -> Ints:
    found = np.zeros(len(names), dtype=np.int64)
    found[report[::-1]] = stratum[::-1]  # the first line of a report names its stratum
    wrong = np.flatnonzero(found[report] != stratum)
    if wrong.size:
        line = int(wrong[0])
        both = f"{strata[stratum[line]]} and {strata[found[report[line]]]}"
        remedy = "give all lines of a report the same stratum, or leave it empty in all of them"
        raise InputError(f"the report {names[report[line]]!r} is in two strata ({both})", field="strata",
                         line=line + 1, remedy=remedy)  # fmt: skip
    return found


def read(path: str | Path, columns: Columns | None = None) -> Reports:
    """Read a CSV file (or .csv.gz) with a header; texts are stripped of blanks at their ends, nothing else is changed.

    An empty stratum is a stratum of its own. Errors: InputError with line and column (missing column, empty cell,
    cells too many or too few, broken quotes, a report in two strata, no line at all).
    """
    path, columns = Path(path), columns or Columns()
    lines, rows = _rows(path, columns)
    try:
        table = list(zip(*rows, strict=True))
        strata = [" | ".join(cells) for cells in zip(*table[3:], strict=True)] if columns.strata else None
        return reports(table[0], table[1], table[2], strata)
    except InputError as error:  # the line of the table is a line of the file
        raise InputError(error.problem, file=path, field=error.field, remedy=error.remedy,
                         line=lines[(error.line or 1) - 1]) from None  # fmt: skip


def _rows(path: Path, columns: Columns) -> tuple[list[int], list[tuple[str, ...]]]:
    lines, rows = [], []
    try:
        with _open(path) as file:
            for line, row in _cells(file, columns, str(path)):
                lines.append(line)
                rows.append(row)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot be read ({words})", file=path, remedy="give a CSV file in UTF-8, or .csv.gz"
        ) from None
    if not rows:
        raise InputError("has no reports", file=path, remedy="write a header, then a line for each product and event")
    return lines, rows


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _cells(file: IO[str], columns: Columns, name: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    reader = csv.reader(file, strict=True)
    wanted = (columns.report, columns.product, columns.event, *columns.strata)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        places = [_place(header, column, name) for column in wanted]
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, _row(cells, places, (header, wanted), (name, reader.line_num))
    except csv.Error as error:
        problem = f"is not valid CSV: {error}"
        raise InputError(problem, file=name, line=reader.line_num, remedy="close the quotes") from None


def _place(header: list[str], column: str, name: str) -> int:
    from pkpd.ground.text import nearest

    if header.count(column) == 1:
        return header.index(column)
    problem = "the column is there twice" if column in header else "the column is missing"
    remedy = nearest(column, header) or f"name the columns; the file has {', '.join(header[:12]) or 'none'}"
    raise InputError(problem, file=name, line=1, field=column, remedy=remedy)


def _row(
    cells: list[str], places: list[int], names: tuple[list[str], tuple[str, ...]], at: tuple[str, int]
) -> tuple[str, ...]:
    header, wanted = names
    if len(cells) != len(header):
        problem = f"has {len(cells)} cells, the header {len(header)}"
        raise InputError(problem, file=at[0], line=at[1], remedy="quote cells that hold a comma")
    row = tuple(cells[place].strip() for place in places)
    if not all(row[:3]):
        field = wanted[row.index("")]
        raise InputError("is empty", file=at[0], line=at[1], field=field, remedy="fill it in, or drop the line")
    return row
