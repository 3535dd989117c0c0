"""Group-sequential designs: critical values and futility bounds at K looks, one- or two-sided.

Boundary families: Pocock, Biometrika 1977;64:191; O'Brien & Fleming, Biometrics 1979;35:549; Wang & Tsiatis, Biometrics
1987;43:193; Haybittle, Br J Radiol 1971;44:793. Futility by beta spending: Pampallona, Tsiatis & Kim, Drug Inf J
2001;35:1113. Everything is on the scale of z; the effect is upwards.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pkpd.ground.errors import InputError
from trials.designs import spending
from trials.designs.recursion import START, Front, advance, between, outside, quantile, tail
from trials.designs.roots import root

__all__ = ["FAMILIES", "Boundaries", "Efficacy", "Futility", "Plan", "boundaries", "evenly"]

Floats = NDArray[np.float64]

FAMILIES = ("obrien_fleming", "pocock", "wang_tsiatis", "haybittle_peto", "none")
GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficacy:
    """When the null hypothesis is rejected: one of `family` and `spending`.

    family: obrien_fleming, pocock, wang_tsiatis (bounds c t^(shape - 1/2)), haybittle_peto (`early` before the last
    look), none (only at the last look). spending: a name of `spending.FUNCTIONS` with `shape`, or `given` with
    `cumulative`, the error spent up to each look.
    """

    family: str | None = None
    spending: str | None = None
    shape: float = 0.0
    early: float = 3.0
    cumulative: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Futility:
    """When the trial stops for lack of effect: `z` at all looks but the last (-inf: no stop), or a beta `spending`.

    binding: the critical values count on the stop, so that going on in spite of it spends too much alpha.
    """

    z: tuple[float, ...] = ()
    spending: str | None = None
    shape: float = 0.0
    cumulative: tuple[float, ...] = ()
    binding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A group-sequential plan; `information` increases up to 1, `alpha` is the error of all sides together.

    both_sides: with two sides, a rejection on the wrong side counts as power (it does not by default).
    """

    information: tuple[float, ...] = (1.0,)
    alpha: float = 0.025
    sides: int = 1
    power: float = 0.9
    efficacy: Efficacy = field(default_factory=lambda: Efficacy(family="obrien_fleming"))
    futility: Futility | None = None
    both_sides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundaries:
    """Arrays over looks (K): `upper` critical z, `lower` futility z (-inf where none; with two sides of |z|).

    stage_level: one-sided p of the critical value; alpha_spent, beta_spent: cumulative (NaN where beta is not spent).
    drift: sqrt of the maximum information x effect at which the plan has its power, where beta spending decides it.
    """

    plan: Plan
    information: Floats
    upper: Floats
    lower: Floats
    stage_level: Floats
    alpha_spent: Floats
    beta_spent: Floats
    drift: float = np.nan

    def regions(self, look: int) -> tuple[tuple[float, float], ...]:
        """Where the trial goes on after a look (0 .. K-1), on the scale of z."""
        return regions(float(self.lower[look]), float(self.upper[look]), self.plan.sides)


def evenly(looks: int) -> tuple[float, ...]:
    """Information fractions of equally spaced looks: `evenly(4)` is 0.25, 0.5, 0.75, 1."""
    return tuple((k + 1) / looks for k in range(looks))


def regions(lower: float, upper: float, sides: int) -> tuple[tuple[float, float], ...]:
    """Intervals of z in which the trial goes on. Two sides: a futility bound <= 0 stops nothing."""
    if sides == 1:
        return ((lower, upper),) if lower < upper else ()
    if lower <= 0:
        return ((-upper, upper),)
    return ((-upper, -lower), (lower, upper)) if lower < upper else ()


