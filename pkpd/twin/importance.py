"""Importance sampling of every patient's posterior from a t distribution around the mode, checked by Pareto k.

The proposal is 0.9 t + 0.1 prior: the prior's share finds a second mode, and bounds the weights. Its particles are the
first tenth, so that the mixture is stratified. Owen A, Zhou Y, J Am Stat Assoc 2000;95:135 (defensive mixtures).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.twin.case import Case, slots_of
from pkpd.twin.psis import effective, smoothed
from pkpd.twin.target import evaluated

__all__ = ["Cloud", "Proposal", "drawn", "importance", "moments", "refitted", "t_density", "t_variates"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Who = dict[str, NDArray[np.int64] | NDArray[np.uint32]]
"""subject and replicate of addresses, broadcast against each other."""
DF = 6.0
INFLATED = 1.15
"""Variance of the proposal over that of the Laplace approximation: a t too narrow costs more than one too wide."""
PRIOR_SHARE = 0.1
LEAST = 0.1
"""Share of a further mode, however small its Laplace mass: that mass is itself a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A mixture of t distributions with `DF` degrees of freedom of every patient: centre (n, J, K), lower triangle (n,
    J, K, K), share (n, J) of the components.
    """

    centre: Floats
    root: Floats
    share: Floats

    @classmethod
    def around(cls, centre: Floats, covariance: Floats, share: Floats | None = None) -> Proposal:
        """Around modes with their Laplace covariances, (n, J, K) and (n, J, K, K), or one: (n, K) and (n, K, K)."""
        if centre.ndim == 2:
            centre, covariance = centre[:, None], covariance[:, None]
        parts = np.ones(centre.shape[:2]) if share is None else np.where(share > 1e-12, np.maximum(share, LEAST), 0.0)
        root = np.linalg.cholesky(INFLATED * covariance)
        return cls(centre=centre, root=root, share=parts / parts.sum(axis=1, keepdims=True))

    @property
    def ends(self) -> Floats:
        """Cumulative shares (n, J)."""
        return np.asarray(np.cumsum(self.share, axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Weighted particles of n patients: draw (n, S), x (n, S, K), weight (n, S) normalised, log_likelihood (n, S), raw
    log weights (n, S), k (n,) Pareto shape, ess (n,) effective number of draws; failed (n,): share of particles whose
    solve failed or that the data rule out.
    """

    draw: Ints
    x: Floats
    weight: Floats
    log_likelihood: Floats
    log_weight: Floats
    k: Floats
    ess: Floats
    failed: Floats


def importance(case: Case, proposal: Proposal, *, seed: int, particles: int, round_: int = 0) -> Cloud:
    """S weighted particles of every patient."""
    n, size = len(case), case.coordinates.size
    draw, x = drawn(case, proposal, seed=seed, particles=particles, round_=round_)
    who = np.repeat(np.arange(n), particles)
    prior, found = evaluated(case, who, draw.ravel(), x.reshape(n * particles, size))
    log_prior, log_likelihood = prior.reshape(n, particles), found.reshape(n, particles)
    head = _head(particles)
    other = np.log(1.0 - head / particles) + t_density(proposal, x)
    own = np.log(head / particles) + log_prior if head else np.full_like(other, -np.inf)
    raw = log_prior + log_likelihood - np.logaddexp(other, own)
    raw = np.where(np.isnan(raw), -np.inf, raw)
    weight, k = smoothed(raw)
    return Cloud(
        draw=draw, x=x, weight=weight, log_likelihood=log_likelihood, log_weight=raw, k=k, ess=effective(weight),
        failed=np.mean(~np.isfinite(log_likelihood), axis=1),
    )  # fmt: skip


def _head(particles: int) -> int:
    return int(PRIOR_SHARE * particles)


