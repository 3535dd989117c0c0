"""Switching, rescue and causes of leaving. Witnesses: identities (a chance of 0, a world without), doses by hand, the
data base itself.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.endpoints import analyse
from trials.kinds import KINDS, Lived
from trials.protocol import Protocol
from trials.run import prepare
from trials.setting import Setting, opened
from trials.subject import dosing, follow
from trials.trial import outcome_columns, potential, simulate_trial

STOPPED = "intercurrent: {stopped: {after: grade 3}}"
SWITCH = "over: {switch: {after: ache, from: [placebo, low], to: high, probability: 0.6, delay: 12 h}}"
RESCUE = "more: {rescue: {measure: FEV1, below: 1.3 L, at: day7, regimen: [{amount: 400 mg, into: depot, every: 12 h, for: 5 d}]}}"
ASKED = (
    "strategies: {stopped: treatment_policy}",
    "strategies: {stopped: treatment_policy, over: treatment_policy, more: hypothetical}",
)
SAFETY = (
    "strategies: {stopped: while_on_treatment}",
    "strategies: {stopped: while_on_treatment, over: while_on_treatment, more: treatment_policy}",
)
"""Placebo and low go over to high after an ache; a low FEV1 at day 7 is rescued."""


def changed(*events: str) -> tuple[str, str]:
    return STOPPED, f"intercurrent: {{stopped: {{after: grade 3}}, {', '.join(events)}}}"


@pytest.fixture
def setting(write_study) -> Setting:
    return opened(prepare(write_study(changed(SWITCH, RESCUE), ASKED, SAFETY)).variants["main"].payload)


def plain(setting: Setting, **changes) -> Setting:
    """The same study without changes of treatment, or with others."""
    return dataclasses.replace(setting, added=changes)


def test_a_chance_of_nothing_changes_nothing(setting: Setting) -> None:
    """Identity, bit for bit: nobody switches, or `without`, and the course is that of a study that knows of none."""
    people = simulate_trial(setting, range(6)).people
    other = setting.added["over"]
    assert other.switch is not None
    never = dataclasses.replace(other, switch=dataclasses.replace(other.switch, probability=0.0))
    courses = [
        follow(plain(setting), people), follow(plain(setting, over=never), people),
        follow(setting, people, without=frozenset(["over", "more"])),
    ]  # fmt: skip
    for name, value in courses[0].values.items():
        assert all(np.array_equal(value, other.values[name]) for other in courses[1:])
    assert all(np.array_equal(courses[0].stop, other.stop) for other in courses[1:])


def test_who_switches_and_what_they_get(setting: Setting) -> None:
    """60 % of those of the two arms with a first ache who are on treatment; high's doses from 12 h after it, no others."""
    trial = simulate_trial(setting, range(12))
    course, people = trial.course, trial.people
    when, may = course.changed["over"], np.isin(people.arm, (0, 1)) & np.isfinite(course.onset["ache"])
    assert np.isinf(when[people.arm == 2]).all()
    over = np.flatnonzero(np.isfinite(when))
    assert (when[over] == course.onset["ache"][over] + 12).all()
    free = may & (course.onset["ache"] + 12 < np.minimum(course.stop, 336))
    assert abs(over.size - 0.6 * free.sum()) < 4 * np.sqrt(0.24 * free.sum())
    row = int(over[(people.arm[over] == 0) & (when[over] < 100) & np.isinf(course.stop[over])][0])
    events = dosing(setting, people, (np.array([row]), course.stop[[row]]), course.plans, changed=course.changed)
    assert events.time[0] == when[row]
    assert (np.diff(events.time) == 12).all()
    assert (events.amount[events.time < when[row] + 48] == 200).all()
    assert (events.amount[events.time >= when[row] + 48] == 500).all()
    low = int(over[people.arm[over] == 1][0])
    events = dosing(setting, people, (np.array([low]), course.stop[[low]]), course.plans, changed=course.changed)
    before = events.time < when[low]
    assert (events.time[before] % 12 == 0).all()
    assert (events.time[~before] >= when[low]).all()


