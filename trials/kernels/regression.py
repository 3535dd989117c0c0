"""Logistic, Poisson and negative binomial regression by Newton steps, one replicate after another.

Sources: McCullagh & Nelder, Generalized Linear Models, 2nd ed.; Venables & Ripley, Modern Applied Statistics with S,
7.4 (glm.nb: the coefficients and theta in turn until neither moves);
Ge et al., Drug Inf J 2011;45:481 and Ye et al., Stat Biopharm Res 2023;15:558 (marginal risks and their variances).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, expit, log
from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.least_squares import centred, orthogonalise
from trials.kernels.positive import backward, factored, forward, inverse

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I8 = NDArray[np.int8]
BOOL = NDArray[np.bool_]

LOGISTIC, LOG_LINEAR = 0, 1
OK, NOT_ESTIMABLE, SEPARATED, NOT_CONVERGED, UNDERDISPERSED = 0, 40, 41, 42, 43
_FAR = 12.0  # a linear predictor beyond this while the steps do not settle: the maximum is at infinity


@kernel
def usable(y: F64, offset: F64, more: F64, arm: I64, strata: I64) -> I64:
    """Subjects with an arm, a stratum and finite values."""
    rows, n = np.empty(y.size, dtype=np.int64), 0
    for i in range(y.size):
        whole = arm[i] >= 0 and strata[i] >= 0 and np.isfinite(y[i]) and np.isfinite(offset[i])
        for c in range(more.shape[0]):
            whole = whole and np.isfinite(more[c, i])
        if whole:
            rows[n] = i
            n += 1
    return rows[:n]


@kernel
def design(rows: I64, more: F64, arm: I64, strata: I64, arms: int, levels: int, kept: BOOL) -> F64:
    """Columns (p, n): intercept, centred covariates, strata, arms (last); `kept` (p,) those not aliased."""
    C = more.shape[0]
    columns = np.zeros((C + levels + arms - 1, rows.size))
    for c in range(C):
        centred(rows, more[c], columns[1 + c])
    for n in range(rows.size):
        i = rows[n]
        columns[0, n] = 1.0
        if strata[i] > 0:
            columns[C + strata[i], n] = 1.0
        if arm[i] > 0:
            columns[C + levels + arm[i] - 1, n] = 1.0
    work = columns.copy()
    orthogonalise(work, np.zeros((kept.size, kept.size)), kept)
    return columns


@kernel
def estimable(count: I64, kept: BOOL) -> bool:
    """Has every arm subjects, and a column that is not aliased? count (A,); arms are the last columns, but control."""
    whole = True
    for a in range(count.size):
        whole = whole and count[a] > 0 and (a == 0 or kept[kept.size - a])
    return whole


@kernel
def chosen(kept: BOOL, first: int) -> I64:
    """Numbers of the columns that are kept, from `first` on."""
    used, q = np.empty(kept.size, dtype=np.int64), 0
    for c in range(first, kept.size):
        if kept[c]:
            used[q] = c
            q += 1
    return used[:q]


@inlined
def _log_density(family: int, y: float, eta: float, theta: float) -> float:
    """Log likelihood up to what does not depend on eta."""
    if family == LOGISTIC:
        return y * eta - (eta if eta > 0.0 else 0.0) - log(1.0 + exp(-abs(eta)))
    mu = exp(eta)
    if theta == np.inf:
        return y * eta - mu
    return y * eta - (y + theta) * log(1.0 + mu / theta)


@inlined
def _terms(family: int, y: float, eta: float, theta: float) -> tuple[float, float, float, float]:
    """Score by eta, expected and observed information, mean."""
    if family == LOGISTIC:
        p = expit(eta)
        return y - p, p * (1.0 - p), p * (1.0 - p), p
    mu = exp(eta)
    if theta == np.inf:
        return y - mu, mu, mu, mu
    share = 1.0 / (1.0 + mu / theta)
    return (y - mu) * share, mu * share, mu * share * share * (1.0 + y / theta), mu


@kernel
def _eta(columns: F64, used: I64, offset: F64, beta: F64, eta: F64) -> float:
    """The linear predictor; returns the largest |eta - offset|."""
    far = 0.0
    for n in range(eta.size):
        value = 0.0
        for c in range(used.size):
            value += beta[c] * columns[used[c], n]
        far = max(far, abs(value))
        eta[n] = value + offset[n]
    return far


@kernel
def _information(family: int, columns: F64, used: I64, y: F64, eta: F64, theta: float, observed: bool, score: F64,
                 gram: F64) -> None:  # fmt: skip
    q = used.size
    score[:] = 0.0
    gram[:] = 0.0
    for n in range(y.size):
        r, expected, seen, _ = _terms(family, y[n], eta[n], theta)
        w = seen if observed else expected
        for a in range(q):
            xa = columns[used[a], n]
            if xa == 0.0:
                continue
            score[a] += r * xa
            for b in range(a + 1):
                gram[a, b] += w * xa * columns[used[b], n]
    for a in range(q):
        for b in range(a):
            gram[b, a] = gram[a, b]


@kernel
def newton(family: int, columns: F64, used: I64, y: F64, offset: F64, theta: float, beta: F64) -> int:
    """Maximise over beta (q,), in place, from where it is; scoring with halved steps."""
    q = used.size
    score, gram, lower, step, trial = np.empty(q), np.empty((q, q)), np.zeros((q, q)), np.empty(q), np.empty(q)
    eta, moved = np.empty(y.size), np.empty(y.size)
    far = _eta(columns, used, offset, beta, eta)
    value = 0.0
    for n in range(y.size):
        value += _log_density(family, y[n], eta[n], theta)
    for _ in range(60):
        _information(family, columns, used, y, eta, theta, False, score, gram)
        if not factored(gram, lower):
            return SEPARATED if far > _FAR else NOT_ESTIMABLE
        forward(lower, score, step)
        backward(lower, step, step)
        for _ in range(30):
            for c in range(q):
                trial[c] = beta[c] + step[c]
            far = _eta(columns, used, offset, trial, moved)
            gained = 0.0
            for n in range(y.size):
                gained += _log_density(family, y[n], moved[n], theta)
            if gained >= value - 1e-9 * abs(value):
                break
            for c in range(q):
                step[c] *= 0.5
        change = 0.0
        for n in range(y.size):
            change = max(change, abs(moved[n] - eta[n]))
        beta[:] = trial
        eta[:] = moved
        value = gained
        if change < 1e-9:
            return OK
    return SEPARATED if far > _FAR else NOT_CONVERGED


@kernel
def _theta_terms(y: F64, mu: F64, theta: float) -> tuple[float, float]:
    """Score of theta and its observed information; digammas of whole differences as sums."""
    score, information = 0.0, 0.0
    for n in range(y.size):
        for j in range(int(y[n])):
            score += 1.0 / (theta + j)
            information += 1.0 / ((theta + j) * (theta + j))
        all_ = theta + mu[n]
        score += -log(1.0 + mu[n] / theta) + (mu[n] - y[n]) / all_
        information += -1.0 / theta + 2.0 / all_ - (y[n] + theta) / (all_ * all_)
    return score, information


@kernel
def best_theta(y: F64, mu: F64, start: float) -> float:
    """The maximum over theta given the means: Newton on log theta inside a bracket; infinite where the counts vary no
    more than Poisson's.
    """
    extra = 0.0
    for n in range(y.size):
        extra += (y[n] - mu[n]) * (y[n] - mu[n]) - y[n]
    if not extra > 0.0:
        return np.inf
    low, high = log(1e-8), log(1e8)
    at = log(start)
    for _ in range(200):
        theta = exp(at)
        score, information = _theta_terms(y, mu, theta)
        slope, bend = theta * score, theta * score - theta * theta * information
        if slope > 0.0:
            low = at
        else:
            high = at
        new = at - slope / bend if bend < 0.0 else 0.5 * (low + high)
        if not low < new < high:
            new = 0.5 * (low + high)
        if abs(new - at) < 1e-12:
            break
        at = new
    return float(exp(new)) if new < log(1e7) else np.inf


@kernel
def negative_binomial(columns: F64, used: I64, y: F64, offset: F64, beta: F64) -> tuple[int, float]:
    """Coefficients and theta in turn, from the Poisson fit; returns the status and theta."""
    q = used.size
    code = newton(LOG_LINEAR, columns, used, y, offset, np.inf, beta)
    if code != OK:
        return code, np.nan
    eta, mu, before = np.empty(y.size), np.empty(y.size), np.empty(q)
    theta, last = 1.0, np.nan
    for _ in range(200):
        _eta(columns, used, offset, beta, eta)
        for n in range(y.size):
            mu[n] = exp(eta[n])
        theta = best_theta(y, mu, theta)
        if theta == np.inf:  # back to Poisson's coefficients
            code = newton(LOG_LINEAR, columns, used, y, offset, np.inf, beta)
            return (UNDERDISPERSED if code == OK else code), np.inf
        before[:] = beta
        code = newton(LOG_LINEAR, columns, used, y, offset, theta, beta)
        if code != OK:
            return code, np.nan
        change = 0.0
        for c in range(q):
            change = max(change, abs(beta[c] - before[c]))
        if change < 1e-9 and abs(theta - last) < 1e-8 * theta:
            return OK, theta
        last = theta
    return NOT_CONVERGED, np.nan


@kernel
def _with_theta(columns: F64, used: I64, y: F64, eta: F64, theta: float, gram: F64) -> F64:
    """Observed information of the coefficients and theta (last)."""
    q = used.size
    score, inner, joint = np.empty(q), np.empty((q, q)), np.zeros((q + 1, q + 1))
    _information(LOG_LINEAR, columns, used, y, eta, theta, True, score, inner)
    for a in range(q):
        for b in range(q):
            joint[a, b] = inner[a, b]
    mu = np.empty(y.size)
    for n in range(y.size):
        mu[n] = exp(eta[n])
        cross = (y[n] - mu[n]) * mu[n] / ((theta + mu[n]) * (theta + mu[n]))
        for a in range(q):
            joint[a, q] -= cross * columns[used[a], n]
    for a in range(q):
        joint[q, a] = joint[a, q]
    _, joint[q, q] = _theta_terms(y, mu, theta)
    return joint


@kernel
def _covariances(family: int, columns: F64, used: I64, y: F64, eta: F64, theta: float, q: int, model: F64, joint: F64,
                 robust: F64) -> float:  # fmt: skip
    """Inverse expected information, the same with theta's uncertainty (observed; last row theta), sandwich (HC0);
    returns Pearson's chi-square. Undefined ones are NaN.
    """
    score, gram, lower = np.empty(q), np.empty((q, q)), np.zeros((q, q))
    _information(family, columns, used, y, eta, theta, False, score, gram)
    model[:], joint[:], robust[:] = np.nan, np.nan, np.nan
    if not factored(gram, lower):
        return np.nan
    inverse(lower, model)
    meat, pearson = np.zeros((q, q)), 0.0
    half = np.empty((q, q))
    for n in range(y.size):
        r, w, _, _ = _terms(family, y[n], eta[n], theta)
        pearson += r * r / w if w > 0.0 else 0.0
        for a in range(q):
            for b in range(q):
                meat[a, b] += r * r * columns[used[a], n] * columns[used[b], n]
    for a in range(q):
        for b in range(q):
            half[a, b] = 0.0
            for c in range(q):
                half[a, b] += model[a, c] * meat[c, b]
    for a in range(q):
        for b in range(q):
            robust[a, b] = 0.0
            for c in range(q):
                robust[a, b] += half[a, c] * model[c, b]
    if family == LOG_LINEAR and theta < np.inf:
        whole = _with_theta(columns, used, y, eta, theta, gram)
        wide = np.zeros((q + 1, q + 1))
        if factored(whole, wide):
            inverse(wide, joint)
    return pearson


@kernel
def marginal(columns: F64, used: I64, y: F64, eta: F64, beta: F64, arms: int, code: I64, model: F64, robust: F64,
             kind: int, risk: F64, covariance: F64) -> None:  # fmt: skip
    """Risks (A,) of everybody under every arm and their covariance (A, A): kind 0 delta method with the model's
    covariance, 1 with the sandwich, 2 influence functions (the covariates are a sample too).

    The last A - 1 of the used columns are those of the arms; code (n,) the subjects' arms.
    """
    q, n_all = used.size, y.size
    first = q - (arms - 1)
    slope, influence = np.zeros((arms, q)), np.zeros((arms, n_all))
    for n in range(n_all):
        base = eta[n] - (beta[first + code[n] - 1] if code[n] > 0 else 0.0)
        for a in range(arms):
            p = expit(base + (beta[first + a - 1] if a > 0 else 0.0))
            influence[a, n] = p
            risk[a] += p / n_all
            w = p * (1.0 - p) / n_all
            for c in range(first):
                slope[a, c] += w * columns[used[c], n]
            if a > 0:
                slope[a, first + a - 1] += w
    if kind < 2:
        spread = model if kind == 0 else robust
        for a in range(arms):
            for b in range(arms):
                for c in range(q):
                    for d in range(q):
                        covariance[a, b] += slope[a, c] * spread[c, d] * slope[b, d]
        return
    weight = np.zeros((arms, q))
    for a in range(arms):
        for c in range(q):
            for d in range(q):
                weight[a, c] += slope[a, d] * model[d, c]
    for n in range(n_all):
        r = y[n] - expit(eta[n])
        for a in range(arms):
            value = (influence[a, n] - risk[a]) / n_all
            for c in range(q):
                value += weight[a, c] * columns[used[c], n] * r
            influence[a, n] = value
        for a in range(arms):
            for b in range(a + 1):
                covariance[a, b] += influence[a, n] * influence[b, n]
    for a in range(arms):
        for b in range(a):
            covariance[b, a] = covariance[a, b]


@kernel
def regressions(family: int, dispersed: bool, y: F64, offset: F64, more: F64, arm: I64, strata: I64, shape: I64,
                estimate: F64, variance: F64, extra: F64, risk: F64, covariance: F64, count: I64,
                status: I8) -> None:  # fmt: skip
    """y, offset, arm, strata (R, N), more (R, C, N); shape = (arms, strata levels, kind of marginal covariance).

    Out: estimate (R, k) of the arms; variance (R, 3, k): expected information, with theta's uncertainty, sandwich;
    extra (R, 4): theta, its variance, Pearson's chi-square, residual df; risk (R, A), covariance (R, A, A) of the
    marginal risks (logistic); count (R, A); status (R,).
    """
    arms, levels, kind = shape[0], shape[1], shape[2]
    p = more.shape[1] + levels + arms - 1
    for r in range(y.shape[0]):
        rows = usable(y[r], offset[r], more[r], arm[r], strata[r])
        for i in rows:
            count[r, arm[r, i]] += 1
        kept = np.zeros(p, dtype=np.bool_)
        columns = design(rows, more[r], arm[r], strata[r], arms, levels, kept)
        if not estimable(count[r], kept):
            status[r] = NOT_ESTIMABLE
            continue
        used = chosen(kept, 0)
        q = used.size
        mine, away, code = np.empty(rows.size), np.empty(rows.size), np.empty(rows.size, dtype=np.int64)
        for n in range(rows.size):
            mine[n], away[n], code[n] = y[r, rows[n]], offset[r, rows[n]], arm[r, rows[n]]
        beta, theta = np.zeros(q), np.inf
        total, exposed = 0.0, 0.0
        for n in range(rows.size):
            total += mine[n]
            exposed += exp(away[n])
        if family == LOG_LINEAR and total > 0.0:
            beta[0] = log(total / exposed)
        if dispersed:
            found, theta = negative_binomial(columns, used, mine, away, beta)
        else:
            found = newton(family, columns, used, mine, away, np.inf, beta)
        status[r] = found
        if found != OK and found != UNDERDISPERSED:
            continue
        eta = np.empty(rows.size)
        _eta(columns, used, away, beta, eta)
        model, robust, joint = np.empty((q, q)), np.empty((q, q)), np.empty((q + 1, q + 1))
        extra[r, 2] = _covariances(family, columns, used, mine, eta, theta, q, model, joint, robust)
        extra[r, 0], extra[r, 1], extra[r, 3] = theta, joint[q, q], rows.size - q
        for k in range(arms - 1):
            at = q - arms + 1 + k
            estimate[r, k] = beta[at]
            variance[r, 0, k], variance[r, 1, k], variance[r, 2, k] = model[at, at], joint[at, at], robust[at, at]
        if family == LOGISTIC:
            risk[r] = 0.0
            covariance[r] = 0.0
            marginal(columns, used, mine, eta, beta, arms, code, model, robust, kind, risk[r], covariance[r])
