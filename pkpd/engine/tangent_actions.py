"""How the actions of a solve move with the parameters: jumps of the sensitivities, beside those of the states.

    bolus     S += dA/dp, and (f- - f+) dt/dp where its time moves (lag)
    infusion  S' += d(rate)/dp while it runs; S -= (change of rate) dt/dp at a start or an end that moves
    SS        the same inside the period, and f d(phase)/dp where the lag moves
    stop      (f- - f+) dt/dp, for a right-hand side that jumps at a model event time
A replaced or emptied state has S = 0, a multiplied one a multiplied S.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import (
    ADD,
    CYCLE,
    MULTIPLY,
    OFF,
    ON,
    RATE,
    REPLACE,
    STEADY,
    SUPERPOSE,
    Actions,
    Dosing,
    Table,
    infused,
)  # fmt: skip
from pkpd.engine.arrays import F64, owned
from pkpd.engine.changes import Changes, in_force
from pkpd.engine.tangent_source import COLUMNS, FIRST_COLUMN
from pkpd.model.regimen import EventKind, Events

__all__ = ["SHIFT_AFTER", "SHIFT_BEFORE", "Moved", "Stops", "moved", "with_tangents"]

SHIFT_BEFORE, SHIFT_AFTER = 10, 11
_ONE_MOMENT = 4e-12  # `shift` looks 1e-12 to each side
"""Kinds of action: S += f w before an event, S -= f w after it; target is the direction, amount is w = dt/dp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Derivatives along one direction of what each record gives: (records,) in the states' units and hours."""

    amount: F64
    input: F64
    lag: F64
    duration: F64

    @property
    def phase(self) -> F64:
        """The phase of a steady state falls as the lag grows."""
        return -self.lag


def moved(events: Events, dosing: Dosing, changes: Changes, slopes: Mapping[str, Dosing]) -> dict[str, Moved]:
    """{direction: derivatives of the written-out records}; slopes: derivatives of `dosing` along each direction."""
    table = Table.of(events)
    row = in_force(changes, table.subject, table.time)
    dose = (table.kind == EventKind.DOSE) | (table.kind == EventKind.RESET_DOSE)
    forever = dose & (table.steady > 0) & (table.amount == 0.0) & (table.rate != 0.0)
    amount, length, speed = infused(table, dosing, row, forever)
    scale = dosing.at("scale", row, table.target, 1.0)
    found = {}
    for name, slope in slopes.items():
        d_amount, d_length, d_speed = _infused_slope(table, slope, row, forever, given=(amount, length, speed))
        d_scale = slope.at("scale", row, table.target, 0.0)
        d_lag = slope.at("lag", row, table.target, 0.0)
        found[name] = Moved(
            amount=np.where(dose, d_amount * scale + amount * d_scale, 0.0),
            input=np.where(dose & (length > 0.0), d_speed * scale + speed * d_scale, 0.0),
            lag=np.where(dose & ~forever, d_lag, 0.0),
            duration=np.where(dose & (length > 0.0), d_length, 0.0),
        )
    return found


def _infused_slope(
    table: Table, slope: Dosing, row: NDArray[np.int64], forever: NDArray[np.bool_], *, given: tuple[F64, F64, F64]
) -> tuple[F64, F64, F64]:
    """Derivatives of amount, duration and rate, in the unit of the dose: the rules of `infused`, differentiated."""
    _, length, speed = given
    d_amount = table.amount * slope.at("share", row, table.target, 0.0)
    long = np.where(length > 0.0, length, 1.0)
    timed = table.rate == -2.0
    by_rate = (table.rate != 0.0) & ~timed
    d_speed = np.where(table.rate == -1.0, slope.at("rate", row, table.target, 0.0), 0.0)
    d_length = np.where(timed, slope.at("duration", row, table.target, 0.0), 0.0)
    d_length = np.where(by_rate, (d_amount - length * d_speed) / np.where(by_rate, speed, 1.0), d_length)
    d_speed = np.where(by_rate, d_speed, (d_amount - speed * d_length) / long)
    d_length = np.where(forever, 0.0, d_length)
    return np.where(forever, d_speed * CYCLE, d_amount), d_length, d_speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """Model event times (n, K) [h] and their derivatives by number of the direction."""

    time: F64
    slopes: Mapping[int, F64]


