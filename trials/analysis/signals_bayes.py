"""Full Bayes on the hyperparameters of the gamma-Poisson shrinker: their posterior, and scores averaged over it.

Prior: logarithms of the four gamma parameters normal (0, 2), p even; component 1 is the one of the larger mean.
Posterior by adaptive importance sampling: a mixture of t laws (5 degrees of freedom) at every optimum of the fit,
refitted to its own weighted draws a few times; then Pareto-smoothed weights of fresh draws (Vehtari et al., J Mach
Learn Res 2024;25:72), whose shape k says whether the draws can stand for the posterior (up to 0.7). Cells that are
equal are one with a weight. EBGM, EB05 and EB95 are those of the mean posterior of lambda over draws of the
hyperparameters. Adaptive mixtures of importance sampling: Douc et al., Ann Stat 2007;35:420.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.streams import Purpose, uniforms
from trials.analysis.signals_fit import (
    Cells,
    Fit,
    Shrunk,
    SignalStatus,
    Theta,
    Truncation,
    below,
    cells_of,
    coordinates,
    log_likelihood,
    logs_and_share,
    shrunk,
    theta_of,
)

if TYPE_CHECKING:
    from trials.analysis.signals_list import Signals

__all__ = [
    "NAMES", "PRIOR_SD", "FullBayes", "Hyperposterior", "full_bayes", "hyperposterior", "log_prior", "shrunk_over",
    "swapped",
]  # fmt: skip

Floats = NDArray[np.float64]
NAMES: Final = ("alpha1", "beta1", "alpha2", "beta2", "p")
PRIOR_SD: Final = 2.0
WORST_K: Final = 0.7
_ROUNDS: Final = (3000, 3000, 3000, 4000, 4000, 5000)
_DRAWS, _KEPT, _DF, _MORE, _TRIES = 10_000, 400, 5.0, 6, 4
Parts = list[tuple[float, Floats, Floats]]  # weight, centre (5,), scale (5, 5) of a t law


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperposterior:
    """Posterior of (alpha1, beta1, alpha2, beta2, p): mean, sd, quantiles 2.5 %, 50 %, 97.5 % (5,) each; k: Pareto's
    shape, effective: number of draws they are worth; kept: draws of equal weight; evaluations of the likelihood.
    """

    mean: Floats
    sd: Floats
    low: Floats
    median: Floats
    high: Floats
    k: float
    effective: float
    kept: tuple[Theta, ...]
    evaluations: int

    @property
    def sound(self) -> bool:
        """May the draws be used? k at most 0.7 and worth at least 400 draws."""
        return self.k <= WORST_K and self.effective >= 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FullBayes:
    """Posterior of the hyperparameters and scores over it (K,), NaN where its draws cannot be used; pairs that meet
    EB05 >= 2 there and with the fitted hyperparameters (changed: one but not the other).
    """

    posterior: Hyperposterior
    shrunk: Shrunk
    meets: int
    changed: int

    @property
    def words(self) -> str:
        """One sentence."""
        post = self.posterior
        worth = f"Pareto k {post.k:.2f}, worth {post.effective:.0f} draws"
        if not post.sound:
            return f"Full Bayes: the posterior of the hyperparameters was not found ({worth}); no scores over it."
        return (
            f"Full Bayes: {self.meets} pairs have EB05 >= 2 over the posterior of the hyperparameters ({worth}); "
            f"{self.changed} pairs are judged otherwise than with the fitted ones."
        )


def full_bayes(found: Signals, *, seed: int, truncation: Truncation = "component") -> FullBayes:
    """The posterior of a table of pairs and its scores. Errors: InputError where hyperparameters were given."""
    from pkpd.ground.errors import InputError
    from trials.analysis.signals import with_zeros

    if found.fit is None:
        remedy = "leave theta out"
        raise InputError("are given: there is no posterior of them", field="theta", remedy=remedy)
    made, table = found.counts, (found.counts.n, found.counts.expected, None)
    n, expected, weight = with_zeros(made) if truncation == "none" else table
    post = hyperposterior(n, expected, found.fit, seed=seed, weight=weight, truncation=truncation)
    if not post.sound:
        none = np.full(made.n.size, np.nan)
        empty = Shrunk(ebgm=none, eb05=none, eb95=none, weight=none)
        return FullBayes(posterior=post, shrunk=empty, meets=0, changed=0)
    near = found.shrunk if found.theta is not None else shrunk(made.n, made.expected, post.kept[0])
    over = shrunk_over(made.n, made.expected, post.kept, near)
    meets = over.eb05 >= 2.0
    changed = int((meets != (found.shrunk.eb05 >= 2.0)).sum()) if found.theta is not None else 0
    return FullBayes(posterior=post, shrunk=over, meets=int(meets.sum()), changed=changed)


def log_prior(x: Floats) -> Floats:
    """Log density (S,) at rows (S, 5) of (log alpha1, log beta1, log alpha2, log beta2, logit p), where component 1 has
    the larger mean. Components may change places, so it is twice that of five independent quantities.
    """
    sizes = -0.5 * (x[:, :4] ** 2).sum(axis=1) / PRIOR_SD**2 - 4.0 * np.log(PRIOR_SD) - 2.0 * np.log(2.0 * np.pi)
    return np.asarray(sizes - np.logaddexp(0.0, x[:, 4]) - np.logaddexp(0.0, -x[:, 4]) + np.log(2.0))


def swapped(x: Floats) -> Floats:
    """The components in each other's place, rows (S, 5)."""
    return np.column_stack([x[:, 2], x[:, 3], x[:, 0], x[:, 1], -x[:, 4]])


