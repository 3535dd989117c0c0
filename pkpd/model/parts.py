"""The parts of a model text, each a frozen noun read by pydantic: parameters, outputs, summaries, events ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Measured, Real, Unit, problem
from pkpd.ground.fields import real as _real
from pkpd.ground.validation import Text
from pkpd.model import equations as eq

__all__ = [
    "Covariate", "DoseTarget", "Effect", "ErrorTerm", "Event", "Expression", "Omega", "Output", "Parameter", "Prior",
    "ResidualError", "Scale", "Spread", "Status", "Summary",
]  # fmt: skip

STRICT = ConfigDict(extra="forbid", populate_by_name=False)
Scale = Literal["log", "logit", "identity"]
Status = Literal["verified", "copied", "assumed"]
NORMAL_95 = 1.959963984540054


def _scale(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"(boxcox|t)\b", value):
        raise problem("boxcox and t scales are not available yet", "use log, logit or identity")
    return value


def _term(value: Any) -> Any:
    """`0.3 mg/L` is short for `{typical: 0.3 mg/L}`."""
    return value if isinstance(value, (Mapping, Spread, ErrorTerm, RelativeError)) else {"typical": value}


def _tree(value: Any) -> eq.Expr:
    if isinstance(value, eq.Expr):
        return value
    if not isinstance(value, str):
        raise problem("must be an expression")
    try:
        return eq.expression(value)
    except InputError as error:
        raise problem(f"{error.problem} ({error.value})" if error.value else error.problem, error.remedy) from None


Expression = Annotated[
    eq.Expr,
    PlainValidator(_tree),
    PlainSerializer(eq.show, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["CL/V"]}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariate:
    """A covariate: `unit`, `reference` (where effects are neutral), `range` of validity, or category `labels`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    unit: Unit = "1"
    reference: Real | None = None
    range: tuple[Real, Real] | None = None
    labels: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Normal prior of a typical value on the parameter's scale: `{median, sd}`; `[lo, hi]` is its central 95 %."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    median: Real
    sd: Annotated[Real, Field(gt=0)]


