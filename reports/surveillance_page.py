"""The page of surveillance plans: when each would find each event, how often wrongly, who is harmed until then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import rounding
from reports.figures import surveillance as figures
from reports.figures.palette import Look, looks
from reports.page import Page
from reports.surveillance_truths import assumed, card
from reports.tables import Block, Plots, Section, Table, columns
from trials.analysis.surveillance_found import Detected, Found, Spread
from trials.analysis.surveillance_simulate import Prepared
from trials.operating import Estimate

__all__ = ["Shown", "breaches", "month", "page", "power", "sentences"]

Z = 1.959963984540054
FALSE = 0.1  # alarms without an effect that are called seldom
FAR, NEAR = 1.25, 0.8  # share of the event in the users' reports over that of others, without an effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the page is made of. facts: provenance."""

    made: Prepared
    found: Found
    facts: Sequence[tuple[str, str]] = ()

    @property
    def events(self) -> dict[str, str]:
        """Names and labels."""
        return {name: event.label or name for name, event in self.made.plan.events.items()}

    @property
    def plans(self) -> dict[str, str]:
        return {name: plan.label or name for name, plan in self.made.plan.plans.items()}

    @property
    def months(self) -> int:
        return self.made.plan.months


def page(shown: Shown) -> Page:
    """The page of all plans and events."""
    plan = shown.made.plan
    return Page(
        brand="Surveillance", kicker="Surveillance after approval · simulated markets, before there is a report",
        title=plan.name.replace("_", " "),
        byline=(f"{_many(len(plan.plans), 'plan')} · {_many(len(plan.events), 'event')} · {plan.months} months · "
                f"{shown.made.rows:,} markets a truth · seed {plan.seed}"),
        breaches=breaches(shown), answer=((plan.about,) if plan.about else ()) + sentences(shown), trust=_trust(shown),
        sections=(
            _power(shown), _time(shown), _false(shown), *_compared(shown), card(shown.made),
            *assumed(shown.made, shown.facts),
        ),
    )  # fmt: skip


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def power(e: Estimate) -> str:
    """A probability with its error."""
    return rounding.proportion(e.value, e.mcse, e.n)


def month(value: float, months: int) -> str:
    """A month, or that it does not come within the watch."""
    return "–" if math.isnan(value) else f"> {months}" if math.isinf(value) else f"{value:.0f}"


def sentences(shown: Shown) -> tuple[str, ...]:
    """What was found, in words: of each event the plan with the fewest excess cases until it signals, among those that
    seldom alarm without an effect; and the one that would be faster at the price of false alarms.
    """
    out = []
    for event, label in shown.events.items():
        wrong = {p: shown.found.of(event, p, "null").power.value for p in shown.plans}
        quiet = [p for p in shown.plans if wrong[p] <= max(FALSE, min(wrong.values()))]
        harm = {p: shown.found.of(event, p).until.value for p in shown.plans}
        best, first = min(quiet, key=harm.__getitem__), min(shown.plans, key=harm.__getitem__)
        out.append(_told(shown, label, shown.found.of(event, best)))
        if harm[first] < harm[best]:
            left = rounding.with_mcse(harm[first], shown.found.of(event, first).until.mcse)
            out[-1] += (
                f" {shown.plans[first]} would leave {left}, but alarms without an effect with probability "
                f"{power(shown.found.of(event, first, 'null').power)}."
            )
    return tuple(out)


def _told(shown: Shown, label: str, d: Detected) -> str:
    ratio, several = shown.made.truths.ratio[d.event], shown.made.truths.draws > 1
    low, high = np.quantile(ratio, [0.05, 0.95])
    spread = f", 90 % range {low:.2g} to {high:.2g}" if several and high > low else ""
    known = f"; {d.low[-1]:.2f} to {d.high[-1]:.2f} over what is not known" if several else ""
    when = month(d.months.median, shown.months)
    middle = (
        f"in half of the markets by month {when}" if math.isfinite(d.months.median)
        else f"in less than half of the markets within {shown.months} months"
    )  # fmt: skip
    return (
        f"{label} (ratio {np.median(ratio):.2g}{spread}): {shown.plans[d.plan]} signals within {shown.months} months "
        f"with probability {power(d.power)}{known}, {middle}. Until the signal or the end of the watch "
        f"{rounding.with_mcse(d.until.value, d.until.mcse)} cases beyond the background are expected among users"
        f"{', the fewest of the plans that seldom alarm without an effect' if len(shown.plans) > 1 else ''}; without "
        f"an effect it alarms with probability {power(shown.found.of(d.event, d.plan, 'null').power)}."
    )  # fmt: skip


