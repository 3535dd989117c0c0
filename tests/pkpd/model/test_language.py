"""The whole language. Witness: `../shared/reference/models.md` (what must be expressible), the definitions written out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.model.equations import evaluate, show
from pkpd.model.spec import Model
from pkpd.model.support import features, refuse
from pkpd.model.variability import covariance, individual, occasional, point, random_effects

EVERYTHING = """
vtrial: model/1
name: everything
cite: {paper: somewhere}
covariates:
  WT: {unit: kg, reference: 70, between: locf}
  AGE: {unit: year, reference: 50}
  CRCL: {unit: mL/min, between: linear}
  SEX: {labels: {0: female, 1: male}, reference: 0, between: nocb}
states: {depot: mg, central: mg/L, T: 1}
parameters:
  KA: {typical: 1.2 1/h, iiv: 0.4, iov: 0.2, status: assumed}
  CL: {typical: 4.5 L/h, iiv: 0.3, effects: {WT: power 0.75 fixed, AGE: linear BAGE}, status: assumed}
  BAGE: {typical: -0.01 1/year, in: 1/year, scale: identity, status: assumed}
  VC: {typical: 50 L, iiv: {eta: CL, times: 0.5}, status: assumed}
  F1: {typical: 0.8 1, scale: logit, iiv: 0.5, iov: 0.3, status: assumed}
  LRATE: {typical: 0.01 1/h, scale: boxcox(0.442), iiv: 0.87, status: assumed}
  EMAX: {typical: 3 1, scale: t(4), iiv: 0.4, status: assumed}
  EC50: {typical: 500 ug/L, in: mg/L, iiv: 0.2, status: assumed}
  GAM: {typical: 1.5 1, status: assumed}
  PRESP: {typical: 0.335 1, scale: logit, status: assumed}
  NTR: {typical: 3 1, status: assumed}
  MTT: {typical: 30 min, status: assumed}
  ALPHA: {typical: 0.1 1, status: assumed}
  KREL: {typical: 0.02 1/h, status: assumed}
omega: [{block: [KA, CL]}, {block: [F1, EC50], lkj: 4}]
correlations: [[KA, CL, 0.4], [F1, EC50, -0.3]]
occasion: {every: 7 d}
mixture: {responder: PRESP, other: rest}
equations: |
  OLD = if(AGE > 60, 0.9, 1)
  REN = CRCL/(CRCL + 100)
  CLI = CL*(1 + REN)*if(SEX == 1, 1.1, 1)
  T(0) = 1
  EFF = responder*EMAX*central^GAM/(EC50^GAM + central^GAM)
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot/VC - CLI/VC*central
  d/dt(T) = KREL*(1 - T)*(1 + 0.1*sin(TAD*KREL))
  HZ = LRATE*exp(-EFF)
  RATE = LRATE*exp(-EFF)
  P1 = expit(EFF - 1 + 0.5*LAST)
  P2 = P1*expit(EFF - 2)
doses:
  depot: {bioavailability: F1*OLD, transit: {number: NTR, time: MTT}}
  central: {scale: 1/VC, unit: mg, duration: MTT}
outputs:
  CP: {is: central, error: {additive: 0.1 mg/L, proportional: 0.2, power: {typical: 0.1, exponent: 0.5}, combine: sd, t: 5}}
  TT: {is: T, error: {log: 0.3}}
  N: {is: RATE, kind: count, law: negative_binomial, dispersion: ALPHA, per: 28 d}
  PAIN: {kind: ordered, at_least: {1: P1, 2: P2}, labels: [none, mild, severe], previous: {name: LAST, first: 1}}
residual_correlations: [[CP, TT, 0.3]]
events:
  bleed: {hazard: HZ, kind: recurrent, term: Haemorrhage}
  death: {hazard: HZ, kind: terminal}
domain: {population: adults, dose: up to 200 mg}
golden:
  case:
    covariates: {WT: 70}
    parameters: {VC: 40 L}
    doses: [{amount: 100 mg, into: depot}]
    values:
      - {of: central, at: 24 h, is: 1.5 mg/L}
      - {of: central, as: area, is: 22 mg*h/L, digits: 3}
      - {of: central, as: time_of_maximum, is: 1.9 h}
      - {of: central, as: time_above, limit: 1 mg/L, until: 24 h, is: 5 h, kind: memory}
      - {of: CL, is: 4.5 L/h}
