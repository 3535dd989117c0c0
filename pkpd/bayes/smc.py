"""Sequential Monte Carlo along a path of densities: posteriors with several modes, and evidence.

Particles go from a law that can be drawn from (b = 0) to the one that is wanted (b = 1) through p0^(1-b) p1^b (Del
Moral, Doucet & Jasra 2006, J R Stat Soc B 68:411; annealed weights: Neal 2001, Stat Comput 11:125). The next b leaves
a stated share of effective particles (Jasra et al. 2011, Scand J Stat 38:1), all are resampled, systematically, and
moved by Hamiltonian trajectories whose metric is the mean outer product of the particles' own gradients: that is the
curvature within modes, however far modes lie apart. The product of the mean weights is an unbiased estimate of the
evidence. Numbers come by address: particle, run, move, coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import RunFailed
from pkpd.ground.streams import Purpose, normals, uniforms

__all__ = ["LogDensity", "Path", "Run", "Tuning", "run"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LogDensity = Callable[[Floats], tuple[Floats, Floats]]
"""x (n, d) -> log density (n,) and its gradient (n, d); where it does not exist: -inf and anything."""
LEVELS, TRIES = 400, 200
ACCEPTED, STEPS, QUARTER = 0.8, 24, 0.5 * math.pi
GROWTH, CLIPPED = 1.05, 4.0
MOVES_A_LEVEL = 64
GROUPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """base, normalised; target; draw: standard normals (n, d) -> draws of the base; inside: the region in which both
    are meant, None: everywhere.
    """

    size: int
    base: LogDensity
    target: LogDensity
    draw: Callable[[Floats], Floats]
    inside: Callable[[Floats], Bools] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """kept: share of effective particles at the next level; moves: most at a level; last: of the last level."""

    particles: int = 1000
    kept: float = 0.7
    moves: int = 6
    last: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """x (n, d): draws of equal weight, relatives side by side; log_evidence: log of the target's integral (over the
    region); powers b after each level; accepted: mean acceptance at the last level; families: particles of the start
    that have descendants; evaluations of both densities.
    """

    x: Floats
    log_evidence: float
    powers: tuple[float, ...]
    accepted: float
    families: int
    evaluations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cloud:
    """x (n, d), log densities p0, p1 (n,) and gradients g0, g1 (n, d); root: its first ancestor's number (n,)."""

    x: Floats
    p0: Floats
    p1: Floats
    g0: Floats
    g1: Floats
    root: NDArray[np.int64]

    def at(self, b: float) -> tuple[Floats, Floats]:
        """Log density and gradient of level b."""
        with np.errstate(invalid="ignore"):
            value = np.where(np.isfinite(self.p0) & np.isfinite(self.p1), (1.0 - b) * self.p0 + b * self.p1, -np.inf)
        return value, (1.0 - b) * self.g0 + b * self.g1

    def rows(self, index: NDArray[np.int64]) -> _Cloud:
        return _Cloud(
            x=self.x[index], p0=self.p0[index], p1=self.p1[index], g0=self.g0[index], g1=self.g1[index],
            root=self.root[index],
        )  # fmt: skip

    def with_rows(self, other: _Cloud, taken: Bools) -> _Cloud:
        one, both = taken, taken[:, None]
        return replace(
            self, x=np.where(both, other.x, self.x), p0=np.where(one, other.p0, self.p0),
            p1=np.where(one, other.p1, self.p1), g0=np.where(both, other.g0, self.g0),
            g1=np.where(both, other.g1, self.g1),
        )  # fmt: skip


@dataclass(slots=True)
class _State:
    """What goes on from level to level: log step, number of the next move, evaluations."""

    seed: int
    replicate: int
    log_step: float = math.log(0.5)
    move: int = 0
    evaluations: int = 0
    accepted: float = math.nan
    powers: list[float] = field(default_factory=list)


