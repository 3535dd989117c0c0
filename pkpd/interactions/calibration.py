"""Calibration of the dynamic model on observed AUC ratios: penalised least squares with its own gradient, Laplace
covariance.

log y = s log f(theta) + error; theta ~ N(mean, (scale sd)^2) as in the `Layout`; s = 1 + pair effect, N(0, pair^2),
the part of a pair
that no parameter of either drug explains; error of a study: variance noise^2 + (spread log f)^2, Student-like weights
(nu = 6). The
scales of parameter groups and the three standard deviations maximise the marginal likelihood of the model linearised
at the
current theta (type II maximum likelihood with log-normal priors). The gradient is by central differences of each row in
the few parameters it knows, all in one batch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from pkpd.interactions.assembly import Assembly, assemble, predict
from pkpd.interactions.drug import Drug
from pkpd.interactions.model import Layout
from pkpd.interactions.observed import Study

__all__ = ["Calibration", "Rows", "fit", "prepare"]

Floats = NDArray[np.float64]
GROUPS: Final = ("mech", "potency", "gut", "emax", "kdeg", "fm", "fg", "extraction", "half_life")
HYPER_PRIOR: Final = {"noise": (math.log(0.2), 0.5), "spread": (math.log(0.15), 0.7), "pair": (math.log(0.15), 0.7)}
SCALED: Final = ("potency", "gut", "fm", "emax", "fg", "kdeg", "half_life")  # groups whose scale is estimated
SCALE_PRIOR: Final = 0.35  # sd of the log of a group's scale around 1
NU: Final = 6.0
STEP: Final = 0.02
LENGTHS: Final = (60, 90, 140, 220)  # steps: studies of similar length are solved together
SETTLED: Final = 10  # steps after which the hyperparameters stay and steps are damped


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Studies in chunks of similar length: (indices, assembly, places of local parameters (R, L), -1 where fewer)."""

    log_ratio: Floats
    pair: NDArray[np.int64]
    chunks: tuple[tuple[NDArray[np.int64], Assembly, NDArray[np.int64]], ...]
    layout: Layout
    pairs: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """theta (n,) at the mode, its covariance (n, n), the scales of groups and the standard deviations noise, spread,
    pair."""

    layout: Layout
    theta: Floats
    covariance: Floats
    hyper: Mapping[str, float]
    pairs: Mapping[tuple[str, str], int]
    scores: Mapping[str, float] = field(default_factory=dict)  # of its cross-validation, where that was done
    iterations: int = 0
    change: float = 0.0


def pairs_of(studies: Sequence[Study]) -> dict[tuple[str, str], int]:
    """How many rows each pair has."""
    return dict(Counter(s.pair for s in studies))


def prepare(studies: Sequence[Study], drugs: Mapping[str, Drug], of: Layout) -> Rows:
    """Arrays of the studies."""
    whole = assemble([s.course for s in studies], drugs, of, share=False)
    length = np.count_nonzero(whole.batch.step > 0, axis=0)
    tracks = whole.batch.tracks
    turns = np.isin(np.arange(len(studies)), tracks.schedule[((tracks.kinact > 0) | (tracks.emax > 0)).any(axis=0)])
    lot = np.searchsorted(LENGTHS, length) + 10 * turns  # without turnover the time before the victim is free
    chunks = []
    for rows in (np.nonzero(lot == k)[0] for k in np.unique(lot)):
        made = assemble([studies[r].course for r in rows], drugs, of, share=False)
        chunks.append((rows, made, _local(made)))
    pairs = {pair: k for k, pair in enumerate(dict.fromkeys(s.pair for s in studies))}
    return Rows(
        log_ratio=np.log([s.ratio for s in studies]), pair=np.array([pairs[s.pair] for s in studies]),
        chunks=tuple(chunks), layout=of, pairs=pairs_of(studies),
    )  # fmt: skip


def _local(a: Assembly) -> NDArray[np.int64]:
    """Places of the parameters that each row knows."""
    found: list[set[int]] = [set() for _ in range(a.fg.size)]
    for t, row in enumerate(a.row_of_track):
        for places in (a.potency, a.gut, a.emax, a.longer, a.kdeg):
            found[row] |= set(places[..., t].ravel().tolist())
    for row, mine in enumerate(found):
        mine |= {int(a.fg[row]), int(a.extraction[row]), *a.fm[row].tolist()}
        mine -= {-1, a.size}
    deep = max(len(mine) for mine in found)
    return np.array([sorted(mine) + [-1] * (deep - len(mine)) for mine in found])


