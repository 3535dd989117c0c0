"""Kernels of sin, cos, log gamma and its derivatives, factorial: the bits of NumPy's evaluation; SciPy as witness."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import special as witness

from pkpd.kernels import special as kernels
from pkpd.model import special as arrays

RNG = np.random.default_rng(3)
POSITIVE = np.concatenate([RNG.uniform(0, 30, 3000), np.exp(RNG.uniform(-20, 12, 2000)), np.arange(1.0, 40.0)])
ANGLES = np.concatenate([RNG.uniform(-50, 50, 4000), RNG.uniform(-1e6, 1e6, 2000), np.arange(-20, 21) * np.pi / 2])
WHOLE = np.concatenate([np.arange(0.0, 172.0), RNG.uniform(-0.999, 60, 3000)])
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, -2.5, 1e6, 1.0000001e6, 5e-324])
CASES = {
    "sin": ANGLES,
    "cos": ANGLES,
    "lgamma": POSITIVE,
    "factorial": WHOLE,
    "digamma": POSITIVE,
    "trigamma": POSITIVE,
}


@pytest.mark.parametrize("name", list(CASES))
def test_same_bits_as_the_evaluation_by_numpy(name):
    function = getattr(kernels, name)

    @njit(error_model="numpy")
    def fill(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    x = np.concatenate([CASES[name], ODD])
    found = np.empty_like(x)
    fill(x, found)
    with np.errstate(all="ignore"):
        wanted = getattr(arrays, name)(x)
    same = (found.view(np.int64) == wanted.view(np.int64)) | (np.isnan(found) & np.isnan(wanted))
    assert same.all(), x[~same]


@pytest.mark.parametrize(("name", "order"), [("digamma", 0), ("trigamma", 1)])
def test_derivatives_of_log_gamma(name, order):
    """Witness: SciPy's polygamma; psi has a zero near 1.46, so the bound is absolute there."""
    found, wanted = getattr(arrays, name)(POSITIVE), witness.polygamma(order, POSITIVE)
    assert (np.abs(found - wanted) <= 4e-15 * np.maximum(np.abs(wanted), 1.0)).all()
    assert np.isnan(getattr(arrays, name)(np.array([0.0, -1.5, np.nan]))).all()
