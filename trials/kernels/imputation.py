"""Proper multiple imputation of missing visits by sequential Bayesian regressions, one replicate after another.

Visit v is regressed on intercept, baseline, stratum, arm, earlier visits and, when given, the treatment status at v,
with the flat prior p(beta, log sigma): sigma^2 = RSS/chi^2_{n-p}, beta ~ N(b, sigma^2 (X'X)^-1) (Rubin 1987, ch. 5.3).
Monotone gaps are filled forwards. Visits missed between two observed ones are drawn by monotone data augmentation
(Schafer 1997, ch. 6.5): a fixed number of sweeps, each drawing all parameters from the monotone-completed data and then
every missed visit from its full conditional given earlier and later visits.

Rules after the last visit seen (Carpenter, Roger & Kenward, J Biopharm Stat 2013;23:1352): at random, or with the means
of the reference arm (jump: from then on; copy: always; increments: as steps from the own arm's last mean), the
residuals from the rule's means carried on by the drawn regressions.

Addresses: the noise of subject i at visit v of imputation m is (i, replicate, v + 256 sweep, m); parameters use
subject words from 2^31 on, which no subject has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import log
from pkpd.kernels.intrinsics import inlined, kernel
from pkpd.kernels.philox import normal_quantile, philox, uniform

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
I8 = NDArray[np.int8]
BOOL = NDArray[np.bool_]

OK = 0
FAILED = 1
AT_RANDOM, JUMP, COPY, INCREMENTS = 0, 1, 2, 3
VISIT_STRIDE = 256
_CHI_SQUARE = 2147483648  # 2^31: uniforms of a chi-square
_ODD = 2684354560  # its odd normal
_COEFFICIENT = 3221225472  # normals of the regression coefficients
_ALIASED = 1e-9  # pivot over the diagonal below which a column is a combination of earlier ones


@inlined
def _uniform(key: U64, subject: int, index: int, slot: int) -> float:
    """key = (k0, k1, replicate)."""
    w0, w1, _, _ = philox(np.uint64(subject), key[2], np.uint64(index), np.uint64(slot), key[0], key[1])
    return float(uniform(w0, w1))


@kernel
def chi_square(key: U64, df: int, index: int, slot: int) -> float:
    """Chi-square with whole df as -2 log of a product of uniforms, plus one squared normal for odd df."""
    product, total = 1.0, 0.0
    for j in range(df // 2):
        product *= _uniform(key, _CHI_SQUARE + j, index, slot)
        if product < 1e-280:
            total += log(product)
            product = 1.0
    total = -2.0 * (total + log(product))
    if df % 2 == 1:
        z = normal_quantile(_uniform(key, _ODD, index, slot))
        total += z * z
    return total


@kernel
def cholesky(gram: F64, lower: F64) -> int:
    """Lower factor of the augmented Gram matrix (p + 1); aliased columns become zero; returns the rank of the p."""
    size = gram.shape[0]
    rank = 0
    for i in range(size):
        for j in range(i + 1):
            value = gram[i, j]
            for q in range(j):
                value -= lower[i, q] * lower[j, q]
            if i == j:
                solid = value > _ALIASED * gram[i, i] or i == size - 1
                lower[i, i] = np.sqrt(max(0.0, value)) if solid else 0.0
                rank += 1 if solid and i < size - 1 else 0
            else:
                lower[i, j] = value / lower[j, j] if lower[j, j] > 0.0 else 0.0
        if lower[i, i] == 0.0 and i < size - 1:
            lower[i, : i + 1] = 0.0
    return rank


@kernel
def draw_parameters(key: U64, lower: F64, df: int, index: int, slot: int, beta: F64) -> float:
    """One posterior draw: fills beta (p,), returns sigma. The last row of `lower` is Q'y and the residual norm."""
    p = lower.shape[0] - 1
    norm = lower[p, p]
    sigma = norm / np.sqrt(chi_square(key, df, index, slot))
    # Coefficients are numbered among the estimable ones: a stratum that only other replicates have changes nothing.
    number = 0
    for i in range(p):
        number += 1 if lower[i, i] > 0.0 else 0
    for i in range(p - 1, -1, -1):
        if lower[i, i] == 0.0:
            beta[i] = 0.0
            continue
        number -= 1
        z = normal_quantile(_uniform(key, _COEFFICIENT + number, index, slot))
        value = lower[p, i] + sigma * z
        for j in range(i + 1, p):
            value -= lower[j, i] * beta[j]
        beta[i] = value / lower[i, i]
    return float(sigma)


