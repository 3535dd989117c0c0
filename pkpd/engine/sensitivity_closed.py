"""Sensitivities of one compartment in closed form: rates by the kernel's own derivatives, doses by linearity.

The amounts are linear in the doses, so a derivative along anything that only moves doses (amount, bioavailability, lag)
is a solution of the same equations with other doses: dA/dp instead of A, and (f- - f+) dt/dp where a time moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.actions import ADD, RATE, RESET, STEADY, Actions, Dosing, actions_of
from pkpd.engine.augment import Augmented, derivatives_of
from pkpd.engine.build import Compiled
from pkpd.engine.changes import Changes
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.solve import solve
from pkpd.engine.structure import OneCompartment
from pkpd.engine.tangent_actions import Moved, moved
from pkpd.engine.tangent_path import slopes
from pkpd.model.equations import Expr, Number, evaluate, names
from pkpd.model.regimen import Events

__all__ = ["closed_gradient"]

F64 = NDArray[np.float64]
DEPOT, CENTRAL = 0, 1
Found = tuple[F64, F64, NDArray[np.int8]]
Given = tuple[F64, Events, ArrayLike, Changes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One call: the bigger model, the form, parameters by name (n,), rates (n,), actions with local targets."""

    model: Augmented
    form: OneCompartment
    values: Mapping[str, F64]
    ka: F64
    ke: F64
    actions: Actions
    records: Mapping[str, Moved]

    @property
    def dynamics(self) -> Dynamics:
        return self.model.compiled.dynamics


def closed_gradient(compiled: Compiled, model: Augmented, given: Given, *, scale: str, after: bool) -> Found | None:
    """values (n, output, T), gradient (n, output, direction, T), status; None where there is no closed form."""
    parameters, events, times, changes = given
    form = compiled.form
    plain = parameters[:, : len(compiled.parameters)] if parameters.ndim == 2 else parameters
    varying = compiled.dynamics.inputs or (changes is not None and len(changes.time))
    if form is None or varying or not _only_central(model, form):
        return None
    solution = solve(compiled, plain, events, times, windows={}, after=after)
    case = _case(model, form, parameters, events)
    if case is None:
        return None
    asked = np.array(np.broadcast_to(np.asarray(times, np.float64), solution.values[:, 0].shape), order="C")
    gradient = _gradient(case, asked, after, scale)
    gradient[solution.status != 0] = np.nan
    return solution.values, gradient, solution.status


def _only_central(model: Augmented, form: OneCompartment) -> bool:
    """Outputs that need the central amount only; no initial values (the form has none)."""
    dynamics = model.compiled.dynamics
    if any(expr != Number(0.0) for expr in dynamics.initial.values()):
        return False
    return form.depot is None or form.depot not in _reached(dynamics, dynamics.outputs)


def _reached(dynamics: Dynamics, wanted: tuple[str, ...]) -> set[str]:
    """Every name the outputs are made of; of a sensitivity `STATE/DIRECTION`, the state."""
    found, stack = set(), list(wanted)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += names(dynamics.assigned[name]) if name in dynamics.assigned else []
    return found | {name.partition("/")[0] for name in found if name not in dynamics.assigned}


def _case(model: Augmented, form: OneCompartment, parameters: F64, events: Events) -> _Case | None:
    dynamics, n = model.compiled.dynamics, len(parameters)
    values = {name: parameters[:, k] for k, name in enumerate(dynamics.parameters)}

    def column(expr: Expr) -> F64:
        return np.ascontiguousarray(np.broadcast_to(_evaluated(dynamics.assigned, expr, values), (n,)), np.float64)

    def table(given: Mapping[str, Expr], default: float) -> F64:
        found = np.full((n, len(dynamics.states)), default)
        for state, expr in given.items():
            found[:, dynamics.states.index(state)] = column(expr)
        return found

    kinds = ("scale", 1.0), ("rate", np.nan), ("duration", np.nan)
    more = {name: table(getattr(dynamics, name), default) for name, default in kinds if getattr(dynamics, name)}
    dosing = Dosing(share=table(dynamics.bioavailability, 1.0), lag=table(dynamics.lag, 0.0), **more)
    actions = actions_of(events, dosing)
    tangent = dynamics.tangent
    found = slopes(dynamics, tangent, column) if tangent is not None else {}
    records = moved(events, dosing, Changes.none(n, 0), found)
    if not _able(actions, records, dynamics, form):
        return None
    local = np.asarray([DEPOT if state == form.depot else CENTRAL for state in dynamics.states], np.int32)
    ka = np.ones(n) if form.depot is None else column(form.ka)
    return _Case(
        model=model, form=form, values=values, ka=ka, ke=column(form.ke), records=records,
        actions=replace(actions, target=local[actions.target], steady_target=local[actions.steady_target]),
    )  # fmt: skip


