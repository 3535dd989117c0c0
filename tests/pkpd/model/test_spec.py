"""The model text. Witness: the shipped texts themselves; each bad text is the sound one with one thing made wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.ground.errors import InputError
from pkpd.model import library
from pkpd.model.equations import show
from pkpd.model.spec import Model, json_schema

EXAMPLE = Path(__file__).parents[3] / "examples" / "theophylline_copd" / "model.yaml"

WARFARIN = """
vtrial: model/1
name: warfarin
cite: {fit: a fit}
covariates:
  WT: {unit: kg, reference: 70, range: [40, 120]}
  SMOKING: {labels: {0: never, 1: former}}
states: {depot: mg, central: mg, R: percent}
parameters:
  KA: {typical: 1.18 1/h, se: 0.21, iiv: 0.66, above: CL/V, cite: fit, status: copied}
  CL: {typical: 3.2304 L/d, se: 0.056, iiv: 0.297, effects: {WT: power 0.75 fixed, SMOKING: {1: FS}},
       cite: fit, status: copied}
  V: {typical: 7.73 L, se: 0.046, iiv: 0.239, effects: {WT: power BWT}, prior: [5, 12], cite: fit, status: copied}
  BWT: {typical: 1 1, scale: identity, se: 0.1, status: assumed}
  FS: {typical: 1.3 1, status: assumed}
  F1: {typical: 0.9 1, scale: logit, status: assumed}
  TLAG: {typical: 30 min, status: assumed}
  IMAX: {typical: 0.992 1, scale: logit, se: 0.79, effects: {WT: linear SWT}, cite: fit, status: copied}
  SWT: {typical: 0 1/kg, scale: identity, status: assumed}
  IC50: {typical: 1.10 mg/L, se: 0.097, iiv: 0.467, prior: {median: 1, sd: 1}, cite: fit, status: copied}
  KOUT: {typical: 0.0530 1/h, cite: fit, status: copied}
  E0: {typical: 96.5 percent, se: 0.012, iiv: 0.055, cite: fit, status: copied}
correlations: [[CL, V, 0.3]]
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
  R(0)    = E0
  d/dt(R) = KOUT*(E0*(1 - IMAX*C/(IC50 + C)) - R)
  P = expit(-3 + 2*(LOW - 1))
  LOW = CMAX/IC50
doses: {depot: {bioavailability: F1, lag: TLAG}}
summaries: {CMAX: {of: C, as: maximum, window: 2 d}}
outputs:
  CP: {is: C, error: {proportional: 0.0984, additive: {typical: 0.525 mg/L, prior: 1 mg/L}}, lloq: 0.1 mg/L}
  PCA: {is: R, error: {additive: 3.82 percent}}
