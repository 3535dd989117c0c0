"""What the protocol's rules ask of the trial: exclusions and doses, what they cost, stopping for adverse events."""

from reports import rounding
from reports.chained import Spread
from reports.decided import Adjusted, Decided, Probability, Stopped
from reports.tables import Block, Heading, Table, Text, columns


def blocks(found: Decided, terms: dict[str, str]) -> list[Block]:
    """Tables of what there is."""
    made: list[Block] = []
    several = len({line.arm for line in found.ruled} | {stop.arm for stop in found.stops}) > 1
    if found.ruled:
        made += [Heading(text="Whom the rules exclude or dose otherwise"), Text(text=HOW)]
        made += [_ruled(found, rule, several=several) for rule in dict.fromkeys(line.rule for line in found.ruled)]
        if found.costs:
            made.append(_costs(found, terms, several=several))
        if found.adjusted:
            made.append(_adjusted(found, terms, several=several))
        if not found.costs and not found.adjusted:
            made.append(Text(text="No rule asks for anything: no limit is exceeded with the certainty it needs."))
    if found.stops:
        made.append(Heading(text="Stopping for adverse events"))
        made += [_stop(stop, several=several) for stop in found.stops]
    return made


LEAST = 0.05  # probability from which a group is shown that is not concerned
HOW = (
    "Rules are the protocol's. One asks where the probability over draws that its limit is exceeded reaches its "
    "certainty; where it does for all, groups that are surely below (probability at most 1 − certainty) are spared. "
    "Where a risk is exceeded without the change too, leaving out the change is no remedy: a group is then excluded "
    "whatever it takes."
)


def _name(rule: str) -> str:
    return rule.replace("_", " ").capitalize()


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


def _ruled(found: Decided, rule: str, *, several: bool) -> Table:
    every = [line for line in found.ruled if line.rule == rule]
    lines = [line for line in every if line.group == "all" or line.decision != "–" or line.above[0] >= LEAST]
    risk = any(line.without is not None for line in lines)
    rows, marks = [], []
    for line in lines:
        where = (line.change, *((line.arm,) if several else ()), line.group)
        without = (_probability(line.without),) if risk else ()
        rows.append((*where, _probability(line.above), *without, line.decision))
        acts = line.decision.startswith(("exclude", "dose"))
        marks.append("flagged" if acts else "group" if line.group == "all" else "")
    heads = ("Change", *(("Arm",) if several else ()), "People")
    sides = ("With|probability (90 %)", *(("Without|probability (90 %)",) if risk else ()))
    note = (
        "Of a risk: the law of the group's risk over draws of parameters, interaction and people, with the chance of "
        "finite numbers taken out (beta-binomial); interval: what the simulated counts leave open."
        if risk
        else "Share of replicates whose geometric mean ratio is beyond the limit, Jeffreys' interval."
    )
    left = len(every) - len(lines)
    notes = (note, *((f"Not shown: {left} groups with a probability below {LEAST:g}.",) if left else ()))
    return Table(
        caption=f"{_name(rule)}: {lines[0].limit}.", columns=columns(*heads, *sides, "Asked", text=len(heads),
        words=("Asked",)), rows=tuple(rows), marks=tuple(marks), notes=notes,
    )  # fmt: skip


def _two(text: str) -> str:
    """The interval on a line of its own, where a table has many columns."""
    return text.replace(" (", "\n(")


def _costs(found: Decided, terms: dict[str, str], *, several: bool) -> Table:
    rows = tuple(
        (
            _name(x.rule), *((x.arm,) if several else ()), _two(spread(x.excluded, 1, 100.0)),
            _two(spread(x.recruitment, 3)), terms.get(x.event, x.event), _two(spread(x.before, 1, 100.0)),
            _two(spread(x.after, 1, 100.0)), _two(spread(x.difference, 2, 100.0)),
        )
        for x in found.costs
    )  # fmt: skip
    return Table(
        caption="What the exclusions cost and what they do to the trial's risk.",
        columns=columns("Rule", *(("Arm",) if several else ()), "Excluded|% of subjects",
                        "Recruitment|screened for one in", "Event", "Risk before|%", "Risk after|%",
                        "Difference|points", text=2 if several else 1, words=("Event",)),
        rows=rows,
        notes=("Counted in the simulated trials as they are, with who takes what; mean (5 to 95 % of replicates).",),
    )  # fmt: skip


def _adjusted(found: Decided, terms: dict[str, str], *, several: bool) -> Table:
    def row(x: Adjusted) -> tuple[str, ...]:
        risks = (spread(risk, 1, 100.0) for risk in x.risks)
        where = (x.change, *((x.arm,) if several else ()), x.group)
        return (*where, rounding.plain(x.dose), *risks, spread(x.ratio, 2))

    events = dict.fromkeys(terms.get(x.event, x.event) for x in found.adjusted)
    return Table(
        caption=f"What the doses do that the rules give instead: {', '.join(events).lower()}, and exposure.",
        columns=columns("Change", *(("Arm",) if several else ()), "People", "Dose|× planned", "Without|%", "With|%",
                        "With, that dose|%", "Exposure ratio|then, median (90 %)", text=3 if several else 2),
        rows=tuple(row(x) for x in found.adjusted),
        notes=("The same people followed again at that dose from the beginning; mean (5 to 95 % of replicates).",),
    )  # fmt: skip


def _stop(stop: Stopped, *, several: bool) -> Table:
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
        caption=f"{_name(stop.rule)}: {stop.change}{f', {stop.arm}' if several else ''}. {stop.words}.",
        columns=columns("After|subjects", "Stop from|events", "Stopped with|probability",
                        "Stopped without|probability"),
        rows=tuple(rows), marks=("",) * len(stop.looks) + ("group",), notes=notes,
    )  # fmt: skip
