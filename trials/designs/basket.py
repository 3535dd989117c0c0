"""Basket trials: response rates of J baskets, exchangeable or not (EXNEX), by quadrature.

    r_j ~ Binomial(n_j, expit(theta_j)),   theta_j ~ Normal(mu, tau^2) with probability `exchange`,
                                                  Normal(nex_mean, nex_sd^2) otherwise,
    mu ~ Normal(mean, sd^2),  tau ~ HalfNormal(scale)

`exchange` = 1 is the plain hierarchical model, 0 is separate analyses. Given (mu, tau) the baskets are independent:
each has one integral over theta_j (cells of equal width whose prior mass is a difference of normal distribution
functions), and (mu, tau) is summed over a grid. At a look a basket without prospect stops.

Source: Neuenschwander, Wandel, Roychoudhury & Bailey, Pharm Stat 2016;15:123; Berry et al., Clin Trials 2013;10:720.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.designs.hierarchy import log_half_normal

__all__ = ["Analysis", "Prior", "Trials", "analyse", "decide", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
SPAN, CELLS = 9.0, 720  # of the log odds: beyond +-9 rates are 0.0001 or 0.9999
CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """The parameters of the model above."""

    exchange: float = 0.5
    mean: float = 0.0
    sd: float = 2.0
    scale: float = 1.0
    nex_mean: float = 0.0
    nex_sd: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.exchange <= 1:
            raise InputError("must lie in 0 ... 1", field="exchange", value=self.exchange)
        if min(self.sd, self.scale, self.nex_sd) <= 0:
            raise InputError("must be > 0", field="sd", value=[self.sd, self.scale, self.nex_sd])


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """By trial and basket (R, J): posterior `mean` of the rate, probability `above` the null rate, and posterior
    probability `exchangeable`."""

    mean: Floats
    above: Floats
    exchangeable: Floats


def _nodes(prior: Prior) -> tuple[Floats, Floats, Floats]:
    """mu, tau and log weight of the nodes (K,)."""
    mu = np.linspace(max(prior.mean - 5 * prior.sd, -SPAN), min(prior.mean + 5 * prior.sd, SPAN), 141)
    x, w = np.polynomial.legendre.leggauss(6)
    edges = prior.scale * np.array([0.0, 0.05, 0.2, 0.5, 1.0, 1.8, 3.0, 5.0])
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    tau, weight = (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()
    grid_mu, grid_tau = np.meshgrid(mu, tau, indexing="ij")
    log = -0.5 * ((grid_mu - prior.mean) / prior.sd) ** 2 + log_half_normal(grid_tau, prior.scale) + np.log(weight)
    return grid_mu.ravel(), grid_tau.ravel(), log.ravel()


def _cells(mean: ArrayLike, sd: ArrayLike, border: float) -> tuple[Floats, Floats]:
    """Log odds at the middle of the cells (C,) and their mass under Normal(mean, sd^2) (..., C).

    One edge lies on `border`, so that no cell straddles the null rate; the outermost cells hold the tails.
    """
    from scipy.special import ndtr

    width = 2 * SPAN / CELLS
    edges = border + width * np.arange(np.ceil((-SPAN - border) / width), np.floor((SPAN - border) / width) + 1)
    inner = (edges[1:-1] - np.asarray(mean)[..., None]) / np.asarray(sd)[..., None]
    below = np.asarray(ndtr(inner), dtype=np.float64)
    ends = np.zeros((*below.shape[:-1], 1))
    mass = np.diff(np.concatenate([ends, below, ends + 1], axis=-1), axis=-1)
    return (edges[1:] + edges[:-1]) / 2, mass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """For each different basket outcome (U,) and node (K,): likelihood `total`, its part `above` the null, times the
    rate `moment`, and the exchangeable part `shared` of the total."""

    total: Floats
    above: Floats
    moment: Floats
    shared: Floats


def _parts(prior: Prior, outcomes: Ints, null: Floats) -> _Parts:
    """`outcomes` (U, 2): responses and subjects; `null` (U,). Outcomes of one null rate share their cells."""
    nodes = 1 if prior.exchange == 0 else _nodes(prior)[0].size
    found = {name: np.empty((len(null), nodes)) for name in ("total", "above", "moment", "shared")}
    for rate in np.unique(null):
        rows = null == rate
        for name, part in _of_null(prior, outcomes[rows], float(rate)).items():
            found[name][rows] = part
    return _Parts(**found)


def _of_null(prior: Prior, outcomes: Ints, null: float) -> dict[str, Floats]:
    mu, tau, _ = _nodes(prior)
    border = float(np.log(null / (1 - null)))
    theta, alone = _cells(np.array(prior.nex_mean), np.array(prior.nex_sd), border)
    r, n = outcomes.T[:, :, None].astype(np.float64)
    log = r * theta - n * np.logaddexp(0.0, theta)
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    weights = {
        "total": likelihood, "above": likelihood * (theta > border), "moment": likelihood / (1 + np.exp(-theta)),
    }  # fmt: skip
    mass = _cells(mu, tau, border)[1] if prior.exchange > 0 else None
    shared = {name: np.zeros((len(w), 1)) if mass is None else _summed(mass, w) for name, w in weights.items()}
    own = {name: (alone * w).sum(axis=1)[:, None] for name, w in weights.items()}
    mixed = {name: prior.exchange * shared[name] + (1 - prior.exchange) * own[name] for name in weights}
    return mixed | {"shared": prior.exchange * shared["total"]}


def _summed(mass: Floats, weights: Floats) -> Floats:
    """Sums over cells (U, K), outcome by outcome along the last axis, where the likelihood is not negligible."""
    found = np.zeros((len(weights), len(mass)))
    for place, w in enumerate(weights):
        used = np.flatnonzero(w > 1e-14)
        if used.size:
            span = slice(int(used[0]), int(used[-1]) + 1)
            found[place] = (mass[:, span] * w[span]).sum(axis=1)
    return found


def analyse(prior: Prior, responses: ArrayLike, n: ArrayLike, null: ArrayLike) -> Analysis:
    """Posterior of every basket (R, J) from `responses` among `n` (R, J or J), against `null` rates (J,).

    >>> found = analyse(Prior(exchange=0.0), [[8, 2]], [20, 20], 0.2)
    >>> found.above.round(2).tolist()
    [[0.98, 0.14]]
    """
    r = np.atleast_2d(np.asarray(responses, dtype=np.int64))
    size = np.broadcast_to(np.asarray(n, dtype=np.int64), r.shape)
    limits = np.broadcast_to(np.asarray(null, dtype=np.float64), r.shape[1:])
    if (r < 0).any() or (r > size).any() or not ((limits > 0) & (limits < 1)).all():
        raise InputError("must be 0 ... n, and null rates inside 0 ... 1", field="responses", value=r[:3].tolist())
    rows, back = np.unique(np.concatenate([r, size], axis=1), axis=0, return_inverse=True)
    baskets = r.shape[1]
    keys = np.stack(
        [rows[:, :baskets], rows[:, baskets:], np.broadcast_to(np.arange(baskets), rows[:, :baskets].shape)]
    )
    different, place = np.unique(keys.reshape(3, -1).T, axis=0, return_inverse=True)
    parts = _parts(prior, different[:, :2], limits[different[:, 2]])
    found = _posterior(prior, parts, np.asarray(place).reshape(rows.shape[0], baskets))
    order = np.asarray(back).reshape(-1)
    return Analysis(mean=found[0][order], above=found[1][order], exchangeable=found[2][order])


def _posterior(prior: Prior, parts: _Parts, place: Ints) -> tuple[Floats, Floats, Floats]:
    """Mean, probability above, probability exchangeable (rows, J): averages over the nodes' posterior."""
    log_prior = _nodes(prior)[2]
    logs = np.log(np.maximum(parts.total, 1e-300))
    ratios = [part / np.maximum(parts.total, 1e-300) for part in (parts.moment, parts.above, parts.shared)]
    found = np.empty((3, *place.shape))
    for start in range(0, place.shape[0], CHUNK):
        here = place[start : start + CHUNK]
        log = np.tile(log_prior, (here.shape[0], 1))
        for basket in range(place.shape[1]):
            log += logs[here[:, basket]]
        mass = np.exp(log - log.max(axis=1, keepdims=True))
        mass /= mass.sum(axis=1, keepdims=True)
        for kind, ratio in enumerate(ratios):
            for basket in range(place.shape[1]):
                found[kind, start : start + CHUNK, basket] = (mass * ratio[here[:, basket]]).sum(axis=1)
    return found[0], found[1], found[2]


