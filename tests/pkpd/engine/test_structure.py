"""Which equations have the one-compartment closed form, whatever their names; what generated code may contain."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from pkpd.engine.build import compiled, of_dynamics
from pkpd.engine.dynamics import Dynamics, dynamics_of
from pkpd.engine.generate import source
from pkpd.engine.solve import solve
from pkpd.engine.structure import one_compartment
from pkpd.model.equations import equations, evaluate, in_order, show
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule

ABSORPTION = "d/dt(depot) = -KA*depot\n"


def dynamics(text, states=("depot", "central"), parameters=("KA", "CL", "V", "K"), outputs=("C",)):
    lines = equations(text)
    pick = lambda kind: {e.target: e.expression for e in lines if e.kind == kind}  # noqa: E731
    return Dynamics(
        states=states, parameters=parameters,
        assigned={e.target: e.expression for e in in_order(lines)},
        derivative=pick("derivative"), initial=pick("initial"), bioavailability={}, lag={}, outputs=outputs,
    )  # fmt: skip


FOUND = [
    (ABSORPTION + "C = central/V\nd/dt(central) = KA*depot - CL*C", "KA", "CL/V"),
    (ABSORPTION + "C = central/V\nd/dt(central) = KA*depot - K*central", "KA", "K"),
    (ABSORPTION + "C = central/V\nd/dt(central) = -(CL/V)*central + KA*depot", "KA", "CL/V"),
    ("C = central/V\nIN = KA*depot\nd/dt(depot) = -IN\nd/dt(central) = IN - C*CL", "KA", None),
    (ABSORPTION + "C = 1000*central/V\nd/dt(central) = depot*KA - CL*central/V", "KA", None),
]


@pytest.mark.parametrize(("text", "ka", "ke"), FOUND)
def test_the_form_is_found(text, ka, ke):
    form = one_compartment(dynamics(text))
    assert form is not None
    assert (form.depot, form.central, show(form.ka)) == ("depot", "central", ka)
    values = {"CL": np.array(3.0), "V": np.array(30.0), "K": np.array(0.1), "KA": np.array(1.0)}
    assert float(evaluate(form.ke, values)) == pytest.approx(0.1, rel=1e-15)
    assert ke is None or show(form.ke) == ke
    assert "C" in form.scale


def test_names_and_order_of_states_are_free():
    text = "C = b/V\nd/dt(b) = KA*a - K*b\nd/dt(a) = -KA*a"
    form = one_compartment(dynamics(text, states=("b", "a")))
    assert form is not None
    assert (form.depot, form.central) == ("a", "b")


def test_intravenous_form_has_no_depot():
    form = one_compartment(dynamics("C = x/V\nd/dt(x) = -CL*C", states=("x",)))
    assert form is not None
    assert form.depot is None


NOT_FOUND = [
    ABSORPTION + "C = central/V\nd/dt(central) = KA*depot - CL*C/(K + C)",
    ABSORPTION + "C = central/V\nd/dt(central) = 0.5*KA*depot - CL*C",
    ABSORPTION + "C = central/V\nd/dt(central) = KA*depot - CL*C + K",
    ABSORPTION + "C = central/V\ncentral(0) = K\nd/dt(central) = KA*depot - CL*C",
    "C = central/V\nd/dt(depot) = -KA*depot + K*central\nd/dt(central) = KA*depot - CL*C",
    ABSORPTION + "C = central/V\nd/dt(central) = KA*depot - if(C > 5, CL, K)*C",
]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_other_forms_are_left_to_the_ode_path(text):
    assert one_compartment(dynamics(text)) is None


def test_a_nonlinear_output_of_a_linear_model_is_evaluated_on_the_closed_form():
    text = ABSORPTION + "C = central/V\nE = C^2/(1 + C^2)\nd/dt(central) = KA*depot - CL*C"
    model = of_dynamics(dynamics(text, outputs=("E", "depot")))
    zero = np.zeros(1)
    dose = Schedule(zero, zero + 100.0, np.zeros(1, np.int32), zero, zero, zero.astype(bool))
    arguments = (np.array([[0.7, 3.0, 30.0, 0.0]]), Events.shared(dose, 1), [1.0, 5.0])
    closed = solve(model, *arguments, path="closed")
    ode = solve(model, *arguments, path="ode", rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(closed.values, ode.values, rtol=1e-8)


def test_every_function_of_the_language_means_the_same_in_both_layers():
    # witness: the NumPy evaluation of the same expression on the solved states
    text = (
        "d/dt(depot) = -KA*depot\nd/dt(central) = KA*depot\n"
        "C = exp(-depot/50) + log(1 + central) + log10(2 + depot) + sqrt(central + 1) + abs(depot - central)/100\n"
        "D = expit(depot/30 - 1) + logit(0.2 + central/1000) + tanh(depot/40) + tanh(depot/1e6) + floor(depot/7)\n"
        "E = ceil(central/9) + min(depot, central, 20) + max(depot, 30) + pow(depot + 1, V) + depot^3\n"
        "H = (1 + depot)^-2\n"
        "G = if(depot > 40 and not central > 70 or V == 2, depot^0.5, -central) + if(10 < depot <= 60, 1, 0)"
    )
    outputs = ("C", "D", "E", "G", "H", "depot", "central")
    model = of_dynamics(dynamics(text, outputs=outputs))
    zero = np.zeros(1)
    dose = Schedule(zero, zero + 100.0, np.zeros(1, np.int32), zero, zero, zero.astype(bool))
    parameters = np.array([[0.3, 3.0, 0.7, 0.0], [1.3, 3.0, 2.0, 0.0]])
    found = solve(model, parameters, Events.shared(dose, 2), np.linspace(0.3, 12, 23), path="ode").values
    names = {p: parameters[:, [k]] for k, p in enumerate(model.parameters)}
    names |= {"depot": found[:, 5], "central": found[:, 6]}
    for k, name in enumerate(outputs[:5]):
        np.testing.assert_allclose(found[:, k], evaluate(model.dynamics.assigned[name], names), rtol=1e-13)


def test_a_condition_on_a_missing_value_is_not_a_number():
    text = "d/dt(depot) = -KA*depot\nd/dt(central) = KA*depot\nC = if(log(0 - depot) > 0, 1, 2)"
    zero = np.zeros(1)
    dose = Schedule(zero, zero + 100.0, np.zeros(1, np.int32), zero, zero, zero.astype(bool))
    model = of_dynamics(dynamics(text))
    found = solve(model, np.ones((1, 4)), Events.shared(dose, 1), [1.0], path="ode").values
    assert np.isnan(found).all()


def test_generated_source_has_no_word_of_the_user():
    text = source(dynamics(FOUND[0][0].replace("central", "sneaky_name").replace("KA", "KABOOM"),
                           states=("depot", "sneaky_name"), parameters=("KABOOM", "CL", "V", "K")))  # fmt: skip
    assert "sneaky" not in text
    assert "KABOOM" not in text
    assert "eval" not in text
    assert "import os" not in text


SCRIPT = """
import hashlib, sys
from pkpd.engine.dynamics import dynamics_of
from pkpd.engine.generate import source
from pkpd.model.library import load
print(hashlib.sha256(source(dynamics_of(load("theophylline"))).encode()).hexdigest(), "sympy" in sys.modules,
      "numba" in sys.modules)
"""


def test_the_source_is_the_same_in_every_process_and_needs_no_sympy():
    seen = set()
    for seed in ("0", "1", "4711"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        seen.add(run.stdout)
    assert len(seen) == 1
    assert seen.pop().split()[1:] == ["False", "False"]


def test_a_compiled_model_is_plain_data():
    import pickle

    model = compiled(load("theophylline"))
    assert pickle.loads(pickle.dumps(model)).source == model.source  # noqa: S301
    assert dynamics_of(load("theophylline")).digest() == model.dynamics.digest()


def test_a_chain_of_doublings_does_not_hang():
    # written out, the last name has 2^60 terms
    chain = "A0 = central\n" + "".join(f"A{k + 1} = A{k} + A{k}\n" for k in range(60))
    text = ABSORPTION + chain + "C = A60\nd/dt(central) = KA*depot - CL/V*central"
    model = of_dynamics(dynamics(text))
    assert model.form is None
    assert len(model.source) < 40_000
