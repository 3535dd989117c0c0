"""A quick look at a posterior: Laplace, and Pathfinder from many starts, with Pareto k. Seconds, and no fit.

In the coordinates of `centring`, in which what is each subject's own is about standard normal whatever the population,
a joint mode stands near the mode of the population with its subjects integrated out. Laplace: the normal law there.
Pathfinder (Zhang, Carpenter, Gelman & Vehtari 2022, J Mach Learn Res 23(306):1-49): L-BFGS from every start; of the
normal laws along its path (inverse Hessian from the last steps, their algorithms 3 and 4) the one nearest to the
posterior in estimated ELBO; draws of all paths. Both are drawn again with Pareto-smoothed importance weights, whose k
says how far the law is from the posterior: above 0.7 few draws would have all the weight, and the law is drawn from as
it is, Pathfinder's of the greatest ELBO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import RunFailed
from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.twin.psis import effective, smoothed

if TYPE_CHECKING:
    from pkpd.bayes.smc import LogDensity

__all__ = ["BAD_K", "Normal", "Quick", "laplace", "looked", "pathfinder"]

Floats = NDArray[np.float64]
BAD_K = 0.7
MEMORY, ELBO_DRAWS, ITERATIONS, POOL = 12, 25, 500, 4
STEP = 1e-4
HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """middle + spread(z), z standard normal (n, d); log_root: log determinant of the map; elbo: estimated, 0 where it
    was not.
    """

    middle: Floats
    spread: Callable[[Floats], Floats]
    log_root: float
    elbo: float = 0.0

    def draw(self, z: Floats) -> tuple[Floats, Floats]:
        """Draws (n, d) and their log density (n,)."""
        size = z.shape[1]
        return self.middle + self.spread(z), -0.5 * (z * z).sum(axis=1) - self.log_root - size * HALF_LOG_2PI


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """x (draws, d); k: Pareto's shape of the importance weights; effective: draws behind them; log_evidence: log mean
    weight; paths: normal laws that were drawn from; weighted: whether draws were taken anew by their weights, which k
    allows up to 0.7.
    """

    method: str
    x: Floats
    k: float
    effective: float
    log_evidence: float
    paths: int
    weighted: bool

    @property
    def sentence(self) -> str:
        """What it is, and what it is worth."""
        name = {"laplace": "Laplace", "pathfinder": "Pathfinder"}[self.method]
        worth = "close to the posterior" if self.k <= 0.5 else "usable" if self.k <= BAD_K else "far from the posterior"
        return (
            f"A quick look ({name}), not a fit: Pareto k {self.k:.2f}, {worth}; fit with --method nuts before anything "
            "rests on it."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "method": self.method, "pareto_k": self.k, "effective": self.effective, "log_evidence": self.log_evidence,
            "paths": self.paths, "weighted": self.weighted,
        }  # fmt: skip


def looked(method: str, density: LogDensity, starts: Floats, *, seed: int, draws: int) -> Quick:
    """Draws by `laplace` (from the first start) or `pathfinder` (from each of starts (paths, d)).

    Errors: RunFailed where no start leads anywhere.
    """
    laws = [laplace(density, starts[0])] if method == "laplace" else [
        law for k, start in enumerate(starts) if (law := pathfinder(density, start, seed=seed, path=k)) is not None
    ]  # fmt: skip
    if not laws:
        raise RunFailed("no path of the optimiser leads anywhere: check units and times of the data, and the priors")
    each, d = -(-POOL * draws // len(laws)), starts.shape[1]
    drawn = [law.draw(_normals(seed, k, each, d, use=0)) for k, law in enumerate(laws)]
    x, log_q = np.concatenate([a for a, _ in drawn]), np.concatenate([b for _, b in drawn])
    with np.errstate(invalid="ignore"):
        log_weight = density(x)[0] - log_q
    log_weight = np.where(np.isnan(log_weight), -np.inf, log_weight)
    weights, k_hat = smoothed(log_weight[None])
    usable = bool(np.isfinite(weights).all())
    weighted = usable and bool(k_hat[0] <= BAD_K)
    best = np.repeat([law.elbo == max(one.elbo for one in laws) for law in laws], each).astype(np.float64)
    u = uniforms(seed, Purpose.QUICK_LOOK, subject=0, replicate=0, index=9)
    taken = _taken(weights[0] if weighted else best, float(u), draws)
    top = float(log_weight.max())
    return Quick(
        method=method, x=x[taken], k=float(k_hat[0]) if usable else float("inf"),
        effective=float(effective(weights)[0]) if usable else 0.0, paths=len(laws), weighted=weighted,
        log_evidence=top + float(np.log(np.exp(log_weight - top).mean())),
    )  # fmt: skip


def _normals(seed: int, path: int, count: int, size: int, *, use: int) -> Floats:
    return normals(
        seed, Purpose.QUICK_LOOK, subject=np.arange(count)[:, None], replicate=path, index=use,
        slot=np.arange(size)[None],
    )  # fmt: skip


def _taken(weights: Floats, u: float, count: int) -> NDArray[np.int64]:
    """Systematic draws by weight, put in an order that has nothing to do with the pool's."""
    total = np.cumsum(weights)
    places = np.searchsorted(total, (np.arange(count) + u) / count * total[-1], side="right")
    step = next(s for s in range(int(0.618 * count) | 1, 2 * count + 2) if np.gcd(s, count) == 1)
    order = (np.arange(count) * step) % count
    return np.asarray(np.minimum(places, len(weights) - 1)[order], np.int64)


