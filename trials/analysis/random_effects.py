"""Linear mixed model with a few random effects of each subject by restricted likelihood, batched over replicates.

y = X beta + Z b + e, b of a subject ~ N(0, D) with D unstructured, e ~ N(0, sigma2). beta and sigma2 are profiled out;
what is left is a damped Newton search over the Cholesky factor of D / sigma2, so that a variance of zero is an inner
point and not an edge. Everything is computed from each subject's Z'Z, Z'X, Z'y, never from an n x n matrix.

Standard errors and degrees of freedom of a contrast: Kenward & Roger (Biometrics 1997;53:983; V is linear in its
parameters, so their R terms vanish; expected information, as in the R package pbkrtest), Satterthwaite (the same
degrees of freedom, unadjusted standard error), containment (as R's nlme counts for effects that vary within subjects),
or the normal law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.contrasts import AnalysisStatus

__all__ = ["DF", "Contrast", "MixedFit", "Moments", "contrast", "fitted", "moments", "profiled", "whitened"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DF = ("kenward_roger", "satterthwaite", "containment", "normal")
MOST_STEPS, MOST_HALVINGS = 60, 30
ENOUGH = 1e-9  # promised fall of -2 log likelihood at which the search ends
STEP = 1e-5
SINGULAR = 1e-4  # smallest sd of the random effects against the residual, beyond which D counts as singular


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What the likelihood needs of R data sets: zz (R, N, q, q), zw (R, N, q, p + 1), ww (R, p + 1, p + 1), W = [X y].

    rows (R,): observations used, within (R,): of them beyond one for each subject with data.
    """

    zz: Floats
    zw: Floats
    ww: Floats
    rows: Integers
    within: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedFit:
    """Fits of R data sets: beta (R, p), d (R, q, q) covariance of the random effects, sigma2 (R,), NaN where `status`
    (R,) is not 0; log_likelihood (R,) restricted; singular (R,): D has no full rank; steps (R,)."""

    beta: Floats
    d: Floats
    sigma2: Floats
    log_likelihood: Floats
    status: NDArray[np.int8]
    singular: NDArray[np.bool_]
    steps: Integers
    moments: Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """l'beta of R data sets: estimate, standard error, degrees of freedom (R,)."""

    estimate: Floats
    se: Floats
    df: Floats

    def interval(self, level: float = 0.90) -> tuple[Floats, Floats]:
        """Lower and upper limit of the two-sided interval, by Student's t."""
        from scipy.special import ndtri, stdtrit

        p = 0.5 * (1.0 + level)
        finite = np.where(np.isfinite(self.df), self.df, 1.0)
        half = np.where(np.isinf(self.df), ndtri(p), stdtrit(finite, p)) * self.se
        half = np.where(np.isnan(self.df), np.nan, half)
        return self.estimate - half, self.estimate + half


