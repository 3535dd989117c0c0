"""Sensitivities against central differences of solves at rtol 1e-13, for every kind of event record, and the closed form.

The witness is the plain solver: it knows nothing of derivatives. Sixth-order differences, so that their own error
(truncation h^6, rounding 1e-13/h) stays below 1e-9 of the largest sensitivity.
"""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine.augment import augmented
from pkpd.engine.build import Compiled, compiled
from pkpd.engine.changes import Changes
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import SolveStatus, solve
from pkpd.ground.errors import InputError
from pkpd.model.regimen import EventKind, Events
from pkpd.model.spec import Model

BAR = 1e-6
DEPOT, CENTRAL, R = 0, 1, 2
HEAD = "vtrial: model/1\nname: witness\n"
# saturable elimination, so that a wrong jump is not hidden by superposition; everything a record can ask the model for
NONLINEAR = (
    HEAD
    + """
states: {depot: mg, central: mg, R: "1"}
parameters:
  KA:  {typical: 0.7 1/h, status: assumed}
  VM:  {typical: 25 mg/h, status: assumed}
  KM:  {typical: 1.5 mg/L, status: assumed}
  V:   {typical: 30 L, status: assumed}
  F1:  {typical: 0.6 1, status: assumed}
  LAG: {typical: 1.6 h, status: assumed}
  D1:  {typical: 3.1 h, status: assumed}
  R2:  {typical: 17 mg/h, status: assumed}
  K:   {typical: 0.12 1/h, status: assumed}
  R0:  {typical: 5 1, status: assumed}
  IC:  {typical: 2 mg/L, status: assumed}
equations: |
  C = central/V
  R(0) = R0
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - VM*C/(KM + C)
  d/dt(R) = K*R0*(1 - C/(IC + C)) - K*R
doses:
  depot: {bioavailability: F1, lag: LAG, duration: D1}
  central: {bioavailability: 0.5*F1 + 0.2, rate: R2, lag: 0.5*LAG}
outputs: {CP: {is: C}, RESP: {is: R}}
"""
)
TYPICAL = np.array([0.7, 25.0, 1.5, 30.0, 0.6, 1.6, 3.1, 17.0, 0.12, 5.0, 2.0])
TIMES = np.array([0.3, 1.0, 1.7, 4.0, 6.1, 9.0, 12.5, 13.3, 16.0, 23.0, 26.0, 31.0, 47.0, 60.0])
TIGHT = {"rtol": 1e-13, "atol": 1e-15, "max_steps": 10**7}
FINE = {"rtol": 1e-8, "atol": 1e-10}

LINEAR = (
    HEAD
    + """
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1.1 1/h, status: assumed}
  CL: {typical: 2.8 L/h, status: assumed}
  V: {typical: 32 L, status: assumed}
  F1: {typical: 0.7 1, status: assumed}
  LAG: {typical: 0.6 h, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
doses: {depot: {bioavailability: F1, lag: LAG}, central: {bioavailability: F1, lag: LAG}}
outputs: {CP: {is: C}}
"""
)


@pytest.fixture(scope="module")
def nonlinear() -> Compiled:
    return compiled(Model.parse(NONLINEAR))


@pytest.fixture(scope="module")
def linear() -> Compiled:
    return compiled(Model.parse(LINEAR))


def record(time, amount=0.0, target=DEPOT, *, duration=0.0, ii=0.0, ss=0, kind=EventKind.DOSE, rate=0.0, more=0):
    return (time, amount, target, duration, ii, ss, kind, rate, more)


def events(*records: tuple, n: int = 2) -> Events:
    time, amount, target, duration, interval, steady, kind, rate, more = (
        np.tile(np.asarray(c), n) for c in zip(*records, strict=True)
    )
    return Events(
        np.arange(n + 1, dtype=np.int64) * len(records), time.astype(float), amount.astype(float),
        target.astype(np.int32), duration.astype(float), interval.astype(float), steady.astype(np.int8),
        kind.astype(np.int8), rate.astype(float), more.astype(np.int32),
    )  # fmt: skip


