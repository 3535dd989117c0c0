"""ANCOVA of one replicate after another by modified Gram-Schmidt with reorthogonalisation.

Columns: intercept, baseline, further covariates, stratum indicators, arm indicators (last, so that the triangular
factor's corner is theirs). Numerically aliased columns are dropped; contrasts that lose their meaning by it are marked.
Source: Golub & Van Loan, Matrix Computations, 4th ed., 5.2.8 and 5.3 (least squares by QR).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import inlined, kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I8 = NDArray[np.int8]
BOOL = NDArray[np.bool_]

OK = 0
NOT_ESTIMABLE = 1
NO_DEGREES_OF_FREEDOM = 2
_ALIASED = 1e-10  # of a column's norm, after the projection on the earlier columns


@inlined
def _dot(a: F64, b: F64) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@inlined
def _project(basis: F64, rank: int, column: F64, coefficients: F64) -> None:
    """Remove the basis from a column, twice (once is not enough); the coefficients add up."""
    for _ in range(2):
        for q in range(rank):
            c = _dot(basis[q], column)
            coefficients[q] += c
            for i in range(column.size):
                column[i] -= c * basis[q, i]


@kernel
def centred(rows: I64, covariate: F64, out: F64) -> None:
    """A covariate of the rows in use, less its mean."""
    mean = 0.0
    for i in rows:
        mean += covariate[i]
    mean = mean / max(1, rows.size)
    for n in range(rows.size):
        out[n] = covariate[rows[n]] - mean


@kernel
def design(rows: I64, baseline: F64, more: F64, arm: I64, strata: I64, levels: int, out: F64) -> None:
    """The design matrix (columns, rows in use); baseline and the covariates `more` (C, N) centred."""
    fixed = more.shape[0]
    centred(rows, baseline, out[1])
    for c in range(fixed):
        centred(rows, more[c], out[2 + c])
    for n in range(rows.size):
        i = rows[n]
        out[0, n] = 1.0
        if strata[i] > 0:
            out[1 + fixed + strata[i], n] = 1.0
        if arm[i] > 0:
            out[levels + fixed + arm[i], n] = 1.0


@kernel
def orthogonalise(columns: F64, upper: F64, kept: BOOL) -> int:
    """Columns (p, n) become the orthonormal basis, packed in front; upper (p, p) its coefficients; returns the rank."""
    rank = 0
    for j in range(columns.shape[0]):
        before = np.sqrt(_dot(columns[j], columns[j]))
        _project(columns, rank, columns[j], upper[:, j])
        after = np.sqrt(_dot(columns[j], columns[j]))
        kept[j] = after > _ALIASED * before and after > 0.0
        if kept[j]:
            for i in range(columns.shape[1]):
                columns[rank, i] = columns[j, i] / after
            upper[rank, j] = after
            rank += 1
    return rank


@kernel
def back_substitute(upper: F64, kept: BOOL, rank: int, right: F64) -> F64:
    """Coefficients of all columns (0 where dropped) for one right-hand side (rank,)."""
    p = kept.size
    solution = np.zeros(p)
    q = rank - 1
    for j in range(p - 1, -1, -1):
        if kept[j]:
            value = right[q]
            for i in range(j + 1, p):
                if kept[i]:
                    value -= upper[q, i] * solution[i]
            solution[j] = value / upper[q, j]
            q -= 1
    return solution


@kernel
def lost_contrasts(upper: F64, kept: BOOL, first: int, status: I8) -> None:
    """Mark arms without a column of their own, and arms that a dropped arm column depends on."""
    p = kept.size
    for j in range(first, p):
        if not kept[j]:
            status[j - first] = NOT_ESTIMABLE
            rank, earlier = 0, np.zeros(p, dtype=np.bool_)
            for i in range(j):
                earlier[i] = kept[i]
                rank += 1 if kept[i] else 0
            weights = back_substitute(upper, earlier, rank, upper[:, j])
            for i in range(first, j):
                if abs(weights[i]) > 1e-6:
                    status[i - first] = NOT_ESTIMABLE


@kernel
def contrast_covariance(upper: F64, kept: BOOL, rank: int, first: int, out: F64) -> None:
    """Unscaled covariance (X'X)^-1 of the arm columns: out (k, k)."""
    p = kept.size
    k = p - first
    inverse = np.zeros((k, rank))
    unit = np.zeros(rank)
    for q in range(rank):
        unit[q] = 1.0
        column = back_substitute(upper, kept, rank, unit)
        unit[q] = 0.0
        for j in range(k):
            inverse[j, q] = column[first + j]
    for a in range(k):
        for b in range(k):
            out[a, b] = _dot(inverse[a], inverse[b])


@kernel
def complete_rows(y: F64, baseline: F64, more: F64, arm: I64, strata: I64) -> I64:
    """Indices of subjects with an arm, a stratum, a finite baseline, finite covariates and a finite outcome."""
    rows = np.empty(y.size, dtype=np.int64)
    n = 0
    for i in range(y.size):
        whole = np.isfinite(baseline[i]) and np.isfinite(y[i])
        for c in range(more.shape[0]):
            whole = whole and np.isfinite(more[c, i])
        if whole and arm[i] >= 0 and strata[i] >= 0:
            rows[n] = i
            n += 1
    return rows[:n]


@kernel
def ancova(y: F64, baseline: F64, more: F64, arm: I64, strata: I64, shape: tuple[int, int],
           estimate: F64, variance: F64, df: F64, covariance: F64, status: I8, count: I64) -> None:  # fmt: skip
    """All replicates, all completed data sets: y (M, R, N), one design per replicate; more (R, C, N) covariates;
    shape = (arms, strata levels).

    Out: estimate (M, R, k), variance (M, R) residual, df (R,), covariance (R, k, k) unscaled, status (R, k),
    count (R, arms) rows in use.
    """
    sets, replicates, _ = y.shape
    arms, levels = shape
    first = 1 + levels + more.shape[1]
    p = first + arms - 1
    for r in range(replicates):
        rows = complete_rows(y[0, r], baseline[r], more[r], arm[r], strata[r])
        for i in rows:
            count[r, arm[r, i]] += 1
        columns, upper, kept = np.zeros((p, rows.size)), np.zeros((p, p)), np.zeros(p, dtype=np.bool_)
        design(rows, baseline[r], more[r], arm[r], strata[r], levels, columns)
        rank = orthogonalise(columns, upper, kept)
        lost_contrasts(upper, kept, first, status[r])
        contrast_covariance(upper, kept, rank, first, covariance[r])
        df[r] = rows.size - rank
        if df[r] <= 0:
            status[r][status[r] == OK] = NO_DEGREES_OF_FREEDOM
        residual, right = np.empty(rows.size), np.empty(p)
        for m in range(sets):
            for n in range(rows.size):
                residual[n] = y[m, r, rows[n]]
            right[:] = 0.0
            _project(columns, rank, residual, right)
            variance[m, r] = _dot(residual, residual) / df[r] if df[r] > 0 else np.nan
            beta = back_substitute(upper, kept, rank, right)
            for j in range(arms - 1):
                estimate[m, r, j] = beta[first + j]


@kernel
def pool(estimate: F64, variance: F64, complete_df: float) -> tuple[float, float, float, float]:
    """Rubin's rules with the df of Barnard & Rubin (Biometrika 1999;86:948): estimate, total variance, df, lambda.

    Written as deviations from the first data set, so that identical sets give the complete-data result exactly.
    """
    m = estimate.size
    shift, within = 0.0, 0.0
    for i in range(m):
        shift += (estimate[i] - estimate[0]) / m
        within += (variance[i] - variance[0]) / m
    mean, within = estimate[0] + shift, variance[0] + within
    between = 0.0
    for i in range(m):
        between += (estimate[i] - mean) ** 2
    if between == 0.0 or m < 2:
        return mean, within, complete_df, 0.0
    between = (1.0 + 1.0 / m) * between / (m - 1)
    total = within + between
    fraction = between / total
    large = (m - 1) / (fraction * fraction)
    observed = (complete_df + 1.0) / (complete_df + 3.0) * complete_df * (1.0 - fraction)
    return mean, total, 1.0 / (1.0 / large + 1.0 / observed), fraction


@kernel
def pool_all(estimate: F64, variance: F64, df: F64, covariance: F64,
             pooled: F64, total: F64, pooled_df: F64, fraction: F64) -> None:  # fmt: skip
    """Pool every contrast of every replicate; outputs (R, k)."""
    sets, replicates, k = estimate.shape
    values, variances = np.empty(sets), np.empty(sets)
    for r in range(replicates):
        for j in range(k):
            for m in range(sets):
                values[m] = estimate[m, r, j]
                variances[m] = variance[m, r] * covariance[r, j, j]
            pooled[r, j], total[r, j], pooled_df[r, j], fraction[r, j] = pool(values, variances, df[r])