@dataclass(slots=True)
class _Merged:
    """Columns of actions with the position they are put at: parts, then one sort."""

    parts: list[tuple[Any, ...]]

    def add(self, position: Any, subject: NDArray[np.int64], time: F64, what: tuple[Any, Any, Any]) -> None:
        kind, target, amount = (np.broadcast_to(np.asarray(x, np.float64), time.shape) for x in what)
        self.parts.append((position, subject, time, kind, target, amount))

    def sorted(self) -> tuple[NDArray[np.int64], F64, F64, F64, F64]:
        columns = [np.concatenate(c) for c in zip(*self.parts, strict=True)]
        order = np.lexsort((columns[0], columns[1]))
        subject, time, kind, target, amount = (c[order] for c in columns[1:])
        return subject.astype(np.int64), time, kind, target, amount


def with_tangents(
    actions: Actions, records: Mapping[str, Moved], place: Mapping[str, Mapping[int, int]], stops: Stops | None = None
) -> Actions:
    """Actions of the bigger model: those of the states and, beside them, those of their sensitivities.

    place: direction -> {state: its sensitivity}, both by number, in the order of the directions.
    """
    n = len(actions.offsets) - 1
    subject = np.repeat(np.arange(n), np.diff(actions.offsets))
    base = np.arange(len(actions.time), dtype=np.float64)
    work = _Merged([])
    work.add(base, subject, actions.time, (actions.kind, actions.target, actions.amount))
    for k, (name, states) in enumerate(place.items()):
        table = np.full(1 + max([*actions.target, *states, 0]), -1)
        table[list(states)] = list(states.values())
        _carried(work, actions, subject, table)
        if name in records:
            _jumps(work, actions, subject, (k, table, records[name]))
    if stops is not None:
        _stop_jumps(work, actions, subject, stops)
    found, time, kind, target, amount = work.sorted()
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(found, minlength=n), out=offsets[1:])
    return replace(
        actions, offsets=offsets, time=owned(time, np.float64), kind=owned(kind, np.int8),
        target=owned(target, np.int32), amount=owned(amount, np.float64), steady=_steady(actions, records, list(place)),
        place=np.full(len(time), -1),
    )  # fmt: skip


def _carried(work: _Merged, actions: Actions, subject: NDArray[np.int64], table: NDArray[np.int64]) -> None:
    """What a change of a state does to its sensitivity, whatever the direction."""
    there = table[actions.target] >= 0
    for kind, amount in ((REPLACE, 0.0), (MULTIPLY, None), (OFF, 0.0), (ON, 0.0)):
        rows = np.flatnonzero((actions.kind == kind) & there)
        x = actions.amount[rows] if amount is None else np.full(len(rows), amount)
        if rows.size:
            work.add(rows + 0.25, subject[rows], actions.time[rows], (kind, table[actions.target[rows]], x))
    if (actions.kind == OFF).any():
        dosed = ((actions.kind == ADD) | (actions.kind == RATE)) & (actions.amount > 0.0)
        dosed |= (actions.kind == STEADY) | (actions.kind == SUPERPOSE)
        rows = np.flatnonzero(dosed & there)
        x = np.zeros(len(rows))
        work.add(rows - 0.25, subject[rows], actions.time[rows], (ON, table[actions.target[rows]], x))


