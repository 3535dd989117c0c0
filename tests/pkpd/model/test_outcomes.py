"""Counts, categories, classes, events. Witness: scipy.stats' laws, moments over many addresses, the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pkpd.model import outcomes
from pkpd.model.spec import Model
from pkpd.model.variability import point

N = 20_000
U = (np.arange(N) + 0.5) / N


@pytest.mark.parametrize("mean", [0.01, 0.7, 3.0, 25.0, 900.0])
def test_poisson_counts_are_the_quantiles(mean: float) -> None:
    assert np.array_equal(outcomes.count("poisson", np.full(N, mean), U), stats.poisson.ppf(U, mean))


@pytest.mark.parametrize(("mean", "alpha"), [(0.5, 0.1065), (9.4, 0.1065), (40.0, 1.5), (3.0, 8.0)])
def test_negative_binomial_counts_are_the_quantiles(mean: float, alpha: float) -> None:
    expected = stats.nbinom.ppf(U, 1 / alpha, 1 / (1 + alpha * mean))
    assert np.array_equal(outcomes.count("negative_binomial", np.full(N, mean), U, dispersion=alpha), expected)


def test_no_dispersion_is_poisson_and_extra_zeros_are_zeros() -> None:
    poisson = outcomes.count("poisson", np.full(N, 4.0), U)
    assert np.array_equal(outcomes.count("negative_binomial", np.full(N, 4.0), U, dispersion=0.0), poisson)
    inflated = outcomes.count("poisson", np.full(N, 4.0), U, zeros=0.3)
    assert (inflated == 0).mean() == pytest.approx(0.3 + 0.7 * np.exp(-4), abs=2 / N)
    assert inflated.mean() == pytest.approx(0.7 * 4, rel=1e-3)


def test_a_mean_that_is_none_is_a_counted_failure() -> None:
    bad = outcomes.count("poisson", np.array([-1.0, np.nan, np.inf, 0.0]), np.full(4, 0.5))
    assert bad.tolist() == [-1, -1, -1, 0]


def test_ordered_levels_have_their_probabilities() -> None:
    p = np.repeat(np.array([[0.8], [0.5], [0.1]]), N, axis=1)
    found = outcomes.ordered(p, U)
    np.testing.assert_allclose(np.bincount(found.astype(int)) / N, [0.2, 0.3, 0.4, 0.1], atol=2 / N)


@pytest.mark.parametrize("p", [[0.5, 0.6], [1.2, 0.1], [0.5, -0.1], [0.5, np.nan]])
def test_impossible_probabilities_are_a_counted_failure(p: list[float]) -> None:
    assert outcomes.ordered(np.array(p)[:, None], np.array([0.5])).tolist() == [outcomes.INVALID]


MARKOV = """
vtrial: model/1
name: chain
states: {A: mg}
parameters:
  K: {typical: 0.1 1/h, status: assumed}
  UP: {typical: 0.2 1, scale: logit, status: assumed}
  STAY: {typical: 0.9 1, scale: logit, status: assumed}
  PR: {typical: 0.3 1, scale: logit, status: assumed}
  RATE: {typical: 0.5 1/d, status: assumed}
mixture: {fast: PR, slow: 0.5, none: rest}
equations: |
  d/dt(A) = -K*A*(1 + fast)
  P = if(LAST == 1, STAY, UP)
  R = RATE*(1 + 2*fast)
outputs:
  ILL: {kind: ordered, at_least: {1: P}, previous: {name: LAST, first: 0}}
  N: {is: R, kind: count, law: poisson, per: 2 d}
"""


def test_a_markov_chain_is_fed_by_what_was_simulated() -> None:
    model = Model.parse(MARKOV)
    subject, replicate = np.arange(4000, dtype=np.uint32), np.arange(2, dtype=np.uint32)
    known = {name: p.value for name, p in model.parameters.items()} | {"fast": np.zeros((2, 4000, 5)), "A": 0.0}
    found = outcomes.simulate(model, known, 3, subject=subject, replicate=replicate)
    ill = found["ILL"]
    assert ill.shape == (2, 4000, 5)
    share = 0.0
    for visit in range(5):
        share = share * 0.9 + (1 - share) * 0.2
        assert ill[:, :, visit].mean() == pytest.approx(share, abs=4 * 0.5 / np.sqrt(8000))
    assert ill[:, :, 1][ill[:, :, 0] == 1].mean() == pytest.approx(0.9, abs=0.03)
    assert found["N"].mean() == pytest.approx(1.0, abs=4 / np.sqrt(40_000))
    part = outcomes.simulate(
        model, known | {"fast": np.zeros((1, 3, 5))}, 3, subject=subject[7:10], replicate=replicate[1:]
    )
    assert np.array_equal(part["ILL"], ill[1:, 7:10])  # nobody's outcome depends on the batch


def test_classes_of_a_mixture() -> None:
    model = Model.parse(MARKOV)
    typical = np.repeat(point(model).typical, 2, axis=0)
    found = outcomes.classes(model, typical, 5, subject=np.arange(20_000), replicate=np.arange(2))
    assert list(found) == ["fast", "slow", "none"]
    assert np.array_equal(sum(found.values()), np.ones((2, 20_000)))
    for name, share in (("fast", 0.3), ("slow", 0.5), ("none", 0.2)):
        assert found[name].mean() == pytest.approx(share, abs=4 * 0.5 / np.sqrt(40_000))


def test_events_by_hazard_have_the_exponential_law() -> None:
    """A constant hazard of 0.1/h: first times are exponential, k-th times gamma with shape k."""
    limit = outcomes.thresholds(9, subject=np.arange(20_000), replicate=np.arange(1), event=0, occurrences=3)
    assert limit.shape == (1, 20_000, 3)
    times = np.linspace(0.0, 400.0, 81)
    cumulative = np.broadcast_to(0.1 * times, (1, 20_000, 3, 81))
    found = outcomes.crossing(times, cumulative, limit)
    for k in range(3):
        assert stats.kstest(found[0, :, k], stats.gamma(k + 1, scale=10).cdf).pvalue > 1e-3
    never = outcomes.crossing(times, np.zeros((1, 81)), np.array([0.5]))
    assert np.isinf(never).all()
