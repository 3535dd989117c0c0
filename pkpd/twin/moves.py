"""Resampling and Metropolis-Hastings moves of one patient's particles, for tempering and for data as they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.twin.case import Case, slots_of
from pkpd.twin.importance import Proposal, Who, population_draws, t_density, t_variates

__all__ = ["Evaluate", "Particles", "covariance_of", "moved", "resampled"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEAST = 4
MOST_MOVES = 64
"""Index of an address = level x MOST_MOVES + move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """S particles of one patient: draw (S,), x (S, K), log_prior, log_likelihood (S,), log_weight (S,)."""

    draw: Ints
    x: Floats
    log_prior: Floats
    log_likelihood: Floats
    log_weight: Floats

    def __len__(self) -> int:
        return len(self.draw)

    @property
    def weight(self) -> Floats:
        """Normalised weights (S,)."""
        top = self.log_weight.max()
        raw = np.exp(self.log_weight - top) if np.isfinite(top) else np.ones(len(self.log_weight))
        return np.asarray(raw / raw.sum())

    def taken(self, rows: Ints) -> Particles:
        """The particles of some rows, with equal weights."""
        return Particles(
            draw=self.draw[rows], x=self.x[rows], log_prior=self.log_prior[rows],
            log_likelihood=self.log_likelihood[rows], log_weight=np.zeros(len(rows)),
        )  # fmt: skip


Evaluate = Callable[[Ints, Floats], tuple[Floats, Floats]]
"""draw (S,), x (S, K) -> log prior, log likelihood of the data that count, each (S,)."""


def resampled(particles: Particles, case: Case, patient: int, *, seed: int, level: int) -> Particles:
    """Systematic resampling: one uniform, by address."""
    weight = particles.weight
    u = float(uniforms(seed, Purpose.TWIN_RESAMPLE, subject=0, replicate=case.address[patient], index=level))
    size = len(particles)
    total = np.cumsum(weight)
    rows = np.searchsorted(total / total[-1], (np.arange(size) + u) / size, side="right")
    return particles.taken(np.minimum(rows, size - 1).astype(np.int64))


def covariance_of(particles: Particles) -> tuple[Floats, Floats]:
    """Weighted mean (K,) and covariance (K, K), with a floor that keeps it positive."""
    weight = particles.weight
    mean = weight @ particles.x
    away = particles.x - mean
    return mean, np.einsum("s,si,sj->ij", weight, away, away) + 1e-6 * np.eye(len(mean))


def moved(
    particles: Particles, case: Case, patient: int, evaluate: Evaluate, *, seed: int, level: int, moves: int,
    power: float = 1.0, shape: tuple[Floats, Floats] | None = None,
) -> tuple[Particles, float]:  # fmt: skip
    """Up to `moves` steps that leave prior x likelihood^power unchanged, and the mean share accepted. After `LEAST` of
    them no more are made once all but 1 % of the particles have moved.

    By turns independence steps from a t around `shape` (mean, covariance; with a fresh population draw) and steps along
    the difference of two particles as they were at the start (ter Braak, Stat Comput 2006;16:239: 2.38/sqrt(2 K) of it,
    and every other time all of it, which leads from mode to mode).
    """
    mean, covariance = covariance_of(particles) if shape is None else shape
    wide = Proposal.around(mean[None], covariance[None])
    before, accepted, still = particles.x, [], np.ones(len(particles), np.bool_)
    for k in range(moves):
        index = level * MOST_MOVES + k
        independent = k % 2 == 0
        step = _Step(case=case, patient=patient, seed=seed, index=index, proposal=wide)
        draw, x, back = step.independent(particles) if independent else step.along(particles, before, whole=k % 4 == 3)
        particles, taken = _chosen(particles, (draw, x, back), evaluate, step, power=power)
        accepted.append(float(taken.mean()))
        still &= ~taken
        if k + 1 >= LEAST and still.mean() < 0.01:
            break
    return particles, float(np.mean(accepted)) if accepted else np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    case: Case
    patient: int
    seed: int
    index: int
    proposal: Proposal

    def who(self, size: int) -> Who:
        return {"subject": np.arange(size), "replicate": np.broadcast_to(self.case.address[self.patient], (size,))}

    def _normals(self, size: int) -> Floats:
        wide = {name: a[:, None] for name, a in self.who(size).items()}
        return normals(
            self.seed, Purpose.TWIN_MOVE, **wide, index=self.index, slot=slots_of(self.case.coordinates)[None]
        )

    def independent(self, now: Particles) -> tuple[Ints, Floats, Floats]:
        """Draw, x and log q(now) - log q(proposed)."""
        who = self.who(len(now))
        scale = t_variates(uniforms(self.seed, Purpose.TWIN_MOVE_SCALE, **who, index=self.index))
        x = (
            self.proposal.centre[0, 0]
            + np.einsum("ij,sj->si", self.proposal.root[0, 0], self._normals(len(now))) * scale[:, None]
        )
        draw = population_draws(self.case, self.seed, Purpose.TWIN_MOVE_DRAW, who=who, index=self.index)
        return draw, x, t_density(self.proposal, now.x[None])[0] - t_density(self.proposal, x[None])[0]

    def along(self, now: Particles, before: Floats, *, whole: bool) -> tuple[Ints, Floats, Floats]:
        size, who = len(now), self.who(len(now))
        u = [uniforms(self.seed, Purpose.TWIN_MOVE_DRAW, **who, index=self.index, slot=k) for k in (1, 2)]
        first, second = (np.minimum((v * size).astype(np.int64), size - 1) for v in u)
        away = before[first] - before[second]
        length = 1.0 if whole else 2.38 / np.sqrt(2.0 * max(now.x.shape[1], 1))
        return now.draw, now.x + length * away + 1e-6 * self._normals(size), np.zeros(size)


def _chosen(
    now: Particles, proposed: tuple[Ints, Floats, Floats], evaluate: Evaluate, step: _Step, *, power: float
) -> tuple[Particles, NDArray[np.bool_]]:
    draw, x, back = proposed
    prior, likelihood = evaluate(draw, x)
    with np.errstate(invalid="ignore"):
        ratio = prior + power * likelihood - now.log_prior - power * now.log_likelihood + back
    u = uniforms(step.seed, Purpose.TWIN_ACCEPT, **step.who(len(now)), index=step.index)
    take = np.log(u) < np.where(np.isnan(ratio), -np.inf, ratio)
    return Particles(
        draw=np.where(take, draw, now.draw), x=np.where(take[:, None], x, now.x),
        log_prior=np.where(take, prior, now.log_prior),
        log_likelihood=np.where(take, likelihood, now.log_likelihood), log_weight=now.log_weight,
    ), take  # fmt: skip
