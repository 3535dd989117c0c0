"""Source text of what a likelihood calls: predictions of the data's rows and their slopes, in one compiled function.

It stands in the module of a solver with sensitivities. Doses are worked out inside, so that a share, a lag or a scale
may be a parameter: boluses and infusions of a given rate or duration. No Python runs between parameters and slopes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.graph import Graph
from pkpd.engine.printer import statements
from pkpd.model.equations import Expr

__all__ = ["OBSERVE", "OBSERVE_PIECES", "observe_functions"]

_KINDS = ("bioavailability", "lag", "scale")

OBSERVE = '''
@inline
def put(count, at, what, state, x, time, kind, target, amount):
    """One more action of the subject, kept in order of time; equal times stay in order of arrival."""
    row = count
    while row > 0 and time[row - 1] > at:
        time[row], kind[row] = time[row - 1], kind[row - 1]
        target[row], amount[row] = target[row - 1], amount[row - 1]
        row -= 1
    time[row], kind[row], target[row], amount[row] = at, what, state, x
    return count + 1


@inline
def rate_on(count, at, late, state, speed, slope, G, where, time, kind, target, amount):
    """An input of `speed` from `at` on; late, slope (K,): how the time and the speed move."""
    for k in range(where.shape[1]):
        if where[state, k] >= 0:
            if late[k] != 0.0:
                count = put(count, at, 0, where[state, k], -speed * late[k], time, kind, target, amount)
            if slope[k] != 0.0:
                count = put(count, at, 1, where[state, k], slope[k], time, kind, target, amount)
    return put(count, at, 1, state, speed, time, kind, target, amount)


@inline
def dose(count, at0, given, state, length, rate, G, where, time, kind, target, amount, late, slope):
    """One dose: `given` at `at0`, over `length` hours or at `rate` (0: not given)."""
    share, lag, scale = G[0, state, 0], G[1, state, 0], G[2, state, 0]
    K, at = where.shape[1], at0 + lag
    if not (lag >= 0.0 and lag < np.inf):
        at, share = at0, np.nan
    if length <= 0.0 and rate <= 0.0:
        for k in range(K):
            if G[1, state, k + 1] != 0.0:
                count = put(count, at, 10, k, G[1, state, k + 1], time, kind, target, amount)
        count = put(count, at, 0, state, given * share * scale, time, kind, target, amount)
        for k in range(K):
            more = given * (G[0, state, k + 1] * scale + share * G[2, state, k + 1])
            if more != 0.0 and where[state, k] >= 0:
                count = put(count, at, 0, where[state, k], more, time, kind, target, amount)
            if G[1, state, k + 1] != 0.0:
                count = put(count, at, 11, k, G[1, state, k + 1], time, kind, target, amount)
        return count
    hours = given * share / rate if rate > 0.0 else length
    speed = rate * scale if rate > 0.0 else given * share * scale / length
    for k in range(K):
        late[k] = G[1, state, k + 1]
        part = 0.0 if rate > 0.0 else given * G[0, state, k + 1] * scale / length
        slope[k] = part + speed / scale * G[2, state, k + 1]
    count = rate_on(count, at, late, state, speed, slope, G, where, time, kind, target, amount)
    for k in range(K):
        late[k] += given * G[0, state, k + 1] / rate if rate > 0.0 else 0.0
        slope[k] = -slope[k]
    return rate_on(count, at + hours, late, state, -speed, slope, G, where, time, kind, target, amount)


@njit(**options, cache=True)
def observe(X, base, columns, offsets, time, given, state, length, rate, times, subject, column, output, slopes, where,
            settings):
    n, K, rows = X.shape[0], X.shape[1], subject.size
    P = base.copy()
    for k in range(K):
        P[:, columns[k]] = X[:, k]
    most = time.size * (2 + 4 * K)
    when, kind = np.empty(most), np.zeros(most, np.int8)
    target, amount = np.zeros(most, np.int32), np.empty(most)
    first, start = np.zeros(n + 1, np.int64), np.zeros(n)
    G, late, slope = np.zeros((3, where.shape[0], K + 1)), np.zeros(K), np.zeros(K)
    for i in range(n):
        dosing(P[i], G)
        lo, count = first[i], 0
        for row in range(offsets[i], offsets[i + 1]):
            start[i] = min(start[i], time[row])
            count = dose(count, time[row], given[row], state[row], length[row], rate[row], G, where,
                         when[lo:], kind[lo:], target[lo:], amount[lo:], late, slope)
        first[i + 1] = lo + count
    values = np.full((n, NO, times.shape[1]), np.nan)
    status, none = np.zeros(n, np.int8), np.empty((n, 0, 0))
    total, m = first[n], PLACE.shape[1]
    run(P, first, when[:total].copy(), kind[:total].copy(), target[:total].copy(), amount[:total].copy(),
        np.empty((0, 4)), np.empty(0, np.int32), np.empty((0, P.shape[1])), start, times.copy(), False,
        np.empty(0, np.int64), none, none, np.empty(0), settings[0], settings[1], np.int64(settings[2]), none, none,
        values, np.empty((n, 0, 7, 0)), status, np.ones(ROWS * LANES), np.zeros(9 * LANES, np.int64), np.empty(NO),
        np.empty(9), np.empty(5), np.zeros((LANES, 5, NS)), np.zeros((LANES, 8), np.int64), np.ones((LANES, 8)),
        np.ones((LANES, NS), np.bool_), np.zeros((LANES, m, m)), np.zeros((2, m, m)),
        np.zeros((2, PLACE.shape[0] + 1, m)), np.zeros(NS))
    prediction, gradient = np.empty(rows), np.zeros((rows, K))
    for r in range(rows):
        i, j, o = subject[r], column[r], output[r]
        prediction[r] = values[i, o, j]
        for k in range(K):
            if slopes[o, k] >= 0:
                gradient[r, k] = values[i, slopes[o, k], j]
            elif status[i] != 0:
                gradient[r, k] = np.nan
    return prediction, gradient
'''
OBSERVE_PIECES = """