def boundaries(plan: Plan) -> Boundaries:
    """Solve a plan. Errors: InputError (fractions that do not increase, alpha spent twice, bounds that cross).

    >>> boundaries(Plan(information=evenly(2), efficacy=Efficacy(family="pocock"))).upper.round(4).tolist()
    [2.1783, 2.1783]
    """
    from trials.designs.checks import checked

    checked(plan)
    try:
        found = _solved(plan)
    except ValueError as error:  # no root: the rules contradict each other
        raise InputError(f"has no solution ({error})", field="futility" if plan.futility else "efficacy",
                         remedy="looser futility bounds, or fewer looks") from None  # fmt: skip
    if found.alpha_spent[-1] > plan.alpha * (1 + 1e-6):
        raise InputError(f"spends {found.alpha_spent[-1]:.4g}, more than alpha {plan.alpha:g}", field="efficacy",
                         remedy="a higher early bound, or a larger alpha")  # fmt: skip
    for look in range(len(plan.information) - 1):
        if not found.regions(look):
            value = [round(float(z), 4) for z in (found.lower[look], found.upper[look])]
            raise InputError(f"meets the critical value at look {look + 1}: nobody would go on", field="futility",
                             value=value, remedy="a lower futility bound, or end the trial there")  # fmt: skip
    return found


@functools.lru_cache(maxsize=256)
def _solved(plan: Plan) -> Boundaries:
    if plan.futility is None or not _spends(plan.futility):
        return _walk(plan, _constant(plan, np.nan), np.nan)

    def short(drift: float) -> float:
        return _Walk(plan, drift).beta_left(_constant(plan, drift))

    fixed = float(ndtri(1 - plan.alpha / plan.sides) + ndtri(plan.power))
    drift = root(short, 0.8 * fixed, 1.2 * fixed, grow=1.25)
    return _walk(plan, _constant(plan, drift), drift)


def _spends(futility: Futility) -> bool:
    return futility.spending is not None


def _constant(plan: Plan, drift: float) -> float:
    """The constant of a boundary family, NaN for plans that have none."""
    if plan.efficacy.family in (None, "haybittle_peto", "none"):
        return float("nan")
    single = float(ndtri(1 - plan.alpha / plan.sides))

    def excess(constant: float) -> float:
        return _Walk(plan, drift).alpha_of(constant) - plan.alpha

    return root(excess, single - 1e-9 if plan.futility is None else 0.2, single + 1.0, grow=1.3)


def _walk(plan: Plan, constant: float, drift: float) -> Boundaries:
    walk = _Walk(plan, drift)
    walk.through(constant)
    nothing = np.full(len(plan.information), np.nan)
    beta = np.cumsum(walk.beta) if plan.futility is not None and _spends(plan.futility) else nothing
    upper = np.array(walk.upper)
    return Boundaries(
        plan=plan, information=np.array(plan.information), upper=upper, lower=np.array(walk.lower),
        stage_level=ndtr(-upper), alpha_spent=np.cumsum(walk.alpha), beta_spent=beta, drift=drift,
    )  # fmt: skip


