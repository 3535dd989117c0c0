"""The two ways to solve a chunk of subjects: closed form, generated ODE solver. Both fill a `Result` in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import Actions, actions_of, owned
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.request import Request, Result
from pkpd.engine.status import SolveStatus
from pkpd.engine.structure import OneCompartment, inlined
from pkpd.model.equations import Expr, evaluate
from pkpd.model.regimen import Events

__all__ = ["closed_chunk", "ode_chunk"]

F64 = NDArray[np.float64]


def _named(dynamics: Dynamics, parameters: F64) -> dict[str, F64]:
    return {name: parameters[:, k] for k, name in enumerate(dynamics.parameters)}


def _per_subject(expr: Expr, values: Mapping[str, F64], dynamics: Dynamics, n: int) -> F64:
    found = evaluate(inlined(expr, dynamics.assigned), values)
    column: F64 = owned(np.broadcast_to(found, (n,)), np.float64)
    return column


def _dose_table(given: Mapping[str, Expr], default: float, dynamics: Dynamics, parameters: F64) -> F64:
    values = _named(dynamics, parameters)
    table = np.full((len(parameters), len(dynamics.states)), default)
    for state, expr in given.items():
        table[:, dynamics.states.index(state)] = _per_subject(expr, values, dynamics, len(parameters))
    return table


def _part(events: Events, lo: int, hi: int) -> Events:
    if lo == 0 and hi == len(events):
        return events
    first, last = events.offsets[lo], events.offsets[hi]
    columns = ("time", "amount", "target", "duration", "interval", "steady")
    return Events(events.offsets[lo : hi + 1] - first, *(getattr(events, c)[first:last] for c in columns))


def _actions(request: Request, lo: int, hi: int) -> Actions:
    dynamics, parameters = request.compiled.dynamics, request.parameters[lo:hi]
    factor = _dose_table(dynamics.bioavailability, 1.0, dynamics, parameters)
    lag = _dose_table(dynamics.lag, 0.0, dynamics, parameters)
    return actions_of(_part(request.events, lo, hi), factor, lag)


def _not_finite(request: Request, result: Result, lo: int, hi: int) -> NDArray[np.bool_]:
    bad: NDArray[np.bool_] = ~np.isfinite(request.parameters[lo:hi]).all(axis=1)
    result.status[lo:hi][bad] = SolveStatus.NOT_FINITE
    return bad


def ode_chunk(request: Request, result: Result, lo: int, hi: int) -> None:
    """Subjects lo:hi by the generated solver."""
    from pkpd.engine.load import solver

    actions = _actions(request, lo, hi)
    windows = request.windows
    which = np.asarray([request.compiled.outputs.index(of) for of in windows.of], np.int64)
    solver(request.compiled.source)(
        request.parameters[lo:hi], actions.offsets, actions.time, actions.kind, actions.target, actions.amount,
        actions.steady, actions.steady_target, request.start[lo:hi], request.times[lo:hi], request.after, which,
        windows.lo[lo:hi], windows.hi[lo:hi], request.rtol, request.atol, request.max_steps,
        result.values[lo:hi], result.stats[lo:hi], result.status[lo:hi],
    )  # fmt: skip
    _not_finite(request, result, lo, hi)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """One chunk on its way through the closed form: where it lies, its parameters by name, the kernel's arguments."""

    request: Request
    form: OneCompartment
    part: slice
    values: dict[str, F64]
    arguments: tuple[Any, ...]

    @property
    def dynamics(self) -> Dynamics:
        return self.request.compiled.dynamics

    @property
    def size(self) -> int:
        return int(self.part.stop - self.part.start)


def closed_chunk(request: Request, result: Result, lo: int, hi: int) -> None:
    """Subjects lo:hi by the one-compartment closed form."""
    form, dynamics = request.compiled.form, request.compiled.dynamics
    if form is None:
        raise TypeError("no closed form")
    values = _named(dynamics, request.parameters[lo:hi])
    ka = _per_subject(form.ka, values, dynamics, hi - lo)
    ke = _per_subject(form.ke, values, dynamics, hi - lo)
    arguments = (ka, ke, *_kernel_actions(_actions(request, lo, hi), form, dynamics))
    chunk = _Closed(request=request, form=form, part=slice(lo, hi), values=values, arguments=arguments)
    lost = _closed_values(chunk, result)
    _closed_windows(chunk, result)
    bad = _not_finite(request, result, lo, hi) | lost
    result.status[lo:hi][bad] = SolveStatus.NOT_FINITE


def _kernel_actions(actions: Actions, form: OneCompartment, dynamics: Dynamics) -> tuple[NDArray[Any], ...]:
    local = np.asarray([0 if state == form.depot else 1 for state in dynamics.states], np.int32)
    return actions.offsets, actions.time, actions.kind, local[actions.target], actions.amount, actions.steady


def _closed_values(chunk: _Closed, result: Result) -> NDArray[np.bool_]:
    """Fill the outputs; which subjects have an amount that is not a number."""
    from pkpd.kernels.linear import amounts

    fill: Callable[..., None] = amounts
    times = chunk.request.times[chunk.part]
    out = np.empty((chunk.size, 2, times.shape[1]))
    fill(*chunk.arguments, times, chunk.request.after, out)
    known = {name: column[:, None] for name, column in chunk.values.items()}
    known |= {TIME: times, chunk.form.central: out[:, 1]}
    if chunk.form.depot is not None:
        known[chunk.form.depot] = out[:, 0]
    for k, expr in enumerate(chunk.dynamics.wanted().values()):
        result.values[chunk.part, k] = evaluate(inlined(expr, chunk.dynamics.assigned), known)
    lost: NDArray[np.bool_] = (np.isnan(out).any(axis=1) & ~np.isnan(times)).any(axis=1)
    return lost


def _closed_windows(chunk: _Closed, result: Result) -> None:
    from pkpd.kernels.linear import windows

    fill: Callable[..., None] = windows
    asked = chunk.request.windows
    for g, of in enumerate(asked.of):
        left, right = (np.ascontiguousarray(side[chunk.part, g]) for side in (asked.lo, asked.hi))
        out = np.empty((chunk.size, 3, left.shape[1]))
        fill(*chunk.arguments, left, right, out)
        scale = _per_subject(chunk.form.scale[of], chunk.values, chunk.dynamics, chunk.size)[:, None]
        stats, turned = result.stats[chunk.part, g], scale < 0.0
        stats[:, 0] = out[:, 0] * scale
        stats[:, 1] = np.where(turned, out[:, 2], out[:, 1]) * scale
        stats[:, 2] = np.where(turned, out[:, 1], out[:, 2]) * scale
