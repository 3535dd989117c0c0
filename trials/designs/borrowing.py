"""Borrowing of historical controls: meta-analytic predictive (MAP), robust MAP, power and commensurate priors.

Rates of a binary outcome. The MAP prior is the predictive distribution of a new control's log odds,

    theta_new ~ Normal(mu, tau^2),  mu ~ Normal(m, s^2),  tau ~ HalfNormal(scale),  given the historical groups,

by quadrature. The power prior raises the historical likelihood to a0; the commensurate prior lets the new log odds
differ from the historical ones with SD tau. Success of a two-arm trial is enumerated exactly.

Source: Neuenschwander et al., Clin Trials 2010;7:5; Schmidli et al., Biometrics 2014;70:1023; Ibrahim & Chen, Stat
Sci 2000;15:46; Duan, Ye & Smith, Environmetrics 2006;17:95 (normalised power prior); Hobbs et al., Biometrics
2011;67:1047.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.designs import betas
from trials.designs.betas import Mixture
from trials.designs.hierarchy import Grid, counts, log_marginal, posterior

__all__ = [
    "MapPrior", "Summary", "commensurate", "map_prior", "normalised_power_prior", "power_prior", "success_probability",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean, SD and quantiles."""

    mean: float
    sd: float
    quantiles: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPrior:
    """Posterior `grid` of (mu, tau) and the predictive distribution of the new control's rate: points `rate` (G,) with
    `weight` (G,), sum 1."""

    grid: Grid
    rate: Floats
    weight: Floats

    def mu(self, levels: ArrayLike = (0.025, 0.5, 0.975)) -> Summary:
        """The mean log odds."""
        return _summary(self.grid.mu[:, 0], self.grid.mass.sum(axis=1), 1.0, levels)

    def tau(self, levels: ArrayLike = (0.025, 0.5, 0.975)) -> Summary:
        """The SD between groups."""
        return _summary(self.grid.tau[0], self.grid.mass.sum(axis=0), self.grid.tau_weight, levels)

    def predictive(self, levels: ArrayLike = (0.025, 0.5, 0.975)) -> Summary:
        """The rate of a new control."""
        found = _summary(np.log(self.rate) - np.log1p(-self.rate), self.weight, 1.0, levels)
        mean = float((self.weight * self.rate).sum())
        spread = float(np.sqrt((self.weight * (self.rate - mean) ** 2).sum()))
        return Summary(mean=mean, sd=spread, quantiles=1 / (1 + np.exp(-found.quantiles)))

    def mixture(self, components: int = 2) -> Mixture:
        """The predictive distribution as a mixture of Betas."""
        return betas.fitted(self.rate, self.weight, components=components)


def _summary(x: Floats, mass: Floats, width: ArrayLike, levels: ArrayLike) -> Summary:
    """Moments from masses at nodes; quantiles from the density mass/width, interpolated on a fine grid."""
    from scipy.interpolate import PchipInterpolator

    mean = float((mass * x).sum())
    spread = float(np.sqrt((mass * (x - mean) ** 2).sum()))
    fine = np.linspace(x[0], x[-1], 20001)
    height = mass / np.asarray(width)
    density = PchipInterpolator(x, np.where(height > 1e-20 * height.max(), height, 0.0))(fine)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    wanted = np.asarray(levels, dtype=np.float64)
    return Summary(mean=mean, sd=spread, quantiles=np.interp(wanted, below / below[-1], fine))


def map_prior(events: ArrayLike, n: ArrayLike, *, mean: float = 0.0, sd: float = 2.0, scale: float = 1.0) -> MapPrior:
    """The MAP prior from historical groups (H,) of `events` among `n`.

    >>> found = map_prior([23, 12, 19, 9, 39, 6, 9, 10], [107, 44, 51, 39, 139, 20, 78, 35])
    >>> round(found.predictive().mean, 3), round(found.predictive().sd, 3)
    (0.258, 0.087)
    """
    groups = counts(events, n)
    if not sd > 0 or not scale > 0:
        raise InputError("must be > 0", field="sd", value=[sd, scale])

    def likelihood(mu: Floats, tau: Floats) -> Floats:
        return np.asarray(sum(log_marginal(r, size, mu, tau) for r, size in zip(*groups, strict=True)))

    return _predicted(posterior(likelihood, (mean, sd, scale)))


def _predicted(grid: Grid, limits: tuple[float, float] = (-np.inf, np.inf)) -> MapPrior:
    """Mass of the new control's rate between equally spaced logits: differences of the mixture of normals.

    `limits` of the logit narrow the range where only a part of it matters.
    """
    from scipy.special import ndtr

    useful = grid.mass > 1e-12 * grid.mass.max()
    mu, tau = (np.broadcast_to(part, grid.mass.shape)[useful] for part in (grid.mu, grid.tau))
    mass, centre = grid.mass[useful], grid.mean(grid.mu)
    reach = 12 * float(np.sqrt(grid.mean((grid.mu - centre) ** 2 + grid.tau**2)))
    edges = np.linspace(max(centre - reach, limits[0]), min(centre + reach, limits[1]), 1201)
    below = np.array([(mass * ndtr((edge - mu) / tau)).sum() for edge in edges]) / mass.sum()
    middle = (edges[1:] + edges[:-1]) / 2
    weight = np.diff(below)
    kept = weight > 0
    return MapPrior(grid=grid, rate=1 / (1 + np.exp(-middle[kept])), weight=weight[kept] / weight[kept].sum())


