"""How a fit fits its data: observed against predicted, residuals, fraction below the limit, leave-one-out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED, ramp

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_BLUE = ramp(0.6)
_WIDE = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Points (m,); below: those that lie below the limit of quantification; labels of the axes."""

    x: Floats
    y: Floats
    below: Bools
    x_label: str
    y_label: str


def agreement(cloud: Cloud, *, name: str, title: str) -> Markup:
    """Observed against predicted with the line of identity; values below the limit are open triangles at the limit."""
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 2.45)
        _points(axis, cloud)
        ends = np.concatenate([cloud.x[np.isfinite(cloud.x)], cloud.y[np.isfinite(cloud.y)]])
        low, high = float(ends.min(initial=0.0)), float(ends.max(initial=1e-9))
        axis.plot([low, high], [low, high], color=ACCENT, linewidth=1.1, linestyle="--")
        margin = 0.04 * (high - low)
        axis.set_xlim(low - margin, high + margin)
        axis.set_ylim(low - margin, high + margin)
        _named(axis, cloud)
        axis.set_title(svg.plain(title, 32))
        return svg.render(drawn, name=name, title=title)


def scatter(cloud: Cloud, *, name: str, title: str) -> Markup:
    """Residuals that should be standard normal: the band holds 95 % of them; the line is their running mean."""
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 2.1)
        axis.axhspan(-_WIDE, _WIDE, color=BAND, linewidth=0)
        axis.axhline(0.0, color=MUTED, linewidth=0.8)
        _points(axis, cloud)
        x, y = _running(cloud)
        axis.plot(x, y, color=ACCENT, linewidth=1.4)
        far = float(np.nanmax(np.abs(cloud.y), initial=3.2))
        axis.set_ylim(-1.08 * far, 1.08 * far)
        _named(axis, cloud)
        axis.set_title(svg.plain(title, 32))
        return svg.render(drawn, name=name, title=title)


def _points(axis: Axes, cloud: Cloud) -> None:
    size = 3.0 if len(cloud.x) < 400 else 2.2
    seen = ~cloud.below
    axis.plot(cloud.x[seen], cloud.y[seen], "o", color=_BLUE, markersize=size, alpha=0.6, markeredgewidth=0)
    if cloud.below.any():
        axis.plot(cloud.x[cloud.below], cloud.y[cloud.below], "v", markerfacecolor="white", markeredgecolor=_BLUE,
                  markersize=size + 0.8, markeredgewidth=0.8)  # fmt: skip


def _named(axis: Axes, cloud: Cloud) -> None:
    axis.set_xlabel(svg.plain(cloud.x_label, 40))
    axis.set_ylabel(svg.plain(cloud.y_label, 40))