events: {bleed: {term: Haemorrhage, risk: P, per: 84 d, at_least: {3: P}}}
"""


def test_a_text_that_uses_everything() -> None:
    model = Model.parse(WARFARIN)
    assert model.parameters["CL"].value == pytest.approx(0.1346, rel=1e-12)  # per day in the text, per hour inside
    assert (model.parameters["CL"].unit, model.parameters["TLAG"].value) == ("L/h", 0.5)
    assert model.eta_names == ("KA", "CL", "V", "IC50", "E0")
    assert model.error_names == ("CP.additive", "CP.proportional", "PCA.additive")
    assert model.error_values == (0.525, 0.0984, 3.82)
    assert list(model.response) == ["LOW", "P"]
    assert list(model.dynamics) == ["C"]
    assert {k: show(v) for k, v in model.initials.items()} == {"R": "E0"}
    assert list(model.derivatives) == ["depot", "central", "R"]
    assert model.effects["CL"]["SMOKING"].coefficients == ("FS",)
    assert model.summaries["CMAX"].window == 48.0


@pytest.mark.parametrize("source", [WARFARIN, EXAMPLE.read_text(), library.model_path("theophylline").read_text()])
def test_a_model_survives_its_dict(source: str) -> None:
    model = Model.parse(source)
    again = Model.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert again.digest == model.digest


def test_the_digest_follows_meaning_not_layout() -> None:
    model = Model.parse(WARFARIN)
    assert Model.parse(WARFARIN.replace("C = central/V", "C   =  (central)/V  # comment")).digest == model.digest
    assert Model.parse(WARFARIN.replace("7.73 L,", "7.74 L,")).digest != model.digest
    assert Model.parse(WARFARIN.replace("KA*depot - CL*C", "KA*depot - C*CL")).digest != model.digest


@pytest.mark.parametrize("name", library.models())
def test_every_library_model_is_sound(name: str) -> None:
    assert library.load(name).name == name


CASES = [
    # old, new, field, said, remedy
    ("se: 0.21", "se: -0.1", "parameters.KA.se", "greater than or equal to 0", ""),
    ("iiv: 0.66", "iiv: -0.1", "parameters.KA.iiv", "greater than or equal to 0", ""),
    ("iiv: 0.66", "iiv: 66", "parameters.KA.iiv", "a standard deviation of the logarithm", "write 0.66 for 66 %"),
    ("proportional: 0.0984", "proportional: 9.84", "outputs.CP.error.proportional", "as a fraction", "0.0984 for 9.84 %"),
    ("iiv: 0.66", "iiv: 0.66 1/h", "parameters.KA.iiv", "must be a number", ""),
    ("iiv: 0.66", "iiv: 0.66, iov: 0.1", "parameters.KA.iov", "needs an occasion", "column"),
    ("iiv: 0.66", "iiv: {eta: BWT}", "parameters.KA.iiv.eta", "no such parameter with an iiv", ""),
    ("iiv: 0.66", "iiv: {eta: CL, tims: 2}", "parameters.KA.iiv.tims", "unknown key", "'times'"),
    ("1.18 1/h", "1.18", "parameters.KA.typical", "needs a unit", ""),
    ("1.18 1/h", "0.01 1/h", "parameters.KA.typical", "must be greater than CL/V", ""),
    ("1.18 1/h", "-1 1/h", "parameters.KA.typical", "> 0", "above 0"),
    ("above: CL/V", "above: CL/VV", "parameters.KA.above", "no such parameter", "'V'"),
    ("above: CL/V", "above: CL", "parameters.KA.above", "is in L/h", ""),
    ("above: CL/V", "above: CL/(V", "parameters.KA.above", "expected )", ""),
    ("KA: {", "KA: {effects: {WT: power 1 fixed}, ", "parameters.KA.effects", "not available", ""),
    ("0.992 1, scale: logit", "1.2 1, scale: logit", "parameters.IMAX.typical", "between 0 and 1", ""),
    ("0.992 1, scale: logit", "0.992 1, scale: boxcox(0.5)", "parameters.IMAX.scale", "an eta", "iiv"),
    ("0.992 1, scale: logit", "0.992 1, scale: t(0)", "parameters.IMAX.scale", "degrees of freedom", ""),
    ("0.992 1, scale: logit", "0.992 1, scale: lgit", "parameters.IMAX.scale", "must be", "'logit'"),
    ("WT: linear SWT", "WT: power 1 fixed", "parameters.IMAX.effects.WT", "needs the log scale", "linear"),
    ("WT: power 0.75 fixed", "AGE: power 0.75 fixed", "parameters.CL.effects.AGE", "no such covariate", ""),
    ("WT: power 0.75 fixed", "WT: power 0.75", "parameters.CL.effects.WT", "fixed", ""),
    ("WT: power 0.75 fixed", "WT: root 0.75", "parameters.CL.effects.WT", "not an effect", "power"),
    ("WT: power BWT", "WT: power BW", "parameters.V.effects.WT", "no such parameter", "'BWT'"),
    ("WT: power BWT", "WT: power CL", "parameters.V.effects.WT", "no iiv", ""),
    ("{1: FS}", "{2: FS}", "parameters.CL.effects.SMOKING.2", "no such category", "[0, 1]"),
    ("{1: FS}", "{1: -2}", "parameters.CL.effects.SMOKING.1", "> 0", ""),
    ("SMOKING: {1: FS}", "SMOKING: power FS", "parameters.CL.effects.SMOKING", "labels", ""),
    ("{unit: kg, reference: 70, range", "{unit: kg, range", "covariates.WT", "needs a reference", ""),
    ("FS: {typical: 1.3 1", "FS: {typical: 1.3 L", "parameters.CL.effects.SMOKING", "no unit", ""),
    ("prior: [5, 12]", "prior: [12, 5]", "parameters.V.prior", "low end", ""),
    ("prior: [5, 12]", "prior: [-5, 12]", "parameters.V.prior", "log scale", ""),
    ("{median: 1, sd: 1}", "{median: 1, sd: 0}", "parameters.IC50.prior.sd", "greater than 0", ""),
    ("0.0530 1/h, cite: fit, status: copied", "0.0530 1/h, cite: fit", "parameters.KOUT.status", "missing", "status"),
    ("0.0530 1/h, cite: fit, status: copied", "0.0530 1/h, status: copied", "parameters.KOUT", "cites nothing", ""),
    ("0.0530 1/h, cite: fit", "0.0530 1/h, cite: fitt", "parameters.KOUT.cite", "no such key", "'fit'"),
    ("0.0530 1/h", "0.0530 1/d", None, None, None),
    ("0.0530 1/h", "0.0530 L/h", "equations", "d/dt(R)", ""),
    ("  KOUT: {", "  KOT: {typical: 1 1, status: assumed}\n  KOUT: {", "parameters.KOT", "used by nothing", ""),
    ("states: {depot", "states: {CL: mg, depot", "parameters.CL", "already a state", ""),
    ("states: {depot", "states: {exp: mg, depot", "states.exp", "word of the equations", ""),
    ("R: percent}", "R: percentt}", "states.R", "unknown unit", ""),
    ("R: percent}", "R: percent, X: mg}", "states.X", "has no equation", "d/dt(X)"),
    ("R: percent}", "R: mg}", "equations", "R(0) is in mg", ""),
    ("  LOW = CMAX/IC50\n", "  LOW = CMAX/IC5\n", "equations", "unknown name", "'IC50'"),
    ("  LOW = CMAX/IC50\n", "  LOW = P\n", "equations", "circle", ""),
    ("  LOW = CMAX/IC50\n", "  LOW = CMAX\n", "equations", "the unit mg/L", ""),
    ("  LOW = CMAX/IC50\n", "  LOW = CMAX/IC50\n  depot = 2\n", "equations", "defined twice", "line 2"),
    ("  LOW = CMAX/IC50\n", "  LOW = CMAX/IC50\n  WT = 2\n", "equations", "already a covariate", ""),
    ("KA*depot - CL*C\n", "KA*depot - CL*central\n", "equations", "do not go together", ""),
    ("KA*depot - CL*C\n", "KA*depot - CL*C + CMAX\n", "equations", "cannot use CMAX", ""),
    ("KA*depot - CL*C\n", "KA*depot*WT - CL*C\n", "equations", "g^2/h and mg/h do not go", ""),
    ("d/dt(depot)   =", "d/dt(dept)   =", "equations", "no such state", "'depot'"),
    ("R(0)    = E0", "R(0)    = central", "equations", "cannot use central", ""),
    ("7.73 L,", "7730 mL,", "equations", "do not go together", ""),
    ("7.73 L,", "7.73 kg,", "equations", "do not go together", ""),
    ("depot: {bioavailability: F1", "dept: {bioavailability: F1", "doses.dept", "no such state", "'depot'"),
    ("bioavailability: F1", "bioavailability: F2", "doses.depot.bioavailability", "no such parameter", "F1"),
    ("bioavailability: F1, lag: TLAG", "bioavailability: TLAG, lag: F1", "doses.depot", "must be in 1", ""),
    ("lag: TLAG", "lag: 3 mg", "doses.depot.lag", "cannot be turned", ""),
    ("lag: TLAG", "lag: -1 h", "doses.depot.lag", ">= 0", ""),
    ("{of: C, as: maximum", "{of: CC, as: maximum", "summaries.CMAX.of", "no such equation", "'C'"),
    ("{of: C, as: maximum", "{of: C, as: mean", "summaries.CMAX.as", "must be", ""),
    ("window: 2 d", "window: 0 d", "summaries.CMAX.window", "greater than 0", ""),
    ("0.525 mg/L", "525 ug/L", "outputs.CP.error.additive", "is in mg/L", ""),
    ("lloq: 0.1 mg/L", "lloq: 0.1 mg", "outputs.CP.lloq", "is in mg/L", ""),
    ("proportional: 0.0984", "proportional: -0.1", "outputs.CP.error.proportional", "greater than", ""),
    ("{is: R,", "{is: RR,", "outputs.PCA.is", "no such equation", "'R'"),
    ("risk: P,", "risk: PP,", "events.bleed.risk", "no such equation", "'P'"),
    ("risk: P,", "risk: C,", "events.bleed", "no unit", ""),
    ("at_least: {3: P}", "at_least: {7: P}", "events.bleed.at_least", "less than or equal to 5", ""),
    ("[[CL, V, 0.3]]", "[[CL, V, 1]]", "correlations[0][2]", "less than 1", ""),
    ("[[CL, V, 0.3]]", "[[CL, BWT, 0.3]]", "correlations[0]", "with iiv", ""),
    ("[[CL, V, 0.3]]", "[[CL, V, 0.3], [V, CL, 0.2]]", "correlations[1]", "twice", ""),
    ("[[CL, V, 0.3]]", "[[CL, V, 0.9], [V, KA, 0.9], [CL, KA, -0.9]]", "correlations", "positive definite", ""),
    ("vtrial: model/1", "vtrial: model/9", "vtrial", "'model/1'", ""),
    ("name: warfarin", "nmae: warfarin", "nmae", "unknown key", "'name'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field", "said", "remedy"), CASES, ids=[c[1].strip()[:40] for c in CASES])
def test_one_wrong_thing(old: str, new: str, field: str | None, said: str | None, remedy: str) -> None:
    assert WARFARIN.count(old) == 1, "the case must change exactly one place"
    source = WARFARIN.replace(old, new)
    if said is None:
        assert Model.parse(source)  # 1/d is turned into 1/h, no error
        return
    with pytest.raises(InputError) as caught:
        Model.parse(source, "m.yaml")
    error = caught.value
    assert said in error.problem
    assert (error.field or "").startswith(field or "")
    assert remedy in (error.remedy or "")
    assert error.file == "m.yaml"
    assert error.line is not None


def test_the_json_schema_describes_every_key_and_survives_json() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"vtrial", "name", "parameters", "equations", "outputs"}
    parameter = schema["$defs"]["Parameter"]
    assert parameter["properties"]["status"]["enum"] == ["verified", "copied", "assumed"]
    assert parameter["required"] == ["typical", "status"]
    assert set(schema["$defs"]["Output"]["properties"]) >= {"is", "error", "lloq"}


@settings(max_examples=120, deadline=2000)
@given(st.integers(0, len(WARFARIN) - 1), st.integers(0, 12), st.text(alphabet="a0{}[]:,\n -*/.#'&!|1", max_size=6))
def test_a_damaged_text_does_no_more_than_an_input_error(start: int, length: int, put: str) -> None:
    try:
        Model.parse(WARFARIN[:start] + put + WARFARIN[start + length :])
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
