r"""Linear compartments by their modes, and states that are linear in themselves behind them; with adjoints.

A linear system y' = A y with doses into states d has y = V a, where the amplitude of mode m is

    a_m(t) = sum_d U_md share_d H_md(t),    H_md(t) = sum_doses amount e^(l_m (t - t_dose))

H and its derivative T = dH/dl are carried from dose to dose, so that values and gradients need two exponentials a mode
and no sweep back in time. A state x' = a(t) - b(t) x behind them (turnover models, effect compartments) follows by
variation of constants with Gauss-Legendre nodes in each interval of a fixed grid,

    x(t + h) = x(t) e^-B + h sum_g w_g a_g e^-(B - B_g),    B_g = h sum_k Q_gk b_k.

Rows and nodes stand in runs of one subject and one segment (its last action before them) and know the time since.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp
from pkpd.kernels.linking import internal, separate
from pkpd.kernels.modes import NEAR, grown, grown_twice, modes

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ADD, RATE, STEADY, RESET = range(4)


NUDGE = 3.0 * NEAR
"""What blocks are moved apart by, relative, where rates of two of them meet: the density has no hole there."""


@internal
def decompose(A: F64, starts: I64, parent: I64, rates: F64, V: F64, U: F64) -> None:
    """Modes of every subject, A (N, M, M), of blocks moved apart where their rates meet; where there are none, NaN."""
    M = A.shape[1]
    S, Q, W, X = np.empty((M, M)), np.empty((M, M)), np.empty((M, M)), np.empty((M, M))
    B = np.empty((1, M, M))
    for i in range(A.shape[0]):
        if modes(A, i, starts, parent, S, Q, W, X, rates[i], V[i], U[i]):
            continue
        for a in range(M):
            for b in range(M):
                B[0, a, b] = A[i, a, b]
        for block in range(1, starts.size - 1):
            for a in range(starts[block], starts[block + 1]):
                for b in range(starts[block], starts[block + 1]):
                    B[0, a, b] *= 1.0 + NUDGE * block
        if not modes(B, 0, starts, parent, S, Q, W, X, rates[i], V[i], U[i]):
            for m in range(M):
                rates[i, m] = np.nan


@internal
def cascade(A: F64, rates: F64, V: F64, U: F64) -> None:
    """`decompose` of lower triangular matrices, where no two states exchange anything."""
    for i in range(rates.shape[0]):
        if _cascaded(A[i], 0.0, rates[i], V[i], U[i]) or _cascaded(A[i], NUDGE, rates[i], V[i], U[i]):
            continue
        for j in range(rates.shape[1]):
            rates[i, j] = np.nan


@internal
def _cascaded(A: F64, nudge: float, rates: F64, V: F64, U: F64) -> bool:
    """One subject's, its rates moved apart by nudge; False where two that meet are too near."""
    M, apart = rates.size, True
    for j in range(M):
        rates[j] = A[j, j] * (1.0 + nudge * j)
        apart = apart and abs(A[j, j]) < np.inf
        for k in range(M):
            V[k, j], U[k, j] = (1.0, 1.0) if k == j else (0.0, 0.0)
    for j in range(M - 1, -1, -1):
        for k in range(j + 1, M):
            into, back = 0.0, 0.0
            for m in range(j, k):
                into += A[k, m] * V[m, j]
            gap, largest = rates[j] - rates[k], max(abs(rates[j]), abs(rates[k]))
            apart = apart and (into == 0.0 or abs(gap) > NEAR * largest)
            V[k, j] = into / gap if into != 0.0 else 0.0
            for m in range(j, k):
                back -= V[k, m] * U[m, j]
            U[k, j] = back
    return apart


