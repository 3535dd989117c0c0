"""Concentration and QTc: the pre-specified linear mixed model and ICH E14's decision, batched over replicates.

dQTcF = (t0 + b0) + t1 [on drug] + (t2 + b2) concentration + t3 [time, a factor] + t4 (baseline - its mean) + e, with
(b0, b2) of a subject normal with any covariance (Garnett et al., J Pharmacokinet Pharmacodyn 2018;45:383). What the
drug adds to placebo at concentration C is ddQTcF = t1 + t2 C; an effect of concern is excluded where the upper limit of
its two-sided 90 % interval at the geometric mean Cmax of the highest relevant exposure is below 10 ms (ICH E14, Q&A R3,
5.1).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.qt_data import Ecgs
from trials.analysis.random_effects import Contrast, MixedFit, Moments, contrast, fitted, moments

__all__ = ["LEVEL", "LIMIT", "Course", "QtFit", "concentration_qt", "course_of", "geometric_mean_cmax"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LIMIT, LEVEL = 10.0, 0.90
PIECE = 256  # replicates fitted at once: bounds the memory, changes no result


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Lines of one drug and placebo in R replicates of one schedule.

    subject (n,): codes ascending from 0; time (n,) [h] after the dose; group (n,): 0 placebo, 1, 2, ... doses of the
    drug; conc, change, baseline (R, n), NaN = missing (a line with one is left out).
    """

    subject: Integers
    time: Floats
    group: Integers
    conc: Floats
    change: Floats
    baseline: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class QtFit:
    """Fits of R replicates. `scale` (R,): concentrations were divided by it; columns of beta: intercept, on drug,
    concentration / scale, baseline, [its square], times but the first."""

    fit: MixedFit
    scale: Floats
    times: Floats
    df: str

    @property
    def status(self) -> NDArray[np.int8]:
        """`AnalysisStatus` of each replicate."""
        return self.fit.status

    def slope(self) -> Contrast:
        """ms per unit of concentration."""
        return self._of(2, 1.0 / self.scale)

    def treatment(self) -> Contrast:
        """The effect of treatment that concentration does not explain, ms: about 0 where the model holds."""
        return self._of(1, 1.0)

    def added(self, conc: ArrayLike) -> Contrast:
        """ddQTcF at a concentration (a number, or (R,)), ms."""
        weights = self.weights(conc)
        return contrast(self.fit, weights, self.df)

    def weights(self, conc: ArrayLike) -> Floats:
        """Weights (R, p) of the coefficients in ddQTcF at a concentration."""
        made = np.zeros(self.fit.beta.shape)
        made[:, 1], made[:, 2] = 1.0, np.asarray(conc, np.float64) / self.scale
        return made

    def excluded(self, conc: ArrayLike, *, limit: float = LIMIT, level: float = LEVEL) -> NDArray[np.bool_]:
        """Whether an effect of `limit` ms is excluded at a concentration, (R,); a failed fit excludes nothing."""
        upper = self.added(conc).interval(level)[1]
        return np.where(np.isfinite(upper), upper, np.inf) < limit

    def curvature(self) -> Contrast:
        """Coefficient of (concentration / scale)^2, ms: of a `quadratic` fit."""
        return self._of(4, 1.0)

    def _of(self, column: int, weight: ArrayLike) -> Contrast:
        made = np.zeros(self.fit.beta.shape)
        made[:, column] = weight
        return contrast(self.fit, made, self.df)


def course_of(data: Ecgs, drug: int) -> Course:
    """The lines of one drug (its code) and of placebo after the dose, one replicate; subjects with such lines only."""
    here = ~data.before & np.isin(data.drug, (0, drug))
    codes = np.unique(data.subject[here], return_inverse=True)[1]
    doses = np.unique(data.treatment[here & (data.drug == drug)])
    group = np.where(data.drug[here] == 0, 0, np.searchsorted(doses, data.treatment[here]) + 1)
    return Course(
        subject=codes, time=data.time[here], group=group, conc=data.conc[here][None],
        change=data.change[here][None], baseline=data.baseline[here][None],
    )  # fmt: skip


