"""Witnesses: R 4.2.2 lm() and multcomp 1.4 glht() on data made by a fixed rule; statsmodels OLS; closed forms.

R:  n <- 48; i <- 0:(n-1); lcg <- function(k) ((i*7919 + k*104729) %% 1009)/1009; u <- lcg(1); v <- lcg(2); w <- lcg(3)
    arm <- c(0,1,2,3,0,0,1,2)[i%%8+1]; st <- (i*5) %% 3; base <- 1.3+.6*(u-.5)
    y <- .2+.8*base+.05*st+c(0,.03,.1,.16)[arm+1]+.3*(v-.5)+.1*(w-.5)
    f <- lm(y~base+factor(st)+factor(arm)); coef(summary(f))[5:7,]
    g <- glht(f, mcp(arm="Dunnett")); summary(g, adjusted("single-step", maxpts=5e6, abseps=1e-8)); confint(g)
"""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.analysis.continuous import AnalysisStatus, ancova_dunnett, ancova_mi_dunnett, impute
from trials.design import permuted_blocks
from trials.kernels.imputation import chi_square, draw_missed

N = 48


def r_data():
    i = np.arange(N)
    u, v, w = (((i * 7919 + k * 104729) % 1009) / 1009 for k in (1, 2, 3))
    arm, st = np.array([0, 1, 2, 3, 0, 0, 1, 2])[i % 8], (i * 5) % 3
    base = 1.3 + 0.6 * (u - 0.5)
    y = 0.2 + 0.8 * base + 0.05 * st + np.array([0, 0.03, 0.1, 0.16])[arm] + 0.3 * (v - 0.5) + 0.1 * (w - 0.5)
    return y[None], base[None], arm[None], st[None]


def trials(replicates, subjects=100, arms=3, visits=3, *, effect=0.0, seed=7):
    """Summary-level people by address, then allocation: visits (R, N, V), baseline, arm, strata."""
    who = {"subject": np.arange(subjects), "replicate": np.arange(replicates)[:, None]}
    strata = (uniforms(seed, Purpose.SUMMARY_TRIAL, **who, slot=99) * 3).astype(int)
    person, noise = (normals(seed, Purpose.SUMMARY_TRIAL, **who, slot=s) for s in (0, 1))
    arm = permuted_blocks(strata, [1] * arms, size=2 * arms, seed=seed, replicate=np.arange(replicates)).astype(int)
    baseline = person + 0.5 * noise
    later = [normals(seed, Purpose.SUMMARY_TRIAL, **who, slot=2 + v) for v in range(visits)]
    mean = person + 0.3 * strata + effect * (arm == 1)
    return np.stack([mean + 0.7 * e for e in later], axis=-1), baseline, arm, strata


def drop(visits, arm, *, rate=0.0, slope=0.0, seed=7):
    """Monotone dropout after a visit, missing at random: logistic in the last observed value and the arm."""
    r, n, v = visits.shape
    out = visits.copy()
    gone = np.zeros((r, n), bool)
    for visit in range(1, v):
        u = uniforms(
            seed, Purpose.SUMMARY_TRIAL, subject=np.arange(n), replicate=np.arange(r)[:, None], index=visit, slot=50
        )
        gone |= u < 1 / (1 + np.exp(-(rate + slope * np.where(arm == 1, 1, -1) * visits[:, :, visit - 1])))
        out[gone, visit] = np.nan
    return out


def holes(visits, share=0.06, seed=8):
    r, n, v = visits.shape
    u = uniforms(
        seed, Purpose.SUMMARY_TRIAL, subject=np.arange(n)[:, None], replicate=np.arange(r)[:, None, None],
        index=np.arange(v), slot=51,
    )  # fmt: skip
    return np.where(u < share, np.nan, visits)


def assert_same(one, other, rows=slice(None)):
    for name in one.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[rows], err_msg=name)


