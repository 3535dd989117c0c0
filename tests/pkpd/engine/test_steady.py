"""Steady states of slow, saturable and gathering systems against matrix exponentials, root finders and integrals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import brentq

from pkpd.engine.build import compiled
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import SolveStatus, solve
from pkpd.kernels import fixed_point
from pkpd.model.regimen import EventKind, Events, Schedule
from pkpd.model.spec import Model

SLOW = """
vtrial: model/1
name: slow
states: {depot: mg, central: mg, hb: g/L, urine: mg}
parameters:
  KA:   {typical: 0.7 1/h, status: assumed}
  CL:   {typical: 3 L/h, status: assumed}
  V:    {typical: 30 L, status: assumed}
  KOUT: {typical: 0.0003 1/h, status: assumed}
  BASE: {typical: 130 g/L, status: assumed}
  SL:   {typical: 0.05 L/mg, status: assumed}
  LAG:  {typical: 1 h, status: assumed}
  D1:   {typical: 2 h, status: assumed}
equations: |
  C = central/V
  hb(0) = BASE
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
  d/dt(hb) = KOUT*(BASE*(1 + SL*C) - hb)
  d/dt(urine) = CL*C
doses: {depot: {lag: LAG, duration: D1}, central: {}}
outputs: {CP: {is: C}, HB: {is: hb}, U: {is: urine}}
"""
P = np.array([0.7, 3.0, 30.0, 3e-4, 130.0, 0.05, 1.0, 2.0])
SATURABLE = """
vtrial: model/1
name: saturable
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1 1/h, status: assumed}
  VM: {typical: 10 mg/h, status: assumed}
  KM: {typical: 5 mg, status: assumed}
