"""The part of the adjoint solver's text that is the same for every model: doses, lanes, records, and the way back.

Lines of `DRIVER` that end in `#1` are for subjects whose parameters stay, in `#+` for subjects of several pieces: each
kind of text is what it would be if there were no other.
"""

from __future__ import annotations

__all__ = ["IMPORTS", "driver"]

IMPORTS = """
from pkpd.kernels.intrinsics import fma, wide
from pkpd.kernels.lanes import LANES, control, set_step

forced = njit(**options, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
"""

DRIVER = '''

@inline
def ode_put(lo, count, at, what, state, x, dose, a_time, a_what, a_amount):
    """One more action of the subject, kept in order of time; equal times stay in order of arrival."""
    row = lo + count
    while row > lo and a_time[row - 1] > at:
        a_time[row], a_amount[row] = a_time[row - 1], a_amount[row - 1]
        for k in range(3):
            a_what[row, k] = a_what[row - 1, k]
        row -= 1
    a_time[row], a_amount[row] = at, x
    a_what[row, 0], a_what[row, 1], a_what[row, 2] = what, state, dose
    return count + 1


@inline
def ode_dose(lo, count, d, at0, given, state, length, rate, share, lag, scale, a_time, a_what, a_amount):
    """The actions of one dose: 0 a bolus, 1 and 2 the start and the end of an infusion."""
    at = at0 + lag
    if not (lag >= 0.0 and lag < np.inf):
        at, share = at0, np.nan
    if length <= 0.0 and rate <= 0.0:
        return ode_put(lo, count, at, 0, state, given * share * scale, d, a_time, a_what, a_amount)
    hours = given * share / rate if rate > 0.0 else length
    speed = rate * scale if rate > 0.0 else given * share * scale / length
    count = ode_put(lo, count, at, 1, state, speed, d, a_time, a_what, a_amount)
    return ode_put(lo, count, at + hours, 2, state, -speed, d, a_time, a_what, a_amount)


@inline
def ode_load(W, lane, i, own, l, V, U):
    """The constants of a lane's subject."""
    for k in range(ODE_NF):
        W[(ODE_C + k) * LANES + lane] = own[i, k]
    ode_load_modes(W, lane, i, l, V, U)
    ode_hoist(W, lane)


@inline
def ode_keep(W, I, lane, what, step, rec, tag, used):
    """Remember where the lane stands, and what happens next there."""
    rec[used, 0], rec[used, 1] = W[lane], step
    for j in range(ODE_NS):
        rec[used, 2 + j] = W[(ODE_Y + j) * LANES + lane]
    tag[used, 0], tag[used, 1] = I[4 * LANES + lane], what
    I[4 * LANES + lane] = used
    return used + 1


@inline
def ode_arrive(W, I, lane, s_offsets, s_time, s_row, output, a_first, a_time, a_what, a_amount, f, rec, tag, used): #1
def ode_arrive(W, I, lane, s_offsets, s_time, s_row, output, a_first, a_time, a_what, a_amount, f, rec, tag, used, #+
               own, l, V, U, flow): #+
    """Everything that is due at the lane's time: rows before doses of the same time; then the next stop."""
    i, s, a = I[lane], I[LANES + lane], I[2 * LANES + lane]
    while s < s_offsets[i + 1]:
        ts = s_time[s]
        ta = a_time[a] if a < a_first[i + 1] else np.inf
        if ts <= W[lane] and ts <= ta:
            used = ode_keep(W, I, lane, -2 - s, 0.0, rec, tag, used)
            f[s_row[s]] = ode_output(W, lane, output[s_row[s]])
            s += 1
        elif ta <= W[lane]:
            used = ode_keep(W, I, lane, a, 0.0, rec, tag, used)
            block = ODE_Y if a_what[a, 0] == 0 else ODE_R #1
            ode_give(W, lane, block, a_what[a, 1], a_amount[a]) #1
            ode_act(W, I, lane, a, a_what, a_amount, own, l, V, U, flow) #+
            W[5 * LANES + lane], W[3 * LANES + lane] = 1.0, 1e-4
            a += 1
        else:
            W[6 * LANES + lane] = min(ts, ta)
            break
    I[LANES + lane], I[2 * LANES + lane] = s, a
    return used


@inline
def ode_solved(X, base, place, offsets, time, given, state, slot, length, rate, s_offsets, s_time, s_row, output,
               starts, parent, settings): #1
               starts, parent, settings, first, border, inside): #+
    n, K, rows, doses = X.shape[0], X.shape[1], s_row.size, time.size #1
    n, K, rows, doses, most = first.size - 1, X.shape[1], s_row.size, time.size, 2 * time.size + X.shape[0] #+
    P, own = base.copy(), np.empty((n, ODE_WIDTH)) #1
    P, own, held = base.copy(), np.empty((X.shape[0], ODE_WIDTH)), first[:n].copy() #+
    a_first, a_time, a_amount = np.zeros(n + 1, np.int64), np.empty(2 * doses), np.empty(2 * doses) #1
    a_what = np.empty((2 * doses, 3), np.int64) #1
    a_first, a_time, a_amount = np.zeros(n + 1, np.int64), np.empty(most), np.empty(most) #+
    a_what = np.empty((most, 3), np.int64) #+
    start = np.zeros(n)
    for w in range(X.shape[0]): #+
        for k in range(K): #+
            P[w, place[k]] = X[w, k] #+
        ode_constants(P[w], own[w]) #+
    for i in range(n):
        for k in range(K): #1
            P[i, place[k]] = X[i, k] #1
        ode_constants(P[i], own[i]) #1
        lo, count = a_first[i], 0
        start[i] = min(0.0, s_time[s_offsets[i]]) if s_offsets[i] < s_offsets[i + 1] else 0.0
        for d in range(offsets[i], offsets[i + 1]):
            start[i] = min(start[i], time[d])
            at = ODE_DOSING + 3 * slot[d]
            w = inside[d] #+
            count = ode_dose(lo, count, d, time[d], given[d], state[d], length[d], rate[d], own[@, at], own[@, at + 1],
                             own[@, at + 2], a_time, a_what, a_amount)
        for w in range(first[i] + 1, first[i + 1]): #+
            start[i] = min(start[i], border[w]) #+
            count = ode_put(lo, count, border[w], 3, w, 0.0, -1, a_time, a_what, a_amount) #+
        a_first[i + 1] = lo + count
    l, A = np.empty((n, ODE_NM)), np.zeros((n, ODE_NM, ODE_NM)) #1
    l, A = np.empty((X.shape[0], ODE_NM)), np.zeros((X.shape[0], ODE_NM, ODE_NM)) #+
    V, U = np.empty(A.shape), np.empty(A.shape)
    for i in range(n): #1
        ode_rates(own, i, A) #1
    for w in range(X.shape[0]): #+
        ode_rates(own, w, A) #+
    decompose(A, starts, parent, l, V, U)
    rtol, atol, max_steps = settings[0], settings[1], settings[2]
    f, failed, last = np.empty(rows), np.zeros(n, np.int64), np.full(n, -1)
    flow = np.zeros((n, ODE_NS)) #1
    flow = np.zeros((X.shape[0], ODE_NS)) #+
    W, I = np.ones(ODE_END * LANES), np.full(6 * LANES, -1)
    for j in range(ODE_NS * 7 + ODE_NC):
        for lane in range(LANES):
            W[(ODE_Y + j) * LANES + lane] = 0.0
    spare = rows + a_first[n] + LANES
    cap, used, nxt = spare + 48 * n + 64, 0, 0
    rec, tag = np.empty((cap, ODE_NS + 2)), np.empty((cap, 2), np.int64)
    while True:
        if used + spare > cap:
            more, links = np.empty((2 * cap, ODE_NS + 2)), np.empty((2 * cap, 2), np.int64)
            more[:used], links[:used] = rec[:used], tag[:used]
            rec, tag, cap = more, links, 2 * cap
        busy, fresh = False, False
        for lane in range(LANES):
            while True:
                if I[lane] < 0:
                    if nxt >= n:
                        W[LANES + lane], W[5 * LANES + lane] = 0.0, 0.0
                        break
                    i = nxt
                    nxt += 1
                    I[lane], I[LANES + lane], I[2 * LANES + lane] = i, s_offsets[i], a_first[i]
                    I[3 * LANES + lane], I[4 * LANES + lane] = 0, -1
                    W[lane], W[3 * LANES + lane], W[5 * LANES + lane], W[13 * LANES + lane] = start[i], 1e-4, 1.0, 1.0
                    ode_load(W, lane, i, own, l, V, U) #1
                    I[5 * LANES + lane] = first[i] #+
                    ode_load(W, lane, first[i], own, l, V, U) #+
                    for j in range(ODE_NS):
                        W[(ODE_Y + j) * LANES + lane] = own[i, ODE_NF + j - ODE_NM] if j >= ODE_NM else 0.0 #1
                        W[(ODE_Y + j) * LANES + lane] = own[first[i], ODE_NF + j - ODE_NM] if j >= ODE_NM else 0.0 #+
                        W[(ODE_R + j) * LANES + lane] = 0.0
                i = I[lane]
                if W[13 * LANES + lane] == 1.0:
                    W[13 * LANES + lane] = 0.0
                    used = ode_arrive(W, I, lane, s_offsets, s_time, s_row, output, a_first, a_time, a_what, a_amount,
                                      f, rec, tag, used) #1
                                      f, rec, tag, used, own, l, V, U, flow) #+
                    if I[LANES + lane] < s_offsets[i + 1]:
                        set_step(W, lane, W[9 * LANES + lane])
                if I[LANES + lane] >= s_offsets[i + 1] or failed[i] != 0:
                    last[i] = I[4 * LANES + lane] if failed[i] == 0 else -1
                    for s in range(s_offsets[i], s_offsets[i + 1]):
                        f[s_row[s]] = np.nan if failed[i] != 0 else f[s_row[s]]
                    for j in range(ODE_NS): #1
                        flow[i, j] = W[(ODE_R + j) * LANES + lane] #1
                    held[i] = I[5 * LANES + lane] #+
                    for j in range(ODE_NS): #+
                        flow[held[i], j] = W[(ODE_R + j) * LANES + lane] #+
                    I[lane] = -1
                    continue
                busy, fresh = True, fresh or W[5 * LANES + lane] == 1.0
                break
        if not busy:
            break
        if fresh:
            ode_restart(W, rtol, atol)
            for lane in range(LANES):
                if W[5 * LANES + lane] == 1.0:
                    W[5 * LANES + lane] = 0.0
                    h = W[9 * LANES + lane]
                    set_step(W, lane, h if h < np.inf else W[6 * LANES + lane] - W[lane])
        ode_step(W, rtol, atol)
        control(W, 0.14, 0.08, 0.9)
        for lane in range(LANES):
            if I[lane] >= 0 and W[4 * LANES + lane] == 1.0:
                used = ode_keep(W, I, lane, -1, W[LANES + lane], rec, tag, used)
        ode_commit(W)
        for lane in range(LANES):
            if I[lane] >= 0:
                I[3 * LANES + lane] += 1
                small = W[4 * LANES + lane] == 0.0 and not (W[8 * LANES + lane] > 1e-15 * max(abs(W[lane]), 1e-3))
                if small or I[3 * LANES + lane] >= max_steps:
                    failed[I[lane]] = 1
    return f, failed, last, flow, own, l, V, U, a_first, a_time, a_what, a_amount, rec, tag #1
    return f, failed, last, flow, own, l, V, U, a_first, a_time, a_what, a_amount, rec, tag, held #+


@inline
def ode_undone(W, lane, kind, state, amount, d, turn, before, after):
    """The adjoint of one action; turn (doses, 4): gradients to amount, speed, time of the start and of the end."""
    if kind != 0:
        pull = ode_taken(W, lane, ODE_GR, state, amount)
        ode_give(W, lane, ODE_R, state, -amount)
        turn[d, 1] += pull if kind == 1 else -pull
        turn[d, 1 + kind] -= amount * ode_taken(W, lane, ODE_L, state, 0.0)
        return
    turn[d, 0] += ode_taken(W, lane, ODE_L, state, amount)
    if ODE_LAGGED:
        ode_slope(W, lane, before)
        ode_give(W, lane, ODE_Y, state, amount)
        ode_slope(W, lane, after)
        for j in range(ODE_NS):
            turn[d, 2] += W[(ODE_L + j) * LANES + lane] * (before[j] - after[j])


@inline
def ode_dosed(gown, own, at, given, length, rate, turn):
    """From the gradients of a dose's actions to its share, lag and scale."""
    share, scale = own[at], own[at + 2]
    gown[at + 1] += turn[2] + turn[3]
    if length <= 0.0 and rate <= 0.0:
        gown[at] += turn[0] * given * scale
        gown[at + 2] += turn[0] * given * share
    elif rate > 0.0:
        gown[at] += turn[3] * given / rate
        gown[at + 2] += turn[1] * rate
    else:
        gown[at] += turn[1] * given * scale / length
        gown[at + 2] += turn[1] * given * share / length


@inline
def ode_pulled(gf, gX, failed, last, flow, own, l, V, U, a_first, a_time, a_what, a_amount, rec, tag, offsets, given, #1
def ode_pulled(gf, gX, failed, last, flow, own, l, V, U, a_first, a_time, a_what, a_amount, rec, tag, held, offsets, #+
               slot, length, rate, s_row, output): #1
               given, slot, length, rate, s_row, output, first, inside): #+
    n, nxt = gX.shape[0], 0 #1
    n, nxt = first.size - 1, 0 #+
    W, I = np.zeros(ODE_END * LANES), np.full(2 * LANES, -1) #1
    W, I = np.zeros(ODE_END * LANES), np.full(3 * LANES, -1) #+
    turn, gown = np.zeros((given.size, 4)), np.zeros((n, ODE_ROOTS)) #1
    turn, gown = np.zeros((given.size, 4)), np.zeros((gX.shape[0], ODE_ROOTS)) #+
    gl, gV, gU, gA = np.zeros(l.shape), np.zeros(V.shape), np.zeros(V.shape), np.zeros(V.shape)
    before, after = np.empty(ODE_NS), np.empty(ODE_NS)
    while True:
        busy = False
        for lane in range(LANES):
            W[LANES + lane] = 0.0
            while True:
                if I[lane] < 0:
                    while nxt < n and failed[nxt] != 0:
                        nxt += 1
                    if nxt >= n:
                        break
                    I[lane], I[LANES + lane] = nxt, last[nxt]
                    nxt += 1
                    for j in range(ODE_NS):
                        W[(ODE_L + j) * LANES + lane], W[(ODE_GR + j) * LANES + lane] = 0.0, 0.0
                        W[(ODE_R + j) * LANES + lane] = flow[I[lane], j] #1
                        W[(ODE_R + j) * LANES + lane] = flow[held[I[lane]], j] #+
                    for k in range(ODE_NC):
                        W[(ODE_GC + k) * LANES + lane] = 0.0
                    ode_load(W, lane, I[lane], own, l, V, U) #1
                    I[2 * LANES + lane] = held[I[lane]] #+
                    ode_load(W, lane, held[I[lane]], own, l, V, U) #+
                i, at = I[lane], I[LANES + lane]
                if at >= 0:
                    what = tag[at, 1]
                    I[LANES + lane] = tag[at, 0]
                    W[lane] = rec[at, 0]
                    for j in range(ODE_NS):
                        W[(ODE_Y + j) * LANES + lane] = rec[at, 2 + j]
                    if what == -1:
                        W[LANES + lane] = rec[at, 1]
                        busy = True
                        break
                    if what >= 0 and a_what[what, 0] == 3: #+
                        ode_uncross(W, I, lane, own, l, V, U, flow, gown, gl, gV, gU) #+
                    elif what >= 0: #+
                    if what >= 0: #1
                        ode_undone(W, lane, a_what[what, 0], a_what[what, 1], a_amount[what], a_what[what, 2], turn,
                                   before, after)
                    else:
                        r = s_row[-2 - what]
                        ode_output_back(W, lane, output[r], gf[r])
                    continue
                for k in range(ODE_NF): #1
                    gown[i, k] = W[(ODE_GC + k) * LANES + lane] #1
                for j in range(ODE_NM, ODE_NS):
                    gown[i, ODE_NF + j - ODE_NM] = W[(ODE_L + j) * LANES + lane] #1
                    gown[first[i], ODE_NF + j - ODE_NM] = W[(ODE_L + j) * LANES + lane] #+
                for d in range(offsets[i], offsets[i + 1]):
                    ode_dosed(gown[i], own[i], ODE_DOSING + 3 * slot[d], given[d], length[d], rate[d], turn[d]) #1
                    w = inside[d] #+
                    ode_dosed(gown[w], own[w], ODE_DOSING + 3 * slot[d], given[d], length[d], rate[d], turn[d]) #+
                ode_kept(W, lane, i, gl, gV, gU) #1
                ode_stored(W, lane, first[i], gown, gl, gV, gU) #+
                I[lane] = -1
        if not busy:
            break
        ode_back(W)
    decompose_back(l, V, U, gl, gV, gU, gA)
    for i in range(n): #1
        ode_rates_back(gA, i, gown[i]) #1
        ode_constants_back(own[i], gown[i], gX[i]) #1
        if failed[i] != 0: #1
            gX[i] = np.nan #1
    for w in range(gX.shape[0]): #+
        ode_rates_back(gA, w, gown[w]) #+
        ode_constants_back(own[w], gown[w], gX[w]) #+
    for i in range(n): #+
        if failed[i] != 0: #+
            gX[first[i] : first[i + 1]] = np.nan #+
'''

