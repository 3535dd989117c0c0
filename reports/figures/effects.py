"""Effects with their intervals: by visit, as rows (forest), as incidences, on the benefit-risk plane."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED, Look

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a forest: a value, its inner (Monte Carlo) and outer interval; NaN limits are not drawn."""

    label: str
    look: Look
    value: float
    outer: tuple[float, float]
    inner: tuple[float, float] = (np.nan, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A published value with its interval, or a limit (interval of NaN)."""

    label: str
    value: float
    interval: tuple[float, float] = (np.nan, np.nan)


def forest(
    rows: Sequence[Row], *, x_label: str, name: str, title: str = "", reference: Reference | None = None,
    zero: float | None = 0.0, wide: bool = True, log: bool = False,
) -> Markup:  # fmt: skip
    """Rows of intervals: thin line = outer interval, thick line = Monte Carlo error of the mean, marker = mean."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4 if wide else 3.7, 0.95 + 0.3 * len(rows) + (0.2 if reference else 0))
        if log:
            axis.set_xscale("log")
        _reference(axis, reference)
        if zero is not None:
            axis.axvline(zero, color=INK, linewidth=0.9)
        for y, row in enumerate(rows):
            _row(axis, y, row)
        axis.set_yticks(range(len(rows)), [svg.plain(r.label, 30) if wide else svg.wrapped(r.label, 16) for r in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlabel(svg.plain(x_label, 90))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        if title:
            axis.set_title(svg.plain(title, 60))
        return svg.render(drawn, name=name, title=title or x_label)


def _row(axis: Axes, y: int, row: Row) -> None:
    colour = row.look.colour
    if np.all(np.isfinite(row.outer)):
        axis.plot(row.outer, [y, y], color=colour, linewidth=1.5, linestyle=row.look.dash)
    if np.all(np.isfinite(row.inner)):
        axis.plot(row.inner, [y, y], color=colour, linewidth=4.5, alpha=0.45, solid_capstyle="butt")
    axis.plot([row.value], [y], marker=row.look.marker, color=colour, markerfacecolor=row.look.face, linestyle="")


def _reference(axis: Axes, reference: Reference | None) -> None:
    if reference is None:
        return
    if np.all(np.isfinite(reference.interval)):
        axis.axvspan(*reference.interval, color=BAND, alpha=0.8, linewidth=0, zorder=0)
    axis.axvline(reference.value, color=ACCENT, linewidth=1.1, linestyle="--")
    axis.text(
        reference.value, 1.0, svg.plain(" " + reference.label, 60), color=ACCENT, fontsize=8, ha="left", va="bottom",
        transform=axis.get_xaxis_transform(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Mean of one arm by visit: day, mean, lower, upper, each (v,)."""

    label: str
    look: Look
    day: Array
    mean: Array
    lower: Array
    upper: Array


def courses(series: Sequence[Course], *, y_label: str, name: str) -> Markup:
    """Means by visit with intervals, arms set slightly apart in time so that intervals do not hide each other."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.3)
        span = max((float(course.day.max()) for course in series), default=1.0)
        for k, course in enumerate(series):
            day = course.day + (k - (len(series) - 1) / 2) * 0.007 * span
            axis.errorbar(
                day, course.mean, yerr=np.abs(np.stack([course.lower, course.upper]) - course.mean),
                color=course.look.colour, marker=course.look.marker, markerfacecolor=course.look.face,
                linestyle=course.look.dash, elinewidth=1.0, linewidth=1.2, label=svg.plain(course.label, 28),
            )  # fmt: skip
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_xlabel("Day of the trial")
        axis.set_ylabel(svg.plain(y_label, 60))
        axis.set_xticks(series[0].day)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(series), 5), handlelength=2.2)
        return svg.render(drawn, name=name, title=f"{y_label} by visit and arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidence:
    """Incidence of one term in one arm, per cent: at least grade 1, 2, 3 (g,), with limits for any grade."""

    label: str
    look: Look
    at_least: Array
    lower: float
    upper: float


def incidences(term: str, bars: Sequence[Incidence], *, top: float, name: str) -> Markup:
    """Bars by arm, darker for higher grades, with the interval of the incidence of any grade; scale shared by terms."""
    with svg.style():
        drawn, (axis,) = svg.figure(3.7, 2.3)
        for x, bar in enumerate(bars):
            for grade, value in enumerate(bar.at_least):
                axis.bar(x, value, width=0.66, color=bar.look.colour, alpha=(0.3, 0.65, 1.0)[min(grade, 2)])
            error = np.abs(np.array([[bar.lower], [bar.upper]]) - bar.at_least[0])
            axis.errorbar([x], [bar.at_least[0]], yerr=error, color=INK, linewidth=1.1, capsize=2.5)
        axis.set_xticks(range(len(bars)), [svg.wrapped(bar.label) for bar in bars])
        axis.set_ylim(0, top)
        axis.set_ylabel("Subjects (%)")
        axis.set_title(svg.plain(term, 44))
        axis.grid(axis="x", visible=False)
        return svg.render(drawn, name=name, title=f"Incidence of {term} by arm and grade")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """One arm on the benefit-risk plane: points (m, 2) risk, benefit of replicates; mean; limits (2, 2)."""

    label: str
    look: Look
    points: Array
    mean: tuple[float, float]
    risk: tuple[float, float]
    benefit: tuple[float, float]


def plane(
    clouds: Sequence[Cloud], *, x_label: str, y_label: str, most_risk: float | None, least_benefit: float | None,
    name: str,
) -> Markup:  # fmt: skip
    """Benefit against risk, differences from control: one faint dot per replicate, mean with intervals on both axes."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 4.3)
        for cloud in clouds:
            axis.plot(
                cloud.points[:, 0], cloud.points[:, 1], linestyle="", marker="o", markersize=2.6,
                color=cloud.look.colour, alpha=0.35, markeredgewidth=0,
            )  # fmt: skip
        for cloud in clouds:
            _cross(axis, cloud)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.axvline(0, color=INK, linewidth=0.8)
        if most_risk is not None:
            axis.axvline(most_risk, color=ACCENT, linewidth=1.1, linestyle="--")
        if least_benefit is not None:
            axis.axhline(least_benefit, color=ACCENT, linewidth=1.1, linestyle="--")
        axis.set_xlabel(svg.plain(x_label, 90))
        axis.set_ylabel(svg.plain(y_label, 60))
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(clouds), 5))
        return svg.render(drawn, name=name, title=f"Benefit-risk plane: {y_label} against {x_label}")


def _cross(axis: Axes, cloud: Cloud) -> None:
    risk, benefit = cloud.mean
    axis.plot(cloud.risk, [benefit, benefit], color=cloud.look.colour, linewidth=1.4)
    axis.plot([risk, risk], cloud.benefit, color=cloud.look.colour, linewidth=1.4)
    axis.plot(
        [risk], [benefit], marker=cloud.look.marker, markersize=8, color=cloud.look.colour, linestyle="",
        markerfacecolor=cloud.look.face, markeredgewidth=1.4, label=svg.plain(cloud.label, 28),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Two probabilities of one arm, each with its 95 % Monte Carlo limits: assurance, and power at the median."""

    label: str
    look: Look
    first: tuple[float, float, float]
    second: tuple[float, float, float] | None


def probabilities(bars: Sequence[Bar], *, legend: tuple[str, str], name: str) -> Markup:
    """Assurance (filled) and power (open) by arm, with Monte Carlo limits."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 2.7)
        for x, bar in enumerate(bars):
            for shift, values, face in ((-0.12, bar.first, bar.look.colour), (0.12, bar.second, "white")):
                if values is not None and np.isfinite(values[0]):
                    error = np.abs(np.array([[values[1]], [values[2]]]) - values[0])
                    axis.errorbar(
                        [x + shift], [values[0]], yerr=error, marker="o", markersize=7, color=bar.look.colour,
                        markerfacecolor=face, linestyle="", linewidth=1.3,
                    )  # fmt: skip
        axis.set_ylim(0, 1.03)  # room for half a marker
        axis.set_xlim(-0.6, len(bars) - 0.4)
        axis.set_xticks(range(len(bars)), [svg.wrapped(bar.label, 18) for bar in bars])
        axis.set_ylabel("Probability")
        axis.grid(axis="x", visible=False)
        for face, text in (((MUTED), legend[0]), ("white", legend[1])):
            axis.plot([], [], marker="o", markersize=7, color=MUTED, markerfacecolor=face, linestyle="", label=text)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        return svg.render(drawn, name=name, title=f"{legend[0]} and {legend[1]} by arm")
