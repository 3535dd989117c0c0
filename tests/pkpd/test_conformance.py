"""The conformance suite passes what is right and names what is wrong.

Witnesses: each mutation is a defect planted on purpose, and the check of its name must see it (identity); the golden
numbers of Rovei's theophylline are those of ../shared/reference/models.md, section 1 (SciPy, rtol 1e-10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pkpd.conformance import case as room
from pkpd.conformance import invariance, observed
from pkpd.conformance.evidence import Conformance, Verdict
from pkpd.conformance.reading import Reading
from pkpd.conformance.suite import CHECKS, examine
from pkpd.engine.dynamics import Dynamics, dynamics_of
from pkpd.ground import units
from pkpd.model.equations import expression
from pkpd.model.library import load, models
from pkpd.model.regimen import Events
from pkpd.model.spec import Model

ROOT = Path(__file__).parents[2]

ORAL = """
vtrial: model/1
name: rovei
states: {depot: mg, central: mg}
parameters:
  TLAG: {typical: 0.09 h, status: assumed}
  KA: {typical: 1.73 1/h, status: assumed}
  CL: {typical: 49 mL/min, in: L/h, iiv: 0.25, status: assumed}
  V: {typical: 35.7 L, status: assumed}
  F1: {typical: 0.8 1, scale: logit, status: assumed}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
doses: {depot: {bioavailability: F1, lag: TLAG}}
outputs:
  CP: {is: C, error: {additive: 0.3 mg/L, proportional: 0.1}}
golden:
  single:
    parameters: {F1: 0.99999999999 1}
    doses: [{amount: 375 mg, into: depot}]
    values:
      - {of: C, as: time_of_maximum, is: 1.93801 h, digits: 6}
      - {of: C, as: maximum, is: 9.02128 mg/L, digits: 6}
      - {of: C, at: 24 h, is: 1.53955 mg/L, digits: 6}
      - {of: C, as: area, is: 127.551 mg*h/L, digits: 6}
      - {of: C, as: maximum, is: 12 mg/L, kind: memory}
