"""The benefit-risk plane: each arm's effect on the efficacy endpoint against its excess risk of an adverse event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.operating import Estimate, mean, proportion, quantile

__all__ = ["Point", "plane"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One arm against control. `benefit`, `risk`: expected values with MCSE, over replicates.

    `benefit_range`, `risk_range`: the central range in which a single trial's estimates fall, lower and upper; it
    carries sampling of patients and, with one posterior draw per replicate, the uncertainty of the model.
    `acceptable`: probability that a trial's estimates show at least the least benefit and at most the most risk.
    """

    benefit: Estimate
    risk: Estimate
    benefit_range: tuple[Estimate, Estimate]
    risk_range: tuple[Estimate, Estimate]
    acceptable: Estimate
    correlation: float


def plane(
    benefit: ArrayLike, risk: ArrayLike, *, least_benefit: float, most_risk: float, level: float = 0.95
) -> tuple[Point, ...]:
    """One :class:`Point` per arm from benefit (R, k) and risk (R, k), both against control, same replicates.

    Larger benefit is better, larger risk worse; units are the caller's. A replicate without an estimate of either
    counts as not acceptable.

    >>> points = plane([[0.1], [0.2]], [[0.0], [0.1]], least_benefit=0.15, most_risk=0.2)
    >>> points[0].acceptable.value
    0.5
    """
    gain, harm = (np.asarray(a, dtype=np.float64) for a in (benefit, risk))
    if gain.ndim != 2 or gain.shape != harm.shape:
        raise InputError("benefit and risk must share one shape (replicate, arm)", field="benefit",
                         value=f"{gain.shape}, {harm.shape}")  # fmt: skip
    tail = 0.5 * (1.0 - level)
    return tuple(
        Point(
            benefit=mean(g), risk=mean(h),
            benefit_range=(quantile(g, tail), quantile(g, 1.0 - tail)),
            risk_range=(quantile(h, tail), quantile(h, 1.0 - tail)),
            acceptable=proportion((g >= least_benefit) & (h <= most_risk)),
            correlation=_correlation(g, h),
        )
        for g, h in ((gain[:, j], harm[:, j]) for j in range(gain.shape[1]))
    )  # fmt: skip


def _correlation(a: Floats, b: Floats) -> float:
    """Pearson correlation over replicates with both; NaN where either does not vary."""
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return float("nan")
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    return float(np.sum(x * y)) / scale if scale > 0.0 else float("nan")
