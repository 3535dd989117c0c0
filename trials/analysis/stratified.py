"""Risks in strata, one common effect: Mantel-Haenszel estimates, Cochran-Mantel-Haenszel test, score and Newcombe
intervals; the plain score interval of the odds ratio is that of a single stratum.

Counts x1, n1, x0, n0 (..., S): events and subjects of treated (1) and control (0) by stratum, the last axis. Sources:
Mantel & Haenszel, JNCI 1959;22:719; Greenland & Robins, Biometrics 1985;41:55 (ratio, difference); Robins, Breslow &
Greenland, Biometrics 1986;42:311 (odds ratio); Sato, Biometrics 1989;45:1323 (difference); Miettinen & Nurminen, Stat
Med 1985;4:213 (score); Yan & Su, Stat Biopharm Res 2010;2:381 (Newcombe).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.binary import Interval, _counts, _normal
from trials.analysis.regression import RegressionStatus
from trials.analysis.survival_data import chi_square_p

__all__ = ["Common", "mantel_haenszel", "odds_ratio", "score_interval", "stratified_newcombe"]

Floats = NDArray[np.float64]
_KINDS = {"difference": 0, "ratio": 1, "odds": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """A Mantel-Haenszel estimate with its Wald interval, arrays (...).

    `se`: of the estimate (difference) or its logarithm (ratio, odds); `chi_square`, `p`: Cochran-Mantel-Haenszel test,
    the same for every scale; `status` :class:`RegressionStatus`: NO_SUBJECTS, or NO_EVENTS where a ratio is 0, infinite
    or unknown (NaN then, the test's p stays where it is defined).
    """

    estimate: Floats
    se: Floats
    lower: Floats
    upper: Floats
    chi_square: Floats
    p: Floats
    status: NDArray[np.int8]


def _strata(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike) -> list[Floats]:
    """Checked counts; a stratum without one of the groups becomes empty."""
    counts = _counts((x1, n1), (x0, n0))
    if counts[0].ndim < 1:
        raise InputError("the last axis is the stratum", field="counts", remedy="give [x] for a single one")
    both = (counts[1] > 0) & (counts[3] > 0)
    return [np.where(both, value, 0.0) for value in counts]


def _sum(top: Floats, bottom: Floats) -> Floats:
    """Sum over strata of a ratio, an empty stratum's is 0."""
    found: Floats = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0).sum(axis=-1)
    return found


def _test(counts: list[Floats], *, continuity: bool) -> tuple[Floats, Floats]:
    x1, n1, x0, n0 = counts
    total, events = n1 + n0, x1 + x0
    excess = np.abs((x1 - np.divide(n1 * events, total, out=np.zeros(total.shape), where=total > 0)).sum(axis=-1))
    variance = _sum(n1 * n0 * events * (total - events), total * total * (total - 1.0))
    if continuity:
        excess = np.where(excess >= 0.5, excess - 0.5, excess)
    chi = np.divide(excess**2, variance, out=np.full(excess.shape, np.nan), where=variance > 0)
    return chi, chi_square_p(chi, 1)


def mantel_haenszel(
    x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, scale: str = "difference", level: float = 0.95,
    variance: str = "sato", continuity: bool = False,
) -> Common:  # fmt: skip
    """Common risk difference, risk ratio or odds ratio of strata, and the CMH test.

    variance: of the difference, "sato" (holds for few large strata and for many small ones) or "greenland_robins";
    continuity: of the test, as R's mantelhaen.test by default.

    >>> made = mantel_haenszel([12, 16], [20, 30], [7, 10], [20, 28], scale="ratio")
    >>> [round(float(v), 4) for v in (made.estimate, made.lower, made.upper)]
    [1.5825, 1.0051, 2.4916]
    """
    if scale not in _KINDS:
        raise InputError(f"must be one of {', '.join(_KINDS)}", field="scale", value=scale)
    if variance not in ("sato", "greenland_robins"):
        raise InputError("must be sato or greenland_robins", field="variance", value=variance)
    counts, z = _strata(x1, n1, x0, n0), _normal(level)
    made = {"difference": _difference, "ratio": _ratio, "odds": _odds}[scale](counts, variance)
    estimate, spread = made
    chi, p = _test(counts, continuity=continuity)
    some = (counts[1] > 0).any(axis=-1)
    known = np.isfinite(spread) & some
    status = np.where(some, np.where(known, 0, RegressionStatus.NO_EVENTS), RegressionStatus.NO_SUBJECTS)
    estimate, se = np.where(known, estimate, np.nan), np.sqrt(np.where(known, spread, np.nan))
    lower, upper = estimate - z * se, estimate + z * se
    if scale != "difference":
        estimate, lower, upper = np.exp(estimate), np.exp(lower), np.exp(upper)
    return Common(estimate=estimate, se=se, lower=lower, upper=upper, chi_square=chi, p=p,
                  status=status.astype(np.int8))  # fmt: skip


def _difference(counts: list[Floats], variance: str) -> tuple[Floats, Floats]:
    x1, n1, x0, n0 = counts
    total = n1 + n0
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = _sum(n1 * n0, total)
        estimate = _sum(x1 * n0 - x0 * n1, total) / weight
        if variance == "sato":
            p = _sum(n1**2 * x0 - n0**2 * x1 + 0.5 * n1 * n0 * (n0 - n1), total**2)
            q = _sum(x1 * (n0 - x0) + x0 * (n1 - x1), 2.0 * total)
            return estimate, (estimate * p + q) / weight**2
        spread = _sum(x1 * (n1 - x1) * n0**3 + x0 * (n0 - x0) * n1**3, n1 * n0 * total**2)
        return estimate, spread / weight**2


