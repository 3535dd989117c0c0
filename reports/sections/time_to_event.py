"""Times to an event: curves with the number at risk, and what one trial's analyses would report."""

import numpy as np

from reports import captions, rounding
from reports.event_times import Compared, Curves, Timed
from reports.figures import survival as drawing
from reports.study import Study
from reports.tables import Block, Plots, Section, Table, Text, columns


def time_to_event(study: Study) -> Section:
    """Every analysis that the tables of mean and risk differences do not show, with the curves of its events."""
    found = study.timed
    if found is None:
        raise LookupError("the protocol has no time to an event")
    blocks: list[Block] = [_figure(study, curves, number) for number, curves in enumerate(found.curves)]
    blocks.append(_table(study, found))
    if any(c.bias is not None for c in found.compared):
        blocks.append(_truths(study, found))
    blocks += [Text(text=text, tone="warning") for text in _failures(study, found)]
    return Section(key="times", title="Times to events" if found.curves else "Further analyses", blocks=tuple(blocks))


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
    highest = max((100 * float(np.nanmax(c.upper, initial=0.0)) for c in curves.arms), default=100.0)
    top = min(100.0, 1.25 * highest + 1.0) if curves.incidence else 100.0
    panel = drawing.steps(series, curves.ticks, y_label=f"{what} (%)", name=f"times{number}", top=top)
    return Plots(caption=caption, panels=(panel,))


def _term(study: Study, event: str) -> str:
    tests = study.toxicity.tests if study.toxicity is not None else ()
    named = [(term.key, term.term) for term in study.terms] + [(test.name, test.label) for test in tests]
    return next((label.lower() for key, label in named if key == event), event)


def _table(study: Study, found: Timed) -> Table:
    return Table(
        caption="What one trial would report in these analyses, and how often it rejects.",
        columns=columns(
            "Analysis", "Arm", "Summary", "Estimate|mean", "Interval|median limits", "Estimates|95 % of trials",
            "Rejects|share of trials", text=3,
        ),
        rows=tuple(_row(study, found, c) for c in found.compared),
        notes=(
            captions.ONE_TRIAL,
            "Times are days. Ratios: geometric mean; ratios of hazards and rates below 1 say fewer events, ratios and "
            "odds of wins above 1 favour the arm. Nothing is adjusted for several arms or analyses. Intervals of a "
            "one-sided test at alpha are at 1 - 2 alpha.",
            captions.MCSE,
        ),
    )  # fmt: skip


def _row(study: Study, found: Timed, c: Compared) -> tuple[str, ...]:
    places = rounding.places(c.estimate.mcse)
    return (
        f"{c.analysis}: {c.method}", _arm(study, found, c), f"{c.summary} of {c.endpoint.replace('_', ' ')}",
        rounding.with_mcse(c.estimate.value, c.estimate.mcse), rounding.interval(*c.limits, places),
        rounding.interval(*c.spread, places), rounding.proportion(c.rejected.value, c.rejected.mcse, c.rejected.n),
    )  # fmt: skip


def _arm(study: Study, found: Timed, c: Compared) -> str:
    """The arm, with its control only where analyses have different ones."""
    labels = {arm.key: arm.label for arm in study.arms}
    several = len({other.against for other in found.compared}) > 1
    return f"{labels[c.arm]} against {labels[c.against]}" if several else labels[c.arm]


def _truths(study: Study, found: Timed) -> Block:
    known = [c for c in found.compared if c.bias is not None and c.coverage is not None]
    rows = tuple(
        (
            c.analysis, _arm(study, found, c), c.summary, rounding.with_mcse(c.bias.value, c.bias.mcse),
            rounding.proportion(c.coverage.value, c.coverage.mcse, c.coverage.n),
        )
        for c in known if c.bias is not None and c.coverage is not None
    )  # fmt: skip
    note = (
        "Against the value with every subject of the trial followed under both arms, nobody lost: of a hazard ratio "
        "the Cox ratio of them all, which follow-up averages where hazards are not proportional; of a rate ratio the "
        "Andersen-Gill ratio. None where the follow-up of times to an event ends with treatment. Ratios: on their own "
        "scale, not of logarithms."
    )
    return Table(
        caption="Estimates against true values.",
        columns=columns("Analysis", "Arm", "Summary", "Bias|estimate - true", "Coverage|of the true value", text=3),
        rows=rows, notes=(note, captions.MCSE),
    )  # fmt: skip


def _failures(study: Study, found: Timed) -> list[str]:
    return [
        f"{c.analysis}, {_arm(study, found, c)}: {rounding.count(number)} of {rounding.count(c.rejected.n)} trials "
        f"have no estimate ({words}){'' if c.method == 'mcp mod' else '; they count as not rejecting'}."
        for c in found.compared
        for words, number in c.failed
    ] + [
        f"{c.analysis}, {_arm(study, found, c)}: {rounding.count(c.beyond)} of {rounding.count(c.rejected.n)} trials "
        f"estimate a ratio of 0 or infinity (an arm without events); they are left out of the mean."
        for c in found.compared
        if c.beyond
    ]
