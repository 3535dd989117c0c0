"""What the protocol's rules ask of the trial: exclusions and doses, what they cost, stopping for adverse events."""

from reports import rounding
from reports.chained import Spread
from reports.decided import Adjusted, Decided, Probability, Stopped
from reports.tables import Block, Heading, Table, Text, columns


def blocks(found: Decided, terms: dict[str, str]) -> list[Block]:
    """Tables of what there is."""
    made: list[Block] = []
    if found.ruled:
        made += [Heading(text="Whom the rules exclude or dose otherwise"), _ruled(found)]
        if found.costs:
            made.append(_costs(found, terms))
        if found.adjusted:
            made.append(_adjusted(found, terms))
        if not found.costs and not found.adjusted:
            made.append(
                Text(text="No rule asks for anything: no limit is exceeded with the certainty it needs.", tone="note")
            )
    if found.stops:
        made += [Heading(text="Stopping for adverse events"), *(_stop(stop) for stop in found.stops)]
    return made


def spread(x: Spread, places: int, scale: float = 1.0) -> str:
    """`mean (5 % to 95 %)` over replicates."""
    if x.value != x.value:
        return "–"
    if x.low != x.low:
        return rounding.fixed(scale * x.value, places)
    return rounding.with_interval(scale * x.value, (scale * x.low, scale * x.high), places)


def _probability(p: Probability | None) -> str:
    if p is None:
        return "–"
    return rounding.with_interval(p[0], (p[1], p[2]), 2)


def _ruled(found: Decided) -> Table:
    rows, marks, last = [], [], None
    for line in found.ruled:
        rows.append((
            f"{line.rule.replace('_', ' ')}: {line.limit}" if line.rule != last else "", line.change, line.arm,
            line.group, _probability(line.above), _probability(line.without), line.decision,
        ))  # fmt: skip
        acts = line.decision.startswith(("exclude", "dose"))
        marks.append("flagged" if acts else "group" if line.group == "all" else "")
        last = line.rule
    return Table(
        caption="Probability over draws that a limit of the protocol is exceeded, and what its rule then asks.",
        columns=columns("Rule", "Change", "Arm", "People", "With|probability (90 %)", "Without|probability (90 %)",
                        "Asked", text=4, words=("Asked",)),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "Of a risk: the law of the group's risk over draws of parameters, interaction and people, with the chance "
            "of finite numbers taken out (beta-binomial); interval: what the simulated counts leave open. Of an "
            "exposure: share of replicates whose geometric mean ratio is above the limit, Jeffreys' interval.",
            "A rule asks where the probability reaches its certainty; where it does for all, groups that are surely "
            "below (probability at most 1 − certainty) are spared. Where the limit is exceeded without the change too, "
            "leaving out the change is no remedy: a group is then excluded whatever it takes.",
        ),
    )  # fmt: skip


def _costs(found: Decided, terms: dict[str, str]) -> Table:
    rows = tuple(
        (
            x.rule.replace("_", " "), x.arm, spread(x.excluded, 1, 100.0), spread(x.recruitment, 3),
            terms.get(x.event, x.event), spread(x.before, 1, 100.0), spread(x.after, 1, 100.0),
            spread(x.difference, 2, 100.0),
        )
        for x in found.costs
    )  # fmt: skip
    return Table(
        caption="What the exclusions cost and what they do to the trial's risk.",
        columns=columns("Rule", "Arm", "Excluded|% of subjects", "Recruitment|screened for one in", "Event",
                        "Risk before|%", "Risk after|%", "Difference|points", text=2, words=("Event",)),
        rows=rows,
        notes=("Counted in the simulated trials as they are, with who takes what; mean (5 to 95 % of replicates).",),
    )  # fmt: skip


def _adjusted(found: Decided, terms: dict[str, str]) -> Table:
    def row(x: Adjusted) -> tuple[str, ...]:
        risks = (spread(risk, 1, 100.0) for risk in x.risks)
        return (x.rule.replace("_", " "), x.change, x.arm, x.group, rounding.plain(x.dose), terms.get(x.event, x.event),
                *risks, spread(x.ratio, 2))  # fmt: skip

    return Table(
        caption="What the doses do that the rules give instead.",
        columns=columns("Rule", "Change", "Arm", "People", "Dose|× planned", "Event", "Without|%", "With|%",
                        "With, that dose|%", "Exposure ratio then|median (90 %)", text=4, words=("Event",)),
        rows=tuple(row(x) for x in found.adjusted),
        notes=("The same people followed again at that dose from the beginning; mean (5 to 95 % of replicates).",),
    )  # fmt: skip


def _stop(stop: Stopped) -> Table:
    rows = [
        (rounding.count(n), "never" if least > n else rounding.count(least), _probability(with_), _probability(without))
        for n, least, with_, without in stop.looks
    ]
    rows.append(("Expected subjects", "", rounding.fixed(stop.subjects[0], 1), rounding.fixed(stop.subjects[1], 1)))
    short = stop.people.value < stop.looks[-1][0]
    words = f"A trial of this size counts {spread(stop.people, 0)} subjects here"
    notes = (
        f"{words}{', fewer than the last look: it may end before the rule does' if short else ''}.",
        "Exact for every risk, averaged over the law of the risk over draws; in brackets the probability at the 5 % "
        "and 95 % quantiles of the risk. Without: the same people, did they not have the change; what stops then is a "
        "false alarm.",
    )
    return Table(
        caption=f"{stop.rule.replace('_', ' ').capitalize()}, {stop.change}, {stop.arm}. {stop.words}.",
        columns=columns("After|subjects", "Stop from|events", "Stopped with|probability",
                        "Stopped without|probability"),
        rows=tuple(rows), marks=("",) * len(stop.looks) + ("group",), notes=notes,
    )  # fmt: skip
