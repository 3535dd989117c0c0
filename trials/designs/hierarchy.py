"""Binomial groups with normal log odds: the quadrature beneath MAP priors, commensurate priors and baskets.

    r_h ~ Binomial(n_h, expit(theta_h)),   theta_h ~ Normal(mu, tau^2)

The likelihood of a group given (mu, tau) integrates theta_h out by Gauss-Hermite quadrature about the mode of its
integrand (adaptive; Naylor & Smith, J R Stat Soc C 1982;31:214): accurate for any ratio of tau to the width of the
likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Grid", "counts", "log_half_normal", "log_marginal", "posterior", "tau_nodes"]

Floats = NDArray[np.float64]
HERMITE = 21
"""Points of the quadrature over theta."""


def counts(events: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Events and subjects (H,) of groups."""
    r, size = np.atleast_1d(np.asarray(events, dtype=np.float64)), np.atleast_1d(np.asarray(n, dtype=np.float64))
    if r.shape != size.shape or (r < 0).any() or (r > size).any():
        raise InputError("must be 0 ... n, group by group", field="events", value=r.tolist())
    return r, size


def log_marginal(events: Floats, n: Floats, mean: ArrayLike, sd: ArrayLike, *, moment: bool = False) -> Floats:
    """Log likelihood of counts given mean and SD of their log odds theta, theta integrated out; all broadcast.

    Binomial coefficients are left out. `moment`: the rate itself times the likelihood is integrated, so that the
    ratio of the two is the expected rate.
    """
    r, size = np.broadcast_arrays(np.asarray(events, dtype=np.float64), np.asarray(n, dtype=np.float64))
    mu, tau = np.asarray(mean, dtype=np.float64), np.asarray(sd, dtype=np.float64)
    events_, n_ = r + (1.0 if moment else 0.0), size + (1.0 if moment else 0.0)
    mode = _mode(events_, n_, mu, tau)
    p = 1 / (1 + np.exp(-mode))
    width = 1 / np.sqrt(n_ * p * (1 - p) + 1 / tau**2)
    x, w = np.polynomial.hermite.hermgauss(HERMITE)
    theta = mode[..., None] + np.sqrt(2.0) * width[..., None] * x
    log = events_[..., None] * theta - n_[..., None] * np.logaddexp(0.0, theta)
    log = log - 0.5 * ((theta - mu[..., None]) / tau[..., None]) ** 2 + x**2 + np.log(w)
    top = log.max(axis=-1)
    total = np.log(np.exp(log - top[..., None]).sum(axis=-1)) + top
    return np.asarray(total + np.log(width) - np.log(tau) - 0.5 * np.log(np.pi))


def _mode(events: Floats, n: Floats, mu: Floats, tau: Floats) -> Floats:
    """The mode over theta by Newton's steps from a shrunken estimate; the target is log-concave."""
    start = np.log((events + 0.5) / (n - events + 0.5))
    weight = n / 4 / (n / 4 + 1 / tau**2)
    theta = np.asarray(weight * start + (1 - weight) * mu)
    for _ in range(30):
        p = 1 / (1 + np.exp(-theta))
        step = (events - n * p - (theta - mu) / tau**2) / (n * p * (1 - p) + 1 / tau**2)
        theta = theta + np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < 1e-9:
            break
    return theta


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Posterior of (mu, tau): nodes `mu` (M, 1) equally spaced, `tau` (1, T) with Gauss-Legendre weights `tau_weight`
    (T,), and their `mass` (M, T), sum 1."""

    mu: Floats
    tau: Floats
    mass: Floats
    tau_weight: Floats

    def mean(self, values: ArrayLike) -> float:
        """Posterior mean of values that broadcast against (M, T)."""
        return float((self.mass * np.asarray(values)).sum())


def tau_nodes(scale: float) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights of tau under a half-normal prior of this scale, in panels finer towards 0."""
    x, w = np.polynomial.legendre.leggauss(8)
    edges = scale * np.array([0.0, 0.02, 0.06, 0.15, 0.3, 0.5, 0.8, 1.2, 1.8, 2.6, 4.0, 6.5])
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def log_half_normal(tau: Floats, scale: float) -> Floats:
    """Log density of the half-normal prior."""
    return np.asarray(0.5 * np.log(2 / np.pi) - np.log(scale) - 0.5 * (tau / scale) ** 2)


def posterior(
    likelihood: Callable[[Floats, Floats], Floats], prior: tuple[float, float, float], *, finest: float = 10.0
) -> Grid:
    """Posterior of mu ~ Normal(m, s^2), tau ~ HalfNormal(scale), `prior` = (m, s, scale), on a grid placed by a
    coarse one.

    `likelihood`: log likelihood (M, T) at mu (M, 1), tau (T,). The step of mu is a posterior SD over `finest`, over the
    range that holds all but 1e-9 of the peak's height.
    """
    mean, sd, scale = prior
    tau, weight = tau_nodes(scale)
    flat = log_half_normal(tau, scale) + np.log(weight)

    def log(mu: Floats) -> Floats:
        return np.asarray(likelihood(mu[:, None], tau) - 0.5 * ((mu[:, None] - mean) / sd) ** 2 + flat)

    mu = np.linspace(mean - 6 * sd, mean + 6 * sd, 181)
    for _ in range(2):
        found = log(mu)
        mass = np.exp(found - found.max())
        by_mu = mass.sum(axis=1) / mass.sum()
        spread = float(np.sqrt((by_mu * (mu - (by_mu * mu).sum()) ** 2).sum()))
        inside = np.flatnonzero(by_mu > 1e-9 * by_mu.max())
        low, high = float(mu[max(inside[0] - 1, 0)]), float(mu[min(inside[-1] + 1, mu.size - 1)])
        step = max(spread, float(mu[1] - mu[0]) / 4) / finest
        mu = np.linspace(low, high, int(np.clip((high - low) / step, 101, 1001)))
    found = log(mu)
    mass = np.exp(found - found.max())
    return Grid(mu=mu[:, None], tau=tau[None, :], mass=mass / mass.sum(), tau_weight=weight)
