"""What a protocol asks of its own safety: when people or comedications are excluded or dosed otherwise, and when counts
of an adverse event stop the trial. Frozen nouns; what follows from them is worked out in `reports.decided`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pkpd.ground.fields import Real
from trials.estimand import Names

__all__ = ["ANY", "Consequence", "SafetyStop"]

STRICT = ConfigDict(extra="forbid")
Share = Annotated[Real, Field(gt=0, lt=1)]
ANY = "any"  # the composite of all adverse events


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """Acts where the risk of an adverse event (of `any`), or an exposure ratio, is above a limit (a ratio: or below)
    with a certainty over draws: excludes those people, or gives them the `dose` as a share of the planned one (`then:
    adjust`).

    among: comedications and impairments it looks at; default all.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    risk: str | None = None
    exposure: str | None = None
    above: Annotated[Real, Field(gt=0, le=1000)] | None = None
    below: Annotated[Real, Field(gt=0, le=1000)] | None = None
    certainty: Share = 0.8
    then: Literal["exclude", "adjust"] = "exclude"
    dose: Annotated[Real, Field(gt=0, le=10)] | None = None
    among: Names = ()

    @property
    def limit(self) -> float:
        """The limit, whichever side."""
        return float(self.above if self.above is not None else self.below or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyStop:
    """Stops for the count of subjects with an event among those with a comedication or an impairment (`among`), after
    so many of them (`looks`).

    rule `bayes`: P(risk > above) is more than `certainty`, with a Beta prior, by default of mean `above` and the weight
    of one subject; `pocock`: a test at one level at each look, that stops at risk `above` with probability `alpha`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    event: str
    among: str
    above: Share
    looks: tuple[Annotated[int, Field(ge=1, le=2000)], ...]
    rule: Literal["bayes", "pocock"] = "bayes"
    certainty: Share | None = None
    prior: tuple[Annotated[Real, Field(gt=0)], Annotated[Real, Field(gt=0)]] | None = None
    alpha: Share | None = None

    @property
    def beta(self) -> tuple[float, float]:
        """The prior."""
        return self.prior or (self.above, 1.0 - self.above)

    def bounds(self) -> tuple[int, ...]:
        """Least counts that stop, by look."""
        from trials import event_bounds

        if self.rule == "pocock":
            return tuple(event_bounds.pocock(self.looks, self.above, self.alpha or 0.05).tolist())
        return tuple(event_bounds.bayes(self.looks, self.above, self.certainty or 0.9, self.beta).tolist())