def _able(actions: Actions, records: Mapping[str, Moved], dynamics: Dynamics, form: OneCompartment) -> bool:
    """Kinds of action the kernel has derivatives of; steady states only with a lag and a duration that stay."""
    if not np.isin(actions.kind, (ADD, RATE, STEADY, RESET)).all():
        return False
    steady = actions.place[actions.kind == STEADY]
    if any((r.lag[steady] != 0.0).any() or (r.duration[steady] != 0.0).any() for r in records.values()):
        return False
    if form.depot is None:
        return True
    into = dynamics.states.index(form.depot)
    running = (actions.steady[:, 2] > 0.0) & (actions.steady_target == into)
    return not ((actions.kind == RATE) & (actions.target == into)).any() and not running.any()


def _evaluated(assigned: Mapping[str, Expr], expr: Expr, values: Mapping[str, F64]) -> F64:
    """Value of an expression whose names may be assigned ones, each of them evaluated once."""
    needed: set[str] = set()
    stack = list(names(expr))
    while stack:
        name = stack.pop()
        if name not in needed and name in assigned:
            needed.add(name)
            stack += names(assigned[name])
    known = dict(values)
    for name, text in assigned.items():
        if name in needed:
            known[name] = evaluate(text, known)
    return np.asarray(evaluate(expr, known), np.float64)


def _gradient(case: _Case, times: F64, after: bool, scale: str) -> F64:
    """(n, output, direction, T)."""
    from pkpd.kernels.linear import concentration_gradient

    order = np.argsort(times, axis=1, kind="stable")
    back = np.argsort(order, axis=1, kind="stable")
    ascending = np.take_along_axis(times, order, axis=1)
    one = np.ones(len(times))

    def solved(actions: Actions) -> tuple[F64, F64]:
        columns = (actions.offsets, actions.time, actions.kind, actions.target, actions.amount, actions.steady)
        value, slope = concentration_gradient(case.ka, case.ke, one, *columns, ascending, after)
        return np.take_along_axis(value, back, axis=1), np.take_along_axis(slope, back[:, None, :], axis=2)

    amount, by_rate = solved(case.actions)
    known = {name: x[:, None] for name, x in case.values.items()} | {TIME: times, case.form.central: amount}
    written, rates = derivatives_of(case.model.model, case.model.wrt, scale, (case.form.ka, case.form.ke))
    gradient = np.zeros((len(times), *case.model.where.shape, times.shape[1]))
    for k, name in enumerate(case.model.wrt):
        state = np.zeros_like(amount)
        for i in range(2):
            if (i, k) in rates and not (i == 0 and case.form.depot is None):
                state = state + by_rate[:, i] * _evaluated(written, rates[i, k], case.values)[..., None]
        if name in case.records:
            state = state + solved(_dosed(case, case.records[name]))[0]
        known[f"{case.form.central}/{name}"] = state
        for o in np.flatnonzero(case.model.where[:, k] >= 0):
            slope = case.dynamics.assigned[case.dynamics.outputs[case.model.where[o, k]]]
            gradient[:, o, k] = _evaluated(case.dynamics.assigned, slope, known)
    return gradient


def _dosed(case: _Case, record: Moved) -> Actions:
    """The doses whose amounts are the derivatives of the central and the depot amount along one direction."""
    base = case.actions
    place = np.maximum(base.place, 0)
    subject = np.repeat(np.arange(len(base.offsets) - 1), np.diff(base.offsets))
    given, infusion = base.place >= 0, base.kind == RATE
    end = infusion & np.signbit(base.amount)
    late = np.where(given, record.lag[place] + np.where(end, record.duration[place], 0.0), 0.0)
    late = np.where(infusion | (base.kind == ADD), late, 0.0)
    more = np.where(infusion, record.input[place], record.amount[place]) * np.where(end, -1.0, 1.0)
    more = np.where(base.kind == STEADY, base.amount, np.where(given, more, 0.0))
    depot = (base.target == DEPOT) & ~infusion
    moved_rate = np.where(depot, case.ka[subject], case.ke[subject]) * base.amount * late
    first = np.where(infusion, -base.amount * late, moved_rate)
    second = np.where(depot, -moved_rate, 0.0)
    extra = np.full(len(place), ADD, np.int8)
    steady = base.steady.copy()
    at = base.kind == STEADY
    steady[base.amount[at].astype(np.int64), 0] = record.amount[base.place[at]]
    return replace(
        base, offsets=base.offsets * 3, time=np.repeat(base.time, 3), steady=steady, place=np.repeat(base.place, 3),
        kind=np.stack([base.kind, extra, extra], axis=1).ravel(),
        target=np.stack([base.target, base.target, np.full(len(place), CENTRAL, np.int32)], axis=1).ravel(),
        amount=np.stack([more, first, second], axis=1).ravel(),
    )  # fmt: skip
