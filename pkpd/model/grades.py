"""Grades that move up and down: a Markov process in continuous time, simulated exactly, by address.

Each move g -> h has an intensity q_gh(t) >= 0 that may depend on anything the integration knows. Let the points of
independent Poisson processes with these intensities be given (`pkpd.engine.hazards`: where cumulative intensities cross
sums of standard exponentials). The process that jumps from g to h at the points of g -> h that come while it is at g,
and passes over all others, is the Markov process with these intensities: points after a jump are independent of those
before it (Norris, Markov Chains, 1997, section 2.6, the third construction). No time step, no approximation beyond the
integration of the intensities; and the same points serve every regimen, so that arms differ by exposure alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST", "Path", "first_reached", "grade_at", "rises", "spent", "walked"]

Floats = NDArray[np.float64]
Grades = NDArray[np.int8]
MOST: Final = 5
"""The highest grade of any event (CTCAE: death)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """n paths: grade `start` (n,) at time 0, then `grade` (n, J) from `time` (n, J) [h] on; inf and 0 fill the rows."""

    start: Grades
    time: Floats
    grade: Grades


def walked(start: Grades, moves: Sequence[tuple[int, int]], points: Sequence[Floats]) -> Path:
    """The path that starts at `start` (n,) and takes each of `moves` (from, to) at its `points` (n, L), inf: none.

    >>> path = walked(np.zeros(1, np.int8), [(0, 1), (1, 0)], [np.array([[2.0, 3.0, 9.0]]), np.array([[1.0, 5.0]])])
    >>> path.time.tolist(), path.grade.tolist()
    ([[2.0, 5.0, 9.0]], [[1, 0, 1]])
    """
    n, state = len(start), np.asarray(start, np.int8).copy()
    times = np.concatenate([np.empty((n, 0)), *points], axis=1)
    of = np.repeat(np.arange(len(moves)), [p.shape[1] for p in points])
    order = np.argsort(times, axis=1, kind="stable")
    times, which = np.take_along_axis(times, order, axis=1), of[order]
    origin, target = np.asarray(moves, np.int8).reshape(-1, 2).T
    grade, taken = np.zeros(times.shape, np.int8), np.zeros(times.shape, np.bool_)
    for j in range(int(np.isfinite(times).sum(axis=1).max(initial=0))):
        taken[:, j] = np.isfinite(times[:, j]) & (origin[which[:, j]] == state)
        state = np.where(taken[:, j], target[which[:, j]], state)
        grade[:, j] = state
    return _packed(np.asarray(start, np.int8), times, grade, taken)


def _packed(start: Grades, times: Floats, grade: Grades, taken: NDArray[np.bool_]) -> Path:
    """Without the points that were passed over."""
    jumps = max(int(taken.sum(axis=1).max(initial=0)), 1)
    order = np.argsort(~taken, axis=1, kind="stable")[:, :jumps]
    kept = np.take_along_axis(taken, order, axis=1)
    time, level = np.take_along_axis(times, order, axis=1), np.take_along_axis(grade, order, axis=1)
    return Path(start=start, time=np.where(kept, time, np.inf), grade=np.where(kept, level, 0).astype(np.int8))


def _before(path: Path) -> Grades:
    """Grade just before each jump (n, J)."""
    return np.concatenate([path.start[:, None], path.grade[:, :-1]], axis=1)


def rises(path: Path) -> Floats:
    """Times of the jumps to a higher grade (n, J), inf at the others."""
    return np.where(path.grade > _before(path), path.time, np.inf)


def first_reached(time: Floats, grade: Grades) -> Floats:
    """When events of these times (..., J) and grades first were of grade 1, 2, ... or worse, (..., 5); inf: never.

    >>> first_reached(np.array([[1.0, 4.0, np.inf]]), np.array([[2, 3, 0]], np.int8)).tolist()
    [[1.0, 1.0, 4.0, inf, inf]]
    """
    found = [np.where(grade >= level, time, np.inf).min(axis=-1, initial=np.inf) for level in range(1, MOST + 1)]
    return np.stack(found, axis=-1)


def grade_at(path: Path, times: Floats) -> Grades:
    """Grade at times (n, K): a jump counts from its own time on."""
    known = np.concatenate([path.start[:, None], path.grade], axis=1)
    passed = (path.time[:, None, :] <= times[:, :, None]).sum(axis=2)
    return np.asarray(np.take_along_axis(known, passed, axis=1), np.int8)


def spent(path: Path, until: Floats) -> Floats:
    """Hours at grade 1, 2, ... or worse up to `until` (n,), (n, 5).

    >>> spent(Path(start=np.zeros(1, np.int8), time=np.array([[2.0, 5.0]]), grade=np.array([[2, 0]], np.int8)),
    ...       np.array([9.0])).tolist()
    [[3.0, 3.0, 0.0, 0.0, 0.0]]
    """
    known = np.concatenate([path.start[:, None], path.grade], axis=1)
    begin = np.concatenate([np.zeros((len(until), 1)), path.time], axis=1)
    begin = np.minimum(begin, until[:, None])
    length = np.diff(begin, axis=1, append=until[:, None])
    return np.stack([np.where(known >= level, length, 0.0).sum(axis=1) for level in range(1, MOST + 1)], axis=-1)