def breaches(shown: Shown) -> tuple[str, ...]:
    """What must be read first: tests above their level, reports that alarm by themselves, rates poorly known."""
    out = []
    for name, way in shown.made.plan.plans.items():
        for event, label in shown.events.items():
            e, level = shown.found.of(event, name, "null").power, way.alpha or 0.05
            if way.sequential and e.value - 2.0 * e.mcse > level:
                out.append(
                    f"{shown.plans[name]} alarms without an effect of the product on {label} with probability "
                    f"{power(e)}, above its level {level:g}: the background rate it goes by is not known well enough."
                )  # fmt: skip
    for event, ratio in shown.found.reports_ratio.items():
        if ratio > FAR:
            out.append(
                f"Without an effect the users' reports would name {shown.events[event]} {ratio:.2g} times as often as "
                "those of other products: criteria on reports alarm for that alone."
            )  # fmt: skip
    for key, law in shown.made.truths.laws.items():
        if law.error > 0.2:
            out.append(
                f"{key}: the run has few events ({' and '.join(map(str, law.events))}), its value is known to "
                f"{100 * law.error:.0f} % (standard error)."
            )  # fmt: skip
    return tuple(out)


def _trust(shown: Shown) -> tuple[str, ...]:
    made, several = shown.made, shown.made.truths.draws > 1
    out = [
        f"{made.truths.draws} possible truths with {made.replicates} markets each; errors (MCSE) are those of limited "
        "numbers of both." if several else f"{made.replicates:,} markets under one truth: nothing stated is uncertain.",
        "All plans meet the same cases, under the stated ratios and without an effect, so differences are taken market "
        "by market.",
    ]  # fmt: skip
    if several:
        out.append("Bands are the middle 90 % of the truths' own probabilities, without the chance of the markets.")
    for event, ratio in shown.found.reports_ratio.items():
        if ratio < NEAR:
            out.append(
                f"Without an effect the users' reports would name {shown.events[event]} {ratio:.2g} times as often as "
                "those of other products: an effect must first make up for that before criteria on reports see it."
            )  # fmt: skip
    out.append(
        "Cohort and spontaneous reports are drawn apart, which is exact as long as few cases are in both; an effect is "
        "the same at all times on the product and nobody stops the product because of a signal."
    )  # fmt: skip
    return tuple(out)


def _looks(shown: Shown) -> dict[str, Look]:
    count = len(shown.plans)
    reports = [not way.sequential for way in shown.made.plan.plans.values()]
    return dict(zip(shown.plans, looks([False] * count, reports), strict=True))


def _power(shown: Shown) -> Section:
    look = _looks(shown)
    band = "the 90 % range over what is not known" if shown.made.truths.draws > 1 else "95 % Monte Carlo interval"
    panels, single = [], []
    for k, (event, label) in enumerate(shown.events.items()):
        curves, null = (
            [_curve(shown.found.of(event, p, truth), shown.plans[p], look[p]) for p in shown.plans]
            for truth in ("stated", "null")
        )
        ratio = np.median(shown.made.truths.ratio[event])
        each = [figures.alone(c, z, name=f"one{k}x{i}") for i, (c, z) in enumerate(zip(curves, null, strict=True))]
        words = f"{label}: each plan alone, per cent of markets by month; band: {band}; dotted: without an effect."
        single.append(Plots(caption=words, panels=tuple(each), across=3))
        panels.append(figures.power(curves, null, title=f"{label}, ratio {ratio:.3g}", name=f"power{k}"))
    figure = Plots(
        caption=f"Share of markets with a signal by month. Bars at the right: {band}. Solid: cohorts, dashed: reports; "
        "dotted: the same plan when the product has no effect.",
        panels=tuple(panels),
    )  # fmt: skip
    return Section(key="power", title="Probability of a signal", blocks=(figure, *single, _by_month(shown)))


def _curve(d: Detected, label: str, look: Look) -> figures.Curve:
    value, error = np.array([e.value for e in d.by]), np.array([e.mcse for e in d.by])
    low, high = d.low, d.high
    if np.isnan(low).all():
        low, high = np.clip(value - Z * error, 0, 1), np.clip(value + Z * error, 0, 1)
    return figures.Curve(label=label, look=look, value=value, low=low, high=high)


def _by_month(shown: Shown) -> Table:
    months = sorted({max(1, round(shown.months * k / 4)) for k in (1, 2, 3, 4)})
    rows, marks = [], []
    for event, label in shown.events.items():
        for p, (name, plan) in enumerate(shown.plans.items()):
            d = shown.found.of(event, name)
            cells = [_cell(d, m - 1) for m in months]
            rows.append((label if p == 0 else "", plan, *cells))
            marks.append("group" if p == 0 else "")
    return Table(
        caption="Probability of a signal up to the end of a month, MCSE in brackets"
        + ("; below it the 90 % range over what is not known." if shown.made.truths.draws > 1 else "."),
        columns=columns("Event", "Plan", *(f"Month {m}" for m in months), text=2), rows=tuple(rows), marks=tuple(marks),
    )  # fmt: skip


def _cell(d: Detected, at: int) -> str:
    e = d.by[at]
    shown = power(e).replace("(MCSE ", "(")
    if e.value in (0.0, 1.0):
        shown = f"{e.value:.0f}"
    return shown if math.isnan(d.low[at]) else f"{shown}\n{d.low[at]:.2f} to {d.high[at]:.2f}"


