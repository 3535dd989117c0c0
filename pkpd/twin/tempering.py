"""Sequential Monte Carlo from the prior to the posterior, for patients whose importance weights cannot be trusted.

Del Moral P, Doucet A, Jasra A, J R Stat Soc B 2006;68:411: the likelihood's power grows so that each level keeps half
of the effective draws; particles are resampled and moved at every level. Several modes survive as long as the prior's
particles reach them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals
from pkpd.twin.case import Case, slots_of
from pkpd.twin.importance import Who, population_draws
from pkpd.twin.moves import Evaluate, Particles, moved, resampled
from pkpd.twin.psis import effective
from pkpd.twin.target import evaluated

__all__ = ["FIRST_LEVEL", "Tempered", "of_patient", "prior_particles", "tempered"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
KEPT, LEVELS, MOVES, LAST = 0.5, 60, 6, 16
FIRST_LEVEL = 50_000_000
"""Levels of tempering are numbered from here, those of updates from 0: their addresses differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempered:
    """Particles of equal weight, levels used, mean share of moves accepted at the last one, distinct (share of
    particles that moved away from their copies), finished: whether the power reached 1.
    """

    particles: Particles
    levels: int
    accepted: float
    distinct: float
    finished: bool


def of_patient(case: Case, patient: int) -> Evaluate:
    """The log prior and log likelihood of all data of one patient."""

    def evaluate(draw: Ints, x: Floats) -> tuple[Floats, Floats]:
        return evaluated(case, np.full(len(draw), patient, np.int64), draw, x)

    return evaluate


def prior_particles(case: Case, patient: int, evaluate: Evaluate, *, seed: int, particles: int) -> Particles:
    """Particles of the prior, by address."""
    who: Who = {"subject": np.arange(particles), "replicate": np.broadcast_to(case.address[patient], (particles,))}
    draw = population_draws(case, seed, Purpose.TWIN_MOVE_DRAW, who=who, index=FIRST_LEVEL - 1)
    wide = {name: a[:, None] for name, a in who.items()}
    z = normals(seed, Purpose.TWIN_MOVE, **wide, index=FIRST_LEVEL - 1, slot=slots_of(case.coordinates)[None])
    x = case.coordinates.places(draw, z)
    prior, likelihood = evaluate(draw, x)
    return Particles(draw=draw, x=x, log_prior=prior, log_likelihood=likelihood, log_weight=np.zeros(particles))


def tempered(case: Case, patient: int, *, seed: int, particles: int) -> Tempered:
    """The posterior of one patient."""
    evaluate = of_patient(case, patient)
    now = prior_particles(case, patient, evaluate, seed=seed, particles=particles)
    power, level, accepted = 0.0, 0, np.nan
    while power < 1.0 and level < LEVELS:
        rise = _rise(now.log_likelihood, power)
        weighted = replace(now, log_weight=np.where(np.isnan(now.log_likelihood), -np.inf, rise * now.log_likelihood))
        power = 1.0 if power + rise > 1.0 - 1e-12 else power + rise
        now = resampled(weighted, case, patient, seed=seed, level=FIRST_LEVEL + level)
        now, accepted = moved(
            now, case, patient, evaluate, seed=seed, level=FIRST_LEVEL + level, moves=LAST if power == 1.0 else MOVES,
            power=power,
        )  # fmt: skip
        level += 1
    distinct = len(np.unique(now.x, axis=0)) / len(now) if now.x.shape[1] else 1.0
    return Tempered(particles=now, levels=level, accepted=accepted, distinct=distinct, finished=power == 1.0)


def _rise(log_likelihood: Floats, power: float) -> float:
    """How far the power may grow until half of the effective draws are left: bisection."""
    usable = np.where(np.isnan(log_likelihood), -np.inf, log_likelihood)
    if not np.isfinite(usable).any():
        return 1.0 - power
    usable = usable - usable.max()

    def left(rise: float) -> float:
        raw = np.exp(rise * usable)
        return float(effective(raw / raw.sum()))

    aim, low, high = (
        KEPT * left(0.0) if np.isfinite(usable).all() else KEPT * np.isfinite(usable).sum(),
        0.0,
        1.0 - power,
    )
    if left(high) >= aim:
        return high
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if left(middle) >= aim else (low, middle)
    return low if low > 0.0 else high
