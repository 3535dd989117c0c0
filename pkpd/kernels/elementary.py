"""Own exp, log, power, expit: branch-free, vectorised by LLVM, the same bits on every x86-64 machine.

libm's functions differ between versions and break vectorisation; these use only +, -, *, / and explicit fma.
Errors: exp and log below 1 ulp on normal results, expm1 of negative arguments below 2 ulp.
Sources: argument reduction of Cody & Waite (1980); log polynomial of fdlibm `e_log.c` (Sun, 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.kernels.intrinsics import bits_of, float_of, fma, forced, inlined, kernel

F64 = NDArray[np.float64]

_SHIFT = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to the nearest integer, which sits in the low bits
_SHIFT_BITS = 0x4338000000000000
_INV_LN2 = 1.4426950408889634
_LN2_HI = 6.93147180369123816490e-01
_LN2_LO = 1.90821492927058770002e-10
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_EXPONENT_MASK = -4503599627370496  # 0xFFF0000000000000 as int64
_TINY = 2.2250738585072014e-308
_TWO54 = 18014398509481984.0
_ONE_BITS = 0x3FF0000000000000
# log2(1 + f)/f and 2^t, for rough_power
_ROUGH_LOG = (1.4417606501014275, -0.7249041477260467, 0.5175093846016106, -0.32962983214214664)
_ROUGH_EXP = (0.9999280735724706, 0.6932609846920404, 0.2426111223509835, 0.055171672325748815)


@forced
def exp(x: float) -> float:
    """e^x for any x; NaN in, NaN out; overflow gives inf, underflow is gradual."""
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    shifted = fma(x, _INV_LN2, _SHIFT)
    k = shifted - _SHIFT
    r = fma(k, -_LN2_HI, x)
    low = k * _LN2_LO
    s = r - low
    tail = (r - s) - low
    q = fma(s, 1.0 / 6227020800.0, 1.0 / 479001600.0)
    q = fma(q, s, 1.0 / 39916800.0)
    q = fma(q, s, 1.0 / 3628800.0)
    q = fma(q, s, 1.0 / 362880.0)
    q = fma(q, s, 1.0 / 40320.0)
    q = fma(q, s, 1.0 / 5040.0)
    q = fma(q, s, 1.0 / 720.0)
    q = fma(q, s, 1.0 / 120.0)
    q = fma(q, s, 1.0 / 24.0)
    q = fma(q, s, 1.0 / 6.0)
    q = fma(q, s, 0.5)
    p = 1.0 + (s + fma(q, s * s, tail))
    n = bits_of(shifted) - _SHIFT_BITS
    half = n >> 1
    return p * float_of((half + 1023) << 52) * float_of((n - half + 1023) << 52)


@forced
def log(x: float) -> float:
    """Natural logarithm; log(0) = -inf, log of a negative number or NaN is NaN, log(inf) = inf."""
    small = x < _TINY
    scaled = x * _TWO54 if small else x
    bits = bits_of(scaled)
    offset = bits - _SQRT_HALF_BITS
    e = float_of((offset >> 52) + _SHIFT_BITS) - _SHIFT
    e = e - 54.0 if small else e
    f = float_of(bits - (offset & _EXPONENT_MASK)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    r = fma(z, 1.479819860511658591e-01, 1.531383769920937332e-01)
    r = fma(r, z, 1.818357216161805012e-01)
    r = fma(r, z, 2.222219843214978396e-01)
    r = fma(r, z, 2.857142874366239149e-01)
    r = fma(r, z, 3.999999999940941908e-01)
    r = fma(r, z, 6.666666666666735130e-01) * z
    h = 0.5 * f * f
    y = e * _LN2_HI - ((h - (s * (h + r) + e * _LN2_LO)) - f)
    y = np.inf if x == np.inf else y
    y = -np.inf if x == 0.0 else y
    return y if x >= 0.0 else np.nan


@inlined
def one_minus_exp(x: float) -> float:
    """1 - e^(-x) for x >= 0 without cancellation: x * phi(x) below 1, the difference above."""
    return x * relative_decay(x)


@inlined
def relative_decay(x: float) -> float:
    """phi(x) = (1 - e^(-x))/x for x >= 0, 1 at 0: Taylor series below 1, the quotient above."""
    s = 1.0 if x > 1.0 else x
    p = fma(s, 1.0 / 6402373705728000.0, -1.0 / 355687428096000.0)
    p = fma(p, s, 1.0 / 20922789888000.0)
    p = fma(p, s, -1.0 / 1307674368000.0)
    p = fma(p, s, 1.0 / 87178291200.0)
    p = fma(p, s, -1.0 / 6227020800.0)
    p = fma(p, s, 1.0 / 479001600.0)
    p = fma(p, s, -1.0 / 39916800.0)
    p = fma(p, s, 1.0 / 3628800.0)
    p = fma(p, s, -1.0 / 362880.0)
    p = fma(p, s, 1.0 / 40320.0)
    p = fma(p, s, -1.0 / 5040.0)
    p = fma(p, s, 1.0 / 720.0)
    p = fma(p, s, -1.0 / 120.0)
    p = fma(p, s, 1.0 / 24.0)
    p = fma(p, s, -1.0 / 6.0)
    p = fma(p, s, 0.5)
    series = fma(-p, s, 1.0)
    large = 1.0 if x <= 1.0 else x
    return series if x <= 1.0 else (1.0 - exp(-large)) / large


@forced
def exp2(x: float) -> float:
    """2^x by a short chain of dependent operations; 2^-1021 where it is less, inf from about 2^1023.5 on."""
    x = 1024.0 if x > 1024.0 else x
    x = -1021.0 if x < -1021.0 else x
    shifted = x + _SHIFT
    t = x - (shifted - _SHIFT)
    return _exp2_of(t) * float_of((bits_of(shifted) << 52) + _ONE_BITS)


@forced
def _exp2_of(t: float) -> float:
    """2^t for |t| <= 1/2: minimax polynomial, in pairs, pairs of pairs, ... (Estrin): little waits for little."""
    t2 = t * t
    t4 = t2 * t2
    a0 = fma(0.6931471805599453, t, 1.0)
    a1 = fma(0.055504108664820084, t, 0.2402265069591013)
    a2 = fma(0.0013333558146774677, t, 0.009618129107594117)
    a3 = fma(1.5252733493077632e-05, t, 0.00015403530457115094)
    a4 = fma(1.01781995909232e-07, t, 1.321543528066115e-06)
    a5 = fma(4.4347687153797186e-10, t, 7.0737835556173974e-09)
    b1 = fma(a3, t2, a2)
    b2 = fma(a5, t2, a4)
    return fma(fma(b2, t4, b1), t4, fma(a1, t2, a0))


@forced
def power(x: float, y: float) -> float:
    """x^y with the conventions of C's pow; error about |y log2 x| ulp; x and results below 2^-1022 are 0.

    2^(y log2 |x|), what is special about x and y beside the chain of operations that leads there, not in it.
    """
    magnitude = abs(x)
    bits = bits_of(magnitude)
    offset = bits - _SQRT_HALF_BITS
    e = float_of((offset >> 52) + _SHIFT_BITS) - _SHIFT
    f = float_of(bits - (offset & _EXPONENT_MASK)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    a0 = fma(0.9617966939259899, z, 2.8853900817779268)
    a1 = fma(0.4121985858538786, z, 0.577078016345458)
    a2 = fma(0.262334418026275, z, 0.32059853362653373)
    a3 = fma(0.21367532621595936, z, 0.22091143152795922)
    g = 1e25 if y > 1e25 else (-1e25 if y < -1e25 else y)  # infinity times 0 would be no number
    v = fma(g * s, fma(fma(a3, w, a2), w * w, fma(a1, w, a0)), g * e)
    v = v if magnitude < np.inf else y * magnitude
    v = y * -np.inf if magnitude < _TINY else v
    v = 1024.0 if v > 1024.0 else v  # 2^1024 is infinity, 2^-1023 zero below, by the bits of the exponent
    v = -1023.0 if v < -1023.0 else v
    shifted = v + _SHIFT
    t = v - (shifted - _SHIFT)
    half = 0.5 * y  # `and`, `or` would be branches, and loops that use the function would not vectorise
    odd = (half != np.floor(half)) & (y > -9007199254740992.0) & (y < 9007199254740992.0)
    sign = -1.0 if odd else 1.0
    sign = sign if y == np.floor(y) else np.nan
    sign = sign if x < 0.0 else 1.0
    value = _exp2_of(t) * (float_of((bits_of(shifted) << 52) + _ONE_BITS) * sign)
    return 1.0 if (y == 0.0) | (x == 1.0) else value


@forced
def rough_power(x: float, y: float) -> float:
    """x^y to about 1e-4, for normal x > 0 and |y| <= 1: for lengths of steps, which need no more."""
    bits = bits_of(x)
    offset = bits - _SQRT_HALF_BITS
    e = float_of((offset >> 52) + _SHIFT_BITS) - _SHIFT
    f = float_of(bits - (offset & _EXPONENT_MASK)) - 1.0
    f2 = f * f
    low = fma(_ROUGH_LOG[1], f, _ROUGH_LOG[0])
    high = fma(_ROUGH_LOG[3], f, _ROUGH_LOG[2])
    v = y * fma(f, fma(high, f2, low), e)
    shifted = v + _SHIFT
    t = v - (shifted - _SHIFT)
    value = fma(fma(_ROUGH_EXP[3], t, _ROUGH_EXP[2]), t * t, fma(_ROUGH_EXP[1], t, _ROUGH_EXP[0]))
    return value * float_of((bits_of(shifted) << 52) + _ONE_BITS)


@inlined
def expit(x: float) -> float:
    """1/(1 + e^(-x)), accurate in both tails."""
    z = exp(-x if x >= 0.0 else x)
    return (1.0 if x >= 0.0 else z) / (1.0 + z)


@inlined
def tanh(x: float) -> float:
    """Hyperbolic tangent by 1 - e^(-2|x|) without cancellation, odd."""
    a = x if x >= 0.0 else -x
    e = one_minus_exp(2.0 * a)
    y = e / (2.0 - e)
    return y if x >= 0.0 else -y


@kernel
def _exp_fill(x: F64, out: F64) -> None:
    for i in range(x.size):
        out[i] = exp(x[i])


@kernel
def _log_fill(x: F64, out: F64) -> None:
    for i in range(x.size):
        out[i] = log(x[i])


@kernel
def _expit_fill(x: F64, out: F64) -> None:
    for i in range(x.size):
        out[i] = expit(x[i])


@kernel
def _power_fill(x: F64, y: F64, out: F64) -> None:
    for i in range(x.size):
        out[i] = power(x[i], y[i])


def _flat(x: ArrayLike) -> tuple[F64, tuple[int, ...]]:
    array = np.ascontiguousarray(x, dtype=np.float64)
    return array.reshape(-1), np.shape(x)


def exp_array(x: ArrayLike) -> F64:
    """e^x element by element, any shape, float64.

    >>> exp_array([0.0, 1.0]).tolist()
    [1.0, 2.718281828459045]
    """
    flat, shape = _flat(x)
    out = np.empty_like(flat)
    _exp_fill(flat, out)
    return out.reshape(shape)


def log_array(x: ArrayLike) -> F64:
    """Natural logarithm element by element, any shape, float64; log 0 = -inf, negative gives NaN.

    >>> log_array([1.0, 0.0]).tolist()
    [0.0, -inf]
    """
    flat, shape = _flat(x)
    out = np.empty_like(flat)
    _log_fill(flat, out)
    return out.reshape(shape)


def expit_array(x: ArrayLike) -> F64:
    """1/(1 + e^(-x)) element by element, any shape, float64.

    >>> expit_array([0.0]).tolist()
    [0.5]
    """
    flat, shape = _flat(x)
    out = np.empty_like(flat)
    _expit_fill(flat, out)
    return out.reshape(shape)


def power_array(x: ArrayLike, y: ArrayLike) -> F64:
    """x^y with NumPy broadcasting, float64; conventions of C's pow.

    >>> power_array([4.0, -2.0], [0.5, 3.0]).round(12).tolist()
    [2.0, -8.0]
    """
    left, right = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    out = np.empty(left.size)
    x, y = (np.array(part, order="C").reshape(-1) for part in (left, right))  # a broadcast view is not writeable
    _power_fill(x, y, out)
    return out.reshape(left.shape)
