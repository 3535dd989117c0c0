"""Cox's partial likelihood over replicates: Newton with halved steps, score residuals, test of proportional hazards.

Sources: Cox 1972; Efron, JASA 1977;72:557 and Breslow 1974 (ties); Lin & Wei, JASA 1989;84:1074 (robust variance from
score residuals); Grambsch & Therneau, Biometrika 1994;81:515 as the score test of beta + theta g(t) (the form of R's
survival 3). One pass over times from the last to the first; sums are added row by row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.survival import ascending, by_stratum, steps

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]

OK, NO_EVENTS, NOT_ESTIMABLE, MONOTONE, NOT_CONVERGED = 0, 1, 2, 3, 4
TOLERANCE = 1e-9
SINGULAR = 1e-11


@kernel
def cholesky(matrix: F64, out: F64) -> bool:
    """Lower factor; False where a pivot is lost to rounding."""
    n = matrix.shape[0]
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= out[i, k] * out[j, k]
            if i == j:
                if not total > SINGULAR * max(matrix[i, i], 1e-300):
                    return False
                out[i, i] = np.sqrt(total)
            else:
                out[i, j] = total / out[j, j]
    return True


@kernel
def solve(factor: F64, right: F64, out: F64) -> None:
    """Solution of (factor factor') out = right."""
    n = right.size
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * out[k]
        out[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = out[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * out[k]
        out[i] = total / factor[i, i]


@kernel
def inverse(factor: F64, out: F64) -> None:
    n = factor.shape[0]
    unit = np.zeros(n)
    column = np.zeros(n)
    for j in range(n):
        unit.fill(0.0)
        unit[j] = 1.0
        solve(factor, unit, column)
        for i in range(n):
            out[i, j] = column[i]


@kernel
def quadratic(matrix: F64, vector: F64) -> float:
    """vector' matrix^-1 vector, NaN where singular."""
    factor, found = np.zeros(matrix.shape), np.zeros(vector.size)
    if not cholesky(matrix, factor):
        return np.nan
    solve(factor, vector, found)
    total = 0.0
    for i in range(vector.size):
        total += found[i] * vector[i]
    return total


@inlined
def _add(s1: F64, s2: F64, x: F64, risk: float) -> None:
    for a in range(x.size):
        s1[a] += risk * x[a]
        for b in range(a + 1):
            s2[a, b] += risk * x[a] * x[b]


@kernel
def likelihood(stop: F64, start: F64, event: BOOL, stratum: I64, x: F64, risks: F64, g: F64, orders: I64,
               efron: bool, score: F64, information: F64) -> float:  # fmt: skip
    """Log partial likelihood; score (K, P) and information (2K - 1, P, P): sums weighted by g^0, g^1, g^2.

    orders (2, n): rows by stratum and time downwards, by `stop` and by `start`; start of size 0: all from the start;
    risks (2, M): exp(x beta) and x beta; g: value of the time function for each row. K = 1 ignores g.
    """
    p, powers, n = x.shape[1], score.shape[0], orders.shape[1]
    s1, s2, d1, d2, mean = np.zeros(p), np.zeros((p, p)), np.zeros(p), np.zeros((p, p)), np.zeros(p)
    score.fill(0.0)
    information.fill(0.0)
    total, i, e, s0 = 0.0, 0, 0, 0.0
    while i < n:
        first = orders[0, i]
        if i == 0 or stratum[first] != stratum[orders[0, i - 1]]:
            s0, e = 0.0, i
            s1.fill(0.0)
            s2.fill(0.0)
        now, own, d0, deaths = stop[first], stratum[first], 0.0, 0
        d1.fill(0.0)
        d2.fill(0.0)
        weight = g[first] if powers > 1 else 0.0
        while i < n and stop[orders[0, i]] == now and stratum[orders[0, i]] == own:
            row = orders[0, i]
            s0 += risks[0, row]
            _add(s1, s2, x[row], risks[0, row])
            if event[row]:
                deaths += 1
                d0 += risks[0, row]
                _add(d1, d2, x[row], risks[0, row])
                total += risks[1, row]
                for a in range(p):
                    score[0, a] += x[row, a]
                    if powers > 1:
                        score[1, a] += weight * x[row, a]
            i += 1
        if deaths == 0:
            continue
        while start.size > 0 and e < n and stratum[orders[1, e]] == own and start[orders[1, e]] >= now:
            row = orders[1, e]
            s0 -= risks[0, row]
            _add(s1, s2, x[row], -risks[0, row])
            e += 1
        for tie in range(deaths):
            share = tie / deaths if efron else 0.0
            bottom = s0 - share * d0
            total -= log(bottom)
            for a in range(p):
                mean[a] = (s1[a] - share * d1[a]) / bottom
                score[0, a] -= mean[a]
                if powers > 1:
                    score[1, a] -= weight * mean[a]
                for b in range(a + 1):
                    v = (s2[a, b] - share * d2[a, b]) / bottom - mean[a] * mean[b]
                    information[0, a, b] += v
                    if powers > 1:
                        information[1, a, b] += weight * v
                        information[2, a, b] += weight * weight * v
    for k in range(information.shape[0]):
        for a in range(p):
            for b in range(a):
                information[k, b, a] = information[k, a, b]
    return total


@kernel
def predictor(x: F64, beta: F64, risks: F64) -> bool:
    """risks (2, M): exp(x beta) and x beta; False if one would overflow."""
    for i in range(x.shape[0]):
        total = 0.0
        for a in range(beta.size):
            total += x[i, a] * beta[a]
        if not abs(total) < 200.0:
            return False
        risks[1, i] = total
        risks[0, i] = exp(total)
    return True


@kernel
def newton(stop: F64, start: F64, event: BOOL, stratum: I64, x: F64, orders: I64, efron: bool, most: int,
           beta: F64, variance: F64, tests: F64) -> tuple[int, int]:  # fmt: skip
    """Maximum of the partial likelihood: beta (P,) and variance (P, P); (status, iterations).

    tests (5,): log-likelihood at 0 and at the maximum, chi-squares of score, Wald and likelihood ratio.
    """
    p = beta.size
    risks, none, factor, step = np.zeros((2, x.shape[0])), np.empty(0), np.zeros((p, p)), np.zeros(p)
    score, information, new = np.zeros((1, p)), np.zeros((1, p, p)), np.zeros(p)
    for a in range(p):
        beta[a] = 0.0
    predictor(x, beta, risks)
    current = likelihood(stop, start, event, stratum, x, risks, none, orders, efron, score, information)
    tests[0] = current
    tests[2] = quadratic(information[0], score[0])
    if not cholesky(information[0], factor):
        return NOT_ESTIMABLE, 0
    status, used = NOT_CONVERGED, most
    for iteration in range(1, most + 1):
        if not cholesky(information[0], factor):
            status, used = MONOTONE, iteration
            break
        solve(factor, score[0], step)
        found = -np.inf
        for _ in range(30):
            for a in range(p):
                new[a] = beta[a] + step[a]
            if predictor(x, new, risks):
                found = likelihood(stop, start, event, stratum, x, risks, none, orders, efron, score, information)
            if found >= current - 1e-12 * abs(current):
                break
            found = -np.inf
            for a in range(p):
                step[a] *= 0.5
        if found == -np.inf:
            status, used = MONOTONE, iteration
            break
        for a in range(p):
            beta[a] = new[a]
        near = abs(found - current) <= TOLERANCE * abs(found)
        current = found
        if near:
            status, used = OK, iteration
            break
    tests[1], tests[4] = current, 2.0 * (current - tests[0])
    if not cholesky(information[0], factor):
        return (MONOTONE if status == OK else status), used
    inverse(factor, variance)
    solve(factor, score[0], step)
    for a in range(p):  # a likelihood flat along an ever larger coefficient, as R's coxph tells it
        if status == OK and abs(step[a]) > TOLERANCE and abs(step[a]) > 3.16e-5 * abs(beta[a]):
            status = MONOTONE
    tests[3] = 0.0
    for a in range(p):
        for b in range(p):
            tests[3] += beta[a] * information[0, a, b] * beta[b]
    return status, used


@kernel
def arranged(stop: F64, start: F64, stratum: I64, levels: int) -> I64:
    """Rows by stratum and time downwards, (2, n): by `stop`, and by `start` (the same again if size 0)."""
    first = by_stratum(ascending(-stop), stratum, levels)
    out = np.empty((2, first.size), dtype=np.int64)
    second = by_stratum(ascending(-start), stratum, levels) if start.size > 0 else first
    for i in range(first.size):
        out[0, i], out[1, i] = first[i], second[i]
    return out


@kernel
def centred(x: F64, stratum: I64, out: F64) -> None:
    """Covariates less their mean over the rows in the analysis, 0 elsewhere."""
    n, p = x.shape
    for a in range(p):
        total, count = 0.0, 0.0
        for i in range(n):
            if stratum[i] >= 0:
                total += x[i, a]
                count += 1.0
        for i in range(n):
            out[i, a] = x[i, a] - total / count if stratum[i] >= 0 else 0.0


@kernel
def residuals(stop: F64, start: F64, event: BOOL, stratum: I64, x: F64, beta: F64, orders: I64, efron: bool,
              out: F64) -> None:  # fmt: skip
    """Score residuals (n, P) at beta: each row's part of the score."""
    n, p = orders.shape[1], x.shape[1]
    risks = np.zeros((2, x.shape[0]))
    predictor(x, beta, risks)
    out.fill(0.0)
    s1, d1, mean = np.zeros(p), np.zeros(p), np.zeros(p)
    i, e, s0, begin = 0, 0, 0.0, 0
    while i < n:
        own = stratum[orders[0, i]]
        if i == 0 or own != stratum[orders[0, i - 1]]:
            s0, e, begin = 0.0, i, i
            s1.fill(0.0)
        now, d0, deaths, tied = stop[orders[0, i]], 0.0, 0, i
        d1.fill(0.0)
        while i < n and stop[orders[0, i]] == now and stratum[orders[0, i]] == own:
            row = orders[0, i]
            risk = risks[0, row]
            s0 += risk
            for a in range(p):
                s1[a] += risk * x[row, a]
            if event[row]:
                deaths += 1
                d0 += risk
                for a in range(p):
                    d1[a] += risk * x[row, a]
            i += 1
        if deaths == 0:
            continue
        while start.size > 0 and e < n and stratum[orders[1, e]] == own and start[orders[1, e]] >= now:
            row = orders[1, e]
            s0 -= risks[0, row]
            for a in range(p):
                s1[a] -= risks[0, row] * x[row, a]
            e += 1
        for tie in range(deaths):
            share = tie / deaths if efron else 0.0
            bottom = s0 - share * d0
            for a in range(p):
                mean[a] = (s1[a] - share * d1[a]) / bottom
            for j in range(begin, i):
                row = orders[0, j]
                if start.size > 0 and start[row] >= now:
                    continue
                died = j >= tied and event[row]
                hazard = risks[0, row] / bottom * (1.0 - share if died else 1.0)
                for a in range(p):
                    out[row, a] += ((1.0 / deaths if died else 0.0) - hazard) * (x[row, a] - mean[a])


@kernel
def sandwich(score: F64, cluster: I64, variance: F64, out: F64) -> None:
    """variance (sum over clusters of score score') variance; cluster codes 0, 1, ..., -1 left out."""
    n, p = score.shape
    groups = 0
    for i in range(n):
        groups = max(groups, cluster[i] + 1)
    total, middle, half = np.zeros((groups, p)), np.zeros((p, p)), np.zeros((p, p))
    for i in range(n):
        if cluster[i] >= 0:
            for a in range(p):
                total[cluster[i], a] += score[i, a]
    for c in range(groups):
        for a in range(p):
            for b in range(p):
                middle[a, b] += total[c, a] * total[c, b]
    for a in range(p):
        for b in range(p):
            for k in range(p):
                half[a, b] += variance[a, k] * middle[k, b]
    out.fill(0.0)
    for a in range(p):
        for b in range(p):
            for k in range(p):
                out[a, b] += half[a, k] * variance[k, b]


@kernel
def fit_all(stop: F64, start: F64, event: BOOL, stratum: I64, levels: int, x: F64, cluster: I64, efron: bool,
            most: int, beta: F64, variance: F64, robust: F64, tests: F64, counts: I64) -> None:  # fmt: skip
    """Arrays (R, N), x (R, N, P); start (R, 0): everybody from the start; cluster (R, 0): no robust variance.

    Fills beta (R, P), variance and robust (R, P, P), tests (R, 5), counts (R, 4): rows, events, status, iterations.
    """
    p = x.shape[2]
    centre, score = np.empty((x.shape[1], p)), np.empty((x.shape[1], p))
    for r in range(stop.shape[0]):
        orders = arranged(stop[r], start[r], stratum[r], levels)
        events = 0
        for i in orders[0]:
            events += 1 if event[r, i] else 0
        counts[r, 0], counts[r, 1], counts[r, 2] = orders.shape[1], events, NO_EVENTS
        if events == 0:
            continue
        centred(x[r], stratum[r], centre)
        status, used = newton(stop[r], start[r], event[r], stratum[r], centre, orders, efron, most,
                              beta[r], variance[r], tests[r])  # fmt: skip
        counts[r, 2], counts[r, 3] = status, used
        if cluster.shape[1] > 0 and status == OK:
            residuals(stop[r], start[r], event[r], stratum[r], centre, beta[r], orders, efron, score)
            sandwich(score, cluster[r], variance[r], robust[r])


@kernel
def time_function(stop: F64, start: F64, event: BOOL, stratum: I64, how: int, g: F64) -> None:
    """g(t) of each row less its mean over events: 0 identity, 1 log, 2 one minus Kaplan-Meier just before t."""
    n = stop.size
    group = np.minimum(stratum, 0)
    if how == 2:
        curve = np.empty((5, n))
        order = by_stratum(ascending(stop), group, 1)
        columns = steps(stop, event, group, order, 0, start, curve)
        for i in range(n):
            g[i] = 0.0
            for m in range(columns):
                if curve[0, m] >= stop[i]:
                    break
                g[i] = 1.0 - curve[3, m]
    else:
        for i in range(n):
            g[i] = log(stop[i]) if how == 1 and stop[i] > 0.0 else stop[i]
    total, count = 0.0, 0.0
    for i in range(n):
        if event[i] and stratum[i] >= 0:
            total += g[i]
            count += 1.0
    for i in range(n):
        g[i] -= total / count if count > 0.0 else 0.0


@kernel
def proportional_all(stop: F64, start: F64, event: BOOL, stratum: I64, levels: int, x: F64, efron: bool, how: int,
                     beta: F64, status: I64, chi: F64) -> None:  # fmt: skip
    """chi (R, P + 1): score tests of beta + theta g(t), one covariate at a time and all of them, at the fitted beta."""
    p = x.shape[2]
    centre, risks, g = np.empty((x.shape[1], p)), np.zeros((2, x.shape[1])), np.empty(x.shape[1])
    score, information = np.empty((2, p)), np.empty((3, p, p))
    for r in range(stop.shape[0]):
        if status[r] != OK:
            continue
        orders = arranged(stop[r], start[r], stratum[r], levels)
        centred(x[r], stratum[r], centre)
        predictor(centre, beta[r], risks)
        time_function(stop[r], start[r], event[r], stratum[r], how, g)
        likelihood(stop[r], start[r], event[r], stratum[r], centre, risks, g, orders, efron, score, information)
        for a in range(p + 1):
            chi[r, a] = _added(score, information, 0 if a == p else a, p if a == p else a + 1)


@kernel
def _added(score: F64, information: F64, first: int, last: int) -> float:
    """Score test of the added effects first ... last - 1, all P fitted ones adjusted for."""
    p = score.shape[1]
    whole, right = np.zeros((p + last - first, p + last - first)), np.zeros(p + last - first)
    for a in range(p + last - first):
        own = a if a < p else first + a - p
        if a >= p:
            right[a] = score[1, own]
        for b in range(p + last - first):
            other = b if b < p else first + b - p
            whole[a, b] = information[(1 if a >= p else 0) + (1 if b >= p else 0), own, other]
    return quadratic(whole, right)


@kernel
def pieces_all(time: F64, event: BOOL, stratum: I64, x: F64, cuts: F64, most: int, beta: F64, variance: F64,
               rates: F64, counts: I64) -> None:  # fmt: skip
    """Hazard constant between `cuts` (J - 1,) times exp(x beta); rates (R, J) at x = 0; the rest as `fit_all`.

    The rates are profiled out: the score is that of a partial likelihood with one risk set for each piece, weighted by
    time at risk.
    """
    p = x.shape[2]
    for r in range(time.shape[0]):
        status, used = NOT_CONVERGED, most
        current = -np.inf
        b, score, information = beta[r], np.zeros(p), np.zeros((p, p))
        b.fill(0.0)
        step, factor = np.zeros(p), np.zeros((p, p))
        new = np.zeros(p)
        for iteration in range(most + 1):
            found = _pieces(time[r], event[r], stratum[r], x[r], cuts, new, score, information, rates[r], counts[r])
            if counts[r, 1] == 0:
                status = NO_EVENTS
                break
            if not found >= current - 1e-12 * abs(current):
                for a in range(p):
                    step[a] *= 0.5
                    new[a] = b[a] + step[a]
                continue
            near = found - current <= TOLERANCE * abs(found)
            current = found
            for a in range(p):
                b[a] = new[a]
            if p > 0 and not cholesky(information, factor):
                status, used = (MONOTONE if iteration else NOT_ESTIMABLE), iteration
                break
            solve(factor, score, step)
            if near or p == 0:
                status, used = OK, iteration
                break
            for a in range(p):
                new[a] = b[a] + step[a]
        if status == OK:
            inverse(factor, variance[r])
            for a in range(p):
                if abs(step[a]) > TOLERANCE and abs(step[a]) > 3.16e-5 * abs(b[a]):
                    status = MONOTONE
        counts[r, 2], counts[r, 3] = status, used


@kernel
def _pieces(time: F64, event: BOOL, stratum: I64, x: F64, cuts: F64, beta: F64, score: F64, information: F64,
            rates: F64, counts: I64) -> float:  # fmt: skip
    """Profile log-likelihood at beta with score and information; rates by piece, counts of rows and events."""
    p, j_all = x.shape[1], cuts.size + 1
    s1, s2 = np.zeros(p), np.zeros((p, p))
    score.fill(0.0)
    information.fill(0.0)
    total, rows, events = 0.0, 0, 0
    for j in range(j_all):
        low = cuts[j - 1] if j > 0 else 0.0
        high = cuts[j] if j < cuts.size else np.inf
        s0, deaths = 0.0, 0.0
        s1.fill(0.0)
        s2.fill(0.0)
        for i in range(time.size):
            if stratum[i] < 0:
                continue
            rows += 1 if j == 0 else 0
            if not time[i] > low:
                continue
            eta = 0.0
            for a in range(p):
                eta += x[i, a] * beta[a]
            weight = exp(min(eta, 300.0)) * (min(time[i], high) - low)
            s0 += weight
            _add(s1, s2, x[i], weight)
            if event[i] and time[i] <= high:
                deaths += 1.0
                total += eta
                for a in range(p):
                    score[a] += x[i, a]
        rates[j] = deaths / s0 if s0 > 0.0 else np.nan
        events += int(deaths)
        if deaths > 0.0:
            total += deaths * (log(deaths / s0) - 1.0)
            for a in range(p):
                score[a] -= deaths * s1[a] / s0
                for b in range(a + 1):
                    v = deaths * (s2[a, b] / s0 - s1[a] * s1[b] / (s0 * s0))
                    information[a, b] += v
                    if a != b:
                        information[b, a] += v
    counts[0], counts[1] = rows, events
    return total
