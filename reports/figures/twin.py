"""A patient's levels, what the twin makes of them, and what comes next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, INK, MUTED

Array = NDArray[np.float64]
PAST, NEXT = "#1f5f8b", "#2f7d4f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Quantiles 5, 25, 50, 75, 95 % of the true level (5, t) at `time` (t,) h, and of a new measurement (5, t)."""

    time: Array
    latent: Array
    measured: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What was measured: time, value, whether it lies below the limit, whether it is flagged."""

    time: Array
    value: Array
    below: NDArray[np.bool_]
    flagged: NDArray[np.bool_]


def course(
    past: Course,
    levels: Levels,
    *,
    planned: Course | None,
    now: float,
    doses: Sequence[float],
    label: str,
    name: str,
) -> Markup:
    """The figure: the course by the doses of the data and, in green, the plan."""
    with svg.style():
        drawn, (axis,) = svg.figure(8.0, 3.6)
        _bands(axis, past, PAST, "Doses of the data")
        if planned is not None:
            _bands(axis, planned, NEXT, "Best regimen")
        axis.axvline(now, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axis.annotate("last level", (now, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", ha="center", color=MUTED, fontsize=8)  # fmt: skip
        top = _top(past, planned, levels)
        axis.plot(list(doses), np.full(len(doses), 0.0), "|", color=INK, markersize=9, clip_on=False, label="Dose")
        _points(axis, levels)
        axis.set_ylim(min(0.0, float(np.min(levels.value, initial=0.0))), top)
        axis.set_xlabel("Hours")
        axis.set_ylabel(svg.plain(label, 40))
        axis.legend(loc="upper right", ncols=2)
        return svg.render(drawn, name=name, title=f"{label}: measured levels, posterior median, 50 % and 90 % bands")


def _bands(axis: Axes, found: Course, colour: str, label: str) -> None:
    axis.fill_between(found.time, found.measured[0], found.measured[4], color=colour, alpha=0.10, linewidth=0)
    axis.fill_between(found.time, found.latent[0], found.latent[4], color=colour, alpha=0.22, linewidth=0)
    axis.fill_between(found.time, found.latent[1], found.latent[3], color=colour, alpha=0.35, linewidth=0)
    axis.plot(found.time, found.latent[2], color=colour, linewidth=1.5, label=svg.plain(label))


def _points(axis: Axes, levels: Levels) -> None:
    plain = ~levels.below & ~levels.flagged
    axis.plot(levels.time[plain], levels.value[plain], "o", color=INK, label="Measured")
    low = levels.below & ~levels.flagged
    if low.any():
        axis.plot(levels.time[low], levels.value[low], "v", color=INK, markerfacecolor="white", label="Below the limit")
    if levels.flagged.any():
        axis.plot(levels.time[levels.flagged], levels.value[levels.flagged], "X", color=ACCENT, markersize=8,
                  label="Does not fit (p < 0.01)")  # fmt: skip


def _top(past: Course, planned: Course | None, levels: Levels) -> float:
    tops = [np.nanmax(past.measured[4]), np.max(levels.value, initial=0.0)]
    tops += [np.nanmax(planned.measured[4])] if planned is not None else []
    return float(1.08 * max(tops))
