"""Leave-one-subject-out: how well does a fit predict a subject it has not seen? PSIS-LOO, comparison, stacking weights.

The unit is the subject, because the next patient is a new one. The likelihood of a subject under a population draw d
has the subject's effects summed out,

    p(y_i | d) = integral of p(y_i | x, d) p(x | d) dx,

by importance sampling in the twin's coordinates: a Gaussian around the subject's mode, moved to each draw's prior, with
a tenth of the points from that prior itself, so that no weight is unbounded; points of a lattice, shifted by address.
The draws of the full posterior are then weighted by 1/p(y_i | d), Pareto-smoothed (Vehtari, Gelman & Gabry 2017, Stat
Comput 27:1413; Merkle, Furr & Rabe-Hesketh 2019, Psychometrika 84:802). Stacking: Yao et al. 2018, Bayesian Anal
13:917.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from pkpd.model.variability import PopulationDraws
from pkpd.twin.case import Case, case_of
from pkpd.twin.psis import smoothed
from pkpd.twin.subset import patients
from pkpd.twin.target import evaluated, mode

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["WORST_K", "Loo", "Marginal", "compare", "leave_one_out", "marginal", "refitted", "stacking"]

Floats = NDArray[np.float64]
WORST_K = 0.7
DRAWS, POINTS, LEAST_POINTS, BUDGET = 500, 64, 16, 2_000_000
WIDER, FROM_PRIOR = 1.2, 0.1
NOISY, MORE, TOO_NOISY = 0.15, 4, 0.5  # mean relative error above which a subject takes more points, or is doubtful


@dataclass(frozen=True, slots=True, kw_only=True)
class Loo:
    """By subject (n,): elpd, log predictive density of the subject's data given all others; lpd, the same with the
    subject among the data; k, Pareto's shape (above 0.7 the value is not to be trusted); noise, relative Monte Carlo
    error of p(y_i | d), the mean over draws. `data`: digest of the records.
    """

    ids: tuple[str, ...]
    elpd: Floats
    lpd: Floats
    k: Floats
    noise: Floats
    data: str = ""

    @property
    def total(self) -> float:
        """Sum over subjects."""
        return float(self.elpd.sum())

    @property
    def se(self) -> float:
        """Its standard error, from the spread between subjects."""
        return float(np.sqrt(len(self.elpd)) * self.elpd.std(ddof=1))

    @property
    def effective_parameters(self) -> float:
        """p_loo, how much the fit leans on the subjects it predicts."""
        return float((self.lpd - self.elpd).sum())

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Subjects whose Pareto k is above 0.7, or whose p(y_i | d) was not found well enough."""
        good = (self.k <= WORST_K) & (self.noise <= TOO_NOISY)
        return tuple(name for name, fine in zip(self.ids, good, strict=True) if not fine)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        rows = zip(self.ids, self.elpd, self.lpd, self.k, self.noise, strict=True)
        return {
            "elpd": self.total, "se": self.se, "p_loo": self.effective_parameters, "data": self.data,
            "doubtful": list(self.doubtful),
            "subjects": [
                {"id": i, "elpd": float(e), "lpd": float(p), "k": float(min(k, 9.99)), "noise": float(s)}
                for i, e, p, k, s in rows
            ],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Loo:
        """What `to_dict` gave."""
        rows = values["subjects"]
        columns = {name: np.asarray([row[name] for row in rows]) for name in ("elpd", "lpd", "k", "noise")}
        return cls(ids=tuple(str(row["id"]) for row in rows), data=str(values["data"]), **columns)


def leave_one_out(
    model: Model, records: Records, draws: PopulationDraws, *, seed: int, most: int = DRAWS, points: int | None = None
) -> Loo:
    """PSIS-LOO by subject from posterior draws of the population, `most` of them, evenly spaced.

    points: of the lattice for each subject and draw (64, less for many subjects; four times as many for a subject whose
    likelihood they do not find). Errors: InputError for what a twin
    cannot follow.
    """
    each = marginal(model, records, draws, seed=seed, most=most, points=points)
    weights, k = smoothed(-each.value)
    top = each.value.max(axis=1, keepdims=True)
    density = np.exp(each.value - top)
    return Loo(
        ids=records.ids, elpd=top[:, 0] + np.log((weights * density).sum(axis=1)),
        lpd=top[:, 0] + np.log(density.mean(axis=1)), k=k, noise=each.noise.mean(axis=1), data=records.digest,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Marginal:
    """log p(y_i | d), (n, S), and its relative Monte Carlo error as far as independent points would have it, (n, S)."""

    value: Floats
    noise: Floats


def marginal(
    model: Model, records: Records, draws: PopulationDraws, *, seed: int, most: int = DRAWS, points: int | None = None
) -> Marginal:
    """Log likelihood of each subject under each draw, the subject's effects summed out."""
    row = np.unique(np.linspace(0, len(draws) - 1, min(most, len(draws))).astype(np.int64))
    some = PopulationDraws(
        names=draws.names, typical=draws.typical[row], eta_names=draws.eta_names, omega=draws.omega[row],
        error_names=draws.error_names, error=draws.error[row],
    )  # fmt: skip
    size = points or int(np.clip(BUDGET // (len(records) * len(row)), LEAST_POINTS, POINTS))
    value, noise = np.empty((len(records), len(row))), np.empty((len(records), len(row)))
    for who in _groups(model, records):
        case = case_of(model, patients(records, who), some)
        top = mode(case, seed=seed)
        for i, subject in enumerate(who):
            around = top.x[i], top.covariance[i]
            value[subject], noise[subject] = _summed(case, i, around, (seed, size))
            if points is None and not noise[subject].mean() <= NOISY:
                value[subject], noise[subject] = _summed(case, i, around, (seed, MORE * size))
    return Marginal(value=value, noise=noise)


def _groups(model: Model, records: Records) -> list[NDArray[np.intp]]:
    """Subjects that one case may hold: all, or one by one where they may have seen different numbers of occasions."""
    every = np.arange(len(records))
    return [every] if not model.occasion_etas else [every[k : k + 1] for k in every]


def _summed(case: Case, patient: int, around: tuple[Floats, Floats], how: tuple[int, int]) -> tuple[Floats, Floats]:
    """(log p(y | d), relative error), each (S,), of one patient."""
    count, size = case.number, how[1]
    x, log_q = _proposed(case, patient, around, how)
    draw = np.repeat(np.arange(count), size)
    prior, found = evaluated(case, np.full(count * size, patient, np.int64), draw, x.reshape(count * size, -1))
    each = (prior + found).reshape(count, size) - log_q
    top = each.max(axis=1)
    ratio = np.exp(each - np.where(np.isfinite(top), top, 0.0)[:, None])
    mean = ratio.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return top + np.log(mean), ratio.std(axis=1) / mean / np.sqrt(size)


def _proposed(case: Case, patient: int, around: tuple[Floats, Floats], how: tuple[int, int]) -> tuple[Floats, Floats]:
    """Points x (S, points, K) of every draw and their log density under the mixture that gave them (S, points)."""
    seed, size = how
    centre, root, prior_centre, prior_root = _laws(case, around)
    count, q = centre.shape
    shift = uniforms(
        seed, Purpose.MARGINAL, subject=int(case.address[patient]), replicate=np.arange(count)[:, None],
        slot=np.arange(q)[None, :],
    )  # fmt: skip
    z = _lattice(size, q, shift)
    own = np.arange(size) >= max(1, round(FROM_PRIOR * size))  # the first points are the prior's
    near = centre[:, None, :] + np.einsum("sij,spj->spi", root, z)
    far = prior_centre[:, None, :] + np.einsum("sij,spj->spi", prior_root, z)
    x = np.where(own[None, :, None], near, far)
    share = own.mean()
    log_q = np.logaddexp(
        np.log(share) + _log_normal(x, centre, root), np.log1p(-share) + _log_normal(x, prior_centre, prior_root)
    )
    return x, log_q


def _laws(case: Case, around: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats, Floats]:
    """Centre (S, K) and root (S, K, K) of the proposal of every draw, and of the prior.

    At the median draw the precision is H and the prior's is 1; what the data say, H - 1 around H x, serves every draw.
    """
    count, q = case.number, len(around[0])
    every = np.arange(count)
    base = case.coordinates.places(every, np.zeros((count, q)))
    moves = np.stack([case.coordinates.places(every, np.tile(row, (count, 1))) - base for row in np.eye(q)], axis=2)
    precision = np.linalg.inv(np.einsum("sik,sjk->sij", moves, moves))
    whole = np.linalg.inv(around[1])
    values, vectors = np.linalg.eigh(whole - np.eye(q))
    told = (vectors * np.maximum(values, 0.0)) @ vectors.T
    pull = whole @ around[0]
    covariance = np.linalg.inv(told + precision)
    centre = np.einsum("sij,sj->si", covariance, pull + np.einsum("sij,sj->si", precision, base))
    prior_root = np.linalg.cholesky(np.einsum("sik,sjk->sij", moves, moves))
    return centre, WIDER * np.linalg.cholesky(covariance), base, prior_root


def _lattice(size: int, q: int, shift: Floats) -> Floats:
    """Standard normal points (S, size, q): a Kronecker lattice on the generalised golden ratio, shifted (S, q)."""
    from scipy import special

    ratio = 2.0
    for _ in range(60):
        ratio = (1.0 + ratio) ** (1.0 / (q + 1.0))
    steps = ratio ** -np.arange(1.0, q + 1.0)
    u = (shift[:, None, :] + np.arange(size)[None, :, None] * steps) % 1.0
    return np.asarray(special.ndtri(np.clip(u, 1e-12, 1.0 - 1e-12)))


def _log_normal(x: Floats, centre: Floats, root: Floats) -> Floats:
    """Log density (S, points) of normal laws, one a draw."""
    away = np.einsum("sij,spj->spi", np.linalg.inv(root), x - centre[:, None, :])
    logs = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return np.asarray(-0.5 * (away * away).sum(axis=2) - logs[:, None] - 0.5 * x.shape[2] * np.log(2.0 * np.pi))


def compare(fits: Mapping[str, Loo]) -> pd.DataFrame:
    """A row per fit, the best first: elpd, se, p_loo, difference to the best and its se (paired by subject), stacking
    weight, doubtful subjects. Errors: InputError unless all are of the same data.
    """
    _same(fits)
    order = sorted(fits, key=lambda name: -fits[name].total)
    best = fits[order[0]]
    weights = stacking(np.stack([fits[name].elpd for name in order], axis=1))
    return pd.DataFrame([
        {
            "model": name, "elpd": fits[name].total, "se": fits[name].se, "p_loo": fits[name].effective_parameters,
            "difference": fits[name].total - best.total, "se_difference": _paired(fits[name].elpd - best.elpd),
            "weight": float(weight), "doubtful": len(fits[name].doubtful),
        }
        for name, weight in zip(order, weights, strict=True)
    ])  # fmt: skip


def _same(fits: Mapping[str, Loo]) -> None:
    first = next(iter(fits.values()))
    for name, found in fits.items():
        if found.ids != first.ids or found.data != first.data:
            remedy = "compare fits of the same data file"
            raise InputError(
                "was fitted to other data than the first", field=name, value=found.data[:12], remedy=remedy
            )


def _paired(difference: Floats) -> float:
    return float(np.sqrt(len(difference)) * difference.std(ddof=1))


def stacking(elpd: Floats) -> Floats:
    """Weights (M,) that make the mixture of M predictive distributions (n, M) score best, by EM.

    >>> stacking(np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1]]))).round(3)
    array([1., 0.])
    """
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))
    weight = np.full(elpd.shape[1], 1.0 / elpd.shape[1])
    for _ in range(20_000):
        share = density * weight
        new = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(new - weight).max() < 1e-10:
            break
        weight = new
    return np.asarray(weight)


def refitted(found: Loo, model: Model, records: Records, *, seed: int, most: int = 5, **settings: Any) -> Loo:
    """The same with the subjects whose Pareto k is above 0.7 (the `most` worst) left out by fitting all others again.

    settings: of `fit` (default 2 chains of 500 + 750). Their k becomes 0: nothing is extrapolated any more. A refit
    that fails leaves its subject as it was.
    """
    from pkpd.ground.errors import RunFailed

    elpd, k = found.elpd.copy(), found.k.copy()
    for i in sorted(np.flatnonzero(~(k <= WORST_K)), key=lambda i: -k[i])[:most]:
        try:
            elpd[i], k[i] = _without(model, records, int(i), seed=seed, settings=settings), 0.0
        except RunFailed:
            continue
    return replace(found, elpd=elpd, k=k)


def _without(model: Model, records: Records, subject: int, *, seed: int, settings: Mapping[str, Any]) -> float:
    """Log predictive density of a subject under the fit of all others."""
    import shutil

    from pkpd.bayes.fit import fit

    others = np.flatnonzero(np.arange(len(records)) != subject)
    chosen = {"chains": 2, "tune": 500, "draws": 750, **settings}
    made = fit(model, patients(records, others), seed=seed, cache=False, **chosen)
    shutil.rmtree(made.tree_path.parent, ignore_errors=True)
    one = marginal(model, patients(records, np.asarray([subject], np.intp)), made.posterior.draws, seed=seed).value[0]
    return float(one.max() + np.log(np.mean(np.exp(one - one.max()))))
