"""What is odd in the data of a study, named with line and remedy before anything is fitted to it.

Against the model at its typical values: a unit off by a power of ten, values below zero, levels before any dose. What
makes the fit wrong stops it; what only deserves a look is said. Repeated lines and subjects without an observation are
refused by `Records` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.model.dimensions import units_of
from pkpd.model.variability import individual

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["Finding", "require_sane", "screened", "typical_predictions"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
STUDY, SUBJECT, STANDING = 2.0, 1.5, 3
"""Decades a study, or one subject against the others, may lie off; values a subject needs to be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One oddity: subject, time [h], line of its record (0: none), what is wrong, the remedy, whether it stops a fit.

    `str` is one sentence.
    """

    subject: str
    time: float
    line: int
    field: str
    value: float
    problem: str
    remedy: str
    stops: bool

    def __str__(self) -> str:
        line = f"line {self.line}, " if self.line else ""
        where = f"{line}subject {self.subject} at {self.time:g} h"
        return f"{where}: {self.field} {self.value:g} {self.problem}. Remedy: {self.remedy}"


def require_sane(model: Model, records: Records, predicted: Floats | None = None) -> tuple[Finding, ...]:
    """What deserves a look. Errors: InputError for the first finding that makes a fit wrong, saying how many there are.

    predicted: `typical_predictions` where they are known already.

    >>> from pkpd.model.library import data_path, load
    >>> from pkpd.model.records import Records
    >>> model = load("theophylline")
    >>> [f.problem for f in require_sane(model, Records.read(data_path("theophylline.csv"), model))][0]
    'is there before any dose can have an effect, where the model has nothing'
    """
    found = screened(model, records, predicted)
    stops = [f for f in found if f.stops]
    if stops:
        first, more = stops[0], f" ({len(stops)} such records)" if len(stops) > 1 else ""
        problem = f"subject {first.subject} at {first.time:g} h: {first.problem}{more}"
        raise InputError(problem, line=first.line or None, field=first.field, value=first.value, remedy=first.remedy)
    return tuple(found)


def screened(model: Model, records: Records, predicted: Floats | None = None) -> list[Finding]:
    """Every finding, those that stop a fit first; predicted as `require_sane` takes it."""
    known = typical_predictions(model, records) if predicted is None else predicted
    checks = (_negative, _study_off, _subject_off, _early, _repeated, _late_doses)
    found = [f for check in checks for f in check(model, records, known)]
    return sorted(found, key=lambda f: not f.stops)


def typical_predictions(model: Model, records: Records) -> Floats:
    """The model at its typical values and the subjects' covariates at every observation (m,); NaN where it has none.

    Covariates that change are taken at the subject's first record, those that are missing as the others' middle value.
    """
    made, n = compiled(model), len(records)
    found = np.full(len(records.dv), np.nan)
    known = {name: series.value[series.offsets[:-1]] for name, series in records.series.items()}
    known |= {name: _whole(np.asarray(x, np.float64)) for name, x in records.covariates.items()}
    q = len(model.eta_names)
    values = {name: x[None, :] for name, x in known.items()}
    typical = np.array([[float(p.value) for p in model.parameters.values()]])
    theta = individual(model, typical, np.zeros((1, q, q)), values, z=np.zeros((1, n, q)))[0]
    times, column = _grid(records)
    place = np.array([_place(made.outputs, output.is_) for output in model.outputs.values()])[records.output]
    inputs = {name: known[name] for name in made.inputs if name in known}
    for after in np.unique(records.after):
        solution = solve(made, theta, records.doses, times, covariates=inputs, after=bool(after))
        rows = np.flatnonzero((records.after == after) & (place >= 0))
        found[rows] = solution.values[records.subject[rows], place[rows], column[rows]]
    return found


def _whole(values: Floats) -> Floats:
    """With the middle one of the known values, which is a value there is, for those that are missing."""
    known = np.sort(values[~np.isnan(values)])
    return np.where(np.isnan(values), known[len(known) // 2], values) if len(known) else np.ones(len(values))


def _place(outputs: tuple[str, ...], wanted: str | None) -> int:
    return outputs.index(wanted) if wanted in outputs else -1


def _grid(records: Records) -> tuple[Floats, NDArray[np.int64]]:
    """Times (n, most rows), NaN last, and each observation's column."""
    subject = records.subject
    count = np.bincount(subject, minlength=len(records))
    column = np.arange(len(subject)) - np.concatenate([[0], np.cumsum(count)[:-1]])[subject]
    times = np.full((len(records), int(count.max())), np.nan)
    times[subject, column] = records.time
    return times, column


def _made(records: Records, row: int, words: tuple[str, str], *, stops: bool) -> Finding:
    return Finding(
        subject=records.ids[int(records.subject[row])], time=float(records.time[row]), line=int(records.line[row]),
        field="DV", value=float(records.dv[row]), problem=words[0], remedy=words[1], stops=stops,
    )  # fmt: skip


