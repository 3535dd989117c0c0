"""What the fit says: priors against posteriors, and the visual predictive check on the real data."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reports.figures import svg
from reports.figures.palette import ACCENT, BAND, INK, MUTED, ramp

_BLUE = ramp(0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """A curve: abscissa and density of equal shape (n,)."""

    x: NDArray[np.float64]
    density: NDArray[np.float64]


def prior_posterior(label: str, prior: Density | None, posterior: NDArray[np.float64], *, name: str) -> Markup:
    """Histogram of posterior draws (n,) under the prior density, one panel; `label` names parameter and unit."""
    with svg.style():
        drawn, (axis,) = svg.figure(2.6, 1.75)
        axis.hist(posterior, bins=_bins(posterior), density=True, color=_BLUE, alpha=0.75, linewidth=0)
        if prior is not None:
            axis.plot(prior.x, prior.density, color=ACCENT, linestyle="--", linewidth=1.3)
        lower, upper = np.quantile(posterior, [0.0005, 0.9995])
        margin = 0.35 * (upper - lower) or 1.0
        axis.set_xlim(max(lower - margin, 0.0) if lower >= 0 else lower - margin, upper + margin)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.set_title(svg.plain(label, 34))
        return svg.render(drawn, name=name, title=f"Prior and posterior of {label}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A visual predictive check. Bins (b,): `time`; observed and simulated quantiles (b, q) low, median, high.

    `lower` and `upper` (b, q) bound each simulated quantile (95 %).
    """

    time: NDArray[np.float64]
    observed: NDArray[np.float64]
    lower: NDArray[np.float64]
    median: NDArray[np.float64]
    upper: NDArray[np.float64]
    points: NDArray[np.float64]  # (m, 2): time, value
    x_label: str
    y_label: str
    limit: float = np.nan  # of quantification: a line


def predictive_check(check: Check, *, name: str) -> Markup:
    """Observed points and quantiles over the 95 % bands of the simulated quantiles."""
    with svg.style():
        drawn, (axis,) = svg.figure(7.4, 3.4)
        for q in range(check.observed.shape[1]):
            middle = q == check.observed.shape[1] // 2
            colour = ramp(0.35) if middle else BAND
            label = "simulated median" if middle else "simulated outer percentiles" if q == 0 else None
            axis.fill_between(
                check.time, check.lower[:, q], check.upper[:, q], color=colour,
                alpha=0.45 if middle else 0.9, linewidth=0, label=f"{label}, 95 % band" if label else None,
            )  # fmt: skip
            axis.plot(
                check.time, check.observed[:, q], color=INK, linewidth=1.4, linestyle="-" if middle else "--",
                label="observed median" if middle else "observed outer percentiles" if q == 0 else None,
            )  # fmt: skip
        axis.plot(
            check.points[:, 0], check.points[:, 1], linestyle="", marker="o", markersize=2.8,
            color=MUTED, alpha=0.55, markeredgewidth=0, label="observations",
        )  # fmt: skip
        if np.isfinite(check.limit):
            axis.axhline(check.limit, color=ACCENT, linewidth=0.9, linestyle=":", label="limit of quantification")
        axis.set_xlabel(check.x_label)
        axis.set_ylabel(check.y_label)
        axis.set_ylim(bottom=min(0.0, float(np.nanmin(check.lower))))
        axis.legend(loc="upper right")
        return svg.render(drawn, name=name, title="Visual predictive check on the data of the fit")


def _bins(values: NDArray[np.float64]) -> int:
    return int(np.clip(np.sqrt(values.size), 8, 40))