@inlined
def _fill_row(base: F64, off: F64, y: F64, v: int, row: F64) -> int:
    """The regressors of visit v for one subject; returns their number."""
    q = base.size
    for i in range(q):
        row[i] = base[i]
    if off.size > 0:
        row[q] = off[v]
        q += 1
    for u in range(v):
        row[q + u] = y[u]
    return q + v


@inlined
def _mean(row: F64, p: int, beta: F64) -> float:
    total = 0.0
    for i in range(p):
        total += row[i] * beta[i]
    return total


@kernel
def accumulate(base: F64, off: F64, y: F64, v: int, row: F64, gram: F64) -> None:
    """Add one subject's row (regressors of v, then y[v]) to the lower triangle of the Gram matrix."""
    p = _fill_row(base, off, y, v, row)
    row[p] = y[v]
    for i in range(p + 1):
        for j in range(i + 1):
            gram[i, j] += row[i] * row[j]


@kernel
def draw_missed(key: U64, sweep: int, slot: int, subject: int, last: int,
                base: F64, off: F64, y: F64, missing: I8, beta: F64, sigma: F64, row: F64) -> None:  # fmt: skip
    """Gibbs scan over one subject's missed visits before `last`, each given all its other visits."""
    extra = base.size + (1 if off.size > 0 else 0)
    for g in range(last):
        if missing[g] == 0:
            continue
        p = _fill_row(base, off, y, g, row)
        precision = 1.0 / (sigma[g] * sigma[g])
        centre = _mean(row, p, beta[g]) * precision
        for v in range(g + 1, last):
            slope = beta[v, extra + g]
            p = _fill_row(base, off, y, v, row)
            rest = y[v] - _mean(row, p, beta[v]) + slope * y[g]
            weight = slope / (sigma[v] * sigma[v])
            precision += slope * weight
            centre += weight * rest
        z = normal_quantile(_uniform(key, subject, g + VISIT_STRIDE * sweep, slot))
        y[g] = centre / precision + z / np.sqrt(precision)


@kernel
def base_columns(rows: I64, baseline: F64, arm: I64, strata: I64, shape: tuple[int, int], out: F64) -> None:
    """Intercept, centred baseline, stratum and arm indicators: out (rows, q)."""
    levels = shape[1]
    mean = 0.0
    for i in rows:
        mean += baseline[i]
    mean = mean / max(1, rows.size)
    for n in range(rows.size):
        i = rows[n]
        out[n, 0] = 1.0
        out[n, 1] = baseline[i] - mean
        if strata[i] > 0:
            out[n, 1 + strata[i]] = 1.0
        if arm[i] > 0:
            out[n, levels + arm[i]] = 1.0


@kernel
def centred_visits(rows: I64, visits: F64, y: F64, missing: I8, last: I64, centres: F64) -> bool:
    """y (rows, V) less the observed mean of each visit, 0 where missing; last = visits up to the last observed one.

    False if a visit was never observed.
    """
    counts = np.zeros(centres.size, dtype=np.int64)
    for i in rows:
        for v in range(centres.size):
            if np.isfinite(visits[i, v]):
                centres[v] += visits[i, v]
                counts[v] += 1
    for v in range(centres.size):
        if counts[v] == 0:
            return False
        centres[v] /= counts[v]
    for n in range(rows.size):
        for v in range(centres.size):
            missing[n, v] = 0 if np.isfinite(visits[rows[n], v]) else 1
            y[n, v] = 0.0 if missing[n, v] == 1 else visits[rows[n], v] - centres[v]
            last[n] = last[n] if missing[n, v] == 1 else v + 1
    return True


@inlined
def _noisy(key: U64, slot: int, subject: int, index: int, mean: float, sigma: float) -> float:
    return mean + sigma * normal_quantile(_uniform(key, subject, index, slot))


