"""Expressions. Witness: Python's own arithmetic on the same tree for values, the grammar's definition for trees,
Kleene's truth tables for missing values; hypothesis for "nothing but an InputError".
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkpd.ground.errors import InputError, Where
from pkpd.model.equations import (
    FUNCTIONS,
    Binary,
    Call,
    Compare,
    Equation,
    Expr,
    Logic,
    Name,
    Number,
    Unary,
    assignments,
    equations,
    evaluate,
    expression,
    in_order,
    names,
    reach,
    show,
    unknown,
)


def value(text: str, **values: float) -> float:
    return float(evaluate(expression(text), values))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2*3^2", 19.0),
        ("-2^2", -4.0),
        ("(-2)^2", 4.0),
        ("2^3^2", 512.0),
        ("2^-1", 0.5),
        ("8/4/2", 1.0),
        ("8 - 4 - 2", 2.0),
        ("--3", 3.0),
        (".5e1 + 1.", 6.0),
        ("min(3, 1, 2) + max(1, 2)", 3.0),
        ("floor(-1.5) + ceil(1.2) + abs(-3)", 3.0),
        ("sqrt(2)", math.sqrt(2)),
        ("log10(1000)", 3.0),
        ("exp(1.25)", math.exp(1.25)),
        ("log(0.3)", math.log(0.3)),
        ("expit(-40)", 1 / (1 + math.exp(40))),
        ("logit(0.2)", math.log(0.25)),
        ("pow(2.5, 0.3)", 2.5**0.3),
        ("1.7^2.2", 1.7**2.2),
        ("if(1 < 2 and not 3 <= 2, 5, 6)", 5.0),
        ("if(1 <= 1 < 1, 5, 6)", 6.0),
        ("if(1 > 2 or 2 >= 2 and 1 != 1, 5, 6)", 6.0),
    ],
)
def test_values(text: str, expected: float) -> None:
    assert math.isclose(value(text), expected, rel_tol=1e-14)


def test_tanh_keeps_relative_accuracy_near_zero() -> None:
    x = np.concatenate([np.linspace(-20, 20, 2001), np.geomspace(1e-300, 1, 500)])
    got = evaluate(expression("tanh(X)"), {"X": x})
    assert np.allclose(got, np.tanh(x), rtol=4e-16 * 4, atol=0)


def test_bits_do_not_depend_on_the_split() -> None:
    x = np.random.default_rng(1).uniform(0.01, 9, 1001)
    expr = expression("expit(log(X)) + X^2.5*exp(-X) + tanh(X)/log10(X + 2)")
    whole = evaluate(expr, {"X": x})
    assert np.array_equal(whole, np.concatenate([evaluate(expr, {"X": part}) for part in np.array_split(x, 13)]))


def test_whole_powers_are_products() -> None:
    x = np.random.default_rng(2).uniform(-3, 3, 100)
    assert np.array_equal(evaluate(expression("X^3"), {"X": x}), x * x * x)
    assert np.array_equal(evaluate(expression("X^-2"), {"X": x}), 1 / (x * x))


def test_the_tree_is_what_the_grammar_says() -> None:
    assert expression("-KA*depot") == Binary("*", Unary("-", Name("KA")), Name("depot"))
    assert expression("40 <= AGE < 75") == Compare(("<=", "<"), (Number(40.0), Name("AGE"), Number(75.0)))
    a, b, c = (Compare((">",), (Name(name), Number(1.0))) for name in "abc")
    assert expression("a > 1 or b > 1 and not c > 1") == Logic("or", (a, Logic("and", (b, Logic("not", (c,))))))


def test_dotted_names_are_an_option() -> None:
    text = "t300.primary.reject and t300.any_ae.upper < 0.25"
    expr = expression(text, dotted=True)
    assert names(expr) == {"t300.primary.reject", "t300.any_ae.upper"}
    found = evaluate(expr, {"t300.primary.reject": np.array([True, True, False]), "t300.any_ae.upper": [0.1, 0.3, 0.1]})
    assert found.tolist() == [True, False, False]
    with pytest.raises(InputError):
        expression(text)


@pytest.mark.parametrize(
    ("text", "x", "y", "true", "missing"),
    [
        ("X > 1", np.nan, 0, False, True),
        ("not X > 1", np.nan, 0, False, True),
        ("X > 1 and Y > 1", np.nan, 0, False, False),
        ("X > 1 and Y > 1", np.nan, 2, False, True),
        ("X > 1 or Y > 1", np.nan, 2, True, False),
        ("X > 1 or Y > 1", np.nan, 0, False, True),
        ("0 < X < 5", 3, 0, True, False),
        ("X != X", np.nan, 0, False, True),
    ],
)
def test_missing_values_follow_kleene(text: str, x: float, y: float, true: bool, missing: bool) -> None:
    expr = expression(text)
    values = {"X": np.array([x]), "Y": np.array([y])}
    assert (bool(evaluate(expr, values)[0]), bool(unknown(expr, values)[0])) == (true, missing)


def test_an_undecided_if_is_missing() -> None:
    assert math.isnan(value("if(X > 1, 2, 2)", X=math.nan))
    assert math.isnan(value("max(X, 1)", X=math.nan))


@pytest.mark.parametrize(
    ("text", "column", "problem", "remedy"),
    [
        ("", 1, "missing", ""),
        ("a +", 4, "missing", ""),
        ("2x", 2, "runs into", "2*x"),
        ("1_000", 2, "runs into", "underscores"),
        ("1.2.3", 4, "runs into", ""),
        ("a ** b", 3, "should end", "^"),
        ("a = b", 3, "should end", "=="),
        ("a && b", 3, "should end", "and"),
        ("!a", 1, "a value", "not"),
        ("a b", 3, "should end", "operator is missing"),
        ("exq(1)", 1, "unknown function", "'exp'"),
        ("__import__(1)", 1, "unknown function", ""),
        ("exp(1, 2)", 1, "takes 1", ""),
        ("min(1)", 1, "takes 2 to 20", ""),
        ("exp()", 5, "a value", ""),
        ("exp(1,)", 7, "a value", ""),
        ("exp", 1, "cannot stand", "exp(...)"),
        ("(a", 3, "expected )", ""),
        ("a)", 2, "should end", ""),
        ("a and b", 3, "condition is needed", "a == 1"),
        ("if(a, 1, 2)", 1, "condition is needed", "a == 1"),
        ("(a > 1) + 2", 9, "number is needed", ""),
        ("exp(a > 1)", 1, "number is needed", ""),
        ("a.b", 1, "dot", ""),
        ("a é", 3, "not part of", "ASCII"),
        ("a − b", 3, "not part of", "ASCII"),
        ("a[0]", 2, "not part of", ""),
        ("'a'", 1, "not part of", ""),
        ("1e999", 1, "too large", ""),
        ("1e-999", 1, "too small", ""),
        ("9" * 50, 1, "too long", ""),
        ("a" * 200, 1, "name is too long", ""),
    ],
)
def test_errors_name_the_column_and_a_remedy(text: str, column: int, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        expression(text, Where("m.yaml", 3, 10))
    error = caught.value
    assert problem in error.problem
    assert remedy in (error.remedy or "")
    assert (error.file, error.line, error.column) == ("m.yaml", 3, 9 + column)


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "-" * 3000 + "1", "a^" * 1000 + "a", "+".join(["a"] * 1500), "exp(" * 900 + "1" + ")" * 900,
     "not " * 900 + "a > 1", "if(a > 1, " * 300 + "1", "a < " * 1200, "1" * 3999,
     "((" + "a+" * 1990 + "a))", "x" * 100_000],
)  # fmt: skip
def test_limits_hold_and_nothing_hangs(text: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError):
        expression(text)
    assert time.process_time() - start < 1.0


def trees(conditions: bool = False) -> st.SearchStrategy[Expr]:
    """Any tree the grammar can make."""
    leaf = st.one_of(
        st.floats(0, 1e12, allow_nan=False).map(lambda x: Number(0.0 if x < 1e-300 else x)),
        st.sampled_from(["a", "B2", "CL_x"]).map(Name),
    )

    def grown(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
        pair = st.tuples(inner, inner)
        condition = st.builds(
            lambda p, op: Compare((op,), p), pair, st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
        )
        truth = st.one_of(
            condition,
            condition.map(lambda c: Logic("not", (c,))),
            st.builds(lambda a, b, op: Logic(op, (a, b)), condition, condition, st.sampled_from(["and", "or"])),
        )
        one = [f for f, (low, _) in FUNCTIONS.items() if low == 1]
        return st.one_of(
            inner.map(lambda x: Unary("-", x)),
            st.builds(lambda p, op: Binary(op, *p), pair, st.sampled_from(["+", "-", "*", "/", "^"])),
            st.builds(lambda f, x: Call(f, (x,)), st.sampled_from(one), inner),
            st.builds(lambda c, p: Call("if", (c, *p)), truth, pair),
        )

    return st.recursive(leaf, grown, max_leaves=12)


@settings(max_examples=200, deadline=2000)
@given(trees())
def test_what_is_shown_reads_back_as_the_same_tree(expr: Expr) -> None:
    assert expression(show(expr)) == expr


@settings(max_examples=300, deadline=1000)
@given(st.text(alphabet=st.sampled_from("aBd/t0129.eE+-*^()<>=!,&| \n#_éifandor"), max_size=80))
def test_no_text_does_more_than_an_input_error(text: str) -> None:
    for parse in (expression, equations):
        try:
            parse(text)
        except InputError as error:
            assert error.line is not None or "no equation" in error.problem  # noqa: PT017


def test_three_kinds_of_equation_comments_and_line_breaks() -> None:
    text = "# a comment\nC = central/V  # another\n\nR(0) = E0\nd/dt(R) = (KOUT\n   *E0) - R\n"
    found = equations(text)
    assert [(e.kind, e.target, show(e.expression)) for e in found] == [
        ("assign", "C", "central/V"),
        ("initial", "R", "E0"),
        ("derivative", "R", "KOUT*E0 - R"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("A = 1\nA = 2", 2, "twice"),
        ("d/dt(A) = 1\nd/dt(A) = 2", 2, "twice"),
        ("A(1) = 2", 1, "time 0"),
        ("exp = 2", 1, "cannot be used"),
        ("d = 2", 1, "cannot be used"),
        ("a.b = 2", 1, "cannot be used"),
        ("3 = 2", 1, "starts with"),
        ("A == 2", 1, "expected ="),
        ("A = 1 B = 2", 1, "should end"),
        ("A = b > 2", 1, "condition"),
        ("A = (1\nB = 2", 2, "expected )"),
        ("A =", 1, "missing"),
        ("# nothing", None, "no equation"),
    ],
)
def test_bad_equations(text: str, line: int | None, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        equations(text)
    assert problem in caught.value.problem
    assert caught.value.line == line


def test_a_place_inside_a_block_of_yaml() -> None:
    from pkpd.ground.text import parse

    node = parse("equations: |\n    A = 1\n    B = A +* 2\n", "m.yaml")
    with pytest.raises(InputError) as caught:
        equations(node["equations"])  # type: ignore[call-overload, index]
    assert (caught.value.file, caught.value.line, caught.value.column) == ("m.yaml", 3, 12)


def test_order_and_reach() -> None:
    lines = equations("A = B + C\nB = C*X\nC = Y\nD = 1")
    assert [e.target for e in in_order(lines)] == ["C", "B", "A", "D"]
    assert reach(lines)["A"] == {"B", "C", "X", "Y"}
    assert list(assignments(lines)) == ["A", "B", "C", "D"]


def test_a_circle_is_named() -> None:
    with pytest.raises(InputError, match="circle") as caught:
        in_order(equations("X = 1\nA = B + X\nB = C\nC = A"))
    assert caught.value.value == "A -> B -> C -> A"


def test_long_chains_are_ordered_without_recursion() -> None:
    lines = tuple(Equation(kind="assign", target=f"a{i}", expression=Name(f"a{i + 1}")) for i in range(3000))
    assert in_order(lines)[0].target == "a2999"


def test_a_name_without_value_is_an_input_error() -> None:
    with pytest.raises(InputError, match="did you mean 'CL'"):
        value("CLL + 1", CL=1.0)


def test_angles_and_gamma_functions() -> None:
    """Witness: libm through NumPy, scipy.special."""
    from scipy import special

    x = np.concatenate([np.linspace(-1e3, 1e3, 20_001), np.linspace(-1e6, 1e6, 20_001)])
    for name, witness in (("sin", np.sin), ("cos", np.cos)):
        assert np.abs(evaluate(expression(f"{name}(X)"), {"X": x}) - witness(x)).max() < 1e-15
    assert math.isnan(value("sin(1e7)"))
    y = np.geomspace(1e-5, 1e5, 20_001)
    found = evaluate(expression("lgamma(X)"), {"X": y})
    assert (np.abs(found - special.gammaln(y)) <= 1e-14 * np.maximum(np.abs(special.gammaln(y)), 1)).all()
    assert np.isnan(evaluate(expression("lgamma(X)"), {"X": np.array([0.0, -1.5])})).all()
    assert value("factorial(20)") == math.factorial(20)
    assert value("factorial(2.5)") == pytest.approx(special.gamma(3.5), rel=1e-14)
    assert math.isinf(value("factorial(171)"))