def _ratio(counts: list[Floats], variance: str) -> tuple[Floats, Floats]:
    x1, n1, x0, n0 = counts
    total = n1 + n0
    one, zero = _sum(x1 * n0, total), _sum(x0 * n1, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(one / zero), _sum(n1 * n0 * (x1 + x0) - x1 * x0 * total, total**2) / (one * zero)


def _odds(counts: list[Floats], variance: str) -> tuple[Floats, Floats]:
    x1, n1, x0, n0 = counts
    total = n1 + n0
    ahead, behind = x1 * (n0 - x0), x0 * (n1 - x1)
    alike, unlike = x1 + n0 - x0, x0 + n1 - x1
    r, s = _sum(ahead, total), _sum(behind, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (
            _sum(alike * ahead, total**2) / (2 * r * r)
            + _sum(alike * behind + unlike * ahead, total**2) / (2 * r * s)
            + _sum(unlike * behind, total**2) / (2 * s * s)
        )
        return np.log(r / s), spread


def score_interval(
    x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, scale: str = "difference", level: float = 0.95
) -> Interval:
    """Mantel-Haenszel estimate with the Miettinen-Nurminen interval common to the strata, factor N/(N-1) in each.

    p: the score test of no effect (two-sided); for the odds ratio it is the CMH test. One stratum: the plain interval.

    >>> made = score_interval([12, 16], [20, 30], [7, 10], [20, 28])
    >>> [round(float(v), 4) for v in (made.estimate, made.lower, made.upper)]
    [0.2063, 0.007, 0.3898]
    """
    from trials.kernels.score_strata import intervals

    if scale not in _KINDS:
        raise InputError(f"must be one of {', '.join(_KINDS)}", field="scale", value=scale)
    counts = _strata(x1, n1, x0, n0)
    shape, size = counts[0].shape[:-1], counts[0].shape[-1]
    a, b, c, d = (np.ascontiguousarray(value.reshape(-1, size)) for value in counts)
    lower, upper, null, p = (np.empty(a.shape[0]) for _ in range(4))
    intervals(a, b, c, d, _normal(level), _KINDS[scale], lower, upper, null, p)
    estimate = {"difference": _difference, "ratio": _ratio, "odds": _odds}[scale](counts, "sato")[0]
    if scale != "difference":
        with np.errstate(divide="ignore", over="ignore"):
            estimate, lower, upper = np.exp(estimate), lower / (1.0 - lower), upper / (1.0 - upper)
    return Interval(estimate=estimate, lower=lower.reshape(shape), upper=upper.reshape(shape), p=p.reshape(shape))


def odds_ratio(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, level: float = 0.95) -> Interval:
    """Odds ratio of two risks with its score interval (Miettinen & Nurminen 1985); arrays broadcast; 0, inf possible.

    >>> made = odds_ratio(12, 20, 7, 20)
    >>> [round(float(v), 4) for v in (made.estimate, made.lower, made.upper)]
    [2.7857, 0.777, 9.9843]
    """
    return score_interval(*(np.asarray(value, np.float64)[..., None] for value in (x1, n1, x0, n0)), scale="odds",
                          level=level)  # fmt: skip


def stratified_newcombe(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mantel-Haenszel risk difference with the stratified Newcombe interval (Yan & Su 2010, weights n1 n0/(n1 + n0)).

    >>> made = stratified_newcombe([56], [70], [48], [80])
    >>> [round(float(v), 4) for v in (made.estimate, made.lower, made.upper)]
    [0.2, 0.0524, 0.3339]
    """
    counts, z = _strata(x1, n1, x0, n0), _normal(level)
    e1, s1, e0, s0 = counts
    weight = np.divide(s1 * s0, s1 + s0, out=np.zeros(s1.shape), where=s1 > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = weight / weight.sum(axis=-1, keepdims=True)
    risk1, low1, high1 = _stratified_wilson(e1, s1, weight, z)
    risk0, low0, high0 = _stratified_wilson(e0, s0, weight, z)
    share1, share0 = _sum(weight**2, s1), _sum(weight**2, s0)
    difference = risk1 - risk0
    lower = difference - z * np.sqrt(share1 * low1 * (1 - low1) + share0 * high0 * (1 - high0))
    upper = difference + z * np.sqrt(share1 * high1 * (1 - high1) + share0 * low0 * (1 - low0))
    empty = np.isnan(difference)
    return Interval(estimate=difference, lower=np.where(empty, -1.0, lower), upper=np.where(empty, 1.0, upper),
                    p=np.full(difference.shape, np.nan))  # fmt: skip


def _stratified_wilson(x: Floats, n: Floats, weight: Floats, z: float) -> tuple[Floats, Floats, Floats]:
    """Weighted risk and the weighted sums of Wilson's limits at a quantile shrunk for the number of strata."""
    some = np.maximum(n, 1.0)
    p = x / some
    spread = p * (1 - p) / some
    top, bottom = np.sqrt((weight**2 * spread).sum(axis=-1)), (weight * np.sqrt(spread)).sum(axis=-1)
    # no variation at all: the factor's limit for equal strata
    alike = np.sqrt((weight**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shrunk = z * np.where(bottom > 0, top / bottom, alike)[..., None]
    centre, scale = p + shrunk**2 / (2 * some), 1 + shrunk**2 / some
    half = shrunk * np.sqrt(spread + shrunk**2 / (4 * some * some))
    ends = [(weight * np.clip((centre + sign * half) / scale, 0.0, 1.0)).sum(axis=-1) for sign in (-1, 1)]
    return (weight * p).sum(axis=-1), ends[0], ends[1]
