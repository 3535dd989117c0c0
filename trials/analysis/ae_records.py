"""Adverse events of one trial as tables: one line a subject, one line an event; CSV files with ADaM-like columns.

A subject file (ADSL) has every subject who was treated, events or not; an event file (ADAE) has the events. Texts are
compared as written. Day 1 is the first day of treatment.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.analysis.signals_reports import _open, _place

__all__ = ["AdverseEvents", "Columns", "adverse_events", "read"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
SEVERITY: Final = {
    "MILD": 1, "MODERATE": 2, "SEVERE": 3, "LIFE THREATENING": 4, "LIFE-THREATENING": 4, "FATAL": 5, "DEATH": 5,
    "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "": 0,
}  # fmt: skip
_SERIOUS: Final = {"Y": True, "YES": True, "1": True, "N": False, "NO": False, "0": False, "": False}
_RELATED: Final = {"Y", "YES", "RELATED", "POSSIBLE", "PROBABLE", "DEFINITE", "POSSIBLY RELATED", "PROBABLY RELATED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns. Of those marked *if there*, a file without them is read all the same."""

    subject: str = "USUBJID"
    arm: str = "TRT01A"  # of the subject file
    duration: str = "TRTDURD"  # days of treatment (or follow-up), of the subject file
    safety: str = "SAFFL"  # if there: subjects with Y count
    soc: str = "AEBODSYS"
    term: str = "AEDECOD"
    day: str = "ASTDY"  # if there
    grade: tuple[str, ...] = ("AETOXGR", "ATOXGR", "AESEV")  # the first that is there
    serious: str = "AESER"  # if there
    related: tuple[str, ...] = ("AREL", "AEREL")  # the first that is there
    emergent: str = "TRTEMFL"  # if there: events with Y count; if not, events from day 1 on


@dataclass(frozen=True, slots=True, kw_only=True)
class AdverseEvents:
    """Subjects: `arm` (N,) codes into `arms` (0 is control), `days` (N,) of exposure. Events (M,): `subject` index,
    `soc` and `term` codes into sorted names, `day` (NaN unknown), `grade` 1 to 5 (0 unknown), `serious`, `related`.

    soc_of: the SOC of each term. left_out: how many lines were not used, by reason.
    """

    arms: tuple[str, ...]
    arm: Ints
    days: Floats
    subject: Ints
    soc: Ints
    term: Ints
    socs: tuple[str, ...]
    terms: tuple[str, ...]
    soc_of: Ints
    day: Floats
    grade: Ints
    serious: Flags
    related: Flags
    left_out: Mapping[str, int] = field(default_factory=dict)


