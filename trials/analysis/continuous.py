"""ANCOVA with Dunnett adjustment, and the same after multiple imputation of missing visits; batched over replicates.

Model: y = intercept + baseline + stratum + arm + error. Contrasts of every arm with arm 0 are multivariate t; their
correlation, (X'X)^-1 of the arms, is replaced by the nearest product structure rho_ij = l_i l_j (Hsu, J Comput Graph
Stat 1992;1:151), exact for up to three arms besides control whenever the loadings exist, and for one-way layouts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, key
from trials.analysis.contrasts import AnalysisStatus, Contrasts, Fit, compared

__all__ = ["AnalysisStatus", "Contrasts", "Imputed", "ancova_dunnett", "ancova_imputed", "ancova_mi_dunnett", "impute"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ASSUMPTIONS = ("at_random", "jump_to_reference", "copy_reference", "copy_increments")
SWEEPS = 10  # of data augmentation; the fraction of missing information to this power is what the start still weighs


@dataclass(frozen=True, slots=True, kw_only=True)
class Imputed:
    """Completed last visit: `final` (M, R, N), `imputed` (R, N) what was missing, `status` (R,) 0 or 1 failed.

    Subjects outside the trial (arm or stratum -1) or without baseline stay NaN, as do all missing values of a failed
    replicate.
    """

    final: Floats
    imputed: NDArray[np.bool_]
    status: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    baseline: Floats
    arm: Integers
    strata: Integers
    arms: int
    levels: int
    more: Floats


def _layout(
    baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, covariates: ArrayLike | None = None
) -> _Layout:
    codes, cells = np.ascontiguousarray(arm, dtype=np.int64), np.ascontiguousarray(strata, dtype=np.int64)
    start = np.ascontiguousarray(baseline, dtype=np.float64)
    if not (codes.ndim == 2 and codes.shape == cells.shape == start.shape):
        raise InputError(
            "baseline, arm and strata must share one shape (replicate, subject)",
            field="arm", value=f"{start.shape}, {codes.shape}, {cells.shape}",
        )  # fmt: skip
    if arms < 2:
        raise InputError("needs a control and at least one other arm", field="arms", value=arms)
    if codes.size and (codes.max() >= arms or codes.min() < -1):
        raise InputError(f"arm codes must be -1 to {arms - 1}", field="arm", value=int(codes.max()))
    levels = max(1, int(cells.max()) + 1) if cells.size else 1
    more = _covariates(covariates, codes.shape)
    return _Layout(baseline=start, arm=codes, strata=cells, arms=arms, levels=levels, more=more)


def _covariates(covariates: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    """Further covariates (R, N) or (R, N, C) as (R, C, N)."""
    if covariates is None:
        return np.empty((shape[0], 0, shape[1]))
    found = np.asarray(covariates, np.float64)
    found = found[..., None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[:2] != shape:
        raise InputError("must be (replicate, subject) or with an axis more", field="covariates", value=found.shape)
    return np.ascontiguousarray(np.moveaxis(found, 2, 1))


def ancova_dunnett(
    y: ArrayLike, baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, alpha: float = 0.05,
    side: str = "two", covariates: ArrayLike | None = None, multiplicity: str = "dunnett",
) -> Contrasts:  # fmt: skip
    """ANCOVA of y (R, N) on baseline, stratum and arm (0 = control, -1 = not in the trial), Dunnett-adjusted.

    covariates: further ones, (R, N) or (R, N, C), known before randomisation. A subject with a NaN outcome, baseline or
    covariate is left out and counted in `missing`. Strata are codes 0, 1, ... (-1: left out); a column that is a
    combination of earlier ones is dropped. alpha is two-sided for side "two", else one-sided. multiplicity: "dunnett"
    or "none" (each contrast by its own t).

    >>> y = [[1.0, 2.0, 1.5, 3.0, 4.0, 3.6]]
    >>> c = ancova_dunnett(y, [[0, 1, 0, 0, 1, 1]], [[0, 0, 0, 1, 1, 1]], [[0] * 6], arms=2)
    >>> c.estimate.round(4).tolist(), c.df.tolist()
    ([[1.775]], [[3.0]])
    """
    layout = _layout(baseline, arm, strata, arms=arms, covariates=covariates)
    values = np.ascontiguousarray(y, dtype=np.float64)
    if values.shape != layout.arm.shape:
        raise InputError("must have the shape of arm", field="y", value=values.shape)
    return _contrasts(values[None], layout, alpha=alpha, side=side, multiplicity=multiplicity)


def impute(
    visits: ArrayLike, baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, seed: int,
    replicate: ArrayLike, imputations: int = 20, subject: ArrayLike | None = None,
    off_treatment: ArrayLike | None = None, assume: str = "at_random", delta: float = 0.0,
) -> Imputed:  # fmt: skip
    """Proper multiple imputation under missing at random of the last of visits (R, N, V), NaN = missing.

    Each visit is regressed on baseline, stratum, arm, earlier visits and, if given, `off_treatment` (R, N, V): 1 where
    the subject has stopped treatment by that visit, finite everywhere. With it, values missing after stopping are
    modelled on those observed after stopping (retrieved dropouts), as the treatment-policy estimand asks. Visits missed
    between observed ones are drawn by monotone data augmentation with 10 sweeps.

    assume: what holds for treated subjects after the last visit seen: "at_random", or with the means of arm 0 (control)
    "jump_to_reference", "copy_reference", "copy_increments" (Carpenter, Roger & Kenward 2013; without `off_treatment`);
    delta: added to their imputed last visit. `replicate` (R,) and `subject` (N,)
    (default 0, 1, ...) are the addresses of chance: a replicate's values do not depend on the batch.
    """
    layout = _layout(baseline, arm, strata, arms=arms)
    values = np.ascontiguousarray(visits, dtype=np.float64)
    replicates, subjects = layout.arm.shape
    if values.ndim != 3 or values.shape[:2] != layout.arm.shape or not 1 <= values.shape[2] <= 255:
        raise InputError("must be (replicate, subject, visit), 1 to 255 visits", field="visits", value=values.shape)
    if imputations < 2:
        raise InputError("needs at least 2", field="imputations", value=imputations)
    off = _off_treatment(off_treatment, values.shape)
    names = np.arange(subjects) if subject is None else np.asarray(subject, dtype=np.int64)
    final = np.empty((imputations, replicates, subjects))
    imputed, status = np.zeros((replicates, subjects), dtype=np.bool_), np.zeros(replicates, dtype=np.int8)
    out = Imputed(final=final, imputed=imputed, status=status)
    words = _address("replicate", replicate, replicates), _address("subject", names, subjects)
    _fill(out, values, off, layout=layout, keys=key(seed, Purpose.IMPUTATION), words=words, rule=_rule(assume, off))
    _without_unseen(out, values[:, :, -1], layout, assume)
    if delta != 0.0:
        final[:, imputed & (layout.arm > 0)] += delta
    return out


def _without_unseen(out: Imputed, last: Floats, layout: _Layout, assume: str) -> None:
    """No imputation where the last visit says nothing of an arm: no control seen there, or, at random, none of an arm.

    The regression would take its effect to be 0.
    """
    inside = (layout.arm >= 0) & (layout.strata >= 0) & np.isfinite(layout.baseline)
    for code in range(layout.arms if assume == "at_random" else 1):
        own = inside & (layout.arm == code)
        unseen = own.any(axis=1) & ~(own & np.isfinite(last)).any(axis=1)
        out.status[unseen] = 1
        out.final[:, out.imputed & unseen[:, None]] = np.nan


def _rule(assume: str, off: Floats) -> int:
    if assume not in ASSUMPTIONS:
        raise InputError(f"must be {' or '.join(ASSUMPTIONS)}", field="assume", value=assume)
    if assume != "at_random" and off.shape[-1] > 0:
        raise InputError("knows no treatment status", field="off_treatment", remedy="leave it out, or assume at_random")
    return ASSUMPTIONS.index(assume)


def _off_treatment(off: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    if off is None:
        return np.empty((*shape[:2], 0))
    status = np.ascontiguousarray(off, dtype=np.float64)
    if status.shape != shape or not np.isfinite(status).all():
        raise InputError("must be finite and have the shape of visits", field="off_treatment", value=status.shape)
    return status


def _address(name: str, words: ArrayLike, size: int) -> Integers:
    numbers = np.ascontiguousarray(words, dtype=np.int64)
    if numbers.shape != (size,) or (size and not 0 <= numbers.min() <= numbers.max() < 2**31):
        raise InputError(f"must be {size} whole numbers from 0 to 2^31 - 1", field=name, value=numbers.shape)
    return numbers


def _fill(
    out: Imputed, visits: Floats, off: Floats, *, layout: _Layout, keys: tuple[np.uint32, np.uint32],
    words: tuple[Integers, Integers], rule: int,
) -> None:  # fmt: skip
    from trials.kernels.imputation import impute_all

    shape, pair = (layout.arms, layout.levels), (int(keys[0]), int(keys[1]))
    replicate, subject = words
    impute_all(pair, visits, layout.baseline, layout.arm, layout.strata, off, shape, SWEEPS, rule,
               subject, replicate, out.final, out.imputed, out.status)  # fmt: skip


def ancova_mi_dunnett(
    visits: ArrayLike, baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, seed: int,
    replicate: ArrayLike, imputations: int = 20, alpha: float = 0.05, side: str = "two",
    subject: ArrayLike | None = None, off_treatment: ArrayLike | None = None, multiplicity: str = "dunnett",
    assume: str = "at_random", delta: float = 0.0,
) -> Contrasts:  # fmt: skip
    """ANCOVA of the last visit after :func:`impute`, pooled by Rubin's rules, Dunnett-adjusted.

    Each contrast has its own Barnard-Rubin df (Biometrika 1999;86:948); its critical value and adjusted p come from the
    multivariate t with that df and the correlation of the complete-data contrasts, an approximation: imputation adds
    variance in about the same pattern when arms lose similar shares. A replicate without missing values gives
    `ancova_dunnett` of the last visit, bit for bit. The contrast of the change from baseline is the same number.
    assume, delta: as in :func:`impute`; under a reference-based rule Rubin's variance is larger than that of repeated
    trials: it keeps the information the missing values cost (Cro, Carpenter & Kenward, J R Stat Soc A 2019;182:623).
    """
    completed = impute(visits, baseline, arm, strata, arms=arms, seed=seed, replicate=replicate,
                       imputations=imputations, subject=subject, off_treatment=off_treatment, assume=assume,
                       delta=delta)  # fmt: skip
    return ancova_imputed(completed, baseline, arm, strata, arms=arms, alpha=alpha, side=side,
                          multiplicity=multiplicity)  # fmt: skip


def ancova_imputed(
    completed: Imputed, baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, alpha: float = 0.05,
    side: str = "two", multiplicity: str = "dunnett",
) -> Contrasts:  # fmt: skip
    """The ANCOVA of completed last visits (:func:`impute`), pooled by Rubin's rules; options of `ancova_mi_dunnett`."""
    layout = _layout(baseline, arm, strata, arms=arms)
    return _contrasts(
        completed.final, layout, alpha=alpha, side=side, multiplicity=multiplicity, failed=completed.status
    )