@inlined
def _rule_mean(rule: int, own: F64, reference: F64, u: int, last: int) -> float:
    """Mean of visit u under a rule, for a subject last seen at visit last - 1."""
    if rule == COPY or (u >= last and (rule == JUMP or last == 0)):
        return float(reference[u])
    if u < last:
        return float(own[u])
    return float(own[last - 1] + reference[u] - reference[last - 1])


@kernel
def by_reference(key: U64, slot: int, subject: int, rule: int, first: int, last: int, base: F64, y: F64, beta: F64,
                 sigma: F64) -> None:  # fmt: skip
    """Fill y (V,) from visit `last` on under a rule; the arm's columns of `base` begin at `first`."""
    q, own, reference = base.size, np.zeros(y.size), np.zeros(y.size)
    for v in range(y.size):
        for j in range(q):
            own[v] += base[j] * beta[v, j]
            reference[v] += base[j] * beta[v, j] if j < first else 0.0
        for u in range(v):
            own[v] += beta[v, q + u] * own[u]
            reference[v] += beta[v, q + u] * reference[u]
    for v in range(last, y.size):
        mean = _rule_mean(rule, own, reference, v, last)
        for u in range(v):
            mean += beta[v, q + u] * (y[u] - _rule_mean(rule, own, reference, u, last))
        y[v] = _noisy(key, slot, subject, v, mean, sigma[v])


@kernel
def fit_draw(key: U64, slot: int, sweep: int, v: int, first: bool, base: F64, off: F64, y: F64, missing: I8, last: I64,
             moving: I64, fixed: F64, fixed_count: int, row: F64, beta: F64) -> float:  # fmt: skip
    """Draw the regression of visit v: fixed rows from their Gram matrix, moving rows added; sigma, or -1 without df."""
    p = base.shape[1] + (1 if off.shape[1] > 0 else 0) + v
    gram, lower = fixed[: p + 1, : p + 1].copy(), np.zeros((p + 1, p + 1))
    n = fixed_count
    for i in moving:
        if last[i] > v and not (first and missing[i, v] == 1):
            accumulate(base[i], off[i], y[i], v, row, gram)
            n += 1
    df = n - cholesky(gram, lower)
    if df <= 0:
        return -1.0
    return max(1e-100, draw_parameters(key, lower, df, v + VISIT_STRIDE * sweep, slot, beta))


@kernel
def impute_set(key: U64, slot: int, sweeps: int, names: I64, base: F64, off: F64, y: F64, missing: I8, last: I64,
               moving: I64, fixed: F64, fixed_count: I64, rule: int, first_arm: int) -> bool:  # fmt: skip
    """One completed data set in y (rows, V); False if a model has no df.

    Sweep `sweeps + 1` fills the missed visits forwards, sweeps .. 1 redraw them, sweep 0 draws the final parameters.
    """
    visits, size = y.shape[1], fixed.shape[1]
    beta, sigma, row = np.zeros((visits, size)), np.zeros(visits), np.zeros(size)
    begin = sweeps + 1 if moving.size > 0 else 0
    for sweep in range(begin, -1, -1):
        first = sweep > sweeps
        for v in range(visits):
            sigma[v] = fit_draw(key, slot, sweep, v, first, base, off, y, missing, last, moving,
                                fixed[v], fixed_count[v], row, beta[v])  # fmt: skip
            if sigma[v] < 0.0:
                return False
            for i in moving:
                if first and last[i] > v and missing[i, v] == 1:
                    q = _fill_row(base[i], off[i], y[i], v, row)
                    y[i, v] = _noisy(key, slot, names[i], v + VISIT_STRIDE * sweep, _mean(row, q, beta[v]), sigma[v])
        if 0 < sweep <= sweeps:
            for i in moving:
                draw_missed(key, sweep, slot, names[i], last[i], base[i], off[i], y[i], missing[i],
                            beta, sigma, row)  # fmt: skip
    for i in range(y.shape[0]):
        if rule != AT_RANDOM and last[i] < visits and base[i, first_arm:].any():
            by_reference(key, slot, names[i], rule, first_arm, last[i], base[i], y[i], beta, sigma)
            continue
        for v in range(last[i], visits):
            q = _fill_row(base[i], off[i], y[i], v, row)
            y[i, v] = _noisy(key, slot, names[i], v, _mean(row, q, beta[v]), sigma[v])
    return True


