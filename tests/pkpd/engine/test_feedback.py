"""Rules against an event-by-event loop: one subject, plain Python, solve called at every decision."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.feedback import Course, advance, begun
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from pkpd.ground.text import parse, validated
from pkpd.model.regimen import Events, Schedule
from pkpd.model.rules import Rule
from pkpd.model.spec import Model

FRIBERG = """
vtrial: model/1
name: marrow
states: {central: mg, P: "1", T1: "1", T2: "1", T3: "1", CIRC: "1"}
parameters:
  CL:  {typical: 10 L/h, status: assumed}
  V:   {typical: 60 L, status: assumed}
  MTT: {typical: 120 h, status: assumed}
  B:   {typical: 5 1, status: assumed}
  G:   {typical: 0.16 1, status: assumed}
  S:   {typical: 0.35 L/mg, status: assumed}
equations: |
  C = central/V
  K = 4/MTT
  ANC = CIRC
  d/dt(central) = -CL*C
  P(0) = B
  d/dt(P) = K*P*((1 - S*C)*pow(B/CIRC, G) - 1)
  T1(0) = B
  d/dt(T1) = K*(P - T1)
  T2(0) = B
  d/dt(T2) = K*(T1 - T2)
  T3(0) = B
  d/dt(T3) = K*(T2 - T3)
  CIRC(0) = B
  d/dt(CIRC) = K*(T3 - CIRC)
