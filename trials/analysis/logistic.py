"""Logistic regression: conditional odds ratios, and marginal risks by g-computation (standardisation).

Everybody's risk under every arm is predicted and averaged; their difference, ratio and odds ratio are those of the
trial's population whatever the covariates (FDA, Adjusting for Covariates in Randomized Clinical Trials, 2023; Ge et
al., Drug Inf J 2011;45:481; Ye, Bannick, Yi & Shao, Stat Biopharm Res 2023;15:558).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.regression import Grouped, Regression, grouped, regressed
from trials.analysis.survival_data import Compared, compared

__all__ = ["logistic", "marginal"]

Floats = NDArray[np.float64]
_VARIANCES = {"model": 0, "sandwich": 1, "robust": 2}


def _binary(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None, covariates: ArrayLike | None
) -> Grouped:
    data = grouped(y, arm, arms=arms, strata=strata, covariates=covariates)
    seen = data.y[np.isfinite(data.y) & (data.arm >= 0)]
    if not np.isin(seen, (0.0, 1.0)).all():
        raise InputError("must be 0 or 1", field="y", value=float(seen.max()))
    return data


def _made(found: Regression, estimated: tuple[Floats, Floats], alpha: float, side: str) -> Compared:
    estimate, variance = estimated
    status = np.ascontiguousarray(np.broadcast_to(found.status[:, None], estimate.shape))
    with np.errstate(invalid="ignore"):
        se = np.sqrt(variance)
    return compared((estimate, se, status), (found.n, found.x.astype(np.int64)), alpha=alpha, side=side)


def logistic(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None, covariates: ArrayLike | None = None,
    alpha: float = 0.05, side: str = "two", variance: str = "model",
) -> Compared:  # fmt: skip
    """Conditional log odds ratios of y (R, N) in {0, 1} (NaN: left out), arms against control; Wald.

    variance: "model" (as R's glm) or "sandwich" (HC0).

    >>> y, arm = [[0, 0, 1, 1, 0, 1, 1, 1]], [[0] * 4 + [1] * 4]
    >>> logistic(y, arm, arms=2).estimate.round(4).tolist()
    [[1.0986]]
    """
    if variance not in ("model", "sandwich"):
        raise InputError("must be model or sandwich", field="variance", value=variance)
    data = _binary(y, arm, arms=arms, strata=strata, covariates=covariates)
    found = regressed(data, family=0)
    return _made(found, (found.estimate, found.variance[:, 2 if variance == "sandwich" else 0]), alpha, side)


def marginal(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None, covariates: ArrayLike | None = None,
    alpha: float = 0.05, side: str = "two", variance: str = "robust", scale: str = "difference",
) -> Compared:  # fmt: skip
    """Marginal risk difference, or log of the risk ratio or odds ratio, by g-computation; arms against control.

    variance: "model" (delta method, covariates fixed: Ge et al.), "sandwich" (the same with HC0) or "robust" (influence
    functions, the covariates a sample: Ye et al.; without covariates p(1 - p)/n of each arm). scale: "difference",
    "ratio", "odds".

    >>> y, arm = [[0, 0, 1, 1, 0, 1, 1, 1]], [[0] * 4 + [1] * 4]
    >>> made = marginal(y, arm, arms=2)
    >>> made.estimate.round(4).tolist(), made.se.round(4).tolist()
    ([[0.25]], [[0.3307]])
    """
    if variance not in _VARIANCES:
        raise InputError("must be model, sandwich or robust", field="variance", value=variance)
    if scale not in ("difference", "ratio", "odds"):
        raise InputError("must be difference, ratio or odds", field="scale", value=scale)
    data = _binary(y, arm, arms=arms, strata=strata, covariates=covariates)
    found = regressed(data, family=0, kind=_VARIANCES[variance])
    return _made(found, _contrast(found.risk, found.covariance, scale), alpha, side)


def _contrast(risk: Floats, covariance: Floats, scale: str) -> tuple[Floats, Floats]:
    """Arms against control on a scale, with the delta method's variance."""
    from pkpd.kernels.elementary import log_array

    with np.errstate(invalid="ignore", divide="ignore"):
        if scale == "difference":
            value, slope = risk, np.ones(risk.shape)
        elif scale == "ratio":
            value, slope = log_array(risk), 1.0 / risk
        else:
            value, slope = log_array(risk) - log_array(1.0 - risk), 1.0 / (risk * (1.0 - risk))
    own = slope**2 * np.stack([covariance[:, a, a] for a in range(risk.shape[1])], axis=1)
    cross = slope[:, :1] * slope[:, 1:] * covariance[:, 0, 1:]
    return value[:, 1:] - value[:, :1], own[:, 1:] + own[:, :1] - 2.0 * cross
