"""Witnesses: Dunnett's published tables; nested adaptive quadrature in R 4.2 (stats::integrate); mvtnorm 1.1-3."""

import numpy as np
import pytest
from scipy import special, stats

from pkpd.ground.errors import InputError
from trials.analysis.dunnett import adjusted_p, critical, loadings
from trials.kernels.dunnett import one_factor
from trials.kernels.probability import normal_cdf, t_quantile, t_tail

HALF = 0.5**0.5


@pytest.mark.parametrize(
    ("k", "df", "side", "table"),
    [
        (4, 10, "two", 2.89), (4, 20, "two", 2.65), (4, np.inf, "two", 2.44), (2, 20, "two", 2.38),
        (4, 10, "greater", 2.47), (9, 5, "greater", 3.30), (1, 10, "two", 2.23),
    ],
)  # fmt: skip
def test_published_table(k, df, side, table):
    """Dunnett, JASA 1955;50:1096 (one-sided) and Biometrics 1964;20:482 (two-sided), 5 %, equal groups."""
    assert critical(0.05, df, [HALF] * k, side) == pytest.approx(table, abs=0.0051)


# R: uniroot(function(c) P(c) - (1 - alpha)) with P by nested integrate(..., rel.tol = 1e-11) over z and s.
R_CRITICAL = [
    (0.05, 10, [HALF] * 4, "two", 2.890480110),
    (0.05, 20, [HALF] * 4, "two", 2.651029590),
    (0.05, np.inf, [HALF] * 4, "two", 2.441770773),
    (0.05, 10, [HALF] * 4, "greater", 2.465571783),
    (0.05, 5, [HALF] * 9, "less", 3.299686082),
    (0.05, 1, [HALF] * 4, "two", 21.850074952),
    (0.01, 294, [HALF] * 4, "two", 3.022300197),
    (0.025, 57, np.sqrt(np.array([20, 30, 40]) / (np.array([20, 30, 40]) + 50)), "greater", 2.435184547),
    (0.05, 3, np.sqrt(np.array([5, 50, 500]) / (np.array([5, 50, 500]) + 5)), "two", 3.913844222),
    (0.05, 31.7, [0.2, 0.95], "two", 2.340137036),
]


@pytest.mark.parametrize(("alpha", "df", "load", "side", "expected"), R_CRITICAL)
def test_critical_values_equal_independent_quadrature(alpha, df, load, side, expected):
    assert critical(alpha, df, load, side) == pytest.approx(expected, rel=3e-9)


@pytest.mark.parametrize(("alpha", "df", "load", "side", "expected"), R_CRITICAL)
def test_adjusted_p_of_the_critical_value_is_alpha(alpha, df, load, side, expected):
    t = -expected if side == "less" else expected
    p = adjusted_p(np.full(len(load), t), df, load, side)
    np.testing.assert_allclose(p, alpha, rtol=1e-8)


def test_adjusted_p_equals_mvtnorm():
    """R: 1 - pmvt(-2.890480110201604, 2.890480110201604, df = 10, corr 0.5) = 0.04999993 (error 6.7e-07)."""
    p = adjusted_p([2.890480110201604, 0.0, 1.0, 50.0], 10, [HALF] * 4)
    assert p[0] == pytest.approx(0.04999993, abs=7e-7)
    assert p[1] == 1.0
    assert 0 < p[3] < 1e-11


def test_one_comparison_is_student_t():
    t = np.array([[0.3], [2.0], [-4.0], [9.0]])
    for df in (1.0, 7.3, 294.0, np.inf):
        np.testing.assert_allclose(adjusted_p(t, df, [0.5]), 2 * stats.t.sf(abs(t), df), rtol=1e-12)
        np.testing.assert_allclose(adjusted_p(t, df, [0.5], "less"), stats.t.cdf(t, df), rtol=1e-12)
        assert critical(0.05, df, [0.5], "greater") == pytest.approx(stats.t.isf(0.05, df), rel=1e-12)


def test_independent_statistics_with_known_variance_are_sidak():
    assert critical(0.05, np.inf, [0.0] * 5) == pytest.approx(stats.norm.isf(0.5 * (1 - 0.95**0.2)), rel=1e-9)


def test_rows_broadcast_and_bad_df_is_nan():
    c = critical(0.05, [10.0, np.inf, 0.0], np.full((3, 4), HALF))
    np.testing.assert_allclose(c[:2], [2.890480110, 2.441770773], rtol=1e-8)
    assert np.isnan(c[2])
    assert np.isnan(adjusted_p([1.0, 1.0], np.nan, [HALF] * 2)).all()


@pytest.mark.parametrize("arguments", [(0.0, 10, [HALF] * 2), (0.7, 10, [HALF] * 2), (0.05, 10, [HALF] * 2, "both")])
def test_bad_input(arguments):
    with pytest.raises(InputError):
        critical(*arguments)


def test_loadings_reproduce_the_one_way_correlation():
    """rho_ij = sqrt(n_i n_j/((n_i + n_0)(n_j + n_0))): Dunnett 1955; one factor recovers them from the correlation."""
    load = loadings(50, [20, 30, 40])
    correlation = np.outer(load, load)
    np.fill_diagonal(correlation, 1.0)
    assert correlation[0, 1] == pytest.approx(np.sqrt(20 * 30 / (70 * 80)))
    np.testing.assert_allclose(one_factor(correlation), load, atol=1e-9)


def test_probabilities_equal_scipy():
    x = np.linspace(-30, 9, 2001)
    np.testing.assert_allclose([normal_cdf(v) for v in x], special.ndtr(x), rtol=1e-12)
    for df in (0.7, 1, 2, 5.5, 33, 300, 1e5):
        t = np.linspace(-9, 9, 91)
        np.testing.assert_allclose([t_tail(v, df) for v in t], stats.t.sf(t, df), rtol=1e-9 if df > 1e4 else 2e-13)
        assert t_quantile(0.01, df) == pytest.approx(stats.t.isf(0.01, df), rel=1e-9)