@internal
def decompose_back(rates: F64, V: F64, U: F64, grates: F64, gV: F64, gU: F64, gA: F64) -> None:
    """Adjoint of `decompose`: gA = U' G V', G_mm = grates_m, G_jm = (V' gV - gU U')_jm/(l_m - l_j)."""
    N, M = rates.shape
    G = np.empty((M, M))
    for i in range(N):
        for j in range(M):
            for m in range(M):
                s = 0.0
                for k in range(M):
                    s += V[i, k, j] * gV[i, k, m] - gU[i, j, k] * U[i, m, k]
                G[j, m] = grates[i, m] if j == m else s / (rates[i, m] - rates[i, j])
        for j in range(M):  # G V' takes the place of gU
            for b in range(M):
                s = 0.0
                for m in range(M):
                    s += G[j, m] * V[i, b, m]
                gU[i, j, b] = s
        for a in range(M):
            for b in range(M):
                s = 0.0
                for j in range(M):
                    s += U[i, j, a] * gU[i, j, b]
                gA[i, a, b] = s


@internal
def _held(rate: float, s: float) -> tuple[float, float]:
    """(e^(l s) - 1)/l and its derivative in l."""
    x = rate * s
    first = grown(x)
    return s * first, s * s * (first - grown_twice(x))


@internal
def _periodic(rate: float, row: F64) -> tuple[float, float]:
    """H and T of a periodic bolus row = (amount, interval, duration 0, phase)."""
    keep = exp(rate * row[1])
    value = row[0] * exp(rate * row[3]) / (1.0 - keep)
    return value, value * (row[3] + row[1] * keep / (1.0 - keep))


@internal
def histories(
    rates: F64, offsets: I64, since: F64, kind: I64, dose: I64, amount: F64, steady: F64, H: F64, T: F64, R: F64,
) -> None:  # fmt: skip
    """H, T (actions, M, D) just after each action and the running input rates R (actions, D).

    since: hours since the subject's action before; dose: which of the D dosed states.
    """
    M, D = H.shape[1], H.shape[2]
    for i in range(offsets.size - 1):
        for k in range(offsets[i], offsets[i + 1]):
            for d in range(D):
                R[k, d] = R[k - 1, d] if k > offsets[i] else 0.0
            for m in range(M):
                keep = exp(rates[i, m] * since[k])
                for d in range(D):
                    if k == offsets[i]:
                        H[k, m, d], T[k, m, d] = 0.0, 0.0
                        continue
                    H[k, m, d] = keep * H[k - 1, m, d]
                    T[k, m, d] = keep * (T[k - 1, m, d] + since[k] * H[k - 1, m, d])
                    if R[k, d] != 0.0:
                        value, slope = _held(rates[i, m], since[k])
                        H[k, m, d] += R[k, d] * value
                        T[k, m, d] += R[k, d] * slope
                if kind[k] == ADD:
                    H[k, m, dose[k]] += amount[k]
                elif kind[k] == STEADY:
                    for d in range(D):
                        H[k, m, d], T[k, m, d] = 0.0, 0.0
                    H[k, m, dose[k]], T[k, m, dose[k]] = _periodic(rates[i, m], steady[int(amount[k])])
                elif kind[k] == RESET:
                    for d in range(D):
                        H[k, m, d], T[k, m, d] = 0.0, 0.0
            if kind[k] == RATE:
                R[k, dose[k]] += amount[k]
            elif kind[k] == RESET or kind[k] == STEADY:
                for d in range(D):
                    R[k, d] = 0.0


@internal
def weighted(
    offsets: I64, dosed: I64, U: F64, share: F64, H: F64, T: F64, R: F64, alpha: F64, beta: F64, rho: F64
) -> None:
    """Amplitudes of each mode just after each action: alpha, their derivative in the rate beta, input rho (., M)."""
    M, D = H.shape[1], H.shape[2]
    for i in range(offsets.size - 1):
        for k in range(offsets[i], offsets[i + 1]):
            for m in range(M):
                a, b, r = 0.0, 0.0, 0.0
                for d in range(D):
                    u = U[i, m, dosed[d]] * share[i, d]
                    a += u * H[k, m, d]
                    b += u * T[k, m, d]
                    r += u * R[k, d]
                alpha[k, m], beta[k, m], rho[k, m] = a, b, r


