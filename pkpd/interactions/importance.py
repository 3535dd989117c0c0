"""How far the Laplace approximation of a calibration holds: importance weights of its draws under the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.interactions.assembly import predict
from pkpd.interactions.calibration import NU, Calibration, Rows
from pkpd.interactions.predictive import parameter_draws
from pkpd.twin.psis import effective, smoothed

__all__ = ["Moved", "Reweighted", "log_ratios", "moved", "reweighted"]

Floats = NDArray[np.float64]
CHUNK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Reweighted:
    """Draws theta (D, n), their log ratios (D, R), smoothed weights (D,), Pareto k, effective number of draws."""

    theta: Floats
    log_ratio: Floats
    weight: Floats
    k: float
    effective: float


def log_ratios(rows: Rows, theta: Floats) -> Floats:
    """log AUC ratio of every study (D, R) under theta (D, n)."""
    made = np.empty((len(theta), rows.log_ratio.size))
    for index, assembly, _ in rows.chunks:
        for k in range(0, len(theta), CHUNK):
            made[k : k + CHUNK, index] = np.log(predict(assembly, theta[None, k : k + CHUNK]).auc).T
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Draws of the model itself: theta (chain, n) and log ratios (chain, R) at the end, share of moves accepted, and
    of the second half: mean and SD of the log ratios (R,), and their largest split R-hat."""

    theta: Floats
    log_ratio: Floats
    accepted: float
    rhat: float
    mean: Floats
    sd: Floats


def moved(rows: Rows, known: Calibration, *, chains: int, steps: int, seed: int, size: float = 0.3) -> Moved:
    """Laplace draws moved by Markov chains that leave the model's posterior invariant (fitted hyperparameters).

    Preconditioned Crank-Nicolson (Cotter et al., Stat Sci 2013;28:424) with the Laplace approximation as its reference:
    z' = sqrt(1 - size^2) z + size xi, accepted by the ratio of importance weights. All chains are one batch.
    """
    value, vector = np.linalg.eigh(known.covariance)
    root, density = vector * np.sqrt(np.maximum(value, 0.0)), _Target.of(rows, known)
    n, chain = known.theta.size, np.arange(chains)

    def weighed(z: Floats) -> tuple[Floats, Floats]:
        theta = known.theta + z @ root.T
        said = log_ratios(rows, theta)
        return density(theta, said) + 0.5 * (z**2).sum(axis=1), said

    def chance(step: int) -> Floats:
        return normals(seed, Purpose.INTERACTION, subject=chain[:, None], replicate=3, index=step, slot=np.arange(n))

    z = chance(0)
    weight, said = weighed(z)
    kept, accepted = [], 0.0
    for step in range(1, steps + 1):
        proposal = np.sqrt(1.0 - size**2) * z + size * chance(step)
        new, there = weighed(proposal)
        u = uniforms(seed, Purpose.INTERACTION, subject=chain, replicate=4, index=step)
        take = np.log(u) < new - weight
        z, weight = np.where(take[:, None], proposal, z), np.where(take, new, weight)
        said = np.where(take[:, None], there, said)
        accepted += float(take.mean()) / steps
        if step > steps // 2:
            kept.append(said)
    held = np.array(kept)
    return Moved(
        theta=known.theta + z @ root.T, log_ratio=said, accepted=accepted, rhat=_rhat(held),
        mean=held.mean(axis=(0, 1)), sd=held.std(axis=(0, 1)),
    )  # fmt: skip


def _rhat(held: Floats) -> float:
    """The largest R-hat of columns of (step, chain, R), each chain in two halves."""
    half = len(held) // 2
    parts = np.concatenate([held[:half], held[half : 2 * half]], axis=1)
    within = parts.var(axis=0, ddof=1).mean(axis=0)
    between = parts.mean(axis=0).var(axis=0, ddof=1)
    moves = within > 1e-12  # a ratio of 1 by identity does not
    return float(np.sqrt((half - 1) / half + between[moves] / within[moves]).max())


def reweighted(rows: Rows, known: Calibration, *, draws: int, seed: int) -> Reweighted:
    """Weights of Laplace draws under the nonlinear model at the fitted hyperparameters, pair effects integrated out."""
    theta = parameter_draws(known, draws=draws, seed=seed)
    value = log_ratios(rows, theta)
    target = _Target.of(rows, known)(theta, value)
    away = linalg.solve(known.covariance, (theta - known.theta).T, assume_a="pos")
    proposal = -0.5 * np.einsum("dn,nd->d", theta - known.theta, away)
    weight, k = smoothed((target - proposal)[None])
    return Reweighted(
        theta=theta, log_ratio=value, weight=weight[0], k=float(k[0]), effective=float(effective(weight)[0])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """The log density of theta given its log ratios, up to a constant: prior, studies with the weights they have at the
    mode, pair effects integrated out exactly."""

    rows: Rows
    known: Calibration
    weight: Floats

    @classmethod
    def of(cls, rows: Rows, known: Calibration) -> _Target:
        value = log_ratios(rows, known.theta[None])[0]
        own = known.hyper["noise"] ** 2 + (known.hyper["spread"] * value) ** 2
        z2 = (rows.log_ratio - value) ** 2 / (own + (known.hyper["pair"] * value) ** 2)
        return cls(rows=rows, known=known, weight=(NU + 1.0) / (NU + z2))

    def __call__(self, theta: Floats, value: Floats) -> Floats:
        """theta (D, n), value (D, R) -> (D,)."""
        of, hyper, pair = self.rows.layout, self.known.hyper, self.rows.pair
        prior = of.sd * np.array([hyper[name.split(":")[0]] for name in of.names])
        own = (hyper["noise"] ** 2 + (hyper["spread"] * value) ** 2) / self.weight
        left, shared = self.rows.log_ratio - value, hyper["pair"] ** 2
        groups = np.eye(int(pair.max()) + 1)[pair]
        ll, lr = (value**2 / own) @ groups, (value * left / own) @ groups
        whole = (left**2 / own).sum(axis=1) - (shared * lr**2 / (1.0 + shared * ll)).sum(axis=1)
        size = np.log(own).sum(axis=1) + np.log1p(shared * ll).sum(axis=1)
        return np.asarray(-0.5 * ((((theta - of.mean) / prior) ** 2).sum(axis=1) + whole + size))
