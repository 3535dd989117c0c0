"""Evaluation of an expression over NumPy arrays; no `eval`.

exp, log and powers come from `pkpd.kernels.elementary`, the rest is IEEE arithmetic, so the bits depend neither on
the length nor on the split of the arrays. Conditions follow Kleene's three values: a comparison with NaN is unknown,
`if` of an unknown condition is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model import equations as tree

__all__ = ["evaluate", "unknown"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def evaluate(expr: tree.Expr, values: Mapping[str, Any]) -> NDArray[Any]:
    """The expression over arrays that broadcast; float64, or bool for a condition (False where it is unknown).

    Errors: InputError for a name without a value.

    >>> evaluate(tree.expression("if(X > 1, X^2, 0)"), {"X": np.array([1.0, 3.0])}).tolist()
    [0.0, 9.0]
    """
    with np.errstate(all="ignore"):
        if tree.is_condition(expr):
            truth, known = _truth(expr, values)
            return truth & known
        return _number(expr, values)


def unknown(expr: tree.Expr, values: Mapping[str, Any]) -> Bools:
    """Where a missing value leaves the condition (or the number) undecided."""
    with np.errstate(all="ignore"):
        return ~_truth(expr, values)[1] if tree.is_condition(expr) else np.isnan(_number(expr, values))


def _value(name: tree.Name, values: Mapping[str, Any]) -> Floats:
    if name.id not in values:
        remedy = nearest(name.id, values)
        raise InputError("has no value", where=name.where, field=None, value=name.id, remedy=remedy)
    return np.asarray(values[name.id], np.float64)


def _number(expr: tree.Expr, values: Mapping[str, Any]) -> Floats:
    match expr:
        case tree.Number(value):
            return np.asarray(value, np.float64)
        case tree.Name():
            return _value(expr, values)
        case tree.Unary(_, operand):
            return np.negative(_number(operand, values))
        case tree.Binary("^", left, right):
            return _power(_number(left, values), right, values)
        case tree.Binary(op, left, right):
            return np.asarray(_ARITHMETIC[op](_number(left, values), _number(right, values)))
        case tree.Call("if", (condition, yes, no)):
            truth, known = _truth(condition, values)
            chosen = np.where(truth, _number(yes, values), _number(no, values))
            return np.where(known, chosen, np.nan)
        case tree.Call("pow", (base, exponent)):
            return _power(_number(base, values), exponent, values)
        case tree.Call(function, args):
            return _called(function, [_number(a, values) for a in args])
    raise TypeError(f"not a number: {tree.show(expr)}")


def _truth(expr: tree.Expr, values: Mapping[str, Any]) -> tuple[Bools, Bools]:
    """(true, known): true is meaningful only where known."""
    match expr:
        case tree.Compare(ops, operands):
            numbers = [_number(o, values) for o in operands]
            links = [_link(op, a, b) for op, a, b in zip(ops, numbers, numbers[1:], strict=False)]
            return _both(links)
        case tree.Logic("not", (operand,)):
            truth, known = _truth(operand, values)
            return ~truth, known
        case tree.Logic("and", operands):
            return _both([_truth(o, values) for o in operands])
        case tree.Logic("or", operands):
            parts = [_truth(o, values) for o in operands]
            truth, known = _both([(~t, k) for t, k in parts])
            return ~truth, known
        case tree.Name():
            number = _value(expr, values)
            return number != 0.0, ~np.isnan(number)
    raise TypeError(f"not a condition: {tree.show(expr)}")


def _link(op: str, a: Floats, b: Floats) -> tuple[Bools, Bools]:
    return np.asarray(_COMPARISONS[op](a, b)), np.asarray(~(np.isnan(a) | np.isnan(b)))


def _both(parts: list[tuple[Bools, Bools]]) -> tuple[Bools, Bools]:
    """Kleene's and: known when all are known or one is known to be false."""
    truth, known = parts[0]
    for t, k in parts[1:]:
        false = (known & ~truth) | (k & ~t)
        truth, known = truth & t & ~false, (known & k) | false
    return np.asarray(truth), np.asarray(known)


def _power(base: Floats, exponent: tree.Expr, values: Mapping[str, Any]) -> Floats:
    """x^n as products for a literal whole n up to 16, else by the kernels' power."""
    sign = -1 if isinstance(exponent, tree.Unary) else 1
    literal = exponent.operand if isinstance(exponent, tree.Unary) else exponent
    if isinstance(literal, tree.Number) and literal.value == int(literal.value) and literal.value <= 16:
        product = _whole_power(base, int(literal.value))
        return np.asarray(1.0 / product) if sign < 0 else product
    from pkpd.kernels.elementary import power_array

    return power_array(base, _number(exponent, values))


def _whole_power(base: Floats, n: int) -> Floats:
    product = np.ones_like(base)
    for _ in range(n):
        product = product * base
    return product


def _called(function: str, args: list[Floats]) -> Floats:
    from pkpd.kernels import elementary

    x = args[0]
    match function:
        case "exp":
            return elementary.exp_array(x)
        case "log":
            return elementary.log_array(x)
        case "log10":
            return np.asarray(elementary.log_array(x) / 2.302585092994045684)
        case "expit":
            return elementary.expit_array(x)
        case "logit":
            return elementary.log_array(x / (1.0 - x))
        case "tanh":
            return _tanh(x)
        case "sin" | "cos" | "lgamma" | "factorial":
            from pkpd.model import special

            return np.asarray(getattr(special, function)(x))
        case "min" | "max":
            least = np.minimum if function == "min" else np.maximum
            for other in args[1:]:
                x = np.asarray(least(x, other))
            return x
    plain: dict[str, Any] = {"abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil}
    return np.asarray(plain[function](x))


def _tanh(x: Floats) -> Floats:
    """Lambert's continued fraction below 1/2, (1 - e)/(1 + e) with e = exp(-2|x|) above."""
    from pkpd.kernels.elementary import exp_array

    small = np.clip(x, -0.5, 0.5)
    square = small * small
    fraction = np.full_like(square, 19.0)
    for odd in (17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        fraction = odd + square / fraction
    e = exp_array(-2.0 * np.abs(x))
    return np.where(np.abs(x) <= 0.5, small / fraction, np.copysign((1.0 - e) / (1.0 + e), x))


_ARITHMETIC: dict[str, Any] = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
_COMPARISONS: dict[str, Any] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