@internal
def weighted_back(
    offsets: I64, dosed: I64, U: F64, share: F64, H: F64, R: F64, galpha: F64, grho: F64, gU: F64, gshare: F64
) -> None:
    """Adjoint of `weighted`; beta only carries the derivative in the rates."""
    M, D = H.shape[1], H.shape[2]
    for i in range(offsets.size - 1):
        for k in range(offsets[i], offsets[i + 1]):
            for m in range(M):
                for d in range(D):
                    s = galpha[k, m] * H[k, m, d] + grho[k, m] * R[k, d]
                    gU[i, m, dosed[d]] += s * share[i, d]
                    gshare[i, d] += s * U[i, m, dosed[d]]


@internal
def exponentials(x: F64) -> None:
    """e^x in the place of x."""
    separate()
    for k in range(x.size):
        x[k] = exp(x[k])


@internal
def _scaled(x: F64, by: float, out: F64) -> None:
    separate()
    for k in range(out.size):
        out[k] = by * x[k]


@internal
def _added(x: F64, by: float, out: F64) -> None:
    separate()
    for k in range(out.size):
        out[k] += by * x[k]


@internal
def signals(
    runs: I64, since: F64, chosen: I64, rates: F64, V: F64, alpha: F64, rho: F64, flowing: bool, E: F64, s: F64
) -> None:  # fmt: skip
    """States `chosen` of the linear system at points: s (S, points or more); E (M points,) are the exponentials.

    runs (., 4): first point, end, subject and segment of points that stand together (segment -1: no dose yet).
    """
    separate()
    M, n = rates.shape[1], since.size
    for r in range(runs.shape[0]):
        lo, hi = runs[r, 0], runs[r, 1]
        for m in range(M):
            _scaled(since[lo:hi], rates[runs[r, 2], m], E[m * n + lo : m * n + hi])
    exponentials(E)
    for r in range(runs.shape[0]):
        lo, hi, i, g = runs[r, 0], runs[r, 1], runs[r, 2], runs[r, 3]
        for c in range(chosen.size):
            for k in range(lo, hi):
                s[c, k] = 0.0
            if g < 0:
                continue
            for m in range(M):
                _added(E[m * n + lo : m * n + hi], V[i, chosen[c], m] * alpha[g, m], s[c, lo:hi])
                if flowing and rho[g, m] != 0.0:
                    height = V[i, chosen[c], m] * rho[g, m]
                    for k in range(lo, hi):
                        s[c, k] += height * _held(rates[i, m], since[k])[0]


@internal
def across(x: F64, at: int) -> float:
    """Sum of eight numbers from x[at] on, in pairs."""
    left = (x[at] + x[at + 4]) + (x[at + 1] + x[at + 5])
    found: float = left + ((x[at + 2] + x[at + 6]) + (x[at + 3] + x[at + 7]))
    return found


@internal
def _dotted(w: F64, e: F64, t: F64, sums: F64) -> tuple[float, float]:
    """Sums of w e and w e t in eight strands (sums, scratch), the same order everywhere."""
    separate()
    for lane in range(16):
        sums[lane] = 0.0
    whole = w.size // 8 * 8
    for first in range(0, whole, 8):
        for lane in range(8):
            at = np.uint64(first + lane)
            x = w[at] * e[at]
            sums[lane] += x
            sums[8 + lane] += x * t[at]
    flat, tilted = 0.0, 0.0
    for k in range(whole, w.size):
        x = w[k] * e[k]
        flat += x
        tilted += x * t[k]
    for k in range(2):
        sums[k] = across(sums, 8 * k)
    return flat + sums[0], tilted + sums[1]