outputs: {N: {is: ANC}}
"""
LEVEL = """
vtrial: model/1
name: level
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1 1/h, status: assumed}
  CL: {typical: 3 L/h, status: assumed}
  V:  {typical: 30 L, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
outputs: {CP: {is: C}}
"""
SEED, SD = 5, 0.15
DAY = 24.0


def rules(text):
    node = parse(text)
    return tuple(validated(Rule, item, "<text>") for item in node)


def shared(times, amount, n, duration=0.0):
    k = len(times)
    columns = (np.asarray(times, float), np.full(k, amount), np.zeros(k, np.int32), np.full(k, duration))
    return Events.shared(Schedule(*columns, np.zeros(k), np.zeros(k, np.int8)), n)


def noise(rule, subject, decision):
    return normals(SEED, Purpose.RULE, subject=subject, replicate=0, index=decision, slot=rule)


def course(model, parameters, name, subjects=None):
    """Measured with a proportional error of 15 % by address."""
    who = np.arange(len(parameters)) if subjects is None else subjects

    def look(rows, events, times):
        found = solve(model, parameters[rows], events, times)
        return {name: found.values[:, 0]}

    def observe(rule, rows, decision, values):
        return values * (1 + SD * noise(rule, who[rows], decision))

    return Course(look=look, observe=observe)


def loop(model, p, subject, given, *, doses, horizon):
    """The witness: decisions one after the other; `doses` is a list of [time, planned amount, factor]."""
    doses = [[t, a, 1.0] for t, a in doses]
    factor, last, count, stopped = 1.0, (-1.0, -1), [0] * len(given), np.inf
    while True:
        due = []
        for k, rule in enumerate(given):
            times = [d[0] for d in doses] if rule.at.dose else list(rule.at.until(horizon * 3))
            due += [(t, k) for t in times if (t, k) > last and t < min(horizon, stopped)]
        if not due:
            return [(t, a * f) for t, a, f in doses]
        now, k = min(due)
        rule, last = given[k], (now, k)
        events = shared([d[0] for d in doses], 0.0, 1)
        amount = np.array([d[1] * d[2] for d in doses])
        order = np.argsort(events.time, kind="stable")
        events = Events(events.offsets, events.time[order], amount[order], *(getattr(events, c) for c in
                        ("target", "duration", "interval", "steady")))  # fmt: skip
        level = solve(model, p[None], events, [now]).values[0, 0, 0]
        if rule.true_ is None:
            level = level * (1 + SD * float(noise(k, subject, count[k])))
        count[k] += 1
        hit = (rule.below is not None and level < rule.below) or (rule.above is not None and level > rule.above)
        if not hit:
            continue
        do = rule.do
        if do.scale_dose:
            factor = min(max(factor * do.scale_dose, do.at_least), do.at_most or np.inf)
        following = min([t for t, r in due if r == k and t > now] or [np.inf])
        later = [t for t in rule.at.until(horizon * 3) if t > now]
        following = min([following, *later]) if not rule.at.dose else following
        if rule.at.dose and do.hold:
            following = min([d[0] for d in doses if d[0] > now] or [np.inf])
        for d in doses:
            if d[0] >= now:
                if do.scale_dose:
                    d[2] = factor
                if do.delay:
                    d[0] += do.delay
        if do.hold:
            doses = [d for d in doses if not now <= d[0] < following]
        if do.stop:
            doses = [d for d in doses if d[0] < now]
            stopped = now


CASES = {
    "hold until ANC >= 1, looked at daily": (
        FRIBERG, "N", "- {at: every 1 d, measure: N, below: 1 1, do: {hold: true}}", 7 * DAY * np.arange(4), 500.0,
    ),
    "reduce 25 % after grade 4 neutropenia, at least half": (
        FRIBERG, "N", "- {at: every 3 d, measure: N, below: 0.5 1, do: {scale_dose: 0.75, at_least: 0.5}}",
        7 * DAY * np.arange(5), 700.0,
    ),
    "next cycle three days later while ANC < 2.5": (
        FRIBERG, "N", "- {at: dose, measure: N, below: 2.5 1, do: {delay: 3 d}}", 8 * DAY * np.arange(4), 900.0,
    ),
    "stop for good below 0.4": (
        FRIBERG, "N", "- {at: every 2 d, measure: N, below: 0.4 1, do: {stop: true}}", 5 * DAY * np.arange(6), 700.0,
    ),
    "titrate to 2 - 4 mg/L": (
        LEVEL, "CP", "- {at: every 1 d, measure: CP, below: 2 mg/L, do: {scale_dose: 1.5, at_most: 4}}\\n"
        "- {at: every 1 d, measure: CP, above: 4 mg/L, do: {scale_dose: 0.7, at_least: 0.2}}", 12.0 * np.arange(20), 60.0,
    ),
    "escalate while the true level is low, then hold single doses": (
        LEVEL, "CP", "- {at: [24 h, 48 h, 72 h], true: CP, below: 5 mg/L, do: {scale_dose: 2}}\\n"
        "- {at: dose, measure: CP, above: 6 mg/L, do: {hold: true}}", 12.0 * np.arange(16), 50.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rules_equal_an_event_by_event_loop(case):
    text, name, words, times, amount = CASES[case]
    model, given = compiled(Model.parse(text)), rules(words.replace("\\n", "\n"))
    n, horizon = 12, float(times[-1]) + 2 * DAY
    typical = np.array([p.value for p in Model.parse(text).parameters.values()])
    p = typical * np.exp(0.25 * np.random.default_rng(7).normal(size=(n, len(typical))))
    dosed = begun(given, shared(times, amount, n))
    advance(dosed, course(model, p, name), np.full(n, horizon))
    found = dosed.events()
    acted = 0
    for i in range(n):
        expected = np.array(
            sorted(loop(model, p[i], i, given, doses=[(t, amount) for t in times], horizon=horizon))
        ).reshape(-1, 2)
        rows = slice(found.offsets[i], found.offsets[i + 1])
        np.testing.assert_array_equal(found.time[rows], expected[:, 0])
        np.testing.assert_array_equal(found.amount[rows], expected[:, 1])
        acted += len(expected) != len(times) or not np.array_equal(expected[:, 1], np.full(len(times), amount)) or (
            not np.array_equal(expected[:, 0], times))  # fmt: skip
    assert acted > 0  # the rule did something to somebody


def test_decisions_do_not_depend_on_neighbours_nor_on_how_often_one_stops_to_look():
    """All at once, one subject alone, and in three steps of time: the same records."""
    text, name, words, times, amount = CASES["titrate to 2 - 4 mg/L"]
    model, given = compiled(Model.parse(text)), rules(words.replace("\\n", "\n"))
    n = 30
    p = np.array([1.0, 3.0, 30.0]) * np.exp(0.4 * np.random.default_rng(8).normal(size=(n, 3)))
    whole = begun(given, shared(times, amount, n))
    advance(whole, course(model, p, name), np.full(n, 240.0))
    steps = begun(given, shared(times, amount, n))
    for until in (30.0, 100.0, 240.0):
        advance(steps, course(model, p, name), np.full(n, until))
    np.testing.assert_array_equal(steps.events().amount, whole.events().amount)
    for i in (0, 13, 29):
        alone = begun(given, shared(times, amount, 1))
        advance(alone, course(model, p[[i]], name, subjects=np.array([i])), np.full(1, 240.0))
        rows = slice(whole.events().offsets[i], whole.events().offsets[i + 1])
        np.testing.assert_array_equal(alone.events().amount, whole.events().amount[rows])


def test_a_grade_or_a_level_acts_once_and_the_rest_is_left_alone():
    """Step down at 48 h if the level is above 3 or an event of grade 3 came since; `times: 1` and visits."""
    model = compiled(Model.parse(LEVEL))
    p = np.array([[1.0, 3.0, 30.0], [1.0, 1.0, 30.0], [1.0, 3.0, 30.0]])
    given = rules("- {at: week1, true: CP, above: 3 mg/L, grade: grade 3, do: {scale_dose: 0.5}, times: 1}")
    dosed = begun(given, shared(12.0 * np.arange(8), 60.0, 3))
    plain = course(model, p, "CP")

    def graded(rule, rows, since, now):
        assert np.isinf(since).all() and (now == 48.0).all()  # noqa: PT018
        return rows == 2

    found = advance(dosed, Course(look=plain.look, observe=plain.observe, graded=graded), np.full(3, 96.0),
                    visits={"week1": np.full(3, 48.0)})  # fmt: skip
    assert found.tolist() == [1, 2]
    amounts = dosed.events().amount.reshape(3, 8)
    assert amounts.tolist() == [[60.0] * 8, [60.0] * 4 + [30.0] * 4, [60.0] * 4 + [30.0] * 4]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("- {at: every 7 d, measure: CP, do: {hold: true}}", "below or above"),
        ("- {at: every 7 d, below: 3 mg/L, do: {hold: true}}", "measure or true"),
        ("- {at: every 7 d, measure: CP, below: 3 mg/L, do: {}}", "one thing"),
        ("- {at: every 7 d, measure: CP, below: 3 mg/L, do: {hold: true, stop: true}}", "one thing"),
        ("- {at: every 0 d, measure: CP, below: 3 mg/L, do: {hold: true}}", "> 0"),
        ("- {at: [], measure: CP, below: 3 mg/L, do: {hold: true}}", "no time"),
        ("- {at: [week1, 7 d], measure: CP, below: 3 mg/L, do: {hold: true}}", "mixes"),
        ("- {at: 7 kg, measure: CP, below: 3 mg/L, do: {hold: true}}", "at"),
        ("- {at: 7 d, measure: CP, true: CP, below: 3 mg/L, do: {hold: true}}", "twice"),
        ("- {at: 7 d, grade: grade 3, do: {hold: true, at_least: 0.5}}", "go with scale_dose"),
    ],
)
def test_wrong_rules_are_refused(text, field):
    with pytest.raises(InputError, match=field):
        rules(text)