@njit(**options, cache=True)
def observe_pieces(X, base, columns, offsets, time, given, state, length, rate, times, subject, column, output, slopes,
                   where, settings, first, owner, border, inside, entry_row, entry_piece, row_piece):
    n, K, rows, most = X.shape[0], X.shape[1], subject.size, 0
    P = base.copy()
    for k in range(K):
        P[:, columns[k]] = X[:, k]
    begin, when_ = P.copy(), np.empty((n, times.shape[1]))
    for v in range(n):
        i = owner[v]
        begin[v], when_[v] = P[first[i]], times[i]
        most += (offsets[i + 1] - offsets[i]) * (2 + 4 * K) + first[i + 1] - first[i] + where.size
    when, kind = np.empty(most), np.zeros(most, np.int8)
    target, amount = np.zeros(most, np.int32), np.empty(most)
    act, start = np.zeros(n + 1, np.int64), np.zeros(n)
    G, late, slope = np.zeros((3, where.shape[0], K + 1)), np.zeros(K), np.zeros(K)
    for v in range(n):
        i, lo, count = owner[v], act[v], 0
        for w in range(first[i] + 1, first[i + 1]):
            start[v] = min(start[v], border[w])
            count = put(count, border[w], 6, 0, 1.0 * w, when[lo:], kind[lo:], target[lo:], amount[lo:])
            if w == v:
                for s in range(where.shape[0]):
                    for k in range(K):
                        if where[s, k] >= 0:
                            count = put(count, border[w], 4, where[s, k], 0.0, when[lo:], kind[lo:], target[lo:],
                                        amount[lo:])
        for row in range(offsets[i], offsets[i + 1]):
            start[v] = min(start[v], time[row])
            dosing(P[inside[row]], G)
            if inside[row] < v:
                G[:, :, 1:] = 0.0
            count = dose(count, time[row], given[row], state[row], length[row], rate[row], G, where,
                         when[lo:], kind[lo:], target[lo:], amount[lo:], late, slope)
        act[v + 1] = lo + count
    values = np.full((n, NO, times.shape[1]), np.nan)
    status, none = np.zeros(n, np.int8), np.empty((n, 0, 0))
    total, m = act[n], PLACE.shape[1]
    run(begin, act, when[:total].copy(), kind[:total].copy(), target[:total].copy(), amount[:total].copy(),
        np.empty((0, 4)), np.empty(0, np.int32), P, start, when_, False,
        np.empty(0, np.int64), none, none, np.empty(0), settings[0], settings[1], np.int64(settings[2]), none, none,
        values, np.empty((n, 0, 7, 0)), status, np.ones(ROWS * LANES), np.zeros(9 * LANES, np.int64), np.empty(NO),
        np.empty(9), np.empty(5), np.zeros((LANES, 5, NS)), np.zeros((LANES, 8), np.int64), np.ones((LANES, 8)),
        np.ones((LANES, NS), np.bool_), np.zeros((LANES, m, m)), np.zeros((2, m, m)),
        np.zeros((2, PLACE.shape[0] + 1, m)), np.zeros(NS))
    prediction, gradient = np.empty(rows), np.zeros((entry_row.size, K))
    for r in range(rows):
        prediction[r] = values[first[subject[r]], output[r], column[r]]
    for e in range(entry_row.size):
        r, v = entry_row[e], entry_piece[e]
        j, o, later = column[r], output[r], entry_piece[e] < row_piece[r]
        for k in range(K):
            if slopes[o, k] >= 0:
                gradient[e, k] = values[v, slopes[o, k], j] - (values[v + 1, slopes[o, k], j] if later else 0.0)
            if status[v] != 0 or (later and status[v + 1] != 0):
                gradient[e, k] = np.nan
    return prediction, gradient
