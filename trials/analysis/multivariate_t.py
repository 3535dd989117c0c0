"""Multivariate t of any correlation: adjusted p-values, critical values and power of the largest of several statistics.

Quasi-Monte Carlo with fixed points (Genz & Bretz 2009), no seed: the same arguments give the same bits. Absolute error
below 1e-4 (tests compare with R's mvtnorm and with the product-structure quadrature of `trials.analysis.dunnett`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.dunnett import side_code

__all__ = ["Joint", "joint_power", "joint_test"]

Floats = NDArray[np.float64]
POINTS = 4093
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Single-step test of m statistics: `p`, `p_unadjusted` (n, m), `critical` (n,) of the largest."""

    p: Floats
    p_unadjusted: Floats
    critical: Floats


@lru_cache(maxsize=8)
def _uniforms(dimensions: int) -> Floats:
    """Richtmyer's lattice folded by the baker's transformation, (POINTS, dimensions)."""
    if dimensions > len(_PRIMES):
        raise InputError(f"at most {len(_PRIMES) - 1} statistics at a time", field="t", value=dimensions)
    steps = np.arange(1, POINTS + 1, dtype=np.float64)[:, None] * np.sqrt(np.array(_PRIMES[:dimensions], np.float64))
    return np.ascontiguousarray(np.abs(2.0 * np.mod(steps + 0.5, 1.0) - 1.0))


@lru_cache(maxsize=512)
def _points(m: int, df: float) -> tuple[Floats, Floats]:
    """Points of the normals (n, m) and of S = chi/sqrt(df) (n,)."""
    from scipy.special import gammaincinv

    every = _uniforms(m + 1)
    if not np.isfinite(df):
        return every[:, 1:].copy(), np.ones(POINTS)
    return every[:, 1:].copy(), np.sqrt(2.0 * gammaincinv(0.5 * df, every[:, 0]) / df)


def joint_test(t: ArrayLike, df: ArrayLike, correlation: ArrayLike, *, alpha: float = 0.05, side: str = "two") -> Joint:
    """Adjusted p-values of t (n, m) with correlation (n, m, m) or (m, m); df (n,) or one, may be infinite.

    side: "two", "greater" (large t speak against the null) or "less". The correlation may be singular. A row with a
    statistic that is NaN, or with df <= 0, is NaN throughout.

    >>> r = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> joint_test([[2.0, 1.0]], 20, r, side="greater").p.round(3).tolist()
    [[0.053, 0.262]]
    """
    from trials.kernels.multivariate_t import joint_tests

    statistics = np.atleast_2d(np.asarray(t, np.float64)) * (-1.0 if side == "less" else 1.0)
    rows, m = statistics.shape
    freedom = np.broadcast_to(np.asarray(df, np.float64), (rows,))
    matrix = np.broadcast_to(np.asarray(correlation, np.float64), (rows, m, m))
    code = side_code(side)
    if not 0.0 < alpha < 0.5:
        raise InputError("must be between 0 and 0.5", field="alpha", value=alpha)
    made = Joint(p=np.full((rows, m), np.nan), p_unadjusted=np.full((rows, m), np.nan), critical=np.full(rows, np.nan))
    whole = np.isfinite(statistics).all(axis=1) & np.isfinite(matrix).all(axis=(1, 2)) & (freedom > 0)
    for value in np.unique(freedom[whole]).tolist():
        here = np.flatnonzero(whole & (freedom == value))
        single, p, critical = np.empty((here.size, m)), np.empty((here.size, m)), np.empty(here.size)
        joint_tests(np.ascontiguousarray(statistics[here]), value, np.ascontiguousarray(matrix[here]), code, alpha,
                    *_points(m, value), single, p, critical)  # fmt: skip
        made.p[here], made.p_unadjusted[here], made.critical[here] = p, single, critical
    return made


def joint_power(
    critical: ArrayLike, shift: ArrayLike, correlation: ArrayLike, *, df: float = np.inf, side: str = "greater"
) -> Floats:
    """Probability that the largest of statistics with means `shift` (n, m) exceeds `critical` (n,) or one.

    >>> joint_power(1.6449, [[2.486]], [[1.0]]).round(3).tolist()
    [0.8]
    """
    from trials.kernels.multivariate_t import joint_power as fill

    means = np.atleast_2d(np.asarray(shift, np.float64)) * (-1.0 if side == "less" else 1.0)
    rows, m = means.shape
    matrix = np.ascontiguousarray(np.broadcast_to(np.asarray(correlation, np.float64), (rows, m, m)))
    bound = np.ascontiguousarray(np.broadcast_to(np.asarray(critical, np.float64), (rows,)))
    out = np.empty(rows)
    fill(bound, np.ascontiguousarray(means), matrix, side_code(side), *_points(m, float(df)), out)
    return out
