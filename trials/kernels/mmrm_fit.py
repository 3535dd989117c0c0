"""The fit of a mixed model for repeated measures: start, ascent by average information, contrasts.

Satterthwaite's df of a contrast l are 2 (l'Phi l)^2 / (g'W g), g_k = l'Phi P_k Phi l up to sign, W the inverse
information of theta; Kenward and Roger's df of one contrast are the same number, their variance is l'Phi l +
2 sum_kl W_kl l'Phi (Q_kl - P_k Phi P_l) Phi l. W is of the observed information, as in SAS and the R package mmrm, or
of the expected one, as in the paper and the R package pbkrtest.

Three kernels per replicate (`prepared`, `maximised`, `contrasts`) and not one: each compiles what it calls once more.
"""

from __future__ import annotations

import numpy as np

from pkpd.kernels.elementary import log
from pkpd.kernels.intrinsics import kernel
from pkpd.kernels.linking import internal
from trials.kernels.mmrm import (
    BOOL,
    F64,
    I8,
    I64,
    Groups,
    add_normal,
    column_of,
    curvature,
    evaluate,
    explained,
    grouped,
    inverse_root,
    pairs,
    residuals,
    standardised,
    traces,
    upper_root,
    used_rows,
)

Work = tuple[F64, F64, F64]  # inverses of the patterns (G, V, V), root of Phi (p, p), beta (p,)
Moments = tuple[F64, F64, F64]  # inner (G, V, V), outer (G, V, m), middle (G, V, V)

OK, NOT_ESTIMABLE, NOT_CONVERGED, COVARIANCE_UNKNOWN = 0, 1, 5, 6
_ALIASED = 1e-9  # of a column's sum of squares, after the elimination of the earlier columns
_CLOSE = 1e-11  # gain of restricted log-likelihood that a further step promises
_ROUNDING = 1e-9  # by which a step may lower it
_ITERATIONS, _HALVINGS, _PATIENCE = 200, 25, 10


@internal
def _aliased(groups: Groups, crossed: int, pinned: BOOL, estimable: BOOL) -> None:
    """Which columns of X are combinations of earlier ones, and which coefficients keep their meaning without them."""
    masks, _, tt, ty, yy = groups
    visits, p = yy.shape[1], pinned.size
    c, right, seen = np.zeros((p, p)), np.zeros(p), np.zeros((visits, visits))
    for g in range(masks.size):
        for v in range(visits):
            seen[v, v] = 1.0 if (masks[g] >> v) & 1 else 0.0
        add_normal(seen, tt[g], ty[g], crossed, c, right)
    upper_root(c, -_ALIASED, pinned)
    weight = np.zeros(p)
    for j in range(p):
        estimable[j] = not pinned[j]
    for d in range(p):
        if pinned[d]:
            for i in range(d - 1, -1, -1):
                weight[i] = c[i, d]
                for k in range(i + 1, d):
                    weight[i] -= c[i, k] * weight[k]
                weight[i] = 0.0 if pinned[i] else weight[i] / c[i, i]
                if abs(weight[i]) > 1e-6:
                    estimable[i] = False


@kernel
def prepared(t: F64, y: F64, arm: I64, crossed: int, count: I64) -> tuple[Groups, BOOL, BOOL, float]:
    """One replicate's moments by pattern, the columns that are left out, the coefficients that can be estimated, and
    what the covariates' own scale takes from the restricted log-likelihood.

    t (N, m), y (N, V), arm (N,); count (arms,): subjects in the fit, out.
    """
    rows = used_rows(t, y, arm)
    for i in rows:
        count[arm[i]] += 1
    ts, ys = np.empty((rows.size, t.shape[1])), np.empty((rows.size, y.shape[1]))
    scales, lost = np.empty(t.shape[1]), 0.0
    standardised(t, y, rows, ts, ys, scales)
    groups = grouped(ts, ys)
    p = crossed * y.shape[1] + t.shape[1] - crossed
    pinned, estimable = np.zeros(p, np.bool_), np.empty(p, np.bool_)
    _aliased(groups, crossed, pinned, estimable)
    for c in range(scales.size):
        for v in range(y.shape[1] if c < crossed else 1):
            if not pinned[column_of(c, v, crossed, y.shape[1])]:
                lost += log(scales[c])
    return groups, pinned, estimable, lost


