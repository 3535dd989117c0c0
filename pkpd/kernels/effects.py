r"""Priors and random effects of a hierarchical model: log density and its gradient, hand-derived.

The unconstrained vector is [typical values | log sds of random effects | logits of partial correlations | log residual
sds | random effects, effect after effect]. Random effects eta_i = L z_i, L = diag(sd) C with C the Cholesky factor of
the correlations by partial correlations. With the effects in order, m_j = t_j + sum_{k<j} L_jk z_k and a degree c_j of
centring, what is sampled is

    v_j = c_j m_j + L_jj^c_j z_j          log density  -z_j^2/2 - c_j log L_jj,          u_j = m_j + L_jj z_j,

the standard normal effect for c = 0 (non-centred), the individual value u for c = 1 (centred), and for what lies
between a coordinate that moves little with t and L where the data tell a share c of a subject's effect (Gorinova, Moore
& Hoffman 2020, ICML, arXiv 1906.03028). The law is the same for every c. Gradients are adjoints of these lines, last
effect first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, expit, log
from pkpd.kernels.intrinsics import inlined

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@inlined
def normal_prior(x: F64, g: F64, at: int, location: F64, scale: F64) -> float:
    """Normal priors of location.size values from x[at]; constants left out."""
    total = 0.0
    for k in range(location.size):
        r = (x[at + k] - location[k]) / scale[k]
        total -= 0.5 * r * r
        g[at + k] -= r / scale[k]
    return total


@inlined
def standard_normal(x: F64, g: F64, lo: int, hi: int) -> float:
    """Standard normal priors of x[lo:hi]; constants left out."""
    total = 0.0
    for k in range(lo, hi):
        total -= 0.5 * x[k] * x[k]
        g[k] -= x[k]
    return total


@inlined
def filled(x: F64, at: int, absent: I64, law: F64, known: F64) -> None:
    """Missing covariates from standard normals x[at + n]: absent (., 3): piece, column, n; law (n, 3): location, scale
    and 1 on the log scale.
    """
    for e in range(absent.shape[0]):
        n = absent[e, 2]
        value = law[n, 0] + law[n, 1] * x[at + n]
        known[absent[e, 0], absent[e, 1]] = exp(value) if law[n, 2] == 1.0 else value


@inlined
def filled_back(g: F64, at: int, absent: I64, law: F64, known: F64, gknown: F64) -> None:
    """Adjoint of `filled`."""
    for e in range(absent.shape[0]):
        w, p, n = absent[e, 0], absent[e, 1], absent[e, 2]
        g[at + n] += gknown[w, p] * law[n, 1] * (known[w, p] if law[n, 2] == 1.0 else 1.0)


@inlined
def half_normal_prior(x: F64, g: F64, at: int, scale: F64, sd: F64) -> float:
    """Half-normal priors of sds given by their logs, Jacobian included; fills `sd`; constants left out."""
    total = 0.0
    for k in range(scale.size):
        sd[k] = exp(x[at + k])
        r = sd[k] / scale[k]
        total += x[at + k] - 0.5 * r * r
        g[at + k] += 1.0 - r * r
    return total


@inlined
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


@inlined
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


@inlined
def spread_out(x: F64, at: int, t: F64, L: F64, who: I64, centred: F64, Z: F64, U: F64) -> float:
    """Z (N, q) and the individual values U (N, P) on the parameters' scales; who (q,): parameter of each effect;
    centred (q, N): degree of centring.

    Returns the log density of the effects, constants left out.
    """
    N, q = Z.shape
    total = 0.0
    for i in range(N):
        for p in range(U.shape[1]):
            U[i, p] = t[p]
    for j in range(q):
        p, root = who[j], log(L[j, j])
        base, inside = at + j * N, 0.0
        for i in range(N):
            m, c = t[p], centred[j, i]
            for k in range(j):
                m += L[j, k] * Z[i, k]
            z = (x[base + i] - c * m) * exp(-c * root)
            Z[i, j] = z
            U[i, p] = m + L[j, j] * z
            inside += c
            total -= 0.5 * z * z
        total -= inside * root
    return total


@inlined
def spread_back(g: F64, at: int, L: F64, who: I64, centred: F64, Z: F64, gU: F64, gt: F64, gL: F64) -> None:
    """Adjoint of `spread_out` and of its log density: gU (N, P) -> g of the effects, gt (P,), gL (q, q)."""
    N, q = Z.shape
    gz, root = np.zeros(q), np.empty(q)
    for j in range(q):
        root[j] = log(L[j, j])
    for i in range(N):
        for j in range(q):
            gz[j] = -Z[i, j]
        for j in range(q - 1, -1, -1):
            p, c = who[j], centred[j, i]
            mine = gU[i, p]
            whole = gz[j] + mine * L[j, j]
            w = whole * exp(-c * root[j])
            gm = mine - c * w
            g[at + j * N + i] += w
            gU[i, p] = gm  # what is left of it belongs to the typical value
            for k in range(j):
                gL[j, k] += gm * Z[i, k]
                gz[k] += gm * L[j, k]
            gL[j, j] += mine * Z[i, j] - c * (whole * Z[i, j] + 1.0) / L[j, j]
    for p in range(gt.size):
        for i in range(N):
            gt[p] += gU[i, p]


@inlined
def between_out(x: F64, at: int, sd: F64, U: F64, who: I64, slots: I64, degree: F64, Z: F64) -> float:
    """Effects between occasions: Z (n, K) from x[at:]; slots (K,): subject of each occasion; who (n,): parameter.

    With u the subject's value and a degree c: x = c u + sd^c z; the occasion's value is u + sd z. Returns the log
    density, constants left out.
    """
    K, total = slots.size, 0.0
    for k in range(who.size):
        root = log(sd[k])
        for s in range(K):
            c = degree[k, s]
            Z[k, s] = (x[at + k * K + s] - c * U[slots[s], who[k]]) * exp(-c * root)
            total -= 0.5 * Z[k, s] * Z[k, s] + c * root
    return total


@inlined
def between_back(
    g: F64, at: int, sd: F64, who: I64, slots: I64, degree: F64, Z: F64, gw: F64, gU: F64, gsd: F64
) -> None:  # fmt: skip
    """Adjoint of `between_out` and of its log density: gw (n, K), gradient to sd z -> g, gU (N, P), gsd (n,)."""
    K = slots.size
    for k in range(who.size):
        root = log(sd[k])
        for s in range(K):
            c, z = degree[k, s], Z[k, s]
            whole = gw[k, s] * sd[k] - z
            w = whole * exp(-c * root)
            g[at + k * K + s] += w
            gU[slots[s], who[k]] -= c * w
            gsd[k] += gw[k, s] * z - c * (whole * z + 1.0) / sd[k]


@inlined
def half_cauchy_prior(x: F64, g: F64, at: int, scale: float) -> float:
    """Half-Cauchy prior of a positive number given by its logarithm x[at], Jacobian included."""
    a = 2.0 * (x[at] - log(scale))
    g[at] += 1.0 - 2.0 * expit(a)
    above = max(a, 0.0) + log(1.0 + exp(-abs(a)))
    return float(x[at] - log(1.5707963267948966 * scale) - above)


@inlined
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


@inlined
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