equations: |
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - VM*central/(KM + central)
doses: {depot: {}}
outputs: {A: {is: central}}
"""


@pytest.fixture(scope="module")
def slow():
    return compiled(Model.parse(SLOW))


def steady(amount, interval, *, target=0, steady=1, rate=0.0, more=0):
    one = np.ones(1)
    return Events.pack([Schedule(
        0 * one, amount * one, np.array([target], np.int32), 0 * one, interval * one, np.array([steady], np.int8),
        rate=rate * one, more=np.array([more], np.int32),
    )])  # fmt: skip


def trough(p, dose=100.0, interval=24.0):
    """Haemoglobin at the record: fixed point of the linear cycle by matrix exponentials."""
    ka, cl, v, kout, base, sl, lag, _ = p
    matrix = np.array([[-ka, 0, 0], [ka, -cl / v, 0], [0, kout * base * sl / v, -kout]])
    peak = np.linalg.solve(np.eye(3) - expm(matrix * interval), [dose, 0, 0])
    return base + (expm(matrix * (interval - lag)) @ peak)[2]


@pytest.mark.parametrize("kout", [0.01, 0.008 / 24, 3e-4, 1e-4 / 24, 1e-5 / 24])
def test_slow_turnover_equals_its_fixed_point(slow, kout):
    """Half-lives from 3 days to 190 years under a dose a day; ratio of a cycle up to 0.99999. In 2,000 steps."""
    p = P.copy()
    p[3] = kout
    found = solve(slow, p[None], steady(100, 24), [0.0], path="tsit5", after=True, max_steps=2_000)
    assert found.status[0] == SolveStatus.OK
    assert found.values[0, 1, 0] == pytest.approx(trough(p), rel=1e-9)


def test_the_steady_state_repeats_and_what_gathers_starts_at_the_record(slow):
    """A hundred doses later nothing has moved; the amount excreted in an interval is the dose (mass balance)."""
    found = solve(slow, P[None], steady(100, 24, more=100), [0.0, 24.0, 2400.0], after=True, rtol=1e-9)
    np.testing.assert_allclose(found.values[0, :2, 1:], found.values[0, :2, :1].repeat(2, 1), rtol=1e-8)
    np.testing.assert_allclose(found.values[0, 2], [0.0, 100.0, 10_000.0], rtol=1e-7)


def test_a_steady_state_added_to_an_emptied_depot_by_doses_that_lag(slow):
    """SS = 2 an hour before its dose arrives, into a depot that was switched off: superposition by exponentials."""
    kind = np.array([EventKind.DOSE, EventKind.OFF, EventKind.DOSE], np.int8)
    events = Events.pack([Schedule(
        np.array([0.0, 3.0, 5.0]), np.array([40.0, 0.0, 100.0]), np.zeros(3, np.int32), np.zeros(3),
        np.array([0.0, 0.0, 24.0]), np.array([0, 0, 2], np.int8), kind=kind, rate=np.zeros(3),
    )])  # fmt: skip
    times = np.array([4.0, 5.5, 7.0, 20.0])
    found = solve(slow, P[None], events, times, rtol=1e-10, atol=1e-12)
    ka, ke = P[0], P[1] / P[2]
    matrix = np.array([[-ka, 0.0], [ka, -ke]])
    left = (expm(2.0 * matrix) @ [40.0, 0.0])[1] * np.exp(-ke * (times - 3.0))
    peak = np.linalg.solve(np.eye(2) - expm(24.0 * matrix), [100.0, 0.0])
    since = (times - 6.0) % 24.0
    periodic = [(expm(matrix * s) @ peak)[1] if t >= 5.0 else 0.0 for s, t in zip(since, times, strict=True)]
    np.testing.assert_allclose(found.values[0, 0], (left + periodic) / P[2], rtol=1e-8)


def test_what_neighbours_ask_of_the_solver_changes_no_bit():
    """A text with the search for steady states, with switches or with neither: the same subject, the same bits."""
    model, one = compiled(Model.parse(SATURABLE)), np.ones(1)
    plain = Schedule(0 * one, 30 * one, np.zeros(1, np.int32), 0 * one, 0 * one, np.zeros(1, np.int8))
    repeated = Schedule(0 * one, 30 * one, np.zeros(1, np.int32), 0 * one, 24 * one, np.ones(1, np.int8))
    off = Schedule(one, 0 * one, np.zeros(1, np.int32), 0 * one, 0 * one, np.zeros(1, np.int8),
                   kind=np.array([EventKind.OFF], np.int8))  # fmt: skip
    times, row = np.linspace(0.0, 30.0, 11), np.array([1.0, 10.0, 5.0])
    alone = solve(model, row[None], Events.pack([plain]), times).values[0]
    for neighbour in (repeated, off):
        both = solve(model, np.stack([row, row]), Events.pack([plain, neighbour]), times)
        assert np.array_equal(both.values[0], alone)
        assert not np.array_equal(both.values[1], alone)


@pytest.mark.parametrize("share", [0.95, 0.999])
def test_saturable_elimination_near_its_limit(share):
    """Trough by a root finder on SciPy's cycle."""
    amount = 240.0 * share
    found = solve(compiled(Model.parse(SATURABLE)), np.array([[1.0, 10.0, 5.0]]), steady(amount, 24), [0.0],
                  rtol=1e-10, after=True)  # fmt: skip
    peak = amount / (1.0 - np.exp(-24.0))

    def gain(c):
        def slope(t, y):
            return [np.exp(-t) * peak - 10.0 * y[0] / (5.0 + y[0])]

        return solve_ivp(slope, (0, 24), [c], rtol=1e-11, atol=1e-11, method="LSODA").y[0, -1] - c

    assert found.values[0, 0, 0] == pytest.approx(brentq(gain, 0.0, 1e5, xtol=1e-9), rel=2e-6)


@pytest.mark.parametrize("parameters", [[1.0, 10.0, 5.0], [1.0, 0.0, 5.0]])
def test_no_steady_state_is_said_so(parameters):
    """Input above the largest elimination, and no elimination at all."""
    found = solve(compiled(Model.parse(SATURABLE)), np.array([parameters]), steady(260.0, 24), [0.0], after=True)
    assert found.status[0] == SolveStatus.NOT_STEADY


