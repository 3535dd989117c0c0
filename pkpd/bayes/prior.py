"""Priors of the population parameters, with what a report says of them: quantiles, sd, density.

Three families are enough for the hierarchy: a normal on the parameter's own scale for typical values, a half-normal for
standard deviations, and the marginal of an LKJ(shape) correlation matrix of size q, r = 2 Beta(b, b) - 1 with
b = shape + q/2 - 1 (Lewandowski, Kurowicka & Joe 2009, J Multivar Anal 100:1989, section 3).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Prior", "half_normal", "horseshoe", "lkj_correlation", "normal", "shares"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """`normal`: location, scale. `half_normal`: scale. `lkj`: scale is b of the Beta(b, b) of (r + 1)/2. `horseshoe`:
    scale of its slab, tail: global scale.
    """

    family: Literal["normal", "half_normal", "lkj", "horseshoe"]
    location: float = 0.0
    scale: float
    tail: float = 0.0

    def quantile(self, p: ArrayLike) -> Floats:
        """Quantiles at `p`.

        >>> half_normal(1.0).quantile(0.5).round(4)
        np.float64(0.6745)
        """
        from scipy import special

        q = np.asarray(p, np.float64)
        if self.family == "normal":
            return np.asarray(self.location + self.scale * special.ndtri(q))[()]
        if self.family == "half_normal":
            return np.asarray(self.scale * special.ndtri(0.5 + 0.5 * q))[()]
        if self.family == "horseshoe":
            return self._shrunk(q)
        return np.asarray(2.0 * special.betaincinv(self.scale, self.scale, q) - 1.0)[()]

    def _shrunk(self, q: Floats) -> Floats:
        """Quantiles of the normal mixture by bisection."""
        from scipy import special

        share = self.scale * shares(self.tail)
        high = np.full(q.shape, 40.0 * self.scale)
        low = -high
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = special.ndtr(middle[..., None] / share).mean(axis=-1) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray(0.5 * (low + high))[()]

    @property
    def sd(self) -> float:
        """Standard deviation.

        >>> round(lkj_correlation(2.0, 3).sd, 4)  # b = 2.5: 1/sqrt(6)
        0.4082
        """
        if self.family == "normal":
            return self.scale
        if self.family == "half_normal":
            return self.scale * math.sqrt(1.0 - 2.0 / math.pi)
        if self.family == "horseshoe":
            return self.scale * math.sqrt(float((shares(self.tail) ** 2).mean()))
        return 1.0 / math.sqrt(2.0 * self.scale + 1.0)

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "tail" or self.family == "horseshoe"}


def shares(tail: float) -> Floats:
    """Shares of the slab's sd that a regularised horseshoe of global scale `tail` leaves: a grid of equal weights."""
    u = np.tan(0.5 * np.pi * (np.arange(60) + 0.5) / 60)
    product = tail * u[:, None] * u[None, :]
    return np.asarray(product / np.sqrt(1.0 + product**2)).ravel()


def horseshoe(slab: float, tail: float) -> Prior:
    """Regularised horseshoe around 0: slab, its sd where nothing shrinks it; tail: scale of the global half-Cauchy."""
    return Prior(family="horseshoe", scale=slab, tail=tail)


def normal(location: float, scale: float) -> Prior:
    """Normal prior on the parameter's own scale."""
    return Prior(family="normal", location=location, scale=scale)


def half_normal(scale: float) -> Prior:
    """Half-normal prior of a standard deviation."""
    return Prior(family="half_normal", scale=scale)


def lkj_correlation(shape: float, size: int) -> Prior:
    """Marginal prior of one correlation of an LKJ(shape) matrix of `size` random effects."""
    return Prior(family="lkj", scale=shape + 0.5 * size - 1.0)
