r"""Probability of a rectangle under a standard bivariate normal of correlation r, in logarithms, with its derivatives.

    P = integral over a1 < x < b1 of phi(x) [Phi((b2 - r x)/c) - Phi((a2 - r x)/c)] dx,   c^2 = 1 - r^2

The integrand is log-concave (Prekopa 1973, Acta Sci Math 34:335): it has one top, and it falls off at least as fast as
phi. Gauss-Legendre panels lie between the points where it is e^-38 of the top, with edges at the top and about the two
steps of width c/r. Everything is in logarithms: rectangles of probability e^-10000 keep their digits. Derivatives need
no quadrature (the boundary terms of the integral, and Plackett 1954, Biometrika 41:351, in r). Relative error of log P
below 1e-11 (test, against mpmath).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import kernel
from pkpd.kernels.linking import internal
from pkpd.kernels.tails import log_normal_below, log_normal_between

F64 = NDArray[np.float64]
_HALF_LOG_2PI = 0.9189385332046727418
_X, _W = np.polynomial.legendre.leggauss(16)
_DROP = 38.0
_NEAR = 0.4
"""Share of the way down that has a panel of its own."""
_STEP = 6.0
"""Half-width of the panels about a step, in its own widths."""


@internal
def log_strip(a: float, b: float) -> tuple[float, float, float]:
    """log(Phi(b) - Phi(a)) and its derivatives in a and b, either infinite or not."""
    if b == np.inf:
        value, slope = log_normal_below(-a)
        return value, -slope, 0.0
    if a == -np.inf:
        value, slope = log_normal_below(b)
        return value, 0.0, slope
    return log_normal_between(a, b)


@internal
def _inner(x: float, a2: float, b2: float, r: float, c: float) -> tuple[float, float]:
    """Log of the integrand without its constant, and its slope."""
    value, low, high = log_strip((a2 - r * x) / c, (b2 - r * x) / c)
    return value - 0.5 * x * x, -x - (low + high) * (r / c)


@internal
def _top(a1: float, b1: float, a2: float, b2: float, r: float, c: float) -> float:
    """About where the integrand is greatest in a1 < x < b1."""
    low = high = min(max(0.0, a1), b1)
    slope = _inner(low, a2, b2, r, c)[1]
    step = 1.0
    for _ in range(60):
        if slope > 0.0:
            low, high = high, min(high + step, b1)
            if high >= b1 or _inner(high, a2, b2, r, c)[1] <= 0.0:
                break
        else:
            low, high = max(low - step, a1), low
            if low <= a1 or _inner(low, a2, b2, r, c)[1] >= 0.0:
                break
        step *= 2.0
    for _ in range(24):
        middle = 0.5 * (low + high)
        if _inner(middle, a2, b2, r, c)[1] > 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@internal
def _edge(top: float, limit: float, side: float, a2: float, b2: float, r: float, c: float) -> float:
    """Where the integrand has fallen by e^-38 on a side of the top, or the limit: Newton's method from beyond."""
    there, slope = _inner(top, a2, b2, r, c)
    steep = max(-side * slope, 0.0)
    x = top + side * (np.sqrt(steep * steep + 2.0 * _DROP) - steep + 1e-3)
    x = min(x, limit) if side > 0.0 else max(x, limit)
    for _ in range(8):
        value, slope = _inner(x, a2, b2, r, c)
        if value >= there - _DROP - 0.5:
            break
        x -= (value - there + _DROP) / slope
    return float(x)


@internal
def _summed(left: float, right: float, top: float, a2: float, b2: float, r: float, c: float) -> float:
    """Log of the integral over left < x < right of the integrand over sqrt(2 pi)."""
    edges = np.empty(11)
    edges[0], edges[1], edges[2] = left, right, top
    edges[9], edges[10] = top + _NEAR * (left - top), top + _NEAR * (right - top)
    wide = _STEP * c / max(abs(r), 1e-12)
    for k in range(2):
        step = (a2 if k == 0 else b2) / (r if abs(r) > 1e-12 else 1e-12)
        known = abs(step) < 1e6 and wide < 20.0
        for j in range(3):
            edge = step + (j - 1) * wide if known else top
            edges[3 + 3 * k + j] = min(max(edge, left), right)
    edges.sort()
    there, total = _inner(top, a2, b2, r, c)[0], 0.0
    for k in range(10):
        half, middle = 0.5 * (edges[k + 1] - edges[k]), 0.5 * (edges[k + 1] + edges[k])
        if half <= 0.0:
            continue
        for n in range(_X.size):
            total += half * _W[n] * exp(_inner(middle + half * _X[n], a2, b2, r, c)[0] - there)
    return float(there + log(total) - _HALF_LOG_2PI)


@internal
def log_rectangle(
    a1: float, b1: float, a2: float, b2: float, r: float
) -> tuple[float, float, float, float, float, float]:
    """log P(a1 < X < b1, a2 < Y < b2) and its derivatives in a1, b1, a2, b2 and r; limits may be infinite."""
    c = np.sqrt((1.0 - r) * (1.0 + r))
    top = _top(a1, b1, a2, b2, r, c)
    value = _summed(
        _edge(top, a1, -1.0, a2, b2, r, c), _edge(top, b1, 1.0, a2, b2, r, c), top, a2, b2, r, c
    )  # fmt: skip
    ga1, gb1 = -_side(a1, a2, b2, r, c, value), _side(b1, a2, b2, r, c, value)
    ga2, gb2 = -_side(a2, a1, b1, r, c, value), _side(b2, a1, b1, r, c, value)
    gr = _corner(b1, b2, r, c, value) - _corner(a1, b2, r, c, value)
    gr += _corner(a1, a2, r, c, value) - _corner(b1, a2, r, c, value)
    return value, ga1, gb1, ga2, gb2, gr


@internal
def _side(x: float, a: float, b: float, r: float, c: float, value: float) -> float:
    """Density of one normal at x and the other between a and b, over P."""
    if abs(x) == np.inf:
        return 0.0
    return exp(log_strip((a - r * x) / c, (b - r * x) / c)[0] - 0.5 * x * x - _HALF_LOG_2PI - value)


@internal
def _corner(x: float, y: float, r: float, c: float, value: float) -> float:
    """Joint density at (x, y) over P."""
    if abs(x) == np.inf or abs(y) == np.inf:
        return 0.0
    e = (y - r * x) / c
    return exp(-0.5 * (x * x + e * e) - 2.0 * _HALF_LOG_2PI - log(c) - value)


@kernel
def log_rectangles(a1: F64, b1: F64, a2: F64, b2: F64, r: F64) -> tuple[F64, F64]:
    """`log_rectangle` of n rectangles, each (n,): log P (n,) and its derivatives (n, 5)."""
    value, slope = np.empty(a1.size), np.empty((a1.size, 5))
    for k in range(a1.size):
        value[k], slope[k, 0], slope[k, 1], slope[k, 2], slope[k, 3], slope[k, 4] = log_rectangle(
            a1[k], b1[k], a2[k], b2[k], r[k]
        )
    return value, slope
