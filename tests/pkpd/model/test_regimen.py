"""Doses. Witness: hand counts of half-open intervals, and a plain loop for the packing."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.units import Quantity
from pkpd.ground.validation import adapter
from pkpd.model.regimen import Dose, Events, Regimen

STATES = {"depot": "mg", "central": "mg"}


def dose(source: str) -> Dose:
    return text.validated(Dose, text.parse(source, "p.yaml"))


@pytest.mark.parametrize(
    ("source", "count", "last"),
    [
        ("{amount: 200 mg, into: depot, every: 12 h, for: 84 d}", 168, 2004.0),
        ("{amount: 300 mg, into: depot, every: 12 h, from: 3 d, for: 81 d}", 162, 2004.0),
        ("{amount: 1 mg, into: depot, every: 8 h, for: 20 h}", 3, 16.0),
        ("{amount: 1 mg, into: depot, every: 8 h, for: 24 h}", 3, 16.0),
        ("{amount: 1 mg, into: depot, every: 20 min, for: 1 d}", 72, 71 / 3),
        ("{amount: 1 mg, into: depot, every: 0.1 h, for: 0.3 h}", 3, 0.2),
        ("{amount: 1 mg, into: depot, every: 24 h, for: 1 h}", 1, 0.0),
        ("{amount: 1 mg, into: depot}", 1, 0.0),
        ("{amount: 1 mg, into: depot, from: 2 d}", 1, 48.0),
        ("{amount: 1 mg, into: depot, at: 2 d}", 1, 48.0),
        ("{amount: 1 mg, into: depot, at: [2 d, 0 h, 1 d]}", 3, 48.0),
        ("{amount: 1 mg, into: depot, every: 12 h, times: 5}", 5, 48.0),
    ],
)
def test_dose_times(source: str, count: int, last: float) -> None:
    made = dose(source)
    assert len(made.dose_times()) == count
    assert made.dose_times()[-1] == pytest.approx(last, rel=1e-12)
    written = adapter(Dose).dump_python(made, mode="json", by_alias=True)
    assert adapter(Dose).validate_python(written) == made


@pytest.mark.parametrize(
    ("source", "field", "value"),
    [
        ("{amount: -1 mg, into: depot}", "amount", "-1 mg"),
        ("{amount: 0 mg, into: depot}", "amount", "0 mg"),
        ("{amount: 1, into: depot}", "amount", "1"),
        ("{amount: 1 mg, into: depot, every: 12 mg, for: 3 d}", "every", "12 mg"),
        ("{amount: 1 mg, into: depot, every: 0 h, for: 3 d}", "every", "0 h"),
        ("{amount: 1 mg, into: depot, every: 12 h, for: -3 d}", "for", "-3 d"),
        ("{amount: 1 mg, into: depot, from: -3 d}", "from", "-3 d"),
        ("{amount: 1 mg, into: depot, at: [1 h, -3 d]}", "at[1]", "-3 d"),
        ("{amount: 1 mg, into: depot, duration: -1 h}", "duration", "-1 h"),
        ("{amount: 1 mg, into: depot, every: 12 h}", None, None),
        ("{amount: 1 mg, into: depot, for: 12 h}", None, None),
        ("{amount: 1 mg, into: depot, at: 1 h, from: 1 h}", None, None),
        ("{amount: 1 mg, into: depot, every: 12 h, for: 1 d, times: 2}", None, None),
        ("{amount: 1 mg, into: depot, steady: true}", None, None),
        ("{amount: 1 mg, into: depot, every: 1 s, for: 100 year}", None, None),
    ],
)
def test_bad_doses(source: str, field: str | None, value: str | None) -> None:
    with pytest.raises(InputError) as caught:
        dose(source)
    assert (caught.value.field, caught.value.value) == (field, value)


def test_amounts_arrive_in_the_unit_of_the_state() -> None:
    schedule = Regimen((dose("{amount: 0.2 g, into: central}"),)).schedule(STATES)
    assert schedule.amount.tolist() == [200.0]
    assert schedule.target.tolist() == [1]


def test_a_wrong_state_or_dimension_is_an_input_error() -> None:
    with pytest.raises(InputError, match="'depot'"):
        Regimen((dose("{amount: 1 mg, into: depo}"),)).schedule(STATES)
    with pytest.raises(InputError, match="into mg"):
        Regimen((dose("{amount: 1 mmol, into: depot}"),)).schedule(STATES)


def test_items_are_merged_in_order_of_time_and_scaled() -> None:
    regimen = Regimen(
        (dose("{amount: 5 mg, into: depot, every: 24 h, for: 3 d}"), dose("{amount: 1 mg, into: central, at: 36 h}"))
    )
    schedule = regimen.scaled(2).schedule(STATES)
    assert schedule.time.tolist() == [0, 24, 36, 48]
    assert schedule.amount.tolist() == [10, 10, 2, 10]
    assert schedule.target.tolist() == [0, 0, 1, 0]
    assert regimen.last == 48.0


def test_only_the_first_dose_is_steady() -> None:
    schedule = Regimen((dose("{amount: 5 mg, into: depot, every: 12 h, for: 1 d, steady: true}"),)).schedule(STATES)
    assert schedule.steady.tolist() == [True, False]
    assert schedule.interval.tolist() == [12.0, 0.0]


def test_no_treatment_is_no_events() -> None:
    schedule = Regimen().schedule(STATES)
    events = Events.shared(schedule, 3)
    assert (events.offsets.tolist(), events.time.size, events.target.dtype) == ([0, 0, 0, 0], 0, np.int32)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_packer_agrees_with_a_loop(n: int, doses: int, random) -> None:
    schedule = Regimen((Dose(amount=Quantity(5, "mg"), into="depot", every=12, times=doses),)).schedule(STATES)
    taken = np.array([[random.random() < 0.7 for _ in range(doses)] for _ in range(n)], bool).reshape(n, doses)
    stop = np.array([random.choice([0.0, 12.0, 30.0, np.nan, np.inf]) for _ in range(n)])
    events = Events.shared(schedule, n, taken=taken, stop=stop)
    for i in range(n):
        mine = events.time[events.offsets[i] : events.offsets[i + 1]]
        expected = [t for k, t in enumerate(schedule.time) if taken[i, k] and not t >= stop[i]]
        assert mine.tolist() == expected
    assert Events.joined([events.subjects([i]) for i in range(n)]).time.tolist() == events.time.tolist()
    assert len(events) == n


def test_pack_joined_and_subjects_agree() -> None:
    parts = [
        Regimen((Dose(amount=Quantity(5, "mg"), into="depot", every=6, times=k),)).schedule(STATES) for k in (3, 1, 2)
    ]
    events = Events.pack(parts)
    assert events.offsets.tolist() == [0, 3, 4, 6]
    turned = events.subjects([2, 0])
    assert turned.time.tolist() == [0, 6, 0, 6, 12]
    assert Events.joined([events.subjects([0]), events.subjects([1, 2])]).time.tolist() == events.time.tolist()


def test_a_trial_of_60000_is_packed_within_a_second() -> None:
    schedule = Regimen((dose("{amount: 200 mg, into: depot, every: 12 h, for: 84 d}"),)).schedule(STATES)
    taken = np.ones((60_000, 168), bool)
    taken[::2, ::3] = False
    start = time.process_time()
    events = Events.shared(schedule, 60_000, taken=taken, stop=np.full(60_000, 1000.0))
    assert time.process_time() - start < 1.0
    assert events.offsets[-1] == 30_000 * 84 + 30_000 * 56
