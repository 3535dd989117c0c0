"""Identities of the solver: paths, tolerances, a second integrator, order, pieces, threads, units of time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.conformance.case import TIGHT, Case, Given, NotSolved, distance, schedule, typical
from pkpd.conformance.evidence import Check, Measured, NotApplicable
from pkpd.conformance.scales import time_exponent
from pkpd.conformance.timeless import literal_of_time
from pkpd.engine.build import compiled
from pkpd.engine.solve import CHUNK, solve
from pkpd.ground.errors import InputError
from pkpd.ground.units import Quantity
from pkpd.model.regimen import Dose, Events, Regimen

__all__ = ["CHECKS"]

F64 = NDArray[np.float64]
MINUTES: Final = {
    "s": 1 / 60, "min": 1.0, "h": 60.0, "hour": 60.0, "hours": 60.0, "d": 1440.0, "day": 1440.0, "days": 1440.0,
    "week": 10080.0, "weeks": 10080.0, "month": 43830.0, "months": 43830.0, "y": 525960.0, "year": 525960.0,
    "years": 525960.0, "ms": 1 / 60000,
}  # fmt: skip
"""Minutes in a unit of time: this table and no other is used to rewrite a text."""
_RATIO = 60.0


def same_kernel(case: Case) -> Measured:
    """The solver that trials and fits use, outputs only, against the one examined here."""
    own = compiled(case.model)
    events = Events.pack([schedule(case.usual())])
    settings: dict[str, Any] = {"rtol": TIGHT, "atol": case.atol, "max_steps": 2_000_000, "windows": {}}
    found = solve(own, case.parameters[None], events, case.grid, **settings).values
    there = [case.outputs.index(name) for name in own.outputs]
    if not there:
        raise NotApplicable("the text has no output of the dynamics")
    return Measured(distance(found, case.solve([case.usual()], case.grid)[:, there]), 1e-7, ", ".join(own.outputs))


def second_reading(case: Case) -> Measured:
    """The engine against SciPy's LSODA on the equations as NumPy reads them, piece by piece between doses."""
    if case.reading.clocks & {"TAD", "DOSE"}:
        raise NotApplicable("the equations read the last dose")
    if any(case.reading.dose(s).transit for s in case.doses):
        raise NotApplicable("doses are absorbed through transits")
    plan = case.usual()
    times = case.grid[case.grid < 4.2 * case.times.interval]
    found = case.solve([plan], times)[0, : case.states]
    return Measured(distance(found, _integrated(case, plan, times)), 1e-5, "SciPy LSODA, rtol 1e-9")


def _integrated(case: Case, plan: list[Given], times: F64) -> F64:
    """(S, T) by SciPy, restarted at every change."""
    from scipy.integrate import solve_ivp

    jumps, rates = _changes(case, plan)
    y, rate, out = case.reading.start.copy(), np.zeros(case.states), np.empty((case.states, len(times)))
    stops = sorted({0.0, *jumps, *rates, float(times[-1])})
    for begin, end in pairwise(stops):
        y, rate = y + jumps.get(begin, 0.0), rate + rates.get(begin, 0.0)
        inside = (times > begin) & (times <= end)
        done = solve_ivp(
            _slope(case, rate), (begin, end), y, method="LSODA", rtol=1e-9, atol=case.atol,
            t_eval=np.unique(np.append(times[inside], end)),
        )  # fmt: skip
        if not done.success:
            raise NotApplicable(f"SciPy could not integrate the equations ({done.message})")
        out[:, inside] = done.y[:, np.searchsorted(done.t, times[inside])]
        y = done.y[:, -1]
    return out


def _slope(case: Case, rate: F64) -> Callable[[Any, F64], F64]:
    return lambda t, y: case.reading.slope(y, float(t)) + rate


def _changes(case: Case, plan: list[Given]) -> tuple[dict[float, F64], dict[float, F64]]:
    """Time -> change of the states; time -> change of the rates of infusion."""
    jumps, rates = dict[float, F64](), dict[float, F64]()

    def add(table: dict[float, F64], time: float, target: int, size: float) -> None:
        table.setdefault(time, np.zeros(case.states))[target] += size

    for g in plan:
        facts = case.reading.dose(case.reading.states[g.target])
        begin, size = g.time + facts.lag, g.amount * facts.factor
        if g.duration > 0.0:
            add(rates, begin, g.target, size / g.duration)
            add(rates, begin + g.duration, g.target, -size / g.duration)
        else:
            add(jumps, begin, g.target, size)
    return jumps, rates


