"""Closed tests of G hypotheses over stages: every intersection is a combination test of stage-wise adjusted p-values.

Marcus, Peritz & Gabriel, Biometrika 1976;63:655; with selection at interim looks Bauer & Kieser, Stat Med 1999;18:1833;
Dunnett's test of an intersection of many-to-one comparisons; Spiessens & Debois, Contemp Clin Trials 2010;31:647 for a
subgroup and the whole. A hypothesis that was dropped takes no part in later stages: an intersection of dropped ones
alone cannot be rejected any more. Arrays: replicate R, stage K, hypothesis G.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pkpd.ground.errors import InputError

__all__ = ["INTERSECTIONS", "adjusted", "intersections", "rejected"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CHUNK = 4096


def intersections(count: int) -> Bools:
    """All non-empty sets of hypotheses (2^G - 1, G), the largest first.

    >>> intersections(2).astype(int).tolist()
    [[1, 1], [1, 0], [0, 1]]
    """
    sets = [row for row in itertools.product((True, False), repeat=count) if any(row)]
    return np.array(sorted(sets, key=lambda row: -sum(row)), dtype=np.bool_)


def _dunnett(z: Floats, active: Bools, loading: Floats) -> Floats:
    """P(max over the active of correlated normals >= the observed maximum), correlation l_i l_j: loading (R, G)."""
    out = np.empty(len(z))
    for first in range(0, len(z), CHUNK):
        part = slice(first, first + CHUNK)
        out[part] = _dunnett_chunk(z[part], active[part], loading[part])
    return out


def _dunnett_chunk(z: Floats, active: Bools, loading: Floats) -> Floats:
    loading = np.where(active & (active.sum(axis=1, keepdims=True) > 1), loading, 0.0)  # one alone needs no nodes
    spread = np.sqrt(1 - loading**2)
    highest = np.max(np.where(active, z, -np.inf), axis=1, keepdims=True)
    narrow = float(np.min(spread / np.maximum(loading, 1e-9), initial=1.0))
    step = min(0.25, 0.4 * narrow)
    nodes = np.arange(-8.0, 8.0 + step / 2, step)
    inside = np.ones((len(z), nodes.size))
    for g in range(z.shape[1]):
        below = ndtr((highest - loading[:, g, None] * nodes) / spread[:, g, None])
        inside *= np.where(active[:, g, None], below, 1.0)
    density = np.exp(-0.5 * nodes * nodes) * step / np.sqrt(2 * np.pi)
    joint = np.sum((1 - inside) * density, axis=1)
    single = ndtr(-highest[:, 0])  # below the quadrature's absolute error Bonferroni's bounds are the truth
    return np.clip(joint, single, np.minimum(1.0, single * active.sum(axis=1)))


def _bonferroni(z: Floats, active: Bools, loading: Floats) -> Floats:
    p = ndtr(-np.max(np.where(active, z, -np.inf), axis=1))
    return np.asarray(np.minimum(1.0, active.sum(axis=1) * p))


def _sidak(z: Floats, active: Bools, loading: Floats) -> Floats:
    p = ndtr(-np.max(np.where(active, z, -np.inf), axis=1))
    return np.asarray(-np.expm1(active.sum(axis=1) * np.log1p(-p)))


def _simes(z: Floats, active: Bools, loading: Floats) -> Floats:
    p = np.sort(np.where(active, ndtr(-z), np.inf), axis=1)
    return np.asarray(np.min(p * active.sum(axis=1)[:, None] / np.arange(1, z.shape[1] + 1), axis=1))


def _hierarchical(z: Floats, active: Bools, loading: Floats) -> Floats:
    return np.asarray(ndtr(-z[np.arange(len(z)), np.argmax(active, axis=1)]))


INTERSECTIONS: dict[str, Callable[[Floats, Bools, Floats], Floats]] = {
    "dunnett": _dunnett, "bonferroni": _bonferroni, "sidak": _sidak, "simes": _simes, "hierarchical": _hierarchical,
}  # fmt: skip
"""Tests of an intersection by name: z (R, G) upwards, who is in (R, G), loadings (R, G) -> p (R)."""


def adjusted(name: str, z: Floats, active: Bools, loading: Floats) -> Floats:
    """p of the intersection of the active hypotheses (R); NaN where none is. Errors: InputError (unknown test).

    Dunnett, 3 arms against one control: P(max >= 2.062) = 0.05 one-sided (Dunnett, JASA 1955;50:1096, table 1a).

    >>> z = np.array([[2.062, 0.0, -1.0]])
    >>> adjusted("dunnett", z, np.ones((1, 3), bool), np.full((1, 3), 0.5 ** 0.5)).round(4).tolist()
    [0.05]
    """
    if name not in INTERSECTIONS:
        remedy = f"use {', '.join(INTERSECTIONS)}"
        raise InputError("is no test of an intersection", field="intersection", value=name, remedy=remedy)
    some = active.any(axis=1)
    out = np.full(len(z), np.nan)
    if some.any():
        out[some] = INTERSECTIONS[name](z[some], active[some], loading[some])
    return out


def rejected(name: str, z: Floats, active: Bools, loading: Floats, *, weights: Floats, critical: Floats) -> Bools:
    """Hypotheses rejected after each stage by the closed inverse normal combination test (R, K, G), cumulative.

    z (R, K, G) stage-wise, active (R, K, G) with dropped hypotheses staying dropped, loading (R, K, G), weights (K) and
    critical values (K) fixed in advance. Which trials go on is not asked here: a stage that a trial never reached must
    not be looked at.
    """
    sets, (count, stages, hypotheses) = intersections(z.shape[2]), z.shape
    out = np.ones((count, stages, hypotheses), dtype=np.bool_)
    for members in sets:
        combined, before = np.zeros(count), np.zeros(count, np.bool_)
        for k in range(stages):
            p = adjusted(name, z[:, k], active[:, k] & members, loading[:, k])
            combined = combined - weights[k] * ndtri(np.clip(p, 1e-300, 1 - 1e-16))
            before = before | (combined / np.sqrt(np.sum(weights[: k + 1] ** 2)) >= critical[k])
            out[:, k, members] &= before[:, None]
    return out
