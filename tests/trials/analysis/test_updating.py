"""Posteriors of contrasts. Witnesses: the conjugate normal, scipy.integrate on likelihood times prior, Student's t in the
limit of a flat prior, the published sceptical reading of a trial, and calibration by Bayes' theorem itself.
"""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from pkpd.ground.errors import InputError
from trials.analysis.updating import NormalMixture, updated

ROBUST = NormalMixture(weight=(0.7, 0.3), mean=(-1.0, 0.0), sd=(0.5, 2.0))


@pytest.mark.parametrize("df", [3.0, 8.0, 40.0, np.inf])
def test_it_is_likelihood_times_prior(df):
    def density(theta):
        own = stats.norm.pdf((0.3 - theta) / 0.4) if np.isinf(df) else stats.t.pdf((0.3 - theta) / 0.4, df)
        return own * (0.7 * stats.norm.pdf(theta, -1, 0.5) + 0.3 * stats.norm.pdf(theta, 0, 2))

    def mass(low, high, power=0):
        edges = [low, *(x for x in (-3.0, -1.0, 0.3, 2.0) if low < x < high), high]
        parts = [integrate.quad(lambda t: t**power * density(t), a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
                 for a, b in itertools.pairwise(edges)]  # fmt: skip
        return sum(parts)

    made, whole = updated(0.3, 0.4, ROBUST, df=df, margin=-0.2, level=0.9), mass(-25, 25)
    mean = mass(-25, 25, 1) / whole
    assert float(made.mean) == pytest.approx(mean, abs=1e-8)
    assert float(made.sd) == pytest.approx(np.sqrt(mass(-25, 25, 2) / whole - mean**2), abs=1e-8)
    assert float(made.below) == pytest.approx(mass(-25, -0.2) / whole, abs=1e-8)
    assert float(made.above) == pytest.approx(mass(-0.2, 25) / whole, abs=1e-8)
    assert mass(-25, float(made.lower)) / whole == pytest.approx(0.05, abs=1e-8)
    assert mass(float(made.upper), 25) / whole == pytest.approx(0.05, abs=1e-8)


def test_one_normal_is_conjugate_and_a_flat_one_the_t_test():
    made = updated([-0.5, 2.0], [0.2, 0.7], NormalMixture(weight=(1.0,), mean=(0.1,), sd=(0.3,)))
    precision = 1 / np.array([0.2, 0.7]) ** 2 + 1 / 0.3**2
    np.testing.assert_allclose(made.sd, precision**-0.5, rtol=1e-12)
    np.testing.assert_allclose(made.mean, (np.array([-0.5, 2.0]) / [0.04, 0.49] + 0.1 / 0.09) / precision, rtol=1e-12)
    np.testing.assert_allclose(made.upper, made.mean + 1.959963984540054 * made.sd, rtol=1e-10)
    flat = updated(0.3, 0.4, NormalMixture(weight=(1.0,), mean=(0.0,), sd=(1e5,)), df=7.0)
    assert float(flat.below) == pytest.approx(stats.t.sf(0.75, 7), abs=1e-8)
    assert float(flat.lower) == pytest.approx(0.3 - 0.4 * stats.t.ppf(0.975, 7), abs=1e-8)


def test_a_sceptical_prior_moves_a_hazard_ratio_as_by_hand():
    """A prior centred at no effect and worth as many events as the trial halves the logarithm: log HR by 4/m of variance
    (Spiegelhalter, Freedman & Parmar 1994, section 4: log HR ~ N(., 4/m)).
    """
    events = 120
    sceptic = NormalMixture(weight=(1.0,), mean=(0.0,), sd=(np.sqrt(4 / events),))
    made = updated(np.log(0.7), np.sqrt(4 / events), sceptic)
    assert np.exp(float(made.mean)) == pytest.approx(np.sqrt(0.7), rel=1e-12)
    assert float(made.sd) == pytest.approx(np.sqrt(4 / (2 * events)), rel=1e-12)


def test_intervals_cover_what_the_prior_draws():
    """Truths from the prior, estimates around them: 90 % intervals cover in 90 %, within 4 standard errors."""
    rng, n = np.random.default_rng(8), 20_000
    truth = np.where(rng.uniform(size=n) < 0.7, rng.normal(-1.0, 0.5, n), rng.normal(0.0, 2.0, n))
    made = updated(truth + 0.4 * rng.standard_t(9.0, n), 0.4, ROBUST, df=9.0, level=0.9)
    covered = ((made.lower <= truth) & (truth <= made.upper)).mean()
    assert covered == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / n))
    assert made.above.mean() == pytest.approx((truth > 0).mean(), abs=4 * np.sqrt(0.25 / n))


def test_what_cannot_be_estimated_stays_so_and_a_wrong_prior_is_refused():
    made = updated([np.nan, 0.1, 0.1], [0.1, 0.0, np.inf], ROBUST)
    assert np.isnan(made.mean).all()
    with pytest.raises(InputError, match="sum to 1"):
        NormalMixture(weight=(0.7, 0.7), mean=(0.0, 0.0), sd=(1.0, 1.0))
    with pytest.raises(InputError, match=r"prior\.sd"):
        NormalMixture(weight=(1.0,), mean=(0.0,), sd=(0.0,))


@pytest.mark.parametrize(("estimate", "df"), [(12.0, 60.0), (20.0, 100.0), (50.0, 10.0), (200.0, 1000.0)])
def test_a_prior_far_from_the_estimate(estimate, df):
    """Likelihood times prior on a grid, where the two disagree by many standard errors and Student's t matters most."""
    theta = np.linspace(-15.0, estimate + 15.0, 400_001)
    log_density = stats.norm.logpdf(theta) + stats.t.logpdf(estimate - theta, df)
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = density @ theta
    made = updated(estimate, 1.0, NormalMixture(weight=(1.0,), mean=(0.0,), sd=(1.0,)), df=df)
    assert float(made.mean) == pytest.approx(mean, abs=1e-6)
    assert float(made.sd) == pytest.approx(np.sqrt(density @ (theta - mean) ** 2), abs=1e-6)
    assert float(made.below) == pytest.approx(density[theta < 0.0].sum(), rel=5e-3)
