"""Graphical multiple testing: weights on hypotheses, transitions between them, adjusted p-values, closed tests.

A graph gives hypothesis i the share w_i of alpha and, when i is rejected, passes the share g_ij of its weight on to
j. With Bonferroni tests the sequentially rejective algorithm is a short cut of the closed test whose intersection I
has the weights of the graph from which all hypotheses outside I were removed. Holm, fixed sequence, fallback, serial
and parallel gatekeeping are graphs. P-values are arrays (..., m): batches of replicates, hypotheses last.

Source: Bretz, Maurer, Brannath & Posch, Stat Med 2009;28:586 (algorithms 1, 2); Bretz et al., Biom J 2011;53:894
(Simes and weighted closed tests); Maurer & Bretz, Stat Biopharm Res 2013;5:311 (levels for group-sequential graphs).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = [
    "Graph", "Outcome", "adjusted", "closed", "fallback", "fixed_sequence", "holm", "levels", "parallel_gatekeeping",
    "rejected", "serial_gatekeeping",
]  # fmt: skip

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Intersection = Literal["bonferroni", "simes"]
ROUNDING = 1e-6
"""Weights and rows that miss 1 by no more are taken as rounded: they are scaled to sum to 1 exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """`weights` (m,) sum to at most 1; `transitions` (m, m): rows sum to at most 1, the diagonal is 0."""

    weights: tuple[float, ...]
    transitions: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        w, g = np.asarray(self.weights, dtype=np.float64), np.asarray(self.transitions, dtype=np.float64)
        if w.ndim != 1 or g.shape != (w.size, w.size):
            raise InputError(
                "needs a square of transitions, one row a weight", field="transitions", value=list(g.shape)
            )
        if (w < 0).any() or w.sum() > 1 + ROUNDING:
            raise InputError("must be >= 0 and sum to at most 1", field="weights", value=list(self.weights))
        if (g < 0).any() or (g.sum(axis=1) > 1 + ROUNDING).any() or np.diag(g).any():
            remedy = "rows sum to at most 1, the diagonal is 0"
            raise InputError("is no transition matrix", field="transitions", value=g.tolist(), remedy=remedy)

    def arrays(self) -> tuple[Floats, Floats]:
        """Weights and transitions, sums that were rounded made exact."""
        w, g = np.asarray(self.weights, dtype=np.float64), np.asarray(self.transitions, dtype=np.float64)
        return _exact(w), np.stack([_exact(row) for row in g])


def _exact(row: Floats) -> Floats:
    total = row.sum()
    return row / total if abs(total - 1) <= ROUNDING else row


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`adjusted` p-values and `rejected` at the level, both (..., m)."""

    adjusted: Floats
    rejected: Flags


def _batched(p: ArrayLike, hypotheses: int) -> tuple[Floats, tuple[int, ...]]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] != hypotheses:
        raise InputError(f"needs {hypotheses} p-values in the last axis", field="p", value=list(values.shape))
    if np.isnan(values).any() or (values < 0).any() or (values > 1).any():
        raise InputError("p-values must lie in 0 ... 1", field="p", remedy="a test that failed has p = 1")
    return values.reshape(-1, hypotheses), values.shape


def _without(w: Floats, g: Floats, j: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Weights (R, m) and transitions (R, m, m) after hypothesis j (R,) is rejected: algorithm 1 of Bretz 2009."""
    rows = np.arange(w.shape[0])
    outward, inward, own = g[rows, j], g[rows, :, j], w[rows, j]
    passed = w + own[:, None] * outward
    passed[rows, j] = 0.0
    loop = inward * outward
    room = 1.0 - loop
    moved = (g + inward[:, :, None] * outward[:, None, :]) / np.where(room > 1e-12, room, 1.0)[:, :, None]
    moved = np.where((room > 1e-12)[:, :, None], moved, 0.0)
    moved[rows, j, :] = 0.0
    moved[rows, :, j] = 0.0
    moved[:, np.arange(w.shape[1]), np.arange(w.shape[1])] = 0.0
    return passed, moved