@internal
def _residual_covariance(groups: Groups, pinned: BOOL, fitted: F64, inner: F64, sigma: F64) -> bool:
    """Covariances of least-squares residuals (inner: their moments) from all subjects seen at both visits; False where
    there are none."""
    masks, sizes, _, _, yy = groups
    visits, used = yy.shape[1], 0.0
    for j in range(pinned.size):
        used += 0.0 if pinned[j] else 1.0 / visits
    element = pairs(visits)
    raw = np.zeros(element.shape[0])
    for k in range(raw.size):
        u, v = element[k, 0], element[k, 1]
        both = 0
        for g in range(masks.size):
            if (masks[g] >> u) & (masks[g] >> v) & 1:
                raw[k] += inner[g, u, v]
                both += sizes[g]
        if both == 0:
            return False
        raw[k] /= max(1.0, both - used)
    _matrix_of(fitted, raw, sigma)
    return True


@internal
def _matrix_of(basis: F64, theta: F64, out: F64) -> None:
    """The symmetric matrix (V, V) with elements basis theta."""
    element = pairs(out.shape[0])
    for k in range(basis.shape[0]):
        total = 0.0
        for j in range(theta.size):
            total += basis[k, j] * theta[j]
        out[element[k, 0], element[k, 1]] = total
        out[element[k, 1], element[k, 0]] = total


@internal
def _reduced(full: F64, basis: F64) -> F64:
    """basis' full basis."""
    q, s = basis.shape
    half, out = np.zeros((q, s)), np.zeros((s, s))
    for k in range(q):
        for j in range(q):
            factor = full[k, j]
            for i in range(s):
                half[k, i] += factor * basis[j, i]
    for k in range(q):
        for i in range(s):
            factor = basis[k, i]
            for j in range(s):
                out[i, j] += factor * half[k, j]
    return out


@internal
def _slope(groups: Groups, inverses: F64, moments: Moments, out: F64) -> None:
    """d log-likelihood / d Sigma as a symmetric matrix (V, V)."""
    sizes, visits = groups[1], inverses.shape[1]
    inner, _, middle = moments
    for u in range(visits):
        for v in range(visits):
            total = 0.0
            for g in range(sizes.size):
                total += inner[g, u, v] - sizes[g] * inverses[g, u, v] + middle[g, u, v]
            out[u, v] = 0.5 * total


@internal
def _uphill(slope: F64, twice: F64, basis: F64, step: F64) -> float:
    """Gain that a step of Sigma (V, V) promises by an information (twice), made definite by a ridge where it is not."""
    q, s = basis.shape
    element, score, theta = pairs(slope.shape[0]), np.zeros(s), np.zeros(s)
    for k in range(q):
        a, b = element[k, 0], element[k, 1]
        for i in range(s):
            score[i] += basis[k, i] * slope[a, b] * (1.0 if a == b else 2.0)
    information, upper = _reduced(twice, basis), np.empty((s, s))
    free, root, ridge, definite = np.zeros(s, np.bool_), np.empty((s, s)), 0.0, False
    while not definite and ridge < 1e6:
        for i in range(s):
            free[i] = False
            for j in range(s):
                upper[i, j] = 0.5 * information[i, j] * (1.0 + ridge if i == j else 1.0)
        definite = upper_root(upper, 1e-13, free)
        ridge = 1e-8 if ridge == 0.0 else 10.0 * ridge
    if not definite:
        return np.inf
    inverse_root(upper, free, root)
    gain = 0.0
    for i in range(s):
        half = 0.0
        for j in range(i + 1):
            half += root[i, j] * score[j]
        gain += 0.5 * half * half
        for j in range(i + 1):
            theta[j] += half * root[i, j]
    _matrix_of(basis, theta, step)
    return gain


