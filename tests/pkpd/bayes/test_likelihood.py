"""The PyMC model is the model text: log density by hand, individual parameters by the simulation's own code."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pymc as pm
    import pytensor

from pkpd.bayes.design import design
from pkpd.bayes.hierarchy import covariances
from pkpd.bayes.likelihood import population_model
from pkpd.bayes.plan import plan
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import individual

HEAD = "vtrial: model/1\nname: m\n"
ORAL = (
    HEAD
    + """
covariates: {WT: {unit: kg, reference: 70}, HT: {unit: cm, reference: 40}, SEX: {labels: {0: female, 1: male}, reference: 0}}
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1.5 1/h, iiv: {typical: 0.6, prior: 1}, above: CL/V, prior: {median: 1.5, sd: 1}, status: assumed}
  CL: {typical: 3 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: [1, 9], effects: {WT: power 0.75 fixed, SEX: {1: FM}, HT: linear BA}, status: assumed}
  V:  {typical: 30 L, se: 0.2, effects: {WT: power GV}, status: assumed}
  FM: {typical: 1.2 1, se: 0.1, status: assumed}
  BA: {typical: -0.01 1/cm, scale: identity, se: 0.005, status: assumed}
  GV: {typical: 1 1, scale: identity, se: 0.1, status: assumed}
omega: {block: [KA, CL], lkj: 2}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
doses: {depot: {bioavailability: 0.9, lag: 0.25 h}}
outputs:
  CP: {is: C, error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}}
"""
)
DATA = """ID,TIME,AMT,DV,EVID,CMT,WT,HT,SEX
1,0,320,.,1,1,80,30,0
1,1,.,7.1,0,2,80,30,0
1,6,.,6.0,0,2,80,30,0
2,0,250,.,1,1,55,52,1
2,0.2,.,0.1,0,2,55,52,1
2,2,.,6.2,0,2,55,52,1
2,12,100,.,1,1,55,52,1
2,14,.,5.0,0,2,55,52,1
2,30,.,1.1,0,2,55,52,1
"""
IV = (
    HEAD
    + """
