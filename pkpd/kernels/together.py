r"""Log density of rows whose residual errors are correlated: measured together, judged together.

Of the rows of a group, u = (y - m)/s is jointly normal with correlations S (unit variances); m and s as in
`kernels.observations`. With measured rows M and rows beyond a limit C the log density is

    log N(u_M; 0, S_MM) - sum log s + log P(u_C within its limits | u_M)

u_C given u_M is normal with mean S_CM A u_M and covariance S_CC - S_CM A S_MC, A = S_MM^-1. At most two rows of a group
lie beyond a limit. Gradients are adjoints of these lines, through S = C C' to the root C.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.binormal import log_rectangle, log_strip
from pkpd.kernels.elementary import log
from pkpd.kernels.linking import internal
from pkpd.kernels.observations import ABOVE, BELOW, MEASURED

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_HALF_LOG_2PI = 0.9189385332046727418


@internal
def _scale(f: float, a: int, b: int, c: int, sd: F64) -> float:
    """Scale of a row's error."""
    if c >= 0:
        return float(sd[c])
    sa, sb = sd[a] if a >= 0 else 0.0, sd[b] * f if b >= 0 else 0.0
    return float(np.sqrt(sa * sa + sb * sb))


@internal
def _pulled(r: int, gm: float, gscale: float, s: float, place: I64, f: F64, sd: F64, gf: F64, gs: F64) -> None:
    """Gradients in a row's centre and scale to its prediction and the errors; place: of its terms in sd."""
    a, b, c = place[0], place[1], place[2]
    if c >= 0:
        gf[r] = gm / f[r] if gm != 0.0 else 0.0
        gs[c] += gscale
        return
    gf[r] = gm
    if a >= 0:
        gs[a] += gscale * sd[a] / s
    if b >= 0:
        gs[b] += gscale * sd[b] * f[r] * f[r] / s
        gf[r] += gscale * sd[b] * sd[b] * f[r] / s


@internal
def _inverse(S: F64, p: int, A: F64) -> float:
    """A = S^-1 of the first p rows and columns (Gauss-Jordan: S is positive definite); returns log det S."""
    for i in range(p):
        for j in range(p):
            A[i, j] = S[i, j]
    total = 0.0
    for k in range(p):
        pivot = A[k, k]
        total += log(pivot)
        A[k, k] = 1.0
        for j in range(p):
            A[k, j] /= pivot
        for i in range(p):
            if i != k:
                factor = A[i, k]
                A[i, k] = 0.0
                for j in range(p):
                    A[i, j] -= factor * A[k, j]
    return total


@internal
def _beyond(S: F64, A: F64, p: int, m: int, u: F64, v: F64, high: F64, gu: F64, gh: F64, gS: F64) -> float:
    """log P of the rows p ... m - 1 (one or two) within u (lower) and high, given the first p; their gradients."""
    w, tau, mean = np.zeros((2, p + 1)), np.ones(2), np.zeros(2)
    n = m - p
    for k in range(n):
        left = 1.0
        for i in range(p):
            for j in range(p):
                w[k, i] += A[i, j] * S[p + k, j]
        for i in range(p):
            mean[k] += w[k, i] * u[i]
            left -= w[k, i] * S[p + k, i]
        tau[k] = np.sqrt(left)
    a1, b1 = (u[p] - mean[0]) / tau[0], (high[p] - mean[0]) / tau[0]
    a2, b2, r, gr = -np.inf, np.inf, 0.0, 0.0
    if n == 1:
        value, ga1, gb1 = log_strip(a1, b1)
        ga2 = gb2 = 0.0
    else:
        a2, b2, r = (u[p + 1] - mean[1]) / tau[1], (high[p + 1] - mean[1]) / tau[1], S[p, p + 1]
        for i in range(p):
            r -= w[0, i] * S[p + 1, i]
        r /= tau[0] * tau[1]
        value, ga1, gb1, ga2, gb2, gr = log_rectangle(a1, b1, a2, b2, r)
    for k in range(n):
        low, top, glow, gtop = (a1, b1, ga1, gb1) if k == 0 else (a2, b2, ga2, gb2)
        gu[p + k], gh[p + k] = glow / tau[k], gtop / tau[k]
        gtau = -(glow * low if glow != 0.0 else 0.0) - (gtop * top if gtop != 0.0 else 0.0) - gr * r
        _given(S, p, k, k, 0.5 * gtau / (tau[k] * tau[k]), w, gS)
        gmean = -(glow + gtop) / tau[k]
        for i in range(p):
            gu[i] += gmean * w[k, i]
            gS[p + k, i] += gmean * v[i]
            for j in range(p):
                gS[i, j] -= gmean * w[k, i] * v[j]
    if n == 2:
        _given(S, p, 0, 1, gr / (tau[0] * tau[1]), w, gS)
    return value


