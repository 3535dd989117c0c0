"""Rates of events: negative binomial, Poisson and quasi-Poisson regression with follow-up time as offset.

log mean = log(time) + intercept + strata + covariates + arm. Variance of a count: mu + mu^2/theta (negative binomial,
theta by maximum likelihood), mu (Poisson), phi mu (quasi-Poisson, phi = Pearson's chi-square/df).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.regression import Grouped, Regression, RegressionStatus, grouped, regressed
from trials.analysis.survival_data import Compared, compared

__all__ = ["Rates", "negative_binomial", "poisson"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Log rate ratios against control (`compared`, arrays (R, k)) and the dispersion (R,): `theta` and its standard
    error (negative binomial; infinite where the counts vary no more than Poisson's), or `phi` (quasi-Poisson).
    """

    compared: Compared
    theta: Floats
    theta_se: Floats
    phi: Floats


def negative_binomial(
    y: ArrayLike, arm: ArrayLike, *, arms: int, exposure: ArrayLike | None = None, strata: ArrayLike | None = None,
    covariates: ArrayLike | None = None, alpha: float = 0.05, side: str = "two", variance: str = "model",
) -> Rates:  # fmt: skip
    """Negative binomial regression of counts y (R, N); exposure (R, N): follow-up time, covariates (R, N[, C]).

    variance: "model" (theta as if known, as MASS::glm.nb), "joint" (observed information of coefficients and theta) or
    "robust" (sandwich). Where theta is infinite the estimate is Poisson's, with the status UNDERDISPERSED: an estimate
    all the same, tested as such; "joint" is then "model".

    >>> y, arm = [[0, 3, 1, 6, 2, 0, 1, 1, 4, 0]], [[0] * 5 + [1] * 5]
    >>> made = negative_binomial(y, arm, arms=2)
    >>> made.compared.estimate.round(4).tolist(), made.theta.round(3).tolist()
    ([[-0.6931]], [2.003])
    """
    if variance not in ("model", "joint", "robust"):
        raise InputError("must be model, joint or robust", field="variance", value=variance)
    data = _counted(y, arm, arms=arms, strata=strata, covariates=covariates)
    found = regressed(data, family=1, dispersed=True, exposure=exposure)
    chosen = found.variance[:, {"model": 0, "joint": 1, "robust": 2}[variance]]
    if variance == "joint":
        chosen = np.where(np.isnan(chosen), found.variance[:, 0], chosen)
    made = _compared(data, found, chosen, (alpha, side))
    with np.errstate(invalid="ignore"):
        return Rates(compared=made, theta=found.theta, theta_se=np.sqrt(found.theta_variance),
                     phi=np.full(found.theta.shape, np.nan))  # fmt: skip


def poisson(
    y: ArrayLike, arm: ArrayLike, *, arms: int, exposure: ArrayLike | None = None, strata: ArrayLike | None = None,
    covariates: ArrayLike | None = None, alpha: float = 0.05, side: str = "two", variance: str = "model",
) -> Rates:  # fmt: skip
    """Poisson regression; variance "model", "quasi" (times Pearson's dispersion, normal test), "robust"."""
    if variance not in ("model", "quasi", "robust"):
        raise InputError("must be model, quasi or robust", field="variance", value=variance)
    data = _counted(y, arm, arms=arms, strata=strata, covariates=covariates)
    found = regressed(data, family=1, exposure=exposure)
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = found.pearson / found.df
    chosen = found.variance[:, 2 if variance == "robust" else 0] * (phi[:, None] if variance == "quasi" else 1.0)
    made = _compared(data, found, chosen, (alpha, side))
    none = np.full(phi.shape, np.nan)
    return Rates(compared=made, theta=none, theta_se=none, phi=phi if variance == "quasi" else none)


def _counted(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None, covariates: ArrayLike | None
) -> Grouped:
    data = grouped(y, arm, arms=arms, strata=strata, covariates=covariates)
    seen = data.y[np.isfinite(data.y) & (data.arm >= 0)]
    if ((seen < 0) | (seen != np.floor(seen))).any():
        raise InputError("must be whole numbers from 0", field="y", value=float(seen.min()))
    return data


def _compared(data: Grouped, found: Regression, variance: Floats, test: tuple[float, str]) -> Compared:
    """A fit without theta's maximum is an estimate: its status is kept beside the numbers."""
    estimated = (found.status == RegressionStatus.OK) | (found.status == RegressionStatus.UNDERDISPERSED)
    # an arm without any event: its rate is 0, whatever the other arms' Newton steps made of it
    silent = (found.x == 0).any(axis=1) & ~estimated & (found.n > 0).all(axis=1)
    status = np.where(silent, np.int8(RegressionStatus.NO_EVENTS), found.status)
    plain = np.broadcast_to(np.where(estimated, np.int8(0), status)[:, None], variance.shape)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(variance)
    alpha, side = test
    made = compared((found.estimate, se, plain.astype(np.int8)), (found.n, found.x.astype(np.int64)), alpha=alpha,
                    side=side)  # fmt: skip
    from dataclasses import replace

    return replace(made, status=np.ascontiguousarray(np.broadcast_to(status[:, None], variance.shape)))
