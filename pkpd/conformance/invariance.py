"""Identities of the solver: paths, tolerances, a second integrator, order, pieces, threads, units of time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.conformance.case import TIGHT, Case, Given, NotSolved, schedule, typical
from pkpd.conformance.evidence import Check, Measured, NotApplicable
from pkpd.conformance.scales import time_exponent
from pkpd.conformance.timeless import literal_of_time
from pkpd.engine.build import compiled
from pkpd.engine.solve import CHUNK, solve
from pkpd.ground.errors import InputError
from pkpd.ground.units import Quantity
from pkpd.model.regimen import Dose, Events, Regimen

__all__ = ["CHECKS", "UNSOLVED"]

F64 = NDArray[np.float64]
MINUTES: Final = {
    "s": 1 / 60, "min": 1.0, "h": 60.0, "hour": 60.0, "hours": 60.0, "d": 1440.0, "day": 1440.0, "days": 1440.0,
    "week": 10080.0, "weeks": 10080.0, "month": 43830.0, "months": 43830.0, "y": 525960.0, "year": 525960.0,
    "years": 525960.0, "ms": 1 / 60000,
}  # fmt: skip
"""Minutes in a unit of time: this table and no other is used to rewrite a text."""
UNSOLVED: Final = "does not solve every subject"
"""Said where one of several ways fails with its status: no number is wrong, but a way is missing."""
_RATIO = 60.0


def same_kernel(case: Case) -> Measured:
    """The solver that trials and fits use, outputs only, against the one examined here."""
    own = compiled(case.model)
    events = Events.pack([schedule(case.usual())])
    settings: dict[str, Any] = {"rtol": TIGHT, "atol": case.atol, "max_steps": 2_000_000, "windows": {}, **case.inputs}
    found = solve(own, case.parameters[None], events, case.grid, **settings).values
    there = [case.outputs.index(name) for name in own.outputs]
    if not there:
        raise NotApplicable("the text has no output of the dynamics")
    bar = 1e-7 if own.chosen == case.compiled.chosen else 1e-6  # two methods agree to what either is good for
    apart = case.apart(found, case.solve([case.usual()], case.grid)[:, there], there)
    return Measured(apart, bar, f"{own.chosen.method}: {', '.join(own.outputs)}")


def second_reading(case: Case) -> Measured:
    """The engine against SciPy's LSODA on the equations as NumPy reads them, piece by piece between doses."""
    if case.reading.clocks & {"TAD", "DOSE"}:
        raise NotApplicable("the equations read the last dose")
    if any(case.reading.dose(s).transit for s in case.doses):
        raise NotApplicable("doses are absorbed through transits")
    plan = case.usual()
    times = case.grid[case.grid < 4.2 * case.times.interval]
    found = case.solve([plan], times)[0, : case.states]
    return Measured(
        case.apart(found, _integrated(case, plan, times), slice(case.states)), 1e-5, "SciPy LSODA, rtol 1e-9"
    )


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


def _by_path(case: Case, path: str) -> F64 | None:
    """Profiles of 29 subjects one way, or None where the model or the engine does not have it."""
    try:
        return case.solve([case.usual()] * len(case.batch), case.grid, case.batch, path=path)
    except InputError:
        return None


def closed_form(case: Case) -> Measured:
    """Closed forms (of one compartment, of any linear model) against the generated integrator, 29 subjects."""
    found = {path: values for path in ("closed", "exact") if (values := _by_path(case, path)) is not None}
    if not found:
        raise NotApplicable("the model has no closed form")
    ode = case.solve([case.usual()] * len(case.batch), case.grid, case.batch, path="ode")
    return Measured(max(case.apart(values, ode) for values in found.values()), 1e-6, ", ".join(found))


def solvers(case: Case) -> Measured:
    """Tsit5 against Rodas5P, 29 subjects."""
    found: list[F64 | None] = []
    for path in ("tsit5", "rodas5p"):
        try:
            found.append(_by_path(case, path))
        except NotSolved as failure:
            raise NotApplicable(f"{path} {UNSOLVED}: {failure}") from failure
    one, other = found
    if one is None or other is None or np.array_equal(one, other):
        raise NotApplicable("the engine has one integrator only")
    return Measured(case.apart(one, other), 1e-5, "Tsit5 against Rodas5P")


