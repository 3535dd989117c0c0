"""Fixed point of a map that is dear to evaluate: the state at which the cycles of a steady regimen repeat.

    plain cycles, then one cycle for each state moved a little: the Jacobian J of the cycle
    y + sum J^k f, f = F(y) - y: where the cycles of the linearised regimen lead, however slow they are
    one cycle there; what is still missing, sum J^k f, is the error of y, not its change; on with Broyden's updates

A linear cycle of n states takes n + 3 cycles or so. A step that does not help is shortened, then dropped for plain
cycles; where J says that cycles never come to rest, or nothing helps, there is no steady state. A linear invariant (a
total that no cycle changes) stays what it is. Sensitivities S obey S = J S + b and take the same steps.
Sources: Deuflhard, Newton Methods for Nonlinear Problems (2011), sections 2.1 and 3.2 (the natural monotonicity test,
error of simplified steps); Broyden, Math. Comput. 1965;19:577-593.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import apart, inlined, kernel

__all__ = ["DONE", "GO", "LOST", "NEVER", "advance", "begin"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

# what to do next: another cycle from V[START]; it is found: V[START]; there is none; the cycle itself fails
GO, DONE, NEVER, LOST = range(4)
# rows of V (5, states): where the step begins, its image under the cycle, the step, start of the running cycle, scale
BASE, IMAGE, STEP, START, SCALE = range(5)
# numbers of a search: N (8,) int64 and L (8,) float64
WHAT, LEFT, ROUND, NEXT, TRIES, CUTS, SIGNS = range(7)
PART, OLD, OLD_S, NOW, NOW_S, GAIN = range(6)
PLAIN, PROBE, TRY = range(3)
FIRST, ROUNDS, MOST_TRIES, MOST_SIGNS, DOUBLINGS = 2, 5, 20, 3, 27
CLOSE, CLEAR = 0.05, 0.1  # of a tolerance: the error that is left by estimate, the step that needs no estimate


@inlined
def _copied(V: F64, to: int, source: int) -> None:
    for s in range(V.shape[1]):
        V[to, s] = V[source, s]


@inlined
def _put(V: F64, to: int, g: F64) -> None:
    for s in range(V.shape[1]):
        V[to, s] = g[s]


@inlined
def _larger(a: float, b: float) -> float:
    return a if a > b else b


@inlined
def begin(V: F64, N: I64, L: F64) -> None:
    """Look for a fixed point from V[START]."""
    for k in range(8):
        N[k], L[k] = 0, 1.0
    N[LEFT] = FIRST


@inlined
def _applied(P: F64, S: F64, T: F64) -> None:
    for c in range(S.shape[0]):
        for i in range(S.shape[1]):
            x = 0.0
            for j in range(S.shape[1]):
                x += P[0, i, j] * S[c, j]
            T[c, i] = x


@inlined
def _squared(P: F64, w: F64) -> float:
    """P[1] <- P[0] P[0]; the largest difference between the two, in the scale w."""
    n, moved = P.shape[1], 0.0
    for i in range(n):
        for j in range(n):
            x = 0.0
            for k in range(n):
                x += P[0, i, k] * P[0, k, j]
            P[1, i, j] = x
            d = abs(x - P[0, i, j]) * w[j] / w[i]
            moved = moved if d <= moved else d
    return moved


@inlined
def _summed(J: F64, P: F64, S: F64, T: F64, w: F64) -> int:
    """S (columns, n) <- sum over k of J^k S, by doubling; 0 where it does not end, 2 where cycles keep something.

    J^(2^m) tends to 0, or to the projector on what no cycle changes: that part of S is left out.
    """
    apart()
    n = J.shape[0]
    for i in range(n):
        for j in range(n):
            P[0, i, j] = J[i, j]
    for _ in range(DOUBLINGS):
        _applied(P, S, T)
        moved = _squared(P, w)
        if moved <= 1e-6:
            trace = 0.0
            for i in range(n):
                trace += P[1, i, i]
            for c in range(S.shape[0]):
                for i in range(n):
                    S[c, i] += -T[c, i] if trace > 0.5 else T[c, i]
            return 2 if trace > 0.5 else 1
        if not moved < 1e100:
            return 0
        for c in range(S.shape[0]):
            for i in range(n):
                S[c, i] += T[c, i]
        for i in range(n):
            for j in range(n):
                P[0, i, j] = P[1, i, j]
    return 0


@inlined
def _drifts(P: F64, f: F64, x: F64, w: F64) -> bool:
    """Whether a cycle changes what the linearised cycles never forget; P: the projector on it."""
    n = P.shape[1]
    for i in range(n):
        d = 0.0
        for j in range(n):
            d += P[1, i, j] * f[j]
        if not abs(d) <= 1e-3 * w[i] + 1e-13 * abs(x[i]):
            return True
    return False


@inlined
def _missing(
    V: F64, J: F64, P: F64, S: F64, T: F64, L: F64, g: F64, place: I64, free: Flags, rtol: float, atol: float
) -> bool:
    """S <- what is missing at V[START], whose image is g; its size in tolerances goes to L; False: it has no end.

    Rounding that the sum magnifies is part of the tolerance.
    """
    apart()
    x, w = V[START], V[SCALE]
    columns, n = place.shape
    for c in range(columns):
        for i in range(n):
            s = place[c, i]
            S[c, i] = g[s] - x[s] if s >= 0 and free[s] else 0.0
    for i in range(n):
        s = place[0, i]
        w[i] = atol + rtol * _larger(abs(x[s]), abs(g[s])) + 1e-20
        S[columns, i] = w[i]
    keeps = _summed(J, P, S, T, w)
    if keeps == 0:
        return False
    if keeps == 2:
        for i in range(n):
            T[0, i] = g[place[0, i]] - x[place[0, i]] if free[place[0, i]] else 0.0
            T[columns, i] = x[place[0, i]]
        if _drifts(P, T[0], T[columns], w):
            return False
    gain = 1.0
    for i in range(n):
        a = abs(S[columns, i]) / w[i]
        gain = gain if a <= gain else a
    if not gain < 1e12:
        return False
    L[GAIN], L[NOW], L[NOW_S] = gain, 0.0, 0.0
    for c in range(columns):
        worst = 0.0
        for i in range(n):
            s = place[c, i]
            if s >= 0 and free[s]:
                size = _larger(abs(x[s]), abs(g[s]))
                e = abs(S[c, i]) / (atol + (rtol + 2e-14 * gain) * size + 1e-20)
                worst = worst if e <= worst else e
        at = NOW if c == 0 else NOW_S
        L[at] = L[at] if worst <= L[at] else worst
    return bool(L[NOW] < np.inf and L[NOW_S] < np.inf)


@inlined
def _plain(V: F64, N: I64) -> int:
    """Back to cycles as they come, from the image of the last good point: 2, 4, 8, ... of them before the next look."""
    N[ROUND] += 1
    if N[ROUND] > ROUNDS:
        return NEVER
    N[WHAT], N[LEFT] = PLAIN, 1 << N[ROUND]
    _copied(V, START, IMAGE)
    return GO


@inlined
def _step(V: F64, L: F64, N: I64, S: F64, place: I64, free: Flags) -> int:
    """The next cycle starts where the step leads; own states that are positive stay so, unless they insist."""
    apart()
    x, g, own = V[BASE], V[IMAGE], place[0]
    part = 1.0
    for i in range(own.shape[0]):
        s = own[i]
        if (
            N[SIGNS] < MOST_SIGNS
            and x[s] >= 0.0
            and g[s] >= 0.0
            and x[s] + S[0, i] < 0.0
            and x[s] > 100.0 * V[SCALE, i]
        ):
            most = -0.9 * x[s] / S[0, i]
            part = most if most < part else part
    for s in range(V.shape[1]):
        V[STEP, s] = 0.0
    for c in range(place.shape[0]):
        for i in range(own.shape[0]):
            s = place[c, i]
            if s >= 0 and free[s]:
                V[STEP, s] = S[c, i]
    N[SIGNS] += 1 if part < 1.0 else 0
    L[PART], N[CUTS], N[WHAT] = part, 0, TRY
    return _walk(V, L, N, place)


@inlined
def _walk(V: F64, L: F64, N: I64, place: I64) -> int:
    apart()
    for s in range(V.shape[1]):
        V[START, s] = V[BASE, s] + V[STEP, s]
    for i in range(place.shape[1]):
        s = place[0, i]
        to = V[BASE, s] + L[PART] * V[STEP, s]
        kept = to < 0.0 and V[BASE, s] >= 0.0 and V[IMAGE, s] >= 0.0 and N[SIGNS] < MOST_SIGNS
        V[START, s] = 0.0 if kept else to
    return GO


@inlined
def _probe(V: F64, N: I64, place: I64, free: Flags, rtol: float, atol: float) -> bool:
    """Move the next state a little; False when all have been."""
    apart()
    j = N[NEXT] + 1
    while j < place.shape[1] and not free[place[0, j]]:
        j += 1
    N[NEXT] = j
    if j == place.shape[1]:
        return False
    s = place[0, j]
    size = _larger(abs(V[BASE, s]), abs(V[IMAGE, s]))
    w = atol + rtol * size + 1e-20
    _copied(V, START, BASE)
    V[START, s] += _larger(np.sqrt(w * size), 1e3 * w)
    return True


@inlined
def _column(V: F64, J: F64, g: F64, place: I64, free: Flags, j: int) -> None:
    """Column j of the Jacobian, from the image g of a start at which state j alone was moved."""
    apart()
    own = place[0]
    moved = V[START, own[j]] - V[BASE, own[j]]
    for i in range(own.shape[0]):
        J[i, j] = (g[own[i]] - V[IMAGE, own[i]]) / moved if free[own[i]] else 0.0


@inlined
def _updated(V: F64, J: F64, T: F64, g: F64, place: I64, free: Flags) -> None:
    """Broyden's update, in the scale of the tolerances: J dx is what the cycle made of dx."""
    apart()
    own, w, total = place[0], V[SCALE], 0.0
    n = own.shape[0]
    for i in range(n):
        d = (V[START, own[i]] - V[BASE, own[i]]) / w[i]
        total += d * d
        x = g[own[i]] - V[IMAGE, own[i]]
        for j in range(n):
            x -= J[i, j] * (V[START, own[j]] - V[BASE, own[j]])
        T[0, i] = x if free[own[i]] else 0.0
    if not (0.0 < total < np.inf):
        return
    for i in range(n):
        for j in range(n):
            J[i, j] += T[0, i] * (V[START, own[j]] - V[BASE, own[j]]) / (w[j] * w[j] * total) if free[own[j]] else 0.0


