"""Laboratory values to grades of the NCI's Common Terminology Criteria for Adverse Events (CTCAE), by version.

Table: trials/data/ctcae.csv, written from CTCAE v5.0 (NCI, 27 November 2017) and, for what v5.0 no longer grades by
number, v4.03 (NCI, 14 June 2010); both are in the public domain. A row holds the bounds of four grades in one unit for
a normal, an abnormal or any baseline: `>3xULN`, `>=1.5xBASE`, `<0.5`, `>BASE+60`, alternatives joined by `or`.

Only what a number decides is graded: symptoms, transfusions and death are not (the row's note says so), so a grade is
the least that the value implies. A value equal to a bound is in the grade that the text gives it; bounds that are
multiples are compared with a relative slack of 1e-9, so that 1.8 is not above 1.5 x 1.2.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["UNKNOWN", "Bound", "Criterion", "bound", "criteria", "grade", "lab_terms", "limit_of"]

Floats = NDArray[np.float64]
Grades = NDArray[np.int8]
UNKNOWN: Final = -1  # not gradable: the value, a limit of normal or the baseline is missing
_TABLE: Final = Path(__file__).resolve().parents[1] / "data" / "ctcae.csv"
_SLACK: Final = 1e-9
_PART: Final = re.compile(r"([<>]=?)(?:([\d.]+)x)?(?:(ULN|LLN|BASE)(?:\+([\d.]+))?|([\d.]+))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """value (operator) factor * limit + plus; `limit` is ULN, LLN, BASE or empty (then `plus` alone)."""

    operator: str
    factor: float
    limit: str
    plus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One row of the table. unit "x": any unit, the limits of normal carry it; baseline normal, abnormal or any.

    grades: the alternatives of grades 1 to 4, empty where no number gives the grade.
    """

    version: str
    term: str
    also: tuple[str, ...]
    soc: str
    unit: str
    direction: str
    baseline: str
    grades: tuple[tuple[Bound, ...], ...]
    note: str


def grade(
    term: str, value: ArrayLike, *, lln: ArrayLike = np.nan, uln: ArrayLike = np.nan, baseline: ArrayLike = np.nan,
    unit: str | None = None, version: str = "5.0",
) -> Grades:  # fmt: skip
    """Grade 0 to 4 of each value, or UNKNOWN (-1) where what is missing could change it; arguments broadcast.

    lln, uln: limits of normal; baseline: the subject's value before treatment (abnormal: beyond the limit of the
    term's direction), all in `unit`, by default the first of the table. Errors: InputError for an unknown term, unit
    or version, and for limits in the wrong order.

    >>> grade("ALT", [40.0, 41.0, 121.0], uln=40.0, baseline=20.0).tolist()
    [0, 1, 2]
    >>> grade("ALT", [79.0, 80.0, 121.0, 161.0], uln=40.0, baseline=[53.0]).tolist()
    [0, 1, 1, 2]
    >>> grade("Neutrophil count decreased", [1.5, 0.49, float("nan")], lln=2.0).tolist()
    [1, 4, -1]
    """
    rows = _rows(term, version, unit)
    shaped = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (value, lln, uln, baseline)))
    x = dict(zip(("VALUE", "LLN", "ULN", "BASE"), shaped, strict=True))
    if (x["LLN"] > x["ULN"]).any():
        raise InputError("lies above the upper limit of normal", field="lln", value=float(np.nanmax(x["LLN"])))
    if rows[0].baseline == "any":
        return _graded(rows[0], x)
    return _by_baseline({row.baseline: row for row in rows}, x)


def _by_baseline(rows: Mapping[str, Criterion], x: Mapping[str, Floats]) -> Grades:
    """The row of each subject's baseline; without one, a value inside its limit is grade 0, others are unknown."""
    high = rows["normal"].direction == "high"
    limit = x["ULN"] if high else x["LLN"]
    abnormal = x["BASE"] > limit if high else x["BASE"] < limit
    found = np.where(abnormal, _graded(rows["abnormal"], x), _graded(rows["normal"], x))
    inside = x["VALUE"] <= limit if high else x["VALUE"] >= limit
    found = np.where(np.isnan(x["BASE"]), np.where(inside, 0, UNKNOWN), found)
    return np.where(np.isnan(limit), UNKNOWN, found).astype(np.int8)


def _graded(row: Criterion, x: Mapping[str, Floats]) -> Grades:
    """The highest grade that is met; UNKNOWN where a higher one cannot be ruled out."""
    least, most = (np.zeros(x["VALUE"].shape, np.int8) for _ in range(2))
    for level, bounds in enumerate(row.grades, start=1):
        for bound in bounds:
            edge = bound.factor * x[bound.limit] + bound.plus if bound.limit else np.full_like(x["VALUE"], bound.plus)
            least[_beyond(bound.operator, x["VALUE"], edge)] = level
            most[np.isnan(edge)] = level
    found = np.where(most > least, UNKNOWN, least)
    return np.where(np.isnan(x["VALUE"]), UNKNOWN, found).astype(np.int8)


def _beyond(operator: str, value: Floats, edge: Floats) -> NDArray[np.bool_]:
    slack = _SLACK * np.abs(edge)
    found: NDArray[np.bool_] = {
        ">": value > edge + slack, ">=": value >= edge - slack, "<": value < edge - slack, "<=": value <= edge + slack,
    }[operator]  # fmt: skip
    return found


