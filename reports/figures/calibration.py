"""Is a fit calibrated: rank histograms, coverage of intervals, z-scores against contraction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED, ramp

Floats = NDArray[np.float64]
_BLUE = ramp(0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Counts by bin of the rank, the limits (low, high) of a bin's count, p of the chi-squared test."""

    counts: Sequence[int]
    band: tuple[int, int]
    p: float
    needed: float


def histogram(label: str, ranks: Ranks, *, name: str) -> Markup:
    """The rank histogram of one quantity over the band that holds 99 % of a bin's counts when all is well."""
    counts = np.asarray(ranks.counts)
    expected = counts.sum() / len(counts)
    bad = not ranks.p > ranks.needed
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 1.75)
        axis.axhspan(ranks.band[0], ranks.band[1], color=BAND, linewidth=0)
        axis.axhline(expected, color=MUTED, linewidth=0.9)
        outside = (counts < ranks.band[0]) | (counts > ranks.band[1])
        colours = [ACCENT if far else _BLUE for far in outside]
        axis.bar(np.arange(len(counts)) + 0.5, counts, width=0.86, color=colours, linewidth=0)
        axis.set_xlim(0, len(counts))
        axis.set_xticks([0, len(counts) / 2, len(counts)], ["0", "½", "1"])
        axis.set_ylim(0, max(counts.max(), ranks.band[1]) * 1.12)
        axis.grid(visible=False)
        axis.set_title(svg.plain(label, 30), color=ACCENT if bad else INK)
        axis.set_xlabel(f"rank of the truth (p = {ranks.p:.2g})")
        return svg.render(drawn, name=name, title=f"Rank histogram of {label}, chi-squared p = {ranks.p:.2g}")


def coverage(shares: Mapping[str, Mapping[float, float]], counted: int, *, name: str) -> Markup:
    """Share of central intervals that hold the truth, minus what they promise; a dot a quantity."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 2.9)
        levels = sorted(next(iter(shares.values())))
        for k, level in enumerate(levels):
            half = 1.96 * np.sqrt(level * (1.0 - level) / max(counted, 1))
            axis.bar(k, 200 * half, bottom=-100 * half, width=0.62, color=BAND, linewidth=0,
                     label="95 % of chance, one quantity" if k == 0 else None)  # fmt: skip
            each = [100 * (by[level] - level) for by in shares.values()]
            at = k + np.linspace(-0.26, 0.26, len(each))
            axis.plot(at, each, "o", color=_BLUE, markersize=4, label="a quantity" if k == 0 else None)
        axis.axhline(0.0, color=MUTED, linewidth=0.9)
        axis.set_xticks(range(len(levels)), [f"{100 * level:g} %" for level in levels])
        axis.set_xlabel("central interval")
        axis.set_ylabel("coverage minus promise (points)")
        axis.legend(loc="upper right", ncols=2)
        return svg.render(drawn, name=name, title="Coverage of central intervals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """Of one quantity, by fit: z = (posterior mean - truth)/posterior sd, contraction = 1 - var/prior var."""

    z: Floats
    contraction: Floats


def sensitivity(label: str, found: Shrunk, *, name: str) -> Markup:
    """z-score against contraction, a dot a fit (Betancourt 2018): right of the plot the data tell much."""
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 1.85)
        axis.axhspan(-1.96, 1.96, color=BAND, linewidth=0)
        axis.plot(found.contraction, found.z, "o", color=_BLUE, markersize=2.6, alpha=0.5, markeredgewidth=0)
        axis.set_xlim(min(-0.05, float(np.quantile(found.contraction, 0.01))), 1.02)
        axis.set_ylim(-4.6, 4.6)
        axis.set_xlabel("contraction")
        axis.set_ylabel("z-score")
        axis.set_title(svg.plain(label, 30))
        return svg.render(drawn, name=name, title=f"z-score against contraction of {label}")
