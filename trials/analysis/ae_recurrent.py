"""Adverse events that come again: mean cumulative number, and the ratio of rates of every arm to control.

Two models of one question, each with an interval that allows for events of a subject that depend on each other.
LWYY (Lin, Wei, Yang & Ying, JRSS B 2000;62:711): proportional mean functions on the days of the events; an event
without a day, or outside exposure, does not count there (`undated`); several of a subject on one day come one after the
other (`APART`). Negative binomial: all events of a subject over its days of exposure (Keene et al., Pharm Stat
2007;6:89), sandwich variance: it takes the rate to be the same all along, and is wrong where events come early and arms
differ in how long they are exposed. Small arms make both intervals too short (docs/times_to_events.md and
docs/responses.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trials.analysis.ae_records import AdverseEvents
from trials.analysis.ae_tables import Only, Rows, _coded, _kept
from trials.analysis.binary import Interval
from trials.analysis.mean_number import MeanNumber, mean_number
from trials.analysis.survival_data import Compared

__all__ = ["AeRecurrent", "ae_recurrent", "mean_curves"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
APART: Final = 1e-6
"""Days between events of one subject on one day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AeRecurrent:
    """K rows as in `ae_table`. events (K, A): all of them; again (K, A): subjects with more than one; undated (K, A).

    lwyy, negative_binomial (K, A - 1): rate ratios to control with limits and p, NaN where there is no estimate; theta
    (K,): of the negative binomial, infinite where counts vary no more than Poisson's.
    """

    label: tuple[str, ...]
    soc: tuple[str, ...]
    arms: tuple[str, ...]
    events: Ints
    again: Ints
    undated: Ints
    lwyy: Interval
    negative_binomial: Interval
    theta: Floats


def ae_recurrent(
    data: AdverseEvents, rows: Rows = "term", *, only: Only = "all", least_grade: int = 1, level: float = 0.95
) -> AeRecurrent:
    """Rates of all events, not of first ones.

    >>> from trials.analysis.ae_records import adverse_events
    >>> made = adverse_events({"subject": list("abcd"), "arm": ["placebo"] * 2 + ["drug"] * 2, "days": [100.0] * 4},
    ...                       {"subject": list("accd"), "soc": ["Skin"] * 4, "term": ["Rash"] * 4, "day": [9, 5, 8, 7]})
    >>> found = ae_recurrent(made)
    >>> found.events.tolist(), found.again.tolist(), found.negative_binomial.estimate.round(6).tolist()
    ([[1, 3]], [[0, 1]], [[3.0]])
    """
    from trials.analysis.counts import negative_binomial
    from trials.analysis.recurrent import andersen_gill

    code, label, soc = _coded(data, rows)
    kept, arms, n = _kept(data, only, least_grade), len(data.arms), data.arm.size
    count = np.zeros((len(label), n), np.int64)
    np.add.at(count, (code[kept], data.subject[kept]), 1)
    times = _times(data, (code, kept), len(label))
    codes = np.broadcast_to(data.arm, count.shape)
    days = np.broadcast_to(data.days, count.shape)
    if arms > 1 and label:
        timed = _ratio(andersen_gill(times, days, codes, arms=arms, model="lwyy", alpha=1 - level))
        fitted = negative_binomial(count, codes, arms=arms, exposure=days, variance="robust", alpha=1 - level)
        counted, theta = _ratio(fitted.compared), fitted.theta
    else:  # nothing to compare
        none = np.full((len(label), arms - 1), np.nan)
        timed = counted = Interval(estimate=none, lower=none, upper=none, p=none)
        theta = np.full(len(label), np.nan)
    by_arm = [np.stack([v[:, data.arm == a].sum(axis=1) for a in range(arms)], axis=1) for v in (count, count > 1)]
    dated = np.isfinite(times).sum(axis=2)
    undated = np.stack([(count - dated)[:, data.arm == a].sum(axis=1) for a in range(arms)], axis=1)
    return AeRecurrent(
        label=label, soc=soc, arms=data.arms, events=by_arm[0], again=by_arm[1], undated=undated,
        lwyy=timed, negative_binomial=counted, theta=theta,
    )  # fmt: skip


def _times(data: AdverseEvents, chosen: tuple[Ints, NDArray[np.bool_]], size: int) -> Floats:
    """Days of the events of every row and subject within exposure (K, N, L), infinite: none."""
    code, kept = chosen
    inside = kept & (data.day > 0) & (data.day <= data.days[data.subject])
    pair = code[inside] * data.arm.size + data.subject[inside]
    order = np.lexsort((data.day[inside], pair))
    pair, day = pair[order], data.day[inside][order]
    place = np.arange(pair.size) - np.searchsorted(pair, pair, side="left")
    last = np.ones(pair.size, np.bool_)  # of its subject and day
    last[:-1] = (pair[1:] != pair[:-1]) | (day[1:] != day[:-1])
    until = np.flatnonzero(last)[np.cumsum(last) - last]
    day = day - APART * (until - np.arange(pair.size))
    found = np.full((size * data.arm.size, max(int(place.max(initial=0)) + 1, 1)), np.inf)
    found[pair, place] = day
    return found.reshape(size, data.arm.size, found.shape[1])


def _ratio(found: Compared) -> Interval:
    """From logarithms to ratios."""
    with np.errstate(over="ignore"):
        estimate, lower, upper = (np.exp(v) for v in (found.estimate, found.lower, found.upper))
    return Interval(estimate=estimate, lower=lower, upper=upper, p=found.p)


def mean_curves(
    data: AdverseEvents, row: int, at: Floats, rows: Rows = "term", *, only: Only = "all", least_grade: int = 1
) -> MeanNumber:
    """Mean cumulative number of the events of one row by days `at` (T,), by arm: arrays of one replicate (1, A, T)."""
    code, label, _ = _coded(data, rows)
    kept = _kept(data, only, least_grade)
    times = _times(data, (code, kept), len(label))[row]
    return mean_number(times[None], data.days[None], data.arm[None], arms=len(data.arms), at=at)