def _jumps(
    work: _Merged, actions: Actions, subject: NDArray[np.int64], of: tuple[int, NDArray[np.int64], Moved]
) -> None:
    """Jumps along one direction at doses, starts and ends of infusions."""
    k, table, record = of
    infusion = actions.kind == RATE
    switched = bool((actions.kind == OFF).any())  # then an infusion may turn on more than itself
    rows = np.flatnonzero((infusion | (actions.kind == ADD)) & (actions.place >= 0))
    at, x, infusion = actions.place[rows], actions.amount[rows], infusion[rows]
    end = infusion & np.signbit(x)
    late = record.lag[at] + np.where(end, record.duration[at], 0.0)
    more = np.where(infusion, record.input[at], record.amount[at]) * np.where(end, -1.0, 1.0)
    target = table[actions.target[rows]].astype(np.float64)

    def put(where: NDArray[np.bool_], offset: float, what: tuple[Any, F64, F64]) -> None:
        kind, aim, amount = what
        chosen = rows[where]
        kinds = kind[where] if isinstance(kind, np.ndarray) else kind
        work.add(chosen + offset, subject[chosen], actions.time[chosen], (kinds, aim[where], amount[where]))

    direction, simple = np.full(len(rows), float(k)), infusion & (not switched)
    put(late != 0.0, -0.125, (np.where(simple, ADD, SHIFT_BEFORE) + 0.0, np.where(simple, target, direction),
                              np.where(simple, -x * late, late)))  # fmt: skip
    put(more != 0.0, 0.125, (np.where(infusion, RATE, ADD) + 0.0, target, more))
    put((late != 0.0) & ~simple, 0.25, (SHIFT_AFTER, direction, late))


def _steady(actions: Actions, records: Mapping[str, Moved], names: list[str]) -> F64:
    """Rows of steady states with the derivatives of each direction."""
    wide = np.zeros((len(actions.steady), FIRST_COLUMN + COLUMNS * len(names)))
    wide[:, :FIRST_COLUMN] = actions.steady
    rows = np.flatnonzero((actions.kind == STEADY) | (actions.kind == SUPERPOSE))
    where, at = actions.amount[rows].astype(np.int64), actions.place[rows]
    for k, name in enumerate(names):
        if name in records:
            record = records[name]
            column = FIRST_COLUMN + COLUMNS * k
            parts = (record.amount[at], record.duration[at], record.phase[at])
            wide[where, column : column + COLUMNS] = np.stack(parts, axis=1)
    return wide


def _once(stops: F64, slope: F64) -> tuple[NDArray[np.int64], F64, F64]:
    """Subject, time and its derivative of each moment that moves, once: other rows of parameters and other conditions
    may name the same moment, and the jump there is that of all of them.
    """
    owner, column = np.nonzero(np.isfinite(stops) & (slope != 0.0))
    time, amount = stops[owner, column], slope[owner, column]
    order = np.lexsort((-np.abs(amount), time, owner))
    owner, time, amount = owner[order], time[order], amount[order]
    new = np.ones(len(time), np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (time[1:] - time[:-1] > _ONE_MOMENT * (np.abs(time[1:]) + 1.0))
    return owner[new], time[new], amount[new]


def _stop_jumps(work: _Merged, actions: Actions, subject: NDArray[np.int64], stops: Stops) -> None:
    """A right-hand side that jumps at a time that moves: before the actions there."""
    for k, slope in stops.slopes.items():
        owner, time, amount = _once(stops.time, slope)
        both = (np.concatenate([owner, subject]), np.concatenate([time, actions.time]))
        base = np.concatenate([np.zeros(len(owner)), np.ones(len(subject))])
        order = np.lexsort((base, both[1], both[0]))
        before = np.empty(len(order))
        before[order] = np.cumsum(base[order])
        position = before[: len(owner)] - 0.5
        for kind, shift in ((SHIFT_BEFORE, 0.0), (SHIFT_AFTER, 0.0625)):
            work.add(position + shift, owner, time, (kind, np.full(len(owner), float(k)), amount))
