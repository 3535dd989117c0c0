"""Strata and exact tests. Witnesses: R mantelhaen.test, uniroot on the score with optimize's restricted maxima, SciPy,
enumeration, identities of one stratum and of matched pairs.
"""

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from trials.analysis.binary import miettinen_nurminen, miettinen_nurminen_ratio, newcombe
from trials.analysis.exact import barnard, boschloo, fisher, fisher_table
from trials.analysis.regression import RegressionStatus
from trials.analysis.stratified import mantel_haenszel, odds_ratio, score_interval, stratified_newcombe

TWO = ([12, 16], [20, 30], [7, 10], [20, 28])
ADMITTED = ([512, 353, 120, 138, 53, 22], [825, 560, 325, 417, 191, 373],
            [89, 17, 202, 131, 94, 24], [108, 25, 593, 375, 393, 341])  # fmt: skip


def test_mantel_haenszel_equals_r():
    """R: mantelhaen.test(UCBAdmissions, correct = FALSE), with correction (men against women admitted);
    array(c(12,8,7,13,16,14,10,18), c(2,2,2)); the ratio's variance from its formula.
    """
    found = mantel_haenszel(*ADMITTED, scale="odds")
    theirs = (0.904696828, 0.771907362, 1.060329764, 1.524606660, 0.216923697)
    ours = (found.estimate, found.lower, found.upper, found.chi_square, found.p)
    np.testing.assert_allclose([float(value) for value in ours], theirs, rtol=2e-9)
    assert mantel_haenszel(*ADMITTED, continuity=True).chi_square == pytest.approx(1.42694623, rel=1e-8)
    small = mantel_haenszel(*TWO, scale="odds")
    np.testing.assert_allclose([float(small.lower), float(small.upper)], [1.0304793995, 5.2439022217], rtol=1e-9)
    ratio = mantel_haenszel(*TWO, scale="ratio")
    np.testing.assert_allclose([float(ratio.estimate), float(ratio.se)], [1.58250497, 0.23159118], rtol=1e-8)


def test_score_intervals_of_strata_equal_uniroot():
    """R: uniroot(tol = 1e-12) on the sum over strata, restricted maxima by optimize() on the likelihood itself."""
    for scale, ends in (
        ("difference", (0.0069777711, 0.3897567076)), ("ratio", (1.0152439, 2.5408272)), ("odds", (1.0285031, 5.2670105)),
    ):  # fmt: skip
        found = score_interval(*TWO, scale=scale)
        np.testing.assert_allclose([float(found.lower), float(found.upper)], ends, rtol=1e-7)
        assert float(found.p) == pytest.approx(float(mantel_haenszel(*TWO).p), rel=1e-9)  # of 1, 0: the CMH test
    plain = odds_ratio(12, 20, 7, 20)
    np.testing.assert_allclose([float(plain.lower), float(plain.upper)], [0.77703521, 9.98426936], rtol=1e-7)