class _Walk:
    """One pass over the looks: a front under the null hypothesis and, for beta spending, one under the drift."""

    def __init__(self, plan: Plan, drift: float) -> None:
        self.plan, self.drift = plan, drift
        self.null, self.alternative = START, START
        self.upper: list[float] = []
        self.lower: list[float] = []
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.target = _alpha_targets(plan)
        self.allowed = _beta_targets(plan)

    def through(self, constant: float) -> None:
        for look in range(len(self.plan.information)):
            self._look(look, constant)

    def alpha_of(self, constant: float) -> float:
        self.through(constant)
        return sum(self.alpha)

    def beta_left(self, constant: float) -> float:
        """What P(no rejection under the drift) has too much; falls with the drift."""
        self.through(constant)
        return sum(self.beta) - (1 - self.plan.power)

    def _look(self, look: int, constant: float) -> None:
        plan, last = self.plan, look == len(self.plan.information) - 1
        information = plan.information[look]
        ahead = None if last else plan.information[look + 1]
        upper = self._critical(look, constant)
        lower = upper if last else self._futile(look, upper)
        self.upper.append(upper)
        self.lower.append(-np.inf if last else lower)
        self.alpha.append(_rejected(self.null, information, upper, plan.sides))
        if self.allowed is not None:
            self.beta.append(_accepted(self.alternative, (information, self.drift), lower, plan.sides))
            if not last:
                open_ = regions(lower, upper, plan.sides)
                self.alternative = _next(self.alternative, information, open_, drift=self.drift, ahead=ahead)
        if not last:
            kept = lower if plan.futility is not None and plan.futility.binding else -np.inf
            self.null = _next(self.null, information, regions(kept, upper, plan.sides), ahead=ahead)

    def _critical(self, look: int, constant: float) -> float:
        plan, rule = self.plan, self.plan.efficacy
        last = look == len(plan.information) - 1
        if rule.family == "haybittle_peto" and not last:
            return rule.early
        if rule.family == "none" and not last:
            return float("inf")
        if rule.family in ("obrien_fleming", "pocock", "wang_tsiatis"):
            power = {"obrien_fleming": -0.5, "pocock": 0.0}.get(rule.family, rule.shape - 0.5)
            return constant * float(plan.information[look] ** power)
        step = (plan.alpha if self.target is None else self.target[look]) - sum(self.alpha)
        return _bound(self.null, plan.information[look], step, plan.sides)

    def _futile(self, look: int, upper: float) -> float:
        futility = self.plan.futility
        if futility is None:
            return -np.inf
        if self.allowed is None:
            return min(futility.z[look], upper)
        step = self.allowed[look] - sum(self.beta)
        bound = _accept_bound(self.alternative, (self.plan.information[look], self.drift), step, self.plan.sides)
        return min(bound, upper)


def _next(front: Front, information: float, open_: tuple[tuple[float, float], ...], *, drift: float = 0.0,
          ahead: float | None = None) -> Front:  # fmt: skip
    if not open_:
        return Front(information=information, z=np.zeros(0), mass=np.zeros(0))
    return advance(front, information, open_, drift=drift, ahead=ahead)


def _alpha_targets(plan: Plan) -> Floats | None:
    """Cumulative alpha at each look, None where the bounds decide it."""
    rule = plan.efficacy
    if rule.spending is None:
        return None
    if rule.spending == GIVEN:
        return np.array(rule.cumulative)
    return spending.spent(rule.spending, plan.information, plan.alpha, shape=rule.shape, sides=plan.sides)


def _beta_targets(plan: Plan) -> Floats | None:
    rule, beta = plan.futility, 1 - plan.power
    if rule is None or rule.spending is None:
        return None
    if rule.spending == GIVEN:
        return np.array(rule.cumulative)
    return spending.spent(rule.spending, plan.information, beta, shape=rule.shape)


def _rejected(front: Front, information: float, upper: float, sides: int) -> float:
    if sides == 1:
        return tail(front, information, upper)
    return outside(front, information, ((-upper, upper),))


def _accepted(front: Front, at: tuple[float, float], lower: float, sides: int) -> float:
    information, drift = at
    if sides == 1:
        return tail(front, information, lower, drift=drift, upper=False) if lower > -np.inf else 0.0
    return between(front, information, (-lower, lower), drift=drift) if lower > 0 else 0.0


def _bound(front: Front, information: float, p: float, sides: int) -> float:
    """The critical value that spends p."""
    if p <= 0:
        return float("inf")
    if sides == 1:
        return quantile(front, information, p)
    guess = quantile(front, information, p / 2)
    if not np.isfinite(guess):
        return guess
    return root(lambda b: float(np.log(_rejected(front, information, b, 2) / p)), guess - 0.01, guess + 0.1, grow=1.1)


def _accept_bound(front: Front, at: tuple[float, float], p: float, sides: int) -> float:
    """The futility bound that spends p of beta; -inf where nothing is left to spend."""
    information, drift = at
    if p <= 0:
        return float("-inf")
    if sides == 1:
        return quantile(front, information, p, drift=drift, upper=False)
    if p >= float(front.mass.sum()):
        return float("inf")
    return root(lambda a: between(front, information, (-a, a), drift=drift) - p, 0.0, 1.0, grow=1.5)
