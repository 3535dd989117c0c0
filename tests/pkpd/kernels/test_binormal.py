"""Rectangles of a bivariate normal: mpmath's quadrature, closed forms, and differences for the derivatives."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from pkpd.kernels.binormal import log_rectangles

NONE = np.inf
CASES = [
    (-NONE, 0.3, -NONE, -0.2, 0.6), (-NONE, -8.0, -NONE, -7.0, -0.7), (-NONE, -20.0, -NONE, -15.0, 0.3),
    (-1.0, 1.0, -NONE, 0.5, 0.95), (2.0, 3.0, -6.0, -5.0, -0.4), (-NONE, 1.0, 0.5, NONE, 0.99),
    (3.0, NONE, 3.0, NONE, -0.9), (-NONE, -3.0, -NONE, 1.0, 0.999), (1.0, 1.001, -NONE, -4.0, 0.8),
]  # fmt: skip


def found(*cases: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    return log_rectangles(*(np.array(column) for column in zip(*cases, strict=True)))


def exact(a1: float, b1: float, a2: float, b2: float, r: float) -> float:
    """log P by mpmath, 30 digits: the integrand over its largest value, on panels about its steps."""
    with mp.workdps(30):
        return float(_log_integral(a1, b1, a2, b2, r))


def _log_integral(a1, b1, a2, b2, r):
    c = mp.sqrt(1 - mp.mpf(r) ** 2)

    def inner(x):
        low, high = (a2 - r * x) / c, (b2 - r * x) / c
        strip = mp.ncdf(high) - mp.ncdf(low) if high < 0 else mp.ncdf(-low) - mp.ncdf(-high)
        return mp.npdf(x) * strip

    left, right = max(a1, -30.0), min(b1, 30.0)
    steps = [k / r + m * float(c / r) for k in (a2, b2) if abs(k) < 30 for m in (-6, -3, -1, 0, 1, 3, 6)]
    edges = [left, right, *np.linspace(left, right, 25), *(x for x in steps if left < x < right)]
    edges = sorted({float(x) for x in edges})
    top = max(inner(mp.mpf(x)) for x in edges)
    return mp.log(mp.quad(lambda x: inner(x) / top, edges)) + mp.log(top)


@pytest.mark.slow
def test_it_is_the_integral():
    value = found(*CASES)[0]
    np.testing.assert_allclose(value, [exact(*case) for case in CASES], rtol=1e-12, atol=1e-13)


def test_a_quadrant_has_its_closed_form():
    """Sheppard (1899): P(X < 0, Y < 0) = 1/4 + asin(r)/(2 pi); and independence: a product."""
    from scipy import special

    r = np.array([-0.99, -0.5, 0.0, 0.3, 0.9, 0.9999])
    value = found(*((-NONE, 0.0, -NONE, 0.0, x) for x in r))[0]
    np.testing.assert_allclose(value, np.log(0.25 + np.arcsin(r) / (2 * np.pi)), rtol=1e-11)
    alone = found((-NONE, -30.0, -NONE, -2.0, 0.0))[0][0]
    assert alone == pytest.approx(special.log_ndtr(-30.0) + special.log_ndtr(-2.0), rel=1e-13)


def test_derivatives_are_differences():
    value, slope = found(*CASES)
    for n, case in enumerate(CASES):
        for k in range(5):
            h = 1e-6 * min(1.0, 30.0 * (1.0 - abs(case[4])))
            up, down = (found(tuple(x + s * h * (j == k) for j, x in enumerate(case)))[0][0] for s in (1, -1))
            difference = (up - down) / (2 * h) if np.isfinite(case[k]) else 0.0
            assert slope[n, k] == pytest.approx(difference, rel=1e-6, abs=1e-6 * max(1.0, abs(value[n]))), (case, k)
