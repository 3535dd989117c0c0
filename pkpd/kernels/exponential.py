"""Linear systems stepped by matrix exponentials: slow, and right at any rates; see `compartments`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp
from pkpd.kernels.intrinsics import inlined

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]

ADD, RATE, STEADY, RESET, REPLACE, MULTIPLY, SET, SUPERPOSE, OFF, ON = range(10)


@inlined
def until(times: F64, j: int, limit: float, after: bool) -> int:
    """First index >= j whose time lies beyond `limit` (a sample at the limit comes before it unless `after`)."""
    while j < times.size and (times[j] < limit or (times[j] == limit and not after)):
        j += 1
    return j


@inlined
def infusions_running(row: F64) -> float:
    """How many infusions of the periodic regimen run at its phase."""
    if row[2] <= 0.0:
        return 0.0
    whole = np.floor(row[2] / row[1])
    running: float = whole + 1.0 if row[3] < row[2] - whole * row[1] else whole
    return running


@inlined
def _squared(X: F64, Y: F64) -> None:
    """Y = X X, in this order of summation."""
    n = X.shape[0]
    for i in range(n):
        for j in range(n):
            total = 0.0
            for k in range(n):
                total += X[i, k] * X[k, j]
            Y[i, j] = total


@inlined
def _exponential(A: F64, r: F64, dt: float, P: F64, X: F64, Y: F64) -> None:
    """X = exp(dt [A r; 0 0]) of size m + 1, so that y(dt) = X[:m, :m] y + X[:m, m]. P and Y are scratch."""
    m = r.size
    n = m + 1
    shift = 0.0
    for i in range(m):
        shift = max(shift, -A[i, i])
    norm = 0.0
    for i in range(m):
        total = abs(A[i, i] + shift)
        for j in range(m):
            total += abs(A[i, j]) if j != i else 0.0
        norm = max(norm, total)
    half, h = 0, dt
    while half < 1000 and max(norm, shift) * h > 0.5:
        h *= 0.5
        half += 1
    for i in range(n):
        for j in range(n):
            P[i, j] = (A[i, j] if (i < m and j < m) else (r[i] if i < m else 0.0)) * h
            X[i, j] = 1.0 if i == j else 0.0
        P[i, i] += shift * h
    for term in range(16, 0, -1):  # Horner: X <- I + P X/term
        for i in range(n):
            for j in range(n):
                total = 0.0
                for k in range(n):
                    total += P[i, k] * X[k, j]
                Y[i, j] = total / term
        for i in range(n):
            for j in range(n):
                X[i, j] = Y[i, j] + (1.0 if i == j else 0.0)
    decay = exp(-shift * h)
    for i in range(n):
        for j in range(n):
            X[i, j] *= decay
    for _ in range(half):
        _squared(X, Y)
        for i in range(n):
            for j in range(n):
                X[i, j] = Y[i, j]


@inlined
def _exact_step(A: F64, r: F64, y: F64, dt: float, work: F64, out: F64) -> None:
    """out = y(dt); out may not be y."""
    if dt <= 0.0:
        for i in range(y.size):
            out[i] = y[i]
        return
    X = work[1]
    _exponential(A, r, dt, work[0], X, work[2])
    m = y.size
    for i in range(m):
        total = X[i, m]
        for k in range(m):
            total += X[i, k] * y[k]
        out[i] = total


@inlined
def _exact_cycle(A: F64, b: F64, y: F64, s: int, row: F64, length: float, work: F64, r: F64, out: F64) -> None:
    """From just before a dose of the periodic regimen to `length` hours later, in the states' own coordinates."""
    amount, interval, duration = row[0], row[1], row[2]
    for i in range(y.size):
        out[i], r[i] = y[i], b[i]
    if duration <= 0.0:
        out[s] += amount
        for i in range(y.size):
            y[i] = out[i]
        _exact_step(A, r, y, length, work, out)
        return
    running = np.floor(duration / interval)
    rest = duration - running * interval
    first = rest if rest < length else length
    if first > 0.0:
        r[s] = b[s] + amount / duration * (running + 1.0)
        _exact_step(A, r, y, first, work, out)
    if length > rest:
        r[s] = b[s] + amount / duration * running
        for i in range(y.size):
            y[i] = out[i]
        _exact_step(A, r, y, length - rest, work, out)