def laplace(density: LogDensity, start: Floats) -> Normal:
    """The normal law at the mode that is uphill of start (d,). Errors: RunFailed where there is none."""
    path = _climbed(density, start)
    if path is None:
        raise RunFailed("the optimiser finds no mode: check units and times of the data, and the priors")
    x = path[0][-1]
    for _ in range(3):
        g, precision = _curvature(density, x)
        values, vectors = np.linalg.eigh(precision)
        values = np.maximum(np.abs(values), 1e-8 * np.abs(values).max())
        near = x + np.clip((vectors / values) @ (vectors.T @ g), -1.0, 1.0)
        if not density(near[None])[0][0] >= density(x[None])[0][0]:
            break
        x = near
    root = vectors / np.sqrt(values)
    return Normal(
        middle=x, spread=lambda z: np.asarray(np.einsum("jk,nk->nj", root, z)),
        log_root=-0.5 * float(np.log(values).sum()),
    )  # fmt: skip


def _curvature(density: LogDensity, x: Floats) -> tuple[Floats, Floats]:
    """Gradient, and minus its slopes by central differences."""
    h = STEP * np.eye(len(x))
    g = density(np.concatenate([x[None], x + h, x - h]))[1]
    up, down = g[1 : len(x) + 1], g[len(x) + 1 :]
    made = (down - up) / (2.0 * STEP)
    return g[0], np.asarray(0.5 * (made + made.T))


def _climbed(density: LogDensity, start: Floats) -> tuple[Floats, Floats] | None:
    """Points and gradients along L-BFGS uphill; None where the start has no density, or nothing was gained."""
    from scipy.optimize import minimize

    worst = 1e300

    def down(x: Floats) -> tuple[float, Floats]:
        value, g = density(x[None])
        return (float(-value[0]), -g[0]) if np.isfinite(value[0]) else (worst, np.zeros(len(x)))

    if not np.isfinite(density(start[None])[0][0]):
        return None
    points = [start.copy()]
    minimize(
        down, start, jac=True, method="L-BFGS-B", callback=lambda x: points.append(np.array(x)),
        options={"maxcor": MEMORY, "maxiter": ITERATIONS, "ftol": 1e-12, "gtol": 1e-6},
    )  # fmt: skip
    x = np.stack(points)
    value, g = density(x)
    good = np.isfinite(value)
    return (x[good], g[good]) if good.sum() > 1 else None


def pathfinder(density: LogDensity, start: Floats, *, seed: int, path: int) -> Normal | None:
    """The best normal law along one path; None where there is no path."""
    found = _climbed(density, start)
    if found is None:
        return None
    x, g = found
    size = len(start)
    z = _normals(seed, path, ELBO_DRAWS, size, use=1)
    diagonal = np.ones(size)
    steps: list[tuple[Floats, Floats]] = []
    best, chosen = -np.inf, None
    for k in range(1, len(x)):
        s, y = x[k] - x[k - 1], g[k - 1] - g[k]
        if s @ y > 1e-12 * (y @ y):
            diagonal = _diagonal(diagonal, s, y)
            steps = [*steps, (s, y)][-MEMORY:]
        law = _law(x[k], g[k], diagonal, steps)
        if law is None:
            continue
        at, log_q = law.draw(z)
        elbo = float((density(at)[0] - log_q).mean())
        if elbo > best:
            best, chosen = elbo, replace(law, elbo=elbo)
    return chosen


def _diagonal(a: Floats, s: Floats, y: Floats) -> Floats:
    """The diagonal inverse Hessian after a step (their algorithm 3; Gilbert & Lemarechal 1989)."""
    first, second, third = (y * y * a).sum(), s @ y, (s * s / a).sum()
    return np.asarray(1.0 / (first / (second * a) + y * y / second - first * s * s / (second * third * a * a)))


def _law(x: Floats, g: Floats, a: Floats, steps: list[tuple[Floats, Floats]]) -> Normal | None:
    """Normal(x + H g, H) of the inverse Hessian H = diag(a) + B C B', by a thin QR (their algorithm 4)."""
    if not steps or not (a > 0.0).all():
        return None
    S, Y = (np.stack([pair[k] for pair in steps], axis=1) for k in (0, 1))
    E = np.triu(S.T @ Y)
    inverse = np.linalg.inv(E)
    eta = np.diag(E).copy()
    m = len(steps)
    C = np.zeros((2 * m, 2 * m))
    C[:m, m:], C[m:, :m] = -inverse, -inverse.T
    C[m:, m:] = inverse.T @ (np.diag(eta) + Y.T @ (a[:, None] * Y)) @ inverse
    half = np.sqrt(a)
    Q, R = np.linalg.qr(np.concatenate([half[:, None] * Y, S / half[:, None]], axis=1))
    inner = np.eye(len(R)) + R @ C @ R.T
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
    if not (np.isfinite(values).all() and values.min() > 1e-12):
        return None
    grown = Q @ vectors
    own = np.sqrt(values) - 1.0
    pull = half * g
    move = half * (pull + grown @ ((values - 1.0) * (grown.T @ pull)))
    return Normal(
        middle=x + move, spread=lambda z: half * (z + ((z @ grown) * own) @ grown.T),
        log_root=float(np.log(half).sum() + 0.5 * np.log(values).sum()),
    )  # fmt: skip
