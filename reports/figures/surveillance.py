"""Probability of a signal by month, time to a signal, use of a product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED, Look

__all__ = ["Curve", "Wait", "alone", "power", "uptake", "waits"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A plan: probability of a signal by month with a band, (T,) each; NaN limits are not drawn."""

    label: str
    look: Look
    value: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A plan: months to its signal, median and the range of the middle 90 %; infinite: not within the watch."""

    label: str
    look: Look
    median: float
    low: float
    high: float


def power(curves: Sequence[Curve], null: Sequence[Curve], *, title: str, name: str) -> Markup:
    """Steps under the stated ratio, their ranges at the right; the thin dotted ones are false alarms."""
    months = np.arange(len(curves[0].value) + 1)
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.7)
        for curve, wrong in zip(curves, null, strict=True):
            axis.step(months, np.append(0.0, 100.0 * wrong.value), where="post", color=curve.look.colour, linewidth=0.9,
                      linestyle=":")  # fmt: skip
            axis.step(months, np.append(0.0, 100.0 * curve.value), where="post", color=curve.look.colour,
                      linestyle=curve.look.dash, label=svg.plain(curve.label, 30))  # fmt: skip
        for k, curve in enumerate(curves):
            x, end = float(months[-1]) * (1.015 + 0.017 * k), curve.look.marker
            axis.plot([x, x], [100 * curve.low[-1], 100 * curve.high[-1]], color=curve.look.colour, clip_on=False)
            axis.plot([x], [100 * curve.value[-1]], end, color=curve.look.colour, markersize=4.5, clip_on=False,
                      markerfacecolor=curve.look.face)  # fmt: skip
        axis.set_ylim(0, 101)
        axis.set_xlim(0, float(months[-1]))
        axis.set_xticks(_ticks(int(months[-1])))
        axis.set_ylabel("Markets with a signal so far, %")
        axis.set_xlabel("Months since launch")
        axis.set_title(svg.plain(title, 70), pad=8 + 15 * (1 + (len(curves) - 1) // 3))
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(curves), 3), handlelength=2.2)
        return svg.render(drawn, name=name, title=f"Probability of a signal by month: {title}")


def alone(curve: Curve, null: Curve, *, name: str) -> Markup:
    """One plan with its band, and its false alarms."""
    months = np.arange(len(curve.value) + 1)
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 2.0)
        low, high = (np.append(0.0, 100.0 * part) for part in (curve.low, curve.high))
        axis.fill_between(months, low, high, step="post", color=curve.look.colour, alpha=0.22, linewidth=0)
        axis.step(months, np.append(0.0, 100.0 * curve.value), where="post", color=curve.look.colour,
                  linestyle=curve.look.dash)  # fmt: skip
        axis.step(months, np.append(0.0, 100.0 * null.value), where="post", color=INK, linewidth=0.9, linestyle=":")
        axis.set_ylim(0, 101)
        axis.set_xlim(0, float(months[-1]))
        axis.set_xticks(_ticks(int(months[-1]), 6))
        axis.set_yticks([0, 50, 100])
        axis.set_title(svg.plain(curve.label, 30))
        return svg.render(drawn, name=name, title=f"Probability of a signal by month: {curve.label}")


def waits(rows: Sequence[Wait], months: int, *, title: str, name: str) -> Markup:
    """Bars of the middle 90 % of times to a signal, the median on them; an arrow where it is not within the watch."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 0.95 + 0.32 * len(rows))
        for y, row in enumerate(rows):
            low, high = min(row.low, months), min(row.high, months)
            axis.plot([low, high], [y, y], color=row.look.colour, linewidth=5, alpha=0.3, solid_capstyle="butt")
            if not np.isfinite(row.high):
                axis.plot([months], [y], marker=">", color=row.look.colour, clip_on=False, markersize=6)
            if np.isfinite(row.median):
                axis.plot([row.median], [y], row.look.marker, color=row.look.colour, markersize=7)
        axis.set_yticks(range(len(rows)), [svg.plain(row.label, 26) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, months)
        axis.set_xticks(_ticks(months))
        axis.set_xlabel("Months to the signal of a single market")
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.set_title(svg.plain(title, 70))
        return svg.render(drawn, name=name, title=f"Months to a signal: {title}")


def uptake(started: Array, using: Array, band: tuple[Array, Array], *, name: str) -> Markup:
    """Patients who use the product in each month with the band of its uncertainty; those who have started so far."""
    months = np.arange(1, len(using) + 1)
    with svg.style():
        drawn, (left, right) = svg.figure(7.4, 2.5, columns=2)
        for axis, values, title in ((left, using, "On the product in the month"), (right, started, "Started so far")):
            low, high = (values * part for part in band)
            axis.fill_between(months, low, high, color=BAND, linewidth=0)
            axis.plot(months, values, color=INK if axis is left else ACCENT)
            axis.set_xlim(0, len(using))
            axis.set_xticks(_ticks(len(using), 7))
            axis.set_ylim(0, 1.05 * float(high.max()))
            axis.set_title(title, color=MUTED)
            axis.set_xlabel("Month")
            axis.yaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        left.set_ylabel("Patients")
        return svg.render(drawn, name=name, title="Use of the product by month")


def _ticks(months: int, most: int = 13) -> list[int]:
    step = next((s for s in (1, 2, 3, 6, 12, 24, 60) if months / s <= most), 120)
    return list(range(0, months + 1, step))
