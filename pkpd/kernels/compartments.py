r"""Linear systems y' = A y + b + R(t) in closed form, for any dosing history: R is constant between actions.

The states come in blocks, upstream first, so that A is block lower triangular. A block of more than one state must be a
reversible tree (flow goes both ways between neighbours, no ring): then D^-1 A D is symmetric, its eigenvalues are real
and Jacobi's rotations find them; blocks are joined by back substitution. In the coordinates z = U y of the modes

    z_i(s) = z_i e^(l_i s) + rho_i (e^(l_i s) - 1)/l_i

is carried from action to action and summed at the samples. Where rates (nearly) coincide or terms cancel, which the sum
of magnitudes shows, the subject is solved again in its own coordinates by matrix exponentials: a shifted Taylor series
squared up, all terms positive for compartments, so every amount keeps its relative accuracy.
Sources: Golub & Van Loan, Matrix Computations, 4th ed., section 8.5 (Jacobi); Shao, Gao & Xue, Aggressively truncated
Taylor series method for accurate computation of exponentials of essentially nonnegative matrices, SIAM J. Matrix Anal.
Appl. 2014;35:317-338.

Actions as in kernels.linear; a change of parameters (SET) or a compartment turned off or on gives NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, relative_decay
from pkpd.kernels.exponential import exactly, infusions_running
from pkpd.kernels.intrinsics import forced, inlined, kernel
from pkpd.kernels.modes import grown, modes

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]
Index = Any  # a numba uint64

ADD, RATE, STEADY, RESET, REPLACE, MULTIPLY, SET, SUPERPOSE, OFF, ON = range(10)
CANCELLED = 2e4  # sum of magnitudes over the result above which the modes are not used
_NEGLIGIBLE = 1e-6  # of the subject's peak: what lies below needs no relative accuracy of its own


@inlined
def mode_step(z: float, rho: float, rate: float, dt: float) -> float:
    x = rate * dt
    z = z * exp(x)
    return z + rho * dt * grown(x) if rho != 0.0 else z


@inlined
def _mode_cycle(z: float, gain: float, rho: float, rate: float, row: F64, length: float) -> float:
    """One mode from just before a dose of the periodic regimen `row` to `length` <= interval hours later."""
    amount, interval, duration = row[0], row[1], row[2]
    if duration <= 0.0:
        return mode_step(z + gain * amount, rho, rate, length)
    running = np.floor(duration / interval)
    rest = duration - running * interval
    first = rest if rest < length else length
    flow = gain * (amount / duration)
    if first > 0.0:
        z = mode_step(z, rho + flow * (running + 1.0), rate, first)
    if length > rest:
        z = mode_step(z, rho + flow * running, rate, length - rest)
    return z


@inlined
def _mode_steady(start: float, gain: float, rho: float, rate: float, row: F64) -> float:
    """The periodic value at the regimen's phase; NaN for a mode that grows or gathers without end."""
    if gain == 0.0 and rho == 0.0:
        return start if rate == 0.0 else 0.0
    gathered = _mode_cycle(0.0, gain, rho, rate, row, row[1])
    left = -rate * row[1]
    trough = gathered / (left * relative_decay(left if left > 0.0 else 0.0)) if left > 0.0 else np.nan
    return trough if row[3] == row[1] else _mode_cycle(trough, gain, rho, rate, row, row[3])


@forced
def _settle(
    rates: F64, U: F64, b: F64, y0: F64, n: int, s: int, steady: F64, row: int, added: bool, Z: F64, R: F64, k: int
) -> None:
    """The periodic state of a regimen and its running infusions, in the place of knot k's modes or added to them."""
    plan = steady[row]
    flow = plan[0] / plan[2] * infusions_running(plan) if plan[2] > 0.0 else 0.0
    for i in range(rates.size):
        initial, constant = 0.0, 0.0
        for p in range(rates.size):
            initial += U[i, p] * y0[n, p]
            constant += U[i, p] * b[n, p]
        found = _mode_steady(0.0 if added else initial, U[i, s], constant, rates[i], plan)
        Z[k, i] = Z[k, i] + found if added else found
        R[k, i] = (R[k, i] if added else constant) + U[i, s] * flow


