"""What the dynamics know of past doses: TAD and DOSE, and the input of doses that pass through transits.

Both are columns behind the parameters, changed when a dose comes. TAD counts from the time of the dose's record,
whatever its lag (NONMEM's convention); additional doses count, and so do doses by steady-state records. DOSE is the
amount of the record, before bioavailability.

A dose through n transits (Savic et al., J Pharmacokinet Pharmacodyn 2007) enters at the rate
F amount ktr (ktr s)^n exp(-ktr s)/n!, s hours after its arrival, ktr = (n + 1)/MTT; bioavailability, lag, n and MTT are
those in force at its record. A dose is followed at least until less than TAIL of it is still to come (Chernoff's bound
of the gamma distribution). The solver stops at seven points of every dose (around the mean of its transit), so that no
step misses one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import Table
from pkpd.engine.arrays import F64, owned
from pkpd.engine.build import Compiled, of_dynamics
from pkpd.engine.changes import Changes, in_force
from pkpd.engine.dynamics import Dynamics, clock_columns, with_slots
from pkpd.engine.structure import inlined
from pkpd.ground.errors import InputError
from pkpd.model.equations import Expr, Number, evaluate
from pkpd.model.regimen import EventKind, Events

__all__ = ["TAIL", "last_dose", "with_past"]

I64 = NDArray[np.int64]
TAIL = 1e-13
MOST = 64
"""Doses at once on their way in a subject: each is a term of the generated solver (16 double its time to compile)."""

_POINTS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.5, 5.0)  # standard deviations around the mean transit time
_EMPTY = (0.0, 0.0, 0.0, 0.0, 1.0)  # start, amount, log coefficient, n, ktr of a slot without a dose


def with_past(compiled: Compiled, values: F64, events: Events, changes: Changes) -> tuple[Compiled, F64, Changes]:
    """The model, its parameters (n, P) and their changes with the columns of past doses behind. Errors: InputError."""
    dynamics = compiled.dynamics
    clocks = [name for name in clock_columns() if name in dynamics.inputs]
    if not clocks and not dynamics.transits:
        return compiled, values, changes
    doses = _Doses.of(events, np.zeros(len(Table.of(events).time)))
    if clocks:
        _clear(dynamics, events)
        values, changes = _with_clocks(doses, values, changes)
    for state in dynamics.transits:
        compiled, values, changes = _through_transits(compiled, state, values, events, changes=changes)
    return compiled, values, changes


def last_dose(events: Events, times: F64, *, after: bool) -> tuple[F64, F64]:
    """TAD [h] and DOSE at times (n, T); both 0 before the first dose. A dose at the very time counts with `after`."""
    doses = _Doses.of(events, np.zeros(len(Table.of(events).time)))
    n, count = times.shape
    when = times.reshape(-1) if after else np.nextafter(times.reshape(-1), -np.inf)
    row = doses.latest(np.repeat(np.arange(n), count), when).reshape(n, count)
    found = row >= 0
    if not len(doses.time):
        return 0.0 * times, 0.0 * times
    tad = np.where(found, times - doses.time[row], 0.0 * times)
    return tad, np.where(found, doses.amount[row], 0.0 * times)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doses:
    """Doses with additional ones written out, without those a reset cancels, in order of subject, time and record.

    place: number in `Table.of(events)`; barrier columns: the resets, in the same order.
    """

    subject: I64
    time: F64
    amount: F64
    index: I64
    place: I64
    barrier_subject: I64
    barrier_time: F64
    barrier_index: I64

    @classmethod
    def of(cls, events: Events, lag: F64, only: int | None = None) -> _Doses:
        """Times are those of the records plus `lag` (records,); only: the state they go to."""
        table = Table.of(events)
        dose = (table.kind == EventKind.DOSE) | (table.kind == EventKind.RESET_DOSE)
        wall = (table.kind == EventKind.RESET) | (table.kind == EventKind.RESET_DOSE) | (dose & (table.steady == 1))
        wall &= np.concatenate([np.ones(1, np.bool_), table.index[1:] != table.index[:-1]])[: len(wall)]
        take = np.flatnonzero(dose if only is None else dose & (table.target == only))
        arrival = table.time[take] + lag[take]
        order = np.lexsort((table.index[take], arrival, table.subject[take]))
        take, arrival = take[order], arrival[order]
        walls = np.flatnonzero(wall)
        blocked = _latest(table.subject[walls], table.time[walls], table.subject[take], arrival)
        highest = np.where(blocked >= 0, table.index[walls][blocked] if len(walls) else -1, -1)
        kept = highest <= table.index[take]
        take, arrival = take[kept], arrival[kept]
        return cls(
            subject=table.subject[take], time=arrival, amount=table.amount[take], index=table.index[take], place=take,
            barrier_subject=table.subject[walls], barrier_time=table.time[walls], barrier_index=table.index[walls],
        )  # fmt: skip

    def latest(self, subject: I64, time: F64) -> I64:
        """Number of the last dose of a subject at or before a time, -1 without."""
        return _latest(self.subject, self.time, subject, time)

    def first(self, subject: I64) -> I64:
        """Number of the first dose of a subject."""
        return np.asarray(np.searchsorted(self.subject, subject), np.int64)

    def cleared(self, subject: I64, time: F64) -> I64:
        """Doses of records before this one are gone at (subject, time)."""
        row = _latest(self.barrier_subject, self.barrier_time, subject, time)
        return np.where(row >= 0, self.barrier_index[row] if len(self.barrier_index) else 0, 0)


def _latest(of_subject: I64, of_time: F64, subject: I64, time: F64) -> I64:
    """Number of the last item (in order of subject and time) of the subject with of_time <= time, else -1."""
    m = len(of_subject)
    who, when = np.concatenate([of_subject, subject]), np.concatenate([of_time, time])
    order = np.lexsort((np.arange(len(who)) >= m, when, who))
    last = np.maximum.accumulate(np.where(order < m, order, -1)) if len(who) else order
    found = np.empty(len(who), np.int64)
    found[order] = last
    found = found[m:]
    same = (found >= 0) & ((of_subject[found] if m else np.full(len(found), -1)) == subject)
    return np.where(same & ~np.isnan(time), found, -1)


def _clear(dynamics: Dynamics, events: Events) -> None:
    """InputError where the time since the last dose within a steady state is not known."""
    table = Table.of(events)
    dose = (table.kind == EventKind.DOSE) | (table.kind == EventKind.RESET_DOSE)
    steady = dose & (table.steady > 0)
    lagged = any(lag != Number(0.0) for lag in dynamics.lag.values())
    if steady.any() and (lagged or (table.amount[steady] == 0.0).any()):
        problem = "TAD and DOSE in the dynamics are not known in a steady state with a lag or of a constant infusion"
        raise InputError(problem, field="events.steady", remedy="write the doses out (additional doses)")


def _with_clocks(doses: _Doses, values: F64, changes: Changes) -> tuple[F64, Changes]:
    rows = _Rows.of(changes, doses.subject, doses.time)
    last = doses.latest(rows.subject, rows.time)
    found = last >= 0
    since, amount = (c[last] if len(c) else np.zeros(len(last)) for c in (doses.time, doses.amount))
    columns = np.stack([np.where(found, since, 0.0), found.astype(np.float64), np.where(found, amount, 0.0)], axis=1)
    return rows.widened(values, changes, columns, (0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Changes of parameters and what comes on top, in order; source: the change itself, -1 where it is new."""

    subject: I64
    time: F64
    late: NDArray[np.bool_]
    source: I64

    @classmethod
    def of(cls, changes: Changes, subject: I64, time: F64) -> _Rows:
        who = np.concatenate([changes.subject, subject])
        when = np.concatenate([changes.time, time])
        late = np.concatenate([changes.late, np.zeros(len(subject), np.bool_)])
        source = np.concatenate([np.arange(len(changes.time)), np.full(len(subject), -1)])
        order = np.lexsort((source < 0, late, when, who))
        return cls(subject=who[order], time=when[order], late=late[order], source=source[order])

    def widened(self, values: F64, changes: Changes, columns: F64, empty: tuple[float, ...]) -> tuple[F64, Changes]:
        """Parameters with `empty` behind, and their changes with `columns` (rows, k) behind."""
        n = len(values)
        at = np.where(self.source >= 0, np.arange(len(self.source)), -1)
        at = np.maximum.accumulate(at) if len(at) else at
        known = (at >= 0) & (self.subject[at] == self.subject) if len(at) else np.zeros(0, np.bool_)
        table = np.concatenate([values, changes.parameters])
        base = table[np.where(known, n + self.source[at], self.subject)] if len(at) else table[:0]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(self.subject, minlength=n))])
        wide: F64 = owned(np.column_stack([values, np.tile(empty, (n, 1))]), np.float64)
        return wide, Changes(
            offsets=offsets.astype(np.int64), time=self.time, late=self.late,
            parameters=owned(np.column_stack([base, columns]), np.float64),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arriving:
    """Doses on their way through transits, by dose: the columns of a slot, the mean and spread [h] of their transit."""

    doses: _Doses
    slot: F64
    mean: F64
    spread: F64
    end: F64


def _through_transits(
    compiled: Compiled, state: str, values: F64, events: Events, *, changes: Changes
) -> tuple[Compiled, F64, Changes]:
    arriving = _arriving(compiled.dynamics, state, values, events, changes=changes)
    doses = arriving.doses
    needed = _slots_needed(doses, arriving.end, len(values))
    slots = 1 << int(needed.max(initial=1) - 1).bit_length()  # a power of two, so that few solvers are ever compiled
    rows = _Rows.of(changes, *_stops(arriving))
    last, first = doses.latest(rows.subject, rows.time), doses.first(rows.subject)
    cleared, own = doses.cleared(rows.subject, rows.time), needed[rows.subject]
    columns = np.tile(np.array(_EMPTY), (len(last), slots, 1))
    for k in range(slots if len(doses.index) else 0):
        at = last - np.mod(last - first - k, own)
        there = (last >= 0) & (at >= first) & (k < own)
        there &= doses.index[np.maximum(at, 0)] >= cleared
        columns[there, k] = arriving.slot[at[there]]
    wide, moved = rows.widened(values, changes, columns.reshape(len(last), slots * len(_EMPTY)), _EMPTY * slots)
    return _sized(compiled, state, slots), wide, moved


def _stops(arriving: _Arriving) -> tuple[I64, F64]:
    """(subject, time) of arrivals, resets and the points of every dose at which the solver stops."""
    doses = arriving.doses
    subject, time = [doses.subject, doses.barrier_subject], [doses.time, doses.barrier_time]
    for sd in _POINTS:
        stop = arriving.mean + sd * arriving.spread
        subject.append(doses.subject[stop > 0.0])
        time.append((doses.time + stop)[stop > 0.0])
    return np.concatenate(subject), np.concatenate(time)


def _sized(compiled: Compiled, state: str, slots: int) -> Compiled:
    """The model with that many doses at once on their way to the state."""
    there = sum(name.startswith(f"{state}.") and name.endswith(".ktr") for name in compiled.dynamics.inputs)
    if there == slots:
        return compiled
    known: dict[tuple[str, int], Compiled] = compiled.__dict__.setdefault("_sized", {})
    if (state, slots) not in known:
        bigger = with_slots(compiled.dynamics, state, slots)
        known[state, slots] = replace(of_dynamics(bigger), kinds=compiled.kinds, choice=compiled.choice)
    return known[state, slots]


def _slots_needed(doses: _Doses, end: F64, n: int) -> I64:
    """How many doses are on their way at once, at most, in each subject (n,): its bits depend on itself alone."""
    needed, k = np.ones(n, np.int64), 1
    while k < len(end):
        over = (doses.subject[k:] == doses.subject[:-k]) & (doses.time[k:] < end[:-k])
        if not over.any():
            break
        needed[doses.subject[k:][over]] = k + 1
        k += 1
        if k > MOST:
            problem = f"more than {MOST} doses at once on their way through transits"
            raise InputError(problem, field="events", remedy="write the transits as states: d/dt(A1) = ...")
    return needed


def _arriving(dynamics: Dynamics, state: str, values: F64, events: Events, *, changes: Changes) -> _Arriving:
    table, transit = Table.of(events), dynamics.transits[state]
    _possible(table, dynamics.states.index(state), state)
    rows = np.concatenate([values, changes.parameters])
    known = {name: rows[:, k] for k, name in enumerate(dynamics.parameters[: rows.shape[1]])}
    force = in_force(changes, table.subject, table.time)

    def at(expr: Expr | None, default: float) -> F64:
        if expr is None:
            return np.full(len(force), default)
        column = np.broadcast_to(evaluate(inlined(expr, dynamics.assigned), known), (len(rows),))
        return np.asarray(column[force], np.float64)

    lag, n, mean = at(transit.lag, 0.0), at(transit.number, 0.0), at(transit.time, np.nan)
    share = at(transit.share, 1.0) * at(dynamics.scale.get(state), 1.0)
    good = (lag >= 0.0) & (lag < np.inf) & (n >= 0.0) & (n < np.inf) & (mean > 0.0) & (mean < np.inf)
    doses = _Doses.of(events, np.where(good, lag, 0.0), dynamics.states.index(state))
    pick = doses.place
    n, mean = (np.where(good, column, 1.0)[pick] for column in (n, mean))
    ktr = (n + 1.0) / mean
    amount = np.where(good[pick], doses.amount * share[pick], np.nan)  # a dose that is no dose fails its subject
    return _Arriving(
        doses=doses, slot=np.stack([doses.time, amount, _log_coefficient(n, ktr), n, ktr], axis=1), mean=mean,
        spread=np.sqrt(n + 1.0) / ktr, end=doses.time + _gone(n + 1.0) / ktr,
    )  # fmt: skip


def _possible(table: Table, target: int, state: str) -> None:
    here = table.target == target
    dose = (table.kind == EventKind.DOSE) | (table.kind == EventKind.RESET_DOSE)
    said: Mapping[str, NDArray[np.bool_]] = {
        "an infusion into a state with transits": here & dose & ((table.duration > 0.0) | (table.rate != 0.0)),
        "a steady state in a model with transits": dose & (table.steady > 0),
        "turning off a state with transits": here & ((table.kind == EventKind.OFF) | (table.kind == EventKind.ON)),
    }
    for what, where in said.items():
        if where.any():
            remedy = "write the doses out (additional doses)" if "steady" in what else "give boluses"
            raise InputError(f"{what} cannot be solved yet", field=f"doses.{state}.transit", remedy=remedy)


def _log_coefficient(n: F64, ktr: F64) -> F64:
    """log(ktr/n!)."""
    from pkpd.kernels.elementary import log_array
    from pkpd.model.special import lgamma

    return np.asarray(log_array(ktr) - lgamma(n + 1.0))


def _gone(shape: F64) -> F64:
    """x with Q(shape, x) <= exp(-(x - shape) + shape log(x/shape)) = TAIL, x > shape, by Newton's method from above."""
    from pkpd.kernels.elementary import log_array

    wanted = 30.0  # exp(-30) = 9e-14 < TAIL
    x = shape + wanted + np.sqrt(2.0 * shape * wanted)  # the bound is below TAIL here already
    for _ in range(6):
        excess = (x - shape) - shape * log_array(x / shape) - wanted
        x = x - excess / (1.0 - shape / x)
    return np.asarray(x * (1.0 + 1e-12))
