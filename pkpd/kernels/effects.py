r"""Priors and random effects of a hierarchical model: log density and its gradient, hand-derived.

The unconstrained vector is [typical values | log sds of random effects | logits of partial correlations | log residual
sds | log sds between occasions | coordinates of what is each subject's own (`kernels.standardised`): effects, those of
occasions, missing covariates]. Random effects are L z, L = diag(sd) C with C the Cholesky factor of the correlations by
partial correlations. Gradients are adjoints of these lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, expit, log
from pkpd.kernels.linking import internal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@internal
def normal_prior(x: F64, g: F64, at: int, location: F64, scale: F64) -> float:
    """Normal priors of location.size values from x[at]; constants left out."""
    total = 0.0
    for k in range(location.size):
        r = (x[at + k] - location[k]) / scale[k]
        total -= 0.5 * r * r
        g[at + k] -= r / scale[k]
    return total


@internal
def filled(x: F64, at: int, absent: I64, law: F64, known: F64) -> None:
    """Missing covariates from standard normals x[at + n]: absent (., 3): piece, column, n; law (n, 3): location, scale
    and 1 on the log scale.
    """
    for e in range(absent.shape[0]):
        n = absent[e, 2]
        value = law[n, 0] + law[n, 1] * x[at + n]
        known[absent[e, 0], absent[e, 1]] = exp(value) if law[n, 2] == 1.0 else value


@internal
def filled_back(g: F64, at: int, absent: I64, law: F64, known: F64, gknown: F64) -> None:
    """Adjoint of `filled`."""
    for e in range(absent.shape[0]):
        w, p, n = absent[e, 0], absent[e, 1], absent[e, 2]
        g[at + n] += gknown[w, p] * law[n, 1] * (known[w, p] if law[n, 2] == 1.0 else 1.0)


@internal
def half_normal_prior(x: F64, g: F64, at: int, scale: F64, sd: F64) -> float:
    """Half-normal priors of sds given by their logs, Jacobian included; fills `sd`; constants left out."""
    total = 0.0
    for k in range(scale.size):
        sd[k] = exp(x[at + k])
        r = sd[k] / scale[k]
        total += x[at + k] - 0.5 * r * r
        g[at + k] += 1.0 - r * r
    return total


@internal
def correlation_root(
    x: F64, g: F64, at: int, shape: F64, row: I64, column: I64, first: I64, C: F64, rest: F64
) -> float:
    """Beta(b, b) priors of (1 + partial)/2 given by logits, Jacobian included; fills C (q, q) and rest (pairs,).

    Pairs stand row by row; first = 1 where a row begins; rest = sqrt of what the columns before left of the row.
    """
    for i in range(C.shape[0]):
        for j in range(C.shape[0]):
            C[i, j] = 1.0 if i == j else 0.0
    total, left = 0.0, 1.0
    for k in range(shape.size):
        y = x[at + k]
        b = expit(y)
        total += shape[k] * (-np.abs(y) - 2.0 * log(1.0 + exp(-np.abs(y))))
        g[at + k] += shape[k] * (1.0 - 2.0 * b)
        p = 2.0 * b - 1.0
        left = 1.0 if first[k] == 1 else left
        rest[k] = np.sqrt(left)
        C[row[k], column[k]] = p * rest[k]
        left *= 4.0 * b * expit(-y)
        C[row[k], row[k]] = np.sqrt(left)
    return total


@internal
def correlation_root_back(
    x: F64, g: F64, at: int, row: I64, column: I64, first: I64, C: F64, rest: F64, gC: F64
) -> None:
    """Adjoint of `correlation_root`: gC (q, q) -> g."""
    later = 0.0
    new = True
    for k in range(row.size - 1, -1, -1):
        i, j = row[k], column[k]
        if new:
            later = gC[i, i] * C[i, i]
        b = expit(x[at + k])
        c = expit(-x[at + k])
        slope = gC[i, j] * rest[k] - later * (b - c) / (4.0 * b * c)
        g[at + k] += slope * 2.0 * b * c
        later += gC[i, j] * C[i, j]
        new = first[k] == 1


@internal
def spread_out(t: F64, L: F64, linked: I64, who: I64, Z: F64, U: F64) -> None:
    """Individual values U (N, P) on the parameters' scales: typical values t (P,) and, for effect j, (L z)_j added to
    parameter who[j]; Z (D, N) the standard normal effects, the first of them those of parameters.
    """
    N = U.shape[0]
    for i in range(N):
        for p in range(U.shape[1]):
            U[i, p] = t[p]
    for j in range(who.size):
        p = who[j]
        for k in range(j + 1):
            if linked[j, k] == 1:
                for i in range(N):
                    U[i, p] += L[j, k] * Z[k, i]


@internal
def spread_back(L: F64, linked: I64, who: I64, Z: F64, gU: F64, gt: F64, gZ: F64, gL: F64) -> None:
    """Adjoint of `spread_out`: gU (N, P) -> gt (P,), gZ (D, N), gL (D, D)."""
    N = gU.shape[0]
    for p in range(gt.size):
        for i in range(N):
            gt[p] += gU[i, p]
    for j in range(who.size):
        p = who[j]
        for k in range(j + 1):
            if linked[j, k] == 1:
                s = 0.0
                for i in range(N):
                    gZ[k, i] += L[j, k] * gU[i, p]
                    s += gU[i, p] * Z[k, i]
                gL[j, k] += s


@internal
def roots(sd: F64, C: F64, late: F64, each: int, L: F64, linked: I64) -> None:
    """Root L (D, D) of all that is a subject's own and where it may differ from 0: effects of parameters sd C, of up to
    `each` occasions (late: their sds, effect after effect), 1 for missing covariates.
    """
    q = sd.size
    L[:, :] = 0.0
    for d in range(L.shape[0]):
        L[d, d], linked[d, d] = 1.0, 1
    for j in range(q):
        for k in range(j + 1):
            L[j, k] = sd[j] * C[j, k]
    for k in range(late.size):
        for e in range(each):
            L[q + k * each + e, q + k * each + e] = late[k]


@internal
def gathered(at: I64, first: int, g: F64, gZ: F64) -> None:
    """gZ (D, N) from row `first` on, from gradients g (size,) by place."""
    for d in range(first, at.shape[0]):
        for i in range(at.shape[1]):
            gZ[d, i] = g[at[d, i]] if at[d, i] >= 0 else 0.0


@internal
def half_cauchy_prior(x: F64, g: F64, at: int, scale: float) -> float:
    """Half-Cauchy prior of a positive number given by its logarithm x[at], Jacobian included."""
    a = 2.0 * (x[at] - log(scale))
    g[at] += 1.0 - 2.0 * expit(a)
    above = max(a, 0.0) + log(1.0 + exp(-abs(a)))
    return float(x[at] - log(1.5707963267948966 * scale) - above)


@internal
def shrunk_out(x: F64, g: F64, at: int, which: I64, slab: F64, tail: F64, free: I64, t: F64) -> float:
    """Coefficients with a regularised horseshoe, t = slab z w, w^2 = (tau l)^2/(1 + (tau l)^2); returns the log density
    of tau = e^x[at] and l_k = e^x[at + 1 + k].

    which (m,): place of each among the typical values, where z stands; free: their parameters, places in t.
    """
    if which.size == 0:
        return 0.0
    total = half_cauchy_prior(x, g, at, tail[0])
    for k in range(which.size):
        total += half_cauchy_prior(x, g, at + 1 + k, 1.0)
        w = np.sqrt(expit(2.0 * (x[at] + x[at + 1 + k])))
        t[free[which[k]]] = slab[k] * x[which[k]] * w
    return total


@internal
def shrunk_back(x: F64, g: F64, at: int, which: I64, slab: F64, free: I64, gt: F64) -> None:
    """Adjoint of `shrunk_out`; their places in gt are used up."""
    for k in range(which.size):
        a = 2.0 * (x[at] + x[at + 1 + k])
        w, own = np.sqrt(expit(a)), gt[free[which[k]]] * slab[k]
        g[which[k]] += own * w
        move = own * x[which[k]] * w * expit(-a)
        g[at] += move
        g[at + 1 + k] += move
        gt[free[which[k]]] = 0.0
