"""Spending functions: how much of an error rate may be used up by each fraction of the information.

Lan & DeMets, Biometrika 1983;70:659 (O'Brien-Fleming and Pocock types); Kim & DeMets, Biometrika 1987;74:149;
Hwang, Shih & DeCani, Stat Med 1990;9:1439.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from pkpd.ground.errors import InputError

__all__ = ["FUNCTIONS", "spent"]

Floats = NDArray[np.float64]


def _obrien_fleming(t: Floats, error: float, shape: float, sides: int) -> Floats:
    return 2 * sides * ndtr(float(ndtri(error / (2 * sides))) / np.sqrt(t))


def _pocock(t: Floats, error: float, shape: float, sides: int) -> Floats:
    return error * np.log1p((np.e - 1) * t)


def _kim_demets(t: Floats, error: float, shape: float, sides: int) -> Floats:
    return error * t**shape


def _hwang_shih_decani(t: Floats, error: float, shape: float, sides: int) -> Floats:
    return error * t if shape == 0 else error * np.expm1(-shape * t) / np.expm1(-shape)


FUNCTIONS: dict[str, Callable[[Floats, float, float, int], Floats]] = {
    "lan_demets_obrien_fleming": _obrien_fleming,
    "lan_demets_pocock": _pocock,
    "kim_demets": _kim_demets,
    "hwang_shih_decani": _hwang_shih_decani,
}
"""The functions by name; `kim_demets` (> 0) and `hwang_shih_decani` (any) have a shape."""


def spent(name: str, fraction: ArrayLike, error: float, *, shape: float = 0.0, sides: int = 1) -> Floats:
    """Cumulative error spent at information fractions (any shape) of (0, 1]; all of it from 1 on.

    error: total; sides: 2 for the error rate of a two-sided test (then the O'Brien-Fleming type spends twice what the
    one-sided function spends of half the error). Errors: InputError (an unknown name, a shape out of range).

    >>> spent("lan_demets_pocock", [0.5, 1], 0.025).round(5).tolist()
    [0.0155, 0.025]
    """
    if name not in FUNCTIONS:
        raise InputError("is no spending function", field="spending", value=name, remedy=f"use {', '.join(FUNCTIONS)}")
    if name == "kim_demets" and not shape > 0:
        raise InputError("must be > 0", field="shape", value=shape, remedy="0.5 spends early, 3 late")
    if name == "hwang_shih_decani" and not abs(shape) <= 40:
        raise InputError("must lie between -40 and 40", field="shape", value=shape, remedy="-4 spends late, 1 early")
    t = np.minimum(np.asarray(fraction, dtype=np.float64), 1.0)
    return np.where(t >= 1, error, FUNCTIONS[name](t, error, shape, sides))
