"""Comedication and impairment: from exposure to risk, dose, and what the trial has to do."""

import numpy as np

from reports import captions, rounding
from reports.chained import Chain, Group, Path, Risk, Spread
from reports.figures import onset
from reports.sections import consequences
from reports.sections.consequences import spread
from reports.study import Study
from reports.tables import Block, Heading, Plots, Section, Table, Text, columns


def chain(study: Study) -> Section:
    """With against without, in the same people."""
    found = study.chain
    if found is None:
        raise LookupError("the protocol has neither comedication nor impairment")
    intro = (
        f"The same people are followed with and without each change, in {rounding.count(found.replicates)} replicates, "
        "each with its own draw of the parameters and of the change. Exposure is that of the planned doses as taken, "
        "risk that of the whole course, with dosing rules and stops. Intervals are over replicates."
    )
    blocks: list[Block] = [Text(text=intro), _sources(found)]
    blocks += [_path(path, number) for number, path in enumerate(found.paths)]
    blocks.append(_exposure(study, found))
    if any(group.risks for group in found.groups):
        blocks.append(_risks(study, found))
    blocks += [_doses(found), Heading(text="What it means for the trial"), _concerned(found)]
    if found.watches:
        blocks.append(_watches(found))
    if study.decided is not None:
        terms = {term.key: term.term for term in study.terms} | {"any": "Any of these"}
        blocks += consequences.blocks(study.decided, terms)
    return Section(key="chain", title="Comedication and impairment", blocks=tuple(blocks))


def _spread(x: Spread | None, places: int = 2) -> str:
    if x is None:
        return "–"
    if not x.n and x.value == x.value:
        return f"{rounding.fixed(x.value, places)} (no interval)"
    if max(abs(x.high - x.value), abs(x.low - x.value)) < 1e-9 * abs(x.value):
        return f"{rounding.fixed(x.value, places)} (fixed)"
    if x.low != x.low:
        return rounding.fixed(x.value, places)
    return rounding.with_interval(x.value, (x.low, x.high), places)


def _several(found: Chain) -> bool:
    """Whether there is more than one arm to tell apart."""
    return len({group.arm for group in found.groups}) > 1


def _where(group: Group, found: Chain) -> tuple[str, ...]:
    return (group.change, group.arm, group.group) if _several(found) else (group.change, group.group)


def _heads(found: Chain) -> tuple[str, ...]:
    return ("Change", "Arm", "People") if _several(found) else ("Change", "People")


def _marks(found: Chain) -> tuple[str, ...]:
    return tuple("group" if group.group == "all" else "" for group in found.groups)


def _sources(found: Chain) -> Table:
    return Table(
        caption="What changes exposure, where it is from, and the exposure ratio of the reference person.",
        columns=columns("Change", "What it is", "Exposure ratio|median (90 %)", "Status", text=2, words=("Status",)),
        rows=tuple((x.change, x.what, _spread(x.effect), x.status) for x in found.sources),
        notes=(
            "Reference person: pathway activity 1. A person whose pathway has activity g loses fm g (1 − left) of its "
            "1 − fm (1 − g): nothing where g is 0. Factors with their 95 % intervals.",
        ),
    )


def _exposure(study: Study, found: Chain) -> Table:
    titles = [f"{name}|ratio (90 %)" for name in found.exposures]
    first = found.exposures[0]
    rows = tuple(
        (
            *_where(group, found), rounding.fixed(group.people, 0),
            *(_spread(group.ratios.get(name)) for name in found.exposures),
            rounding.interval(*group.persons[first], 2) if first in group.persons else "–",
        )
        for group in found.groups
    )  # fmt: skip
    return Table(
        caption="Exposure with against without: geometric mean ratio, by group of people.",
        columns=columns(*_heads(found), "Number|mean", *titles, f"{first} of persons|5 to 95 %",
                        text=len(_heads(found))),
        rows=rows, marks=_marks(found),
        notes=(
            "Ratio: median and middle 90 % over replicates of the geometric mean over people; at the last visit while "
            "the change lasts. Persons: median over replicates of the quantiles of persons.",
        ),
    )  # fmt: skip


def _shown(group: Group, found: Chain) -> tuple[Risk, ...]:
    """Every event of all people, the composite of groups."""
    if group.group == "all" or not found.composite:
        return group.risks
    return tuple(risk for risk in group.risks if risk.event == "any")


