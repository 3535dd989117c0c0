"""What plans of surveillance do: probability of a signal by month, time to it, people until then, false alarms.

A draw is one possible truth with many simulated markets. The probability of a signal is the mean over draws, its Monte
Carlo error that of the draws' means. How far it depends on what is not known about the truth is the 90 % range of the
draws' own probabilities; these are drawn towards their mean until their variance is what is left without the chance of
the markets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trials.analysis.surveillance_simulate import TRUTHS, Prepared
from trials.operating import Estimate, mean, proportion

__all__ = ["Detected", "Difference", "Found", "Spread", "found"]

Floats = NDArray[np.float64]
Z = 1.959963984540054
LEVEL = 0.9
NEVER = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median and the range of the middle 90 % of markets; NaN where there are none, infinite where never."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """A plan watching an event under a truth.

    by: share of markets with a signal up to the end of each month (T,), with its MCSE; low, high: its 90 % range over
    what is not known, (T,), NaN where all is known. months: time to signal of single markets, infinite without one;
    median_error: 95 % Monte Carlo interval of their median; median_known: 90 % range of the median over what is not
    known. started, cases, excess: patients started, their cases, and cases beyond the background by the time of the
    signal, of the markets that have one; until: the last of them until the signal or the end of the watch, waiting: the
    months of it.
    """

    event: str
    plan: str
    truth: str
    by: tuple[Estimate, ...]
    low: Floats
    high: Floats
    months: Spread
    median_error: tuple[float, float]
    median_known: tuple[float, float]
    started: Spread
    cases: Spread
    excess: Spread
    until: Estimate
    waiting: Estimate

    @property
    def power(self) -> Estimate:
        """Probability of a signal by the end of the watch."""
        return self.by[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A plan less the first one on the same markets, of an event under the stated ratios."""

    event: str
    plan: str
    against: str
    power: Estimate
    waiting: Estimate
    until: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All plans: detections by event, plan and truth; differences; by plan the share of markets with a false alarm for
    any event. reports_ratio: by event, how many times as often the users' reports name it as those of other products
    though the product causes nothing.
    """

    detected: dict[tuple[str, str, str], Detected]
    differences: tuple[Difference, ...]
    any_false: dict[str, Estimate]
    reports_ratio: dict[str, float]

    def of(self, event: str, plan: str, truth: str = "stated") -> Detected:
        return self.detected[event, plan, truth]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what never happens is None."""
        return {
            "detected": [_plain(d) for d in self.detected.values()],
            "differences": [
                {"event": d.event, "plan": d.plan, "against": d.against,
                 **{k: _estimate(getattr(d, k)) for k in ("power", "waiting", "until")}} for d in self.differences
            ],
            "any_false_alarm": {name: _estimate(e) for name, e in self.any_false.items()},
            "reports_ratio_without_effect": self.reports_ratio,
        }  # fmt: skip


def found(made: Prepared, first: NDArray[np.int16]) -> Found:
    """The answer. first: month of the first signal (truths, events, plans, draws, replicates), 0 for none."""
    names = [(t, e, p) for t in range(len(TRUTHS)) for e in range(first.shape[1]) for p in range(first.shape[2])]
    people = {event: _People.of(made, event) for event in made.plan.events}
    detected = {}
    for t, e, p in names:
        event, plan = list(made.plan.events)[e], list(made.plan.plans)[p]
        detected[event, plan, TRUTHS[t]] = _detected((event, plan, TRUTHS[t]), first[t, e, p], people[event])
    null = first[TRUTHS.index("null")] > 0
    alarms = {plan: _share(null[:, p].any(axis=0)) for p, plan in enumerate(made.plan.plans)}
    return Found(
        detected=detected, differences=tuple(_differences(made, first[0], people)), any_false=alarms,
        reports_ratio=_reports_ratio(made),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _People:
    """By draw and month (D, T + 1), 0 first: patients started, person-years; rates of cases (D,) by truth."""

    started: Floats
    years: Floats
    rate: Floats
    ratio: Floats

    @classmethod
    def of(cls, made: Prepared, event: str) -> _People:
        factor = made.truths.factor[:, None]
        started = np.concatenate([[0.0], made.use.started]) * factor
        years = np.concatenate([[0.0], np.cumsum(made.use.years)]) * factor
        return cls(started, years, made.truths.background[event], made.truths.ratio[event])

    def by(self, month: NDArray[Any], truth: str) -> tuple[Floats, Floats, Floats]:
        """Started, cases and excess cases by month (D, M): cases as expected of the draw's rates."""
        ratio = self.ratio if truth == "stated" else np.ones_like(self.ratio)
        years = np.take_along_axis(self.years, month, axis=1) * self.rate[:, None]
        started = np.take_along_axis(self.started, month, axis=1)
        return started, years * ratio[:, None], years * (ratio[:, None] - 1.0)


def _share(flags: NDArray[np.bool_]) -> Estimate:
    """Of markets (D, M): the mean over draws with the error of the draws' means; never an error of 0."""
    plain = proportion(flags)
    if flags.shape[0] == 1:
        return plain
    e = mean(flags.mean(axis=1))
    return Estimate(value=plain.value, mcse=e.mcse if e.mcse > 0 else plain.mcse, n=flags.size)


def _mean(values: Floats) -> Estimate:
    e = mean(values[0] if len(values) == 1 else values.mean(axis=1))
    return Estimate(value=e.value, mcse=e.mcse, n=values.size)


def _detected(what: tuple[str, str, str], first: NDArray[np.int16], people: _People) -> Detected:
    months = people.years.shape[1] - 1
    ends = np.arange(1, months + 1)
    by = tuple(_share((first > 0) & (first <= t)) for t in ends)
    own = np.stack([((first > 0) & (first <= t)).mean(axis=1) for t in ends])  # (T, D)
    drawn = _without_chance(own, first.shape[1])
    low, high = _range(drawn)
    time = np.where(first > 0, first, NEVER)
    until = np.where(first > 0, first, months).astype(np.int64)
    at = [x[first > 0] for x in people.by(until, what[2])]
    value, error = np.array([e.value for e in by]), Z * np.array([e.mcse for e in by])
    return Detected(
        event=what[0], plan=what[1], truth=what[2], by=by, low=low, high=high, months=_spread(time),
        median_error=(_reached(value + error), _reached(value - error)), median_known=_medians(drawn),
        started=_spread(at[0]), cases=_spread(at[1]), excess=_spread(at[2]),
        until=_mean(people.by(until, what[2])[2]), waiting=_mean(until.astype(np.float64)),
    )  # fmt: skip


def _without_chance(own: Floats, markets: int) -> Floats:
    """The draws' own probabilities (T, D), drawn towards their mean by what the chance of the markets adds."""
    middle = own.mean(axis=1, keepdims=True)
    if own.shape[1] == 1:
        return own
    chance = (own * (1.0 - own)).mean(axis=1, keepdims=True) / (markets - 1)
    total = own.var(axis=1, ddof=1, keepdims=True)
    left = np.sqrt(np.maximum(0.0, 1.0 - chance / np.maximum(total, 1e-300)))
    return np.asarray(middle + left * (own - middle))


def _range(drawn: Floats) -> tuple[Floats, Floats]:
    if drawn.shape[1] == 1:
        none = np.full(len(drawn), np.nan)
        return none, none
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=1)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _reached(by: Floats) -> float:
    """The first month by which a probability reaches one half."""
    hit = by >= 0.5
    return float(hit.argmax() + 1) if hit.any() else NEVER


