"""Ordered outcomes: proportional odds regression, Wilcoxon-Mann-Whitney with ties, van Elteren's stratified test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trials.analysis.regression import RegressionStatus, grouped
from trials.analysis.survival_data import Compared, compared, normal_p

__all__ = ["Ranks", "proportional_odds", "wilcoxon"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Rank test against control, arrays (R, k): standard normal `z` and its `p`; `win` = P(treated > control) + half
    P(equal), with `se` and the interval `lower`, `upper` on the logit scale (not the test's inverse), where `win` is
    0 or 1 Newcombe's (Stat Med 2006;25:559, method 5); `reject` by `p`. Without an answer (`status`) NaN. `n` (R, A).
    """

    z: Floats
    p: Floats
    reject: NDArray[np.bool_]
    win: Floats
    se: Floats
    lower: Floats
    upper: Floats
    n: NDArray[np.int64]
    status: NDArray[np.int8]


def proportional_odds(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None, covariates: ArrayLike | None = None,
    alpha: float = 0.05, side: str = "two",
) -> Compared:  # fmt: skip
    """Log odds ratios of higher categories, arms against control; y (R, N) of any ordered values (NaN: left out).

    Maximum likelihood, observed information, Wald. Categories nobody is in are no categories.

    >>> y, arm = [[0, 0, 1, 1, 2, 0, 1, 1, 2, 2, 2, 1]], [[0] * 6 + [1] * 6]
    >>> made = proportional_odds(y, arm, arms=2)  # doctest: +SKIP
    >>> made.estimate.round(4).tolist(), made.se.round(4).tolist()  # doctest: +SKIP
    ([[2.3836]], [[1.3382]])
    """
    from trials.kernels import ordinal

    data = grouped(y, arm, arms=arms, strata=strata, covariates=covariates)
    replicates, k = data.y.shape[0], arms - 1
    estimate, variance = np.full((replicates, k), np.nan), np.full((replicates, k), np.nan)
    n, seen, status = (np.zeros((replicates, arms), np.int64), np.zeros(replicates, np.int64),
                       np.zeros(replicates, np.int8))  # fmt: skip
    shape = np.array([arms, data.levels], np.int64)
    ordinal.proportional_odds(data.y, data.more, data.arm, data.strata, shape, estimate, variance, n, seen, status)
    wide = np.ascontiguousarray(np.broadcast_to(status[:, None], (replicates, k)))
    with np.errstate(invalid="ignore"):
        return compared((estimate, np.sqrt(variance), wide), (n, np.full(n.shape, -1)), alpha=alpha, side=side)


def wilcoxon(
    y: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None, alpha: float = 0.05,
    side: str = "two", continuity: bool = False,
) -> Ranks:  # fmt: skip
    """Rank-sum test with the variance for ties; with `strata` (R, N) van Elteren's (weights 1/(n + 1)).

    continuity: the correction of R's wilcox.test (one stratum only). Side "greater": the treated have higher values.

    >>> y, arm = [[0, 0, 1, 1, 2, 0, 1, 1, 2, 2, 2, 1]], [[0] * 6 + [1] * 6]
    >>> made = wilcoxon(y, arm, arms=2)  # doctest: +SKIP
    >>> made.p.round(4).tolist(), made.win.round(4).tolist()  # doctest: +SKIP
    ([[0.0733]], [[0.7917]])
    """
    from pkpd.kernels.elementary import log_array
    from trials.kernels import ordinal

    data = grouped(y, arm, arms=arms, strata=strata)
    replicates, k = data.y.shape[0], arms - 1
    top, variance, win, spread = (np.zeros((replicates, k)) for _ in range(4))
    n, status = np.zeros((replicates, arms), np.int64), np.zeros((replicates, k), np.int8)
    shape = np.array([arms, data.levels], np.int64)
    ordinal.rank_tests(data.y, data.arm, data.strata, shape, top, variance, win, spread, n, status)
    if continuity:
        top = _nearer(top, np.asarray(0.5 / (n[:, :1] + n[:, 1:] + 1.0), np.float64), side)
    bad = status != RegressionStatus.OK
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(bad, np.nan, top / np.sqrt(variance))
        se = np.where(status == RegressionStatus.NOT_ESTIMABLE, np.nan, np.sqrt(spread))
        logit = log_array(win) - log_array(1.0 - win)
        half = _quantile(alpha, side) * se / (win * (1.0 - win))
        ends = [1.0 / (1.0 + np.exp(-(logit + sign * half))) for sign in (-1, 1)]
    p = normal_p(z, side)
    none = np.isnan(se)
    ends = [
        np.where(se > 0, end, bound) for end, bound in zip(ends, _newcombe(win, n, _quantile(alpha, side)), strict=True)
    ]
    return Ranks(
        z=z, p=p, reject=p <= alpha, win=np.where(np.isnan(se), np.nan, win), se=se,
        lower=np.where(none, np.nan, ends[0]), upper=np.where(none, np.nan, ends[1]), n=n, status=status,
    )  # fmt: skip


def _newcombe(win: Floats, n: NDArray[np.int64], z: float) -> tuple[Floats, Floats]:
    """Limits where (win - theta)^2 = z^2 V(theta), V of exponential distributions: finite for win 0 and 1."""
    one, zero = n[:, 1:].astype(np.float64), n[:, :1].astype(np.float64)
    extra = 0.5 * (one + zero) - 1.0
    found = []
    for far in (0.0, 1.0):
        low, high = np.minimum(win, far), np.maximum(win, far)
        for _ in range(60):
            theta = 0.5 * (low + high)
            with np.errstate(divide="ignore", invalid="ignore"):
                spread = (
                    theta * (1 - theta) * (1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (one * zero)
                )
            outside = (win - theta) ** 2 > z * z * spread
            towards = outside == (far == 0.0)
            low, high = np.where(towards, theta, low), np.where(towards, high, theta)
        found.append(0.5 * (low + high))
    return found[0], found[1]


def _quantile(alpha: float, side: str) -> float:
    from trials.analysis.survival_data import normal_quantile

    return normal_quantile(1 - alpha if side == "two" else 1 - 2 * alpha)


def _nearer(top: Floats, half: Floats, side: str) -> Floats:
    """The statistic moved half a rank towards its expectation, or against the side asked."""
    sign = np.sign(top) if side == "two" else (1.0 if side == "greater" else -1.0)
    moved: Floats = top - sign * half
    return moved
