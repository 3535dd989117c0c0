"""Simulated truths come back: occasions, a covariate that changes, a covariate that is missing; data from the engine."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pkpd.bayes import fit
from pkpd.engine.build import compiled
from pkpd.engine.changes import in_time
from pkpd.engine.solve import solve
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.timeline import timeline
from pkpd.model.variability import individual

pytestmark = pytest.mark.slow
OCCASIONS = """
vtrial: model/1
name: three_occasions
states: {central: mg}
occasion: {column: OCC}
parameters:
  CL: {typical: 3 L/h, iiv: {typical: 0.3, prior: 0.5}, iov: {typical: 0.25, prior: 0.5}, prior: {median: 3, sd: 1},
       status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {proportional: {typical: 0.1, prior: 0.5}}}
"""
SATURABLE = """
vtrial: model/1
name: saturable
states: {central: mg}
occasion: {column: OCC}
parameters:
  VM: {typical: 10 mg/h, iiv: {typical: 0.3, prior: 0.5}, iov: {typical: 0.25, prior: 0.5}, prior: {median: 10, sd: 1},
       status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 30, sd: 1}, status: assumed}
  KM: {typical: 2 mg/L, prior: {median: 2, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -VM*C/(KM + C)
outputs:
  CP: {is: C, error: {proportional: {typical: 0.1, prior: 0.5}}}
"""
COVARIATES = """
vtrial: model/1
name: changing
covariates: {CR: {unit: mg/dL, reference: 1, between: locf}, WT: {unit: kg, reference: 70}}
states: {central: mg}
parameters:
  CL: {typical: 3 L/h, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 3, sd: 1}, effects: {CR: power GC, WT: power GW},
       status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.15, prior: 0.5}, prior: {median: 30, sd: 1}, effects: {WT: power 1 fixed},
       status: assumed}
  GC: {typical: -0.8 1, scale: identity, prior: {median: 0, sd: 1}, status: assumed}
  GW: {typical: 0.75 1, scale: identity, prior: {median: 0.5, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {proportional: {typical: 0.1, prior: 0.5}}}
"""


def simulated(model: Model, lines: list[str], seed: int) -> list[str]:
    """The lines with DV drawn from the model's typical values (`?` where one is to be)."""
    rng = np.random.default_rng(seed)
    records = Records.parse("\n".join(line.replace("?", "1") for line in lines) + "\n", model=model)
    constant = records.covariates or {"": np.zeros(len(records))}
    line = timeline(model, constant, records.series, occasion=records.occasion, until=200.0)
    sds = np.array([0.3, 0.2, 0.25]) if model.occasion_etas else np.array([0.2, 0.15])
    slot = np.unique(np.stack([line.subject, line.occasion], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    z = np.empty((1, len(line.time), len(sds)))
    z[0, :, :2] = rng.normal(size=(len(records), 2))[line.subject]
    if model.occasion_etas:
        z[0, :, 2] = rng.normal(size=slot.max() + 1)[slot]
    typical = np.array([[float(p.value) for p in model.parameters.values()]])
    covariates = {k: v[None] for k, v in line.values.items() if k}
    theta = individual(model, typical, np.diag(sds)[None], covariates, z=z)[0]
    first, inputs, changes = in_time(compiled(model), line, theta)
    times = np.unique(records.time)
    values = solve(compiled(model), first, records.doses, times, covariates=inputs, changes=changes).values
    f = values[records.subject, 0, np.searchsorted(times, records.time)]
    y = iter(f * (1.0 + 0.1 * rng.normal(size=len(f))))
    return [line.replace("?", f"{next(y):.8g}") if "?" in line else line for line in lines]


def recovered(model: Model, lines: list[str], truth: dict[str, float]) -> dict:
    """The fit, 2 x (1000 + 1000): every named truth within 3 posterior sd, limits of sampling kept."""
    records = Records.parse("\n".join(lines) + "\n", model=model)
    found = fit(model, records, seed=12, draws=1000, tune=1000, chains=2, cache=False)
    tree = found.tree()["posterior"]
    missing = tree["missing_covariates"].values.reshape(2000, -1) if "missing_covariates" in tree else None
    shutil.rmtree(found.tree_path.parent)
    told = {p["name"]: p for p in found.diagnostics["parameters"]}
    away = {n: (told[n]["mean"] - v) / told[n]["sd"] for n, v in truth.items()}
    assert max(map(abs, away.values())) < 3.0, away
    assert found.diagnostics["max_rhat"] < 1.03
    assert found.diagnostics["divergences"] == 0
    return told | {"fit": found, "missing": missing}


def test_variability_between_occasions():
    """30 subjects, 3 occasions of 4 samples; omega of CL .3 between subjects, .25 between occasions."""
    model = Model.parse(OCCASIONS)
    lines = ["ID,TIME,AMT,DV,EVID,OCC"]
    for i in range(30):
        for k in range(3):
            lines.append(f"{i + 1},{48 * k},100,.,1,{k + 1}")
            lines += [f"{i + 1},{48 * k + t},.,?,0,{k + 1}" for t in (1, 6, 12, 24)]
    truth = {
        "log_CL": np.log(3), "log_V": np.log(30), "omega_CL": 0.3, "omega_V": 0.2, "omega_CL.iov": 0.25,
        "CP_proportional": 0.1,
    }  # fmt: skip
    told = recovered(model, simulated(model, lines, 3), truth)
    assert told["omega_CL.iov"]["lower"] > 0.15
    draws = told["fit"].posterior.draws
    assert draws.eta_names == ("CL", "V", "CL.iov")
    assert np.sqrt(draws.omega[:, 2, 2]).mean() == pytest.approx(told["omega_CL.iov"]["mean"], rel=1e-6)
    plain = Model.parse(
        OCCASIONS.replace("iov: {typical: 0.25, prior: 0.5}, ", "").replace("occasion: {column: OCC}", "")
    )
    blind = fit(
        plain, Records.parse("\n".join(simulated(model, lines, 3)) + "\n", model=plain), seed=11, draws=300, tune=300,
        chains=2, cache=False,
    )  # fmt: skip
    shutil.rmtree(blind.tree_path.parent)
    error = {p["name"]: p["mean"] for p in blind.diagnostics["parameters"]}["CP_proportional"]
    assert error > 0.2  # what the occasions differ by would be taken for noise


def test_occasions_of_a_model_that_needs_a_solver():
    """The same study of 20 subjects with saturable elimination: through the generated solver and its adjoint."""
    model = Model.parse(SATURABLE)
    lines = ["ID,TIME,AMT,DV,EVID,OCC"]
    for i in range(20):
        for k in range(3):
            lines.append(f"{i + 1},{48 * k},{(200, 400)[i % 2]},.,1,{k + 1}")
            lines += [f"{i + 1},{48 * k + t},.,?,0,{k + 1}" for t in (1, 8, 20, 40)]
    truth = {
        "log_VM": np.log(10), "log_V": np.log(30), "log_KM": np.log(2), "omega_VM": 0.3, "omega_V": 0.2,
        "omega_VM.iov": 0.25, "CP_proportional": 0.1,
    }  # fmt: skip
    told = recovered(model, simulated(model, lines, 3), truth)
    assert told["fit"].diagnostics["gradient"]["family"] == "ode"
    assert told["omega_VM.iov"]["lower"] > 0.15


def test_a_covariate_that_changes_and_one_that_is_missing():
    """60 subjects whose creatinine rises from dose to dose; the weight of every fourth is not known."""
    model = Model.parse(COVARIATES)
    rng = np.random.default_rng(5)
    full = ["ID,TIME,AMT,DV,EVID,CR,WT"]
    for i in range(60):
        weight, level = 70 * np.exp(0.25 * rng.normal()), 0.8
        for k in range(3):
            level *= np.exp(0.3 * rng.random())
            cells = f"{level:.3f},{weight:.1f}"
            full.append(f"{i + 1},{24 * k},100,.,1,{cells}")
            full += [f"{i + 1},{24 * k + t},.,?,0,{cells}" for t in (2, 10, 23)]
    lines = simulated(model, full, 4)
    hidden = [
        ",".join([*s.split(",")[:-1], "."]) if k and int(s.split(",")[0]) % 4 == 0 else s for k, s in enumerate(lines)
    ]
    truth = {"log_CL": np.log(3), "log_V": np.log(30), "GC": -0.8, "GW": 0.75, "omega_CL": 0.2, "omega_V": 0.15}
    told = recovered(model, hidden, truth)
    assert told["GC"]["upper"] < -0.5
    weights = Records.parse("\n".join(lines) + "\n", model=model).covariates["WT"][3::4]
    posterior = told["missing"]
    assert posterior.shape[1] == len(weights) == 15
    prior = np.log(np.delete(Records.parse("\n".join(lines) + "\n", model=model).covariates["WT"], slice(3, None, 4)))
    z = (np.log(weights) - np.log(posterior).mean(axis=0)) / np.log(posterior).std(axis=0)
    assert np.abs(z).max() < 3.5
    assert np.log(posterior).std(axis=0).mean() < 0.9 * prior.std()  # the levels say something of the weight
    assert np.corrcoef(np.log(weights), np.log(posterior).mean(axis=0))[0, 1] > 0.4
