"""`solve` as a contract: same bits however the work is cut, ties, windows, failures as values, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.solve import CHUNK, SolveStatus, solve
from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

SATURABLE = """
vtrial: model/1
name: saturable
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 0.5 1/h, status: assumed}
  VM: {typical: 30 mg/h, status: assumed}
  KM: {typical: 5 mg/L, status: assumed}
  V:  {typical: 30 L, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - VM*C/(KM + C)
  SUM = AV + HI
summaries:
  AV: {of: C, as: average, window: 24 h}
  HI: {of: C, as: maximum, window: 24 h}
outputs: {CP: {is: C}, S: {is: SUM}}
"""
LINEAR = SATURABLE.replace("VM*C/(KM + C)", "VM/KM*C").replace("saturable", "linear")
GROWTH = """
vtrial: model/1
name: growth
states: {X: "1"}
parameters: {K: {typical: 1 1/h, status: assumed}, X0: {typical: 1 1, status: assumed}}
equations: |
  X(0) = X0
  d/dt(X) = K*X^2
outputs: {X: {is: X}}
"""


def events_of(lists, target=0):
    """One list of (time, amount) per subject."""
    parts = []
    for rows in lists:
        time, amount = np.asarray(rows, float).reshape(-1, 2).T
        zero = np.zeros(len(time))
        parts.append(Schedule(time, amount, np.full(len(time), target, np.int32), zero, zero, zero.astype(bool)))
    return Events.pack(parts)


def batch(n, seed=1):
    """Subjects with 0 to 8 doses at odd times, and samples in any number."""
    rng = np.random.default_rng(seed)
    parameters = np.array([0.5, 30, 5, 30]) * np.exp(0.4 * rng.normal(size=(n, 4)))
    lists = [np.column_stack([np.sort(rng.uniform(0, 60, k)), rng.uniform(50, 200, k)]) for k in rng.integers(0, 9, n)]
    times = np.sort(rng.uniform(0, 90, (n, 7)), axis=1)
    times[::5, 5:] = np.nan
    return parameters, events_of(lists), times


@pytest.fixture(scope="module", params=["closed", "ode"])
def model(request):
    return compiled(Model.parse(LINEAR if request.param == "closed" else SATURABLE))


def same(a, b, rows=slice(None)):
    """Equal bits, NaN included."""
    pairs = [(a.values[rows], b.values), (a.status[rows], b.status)]
    pairs += [(a.summaries[k][rows], b.summaries[k]) for k in a.summaries]
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def test_permutation_neighbours_and_single_subjects_keep_the_bits(model):
    parameters, events, times = batch(61)
    whole = solve(model, parameters, events, times)
    assert not whole.status.any()
    order = np.random.default_rng(2).permutation(61)
    assert same(whole, solve(model, parameters[order], events.subjects(order), times[order]), order)
    for i in (0, 5, 17, 60):
        assert same(whole, solve(model, parameters[[i]], events.subjects([i]), times[[i]]), [i])


def test_chunks_and_threads_keep_the_bits(model):
    n = 2 * CHUNK + 300
    parameters, events, times = batch(97)
    take = np.arange(n) % 97
    many = (parameters[take], events.subjects(take), times[take])
    serial = solve(model, *many)
    assert same(serial, solve(model, *many, threads=2))
    assert same(serial, solve(model, parameters, events, times), np.arange(97))


def test_unsorted_times_come_back_in_their_order(model):
    parameters, events, times = batch(20)
    mixed = times[:, ::-1].copy()
    a, b = solve(model, parameters, events, times), solve(model, parameters, events, mixed)
    np.testing.assert_array_equal(b.values, a.values[:, :, ::-1])
    np.testing.assert_array_equal(b.summaries["AV"], a.summaries["AV"][:, ::-1])


def test_more_samples_do_not_change_a_sample_of_the_ode():
    # the step sequence knows the doses, not the samples
    model = compiled(Model.parse(SATURABLE))
    parameters, events, _ = batch(10)
    few = solve(model, parameters, events, [11.0, 40.0])
    many = solve(model, parameters, events, np.sort(np.concatenate([np.linspace(0, 80, 50), [11.0, 40.0]])))
    where = np.searchsorted(np.sort(np.concatenate([np.linspace(0, 80, 50), [11.0, 40.0]])), [11.0, 40.0])
    np.testing.assert_array_equal(few.values, many.values[:, :, where])


def test_a_sample_at_a_dose_is_before_it_unless_after(model):
    events = events_of([[(0.0, 100.0), (12.0, 100.0)]], target=1)
    parameters = np.array([[0.5, 30.0, 5.0, 30.0]])
    before = solve(model, parameters, events, [0.0, 12.0]).values[0, 0]
    later = solve(model, parameters, events, [0.0, 12.0], after=True).values[0, 0]
    assert before[0] == 0.0
    assert later[0] == pytest.approx(100.0 / 30.0, rel=1e-14)
    assert later[1] - before[1] == pytest.approx(100.0 / 30.0, rel=1e-9)


def test_summaries_end_at_their_time_and_start_no_earlier_than_the_subject(model):
    events = events_of([[(0.0, 100.0), (20.0, 50.0)]])
    parameters = np.array([[0.5, 30.0, 5.0, 30.0]])
    options = {"rtol": 1e-10, "atol": 1e-12}
    found = solve(model, parameters, events, [0.0, 6.0, 40.0], **options)
    fine = np.linspace(0, 40, 8001)
    curve = solve(model, parameters, events, fine, windows={}, **options).values[0, 0]
    # witness: Simpson on the sampled curve, pieces cut at the dose
    for k, (lo, hi) in enumerate([(0.0, 0.0), (0.0, 6.0), (16.0, 40.0)]):
        inside = (fine >= lo - 1e-9) & (fine <= hi + 1e-9)
        assert found.summaries["HI"][0, k] == pytest.approx(curve[inside].max(), rel=1e-6)
        if hi > lo:
            assert found.summaries["AV"][0, k] == pytest.approx(_simpson(curve[inside], hi - lo), rel=1e-6)
    assert found.summaries["AV"][0, 0] == 0.0


def _simpson(values, width):
    n = len(values) - 1
    weights = np.ones(n + 1)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    return float((weights * values).sum() * (width / n) / 3.0) / width


def test_windows_on_request_match_the_models_own(model):
    parameters, events, times = batch(30)
    times = np.where(np.isnan(times), 90.0, times)
    own = solve(model, parameters, events, times)
    asked = solve(model, parameters, events, times, windows={"AV": (times - 24.0, times)})
    np.testing.assert_array_equal(own.summaries["AV"], asked.summaries["AV"])
    assert set(asked.summaries) == {"AV"}


def test_a_failed_subject_is_a_status_and_hurts_nobody():
    # x' = k x^2 blows up at t = 1/(k x0); the others must not notice
    model = compiled(Model.parse(GROWTH))
    parameters = np.array([[0.01, 1.0], [1.0, 1.0], [0.01, 2.0], [np.nan, 1.0]])
    events = events_of([[], [], [], []])
    found = solve(model, parameters, events, [0.5, 3.0])
    good = solve(model, parameters[[0, 2]], events.subjects([0, 2]), [0.5, 3.0])
    np.testing.assert_array_equal(found.values[[0, 2]], good.values)
    np.testing.assert_allclose(good.values[:, 0, 1], [1 / (1 - 0.03), 2 / (1 - 0.06)], rtol=1e-6)
    assert found.status[0] == found.status[2] == 0
    assert found.status[1] in (SolveStatus.STEP_LIMIT, SolveStatus.STEP_TOO_SMALL, SolveStatus.NOT_FINITE)
    assert found.status[3] == SolveStatus.NOT_FINITE
    assert np.isnan(found.values[[1, 3]]).all()
    assert sum(found.failures().values()) == 2
    assert all(status.advice for status in SolveStatus)


def test_step_limit_is_a_status():
    model = compiled(Model.parse(SATURABLE))
    parameters, events, times = batch(5)
    found = solve(model, parameters, events, times, max_steps=3)
    assert set(found.status) <= {0, SolveStatus.STEP_LIMIT}
    assert (found.status == SolveStatus.STEP_LIMIT).any()


def test_steady_state_that_does_not_exist_is_a_status():
    # saturable elimination of at most 30 mg/h against 100 mg/h in
    model = compiled(Model.parse(SATURABLE))
    one = np.array([0.0])
    dose = Schedule(one, one + 1200.0, np.zeros(1, np.int32), one, one + 12.0, np.array([True]))
    found = solve(model, np.array([[0.5, 30.0, 5.0, 30.0]]), Events.shared(dose, 1), [1.0], max_steps=20_000)
    assert found.status[0] in (SolveStatus.NOT_STEADY, SolveStatus.STEP_LIMIT)
    assert np.isnan(found.values).all()


def test_no_subjects_no_times_no_doses(model):
    empty = solve(model, np.empty((0, 4)), events_of([]), [1.0, 2.0])
    assert empty.values.shape == (0, 1, 2)
    none = solve(model, np.array([[0.5, 30.0, 5.0, 30.0]]), events_of([[(0.0, 10.0)]]), np.empty((1, 0)))
    assert none.values.shape == (1, 1, 0)
    still = solve(model, np.array([[0.5, 30.0, 5.0, 30.0]]), events_of([[]]), [0.0, 5.0])
    assert still.values.tolist() == [[[0.0, 0.0]]]
    assert still.summaries["HI"].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parameters": np.ones((2, 3))}, "parameters"),
        ({"times": np.ones((3, 2))}, "times"),
        ({"times": [1.0, np.inf]}, "times"),
        ({"events": events_of([[]])}, "events"),
        ({"path": "magic"}, "path"),
        ({"rtol": 0.0}, "rtol"),
        ({"atol": np.nan}, "atol"),
        ({"windows": {"AVG": ([0.0], [1.0])}}, "windows"),
        ({"windows": {"AV": ([2.0], [1.0])}}, "windows.AV"),
    ],
)
def test_bad_input_names_its_field(model, change, field):
    given = {"parameters": np.ones((2, 4)), "events": events_of([[], []]), "times": [1.0]} | change
    first = (given.pop("parameters"), given.pop("events"), given.pop("times"))
    with pytest.raises(InputError) as error:
        solve(model, *first, **given)
    assert error.value.field == field


def test_closed_path_is_refused_where_there_is_none():
    model = compiled(Model.parse(SATURABLE))
    with pytest.raises(InputError, match="closed form"):
        solve(model, np.ones((1, 4)), events_of([[]]), [1.0], path="closed")


def test_read_only_and_other_layouts_of_the_input_are_taken(model):
    parameters, events, times = batch(9)
    plain = solve(model, parameters, events, times)
    frozen = [np.array(parameters, order="F"), np.array(times)]
    columns = [np.array(getattr(events, c)) for c in Events.__slots__]
    for array in (*frozen, *columns):
        array.setflags(write=False)
    assert same(plain, solve(model, frozen[0], Events(*columns), frozen[1]))
