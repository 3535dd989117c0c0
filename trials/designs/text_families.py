"""Endpoints of designs that have rules of their own: factorial, platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pkpd.ground.fields import Identifier, Real, problem
from trials.designs.text_parts import STRICT, Count, Positive

__all__ = ["Factorial", "Joining", "Platform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorial:
    """Two treatments, each given or not: four cells of equal size. effects: of each alone, against neither;
    interaction: what both do beyond their sum. analysis: at the margins (all with against all without), or of `cells`
    (one alone against neither). each: subjects of a cell, instead of those that the smaller effect needs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    effects: Annotated[dict[Identifier, Real], Field(min_length=2, max_length=2)]
    sd: Positive
    interaction: Real = 0.0
    analysis: Literal["margins", "cells"] = "margins"
    adjust: Literal["none", "bonferroni", "holm"] = "none"
    each: Annotated[Count, Field(ge=2)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """An arm of a platform: its `effect`, and how many subjects have entered the platform before it `enters`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    effect: Real
    enters: Annotated[int, Field(ge=0, le=10**7)] = 0
    subjects: Annotated[Count, Field(ge=2)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Arms that enter and leave beside a control that stays; each arm ends with its `subjects` (`each` for all).

    analysis: `concurrent` compares with controls of the arm's own time, `pooled` with all controls until then,
    `adjusted` fits all data until then with a step for every period (between arms that enter or leave). control: its
    subjects for each one of an arm.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    arms: Annotated[dict[Identifier, Joining], Field(min_length=1, max_length=12)]
    each: Annotated[Count, Field(ge=2)]
    sd: Positive
    control: Annotated[int, Field(ge=1, le=10)] = 1
    analysis: Literal["concurrent", "pooled", "adjusted"] = "adjusted"

    def __post_init__(self) -> None:
        if min(arm.enters for arm in self.arms.values()) > 0:
            raise problem("has no arm at the beginning", "let one arm enter at 0")
        if "control" in self.arms:
            raise problem("control is there already", "rename the arm")
