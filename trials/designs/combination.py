"""Combination tests of stage-wise p-values: inverse normal and Fisher's product.

Inverse normal with weights fixed in advance: Lehmacher & Wassmer, Biometrics 1999;55:1286; the bounds are those of the
group-sequential plan. Fisher: Bauer & Koehne, Biometrics 1994;50:1029, for more looks Wassmer, Biometrics 1999;55:687;
a trial ends when prod p_j^w_j <= c_k (rejection) or p_k >= alpha_0k (futility).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from pkpd.ground.errors import InputError
from trials.designs.checks import increasing
from trials.designs.roots import root

__all__ = ["FisherPlan", "fisher_bounds", "fisher_spent", "inverse_normal", "product"]

Floats = NDArray[np.float64]

DEGREE = 30


def stage_weights(information: Sequence[float]) -> Floats:
    """sqrt of the planned information of each stage (K), the inverse normal weights."""
    return np.sqrt(np.diff(np.asarray(information, dtype=np.float64), prepend=0.0))


def inverse_normal(p: ArrayLike, information: Sequence[float]) -> Floats:
    """Combined z after each stage: p (..., K) stage-wise p-values -> (..., K).

    >>> inverse_normal([0.025, 0.025], [0.5, 1.0]).round(3).tolist()
    [1.96, 2.772]
    """
    return combined_z(np.asarray(-ndtri(np.asarray(p, dtype=np.float64)), dtype=np.float64), information)


def combined_z(z: Floats, information: Sequence[float]) -> Floats:
    """The same from stage-wise z (..., K)."""
    weights = stage_weights(information)[: z.shape[-1]]
    return np.asarray(np.cumsum(weights * z, axis=-1) / np.sqrt(np.cumsum(weights**2)))


def product(p: ArrayLike, weights: ArrayLike) -> Floats:
    """prod_{j<=k} p_j^w_j after each stage (..., K), as logarithm's exponential: tiny products stay exact."""
    return np.asarray(np.exp(np.cumsum(np.asarray(weights) * np.log(np.asarray(p, dtype=np.float64)), axis=-1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FisherPlan:
    """Fisher's combination over K looks.

    information: fractions, which give the weights sqrt(t_k - t_{k-1})/sqrt(t_1); futility: alpha_0 at all looks but the
    last (1: no stop); method: equal (the product of every look has the same level of its own), constant (one
    critical value), given (`critical` before the last look).
    """

    information: tuple[float, ...] = (0.5, 1.0)
    alpha: float = 0.025
    method: str = "equal"
    futility: tuple[float, ...] = ()
    critical: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        increasing(self.information, "looks")
        looks = len(self.information)
        if not 0 < self.alpha < 0.5:
            raise InputError("must be between 0 and 0.5", field="alpha", value=self.alpha, remedy="write 0.025")
        if self.method not in ("equal", "constant", "given"):
            raise InputError(
                "must be equal, constant or given", field="method", value=self.method, remedy="write equal"
            )
        if self.futility and len(self.futility) != looks - 1:
            problem = f"needs {looks - 1} values, one for each look but the last"
            raise InputError(problem, field="futility", value=list(self.futility), remedy="1 where none may stop")
        if any(not self.alpha < a <= 1 for a in self.futility):
            raise InputError("must lie between alpha and 1", field="futility", value=list(self.futility))
        if (self.method == "given") != (len(self.critical) == looks - 1 and looks > 1):
            problem = f"needs {looks - 1} values with method given, none else"
            raise InputError(problem, field="critical", value=list(self.critical), remedy="critical products c_k")

    @property
    def weights(self) -> Floats:
        return np.asarray(stage_weights(self.information) / np.sqrt(self.information[0]))

    @property
    def least(self) -> Floats:
        """-log alpha_0 by look: what -log p must exceed to go on."""
        futility = (*self.futility, 1.0) if self.futility else (1.0,) * len(self.information)
        return -np.log(np.array(futility))


class _Density:
    """The sub-density of S = sum w_j (-log p_j) of trials that go on, Chebyshev on pieces between its kinks."""

    def __init__(self, pieces: list[Chebyshev]) -> None:
        self.pieces = pieces

    def upto(self, end: float, tilt: float) -> float:
        """int_0^end f(x) exp(tilt x) dx."""
        total = 0.0
        for piece in self.pieces:
            low, high = piece.domain
            if end <= low:
                break
            total += float(_tilted(piece, tilt).integ(lbnd=low)(min(end, high)))
        return total


def _tilted(piece: Chebyshev, tilt: float) -> Chebyshev:
    """piece(x) exp(tilt x) on the same interval."""

    def at(x: Floats) -> Floats:
        return np.asarray(piece(x) * np.exp(tilt * x))

    return Chebyshev.interpolate(at, DEGREE, domain=piece.domain)


def _reject(front: _Density | None, bound: float, weight: float, least: float) -> float:
    """P(going on so far, then S >= bound); before the first look S is 0."""
    if front is None:
        return float(np.exp(-bound / weight))
    middle = bound - weight * least  # above it a p that rejects may yet be futile: futility wins
    head = front.upto(middle, 1 / weight) * float(np.exp(-bound / weight))
    rest = (front.upto(np.inf, 0.0) - front.upto(middle, 0.0)) * float(np.exp(-least))
    return head + rest


def _onward(front: _Density | None, bound: float, weight: float, least: float) -> _Density:
    """The density of S below `bound` after a look whose p must be below alpha_0."""
    shift = weight * least

    def at(s: float) -> float:
        if s < shift:
            return 0.0
        mass = 1.0 if front is None else front.upto(s - shift, 1 / weight)
        return mass * float(np.exp(-s / weight)) / weight

    kinks = {shift, bound}
    if front is not None:
        kinks |= {shift + float(edge) for piece in front.pieces for edge in piece.domain}
    edges = sorted(edge for edge in kinks if shift <= edge <= bound)
    pieces = [
        Chebyshev.interpolate(np.vectorize(at), DEGREE, domain=[low, high])
        for low, high in itertools.pairwise(edges)
        if high - low > 1e-12
    ]
    return _Density(pieces)


def fisher_spent(plan: FisherPlan, critical: Sequence[float]) -> Floats:
    """P(rejection at each look) under the null hypothesis (K) of critical values c_k.

    >>> plan = FisherPlan(alpha=0.05)
    >>> c = 0.0087  # Bauer & Koehne, alpha_0 = 1: P(p1 p2 <= c) = c (1 - log c)
    >>> round(float(fisher_spent(plan, [c, c]).sum()), 4), round(float(c * (1 - np.log(c))), 4)
    (0.05, 0.05)
    """
    front, out = None, []
    for k, c in enumerate(critical):
        bound, weight, least = -float(np.log(c)), float(plan.weights[k]), float(plan.least[k])
        out.append(_reject(front, bound, weight, least))
        if k < len(critical) - 1:
            front = _onward(front, bound, weight, least)
    return np.array(out)


def _of_level(plan: FisherPlan, look: int, level: float) -> float:
    """The critical value whose product alone, without any stop, has this level.

    Without stops a product once below c stays below it: the level is what constant bounds spend together.
    """
    if look == 0:
        return level
    free = FisherPlan(information=(*plan.information[: look + 1],) if look == len(plan.information) - 1 else
                      tuple(t / plan.information[look] for t in plan.information[: look + 1]))  # fmt: skip

    def excess(logarithm: float) -> float:
        return float(fisher_spent(free, [float(np.exp(logarithm))] * (look + 1)).sum()) - level

    return float(np.exp(root(excess, np.log(level) - 3.0 * look - 3.0, np.log(level))))


def fisher_bounds(plan: FisherPlan) -> Floats:
    """Critical values c_k (K) of a plan: together they spend alpha.

    >>> fisher_bounds(FisherPlan(alpha=0.025)).round(5).tolist()
    [0.01579, 0.00222]
    """
    return _solved(plan).copy()


@functools.lru_cache(maxsize=64)
def _solved(plan: FisherPlan) -> Floats:
    looks = len(plan.information)
    if looks == 1:
        return np.array([plan.alpha])
    if plan.method == "equal":

        def excess(level: float) -> float:
            return float(fisher_spent(plan, _equal(plan, level)).sum()) - plan.alpha

        return np.array(_equal(plan, root(excess, plan.alpha / looks, plan.alpha * 1.0, grow=1.2)))
    if plan.method == "constant":
        high = float(np.log(plan.alpha))

        def too_much(logarithm: float) -> float:
            return float(fisher_spent(plan, [float(np.exp(logarithm))] * looks).sum()) - plan.alpha

        return np.full(looks, np.exp(root(too_much, high - 3.0 * looks, high)))
    given = list(plan.critical)
    short = plan.alpha - float(fisher_spent(plan, given).sum())
    if short <= 0:
        raise InputError("spend all of alpha before the last look", field="critical", value=given,
                         remedy="smaller critical values")  # fmt: skip

    def missing(logarithm: float) -> float:
        return float(fisher_spent(plan, [*given, float(np.exp(logarithm))])[-1]) - short

    return np.array([*given, np.exp(root(missing, -40.0, float(np.log(given[-1]))))])


def _equal(plan: FisherPlan, level: float) -> list[float]:
    return [_of_level(plan, k, level) for k in range(len(plan.information))]
