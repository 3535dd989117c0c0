"""Derivatives on the graph against the complex step (exact to rounding: Squire & Trapp, SIAM Rev 1998;40:110)."""

from __future__ import annotations

import cmath

import numpy as np
import pytest

from pkpd.engine.derive import Derivatives, affine, jacobian
from pkpd.engine.graph import Graph
from pkpd.model.equations import expression

STEP = 1e-30
VALUES = {"x": 0.7, "y": 1.9, "p": 0.4, "TIME": 3.0}
SMOOTH = [
    "x*y + p", "x/y - y/x", "(x + 2*y)^3/(1 + x)^2", "exp(-p*x)*log(y + x)", "x^p + p^x + y^(x + 1)", "sqrt(x*y + p^2)",
    "expit(x - y) + logit(x*p)", "tanh(x/y)*TIME", "1 - x*(y/(p + y))", "log10(x + y)*x", "-x^-2",
    "E0*p*(1 - x*C/(0.3 + C))", "exp(x)/exp(x)", "(x*y)^1.7/(p^1.7 + (x*y)^1.7)",
]  # fmt: skip
BRANCHED = [
    ("abs(x - y)", -1.0), ("if(x < y, x^2, y)", 1.4), ("min(x, y, 5*x)", 1.0), ("max(x, y)*x", 1.9),
    ("floor(3*x) + x", 1.0), ("if(x > y, x, 3)", 0.0), ("max(2*x, y)", 0.0),
]  # fmt: skip


def graph_of(text):
    graph = Graph(frozenset({"x", "y", "TIME"}))
    names = {n: graph.symbol(n) for n in VALUES}
    names |= {"C": graph.of(expression("x*TIME"), names), "E0": graph.number(9.0)}
    return graph, names, graph.of(expression(text), names)


def run(graph, root, values):
    """The value of a node, with complex numbers."""
    one = {
        "neg": lambda a: -a, "exp": cmath.exp, "log": cmath.log, "sqrt": cmath.sqrt, "tanh": cmath.tanh,
        "expit": lambda a: 1 / (1 + cmath.exp(-a)), "abs": lambda a: a if a.real >= 0 else -a,
        "floor": lambda a: complex(np.floor(a.real)), "not": lambda a: not a,
    }  # fmt: skip
    two = {
        "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
        "power": lambda a, b: cmath.exp(b * cmath.log(a)), "<": lambda a, b: a.real < b.real,
        ">": lambda a, b: a.real > b.real, "==": lambda a, b: a == b,
        "min": lambda a, b: a if a.real < b.real else b, "max": lambda a, b: a if a.real > b.real else b,
    }  # fmt: skip
    found = {}
    for n in graph.needed([root]):
        node = graph.nodes[n]
        args = [found[a] for a in node.args]
        if node.op == "number":
            found[n] = complex(node.value)
        elif node.op == "symbol":
            found[n] = complex(values[node.value])
        elif node.op == "if":
            found[n] = args[1] if args[0] else args[2]
        else:
            found[n] = (one if len(args) == 1 else two)[node.op](*args)
    return found[root]


@pytest.mark.parametrize("text", SMOOTH)
@pytest.mark.parametrize("name", sorted(VALUES))
def test_derivatives_equal_the_complex_step(text, name):
    graph, names, node = graph_of(text)
    slope = Derivatives(graph, {names[name]: graph.number(1.0)}).of(node)
    expected = run(graph, node, {**VALUES, name: VALUES[name] + STEP * 1j}).imag / STEP
    found = 0.0 if slope is None else run(graph, slope, VALUES).real
    assert found == pytest.approx(expected, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(("text", "expected"), BRANCHED)
def test_a_branch_has_the_derivative_of_its_side(text, expected):
    graph, names, node = graph_of(text)
    slope = Derivatives(graph, {names["x"]: graph.number(1.0)}).of(node)
    assert (0.0 if slope is None else run(graph, slope, VALUES).real) == pytest.approx(expected)


def test_a_seed_may_be_any_node():
    # chain rule: with dx = p y, dy = -x the derivative along the flow of x^2 + y is 2 x p y - x
    graph, names, node = graph_of("x^2 + y")
    flow = {names["x"]: graph.of(expression("p*y"), names), names["y"]: graph.of(expression("-x"), names)}
    slope = Derivatives(graph, flow).of(node)
    assert run(graph, slope, VALUES).real == pytest.approx(2 * 0.7 * 0.4 * 1.9 - 0.7)


def test_zeros_by_structure_are_left_out():
    graph, names, node = graph_of("x*p")
    other = graph.of(expression("y + floor(x)"), names)
    assert set(jacobian(graph, [node, other], [names["x"], names["y"]])) == {(0, 0), (1, 1)}
    assert Derivatives(graph, {names["TIME"]: graph.number(1.0)}).of(node) is None


def test_power_at_zero_has_no_spurious_nan():
    graph, names, node = graph_of("x^p")
    slope = Derivatives(graph, {names["p"]: graph.number(1.0)}).of(node)
    assert graph.nodes[slope].op in ("if", "*")
    kept = [n for n in graph.needed([slope]) if graph.nodes[n].op == "if"]
    assert kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [("p*x - y/p + 3", True), ("(x + y)*p*p", True), ("x*y", False), ("x/y", False), ("p*TIME + x", False),
     ("floor(x)", False), ("if(x > 1, 1, 0)*0 + x", False), ("if(p > 1, 2, p)*x", True), ("exp(x)", False)],
)  # fmt: skip
def test_affine(text, expected):
    graph, names, node = graph_of(text)
    assert affine(graph, node, [names["x"], names["y"]]) is expected


def test_a_chain_of_doublings_is_cheap():
    graph, names, node = graph_of("x")
    for _ in range(60):
        node = graph.apply("+", node, node)
    assert affine(graph, node, [names["x"]])
    assert len(graph.nodes) < 400


@pytest.mark.parametrize(
    ("text", "p", "expected"), [("x^p", 0.4, 0.0), ("x^0.4", 0.4, 0.0), ("sqrt(x)", 0.4, 0.0), ("x^p", 1.0, 1.0),
                                ("x^p", 2.5, 0.0), ("x^p*y", 0.4, 0.0)],
)  # fmt: skip
def test_an_infinite_slope_at_zero_is_left_out(text, p, expected):
    graph, names, node = graph_of(text)
    slope = Derivatives(graph, {names["x"]: graph.number(1.0)}).of(node)
    assert _lazily(graph, slope, {**VALUES, "x": 0.0, "p": p}) == expected


def _lazily(graph, root, values):
    """The value of a node with NumPy's numbers: the branch not taken may be infinite."""
    two = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "power": np.power, "==": np.equal}
    found = {}
    with np.errstate(all="ignore"):
        for n in graph.needed([root]):
            node = graph.nodes[n]
            args = [found[a] for a in node.args]
            if node.op in ("number", "symbol"):
                found[n] = np.float64(node.value if node.op == "number" else values[node.value])
            elif node.op == "if":
                found[n] = args[1] if args[0] else args[2]
            else:
                found[n] = np.sqrt(*args) if node.op == "sqrt" else two[node.op](*args)
    return found[root]
