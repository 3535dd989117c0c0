"""Residuals of whole subjects against simulated studies, and posterior predictive p-values.

NPDE: a subject's observations and its simulations are decorrelated by the simulations' mean and covariance; the rank of
each decorrelated observation among its simulations is uniform when the model is right (Brendel et al. 2006, Pharm Res
23:2036; Comets et al. 2008, Comput Methods Programs Biomed 90:154). Values below the limit of quantification,
measured or simulated, are drawn anew from what is simulated there (Nguyen et al. 2012, J Pharmacokinet Pharmacodyn
39:499, method "cdf"). EWRES: the same residual by the symmetric root, NONMEM's Monte Carlo form of CWRES, without
linearisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.bayes.design import measured_outputs
from pkpd.bayes.vpc import limits
from pkpd.ground.streams import Purpose, uniforms
from pkpd.model.records import Records
from pkpd.model.spec import Model

__all__ = ["Residuals", "decorrelated", "normality", "p_values", "residuals"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
UNLIKELY = 0.01
REFERENCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """By row (m,): npde and ewres; distance (n,): squared length of a subject's decorrelated residuals, and p (n,), the
    share of simulated subjects as far out. reference (S, m): NPDE of simulated studies, judged as the data are.
    """

    npde: Floats
    ewres: Floats
    distance: Floats
    p: Floats
    reference: Floats


def residuals(model: Model, records: Records, y: Floats, *, seed: int) -> Residuals:
    """Of the records against simulated studies y (replicates, rows), those with failed solves left out."""
    found = Residuals(
        npde=np.full(len(records.dv), np.nan), ewres=np.full(len(records.dv), np.nan),
        distance=np.full(len(records), np.nan), p=np.full(len(records), np.nan),
        reference=np.full((min(REFERENCE, len(y)), len(records.dv)), np.nan),
    )  # fmt: skip
    limit = limits(model, records)
    low = records.below | (records.dv < limit)
    for i in range(len(records)):
        rows = np.flatnonzero(records.subject == i)
        part = y[:, rows]
        part = part[np.isfinite(part).all(axis=1)]
        if len(part) <= 2 * len(rows):
            continue
        whole = np.concatenate([records.dv[rows][None], part])
        if np.isfinite(limit[rows]).any():
            beyond = np.concatenate([low[rows][None], part < limit[rows]])
            whole = _imputed(whole, beyond, limit[rows], (seed, i))
        told = decorrelated(whole[0], whole[1:])
        found.npde[rows], found.ewres[rows], found.distance[i], found.p[i] = told[:4]
        found.reference[:, rows] = told[4][: len(found.reference)]
    return found


def _imputed(y: Floats, beyond: Bools, limit: Floats, address: tuple[int, int]) -> Floats:
    """The subject's values and, below them, its simulations: in all of them alike what lies below the limit is replaced
    by one of the simulated values there, drawn anew, so that both keep one law.
    """
    u = uniforms(
        address[0], Purpose.PREDICTIVE_CENSORED, subject=address[1], replicate=np.arange(len(y))[:, None],
        index=np.arange(y.shape[1])[None, :],
    )  # fmt: skip
    made = np.array(y)
    for k in range(y.shape[1]):
        pool = y[1:, k][beyond[1:, k]]
        drawn = pool[(u[:, k] * len(pool)).astype(np.int64)] if len(pool) else np.full(len(y), limit[k])
        made[:, k] = np.where(beyond[:, k], drawn, y[:, k])
    return made


def decorrelated(observed: Floats, y: Floats) -> tuple[Floats, Floats, float, float, Floats]:
    """(npde, ewres, squared distance, its p, NPDE of the simulations (replicates, k)) of one subject's values (k,)
    among simulations y (replicates, k).
    """
    from scipy import linalg, special

    mean, covariance = y.mean(axis=0), np.atleast_2d(np.cov(y, rowvar=False))
    covariance = covariance + 1e-12 * np.diag(np.diag(covariance))
    root = np.linalg.cholesky(covariance)
    own = linalg.solve_triangular(root, observed - mean, lower=True)
    each = linalg.solve_triangular(root, (y - mean).T, lower=True)
    rank = ((each < own[:, None]).sum(axis=1) + 0.5) / (len(y) + 1.0)
    values, vectors = np.linalg.eigh(covariance)
    symmetric = (vectors / np.sqrt(values)) @ vectors.T
    distance, far = float(own @ own), (each * each).sum(axis=0)
    p = float(((far >= distance).sum() + 1.0) / (len(y) + 1.0))
    place = np.argsort(np.argsort(each, axis=1), axis=1)
    return special.ndtri(rank), symmetric @ (observed - mean), distance, p, special.ndtri((place.T + 0.5) / len(y))


def normality(npde: Floats, reference: Floats) -> dict[str, float]:
    """Mean and sd of NPDE (m,), what chance moves them by (mean_se, sd_se), and p of mean 0, sd 1 and the normal shape
    (Kolmogorov's distance), each among the same of simulated studies, reference (S, m).

    Decorrelated values of one subject are not independent in a nonlinear model: a chi-squared test of the variance
    rejects a right model half again too often (docs/fit_checks.md), the simulated studies do not.
    """
    good = np.isfinite(npde)
    x = npde[good]
    n, studies = len(x), reference[:, good]
    studies = studies[np.isfinite(studies).all(axis=1)]
    if n < 3 or len(studies) < 20:
        return {"n": float(n)}
    mean, sd, far = _moments(x[None])
    means, sds, fars = _moments(studies)
    return {
        "n": float(n), "mean": float(mean[0]), "mean_se": float(means.std()), "sd": float(sd[0]),
        "sd_se": float(sds.std()), "p_mean": _two_sided(mean[0], means), "p_sd": _two_sided(sd[0], sds),
        "p_shape": (float((fars >= far[0]).sum()) + 1.0) / (len(fars) + 1.0),
    }  # fmt: skip


def _moments(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, sd and Kolmogorov's distance to the standard normal of each row."""
    from scipy import special

    n = x.shape[1]
    u = special.ndtr(np.sort(x, axis=1))
    k = np.arange(1, n + 1)
    away = np.maximum(k / n - u, u - (k - 1) / n).max(axis=1)
    return x.mean(axis=1), x.std(axis=1, ddof=1), away


def _two_sided(value: float, among: Floats) -> float:
    above, below = float((among >= value).sum()), float((among <= value).sum())
    return min(1.0, 2.0 * (min(above, below) + 1.0) / (len(among) + 1.0))


def p_values(model: Model, records: Records, y: Floats) -> pd.DataFrame:
    """Posterior predictive p-values, a row per output and statistic: observed, median, lower, upper (95 % of the
    simulated studies), p = P(simulated >= observed), halves for ties.

    Values below the limit of quantification count as the limit on both sides. The sd between subjects is of their
    means.
    """
    limit = limits(model, records)
    low = records.below | (records.dv < limit)
    y = y[np.isfinite(y).all(axis=1)]
    seen, drawn = np.where(low, limit, records.dv), np.maximum(y, limit)
    rows = []
    for output in measured_outputs(model, records):
        mine = np.asarray(records.output == list(model.outputs).index(output))
        has_limit = bool(np.isfinite(limit[mine]).any())
        observed = _statistics(seen[None, mine], records.subject[mine], (low[None, mine], has_limit))
        simulated = _statistics(drawn[:, mine], records.subject[mine], ((y < limit)[:, mine], has_limit))
        rows += [{"output": output, **_compared(name, observed[name][0], each)} for name, each in simulated.items()]
    return pd.DataFrame(rows)


def _statistics(y: Floats, subject: NDArray[np.int64], below: tuple[Bools, bool]) -> dict[str, Floats]:
    """Statistics of studies y (replicates, rows), (replicates,) each."""
    who = np.unique(subject)
    means = np.stack([y[:, subject == i].mean(axis=1) for i in who], axis=1)
    found = {
        "mean": y.mean(axis=1), "sd": y.std(axis=1), "smallest value": y.min(axis=1), "median": np.median(y, axis=1),
        "largest value": y.max(axis=1),
    }  # fmt: skip
    if len(who) > 1:
        found["sd between subjects"] = means.std(axis=1, ddof=1)
    if below[1]:
        found["share below the limit"] = below[0].mean(axis=1)
    return found


def _compared(name: str, observed: float, simulated: Floats) -> dict[str, Any]:
    lower, median, upper = np.quantile(simulated, (0.025, 0.5, 0.975))
    p = float((simulated > observed).mean() + 0.5 * (simulated == observed).mean())
    return {
        "statistic": name, "observed": float(observed), "median": float(median), "lower": float(lower),
        "upper": float(upper), "p": p,
    }  # fmt: skip
