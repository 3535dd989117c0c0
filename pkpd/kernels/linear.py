r"""One compartment with first-order absorption, in closed form, for any dosing history.

    dA_d/dt = -ka A_d + R_d
    dA_c/dt =  ka A_d - ke A_c + R_c

The state is carried from action to action by the exact propagator; with a = ka dt, b = ke dt

    A_d' = A_d e^-a + R_d dt phi1(a)
    A_c' = A_c e^-b + A_d ka dt D0(a, b) + R_c dt phi1(b) + R_d ka dt^2 D1(a, b)

where phi_k are the functions of exponential integrators, phi1(x) = (1 - e^-x)/x, and D_k their divided differences
D_k(a, b) = (phi_k(a) - phi_k(b))/(b - a), phi_0 = e^-x. Every term is positive and every D_k is evaluated without
cancellation, so the result is smooth through ka = ke and does not drift over many doses.

Actions of subject i are rows offsets[i]:offsets[i+1] of `time` (ascending), `kind`, `target`
(0 depot, 1 central) and `amount`:

    ADD     add amount to the compartment (bolus)
    RATE    add amount to its input rate (an infusion is +rate, later -rate)
    STEADY  replace the state by the periodic state of row int(amount) of `steady`: amount, interval, duration, phase
    RESET   empty both compartments, stop all inputs
    REPLACE put the amount in the place of the compartment's, MULTIPLY multiply the compartment's by it
    SET     from now on the rates are those of row int(amount) of set_ka, set_ke (a covariate has changed)
    SUPERPOSE  like STEADY, but the periodic state and its inputs are added
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import fma, inlined, kernel
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

ADD, RATE, STEADY, RESET, REPLACE, MULTIPLY, SET, SUPERPOSE = range(8)
DEPOT, CENTRAL = 0, 1


@inlined
def _phi_series(x: float, k: int) -> float:
    """k! phi_k(x) for 0 <= x <= 1 by nested Taylor series."""
    s = 1.0
    for n in range(19, 0, -1):
        s = fma(-x * (1.0 / (n + k)), s, 1.0)
    return s


@inlined
def phi1(x: float) -> float:
    """(1 - e^-x)/x, 1 at 0, for x >= 0."""
    large = 1.0 if x <= 1.0 else x
    return _phi_series(x if x <= 1.0 else 1.0, 1) if x <= 1.0 else (1.0 - exp(-large)) / large


@inlined
def phi2(x: float) -> float:
    """(1 - phi1(x))/x, 1/2 at 0, for x >= 0."""
    if x <= 1.0:
        return 0.5 * _phi_series(x, 2)
    return (1.0 - phi1(x)) / x


@inlined
def chi(x: float) -> float:
    """-phi1'(x) = (phi1(x) - e^-x)/x, 1/2 at 0, for x >= 0."""
    if x <= 1.0:
        return _phi_series(x, 1) - 0.5 * _phi_series(x, 2)
    return (phi1(x) - exp(-x)) / x


@inlined
def _divided_series(lo: float, hi: float, first: float) -> float:
    """Sum of (-1)^n h_n(lo, hi) first/((k+1)...(k+n)) with h_n the complete
    symmetric polynomial and k = 2 or 3 by `first` = 1/k!."""
    k = 2.0 if first == 0.5 else 3.0
    h, p, weight, total = 1.0, 1.0, first, first
    for n in range(1, 20):
        p *= lo
        h = fma(hi, h, p)
        weight /= -(k + n)
        total = fma(weight, h, total)
    return total


@inlined
def _d0(lo: float, hi: float) -> float:
    x = hi - lo
    return exp(-lo) * phi1(x)


@inlined
def divided1(a: float, b: float) -> float:
    """D1(a, b) for a, b >= 0: relative error about 1e-14."""
    lo = a if a < b else b
    hi = b if a < b else a
    if hi <= 1.0:
        return _divided_series(lo, hi, 0.5)
    if hi - lo >= 0.3 * hi:
        return (phi1(lo) - phi1(hi)) / (hi - lo)
    return (phi1(lo) - _d0(lo, hi)) / hi