@internal
def _expected_step(sigma: F64, slope: F64, sizes: I64, out: F64) -> None:
    """2/n Sigma (dl/dSigma) Sigma: the EM algorithm's step, missing values and beta being its missing data."""
    visits, n = sigma.shape[0], 0
    for g in range(sizes.size):
        n += sizes[g]
    for i in range(visits):
        for j in range(i + 1):
            total = 0.0
            for k in range(visits):
                for m in range(visits):
                    total += sigma[i, k] * slope[k, m] * sigma[m, j]
            out[i, j] = 2.0 / n * total
            out[j, i] = out[i, j]


@internal
def _moved(sigma: F64, share: float, step: F64, out: F64) -> None:
    for u in range(sigma.shape[0]):
        for v in range(sigma.shape[0]):
            out[u, v] = sigma[u, v] + share * step[u, v]


@kernel
def maximised(groups: Groups, crossed: int, pinned: BOOL, basis: F64, fitted: F64, sigma: F64, average: F64,
              work: Work, moments: Moments) -> tuple[int, float, int]:  # fmt: skip
    """Maximum of the restricted likelihood: (status, log-likelihood, iterations); out: sigma (V, V), average (q, q)
    (twice the average information there), work and moments.

    It starts from the covariances of least-squares residuals, drawn to the diagonal until positive definite. A step
    that leaves the positive definite matrices or lowers the likelihood is halved; where no part of it helps and the
    covariance is unstructured, a step of the EM algorithm is taken, which always helps. After ten steps the observed
    information takes the average one's place where it is positive definite. basis (q, s): elements of Sigma
    by structure parameters; fitted (q, q): projection on its span.
    """
    inverses, z, beta = work
    visits, q = sigma.shape[0], basis.shape[0]
    total, twice = np.empty((q, q)), average
    slope, step, trial = np.empty((visits, visits)), np.empty((visits, visits)), np.eye(visits)
    value, refused, unstructured, started = -np.inf, 0, basis.shape[1] == q, False
    for n in range(_ITERATIONS):
        # 1. the likelihood at the trial; a worse one is tried again nearer, and at last by EM
        tried = evaluate(trial, groups, crossed, pinned, inverses, z, beta)
        if started and (tried == -np.inf or tried < value - _ROUNDING):
            refused += 1
            if value == -np.inf:
                _shrunk(trial)
                continue
            if refused > _HALVINGS or (refused == _HALVINGS and not unstructured):
                return NOT_CONVERGED, value, n
            if refused == _HALVINGS:
                _expected_step(sigma, slope, groups[1], step)
            _moved(sigma, 1.0 if refused == _HALVINGS else 0.5**refused, step, trial)
            continue
        residuals(groups, crossed, inverses, beta, moments[0], moments[1])
        if not started:
            if not _residual_covariance(groups, pinned, fitted, moments[0], trial):
                return COVARIANCE_UNKNOWN, np.nan, 0
            started = True
            continue
        value, refused = tried, 0
        _moved(trial, 0.0, trial, sigma)
        # 2. where to from here
        explained(groups, crossed, inverses, z, moments[2])
        curvature(crossed, inverses, moments[0], moments[1], z, average)
        _slope(groups, inverses, moments, slope)
        if n >= _PATIENCE:  # average information is slow where it is far from the observed one
            traces(groups, crossed, inverses, moments[2], z, total)
            twice = total if _observed(average, total, basis) else average
        gain = _uphill(slope, twice, basis, step)
        if gain < _CLOSE:
            return OK, value, n
        if gain == np.inf:
            refused = _HALVINGS - (0 if unstructured else 1)
            _expected_step(sigma, slope, groups[1], step)
        _moved(sigma, 1.0, step, trial)
    return NOT_CONVERGED, value, _ITERATIONS


@internal
def _observed(average: F64, total: F64, basis: F64) -> bool:
    """Twice the observed information into `total` (traces before); whether it is positive definite."""
    for k in range(total.shape[0]):
        for j in range(total.shape[0]):
            total[k, j] = 2.0 * average[k, j] - total[k, j]
    return upper_root(_reduced(total, basis), 1e-10, np.zeros(basis.shape[1], np.bool_))


