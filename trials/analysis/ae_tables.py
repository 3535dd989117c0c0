"""Tables of adverse events: who had what, by arm, body system (SOC) and term; each treated arm against control.

Subjects count once per row, whatever the number of their events. Risks: subjects with an event over subjects of the
arm; exposure-adjusted incidence: subjects with an event over person-years until the first one; event rate: events over
person-years of all exposure. Person-time ends at the first event or with exposure; a subject whose first event has no
day, or one outside exposure, gives all exposure (counted in `undated`). Intervals are not corrected for the number of
rows; `fdr` is (Benjamini & Hochberg, JRSS B 1995;57:289), per arm over the rows of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.analysis.ae_records import AdverseEvents
from trials.analysis.binary import Interval, miettinen_nurminen, miettinen_nurminen_ratio, newcombe, wilson
from trials.analysis.rates import garwood, rate_difference, rate_difference_exact, rate_ratio
from trials.analysis.signals_ratio import _false_discoveries
from trials.analysis.stratified import odds_ratio
from trials.analysis.survival import KaplanMeier, kaplan_meier

__all__ = ["YEAR", "AeTable", "Compared", "ae_table", "by_grade", "first_curves", "first_event", "time_to_first"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
YEAR: Final = 365.25  # days
Rows = Literal["any", "soc", "term"]
Only = Literal["all", "serious", "related"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Every treated arm against control, arrays (K, A - 1); rates per person-year. fdr: of the score test's p."""

    difference: Interval
    newcombe: Interval
    ratio: Interval
    odds: Interval
    rate_difference: Interval
    rate_difference_exact: Interval
    rate_ratio: Interval
    fdr: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class AeTable:
    """K rows. label, soc: what the row is; n (A,): subjects; x, events (K, A): subjects with an event, events.

    risk: x/n with Wilson's interval; years (K, A): person-years until the first event, incidence: x/years, exact;
    exposure (A,): person-years in all, rate: events/exposure, exact as for a Poisson count (events of one subject are
    not independent: read it as a description); undated (K,): subjects whose first event had no place in exposure.
    """

    label: tuple[str, ...]
    soc: tuple[str, ...]
    arms: tuple[str, ...]
    n: Ints
    x: Ints
    events: Ints
    risk: Interval
    years: Floats
    incidence: Interval
    exposure: Floats
    rate: Interval
    undated: Ints
    compared: Compared


def _kept(data: AdverseEvents, only: Only, least_grade: int) -> Flags:
    if only not in ("all", "serious", "related"):
        raise InputError("must be all, serious or related", field="only", value=only)
    kept = np.ones(data.term.shape, np.bool_) if only == "all" else getattr(data, only)
    found: Flags = kept & ((data.grade >= least_grade) if least_grade > 1 else True)
    return found


def _coded(data: AdverseEvents, rows: Rows) -> tuple[Ints, tuple[str, ...], tuple[str, ...]]:
    """Row of every event, the rows' labels and their SOCs."""
    if rows == "any":
        return np.zeros_like(data.term), ("Any adverse event",), ("",)
    if rows == "soc":
        return data.soc, data.socs, data.socs
    if rows != "term":
        raise InputError("must be any, soc or term", field="rows", value=rows)
    return data.term, data.terms, tuple(data.socs[k] for k in data.soc_of)


def ae_table(
    data: AdverseEvents, rows: Rows = "term", *, only: Only = "all", least_grade: int = 1, level: float = 0.95
) -> AeTable:
    """Incidence by arm and every comparison with control. least_grade above 1: events of unknown grade do not count.

    >>> from trials.analysis.ae_records import adverse_events
    >>> made = adverse_events({"subject": list("abcd"), "arm": ["placebo"] * 2 + ["drug"] * 2, "days": [365.25] * 4},
    ...                       {"subject": ["c", "c", "d"], "soc": ["Skin"] * 3, "term": ["Rash", "Rash", "Rash"]})
    >>> table = ae_table(made)
    >>> table.x.tolist(), table.events.tolist(), table.compared.difference.estimate.tolist()
    ([[0, 2]], [[0, 3]], [[1.0]])
    """
    code, label, soc = _coded(data, rows)
    kept, arms = _kept(data, only, least_grade), len(data.arms)
    n = np.bincount(data.arm, minlength=arms)
    if (n == 0).any():
        raise InputError("has no subject", field="arm", value=data.arms[int(np.flatnonzero(n == 0)[0])])
    subject, row, first = first_event(data, code[kept], kept)
    x, events = np.zeros((2, len(label), arms), np.int64)
    np.add.at(x, (row, data.arm[subject]), 1)
    np.add.at(events, (code[kept], data.arm[data.subject[kept]]), 1)
    exposure = np.bincount(data.arm, weights=data.days, minlength=arms) / YEAR
    dated = first <= data.days[subject]
    years = np.tile(exposure, (len(label), 1))
    np.add.at(years, (row[dated], data.arm[subject[dated]]), (first - data.days[subject])[dated] / YEAR)
    undated = np.bincount(row[~dated], minlength=len(label))
    return AeTable(
        label=label, soc=soc, arms=data.arms, n=n, x=x, events=events, risk=wilson(x, n, level=level), years=years,
        incidence=garwood(x, years, level=level), exposure=exposure, rate=garwood(events, exposure, level=level),
        undated=undated, compared=_compared(x, n, years, level),
    )  # fmt: skip


