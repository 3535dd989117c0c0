"""Mixed model for repeated measures by restricted likelihood, replicate by replicate.

y at every visit = (intercept, baseline, covariates, arm) x visit + stratum + error, errors of a subject correlated over
visits by a covariance common to the arms. Values are missing at random: every subject seen at one visit or more enters
with what was seen. Small samples: Kenward & Roger (Biometrics 1997;53:983) or Satterthwaite; see
:mod:`trials.kernels.mmrm_fit` for the formulas and the choice of information (observed, as in SAS and the R package
mmrm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.contrasts import AnalysisStatus, Contrasts, Fit, compared

__all__ = ["COVARIANCES", "DF", "Design", "Repeated", "design_of", "fitted", "mmrm"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

COVARIANCES = ("unstructured", "toeplitz", "compound_symmetry")
DF = ("kenward_roger", "satterthwaite")
MOST_VISITS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Fixed effects: covariates t (R, N, m), the first `crossed` with a coefficient for every visit, the others with
    one for all; the first column is the intercept, columns `first` on are the arms but control."""

    t: Floats
    crossed: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """Every arm against control at every visit: estimate, se, df (R, V, k), NaN where `status` (int8) is not 0.

    se_model: from the information, without Kenward and Roger's adjustment. covariance (R, k, k) of the last visit's
    contrasts, sigma (R, V, V) of the visits, log_likelihood (R,) restricted, iterations (R,), count (R, k + 1) subjects
    in the fit by arm.
    """

    estimate: Floats
    se: Floats
    se_model: Floats
    df: Floats
    status: NDArray[np.int8]
    covariance: Floats
    sigma: Floats
    log_likelihood: Floats
    iterations: Integers
    count: Integers


def mmrm(
    visits: ArrayLike, baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, alpha: float = 0.05,
    side: str = "two", covariates: ArrayLike | None = None, df: str = "kenward_roger",
    covariance: str = "unstructured", multiplicity: str = "dunnett",
) -> Contrasts:  # fmt: skip
    """Contrasts at the last of visits (R, N, V) (values or changes, NaN = missing, in order), baseline (R, N).

    arm (R, N): 0 control, -1 not in the trial; strata (R, N): codes 0, 1, ... (-1: left out); covariates (R, N) or
    (R, N, C) known before randomisation. Left out and counted as `missing`: subjects never seen after baseline or
    without a baseline or covariate. df: "kenward_roger" (adjusted standard errors too) or "satterthwaite"; covariance:
    "unstructured", "toeplitz" or "compound_symmetry"; multiplicity: "dunnett" or "none". A fit that does not converge
    has status NOT_CONVERGED and no estimate: no other covariance is tried instead. Errors: InputError for shapes, codes
    and options.

    >>> from pkpd.ground.streams import Purpose, normals
    >>> z = normals(1, Purpose.SUMMARY_TRIAL, subject=np.arange(40)[:, None], replicate=0, slot=np.arange(4))[None]
    >>> y, arm = z[:, :, 1:] + z[:, :, :1], (np.arange(40) % 2)[None]
    >>> y[0, 5, 2] = np.nan
    >>> found = mmrm(y, z[:, :, 0], arm, np.zeros((1, 40), int), arms=2)
    >>> found.status.tolist(), found.missing.tolist(), bool(30 < found.df[0, 0] < 37)
    ([[0]], [0], True)
    """
    design = design_of(baseline, arm, strata, arms=arms, covariates=covariates)
    found = fitted(design, visits, _codes(arm, strata, arms), arms=arms, df=df, covariance=covariance, last_only=True)
    last = Fit(
        estimate=found.estimate[:, -1].copy(), se=found.se[:, -1].copy(), df=found.df[:, -1].copy(),
        fraction=np.full(found.df[:, -1].shape, np.nan), covariance=found.covariance,
        status=found.status[:, -1].copy(), count=found.count,
    )  # fmt: skip
    enrolled = np.count_nonzero(np.asarray(arm) >= 0, axis=-1)
    return compared(last, enrolled, alpha=alpha, side=side, multiplicity=multiplicity)


def fitted(
    design: Design, visits: ArrayLike, arm: ArrayLike, *, arms: int, df: str = "kenward_roger",
    covariance: str = "unstructured", observed: bool = True, last_only: bool = False,
) -> Repeated:  # fmt: skip
    """The fit of any design, contrasts at every visit (or the last only); observed: which information W comes from."""
    y, codes = np.ascontiguousarray(visits, np.float64), np.ascontiguousarray(arm, np.int64)
    if y.ndim != 3 or y.shape[:2] != codes.shape or not 1 <= y.shape[2] <= MOST_VISITS:
        problem = f"must be (replicate, subject, visit), 1 to {MOST_VISITS} visits"
        raise InputError(problem, field="visits", value=y.shape)
    for name, value, known in (("df", df, DF), ("covariance", covariance, COVARIANCES)):
        if value not in known:
            raise InputError(f"must be {' or '.join(known)}", field=name, value=value)
    t = np.ascontiguousarray(design.t, np.float64)
    basis = _basis(covariance, y.shape[2])
    made = _empty(y.shape, arms)
    shape = (design.crossed, design.first, y.shape[2] - 1 if last_only else 0)
    for r in range(y.shape[0]):
        one = {name: array[r] for name, array in made.items()}
        _fit((t[r], y[r], codes[r]), shape, (basis, observed), one)
    with np.errstate(invalid="ignore"):
        model, adjusted = np.sqrt(made["variance"]), np.sqrt(made["adjusted"])
    return Repeated(
        estimate=made["estimate"], se=adjusted if df == "kenward_roger" else model, se_model=model, df=made["df"],
        status=made["status"], covariance=made["covariance"], sigma=made["sigma"],
        log_likelihood=made["found"][:, 0], iterations=made["found"][:, 1].astype(np.int64), count=made["count"],
    )  # fmt: skip


