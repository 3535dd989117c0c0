"""Identities of amounts: mass balance, AUC = F dose/CL, no amount below zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pkpd.conformance.case import Case, Given
from pkpd.conformance.evidence import Check, Measured, NotApplicable
from pkpd.conformance.scales import AMOUNTS, rounded
from pkpd.ground.units import factor, parsed

__all__ = ["CHECKS", "Disposition", "disposition", "panels"]

F64 = NDArray[np.float64]
_TAIL = 45.0
_LARGEST = 1e3  # a state in kg beside doses in mg is a body or a tumour, not drug


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """The states that hold the drug: numbers (G,), and `weight` (G,) that turns each into the unit of the first."""

    numbers: NDArray[np.int64]
    weight: F64
    doses: tuple[str, ...]


def disposition(case: Case) -> Disposition:
    """States with the dimension of a dosed amount, after a dosed state, empty and at rest before the dose.

    Errors: NotApplicable where the drug is not kept as an amount, or where some is made without a dose.
    """
    reading, units = case.reading, case.model.states
    dosed = [s for s in case.doses if parsed(units[s])[1] in AMOUNTS]
    if not dosed:
        raise NotApplicable("no dosed state is an amount")
    kind = parsed(units[dosed[0]])[1]
    dosed = [s for s in dosed if parsed(units[s])[1] == kind]
    start = reading.start
    numbers = [
        k for k, s in enumerate(reading.states)
        if parsed(units[s])[1] == kind and start[k] == 0.0 and reading.needs[s] & set(dosed)
        and factor(units[s], units[dosed[0]]) <= _LARGEST
    ]  # fmt: skip
    resting = np.abs(reading.slope(start)[numbers]).max(initial=0.0)
    if not numbers or resting > 0.0:
        raise NotApplicable("the amounts are not at rest without a dose")
    weight = [factor(units[reading.states[k]], units[dosed[0]]) for k in numbers]
    return Disposition(numbers=np.asarray(numbers, np.int64), weight=np.asarray(weight), doses=tuple(dosed))


def panels(case: Case, breaks: F64, end: float) -> F64:
    """Edges of panels that grow by 1.6 from 0.4 of the shortest time constant after each break, up to `end`."""
    edges = [0.0]
    stops = [*sorted({b for b in breaks.tolist() if 0.0 < b < end}), end]
    for stop in stops:
        width, begin = 0.4 * case.times.fast, edges[-1]
        while edges[-1] + 1.5 * width < stop:
            edges.append(edges[-1] + width)
            width = min(1.6 * width, 0.5 * case.times.slow)
        if stop > begin:
            edges.append(stop)
    return np.asarray(edges)


def nodes(edges: F64) -> tuple[F64, F64]:
    """Gauss-Legendre nodes and weights, 10 a panel; (panels, 10) each."""
    x, w = np.polynomial.legendre.leggauss(10)
    half = 0.5 * np.diff(edges)[:, None]
    return edges[:-1, None] + half * (1.0 + x), half * w


def mass_balance(case: Case) -> Measured:
    """|in - present - eliminated| / in after every panel; eliminated = integral of the outflow that the text says."""
    group = disposition(case)
    plan = [g for g in case.usual() if case.reading.states[g.target] in group.doses]
    if any(case.reading.dose(s).transit for s in group.doses):
        raise NotApplicable("doses are absorbed through transits")
    begins = [(g.time + case.reading.dose(case.reading.states[g.target]).lag, g.duration) for g in plan]
    breaks = np.asarray([t for begin, duration in begins for t in (begin, begin + duration)])
    edges = panels(case, breaks, case.times.horizon)
    middle = 0.5 * (edges[1:] + edges[:-1])  # the balance is taken here: an edge may be the time of a dose
    at, weight = nodes(np.sort(np.concatenate([edges, middle])))
    times = np.unique(np.concatenate([at.ravel(), middle]))
    found = case.solve([plan], times)[0, : case.states]
    lost = -(group.weight[:, None] * case.reading.slopes(times, found)[group.numbers]).sum(axis=0)
    gone = np.cumsum((lost[np.searchsorted(times, at)] * weight).sum(axis=1))[::2]
    there = np.searchsorted(times, middle)
    present = (group.weight[:, None] * found[group.numbers]).sum(axis=0)[there]
    given = sum((_given_by(case, group, g, middle) for g in plan), np.zeros(len(middle)))
    error, total, peak = np.abs(given - present - gone), float(given.max()), float(np.abs(lost).max(initial=0.0))
    made = max(0.0, -float(lost.min(initial=0.0))) / peak if peak > 0 else 0.0
    names = ", ".join(case.reading.states[n] for n in group.numbers)
    if made > 1e-6:
        return Measured(made, 1e-6, f"the equations of {names} make drug: their sum rises without a dose")
    tolerance = 1e-6 if _smooth(case) else 1e-3
    return Measured(float(error.max()) / total, tolerance, f"in {names}; {gone[-1] / total:.3g} eliminated")


def _given_by(case: Case, group: Disposition, dose: Given, times: F64) -> F64:
    """What has arrived of one dose until each time, in the unit of the group."""
    state = case.reading.states[dose.target]
    facts = case.reading.dose(state)
    size = dose.amount * facts.factor * group.weight[list(group.numbers).index(dose.target)]
    since = times - dose.time - facts.lag
    if dose.duration <= 0.0:
        return np.where(since >= 0.0, size, 0.0)
    return np.asarray(size * np.clip(since / dose.duration, 0.0, 1.0))


def _smooth(case: Case) -> bool:
    from pkpd.model import equations as eq

    kinked = {"if", "min", "max", "floor", "ceil", "abs"}
    lines = [*case.reading.assigned.values(), *case.model.derivatives.values()]
    return not any(isinstance(n, eq.Call) and n.function in kinked for e in lines for n in eq.walk(e))


def exposure(case: Case) -> Measured:
    """AUC above its baseline of every linear output by quadrature: F dose/CL, or (-A)^-1 where no CL is alone."""
    group = disposition(case)
    inside = frozenset(case.reading.states[k] for k in group.numbers)
    names = [
        n for n in case.outputs[case.states :]
        if n in case.reading.linear and case.reading.needs[n] and case.reading.needs[n] <= inside
    ]  # fmt: skip
    alone = all(case.reading.needs[s] <= inside and s in case.reading.linear for s in inside)
    if not (names and alone and case.reading.autonomous):
        raise NotApplicable("no output is linear in the drug alone")
    matrix = case.reading.jacobian(case.reading.start)[np.ix_(group.numbers, group.numbers)]
    rates = np.abs(np.linalg.eigvals(matrix).real)
    if rates.min() <= 1e-9 * rates.max():
        raise NotApplicable("some of the drug is never eliminated")
    worst, said = 0.0, ""
    for state in group.doses:
        found, expected, said = _areas(case, group, state, names=names, matrix=matrix)
        worst = max(worst, float(np.max(np.abs(found / expected - 1.0))))
    return Measured(worst, 1e-6, said)


def _areas(case: Case, group: Disposition, state: str, *, names: list[str], matrix: F64) -> tuple[F64, F64, str]:
    """Measured and expected AUC of the outputs after one dose, and the clearance where there is one."""
    facts, dose = case.reading.dose(state), case.one(state)
    lasting = 1.0 / np.abs(np.linalg.eigvals(matrix).real).min()
    end = facts.lag + _TAIL * rounded(float(lasting))
    at, weight = nodes(panels(case, np.asarray([facts.lag]), end) if facts.lag else panels(case, np.empty(0), end))
    profile = case.solve([[dose]], at.ravel())[0]
    k = [case.outputs.index(n) for n in names]
    base, slope = _line_of_outputs(case, group, names)
    found = ((profile[k] - base[:, None]).reshape(len(k), *at.shape) * weight).sum(axis=(1, 2))
    given = np.zeros(len(group.numbers))
    given[list(group.numbers).index(case.target(state))] = facts.factor * dose.amount
    exits = -(group.weight @ matrix) / group.weight
    leaves = np.flatnonzero(np.abs(exits) > 1e-9 * np.abs(exits).max())
    if len(leaves) == 1 and (slope[:, leaves[0]] != 0).all() and np.count_nonzero(slope) == len(names):
        clearance = exits[leaves[0]] / slope[:, leaves[0]]
        amount = float(group.weight @ given) / group.weight[leaves[0]]
        return found, amount / clearance, f"{names[0]} with CL {clearance[0]:.6g}"
    return found, slope @ np.linalg.solve(-matrix, given), f"of {', '.join(names)} by the rate matrix"


def _line_of_outputs(case: Case, group: Disposition, names: list[str]) -> tuple[F64, F64]:
    """Each output before any drug (names,), such as the baseline of QTc, and its change per unit of each drug state
    (names, G)."""
    start = case.reading.start
    rows = np.tile(start[:, None], (1, len(group.numbers) + 1))
    rows[group.numbers, 1 + np.arange(len(group.numbers))] += 1.0
    values = case.reading.values(np.zeros(rows.shape[1]), rows)
    table = np.asarray([np.broadcast_to(values[n], rows.shape[1:]) for n in names])
    return table[:, 0], np.asarray(table[:, 1:] - table[:, :1])


def non_negative(case: Case) -> Measured:
    """The deepest dive below zero over the peak, at default tolerances, of amounts and states that cannot cross it."""
    times = np.unique(np.concatenate([case.grid, np.linspace(0.0, case.times.horizon, 400)]))
    found = case.solve([case.usual()], times, rtol=1e-6, atol=1e-8)[0, : case.states]
    kept = [k for k in range(case.states) if _cannot_cross(case, k, times, found)]
    if not kept:
        raise NotApplicable("no state is an amount or is kept above zero by its equation")
    depth = [max(0.0, -float(found[k].min())) / max(float(np.abs(found[k]).max()), 1e-300) for k in kept]
    worst = int(np.argmax(depth))
    names = ", ".join(case.reading.states[k] for k in kept)
    note = f"lowest: {case.reading.states[kept[worst]]}" if depth[worst] > 0 else f"of {names}"
    return Measured(depth[worst], 1e-6, note)


def _of_drug(case: Case, k: int) -> bool:
    """Dosed, or in the unit of a dosed state that it follows; and an amount."""
    units, state = case.model.states, case.reading.states[k]
    before = [d for d in case.doses if d in case.reading.needs[state] and units[d] == units[state]]
    return bool(before) and parsed(units[state])[1] in AMOUNTS and case.reading.start[k] == 0.0


def _cannot_cross(case: Case, k: int, times: F64, found: F64) -> bool:
    """An amount of drug, or a state that starts >= 0 and whose slope at zero is >= 0 along the profile."""
    if _of_drug(case, k):
        return True
    if case.reading.start[k] < 0.0:
        return False
    floor = np.maximum(found, 0.0)
    floor[k] = 0.0
    slope = case.reading.slopes(times, floor)[k]
    return bool(np.isfinite(slope).all() and (slope >= -1e-12 * np.abs(slope).max(initial=0.0)).all())


CHECKS: Final = (
    Check(name="mass_balance", claim="amount in = amount present + eliminated", measure=mass_balance),
    Check(name="exposure", claim="linear: AUC = F dose/CL", measure=exposure),
    Check(name="non_negative", claim="no amount is below zero", measure=non_negative),
)
