"""What the analyses of times to an event share: checked arrays, comparisons with control, why there is no number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = [
    "Compared", "Followed", "SurvivalStatus", "chi_square_p", "compared", "followed", "normal_p", "normal_quantile",
]  # fmt: skip

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_SIDES = {"two": 0, "greater": 1, "less": -1}


class SurvivalStatus(IntEnum):
    """Why a comparison of times to an event has no estimate."""

    OK = 0
    NO_EVENTS = 20
    NOT_ESTIMABLE = 21
    MONOTONE_LIKELIHOOD = 22
    NOT_CONVERGED = 23
    SHORT_FOLLOW_UP = 24
    NO_SUBJECTS = 25
    NO_CONTEST = 26

    @property
    def advice(self) -> str:
        """One sentence for the reader of a report."""
        return _ADVICE[self]


_ADVICE = {
    SurvivalStatus.OK: "estimated",
    SurvivalStatus.NO_EVENTS: "no event in the compared arms, or none while both had somebody at risk",
    SurvivalStatus.NOT_ESTIMABLE: "a covariate does not vary, or follows from the others",
    SurvivalStatus.MONOTONE_LIKELIHOOD: "the hazard ratio runs to 0 or infinity (all events on one side of a "
    "covariate): test with logrank, estimate with rmst or milestone",
    SurvivalStatus.NOT_CONVERGED: "the likelihood was not maximised in the allowed iterations",
    SurvivalStatus.SHORT_FOLLOW_UP: "an arm is not followed up to the time asked: take an earlier one",
    SurvivalStatus.NO_SUBJECTS: "an arm has no analysable subject: enrol more subjects",
    SurvivalStatus.NO_CONTEST: "one arm wins no comparison: the ratio is 0 or infinite; take the net benefit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Checked arrays (R, N), C order: `time`, `event`, `arm` (-1 not in the analysis), `strata` (-1 likewise)."""

    time: Floats
    event: NDArray[np.bool_]
    arm: Integers
    strata: Integers
    arms: int
    levels: int

    def counts(self) -> tuple[Integers, Integers]:
        """Subjects and events by arm, (R, A)."""
        codes = range(self.arms)
        n = np.stack([(self.arm == code).sum(axis=1) for code in codes], axis=1)
        return n, np.stack([((self.arm == code) & self.event).sum(axis=1) for code in codes], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Every arm against control (arm 0), arrays (R, k), column j is arm j + 1.

    `se`, `lower`, `upper` are of `estimate`; `statistic` is standard normal without an effect, `p` its p-value on the
    asked side. `n`, `x` (R, k + 1): subjects and events by arm. Without an estimate: NaN, not rejected, and `status`
    (:class:`SurvivalStatus`) says why.
    """

    estimate: Floats
    se: Floats
    lower: Floats
    upper: Floats
    statistic: Floats
    p: Floats
    reject: NDArray[np.bool_]
    status: NDArray[np.int8]
    n: Integers
    x: Integers


def followed(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None
) -> Followed:
    """Checked and contiguous; a subject without a time (NaN), of arm -1 or stratum -1 is left out.

    InputError for shapes that differ, negative times, codes out of range.
    """
    times, codes = np.array(time, dtype=np.float64, order="C"), np.array(arm, dtype=np.int64, order="C")
    happened = np.ascontiguousarray(event, dtype=np.bool_)
    levels = np.zeros(codes.shape, np.int64) if strata is None else np.array(strata, dtype=np.int64, order="C")
    if not (times.ndim == 2 and times.shape == happened.shape == codes.shape == levels.shape):
        raise InputError(
            "time, event, arm and strata must share one shape (replicate, subject)", field="time",
            value=f"{times.shape}, {happened.shape}, {codes.shape}, {levels.shape}",
        )  # fmt: skip
    if arms < 1 or (codes.size and (codes.max() >= arms or codes.min() < -1)):
        raise InputError(f"arm codes must be -1 to {arms - 1}", field="arm", value=int(codes.max(initial=-1)))
    out = np.isnan(times) | (codes < 0) | (levels < 0)
    codes[out], levels[out] = -1, -1
    times[out] = np.inf
    if not (times >= 0).all():
        raise InputError("times must not be negative", field="time", value=float(times.min()))
    if np.isinf(times[~out]).any():
        raise InputError("every subject is followed for a finite time", field="time", value="infinite",
                         remedy="censor at the end of follow-up")  # fmt: skip
    return Followed(
        time=times, event=happened & ~out, arm=codes, strata=levels, arms=arms,
        levels=max(1, int(levels.max(initial=0)) + 1),
    )  # fmt: skip


def normal_quantile(level: float) -> float:
    """z of a two-sided interval."""
    from pkpd.kernels.philox import quantile_array

    if not 0.0 < level < 1.0:
        raise InputError("must be between 0 and 1", field="level", value=level)
    return float(quantile_array(np.array([0.5 + 0.5 * level]))[0])


def side_code(side: str) -> int:
    """0 two-sided, 1 greater, -1 less; InputError otherwise."""
    if side not in _SIDES:
        raise InputError("must be two, greater or less", field="side", value=side)
    return _SIDES[side]


def normal_p(z: ArrayLike, side: str = "two") -> Floats:
    """p-values of standard normal statistics, any shape.

    >>> normal_p([1.959963985]).round(6).tolist()
    [0.05]
    """
    from trials.kernels import normal_tests

    values = np.ascontiguousarray(z, dtype=np.float64)
    out = np.empty(values.size)
    normal_tests.normal_p(values.reshape(-1), side_code(side), out)
    return out.reshape(values.shape)


def chi_square_p(x: ArrayLike, df: ArrayLike) -> Floats:
    """Upper tail of chi-square with whole degrees of freedom, broadcast.

    >>> chi_square_p([3.841459], 1).round(6).tolist()
    [0.05]
    """
    from trials.kernels import normal_tests

    values, freedom = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(df, np.int64))
    out = np.empty(values.size)
    flat = np.array(freedom, order="C").reshape(-1)
    normal_tests.chi_square_p(np.array(values, order="C").reshape(-1), flat, out)
    return out.reshape(values.shape)


def compared(
    estimated: tuple[Floats, Floats, NDArray[np.int8]], counts: tuple[Integers, Integers], *, alpha: float, side: str
) -> Compared:
    """A comparison from (estimate, standard error, status) and counts of subjects and events by arm.

    Normal statistic, interval at 1 - alpha, decision. One-sided: the interval is 1 - 2 alpha, so that it excludes 0 on
    that side where the test rejects.
    """
    (estimate, se, status), (n, x) = estimated, counts
    bad = (status != 0) | ~(se > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(bad, np.nan, estimate / se)
    p = normal_p(z, side)
    half = normal_quantile(1 - alpha if side == "two" else 1 - 2 * alpha) * se
    return Compared(
        estimate=np.where(bad, np.nan, estimate), se=np.where(bad, np.nan, se),
        lower=np.where(bad, np.nan, estimate - half), upper=np.where(bad, np.nan, estimate + half),
        statistic=z, p=p, reject=p <= alpha, status=status, n=n, x=x,
    )  # fmt: skip