@forced
def _begun(U: F64, b: F64, y0: F64, n: int, Z: F64, R: F64, k: int) -> None:
    """Knot k at the initial state, with the constant input alone."""
    for i in range(U.shape[0]):
        initial, constant = 0.0, 0.0
        for p in range(U.shape[0]):
            initial += U[i, p] * y0[n, p]
            constant += U[i, p] * b[n, p]
        Z[k, i], R[k, i] = initial, constant


@forced
def walk(
    rates: F64, V: F64, U: F64, b: F64, y0: F64, n: int, offsets: I64, time: F64, kind: I8, target: I32, amount: F64,
    steady: F64, start: F64, decay: F64, knot: F64, Z: F64, R: F64,
) -> int:  # fmt: skip
    """Modes of subject n and their inputs just after each action time: knot (K,), Z and R (K, m); knot 0 is the start.

    decay (4, m) is scratch: e^(l dt) and, once asked for, (e^(l dt) - 1)/(l dt) of the last two lengths dt that differ,
    since infusions come as on, off, on, off. Returns how many knots.
    """
    m = rates.size
    _begun(U, b, y0, n, Z, R, 0)
    knot[0] = start[n]
    k, row_of, recent, other = 0, 0, -1.0, -1.0
    for row in range(offsets[n], offsets[n + 1]):
        if k == 0 or time[row] > knot[k]:
            dt = max(time[row] - knot[k], 0.0)
            if dt != recent:
                recent, other, row_of = other, recent, 1 - row_of
                if dt != recent:
                    recent = dt
                    for i in range(m):
                        decay[row_of, i], decay[row_of + 2, i] = exp(rates[i] * dt), np.nan
            for i in range(m):
                rho = R[k, i]
                if rho != 0.0 and decay[row_of + 2, i] != decay[row_of + 2, i]:
                    decay[row_of + 2, i] = grown(rates[i] * dt)
                Z[k + 1, i] = Z[k, i] * decay[row_of, i] + (rho * dt * decay[row_of + 2, i] if rho != 0.0 else 0.0)
                R[k + 1, i] = rho
            k += 1
            knot[k] = time[row]
        what, s, x = kind[row], target[row], amount[row]
        if what in (ADD, REPLACE, MULTIPLY):
            if what != ADD:
                now = 0.0
                for i in range(m):
                    now += V[s, i] * Z[k, i]
                x = (x - 1.0) * now if what == MULTIPLY else x - now
            for i in range(m):
                Z[k, i] += U[i, s] * x
        elif what == RATE:
            for i in range(m):
                R[k, i] += U[i, s] * x
        elif what in (STEADY, SUPERPOSE):
            _settle(rates, U, b, y0, n, s, steady, int(x), what == SUPERPOSE, Z, R, k)
        elif what == RESET:
            _begun(U, b, y0, n, Z, R, k)
        else:
            Z[k, :] = np.nan
    return k + 1


@forced
def _decays(rates: F64, times: F64, first: Index, count: Index, t: float, before: Index, s: F64, E: F64) -> None:
    """E[i, j] = e^(l_i s_j) at samples first:first+count of a segment from t; kept if they lie as in the one before.

    Indices are unsigned and arrays flat in these loops: an index that might be negative keeps LLVM from vectorising.
    """
    moved = 0 if count == before else 1
    for j in range(count):
        d = times[first + j] - t
        d = d if d > 0.0 else 0.0
        moved += 1 if d != s[j] else 0
        s[j] = d
    if moved > 0:
        for i in range(rates.size):
            rate = rates[i]
            for j in range(count):
                E[i, j] = exp(rate * s[j])


@forced
def _few(
    weights: F64, constant: float, Z: F64, k: int, count: Index, E: F64, out: F64, first: Index, o: int, modes: int
) -> int:
    """An output of up to four modes without inputs at the samples of a segment, to out[first:]; see `_segment`."""
    a0 = weights[o, 0] * Z[k, 0]
    a1 = weights[o, 1] * Z[k, 1] if modes > 1 else 0.0
    a2 = weights[o, 2] * Z[k, 2] if modes > 2 else 0.0
    a3 = weights[o, 3] * Z[k, 3] if modes > 3 else 0.0
    doubtful = 0
    for j in range(count):
        x0, x1, x2, x3 = a0 * E[0, j], a1 * E[1, j], a2 * E[2, j], a3 * E[3, j]
        total = (((constant + x0) + x1) + x2) + x3
        size = ((abs(x0) + abs(x1)) + abs(x2)) + abs(x3)
        out[first + j] = total
        doubtful += 0 if size <= CANCELLED * abs(total) < np.inf else 1  # so is NaN
    return doubtful


