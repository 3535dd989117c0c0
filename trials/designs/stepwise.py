"""Stepwise p-value procedures beside the graphs: Hochberg, Hommel, Bonferroni, Sidak and Benjamini-Hochberg.

Arrays (..., m): batches of replicates, hypotheses last. Hochberg and Hommel control the familywise error under positive
dependence (Sarkar 1998); Benjamini-Hochberg controls the false discovery rate, not the familywise error.

Source: Hochberg, Biometrika 1988;75:800; Hommel, Biometrika 1988;75:383; Benjamini & Hochberg, J R Stat Soc B
1995;57:289; the adjusted p-values are those of R's p.adjust.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["benjamini_hochberg", "bonferroni", "hochberg", "hommel", "sidak"]

Floats = NDArray[np.float64]


def _checked(p: ArrayLike) -> Floats:
    values = np.atleast_1d(np.asarray(p, dtype=np.float64))
    if np.isnan(values).any() or (values < 0).any() or (values > 1).any():
        raise InputError("p-values must lie in 0 ... 1", field="p", remedy="a test that failed has p = 1")
    return values


def _step_up(p: ArrayLike, factor: Floats) -> Floats:
    """Adjusted p_(i) = min over j >= i of factor_j p_(j)."""
    values = _checked(p)
    order = np.argsort(values, axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1) * factor
    best = np.minimum(1.0, np.minimum.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1])
    found = np.empty_like(values)
    np.put_along_axis(found, order, best, axis=-1)
    return found


def bonferroni(p: ArrayLike) -> Floats:
    """m p, at most 1.

    >>> bonferroni([0.01, 0.4]).tolist()
    [0.02, 0.8]
    """
    values = _checked(p)
    return np.asarray(np.minimum(1.0, values * values.shape[-1]), dtype=np.float64)


def sidak(p: ArrayLike) -> Floats:
    """1 - (1 - p)^m, for independent tests."""
    values = _checked(p)
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(values.shape[-1] * np.log1p(-values)), dtype=np.float64)


def hochberg(p: ArrayLike) -> Floats:
    """Hochberg's step-up procedure.

    >>> hochberg([0.01, 0.02, 0.03, 0.04]).tolist()
    [0.04, 0.04, 0.04, 0.04]
    """
    m = _checked(p).shape[-1]
    return _step_up(p, np.arange(m, 0, -1, dtype=np.float64))


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """False discovery rate, step up.

    >>> benjamini_hochberg([0.01, 0.02, 0.03, 0.04]).round(12).tolist()
    [0.04, 0.04, 0.04, 0.04]
    """
    m = _checked(p).shape[-1]
    return _step_up(p, m / np.arange(1, m + 1))


def hommel(p: ArrayLike) -> Floats:
    """Hommel's procedure: the closed test with Simes' test of every intersection, without visiting all of them.

    Of the intersections of one size, the one with the largest other p-values is the worst case (the algorithm of the
    adjusted p-values in Wright, Biometrics 1992;48:1005).

    >>> hommel([0.01, 0.02, 0.03]).round(12).tolist()
    [0.03, 0.03, 0.03]
    """
    values = _checked(p)
    m = values.shape[-1]
    order = np.argsort(values, axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    found = np.tile((m * ranked / np.arange(1, m + 1)).min(axis=-1, keepdims=True), m)
    for size in range(m - 1, 1, -1):
        upper = ranked[..., m - size + 1 :]
        least = (size * upper / np.arange(2, size + 1)).min(axis=-1, keepdims=True)
        low = np.minimum(size * ranked[..., : m - size + 1], least)
        high = np.broadcast_to(low[..., -1:], upper.shape)
        found = np.maximum(found, np.concatenate([low, high], axis=-1))
    found = np.minimum(1.0, np.maximum(found, ranked))
    out = np.empty_like(values)
    np.put_along_axis(out, order, found, axis=-1)
    return out
