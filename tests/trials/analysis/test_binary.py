"""Witnesses: ../shared/data/ae/risk_difference_intervals.csv (4 decimals); R uniroot on the score; Newcombe 1998."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from trials.analysis.binary import clopper_pearson, miettinen_nurminen, miettinen_nurminen_ratio, newcombe, wilson

SHARED = Path(__file__).parents[3].parent / "shared/data/ae/risk_difference_intervals.csv"


@pytest.mark.witness
def test_published_risk_differences():
    if not SHARED.exists():
        pytest.skip(f"no {SHARED.name}: the shared witnesses are not on this machine")
    with SHARED.open() as file:
        table = [{name: float(text) for name, text in line.items()} for line in csv.DictReader(file)]
    assert len(table) >= 11
    data = {name: np.array([line[name] for line in table]) for name in table[0]}
    counts = [data[name] for name in ("x1", "n1", "x2", "n2")]
    score, hybrid = miettinen_nurminen(*counts), newcombe(*counts)
    np.testing.assert_allclose(score.estimate, data["rd"], atol=5.1e-7)
    for found, expected in (
        (score.lower, "mn_lo"), (score.upper, "mn_hi"), (hybrid.lower, "newcombe_lo"), (hybrid.upper, "newcombe_hi")
    ):  # fmt: skip
        np.testing.assert_allclose(found, data[expected], atol=5.1e-5)


def test_limits_are_roots_of_the_score():
    """Restricted maximum by a grid search over the likelihood, no cubic: z at the limits is +-1.96 sqrt((N-1)/N)."""
    for x1, n1, x0, n0 in ((9, 10, 3, 10), (5, 56, 0, 29), (1, 400, 7, 380)):
        interval = miettinen_nurminen(x1, n1, x0, n0)
        for delta, sign in ((float(interval.lower), 1), (float(interval.upper), -1)):
            p0 = np.linspace(max(0, -delta) + 1e-9, min(1, 1 - delta) - 1e-9, 2_000_001)
            p1 = p0 + delta
            loglik = x1 * np.log(p1) + (n1 - x1) * np.log1p(-p1) + x0 * np.log(p0) + (n0 - x0) * np.log1p(-p0)
            a, b = p0[loglik.argmax()], p1[loglik.argmax()]
            n = n1 + n0
            z = (x1 / n1 - x0 / n0 - delta) / np.sqrt((b * (1 - b) / n1 + a * (1 - a) / n0) * n / (n - 1))
            assert z == pytest.approx(sign * 1.959963985, abs=2e-4)


def test_risk_ratio_equals_r():
    """R: uniroot on (p1 - theta p0)/sqrt(V N/(N-1)) with the quadratic's root, tol 1e-12.

    Koopman (Biometrics 1984;40:513), 36/40 against 16/80, without N/(N-1): 2.94 to 7.15.
    """
    found = miettinen_nurminen_ratio([36, 9, 0, 5, 45], [40, 10, 20, 56, 301], [16, 3, 4, 0, 30], [80, 10, 18, 29, 298])
    np.testing.assert_allclose(found.lower, [2.93464646, 1.32795657, 0.0, 0.717495078, 0.96695493], rtol=2e-8)
    np.testing.assert_allclose(found.upper, [7.16629830, 8.69191495, 0.802943856, np.inf, 2.28712987], rtol=2e-8)


def test_empty_cells_and_empty_groups():
    both = miettinen_nurminen([0, 10, 0, 3], [10, 10, 0, 7], [0, 10, 2, 0], [10, 10, 5, 0])
    assert both.estimate[:2].tolist() == [0.0, 0.0]
    assert both.p[:2].tolist() == [1.0, 1.0]
    np.testing.assert_allclose([-both.lower[:2], both.upper[:2]], 0.2879, atol=5e-5)
    assert np.isnan(both.estimate[2:]).all()
    assert both.lower[2:].tolist() == [-1.0, -1.0]
    assert both.upper[2:].tolist() == [1.0, 1.0]
    ratio = miettinen_nurminen_ratio([0, 0], [10, 0], [0, 1], [10, 10])
    assert np.isnan(ratio.estimate).all()
    assert (ratio.lower.tolist(), ratio.upper.tolist()) == ([0.0, 0.0], [np.inf, np.inf])


def test_swapping_groups_mirrors_the_interval():
    x1, n1, x0, n0 = np.meshgrid([0, 3, 11, 20], [20, 33], [0, 1, 9, 17], [17, 60])
    one, other = miettinen_nurminen(x1, n1, x0, n0), miettinen_nurminen(x0, n0, x1, n1)
    np.testing.assert_allclose(one.lower, -other.upper, atol=1e-13)
    assert ((one.lower <= one.estimate) & (one.estimate <= one.upper)).all()
    np.testing.assert_array_equal((one.lower > 0) | (one.upper < 0), one.p < 0.05)


def test_score_p_is_the_pooled_chi_square():
    """z(0)^2 N/(N-1) is Pearson's chi-square without continuity correction."""
    table = np.array([[45, 256], [30, 268]])
    chi = stats.chi2_contingency(table, correction=False).statistic
    z = np.sqrt(chi * (table.sum() - 1) / table.sum())
    assert miettinen_nurminen(45, 301, 30, 298).p == pytest.approx(2 * stats.norm.sf(z), rel=1e-10)


def test_exact_coverage():
    """Enumeration over both binomials: the 95 % interval at n = 30, 30 covers between 93.5 and 97.5 %."""
    a, b = np.meshgrid(np.arange(31), np.arange(31), indexing="ij")
    interval = miettinen_nurminen(a, 30, b, 30)
    for p1, p0 in ((0.3, 0.2), (0.6, 0.35), (0.5, 0.5)):
        weight = stats.binom.pmf(a, 30, p1) * stats.binom.pmf(b, 30, p0)
        inside = (interval.lower <= p1 - p0) & (p1 - p0 <= interval.upper)
        assert 0.935 < float((weight * inside).sum()) < 0.975


def test_single_proportions_equal_scipy():
    x, n = np.array([0, 1, 7, 10, 81]), np.array([10, 10, 10, 10, 263])
    for found, method in ((wilson(x, n), "wilson"), (clopper_pearson(x, n), "exact")):
        for i in range(x.size):
            expected = stats.binomtest(int(x[i]), int(n[i])).proportion_ci(method=method)
            np.testing.assert_allclose([found.lower[i], found.upper[i]], [expected.low, expected.high], atol=1e-12)
    assert [float(v) for v in (wilson(0, 0).lower, wilson(0, 0).upper)] == [0.0, 1.0]


@pytest.mark.parametrize("counts", [(11, 10, 0, 10), (-1, 10, 0, 10), (1.5, 10, 0, 10), (np.nan, 10, 0, 10)])
def test_counts_must_be_counts(counts):
    with pytest.raises(InputError, match="events must be whole"):
        miettinen_nurminen(*counts)
