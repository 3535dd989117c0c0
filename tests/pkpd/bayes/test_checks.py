"""Checks of a fit on simulated truth: NPDE are standard normal, percentiles lie in their bands, the likelihood of a
subject is that of quadrature. No sampler: the posterior is the truth itself, one draw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from pkpd.bayes.loo import Loo, compare, leave_one_out, marginal, stacking
from pkpd.bayes.people import people, redrawn
from pkpd.bayes.predictive import population, simulated
from pkpd.bayes.residuals import decorrelated, normality, p_values, residuals
from pkpd.bayes.sbc_design import StudyDesign, records_of
from pkpd.bayes.vpc import limits, nominal_bins, vpc
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import point
from pkpd.posterior import Posterior

TEXT = """
vtrial: model/1
name: iv
states: {central: mg}
parameters:
  CL: {typical: 3 L/h, iiv: {typical: 0.4, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 30, sd: 1}, status: assumed}
omega: {block: [CL, V], lkj: 2}
correlations: [[CL, V, 0.5]]
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {additive: {typical: 0.2 mg/L, prior: 1 mg/L}, proportional: {typical: 0.15, prior: 0.5}}}
"""
DESIGN = """
vtrial: sbc/1
name: iv
seed: 1
groups:
  - {subjects: 60, doses: [{amount: 300 mg, into: central, at: 0 h}], samples: {CP: [1 h, 3 h, 6 h, 10 h, 16 h, 24 h]}}
