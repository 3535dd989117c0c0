"""Trials with a time to event: number of events, subjects, duration; piecewise hazards, accrual and dropout.

Events: Schoenfeld, Biometrika 1981;68:316; Freedman, Stat Med 1982;1:121; Hsieh-Freedman, Stat Med 1992;11:775.
Expected events by calendar time: Lachin & Foulkes, Biometrics 1986;42:507, with hazards, accrual and dropout
constant in pieces. Any unit of time, the same everywhere. Group 1 is treated, 2 control; `ratio` n1/n2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.designs.roots import root
from trials.designs.sizes import Error, Size, allocated, split

__all__ = ["METHODS", "Accrual", "Hazard", "SurvivalSize", "Times", "events_needed", "survival_size"]

Floats = NDArray[np.float64]

METHODS = ("schoenfeld", "freedman", "hsieh_freedman")
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """A hazard constant in pieces: `rates[i]` from `starts[i]` on (the first start is 0)."""

    rates: tuple[float, ...]
    starts: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not self.starts or len(self.starts) != len(self.rates) or self.starts[0] != 0:
            remedy = "write {starts: [0, 6], rates: [0.1, 0.05]}"
            raise InputError(
                "needs one rate for each start, the first start 0", field="hazard", value=self.starts, remedy=remedy
            )
        if any(b <= a for a, b in zip(self.starts, self.starts[1:])):
            raise InputError("must increase", field="hazard.starts", value=list(self.starts), remedy="in order of time")
        if min(self.rates) < 0 or not all(math.isfinite(rate) for rate in self.rates):
            raise InputError(
                "must be finite and >= 0", field="hazard.rates", value=list(self.rates), remedy="per unit time"
            )

    @classmethod
    def constant(cls, rate: float) -> Hazard:
        return cls(rates=(rate,))

    @classmethod
    def median(cls, time: float) -> Hazard:
        """Constant, with half of the subjects free of the event at `time`."""
        if not time > 0:
            raise InputError("must be > 0", field="median", value=time, remedy="write the median time to the event")
        return cls(rates=(math.log(2) / time,))

    @classmethod
    def share(cls, p: float, time: float) -> Hazard:
        """Constant, with a share p of events (or dropouts) by `time`."""
        if not 0 <= p < 1 or not time > 0:
            raise InputError("must be a share of [0, 1) by a time > 0", field="share", value=f"{p:g} by {time:g}")
        return cls(rates=(-math.log1p(-p) / time,))

    def times(self, factor: float) -> Hazard:
        """Proportional: every rate multiplied."""
        return Hazard(starts=self.starts, rates=tuple(rate * factor for rate in self.rates))

    def changed(self, factors: Hazard) -> Hazard:
        """Every rate multiplied by another step function: hazard ratios that change with time (a delayed effect)."""
        starts = tuple(sorted({*self.starts, *factors.starts}))
        return Hazard(starts=starts, rates=tuple(self.at(t) * factors.at(t) for t in starts))

    def at(self, time: float) -> float:
        """The rate at a time, pieces closed on the left."""
        return self.rates[int(np.searchsorted(self.starts, time, side="right")) - 1]


NONE = Hazard(rates=(0.0,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrual:
    """Subjects enter at constant relative `intensities` between `times` (first 0, one more than intensities)."""

    times: tuple[float, ...]
    intensities: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.times) != len(self.intensities) + 1 or self.times[0] != 0:
            raise InputError("needs one intensity between every two times, the first time 0", field="accrual.times",
                             value=list(self.times))  # fmt: skip
        if any(b <= a for a, b in zip(self.times, self.times[1:])):
            raise InputError("must increase", field="accrual.times", value=list(self.times), remedy="in order of time")
        if min(self.intensities) < 0 or not sum(self.intensities) > 0:
            raise InputError("must be >= 0 and not all 0", field="accrual.intensities", value=list(self.intensities))

    @classmethod
    def uniform(cls, duration: float) -> Accrual:
        return cls(times=(0.0, duration))

    @property
    def duration(self) -> float:
        return self.times[-1]

    @property
    def shares(self) -> Floats:
        """Share of the subjects that enter in each piece."""
        amount = np.diff(self.times) * np.array(self.intensities)
        return np.asarray(amount / amount.sum())

    def entered(self, time: ArrayLike) -> Floats:
        """Share of the subjects entered by calendar times."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.shares)])
        return np.asarray(np.interp(np.asarray(time, dtype=np.float64), self.times, cumulative))


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What decides when events happen: hazards of both groups, accrual, dropout, allocation."""

    treated: Hazard
    control: Hazard
    accrual: Accrual
    dropout_treated: Hazard = NONE
    dropout_control: Hazard = NONE
    ratio: float = 1.0

    def event_share(self, time: float) -> tuple[float, float]:
        """Share of each group's planned subjects with an event by calendar `time`."""
        return (
            _by_calendar(time, self.accrual, self.treated, self.dropout_treated),
            _by_calendar(time, self.accrual, self.control, self.dropout_control),
        )

    def events(self, time: float, subjects: float = 1.0) -> float:
        """Expected events by calendar time among planned subjects.

        >>> times = Times(treated=Hazard.median(12), control=Hazard.median(12), accrual=Accrual.uniform(12))
        >>> round(times.events(24), 4)
        0.6393
        """
        first, second = self.event_share(time)
        return subjects * (self.ratio * first + second) / (1 + allocated(self.ratio))

    def when(self, events: float, subjects: float) -> float:
        """Calendar time at which so many events are expected. Errors: InputError where they never come."""
        horizon = self.accrual.duration
        while self.events(horizon, subjects) < events:
            horizon *= 2
            if horizon > 1e6 * self.accrual.duration:
                problem = f"{subjects:.1f} subjects never give {events:.1f} events"
                raise InputError(problem, field="subjects", remedy="more subjects, or fewer lost to dropout")
        return root(lambda t: self.events(t, subjects) - events, 0.0, horizon, tolerance=1e-10)