def closed_form(case: Case) -> Measured:
    """Closed form against the generated integrator, 29 subjects."""
    plans = [case.usual()] * len(case.batch)
    try:
        closed = case.solve(plans, case.grid, case.batch, path="closed")
    except InputError as error:
        raise NotApplicable("the model has no closed form") from error
    return Measured(distance(closed, case.solve(plans, case.grid, case.batch, path="ode")), 1e-6)


def solvers(case: Case) -> Measured:
    """Every integrator of the engine against the first."""
    found = _methods()
    if len(found) < 2:
        raise NotApplicable("the engine has one integrator only")
    profiles = {m: case.solve([case.usual()], case.grid, path="ode", method=m) for m in found}
    first, *others = profiles.values()
    return Measured(max(distance(first, o) for o in others), 1e-5, " against ".join(profiles))


def _methods() -> tuple[str, ...]:
    """Names that `solve(method=...)` takes, where it takes any."""
    from pkpd.engine import solve as room

    return tuple(m for m in getattr(room, "METHODS", ()) if m != "auto")


def tolerance(case: Case) -> Measured:
    """Error of the default tolerances where a value exceeds 1e-3 of its peak, 29 subjects."""
    plans = [case.usual()] * len(case.batch)
    loose = case.solve(plans, case.grid, case.batch, rtol=1e-6, atol=1e-8)
    tight = case.solve(plans, case.grid, case.batch, rtol=1e-10, atol=0.1 * case.atol)
    size = np.abs(tight)
    there = size > 1e-3 * size.max(axis=2, keepdims=True)
    apart = np.divide(np.abs(loose - tight), size, out=np.zeros_like(size), where=there)
    worst = np.unravel_index(int(np.argmax(apart)), apart.shape)
    return Measured(float(apart.max(initial=0.0)), 2e-5, f"largest in {case.outputs[worst[1]]}")


def _population(case: Case) -> list[list[Given]]:
    """29 subjects with histories of their own: none, one, several records, infusions."""
    usual = case.usual()
    return [usual[: 1 + i % (len(usual) + 1)][::-1][: 1 + i % 3] if i % 7 else [] for i in range(len(case.batch))]


def permutation(case: Case) -> Measured:
    """Bits of 29 subjects in two orders."""
    plans = _population(case)
    order = (11 * np.arange(len(plans)) + 5) % len(plans)
    straight = case.solve(plans, case.grid, case.batch)
    mixed = case.solve([plans[i] for i in order], case.grid, case.batch[order])
    return Measured(float(np.count_nonzero(straight[order] != mixed)), 0.0, "values that differ")


def pieces(case: Case) -> Measured:
    """Bits of 29 subjects together, in three batches and one by one."""
    plans, n = _population(case), len(case.batch)
    whole, count = case.solve(plans, case.grid, case.batch), 0
    for cuts in ([0, 3, 19, n], list(range(n + 1))):
        parts = [case.solve(plans[a:b], case.grid, case.batch[a:b]) for a, b in pairwise(cuts)]
        count += int(np.count_nonzero(np.concatenate(parts) != whole))
    return Measured(float(count), 0.0, "values that differ")


def threads(case: Case) -> Measured:
    """Bits of one thread and of two, on more subjects than one chunk holds, over a short time."""
    n = CHUNK + len(case.batch)
    rows = np.arange(n) % len(case.batch)
    plans = [[g for g in plan if g.time < 0.5 * case.times.interval] for plan in _population(case)]
    events = Events.pack([schedule(p) for p in plans]).subjects(rows)
    times = 0.5 * case.times.interval * (np.arange(5) + 0.38) / 5.0
    found = [
        solve(case.compiled, case.batch[rows], events, times, rtol=1e-5, threads=k).values for k in (1, 2)
    ]  # fmt: skip
    return Measured(float(np.count_nonzero(found[0] != found[1])), 0.0, f"values that differ, {n} subjects")


def time_scaling(case: Case) -> Measured:
    """The model with every rate per minute, dosed and sampled in minutes."""
    if (why := literal_of_time(case.reading)) is not None:
        raise NotApplicable(why)
    scale = np.asarray([_RATIO ** time_exponent(_unit(case, name)) for name in case.compiled.parameters])
    plan = case.usual()
    slow = [replace(g, time=_RATIO * g.time, duration=_RATIO * g.duration) for g in plan]
    minutes = case.solve([slow], _RATIO * case.grid, (case.parameters * scale)[None])
    hours = case.solve([plan], case.grid)
    back = np.asarray([_RATIO**-power for power in _exponents(case)])
    return Measured(distance(hours, minutes * back[:, None]), 1e-6)