@internal
def signals_back(
    runs: I64, since: F64, chosen: I64, rates: F64, V: F64, alpha: F64, beta: F64, rho: F64, flowing: bool, E: F64,
    gs: F64, grates: F64, gV: F64, galpha: F64, grho: F64,
) -> None:  # fmt: skip
    """Adjoint of `signals`; what the rates change in the amplitudes comes through beta."""
    sums, n = np.empty(16), since.size
    for r in range(runs.shape[0]):
        lo, hi, i, g = runs[r, 0], runs[r, 1], runs[r, 2], runs[r, 3]
        if g < 0:
            continue
        t = since[lo:hi]
        for c in range(chosen.size):
            w = gs[c, lo:hi]
            for m in range(rates.shape[1]):
                v = V[i, chosen[c], m]
                flat, tilted = _dotted(w, E[m * n + lo : m * n + hi], t, sums)
                gV[i, chosen[c], m] += flat * alpha[g, m]
                galpha[g, m] += flat * v
                grates[i, m] += v * (flat * beta[g, m] + tilted * alpha[g, m])
                if flowing:
                    held, late = 0.0, 0.0
                    for k in range(lo, hi):
                        value, slope = _held(rates[i, m], since[k])
                        held += gs[c, k] * value
                        late += gs[c, k] * slope
                    gV[i, chosen[c], m] += held * rho[g, m]
                    grho[g, m] += held * v
                    grates[i, m] += v * late * rho[g, m]


@internal
def carried(
    offsets: I64, length: F64, a: F64, b: F64, weight: F64, Q: F64, point: F64, still: bool, joined: I64, initial: F64,
    x: F64, keep: F64, whole: F64,
) -> None:  # fmt: skip
    """x' = a - b x over the grid: x (breakpoints,); subject i has one breakpoint more than intervals; joined (N,): 1
    where it is a piece that goes on from the one before instead of its initial value.

    a, b (nodes,) interval after interval; still: b does not change within a subject; keep (nodes,): e^-(B - B_g);
    whole (intervals,): e^-B.
    """
    G = weight.size
    for k in range(length.size):
        h, B, at = length[k], 0.0, k * G
        if still:
            for g in range(G):
                keep[at + g] = h * b[at] * (point[g] - 1.0)
            whole[k] = -h * b[at]
            continue
        for g in range(G):
            B += weight[g] * b[at + g]
        for g in range(G):
            part = 0.0
            for j in range(G):
                part += Q[g, j] * b[at + j]
            keep[at + g] = h * (part - B)
        whole[k] = -h * B
    exponentials(keep)
    exponentials(whole)
    for i in range(offsets.size - 1):
        now = x[offsets[i] + i - 1] if joined[i] == 1 else initial[i]
        x[offsets[i] + i] = now
        for k in range(offsets[i], offsets[i + 1]):
            total, at = 0.0, k * G
            for g in range(G):
                total += weight[g] * a[at + g] * keep[at + g]
            now = now * whole[k] + length[k] * total
            x[k + i + 1] = now


@internal
def carried_back(
    offsets: I64, length: F64, a: F64, b: F64, weight: F64, Q: F64, point: F64, still: bool, joined: I64, x: F64,
    keep: F64, whole: F64, gx: F64, ga: F64, gb: F64, ginitial: F64,
) -> None:  # fmt: skip
    """Adjoint of `carried`: gx (breakpoints,) is used up; fills ga, gb (nodes,) and ginitial (N,)."""
    G = weight.size
    inner = np.empty(G)
    for i in range(offsets.size - 2, -1, -1):
        for k in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            r, h, at = gx[k + i + 1], length[k], k * G
            gB = -r * x[k + i + 1]
            part = 0.0
            for g in range(G):
                w = r * h * weight[g] * keep[at + g]
                ga[at + g] = w
                inner[g] = w * a[at + g]
                part += inner[g] * point[g]
            if still:
                gb[at] = h * (gB + part)
                for j in range(1, G):
                    gb[at + j] = 0.0
            else:
                for j in range(G):
                    s = gB * weight[j]
                    for g in range(G):
                        s += inner[g] * Q[g, j]
                    gb[at + j] = h * s
            gx[k + i] += r * whole[k]
        if joined[i] == 1:
            gx[offsets[i] + i - 1] += gx[offsets[i] + i]
        else:
            ginitial[i] += gx[offsets[i] + i]
