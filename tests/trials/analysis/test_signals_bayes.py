"""Full Bayes on the hyperparameters. Witnesses: the likelihood of the fit, a dense grid over all five of them on a small
table, scipy's gamma laws mixed by hand.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

from trials.analysis.signals_bayes import hyperposterior, log_prior, shrunk_over, swapped
from trials.analysis.signals_fit import (
    SignalStatus,
    Theta,
    cells_of,
    coordinates,
    fit,
    log_likelihood,
    negative_log_likelihood,
    shrunk,
)

HELD = Theta(alpha1=3.2538, beta1=0.3999, alpha2=2.0261, beta2=1.9081, p=0.0653)
N = np.array([1, 2, 3, 9, 1, 14, 4])
E = np.array([0.9, 1.5, 2.2, 1.8, 2.0, 2.4, 4.5])
WEIGHT = np.array([6.0, 5.0, 4.0, 1.0, 4.0, 1.0, 3.0])


@pytest.mark.parametrize("truncation", ["component", "joint", "none"])
def test_the_likelihood_is_that_of_the_fit(truncation):
    cells = cells_of(N, E, WEIGHT, truncation)
    ours = log_likelihood(coordinates(HELD)[None, :], cells)[0]
    assert ours == pytest.approx(-negative_log_likelihood(HELD, N, E, weight=WEIGHT, truncation=truncation), rel=1e-12)


@pytest.mark.slow
def test_posterior_of_a_small_table_against_a_dense_grid():
    """25 cells, no truncation; 45 log means x 17 products of each component's parameters x 13 p: 7.6 million points."""
    mean_log, product, logit = np.linspace(-3.3, 3.3, 45), np.linspace(-9.0, 9.0, 17), np.linspace(-7.0, 7.0, 13)
    u, v = (x.ravel() for x in np.meshgrid(mean_log, product, indexing="ij"))
    a, b = np.exp(0.5 * (v + u)), np.exp(0.5 * (v - u))
    prior = -0.5 * (u**2 + v**2) / 8.0  # of log a and log b, normal (0, 2)
    mass = gammaln(a[:, None] + N) - gammaln(a)[:, None] - gammaln(N + 1) + N * np.log(E / (b[:, None] + E))
    grown = np.maximum(np.exp(mass + a[:, None] * np.log(b[:, None] / (b[:, None] + E))), 1e-290)
    ok = np.where(np.abs(u[:, None] - u) < 1e-9, 0.5, u[:, None] > u)  # component 1 has the larger mean
    first = (a[:, None] + N) / (b[:, None] + E)
    total, mean, strong = 0.0, np.zeros(len(N)), 0.0
    for x in logit:
        p = 1.0 / (1.0 + np.exp(-x))
        logs, rates = np.zeros(ok.shape), []
        for k in range(len(N)):
            mixed = p * grown[:, None, k] + (1 - p) * grown[None, :, k]
            logs += WEIGHT[k] * np.log(mixed)
            share = p * grown[:, None, k] / mixed
            rates.append(share * first[:, None, k] + (1 - share) * first[None, :, k])
        weight = np.exp(logs + prior[:, None] + prior + 60.0) * p * (1 - p) * ok
        total, strong = total + weight.sum(), strong + p * weight.sum()
        mean += [float((weight * rate).sum()) for rate in rates]
    found = hyperposterior(N, E, fit(N, E, weight=WEIGHT, truncation="none"), seed=3, weight=WEIGHT, truncation="none")
    assert found.sound
    ours = np.mean([_means(theta) for theta in found.kept], axis=0)
    np.testing.assert_allclose(ours, mean / total, rtol=0.03)
    assert found.mean[4] == pytest.approx(strong / total, abs=0.02)


def _means(theta: Theta) -> np.ndarray:
    """Posterior means of lambda by hand."""
    laws = [(theta.alpha1, theta.beta1, theta.p), (theta.alpha2, theta.beta2, 1 - theta.p)]
    parts = [p * stats.nbinom.pmf(N, a, b / (b + E)) for a, b, p in laws]
    means = [(a + N) / (b + E) for a, b, _ in laws]
    return np.asarray((parts[0] * means[0] + parts[1] * means[1]) / (parts[0] + parts[1]))


def test_prior_and_its_order():
    """Twice the product of four normal laws and a logistic one, whichever component is called the first."""
    x = np.array([1.0, -0.5, 0.3, 0.8, -1.2])
    plain = stats.norm.logpdf(x[:4], scale=2.0).sum() + stats.logistic.logpdf(x[4]) + np.log(2.0)
    assert log_prior(x[None, :])[0] == pytest.approx(plain, rel=1e-12)
    assert log_prior(swapped(x[None, :]))[0] == pytest.approx(plain, rel=1e-12)


def test_scores_over_draws_are_those_of_the_mixed_law():
    """EB05 and EB95 solve the mean of two mixtures of scipy's gamma laws; EBGM is the mean of log lambda over both."""
    other = Theta(alpha1=20.0, beta1=1.7, alpha2=1.7, beta2=1.6, p=0.035)
    n, e = np.array([16.0, 1.0]), np.array([0.406, 0.9])
    made = shrunk_over(n, e, (HELD, other), shrunk(n, e, HELD))
    for k in range(2):
        for limit, u in ((made.eb05[k], 0.05), (made.eb95[k], 0.95)):
            heights = []
            for t in (HELD, other):
                f = [p * stats.nbinom.pmf(n[k], a, b / (b + e[k])) for a, b, p in
                     ((t.alpha1, t.beta1, t.p), (t.alpha2, t.beta2, 1 - t.p))]  # fmt: skip
                q = f[0] / sum(f)
                laws = (stats.gamma(t.alpha1 + n[k], scale=1 / (t.beta1 + e[k])),
                        stats.gamma(t.alpha2 + n[k], scale=1 / (t.beta2 + e[k])))  # fmt: skip
                heights.append(q * laws[0].cdf(limit) + (1 - q) * laws[1].cdf(limit))
            assert np.mean(heights) == pytest.approx(u, abs=1e-6)
        logs = [np.log(shrunk(n, e, t).ebgm[k]) for t in (HELD, other)]
        assert np.log(made.ebgm[k]) == pytest.approx(np.mean(logs), rel=1e-10)


@pytest.mark.slow
def test_a_failed_fit_is_no_hindrance():
    """Too few cells for a fit: the posterior is near the prior (p even, means about 1), not an error."""
    few = np.array([2, 1]), np.array([1.0, 1.0])
    none = fit(*few)
    found = hyperposterior(*few, none, seed=4)
    assert none.status is SignalStatus.TOO_FEW
    assert found.sound
    assert 0.3 < found.mean[4] < 0.7
