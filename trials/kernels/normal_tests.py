"""p-values of normal and chi-square statistics, element by element."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel
from trials.kernels.probability import normal_cdf
from trials.kernels.survival import chi_square_tail

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@kernel
def normal_p(z: F64, side: int, out: F64) -> None:
    """side 0: two-sided, 1: of large z, -1: of small z; NaN stays NaN."""
    for i in range(z.size):
        if side == 0:
            out[i] = 2.0 * normal_cdf(-abs(z[i]))
        else:
            out[i] = normal_cdf(-z[i] if side > 0 else z[i])


@kernel
def chi_square_p(x: F64, df: I64, out: F64) -> None:
    for i in range(x.size):
        out[i] = chi_square_tail(x[i], df[i])
