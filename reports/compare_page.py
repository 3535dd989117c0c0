"""The page of designs beside each other: what each does under each scenario, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports import rounding
from reports.figures.effects import Row, forest
from reports.figures.palette import Look, looks
from reports.page import Page
from reports.tables import Block, Facts, Plots, Section, Table, Text, columns
from trials.analysis.binary import wilson
from trials.comparison import Comparison, Difference, Scenario
from trials.operating import Estimate

__all__ = ["cell", "page", "sentences"]

DRAWN = (
    "correct", "reject", "type_i_error", "above", "on_best", "toxicities", "subjects", "duration", "bias", "coverage",
    "cost", "net",
)  # fmt: skip
SECTIONS = 12  # scenarios with a section of their own
OFF = 3.5  # Monte Carlo errors between an exact number and its simulation that are no longer chance


def page(found: Comparison, title: str, facts: Sequence[tuple[str, str]] = ()) -> Page:
    """The page. title: what was compared; facts: provenance."""
    shown = found.scenarios[:SECTIONS]
    sections = [_overview(found), *(_scenario(s, k) for k, s in enumerate(shown))]
    return Page(
        brand="Compare", kicker="Designs on the same virtual patients · simulated trials",
        title=title, byline=f"{len(found.designs)} designs · {len(found.scenarios)} scenarios · seed {found.seed}",
        breaches=_breaches(found), answer=sentences(found), trust=_trust(found),
        sections=(*sections, _provenance(found, facts)),
    )  # fmt: skip


def sentences(found: Comparison) -> tuple[str, ...]:
    """What was found, in words: the first scenario's difference, the largest type I error."""
    out = []
    for s in found.scenarios[:1]:
        shares = [f"{d} {share(by[s.main])}" for d, by in s.estimates.items() if s.main in by]
        out.append(f"Under {s.name}, {s.labels[s.main]}: {'; '.join(shares)}.")
        out += [_told(d) for d in s.differences if d.measure == s.main]
    for design, (name, e) in found.largest_type_one().items():
        out.append(f"Largest type I error of {design} over {_nulls(found, design)}: {share(e)} ({name}).")
    return tuple(out)


def _nulls(found: Comparison, design: str) -> str:
    count = sum(design in s.null for s in found.scenarios)
    return "the null scenario" if count == 1 else f"{count} null scenarios"


def _told(d: Difference) -> str:
    low, high = d.paired.interval()
    places = rounding.places(d.paired.mcse, 3)
    gained = f"; unpaired it would take {d.gain:.1f} times the replicates" if d.gain > 1.05 else ""
    return (
        f"{d.design} less {d.against}: {rounding.with_mcse(d.paired.value, d.paired.mcse)}, "
        f"95 % Monte Carlo interval {rounding.interval(low, high, places)}{gained}."
    )


def share(e: Estimate) -> str:
    """A probability with its error."""
    return rounding.proportion(e.value, e.mcse, e.n)


def cell(s: Scenario, design: str, measure: str) -> str:
    """A simulated number with its error; what never varied has none; a dash where the design has no such number."""
    e = s.estimates[design].get(measure)
    if e is None:
        return "–"
    if measure in s.shares:
        return share(e)
    return rounding.plain(e.value) if e.mcse == 0 else rounding.with_mcse(e.value, e.mcse)


def _breaches(found: Comparison) -> tuple[str, ...]:
    out = [
        f"{s.name}: simulation and exact number differ by {s.worst():.1f} Monte Carlo errors."
        for s in found.scenarios if s.worst() > OFF
    ]  # fmt: skip
    if found.mcse is not None:
        wide = [
            s.name
            for s in found.scenarios
            if max(by[s.main].mcse for by in s.estimates.values() if s.main in by) > found.mcse
        ]
        out += [f"The asked MCSE of {found.mcse:g} was not reached in {', '.join(wide)}."] if wide else []
    return tuple(out)


