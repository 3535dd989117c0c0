"""Event records -> the actions a kernel applies: NONMEM's semantics of doses, steady states, resets and changes.

Order of what happens at one time in one subject: samples that come before (`after=False`); ends of infusions; delayed
doses of earlier records; changes of parameters (LOCF); records in the order of the file, each as reset, steady state,
dose; changes that come late (NOCB); samples that come after. A reset or a steady state (SS = 1) cancels what earlier
records of the file still had to come: ends of infusions, delayed and additional doses.

A steady-state record replaces (SS = 1) or adds to (SS = 2) the state at its own time the periodic one, so that the dose
itself, `lag` hours later, finds the trough; infusions of earlier periods that still run are switched off at their ends.
With amount 0 and a rate it is the steady state of a constant infusion that ends at the time of the record.
Source: NONMEM Users Guide part VI (PREDPP), chapter V.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.arrays import F64, owned
from pkpd.engine.changes import Changes, in_force
from pkpd.ground.errors import InputError
from pkpd.model.regimen import EventKind, Events

__all__ = [
    "ADD", "MULTIPLY", "OFF", "ON", "RATE", "REPLACE", "RESET", "SET", "STEADY", "SUPERPOSE", "Actions", "Dosing",
    "Table", "actions_of", "infused", "owned", "start_times",
]  # fmt: skip

ADD, RATE, STEADY, RESET, REPLACE, MULTIPLY, SET, SUPERPOSE, OFF, ON = range(10)
CYCLE = 24.0
"""Period [h] in which the steady state of a constant infusion is looked for: any is right."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """Rows offsets[i]:offsets[i+1] of subject i, ascending in time.

    `amount` of a STEADY or SUPERPOSE row is its row in `steady` (m, 4): amount, interval [h], duration [h], phase [h];
    steady_target (m,): state index. `amount` of a SET row is its row in `parameters`. place: number of the record (with
    additional doses written out) each row comes of, -1 where it comes of none.
    """

    offsets: NDArray[np.int64]
    time: F64
    kind: NDArray[np.int8]
    target: NDArray[np.int32]
    amount: F64
    steady: F64
    steady_target: NDArray[np.int32]
    parameters: F64
    place: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dosing:
    """How doses into each state arrive, by row of parameters (n subjects, then their changes): each (rows, states).

    share, lag [h], scale (from the dose's unit to the state's); rate and duration [h] of infusions that the model
    gives (NaN where it does not).
    """

    share: F64
    lag: F64
    scale: F64 | None = None
    rate: F64 | None = None
    duration: F64 | None = None

    def at(self, name: str, row: I64, target: NDArray[np.int32], default: float) -> F64:
        """A column of it for each record."""
        table = getattr(self, name)
        return np.full(len(row), default) if table is None else np.asarray(table[row, target])


@dataclass(frozen=True, slots=True)
class _Rows:
    """Actions before they are sorted: by subject, time, order, index (record in the file), step (within the record).

    begun: when what the row ends has begun (the time itself for everything but ends of infusions).
    """

    subject: I64
    time: F64
    begun: F64
    order: NDArray[np.int8]
    index: I64
    step: NDArray[np.int8]
    kind: NDArray[np.int8]
    target: NDArray[np.int32]
    amount: F64
    place: I64

    def taken(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> _Rows:
        return _Rows(*(getattr(self, name)[index] for name in _ROW_NAMES))

    def keys(self) -> tuple[NDArray[np.float64] | I64 | NDArray[np.int8], ...]:
        return self.step, self.index, self.order, self.time, self.subject


_ROW_NAMES = tuple(field.name for field in fields(_Rows))
_STOP, _ARRIVE, _CHANGE, _RECORD, _LATE = range(5)


def start_times(events: Events) -> F64:
    """Start of each subject's clock [h]: 0, or its first record if that is earlier."""
    start = np.zeros(len(events))
    has = np.diff(events.offsets) > 0
    start[has] = np.minimum(0.0, events.time[events.offsets[:-1][has]])
    return start