PIECES = '''

@inline
def ode_act(W, I, lane, a, a_what, a_amount, own, l, V, U, flow):
    """An action of a dose; or a border, where the constants are others and what is in the compartments goes on."""
    if a_what[a, 0] != 3:
        ode_give(W, lane, ODE_Y if a_what[a, 0] == 0 else ODE_R, a_what[a, 1], a_amount[a])
        return
    w, y, r = a_what[a, 1], np.zeros(ODE_NM), np.zeros(ODE_NM)
    for j in range(ODE_NS):
        flow[w - 1, j] = W[(ODE_R + j) * LANES + lane]
    for j in range(ODE_NM):
        for k in range(ODE_NM):
            y[j] += V[w - 1, j, k] * W[(ODE_Y + k) * LANES + lane]
            r[j] += V[w - 1, j, k] * W[(ODE_R + k) * LANES + lane]
    for k in range(ODE_NM):
        W[(ODE_Y + k) * LANES + lane], W[(ODE_R + k) * LANES + lane] = 0.0, 0.0
        for j in range(ODE_NM):
            W[(ODE_Y + k) * LANES + lane] += U[w, k, j] * y[j]
            W[(ODE_R + k) * LANES + lane] += U[w, k, j] * r[j]
    ode_load(W, lane, w, own, l, V, U)
    I[5 * LANES + lane] = w


@inline
def ode_stored(W, lane, w, gown, gl, gV, gU):
    """Add the gradient by a piece's constants to what is known of it; begin another's."""
    for k in range(ODE_NF):
        gown[w, k] += W[(ODE_GC + k) * LANES + lane]
    ode_kept(W, lane, w, gl, gV, gU)
    for k in range(ODE_NC):
        W[(ODE_GC + k) * LANES + lane] = 0.0


@inline
def ode_through(W, lane, block, pull, w, V, U, gV, gU):
    """The adjoint of z' = U' V z, amplitudes before a border (block) and after it; pull: their gradient."""
    for j in range(ODE_NM):
        y, g = 0.0, 0.0
        for k in range(ODE_NM):
            y += V[w - 1, j, k] * W[(block + k) * LANES + lane]
            g += U[w, k, j] * W[(pull + k) * LANES + lane]
        for k in range(ODE_NM):
            gU[w, k, j] += W[(pull + k) * LANES + lane] * y
            gV[w - 1, j, k] += g * W[(block + k) * LANES + lane]
    found = np.zeros(ODE_NM)
    for j in range(ODE_NM):
        g = 0.0
        for k in range(ODE_NM):
            g += U[w, k, j] * W[(pull + k) * LANES + lane]
        for k in range(ODE_NM):
            found[k] += V[w - 1, j, k] * g
    for k in range(ODE_NM):
        W[(pull + k) * LANES + lane] = found[k]


@inline
def ode_uncross(W, I, lane, own, l, V, U, flow, gown, gl, gV, gU):
    """The adjoint of a border."""
    w = I[2 * LANES + lane]
    ode_stored(W, lane, w, gown, gl, gV, gU)
    for j in range(ODE_NS):
        W[(ODE_R + j) * LANES + lane] = flow[w - 1, j]
    ode_through(W, lane, ODE_Y, ODE_L, w, V, U, gV, gU)
    ode_through(W, lane, ODE_R, ODE_GR, w, V, U, gV, gU)
    ode_load(W, lane, w - 1, own, l, V, U)
    I[2 * LANES + lane] = w - 1
'''


def driver(*, several: bool) -> str:
    """The text; several: subjects have several pieces, each with parameters of its own."""
    lines = []
    for line in DRIVER.split("\n"):
        text, mark = line[:-3], line[-3:]
        if mark not in (" #1", " #+"):
            lines.append(line)
        elif (mark == " #+") == several:
            lines.append(text)
    return (PIECES if several else "") + "\n".join(lines).replace("own[@,", "own[w," if several else "own[i,")
