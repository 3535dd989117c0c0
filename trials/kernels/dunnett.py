"""Multivariate t probabilities with correlation rho_ij = l_i l_j by two-dimensional quadrature, no simulation.

T_j = (sqrt(1 - l_j^2) X_j + l_j Z)/S with X_j, Z standard normal, S = chi_df/sqrt(df), so that given (Z, S) the
T_j are independent (Dunnett, JASA 1955;50:1096; Dunnett & Sobel, Biometrika 1955;42:258). Both integrals run by
the trapezoidal rule, which converges geometrically for these integrands; S is integrated on the scale of log S.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.illinois import narrowed
from trials.kernels.probability import normal_cdf, normal_density, t_quantile, t_tail

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]

TWO_SIDED = 0
ONE_SIDED = 1
_REACH = 6.6  # of z, in standard deviations: 4e-11 beyond
_DROP = 24.0  # of the log density of log S: 4e-11


@inlined
def _log_density(w: float, df: float) -> float:
    """Log density of w = log S up to a constant, 0 at its mode 0."""
    return float(df * (w - 0.5 * (exp(2.0 * w) - 1.0)))


@inlined
def _edge(df: float, sign: float) -> float:
    """Where the log density has fallen by _DROP on one side."""
    inner, outer = 0.0, sign * 0.5
    while _log_density(outer, df) > -_DROP:
        inner, outer = outer, 2.0 * outer
    for _ in range(30):
        middle = 0.5 * (inner + outer)
        if _log_density(middle, df) > -_DROP:
            inner = middle
        else:
            outer = middle
    return outer


@kernel
def scales(df: float) -> tuple[F64, F64]:
    """Nodes and weights (sum 1) of S; one node at 1 for infinite df."""
    return scales_down(df, 0.0)


@kernel
def scales_down(df: float, shift: float) -> tuple[F64, F64]:
    """The same with nodes lower by `shift` (at most 0, of log S), for an integrand that moves S down."""
    if df == np.inf:
        return np.ones(1), np.ones(1)
    low, high = _edge(df, -1.0) + shift, _edge(df, 1.0)
    # The integrand's own step in log S is about one wide, whatever df: the spacing has a ceiling.
    n = int((high - low) / min(0.17, 0.7 / np.sqrt(2.0 * df))) + 2
    step = (high - low) / (n - 1)
    nodes, weights, total = np.empty(n), np.empty(n), 0.0
    for i in range(n):
        w = low + step * i
        nodes[i] = exp(w)
        weights[i] = exp(_log_density(w, df))
        total += weights[i]
    for i in range(n):
        weights[i] /= total
    return nodes, weights


@kernel
def _below(x: float, loadings: F64, side: int) -> float:
    """P(all |Y_j| <= x) (two-sided) or P(all Y_j <= x) for unit normals Y with the product correlation."""
    k = loadings.size
    narrow = 1.0
    for j in range(k):
        spread = np.sqrt(1.0 - loadings[j] * loadings[j])
        width = spread / max(abs(loadings[j]), 1e-12)
        narrow = min(narrow, width)
    # Even in z when two-sided: half the nodes, the middle one counted half.
    n = int(_REACH / (0.42 * narrow)) + 1
    step = _REACH / n
    start = 0 if side == TWO_SIDED else -n
    total = 0.0
    for i in range(start, n + 1):
        z = step * i
        product = normal_density(z)
        for j in range(k):
            spread = np.sqrt(1.0 - loadings[j] * loadings[j])
            upper = normal_cdf((x - loadings[j] * z) / spread)
            lower = normal_cdf((-x - loadings[j] * z) / spread) if side == TWO_SIDED else 0.0
            product *= upper - lower
        total += 0.5 * product if (side == TWO_SIDED and i == 0) else product
    return total * step * (2.0 if side == TWO_SIDED else 1.0)


@kernel
def exceed(t: float, nodes: F64, weights: F64, loadings: F64, side: int) -> float:
    """P(max_j |T_j| > t) or P(max_j T_j > t)."""
    total = 0.0
    for i in range(nodes.size):
        total += weights[i] * (1.0 - _below(t * nodes[i], loadings, side))
    return min(1.0, max(0.0, total))


@kernel
def critical_value(alpha: float, df: float, loadings: F64, side: int) -> float:
    """The t with exceed(t) = alpha: Illinois regula falsi on the log tail between unadjusted and Bonferroni value."""
    k = loadings.size
    share = alpha * (0.5 if side == TWO_SIDED else 1.0)
    if not df > 0.0:
        return np.nan
    low = t_quantile(share, df)
    if k == 1:
        return low
    high = t_quantile(share / k, df)
    nodes, weights = scales(df)
    goal = log(alpha)
    f_low = log(exceed(low, nodes, weights, loadings, side)) - goal
    f_high = log(exceed(high, nodes, weights, loadings, side)) - goal
    if f_low <= 0.0 or f_high >= 0.0:  # perfectly dependent or independent in the limit
        return low if f_low <= 0.0 else high
    bracket, middle = (low, high, f_low, f_high, 0), low
    for _ in range(60):
        last = middle
        low, high, f_low, f_high, _ = bracket
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        f = log(exceed(middle, nodes, weights, loadings, side)) - goal
        if abs(f) < 1e-12 or abs(middle - last) < 1e-12 * middle:
            break
        bracket = narrowed(bracket, middle, f)
    return middle


@kernel
def single_p(t: float, df: float, side: int) -> float:
    """Unadjusted p-value: two-sided, or the upper tail."""
    return 2.0 * t_tail(abs(t), df) if side == TWO_SIDED else t_tail(t, df)


@kernel
def adjusted(t: float, df: float, loadings: F64, side: int) -> float:
    """Single-step adjusted p-value of one statistic."""
    single = single_p(t, df, side)
    if loadings.size == 1 or single != single:
        return single
    nodes, weights = scales(df)
    joint = exceed(abs(t) if side == TWO_SIDED else t, nodes, weights, loadings, side)
    # Below the quadrature's absolute error the Bonferroni bounds are the truth.
    return min(1.0, max(single, min(joint, loadings.size * single)))


@kernel
def one_factor(correlation: F64) -> F64:
    """Loadings l that minimise sum_{i<j} (r_ij - l_i l_j)^2, one at a time (Hsu, J Comput Graph Stat 1992;1:151)."""
    k = correlation.shape[0]
    loadings = np.full(k, np.sqrt(0.5))
    if k == 1:
        loadings[0] = 0.0
        return loadings
    for _ in range(500):
        moved = 0.0
        for i in range(k):
            top, bottom = 0.0, 0.0
            for j in range(k):
                if j != i:
                    top += correlation[i, j] * loadings[j]
                    bottom += loadings[j] * loadings[j]
            new = min(0.9999, max(-0.9999, top / bottom if bottom > 0.0 else 0.0))
            moved = max(moved, abs(new - loadings[i]))
            loadings[i] = new
        if moved < 1e-13:
            break
    return loadings


@kernel
def critical_fill(alpha: F64, df: F64, loadings: F64, side: int, out: F64) -> None:
    """Rows of `loadings` (n, k), alpha and df (n,)."""
    for i in range(out.size):
        out[i] = critical_value(alpha[i], df[i], loadings[i], side)


@kernel
def adjusted_fill(t: F64, df: F64, loadings: F64, side: int, out: F64) -> None:
    """t, df, out (n, k), loadings (n, k): every statistic against its own df."""
    for i in range(t.shape[0]):
        for j in range(t.shape[1]):
            out[i, j] = adjusted(t[i, j], df[i, j], loadings[i], side)


@kernel
def compare_row(estimate: F64, se: F64, df: F64, covariance: F64, status: I8, alpha: float, side: int, sign: float,
                p: F64, single: F64, critical: F64) -> None:  # fmt: skip
    """One replicate: p-values and critical values of the contrasts with status 0; the others stay as they are."""
    good = np.flatnonzero(status == 0)
    k = good.size
    correlation = np.empty((k, k))
    for a in range(k):
        for b in range(k):
            i, j = good[a], good[b]
            correlation[a, b] = covariance[i, j] / np.sqrt(covariance[i, i] * covariance[j, j])
    loadings = one_factor(correlation)
    for a in range(k):
        j = good[a]
        t = sign * estimate[j] / se[j]
        single[j] = single_p(t, df[j], side)
        p[j] = adjusted(t, df[j], loadings, side)
        before = good[a - 1]
        same = a > 0 and df[before] == df[j]
        critical[j] = critical[before] if same else critical_value(alpha, df[j], loadings, side)


@kernel
def compare(estimate: F64, se: F64, df: F64, covariance: F64, status: I8, alpha: float, side: int, sign: float,
            p: F64, single: F64, critical: F64) -> None:  # fmt: skip
    """All replicates: arrays (R, k), covariance (R, k, k); `sign` is -1 for the lower side."""
    for r in range(estimate.shape[0]):
        compare_row(estimate[r], se[r], df[r], covariance[r], status[r], alpha, side, sign,
                    p[r], single[r], critical[r])  # fmt: skip
