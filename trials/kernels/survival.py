"""Log-rank family and Kaplan-Meier over replicates: loops over sorted times, no BLAS, the same bits on every machine.

Sources: Fleming & Harrington, Counting Processes and Survival Analysis, 1991 (weights S(t-)^rho (1 - S(t-))^gamma,
hypergeometric variance); Greenwood 1926; Brookmeyer & Crowley, Biometrics 1982;38:29; Irwin 1949 (variance of the
restricted mean); Aalen's variance of the cumulative incidence as in Marubini & Valsecchi 1995.
Rows whose stratum is -1 are in no analysis. An event comes before a censoring at the same time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log, power
from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.probability import normal_cdf

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]

PLAIN, LOG, LOG_LOG = 0, 1, 2


@kernel
def ascending(x: F64) -> I64:
    """Places of x in rising order, ties in the order they come: a merge sort."""
    n, width = x.size, 1
    order, other = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for i in range(n):
        order[i] = i
    while width < n:
        for low in range(0, n, 2 * width):
            middle, high = min(low + width, n), min(low + 2 * width, n)
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or x[order[i]] <= x[order[j]]):
                    other[k] = order[i]
                    i += 1
                else:
                    other[k] = order[j]
                    j += 1
        order, other = other, order
        width *= 2
    return order


@kernel
def by_stratum(order: I64, stratum: I64, levels: int) -> I64:
    """The rows of `order` stratum by stratum, those of stratum -1 left out; the order within a stratum stays."""
    start = np.zeros(levels + 1, dtype=np.int64)
    for i in range(stratum.size):
        if stratum[i] >= 0:
            start[stratum[i] + 1] += 1
    for s in range(levels):
        start[s + 1] += start[s]
    out = np.empty(start[levels], dtype=np.int64)
    for i in order:
        s = stratum[i]
        if s >= 0:
            out[start[s]] = i
            start[s] += 1
    return out


@kernel
def chi_square_tail(x: float, df: int) -> float:
    """P(X > x) of chi-square with whole df: the finite sums of Abramowitz & Stegun 26.4.4 and 26.4.5."""
    if x != x or df < 1:
        return np.nan
    if x <= 0.0:
        return 1.0
    half = 0.5 * x
    if df % 2 == 0:
        term = exp(-half)
        total = term
        for j in range(1, df // 2):
            term *= half / j
            total += term
        return min(1.0, total)
    total = 2.0 * normal_cdf(-np.sqrt(x))
    term = exp(-half) * np.sqrt(x) * 0.79788456080286535588
    for j in range(1, (df + 1) // 2):
        total += term
        term *= x / (2.0 * j + 1.0)
    return min(1.0, total)


@inlined
def _weight(survival: float, rho: float, gamma: float) -> float:
    value = 1.0
    if rho != 0.0:
        value *= survival if rho == 1.0 else power(survival, rho)
    if gamma != 0.0:
        gone = 1.0 - survival
        value *= gone if gamma == 1.0 else (power(gone, gamma) if gone > 0.0 else 0.0)
    return value


@kernel
def logrank(time: F64, event: BOOL, group: I64, stratum: I64, order: I64, weights: F64,
            excess: F64, covariance: F64, plain: F64) -> None:  # fmt: skip
    """Weighted O - E by group and its covariance, strata added up; all come as zeros.

    order: rows by stratum, then time; group -1 is left out; weights (W, 2) of rho and gamma; excess (W, G);
    covariance (W, W, G, G) between weights and groups; plain (W, G): sum of weight x variance (one-step estimates).
    """
    count, groups = weights.shape[0], excess.shape[1]
    at_risk, died, gone = np.empty(groups), np.empty(groups), np.empty(groups)
    weight = np.empty(count)
    i = 0
    while i < order.size:
        s, end = stratum[order[i]], i
        at_risk.fill(0.0)
        while end < order.size and stratum[order[end]] == s:
            if group[order[end]] >= 0:
                at_risk[group[order[end]]] += 1.0
            end += 1
        total, survival = at_risk.sum(), 1.0
        while i < end:
            now, deaths = time[order[i]], 0.0
            died.fill(0.0)
            gone.fill(0.0)
            while i < end and time[order[i]] == now:
                g = group[order[i]]
                if g >= 0:
                    gone[g] += 1.0
                    if event[order[i]]:
                        died[g] += 1.0
                        deaths += 1.0
                i += 1
            if deaths > 0.0:
                for w in range(count):
                    weight[w] = _weight(survival, weights[w, 0], weights[w, 1])
                spread = deaths * (total - deaths) / (total - 1.0) if total > 1.0 else 0.0
                for a in range(groups):
                    share = at_risk[a] / total
                    for w in range(count):
                        excess[w, a] += weight[w] * (died[a] - deaths * share)
                        plain[w, a] += weight[w] * spread * share * (1.0 - share)
                    for b in range(groups):
                        v = spread * share * ((1.0 if a == b else 0.0) - at_risk[b] / total)
                        for w in range(count):
                            for u in range(count):
                                covariance[w, u, a, b] += weight[w] * weight[u] * v
                survival *= 1.0 - deaths / total
            for a in range(groups):
                at_risk[a] -= gone[a]
                total -= gone[a]


@kernel
def logrank_pairs(time: F64, event: BOOL, arm: I64, stratum: I64, levels: int, weights: F64,
                  excess: F64, covariance: F64, plain: F64) -> None:  # fmt: skip
    """Every arm j + 1 against arm 0 alone: arrays (R, N); excess and plain (R, k, W), covariance (R, k, W, W)."""
    count, k = weights.shape[0], excess.shape[1]
    group = np.empty(time.shape[1], dtype=np.int64)
    e, c, p = np.empty((count, 2)), np.empty((count, count, 2, 2)), np.empty((count, 2))
    for r in range(time.shape[0]):
        order = by_stratum(ascending(time[r]), stratum[r], levels)
        for j in range(k):
            for i in range(group.size):
                group[i] = 0 if arm[r, i] == 0 else (1 if arm[r, i] == j + 1 else -1)
            e.fill(0.0)
            c.fill(0.0)
            p.fill(0.0)
            logrank(time[r], event[r], group, stratum[r], order, weights, e, c, p)
            for w in range(count):
                excess[r, j, w], plain[r, j, w] = e[w, 1], p[w, 1]
                for u in range(count):
                    covariance[r, j, w, u] = c[w, u, 1, 1]


@kernel
def transformed(survival: float, variance: float, z: float, how: int) -> tuple[float, float]:
    """Interval of S from Greenwood's sum `variance` = Var(log S), on the scale of S, log S or log(-log S)."""
    if survival <= 0.0 or variance != variance:
        return np.nan, np.nan
    se = np.sqrt(variance)
    if how == PLAIN:
        return max(0.0, survival - z * se * survival), min(1.0, survival + z * se * survival)
    if how == LOG:
        return survival * exp(-z * se), min(1.0, survival * exp(z * se))
    if survival >= 1.0:
        return 1.0, 1.0
    down = log(survival)
    half = z * se / -down
    return exp(down * exp(half)), exp(down * exp(-half))


