"""The two ways to solve a chunk of subjects: closed form, generated ODE solver. Both fill a `Result` in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import OFF, ON, RATE, STEADY, SUPERPOSE, Actions, Dosing, actions_of, owned
from pkpd.engine.changes import Changes, in_force
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.plan import Needs
from pkpd.engine.request import STATISTICS, Request, Result, Windows
from pkpd.engine.status import SolveStatus, Way
from pkpd.engine.structure import OneCompartment, inlined
from pkpd.engine.tangent_path import bigger
from pkpd.model.equations import Expr, evaluate
from pkpd.model.regimen import Events

__all__ = ["actions_in", "closed_chunk", "lost_parameters", "named", "needs_of", "ode_chunk"]

F64 = NDArray[np.float64]
_EVENT_COLUMNS = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")


def named(dynamics: Dynamics, parameters: F64) -> dict[str, F64]:
    """Columns of the parameters by name."""
    return {name: parameters[:, k] for k, name in enumerate(dynamics.parameters)}


def _per_subject(expr: Expr, values: Mapping[str, F64], dynamics: Dynamics, n: int) -> F64:
    found = evaluate(inlined(expr, dynamics.assigned), values)
    column: F64 = owned(np.broadcast_to(found, (n,)), np.float64)
    return column


def _dose_table(given: Mapping[str, Expr], default: float, dynamics: Dynamics, parameters: F64) -> F64:
    values = named(dynamics, parameters)
    table = np.full((len(parameters), len(dynamics.states)), default)
    for state, expr in given.items():
        table[:, dynamics.states.index(state)] = _per_subject(expr, values, dynamics, len(parameters))
    return table


def _dosing(dynamics: Dynamics, parameters: F64) -> Dosing:
    """How doses arrive under each row of parameters."""

    def table(given: Mapping[str, Expr], default: float) -> F64 | None:
        return _dose_table(given, default, dynamics, parameters) if given else None

    return Dosing(
        share=_dose_table(dynamics.bioavailability, 1.0, dynamics, parameters),
        lag=_dose_table(dynamics.lag, 0.0, dynamics, parameters), scale=table(dynamics.scale, 1.0),
        rate=table(dynamics.rate, np.nan), duration=table(dynamics.duration, np.nan),
    )  # fmt: skip


def _part(events: Events, lo: int, hi: int) -> Events:
    if lo == 0 and hi == len(events):
        return events
    first, last = events.offsets[lo], events.offsets[hi]
    return Events(events.offsets[lo : hi + 1] - first, *(getattr(events, c)[first:last] for c in _EVENT_COLUMNS))


def _rows(request: Request, lo: int, hi: int) -> tuple[F64, Changes]:
    """Rows of parameters: those of the subjects, then those of their changes; and the changes."""
    changes = request.changes.part(lo, hi)
    if not len(changes.time):
        return request.parameters[lo:hi], changes
    return np.concatenate([request.parameters[lo:hi], changes.parameters]), changes


def _stops(dynamics: Dynamics, rows: F64, changes: Changes) -> F64 | None:
    """Model event times (n, K), NaN where a subject has none: every row of parameters gives its own."""
    if not dynamics.stops:
        return None
    values, n = named(dynamics, rows), len(changes)
    columns = [_per_subject(expr, values, dynamics, len(rows)) for expr in dynamics.stops]
    found = [column[:n] for column in columns]
    if len(rows) > n:
        nth = np.arange(len(changes.time)) - changes.offsets[changes.subject]
        for column in columns:
            later = np.full((n, int(nth.max()) + 1), np.nan)
            later[changes.subject, nth] = column[n:]
            found += list(later.T)
    return np.stack(found, axis=1)


def actions_in(request: Request, lo: int, hi: int) -> Actions:
    """Actions of subjects lo:hi."""
    dynamics = request.compiled.dynamics
    rows, changes = _rows(request, lo, hi)
    stops, events, dosing = _stops(dynamics, rows, changes), _part(request.events, lo, hi), _dosing(dynamics, rows)
    simple = dynamics.tangent is None and stops is None and not len(changes.time)
    if simple and hi - lo > 1 and _alike(events, dosing):
        first: dict[str, Any] = {f.name: _first(getattr(dosing, f.name)) for f in fields(Dosing)}
        return _repeated(actions_of(_part(events, 0, 1), Dosing(**first)), hi - lo)
    actions = actions_of(events, dosing, changes, stops)
    if dynamics.tangent is None:
        return actions
    values = named(dynamics, rows)
    given = events, dosing, changes, stops
    return bigger(actions, given, dynamics, lambda expr: _per_subject(expr, values, dynamics, len(rows)))


def _first(table: F64 | None) -> F64 | None:
    return None if table is None else table[:1]


def _alike(events: Events, dosing: Dosing) -> bool:
    """Whether every subject has the same records and treats doses alike: then one subject's actions do for all."""
    counts = np.diff(events.offsets)
    if (counts != counts[0]).any():
        return False
    columns = (getattr(events, c) for c in _EVENT_COLUMNS)
    if not all((c.reshape(counts.size, -1) == c[: counts[0]]).all() for c in columns):
        return False
    tables = (getattr(dosing, f.name) for f in fields(Dosing))
    return all(t is None or ((t == t[0]) | (np.isnan(t) & np.isnan(t[0]))).all() for t in tables)


