"""MCP-Mod, first half: dose means with their covariance, candidate shapes, optimal contrasts, multiple contrast test.

Sources: Bretz, Pinheiro & Branson, Biometrics 2005;61:738; Pinheiro et al. (generalised MCP-Mod), Stat Med
2014;33:1646; shapes, parameters and defaults as in R's DoseFinding (Bornkamp et al., J Stat Softw 2009;29(7)).
Doses ascend and begin with 0 (placebo). The second half, fits and target doses, is `dose_response_fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.continuous import AnalysisStatus
from trials.analysis.dunnett import side_code

__all__ = ["SHAPES", "Candidate", "ContrastTest", "DoseMeans", "contrast_test", "contrasts", "dose_means"]

Floats = NDArray[np.float64]

SHAPES = {"linear": 0, "linlog": 1, "quadratic": 2, "emax": 3, "exponential": 4, "logistic": 5, "sig_emax": 6,
          "beta": 7}  # fmt: skip
_GUESSES = {
    "linear": (), "linlog": (), "quadratic": ("curvature",), "emax": ("ed50",), "exponential": ("delta",),
    "logistic": ("ed50", "delta"), "sig_emax": ("ed50", "h"), "beta": ("delta1", "delta2"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseMeans:
    """Estimates by dose: `doses` (K,) ascending, `mean` (R, K), `covariance` (R, K, K).

    Raw data: `df` (R,) of the residual variance, `rss` (R,), `n` (R,) subjects, `others` (R,) coefficients besides the
    means; the covariance has the estimated residual variance in it. Estimates alone (generalised MCP-Mod): df infinite,
    rss NaN, n 0. `status` (R,) and `missing` (R,) as in :class:`trials.analysis.continuous.Contrasts`; group sizes
    `size` (R, K), -1 where unknown.
    """

    doses: Floats
    mean: Floats
    covariance: Floats
    df: Floats
    rss: Floats
    n: NDArray[np.int64]
    others: NDArray[np.int64]
    size: NDArray[np.int64]
    missing: NDArray[np.int64]
    status: NDArray[np.int8]

    @classmethod
    def of(cls, doses: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> DoseMeans:
        """Generalised MCP-Mod: estimates (R, K) or (K,) on any scale and their covariance (R, K, K) or (K, K)."""
        levels, values = _ascending(doses), np.atleast_2d(np.asarray(mean, np.float64))
        replicates, many = values.shape
        if many != levels.size:
            raise InputError("one mean for each dose", field="mean", value=values.shape)
        matrix = np.array(np.broadcast_to(np.asarray(covariance, np.float64), (replicates, many, many)))
        none = np.zeros(replicates, np.int64)
        broken = ~(np.isfinite(values).all(axis=1) & np.isfinite(matrix).all(axis=(1, 2)))
        status = np.where(broken, np.int8(AnalysisStatus.NOT_ESTIMABLE), np.int8(AnalysisStatus.OK))
        return cls(
            doses=levels, mean=values, covariance=matrix, df=np.full(replicates, np.inf),
            rss=np.full(replicates, np.nan), n=none, others=none, size=np.full(values.shape, -1), missing=none,
            status=status,
        )  # fmt: skip

    @property
    def raw(self) -> bool:
        """Whether the residual variance was estimated from the same data."""
        return bool(np.isfinite(self.df).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A shape of the candidate set with guesses of its parameters.

    kind: a name of `SHAPES`; guesses: emax (ed50), sig_emax (ed50, h), exponential (delta), logistic (ed50, delta),
    beta (delta1, delta2), quadratic (curvature = b2/b1), linear and linlog none; sign: -1 where the response falls with
    dose. `Candidate(kind="emax", guesses=(0.2,))`.
    """

    kind: str
    guesses: tuple[float, ...] = ()
    sign: int = 1

    def __post_init__(self) -> None:
        if self.kind not in SHAPES:
            raise InputError("no such shape", field="shape", value=self.kind, remedy=f"one of {', '.join(SHAPES)}")
        wanted = _GUESSES[self.kind]
        if len(self.guesses) != len(wanted):
            remedy = f"give {' and '.join(wanted)}" if wanted else "leave them out"
            raise InputError("needs its own guesses", field=self.kind, value=list(self.guesses), remedy=remedy)
        if self.kind != "quadratic" and not all(guess > 0 for guess in self.guesses):
            raise InputError("must be > 0", field=self.kind, value=list(self.guesses))

    def means(self, doses: Floats, *, offset: float, scale: float) -> Floats:
        """The shape at the doses, up to location and scale."""
        from trials.kernels.dose_shapes import shape

        theta, found = np.ones(2), np.empty(4)
        if self.kind == "quadratic":
            return self.sign * (doses + self.guesses[0] * doses**2)
        theta[: len(self.guesses)] = self.guesses
        values = np.empty(doses.size)
        extra = offset if self.kind == "linlog" else scale
        for number, dose in enumerate(doses.tolist()):
            shape(SHAPES[self.kind], dose, theta, extra, found)
            values[number] = found[0]
        return self.sign * values


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastTest:
    """The multiple contrast test, m candidates: arrays (R, m), `critical` (R,), `reject` (R,) whether any is.

    `contrasts` (R, m, K), `correlation` (R, m, m); `p` adjusted (multivariate t), `p_unadjusted`; `best` (R,) the
    candidate with the largest statistic. Without estimates (`status`) NaN, not rejected, best -1.
    """

    t: Floats
    p: Floats
    p_unadjusted: Floats
    critical: Floats
    reject: NDArray[np.bool_]
    best: NDArray[np.int64]
    contrasts: Floats
    correlation: Floats
    status: NDArray[np.int8]


