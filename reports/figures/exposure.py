"""Concentration over time by arm, and response against exposure."""

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
class Band:
    """Quantiles over subjects of one arm: time (t,), lower, median, upper (t,)."""

    label: str
    look: Look
    time: Array
    lower: Array
    median: Array
    upper: Array


def bands(series: Sequence[Band], *, x_label: str, y_label: str, name: str) -> Markup:
    """Median and band by arm in one panel."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.4)
        for band in series:
            axis.fill_between(band.time, band.lower, band.upper, color=band.look.colour, alpha=0.16, linewidth=0)
            axis.plot(
                band.time, band.median, color=band.look.colour, linestyle=band.look.dash,
                label=svg.plain(band.label, 28),
            )  # fmt: skip
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.set_ylim(bottom=0)
        _legend_above(axis, len(series))
        return svg.render(drawn, name=name, title=f"{y_label} over time by arm")


def arm_band(band: Band, *, y_label: str, top: float, name: str) -> Markup:
    """One arm alone, on the scale all arms share."""
    with svg.style():
        drawn, (axis,) = svg.figure(3.7, 2.2)
        axis.fill_between(band.time, band.lower, band.upper, color=band.look.colour, alpha=0.22, linewidth=0)
        axis.plot(band.time, band.median, color=band.look.colour, linestyle=band.look.dash)
        axis.set_ylim(0, top)
        axis.set_title(svg.plain(band.label, 26))
        axis.set_xlabel("Day")
        axis.set_ylabel(svg.plain(y_label, 30))
        return svg.render(drawn, name=name, title=f"{y_label} over time, {band.label}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Response in bins of exposure (b,): mean, its 95 % Monte Carlo limits, and the 95 % range over parameter draws.

    `points` (m, 2) are single subjects, `people` (2, b) the 10th and 90th percentile of subjects; both may be empty.
    """

    exposure: Array
    mean: Array
    error: Array  # (2, b): lower, upper limit of the mean
    spread: Array  # (2, b): lower, upper of the parameter range
    points: Array
    people: Array
    top: float  # largest exposure shown
    markers: tuple[tuple[float, str, Look], ...]  # median exposure of each arm: value, label, look


def response(data: Response, *, title: str, labels: tuple[str, str], percent: bool, name: str) -> Markup:
    """Response against exposure: dots are bin means, the band is parameter uncertainty, ticks mark the arms."""
    scale = 100.0 if percent else 1.0
    with svg.style():
        drawn, (axis,) = svg.figure(2.7, 2.4)
        if data.points.size:
            axis.plot(
                data.points[:, 0], scale * data.points[:, 1], linestyle="", marker=".", markersize=1.8,
                color=MUTED, alpha=0.25, markeredgewidth=0,
            )  # fmt: skip
        if data.people.size:
            axis.plot(data.exposure, scale * data.people.T, color=MUTED, linewidth=0.8, linestyle=":")
        axis.fill_between(
            data.exposure, scale * data.spread[0], scale * data.spread[1], color=ACCENT, alpha=0.16, linewidth=0
        )
        errors = scale * np.abs(data.error - data.mean)
        axis.errorbar(
            data.exposure, scale * data.mean, yerr=errors, fmt="o-", color=ACCENT, markersize=3.5, linewidth=1.2,
            elinewidth=1.0,
        )  # fmt: skip
        _mark_arms(axis, data.markers)
        axis.set_xlim(-0.02 * data.top, data.top)
        axis.set_title(svg.plain(title, 30), pad=11)
        axis.set_xlabel(svg.plain(labels[0], 60))
        axis.set_ylabel(svg.plain(labels[1], 44))
        if percent:
            axis.set_ylim(bottom=0)
        return svg.render(drawn, name=name, title=f"{title}: {labels[1]} against {labels[0]}")


def _mark_arms(axis: Axes, markers: Sequence[tuple[float, str, Look]]) -> None:
    for value, _, look in markers:
        axis.plot(
            [value], [1.02], marker="v", markersize=5.5, color=look.colour, markerfacecolor=look.face, clip_on=False,
            transform=axis.get_xaxis_transform(), linestyle="",
        )  # fmt: skip


def _legend_above(axis: Axes, columns: int) -> None:
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(columns, 5), labelcolor=INK, handlelength=1.8)
