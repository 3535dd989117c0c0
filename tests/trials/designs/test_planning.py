"""Rules of two-stage and adaptive designs by examples; graphs, borrowing and recruitment against identities and R."""

import itertools

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.designs import (
    adaptive_randomisation,
    betas,
    borrowing,
    decisions,
    graphs,
    hierarchy,
    recruitment,
    simon,
    stepwise,
)
from trials.designs.adaptive_randomisation import Design
from trials.designs.betas import Mixture

P = np.array([[0.01, 0.02, 0.03, 0.04], [0.04, 0.01, 0.2, 0.012], [0.5, 0.001, 0.02, 0.02]])


@pytest.mark.parametrize(
    ("stage", "responses", "decision"),
    [(1, 0, "stop"), (1, 3, "stop"), (1, 4, "continue"), (2, 12, "reject"), (2, 13, "promising")],
)
def test_simon_rule(stage, responses, decision):
    """Simon 1989, p0 0.2, p1 0.4: 3/13, 12/43."""
    assert simon.decide(simon.TwoStage(r1=3, n1=13, r=12, n=43), stage, responses) == decision


@pytest.mark.parametrize(
    ("p0", "p1", "errors", "optimal", "minimax"),
    [
        (0.05, 0.25, (0.05, 0.1), (0, 9, 3, 30), (0, 15, 3, 25)),
        (0.1, 0.3, (0.05, 0.1), (2, 18, 6, 35), (2, 22, 6, 33)),
        (0.3, 0.5, (0.1, 0.1), (7, 22, 17, 46), (7, 28, 15, 39)),
    ],
)
def test_simon_published(p0, p1, errors, optimal, minimax):
    """Simon, Control Clin Trials 1989;10:1, tables 1 and 2."""
    for search, wanted in ((simon.optimal, optimal), (simon.minimax, minimax)):
        found = search(p0, p1, alpha=errors[0], beta=errors[1])
        assert (found.r1, found.n1, found.r, found.n) == wanted


def test_simon_search_is_exhaustive():
    """Brute force over every (r1, n1, r, n) with n <= 15: nothing has a smaller expected size."""
    best = (np.inf, None)
    for n in range(2, 16):
        for n1, r1, r in itertools.product(range(1, n), range(n), range(n)):
            if r1 < n1 and r1 <= r:
                design = simon.TwoStage(r1=r1, n1=n1, r=r, n=n)
                exact = simon.characteristics(design, [0.1, 0.5])
                if exact.promising[0] <= 0.05 and exact.promising[1] >= 0.8 and exact.expected[0] < best[0] - 1e-12:
                    best = (exact.expected[0], design)
    found = simon.optimal(0.1, 0.5)
    assert simon.characteristics(found, [0.1]).expected[0] == pytest.approx(best[0], abs=1e-12)


def test_simon_simulation_agrees():
    design = simon.TwoStage(r1=3, n1=13, r=12, n=43)
    exact, found = (
        simon.characteristics(design, [0.2, 0.4]),
        simon.simulate(design, [0.2, 0.4], seed=1, replicates=np.arange(4000)),
    )
    for name, error in zip(("promising", "stopped", "expected"), found.mcse, strict=True):
        assert (np.abs(getattr(found, name) - getattr(exact, name)) < 4 * error).all()


@pytest.mark.parametrize(
    ("n", "events", "active", "winner", "kept"),
    [
        ([50, 50, 50], [5, 20, 25], [1, 1, 1], 0, [1, 0, 0]),  # superior: the trial stops
        ([50, 50, 50], [10, 12, 28], [1, 1, 1], -1, [1, 1, 0]),  # the last is dropped
        ([50, 50, 50], [10, 12, 11], [1, 1, 1], -1, [1, 1, 1]),
        ([50, 50, 50], [25, 12, 12], [1, 1, 0], 1, [0, 1, 0]),  # only one is left
        ([50, 50, 50], [10, 12, 1], [1, 1, 0], -1, [1, 1, 0]),  # a dropped arm does not come back
    ],
)
def test_adaptive_randomisation_rule(n, events, active, winner, kept):
    """An event is undesirable; thresholds 0.99 and 0.01."""
    design = Design(arms=3, looks=(150, 300), least=0.2, softening=0.5, higher_is_better=False)
    said = adaptive_randomisation.decide([n], [events], [active], design)
    assert said.winner[0] == winner
    assert said.active[0].tolist() == [bool(flag) for flag in kept]
    assert said.shares[0].sum() == pytest.approx(1, abs=1e-12)
    assert (said.shares[0][said.active[0]] >= 0.2 - 1e-12).all()
    assert (said.shares[0][~said.active[0]] == 0).all()