def run(path: Path, *, seed: int, replicate: int = 0, tuning: Tuning | None = None) -> Run:
    """One run. replicate: number of the run, part of every address.

    Errors: RunFailed where the base has no draws inside the region, the target exists at none of them, or 400 levels
    do not reach it.
    """
    how, state = tuning or Tuning(), _State(seed=seed, replicate=replicate)
    cloud, log_mass = _start(path, state, how.particles)
    evidence, b = log_mass, 0.0
    while b < 1.0:
        if len(state.powers) >= LEVELS:
            raise RunFailed(f"tempering did not arrive after {LEVELS} levels (at {b:.3g})")
        rise = _rise(cloud.p1 - cloud.p0, b, how.kept)
        b, log_weight = (1.0 if b + rise > 1.0 - 1e-12 else b + rise), rise * (cloud.p1 - cloud.p0)
        log_weight = np.where(np.isnan(log_weight), -np.inf, log_weight)
        top = float(log_weight.max())
        weight = np.exp(log_weight - top)
        evidence += top + math.log(float(weight.mean()))
        cloud = cloud.rows(_systematic(weight, state, len(state.powers)))
        cloud = _moved(path, cloud, b, (state, how.last if b == 1.0 else how.moves))
        state.powers.append(b)
    return Run(
        x=cloud.x, log_evidence=evidence, powers=tuple(state.powers), accepted=state.accepted,
        families=len(np.unique(cloud.root)), evaluations=state.evaluations,
    )  # fmt: skip


def _start(path: Path, state: _State, size: int) -> tuple[_Cloud, float]:
    """Draws of the base inside the region, and the log of its share there."""
    found: list[Floats] = []
    count = tried = 0
    for attempt in range(TRIES):
        z = normals(
            state.seed, Purpose.SMC_START, subject=np.arange(size)[:, None], replicate=state.replicate, index=attempt,
            slot=np.arange(path.size)[None],
        )  # fmt: skip
        x = path.draw(z)
        good = np.ones(size, np.bool_) if path.inside is None else path.inside(x)
        found.append(x[good])
        count, tried = count + int(good.sum()), tried + size
        if count >= size:
            break
    else:
        raise RunFailed(f"the start has {count} of {tried} draws in a region that needs {size}")
    cloud = _evaluated(path, np.concatenate(found)[:size], state, np.arange(size))
    if not np.isfinite(cloud.p1).any():
        raise RunFailed("the density exists nowhere at the start: check units and times of the data, and the priors")
    return cloud, math.log(count / tried)


def _evaluated(path: Path, x: Floats, state: _State, root: NDArray[np.int64]) -> _Cloud:
    (p0, g0), (p1, g1) = path.base(x), path.target(x)
    state.evaluations += len(x)
    good = np.isfinite(p1) & np.isfinite(g1).all(axis=1)
    return _Cloud(
        x=x, p0=p0, p1=np.where(good, p1, -np.inf), g0=g0, g1=np.where(good[:, None], g1, 0.0), root=root,
    )  # fmt: skip


def _rise(difference: Floats, b: float, kept: float) -> float:
    """How far b may grow until `kept` of the particles are effective: bisection."""
    usable = np.where(np.isnan(difference), -np.inf, difference)

    def share(rise: float) -> float:
        w = np.exp(rise * (usable - usable.max()))
        return float(w.sum() ** 2 / (w * w).sum() / len(w))

    high = 1.0 - b
    least = np.isfinite(usable).mean() * kept  # what does not exist is lost whatever the step
    if share(high) >= least:
        return high
    low = 0.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) >= least else (low, middle)
    return max(low, 1e-9)


def _systematic(weight: Floats, state: _State, level: int) -> NDArray[np.int64]:
    """Systematic resampling: copies stand side by side, in the order of their parents."""
    n = len(weight)
    u = uniforms(state.seed, Purpose.SMC_RESAMPLE, subject=0, replicate=state.replicate, index=level)
    total = np.cumsum(weight)
    points = (np.arange(n) + float(u)) / n * total[-1]
    return np.asarray(np.minimum(np.searchsorted(total, points, side="right"), n - 1), np.int64)


