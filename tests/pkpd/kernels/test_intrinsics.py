"""What LLVM is asked for by name: bits of masks, and the processor's treatment of numbers below the normal ones."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from numba import njit

from pkpd.kernels.intrinsics import first_bit, flushed, unflushed


@njit(error_model="numpy")
def _products(x, y, out, flush):
    before = flushed() if flush else np.int32(0)
    for i in range(x.size):
        out[i] = x[i] * y[i]
    if flush:
        unflushed(before)


@pytest.mark.skipif(platform.machine().lower() not in {"x86_64", "amd64"}, reason="a control word of x86-64")
def test_below_the_normal_numbers_is_zero_inside_and_gradual_outside():
    x, y = np.array([1e-200, 3e-310, 1e-150]), np.array([1e-110, 1.0, 1e-150])
    inside, after = np.empty(3), np.empty(3)
    _products(x, y, inside, True)
    _products(x, y, after, False)
    assert inside.tolist() == [0.0, 0.0, 1e-150 * 1e-150]
    assert after.tolist() == [1e-200 * 1e-110, 3e-310, 1e-150 * 1e-150]
    assert float(x[0] * y[0]) > 0.0  # the thread is as it was


def test_the_lowest_bit_of_every_mask_of_sixteen_lanes():
    lowest = njit(lambda mask: first_bit(mask))
    assert all(lowest(m) == (m & -m).bit_length() - 1 for m in range(1, 1 << 16))
