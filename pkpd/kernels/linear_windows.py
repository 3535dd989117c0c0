"""Averages and extremes of the outputs of a linear system over windows of time; see `compartments`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.compartments import CANCELLED, in_modes, longest_of, mode_step, walk
from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import forced, inlined, kernel
from pkpd.kernels.modes import grown, grown_twice, modes
from pkpd.kernels.statistics import (
    COUNT,
    alone,
    bracket,
    crosses,
    narrowed,
    node,
    nothing,
    opened,
    parted,
    probe,
    stretch,
)

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
def _between(d: F64, rates: F64, first: int, count: int, lo: float, hi: float, B: F64) -> Any:
    """The zero of a sum of exponentials that is monotone between lo and hi; -1 if it has none."""
    at_lo, at_hi = _slope(d, rates, first, count, lo), _slope(d, rates, first, count, hi)
    if not at_lo * at_hi < 0.0:
        return -1.0
    if count - first == 2:
        at = log(-d[first] / d[first + 1]) / (rates[first + 1] - rates[first])
        return lo if at < lo else (hi if at > hi else at)
    bracket(B, lo, at_lo, hi, at_hi)
    fine = 1e-14 * hi
    for k in range(100):
        at = probe(B, k, fine)
        if narrowed(B, at, _slope(d, rates, first, count, at), fine):
            break
    return 0.5 * (B[0] + B[2])


@inlined
def _turning(d: F64, rates: F64, length: float, D: F64, roots: F64, spare: F64, B: F64) -> int:
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
            at = _between(D[p], rates, p, m, left, right, B)
            if at > 0.0:
                spare[count] = at
                count += 1
            left = right
        found = count
        for k in range(found):
            roots[k] = spare[k]
    return found


@inlined
def _value(weights: F64, rates: F64, z: F64, rho: F64, s: float, constant: float, size: F64) -> float:
    """The output; size: the largest sum of magnitudes so far, and the largest part that moves."""
    total, mag = 0.0, 0.0
    for i in range(rates.size):
        term = weights[i] * mode_step(z[i], rho[i], rates[i], s)
        total += term
        mag += abs(term)
    size[0], size[1] = max(size[0], mag), max(size[1], abs(total))
    return constant + total


@inlined
def _passed(
    weights: F64, rates: F64, z: F64, rho: F64, constant: float, level: float, B: F64, size: F64
) -> Any:  # fmt: skip
    """Where in the bracket the level is passed."""
    fine = 1e-14 * B[2]
    for k in range(100):
        s = probe(B, k, fine)
        if narrowed(B, s, _value(weights, rates, z, rho, s, constant, size) - level, fine):
            break
    return 0.5 * (B[0] + B[2])


@forced
def _piece(
    weights: F64, rates: F64, z: F64, rho: F64, constant: float, begin: float, end: float, level: float, seen: F64,
    place: int, size: F64, B: F64, D: F64, roots: F64, spare: F64, d: F64,
) -> None:  # fmt: skip
    """Add a segment from `begin` to `end`, whose state at `begin` is z; the integral of the part that moves."""
    length = end - begin
    for i in range(rates.size):
        x = rates[i] * length
        area = z[i] * grown(x)
        if rho[i] != 0.0:
            area += rho[i] * length * grown_twice(x)
        seen[place] += weights[i] * length * area
        d[i] = weights[i] * (rates[i] * z[i] + rho[i])
    turns = _turning(d, rates, length, D, roots, spare, B)
    x, last = _value(weights, rates, z, rho, 0.0, constant, size), 0.0
    node(seen, place, begin, x)
    for k in range(turns + 1):
        s = roots[k] if k < turns else length
        value = _value(weights, rates, z, rho, s, constant, size)
        node(seen, place, begin + s if k < turns else end, value)
        if crosses(x, value, level):
            bracket(B, last, x - level, s, value - level)
            parted(seen, place, s - last, _passed(weights, rates, z, rho, constant, level, B, size) - last, value > x)
        else:
            stretch(seen, place, s - last, x, value, level)
        x, last = value, s
        seen[place] += value - value  # a value that is not a number shows


@forced
def _window(
    weights: F64, rates: F64, knot: F64, Z: F64, R: F64, knots: int, constant: float, lo: float, hi: float,
    level: float, seen: F64, place: int, size: F64, B: F64, work: F64,
) -> None:  # fmt: skip
    D, z, d, roots, spare = work[5:], work[0], work[1], work[2], work[3]
    opened(seen, place)
    k = 0
    while k + 1 < knots and (knot[k + 1] < lo or (knot[k + 1] == lo and lo < hi)):
        k += 1
    while k < knots:
        left = lo if lo > knot[k] else knot[k]
        right = knot[k + 1] if (k + 1 < knots and knot[k + 1] < hi) else hi
        s = max(left - knot[k], 0.0)
        for i in range(rates.size):
            z[i] = mode_step(Z[k, i], R[k, i], rates[i], s)
        _piece(weights, rates, z, R[k], constant, left, right, level, seen, place, size, B, D, roots, spare, d)
        k += 1
        if k < knots and knot[k] >= hi:
            return


@forced
def _closed(seen: F64, place: int, constant: float, lo: float, hi: float) -> None:
    """The average of an integral, or the value; nothing where something was not a number."""
    lost = np.isnan(seen[place])
    if lo == hi:
        alone(seen, place, hi, seen[place + 1])
    else:
        seen[place] = constant + seen[place] / (hi - lo)
    if lost:
        nothing(seen, place)


@kernel
def linear_windows(
    A: F64, b: F64, y0: F64, weights: F64, constant: F64, starts: I64, parent: I64,
    offsets: I64, time: F64, kind: I8, target: I32, amount: F64, steady: F64, start: F64,
    row: I64, lo: F64, hi: F64, level: F64, out: F64, good: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Statistics of constant + weights y over [lo, hi] (n, G, K); out (n, G, K, 7) in the order of `statistics`.

    weights (n, q, m), constant (n, q), the rest as in :func:`linear_outputs`; row (G,): the output of each group, level
    (G,): its threshold, NaN for none. An action at `hi` is not seen, one at `lo` is; zero width gives the value there;
    NaN bounds give NaN. good (n,): False where the modes are not to be trusted, and the subject must be solved in
    another way.
    """
    m = b.shape[1]
    count = longest_of(offsets) + 2
    rates, decay, mixed = np.empty(m), np.empty((4, m)), np.empty((1, m))
    V, U, S, Q, N, X = (
        np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m))
    )  # fmt: skip
    knot, Z, R = np.empty(count), np.empty((count, m)), np.empty((count, m))
    work, B, size, flat = np.zeros((5 + m, m)), np.empty(5), np.empty(2), out.reshape(-1)
    for i in range(b.shape[0]):
        good[i] = modes(A, i, starts, parent, S, Q, N, X, rates, V, U)
        if not good[i]:
            continue
        knots = walk(rates, V, U, b, y0, i, offsets, time, kind, target, amount, steady, start, decay, knot, Z, R)
        for g in range(row.size):
            in_modes(weights, i, row[g], V, mixed, 0)
            for w in range(lo.shape[2]):
                left, right = lo[i, g, w], hi[i, g, w]
                place = ((i * row.size + g) * lo.shape[2] + w) * COUNT
                if not left <= right:
                    nothing(flat, place)
                    continue
                size[0], size[1] = 0.0, 0.0
                _window(
                    mixed[0], rates, knot, Z, R, knots, constant[i, row[g]], left, right, level[g], flat, place, size,
                    B, work,
                )  # fmt: skip
                good[i] = good[i] and not size[0] > CANCELLED * size[1]
                _closed(flat, place, constant[i, row[g]], left, right)
