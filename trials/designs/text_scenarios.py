"""Scenarios of a design text: what is true in a simulation, what a trial costs, when it is a success."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Identifier, Real
from trials.designs.text_parts import STRICT, Entry, NotNegative, Positive, Rates, Reals, Share

__all__ = ["Costs", "Enrolment", "Profile", "Scenarios", "Simulate", "Truth", "json_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true in a simulation, where it differs from the endpoint's assumption.

    effect: of means, or treated - control of proportions. delay: no effect before this time (hazard ratio 1);
    hazard_ratios: in pieces, instead of hazard_ratio and delay; hazard, accrual, dropout: instead of the endpoint's.
    arms: true value of each arm that differs. lost: share of subjects without an outcome; trend: by how much the last
    subject's outcome is above the first one's in every arm (proportions: log odds); rate: of enrolment. Of a platform:
    shape of the trend (a step half-way; a rise to the middle and a fall), trends: of arms where they differ. rates:
    P(toxicity) by dose.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    effect: Real | None = None
    sd: Positive | None = None
    treated: Share | None = None
    control: Share | None = None
    hazard_ratio: Positive | None = None
    delay: NotNegative = 0.0
    hazard_ratios: Rates | None = None
    hazard: Rates | None = None
    accrual: Entry | None = None
    dropout: Rates | None = None
    arms: dict[Identifier, Real] = field(default_factory=dict)
    effects: Reals = ()
    lost: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    trend: Real = 0.0
    rate: Positive | None = None
    cv: Positive | None = None
    interaction: Real | None = None
    shape: Literal["linear", "step", "inverted_u"] = "linear"
    trends: dict[Identifier, Real] = field(default_factory=dict)
    rates: tuple[Share, ...] = ()


Axis = Literal[
    "effect", "sd", "cv", "interaction", "treated", "control", "hazard_ratio", "delay", "lost", "trend", "rate"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulate:
    """Trials drawn from stated distributions, under each of the `truths`, crossed with every value of the `grid`.

    mcse: as many replicates a scenario, up to `most`, as give P(reject) this Monte Carlo error.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    replicates: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    mcse: Annotated[Real, Field(gt=0, lt=0.5)] | None = None
    most: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    truths: Annotated[dict[Identifier, Truth], Field(min_length=1)]
    grid: dict[Axis, Annotated[Reals, Field(min_length=1, max_length=50)]] = field(default_factory=dict)

    @property
    def scenarios(self) -> dict[str, Truth]:
        """Truths crossed with the grid, by name (`nothing, sd 0.8`)."""
        found = dict(self.truths)
        for axis, values in self.grid.items():
            crossed = [(f"{name}, {axis} {v:g}", truth, v) for name, truth in found.items() for v in values]
            found = {name: _checked(truth, **{axis: v}) for name, truth, v in crossed}
        return found


def _checked(truth: Truth, **changes: float) -> Truth:
    """A truth changed, with the limits of its fields."""
    plain = TypeAdapter(Truth).dump_python(truth)
    try:
        return TypeAdapter(Truth).validate_python({**plain, **changes})
    except ValidationError as error:
        (axis, value), words = next(iter(changes.items())), error.errors()[0]["msg"]
        raise InputError(words, field=f"simulate.grid.{axis}", value=value, remedy="change the grid") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Subjects a unit of time (a Poisson process), and the time from a subject's entry to its outcome."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rate: Positive
    follow_up: NotNegative = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Go/No-Go by a target product profile: Go when P(effect > least) >= sure and P(effect > wanted) >= likely under a
    flat prior, Stop when neither holds. Of survival both are hazard ratios, wanted the smaller one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    least: Real | None = None
    wanted: Real
    sure: Annotated[Real, Field(ge=0.5, lt=1)] = 0.975
    likely: Annotated[Real, Field(gt=0, lt=1)] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Cost of a trial: `fixed` + `subject` x subjects + `time` x duration; `value` of a success (Go, or rejection)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    fixed: NotNegative = 0.0
    subject: NotNegative = 0.0
    time: NotNegative = 0.0
    value: NotNegative | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenarios:
    """Scenarios for several designs at once (`vtrial: scenarios/1`): used instead of each text's own. Protocols take
    the costs alone (time in days).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    vtrial: Literal["scenarios/1"]
    simulate: Simulate | None = None
    enrolment: Enrolment | None = None
    profile: Profile | None = None
    costs: Costs | None = None

    @classmethod
    def read(cls, path: str | Path) -> Scenarios:
        """Scenarios from their file."""
        return text.validated(cls, text.read(Path(path)), str(path))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of scenarios."""
    return TypeAdapter(Scenarios).json_schema()
