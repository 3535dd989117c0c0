"""Whether chains of a sampler agree, and how many independent draws they are worth.

Rank-normalised split R-hat and bulk effective sample size: Vehtari, Gelman, Simpson, Carpenter & Buerkner, Bayesian
Anal 2021;16:667; autocovariances summed by Geyer's initial monotone sequence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective", "rhat"]

Floats = NDArray[np.float64]


def _split(draws: Floats) -> Floats:
    """(C, D, ...) to (2 C, D // 2, ...)."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]], axis=0)


def _normal_scores(draws: Floats) -> Floats:
    """Average ranks over all chains as normal quantiles, elementwise over the trailing axes (C, D, K)."""
    from scipy.stats import rankdata

    from pkpd.kernels.philox import quantile_array

    flat = draws.reshape(-1, draws.shape[2])
    ranks = rankdata(flat, axis=0)
    return quantile_array((ranks - 0.375) / (flat.shape[0] + 0.25)).reshape(draws.shape)


def _variances(split: Floats) -> tuple[Floats, Floats]:
    """Within and pooled variance, (K,)."""
    size = split.shape[1]
    within = split.var(axis=1, ddof=1).mean(axis=0)
    between = split.mean(axis=1).var(axis=0, ddof=1)
    return within, within * (size - 1) / size + between


def rhat(draws: Floats) -> Floats:
    """R-hat of each quantity from draws (C, D, K): the larger of the bulk's and the folded (tails); 1 if constant.

    >>> from pkpd.ground.streams import Purpose, normals
    >>> z = normals(1, Purpose.AE_MODEL, subject=np.arange(4)[:, None], replicate=0, index=np.arange(500))
    >>> bool(rhat(z[..., None])[0] < 1.01), bool(rhat((z + np.arange(4)[:, None])[..., None])[0] > 1.5)
    (True, True)
    """
    folded = np.abs(draws - np.median(draws, axis=(0, 1)))
    found = [_ratio(_split(_normal_scores(x))) for x in (draws, folded)]
    return np.maximum(*found)


def _ratio(split: Floats) -> Floats:
    within, pooled = _variances(split)
    found: Floats = np.sqrt(np.divide(pooled, within, out=np.ones(within.shape), where=within > 0))
    return np.where((within == 0) & (pooled > 0), np.inf, found)


def effective(draws: Floats) -> Floats:
    """Bulk effective sample size of each quantity from draws (C, D, K); NaN if constant.

    >>> from pkpd.ground.streams import Purpose, normals
    >>> z = normals(1, Purpose.AE_MODEL, subject=np.arange(4)[:, None], replicate=0, index=np.arange(500))
    >>> bool(1700 < effective(z[..., None])[0] < 2300)
    True
    """
    split = _split(_normal_scores(draws))
    chains, size, _ = split.shape
    within, pooled = _variances(split)
    covariance = _autocovariance(split).mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1.0 - (within - covariance) / pooled
    rho[0] = 1.0
    pairs = rho[0 : 2 * (size // 2) : 2] + rho[1 : 2 * (size // 2) : 2]
    pairs = np.minimum.accumulate(np.where(np.minimum.accumulate(pairs > 0, axis=0), pairs, 0.0), axis=0)
    tau = np.maximum(2.0 * pairs.sum(axis=0) - 1.0, 1.0 / np.log10(max(chains * size, 11)))
    return np.where(pooled > 0, chains * size / tau, np.nan)


def _autocovariance(split: Floats) -> Floats:
    """Biased autocovariances along axis 1 by FFT."""
    size = split.shape[1]
    centred = split - split.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * size, axis=1)
    found: Floats = np.fft.irfft(spectrum * np.conj(spectrum), n=2 * size, axis=1)[:, :size] / (size - 1)
    return found
