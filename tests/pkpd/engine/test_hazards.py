"""Event times against closed-form quantiles of the laws of survival, and against quadrature and root finding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from pkpd.engine.build import compiled
from pkpd.engine.changes import Changes
from pkpd.engine.hazards import occurring
from pkpd.engine.solve import solve
from pkpd.engine.status import SolveStatus
from pkpd.ground.errors import InputError
from pkpd.model.outcomes import thresholds
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

LAWS = """
vtrial: model/1
name: laws
states: {X: mg}
parameters:
  L: {typical: 0.02 1/h, status: assumed}
  K: {typical: 1.7 1, status: assumed}
  B: {typical: 0.03 1/h, status: assumed}
equations: |
  d/dt(X) = -L*X
  EXPO = L
  WEIB = K*L*pow(L*TIME, K - 1)
  GOMP = L*exp(B*TIME)
  Y = X
outputs: {X: {is: Y}}
events:
  expo: {hazard: EXPO}
  weib: {hazard: WEIB}
  gomp: {hazard: GOMP}
  again: {hazard: GOMP, kind: recurrent}
  often: {hazard: EXPO, kind: recurrent}
"""
PK = """
vtrial: model/1
name: drug
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1 1/h, status: assumed}
  CL: {typical: 3 L/h, status: assumed}
  V:  {typical: 30 L, status: assumed}
  H:  {typical: 0.004 1/h, status: assumed}
  S:  {typical: 0.8 L/mg, scale: identity, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
  HZ = H*exp(S*C)
  HD = H
outputs: {CP: {is: C}}
events: {bleed: {hazard: HZ, kind: recurrent}, death: {hazard: HD, kind: terminal}}
"""
SEED = 11


def nothing(n):
    return Events.pack([Schedule(*([np.empty(0)] * 6)) for _ in range(n)])


def doses(n, times, amount, **more):
    k = len(times)
    columns = {"target": np.zeros(k, np.int32), "duration": np.zeros(k), "interval": np.zeros(k), "steady": np.zeros(k)}
    return Events.shared(Schedule(np.asarray(times, float), np.full(k, amount), **(columns | more)), n)


def drawn(n, event, count=1):
    found = thresholds(SEED, subject=np.arange(n), replicate=np.zeros(1, np.int64), event=event, occurrences=count)
    return found[0]


def test_quantiles_of_exponential_weibull_and_gompertz():
    """T = E/L; T = E^(1/K)/L; T = log(1 + E B/L)/B with E the threshold, for E = -log u at many u."""
    model = compiled(Model.parse(LAWS))
    n = 400
    rng = np.random.default_rng(1)
    p = np.array([0.02, 1.7, 0.03]) * np.exp(0.3 * rng.normal(size=(n, 3)))
    p[:, 1] = np.maximum(p[:, 1], 1.05)  # below 1 the hazard is infinite at time 0, and the subject fails
    given = {name: drawn(n, k) for k, name in enumerate(("expo", "weib", "gomp"))}
    found = solve(model, p, nothing(n), [250.0], thresholds=given, rtol=1e-9, atol=1e-11)
    rate, k, b = p.T
    e = {name: g[:, 0] for name, g in given.items()}
    expected = {
        "expo": e["expo"] / rate,
        "weib": e["weib"] ** (1 / k) / rate,
        "gomp": np.log1p(e["gomp"] * b / rate) / b,
    }
    expected = {name: np.where(t <= 250.0, t, np.inf) for name, t in expected.items()}
    for name, times in expected.items():
        assert np.isfinite(times).sum() > 300
        np.testing.assert_allclose(found.crossings[name][:, 0], times, rtol=1e-7, err_msg=name)
    rough = solve(model, p, nothing(n), [250.0], thresholds=given)
    for name, times in expected.items():
        np.testing.assert_allclose(rough.crossings[name][:, 0], times, rtol=1e-5, err_msg=name)


def test_nothing_comes_after_the_last_time_asked_and_recurrent_events_come_in_order():
    """Gompertz: the k-th event of a Poisson process with this intensity is the inverse of the k-th threshold."""
    model = compiled(Model.parse(LAWS))
    n, until = 60, 150.0
    p = np.tile([0.02, 1.7, 0.03], (n, 1))
    found = occurring(
        lambda given: solve(model, p, nothing(n), [until], thresholds=given, rtol=1e-9, atol=1e-11),
        lambda event, count: drawn(n, {"again": 3, "often": 4}[event], count), {"again": "recurrent", "often": "recurrent"},
    )  # fmt: skip
    for name, inverse in (("again", lambda e: np.log1p(e * 1.5) / 0.03), ("often", lambda e: e / 0.02)):
        times = found.crossings[name]
        expected = inverse(drawn(n, {"again": 3, "often": 4}[name], times.shape[1]))
        expected = np.where(expected <= until, expected, np.inf)
        assert np.isinf(expected[:, -1]).all()
        np.testing.assert_allclose(times, expected, rtol=1e-7)
    # identity: the mean number of events is the cumulative hazard at the end, (L/B)(e^(B t) - 1); within 4 sd
    count = np.isfinite(found.crossings["again"]).sum(axis=1)
    mean = (np.exp(0.03 * until) - 1) / 1.5
    assert abs(count.mean() - mean) < 4 * np.sqrt(mean / n)


def _level(t, times, amount, ka, *, ke, v):
    s = t - np.asarray(times)[:, None]
    one = np.where(s > 0, amount * ka / (ka - ke) * (np.exp(-ke * s) - np.exp(-ka * s)), 0.0)
    return one.sum(axis=0) / v


def test_a_hazard_driven_by_the_drug_against_quadrature_and_root_finding():
    model = compiled(Model.parse(PK))
    p = np.array([[1.0, 3.0, 30.0, 0.004, 0.8], [0.4, 2.0, 20.0, 0.01, 0.3]])
    times = 12.0 * np.arange(6)
    given = {"bleed": np.array([[0.05, 0.4, 0.9], [0.3, 0.35, 50.0]])}
    found = solve(model, p, doses(2, times, 100.0), [96.0], thresholds=given, rtol=1e-10, atol=1e-12)

    def cumulative(i, t):
        ka, cl, v, h, s = p[i]
        cuts = [*times[times < t], t]
        level = lambda x: h * np.exp(s * _level(np.array([x]), times, 100.0, ka, ke=cl / v, v=v)[0])  # noqa: E731
        return sum(quad(level, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in pairwise(cuts))

    for i, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        root = brentq(lambda t: cumulative(i, t) - given["bleed"][i, k], 1e-6, 96.0, xtol=1e-10)  # noqa: B023
        assert found.crossings["bleed"][i, k] == pytest.approx(root, rel=1e-8)
    assert np.isinf(found.crossings["bleed"][1, 2])


def test_constant_hazard_in_closed_form_follows_changes_of_parameters():
    """Hazard 0.004 until 50 h, 0.02 until 80 h, 0.001 after: inverse of a broken line; the linear model stays closed."""
    model = compiled(Model.parse(PK))
    rows = np.array([[1.0, 3, 30, 0.004, 0], [1.0, 3, 30, 0.02, 0], [1.0, 3, 30, 0.001, 0]])
    e = np.array([0.1, 0.2, 0.3, 0.79, 0.8, 0.9, 2.0])
    n = len(e)
    changes = Changes(
        offsets=2 * np.arange(n + 1), time=np.tile([50.0, 80.0], n), parameters=np.tile(rows[1:], (n, 1)),
        late=np.zeros(2 * n, bool),
    )  # fmt: skip
    p = np.tile(rows[0], (n, 1))
    found = solve(model, p, doses(n, [0.0], 100.0), [10.0, 90.0, 300.0], thresholds={"death": e}, changes=changes,
                  path="closed")  # fmt: skip
    expected = np.where(e <= 0.2, e / 0.004, np.where(e <= 0.8, 50 + (e - 0.2) / 0.02, 80 + (e - 0.8) / 0.001))
    expected = np.where(expected <= 300, expected, np.inf)
    np.testing.assert_allclose(found.crossings["death"][:, 0], expected, rtol=1e-12)
    # terminal: nothing is seen after it
    seen = np.array([10.0, 90.0, 300.0])[None, :] <= expected[:, None]
    np.testing.assert_array_equal(np.isfinite(found.values[:, 0]), seen)
    np.testing.assert_array_equal(found.ended, found.crossings["death"][:, 0])


def test_a_terminal_event_ends_the_others():
    model = compiled(Model.parse(PK))
    p = np.array([[1.0, 3.0, 30.0, 0.01, 0.5]])
    e = {"bleed": np.array([[0.3, 0.5, 0.7, 0.9]]), "death": np.array([[0.45]])}
    found = solve(model, p, doses(1, [0.0], 100.0), [200.0], thresholds=e)
    assert found.ended[0] == pytest.approx(45.0)
    alone = solve(model, p, doses(1, [0.0], 100.0), [200.0], thresholds={"bleed": e["bleed"]}).crossings["bleed"][0]
    kept = found.crossings["bleed"][0]
    np.testing.assert_array_equal(kept, np.where(alone > 45.0, np.inf, alone))
    assert np.isfinite(kept).any()
    assert np.isinf(kept).any()


def test_a_steady_state_does_not_use_up_hazard():
    """SS at time 0: hazard counts from there; witness: trapezoids on the sampled level, cut at 0.01 h."""
    model = compiled(Model.parse(PK))
    p = np.array([[0.5, 3.0, 30.0, 0.01, 0.5]])
    e = {"bleed": np.array([[0.2, 0.5, 1.0]])}
    steady = {"interval": np.full(4, 12.0), "steady": np.array([1, 0, 0, 0])}
    short = solve(
        model, p, doses(1, 12.0 * np.arange(4), 100.0, **steady), [48.0], thresholds=e, rtol=1e-10, atol=1e-12
    )
    assert np.isfinite(short.crossings["bleed"][0]).all()
    fine = np.linspace(0, 48, 4801)
    level = solve(model, p, doses(1, 12.0 * np.arange(4), 100.0, **steady), fine, after=True, rtol=1e-10).values[0, 0]
    hazard = 0.01 * np.exp(0.5 * level)
    total = np.concatenate([[0], np.cumsum(0.5 * (hazard[1:] + hazard[:-1]) * 0.01)])
    expected = np.interp(e["bleed"][0], total, fine, right=np.inf)
    np.testing.assert_allclose(short.crossings["bleed"][0], expected, rtol=2e-5)


def test_event_times_do_not_depend_on_neighbours_nor_on_threads():
    model = compiled(Model.parse(PK))
    n = 61
    rng = np.random.default_rng(4)
    p = np.array([1.0, 3, 30, 0.01, 0.5]) * np.exp(0.3 * rng.normal(size=(n, 5)))
    e = {"bleed": drawn(n, 0, 5), "death": 3 * drawn(n, 1)}
    whole = solve(model, p, doses(n, 12.0 * np.arange(5), 100.0), [96.0], thresholds=e)
    for i in (0, 8, 33, 60):
        part = {name: x[[i]] for name, x in e.items()}
        alone = solve(model, p[[i]], doses(1, 12.0 * np.arange(5), 100.0), [96.0], thresholds=part)
        for name in e:
            assert alone.crossings[name].tobytes() == whole.crossings[name][[i]].tobytes()
    plain = solve(model, p, doses(n, 12.0 * np.arange(5), 100.0), [96.0], thresholds={"bleed": e["bleed"]})
    fewer = solve(model, p, doses(n, 12.0 * np.arange(5), 100.0), [96.0], thresholds={"bleed": e["bleed"][:, :2]})
    np.testing.assert_array_equal(plain.crossings["bleed"][:, :2], fewer.crossings["bleed"])


def test_wrong_thresholds_are_refused():
    model = compiled(Model.parse(PK))
    p = np.array([[1.0, 3.0, 30.0, 0.01, 0.5]])
    for wrong in ({"bled": [[1.0]]}, {"bleed": [[-1.0]]}, {"bleed": [[2.0, 1.0]]}, {"bleed": [[1.0], [1.0]]}):
        with pytest.raises(InputError, match=r"thresholds"):
            solve(model, p, nothing(1), [1.0], thresholds=wrong)


def test_a_model_without_states_has_events_too():
    """Gompertz alone, no state in the text: T = log(1 + E B/L)/B; an output of time is solved too."""
    text = """
vtrial: model/1
name: death
parameters: {L: {typical: 0.02 1/h, status: assumed}, B: {typical: 0.03 1/h, status: assumed}}
equations: |
  HZ = L*exp(B*TIME)
outputs: {HAZ: {is: HZ}}
events: {death: {hazard: HZ, kind: terminal}}
"""
    model = compiled(Model.parse(text))
    e = drawn(20, 0)
    p = np.tile([0.02, 0.03], (20, 1))
    found = solve(model, p, nothing(20), [10.0, 300.0], thresholds={"death": e}, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.ended, np.log1p(e[:, 0] * 1.5) / 0.03, rtol=1e-8)
    plain = solve(model, p, nothing(20), [10.0, 300.0]).values[0, 0]
    np.testing.assert_allclose(plain, 0.02 * np.exp(0.03 * np.array([10.0, 300.0])), rtol=1e-12)


def test_a_negative_hazard_fails_the_subject():
    """One that moves and one that is constant: whoever has it at any time is NaN, with a status that says so."""
    text = """
vtrial: model/1
name: negative
states: {A: mg}
parameters:
  K: {typical: 0.02 1/h, status: assumed}
  S: {typical: 0.1 1/mg, scale: identity, status: assumed}
  U: {typical: 0.01 1/h, scale: identity, status: assumed}
equations: |
  d/dt(A) = -K*A
  UP = K*(1 - S*A)
  FLAT = U
outputs: {A: {is: A}}
events: {moves: {hazard: UP, kind: recurrent}, flat: {hazard: FLAT, kind: recurrent}}
"""
    engine, n = compiled(Model.parse(text)), 3
    rows = np.array([[0.02, 0.1, 0.01], [0.02, 0.5, 0.01], [0.02, 0.1, -0.01]])
    wanted = {"moves": np.tile([0.5, 1.0], (n, 1)), "flat": np.tile([0.5, 1.0], (n, 1))}
    found = solve(engine, rows, doses(n, [0.0], 5.0), np.array([1.0, 10.0, 400.0]), thresholds=wanted)
    assert found.status.tolist() == [0, SolveStatus.NEGATIVE_HAZARD, SolveStatus.NEGATIVE_HAZARD]
    assert np.isfinite(found.crossings["moves"][0]).all()
    assert np.isnan(found.crossings["moves"][1:]).all()
    assert np.isnan(found.values[1:]).all()
    assert "negative" in SolveStatus.NEGATIVE_HAZARD.advice
