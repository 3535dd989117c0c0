"""Pareto-smoothed importance sampling over many patients at once.

Vehtari A, Simpson D, Gelman A, Yao Y, Gabry J. Pareto smoothed importance sampling. J Mach Learn Res 2024;25(72):1-58.
The tail's shape by Zhang J, Stephens MA, Technometrics 2009;51:316, with the prior of that paper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective", "pareto_fit", "smoothed"]

Floats = NDArray[np.float64]
CHUNK = 400_000
_PRIOR_BS, _PRIOR_K, _LEAST = 3.0, 10.0, 5


def smoothed(log_weights: Floats) -> tuple[Floats, Floats]:
    """Normalised smoothed weights (n, S) and Pareto k (n,) of log weights (n, S); -inf is a weight of zero.

    k < 0.5: finite variance; up to 0.7 still of use; above, the proposal misses the target. The largest
    min(S/5, 3 sqrt(S)) weights are replaced by the expected order statistics of the fitted tail, none above the largest
    raw one. k is inf where fewer than five weights differ.

    >>> w, k = smoothed(np.zeros((1, 100)))
    >>> float(w.sum().round(12)), bool(np.isinf(k[0]))
    (1.0, True)
    """
    size = log_weights.shape[1]
    tail = int(min(0.2 * size, 3.0 * np.sqrt(size)))
    step = max(1, CHUNK // max(1, tail * (30 + int(np.sqrt(tail)))))
    parts = [_smoothed(log_weights[lo : lo + step], tail) for lo in range(0, len(log_weights), step)]
    if not parts:
        return np.zeros((0, size)), np.zeros(0)
    return np.concatenate([w for w, _ in parts]), np.concatenate([k for _, k in parts])


def _smoothed(log_weights: Floats, tail: int) -> tuple[Floats, Floats]:
    """One chunk of patients."""
    top = log_weights.max(axis=1, keepdims=True)
    usable = np.isfinite(top[:, 0])
    scaled = np.exp(log_weights - np.where(np.isfinite(top), top, 0.0))
    order = np.argsort(scaled, axis=1, kind="stable")
    cut = np.take_along_axis(scaled, order[:, -tail - 1, None], axis=1)
    largest = order[:, -tail:]
    excess = np.take_along_axis(scaled, largest, axis=1) - cut
    fits = usable & ((excess > 0.0).sum(axis=1) >= _LEAST) & (excess[:, 0] >= 0.0) & (tail >= _LEAST)
    shape = np.full(len(scaled), np.inf)
    if fits.any():
        k, sigma = pareto_fit(excess[fits])
        shape[fits] = k
        found = np.isfinite(k) & (sigma > 0.0)
        good = np.flatnonzero(fits)[found]
        u = (np.arange(tail) + 0.5) / tail
        values = cut[good] + _quantile(u[None, :], k[found, None], sigma[found, None])
        scaled[good[:, None], largest[good]] = np.minimum(values, 1.0)
    total = scaled.sum(axis=1, keepdims=True)
    return np.where(usable[:, None], scaled / np.where(total > 0.0, total, 1.0), np.nan), shape


def pareto_fit(excess: Floats) -> tuple[Floats, Floats]:
    """(k, sigma), each (n,), of generalised Pareto tails (n, M): excesses over the threshold, ascending in a row.

    Zhang and Stephens's quasi-posterior mean; k is drawn towards 1/2 by ten observations' worth (Vehtari, appendix C).
    """
    size = excess.shape[1]
    count = 30 + int(np.sqrt(size))
    quartile = excess[:, int(size / 4 + 0.5) - 1, None]
    grid = 1.0 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))
    with np.errstate(all="ignore"):
        b = grid[None, :] / (_PRIOR_BS * quartile) + 1.0 / excess[:, -1:]
        k = np.log1p(-b[:, :, None] * excess[:, None, :]).mean(axis=2)
        profile = size * (np.log(-b / k) - k - 1.0)
        weight = np.exp(profile - profile.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        weight = np.where(weight >= 10.0 * np.finfo(np.float64).eps, weight, 0.0)
        mean = (b * weight).sum(axis=1) / weight.sum(axis=1)
        shape = np.log1p(-mean[:, None] * excess).mean(axis=1)
        sigma = -shape / mean
    shape = (size * shape + _PRIOR_K * 0.5) / (size + _PRIOR_K)
    lost = ~np.isfinite(shape) | (quartile[:, 0] <= excess[:, 0])
    return np.where(lost, np.inf, shape), np.where(lost, np.nan, sigma)


def _quantile(u: Floats, k: Floats, sigma: Floats) -> Floats:
    safe = np.where(np.abs(k) < 1e-12, 1.0, k)
    grown = np.expm1(-safe * np.log1p(-u)) / safe
    return np.asarray(sigma * np.where(np.abs(k) < 1e-12, -np.log1p(-u), grown))


def effective(weights: Floats) -> Floats:
    """Effective number of draws 1/sum(w^2) of normalised weights, along the last axis.

    >>> float(effective(np.full(50, 0.02)).round(9))
    50.0
    """
    return np.asarray(1.0 / np.sum(weights * weights, axis=-1))
