"""Miettinen-Nurminen score intervals of the risk difference and the risk ratio, element by element.

Source: Miettinen & Nurminen, Statistics in Medicine 1985;4:213-226, with the factor N/(N - 1). The restricted maximum
is the root of their cubic (difference) or quadratic (ratio) in the control risk; the cubic is solved inside its
bracket, where its sign is that of the score, so that zero cells need no special case and no trigonometry is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.probability import normal_cdf

F64 = NDArray[np.float64]


@kernel
def restricted_control(x1: float, n1: float, x0: float, n0: float, delta: float) -> float:
    """Maximum-likelihood control risk given p1 - p0 = delta: safeguarded Newton on the cubic."""
    total = n1 + n0
    a2 = (n1 + 2.0 * n0) * delta - total - (x1 + x0)
    a1 = (n0 * delta - total - 2.0 * x0) * delta + x1 + x0
    a0 = x0 * delta * (1.0 - delta)
    low, high = max(0.0, -delta), min(1.0, 1.0 - delta)
    p = 0.5 * (low + high)
    for _ in range(80):
        value = ((total * p + a2) * p + a1) * p + a0
        if value > 0.0:
            low = p
        else:
            high = p
        slope = (3.0 * total * p + 2.0 * a2) * p + a1
        new = p - value / slope if slope != 0.0 else low
        if not low < new < high:
            new = 0.5 * (low + high)
        if abs(new - p) <= 1e-16:
            return new
        p = new
    return p


@inlined
def _standardised(gap: float, variance: float, total: float) -> float:
    """gap / sqrt(variance N/(N-1)); infinite with the gap's sign where the variance vanishes."""
    inflated = variance * total / max(1.0, total - 1.0)
    if inflated <= 1e-300:
        return 0.0 if abs(gap) < 1e-14 else (np.inf if gap > 0.0 else -np.inf)
    return float(gap / np.sqrt(inflated))


@inlined
def difference_score(x1: float, n1: float, x0: float, n0: float, delta: float) -> float:
    """z(delta), decreasing in delta."""
    p0 = restricted_control(x1, n1, x0, n0, delta)
    p1 = min(1.0, max(0.0, p0 + delta))
    variance = p1 * (1.0 - p1) / n1 + p0 * (1.0 - p0) / n0
    return _standardised(x1 / n1 - x0 / n0 - delta, variance, n1 + n0)


@inlined
def ratio_score(x1: float, n1: float, x0: float, n0: float, share: float) -> float:
    """z(theta) for theta = share/(1 - share), decreasing in theta; scaled by 1 - share so that both ends are finite."""
    u, w = share, 1.0 - share
    a = (n1 + n0) * u
    b = n1 * u + x1 * w + n0 * w + x0 * u
    c = (x1 + x0) * w
    root = np.sqrt(max(0.0, b * b - 4.0 * a * c))
    p0 = min(1.0, 2.0 * c / (b + root)) if b + root > 0.0 else 0.0
    p1 = min(1.0, p0 * u / w) if w > 0.0 else 1.0
    variance = w * w * p1 * (1.0 - p1) / n1 + u * u * p0 * (1.0 - p0) / n0
    return _standardised(w * x1 / n1 - u * x0 / n0, variance, n1 + n0)


@inlined
def _score(x1: float, n1: float, x0: float, n0: float, at: float, ratio: bool) -> float:
    return ratio_score(x1, n1, x0, n0, at) if ratio else difference_score(x1, n1, x0, n0, at)


@kernel
def solve(x1: float, n1: float, x0: float, n0: float, goal: float, ratio: bool) -> float:
    """The parameter with z = goal, by bisection on its whole range; the range's end where z never gets there."""
    low, high = (0.0, 1.0) if ratio else (-1.0, 1.0)
    if _score(x1, n1, x0, n0, low, ratio) < goal:
        return low
    if _score(x1, n1, x0, n0, high, ratio) > goal:
        return high
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _score(x1, n1, x0, n0, middle, ratio) > goal:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@kernel
def intervals(x1: F64, n1: F64, x0: F64, n0: F64, z: float, ratio: bool, lower: F64, upper: F64, p: F64) -> None:
    """Flat arrays: limits and the two-sided p-value of no effect; the whole range if a group is empty."""
    for i in range(x1.size):
        if not (n1[i] > 0.0 and n0[i] > 0.0):
            lower[i], upper[i], p[i] = (0.0 if ratio else -1.0), 1.0, np.nan
            continue
        lower[i] = solve(x1[i], n1[i], x0[i], n0[i], z, ratio)
        upper[i] = solve(x1[i], n1[i], x0[i], n0[i], -z, ratio)
        null = _score(x1[i], n1[i], x0[i], n0[i], 0.5 if ratio else 0.0, ratio)
        p[i] = 2.0 * normal_cdf(-abs(null))