def decide(above: ArrayLike, active: ArrayLike, *, futility: float) -> Flags:
    """The rule at a look: the baskets (R, J) that go on, from their probabilities to beat the null.

    >>> decide([[0.9, 0.04, 0.5]], [[True, True, False]], futility=0.05).tolist()
    [[True, False, False]]
    """
    return np.asarray(np.asarray(active, dtype=np.bool_) & (np.asarray(above) >= futility), dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Simulated trials (R, J): `success` of each basket, its `responses` and size `n`, and the last `analysis`."""

    success: Flags
    responses: Ints
    n: Ints
    analysis: Analysis


def simulate(
    prior: Prior, truth: ArrayLike, looks: ArrayLike, *, null: ArrayLike, threshold: float, futility: float = 0.0,
    seed: int, replicates: ArrayLike,
) -> Trials:  # fmt: skip
    """Trials with looks after `looks` (L, J) or (J,) subjects in each basket; a basket whose probability to beat the
    null falls below `futility` stops (its data stay), and one that ends with more than `threshold` is a success.

    Address: subject in order of entry, slot = basket; a response when u < the basket's true rate.
    """
    p, plan = np.atleast_1d(np.asarray(truth, dtype=np.float64)), np.atleast_2d(np.asarray(looks, dtype=np.int64))
    if plan.shape[1] != p.size or (np.diff(plan, axis=0) < 0).any() or (plan[0] < 1).any():
        raise InputError("needs one size a basket, increasing from look to look", field="looks", value=plan.tolist())
    names = np.asarray(replicates, dtype=np.int64)
    who = {"subject": np.arange(int(plan.max())), "replicate": names[:, None, None], "slot": np.arange(p.size)[:, None]}
    response = uniforms(seed, Purpose.BASKET, **who) < p[:, None]
    so_far = np.concatenate([np.zeros((names.size, p.size, 1), np.int64), np.cumsum(response, axis=2)], axis=2)
    active = np.ones((names.size, p.size), np.bool_)
    n = np.zeros((names.size, p.size), np.int64)
    for sizes in plan:
        n = np.where(active, sizes, n)
        r = np.take_along_axis(so_far, n[:, :, None], axis=2)[:, :, 0]
        found = analyse(prior, r, n, null)
        active = decide(found.above, active, futility=futility)
    return Trials(success=active & (found.above > threshold), responses=r, n=n, analysis=found)
