"""What the data base holds at a calendar time: nothing that had not happened, or was not measured, by then.

Calendar hours count from the opening of the first site, a subject's own hours from its entry. A look at a count (the
n-th event, the n-th subject whose endpoint is due) comes an instant after what it counts (`INSTANT`), so that rounding
of calendar times cannot hide it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trials.event_times import event_times
from trials.kinds import KINDS
from trials.methods import METHODS

if TYPE_CHECKING:
    from trials.methods import Question
    from trials.observed import Floats, Observed
    from trials.protocol import Protocol

__all__ = ["INSTANT", "as_of", "calendar", "due", "end_of_follow_up", "enrolled", "reached"]

INSTANT = 1e-6
"""Hours."""


def as_of(trial: Observed, hour: Floats) -> Observed:
    """The data base at calendar time `hour` (R,); who has not entered by then is in no arm (-1)."""
    cut = np.asarray(hour)[:, None] - _entry(trial)
    cut = cut if trial.cut is None else np.minimum(cut, trial.cut)
    seen, inside = cut[:, :, None], cut >= 0.0

    def until(time: Floats) -> Floats:
        return np.where(time <= cut, time, np.inf)

    onset = {name: until(time) for name, time in trial.onset.items()}
    grade = {
        name: np.where(np.isfinite(onset[name]), level, 0).astype(np.int8) for name, level in trial.grade.items()
    }  # fmt: skip
    reached = {name: np.where(time <= seen, time, np.inf) for name, time in trial.reached.items()}
    grade |= {name: np.isfinite(time).sum(axis=2).astype(np.int8) for name, time in reached.items()}
    every = {name: np.where(time <= seen, time, np.inf) for name, time in trial.occurrences.items()}
    return replace(
        trial, cut=cut, arm=np.where(inside, trial.arm, -1), onset=onset, grade=grade,
        outputs={name: np.where(trial.times <= seen, value, np.nan) for name, value in trial.outputs.items()},
        stop=until(trial.stop), leave=until(trial.leave), ended=until(trial.ended), occurrences=every,
        changes={name: until(time) for name, time in trial.changes.items()},
        number={name: np.isfinite(every[name]).sum(axis=2) for name in trial.number}, reached=reached,
        below={name: low & (trial.times <= seen) for name, low in trial.below.items()},
    )  # fmt: skip


def _entry(trial: Observed) -> Floats:
    """Calendar hour of entry (R, N); a trial without enrolment begins for everybody at once."""
    return np.zeros(trial.arm.shape) if trial.entry is None else trial.entry


def due(question: Question, trial: Observed) -> Observed:
    """Who counts in one analysis of a data base that is not complete: at a visit, those whose visit has come.

    A method that takes incomplete follow-up (times to events, mixed models) sees everybody who has entered.
    """
    if trial.cut is None or not KINDS[question.endpoint.as_].whole or METHODS[question.analysis.method].partial:
        return trial
    there = _visit(question.protocol, question.endpoint.at, trial) <= trial.cut
    return replace(trial, arm=np.where(there, trial.arm, -1))


def _visit(protocol: Protocol, name: str | None, trial: Observed) -> Floats:
    """Own hour of a visit (R, N), of the last where none is named."""
    return trial.times[:, :, protocol.visit_names.index(name) if name else -1]


def calendar(question: Question, trial: Observed, of: str) -> Floats:
    """Calendar hours (R, N) at which each subject adds to the information: its event, or its endpoint's visit.

    Infinite where it never does: no event, another arm, a failed simulation.
    """
    codes = question.codes(trial.arm)
    if of == "events":
        found = event_times(question.protocol, question.endpoint, question.estimand, trial)
        own = np.where(found.event, found.time * 24.0, np.inf)
    else:
        own = _visit(question.protocol, question.endpoint.at, trial)
    return np.where((codes >= 0) & ~trial.failed, _entry(trial) + own, np.inf)


def reached(hours: Floats, number: NDArray[np.int64] | int) -> Floats:
    """Calendar hour (R,) just after the `number`-th of `hours` (R, N); infinite where there are not so many."""
    order, wanted = np.sort(hours, axis=1), np.broadcast_to(np.asarray(number), hours.shape[:1])
    place = np.minimum(wanted, hours.shape[1]) - 1
    found = np.take_along_axis(order, place[:, None], axis=1)[:, 0]
    return np.where(wanted <= hours.shape[1], found + INSTANT, np.inf)


def end_of_follow_up(trial: Observed) -> Floats:
    """Calendar hour (R,) just after the last planned visit of the last subject."""
    return np.asarray((_entry(trial) + trial.times[:, :, -1]).max(axis=1) + INSTANT)


def enrolled(trial: Observed, hour: Floats) -> NDArray[np.int64]:
    """Number of subjects who have entered by a calendar hour (R,)."""
    return np.asarray((_entry(trial) <= np.asarray(hour)[:, None]).sum(axis=1), np.int64)
