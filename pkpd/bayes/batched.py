"""A compiled density at many points, one after the other, through its C entry: no array is made for a point."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pkpd.bayes.density import Density
    from pkpd.bayes.smc import LogDensity

__all__ = ["batched"]

Floats = NDArray[np.float64]


def batched(law: Density) -> LogDensity:
    """x (n, size) -> log density (n,), -inf where it or its gradient is not a number, and gradient (n, size)."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)
    entry, header, size = kind(law.module.entry.address), law.header, law.layout.size

    def evaluate(x: Floats) -> tuple[Floats, Floats]:
        points = np.ascontiguousarray(x, np.float64)
        g, value = np.empty(points.shape), np.empty(len(points))
        a, b, c, row = points.ctypes.data, g.ctypes.data, value.ctypes.data, 8 * size
        wrong = [k for k in range(len(points)) if entry(size, a + k * row, b + k * row, c + 8 * k, header.ctypes.data)]
        value[wrong], g[wrong] = -np.inf, 0.0
        return value, g

    return evaluate