states: {central: mg}
parameters:
  CL: {typical: 3 L/h, iiv: {typical: 0.3, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}
  V:  {typical: 30 L, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  d/dt(central) = -CL/V*central
  C = central/V
outputs: {CP: {is: C, error: {proportional: {typical: 0.1, prior: 0.5}}}}
"""
)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def built(text: str, data: str):
    model = Model.parse(text)
    records = Records.parse(data, model=model)
    how, what = plan(model, "CP"), design(model, records)
    return model, records, how, population_model(how, what)


def superposed(theta: np.ndarray, records: Records, share: float, lag: float) -> np.ndarray:
    """Batemans summed over doses, the independent path; theta (N, 3): ka, cl, v."""
    out = np.zeros(len(records.dv))
    for r, (i, t) in enumerate(zip(records.subject, records.time)):
        ka, cl, v = theta[i, :3]
        ke = cl / v
        for k in range(records.doses.offsets[i], records.doses.offsets[i + 1]):
            s = t - records.doses.time[k] - lag
            if s > 0:
                amount = share * records.doses.amount[k]
                out[r] += amount * ka / (v * (ka - ke)) * (np.exp(-ke * s) - np.exp(-ka * s))
    return out


def test_log_density_by_hand():
    """Priors by scipy, the likelihood by summed Bateman functions, covariates by the simulation's `individual`."""
    model, records, _, built_model = built(ORAL, DATA)
    rng = np.random.default_rng(1)
    x = {"log_KA_above": 0.2, "log_CL": 1.2, "log_V": 3.3, "log_FM": 0.1, "BA": -0.012, "GV": 0.9,
         "omega_KA": 0.5, "omega_CL": 0.2, "partial_KA_CL": 0.7, "CP_additive": 0.4, "CP_proportional": 0.15,
         "z_KA": rng.normal(size=2), "z_CL": rng.normal(size=2)}  # fmt: skip
    expected = (
        stats.norm.logpdf(x["log_KA_above"], np.log(1.5), 1.0)
        + stats.norm.logpdf(x["log_CL"], np.log(3.0), np.log(9.0) / 2 / 1.959963984540054)
        + stats.norm.logpdf(x["log_V"], np.log(30.0), 0.2)
        + stats.norm.logpdf(x["log_FM"], np.log(1.2), 0.1)
        + stats.norm.logpdf(x["BA"], -0.01, 0.005)
        + stats.norm.logpdf(x["GV"], 1.0, 0.1)
        + stats.halfnorm.logpdf(x["omega_KA"], scale=1.0)
        + stats.halfnorm.logpdf(x["omega_CL"], scale=0.5)
        + stats.beta.logpdf(x["partial_KA_CL"], 2.0, 2.0)
        + stats.halfnorm.logpdf(x["CP_additive"], scale=1.0)
        + stats.halfnorm.logpdf(x["CP_proportional"], scale=0.5)
        + stats.norm.logpdf(x["z_KA"]).sum()
        + stats.norm.logpdf(x["z_CL"]).sum()
    )
    cl, v = np.exp(x["log_CL"]), np.exp(x["log_V"])
    typical = np.array([[cl / v + np.exp(x["log_KA_above"]), cl, v, np.exp(x["log_FM"]), x["BA"], x["GV"]]])
    root, _ = covariances(np.array([[0.5, 0.2]]), {(1, 0): np.array([2 * 0.7 - 1])})
    z = np.stack([x["z_KA"], x["z_CL"]], axis=1)[None]
    covariates = {name: value[None] for name, value in records.covariates.items()}
    f = superposed(individual(model, typical, root, covariates, z=z)[0], records, 0.9, 0.25)
    expected += stats.norm.logpdf(records.dv, f, np.sqrt(0.4**2 + (0.15 * f) ** 2)).sum()
    point = {v.name: x[v.name] for v in built_model.free_RVs}
    values = [built_model.rvs_to_values[rv] for rv in built_model.free_RVs]
    with built_model:
        total = pytensor.function(values, built_model.logp(jacobian=False), on_unused_input="ignore")
    got = float(total(*[_transformed(built_model, rv, point[rv.name]) for rv in built_model.free_RVs]))
    assert got == pytest.approx(expected, rel=1e-11)


def _transformed(model: pm.Model, rv, value):
    transform = model.rvs_to_transforms[rv]
    return value if transform is None else transform.forward(np.asarray(value, np.float64), *rv.owner.inputs).eval()


def test_model_is_plain_with_named_dims():
    _, records, _, model = built(ORAL, DATA)
    assert dict(model.coords)["subject"] == records.ids
    assert model.named_vars_to_dims["z_CL"] == ("subject",)
    assert {"log_KA", "corr_KA_CL"} <= {d.name for d in model.deterministics}
    assert [v.name for v in model.observed_RVs] == ["CP"]


def test_bolus_rows_before_and_after_the_dose():
    """A row at the time of an intravenous bolus sees it if it follows it: C = dose/V; before it, nothing."""
    data = "ID,TIME,AMT,DV,EVID\n1,0,.,1,0\n1,0,300,.,1\n1,0,.,9,0\n1,5,.,6,0\n"
    with pytest.raises(InputError, match="subject 1 is measured at 0 h, before any drug"):
        built(IV, data)
    _, _, _, model = built(
        IV.replace("{proportional", "{additive: {typical: 1 mg/L, prior: 1 mg/L}, proportional"), data
    )
    mean = model["CP"].owner.inputs[-2]
    inputs = {
        model["log_CL"]: np.log(3.0),
        model["log_V"]: np.log(30.0),
        model["omega_CL"]: 0.3,
        model["z_CL"]: np.zeros(1),
    }
    got = mean.eval({k: np.asarray(v) for k, v in inputs.items()})
    np.testing.assert_allclose(got, [0.0, 10.0, 10.0 * np.exp(-0.5)], rtol=1e-12)


SATURABLE = (
    HEAD
    + """
states: {central: mg}
parameters:
  VM: {typical: 30 mg/h, prior: {median: 30, sd: 1}, status: assumed}
  KM: {typical: 10 mg/L, prior: {median: 10, sd: 1}, status: assumed}
  V:  {typical: 30 L, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -VM*C/(KM + C)
outputs: {CP: {is: C, error: {proportional: {typical: 0.1, prior: 0.5}}}}
"""
)


def test_a_structure_without_closed_form_says_so():
    model = Model.parse(SATURABLE)
    with pytest.raises(InputError, match="has no closed form to fit"):
        design(model, Records.parse("ID,TIME,AMT,DV,EVID\n1,0,300,.,1\n1,5,.,6,0\n", model=model), path="closed")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("iiv: {typical: 0.3, prior: 0.5}", "iiv: 0.3", "parameters.CL.iiv: a fitted random effect needs a prior"),
        ("additive: {typical: 0.3 mg/L, prior: 1 mg/L}", "additive: 0.3 mg/L", "a fitted residual error needs a prior"),
        (ORAL[ORAL.index(", error:") : ORAL.rindex("}}}") + 2], "", "a fitted output needs a residual error"),
    ],
)
def test_what_has_no_prior_says_so(old, new, problem):
    assert old in ORAL
    model = Model.parse(ORAL.replace(old, new))
    with pytest.raises(InputError, match=problem):
        plan(model, "CP")


def test_missing_and_changing_covariates_are_named():
    model = Model.parse(ORAL)
    lacking = "\n".join(",".join(line.split(",")[:7]) for line in DATA.splitlines())
    with pytest.raises(InputError, match="the data lack a covariate"):
        design(model, Records.parse(lacking, model=model))
    changing = DATA.replace("2,30,.,1.1,0,2,55,52,1", "2,30,.,1.1,0,2,57,52,1")
    with pytest.raises(InputError, match="WT: changes within a subject"):
        design(model, Records.parse(changing, model=model))