def _risks(study: Study, found: Chain) -> Table:
    terms = {term.key: term.term for term in study.terms} | {"any": "Any of these"}
    rows, marks = [], []
    for group in found.groups:
        for risk in _shown(group, found):
            rows.append((
                *_where(group, found), terms.get(risk.event, risk.event), _percent(risk.without.value),
                _percent(risk.with_.value), _points(risk.difference), risk.needed.text() if risk.needed else "–",
            ))  # fmt: skip
            marks.append("group" if group.group == "all" else "")
    return Table(
        caption="Risk of adverse events over the trial, without and with, and the number needed to harm.",
        columns=columns(
            *_heads(found), "Event", "Without|%", "With|%", "Difference|points, mean (90 %)", "Needed to harm|95 %",
            text=len(_heads(found)) + 1,
        ),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "NNTH: people who get the change for one more with the event; NNTB: for one fewer. Its interval is the "
            "reciprocal of that of the difference over replicates: uncertainty of parameters and of the change, and "
            "chance in as many people as a replicate has.",
        ),
    )  # fmt: skip


def _percent(share: float) -> str:
    return rounding.fixed(100.0 * share, 1)


def _points(x: Spread) -> str:
    scaled = Spread(value=100.0 * x.value, low=100.0 * x.low, high=100.0 * x.high, n=x.n)
    return _spread(scaled, 1)


def _doses(found: Chain) -> Table:
    rows = tuple(
        (*_where(group, found), _spread(group.dose), _percent(group.inside[0]), _percent(group.inside[1]))
        for group in found.groups
        if group.dose is not None
    )
    return Table(
        caption=f"Dose that restores the exposure ({found.exposures[0]}) without, as a share of the planned dose.",
        columns=columns(*_heads(found), "Dose ratio|median (90 %)", "In the band as planned|%",
                        "In the band with that dose|%", text=len(_heads(found))),
        rows=rows, marks=tuple("group" if g.group == "all" else "" for g in found.groups if g.dose is not None),
        notes=(
            "Found by solving the model again at scaled doses until the geometric mean ratio is 1. Band: 0.80 to 1.25 "
            "of the person's own exposure without; each replicate at its own dose, so the last column is what one dose "
            "for all could do if the size of the change were known. The interval says how well it is.",
        ),
    )  # fmt: skip


def _concerned(found: Chain) -> Table:
    rows = tuple((name, rounding.proportion(x.value, x.mcse, x.n)) for name, x in found.concerned)
    return Table(
        caption="Share of the trial's subjects concerned: who would be excluded, or watched.",
        columns=columns("Change", "Subjects|share"), rows=rows, notes=(captions.MCSE,),
    )  # fmt: skip


def _watches(found: Chain) -> Table:
    rows, marks = [], []
    for watch in found.watches:
        for k, (day, with_, without) in enumerate(watch.days):
            last = k == len(watch.days) - 1
            rows.append((
                watch.change if k == 0 else "", watch.arm if k == 0 else "", watch.limit if k == 0 else "",
                rounding.plain(day), spread(with_, 1, 100.0), spread(without, 1, 100.0),
                spread(watch.day, 1) if last else "", spread(watch.before, 0, 100.0) if last else "",
            ))  # fmt: skip
            marks.append("group" if k == 0 else "")
    return Table(
        caption="What samples find: people with a value out of limits by each day after the beginning.",
        columns=columns("Change", "Arm", "Limit", "By day", "With|%", "Without: false alarm|%",
                        "Day found|mean of found", "Found before an event|% of those with one", text=3),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "Of those who take it, measured with the output's error, planned doses; mean (5 to 95 % of replicates). "
            "The rest is not found by the last sample. Before an event: of those with a first adverse event after the "
            "beginning.",
        ),
    )  # fmt: skip


def _path(path: Path, number: int) -> Plots:
    parts = [_until(path.half, "half of the full effect after")]
    if path.gone.n:
        parts.append(_until(path.gone, "a tenth of it left"))
        parts[-1] += " after the end"
    said = "; ".join(part for part in parts if part)
    said = said[:1].upper() + said[1:]
    caption = (
        f"{path.change}: exposure ratio of the reference person by day, median and middle 90 % of draws, from the "
        f"perpetrator's concentrations and the enzyme's turnover; bar: while it is taken{f'. {said}' if said else ''}."
    )
    arrays = tuple(np.array(x) for x in (path.middle, path.low, path.high))
    given = path.begins, path.ends, path.last
    return Plots(
        caption=caption,
        panels=(onset.course(np.array(path.day), arrays, given, name=f"onset{number}"),),  # type: ignore[arg-type]
    )


def _until(x: Spread, words: str) -> str:
    return f"{words} {spread(x, 0)} days" if x.n else ""
