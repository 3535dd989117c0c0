"""log Phi, its derivative and the log of an interval against mpmath and SciPy, far into both tails."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import special

from pkpd.kernels.intrinsics import kernel
from pkpd.kernels.tails import log_normal_below, log_normal_between

POINTS = (
    -1e5, -300.0, -38.6, -37.0, -20.0, -8.3, -5.3, -3.0, -1.4, -1.0, -0.3, -1e-9, 0.0, 1e-9, 0.2, 0.9, 1.7, 3.1, 5.6, 8.0,
)  # fmt: skip


@kernel
def below(z):
    return log_normal_below(z)


@kernel
def between(a, b):
    return log_normal_between(a, b)


def exact(z: float) -> tuple[float, float]:
    """log Phi(z) and phi/Phi with 60 digits (mpmath's complementary error function)."""
    with mpmath.workdps(60):
        z = mpmath.mpf(z)
        phi = mpmath.erfc(-z / mpmath.sqrt(2)) / 2
        if z < -40:  # Laplace's continued fraction, DLMF 7.9.3
            tail = mpmath.mpf(0)
            for k in range(200, 0, -1):
                tail = k / (-z + tail)
            log_phi = -z * z / 2 - mpmath.log(2 * mpmath.pi) / 2 - mpmath.log(-z + tail)
        else:
            log_phi = mpmath.log(phi)
        slope = mpmath.exp(-z * z / 2 - mpmath.log(2 * mpmath.pi) / 2 - log_phi)
        return float(log_phi), float(slope)


@pytest.mark.parametrize("z", POINTS)
def test_log_of_the_normal_distribution_and_its_slope(z):
    assert below(z) == pytest.approx(exact(z), rel=1e-12, abs=0.0)


def test_scipy_agrees_and_the_ends_are_limits():
    z = np.linspace(-40.0, 8.0, 4001)
    found = np.array([below(v) for v in z])
    np.testing.assert_allclose(found[:, 0], special.log_ndtr(z), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], np.exp(-0.5 * z**2 - special.log_ndtr(z)) / np.sqrt(2 * np.pi), rtol=1e-12)
    assert below(50.0) == (0.0, 0.0)
    assert below(-np.inf)[0] == -np.inf
    assert np.isnan(below(np.nan)[0])


@pytest.mark.parametrize(
    ("a", "b"), [(-np.inf, -3.0), (-40.0, -38.0), (-7.0, -6.5), (-1.0, 2.0), (0.0, 0.1), (3.0, 9.0), (20.0, 21.0)]
)
def test_an_interval_keeps_its_digits_in_either_tail(a, b):
    with mpmath.workdps(800):
        at = [mpmath.erfc(-mpmath.mpf(v) / mpmath.sqrt(2)) / 2 if np.isfinite(v) else mpmath.mpf(0) for v in (a, b)]
        inside = at[1] - at[0]
        slopes = [float(mpmath.npdf(mpmath.mpf(v)) / inside) if np.isfinite(v) else 0.0 for v in (a, b)]
        expected = (float(mpmath.log(inside)), -slopes[0], slopes[1])
    assert between(a, b) == pytest.approx(expected, rel=1e-11, abs=0.0)
