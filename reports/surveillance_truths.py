"""What a surveillance page says of its assumptions: the plans' card, use of the product, ranges of draws, sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reports import rounding
from reports.figures import surveillance as figures
from reports.tables import Block, Facts, Plots, Section, Table, columns
from trials.analysis.signals_list import CRITERIA
from trials.analysis.surveillance import Watch
from trials.analysis.surveillance_simulate import Prepared
from trials.analysis.surveillance_tests import Compared, Conditional
from trials.analysis.surveillance_text import Background, Event, Plan, Ratio

__all__ = ["assumed", "card"]

Floats = NDArray[np.float64]
TESTS = {
    "poisson": "maxSPRT, Poisson, background rate taken as known",
    "binomial": "maxSPRT, binomial, against comparators",
    "conditional": "conditional maxSPRT, background from past events",
}


def card(made: Prepared) -> Section:
    """What each plan does, and the critical value of its test for each event."""
    blocks: list[Block] = []
    rows: list[tuple[str, ...]] = []
    for name, way in made.plan.plans.items():
        rows.append((way.label or name, _rule(way), _cohort(way), _looks(way, made.plan.months)))
    blocks.append(
        Table(caption="The plans.", columns=columns("Plan", "Signal when", "Sees", "Looks", text=4), rows=tuple(rows))
    )
    tests = [
        ((way.label or name), (event.label or e), *_test(made.tests[e, name]))
        for name, way in made.plan.plans.items() if way.sequential for e, event in made.plan.events.items()
    ]  # fmt: skip
    if tests:
        blocks.append(Table(
            caption="Critical values of the sequential tests: exact for the planned watch.",
            columns=columns("Plan", "Event", "Critical log ratio", "Level reached", "Watched until", "Events at least",
                            text=2, words=("Watched until",)),
            rows=tuple(tests),
        ))  # fmt: skip
    return Section(key="plans", title="The plans", blocks=tuple(blocks))


def _rule(way: Plan) -> str:
    if not way.sequential:
        return CRITERIA[way.test] + (", the masking product left out" if way.unmasked else "")
    grouped = ", critical value of the planned looks" if way.critical == "grouped" else ""
    return f"{TESTS[way.test]}{grouped}, level {way.alpha or 0.05:g}"


def _cohort(way: Plan) -> str:
    if not way.sequential:
        return "all spontaneous reports"
    with_ = f"; {way.comparators:g} person-years of comparators to one" if way.comparators else ""
    return f"{100 * (way.coverage or 1.0):g} % of the users{with_}"


def _looks(way: Plan, months: int) -> str:
    looks = way.looks(months)
    late = f", data {way.lag} months late" if way.lag else ""
    step = "month" if way.every == 1 else f"{way.every} months"
    return f"every {step} from month {looks[0]}, {len(looks)} in all{late}"


def _test(test: Watch | Compared | Conditional) -> tuple[str, str, str, str]:
    if isinstance(test, Watch):
        until = f"{rounding.number(test.horizon)} events expected without an effect"
    elif isinstance(test, Compared):
        until = f"{test.most} events of users and comparators"
    else:
        until = f"{rounding.number(test.horizon)} of the past's person-years"
    return f"{test.critical:.4f}", f"{test.alpha:.4f}", until, str(test.minimum)


def assumed(made: Prepared, facts: Sequence[tuple[str, str]]) -> tuple[Section, ...]:
    """Sections of what is taken to be true, the use of the product, and provenance."""
    factor = made.truths.factor
    low, high = np.quantile(factor, [0.05, 0.95])
    middle = float(np.median(factor))
    ones = np.ones(made.plan.months)
    use = Plots(
        caption="Use of the product: patients on it in the month, and patients who have started; band: 90 % range of "
        "the uptake's factor.",
        panels=(figures.uptake(made.use.started * middle, made.use.years * 12.0 * middle,
                               (ones * low / middle, ones * high / middle), name="uptake"),),
    )  # fmt: skip
    blocks: list[Block] = [use, _truths(made), *_laws(made)]
    where = Facts(facts=tuple(facts))
    return (
        Section(key="truths", title="What is taken to be true", blocks=tuple(blocks)),
        Section(key="provenance", title="Provenance", blocks=(where,)),
    )


def _truths(made: Prepared) -> Table:
    truth, rows = made.truths, []
    for name, event in made.plan.events.items():
        label = event.label or name
        rows.append(
            (f"{label}: background, per 1,000 person-years", *_range(1000 * truth.background[name]), _source(event))
        )
        rows.append((f"{label}: ratio", *_range(truth.ratio[name]), _of_ratio(event.ratio)))
        if name in truth.reported:
            rows.append((f"{label}: share of cases reported", *_range(truth.reported[name]), "stated"))
        if event.in_database is not None:
            mask = event.masking
            masked = (
                "" if mask is None else f"; {100 * mask.share:g} % of them of a product with {mask.ratio:g} times it"
            )
            rows.append((f"{label}: share of others' reports", f"{event.in_database:.3g}", "", f"stated{masked}"))
    rows += _reporting(made)
    rows.append(("Uptake, factor", *_range(truth.factor), "stated"))
    return Table(
        caption=f"Median and 90 % range of {truth.draws} draws.",
        columns=columns("Quantity", "Median", "90 % range", "Source", words=("Source",)), rows=tuple(rows),
    )  # fmt: skip


def _reporting(made: Prepared) -> list[tuple[str, str, str, str]]:
    reporting = made.plan.reporting
    if reporting is None:
        return []
    rows = [
        ("Other events of users, per 1,000 person-years", *_range(1000 * made.truths.others), "stated"),
        ("Reports of other products a month", f"{reporting.other_products:,.0f}", "",
         f"stated; {reporting.before:,.0f} at launch"),
        ("Delay of reports, months", f"{reporting.delay:g}", "", "mean, geometric"),
    ]  # fmt: skip
    for one in reporting.stimulated:
        of = "the watched events" if one.of == "events" else "all events of the product"
        rows.append(
            (f"Stimulated reporting, months {one.from_} to {one.until}", f"{one.factor:g}", "", f"factor, {of}")
        )
    if reporting.theta is not None:
        rows.append(("Hyperparameters of EB05", "", "", ", ".join(f"{v:g}" for v in reporting.theta)))
    return rows


def _range(values: Floats) -> tuple[str, str]:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    spread = "" if low == high else f"{rounding.number(low)} to {rounding.number(high)}"
    return rounding.number(middle), spread


def _source(event: Event) -> str:
    back: Background = event.background
    if back.run is not None:
        return f"arm {back.against} of run {back.run}"
    if back.years is not None:
        return f"{back.events} events in {back.years:,.0f} person-years"
    return "stated"


def _of_ratio(ratio: Ratio) -> str:
    if ratio.run is None:
        return "stated"
    if ratio.as_ == "rate":
        return f"rate of arm {ratio.arm} of run {ratio.run} over the background"
    return f"arm {ratio.arm} to {ratio.against} of run {ratio.run}"


def _laws(made: Prepared) -> tuple[Table, ...]:
    """What the runs gave, with and without the chance of a limited number of virtual subjects."""
    rows = []
    for key, law in made.truths.laws.items():
        events = " and ".join(f"{n:,} in {t:,.0f}" for n, t in zip(law.events, law.years, strict=True))
        rows.append((
            key.replace(".", ": "), rounding.number(law.middle), f"{100 * law.error:.1f} %", events,
            str(law.replicates),
            f"{law.spread[0]:.2f} ({law.spread[1]:.2f} to {law.spread[2]:.2f})", f"{law.crude:.2f}",
        ))  # fmt: skip
    if not rows:
        return ()
    return (Table(
        caption="Taken from runs of virtual trials: rates per person-year on treatment and ratios, pooled; how much "
        "they vary over the replicates, each with its own draw of the model's parameters.",
        columns=columns("Quantity", "Pooled", "Standard error", "First events|in person-years", "Replicates",
                        "SD of the logarithm|without chance (95 %)", "SD|with the chance of subjects",
                        words=("First events",)),
        rows=tuple(rows),
    ),)  # fmt: skip