@inlined
def _solved(M: F64, x: F64) -> bool:
    """Gaussian elimination with partial pivoting in place: x <- M^-1 x. False if M is singular."""
    n = x.size
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            best = i if abs(M[i, k]) > abs(M[best, k]) else best
        if not abs(M[best, k]) > 0.0:
            return False
        for j in range(n):
            M[k, j], M[best, j] = M[best, j], M[k, j]
        x[k], x[best] = x[best], x[k]
        for i in range(k + 1, n):
            factor = M[i, k] / M[k, k]
            for j in range(k, n):
                M[i, j] -= factor * M[k, j]
            x[i] -= factor * x[k]
    for k in range(n - 1, -1, -1):
        total = x[k]
        for j in range(k + 1, n):
            total -= M[k, j] * x[j]
        x[k] = total / M[k, k]
    return True


@inlined
def _exact_steady(A: F64, b: F64, y: F64, s: int, row: F64, work: F64, side: F64) -> None:
    """y <- the periodic state at the regimen's phase; (I - M) x = gathered over one interval from nothing.

    A state that nothing feeds or empties keeps its value.
    """
    m = y.size
    x, r, spare = side[0], side[1], side[2]
    for i in range(m):
        spare[i] = 0.0
    _exact_cycle(A, b, spare, s, row, row[1], work, r, x)
    for i in range(m):
        r[i] = 0.0
    _exponential(A, r, row[1], work[0], work[1], work[2])
    M = work[3]
    for i in range(m):
        for j in range(m):
            M[i, j] = (1.0 if i == j else 0.0) - work[1][i, j]
    for i in range(m):
        spare[i] = x[i]
        alone = i != s and b[i] == 0.0
        for j in range(m):
            alone = alone and A[i, j] == 0.0
        if alone:
            M[i, i], spare[i] = 1.0, y[i]
    good = _solved(M[:m, :m], spare[:m]) and _bounded(work[1], work[2])
    _exact_cycle(A, b, spare, s, row, row[3], work, r, y)
    if not good:
        y[:] = np.nan


@inlined
def _bounded(X: F64, Y: F64) -> bool:
    """Whether the powers of X stay finite: a system that grows has no steady state."""
    n = X.shape[0]
    for _ in range(24):
        _squared(X, Y)
        for i in range(n):
            for j in range(n):
                X[i, j] = Y[i, j]
                if not abs(Y[i, j]) < 1e100:
                    return False
    return True


@inlined
def _settle(A: F64, b: F64, y0: F64, s: int, plan: F64, added: bool, work: F64, side: F64, y: F64, r: F64) -> None:
    """The periodic state of `plan` and its running infusions, in the place of y and r or added to them."""
    found = side[6]
    for i in range(y.size):
        found[i] = 0.0 if added else y0[i]
    _exact_steady(A, b, found, s, plan, work, side)
    for i in range(y.size):
        y[i] = y[i] + found[i] if added else found[i]
        r[i] = r[i] if added else b[i]
    r[s] += plan[0] / plan[2] * infusions_running(plan) if plan[2] > 0.0 else 0.0


@inlined
def exactly(
    A: F64, b: F64, y0: F64, weights: F64, constant: F64, first: int, last: int, time: F64, kind: I8, target: I32,
    amount: F64, steady: F64, start: float, times: F64, after: bool, work: F64, side: F64, out: F64, columns: I64,
) -> None:  # fmt: skip
    """One subject by matrix exponentials."""
    m = y0.size
    y, r, now = side[3], side[4], side[5]
    for i in range(m):
        y[i], r[i] = y0[i], b[i]
    t, j, row = start, 0, first
    while True:
        limit = time[row] if row < last else np.inf
        stop = until(times, j, limit, after)
        while j < stop:
            _exact_step(A, r, y, times[j] - t, work, now)
            for o in range(constant.size):
                total = constant[o]
                for i in range(m):
                    total += weights[o, i] * now[i]
                out[columns[o], j] = total
            j += 1
        if row >= last:
            return
        _exact_step(A, r, y, limit - t, work, now)
        for i in range(m):
            y[i] = now[i]
        t = max(limit, t)
        while row < last and time[row] <= t:
            what, s, x = kind[row], target[row], amount[row]
            if what == ADD:
                y[s] += x
            elif what == REPLACE:
                y[s] = x
            elif what == MULTIPLY:
                y[s] *= x
            elif what == RATE:
                r[s] += x
            elif what in (STEADY, SUPERPOSE):
                _settle(A, b, y0, s, steady[int(x)], what == SUPERPOSE, work, side, y, r)
            elif what == RESET:
                y[:], r[:] = y0, b
            else:
                y[:] = np.nan
            row += 1
