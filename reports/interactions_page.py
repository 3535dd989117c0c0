"""The page of a matrix of drug interactions: what stands out, by how much, why, and how well it is known."""

from __future__ import annotations

import math

import numpy as np

from pkpd.interactions.screening import Cell, Matrix
from reports.figures import interactions as figures
from reports.page import Page
from reports.tables import Block, Facts, Section, Table, Text, columns
from reports.tables import Plots as Figure

__all__ = ["CAUTION", "page", "ranked", "sentences"]

CAUTION = (
    "Ratios are of population means, predicted; no individual is meant. What is not in the library (transporters, "
    "other enzymes, food, protein binding, disease) is not predicted: a blank is not a clearance."
)
NOTES = (
    "Ratios are of the true means of a population like those of the studies; a small study would scatter more.",
    "Known from: rows of this pair in the calibration; both or one of its drugs in other pairs; the library alone.",
    "In brackets, a genotype with its AUC without the perpetrator relative to the normal genotype.",
)
SHORT = {
    "both drugs studied with others": "both", "one drug studied with others": "one", "library values only": "library",
}  # fmt: skip
MOST_CELLS = 4000  # of the heat map


def page(found: Matrix, *, top: int) -> Page:
    """The page. top: how many pairs the table lists."""
    return Page(
        brand="Interactions", kicker="Drug-drug interactions · predicted ratios of exposure",
        title=found.question.name[:1].upper() + found.question.name[1:],
        byline=f"{len(found.cells)} pairs by dose and genotype · {found.draws} draws · victim {_after(found)}",
        breaches=(), answer=sentences(found), trust=_trust(found),
        sections=(_map(found), _ranked(found, top), _library(found)),
    )  # fmt: skip


def _after(found: Matrix) -> str:
    return f"{found.question.victim_after:g} h after the last dose, {found.question.route}"


def sentences(found: Matrix) -> tuple[str, ...]:
    """What was found, in words."""
    up = sum(c.classes[3] >= 0.5 for c in found.cells)
    two = sum(c.classes[2] + c.classes[3] >= 0.5 for c in found.cells)
    down = sum(c.halved >= 0.5 for c in found.cells)
    head = (
        f"Of {len(found.cells)} pairs, {two} more probably than not at least double the victim's AUC ({up} of them "
        f"raise it more than five-fold), {down} at least halve it."
    )
    if not found.cells:
        return ("No pair was asked for.",)
    first = found.cells[0]
    return head, f"First in rank: {first.perpetrator} ({first.regimen}) on {victim(first)}, {_words(first)}."


def victim(cell: Cell) -> str:
    """The victim with its genotype."""
    return f"{cell.victim} ({cell.genotype}: {_shown(cell.alone)})" if cell.genotype else cell.victim


def _words(cell: Cell) -> str:
    return f"AUC ratio {_shown(cell.auc[0])} (90 % interval {_range(cell.auc)}), by {cell.driver}"


def ranked(found: Matrix, top: int) -> list[tuple[str, ...]]:
    """The first pairs: perpetrator, victim, AUC ratio and interval, probabilities of the classes, driver."""
    return [
        (
            f"{c.perpetrator}, {c.regimen}", victim(c), f"{_shown(c.auc[0])} ({_range(c.auc)})",
            *(_percent(p) for p in c.classes), _percent(c.halved), c.driver,
        )
        for c in found.cells[:top]
    ]  # fmt: skip


def _shown(value: float) -> str:
    return f"{value:.2g}" if value < 0.995 else f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


def _range(value: tuple[float, float, float]) -> str:
    return f"{value[1]:.2g} to {_shown(value[2]) if value[2] > 9.95 else f'{value[2]:.2g}'}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _map(found: Matrix) -> Section:
    plain = [c for c in found.cells if not c.genotype]
    down = tuple(sorted({f"{c.perpetrator}, {c.regimen}" for c in plain}))
    across = tuple(sorted({c.victim for c in plain}))
    if not plain or len(down) * len(across) > MOST_CELLS:
        block: Block = Text(text="Too many pairs for a map (or none of a normal genotype): the table has them.")
        return Section(key="map", title="Map", blocks=(block,))
    ratio = np.full((len(down), len(across)), math.nan)
    for c in plain:
        ratio[down.index(f"{c.perpetrator}, {c.regimen}"), across.index(c.victim)] = c.auc[0]
    drawn = figures.heat(ratio, (down, across), name="ddi-map")
    caption = (
        "Median predicted AUC ratio of victims (across) by perpetrators (down), normal genotype; numbers where it at "
        "least doubles or halves. White: a drug against itself, not asked."
    )
    legend = tuple((words, colour, False) for words, colour in zip(figures.WORDS, figures.COLOURS, strict=True))
    return Section(key="map", title="Map", blocks=(Figure(caption=caption, panels=(drawn,), legend=legend),))


def _ranked(found: Matrix, top: int) -> Section:
    rows = tuple(
        (*line[:3], f"{_shown(c.cmax[0])} ({_range(c.cmax)})", _classes(c), f"{100 * c.halved:.0f}", line[8], _known(c))
        for line, c in zip(ranked(found, top), found.cells, strict=False)
    )
    table = Table(
        caption=f"The first {len(rows)} of {len(found.cells)} pairs, by the probability of a two-fold change or more.",
        columns=columns("Perpetrator", "Victim", "AUC ratio|90 % interval", "Cmax ratio|90 % interval",
                        "P, %|< 1.25, to 2, to 5, > 5", "P, %|< 0.5", "Driver", "Known|from", text=2,
                        words=("Driver", "Known")),
        rows=rows, notes=NOTES,
    )  # fmt: skip
    return Section(key="ranked", title="Ranked pairs", blocks=(table,))


def _classes(cell: Cell) -> str:
    return " / ".join(f"{100 * p:.0f}" for p in cell.classes)


def _known(cell: Cell) -> str:
    return f"pair ({cell.rows})" if cell.rows else SHORT[cell.status]


def _trust(found: Matrix) -> tuple[str, ...]:
    kinds = {c.status for c in found.cells}
    parts = ", ".join(f"{sum(c.status == k for c in found.cells)} {k}" for k in sorted(kinds))
    return CAUTION, _checked(found), f"Pairs: {parts}."


def _checked(found: Matrix) -> str:
    score = found.known.scores
    if not score:
        return "The calibration in use has not been cross-validated."
    return (
        f"Left out pair by pair (5 folds), {score['rows.within2']:.0%} of studies and {score['pairs.within2']:.0%} of "
        f"pairs were predicted within two-fold, off by a factor of {score['rows.gmfe']:.2f} and "
        f"{score['pairs.gmfe']:.2f} on average; the 90 % interval held {score['rows.cover90']:.0%} and "
        f"{score['pairs.cover90']:.0%}."
    )


def _library(found: Matrix) -> Section:
    rows, hyper = sum(found.known.pairs.values()), found.known.hyper
    most = max((c.assumed for c in found.cells), default=0)
    facts = (
        ("Calibrated on", f"{rows} observed AUC ratios of {len(found.known.pairs)} pairs"),
        ("Between studies", f"SD {hyper['noise']:.2f} of the log ratio: of one study, not in the intervals here"),
        ("Between pairs", f"SD {np.hypot(hyper['pair'], hyper['spread']):.2f}, as a share of the log ratio"),
        ("Assumed values", f"up to {most} of a pair's library values are assumed, not looked up"),
    )
    return Section(key="library", title="What it rests on", blocks=(Facts(facts=facts),))
