"""Inference after a group-sequential trial: p-value, median-unbiased estimate, exact limits, repeated intervals.

Stage-wise ordering: of two trials that stopped for efficacy the one that stopped earlier says more; at one look the
larger statistic does. Armitage, Biometrika 1957;44:9; Fairbanks & Madsen, Biometrika 1982;69:69; Tsiatis, Rosner &
Mehta, Biometrics 1984;40:797; repeated intervals: Jennison & Turnbull, JRSS B 1989;51:305. The joint law is that of
`trials.designs.recursion`; under another drift the density of the null is tilted, so that one pass serves every trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from trials.designs.recursion import START, Front, advance
from trials.designs.sequential import regions

__all__ = ["Ordering", "drift_at", "exceedance", "ordering"]

Floats = NDArray[np.float64]
WIDEST, HALVINGS = 14.0, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Critical values `upper` (K) and the fronts before each look under no effect; `information` (K) in any unit."""

    information: tuple[float, ...]
    upper: tuple[float, ...]
    fronts: tuple[Front, ...]


def ordering(information: Sequence[float], upper: Sequence[float], lower: Sequence[float], *, sides: int) -> Ordering:
    """Looks at `information` at which a trial goes on between `lower` and `upper` (two sides: -upper and upper).

    lower: futility bounds that count (-inf where none do); a look that never took place has an upper bound of inf.
    """
    fronts, front = [], START
    for k in range(len(upper)):
        fronts.append(front)
        if k + 1 < len(upper):
            ahead = float(information[k + 1])
            low, high = max(lower[k], -40.0), min(upper[k], 40.0)
            front = advance(front, float(information[k]), regions(low, high, sides), ahead=ahead)
    return Ordering(information=tuple(information), upper=tuple(upper), fronts=tuple(fronts))


def exceedance(order: Ordering, look: int, z: Floats, drift: Floats) -> Floats:
    """P(a result at least as large as z at `look` (from 0)) under a drift (R): the mean of the statistic at that look.

    >>> order = ordering((1.0,), (1.96,), (-np.inf,), sides=1)
    >>> exceedance(order, 0, np.array([1.959964]), np.array([0.0])).round(6).tolist()
    [0.025]
    """
    now, total = order.information[look], np.zeros(np.shape(z))
    for k in range(look + 1):
        share = order.information[k] / now
        bound = z if k == look else np.full(np.shape(z), order.upper[k])
        total = total + _above(order.fronts[k], order.information[k], bound, drift * np.sqrt(share))
    return np.asarray(total)


def _above(front: Front, information: float, bound: Floats, drift: Floats) -> Floats:
    """P(still going and the statistic at `information` is >= bound (R)) under drifts (R) at that look."""
    share = front.information / information
    before = drift[:, None] * np.sqrt(share)  # drift at the look before
    tilt = np.exp(np.minimum(before * front.z - before * before / 2, 700.0))
    mean = front.z * np.sqrt(share) + drift[:, None] * (1 - share)
    return np.asarray(np.sum(tilt * front.mass * ndtr((mean - bound[:, None]) / np.sqrt(1 - share)), axis=1))


def drift_at(order: Ordering, look: int, z: Floats, level: float) -> Floats:
    """The drift at which a result at least as large has probability `level` (R), by bisection; NaN where z is.

    level 1/2 is the median-unbiased estimate; alpha and 1 - alpha are the limits of an exact interval.

    >>> order = ordering((1.0,), (1.96,), (-np.inf,), sides=1)
    >>> drift_at(order, 0, np.array([2.0]), 0.5).round(6).tolist()
    [2.0]
    """
    low, high = z - WIDEST, z + WIDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        under = exceedance(order, look, z, middle) < level
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.asarray(np.where(np.isfinite(z), (low + high) / 2, np.nan))