@inlined
def divided2(a: float, b: float) -> float:
    """D2(a, b) for a, b >= 0."""
    lo = a if a < b else b
    hi = b if a < b else a
    if hi <= 1.0:
        return _divided_series(lo, hi, 1.0 / 6.0)
    if hi - lo >= 0.3 * hi:
        return (phi2(lo) - phi2(hi)) / (hi - lo)
    return (phi2(lo) - divided1(lo, hi)) / hi


@inlined
def _transfer(ka: float, ke: float, dt: float) -> tuple[float, float, float]:
    """e^-a, e^-b and dt D0(a, b): what stays, what stays, what passes (per ka)."""
    lo = ka if ka < ke else ke
    hi = ke if ka < ke else ka
    gap = hi - lo
    x = gap * dt
    e_lo = exp(-lo * dt)
    e_hi = exp(-hi * dt)
    near = not (x > 1.0)
    series = dt * e_lo * _phi_series(x if near else 1.0, 1)
    apart = (e_lo - e_hi) / (1.0 if near else gap)
    return (e_lo if ka < ke else e_hi), (e_hi if ka < ke else e_lo), (series if near else apart)


@inlined
def propagate(a: float, c: float, ra: float, rc: float, ka: float, ke: float, dt: float) -> tuple[float, float]:
    """Amounts after `dt` hours with constant input rates ra (depot), rc (central)."""
    ea, ec, g = _transfer(ka, ke, dt)
    a1 = a * ea
    c1 = fma(a * ka, g, c * ec)
    if ra != 0.0:
        a1 += ra * dt * phi1(ka * dt)
        c1 += ra * ka * dt * dt * divided1(ka * dt, ke * dt)
    if rc != 0.0:
        c1 += rc * dt * phi1(ke * dt)
    return a1, c1


@inlined
def area(a: float, c: float, ra: float, rc: float, ka: float, ke: float, dt: float) -> float:
    """Integral of the central amount over the next `dt` hours [mg h]."""
    x, y = ka * dt, ke * dt
    total = c * dt * phi1(y) + a * ka * dt * dt * divided1(x, y)
    if rc != 0.0:
        total += rc * dt * dt * phi2(y)
    if ra != 0.0:
        total += ra * ka * dt * dt * dt * divided2(x, y)
    return total


@inlined
def _minus_log1m(z: float) -> float:
    """-log(1 - z)/z for z < 1, 1 at 0."""
    u = 1.0 - z
    return 1.0 if u == 1.0 else -log(u) / (1.0 - u)


@inlined
def time_of_extremum(a: float, c: float, ra: float, rc: float, ka: float, ke: float) -> float:
    """Time after the segment's start at which dA_c/dt = 0, or -1.

    With the constant inputs' equilibrium subtracted the homogeneous system gives
    (1 - e^(-(ka-ke) s))/(ka-ke) = w, w = (ka a - ke c)/(ka^2 a).
    """
    if not (ka > 0.0 and ke > 0.0):
        return -1.0
    a0 = a - ra / ka
    c0 = c - (ra + rc) / ke
    if a0 == 0.0:
        return -1.0
    w = (ka * a0 - ke * c0) / (ka * ka * a0)
    z = (ka - ke) * w
    return w * _minus_log1m(z) if (w > 0.0 and z < 1.0) else -1.0


