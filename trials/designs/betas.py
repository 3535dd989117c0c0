"""Beta distributions and their mixtures as priors of a rate: updating, comparison of two arms, effective sample size.

A mixture is weights and parameters (K,). Everything is exact or by quadrature on the logit scale, where a Beta
density is smooth and its tails fall exponentially (the trapezoid rule converges geometrically).

Source: Bernardo & Smith, Bayesian Theory (1994), 5.2; Neuenschwander et al., Clin Trials 2010;7:5 (mixtures, sizes);
Neuenschwander et al., Biometrics 2020;76:578 (expected local-information-ratio effective sample size).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Mixture", "above", "fitted", "greater", "robust", "updated"]

Floats = NDArray[np.float64]
POINTS = 2001


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Sum of weight_k Beta(a_k, b_k); the weights sum to 1."""

    weights: tuple[float, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.a) == len(self.b) > 0:
            raise InputError("needs as many weights as components", field="weights", value=list(self.weights))
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-9:
            raise InputError("must be >= 0 and sum to 1", field="weights", value=list(self.weights))
        if min(*self.a, *self.b) <= 0:
            raise InputError("must be > 0", field="a", value=[list(self.a), list(self.b)])

    @classmethod
    def beta(cls, a: float, b: float) -> Mixture:
        """One Beta distribution."""
        return cls(weights=(1.0,), a=(a,), b=(b,))

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        """Weights, a and b (K,)."""
        parts = [np.asarray(part, dtype=np.float64) for part in (self.weights, self.a, self.b)]
        return parts[0], parts[1], parts[2]

    @property
    def mean(self) -> float:
        """Mean of the rate."""
        w, a, b = self.arrays()
        return float((w * a / (a + b)).sum())

    @property
    def sd(self) -> float:
        """Standard deviation of the rate."""
        w, a, b = self.arrays()
        square = float((w * a * (a + 1) / ((a + b) * (a + b + 1))).sum())
        return float(np.sqrt(square - self.mean**2))

    def cdf(self, rate: ArrayLike) -> Floats:
        """P(rate <= x)."""
        from scipy.special import betainc

        w, a, b = self.arrays()
        return np.asarray((w * betainc(a, b, np.asarray(rate, dtype=np.float64)[..., None])).sum(axis=-1))

    def quantile(self, level: ArrayLike) -> Floats:
        """Quantiles by bisection."""
        wanted = np.asarray(level, dtype=np.float64)
        low, high = np.zeros(wanted.shape), np.ones(wanted.shape)
        for _ in range(60):
            middle = (low + high) / 2
            under = self.cdf(middle) < wanted
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return np.asarray((low + high) / 2)

    @property
    def ess_moment(self) -> float:
        """Size of the Beta with the same mean and variance: mean (1 - mean)/variance - 1.

        >>> round(Mixture.beta(11, 32).ess_moment, 9)
        43.0
        """
        return self.mean * (1 - self.mean) / self.sd**2 - 1

    @property
    def ess_elir(self) -> float:
        """Expected local-information-ratio size: the prior's curvature over the information of one subject, on average.

        >>> round(Mixture.beta(11, 32).ess_elir, 6)
        43.0
        """
        logit, step = _logits(*self.arrays()[1:])
        rate = 1 / (1 + np.exp(-logit))
        w, a, b = self.arrays()
        each = w * np.exp(_log_density(a, b, logit))
        share = each / each.sum(axis=1, keepdims=True)
        x = rate[:, None]
        slope = (a - 1) / x - (b - 1) / (1 - x)
        bend = -(a - 1) / x**2 - (b - 1) / (1 - x) ** 2
        first = (share * slope).sum(axis=1)
        curvature = -((share * (bend + slope**2)).sum(axis=1) - first**2)
        return float((each.sum(axis=1) * curvature * rate * (1 - rate)).sum() * step)


def _log_density(a: Floats, b: Floats, logit: Floats) -> Floats:
    """Log density on the logit scale (G, K)."""
    from scipy.special import betaln

    x = logit[:, None]
    return np.asarray(-a * np.logaddexp(0.0, -x) - b * np.logaddexp(0.0, x) - betaln(a, b))


def _logits(a: Floats, b: Floats) -> tuple[Floats, float]:
    """Logits (G,) that hold all but 1e-14 of every component, and their step: the tails fall like e^(a x), e^(-b x)."""
    from scipy.special import digamma, polygamma

    centre, spread = digamma(a) - digamma(b), np.sqrt(polygamma(1, a) + polygamma(1, b))
    low = float((centre - np.maximum(9 * spread, 34 / a)).min())
    high = float((centre + np.maximum(9 * spread, 34 / b)).max())
    count = max(POINTS, int((high - low) / float(spread.min()) * 12) | 1)
    grid = np.linspace(low, high, count)
    return grid, float(grid[1] - grid[0])


