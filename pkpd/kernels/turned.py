r"""From the vector that is sampled to that of the law: population quantities straightened, sds that may be 0 unfolded.

First a linear map of the population quantities. Then each sd that is unfolded, sd = c sinh|v|: about 0 as |v|, far from
it as e^|v|. Its logarithm would have a long flat tail where the sd is as good as 0, in which a sampler
loses its way. v may pass through 0: (v, correlations r with the effect, its coordinates y) and (-v, -r, -y) are one,
and the density is smooth there, since an effect is v times a standard normal; of residual errors it knows the squares.

The two sds a, b of an error sqrt(a^2 + b^2 f^2) have mass along an arc where data tell of their sum alone. They come
from its size and their share of it: a = s cos w, c b = s sin w, with w = pi/2 Phi(t), so that t is about normal where
nothing is known of the share, and its tails are a normal's where one of the two is as good as 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log, tanh
from pkpd.kernels.linking import internal
from pkpd.kernels.special import sin
from pkpd.kernels.tails import log_normal_below

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
QUARTER = 0.5 * np.pi
LOG_SLOPE = float(np.log(QUARTER) - 0.5 * np.log(2.0 * np.pi))
"""Of dw/dt = pi/2 phi(t), at t = 0."""


@internal
def turned(y: F64, middle: F64, root: F64, x: F64) -> None:
    """x = y but for its first root.shape[0] quantities, middle + root y."""
    p = root.shape[0]
    for k in range(x.size):
        x[k] = y[k]
    for j in range(p):
        x[j] = middle[j]
        for k in range(p):
            x[j] += root[j, k] * y[k]


@internal
def turned_back(g: F64, root: F64) -> None:
    """Adjoint of `turned`, in place."""
    p = root.shape[0]
    own = np.empty(p)
    for j in range(p):
        own[j], g[j] = g[j], 0.0
    for j in range(p):
        for k in range(p):
            g[k] += root[j, k] * own[j]


@internal
def unfolded(
    x: F64, fold: F64, fold_at: I64, fold_row: I64, row: I64, column: I64, pair_at: int, at: I64, v: F64
) -> float:
    """Log sds in place of v at x[fold_at], signs of correlations and coordinates; log of the Jacobian.

    fold: c of each sd, 0: it stays a logarithm; fold_row (D,): which sd is that of each row of `at` (D, N), -1: none;
    row, column: effects of the correlations from x[pair_at]; v: filled with what was there.
    """
    total = 0.0
    for k in range(fold.size):
        v[k] = x[fold_at[k]]
        if fold[k] > 0.0:
            a = np.abs(v[k])
            small = log(tanh(a))
            x[fold_at[k]] = log(fold[k]) + small + log(0.5 * (exp(a) + exp(-a)))
            total -= small
    _signed(x, fold, fold_row, row, column, pair_at, at, v)
    return total


@internal
def _signed(g: F64, fold: F64, fold_row: I64, row: I64, column: I64, pair_at: int, at: I64, v: F64) -> None:
    if fold.size == 0:
        return
    for e in range(row.size):
        for k in (row[e], column[e]):
            if fold[k] > 0.0 and v[k] < 0.0:
                g[pair_at + e] = -g[pair_at + e]
    for d in range(at.shape[0]):
        k = fold_row[d]
        if k >= 0 and fold[k] > 0.0 and v[k] < 0.0:
            for i in range(at.shape[1]):
                if at[d, i] >= 0:
                    g[at[d, i]] = -g[at[d, i]]


@internal
def unfolded_back(
    g: F64, fold: F64, fold_at: I64, fold_row: I64, row: I64, column: I64, pair_at: int, at: I64, v: F64
) -> None:
    """Adjoint of `unfolded` and of its log Jacobian, in place."""
    for k in range(fold.size):
        if fold[k] > 0.0:
            t = tanh(v[k])
            g[fold_at[k]] = g[fold_at[k]] / t + t - 1.0 / t
    _signed(g, fold, fold_row, row, column, pair_at, at, v)


@internal
def ringed(x: F64, ring: F64, ring_at: I64, t: F64) -> float:
    """Logs of a and b in place of (log s, t) at x[ring_at]; log of the Jacobian. ring: c of each pair; t: filled."""
    total = 0.0
    for k in range(ring.size):
        i, j = ring_at[k, 0], ring_at[k, 1]
        t[k] = x[j]
        low, high = log_normal_below(t[k])[0], log_normal_below(-t[k])[0]
        log_sin, log_cos = log(sin(QUARTER * exp(low))), log(sin(QUARTER * exp(high)))
        x[j] = x[i] + log_sin - log(ring[k])
        x[i] += log_cos
        total += LOG_SLOPE - 0.5 * t[k] * t[k] - log_sin - log_cos
    return total


@internal
def ringed_back(g: F64, ring: F64, ring_at: I64, t: F64) -> None:
    """Adjoint of `ringed` and of its log Jacobian, in place."""
    for k in range(ring.size):
        i, j = ring_at[k, 0], ring_at[k, 1]
        low, high = log_normal_below(t[k])[0], log_normal_below(-t[k])[0]
        sine, cosine = sin(QUARTER * exp(low)), sin(QUARTER * exp(high))
        slope = exp(LOG_SLOPE - 0.5 * t[k] * t[k])
        turned = slope * ((g[j] - 1.0) * cosine / sine + (1.0 - g[i]) * sine / cosine) - t[k]
        g[i], g[j] = g[i] + g[j], turned
