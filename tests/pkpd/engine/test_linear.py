"""Linear systems in closed form: against matrix exponentials, against the ODE path, against 50-digit arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import expm

from pkpd.engine.build import compiled
from pkpd.engine.solve import SolveStatus, solve
from pkpd.ground.errors import InputError
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

SIMULATION = Path(__file__).parents[4] / "shared" / "reference" / "simulation"
HEAD = "vtrial: model/1\nname: linear\nstates: {%s}\nparameters:\n%s\nequations: |\n%s\n"


def model(states, parameters, equations, outputs, *, summaries=""):
    lines = "\n".join(f"  {p}: {{typical: 1 {unit}, status: assumed}}" for p, unit in parameters.items())
    text = HEAD % (", ".join(f'{s}: "1"' for s in states), lines, "\n".join(f"  {e}" for e in equations))
    return compiled(
        Model.parse(text + summaries + "outputs: {" + ", ".join(f"{o}: {{is: {o}}}" for o in outputs) + "}\n")
    )


RATES = {"KA": "1/h", "K10": "1/h", "K12": "1/h", "K21": "1/h", "K13": "1/h", "K31": "1/h", "V": "1"}
THREE = (
    ["gut", "body", "near", "far"], RATES,
    ["C = body/V", "d/dt(gut) = -KA*gut", "d/dt(body) = KA*gut - (K10 + K12 + K13)*body + K21*near + K31*far",
     "d/dt(near) = K12*body - K21*near", "d/dt(far) = K13*body - K31*far"],
    ["C", "far"],
)  # fmt: skip
WINDOWS = "summaries:\n" + "".join(
    f"  {n}: {{of: C, as: {kind}, window: 24 h}}\n"
    for n, kind in (("AV", "average"), ("HI", "maximum"), ("LO", "minimum"))
)
CHAIN = (
    ["X0", "X1", "X2", "X3", "X4"], {"K": "1/h", "Q": "1/h"},
    ["d/dt(X0) = -K*X0", *(f"d/dt(X{i}) = K*X{i - 1} - K*X{i}" for i in (1, 2, 3)), "d/dt(X4) = K*X3 - Q*X4"],
    ["X3", "X4"],
)  # fmt: skip
RING = (
    ["x", "y", "z"], {"K": "1/h", "Q": "1/h"},
    ["d/dt(x) = -K*x + Q*z", "d/dt(y) = K*x - K*y", "d/dt(z) = K*y - (Q + K)*z"], ["x", "z"],
)  # fmt: skip


def doses(n, times=(0.0, 12.0, 24.0), amount=100.0, target=0, *, duration=0.0, steady=0, interval=0.0):
    t = np.asarray(times, float)
    k = len(t)
    first = np.arange(k) == 0
    return Events.shared(
        Schedule(
            t, np.full(k, amount), np.full(k, target, np.int32), np.full(k, float(duration)),
            np.where(first, interval, 0.0), np.where(first, steady, 0).astype(np.int8),
        ), n,
    )  # fmt: skip


def drawn(n, seed=3):
    """Rates over three decades; every fifth subject with KA on an eigenvalue of the rest, exactly or nearly."""
    rng = np.random.default_rng(seed)
    p = np.exp(rng.uniform(np.log(0.01), np.log(3.0), (n, 7)))
    for i in range(0, n, 5):
        A = np.array(
            [[-(p[i, 1] + p[i, 2] + p[i, 4]), p[i, 3], p[i, 5]], [p[i, 2], -p[i, 3], 0], [p[i, 4], 0, -p[i, 5]]]
        )
        p[i, 0] = -np.sort(np.linalg.eigvals(A).real)[rng.integers(0, 3)] * (
            1 + rng.choice([0, 1e-13, 1e-9, 1e-6, 1e-4])
        )
    return p


def worst(found, expected):
    peak = np.abs(expected).max(axis=-1, keepdims=True)
    there = np.abs(expected) > 1e-6 * peak
    return np.max(np.abs(found - expected)[there] / np.abs(expected)[there])


@pytest.mark.parametrize(("target", "duration"), [(0, 0.0), (1, 0.0), (1, 5.0), (0, 20.0)])
def test_three_compartments_equal_matrix_exponentials_also_where_rates_coincide(target, duration):
    three, p = model(*THREE), drawn(60)
    times = np.r_[0.0, 0.3, 1, 3, 7, 12, 12.5, 20, 24, 26, 40, 80]
    events = doses(60, target=target, duration=duration)
    auto = solve(three, p, events, times)
    exact = solve(three, p, events, times, path="exact")
    assert three.block.whole
    assert three.block.modal
    assert not auto.status.any()
    assert worst(auto.values, exact.values) < 1e-11


def test_a_dose_by_hand():
    # witness: scipy's expm of the same matrix, one bolus
    three, p = model(*THREE), drawn(10, seed=8)
    times = np.array([0.5, 4.0, 30.0])
    found = solve(three, p, doses(10, times=[0.0]), times).values
    for i, (ka, k10, k12, k21, k13, k31, v) in enumerate(p):
        A = np.array([[-ka, 0, 0, 0], [ka, -(k10 + k12 + k13), k21, k31], [0, k12, -k21, 0], [0, k13, 0, -k31]])
        y = np.array([expm(A * t) @ [100.0, 0, 0, 0] for t in times])
        np.testing.assert_allclose(found[i, 0], y[:, 1] / v, rtol=1e-11)
        np.testing.assert_allclose(found[i, 1], y[:, 3], rtol=1e-11)


def test_every_rate_equal_is_the_gamma_function():
    # identity: the n-th compartment of a chain with one rate k holds D (kt)^n e^-kt/n!
    chain = model(*CHAIN)
    k, t = np.array([0.05, 0.4, 3.0]), np.array([0.1, 1.0, 4.0, 11.0, 30.0])
    found = solve(chain, np.stack([k, k], axis=1), doses(3, times=[0.0]), t).values
    kt = k[:, None] * t
    np.testing.assert_allclose(found[:, 0], 100 * kt**3 / 6 * np.exp(-kt), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], 100 * kt**4 / 24 * np.exp(-kt), rtol=1e-12)


@pytest.mark.parametrize(("target", "duration"), [(0, 0.0), (1, 3.0), (1, 30.0)])
@pytest.mark.parametrize("path", ["auto", "exact"])
def test_steady_state_equals_a_long_run(target, duration, path):
    # identity: SS = 398 explicit doses before; e^(-0.015 x 398 x 12) is nothing
    three, p = model(*THREE), np.clip(drawn(20, seed=4), 0.2, 1.0)
    p[:5, 0] = p[:5, 1]
    times = np.array([0.5, 2.0, 11.0, 14.0])
    long = doses(20, times=12.0 * np.arange(400), target=target, duration=duration)
    short = doses(20, times=12.0 * np.arange(2), target=target, duration=duration, steady=1, interval=12.0)
    found = solve(three, p, short, times, path=path).values
    expected = solve(three, p, long, times + 12.0 * 398, path="closed").values
    assert worst(found, expected) < 1e-10


def test_no_steady_state_is_a_status():
    lines = ["d/dt(a) = -K*a", "d/dt(b) = K*a - Q*b", "d/dt(c) = Q*b - Q*c"]
    trap = model(["a", "b", "c"], {"K": "1/h", "Q": "1/h"}, lines, ["a", "b"])
    events = doses(3, times=[0.0], steady=1, interval=12.0)
    for path in ("auto", "exact"):
        found = solve(trap, np.array([[1.0, 0.0], [1.0, 0.5], [np.nan, 1.0]]), events, [1.0], path=path)
        assert found.status.tolist() == [SolveStatus.NOT_STEADY, SolveStatus.OK, SolveStatus.NOT_FINITE]


def test_constant_input_and_initial_values():
    # turnover with baseline: R' = KIN - KOUT R, R(0) = KIN/KOUT stays; with a bolus it returns exponentially
    text = ["R(0) = KIN/KOUT", "d/dt(R) = KIN - KOUT*R"]
    turnover = model(["R"], {"KIN": "1/h", "KOUT": "1/h"}, text, ["R"])
    t = np.array([0.0, 1.0, 5.0, 50.0])
    found = solve(turnover, np.array([[3.0, 0.2]]), doses(1, times=[0.5], amount=4.0), t).values[0, 0]
    np.testing.assert_allclose(found, 15 + 4 * np.exp(-0.2 * (t - 0.5)) * (t > 0.5), rtol=1e-14)


@pytest.mark.parametrize("equations", [THREE, RING])
def test_closed_equals_ode(equations):
    states, parameters, lines, outputs = equations
    linear = model(states, parameters, lines, outputs)
    p = np.exp(np.random.default_rng(1).uniform(-2.5, 0.5, (8, len(parameters))))
    times = np.linspace(0.2, 40.0, 25)
    events = doses(8, duration=2.0)
    closed = solve(linear, p, events, times, path="closed").values
    ode = solve(linear, p, events, times, path="ode", rtol=1e-11, atol=1e-13).values
    assert worst(closed, ode) < 1e-8


@pytest.mark.slow
def test_windows_equal_the_ode_path():
    three = model(THREE[0], RATES, [*THREE[2], "SUM = AV + HI + LO"], ["C", "SUM"], summaries=WINDOWS)
    assert three.form is None
    p = np.clip(drawn(12, seed=6), 0.05, 1.0)
    p[0, 0] = p[0, 1] = 0.3  # near-coincident rates among them
    times = np.array([0.0, 6.0, 12.0, 24.0, 30.0, 60.0])
    for events in (doses(12), doses(12, target=1, duration=4.0)):
        closed = solve(three, p, events, times, path="closed")
        ode = solve(three, p, events, times, path="ode", rtol=1e-11, atol=1e-13)
        for name in ("AV", "HI", "LO"):
            scale = np.abs(ode.summaries["HI"]).max(axis=1, keepdims=True)
            assert np.max(np.abs(closed.summaries[name] - ode.summaries[name]) / scale) < 1e-7, name


def test_outputs_that_bend_are_evaluated_on_the_states():
    equations = [*THREE[2], "E = C^2/(1 + C^2)"]
    bent = model(THREE[0], RATES, equations, ["E", "C"])
    p, times = drawn(6), np.array([1.0, 5.0, 20.0])
    found = solve(bent, p, doses(6), times).values
    np.testing.assert_allclose(found[:, 0], found[:, 1] ** 2 / (1 + found[:, 1] ** 2), rtol=1e-14)


def test_what_is_not_linear_has_no_whole_block():
    saturable = [e.replace("KA*gut", "KA*gut/(1 + gut)") for e in THREE[2]]
    assert not getattr(model(THREE[0], RATES, saturable, ["C"]).block, "whole", False)
    timed = [e.replace("KA*gut", "KA*exp(-K10*TIME)*gut") for e in THREE[2]]
    assert not getattr(model(THREE[0], RATES, timed, ["C"]).block, "whole", False)


def test_a_ring_of_flows_is_left_to_the_ode_path_unless_asked():
    ring = model(*RING)
    assert ring.block.whole
    assert not ring.block.modal
    p = np.array([[0.5, 0.2]])
    auto = solve(ring, p, doses(1), [3.0, 30.0], rtol=1e-10, atol=1e-12).values
    np.testing.assert_allclose(auto, solve(ring, p, doses(1), [3.0, 30.0], path="exact").values, rtol=1e-7)


def test_bits_do_not_depend_on_the_company():
    three, p = model(*THREE), drawn(40)
    events, times = doses(40), np.linspace(0.0, 50.0, 31)
    whole = solve(three, p, events, times).values
    some = solve(three, p[[7, 3, 0]], events.subjects(np.array([7, 3, 0])), times).values
    assert whole[[7, 3, 0]].tobytes() == some.tobytes()


def test_unsorted_and_missing_times():
    three, p = model(*THREE), drawn(3)
    times = np.array([[5.0, 1.0, np.nan, 30.0]] * 3)
    found = solve(three, p, doses(3), times).values
    plain = solve(three, p, doses(3), [1.0, 5.0, 30.0]).values
    assert np.isnan(found[:, :, 2]).all()
    np.testing.assert_array_equal(found[:, :, [1, 0, 3]], plain)


def test_a_path_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="closed form"):
        solve(compiled(load("w3")), np.ones((1, 9)), doses(1), [1.0], path="closed")


@pytest.mark.witness
def test_workload_w1_against_50_digits():
    # ../shared/reference/simulation W1: tri-exponential in 50-digit arithmetic; bar 2e-8 (mrgsolve), tight 1e-8
    if not SIMULATION.is_dir():
        pytest.skip("reference profiles are not beside the repository")
    w1 = compiled(load("w1"))
    profiles = pd.read_csv(SIMULATION / "profiles_W1.csv")
    ids = profiles["ID"].unique()
    p = pd.read_csv(SIMULATION / "params_W1.csv").set_index("ID").loc[ids, list(w1.parameters)].to_numpy(float)
    times = profiles.loc[profiles["ID"] == ids[0], "TIME"].to_numpy(float)
    events = doses(len(ids), times=24.0 * np.arange(7), amount=10_000.0, steady=1, interval=24.0)
    reference = profiles["CP_REF"].to_numpy(float).reshape(len(ids), -1)
    for path in ("auto", "exact"):
        assert worst(solve(w1, p, events, times, path=path).values[:, 0], reference) < 1e-11
