"""Basket trials: the quadrature against others, the rule by examples, operating characteristics in their limits."""

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.designs import basket, borrowing
from trials.designs.basket import Prior

HISTORY = [23, 12, 19, 9, 39, 6, 9, 10], [107, 44, 51, 39, 139, 20, 78, 35]


def alone(r, n, null, *, mean, sd):
    """One basket by a fine trapezoid over its log odds: mean and probability above the null."""
    theta = np.linspace(mean - 9 * sd, mean + 9 * sd, 200001)
    log = r * theta - n * np.logaddexp(0, theta) - 0.5 * ((theta - mean) / sd) ** 2
    mass = np.exp(log - log.max())
    mass /= mass.sum()
    above = np.interp(np.log(null / (1 - null)), theta, np.cumsum(mass) - mass / 2)
    return (mass / (1 + np.exp(-theta))).sum(), 1 - above


def test_without_exchange_baskets_are_separate():
    found = basket.analyse(Prior(exchange=0.0, nex_mean=-1.0, nex_sd=1.5), [[8, 2, 0]], [20, 20, 12], [0.2, 0.2, 0.3])
    expected = np.array(
        [alone(r, n, null, mean=-1.0, sd=1.5) for r, n, null in ((8, 20, 0.2), (2, 20, 0.2), (0, 12, 0.3))]
    )
    np.testing.assert_allclose(found.mean[0], expected[:, 0], atol=2e-5)
    np.testing.assert_allclose(found.above[0], expected[:, 1], atol=6e-5)
    assert (found.exchangeable == 0).all()


def test_an_empty_exchangeable_basket_has_the_map_prior():
    """Identity: a new basket without subjects is the meta-analytic predictive distribution (another quadrature)."""
    found = basket.analyse(Prior(exchange=1.0), [[*HISTORY[0], 0]], [*HISTORY[1], 0], 0.25)
    assert found.mean[0, -1] == pytest.approx(borrowing.map_prior(*HISTORY).predictive().mean, abs=1e-4)
    np.testing.assert_allclose(found.exchangeable, 1, atol=1e-12)


def test_exchangeable_baskets_shrink_and_an_outlier_is_let_go():
    """The hierarchical mean lies between a basket's own and the others'; EXNEX borrows least where a basket differs."""
    separate, shared, mixed = (
        basket.analyse(Prior(exchange=w, scale=0.3), [[2, 3, 2, 3, 16]], 20, 0.2) for w in (0.0, 1.0, 0.5)
    )
    assert shared.mean[0, 4] < mixed.mean[0, 4] < separate.mean[0, 4] + 1e-9
    assert mixed.exchangeable[0, 4] < 0.25 < 0.5 < mixed.exchangeable[0, :4].min()


@pytest.mark.parametrize(
    ("above", "active", "goes_on"),
    [(0.04, True, False), (0.05, True, True), (0.9, False, False), (0.9, True, True)],
)
def test_futility_rule(above, active, goes_on):
    assert bool(basket.decide([[above]], [[active]], futility=0.05)[0, 0]) is goes_on


def test_separate_baskets_have_exact_operating_characteristics():
    """Without exchange a basket is a binomial test: P(success) = P(at least the smallest successful count), enumerated."""
    from scipy.special import comb

    prior, n = Prior(exchange=0.0, nex_mean=-1.4), 20
    x = np.arange(n + 1)
    wins = basket.analyse(prior, x[:, None], n, 0.2).above[:, 0] > 0.95
    found = basket.simulate(prior, [0.2, 0.45], [n, n], null=0.2, threshold=0.95, seed=1, replicates=np.arange(2000))
    for column, p in enumerate((0.2, 0.45)):
        exact = (comb(n, x) * p**x * (1 - p) ** (n - x))[wins].sum()
        assert abs(found.success[:, column].mean() - exact) < 4 * np.sqrt(exact * (1 - exact) / 2000)


def test_stopped_baskets_keep_their_size_and_never_succeed():
    found = basket.simulate(
        Prior(mean=-1.4),
        [0.05, 0.4],
        [[8, 8], [20, 20]],
        null=0.2,
        threshold=0.9,
        futility=0.3,
        seed=1,
        replicates=np.arange(200),
    )
    assert set(np.unique(found.n)) == {8, 20}
    assert not found.success[found.n == 8].any()
    assert (found.n[:, 0] == 8).mean() > 0.6 > 0.2 > (found.n[:, 1] == 8).mean()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Prior(exchange=1.2), "0 ... 1"),
        (lambda: basket.analyse(Prior(), [[5]], 4, 0.2), "0 ... n"),
        (
            lambda: basket.simulate(Prior(), [0.2], [[9, 9]], null=0.2, threshold=0.9, seed=1, replicates=[0]),
            "one size a basket",
        ),
    ],
)
def test_errors_name_what_is_wrong(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()
