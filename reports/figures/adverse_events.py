"""Adverse events of a trial: risks by arm beside their difference (dot plot), difference against p (volcano)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, INK, MUTED, Look

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One term: per cent of subjects by arm (A,); difference in percentage points with its interval."""

    label: str
    risks: Array
    difference: float
    lower: float
    upper: float


def dots(rows: Sequence[Dot], arms: Sequence[tuple[str, Look]], *, compared: int, name: str) -> Markup:
    """Left the risk of every arm, right the difference of arm `compared` from control with its interval."""
    with svg.style():
        drawn, (left, right) = svg.figure(7.4, 1.1 + 0.23 * len(rows), columns=2, widths=(1.0, 1.15))
        places = np.arange(len(rows))
        for k, (label, look) in enumerate(arms):
            left.plot([row.risks[k] for row in rows], places, linestyle="", marker=look.marker, color=look.colour,
                      markerfacecolor=look.face, markersize=5, label=svg.plain(label, 24))  # fmt: skip
        colour = arms[compared][1].colour
        right.axvline(0, color=INK, linewidth=0.9)
        for y, row in enumerate(rows):
            right.plot([row.lower, row.upper], [y, y], color=colour, linewidth=1.5)
            right.plot([row.difference], [y], marker=arms[compared][1].marker, color=colour, linestyle="")
        _rows(left, [row.label for row in rows])
        _rows(right, [""] * len(rows))
        left.set_xlim(left=-0.03 * left.get_xlim()[1])
        left.set_xlabel("Subjects with the event (%)")
        right.set_xlabel("Risk difference (percentage points)")
        drawn.legend(loc="outside upper right", ncols=min(len(arms), 4), handletextpad=0.2)
        return svg.render(drawn, name=name, title=f"Risks by arm and risk difference of {arms[compared][0]}, by term")


def _rows(axis: Axes, labels: Sequence[str]) -> None:
    axis.set_yticks(range(len(labels)), [svg.plain(label, 34) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One term on the volcano: difference in points, p, subjects with the event in both arms, standing out."""

    label: str
    difference: float
    p: float
    subjects: int
    out: bool


def volcano(points: Sequence[Point], *, look: Look, x_label: str, named: int, name: str) -> Markup:
    """Difference against p (upwards is smaller); area by subjects; filled: what stands out after adjustment."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 4.2)
        for point in points:
            axis.plot([point.difference], [_height(point)], marker="o", linestyle="", markersize=_size(point.subjects),
                      color=look.colour, markerfacecolor=look.colour if point.out else "white", alpha=0.75,
                      markeredgewidth=0.9)  # fmt: skip
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.axhline(-np.log10(0.05), color=ACCENT, linewidth=1.0, linestyle="--")
        axis.text(0.998, -np.log10(0.05), "p = 0.05", color=ACCENT, fontsize=8, ha="right", va="bottom",
                  transform=axis.get_yaxis_transform())  # fmt: skip
        most = max(map(_height, points), default=1.0)
        axis.set_ylim(-0.06 * most, max(1.12 * most, 1.6))
        axis.margins(x=0.28)
        _names(axis, sorted(points, key=lambda point: point.p)[:named])
        ticks = [p for p in (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6, 1e-8) if -np.log10(p) <= 1.12 * most] or [1.0]
        axis.set_yticks([-np.log10(p) + 0.0 for p in ticks], [f"{p:g}" for p in ticks])
        axis.set_xlabel(svg.plain(x_label, 90))
        axis.set_ylabel("p (score test, not adjusted)")
        return svg.render(drawn, name=name, title=f"Volcano plot: {x_label} against p")


def _height(point: Point) -> float:
    return float(-np.log10(max(point.p, 1e-300)))


def _size(subjects: int) -> float:
    return float(3.0 + 1.3 * np.sqrt(subjects))


def _names(axis: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, pushed apart downwards where they would touch; a thin line leads to a moved one."""
    low, high = axis.get_ylim()
    gap, taken = 0.047 * (high - low), {True: np.inf, False: np.inf}
    for point in sorted(points, key=_height, reverse=True):
        right = point.difference >= 0
        height = min(_height(point), taken[right] - gap)
        taken[right] = height
        arrow = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        offset = (5 + 0.5 * _size(point.subjects)) * (1 if right else -1)
        axis.annotate(
            svg.plain(point.label, 26), (point.difference, _height(point)), color=INK, fontsize=7.5, va="center",
            xytext=(offset, (height - _height(point)) / (high - low) * 230), textcoords="offset points",
            ha="left" if right else "right", arrowprops=arrow if height < _height(point) - 1e-9 else None,
        )  # fmt: skip