@forced
def _segment(
    rates: F64, weights: F64, constant: float, Z: F64, R: F64, k: int, n: int, j0: int, size: int, s: F64, E: F64,
    total: F64, sizes: F64, out: F64, o: int, column: int,
) -> int:  # fmt: skip
    """Output o at samples j0:j0+size of segment k; how many of them are small differences of large terms."""
    for j in range(size):
        total[j] = constant
        sizes[j] = 0.0
    for i in range(rates.size):
        a = weights[o, i] * Z[k, i]
        for j in range(size):
            term = a * E[i, j]
            total[j] += term
            sizes[j] += abs(term)
        if R[k, i] != 0.0:
            rate, a = rates[i], weights[o, i] * R[k, i]
            for j in range(size):
                term = a * (s[j] * grown(rate * s[j]))
                total[j] += term
                sizes[j] += abs(term)
    doubtful = 0
    for j in range(size):
        doubtful += 0 if sizes[j] <= CANCELLED * abs(total[j]) < np.inf else 1  # so is NaN
    for j in range(size):
        out[n, column, j0 + j] = total[j]
    return doubtful


@inlined
def _negligible(
    rates: F64, weights: F64, Z: F64, R: F64, knot: F64, knots: int, times: F64, n: int, known: int, after: bool,
    out: F64, columns: I64,
) -> bool:  # fmt: skip
    """Whether every doubtful value is far below the peak of its output, terms and all."""
    for o in range(columns.size):
        column = columns[o]
        peak = 0.0
        for j in range(known):
            peak = abs(out[n, column, j]) if abs(out[n, column, j]) > peak else peak
        k = 0
        for j in range(known):
            while k + 1 < knots and (knot[k + 1] < times[n, j] or (knot[k + 1] == times[n, j] and after)):
                k += 1
            size = 0.0
            s = max(times[n, j] - knot[k], 0.0)
            for i in range(rates.size):
                size += abs(weights[o, i] * Z[k, i] * exp(rates[i] * s))
                size += abs(weights[o, i] * R[k, i] * s * grown(rates[i] * s))
            least = max(abs(out[n, column, j]), _NEGLIGIBLE * peak)
            if not size <= CANCELLED * least:
                return False
    return True


@inlined
def in_modes(weights: F64, n: int, o: int, V: F64, out: F64, row: int) -> None:
    """out[row] = weights[n, o] V."""
    for k in range(V.shape[0]):
        total = 0.0
        for p in range(V.shape[0]):
            total += weights[n, o, p] * V[p, k]
        out[row, k] = total


