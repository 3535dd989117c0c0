"""The prior of a fit in numpy against SciPy's densities with their Jacobians, and against the compiled density."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pkpd.bayes.batched import batched
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design
from pkpd.bayes.plan import plan
from pkpd.bayes.prior_law import PriorLaw, prior_law


@pytest.fixture(scope="module")
def law(model, records) -> Density:
    return density(plan(model, "CP"), design(model, records))


@pytest.fixture(scope="module")
def prior(law) -> PriorLaw:
    return prior_law(law.layout)


@pytest.fixture(scope="module")
def points(prior) -> np.ndarray:
    return prior.draw(stats.norm.ppf(np.random.default_rng(4).uniform(size=(400, prior.size))))


def test_it_is_the_product_of_scipys_densities(law, prior, points):
    """Normals of typical values, half-normals by their logs, LKJ partials by their logits, standard normals."""
    how, x = law.layout.plan, points
    n_t, q, n_p, n_e = law.layout.sizes
    said = np.zeros(len(x))
    for k, p in enumerate(how.typical.values()):
        said += stats.norm(p.location, p.scale).logpdf(x[:, k])
    for k, p in enumerate([*how.spread.values(), *how.error.values()]):
        at = n_t + k if k < q else n_t + q + n_p + k - q
        said += stats.halfnorm(scale=p.scale).logpdf(np.exp(x[:, at])) + x[:, at]
    for k, b in enumerate(law.layout.shapes()[0]):
        u = 1.0 / (1.0 + np.exp(-x[:, n_t + q + k]))
        said += stats.beta(b, b).logpdf(u) + np.log(u * (1.0 - u))
    said += stats.norm.logpdf(x[:, n_t + q + n_p + n_e :]).sum(axis=1)
    assert prior(points)[0] == pytest.approx(said, rel=1e-10)


def test_its_gradient_is_that_of_differences(prior, points):
    """Central differences."""
    x = points[:5]
    g = prior(x)[1]
    for k in range(prior.size):
        h = np.zeros(prior.size)
        h[k] = 1e-6
        slope = (prior(x + h)[0] - prior(x - h)[0]) / 2e-6
        assert g[:, k] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_its_draws_have_its_quantiles(law, prior, points):
    """Kolmogorov and Smirnov, every kind of quantity."""
    n_t, q, _, _ = law.layout.sizes
    first, spread = next(iter(law.layout.plan.typical.values())), next(iter(law.layout.plan.spread.values()))
    b = law.layout.shapes()[0][0]
    laws = [
        (points[:, 0], stats.norm(first.location, first.scale)),
        (np.exp(points[:, n_t]), stats.halfnorm(scale=spread.scale)),
        (1.0 / (1.0 + np.exp(-points[:, n_t + q])), stats.beta(b, b)),
        (points[:, -1], stats.norm()),
    ]
    assert min(stats.kstest(x, told.cdf).pvalue for x, told in laws) > 0.001


@pytest.mark.slow
def test_the_compiled_density_is_prior_and_rows(law, prior, points):
    """The compiled density less the prior is the sum of its rows."""
    x = points[:20]
    value = batched(law)(x)[0]
    rows = np.array([law.by_row(one).sum() for one in x])
    good = np.isfinite(value)
    assert good.sum() > 10
    assert (value - prior(x)[0])[good] == pytest.approx(rows[good], rel=1e-9)
