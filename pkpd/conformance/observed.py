"""What the text itself promises: its golden numbers, and residual errors that vanish with their standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.conformance.balance import nodes, panels
from pkpd.conformance.case import TIGHT, Case, typical
from pkpd.conformance.evidence import Check, Measured, NotApplicable
from pkpd.conformance.reading import Reading
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.model.equations import evaluate, reach
from pkpd.model.observed import ERROR_TERMS
from pkpd.model.parts import inside
from pkpd.model.regimen import Events, Regimen, Schedule

if TYPE_CHECKING:
    from pkpd.model.golden import Golden, GoldenValue
    from pkpd.residual import CombinedError

__all__ = ["CHECKS", "Profile", "golden_number", "profile_of"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The typical subject of a golden case as a function of time."""

    case: Case
    reading: Reading
    doses: Schedule

    def __call__(self, name: str, times: F64, *, after: bool = False) -> F64:
        """A state, parameter or equation at ascending times [h]; `after` the doses at that time."""
        known = self._known(name, times, after)
        found = np.asarray(known[name], np.float64)
        return np.array(np.broadcast_to(found, times.shape))

    def _known(self, wanted: str, times: F64, after: bool) -> dict[str, F64]:
        case, row = self.case, self.parameters
        events = Events.shared(self.doses, 1)
        given = {n: self.reading.constants[n] for n in case.model.inputs} if case.compiled.inputs else None
        settings = {"rtol": TIGHT, "atol": case.atol, "max_steps": 2_000_000, "after": after, "covariates": given}
        solved = solve(case.compiled, row, events, times, **settings).values[0]  # type: ignore[arg-type]
        known = self.reading.values(times, solved[: case.states])
        known |= dict(zip(case.outputs, solved, strict=True))
        if case.model.summaries:
            own = solve(compiled(case.model), row, events, times, **settings)  # type: ignore[arg-type]
            known |= {name: values[0] for name, values in own.summaries.items()}
        first = {str(o.previous.name): o.previous.first for o in case.model.outputs.values() if o.previous is not None}
        known |= {name: np.asarray(value) for name, value in first.items()}
        needed = reach(case.model.equations).get(wanted, frozenset()) | {wanted}
        for name, expr in case.model.response.items():
            if name in needed and name not in known:
                known[name] = np.asarray(evaluate(expr, known), np.float64)
        return known

    @property
    def parameters(self) -> F64:
        """(1, P) in the order the engine takes them."""
        return np.asarray([[self.reading.constants[n] for n in self.case.compiled.parameters]])

    @cached_property
    def breaks(self) -> F64:
        """Times at which doses arrive or infusions end."""
        lags = np.asarray([self.reading.dose(self.reading.states[k]).lag for k in self.doses.target])
        begin = self.doses.time + lags if len(lags) else np.empty(0)
        return np.concatenate([begin, begin + self.doses.duration])

    def end(self, value: GoldenValue, lasting: float) -> float:
        """End of the window; where the text leaves it open, `lasting` time constants after the last dose."""
        if value.until is not None:
            return value.until
        return max(value.from_, float(self.breaks.max(initial=0.0))) + lasting * self.case.times.slow


def profile_of(case: Case, golden: Golden) -> Profile:
    """The subject that a golden case describes."""
    constants = typical(case.model, golden.covariates)
    constants |= {n: q.to(case.model.parameters[n].unit) for n, q in golden.parameters.items()}
    doses = Regimen(golden.doses).schedule(case.model.dose_units)
    return Profile(case=case, reading=Reading(model=case.model, constants=constants), doses=doses)


def golden_number(profile: Profile, value: GoldenValue) -> float:
    """The number as the engine gives it, in inside units (time in hours)."""
    if value.as_ == "value":
        at = value.at if value.at is not None else 0.0
        return float(profile(value.of, np.asarray([at]))[0])
    if value.as_ == "area":
        edges = panels(profile.case, profile.breaks, profile.end(value, 45.0))
        edges = np.unique(np.append(edges[edges > value.from_], value.from_))
        points, weight = nodes(edges)
        return float((profile(value.of, points.ravel()).reshape(points.shape) * weight).sum())
    if value.as_ in ("time_above", "time_below"):
        return _time_above(profile, value)
    return _extreme(profile, value)


def _extreme(profile: Profile, value: GoldenValue) -> float:
    """The largest or smallest value, or its time: a graded grid, then seven rounds of closer ones around the best."""
    sign = 1.0 if value.as_.endswith("maximum") else -1.0
    end = profile.end(value, 10.0)
    edges = panels(profile.case, profile.breaks, end)
    grid = np.concatenate([a + (b - a) * np.arange(8) / 8.0 for a, b in pairwise(edges)])
    grid = np.unique(np.concatenate([grid[(grid > value.from_) & (grid < end)], [value.from_, end]]))
    best, at = -math.inf, value.from_
    for _ in range(8):
        both = [sign * profile(value.of, grid, after=after) for after in (False, True)]
        top = np.fmax(*both)
        k = int(np.argmax(top))
        if top[k] >= best:
            best, at = float(top[k]), float(grid[k])
        low, high = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        grid = np.linspace(low, high, 21)
    return at if value.as_.startswith("time_of") else sign * best


