"""Risks and their differences and ratios, with intervals; arrays of counts, any shape.

Group 1 is treated, group 0 control. Sources: Miettinen & Nurminen, Stat Med 1985;4:213; Newcombe, Stat Med
1998;17:873 (method 10, from Wilson's intervals); Wilson, JASA 1927;22:209; Clopper & Pearson, Biometrika 1934;26:404.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Interval", "clopper_pearson", "miettinen_nurminen", "miettinen_nurminen_ratio", "newcombe", "wilson"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Estimate with its two-sided interval; arrays of one shape. `p`: score test of no effect, NaN where not defined.

    No subjects in a group: estimate NaN, the interval is the parameter's whole range.
    """

    estimate: Floats
    lower: Floats
    upper: Floats
    p: Floats


def _counts(*pairs: tuple[ArrayLike, ArrayLike]) -> list[Floats]:
    """Broadcast, check 0 <= x <= n, whole numbers."""
    flat = [np.asarray(value, dtype=np.float64) for pair in pairs for value in pair]
    arrays = [np.array(a, order="C") for a in np.broadcast_arrays(*flat)]
    for x, n in zip(arrays[::2], arrays[1::2], strict=True):
        bad = ~((x >= 0) & (x <= n) & (x == np.floor(x)) & (n == np.floor(n)))
        if bad.any():
            raise InputError("events must be whole and between 0 and the number of subjects", field="counts",
                             value=f"{x[bad][0]:g}/{n[bad][0]:g}")  # fmt: skip
    return arrays


def _normal(level: float) -> float:
    from pkpd.kernels.philox import quantile_array

    if not 0.0 < level < 1.0:
        raise InputError("must be between 0 and 1", field="level", value=level)
    return float(quantile_array(np.array([0.5 + 0.5 * level]))[0])


def _risk(x: Floats, n: Floats) -> Floats:
    risk: Floats = np.divide(x, n, out=np.full(x.shape, np.nan), where=n > 0)
    return risk


def _score(counts: list[Floats], level: float, *, ratio: bool) -> tuple[Floats, Floats, Floats]:
    from trials.kernels.score import intervals

    shape = counts[0].shape
    lower, upper, p = (np.empty(counts[0].size) for _ in range(3))
    x1, n1, x0, n0 = (a.reshape(-1) for a in counts)
    intervals(x1, n1, x0, n0, _normal(level), ratio, lower, upper, p)
    return lower.reshape(shape), upper.reshape(shape), p.reshape(shape)


def miettinen_nurminen(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, level: float = 0.95) -> Interval:
    """Risk difference x1/n1 - x0/n0 with the score interval, factor N/(N-1) included.

    Where the score never reaches the quantile the limit is -1 or 1. InputError for counts that are not counts.

    >>> i = miettinen_nurminen(56, 70, 48, 80)
    >>> [round(float(v), 4) for v in (i.estimate, i.lower, i.upper)]
    [0.2, 0.0528, 0.3382]
    """
    counts = _counts((x1, n1), (x0, n0))
    lower, upper, p = _score(counts, level, ratio=False)
    return Interval(estimate=_risk(*counts[:2]) - _risk(*counts[2:]), lower=lower, upper=upper, p=p)


def miettinen_nurminen_ratio(
    x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, level: float = 0.95
) -> Interval:
    """Risk ratio (x1/n1)/(x0/n0) with the score interval; 0 and inf are possible limits; 0/0 gives NaN, (0, inf).

    >>> i = miettinen_nurminen_ratio(36, 40, 16, 80)
    >>> [round(float(v), 2) for v in (i.estimate, i.lower, i.upper)]
    [4.5, 2.93, 7.17]
    """
    counts = _counts((x1, n1), (x0, n0))
    low, high, p = _score(counts, level, ratio=True)
    treated, control = _risk(*counts[:2]), _risk(*counts[2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return Interval(estimate=treated / control, lower=low / (1.0 - low), upper=high / (1.0 - high), p=p)


def wilson(x: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Single risk with Wilson's score interval.

    >>> i = wilson(0, 10)
    >>> [round(float(v), 4) for v in (i.lower, i.upper)]
    [0.0, 0.2775]
    """
    events, size = _counts((x, n))
    z = _normal(level)
    some = np.maximum(size, 1.0)
    p = events / some
    half = z * np.sqrt(p * (1 - p) / some + z * z / (4 * some * some))
    centre, scale = p + z * z / (2 * some), 1 + z * z / some
    lower = np.where((events == 0) | (size == 0), 0.0, (centre - half) / scale)
    upper = np.where(events == size, 1.0, (centre + half) / scale)
    return Interval(estimate=_risk(events, size), lower=lower, upper=upper, p=np.full(p.shape, np.nan))


def newcombe(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, level: float = 0.95) -> Interval:
    """Risk difference with Newcombe's hybrid score interval (method 10, no continuity correction).

    >>> i = newcombe(56, 70, 48, 80)
    >>> [round(float(v), 4) for v in (i.lower, i.upper)]
    [0.0524, 0.3339]
    """
    counts = _counts((x1, n1), (x0, n0))
    one, zero = wilson(*counts[:2], level=level), wilson(*counts[2:], level=level)
    difference = one.estimate - zero.estimate
    down = np.sqrt((one.estimate - one.lower) ** 2 + (zero.upper - zero.estimate) ** 2)
    up = np.sqrt((one.upper - one.estimate) ** 2 + (zero.estimate - zero.lower) ** 2)
    empty = np.isnan(difference)
    lower, upper = np.where(empty, -1.0, difference - down), np.where(empty, 1.0, difference + up)
    return Interval(estimate=difference, lower=lower, upper=upper, p=np.full(empty.shape, np.nan))


def clopper_pearson(x: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Single risk with the exact interval, from beta quantiles.

    >>> i = clopper_pearson(0, 10)
    >>> [round(float(v), 4) for v in (i.lower, i.upper)]
    [0.0, 0.3085]
    """
    from scipy.special import betaincinv

    events, size = _counts((x, n))
    _normal(level)
    tail = 0.5 * (1.0 - level)
    rest = size - events
    lower = np.where(events == 0, 0.0, betaincinv(np.maximum(events, 1.0), rest + 1.0, tail))
    upper = np.where(rest == 0, 1.0, betaincinv(events + 1.0, np.maximum(rest, 1.0), 1.0 - tail))
    return Interval(estimate=_risk(events, size), lower=lower, upper=upper, p=np.full(events.shape, np.nan))