def _ascending(doses: ArrayLike) -> Floats:
    levels = np.ascontiguousarray(np.asarray(doses, np.float64))
    if levels.ndim != 1 or levels.size < 2 or levels[0] != 0.0 or not (np.diff(levels) > 0).all():
        raise InputError("must ascend from 0", field="doses", value=np.asarray(doses).tolist())
    return levels


def dose_means(
    y: ArrayLike, arm: ArrayLike, doses: ArrayLike, *, baseline: ArrayLike | None = None,
    strata: ArrayLike | None = None, covariates: ArrayLike | None = None,
) -> DoseMeans:  # fmt: skip
    """Means by dose of y (R, N), adjusted to the average subject; arm (R, N) is the index of the dose, -1 none.

    baseline (R, N), covariates (R, N) or (R, N, C), strata (R, N) codes: additive, common to the doses. Subjects with
    a NaN anywhere are left out and counted.
    """
    from trials.kernels.dose_means import means

    levels = _ascending(doses)
    values, codes = np.ascontiguousarray(y, np.float64), np.ascontiguousarray(arm, np.int64)
    if values.ndim != 2 or values.shape != codes.shape:
        raise InputError("y and arm must share one shape (replicate, subject)", field="y", value=values.shape)
    more = _columns(values.shape, baseline, covariates)
    cells = np.zeros(codes.shape, np.int64) if strata is None else np.ascontiguousarray(strata, np.int64)
    cells = np.where(codes >= 0, cells, -1)
    replicates, many = values.shape[0], levels.size
    made: dict[str, Any] = {"mean": np.full((replicates, many), np.nan),
                            "covariance": np.full((replicates, many, many), np.nan),
                            "df": np.full(replicates, np.nan), "rss": np.full(replicates, np.nan)}  # fmt: skip
    size, rank = np.zeros((replicates, many), np.int64), np.zeros(replicates, np.int64)
    status = np.zeros(replicates, np.int8)
    means(values, more, codes, cells, int(cells.max(initial=0)) + 1, made["mean"], made["covariance"], made["df"],
          made["rss"], size, rank, status)  # fmt: skip
    n = size.sum(axis=1)
    return DoseMeans(doses=levels, **made, n=n, others=rank - many, size=size, missing=(codes >= 0).sum(axis=1) - n,
                     status=status)  # fmt: skip


def _columns(shape: tuple[int, ...], baseline: ArrayLike | None, covariates: ArrayLike | None) -> Floats:
    """Baseline and covariates as (R, C, N)."""
    parts = [] if baseline is None else [np.asarray(baseline, np.float64)[..., None]]
    if covariates is not None:
        given = np.asarray(covariates, np.float64)
        parts.append(given[..., None] if given.ndim == 2 else given)
    for part in parts:
        if part.shape[:2] != shape:
            raise InputError("must begin with (replicate, subject)", field="covariates", value=part.shape)
    joined = np.concatenate(parts, axis=2) if parts else np.empty((*shape, 0))
    return np.ascontiguousarray(np.moveaxis(joined, 2, 1))