def _repeated(one: Actions, n: int) -> Actions:
    tiled: dict[str, Any] = {c: np.tile(getattr(one, c), n) for c in ("time", "kind", "target", "amount")}
    size = len(one.time)
    return replace(one, offsets=np.arange(n + 1) * size, place=np.full(n * size, -1), **tiled)


def lost_parameters(request: Request, result: Result, lo: int, hi: int) -> NDArray[np.bool_]:
    """Subjects lo:hi with a parameter that is not finite: NOT_FINITE."""
    bad: NDArray[np.bool_] = ~np.isfinite(request.parameters[lo:hi]).all(axis=1)
    changes = request.changes.part(lo, hi)
    np.logical_or.at(bad, changes.subject, ~np.isfinite(changes.parameters).all(axis=1))
    result.status[lo:hi][bad] = SolveStatus.NOT_FINITE
    return bad


def needs_of(actions: Actions, windows: Windows, block: tuple[int, ...] = ()) -> Needs:
    """What these actions and windows ask of a generated solver that carries the states `block` by their modes."""
    switches, steady = (bool(np.isin(actions.kind, kinds).any()) for kinds in ((OFF, ON), (STEADY, SUPERPOSE)))
    infused = [actions.target[actions.kind == RATE], actions.steady_target[~(actions.steady[:, 2] <= 0.0)]]
    return Needs(
        rates=not np.isin(np.concatenate(infused), block).all(), switches=switches, steady=steady,
        windows=bool(windows.lo.shape[1] * windows.lo.shape[2]),
    )  # fmt: skip


def ode_chunk(request: Request, result: Result, lo: int, hi: int) -> None:
    """Subjects lo:hi by the generated solver."""
    from pkpd.engine.load import solver

    actions = actions_in(request, lo, hi)
    windows = request.windows
    which = np.asarray([request.compiled.outputs.index(of) for of in windows.of], np.int64)
    method = request.method
    solver(request.compiled.text(method, needs=needs_of(actions, windows)))(
        request.parameters[lo:hi], actions.offsets, actions.time, actions.kind, actions.target, actions.amount,
        actions.steady, actions.steady_target, actions.parameters, request.start[lo:hi], request.sampled(lo, hi),
        request.after, which,
        windows.lo[lo:hi], windows.hi[lo:hi], windows.level, request.rtol, request.atol, request.patience(method),
        request.thresholds[lo:hi], result.crossings[lo:hi],
        result.values[lo:hi], result.stats[lo:hi], result.status[lo:hi],
    )  # fmt: skip
    lost_parameters(request, result, lo, hi)
    result.way[lo:hi] = Way.TSIT5 if method == "tsit5" else Way.RODAS5P


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """One chunk on its way through the closed form: where it lies, its parameters by name, the kernel's arguments.

    values: every row of parameters by name, (rows,): those of the n subjects, then those of their changes.
    """

    request: Request
    form: OneCompartment
    part: slice
    changes: Changes
    values: dict[str, F64]
    arguments: tuple[Any, ...]

    @property
    def dynamics(self) -> Dynamics:
        return self.request.compiled.dynamics

    @property
    def size(self) -> int:
        return int(self.part.stop - self.part.start)

    def column(self, expr: Expr) -> tuple[F64, F64]:
        """An expression of parameters: for the subjects, and after each change."""
        whole = _per_subject(expr, self.values, self.dynamics, self.size + len(self.changes.time))
        return whole[: self.size], whole[self.size :]

    def at(self, times: F64) -> dict[str, F64]:
        """Parameters in force at the samples: (n, 1), or (n, T) where they change."""
        if not len(self.changes.time):
            return {name: column[:, None] for name, column in self.values.items()}
        n, count = times.shape
        subject = np.repeat(np.arange(n), count)
        row = in_force(self.changes, subject, times.reshape(-1), samples=True, after=self.request.after)
        return {name: column[row].reshape(n, count) for name, column in self.values.items()}