"""
"""Parameters that change within a subject: every piece of it is solved as a subject of its own whose sensitivities are
set to 0 where the piece begins. They then are those by a move of the parameters from there on, in this piece and all
after it; what one piece does is the difference to the next one's.
"""


def observe_functions(dynamics: Dynamics, *, several: bool = False) -> str:
    """Text to append to the solver of a model with sensitivities; several: parameters change within a subject."""
    tangent = dynamics.tangent
    if tangent is None:
        raise TypeError("a model without sensitivities")
    cells: list[tuple[str, Expr]] = []
    for kind, name in enumerate(_KINDS):
        for s, state in enumerate(dynamics.states):
            expr = getattr(dynamics, name).get(state)
            if expr is not None:
                cells.append((f"G[{kind}, {s}, 0]", expr))
            for k, direction in enumerate(tangent.wrt):
                slope = tangent.dosing[name].get((state, direction))
                if slope is not None:
                    cells.append((f"G[{kind}, {s}, {k + 1}]", slope))
    return _dosing(dynamics, cells) + (OBSERVE[: OBSERVE.index("@njit")] + OBSERVE_PIECES if several else OBSERVE)


def _dosing(dynamics: Dynamics, cells: Sequence[tuple[str, Expr]]) -> str:
    """Share, lag and scale of every state, and their derivatives, from a row of parameters."""
    graph = Graph(frozenset({*dynamics.states, TIME}))
    names = {name: graph.symbol(name) for name in (*dynamics.parameters, TIME, *dynamics.states)}
    given = {names[name]: f"p[{k}]" for k, name in enumerate(dynamics.parameters)}
    for name, expr in dynamics.assigned.items():
        names[name] = graph.of(expr, names)
    block = statements(graph, [graph.of(expr, names) for _, expr in cells], given, "x")
    lines = ["G[:] = 0.0", "G[0, :, 0] = 1.0", "G[2, :, 0] = 1.0", *block.lines]
    lines += [f"{cell} = {text}" for (cell, _), text in zip(cells, block.roots, strict=True)]
    return "\n@inline\ndef dosing(p, G):\n" + "\n".join(f"    {line}" for line in lines) + "\n"