def _prior(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise problem("must be [low, high] or {median, sd}")
        return tuple(_real(v) for v in value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A between-subject (or between-occasion) standard deviation on the parameter's scale; prior: half-normal scale."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Annotated[Real, Field(ge=0)]
    prior: Annotated[Real, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTerm:
    """An additive residual standard deviation with its unit; prior: half-normal scale in the same dimension."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Annotated[Measured, Field(ge=0)]
    prior: Annotated[Measured, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeError:
    """A proportional residual standard deviation (a fraction); prior: half-normal scale."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Annotated[Real, Field(ge=0)]
    prior: Annotated[Real, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a covariate does to a parameter.

    `power`: times (covariate/reference)^coefficient; `linear`: coefficient x (covariate - reference) is added on the
    parameter's scale; `category`: times the coefficient of the subject's category (1 where none is named).
    A coefficient is a number (fixed) or the name of a population parameter.
    """

    kind: Literal["power", "linear", "category"]
    coefficient: float | str | None = None
    categories: Mapping[int, float | str] = field(default_factory=dict)

    @property
    def coefficients(self) -> tuple[float | str, ...]:
        """Every coefficient, in the order written."""
        return tuple(self.categories.values()) if self.coefficient is None else (self.coefficient,)


_EFFECT = re.compile(r"(power|linear)\s+(\S+)(\s+fixed)?")


def _effect(value: Any) -> Effect:
    if isinstance(value, Effect):
        return value
    if isinstance(value, Mapping):
        if not value:
            raise problem("names no category", "write {1: factor}")
        return Effect(kind="category", categories={_code(k): _coefficient(v) for k, v in value.items()})
    found = _EFFECT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise problem("is not an effect", "write power 0.75 fixed, power NAME, linear NAME, or {1: FACTOR}")
    coefficient = _coefficient(found[2])
    if isinstance(coefficient, float) != bool(found[3]):
        raise problem("a number is fixed, a name is not", "write power 0.75 fixed, or power NAME")
    return Effect(kind=found[1], coefficient=coefficient)  # type: ignore[arg-type]


def _code(value: Any) -> int:
    if isinstance(value, int) or re.fullmatch(r"-?[0-9]{1,9}", str(value)):
        return int(value)
    raise problem(f"the category {value} must be a whole number", "use the codes of the covariate's labels")


def _coefficient(value: Any) -> float | str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        return str(value)
    return _real(value)


def _effect_text(effect: Effect) -> Any:
    if effect.kind == "category":
        return {str(code): value for code, value in effect.categories.items()}
    if isinstance(effect.coefficient, str):
        return f"{effect.kind} {effect.coefficient}"
    return f"{effect.kind} {effect.coefficient!r} fixed"


_EFFECT_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^(power|linear)\s+\S+(\s+fixed)?$"},
        {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
    ]
}
EffectField = Annotated[Effect, PlainValidator(_effect), PlainSerializer(_effect_text), WithJsonSchema(_EFFECT_SCHEMA)]
SpreadField = Annotated[Spread, BeforeValidator(_term, json_schema_input_type=Spread | float)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: scale(value_i) = scale(typical) + effects + eta_i, eta ~ N(0, iiv^2).

    typical: with unit; se: standard error of the typical value on the parameter's scale; above: the parameter is this
    expression of other parameters plus a positive part, whose logarithm then carries typical value, se and eta;
    status: verified (seen in the source), copied (from a source at second hand) or assumed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Measured
    scale: Annotated[Scale, BeforeValidator(_scale)] = "log"
    se: Annotated[Real, Field(ge=0)] = 0.0
    iiv: SpreadField | None = None
    iov: SpreadField | None = None
    above: Expression | None = None
    prior: Annotated[Prior | tuple[Real, Real] | None, BeforeValidator(_prior)] = None
    effects: dict[Identifier, EffectField] = field(default_factory=dict)
    cite: str | None = None
    status: Status
    note: str | None = None

    @property
    def value(self) -> float:
        """Typical value in inside units (time in hours)."""
        return inside(self.typical)

    @property
    def unit(self) -> str:
        """Inside unit."""
        return inside_unit(self.typical.unit)

    @property
    def random(self) -> bool:
        """Whether subjects differ in it by an eta (an iiv of 0 is no eta)."""
        return self.iiv is not None and self.iiv.typical > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Omega:
    """Prior of the correlations of the etas of `block`: LKJ with shape `lkj`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    block: tuple[Identifier, ...]
    lkj: Annotated[Real, Field(gt=0)] = 2.0


def _number_or_name(value: Any) -> Any:
    return str(value) if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value) else value


def _fraction(value: Any) -> float | str:
    value = _number_or_name(value)
    return value if isinstance(value, str) and value[:1].isalpha() else _real(value)


def _lag(value: Any) -> float | str:
    from pkpd.ground import units

    value = _number_or_name(value)
    if isinstance(value, str) and not value[:1].isalpha():
        try:
            return units.number(value, "h")
        except InputError as error:
            raise problem(error.problem, error.remedy) from None
    return value if isinstance(value, str) else _real(value)


def _lag_text(lag: float | str) -> str:
    return lag if isinstance(lag, str) else f"{lag!r} h"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseTarget:
    """How doses enter a state: bioavailability and lag [h], each a number or the name of a parameter."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    bioavailability: Annotated[float | str, PlainValidator(_fraction, json_schema_input_type=float | str)] = 1.0
    lag: Annotated[
        float | str, PlainValidator(_lag, json_schema_input_type=str), PlainSerializer(_lag_text, return_type=str)
    ] = 0.0


Additive = Annotated[ErrorTerm, BeforeValidator(_term, json_schema_input_type=ErrorTerm | str)]
Proportional = Annotated[RelativeError, BeforeValidator(_term, json_schema_input_type=RelativeError | float)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualError:
    """sd = sqrt(additive^2 + (proportional x f)^2); either may be left out."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    additive: Additive | None = None
    proportional: (
        Annotated[RelativeError, BeforeValidator(_term, json_schema_input_type=RelativeError | float)] | None
    ) = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Something observed: the name `is_` (text: `is`) of an equation or state, measured with `error`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    is_: Annotated[Text, Field(alias="is")]
    error: ResidualError = field(default_factory=ResidualError)
    lloq: Annotated[Measured, Field(ge=0)] | None = None
    cite: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A statistic (`as`) of an equation or state (`of`) over the `window` [h] that ends at the evaluation time."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    of: Text
    as_: Annotated[Literal["average", "maximum", "minimum"], Field(alias="as")]
    window: Annotated[Hours, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An adverse event: cumulative probability `risk` (an equation) over `per` [h] at constant exposure.

    term, soc: MedDRA-style names; at_least: grade -> equation giving the probability of that grade or worse, given the
    event.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    term: str
    soc: str = ""
    risk: Text
    per: Annotated[Hours, Field(gt=0)]
    at_least: dict[Annotated[int, Field(ge=2, le=5)], Text] = field(default_factory=dict)
    cite: str | None = None
    note: str | None = None


def inside_unit(unit: str) -> str:
    """A unit with every time turned into hours: 1/d -> 1/h.

    >>> inside_unit("mL/min")
    'mL/h'
    """
    from pkpd.ground.units import same_dimension

    def turned(atom: str) -> str:
        head, hat, power = atom.partition("^")
        return f"h{hat}{power}" if same_dimension(head, "h") else atom

    return "".join(p if p in "*/" else turned(p) for p in re.split(r"([*/])", unit))


def inside(quantity: Any) -> float:
    """A quantity in its inside unit (time in hours)."""
    return float(quantity.to(inside_unit(quantity.unit)))