def test_ancova_equals_r():
    c = ancova_dunnett(*r_data(), arms=4)
    np.testing.assert_allclose(c.estimate[0], [-0.0364128307497, 0.0404609451372, 0.1068169479735], rtol=1e-11)
    np.testing.assert_allclose(c.se[0], [0.0342632073526, 0.0342239632826, 0.0433244807106], rtol=1e-11)
    np.testing.assert_allclose(c.p_unadjusted[0], [0.2941202400018, 0.2439216499378, 0.0179571398776], rtol=1e-10)
    assert c.df[0].tolist() == [41, 41, 41]
    np.testing.assert_allclose(c.p[0], [0.6149347636, 0.5341294650, 0.0498226992], atol=1e-6)  # R's error: 1.1e-7
    np.testing.assert_allclose(c.critical[0], 2.4639783, atol=2e-5)  # qmvt's quantile is simulated; p above is sharper
    np.testing.assert_allclose(c.lower[0], [-0.120836630, -0.043866158, 0.000066368], atol=1e-6)
    np.testing.assert_allclose(c.upper[0], [0.0480109686, 0.1247880479, 0.2135675282], atol=1e-6)
    assert c.reject[0].tolist() == [False, False, True]
    assert (c.n_control[0], c.n_treated[0].tolist(), c.missing[0]) == (18, [12, 12, 6], 0)


def test_one_sided_equals_r():
    """glht(..., alternative = "greater")."""
    y, base, arm, st = r_data()
    c = ancova_dunnett(y, base, arm, st, arms=4, alpha=0.025, side="greater")
    np.testing.assert_allclose(c.p[0], [0.9813963043, 0.2791961872, 0.0249329316], atol=1e-6)
    assert np.isposinf(c.upper).all()
    np.testing.assert_array_equal(c.reject, c.lower > 0)
    mirror = ancova_dunnett(-y, base, arm, st, arms=4, alpha=0.025, side="less")
    np.testing.assert_allclose(mirror.p, c.p, rtol=1e-12)
    np.testing.assert_allclose(mirror.upper, -c.lower, rtol=1e-12)
    assert np.isneginf(mirror.lower).all()


def test_four_unbalanced_contrasts_equal_r_within_the_one_factor_approximation():
    """Baseline and strata depend on the arm (correlations 0.49 to 0.66). R: 20 times pmvt(corr = cov2cor(vcov(g)),
    GenzBretz(maxpts = 1e6)): p as below; the nearest product correlation (Hsu 1992) moves p by less than 1e-4.
    """
    i = np.arange(40)
    arm = np.array([0, 1, 2, 3, 4, 0, 1, 4, 2, 4])[i % 10]
    u, v, w, s = (((i * 7919 + k * 104729) % 1009) / 1009 for k in (1, 2, 3, 5 + arm))
    base, st = 1.3 + 0.6 * (u - 0.5) + 0.1 * arm, np.floor(3 * s).astype(int)
    y = 0.2 + 0.8 * base + 0.05 * st + np.array([0, 0.03, 0.1, 0.16, 0.2])[arm] + 0.3 * (v - 0.5) + 0.1 * (w - 0.5)
    c = ancova_dunnett(y[None], base[None], arm[None], st[None], arms=5)
    np.testing.assert_allclose((c.estimate / c.se)[0], [1.7125078, 2.790139589, 2.851087809, 4.583623083], rtol=1e-8)
    np.testing.assert_allclose(c.p[0], [0.25680601, 0.02834586, 0.02453994, 0.00024314], atol=1e-4)
    np.testing.assert_allclose(c.p[0, 1:], [0.02834586, 0.02453994, 0.00024314], atol=1e-5)


def test_missing_rows_are_dropped_and_counted_as_in_r():
    """lm(..., subset = -c(1, 6, 11))."""
    y, base, arm, st = r_data()
    y[0, [0, 5]], base[0, 10] = np.nan, np.nan
    c = ancova_dunnett(y, base, arm, st, arms=4)
    np.testing.assert_allclose(c.estimate[0], [-0.0329782075267, 0.0525416073703, 0.1102646159647], rtol=1e-11)
    np.testing.assert_allclose(c.se[0], [0.0358833522079, 0.0367948585313, 0.0449369125198], rtol=1e-11)
    assert (c.missing[0], c.n_control[0] + c.n_treated[0].sum()) == (3, 45)


