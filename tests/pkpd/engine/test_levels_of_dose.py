"""Holds, delays and dose levels by a laboratory grade: schedules worked out by hand from grades told at each decision."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine.feedback import Course, advance, begun
from pkpd.ground.errors import InputError
from pkpd.ground.text import parse, validated
from pkpd.model.regimen import Events, Schedule
from pkpd.model.rules import Rule

WEEK = 168.0


def rule(text: str) -> Rule:
    return validated(Rule, parse(text), "<rule>")


def given(rules: list[str], doses: list[float], grades: dict[float, int]) -> tuple[list, list, object]:
    """Times (weeks) and amounts a subject gets of 100 mg doses (weeks) when the sample at week w has grade grades[w],
    0 where none is told."""
    texts = [rule(text) for text in rules]
    n = len(doses)
    schedule = Schedule(np.array(doses) * WEEK, np.full(n, 100.0), np.zeros(n, np.int32), np.zeros(n), np.zeros(n),
                        np.zeros(n, np.int8))  # fmt: skip
    dosed = begun(texts, Events.shared(schedule, 1))

    def tested(number, samples, places, window):
        since, now = (float(w[0]) / WEEK for w in window)
        seen = [g for week, g in sorted(grades.items()) if since < week <= now] or [0]
        asked = seen[-1] if texts[number].seen == "last" else max(seen)
        return np.array([asked >= texts[number].grade]), np.array([seen[-1]])

    course = Course(look=lambda *_: {}, observe=lambda *_: np.zeros(0), sampled=lambda *_: None, tested=tested)
    advance(dosed, course, np.array([100 * WEEK]))
    events = dosed.events()
    return (events.time / WEEK).tolist(), events.amount.tolist(), dosed


HOLD = "{at: every 7 d, laboratory: alt, grade: grade 3, do: {hold: true, resume: grade 1, levels: [0.75, 0.5]%s}}"


def test_a_hold_lasts_until_the_grade_is_back_and_doses_go_on_a_level_lower() -> None:
    """Weekly doses. Grade 3 at week 2: held in weeks 2 and 3 (grade 2 is not back), on at week 4 with 75; grade 4 at
    week 6: held, on at week 7 with 50; grade 3 at week 9: held, and at week 10 no level is left: the end."""
    weeks, amounts, dosed = given([HOLD % ""], list(range(13)), {2: 3, 3: 2, 4: 1, 6: 4, 7: 0, 9: 3, 10: 1})
    assert weeks == [0, 1, 4, 5, 7, 8]
    assert amounts == [100, 100, 75, 75, 50, 50]
    assert dosed.stopped[0] == 10 * WEEK
    assert [kind for *_, kind in dosed.log] == [
        "held", "held", "resumed", "lowered", "held", "resumed", "lowered", "held", "resumed", "stopped",
    ]  # fmt: skip


def test_a_hold_that_goes_on_too_long_is_the_end() -> None:
    """Grade 3 from week 2 on: held at weeks 2, 3 and 4; at week 5 it has lasted the longest 3 weeks."""
    weeks, _, dosed = given([HOLD % ", longest: 21 d"], list(range(9)), {2: 3, 3: 3, 4: 2, 5: 2})
    assert weeks == [0, 1]
    assert dosed.stopped[0] == 5 * WEEK


def test_reductions_and_delays_before_each_dose() -> None:
    """Every 3 weeks. Grade 4 after the first dose, grade 2 still at week 3: a week later and 75; again after the third:
    60; after the fourth the rule has no level left, and stops."""
    rules = [
        "{at: dose, from: 1 d, laboratory: anc, grade: grade 4, do: {levels: [0.75, 0.6]}}",
        "{at: dose, from: 1 d, laboratory: anc, grade: grade 2, seen: last, do: {delay: 7 d, longest: 14 d}}",
    ]
    weeks, amounts, dosed = given(rules, [0, 3, 6, 9, 12], {1: 4, 3: 2, 4: 1, 8: 4, 10: 0, 11: 4, 13: 1})
    assert weeks == [0, 4, 7, 10]
    assert amounts == [100, 75, 75, 60]
    assert dosed.stopped[0] == 13 * WEEK
    # delayed for ever: two delays of a week, then the end
    weeks, _, dosed = given(rules[1:], [0, 3, 6], {3: 2, 4: 2, 5: 2})
    assert weeks == [0]
    assert dosed.stopped[0] == 5 * WEEK


def test_leading_ones_are_times_at_the_same_dose() -> None:
    """`[1, 0.5]`, lowest stay: the first grade 3 changes nothing, the second halves, the third leaves it there."""
    text = "{at: every 7 d, laboratory: alt, grade: grade 3, do: {levels: [1, 0.5], lowest: stay}}"
    _, amounts, dosed = given([text], list(range(6)), {1: 3, 2: 3, 3: 3})
    assert amounts == [100, 100, 50, 50, 50, 50]
    assert np.isinf(dosed.stopped[0])


def test_a_grade_that_never_comes_changes_nothing() -> None:
    weeks, amounts, dosed = given([HOLD % ""], list(range(5)), {2: 2, 3: 2})
    assert weeks == list(range(5))
    assert amounts == [100] * 5
    assert dosed.log == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{at: dose, laboratory: anc, do: {stop: true}}", "needs a grade from 1 to 4"),
        ("{at: dose, laboratory: anc, grade: grade 5, do: {stop: true}}", "needs a grade from 1 to 4"),
        ("{at: dose, laboratory: anc, grade: grade 3, do: {levels: [0.5, 0.75]}}", "levels must descend"),
        ("{at: dose, laboratory: anc, grade: grade 3, do: {levels: [1]}}", "levels must descend"),
        ("{at: dose, laboratory: anc, grade: grade 3, do: {stop: true, levels: [0.5]}}", "levels go alone"),
        ("{at: dose, laboratory: anc, grade: grade 3, do: {hold: true, resume: grade 3}}", "better grade"),
        ("{at: dose, grade: grade 3, do: {hold: true, resume: grade 1}}", "resume is a laboratory grade"),
        ("{at: dose, grade: grade 3, lasting: 7 d, do: {stop: true}}", "lasting goes with laboratory"),
        ("{at: dose, laboratory: anc, grade: grade 3, seen: last, lasting: 7 d, do: {stop: true}}", "lasting needs"),
        ("{at: dose, measure: ANC, below: 1 1, laboratory: anc, grade: grade 3, do: {stop: true}}", "two rules"),
        ("{at: dose, laboratory: anc, grade: grade 3, times: 2, do: {delay: 7 d, longest: 14 d}}", "times does not go"),
        ("{at: dose, laboratory: anc, grade: grade 3, do: {stop: true, longest: 14 d}}", "longest goes with hold"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rule(text)
