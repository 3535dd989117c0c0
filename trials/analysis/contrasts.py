"""What a comparison of means with control is: contrasts, their status, their multiplicity; batched over replicates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.analysis.dunnett import side_code

__all__ = ["AnalysisStatus", "Contrasts", "Fit", "compared"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class AnalysisStatus(IntEnum):
    """Why a contrast has no estimate."""

    OK = 0
    NOT_ESTIMABLE = 1
    NO_DEGREES_OF_FREEDOM = 2
    IMPUTATION_FAILED = 3
    NO_VARIATION = 4
    NOT_CONVERGED = 5
    COVARIANCE_UNKNOWN = 6

    @property
    def advice(self) -> str:
        """One sentence for the reader of a report."""
        return _ADVICE[self]


_ADVICE = {
    AnalysisStatus.OK: "estimated",
    AnalysisStatus.NOT_ESTIMABLE: "an arm has no analysable subject, or coincides with strata: enrol more subjects",
    AnalysisStatus.NO_DEGREES_OF_FREEDOM: "fewer analysable subjects than coefficients: enrol more subjects",
    AnalysisStatus.IMPUTATION_FAILED: "too few observed values at a visit to fit the imputation model, "
    "or none of an arm at the last visit",
    AnalysisStatus.NO_VARIATION: "the residual variance is zero: the outcome does not vary within arms",
    AnalysisStatus.NOT_CONVERGED: "no maximum of the likelihood was found: enrol more subjects, or plan fewer visits",
    AnalysisStatus.COVARIANCE_UNKNOWN: "no subject was seen at two of the visits: their covariance is unknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrasts:
    """Every arm against control, by replicate: arrays (R, k), column j is arm j + 1; k = arms - 1.

    `lower`, `upper` are simultaneous at 1 - alpha (one side infinite for a one-sided test), `p` is Dunnett-adjusted,
    `critical` the critical value used. `n_control`, `missing` (R,): analysed controls, enrolled subjects left out.
    A contrast that cannot be estimated is NaN, not rejected, and says why in `status` (:class:`AnalysisStatus`).
    `missing_information` is Barnard & Rubin's fraction of the variance due to imputation, 0 for complete data.
    """

    estimate: Floats
    se: Floats
    df: Floats
    lower: Floats
    upper: Floats
    p: Floats
    p_unadjusted: Floats
    reject: NDArray[np.bool_]
    critical: Floats
    status: NDArray[np.int8]
    n_treated: Integers
    missing_information: Floats
    n_control: Integers
    missing: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Estimates of every arm against control before any multiplicity, arrays (R, k) unless said.

    covariance (R, k, k) up to a factor; count (R, k + 1): analysed subjects of each arm; fraction: missing information.
    """

    estimate: Floats
    se: Floats
    df: Floats
    fraction: Floats
    covariance: Floats
    status: NDArray[np.int8]
    count: Integers


def compared(fit: Fit, enrolled: Integers, *, alpha: float, side: str, multiplicity: str = "dunnett") -> Contrasts:
    """Tests and intervals of a fit whose failed contrasts are marked in `status`; enrolled (R,) subjects.

    multiplicity: "dunnett" (simultaneous over the contrasts) or "none" (each by its own t distribution).
    """
    code = side_code(side)
    if not 0.0 < alpha < 0.5:
        raise InputError("must be between 0 and 0.5", field="alpha", value=alpha)
    fit.status[(fit.status == 0) & ~(fit.se > 0.0)] = AnalysisStatus.NO_VARIATION
    for array in (fit.estimate, fit.se, fit.df):
        array[fit.status != 0] = np.nan
    p, single, critical = (np.full(fit.estimate.shape, np.nan) for _ in range(3))
    sign = -1.0 if side == "less" else 1.0
    _tested(fit, (alpha, code, sign), multiplicity, (p, single, critical))
    margin = critical * fit.se
    t = sign * fit.estimate / fit.se
    reject = (np.abs(t) if side == "two" else t) > critical
    open_end = np.where(fit.status == 0, np.inf, np.nan)
    return Contrasts(
        estimate=fit.estimate, se=fit.se, df=fit.df, p=p, p_unadjusted=single, reject=reject, critical=critical,
        lower=-open_end if side == "less" else fit.estimate - margin,
        upper=open_end if side == "greater" else fit.estimate + margin,
        status=fit.status, missing_information=fit.fraction,
        n_control=fit.count[:, 0], n_treated=fit.count[:, 1:], missing=enrolled - fit.count.sum(axis=-1),
    )  # fmt: skip


def _tested(fit: Fit, test: tuple[float, int, float], multiplicity: str, out: tuple[Floats, Floats, Floats]) -> None:
    """p-values, unadjusted p-values and critical values (R, k) into `out`."""
    from trials.kernels.dunnett import compare

    if multiplicity == "dunnett":
        compare(fit.estimate, fit.se, fit.df, fit.covariance, fit.status, *test, *out)
        return
    if multiplicity != "none":
        raise InputError("must be dunnett or none", field="multiplicity", value=multiplicity)
    for j in range(fit.estimate.shape[1]):
        one = np.s_[:, j : j + 1]
        estimate, se, df = (np.ascontiguousarray(a[one]) for a in (fit.estimate, fit.se, fit.df))
        p, single, critical = (np.ascontiguousarray(a[one]) for a in out)
        unit, status = np.ones((fit.estimate.shape[0], 1, 1)), np.ascontiguousarray(fit.status[one])
        compare(estimate, se, df, unit, status, *test, p, single, critical)
        for whole, column in zip(out, (p, single, critical), strict=True):
            whole[one] = column
