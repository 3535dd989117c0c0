"""Mean number of events by day and arm, and the share of subjects at each grade."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import Look
from reports.figures.survival import Steps, _at_risk

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """One arm: per cent of those followed at grade 1, 2, ... or worse (G, T)."""

    label: str
    look: Look
    percent: Array


def numbers(series: Sequence[Steps], ticks: Array, *, y_label: str, name: str) -> Markup:
    """Mean cumulative numbers with bands; below the axis the mean number followed of each arm at the ticks."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.5 + 0.2 * len(series))
        for arm in series:
            axis.fill_between(arm.day, arm.lower, arm.upper, color=arm.look.colour, alpha=0.16, linewidth=0)
            axis.plot(arm.day, arm.value, color=arm.look.colour, linestyle=arm.look.dash,
                      label=svg.plain(arm.label, 28))  # fmt: skip
        axis.set_ylim(bottom=0)
        axis.set_xlim(0, float(ticks[-1]))
        axis.set_xticks(ticks, [f"{day:.0f}" for day in ticks])
        axis.set_ylabel(svg.plain(y_label, 60))
        axis.set_xlabel("Day of the trial", labelpad=26 + 14 * len(series))
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(series), 5), handlelength=2.2)
        _at_risk(axis, series, ticks)
        return svg.render(drawn, name=name, title=f"{y_label} by day and arm")


def shares(series: Sequence[Shares], day: Array, *, term: str, name: str) -> Markup:
    """One panel a grade, side by side, each with its own scale: the share at that grade or worse."""
    levels = len(series[0].percent)
    with svg.style():
        drawn, axes = svg.figure(7.4, 2.9, columns=levels)
        for level, axis in enumerate(axes):
            for arm in series:
                axis.plot(day, arm.percent[level], color=arm.look.colour, linestyle=arm.look.dash,
                          label=svg.plain(arm.label, 28))  # fmt: skip
            axis.set_ylim(bottom=0)
            axis.set_xlim(0, float(day[-1]))
            axis.set_title(
                "Grade 1 or worse" if level == 0 else f"Grade {level + 1}" + (" or worse" if level + 1 < levels else "")
            )
        axes[0].set_ylabel("Subjects (%)")
        axes[len(axes) // 2].set_xlabel("Day of the trial")
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=min(len(series), 5))
        return svg.render(drawn, name=name, title=f"{term}: share of subjects by grade, day and arm")