def people(n: int = 2, spread: float = 0.1, typical: np.ndarray = TYPICAL) -> np.ndarray:
    return typical * np.exp(spread * np.random.default_rng(7).normal(size=(n, len(typical))))


def differences(value, h: float = 1e-3) -> np.ndarray:
    """Sixth-order central difference of value(relative change) at 0."""
    return (45 * (value(h) - value(-h)) - 9 * (value(2 * h) - value(-2 * h)) + value(3 * h) - value(-3 * h)) / (60 * h)


def worst(found: np.ndarray, reference: np.ndarray, floor: float = 1e-3) -> float:
    """Largest difference relative to the largest sensitivity of the profile; (..., T). Differences of outputs of order 1
    carry a noise of 3e-10, hence the floor."""
    top = np.abs(reference).max(axis=-1, keepdims=True)
    return float(np.max(np.abs(found - reference) / np.maximum(top, floor)))


STEPS = np.array([3, 2, 1, -1, -2, -3]) * 1e-3
WEIGHTS = np.array([1, -9, 45, -45, 9, -1]) / 60e-3


def batch(parameters: np.ndarray) -> np.ndarray:
    """Every row with every parameter moved by every step, (rows x parameters x steps, parameters)."""
    size = parameters.shape[1]
    factor = np.exp(STEPS[None, :, None] * np.eye(size)[:, None, :])
    return (parameters[:, None, None, :] * factor).reshape(-1, size)


def all_differences(compiled_: Compiled, parameters: np.ndarray, records: list[tuple], changes=None) -> np.ndarray:
    """Reference gradient (n, output, parameter, T) out of one solve of all moved rows."""
    rows = batch(parameters)
    found = solve(compiled_, rows, events(*records, n=len(rows)), TIMES, changes=changes, **TIGHT).values
    shape = (len(parameters), parameters.shape[1], len(STEPS), *found.shape[1:])
    return np.moveaxis(np.einsum("s,npsot->npot", WEIGHTS, found.reshape(shape)), 1, 2)


RECORDS = {
    "bolus, lag, share": [record(0, 100), record(12, 80, CENTRAL)],
    "infusion of a given duration": [record(0, 100, CENTRAL, duration=2.0), record(8, 50, DEPOT, duration=3.0)],
    "infusion of a given rate": [record(0, 100, CENTRAL, rate=40.0), record(6, 60, DEPOT, rate=15.0)],
    "modelled duration": [record(0, 100, DEPOT, rate=-2.0), record(9, 50, DEPOT, rate=-2.0)],
    "modelled rate": [record(0, 100, CENTRAL, rate=-1.0), record(12, 50, CENTRAL, rate=-1.0)],
    "additional doses": [record(0, 60, DEPOT, ii=6.0, more=5)],
    "steady state, bolus with lag": [record(0, 60, DEPOT, ii=8.0, ss=1), record(24, 60)],
    "steady state, lag longer than the interval": [record(0, 6, DEPOT, ii=1.1, ss=1)],
    "steady state, infusion": [record(0, 60, CENTRAL, duration=3.0, ii=8.0, ss=1)],
    "steady state, infusion longer than the interval": [record(0, 40, CENTRAL, rate=7.0, ii=4.0, ss=1)],
    "steady state, modelled duration": [record(0, 60, DEPOT, rate=-2.0, ii=8.0, ss=1)],
    "steady state, constant infusion of a modelled rate": [record(0, 0, CENTRAL, rate=-1.0, ss=1)],
    "steady state added": [record(0, 30), record(9, 20, DEPOT, ii=12.0, ss=2)],
    "reset": [record(0, 100), record(10, kind=EventKind.RESET), record(11, 50)],
    "reset and dose": [record(0, 100, CENTRAL, rate=-1.0), record(5, 50, DEPOT, kind=EventKind.RESET_DOSE)],
    "replaced and multiplied": [
        record(0, 100), record(5, 3.0, R, kind=EventKind.REPLACE), record(7, 1.5, CENTRAL, kind=EventKind.MULTIPLY),
        record(9, 40.0, CENTRAL, kind=EventKind.REPLACE),
    ],
    "off and on": [
        record(0, 100), record(4, 0, CENTRAL, kind=EventKind.OFF), record(8, 0, CENTRAL, kind=EventKind.ON),
        record(12, 0, CENTRAL, kind=EventKind.OFF), record(14, 70, CENTRAL),
    ],
    "infusions turn on": [
        record(0, 100), record(3, 0, DEPOT, kind=EventKind.OFF), record(4, 0, CENTRAL, kind=EventKind.OFF),
        record(8, 30, DEPOT, duration=2.0), record(14, 70, CENTRAL, duration=2.0),
    ],
}  # fmt: skip