def tolerance(case: Case) -> Measured:
    """Error of the default tolerances where a value exceeds 1e-3 of its peak, 29 subjects: four digits are promised."""
    plans = [case.usual()] * len(case.batch)
    loose = case.solve(plans, case.grid, case.batch, rtol=1e-6, atol=1e-8)
    tight = case.solve(plans, case.grid, case.batch, rtol=1e-10, atol=0.1 * case.atol)
    size = np.abs(tight)
    there = size > 1e-3 * size.max(axis=2, keepdims=True)
    apart = np.divide(np.abs(loose - tight), size, out=np.zeros_like(size), where=there)
    worst = np.unravel_index(int(np.argmax(apart)), apart.shape)
    return Measured(float(apart.max(initial=0.0)), 5e-5, f"largest in {case.outputs[worst[1]]}")


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
    settings: dict[str, Any] = {"rtol": 1e-5, **case.inputs}
    one, two = (solve(case.compiled, case.batch[rows], events, times, threads=k, **settings).values for k in (1, 2))
    return Measured(float(np.count_nonzero(one != two)), 0.0, f"values that differ, {n} subjects")


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
    return Measured(case.apart(hours, minutes * back[:, None]), 1e-6)


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
    """d output/d log p of the parameters that matter most, of the largest of each output, against central differences.

    What the differences of two steps leave open between them is not held against the engine.
    """
    from importlib.util import find_spec

    if find_spec("pkpd.engine.sensitivity") is None:
        raise NotApplicable("the engine has no sensitivities")
    from pkpd.engine.sensitivity import sensitivities as gradients

    if case.inputs and "covariates" not in signature(gradients).parameters:
        raise NotApplicable("the engine has no sensitivities yet where equations read covariates")
    slopes, doubt = _differences(case)
    size = np.abs(slopes).max(axis=2)
    least = np.maximum(1e-3 * size.max(axis=0), 1e-5 * case.peaks)  # less than this is the noise of a difference
    share = np.where(size > least, size, 0.0) / np.maximum(size.max(axis=0), 1e-300)
    rank = share.max(axis=1)
    most = min(
        max(24 // max(case.states, 1) - 1, 1), 3, int(np.count_nonzero(rank))
    )  # the compiler's time grows with it
    chosen = sorted(np.argsort(-rank, kind="stable")[:most].tolist())
    if not chosen:
        raise NotApplicable("no parameter is positive and matters")
    names = [case.compiled.parameters[k] for k in chosen]
    events = Events.pack([schedule(case.usual())])
    settings: dict[str, Any] = {"rtol": TIGHT, "atol": case.atol, "max_steps": 2_000_000, **case.inputs}
    found = gradients(case.compiled, case.parameters[None], events, case.grid, wrt=names, **settings)
    if failures := found.failures():
        raise NotApplicable(f"the sensitivity system {UNSOLVED}: {next(iter(failures)).name}")
    made = found.gradient[0].transpose(1, 0, 2)
    apart = np.maximum(np.abs(made - slopes[chosen]) - doubt[chosen], 0.0).max(axis=2)
    apart /= np.maximum(np.maximum(size[chosen], least), 1e-300)
    return Measured(float(np.nan_to_num(apart, nan=np.inf).max()), 1e-5, ", ".join(names))


def _differences(case: Case) -> tuple[F64, F64]:
    """d output/d log p by central differences of two steps (Richardson), and how far the two are apart.

    Each (P, output, T); 0 for parameters <= 0.
    """
    moves = [(k, h) for k in np.flatnonzero(case.parameters > 0.0) for h in (2e-4, -2e-4, 1e-4, -1e-4)]
    rows = np.tile(case.parameters, (len(moves), 1))
    for row, (k, h) in zip(rows, moves, strict=True):
        row[k] *= np.exp(h)
    out = np.zeros((len(case.parameters), len(case.outputs), len(case.grid)))
    doubt = np.zeros_like(out)
    if not moves:
        return out, doubt
    found = case.solve([case.usual()] * len(moves), case.grid, rows, rtol=1e-11, atol=0.01 * case.atol)
    for first in range(0, len(moves), 4):
        up, down, near, below = found[first : first + 4]
        wide, close = (up - down) / 4e-4, (near - below) / 2e-4
        out[moves[first][0]], doubt[moves[first][0]] = (4.0 * close - wide) / 3.0, np.abs(close - wide)
    return out, doubt


CHECKS: Final = (
    Check(name="second_reading", claim="engine = equations as text, integrated by SciPy", measure=second_reading),
    Check(name="same_kernel", claim="the solver of trials and fits = the one examined", measure=same_kernel),
    Check(name="closed_form", claim="closed form = ODE solver", measure=closed_form),
    Check(name="solvers", claim="one ODE solver = the other", measure=solvers),
    Check(name="tolerance", claim="default tolerances hold their error", measure=tolerance),
    Check(name="sensitivities", claim="sensitivities = finite differences", measure=sensitivities),
    Check(name="time_scaling", claim="in minutes = in hours", measure=time_scaling),
    Check(name="rewritten", claim="the text in other units = the text", measure=rewritten, dynamic=False),
    Check(name="permutation", claim="order of subjects changes no bit", measure=permutation),
    Check(name="pieces", claim="size of the batch changes no bit", measure=pieces),
    Check(name="threads", claim="number of threads changes no bit", measure=threads),
)
