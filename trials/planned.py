"""What a protocol plans about calendar time: enrolment by sites, the data cut, interim looks and what they may decide.

Text nouns only; `trials.enrolment`, `trials.data_cut` and `trials.looks` do what they say. Days are days of the trial,
from the opening of its first site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground import units
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Measured, Real, problem
from pkpd.model.regimen import Dose
from trials.estimand import Names

__all__ = [
    "DataCut", "Efficacy", "Enrolment", "Futility", "Interims", "LackOfEffect", "Region", "Rescue", "Selection",
    "Switch",
]  # fmt: skip

STRICT = ConfigDict(extra="forbid")

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[Real, Field(gt=0, le=1)]
Days = Annotated[Real, Field(gt=0, le=36525)]
Time = Annotated[Hours, Field(ge=0, le=36525 * 24)]


def _per_day(value: object) -> object:
    try:
        return units.number(value, "1/d") if isinstance(value, str) else value
    except InputError as error:
        raise problem(error.problem, error.remedy) from None


def _many(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Rate = Annotated[
    float, BeforeValidator(_per_day, json_schema_input_type=str),
    Field(gt=0, allow_inf_nan=False, examples=["0.02 1/d"]),
]  # fmt: skip
Reals = Annotated[tuple[Real, ...], BeforeValidator(_many)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Going over to the regimen of arm `to` `after` an event, from arms `from`, with a `probability`.

    The regimen begins anew at that time, or `delay` [h] later.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    after: str
    from_: Annotated[Names, Field(alias="from")]
    to: str
    probability: Share = 1.0
    delay: Time = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """Doses added from a visit of `at` on, where the measured output there is `below` or `above` a level.

    regimen: its times count from that visit; arms: in which it is given (left out: in all).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    measure: str
    at: Names
    regimen: tuple[Dose, ...]
    below: Measured | None = None
    above: Measured | None = None
    arms: Names = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LackOfEffect:
    """Leaving at a visit of `at`, with a `probability`, where the measured output there is `below` or `above`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    measure: str
    at: Names
    probability: Share
    below: Measured | None = None
    above: Measured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region: its `share` of the sites; `cap` of its subjects; what is left out is as in the whole trial."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    share: Share
    cap: Count | None = None
    rate: Rate | None = None
    opening: tuple[Time, Time] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Who comes when: `sites`, each of which enrols as a Poisson process.

    rate: mean rate of a site [1/d], of eligible subjects enrolled; cv: of rates between sites (gamma; 0: all the same);
    ramp_up [h]: over which a site's rate rises from 0 to its own; opening: when the first and the last site open [h],
    the others evenly between; site_cap: subjects of one site. The protocol's `subjects` are the first to come.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sites: Annotated[int, Field(ge=1, le=10_000)]
    rate: Rate
    cv: Annotated[Real, Field(ge=0, le=10)] = 0.0
    ramp_up: Time = 0.0
    opening: tuple[Time, Time] = (0.0, 0.0)
    site_cap: Count | None = None
    regions: Mapping[Identifier, Region] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCut:
    """When the data base is closed: on a `day`, or with so many `events` of an `analysis`, whichever is first."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    day: Days | None = None
    events: Count | None = None
    analysis: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficacy:
    """When a look may reject; see `trials.designs.sequential.Efficacy`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    family: str | None = None
    spending: str | None = None
    shape: Real = 0.0
    early: Real = 3.0
    cumulative: Reals = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Futility:
    """When a look ends the trial for lack of effect; see `trials.designs.sequential.Futility`. power: of the plan."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    z: Reals = ()
    spending: str | None = None
    shape: Real = 0.0
    cumulative: Reals = ()
    binding: bool = False
    power: Annotated[Real, Field(gt=0, lt=1)] = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which arms go on after an interim look; see `trials.designs.selection.Choice`.

    arms: that may be dropped (left out: all that are compared); threshold: an arm whose effect is not above it is
    dropped, on the scale of the estimate (of ratios: of the ratio), in the direction of benefit; intersection: test of
    the closed procedure; success: whether `all` arms still in, or `any`, must be rejected to end the trial.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    choice: Literal["best", "best_of", "within", "all"] = "best"
    arms: Names = ()
    number: Count = 1
    epsilon: Annotated[Real, Field(ge=0)] = 0.0
    threshold: Real | None = None
    intersection: Literal["dunnett", "bonferroni", "sidak", "simes"] = "dunnett"
    success: Literal["all", "any"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interims:
    """Looks at one `analysis` while the trial runs.

    of: what information is counted in: `subjects` whose endpoint is due, or `events`; looks: information fractions that
    end at 1, or numbers of subjects or events; maximum: events at the last look, with fractions; days: of every look
    but the last, where the calendar decides and not the information (the error is then spent by the information seen).
    alpha and side are those of the analysis.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    analysis: str
    of: Literal["subjects", "events"] = "subjects"
    looks: Reals
    maximum: Count | None = None
    days: Reals = ()
    efficacy: Efficacy
    futility: Futility | None = None
    select: Selection | None = None

    @property
    def counted(self) -> bool:
        """Whether `looks` are numbers and not fractions."""
        return bool(self.looks) and self.looks[-1] > 1

    @property
    def fractions(self) -> tuple[float, ...]:
        """Planned information fractions."""
        return tuple(look / self.looks[-1] for look in self.looks) if self.counted else self.looks

    @property
    def events(self) -> int | None:
        """Number of events at the last look."""
        return int(self.looks[-1]) if self.counted else self.maximum