def bound(
    term: str, level: int, *, lln: ArrayLike = np.nan, uln: ArrayLike = np.nan, baseline: ArrayLike = np.nan,
    unit: str | None = None, version: str = "5.0",
) -> Floats:  # fmt: skip
    """The value beyond which a grade of `level` or more begins, NaN where no number or nothing known gives it.

    >>> bound("ALT", 3, uln=40.0, baseline=[20.0, 60.0]).tolist()
    [200.0, 300.0]
    """
    rows = {row.baseline: row for row in _rows(term, version, unit)}
    shaped = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (lln, uln, baseline)))
    x = dict(zip(("LLN", "ULN", "BASE"), shaped, strict=True))
    if "any" in rows:
        return _edge(rows["any"], level, x)
    abnormal = x["BASE"] > x["ULN"] if rows["normal"].direction == "high" else x["BASE"] < x["LLN"]
    found = np.where(abnormal, _edge(rows["abnormal"], level, x), _edge(rows["normal"], level, x))
    return np.where(np.isnan(x["BASE"]), np.nan, found)


def _edge(row: Criterion, level: int, x: Mapping[str, Floats]) -> Floats:
    """Of alternatives, and of worse grades, that which is reached first."""
    parts = [part for bounds in row.grades[level - 1 :] for part in bounds]
    edges = [np.broadcast_to(p.factor * x[p.limit] + p.plus if p.limit else p.plus, x["BASE"].shape) for p in parts]
    if not row.grades[level - 1]:
        return np.full(x["BASE"].shape, np.nan)
    return np.asarray(np.fmax.reduce(edges) if row.direction == "low" else np.fmin.reduce(edges))


def limit_of(term: str, *, unit: str | None = None, version: str = "5.0") -> tuple[str, ...]:
    """Which of LLN, ULN and BASE the grades of a term hang on.

    >>> limit_of("Creatinine increased")
    ('ULN', 'BASE')
    """
    rows = _rows(term, version, unit)
    used = {part.limit for row in rows for bounds in row.grades for part in bounds}
    used |= {"ULN" if row.direction == "high" else "LLN" for row in rows if row.baseline != "any"}
    return tuple(name for name in ("LLN", "ULN", "BASE") if name in used)


def criteria(term: str, *, version: str = "5.0", unit: str | None = None) -> tuple[Criterion, ...]:
    """The rows of a term in one unit: for any baseline, or for a normal and an abnormal one. Errors: InputError."""
    return _rows(term, version, unit)


def lab_terms(version: str = "5.0") -> tuple[Criterion, ...]:
    """All rows of a version, in the order of the table.

    >>> sorted({row.term for row in lab_terms("4.03")})[-1]
    'Hyperglycemia'
    """
    found = tuple(row for row in _table() if row.version == version)
    if not found:
        known = ", ".join(sorted({row.version for row in _table()}))
        raise InputError("is not in the table", field="version", value=version, remedy=f"one of {known}")
    return found


def _rows(term: str, version: str, unit: str | None) -> tuple[Criterion, ...]:
    named = [row for row in lab_terms(version) if term.casefold() in _names(row)]
    if not named:
        raise _unknown(term, version)
    units = tuple(dict.fromkeys(row.unit for row in named))
    wanted = units[0] if unit is None or units == ("x",) else unit
    if wanted not in units:
        raise InputError(
            f"is no unit of {named[0].term}", field="unit", value=unit, remedy="one of " + ", ".join(units)
        )
    return tuple(row for row in named if row.unit == wanted)


def _names(row: Criterion) -> set[str]:
    return {name.casefold() for name in (row.term, *row.also)}


def _unknown(term: str, version: str) -> InputError:
    from pkpd.ground.text import nearest

    elsewhere = sorted({row.version for row in _table() if term.casefold() in _names(row)})
    if elsewhere:
        remedy = f"v{version} does not grade it by number; ask for version {elsewhere[0]}, and label it so"
    else:
        names = [name for row in lab_terms(version) for name in (row.term, *row.also)]
        remedy = nearest(term, names) or "grading.lab_terms() lists them"
    return InputError(f"has no numeric criteria in CTCAE v{version}", field="term", value=term, remedy=remedy)


@lru_cache(maxsize=1)
def _table() -> tuple[Criterion, ...]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(_criterion(row) for row in csv.DictReader(file))


def _criterion(row: Mapping[str, str]) -> Criterion:
    return Criterion(
        version=row["version"], term=row["term"], also=tuple(filter(None, row["also"].split("|"))), soc=row["soc"],
        unit=row["unit"], direction=row["direction"], baseline=row["baseline"], note=row["note"],
        grades=tuple(_bounds(row[f"grade_{k}"]) for k in (1, 2, 3, 4)),
    )  # fmt: skip


def _bounds(text: str) -> tuple[Bound, ...]:
    return tuple(_bound(part) for part in text.split(" or ")) if text else ()


def _bound(text: str) -> Bound:
    found = _PART.fullmatch(text)
    if found is None:
        raise ValueError(f"ctcae.csv: cannot read the bound {text!r}")
    operator, factor, limit, plus, number = found.groups()
    return Bound(operator=operator, factor=float(factor or 1.0), limit=limit or "", plus=float(number or plus or 0.0))