def _running(cloud: Cloud) -> tuple[Floats, Floats]:
    """Mean of groups of about equal size along x."""
    good = np.isfinite(cloud.x) & np.isfinite(cloud.y)
    order = np.argsort(cloud.x[good], kind="stable")
    x, y = cloud.x[good][order], cloud.y[good][order]
    parts = np.array_split(np.arange(len(x)), int(np.clip(len(x) // 12, 1, 9)))
    parts = [p for p in parts if len(p)]
    return np.asarray([x[p].mean() for p in parts]), np.asarray([y[p].mean() for p in parts])


def quantiles(npde: Floats, *, name: str, title: str) -> Markup:
    """Quantiles of NPDE against the normal's, with the band that holds 95 % of each order statistic."""
    from scipy import special

    x = np.sort(npde[np.isfinite(npde)])
    n = len(x)
    k = np.arange(1, n + 1)
    expected = special.ndtri((k - 0.375) / (n + 0.25))
    low, high = (special.ndtri(special.betaincinv(k, n + 1 - k, at)) for at in (0.025, 0.975))
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 2.1)
        axis.fill_between(expected, low, high, color=BAND, linewidth=0)
        axis.plot(expected, expected, color=MUTED, linewidth=0.8)
        axis.plot(expected, x, "o", color=_BLUE, markersize=2.4, alpha=0.7, markeredgewidth=0)
        axis.set_xlabel("normal quantile")
        axis.set_ylabel("NPDE")
        axis.set_title(svg.plain(title, 32))
        return svg.render(drawn, name=name, title=title)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraction:
    """Fraction below the limit by bin (b,): observed, and the simulated median and 95 % band."""

    time: Floats
    observed: Floats
    lower: Floats
    median: Floats
    upper: Floats


def below(found: Fraction, *, name: str, title: str) -> Markup:
    """The panel of a VPC that a limit of quantification asks for."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 1.8)
        axis.fill_between(found.time, 100 * found.lower, 100 * found.upper, color=BAND, linewidth=0,
                          label="simulated, 95 % band")  # fmt: skip
        axis.plot(found.time, 100 * found.median, color=_BLUE, linewidth=1.0, label="simulated median")
        axis.plot(found.time, 100 * found.observed, "o-", color=INK, linewidth=1.2, markersize=3.4, label="observed")
        axis.set_xlabel("Time (h)")
        axis.set_ylabel("below limit (%)")
        axis.set_ylim(-2, max(8.0, 108 * float(max(found.upper.max(), found.observed.max()))))
        axis.legend(loc="best", ncols=3)
        return svg.render(drawn, name=name, title=title)


def left_out(names: Sequence[str], elpd: Floats, k: Floats, *, name: str) -> Markup:
    """Log predictive density of each subject left out, and Pareto's k of it."""
    with svg.style():
        drawn, axes = svg.figure(7.4, 2.3, columns=2)
        at = np.arange(len(names))
        odd = ~(k <= 0.7)
        for axis, values in zip(axes, (elpd, k), strict=True):
            axis.plot(at[~odd], values[~odd], "o", color=_BLUE, markersize=3.6, markeredgewidth=0)
            axis.plot(at[odd], values[odd], "X", color=ACCENT, markersize=6)
            if len(names) <= 16:
                axis.set_xticks(at, [svg.plain(n, 6) for n in names])
            axis.set_xlabel("subject")
        axes[0].set_ylabel("elpd")
        axes[0].set_title("Predicted from all the others")
        axes[1].axhline(0.7, color=ACCENT, linewidth=1.1, linestyle="--")
        axes[1].set_ylabel("Pareto k")
        axes[1].set_ylim(min(-0.15, float(k.min(initial=0.0)) - 0.05), max(1.0, float(k.max(initial=0.0)) * 1.08))
        axes[1].set_title("Can the value be trusted (k ≤ 0.7)?")
        return svg.render(drawn, name=name, title="Leave-one-subject-out by subject")


_MAP = LinearSegmentedColormap.from_list("signed", [ACCENT, "#ffffff", _BLUE])


def correlations(names: Sequence[str], matrix: Floats, *, name: str) -> Markup:
    """Posterior correlations of the population parameters as a lower triangle, the numbers in hundredths."""
    n = len(names)
    with svg.style():
        drawn, (axis,) = svg.figure(min(7.4, 1.9 + 0.42 * n), min(6.4, 1.1 + 0.32 * n))
        for i in range(n):
            for j in range(i):
                r = float(matrix[i, j])
                axis.fill([j, j + 1, j + 1, j], [i, i, i + 1, i + 1], color=_MAP(0.5 + 0.5 * r), linewidth=0)
                colour = "white" if abs(r) > 0.6 else INK
                axis.text(
                    j + 0.5,
                    i + 0.52,
                    f"{round(100 * r)}".replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color=colour,
                )
        axis.set_xlim(0, max(n - 1, 1))
        axis.set_ylim(n, 1)
        axis.set_yticks(np.arange(1, n) + 0.5, [svg.plain(x, 18) for x in names[1:]])
        axis.set_xticks(np.arange(n - 1) + 0.5, [svg.plain(x, 18) for x in names[:-1]], rotation=60, ha="right")
        axis.grid(visible=False)
        axis.tick_params(length=0)
        for side in ("left", "bottom"):
            axis.spines[side].set_visible(False)
        return svg.render(drawn, name=name, title="Posterior correlations of the population parameters")
