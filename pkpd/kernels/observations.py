r"""Log density of measured and of censored values around predictions, with hand-derived gradients.

A row has a centre m (the prediction, or its logarithm) and a scale s; with u = (y - m)/s its log density is

    measured        log p(u) - log s            p standard normal, or Student t (scale s)
    below y         log Phi(u)                  method M3 of Beal (2001, J Pharmacokinet Pharmacodyn 28:481)
    above y         log Phi(-u)
    between l and y log(Phi(u) - Phi((l - m)/s))
    given y > 0     minus log Phi(m/s)          method M4, of every row of the output; below y is then between 0 and y
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import log
from pkpd.kernels.linking import internal
from pkpd.kernels.tails import log_normal_below, log_normal_between

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_HALF_LOG_2PI = 0.9189385332046727418
MEASURED, BELOW, ABOVE, BETWEEN = range(4)
POSITIVE = 4
"""Added to the kind of a row whose law is that of positive values."""
TIED = 8
"""Added to the kind of a row that is judged together with others (`kernels.together`)."""


@internal
def _usual(y: float, f: float, s: float, sb: float, logs: bool) -> tuple[float, float, float]:
    """A row that was measured with a normal error, scale s: log density, its slope in f, and in s over s (in log s's
    place where logs).
    """
    top, weight = log(y) if logs else 0.0, 1.0 / s
    u = (top - log(f)) * weight if logs else (y - f) * weight
    value = -0.5 * u * u - log(s) - top - _HALF_LOG_2PI
    slope = (u * u - 1.0) * weight
    if logs:
        return value, u * weight / f, slope
    slope *= weight
    return value, u * weight + slope * sb * sb * f, slope


@internal
def measured_residuals(
    y: F64, f: F64, output: I64, terms: I64, freedom: F64, kind: I64, floor: F64, sd: F64, gf: F64, gs: F64, each: F64
) -> float:  # fmt: skip
    """`residuals` where every row is measured and every error normal."""
    total = 0.0
    for r in range(y.size):
        o = output[r]
        a, b, c = terms[o, 0], terms[o, 1], terms[o, 2]
        sa = sd[a] if a >= 0 else 0.0
        sb = sd[b] if b >= 0 else 0.0
        s = sa if b < 0 else sb * np.abs(f[r])
        s = np.sqrt(sa * sa + sb * sb * f[r] * f[r]) if a >= 0 and b >= 0 else s
        s = sd[c] if c >= 0 else s
        value, gf[r], slope = _usual(y[r], f[r], s, sb, c >= 0)
        if c >= 0:
            gs[c] += slope
        else:
            if a >= 0:
                gs[a] += slope * sa
            if b >= 0:
                gs[b] += slope * sb * f[r] * f[r]
        total += value
        if each.size > 0:
            each[r] = value
    return total


@internal
def residuals(
    y: F64, f: F64, output: I64, terms: I64, freedom: F64, kind: I64, floor: F64, sd: F64, gf: F64, gs: F64, each: F64
) -> float:  # fmt: skip
    """Log density of the observations; gf (rows,) and gs (errors,), the gradients to predictions and sds.

    terms (outputs, 3): place in `sd` of the additive, the proportional and the log error, -1 where there is none;
    freedom (outputs, 2): degrees of freedom of a Student t, 0 for a normal, and the constant of its log density; kind
    (rows,): what a row says; floor (rows,): lower end of an interval; each: empty, or (rows,) for every row's density.
    """
    total = 0.0
    for r in range(y.size):
        if kind[r] >= TIED:
            continue
        o = output[r]
        a, b, c = terms[o, 0], terms[o, 1], terms[o, 2]
        logs = c >= 0
        sa = sd[a] if a >= 0 else 0.0
        sb = sd[b] if b >= 0 else 0.0
        s = sa if b < 0 else sb * np.abs(f[r])
        s = np.sqrt(sa * sa + sb * sb * f[r] * f[r]) if a >= 0 and b >= 0 else s
        s = sd[c] if logs else s
        if kind[r] == MEASURED and freedom[o, 0] <= 0.0:  # the usual row, on a short way
            value, gf[r], slope = _usual(y[r], f[r], s, sb, logs)
            if logs:
                gs[c] += slope
            else:
                if a >= 0:
                    gs[a] += slope * sa
                if b >= 0:
                    gs[b] += slope * sb * f[r] * f[r]
            total += value
            if each.size > 0:
                each[r] = value
            continue
        m = log(f[r]) if logs else f[r]
        value, gm, gscale = _row(y[r], m, s, kind[r], floor[r], freedom[o, 0], freedom[o, 1], logs)
        if logs:
            gf[r] = gm / f[r] if gm != 0.0 else 0.0
            gs[c] += gscale
        else:
            gf[r] = gm
            if a >= 0 and gscale != 0.0:
                gs[a] += gscale * (sa / s)
            if b >= 0 and gscale != 0.0:
                gf[r] += gscale * sb * (sb * f[r] / s)
                gs[b] += gscale * (sb * f[r] / s) * f[r]
        total += value
        if each.size > 0:
            each[r] = value
    return total


@internal
def _row(
    y: float, m: float, s: float, kind: int, floor: float, freedom: float, constant: float, logs: bool
) -> tuple[float, float, float]:  # fmt: skip
    """Log density of one row and its derivatives in m and s."""
    what = kind if kind < POSITIVE else kind - POSITIVE
    top = log(y) if logs else y
    u = (top - m) / s
    if what == MEASURED:
        value, gm, gs = _measured(u, s, freedom, constant)
        value -= top if logs else 0.0
    elif what == BELOW:
        value, h = log_normal_below(u)
        gm, gs = _scaled(-h, u, s)
    elif what == ABOVE:
        value, h = log_normal_below(-u)
        gm, gs = _scaled(h, u, s)
    else:
        bottom = log(floor) if logs else floor
        low = (bottom - m) / s
        value, ga, gb = log_normal_between(low, u)
        (gm, gs), (more, wider) = _scaled(-gb, u, s), _scaled(-ga, low, s)
        gm, gs = gm + more, gs + wider
    if kind >= POSITIVE:
        there, h = log_normal_below(m / s)
        value -= there
        gm -= h / s
        gs += h * (m / s) / s
    return value, gm, gs


@internal
def _scaled(g: float, u: float, s: float) -> tuple[float, float]:
    """Derivatives in m and s from minus that in u; a vanishing one stays so where u is infinite."""
    return (g / s, g * u / s) if g != 0.0 else (0.0, 0.0)


@internal
def _measured(u: float, s: float, freedom: float, constant: float) -> tuple[float, float, float]:
    """Normal, or Student t."""
    if freedom <= 0.0:
        return -0.5 * u * u - log(s) - _HALF_LOG_2PI, u / s, (u * u - 1.0) / s
    k = (freedom + 1.0) / (freedom + u * u)
    return constant - 0.5 * (freedom + 1.0) * log(1.0 + u * u / freedom) - log(s), k * u / s, (k * u * u - 1.0) / s