@pytest.mark.parametrize(
    ("chance", "options", "shares"),
    [
        ([0.98, 0.01, 0.01], {"least": 0.2, "softening": 0.5}, [0.6, 0.2, 0.2]),
        (
            [0.64, 0.32, 0.04],
            {"softening": 0.5},
            [0.8 / (0.8 + 0.04**0.5 + 0.32**0.5), 0.32**0.5 / (1.0 + 0.32**0.5), 0.2 / (1.0 + 0.32**0.5)],
        ),
        ([0.9, 0.06, 0.04], {"most": 0.5}, [0.5, 0.3, 0.2]),
        ([0.2, 0.7, 0.1], {"fixed": 1 / 3}, [1 / 3, 2 / 3 * 7 / 8, 2 / 3 / 8]),
        ([0.5, 0.3, 0.2], {"softening": 0.0}, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_allocation(chance, options, shares):
    """By hand: powers, then limits, the rest in proportion."""
    found = adaptive_randomisation.allocation(
        np.array([chance]), np.ones((1, 3), bool), Design(arms=3, looks=(100,), **options)
    )
    np.testing.assert_allclose(found[0], shares, rtol=1e-12)


def test_probability_to_be_best():
    """Two arms: P(p1 > p2) by the other quadrature (betas.greater). Three, in R: set.seed(1); a = rbeta(2e6, 4, 28);
    b = rbeta(2e6, 7, 35); c = rbeta(2e6, 13, 39); mean(a < b & a < c) 0.6917, b 0.2827, c 0.0256 (SE 3e-4)."""
    pair = adaptive_randomisation.best([[400, 20]], [[31, 3]], [[1, 1]], Design(arms=2, looks=(9,)))
    assert pair[0, 0] == pytest.approx(betas.greater(Mixture.beta(32, 370), Mixture.beta(4, 18)), abs=1e-6)
    three = adaptive_randomisation.best(
        [[30, 40, 50]], [[3, 6, 12]], [[1, 1, 1]], Design(arms=3, looks=(9,), higher_is_better=False)
    )
    np.testing.assert_allclose(three[0], [0.6917, 0.2827, 0.0256], atol=1.2e-3)


def test_stepwise_procedures():
    """R 4.2: p.adjust(c(.04, .01, .2, .012), m) for m in holm, hochberg, hommel, BH; Sidak and Bonferroni by formula."""
    p = P[1]
    np.testing.assert_allclose(graphs.adjusted(p, graphs.holm(4)), [0.08, 0.04, 0.2, 0.04], rtol=1e-12)
    np.testing.assert_allclose(stepwise.hochberg(p), [0.08, 0.036, 0.2, 0.036], rtol=1e-12)
    np.testing.assert_allclose(stepwise.hommel(p), [0.08, 0.03, 0.2, 0.036], rtol=1e-12)
    np.testing.assert_allclose(stepwise.benjamini_hochberg(p), [0.16 / 3, 0.024, 0.2, 0.024], rtol=1e-12)
    np.testing.assert_allclose(stepwise.sidak(p), 1 - (1 - p) ** 4, rtol=1e-12)
    np.testing.assert_allclose(stepwise.bonferroni(P), np.minimum(1, 4 * P), rtol=1e-12)


def test_closed_tests_are_their_short_cuts():
    """Identities: closed Bonferroni = the graph's algorithm; closed Simes = Hommel; Hochberg is never below Hommel."""
    for graph in (
        graphs.holm(4),
        graphs.fixed_sequence(4),
        graphs.fallback([0.4, 0.3, 0.2, 0.1]),
        graphs.parallel_gatekeeping([2, 2]),
    ):
        np.testing.assert_allclose(graphs.closed(P, graph), graphs.adjusted(P, graph), rtol=1e-12)
    np.testing.assert_allclose(graphs.closed(P, graphs.holm(4), intersection="simes"), stepwise.hommel(P), rtol=1e-12)
    assert (stepwise.hommel(P) <= stepwise.hochberg(P) + 1e-15).all()
    assert (stepwise.hochberg(P) <= graphs.adjusted(P, graphs.holm(4)) + 1e-15).all()


def test_serial_gatekeeping():
    """By hand: Holm within a family, the next only after all of one."""
    found = graphs.serial_gatekeeping([[0.01, 0.02, 0.001, 0.3], [0.01, 0.06, 0.001, 0.3]], [2, 2])
    np.testing.assert_allclose(found, [[0.02, 0.02, 0.02, 0.3], [0.02, 0.06, 0.06, 0.3]], rtol=1e-12)


def test_levels_do_not_depend_on_the_order():
    """Bretz 2009, theorem: weights after a set was rejected are the same for any order; sums stay at most 1."""
    graph = graphs.parallel_gatekeeping([2, 2])
    one = graphs.levels(graph, [True, False, True, False], alpha=1.0)
    weights, transitions = (part[None] for part in graph.arrays())
    for j in (2, 0):
        weights, transitions = graphs._without(weights, transitions, np.array([j]))
    np.testing.assert_allclose(one, weights[0], rtol=1e-12)
    assert one.sum() <= 1 + 1e-12


def test_beta_comparison_is_exact():
    """Whole numbers: P(p1 > p2) = sum over i < a1 of B(a2 + i, b1 + b2)/((b1 + i) B(1 + i, b1) B(a2, b2)) (Evan Miller's
    closed form; Beta(2, 1) against Beta(1, 1): 2/3)."""
    from scipy.special import betaln

    a1, b1, a2, b2 = 9, 23, 16, 41
    i = np.arange(a1)
    exact = np.exp(betaln(a2 + i, b1 + b2) - np.log(b1 + i) - betaln(1 + i, b1) - betaln(a2, b2)).sum()
    assert betas.greater(Mixture.beta(a1, b1), Mixture.beta(a2, b2)) == pytest.approx(exact, abs=1e-12)
    half = betas.greater(Mixture.beta(0.5, 0.5), Mixture.beta(0.5, 0.5))
    assert half == pytest.approx(0.5, abs=1e-9)


def test_effective_sample_sizes():
    """Identity: a Beta(a, b) is worth a + b subjects by both; a robust mixture less than its informative part. A mixture of
    twice the same component is that component."""
    prior = Mixture.beta(11, 32)
    assert prior.ess_elir == pytest.approx(43, abs=1e-6)
    assert prior.ess_moment == pytest.approx(43, abs=1e-9)
    assert 2 < betas.robust(prior, 0.5).ess_elir < 43
    twice = Mixture(weights=(0.3, 0.7), a=(11.0, 11.0), b=(32.0, 32.0))
    assert twice.ess_elir == pytest.approx(43, abs=1e-6)


def test_robust_prior_updates_like_bayes():
    """Identity: the posterior weight is the prior weight times the beta-binomial probability, normalised (by quadrature)."""
    prior, rate = betas.robust(Mixture.beta(11, 32), 0.8), (np.arange(20000) + 0.5) / 20000
    parts = [
        w * rate ** (a - 1 + 10) * (1 - rate) ** (b - 1 + 14)
        for w, a, b in zip(prior.weights, prior.a, prior.b, strict=True)
    ]
    from scipy.special import beta

    masses = np.array([part.mean() / beta(a, b) for part, a, b in zip(parts, prior.a, prior.b, strict=True)])
    assert betas.updated(prior, 10, 24).weights[0] == pytest.approx(masses[0] / masses.sum(), abs=1e-9)


def test_normalised_power_prior_learns():
    """Duan 2006: agreement raises a0, conflict lowers it; with a0 fixed by its prior the power prior comes back."""
    alike, other = (borrowing.normalised_power_prior((30, 100), now)[1][0] for now in ((9, 30), (22, 30)))
    assert other < 0.25 < 0.5 < alike
    mixture, a0 = borrowing.normalised_power_prior((30, 100), (8, 30), a0_prior=(500.0, 500.0))
    assert a0[0] == pytest.approx(0.5, abs=0.01)
    assert mixture.mean == pytest.approx(borrowing.power_prior(0.5, (30, 100), (8, 30)).mean, abs=1e-4)


def test_commensurate_prior_limits():
    """A small SD pools the two groups, a large one leaves the current group nearly alone."""
    pooled, _ = borrowing.commensurate((30, 100), (20, 30), scale=0.001, sd=3.0)
    alone, _ = borrowing.commensurate((30, 100), (20, 30), scale=50.0, sd=3.0)
    both, _ = borrowing.commensurate((0, 0), (50, 130), scale=0.001, sd=3.0)
    assert pooled.mean == pytest.approx(both.mean, abs=2e-3)
    assert 0.64 < alone.mean < 0.68


def test_marginal_likelihood_of_a_group():
    """Against a fine trapezoid over theta, for SDs from far below to far above the width of the likelihood."""
    theta = np.linspace(-30, 30, 120001)
    for r, n, mu, tau in [(23, 107, -1.0, 0.05), (0, 20, -1.0, 1.0), (39, 139, 1.0, 3.0), (1, 1, 0.0, 0.5)]:
        log = r * theta - n * np.logaddexp(0, theta) - 0.5 * ((theta - mu) / tau) ** 2
        exact = np.log(np.exp(log - log.max()).sum() * (theta[1] - theta[0]) / (tau * np.sqrt(2 * np.pi))) + log.max()
        found = hierarchy.log_marginal(np.array(r), np.array(n), mu, tau)
        assert float(found) == pytest.approx(exact, abs=2e-5)


def test_assurance_is_power_averaged_over_the_prior():
    """Identity, by Gauss-Hermite; with no uncertainty it is power."""
    x, w = np.polynomial.hermite.hermgauss(60)
    averaged = (w * decisions.power(0.3 + np.sqrt(2) * 0.2 * x, 100)).sum() / np.sqrt(np.pi)
    assert decisions.assurance(0.3, 0.2, 100) == pytest.approx(averaged, abs=1e-9)
    assert decisions.assurance(0.3, 0.0, 100) == pytest.approx(float(decisions.power(0.3, 100)), abs=1e-12)


def test_prognostic_score_sizes_keep_the_power():
    """The adjusted size has the power that was asked for, at residual SD sqrt(1 - rho^2)."""
    found = decisions.procova(0.6, 0.4)
    assert float(decisions.power(0.4, found.adjusted, sd=np.sqrt(found.factor))) == pytest.approx(0.9, abs=1e-12)


def test_recruitment_with_opening_dates_caps_and_screen_failure():
    """Openings only delay: mean = rate times time open; a cap holds; the trial ends with its last wanted subject."""
    sites = recruitment.Sites(number=4, rate=2.0, cv=0.5, screen_failure=0.25, opening=(0.0, 3.0, 6.0, 20.0))
    found = recruitment.simulate(sites, 12.0, seed=1, replicates=np.arange(3000))
    expected = 1.5 * np.array([12.0, 9.0, 6.0, 0.0])
    error = found.by_site.std(axis=0) / np.sqrt(3000)
    assert (np.abs(found.by_site.mean(axis=0) - expected) <= 4 * error).all()
    capped = recruitment.Sites(number=4, rate=2.0, cv=0.5, cap=5)
    some = recruitment.simulate(capped, 12.0, seed=1, replicates=np.arange(200), most=18)
    assert some.by_site.max() <= 5
    assert (some.total <= 18).all()
    full = some.total == 18
    assert full.any()
    assert np.isfinite(some.times[full, 17]).all()
    assert (np.diff(some.times[full], axis=1) >= 0).all()


def test_recruitment_without_variation_is_poisson():
    """cv 0, identity of time and total: P(T <= t) = P(N >= n); R: 1 - ppois(59, 60) = 0.5171693."""
    sites = recruitment.Sites(number=10, rate=0.5)
    time = recruitment.time_to(sites, 60, [0.1, 0.5, 0.9])
    for level, at in zip([0.1, 0.5, 0.9], time, strict=True):
        assert recruitment._at_least(sites, at, 60) == pytest.approx(level, abs=1e-12)
    assert recruitment._at_least(sites, 12.0, 60) == pytest.approx(0.5171693, abs=1e-7)
    assert recruitment.total_quantile(sites, 12.0, 0.5).tolist() == [60]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: simon.optimal(0.3, 0.2), "p0 < p1"),
        (lambda: simon.optimal(0.2, 0.25, most=30), "largest size"),
        (lambda: Design(arms=3, looks=(100, 100)), "increase"),
        (lambda: Design(arms=3, looks=(100,), least=0.4), "no allocation"),
        (lambda: graphs.Graph(weights=(0.7, 0.7), transitions=((0, 1), (1, 0))), "at most 1"),
        (lambda: graphs.Graph(weights=(0.5, 0.5), transitions=((0.5, 0.5), (1, 0))), "diagonal"),
        (lambda: graphs.adjusted([0.1, np.nan], graphs.holm(2)), "0 ... 1"),
        (lambda: Mixture(weights=(0.5, 0.4), a=(1, 1), b=(1, 1)), "sum to 1"),
        (lambda: borrowing.power_prior(1.5, (3, 10), (3, 10)), "0 ... 1"),
        (lambda: recruitment.time_to(recruitment.Sites(number=2, rate=1.0, cap=3), 5, 0.5), "no closed form"),
        (lambda: decisions.procova(1.0, 0.4), "inside -1"),
    ],
)
def test_errors_name_what_is_wrong(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()