def power_prior(
    a0: float, historical: tuple[int, int], current: tuple[int, int], *, prior: tuple[float, float] = (1.0, 1.0)
) -> Mixture:
    """Posterior of a rate from (events, n) of history at power `a0` and of the current group.

    >>> power_prior(0.5, (30, 100), (8, 30)).a
    (24.0,)
    """
    if not 0 <= a0 <= 1:
        raise InputError("must lie in 0 ... 1", field="a0", value=a0)
    (x0, n0), (x, n) = historical, current
    counts([x0, x], [n0, n])
    return Mixture.beta(prior[0] + a0 * x0 + x, prior[1] + a0 * (n0 - x0) + n - x)


def normalised_power_prior(
    historical: tuple[int, int], current: tuple[int, int], *, prior: tuple[float, float] = (1.0, 1.0),
    a0_prior: tuple[float, float] = (1.0, 1.0), points: int = 101,
) -> tuple[Mixture, Floats]:  # fmt: skip
    """Posterior when a0 ~ Beta(`a0_prior`) is learnt: a mixture over Gauss-Legendre nodes of a0; and E[a0], sd[a0].

    The prior given a0 is normalised, so that the likelihood of the history at power a0 cannot reward small a0 by
    itself.
    """
    from scipy.special import betaln

    (x0, n0), (x, n) = historical, current
    counts([x0, x], [n0, n])
    node, weight = np.polynomial.legendre.leggauss(points)
    a0 = (node + 1) / 2
    a, b = prior[0] + a0 * x0, prior[1] + a0 * (n0 - x0)
    log = betaln(a + x, b + n - x) - betaln(a, b) + np.log(weight)
    log = log + (a0_prior[0] - 1) * np.log(a0) + (a0_prior[1] - 1) * np.log1p(-a0)
    share = np.exp(log - log.max())
    share = share / share.sum()
    found = Mixture(weights=tuple(share.tolist()), a=tuple((a + x).tolist()), b=tuple((b + n - x).tolist()))
    centre = float((share * a0).sum())
    return found, np.array([centre, float(np.sqrt((share * (a0 - centre) ** 2).sum()))])


def commensurate(
    historical: tuple[int, int], current: tuple[int, int], *, scale: float = 1.0, mean: float = 0.0, sd: float = 2.0,
    levels: ArrayLike = (0.025, 0.5, 0.975),
) -> tuple[Summary, Summary]:  # fmt: skip
    """Posterior of the current rate, and of the SD tau between the log odds of history and of the current group.

    logit p0 ~ Normal(mean, sd^2); logit p | p0, tau ~ Normal(logit p0, tau^2); tau ~ HalfNormal(scale): small tau
    borrows.
    """
    (old, new), (n_old, n_new) = counts([historical[0], current[0]], [historical[1], current[1]])
    grid = posterior(lambda mu, tau: _binomial(old, n_old, mu) + 0.0 * tau, (mean, sd, scale))
    prior = _predicted(grid, _range_of(new, n_new))
    theta = np.log(prior.rate) - np.log1p(-prior.rate)
    log = _binomial(new, n_new, theta)
    weight = prior.weight * np.exp(log - log.max())
    rate = MapPrior(grid=grid, rate=prior.rate, weight=weight / weight.sum()).predictive(levels)
    joint = log_marginal(new, n_new, grid.mu, grid.tau)
    mass = grid.mass * np.exp(joint - joint.max())
    return rate, _summary(grid.tau[0], mass.sum(axis=0) / mass.sum(), grid.tau_weight, levels)


def _binomial(events: float, n: float, logit: Floats) -> Floats:
    """Log likelihood of one group at its log odds."""
    return np.asarray(events * logit - n * np.logaddexp(0.0, logit))


def _range_of(events: float, n: float) -> tuple[float, float]:
    """The logits where the likelihood of one group is not negligible."""
    if n == 0:
        return -np.inf, np.inf
    p = (events + 0.5) / (n + 1)
    centre, reach = np.log(p / (1 - p)), 12 / np.sqrt((n + 1) * p * (1 - p))
    return (centre - reach if events > 0 else -np.inf), (centre + reach if events < n else np.inf)


def success_probability(
    control: Mixture, sizes: tuple[int, int], rates: ArrayLike, *, treated: Mixture | None = None,
    threshold: float = 0.975, margin: float = 0.0,
) -> Floats:  # fmt: skip
    """Exact P(success) of a two-arm trial of (treated, control) `sizes`, at pairs of true `rates` (..., 2) (treated,
    control).

    Success: P(p_treated > p_control + margin | data) > `threshold`; `control` and `treated` (default Beta(1, 1)) are
    the priors. At p_treated = p_control this is the type I error.

    >>> prior = betas.robust(Mixture.beta(11, 32), 0.8)
    >>> success_probability(prior, (48, 24), [[0.35, 0.35]]).round(6).tolist()
    [0.062529]
    """
    from scipy.special import comb

    pairs = np.atleast_2d(np.asarray(rates, dtype=np.float64))
    (m, n), other = sizes, treated or Mixture.beta(1.0, 1.0)
    first = [betas.updated(other, x, m) for x in range(m + 1)]
    second = [betas.updated(control, x, n) for x in range(n + 1)]
    wins = betas.above(first, second, margin=margin) > threshold
    found = np.empty(pairs.shape[0])
    for place, (high, low) in enumerate(pairs):
        x, y = np.arange(m + 1), np.arange(n + 1)
        chance = comb(m, x) * high**x * (1 - high) ** (m - x), comb(n, y) * low**y * (1 - low) ** (n - y)
        found[place] = (chance[0][:, None] * chance[1] * wins).sum()
    return found
