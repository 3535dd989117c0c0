"""The joint distribution of test statistics over looks, by recursive numerical integration.

Z_k ~ N(drift sqrt(I_k), 1), Cov(Z_j, Z_k) = sqrt(I_j/I_k) for j <= k. The sub-density of "still going after look k" is
carried from look to look (Armitage, McPherson & Rowe, JRSS A 1969;132:235; Jennison & Turnbull, Group Sequential
Methods, 2000, ch. 19). Nodes: Gauss-Legendre on panels as wide as the density is smooth, so that the error is below
1e-10 with some 100 nodes a look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from trials.designs.roots import root

__all__ = ["START", "Front", "advance", "between", "outside", "quantile", "tail"]

Floats = NDArray[np.float64]
Regions = Sequence[tuple[float, float]]

REACH = 8.3  # standard deviations of the statistic that are looked at: 1e-16 beyond
DENSE = 400_000  # pairs of nodes: with more, looks are so close that most pairs are out of reach
PANEL = 3.0  # widths of the narrowest normal density of the integrand that one panel covers
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_SCALE = 1 / np.sqrt(2 * np.pi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Where the statistic may be after a look at `information` if the trial goes on: nodes `z` (n), `mass` (n)."""

    information: float
    z: Floats
    mass: Floats


START = Front(information=0.0, z=np.zeros(1), mass=np.ones(1))
"""Before the first look."""


def _moments(front: Front, information: float, drift: float) -> tuple[Floats, float]:
    """Mean (n) and standard deviation of the next statistic given each node."""
    share = front.information / information
    step = information - front.information
    return front.z * np.sqrt(share) + drift * step / np.sqrt(information), float(np.sqrt(1 - share))


def tail(front: Front, information: float, bound: float, *, drift: float = 0.0, upper: bool = True) -> float:
    """P(still going, and the statistic at `information` lies above (or below) `bound`).

    >>> round(tail(START, 1.0, 1.959964), 6)
    0.025
    """
    mean, sd = _moments(front, information, drift)
    distance = (mean - bound) / sd if upper else (bound - mean) / sd
    return float(ndtr(distance) @ front.mass)


def outside(front: Front, information: float, regions: Regions, *, drift: float = 0.0) -> float:
    """P(still going, and the statistic leaves the union of the intervals `regions`), as a sum of what is outside."""
    edges = [-np.inf, *(edge for region in regions for edge in region), np.inf]
    return sum(
        between(front, information, (low, high), drift=drift)
        for low, high in zip(edges[::2], edges[1::2], strict=True)
        if low < high
    )


def between(front: Front, information: float, region: tuple[float, float], *, drift: float = 0.0) -> float:
    """P(still going, and the statistic at `information` lies in `region`)."""
    low, high = region
    if low == -np.inf:
        return tail(front, information, high, drift=drift, upper=False)
    if high == np.inf:
        return tail(front, information, low, drift=drift)
    mean, sd = _moments(front, information, drift)
    first, second = (low - mean) / sd, (high - mean) / sd
    flip = first + second > 0  # the difference of two small tails, not of two numbers near 1
    return float(np.where(flip, ndtr(-first) - ndtr(-second), ndtr(second) - ndtr(first)) @ front.mass)


def quantile(front: Front, information: float, p: float, *, drift: float = 0.0, upper: bool = True) -> float:
    """The bound beyond which lies probability p: infinite where p is 0 or no more than rounding.

    >>> round(quantile(START, 1.0, 0.025), 6)
    1.959964
    """
    sign = 1.0 if upper else -1.0
    if p <= 0:
        return sign * np.inf
    total = float(front.mass.sum())
    if p >= total:
        return -sign * np.inf
    mean, _ = _moments(front, information, drift)
    centre = float(mean @ front.mass) / total
    guess = centre - sign * float(ndtri(p / total))
    want = np.log(p)

    def miss(bound: float) -> float:
        found = tail(front, information, bound, drift=drift, upper=upper)
        return float(np.log(found) - want) if found > 0 else -800.0

    low, high = _around(miss, guess, sign)
    return root(miss, low, high)


def _around(miss: Callable[[float], float], guess: float, sign: float) -> tuple[float, float]:
    """Two bounds between which `miss` changes its sign, near the guess."""
    step = 0.1 if miss(guess) > 0 else -0.1
    near, far = guess, guess + sign * step
    while (miss(far) > 0) == (step > 0) and abs(far) < 60:
        step *= 2
        near, far = far, far + sign * step
    return near, far


def advance(
    front: Front, information: float, regions: Regions, *, drift: float = 0.0, ahead: float | None = None
) -> Front:
    """The front after a look at `information` that lets the trial go on inside `regions`.

    ahead: information of the look after, whose step may be shorter and then asks for finer nodes.
    """
    mean, sd = _moments(front, information, drift)
    finest = sd if ahead is None else min(sd, np.sqrt(ahead / information - 1))
    middle = drift * np.sqrt(information)
    nodes = [_panels(max(low, middle - REACH), min(high, middle + REACH), finest) for low, high in regions]
    z, weight = (np.concatenate(part) for part in zip(*nodes, strict=True))
    return Front(information=information, z=z, mass=weight * _density(z, mean, sd, front.mass))


def _density(z: Floats, mean: Floats, sd: float, mass: Floats) -> Floats:
    """sum_j mass_j N(z; mean_j, sd^2) at ascending z; for a narrow sd only the nodes within reach of each panel."""
    if z.size * mean.size <= DENSE:
        distance = (z[:, None] - mean) * (1 / sd)
        return np.asarray(np.exp(-0.5 * distance * distance) @ mass * (_SCALE / sd))
    out, block = np.empty(z.size), 4 * _NODES.size
    for first in range(0, z.size, block):
        here = z[first : first + block]
        near = slice(*np.searchsorted(mean, (here[0] - REACH * sd, here[-1] + REACH * sd)))
        distance = (here[:, None] - mean[near]) * (1 / sd)
        out[first : first + block] = np.exp(-0.5 * distance * distance) @ mass[near]
    return np.asarray(out * (_SCALE / sd))


def _panels(low: float, high: float, finest: float) -> tuple[Floats, Floats]:
    """Nodes and weights of [low, high], panels no wider than PANEL times the finest scale."""
    if high <= low:
        return np.zeros(0), np.zeros(0)
    count = int(np.ceil((high - low) / (PANEL * finest)))
    half = (high - low) / (2 * count)
    centres = low + half * (2 * np.arange(count) + 1)
    return (centres[:, None] + half * _NODES).reshape(-1), np.tile(half * _WEIGHTS, count)
