"""Small symmetric positive matrices: Cholesky factor, solutions, inverse; one matrix at a time, no BLAS.

Source: Golub & Van Loan, Matrix Computations, 4th ed., 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@kernel
def factored(matrix: F64, lower: F64) -> bool:
    """Lower Cholesky factor; False where the matrix is not positive definite to working precision."""
    size = matrix.shape[0]
    for i in range(size):
        for j in range(i + 1):
            value = matrix[i, j]
            for q in range(j):
                value -= lower[i, q] * lower[j, q]
            if i > j:
                lower[i, j] = value / lower[j, j]
            elif value > 1e-13 * abs(matrix[i, i]):  # false for NaN
                lower[i, i] = np.sqrt(value)
            else:
                return False
    return True


@kernel
def forward(lower: F64, right: F64, out: F64) -> None:
    """out = L^-1 right; `out` may be `right`."""
    for i in range(right.size):
        value = right[i]
        for q in range(i):
            value -= lower[i, q] * out[q]
        out[i] = value / lower[i, i]


@kernel
def backward(lower: F64, right: F64, out: F64) -> None:
    """out = L'^-1 right; `out` may be `right`."""
    for i in range(right.size - 1, -1, -1):
        value = right[i]
        for q in range(i + 1, right.size):
            value -= lower[q, i] * out[q]
        out[i] = value / lower[i, i]


@kernel
def inverse(lower: F64, out: F64) -> None:
    """(L L')^-1 of a factor, column by column."""
    column = np.empty(lower.shape[0])
    for j in range(lower.shape[0]):
        column[:] = 0.0
        column[j] = 1.0
        forward(lower, column, column)
        backward(lower, column, column)
        out[:, j] = column


@kernel
def pivoted(matrix: F64, first: int, rows: int, lower: F64, last: I64) -> int:
    """Factor of the rows `first`, 0 ... rows - 1 of a matrix that may be singular: L L' with row `first` in front,
    the others by the largest remaining variance; lower (m, m), `last[i]` the last column that row i reaches.

    Rows that take no part are not touched. Returns the rank.
    """
    left = np.zeros(matrix.shape[0])
    for i in range(rows):
        left[i] = matrix[i, i]
        last[i] = 0
        lower[i] = 0.0
    left[first] = matrix[first, first]
    lower[first] = 0.0
    last[first] = 0
    best, rank = first, 0
    while left[best] > 1e-9:
        lower[best, rank] = np.sqrt(left[best])
        last[best] = rank
        left[best] = 0.0
        for i in range(rows):
            if left[i] <= 0.0:
                continue
            value = matrix[i, best]
            for q in range(rank):
                value -= lower[i, q] * lower[best, q]
            lower[i, rank] = value / lower[best, rank]
            left[i] = max(0.0, left[i] - lower[i, rank] * lower[i, rank])
            if abs(lower[i, rank]) > 1e-7:
                last[i] = rank
        rank += 1
        best = int(np.argmax(left))
    return rank