OWN_TEXT = (
    "off and on", "infusions turn on", "steady state, bolus with lag", "steady state, lag longer than the interval",
    "steady state, infusion", "steady state added",
)  # fmt: skip
"""Records that no other test asks a text of: compiled for them alone, by hand."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in OWN_TEXT else n for n in RECORDS])
def test_of_every_kind_of_record(nonlinear, name):
    # a lag of about 1.6 h must stay away from multiples of the interval, where the derivative has two sides
    parameters = people(spread=0.02 if name == "steady state, lag longer than the interval" else 0.1)
    found = sensitivities(nonlinear, parameters, events(*RECORDS[name]), TIMES, **FINE)
    assert not found.status.any()
    assert worst(found.gradient, all_differences(nonlinear, parameters, RECORDS[name])) <= BAR


def test_of_doses_and_initial_values(nonlinear):
    parameters = people()
    wrt = ["dose(depot)", "dose(central)", "initial(R)", "initial(central)"]
    plan = [[0, 100, DEPOT], [8, 40, CENTRAL], [20, 70, DEPOT]]

    def doses(depot: float = 1.0, central: float = 1.0) -> Events:
        return events(*(record(t, a * (depot if s == DEPOT else central), s) for t, a, s in plan))

    found = sensitivities(nonlinear, parameters, doses(), TIMES, wrt=wrt, scale="natural", **FINE).gradient
    for k, name in enumerate(("depot", "central")):
        reference = differences(
            lambda e, name=name: solve(nonlinear, parameters, doses(**{name: 1 + e}), TIMES, **TIGHT).values
        )
        assert worst(found[:, :, k], reference) <= BAR

    def started(e: float, state: int) -> np.ndarray:
        # an amount at time 0 that no share or lag touches: the initial value itself is what the model's text says
        there = parameters[0, 9] if state == R else 0.0
        doses_there = [record(0, there + e, state, kind=EventKind.REPLACE), *(record(t, a, s) for t, a, s in plan)]
        return solve(nonlinear, parameters[:1], events(*doses_there, n=1), TIMES, **TIGHT).values

    for k, state in ((2, R), (3, CENTRAL)):
        assert worst(found[:1, :, k], differences(lambda e, s=state: started(e, s))) <= BAR


def test_values_are_at_least_as_good_as_those_of_a_plain_solve(nonlinear):
    parameters, doses = people(20, 0.3), events(*RECORDS["bolus, lag, share"], n=20)
    exact = solve(nonlinear, parameters, doses, TIMES, **TIGHT).values
    plain = solve(nonlinear, parameters, doses, TIMES, path="tsit5").values
    found = sensitivities(nonlinear, parameters, doses, TIMES)
    assert worst(found.values, exact) <= max(1.2 * worst(plain, exact), 1e-7)


@pytest.mark.parametrize("late", [False, True])
def test_of_parameters_that_change_in_time(nonlinear, late):
    """Every row of a subject's parameters moves by the same factor."""
    factor = np.ones(len(TYPICAL))
    factor[[1, 3, 5]] = 1.3, 0.8, 1.2

    def changed(rows: np.ndarray) -> Changes:
        n = len(rows)
        later = np.repeat(rows, 2, axis=0) * np.tile([factor, factor**2], (n, 1))
        when = np.tile([7.0, 20.0], n)
        return Changes(offsets=np.arange(n + 1) * 2, time=when, parameters=later, late=np.full(2 * n, late))

    parameters, records = people(), RECORDS["additional doses"]
    found = sensitivities(nonlinear, parameters, events(*records), TIMES, changes=changed(parameters), **FINE)
    reference = all_differences(nonlinear, parameters, records, changed(batch(parameters)))
    assert worst(found.gradient, reference) <= BAR


