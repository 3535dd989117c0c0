"""Witnesses: formulas of Morris, White & Crowther 2019; repeated simulation; the exact bootstrap by enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.benefit_risk import plane
from trials.operating import bias, coverage, difference, mean, proportion, quantile, rejection, rmse


def sample(rows, columns):
    return normals(5, Purpose.SUMMARY_TRIAL, subject=np.arange(columns), replicate=np.arange(rows)[:, None])


def test_proportion():
    estimate = proportion([True] * 83 + [False] * 17)
    assert (estimate.value, estimate.n) == (0.83, 100)
    assert estimate.mcse == pytest.approx(np.sqrt(0.83 * 0.17 / 100))
    assert proportion([False] * 50).mcse == pytest.approx(np.sqrt(0.5 / 51 * 50.5 / 51 / 50))
    assert np.isnan(proportion([]).value)


@pytest.mark.parametrize(
    ("statistic", "truth"),
    [(mean, 0.0), (lambda x: rmse(x, 0.0), 1.0), (lambda x: quantile(x, 0.5), 0.0),
     (lambda x: quantile(x, 0.9), 1.2816)],
)  # fmt: skip
def test_mcse_is_the_spread_over_repetitions(statistic, truth):
    found = [statistic(row) for row in sample(600, 200)]
    values = np.array([f.value for f in found])
    assert np.mean([f.mcse for f in found]) == pytest.approx(values.std(ddof=1), rel=0.1)
    assert values.mean() == pytest.approx(truth, abs=0.03)


def test_quantile_error_is_the_exact_bootstrap_of_the_order_statistic():
    """All 5^5 resamples of 5 values: standard deviation of the median (Hutson & Ernst, JRSS B 2000;62:89)."""
    x = np.array([0.1, 1.0, 1.7, 4.0, 9.0])
    medians = [np.median(x[list(i)]) for i in itertools.product(range(5), repeat=5)]
    assert quantile(x, 0.5).mcse == pytest.approx(np.std(medians), rel=1e-12)


def test_failures_are_counted_and_not_averaged():
    nan = float("nan")
    assert mean([1.0, nan, 2.0]).failed == 1
    assert bias([1.0, nan], 0.5).value == 0.5
    inside = coverage([0, nan, 2], [1, 1, 3], 0.5)
    assert (inside.value, inside.n, inside.failed) == (0.5, 2, 1)
    assert coverage([-np.inf], [1.0], 0.5).value == 1.0
    assert (mean([nan]).n, mean([nan]).failed) == (0, 1)


def test_rejection_of_any_and_each():
    found = rejection([[True, False], [False, True], [False, False], [True, True]])
    assert found.any.value == 0.75
    assert [e.value for e in found.each] == [0.5, 0.5]


def test_paired_difference_is_sharper_than_the_parts():
    shared, noise = sample(2, 400)
    assert difference(shared + 1, shared + 0.1 * noise).mcse < 0.2 * mean(shared).mcse


def test_plane():
    gain, harm = sample(2, 4000)
    points = plane(np.c_[gain, gain], np.c_[harm, gain], least_benefit=0.0, most_risk=1.0)
    assert points[0].acceptable.value == pytest.approx(0.5 * stats.norm.cdf(1), abs=0.03)
    assert points[1].acceptable.value == pytest.approx(stats.norm.cdf(1) - 0.5, abs=0.03)
    assert points[1].correlation == pytest.approx(1.0)
    low, high = points[0].benefit_range
    assert (low.value, high.value) == (pytest.approx(-1.96, abs=0.15), pytest.approx(1.96, abs=0.15))
    with pytest.raises(InputError):
        plane([[1.0]], [[1.0, 2.0]], least_benefit=0, most_risk=1)


def test_a_failed_replicate_is_not_acceptable():
    point = plane([[1.0], [np.nan]], [[0.0], [0.0]], least_benefit=0, most_risk=1)[0]
    assert (point.acceptable.value, point.benefit.failed) == (0.5, 1)