@inlined
def _cycle(
    a: float, c: float, target: int, row: F64, ka: float, ke: float, length: float
) -> tuple[float, float, float, float]:
    """From just before a dose of the periodic regimen to `length` <= interval hours later; also the rates there."""
    amount, interval, duration = row[0], row[1], row[2]
    if duration <= 0.0:
        a, c = propagate(
            a + (amount if target == DEPOT else 0.0),
            c + (amount if target == CENTRAL else 0.0),
            0.0,
            0.0,
            ka,
            ke,
            length,
        )
        return a, c, 0.0, 0.0
    rate = amount / duration
    running = np.floor(duration / interval)
    rest = duration - running * interval
    first = rest if rest < length else length
    into_depot = rate if target == DEPOT else 0.0
    into_central = rate if target == CENTRAL else 0.0
    if first > 0.0:
        a, c = propagate(a, c, into_depot * (running + 1.0), into_central * (running + 1.0), ka, ke, first)
    if length > rest:
        a, c = propagate(a, c, into_depot * running, into_central * running, ka, ke, length - rest)
    now = running + 1.0 if length < rest else running
    return a, c, into_depot * now, into_central * now


@inlined
def _fixed_point(ra: float, rc: float, ka: float, ke: float, interval: float) -> tuple[float, float]:
    """Solve (I - M) x = r with M the propagator over one interval."""
    _, _, g = _transfer(ka, ke, interval)
    a = ra / (ka * interval * phi1(ka * interval)) if ra != 0.0 else 0.0
    return a, (rc + a * ka * g) / (ke * interval * phi1(ke * interval))


@inlined
def steady_state(target: int, row: F64, ka: float, ke: float) -> tuple[float, float, float, float]:
    """Amounts and running input rates of the periodic regimen `row`, `phase` hours after a dose started.

    phase = interval is the trough, just before the next dose.
    """
    ra, rc, _, _ = _cycle(0.0, 0.0, target, row, ka, ke, row[1])
    a, c = _fixed_point(ra, rc, ka, ke, row[1])
    return _cycle(a, c, target, row, ka, ke, row[3])


@inlined
def walk(
    ka: float, ke: float, set_ka: F64, set_ke: F64, first: int, last: int, time: F64, kind: I8, target: I32,
    amount: F64, steady: F64, knots: F64,
) -> int:  # fmt: skip
    """Fill `knots` (8, >= actions) with time, both amounts, both input rates, ka, ke and the row of `set_ka` in force
    (-1: none) just after each action time.
    """
    a = c = ra = rc = t = 0.0
    count = 0
    ea = ec = g = 1.0
    last_dt = row = -1.0
    for i in range(first, last):
        dt = time[i] - t if count > 0 else 0.0
        if dt > 0.0:
            if ra == 0.0 and rc == 0.0:
                if dt != last_dt:
                    ea, ec, g = _transfer(ka, ke, dt)
                    last_dt = dt
                c = fma(a * ka, g, c * ec)
                a = a * ea
            else:
                a, c = propagate(a, c, ra, rc, ka, ke, dt)
        if count == 0 or dt > 0.0:
            count += 1
        t = time[i]
        into_depot, x, what = target[i] == DEPOT, amount[i], kind[i]
        if what == ADD:
            a += x if into_depot else 0.0
            c += 0.0 if into_depot else x
        elif what == RATE:
            ra += x if into_depot else 0.0
            rc += 0.0 if into_depot else x
        elif what == STEADY:
            a, c, ra, rc = steady_state(target[i], steady[int(x)], ka, ke)
        elif what == SUPERPOSE:
            a1, c1, ra1, rc1 = steady_state(target[i], steady[int(x)], ka, ke)
            a, c, ra, rc = a + a1, c + c1, ra + ra1, rc + rc1
        elif what == REPLACE:
            a, c = (x if into_depot else a), (c if into_depot else x)
        elif what == MULTIPLY:
            a, c = (a * x if into_depot else a), (c if into_depot else c * x)
        elif what == SET:
            row, last_dt = x, -1.0
            ka, ke = set_ka[int(x)], set_ke[int(x)]
        elif what == RESET:
            a = c = ra = rc = 0.0
        else:
            a = c = np.nan
        k = count - 1
        knots[0, k], knots[1, k], knots[2, k], knots[3, k], knots[4, k] = t, a, c, ra, rc
        knots[5, k], knots[6, k], knots[7, k] = ka, ke, row
    return count


