"""Draws of AUC ratios under a calibration: of the true mean ratio of a pair, or of what a new study would observe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals, slots, uniforms
from pkpd.interactions.assembly import Assembly, assemble, predict
from pkpd.interactions.calibration import NU, Calibration, fit, prepare
from pkpd.interactions.drug import Drug
from pkpd.interactions.model import Layout
from pkpd.interactions.observed import Study, fold

__all__ = ["Checked", "Draws", "crossvalidate", "foretold", "joined", "parameter_draws", "ratios", "scores"]

Floats = NDArray[np.float64]
CHUNK: Final = 100  # draws at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """log ratios (R, D) of the true mean AUC and Cmax of each row."""

    auc: Floats
    cmax: Floats


def joined(of: Layout, known: Calibration) -> Calibration:
    """The calibration on another layout: parameters it does not know keep their prior."""
    there = {name: k for k, name in enumerate(known.layout.names)}
    mine = np.array([there.get(name, -1) for name in of.names])
    have = np.nonzero(mine >= 0)[0]
    scale = np.array([known.hyper[name.split(":")[0]] for name in of.names])
    theta, covariance = of.mean.copy(), np.diag((of.sd * scale) ** 2)
    theta[have] = known.theta[mine[have]]
    covariance[np.ix_(have, have)] = known.covariance[np.ix_(mine[have], mine[have])]
    return Calibration(
        layout=of, theta=theta, covariance=covariance, hyper=known.hyper, pairs=known.pairs, scores=known.scores
    )


def parameter_draws(known: Calibration, *, draws: int, seed: int) -> Floats:
    """theta (D, n) from the Laplace approximation, by address: parameter name and draw."""
    names = known.layout.names
    z = normals(seed, Purpose.INTERACTION, subject=np.arange(draws)[:, None], replicate=0, slot=slots(names)[None, :])
    value, vector = np.linalg.eigh(known.covariance)
    root = vector * np.sqrt(np.maximum(value, 0.0))
    return np.asarray(known.theta + np.einsum("dk,nk->dn", z, root))


def ratios(
    assembly: Assembly, known: Calibration, theta: Floats, *, pairs: Sequence[tuple[str, str]], seed: int
) -> Draws:
    """The true mean ratios of rows (R, D) under theta (D, n): what the model says, times what a pair and a population
    add.

    Both additions are shares of the log ratio: without an effect nothing is added, and a ratio of 1 is exactly 1.
    """
    parts = [predict(assembly, theta[None, k : k + CHUNK]) for k in range(0, len(theta), CHUNK)]
    auc = np.log(np.concatenate([p.auc for p in parts], axis=1))
    cmax = np.log(np.concatenate([p.cmax for p in parts], axis=1))
    place = slots(dict.fromkeys("|".join(pair) for pair in pairs))
    where = {name: k for k, name in enumerate(dict.fromkeys("|".join(pair) for pair in pairs))}
    slot = place[[where["|".join(pair)] for pair in pairs]]
    z = normals(seed, Purpose.INTERACTION, subject=np.arange(len(theta))[None, :], replicate=1, slot=slot[:, None])
    share = 1.0 + np.hypot(known.hyper["pair"], known.hyper["spread"]) * z
    return Draws(auc=auc * share, cmax=cmax * share)


def observable(log_ratio: Floats, known: Calibration, *, seed: int) -> Floats:
    """What a study would observe (R, D): with its own error (Student t, scale `noise`)."""
    from scipy.special import stdtrit

    rows, draws = log_ratio.shape
    u = uniforms(
        seed, Purpose.INTERACTION, subject=np.arange(draws)[None, :], replicate=2, index=np.arange(rows)[:, None]
    )
    return np.asarray(log_ratio + known.hyper["noise"] * stdtrit(NU, u))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Every study predicted without its pair: median, 90 % interval of the observable ratio, log scale; the folds'
    calibrations."""

    studies: tuple[Study, ...]
    fold: NDArray[np.int64]
    median: Floats
    lower: Floats
    upper: Floats
    calibrations: tuple[Calibration, ...]

    @property
    def error(self) -> Floats:
        """log predicted over observed."""
        return self.median - np.log([s.ratio for s in self.studies])

    def score(self, keep: NDArray[np.bool_] | None = None) -> dict[str, float]:
        """GMFE and share within 2-fold, by row and by pair; coverage of the interval; median width as a factor."""
        return scores(self.studies, self.error, (self.lower, self.upper), keep)


def scores(
    studies: Sequence[Study],
    error: Floats,
    interval: tuple[Floats, Floats] | None,
    keep: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """GMFE = exp(mean |log error|), within 2-fold, of rows (`rows.`) and of pairs, each with equal weight
    (`pairs.`)."""
    used = np.ones(len(studies), dtype=bool) if keep is None else keep
    size, near = np.abs(error), np.abs(error) <= np.log(2.0)
    pair = np.unique(["|".join(s.pair) for s in studies], return_inverse=True)[1]
    weight = np.where(used, 1.0 / np.maximum(np.bincount(pair, used)[pair], 1.0), 0.0)
    made = {}
    for name, w in (("rows", used.astype(float)), ("pairs", weight)):
        made[f"{name}.gmfe"] = float(np.exp(np.average(size, weights=w)))
        made[f"{name}.within2"] = float(np.average(near, weights=w))
        if interval is not None:
            truth = np.log([s.ratio for s in studies])
            inside = (truth >= interval[0]) & (truth <= interval[1])
            made[f"{name}.cover90"] = float(np.average(inside, weights=w))
    if interval is not None:
        made["width"] = float(np.exp(np.median((interval[1] - interval[0])[used])))
    return made


def foretold(
    studies: Sequence[Study], drugs: Mapping[str, Drug], known: Calibration, *, draws: int = 300, seed: int = 1
) -> tuple[Floats, Floats, Floats]:
    """Median and 90 % interval (R,) of the log ratio that each study would observe, under a calibration."""
    assembly = assemble([s.course for s in studies], drugs, known.layout, share=False)
    theta = parameter_draws(known, draws=draws, seed=seed)
    log_ratio = ratios(assembly, known, theta, pairs=[s.pair for s in studies], seed=seed).auc
    lower, upper = np.quantile(observable(log_ratio, known, seed=seed), (0.05, 0.95), axis=1)
    return np.median(log_ratio, axis=1), lower, upper


def crossvalidate(
    studies: Sequence[Study], drugs: Mapping[str, Drug], of: Layout, *, folds: int = 5, draws: int = 300, seed: int = 1
) -> Checked:
    """Fits without each fold's pairs, and what they say of them. Nothing of a pair is seen by the fit that predicts
    it."""
    which = np.array([fold(s.pair, folds) for s in studies])
    median, lower, upper = np.full((3, len(studies)), np.nan)
    made = []
    for k in range(folds):
        known = fit(prepare([s for s, f in zip(studies, which) if f != k], drugs, of))
        out = np.nonzero(which == k)[0]
        said = foretold([studies[i] for i in out], drugs, known, draws=draws, seed=seed)
        median[out], lower[out], upper[out] = said
        made.append(known)
    return Checked(
        studies=tuple(studies), fold=which, median=median, lower=lower, upper=upper, calibrations=tuple(made)
    )
