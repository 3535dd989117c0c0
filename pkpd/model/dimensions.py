"""Units through the equations: a sum, comparison, exponential or derivative whose units do not fit is refused.

Factors count too: a clearance in mL/h beside a volume in L is an error, because the engine computes with bare numbers.
A literal takes the unit of its neighbour in a sum and has none in a product. What cannot be known (a power with an
unknown exponent, a covariate with labels) fits anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pkpd.ground.errors import InputError, Where
from pkpd.ground.units import Dimension, describe, parsed
from pkpd.model import equations as eq
from pkpd.model.parts import inside_unit

if TYPE_CHECKING:
    from pkpd.model.checks import Finder
    from pkpd.model.spec import Model

__all__ = ["check_units"]


@dataclass(frozen=True, slots=True)
class Dim:
    """Factor to base units and dimension."""

    factor: float
    dimension: Dimension

    def __str__(self) -> str:
        return describe(self.factor, self.dimension)


NONE = Dim(1.0, ())
Known = Dim | None
_PLAIN = ("exp", "expit", "logit", "tanh")


@dataclass(slots=True)
class _Context:
    units: dict[str, Known]
    where: Where | None = None
    target: str = ""

    def fail(self, problem: str) -> NoReturn:
        remedy = "check the units of the names it uses"
        raise InputError(problem, where=self.where, field="equations", value=self.target, remedy=remedy)


def of_unit(unit: str) -> Dim:
    """The unit with time in hours."""
    return Dim(*parsed(inside_unit(unit)))


def check_units(model: Model, find: Finder) -> None:
    """InputError for the first equation or residual error whose units do not fit."""
    known: dict[str, Known] = {name: of_unit(p.typical.unit) for name, p in model.parameters.items()}
    known |= {name: None if c.labels else of_unit(c.unit) for name, c in model.covariates.items()}
    known |= {name: of_unit(unit) for name, unit in model.states.items()}
    known |= {"TIME": of_unit("h"), "WEEKS": NONE}
    context = _Context(known)
    late = {name: s.of for name, s in model.summaries.items()}
    for line in _ordered(model):
        _settle(late, known)
        context.where, context.target = line.where, line.target
        found = _unit(line.expression, context)
        if line.kind == "assign":
            known[line.target] = found
        else:
            _state(line, found, context, of_unit(model.states[line.target]))
    _parameters(model, find, context)
    _outputs(model, find, known)


def _ordered(model: Model) -> list[eq.Equation]:
    """Assignments of the dynamics first, so that summaries know their unit when the response layer needs it."""
    response = model.response
    assigned = eq.in_order(model.equations)
    first = [e for e in assigned if e.target not in response]
    return [*first, *(e for e in model.equations if e.kind != "assign"), *(e for e in assigned if e.target in response)]


def _settle(late: dict[str, str], known: dict[str, Known]) -> None:
    for name, of in late.items():
        if of in known:
            known[name] = known[of]


def _state(line: eq.Equation, found: Known, context: _Context, state: Dim) -> None:
    wanted = state if line.kind == "initial" else Dim(state.factor, _times(state.dimension, (("time", -1),), 1))
    if found is not None and not _same(found, wanted) and not _constant(line.expression):
        left = f"d/dt({line.target})" if line.kind == "derivative" else f"{line.target}(0)"
        context.fail(f"{left} is in {wanted}, the right-hand side in {found}")


def _parameters(model: Model, find: Finder, context: _Context) -> None:
    for name, p in model.parameters.items():
        path = ("parameters", name)
        if p.scale == "logit" and not _same(of_unit(p.typical.unit), NONE):
            find.fail((*path, "typical"), "must have no unit on the logit scale", str(p.typical), "write 0.5 1")
        for covariate, effect in p.effects.items():
            for c in (c for c in effect.coefficients if isinstance(c, str) and effect.kind != "linear"):
                if not _same(of_unit(model.parameters[c].typical.unit), NONE):
                    unit = model.parameters[c].typical.unit
                    find.fail((*path, "effects", covariate), f"{c} must have no unit", unit, "write its unit as 1")
        if p.above is not None:
            context.where, context.target = None, name
            floor = _unit(p.above, context)
            if floor is not None and not _same(floor, of_unit(p.typical.unit)):
                find.fail((*path, "above"), f"is in {floor}, the parameter in {p.typical.unit}", eq.show(p.above))
    for state, target in model.doses.items():
        for key, unit in (("bioavailability", "1"), ("lag", "h")):
            value = getattr(target, key)
            if isinstance(value, str) and not _same(of_unit(model.parameters[value].typical.unit), of_unit(unit)):
                find.fail(("doses", state, key), f"the parameter must be in {unit}", value)


def _outputs(model: Model, find: Finder, known: dict[str, Known]) -> None:
    """Additive errors and limits of quantification in the unit of what is observed."""
    for name, output in model.outputs.items():
        unit = known.get(output.is_)
        terms = [("error", output.error.additive.typical)] if output.error.additive else []
        if output.error.additive and output.error.additive.prior is not None:
            terms.append(("error", output.error.additive.prior))
        terms += [("lloq", output.lloq)] if output.lloq is not None else []
        for key, quantity in terms:
            if unit is not None and not _same(of_unit(quantity.unit), unit):
                path = ("outputs", name, key, *(("additive",) if key == "error" else ()))
                find.fail(path, f"{output.is_} is in {unit}", str(quantity), f"give it in {unit}")
    for event in model.events:
        for key in (model.events[event].risk, *model.events[event].at_least.values()):
            unit = known.get(key)
            if unit is not None and not _same(unit, NONE):
                find.fail(("events", event), f"a probability has no unit, {key} is in {unit}", key)


def _unit(expr: eq.Expr, context: _Context) -> Known:
    """The unit of a number; None where anything fits."""
    match expr:
        case eq.Number():
            return None
        case eq.Name(name):
            return context.units.get(name)
        case eq.Unary(_, operand):
            return _unit(operand, context)
        case eq.Binary("+" | "-" as op, left, right):
            return _alike([left, right], context, f"{eq.show(left)} {op} {eq.show(right)}")
        case eq.Binary("*" | "/" as op, left, right):
            return _product(left, right, 1 if op == "*" else -1, context)
        case eq.Binary("^", base, exponent) | eq.Call("pow", (base, exponent)):
            return _power(base, exponent, context)
        case eq.Call(function, args):
            return _called(function, args, context)
    return None


def _condition(expr: eq.Expr, context: _Context) -> None:
    if isinstance(expr, eq.Compare):
        _alike(list(expr.operands), context, eq.show(expr))
    elif isinstance(expr, eq.Logic):
        for operand in expr.operands:
            _condition(operand, context)


def _alike(parts: list[eq.Expr], context: _Context, shown: str) -> Known:
    """The one unit of the parts of a sum or comparison."""
    units = [u for u in (_unit(p, context) for p in parts) if u is not None]
    for other in units[1:]:
        if not _same(units[0], other):
            context.fail(f"{units[0]} and {other} do not go together in {shown}")
    return units[0] if units else None


def _product(left: eq.Expr, right: eq.Expr, sign: int, context: _Context) -> Known:
    if _constant(left) and _constant(right):
        return None
    a, b = (NONE if _constant(p) else _unit(p, context) for p in (left, right))
    if a is None or b is None:
        return None
    return Dim(a.factor * b.factor**sign, _times(a.dimension, b.dimension, sign))


def _power(base: eq.Expr, exponent: eq.Expr, context: _Context) -> Known:
    found, power = _unit(base, context), _unit(exponent, context)
    if power is not None and not _same(power, NONE):
        context.fail(f"the exponent {eq.show(exponent)} has the unit {power}")
    if found is None or _same(found, NONE):
        return found
    if not _constant(exponent):
        return None
    n = float(eq.evaluate(exponent, {}))
    if n != int(n):
        return None
    return Dim(found.factor**n, tuple((name, p * int(n)) for name, p in found.dimension if n))


def _called(function: str, args: tuple[eq.Expr, ...], context: _Context) -> Known:
    if function == "if":
        _condition(args[0], context)
        return _alike(list(args[1:]), context, f"if({eq.show(args[0])}, ...)")
    if function in ("min", "max"):
        return _alike(list(args), context, f"{function}(...)")
    found = _unit(args[0], context)
    if function in _PLAIN and found is not None and not _same(found, NONE):
        context.fail(f"{function} of something with the unit {found}: {eq.show(args[0])}")
    if function == "sqrt":
        return _power(args[0], eq.Number(0.5), context)
    return found if function in ("abs", "floor", "ceil") else NONE


def _constant(expr: eq.Expr) -> bool:
    return not eq.names(expr)


def _same(a: Dim, b: Dim) -> bool:
    return a.dimension == b.dimension and math.isclose(a.factor, b.factor, rel_tol=1e-9)


def _times(a: Dimension, b: Dimension, sign: int) -> Dimension:
    powers = dict(a)
    for name, power in b:
        powers[name] = powers.get(name, 0) + sign * power
    return tuple(sorted((name, p) for name, p in powers.items() if p))
