"""Pareto smoothing. Witness: arviz-stats 1.3 (its own code), and the shape of a known generalised Pareto tail."""

from __future__ import annotations

import numpy as np
import pytest
from arviz_stats.base import array_stats

from pkpd.twin.psis import effective, pareto_fit, smoothed


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("size", [200, 1000])
def test_smoothed_weights_and_k_are_those_of_arviz(spread, size):
    raw = spread * np.random.default_rng(size).standard_t(4, size=(3, size))
    weight, k = smoothed(raw)
    for i in range(3):
        theirs, shape = array_stats.psislw(raw[i].copy())  # of log-likelihoods: arviz negates
        theirs, shape = array_stats.psislw(-raw[i])
        np.testing.assert_allclose(k[i], shape, rtol=1e-10)
        np.testing.assert_allclose(weight[i], np.exp(theirs), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_the_fit_finds_the_shape_of_a_generalised_pareto(shape):
    u = np.random.default_rng(1).uniform(size=(20, 4000))
    sample = np.sort(((1.0 - u) ** -shape - 1.0) / shape, axis=1)
    k, sigma = pareto_fit(sample)
    assert abs(k.mean() - shape) < 3 * k.std() / np.sqrt(20) + 0.01
    np.testing.assert_allclose(sigma.mean(), 1.0, atol=0.05)


def test_a_patient_does_not_depend_on_the_others():
    raw = np.random.default_rng(2).normal(size=(5, 500))
    weight, k = smoothed(raw)
    alone, k_alone = smoothed(raw[3:4])
    assert np.array_equal(weight[3], alone[0])
    assert k[3] == k_alone[0]


def test_no_weight_at_all_is_not_a_number_and_not_trusted():
    weight, k = smoothed(np.full((1, 100), -np.inf))
    assert np.isnan(weight).all()
    assert np.isinf(k[0])


def test_effective_number_of_one_heavy_draw():
    np.testing.assert_allclose(effective(np.array([[0.5, 0.25, 0.25]])), [1.0 / 0.375])
