"""The protocol: what a sound text means, and that a wrong one is refused at its place with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.validation import adapter
from trials.kinds import KINDS
from trials.methods import METHODS
from trials.protocol import Protocol, defaults, json_schema

DEMO = Path(__file__).parents[2] / "examples" / "theophylline_copd" / "protocol.yaml"


@pytest.mark.parametrize("which", ["demo", "small"])
def test_a_protocol_survives_plain_values(which: str, study: Path):
    """Identity: from_plain(to_plain(p)) = p, and the plain values are JSON."""
    protocol = Protocol.read(DEMO if which == "demo" else study)
    plain = json.loads(json.dumps(protocol.to_dict()))
    assert adapter(Protocol).validate_python(plain) == protocol


def test_values_are_in_inside_units(study: Path):
    """Hazard 0.01 1/d is 0.01/24 1/h; `grade 3` is 3; the horizon of 14 d is 336 h (by hand)."""
    protocol = Protocol.read(study)
    assert protocol.dropout.hazard == pytest.approx(0.01 / 24, rel=1e-15)
    assert protocol.stop_grade == 3
    assert protocol.horizon == 336.0
    assert protocol.visit_names == ("baseline", "day7", "day14")


def test_schema_describes_the_text():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert "from" in schema["$defs"]["Dose"]["properties"]
    assert schema["$defs"]["Endpoint"]["properties"]["as"]["enum"] == list(KINDS)
    assert schema["$defs"]["Analysis"]["properties"]["method"]["enum"] == list(METHODS)


def test_defaults_are_listed_only_where_the_text_is_silent(protocol_text: str):
    silent = defaults(protocol_text)
    assert silent["question"] == "none"
    assert "replicates" not in silent
    assert defaults()["replicates"] == "200"
    assert "keep.curves" not in silent


WRONG = [
    ("unknown key", "seed: 11", "sead: 11", "sead", "seed"),
    ("missing key", "seed: 11\n", "", "seed", "add"),
    ("negative seed", "seed: 11", "seed: -1", "seed", ""),
    ("no replicates", "replicates: 12", "replicates: 0", "replicates", ""),
    ("one arm", "  low: {regimen: [{amount: 200 mg, into: depot, every: 12 h, for: 14 d}]}\n", "", "estimands", "placebo"),
    ("ratio 0", "placebo: {regimen", "placebo: {ratio: 0, regimen", "arms.placebo.ratio", ""),
    ("arm named twice", "  low: {regimen", "  placebo: {regimen", "placebo", "keep one"),
    ("negative dose", "amount: 500 mg", "amount: -500 mg", "arms.high.regimen[1].amount", ""),
    ("dose in hours", "amount: 500 mg", "amount: 500 h", "arms.high.regimen[1].amount", "mg"),
    ("time in mg", "from: 2 d", "from: 2 mg", "arms.high.regimen[1].from", "h"),
    ("no such state", "[{amount: 200 mg, into: depot", "[{amount: 200 mg, into: gut", "arms.low.regimen[0].into", "depot"),
    ("late doses", "for: 12 d", "for: 13 d", "arms.high.regimen[1]", "day 14"),
    ("block size", "size: 6", "size: 4", "allocation.size", "3, 6"),
    ("no strata", "strata: [SEX]", "strata: [SEXX]", "analyses.primary.adjust", "SEXX"),
    ("strata of a number", "strata: [SEX]}", "strata: [AGE]}", "analyses.primary.adjust", "AGE"),
    ("visits on one day", "{day: 7, window: 1,", "{day: 14, window: 1,", "visits.day14.day", "own day"),
    ("windows meet", "window: 1,", "window: 8,", "visits", "smaller"),
    ("no baseline", "baseline: {day: 0}", "baseline: {day: 1}", "visits.baseline", "day: 0"),
    ("probability", "miss_after_taken: 0.05", "miss_after_taken: 1.5", "adherence.miss_after_taken", ""),
    ("certain miss", "miss_after_missed: 0.4", "miss_after_missed: 1", "adherence.miss_after_missed", "0.05"),
    ("grade", "grade 3", "grade 9", "intercurrent.stopped.after", "grade 3"),
    ("hazard unit", "0.01 1/d", "0.01 d", "dropout.hazard", "1/h"),
    ("output", "output: FEV1", "output: FVC", "endpoints.fev1.output", "FEV1"),
    ("event", "event: sick", "event: sikc", "endpoints.sick.event", "sick"),
    ("visit", "at: day14", "at: day15", "endpoints.fev1.at", "day14"),
    ("as", "as: change_from_baseline", "as: incidence", "endpoints.fev1.as", "value"),
    ("unknown arm", "compare: [low, high]\n    against: placebo\n    summary: mean", "compare: [low, hihg]\n    against: placebo\n    summary: mean", "estimands.primary.compare", "high"),
    ("against itself", "against: placebo\n    summary: mean", "against: low\n    summary: mean", "estimands.primary.compare", ""),
    ("summary", "summary: mean_difference", "summary: risk_difference", "estimands.primary.summary", "mean_difference"),
    ("strategy", "{stopped: treatment_policy}", "{stoped: treatment_policy}", "estimands.primary.strategies.stoped", "stopped"),
    ("no strategy", "    strategies: {stopped: treatment_policy}\n", "", "estimands.primary", "stopped"),
    ("strategy for a mean", "{stopped: treatment_policy}", "{stopped: while_on_treatment}", "estimands.primary.strategies", "treatment_policy"),
    ("adjustment", "adjust: [baseline, SEX]", "adjust: [baseline]", "analyses.primary.adjust", "SEX"),
    ("method", "method: ancova", "method: miettinen_nurminen", "analyses.primary.method", "ancova"),
    ("ignored option", "level: 0.9", "alpha: 0.9", "analyses.safety.alpha", "leave"),
    ("no such method", "method: ancova", "method: ancva", "analyses.primary.method", "ancova"),
    ("no such kind", "as: change_from_baseline", "as: change_from_base", "endpoints.fev1.as", "change_from_baseline"),
    ("no such summary", "summary: mean_difference", "summary: mean", "estimands.primary.summary", "mean_difference"),
    ("ignored field", "event: sick, as: incidence", "event: sick, as: incidence, at: day14", "endpoints.sick.at", "leave"),
    ("mmrm imputes nothing", "method: ancova", "method: mmrm", "analyses.primary.missing", "leave"),
    ("ancova has its own df", "method: ancova", "method: ancova\n    df: satterthwaite", "analyses.primary.df", "leave"),
    ("level", "level: 0.9", "level: 1.9", "analyses.safety.level", ""),
    ("imputations", "imputations: 3", "imputations: 1", "analyses.primary.missing.imputations", ""),
    ("decision name", "high.any.upper", "high.any.uper", "decide.go", "upper"),
    ("decision of several", "high.any.upper", "high.safety.upper", "decide.go", "endpoint"),
    ("decision syntax", "upper < 0.8", "upper <", "decide.go", ""),
    ("eligibility", "40 <= AGE <= 70", "40 <= AGGE <= 70", "population.eligible.age", "AGE"),
    ("not a condition", "40 <= AGE <= 70", "AGE + 1", "population.eligible.age", "40 <= AGE"),
    ("shares", "2: 0.4}", "2: 0.5}", "population.set.SMOKING", ""),
    ("category", "2: 0.4}", "3: 0.4}", "population.set.SMOKING", "current"),
    ("covariate", "set: {SMOKING", "set: {SMOKER", "population.set.SMOKER", "SMOKING"),
    ("law", "law: nhanes_adults", "law: nhanes", "population.law", "nhanes_adults"),
    ("model file", "file: model.yaml", "file: modle.yaml", "model.file", ""),
    ("no such fit", "parameters: published", "parameters: {fit: nothing, data: theophylline.csv, take: [CL]}", "model.parameters.fit", "theophylline"),
    ("no such data", "parameters: published", "parameters: {fit: theophylline, data: no.csv, take: [CL]}", "model.parameters.data", ""),
    ("take unknown", "parameters: published", "parameters: {fit: theophylline, data: theophylline.csv, take: [CLL]}", "model.parameters.take", "CL"),
    ("parameters", "parameters: published", "parameters: publishd", "model.parameters", "published"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "field", "remedy"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_a_wrong_protocol_is_refused_at_its_place(write_study, old: str, new: str, field: str, remedy: str):
    """One InputError with file, field and line of the fault; where there is one obvious cure, the remedy names it."""
    path = write_study((old, new))
    with pytest.raises(InputError) as caught:
        Protocol.read(path)
    error = caught.value
    assert error.field is not None
    assert field in error.field
    assert str(path) in str(error)
    assert error.line is not None
    assert remedy in (error.remedy or "")


def test_strata_must_be_categories_the_law_knows(write_study):
    path = write_study(("strata: [SEX]}", "strata: [SEXX]}"), ("adjust: [baseline, SEX]", "adjust: [baseline, SEXX]"))
    with pytest.raises(
        InputError, match=r"allocation.strata: unknown covariate, got 'SEXX'. Remedy: did you mean 'SEX'"
    ):
        Protocol.read(path)
    path = write_study(("strata: [SEX]}", "strata: [AGE]}"), ("adjust: [baseline, SEX]", "adjust: [baseline, AGE]"))
    with pytest.raises(InputError, match=r"allocation.strata: has no categories"):
        Protocol.read(path)


def test_inherited_model_checks_hold_for_sensitivity_runs(write_study, tmp_path: Path, model_text: str):
    """A sensitivity model must offer every output and event the protocol uses."""
    path = write_study(
        ("truth: {replicates: 3}\n", "truth: {replicates: 3}\nsensitivity: {b: {model: {file: b.yaml}}}\n")
    )
    with pytest.raises(InputError, match="no such file"):
        Protocol.read(path)
    (tmp_path / "b.yaml").write_text(model_text.replace("  FEV1: {is: FEV1", "  FVC: {is: FEV1"), encoding="utf-8")
    with pytest.raises(InputError, match="unknown output of the model"):
        Protocol.read(path)
