"""The design in one picture: arms, titration steps, visits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from reports.figures import svg
from reports.figures.palette import INK, MUTED, Look
from reports.rounding import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stretch of one regimen: days from and to (d), dose size relative to the largest of the trial, text."""

    start: float
    end: float
    size: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One arm of the sketch; `steps` is empty when nothing is given."""

    label: str
    note: str
    look: Look
    steps: tuple[Step, ...]


def sketch(lanes: Sequence[Lane], visits: Mapping[str, float], *, name: str) -> Markup:
    """Arms as rows over trial days, bar height by dose, visits as marked days (d)."""
    end = max([*visits.values(), *(step.end for lane in lanes for step in lane.steps)], default=1.0)
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 0.9 + 0.52 * len(lanes))
        for row, lane in enumerate(lanes):
            _lane(axis, row, lane, end)
        _visits(axis, visits, len(lanes))
        axis.set_ylim(len(lanes) - 0.35, -1.15)
        axis.set_xlim(-0.01 * end, end * 1.02)
        axis.set_yticks(range(len(lanes)), [svg.plain(f"{lane.label}", 28) for lane in lanes])
        axis.set_xlabel("Day of the trial")
        axis.grid(False)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        return svg.render(drawn, name=name, title="Design: arms, titration and visits by day")


def _lane(axis: Axes, row: int, lane: Lane, end: float) -> None:
    axis.plot([0, end], [row + 0.3, row + 0.3], color=lane.look.colour, linewidth=1.2)
    for step in lane.steps:
        height = 0.14 + 0.4 * step.size
        axis.barh(
            row + 0.3 - height / 2, step.end - step.start, height, step.start,
            color=lane.look.colour, alpha=0.3 + 0.6 * step.size, edgecolor="white", linewidth=0.6,
        )  # fmt: skip
    if lane.steps:
        last = lane.steps[-1]
        axis.text(
            (last.start + last.end) / 2, row + 0.21, svg.plain(last.text + lane.note, 70),
            ha="center", va="bottom", fontsize=8, color="white" if last.size > 0.45 else INK,
        )  # fmt: skip
    else:
        axis.text(end / 2, row + 0.24, "no active treatment", ha="center", va="bottom", fontsize=8, color=MUTED)


def _visits(axis: Axes, visits: Mapping[str, float], rows: int) -> None:
    span = max(visits.values(), default=1.0) or 1.0
    taken = [-span, -span]  # right ends of the labels of two lines
    for label, day in sorted(visits.items(), key=lambda visit: visit[1]):
        axis.plot([day, day], [-0.45, rows - 0.4], color=MUTED, linewidth=0.7, linestyle=":", zorder=0)
        side = "left" if day < 0.03 * span else "right" if day > 0.97 * span else "center"
        text = svg.plain(label, 14)
        wide = 0.0125 * span * len(text)
        start = day - {"left": 0.0, "right": wide, "center": wide / 2}[side]
        line = next((k for k, end in enumerate(taken) if start > end), None)
        if line is not None:  # where there is no room the day below the axis tells
            taken[line] = start + wide + 0.005 * span
            axis.text(day, -0.55 - 0.3 * line, text, ha=side, va="bottom", fontsize=8, color=MUTED)
    axis.set_xticks(list(visits.values()), [plain(day) for day in visits.values()])