def _moved(path: Path, cloud: _Cloud, b: float, how: tuple[_State, int]) -> _Cloud:
    """Moves until the particles' distance from where they were grows no more, `most` at most."""
    state, most = how
    roots = _roots(cloud.at(b)[1])
    first, before = cloud.x, 0.0
    for _ in range(min(most, MOVES_A_LEVEL)):
        cloud, accepted = _trajectories(path, cloud, b, (state, roots))
        state.log_step += (accepted - ACCEPTED) / ACCEPTED
        state.accepted = accepted
        away = _grouped(cloud.x - first, [np.linalg.inv(A).T for A in roots])
        distance = float(np.median((away**2).sum(axis=1)))
        if before > 0.0 and distance < GROWTH * before:
            break
        before = distance
    return cloud


def _roots(g: Floats) -> list[Floats]:
    """A metric for each group of particles, from all the others: from their own it would draw them together, and the
    evidence would be too large (a normal law in 30 dimensions, 1000 particles: by 0.5 in its log).
    """
    groups = np.array_split(np.arange(len(g)), GROUPS)
    return [_metric(np.delete(g, group, axis=0)) for group in groups]


def _grouped(v: Floats, matrices: list[Floats]) -> Floats:
    """v (n, d) times the matrix of each row's group; no BLAS, whose threads would only wait for each other here."""
    parts = zip(np.array_split(v, GROUPS), matrices, strict=True)
    return np.concatenate([np.einsum("nj,jk->nk", part, np.ascontiguousarray(A)) for part, A in parts])


def _metric(g: Floats) -> Floats:
    """A with A A' = the inverse of the gradients' mean outer product, outliers drawn in, leaning on its diagonal."""
    n, d = g.shape
    scale = 1.4826 * np.median(np.abs(g), axis=0)
    scale = np.where(scale > 0.0, scale, np.maximum(np.abs(g).mean(axis=0), 1e-12))
    inside = np.clip(g / scale, -CLIPPED, CLIPPED)
    weight = n / (n + 2.0 * d)
    second = weight * (inside.T @ inside) / n
    second[np.diag_indices(d)] += (1.0 - weight) * np.maximum((inside**2).mean(axis=0), 1e-6)
    root = np.linalg.cholesky(second)
    return np.asarray(np.linalg.inv(root).T / scale[:, None])


def _trajectories(path: Path, cloud: _Cloud, b: float, how: tuple[_State, list[Floats]]) -> tuple[_Cloud, float]:
    """One Hamiltonian trajectory of each particle; the mean probability of acceptance, the region aside."""
    state, roots = how
    back = [A.T for A in roots]
    n, d = cloud.x.shape
    who, run_, move = np.arange(n)[:, None], state.replicate, state.move
    state.move += 1
    momentum = normals(
        state.seed, Purpose.SMC_MOVE, subject=who, replicate=run_, index=move, slot=np.arange(d)[None]
    )  # fmt: skip
    u = uniforms(state.seed, Purpose.SMC_ACCEPT, subject=who, replicate=run_, index=move, slot=np.arange(2)[None])
    length = float(uniforms(state.seed, Purpose.SMC_ACCEPT, subject=0, replicate=run_, index=move, slot=2))
    step = math.exp(state.log_step) * (0.8 + 0.4 * u[:, :1])
    steps = int(np.clip(round((0.5 + length) * QUARTER / math.exp(state.log_step)), 1, STEPS))
    value, g = cloud.at(b)
    start = value - 0.5 * (momentum**2).sum(axis=1)
    new, p = cloud, momentum + 0.5 * step * (_grouped(g, roots))
    for k in range(steps):
        with np.errstate(over="ignore", invalid="ignore"):
            new = _evaluated(path, new.x + step * (_grouped(p, back)), state, cloud.root)
            here, g = new.at(b)
            p = p + (0.5 if k == steps - 1 else 1.0) * step * (_grouped(g, roots))
    with np.errstate(over="ignore", invalid="ignore"):
        change = here - 0.5 * (p**2).sum(axis=1) - start
    change = np.where(np.isnan(change), -np.inf, change)
    chance = np.exp(np.minimum(change, 0.0))
    accepted = float(chance.mean())  # of the step's error alone: shorter steps do not keep a path in its region
    if path.inside is not None:
        chance = np.where(path.inside(new.x), chance, 0.0)
    return cloud.with_rows(new, u[:, 1] < chance), accepted
