"""What a trial asks: endpoints, estimands (ICH E9 R1) and the analyses that estimate them.

An endpoint is a variable of one subject, an estimand compares its distribution between arms, an analysis of the same
name estimates it. `strategies` says how each intercurrent event enters: `treatment_policy` uses what happened whether
or not treatment went on; `while_on_treatment` (events only) counts until treatment ends; `composite` and `hypothetical`
(times to an event) count the end of treatment as the event, or ask for the time had treatment gone on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.fields import Real

__all__ = ["Analysis", "Endpoint", "Estimand", "Missing", "Names", "Prior"]

STRICT = ConfigDict(extra="forbid")

Probability = Annotated[Real, Field(gt=0, lt=1)]


Strategy = Literal["treatment_policy", "while_on_treatment", "composite", "hypothetical"]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


def _kinds() -> list[str]:
    from trials.kinds import KINDS

    return list(KINDS)


def _summaries() -> list[str]:
    from trials.methods import summaries

    return list(summaries())


def _methods() -> list[str]:
    from trials.methods import METHODS

    return list(METHODS)


def _one_of(names: Callable[[], list[str]]) -> Any:
    """A field whose names a table knows: the schema lists them, `trials.checks` refuses any other."""

    def listed(schema: dict[str, Any]) -> None:
        schema["enum"] = names()

    return Field(json_schema_extra=listed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A variable of one subject: an `output` `at` a visit, or whether an adverse `event` occurred.

    output: name of a model output; event: one or more names of model events (any of them counts);
    as: its kind, a name of `trials.kinds.KINDS`: `value`, `change_from_baseline` (outputs), `incidence`,
    `time_to_event`, `recurrences`, `hierarchy` (events; of a hierarchy the first is the worst), ...; at: visit of an
    output, or up to which events are looked at (left out: the last); at_least: lowest grade that counts
    as an event. A `responder` reaches `threshold` or more (`responds: at_least`, or `at_most`) of the output, of its
    `change` from baseline (absolute) or of that over the baseline (relative); unseen: what a subject not seen at the
    visit is, a `non_responder` or left out (`observed_cases`). The kind says which of these it takes.

    >>> Endpoint(event=("nausea",), as_="incidence").events
    ('nausea',)
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    as_: Annotated[str, Field(alias="as"), _one_of(_kinds)]
    output: str | None = None
    event: Names | None = None
    at: str | None = None
    at_least: Annotated[int, Field(ge=1, le=5)] = 1
    threshold: Real | None = None
    responds: Literal["at_least", "at_most"] = "at_least"
    change: Literal["none", "absolute", "relative"] = "none"
    unseen: Literal["non_responder", "observed_cases"] = "non_responder"

    @property
    def events(self) -> tuple[str, ...]:
        """Names of the model's events that count, none for an output."""
        return self.event or ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimand:
    """What is compared: `endpoint` (one or several) in each arm of `compare` `against` a control arm.

    summary: what some method estimates of the endpoints' kinds, `mean_difference`, `risk_difference`, ...; strategies:
    one for each intercurrent event.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    endpoint: Names
    compare: Names
    against: str
    summary: Annotated[str, _one_of(_summaries)]
    strategies: Mapping[str, Strategy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """How missing values of an output are handled: multiple imputation or complete cases.

    assume: what holds for treated subjects after the last visit seen: `at_random`, or with the means of the control arm
    `jump_to_reference` (from then on), `copy_reference` (always), `copy_increments` (steps from the own last mean);
    delta: added to their imputed values, in the output's unit.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: Literal["multiple_imputation", "complete_case"] = "complete_case"
    imputations: Annotated[int, Field(ge=2, le=1000)] = 20
    assume: Literal["at_random", "jump_to_reference", "copy_reference", "copy_increments"] = "at_random"
    delta: Real = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A normal part of the prior of an effect: `at` on the scale of the estimate (a ratio: 1 is no effect), `sd` of the
    difference or of the logarithm of the ratio, `weight` among the parts.

    >>> Prior(at=1.0, sd=0.35).weight
    1.0
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    at: Real
    sd: Annotated[Real, Field(gt=0)]
    weight: Annotated[Real, Field(gt=0, le=1)] = 1.0


def _as_parts(value: object) -> object:
    return [value] if isinstance(value, Mapping) else value


Priors = Annotated[tuple[Prior, ...], BeforeValidator(_as_parts)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """How an estimand is estimated.

    method: a name of `trials.methods.METHODS`: `ancova` (outputs; adjusted for baseline and the strata, Dunnett),
    `miettinen_nurminen` (events), ...; it uses some of the other fields, a text that gives it another one is refused.
    adjust: covariates of the ANCOVA, `baseline`, the stratification factors and, if wanted, `prognosis`; alpha and
    side: of the test; level: of the interval of a risk difference; stratified: by the allocation's strata (times to an
    event); rho, gamma: of Fleming-Harrington weights S^rho (1 - S)^gamma; df, covariance: of `mmrm`.
    MCP-Mod: shapes: candidates with the guesses of their parameters (`emax: [25]`, `linear: []`; DoseFinding's),
    doses: by arm, where not the one dose of its regimen; effect: over the control, of the target dose; select: average
    of all shapes by AIC, or the best.
    prior: of the effect, one part or several: the estimate is then read as a posterior; margin: the effect that must be
    exceeded (left out: none).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: Annotated[str, _one_of(_methods)]
    adjust: Names = ("baseline",)
    multiplicity: Literal["dunnett", "none"] = "dunnett"
    missing: Missing = field(default_factory=Missing)
    alpha: Probability = 0.05
    side: Literal["two", "greater", "less"] = "two"
    level: Probability = 0.95
    df: Literal["kenward_roger", "satterthwaite"] = "kenward_roger"
    covariance: Literal["unstructured", "toeplitz", "compound_symmetry"] = "unstructured"
    stratified: bool = True
    rho: Annotated[Real, Field(ge=0, le=10)] = 0.0
    gamma: Annotated[Real, Field(ge=0, le=10)] = 0.0
    shapes: Mapping[str, tuple[Real, ...]] = field(default_factory=dict)
    doses: Mapping[str, Annotated[Real, Field(ge=0)]] = field(default_factory=dict)
    effect: Real | None = None
    select: Literal["average", "best"] = "average"
    prior: Priors | None = None
    margin: Real | None = None