def _medians(drawn: Floats) -> tuple[float, float]:
    """90 % range of the draws' median times."""
    if drawn.shape[1] == 1:
        return np.nan, np.nan
    times = np.sort([_reached(np.maximum.accumulate(drawn[:, d])) for d in range(drawn.shape[1])])
    last = len(times) - 1
    return float(times[int(np.floor((0.5 - LEVEL / 2) * last))]), float(times[int(np.ceil((0.5 + LEVEL / 2) * last))])


def _spread(values: NDArray[Any]) -> Spread:
    if values.size == 0:
        return Spread(median=np.nan, low=np.nan, high=np.nan)
    low, median, high = np.quantile(values, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2], method="inverted_cdf")
    return Spread(median=float(median), low=float(low), high=float(high))


def _differences(made: Prepared, first: NDArray[np.int16], people: dict[str, _People]) -> Iterator[Difference]:
    months, plans = made.plan.months, list(made.plan.plans)
    until = np.where(first > 0, first, months).astype(np.int64)
    for e, event in enumerate(made.plan.events):
        excess = [people[event].by(until[e, p], "stated")[2] for p in range(len(plans))]
        for p in range(1, len(plans)):
            signal = (first[e, p] > 0).astype(np.float64) - (first[e, 0] > 0)
            yield Difference(
                event=event, plan=plans[p], against=plans[0], power=_mean(signal),
                waiting=_mean((until[e, p] - until[e, 0]).astype(np.float64)), until=_mean(excess[p] - excess[0]),
            )  # fmt: skip


def _reports_ratio(made: Prepared) -> dict[str, float]:
    """Share of the event in the users' reports without an effect over its share in those of other products."""
    reporting, truth = made.plan.reporting, made.truths
    out: dict[str, float] = {}
    for name, event in made.plan.events.items():
        if reporting is None or event.in_database is None:
            continue
        cases = np.median(truth.background[name] * truth.reported[name])
        share = cases / (cases + np.median(truth.others * truth.share))
        mask = event.masking
        more = 1.0 if mask is None else 1.0 + mask.share * (min(mask.ratio, 1.0 / event.in_database) - 1.0)
        out[name] = float(share / (event.in_database * more))
    return out


def _number(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _estimate(e: Estimate) -> dict[str, Any]:
    return {"value": _number(e.value), "mcse": _number(e.mcse), "n": e.n}


def _plain(d: Detected) -> dict[str, Any]:
    spreads = {
        k: {q: _number(getattr(getattr(d, k), q)) for q in ("median", "low", "high")}
        for k in ("months", "started", "cases", "excess")
    }
    return {
        "event": d.event, "plan": d.plan, "truth": d.truth, "power": _estimate(d.power),
        "power_range": [_number(d.low[-1]), _number(d.high[-1])],
        "by_month": [{"month": t + 1, **_estimate(e), "low": _number(d.low[t]), "high": _number(d.high[t])}
                     for t, e in enumerate(d.by)],
        **spreads, "median_error": [_number(x) for x in d.median_error],
        "median_range": [_number(x) for x in d.median_known], "excess_until": _estimate(d.until),
        "waiting": _estimate(d.waiting),
    }  # fmt: skip
