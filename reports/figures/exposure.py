"""Concentration over time by arm, and response against exposure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, INK, MUTED, Look

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Quantiles over subjects of one arm: time [days] (t,), lower, median, upper (t,)."""

    label: str
    look: Look
    time: Array
    lower: Array
    median: Array
    upper: Array


_GAP = 1.5  # days without a value: nothing is drawn across


def arm_band(band: Band, *, y_label: str, top: float, name: str) -> Markup:
    """One arm on the scale all arms share; stretches of time that were solved stand side by side, in days."""
    parts = _stretches(band.time)
    with svg.style():
        widths = [3.0 if k == 0 else 2.0 for k in range(len(parts))]
        drawn, axes = svg.figure(3.7, 2.2, columns=len(parts), widths=widths)
        for k, (axis, rows) in enumerate(zip(axes, parts, strict=True)):
            axis.fill_between(
                band.time[rows], band.lower[rows], band.upper[rows], color=band.look.colour, alpha=0.22, linewidth=0
            )
            axis.plot(band.time[rows], band.median[rows], color=band.look.colour, linewidth=1.3)
            axis.set_ylim(0, top)
            axis.set_xlabel("Day")
            if k:
                axis.tick_params(labelleft=False)
        axes[0].set_title(svg.plain(band.label, 26))
        axes[0].set_ylabel(svg.plain(y_label, 30))
        return svg.render(drawn, name=name, title=f"{y_label} over time, {band.label}")


def _stretches(time: Array) -> list[slice]:
    """Runs of times without a long gap; all of it where there would be many."""
    cuts = [0, *(np.flatnonzero(np.diff(time) > _GAP) + 1).tolist(), time.size]
    found = [slice(a, b) for a, b in pairwise(cuts)]
    return found if len(found) <= 3 else [slice(0, time.size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Response against exposure: what was simulated, in bins (b,), and the model's own expectation, on a grid (g,).

    exposure, mean, error (2, b): bins with the 95 % Monte Carlo limits of the mean; grid, curve, spread (2, g):
    expected response with its 95 % range over parameter draws (empty where there is none); points (m, 2): single
    subjects, people (2, b): their 10th and 90th percentile (both may be empty); top: largest exposure shown;
    markers: median exposure of
    each arm with its look.
    """

    exposure: Array
    mean: Array
    error: Array
    grid: Array
    curve: Array
    spread: Array
    points: Array
    people: Array
    top: float
    markers: tuple[tuple[float, str, Look], ...]


def response(data: Response, *, title: str, labels: tuple[str, str], percent: bool, name: str) -> Markup:
    """One panel; triangles above mark the arms."""
    scale = 100.0 if percent else 1.0
    with svg.style():
        drawn, (axis,) = svg.figure(2.7, 2.4)
        if data.points.size:
            axis.plot(
                data.points[:, 0], scale * data.points[:, 1], linestyle="", marker="o", markersize=1.6, color=MUTED,
                alpha=0.4, markeredgewidth=0,
            )  # fmt: skip
        if data.people.size:
            axis.plot(data.exposure, scale * data.people.T, color=MUTED, linewidth=0.8, linestyle=":")
        if data.grid.size:
            low, high = scale * data.spread
            axis.fill_between(data.grid, low, high, color=ACCENT, alpha=0.18, linewidth=0)
            axis.plot(data.grid, scale * data.curve, color=ACCENT, linewidth=1.4)
        errors = scale * np.abs(data.error - data.mean)
        axis.errorbar(data.exposure, scale * data.mean, yerr=errors, fmt="o", color=INK, markersize=3, elinewidth=1.0)
        _mark_arms(axis, data.markers)
        axis.set_xlim(-0.02 * data.top, data.top)
        axis.set_title(svg.plain(title, 30), pad=11)
        axis.set_xlabel(svg.plain(labels[0], 38))
        axis.set_ylabel(svg.plain(labels[1], 32))
        if percent:
            axis.set_ylim(bottom=0)
        return svg.render(drawn, name=name, title=f"{title}: {labels[1]} against {labels[0]}")


def _mark_arms(axis: Axes, markers: Sequence[tuple[float, str, Look]]) -> None:
    for value, _, look in markers:
        axis.plot(
            [value], [1.02], marker="v", markersize=5.5, color=look.colour, markerfacecolor=look.face, clip_on=False,
            transform=axis.get_xaxis_transform(), linestyle="",
        )  # fmt: skip