def _by_calendar(time: float, accrual: Accrual, hazard: Hazard, dropout: Hazard) -> float:
    """Mean over entry times of P(event within time - entry); Gauss-Legendre between kinks."""
    kinks = {time - start for rule in (hazard, dropout) for start in rule.starts}
    end = min(time, accrual.duration)
    edges = np.array(sorted({0.0, end, *(x for x in (*kinks, *accrual.times) if 0 < x < end)}))
    if end <= 0:
        return 0.0
    half = np.diff(edges)[:, None] / 2
    entry = (edges[:-1, None] + half * (1 + _NODES)).reshape(-1)
    weight = (half * _WEIGHTS).reshape(-1)
    piece = np.searchsorted(accrual.times, entry, side="right") - 1
    density = (accrual.shares / np.diff(accrual.times))[np.minimum(piece, len(accrual.intensities) - 1)]
    return float(np.sum(weight * density * observed(hazard, dropout, time - entry)))


def observed(hazard: Hazard, dropout: Hazard, follow_up: Floats) -> Floats:
    """P(event within `follow_up` and before dropout), both hazards constant in pieces."""
    starts = np.array(sorted({*hazard.starts, *dropout.starts}))
    rate = np.array([hazard.at(t) for t in starts])
    leave = rate + np.array([dropout.at(t) for t in starts])
    inside = np.clip(follow_up[:, None] - starts, 0, np.append(np.diff(starts), np.inf))
    gone = leave * inside
    alive = np.exp(-(np.cumsum(gone, axis=1) - gone))
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.where(leave > 0, -np.expm1(-gone) / np.where(leave > 0, leave, 1.0), 0.0)
    return np.sum(alive * rate * lost, axis=1)


def events_needed(error: Error, *, hazard_ratio: float, null: float = 1.0, ratio: float = 1.0,
                  method: str = "schoenfeld") -> float:  # fmt: skip
    """Events for the log-rank test; null: hazard ratio under the null hypothesis (Schoenfeld only, else 1).

    >>> round(events_needed(Error(), hazard_ratio=0.7), 4)
    330.3779
    """
    if method not in METHODS:
        raise InputError("is no method", field="method", value=method, remedy=f"use {', '.join(METHODS)}")
    if not hazard_ratio > 0 or hazard_ratio == null:
        problem = "must be > 0 and differ from the null hypothesis"
        raise InputError(problem, field="hazard_ratio", value=hazard_ratio, remedy="write for example 0.7")
    if null != 1 and method != "schoenfeld":
        raise InputError("must be 1 with this method", field="null", value=null, remedy="use schoenfeld")
    r = allocated(ratio)
    if method == "schoenfeld":
        return error.information * (1 + r) ** 2 / r / math.log(hazard_ratio / null) ** 2
    if method == "freedman":
        return error.information * (1 + r * hazard_ratio) ** 2 / (r * (1 - hazard_ratio) ** 2)
    return error.information * ((1 + hazard_ratio) / (1 - hazard_ratio)) ** 2 * (1 + r) ** 2 / (4 * r)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalSize:
    """Events, subjects, follow-up after the last entry and duration of a fixed design."""

    events: float
    subjects: Size
    follow_up: float
    duration: float


def survival_size(events: float, times: Times, *, follow_up: float | None = None,
                  subjects: float | None = None) -> SurvivalSize:  # fmt: skip
    """Subjects that give `events` by the end of `follow_up`, or the follow-up that so many subjects need.

    >>> times = Times(treated=Hazard.median(12).times(0.7), control=Hazard.median(12), accrual=Accrual.uniform(12))
    >>> round(survival_size(330.37791, times, follow_up=12).subjects.total, 3)
    573.769
    """
    if (follow_up is None) == (subjects is None):
        raise InputError("give one of follow_up and subjects", field="follow_up", remedy="remove the other")
    if follow_up is not None:
        if follow_up < 0:
            raise InputError("must be >= 0", field="follow_up", value=follow_up, remedy="0 ends with the last entry")
        duration = times.accrual.duration + follow_up
        return SurvivalSize(
            events=events, subjects=split(events / times.events(duration), times.ratio), follow_up=follow_up,
            duration=duration,
        )  # fmt: skip
    assert subjects is not None
    duration = times.when(events, subjects)
    return SurvivalSize(
        events=events, subjects=split(subjects, times.ratio), follow_up=duration - times.accrual.duration,
        duration=duration,
    )  # fmt: skip