@inlined
def longest_of(offsets: I64) -> int:
    """Largest number of actions of a subject, at least 1."""
    longest = 1
    for i in range(offsets.size - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return longest


@inlined
def _slowly(
    A: F64, b: F64, y0: F64, weights: F64, constant: F64, n: int, offsets: I64, time: F64, kind: I8, target: I32,
    amount: F64, steady: F64, start: F64, times: F64, known: int, after: bool, out: F64, columns: I64,
) -> None:  # fmt: skip
    """Subject n by matrix exponentials."""
    m = b.shape[1]
    work, side = np.empty((4, m + 1, m + 1)), np.empty((7, m))
    exactly(
        A[n], b[n], y0[n], weights[n], constant[n], offsets[n], offsets[n + 1], time, kind, target, amount, steady,
        start[n], times[n, :known], after, work, side, out[n], columns,
    )  # fmt: skip


@inlined
def _infinite(out: F64, n: int, columns: I64, known: int) -> bool:
    """Whether a value of subject n is not finite."""
    for o in range(columns.size):
        for j in range(known):
            if not np.isfinite(out[n, columns[o], j]):
                return True
    return False


@kernel
def linear_outputs(
    A: F64, b: F64, y0: F64, weights: F64, constant: F64, starts: I64, parent: I64,
    offsets: I64, time: F64, kind: I8, target: I32, amount: F64, steady: F64, start: F64,
    times: F64, after: bool, exact: bool, columns: I64, out: F64, lost: NDArray[np.bool_],
) -> int:  # fmt: skip
    """Outputs constant + weights y at `times` (n, T), ascending, NaN last (left NaN); to out[:, columns] (n, :, T).

    A (n, m, m), b, y0 (n, m), weights (n, q, m), constant (n, q), all in the order of the blocks starts[k]:starts[k+1];
    parent (m,): each state's neighbour towards the root of its block's tree, -1 for the root, parents first.
    A sample at the time of an action sees the state before it, or after it if `after`. `exact`: matrix exponentials
    for all. lost (n,): whether a value is not finite. Returns how many subjects were solved by exponentials.
    """
    m, q, size = b.shape[1], constant.shape[1], times.shape[1]
    count = longest_of(offsets) + 2
    rates, decay, mixed = np.empty(m), np.empty((4, m)), np.empty((q, m))
    V, U, S, Q, N, X = (
        np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m))
    )  # fmt: skip
    knot, Z, R = np.empty(count), np.empty((count, m)), np.empty((count, m))
    s, total, sizes, E = np.empty(size), np.empty(size), np.empty(size), np.zeros((max(m, 4), size))
    flat, flat_out = times.reshape(-1), out.reshape(-1)
    slow = 0
    for n in range(b.shape[0]):
        known = size
        while known > 0 and times[n, known - 1] != times[n, known - 1]:
            known -= 1
        good = not exact and modes(A, n, starts, parent, S, Q, N, X, rates, V, U)
        if good:
            for o in range(q):
                in_modes(weights, n, o, V, mixed, o)
            knots = walk(rates, V, U, b, y0, n, offsets, time, kind, target, amount, steady, start, decay, knot, Z, R)
            j, doubtful, before = 0, 0, np.uint64(0)
            for k in range(knots):
                limit = knot[k + 1] if k + 1 < knots else np.inf
                stop = j
                while stop < known and (times[n, stop] < limit or (times[n, stop] == limit and not after)):
                    stop += 1
                if stop > j:
                    few = m <= 4
                    for i in range(m):
                        few = few and R[k, i] == 0.0
                    span = np.uint64(stop - j)
                    _decays(rates, flat, np.uint64(n * size + j), span, knot[k], before, s, E)
                    before = span
                    for o in range(q):
                        if few:
                            place = np.uint64((n * out.shape[1] + columns[o]) * size + j)
                            doubtful += _few(mixed, constant[n, o], Z, k, span, E, flat_out, place, o, m)
                        else:
                            doubtful += _segment(
                                rates, mixed, constant[n, o], Z, R, k, n, j, stop - j, s, E, total, sizes, out, o,
                                columns[o],
                            )  # fmt: skip
                j = stop
            good = doubtful == 0 or _negligible(rates, mixed, Z, R, knot, knots, times, n, known, after, out, columns)
        if not good:
            slow += 1
            _slowly(
                A, b, y0, weights, constant, n, offsets, time, kind, target, amount, steady, start, times, known,
                after, out, columns,
            )  # fmt: skip
            lost[n] = _infinite(out, n, columns, known)
        for o in range(q):
            for j in range(known, size):
                out[n, columns[o], j] = np.nan
    return slow


@kernel
def block_modes(
    A: F64, starts: I64, parent: I64, rates: F64, modes_of: F64, inverse: F64, good: NDArray[np.bool_]
) -> None:
    """Eigenvalues (n, m), modes and their inverse (n, m, m) of A (n, m, m); good (n,): whether they are to be trusted.

    A rate of zero is not good: what gathers without end has no equilibrium to be measured from.
    """
    m = A.shape[1]
    S, Q, N, X = np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m))
    V, U, found = np.zeros((m, m)), np.zeros((m, m)), np.zeros(m)
    for n in range(A.shape[0]):
        good[n] = modes(A, n, starts, parent, S, Q, N, X, found, V, U)
        for i in range(m):
            good[n] = good[n] and found[i] != 0.0
            rates[n, i] = found[i]
            for j in range(m):
                modes_of[n, i, j], inverse[n, i, j] = V[i, j], U[i, j]
