"""Score intervals common to strata: risk difference, ratio, odds ratio (Miettinen & Nurminen, Stat Med 1985;4:213).

Weights of difference and ratio: n1 n0/(n1 + n0). One stratum gives the plain interval; the odds ratio's score at 1 is
the Cochran-Mantel-Haenszel statistic. The ratios are solved on the scale u = ratio/(1 + ratio).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel
from trials.kernels.probability import normal_cdf
from trials.kernels.score import restricted_control

F64 = NDArray[np.float64]

DIFFERENCE, RATIO, ODDS = range(3)


@kernel
def stratified(x1: F64, n1: F64, x0: F64, n0: F64, at: float, kind: int) -> float:
    """z of the strata (S,) at a value of the parameter; decreasing in it. Strata without a group say nothing."""
    top, bottom = 0.0, 0.0
    u, w = at, 1.0 - at
    for s in range(x1.size):
        if not (n1[s] > 0.0 and n0[s] > 0.0):
            continue
        total, events = n1[s] + n0[s], x1[s] + x0[s]
        inflate = total / max(1.0, total - 1.0)
        weight = n1[s] * n0[s] / total
        if kind == DIFFERENCE:
            p0 = restricted_control(x1[s], n1[s], x0[s], n0[s], at)
            p1 = min(1.0, max(0.0, p0 + at))
            top += weight * (x1[s] / n1[s] - x0[s] / n0[s] - at)
            bottom += weight * weight * inflate * (p1 * (1.0 - p1) / n1[s] + p0 * (1.0 - p0) / n0[s])
        elif kind == RATIO:
            a, c = total * u, events * w
            b = n1[s] * u + x1[s] * w + n0[s] * w + x0[s] * u
            root = b + np.sqrt(max(0.0, b * b - 4.0 * a * c))
            p0 = min(1.0, 2.0 * c / root) if root > 0.0 else 0.0
            p1 = min(1.0, p0 * u / w) if w > 0.0 else 1.0
            top += weight * (w * x1[s] / n1[s] - u * x0[s] / n0[s])
            bottom += weight * weight * inflate * (w * w * p1 * (1.0 - p1) / n1[s] + u * u * p0 * (1.0 - p0) / n0[s])
        else:
            # multiplied by w: a p0^2 + b p0 - events w = 0
            gap = u - w
            a, b, c = n0[s] * gap, n1[s] * u + n0[s] * w - events * gap, events * w
            root = b + np.sqrt(max(0.0, b * b + 4.0 * a * c))
            p0 = min(1.0, 2.0 * c / root) if root > 0.0 else 0.0
            below = w + p0 * gap
            p1 = min(1.0, p0 * u / below) if below > 0.0 else 1.0
            one, zero = n1[s] * p1 * (1.0 - p1), n0[s] * p0 * (1.0 - p0)
            top += x1[s] - n1[s] * p1
            bottom += inflate * one * zero / (one + zero) if one + zero > 0.0 else 0.0
    if bottom <= 1e-300:
        return 0.0 if abs(top) < 1e-13 else (np.inf if top > 0.0 else -np.inf)
    return float(top / np.sqrt(bottom))


@kernel
def root(x1: F64, n1: F64, x0: F64, n0: F64, goal: float, kind: int) -> float:
    """The parameter with z = goal, by bisection; the range's end where z never gets there."""
    low, high = (-1.0, 1.0) if kind == DIFFERENCE else (0.0, 1.0)
    if kind != ODDS:
        if stratified(x1, n1, x0, n0, low, kind) < goal:
            return low
        if stratified(x1, n1, x0, n0, high, kind) > goal:
            return high
    else:  # at 0 and infinity the score of the odds ratio is 0/0: no limit where all events are on one side
        events, others = 0.0, 0.0
        for s in range(x1.size):
            if n1[s] > 0.0 and n0[s] > 0.0:
                events += x1[s] * (n0[s] - x0[s])
                others += x0[s] * (n1[s] - x1[s])
        if goal > 0.0 and events == 0.0:
            return 0.0
        if goal < 0.0 and others == 0.0:
            return 1.0
    for _ in range(70):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if stratified(x1, n1, x0, n0, middle, kind) > goal:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@kernel
def intervals(x1: F64, n1: F64, x0: F64, n0: F64, z: float, kind: int, lower: F64, upper: F64, null: F64,
              p: F64) -> None:  # fmt: skip
    """Rows of strata (n, S); out (n,): limits, z of no effect and its two-sided p; NaN where no stratum has both."""
    neutral = 0.0 if kind == DIFFERENCE else 0.5
    for i in range(x1.shape[0]):
        some = False
        for s in range(x1.shape[1]):
            some = some or (n1[i, s] > 0.0 and n0[i, s] > 0.0)
        if not some:
            lower[i], upper[i], null[i], p[i] = (-1.0 if kind == DIFFERENCE else 0.0), 1.0, np.nan, np.nan
            continue
        lower[i] = root(x1[i], n1[i], x0[i], n0[i], z, kind)
        upper[i] = root(x1[i], n1[i], x0[i], n0[i], -z, kind)
        null[i] = stratified(x1[i], n1[i], x0[i], n0[i], neutral, kind)
        p[i] = 2.0 * normal_cdf(-abs(null[i]))