def adjusted(p: ArrayLike, graph: Graph) -> Floats:
    """Adjusted p-values (..., m) of the sequentially rejective procedure: reject H_i at level alpha when <= alpha.

    >>> adjusted([0.02, 0.03, 0.01, 0.04], holm(4)).round(12).tolist()
    [0.06, 0.06, 0.04, 0.06]
    """
    weights, transitions = graph.arrays()
    values, shape = _batched(p, weights.size)
    count = values.shape[0]
    w, g = np.tile(weights, (count, 1)), np.tile(transitions, (count, 1, 1))
    rows, left = np.arange(count), np.ones_like(values, dtype=np.bool_)
    found, largest = np.ones_like(values), np.zeros(count)
    for _ in range(weights.size):
        ratio = np.where(left, _ratio(values, w), np.inf)
        j = np.where(left, ratio, np.nan)
        best = np.nanargmin(np.where(np.isinf(j), 1e300, j), axis=1)
        largest = np.maximum(largest, np.minimum(ratio[rows, best], 1.0))
        found[rows, best] = largest
        left[rows, best] = False
        w, g = _without(w, g, best)
    return found.reshape(shape)


def _ratio(p: Floats, w: Floats) -> Floats:
    """p/w; a hypothesis without weight cannot be rejected."""
    return np.where(w > 0, p / np.where(w > 0, w, 1.0), np.inf)


def rejected(p: ArrayLike, graph: Graph, *, alpha: float = 0.025) -> Outcome:
    """Adjusted p-values and rejections at one-sided level `alpha`.

    >>> rejected([0.012, 0.018, 0.001, 0.2], fixed_sequence(4)).rejected.tolist()
    [True, True, True, False]
    """
    found = adjusted(p, graph)
    return Outcome(adjusted=found, rejected=found <= alpha)


def levels(graph: Graph, gone: Sequence[bool] | Flags, *, alpha: float = 0.025) -> Floats:
    """Local levels (m,) of the hypotheses not yet rejected, where `gone` are: what each look of a group-sequential
    graph may spend on it. The order of rejection does not matter.

    >>> levels(holm(3), [True, False, False]).tolist()
    [0.0, 0.0125, 0.0125]
    """
    weights, transitions = graph.arrays()
    w, g = weights[None, :], transitions[None, :, :]
    for j in np.flatnonzero(np.asarray(gone, dtype=np.bool_)):
        w, g = _without(w, g, np.array([j]))
    return np.asarray(alpha * w[0], dtype=np.float64)


def _intersections(graph: Graph) -> Iterator[tuple[Flags, Floats]]:
    """Every intersection hypothesis: its members (m,) and their weights."""
    m = len(graph.weights)
    for code in range(1, 2**m):
        members = (code >> np.arange(m)) & 1 == 1
        yield members, levels(graph, ~members, alpha=1.0)


def closed(p: ArrayLike, graph: Graph, *, intersection: Intersection = "bonferroni") -> Floats:
    """Adjusted p-values (..., m) of the full closed test over 2^m - 1 intersections with the weights of the graph.

    `bonferroni` equals `adjusted` (an identity that tests both); `simes` is more powerful and needs positive
    dependence; with equal weights it is Hommel's procedure. Hypotheses without weight in an intersection do not count
    in it.

    >>> closed([0.01, 0.02, 0.03], holm(3), intersection="simes").tolist()
    [0.03, 0.03, 0.03]
    """
    m = len(graph.weights)
    if m > 16:
        raise InputError("too many hypotheses for the closed test", field="graph", value=m, remedy="use adjusted")
    values, shape = _batched(p, m)
    found = np.zeros_like(values)
    for members, w in _intersections(graph):
        local = _simes(values, w) if intersection == "simes" else np.minimum(1.0, _ratio(values, w).min(axis=1))
        found[:, members] = np.maximum(found[:, members], local[:, None])
    return found.reshape(shape)


