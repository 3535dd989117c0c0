"""Cox regression and its piecewise exponential relative, batched over replicates.

Arrays (R, N) of rows (a subject, or an interval (start, stop] of one), covariates (R, N, P). A row with stratum -1 or
without a time or a covariate (NaN) is left out. Sources: trials/kernels/cox.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.survival_data import (
    Compared,
    Floats,
    Integers,
    SurvivalStatus,
    chi_square_p,
    compared,
    followed,
    normal_p,
)

__all__ = [
    "Cox", "Pieces", "Proportionality", "Rows", "cox", "cox_arms", "piecewise_exponential", "proportionality", "rows",
]  # fmt: skip

Ties = Literal["efron", "breslow"]
ITERATIONS = 25
_CODES = (SurvivalStatus.OK, SurvivalStatus.NO_EVENTS, SurvivalStatus.NOT_ESTIMABLE,
          SurvivalStatus.MONOTONE_LIKELIHOOD, SurvivalStatus.NOT_CONVERGED)  # fmt: skip
_TRANSFORMS = {"identity": 0, "log": 1, "km": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of the likelihood, arrays (R, M): `stop, event, stratum` (-1 left out), `start` or (R, 0) if all begin at
    once, `cluster` (codes 0, 1, ..., -1 none) or (R, 0), covariates `x` (R, M, P).
    """

    stop: Floats
    start: Floats
    event: NDArray[np.bool_]
    stratum: Integers
    cluster: Integers
    x: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Cox:
    """A fit by replicate: log hazard ratios `beta, se` (R, P), robust ones if clusters were given; p of Wald (R, P).

    variance: what se is of (R, P, P); naive: the inverse information; loglik (R, 2) at 0 and at beta; score, wald, lr:
    chi-squares of all covariates (R,) with their p, model-based; rows, events, iterations, status (R,):
    :class:`SurvivalStatus`. Where it is not OK there is no number.
    """

    beta: Floats
    se: Floats
    z: Floats
    p: Floats
    variance: Floats
    naive: Floats
    loglik: Floats
    score: Floats
    wald: Floats
    lr: Floats
    score_p: Floats
    wald_p: Floats
    lr_p: Floats
    rows: Integers
    events: Integers
    iterations: Integers
    status: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportionality:
    """Score tests of effects that change with g(t): chi (R, P), of all covariates (R,), with their p."""

    chi: Floats
    p: Floats
    overall: Floats
    overall_p: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Piecewise exponential fit: log hazard ratios (R, P), rates (R, J) at covariates 0, counts and status (R,)."""

    beta: Floats
    se: Floats
    p: Floats
    rates: Floats
    rows: Integers
    events: Integers
    status: NDArray[np.int8]


def rows(
    stop: ArrayLike, event: ArrayLike, x: ArrayLike, *, start: ArrayLike | None = None,
    strata: ArrayLike | None = None, cluster: ArrayLike | None = None,
) -> Rows:  # fmt: skip
    """Checked arrays: rows that cannot be used get stratum -1. InputError for shapes and intervals that are none."""
    times = np.array(stop, dtype=np.float64, order="C")
    covariates = np.array(x, dtype=np.float64, order="C")
    if covariates.ndim == 2:
        covariates = covariates[:, :, None]
    happened = np.ascontiguousarray(event, dtype=np.bool_)
    stratum = np.zeros(times.shape, np.int64) if strata is None else np.array(strata, dtype=np.int64, order="C")
    if not (times.ndim == 2 and happened.shape == times.shape == stratum.shape == covariates.shape[:2]):
        raise InputError("stop, event, x and strata must share the axes (replicate, row)", field="x",
                         value=f"{times.shape}, {happened.shape}, {covariates.shape}")  # fmt: skip
    begin = np.empty((len(times), 0)) if start is None else np.array(start, dtype=np.float64, order="C")
    groups = np.empty((len(times), 0), np.int64) if cluster is None else np.array(cluster, dtype=np.int64, order="C")
    out = ~np.isfinite(times) | (stratum < 0) | ~np.isfinite(covariates).all(axis=2)
    if start is not None:
        out |= ~np.isfinite(begin)
        if not (begin < times)[~out].all():
            raise InputError("an interval must end after it starts", field="start", value="start >= stop")
        begin[out] = 0.0
    times[out], stratum[out] = 1.0, -1
    covariates[out] = 0.0
    return Rows(stop=times, start=begin, event=happened & ~out, stratum=stratum, cluster=groups, x=covariates)


def _levels(data: Rows) -> int:
    return max(1, int(data.stratum.max(initial=0)) + 1)


def cox(data: Rows, *, ties: Ties = "efron", iterations: int = ITERATIONS) -> Cox:
    """Maximum partial likelihood by Newton's method from 0; model-based or, with clusters, robust standard errors.

    >>> arms = np.array([[1.0, 0.0, 1.0, 0.0]])
    >>> cox(rows([[1.0, 2.0, 3.0, 4.0]], [[True] * 4], arms)).beta.round(4).tolist()
    [[0.9406]]
    """
    from trials.kernels import cox as kernels

    n, _, p = data.x.shape
    beta, naive, robust = (np.full(shape, np.nan) for shape in ((n, p), (n, p, p), (n, p, p)))
    tests, counts = np.full((n, 5), np.nan), np.zeros((n, 4), np.int64)
    kernels.fit_all(data.stop, data.start, data.event, data.stratum, _levels(data), data.x, data.cluster,
                    _efron(ties), iterations, beta, naive, robust, tests, counts)  # fmt: skip
    status = np.array(_CODES, np.int8)[counts[:, 2]]
    bad = status != SurvivalStatus.OK
    for lost in (beta, naive, robust, tests[:, 1:2], tests[:, 3:]):
        lost[bad] = np.nan
    variance = robust if data.cluster.shape[1] else naive
    se = np.sqrt(np.diagonal(variance, axis1=1, axis2=2))
    z = beta / se
    score, wald, lr = tests[:, 2], tests[:, 3], tests[:, 4]
    return Cox(
        beta=beta, se=se, z=z, p=normal_p(z), variance=variance, naive=naive, loglik=tests[:, :2].copy(),
        score=score, wald=wald, lr=lr, score_p=chi_square_p(score, p), wald_p=chi_square_p(wald, p),
        lr_p=chi_square_p(lr, p), rows=counts[:, 0], events=counts[:, 1], iterations=counts[:, 3], status=status,
    )  # fmt: skip


def _efron(ties: str) -> bool:
    if ties not in ("efron", "breslow"):
        raise InputError("must be efron or breslow", field="ties", value=ties)
    return ties == "efron"


def proportionality(data: Rows, fit: Cox, *, transform: str = "km", ties: Ties = "efron") -> Proportionality:
    """Grambsch-Therneau test of proportional hazards as a score test of beta + theta g(t), g centred over events.

    transform: `km` (1 - Kaplan-Meier just before t), `identity` or `log`. As cox.zph(terms=FALSE) of R's survival 3.
    """
    from trials.kernels import cox as kernels

    if transform not in _TRANSFORMS:
        raise InputError("must be km, identity or log", field="transform", value=transform)
    n, _, p = data.x.shape
    chi = np.full((n, p + 1), np.nan)
    kernels.proportional_all(
        data.stop, data.start, data.event, data.stratum, _levels(data), data.x, _efron(ties), _TRANSFORMS[transform],
        fit.beta, fit.status.astype(np.int64), chi,
    )  # fmt: skip
    return Proportionality(
        chi=chi[:, :p], p=chi_square_p(chi[:, :p], 1), overall=chi[:, p], overall_p=chi_square_p(chi[:, p], p)
    )


def cox_arms(
    time: ArrayLike, event: ArrayLike, arm: ArrayLike, *, arms: int, strata: ArrayLike | None = None,
    covariates: ArrayLike | None = None, ties: Ties = "efron", alpha: float = 0.05, side: str = "two",
) -> Compared:  # fmt: skip
    """Log hazard ratio of every arm to control in one (stratified) model of all arms, covariates (R, N[, C]) included.

    Wald interval and test. An arm whose ratio runs to 0 or infinity makes the fit MONOTONE_LIKELIHOOD: no numbers.

    >>> cox_arms([[1.0, 2.0, 3.0, 4.0]], [[True] * 4], [[1, 0, 1, 0]], arms=2).estimate.round(4).tolist()
    [[0.9406]]
    """
    data = followed(time, event, arm, arms=arms, strata=strata)
    columns = [(data.arm == code).astype(np.float64)[:, :, None] for code in range(1, arms)]
    if covariates is not None:
        more = np.asarray(covariates, np.float64)
        columns.append(more if more.ndim == 3 else more[:, :, None])
    fit = cox(rows(data.time, data.event, np.concatenate(columns, axis=2), strata=data.strata), ties=ties)
    k = arms - 1
    status = np.repeat(fit.status[:, None], k, axis=1)
    counts = data.counts()
    status[(counts[0][:, 1:] == 0) | (counts[0][:, :1] == 0)] = SurvivalStatus.NO_SUBJECTS
    return compared((fit.beta[:, :k], fit.se[:, :k], status), counts, alpha=alpha, side=side)


def piecewise_exponential(
    time: ArrayLike, event: ArrayLike, x: ArrayLike, *, cuts: ArrayLike, strata: ArrayLike | None = None,
    iterations: int = ITERATIONS,
) -> Pieces:  # fmt: skip
    """Hazard constant between `cuts` (closed on the right), times exp(x beta): maximum likelihood, (R, N[, P]).

    >>> fit = piecewise_exponential([[1.0, 2.0, 3.0]], [[True, True, False]], [[0.0, 1.0, 1.0]], cuts=[])
    >>> fit.rates.round(6).tolist(), fit.beta.round(6).tolist()
    ([[1.0]], [[-1.609438]])
    """
    from trials.kernels import cox as kernels

    data, borders = rows(time, event, x, strata=strata), np.asarray(cuts, np.float64).reshape(-1)
    if not (np.diff(borders, prepend=0.0) > 0).all():
        raise InputError("must be positive and increasing", field="cuts", value=str(borders.tolist()))
    n, _, p = data.x.shape
    beta, variance = np.zeros((n, p)), np.full((n, p, p), np.nan)
    rates, counts = np.full((n, borders.size + 1), np.nan), np.zeros((n, 4), np.int64)
    kernels.pieces_all(data.stop, data.event, data.stratum, data.x, borders, iterations, beta, variance, rates, counts)
    status = np.array(_CODES, np.int8)[counts[:, 2]]
    beta[status != 0], variance[status != 0] = np.nan, np.nan
    se = np.sqrt(np.diagonal(variance, axis1=1, axis2=2))
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = normal_p(beta / se)
    return Pieces(beta=beta, se=se, p=p_values, rates=rates, rows=counts[:, 0], events=counts[:, 1], status=status)