@inlined
def _longest(offsets: I64) -> int:
    longest = 1
    for i in range(offsets.size - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return longest


@inlined
def _until(times: F64, j: int, limit: float, after: bool) -> int:
    """First index >= j whose time lies beyond `limit` (a sample at the limit comes before it unless `after`)."""
    while j < times.size and (times[j] < limit or (times[j] == limit and not after)):
        j += 1
    return j


@inlined
def _fill_plain(a: float, c: float, t: float, ka: float, ke: float, times: F64, depot: F64, central: F64) -> None:
    """Samples of a segment without inputs: a loop LLVM vectorises."""
    for j in range(times.size):
        ea, ec, g = _transfer(ka, ke, times[j] - t)
        depot[j] = a * ea
        central[j] = fma(a * ka, g, c * ec)


@kernel
def amounts(
    ka: F64, ke: F64, set_ka: F64, set_ke: F64, offsets: I64, time: F64, kind: I8, target: I32, amount: F64,
    steady: F64, times: F64, after: bool, out: F64,
) -> None:  # fmt: skip
    """Depot and central amounts at `times` (n, T), ascending, NaN last (left NaN); out (n, 2, T).

    A sample at the time of an action sees the state before it, or after it if `after`.
    """
    knots = np.empty((8, _longest(offsets)))
    for i in range(ka.size):
        count = walk(
            ka[i], ke[i], set_ka, set_ke, offsets[i], offsets[i + 1], time, kind, target, amount, steady, knots
        )
        samples = times[i]
        j = _until(samples, 0, knots[0, 0], after) if count > 0 else _until(samples, 0, np.inf, False)
        out[i, :, :j] = 0.0
        for k in range(count):
            j1 = _until(samples, j, knots[0, k + 1] if k + 1 < count else np.inf, after)
            t, a, c, ra, rc = knots[0, k], knots[1, k], knots[2, k], knots[3, k], knots[4, k]
            if ra == 0.0 and rc == 0.0:
                _fill_plain(a, c, t, knots[5, k], knots[6, k], samples[j:j1], out[i, 0, j:j1], out[i, 1, j:j1])
            else:
                for s in range(j, j1):
                    out[i, 0, s], out[i, 1, s] = propagate(a, c, ra, rc, knots[5, k], knots[6, k], samples[s] - t)
            j = j1
        out[i, :, j:] = np.nan


@inlined
def _passed(state: tuple[float, float, float, float], ka: float, ke: float, by: float, level: float, B: F64) -> Any:
    """Where between B[0] and B[2] hours after `state` the level is passed; B[1], B[3]: by x amount less level there."""
    a, c, ra, rc = state
    fine = 1e-14 * B[2]
    for k in range(100):
        s = probe(B, k, fine)
        if narrowed(B, s, propagate(a, c, ra, rc, ka, ke, s)[1] * by - level, fine):
            break
    return 0.5 * (B[0] + B[2])


@inlined
def _window(
    knots: F64,
    count: int,
    scale: float,
    set_scale: F64,
    lo: float,
    hi: float,
    level: float,
    seen: F64,
    place: int,
    B: F64,
) -> None:
    """Integral and the other statistics of scale x central amount over [lo, hi]; lo = hi gives the value there."""
    opened(seen, place)
    first = int(np.searchsorted(knots[0, :count], lo, side="right")) - 1
    if lo == hi and first >= 0 and knots[0, first] == hi:
        first -= 1
    if first < 0:
        before = (knots[0, 0] if count > 0 and knots[0, 0] < hi else hi) - lo
        node(seen, place, lo, 0.0)
        stretch(seen, place, before, 0.0, 0.0, level)
    value = 0.0
    for k in range(max(first, 0), count):
        t, a, c, ra, rc, ka, ke = (
            knots[0, k], knots[1, k], knots[2, k], knots[3, k], knots[4, k], knots[5, k], knots[6, k]
        )  # fmt: skip
        if t >= hi:
            break
        by = scale if knots[7, k] < 0.0 else set_scale[int(knots[7, k])]
        if lo > t:
            a, c = propagate(a, c, ra, rc, ka, ke, lo - t)
            t = lo
        stop = knots[0, k + 1] if (k + 1 < count and knots[0, k + 1] < hi) else hi
        length = stop - t
        seen[place] += area(a, c, ra, rc, ka, ke, length) * by
        at = time_of_extremum(a, c, ra, rc, ka, ke)
        last, x = 0.0, c * by
        if lo < hi:
            node(seen, place, t, x)
        for inner in range(2):
            s = length if inner == 1 else at
            if inner == 0 and not 0.0 < at < length:
                continue
            value = propagate(a, c, ra, rc, ka, ke, s)[1] * by
            node(seen, place, stop if inner == 1 else t + s, value)
            if crosses(x, value, level):
                bracket(B, last, x - level, s, value - level)
                parted(seen, place, s - last, _passed((a, c, ra, rc), ka, ke, by, level, B) - last, value > x)
            else:
                stretch(seen, place, s - last, x, value, level)
            last, x = s, value
        seen[place] = seen[place] if value == value else np.nan
    if lo == hi:
        alone(seen, place, hi, value)
    else:
        seen[place] /= hi - lo
    if np.isnan(seen[place]):
        nothing(seen, place)


@kernel
def windows(
    ka: F64, ke: F64, set_ka: F64, set_ke: F64, offsets: I64, time: F64, kind: I8, target: I32, amount: F64,
    steady: F64, scale: F64, set_scale: F64, start: F64, end: F64, level: float, out: F64,
) -> None:  # fmt: skip
    """Statistics of scale x central amount over [start, end] (n, K); out (n, K, 7) in the order of `statistics`.

    scale (n,), set_scale: its value after each change of the rates. An action at `end` is not seen; one at `start` is;
    zero width gives the value there. NaN bounds give NaN. level: of the times above and below, NaN for none.
    """
    knots, B, flat = np.empty((8, _longest(offsets))), np.empty(5), out.reshape(-1)
    for i in range(ka.size):
        count = walk(
            ka[i], ke[i], set_ka, set_ke, offsets[i], offsets[i + 1], time, kind, target, amount, steady, knots
        )
        for w in range(start.shape[1]):
            lo, hi = start[i, w], end[i, w]
            if lo <= hi:
                _window(knots, count, scale[i], set_scale, lo, hi, level, flat, (i * start.shape[1] + w) * COUNT, B)
            else:
                nothing(flat, (i * start.shape[1] + w) * COUNT)


@inlined
def _gradient_step(
    s: tuple[float, float, float, float, float], rc: float, ka: float, ke: float, dt: float
) -> tuple[float, float, float, float, float]:
    """Propagate (A_d, A_c, dA_d/dka, dA_c/dka, dA_c/dke); input rate into central only."""
    a, c, a_ka, c_ka, c_ke = s
    ea, ec, g = _transfer(ka, ke, dt)
    lo = ka if ka < ke else ke
    x = (ke - ka if ka < ke else ka - ke) * dt
    scale = -dt * dt * exp(-lo * dt)
    low, high = scale * phi2(x), scale * chi(x)
    g_ka = low if ka < ke else high
    g_ke = high if ka < ke else low
    c_ka1 = c_ka * ec + a_ka * ka * g + a * (g + ka * g_ka)
    c_ke1 = c_ke * ec - dt * c * ec + a * ka * g_ke
    c1 = fma(a * ka, g, c * ec)
    if rc != 0.0:
        c1 += rc * dt * phi1(ke * dt)
        c_ke1 -= rc * dt * dt * chi(ke * dt)
    return a * ea, c1, a_ka * ea - dt * a * ea, c_ka1, c_ke1


@inlined
def _gradient_cycle(
    s: tuple[float, float, float, float, float], target: int, row: F64, ka: float, ke: float, length: float
) -> tuple[float, float, float, float, float]:
    amount, interval, duration = row[0], row[1], row[2]
    if duration <= 0.0:
        a = s[0] + (amount if target == DEPOT else 0.0)
        c = s[1] + (amount if target == CENTRAL else 0.0)
        return _gradient_step((a, c, s[2], s[3], s[4]), 0.0, ka, ke, length)
    rate = amount / duration
    running = np.floor(duration / interval)
    rest = duration - running * interval
    first = rest if rest < length else length
    if first > 0.0:
        s = _gradient_step(s, rate * (running + 1.0), ka, ke, first)
    if length > rest:
        s = _gradient_step(s, rate * running, ka, ke, length - rest)
    return s


@inlined
def _gradient_steady(
    target: int, row: F64, ka: float, ke: float
) -> tuple[tuple[float, float, float, float, float], float]:
    """Periodic state with derivatives: x = M x + r, hence x' = (I - M)^-1 (M' x + r')."""
    interval, phase = row[1], row[3]
    start = _gradient_cycle((0.0, 0.0, 0.0, 0.0, 0.0), target, row, ka, ke, interval)
    a, c = _fixed_point(start[0], start[1], ka, ke, interval)
    moved = _gradient_cycle((a, c, 0.0, 0.0, 0.0), target, row, ka, ke, interval)
    a_ka, c_ka = _fixed_point(moved[2], moved[3], ka, ke, interval)
    _, c_ke = _fixed_point(0.0, moved[4], ka, ke, interval)
    s = (a, c, a_ka, c_ka, c_ke)
    rate = _cycle(a, c, target, row, ka, ke, phase)[3]
    return _gradient_cycle(s, target, row, ka, ke, phase), rate


@kernel
def concentration_gradient(
    ka: F64, cl: F64, v: F64, offsets: I64, time: F64, kind: I8, target: I32, amount: F64, steady: F64,
    times: F64, after: bool,
) -> tuple[F64, F64]:  # fmt: skip
    """C = A_c/V at `times` (n, T) with ke = cl/v, and its derivatives (n, 3, T) with respect to ka, cl, v.

    Natural scale: multiply by ka, cl, v for derivatives on the log scale. Inputs as in :func:`amounts`;
    infusions into the central compartment only (an infusion into the depot gives NaN).
    """
    n, m = times.shape
    value = np.full((n, m), np.nan)
    gradient = np.full((n, 3, m), np.nan)
    zero = (0.0, 0.0, 0.0, 0.0, 0.0)
    for i in range(n):
        ke = cl[i] / v[i]
        s, rc, t = zero, 0.0, -np.inf
        row, last = offsets[i], offsets[i + 1]
        for j in range(m):
            at = times[i, j]
            if at != at:
                break
            while row < last and (time[row] < at or (after and time[row] == at)):
                if time[row] > t and t > -np.inf:
                    s = _gradient_step(s, rc, ka[i], ke, time[row] - t)
                t = time[row]
                k, depot, x = kind[row], target[row] == DEPOT, amount[row]
                if k == ADD:
                    s = (s[0] + (x if depot else 0.0), s[1] + (0.0 if depot else x), s[2], s[3], s[4])
                elif k == RATE:
                    rc += np.nan if depot else x
                elif k == STEADY:
                    if depot and steady[int(x), 2] > 0.0:
                        s = (np.nan, np.nan, np.nan, np.nan, np.nan)
                    else:
                        s, rc = _gradient_steady(target[row], steady[int(x)], ka[i], ke)
                elif k == RESET:
                    s, rc = zero, 0.0
                else:
                    s = (np.nan, np.nan, np.nan, np.nan, np.nan)
                row += 1
            now = _gradient_step(s, rc, ka[i], ke, at - t) if t > -np.inf else zero
            value[i, j] = now[1] / v[i]
            gradient[i, 0, j] = now[3] / v[i]
            gradient[i, 1, j] = now[4] / (v[i] * v[i])
            gradient[i, 2, j] = -(now[1] + ke * now[4]) / (v[i] * v[i])
    return value, gradient
