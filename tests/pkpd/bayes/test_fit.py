"""The theophylline fit against three other tools' posteriors; cache, reproducibility, diagnostics of the real thing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.bayes import fit
from pkpd.bayes.checks import checked, with_checks
from pkpd.bayes.design import design
from pkpd.bayes.fit import DIAGNOSTICS, POSTERIOR, Settings, _cache_key, _sampler_seed, _stored
from pkpd.bayes.loo import leave_one_out, refitted
from pkpd.bayes.predictive import predictions, simulated
from pkpd.bayes.prior_check import Foretold, _foretold, _predicted, prior_check, surprises
from pkpd.bayes.sbc import JOINT, fitted, prepared
from pkpd.bayes.sbc_design import StudyDesign, records_of
from pkpd.bayes.tables import natural_draws, prior_posterior
from pkpd.bayes.vpc import nominal_bins, vpc
from pkpd.ground.errors import InputError
from pkpd.model.library import model_path
from pkpd.model.spec import Model
from pkpd.posterior import read

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "pk_estimates.csv"
SEED = 20261121


def summary(theophylline, name):
    return next(p for p in theophylline.diagnostics["parameters"] if p["name"] == name)


@pytest.mark.witness
@pytest.mark.parametrize(
    ("name", "witness", "limit"), [("log_CL", "log CL", 0.15), ("log_V", "log V", 0.15), ("log_KA", "log ka", 0.3)]
)
def test_posterior_is_that_of_three_other_tools(theophylline, name, witness, limit):
    """Stan, PyMC NUTS and nutpie on the same priors (log ka free there, hence the wider limit)."""
    if not REFERENCE.exists():
        pytest.skip("../shared/reference/pk_estimates.csv is not here")
    table = pd.read_csv(REFERENCE)
    row = table[(table.dataset == "theophylline") & table.source.str.startswith("Bayes") & (table.parameter == witness)]
    expected, sd = float(row.value.iloc[0]), float(row.sd_or_se.iloc[0])
    found = summary(theophylline, name)
    assert abs(found["mean"] - expected) / sd <= limit
    assert abs(found["sd"] / sd - 1.0) <= 0.15


@pytest.mark.parametrize(("name", "mean", "sd"), [
    ("omega_CL", 0.291, 0.079), ("omega_V", 0.147, 0.052), ("corr_CL_V", 0.55, 0.25),
    ("CP_additive", 0.318, 0.09), ("CP_proportional", 0.128, 0.021),
])  # fmt: skip
def test_variability_is_that_of_three_other_tools(theophylline, name, mean, sd):
    """The Bayes row of the same reference fits: means within 0.2 sd, sds within 15 %."""
    found = summary(theophylline, name)
    assert abs(found["mean"] - mean) <= 0.2 * sd
    assert abs(found["sd"] / sd - 1.0) <= 0.15


def test_fit_holds_its_limits(theophylline):
    d = theophylline.diagnostics
    assert len(d["parameters"]) == 12  # 3 typical, 3 omegas, 3 correlations, 2 errors, derived log KA
    assert d["max_rhat"] <= 1.01
    assert d["min_ess_bulk"] >= 400
    assert d["divergences"] == 0
    assert theophylline.posterior.sound
    assert "holds its limits" in theophylline.posterior.verdict


def test_no_draw_is_in_the_flip_flop_mode(theophylline):
    """ka > CL/V by construction; the flip-flop mode has V near 2 L instead of 32 (every chain mean is far from it)."""
    draws = theophylline.posterior.draws
    ka, cl, v = draws.typical.T
    assert (ka > cl / v).all()
    assert v.min() > 15.0


def test_population_draws_are_the_tree(theophylline):
    """Natural units, chain after chain; covariance = sds x correlation."""
    tree, draws = theophylline.tree()["posterior"], theophylline.posterior.draws
    np.testing.assert_allclose(np.log(draws.typical[:, 1]), tree["log_CL"].values.ravel(), rtol=1e-12)
    np.testing.assert_allclose(np.log(draws.typical[:, 0]), tree["log_KA"].values.ravel(), rtol=1e-9, atol=1e-12)
    sd = np.stack([tree[f"omega_{n}"].values.ravel() for n in draws.eta_names], axis=1)
    np.testing.assert_allclose(draws.omega[:, 2, 1], tree["corr_CL_V"].values.ravel() * sd[:, 2] * sd[:, 1], rtol=1e-9)
    np.testing.assert_allclose(np.einsum("dii->di", draws.omega), sd**2, rtol=1e-9)


def test_same_inputs_are_not_sampled_again(theophylline, model, records, fit_cache, monkeypatch):
    monkeypatch.setenv("VTRIAL_CACHE", str(fit_cache))
    monkeypatch.setattr("pkpd.bayes.sampling.sampled", lambda *a, **k: pytest.fail("sampled again"))
    again = fit(model, records, seed=SEED)
    assert again.reused
    assert again.posterior.digest == theophylline.posterior.digest
    assert again.diagnostics == json.loads(json.dumps(theophylline.diagnostics))


def test_whatever_decides_the_draws_is_in_the_key(model, records):
    from dataclasses import replace

    first = _cache_key(model, records, Settings(seed=1))
    assert first == _cache_key(model, records, Settings(seed=1))
    others = [
        _cache_key(model, records, Settings(seed=2)),
        _cache_key(model, records, Settings(seed=1, draws=100)),
        _cache_key(model, records, Settings(seed=1, target_accept=0.9)),
        _cache_key(model, replace(records, digest="other"), Settings(seed=1)),
    ]
    assert len({first, *others}) == 5


def test_a_torn_cache_is_not_used(theophylline, tmp_path):
    place = tmp_path / "torn"
    place.mkdir()
    source = theophylline.tree_path.parent
    (place / DIAGNOSTICS).write_bytes((source / DIAGNOSTICS).read_bytes())
    (place / POSTERIOR).write_bytes((source / POSTERIOR).read_bytes()[:-1000])
    assert _stored(place) is None
    assert not place.exists()


def test_parquet_is_the_posterior(theophylline):
    stored = read(theophylline.tree_path.parent / POSTERIOR)
    assert stored.digest == theophylline.posterior.digest
    np.testing.assert_array_equal(stored.draws.omega, theophylline.posterior.draws.omega)


def test_the_same_bits_on_one_core_and_on_two(model, records):
    """Chains run in threads; their number of workers must not change a draw."""
    one, two = (_quick(model, records, cores) for cores in (1, 2))
    np.testing.assert_array_equal(one, two)


def _quick(model, records, cores):
    found = fit(model, records, seed=7, draws=50, tune=100, chains=2, cores=cores, cache=False)
    return found.posterior.draws.typical


def test_predictive_check_brackets_the_data(theophylline, records):
    """33 observed percentiles in 95 % bands: at least 28 inside (a sound model misses more with probability < 1 %)."""
    check = vpc(theophylline.posterior, records, seed=SEED, replicates=500)
    assert list(check.bands["bin"].unique()) == list(range(11))
    assert check.failed == 0
    assert check.inside >= 28 / 33
    assert (check.bands["lower"] <= check.bands["median"]).all()
    assert (check.bands["median"] <= check.bands["upper"]).all()
    first = check.bands[(check.bands["bin"] == 10) & (check.bands["percentile"] == 50.0)].iloc[0]
    last = nominal_bins(records) == 10
    assert first["observed"] == pytest.approx(np.median(records.dv[last]))
    assert first["n"] == 12


def test_simulated_studies_have_the_population_s_moments(theophylline, records):
    """Mean over studies of the log concentration at 12 h equals direct quadrature over draws, IIV ignored to first order."""
    y = simulated(theophylline.posterior, records, seed=3, replicates=400)
    assert y.shape == (400, 132)
    assert np.isfinite(y).all()
    again = simulated(theophylline.posterior, records, seed=3, replicates=20)
    np.testing.assert_array_equal(y[:20], again)
    rows = nominal_bins(records) == 9
    ka, cl, v = np.median(theophylline.posterior.draws.typical, axis=0)
    t, dose = records.time[rows], records.doses.amount[records.subject[rows]]
    typical = dose * ka / (v * (ka - cl / v)) * (np.exp(-cl / v * t) - np.exp(-ka * t))
    assert np.median(y[:, rows]) == pytest.approx(np.median(typical), rel=0.05)


def test_individual_predictions_follow_the_data(theophylline, records):
    table = predictions(theophylline, records, most_draws=200)
    assert len(table) == 132
    late = table[table["time"] > 0]
    assert np.corrcoef(late["observed"], late["individual"])[0, 1] > 0.95
    assert np.corrcoef(late["observed"], late["population"])[0, 1] > 0.8
    assert 0.7 < table["iwres"].std() < 1.1
    assert ((table["lower"] <= table["individual"]) & (table["individual"] <= table["upper"])).all()


def test_tables_are_in_natural_units(theophylline):
    table = prior_posterior(theophylline.posterior).set_index("parameter")
    draws = natural_draws(theophylline.posterior)
    assert set(table.index) == set(draws)
    for label, values in draws.items():
        assert table.loc[label, "median"] == pytest.approx(np.median(values), rel=1e-6, abs=1e-9)
    assert table.loc["CL", "unit"] == "L/h"
    assert table.loc["CL", "prior_median"] == pytest.approx(3.0)
    assert table.loc["CL", "prior_high"] == pytest.approx(3.0 * np.exp(1.959964), rel=1e-6)
    assert np.isnan(table.loc["KA", "prior_median"])  # derived
    assert table.loc["V", "contraction"] > 0.99


def test_settings_are_checked():
    with pytest.raises(InputError, match="target_accept: must lie between 0 and 1"):
        Settings(seed=1, target_accept=1.0)


def test_a_fit_is_screened_by_its_own_predictions(theophylline, model, records):
    """The density at typical values against the engine: the same levels, exactly nothing before a dose arrives."""
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design
    from pkpd.bayes.plan import plan
    from pkpd.bayes.sampling import typical
    from pkpd.screening import typical_predictions

    found = typical(density(plan(model, "CP"), design(model, records)), records)
    expected = typical_predictions(model, records)
    assert np.allclose(found, expected, rtol=1e-9, atol=0.0)
    assert np.array_equal(found == 0.0, expected == 0.0)
    assert (found == 0.0).any()
    assert sum("before any dose" in remark for remark in theophylline.diagnostics["remarks"]) == 3


def test_a_sampler_that_cannot_start_is_one_sentence(model, records):
    """Every initial point fails: RunFailed (exit 3) with advice, no panic, no crash of the interpreter."""
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design
    from pkpd.bayes.nuts import draw
    from pkpd.bayes.plan import plan
    from pkpd.ground.errors import RunFailed

    made = density(plan(model, "CP"), design(model, records))
    settings = Settings(seed=1, draws=10, tune=10, chains=2)
    with pytest.raises(RunFailed, match=r"the sampler could not run: .*check units and times"):
        draw(made, lambda seed: np.full(made.layout.size, np.nan), settings, seed=1, cores=2)


def test_checks_of_a_fit_are_made_once_and_read_again(theophylline, records):
    """Leave-one-out by subject: of 12 only a few are doubtful; what is stored reads back the same; posterior keeps its digest."""
    found = checked(theophylline, records, seed=3, replicates=300, refits=0)
    assert (theophylline.tree_path.parent / "checks.json").exists()
    again = checked(theophylline, records, seed=3, replicates=300, refits=0)
    for name in ("rows", "subjects", "p_values"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(again, name), check_dtype=False)
    assert again.remarks == found.remarks
    assert list(found.rows.columns) == [
        "id", "time", "observed", "population", "individual", "lower", "upper", "iwres", "output", "below", "npde", "ewres",
    ]  # fmt: skip
    assert 0.0 < found.epsilon["CP"] < 0.25
    assert len(found.loo.elpd) == 12
    assert len(found.loo.doubtful) <= 3
    assert (found.loo.lpd >= found.loo.elpd).all()
    assert 5.0 < found.loo.effective_parameters < 25.0
    carried = with_checks(theophylline.posterior, found)
    assert carried.digest == theophylline.posterior.digest
    assert carried.diagnostics["checks"]["loo"]["elpd"] == pytest.approx(found.loo.total)


def test_identifiability_is_among_the_diagnostics(theophylline):
    """Additive and proportional error trade places: the strongest correlation, and negative; the draws' own corrcoef."""
    told = theophylline.diagnostics["identifiability"]
    names, matrix = list(told["names"]), np.asarray(told["correlation"])
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    a, b = names.index("CP_additive"), names.index("CP_proportional")
    draws = theophylline.posterior.draws.error
    assert matrix[a, b] == pytest.approx(np.corrcoef(draws.T)[0, 1], abs=1e-9)
    assert matrix[a, b] < -0.5
    assert 0.0 < told["weakest"] < 0.8
    assert sum(v * v for v in told["direction"].values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_leaving_out_is_what_fitting_the_others_says(theophylline, records):
    """Every subject with k < 0.5 within 0.25 of a fit without it; the doubtful one becomes exact by `refitted`."""
    draws, model = theophylline.posterior.draws, theophylline.posterior.model
    found = leave_one_out(model, records, draws, seed=1)
    exact = refitted(replace(found, k=np.full(12, 9.0)), model, records, seed=1, most=12)
    good = found.k < 0.5
    assert good.sum() >= 6
    np.testing.assert_allclose(found.elpd[good], exact.elpd[good], atol=0.3)
    assert (exact.k == 0.0).all()


def test_calibration_fits_are_the_same_on_one_core_and_on_two(narrow):
    one, two = (fitted(narrow, 1, cores=cores) for cores in (1, 2))
    assert one.rank == two.rank
    assert one.mean == two.mean
    assert one.failed == ""
    assert min(one.ess.values()) >= 99
    assert set(one.rank) == {*narrow.truth, JOINT}
    assert all(0 <= r <= 99 for r in one.rank.values())
    assert all(abs(one.mean[n] - one.truth[n]) < 6.0 * one.sd[n] for n in narrow.truth)


def test_a_calibration_fit_that_cannot_be_simulated_or_started_is_a_value(narrow):
    y = narrow.y.copy()
    y[0, 3] = np.nan
    assert fitted(replace(narrow, y=y), 0).failed == "the data could not be simulated"
    y[0] = 1e200
    assert fitted(replace(narrow, y=y), 0).failed != ""


NARROW = (
    model_path("theophylline")
    .read_text()
    .replace("sd: 1}", "sd: 0.2}")
    .replace("prior: 1}", "prior: 0.4}")
    .replace("prior: 1 mg/L}", "prior: 0.4 mg/L}")
)
NARROW_DESIGN = """
vtrial: sbc/1
name: narrow
seed: 3
fits: 2
groups: [{subjects: 12, doses: [{amount: 320 mg, into: depot, at: 0 h}], samples: {CP: [0.5 h, 1 h, 2 h, 4 h, 9 h, 24 h]}}]
"""


@pytest.fixture(scope="module")
def narrow(model):
    """The fitted model of this file under narrower priors: the machine code is the same."""
    return prepared(Model.parse(NARROW), StudyDesign.parse(NARROW_DESIGN))


def test_the_prior_predictive_of_a_fit_is_the_law_its_data_are_drawn_from(narrow):
    """200 studies drawn from the priors by the engine: of each row's own prediction by the density the central 50, 90
    and 95 % hold as many of their values, within 4 standard errors (studies are independent, their rows are not).
    """
    study = prepared(Model.parse(NARROW), replace(StudyDesign.parse(NARROW_DESIGN), fits=200))
    made = design(study.model, records_of(study.design, study.model))
    y = _predicted(study.law, made, 11, 4000)
    inside = np.asarray([_foretold("CP", y, values).inside for values in study.y])
    error = inside.std(axis=0) / np.sqrt(len(inside))
    np.testing.assert_array_less(np.abs(inside.mean(axis=0) - [0.5, 0.9, 0.95]), 4 * error + 0.005)
    found = prior_check(study.law, made, seed=11, draws=50)
    assert [(f.output, f.n, f.failed) for f in found] == [("CP", 72, 0.0)]


def test_any_seed_makes_a_fit(model, records):
    """The sampler's own seed has 64 bits, chance by address takes 63: seeds on either side of it."""
    seeds = {_sampler_seed(k) >= 2**63: k for k in range(20)}
    for seed in (*seeds.values(), 2**63 - 1):
        found = fit(model, records, seed=seed, draws=20, tune=20, chains=1, cache=False)
        assert found.diagnostics["prior_predictive"][0]["n"] == 132
    assert set(seeds) == {False, True}


def test_a_fit_says_what_its_priors_predicted(theophylline):
    (told,) = theophylline.diagnostics["prior_predictive"]
    assert (told["output"], told["n"]) == ("CP", 132)
    assert told["predicted"][0] < told["observed"][0] <= told["observed"][2] < told["predicted"][2]  # weak priors
    assert told["inside"][2] > 0.9
    assert not any("hardly allow" in remark for remark in theophylline.diagnostics["remarks"])
    odd = Foretold(
        output="CP", n=9, inside=(0.0, 0.1, 0.2), predicted=(1.0, 2.0, 3.0), observed=(1e3, 2e3, 3e3), failed=0.0
    )
    assert surprises((odd,))[0].startswith("The priors hardly allow the data: 80 % of the values of CP")


def test_expected_errors_stand_beside_the_posterior(theophylline):
    """Asymptotic errors of typical values and the posterior's own: within a fifth; nothing is hard to tell apart."""
    told = theophylline.diagnostics["information"]
    rows = {r["name"]: r for r in told["quantities"]}
    assert set(rows) == {p["name"] for p in theophylline.diagnostics["parameters"]}
    for name in ("log_CL", "log_V", "log_KA"):
        assert rows[name]["se"] == pytest.approx(rows[name]["posterior_sd"], rel=0.2)
        assert rows[name]["rse"] == pytest.approx(100 * rows[name]["se"])
    assert np.isnan(rows["corr_CL_V"]["rse"])
    assert 1.0 < told["condition"] < 20.0
    assert told["left_out"] == 0
