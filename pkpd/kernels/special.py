"""sin, cos, log gamma, factorial and the derivatives of log gamma for generated code; inlined, branch-free.

The operations of `pkpd.model.special` in the same order, without fused multiply-adds: the same bits as NumPy's.
Sources: reduction and polynomials of fdlibm (Sun, 1993); Stirling's series, Abramowitz & Stegun 6.1.41, 6.3.18, 6.4.12.
"""

from __future__ import annotations

import math

import numpy as np

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import inlined

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to the nearest integer
_LARGEST = 1e6
_FACTORIALS = np.array([float(math.factorial(n)) for n in range(171)])


@inlined
def _quarters(x: float, turn: float) -> float:
    x = x if -_LARGEST <= x <= _LARGEST else np.nan
    k = (x * 0.6366197723675814 + _SHIFT) - _SHIFT
    r = ((x - k * 1.57079632673412561417e00) - k * 6.07710050630396597660e-11) - k * 2.02226624879595063154e-21
    z = r * r
    s = 1.58969099521155010221e-10 * z + -2.50507602534068634195e-08
    s = s * z + 2.75573137070700676789e-06
    s = s * z + -1.98412698298579493134e-04
    s = s * z + 8.33333333332248946124e-03
    s = s * z + -1.66666666666666324348e-01
    s = r + r * z * s
    c = -1.13596475577881948265e-11 * z + 2.08757232129817482790e-09
    c = c * z + -2.75573143513906633035e-07
    c = c * z + 2.48015872894767294178e-05
    c = c * z + -1.38888888888741095749e-03
    c = c * z + 4.16666666666666019037e-02
    c = (1.0 - 0.5 * z) + z * z * c
    turned = k + turn
    quarter = turned - 4.0 * np.floor(0.25 * turned)
    value = c if (quarter == 1.0 or quarter == 3.0) else s
    return -value if quarter >= 2.0 else value


@inlined
def sin(x: float) -> float:
    """Sine of an angle in radians, |x| <= 10^6 (NaN beyond)."""
    return _quarters(x, 0.0)


@inlined
def cos(x: float) -> float:
    """Cosine of an angle in radians, |x| <= 10^6 (NaN beyond)."""
    return _quarters(x, 1.0)


@inlined
def lgamma(x: float) -> float:
    """log of the gamma function for x > 0, NaN elsewhere."""
    y = x if x > 0.0 else np.nan
    product = 1.0
    for _ in range(10):
        small = y < 10.0
        product = product * y if small else product
        y = y + 1.0 if small else y
    inverse = 1.0 / y
    z = inverse * inverse
    series = (1 / 156) * z + (-691 / 360360)
    series = series * z + (1 / 1188)
    series = series * z + (-1 / 1680)
    series = series * z + (1 / 1260)
    series = series * z + (-1 / 360)
    series = (series * z + (1 / 12)) * inverse
    return (y - 0.5) * log(y) - y + 0.9189385332046727418 + series - log(product)


@inlined
def factorial(x: float) -> float:
    """x! exactly for whole x to 170, else the gamma function of x + 1; NaN for x <= -1."""
    whole = x == np.floor(x) and 0.0 <= x <= 170.0
    exact = _FACTORIALS[np.int64(x if whole else 0.0)]
    value = exp(lgamma(x + 1.0))
    return exact if whole else value


@inlined
def digamma(x: float) -> float:
    """Derivative of log gamma for x > 0, NaN elsewhere."""
    y = x if x > 0.0 else np.nan
    total = 0.0
    for _ in range(10):
        small = y < 10.0
        total = total + 1.0 / y if small else total
        y = y + 1.0 if small else y
    z = 1.0 / (y * y)
    series = (1 / 12) * z + (-691 / 32760)
    series = series * z + (1 / 132)
    series = series * z + (-1 / 240)
    series = series * z + (1 / 252)
    series = series * z + (-1 / 120)
    series = (series * z + (1 / 12)) * z
    return log(y) - 0.5 / y - series - total


@inlined
def trigamma(x: float) -> float:
    """Second derivative of log gamma for x > 0, NaN elsewhere."""
    y = x if x > 0.0 else np.nan
    total = 0.0
    for _ in range(10):
        small = y < 10.0
        total = total + 1.0 / (y * y) if small else total
        y = y + 1.0 if small else y
    inverse = 1.0 / y
    z = inverse * inverse
    series = (7 / 6) * z + (-691 / 2730)
    series = series * z + (5 / 66)
    series = series * z + (-1 / 30)
    series = series * z + (1 / 42)
    series = series * z + (-1 / 30)
    series = (series * z + (1 / 6)) * z * inverse
    return inverse + 0.5 * z + series + total