@inlined
def _close(now: float, old: float, whole: bool) -> bool:
    """Whether the error after the step is below the tolerance: next to nothing moves, or steps shrink fast enough."""
    if now <= CLEAR:
        return True
    ratio = now / old
    return whole and ratio < 0.5 and 2.0 * now * ratio / (1.0 - ratio) <= CLOSE


@inlined
def _tried(
    V: F64, J: F64, P: F64, S: F64, T: F64, N: I64, L: F64, g: F64, place: I64, free: Flags, rtol: float, atol: float
) -> int:
    """A cycle at the end of a step."""
    apart()
    N[TRIES] += 1
    if N[TRIES] > MOST_TRIES:
        N[TRIES] = 0
        return _plain(V, N)
    if not _missing(V, J, P, S, T, L, g, place, free, rtol, atol):
        return _plain(V, N)
    part, ratio = L[PART], L[NOW] / L[OLD]
    if L[NOW] > CLEAR and not ratio <= 1.0 - 0.25 * part:
        N[CUTS] += 1
        if N[CUTS] > 2:
            return _plain(V, N)
        L[PART] = 0.25 * part
        return _walk(V, L, N, place)
    found = _close(L[NOW], L[OLD], part == 1.0) and _close(L[NOW_S], L[OLD_S], True)
    stale = L[NOW] > CLEAR and ratio > 0.25
    if not found:
        _updated(V, J, T, g, place, free)
    _copied(V, BASE, START)
    _put(V, IMAGE, g)
    if stale and not found:
        N[WHAT], N[NEXT] = PROBE, -1
        if _probe(V, N, place, free, rtol, atol):
            return GO
    if not found and not _missing(V, J, P, S, T, L, g, place, free, rtol, atol):
        return _plain(V, N)
    L[OLD], L[OLD_S] = L[NOW], L[NOW_S]
    going = _step(V, L, N, S, place, free)
    return DONE if found else going