def _unit(case: Case, name: str) -> str:
    found = case.model.parameters.get(name)
    return found.unit if found is not None else case.model.inputs[name].unit


def _exponents(case: Case) -> list[float]:
    """Power of time in the unit of each output."""
    from pkpd.conformance.timeless import exponents

    table = exponents(case.reading)
    return [table.get(name) or 0.0 for name in case.outputs]


def rewritten(case: Case) -> Measured:
    """Typical values and doses written in other units of time and mass give the same numbers."""
    model = case.model
    other = replace(model, parameters={name: _in_minutes(p) for name, p in model.parameters.items()})
    before, after = typical(model), typical(other)
    worst = max(abs(after[n] - before[n]) / max(abs(before[n]), 1e-300) for n in before)
    for state, unit in model.dose_units.items():
        if state in case.doses:
            worst = max(worst, _dose_in_other_units(case, state, unit))
    return Measured(worst, 1e-12)


def _in_minutes(p: Any) -> Any:
    """The parameter with its typical value per minute instead of per hour or day."""
    value, atoms = float(p.typical), []
    for sign, atom in zip(["*", *re.findall(r"[*/]", p.typical.unit)], re.split(r"[*/]", p.typical.unit), strict=True):
        head, _, power = atom.partition("^")
        if head in MINUTES:
            value *= MINUTES[head] ** ((1 if sign == "*" else -1) * int(power or 1))
            atom = atom.replace(head, "min", 1)
        atoms.append(atom)
    signs = re.findall(r"[*/]", p.typical.unit)
    unit = atoms[0] + "".join(s + a for s, a in zip(signs, atoms[1:], strict=True))
    return replace(p, typical=Quantity(value, unit), prior=None)


MASSES: Final = {
    "kg": 1e6, "g": 1e3, "mg": 1.0, "ug": 1e-3, "ng": 1e-6, "mol": 1e3, "mmol": 1.0, "umol": 1e-3, "nmol": 1e-6,
}  # fmt: skip
"""mg or mmol in a unit, likewise."""


def _dose_in_other_units(case: Case, state: str, unit: str) -> float:
    """Relative difference of a schedule written in the state's unit and hours, and in another one and days."""
    head, slash, rest = unit.partition("/")
    amount, tau = case.doses[state], case.times.interval
    again = unit
    if head in MASSES:
        again = ("g" if head.endswith("g") else "mol") + slash + rest
        amount *= MASSES[head] / 1e3
    plain = Dose(amount=Quantity(case.doses[state], unit), into=state, every=tau, times=3)
    other = Dose(amount=Quantity(amount, again), into=state, every=tau, times=3)
    a, b = (Regimen((d,)).schedule(case.model.dose_units) for d in (plain, other))
    return float(np.max(np.abs(b.amount / a.amount - 1.0)) + np.max(np.abs(a.amount / case.doses[state] - 1.0)))


def sensitivities(case: Case) -> Measured:
    """Derivatives by the parameters against central differences."""
    from importlib.util import find_spec

    if find_spec("pkpd.engine.sensitivity") is None:
        raise NotApplicable("the engine has no sensitivities yet")
    raise NotSolved("sensitivities are not examined yet")


CHECKS: Final = (
    Check(name="second_reading", claim="engine = equations as text, integrated by SciPy", measure=second_reading),
    Check(name="same_kernel", claim="the solver of trials and fits = the one examined", measure=same_kernel),
    Check(name="closed_form", claim="closed form = ODE solver", measure=closed_form),
    Check(name="solvers", claim="one ODE solver = the other", measure=solvers),
    Check(name="tolerance", claim="default tolerances hold their error", measure=tolerance),
    Check(name="sensitivities", claim="sensitivities = finite differences", measure=sensitivities),
    Check(name="time_scaling", claim="in minutes = in hours", measure=time_scaling),
    Check(name="rewritten", claim="the text in other units = the text", measure=rewritten),
    Check(name="permutation", claim="order of subjects changes no bit", measure=permutation),
    Check(name="pieces", claim="size of the batch changes no bit", measure=pieces),
    Check(name="threads", claim="number of threads changes no bit", measure=threads),
)
