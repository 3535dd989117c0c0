"""Own exp and log against 60-digit arithmetic (decimal), their edges against IEEE 754 and C's pow."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from numba import njit

from pkpd.kernels import elementary as own

getcontext().prec = 60
INF, NAN = math.inf, math.nan


def _ulps(found, exact):
    return max(
        float(abs(Decimal(float(f)) - e) / Decimal(math.ulp(float(e)))) for f, e in zip(found, exact, strict=True)
    )


def test_exp_below_one_ulp():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-708, 709, 2000), rng.uniform(-1, 1, 2000), rng.normal(0, 1e-8, 200)])
    assert _ulps(own.exp_array(x), [Decimal(float(v)).exp() for v in x]) < 1.0


def test_log_below_one_ulp():
    rng = np.random.default_rng(2)
    near_one = 1.0 + rng.normal(0, 1e-5, 500)
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 1500)), rng.uniform(0.5, 2, 1500), near_one])
    assert _ulps(own.log_array(x), [Decimal(float(v)).ln() for v in x]) < 1.0


def test_edges_of_exp():
    x = [0.0, -0.0, INF, -INF, NAN, 709.78, 709.79, -745.13, -745.14]
    expected = [1.0, 1.0, INF, 0.0, NAN, math.exp(709.78), INF, 5e-324, 0.0]
    np.testing.assert_allclose(own.exp_array(x), expected, rtol=4e-16)


def test_subnormal_results_of_exp_are_gradual():
    assert own.exp_array([-744.0])[0] == math.exp(-744.0)
    assert own.exp_array([-720.0])[0] == pytest.approx(math.exp(-720.0), rel=1e-11)


def test_edges_of_log():
    x = [0.0, -0.0, INF, NAN, -1.0, -INF, 1.0, 5e-324, 2e-310]
    expected = [-INF, -INF, INF, NAN, NAN, NAN, 0.0, math.log(5e-324), math.log(2e-310)]
    np.testing.assert_allclose(own.log_array(x), expected, rtol=4e-16)


# C11 annex F.10.4.4
POWERS = [
    (0.0, 2.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, INF), (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0), (-2.0, 0.5, NAN),
    (1.0, INF, 1.0), (1.0, NAN, 1.0), (NAN, 0.0, 1.0), (NAN, 1.0, NAN), (INF, 2.0, INF), (INF, -1.0, 0.0),
    (2.0, -INF, 0.0), (0.5, INF, 0.0), (2.0, 10.0, 1024.0), (70.0, 0.75, 70.0**0.75), (1e-300, 0.5, 1e-150), (-1.0, 1e300, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("x", "y", "expected"), POWERS)
def test_power(x, y, expected):
    np.testing.assert_allclose(own.power_array(x, y), expected, rtol=2e-13)


def test_power_near_one_is_accurate():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0.3, 3, 500), rng.uniform(-1.5, 1.5, 500)
    exact = [Decimal(float(a)) ** Decimal(float(b)) for a, b in zip(x, y, strict=True)]
    assert _ulps(own.power_array(x, y), exact) < 4.0


@njit
def _fast(x, y, out):
    for i in range(x.size):
        out[0, i], out[1, i] = own.exp2(x[i]), own.rough_power(y[i], -0.2)


def test_powers_of_two_and_lengths_of_steps():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(-1020, 1023, 1500), np.exp(rng.uniform(-23, 23, 1500))
    out = np.empty((2, 1500))
    _fast(x, y, out)
    assert _ulps(out[0], [Decimal(2) ** Decimal(float(v)) for v in x]) < 1.5
    np.testing.assert_allclose(out[1], y**-0.2, rtol=2e-4)
    edges = np.array([0.0, 1.0, 1100.0, -np.inf, NAN])
    _fast(edges, np.ones(5), out)
    np.testing.assert_array_equal(out[0, :5], [1.0, 2.0, INF, 2.0**-1021, NAN])


def test_expit_in_both_tails():
    x = np.array([-800.0, -50.0, -1.0, 0.0, 1.0, 50.0, 800.0])
    exact = [1 / (1 + (-Decimal(float(v))).exp()) for v in x]
    np.testing.assert_allclose(own.expit_array(x), [float(e) for e in exact], rtol=4e-16, atol=1e-323)
    assert math.isnan(own.expit_array([NAN])[0])


def test_shapes_broadcast_and_keep():
    x = np.arange(6.0).reshape(2, 3)
    assert own.exp_array(x.T).shape == (3, 2)
    np.testing.assert_allclose(own.exp_array(x.T), np.exp(x.T), rtol=4e-16)
    assert own.power_array(x, 2.0).shape == (2, 3)
    assert own.power_array(x[:, :1], np.ones(3)).shape == (2, 3)
    assert own.log_array(1.0).shape == ()
    assert own.exp_array(np.empty((0, 4))).shape == (0, 4)


def test_bits_do_not_depend_on_position_or_length():
    # vector body and scalar tail of the loop must agree to the bit
    x = np.random.default_rng(4).uniform(-20, 20, 103)
    for function in (own.exp_array, own.expit_array, lambda v: own.log_array(np.abs(v))):
        whole = function(x)
        assert all(function(x[k : k + 1])[0] == whole[k] for k in range(103))
        assert (function(x[5:60]) == whole[5:60]).all()
