"""Recurrent events: from the times of occurrence to rows of a counting process, and the models on them.

Andersen & Gill, Ann Stat 1982;10:1100 (one baseline hazard for all occurrences); Lin, Wei, Yang & Ying, JRSS B
2000;62:711 (the same estimate as a ratio of mean frequencies, robust variance by subject); Prentice, Williams &
Peterson, Biometrika 1981;68:373, total time (a stratum for each occurrence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.cox import Cox, Rows, cox, rows
from trials.analysis.survival_data import Compared, Floats, Integers, SurvivalStatus, compared, followed

__all__ = ["Intervals", "andersen_gill", "intervals", "mean_frequency", "recurrent"]

Model = Literal["andersen_gill", "lwyy", "pwp", "first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Rows (R, M) of a counting process: (start, stop], event, subject (its place, -1 for none), number 0, 1, ...

    The intervals of one subject touch; the last ends with follow-up and without an event.
    """

    start: Floats
    stop: Floats
    event: NDArray[np.bool_]
    subject: Integers
    number: Integers


def intervals(times: ArrayLike, until: ArrayLike) -> Intervals:
    """Rows from occurrence times (R, N, L), inf where none, and the end of follow-up (R, N) (0: not in the analysis).

    Occurrences after the end of follow-up are not seen; two at one time count once.

    >>> found = intervals([[[2.0, 5.0]]], [[7.0]])
    >>> found.start.tolist(), found.stop.tolist()
    ([[0.0, 2.0, 5.0]], [[2.0, 5.0, 7.0]])
    """
    end = np.asarray(until, np.float64)
    when = np.sort(np.asarray(times, np.float64), axis=2)
    if when.shape[:2] != end.shape or not (np.nan_to_num(end) >= 0).all() or np.isinf(end).any():
        raise InputError("needs times (R, N, L) and a finite end of follow-up (R, N)", field="until",
                         value=f"{when.shape}, {end.shape}")  # fmt: skip
    before = np.concatenate([np.zeros((*end.shape, 1)), when], axis=2)
    seen = (when <= end[:, :, None]) & (when > before[:, :, :-1])
    stops = np.concatenate([np.where(seen, when, np.nan), end[:, :, None]], axis=2)
    last = np.fmax.accumulate(np.where(seen, when, 0.0), axis=2)
    starts = np.concatenate([np.zeros((*end.shape, 1)), last], axis=2)
    event = np.concatenate([seen, np.zeros((*end.shape, 1), np.bool_)], axis=2)
    kept = stops > starts  # False for NaN
    number = np.cumsum(event, axis=2) - event
    subject = np.where(kept, np.arange(end.shape[1])[:, None], -1)
    flat = (end.shape[0], -1)
    return Intervals(
        start=np.where(kept, starts, 0.0).reshape(flat), stop=np.where(kept, stops, np.nan).reshape(flat),
        event=(event & kept).reshape(flat), subject=subject.reshape(flat), number=number.reshape(flat),
    )  # fmt: skip


def recurrent(seen: Intervals, x: ArrayLike, *, model: Model = "lwyy", strata: ArrayLike | None = None) -> Cox:
    """A model of recurrent events on covariates x (R, N, P) of the subjects; strata (R, N) of the subjects.

    `andersen_gill`: model-based variance, right only if occurrences of a subject are independent given x; `lwyy`: the
    same estimate, variance robust by subject; `pwp`: total time, a stratum for each number of earlier occurrences,
    robust; `first`: the time to the first only.
    """
    covariates, who = np.asarray(x, np.float64), np.maximum(seen.subject, 0)
    own = np.take_along_axis(covariates, who[:, :, None], axis=1)
    level = np.zeros(covariates.shape[:2], np.int64) if strata is None else np.asarray(strata, np.int64)
    stratum = np.where(seen.subject >= 0, np.take_along_axis(level, who, axis=1), -1)
    if model == "pwp":
        stratum = np.where(stratum >= 0, stratum * (int(seen.number.max(initial=0)) + 1) + seen.number, -1)
    elif model == "first":
        stratum = np.where(seen.number == 0, stratum, -1)
    elif model not in ("andersen_gill", "lwyy"):
        raise InputError("must be andersen_gill, lwyy, pwp or first", field="model", value=model)
    cluster = seen.subject if model in ("lwyy", "pwp") else None
    data: Rows = rows(seen.stop, seen.event, own, start=seen.start, strata=stratum, cluster=cluster)
    return cox(data)


def andersen_gill(
    times: ArrayLike, until: ArrayLike, arm: ArrayLike, *, arms: int, model: Model = "lwyy",
    strata: ArrayLike | None = None, alpha: float = 0.05, side: str = "two",
) -> Compared:  # fmt: skip
    """Logarithm of the ratio of rates of every arm to control in one model; `n`, `x`: subjects, occurrences by arm.

    times (R, N, L), inf where none; until (R, N): end of follow-up. Death ends follow-up: the ratio is then of rates
    among the living.
    """
    end = np.array(until, dtype=np.float64)
    codes = np.where(end > 0, np.asarray(arm, np.int64), -1)
    base = followed(end, np.zeros(end.shape, np.bool_), codes, arms=arms, strata=strata)
    seen = intervals(times, np.where(base.arm >= 0, end, 0.0))
    x = np.stack([(base.arm == code).astype(np.float64) for code in range(1, arms)], axis=2)
    fit = recurrent(seen, x, model=model, strata=base.strata)
    owner = np.where(seen.event, np.take_along_axis(base.arm, np.maximum(seen.subject, 0), axis=1), -1)
    if model == "first":
        owner = np.where(seen.number == 0, owner, -1)
    n, _ = base.counts()
    events = np.stack([(owner == code).sum(axis=1) for code in range(arms)], axis=1)
    status = np.repeat(fit.status[:, None], arms - 1, axis=1)
    status[(n[:, 1:] == 0) | (n[:, :1] == 0)] = SurvivalStatus.NO_SUBJECTS
    return compared((fit.beta, fit.se, status), (n, events), alpha=alpha, side=side)


def mean_frequency(seen: Intervals, arm: ArrayLike, *, arms: int, at: ArrayLike) -> Floats:
    """Nelson-Aalen estimate of the mean number of occurrences by times `at`, (R, A, T); arm (R, N).

    >>> mean_frequency(intervals([[[2.0, 5.0]]], [[7.0]]), [[0]], arms=1, at=[3.0, 6.0]).tolist()
    [[[1.0, 2.0]]]
    """
    from trials.kernels import recurrent as kernels

    codes = np.asarray(arm, np.int64)
    own = np.where(seen.subject >= 0, np.take_along_axis(codes, np.maximum(seen.subject, 0), axis=1), -1)
    when = np.asarray(at, np.float64).reshape(-1)
    out = np.zeros((len(own), arms, when.size))
    stop = np.where(np.isnan(seen.stop), 0.0, seen.stop)
    kernels.mean_frequency(seen.start, stop, seen.event, own, when, out)
    return out