reproduces: {auc: {what: steady-state AUC, value: about 22 mg*h/L, cite: paper}}
"""  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.parse(EVERYTHING)


def changed(old: str, new: str) -> str:
    assert EVERYTHING.count(old) == 1, "the case must change exactly one place"
    return EVERYTHING.replace(old, new)


def test_it_survives_its_dict(model: Model) -> None:
    again = Model.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert again.digest == model.digest


TEXT_WITH_LIMIT = """
vtrial: model/1
name: limited
states: {central: mg}
parameters:
  CL: {typical: 1 L/h, status: assumed}
  V: {typical: 10 L, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {additive: 0.1 mg/L}, lloq: 0.5 mg/L}
"""


def test_golden_numbers_are_not_the_model(model: Model) -> None:
    assert Model.parse(changed("is: 1.5 mg/L", "is: 1.6 mg/L")).digest == model.digest
    assert Model.parse(changed("boxcox(0.442)", "boxcox(0.443)")).digest != model.digest


def test_layers(model: Model) -> None:
    """Equations with a former outcome follow the dynamics; so does what only an output reads."""
    assert list(model.response) == ["RATE", "P1", "P2"]
    assert {"EFF", "HZ", "CLI", "REN", "OLD"} == set(model.integrated)
    assert model.dose_units == {"depot": "mg", "central": "mg", "T": "1"}
    assert model.varying == ("WT", "CRCL", "SEX")
    assert show(model.doses["central"].scale) == "1/VC"  # type: ignore[arg-type]


def test_units_in_which_equations_see_a_parameter(model: Model) -> None:
    assert model.parameters["EC50"].value == pytest.approx(0.5, rel=1e-15)
    assert model.parameters["BAGE"].value == -0.01  # per year, not per hour: AGE is in years
    assert model.parameters["MTT"].value == 0.5


def test_every_consumer_refuses_what_it_does_not_run(model: Model) -> None:
    found = {name for name, _ in features(model)}
    assert found >= {
        "last_dose", "covariate", "function", "varying", "occasion", "shape", "shared", "blocks", "mixture",
        "dose_option", "hazard", "outcomes", "residual", "correlated",
    }  # fmt: skip
    refuse(model, "engine")
    refuse(model, "trial")
    with pytest.raises(InputError, match="yet"):
        refuse(model, "fit")


def test_a_limit_of_quantification_is_taken_everywhere() -> None:
    """A fit knows it; a trial asks its protocol what stands for a value below (tests/trials/test_trial.py)."""
    plain = Model.parse(TEXT_WITH_LIMIT)
    assert features(plain) == (("lloq", "outputs.CP.lloq"),)
    for use in ("engine", "trial", "fit"):
        refuse(plain, use)


def test_random_effects_by_the_definition(model: Model) -> None:
    names, omega = model.eta_names, covariance(model)
    assert names == ("KA", "CL", "F1", "LRATE", "EMAX", "EC50", "KA.iov", "F1.iov")
    np.testing.assert_allclose(np.sqrt(np.diag(omega)), [0.4, 0.3, 0.5, 0.87, 0.4, 0.2, 0.2, 0.3])
    draws = point(model)
    z = random_effects(model, 7, subject=np.arange(40), replicate=np.arange(2), occasions=3)
    assert z.shape == (2, 40, 3, 8)
    assert np.array_equal(z[:, :, 0, :6], z[:, :, 2, :6])
    assert not np.isclose(z[:, :, 0, 6:], z[:, :, 1, 6:]).any()
    root = np.repeat(np.linalg.cholesky(draws.omega), 2, axis=0)
    people = {"WT": 80.0, "AGE": 60.0, "CRCL": 90.0, "SEX": 1.0, "responder": 1.0, "other": 0.0}
    covariates = {name: np.full((2, 40), value) for name, value in people.items()}
    found = occasional(model, np.repeat(draws.typical, 2, axis=0), root, covariates, z=z)
    value = dict(zip(model.parameters, np.moveaxis(found, 3, 0), strict=True))
    eta = dict(zip(names, np.moveaxis(np.einsum("rij,rnoj->rnoi", root, z), 3, 0), strict=True))
    from scipy import stats

    student = 0.4 * stats.t.ppf(stats.norm.cdf(eta["EMAX"] / 0.4), 4)
    expected = {
        "KA": 1.2 * np.exp(eta["KA"] + eta["KA.iov"]),
        "CL": 4.5 * np.exp(eta["CL"] - 0.01 * 10) * (80 / 70) ** 0.75,
        "VC": 50 * np.exp(0.5 * eta["CL"]),
        "F1": 1 / (1 + np.exp(-(np.log(4) + eta["F1"] + eta["F1.iov"]))),
        "LRATE": 0.01 * np.exp((np.exp(eta["LRATE"]) ** 0.442 - 1) / 0.442),
        "EMAX": 3 * np.exp(student),
    }
    for name, wanted in expected.items():
        np.testing.assert_allclose(value[name], wanted, rtol=2e-10, err_msg=name)
    one = individual(model, np.repeat(draws.typical, 2, axis=0), root, covariates, z=z[:, :, 1])
    assert np.array_equal(found[:, :, 1], one)


CASES = [
    # old, new, field, said
    ("in: 1/year, scale", "scale", "parameters.CL.effects.AGE", "must be in"),  # per hour, AGE in years: 8766-fold
    ("in: 1/year,", "in: 1/kg,", "parameters.BAGE.in", "cannot be turned"),
    ("500 ug/L, in: mg/L", "500 ug/L", "equations", "do not go together"),
    ("boxcox(0.442)", "boxcox(0)", "parameters.LRATE.scale", "boxcox(0) is log"),
    ("iiv: {eta: CL, times: 0.5}", "iiv: {eta: VC}", "parameters.VC.iiv.eta", "iiv of its own"),
    ("occasion: {every: 7 d}", "occasion: {every: 7 d, column: OCC}", "occasion", "one of them"),
    ("occasion: {every: 7 d}", "occasion: {column: WT}", "occasion.column", "covariate already"),
    ("{responder: PRESP, other: rest}", "{responder: PRESP}", "mixture", "two classes"),
    ("{responder: PRESP, other: rest}", "{responder: 0.3, other: 0.6}", "mixture", "add up to 1"),
    ("{responder: PRESP, other: rest}", "{responder: PRESP, other: 0.7}", "mixture.other", "must be rest"),
    ("{responder: PRESP, other: rest}", "{responder: GAM, other: rest}", "mixture.responder", "logit"),
    ("[{block: [KA, CL]}", "[{block: [KA, F1]}", "omega[1].block", "another block"),
    ("between: nocb", "between: linear", "covariates.SEX.between", "nothing in between"),
    ("between: nocb", "between: spline", "covariates.SEX.between", "must be"),
    ("EC50^GAM + central^GAM", "EC50^GAM + central", "equations", "do not go together"),
    ("EC50^GAM + central^GAM", "EC50 + central^GAM", "equations", "do not go together"),
    ("sin(TAD*KREL)", "sin(TAD)", "equations", "sin of something"),
    ("T(0) = 1", "T(0) = TAD*KREL", "equations", "cannot use TAD"),
    ("d/dt(T) = KREL*", "d/dt(T) = LAST*KREL*", "equations", "cannot use LAST"),
    ("LRATE*exp(-EFF)\n  RATE", "LRATE*exp(-EFF)*LAST\n  RATE", "events.bleed.hazard", "cannot use LAST"),
    ("HZ = LRATE*exp(-EFF)", "HZ = exp(-EFF)", "events.bleed.hazard", "in 1/h"),
    ("central: {scale: 1/VC, unit: mg,", "central: {scale: 1/VC,", "doses.central", "go together"),
    ("central: {scale: 1/VC, unit: mg,", "central: {scale: VC, unit: mg,", "doses.central.scale", "must be in"),
    ("duration: MTT}", "duration: VC}", "doses.central.duration", "is in L, must be in h"),
    ("duration: MTT}", "duration: MTT, rate: 3}", "doses.central", "both a duration and a rate"),
    ("number: NTR, time", "number: central, time", "doses.depot.transit.number", "no such parameter"),
    ("time: MTT}}", "time: 0 h}}", "doses.depot.transit.time", "> 0"),
    ("law: negative_binomial, dispersion: ALPHA,", "law: poisson, dispersion: ALPHA,", "outputs.N", "negative_binomial"),
    ("law: negative_binomial, dispersion: ALPHA, per: 28 d", "law: negative_binomial, dispersion: ALPHA", "outputs.N", "must be in 1"),
    ("{1: P1, 2: P2}, labels", "{1: P1, 3: P2}, labels", "outputs.PAIN", "1, 2, 3"),
    ("labels: [none, mild, severe]", "labels: [mild, severe]", "outputs.PAIN", "level 0"),
    ("first: 1}", "first: 3}", "outputs.PAIN.previous.first", "no such level"),
    ("0.5*LAST)", "0.5)", "outputs.PAIN.previous", "no equation uses it"),
    ("error: {log: 0.3}", "error: {log: 0.3, additive: 0.1 1}", "outputs.TT.error", "no other term"),
    ("[[CP, TT, 0.3]]", "[[CP, N, 0.3]]", "residual_correlations[0]", "no residual"),
    ("{hazard: HZ, kind: terminal}", "{hazard: HZ, kind: last}", "events.death.kind", "must be"),
    ("{hazard: HZ, kind: terminal}", "{kind: terminal}", "events.death", "a risk or a hazard"),
    ("is: 22 mg*h/L", "is: 22 mg/L", "golden.case.values[1].is", "is in mg*h/L"),
    ("{of: central, at: 24 h,", "{of: central,", "golden.case.values[0]", "needs at"),
    ("limit: 1 mg/L, ", "", "golden.case.values[3]", "needs a limit"),
    ("golden:\n  case:", "drugs: {victim: a}\ngolden:\n  case:", "drugs", "cannot be composed yet"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field", "said"), CASES, ids=[f"{c[2]}-{c[3]}" for c in CASES])
def test_one_wrong_thing(old: str, new: str, field: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Model.parse(changed(old, new), "m.yaml")
    assert said in caught.value.problem
    assert (caught.value.field or "").startswith(field)
    assert caught.value.line is not None


SCALES = """
vtrial: model/1
name: scales
states: {{A: mm}}
parameters:
  AUC: {{typical: 5 mg*min/mL{how}, status: assumed}}
  KD: {{typical: 0.0497 L/mg/h/h, status: assumed}}
