"""Rates of events per person-time with intervals, their differences and ratios; arrays of counts and times, any shape.

Group 1 is treated, group 0 control; a rate is per unit of the times given. Sources: Garwood, Biometrika 1936;28:437
(exact interval of a Poisson mean); Miettinen & Nurminen, Stat Med 1985;4:213 (score interval of a rate difference);
Li, Tang & Wong, Comput Stat 2014;29:869, after Zou & Donner, Stat Med 2008;27:1693 (difference from two intervals, here
the exact ones); Przyborowski & Wilenski, Biometrika 1940;31:313 (exact ratio, conditional on the total).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.binary import Interval, _normal, clopper_pearson
from trials.analysis.survival_data import normal_p

__all__ = ["garwood", "rate_difference", "rate_difference_exact", "rate_difference_wald", "rate_ratio", "rate_wald"]

Floats = NDArray[np.float64]
_HALVINGS = 200


def _pairs(*flat: ArrayLike) -> list[Floats]:
    """Broadcast counts and times by turns; counts whole from 0, times from 0, no event without time."""
    arrays = [np.array(a, np.float64, order="C") for a in np.broadcast_arrays(*map(np.asarray, flat))]
    for x, time in zip(arrays[::2], arrays[1::2], strict=True):
        bad = ~((x >= 0) & (x == np.floor(x)) & (time >= 0) & ((time > 0) | (x == 0)))
        if bad.any():
            raise InputError("events must be whole numbers from 0, in person-time above 0", field="rates",
                             value=f"{x[bad][0]:g}/{time[bad][0]:g}")  # fmt: skip
    return arrays


def _rate(x: Floats, time: Floats) -> Floats:
    found: Floats = np.divide(x, time, out=np.full(x.shape, np.nan), where=time > 0)
    return found


def garwood(x: ArrayLike, time: ArrayLike, *, level: float = 0.95) -> Interval:
    """Rate with the exact interval, from gamma quantiles; without person-time (0, inf).

    >>> i = garwood(5, 1.205)
    >>> [round(float(v), 4) for v in (i.estimate, i.lower, i.upper)]
    [4.1494, 1.3473, 9.6833]
    """
    from scipy.special import gammaincinv

    events, span = _pairs(x, time)
    _normal(level)
    tail = 0.5 * (1.0 - level)
    low = np.where(events > 0, gammaincinv(np.maximum(events, 1.0), tail), 0.0)
    high = gammaincinv(events + 1.0, 1.0 - tail)
    with np.errstate(divide="ignore", invalid="ignore"):
        lower, upper = np.where(span > 0, low / span, 0.0), np.where(span > 0, high / span, np.inf)
    return Interval(estimate=_rate(events, span), lower=lower, upper=upper, p=np.full(events.shape, np.nan))


def rate_wald(x: ArrayLike, time: ArrayLike, *, level: float = 0.95) -> Interval:
    """Rate -/+ z sqrt(events)/time: no width without events, and below 0 with few; kept for comparison.

    >>> i = rate_wald(1, 0.101)
    >>> [round(float(v), 2) for v in (i.lower, i.upper)]
    [-9.5, 29.31]
    """
    events, span = _pairs(x, time)
    rate, half = _rate(events, span), _normal(level) * _rate(np.sqrt(events), span)
    return Interval(estimate=rate, lower=rate - half, upper=rate + half, p=np.full(rate.shape, np.nan))


def rate_difference(
    x1: ArrayLike, time1: ArrayLike, x0: ArrayLike, time0: ArrayLike, *, level: float = 0.95
) -> Interval:
    """x1/time1 - x0/time0 with the score interval (Miettinen & Nurminen 1985); p: score test of equal rates.

    >>> i = rate_difference(12, 100.0, 4, 100.0)
    >>> [round(float(v), 4) for v in (i.estimate, i.lower, i.upper, i.p)]
    [0.08, 0.0018, 0.1742, 0.0455]
    """
    counts = _pairs(x1, time1, x0, time0)
    z, difference = _normal(level), _rate(*counts[:2]) - _rate(*counts[2:])
    known = np.isfinite(difference)
    safe = [np.where(known, a, b) for a, b in zip(counts, (0.0, 1.0, 0.0, 1.0), strict=True)]
    lower, upper = (_limit(safe, sign * z) for sign in (1.0, -1.0))
    p = normal_p(_score(safe, np.zeros(difference.shape))).reshape(difference.shape)
    return Interval(estimate=difference, lower=np.where(known, lower, -np.inf), upper=np.where(known, upper, np.inf),
                    p=np.where(known, p, np.nan))  # fmt: skip


def _score(counts: list[Floats], delta: Floats) -> Floats:
    """Standardised distance of the difference from delta, the variance at the most likely rates that differ by delta.

    The control's rate r solves (t1 + t0) r^2 + ((t1 + t0) delta - x1 - x0) r - x0 delta = 0.
    """
    x1, t1, x0, t0 = counts
    total, half = t1 + t0, 0.5 * ((t1 + t0) * delta - x1 - x0)
    root = np.sqrt(half * half + total * x0 * delta)
    control = np.where(half > 0, _safe(x0 * delta, half + root), (root - half) / total)
    control = np.maximum(control, np.maximum(0.0, -delta))
    variance = (control + delta) / t1 + control / t0
    distance = x1 / t1 - x0 / t0 - delta
    z: Floats = np.divide(distance, np.sqrt(variance), out=np.zeros(delta.shape), where=variance > 0)
    return z


def _safe(top: Floats, bottom: Floats) -> Floats:
    found: Floats = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
    return found


def _limit(counts: list[Floats], z: float) -> Floats:
    """Where the score, falling in delta, is z: halving between the estimate and a point found by doubling."""
    x1, t1, x0, t0 = counts
    inner = x1 / t1 - x0 / t0
    step = -np.sign(z) * ((z * z + np.sqrt(x1 + 1.0)) / t1 + (z * z + np.sqrt(x0 + 1.0)) / t0)
    outer: Floats = inner + step
    for _ in range(_HALVINGS):
        short = np.abs(_score(counts, outer)) < abs(z)
        if not short.any():
            break
        step = np.where(short, 2.0 * step, step)
        outer = np.where(short, inner + step, outer)
    for _ in range(_HALVINGS):
        middle = 0.5 * (inner + outer)
        if ((middle == inner) | (middle == outer)).all():
            break
        near = np.abs(_score(counts, middle)) < abs(z)
        inner, outer = np.where(near, middle, inner), np.where(near, outer, middle)
    return outer


def rate_difference_wald(
    x1: ArrayLike, time1: ArrayLike, x0: ArrayLike, time0: ArrayLike, *, level: float = 0.95
) -> Interval:
    """x1/time1 - x0/time0 -/+ z standard errors; kept for comparison.

    >>> i = rate_difference_wald(12, 100.0, 4, 100.0)
    >>> [round(float(v), 4) for v in (i.lower, i.upper)]
    [0.0016, 0.1584]
    """
    a, s, b, t = _pairs(x1, time1, x0, time0)
    difference = _rate(a, s) - _rate(b, t)
    half = _normal(level) * np.sqrt(_rate(_rate(a, s), s) + _rate(_rate(b, t), t))
    return Interval(estimate=difference, lower=difference - half, upper=difference + half,
                    p=np.full(difference.shape, np.nan))  # fmt: skip


def rate_difference_exact(
    x1: ArrayLike, time1: ArrayLike, x0: ArrayLike, time0: ArrayLike, *, level: float = 0.95
) -> Interval:
    """x1/time1 - x0/time0 with the interval that two exact intervals give (conservative, as they are).

    >>> i = rate_difference_exact(12, 100.0, 4, 100.0)
    >>> [round(float(v), 4) for v in (i.lower, i.upper)]
    [-0.0052, 0.1742]
    """
    a, s, b, t = _pairs(x1, time1, x0, time0)
    one, zero = garwood(a, s, level=level), garwood(b, t, level=level)
    difference = one.estimate - zero.estimate
    with np.errstate(invalid="ignore"):
        down = np.hypot(one.estimate - one.lower, zero.upper - zero.estimate)
        up = np.hypot(one.upper - one.estimate, zero.estimate - zero.lower)
    known = np.isfinite(difference)
    return Interval(estimate=difference, lower=np.where(known, difference - down, -np.inf),
                    upper=np.where(known, difference + up, np.inf), p=np.full(difference.shape, np.nan))  # fmt: skip


def rate_ratio(x1: ArrayLike, time1: ArrayLike, x0: ArrayLike, time0: ArrayLike, *, level: float = 0.95) -> Interval:
    """(x1/time1)/(x0/time0) with the exact interval conditional on x1 + x0; no event at all: NaN, (0, inf).

    >>> i = rate_ratio(12, 100.0, 4, 100.0)
    >>> [round(float(v), 3) for v in (i.estimate, i.lower, i.upper)]
    [3.0, 0.909, 12.762]
    """
    a, s, b, t = _pairs(x1, time1, x0, time0)
    share = clopper_pearson(a, a + b, level=level)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = (a / s) / (b / t)
        scale = t / s
        lower, upper = share.lower / (1.0 - share.lower) * scale, share.upper / (1.0 - share.upper) * scale
    none = (a + b == 0) | (s == 0) | (t == 0)
    return Interval(estimate=np.where(none, np.nan, estimate), lower=np.where(none, 0.0, lower),
                    upper=np.where(none, np.inf, upper), p=np.full(a.shape, np.nan))  # fmt: skip
