"""Expressions and equations: the tree, the texts that make it (see `parser`), its evaluation and its structure.

`name = expr | state(0) = expr | d/dt(state) = expr`, by our own whitelist grammar; no user text reaches `eval` or
`sympify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pkpd.ground.errors import InputError, Where
from pkpd.ground.text import nearest

__all__ = [
    "FUNCTIONS",
    "Binary",
    "Call",
    "Compare",
    "Equation",
    "Expr",
    "Logic",
    "Name",
    "Number",
    "Unary",
    "assignments",
    "equations",
    "evaluate",
    "expression",
    "in_order",
    "names",
    "reach",
    "show",
    "unknown",
    "walk",
]

FUNCTIONS: Final[dict[str, tuple[int, int]]] = {
    "abs": (1, 1),
    "ceil": (1, 1),
    "cos": (1, 1),
    "exp": (1, 1),
    "expit": (1, 1),
    "factorial": (1, 1),
    "floor": (1, 1),
    "if": (3, 3),
    "lgamma": (1, 1),
    "log": (1, 1),
    "log10": (1, 1),
    "logit": (1, 1),
    "max": (2, 20),
    "min": (2, 20),
    "pow": (2, 2),
    "sin": (1, 1),
    "sqrt": (1, 1),
    "tanh": (1, 1),
}
"""Function -> fewest and most arguments. `if(condition, then, else)`; `log` is natural; angles in radians."""


@dataclass(frozen=True, slots=True)
class Number:
    """A finite literal >= 0."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter, state, covariate, summary or assigned name; dotted where the caller allows it."""

    id: str
    where: Where | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """-operand."""

    op: Literal["-"]
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """left op right; `^` groups to the right and binds tighter than the minus sign before it."""

    op: Literal["+", "-", "*", "/", "^"]
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain: operands[0] ops[0] operands[1] ops[1] ...; true when every link is."""

    ops: tuple[str, ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Logic:
    """and, or (two or more operands), not (one)."""

    op: Literal["and", "or", "not"]
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `FUNCTIONS`."""

    function: str
    args: tuple[Expr, ...]


Expr = Number | Name | Unary | Binary | Compare | Logic | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """One line: what it defines (`assign` a name, `initial` value or `derivative` of a state) and how."""

    kind: Literal["assign", "initial", "derivative"]
    target: str
    expression: Expr
    where: Where | None = field(default=None, compare=False, repr=False)


def expression(text: str, where: Where | None = None, *, dotted: bool = False) -> Expr:
    """Parse one expression. `dotted=True` also takes names such as `t300.primary.reject`, also as conditions.

    >>> show(expression("40 <= AGE <= 75 and SEX == 1"))
    '40 <= AGE <= 75 and SEX == 1'
    """
    from pkpd.model.parser import parse_expression

    return parse_expression(text, where or getattr(text, "where", None), dotted)


def equations(text: str, where: Where | None = None) -> tuple[Equation, ...]:
    """Parse an `equations: |` text, in the order written; `#` starts a comment, a bracket may run over lines.

    >>> [e.kind for e in equations("C = A/V; d/dt(A) = -K*A".replace("; ", chr(10)))]
    ['assign', 'derivative']
    """
    from pkpd.model.parser import parse_equations

    return parse_equations(text, where or getattr(text, "where", None))


def children(expr: Expr) -> tuple[Expr, ...]:
    """The operands of a node, left to right."""
    match expr:
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Compare(_, operands) | Logic(_, operands):
            return operands
        case Call(_, args):
            return args
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Every node, parents before children, left to right."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def names(expr: Expr) -> frozenset[str]:
    """The free names of an expression.

    >>> sorted(names(expression("CL/V*exp(-K)")))
    ['CL', 'K', 'V']
    """
    return frozenset(node.id for node in walk(expr) if isinstance(node, Name))


def is_condition(expr: Expr) -> bool:
    """Whether the expression is true or false rather than a number."""
    return isinstance(expr, (Compare, Logic))