def test_every_replicate_equals_statsmodels():
    visits, baseline, arm, strata = trials(6)
    c = ancova_dunnett(visits[..., -1], baseline, arm, strata, arms=3)
    for r in range(6):
        columns = [baseline[r], strata[r] == 1, strata[r] == 2, arm[r] == 1, arm[r] == 2]
        fit = sm.OLS(visits[r, :, -1], sm.add_constant(np.column_stack(columns).astype(float))).fit()
        np.testing.assert_allclose(c.estimate[r], fit.params[-2:], rtol=1e-10)
        np.testing.assert_allclose(c.se[r], fit.bse[-2:], rtol=1e-10)
        np.testing.assert_allclose(c.p_unadjusted[r], fit.pvalues[-2:], rtol=1e-8)


def test_large_offsets_lose_no_digits():
    """Shifting outcome and baseline by 1e6 changes no contrast (centred, orthogonalised twice)."""
    y, base, arm, st = r_data()
    one, other = ancova_dunnett(y, base, arm, st, arms=4), ancova_dunnett(y + 1e6, base + 1e6, arm, st, arms=4)
    np.testing.assert_allclose(other.estimate, one.estimate, atol=1e-9)
    np.testing.assert_allclose(other.se, one.se, rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda a, s: (np.where(a == 2, -1, a), s), [0, 1, 0]),  # an empty arm
        (lambda a, s: (np.where(a == 0, -1, a), s), [1, 1, 1]),  # no control
        (lambda a, s: (a, np.where(a == 3, 3, s)), [0, 0, 1]),  # an arm that is a stratum
        (lambda a, s: (a, np.where(s == 1, 2, s)), [0, 0, 0]),  # an empty stratum
        (lambda a, s: (a, np.full_like(s, 2)), [0, 0, 0]),  # one stratum, not the first
        (lambda a, s: (a, a), [1, 1, 1]),  # strata are the arms
    ],
)
def test_empty_arms_and_strata(change, status):
    y, base, arm, st = r_data()
    arm, st = change(arm, st)
    c = ancova_dunnett(y, base, arm, st, arms=4)
    lost = np.array(status) != 0
    assert c.status[0].tolist() == status
    assert np.isnan(c.estimate[0, lost]).all()
    assert np.isnan(c.p[0, lost]).all()
    assert not c.reject[0, lost].any()
    assert np.isfinite(c.upper[0, ~lost]).all()
    used = arm[0] >= 0
    if not lost.all() and (lost.any() or (st == 2).all()):
        keep = [k for k in (1, 2, 3) if not lost[k - 1]] + ([3] if status == [0, 0, 1] else [])
        cells = [st[0] == s for s in np.unique(st[0])[1:] if not (lost.any() and s == 3)]
        x = np.column_stack([np.ones(N), base[0], *cells, *(arm[0] == k for k in keep)])[used].astype(float)
        beta = np.linalg.lstsq(x, y[0, used])[0]
        found = c.estimate[0, ~lost]
        start = 2 + len(cells)
        np.testing.assert_allclose(found, beta[start : start + found.size], rtol=1e-9)


def test_too_few_subjects_and_no_variation():
    y, base, arm, st = r_data()
    few = ancova_dunnett(y[:, :5], base[:, :5], arm[:, :5], st[:, :5], arms=4)
    assert AnalysisStatus.OK not in few.status
    assert not few.reject.any()
    flat = ancova_dunnett(np.zeros_like(y), base, arm, st, arms=4)
    assert (flat.status == AnalysisStatus.NO_VARIATION).all()
    assert all(status.advice for status in AnalysisStatus)


def test_no_missing_data_gives_the_complete_analysis_bit_for_bit():
    visits, baseline, arm, strata = trials(5)
    one = ancova_dunnett(visits[..., -1], baseline, arm, strata, arms=3)
    assert_same(one, ancova_mi_dunnett(visits, baseline, arm, strata, arms=3, seed=1, replicate=np.arange(5)))
    early = visits.copy()
    early[:, ::4, 0] = np.nan  # a missed visit changes nothing when the last one is there
    assert_same(one, ancova_mi_dunnett(early, baseline, arm, strata, arms=3, seed=1, replicate=np.arange(5)))


