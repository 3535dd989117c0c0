"""Tsit5's coefficients by the order conditions (Hairer, Norsett & Wanner I, table II.2.1), its order as measured."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

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


def _fixed_steps(function):
    """A driver of the compiled model's own step function with constant h: state at the end, and inside the last step."""
    module = function.__globals__
    step, commit, restart, prepare, initial = (module[k] for k in ("step", "commit", "restart", "prepare", "initial"))
    dense_outputs, outputs_now, size, rates = (module[k] for k in ("dense_outputs", "outputs_now", "ROWS", "R"))

    @njit(error_model="numpy")
    def run(h, count, end, inside):
        W = np.ones(size * 8)
        prepare(np.array([0.5]), W, 0)
        initial(W, 0)
        W[rates * 8 : (rates + 2) * 8] = 0.0
        W[0], W[40] = 0.0, 1.0
        restart(W, 1e-6, 1e-8)
        for i in range(count):
            W[0], W[8] = i * h, h
            step(W, 1e-6, 1e-8)
            if i == count - 1:
                dense_outputs(W, 0, 0.37, inside)
            W[32] = 1.0
            commit(W)
        outputs_now(W, 0, end)

    return run


def _reference(t):
    from scipy.integrate import solve_ivp

    found = solve_ivp(
        lambda _, u: [u[1] * (1 + u[0] * u[0] / 8), -u[0]], (0, t), [1.0, 0.5], method="DOP853", rtol=3e-14, atol=1e-15
    )
    return found.y[:, -1]


def test_measured_orders_are_five_and_four():
    run = _fixed_steps(solver(_oscillator().source))
    counts, at = np.array([16, 32, 64]), 2.0
    ends, insides = [], []
    for count in counts:
        h, end, inside = at / count, np.empty(2), np.empty(2)
        run(h, int(count), end, inside)
        ends.append(np.linalg.norm(end - _reference(at)))
        insides.append(np.linalg.norm(inside - _reference(at - h + 0.37 * h)))
    slopes = np.log2(np.array(ends[:-1]) / np.array(ends[1:]))
    assert abs(slopes[-1] - 5.0) < 0.1
    # at a fixed fraction of the last step the interpolant adds a local error ~ h^5 to the global one
    inner = np.log2(np.array(insides[:-1]) / np.array(insides[1:]))
    assert inner[-1] > 4.4
