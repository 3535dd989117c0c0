"""Arms weighed: contributions to their scores, ranks, what each weight decides, utility by dose, the plane of gains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, INK, MUTED, Look

Array = NDArray[np.float64]

GOOD = ("#1f5f8b", "#3f8fb8", "#77b5d3", "#aed4e6")
BAD = ("#8a3b12", "#b8632a", "#d8924f", "#ebbb85", "#7a5c1e", "#b39a4a")
_RANKS = ("#1b3a4b", "#d7dee5")


def criterion_colours(kinds: Sequence[str]) -> tuple[str, ...]:
    """Blue for favourable effects, brown for unfavourable ones, in order.

    >>> criterion_colours(["favourable", "unfavourable", "favourable"])
    ('#1f5f8b', '#8a3b12', '#3f8fb8')
    """
    met = {"favourable": 0, "unfavourable": 0}
    found = []
    for kind in kinds:
        ramp = GOOD if kind == "favourable" else BAD
        found.append(ramp[met[kind] % len(ramp)])
        met[kind] += 1
    return tuple(found)


def rank_colours(count: int) -> tuple[str, ...]:
    """Dark for the first rank, light for the last.

    >>> rank_colours(2)
    ('#1b3a4b', '#d7dee5')
    """
    ends = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64) for c in _RANKS]
    mixed = [ends[0] + (ends[1] - ends[0]) * k / max(count - 1, 1) for k in range(count)]
    return tuple("#" + "".join(f"{round(x):02x}" for x in colour) for colour in mixed)


def _ink_on(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else INK


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A bar of segments from 0: label, sizes (n,), limits of their sum (NaN: not drawn), mark: bold label."""

    label: str
    sizes: Array
    limits: tuple[float, float] = (np.nan, np.nan)


def stacks(
    bars: Sequence[Stack], colours: Sequence[str], *, x_label: str, name: str, title: str = "", top: float = 1.0,
    wide: bool = False, shown: float = 0.075,
) -> Markup:  # fmt: skip
    """Horizontal stacked bars; a segment at least `shown` of the axis has its size written in it, in hundredths."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4 if wide else 3.7, 0.85 + 0.36 * len(bars) + (0.2 if title else 0.0))
        for y, bar in enumerate(bars):
            _stack(axis, (y, bar), colours, shown * top)
        axis.set_yticks(range(len(bars)), [svg.plain(bar.label, 34 if wide else 16) for bar in bars])
        axis.set_ylim(len(bars) - 0.4, -0.6)
        axis.set_xlim(0, top)
        axis.set_xlabel(svg.plain(x_label, 60))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        if title:
            axis.set_title(svg.plain(title, 60))
        return svg.render(drawn, name=name, title=title or x_label)


def _stack(axis: Axes, row: tuple[int, Stack], colours: Sequence[str], least: float) -> None:
    (y, bar), begin = row, 0.0
    for size, colour in zip(bar.sizes.tolist(), colours, strict=True):
        axis.barh(y, size, left=begin, height=0.62, color=colour, edgecolor="white", linewidth=0.6)
        if size >= least:
            axis.text(begin + size / 2, y, f"{round(100 * size)}", color=_ink_on(colour), fontsize=7.5, ha="center",
                      va="center")  # fmt: skip
        begin += size
    if np.all(np.isfinite(bar.limits)):
        axis.plot(bar.limits, [y + 0.42] * 2, color=INK, linewidth=1.2)
        for end in bar.limits:
            axis.plot([end, end], [y + 0.34, y + 0.5], color=INK, linewidth=1.2)
        axis.plot([begin], [y + 0.42], marker="o", markersize=3.6, color=INK, markerfacecolor="white", linestyle="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One criterion's weight from 0 to 1: pieces (from, to, arm that is best), and its weight now."""

    label: str
    weight: float
    pieces: tuple[tuple[float, float, int], ...]


