"""Units through the equations: a sum, comparison, exponential or derivative whose units do not fit is refused.

Factors count too: a clearance in mL/h beside a volume in L is an error, because the engine computes with bare numbers.
A literal takes the unit of its neighbour in a sum and has none in a product. A quantity to the power of a name, such
as C^GAMMA, has a unit of its own that only the same power of the same unit equals. Time is in hours, covariates are
in the unit of their data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pkpd.ground.errors import InputError, Where
from pkpd.ground.units import Dimension, describe, parsed
from pkpd.model import equations as eq
from pkpd.model.dosing import expression_of
from pkpd.model.parts import inside_unit

if TYPE_CHECKING:
    from pkpd.model.checks import Finder
    from pkpd.model.parts import Parameter
    from pkpd.model.spec import Model

__all__ = ["check_units", "units_of"]


@dataclass(frozen=True, slots=True)
class Dim:
    """Factor to base units and dimension."""

    factor: float
    dimension: Dimension

    def __str__(self) -> str:
        return describe(self.factor, self.dimension)


NONE = Dim(1.0, ())
Known = Dim | None
_PLAIN = ("cos", "exp", "expit", "factorial", "lgamma", "log", "log10", "logit", "sin", "tanh")


@dataclass(slots=True)
class _Context:
    units: dict[str, Known]
    where: Where | None = None
    target: str = ""

    def fail(self, problem: str, about: eq.Expr | None = None) -> NoReturn:
        """InputError at the first name of `about`, else at the start of the equation."""
        place = next((n.where for n in eq.walk(about) if isinstance(n, eq.Name) and n.where), None) if about else None
        remedy = "check the units of the names it uses; `in:` of a parameter converts it, an equation may too"
        raise InputError(problem, where=place or self.where, field="equations", value=self.target, remedy=remedy)


def of_unit(unit: str) -> Dim:
    """The unit with time in hours."""
    return Dim(*parsed(inside_unit(unit)))


def of_parameter(p: Parameter) -> Dim:
    """The unit equations see a parameter in."""
    return Dim(*parsed(p.unit))


def check_units(model: Model, find: Finder) -> None:
    """InputError for the first equation, effect, dose option, event or output whose units do not fit."""
    context = _propagated(model, find)
    _parameters(model, find, context)
    _doses(model, find, context)
    _outputs(model, find, context.units)
    _events(model, find, context.units)
    _golden(model, find, context.units)


def units_of(model: Model) -> dict[str, str]:
    """Unit, as text, in which the engine has each parameter, covariate, state and equation of a checked model."""
    from pkpd.ground.text import from_plain
    from pkpd.model.checks import Finder

    known = _propagated(model, Finder(from_plain({}))).units
    return {name: str(unit) for name, unit in known.items() if unit is not None}


def _propagated(model: Model, find: Finder) -> _Context:
    """The unit of every name, carried through the equations."""
    known: dict[str, Known] = {name: of_parameter(p) for name, p in model.parameters.items()}
    known |= {name: Dim(*parsed(c.unit)) for name, c in model.inputs.items()}
    known |= {name: of_unit(unit) for name, unit in model.states.items()}
    known |= {"TIME": of_unit("h"), "WEEKS": NONE, "TAD": of_unit("h"), "DOSE": _dose_unit(model, find)}
    known |= dict.fromkeys(model.previous, NONE)
    context = _Context(known)
    late = {name: s.of for name, s in model.summaries.items()}
    for line in _ordered(model):
        _settle(late, known)
        context.where, context.target = line.where, line.target
        found = _unit(line.expression, context)
        if line.kind == "assign":
            known[line.target] = found or NONE  # a number with a name has no unit
        else:
            _state(line, found, context, model.states[line.target])
    _settle(late, known)
    return context


def _dose_unit(model: Model, find: Finder) -> Known:
    """Unit of DOSE: the one of every state that is dosed."""
    used = any("DOSE" in eq.names(line.expression) for line in model.equations)
    units = {text: of_unit(text) for name, text in model.dose_units.items() if name in model.doses or not model.doses}
    if not used or not units:
        return NONE
    first, *others = units.values()
    if any(not _same(first, other) for other in others):
        find.fail(("equations",), "DOSE has no one unit: doses come in " + ", ".join(units), "DOSE", "leave DOSE out")
    return first


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


def _state(line: eq.Equation, found: Known, context: _Context, unit: str) -> None:
    state = of_unit(unit)
    wanted = state if line.kind == "initial" else Dim(state.factor, _times(state.dimension, (("time", -1),), 1))
    if found is not None and not _same(found, wanted):
        left = f"d/dt({line.target}) is in {unit}/h" if line.kind == "derivative" else f"{line.target}(0) is in {unit}"
        context.fail(f"{left}, the right-hand side in {found}{_times_as(found, wanted)}", line.expression)


def _times_as(a: Dim, b: Dim) -> str:
    """How far two scales of one dimension are apart."""
    return f" ({a.factor / b.factor:.6g} times that)" if a.dimension == b.dimension else ""


def _parameters(model: Model, find: Finder, context: _Context) -> None:
    for name, p in model.parameters.items():
        path, own = ("parameters", name), of_parameter(p)
        if p.in_ is not None and of_unit(p.typical.unit).dimension != of_unit(p.in_).dimension:
            find.fail((*path, "in"), f"{p.typical.unit} cannot be turned into {p.in_}", p.in_)
        if p.link == "logit" and not _same(own, NONE):
            find.fail((*path, "typical"), "must have no unit on the logit scale", str(p.typical), "write 0.5 1")
        for covariate in p.effects:
            _effect(model, find, name, covariate)
        if p.above is not None:
            context.where, context.target = None, name
            floor = _unit(p.above, context)
            if floor is not None and not _same(floor, own):
                find.fail((*path, "above"), f"is in {floor}, the parameter in {own}", eq.show(p.above))


def _effect(model: Model, find: Finder, name: str, covariate: str) -> None:
    """Coefficients without unit; of a linear effect, in the unit of the scale per unit of the covariate."""
    effect, p = model.parameters[name].effects[covariate], model.parameters[name]
    wanted = NONE
    if effect.kind == "linear":
        scale = NONE if p.link != "identity" else of_parameter(p)
        unit = Dim(*parsed(model.inputs[covariate].unit))
        wanted = Dim(scale.factor / unit.factor, _times(scale.dimension, unit.dimension, -1))
    for c in (c for c in effect.coefficients if isinstance(c, str)):
        if not _same(of_parameter(model.parameters[c]), wanted):
            unit_text = f"{of_parameter(model.parameters[c])}"
            said = "must have no unit" if _same(wanted, NONE) else f"must be in {wanted}, is in {unit_text}"
            remedy = "write its unit as 1" if _same(wanted, NONE) else "its key in: names the unit it is used in"
            find.fail(("parameters", name, "effects", covariate), f"{c} {said}", unit_text, remedy)


def _doses(model: Model, find: Finder, context: _Context) -> None:
    for state, target in model.doses.items():
        dose, inside = of_unit(model.dose_units[state]), of_unit(model.states[state])
        scale = Dim(inside.factor / dose.factor, _times(inside.dimension, dose.dimension, -1))
        rate = Dim(dose.factor, _times(dose.dimension, (("time", -1),), 1))
        hour = of_unit("h")
        wanted = {"scale": scale, "rate": rate, "lag": hour, "duration": hour, "transit.time": hour}
        for key, value in target.given().items():
            context.where, context.target = None, f"doses.{state}.{key}"
            expr = expression_of(value)
            found = _unit(expr, context)
            if found is None and key == "scale" and not _same(scale, NONE):
                find.fail(("doses", state, key), f"must turn {dose} into {inside}", eq.show(expr), "write 1/V")
            if found is not None and not _same(found, wanted.get(key, NONE)):
                problem = f"is in {found}, must be in {wanted.get(key, NONE)}"
                find.fail(("doses", state, *key.split(".")), problem, eq.show(expr))


def _outputs(model: Model, find: Finder, known: dict[str, Known]) -> None:
    """Additive errors and limits of quantification in the unit of what is observed; counts and probabilities bare."""
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
        if not output.continuous:
            bare = of_unit("1/h") if output.per is not None else NONE
            _bare(find, ("outputs", name), {str(output.is_): bare} if output.is_ else {}, known)
            _bare(find, ("outputs", name), dict.fromkeys(output.equations[bool(output.is_) :], NONE), known)


def _bare(find: Finder, path: tuple[str, ...], wanted: dict[str, Dim], known: dict[str, Known]) -> None:
    for key, unit in wanted.items():
        found = known.get(key)
        if found is not None and not _same(found, unit):
            find.fail(path, f"{key} is in {found}, must be in {unit}", key)


def _events(model: Model, find: Finder, known: dict[str, Known]) -> None:
    for name, event in model.events.items():
        for key in (k for k in (event.risk, *event.at_least.values(), *event.at_start.values()) if k):
            unit = known.get(key)
            if unit is not None and not _same(unit, NONE):
                find.fail(("events", name), f"a probability has no unit, {key} is in {unit}", key)
        if event.hazard and (unit := known.get(event.hazard)) is not None and not _same(unit, of_unit("1/h")):
            find.fail(("events", name, "hazard"), f"a hazard is in 1/h, {event.hazard} is in {unit}", event.hazard)
        for move, key in event.moves.items():
            if (unit := known.get(key)) is not None and not _same(unit, of_unit("1/h")):
                find.fail(("events", name, "moves", move), f"an intensity is in 1/h, {key} is in {unit}", key)


def _golden(model: Model, find: Finder, known: dict[str, Known]) -> None:
    """Golden numbers in a unit that can be turned into the one of what they are of."""
    for case, golden in model.golden.items():
        for i, value in enumerate(golden.values):
            unit = of_unit("h") if value.as_.startswith("time_") else known.get(value.of)
            path = ("golden", case, "values", i)
            if unit is not None and value.as_ == "area":
                unit = Dim(unit.factor, _times(unit.dimension, (("time", 1),), 1))
            if unit is not None and of_unit(value.is_.unit).dimension != unit.dimension:
                find.fail((*path, "is"), f"{value.of} is in {unit}", str(value.is_), f"give it in {unit}")
            level = known.get(value.of)
            if value.limit is not None and level and of_unit(value.limit.unit).dimension != level.dimension:
                find.fail((*path, "limit"), f"{value.of} is in {level}", str(value.limit), f"give it in {level}")
        for name, given in golden.parameters.items():
            if of_unit(given.unit).dimension != of_unit(model.parameters[name].unit).dimension:
                unit_text = model.parameters[name].unit
                find.fail(("golden", case, "parameters", name), f"{name} is in {unit_text}", str(given))


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
            context.fail(f"{units[0]} and {other}{_times_as(other, units[0])} do not go together in {shown}", parts[0])
    return units[0] if units else None


def _product(left: eq.Expr, right: eq.Expr, sign: int, context: _Context) -> Known:
    a, b = _unit(left, context), _unit(right, context)
    if a is None and b is None:
        return None
    a, b = a or NONE, b or NONE
    return Dim(a.factor * b.factor**sign, _times(a.dimension, b.dimension, sign))


def _power(base: eq.Expr, exponent: eq.Expr, context: _Context) -> Known:
    found, power = _unit(base, context), _unit(exponent, context)
    if power is not None and not _same(power, NONE):
        context.fail(f"the exponent {eq.show(exponent)} has the unit {power}", exponent)
    if found is None or _same(found, NONE):
        return found
    if not _constant(exponent):
        return Dim(1.0, ((f"({found})^{eq.show(exponent)}", 1),))
    n = float(eq.evaluate(exponent, {}))
    if not abs(n) <= 100:
        context.fail(f"{eq.show(base)} with the unit {found} to the power {eq.show(exponent)}", base)
    return Dim(found.factor**n, tuple((name, _whole(p * n)) for name, p in found.dimension if n))


def _whole(power: float) -> float:
    return round(power) if abs(power - round(power)) < 1e-9 else round(power, 9)


def _called(function: str, args: tuple[eq.Expr, ...], context: _Context) -> Known:
    if function == "if":
        _condition(args[0], context)
        return _alike(list(args[1:]), context, f"if({eq.show(args[0])}, ...)")
    if function in ("min", "max"):
        return _alike(list(args), context, f"{function}(...)")
    found = _unit(args[0], context)
    if function in _PLAIN and found is not None and not _same(found, NONE):
        context.fail(f"{function} of something with the unit {found}: {eq.show(args[0])}", args[0])
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
    return tuple(sorted((name, _whole(p)) for name, p in powers.items() if abs(p) > 1e-9))