"""
MODEL = Model.parse(TEXT)


def truth(model: Model = MODEL) -> Posterior:
    return Posterior(draws=point(model), model=model)


def study(seed: int, design: str = DESIGN, posterior: Posterior | None = None) -> Records:
    """A study of the truth: its values are one simulation at another address."""
    found = posterior or truth()
    records = records_of(StudyDesign.parse(design), found.model)
    return replace(records, dv=simulated(found, records, seed=seed, replicates=1)[0])


def test_npde_of_the_truth_are_independent_standard_normals():
    """360 values: mean, sd and shape within what 1 of 1000 such studies leaves, no correlation within subjects left."""
    records = study(11)
    found = residuals(MODEL, records, simulated(truth(), records, seed=5, replicates=1000), seed=5)
    told = normality(found.npde, found.reference)
    assert told["n"] == 360
    assert min(told["p_mean"], told["p_sd"], told["p_shape"]) > 0.003
    rows = found.npde.reshape(60, 6)
    assert abs(np.corrcoef(rows[:, :-1].ravel(), rows[:, 1:].ravel())[0, 1]) < 3.3 / np.sqrt(300)
    assert special.chdtrc(360, found.distance.sum()) > 0.001
    raw = (records.dv - simulated(truth(), records, seed=5, replicates=1000).mean(axis=0)).reshape(60, 6)
    assert np.corrcoef(raw[:, :-1].ravel(), raw[:, 1:].ravel())[0, 1] > 0.5  # what was there to remove


def test_npde_see_a_variability_that_is_half_too_small():
    records = study(11)
    wrong = truth(Model.parse(TEXT.replace("typical: 0.4, prior: 1", "typical: 0.15, prior: 1")))
    found = residuals(MODEL, records, simulated(wrong, records, seed=5, replicates=1000), seed=5)
    assert normality(found.npde, found.reference)["p_sd"] < 0.003  # the least that 1000 studies can say
    assert (found.p < 0.01).sum() > 5


def test_npde_of_values_below_the_limit_keep_their_law():
    """A third of the values censored at 1 mg/L (Nguyen 2012): still standard normal."""
    records = study(13)
    low = records.dv < 2.0
    assert 0.2 < low.mean() < 0.5
    censored = replace(records, dv=np.where(low, 2.0, records.dv), below=low)
    found = residuals(MODEL, censored, simulated(truth(), records, seed=5, replicates=1000), seed=5)
    told = normality(found.npde, found.reference)
    assert min(told["p_mean"], told["p_sd"], told["p_shape"]) > 0.003
    full = residuals(MODEL, records, simulated(truth(), records, seed=5, replicates=1000), seed=5)
    assert not np.allclose(found.npde[low], full.npde[low], atol=0.05)


def test_decorrelated_normals_are_those_of_the_exact_cholesky_factor():
    """Simulations of a known normal law: EWRES and NPDE tend to L^-1 (y - m) of its own covariance."""
    rng = np.random.default_rng(1)
    covariance = np.array([[1.0, 0.8], [0.8, 2.0]])
    y = rng.multivariate_normal([1.0, 2.0], covariance, size=200_000)
    npde, ewres, distance, p, each = decorrelated(np.array([2.0, 1.0]), y)
    away = np.array([1.0, -1.0])
    np.testing.assert_allclose(npde, np.linalg.solve(np.linalg.cholesky(covariance), away), atol=0.02)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(ewres, vectors @ ((vectors.T @ away) / np.sqrt(values)), atol=0.02)
    exact = float(away @ np.linalg.solve(covariance, away))
    assert distance == pytest.approx(exact, rel=0.02)
    assert p == pytest.approx(np.exp(-0.5 * exact), rel=0.05)  # chi-squared, 2 df
    np.testing.assert_allclose(np.cov(each.T), np.eye(2), atol=0.01)


def test_predictive_check_of_the_truth_and_its_limit():
    """18 percentiles in 95 % bands: at least 14 inside; the fraction below the limit likewise; the hidden are hidden."""
    records = study(17)
    check = vpc(truth(), records, seed=3, replicates=500)
    assert check.inside >= 14 / 18
    assert len(check.below) == 0
    low = records.dv < 2.0
    censored = replace(records, dv=np.where(low, 2.0, records.dv), below=low)
    found = vpc(truth(), censored, seed=3, replicates=500)
    np.testing.assert_array_equal(limits(MODEL, censored), 2.0)
    assert list(found.below["n"]) == [60] * 6
    np.testing.assert_allclose(found.below["observed"], low.reshape(60, 6).mean(axis=0))
    held = (found.below["observed"] >= found.below["lower"]) & (found.below["observed"] <= found.below["upper"])
    assert held.sum() >= 5
    last = found.bands[found.bands["bin"] == 5].set_index("percentile")
    assert low.reshape(60, 6)[:, 5].mean() > 0.6
    assert np.isnan(last.loc[5.0, "observed"])
    assert np.isnan(last.loc[50.0, "observed"])
    high = found.bands[found.bands["bin"] == 0].set_index("percentile")
    plain = check.bands[check.bands["bin"] == 0].set_index("percentile")
    assert high.loc[50.0, "observed"] == pytest.approx(plain.loc[50.0, "observed"])


def test_a_check_sees_a_clearance_twice_too_large():
    records = study(17)
    wrong = truth(Model.parse(TEXT.replace("typical: 3 L/h", "typical: 6 L/h")))
    assert vpc(wrong, records, seed=3, replicates=200).inside < 0.5
    assert (
        p_values(MODEL, records, simulated(wrong, records, seed=3, replicates=200))
        .set_index("statistic")
        .loc["mean", "p"]
        < 0.01
    )


def test_prediction_correction_takes_doses_out_of_the_spread():
    """Bergstrand 2011: two groups, ten times the dose in one. y PRED_median/PRED, by hand, and bands far narrower."""
    design = DESIGN.replace("subjects: 60", "subjects: 30") + (
        "  - {subjects: 30, doses: [{amount: 3000 mg, into: central, at: 0 h}], samples: {CP: [1 h, 3 h, 6 h, 10 h, 16 h, 24 h]}}\n"
    )
    records = study(19, design)
    check = vpc(truth(), records, seed=3, replicates=300)
    f, bins = population(truth(), records), nominal_bins(records)
    middle = np.array([np.median(f[bins == k]) for k in range(6)])
    np.testing.assert_allclose(check.points["corrected"], records.dv * middle[bins] / f, rtol=1e-9)

    def spread(frame: pd.DataFrame) -> float:
        first = frame[frame["bin"] == 0].set_index("percentile")["observed"]
        return float(first[95.0] / first[5.0])

    assert spread(check.bands) > 8.0
    assert spread(check.corrected) < 3.0
    inside = check.corrected.query("lower <= observed <= upper")
    assert len(inside) >= 14
    same = vpc(truth(), study(17), seed=3, replicates=50)
    pd.testing.assert_series_equal(same.bands["observed"], same.corrected["observed"])


def test_likelihood_of_a_subject_is_that_of_quadrature():
    """Effects summed out by importance sampling against the rule of rectangles on a fine grid, for three draws."""
    records = study(23, DESIGN.replace("subjects: 60", "subjects: 6"))
    draws = point(MODEL)
    three = replace(
        draws, typical=np.array([[3.0, 30.0], [2.5, 33.0], [3.6, 28.0]]), omega=draws.omega[0] * np.array([1.0, 0.5, 2.0])[:, None, None],
        error=draws.error[0] * np.array([1.0, 1.2, 0.8])[:, None],
    )  # fmt: skip
    found = marginal(MODEL, records, three, seed=1)
    exact = np.array([[_quadrature(records, i, three, d) for d in range(3)] for i in range(6)])
    np.testing.assert_allclose(found.value, exact, atol=0.12)
    assert np.abs(found.value - exact).mean() < 0.04
    finer = marginal(MODEL, records, three, seed=1, points=1024)
    np.testing.assert_allclose(finer.value, exact, atol=0.02)
    assert (finer.noise < 0.5 * found.noise).all()


def _quadrature(records: Records, subject: int, draws, d: int) -> float:
    nodes = np.linspace(-6.0, 6.0, 301)  # a smooth integrand that vanishes at the ends: exact to many digits
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    w = -0.5 * (z * z).sum(axis=1) - np.log(2.0 * np.pi) + 2.0 * np.log(nodes[1] - nodes[0])
    cl, v = (draws.typical[d] * np.exp(z @ np.linalg.cholesky(draws.omega[d]).T)).T
    mine = records.subject == subject
    f = 300.0 / v[:, None] * np.exp(-(cl / v)[:, None] * records.time[mine])
    additive, proportional = draws.error[d]
    variance = additive**2 + (proportional * f) ** 2
    rows = -0.5 * (records.dv[mine] - f) ** 2 / variance - 0.5 * np.log(2.0 * np.pi * variance)
    return float(special.logsumexp(w + rows.sum(axis=1)))


def test_one_draw_leaves_nothing_to_weigh():
    """A population known exactly: leaving a subject out changes nothing, elpd is the log likelihood."""
    records = study(23, DESIGN.replace("subjects: 60", "subjects: 4"))
    draws = point(MODEL)
    many = replace(draws, **{n: np.repeat(getattr(draws, n), 40, axis=0) for n in ("typical", "omega", "error")})
    found = leave_one_out(MODEL, records, many, seed=1, points=256)
    np.testing.assert_allclose(found.elpd, found.lpd, atol=1e-3)
    assert found.effective_parameters == pytest.approx(0.0, abs=4e-3)
    np.testing.assert_allclose(found.elpd, [_quadrature(records, i, draws, 0) for i in range(4)], atol=0.05)
    again = Loo.from_dict(found.to_dict())
    np.testing.assert_array_equal(again.elpd, found.elpd)
    assert again.ids == found.ids


def test_comparison_is_paired_and_stacking_prefers_the_better():
    """Weights maximise the mean log density of the mixture: no point of a grid does better; the other weight is 0."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(-10.0, 3.0, 40), rng.normal(0.3, 0.5, 40)
    made = {"a": _loo(a), "b": _loo(a - b)}
    table = compare(made).set_index("model")
    assert list(table.index) == ["a", "b"]
    assert table.loc["b", "difference"] == pytest.approx(-b.sum())
    assert table.loc["b", "se_difference"] == pytest.approx(np.sqrt(40) * b.std(ddof=1))
    assert table.loc["b", "se"] > 3 * table.loc["b", "se_difference"]
    weights = stacking(np.stack([a, a - b], axis=1))
    assert weights.sum() == pytest.approx(1.0)
    grid = np.linspace(1e-9, 1.0 - 1e-9, 2001)[:, None]
    score = np.log(grid * np.exp(a) + (1.0 - grid) * np.exp(a - b)).mean(axis=1)
    assert np.log(weights[0] * np.exp(a) + weights[1] * np.exp(a - b)).mean() >= score.max() - 1e-9