"""


@pytest.fixture(scope="module")
def oral() -> Model:
    return Model.parse(ORAL)


def _verdicts(found: Conformance) -> dict[str, Verdict]:
    return {e.name: e.verdict for e in found.evidence}


def _failures(found: Conformance) -> list[str]:
    return [f"{e.name}: {e.value} > {e.tolerance} ({e.reason})" for e in found.of(Verdict.FAIL)]


COMPILED = {"same_kernel", "solvers", "sensitivities", "closed_form"}
"""Checks that compile a solver more: over the whole library they are the bench row conformance.library."""


EVERY_DAY = ("germovsek_gentamicin", "zecchin_ovarian")
"""Models that every run examines: occasions, jumps in time; the others by `-m slow` and the bench."""
LIBRARY = [pytest.param(name, marks=() if name in EVERY_DAY else pytest.mark.slow) for name in models()]


@pytest.mark.parametrize("name", LIBRARY)
def test_every_model_of_the_library(name: str) -> None:
    found = examine(load(name), only={c.name for c in CHECKS} - COMPILED)
    assert _failures(found) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["theophylline", "w2"])
def test_every_check_on_two_models_of_the_library(name: str) -> None:
    found = examine(load(name))
    assert found.ok, _failures(found)


EXAMPLES = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("examples/*/model*.yaml"))


DEMO = "examples/theophylline_copd/model.yaml"


@pytest.mark.parametrize("path", [p if p == DEMO else pytest.param(p, marks=pytest.mark.slow) for p in EXAMPLES])
def test_every_model_of_the_examples(path: str) -> None:
    found = examine(Model.read(ROOT / path))
    assert found.ok, _failures(found)


def test_a_model_with_everything_linear_meets_nearly_every_check(oral: Model) -> None:
    found = examine(oral)
    assert _failures(found) == []
    assert {e.name for e in found.of(Verdict.NOT_APPLICABLE)} <= {"solvers", "sensitivities", "time_scaling"}
    assert all(e.reason for e in found.of(Verdict.NOT_APPLICABLE))
    assert [e.name for e in found.evidence] == [c.name for c in CHECKS]


def test_golden_numbers_of_rovei(oral: Model) -> None:
    found = examine(oral, only=["golden"])["golden"]
    assert found.verdict is Verdict.PASS
    assert found.value is not None
    assert found.value > 0.0
    assert found.reason.startswith("4 numbers, 1 of populations or from memory not compared")


def test_the_area_of_an_output_is_that_above_its_baseline() -> None:
    """Identity: 408 + 12 C has the area 12 F dose/CL above 408, and nothing else of 408 in it (QTc by concentration)."""
    text = ORAL.replace("  d/dt(depot)", "  QTC = 408 + 12*C\n  d/dt(depot)", 1)
    found = examine(Model.parse(text), only=["exposure"])["exposure"]
    assert found.verdict is Verdict.PASS
    assert found.value is not None
    assert found.value < 1e-9


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("1.93801 h", "1.93802 h"), ("9.02128 mg", "9.02127 mg"), ("1.53955", "1.53956"), ("127.551", "127.552")],
)
def test_a_golden_number_wrong_in_its_last_digit(right: str, wrong: str) -> None:
    found = examine(Model.parse(ORAL.replace(right, wrong)), only=["golden"])["golden"]
    assert found.verdict is Verdict.FAIL
    assert f"text {wrong.split()[0]}" in found.reason


# --- defects planted in the engine -------------------------------------------------------------------------------

Solve = Callable[..., Any]
Mutate = Callable[[Events], Events]
REAL = room.solve


def _with_events(mutate: Mutate) -> Solve:
    def solve(compiled: Any, parameters: Any, events: Events, times: Any, **options: Any) -> Any:
        return REAL(compiled, parameters, mutate(events), times, **options)

    return solve


def _column(events: Events, name: str, values: Any) -> Events:
    names = ("offsets", "time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    columns = {n: getattr(events, n) for n in names}
    columns[name] = np.asarray(values, columns[name].dtype)
    return Events(**columns)


def _second_of_a_tie_lost(events: Events) -> Events:
    owner = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    same = np.zeros(len(owner), bool)
    same[1:] = (
        (owner[1:] == owner[:-1]) & (events.time[1:] == events.time[:-1]) & (events.target[1:] == events.target[:-1])
    )
    return _column(events, "amount", np.where(same, 0.0, events.amount))


def _saturated(events: Events) -> Events:
    return _column(events, "amount", np.minimum(events.amount, 1.9 * 100.0))


def _tired(events: Events) -> Events:
    nth = np.arange(len(events.time)) - np.repeat(events.offsets[:-1], np.diff(events.offsets))
    return _column(events, "amount", np.where(nth > 0, 0.9 * events.amount, events.amount))


def _no_reset(events: Events) -> Events:
    return _column(events, "kind", np.where(events.kind == 4, 1, events.kind))


def _late(events: Events) -> Events:
    return _column(events, "time", events.time + 0.01)


def _weak_infusion(events: Events) -> Events:
    return _column(events, "amount", np.where(events.duration > 0, 0.99 * events.amount, events.amount))


def _short_steady(events: Events) -> Events:
    return _column(events, "interval", np.where(events.steady > 0, 1.01 * events.interval, events.interval))


def _fewer(events: Events) -> Events:
    return _column(events, "more", np.maximum(events.more - 1, 0))


EVENTS: dict[str, tuple[Mutate, str]] = {
    "a dose lost at a tie": (_second_of_a_tie_lost, "ties"),
    "additional doses one short": (_fewer, "additional_doses"),
    "additional doses one short at a tie": (_fewer, "ties"),
    "steady state of another interval": (_short_steady, "steady_state"),
    "EVID 4 that does not reset": (_no_reset, "reset"),
    "infusions that lose a hundredth": (_weak_infusion, "short_infusion"),
    "infusions that lose amount": (_weak_infusion, "mass_balance"),
    "doses that saturate": (_saturated, "proportionality"),
    "later doses that count less": (_tired, "superposition"),
    "every dose 36 s late": (_late, "lag"),
    "every dose 36 s late, arriving": (_late, "arrival"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_defect_of_events(name: str, oral: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, check = EVENTS[name]
    assert _verdicts(examine(oral, only=[check])) == {check: Verdict.PASS}
    monkeypatch.setattr(room, "solve", _with_events(mutate))
    assert _verdicts(examine(oral, only=[check])) == {check: Verdict.FAIL}


def test_hours_hidden_in_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.parse(ORAL.replace("49 mL/min, in: L/h", "2.94 L/h"))
    assert _verdicts(examine(model, only=["time_scaling"])) == {"time_scaling": Verdict.PASS}
    monkeypatch.setattr(room, "solve", _with_events(_late))
    assert _verdicts(examine(model, only=["time_scaling"])) == {"time_scaling": Verdict.FAIL}


def _values(change: Callable[[np.ndarray, dict[str, Any]], np.ndarray]) -> Solve:
    def solve(*arguments: Any, **options: Any) -> Any:
        found = REAL(*arguments, **options)
        return replace(found, values=change(found.values.copy(), options))

    return solve


def _first_row(values: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    values[0] = np.nextafter(values[0], np.inf)
    return values


def _when(key: str, wanted: Any, factor: float) -> Callable[[np.ndarray, dict[str, Any]], np.ndarray]:
    return lambda values, options: values * (factor if options.get(key) == wanted else 1.0)


VALUES: dict[str, tuple[Callable[[np.ndarray, dict[str, Any]], np.ndarray], str]] = {
    "the first subject's last bit": (_first_row, "permutation"),
    "the first subject's last bit, in pieces": (_first_row, "pieces"),
    "the last bit on two threads": (_when("threads", 2, 1.0 + 3e-16), "threads"),
    "a closed form off by 1e-5": (_when("path", "closed", 1.0 + 1e-5), "closed_form"),
    "default tolerance off by 1e-4": (_when("rtol", 1e-6, 1.0 + 1e-4), "tolerance"),
    "values below zero": (lambda values, options: values - 1e-3, "non_negative"),
    "values a thousandth too high": (lambda values, options: 1.001 * values, "exposure"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_defect_of_values(name: str, oral: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    change, check = VALUES[name]
    assert _verdicts(examine(oral, only=[check])) == {check: Verdict.PASS}
    for module in (room, invariance):
        monkeypatch.setattr(module, "solve", _values(change))
    assert _verdicts(examine(oral, only=[check])) == {check: Verdict.FAIL}


def _squared(found: Dynamics) -> Dynamics:
    return replace(found, bioavailability={"depot": expression("F1*F1")})


def _unlagged(found: Dynamics) -> Dynamics:
    return replace(found, lag={})


def _misprinted(found: Dynamics) -> Dynamics:
    return replace(found, derivative=found.derivative | {"depot": expression("-1.001*KA*depot")})


DYNAMICS: dict[str, tuple[Callable[[Dynamics], Dynamics], tuple[str, ...]]] = {
    "F squared": (_squared, ("arrival", "exposure", "mass_balance", "second_reading")),
    "lag ignored": (_unlagged, ("lag", "arrival", "second_reading")),
    "an equation misprinted": (_misprinted, ("second_reading", "same_kernel")),
}


@pytest.mark.parametrize("name", DYNAMICS)
def test_a_defect_between_text_and_solver(name: str, oral: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, checks = DYNAMICS[name]
    monkeypatch.setattr(room, "dynamics_of", lambda model: mutate(dynamics_of(model)))
    assert _verdicts(examine(oral, only=checks)) == dict.fromkeys(sorted(checks, key=_place), Verdict.FAIL)


def _place(name: str) -> int:
    return [c.name for c in CHECKS].index(name)


def test_a_wrong_unit_factor(oral: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _verdicts(examine(oral, only=["rewritten"])) == {"rewritten": Verdict.PASS}
    right = units.ATOMS["min"]
    monkeypatch.setitem(units.ATOMS, "min", replace(right, factor=1 / 100))
    units._parsed.cache_clear()
    try:
        found = examine(load("theophylline"), only=["rewritten"])
    finally:
        units._parsed.cache_clear()
    assert _verdicts(found) == {"rewritten": Verdict.FAIL}


def test_residual_error_that_does_not_vanish(oral: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from pkpd import residual

    real = residual.observe
    assert _verdicts(examine(oral, only=["residual"])) == {"residual": Verdict.PASS}
    monkeypatch.setattr(residual, "observe", lambda error, f, z: real(error, f, z) + 1e-6)
    assert _verdicts(examine(oral, only=["residual"])) == {"residual": Verdict.FAIL}


# --- defects in a user's model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "check", "said"),
    [
        ("KA*depot - CL*C", "2*KA*depot - CL*C", "mass_balance", "make drug"),
        ("KA*depot - CL*C", "KA*depot - CL*CREF", "non_negative", "central"),
    ],
)
def test_a_defect_of_the_text(old: str, new: str, check: str, said: str) -> None:
    text = ORAL.replace(old, new).replace("golden:", "domain: {}\ngolden:", 1)
    if "CREF" in new:
        text = text.replace("  V: {", "  CREF: {typical: 1 mg/L, status: assumed}\n  V: {")
    found = examine(Model.parse(text), only=[check])[check]
    assert found.verdict is Verdict.FAIL
    assert said in found.reason


def test_a_model_that_blows_up_is_a_failure_with_its_status() -> None:
    text = ORAL.partition("golden:")[0].replace("-KA*depot", "-KA*depot + KA*log(-1 - depot/DREF)*DREF")
    text = text.replace("  V: {", "  DREF: {typical: 1 mg, status: assumed}\n  V: {")
    found = examine(Model.parse(text))
    assert [e.name for e in found.of(Verdict.FAIL)] == ["solved"]
    assert "cannot be solved" in found["solved"].reason
    assert not found.ok


# --- what is not applicable says why -----------------------------------------------------------------------------


@pytest.mark.slow
def test_saturation_is_not_superposed_and_its_times_are_free_of_literals() -> None:
    text = ORAL.partition("golden:")[0].replace("CL*C\n", "VMAX*C/(KM + C)\n")
    text = text.replace(
        "  CL: {typical: 49 mL/min, in: L/h, iiv: 0.25, status: assumed}",
        "  VMAX: {typical: 20 mg/h, status: assumed}\n  KM: {typical: 2 mg/L, status: assumed}",
    )
    checks = ["exposure", "superposition", "time_scaling", "mass_balance", "steady_state"]
    found = examine(Model.parse(text), only=checks)
    assert found["exposure"].reason == "no output is linear in the drug alone"
    assert found["superposition"].reason == "of depot"
    assert [found[n].verdict for n in checks[2:]] == [Verdict.PASS] * 3


def test_a_number_of_hours_in_the_text_forbids_rescaling() -> None:
    text = ORAL.partition("golden:")[0].replace("CL*C\n", "if(TIME > 12, CL, CL/2)*C\n")
    found = examine(Model.parse(text), only=["time_scaling", "reset", "second_reading"])
    assert found["time_scaling"].verdict is Verdict.NOT_APPLICABLE
    assert found["reset"].reason == "the equations read TIME: a later subject is another one"


def test_the_text_is_read_twice_without_the_engine(oral: Model) -> None:
    reading = Reading(model=oral, constants=room.typical(oral))
    slopes = reading.slopes(np.array([0.0, 5.0]), np.array([[10.0, 2.0], [0.0, 35.7]]))
    assert slopes == pytest.approx(np.array([[-17.3, -3.46], [17.3, 3.46 - 2.94]]), rel=1e-12)
    assert reading.linear == {"depot", "central", "C"}
    assert reading.dose("depot").factor == pytest.approx(0.8, rel=1e-14)


def test_evidence_is_plain_data(oral: Model) -> None:
    (only,) = examine(oral, only=["ties"]).evidence
    assert only.to_dict() == {
        "name": "ties", "claim": "doses at one time all count", "verdict": "pass", "value": only.value,
        "tolerance": 1e-8, "reason": "sums, ADDL, end of an infusion, order of records",
    }  # fmt: skip


def test_a_golden_case_has_its_own_subject(oral: Model) -> None:
    prepared = room.case_of(oral)
    profile = observed.profile_of(prepared, oral.golden["single"])
    assert profile.reading.constants["F1"] == 0.99999999999
    assert prepared.reading.constants["F1"] == pytest.approx(0.8)
