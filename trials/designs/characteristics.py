"""What a group-sequential design does: where it stops under an effect, the information it needs and uses on average.

Effects are drifts: effect x sqrt(maximum information). Jennison & Turnbull, Group Sequential Methods, 2000, ch. 2, 19.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from trials.designs.recursion import START, Front, advance, between, tail
from trials.designs.roots import root
from trials.designs.sequential import Boundaries

__all__ = ["Characteristics", "Passage", "characteristics", "fixed_drift", "passage"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Probabilities by look (K): `reject` for an effect, `wrong` for one on the other side (two sides), `futile`.

    At the last look `futile` is P(no rejection there). `stop` is their sum: it adds up to 1.
    """

    information: Floats
    reject: Floats
    wrong: Floats
    futile: Floats

    @property
    def stop(self) -> Floats:
        return self.reject + self.wrong + self.futile

    @property
    def expected_information(self) -> float:
        """Mean information at the end, as a fraction of the maximum."""
        return float(np.sum(self.information * self.stop))

    @property
    def power(self) -> float:
        return float(np.sum(self.reject))


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristics:
    """Information is in units of 1/effect^2, so that the information of a fixed design is (z_alpha + z_beta)^2.

    inflation: maximum over fixed information; expected_*: mean over fixed information under the effect, half of it
    and none; under_effect: the `Passage` at the effect.
    """

    fixed_information: float
    maximum_information: float
    inflation: float
    expected_effect: float
    expected_half: float
    expected_null: float
    under_effect: Passage
    under_half: Passage
    under_null: Passage


def passage(bounds: Boundaries, drift: float) -> Passage:
    """Where the trial ends under a drift; futility stops are obeyed, binding or not.

    >>> from trials.designs.sequential import Plan, boundaries
    >>> found = passage(boundaries(Plan(information=(1.0,), alpha=0.025)), 0.0)
    >>> round(found.power, 6)
    0.025
    """
    front, sides, last = START, bounds.plan.sides, len(bounds.upper) - 1
    reject, wrong, futile = (np.zeros(last + 1) for _ in range(3))
    for k, (information, upper) in enumerate(zip(bounds.information, bounds.upper)):
        open_ = bounds.regions(k)
        reject[k] = tail(front, information, upper, drift=drift)
        if sides == 2:
            wrong[k] = tail(front, information, -upper, drift=drift, upper=False)
        inner = bounds.lower[k] if k < last else upper
        futile[k] = _futile(front, (information, drift), float(inner), sides)
        if k < last:
            front = advance(front, information, open_, drift=drift, ahead=float(bounds.information[k + 1]))
    return Passage(information=bounds.information, reject=reject, wrong=wrong, futile=futile)


def _futile(front: Front, at: tuple[float, float], inner: float, sides: int) -> float:
    information, drift = at
    if sides == 2:
        return between(front, information, (-inner, inner), drift=drift) if inner > 0 else 0.0
    return tail(front, information, inner, drift=drift, upper=False) if inner > -np.inf else 0.0


def characteristics(bounds: Boundaries) -> Characteristics:
    """Maximum and expected information for the plan's power.

    >>> from trials.designs.sequential import Efficacy, Plan, boundaries, evenly
    >>> plan = Plan(information=evenly(2), power=0.8, efficacy=Efficacy(family="pocock"))
    >>> round(characteristics(boundaries(plan)).inflation, 4)
    1.1104
    """
    return _characteristics(_Key(bounds))


class _Key:
    """Boundaries are arrays; what decides them is their plan."""

    def __init__(self, bounds: Boundaries) -> None:
        self.bounds = bounds

    def __hash__(self) -> int:
        return hash(self.bounds.plan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.bounds.plan == other.bounds.plan


@functools.lru_cache(maxsize=256)
def _characteristics(key: _Key) -> Characteristics:
    bounds, plan = key.bounds, key.bounds.plan
    fixed = fixed_drift(plan.alpha, plan.sides, plan.power, both_sides=plan.both_sides)
    drift = bounds.drift if np.isfinite(bounds.drift) else _drift(bounds, fixed)
    effect, half, null = (passage(bounds, drift * share) for share in (1.0, 0.5, 0.0))
    inflation = (drift / fixed) ** 2
    return Characteristics(
        fixed_information=fixed**2, maximum_information=drift**2, inflation=inflation,
        expected_effect=inflation * effect.expected_information, expected_half=inflation * half.expected_information,
        expected_null=inflation * null.expected_information,
        under_effect=effect, under_half=half, under_null=null,
    )  # fmt: skip


def fixed_drift(alpha: float, sides: int, power: float, *, both_sides: bool = False) -> float:
    """Effect x sqrt(information) at which one z test has its power.

    >>> round(fixed_drift(0.025, 1, 0.9) ** 2, 4)
    10.5074
    """
    critical = float(ndtri(1 - alpha / sides))
    single = critical + float(ndtri(power))
    if sides == 1 or not both_sides:
        return single
    return root(lambda d: float(ndtr(d - critical) + ndtr(-d - critical)) - power, 0.0, single + 1e-9)


def _drift(bounds: Boundaries, fixed: float) -> float:
    plan = bounds.plan

    def short(drift: float) -> float:
        found = passage(bounds, drift)
        return plan.power - found.power - (float(np.sum(found.wrong)) if plan.both_sides else 0.0)

    return root(short, 0.98 * fixed, 1.2 * fixed, grow=1.25)