@pytest.mark.parametrize("gaps", [False, True])
def test_a_replicate_does_not_know_its_batch(gaps):
    visits, baseline, arm, strata = trials(7)
    data = drop(visits, arm, rate=-2)
    data = holes(data) if gaps else data
    strata = np.where((strata == 2) & (np.arange(7) != 4)[:, None], 1, strata)  # only one replicate has stratum 2
    whole = ancova_mi_dunnett(data, baseline, arm, strata, arms=3, seed=3, replicate=np.arange(7), imputations=5)
    for rows in ([0, 1, 2, 3], [4], [6, 5]):
        part = (a[rows] for a in (data, baseline, arm, strata))
        assert_same(ancova_mi_dunnett(*part, arms=3, seed=3, replicate=rows, imputations=5), whole, rows)
    other = ancova_mi_dunnett(data, baseline, arm, strata, arms=3, seed=4, replicate=np.arange(7), imputations=5)
    assert (other.estimate != whole.estimate).all()


def test_rubin_and_barnard_rubin_by_hand():
    """Rubin 1987 (3.1.2-3.1.5); Barnard & Rubin 1999: NumPy on the completed data sets, OLS by lstsq."""
    visits, baseline, arm, strata = trials(1, subjects=60, arms=2)
    data, m = drop(visits, arm, rate=-1.5), 8
    common = {"arms": 2, "seed": 3, "replicate": [0], "imputations": m}
    c = ancova_mi_dunnett(data, baseline, arm, strata, **common)
    final = impute(data, baseline, arm, strata, **common).final[:, 0]
    x = np.column_stack([np.ones(60), baseline[0], strata[0] == 1, strata[0] == 2, arm[0] == 1]).astype(float)
    fits = [np.linalg.lstsq(x, y) for y in final]
    q = np.array([fit[0][-1] for fit in fits])
    u = np.array([fit[1][0] / 55 * np.linalg.inv(x.T @ x)[-1, -1] for fit in fits])
    b, total = q.var(ddof=1), u.mean() + (1 + 1 / m) * q.var(ddof=1)
    share = (1 + 1 / m) * b / total
    old, observed = (m - 1) / share**2, 56 / 58 * 55 * (1 - share)
    df = 1 / (1 / old + 1 / observed)
    np.testing.assert_allclose(
        [c.estimate[0, 0], c.se[0, 0], c.df[0, 0], c.missing_information[0, 0]],
        [q.mean(), np.sqrt(total), df, share], rtol=1e-9,
    )  # fmt: skip
    assert c.p[0, 0] == pytest.approx(2 * stats.t.sf(abs(q.mean()) / np.sqrt(total), df), rel=1e-9)
    assert c.upper[0, 0] == pytest.approx(q.mean() + stats.t.isf(0.025, df) * np.sqrt(total), rel=1e-9)


def test_observed_values_are_kept_and_missing_ones_filled():
    visits, baseline, arm, strata = trials(3)
    data = holes(drop(visits, arm, rate=-2))
    baseline[0, 3] = np.nan
    found = impute(data, baseline, arm, strata, arms=3, seed=1, replicate=np.arange(3), imputations=3)
    last, lost = data[..., -1], np.isnan(data[..., -1])
    lost[0, 3] = False
    np.testing.assert_array_equal(found.imputed, lost)
    for m in range(3):
        keep = ~lost
        keep[0, 3] = False
        np.testing.assert_allclose(found.final[m][keep], last[keep], rtol=0, atol=0)
    assert np.isfinite(found.final[:, lost]).all()
    assert np.isnan(found.final[:, 0, 3]).all()
    assert (found.final[0][lost] != found.final[1][lost]).all()


def test_imputations_follow_the_posterior_predictive():
    """One visit, flat prior: x'b + s sqrt(1 + x'(X'X)^-1 x) t_{n-p} (Gelman et al., BDA3 (14.4)-(14.8))."""
    y, base, arm, st = r_data()
    arm, st = arm[:, :14], np.zeros((1, 14), int)
    visits, base = y[:, :14, None].copy(), base[:, :14]
    visits[0, 6] = np.nan
    final = impute(visits, base, arm, st, arms=4, seed=5, replicate=[2], imputations=20000).final[:, 0, 6]
    x = np.column_stack([np.ones(14), base[0], *(arm[0] == k for k in (1, 2, 3))]).astype(float)
    seen = np.arange(14) != 6
    b, rss, *_ = np.linalg.lstsq(x[seen], visits[0, seen, 0])
    df = 13 - 5
    scale = np.sqrt(rss[0] / df * (1 + x[6] @ np.linalg.inv(x[seen].T @ x[seen]) @ x[6]))
    assert stats.kstest(final, stats.t(df, x[6] @ b, scale).cdf).pvalue > 0.01


