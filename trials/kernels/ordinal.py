"""Proportional odds by maximum likelihood and stratified rank-sum statistics, one replicate after another.

logit P(Y <= k) = zeta_k - eta (McCullagh, JRSS B 1980;42:109; the sign of MASS::polr: positive eta, higher categories).
The log likelihood is concave, so Newton's steps with halving find its maximum. Rank sums: van Elteren, Bull Int Stat
Inst 1960;37:351, with the variance for ties; win probability by placements (DeLong et al., Biometrics 1988;44:837).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import expit, log
from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.positive import backward, factored, forward, inverse
from trials.kernels.regression import NOT_CONVERGED, NOT_ESTIMABLE, OK, SEPARATED, chosen, design, estimable, usable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I8 = NDArray[np.int8]

ONE_CATEGORY = 46
_FAR = 14.0


@inlined
def _gap(low: float, high: float) -> float:
    """F(high) - F(low) of the logistic distribution without cancellation: both on the side where they are small."""
    if low > 0.0:
        return float(expit(-low) - expit(-high))
    return float(expit(high) - expit(low))


@kernel
def likelihood(
    columns: F64, used: I64, category: I64, cuts: int, at: F64, gradient: F64, gram: F64, deep: bool
) -> float:
    """Log likelihood at (zeta, beta), -inf outside; with `deep` its gradient and the observed information."""
    q, size = used.size, at.size
    total = 0.0
    if deep:
        gradient[:] = 0.0
        gram[:] = 0.0
    for c in range(1, cuts):
        if not at[c] > at[c - 1]:
            return -np.inf
    for n in range(category.size):
        c, eta = category[n], 0.0
        for a in range(q):
            eta += at[cuts + a] * columns[used[a], n]
        high = at[c] - eta if c < cuts else np.inf
        low = at[c - 1] - eta if c > 0 else -np.inf
        p = _gap(low, high)
        if not p > 1e-300:
            return -np.inf
        total += log(p)
        if not deep:
            continue
        up, down = expit(high), expit(low)
        fu, fl = up * (1.0 - up), down * (1.0 - down)
        gu, gl = fu / p, -fl / p
        uu, ll, ul = gu * gu - fu * (1.0 - 2.0 * up) / p, gl * gl + fl * (1.0 - 2.0 * down) / p, gu * gl
        if c < cuts:
            gradient[c] += gu
            gram[c, c] += uu
        if c > 0:
            gradient[c - 1] += gl
            gram[c - 1, c - 1] += ll
        if 0 < c < cuts:
            gram[c, c - 1] += ul
        for a in range(q):
            xa = columns[used[a], n]
            if xa == 0.0:
                continue
            gradient[cuts + a] -= (gu + gl) * xa
            if c < cuts:
                gram[cuts + a, c] -= (uu + ul) * xa
            if c > 0:
                gram[cuts + a, c - 1] -= (ll + ul) * xa
            for b in range(a + 1):
                gram[cuts + a, cuts + b] += (uu + 2.0 * ul + ll) * xa * columns[used[b], n]
    return total if size > 0 else -np.inf


@kernel
def maximised(columns: F64, used: I64, category: I64, cuts: int, at: F64, covariance: F64) -> int:
    """Newton from `at`, in place; covariance: the inverse of the observed information."""
    size = at.size
    gradient, gram, lower = np.zeros(size), np.zeros((size, size)), np.zeros((size, size))
    step, trial = np.empty(size), np.empty(size)
    for _ in range(80):
        value = likelihood(columns, used, category, cuts, at, gradient, gram, True)
        if not factored(gram, lower):
            break
        forward(lower, gradient, step)
        backward(lower, step, step)
        gained, largest = -np.inf, 0.0
        for _ in range(40):
            largest = 0.0
            for c in range(size):
                trial[c] = at[c] + step[c]
                largest = max(largest, abs(step[c]))
            gained = likelihood(columns, used, category, cuts, trial, gradient, gram, False)
            if gained >= value - 1e-10 * abs(value):
                break
            for c in range(size):
                step[c] *= 0.5
        for c in range(size):
            at[c] = trial[c]
        if largest < 1e-9:
            inverse(lower, covariance)
            return OK
    for c in range(size):
        if abs(at[c]) > _FAR:
            return SEPARATED
    return NOT_CONVERGED


@kernel
def proportional_odds(y: F64, more: F64, arm: I64, strata: I64, shape: I64, estimate: F64, variance: F64, count: I64,
                      categories: I64, status: I8) -> None:  # fmt: skip
    """y (R, N) ordered values; shape = (arms, strata levels). Out: estimate, variance (R, k), count (R, A), categories
    seen (R,), status (R,).
    """
    arms, levels = shape[0], shape[1]
    p = more.shape[1] + levels + arms - 1
    for r in range(y.shape[0]):
        rows = usable(y[r], y[r], more[r], arm[r], strata[r])
        for i in rows:
            count[r, arm[r, i]] += 1
        kept = np.zeros(p, dtype=np.bool_)
        columns = design(rows, more[r], arm[r], strata[r], arms, levels, kept)
        if not estimable(count[r], kept):
            status[r] = NOT_ESTIMABLE
            continue
        used = chosen(kept, 1)  # the cut points are the intercepts
        q = used.size
        values = np.empty(rows.size)
        for n in range(rows.size):
            values[n] = y[r, rows[n]]
        ordered = np.sort(values)
        category, cuts = np.zeros(rows.size, dtype=np.int64), 0
        at = np.zeros(rows.size + q)
        for n in range(1, ordered.size):
            if ordered[n] > ordered[n - 1]:
                at[cuts] = log(n / (ordered.size - n))  # its logit, where nothing has an effect
                cuts += 1
                for i in range(rows.size):
                    category[i] += 1 if values[i] >= ordered[n] else 0
        categories[r] = cuts + 1
        if cuts == 0:
            status[r] = ONE_CATEGORY
            continue
        for c in range(q):
            at[cuts + c] = 0.0
        covariance = np.empty((cuts + q, cuts + q))
        status[r] = maximised(columns, used, category, cuts, at[: cuts + q], covariance)
        if status[r] != OK:
            continue
        for k in range(arms - 1):
            place = cuts + q - arms + 1 + k
            estimate[r, k], variance[r, k] = at[place], covariance[place, place]


@kernel
def rank_sum(values: F64, treated: NDArray[np.bool_], order: I64, placements: F64) -> tuple[float, float, float]:
    """Rank sum of the treated with average ranks, sum of t^3 - t over ties, and their number; placements (n,): of a
    treated the share of controls below (ties half), of a control the share of treated above.
    """
    n, tied, total, m = order.size, 0.0, 0.0, 0
    for i in range(n):
        m += 1 if treated[i] else 0
    start, before_treated = 0, 0
    while start < n:
        end, here = start, 0
        while end < n and values[order[end]] == values[order[start]]:
            here += 1 if treated[order[end]] else 0
            end += 1
        size = end - start
        tied += size * (size * size - 1.0)
        total += here * (0.5 * (start + end + 1))
        for k in range(start, end):
            i = order[k]
            if treated[i]:
                placements[i] = ((start - before_treated) + 0.5 * (size - here)) / max(1, n - m)
            else:
                placements[i] = (m - before_treated - 0.5 * here) / max(1, m)
        before_treated += here
        start = end
    return total, tied, float(m)


@kernel
def rank_tests(y: F64, arm: I64, strata: I64, shape: I64, statistic: F64, variance: F64, win: F64, win_variance: F64,
               count: I64, status: I8) -> None:  # fmt: skip
    """Every arm against control: sum over strata of (W - E)/(n + 1) and its variance without an effect (R, k); the
    probability of a win (ties half), strata weighted by n1 n0/(n1 + n0), and its variance.
    """
    arms, levels = shape[0], shape[1]
    none = np.empty((0, y.shape[1]))
    for r in range(y.shape[0]):
        rows = usable(y[r], y[r], none, arm[r], strata[r])
        for i in rows:
            count[r, arm[r, i]] += 1
        for k in range(1, arms):
            weights = 0.0
            for s in range(levels):
                values, treated, n = np.empty(rows.size), np.zeros(rows.size, dtype=np.bool_), 0
                for i in rows:
                    if strata[r, i] == s and (arm[r, i] == 0 or arm[r, i] == k):
                        values[n], treated[n] = y[r, i], arm[r, i] == k
                        n += 1
                placements = np.empty(n)
                total, tied, m = rank_sum(values[:n], treated[:n], np.argsort(values[:n]), placements)
                others = n - m
                if m == 0.0 or others == 0.0:
                    continue
                statistic[r, k - 1] += (total - 0.5 * m * (n + 1.0)) / (n + 1.0)
                spread = m * others / 12.0 * (n + 1.0 - tied / (n * (n - 1.0)))
                variance[r, k - 1] += spread / ((n + 1.0) * (n + 1.0))
                weight = m * others / n
                weights += weight
                ahead = (total - 0.5 * m * (m + 1.0)) / (m * others)
                own, theirs = 0.0, 0.0
                for i in range(n):
                    gap = placements[i] - ahead
                    if treated[i]:
                        own += gap * gap
                    else:
                        theirs += gap * gap
                win[r, k - 1] += weight * ahead
                if m > 1.0 and others > 1.0:
                    deviation = own / (m - 1.0) / m + theirs / (others - 1.0) / others
                else:
                    deviation = np.nan
                win_variance[r, k - 1] += weight * weight * deviation
            if weights == 0.0:
                status[r, k - 1] = NOT_ESTIMABLE
                continue
            win[r, k - 1] /= weights
            win_variance[r, k - 1] /= weights * weights
            if not variance[r, k - 1] > 0.0:
                status[r, k - 1] = ONE_CATEGORY
