r"""Areas under profiles, and under their first moment, by the trapezoidal rules; interpolation by the same rules.

Linear segment: AUC = (c1 + c2) dt/2, AUMC = (t1 c1 + t2 c2) dt/2 (the customary rule of the moment curve).
Logarithmic, L = ln(c1/c2): AUC = dt (c1 - c2)/L, AUMC = t1 AUC + dt^2 (m - c2)/L, m = (c1 - c2)/L.
Tail from (t, C) with rate k: AUC = C/k, AUMC = t C/k + C/k^2.
Source: Gabrielsson J, Weiner D. Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed. 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from pkpd.exposure.profiles import F64, Profiles
from pkpd.exposure.rules import Method

__all__ = ["Segments", "Tail", "areas", "segments", "tail_areas", "value_at"]

Mask = NDArray[np.bool_]
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(10))
_MOMENT = tuple(1.0 / (factorial(k) * (k + 2)) for k in range(13))
Tail = tuple[F64, F64, F64]
"""Time, concentration and rate constant [1/time] from which a profile is extrapolated; (n,) each."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Start (t1, c1) and end (t2, c2) of each segment (n, M - 1), and where the logarithmic rule holds.

    An absent segment has no length (t1 = t2 = -1), so that it has no area.
    """

    t1: F64
    c1: F64
    t2: F64
    c2: F64
    log_rule: Mask

    def picked(self, column: NDArray[np.intp]) -> Segments:
        """One segment per row, (n, 1)."""
        t1, c1, t2, c2 = (np.take_along_axis(x, column[:, None], axis=1) for x in (self.t1, self.c1, self.t2, self.c2))
        return Segments(t1, c1, t2, c2, np.take_along_axis(self.log_rule, column[:, None], axis=1))


def segments(p: Profiles, method: Method, tmax: F64) -> Segments:
    """Segments of profiles under a trapezoidal rule; tmax (n,) is where `linear-log` changes."""
    t1, c1, t2, c2 = p.time[:, :-1], p.conc[:, :-1], p.time[:, 1:], p.conc[:, 1:]
    there = ~np.isnan(t2)
    t1, t2 = np.where(there, t1, -1.0), np.where(there, t2, -1.0)
    c1, c2 = np.where(there, c1, 1.0), np.where(there, c2, 1.0)
    log_rule: Mask = (c1 > 0.0) & (c2 > 0.0) & (c1 != c2)
    if method == "linear-up/log-down":
        log_rule &= c2 < c1
    elif method == "linear-log":
        log_rule &= t1 >= tmax[:, None]
    elif method == "linear":
        log_rule &= False
    return Segments(t1, c1, t2, c2, log_rule)


def areas(s: Segments, start: F64, end: F64) -> tuple[F64, F64]:
    """AUC and AUMC of the sampled part of [start, end] (n,), profile ends cut by interpolation."""
    lo, hi = np.clip(start[:, None], s.t1, s.t2), np.clip(end[:, None], s.t1, s.t2)
    part = hi > lo
    a, b = np.where(part, _between(s, lo), 1.0), np.where(part, _between(s, hi), 1.0)
    cut = Segments(np.where(part, lo, 0.0), a, np.where(part, hi, 0.0), b, s.log_rule & part)
    auc, aumc = _segment_areas(cut)
    return _row_sums(auc), _row_sums(aumc)


def _row_sums(x: F64) -> F64:
    """Sums from left to right, so that a row's bits depend neither on other rows nor on how long they are."""
    total = np.zeros(len(x))
    for j in range(x.shape[1]):
        total = total + x[:, j]
    return total


def tail_areas(tail: Tail, start: F64, end: F64 | None = None) -> tuple[F64, F64]:
    """AUC and AUMC of the extrapolated part of [start, end] (to infinity if None); 0 where it is empty.

    NaN where the part is not empty and the rate is NaN; a concentration of zero has no tail.
    """
    time, conc, rate = tail
    begin = np.maximum(start, time)
    at_begin = _decayed(tail, begin)
    auc, aumc = at_begin / rate, at_begin * (begin / rate + 1.0 / (rate * rate))
    if end is None:
        return auc, aumc
    stop = np.maximum(end, begin)
    at_stop = _decayed(tail, stop)
    empty = (stop <= begin) | (conc == 0.0)
    auc = (at_begin - at_stop) / rate
    aumc = aumc - at_stop * (stop / rate + 1.0 / (rate * rate))
    return np.where(empty, 0.0, auc), np.where(empty, 0.0, aumc)


def value_at(s: Segments, tail: Tail, at: F64) -> F64:
    """Concentration at a time (n,): sampled, interpolated by the rule of its segment, or extrapolated."""
    inside = (s.t1 <= at[:, None]) & (at[:, None] <= s.t2)
    if not inside.shape[1]:
        return np.where(at >= tail[0], _decayed(tail, at), np.nan)
    between = _between(s.picked(np.argmax(inside, axis=1)), at[:, None])[:, 0]
    return np.where(np.any(inside, axis=1), between, np.where(at >= tail[0], _decayed(tail, at), np.nan))


def _decayed(tail: Tail, at: F64) -> F64:
    from pkpd.kernels.elementary import exp_array

    time, conc, rate = tail
    return np.where(conc == 0.0, 0.0, np.where(at == time, conc, conc * exp_array(-rate * (at - time))))


def _between(s: Segments, at: F64) -> F64:
    from pkpd.kernels.elementary import exp_array, log_array

    width = np.where(s.t2 > s.t1, s.t2 - s.t1, 1.0)
    share = np.where(s.t2 > s.t1, (at - s.t1) / width, 0.0)
    ratio = np.where(s.log_rule, s.c2, 1.0) / np.where(s.log_rule, s.c1, 1.0)
    curved = s.c1 * exp_array(share * log_array(ratio))
    value = np.where(s.log_rule, curved, s.c1 + share * (s.c2 - s.c1))
    return np.where(at == s.t1, s.c1, np.where(at == s.t2, s.c2, value))


def _segment_areas(s: Segments) -> tuple[F64, F64]:
    dt = s.t2 - s.t1
    mean, moment = _log_means(np.where(s.log_rule, s.c1, 2.0), np.where(s.log_rule, s.c2, 1.0))
    auc, straight = 0.5 * (s.c1 + s.c2) * dt, 0.5 * (s.t1 * s.c1 + s.t2 * s.c2) * dt
    curved = dt * mean
    return np.where(s.log_rule, curved, auc), np.where(s.log_rule, s.t1 * curved + dt * dt * moment, straight)


def _log_means(c1: F64, c2: F64) -> tuple[F64, F64]:
    """Integrals over u in [0, 1] of c = c1 (c2/c1)^u and of u c, without cancellation as c1 -> c2."""
    from pkpd.kernels.elementary import log_array

    x = (c1 - c2) / (c1 + c2)
    near = np.abs(x) < 0.1
    slope = _polynomial(np.where(near, x * x, 0.0), _ATANH)  # atanh(x)/x
    length = np.where(near, 2.0 * x * slope, log_array(c1 / c2))
    safe = np.where(near, 1.0, length)
    mean = np.where(near, 0.5 * (c1 + c2) / slope, (c1 - c2) / safe)
    series = _polynomial(np.where(near, -length, 0.0), _MOMENT)
    return mean, np.where(near, c1 * series, (mean - c2) / safe)


def _polynomial(x: F64, terms: tuple[float, ...]) -> F64:
    total = np.full(x.shape, terms[-1])
    for term in terms[-2::-1]:
        total = total * x + term
    return total
