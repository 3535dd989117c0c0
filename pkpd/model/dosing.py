"""How doses enter a state: share, lag, scale, modelled rate or duration of infusions, absorption through transits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from pkpd.ground import units
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Unit, problem, real
from pkpd.model import equations as eq
from pkpd.model.parts import STRICT

__all__ = ["DoseTarget", "Transit", "Value"]

Value = float | str | eq.Expr
"""A number, the name of a parameter, covariate or equation, or an expression of them."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PLAIN: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _written(value: Any) -> Value:
    """A bare number stays a number, a bare name a name, anything else is an expression."""
    if isinstance(value, eq.Expr):
        return value
    if not isinstance(value, str) or _PLAIN.fullmatch(value.strip()):
        return real(value)
    if _NAME.fullmatch(value.strip()):
        return str(value.strip())
    try:
        return eq.expression(value)
    except InputError as error:
        raise problem(error.problem, error.remedy) from None


def _fraction(value: Any) -> Value:
    return _written(value)


def _duration(value: Any) -> Value:
    """`0.5 h` is a number of hours."""
    if isinstance(value, str) and len(value.split()) == 2 and _PLAIN.fullmatch(value.split()[0]):
        try:
            return units.number(value, "h")
        except InputError as error:
            raise problem(error.problem, error.remedy) from None
    return _written(value)


def _text(value: Value) -> Any:
    return value if isinstance(value, (float, str)) else eq.show(value)


def _hours_text(value: Value) -> str:
    return f"{value!r} h" if isinstance(value, float) else str(_text(value))


_SCHEMA = {"type": ["string", "number"], "examples": ["0.8", "F1", "F1*FED"]}
_TIMES = {"type": "string", "examples": ["0.5 h", "TLAG"]}
Share = Annotated[Value, PlainValidator(_fraction), PlainSerializer(_text), WithJsonSchema(_SCHEMA)]
Time = Annotated[Value, PlainValidator(_duration), PlainSerializer(_hours_text), WithJsonSchema(_TIMES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transit:
    """Absorption through `number` (n, any real >= 0) transits with mean transit time `time` (Savic et al., JPKPD 2007).

    Each dose enters at the rate dose ktr (ktr s)^n exp(-ktr s)/n!, s hours after it, ktr = (n + 1)/time; doses add up.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    number: Share
    time: Time


def _transit(value: Any) -> Any:
    if not isinstance(value, (Mapping, Transit)):
        raise problem("must be a mapping", "write transit: {number: N, time: MTT}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseTarget:
    """How doses enter a state; each a number, a name or an expression of parameters, covariates and their equations.

    bioavailability: share that arrives; lag [h]; scale: factor from the unit of a dose (`unit`) to the state's, such as
    1/VC for a state that is a concentration; duration [h] and rate (unit of a dose per hour): of an infusion whose
    record says RATE = -2 or RATE = -1; transit: see `Transit`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    bioavailability: Share = 1.0
    lag: Time = 0.0
    scale: Share = 1.0
    unit: Unit | None = None
    duration: Time | None = None
    rate: Share | None = None
    transit: Annotated[Transit, BeforeValidator(_transit)] | None = None

    def given(self) -> dict[str, Value]:
        """Everything the text gives, by its path: `bioavailability`, `transit.time` ..."""
        found: dict[str, Value | None] = {
            "bioavailability": self.bioavailability, "lag": self.lag, "scale": self.scale, "duration": self.duration,
            "rate": self.rate,
        }  # fmt: skip
        if self.transit is not None:
            found |= {"transit.number": self.transit.number, "transit.time": self.transit.time}
        return {key: value for key, value in found.items() if value is not None}


def expression_of(value: Value) -> eq.Expr:
    """A dose option as an expression.

    >>> eq.show(expression_of("F1"))
    'F1'
    """
    if isinstance(value, float):
        return eq.Number(value) if value >= 0 else eq.Unary("-", eq.Number(-value))
    return eq.Name(value) if isinstance(value, str) else value
