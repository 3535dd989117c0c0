"""Laboratory toxicity: worst grades by arm, a grade by cycle, and eDISH (peak ALT against peak bilirubin)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, INK, MUTED, Look
from trials.analysis.liver import AMINOTRANSFERASE, BILIRUBIN

Array = NDArray[np.float64]
SHADES = (0.22, 0.45, 0.7, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Worst grade of one arm, per cent: at least each of `levels` (g,), limits of the highest of them."""

    label: str
    look: Look
    at_least: Array
    lower: float
    upper: float


def worst(title: str, levels: Sequence[int], stacks: Sequence[Stack], *, top: float, name: str) -> Markup:
    """Bars by arm, darker for higher grades; the interval is that of the highest grade; `top` of the axis."""
    with svg.style():
        drawn, (axis,) = svg.figure(3.7, 2.5)
        for x, stack in enumerate(stacks):
            for level, value in zip(levels, stack.at_least, strict=True):
                axis.bar(x, value, width=0.66, color=stack.look.colour, alpha=SHADES[level - 1])
            last = float(stack.at_least[-1])
            if np.isfinite([last, stack.lower, stack.upper]).all():
                error = np.abs(np.array([[stack.lower], [stack.upper]]) - last)
                axis.errorbar([x], [last], yerr=error, color=INK, linewidth=1.1, capsize=2.5)
        axis.set_xticks(range(len(stacks)), [svg.wrapped(stack.label) for stack in stacks])
        axis.set_ylim(0, top)
        axis.set_ylabel("Subjects (%)")
        axis.set_title(svg.plain(title, 44))
        axis.grid(axis="x", visible=False)
        return svg.render(drawn, name=name, title=f"Worst grade of {title} by arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One arm over cycles: per cent (K,) with limits."""

    label: str
    look: Look
    value: Array
    lower: Array
    upper: Array


def cycles(title: str, lines: Sequence[Line], *, y_label: str, name: str) -> Markup:
    """A share by cycle, one line an arm, with intervals."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.1)
        for k, line in enumerate(lines):
            x = np.arange(1, line.value.size + 1) + 0.06 * (k - (len(lines) - 1) / 2)
            error = np.abs(np.stack([line.lower, line.upper]) - line.value)
            axis.errorbar(x, line.value, yerr=error, color=line.look.colour, linestyle=line.look.dash,
                          marker=line.look.marker, markerfacecolor=line.look.face, linewidth=1.3, capsize=2,
                          label=svg.plain(line.label, 34))  # fmt: skip
        axis.set_xticks(np.arange(1, max((line.value.size for line in lines), default=1) + 1))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("Cycle")
        axis.set_ylabel(svg.plain(y_label, 60))
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(lines), 3), handlelength=2.2)
        return svg.render(drawn, name=name, title=f"{title} by cycle and arm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """One arm: multiples of the upper limit (n,), potential Hy's law (n,), quadrants in per cent (4,)."""

    label: str
    look: Look
    enzyme: Array
    bilirubin: Array
    hy: NDArray[np.bool_]
    shares: tuple[str, str, str, str]


def edish(arms: Sequence[Dots], *, name: str) -> Markup:
    """Peak aminotransferase against peak bilirubin on logarithmic axes, a panel an arm, quadrants with their share."""
    across = min(len(arms), 3)
    with svg.style():
        drawn, axes = svg.figure(7.4, 3.4 if across > 1 else 4.2, columns=across)
        right = max([10.0, *(float(a.enzyme.max(initial=0.0)) for a in arms)]) * 1.4
        top = max([5.0, *(float(a.bilirubin.max(initial=0.0)) for a in arms)]) * 4.0
        low = min([0.2, *(float(x.min(initial=1.0)) for a in arms for x in (a.enzyme, a.bilirubin))]) / 1.2
        for axis, arm in zip(axes, arms, strict=False):
            _quadrants(axis, arm, (low, right, top))
        axes[0].set_ylabel("Peak bilirubin (x ULN)")
        return svg.render(drawn, name=name, title="eDISH: peak aminotransferase against peak bilirubin by arm")


def _quadrants(axis: Axes, arm: Dots, ends: tuple[float, float, float]) -> None:
    low, right, top = ends
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.plot(arm.enzyme[~arm.hy], arm.bilirubin[~arm.hy], linestyle="", marker="o", markersize=2.4,
              color=arm.look.colour, alpha=0.45, markeredgewidth=0)  # fmt: skip
    axis.plot(arm.enzyme[arm.hy], arm.bilirubin[arm.hy], linestyle="", marker="D", markersize=4.6, color=ACCENT,
              markerfacecolor="white", markeredgewidth=1.2)  # fmt: skip
    axis.axvline(AMINOTRANSFERASE, color=ACCENT, linewidth=1.0, linestyle="--")
    axis.axhline(BILIRUBIN, color=ACCENT, linewidth=1.0, linestyle="--")
    axis.set_xlim(low, right)
    axis.set_ylim(low, top)
    names = ("normal", "Temple", "cholestasis", "Hy's quadrant")
    places = ((0.02, 0.02, "left", "bottom"), (0.98, 0.02, "right", "bottom"), (0.02, 0.98, "left", "top"),
              (0.98, 0.98, "right", "top"))  # fmt: skip
    for words, share, (x, y, ha, va) in zip(names, arm.shares, places, strict=True):
        axis.text(x, y, f"{words}\n{share}", transform=axis.transAxes, ha=ha, va=va, fontsize=7.5, color=INK,
                  bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}, zorder=5)  # fmt: skip
    for axis_, end in ((axis.xaxis, right), (axis.yaxis, top)):
        ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100) if low <= t <= end]
        axis_.set_ticks(ticks, [f"{t:g}" for t in ticks])
        axis_.set_ticks([], minor=True)
    axis.set_xlabel("Peak ALT or AST (x ULN)")
    axis.set_title(svg.plain(arm.label, 30), color=INK if arm.look.colour != MUTED else MUTED)
