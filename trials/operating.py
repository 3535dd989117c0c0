"""Operating characteristics over replicates, each with its Monte Carlo standard error (MCSE).

Power and assurance are the same average of rejections over replicates: *assurance* when every replicate has its own
draw of the population parameters, *power* when all replicates share one (the posterior median). Since draws are
independent between replicates the MCSE below holds for both. MCSE formulas: Morris, White & Crowther, Stat Med
2019;38:2074, Table 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Estimate", "Rejection", "bias", "coverage", "difference", "mean", "proportion", "quantile", "rejection", "rmse",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A simulated quantity: value, Monte Carlo standard error, replicates used, replicates that failed (not used)."""

    value: float
    mcse: float
    n: int
    failed: int = 0

    def interval(self, z: float = 1.959963984540054) -> tuple[float, float]:
        """Normal interval of the Monte Carlo error alone."""
        return self.value - z * self.mcse, self.value + z * self.mcse


def _nothing(failed: int) -> Estimate:
    return Estimate(value=float("nan"), mcse=float("nan"), n=0, failed=failed)


def proportion(flags: ArrayLike) -> Estimate:
    """Share of true flags (R,). At 0 or n of n the MCSE is that of half an event: it is never 0.

    >>> proportion([True, False, True, True]).value
    0.75
    """
    values = np.asarray(flags, dtype=np.bool_).reshape(-1)
    n, events = values.size, int(np.count_nonzero(values))
    if n == 0:
        return _nothing(0)
    share = events / n if 0 < events < n else (events + 0.5) / (n + 1.0)
    return Estimate(value=events / n, mcse=float(np.sqrt(share * (1.0 - share) / n)), n=n)


def mean(x: ArrayLike) -> Estimate:
    """Mean of finite values (R,); the others are counted as failed. MCSE = sd/sqrt(n), NaN for n = 1.

    >>> mean([1.0, 3.0, float("nan")])
    Estimate(value=2.0, mcse=1.0, n=2, failed=1)
    """
    values = np.asarray(x, dtype=np.float64).reshape(-1)
    good = values[np.isfinite(values)]
    failed = values.size - good.size
    if good.size == 0:
        return _nothing(failed)
    spread = float(good.std(ddof=1)) if good.size > 1 else float("nan")
    return Estimate(value=float(good.mean()), mcse=spread / float(np.sqrt(good.size)), n=good.size, failed=failed)


def bias(estimate: ArrayLike, truth: ArrayLike) -> Estimate:
    """Mean of estimate - truth; truth may differ by replicate (R,)."""
    return mean(np.asarray(estimate, dtype=np.float64) - np.asarray(truth, dtype=np.float64))


def rmse(estimate: ArrayLike, truth: ArrayLike) -> Estimate:
    """Root mean squared error; its MCSE is that of the mean square by the delta method.

    >>> rmse([1.0, -1.0, 1.0], 0.0).value
    1.0
    """
    square = mean((np.asarray(estimate, dtype=np.float64) - np.asarray(truth, dtype=np.float64)) ** 2)
    root = float(np.sqrt(square.value))
    mcse = square.mcse / (2.0 * root) if root > 0.0 else square.mcse
    return Estimate(value=root, mcse=mcse, n=square.n, failed=square.failed)


def coverage(lower: ArrayLike, upper: ArrayLike, truth: ArrayLike) -> Estimate:
    """Share of intervals that hold the truth; replicates with a NaN limit are failed and left out.

    >>> coverage([0.0, 2.0], [1.0, 3.0], 0.5).value
    0.5
    """
    low, high, true = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (lower, upper, truth)))
    good = ~(np.isnan(low) | np.isnan(high) | np.isnan(true))
    inside = proportion(((low <= true) & (true <= high))[good])
    return Estimate(value=inside.value, mcse=inside.mcse, n=inside.n, failed=int(np.count_nonzero(~good)))


def quantile(x: ArrayLike, q: float) -> Estimate:
    """Sample quantile (type 7) of finite values with the Maritz-Jarrett standard error (JASA 1978;73:194).

    >>> quantile([1.0, 2.0, 3.0], 0.5).value
    2.0
    """
    from scipy.special import betainc

    values = np.asarray(x, dtype=np.float64).reshape(-1)
    good = np.sort(values[np.isfinite(values)])
    n = good.size
    failed = values.size - n
    if n == 0:
        return _nothing(failed)
    centre = min(max(np.floor(q * n + 0.5), 1.0), float(n))
    weights = np.diff(betainc(centre, n - centre + 1.0, np.arange(n + 1) / n))
    first = float(np.sum(weights * good))
    second = float(np.sum(weights * (good - first) ** 2))
    return Estimate(value=float(np.quantile(good, q)), mcse=float(np.sqrt(second)), n=n, failed=failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Power or assurance: of at least one contrast (`any`) and of each."""

    any: Estimate
    each: tuple[Estimate, ...]


def rejection(reject: ArrayLike) -> Rejection:
    """Share of replicates that reject: reject (R, k). A contrast that could not be estimated has not rejected.

    >>> rejection([[True, False], [False, False]]).any.value
    0.5
    """
    flags = np.asarray(reject, dtype=np.bool_)
    each = tuple(proportion(flags[:, j]) for j in range(flags.shape[1]))
    return Rejection(any=proportion(flags.any(axis=-1)), each=each)


def difference(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Mean of a - b over replicates that share their virtual patients: the paired MCSE.

    >>> difference([1.0, 2.0], [0.0, 1.0])
    Estimate(value=1.0, mcse=0.0, n=2, failed=0)
    """
    return mean(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
