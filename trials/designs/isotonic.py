"""The maximum tolerated dose by isotonic regression of observed toxicity rates.

Estimates (y + a)/(n + 2 a) are made non-decreasing in dose, weighted by the inverse of their Beta variance; the dose
closest to the target is recommended, of equal ones the higher below the target and the lower above it. Doses without
subjects and eliminated doses do not count. Source: Ji et al., Clin Trials 2010;7:653 (a = 0.005); Liu & Yuan, J R
Stat Soc C 2015;64:507 (a = 0.05). Isotonic fit: the max-min formula, Barlow et al., Statistical Inference under Order
Restrictions (1972), 1.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trials.designs.escalation import STOP

__all__ = ["closest_to_target", "isotonic", "too_toxic"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def isotonic(values: ArrayLike, weights: ArrayLike) -> Floats:
    """Non-decreasing weighted least-squares fit along the last axis (S, D); places of weight 0 are NaN.

    >>> isotonic([[0.2, 0.1, 0.4]], [[1.0, 1.0, 1.0]]).round(12).tolist()
    [[0.15, 0.15, 0.4]]
    """
    y, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    doses = y.shape[-1]
    best = np.full((*y.shape[:-1], doses), -np.inf)
    total = np.where(w > 0, y * w, 0.0)
    for first in range(doses):
        top, bottom = total[..., first:].cumsum(axis=-1), w[..., first:].cumsum(axis=-1)
        average = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.inf)
        lowest = np.minimum.accumulate(average[..., ::-1], axis=-1)[..., ::-1]
        best[..., first:] = np.maximum(best[..., first:], np.where(np.isfinite(lowest), lowest, -np.inf))
    return np.where(w > 0, best, np.nan)


def too_toxic(n: ArrayLike, toxic: ArrayLike, *, target: float, cutoff: float = 0.95, least: int = 3) -> Flags:
    """P(p > target | data) > `cutoff` under a uniform prior, where at least `least` subjects were treated.

    >>> bool(too_toxic(3, 3, target=0.3)), bool(too_toxic(3, 2, target=0.3))
    (True, False)
    """
    from scipy.special import betainc

    size, events = np.asarray(n, dtype=np.float64), np.asarray(toxic, dtype=np.float64)
    above = 1.0 - betainc(events + 1.0, size - events + 1.0, target)
    return np.asarray((size >= least) & (above > cutoff), dtype=np.bool_)


def closest_to_target(n: Ints, toxic: Ints, *, target: float, admissible: Flags, a: float = 0.05) -> Ints:
    """The recommended dose (S,) from 0, or STOP where no admissible dose has subjects. n, toxic, admissible (S, D)."""
    count = n + 2.0 * a
    rate = (toxic + a) / count
    variance = (toxic + a) * (n - toxic + a) / (count**2 * (count + 1.0))
    used = admissible & (n > 0)
    fit = isotonic(np.where(used, rate, 0.0), np.where(used, 1.0 / variance, 0.0))
    step = 1e-10 * np.arange(1, n.shape[1] + 1)  # of equal estimates: the higher below the target, the lower above it
    distance = np.where(used, np.abs(fit + step - target), np.inf)
    return np.where(used.any(axis=1), distance.argmin(axis=1), STOP)