@pytest.mark.parametrize("df", [1, 2, 7, 290])
def test_chi_square_draws(df):
    key = np.array([11, 22, 3], dtype=np.uint64)
    draws = [chi_square(key, df, 4, slot) for slot in range(4000)]
    assert stats.kstest(draws, stats.chi2(df).cdf).pvalue > 0.01


def test_a_missed_visit_is_drawn_from_its_full_conditional():
    """Three visits in sequential form are a trivariate normal; conditional mean and variance by Schur complement."""
    slopes, sigma = np.array([[0, 0, 0], [0.8, 0, 0], [0.3, 0.5, 0]]), np.array([1.0, 0.6, 0.4])
    inverse = np.linalg.inv(np.eye(3) - slopes)
    cov, mean = inverse @ np.diag(sigma**2) @ inverse.T, inverse @ np.array([0.2, -0.1, 0.4])
    beta = np.column_stack([[0.2, -0.1, 0.4], slopes])
    y, missing, others = np.array([1.0, 9.0, 2.0]), np.array([0, 1, 0], np.int8), [0, 2]
    weight = np.linalg.solve(cov[np.ix_(others, others)], cov[others, 1])
    expected, spread = mean[1] + weight @ (y[others] - mean[others]), np.sqrt(cov[1, 1] - weight @ cov[others, 1])
    draws, row = [], np.zeros(6)
    for slot in range(4000):
        own = y.copy()
        key = np.array([1, 2, 3], dtype=np.uint64)
        draw_missed(key, 1, slot, 0, 3, np.ones(1), np.empty(0), own, missing, beta, sigma, row)
        draws.append(own[1])
    assert stats.kstest(draws, stats.norm(expected, spread).cdf).pvalue > 0.01


@pytest.mark.parametrize("gaps", [False, True])
def test_imputation_removes_the_bias_of_complete_cases(gaps):
    """MAR dropout that depends on the last value, in opposite directions by arm: completers mislead, MI does not."""
    visits, baseline, arm, strata = trials(400, arms=2, visits=4, effect=0.5)
    data = drop(visits, arm, rate=-2.2, slope=1.2)
    data = holes(data) if gaps else data
    assert 0.2 < np.isnan(data[..., -1]).mean() < 0.5
    mi = ancova_mi_dunnett(data, baseline, arm, strata, arms=2, seed=1, replicate=np.arange(400), imputations=10)
    completers = ancova_dunnett(data[..., -1], baseline, arm, strata, arms=2)
    error = mi.estimate[:, 0].std(ddof=1)
    assert mi.estimate.mean() == pytest.approx(0.5, abs=3 * error / 20)
    assert abs(completers.estimate.mean() - 0.5) > 4 * error / 20
    assert mi.se.mean() == pytest.approx(error, rel=0.12)
    inside = (mi.lower <= 0.5) & (mi.upper >= 0.5)
    assert inside.mean() == pytest.approx(0.95, abs=3 * np.sqrt(0.05 * 0.95 / 400))


def test_retrieved_dropouts_inform_those_who_left():
    """Stopping costs 1.0 and the stopped leave more often: only the model with the treatment status is unbiased."""
    visits, baseline, arm, strata = trials(300, subjects=200, arms=2, visits=2)
    who = {"subject": np.arange(200), "replicate": np.arange(300)[:, None]}
    stop, leave = (uniforms(9, Purpose.SUMMARY_TRIAL, **who, slot=s) for s in (1, 2))
    stopped = (stop < 0.4) & (arm == 1)
    off = np.repeat(stopped[..., None], 2, axis=-1)
    off[..., 0] = False
    visits[..., 1] -= stopped
    data = visits.copy()
    data[leave < np.where(stopped, 0.6, 0.05), 1] = np.nan
    common = {"arms": 2, "seed": 1, "replicate": np.arange(300), "imputations": 10}
    with_status = ancova_mi_dunnett(data, baseline, arm, strata, off_treatment=off, **common)
    without = ancova_mi_dunnett(data, baseline, arm, strata, **common)
    mcse = with_status.estimate.std(ddof=1) / np.sqrt(300)
    assert with_status.estimate.mean() == pytest.approx(-0.4, abs=3 * mcse)
    assert without.estimate.mean() > -0.4 + 6 * mcse


