"""Field types of the nouns that are read from text: quantities with units, plain numbers, names.

Each takes text (or the plain value that `to_dict` writes) and reports what is wrong as one problem and one remedy.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from pkpd.ground import units
from pkpd.ground.errors import InputError
from pkpd.ground.units import Quantity

__all__ = ["Hours", "Identifier", "Measured", "Real", "Unit", "problem", "real"]

_REAL: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def problem(text: str, remedy: str | None = None) -> PydanticCustomError:
    """A problem with a remedy that `text.validated` turns into an InputError."""
    context = {"problem": text.replace("{", "(").replace("}", ")"), "remedy": remedy}
    return PydanticCustomError("vtrial", "{problem}", context)


def _asked(error: InputError) -> PydanticCustomError:
    return problem(error.problem, error.remedy)


def real(value: Any) -> float:
    """A finite number from its decimal text (or a number)."""
    if isinstance(value, str) and not _REAL.fullmatch(value.strip()):
        unit = " (it has no unit here)" if len(value.split()) == 2 else ""
        raise problem(f"must be a number{unit}", "write for example 0.3 or 1e-3")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise problem("must be a number")
    number = float(value)
    if not abs(number) < float("inf"):
        raise problem("must be a finite number")
    return number


def _measured(value: Any) -> Quantity:
    if isinstance(value, Quantity):
        return value
    if not isinstance(value, str):
        raise problem("needs a number and a unit", "write for example 200 mg")
    try:
        return Quantity(*units.split(value))
    except InputError as error:
        raise _asked(error) from None


def _hours(value: Any) -> float:
    if not isinstance(value, str):
        return real(value)
    try:
        return units.number(value, "h")
    except InputError as error:
        raise _asked(error) from None


def _unit(value: str) -> str:
    try:
        units.same_dimension(value, "1")
    except InputError as error:
        raise _asked(error) from None
    return value


Real = Annotated[float, BeforeValidator(real, json_schema_input_type=float | str)]
"""A finite number without a unit."""


def _hours_text(value: float) -> str:
    return f"{value!r} h"


Hours = Annotated[
    float,
    BeforeValidator(_hours, json_schema_input_type=str),
    PlainSerializer(_hours_text, return_type=str, when_used="json"),
    Field(examples=["12 h", "84 d"]),
]
"""A time, in hours inside; text carries its unit."""

Measured = Annotated[
    Quantity,
    PlainValidator(_measured),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["200 mg", "0.25 1/h"]}),
]
"""A number with its unit, kept as given."""

Unit = Annotated[str, AfterValidator(_unit)]
"""A unit we know."""

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
"""A name of the field: ASCII letters, digits and underscores, a letter first."""