_BINDING: Final = {"or": 1, "and": 2, "not": 3, "compare": 4, "+": 5, "-": 5, "*": 6, "/": 6, "neg": 7, "^": 8}


def _binding(expr: Expr) -> int:
    match expr:
        case Binary(op, _, _) | Logic(op, _):
            return _BINDING[op]
        case Compare():
            return _BINDING["compare"]
        case Unary():
            return _BINDING["neg"]
    return 9


def show(expr: Expr) -> str:
    """The expression as text with the fewest brackets; parsing it gives the same tree."""

    def wrap(part: Expr, least: int) -> str:
        return show(part) if _binding(part) >= least else f"({show(part)})"

    match expr:
        case Number(value):
            return repr(int(value)) if value == int(value) and value < 1e15 else repr(value)
        case Name(name):
            return name
        case Unary(_, operand):
            return f"-{wrap(operand, 7)}"
        case Binary("^", left, right):
            return f"{wrap(left, 9)}^{wrap(right, 7)}"
        case Binary(op, left, right):
            space = " " if op in "+-" else ""
            return f"{wrap(left, _BINDING[op])}{space}{op}{space}{wrap(right, _BINDING[op] + 1)}"
        case Compare(ops, operands):
            return wrap(operands[0], 5) + "".join(f" {o} {wrap(x, 5)}" for o, x in zip(ops, operands[1:], strict=True))
        case Logic("not", operands):
            return f"not {wrap(operands[0], 3)}"
        case Logic(op, operands):
            return f" {op} ".join(wrap(x, _BINDING[op] + 1) for x in operands)
        case Call(function, args):
            return f"{function}({', '.join(show(x) for x in args)})"


def assignments(lines: Iterable[Equation]) -> dict[str, Expr]:
    """Name -> expression of the `assign` lines, in the order written."""
    return {line.target: line.expression for line in lines if line.kind == "assign"}


def in_order(lines: Sequence[Equation]) -> tuple[Equation, ...]:
    """The `assign` lines, each after what it needs (otherwise as written). A circle is an InputError naming it."""
    todo = {line.target: line for line in lines if line.kind == "assign"}
    done: dict[str, Equation] = {}
    for start in todo:
        _place(start, todo, done)
    return tuple(done.values())


def _place(start: str, todo: dict[str, Equation], done: dict[str, Equation]) -> None:
    """Depth first without recursion; `path` is the chain of names being waited for."""
    path = [start]
    while path:
        line = todo[path[-1]]
        needs = [n.id for n in walk(line.expression) if isinstance(n, Name) and n.id in todo and n.id not in done]
        if not needs:
            done[path.pop()] = line
        elif needs[0] in path:
            circle = " -> ".join([*path[path.index(needs[0]) :], needs[0]])
            raise InputError(
                "names depend on each other in a circle", where=line.where, field="equations", value=circle
            )
        else:
            path.append(needs[0])
        path = [name for name in path if name not in done]


def reach(lines: Sequence[Equation]) -> dict[str, frozenset[str]]:
    """Assigned name -> every name its value depends on, directly or through other assignments."""
    found: dict[str, frozenset[str]] = {}
    for line in in_order(lines):
        direct = names(line.expression)
        found[line.target] = direct.union(*(found.get(name, frozenset()) for name in direct))
    return found


def check_names(lines: Sequence[Equation], known: Iterable[str]) -> None:
    """InputError for the first name that is neither known nor assigned, with the nearest valid name."""
    valid = set(known) | {line.target for line in lines if line.kind == "assign"}
    for line in lines:
        for node in walk(line.expression):
            if isinstance(node, Name) and node.id not in valid:
                remedy = nearest(node.id, valid)
                raise InputError("unknown name", where=node.where, field="equations", value=node.id, remedy=remedy)


from pkpd.model.evaluation import evaluate, unknown  # noqa: E402  (needs the tree above; one public door)
