"""The law of a risk over draws, from counts of simulated people: chance in finite numbers taken out.

Replicates have their own parameters and people; k of n have an event. The risk of a replicate is Beta with a mean and a
correlation within replicates, k is binomial given it (Skellam, J R Stat Soc B 1948;10:257). Mean and correlation are
integrated over a grid, each with Jeffreys' prior of a share, so that few events leave a wide law and none of n is not
certainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaln

from trials.designs.betas import Mixture

__all__ = ["RiskLaw", "risk_law"]

Floats = NDArray[np.float64]
MEANS, CORRELATIONS = 120, 40
WIDEST = 0.7
LEAST = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLaw:
    """The mixture over the grid; `above(limit)`: P(risk > limit) over draws and its 90 % interval."""

    mixture: Mixture

    def above(self, limit: float) -> tuple[float, float, float]:
        """P(risk > limit) over draws, with the 5 % and 95 % quantiles of it over what counts leave open."""
        w, a, b = self.mixture.arrays()
        each = betaincc(a, b, limit)
        order = np.argsort(each)
        reached = np.cumsum(w[order])
        low, high = (float(each[order][np.searchsorted(reached, q)]) for q in (0.05, 0.95))
        return float((w * each).sum()), low, high

    def mean_of(self, values: Floats, edges: Floats) -> Floats:
        """Mean of a function of the risk, given at the middle of bins between edges; values (..., bins)."""
        return np.asarray(values @ np.diff(self.mixture.cdf(edges)))


def risk_law(events: ArrayLike, people: ArrayLike) -> RiskLaw:
    """The law from counts (R,).

    >>> law = risk_law([0, 0, 0, 0], [50, 50, 50, 50])
    >>> 0.5 / 201 < law.mixture.mean < 0.5 / 5  # between 200 people who are independent and 4 groups that are one
    True
    """
    k, n = np.asarray(events, np.float64).reshape(-1), np.asarray(people, np.float64).reshape(-1)
    mean = np.sin(0.5 * np.pi * (np.arange(MEANS) + 0.5) / MEANS) ** 2
    top = 2.0 / np.pi * np.arcsin(np.sqrt(WIDEST))
    within = np.maximum(np.sin(0.5 * np.pi * top * (np.arange(CORRELATIONS) + 0.5) / CORRELATIONS) ** 2, LEAST)
    m, r = (x.reshape(-1) for x in np.meshgrid(mean, within, indexing="ij"))
    size = (1.0 - r) / r
    a, b = m * size, (1.0 - m) * size
    pairs, often = np.unique(np.stack([k, n]), axis=1, return_counts=True)
    log = np.zeros(a.size)
    for (x, y), times in zip(pairs.T, often, strict=True):
        log += times * (betaln(a + x, b + y - x) - betaln(a, b))
    w = np.exp(log - log.max())
    kept = w > 1e-9 * w.max()
    w = w[kept] / w[kept].sum()
    return RiskLaw(mixture=Mixture(weights=tuple(w.tolist()), a=tuple(a[kept].tolist()), b=tuple(b[kept].tolist())))
