"""What regressions of binary, count and ordinal outcomes share: checked arrays and why there is no number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Regression", "RegressionStatus", "regressed"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class RegressionStatus(IntEnum):
    """Why a regression has no estimate, or what to know of it."""

    OK = 0
    NOT_ESTIMABLE = 40
    SEPARATED = 41
    NOT_CONVERGED = 42
    UNDERDISPERSED = 43
    NO_SUBJECTS = 44
    NO_EVENTS = 45
    ONE_CATEGORY = 46

    @property
    def advice(self) -> str:
        """One sentence for the reader of a report."""
        return _ADVICE[self]


_ADVICE = {
    RegressionStatus.OK: "estimated",
    RegressionStatus.NOT_ESTIMABLE: "an arm has no analysable subject, or coincides with covariates or strata",
    RegressionStatus.SEPARATED: "an arm, stratum or covariate separates the outcomes (such as no event at all): the "
    "maximum is at infinity; take the score or an exact method",
    RegressionStatus.NOT_CONVERGED: "the likelihood was not maximised in the allowed iterations",
    RegressionStatus.UNDERDISPERSED: "the counts vary no more than Poisson's: theta is infinite, Poisson's estimate",
    RegressionStatus.NO_SUBJECTS: "a group has no subject in any stratum that has both",
    RegressionStatus.NO_EVENTS: "no event, or nothing but events, in a group: the ratio is 0, infinite or unknown",
    RegressionStatus.ONE_CATEGORY: "every value is the same",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Coefficients of the arms against control, (R, k), on the scale of the linear predictor, by replicate.

    `variance` (R, 3, k): inverse expected information, with the uncertainty of theta (observed information), sandwich
    (HC0); `theta`, `theta_variance`, `pearson` (chi-square), `df` (R,); `risk` (R, A) and `covariance` (R, A, A) of
    marginal risks (logistic only); `n`, `x` (R, A) subjects and sums of y; `status` (R,) :class:`RegressionStatus`.
    """

    estimate: Floats
    variance: Floats
    theta: Floats
    theta_variance: Floats
    pearson: Floats
    df: Floats
    risk: Floats
    covariance: Floats
    n: Integers
    x: Floats
    status: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Checked arrays (R, N): y, arm (-1 left out), strata codes; more (R, C, N) covariates."""

    y: Floats
    arm: Integers
    strata: Integers
    more: Floats
    arms: int
    levels: int


def grouped(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None, covariates: ArrayLike | None = None
) -> Grouped:
    """Shapes and codes checked; InputError names what does not fit."""
    values, codes = np.ascontiguousarray(y, np.float64), np.ascontiguousarray(arm, np.int64)
    cells = np.zeros(codes.shape, np.int64) if strata is None else np.ascontiguousarray(strata, np.int64)
    if values.ndim != 2 or not values.shape == codes.shape == cells.shape:
        raise InputError("y, arm and strata must share one shape (replicate, subject)", field="y", value=values.shape)
    if arms < 2 or (codes.size and (codes.max() >= arms or codes.min() < -1)):
        raise InputError(f"arm codes must be -1 to {arms - 1}, of two arms or more", field="arm",
                         value=int(codes.max(initial=-1)))  # fmt: skip
    given = np.empty((*values.shape, 0)) if covariates is None else np.asarray(covariates, np.float64)
    given = given[..., None] if given.ndim == 2 else given
    if given.shape[:2] != values.shape:
        raise InputError("must begin with (replicate, subject)", field="covariates", value=given.shape)
    more = np.ascontiguousarray(np.moveaxis(given, 2, 1))
    return Grouped(y=values, arm=codes, strata=cells, more=more, arms=arms, levels=int(cells.max(initial=0)) + 1)


def regressed(
    data: Grouped, *, family: int, dispersed: bool = False, exposure: ArrayLike | None = None, kind: int = 2
) -> Regression:
    """Fit every replicate. family 0 logistic, 1 log link; dispersed: theta; exposure (R, N) > 0; kind: see kernel."""
    from pkpd.kernels.elementary import log_array
    from trials.kernels.regression import regressions

    time = np.ones(data.y.shape) if exposure is None else np.broadcast_to(np.asarray(exposure, float), data.y.shape)
    if (time[(data.arm >= 0) & np.isfinite(data.y) & np.isfinite(time)] <= 0).any():
        raise InputError("must be > 0", field="exposure", remedy="leave out who was not followed: arm -1")
    offset = np.where(np.isfinite(time) & (time > 0), log_array(np.where(time > 0, time, 1.0)), np.nan)
    replicates, k = data.y.shape[0], data.arms - 1
    estimate, variance = np.full((replicates, k), np.nan), np.full((replicates, 3, k), np.nan)
    extra, risk = np.full((replicates, 4), np.nan), np.full((replicates, data.arms), np.nan)
    covariance = np.full((replicates, data.arms, data.arms), np.nan)
    n, status = np.zeros((replicates, data.arms), np.int64), np.zeros(replicates, np.int8)
    shape = np.array([data.arms, data.levels, kind], np.int64)
    regressions(family, dispersed, data.y, offset, data.more, data.arm, data.strata, shape, estimate, variance, extra,
                risk, covariance, n, status)  # fmt: skip
    return Regression(
        estimate=estimate, variance=variance, theta=extra[:, 0], theta_variance=extra[:, 1], pearson=extra[:, 2],
        df=extra[:, 3], risk=risk, covariance=covariance, n=n, x=_totals(data, offset), status=status,
    )  # fmt: skip


def _totals(data: Grouped, offset: Floats) -> Floats:
    """Sum of y by arm over the analysable subjects, (R, A)."""
    whole = (data.strata >= 0) & np.isfinite(data.y) & np.isfinite(offset) & np.isfinite(data.more).all(axis=1)
    y = np.where(whole, data.y, 0.0)
    return np.stack([np.where(data.arm == code, y, 0.0).sum(axis=1) for code in range(data.arms)], axis=1)
