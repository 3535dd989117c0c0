"""What a correct engine must give for a model (`golden`), the published result it should reproduce (`reproduces`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.fields import Hours, Identifier, Measured, Real, problem
from pkpd.ground.validation import Text
from pkpd.model.parts import STRICT
from pkpd.model.regimen import Dose

__all__ = ["Golden", "GoldenValue", "Reproduces"]

Statistic = Literal[
    "value", "maximum", "minimum", "time_of_maximum", "time_of_minimum", "area", "time_above", "time_below"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenValue:
    """One number: `of` (an equation, state or parameter) `as` a statistic.

    value: at time `at`; the others over [`from`, `until`] (`until` left out: to infinity where that makes sense);
    time_above and time_below: of the level `limit`; is_ (text: `is`): the number with its unit; digits that must agree;
    kind: exact (deterministic), population (a mean or percentile of many) or memory (from memory: reported only).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    of: Text
    as_: Annotated[Statistic, Field(alias="as")] = "value"
    at: Annotated[Hours, Field(ge=0)] | None = None
    from_: Annotated[Hours, Field(ge=0, alias="from")] = 0.0
    until: Annotated[Hours, Field(gt=0)] | None = None
    limit: Measured | None = None
    is_: Annotated[Measured, Field(alias="is")]
    digits: Annotated[int, Field(ge=1, le=15)] = 4
    kind: Literal["exact", "population", "memory"] = "exact"
    note: str | None = None

    def __post_init__(self) -> None:
        timed = self.as_ in ("time_above", "time_below")
        rules = [
            (self.as_ != "value" and self.at is not None, "at goes with as: value", "use from and until"),
            (timed and self.limit is None, f"{self.as_} needs a limit", "add limit: 1 mg/L"),
            (not timed and self.limit is not None, "a limit goes with time_above or time_below", "leave it out"),
            (self.until is not None and self.until <= self.from_, "must end after it starts", "correct from and until"),
        ]
        if wrong := next((words for bad, *words in rules if bad), None):
            raise problem(*wrong)


def _several(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One case: a typical subject with `covariates` and `parameters` set as said, given `doses`, and its `values`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    covariates: dict[Identifier, Real] = field(default_factory=dict)
    parameters: dict[Identifier, Measured] = field(default_factory=dict)
    doses: tuple[Dose, ...] = ()
    values: Annotated[tuple[GoldenValue, ...], BeforeValidator(_several), Field(min_length=1)]
    cite: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduces:
    """A published result: `what`, its `value` as text, and where it stands."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    what: str
    value: str
    cite: str
    status: Literal["verified", "copied", "assumed", "memory"] = "copied"
    note: str | None = None