def test_an_imputation_model_without_data_fails_and_says_so():
    visits, baseline, arm, strata = trials(2, subjects=30, arms=2)
    visits[1, :, 1] = np.nan
    visits[:, 3, 2] = np.nan
    c = ancova_mi_dunnett(visits, baseline, arm, strata, arms=2, seed=1, replicate=[0, 1])
    assert c.status.ravel().tolist() == [AnalysisStatus.OK, AnalysisStatus.IMPUTATION_FAILED]
    assert np.isnan(c.estimate[1, 0])
    assert not c.reject[1, 0]


def test_null_rejection_is_nominal_although_every_design_sees_the_same_people():
    """Each subject is enrolled once, in one arm. The wrong way, both potential outcomes of the same people compared as
    if they were two groups, never rejects: without an effect the two outcomes are one number.
    """
    visits, baseline, arm, strata = trials(3000, subjects=60, arms=2, visits=1)
    y = visits[..., 0]
    right = ancova_dunnett(y, baseline, arm, strata, arms=2)
    assert right.reject.mean() == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 3000))
    twice = [np.concatenate([a, a], axis=1) for a in (y, baseline, strata)]
    labels = np.repeat([0, 1], 60)[None].repeat(3000, axis=0)
    assert ancova_dunnett(twice[0], twice[1], labels, twice[2], arms=2).reject.mean() == 0.0


def test_family_wise_error_with_missing_at_random_dropout():
    """2,000 null trials of 3 arms, about 25 % dropout, 10 imputations; the bench row has 10,000 of the demo's shape."""
    visits, baseline, arm, strata = trials(2000, subjects=90)
    data = drop(visits, arm, rate=-2, slope=0.5)
    assert 0.2 < np.isnan(data[..., -1]).mean() < 0.35
    c = ancova_mi_dunnett(data, baseline, arm, strata, arms=3, seed=1, replicate=np.arange(2000), imputations=10)
    assert c.reject.any(axis=1).mean() == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 2000))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"alpha": 0.0}, "between 0 and 0.5"), ({"side": "both"}, "two, greater or less"), ({"arms": 1}, "a control"),
        ({"arms": 2}, "arm codes"), ({"replicate": [0, 1]}, "whole numbers"), ({"imputations": 1}, "at least 2"),
        ({"off_treatment": np.full((1, N, 1), np.nan)}, "finite"),
    ],
)  # fmt: skip
def test_bad_input(change, match):
    y, base, arm, st = r_data()
    arguments = {"arms": 4, "seed": 1, "replicate": [0], **change}
    with pytest.raises(InputError, match=match):
        ancova_mi_dunnett(y[..., None], base, arm, st, **arguments)


@pytest.mark.parametrize(
    ("arm", "assume", "failed"),
    [(2, "at_random", True), (0, "at_random", True), (2, "jump_to_reference", False), (0, "copy_reference", True)],
)
def test_an_arm_never_seen_at_the_last_visit_has_no_imputed_effect(arm: int, assume: str, failed: bool) -> None:
    """Nothing tells its effect there: it must not be taken to be 0. A rule that uses control alone needs control alone."""
    from trials.analysis.continuous import AnalysisStatus, ancova_mi_dunnett

    rng, codes = np.random.default_rng(1), np.tile(np.arange(30) % 3, (1, 1))
    visits = rng.normal(size=(1, 30, 2))
    visits[0, codes[0] == arm, 1] = np.nan
    found = ancova_mi_dunnett(visits, rng.normal(size=(1, 30)), codes, np.zeros((1, 30), int), arms=3, seed=1,
                              replicate=[0], imputations=3, assume=assume)  # fmt: skip
    expected = AnalysisStatus.IMPUTATION_FAILED if failed else AnalysisStatus.OK
    assert found.status.tolist() == [[expected] * 2]
    assert np.isnan(found.estimate).all() == failed
