"""Events that come again or become worse, as the data base of a trial holds them: episodes, first days by grade, days
at each grade, the grade at each visit.

An episode of an event whose grade moves begins where the grade rises from 0; a subject that begins the trial at grade 1
or worse has no episode until it has been at 0. What counts as the event is every rise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.model.grades import Path, grade_at, spent
from trials.protocol import HOURS_PER_DAY

if TYPE_CHECKING:
    from trials.observed import Observed
    from trials.setting import Setting
    from trials.subject import Course

__all__ = ["columns", "episodes", "followed", "occurrences", "recurrent"]

Floats = NDArray[np.float64]


def recurrent(setting: Setting) -> tuple[str, ...]:
    """Names of the events that come again: by a recurrent hazard, or as episodes of a grade that moves."""
    return tuple(name for name, event in setting.model.events.items() if event.kind == "recurrent" or event.moves)


def episodes(path: Path) -> Floats:
    """Times (n, J) at which the grade rises from 0, infinite at the other jumps.

    >>> episodes(Path(start=np.zeros(1, np.int8), time=np.array([[1.0, 2.0, 3.0, 4.0]]),
    ...               grade=np.array([[1, 2, 0, 1]], np.int8))).tolist()
    [[1.0, inf, inf, 4.0]]
    """
    before = np.concatenate([path.start[:, None], path.grade[:, :-1]], axis=1)
    return np.where((before == 0) & (path.grade > 0), path.time, np.inf)


def occurrences(course: Course, name: str) -> Floats:
    """Times (n, L) of every occurrence of an event that comes again, infinite: none."""
    return episodes(course.latent.path(name)) if name in course.latent.grades else course.latent.crossings[name]


def followed(seen: Observed) -> Floats:
    """Hour (R, N) until which each subject is followed; 0 for who failed or is in no arm."""
    end = np.minimum(np.minimum(seen.leave, seen.ended), seen.times[:, :, -1])
    end = end if seen.cut is None else np.minimum(end, np.maximum(seen.cut, 0.0))
    return np.where(seen.failed | (seen.arm < 0), 0.0, end)


def columns(setting: Setting, course: Course, seen: Observed) -> dict[str, NDArray[Any]]:
    """Columns of the outcome table beyond those of every event, flat.

    `X.day2`, `X.day3`, ...: first day of that grade or worse, of every event that may worsen; of one whose grade moves
    also `X.days`, `X.days2`, ...: days at grade 1, 2, ... or worse while in the trial, `X@VISIT`: the grade then.
    """
    found: dict[str, NDArray[Any]] = {}
    end = followed(seen).reshape(-1)
    for name, reached in seen.reached.items():
        if name not in setting.model.events:  # a laboratory test has columns of its own
            continue
        top = setting.model.events[name].highest
        for level in range(2, top + 1):
            time = reached[:, :, level - 1].reshape(-1)
            found[f"{name}.day{level}"] = np.where(np.isfinite(time), time / HOURS_PER_DAY, np.nan)
        if name not in course.latent.grades:
            continue
        path = course.latent.path(name)
        hours = spent(path, end)
        lost = seen.failed.reshape(-1)
        for level in range(1, top + 1):
            found[f"{name}.days{level if level > 1 else ''}"] = np.where(
                lost, np.nan, hours[:, level - 1] / HOURS_PER_DAY
            )
        times = seen.times.reshape(end.size, -1)
        grade = np.where((times <= end[:, None]) & ~lost[:, None], grade_at(path, times).astype(np.float64), np.nan)
        for number, visit in enumerate(setting.protocol.visit_names):
            found[f"{name}@{visit}"] = grade[:, number]
    return found