def _simes(p: Floats, w: Floats) -> Floats:
    """Weighted Simes p-value of one intersection (R,): min over members of p_j / (weight of all with p <= p_j)."""
    used = p[:, w > 0]
    order = np.argsort(used, axis=1, kind="stable")
    ranked = np.take_along_axis(used, order, axis=1)
    shared = np.cumsum(w[w > 0][order], axis=1)
    return np.minimum(1.0, (ranked / shared).min(axis=1, initial=1.0))


def holm(hypotheses: int, *, weights: Sequence[float] | None = None) -> Graph:
    """Bonferroni-Holm; `weights` (default equal) are passed on in their own proportions."""
    w = np.full(hypotheses, 1 / hypotheses) if weights is None else np.asarray(weights, dtype=np.float64)
    g = np.where(np.eye(hypotheses, dtype=bool), 0.0, np.tile(w, (hypotheses, 1)))
    total = g.sum(axis=1, keepdims=True)
    return _graph(w, np.where(total > 0, g / np.where(total > 0, total, 1.0), 0.0))


def fixed_sequence(hypotheses: int) -> Graph:
    """Hierarchical testing in order."""
    return fallback([1.0] + [0.0] * (hypotheses - 1))


def fallback(weights: Sequence[float]) -> Graph:
    """The fallback procedure in order: each rejected hypothesis passes its level to the next (Wiens 2003)."""
    return _graph(np.asarray(weights, dtype=np.float64), np.eye(len(weights), k=1))


def parallel_gatekeeping(families: Sequence[int], *, onward: float = 0.5) -> Graph:
    """Families tested in order: a rejected hypothesis passes `onward` of its weight in equal parts to the next family
    and the rest to its own (all of it onward where it is alone); the last family is tested by Holm. Bretz 2009,
    section 3.3.

    >>> adjusted([0.012, 0.018, 0.001, 0.2], parallel_gatekeeping([2, 2])).round(12).tolist()
    [0.024, 0.024, 0.024, 0.2]
    """
    if not families or any(size < 1 for size in families) or not 0 < onward <= 1:
        raise InputError("needs families of at least one hypothesis", field="families", value=list(families))
    starts = np.concatenate([[0], np.cumsum(families)])
    g = np.zeros((int(starts[-1]), int(starts[-1])))
    for family, size in enumerate(families):
        own, final = slice(int(starts[family]), int(starts[family + 1])), family == len(families) - 1
        leaving = 0.0 if final else (1.0 if size == 1 else onward)
        g[own, own] = np.where(np.eye(size, dtype=bool), 0.0, (1.0 - leaving) / max(size - 1, 1))
        if not final:
            g[own, int(starts[family + 1]) : int(starts[family + 2])] = leaving / families[family + 1]
    return _graph(np.concatenate([np.full(families[0], 1 / families[0]), np.zeros(int(starts[-1]) - families[0])]), g)


def serial_gatekeeping(p: ArrayLike, families: Sequence[int]) -> Floats:
    """Adjusted p-values (..., m): Holm within a family, the next opens when all of one are rejected.

    The limit of a graph whose edges between families have vanishing weight (Bretz 2009, section 3.2), without them.

    >>> serial_gatekeeping([0.01, 0.02, 0.001, 0.3], [2, 2]).tolist()
    [0.02, 0.02, 0.02, 0.3]
    """
    if not families or any(size < 1 for size in families):
        raise InputError("needs families of at least one hypothesis", field="families", value=list(families))
    values, shape = _batched(p, sum(families))
    found, gate, start = np.empty_like(values), np.zeros((values.shape[0], 1)), 0
    for size in families:
        own = slice(start, start + size)
        found[:, own] = np.maximum(adjusted(values[:, own], holm(size)), gate)
        gate, start = found[:, own].max(axis=1, keepdims=True), start + size
    return found.reshape(shape)


def _graph(weights: Floats, transitions: Floats) -> Graph:
    return Graph(weights=tuple(weights.tolist()), transitions=tuple(tuple(row) for row in transitions.tolist()))
