"""Times to an event: curves with the number at risk, and what one trial's analyses would report."""

from reports import captions, rounding
from reports.event_times import Compared, Curves, Timed
from reports.figures import survival as drawing
from reports.study import Study
from reports.tables import Block, Plots, Section, Table, Text, columns


def time_to_event(study: Study) -> Section:
    """Every endpoint that is a time, a recurrence or a hierarchy."""
    found = study.timed
    if found is None:
        raise LookupError("the protocol has no time to an event")
    blocks: list[Block] = [_figure(study, curves, number) for number, curves in enumerate(found.curves)]
    blocks.append(_table(study, found))
    blocks += [Text(text=text, tone="warning") for text in _failures(study, found)]
    return Section(key="times", title="Times to events", blocks=tuple(blocks))


def _figure(study: Study, curves: Curves, number: int) -> Plots:
    what = "Cumulative incidence" if curves.incidence else "Free of the event"
    events = " or ".join(_term(study, event) for event in curves.events)
    series = [
        drawing.Steps(
            label=study.arms[c.arm].label, look=study.arms[c.arm].look, day=c.day, value=c.value, lower=c.lower,
            upper=c.upper, at_risk=c.at_risk,
        )
        for c in curves.arms
    ]  # fmt: skip
    method = "Aalen-Johansen estimate, death competing" if curves.incidence else "Kaplan-Meier estimate"
    policy = f" End of treatment: {curves.strategy}." if curves.strategy else ""
    counts = "; ".join(f"{study.arms[c.arm].label} {c.events:.0f} of {c.subjects:.0f}" for c in curves.arms)
    caption = (
        f"{curves.endpoint}: {events}, up to day {rounding.plain(curves.until)}. {method}: mean over "
        f"{captions.replicates(study)}; band: middle 95 % of single trials' curves.{policy} Events of the mean trial: "
        f"{counts}." + captions.dose_key(study)
    )
    panel = drawing.steps(series, curves.ticks, y_label=f"{what} (%)", name=f"times{number}")
    return Plots(caption=caption, panels=(panel,))


def _term(study: Study, event: str) -> str:
    return next((term.term.lower() for term in study.terms if term.key == event), event)


def _table(study: Study, found: Timed) -> Table:
    labels = {arm.key: arm.label for arm in study.arms}
    rows = tuple(_row(study, c, labels) for c in found.compared)
    return Table(
        caption="What one trial would report of times to events, and how often it rejects.",
        columns=columns(
            "Analysis|endpoint", "Method", "Comparison", "Summary", "Estimate|mean", "Interval|median limits",
            "Estimates|95 % of trials", "Rejects|share of trials", "Bias|estimate - true (MCSE)",
            "Coverage|of the true value", text=4,
        ),
        rows=rows,
        notes=(
            captions.ONE_TRIAL,
            "Times are days. Ratios: geometric mean; ratios of hazards and rates below 1 say fewer events, ratios "
            "and odds of wins above 1 favour the arm. Nothing is adjusted for several arms "
            "or analyses.",
            "Bias and coverage are against the value with every subject of the trial followed under both arms; – where "
            "no such value exists (ratios of hazards and wins, follow-up that ends with treatment).",
            captions.MCSE,
        ),
    )  # fmt: skip


def _row(study: Study, c: Compared, labels: dict[str, str]) -> tuple[str, ...]:
    places = rounding.places(c.estimate.mcse)
    return (
        f"{c.analysis} ({c.endpoint})", c.method, f"{labels[c.arm]} against {labels[c.against]}", c.summary,
        rounding.with_mcse(c.estimate.value, c.estimate.mcse), rounding.interval(*c.limits, places),
        rounding.interval(*c.spread, places),
        rounding.proportion(c.rejected.value, c.rejected.mcse, c.rejected.n),
        "–" if c.bias is None else rounding.with_mcse(c.bias.value, c.bias.mcse),
        "–" if c.coverage is None else rounding.proportion(c.coverage.value, c.coverage.mcse, c.coverage.n),
    )  # fmt: skip


def _failures(study: Study, found: Timed) -> list[str]:
    labels = {arm.key: arm.label for arm in study.arms}
    return [
        f"{c.analysis}, {labels[c.arm]}: {rounding.count(number)} of {rounding.count(c.rejected.n)} trials have no "
        f"estimate ({words}); they count as not rejecting."
        for c in found.compared
        for words, number in c.failed
    ]
