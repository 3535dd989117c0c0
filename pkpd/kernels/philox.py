"""Philox4x32-10 and inverse-CDF normals: one address, one number, whatever the order of computation.

Counter words are (subject, replicate, index, slot), key words come from the seed and the purpose.
Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); Wichura, Algorithm AS 241
(Applied Statistics 1988;37:477-484), routine PPND16, on our own log.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import log
from pkpd.kernels.intrinsics import fma, inlined, kernel

F64 = NDArray[np.float64]
U32 = NDArray[np.uint32]
Word = Any  # 32 bits in a numba uint64

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_6 = np.uint64(6)
_26 = np.uint64(26)


@inlined
def philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> tuple[Word, Word, Word, Word]:
    """Ten rounds of Philox4x32; every word is a uint64 holding 32 bits."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0 = (p1 >> _32) ^ c1 ^ k0
        c2 = (p0 >> _32) ^ c3 ^ k1
        c1 = p1 & _LOW
        c3 = p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@inlined
def uniform(w0: Word, w1: Word) -> Any:
    """((w0 >> 6) 2^26 + (w1 >> 6) + 1/2) 2^-52: strictly inside (0, 1), symmetric about 1/2."""
    return (np.float64(np.int64(((w0 >> _6) << _26) + (w1 >> _6))) + 0.5) * 2.220446049250313e-16


@inlined
def _rational(x: float, a: tuple[float, ...], b: tuple[float, ...]) -> float:
    top = fma(a[7], x, a[6])
    bottom = fma(b[7], x, b[6])
    for i in range(5, -1, -1):
        top = fma(top, x, a[i])
        bottom = fma(bottom, x, b[i])
    return top / bottom


# fmt: off
_CENTRE = (
    (3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)
_MIDDLE = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)
_TAIL = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)
# fmt: on


@inlined
def normal_quantile(u: float) -> float:
    """Standard normal quantile for 0 < u < 1 (AS 241, relative error about 1e-16)."""
    q = u - 0.5
    if abs(q) <= 0.425:
        return q * _rational(0.180625 - q * q, _CENTRE[0], _CENTRE[1])
    r = np.sqrt(-log(u if q < 0.0 else 1.0 - u))
    z = _rational(r - 1.6, _MIDDLE[0], _MIDDLE[1]) if r <= 5.0 else _rational(r - 5.0, _TAIL[0], _TAIL[1])
    return -z if q < 0.0 else z


@kernel
def fill_words(key: U32, counters: U32, out: U32) -> None:
    """Raw words: key (2,), counters (n, 4), out (n, 4), all uint32."""
    for i in range(counters.shape[0]):
        w0, w1, w2, w3 = philox(
            np.uint64(counters[i, 0]), np.uint64(counters[i, 1]), np.uint64(counters[i, 2]),
            np.uint64(counters[i, 3]), np.uint64(key[0]), np.uint64(key[1]),
        )  # fmt: skip
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = w0, w1, w2, w3


@kernel
def fill_uniforms(k0: Word, k1: Word, subject: U32, replicate: U32, index: U32, slot: U32, out: F64) -> None:
    """Uniforms in (0, 1), one address per element; all arrays flat and of one length (see `uniform_array`)."""
    for i in range(out.size):
        w0, w1, _, _ = philox(
            np.uint64(subject[i]), np.uint64(replicate[i]), np.uint64(index[i]), np.uint64(slot[i]),
            np.uint64(k0), np.uint64(k1),
        )  # fmt: skip
        out[i] = uniform(w0, w1)


@kernel
def fill_quantiles(u: F64, out: F64) -> None:
    """Standard normal quantiles of `u`, element by element."""
    for i in range(u.size):
        out[i] = normal_quantile(u[i])


def uniform_array(key: tuple[int, int], *, subject: U32, replicate: U32, index: U32, slot: U32) -> F64:
    """Uniforms on (0, 1) at broadcast addresses (uint32 arrays), float64 of the broadcast shape.

    >>> import numpy as np
    >>> zero = np.uint32(0)
    >>> u = uniform_array((0, 0), subject=np.arange(3, dtype=np.uint32), replicate=zero, index=zero, slot=zero)
    >>> u.shape, bool(((u > 0) & (u < 1)).all())
    ((3,), True)
    """
    words = np.broadcast_arrays(*(np.asarray(w, dtype=np.uint32) for w in (subject, replicate, index, slot)))
    shape = words[0].shape
    out = np.empty(words[0].size)
    s, r, i, j = (np.array(w, order="C").reshape(-1) for w in words)  # copies: a broadcast view is not writeable
    fill_uniforms(np.uint32(key[0]), np.uint32(key[1]), s, r, i, j, out)
    return out.reshape(shape)


def normal_array(key: tuple[int, int], *, subject: U32, replicate: U32, index: U32, slot: U32) -> F64:
    """Standard normals at broadcast addresses: the quantiles of :func:`uniform_array` at the same addresses."""
    u = uniform_array(key, subject=subject, replicate=replicate, index=index, slot=slot)
    return quantile_array(u)


def quantile_array(u: F64) -> F64:
    """Standard normal quantile of probabilities strictly between 0 and 1, any shape.

    >>> quantile_array(np.array([0.5, 0.975])).round(6).tolist()
    [0.0, 1.959964]
    """
    flat = np.ascontiguousarray(u, dtype=np.float64).reshape(-1)
    out = np.empty_like(flat)
    fill_quantiles(flat, out)
    return out.reshape(np.shape(u))
