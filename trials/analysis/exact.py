"""Exact tests of two risks: Fisher's conditional, Barnard's and Boschloo's unconditional; group 1 treated, 0 control.

Fisher two-sided: tables no more probable than the one seen (R's fisher.test). Unconditional p-values are the largest
probability, over the common risk, of a table at least as extreme: by the pooled z statistic (Barnard, Biometrika
1947;34:123; Suissa & Shuster, JRSS A 1985;148:317) or by Fisher's one- or two-sided p-value (Boschloo, Stat Neerl
1970;24:1). The maximum: a grid of the risk, then golden sections around its best points.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.binary import _counts

__all__ = ["barnard", "boschloo", "fisher", "fisher_table"]

Floats = NDArray[np.float64]
GRID = 513  # of the common risk, equally spaced on the scale of its arc sine
_GOLDEN = 0.5 * (5.0**0.5 - 1.0)
_SLACK = 1e-7  # relative: probabilities and statistics this close are ties


@lru_cache(maxsize=32)
def _log_choose(n: int) -> Floats:
    from scipy.special import gammaln

    k = np.arange(n + 1.0)
    found: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return found


def _sided(side: str) -> str:
    if side not in ("two", "greater", "less"):
        raise InputError("must be two, greater or less", field="side", value=side)
    return side


@lru_cache(maxsize=32)
def fisher_table(n1: int, n0: int, side: str = "two") -> Floats:
    """Fisher's p-value of every table, (n1 + 1, n0 + 1) by events of treated and control.

    >>> round(float(fisher_table(5, 5)[5, 1]), 6)
    0.047619
    """
    _sided(side)
    out = np.empty((n1 + 1, n0 + 1))
    one, zero = _log_choose(n1), _log_choose(n0)
    for events in range(n1 + n0 + 1):
        x1 = np.arange(max(0, events - n0), min(n1, events) + 1)
        weight = np.exp(one[x1] + zero[events - x1] - (one[x1] + zero[events - x1]).max())
        share = weight / weight.sum()
        if side == "two":
            p = np.where(share[None, :] <= share[:, None] * (1 + _SLACK), share[None, :], 0.0).sum(axis=1)
        else:
            p = np.cumsum(share[::-1])[::-1] if side == "greater" else np.cumsum(share)
        out[x1, events - x1] = np.minimum(p, 1.0)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=32)
def _extremeness(n1: int, n0: int, side: str, kind: str) -> Floats:
    """How far every table speaks against the null, larger is more; ties rounded away."""
    if kind == "boschloo":
        return -np.log(np.maximum(fisher_table(n1, n0, side), 1e-300))
    x1, x0 = np.arange(n1 + 1.0)[:, None], np.arange(n0 + 1.0)[None, :]
    pooled = (x1 + x0) / (n1 + n0)
    variance = pooled * (1 - pooled) * (1 / n1 + 1 / n0)
    z = np.divide(x1 / n1 - x0 / n0, np.sqrt(variance), out=np.zeros(variance.shape), where=variance > 0)
    return {"two": np.abs(z), "greater": z, "less": -z}[side]


def _binomial(n: int, risk: Floats) -> Floats:
    """Probabilities (grid, n + 1)."""
    from scipy.special import xlog1py, xlogy

    k = np.arange(n + 1.0)
    found: Floats = np.exp(_log_choose(n) + xlogy(k, risk[:, None]) + xlog1py(n - k, -risk[:, None]))
    return found


def _mass(region: NDArray[np.bool_], risk: Floats) -> Floats:
    """Probability of a set of tables at common risks (G,)."""
    one, zero = _binomial(region.shape[0] - 1, risk), _binomial(region.shape[1] - 1, risk)
    inner = np.stack([np.where(region, row, 0.0).sum(axis=1) for row in zero])
    found: Floats = (one * inner).sum(axis=1)
    return found


def _largest(region: NDArray[np.bool_]) -> float:
    """The largest probability of a set of tables over the common risk."""
    angle = np.linspace(0.0, 0.5 * np.pi, GRID)
    value = _mass(region, np.sin(angle) ** 2)
    best = float(value.max())
    inner = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] >= value[2:])) + 1
    for at in inner[np.argsort(-value[inner], kind="stable")][:3].tolist():
        low, high = angle[at - 1], angle[at + 1]
        for _ in range(32):
            pair = np.array([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)])
            left, right = _mass(region, np.sin(pair) ** 2).tolist()
            best = max(best, left, right)
            low, high = (low, float(pair[1])) if left >= right else (float(pair[0]), high)
    return min(1.0, best)


@lru_cache(maxsize=100_000)
def _unconditional(table: tuple[int, int, int, int], side: str, kind: str) -> float:
    x1, n1, x0, n0 = table
    extreme = _extremeness(n1, n0, side, kind)
    seen = extreme[x1, x0]
    return _largest(extreme >= seen - _SLACK * max(1.0, abs(float(seen))))


def _tables(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike) -> tuple[list[Any], Floats]:
    counts = _counts((x1, n1), (x0, n0))
    flat = np.stack([value.reshape(-1) for value in counts], axis=1).astype(np.int64)
    return [tuple(row) for row in flat.tolist()], np.full(counts[0].shape, np.nan)


def fisher(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, side: str = "two") -> Floats:
    """Fisher's exact p-values, arrays broadcast; an empty group gives NaN.

    >>> round(float(fisher(7, 10, 2, 10)), 6)
    0.069779
    """
    rows, out = _tables(x1, n1, x0, n0)
    for place, (a, n, b, m) in enumerate(rows):
        if n and m:
            out.reshape(-1)[place] = fisher_table(n, m, _sided(side))[a, b]
    return out


def barnard(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, side: str = "two") -> Floats:
    """Barnard's unconditional p-values by the pooled z statistic, arrays broadcast; an empty group gives NaN.

    >>> round(float(barnard(7, 10, 2, 10)), 4)
    0.0414
    """
    return _every((x1, n1, x0, n0), side, "barnard")


def boschloo(x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, side: str = "two") -> Floats:
    """Boschloo's unconditional p-values: uniformly no larger than Fisher's on the same side.

    >>> round(float(boschloo(7, 10, 2, 10)), 4)
    0.0414
    """
    return _every((x1, n1, x0, n0), side, "boschloo")


def _every(counts: tuple[ArrayLike, ...], side: str, kind: str) -> Floats:
    rows, out = _tables(*counts)
    for place, row in enumerate(rows):
        if row[1] and row[3]:
            out.reshape(-1)[place] = _unconditional(row, _sided(side), kind)
    return out