@internal
def _shrunk(sigma: F64) -> None:
    """Drawn towards its diagonal, in place."""
    for u in range(sigma.shape[0]):
        for v in range(sigma.shape[0]):
            sigma[u, v] *= 1.0 if u == v else 0.9


@internal
def _uncertainty(groups: Groups, crossed: int, basis: F64, observed: bool, average: F64, work: Work, middle: F64,
                 out: F64) -> bool:  # fmt: skip
    """W (q, q), the covariance of the elements of Sigma; False where the information is not positive definite."""
    inverses, z, _ = work
    q, s = basis.shape
    total = np.empty((q, q))
    traces(groups, crossed, inverses, middle, z, total)
    for k in range(q):
        for j in range(q):
            total[k, j] = average[k, j] - 0.5 * total[k, j] if observed else 0.5 * total[k, j]
    upper, free, root = _reduced(total, basis), np.zeros(s, np.bool_), np.empty((s, s))
    if not upper_root(upper, 1e-13, free):
        return False
    inverse_root(upper, free, root)
    column = np.empty(q)
    for r in range(s):
        for k in range(q):
            column[k] = 0.0
            for j in range(r + 1):
                column[k] += basis[k, j] * root[r, j]
        for k in range(q):
            for j in range(q):
                out[k, j] += column[k] * column[j]
    return True


@internal
def _contrast(groups: Groups, crossed: int, j: int, w: F64, work: Work, moments: Moments,
              phi: F64) -> tuple[float, float, float]:  # fmt: skip
    """Coefficient j of beta: (model variance, Kenward-Roger variance, df); phi: column j of Phi, out."""
    inverses, z, _ = work
    visits, q = inverses.shape[1], w.shape[0]
    for i in range(phi.size):
        phi[i] = 0.0
    for r in range(j, z.shape[0]):
        for i in range(r + 1):
            phi[i] += z[r, j] * z[r, i]
    residuals(groups, crossed, inverses, phi, moments[0], moments[1])
    element, slope, bend = pairs(visits), np.zeros(q), np.empty((q, q))
    for k in range(q):
        a, b = element[k, 0], element[k, 1]
        for g in range(inverses.shape[0]):
            slope[k] += moments[0][g, a, b] * (1.0 if a == b else 2.0)
    curvature(crossed, inverses, moments[0], moments[1], z, bend)
    spread, more = 0.0, 0.0
    for k in range(q):
        for i in range(q):
            spread += slope[k] * w[k, i] * slope[i]
            more += w[k, i] * bend[k, i]
    return phi[j], phi[j] + 2.0 * more, 2.0 * phi[j] * phi[j] / spread


@kernel
def contrasts(groups: Groups, shape: tuple[int, int, int], basis: F64, observed: bool, estimable: BOOL, average: F64,
              work: Work, moments: Moments, estimate: F64, variance: F64, adjusted: F64, df: F64, covariance: F64,
              status: I8) -> None:  # fmt: skip
    """Arms against control at the visits from the given one; shape: (crossed columns, first arm column, first visit).

    groups: as fitted, with moments of y = 0. Out: estimate, variance, adjusted, df, status (V, k); covariance (k, k) of
    the last visit's contrasts.
    """
    crossed, first, visit = shape
    inverses, _, beta = work
    visits, k, q = inverses.shape[1], estimate.shape[1], basis.shape[0]
    w, phi = np.zeros((q, q)), np.empty(beta.size)
    definite = _uncertainty(groups, crossed, basis, observed, average, work, moments[2], w)
    for v in range(visit, visits):
        for j in range(k):
            column = column_of(first + j, v, crossed, visits)
            if not definite or not estimable[column]:
                status[v, j] = NOT_ESTIMABLE if definite else NOT_CONVERGED
                continue
            status[v, j], estimate[v, j] = OK, beta[column]
            variance[v, j], adjusted[v, j], df[v, j] = _contrast(groups, crossed, column, w, work, moments, phi)
            if v == visits - 1:
                for i in range(k):
                    covariance[j, i] = phi[column_of(first + i, v, crossed, visits)]
