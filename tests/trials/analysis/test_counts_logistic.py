"""Regressions of counts and binary outcomes. Witnesses: ../shared/reference/trials/real_trial_reference_analyses.csv
(MASS::epil), R's glm, MASS::glm.nb and sandwich (commands beside the numbers), closed forms of two proportions.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.errors import InputError
from trials.analysis.counts import negative_binomial, poisson
from trials.analysis.logistic import logistic, marginal
from trials.analysis.regression import RegressionStatus

SHARED = Path(__file__).parents[4] / "shared"
EPIL = SHARED / "data/trials/mass_epil.csv"
shared = [pytest.mark.witness, pytest.mark.skipif(not EPIL.is_file(), reason="no ../shared/data/trials")]


def epil():
    """R: g <- aggregate(y ~ subject + trt + base + age, MASS::epil, sum)."""
    data = pd.read_csv(EPIL).groupby("subject").agg(
        y=("y", "sum"), trt=("trt", "first"), base=("base", "first"), age=("age", "first")
    )  # fmt: skip
    covariates = np.stack([np.log(data["base"]), data["age"]], axis=-1)[None]
    return data["y"].to_numpy(float)[None], (data["trt"] == "progabide").to_numpy(int)[None], covariates


def cells(n1, x1, n0, x0):
    y = [1] * x0 + [0] * (n0 - x0) + [1] * x1 + [0] * (n1 - x1)
    return np.array([y], float), np.array([[0] * n0 + [1] * n1])


@pytest.mark.parametrize("marked", [pytest.param("MASS::epil", marks=shared)])
def test_negative_binomial_row_of_the_reference_table(marked):
    table = pd.read_csv(SHARED / "reference/trials/real_trial_reference_analyses.csv")
    rows = table[table["dataset"] == marked]
    y, arm, covariates = epil()
    found = negative_binomial(y, arm, arms=2, covariates=covariates)
    worst = 0.0
    for row in rows.itertuples():
        theta = float(row.note.split("theta ")[1].split(";")[0])
        pairs = [(np.exp(found.compared.estimate[0, 0]), row.estimate), (found.compared.se[0, 0], row.se)]
        worst = max(worst, *(abs(ours / theirs - 1) for ours, theirs in [*pairs, (found.theta[0], theta)]))
    print(
        f"real_trial_reference_analyses.csv ({marked}): {len(rows)} rows, worst relative error {worst:.3g} (bar 1e-4)"
    )
    assert len(rows) > 0
    assert worst < 1e-4


@pytest.mark.parametrize("marked", [pytest.param(1, marks=shared)])
def test_variances_of_rate_ratios_equal_r(marked):
    """R: f <- glm.nb(y ~ log(base) + age + trt, g); sandwich(f); optimHess of the joint likelihood (ndeps 1e-4);
    glm(..., poisson, offset = log(8)), sandwich; glm(..., quasipoisson).
    """
    y, arm, covariates = epil()
    for variance, se in (("model", 0.1493892460), ("joint", 0.15126617), ("robust", 0.1540276858)):
        found = negative_binomial(y, arm, arms=2, covariates=covariates, variance=variance)
        np.testing.assert_allclose(found.compared.se, se, rtol=1e-6)
    np.testing.assert_allclose(found.theta_se, 0.79238772, rtol=1e-5)  # glm.nb's own 0.79136 takes the means as known
    time = np.full(y.shape, 8.0)
    for variance, se in (("model", 0.04781357206), ("quasi", 0.1596691114), ("robust", 0.19125478582)):
        found = poisson(y, arm, arms=2, covariates=covariates, exposure=time, variance=variance)
        np.testing.assert_allclose(found.compared.estimate, -0.02943907277, rtol=1e-8)
        np.testing.assert_allclose(found.compared.se, se, rtol=1e-8)


@pytest.mark.parametrize("marked", [pytest.param(1, marks=shared)])
def test_logistic_and_marginal_risks_equal_r(marked):
    """R: b <- glm(I(y >= 20) ~ log(base) + age + trt, binomial, g); sandwich(b); the delta method by hand: D V D' with
    V = vcov(b) or sandwich(b); influence functions estfun(b) %*% vcov(b) %*% d + (p - mean(p))/n.
    """
    y, arm, covariates = epil()
    event = (y >= 20).astype(float)
    for variance, se in (("model", 0.8260818563), ("sandwich", 0.8461485046)):
        found = logistic(event, arm, arms=2, covariates=covariates, variance=variance)
        np.testing.assert_allclose(found.estimate, -0.4821886304, rtol=1e-8)
        np.testing.assert_allclose(found.se, se, rtol=2e-7)  # R's weights are those of its last step but one
    theirs = {
        "difference": (-0.05138972068, 0.08662609489, 0.08680581416, 0.0877158919),
        "ratio": (-0.11115319224, 0.18584621373, 0.18515476288, 0.1880193969),
        "odds": (-0.20688990185, 0.34882600962, 0.34927762207, 0.3530923861),
    }
    for scale, (estimate, *spreads) in theirs.items():
        for variance, se in zip(("model", "sandwich", "robust"), spreads, strict=True):
            found = marginal(event, arm, arms=2, covariates=covariates, variance=variance, scale=scale)
            np.testing.assert_allclose(found.estimate, estimate, rtol=1e-8)
            np.testing.assert_allclose(found.se, se, rtol=2e-7)


def test_without_covariates_two_proportions_and_two_rates():
    """Closed forms: Woolf's odds ratio, the risk difference's p q/n, rates x/t with variance 1/x0 + 1/x1."""
    y, arm = cells(30, 12, 40, 10)
    found = logistic(y, arm, arms=2)
    np.testing.assert_allclose(found.estimate, np.log(12 / 18 / (10 / 30)), rtol=1e-10)
    np.testing.assert_allclose(found.se, np.sqrt(1 / 12 + 1 / 18 + 1 / 10 + 1 / 30), rtol=1e-10)
    wald = np.sqrt(0.4 * 0.6 / 30 + 0.25 * 0.75 / 40)
    for variance in ("model", "sandwich", "robust"):
        found = marginal(y, arm, arms=2, variance=variance)
        np.testing.assert_allclose([found.estimate[0, 0], found.se[0, 0]], [0.15, wald], rtol=1e-10)
    found = marginal(y, arm, arms=2, scale="ratio")
    np.testing.assert_allclose(found.se, np.sqrt(1 / 12 - 1 / 30 + 1 / 10 - 1 / 40), rtol=1e-10)
    counts, group = np.array([[0, 2, 1, 4, 1, 0, 0, 1.0]]), np.array([[0] * 4 + [1] * 4])
    time = np.array([[1, 2, 1, 2, 3, 1, 1, 0.5]])
    rates = poisson(counts, group, arms=2, exposure=time).compared
    np.testing.assert_allclose(rates.estimate, np.log((2 / 5.5) / (7 / 6)), rtol=1e-10)
    np.testing.assert_allclose(rates.se, np.sqrt(1 / 2 + 1 / 7), rtol=1e-10)


def test_what_has_no_maximum_says_so():
    y, arm = cells(10, 10, 10, 4)
    found = logistic(np.vstack([y, 1 - y, y]), np.vstack([arm, arm, np.zeros_like(arm)]), arms=2)
    status = [RegressionStatus.SEPARATED, RegressionStatus.SEPARATED, RegressionStatus.NOT_ESTIMABLE]
    assert found.status[:, 0].tolist() == status
    assert np.isnan(found.estimate).all()
    assert not found.reject.any()
    assert np.isnan(marginal(y, arm, arms=2).estimate).all()
    none = np.where(arm == 1, 0.0, 2.0 + y)
    silent = negative_binomial(np.vstack([none, np.full(y.shape, 3.0) + y]), np.vstack([arm, arm]), arms=2)
    assert silent.compared.status[:, 0].tolist() == [RegressionStatus.NO_EVENTS, RegressionStatus.UNDERDISPERSED]
    assert np.isnan(silent.compared.estimate[0, 0])
    assert np.isinf(silent.theta[1])
    plain = poisson(np.full(y.shape, 3.0) + y, arm, arms=2).compared
    np.testing.assert_allclose(silent.compared.estimate[1], plain.estimate[0], rtol=1e-9)
    np.testing.assert_allclose(silent.compared.se[1], plain.se[0], rtol=1e-9)


def test_replicates_do_not_see_one_another_and_the_missing_are_left_out():
    y, arm = cells(30, 12, 40, 10)
    x = np.sin(np.arange(70.0))[None]
    hole = y.copy()
    hole[0, :7] = np.nan
    both = logistic(np.vstack([y, hole]), np.vstack([arm, arm]), arms=2, covariates=np.vstack([x, x]))
    alone = logistic(hole, arm, arms=2, covariates=x)
    np.testing.assert_array_equal(both.estimate[1], alone.estimate[0])
    assert alone.n.tolist() == [[33, 30]]
    for wrong in ({"y": y + 1}, {"y": y, "variance": "hc3"}):
        with pytest.raises(InputError):
            logistic(wrong.pop("y"), arm, arms=2, **wrong)
    with pytest.raises(InputError, match="whole"):
        poisson(y - 1, arm, arms=2)
    with pytest.raises(InputError, match="exposure"):
        negative_binomial(y, arm, arms=2, exposure=np.zeros(y.shape))
