"""Dose proportionality by the power model: ln y = a + b ln dose; proportional where b = 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pkpd.exposure.rules import demand

__all__ = ["PowerModel", "dose_proportionality"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """slope b with its interval; ratio: dose-normalised ratio of geometric means, highest over lowest dose, r^(b - 1).

    critical: the slopes for which that ratio stays within `limits` (Smith et al. 2000); verdict: `proportional`
    (the interval of b lies within), `not proportional` (outside), or `inconclusive`. intercept: of ln y at ln dose = 0
    (NaN with subject effects).
    """

    slope: float
    lower: float
    upper: float
    level: float
    se: float
    df: float
    mse: float
    intercept: float
    dose_ratio: float
    ratio: float
    ratio_lower: float
    ratio_upper: float
    limits: tuple[float, float]
    critical: tuple[float, float]
    verdict: str
    dropped: int


def dose_proportionality(
    dose: ArrayLike,
    value: ArrayLike,
    *,
    subject: Sequence[Any] | None = None,
    level: float = 0.90,
    limits: tuple[float, float] = (0.80, 1.25),
) -> PowerModel:
    """Slope of the power model with its interval; dose, value (m,), value NaN = missing (left out and counted).

    subject: labels (m,) where subjects got several doses; each then has its own intercept (fixed effects). Units: any.
    Source: Smith BP, Vandenhende FR, DeSante KA, et al. Pharm Res 2000;17:1278. Errors: InputError.

    >>> found = dose_proportionality([10, 10, 20, 20, 40, 40], [1.0, 1.2, 2.1, 2.3, 4.0, 4.6])
    >>> round(found.slope, 4), round(found.lower, 4), round(found.upper, 4), found.verdict
    (0.9846, 0.8498, 1.1195, 'proportional')
    """
    from scipy.special import stdtrit

    x, y, who, dropped = _checked(dose, value, subject)
    demand(0 < level < 1, "must lie between 0 and 1", "level", level, remedy="0.90")
    demand(0 < limits[0] < 1 < limits[1], "must be (below 1, above 1)", "limits", limits, remedy="(0.80, 1.25)")
    counts = np.bincount(who)
    dx, dy = (v - (np.bincount(who, weights=v) / counts)[who] for v in (x, y))
    sxx = float(dx @ dx)
    demand(sxx > 0, "needs two different doses" + (" within a subject" if subject is not None else ""), "dose",
                  None, remedy="give more dose levels")  # fmt: skip
    slope = float(dx @ dy) / sxx
    df = len(y) - len(counts) - 1
    demand(df >= 1, "leaves no degrees of freedom", "value", len(y), remedy="give more values")
    left = dy - slope * dx
    mse = float(left @ left) / df
    se = math.sqrt(mse / sxx)
    half = float(stdtrit(df, 0.5 + level / 2)) * se
    span = float(np.max(x) - np.min(x))
    critical = 1.0 + math.log(limits[0]) / span, 1.0 + math.log(limits[1]) / span
    lower, upper = slope - half, slope + half
    ratio = [math.exp(span * (b - 1.0)) for b in (slope, lower, upper)]
    return PowerModel(
        slope=slope, lower=lower, upper=upper, level=level, se=se, df=float(df), mse=mse,
        intercept=float(y.mean() - slope * x.mean()) if subject is None else math.nan,
        dose_ratio=math.exp(span), ratio=ratio[0], ratio_lower=ratio[1], ratio_upper=ratio[2], limits=limits,
        critical=critical, verdict=_verdict(lower, upper, critical), dropped=dropped,
    )  # fmt: skip


def _verdict(lower: float, upper: float, critical: tuple[float, float]) -> str:
    if critical[0] <= lower and upper <= critical[1]:
        return "proportional"
    return "not proportional" if upper < critical[0] or lower > critical[1] else "inconclusive"


def _checked(dose: ArrayLike, value: ArrayLike, subject: Sequence[Any] | None) -> tuple[Any, Any, Any, int]:
    """ln dose, ln value, subject codes of what is there, and how many values were missing."""
    doses, values = (np.atleast_1d(np.array(v, np.float64)) for v in (dose, value))
    demand(doses.shape == values.shape and doses.ndim == 1, "must have one dose per value", "dose", doses.shape,
                  remedy=f"shape {values.shape}")  # fmt: skip
    labels = [0] * len(values) if subject is None else list(subject)
    demand(len(labels) == len(values), "must have one label per value", "subject", len(labels), remedy=f"{len(values)}")
    used = ~np.isnan(values)
    for name, numbers in (("dose", doses), ("value", values[used])):
        good = bool(np.all((numbers > 0) & np.isfinite(numbers)))
        demand(good, "must be finite and > 0", name, None, remedy="the power model is on the log scale")
    demand(bool(np.any(used)), "holds no number", "value", None, remedy="give the endpoint")
    known: dict[Any, int] = {}
    who = np.asarray([known.setdefault(label, len(known)) for label, u in zip(labels, used, strict=True) if u])
    return np.log(doses[used]), np.log(values[used]), who, int(np.sum(~used))
