"""Helpers that LLVM links into their callers: the same numbers, no machine code of their own."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from pkpd.kernels.intrinsics import OPTIONS
from pkpd.kernels.linking import internal, separate


@internal
def third(x, out):
    separate()
    for k in range(x.size):
        out[k] = x[k] / 3.0


@internal
def thirds(x, out):
    third(x, out)


@njit(**OPTIONS)
def called(x):
    out = np.empty(x.size)
    thirds(x, out)
    return out


def test_linked_helpers_compute_what_python_does():
    """Division rounds correctly (IEEE 754): the same bits as NumPy's, through two levels of helpers."""
    x = np.linspace(-5.0, 7.0, 37)
    assert np.array_equal(called(x), x / 3.0)


def test_a_helper_cannot_be_called_from_python():
    """It has no machine code: a TypeError, not a crash."""
    x = np.ones(3)
    called(x)
    with pytest.raises(TypeError):
        third(x, np.empty(3))
