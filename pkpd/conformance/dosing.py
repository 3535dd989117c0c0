"""Identities of doses: what arrives, when, superposition, steady state, additional doses, infusions, resets, ties."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pkpd.conformance.case import Case, Given, distance
from pkpd.conformance.evidence import Check, Measured, NotApplicable
from pkpd.model.regimen import EventKind

__all__ = ["CHECKS"]

F64 = NDArray[np.float64]
_MOST_DOSES = 3000


def _dosed(case: Case) -> list[str]:
    if not case.doses:
        raise NotApplicable("the text doses no state")
    return list(case.doses)


def _at_once(case: Case) -> list[str]:
    """Dosed states whose doses are not spread over transits."""
    found = [s for s in _dosed(case) if case.reading.dose(s).transit is None]
    if not found:
        raise NotApplicable("every dose is absorbed through transits")
    return found


def _autonomous(case: Case) -> None:
    if not case.reading.autonomous:
        what = ", ".join(sorted(case.reading.clocks)) or "a covariate that varies"
        raise NotApplicable(f"the equations read {what}: a later subject is another one")


def _linear(case: Case) -> list[int]:
    """Numbers of the outputs that are linear in the doses."""
    reach = set(_dosed(case))
    found = [
        k for k, name in enumerate(case.outputs)
        if name in case.reading.linear and case.reading.needs[name] & reach
    ]  # fmt: skip
    if not found or {"TAD", "DOSE"} & case.reading.clocks:
        raise NotApplicable("no output is linear in the doses")
    return found


def _named(case: Case, numbers: list[int]) -> str:
    return ", ".join(case.outputs[k] for k in numbers)


def arrival(case: Case) -> Measured:
    """The jump of each dosed state across the arrival of its dose, over what the text says; the others stay."""
    worst, said, tau = 0.0, [], case.times.interval
    for state in _at_once(case):
        facts, k = case.reading.dose(state), case.target(state)
        at, near = tau + facts.lag, 1e-7 * case.times.fast
        if facts.factor == 0.0:
            continue
        times = np.asarray([at - near, at + near])
        dosed, free = case.solve([[case.one(state, tau)], []], times)[:, : case.states]
        jump, expected = (dosed - free)[:, 1], np.zeros(case.states)
        expected[k] = facts.factor * case.doses[state]
        size = np.maximum(case.peaks[: case.states], abs(expected[k]) if _same_unit(case, state) else 0.0)
        size[k] = abs(expected[k])
        before = case.apart(dosed[:, :1], free[:, :1], slice(case.states))
        apart = np.divide(np.abs(jump - expected), size, out=np.zeros(case.states), where=size > 0)
        worst = max(worst, before, float(apart.max()))
        said.append(f"{state} x{facts.factor:.4g}")
    return Measured(worst, 1e-5, ", ".join(said))


def _same_unit(case: Case, state: str) -> bool:
    return case.model.dose_units[state] == case.model.states[state]


def lag(case: Case) -> Measured:
    """When the state jumps, from 4,001 samples around the dose, over the lag."""
    worst, said = 0.0, list[str]()
    lags = {s: case.reading.dose(s).lag for s in _at_once(case)}
    for state, length in lags.items():
        if length <= 0.0:
            continue
        begin = case.times.interval
        times = begin + length * np.linspace(-0.5, 2.5, 4001) * (1.0 + 1e-12)
        found = case.solve([[case.one(state, begin)]], times)[0, case.target(state)]
        step = int(np.argmax(np.abs(np.diff(found))))
        seen = 0.5 * (times[step] + times[step + 1]) - begin
        worst, said = max(worst, abs(seen - length) / length), [*said, f"{state} {length:.4g} h"]
    if not said:
        raise NotApplicable("the text has no lag")
    return Measured(worst, 1e-3, ", ".join(said))


def superposition(case: Case) -> Measured:
    """Responses to two dosings together against their sum."""
    names, numbers, tau = _dosed(case), _linear(case), case.times.interval
    first = [case.one(s) for s in names]
    second = [case.one(s, 1.3 * tau, 2.5) for s in names[::-1]]
    none, a, b, both = case.solve([[], first, second, first + second], case.grid)[:, numbers]
    return Measured(case.apart(both - none, (a - none) + (b - none), numbers), 1e-6, f"of {_named(case, numbers)}")


def proportionality(case: Case) -> Measured:
    """Responses to the usual regimen and to three times as much."""
    numbers, plan = _linear(case), case.usual()
    triple = [replace(g, amount=3.0 * g.amount) for g in plan]
    none, one, three = case.solve([[], plan, triple], case.grid)[:, numbers]
    return Measured(case.apart(three - none, 3.0 * (one - none), numbers), 1e-6, f"of {_named(case, numbers)}")


def additional(case: Case) -> Measured:
    """One record with ADDL against its doses one by one."""
    tau, short, long = case.times.interval, list[Given](), list[Given]()
    for k, state in enumerate(_dosed(case)):
        begin = 0.21 * k * tau
        short.append(case.one(state, begin, 1.0, interval=tau, more=4))
        long += [case.one(state, begin + i * tau) for i in range(5)]
    a, b = case.solve([short, long], case.grid)
    return Measured(case.apart(a, b), 1e-9, f"5 doses every {tau:g} h")


def steady(case: Case) -> Measured:
    """SS = 1 (bolus, infusion, infusion longer than II) against as many doses as it takes, over one interval."""
    _autonomous(case)
    tau, worst, said = _steady_interval(case), 0.0, []
    count = 1 + math.ceil(45.0 * case.times.slow / tau)
    if count > _MOST_DOSES:
        raise NotApplicable(f"a steady state would take {count} doses")
    for state in _at_once(case):
        for duration in (0.0, 0.3 * tau, 1.4 * tau):
            found = _against_brute_force(case, state, duration, count)
            worst = max(worst, found if isinstance(found, float) else 0.0)
            said.append(found if isinstance(found, str) else "")
    if all(said):
        raise NotApplicable(said[0])
    return Measured(worst, 1e-6, f"II {tau:g} h, {count} doses" + "".join(f"; {s}" for s in sorted({*said} - {""})))


def _steady_interval(case: Case) -> float:
    longest = max((case.reading.dose(s).lag for s in case.doses), default=0.0)
    return max(case.times.interval, 2.0 * longest)


def _against_brute_force(case: Case, state: str, duration: float, count: int) -> float | str:
    """Distance over one interval, with the first of three dose sizes that gets steady; or why none does."""
    tau, left = _steady_interval(case), 0.0
    inside = tau * (np.arange(23) + 0.381966) / 23.0
    for size, many in ((1.0, count), (0.1, count), (0.01, count), (1.0, 4 * count), (0.1, 4 * count)):
        atol = case.atol * size * min(1.0, case.doses[state] / case.peaks[: case.states].max())
        floor = 1e-6 * size * case.peaks
        doses = [case.one(state, i * tau, size, duration=duration) for i in range(many)]
        plans = [doses[: many - k] for k in range(3)]
        times = np.stack([(many - 1 - k) * tau + inside for k in range(3)])
        found = case.solve(plans, times, atol=atol)
        left = _remaining(distance(found[0], found[1], floor), distance(found[1], found[2], floor))
        if left <= 1e-7:
            ss = [case.one(state, 0.0, size, duration=duration, interval=tau, steady=1)]
            return distance(case.solve([ss], inside, atol=atol)[0], found[0], floor)
    return f"{state}: no steady state after {4 * count} doses (still {left:.1e} away)"


def _remaining(change: float, before: float) -> float:
    """Sum of the changes still to come if they shrink as the last two did."""
    ratio = change / before if before > 0.0 else 0.0
    return change / (1.0 - ratio) if change > 1e-10 and ratio < 1.0 else change if change <= 1e-10 else math.inf


def short_infusion(case: Case) -> Measured:
    """A dose over a ten-millionth of the shortest time constant against a bolus."""
    brief = 1e-7 * case.times.fast
    names = _at_once(case)
    bolus = [case.one(s, 0.1 * k * case.times.interval) for k, s in enumerate(names)]
    infused = [replace(g, duration=brief) for g in bolus]
    late = case.grid[case.grid > 1e3 * brief]
    a, b = case.solve([bolus, infused], late)
    return Measured(case.apart(a, b), 1e-5, f"over {brief:.1e} h")


def reset(case: Case) -> Measured:
    """What follows a reset with a dose (EVID 4), and one without (EVID 3), against a new subject."""
    _autonomous(case)
    at, names = 1.77 * case.times.interval, _dosed(case)
    times = np.stack([at + case.grid, case.grid, at + case.grid, case.grid])
    worst = 0.0
    for state in names:
        again = case.one(state, at, kind=EventKind.RESET_DOSE.value)
        gone = Given(time=at, amount=0.0, target=case.target(state), kind=EventKind.RESET.value)
        past = [g for g in case.usual() if g.time < at]
        found = case.solve([[*past, again], [case.one(state)], [*past, gone], []], times)
        worst = max(worst, case.apart(found[0], found[1]), case.apart(found[2], found[3]))
    return Measured(worst, 1e-6, f"at {at:g} h, with an infusion running")


def ties(case: Case) -> Measured:
    """Doses at one time: two are their sum, alone, under ADDL, at the end of an infusion; records in any order."""
    names, tau = _dosed(case), case.times.interval
    worst = 0.0
    for state in names:
        one, two = case.one(state, tau), case.one(state, tau, 0.5)
        series = case.one(state, 0.0, interval=tau, more=3)
        apart = [case.one(state, i * tau, 1.5 if i == 1 else 1.0) for i in range(4)]
        pairs = [([one, two], [case.one(state, tau, 1.5)]), ([series, two], apart), ([two, series], apart)]
        if case.reading.dose(state).transit is None:
            ending = case.one(state, 0.5 * tau, duration=0.5 * tau)
            pairs.append(([ending, one, two], [two, ending, one]))
        pairs += [([one, case.one(other, tau)], [case.one(other, tau), one]) for other in names if other != state]
        for left, right in pairs:
            worst = max(worst, case.apart(*case.solve([left, right], case.grid)))
    return Measured(worst, 1e-8, "sums, ADDL, end of an infusion, order of records")


CHECKS: Final = (
    Check(name="arrival", claim="a dose raises its state by share x scale x amount, and nothing else", measure=arrival),
    Check(name="lag", claim="a dose arrives at its time plus the lag", measure=lag),
    Check(name="superposition", claim="linear: doses together = sum of doses alone", measure=superposition),
    Check(
        name="proportionality", claim="linear: three times the dose, three times the response", measure=proportionality
    ),
    Check(name="additional_doses", claim="ADDL = explicit doses", measure=additional),
    Check(name="steady_state", claim="SS = long run of doses", measure=steady),
    Check(name="short_infusion", claim="short infusion -> bolus", measure=short_infusion),
    Check(name="reset", claim="reset and dose (EVID 4) = new subject", measure=reset),
    Check(name="ties", claim="doses at one time all count", measure=ties),
)
