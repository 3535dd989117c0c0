"""The theophylline fit against three other tools' posteriors; cache, reproducibility, diagnostics of the real thing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.bayes import fit
from pkpd.bayes.fit import DIAGNOSTICS, POSTERIOR, Settings, _cache_key, _stored
from pkpd.bayes.predictive import predictions, simulated
from pkpd.bayes.vpc import nominal_bins, vpc
from pkpd.bayes.tables import natural_draws, prior_posterior
from pkpd.ground.errors import InputError
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