def _loo(elpd: np.ndarray, data: str = "d") -> Loo:
    ids = tuple(str(i) for i in range(len(elpd)))
    return Loo(ids=ids, elpd=elpd, lpd=elpd, k=np.zeros(len(elpd)), noise=np.zeros(len(elpd)), data=data)


def test_fits_of_other_data_are_not_compared():
    with pytest.raises(InputError, match=r"b: was fitted to other data .*Remedy: compare fits of the same data file"):
        compare({"a": _loo(np.zeros(3)), "b": _loo(np.zeros(3), "e")})


def test_predictive_p_values_of_the_truth_are_not_extreme_and_count_ties_half():
    records = study(29)
    table = p_values(MODEL, records, simulated(truth(), records, seed=3, replicates=400)).set_index("statistic")
    assert table["p"].between(0.001, 0.999).all()
    assert (table["lower"] <= table["median"]).all()
    still = np.tile(records.dv, (10, 1))
    assert (p_values(MODEL, records, still)["p"] == 0.5).all()


OCCASIONS = """
vtrial: model/1
name: iov
covariates: {WT: {unit: kg, reference: 70}}
occasion: {column: OCC}
states: {central: mg}
parameters:
  CL: {typical: 3 L/h, iiv: {typical: 0.4, prior: 1}, iov: {typical: 0.3, prior: 1}, prior: {median: 3, sd: 1}, effects: {WT: power 0.75 fixed}, status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {additive: {typical: 0.2 mg/L, prior: 1 mg/L}}}
"""
TWO = """ID,TIME,AMT,DV,EVID,OCC,WT
a,0,300,.,1,1,60
a,10,.,5,0,1,60
a,24,300,.,1,2,60
a,30,.,5,0,2,60
b,0,300,.,1,1,80
b,10,.,5,0,1,80
c,0,300,.,1,1,90
c,10,.,5,0,1,90
d,0,300,.,1,1,NA
d,10,.,5,0,1,NA
"""