def test_of_a_model_event_time():
    """The right-hand side jumps at T1; without the jump of S the derivative along T1 would be 0."""
    text = (
        HEAD
        + """
states: {central: mg}
parameters:
  K1: {typical: 0.3 1/h, status: assumed}
  K2: {typical: 0.05 1/h, status: assumed}
  T1: {typical: 5.3 h, status: assumed}
equations: |
  K = if(TIME < T1, K1, K2)
  d/dt(central) = -K*central
  A = central
outputs: {AMOUNT: {is: A}}
"""
    )
    model = compiled(Model.parse(text))
    parameters, doses = np.array([[0.3, 0.05, 5.3]]), events(record(0, 10.0), record(8, 10.0), n=1)
    times = np.array([1.0, 5.0, 6.0, 7.5, 9.0, 20.0])
    found = sensitivities(model, parameters, doses, times, path="ode", **FINE).gradient[0, 0]
    one, two = times > 5.3, times > 8.0
    left = 10 * np.exp(-0.3 * np.minimum(times, 5.3) - 0.05 * np.where(one, times - 5.3, 0.0))
    more = np.where(two, 10 * np.exp(-0.05 * np.where(two, times - 8.0, 0.0)), 0.0)
    exact = [
        -0.3 * np.minimum(times, 5.3) * left,
        -0.05 * (np.where(one, times - 5.3, 0.0) * left + np.where(two, times - 8.0, 0.0) * more),
        5.3 * np.where(one, -0.25 * left, 0.0),
    ]
    for k, reference in enumerate(exact):
        assert np.abs(found[k] - reference).max() <= 1e-7 * np.abs(reference).max()