def _compared(x: Ints, n: Ints, years: Floats, level: float) -> Compared:
    counts = x[:, 1:], n[None, 1:], x[:, :1], n[None, :1]
    times = x[:, 1:], years[:, 1:], x[:, :1], years[:, :1]
    difference = miettinen_nurminen(*counts, level=level)
    fdr = np.column_stack([_adjusted(p) for p in difference.p.T]) if difference.p.size else difference.p
    return Compared(
        difference=difference, newcombe=newcombe(*counts, level=level), odds=odds_ratio(*counts, level=level),
        ratio=miettinen_nurminen_ratio(*counts, level=level), rate_difference=rate_difference(*times, level=level),
        rate_difference_exact=rate_difference_exact(*times, level=level), rate_ratio=rate_ratio(*times, level=level),
        fdr=fdr,
    )  # fmt: skip


def _adjusted(p: Floats) -> Floats:
    out, known = np.full(p.shape, np.nan), np.isfinite(p)
    out[known] = _false_discoveries(p[known])
    return out


def first_event(data: AdverseEvents, code: Ints, kept: Flags) -> tuple[Ints, Ints, Floats]:
    """Subject, row and first day of each pair of subject and row: NaN where no event of the pair has a day, or all lie
    before treatment (flagged as emergent all the same: person-time must not become negative).
    """
    pair = code * data.arm.size + data.subject[kept]
    unique, place = np.unique(pair, return_inverse=True)
    first = np.full(unique.size, np.inf)
    day = data.day[kept]
    np.minimum.at(first, place, np.where(day >= 0.0, day, np.inf))
    row, subject = np.divmod(unique, data.arm.size)
    return subject, row, np.where(np.isinf(first), np.nan, first)


def by_grade(data: AdverseEvents, rows: Rows = "term", *, only: Only = "all") -> Ints:
    """Subjects by the worst grade of their events, (K, A, 6): grade unknown, then 1 to 5; rows as in `ae_table`."""
    code, label, _ = _coded(data, rows)
    kept = _kept(data, only, 1)
    pair, place = np.unique(code[kept] * data.arm.size + data.subject[kept], return_inverse=True)
    top = np.zeros(pair.size, np.int64)
    np.maximum.at(top, place, data.grade[kept])
    row, subject = np.divmod(pair, data.arm.size)
    out = np.zeros((len(label), len(data.arms), 6), np.int64)
    np.add.at(out, (row, data.arm[subject], top), 1)
    return out


def time_to_first(data: AdverseEvents, row: int, rows: Rows = "term", *, only: Only = "all") -> tuple[Floats, Flags]:
    """Day of the first event, or of the end of exposure (censored), and whether it happened, (N,) each.

    A first event without a day, or outside exposure, is censored at the end of exposure.
    """
    code, label, _ = _coded(data, rows)
    if not 0 <= row < len(label):
        raise InputError(f"must be 0 to {len(label) - 1}", field="row", value=row)
    kept = _kept(data, only, 1) & (code == row)
    subject, _, first = first_event(data, code[kept], kept)
    day, happened = data.days.copy(), np.zeros(data.days.shape, np.bool_)
    dated = first <= data.days[subject]
    day[subject[dated]], happened[subject[dated]] = first[dated], True
    return day, happened


def first_curves(data: AdverseEvents, row: int, at: Floats, rows: Rows = "term") -> KaplanMeier:
    """Kaplan-Meier share without the event at days `at` (T,) by arm; arrays of one replicate (1, A, T)."""
    day, happened = time_to_first(data, row, rows)
    return kaplan_meier(day[None], happened[None], data.arm[None], arms=len(data.arms), at=at)
