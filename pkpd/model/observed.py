"""What is observed and how: outputs, residual error, counts, ordered categories, outcomes that feed the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.fields import Hours, Identifier, Measured, Real, problem
from pkpd.ground.validation import Text
from pkpd.model.parts import STRICT, term

__all__ = ["ERROR_TERMS", "ErrorTerm", "Output", "PowerError", "Previous", "RelativeError", "ResidualError"]

ERROR_TERMS: Final = ("additive", "proportional", "power", "log")
"""Residual standard deviations an output may have, in the order of `Model.error_names`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTerm:
    """An additive residual standard deviation with its unit; prior: half-normal scale in the same dimension."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Annotated[Measured, Field(ge=0)]
    prior: Annotated[Measured, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeError:
    """A residual standard deviation without unit (a fraction, or on the log scale); prior: half-normal scale."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Annotated[Real, Field(ge=0)]
    prior: Annotated[Real, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerError:
    """sd = typical x |f|^exponent, f the bare number in the output's unit."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    typical: Annotated[Real, Field(ge=0)]
    exponent: Real
    prior: Annotated[Real, Field(gt=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaError:
    """y/upper ~ Beta(m p, (1 - m) p) with m = f/upper and p = precision: a score between 0 and `upper`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    precision: Annotated[Real, Field(gt=0)]
    upper: Annotated[Real, Field(gt=0)] = 1.0


def _must_be_mapping(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        raise problem("must be a mapping", "write power: {typical: 0.2, exponent: 0.7}")
    return value


Additive = Annotated[ErrorTerm, BeforeValidator(term, json_schema_input_type=ErrorTerm | str)]
Relative = Annotated[RelativeError, BeforeValidator(term, json_schema_input_type=RelativeError | float)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualError:
    """Standard deviation at prediction f, and the law around it.

    additive a, proportional b, power c: sd = sqrt(a^2 + (b f)^2 + (c |f|^e)^2), or with `combine: sd` their sum
    a + b|f| + c|f|^e. log: y = f exp(sd eps) instead. t: degrees of freedom of a Student t eps (sd is then its scale).
    beta: a score with a Beta law instead.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    additive: Additive | None = None
    proportional: Relative | None = None
    power: Annotated[PowerError, BeforeValidator(_must_be_mapping)] | None = None
    log: Relative | None = None
    combine: Literal["variance", "sd"] = "variance"
    t: Annotated[Real, Field(gt=0)] | None = None
    beta: Annotated[BetaError, BeforeValidator(_must_be_mapping)] | None = None

    def __post_init__(self) -> None:
        others = any(t is not None for t in (self.additive, self.proportional, self.power))
        rules = [
            (self.log is not None and others, "log goes with no other term", "keep log, or the others"),
            (self.beta is not None and (others or self.log is not None), "beta goes with no other term", "keep one"),
            (self.beta is not None and self.t is not None, "beta has no t", "leave t out"),
            (self.combine == "sd" and not others, "combine needs additive and proportional", "leave combine out"),
            (self.t is not None and not others and self.log is None, "t needs a standard deviation", "add additive"),
        ]
        if wrong := next((words for bad, *words in rules if bad), None):
            raise problem(*wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """`name` stands in the equations for the outcome simulated at the observation before, `first` at the first one."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Identifier
    first: Annotated[Real, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Something observed: the name `is_` (text: `is`) of an equation or state.

    kind continuous: measured with `error`. kind count: `is` is the expected count, or with `per` [h] a rate [1/h] whose
    counting interval has that length; law poisson or negative_binomial, variance m + dispersion m^2; zeros: equation of
    the share of extra zeros. kind ordered: at_least: level -> equation of P(outcome >= level), levels from 1; below the
    first it is 0. previous: the simulated outcome feeds the next one (a Markov chain).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    is_: Annotated[Text, Field(alias="is")] = ""
    kind: Literal["continuous", "count", "ordered"] = "continuous"
    error: ResidualError = field(default_factory=ResidualError)
    lloq: Annotated[Measured, Field(ge=0)] | None = None
    law: Literal["poisson", "negative_binomial"] | None = None
    dispersion: Text = ""
    per: Annotated[Hours, Field(gt=0)] | None = None
    zeros: Text = ""
    at_least: dict[Annotated[int, Field(ge=1, le=1000)], Text] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    previous: Previous | None = None
    cite: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if wrong := next((words for bad, *words in self._rules() if bad), None):
            raise problem(*wrong)

    def _rules(self) -> list[tuple[bool, str, str]]:
        ordered, count = self.kind == "ordered", self.kind == "count"
        levels = list(self.at_least)
        counted = bool(self.law or self.dispersion or self.per or self.zeros)
        return [
            (not ordered and not self.is_, "is is missing", "add is: EQUATION"),
            (ordered and bool(self.is_), "ordered has no is", "write at_least: {1: P1, 2: P2}"),
            (ordered and not levels, "ordered needs at_least", "write at_least: {1: P1, 2: P2}"),
            (not ordered and bool(levels or self.labels), "at_least, labels need kind: ordered", "add kind: ordered"),
            (levels != list(range(1, len(levels) + 1)), "levels must be 1, 2, 3 ... in order", "number them from 1"),
            (bool(self.labels) and len(self.labels) != len(levels) + 1, "labels must name level 0 too", "one for each"),
            (not count and counted, "law, dispersion, per and zeros need kind: count", "add kind: count"),
            (count and self.law is None, "count needs a law", "law: poisson or law: negative_binomial"),
            (
                count and (self.law == "negative_binomial") != bool(self.dispersion),
                "dispersion goes with law: negative_binomial", "add dispersion: ALPHA, or law: poisson",
            ),
            (not self.continuous and self.error != ResidualError(), "only continuous outputs have errors", "remove it"),
            (not self.continuous and self.lloq is not None, "only a continuous output has a lloq", "remove it"),
            (self.continuous and self.previous is not None, "previous needs kind: count or ordered", "remove it"),
        ]  # fmt: skip

    @property
    def continuous(self) -> bool:
        """Whether it is measured with error rather than counted or classed."""
        return self.kind == "continuous"

    @property
    def equations(self) -> tuple[str, ...]:
        """Names of the equations and states it reads."""
        return tuple(str(n) for n in (self.is_, self.dispersion, self.zeros, *self.at_least.values()) if n)


def terms_of(error: ResidualError) -> dict[str, ErrorTerm | RelativeError | PowerError]:
    """The standard deviations a text gives, by name, in the order of `ERROR_TERMS`."""
    found: Mapping[str, Any] = {name: getattr(error, name) for name in ERROR_TERMS}
    return {name: value for name, value in found.items() if value is not None}
