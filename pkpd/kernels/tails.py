r"""Probabilities of a standard normal far in its tails: log Phi, its derivative, log of an interval; inlined.

For z <= 0, Phi(z) = e^(-z^2/2) w(-z/sqrt 2)/2 with w(x) = e^(x^2) erfc x, so that log Phi and phi/Phi keep their digits
where Phi underflows. w by one Chebyshev series for all x >= 0: (1 + 2x) w(x) in t = (x - 3.75)/(x + 3.75), the form of
Shepherd & Laframboise (1981, Math Comp 36:249); coefficients computed with 50 digits. Relative error of log Phi and
phi/Phi below 1e-13 for z > -30, 1e-12 everywhere (tests, against mpmath).
"""

from __future__ import annotations

import numpy as np

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.linking import internal

_HALF_LOG_2PI = 0.9189385332046727418
_SQRT_HALF = 0.7071067811865475244
_SQRT_2_OVER_PI = 0.7978845608028653559
_SERIES = np.array(
    [
        1.1775789345674017, -0.004590054580646478, -0.08424913336651792, 0.05920993999819189, -0.026658668435305753,
        0.009074997670705265, -0.002413163540417608, 0.0004907758365258086, -6.916973302501207e-05,
        4.13902798607301e-06, 7.74038306619849e-07, -2.1886401049234397e-07, 1.076499946567091e-08,
        4.521959811218287e-09, -7.754400208831351e-10, -6.318088340886684e-11, 2.86879501093067e-11,
        1.9455868545777347e-13, -9.65469674843344e-13, 3.25254814814874e-14, 3.3478119482868056e-14,
        -1.864562880419313e-15, -1.2507950530688648e-15, 7.418235256624044e-17, 5.068148904796111e-17,
    ]
)  # fmt: skip


@internal
def scaled_erfc(x: float) -> float:
    """e^(x^2) erfc x for x >= 0."""
    x = 1e150 if x > 1e150 else x
    t = (x - 3.75) / (x + 3.75)
    a = b = 0.0
    for k in range(_SERIES.size - 1, 0, -1):
        a, b = _SERIES[k] + 2.0 * t * a - b, a
    return float(_SERIES[0] + t * a - b) / (1.0 + 2.0 * x)


@internal
def log_one_minus(q: float) -> float:
    """log(1 - q) for 0 <= q <= 1 without cancellation (Kahan's quotient)."""
    u = 1.0 - q
    return -q if u == 1.0 else log(u) * (q / (1.0 - u))


@internal
def log_normal_below(z: float) -> tuple[float, float]:
    """log Phi(z) and its derivative phi(z)/Phi(z)."""
    w = scaled_erfc(abs(z) * _SQRT_HALF)
    if z <= 0.0:
        return log(0.5 * w) - 0.5 * z * z, _SQRT_2_OVER_PI / w
    small = exp(-0.5 * z * z)
    q = 0.5 * w * small
    return log_one_minus(q), 0.5 * _SQRT_2_OVER_PI * small / (1.0 - q)


@internal
def log_normal_between(a: float, b: float) -> tuple[float, float, float]:
    """log(Phi(b) - Phi(a)) for a < b, and its derivatives in a (negative) and b."""
    if a > 0.0:
        value = _log_between_low(-b, -a)
    elif b > 0.0:
        value = log_one_minus(exp(log_normal_below(a)[0]) + exp(log_normal_below(-b)[0]))
    else:
        value = _log_between_low(a, b)
    return value, -exp(-0.5 * a * a - _HALF_LOG_2PI - value), exp(-0.5 * b * b - _HALF_LOG_2PI - value)


@internal
def _log_between_low(a: float, b: float) -> float:
    """The same for b <= 0: log Phi(b) + log(1 - Phi(a)/Phi(b))."""
    low, high = log_normal_below(a)[0], log_normal_below(b)[0]
    return high + log(-_less_one(low - high))


@internal
def _less_one(x: float) -> float:
    """e^x - 1 for x <= 0 without cancellation (Kahan's quotient)."""
    u = exp(x)
    if u == 1.0:
        return x
    return -1.0 if u < 1e-17 else (u - 1.0) * (x / log(u))
