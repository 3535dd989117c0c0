"""Equations that jump or bend at times that the text gives: the solver stops there, and no step sees both sides.

Witness: the piecewise solution of A' = R(t) - K A, in closed form.
"""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.changes import Changes
from pkpd.engine.dynamics import dynamics_of
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import SolveStatus, solve
from pkpd.engine.structure import inlined
from pkpd.model.equations import evaluate
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: edges
states: {A: mg, B: mg}
parameters:
  K:  {typical: 0.1 1/h, status: assumed}
  T1: {typical: 7.3 h, status: assumed}
  T2: {typical: 31 h, status: assumed}
  R:  {typical: 5 mg/h, status: assumed}
  S:  {typical: 0.2 mg/h^2, status: assumed}
equations: |
  DAY = TIME/24
  LATE = DAY*2 - T2/12
  LEFT = T2 - TIME
  IN = if(TIME >= T1 and LATE <= 0, R, 0) + S*max(LEFT, T2 - 2*TIME + 40)
  d/dt(A) = IN - K*A
  d/dt(B) = if(B > 1000, 0, S*abs(TIME - T2)) - K*B
outputs: {A: {is: A}, B: {is: B}}
"""
P = np.array([0.1, 7.3, 31.0, 5.0, 0.2])
TIMES = np.array([3.0, 7.3, 7.31, 20.0, 31.0, 31.5, 40.0, 47.0, 90.0])
NOTHING = Events.pack([Schedule(*(np.empty(0, t) for t in (float, float, np.int32, float, float, np.int8)))])


def line(t, k, a, b):
    """Particular solution of y' = a + b t - k y."""
    return (a - b / k) / k + b * t / k


def witness(p):
    """A at TIMES: between the edges R(t) is a + b t."""
    k, t1, t2, r, s = p
    edges, y, begin, found = [t1, t2, 40.0, np.inf], 0.0, 0.0, []
    pieces = [  # max(t2 - t, t2 - 2t + 40): the second until t = 40
        (s * (t2 + 40), -2 * s), (r + s * (t2 + 40), -2 * s), (s * (t2 + 40), -2 * s), (s * t2, -s),
    ]  # fmt: skip
    for end, (a, b) in zip(edges, pieces, strict=True):
        for t in TIMES[(begin < TIMES) & (end >= TIMES)]:
            found.append(line(t, k, a, b) + (y - line(begin, k, a, b)) * np.exp(-k * (t - begin)))
        y = line(end, k, a, b) + (y - line(begin, k, a, b)) * np.exp(-k * (end - begin)) if end < np.inf else y
        begin = end
    return np.array(found)


@pytest.fixture(scope="module")
def model():
    return Model.parse(TEXT)


def test_times_found_in_the_text(model):
    """Each comparison that is straight in time on both sides, those at which something jumps first."""
    dynamics = dynamics_of(model)
    values = dict(zip(model.parameters, P, strict=True))
    times = [float(evaluate(inlined(stop, dynamics.assigned), values)) for stop in dynamics.stops]
    assert times[: dynamics.jumps] == pytest.approx([7.3, 31.0])
    assert times[dynamics.jumps :] == pytest.approx([40.0, 31.0])


@pytest.mark.parametrize(("path", "steps"), [("tsit5", 220), ("rodas5p", 150)])
def test_no_step_is_lost_at_an_edge(model, path, steps):
    """Few steps do: a jump inside a step costs tens that are refused. The error is that of smooth pieces."""
    tight = {"rtol": 1e-9, "atol": 1e-16}
    found = solve(compiled(model), P[None], NOTHING, TIMES, path=path, max_steps=steps, **tight)
    assert found.status[0] == SolveStatus.OK
    np.testing.assert_allclose(found.values[0, 0], witness(P), rtol=1e-8)


def test_sensitivities_to_the_edges(model):
    """Against central differences of the closed form."""
    found = sensitivities(compiled(model), P[None], NOTHING, TIMES, wrt=["T1", "T2"], rtol=1e-9, atol=1e-11)
    inside = ~np.isin(TIMES, [7.3, 31.0])  # at an edge the derivative has two sides
    for k in (0, 1):
        up, down = P.copy(), P.copy()
        up[k + 1] *= 1 + 1e-6
        down[k + 1] *= 1 - 1e-6
        slope = (witness(up) - witness(down)) / 2e-6
        np.testing.assert_allclose(found.gradient[0, 0, k][inside], slope[inside], rtol=1e-6, atol=1e-6)


def test_a_moment_that_every_row_of_parameters_names_counts_once(model):
    """R changes at 20 h, T1 never does: dA/dlog T1 = -T1 R(T1) exp(-K (t - T1)) after T1, 0 before."""
    later = P * np.array([1, 1, 1, 2, 1])
    changes = Changes(offsets=np.array([0, 1]), time=np.array([20.0]), parameters=later[None], late=np.array([False]))
    found = sensitivities(
        compiled(model), P[None], NOTHING, TIMES, wrt=["T1"], changes=changes, rtol=1e-9, atol=1e-11
    )  # fmt: skip
    since = TIMES - 7.3
    np.testing.assert_allclose(
        found.gradient[0, 0, 0], np.where(since > 0, -7.3 * 5 * np.exp(-0.1 * since), 0.0), rtol=1e-7, atol=1e-9
    )