@kernel
def steps(time: F64, event: BOOL, arm: I64, order: I64, code: int, entry: F64, curve: F64) -> int:
    """The curve of one arm: rows of `curve` (5, n) are time, at risk, events, survival, Greenwood's sum.

    One column for each time at which somebody has an event or leaves; returns how many. entry (0,): all from the start.
    """
    n, left = 0, 0.0
    for i in order:
        left += 1.0 if arm[i] == code else 0.0
    survival, variance, i = 1.0, 0.0, 0
    while i < order.size:
        now, died, gone = time[order[i]], 0.0, 0.0
        while i < order.size and time[order[i]] == now:
            if arm[order[i]] == code:
                gone += 1.0
                died += 1.0 if event[order[i]] else 0.0
            i += 1
        if gone == 0.0:
            continue
        at_risk = left
        for j in range(entry.size):
            at_risk -= 1.0 if arm[j] == code and entry[j] >= now else 0.0
        if died > 0.0:
            variance = variance + died / (at_risk * (at_risk - died)) if at_risk > died else np.inf
            survival *= 1.0 - died / at_risk
        curve[0, n], curve[1, n], curve[2, n], curve[3, n], curve[4, n] = now, at_risk, died, survival, variance
        left -= gone
        n += 1
    return n


@inlined
def _last_before(curve: F64, n: int, when: float) -> int:
    """The last column with time <= when, -1 before the first."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if curve[0, middle] <= when:
            low = middle + 1
        else:
            high = middle
    return low - 1


@inlined
def milestone(curve: F64, n: int, when: float) -> tuple[float, float, float]:
    """Survival, Greenwood's sum and number at risk at a time; NaN past the last time unless everybody has died."""
    at = _last_before(curve, n, when)
    if n == 0:
        return np.nan, np.nan, 0.0
    if at < 0:
        return 1.0, 0.0, curve[1, 0]
    survival, variance = curve[3, at], curve[4, at]
    if curve[0, at] == when:
        return survival, variance, curve[1, at]
    if at == n - 1:
        return (0.0, np.inf, 0.0) if survival == 0.0 else (np.nan, np.nan, 0.0)
    return survival, variance, curve[1, at + 1]


