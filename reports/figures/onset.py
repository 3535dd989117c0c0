"""The exposure ratio of a comedication over time, coming and going by the perpetrator's kinetics."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED

__all__ = ["course"]

Array = NDArray[np.float64]


def course(day: Array, ratio: tuple[Array, Array, Array], given: tuple[float, float, float], *, name: str) -> Markup:
    """Median and band (low, high) as steps from `day` on; given: days of the first dose, of the end of doses, and of
    the last visit."""
    middle, low, high = ratio
    begins, ends, last = given
    days = np.concatenate([[min(begins, 0.0) - 0.02 * (last - begins)], day, [last]])
    steps = [np.concatenate([[1.0], x, x[-1:]]) for x in (middle, low, high)]
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 2.9)
        axis.fill_between(days, steps[1], steps[2], step="post", color=BAND, linewidth=0)
        axis.step(days, steps[0], where="post", color=INK)
        axis.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=":")
        bottom = float(min(low.min(), 1.0)) / 1.12
        axis.plot([begins, ends], [bottom, bottom], color=ACCENT, linewidth=4, solid_capstyle="butt")
        axis.set_yscale("log")
        _ticks(axis, bottom, float(max(high.max(), 1.0)) * 1.08)
        axis.set_xlim(float(days[0]), last)
        axis.set_xlabel("Day of the trial")
        axis.set_ylabel("Exposure ratio")
        return svg.render(drawn, name=name, title="Exposure ratio by day")


def _ticks(axis: Axes, low: float, high: float) -> None:
    """Round ratios on the log scale, few enough to read."""
    from matplotlib.ticker import FixedLocator, NullLocator

    steps = [m * 10.0**e for e in range(-3, 4) for m in (1.0, 2.0, 5.0)]
    fine = [m * 10.0**e for e in range(-3, 4) for m in (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)]
    inside = [x for x in steps if low <= x <= high]
    shown = inside if len(inside) >= 4 else [x for x in fine if low <= x <= high]
    axis.set_ylim(low, high)
    axis.yaxis.set_major_locator(FixedLocator(shown))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_yticklabels([f"{x:g}" for x in shown])
