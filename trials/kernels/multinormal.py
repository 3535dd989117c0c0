"""P(all of a few correlated normals within limits), by nested Gauss-Legendre quadrature: no simulation, singular
correlations included (the weights 1, S and 1 - S of a MaxCombo test are linearly dependent).

z = L x with L a pivoted Cholesky factor of rank r: r - 1 nested integrals, the innermost is a difference of Phi.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.probability import normal_cdf, normal_density

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

EDGE = 9.0
TINY = 1e-9


@kernel
def legendre(n: int) -> tuple[F64, F64]:
    """Nodes and weights of n points on [-1, 1], by Newton's method on the recurrence."""
    nodes, weights = np.empty(n), np.empty(n)
    for i in range(n):
        x = np.cos(np.pi * (i + 0.75) / (n + 0.5))
        slope = 1.0
        for _ in range(50):
            p, before = 1.0, 0.0
            for k in range(n):
                p, before = ((2 * k + 1) * x * p - k * before) / (k + 1), p
            slope = n * (x * p - before) / (x * x - 1.0)
            step = p / slope
            x -= step
            if abs(step) < 1e-16:
                break
        nodes[i], weights[i] = x, 2.0 / ((1.0 - x * x) * slope * slope)
    return nodes, weights


@kernel
def factor(correlation: F64) -> tuple[F64, I64, int]:
    """Pivoted Cholesky factor (d, r filled), the last column each row needs, and the rank r."""
    d = correlation.shape[0]
    rest, left, lower = correlation.copy(), np.ones(d, dtype=np.bool_), np.zeros((d, d))
    rank = 0
    for column in range(d):
        pivot, most = -1, TINY
        for i in range(d):
            if left[i] and rest[i, i] > most:
                pivot, most = i, rest[i, i]
        if pivot < 0:
            break
        root = np.sqrt(most)
        for i in range(d):
            lower[i, column] = rest[i, pivot] / root if left[i] else 0.0
        for i in range(d):
            for j in range(d):
                rest[i, j] -= lower[i, column] * lower[j, column]
        left[pivot] = False
        rank += 1
    last = np.zeros(d, dtype=np.int64)
    for i in range(d):
        for column in range(rank):
            if abs(lower[i, column]) > 1e-7:
                last[i] = column
    return lower, last, rank


@inlined
def _limits(lower: F64, last: I64, x: F64, level: int, limit: float, two: bool) -> tuple[float, float]:
    low, high = -EDGE, EDGE
    for i in range(last.size):
        if last[i] != level:
            continue
        done = 0.0
        for column in range(level):
            done += lower[i, column] * x[column]
        slope = lower[i, level]
        one, other = (limit - done) / slope, (-limit - done) / slope
        if slope > 0.0:
            high = min(high, one)
            low = max(low, other) if two else low
        else:
            low = max(low, one)
            high = min(high, other) if two else high
    return low, high


@kernel
def within(correlation: F64, limit: float, two: bool) -> float:
    """P(every z_i <= limit), or |z_i| <= limit; error below 1e-5 (its integrand has kinks)."""
    lower, last, rank = factor(correlation)
    panels = 16 if rank <= 2 else (8 if rank == 3 else 3)
    nodes, weights = legendre(16)
    count = panels * 16
    x, total = np.zeros(rank), np.zeros(rank)
    low, high, at = np.zeros(rank), np.zeros(rank), np.zeros(rank, dtype=np.int64)
    level, entering = 0, True
    while level >= 0:
        if entering:
            low[level], high[level] = _limits(lower, last, x, level, limit, two)
            total[level], at[level] = 0.0, 0
            if level == rank - 1 or not low[level] < high[level]:
                inside = low[level] < high[level]
                total[level] = normal_cdf(high[level]) - normal_cdf(low[level]) if inside else 0.0
                at[level] = count
        if at[level] >= count:  # done: hand the integral to the level above
            level -= 1
            if level >= 0:
                width = (high[level] - low[level]) / panels
                weight = 0.5 * width * weights[at[level] % 16]
                total[level] += weight * normal_density(x[level]) * total[level + 1]
                at[level] += 1
            entering = False
            continue
        width = (high[level] - low[level]) / panels
        x[level] = low[level] + width * (at[level] // 16 + 0.5 + 0.5 * nodes[at[level] % 16])
        level += 1
        entering = True
    return float(total[0])


@kernel
def largest(z: F64, covariance: F64, two: bool, p: F64, top: F64) -> None:
    """Max-type tests: z (n, W) and covariance (n, W, W) -> p (n,) and the largest statistic, NaN where z is."""
    count = z.shape[1]
    correlation = np.empty((count, count))
    for i in range(z.shape[0]):
        most = -np.inf
        for w in range(count):
            value = abs(z[i, w]) if two else z[i, w]
            most = max(most, value) if value == value else np.nan
            if value != value:
                break
        top[i] = most
        if most != most:
            p[i] = np.nan
            continue
        for w in range(count):
            for u in range(count):
                correlation[w, u] = covariance[i, w, u] / np.sqrt(covariance[i, w, w] * covariance[i, u, u])
        p[i] = min(1.0, max(0.0, 1.0 - within(correlation, most, two)))
