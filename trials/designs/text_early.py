"""Endpoints of binary outcomes with rules of their own: escalation, two stages, adaptive shares, baskets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pkpd.ground.fields import Identifier, problem
from trials.designs.text_parts import STRICT, Count, Positive, Reals, Share

__all__ = ["AdaptiveShares", "Baskets", "Escalation", "TwoStages"]

Inside = Annotated[Share, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Dose escalation in cohorts. rates: assumed P(toxicity) by dose, upwards; doses count from 1.

    skeleton (crm, tite_crm): prior guesses by dose; amounts, reference (blrm): the doses and that of the intercept;
    window, every (tite_crm): of observation, and mean time between entries. size of the trial: `patients` at most.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rule: Literal["three_plus_three", "three_plus_three_expanded", "boin", "mtpi", "mtpi2", "crm", "tite_crm", "blrm"]
    rates: Annotated[tuple[Share, ...], Field(min_length=2, max_length=12)]
    target: Inside = 0.3
    patients: Count = 30
    cohort: Annotated[int, Field(ge=1, le=12)] = 3
    start: Annotated[int, Field(ge=1)] = 1
    skeleton: Reals = ()
    amounts: Reals = ()
    reference: Positive | None = None
    window: Positive | None = None
    every: Positive | None = None

    def __post_init__(self) -> None:
        if any(b < a for a, b in zip(self.rates, self.rates[1:])):
            raise problem("rates must not fall with the dose", "order the doses upwards")
        if self.start > len(self.rates):
            raise problem("starts above the last dose", f"write start: 1 to {len(self.rates)}")
        if self.rule == "blrm" and not 0.16 <= self.target <= 0.33:
            raise problem("blrm aims at rates from 0.16 to 0.33, whatever the target", "write a target in there")
        needs = {"crm": ("skeleton",), "tite_crm": ("skeleton", "window", "every"), "blrm": ("amounts", "reference")}
        wanted = needs.get(self.rule, ())
        for name in ("skeleton", "amounts", "reference", "window", "every"):
            if bool(getattr(self, name)) != (name in wanted):
                word = "needs" if name in wanted else "does not use"
                raise problem(f"{self.rule} {word} {name}", f"{'add' if name in wanted else 'remove'} {name}")
        for name in ("skeleton", "amounts"):
            if getattr(self, name) and len(getattr(self, name)) != len(self.rates):
                raise problem(f"{name} must have a value for each dose", f"write {len(self.rates)} values")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStages:
    """Simon's two-stage design for a response rate: `null` against `promising` at the text's alpha and power."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    null: Inside
    promising: Inside
    choose: Literal["optimal", "minimax"] = "optimal"

    def __post_init__(self) -> None:
        if self.promising <= self.null:
            raise problem("promising must be above null", "write {null: 0.1, promising: 0.3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveShares:
    """Bayesian response-adaptive randomisation. arms: assumed response rates, the first may be a control with a
    `fixed` share; looks: numbers of subjects; an arm wins at P(best) > superiority, leaves below inferiority.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    arms: Annotated[dict[Identifier, Share], Field(min_length=2, max_length=8)]
    looks: Annotated[tuple[Count, ...], Field(min_length=1, max_length=100)]
    superiority: Inside = 0.99
    inferiority: Annotated[Share, Field(lt=1)] = 0.01
    least: Share = 0.0
    most: Share = 1.0
    fixed: Inside | None = None
    softening: Share = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baskets:
    """Several diseases, one drug: hierarchical or EXNEX analysis. baskets: assumed response rates; null: the rate to
    beat; looks: subjects of a basket; a basket stops where P(rate > null) < futility, succeeds above `threshold`.
    exchange: prior probability that a basket is like the others (1: hierarchical).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    baskets: Annotated[dict[Identifier, Share], Field(min_length=2, max_length=10)]
    null: Inside
    looks: Annotated[tuple[Count, ...], Field(min_length=1, max_length=10)]
    threshold: Inside = 0.9
    futility: Share = 0.0
    exchange: Share = 0.5
    scale: Positive = 1.0