def updated(prior: Mixture, events: int, n: int) -> Mixture:
    """Posterior after `events` among `n`: components updated, weights times their marginal likelihoods.

    >>> found = updated(robust(Mixture.beta(11, 32), 0.8), 6, 24)
    >>> round(found.weights[0], 6), round(found.mean, 6)
    (0.936779, 0.254711)
    """
    from scipy.special import betaln

    if not 0 <= events <= n:
        raise InputError("must be 0 ... n", field="events", value=[events, n])
    w, a, b = prior.arrays()
    with np.errstate(divide="ignore"):
        log = np.log(w) + betaln(a + events, b + n - events) - betaln(a, b)
    share = np.exp(log - log.max())
    return Mixture(
        weights=tuple((share / share.sum()).tolist()),
        a=tuple((a + events).tolist()),
        b=tuple((b + n - events).tolist()),
    )


def robust(informative: Mixture, weight: float, *, vague: tuple[float, float] = (1.0, 1.0)) -> Mixture:
    """`weight` of an informative prior and the rest of a vague Beta: borrowing that ends when the data disagree.

    Source: Schmidli et al., Biometrics 2014;70:1023.
    """
    if not 0 <= weight <= 1:
        raise InputError("must lie in 0 ... 1", field="weight", value=weight)
    return Mixture(
        weights=(*(weight * w for w in informative.weights), 1 - weight), a=(*informative.a, vague[0]),
        b=(*informative.b, vague[1]),
    )  # fmt: skip


def greater(first: Mixture, second: Mixture, *, margin: float = 0.0) -> float:
    """P(rate of the first > rate of the second + margin), independent, by quadrature over the second.

    >>> round(greater(Mixture.beta(2, 1), Mixture.beta(1, 1)), 9)
    0.666666667
    """
    return float(above([first], [second], margin=margin)[0, 0])


def above(first: Sequence[Mixture], second: Sequence[Mixture], *, margin: float = 0.0) -> Floats:
    """`greater` for every pair of two lists (F, S), on one grid of log odds that resolves every component."""
    logit, step = _logits(*(np.concatenate(part) for part in list(zip(*(m.arrays() for m in second)))[1:]))
    border = np.clip(1 / (1 + np.exp(-logit)) + margin, 0.0, 1.0)
    survive = np.stack([1 - mixture.cdf(border) for mixture in first])
    density = np.empty((len(second), logit.size))
    for place, mixture in enumerate(second):
        w, a, b = mixture.arrays()
        density[place] = (w * np.exp(_log_density(a, b, logit))).sum(axis=1)
    found = [(survive * row).sum(axis=1) * step for row in density]
    return np.asarray(np.stack(found, axis=1), dtype=np.float64)


def fitted(rate: Floats, weight: Floats, *, components: int = 1, sweeps: int = 400) -> Mixture:
    """A mixture of Betas close to a distribution given by points and their weights, by expectation-maximisation.

    Each component keeps the mean and variance of its share (moments within EM). For the MAP prior of `borrowing`, whose
    density is not a Beta.
    """
    mass = np.asarray(weight, dtype=np.float64) / np.sum(weight)
    cut = np.interp((np.arange(components) + 0.5) / components, np.cumsum(mass), rate)
    mean = float((mass * rate).sum())
    size = mean * (1 - mean) / float((mass * (rate - mean) ** 2).sum()) - 1
    w, a, b = np.full(components, 1 / components), np.maximum(cut * size, 0.1), np.maximum((1 - cut) * size, 0.1)
    logit = np.log(rate) - np.log1p(-rate)
    for _ in range(sweeps if components > 1 else 1):
        log = np.log(w) + _log_density(a, b, logit)
        share = np.exp(log - log.max(axis=1, keepdims=True))
        share *= (mass / share.sum(axis=1))[:, None]
        w = share.sum(axis=0)
        centre = (share * rate[:, None]).sum(axis=0) / w
        spread = (share * (rate[:, None] - centre) ** 2).sum(axis=0) / w
        total = centre * (1 - centre) / spread - 1
        a, b = centre * total, (1 - centre) * total
    return Mixture(weights=tuple((w / w.sum()).tolist()), a=tuple(a.tolist()), b=tuple(b.tolist()))