def _empty(shape: tuple[int, ...], arms: int) -> dict[str, NDArray[Any]]:
    """Room for the results of R replicates."""
    replicates, _, visits = shape
    k = arms - 1
    by_visit = {name: np.full((replicates, visits, k), np.nan) for name in ("estimate", "variance", "adjusted", "df")}
    return {
        **by_visit, "covariance": np.full((replicates, k, k), np.nan),
        "status": np.full((replicates, visits, k), AnalysisStatus.NOT_ESTIMABLE, np.int8),
        "sigma": np.full((replicates, visits, visits), np.nan), "found": np.zeros((replicates, 2)),
        "count": np.zeros((replicates, arms), np.int64),
    }  # fmt: skip


def _fit(
    data: tuple[Floats, Floats, Integers], shape: tuple[int, int, int], model: tuple[tuple[Floats, Floats], bool],
    out: dict[str, NDArray[Any]],
) -> None:  # fmt: skip
    """One replicate into the arrays of `out`."""
    from trials.kernels import mmrm_fit as kernels

    (t, y, arm), ((basis, span), observed) = data, model
    crossed, visits, q = shape[0], y.shape[1], basis.shape[0]
    groups, pinned, estimable, lost = kernels.prepared(t, y, arm, crossed, out["count"])
    out["found"][:] = np.nan, 0
    patterns, p = groups[0].size, pinned.size
    if patterns == 0:
        return
    work = np.empty((patterns, visits, visits)), np.empty((p, p)), np.empty(p)
    square, average = (patterns, visits, visits), np.empty((q, q))
    moments = np.empty(square), np.empty((patterns, visits, t.shape[1])), np.empty(square)
    status, value, steps = kernels.maximised(groups, crossed, pinned, basis, span, out["sigma"], average, work, moments)
    out["found"][:] = value - lost, steps
    if status != AnalysisStatus.OK:
        out["status"][:] = status
        return
    still = (*groups[:3], np.zeros_like(groups[3]), np.zeros_like(groups[4]))
    parts = [out[name] for name in ("estimate", "variance", "adjusted", "df", "covariance", "status")]
    kernels.contrasts(still, shape, basis, observed, estimable, average, work, moments, *parts)


def _basis(covariance: str, visits: int) -> tuple[Floats, Floats]:
    """Elements (a, b), a >= b, of the covariance by its parameters (q, s), and the projection (q, q) on their span."""
    lag = np.array([a - b for a in range(visits) for b in range(a + 1)])
    group = {"unstructured": np.arange(lag.size), "toeplitz": lag, "compound_symmetry": np.minimum(lag, 1)}[covariance]
    basis = (group[:, None] == np.unique(group)).astype(np.float64)
    same = (group[:, None] == group).astype(np.float64)
    return basis, np.ascontiguousarray(same / same.sum(axis=1, keepdims=True))


def _codes(arm: ArrayLike, strata: ArrayLike, arms: int) -> Integers:
    """Arm codes, -1 where the stratum is -1 too."""
    codes, cells = np.asarray(arm, np.int64), np.asarray(strata, np.int64)
    if codes.ndim != 2 or codes.shape != cells.shape:
        raise InputError("must have the shape of arm (replicate, subject)", field="strata", value=cells.shape)
    if arms < 2:
        raise InputError("needs a control and at least one other arm", field="arms", value=arms)
    if codes.size and (codes.max() >= arms or codes.min() < -1):
        raise InputError(f"arm codes must be -1 to {arms - 1}", field="arm", value=int(codes.max()))
    return np.where(cells >= 0, codes, -1)


def design_of(
    baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, covariates: ArrayLike | None = None
) -> Design:
    """The fixed effects of :func:`mmrm`: (intercept, baseline, covariates, arms) x visit, the strata but the first."""
    baseline, codes, cells = np.asarray(baseline, np.float64), _codes(arm, strata, arms), np.asarray(strata, np.int64)
    if baseline.shape != codes.shape:
        raise InputError("must have the shape of arm (replicate, subject)", field="baseline", value=baseline.shape)
    more = np.empty((*codes.shape, 0)) if covariates is None else np.asarray(covariates, np.float64)
    more = more[..., None] if more.ndim == 2 else more
    if more.shape[:2] != codes.shape:
        raise InputError("must be (replicate, subject) or with an axis more", field="covariates", value=more.shape)
    levels = max(1, int(cells.max(initial=0)) + 1)
    treated = codes[..., None] == np.arange(1, arms)
    strata = cells[..., None] == np.arange(1, levels)
    first = 2 + more.shape[2]
    t = np.concatenate([np.ones((*codes.shape, 1)), baseline[..., None], more, treated, strata], axis=-1)
    return Design(t=t, crossed=first + arms - 1, first=first)
