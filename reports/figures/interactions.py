"""Heat map of interactions: perpetrators down, victims across, colour by the predicted AUC ratio."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.colors import BoundaryNorm, ListedColormap
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import INK, MUTED

__all__ = ["EDGES", "heat"]

EDGES = (0.2, 0.5, 0.8, 1.25, 2.0, 5.0)
COLOURS = ("#1f4e79", "#5b92c0", "#bcd5e8", "#f4f5f7", "#fbd9a5", "#e8903a", "#a3360c")
WORDS = ("< 0.2", "0.2 to 0.5", "0.5 to 0.8", "0.8 to 1.25", "1.25 to 2", "2 to 5", "> 5")


def heat(ratio: NDArray[np.float64], names: tuple[tuple[str, ...], tuple[str, ...]], *, name: str) -> Markup:
    """ratio (perpetrator, victim), NaN where not asked; names of both. Classes, not a ramp: a class can be read off."""
    down, across = names
    with svg.style():
        drawn, (axis,) = svg.figure(max(4.5, 2.6 + 0.155 * len(across)), max(2.2, 1.5 + 0.15 * len(down)))
        norm = BoundaryNorm([0.0, *EDGES, 1e9], len(COLOURS))
        axis.pcolormesh(
            np.ma.masked_invalid(ratio), cmap=ListedColormap(COLOURS), norm=norm, edgecolors="white", linewidth=0.4
        )
        axis.set_xticks(np.arange(len(across)) + 0.5, [svg.plain(n, 30) for n in across], rotation=90, fontsize=7)
        axis.set_yticks(np.arange(len(down)) + 0.5, [svg.plain(n, 44) for n in down], fontsize=7)
        axis.invert_yaxis()
        axis.grid(visible=False)
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        for r, row in enumerate(ratio):
            for c, value in enumerate(row):
                if value >= 2 or value <= 0.5:
                    dark = value > 5 or value < 0.2
                    axis.text(c + 0.5, r + 0.5, _short(value), fontsize=4.6, ha="center", va="center",
                              color="white" if dark else INK)  # fmt: skip
        axis.set_facecolor("#ffffff")
        axis.xaxis.label.set_color(MUTED)
        return svg.render(drawn, name=name, title="Predicted AUC ratios of all pairs")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 9.5 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"[1:]