def _trust(found: Comparison) -> tuple[str, ...]:
    worst = [s.worst() for s in found.scenarios if not math.isnan(s.worst())]
    exact = (
        f"Where a number can be had without simulation the two differ by at most {max(worst):.1f} Monte Carlo errors."
        if worst else "No number of these designs can be had without simulation."
    )  # fmt: skip
    runs = sorted({s.replicates for s in found.scenarios})
    many = f"{runs[0]:,}" if len(runs) == 1 else f"{runs[0]:,} to {runs[-1]:,}"
    return (
        f"{many} simulated trials a scenario; errors are Monte Carlo standard errors (MCSE), not those of one trial.",
        "The same virtual patients meet every design, so differences are taken trial by trial.", exact, *found.remarks,
    )  # fmt: skip


def _overview(found: Comparison) -> Section:
    decisions = dict.fromkeys(k for s in found.scenarios for k in s.labels if k.startswith("decide_"))
    keys = [k for k in (*decisions, *DRAWN) if any(k in by for s in found.scenarios for by in s.estimates.values())]
    if all(by["type_i_error"] == by["reject"] for s in found.scenarios for by in s.estimates.values()
           if "type_i_error" in by):  # fmt: skip
        keys = [k for k in keys if k != "type_i_error"]
    labels = {k: s.labels[k] for s in found.scenarios for k in keys if k in s.labels}
    rows, marks = [], []
    for s in found.scenarios:
        for design in s.estimates:
            rows.append((s.name, design, *(cell(s, design, k).replace("(MCSE ", "(") for k in keys)))
            marks.append("flagged" if design in s.null else "")
    table = Table(
        caption="Every design under every scenario, MCSE in brackets.",
        columns=columns("Scenario", "Design", *(labels[k] for k in keys), text=2), rows=tuple(rows), marks=tuple(marks),
        notes=("Flagged: the design's null hypothesis holds, at least in part: every such rejection is wrong.",),
    )  # fmt: skip
    return Section(key="overview", title="Overview", blocks=(*_figure(found), *_differences(found), table))


def _looks(found: Comparison) -> dict[str, Look]:
    count = len(found.designs)
    return dict(zip(found.designs, looks([True] + [False] * (count - 1), [False] * count), strict=True))


def _within(e: Estimate) -> tuple[float, float]:
    """Wilson's interval of a simulated probability."""
    found = wilson(round(e.value * e.n), e.n)
    return float(found.lower), float(found.upper)


def _legend(found: Comparison) -> tuple[tuple[str, str, bool], ...]:
    return tuple((d, one.colour, one.open_marker) for d, one in _looks(found).items())


def _figure(found: Comparison) -> tuple[Plots, ...]:
    """P(reject) of every design and scenario with its Monte Carlo interval."""
    look, rows = _looks(found), []
    for s in found.scenarios[:SECTIONS]:
        named = ""
        for design, by in s.estimates.items():
            if s.main in by:
                e, label, named = by[s.main], "" if named else s.name, s.name
                rows.append(Row(label=label, look=look[design], value=e.value, outer=_within(e)))
    if not rows:
        return ()
    first = found.scenarios[0]
    panel = forest(rows, x_label=f"{first.labels[first.main]}, 95 % Monte Carlo interval", name="main", zero=None)
    caption = f"{first.labels[first.main]} by scenario and design."
    return (Plots(caption=caption, panels=(panel,), legend=_legend(found)),)


def _differences(found: Comparison) -> tuple[Plots, ...]:
    """Differences from the first design, a panel a measure."""
    look, panels = _looks(found), []
    for key in DRAWN:
        each = [(s, d) for s in found.scenarios[:SECTIONS] for d in s.differences if d.measure == key]
        kept = [(s.name, d) for s, d in each if d.unpaired > 0]
        first = [k == 0 or kept[k - 1][0] != name for k, (name, _) in enumerate(kept)]
        rows = [_row(name if new else "", d, look[d.design]) for new, (name, d) in zip(first, kept, strict=True)]
        if rows and key != "type_i_error":
            label = next(s.labels[key] for s, _ in each)
            panels.append(forest(rows, x_label=f"{label}: difference", name=f"d{key}", wide=False))
    if not panels:
        return ()
    caption = (
        f"Differences from {found.designs[0]}: thick, the 95 % Monte Carlo interval of paired trials; thin, what it "
        "would be without pairing."
    )
    return (Plots(caption=caption, panels=tuple(panels), across=2, legend=_legend(found)[1:]),)