def drawn(case: Case, proposal: Proposal, *, seed: int, particles: int, round_: int) -> tuple[Ints, Floats]:
    """Population draws (n, S) and x (n, S, K) of the proposal, by address."""
    n, size = len(case), case.coordinates.size
    who: Who = {"subject": np.arange(particles)[None, :], "replicate": case.address[:, None]}
    draw = population_draws(case, seed, Purpose.TWIN_DRAW, who=who, index=round_)
    wide = {name: a[..., None] for name, a in who.items()}
    z = normals(seed, Purpose.TWIN_PROPOSAL, **wide, index=round_, slot=slots_of(case.coordinates)[None, None, :])
    scale = t_variates(uniforms(seed, Purpose.TWIN_SCALE, **who, index=round_))
    head = _head(particles)
    x = _placed(proposal, z * scale[..., None], head)
    x[:, :head] = case.coordinates.places(
        draw[:, :head].ravel(), np.ascontiguousarray(z[:, :head]).reshape(n * head, size)
    ).reshape(n, head, size)
    return draw, x


def _placed(proposal: Proposal, t: Floats, head: int) -> Floats:
    """Standard t vectors (n, S, K) in the components: those after the first `head`, in the order of the shares."""
    size = t.shape[1]
    u = (np.arange(size) - head + 0.5) / max(size - head, 1)
    which = np.minimum((u[None, :, None] > proposal.ends[:, None, :]).sum(axis=2), proposal.share.shape[1] - 1)
    x = np.empty_like(t)
    for j in range(proposal.share.shape[1]):
        moved = proposal.centre[:, j, None, :] + np.einsum("nij,nsj->nsi", proposal.root[:, j], t)
        x = np.where((which == j)[..., None], moved, x)
    return x


def population_draws(case: Case, seed: int, purpose: Purpose, *, who: Who, index: int) -> Ints:
    """Uniform numbers of population draws, at the broadcast shape of `who`."""
    shape = np.broadcast_shapes(*(np.shape(a) for a in who.values()))
    if case.number == 1:
        return np.zeros(shape, np.int64)
    u = uniforms(seed, purpose, **who, index=index)
    return np.minimum((u * case.number).astype(np.int64), case.number - 1)


def t_variates(u: Floats) -> Floats:
    """sqrt(DF / chi-square) at probability u: what turns a normal vector into a t one."""
    from scipy import special

    return np.asarray(np.sqrt(DF / (2.0 * special.gammaincinv(0.5 * DF, u))))


def t_density(proposal: Proposal, x: Floats) -> Floats:
    """Log density of the proposal's mixture of t at x (n, S, K), (n, S)."""
    total = np.full(x.shape[:2], -np.inf)
    for j in range(proposal.share.shape[1]):
        there = proposal.share[:, j] > 0.0
        if there.any():
            part = np.full(x.shape[:2], -np.inf)
            one = _one_density(proposal.centre[there, j], proposal.root[there, j], x[there])
            part[there] = one + np.log(proposal.share[there, j, None])
            total = np.logaddexp(total, part) if j else part
    return total


def _one_density(centre: Floats, root: Floats, x: Floats) -> Floats:
    """Of one t distribution a patient, (n, S)."""
    from scipy import special

    size = x.shape[2]
    away = x - centre[:, None, :]
    total = np.zeros(x.shape[:2])
    made: list[Floats] = []
    for i in range(size):
        rest = away[:, :, i]
        for j in range(i):
            rest = rest - root[:, i, j, None] * made[j]
        made.append(rest / root[:, i, i, None])
        total = total + made[i] * made[i]
    constant = special.gammaln(0.5 * (DF + size)) - special.gammaln(0.5 * DF) - 0.5 * size * np.log(DF * np.pi)
    volume = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(constant - volume[:, None] - 0.5 * (DF + size) * np.log1p(total / DF))


def moments(x: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Weighted mean (n, K) and covariance (n, K, K) of particles x (n, S, K)."""
    mean = np.einsum("ns,nsk->nk", weight, x)
    away = x - mean[:, None, :]
    return mean, np.einsum("ns,nsi,nsj->nij", weight, away, away)


def refitted(cloud: Cloud) -> Proposal:
    """A proposal around what the particles say, for another round."""
    mean, covariance = moments(cloud.x, cloud.weight)
    size = mean.shape[1]
    floor = 1e-4 * np.eye(size)
    return Proposal.around(mean, covariance + floor)