def moments(x: ArrayLike, z: ArrayLike, y: ArrayLike, subject: ArrayLike) -> Moments:
    """Moments of data sets x (R, n, p), z (R, n, q), y (R, n), subject (n,): codes 0, 1, ... in ascending order.

    Rows with a NaN anywhere are left out. Errors: InputError for shapes, and for codes out of order.
    """
    x, z, y = (np.asarray(a, np.float64) for a in (x, z, y))
    codes = np.asarray(subject, np.int64)
    if x.ndim != 3 or z.ndim != 3 or y.shape != x.shape[:2] or z.shape[:2] != y.shape or codes.shape != y.shape[1:]:
        raise InputError("must be x (R, n, p), z (R, n, q), y (R, n), subject (n,)", field="x", value=x.shape)
    if codes.size == 0 or codes[0] != 0 or (np.diff(codes) < 0).any() or (np.diff(codes) > 1).any():
        raise InputError("codes of subjects must ascend from 0 without gaps", field="subject", value=codes.size)
    w = np.concatenate([x, y[..., None]], axis=-1)
    used = np.isfinite(w).all(axis=-1) & np.isfinite(z).all(axis=-1)
    w, z = np.where(used[..., None], w, 0.0), np.where(used[..., None], z, 0.0)
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    seen = np.logical_or.reduceat(used, first, axis=1).sum(axis=1)
    rows = np.count_nonzero(used, axis=1)
    return Moments(
        zz=np.add.reduceat(z[..., :, None] * z[..., None, :], first, axis=1),
        zw=np.add.reduceat(z[..., :, None] * w[..., None, :], first, axis=1),
        ww=np.swapaxes(w, 1, 2) @ w, rows=rows, within=rows - seen,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """The model at a given relative factor of D: -2 log restricted likelihood at its best sigma2, and its pieces.

    `gram` (K, p, p) X'V1 X with V1 = V / sigma2, `beta` (K, p), `rss` (K,) = y'P1 y, `log_det` (K,) log|V1| +
    log|X'V1 X|, `slope` (K, q, q) derivative by the factor, `minus_two` (K,).
    """

    gram: Floats
    beta: Floats
    rss: Floats
    log_det: Floats
    slope: Floats
    minus_two: Floats


def whitened(m: Moments, factor: Floats) -> tuple[Floats, Floats, Floats]:
    """At factors (K, q, q) of D / sigma2: W'V1^-1 W (K, p + 1, p + 1), log|V1| (K,), G (K, N, q, q) of
    V1^-1 = I - Z G Z'; K = R, or R = 1."""
    lam, width = factor[:, None], m.zw.shape[-1]
    inner = np.eye(factor.shape[-1]) + np.swapaxes(lam, -1, -2) @ m.zz @ lam
    core = lam @ np.linalg.solve(inner, np.swapaxes(lam, -1, -2))
    flat = (-1, m.zw.shape[1] * m.zw.shape[2], width)
    full = m.ww - np.swapaxes(m.zw.reshape(flat), 1, 2) @ (core @ m.zw).reshape(flat)
    return full, np.log(np.linalg.det(inner)).sum(axis=1), core


def profiled(m: Moments, factor: Floats) -> Profiled:
    """Beta and sigma2 profiled out at lower-triangular factors (K, q, q) of D / sigma2; K = R, or R = 1."""
    zz, zw, p = m.zz, m.zw, m.zw.shape[-1] - 1
    full, log_inner, core = whitened(m, factor)
    gram, cross = full[:, :p, :p], full[:, :p, p]
    beta = np.linalg.solve(gram, cross[..., None])[..., 0]
    rss = full[:, p, p] - _dot(cross, beta)
    log_det = log_inner + np.linalg.slogdet(gram)[1]
    free = m.rows - p
    sigma2 = np.maximum(rss / free, 1e-300)
    # derivative: T = sum F - H Phi H' - h h' / sigma2, F = Z'V1^-1 Z, H = Z'V1^-1 X, h = Z'V1^-1 (y - X beta)
    half = zw - zz @ core @ zw
    h = half[..., p] - (half[..., :p] @ beta[:, None, :, None])[..., 0]
    f = zz - zz @ core @ zz
    hx = half[..., :p]
    spread = (hx @ np.linalg.inv(gram)[:, None] @ np.swapaxes(hx, -1, -2)).sum(axis=1)
    t = f.sum(axis=1) - spread - np.swapaxes(h, 1, 2) @ h / sigma2[:, None, None]
    return Profiled(
        gram=gram, beta=beta, rss=rss, log_det=log_det, slope=np.tril(2.0 * t @ factor),
        minus_two=free * (np.log(2.0 * np.pi * sigma2) + 1.0) + log_det,
    )  # fmt: skip


def fitted(m: Moments) -> MixedFit:
    """REML fits. Columns of Z should be of like size (scale a concentration by its sd); X of full rank.

    Status NO_DEGREES_OF_FREEDOM (too few rows, or not more subjects than random effects of each), NOT_ESTIMABLE (X'X
    singular), NO_VARIATION, NOT_CONVERGED. A singular D is no failure: `singular` says it.

    >>> import numpy as np
    >>> z = np.array([0.3, -1.2, 0.5, 1.9, -0.4, 0.1])
    >>> x = np.ones((1, 6, 1))
    >>> m = moments(x, x, z[None], [0, 0, 1, 1, 2, 2])
    >>> found = fitted(m)
    >>> float(round(found.beta[0, 0], 9)), int(found.status[0])
    (0.2, 0)
    """
    replicates, q, p = m.zz.shape[0], m.zz.shape[2], m.ww.shape[1] - 1
    status = _estimable(m)
    out = {"beta": np.full((replicates, p), np.nan), "d": np.full((replicates, q, q), np.nan),
           "sigma2": np.full(replicates, np.nan), "ll": np.full(replicates, np.nan)}  # fmt: skip
    singular, steps = np.zeros(replicates, bool), np.zeros(replicates, np.int64)
    here = np.flatnonzero(status == 0)
    if here.size:
        part = _take(m, here)
        factor, done, count = _search(part)
        found = profiled(part, factor)
        sigma2 = found.rss / (part.rows - p)
        status[here[~done]] = AnalysisStatus.NOT_CONVERGED
        flat = sigma2 <= 1e-13 * part.ww[:, p, p] / part.rows
        status[here[flat]] = AnalysisStatus.NO_VARIATION
        out["beta"][here], out["sigma2"][here], steps[here] = found.beta, sigma2, count
        out["d"][here] = factor @ np.swapaxes(factor, 1, 2) * sigma2[:, None, None]
        out["ll"][here] = -0.5 * found.minus_two
        singular[here] = np.linalg.svd(factor, compute_uv=False)[:, -1] < SINGULAR
    for array in out.values():
        array[status != 0] = np.nan
    return MixedFit(
        beta=out["beta"], d=out["d"], sigma2=out["sigma2"], log_likelihood=out["ll"], status=status,
        singular=singular, steps=steps, moments=m,
    )  # fmt: skip


def _estimable(m: Moments) -> NDArray[np.int8]:
    p = m.ww.shape[1] - 1
    gram = m.ww[:, :p, :p]
    size = np.sqrt(np.maximum(np.einsum("rpp->rp", gram), 1e-300))
    low = np.linalg.eigvalsh(gram / (size[:, :, None] * size[:, None, :]))[:, 0]
    status = np.where(low > 1e-10, AnalysisStatus.OK, AnalysisStatus.NOT_ESTIMABLE).astype(np.int8)
    here = np.flatnonzero(status == 0)
    cross = m.ww[here, :p, p]
    left = m.ww[here, p, p] - _dot(cross, np.linalg.solve(gram[here], cross[..., None])[..., 0])
    status[here[left <= 1e-13 * m.ww[here, p, p]]] = AnalysisStatus.NO_VARIATION
    people, q = m.rows - m.within, m.zz.shape[2]
    status[(m.rows <= p + 1) | (people <= q)] = AnalysisStatus.NO_DEGREES_OF_FREEDOM
    return status


def _take(m: Moments, here: NDArray[np.intp]) -> Moments:
    return Moments(zz=m.zz[here], zw=m.zw[here], ww=m.ww[here], rows=m.rows[here], within=m.within[here])


def _search(m: Moments) -> tuple[Floats, NDArray[np.bool_], Integers]:
    """Factors (R, q, q), whether each search ended, and steps taken."""
    replicates, q = m.zz.shape[0], m.zz.shape[2]
    places = np.tril_indices(q)
    free = np.tile(np.eye(q)[places] * 0.5, (replicates, 1))
    done, steps = np.zeros(replicates, bool), np.zeros(replicates, np.int64)
    for _ in range(MOST_STEPS):
        live = np.flatnonzero(~done)
        if live.size == 0:
            break
        part = _take(m, live)
        value, slope, bend = _quadratic(part, free[live], places, q)
        step = _newton(slope, bend)
        promise = -_dot(slope, step)
        taken = _backtracked(part, (free[live], step), (value, promise), places)
        free[live] += taken[:, None] * step
        done[live] = (promise < ENOUGH) | (taken == 0.0) & (promise < 1e-5)
        steps[live] += 1
    return _full(free, places, q), done, steps


def _full(free: Floats, places: tuple[NDArray[np.intp], NDArray[np.intp]], q: int) -> Floats:
    made = np.zeros((free.shape[0], q, q))
    made[:, places[0], places[1]] = free
    return made


def _quadratic(
    m: Moments, free: Floats, places: tuple[NDArray[np.intp], NDArray[np.intp]], q: int
) -> tuple[Floats, Floats, Floats]:
    """Value, gradient (R, k) and Hessian (R, k, k) by central differences of the gradient."""
    here = profiled(m, _full(free, places, q))
    bend = np.empty((free.shape[0], free.shape[1], free.shape[1]))
    for k in range(free.shape[1]):
        shift = np.zeros(free.shape[1])
        shift[k] = STEP
        up, down = (profiled(m, _full(free + s * shift, places, q)).slope for s in (1.0, -1.0))
        bend[:, k] = (up - down)[:, places[0], places[1]] / (2.0 * STEP)
    return here.minus_two, here.slope[:, places[0], places[1]], 0.5 * (bend + np.swapaxes(bend, 1, 2))


def _newton(slope: Floats, bend: Floats) -> Floats:
    """Newton's step where the Hessian is positive definite; elsewhere along its absolute curvatures, at most 2 long."""
    values, vectors = np.linalg.eigh(bend)
    size = np.maximum(np.abs(values), 1e-6 * np.maximum(1.0, np.abs(values).max(axis=1, keepdims=True)))
    along = (np.swapaxes(vectors, 1, 2) @ slope[..., None])[..., 0]
    step = -(vectors @ (along / size)[..., None])[..., 0]
    long = np.sqrt(_dot(step, step))
    short: Floats = step * np.minimum(1.0, 2.0 / np.maximum(long, 1e-300))[:, None]
    return short


def _backtracked(
    m: Moments, line: tuple[Floats, Floats], at: tuple[Floats, Floats],
    places: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Floats:  # fmt: skip
    """The share (R,) of each step that lowers the value, halved as often as needed; 0 where none does."""
    (free, step), (value, promise), q = line, at, m.zz.shape[2]
    share, left = np.ones(free.shape[0]), np.ones(free.shape[0], bool)
    for _ in range(MOST_HALVINGS):
        here = np.flatnonzero(left)
        if here.size == 0:
            return share
        with np.errstate(invalid="ignore", divide="ignore"):
            there = profiled(_take(m, here), _full(free[here] + share[here, None] * step[here], places, q)).minus_two
        better = there <= value[here] - 1e-4 * share[here] * promise[here]
        left[here[better]] = False
        share[here[~better]] *= 0.5
    share[left] = 0.0
    return share


def contrast(fit: MixedFit, weights: ArrayLike, df: str = "kenward_roger") -> Contrast:
    """l'beta for weights (p,) or (R, p), with its standard error and degrees of freedom; NaN where there is no fit.

    Errors: InputError for an unknown `df`.
    """
    if df not in DF:
        raise InputError(f"must be one of {', '.join(DF)}", field="df", value=df)
    p = fit.beta.shape[1]
    at = np.broadcast_to(np.asarray(weights, np.float64), fit.beta.shape)
    here = np.flatnonzero(fit.status == 0)
    estimate, se, freedom = (np.full(fit.status.size, np.nan) for _ in range(3))
    if here.size:
        part, at = _take(fit.moments, here), at[here]
        phi, g, covariance, adjustment = _small_sample(part, fit.d[here], fit.sigma2[here])
        plain, slopes = _form(phi, at), _form(g, at[:, None])
        estimate[here] = _dot(at, fit.beta[here])
        extra = _form(adjustment, at) if df == "kenward_roger" else 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            se[here] = np.sqrt(plain + extra)
            satterthwaite = 2.0 * plain**2 / _form(covariance, slopes)
        freedom[here] = {"containment": part.within - (p - 1.0), "normal": np.full(here.size, np.inf)}.get(
            df, satterthwaite
        )
    return Contrast(estimate=estimate, se=se, df=freedom)


def _dot(a: Floats, b: Floats) -> Floats:
    """Sums over the last axis by matmul, whose order of sums does not depend on the batch (einsum's does)."""
    made: Floats = (a[..., None, :] @ b[..., None])[..., 0, 0]
    return made


def _form(matrix: Floats, vector: Floats) -> Floats:
    """v' M v over the last axes."""
    made: Floats = (vector[..., None, :] @ matrix @ vector[..., None])[..., 0, 0]
    return made


def _small_sample(m: Moments, d: Floats, sigma2: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Phi (R, p, p); Phi S_k Phi (R, 1 + m, p, p); covariance of the variance parameters; 2 Lambda of Kenward & Roger.

    V = sigma2 I + sum d_k Z E_k Z'. Terms of sigma2 follow from I = (V - sum d_k V_k) / sigma2.
    """
    q, p = m.zz.shape[2], m.ww.shape[1] - 1
    basis, scale = _basis(q), sigma2[:, None, None, None]
    weight = np.stack([d[:, i, j] for i, j in zip(*np.tril_indices(q), strict=True)], axis=1)
    core = np.linalg.solve(np.eye(q) + d[:, None] / scale @ m.zz, d[:, None] / scale)
    f = (m.zz - m.zz @ core @ m.zz) / scale
    x = m.zw[..., :p]
    h = (x - m.zz @ core @ x) / scale
    flat = (-1, x.shape[1] * q, p)
    gram = (m.ww[:, :p, :p] - np.swapaxes(x.reshape(flat), 1, 2) @ (core @ x).reshape(flat)) / sigma2[:, None, None]
    phi = np.linalg.inv(gram)
    fe = f[:, None] @ basis[:, None]
    eh = basis[:, None] @ h[:, None]  # E_k H: (R, k, N, q, p)
    left = np.swapaxes(h.reshape(flat), 1, 2)
    s = left[:, None] @ eh.reshape(-1, basis.shape[0], *flat[1:])
    trace1 = np.ascontiguousarray(np.trace(fe, axis1=-2, axis2=-1)).sum(axis=-1)
    trace2 = _flat(fe, 3) @ np.swapaxes(_flat(np.swapaxes(fe, -1, -2), 3), 1, 2)
    middle = basis[:, None, None] @ f[:, None, None] @ eh[:, None]  # E_k F E_l H
    mixed = left[:, None, None] @ middle.reshape(-1, basis.shape[0], basis.shape[0], *flat[1:])
    s, trace2, mixed = _with_residual(weight, sigma2, (gram, m.rows), (s, trace1, trace2, mixed))
    sandwich = phi[:, None] @ s @ phi[:, None]
    twice = _flat(sandwich, 2) @ np.swapaxes(_flat(s, 2), 1, 2)  # tr(Phi S_k Phi S_l)
    information = 0.5 * (trace2 - 2.0 * _dot(_flat(mixed, 2), _flat(phi, 2)[:, None, None]) + twice)
    covariance = np.linalg.inv(information)
    inner = mixed - s[:, :, None] @ phi[:, None, None] @ s[:, None]
    inner = (_flat(covariance, 2)[:, None] @ inner.reshape(-1, covariance.shape[1] ** 2, p * p)).reshape(-1, p, p)
    return phi, sandwich, covariance, 2.0 * phi @ inner @ phi


def _flat(array: Floats, axes: int) -> Floats:
    """The last axes as one."""
    return array.reshape(*array.shape[:-axes], -1)


def _weighted(weight: Floats, array: Floats) -> Floats:
    """Sum over k of weight (R, k) times array (R, k, ...)."""
    flat = array.reshape(*weight.shape, -1)
    return (weight[:, None] @ flat).reshape(array.shape[:1] + array.shape[2:])


def _basis(q: int) -> Floats:
    """Symmetric matrices (m, q, q): D = sum d_k E_k."""
    rows = zip(*np.tril_indices(q), strict=True)
    made = []
    for i, j in rows:
        one = np.zeros((q, q))
        one[i, j] = one[j, i] = 1.0
        made.append(one)
    return np.stack(made)


def _with_residual(
    weight: Floats, sigma2: Floats, whole: tuple[Floats, Integers], parts: tuple[Floats, Floats, Floats, Floats]
) -> tuple[Floats, Floats, Floats]:
    """S_k, tr(V^-1 V_k V^-1 V_l) and Q_kl with the residual variance as parameter 0."""
    (gram, rows), (s, trace1, trace2, mixed) = whole, parts
    v = sigma2[:, None]
    s0 = (gram - _weighted(weight, s)) / v[..., None]
    t0 = (rows - _dot(weight, trace1)) / sigma2
    cross = (trace1 - _weighted(weight, trace2)) / v
    corner = (t0 - _dot(weight, cross)) / sigma2
    q0 = (s - _weighted(weight, mixed)) / v[..., None, None]
    q00 = (s0 - _weighted(weight, q0)) / v[..., None]
    top = np.concatenate([corner[:, None], cross], axis=1)[:, None]
    traces = np.concatenate([top, np.concatenate([cross[..., None], trace2], axis=2)], axis=1)
    above = np.concatenate([q00[:, None], q0], axis=1)[:, None]
    below = np.concatenate([np.swapaxes(q0, -1, -2)[:, :, None], mixed], axis=2)
    return np.concatenate([s0[:, None], s], axis=1), traces, np.concatenate([above, below], axis=1)
