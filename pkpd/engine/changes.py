"""Individual parameters that change in time: a covariate event re-evaluates them, and they hold until the next one.

A covariate by LOCF changes at its own record, before the doses there; by NOCB at the record before, after the doses
there. A covariate that is linear between records enters the dynamics as value + slope (t - start): see `in_time`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.arrays import F64, owned
from pkpd.engine.dynamics import linear_columns
from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled
    from pkpd.model.timeline import Timeline

__all__ = ["Changes", "in_force", "in_time", "rows_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Rows offsets[i]:offsets[i+1] of subject i, ascending in time: from `time` [h] on its parameters are `parameters`.

    parameters (m, P); late (m,): records at the same time still see the parameters before (NOCB).

    >>> Changes.none(3, 2).parameters.shape
    (0, 2)
    """

    offsets: NDArray[np.int64]
    time: F64
    parameters: F64
    late: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def none(cls, n: int, parameters: int) -> Changes:
        """n subjects without changes."""
        empty = np.empty((0, parameters))
        return cls(offsets=np.zeros(n + 1, np.int64), time=np.empty(0), parameters=empty, late=np.empty(0, np.bool_))

    @property
    def subject(self) -> NDArray[np.int64]:
        """Subject of each row."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def part(self, lo: int, hi: int) -> Changes:
        """Subjects lo:hi."""
        first, last = self.offsets[lo], self.offsets[hi]
        return Changes(
            offsets=owned(self.offsets[lo : hi + 1] - first, np.int64), time=self.time[first:last],
            parameters=owned(self.parameters[first:last], np.float64), late=self.late[first:last],
        )  # fmt: skip

    def subjects(self, rows: NDArray[np.intp]) -> Changes:
        """The changes of some subjects, in the order of `rows`."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Changes(
            offsets=offsets, time=self.time[index], parameters=owned(self.parameters[index], np.float64),
            late=self.late[index],
        )  # fmt: skip

    def checked(self, n: int, parameters: int) -> Changes:
        """Itself; InputError where the shapes, the order or the times are wrong."""
        if len(self) != n or self.parameters.shape != (len(self.time), parameters):
            problem = f"must be of {n} subjects and {parameters} parameters"
            raise InputError(problem, field="changes", value=self.parameters.shape)
        same = self.subject[1:] == self.subject[:-1]
        if not np.isfinite(self.time).all() or (same & (self.time[1:] < self.time[:-1])).any():
            raise InputError("times must be finite and ascend within a subject", field="changes")
        return self


def in_force(
    changes: Changes, subject: NDArray[np.int64], time: F64, *, samples: bool = False, after: bool = False
) -> NDArray[np.int64]:
    """Row of the parameters that hold at each (subject, time): the subject itself, or n + row of `changes`.

    For records a change at their very time counts unless it is `late`; for samples it counts with `after` and does not
    without.
    """
    m, size = len(changes.time), len(subject)
    if m == 0:
        return np.asarray(subject, np.int64)
    rank = np.full(m, 0 if after else 2) if samples else np.where(changes.late, 2, 0)
    who = np.concatenate([changes.subject, subject])
    when = np.concatenate([changes.time, time])
    order = np.lexsort((np.arange(m + size), np.concatenate([rank, np.ones(size, np.int64)]), when, who))
    last = np.maximum.accumulate(np.where(order < m, np.arange(m + size), -1))
    row = np.where(last >= 0, order[last], 0)
    known = (last >= 0) & (changes.subject[row] == who[order])
    found = np.empty(m + size, np.int64)
    found[order] = np.where(known, len(changes) + row, who[order])
    return found[m:]


def rows_at(
    timeline: Timeline, subject: NDArray[np.int64], time: F64, *, samples: bool = False, after: bool = False
) -> NDArray[np.int64]:
    """Row of the timeline that holds at each (subject, time), as in `in_force`."""
    later = _later(timeline)
    borders = Changes(
        offsets=timeline.offsets - np.arange(len(timeline.offsets)), time=timeline.time[later],
        parameters=np.empty((int(later.sum()), 0)), late=timeline.late[later],
    )  # fmt: skip
    found = in_force(borders, subject, time, samples=samples, after=after)
    first = np.concatenate([timeline.offsets[:-1], np.flatnonzero(later)])
    return np.asarray(first[found], np.int64)


def _later(timeline: Timeline) -> NDArray[np.bool_]:
    """All rows but the first of each subject."""
    later = np.ones(len(timeline.time), np.bool_)
    later[timeline.offsets[:-1]] = False
    return later


def in_time(compiled: Compiled, timeline: Timeline, rows: F64) -> tuple[F64, dict[str, F64], Changes]:
    """Parameters and covariates at the start, and the changes, as `solve` takes them.

    timeline: what holds when (`pkpd.model.timeline`), its first row of each subject from -inf; rows (m, P): individual
    parameters under each of its rows.
    """
    columns: dict[str, F64] = {}
    for name in timeline.values:
        value, slope, start = linear_columns(name)
        began = np.where(np.isfinite(timeline.time), timeline.time, 0.0)
        columns |= {
            name: timeline.values[name],
            value: timeline.values[name],
            slope: timeline.slopes[name],
            start: began,
        }
    whole = np.column_stack([rows, *(columns[name] for name in compiled.inputs)])
    first, later = timeline.offsets[:-1], _later(timeline)
    offsets = timeline.offsets - np.arange(len(timeline.offsets))
    changes = Changes(offsets=offsets, time=timeline.time[later], parameters=whole[later], late=timeline.late[later])
    return rows[first], {name: columns[name][first] for name in compiled.inputs}, changes
