"""Multivariate t probabilities of any correlation, singular ones included, by quasi-Monte Carlo.

P(the largest of m statistics exceeds x) is the sum over i of P(T_i > x, no earlier T_j > x): small probabilities
keep their relative accuracy; each term by separation of variables (Genz & Bretz, Computation of Multivariate Normal and
t Probabilities, Springer 2009, 4.1-4.2), T_i first. Rows of a singular correlation that reach no variable of their own
bound the last one they do reach. The points are fixed: the same arguments give the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import inlined, kernel
from pkpd.kernels.philox import normal_quantile
from trials.kernels.dunnett import TWO_SIDED, single_p
from trials.kernels.illinois import narrowed
from trials.kernels.positive import pivoted
from trials.kernels.probability import normal_cdf, t_quantile

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@inlined
def _bounds(x: float, s: float, j: int, rows: int, shift: F64, lower: F64, last: I64, two: bool,
            y: F64) -> tuple[float, float]:  # fmt: skip
    """Interval of variable j in which none of the rows whose last variable it is exceeds x."""
    low, high = -np.inf, np.inf
    for i in range(rows):
        if last[i] != j:
            continue
        known = shift[i]
        for q in range(j):
            known += lower[i, q] * y[q]
        end = (x * s - known) / lower[i, j]
        other = (-x * s - known) / lower[i, j] if two else (-np.inf if lower[i, j] > 0.0 else np.inf)
        high = min(high, max(end, other))
        low = max(low, min(end, other))
    return low, high


@kernel
def first_beyond(x: float, i: int, shift: F64, lower: F64, last: I64, rank: int, two: bool, points: F64,
                 scale: F64) -> float:  # fmt: skip
    """P(T_i > x and none of T_0 ... T_{i-1} beyond x); points (n, d >= rank) uniform, scale (n,) those of S."""
    y = np.empty(max(1, rank))
    total = 0.0
    for n in range(scale.size):
        tail = normal_cdf(shift[i] - x * scale[n])
        y[0] = -normal_quantile(min(max(tail * points[n, 0], 1e-300), 1.0 - 1.2e-16))
        low, high = _bounds(x, scale[n], 0, i, shift, lower, last, two, y)
        product = tail if low <= y[0] <= high else 0.0
        for j in range(1, rank):
            if product <= 0.0:
                break
            low, high = _bounds(x, scale[n], j, i, shift, lower, last, two, y)
            start = normal_cdf(low)
            width = max(0.0, normal_cdf(high) - start)
            product *= width
            if j < rank - 1:
                y[j] = normal_quantile(min(max(start + points[n, j] * width, 1e-300), 1.0 - 1.2e-16))
        total += product
    return total / scale.size


@kernel
def factors(correlation: F64, lower: F64, last: I64, rank: I64) -> None:
    """The factor of every term: lower (m, m, m), last (m, m), rank (m,)."""
    for i in range(rank.size):
        rank[i] = pivoted(correlation, i, i, lower[i], last[i])


@kernel
def exceed(x: float, shift: F64, lower: F64, last: I64, rank: I64, side: int, points: F64, scale: F64) -> float:
    """P(max T > x), or of max |T| (then `shift` is zero: both tails are equal)."""
    two = side == TWO_SIDED
    total = 0.0
    for i in range(rank.size):
        total += first_beyond(x, i, shift, lower[i], last[i], rank[i], two, points, scale)
    return min(1.0, 2.0 * total if two else total)


@kernel
def joint_critical(alpha: float, df: float, lower: F64, last: I64, rank: I64, side: int, points: F64,
                   scale: F64) -> float:  # fmt: skip
    """The x exceeded by the largest statistic with probability alpha: between unadjusted and Bonferroni value."""
    share = alpha * (0.5 if side == TWO_SIDED else 1.0)
    low, high = t_quantile(share, df), t_quantile(share / rank.size, df)
    shift = np.zeros(rank.size)
    f_low = exceed(low, shift, lower, last, rank, side, points, scale) - alpha
    f_high = exceed(high, shift, lower, last, rank, side, points, scale) - alpha
    if f_low <= 0.0 or f_high >= 0.0:  # all statistics are one, or nearly exclude each other
        return low if f_low <= 0.0 else high
    bracket, middle = (low, high, f_low, f_high, 0), low
    for _ in range(60):  # Illinois regula falsi
        before = middle
        low, high, f_low, f_high, _ = bracket
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        f = exceed(middle, shift, lower, last, rank, side, points, scale) - alpha
        if f == 0.0 or abs(middle - before) < 1e-8 * middle:
            break
        bracket = narrowed(bracket, middle, f)
    return middle


@kernel
def joint_p(t: F64, df: float, lower: F64, last: I64, rank: I64, side: int, points: F64, scale: F64, single: F64,
            p: F64) -> None:  # fmt: skip
    """Unadjusted and single-step adjusted p-values of the statistics t (m,)."""
    m = t.size
    shift = np.zeros(m)
    for i in range(m):
        single[i] = single_p(t[i], df, side)
        x = abs(t[i]) if side == TWO_SIDED else t[i]
        joint = exceed(x, shift, lower, last, rank, side, points, scale)
        p[i] = min(1.0, max(single[i], min(joint, m * single[i])))  # the Bonferroni bounds hold whatever the error


@kernel
def joint_tests(t: F64, df: float, correlation: F64, side: int, alpha: float, points: F64, scale: F64,
                single: F64, p: F64, critical: F64) -> None:  # fmt: skip
    """Rows t, single, p (n, m), correlation (n, m, m), critical (n,).

    Correlations are taken to 12 decimals, so that those of one design are equal whatever the residual variance: then
    they are solved once, and a row's answer does not depend on its neighbours.
    """
    m = t.shape[1]
    lower, last, rank = np.empty((m, m, m)), np.empty((m, m), dtype=np.int64), np.empty(m, dtype=np.int64)
    rounded = np.full((m, m), np.nan)
    for r in range(t.shape[0]):
        same = True
        for i in range(m):
            for j in range(m):
                value = np.floor(correlation[r, i, j] * 1e12 + 0.5) / 1e12
                same = same and value == rounded[i, j]
                rounded[i, j] = value
        if same:
            critical[r] = critical[r - 1]
        else:
            factors(rounded, lower, last, rank)
            critical[r] = joint_critical(alpha, df, lower, last, rank, side, points, scale)
        joint_p(t[r], df, lower, last, rank, side, points, scale, single[r], p[r])


@kernel
def joint_power(x: F64, shift: F64, correlation: F64, side: int, points: F64, scale: F64, out: F64) -> None:
    """P(the largest of (Y_i + shift_i)/S exceeds x), rows of shift (n, m), correlation (n, m, m), x (n,); one side."""
    m = shift.shape[1]
    lower, last, rank = np.empty((m, m, m)), np.empty((m, m), dtype=np.int64), np.empty(m, dtype=np.int64)
    for r in range(shift.shape[0]):
        factors(correlation[r], lower, last, rank)
        out[r] = exceed(x[r], shift[r], lower, last, rank, side, points, scale)
