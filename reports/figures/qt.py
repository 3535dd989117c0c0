"""Figures of a concentration-QTc analysis: model against tenths of the concentration, courses, loop, correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, Look

__all__ = ["Line", "Points", "course", "deciles", "loop"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The model: concentrations, mean, limits (k,)."""

    conc: Array
    mean: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Means with limits (k,) at `x`, of one arm."""

    label: str
    look: Look
    x: Array
    mean: Array
    lower: Array
    upper: Array


def deciles(line: Line, points: Points, *, limit: float, at: Sequence[tuple[str, float]], name: str, x: str) -> Markup:
    """The model's line and band, observed means by tenths, the limit, and where doses' Cmax lie (label, conc)."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.8)
        axis.fill_between(line.conc, line.lower, line.upper, color=BAND, linewidth=0)
        axis.plot(line.conc, line.mean, color=INK)
        _points(axis, points, joined=False)
        _limits(axis, limit)
        for label, conc in at:
            axis.axvline(conc, color=points.look.colour, linewidth=0.9, linestyle=":")
            axis.text(conc, 1.0, svg.plain(label, 24), fontsize=8, ha="right", va="bottom",
                      transform=axis.get_xaxis_transform())  # fmt: skip
        axis.set_xlim(left=0.0)
        axis.set_xlabel(svg.plain(x, 60))
        axis.set_ylabel("ddQTcF, ms")
        return svg.render(drawn, name=name, title=f"ddQTcF by concentration of {points.label}")


def course(series: Sequence[Points], *, limit: float | None, y: str, name: str) -> Markup:
    """Differences from placebo by hour after the dose."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.1)
        for k, points in enumerate(series):
            _points(axis, points, joined=True, shift=0.06 * (k - (len(series) - 1) / 2))
        _limits(axis, limit)
        axis.set_xlabel("Hours after the dose")
        axis.set_ylabel(svg.plain(y, 40))
        if len(series) > 1:
            axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
        return svg.render(drawn, name=name, title=f"{y} by time")


def loop(points: Points, times: Array, *, name: str, x: str) -> Markup:
    """Mean effect against mean concentration, joined in order of time, some times written beside."""
    with svg.style():
        drawn, (axis,) = svg.figure(3.7, 3.1)
        axis.plot(points.x, points.mean, color=points.look.colour, marker="o", linewidth=1.0)
        for k in sorted({0, int(points.x.argmax()), int(points.mean.argmax()), times.size - 1}):
            axis.annotate(f"{times[k]:g} h", (points.x[k], points.mean[k]), fontsize=8, xytext=(4, 3),
                          textcoords="offset points")  # fmt: skip
        axis.axhline(0.0, color=INK, linewidth=0.8)
        axis.set_xlabel(svg.plain(x, 40))
        axis.set_ylabel("ddQTcF, ms")
        axis.set_title(svg.plain(points.label, 40))
        return svg.render(drawn, name=name, title=f"Loop of {points.label}")


def _points(axis: Axes, points: Points, *, joined: bool, shift: float = 0.0) -> None:
    look, seen = points.look, np.isfinite(points.mean)
    error = np.abs(np.stack([points.lower, points.upper]) - points.mean)[:, seen]
    axis.errorbar(
        points.x[seen] + shift, points.mean[seen], yerr=np.nan_to_num(error), color=look.colour, marker=look.marker,
        markerfacecolor=look.face, linestyle="-" if joined else "", elinewidth=1.0, linewidth=1.2,
        label=svg.plain(points.label, 28),
    )  # fmt: skip


def _limits(axis: Axes, limit: float | None) -> None:
    axis.axhline(0.0, color=INK, linewidth=0.8)
    if limit is not None:
        axis.axhline(limit, color=ACCENT, linewidth=1.1, linestyle="--")