def _spread(s: Spread) -> str:
    if math.isnan(s.median):
        return "–"
    return f"{_count(s.median)}\n{_count(s.low)} to {_count(s.high)}"


def _count(x: float) -> str:
    return rounding.number(x, 2) if abs(x) < 100 else f"{rounding.fixed(x, -1 if abs(x) < 10_000 else -2)}"


def _time(shown: Shown) -> Section:
    look, rows, marks, panels = _looks(shown), [], [], []
    for k, (event, label) in enumerate(shown.events.items()):
        bars = []
        for p, (name, plan) in enumerate(shown.plans.items()):
            d = shown.found.of(event, name)
            bars.append(
                figures.Wait(label=plan, look=look[name], median=d.months.median, low=d.months.low, high=d.months.high)
            )
            rows.append((label if p == 0 else "", plan, *_times(d, shown.months)))
            marks.append("group" if p == 0 else "")
        panels.append(figures.waits(bars, shown.months, title=label, name=f"wait{k}"))
    table = Table(
        caption="Time to the signal, and people by then.",
        columns=columns("Event", "Plan", "Median month|95 % MC interval", "Single market|90 % range",
                        "Median over truths|90 % range", "Started|at the signal", "Cases|at the signal",
                        "Excess cases|at the signal", "Excess cases|until signal or end", text=2),
        rows=tuple(rows), marks=tuple(marks),
        notes=("Started, cases and excess cases (beyond the background) are of all users, as expected of the truth's "
               "own rates, in markets with a signal: median, and the middle 90 %. The last column is the mean over all "
               "markets, which plans can be compared by: one that seldom signals signals late only among many.",),
    )  # fmt: skip
    caption = "Months to the signal: median and the middle 90 % of markets; an arrow: not within the watch."
    figure = Plots(caption=caption, panels=tuple(panels))
    return Section(key="time", title="Time to the signal", blocks=(figure, table))


def _times(d: Detected, months: int) -> tuple[str, ...]:
    def pair(low: float, high: float) -> str:
        return "–" if math.isnan(low) else f"{month(low, months)} to {month(high, months)}"

    return (
        f"{month(d.months.median, months)}\n{pair(*d.median_error)}", pair(d.months.low, d.months.high),
        pair(*d.median_known), _spread(d.started), _spread(d.cases), _spread(d.excess),
        rounding.with_mcse(d.until.value, d.until.mcse).replace(" (MCSE ", "\n("),
    )  # fmt: skip


def _false(shown: Shown) -> Section:
    rows, marks = [], []
    for name, plan in shown.plans.items():
        way = shown.made.plan.plans[name]
        errors = [shown.found.of(event, name, "null").power for event in shown.events]
        level = f"{way.alpha or 0.05:g}" if way.sequential else "none"
        over = any(way.sequential and e.value - 2 * e.mcse > (way.alpha or 0.05) for e in errors)
        rows.append((plan, level, *map(power, errors), power(shown.found.any_false[name])))
        marks.append("flagged" if over else "")
    table = Table(
        caption=f"Probability of an alarm within {shown.months} months when the product has no effect.",
        columns=columns("Plan", "Level", *shown.events.values(), "Any event"), rows=tuple(rows), marks=tuple(marks),
        notes=("The level of a sequential test holds for the rate it goes by, here the true rate is drawn with its "
               "uncertainty; between looks nothing is spent of it. Criteria on reports have no level.",),
    )  # fmt: skip
    return Section(key="false", title="False alarms", blocks=(table,))


def _compared(shown: Shown) -> tuple[Section, ...]:
    if len(shown.plans) < 2:
        return ()
    rows: list[tuple[str, ...]] = []
    marks: list[str] = []
    for event, label in shown.events.items():
        own = [d for d in shown.found.differences if d.event == event]
        for k, d in enumerate(own):
            rows.append(
                (label if k == 0 else "", shown.plans[d.plan], *(_difference(e) for e in (d.power, d.waiting, d.until)))
            )
            marks.append("group" if k == 0 else "")
    first = next(iter(shown.plans.values()))
    table: Block = Table(
        caption=f"Each plan less {first}, market by market on the same cases: 95 % Monte Carlo interval below.",
        columns=columns("Event", "Plan", "Probability of a signal", "Months until signal or end",
                        "Excess cases until signal or end", text=2),
        rows=tuple(rows), marks=tuple(marks),
    )  # fmt: skip
    return (Section(key="compared", title="Plans compared", blocks=(table,)),)


def _difference(e: Estimate) -> str:
    if e.mcse == 0:
        return rounding.plain(e.value)
    low, high = e.interval()
    places = rounding.places(e.mcse, 3)
    return f"{rounding.fixed(e.value, places)}\n{rounding.interval(low, high, places)}"


def told(shown: Shown) -> dict[str, Any]:
    """The numbers for machines."""
    return {"name": shown.made.plan.name, "draws": shown.made.truths.draws, "markets": shown.made.rows,
            "breaches": list(breaches(shown)), **shown.found.to_dict()}  # fmt: skip
