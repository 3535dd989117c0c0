"""Dunnett's many-to-one comparison: simultaneous critical values and single-step adjusted p-values.

The k statistics are multivariate t with correlation rho_ij = l_i l_j, exact for one-way layouts with
l_j = sqrt(n_j/(n_j + n_0)) (Dunnett, JASA 1955;50:1096). Two-dimensional quadrature, no simulation: error below 1e-8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["adjusted_p", "critical", "loadings", "side_code"]

Floats = NDArray[np.float64]

_SIDES = {"two": 0, "greater": 1, "less": 1}


def side_code(side: str) -> int:
    """The kernels' code of "two" (0), "greater" or "less" (1); InputError otherwise."""
    if side not in _SIDES:
        raise InputError("must be two, greater or less", field="side", value=side)
    return _SIDES[side]


def loadings(n_control: ArrayLike, n_treated: ArrayLike) -> Floats:
    """sqrt(n_j/(n_j + n_0)): n_control (...), n_treated (..., k); returns (..., k).

    >>> loadings(50, [50, 50]).round(4).tolist()
    [0.7071, 0.7071]
    """
    treated = np.asarray(n_treated, dtype=np.float64)
    control = np.asarray(n_control, dtype=np.float64)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(treated / (treated + control))


def critical(alpha: ArrayLike, df: ArrayLike, loadings: ArrayLike, side: str = "two") -> Floats:
    """Critical value c with P(max |T_j| > c) = alpha ("two") or P(max T_j > c) = alpha (one-sided).

    alpha and df broadcast against the leading axes of `loadings` (..., k); df may be infinite. NaN where df <= 0.
    "greater" and "less" share one value. Dunnett's table, k = 4, df = 20, two-sided 5 %: 2.65.

    >>> round(float(critical(0.05, 20, [0.5 ** 0.5] * 4)), 4)
    2.651
    """
    from trials.kernels.dunnett import critical_fill

    load = np.asarray(loadings, dtype=np.float64)
    lead = np.broadcast_shapes(np.shape(alpha), np.shape(df), load.shape[:-1])
    level, freedom = (np.ascontiguousarray(np.broadcast_to(np.asarray(x, dtype=np.float64), lead)).reshape(-1)
                      for x in (alpha, df))  # fmt: skip
    if not np.all((level > 0) & (level < 0.5)):
        raise InputError("must be between 0 and 0.5", field="alpha", value=alpha)
    rows = _rows(load, lead)
    out = np.empty(level.size)
    critical_fill(level, freedom, rows, side_code(side), out)
    return out.reshape(lead)


def adjusted_p(t: ArrayLike, df: ArrayLike, loadings: ArrayLike, side: str = "two") -> Floats:
    """Single-step p-values P(max_i |T_i| > |t_j|), or of T in the direction of `side`; shape of `t` (..., k).

    >>> adjusted_p([2.651, 0.0], 20, [0.5 ** 0.5] * 2).round(3).tolist()
    [0.028, 1.0]
    """
    from trials.kernels.dunnett import adjusted_fill

    values = np.asarray(t, dtype=np.float64)
    shape = np.broadcast_shapes(values.shape, np.shape(loadings))
    signed = np.broadcast_to(-values if side == "less" else values, shape)
    rows = _rows(np.asarray(loadings, dtype=np.float64), shape[:-1])
    freedom = np.ascontiguousarray(np.broadcast_to(np.asarray(df, dtype=np.float64), shape)).reshape(rows.shape)
    out = np.empty(rows.shape)
    adjusted_fill(np.ascontiguousarray(signed).reshape(rows.shape), freedom, rows, side_code(side), out)
    return out.reshape(shape)


def _rows(load: Floats, lead: tuple[int, ...]) -> Floats:
    k = load.shape[-1]
    clipped = np.clip(np.broadcast_to(load, (*lead, k)), -0.9999, 0.9999)
    return np.ascontiguousarray(clipped).reshape(-1, k)
