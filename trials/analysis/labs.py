"""What a course of laboratory values amounts to: nadir, peak, time beyond a bound, time to a grade, shifts of grade.

Arrays (..., T) by subject and time, times ascending along the last axis, NaN = not measured; between two measured
values the course is a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Extreme", "Shifts", "duration", "first_time", "nadir", "peak", "shifts", "worst"]

Floats = NDArray[np.float64]
Grades = NDArray[np.int8]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """The extreme value and its time (...); of equal values the first; NaN where nothing was measured."""

    value: Floats
    time: Floats


def _course(time: ArrayLike, value: ArrayLike) -> tuple[Floats, Floats]:
    x = np.asarray(value, np.float64)
    t = np.broadcast_to(np.asarray(time, np.float64), x.shape)
    if (np.diff(t, axis=-1) < 0).any():
        raise InputError("must ascend along the last axis", field="time")
    return t, x


def nadir(time: ArrayLike, value: ArrayLike) -> Extreme:
    """Lowest measured value.

    >>> found = nadir([0.0, 7.0, 21.0], [[4.0, 0.3, 5.0]])
    >>> found.value.tolist(), found.time.tolist()
    ([0.3], [7.0])
    """
    t, x = _course(time, value)
    return _extreme(t, np.where(np.isnan(x), np.inf, x))


def peak(time: ArrayLike, value: ArrayLike) -> Extreme:
    """Highest measured value."""
    t, x = _course(time, value)
    found = _extreme(t, np.where(np.isnan(x), np.inf, -x))
    return Extreme(value=-found.value, time=found.time)


def _extreme(t: Floats, x: Floats) -> Extreme:
    at = x.argmin(axis=-1)[..., None]
    value, time = (np.take_along_axis(a, at, axis=-1)[..., 0] for a in (x, t))
    none = np.isinf(value)
    return Extreme(value=np.where(none, np.nan, value), time=np.where(none, np.nan, time))


def duration(time: ArrayLike, value: ArrayLike, bound: ArrayLike, *, above: bool = False) -> Floats:
    """Time that the course is below `bound` (or above it), in the unit of `time`; NaN with fewer than two values.

    >>> duration([0.0, 1.0, 2.0], [[1.0, 0.0, 1.0]], 0.5).tolist()
    [1.0]
    """
    t, x = _course(time, value)
    flat_t, flat_x = t.reshape(-1, t.shape[-1]), x.reshape(-1, x.shape[-1])
    edge = np.broadcast_to(np.asarray(bound, np.float64), x.shape[:-1]).reshape(-1)
    out = np.array([_beyond(*pair, above) for pair in zip(flat_t, flat_x, edge, strict=True)], dtype=np.float64)
    return out.reshape(x.shape[:-1])


def _beyond(t: Floats, x: Floats, bound: float, above: bool) -> float:
    seen = np.isfinite(x)
    if seen.sum() < 2 or np.isnan(bound):
        return np.nan
    excess = (x[seen] - bound) * (1.0 if above else -1.0)
    before, after, width = excess[:-1], excess[1:], np.diff(t[seen])
    size = np.abs(before) + np.abs(after)
    part = np.divide(np.maximum(before, 0.0) + np.maximum(after, 0.0), size, out=np.zeros(size.shape), where=size > 0)
    return float(np.sum(width * part))


def first_time(time: ArrayLike, grades: ArrayLike, at_least: int) -> Floats:
    """Time of the first measurement of grade `at_least` or more; infinite where there is none, shape (...)."""
    t, x = _course(time, grades)
    reached = x >= at_least
    return np.where(reached, t, np.inf).min(axis=-1)


def worst(grades: ArrayLike, *, value: ArrayLike | None = None) -> Grades:
    """Highest grade along the last axis; -1 only where no value could be graded.

    value: what was graded. With it the answer is -1, not 0, where a value that was measured could not be graded (its
    baseline is missing) and no other is of grade 1 or more.

    >>> worst([[0, 3, -1], [-1, -1, -1]]).tolist()
    [3, -1]
    >>> worst([[0, -1], [0, -1]], value=[[30.0, 500.0], [30.0, float("nan")]]).tolist()
    [-1, 0]
    """
    found = np.asarray(grades, np.int8)
    top: Grades = found.max(axis=-1)
    if value is None:
        return top
    open_ = ((found < 0) & ~np.isnan(np.asarray(value, np.float64))).any(axis=-1)
    return np.where(open_ & (top == 0), -1, top).astype(np.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """Subjects by arm, baseline grade and worst grade after it, (arms, 6, 6): grades 0 to 4, then not gradable."""

    count: Integers

    def worsened(self, at_least: int) -> Integers:
        """Subjects per arm whose worst grade is `at_least` or more and above their baseline grade, (arms,)."""
        base, top = np.indices((6, 6))
        found: Integers = self.count[:, (base < 5) & (top < 5) & (top >= at_least) & (top > base)].sum(axis=1)
        return found


def shifts(baseline: ArrayLike, worst_after: ArrayLike, arm: ArrayLike, *, arms: int) -> Shifts:
    """Count shifts of grade; arrays (N,), grades -1 (not gradable) to 4, arm -1 is in no arm.

    >>> shifts([0, 0, 1], [3, 0, 1], [0, 0, 0], arms=1).worsened(3).tolist()
    [1]
    """
    base, top, group = (np.asarray(a).astype(np.int64).reshape(-1) for a in (baseline, worst_after, arm))
    for name, grades in (("baseline", base), ("worst_after", top)):
        if grades.size and (grades.min() < -1 or grades.max() > 4):
            raise InputError("grades are -1 to 4", field=name, value=int(grades.max()))
    count = np.zeros((arms, 6, 6), np.int64)
    some = group >= 0
    np.add.at(count, (group[some], base[some] % 6, top[some] % 6), 1)
    return Shifts(count=count)