@kernel
def restricted_mean(curve: F64, n: int, tau: float) -> tuple[float, float]:
    """Area under the curve up to tau and its variance; NaN where follow-up ends before tau with survivors."""
    if n == 0 or (curve[0, n - 1] < tau and curve[3, n - 1] > 0.0):
        return np.nan, np.nan
    area, variance, right = 0.0, 0.0, tau
    last = _last_before(curve, n, tau)
    for m in range(last, -1, -1):  # from the right: the area still to come weighs each jump
        area += curve[3, m] * (right - curve[0, m])
        right = curve[0, m]
        died, at_risk = curve[2, m], curve[1, m]
        if died > 0.0 and at_risk > died:
            variance += area * area * died / (at_risk * (at_risk - died))
    return area + right, variance


@kernel
def crossing(curve: F64, n: int, share: float, band: int, z: float, how: int) -> float:
    """First time at which the curve (band 0) or its lower (-1) or upper (1) limit is at or below `share`.

    Where it lies exactly at `share`: the middle of that stretch, as R does. Infinite if it never gets there.
    """
    for m in range(n):
        value = curve[3, m]
        if band != 0:
            limits = transformed(value, curve[4, m], z, how)
            value = limits[0] if band < 0 else limits[1]
            if curve[3, m] <= 0.0:
                value = np.nan  # no interval at 0: the limits are NaN from here on, as in R
        if value != value:
            return np.inf
        if abs(value - share) < 1.5e-8:
            for later in range(m + 1, n):
                if curve[2, later] > 0.0:
                    return float(0.5 * (curve[0, m] + curve[0, later]))
            return float(curve[0, m])
        if value < share:
            return float(curve[0, m])
    return np.inf


@kernel
def kaplan_meier(time: F64, event: BOOL, arm: I64, at: F64, tau: float, share: float, z: float, how: int,
                 survival: F64, variance: F64, lower: F64, upper: F64, at_risk: F64, mean: F64, quantile: F64,
                 counts: I64) -> None:  # fmt: skip
    """Arrays (R, N), arm -1 left out; at (T,). Fills survival ... at_risk (R, A, T), mean (R, A, 2) area and variance
    up to tau, quantile (R, A, 3) of `share` with limits, counts (R, A, 2) subjects and events.
    """
    arms, none = survival.shape[1], np.empty(0)
    for r in range(time.shape[0]):
        order = by_stratum(ascending(time[r]), np.minimum(arm[r], 0), 1)
        curve = np.empty((5, order.size))
        for a in range(arms):
            n = steps(time[r], event[r], arm[r], order, a, none, curve)
            for t in range(at.size):
                s, v, y = milestone(curve, n, at[t])
                survival[r, a, t], variance[r, a, t], at_risk[r, a, t] = s, v, y
                lower[r, a, t], upper[r, a, t] = transformed(s, v, z, how)
            mean[r, a, 0], mean[r, a, 1] = restricted_mean(curve, n, tau)
            for b in range(3):
                quantile[r, a, b] = crossing(curve, n, share, (0, -1, 1)[b], z, how)
            counts[r, a, 0] = 0 if n == 0 else np.int64(curve[1, 0])
            counts[r, a, 1] = np.int64(curve[2, :n].sum())


