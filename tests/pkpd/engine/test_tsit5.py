"""Tsit5's coefficients by the order conditions (Hairer, Norsett & Wanner I, table II.2.1), its order as measured."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine import tsit5
from pkpd.engine.build import of_dynamics
from pkpd.engine.dynamics import Dynamics
from pkpd.engine.load import solver
from pkpd.model.equations import equations

A = np.zeros((7, 7))
for _i, _row in enumerate(tsit5.A):
    A[_i, : len(_row)] = _row
C = np.array(tsit5.C)
B = np.array(tsit5.dense())  # stage x power
# rooted trees up to order 4 (weights applied to stages), with their density
TREES = {
    1: [(np.ones(7), 1)],
    2: [(C, 2)],
    3: [(C**2, 3), (A @ C, 6)],
    4: [(C**3, 4), (C * (A @ C), 8), (A @ C**2, 12), (A @ (A @ C), 24)],
}
FIFTH = [
    (C**4, 5),
    (C**2 * (A @ C), 10),
    ((A @ C) ** 2, 20),
    (C * (A @ C**2), 15),
    (A @ C**3, 20),
    (C * (A @ (A @ C)), 30),
    (A @ (C * (A @ C)), 40),
    (A @ (A @ C**2), 60),
    (A @ (A @ (A @ C)), 120),
]


def test_rows_sum_to_the_nodes():
    np.testing.assert_allclose(A.sum(axis=1), C, atol=2e-15)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_order_conditions_of_solution_error_and_interpolant(order):
    for weights, density in TREES[order]:
        assert A[6] @ weights == pytest.approx(1 / density, abs=3e-15)
        assert abs(np.array(tsit5.ERROR) @ weights) < 3e-16 * 10
        along = weights @ B  # coefficient of each power of x
        expected = np.zeros(4)
        expected[order - 1] = 1 / density
        np.testing.assert_allclose(along, expected, atol=5e-14)


def test_fifth_order_conditions():
    for weights, density in FIFTH:
        assert A[6] @ weights == pytest.approx(1 / density, abs=3e-15)


def test_interpolant_meets_both_ends():
    np.testing.assert_allclose(B.sum(axis=1), [*tsit5.A[6], 0.0], atol=5e-14)


def _oscillator():
    """y1' = y2 (1 + y1^2/8), y2' = -y1: smooth and nonlinear."""
    lines = equations("d/dt(a) = b*(1 + a*a/8)\nd/dt(b) = -a\na(0) = 1\nb(0) = K")
    pick = lambda kind: {e.target: e.expression for e in lines if e.kind == kind}  # noqa: E731
    return of_dynamics(
        Dynamics(
            states=("a", "b"),
            parameters=("K",),
            assigned={},
            derivative=pick("derivative"),
            initial=pick("initial"),
            bioavailability={},
            lag={},
            outputs=("a", "b"),
        )
    )


def test_measured_orders_are_five_and_four(measured_orders):
    def slope(_, u):
        return [u[1] * (1 + u[0] * u[0] / 8), -u[0]]

    module = solver(_oscillator().source).__globals__
    end, inside = measured_orders(module, np.array([0.5]), slope, [1.0, 0.5], coarse=32)
    assert abs(end - 5.0) < 0.1
    assert abs(inside - 4.0) < 0.1