def test_rescue_answers_what_the_data_base_holds(setting: Setting) -> None:
    """Those seen below 1.3 L at day 7 and nobody else; doses are added to their own, and a higher FEV1 follows."""
    trial = simulate_trial(setting, range(12))
    seen, shape = trial.observed, trial.shape
    low = seen.outputs["FEV1"][:, :, 1] < 1.3
    given = np.isfinite(trial.course.changed["more"].reshape(shape))
    there = np.isfinite(seen.outputs["FEV1"][:, :, 1])
    assert low.sum() > 20
    assert (given == low)[there].all()
    assert (trial.course.changed["more"].reshape(shape)[given] == seen.times[:, :, 1][given]).all()
    without = follow(setting, trial.people, without=frozenset(["more"]))
    rows = np.flatnonzero(given.reshape(-1) & (trial.course.stop == without.stop) & (trial.people.arm == 0))
    rows = rows[trial.course.changed["over"][rows] == without.changed["over"][rows]]
    assert rows.size > 5
    assert (trial.course.values["FEV1"][rows, 1] == without.values["FEV1"][rows, 1]).all()
    assert (trial.course.values["FEV1"][rows, 2] > without.values["FEV1"][rows, 2]).all()
    missed = ~there & (seen.times[:, :, 1] < seen.leave)
    assert missed.any()
    assert not given[missed].any()


def test_the_truth_of_a_hypothetical_estimand_is_of_the_world_without(setting: Setting) -> None:
    """Rescue is hypothetical for the primary: its truth is that of the study without rescue; safety's is not."""
    trial = simulate_trial(setting, range(6))
    found = potential(setting, trial)
    only = plain(setting, over=setting.added["over"])
    world = potential(only, simulate_trial(only, range(6)))
    primary = np.array(found["analysis"]) == "primary"
    assert np.array_equal(found["mean"][primary], world["mean"][primary])
    estimands = {**setting.protocol.estimands}
    estimands["primary"] = dataclasses.replace(
        estimands["primary"], strategies={**estimands["primary"].strategies, "more": "treatment_policy"}
    )
    other = dataclasses.replace(setting, protocol=dataclasses.replace(setting.protocol, estimands=estimands))
    assert (potential(other, trial)["mean"][primary] > found["mean"][primary]).all()


def test_values_after_a_hypothetical_change_are_not_analysed(setting: Setting) -> None:
    """Complete cases: those rescued are missing at day 14 from the primary analysis."""
    analysis = setting.protocol.analyses["primary"]
    plain_missing = dataclasses.replace(analysis.missing, method="complete_case")
    analyses = {**setting.protocol.analyses, "primary": dataclasses.replace(analysis, missing=plain_missing)}
    protocol = dataclasses.replace(setting.protocol, analyses=analyses)
    seen = simulate_trial(setting, range(6)).observed
    table = analyse(protocol, seen)
    rows = (np.array(table["analysis"]) == "primary") & (np.array(table["contrast"]) == "low")
    rescued = np.isfinite(seen.changes["more"])
    there = np.isfinite(seen.outputs["FEV1"][:, :, 2]) & ~rescued
    expected = [(there & (seen.arm == arm)).sum(axis=1) for arm in (0, 1)]
    assert (table["n_control"][rows] == expected[0]).all()
    assert (table["n_treated"][rows] == expected[1]).all()


def test_strategies_of_events() -> None:
    """By hand: an event at 30 h after a switch at 20 h, under each strategy."""
    times = {"rash": np.array([[30.0]])}
    lived = Lived(
        outputs={}, onset=times, grade={"rash": np.array([[1]], np.int8)}, stop=np.array([[np.inf]]),
        ended=np.array([[np.inf]]), times=np.array([[[0.0, 100.0]]]), changes={"over": np.array([[20.0]])},
    )  # fmt: skip
    from trials.estimand import Endpoint, Estimand

    endpoint = Endpoint(event=("rash",), as_="incidence")
    for strategy, expected in (("treatment_policy", 1.0), ("while_on_treatment", 0.0)):
        estimand = Estimand(
            endpoint=("e",), compare=("a",), against="b", summary="risk_difference", strategies={"over": strategy}
        )
        true = KINDS["incidence"].true
        assert true is not None
        assert true(None, endpoint, estimand, lived).tolist() == [[expected]]


def test_nobody_switches_into_a_steady_state(write_study) -> None:
    """SS = 1 would wipe out what the subject has, and give it what it never took."""
    dose = "{amount: 500 mg, into: depot, every: 12 h, from: 2 d, for: 12 d"
    path = write_study(changed(SWITCH, RESCUE), ASKED, SAFETY, (dose, dose + ", steady: yes"))
    with pytest.raises(InputError, match="begins at a steady state") as caught:
        Protocol.read(path)
    assert caught.value.field == "intercurrent.over.switch.to"


