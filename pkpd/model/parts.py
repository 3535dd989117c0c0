"""The parts of a model text, each a frozen noun read by pydantic: parameters, outputs, summaries, events ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Measured, Real, Unit, problem
from pkpd.ground.fields import real as _real
from pkpd.ground.text import nearest
from pkpd.ground.validation import Text
from pkpd.model import equations as eq

__all__ = [
    "Covariate", "Effect", "Event", "Expression", "Horseshoe", "Move", "Occasion", "Omega", "Parameter", "Prior",
    "Shared", "Spread", "Status", "Summary",
]  # fmt: skip

STRICT = ConfigDict(extra="forbid", populate_by_name=False)
Status = Literal["verified", "copied", "assumed"]
NORMAL_95 = 1.959963984540054


_SCALE = re.compile(r"(log|logit|identity)|(boxcox|t) ?\( ?([^ ()]+) ?\)")
SCALES = ("log", "logit", "identity", "boxcox(l)", "t(df)")


def _scale(value: Any) -> str:
    """`boxcox(0.442)` in one normal form."""
    found = _SCALE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise problem(f"must be {', '.join(SCALES[:-1])} or {SCALES[-1]}", nearest(str(value), SCALES))
    if found[1]:
        return found[1]
    shape = _real(found[3])
    if (shape <= 0 and found[2] == "t") or shape == 0:
        raise problem("the degrees of freedom must be > 0" if found[2] == "t" else "use log: boxcox(0) is log")
    return f"{found[2]}({shape:g})"


def term(value: Any) -> Any:
    """`0.3 mg/L` is short for `{typical: 0.3 mg/L}`."""
    return {"typical": value} if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value


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
    """A covariate: `unit`, `reference` (where effects are neutral), `range` of validity, or category `labels`.

    Equations see it in its own unit. between: how a value holds between two records when it changes within a subject:
    locf (the last one), nocb (the next one), linear; without it the covariate must not change.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    unit: Unit = "1"
    reference: Real | None = None
    range: tuple[Real, Real] | None = None
    labels: dict[int, str] = field(default_factory=dict)
    between: Literal["locf", "nocb", "linear"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Normal prior of a typical value on the parameter's scale: `{median, sd}`; `[lo, hi]` is its central 95 %."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    median: Real
    sd: Annotated[Real, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Horseshoe:
    """Prior of a coefficient that may well be none (0 on the parameter's scale), for a search among covariates.

    Regularised horseshoe (Piironen & Vehtari 2017, Electron J Stat 11:5018): horseshoe is the sd it has where it is
    there, `global` the scale of the half-Cauchy of the share that all of them are shrunk to.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    horseshoe: Annotated[Real, Field(gt=0)]
    global_: Annotated[Real, Field(alias="global", gt=0)] = 0.1


def _which_prior(value: Any) -> str:
    if value is None or isinstance(value, (list, tuple)):
        return "none" if value is None else "interval"
    wide = isinstance(value, Horseshoe) or (isinstance(value, Mapping) and "horseshoe" in value)
    return "horseshoe" if wide else "normal"


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
class Shared:
    """The random effect of another parameter, `times` a number: `iiv: {eta: KD0, times: 0.5}`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    eta: Identifier
    times: Real = 1.0


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
SpreadField = Annotated[Spread, BeforeValidator(term, json_schema_input_type=Spread | float)]


def _between_subjects(value: Any) -> Any:
    return value if isinstance(value, Mapping) and "eta" in value else term(value)


def _which_spread(value: Any) -> str:
    return "shared" if isinstance(value, Shared) or (isinstance(value, Mapping) and "eta" in value) else "own"


BetweenSubjects = Annotated[
    Annotated[Spread, Tag("own")] | Annotated[Shared, Tag("shared")],
    Discriminator(_which_spread),
    BeforeValidator(_between_subjects, json_schema_input_type=Spread | Shared | float),
]


PriorField = Annotated[
    Annotated[Prior, Tag("normal")]
    | Annotated[Horseshoe, Tag("horseshoe")]
    | Annotated[tuple[Real, Real], Tag("interval")]
    | Annotated[None, Tag("none")],
    Discriminator(_which_prior),
    BeforeValidator(_prior),
]


_SCALE_SCHEMA = {"type": "string", "pattern": r"^(log|logit|identity|boxcox\(.+\)|t\(.+\))$", "default": "log"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: scale(value_i) = scale(typical) + effects + eta_i + kappa_ik; eta, kappa ~ N(0, iiv^2), N(0, iov^2).

    typical: with unit; in_ (text: `in`): the unit equations see it in, where that is not its own with time in hours;
    scale: log, logit, identity, or log with a transformed eta: boxcox(l) is (exp(eta)^l - 1)/l (Petersson et al., Pharm
    Res 2009), t(df) is iiv times a Student t quantile of the same probability; se: standard error of the typical value
    on the parameter's scale; iiv: a standard deviation or the eta of another parameter; iov: between occasions;
    above: the parameter is this expression of other parameters plus a positive part, whose logarithm then carries
    typical value, se and eta; status: verified (seen in the source), copied (from a source at second hand) or assumed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Measured
    in_: Annotated[Unit | None, Field(alias="in")] = None
    scale: Annotated[str, BeforeValidator(_scale), WithJsonSchema(_SCALE_SCHEMA)] = "log"
    se: Annotated[Real, Field(ge=0)] = 0.0
    iiv: BetweenSubjects | None = None
    iov: SpreadField | None = None
    above: Expression | None = None
    prior: PriorField = None
    effects: dict[Identifier, EffectField] = field(default_factory=dict)
    cite: str | None = None
    status: Status
    note: str | None = None

    @property
    def value(self) -> float:
        """Typical value in inside units (time in hours)."""
        return float(self.typical.to(self.unit))

    @property
    def unit(self) -> str:
        """Inside unit."""
        return self.in_ or inside_unit(self.typical.unit)

    @property
    def link(self) -> str:
        """log, logit or identity: boxcox and t are on the log scale."""
        return self.scale if self.scale in ("log", "logit", "identity") else "log"

    @property
    def shape(self) -> tuple[str, float] | None:
        """(`boxcox`, l) or (`t`, df) of a transformed eta."""
        name, _, number = self.scale.rstrip(")").partition("(")
        return (name, float(number)) if number else None

    @property
    def spread(self) -> Spread | None:
        """Its own between-subject standard deviation."""
        return self.iiv if isinstance(self.iiv, Spread) else None

    @property
    def random(self) -> bool:
        """Whether it has an eta of its own (an iiv of 0 is no eta)."""
        return self.spread is not None and self.spread.typical > 0

    @property
    def varies(self) -> bool:
        """Whether subjects or occasions differ in it by chance."""
        return self.random or isinstance(self.iiv, Shared) or (self.iov is not None and self.iov.typical > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Omega:
    """Prior of the correlations of the etas (in `sigma`: of the outputs' residual errors) of `block`: LKJ with shape
    `lkj`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    block: tuple[Identifier, ...]
    lkj: Annotated[Real, Field(gt=0)] = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A statistic (`as`) of an equation or state (`of`) over the `window` [h] that ends at the evaluation time."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    of: Text
    as_: Annotated[Literal["average", "maximum", "minimum"], Field(alias="as")]
    window: Annotated[Hours, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move between two grades of an event: `intensity` names the equation [1/h]; name: `EVENT.FROM>TO`."""

    name: str
    origin: int
    target: int
    intensity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happens to a subject, by `risk`, by `hazard`, or a grade that `moves` up and down.

    risk: equation of the cumulative probability over `per` [h] at constant exposure, visit by visit. hazard: equation
    of the hazard [1/h], integrated with the states; kind first (once), recurrent (again and again) or terminal (it ends
    the subject's follow-up). moves: `FROM to TO` -> equation of the intensity [1/h] of that move while at grade FROM
    (a Markov process in continuous time); start: grade at time 0, or at_start: grade -> equation giving the probability
    of that grade or worse at time 0. term, soc: MedDRA-style names; at_least: grade -> equation giving the probability
    of that grade or worse, given the event.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    term: str = ""
    soc: str = ""
    risk: Text = ""
    per: Annotated[Hours, Field(gt=0)] = 0.0
    hazard: Text = ""
    kind: Literal["first", "recurrent", "terminal"] = "first"
    at_least: dict[Annotated[int, Field(ge=2, le=5)], Text] = field(default_factory=dict)
    moves: dict[Annotated[str, Field(pattern=r"^[0-4] to [0-4]$", examples=["0 to 1"])], Text] = field(
        default_factory=dict
    )
    start: Annotated[int, Field(ge=0, le=4)] = 0
    at_start: dict[Annotated[int, Field(ge=1, le=4)], Text] = field(default_factory=dict)
    cite: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        one = sum((bool(self.risk), bool(self.hazard), bool(self.moves))) != 1
        graded = bool(self.moves)
        rules = [
            (one, "needs a risk or a hazard or moves, one of them", "add hazard: EQUATION"),
            (bool(self.risk) and not self.per, "a risk needs per", "add per: 84 d, the time it is the risk over"),
            (bool(self.risk) and not self.term, "a risk needs a term", "add term: Nausea"),
            (not self.risk and bool(self.per), "a hazard has no per", "leave per out: a hazard is in 1/h"),
            (not self.hazard and self.kind != "first", "only a hazard has another kind", "leave kind out"),
            (graded and bool(self.at_least), "grades that move have no at_least", "write at_start for those at time 0"),
            (not graded and bool(self.start or self.at_start), "only moves have a start", "leave start out"),
            (bool(self.start and self.at_start), "has a start and an at_start", "write one of them"),
            (any(move[0] == move[-1] for move in self.moves), "a move ends at another grade", "write 1 to 2"),
        ]
        if wrong := next((words for bad, *words in rules if bad), None):
            raise problem(*wrong)

    @property
    def highest(self) -> int:
        """The highest grade that the text knows of, at least 1."""
        return max((1, *self.at_least, self.start, *self.at_start, *(int(move[-1]) for move in self.moves)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What `iov` varies between: values of a data column (`column: OCC`) or periods from time 0 (`every: 7 d`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    column: Identifier | None = None
    every: Annotated[Hours, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        if (self.column is None) == (self.every is None):
            raise problem("needs column or every, one of them", "write occasion: {column: OCC} or {every: 7 d}")


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
