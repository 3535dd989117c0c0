"""Dosing rules in a trial against levels and decisions worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.protocol import Protocol
from trials.run import prepare
from trials.setting import opened
from trials.subject import dosing
from trials.trial import outcome_columns, potential, simulate_trial

HIGH = "  high:\n    regimen:\n"
RULE = "  high:\n    rules: [{at: day7, measure: CP, above: 14 mg/L, grade: grade 2, do: {scale_dose: 0.5}}]\n    regimen:\n"
NO_STOP = ("intercurrent: {stopped: {after: grade 3}}", "intercurrent: {stopped: {after: grade 5}}")


def of(path):
    return opened(prepare(path).variants["main"].payload)


def _level(ka, ke, v, times, *, amounts, at):
    """One compartment by superposition."""
    s = at - times
    one = amounts * ka / (ka - ke) * (np.exp(-ke * s) - np.exp(-ka * s))
    return one[s > 0].sum() / v


def test_a_level_or_an_event_at_a_visit_steps_the_dose_down(write_study):
    """Every decision again: true level by superposition, error by its address, adverse events up to the visit."""
    plain = of(write_study(NO_STOP))
    setting = of(write_study(NO_STOP, (HIGH, RULE)))
    before, trial = simulate_trial(plain, range(6)), simulate_trial(setting, range(6))
    people, course = trial.people, trial.course
    names = list(setting.model.parameters)
    columns = outcome_columns(setting, trial)
    rows = np.flatnonzero(people.arm == 2)
    # who is stepped down: as seen from the trial without rules, which is the same up to the decision
    hits = 0
    for i in rows:
        ka, cl, v = (people.parameters[i, names.index(n)] for n in ("KA", "CL", "V"))
        given = dosing(plain, people, (np.array([i]), np.array([np.inf])))
        now = people.times[i, 1]
        true = _level(ka, cl / v, v, given.time, amounts=given.amount, at=now)
        z = normals(11, Purpose.RULE, subject=people.subject[i], replicate=people.replicate[i], index=0, slot=0)
        measured = true + np.sqrt(0.3**2 + (0.1 * true) ** 2) * float(z)
        bad = any(before.course.grade[n][i] >= 2 and before.course.onset[n][i] <= now for n in before.course.onset)
        acts = bool(measured > 14.0 or bad)
        hits += acts
        after = dosing(setting, people, (np.array([i]), np.array([np.inf])), course.plans)
        np.testing.assert_array_equal(after.time, given.time)
        np.testing.assert_array_equal(
            after.amount, np.where(given.time >= now, given.amount * (0.5 if acts else 1), given.amount)
        )
        assert (columns["adjusted.day"][i] == now / 24) if acts else np.isnan(columns["adjusted.day"][i])
        last = _level(ka, cl / v, v, after.time, amounts=after.amount, at=people.times[i, 2])
        assert course.values["C"][i, 2] == pytest.approx(last, rel=1e-9)
        assert course.values["C"][i, 1] == before.course.values["C"][i, 1]
    assert 5 < hits < rows.size - 5
    # the other arms are not touched, bit by bit
    others = people.arm != 2
    for name, value in before.course.values.items():
        np.testing.assert_array_equal(course.values[name][others], value[others])


def test_a_rule_does_not_depend_on_the_batch_and_works_with_stopping(write_study):
    setting = of(write_study((HIGH, RULE)))
    whole, part = simulate_trial(setting, range(4)), simulate_trial(setting, [2])
    a, b = outcome_columns(setting, whole), outcome_columns(setting, part)
    mine = a["replicate"] == 2
    for name in a:
        np.testing.assert_array_equal(a[name][mine], b[name])
    stopped = np.isfinite(whole.course.stop) & (whole.people.arm == 2)
    acted = np.isfinite(a["adjusted.day"])
    assert stopped.any()
    assert (a["adjusted.day"][acted] * 24 < whole.course.stop[acted]).all()  # nothing is adjusted after the end
    assert np.isfinite(potential(setting, whole)["mean"]).all()


def test_a_rule_that_stops_treatment_is_an_end_of_treatment(write_study):
    rule = RULE.replace("{scale_dose: 0.5}", "{stop: true}")
    setting = of(write_study(NO_STOP, (HIGH, rule)))
    trial = simulate_trial(setting, range(3))
    acted = np.isfinite(outcome_columns(setting, trial)["adjusted.day"])
    assert acted.any()
    np.testing.assert_array_equal(trial.course.stop[acted], trial.people.times[acted, 1])
    assert np.isinf(trial.course.stop[~acted]).all()


def test_a_protocol_with_rules_reads_back(write_study):
    protocol = Protocol.read(write_study((HIGH, RULE)))
    rule = protocol.arms["high"].rules[0]
    assert rule.at.visits == ("day7",)
    assert float(rule.above) == 14.0
    assert rule.grade == 2
    shown = protocol.to_dict()["arms"]["high"]["rules"][0]
    assert shown["at"] == ["day7"]
    assert dataclasses.replace(protocol).to_dict() == protocol.to_dict()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("day7, measure", "day8, measure", r"rules.*at: unknown visit, got 'day8'"),
        ("measure: CP", "measure: CQ", r"rules.*measure: unknown output of the model, got 'CQ'"),
        ("measure: CP", "true: CQ", r"rules.*true: unknown output, summary, state or equation"),
        ("14 mg/L", "14 mg", r"rules"),
        ("at: day7", "at: every 7 d", r"adverse events are known at visits"),
        ("{scale_dose: 0.5}", "{}", r"must say one thing to do"),
    ],
)
def test_wrong_rules_are_refused_at_their_place(write_study, old, new, message):
    path = write_study((HIGH, RULE.replace(old, new)))
    with pytest.raises(InputError, match=message) as caught:
        Protocol.read(path)
    assert caught.value.line is not None