def closed_chunk(request: Request, result: Result, lo: int, hi: int) -> None:
    """Subjects lo:hi by the one-compartment closed form."""
    form, dynamics = request.compiled.form, request.compiled.dynamics
    if form is None:
        raise TypeError("no closed form")
    rows, changes = _rows(request, lo, hi)
    values = named(dynamics, rows)
    chunk = _Closed(request=request, form=form, part=slice(lo, hi), changes=changes, values=values, arguments=())
    rates = (*chunk.column(form.ka), *chunk.column(form.ke))
    actions = _kernel_actions(actions_in(request, lo, hi), form, dynamics)
    chunk = replace(chunk, arguments=(rates[0], rates[2], rates[1], rates[3], *actions))
    lost = _closed_values(chunk, result)
    _closed_windows(chunk, result)
    bad = lost_parameters(request, result, lo, hi) | lost
    result.status[lo:hi][bad] = SolveStatus.NOT_FINITE
    result.way[lo:hi] = Way.CLOSED


def _kernel_actions(actions: Actions, form: OneCompartment, dynamics: Dynamics) -> tuple[NDArray[Any], ...]:
    local = np.asarray([0 if state == form.depot else 1 for state in dynamics.states], np.int32)
    return actions.offsets, actions.time, actions.kind, local[actions.target], actions.amount, actions.steady


def _closed_values(chunk: _Closed, result: Result) -> NDArray[np.bool_]:
    """Fill the outputs; which subjects have an amount that is not a number."""
    from pkpd.kernels.linear import amounts

    fill: Callable[..., None] = amounts
    times = chunk.request.sampled(chunk.part.start, chunk.part.stop)
    out = np.empty((chunk.size, 2, times.shape[1]))
    fill(*chunk.arguments, times, chunk.request.after, out)
    known = chunk.at(times)
    known |= {TIME: times, chunk.form.central: out[:, 1]}
    if chunk.form.depot is not None:
        known[chunk.form.depot] = out[:, 0]
    for k, expr in enumerate(chunk.dynamics.wanted().values()):
        result.values[chunk.part, k] = evaluate(inlined(expr, chunk.dynamics.assigned), known)
    lost: NDArray[np.bool_] = (~np.isfinite(out).all(axis=1) & ~np.isnan(times)).any(axis=1)
    return lost


def _closed_windows(chunk: _Closed, result: Result) -> None:
    from pkpd.kernels.linear import windows

    fill: Callable[..., None] = windows
    asked = chunk.request.windows
    for g, of in enumerate(asked.of):
        left, right = (np.ascontiguousarray(side[chunk.part, g]) for side in (asked.lo, asked.hi))
        out = np.empty((*left.shape, len(STATISTICS)))
        fill(*chunk.arguments, *chunk.column(chunk.form.scale[of]), left, right, asked.level[g], out)
        result.stats[chunk.part, g] = out