CLOSED = {
    "boluses": [record(0, 100), record(6, 80, CENTRAL), record(30, 50)],
    "infusions": [record(0, 100, CENTRAL, duration=2.0), record(8, 50, CENTRAL, rate=15.0)],
    "additional doses and reset": [record(0, 60, DEPOT, ii=6.0, more=5), record(40, kind=EventKind.RESET)],
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("scale", ["log", "natural"])
def test_closed_form_equals_the_ode_path(linear, name, scale):
    typical = np.array([1.1, 2.8, 32.0, 0.7, 0.6])
    parameters, doses = people(3, 0.2, typical), events(*CLOSED[name], n=3)
    wrt = [*linear.parameters, "dose(depot)", "dose(central)"]
    closed = sensitivities(linear, parameters, doses, TIMES, wrt=wrt, scale=scale, path="closed")
    ode = sensitivities(linear, parameters, doses, TIMES, wrt=wrt, scale=scale, path="ode", **FINE)
    assert worst(ode.values, closed.values) <= 1e-8
    assert worst(ode.gradient, closed.gradient) <= 1e-8


@pytest.mark.slow
def test_closed_form_at_steady_state():
    """Lag and duration that do not move; otherwise `auto` takes the ODE path."""
    text = LINEAR.replace(", lag: LAG", ", lag: 0.5 h").replace("  LAG: {typical: 0.6 h, status: assumed}\n", "")
    model, parameters = compiled(Model.parse(text)), people(2, 0.2, np.array([1.1, 2.8, 32.0, 0.7]))
    doses = events(record(0, 60, DEPOT, ii=8.0, ss=1), record(30, 50, CENTRAL, duration=10.0, ii=8.0, ss=1))
    closed = sensitivities(model, parameters, doses, TIMES, path="closed")
    ode = sensitivities(model, parameters, doses, TIMES, path="ode", **FINE)
    assert worst(ode.gradient, closed.gradient) <= 1e-8


def test_closed_form_refuses_what_it_does_not_know(linear):
    doses = events(record(0, 60, DEPOT, ii=8.0, ss=1))
    with pytest.raises(InputError, match="no closed form"):
        sensitivities(linear, people(2, 0.2, np.array([1.1, 2.8, 32.0, 0.7, 0.6])), doses, TIMES, path="closed")


def test_structural_zeros_are_no_states(nonlinear):
    bigger = augmented(nonlinear, ["KA", "K", "F1"])
    names = set(bigger.compiled.dynamics.states)
    assert {"depot/KA", "central/KA", "R/KA", "R/K", "depot/F1", "central/F1", "R/F1"} <= names
    assert not {"depot/K", "central/K"} & names
    found = sensitivities(nonlinear, people(), events(record(0, 100)), TIMES).gradient[:, :, 8]
    assert (found[:, 0] == 0.0).all()
    assert (found[:, 1, -1] != 0.0).all()


def test_failed_subject_is_nan_everywhere_and_counted(nonlinear):
    parameters = people()
    parameters[1, 0] = np.nan
    found = sensitivities(nonlinear, parameters, events(record(0, 100)), TIMES)
    assert found.failures() == {SolveStatus.NOT_FINITE: 1}
    assert np.isnan(found.gradient[1]).all()
    assert np.isnan(found.values[1]).all()
    assert np.isfinite(found.gradient[0]).all()


def test_order_of_times_and_company_do_not_matter(nonlinear, linear):
    records = [record(0, 100), record(9, 40, CENTRAL)]
    parameters = people(5)
    whole = sensitivities(nonlinear, parameters, events(*records, n=5), TIMES).gradient
    some = sensitivities(nonlinear, parameters[3:], events(*records), TIMES).gradient
    assert np.array_equal(whole[3:], some)
    back = sensitivities(nonlinear, parameters, events(*records, n=5), TIMES[::-1]).gradient
    assert np.array_equal(whole, back[..., ::-1])
    five, doses = people(5, 0.1, np.array([1.1, 2.8, 32.0, 0.7, 0.6])), events(*records, n=5)
    one, two = (sensitivities(linear, five, doses, t, path="closed").gradient for t in (TIMES, TIMES[::-1]))
    assert np.array_equal(one, two[..., ::-1])


def test_table(linear):
    found = sensitivities(
        linear, np.array([[1.1, 2.8, 32.0, 0.7, 0.6]]), events(record(0, 100), n=1), TIMES, wrt=["CL"]
    )
    table = found.table()
    assert list(table.columns) == ["SUBJECT", "TIME", "OUTPUT", "VALUE", "CL"]
    assert np.array_equal(table["CL"], found.gradient[0, 0, 0])
    assert set(table["OUTPUT"]) == {"C"}


@pytest.mark.parametrize(
    ("given", "message"),
    [({"wrt": ["KAA"]}, "no such parameter"), ({"wrt": ["KA", "KA"]}, "different"), ({"wrt": []}, "at least one"),
     ({"scale": "log10"}, "log or natural"), ({"path": "exact"}, "auto, closed or ode"),
     ({"wrt": ["initial(central)"]}, "has no logarithm"), ({"wrt": ["dose(gut)"]}, "no such parameter")],
)  # fmt: skip
def test_user_errors(nonlinear, given, message):
    with pytest.raises(InputError, match=message):
        sensitivities(nonlinear, people(), events(record(0, 100)), TIMES, **given)
