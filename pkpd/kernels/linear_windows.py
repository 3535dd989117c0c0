"""Averages and extremes of the outputs of a linear system over windows of time; see `compartments`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.compartments import CANCELLED, in_modes, longest_of, mode_step, walk
from pkpd.kernels.elementary import exp
from pkpd.kernels.intrinsics import inlined, kernel
from pkpd.kernels.modes import grown, grown_twice, modes

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]


@inlined
def _slope(d: F64, rates: F64, first: int, count: int, s: float) -> float:
    total = 0.0
    for i in range(first, count):
        total += d[i] * exp(rates[i] * s)
    return total


@inlined
def _between(d: F64, rates: F64, first: int, count: int, lo: float, hi: float) -> float:
    """The zero of a sum of exponentials that is monotone between lo and hi, by bisection; -1 if it has none."""
    at_lo, at_hi = _slope(d, rates, first, count, lo), _slope(d, rates, first, count, hi)
    if not at_lo * at_hi < 0.0:
        return -1.0
    for _ in range(40):
        mid = 0.5 * (lo + hi)
        if _slope(d, rates, first, count, mid) * at_lo > 0.0:
            lo = mid
        else:
            hi = mid
    return 0.5 * (lo + hi)


@inlined
def _turning(d: F64, rates: F64, length: float, D: F64, roots: F64, spare: F64) -> int:
    """Zeros in (0, length) of sum d_i e^(l_i s), ascending, in `roots`; how many.

    Divided by one exponential the sum loses that term when differentiated, and between the zeros of the derivative it
    is monotone: so the zeros are found term by term, all of them.
    """
    m = d.size
    for i in range(m):
        D[0, i] = d[i]
    for p in range(1, m):
        for i in range(p, m):
            D[p, i] = D[p - 1, i] * (rates[i] - rates[p - 1])
    found = 0
    for p in range(m - 1, -1, -1):
        count, left = 0, 0.0
        for k in range(found + 1):
            right = roots[k] if k < found else length
            at = _between(D[p], rates, p, m, left, right)
            if at > 0.0:
                spare[count] = at
                count += 1
            left = right
        found = count
        for k in range(found):
            roots[k] = spare[k]
    return found


@inlined
def _value(weights: F64, rates: F64, z: F64, rho: F64, s: float) -> tuple[float, float]:
    total, mag = 0.0, 0.0
    for i in range(rates.size):
        term = weights[i] * mode_step(z[i], rho[i], rates[i], s)
        total += term
        mag += abs(term)
    return total, mag


@inlined
def _piece(
    weights: F64, rates: F64, z: F64, rho: F64, length: float, seen: F64, D: F64, roots: F64, spare: F64, d: F64
) -> None:
    """Add [0, length] of a segment to seen: integral, maximum, minimum (of the part that moves), magnitude."""
    for i in range(rates.size):
        x = rates[i] * length
        seen[0] += weights[i] * length * (z[i] * grown(x) + rho[i] * length * grown_twice(x))
        d[i] = weights[i] * (rates[i] * z[i] + rho[i])
    turns = _turning(d, rates, length, D, roots, spare)
    for k in range(turns + 2):
        at = 0.0 if k == 0 else (length if k == 1 else roots[k - 2])
        value, mag = _value(weights, rates, z, rho, at)
        seen[1], seen[2], seen[3] = max(seen[1], value), min(seen[2], value), max(seen[3], mag)
        seen[0] += value - value  # a value that is not a number shows


@inlined
def _window(
    weights: F64, rates: F64, knot: F64, Z: F64, R: F64, knots: int, lo: float, hi: float, seen: F64, work: F64
) -> None:
    D, z, d, roots, spare = work[5:], work[0], work[1], work[2], work[3]
    seen[0], seen[1], seen[2], seen[3] = 0.0, -np.inf, np.inf, 0.0
    k = 0
    while k + 1 < knots and (knot[k + 1] < lo or (knot[k + 1] == lo and lo < hi)):
        k += 1
    while k < knots:
        left = lo if lo > knot[k] else knot[k]
        right = knot[k + 1] if (k + 1 < knots and knot[k + 1] < hi) else hi
        for i in range(rates.size):
            z[i] = mode_step(Z[k, i], R[k, i], rates[i], max(left - knot[k], 0.0))
        _piece(weights, rates, z, R[k], max(right - left, 0.0), seen, D, roots, spare, d)
        k += 1
        if k < knots and knot[k] >= hi:
            return


@kernel
def linear_windows(
    A: F64, b: F64, y0: F64, weights: F64, constant: F64, starts: I64, parent: I64,
    offsets: I64, time: F64, kind: I8, target: I32, amount: F64, steady: F64, start: F64,
    lo: F64, hi: F64, out: F64, good: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Statistics of constant + weights y over [lo, hi] (n, K); out (n, 3, K): average, maximum, minimum.

    weights (n, 1, m), constant (n, 1), the rest as in :func:`linear_outputs`. An action at `hi` is not seen, one at
    `lo` is; zero width gives the value there; NaN bounds give NaN. good (n,): False where the modes are not to be
    trusted, and the subject must be solved in another way.
    """
    m = b.shape[1]
    count = longest_of(offsets) + 2
    rates, decay, mixed = np.empty(m), np.empty(m), np.empty((1, m))
    V, U, S, Q, N, X = (
        np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m))
    )  # fmt: skip
    knot, Z, R = np.empty(count), np.empty((count, m)), np.empty((count, m))
    spare, seen = np.zeros((5 + m, m)), np.empty(4)
    for i in range(b.shape[0]):
        good[i] = modes(A, i, starts, parent, S, Q, N, X, rates, V, U)
        if not good[i]:
            continue
        in_modes(weights, i, 0, V, mixed, 0)
        knots = walk(rates, V, U, b, y0, i, offsets, time, kind, target, amount, steady, start, decay, knot, Z, R)
        for w in range(lo.shape[1]):
            left, right = lo[i, w], hi[i, w]
            if not left <= right:
                out[i, :, w] = np.nan
                continue
            _window(mixed[0], rates, knot, Z, R, knots, left, right, seen, spare)
            average = seen[0] / (right - left) if left < right else seen[1]
            largest = max(abs(seen[1]), abs(seen[2]))
            good[i] = good[i] and not seen[3] > CANCELLED * largest
            lost = seen[0] - seen[0]
            out[i, 0, w] = constant[i, 0] + average + lost
            out[i, 1, w] = constant[i, 0] + seen[1] + lost
            out[i, 2, w] = constant[i, 0] + seen[2] + lost