def test_one_stratum_is_no_stratum():
    x1, x0 = (grid.reshape(-1).astype(float) for grid in np.meshgrid([0, 3, 11, 20], [0, 1, 9, 17]))
    n1, n0 = np.full(16, 20.0), np.full(16, 17.0)
    wide = [value[:, None] for value in (x1, n1, x0, n0)]
    for scale, plain in (("difference", miettinen_nurminen), ("ratio", miettinen_nurminen_ratio)):
        one, other = score_interval(*wide, scale=scale), plain(x1, n1, x0, n0)
        np.testing.assert_allclose(one.lower, other.lower, atol=1e-9)
        finite = np.isfinite(other.upper)
        np.testing.assert_allclose(one.upper[finite], other.upper[finite], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(one.p, other.p, rtol=1e-9)
    one, other = stratified_newcombe(*wide), newcombe(x1, n1, x0, n0)
    np.testing.assert_allclose(one.lower, other.lower, atol=1e-12)
    np.testing.assert_allclose(one.upper, other.upper, atol=1e-12)
    some = [value[5:6] for value in wide]
    a, b, c, d = (float(value[5]) for value in (x1, n1, x0, n0))
    assert mantel_haenszel(*some, scale="ratio").se[0] == pytest.approx((1 / a - 1 / b + 1 / c - 1 / d) ** 0.5)
    woolf = (1 / a + 1 / (b - a) + 1 / c + 1 / (d - c)) ** 0.5
    assert mantel_haenszel(*some, scale="odds").se[0] == pytest.approx(woolf)
    wald = (a / b * (1 - a / b) / b + c / d * (1 - c / d) / d) ** 0.5
    assert mantel_haenszel(*some, variance="greenland_robins").se[0] == pytest.approx(wald)


def test_matched_pairs():
    """Pairs as strata: Sato's variance is (b + c - (b - c)^2/n)/n^2, the odds ratio b/c, the test McNemar's."""
    x1 = np.array([1] * 14 + [0] * 6 + [1] * 9 + [0] * 11)
    x0 = np.array([0] * 14 + [1] * 6 + [1] * 9 + [0] * 11)
    ones = np.ones(40)
    found = mantel_haenszel(x1, ones, x0, ones)
    assert float(found.estimate) == pytest.approx((14 - 6) / 40)
    assert float(found.se) ** 2 == pytest.approx((20 - 64 / 40) / 1600, rel=1e-12)
    assert float(found.chi_square) == pytest.approx(64 / 20)
    assert float(mantel_haenszel(x1, ones, x0, ones, scale="odds").estimate) == pytest.approx(14 / 6)


def test_strata_without_an_arm_and_without_events():
    found = mantel_haenszel([[12, 16, 3], [0, 0, 3]], [[20, 30, 4], [20, 30, 4]], [[7, 10, 0], [0, 0, 0]],
                            [[20, 28, 0], [20, 28, 0]], scale="ratio")  # fmt: skip
    assert found.estimate[0] == pytest.approx(1.58250497)
    assert found.status.tolist() == [0, RegressionStatus.NO_EVENTS]
    assert np.isnan(found.estimate[1])
    none = mantel_haenszel([3], [4], [0], [0])
    assert none.status == RegressionStatus.NO_SUBJECTS
    bounds = score_interval([[3]], [[4]], [[0]], [[0]])
    assert (bounds.lower.tolist(), bounds.upper.tolist()) == ([-1.0], [1.0])
    ends = odds_ratio([0, 10], [10, 10], [3, 0], [10, 10])
    assert (ends.lower[0], ends.upper[1]) == (0.0, np.inf)
    with pytest.raises(InputError):
        mantel_haenszel(*TWO, scale="hazard")


def enumerated(table, statistic, side):
    """The largest probability of what is at least as extreme, by brute force over 200,001 common risks."""
    x1, n1, x0, n0 = table
    every = statistic(n1, n0, side)
    region = every <= every[x1, x0] * (1 + 1e-7)
    risk = np.linspace(0, 1, 20_001)
    one = stats.binom.pmf(np.arange(n1 + 1)[:, None], n1, risk)
    zero = stats.binom.pmf(np.arange(n0 + 1)[:, None], n0, risk)
    return np.einsum("ag,ab,bg->g", one, region.astype(float), zero).max()


def pooled(n1, n0, side):
    """Normal p-value of the pooled z: as an order the same as z."""
    a, b = np.arange(n1 + 1)[:, None], np.arange(n0 + 1)[None]
    share = (a + b) / (n1 + n0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.nan_to_num((a / n1 - b / n0) / np.sqrt(share * (1 - share) * (1 / n1 + 1 / n0)))
    z = np.round(z, 9)
    return {"two": 2 * stats.norm.sf(abs(z)), "greater": stats.norm.sf(z), "less": stats.norm.cdf(z)}[side]


def test_exact_p_values_equal_enumeration():
    """Fisher: SciPy's and R's rule, every table; unconditional: brute force to 1e-6 (grid error of the brute force)."""
    for n1, n0 in ((7, 9), (20, 20)):
        for side, theirs in (("two", "two-sided"), ("greater", "greater"), ("less", "less")):
            mine = fisher_table(n1, n0, side)
            for a in range(0, n1 + 1, 2):
                for b in range(0, n0 + 1, 3):
                    expected = stats.fisher_exact([[a, b], [n1 - a, n0 - b]], theirs).pvalue
                    assert mine[a, b] == pytest.approx(expected, abs=1e-12)
    for table in ((7, 10, 2, 10), (3, 15, 9, 12), (12, 20, 7, 20), (0, 8, 0, 9), (6, 6, 0, 11)):
        for side in ("two", "greater", "less"):
            assert float(barnard(*table, side=side)) == pytest.approx(enumerated(table, pooled, side), abs=1e-6)
            assert float(boschloo(*table, side=side)) == pytest.approx(enumerated(table, fisher_table, side), abs=1e-6)
        assert float(boschloo(*table)) <= float(fisher(*table)) + 1e-12
    cell = [[12, 7], [8, 13]]
    assert float(barnard(12, 20, 7, 20)) == pytest.approx(stats.barnard_exact(cell, n=256).pvalue, abs=1e-6)
    once = stats.boschloo_exact(cell, "greater", n=256).pvalue
    assert float(boschloo(12, 20, 7, 20, side="greater")) == pytest.approx(once, abs=1e-6)
    assert np.isnan(fisher([0], [0], [1], [3])).all()