def test_occasions_and_missing_covariates_by_hand():
    """CL of the second occasion acts from its dose on; a weight that is missing is exp(m + s z) of the others' weights."""
    model = Model.parse(OCCASIONS)
    records = Records.parse(TWO, model=model)
    folk = people(model, records)
    assert folk.occasions.tolist() == [[0, 1], [0, 2], [1, 1], [2, 1], [3, 1]]
    assert folk.absent.names == ("WT of d",)
    draws = point(model)
    z = folk.none()
    z.own[0, 0] = [0.5, -1.0]
    z.later[0, :2, 0] = [1.0, -2.0]
    z.missing[0, 0] = 1.5
    f = folk.predictions(draws.typical, np.linalg.cholesky(draws.omega), z)[0]
    cl = 3.0 * (60 / 70) ** 0.75 * np.exp(0.4 * 0.5 + 0.3 * np.array([1.0, -2.0]))
    v = 30.0 * np.exp(-0.2)
    trough = 300 / v * np.exp(-cl[0] / v * 24)
    logs = np.log([60.0, 80.0, 90.0])
    weight = np.exp(logs.mean() + 1.5 * logs.std(ddof=1) * np.sqrt(4 / 3))
    exact = [
        300 / v * np.exp(-cl[0] / v * 10), (trough + 300 / v) * np.exp(-cl[1] / v * 6),
        *(10.0 * np.exp(-3.0 * (w / 70) ** 0.75 / 30 * 10) for w in (80.0, 90.0, weight)),
    ]  # fmt: skip
    np.testing.assert_allclose(f, exact, rtol=1e-5)
    again = redrawn(folk, 1, np.arange(4000))
    for part in (again.own[:, 0], again.later[:, 1], again.missing):
        assert abs(part.mean()) < 0.06
        assert part.std() == pytest.approx(1.0, abs=0.05)
    pairs = np.corrcoef(np.stack([again.own[:, 0, 0], again.later[:, 0, 0], again.later[:, 1, 0], again.missing[:, 0]]))
    assert np.abs(pairs - np.eye(4)).max() < 0.07
