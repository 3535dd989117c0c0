"""Roots of a state that starts at zero: C^G with G < 1 has an infinite slope there. Witness: SciPy's quadrature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad

from pkpd.engine.build import compiled
from pkpd.engine.choice import Choice
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import solve
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: roots
states: {depot: mg, central: mg, A: "1", B: "1"}
parameters:
  KA: {typical: 1.3 1/h, status: assumed}
  CL: {typical: 2 L/h, status: assumed}
  V:  {typical: 20 L, status: assumed}
  EC: {typical: 1.5 mg/L, status: assumed}
  G:  {typical: 0.424 1, status: assumed}
  M:  {typical: 9 h, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
  A(0) = 1
  d/dt(A) = (1/(1 + (max(C, 0)/EC)^G) - A)/M
  d/dt(B) = (sqrt(C/EC) - B)/M
outputs: {CP: {is: C}, A: {is: A}, B: {is: B}}
"""
P = np.array([1.3, 2.0, 20.0, 1.5, 0.424, 9.0])
DOSE, START = 100.0, 2.0
TIMES = np.array([0.5, 1.9, 2.001, 2.3, 3.0, 5.0, 9.0, 20.0, 48.0])


def witness(p, dose=DOSE):
    """A and B at TIMES: exp(-t/M) and the integral of what drives them, with the root at its end taken out by s = x^2."""
    ka, cl, v, ec, g, m = p
    ke = cl / v

    def c(s):
        return max(dose / v * ka / (ka - ke) * (np.exp(-ke * s) - np.exp(-ka * s)), 0.0)

    def part(f, s):  # integral over the time since the dose of f(C) exp(-(s - u)/m)/m
        def inside(x):
            return 2 * x * f(c(x * x)) * np.exp(-(s - x * x) / m) / m

        return quad(inside, 0, np.sqrt(s), epsabs=1e-14, epsrel=1e-13, limit=500)[0]

    since = TIMES - START
    late = since > 0  # before the dose both are at rest
    a = [
        np.exp(-s / m) + part(lambda x: 1 / (1 + (x / ec) ** g), s) if on else 1.0
        for s, on in zip(since, late, strict=True)
    ]
    b = [part(lambda x: np.sqrt(x / ec), s) if on else 0.0 for s, on in zip(since, late, strict=True)]
    return np.array([a, b])


def given():
    zero = np.zeros(1)
    one = Schedule(zero + START, zero + DOSE, zero.astype(np.int32), zero, zero, zero.astype(np.int8))
    return Events.pack([one])


@pytest.fixture(scope="module")
def model():
    return compiled(Model.parse(TEXT))


@pytest.mark.parametrize("path", ["tsit5", pytest.param("rodas5p", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("rtol", "bar"), [(1e-6, 3e-6), (1e-10, 1e-9)])
def test_values(model, path, rtol, bar):
    found = solve(model, P[None], given(), TIMES, path=path, rtol=rtol, atol=1e-2 * rtol)
    assert found.status.tolist() == [0]
    assert np.abs(found.values[0, 1:] - witness(P)).max() <= bar


def test_sensitivities(model):
    """Against sixth-order differences of the quadrature; before the dose they are 0, not NaN."""
    names = ["dose(depot)"]
    stiff = replace(model, choice=Choice(method="rodas5p"))
    found = sensitivities(stiff, P[None], given(), TIMES, wrt=names, path="ode", rtol=1e-8, atol=1e-10)
    assert found.status.tolist() == [0]
    steps, weights = 4e-3 * np.array([3, 2, 1, -1, -2, -3]), np.array([1, -9, 45, -45, 9, -1]) / 60 / 4e-3
    for k, name in enumerate(names):
        moved = []
        for h in steps:
            p, dose = P.copy(), DOSE
            if name in model.parameters:
                p[model.parameters.index(name)] *= np.exp(h)
            else:
                dose *= np.exp(h)
            moved.append(witness(p, dose))
        slope = np.einsum("s,sot->ot", weights, moved)
        top = np.abs(slope).max(axis=1, keepdims=True)
        assert (np.abs(found.gradient[0, 1:, k] - slope) <= 1e-6 * top + 1e-12).all(), name
        assert (found.gradient[0, 1:, k, :2] == 0.0).all()
