"""Eigenvalues and modes of block lower triangular matrices whose blocks are reversible trees; see `compartments`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, relative_decay
from pkpd.kernels.intrinsics import fma, forced
from pkpd.kernels.linking import internal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NEAR = 1e-5  # relative distance of two eigenvalues below which the modes are not used


@internal
def grown(x: float) -> float:
    """(e^x - 1)/x for any x, 1 at 0."""
    r = relative_decay(x if x >= 0.0 else -x)
    return exp(x) * r if x > 0.0 else r


@internal
def grown_twice(x: float) -> float:
    """((e^x - 1)/x - 1)/x for any x, 1/2 at 0."""
    if not (-1.0 <= x <= 1.0):
        return (grown(x) - 1.0) / x
    s = 1.0
    for n in range(20, 0, -1):
        s = fma(x * (1.0 / (n + 2.0)), s, 1.0)
    return 0.5 * s


@forced
def _symmetrised(A: F64, n: int, lo: int, hi: int, parent: I64, scale: F64, S: F64) -> bool:
    """S = D^-1 A D of the block lo:hi, symmetric, D = diag(scale); False if the numbers do not allow it."""
    for i in range(lo, hi):
        up = parent[i]
        scale[i] = 1.0
        if up >= 0:
            there, back = A[n, i, up], A[n, up, i]
            if there * back > 0.0:
                scale[i] = scale[up] * np.sqrt(there / back)
            elif there != 0.0 or back != 0.0:
                return False
    for i in range(lo, hi):
        for j in range(lo, hi):
            S[i, j] = 0.0
        S[i, i] = A[n, i, i]
    for i in range(lo, hi):
        up = parent[i]
        if up >= 0:
            product = A[n, i, up] * A[n, up, i]
            there = np.sqrt(product) if A[n, i, up] > 0.0 else -np.sqrt(product)
            S[i, up], S[up, i] = there, there
    return True


@internal
def _rotated(S: F64, Q: F64, p: int, q: int, lo: int, hi: int) -> None:
    """One Jacobi rotation: makes S[p, q] zero, turns the columns of Q."""
    off = S[p, q]
    theta = (S[q, q] - S[p, p]) / (2.0 * off)
    root = np.sqrt(theta * theta + 1.0)
    t = 1.0 / (theta + root) if theta >= 0.0 else 1.0 / (theta - root)
    c = 1.0 / np.sqrt(t * t + 1.0)
    s = t * c
    S[p, p] -= t * off
    S[q, q] += t * off
    S[p, q], S[q, p] = 0.0, 0.0
    for k in range(lo, hi):
        if k != p and k != q:
            a, b = S[k, p], S[k, q]
            S[k, p], S[k, q] = c * a - s * b, s * a + c * b
            S[p, k], S[q, k] = S[k, p], S[k, q]
    for k in range(lo, hi):
        a, b = Q[k, p], Q[k, q]
        Q[k, p], Q[k, q] = c * a - s * b, s * a + c * b


@forced
def _diagonalised(S: F64, Q: F64, lo: int, hi: int) -> bool:
    """Cyclic Jacobi on the block; Q its orthonormal eigenvectors (columns), S diagonal at the end."""
    for i in range(lo, hi):
        for j in range(lo, hi):
            Q[i, j] = 1.0 if i == j else 0.0
    for _ in range(40):
        done = True
        for p in range(lo, hi):
            for q in range(p + 1, hi):
                if abs(S[p, q]) > 1e-17 * np.sqrt(abs(S[p, p] * S[q, q])):
                    _rotated(S, Q, p, q, lo, hi)
                    done = False
        if done:
            return True
    return False


@forced
def modes(A: F64, n: int, starts: I64, parent: I64, S: F64, Q: F64, N: F64, X: F64, rates: F64, V: F64, U: F64) -> bool:
    """Eigenvalues of A[n], A V = V diag(rates), U = V^-1; S, Q, N, X (m, m) are scratch.

    False where they are not to be trusted.
    """
    m = rates.size
    for block in range(starts.size - 1):
        lo, hi = starts[block], starts[block + 1]
        if hi - lo == 1:
            rates[lo], S[lo, lo], Q[lo, lo] = 1.0, A[n, lo, lo], 1.0
        elif not (_symmetrised(A, n, lo, hi, parent, rates, S) and _diagonalised(S, Q, lo, hi)):
            return False
        for i in range(lo, hi):  # V = D Q and U = Q^T D^-1 of the block; D is kept in `rates` until S is diagonal
            for j in range(lo, hi):
                V[i, j] = rates[i] * Q[i, j]
                U[j, i] = Q[i, j] / rates[i]
    for i in range(m):
        rates[i] = S[i, i]
        if not abs(rates[i]) < np.inf:
            return False
    if starts.size > 2:
        _coupled(A, n, starts, N, V, U)
        if not _joined(starts, N, X, rates):
            return False
        _multiplied(starts, N, X, V, U)
    return True


@forced
def _coupled(A: F64, n: int, starts: I64, N: F64, V: F64, U: F64) -> None:
    """N = U A V below the blocks of the diagonal."""
    for bi in range(starts.size - 1):
        for bj in range(bi):
            for i in range(starts[bi], starts[bi + 1]):
                for j in range(starts[bj], starts[bj + 1]):
                    total = 0.0
                    for k in range(starts[bi], starts[bi + 1]):
                        for p in range(starts[bj], starts[bj + 1]):
                            total += U[i, k] * A[n, k, p] * V[p, j]
                    N[i, j] = total


@forced
def _joined(starts: I64, N: F64, X: F64, rates: F64) -> bool:
    """X: unit lower triangular eigenvectors of diag(rates) + N; False where two rates that meet are too near."""
    m, blocks = rates.size, starts.size - 1
    for bj in range(blocks):
        for j in range(starts[bj], starts[bj + 1]):
            for i in range(starts[bj], m):
                X[i, j] = 1.0 if i == j else 0.0
            for bi in range(bj + 1, blocks):
                for i in range(starts[bi], starts[bi + 1]):
                    total = N[i, j]
                    for k in range(starts[bj + 1], starts[bi]):
                        total += N[i, k] * X[k, j]
                    gap = rates[j] - rates[i]
                    if total != 0.0:
                        largest = max(abs(rates[i]), abs(rates[j]))
                        if not (abs(gap) > NEAR * largest):
                            return False
                        total /= gap
                    X[i, j] = total
    return True


@forced
def _multiplied(starts: I64, N: F64, X: F64, V: F64, U: F64) -> None:
    """V <- V X and U <- X^-1 U for the block diagonal V, U and the unit lower triangular X; N is scratch."""
    m, blocks = X.shape[0], starts.size - 1
    for bi in range(blocks):
        lo, hi = starts[bi], starts[bi + 1]
        for j in range(m):
            for i in range(lo, hi):
                total = 0.0
                for k in range(max(lo, j), hi):
                    total += V[i, k] * X[k, j]
                N[i, j] = total
    for bi in range(blocks):  # forward substitution, rows of U in order
        lo, hi = starts[bi], starts[bi + 1]
        for i in range(lo, hi):
            for j in range(m):
                total = U[i, j] if lo <= j < hi else 0.0
                for k in range(lo):
                    total -= X[i, k] * U[k, j]
                U[i, j] = total
    for i in range(m):
        for j in range(m):
            V[i, j] = N[i, j]
