r"""Random effects in coordinates that the data have standardised: log density and adjoint, hand-derived.

Subject i has D effects L z, z ~ N(0, I): those of its parameters, of its occasions, its missing covariates. In the
normal approximation of a look beforehand its rows say of L z that log p(rows | L z) = -(L z - p)'I(L z - p)/2, p linear
in the typical values t. Given (t, L) the effects then are normal with

    P = 1 + L'IL = T T',    mean(z) = P^-1 L'h,    h = I p,    p = peak - slope t,

and what is sampled is y in z = T'^-1 (T^-1 L'h + y): a standard normal vector a posteriori, whatever t and L, as far as
the approximation holds. Where the data say nothing (I = 0) that is the non-centred form, where they say all the
individual value (centred); where omega may be near 0 it goes over into the non-centred form by itself, so that there is
no funnel on either side (the data-dependent partially non-centred form of Papaspiliopoulos, Roberts & Skold 2003,
Bayesian Statistics 7, with the degree a function of omega). The law is the same whatever I and h:

    log density of y = -z'z/2 - sum log T_jj.

What the rows say grows with the precision of their errors. Where a subject has about as many rows as effects, the
length of all y together would tell the residual error, and coordinates made at one error bind it; so I follows it, but
not the peak: s I s for I, 1/s_j^2 = 1 + sum_k share_jk ((error_k / error_k at the look)^2 - 1), share_jk: of error k
in the variance of the rows that tell of effect j.

Arrays have the subjects last, loops over subjects are innermost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.linking import internal, separate

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@internal
def _copy(out: F64, a: F64) -> None:
    separate()
    for i in range(out.size):
        out[i] = a[i]


@internal
def _add(out: F64, factor: float, a: F64) -> None:
    separate()
    for i in range(out.size):
        out[i] += factor * a[i]


@internal
def _subtract(out: F64, a: F64, b: F64) -> None:
    separate()
    for i in range(out.size):
        out[i] -= a[i] * b[i]


@internal
def _multiply(out: F64, a: F64) -> None:
    separate()
    for i in range(out.size):
        out[i] *= a[i]


@internal
def _add_product(out: F64, factor: float, a: F64, b: F64) -> None:
    separate()
    for i in range(out.size):
        out[i] += factor * a[i] * b[i]


@internal
def _dot(a: F64, b: F64) -> float:
    """Sum of products in four strands, the same order everywhere."""
    s0 = s1 = s2 = s3 = 0.0
    i = 0
    while i + 4 <= a.size:
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        i += 4
    while i < a.size:
        s0 += a[i] * b[i]
        i += 1
    return (s0 + s1) + (s2 + s3)


@internal
def _peaks(x: F64, peak: F64, slope: F64, share: F64, seen: F64, error_at: int, S: F64, Q: F64) -> None:
    """S = s and Q = s p of `standardised`."""
    for j in range(Q.shape[0]):
        _copy(Q[j], peak[j])
        for k in range(slope.shape[1]):
            _add(Q[j], -x[k], slope[j, k])
        S[j, :] = 1.0
        for k in range(seen.size):
            _add(S[j], exp(2.0 * (x[error_at + k] - seen[k])) - 1.0, share[j, k])
        for i in range(Q.shape[1]):
            S[j, i] = 1.0 / np.sqrt(max(S[j, i], 1e-12))
            Q[j, i] *= S[j, i]


@internal
def standardised(
    x: F64, at: I64, L: F64, linked: I64, info: F64, peak: F64, slope: F64, share: F64, seen: F64, error_at: int,
    S: F64, A: F64, T: F64, v: F64, Q: F64, H: F64, W: F64, Z: F64, z: F64,
) -> float:  # fmt: skip
    """Effects Z (q, N) of the coordinates x, and their log density, constants left out.

    x: typical values first; at (q, N): place of each coordinate in x and of its effect in z, -1 where a subject has
    fewer; L (q, q) lower; linked (q, q): 1 where L may differ from 0; info (q, q, N), peak (q, N), slope (q, typical,
    N): what the look found; share (q, errors, N), seen (errors,): its log sds, those now from x[error_at]. Filled
    besides: S = s (q, N), Q = s p, H = h, A = s info s L, T, v = 1/diag T (q, N), W = T^-1 L'h.
    """
    q, N = Z.shape
    _peaks(x, peak, slope, share, seen, error_at, S, Q)
    for j in range(q):
        H[j, :] = 0.0
        for k in range(q):
            _add_product(H[j], 1.0, info[j, k], Q[k])
        _multiply(H[j], S[j])
        for k in range(q):
            A[j, k, :] = 0.0
            for m in range(k, q):
                if linked[m, k] == 1:
                    _add_product(A[j, k], L[m, k], info[j, m], S[m])
            _multiply(A[j, k], S[j])
    for j in range(q):
        W[j, :] = 0.0
        for k in range(j + 1):
            T[j, k, :] = 1.0 if j == k else 0.0
        for m in range(j, q):
            if linked[m, j] == 1:
                _add(W[j], L[m, j], H[m])
                for k in range(j + 1):
                    _add(T[j, k], L[m, j], A[m, k])
    for k in range(q):
        for j in range(k, q):
            for m in range(k):
                _subtract(T[j, k], T[j, m], T[k, m])
            if j == k:
                for i in range(N):
                    T[k, k, i] = np.sqrt(T[k, k, i])
                    v[k, i] = 1.0 / T[k, k, i]
            else:
                _multiply(T[j, k], v[k])
    for j in range(q):
        for k in range(j):
            _subtract(W[j], T[j, k], W[k])
        _multiply(W[j], v[j])
        for i in range(N):
            Z[j, i] = W[j, i] + (x[at[j, i]] if at[j, i] >= 0 else 0.0)
    total = 0.0
    for j in range(q - 1, -1, -1):
        for k in range(j + 1, q):
            _subtract(Z[j], T[k, j], Z[k])
        _multiply(Z[j], v[j])
        total -= 0.5 * _dot(Z[j], Z[j])
        for i in range(N):
            total += log(v[j, i])
            if at[j, i] >= 0:
                z[at[j, i]] = Z[j, i]
    return total


@internal
def _factor_back(F: F64, T: F64, v: F64) -> None:
    """Adjoint of the Cholesky factor T in place, last column first (Smith 1995)."""
    q = T.shape[0]
    for k in range(q - 1, -1, -1):
        for j in range(q - 1, k - 1, -1):
            if j == k:
                for i in range(v.shape[1]):
                    F[k, k, i] *= 0.5 * v[k, i]
            else:
                _multiply(F[j, k], v[k])
                _subtract(F[k, k], F[j, k], T[j, k])
            for m in range(k):
                _subtract(F[j, m], F[j, k], T[k, m])
                _subtract(F[k, m], F[j, k], T[j, m])


@internal
def standardised_back(
    g: F64, at: I64, L: F64, linked: I64, x: F64, info: F64, slope: F64, share: F64, seen: F64, error_at: int, S: F64,
    A: F64, T: F64, v: F64, Q: F64, H: F64, W: F64, Z: F64, gZ: F64, gL: F64,
) -> None:  # fmt: skip
    """Adjoint of `standardised` and of its log density: gZ (q, N), used up -> g of typical values, errors and
    coordinates, gL.

    With s = T^-1 gz and r = T'^-1 s: dz = T'^-1 (dy + dw - dT' z), dw = T^-1 (d(L'h) - dT w).
    """
    q, N = Z.shape
    B, F = np.empty((q, N)), np.empty((q, q, N))
    for j in range(q):
        for i in range(N):
            gZ[j, i] -= Z[j, i]
        for k in range(j):
            _subtract(gZ[j], T[j, k], gZ[k])
        _multiply(gZ[j], v[j])
        for i in range(N):
            if at[j, i] >= 0:
                g[at[j, i]] = gZ[j, i]
    for j in range(q - 1, -1, -1):
        _copy(B[j], gZ[j])
        for k in range(j + 1, q):
            _subtract(B[j], T[k, j], B[k])
        _multiply(B[j], v[j])
    for j in range(q):
        for k in range(j + 1):
            for i in range(N):
                F[j, k, i] = -Z[j, i] * gZ[k, i] - B[j, i] * W[k, i]
        for i in range(N):
            F[j, j, i] -= v[j, i]
    _factor_back(F, T, v)
    R, ones, grown = np.empty(N), np.ones(N), np.empty((q, N))  # the last: adjoint of log s
    grown[:, :] = 0.0
    for j in range(q):
        for m in range(j, q):
            if linked[m, j] == 1:
                R[:] = 0.0
                for k in range(q):
                    _add_product(R, 2.0 if k == j else 1.0, A[m, k], F[max(j, k), min(j, k)])
                gL[m, j] += _dot(H[m], B[j]) + _dot(R, ones)
                _add(grown[m], L[m, j], R)
    for j in range(q):
        W[j, :] = 0.0  # now the adjoint of h
        for k in range(j + 1):
            if linked[j, k] == 1:
                _add(W[j], L[j, k], B[k])
        _add_product(grown[j], 1.0, H[j], W[j])
        _multiply(W[j], S[j])
    for j in range(q):
        R[:] = 0.0  # of s p, then of p
        for k in range(q):
            _add_product(R, 1.0, info[k, j], W[k])
        _add_product(grown[j], 1.0, Q[j], R)
        for i in range(N):
            R[i] *= S[j, i]
            grown[j, i] *= S[j, i] * S[j, i]
        for k in range(slope.shape[1]):
            g[k] -= _dot(slope[j, k], R)
        for k in range(seen.size):
            g[error_at + k] -= exp(2.0 * (x[error_at + k] - seen[k])) * _dot(share[j, k], grown[j])
