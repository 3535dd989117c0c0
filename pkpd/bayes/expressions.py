"""Expressions of a model text as PyTensor graphs: the same tree the simulation evaluates, so one meaning for both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import pytensor.tensor as pt

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model import equations as tree

__all__ = ["graph"]

_ARITHMETIC: dict[str, Any] = {"+": pt.add, "-": pt.sub, "*": pt.mul, "/": pt.true_div, "^": pt.pow}
_COMPARISONS: dict[str, Any] = {"<": pt.lt, "<=": pt.le, ">": pt.gt, ">=": pt.ge, "==": pt.eq, "!=": pt.neq}
_FUNCTIONS: dict[str, Any] = {
    "abs": pt.abs, "ceil": pt.ceil, "exp": pt.exp, "expit": pt.sigmoid, "floor": pt.floor, "log": pt.log,
    "log10": pt.log10, "logit": lambda x: pt.log(x / (1.0 - x)), "pow": pt.pow, "sqrt": pt.sqrt, "tanh": pt.tanh,
    "if": pt.switch, "max": lambda *x: reduce(pt.maximum, x), "min": lambda *x: reduce(pt.minimum, x),
}  # fmt: skip


def graph(expr: tree.Expr, values: Mapping[str, Any]) -> Any:
    """The expression over PyTensor variables or numbers that broadcast. Errors: InputError for a name without a
    value.
    """
    match expr:
        case tree.Number(value):
            return value
        case tree.Name(name, where):
            if name not in values:
                raise InputError("has no value", where=where, value=name, remedy=nearest(name, values))
            return values[name]
        case tree.Unary(_, operand):
            return -graph(operand, values)
        case tree.Binary(op, left, right):
            return _ARITHMETIC[op](graph(left, values), graph(right, values))
        case tree.Compare(ops, operands):
            parts = [graph(o, values) for o in operands]
            links = [_COMPARISONS[op](a, b) for op, a, b in zip(ops, parts, parts[1:], strict=False)]
            return reduce(pt.and_, links)
        case tree.Logic("not", (operand,)):
            return pt.invert(graph(operand, values))
        case tree.Logic(op, operands):
            return reduce(pt.and_ if op == "and" else pt.or_, [graph(o, values) for o in operands])
    return _FUNCTIONS[expr.function](*(graph(a, values) for a in expr.args))
