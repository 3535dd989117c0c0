"""Proportional odds and rank tests. Witnesses: R MASS::polr, wilcox.test, rank (commands beside the numbers)."""

import numpy as np
import pytest
from scipy import stats

from trials.analysis.logistic import logistic
from trials.analysis.ordinal import proportional_odds, wilcoxon
from trials.analysis.regression import RegressionStatus

pytestmark = pytest.mark.slow  # the kernels take ten seconds to compile


def three_arms():
    """R: i <- 0:59; arm <- i %% 3; s <- (i %/% 7) %% 2; x <- round(sin(i * 1.3), 3);
    y <- pmin(4, pmax(0, round(1.5 + .6 * arm + x + 1.2 * cos(i * 2.9)))).
    """
    i = np.arange(60)
    arm, stratum, x = i % 3, (i // 7) % 2, np.round(np.sin(i * 1.3), 3)
    y = np.clip(np.round(1.5 + 0.6 * arm + x + 1.2 * np.cos(i * 2.9)), 0, 4)
    return y[None], arm[None], stratum[None], x[None]


def test_proportional_odds_equals_polr():
    """R: summary(polr(factor(y) ~ x + factor(s) + factor(arm), Hess = TRUE, control = list(reltol = 1e-15)))."""
    y, arm, stratum, x = three_arms()
    found = proportional_odds(y, arm, arms=3, strata=stratum, covariates=x)
    np.testing.assert_allclose(found.estimate[0], [1.00598017, 2.34008691], rtol=1e-7)
    np.testing.assert_allclose(found.se[0], [0.640849916, 0.654630874], rtol=1e-6)
    small = proportional_odds([[0, 0, 1, 1, 2, 0, 1, 1, 2, 2, 2, 1]], [[0] * 6 + [1] * 6], arms=2)
    np.testing.assert_allclose([small.estimate[0, 0], small.se[0, 0]], [2.3836386, 1.3382486], rtol=1e-6)


def test_two_categories_are_logistic_regression():
    y, arm, stratum, x = three_arms()
    event = (y > 2).astype(float)
    one = proportional_odds(7 + 3 * event, arm, arms=3, strata=stratum, covariates=x)
    other = logistic(event, arm, arms=3, strata=stratum, covariates=x)
    np.testing.assert_allclose(one.estimate, other.estimate, rtol=1e-8)
    np.testing.assert_allclose(one.se, other.se, rtol=1e-8)


def test_rank_tests_equal_r():
    """R: wilcox.test(y[arm == k], y[arm == 0], exact = FALSE), correct = FALSE, alternative = "greater"; van Elteren
    from rank() by stratum: sum((W - m (n + 1)/2)/(n + 1))/sqrt(sum(V/(n + 1)^2)).
    """
    y, arm, stratum, _ = three_arms()
    np.testing.assert_allclose(
        wilcoxon(y, arm, arms=3, continuity=True).p[0], [0.3028438273, 0.008968872737], rtol=1e-9
    )
    greater = wilcoxon(y, arm, arms=3, side="greater")
    np.testing.assert_allclose(greater.p[0], [0.1479452335, 0.004306243854], rtol=1e-9)
    elteren = wilcoxon(y, arm, arms=3, strata=stratum)
    np.testing.assert_allclose(elteren.z[0], [1.0553535420, 2.43611388433], rtol=1e-9)
    np.testing.assert_allclose(elteren.p[0], [0.2912636621, 0.01484600964], rtol=1e-9)


def test_win_probability_is_that_of_all_pairs():
    """Pairs counted one by one; its variance is DeLong's, from the placements."""
    y, arm, _, _ = three_arms()
    one, zero = y[0][arm[0] == 2], y[0][arm[0] == 0]
    pair = (one[:, None] > zero) + 0.5 * (one[:, None] == zero)
    found = wilcoxon(y, arm, arms=3)
    assert found.win[0, 1] == pytest.approx(pair.mean(), rel=1e-12)
    variance = pair.mean(axis=1).var(ddof=1) / one.size + pair.mean(axis=0).var(ddof=1) / zero.size
    assert found.se[0, 1] == pytest.approx(variance**0.5, rel=1e-12)
    theirs = stats.mannwhitneyu(one, zero, use_continuity=False, method="asymptotic").pvalue
    assert found.p[0, 1] == pytest.approx(theirs, rel=1e-9)


def test_no_answer_says_so():
    y = np.array([[1.0, 1, 1, 1], [1, 2, np.nan, np.nan], [1, 1, 2, 2]])
    arm = np.array([[0, 0, 1, 1]] * 3)
    odds, ranks = proportional_odds(y, arm, arms=2), wilcoxon(y, arm, arms=2)
    wanted = [RegressionStatus.ONE_CATEGORY, RegressionStatus.NOT_ESTIMABLE, RegressionStatus.SEPARATED]
    assert odds.status[:, 0].tolist() == wanted
    assert np.isnan(odds.estimate).all()
    assert ranks.status[:, 0].tolist() == [RegressionStatus.ONE_CATEGORY, RegressionStatus.NOT_ESTIMABLE, 0]
    assert np.isnan(ranks.p[:2]).all()
    assert ranks.win[:, 0].tolist()[2] == 1.0
    assert np.isnan(ranks.win[1]).all()
