"""Closed forms before a trial: assurance, Go/No-Go by two criteria, sample size with a prognostic score (PROCOVA).

Two arms of n subjects each, normal outcome of known SD: the estimate has standard error se = sd sqrt(2/n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Decisions", "Saving", "assurance", "go_no_go", "power", "procova", "sample_size"]

Floats = NDArray[np.float64]


def _phi(x: ArrayLike) -> Floats:
    from scipy.special import ndtr

    return np.asarray(ndtr(np.asarray(x, dtype=np.float64)), dtype=np.float64)


def _z(p: ArrayLike) -> Floats:
    from scipy.special import ndtri

    return np.asarray(ndtri(np.asarray(p, dtype=np.float64)), dtype=np.float64)


def _se(n: ArrayLike, sd: ArrayLike) -> Floats:
    size, spread = np.asarray(n, dtype=np.float64), np.asarray(sd, dtype=np.float64)
    if (size <= 0).any() or (spread <= 0).any():
        raise InputError("subjects and SD must be > 0", field="n", value=size.tolist())
    return np.asarray(spread * np.sqrt(2.0 / size))


def power(delta: ArrayLike, n: ArrayLike, *, sd: ArrayLike = 1.0, alpha: float = 0.025, margin: float = 0.0) -> Floats:
    """Power of the one-sided z test of delta > margin.

    >>> round(float(power(0.5, 64)), 4)
    0.8074
    """
    return _phi((np.asarray(delta) - margin) / _se(n, sd) - _z(1 - alpha))


def assurance(
    mean: ArrayLike, spread: ArrayLike, n: ArrayLike, *, sd: ArrayLike = 1.0, alpha: float = 0.025, margin: float = 0.0
) -> Floats:
    """Power averaged over a normal design prior (mean, SD `spread`) of the effect:

        Phi((mean - margin - z se)/sqrt(spread^2 + se^2)).

    Source: O'Hagan, Stevens & Campbell, Pharm Stat 2005;4:187; Spiegelhalter & Freedman, Stat Med 1986;5:1.

    >>> round(float(assurance(0.5, 0.25, 64)), 4)
    0.692
    """
    se, prior = _se(n, sd), np.asarray(spread, dtype=np.float64)
    if (prior < 0).any():
        raise InputError("must be >= 0", field="spread", value=prior.tolist())
    return _phi((np.asarray(mean) - margin - _z(1 - alpha) * se) / np.sqrt(prior**2 + se**2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Probabilities of the three decisions; they sum to 1."""

    go: Floats
    stop: Floats
    inconclusive: Floats


def go_no_go(
    delta: ArrayLike, n: ArrayLike, *, sd: ArrayLike = 1.0, least: float = 0.0, wanted: float,
    sure: float = 0.975, likely: float = 0.5,
) -> Decisions:  # fmt: skip
    """Dual criterion under a flat prior: Go when P(d > least) >= `sure` and P(d > wanted) >= `likely`; Stop when
    neither holds; otherwise inconclusive. `wanted` is the minimal clinical value, `delta` the true effect.

    Source: Roychoudhury, Scheuer & Neuenschwander, Clin Trials 2018;15:452; Frewer et al., Pharm Stat 2016;15:255.

    >>> found = go_no_go(0.3, 100, wanted=0.2)
    >>> round(float(found.go), 4), round(float(found.stop), 4)
    (0.5641, 0.2398)
    """
    if not (0.5 <= sure < 1 and 0 < likely < 1):
        raise InputError("must be a probability", field="sure", value=[sure, likely])
    se, true = _se(n, sd), np.asarray(delta, dtype=np.float64)
    first, second = least + _z(sure) * se, wanted + _z(likely) * se
    go = _phi((true - np.maximum(first, second)) / se)
    stop = _phi((np.minimum(first, second) - true) / se)
    return Decisions(go=go, stop=stop, inconclusive=1 - go - stop)


def sample_size(delta: ArrayLike, *, sd: ArrayLike = 1.0, alpha: float = 0.025, power: float = 0.9) -> Floats:
    """Subjects per arm (not rounded) of the one-sided z test: 2 (z_alpha + z_beta)^2 sd^2 / delta^2.

    >>> round(float(sample_size(0.4)), 2)
    131.34
    """
    effect = np.asarray(delta, dtype=np.float64)
    if (effect == 0).any() or not 0 < alpha < power < 1:
        raise InputError("needs an effect and alpha < power", field="delta", value=effect.tolist())
    return np.asarray(2 * (_z(1 - alpha) + _z(power)) ** 2 * np.asarray(sd, dtype=np.float64) ** 2 / effect**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What a prognostic score saves: residual variance `factor` 1 - rho^2, subjects per arm without and with adjustment
    (not rounded), power if the size is kept."""

    factor: Floats
    unadjusted: Floats
    adjusted: Floats
    power_if_kept: Floats


def procova(
    rho: ArrayLike, delta: ArrayLike, *, sd: ArrayLike = 1.0, alpha: float = 0.025, power: float = 0.9,
    inflation: float = 1.0,
) -> Saving:  # fmt: skip
    """Linear adjustment for a prognostic score that correlates with the outcome by rho in both arms.

    `inflation` >= 1 multiplies the residual variance: a margin for a score that predicts less well in the new trial.
    Source: Schuler et al., Int J Biostat 2022;18:329; EMA qualification opinion on PROCOVA, 2022.

    >>> found = procova(0.5, 0.4)
    >>> float(found.factor), round(float(found.adjusted), 1)
    (0.75, 98.5)
    """
    correlation = np.asarray(rho, dtype=np.float64)
    if (np.abs(correlation) >= 1).any() or inflation < 1:
        raise InputError("must lie inside -1 ... 1, its inflation >= 1", field="rho", value=correlation.tolist())
    factor = np.minimum(1.0, inflation * (1 - correlation**2))
    plain = sample_size(delta, sd=sd, alpha=alpha, power=power)
    drift = _z(1 - alpha) + _z(power)
    return Saving(
        factor=factor, unadjusted=plain, adjusted=plain * factor,
        power_if_kept=_phi(drift / np.sqrt(factor) - _z(1 - alpha)),
    )  # fmt: skip
