"""What several texts of designs are made of: kinds of numbers, hazards, accrual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from pkpd.ground.fields import Real, problem

__all__ = ["STRICT", "Count", "Entry", "NotNegative", "Positive", "Rates", "Reals", "Share"]

STRICT = ConfigDict(extra="forbid")

Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Share = Annotated[Real, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Reals = tuple[Real, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A hazard: one of a median time, a constant rate, a share of events `by` a time, or rates in pieces."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    median: Positive | None = None
    rate: NotNegative | None = None
    share: Share | None = None
    by: Positive | None = None
    starts: Reals = ()
    rates: Reals = ()

    def __post_init__(self) -> None:
        given = [self.median is not None, self.rate is not None, self.share is not None, bool(self.rates)]
        if sum(given) != 1:
            raise problem("needs exactly one of median, rate, share and rates", "write for example {median: 12}")
        if (self.share is None) != (self.by is None):
            raise problem("a share needs the time it is reached", "write {share: 0.05, by: 12}")
        if len(self.rates) != len(self.starts):
            raise problem("needs one rate for each start", "write {starts: [0, 6], rates: [0.1, 0.05]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Accrual: over a `duration`, or between `times` with relative `intensities`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    duration: Positive | None = None
    times: Reals = ()
    intensities: Reals = ()

    def __post_init__(self) -> None:
        if (self.duration is None) == (not self.times):
            raise problem("needs one of duration and times", "write {duration: 12}")