@kernel
def incidence(time: F64, cause: I64, arm: I64, order: I64, code: int, which: int, at: F64, out: F64) -> None:
    """Aalen-Johansen of cause `which` (1, 2, ...; 0 censored) in one arm: out (T, 2) value and variance.

    NaN past the last time if somebody was still at risk then.
    """
    m, left = 0, 0.0
    jumps = np.empty((5, order.size))  # time, at risk, events of the cause, all events, survival before
    for i in order:
        left += 1.0 if arm[i] == code else 0.0
    survival, i, last = 1.0, 0, -np.inf
    while i < order.size:
        now, mine, every, gone = time[order[i]], 0.0, 0.0, 0.0
        while i < order.size and time[order[i]] == now:
            if arm[order[i]] == code:
                gone += 1.0
                every += 1.0 if cause[order[i]] > 0 else 0.0
                mine += 1.0 if cause[order[i]] == which else 0.0
            i += 1
        if gone > 0.0:
            last = now
        if every > 0.0:
            jumps[0, m], jumps[1, m], jumps[2, m], jumps[3, m], jumps[4, m] = now, left, mine, every, survival
            survival *= 1.0 - every / left
            m += 1
        left -= gone
    for t in range(at.size):
        out[t, 0], out[t, 1] = _incidence_at(jumps, m, at[t])
        if at[t] > last and survival > 0.0:
            out[t, 0], out[t, 1] = np.nan, np.nan


@inlined
def _incidence_at(jumps: F64, m: int, when: float) -> tuple[float, float]:
    value, variance = 0.0, 0.0
    for j in range(m):
        if jumps[0, j] <= when:
            value += jumps[4, j] * jumps[2, j] / jumps[1, j]
    so_far = 0.0
    for j in range(m):
        if jumps[0, j] > when:
            break
        n, mine, every, before = jumps[1, j], jumps[2, j], jumps[3, j], jumps[4, j]
        so_far += before * mine / n
        rest = value - so_far
        if n > every:
            variance += rest * rest * every / (n * (n - every))
        variance += before * before * mine * (n - mine) / (n * n * n) - 2.0 * rest * before * mine / (n * n)
    return value, variance


@kernel
def incidences(time: F64, cause: I64, arm: I64, at: F64, z: float, out: F64) -> None:
    """Cumulative incidence of causes 1 ... C: out (R, A, C, T, 4) value, se, lower, upper (log(-log) scale)."""
    found = np.empty((at.size, 2))
    for r in range(time.shape[0]):
        order = by_stratum(ascending(time[r]), np.minimum(arm[r], 0), 1)
        for a in range(out.shape[1]):
            for c in range(out.shape[2]):
                incidence(time[r], cause[r], arm[r], order, a, c + 1, at, found)
                for t in range(at.size):
                    value, variance = found[t, 0], max(0.0, found[t, 1])
                    se = np.sqrt(variance) if value == value else np.nan
                    out[r, a, c, t, 0], out[r, a, c, t, 1] = value, se
                    out[r, a, c, t, 2], out[r, a, c, t, 3] = _incidence_limits(value, se, z)


@inlined
def _incidence_limits(value: float, se: float, z: float) -> tuple[float, float]:
    if not 0.0 < value < 1.0:
        return (np.nan, np.nan) if value != value or value == 0.0 else (value, value)
    down = log(value)
    half = z * se / (value * -down)
    return exp(down * exp(half)), exp(down * exp(-half))