def actions_of(events: Events, dosing: Dosing, changes: Changes | None = None, stops: F64 | None = None) -> Actions:
    """Actions of n subjects; stops (n, K) or None: times [h] at which a solver must stop (NaN: none).

    Errors: InputError for a steady-state dose without an interval, or a modelled rate or duration that is not there.
    """
    changes = Changes.none(len(events), 0) if changes is None else changes
    given = _Given.of(events, dosing, changes)
    steady = given.steady_table()
    parts = [*_doses(given), *_steady_rows(given, steady), *_others(given), *_changed(changes), *_stops(stops)]
    return _sorted([p for p in parts if len(p.time)], len(events), steady, given, changes=changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """Records with additional doses written out and lag, share, rate and duration worked out; all columns (records,).

    amount and input are in the unit of the state; input: rate of an infusion; lag: of doses.
    """

    subject: I64
    index: I64
    time: F64
    kind: NDArray[np.int8]
    target: NDArray[np.int32]
    amount: F64
    duration: F64
    input: F64
    lag: F64
    interval: F64
    steady: NDArray[np.int8]
    forever: NDArray[np.bool_]

    @classmethod
    def of(cls, events: Events, dosing: Dosing, changes: Changes) -> _Given:
        table = Table.of(events)
        row = in_force(changes, table.subject, table.time)
        dose = (table.kind == EventKind.DOSE) | (table.kind == EventKind.RESET_DOSE)
        forever = dose & (table.steady > 0) & (table.amount == 0.0) & (table.rate != 0.0)
        lag = np.where(dose & ~forever, dosing.at("lag", row, table.target, 0.0), 0.0)
        delayed = (lag >= 0.0) & (lag < np.inf)
        amount, duration, rate = infused(table, dosing, row, forever)
        scale = dosing.at("scale", row, table.target, 1.0)
        scale = np.where(delayed, scale, np.nan)  # a lag that is no time is a failed subject, not a dose somewhere
        return cls(
            subject=table.subject, index=table.index, time=table.time, kind=table.kind, target=table.target,
            amount=np.where(dose, amount * scale, table.amount), duration=np.where(dose, duration, 0.0),
            input=rate * scale, lag=np.where(delayed, lag, 0.0), interval=np.where(forever, CYCLE, table.interval),
            steady=table.steady, forever=forever,
        )  # fmt: skip

    @property
    def dose(self) -> NDArray[np.bool_]:
        return np.asarray((self.kind == EventKind.DOSE) | (self.kind == EventKind.RESET_DOSE))

    def steady_table(self) -> F64:
        """amount, interval, duration, phase of each steady-state record; phase: hours since its last dose."""
        found = self.dose & (self.steady > 0)
        interval = self.interval[found]
        if not (interval > 0.0).all():
            worst = float(interval.min())
            raise InputError("a steady-state dose needs an interval > 0 h", field="interval", value=worst)
        rest = self.lag[found] - np.floor(self.lag[found] / interval) * interval
        return np.stack([self.amount[found], interval, self.duration[found], interval - rest], axis=1)


@dataclass(frozen=True, slots=True)
class Table:
    """Records with additional doses written out, before any parameter has been looked at."""

    subject: I64
    index: I64
    time: F64
    amount: F64
    target: NDArray[np.int32]
    duration: F64
    interval: F64
    steady: NDArray[np.int8]
    kind: NDArray[np.int8]
    rate: F64

    @classmethod
    def of(cls, events: Events) -> Table:
        subject = np.repeat(np.arange(len(events)), np.diff(events.offsets))
        index = np.arange(len(events.time))
        names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate")
        columns = [getattr(events, name) for name in names]
        if not events.more.any():
            return cls(subject, index, *columns)
        owner, nth = _repeated(1 + events.more.astype(np.int64))
        time, amount, target, duration, interval, steady, kind, rate = (column[owner] for column in columns)
        again = nth > 1
        if (again & ~(interval > 0.0)).any():
            raise InputError("additional doses need an interval > 0 h", field="interval", value=float(interval.min()))
        kind = np.where(again & (kind == EventKind.RESET_DOSE), EventKind.DOSE, kind).astype(np.int8)
        steady = np.where(again, 0, steady).astype(np.int8)
        time = time + (nth - 1) * interval
        return cls(subject[owner], owner, time, amount, target, duration, interval, steady, kind, rate)


def infused(table: Table, dosing: Dosing, row: I64, forever: NDArray[np.bool_]) -> tuple[F64, F64, F64]:
    """Amount that arrives, duration [h] and rate of the input, in the unit of the dose; duration 0 is a bolus.

    The share changes the rate where the duration is given, and the duration where the rate is. A modelled rate or
    duration that is no positive number makes the amount NaN: the subject fails.
    """
    amount = table.amount * dosing.at("share", row, table.target, 1.0)
    given = table.rate != 0.0
    if not given.any():
        infused = table.duration > 0.0
        return amount, table.duration, amount / np.where(infused, table.duration, 1.0) if infused.any() else amount
    by_model = table.rate == -1.0
    speed = np.where(by_model, _modelled(dosing, "rate", (row, table.target), by_model), table.rate)
    timed = table.rate == -2.0
    length = np.where(timed, _modelled(dosing, "duration", (row, table.target), timed), table.duration)
    lost = (by_model & ~(speed > 0.0)) | (timed & ~(length >= 0.0))
    by_rate = (speed > 0.0) & ~timed
    length = np.where(by_rate, amount / np.where(by_rate, speed, 1.0), length)
    length = np.where(lost, 0.0, np.where(forever, CYCLE, length))
    speed = np.where(by_rate, speed, amount / np.where(length > 0.0, length, 1.0))
    return np.where(lost, np.nan, np.where(forever, speed * CYCLE, amount)), length, speed


def _modelled(dosing: Dosing, name: str, at: tuple[I64, NDArray[np.int32]], wanted: NDArray[np.bool_]) -> F64:
    """The model's rate or duration; NaN of a subject stays NaN (a failed solve), an absent expression is an error."""
    found = dosing.at(name, *at, np.nan)
    table = getattr(dosing, name)
    absent = wanted if table is None else wanted & np.isnan(table[:, at[1]]).all(axis=0)
    if absent.any():
        code = "-1" if name == "rate" else "-2"
        problem = f"a record says RATE = {code} but the model gives no {name} for its compartment"
        raise InputError(problem, field=f"doses.{name}", remedy=f"add {name}: NAME to the state under doses:")
    return found


def _rows(given: _Given, where: NDArray[np.intp], *, kind: int, order: int = _RECORD, step: int = 0) -> _Rows:
    size = len(where)
    time = given.time[where]
    first, second, third = (np.full(size, code, np.int8) for code in (order, step, kind))
    target, amount = given.target[where], given.amount[where]
    return _Rows(given.subject[where], time, time, first, given.index[where], second, third, target, amount, where)


def _shifted(rows: _Rows, **columns: NDArray[np.generic] | F64) -> _Rows:
    """The rows with some columns replaced."""
    return _Rows(*(columns.get(name, getattr(rows, name)) for name in _ROW_NAMES))


def _doses(given: _Given) -> list[_Rows]:
    where = np.flatnonzero(given.dose & ~given.forever)
    infused = given.duration[where] > 0.0
    base = _rows(given, where, kind=ADD, step=2)
    time = base.time + given.lag[where]
    later = np.where(time > base.time, _ARRIVE, _RECORD).astype(np.int8)
    amount = np.where(infused, given.input[where], base.amount)
    given_rows = _shifted(base, time=time, begun=time, order=later, kind=infused.astype(np.int8), amount=amount)
    return [given_rows, *_ends(given_rows.taken(infused), given.duration[where][infused])]


def _ends(starts: _Rows, duration: F64) -> list[_Rows]:
    """Ends of infusions."""
    if not len(starts.time):
        return []
    order = np.full(len(duration), _STOP, np.int8)
    return [_shifted(starts, time=starts.time + duration, begun=starts.time, order=order, amount=-starts.amount)]


def _steady_rows(given: _Given, steady: F64) -> list[_Rows]:
    """The jump to the periodic state, ends of infusions that run then, and doses still on their way."""
    where = np.flatnonzero(given.dose & (given.steady > 0))
    if not where.size:
        return []
    jump = _rows(given, where, kind=STEADY, step=1)
    kind = np.where(given.steady[where] == 2, SUPERPOSE, STEADY).astype(np.int8)
    jump = _shifted(jump, kind=kind, amount=np.arange(len(where), dtype=np.float64))
    return [jump, *_running(given, where, steady), *_on_their_way(given, where, steady)]


def _repeated(count: I64) -> tuple[I64, I64]:
    """Owner of each repetition, and its number from 1."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, 1 + np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)


def _running(given: _Given, where: NDArray[np.intp], steady: F64) -> list[_Rows]:
    """Ends of the infusions of earlier periods that still run at the record."""
    interval, duration, phase = steady[:, 1], steady[:, 2], steady[:, 3]
    whole = np.floor(duration / interval)
    still = (whole + (phase < duration - whole * interval)).astype(np.int64)
    still[~(duration > 0.0)] = 0
    owner, nth = _repeated(still)
    at = where[owner]
    base = _rows(given, at, kind=RATE, step=2)
    end = base.time + (interval - phase)[owner] - nth * interval[owner] + duration[owner]
    end = np.maximum(end, base.time)
    order = np.where(end > base.time, _STOP, _RECORD).astype(np.int8)
    return [_shifted(base, time=end, begun=base.time, order=order, amount=-given.input[at])]


def _on_their_way(given: _Given, where: NDArray[np.intp], steady: F64) -> list[_Rows]:
    """Doses of earlier periods that arrive after the record, where the lag is an interval or longer."""
    interval, duration, phase = steady[:, 1], steady[:, 2], steady[:, 3]
    owner, nth = _repeated(np.floor(given.lag[where] / interval).astype(np.int64))
    if not owner.size:
        return []
    at, base_at = where[owner], (interval - phase)[owner] + (nth - 1) * interval[owner]
    base = _rows(given, at, kind=ADD, step=2)
    infused = duration[owner] > 0.0
    time = base.time + base_at
    order = np.where(time > base.time, _ARRIVE, _RECORD).astype(np.int8)
    amount = np.where(infused, given.input[at], base.amount)
    found = _shifted(base, time=time, begun=time, order=order, kind=infused.astype(np.int8), amount=amount)
    return [found, *_ends(found.taken(infused), duration[owner][infused])]


_OTHERS = {
    EventKind.OTHER: ADD, EventKind.RESET: RESET, EventKind.RESET_DOSE: RESET, EventKind.REPLACE: REPLACE,
    EventKind.MULTIPLY: MULTIPLY, EventKind.OFF: OFF, EventKind.ON: ON,
}  # fmt: skip


def _others(given: _Given) -> list[_Rows]:
    """Everything that is not a dose; OTHER adds nothing, but the solver stops there."""
    found = []
    for event, kind in _OTHERS.items():
        where = np.flatnonzero(given.kind == event)
        rows = _rows(given, where, kind=kind)
        found.append(_shifted(rows, amount=np.zeros(len(where))) if event == EventKind.OTHER else rows)
    return found


def _changed(changes: Changes) -> list[_Rows]:
    size = len(changes.time)
    order = np.where(changes.late, _LATE, _CHANGE).astype(np.int8)
    row = np.arange(size)
    kind, zero = np.full(size, SET, np.int8), np.zeros(size, np.int8)
    target = np.zeros(size, np.int32)
    when, amount, place = changes.time, row.astype(np.float64), np.full(size, -1)
    return [_Rows(changes.subject, when, when, order, row, zero, kind, target, amount, place)]


def _stops(stops: F64 | None) -> list[_Rows]:
    """A stop adds nothing to the first state."""
    if stops is None or not stops.size:
        return []
    subject, column = np.nonzero(np.isfinite(stops))
    time, size = stops[subject, column], len(subject)
    zero, index = np.zeros(size, np.int8), np.full(size, np.iinfo(np.int64).max)  # no reset cancels it
    target, none = zero.astype(np.int32), np.full(size, -1)
    return [_Rows(subject, time, time, zero, index, zero, zero, target, np.zeros(size), none)]


def _sorted(parts: list[_Rows], n: int, steady: F64, given: _Given, *, changes: Changes) -> Actions:
    if parts:
        rows = parts[0]
        if len(parts) > 1:
            rows = _Rows(*(np.concatenate([getattr(p, c) for p in parts]) for c in _ROW_NAMES))
        later = (rows.time[1:] >= rows.time[:-1]) | (rows.subject[1:] != rows.subject[:-1])
        if len(parts) > 1 or not later.all():
            rows = _without_cancelled(rows.taken(np.lexsort(rows.keys())))
    else:
        rows = _rows(given, np.empty(0, np.intp), kind=ADD)
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows.subject, minlength=n), out=offsets[1:])
    found = given.dose & (given.steady > 0)
    return Actions(
        offsets=offsets,
        time=owned(rows.time, np.float64),
        kind=owned(rows.kind, np.int8),
        target=owned(rows.target, np.int32),
        amount=owned(rows.amount, np.float64),
        steady=owned(steady, np.float64),
        steady_target=owned(given.target[found], np.int32),
        parameters=owned(changes.parameters, np.float64),
        place=owned(rows.place, np.int64),
    )


def _without_cancelled(rows: _Rows) -> _Rows:
    """A reset or a steady state cancels what earlier records still had to come; OFF, the ends of what it ended.

    Records are numbered over all subjects, so the highest barrier so far in a subject is the highest so far at all.
    """
    barrier = (rows.kind == STEADY) | (rows.kind == RESET)
    keep = np.ones(len(rows.time), np.bool_)
    if barrier.any():
        highest = np.maximum.accumulate(np.where(barrier, rows.index, -1))
        keep = (highest <= rows.index) | (rows.kind == SET)
    off = rows.kind == OFF
    for state in np.unique(rows.target[off]):
        here = off & (rows.target == state)
        last = np.maximum.accumulate(np.where(here, np.arange(len(here)), -1))
        begun = rows.begun < rows.time[last]
        begun |= (rows.begun == rows.time[last]) & (rows.index < rows.index[last])  # an earlier record of the same time
        ended = (last >= 0) & (rows.subject[last] == rows.subject) & begun
        keep &= ~(ended & (rows.kind == RATE) & (rows.order == _STOP) & (rows.target == state))
    return rows if keep.all() else rows.taken(np.flatnonzero(keep))
