"""Visits, dropout and adverse events against their definitions; Monte Carlo checks use 4 standard errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trials import adverse_events, conduct
from trials.adverse_events import Chance, Interval
from trials.protocol import Dropout, Protocol

REPLICATE = np.arange(200, dtype=np.uint32)
SUBJECT = np.arange(100, dtype=np.uint32)


def near(count: int, n: int, p: float) -> bool:
    """A binomial count within 4 standard errors of its expectation."""
    return abs(count - n * p) <= 4 * np.sqrt(n * p * (1 - p))


def test_crossing_is_where_the_cumulative_hazard_reaches_the_threshold():
    """By hand: hazard 2 until time 1, then 0.5; thresholds 1, 2, 3 are reached at 0.5, 1, 3."""
    found = conduct.crossing(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0), np.ones(3), 0.5)
    assert found.tolist() == [0.5, 1.0, 3.0]
    never = conduct.crossing(np.array([1.0]), np.zeros(1), np.full(1, np.inf), 0.0)
    assert np.isinf(never).all()


def test_dropout_follows_its_hazard(study):
    """S(t) = exp(-h t), and exp(-h (s + f (t - s))) once treatment ended at s."""
    rule = Dropout(hazard=0.01, factor_after_stop=3.0)
    who = {"seed": 5, "replicate": REPLICATE, "subject": SUBJECT}
    never = conduct.dropout_time(rule, np.full((200, 100), np.inf), **who)
    assert near(int((never > 80).sum()), never.size, np.exp(-0.8))
    stopped = conduct.dropout_time(rule, np.full((200, 100), 40.0), **who)
    assert near(int((stopped > 80).sum()), stopped.size, np.exp(-0.4 - 1.2))
    early = never <= 40
    assert (stopped[early] == never[early]).all()
    assert np.isinf(conduct.dropout_time(Dropout(), np.full((200, 100), np.inf), **who)).all()


def test_visits_are_uniform_in_their_windows_and_missed_at_their_rate(study):
    protocol = Protocol.read(study)
    times = conduct.visit_times(protocol, replicate=REPLICATE, subject=SUBJECT)
    assert (times[:, :, 0] == 0).all()
    assert (times[:, :, 2] == 336).all()
    middle = times[:, :, 1]
    assert middle.min() >= 144
    assert middle.max() <= 192
    assert abs(middle.mean() - 168) <= 4 * 48 / np.sqrt(12 * middle.size)
    missed = conduct.missed_visits(protocol, replicate=REPLICATE, subject=SUBJECT)
    assert not missed[:, :, [0, 2]].any()
    assert near(int(missed[:, :, 1].sum()), middle.size, 0.05)


@pytest.mark.parametrize("cuts", [[0.0, 336.0], [0.0, 100.0, 150.0, 336.0]])
def test_risk_does_not_depend_on_how_often_one_looks(cuts: list[float]):
    """At constant exposure the probability over `per` is `risk`, whatever the visits; times are then exponential."""
    n, risk = 40_000, 0.3
    rate = np.full(n, adverse_events.hazard(np.array([risk]), 336.0)[0])
    replicate, subject = np.zeros(n, np.uint32), np.arange(n, dtype=np.uint32)
    first = np.full(n, np.inf)
    for visit, (start, end) in enumerate(pairwise(cuts), start=1):
        chance = adverse_events.chance(3, replicate=replicate, subject=subject, visit=visit, event="sick")
        interval = Interval(np.full(n, start), np.full(n, end))
        first = np.minimum(first, adverse_events.onset(chance, interval, (rate, rate), np.full(n, np.inf)))
    assert near(int(np.isfinite(first).sum()), n, risk)
    assert near(int((first <= 168).sum()), n, 1 - 0.7**0.5)


def test_events_after_the_end_of_treatment_have_the_hazard_that_then_is():
    """By hand: hazard 0.1 until 5 h, then 0.01; a threshold of 0.6 is reached at 5 + 0.1/0.01 = 15 h, 0.4 at 4 h."""
    chance = Chance(np.array([0.6, 0.4, 0.9]), np.zeros(3))
    interval = Interval(np.zeros(3), np.full(3, 20.0))
    found = adverse_events.onset(chance, interval, (np.full(3, 0.1), np.full(3, 0.01)), np.full(3, 5.0))
    assert found[:2] == pytest.approx([15.0, 4.0], rel=1e-12)
    assert np.isinf(found[2])


def test_grades_have_the_probabilities_of_the_model():
    n = 20_000
    chance = adverse_events.chance(
        3, replicate=np.zeros(n, np.uint32), subject=np.arange(n, dtype=np.uint32), visit=1, event="sick"
    )
    grade = adverse_events.graded(chance, [(3, np.full(n, 0.1)), (2, np.full(n, 0.4))])
    for level, p in ((1, 0.6), (2, 0.3), (3, 0.1)):
        assert near(int((grade == level).sum()), n, p)


def test_a_certain_event_is_soon_and_an_impossible_one_never():
    rate = adverse_events.hazard(np.array([0.0, 1.0, -0.1, 1.2, np.nan]), 10.0)
    assert rate[0] == 0
    assert rate[2] == 0
    assert np.isfinite(rate[[1, 3]]).all()
    assert (rate[[1, 3]] > 3).all()
    assert np.isnan(rate[4])
