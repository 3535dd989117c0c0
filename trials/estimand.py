"""What a trial asks: endpoints, estimands (ICH E9 R1) and the analyses that estimate them.

An endpoint is a variable of one subject, an estimand compares its distribution between arms, an analysis of the same
name estimates it. `strategies` says how each intercurrent event enters: `treatment_policy` uses what happened whether
or not treatment went on; `while_on_treatment` (events only) counts until treatment ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.fields import Real

__all__ = ["Analysis", "Endpoint", "Estimand", "Missing", "Names"]

STRICT = ConfigDict(extra="forbid")

Probability = Annotated[Real, Field(gt=0, lt=1)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A variable of one subject: an `output` `at` a visit, or whether an adverse `event` occurred.

    output: name of a model output; event: one or more names of model events (any of them counts);
    at: visit of an output; as: `value`, `change_from_baseline` (outputs) or `incidence` (events);
    at_least: lowest grade that counts as an event.

    >>> Endpoint(event=("nausea",), as_="incidence").events
    ('nausea',)
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    as_: Annotated[Literal["value", "change_from_baseline", "incidence"], Field(alias="as")]
    output: str | None = None
    event: Names | None = None
    at: str | None = None
    at_least: Annotated[int, Field(ge=1, le=5)] = 1

    @property
    def events(self) -> tuple[str, ...]:
        """Names of the model's events that count, none for an output."""
        return self.event or ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimand:
    """What is compared: `endpoint` (one or several) in each arm of `compare` `against` a control arm.

    summary: `mean_difference` for outputs, `risk_difference` for events; strategies: one for each intercurrent event.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    endpoint: Names
    compare: Names
    against: str
    summary: Literal["mean_difference", "risk_difference"]
    strategies: Mapping[str, Literal["treatment_policy", "while_on_treatment"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """How missing values of an output are handled: multiple imputation (at random) or complete cases."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: Literal["multiple_imputation", "complete_case"] = "complete_case"
    imputations: Annotated[int, Field(ge=2, le=1000)] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """How an estimand is estimated.

    method: `ancova` (outputs; adjusted for baseline and the strata, Dunnett) or `miettinen_nurminen` (events);
    adjust: covariates of the ANCOVA, `baseline`, the stratification factors and, if wanted, `prognosis`; alpha and
    side: of the test; level: of the interval of a risk difference.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: Literal["ancova", "miettinen_nurminen"]
    adjust: Names = ("baseline",)
    multiplicity: Literal["dunnett"] = "dunnett"
    missing: Missing = field(default_factory=Missing)
    alpha: Probability = 0.05
    side: Literal["two", "greater", "less"] = "two"
    level: Probability = 0.95