def adverse_events(
    subjects: Mapping[str, Sequence[Any]], events: Mapping[str, Sequence[Any]], *, control: str | None = None
) -> AdverseEvents:
    """Build from columns: subjects `subject, arm, days`; events `subject, soc, term` and, if there, `day, grade,
    serious, related`. control: the arm compared with; by default the one that is named placebo or control.

    Errors: InputError for a subject listed twice, an event of an unknown subject, a term in two SOCs, no control.

    >>> made = adverse_events({"subject": ["a", "b"], "arm": ["drug", "placebo"], "days": [10.0, 10.0]},
    ...                       {"subject": ["a"], "soc": ["Skin"], "term": ["Rash"]})
    >>> made.arms, made.arm.tolist(), made.terms
    (('placebo', 'drug'), [1, 0], ('Rash',))
    """
    names = [str(name) for name in subjects["subject"]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("is listed twice", field="subject", value=twice, remedy="one line a subject")
    arms = _arms([str(arm) for arm in subjects["arm"]], control)
    place = {name: k for k, name in enumerate(names)}
    who = [str(name) for name in events["subject"]]
    lost = next((name for name in who if name not in place), None)
    if lost is not None:
        raise InputError("has events, but is not among the subjects", field="subject", value=lost)
    socs, soc = _coded([str(x) for x in events["soc"]])
    terms, term = _coded([str(x) for x in events["term"]])
    return AdverseEvents(
        arms=arms, arm=_ints(arms.index(str(arm)) for arm in subjects["arm"]),
        days=_floats(subjects["days"], len(names)), subject=_ints(place[name] for name in who),
        soc=soc, term=term, socs=socs, terms=terms, soc_of=_soc_of(soc, term, socs, terms),
        day=_floats(events.get("day"), len(who)), grade=_whole(events.get("grade"), len(who)),
        serious=_whole(events.get("serious"), len(who)) > 0, related=_whole(events.get("related"), len(who)) > 0,
    )  # fmt: skip


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _floats(values: Sequence[Any] | None, size: int) -> Floats:
    return np.full(size, np.nan) if values is None else np.array(values, dtype=np.float64)


def _whole(values: Sequence[Any] | None, size: int) -> Ints:
    return np.zeros(size, np.int64) if values is None else np.array(values, dtype=np.int64)


def _coded(column: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    names = tuple(sorted(set(column)))
    place = {name: k for k, name in enumerate(names)}
    return names, np.array([place[name] for name in column], dtype=np.int64)


def _arms(column: Sequence[str], control: str | None) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(column))
    if control is None:
        likely = [arm for arm in found if any(word in arm.casefold() for word in ("placebo", "control"))]
        if len(likely) != 1:
            raise InputError("cannot tell which arm is the control", field="control", value=", ".join(found),
                             remedy="name it")  # fmt: skip
        control = likely[0]
    if control not in found:
        from pkpd.ground.text import nearest

        remedy = nearest(control, found) or f"one of {', '.join(found)}"
        raise InputError("is no arm", field="control", value=control, remedy=remedy)
    return control, *(arm for arm in found if arm != control)


def _soc_of(soc: Ints, term: Ints, socs: tuple[str, ...], terms: tuple[str, ...]) -> Ints:
    found = np.zeros(len(terms), np.int64)
    found[term[::-1]] = soc[::-1]
    wrong = np.flatnonzero(found[term] != soc)
    if wrong.size:
        at = int(wrong[0])
        raise InputError(f"is in two body systems ({socs[found[term[at]]]} and {socs[soc[at]]})", field="term",
                         value=terms[term[at]], remedy="code each term to its primary SOC")  # fmt: skip
    return found


def read(
    events: str | Path, subjects: str | Path, *, columns: Columns | None = None, control: str | None = None
) -> AdverseEvents:
    """Read an event file and a subject file; treatment-emergent events of the safety population are kept.

    Errors: InputError with file, line and column.
    """
    columns = columns or Columns()
    people = _people(Path(subjects), columns)
    happened, left_out = _happened(Path(events), columns, set(people["subject"]))
    made = adverse_events(people, happened, control=control)
    from dataclasses import replace

    return replace(made, left_out={k: v for k, v in left_out.items() if v})


def _people(path: Path, columns: Columns) -> dict[str, list[Any]]:
    needed = (columns.subject, columns.arm, columns.duration)
    out: dict[str, list[Any]] = {"subject": [], "arm": [], "days": []}
    for line, row in _lines(path, needed):
        if row.get(columns.safety, "Y") != "Y":
            continue
        name, arm, days = (row[c] for c in needed)
        if not (name and arm):
            raise InputError("is empty", file=path, line=line, field=columns.subject if arm else columns.arm)
        number = _number(days, path, line, columns.duration)
        if not number > 0:
            raise InputError("must be days of treatment or follow-up, above 0", file=path, line=line,
                             field=columns.duration, value=days or "nothing")  # fmt: skip
        for key, value in (("subject", name), ("arm", arm), ("days", number)):
            out[key].append(value)
    if not out["subject"]:
        raise InputError("has no subject of the safety population", file=path)
    return out


def _happened(path: Path, columns: Columns, known: set[str]) -> tuple[dict[str, list[Any]], dict[str, int]]:
    needed = (columns.subject, columns.soc, columns.term)
    out: dict[str, list[Any]] = {k: [] for k in ("subject", "soc", "term", "day", "grade", "serious", "related")}
    left_out = {"not treatment-emergent": 0, "subject not in the safety population": 0}
    for line, row in _lines(path, needed):
        day = _number(row.get(columns.day, ""), path, line, columns.day)
        if not (row[columns.emergent] == "Y" if columns.emergent in row else not day < 1):
            left_out["not treatment-emergent"] += 1
            continue
        if row[columns.subject] not in known:
            left_out["subject not in the safety population"] += 1
            continue
        if not all(row[c] for c in needed):
            raise InputError("is empty", file=path, line=line, field=next(c for c in needed if not row[c]))
        grade = _first(row, columns.grade).upper()
        if grade not in SEVERITY:
            raise InputError("is no grade", file=path, line=line, field=" or ".join(columns.grade), value=grade,
                             remedy="1 to 5, MILD, MODERATE, SEVERE, LIFE THREATENING, FATAL")  # fmt: skip
        serious = row.get(columns.serious, "").upper()
        if serious not in _SERIOUS:
            raise InputError("must be Y or N", file=path, line=line, field=columns.serious, value=serious)
        cells = (row[columns.subject], row[columns.soc], row[columns.term], day, SEVERITY[grade],
                 _SERIOUS[serious], _first(row, columns.related).upper() in _RELATED)  # fmt: skip
        for key, value in zip(out, cells, strict=True):
            out[key].append(value)
    return out, left_out


def _first(row: Mapping[str, str], names: Sequence[str]) -> str:
    return next((row[name] for name in names if name in row), "")


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError:
        raise InputError("is no number", file=path, line=line, field=column, value=text) from None


def _lines(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    try:
        with _open(path) as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            for column in needed:
                _place(header, column, str(path))
            return [(reader.line_num, _cells(header, row, path, reader.line_num)) for row in reader if any(row)]
    except csv.Error as error:
        raise InputError(
            f"is not valid CSV: {error}", file=path, line=reader.line_num, remedy="close the quotes"
        ) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot be read ({words})", file=path, remedy="give a CSV file in UTF-8, or .csv.gz"
        ) from None


def _cells(header: list[str], row: list[str], path: Path, line: int) -> dict[str, str]:
    if len(row) != len(header):
        problem = f"has {len(row)} cells, the header {len(header)}"
        raise InputError(problem, file=path, line=line, remedy="quote cells that hold a comma")
    return {name: cell.strip() for name, cell in zip(header, row, strict=True)}
