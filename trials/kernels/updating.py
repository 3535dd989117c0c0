"""A contrast with a prior: the posterior of a t likelihood under a mixture of normals, one contrast after another.

Given S = chi/sqrt(df) the statistic is normal and the normal mixture conjugate; S is summed over its nodes
(`kernels.dunnett`: the nodes of t probabilities, and lower ones where estimate and prior disagree, since their distance
t then speaks for a small S: to the left of S^2 = df / (df + t^2) the integrand falls no slower than the density of S),
so that the posterior is a mixture of normals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import kernel
from trials.kernels.dunnett import scales_down
from trials.kernels.probability import normal_cdf

F64 = NDArray[np.float64]


@kernel
def mixture(estimate: float, se: float, df: float, prior: F64) -> F64:
    """Weight, mean and sd (3, J) of the posterior's normals; prior (3, K) likewise."""
    K, far = prior.shape[1], 0.0
    for k in range(K):
        far = max(far, ((estimate - prior[1, k]) / se) ** 2)
    nodes, _ = scales_down(df, 0.0 if df == np.inf else -0.5 * log(1.0 + far / df))
    made = np.empty((3, K * nodes.size))
    top = -np.inf
    for a in range(nodes.size):
        own = (se / nodes[a]) ** 2
        share = 0.0 if df == np.inf else df * (log(nodes[a]) - 0.5 * (nodes[a] * nodes[a] - 1.0))
        for k in range(K):
            at, spread = a * K + k, prior[2, k] ** 2
            away = estimate - prior[1, k]
            known = spread / (spread + own)
            made[0, at] = share + log(prior[0, k]) - 0.5 * (log(spread + own) + away * away / (spread + own))
            made[1, at] = prior[1, k] + known * away
            made[2, at] = np.sqrt(known * own)
            top = max(top, made[0, at])
    total = 0.0
    for at in range(made.shape[1]):
        made[0, at] = exp(made[0, at] - top)
        total += made[0, at]
    for at in range(made.shape[1]):
        made[0, at] /= total
    return made


@kernel
def below(x: float, posterior: F64, side: float) -> float:
    """P(theta < x), or with side -1 P(theta > x), each without cancellation."""
    total = 0.0
    for at in range(posterior.shape[1]):
        total += posterior[0, at] * normal_cdf(side * (x - posterior[1, at]) / posterior[2, at])
    return total


@kernel
def quantile(level: float, posterior: F64) -> float:
    """The x with P(theta < x) = level, by bisection."""
    low, high = np.inf, -np.inf
    for at in range(posterior.shape[1]):
        low = min(low, posterior[1, at] - 40.0 * posterior[2, at])
        high = max(high, posterior[1, at] + 40.0 * posterior[2, at])
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if below(middle, posterior, 1.0) < level:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@kernel
def update(estimate: F64, se: F64, df: F64, prior: F64, margin: float, tail: float, out: F64) -> None:
    """out (n, 6): mean, sd, lower and upper `tail` quantile, P(theta < margin), P(theta > margin); NaN without an
    estimate.
    """
    for i in range(estimate.size):
        out[i] = np.nan
        if not (np.isfinite(estimate[i]) and se[i] > 0.0 and np.isfinite(se[i]) and df[i] > 0.0):
            continue
        made = mixture(estimate[i], se[i], df[i], prior)
        mean, square = 0.0, 0.0
        for at in range(made.shape[1]):
            mean += made[0, at] * made[1, at]
        for at in range(made.shape[1]):
            square += made[0, at] * (made[2, at] ** 2 + (made[1, at] - mean) ** 2)
        out[i, 0], out[i, 1] = mean, np.sqrt(square)
        out[i, 2], out[i, 3] = quantile(tail, made), -quantile_of_mirror(tail, made)
        out[i, 4], out[i, 5] = below(margin, made, 1.0), below(margin, made, -1.0)


@kernel
def quantile_of_mirror(level: float, posterior: F64) -> float:
    """The quantile of -theta."""
    mirrored = posterior.copy()
    for at in range(posterior.shape[1]):
        mirrored[1, at] = -posterior[1, at]
    return quantile(level, mirrored)
