"""Normal and Student t tail probabilities on our own exp and log: the same bits on every machine.

Sources: W. J. Cody, Math. Comp. 1969;23:631 (normal distribution, coefficients as in R's pnorm.c); continued
fraction of the incomplete beta function, Abramowitz & Stegun 26.5.8, evaluated by the modified Lentz method.
"""

from __future__ import annotations

import numpy as np

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import inlined, kernel
from pkpd.kernels.philox import normal_quantile

_SQRT_HALF_PI = 1.2533141373155002512
_INV_SQRT_2PI = 0.39894228040143267794
_SQRT_PI = 1.7724538509055160273

# fmt: off
_A = (161.02823106855587881, 1067.6894854603709582, 18154.981253343561249)
_B = (976.09855173777669322, 10260.932208618978205, 45507.789335026729956)
_C = (8.8831497943883759412, 93.506656132177855979, 597.27027639480026226, 2494.5375852903726711,
      6848.1904505362823326, 11602.651437647350124, 9842.7148383839780218)
_D = (235.38790178262499861, 1519.377599407554805, 6485.558298266760755, 18615.571640885098091,
      34900.952721145977266, 38912.003286093271411, 19685.429676859990727)
_P = (0.1274011611602473639, 0.022235277870649807, 0.001421619193227893466, 2.9112874951168792e-5)
_Q = (0.468238212480865118, 0.0659881378689285515, 0.00378239633202758244, 7.29751555083966205e-5)
# fmt: on


@inlined
def _central(x: float) -> float:
    """Phi(x) - 1/2 for |x| <= 0.67448975."""
    square = x * x
    top = 0.065682337918207449113 * square + 2.2352520354606839287
    bottom = square + 47.20258190468824187
    for i in range(3):
        top = top * square + _A[i]
        bottom = bottom * square + _B[i]
    return x * top / bottom


@inlined
def _upper(y: float) -> float:
    """1 - Phi(y) for y >= 0.67448975."""
    if y > 39.0:
        return 0.0
    if y <= 5.656854249492380195206754896838:
        top = 1.0765576773720192317e-8 * y + 0.39894151208813466764
        bottom = y + 22.266688044328115691
        for i in range(7):
            top = top * y + _C[i]
            bottom = bottom * y + _D[i]
        ratio = top / bottom
    else:
        inverse = 1.0 / (y * y)
        top = 0.02307344176494017303 * inverse + 0.21589853405795699
        bottom = inverse + 1.28426009614491121
        for i in range(4):
            top = top * inverse + _P[i]
            bottom = bottom * inverse + _Q[i]
        ratio = (_INV_SQRT_2PI - inverse * top / bottom) / y
    coarse = np.floor(y * 16.0) / 16.0
    return float(exp(-0.5 * coarse * coarse) * exp(-0.5 * (y - coarse) * (y + coarse)) * ratio)


@inlined
def normal_cdf(x: float) -> float:
    """Standard normal distribution function; relative error about 1e-15 in both tails."""
    if abs(x) <= 0.67448975:
        return 0.5 + _central(x)
    if x != x:
        return np.nan
    return _upper(-x) if x < 0.0 else 1.0 - _upper(x)


@inlined
def normal_density(x: float) -> float:
    return float(_INV_SQRT_2PI * exp(-0.5 * x * x))


@inlined
def _gamma_step(a: float) -> float:
    """Gamma(a + 1/2)/Gamma(a): recurrence up to 20, then the asymptotic series."""
    factor = 1.0
    while a < 20.0:
        factor *= a / (a + 0.5)
        a += 1.0
    u = 1.0 / a
    series = 1.0 + u * (-1.0 / 8 + u * (1.0 / 128 + u * (5.0 / 1024 + u * (-21.0 / 32768 + u * (-399.0 / 262144
             + u * (869.0 / 4194304 + u * 39325.0 / 33554432))))))  # fmt: skip
    return float(factor * np.sqrt(a) * series)


@kernel
def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b), x < (a + 1)/(a + b + 2)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 20000):
        for even in range(2):
            if even == 0:
                term = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
            else:
                term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return value


@inlined
def _log1p(u: float) -> float:
    w = 1.0 + u
    return u if w == 1.0 else log(w) * (u / (w - 1.0))


@kernel
def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t; df may be infinite; NaN for df <= 0."""
    if not df > 0.0 or t != t:
        return np.nan
    if df == np.inf:
        return normal_cdf(-t)
    square = t * t
    if square == np.inf:
        return 0.0 if t > 0.0 else 1.0
    a = 0.5 * df
    x = df / (df + square)
    front = exp(-a * _log1p(square / df)) * np.sqrt(square / (df + square)) * _gamma_step(a) / _SQRT_PI
    if x < (a + 1.0) / (a + 2.5):
        half = 0.5 * front * _beta_fraction(x, a, 0.5) / a
    else:
        half = 0.5 - front * _beta_fraction(square / (df + square), 0.5, a)
    return float(half if t >= 0.0 else 1.0 - half)


@kernel
def t_quantile(p: float, df: float) -> float:
    """The t with P(T > t) = p, 0 < p <= 1/2: bisection between a normal lower bound and doubling."""
    low = -normal_quantile(p) if p < 0.5 else 0.0
    if df == np.inf or p >= 0.5:
        return low
    high = 2.0 * low + 1.0
    while t_tail(high, df) > p:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high) or high - low < 1e-14 * high:
            break
        if t_tail(middle, df) > p:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