def concentration_qt(course: Course, *, df: str = "kenward_roger", quadratic: bool = False) -> QtFit:
    """Fit the pre-specified model to every replicate; `quadratic` adds the square of the concentration (a check).

    df: see :mod:`trials.analysis.random_effects`. Errors: InputError where there is no placebo or no drug.

    >>> import numpy as np
    >>> subject, time = np.repeat(np.arange(8), 6), np.tile([1.0, 2.0, 4.0], 16)
    >>> group = np.tile(np.repeat([0, 1], 3), 8)
    >>> conc = np.where(group == 1, (1.0 + subject % 3) / time, 0.0)
    >>> noise = np.sin(np.arange(48.0) ** 2)
    >>> drug = Course(subject=subject, time=time, group=group, conc=conc[None],
    ...               change=(3.0 * conc + time + noise)[None], baseline=(400.0 + noise[::-1])[None])
    >>> found = concentration_qt(drug)
    >>> bool(abs(found.slope().estimate[0] - 3.0) < 0.5), bool(found.excluded(2.0)[0])
    (True, True)
    """
    on = course.group > 0
    if on.all() or not on.any():
        raise InputError("needs lines of placebo and of the drug", field="group", value=int(on.sum()))
    scale = _scale(course.conc[:, on])
    seen = np.isfinite(course.conc) & np.isfinite(course.change) & np.isfinite(course.baseline)
    times = np.unique(course.time[seen.any(axis=0)])
    parts = [_fitted(course, (times, scale), slice(k, k + PIECE), quadratic) for k in range(0, scale.size, PIECE)]
    return QtFit(fit=_joined(parts), scale=scale, times=times, df=df)


def _scale(conc: Floats) -> Floats:
    """Root mean square of the concentrations on drug, 1 where all are 0."""
    with np.errstate(invalid="ignore"):
        size = np.sqrt(np.nansum(conc**2, axis=1) / np.maximum(np.isfinite(conc).sum(axis=1), 1))
    return np.where(size > 0.0, size, 1.0)


def _fitted(course: Course, how: tuple[Floats, Floats], piece: slice, quadratic: bool) -> MixedFit:
    times, scale = how
    conc = course.conc[piece] / scale[piece, None]
    count = np.isfinite(course.baseline[piece]).sum(axis=1, keepdims=True)
    mean = np.nansum(course.baseline[piece], axis=1, keepdims=True) / np.maximum(count, 1)
    baseline = course.baseline[piece] - mean
    one = np.ones_like(conc)
    on = np.broadcast_to((course.group > 0).astype(np.float64), conc.shape)
    at = [np.broadcast_to((course.time == t).astype(np.float64), conc.shape) for t in times[1:]]
    squares = [conc * conc] if quadratic else []
    x = np.stack([one, on, conc, baseline, *squares, *at], axis=-1)
    return fitted(moments(x, np.stack([one, conc], axis=-1), course.change[piece], course.subject))


def _joined(parts: list[MixedFit]) -> MixedFit:
    if len(parts) == 1:
        return parts[0]
    moment = {f.name: np.concatenate([getattr(p.moments, f.name) for p in parts]) for f in fields(Moments)}
    own = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(MixedFit) if f.name != "moments"}
    return MixedFit(**own, moments=Moments(**moment))


def geometric_mean_cmax(course: Course, group: int) -> tuple[Floats, Floats, Integers]:
    """Geometric mean over subjects of the largest concentration of a dose group, sd of its logarithm, subjects: (R,).

    Subjects without a concentration above 0 are left out.
    """
    here = course.group == group
    first = np.flatnonzero(np.diff(course.subject[here], prepend=-1))
    conc = np.nan_to_num(course.conc[:, here], nan=0.0)
    top = np.maximum.reduceat(conc, first, axis=1)
    used = top > 0.0
    count = used.sum(axis=1)
    logs = np.log(np.where(used, top, 1.0))
    mean = logs.sum(axis=1) / np.maximum(count, 1)
    spread = np.where(used, logs - mean[:, None], 0.0)
    sd = np.sqrt((spread**2).sum(axis=1) / np.maximum(count - 1, 1))
    return np.where(count > 0, np.exp(mean), np.nan), np.where(count > 1, sd, np.nan), count