@internal
def _given(S: F64, p: int, k: int, n: int, g: float, w: F64, gS: F64) -> None:
    """Adjoint g of the conditional covariance Q_kn = S_kn - S_kM A S_Mn."""
    gS[p + k, p + n] += g
    for i in range(p):
        gS[p + k, i] -= g * w[n, i]
        gS[p + n, i] -= g * w[k, i]
        for j in range(p):
            gS[i, j] += g * w[k, i] * w[n, j]


@internal
def _taken(
    g: int, y: F64, f: F64, output: I64, terms: I64, kind: I64, floor: F64, sd: F64, rows: I64,
    at: I64, u: F64, high: F64, s: F64,
) -> tuple[int, int, float]:  # fmt: skip
    """A group's rows, those measured first: at (rows), u (standardised, or the lower limit), high, s; returns how many
    are measured, how many there are, and minus the logarithms of the measured ones' scales.
    """
    m, p, total = 0, 0, 0.0
    for want in range(2):
        for k in range(rows.shape[1]):
            r = rows[g, k]
            if r < 0 or (kind[r] % 8 == MEASURED) != (want == 0):
                continue
            o, what = output[r], kind[r] % 8
            logs = terms[o, 2] >= 0
            s[m] = _scale(f[r], terms[o, 0], terms[o, 1], terms[o, 2], sd)
            centre = log(f[r]) if logs else f[r]
            top = log(y[r]) if logs else y[r]
            at[m], u[m], high[m] = r, (top - centre) / s[m], np.inf
            if what == MEASURED:
                total -= log(s[m]) + (top if logs else 0.0)
                p += 1
            elif what != ABOVE:
                high[m] = u[m]
                bottom = log(floor[r]) if logs and what != BELOW else floor[r]
                u[m] = -np.inf if what == BELOW else (bottom - centre) / s[m]
            m += 1
    return p, m, total


@internal
def together(
    y: F64, f: F64, output: I64, terms: I64, kind: I64, floor: F64, sd: F64, gf: F64, gs: F64, each: F64, rows: I64,
    C: F64, gC: F64,
) -> float:  # fmt: skip
    """Log density of the groups rows (G, K), -1 beyond a group's own; C (outputs, outputs): root of the correlations,
    gC its gradient (set here). Of `each` the first row of a group has the density of all, the others 0.
    """
    K, N, total = rows.shape[1], C.shape[0], 0.0
    R, gR = np.zeros((N, N)), np.zeros((N, N))
    for i in range(N):
        for j in range(N):
            for n in range(N):
                R[i, j] += C[i, n] * C[j, n]
    S, A, gS = np.empty((K, K)), np.empty((K, K)), np.empty((K, K))
    at, u, v, high, s = np.empty(K, np.int64), np.empty(K), np.empty(K), np.empty(K), np.empty(K)
    gu, gh = np.empty(K), np.empty(K)
    for g in range(rows.shape[0]):
        p, m, value = _taken(g, y, f, output, terms, kind, floor, sd, rows, at, u, high, s)
        for i in range(m):
            gu[i] = gh[i] = 0.0
            for j in range(m):
                gS[i, j], S[i, j] = 0.0, R[output[at[i]], output[at[j]]]
        value -= 0.5 * _inverse(S, p, A) + p * _HALF_LOG_2PI
        for i in range(p):
            v[i] = 0.0
            for j in range(p):
                v[i] += A[i, j] * u[j]
            gu[i] = -v[i]
            value -= 0.5 * u[i] * v[i]
        for i in range(p):
            for j in range(p):
                gS[i, j] = 0.5 * (v[i] * v[j] - A[i, j])
        if m > p:
            value += _beyond(S, A, p, m, u, v, high, gu, gh, gS)
        for i in range(m):
            own = gu[i] * u[i] if gu[i] != 0.0 else 0.0
            own += gh[i] * high[i] if gh[i] != 0.0 else 0.0
            own += 1.0 if i < p else 0.0
            _pulled(at[i], -(gu[i] + gh[i]) / s[i], -own / s[i], s[i], terms[output[at[i]]], f, sd, gf, gs)
            for j in range(m):
                gR[output[at[i]], output[at[j]]] += gS[i, j]
        total += value
        for i in range(m if each.size > 0 else 0):
            each[at[i]] = value if at[i] == rows[g, 0] else 0.0
    for i in range(N):
        for n in range(N):
            gC[i, n] = 0.0
            for j in range(N):
                gC[i, n] += (gR[i, j] + gR[j, i]) * C[j, n]
    return total