def hyperposterior(
    n: ArrayLike, expected: ArrayLike, fit: Fit, *, seed: int, weight: ArrayLike | None = None,
    truncation: Truncation = "component",
) -> Hyperposterior:  # fmt: skip
    """The posterior given the counts. fit: where the search begins; weight: how many cells have (n, expected).

    A fit at no optimum is a start as good as others: the posterior is proper whatever the likelihood.
    """
    cells = cells_of(n, expected, weight, truncation)
    parts = _parts(_starts(fit), cells)
    made, evaluations = None, 0
    for number, size in enumerate((*_ROUNDS, *([_DRAWS] * _TRIES))):
        x = _ordered(_drawn(parts, seed, number, size))
        evaluations += size
        log_weights = _target(x, cells) - np.logaddexp(_log_density(x, parts), _log_density(swapped(x), parts))
        if number >= len(_ROUNDS):
            made = _summary(x, log_weights, evaluations, seed)
            if made.sound:
                break
        weight = _normal(log_weights)
        parts = [*parts, *_spread(x, weight, _MORE if number == 0 else 2)]
        for _ in range(4):
            parts = _refitted(x, weight, parts)
    assert made is not None
    return made


def _ordered(x: Floats) -> Floats:
    """Component 1 the one of the larger mean."""
    return np.where((x[:, 0] - x[:, 1] >= x[:, 2] - x[:, 3])[:, None], x, swapped(x))


def _target(x: Floats, cells: Cells) -> Floats:
    """Log posterior density but for a constant, of either order of the components; far out there is nothing."""
    inside = np.abs(x).max(axis=1) < 40.0
    out = np.full(len(x), -np.inf)
    out[inside] = log_prior(x[inside]) + log_likelihood(x[inside], cells)
    return np.where(np.isfinite(out), out, -np.inf)


def _starts(fit: Fit) -> list[Floats]:
    """Where modes are looked for: optima of the fit, or a bulk about 1 with a minority of larger mean."""
    if fit.status is not SignalStatus.OK:
        return [np.array([0.7, -0.7, 0.7, 0.7, -2.0])]
    return [coordinates(fit.theta), *(coordinates(theta) for _, theta in fit.others)]


def _parts(starts: list[Floats], cells: Cells) -> Parts:
    """Two parts that stay: the prior's width, and the best mode's bulk with a minority as wide as the prior, which may
    have the smaller mean too. Then a t law at the posterior mode near each start, weights by Laplace's evidence.
    """
    from scipy.optimize import minimize

    found: list[tuple[float, Floats, Floats]] = []

    def loss(x: Floats) -> float:
        return -_bounded(x, cells)

    for start in starts:
        best = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 800, "xatol": 1e-3, "fatol": 1e-3})
        centre = np.asarray(best.x, np.float64)
        if any(np.abs(centre - other).max() < 0.1 for _, other, _ in found):
            continue
        scale = _inverse(_curvature(centre, cells))
        found.append((-float(best.fun) + 0.5 * float(np.linalg.slogdet(scale)[1]), centre, scale))
    evidence = _normal(np.array([e for e, _, _ in found]))
    mixed = np.maximum(evidence, 0.1)
    modes = [(float(w), c, 1.5 * s) for w, (_, c, s) in zip(0.8 * mixed / mixed.sum(), found, strict=True)]
    _, centre, scale = max(found, key=lambda part: part[0])
    bulk = [2, 3] if centre[4] < 0 else [0, 1]
    loose = PRIOR_SD**2 * np.eye(5)
    loose[2:4, 2:4] = 1.5 * scale[np.ix_(bulk, bulk)]
    minority = np.array([0.0, 0.0, *centre[bulk], -abs(centre[4])])
    return [(0.1, np.zeros(5), PRIOR_SD**2 * np.eye(5)), (0.1, minority, loose), *modes]


