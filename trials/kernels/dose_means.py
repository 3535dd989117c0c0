"""Adjusted means by dose and their covariance, by the orthogonalisation of `least_squares`.

Columns: covariates and stratum indicators, centred over the subjects in use, then one indicator for each dose (last, so
that the triangular factor's corner is theirs): the coefficients are the means of the average subject.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel
from trials.kernels.least_squares import (
    NO_DEGREES_OF_FREEDOM,
    NOT_ESTIMABLE,
    _dot,
    _project,
    back_substitute,
    centred,
    complete_rows,
    contrast_covariance,
    orthogonalise,
)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I8 = NDArray[np.int8]
NO_VARIATION = 4


@kernel
def _design(rows: I64, more: F64, arm: I64, strata: I64, levels: int, columns: F64) -> None:
    C = more.shape[0]
    for c in range(C):
        centred(rows, more[c], columns[c])
    for level in range(1, levels):
        share = 0.0
        for i in rows:
            share += 1.0 if strata[i] == level else 0.0
        for n in range(rows.size):
            columns[C + level - 1, n] = (1.0 if strata[rows[n]] == level else 0.0) - share / rows.size
    for n in range(rows.size):
        columns[C + levels - 1 + arm[rows[n]], n] = 1.0


@kernel
def means(y: F64, more: F64, arm: I64, strata: I64, levels: int, mean: F64, covariance: F64, df: F64, rss: F64,
          size: I64, rank: I64, status: I8) -> None:  # fmt: skip
    """y, arm, strata (R, N), more (R, C, N). Out: mean (R, K), covariance (R, K, K) with the residual variance, df,
    rss, rank, status (R,), size (R, K).
    """
    R, K = mean.shape
    for r in range(R):
        rows = complete_rows(y[r], y[r], more[r], arm[r], strata[r])
        for i in rows:
            size[r, arm[r, i]] += 1
        first = more.shape[1] + levels - 1
        p = first + K
        columns, upper, kept = np.zeros((p, rows.size)), np.zeros((p, p)), np.zeros(p, dtype=np.bool_)
        _design(rows, more[r], arm[r], strata[r], levels, columns)
        rank[r] = orthogonalise(columns, upper, kept)
        whole = True
        for a in range(first, p):
            whole = whole and kept[a]
        if not whole:
            status[r] = NOT_ESTIMABLE
            continue
        if rows.size <= rank[r]:
            status[r] = NO_DEGREES_OF_FREEDOM
            continue
        residual, right = np.empty(rows.size), np.zeros(p)
        for n in range(rows.size):
            residual[n] = y[r, rows[n]]
        squares = _dot(residual, residual)
        _project(columns, rank[r], residual, right)
        df[r] = rows.size - rank[r]
        rss[r] = _dot(residual, residual)
        contrast_covariance(upper, kept, rank[r], first, covariance[r])
        beta = back_substitute(upper, kept, rank[r], right)
        for a in range(K):
            mean[r, a] = beta[first + a]
            for b in range(K):
                covariance[r, a, b] *= rss[r] / df[r]
        if not rss[r] > 1e-24 * squares:  # rounding only
            status[r] = NO_VARIATION