def strips(rows: Sequence[Strip], arms: Sequence[tuple[str, Look]], *, name: str) -> Markup:
    """Which arm has the highest expected score as one weight runs from 0 to 100 %; the tick is the weight now."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 0.85 + 0.42 * len(rows))
        for y, row in enumerate(rows):
            for low, high, arm in row.pieces:
                label, look = arms[arm]
                axis.barh(y, 100 * (high - low), left=100 * low, height=0.62, color=look.colour, edgecolor="white",
                          linewidth=1.0)  # fmt: skip
                if high - low >= 0.085:
                    axis.text(50 * (low + high), y, svg.plain(label, round(90 * (high - low))), fontsize=7.5,
                              color=_ink_on(look.colour), ha="center", va="center")  # fmt: skip
            axis.plot([100 * row.weight] * 2, [y - 0.44, y + 0.44], color=ACCENT, linewidth=2.4, solid_capstyle="butt")
        axis.set_yticks(range(len(rows)), [svg.plain(row.label, 30) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 100)
        axis.set_xlabel("Weight of the criterion (%), the others in proportion")
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        return svg.render(drawn, name=name, title="Best arm by the weight of each criterion")


def by_weight(
    chance: Array, weight: float, grid: Array, *, arms: Sequence[tuple[str, Look]], title: str, name: str
) -> Markup:
    """P(best) of every arm (G, A) as one weight runs over `grid`; dashed: the weight now."""
    with svg.style():
        drawn, (axis,) = svg.figure(2.9, 2.1)
        for a, (label, look) in enumerate(arms):
            axis.plot(100 * grid, chance[:, a], color=look.colour, linestyle=look.dash, label=svg.plain(label, 20))
        axis.axvline(100 * weight, color=ACCENT, linewidth=1.1, linestyle="--")
        axis.set_xlim(0, 100)
        axis.set_ylim(0, 1)
        axis.set_xlabel("Weight (%)")
        axis.set_ylabel("P(best)")
        axis.set_title(svg.plain(title, 34))
        return svg.render(drawn, name=name, title=f"Probability of being best by the weight of {title}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseArm:
    """An arm on the curve of utility: dose, score with limits, probability that it is the best arm."""

    label: str
    look: Look
    dose: float
    score: tuple[float, float, float]
    best: float


def utility(
    curve: tuple[Array, Array, Array, Array], arms: Sequence[DoseArm], *, dose: str, optimum: tuple[float, float],
    name: str,
) -> Markup:  # fmt: skip
    """Score by dose (grid, mean, lower, upper) with the arms on it; beside it P(best) of each arm. optimum: limits of
    the best dose, drawn along the axis."""
    grid, mean, lower, upper = curve
    with svg.style():
        drawn, (left, right) = svg.figure(7.4, 3.1, columns=2, widths=(2.1, 1.0))
        if np.all(np.isfinite(lower)):
            left.fill_between(grid, lower, upper, color="#dbe4ee", linewidth=0)
        left.plot(grid, mean, color=INK)
        for arm in arms:
            error = np.abs(np.array([[arm.score[1]], [arm.score[2]]]) - arm.score[0])
            left.errorbar(
                [arm.dose], [arm.score[0]], yerr=error if np.all(np.isfinite(error)) else None, marker=arm.look.marker,
                color=arm.look.colour, markerfacecolor=arm.look.face, linestyle="", elinewidth=1.2, markersize=7,
            )  # fmt: skip
        if np.all(np.isfinite(optimum)):
            low = left.get_ylim()[0]
            left.plot(optimum, [low, low], color=ACCENT, linewidth=5, solid_capstyle="butt", clip_on=False)
        left.set_xlabel(svg.plain(dose, 40))
        left.set_ylabel("Score")
        right.barh(range(len(arms)), [arm.best for arm in arms], color=[arm.look.colour for arm in arms], height=0.62)
        for y, arm in enumerate(arms):
            right.text(min(arm.best + 0.03, 0.86), y, f"{arm.best:.2f}", va="center", fontsize=8)
        right.set_yticks(range(len(arms)), [svg.plain(arm.label, 14) for arm in arms])
        right.set_ylim(len(arms) - 0.4, -0.6)
        right.set_xlim(0, 1)
        right.set_xlabel("P(best dose studied)")
        right.grid(axis="y", visible=False)
        return svg.render(drawn, name=name, title="Score by dose, and the probability that each dose is the best")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """One arm: loss and benefit in points of 100 by draw (D,), against the reference."""

    label: str
    look: Look
    loss: Array
    benefit: Array


def gains(arms: Sequence[Gains], *, reference: str, name: str) -> Markup:
    """Gain by favourable effects against loss by unfavourable ones, one faint dot a draw; on the diagonal they are
    equal, above it the arm is better than the reference."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.9)
        for arm in arms:
            axis.plot(arm.loss, arm.benefit, linestyle="", marker="o", markersize=2.6, color=arm.look.colour,
                      alpha=0.35, markeredgewidth=0)  # fmt: skip
        for arm in arms:
            axis.plot([arm.loss.mean()], [arm.benefit.mean()], marker=arm.look.marker, markersize=9,
                      color=arm.look.colour, markerfacecolor=arm.look.face, markeredgewidth=1.4, linestyle="",
                      label=svg.plain(arm.label, 28))  # fmt: skip
        box = axis.get_xlim(), axis.get_ylim()
        low, high = min(box[0][0], box[1][0]), max(box[0][1], box[1][1])
        axis.plot([low, high], [low, high], color=ACCENT, linewidth=1.1, linestyle="--")
        axis.axhline(0, color=MUTED, linewidth=0.8)
        axis.axvline(0, color=MUTED, linewidth=0.8)
        axis.set_xlim(*box[0])
        axis.set_ylim(*box[1])
        axis.set_xlabel(svg.plain(f"Loss by unfavourable effects against {reference} (points of 100)", 90))
        axis.set_ylabel("Gain by favourable effects (points)")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(arms), 5))
        return svg.render(drawn, name=name, title="Gain by favourable effects against loss by unfavourable ones")