def _contrasts(
    y: Floats, layout: _Layout, *, alpha: float, side: str, multiplicity: str, failed: NDArray[np.int8] | None = None
) -> Contrasts:
    """Analyse y (M, R, N): fit, pool, compare."""
    fit = _fit(y, layout)
    if failed is not None:
        fit.status[failed != 0] = AnalysisStatus.IMPUTATION_FAILED
    enrolled = np.count_nonzero(layout.arm >= 0, axis=-1)
    return compared(fit, enrolled, alpha=alpha, side=side, multiplicity=multiplicity)


def _fit(y: Floats, layout: _Layout) -> Fit:
    from trials.kernels.least_squares import ancova, pool_all

    sets, replicates, _ = y.shape
    k = layout.arms - 1
    estimate, variance = np.empty((sets, replicates, k)), np.empty((sets, replicates))
    df, covariance = np.empty(replicates), np.empty((replicates, k, k))
    status, count = np.zeros((replicates, k), dtype=np.int8), np.zeros((replicates, layout.arms), dtype=np.int64)
    ancova(y, layout.baseline, layout.more, layout.arm, layout.strata, (layout.arms, layout.levels),
           estimate, variance, df, covariance, status, count)  # fmt: skip
    pooled, total, freedom, fraction = (np.empty((replicates, k)) for _ in range(4))
    pool_all(estimate, variance, df, covariance, pooled, total, freedom, fraction)
    return Fit(estimate=pooled, se=np.sqrt(total), df=freedom, fraction=fraction, covariance=covariance,
                status=status, count=count)  # fmt: skip