equations: |
  d/dt(A) = -KD*AUC*A{written}
outputs: {{S: {{is: A}}}}
"""


def test_the_factor_16_67_is_refused_naming_both_units() -> None:
    """Section 9 of the reference: mg*min/mL read as mg*h/L makes tumours grow under carboplatin."""
    with pytest.raises(InputError) as caught:
        Model.parse(SCALES.format(how="", written=""))
    assert "d/dt(A) is in mm/h, the right-hand side in 10 dm/h (1000 times that)" in caught.value.problem
    with pytest.raises(InputError, match=r"right-hand side in .* \(0.0166667 times that\)"):
        Model.parse(SCALES.format(how=", in: mg*min/L", written=""))


def test_it_is_taken_where_the_text_converts() -> None:
    model = Model.parse(SCALES.format(how=", in: mg*h/L", written=""))
    assert model.parameters["AUC"].value == pytest.approx(83.3333, rel=1e-5)
    more = SCALES.replace("equations", "  MLPERL: {{typical: 1000 mL/L, status: assumed}}\nequations")
    model = Model.parse(more.format(how="", written="*MLPERL"))
    values = {name: p.value for name, p in model.parameters.items()} | {"A": 1.0}
    assert float(evaluate(model.derivatives["A"], values)) == pytest.approx(-0.0497 * 83.33333, rel=1e-6)