def _scenario(s: Scenario, number: int) -> Section:
    blocks: list[Block] = []
    if s.null:
        kinds = "; ".join(f"{design}: {kind}" for design, kind in s.null.items())
        blocks.append(Text(text=f"The null hypothesis holds ({kinds}).", tone="note"))
    blocks.append(_table(s))
    if s.differences:
        blocks.append(_contrasts(s))
    return Section(key=f"scenario{number}", title=s.name, blocks=tuple(blocks))


def _table(s: Scenario) -> Table:
    designs, rows = list(s.estimates), []
    for key, label in s.labels.items():
        rows.append((label, *(cell(s, d, key) for d in designs)))
        if any(key in s.exact.get(d, {}) for d in designs):
            rows.append((f"{label}, without simulation", *(_exact(s, d, key) for d in designs)))
    notes = ["MCSE in brackets."]
    if any(e.approximate for by in s.exact.values() for e in by.values()):
        notes.append("≈: normal approximation; it need not agree to the Monte Carlo error.")
    return Table(
        caption=f"Operating characteristics under {s.name}, {s.replicates:,} trials.",
        columns=columns("Measure", *designs), rows=tuple(rows), notes=tuple(notes),
    )  # fmt: skip


def _exact(s: Scenario, design: str, key: str) -> str:
    known = s.exact.get(design, {}).get(key)
    if known is None:
        return "–"
    far, sign = s.off(design, key), "≈ " if known.approximate else ""
    off = "" if math.isnan(far) else f", {abs(far):.1f} MCSE off"
    return f"{sign}{known.value:.5g} ({known.how}{off})"


def _row(label: str, d: Difference, look: Look) -> Row:
    apart = 1.959963984540054 * d.unpaired
    value = d.paired.value
    return Row(label=label, look=look, value=value, outer=(value - apart, value + apart), inner=d.paired.interval())


def _contrasts(s: Scenario) -> Table:
    rows = []
    for d in s.differences:
        value, error = rounding.value_and_mcse(d.paired.value, d.paired.mcse)
        low, high = d.paired.interval()
        apart = rounding.number(d.unpaired, 2) if d.unpaired > 0 else "0"
        gain = "–" if math.isnan(d.gain) else "∞" if math.isinf(d.gain) else f"{d.gain:.2f}"
        inside = rounding.interval(low, high, rounding.places(d.paired.mcse, 3))
        rows.append((s.labels[d.measure], d.design, value, error, inside, apart, gain))
    against = s.differences[0].against
    return Table(
        caption=f"Paired differences from {against} under {s.name}.",
        columns=columns("Measure", "Design", "Difference", "MCSE|paired", "95 % interval|Monte Carlo",
                        "MCSE|were it unpaired", "Variance ratio|unpaired / paired", text=2), rows=tuple(rows),
        notes=("Variance ratio: as many times the trials would be needed if each design met other people.",),
    )  # fmt: skip


def _provenance(found: Comparison, facts: Sequence[tuple[str, str]]) -> Section:
    asked = () if found.mcse is None else (("MCSE asked for P(reject)", f"{found.mcse:g}"),)
    more = len(found.scenarios) - SECTIONS
    left = (("Scenarios without a section", f"{more}; they are in compare.json"),) if more > 0 else ()
    block = Facts(facts=(("Seed", str(found.seed)), ("Compared against", found.designs[0]), *asked, *left, *facts))
    return Section(key="provenance", title="Provenance", blocks=(block,))
