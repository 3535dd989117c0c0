"""Models without states: outputs, statistics and hazards that are functions of parameters, covariates and time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar

from pkpd.engine.build import compiled
from pkpd.engine.changes import Changes
from pkpd.engine.solve import SolveStatus, solve
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: still
covariates: {AGE: {unit: year, reference: 60}}
parameters:
  S0: {typical: 20 1, status: assumed}
  K:  {typical: 0.01 1/h, status: assumed}
  H:  {typical: 0.02 1/h, status: assumed}
  W1: {typical: 6 h, status: assumed}
  SL: {typical: 0.1 1/year, in: 1/year, status: assumed}
equations: |
  START = S0 + SL*(AGE - 60)
  SCORE = START*(1 - exp(-K*TIME)) + 3*exp(-((TIME - 40)/W1)^2)
  HZ = H*(1 + TIME*K)
  SUM = AV + HI + LO
summaries:
  AV: {of: SCORE, as: average, window: 48 h}
  HI: {of: SCORE, as: maximum, window: 48 h}
  LO: {of: SCORE, as: minimum, window: 48 h}
events: {DROP: {hazard: HZ, kind: terminal}}
outputs: {Y: {is: SCORE, error: {additive: 1 1}}, Z: {is: SUM}}
"""
P = np.array([[20.0, 0.01, 0.02, 6.0, 0.1], [10.0, 0.03, 0.05, 6.0, 0.1]])
AGE = np.array([60.0, 80.0])
TIMES = np.array([0.0, 5.0, 40.0, np.nan, 96.0, 48.0])
LATE = Changes(
    offsets=np.array([0, 1, 1]), time=np.array([40.0]), parameters=np.array([[30.0, 0.01, 0.02, 6.0, 0.1, 60.0]]),
    late=np.array([False]),
)  # fmt: skip


def score(t, row, age):
    s0, k, _, width, slope = row
    return (s0 + slope * (age - 60)) * (1 - np.exp(-k * t)) + 3 * np.exp(-(((t - 40) / width) ** 2))


@pytest.fixture(scope="module")
def model():
    return compiled(Model.parse(TEXT))


def asked(model, **more):
    return solve(model, P, Events.shared(nothing(), 2), TIMES,
                 covariates={"AGE": AGE}, **more)  # fmt: skip


def nothing():
    empty = np.empty(0)
    return Schedule(empty, empty, empty.astype(np.int32), empty, empty, empty.astype(np.int8))


def test_values_are_the_formula(model):
    """Witness: the formula in NumPy."""
    found = asked(model)
    assert found.status.tolist() == [0, 0]
    wanted = np.stack([score(TIMES, row, age) for row, age in zip(P, AGE, strict=True)])
    np.testing.assert_allclose(found.values[:, 0], wanted, rtol=1e-14, atol=1e-15)


def test_windows_by_quadrature(model):
    """Witness: SciPy's quad and minimize_scalar over [time - 48 h, time], cut at 0."""
    found = asked(model, rtol=1e-9, atol=1e-11)
    for i, (row, age) in enumerate(zip(P, AGE, strict=True)):
        for k, t in ((4, 96.0), (2, 40.0), (5, 48.0)):
            lo = max(t - 48.0, 0.0)
            area = quad(score, lo, t, args=(row, age), epsabs=1e-12, points=[30, 40, 50] if t > 50 else None)[0]
            assert found.summaries["AV"][i, k] == pytest.approx(area / (t - lo), rel=1e-8)
        peak = minimize_scalar(
            lambda t, row=row, age=age: -score(t, row, age), bounds=(35, 48), method="bounded", options={"xatol": 1e-9}
        )
        assert found.summaries["HI"][i, 5] == pytest.approx(-peak.fun, rel=1e-6)
        assert found.summaries["LO"][i, 4] == pytest.approx(min(score(np.linspace(48, 96, 99999), row, age)), rel=1e-6)


def test_hazard_crosses_where_its_integral_does(model):
    """Witness: the root of H (t + K t^2/2) = threshold; nothing after the terminal event."""
    found = asked(model, thresholds={"DROP": np.array([1.0, 0.7])}, rtol=1e-10, atol=1e-12)
    for i, level in enumerate((1.0, 0.7)):
        _, k, h, *_ = P[i]
        at = brentq(lambda t, k=k, h=h, level=level: h * (t + k * t * t / 2) - level, 0, 200, xtol=1e-13)
        assert found.crossings["DROP"][i, 0] == pytest.approx(at, rel=1e-9)
        assert np.isnan(found.values[i, 0][at < TIMES]).all()
        assert np.isfinite(found.values[i, 0][at > TIMES]).all()
    plain = asked(model, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.summaries["AV"][:, 1], plain.summaries["AV"][:, 1], rtol=1e-8)


@pytest.mark.parametrize("after", [False, True])
def test_changes_hold_from_their_time(after):
    """Witness: the formula with the parameters in force; at the change's own time `after` decides."""
    text = TEXT.split("summaries:")[0].replace("  SUM = AV + HI + LO\n", "").replace("  HZ = H*(1 + TIME*K)\n", "")
    text += "events: {A: {hazard: SCORE2}}\noutputs: {Y: {is: SCORE2, error: {additive: 1 1/h}}}\n"
    text = (
        text.replace("  SCORE = ", "  SCORE2 = H*").replace("START*(1 -", "(START*(1 -").replace("/W1)^2)", "/W1)^2))")
    )
    found = solve(compiled(Model.parse(text)), P, Events.shared(nothing(), 2), TIMES, covariates={"AGE": AGE},
                  changes=LATE, after=after)  # fmt: skip
    old, new = (P[0, 2] * score(TIMES, row, 60.0) for row in (P[0], LATE.parameters[0, :5]))
    wanted = np.where((TIMES > 40.0) | (after & (TIMES == 40.0)), new, old)
    np.testing.assert_allclose(found.values[0, 0], wanted, rtol=1e-14, atol=1e-16)


def test_parameter_that_is_not_finite_is_a_counted_failure(model):
    bad = P.copy()
    bad[1, 0] = np.inf
    found = solve(model, bad, Events.shared(nothing(), 2), TIMES, covariates={"AGE": AGE})
    assert found.failures() == {SolveStatus.NOT_FINITE: 1}
    assert np.isnan(found.values[1]).all()
    assert np.isfinite(found.values[0, 0, :3]).all()


@pytest.mark.parametrize("name", ["conrado_alzheimer", "maringwa_depression", "plan_pain", "schoemaker_levetiracetam"])
def test_library_models_without_states_are_solved(name):
    """Every golden value that is an equation of the dynamics, typical values: the engine gives a number for it."""
    model = load(name)
    rows = np.array([[inside(p) for p in model.parameters.values()]])
    given = {n: c.reference for n, c in model.inputs.items()}
    found = solve(compiled(model), rows, Events.shared(nothing(), 1), np.array([0.0, 10.0]), covariates=given)
    assert found.status.tolist() == [0]
    assert found.values.shape[0] == 1
    assert np.isfinite(found.values).all()


def inside(parameter):
    from pkpd.model.parts import inside as number

    return number(parameter.typical) if hasattr(parameter.typical, "unit") else float(parameter.typical)
