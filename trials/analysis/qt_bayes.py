"""Concentration and QTc, Bayesian: the posterior of what the drug adds, by importance sampling of the variances.

The model is that of :mod:`trials.analysis.qt`. Given the variances the coefficients are normal, so only four numbers
are sampled: sd of the subjects' intercepts and slopes, their correlation, residual sd. Proposals are Student's t (5
df), first around the mode of their posterior, then, three times, with the weighted mean and covariance of the draws
before. What is reported is the mixture of the normals, weighted by the last round. With flat priors the density of the
variances is the restricted likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis.qt import LEVEL, LIMIT, QtFit
from trials.analysis.random_effects import Moments, whitened

__all__ = ["Added", "Posterior", "Priors", "posterior"]

Floats = NDArray[np.float64]

DRAWS, TAIL, PIECE, ROUNDS = 4000, 5, 500, 4
ENOUGH = 400.0  # effective draws below which the posterior is not reported as sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Half-normal scales of the sds, ms (`slope`: at a concentration of the fit's `scale`); None: flat.

    on_drug, slope_mean: (mean, sd) of the normal priors of the effect of treatment [ms] and of the slope [ms at
    `scale`]; None: flat, as are all other coefficients. The correlation is uniform.
    """

    intercept: float | None = 20.0
    slope: float | None = 20.0
    residual: float | None = 20.0
    on_drug: tuple[float, float] | None = None
    slope_mean: tuple[float, float] | None = None

    @classmethod
    def flat(cls) -> Priors:
        """Flat on every sd and coefficient: the limit that the restricted likelihood is the mode of."""
        return cls(intercept=None, slope=None, residual=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Posterior of ddQTcF at a concentration, ms: mean, sd, interval of `level`, P(ddQTcF < limit)."""

    mean: float
    sd: float
    lower: float
    upper: float
    below: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Draws: weights (K,), sds and correlation (K, 4: intercept, slope at `scale`, correlation, residual), means and
    covariances of the coefficients (K, p), (K, p, p). effective: 1 / sum of squared weights; sound: whether enough."""

    weight: Floats
    variances: Floats
    mean: Floats
    covariance: Floats
    effective: float
    mode: Floats

    @property
    def sound(self) -> bool:
        """Whether the draws are worth at least 400 independent ones."""
        return self.effective >= ENOUGH

    def added(self, weights: ArrayLike, *, level: float = LEVEL, limit: float = LIMIT) -> Added:
        """Of l'beta for weights (p,) (`QtFit.weights`)."""
        l_ = np.asarray(weights, np.float64)
        mean = self.mean @ l_
        sd = np.sqrt(np.einsum("p,kpq,q->k", l_, self.covariance, l_))
        centre = float(self.weight @ mean)
        tail = 0.5 * (1.0 - level)
        lower, upper = (_quantile(p, self.weight, mean, sd) for p in (tail, 1.0 - tail))
        spread = float(np.sqrt(self.weight @ (sd**2 + (mean - centre) ** 2)))
        return Added(mean=centre, sd=spread, lower=lower, upper=upper, below=_below(limit, self.weight, mean, sd))


def _below(x: float, weight: Floats, mean: Floats, sd: Floats) -> float:
    from scipy.special import ndtr

    return float(weight @ ndtr((x - mean) / sd))


def _quantile(p: float, weight: Floats, mean: Floats, sd: Floats) -> float:
    """Of a mixture of normals, by bisection."""
    low, high = float((mean - 12.0 * sd).min()), float((mean + 12.0 * sd).max())
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _below(middle, weight, mean, sd) < p else (low, middle)
    return 0.5 * (low + high)


def posterior(fit: QtFit, priors: Priors | None = None, *, seed: int = 20261121, draws: int = DRAWS) -> Posterior:
    """The posterior of the data set of a fit (one replicate).

    Errors: InputError for more than one replicate, or a fit that failed.
    """
    if fit.status.size != 1 or fit.status[0] != 0:
        raise InputError("needs one data set whose fit succeeded", field="fit", value=fit.status.tolist())
    priors, m = priors or Priors(), fit.fit.moments

    def log_density(u: Floats) -> Floats:
        return _log_posterior(m, u, priors)[0]

    mode, root = _laplace(log_density, _start(fit))
    centre = mode
    for k in range(ROUNDS):
        u, proposal = _proposed(seed, k, (centre, root), draws // 4 if k < ROUNDS - 1 else draws)
        parts = [_log_posterior(m, u[i : i + PIECE], priors) for i in range(0, u.shape[0], PIECE)]
        weight = _normalised(np.concatenate([p[0] for p in parts]) - proposal)
        centre, root = _learned(u, weight)
    return Posterior(
        weight=weight, variances=_natural(u), mean=np.concatenate([p[1] for p in parts]),
        covariance=np.concatenate([p[2] for p in parts]), effective=float(1.0 / (weight @ weight)), mode=_natural(mode),
    )  # fmt: skip


def _proposed(seed: int, k: int, where: tuple[Floats, Floats], draws: int) -> tuple[Floats, Floats]:
    """Draws (K, 4) of the t around `where` (centre, root) in round k, and their log density but for a constant."""
    slot, subject = np.arange(4 + TAIL), np.arange(draws)[:, None]
    z = normals(seed, Purpose.QT_POSTERIOR, subject=subject, replicate=0, index=k, slot=slot)
    t = z[:, :4] * np.sqrt(TAIL / np.einsum("kt,kt->k", z[:, 4:], z[:, 4:]))[:, None]
    return where[0] + t @ where[1].T, -0.5 * (TAIL + 4.0) * np.log1p(np.einsum("ki,ki->k", t, t) / TAIL)


def _normalised(log_weight: Floats) -> Floats:
    weight: Floats = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def _learned(u: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Centre and root of the next round's proposal: weighted mean and covariance, the largest weights cut."""
    cut = np.minimum(weight, 1.0 / np.sqrt(weight.size) / 2.0)
    cut = cut / cut.sum()
    centre = cut @ u
    spread = (u - centre).T @ ((u - centre) * cut[:, None])
    return centre, np.linalg.cholesky(spread * (TAIL - 2.0) / TAIL * 1.3 + 1e-10 * np.eye(u.shape[1]))


def _natural(u: Floats) -> Floats:
    """Sds and correlation from log sd of intercept and slope, Fisher's z of the correlation, log residual sd."""
    made: Floats = np.stack([np.exp(u[..., 0]), np.exp(u[..., 1]), np.tanh(u[..., 2]), np.exp(u[..., 3])], axis=-1)
    return made


def _start(fit: QtFit) -> Floats:
    d, residual = fit.fit.d[0], float(np.sqrt(fit.fit.sigma2[0]))
    sds = np.maximum(np.sqrt(np.diag(d)), 0.05 * residual)
    correlation = float(np.clip(d[0, 1] / (sds[0] * sds[1]), -0.9, 0.9))
    return np.array([np.log(sds[0]), np.log(sds[1]), np.arctanh(correlation), np.log(residual)])


def _log_posterior(m: Moments, u: Floats, priors: Priors) -> tuple[Floats, Floats, Floats]:
    """Log density of u (K, 4) with the coefficients summed out; their mean (K, p) and covariance (K, p, p)."""
    p = m.ww.shape[1] - 1
    sd = _natural(u)
    factor = np.zeros((u.shape[0], 2, 2))
    factor[:, 0, 0] = sd[:, 0] / sd[:, 3]
    factor[:, 1, 0] = sd[:, 2] * sd[:, 1] / sd[:, 3]
    factor[:, 1, 1] = np.sqrt(1.0 - sd[:, 2] ** 2) * sd[:, 1] / sd[:, 3]
    full, log_v, _ = whitened(m, factor)
    full = full / (sd[:, 3] ** 2)[:, None, None]
    information, load, offset = _prior_normal(p, priors)
    gram, cross = full[:, :p, :p] + information, full[:, :p, p] + load
    covariance = np.linalg.inv(gram)
    mean = (covariance @ cross[..., None])[..., 0]
    rest = full[:, p, p] + offset - np.einsum("kp,kp->k", cross, mean)
    log_v = log_v + 2.0 * m.rows[0] * u[:, 3]
    value = -0.5 * (log_v + np.linalg.slogdet(gram)[1] + rest)
    return value + _prior_variances(u, sd, priors), mean, covariance


def _prior_normal(p: int, priors: Priors) -> tuple[Floats, Floats, float]:
    """Information, information times mean, and mean' information mean of the coefficients' normal priors."""
    information, load, offset = np.zeros((p, p)), np.zeros(p), 0.0
    for place, given in ((1, priors.on_drug), (2, priors.slope_mean)):
        if given is not None:
            information[place, place] = given[1] ** -2
            load[place] = given[0] * given[1] ** -2
            offset += given[0] ** 2 * given[1] ** -2
    return information, load, offset


def _prior_variances(u: Floats, sd: Floats, priors: Priors) -> Floats:
    """Log prior of u: half-normal or flat sds, a uniform correlation, and the Jacobian."""
    value = u[:, 0] + u[:, 1] + u[:, 3] + np.log1p(-(sd[:, 2] ** 2))
    for place, scale in ((0, priors.intercept), (1, priors.slope), (3, priors.residual)):
        if scale is not None:
            value = value - 0.5 * (sd[:, place] / scale) ** 2
    return value


def _laplace(log_density: Callable[[Floats], Floats], start: Floats) -> tuple[Floats, Floats]:
    """Mode and a root of the covariance there (curvatures at least 1/9: a proposal never wider than sd 3)."""
    from scipy.optimize import minimize

    def cost(u: Floats) -> float:
        return -float(log_density(u[None])[0])

    found = minimize(cost, start, method="BFGS", options={"gtol": 1e-4})
    step, k = 1e-3, start.size
    e = step * np.eye(k)
    points = [found.x + s * e[i] + t * e[j] for i in range(k) for j in range(k) for s in (1, -1) for t in (1, -1)]
    value = log_density(np.array(points)).reshape(k, k, 2, 2)
    bend = -(value[..., 0, 0] - value[..., 0, 1] - value[..., 1, 0] + value[..., 1, 1]) / (4.0 * step**2)
    values, vectors = np.linalg.eigh(0.5 * (bend + bend.T))
    return found.x, vectors / np.sqrt(np.maximum(values, 1.0 / 9.0))
