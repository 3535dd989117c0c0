"""sin, cos, lgamma and factorial inside derivatives, initial values, outputs and sensitivities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from scipy.integrate import solve_ivp

from pkpd.engine.build import compiled
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import solve
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: wave
states: {A: mg, B: mg}
parameters:
  R:  {typical: 5 mg/h, status: assumed}
  K:  {typical: 0.3 1/h, status: assumed}
  OM: {typical: 0.26 1/h, status: assumed}
  N:  {typical: 2.5 1, status: assumed}
  M0: {typical: 1 mg, status: assumed}
equations: |
  A(0) = M0*factorial(N)
  d/dt(A) = R*(1 + 0.5*cos(OM*TIME) + 0.2*sin(2*OM*TIME)) - K*A
  d/dt(B) = K*A*sin(A/M0)^2 - 0.1*K*B*lgamma(2 + A/M0)
  Y = B*cos(B/M0) + M0*lgamma(N)
outputs: {O: {is: Y}, P: {is: A}}
"""
P = np.array([[5.0, 0.3, 0.26, 2.5, 1.0], [2.0, 0.5, 0.7, 3.0, 1.0]])
TIMES = np.array([0.0, 0.5, 3.0, 11.0, 24.0])


def nothing(n):
    empty = np.empty(0)
    return Events.shared(Schedule(empty, empty, empty.astype(np.int32), empty, empty, empty.astype(np.int8)), n)


def reference(row):
    r, k, om, n, m0 = row

    def rhs(t, y):
        a, b = y
        slope = r * (1 + 0.5 * np.cos(om * t) + 0.2 * np.sin(2 * om * t)) - k * a
        return slope, k * a * np.sin(a / m0) ** 2 - 0.1 * k * b * special.gammaln(2 + a / m0)

    start = [m0 * special.gamma(n + 1), 0.0]
    a, b = solve_ivp(rhs, (0, 24), start, t_eval=TIMES, method="DOP853", rtol=1e-12, atol=1e-13).y
    return np.stack([b * np.cos(b / m0) + m0 * special.gammaln(n), a])


@pytest.mark.parametrize("path", ["tsit5", "rodas5p"])
def test_against_scipy(path):
    """Witness: DOP853 with SciPy's own functions."""
    found = solve(compiled(Model.parse(TEXT)), P, nothing(2), TIMES, rtol=1e-10, atol=1e-12, path=path)
    assert found.status.tolist() == [0, 0]
    for i, row in enumerate(P):
        np.testing.assert_allclose(found.values[i], reference(row), rtol=2e-8, atol=1e-9)


@pytest.mark.slow
def test_sensitivities_against_differences():
    """Witness: central differences of the reference solution, extrapolated to order 4."""
    found = sensitivities(compiled(Model.parse(TEXT)), P[:1], nothing(1), TIMES, scale="natural", rtol=1e-9, atol=1e-11)
    for k in range(5):
        wide, narrow = (difference(k, h * P[0, k]) for h in (2e-4, 1e-4))
        slope = (4 * narrow - wide) / 3
        scale = np.abs(slope).max(axis=1, keepdims=True) + 1e-9
        assert (np.abs(found.gradient[0, :, k] - slope) <= 2e-6 * scale).all(), k


def difference(k, h):
    step = np.eye(5)[k] * h
    return (reference(P[0] + step) - reference(P[0] - step)) / (2 * h)