def value_and_gradient(rows: Rows, theta: Floats) -> tuple[Floats, Floats]:
    """log AUC ratio (R,) and its gradient (R, n)."""
    many, n = rows.log_ratio.size, theta.size
    value, gradient = np.empty(many), np.zeros((many, n))
    for index, assembly, local in rows.chunks:
        deep = local.shape[1]
        moved = np.tile(theta, (index.size, 2 * deep + 1, 1))
        row, slot = np.nonzero(local >= 0)
        moved[row, 1 + slot, local[row, slot]] += STEP
        moved[row, 1 + deep + slot, local[row, slot]] -= STEP
        out = np.log(predict(assembly, moved).auc)
        value[index] = out[:, 0]
        gradient[index[row], local[row, slot]] = (out[row, 1 + slot] - out[row, 1 + deep + slot]) / (2 * STEP)
    return value, gradient


def fit(rows: Rows, *, iterations: int = 30, tolerance: float = 1e-2) -> Calibration:
    """The mode and its Laplace covariance. Steps of Gauss-Newton in theta, then the hyperparameters, until theta
    rests."""
    of = rows.layout
    theta, hyper, change, done = of.mean.copy(), _start(), math.inf, 0
    weight = np.ones(rows.log_ratio.size)
    covariance = np.diag(of.sd**2)
    for done in range(1, iterations + 1):
        value, gradient = value_and_gradient(rows, theta)
        offset = rows.log_ratio - value + gradient @ (theta - of.mean)
        linear = _Linear(gradient=gradient, offset=offset, value=value, weight=weight, rows=rows)
        hyper = _hyper(linear, hyper) if done <= SETTLED else hyper
        new, covariance, weight = _solve(linear, hyper)
        moved = np.clip(new - theta, -0.7, 0.7) * (1.0 if done <= SETTLED else 0.6)
        change = float(np.abs(moved / of.sd).max())
        theta = theta + moved
        if change < tolerance:
            break
    return Calibration(
        layout=of, theta=theta, covariance=covariance, hyper=hyper, pairs=rows.pairs, iterations=done, change=change
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linear:
    gradient: Floats
    offset: Floats
    value: Floats
    weight: Floats
    rows: Rows

    def prior(self, hyper: Mapping[str, float]) -> Floats:
        """Prior variances (n,)."""
        of = self.rows.layout
        return np.asarray((of.sd * np.array([hyper[name.split(":")[0]] for name in of.names])) ** 2)

    def noise(self, hyper: Mapping[str, float]) -> Floats:
        """Variances of studies (R,)."""
        return np.asarray((hyper["noise"] ** 2 + (hyper["spread"] * self.value) ** 2) / self.weight)

    def covariance(self, hyper: Mapping[str, float]) -> Floats:
        """Marginal covariance of the observations (R, R)."""
        same = self.rows.pair[:, None] == self.rows.pair[None, :]
        shared = hyper["pair"] ** 2 * self.value[:, None] * self.value[None, :] * same
        part = self.gradient * self.prior(hyper)
        return np.asarray(part @ self.gradient.T + shared + np.diag(self.noise(hyper)))


def _start() -> dict[str, float]:
    return dict.fromkeys(GROUPS, 1.0) | {name: math.exp(m) for name, (m, _) in HYPER_PRIOR.items()}


def _hyper(linear: _Linear, now: Mapping[str, float]) -> dict[str, float]:
    """The hyperparameters that maximise the marginal likelihood of the linearised model."""
    names = [*HYPER_PRIOR, *SCALED]
    centre = np.array([HYPER_PRIOR[n][0] if n in HYPER_PRIOR else 0.0 for n in names])
    spread = np.array([HYPER_PRIOR[n][1] if n in HYPER_PRIOR else SCALE_PRIOR for n in names])

    def loss(x: Floats) -> float:
        hyper = {**now, **dict(zip(names, np.exp(x).tolist()))}
        root = linalg.cholesky(linear.covariance(hyper), lower=True)
        white = linalg.solve_triangular(root, linear.offset, lower=True)
        return float(0.5 * white @ white + np.log(np.diag(root)).sum() + 0.5 * (((x - centre) / spread) ** 2).sum())

    start = np.log([now[n] for n in names])
    found = optimize.minimize(loss, start, method="L-BFGS-B", options={"maxiter": 15})
    return {**now, **dict(zip(names, np.exp(found.x).tolist()))}


def _solve(linear: _Linear, hyper: Mapping[str, float]) -> tuple[Floats, Floats, Floats]:
    """theta, its covariance, and the weights of the studies, given the hyperparameters."""
    prior, g = linear.prior(hyper), linear.gradient
    marginal = linear.covariance(hyper)
    gain = linalg.solve(marginal, g * prior, assume_a="pos").T
    step = gain @ linear.offset
    covariance = np.diag(prior) - gain @ (g * prior)
    left = linear.offset - g @ step
    z2 = left**2 / (linear.noise({**hyper}) * linear.weight + (hyper["pair"] * linear.value) ** 2)
    weight = (NU + 1.0) / (NU + z2)
    return linear.rows.layout.mean + step, 0.5 * (covariance + covariance.T), weight