def _bounded(x: Floats, cells: Cells) -> float:
    value = float(_target(x[None, :], cells)[0])
    return value if np.isfinite(value) else -1e12


def _curvature(x: Floats, cells: Cells) -> Floats:
    """Minus the Hessian of the log posterior by differences of values."""
    step, size = 0.02, len(x)
    move = step * np.eye(size)
    middle, out = _bounded(x, cells), np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            a, b = move[i], move[j]
            if i == j:
                out[i, i] = -(_bounded(x + a, cells) - 2.0 * middle + _bounded(x - a, cells)) / step**2
                continue
            four = [_bounded(x + s * a + t * b, cells) for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
            out[i, j] = out[j, i] = -(four[0] - four[1] - four[2] + four[3]) / (4.0 * step**2)
    return out


def _inverse(curvature: Floats) -> Floats:
    """A covariance whatever the curvature: no direction wider than the prior, none of no width."""
    sizes, axes = np.linalg.eigh(0.5 * (curvature + curvature.T))
    return np.asarray((axes / np.clip(sizes, 1.0 / PRIOR_SD**2, 1e6)) @ axes.T)


def _normal(log_weights: Floats) -> Floats:
    w = np.exp(log_weights - log_weights.max())
    return np.asarray(w / w.sum())


def _drawn(parts: Parts, seed: int, number: int, size: int) -> Floats:
    """Draws (size, 5) of the mixture, by address."""
    from scipy.special import gammaincinv, ndtri

    draw, columns = np.arange(size), np.arange(7)
    u = uniforms(seed, Purpose.SIGNAL_PRIOR, subject=draw[:, None], replicate=0, index=number, slot=columns[None, :])
    part = np.searchsorted(np.cumsum([w for w, _, _ in parts])[:-1], u[:, 6])
    spread = np.sqrt(_DF / (2.0 * gammaincinv(0.5 * _DF, u[:, 5])))[:, None]
    z, out = ndtri(u[:, :5]) * spread, np.empty((size, 5))
    for k, (_, centre, scale) in enumerate(parts):
        mine = part == k
        out[mine] = centre + z[mine] @ np.linalg.cholesky(scale).T
    return out


def _log_t(x: Floats, centre: Floats, scale: Floats) -> Floats:
    from scipy.special import gammaln

    low = np.linalg.cholesky(scale)
    z = np.linalg.solve(low, (x - centre).T)
    size = x.shape[1]
    constant = gammaln(0.5 * (_DF + size)) - gammaln(0.5 * _DF) - 0.5 * size * np.log(_DF * np.pi)
    return np.asarray(constant - np.log(np.diag(low)).sum() - 0.5 * (_DF + size) * np.log1p((z**2).sum(axis=0) / _DF))


def _log_density(x: Floats, parts: Parts) -> Floats:
    from scipy.special import logsumexp

    return np.asarray(logsumexp([np.log(w) + _log_t(x, c, s) for w, c, s in parts], axis=0))


def _spread(x: Floats, weight: Floats, more: int) -> Parts:
    """More parts: about the draw of the largest weight, where one was lacking, and about weighted draws far from it and
    from one another; posteriors are ridges, with one bend or several.
    """
    flat = weight**0.5 / (weight**0.5).sum()
    middle = flat @ x
    wide = ((x - middle) * flat[:, None]).T @ (x - middle) + 1e-6 * np.eye(5)
    z = np.linalg.solve(np.linalg.cholesky(wide), (x - middle).T).T
    chosen = [int(flat.argmax())]
    while len(chosen) < more:
        nearest = np.min([((z - z[k]) ** 2).sum(axis=1) for k in chosen], axis=0)
        chosen.append(int((nearest * flat).argmax()))
    return [(0.06, x[k], 0.5 * wide) for k in chosen]


def _refitted(x: Floats, weight: Floats, parts: Parts) -> Parts:
    """One step of EM for a mixture of t laws on weighted draws; the first two parts, and those that nothing comes from,
    are left as they are.
    """
    logs = np.stack([np.log(w) + _log_t(x, c, s) for w, c, s in parts])
    share = np.exp(logs - logs.max(axis=0))
    share /= share.sum(axis=0)
    out: Parts = []
    for (_, centre, scale), mine in zip(parts, share, strict=True):
        own = weight * mine
        total, effective = float(own.sum()), float(own.sum() ** 2 / max(float((own**2).sum()), 1e-300))
        if len(out) < 2:
            out.append((max(total, 0.1), centre, scale))
            continue
        if effective < 30.0:
            out.append((max(total, 0.03), centre, scale))
            continue
        distance = ((np.linalg.solve(np.linalg.cholesky(scale), (x - centre).T)) ** 2).sum(axis=0)
        pull = own * (_DF + 5.0) / (_DF + distance)
        middle = (pull @ x) / pull.sum()
        apart = x - middle
        wide = (apart * pull[:, None]).T @ apart / total
        out.append((max(total, 0.03), middle, wide + 1e-8 * np.eye(5)))
    whole = sum(w for w, _, _ in out)
    return [(w / whole, c, s) for w, c, s in out]


def _summary(x: Floats, log_weights: Floats, evaluations: int, seed: int) -> Hyperposterior:
    from pkpd.twin.psis import effective, smoothed

    weights, k = smoothed(log_weights[None, :])
    w = weights[0]
    values = np.column_stack([np.exp(x[:, :4]), 1.0 / (1.0 + np.exp(-x[:, 4]))])
    mean = w @ values
    order = np.argsort(values, axis=0)
    total = np.cumsum(w[order], axis=0)
    quantiles = [
        np.array([values[order[:, j], j][np.searchsorted(total[:, j], q).clip(max=len(w) - 1)] for j in range(5)])
        for q in (0.025, 0.5, 0.975)
    ]
    shift = uniforms(seed, Purpose.SIGNAL_PRIOR, subject=0, replicate=0, index=len(_ROUNDS) + _TRIES)
    places = np.searchsorted(np.cumsum(w), (np.arange(_KEPT) + float(shift)) / _KEPT).clip(max=len(w) - 1)
    return Hyperposterior(
        mean=mean, sd=np.sqrt(w @ (values - mean) ** 2), low=quantiles[0], median=quantiles[1], high=quantiles[2],
        k=float(k[0]), effective=float(effective(w)), kept=tuple(theta_of(x[p]) for p in places),
        evaluations=evaluations,
    )  # fmt: skip


def shrunk_over(n: ArrayLike, expected: ArrayLike, draws: tuple[Theta, ...], near: Shrunk) -> Shrunk:
    """EBGM, EB05, EB95 of the mean posterior of lambda over draws. near: scores to begin the search at, (K,).

    >>> from trials.analysis.signals_fit import shrunk
    >>> held = Theta(alpha1=3.2538, beta1=0.3999, alpha2=2.0261, beta2=1.9081, p=0.0653)
    >>> plain = shrunk([16], [0.40643623], held)
    >>> same = shrunk_over([16], [0.40643623], (held, held), plain)
    >>> bool(abs(same.eb05[0] / plain.eb05[0] - 1) < 1e-6)
    True
    """
    counts, means = (np.asarray(v, dtype=np.float64).ravel() for v in np.broadcast_arrays(n, expected))
    found, first, back = np.unique(np.stack([counts, means]), axis=1, return_index=True, return_inverse=True)
    logs, share = np.zeros(len(first)), np.zeros(len(first))
    for theta in draws:
        log, q = logs_and_share(found[0], found[1], theta)
        logs += log / len(draws)
        share += q / len(draws)
    low, high = (
        _quantile(q, (found[0], found[1]), draws, getattr(near, name).ravel()[first])
        for q, name in ((0.05, "eb05"), (0.95, "eb95"))
    )
    back = back.ravel()
    return Shrunk(ebgm=np.exp(logs)[back], eb05=low[back], eb95=high[back], weight=share[back])


def _quantile(u: float, cells: tuple[Floats, Floats], draws: tuple[Theta, ...], start: Floats) -> Floats:
    """Where the mean distribution function is u: secant steps in log lambda, inside a bracket that they narrow."""
    from scipy.special import ndtri

    def height(x: Floats, where: NDArray[np.bool_]) -> Floats:
        n, e = cells[0][where], cells[1][where]
        cdf = sum(below(np.exp(x), n, e, theta) for theta in draws) / len(draws)
        return np.asarray(ndtri(np.clip(cdf, 1e-12, 1.0 - 1e-12)) - ndtri(u))

    every = np.ones(len(start), np.bool_)
    x0 = np.log(start)
    h0 = height(x0, every)
    x1 = x0 - np.clip(0.4 * h0, -1.0, 1.0) - 1e-4
    for _ in range(25):
        moving = np.abs(x1 - x0) > 1e-7
        if not moving.any():
            break
        h1 = height(x1[moving], moving)
        slope = (h1 - h0[moving]) / (x1[moving] - x0[moving])
        step = np.clip(-h1 / np.where(slope > 0.05, slope, 2.0), -0.7, 0.7)
        x0[moving], h0[moving] = x1[moving], h1
        x1[moving] = x1[moving] + step
    return np.asarray(np.exp(x1))
