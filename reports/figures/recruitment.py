"""Recruitment over calendar time, with the days of the looks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A look: mean day and number entered, middle 95 % of its days."""

    label: str
    day: float
    entered: float
    days: tuple[float, float]


def curve(day: Array, entered: tuple[Array, Array, Array], planned: int, marks: Sequence[Mark], *, name: str) -> Markup:
    """Mean and band of the number entered; the looks as points with their spread in days."""
    middle, lower, upper = entered
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.6)
        axis.fill_between(day, lower, upper, color=BAND, linewidth=0)
        axis.plot(day, middle, color=INK)
        axis.axhline(planned, color=MUTED, linewidth=0.8, linestyle=":")
        for mark in marks:
            axis.plot(mark.days, [mark.entered] * 2, color=ACCENT, linewidth=1.2)
            axis.plot([mark.day], [mark.entered], "o", color=ACCENT)
            axis.annotate(svg.plain(mark.label, 20), (mark.day, mark.entered), xytext=(0, -13), color=ACCENT,
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
        axis.set_xlim(0, float(day[-1]))
        axis.set_ylim(0, 1.06 * max(planned, float(upper.max(initial=0.0))))
        axis.set_xlabel("Day since the first site opened")
        axis.set_ylabel("Subjects entered")
        return svg.render(drawn, name=name, title="Subjects entered by calendar day")
