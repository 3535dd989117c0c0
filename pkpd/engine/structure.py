"""Finds the one-compartment linear form in a model's equations, whatever the names.

    d/dt(depot) = -ka depot        d/dt(central) = ka depot - ke central        (or central alone)

Rates may be any expression of parameters, amounts any equation proportional to a state (CL*C with C = central/V).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pkpd.engine.dynamics import Dynamics
from pkpd.model.equations import Binary, Call, Compare, Expr, Logic, Name, Number, Unary, names, walk

__all__ = ["OneCompartment", "inlined", "linear_terms", "one_compartment", "written_out"]

ZERO, ONE = Number(0.0), Number(1.0)
_LARGEST = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCompartment:
    """depot is None for a model without absorption; ka, ke are expressions of parameters only;
    scale: wanted output -> its expression per unit of the central amount, where it is that simple.
    """

    depot: str | None
    central: str
    ka: Expr
    ke: Expr
    scale: Mapping[str, Expr]


def inlined(expr: Expr, assigned: Mapping[str, Expr]) -> Expr:
    """The expression with assigned names replaced by what they stand for."""
    match expr:
        case Name(name):
            return inlined(assigned[name], assigned) if name in assigned else expr
        case Unary(op, operand):
            return Unary(op, inlined(operand, assigned))
        case Binary(op, left, right):
            return Binary(op, inlined(left, assigned), inlined(right, assigned))
        case Compare(ops, operands):
            return Compare(ops, tuple(inlined(o, assigned) for o in operands))
        case Logic(op, operands):
            return Logic(op, tuple(inlined(o, assigned) for o in operands))
        case Call(function, args):
            return Call(function, tuple(inlined(a, assigned) for a in args))
    return expr


def _times(a: Expr, b: Expr) -> Expr:
    if ZERO in (a, b):
        return ZERO
    if isinstance(a, Binary) and a.op == "/" and a.left == ONE:
        return Binary("/", b, a.right)
    return b if a == ONE else a if b == ONE else Binary("*", a, b)


def _plus(a: Expr, b: Expr, op: str = "+") -> Expr:
    if b == ZERO:
        return a
    if a == ZERO:
        return b if op == "+" else Unary("-", b)
    return Binary("+" if op == "+" else "-", a, b)


def linear_terms(expr: Expr, states: frozenset[str]) -> dict[str, Expr] | None:
    """state -> coefficient (free of states; "" is the constant term), or None if the expression is not linear."""
    if not names(expr) & states:
        return {"": expr}
    match expr:
        case Name(name):
            return {name: ONE}
        case Unary(_, operand):
            terms = linear_terms(operand, states)
            return None if terms is None else {k: Unary("-", c) for k, c in terms.items()}
        case Binary("+" | "-", left, right):
            a, b = linear_terms(left, states), linear_terms(right, states)
            if a is None or b is None:
                return None
            return {k: _plus(a.get(k, ZERO), b.get(k, ZERO), expr.op) for k in {**a, **b}}
        case Binary("*", left, right):
            moving, fixed = (left, right) if names(left) & states else (right, left)
            terms = None if names(fixed) & states else linear_terms(moving, states)
            return None if terms is None else {k: _times(c, fixed) for k, c in terms.items()}
        case Binary("/", left, right):
            terms = None if names(right) & states else linear_terms(left, states)
            return None if terms is None else {k: Binary("/", c, right) for k, c in terms.items()}
    return None


def one_compartment(dynamics: Dynamics) -> OneCompartment | None:
    """The one-compartment form of the dynamics, or None."""
    every = (*dynamics.derivative.values(), *dynamics.wanted().values())
    if not 1 <= len(dynamics.states) <= 2 or dynamics.initial or written_out(dynamics, every) > _LARGEST:
        return None
    rows = _rows(dynamics)
    if rows is None:
        return None
    for depot, central in _orders(dynamics.states):
        found = _matched(dynamics, rows, depot, central)
        if found is not None:
            return found
    return None


def written_out(dynamics: Dynamics, wanted: Iterable[Expr]) -> int:
    """Nodes of expressions with the assigned names written out: a chain of doublings would be without end."""
    size: dict[str, int] = {}
    for name, expr in dynamics.assigned.items():
        size[name] = _size(expr, size)
    return sum(_size(expr, size) for expr in wanted)


def _size(expr: Expr, size: Mapping[str, int]) -> int:
    return sum(size.get(node.id, 1) if isinstance(node, Name) else 1 for node in walk(expr))


def _orders(states: tuple[str, ...]) -> list[tuple[str | None, str]]:
    return [(None, states[0])] if len(states) == 1 else [(states[0], states[1]), (states[1], states[0])]


def _rows(dynamics: Dynamics) -> dict[str, dict[str, Expr]] | None:
    """state -> its linear terms without zeros, if all equations are linear in the states and autonomous."""
    states, found = frozenset(dynamics.states), {}
    fixed = frozenset(dynamics.parameters)
    for state, expr in dynamics.derivative.items():
        whole = inlined(expr, dynamics.assigned)
        terms = linear_terms(whole, states) if names(whole) <= states | fixed else None
        if terms is None:
            return None
        found[state] = {k: c for k, c in terms.items() if c not in (ZERO, Unary("-", ZERO))}
    return found


def _negated(expr: Expr) -> Expr:
    return expr.operand if isinstance(expr, Unary) else Unary("-", expr)


def _matched(
    dynamics: Dynamics, rows: Mapping[str, Mapping[str, Expr]], depot: str | None, central: str
) -> OneCompartment | None:
    own = rows[central]
    ka: Expr = ZERO
    if depot is not None:
        if set(rows[depot]) != {depot} or set(own) != {depot, central}:
            return None
        ka = own[depot]
        if _normal(rows[depot][depot]) != _normal(Unary("-", ka)):
            return None
    elif set(own) != {central}:
        return None
    return OneCompartment(
        depot=depot, central=central, ka=ka, ke=_negated(own[central]), scale=_scales(dynamics, central)
    )


def _scales(dynamics: Dynamics, central: str) -> dict[str, Expr]:
    states, found = frozenset(dynamics.states), {}
    for name, expr in dynamics.wanted().items():
        terms = linear_terms(inlined(expr, dynamics.assigned), states)
        if terms is not None and set(terms) == {central} and names(terms[central]) <= set(dynamics.parameters):
            found[name] = terms[central]
    return found


def _normal(expr: Expr) -> tuple[int, Expr]:
    """Sign and magnitude, so that -(KA) and (-1)*KA compare equal; products are not reordered."""
    match expr:
        case Unary(_, operand):
            sign, inner = _normal(operand)
            return -sign, inner
        case Binary("*" | "/" as op, left, right):
            (a, left), (b, right) = _normal(left), _normal(right)
            if op == "*" and left == ONE:
                return a * b, right
            if right == ONE:
                return a * b, left
            return a * b, Binary(op, left, right)
    return 1, expr