def contrasts(
    means: DoseMeans, candidates: Sequence[Candidate], *, offset: float | None = None, scale: float | None = None
) -> tuple[Floats, Floats]:
    """Optimal contrasts (R, m, K) of unit length and their correlation (R, m, m).

    offset: of linlog (default 1 % of the largest dose); scale: of beta (default 1.2 times the largest dose).
    """
    from trials.kernels.dose_shapes import optimal_contrasts

    shapes = _shapes(means.doses, candidates, _settings(means.doses, offset, scale))
    replicates, many = means.mean.shape
    found = np.full((replicates, len(candidates), many), np.nan)
    correlation = np.full((replicates, len(candidates), len(candidates)), np.nan)
    optimal_contrasts(means.covariance, shapes, found, correlation, np.zeros(replicates, np.bool_))
    return found, correlation


def _settings(doses: Floats, offset: float | None, scale: float | None) -> Mapping[str, float]:
    largest = float(doses[-1])
    chosen = {
        "offset": 0.01 * largest if offset is None else offset,
        "scale": 1.2 * largest if scale is None else scale,
    }
    if not chosen["offset"] > 0:
        raise InputError("must be > 0", field="offset", value=offset)
    if not chosen["scale"] > largest:
        raise InputError("must be larger than the largest dose", field="scale", value=scale)
    return chosen


def _shapes(doses: Floats, candidates: Sequence[Candidate], settings: Mapping[str, float]) -> Floats:
    """Candidate means (m, K); a flat one is refused."""
    if not candidates:
        raise InputError("names no candidate shape", field="shapes", remedy="give at least one")
    found = np.stack([candidate.means(doses, **settings) for candidate in candidates])
    for candidate, row in zip(candidates, found, strict=True):
        if not np.ptp(row) > 1e-12 * np.abs(row).max():
            raise InputError("is flat over these doses", field=candidate.kind, value=list(candidate.guesses))
    return found


def contrast_test(
    means: DoseMeans, candidates: Sequence[Candidate], *, alpha: float = 0.05, side: str = "greater",
    offset: float | None = None, scale: float | None = None,
) -> ContrastTest:  # fmt: skip
    """Is there a dose response: the largest of the optimal contrasts' statistics against the multivariate t.

    side "greater": in the direction of the candidates (DoseFinding's alternative "one.sided").

    >>> m = DoseMeans.of([0, 1, 2], [0.0, 0.4, 1.0], np.eye(3) * 0.1)
    >>> test = contrast_test(m, [Candidate(kind="linear")])
    >>> test.t.round(3).tolist(), test.p.round(4).tolist()
    ([[2.236]], [[0.0127]])
    """
    from trials.analysis.multivariate_t import joint_test

    side_code(side)
    weights, correlation = contrasts(means, candidates, offset=offset, scale=scale)
    top = (weights * means.mean[:, None, :]).sum(axis=2)
    spread = (weights[..., None] * weights[:, :, None, :] * means.covariance[:, None]).sum(axis=(2, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = top / np.sqrt(spread)
    t[means.status != AnalysisStatus.OK] = np.nan
    joint = joint_test(t, means.df, correlation, alpha=alpha, side=side)
    strength = {"two": np.abs(t), "greater": t, "less": -t}[side]
    usable = np.isfinite(t).all(axis=1)
    best = np.where(usable, np.argmax(np.where(np.isfinite(strength), strength, -np.inf), axis=1), -1)
    largest = np.where(usable, strength.max(axis=1), -np.inf)
    status = np.where((means.status == 0) & ~usable, np.int8(AnalysisStatus.NO_VARIATION), means.status)
    return ContrastTest(
        t=t, p=joint.p, p_unadjusted=joint.p_unadjusted, critical=joint.critical, reject=largest > joint.critical,
        best=best, contrasts=weights, correlation=correlation, status=status.astype(np.int8),
    )  # fmt: skip
