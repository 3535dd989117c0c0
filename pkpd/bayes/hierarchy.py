"""The correlation matrix of random effects by canonical partial correlations.

An LKJ(shape) matrix of size q is a C-vine of independent partial correlations p_ij (j < i): (p_ij + 1)/2 is
Beta(b_j, b_j) with b_j = shape + (q - 2 - j)/2, j from 0 (Lewandowski, Kurowicka & Joe 2009, J Multivar Anal 100:1989,
section 2.4), and its Cholesky factor is L_ij = p_ij sqrt(prod_{k<j} (1 - p_ik^2)). The same law as `pm.LKJCholeskyCov`,
but made of scalars: the sampler's graph compiles in a third of the time (11 s against 39 s on an empty cache).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["beta_shape", "correlation_factor", "covariances", "pairs"]

Floats = NDArray[np.float64]


def pairs(size: int) -> tuple[tuple[int, int], ...]:
    """(i, j), j < i, row by row.

    >>> pairs(3)
    ((1, 0), (2, 0), (2, 1))
    """
    return tuple((i, j) for i in range(size) for j in range(i))


def beta_shape(shape: float, size: int, column: int) -> float:
    """b of the Beta(b, b) of the partial correlations in `column`.

    >>> [beta_shape(2.0, 3, j) for j in (0, 1)]
    [2.5, 2.0]
    """
    return shape + 0.5 * (size - 2 - column)


def correlation_factor(
    partial: Mapping[tuple[int, int], Any], size: int, sqrt: Callable[[Any], Any]
) -> list[list[Any]]:
    """Rows of the lower Cholesky factor of the correlation matrix; scalars, arrays of draws or PyTensor variables."""
    rows: list[list[Any]] = []
    for i in range(size):
        row: list[Any] = []
        rest: Any = 1.0
        for j in range(i):
            row.append(partial[i, j] * sqrt(rest) if j else partial[i, j])
            rest = rest * (1.0 - partial[i, j] ** 2)
        rows.append([*row, sqrt(rest) if i else 1.0])
    return rows


def covariances(sd: Floats, partial: Mapping[tuple[int, int], Floats]) -> tuple[Floats, Floats]:
    """Cholesky factors and covariance matrices (D, q, q) from sds (D, q) and partial correlations (D,) each."""
    draws, size = sd.shape
    factor = np.zeros((draws, size, size))
    for i, row in enumerate(correlation_factor(partial, size, np.sqrt)):
        for j, value in enumerate(row):
            factor[:, i, j] = value * sd[:, i]
    omega = np.zeros_like(factor)
    for k in range(size):
        omega += factor[:, :, k, None] * factor[:, None, :, k]
    return factor, omega
