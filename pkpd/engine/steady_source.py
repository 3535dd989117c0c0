"""Text of the search for steady states in a generated solver: cycles for `kernels.fixed_point`, one after the other.

It is compiled only for records that have one: it takes longer to compile than the rest of a small model.
"""

from __future__ import annotations

__all__ = ["NO_STEADY", "STEADY"]

NO_STEADY = """
@inline
def begin_steady(W, I, lane, row, added, steady, steady_target, V, N, L, free):
    I[7 * LANES + lane] = 4  # no text without the search is given such records; a subject of them would fail


@inline
def cycle_stop(W, I, lane, steady, target, rtol, atol, V, N, L, free, J, P2, sums, g):
    return True


@inline
def elsewhere(W, I, lane, steady, target, rtol, atol, V, N, L, free, J, P2, sums, g):
    pass


@inline
def magnify(W, I):
    pass
"""

STEADY = '''
from pkpd.kernels.fixed_point import advance, begin


@inline
def magnify(W, I):
    """Errors of a cycle are magnified in its fixed point."""
    for lane in range(LANES):
        if I[4 * LANES + lane] > 0:
            W[2 * LANES + lane] *= W[11 * LANES + lane]


@inline
def begin_cycle(W, I, lane, steady, target, final, free):
    """One period of a steady regimen, or its part up to the phase asked for. Hazards and what gathers stand still."""
    apart()
    row = I[5 * LANES + lane]
    amount, interval, duration, phase = steady[row, 0], steady[row, 1], steady[row, 2], steady[row, 3]
    length = phase if final else interval
    W[lane] = W[10 * LANES + lane]
    for s in range(NS):
        W[(Y + s) * LANES + lane] = W[(Y + s) * LANES + lane] if free[lane, s] else W[(YS + s) * LANES + lane]
    state = target[row]
    if duration <= 0.0:
        W[(Y + state) * LANES + lane] += amount
        #: tangent_dose(W, lane, state, steady[row])
        I[4 * LANES + lane] = 4 if final else 2
        W[6 * LANES + lane] = W[10 * LANES + lane] + length
        return
    running = np.floor(duration / interval)
    rest = duration - running * interval
    first = rest < length
    piece = rest if first else length
    if piece > 0.0:
        W[(R + state) * LANES + lane] = amount / duration * (running + 1.0)
        #: tangent_rate(W, lane, state, steady[row], running + 1.0)
        I[4 * LANES + lane] = (3 if final else 1) if first else (4 if final else 2)
        W[6 * LANES + lane] = W[10 * LANES + lane] + piece
    else:
        W[(R + state) * LANES + lane] = amount / duration * running
        #: tangent_rest(W, lane, state, steady[row])
        #: tangent_rate(W, lane, state, steady[row], running)
        I[4 * LANES + lane] = 4 if final else 2
        W[6 * LANES + lane] = W[10 * LANES + lane] + length


@inline
def cycle_stop(W, I, lane, steady, target, rtol, atol, V, N, L, free, J, P2, sums, g):
    """At a stop inside steady mode. True when the steady state stands and normal time goes on."""
    apart()
    mode, row = I[4 * LANES + lane], I[5 * LANES + lane]
    if mode == 1 or mode == 3:
        interval, duration = steady[row, 1], steady[row, 2]
        W[(R + target[row]) * LANES + lane] = steady[row, 0] / duration * np.floor(duration / interval)
        #: tangent_rest(W, lane, target[row], steady[row])
        #: tangent_rate(W, lane, target[row], steady[row], np.floor(duration / interval))
        I[4 * LANES + lane] = mode + 1
        W[6 * LANES + lane] = W[10 * LANES + lane] + (interval if mode == 1 else steady[row, 3])
        return False
    if mode == 4:
        interval, duration = steady[row, 1], steady[row, 2]
        if duration > 0.0:  # an infusion that ends at the phase runs no more
            whole = np.floor(duration / interval)
            still = 1.0 if steady[row, 3] < duration - whole * interval else 0.0
            W[(R + target[row]) * LANES + lane] = steady[row, 0] / duration * (whole + still)
            #: if steady[row, 3] == duration - whole * interval:
            #:     tangent_rest(W, lane, target[row], steady[row])
            #:     tangent_rate(W, lane, target[row], steady[row], whole)
        #: tangent_phase(W, lane, steady[row])
        I[4 * LANES + lane] = 0
        W[lane] = W[10 * LANES + lane]
        for s in range(NS):
            kept = W[(YS + s) * LANES + lane]
            W[(Y + s) * LANES + lane] = W[(Y + s) * LANES + lane] + kept if free[lane, s] else kept
            W[(R + s) * LANES + lane] += W[(RS + s) * LANES + lane]
        return True
    for s in range(NS):
        g[s] = W[(Y + s) * LANES + lane] if free[lane, s] else V[lane, 3, s]
    I[6 * LANES + lane] += 1
    what = advance(V[lane], J[lane], P2, sums[0], sums[1], N[lane], L[lane], g, PLACE, free[lane], rtol, atol)
    if what >= 2:
        I[7 * LANES + lane] = 4 if what == 2 else 3
        return False
    for s in range(NS):
        W[(Y + s) * LANES + lane] = V[lane, 3, s]
    W[11 * LANES + lane] = 1.0 if what == 1 else max(1.0, min(0.1 * L[lane, 5], 1000.0, rtol * 1e13))
    begin_cycle(W, I, lane, steady, target, what == 1, free)
    return False


@inline
def begin_steady(W, I, lane, row, added, steady, steady_target, V, N, L, free):
    """Look for the periodic state from the initial one; what is there now is kept where the periodic one is `added`."""
    apart()
    for s in range(NS):
        free[lane, s] = s < NP and (s == steady_target[row] or not GATHERS[s])
        keep = added or s >= NP
        W[(YS + s) * LANES + lane] = W[(Y + s) * LANES + lane] if keep else 0.0
        W[(RS + s) * LANES + lane] = W[(R + s) * LANES + lane] if keep else 0.0
    initial(W, lane)
    for s in range(NS):
        if added and s < NP:
            W[(Y + s) * LANES + lane] = 0.0
        W[(R + s) * LANES + lane] = 0.0
        if not added and s < NP and not free[lane, s]:
            W[(YS + s) * LANES + lane] = W[(Y + s) * LANES + lane]
        V[lane, 3, s] = W[(Y + s) * LANES + lane]
    switch(W, lane, steady_target[row], 1.0)
    I[5 * LANES + lane] = row
    I[6 * LANES + lane] = 0
    W[10 * LANES + lane] = W[lane]
    W[11 * LANES + lane] = 1.0
    begin(V[lane], N[lane], L[lane])
    begin_cycle(W, I, lane, steady, steady_target, False, free)


@inline
def elsewhere(W, I, lane, steady, target, rtol, atol, V, N, L, free, J, P2, sums, g):
    """The search leads nowhere: where a start was tried, another one; status of the lane else."""
    if I[4 * LANES + lane] == 1 or I[4 * LANES + lane] == 2:
        for s in range(NS):
            W[(Y + s) * LANES + lane] = np.nan
        W[3 * LANES + lane], W[5 * LANES + lane], I[4 * LANES + lane] = 1e-4, 1.0, 2
        failed, I[7 * LANES + lane] = I[7 * LANES + lane], 0
        cycle_stop(W, I, lane, steady, target, rtol, atol, V, N, L, free, J, P2, sums, g)
        I[7 * LANES + lane] = failed if I[7 * LANES + lane] == 3 else I[7 * LANES + lane]
'''
