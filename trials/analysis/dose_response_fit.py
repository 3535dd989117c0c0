"""MCP-Mod, second half: shapes fitted to dose means, information criteria, model averages, curves and target doses.

Generalised least squares within bounds (kernel `dose_shapes`). Raw data: AIC = n log(2 pi rss/n) + n + 2 (p + 1), p
with the covariates' coefficients, and standard errors with the shape's own residual variance, as R's DoseFinding;
estimates with a known covariance: gAIC = deviance + 2 p (Pinheiro et al., Stat Med 2014;33:1646). Model averaging:
weights exp(-AIC/2) (Buckland, Burnham & Augustin, Biometrics 1997;53:603); bootstrap: Schorning et al., Stat Med
2016;35:4021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis.continuous import AnalysisStatus
from trials.analysis.dose_response import SHAPES, DoseMeans, _settings

__all__ = ["Averaged", "FitStatus", "Fits", "Target", "average", "bootstrap", "bounds", "curve", "fit", "target_dose"]

Floats = NDArray[np.float64]
COEFFICIENTS = {
    "linear": ("e0", "delta"), "linlog": ("e0", "delta"), "quadratic": ("e0", "b1", "b2"),
    "emax": ("e0", "eMax", "ed50"), "exponential": ("e0", "e1", "delta"), "logistic": ("e0", "eMax", "ed50", "delta"),
    "sig_emax": ("e0", "eMax", "ed50", "h"), "beta": ("e0", "eMax", "delta1", "delta2"),
}  # fmt: skip


class FitStatus(IntEnum):
    """What became of a fit."""

    OK = 0
    AT_BOUND = 1
    NOT_ESTIMABLE = 2
    NOT_CONVERGED = 3

    @property
    def advice(self) -> str:
        """One sentence for the reader of a report."""
        return _ADVICE[self]


_ADVICE = {
    FitStatus.OK: "fitted",
    FitStatus.AT_BOUND: "a non-linear parameter lies on its bound: standard errors take it as known",
    FitStatus.NOT_ESTIMABLE: "fewer doses than coefficients, or no means",
    FitStatus.NOT_CONVERGED: "200 steps did not settle: the curve is shown, do not rely on its parameters",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """m shapes by replicate: `coefficients` (R, m, 4) in the order of `COEFFICIENTS` (NaN beyond), their `covariance`
    (R, m, 4, 4) (NaN for one on its bound), `deviance`, `rss`, `aic`, `status` (R, m) :class:`FitStatus`.
    """

    shapes: tuple[str, ...]
    doses: Floats
    extra: Floats
    coefficients: Floats
    covariance: Floats
    deviance: Floats
    rss: Floats
    aic: Floats
    status: NDArray[np.int8]

    @property
    def kinds(self) -> NDArray[np.int64]:
        """The kernels' codes of the shapes."""
        return np.array([SHAPES[name] for name in self.shapes], np.int64)

    @property
    def weights(self) -> Floats:
        """Akaike weights (R, m); a shape that could not be fitted has none."""
        least = np.where(np.isfinite(self.aic), self.aic, np.inf)
        shifted = least - least.min(axis=1, keepdims=True, initial=np.inf)
        raw = np.exp(-0.5 * np.where(np.isfinite(least), shifted, np.inf))
        total = raw.sum(axis=1, keepdims=True)
        share: Floats = np.divide(raw, total, out=np.full(raw.shape, np.nan), where=total > 0)
        return share

    def named(self, replicate: int, shape: str) -> dict[str, float]:
        """Coefficients of one fit by name."""
        values = self.coefficients[replicate, self.shapes.index(shape)]
        return dict(zip(COEFFICIENTS[shape], values.tolist(), strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Smallest dose in the range with the effect asked for over placebo, (R, m): NaN where none; delta-method `se`."""

    dose: Floats
    se: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """The model-averaged curve at D doses: `value` (R, D) and, from a bootstrap, `lower`, `upper` (R, D); its target
    dose (R,) with its interval: the share `absent` of bootstrap samples without one counts as beyond the range.
    """

    value: Floats
    lower: Floats
    upper: Floats
    target: Floats
    target_lower: Floats
    target_upper: Floats
    absent: Floats


def bounds(largest: float, shape: str) -> Floats:
    """Default bounds (2, 2) of a shape's non-linear parameters, DoseFinding's `defBnds`."""
    d = largest
    table = {
        "emax": [(0.001 * d, 1.5 * d)], "exponential": [(0.1 * d, 2 * d)],
        "logistic": [(0.001 * d, 1.5 * d), (0.01 * d, 0.5 * d)], "sig_emax": [(0.001 * d, 1.5 * d), (0.5, 10.0)],
        "beta": [(0.05, 4.0), (0.05, 4.0)],
    }  # fmt: skip
    rows = table.get(shape, [])
    return np.array([*rows, *[(0.0, 1.0)] * (2 - len(rows))])


def fit(
    means: DoseMeans, shapes: Sequence[str], *, limits: Mapping[str, ArrayLike] | None = None,
    offset: float | None = None, scale: float | None = None,
) -> Fits:  # fmt: skip
    """Fit each shape to every replicate's means; limits: bounds by shape where not the defaults, rows (low, high).

    >>> m = DoseMeans.of([0, 1, 2, 4], [0.0, 0.5, 0.667, 0.8], np.eye(4) * 1e-4)
    >>> {name: round(abs(value), 2) for name, value in fit(m, ["emax"]).named(0, "emax").items()}  # doctest: +SKIP
    {'e0': 0.0, 'eMax': 1.0, 'ed50': 1.0}
    """
    from trials.kernels.dose_shapes import fit_shapes

    for name in shapes:
        if name not in SHAPES:
            raise InputError("no such shape", field="shape", value=name, remedy=f"one of {', '.join(SHAPES)}")
    settings, largest = _settings(means.doses, offset, scale), float(means.doses[-1])
    extra = np.array([settings["offset"] if name == "linlog" else settings["scale"] for name in shapes])
    boxes = np.stack([_limits(name, largest, limits or {}) for name in shapes])
    replicates, m = means.mean.shape[0], len(shapes)
    found, spread = np.full((replicates, m, 4), np.nan), np.full((replicates, m, 4, 4), np.nan)
    deviance, status = np.full((replicates, m), np.nan), np.zeros((replicates, m), np.int8)
    kinds = np.array([SHAPES[name] for name in shapes], np.int64)
    fit_shapes(means.mean, means.covariance, means.doses, kinds, extra, boxes, means.status == AnalysisStatus.OK, found,
               spread, deviance, status)  # fmt: skip
    rss, aic, factor = _criteria(means, shapes, deviance)
    return Fits(shapes=tuple(shapes), doses=means.doses, extra=extra, coefficients=found,
                covariance=spread * factor[..., None, None], deviance=deviance, rss=rss, aic=aic,
                status=status)  # fmt: skip


def _limits(name: str, largest: float, limits: Mapping[str, ArrayLike]) -> Floats:
    box = bounds(largest, name)
    if name in limits:
        given = np.atleast_2d(np.asarray(limits[name], np.float64))
        if given.ndim != 2 or given.shape[1] != 2 or not ((given[:, 0] < given[:, 1]) & (given[:, 0] > 0)).all():
            raise InputError("bounds are rows of 0 < low < high", field=name, value=given.tolist())
        box[: given.shape[0]] = given
    return box


def _criteria(means: DoseMeans, shapes: Sequence[str], deviance: Floats) -> tuple[Floats, Floats, Floats]:
    """Residual sums of squares, AIC, and the ratio of the shape's residual variance to the one in the covariance."""
    p = np.array([len(COEFFICIENTS[name]) for name in shapes])
    if not means.raw:
        return np.full(deviance.shape, np.nan), deviance + 2.0 * p, np.ones(deviance.shape)
    n, variance = means.n[:, None], (means.rss / means.df)[:, None]
    rss = means.rss[:, None] + deviance * variance
    every = p + means.others[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        aic = n * np.log(2.0 * np.pi * rss / n) + n + 2.0 * (every + 1)
        return rss, aic, rss / (n - every) / variance


def curve(fits: Fits, doses: ArrayLike, *, less_placebo: bool = False) -> tuple[Floats, Floats]:
    """Fitted means at doses (D,), or their effects over placebo, and delta-method standard errors, both (R, m, D)."""
    from trials.kernels.dose_shapes import curves

    at = np.ascontiguousarray(np.asarray(doses, np.float64))
    value, variance = (np.empty((*fits.deviance.shape, at.size)) for _ in range(2))
    curves(fits.coefficients, fits.covariance, fits.kinds, fits.extra, at, less_placebo, value, variance)
    with np.errstate(invalid="ignore"):
        return value, np.sqrt(variance)


def target_dose(fits: Fits, effect: float) -> Target:
    """Smallest dose whose fitted mean differs by `effect` (signed) from placebo's, within the doses studied."""
    from trials.kernels.dose_shapes import targets

    if effect == 0.0 or not np.isfinite(effect):
        raise InputError("must be a number other than 0", field="effect", value=effect)
    dose, variance = (np.full(fits.deviance.shape, np.nan) for _ in range(2))
    targets(fits.coefficients, fits.covariance, fits.kinds, fits.extra, float(fits.doses[-1]), effect, dose, variance)
    return Target(dose=dose, se=np.sqrt(variance))


def _averaged(fits: Fits, doses: Floats) -> Floats:
    """The weighted curve (R, D)."""
    value, _ = curve(fits, doses)
    weights = fits.weights[..., None]
    total: Floats = np.where(weights > 0, weights * value, 0.0).sum(axis=1)
    total[~np.isfinite(fits.weights).all(axis=1)] = np.nan
    return total


def _crossing(doses: Floats, value: Floats, effect: float) -> Floats:
    """First dose at which a curve (R, D) on a grid from 0 is `effect` above its start, linear between the points."""
    rise = (value - value[:, :1]) * np.sign(effect)
    over = rise >= abs(effect)
    first = over.argmax(axis=1)
    before, rows = np.maximum(first - 1, 0), np.arange(value.shape[0])
    low, high = rise[rows, before], rise[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (abs(effect) - low) / (high - low)
        found: Floats = doses[before] + share * (doses[first] - doses[before])
    return np.where(over.any(axis=1), found, np.nan)


def average(fits: Fits, doses: ArrayLike, *, effect: float | None = None) -> Averaged:
    """The model-averaged curve at `doses`, and its target dose where an `effect` is given; without intervals."""
    at = np.asarray(doses, np.float64)
    grid = np.linspace(0.0, float(fits.doses[-1]), 1001)
    value = _averaged(fits, at)
    target = np.full(value.shape[0], np.nan) if effect is None else _crossing(grid, _averaged(fits, grid), effect)
    none, bare = np.full(value.shape, np.nan), np.full(target.shape, np.nan)
    return Averaged(value=value, lower=none, upper=none, target=target, target_lower=bare, target_upper=bare,
                    absent=bare)  # fmt: skip


def bootstrap(
    means: DoseMeans, shapes: Sequence[str], doses: ArrayLike, *, seed: int, replicate: ArrayLike, samples: int = 500,
    effect: float | None = None, level: float = 0.95, limits: Mapping[str, ArrayLike] | None = None,
    offset: float | None = None, scale: float | None = None,
) -> Averaged:  # fmt: skip
    """Model-averaged curve with percentile intervals: means drawn anew from N(mean, covariance), refitted, re-weighted.

    By address: subject = dose, replicate (R,), index = sample; a replicate's intervals do not depend on the batch.
    """
    at, grid = np.asarray(doses, np.float64), np.linspace(0.0, float(means.doses[-1]), 201)
    asked = {"limits": limits, "offset": offset, "scale": scale}
    plain = average(fit(means, shapes, **asked), at, effect=effect)  # type: ignore[arg-type]
    numbers = np.broadcast_to(np.asarray(replicate, np.int64), (means.mean.shape[0],))
    low, high = np.full(plain.value.shape, np.nan), np.full(plain.value.shape, np.nan)
    ends, absent = np.full((plain.value.shape[0], 2), np.nan), np.full(plain.value.shape[0], np.nan)
    tails = [0.5 * (1 - level), 0.5 * (1 + level)]
    for r in np.flatnonzero(means.status == AnalysisStatus.OK).tolist():
        again = fit(_resampled(means, r, (seed, int(numbers[r]), samples)), shapes, **asked)  # type: ignore[arg-type]
        low[r], high[r] = np.quantile(_averaged(again, at), tails, axis=0)
        if effect is not None:
            found = _crossing(grid, _averaged(again, grid), effect)
            absent[r] = np.isnan(found).mean()
            ends[r] = np.quantile(np.where(np.isnan(found), np.inf, found), tails, method="inverted_cdf")
    return Averaged(value=plain.value, lower=low, upper=high, target=plain.target, target_lower=ends[:, 0],
                    target_upper=ends[:, 1], absent=absent)  # fmt: skip


def _resampled(means: DoseMeans, r: int, address: tuple[int, int, int]) -> DoseMeans:
    """`samples` sets of means around replicate r's, with its covariance."""
    from trials.kernels.positive import factored

    seed, replicate, samples = address
    many = means.doses.size
    lower = np.zeros((many, many))
    factored(means.covariance[r], lower)
    z = normals(
        seed, Purpose.BOOTSTRAP, subject=np.arange(many)[None, :], replicate=replicate,
        index=np.arange(samples, dtype=np.uint32)[:, None],
    )  # fmt: skip
    drawn = means.mean[r] + (lower[None] * z[:, None, :]).sum(axis=2)
    return DoseMeans.of(means.doses, drawn, means.covariance[r])