@kernel
def advance(
    V: F64, J: F64, P: F64, S: F64, T: F64, N: I64, L: F64, g: F64, place: I64, free: Flags, rtol: float, atol: float
) -> int:
    """A cycle from V[START] has ended in g: GO, DONE, NEVER or LOST.

    V (5, states), J (n, n), P (2, n, n), S and T (directions + 2, n) are room to work in; place (1 + directions, n):
    numbers of the states and of their sensitivities (-1: none); free (states,): which of them must repeat.
    """
    apart()
    for s in range(g.shape[0]):
        if not abs(g[s]) < np.inf:
            return LOST if N[WHAT] == PLAIN else _plain(V, N)
    if N[WHAT] == PLAIN:
        N[LEFT] -= 1
        if N[LEFT] > 0:
            _put(V, START, g)
            return GO
        _copied(V, BASE, START)
        _put(V, IMAGE, g)
        N[WHAT], N[NEXT] = PROBE, -1
        for i in range(J.shape[0]):
            for j in range(J.shape[0]):
                J[i, j] = 0.0
        if _probe(V, N, place, free, rtol, atol):
            return GO
    elif N[WHAT] == PROBE:
        _column(V, J, g, place, free, N[NEXT])
        if _probe(V, N, place, free, rtol, atol):
            return GO
    else:
        return _tried(V, J, P, S, T, N, L, g, place, free, rtol, atol)
    _copied(V, START, BASE)
    if not _missing(V, J, P, S, T, L, V[IMAGE], place, free, rtol, atol):
        return _plain(V, N)
    L[OLD], L[OLD_S] = L[NOW], L[NOW_S]
    going = _step(V, L, N, S, place, free)
    return DONE if L[NOW] <= 0.2 * CLEAR and L[NOW_S] <= 0.2 * CLEAR else going
