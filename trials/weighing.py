"""What a trial's arms are weighed by: criteria, ranges and weights, subgroups, doses; frozen nouns of a protocol.

`trials.benefit` measures the criteria, `trials.assessed` weighs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.fields import Identifier, Measured, Real
from trials.estimand import Names

__all__ = ["ALL", "MEASURED", "BenefitRisk", "EffectCriterion", "Subgroup"]

STRICT = ConfigDict(extra="forbid")
Share = Annotated[Real, Field(ge=0, le=1)]
Level = Annotated[Real, Field(gt=0, lt=1)]
Status = Literal["verified", "copied", "assumed"]

ALL = "all"
"""The group of everybody; no subgroup may be called so."""
MEASURED = ("value", "change_from_baseline", "responder", "incidence")
"""Kinds of endpoint whose mean in an arm is a criterion's effect."""


def _as_pairs(value: object) -> object:
    """`{0.1: 0.6}` or `[[0.1, 0.6]]`."""
    return [[x, v] for x, v in value.items()] if isinstance(value, Mapping) else value


Points = Annotated[
    tuple[tuple[Real, Share], ...],
    BeforeValidator(_as_pairs, json_schema_input_type=dict[str, float] | list[tuple[float, float]]),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectCriterion:
    """One favourable or unfavourable effect: the mean over everybody in an arm.

    endpoint: of an endpoint of the protocol; or summary: of an exposure of the model `at` a visit, its mean, or the
    share of people `above` or `below` a limit. worst, best: the range whose swing is weighed, in the unit of the effect
    (a share from 0 to 1); points: {effect: value between 0 and 1} where the value is not linear between them. swing:
    points for the whole swing; or rank: its place, 1 the most important, places may be shared; without either nothing
    is assumed of the weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["favourable", "unfavourable"]
    worst: Real
    best: Real
    endpoint: str | None = None
    summary: str | None = None
    at: str | None = None
    above: Measured | None = None
    below: Measured | None = None
    points: Points = ()
    swing: Annotated[Real, Field(ge=0, le=1e6)] | None = None
    rank: Annotated[int, Field(ge=1, le=100)] | None = None
    label: str | None = None

    @property
    def limited(self) -> bool:
        """Whether it is a share of people beyond a limit."""
        return self.above is not None or self.below is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """People split `by` a covariate: its categories, or the intervals between `cuts` (from each on upwards)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    by: str
    cuts: tuple[Real, ...] = ()
    label: str | None = None

    def words(self, level: int) -> str:
        """An interval in words, `level` the number of cuts below it.

        >>> [Subgroup(by="AGE", cuts=(50.0, 65.0)).words(k) for k in (0, 1, 2)]
        ['AGE < 50', '50 ≤ AGE < 65', 'AGE ≥ 65']
        """
        name = self.label or self.by
        low = f"{self.cuts[level - 1]:g}" if level > 0 else ""
        high = f"{self.cuts[level]:g}" if level < len(self.cuts) else ""
        if low and high:
            return f"{low} ≤ {name} < {high}"
        return f"{name} < {high}" if high else f"{name} ≥ {low}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenefitRisk:
    """Arms weighed by `criteria`, every arm (or those of `arms`) with all subjects of a replicate in it.

    against: the arm of the differences, by default that of the first estimand; doses: {arm: dose} for the utility by
    dose, in dose_unit; replicates: how many are measured, by default all; level: of intervals; source: whose values the
    ranges and weights are, with their status.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    criteria: dict[Identifier, EffectCriterion]
    against: str | None = None
    arms: Names = ()
    doses: dict[str, Annotated[Real, Field(ge=0)]] = field(default_factory=dict)
    dose_unit: str = ""
    subgroups: dict[Identifier, Subgroup] = field(default_factory=dict)
    replicates: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    level: Level = 0.95
    source: str = ""
    status: Status = "assumed"

    @property
    def order(self) -> tuple[tuple[str, ...], ...] | None:
        """Criteria by rank, None where they have none."""
        ranks: dict[int, list[str]] = {}
        for name, criterion in self.criteria.items():
            if criterion.rank is None:
                return None
            ranks.setdefault(criterion.rank, []).append(name)
        return tuple(tuple(ranks[k]) for k in sorted(ranks))

    @property
    def swung(self) -> bool:
        """Whether the criteria have swing weights."""
        return all(criterion.swing is not None for criterion in self.criteria.values())

    def compared(self, arms: Any) -> tuple[str, ...]:
        """The arms weighed, in the order of the protocol's `arms`."""
        return tuple(name for name in arms if not self.arms or name in self.arms)

    def reference(self, arms: Any, estimands: Mapping[str, Any]) -> str:
        """The arm of the differences."""
        first = next((e.against for e in estimands.values()), None)
        found = self.against or first
        return found if found in self.compared(arms) else self.compared(arms)[0]

    def measured(self, replicate: int) -> bool:
        """Whether a replicate is measured."""
        return self.replicates is None or replicate < self.replicates
