"""The Op: value and gradient of the closed form inside PyTensor."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytensor
    import pytensor.tensor as pt

from pkpd.bayes.op import Concentration, concentration, kernel_key

TIMES = np.array([[0.0, 0.5, 1.0, 4.0, 24.0], [0.25, 2.0, 7.0, 12.0, np.nan]])
SUBJECT = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
COLUMN = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
AFTER = np.zeros(9, np.bool_)
DOSE = np.array([320.0, 250.0])


def design() -> tuple[np.ndarray, ...]:
    """One oral dose a subject at time 0."""
    kinds, targets = np.zeros(2, np.int8), np.zeros(2, np.int32)
    return (np.arange(3), np.zeros(2), kinds, targets, DOSE, np.zeros((0, 4)), TIMES, SUBJECT, COLUMN, AFTER)


def bateman(ka: np.ndarray, cl: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Dose ka / (V (ka - ke)) (e^-ke t - e^-ka t), the textbook form (Gibaldi & Perrier 1982)."""
    t, i = TIMES[SUBJECT, COLUMN], SUBJECT
    ke = cl / v
    return DOSE[i] * ka[i] / (v[i] * (ka[i] - ke[i])) * (np.exp(-ke[i] * t) - np.exp(-ka[i] * t))


def compiled():
    ka, cl, v = pt.dvectors("ka", "cl", "v")
    f = concentration(ka, cl, v, design())
    weights = pt.as_tensor(np.linspace(-1.0, 2.0, SUBJECT.size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytensor.function([ka, cl, v], [f, *pytensor.grad((weights * f).sum(), [ka, cl, v])], mode="NUMBA")


@pytest.fixture(scope="module")
def run():
    return compiled()


def test_value_is_batemans_function(run):
    ka, cl, v = np.array([1.5, 0.9]), np.array([2.8, 3.5]), np.array([32.0, 28.0])
    np.testing.assert_allclose(run(ka, cl, v)[0], bateman(ka, cl, v), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("ka0", [1.5, 0.05, 2.8 / 32.0, 2.8 / 32.0 * (1 + 1e-9)])
def test_gradient_is_the_central_difference(run, ka0):
    """Richardson-extrapolated differences of the value itself, through ka = ke and on the flip-flop side."""
    x = [np.array([ka0, 0.9]), np.array([2.8, 3.5]), np.array([32.0, 28.0])]
    weights = np.linspace(-1.0, 2.0, SUBJECT.size)
    exact = run(*x)[1:]
    for k in range(3):
        for i in range(2):

            def total(h, k=k, i=i):
                y = [a.copy() for a in x]
                y[k][i] += h
                return float(weights @ run(*y)[0])

            h = 1e-3 * x[k][i]
            once, twice = (total(h) - total(-h)) / (2 * h), (total(2 * h) - total(-2 * h)) / (4 * h)
            assert exact[k][i] == pytest.approx((4 * once - twice) / 3, rel=1e-7, abs=1e-9)


def test_failed_solve_is_nan_never_an_exception(run):
    value, *gradient = run(np.array([np.nan, 0.9]), np.array([2.8, 3.5]), np.array([32.0, 28.0]))
    assert np.isnan(value[SUBJECT == 0][1:]).all()
    assert np.isfinite(value[SUBJECT == 1]).all()
    assert np.isnan(gradient[0][0])


def test_python_fallback_equals_numba(run):
    x = [np.array([1.5, 0.9]), np.array([2.8, 3.5]), np.array([32.0, 28.0])]
    storage: list[list] = [[None], [None]]
    Concentration("x").perform(None, [*x, *design()], storage)
    np.testing.assert_array_equal(storage[0][0], run(*x)[0])


def test_key_hashes_the_kernel_source():
    """PyTensor keeps compiled graphs on disk under the key: a changed kernel must change it."""
    assert len(kernel_key()) == 64
    assert Concentration("a") == Concentration("a") != Concentration("b")