def test_causes_of_leaving(write_study) -> None:
    """Half of those with a first nausea leave at it; three quarters of those seen below 1.3 L at day 7 leave after it."""
    path = write_study(
        ("dropout: {hazard: 0.01 1/d, factor_after_stop: 3}",
         "dropout: {after: {sick: 0.5}, lack_of_effect: {measure: FEV1, below: 1.3 L, at: day7, probability: 0.75}}"),
    )  # fmt: skip
    setting = opened(prepare(path).variants["main"].payload)
    trial = simulate_trial(setting, range(12))
    seen, sick = trial.observed, trial.course.onset["sick"].reshape(trial.shape)
    ill = np.isfinite(sick)
    at_onset = seen.leave[ill] == sick[ill]
    low = (seen.outputs["FEV1"][:, :, 1] < 1.3) & (seen.leave >= seen.times[:, :, 1])
    after = seen.leave[low] == seen.times[:, :, 1][low]
    assert abs(after.mean() - 0.75) < 4 * np.sqrt(0.1875 / after.size)
    early = ill & (sick < seen.times[:, :, 1])
    assert abs((seen.leave == sick)[early].mean() - 0.5) < 4 * np.sqrt(0.25 / early.sum())
    assert at_onset.sum() > 20
    gone = np.isfinite(seen.leave)
    assert ((seen.leave == sick) | (seen.leave == seen.times[:, :, 1]))[gone].all()
    assert np.isnan(seen.outputs["FEV1"][:, :, 2][gone]).all()


def test_a_replicate_does_not_depend_on_its_batch(setting: Setting) -> None:
    whole, part = (outcome_columns(setting, simulate_trial(setting, each)) for each in (range(6), range(1, 6)))
    mine = whole["replicate"] >= 1
    assert np.isfinite(part["over.day"]).any()
    assert np.isfinite(part["more.day"]).any()
    assert all(np.array_equal(whole[n][mine], part[n], equal_nan=whole[n].dtype.kind == "f") for n in whole)


WRONG = [
    ("event", SWITCH.replace("after: ache", "after: sleep"), "intercurrent.over.switch.after", "unknown event"),
    ("arm", SWITCH.replace("to: high", "to: highest"), "intercurrent.over.switch.to", "unknown arm"),
    ("itself", SWITCH.replace("to: high", "to: low"), "intercurrent.over.switch.to", "it comes from"),
    ("both", "over: {after: grade 2, rescue: {measure: FEV1, at: day7, below: 1 L, regimen: []}}", "intercurrent.over", "one of"),
    ("unit", RESCUE.replace("1.3 L", "1.3 mg").replace("more", "over"), "intercurrent.over.rescue", ""),
    ("visit", RESCUE.replace("at: day7", "at: day8").replace("more", "over"), "intercurrent.over.rescue.at", "unknown visit"),
    ("steady", RESCUE.replace("more", "over").replace("into: depot,", "into: depot, steady: yes,"),
     "intercurrent.over.rescue.regimen", "a steady state"),
    ("nowhere", RESCUE.replace("more", "over").replace("at: day7", "at: []"), "intercurrent.over.rescue.at", "no visit"),
    ("nobody", SWITCH.replace("[placebo, low]", "[]"), "intercurrent.over.switch.from", "no arm"),
    ("strategy", SWITCH, "estimands.safety.strategies", "is not for endpoints as incidence"),
    ("name", SWITCH.replace("over:", "sick:"), "intercurrent.sick", "column of the outcome table"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "problem"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_cannot_be_done_is_refused(request, write_study, text: str, field: str, problem: str) -> None:
    name = "sick" if text.startswith("sick") else "over"
    last = "composite" if request.node.callspec.id == "strategy" else "treatment_policy"
    path = write_study(
        changed(text), (ASKED[0], f"strategies: {{stopped: treatment_policy, {name}: treatment_policy}}"),
        (SAFETY[0], f"strategies: {{stopped: while_on_treatment, {name}: {last}}}"),
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        Protocol.read(path)
    assert str(caught.value.field).startswith(field)
    assert problem in caught.value.problem
    assert caught.value.line is not None