def _by_output(model: Model, records: Records) -> Iterator[tuple[str, Flags]]:
    for k, name in enumerate(model.outputs):
        rows = records.output == k
        if rows.any():
            yield name, rows


def _negative(model: Model, records: Records, predicted: Floats) -> Iterator[Finding]:
    """Values below zero of an output that never is, unless they are a limit of quantification."""
    for name, rows in _by_output(model, records):
        if (predicted[rows] < 0.0).any() or not np.isfinite(predicted[rows]).any():
            continue
        words = f"is below zero, which {name} never is", "where it was not quantifiable write the limit and CENS 1"
        for row in np.flatnonzero(rows & (records.dv < 0.0)):
            yield _made(records, int(row), words, stops=True)


def _decades(records: Records, rows: Flags, predicted: Floats) -> Floats:
    """log10(observed / predicted), NaN where either says nothing (a prediction under 1 % of the largest)."""
    top = np.nanmax(np.where(rows & np.isfinite(predicted), np.abs(predicted), 0.0))
    use = rows & (records.dv > 0.0) & (predicted > 0.01 * top) & ~records.below & ~records.over
    found = np.full(len(rows), np.nan)
    found[use] = np.log10(records.dv[use] / predicted[use])
    return found


def _study_off(model: Model, records: Records, predicted: Floats) -> Iterator[Finding]:
    for name, rows in _by_output(model, records):
        off = _decades(records, rows, predicted)
        if np.isfinite(off).sum() < STANDING:
            continue
        middle = float(np.nanmedian(off))
        if abs(middle) > STUDY:
            yield _made(records, _typical_row(off, middle), _unit_words(model, name, middle, "the study's"), stops=True)


def _subject_off(model: Model, records: Records, predicted: Floats) -> Iterator[Finding]:
    """One subject whose values lie decades away from where the others' do."""
    for name, rows in _by_output(model, records):
        off = _decades(records, rows, predicted)
        mine = {s: off[(records.subject == s) & np.isfinite(off)] for s in np.unique(records.subject[rows])}
        middles = {s: float(np.median(x)) for s, x in mine.items() if len(x) >= STANDING}
        if len(middles) < STANDING:
            continue
        usual = float(np.median(list(middles.values())))
        for s, middle in middles.items():
            if abs(middle - usual) > SUBJECT:
                own = np.where(records.subject == s, off, np.nan)
                words = _unit_words(model, name, middle - usual, "the subject's")
                yield _made(records, _typical_row(own, middle), words, stops=True)


def _typical_row(off: Floats, middle: float) -> int:
    return int(np.nanargmin(np.abs(off - middle)))


def _unit_words(model: Model, name: str, decades: float, whose: str) -> tuple[str, str]:
    size = f"{10.0 ** round(abs(decades)):g} times " + ("above" if decades > 0.0 else "below")
    unit = units_of(model).get(str(model.outputs[name].is_), "the model's unit")
    problem = f"is typical of {whose} values of {name}, about {size} what the model says: a wrong unit"
    return problem, f"write DV in {unit} and AMT in the unit of the dose, or correct the model's typical values"


def _early(model: Model, records: Records, predicted: Floats) -> Iterator[Finding]:
    """Positive values where the model has nothing at all: before the first dose, or as it is given."""
    words = (
        "is there before any dose can have an effect, where the model has nothing",
        "add the earlier doses (SS 1 where the subject was on treatment), or set MDV to 1",
    )
    for row in np.flatnonzero((records.dv > 0.0) & (predicted == 0.0) & ~records.below):
        yield _made(records, int(row), words, stops=False)


def _repeated(model: Model, records: Records, predicted: Floats) -> Iterator[Finding]:
    """A second value of an output at the same time, dose for dose."""
    seen: dict[tuple[int, float, int, bool], int] = {}
    keys = zip(records.subject, records.time, records.output, records.after, strict=True)
    for row, key in enumerate(keys):
        if key in seen:
            again = f"is a second value of one time (the first is {records.dv[seen[key]]:g})"
            same = records.dv[row] == records.dv[seen[key]]
            yield _made(records, row, (again, "keep one, unless the sample was measured twice"), stops=bool(same))
        seen.setdefault(key, row)


def _late_doses(model: Model, records: Records, predicted: Floats) -> Iterator[Finding]:
    """Subjects with doses that no observation follows."""
    last = np.full(len(records), -np.inf)
    np.maximum.at(last, records.subject, records.time)
    owner = np.repeat(np.arange(len(records)), np.diff(records.doses.offsets))
    late = records.doses.time > last[owner]
    for s in np.unique(owner[late]):
        mine = np.flatnonzero(late & (owner == s))
        yield Finding(
            subject=records.ids[int(s)], time=float(records.doses.time[mine[0]]), line=0, field="AMT",
            value=float(records.doses.amount[mine[0]]), stops=False,
            problem=f"comes after the subject's last observation ({len(mine)} such doses)",
            remedy="nothing is learnt from it: check the times of the doses and of the samples",
        )  # fmt: skip
