"""Times to an event without a model of the hazard: curves, log-rank family, restricted mean; batched over replicates.

Arrays are (R, N) by replicate and subject; arm 0 is control, arm -1 in no analysis. Times in any one unit. Each
compared arm is tested against control with the subjects of these two arms alone; nothing is adjusted for several arms.
Log hazard ratios are of the compared arm to control: below 0, its events are fewer.
Sources: trials/kernels/survival.py; Karrison, Stat Med 2016;35:3386 (MaxCombo's forerunner), Lin et al., Stat
Biopharm Res 2020;12:187 (MaxCombo); Royston & Parmar, BMC Med Res Methodol 2013;13:152 (restricted mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.survival_data import (
    Compared,
    Floats,
    Followed,
    Integers,
    SurvivalStatus,
    chi_square_p,
    compared,
    followed,
    normal_quantile,
    side_code,
)

__all__ = [
    "Curve", "Groups", "Incidence", "KaplanMeier", "MaxCombo", "cumulative_incidence", "curve", "incidence_difference",
    "kaplan_meier", "logrank", "logrank_groups", "max_combo", "milestone", "rmst",
]  # fmt: skip

COMBO = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
_SCALES = {"plain": 0, "log": 1, "log-log": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class KaplanMeier:
    """Survival at times `at` (T,) by arm, arrays (R, A, T): `survival, se` (Greenwood), `lower, upper, at_risk`.

    median (R, A, 3): with Brookmeyer-Crowley limits, infinite if not reached; mean, mean_se (R, A): restricted to tau;
    n, x (R, A): subjects and events. NaN past the last time of an arm with survivors, and where there is nobody.
    """

    at: Floats
    survival: Floats
    se: Floats
    lower: Floats
    upper: Floats
    at_risk: Floats
    median: Floats
    mean: Floats
    mean_se: Floats
    n: Integers
    x: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One Kaplan-Meier curve, arrays (n,): a row for each time at which somebody has an event or leaves."""

    time: Floats
    at_risk: Floats
    events: Floats
    survival: Floats
    se: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Incidence:
    """Cumulative incidence of competing causes, arrays (R, A, C, T); limits on the log(-log) scale, NaN at 0."""

    at: Floats
    value: Floats
    se: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Log-rank test of all arms at once, (R,): chi-square, degrees of freedom, p; O - E and covariance (R, A[, A])."""

    chi: Floats
    df: Integers
    p: Floats
    excess: Floats
    covariance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxCombo:
    """Largest of several weighted log-rank statistics: z (R, k, W), covariance (R, k, W, W); p of the largest.

    `compared` holds the p-value of the maximum with the estimate and interval of the unweighted log-rank test.
    """

    z: Floats
    covariance: Floats
    largest: Floats
    compared: Compared


def _scale(interval: str) -> int:
    if interval not in _SCALES:
        raise InputError("must be plain, log or log-log", field="interval", value=interval)
    return _SCALES[interval]


def kaplan_meier(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, at: ArrayLike = (), tau: float = np.inf,
    level: float = 0.95, interval: str = "log-log", share: float = 0.5,
) -> KaplanMeier:  # fmt: skip
    """Survival of every arm at times, its median (or other `share`) and its mean restricted to tau.

    >>> found = kaplan_meier([[1.0, 2.0, 3.0]], [[True, False, True]], [[0, 0, 0]], arms=1, at=[1.5], tau=3.0)
    >>> found.survival.round(4).tolist(), found.mean.round(4).tolist()
    ([[[0.6667]]], [[2.3333]])
    """
    from trials.kernels import survival as kernels

    data, times = followed(time, event, arm, arms=arms), np.asarray(at, np.float64).reshape(-1)
    shape = (data.time.shape[0], arms)
    s, v, low, high, risk = (np.empty((*shape, times.size)) for _ in range(5))
    mean, middle, counts = np.empty((*shape, 2)), np.empty((*shape, 3)), np.zeros((*shape, 2), np.int64)
    kernels.kaplan_meier(data.time, data.event, data.arm, times, tau, share, normal_quantile(level), _scale(interval),
                         s, v, low, high, risk, mean, middle, counts)  # fmt: skip
    with np.errstate(invalid="ignore"):
        se = np.where(s > 0, s * np.sqrt(v), np.where(s == 0, np.nan, s))
    return KaplanMeier(
        at=times, survival=s, se=se, lower=low, upper=high, at_risk=risk, median=middle, mean=mean[:, :, 0],
        mean_se=np.sqrt(mean[:, :, 1]), n=counts[:, :, 0], x=counts[:, :, 1],
    )  # fmt: skip


def curve(time: ArrayLike, event: ArrayLike, *, level: float = 0.95, interval: str = "log-log") -> Curve:
    """The whole Kaplan-Meier curve of one group: time, event (N,).

    >>> curve([1.0, 2.0, 3.0], [True, False, True]).survival.round(4).tolist()
    [0.6667, 0.6667, 0.0]
    """
    from trials.kernels import survival as kernels

    one = np.atleast_2d(np.asarray(time, np.float64))
    data = followed(one, np.atleast_2d(np.asarray(event, np.bool_)), np.zeros(one.shape, np.int64), arms=1)
    order = np.argsort(data.time[0], kind="stable")
    columns = np.empty((5, order.size))
    n = kernels.steps(data.time[0], data.event[0], data.arm[0], order, 0, np.empty(0), columns)
    when, at_risk, events, s, v = columns[:, :n]
    limits = [kernels.transformed(*pair, normal_quantile(level), _scale(interval)) for pair in zip(s, v, strict=True)]
    low, high = np.array(limits, np.float64).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):
        se = np.where(s > 0, s * np.sqrt(v), np.nan)
    return Curve(time=when, at_risk=at_risk, events=events, survival=s, se=se, lower=low, upper=high)


def cumulative_incidence(
    time: ArrayLike, cause: ArrayLike, arm: ArrayLike, *, arms: int, causes: int, at: ArrayLike, level: float = 0.95
) -> Incidence:
    """Aalen-Johansen: probability of each cause (1 ... causes; 0 is censored) by times `at`, by arm.

    Death that keeps the event of interest from happening is a cause of its own, not censoring.

    >>> cumulative_incidence([[1.0, 2.0]], [[1, 2]], [[0, 0]], arms=1, causes=2, at=[2.0]).value.tolist()
    [[[[0.5], [0.5]]]]
    """
    from trials.kernels import survival as kernels

    codes, times = np.array(cause, dtype=np.int64, order="C"), np.asarray(at, np.float64).reshape(-1)
    data = followed(time, codes > 0, arm, arms=arms)
    if codes.size and not (codes.min() >= 0 and codes.max() <= causes):
        raise InputError(f"cause codes must be 0 to {causes}", field="cause", value=int(codes.max()))
    out = np.empty((data.time.shape[0], arms, causes, times.size, 4))
    kernels.incidences(data.time, codes, data.arm, times, normal_quantile(level), out)
    value, se, low, high = np.moveaxis(out, -1, 0)
    return Incidence(at=times, value=value, se=se, lower=low, upper=high)


def _weighted(data: Followed, weights: Floats) -> tuple[Floats, Floats, Floats]:
    from trials.kernels import survival as kernels

    shape = (data.time.shape[0], data.arms - 1, len(weights))
    if not (weights >= 0).all():
        raise InputError("must not be negative", field="weights", value=float(weights.min()))
    excess, covariance, plain = np.zeros(shape), np.zeros((*shape, len(weights))), np.zeros(shape)
    kernels.logrank_pairs(data.time, data.event, data.arm, data.strata, data.levels, weights, excess, covariance, plain)
    return excess, covariance, plain


def _tested(data: Followed, excess: Floats, variance: Floats, plain: Floats) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """One-step log hazard ratio, its standard error and the status."""
    n, _ = data.counts()
    status = np.where(variance > 0, SurvivalStatus.OK, SurvivalStatus.NO_EVENTS).astype(np.int8)
    status[(n[:, 1:] == 0) | (n[:, :1] == 0)] = SurvivalStatus.NO_SUBJECTS
    with np.errstate(divide="ignore", invalid="ignore"):
        return excess / plain, np.sqrt(variance) / plain, status


def incidence_difference(
    time: ArrayLike, cause: ArrayLike, arm: ArrayLike, *, arms: int, at: float, alpha: float = 0.05, side: str = "two"
) -> Compared:
    """Difference of the cumulative incidence of cause 1 at a time (arm - control), others competing.

    NaN with SHORT_FOLLOW_UP where an arm with subjects at risk is not followed to the time.
    """
    codes = np.asarray(cause, np.int64)
    found = cumulative_incidence(time, codes, arm, arms=arms, causes=max(1, int(codes.max(initial=0))), at=[at])
    data = followed(time, codes == 1, arm, arms=arms)
    value, se = found.value[:, :, 0, 0], found.se[:, :, 0, 0]
    return _versus(data, value, se, ratio=False, alpha=alpha, side=side)


def logrank(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None,
    rho: float = 0.0, gamma: float = 0.0, alpha: float = 0.05, side: str = "two",
) -> Compared:  # fmt: skip
    """(Stratified, weighted) log-rank test of every arm against control; hypergeometric variance, no correction.

    rho, gamma: Fleming-Harrington weights S(t-)^rho (1 - S(t-))^gamma with the pooled curve of each stratum; (0, 0) is
    the log-rank test, (0, 1) weighs late differences. `estimate` is the one-step log hazard ratio (O - E)/V (Peto),
    whose interval excludes 0 where the test rejects; for an estimate of a hazard ratio use `cox`.

    >>> logrank([[1.0, 2.0, 3.0, 4.0]], [[True] * 4], [[1, 1, 0, 0]], arms=2).p.round(4).tolist()
    [[0.0896]]
    """
    data = followed(time, event, arm, arms=arms, strata=strata)
    excess, covariance, plain = _weighted(data, np.array([[rho, gamma]], np.float64))
    found = _tested(data, excess[:, :, 0], covariance[:, :, 0, 0], plain[:, :, 0])
    return compared(found, data.counts(), alpha=alpha, side=side)


def logrank_groups(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None,
    rho: float = 0.0, gamma: float = 0.0,
) -> Groups:  # fmt: skip
    """Log-rank test that all arms have one curve: chi-square with (arms with somebody at risk) - 1 degrees of freedom.

    >>> logrank_groups([[1.0, 2.0, 3.0, 4.0]], [[True] * 4], [[1, 1, 0, 0]], arms=2).chi.round(4).tolist()
    [2.8824]
    """
    from trials.kernels import cox, survival

    data = followed(time, event, arm, arms=arms, strata=strata)
    excess, covariance = np.zeros((data.time.shape[0], arms)), np.zeros((data.time.shape[0], arms, arms))
    weights = np.array([[rho, gamma]], np.float64)
    chi, df = np.full(len(excess), np.nan), np.zeros(len(excess), np.int64)
    for r in range(len(excess)):
        order = survival.by_stratum(np.argsort(data.time[r], kind="stable"), data.strata[r], data.levels)
        survival.logrank(data.time[r], data.event[r], data.arm[r], data.strata[r], order, weights,
                         excess[r : r + 1], covariance[r : r + 1, None], np.zeros((1, arms)))  # fmt: skip
        used = np.flatnonzero(covariance[r].diagonal() > 0)[1:]
        df[r] = used.size
        if used.size:
            chi[r] = cox.quadratic(covariance[r][np.ix_(used, used)], excess[r, used])
    return Groups(chi=chi, df=df, p=chi_square_p(chi, df), excess=excess, covariance=covariance)


def max_combo(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None,
    weights: Sequence[tuple[float, float]] = COMBO, alpha: float = 0.05, side: str = "two",
) -> MaxCombo:  # fmt: skip
    """MaxCombo: the largest of Fleming-Harrington tests, p from their joint normal law (quadrature, error < 1e-5).

    weights: pairs (rho, gamma), at most 4; side "less": hazard of the arm below that of control. The covariance of two
    weighted tests is the sum over event times of the product of their weights and the hypergeometric variance. A test
    whose weights are 0 wherever there are events is left out.
    """
    from trials.kernels import multinormal

    pairs = np.array(weights, np.float64).reshape(-1, 2)
    if not 1 <= len(pairs) <= 4:
        raise InputError("takes one to four pairs (rho, gamma)", field="weights", value=len(pairs))
    if (0.0, 0.0) not in [tuple(pair) for pair in pairs.tolist()]:
        raise InputError("must hold (0, 0), the log-rank test", field="weights", value=str(pairs.tolist()))
    data = followed(time, event, arm, arms=arms, strata=strata)
    excess, covariance, plain = _weighted(data, pairs)
    own = pairs.tolist().index([0.0, 0.0])
    found = _tested(data, excess[:, :, own], covariance[:, :, own, own], plain[:, :, own])
    base = compared(found, data.counts(), alpha=alpha, side=side)
    _without_silent(excess, covariance, own)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = excess / np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    count, p, top = len(pairs), np.empty(z[..., 0].size), np.empty(z[..., 0].size)
    signed = np.ascontiguousarray(-z if side == "less" else z).reshape(-1, count)
    multinormal.largest(signed, covariance.reshape(-1, count, count), side_code(side) == 0, p, top)
    values = p.reshape(z.shape[:2])
    test = Compared(
        estimate=base.estimate, se=base.se, lower=base.lower, upper=base.upper, statistic=top.reshape(z.shape[:2]),
        p=values, reject=values <= alpha, status=base.status, n=base.n, x=base.x,
    )  # fmt: skip
    return MaxCombo(z=z, covariance=covariance, largest=top.reshape(z.shape[:2]), compared=test)


def _without_silent(excess: Floats, covariance: Floats, own: int) -> None:
    """A weighted test without variance says nothing (late weights where all events come first): the log-rank test takes
    its place, so that the largest is that of the others. In place: excess (R, k, W), covariance (R, k, W, W).
    """
    for w in range(excess.shape[2]):
        silent = ~(covariance[..., w, w] > 0)
        excess[silent, w] = excess[silent, own]
        covariance[silent, w, :] = covariance[silent, own, :]
        covariance[silent, :, w] = covariance[silent, :, own]


def _status(data: Followed, value: Floats) -> NDArray[np.int8]:
    """Of comparisons of a quantity (R, A) that is NaN where follow-up is too short."""
    n, _ = data.counts()
    lost = np.isnan(value)
    status = np.where(lost[:, 1:] | lost[:, :1], SurvivalStatus.SHORT_FOLLOW_UP, SurvivalStatus.OK).astype(np.int8)
    status[(n[:, 1:] == 0) | (n[:, :1] == 0)] = SurvivalStatus.NO_SUBJECTS
    return status


def _versus(data: Followed, value: Floats, se: Floats, *, ratio: bool, alpha: float, side: str) -> Compared:
    """Difference, or logarithm of the ratio, of a quantity (R, A) with its standard error."""
    from pkpd.kernels.elementary import log_array

    status = _status(data, value)
    with np.errstate(divide="ignore", invalid="ignore"):
        if ratio:
            value, se = log_array(value), se / value
        spread = np.sqrt(se[:, 1:] ** 2 + se[:, :1] ** 2)
        estimate = value[:, 1:] - value[:, :1]
    status[(status == 0) & ~((spread > 0) & np.isfinite(estimate))] = SurvivalStatus.NO_EVENTS
    return compared((estimate, spread, status), data.counts(), alpha=alpha, side=side)


def rmst(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, tau: float, ratio: bool = False,
    alpha: float = 0.05, side: str = "two",
) -> Compared:  # fmt: skip
    """Difference of mean times restricted to tau (arm - control), or the logarithm of their ratio.

    NaN with SHORT_FOLLOW_UP where an arm with survivors is not followed to tau.
    """
    found = kaplan_meier(time, event, arm, arms=arms, tau=tau)
    data = followed(time, event, arm, arms=arms)
    return _versus(data, found.mean, found.mean_se, ratio=ratio, alpha=alpha, side=side)


def milestone(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, at: float, alpha: float = 0.05, side: str = "two"
) -> Compared:
    """Difference of survival at a time (arm - control) with Greenwood's variance.

    An arm in which nobody (or everybody) had the event has no variance of its own: if neither arm has, NO_EVENTS.
    """
    found = kaplan_meier(time, event, arm, arms=arms, at=[at])
    data = followed(time, event, arm, arms=arms)
    se = np.where(found.survival == 0.0, 0.0, found.se)[:, :, 0]
    return _versus(data, found.survival[:, :, 0], se, ratio=False, alpha=alpha, side=side)