TIES = {
    "slow": steady(100, 24), "infusion with lag that ends at the record": steady(100, 3.0, rate=-2.0),
    "infusion as long as the interval": steady(100, 2.0, rate=-2.0),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", TIES)
def test_sensitivities_of_steady_states_equal_central_differences(slow, case):
    """Richardson-extrapolated central differences at rtol 1e-12, to 1e-6 of the largest."""
    times, tight = np.array([2.5, 7.7, 30.0, 200.0]), {"rtol": 1e-12, "atol": 1e-13, "path": "ode"}
    found = sensitivities(slow, P[None], TIES[case], times, path="ode", rtol=1e-10, atol=1e-11)
    tops = np.abs(found.gradient[0]).max(axis=(1, 2))[:, None]
    for k in range(len(P)):
        moved = np.array([P * np.exp(h * (np.arange(len(P)) == k)) for h in (2e-4, -2e-4, 1e-4, -1e-4)])
        a, b, c, d = solve(slow, moved, TIES[case].subjects([0, 0, 0, 0]), times, **tight).values
        expected = (4 * (c - d) / 2e-4 - (a - b) / 4e-4) / 3
        assert (np.abs(found.gradient[0, :, k] - expected) <= 1e-6 * tops).all()


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_linear_cycle_takes_four_cycles_more_than_states(size):
    """A chain of compartments, what is kept of each from 0.9999 down to 0; the fixed point by linear algebra."""
    matrix = np.diag(1 - np.logspace(-4, 0, size)) + np.tril(np.full((size, size), 1e-3), -1)
    y, cycles = iterated(lambda x: matrix @ x + np.arange(1.0, size + 1), np.zeros(size))
    np.testing.assert_allclose(y, np.linalg.solve(np.eye(size) - matrix, np.arange(1.0, size + 1)), rtol=1e-6)
    assert cycles <= size + 4


def test_a_state_may_change_its_sign():
    """Eigenvalues 0, 0.99 and 0.9999 in mixed directions, a fixed point of either sign from a positive start."""
    turn = np.linalg.qr(np.cos(np.arange(9.0)).reshape(3, 3))[0] + 2 * np.eye(3)
    matrix = turn @ np.diag(1 - np.logspace(-4, 0, 3)) @ np.linalg.inv(turn)
    y, _ = iterated(lambda x: matrix @ x + np.arange(1.0, 4.0), np.ones(3))
    np.testing.assert_allclose(y, np.linalg.solve(np.eye(3) - matrix, np.arange(1.0, 4.0)), rtol=1e-6)


def test_a_total_that_no_cycle_changes_stays():
    """Two states exchange, what is in both stays 3; the third follows the first: the limit of the plain cycles."""
    matrix = np.array([[0.9, 0.2, 0.0], [0.1, 0.8, 0.0], [0.001, 0.0, 0.999]])
    y, _ = iterated(lambda x: matrix @ x, np.array([3.0, 0.0, 0.0]))
    np.testing.assert_allclose(y, [2.0, 1.0, 2.0], rtol=1e-9)


def test_a_cycle_that_moves_away_has_no_steady_state():
    """A repelling fixed point (slope 2), and one that is crossed back and forth (slope -2)."""
    for slope in (2.0, -2.0):
        with pytest.raises(ArithmeticError):
            iterated(lambda x, slope=slope: slope * x + 1.0, np.ones(1))


def iterated(cycle, y):
    """Where the search ends, and how many cycles it took."""
    n = len(y)
    place = np.arange(n)[None]
    V, J, two = np.zeros((5, n)), np.zeros((n, n)), np.zeros((2, n, n))
    sums, N, L, free = np.zeros((2, 2, n)), np.zeros(8, np.int64), np.ones(8), np.ones(n, np.bool_)
    V[3] = y
    fixed_point.begin(V, N, L)
    for k in range(1, 1000):
        image = cycle(V[3].copy())
        what = fixed_point.advance(V, J, two, sums[0], sums[1], N, L, image, place, free, 1e-9, 1e-9)
        if what == fixed_point.DONE:
            return V[3], k
        if what != fixed_point.GO:
            raise ArithmeticError(what)
    raise AssertionError("no end")
