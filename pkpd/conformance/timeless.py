"""Whether a text can be read in another unit of time by rescaling its parameters: no bare number stands for a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkpd.conformance.scales import time_exponent
from pkpd.model import equations as eq

if TYPE_CHECKING:
    from pkpd.conformance.reading import Reading

__all__ = ["exponents", "literal_of_time"]

Power = float | None
"""Power of time in the unit of an expression; None where any fits (a bare number)."""


class _Literal(Exception):
    """A bare number beside something that has a unit of time."""


def literal_of_time(reading: Reading) -> str | None:
    """Why the text cannot be rescaled, or None.

    A number added to, compared with or chosen instead of a quantity with time in its unit is itself a number of hours;
    so is one that a parameter converted with `in:` meets.
    """
    model = reading.model
    converted = [n for n, p in model.parameters.items() if p.in_ is not None and time_exponent(p.in_)]
    if converted:
        return f"{converted[0]} enters the equations in {model.parameters[converted[0]].in_}"
    if {"WEEKS", "TAD", "DOSE"} & reading.clocks:
        return f"the equations read {min(reading.clocks)}"
    used = {n for n in model.inputs if n in model.solved and time_exponent(model.inputs[n].unit)}
    if used:
        return f"the covariate {min(used)} is a time"
    if literal := [s for s, t in model.doses.items() if any(_hours(k, v) for k, v in t.given().items())]:
        return f"doses into {literal[0]} have a time written as a number"
    try:
        _walk(reading)
    except _Literal as found:
        return f"a number stands for a time: {found}"
    return None


def _hours(key: str, value: object) -> bool:
    return key in ("lag", "duration", "rate", "transit.time") and isinstance(value, float) and value != 0.0


def exponents(reading: Reading) -> dict[str, Power]:
    """Name -> power of time, for states and equations of a text without literals of time."""
    return _walk(reading)


def _walk(reading: Reading) -> dict[str, Power]:
    model = reading.model
    known: dict[str, Power] = {n: time_exponent(p.unit) for n, p in model.parameters.items()}
    known |= {n: time_exponent(c.unit) for n, c in model.inputs.items()} | {"TIME": 1.0}
    known |= {s: time_exponent(unit) for s, unit in model.states.items()}
    for name, expr in reading.assigned.items():
        known[name] = _power(expr, known)
    for state, expr in model.derivatives.items():
        _same([_power(expr, known), (known[state] or 0.0) - 1.0], expr)
    for state, expr in model.initials.items():
        _same([_power(expr, known), known[state]], expr)
    return known


def _same(powers: list[Power], shown: eq.Expr) -> Power:
    """The one power of the parts; a bare number beside a time is refused unless it is 0."""
    powers = [p for p in powers if p is None or p == p]
    real = [p for p in powers if p is not None]
    if any(abs(p - real[0]) > 1e-9 for p in real) or (len(real) < len(powers) and real and abs(real[0]) > 1e-9):
        raise _Literal(eq.show(shown)[:60])
    return real[0] if real else None


def _power(expr: eq.Expr, known: dict[str, Power]) -> Power:
    match expr:
        case eq.Number(value):
            return None if value else _ANY
        case eq.Name(name):
            return known.get(name, 0.0)
        case eq.Unary(_, operand):
            return _power(operand, known)
        case eq.Binary("+" | "-", left, right):
            return _joined([left, right], expr, known)
        case eq.Binary("*" | "/" as op, left, right):
            a, b = _power(left, known), _power(right, known)
            if a is None and b is None:
                return None
            return (a or 0.0) + (b or 0.0) * (1.0 if op == "*" else -1.0)
        case eq.Binary("^", base, exponent) | eq.Call("pow", (base, exponent)):
            return _raised(base, exponent, known)
        case eq.Call("if", (condition, yes, no)):
            _condition(condition, known)
            return _joined([yes, no], expr, known)
        case eq.Call("min" | "max", args):
            return _joined(list(args), expr, known)
        case eq.Call("abs", (inner,)):
            return _power(inner, known)
        case eq.Call("sqrt", (inner,)):
            found = _power(inner, known)
            return None if found is None else 0.5 * found
        case eq.Call(_, args):
            for arg in args:
                _same([_power(arg, known), 0.0], arg)
            return 0.0
    return 0.0


_ANY = float("nan")
"""The power of a literal 0: it goes with everything."""


def _joined(parts: list[eq.Expr], shown: eq.Expr, known: dict[str, Power]) -> Power:
    powers = [_power(p, known) for p in parts]
    return _same(powers, shown) if any(p is None or p == p for p in powers) else _ANY


def _raised(base: eq.Expr, exponent: eq.Expr, known: dict[str, Power]) -> Power:
    found = _power(base, known)
    if found is None or abs(found) < 1e-9:
        return found
    if eq.names(exponent):
        raise _Literal(eq.show(base)[:60])
    return found * float(eq.evaluate(exponent, {}))


def _condition(expr: eq.Expr, known: dict[str, Power]) -> None:
    if isinstance(expr, eq.Compare):
        _joined(list(expr.operands), expr, known)
    elif isinstance(expr, eq.Logic):
        for operand in expr.operands:
            _condition(operand, known)
