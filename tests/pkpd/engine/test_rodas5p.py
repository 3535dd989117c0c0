"""Rodas5P: coefficients by the order conditions (Hairer & Wanner II, section IV.7), order as measured, sparse LU."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine import rodas5p
from pkpd.engine.build import compiled, of_dynamics
from pkpd.engine.dynamics import Dynamics
from pkpd.engine.load import solver
from pkpd.engine.rodas5p_source import Elimination
from pkpd.engine.solve import solve
from pkpd.model.equations import equations
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule


def _square(rows):
    full = np.zeros((8, 8))
    for i, row in enumerate(rows):
        full[i, : len(row)] = row
    return full


# back from the transformed to the original form: GAMMA^-1 = I/gamma - C, alpha = A GAMMA, b = (row 8 of A, 1) GAMMA
G = np.linalg.inv(np.eye(8) / rodas5p.GAMMA - _square(rodas5p.C))
ALPHA = _square(rodas5p.A) @ G
M = np.r_[_square(rodas5p.A)[7, :7], 1.0]
ONE = np.ones(8)
a, BETA = ALPHA @ ONE, ALPHA + G
b1 = BETA @ ONE
TREES = {
    1: [(ONE, 1)],
    2: [(b1, 2)],
    3: [(a**2, 3), (BETA @ b1, 6)],
    4: [(a**3, 4), (a * (ALPHA @ b1), 8), (BETA @ a**2, 12), (BETA @ BETA @ b1, 24)],
    5: [
        (a**4, 5),
        (a**2 * (ALPHA @ b1), 10),
        ((ALPHA @ b1) ** 2, 20),
        (a * (ALPHA @ a**2), 15),
        (a * (ALPHA @ BETA @ b1), 30),
        (BETA @ a**3, 20),
        (BETA @ (a * (ALPHA @ b1)), 40),
        (BETA @ BETA @ a**2, 60),
        (BETA @ BETA @ BETA @ b1, 120),
    ],
}


def test_nodes_and_time_weights_are_row_sums():
    np.testing.assert_allclose(a, rodas5p.NODES, atol=1e-13)
    np.testing.assert_allclose(G @ ONE, rodas5p.TIME, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_order_conditions(order):
    for weights, density in TREES[order]:
        assert M @ G @ weights == pytest.approx(1 / density, abs=2e-13)
        if order < 5:  # the embedded solution leaves the last stage out
            assert np.r_[M[:7], 0.0] @ G @ weights == pytest.approx(1 / density, abs=2e-13)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_dense_output_has_order_four(order):
    h = _square(rodas5p.H)
    for x in (0.2, 0.5, 0.9):
        along = x * (M + (1 - x) * (h[0] + x * (h[1] + x * h[2])))
        for weights, density in TREES[order]:
            assert along @ G @ weights == pytest.approx(x**order / density, abs=3e-12)


def test_it_is_l_stable():
    # R(z) = 1 + z b (I - z BETA)^-1 1 with the lower triangular BETA
    for z in (-1e2, -1e4, -1e8, 50j, 1e4j):
        r = 1 + z * (M @ G) @ np.linalg.solve(np.eye(8) - z * BETA, ONE)
        assert abs(r) < (1e-1 if z == -1e2 else 1.0)
    assert abs(1 + -1e12 * (M @ G) @ np.linalg.solve(np.eye(8) + 1e12 * BETA, ONE)) < 1e-2


def test_sparse_elimination_equals_dense_solve():
    rng = np.random.default_rng(1)
    for n in (1, 3, 6, 9):
        dense = np.where(rng.uniform(size=(n, n)) < 0.35, rng.normal(size=(n, n)), 0.0)
        pattern = {(int(i), int(j)) for i, j in np.argwhere(dense)}
        matrix = dense + np.eye(n) * 10
        steps = Elimination.of(pattern, range(n))
        values = {f"m{i}_{j}": matrix[i, j] for i in range(n) for j in range(n) if (i, j) in pattern or i == j}
        right = rng.normal(size=n)
        values |= {f"b_{j}": right[j] for j in range(n)} | {"fma": lambda x, y, z: x * y + z}
        exec("\n".join([*steps.factor(pattern), *steps.solve("b")]), values)  # noqa: S102 (our own text)
        np.testing.assert_allclose([values[f"b_{j}"] for j in range(n)], np.linalg.solve(matrix, right), rtol=1e-12)


def _driven():
    """Nonlinear, with the clock inside: y1' = y2 (1 + y1^2/8) + t/4, y2' = -y1 exp(-t/9)."""
    lines = equations("d/dt(a) = b*(1 + a*a/8) + TIME/4\nd/dt(b) = -a*exp(-TIME/9)\na(0) = 1\nb(0) = K")
    pick = lambda kind: {e.target: e.expression for e in lines if e.kind == kind}  # noqa: E731
    return of_dynamics(
        Dynamics(
            states=("a", "b"), parameters=("K",), assigned={}, derivative=pick("derivative"), initial=pick("initial"),
            bioavailability={}, lag={}, outputs=("a", "b"),
        )
    )  # fmt: skip


def test_measured_order_is_five_and_four_inside_the_step(measured_orders):
    def slope(t, u):
        return [u[1] * (1 + u[0] * u[0] / 8) + t / 4, -u[0] * np.exp(-t / 9)]

    module = solver(_driven().text("rodas5p")).__globals__
    end, inside = measured_orders(module, np.array([0.5]), slope, [1.0, 0.5])
    assert abs(end - 5.0) < 0.1
    assert abs(inside - 4.0) < 0.1


def _arguments(name, amount, times, n=5):
    model = compiled(load(name))
    text = load(name)
    typical = np.array([float(text.parameters[p].typical) for p in model.parameters])
    p = typical * np.exp(0.2 * np.random.default_rng(2).normal(size=(n, len(typical))))
    t = np.atleast_1d(np.asarray(times[0], float))
    k, zero = len(t), np.zeros(len(t))
    doses = Schedule(t, np.full(k, amount), np.zeros(k, np.int32), zero, zero, zero.astype(np.int8))
    return model, p, Events.shared(doses, n), times[1]


@pytest.mark.parametrize(
    ("name", "amount", "times"),
    [("w2", 100.0, ([0.0], np.arange(0, 145.0, 6))), ("w3", 5.0, ([0.0, 504.0], np.arange(2.0, 1000, 24)))],
)
def test_both_methods_agree_at_tight_tolerances(name, amount, times):
    arguments = _arguments(name, amount, times)
    stiff = solve(*arguments, path="rodas5p", rtol=1e-10, atol=1e-12)
    explicit = solve(*arguments, path="tsit5", rtol=1e-10, atol=1e-12)
    assert not stiff.status.any()
    scale = np.abs(explicit.values).max(axis=2, keepdims=True)
    assert np.max(np.abs(stiff.values - explicit.values) / scale) < 1e-8


def test_bits_do_not_depend_on_the_company_or_the_lane():
    model, p, events, t = _arguments("w3", 5.0, ([0.0, 504.0], np.arange(2.0, 1000, 24)), n=19)
    whole = solve(model, p, events, t, path="rodas5p").values
    for i in (0, 9, 18):
        alone = solve(model, p[[i]], events.subjects(np.array([i])), t, path="rodas5p").values
        assert alone.tobytes() == whole[[i]].tobytes()