def _time_above(profile: Profile, value: GoldenValue) -> float:
    """Hours above (below) the limit: crossings on a graded grid, each closed in on five times."""
    assert value.limit is not None
    limit, sign = inside(value.limit), 1.0 if value.as_ == "time_above" else -1.0
    end = profile.end(value, 45.0)

    def above(times: F64) -> F64:
        return sign * (profile(value.of, times) - limit)

    edges = panels(profile.case, profile.breaks, end)
    grid = np.concatenate([a + (b - a) * np.arange(8) / 8.0 for a, b in pairwise(edges)])
    grid = np.unique(np.concatenate([grid[(grid > value.from_) & (grid < end)], [value.from_, end]]))
    over = above(grid) > 0.0
    total = float(np.diff(grid)[over[1:] & over[:-1]].sum())
    for k in np.flatnonzero(over[1:] != over[:-1]):
        cross = _crossing(above, float(grid[k]), float(grid[k + 1]))
        total += grid[k + 1] - cross if over[k + 1] else cross - grid[k]
    return float(total)


def _crossing(above: Callable[[F64], F64], low: float, high: float) -> float:
    for _ in range(5):
        fine = np.linspace(low, high, 17)
        over = above(fine) > 0.0
        k = int(np.argmax(over[1:] != over[:-1]))
        low, high = float(fine[k]), float(fine[k + 1])
    return 0.5 * (low + high)


def _expected(case: Case, value: GoldenValue) -> float:
    """The number of the text in inside units, or in the unit of the state or parameter it is of."""
    model = case.model
    unit = model.states.get(value.of) or (model.parameters[value.of].unit if value.of in model.parameters else None)
    if unit is not None and value.as_ in ("value", "maximum", "minimum"):
        return value.is_.to(unit)
    return inside(value.is_)


def golden(case: Case) -> Measured:
    """Distance of each exact golden number, in halves of its last promised digit."""
    worst, said, count, left = 0.0, "", 0, 0
    for name, given in case.model.golden.items():
        profile = profile_of(case, given)
        for value in given.values:
            if value.kind != "exact":
                left += 1
                continue
            count += 1
            expected, found = _expected(case, value), golden_number(profile, value)
            half = 0.5 * 10.0 ** (math.floor(math.log10(abs(expected))) - value.digits + 1) if expected else 1e-9
            apart = abs(found - expected) / half
            if not apart <= worst:
                worst, said = apart, f"{name}: {value.of} {value.as_} is {found:.7g}, text {expected:.7g}"
    if not count:
        raise NotApplicable("no golden number of the text is exact" if left else "the text has no golden numbers")
    note = f"{count} numbers" + (f", {left} of populations or from memory not compared" if left else "")
    return Measured(worst, 1.0 + 1e-6, f"{note}; furthest {said}" if said else note)


def residual(case: Case) -> Measured:
    """What is measured over the truth, as every standard deviation shrinks: a millionth of the noise, then none."""
    from pkpd.model.variability import point
    from pkpd.residual import CombinedError, error_of, observe

    draws, worst, names = point(case.model), 0.0, list[str]()
    f, z = np.asarray([0.3, 1.0, 50.0]), np.asarray([-2.0, 0.5, 3.0])
    for name, output in case.model.outputs.items():
        full = error_of(case.model, draws, name) if output.continuous else CombinedError()
        terms = {kind: np.asarray(getattr(full, kind)) for kind in ERROR_TERMS}
        if full.precision > 0.0 or not any(term.any() for term in terms.values()):
            continue
        names.append(name)
        unit = np.max(np.abs(observe(_shrunk(full, 1e-3), f, z) - f)) / 1e-3
        for share in (1e-6, 0.0):
            moved = np.max(np.abs(observe(_shrunk(full, share), f, z) - f))
            worst = max(worst, abs(float(moved - share * unit)) / float(unit))
    if not names:
        raise NotApplicable("no output has a residual standard deviation")
    return Measured(worst, 1e-8, ", ".join(names))


def _shrunk(error: CombinedError, share: float) -> CombinedError:
    """Every standard deviation times `share`."""
    additive, proportional, power, log = (share * np.asarray(getattr(error, kind)) for kind in ERROR_TERMS)
    return replace(error, additive=additive, proportional=proportional, power=power, log=log)


CHECKS: Final = (
    Check(name="golden", claim="typical subject = golden numbers of the text", measure=golden, dynamic=False),
    Check(name="residual", claim="no residual error = the truth", measure=residual, dynamic=False),
)
