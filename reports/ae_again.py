"""Sections of the adverse-event page about all events, not only first ones, and about how bad they became."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from reports.figures import event_course as drawing
from reports.figures.palette import Look
from reports.figures.survival import Steps
from reports.tables import Block, Plots, Section, Table, Text, columns
from trials.analysis.ae_recurrent import AeRecurrent, ae_recurrent, mean_curves
from trials.analysis.ae_tables import by_grade
from trials.analysis.binary import Interval, miettinen_nurminen, wilson

if TYPE_CHECKING:
    from trials.analysis.ae_records import AdverseEvents
    from trials.analysis.mean_number import MeanNumber

__all__ = ["again", "grades", "recurrent_of"]

POINTS, TICKS, SHOWN, GRADED = 121, 6, 15, 20
Kind = Literal["all", "serious", "related"]


def recurrent_of(data: AdverseEvents, *, only: Kind, least_grade: int) -> tuple[AeRecurrent, AeRecurrent, AeRecurrent]:
    """Rates of all events: of any kind, by body system, by term."""
    return (
        ae_recurrent(data, "any", only=only, least_grade=least_grade),
        ae_recurrent(data, "soc", only=only, least_grade=least_grade),
        ae_recurrent(data, "term", only=only, least_grade=least_grade),
    )


def again(
    data: AdverseEvents, tables: tuple[AeRecurrent, AeRecurrent, AeRecurrent], style: tuple[Look, ...],
    *, only: Kind, least_grade: int,
) -> Section:  # fmt: skip
    """Mean cumulative number of events by day, ratios of rates by two models."""
    last = float(np.max(data.days))
    at, ticks = np.linspace(0.0, last, POINTS), np.linspace(0.0, last, TICKS)
    curve, risk = (mean_curves(data, 0, t, "any", only=only, least_grade=least_grade) for t in (at, ticks))
    blocks: list[Block] = [Text(text=_WORDS)]
    series = [_steps(curve, risk, (a, arm, style[a]), at) for a, arm in enumerate(data.arms)]
    if all(arm.day.size > 1 for arm in series):
        panel = drawing.numbers(series, ticks, y_label="Mean number of events per subject", name="again")
        caption = "Mean cumulative number of events per subject by day (Nelson-Aalen), bands: robust 95 % intervals."
        blocks.append(Plots(caption=caption, panels=(panel,)))
    blocks.append(_ratios(tables))
    return Section(key="again", title="Events that come again", blocks=tuple(blocks))


_WORDS = (
    "All events count, the second and later ones of a subject too; intervals allow for events of one subject that "
    "depend on each other. The mean number is per subject still exposed. LWYY compares mean numbers day by day; the "
    "negative binomial model compares events per day of exposure and takes the rate to be the same all along: where "
    "events come early and an arm is exposed for a shorter time, it makes that arm look worse than it is."
)


def _steps(curve: MeanNumber, risk: MeanNumber, of: tuple[int, str, Look], at: NDArray[np.float64]) -> Steps:
    """Limits on the logarithmic scale (Lawless & Nadeau 1995)."""
    arm, label, look = of
    value, se = curve.value[0, arm], curve.se[0, arm]
    known = np.isfinite(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.exp(1.959963984540054 * np.where(value > 0, se / value, 0.0))
    return Steps(
        label=label, look=look, day=at[known], value=value[known], lower=(value / spread)[known],
        upper=(value * spread)[known], at_risk=risk.at_risk[0, arm].astype(np.float64),
    )  # fmt: skip


def _ratios(tables: tuple[AeRecurrent, AeRecurrent, AeRecurrent]) -> Table:
    """Any event, body systems and terms with the most events."""
    rows, marks = list[tuple[str, ...]](), list[str]()
    for table, kind in zip(tables, ("", "group", ""), strict=True):
        order = np.argsort(-table.events.sum(axis=1), kind="stable")[:SHOWN].tolist()
        for j in (j for j in order if table.again[j].sum() > 0 or kind == ""):
            for k, arm in enumerate(table.arms[1:]):
                cells = (f"{table.events[j, a]} ({table.again[j, a]})" for a in (0, k + 1))
                rows.append((table.label[j], arm, *cells, _limits(table.lwyy, j, k), _p(table.lwyy, j, k),
                             _limits(table.negative_binomial, j, k)))  # fmt: skip
                marks.append(kind)
    control = tables[0].arms[0]
    return Table(
        caption=f"Ratios of rates of all events to {control}: any event, body systems (shaded) and terms with the most "
        "events.",
        columns=columns("Events", "Arm", f"{control}|events (several)", "Arm|events (several)",
                        "Rate ratio|LWYY, robust 95 %", "p|LWYY", "Rate ratio|negative binomial, robust 95 %", text=2),
        rows=tuple(rows), marks=tuple(marks),
        notes=("In brackets subjects with several of these events. –: no estimate (no event in an arm, or no maximum). "
               "Nothing is adjusted for the number of rows.",),
    )  # fmt: skip


def _limits(ratio: Interval, row: int, k: int) -> str:
    found = [float(v[row, k]) for v in (ratio.estimate, ratio.lower, ratio.upper)]
    return "–" if math.isnan(found[0]) else f"{_shown(found[0])} ({_shown(found[1])} .. {_shown(found[2])})"


def _shown(x: float) -> str:
    return "–" if math.isnan(x) else "∞" if math.isinf(x) else f"{x:.2f}" if x < 99.5 else f"{x:.0f}"


def _p(ratio: Interval, row: int, k: int) -> str:
    p = float(ratio.p[row, k])
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def grades(data: AdverseEvents, *, only: Kind, top: int) -> Section:
    """Subjects by worst grade, and those with a grade or worse with intervals."""
    counts, whole = by_grade(data, only=only), by_grade(data, "any", only=only)
    order = np.argsort(-counts[:, :, 3:].sum(axis=(1, 2)), kind="stable")[: min(top, GRADED)].tolist()
    kept = [j for j in order if counts[j, :, 3:].sum() > 0]
    lines = [("Any adverse event", whole[0]), *((data.terms[j], counts[j]) for j in kept)]
    rows = [(label, arm, *(str(int(v)) for v in grid[a])) for label, grid in lines for a, arm in enumerate(data.arms)]
    worst = Table(
        caption="Subjects by the worst grade of their events; terms with grade 3 or more, the most frequent first.",
        columns=columns("Term", "Arm", "Unknown", *(f"Grade {g}" for g in range(1, 6)), text=2), rows=tuple(rows),
        notes=("MILD, MODERATE and SEVERE of AESEV are read as grades 1, 2 and 3.",),
    )  # fmt: skip
    return Section(key="grades", title="Worst grade", blocks=(worst, _at_least(data, lines)))


def _at_least(data: AdverseEvents, lines: list[tuple[str, NDArray[np.int64]]]) -> Table:
    """Per cent with a worst grade of at least 2, 3, ...: of any event each grade, of terms grade 3."""
    n = np.bincount(data.arm, minlength=len(data.arms))
    rows = list[tuple[str, ...]]()
    for number, (label, grid) in enumerate(lines[: SHOWN // 2]):
        for least in range(2, 6) if number == 0 else (3,):
            x = grid[:, least:].sum(axis=1)
            if x.sum() == 0:
                continue
            risk, against = wilson(x, n), miettinen_nurminen(x[1:], n[1:], x[:1], n[:1])
            for a, arm in enumerate(data.arms):
                difference = _percent(against, a - 1, sign="+") if a else "–"
                rows.append((label, f"≥ {least}", arm, f"{x[a]} of {n[a]}", _percent(risk, a), difference))
    return Table(
        caption="Subjects with an event of a grade or worse, per cent (Wilson's 95 % interval), and risk differences "
        f"from {data.arms[0]} in points (95 % score interval).",
        columns=columns("Term", "Grade", "Arm", "Subjects", "Per cent|95 %", "Difference|points (95 %)", text=3),
        rows=tuple(rows), notes=("Events of unknown grade count as below 2.",),
    )  # fmt: skip


def _percent(found: Interval, place: int, *, sign: str = "") -> str:
    value, low, high = (100 * float(v[place]) + 0.0 for v in (found.estimate, found.lower, found.upper))
    text = f"{value:{sign}.1f} ({low:{sign}.1f} .. {high:{sign}.1f})"
    return text.replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")
