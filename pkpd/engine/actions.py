"""Dose records -> the actions a kernel applies: lag and bioavailability per subject, infusions as rates, steady state.

A steady-state record (NONMEM SS = 1) replaces the state at its own time by the periodic one, so that the dose itself,
`lag` hours later, finds the trough; infusions of earlier periods that still run are switched off at their ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events

__all__ = ["ADD", "RATE", "RESET", "STEADY", "Actions", "actions_of", "owned", "start_times"]

ADD, RATE, STEADY, RESET = 0, 1, 2, 3
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """Rows offsets[i]:offsets[i+1] of subject i, ascending in time; `amount` of a STEADY row is its row in `steady`.

    steady (m, 4): amount, interval [h], duration [h], phase [h]; steady_target (m,) state index.
    """

    offsets: NDArray[np.int64]
    time: F64
    kind: NDArray[np.int8]
    target: NDArray[np.int32]
    amount: F64
    steady: F64
    steady_target: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Actions before they are sorted: at one time a lower `order` comes first; `record` is the time of the record."""

    subject: NDArray[np.int64]
    time: F64
    record: F64
    order: NDArray[np.int8]
    kind: NDArray[np.int8]
    target: NDArray[np.int32]
    amount: F64

    def taken(self, index: NDArray[np.intp]) -> _Rows:
        return _Rows(*(getattr(self, name)[index] for name in _ROW_NAMES))


_ROW_NAMES = ("subject", "time", "record", "order", "kind", "target", "amount")
_STOP, _RESETS, _GIVE = 0, 1, 2


def owned(array: Any, kind: Any) -> Any:
    """The array as kernels take it: C-ordered and writeable (read-only is another type to numba), else a copy."""
    return np.require(array, kind, ("C", "A", "W"))


def start_times(events: Events) -> F64:
    """Start of each subject's clock [h]: 0, or its first dose if that is earlier."""
    start = np.zeros(len(events))
    has = np.diff(events.offsets) > 0
    start[has] = np.minimum(0.0, events.time[events.offsets[:-1][has]])
    return start


def actions_of(events: Events, factor: F64, lag: F64) -> Actions:
    """Actions of n subjects; `factor` and `lag` (n, states): bioavailability and lag [h] of doses into each state.

    Errors: InputError for a steady-state record without an interval or with a lag of an interval or more.
    """
    subject = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    time = events.time + lag[subject, events.target]
    amount = events.amount * factor[subject, events.target]
    infused = events.duration > 0.0
    size = len(subject)
    rows = _Rows(
        subject,
        time,
        events.time,
        np.full(size, _GIVE, np.int8),
        infused.astype(np.int8),
        events.target,
        np.where(infused, amount / np.where(infused, events.duration, 1.0), amount),
    )
    parts = [rows]
    if infused.any():
        parts.append(_switched_off(rows, np.flatnonzero(infused), events.duration[infused]))
    steady = np.empty((0, 4))
    found = np.flatnonzero(events.steady)
    if found.size:
        steady = _steady_table(events, found, amount, time)
        parts += _steady_rows(rows, found, steady)
    return _sorted(parts, len(events), steady, events.target[found])


def _switched_off(rows: _Rows, index: NDArray[np.intp], duration: F64) -> _Rows:
    off = rows.taken(index)
    order = np.full(len(index), _STOP, np.int8)
    return _Rows(off.subject, off.time + duration, off.record, order, off.kind, off.target, -off.amount)


def _steady_table(events: Events, found: NDArray[np.intp], amount: F64, time: F64) -> F64:
    interval, duration = events.interval[found], events.duration[found]
    lag = time[found] - events.time[found]
    if not (interval > 0.0).all():
        raise InputError("a steady-state dose needs an interval > 0 h", field="interval", value=float(interval.min()))
    if (lag >= interval).any():
        worst = float(lag[lag >= interval][0])
        raise InputError("lag must be shorter than the steady-state interval", field="lag", value=worst)
    return np.stack([amount[found], interval, duration, interval - lag], axis=1)


def _steady_rows(rows: _Rows, found: NDArray[np.intp], steady: F64) -> list[_Rows]:
    """The reset to the periodic state, and the ends of earlier periods' infusions that still run then."""
    taken = rows.taken(found)
    size = len(found)
    reset = _Rows(
        taken.subject,
        taken.record,
        taken.record,
        np.full(size, _RESETS, np.int8),
        np.full(size, STEADY, np.int8),
        taken.target,
        np.arange(size, dtype=np.float64),
    )
    interval, duration, phase = steady[:, 1], steady[:, 2], steady[:, 3]
    running = np.floor(duration / interval)
    still = (running + (phase < duration - running * interval)).astype(np.int64)
    still[duration <= 0.0] = 0
    owner = np.repeat(np.arange(size), still)
    period = 1.0 + np.arange(len(owner)) - np.repeat(np.cumsum(still) - still, still)
    again = taken.taken(owner)
    end = again.time - period * interval[owner] + duration[owner]
    order = np.full(len(owner), _GIVE, np.int8)
    return [reset, _Rows(again.subject, end, again.record, order, again.kind, again.target, -again.amount)]


def _sorted(parts: list[_Rows], n: int, steady: F64, steady_target: NDArray[np.int32]) -> Actions:
    rows = parts[0] if len(parts) == 1 else _Rows(*(np.concatenate([getattr(p, c) for p in parts]) for c in _ROW_NAMES))
    later = (rows.time[1:] >= rows.time[:-1]) | (rows.subject[1:] != rows.subject[:-1])
    if len(parts) > 1 or not later.all():
        rows = _without_cancelled(rows.taken(np.lexsort((rows.order, rows.time, rows.subject))))
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows.subject, minlength=n), out=offsets[1:])
    return Actions(
        offsets=offsets,
        time=owned(rows.time, np.float64),
        kind=owned(rows.kind, np.int8),
        target=owned(rows.target, np.int32),
        amount=owned(rows.amount, np.float64),
        steady=owned(steady, np.float64),
        steady_target=owned(steady_target, np.int32),
    )


def _without_cancelled(rows: _Rows) -> _Rows:
    """A reset cancels what earlier records still had to come: ends of infusions, lagged doses."""
    resets = np.flatnonzero(rows.kind >= STEADY)
    if not resets.size:
        return rows
    last = np.full(rows.subject[-1] + 1, -np.inf)
    np.maximum.at(last, rows.subject[resets], rows.time[resets])
    waiting = np.flatnonzero((rows.time > rows.record) & (rows.record < last[rows.subject]))
    keep = np.ones(len(rows.subject), np.bool_)
    for i in waiting:
        mine = resets[rows.subject[resets] == rows.subject[i]]
        keep[i] = not ((rows.time[mine] > rows.record[i]) & (rows.time[mine] <= rows.time[i])).any()
    return rows.taken(np.flatnonzero(keep))
