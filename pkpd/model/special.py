"""sin, cos, log gamma and factorial over arrays, from +, -, *, / and our own exp and log: the same bits everywhere."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["cos", "digamma", "factorial", "lgamma", "sin", "trigamma"]

Floats = NDArray[np.float64]

# argument reduction in three parts and polynomials of fdlibm (Sun, 1993): e_rem_pio2.c, k_sin.c, k_cos.c
_PARTS: Final = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_SIN: Final = (
    1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06, -1.98412698298579493134e-04,
    8.33333333332248946124e-03, -1.66666666666666324348e-01,
)  # fmt: skip
_COS: Final = (
    -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05,
    -1.38888888888741095749e-03, 4.16666666666666019037e-02,
)  # fmt: skip
_LARGEST: Final = 1e6
_FACTORIALS: Final = np.array([float(math.factorial(n)) for n in range(171)])
_STIRLING: Final = (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_DIGAMMA: Final = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)
_TRIGAMMA: Final = (7 / 6, -691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6)


def _polynomial(coefficients: tuple[float, ...], z: Floats) -> Floats:
    total = np.full_like(z, coefficients[0])
    for c in coefficients[1:]:
        total = total * z + c
    return total


def _reduced(x: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """x = r + k pi/2 with |r| <= pi/4; NaN beyond 10^6, where an angle means nothing."""
    x = np.where(np.abs(x) <= _LARGEST, x, np.nan)
    k = np.rint(x * 0.6366197723675814)
    r = ((x - k * _PARTS[0]) - k * _PARTS[1]) - k * _PARTS[2]
    return r, np.where(np.isnan(k), 0.0, k).astype(np.int64)


def _quarters(x: Floats, turn: int) -> Floats:
    r, k = _reduced(np.asarray(x, np.float64))
    z, quarter = r * r, (k + turn) & 3
    s = r + r * z * _polynomial(_SIN, z)
    c = (1.0 - 0.5 * z) + z * z * _polynomial(_COS, z)
    value = np.where(quarter & 1, c, s)
    return np.asarray(np.where(quarter & 2, -value, value))


def sin(x: Floats) -> Floats:
    """Sine of an angle in radians, |x| <= 10^6 (NaN beyond); absolute error below 1e-15.

    >>> sin(np.array([0.0])).tolist()
    [0.0]
    """
    return _quarters(x, 0)


def cos(x: Floats) -> Floats:
    """Cosine; see `sin`."""
    return _quarters(x, 1)


def lgamma(x: Floats) -> Floats:
    """Logarithm of the gamma function for x > 0 (NaN elsewhere): recurrence to x >= 10, then Stirling's series."""
    from pkpd.kernels.elementary import log_array

    y = np.where(np.asarray(x, np.float64) > 0.0, x, np.nan)
    product = np.ones_like(y)
    for _ in range(10):
        small = y < 10.0
        product = np.where(small, product * y, product)
        y = np.where(small, y + 1.0, y)
    inverse = 1.0 / y
    series = _polynomial(_STIRLING, inverse * inverse) * inverse
    return np.asarray((y - 0.5) * log_array(y) - y + 0.9189385332046727418 + series - log_array(product))


def factorial(x: Floats) -> Floats:
    """x! exactly for whole x to 170, else the gamma function of x + 1; NaN for x <= -1.

    >>> factorial(np.array([0.0, 5.0])).tolist()
    [1.0, 120.0]
    """
    from pkpd.kernels.elementary import exp_array

    y = np.asarray(x, np.float64)
    whole = (y == np.floor(y)) & (y >= 0.0) & (y <= 170.0)
    table = _FACTORIALS[np.where(whole, y, 0.0).astype(np.int64)]
    return np.asarray(np.where(whole, table, exp_array(lgamma(y + 1.0))))


def digamma(x: Floats) -> Floats:
    """Derivative of log gamma for x > 0 (NaN elsewhere); Abramowitz & Stegun 6.3.18 after recurrence to x >= 10."""
    from pkpd.kernels.elementary import log_array

    y = np.where(np.asarray(x, np.float64) > 0.0, x, np.nan)
    total = np.zeros_like(y)
    for _ in range(10):
        small = y < 10.0
        total = np.where(small, total + 1.0 / y, total)
        y = np.where(small, y + 1.0, y)
    z = 1.0 / (y * y)
    return np.asarray(log_array(y) - 0.5 / y - _polynomial(_DIGAMMA, z) * z - total)


def trigamma(x: Floats) -> Floats:
    """Second derivative of log gamma for x > 0 (NaN elsewhere); Abramowitz & Stegun 6.4.12."""
    y = np.where(np.asarray(x, np.float64) > 0.0, x, np.nan)
    total = np.zeros_like(y)
    for _ in range(10):
        small = y < 10.0
        total = np.where(small, total + 1.0 / (y * y), total)
        y = np.where(small, y + 1.0, y)
    inverse = 1.0 / y
    z = inverse * inverse
    return np.asarray(inverse + 0.5 * z + _polynomial(_TRIGAMMA, z) * z * inverse + total)
