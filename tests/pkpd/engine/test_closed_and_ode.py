"""The two paths of `solve` against each other, against reference profiles, and against published golden numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

SIMULATION = Path(__file__).parents[4] / "shared" / "reference" / "simulation"

ONE_COMPARTMENT = """
vtrial: model/1
name: one
states: {gut: mg, body: mg}
parameters:
  A:   {typical: 1 1/h, status: assumed}
  CLE: {typical: 3 L/h, status: assumed}
  VOL: {typical: 30 L, status: assumed}
  F:   {typical: 1 1, status: assumed}
  LAG: {typical: 0.1 h, status: assumed}
equations: |
  CONC = body/VOL
  d/dt(gut) = -A*gut
  d/dt(body) = A*gut - CLE*CONC
  SUM = AV + HI + LO
doses: {gut: {bioavailability: F, lag: LAG}}
summaries:
  AV: {of: CONC, as: average, window: 24 h}
  HI: {of: CONC, as: maximum, window: 24 h}
  LO: {of: CONC, as: minimum, window: 24 h}
outputs: {CP: {is: CONC}, S: {is: SUM}}
"""

WARFARIN = """
vtrial: model/1
name: warfarin
states: {depot: mg, central: mg, RESP: "1"}
parameters:
  KA: {typical: 0.92 1/h, status: assumed}
  CL: {typical: 0.131 L/h, status: assumed}
  V: {typical: 7.92 L, status: assumed}
  IMAX: {typical: 0.968 1, status: assumed}
  IC50: {typical: 1.007 mg/L, status: assumed}
  KOUT: {typical: 0.055 1/h, status: assumed}
  E0: {typical: 96.5 1, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
  RESP(0) = E0
  d/dt(RESP) = E0*KOUT*(1 - IMAX*C/(IC50 + C)) - KOUT*RESP
outputs: {CP: {is: C}, PCA: {is: RESP}}
"""


def schedule(times, amount, target=0, *, duration=0.0, interval=0.0, steady=False):
    times = np.atleast_1d(np.asarray(times, float))
    k = len(times)
    flag = np.zeros(k, bool)
    flag[0] = steady
    return Schedule(
        times, np.full(k, float(amount)), np.full(k, target, np.int32), np.full(k, float(duration)),
        np.where(flag, float(interval), 0.0), flag,
    )  # fmt: skip


@pytest.fixture(scope="module")
def one():
    return compiled(Model.parse(ONE_COMPARTMENT))


def _random(n, seed=5):
    """1,000 plausible and implausible subjects; every tenth has ka = ke exactly, every tenth nearly."""
    rng = np.random.default_rng(seed)
    ke, v = np.exp(rng.uniform(np.log(0.01), np.log(1.0), n)), rng.uniform(5, 100, n)
    ka = ke * np.exp(rng.uniform(np.log(0.05), np.log(30.0), n))
    cl = ke * v
    ka[::10] = cl[::10] / v[::10]
    ka[1::10] = (cl / v)[1::10] * (1 + 10.0 ** rng.uniform(-14, -3, len(ka[1::10])))
    return np.stack([ka, cl, v, rng.uniform(0.2, 1, n), rng.uniform(0, 3, n)], axis=1)


def test_closed_form_equals_ode_on_1000_subjects(one):
    # issue 2: max relative difference <= 1e-7 for values above 1e-6 of the peak, ka = ke among them
    parameters = _random(1000)
    events = Events.shared(schedule(12.0 * np.arange(6), 100.0), 1000)
    times = np.array([0.0, 0.5, 1, 2, 4, 8, 12, 20, 30, 47, 61, 66, 72, 100])
    closed = solve(one, parameters, events, times, path="closed")
    ode = solve(one, parameters, events, times, path="ode", rtol=1e-10, atol=1e-12)
    assert not closed.status.any()
    assert not ode.status.any()
    _close(closed.values[:, 0], ode.values[:, 0], 1e-7)
    for name in ("AV", "HI", "LO"):
        _close(closed.summaries[name], ode.summaries[name], 1e-7, closed.summaries["HI"].max(axis=1))


def _close(a, b, bar, peak=None):
    """Relative difference <= bar wherever `a` exceeds 1e-6 of the subject's peak."""
    peak = np.abs(a).max(axis=1) if peak is None else peak
    there = np.abs(a) > 1e-6 * peak[:, None]
    assert there.any()
    assert np.max(np.abs(b[there] / a[there] - 1.0)) <= bar


@pytest.mark.parametrize(
    ("target", "duration"), [(0, 0.0), (1, 0.0), pytest.param(1, 4.0, marks=pytest.mark.slow), (0, 4.0), (1, 30.0)]
)
def test_steady_state_and_infusions_agree_between_paths(one, target, duration):
    parameters = _random(40, seed=6)
    parameters[:, 1] = np.maximum(parameters[:, 1], 0.02 * parameters[:, 2])
    first = schedule(3.0 + 12.0 * np.arange(3), 100.0, target, duration=duration, interval=12.0, steady=True)
    events = Events.shared(first, 40)
    times = np.array([0.0, 1.0, 3.0, 3.5, 8.0, 15.0, 16.0, 30.0, 60.0])
    closed = solve(one, parameters, events, times, path="closed")
    ode = solve(one, parameters, events, times, path="ode", rtol=1e-10, atol=1e-12)
    assert not ode.status.any()
    _close(closed.values[:, 0, 2:], ode.values[:, 0, 2:], 2e-7)
    _close(closed.summaries["HI"][:, -2:], ode.summaries["HI"][:, -2:], 2e-7)


@pytest.mark.parametrize("path", ["closed", "ode"])
@pytest.mark.parametrize("duration", [0.0, 5.0, 30.0])
def test_steady_state_equals_a_long_run(one, path, duration):
    # identity: SS = the same regimen given explicitly for 60 intervals before (e^(-0.1*720) is nothing)
    parameters = np.array([[0.4, 3.0, 30.0, 0.8, 0.0], [0.1, 3.0, 30.0, 1.0, 1.5]])
    target, count = (1 if duration else 0), 60
    long = Events.shared(schedule(12.0 * np.arange(count + 2), 100.0, target, duration=duration), 2)
    short = Events.shared(
        schedule(12.0 * np.arange(2), 100.0, target, duration=duration, interval=12.0, steady=True), 2
    )
    times = np.array([0.5, 2.0, 11.0, 13.0, 23.0])
    expected = solve(one, parameters, long, times + 12.0 * count, path="closed").values
    found = solve(one, parameters, short, times, path=path, rtol=1e-10, atol=1e-12).values
    np.testing.assert_allclose(found, expected, rtol=3e-8)


def test_lag_shifts_and_bioavailability_scales(one):
    events = Events.shared(schedule([0.0], 100.0), 3)
    parameters = np.array([[1.0, 3, 30, 1.0, 0.0], [1.0, 3, 30, 1.0, 2.5], [1.0, 3, 30, 0.5, 0.0]])
    times = np.array([[1.0, 4.0], [3.5, 6.5], [1.0, 4.0]])
    for path in ("closed", "ode"):
        values = solve(one, parameters, events, times, path=path).values[:, 0]
        np.testing.assert_allclose(values[1], values[0], rtol=1e-6)
        np.testing.assert_allclose(values[2], 0.5 * values[0], rtol=1e-6)


def test_golden_theophylline_of_rovei():
    # ../shared/reference/models.md section 1: 375 mg, 70 kg, lag 0.09 h: tmax, Cmax, C(24 h), AUCinf to 6 digits
    model = compiled(Model.parse(ONE_COMPARTMENT))
    events = Events.shared(schedule([0.0], 375.0), 1)
    parameters = np.array([[1.73, 2.94, 35.7, 1.0, 0.09]])
    grid = np.linspace(1.93, 1.95, 2001)
    for path in ("closed", "ode"):
        options = {"path": path, "rtol": 1e-10, "atol": 1e-12}
        curve = solve(model, parameters, events, grid, windows={}, **options).values[0, 0]
        assert grid[curve.argmax()] == pytest.approx(1.93801, abs=2e-5)
        ask = {"HI": ([0.0], [24.0]), "AV": ([0.0], [600.0])}
        found = solve(model, parameters, events, [24.0], windows=ask, **options)
        assert found.summaries["HI"][0, 0] == pytest.approx(9.02128, rel=1e-6)
        assert found.values[0, 0, 0] == pytest.approx(1.53955, rel=4e-6)
        assert found.summaries["AV"][0, 0] * 600.0 == pytest.approx(127.551, rel=4e-6)
        assert found.summaries["AV"][0, 0] * 600.0 == pytest.approx(375.0 / 2.94, rel=1e-8)  # AUC = F dose/CL


@pytest.mark.witness
def test_warfarin_reference_profiles():
    # ../shared/reference/simulation W2: Radau at rtol 1e-11; bar: mrgsolve's 1.27e-7 (CP), 6.5e-8 (RESP) at defaults
    if not SIMULATION.is_dir():
        pytest.skip("reference profiles are not beside the repository")
    table = pd.read_csv(SIMULATION / "params_W2.csv")
    profiles = pd.read_csv(SIMULATION / "profiles_W2.csv")
    ids = profiles["ID"].unique()
    model = compiled(Model.parse(WARFARIN))
    assert model.form is None
    parameters = table.set_index("ID").loc[ids, list(model.parameters)].to_numpy(float)
    times = profiles.loc[profiles["ID"] == ids[0], "TIME"].to_numpy(float)
    events = Events.shared(schedule([0.0], 100.0), len(ids))
    for rtol, atol, bars in ((1e-6, 1e-8, (1.3e-7, 1.3e-7)), (1e-10, 1e-12, (1e-8, 1e-8))):
        found = solve(model, parameters, events, times, rtol=rtol, atol=atol)
        assert not found.status.any()
        for k, (name, bar) in enumerate(zip(("CP", "RESP"), bars, strict=True)):
            reference = profiles[f"{name}_REF"].to_numpy(float).reshape(len(ids), -1)
            _close(reference, found.values[:, k], bar)


def test_default_tolerance_is_met_by_the_warfarin_kinetics():
    # the closed form is the witness of the same model's first two states
    model = compiled(Model.parse(WARFARIN))
    pk = compiled(Model.parse(ONE_COMPARTMENT))
    rng = np.random.default_rng(8)
    n = 100
    ka, cl, v = (x * np.exp(s * rng.normal(size=n)) for x, s in ((0.92, 0.6), (0.131, 0.27), (7.92, 0.22)))
    rest = np.broadcast_to([0.968, 1.007, 0.055, 96.5], (n, 4))
    times = np.arange(0, 145.0, 6.0)
    events = Events.shared(schedule([0.0], 100.0), n)
    closed = solve(pk, np.column_stack([ka, cl, v, np.ones(n), np.zeros(n)]), events, times, windows={})
    assert not closed.status.any()
    for path in ("auto", "tsit5"):
        ode = solve(model, np.column_stack([ka, cl, v, rest]), events, times, path=path)
        assert not ode.status.any()
        _close(closed.values[:, 0], ode.values[:, 0], 1e-6)
    assert np.abs(closed.values[:, 0] - ode.values[:, 0]).max() > 0.0  # the steps, not the closed form again
