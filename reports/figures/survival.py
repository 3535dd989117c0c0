"""Survival and cumulative incidence by arm, with the number at risk under the axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import INK, MUTED, Look

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """One arm: day (T,) with value, lower, upper; at_risk (K,) at the ticks, shares and numbers of one trial."""

    label: str
    look: Look
    day: Array
    value: Array
    lower: Array
    upper: Array
    at_risk: Array


def steps(series: Sequence[Steps], ticks: Array, *, y_label: str, name: str, top: float = 100.0) -> Markup:
    """Curves with bands, in per cent; below the axis the mean number at risk of each arm at the ticks."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.7 + 0.2 * len(series))
        for arm in series:
            axis.fill_between(arm.day, 100 * arm.lower, 100 * arm.upper, color=arm.look.colour, alpha=0.16, linewidth=0)
            axis.plot(arm.day, 100 * arm.value, color=arm.look.colour, linestyle=arm.look.dash,
                      label=svg.plain(arm.label, 28))  # fmt: skip
        axis.set_ylim(0, 1.01 * top)
        axis.set_xlim(0, float(ticks[-1]))
        axis.set_xticks(ticks, [f"{day:.0f}" for day in ticks])
        axis.set_ylabel(svg.plain(y_label, 60))
        axis.set_xlabel("Day of the trial", labelpad=26 + 14 * len(series))
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(series), 5), handlelength=2.2)
        _at_risk(axis, series, ticks)
        return svg.render(drawn, name=name, title=f"{y_label} by day and arm")


def _at_risk(axis: Axes, series: Sequence[Steps], ticks: Array) -> None:
    """Rows of numbers between the tick labels and the name of the axis."""
    line, first = 14.0, 26.0
    words: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axis.annotate("At risk", (0, 0), xytext=(-6, -first), ha="right", va="center", color=MUTED, fontsize=8, **words)
    for row, arm in enumerate(series):
        down = -(first + line * (row + 0.9))
        axis.annotate(svg.plain(arm.label, 18), (0, 0), xytext=(-16, down), ha="right", va="center",
                      color=arm.look.colour, fontsize=8, **words)  # fmt: skip
        for day, number in zip(ticks, arm.at_risk, strict=True):
            axis.annotate(f"{number:.0f}", (float(day / ticks[-1]), 0), xytext=(0, down), ha="center", va="center",
                          color=INK, fontsize=8, **words)  # fmt: skip