@kernel
def usable_rows(baseline: F64, arm: I64, strata: I64) -> I64:
    """Indices of subjects with an arm, a stratum and a finite baseline."""
    rows = np.empty(arm.size, dtype=np.int64)
    used = 0
    for i in range(arm.size):
        if arm[i] >= 0 and strata[i] >= 0 and np.isfinite(baseline[i]):
            rows[used] = i
            used += 1
    return rows[:used]


@kernel
def with_gaps(missing: I8, last: I64) -> I64:
    """Indices of subjects with a visit missed before their last one."""
    rows = np.empty(last.size, dtype=np.int64)
    used = 0
    for n in range(last.size):
        inner = 0
        for v in range(last[n]):
            inner += missing[n, v]
        if inner > 0:
            rows[used] = n
            used += 1
    return rows[:used]


@kernel
def fixed_grams(base: F64, off: F64, y: F64, last: I64, moving: I64, fixed: F64, count: I64) -> None:
    """Gram matrices of the rows that no sweep changes, by visit: fixed (V, size, size), count (V,)."""
    row, still = np.zeros(fixed.shape[1]), np.ones(last.size, dtype=np.bool_)
    for i in moving:
        still[i] = False
    for v in range(count.size):
        for i in range(last.size):
            if still[i] and last[i] > v:
                accumulate(base[i], off[i], y[i], v, row, fixed[v])
                count[v] += 1


@kernel
def impute_replicate(key: U64, rows: I64, visits: F64, base: F64, off: F64, subject: I64, sweeps: int,
                     rule: int, first_arm: int, final: F64) -> int:  # fmt: skip
    """Complete the last visit of one replicate: final (M, N) holds the observed values, NaN where missing."""
    used, number = rows.size, visits.shape[1]
    y, missing = np.zeros((used, number)), np.zeros((used, number), dtype=np.int8)
    last, centres = np.zeros(used, dtype=np.int64), np.zeros(number)
    if not centred_visits(rows, visits, y, missing, last, centres):
        return FAILED
    moving = with_gaps(missing, last)
    size = base.shape[1] + number + 2
    fixed, count = np.zeros((number, size, size)), np.zeros(number, dtype=np.int64)
    fixed_grams(base, off, y, last, moving, fixed, count)
    work = np.empty_like(y)
    for m in range(final.shape[0]):
        work[:, :] = y
        if not impute_set(key, m, sweeps, subject, base, off, work, missing, last, moving, fixed, count,
                          rule, first_arm):  # fmt: skip
            for i in range(used):  # no half-imputed replicate leaves
                if missing[i, number - 1] == 1:
                    final[:, rows[i]] = np.nan
            return FAILED
        for i in range(used):
            if missing[i, number - 1] == 1:
                final[m, rows[i]] = work[i, number - 1] + centres[number - 1]
    return OK


@kernel
def impute_all(key: tuple[int, int], visits: F64, baseline: F64, arm: I64, strata: I64, off: F64,
               shape: tuple[int, int], sweeps: int, rule: int, subject: I64, replicate: I64,
               final: F64, imputed: BOOL, status: I8) -> None:  # fmt: skip
    """visits (R, N, V), off (R, N, V or 0); out: final (M, R, N) completed last visit, imputed (R, N), status (R,)."""
    end = visits.shape[2] - 1
    arms, levels = shape
    final[:] = np.nan
    for r in range(replicate.size):
        rows = usable_rows(baseline[r], arm[r], strata[r])
        wanted = 0
        for i in rows:
            final[:, r, i] = visits[r, i, end]
            imputed[r, i] = not np.isfinite(visits[r, i, end])
            wanted += 1 if imputed[r, i] else 0
        if wanted == 0:
            continue
        base = np.zeros((rows.size, levels + arms))
        base_columns(rows, baseline[r], arm[r], strata[r], shape, base)
        address = np.array([key[0], key[1], replicate[r]], dtype=np.uint64)
        status[r] = impute_replicate(address, rows, visits[r], base, off[r][rows], subject[rows], sweeps,
                                     rule, levels + 1, final[:, r])  # fmt: skip
