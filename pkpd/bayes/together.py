"""Rows with correlated residual errors in the PyMC model: joint normal densities as potentials.

Of each pattern of outputs and of what their rows say (measured, below, ...) the standardised values go through the
Cholesky factor of their correlations, those measured first: e = L^-1 u. Of one row beyond a limit what is left is a
normal's probability, of two that of a rectangle (`kernels.binormal`, an Op with its own derivatives).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from pkpd.bayes.density import kernels_key
from pkpd.bayes.hierarchy import beta_shape, correlation_factor, pairs
from pkpd.bayes.plan import Plan, residual_label, residual_partial
from pkpd.kernels.binormal import log_rectangles
from pkpd.kernels.observations import ABOVE, BELOW, MEASURED

if TYPE_CHECKING:
    from pkpd.bayes.design import Design

__all__ = ["Rectangles", "correlations", "tied"]

Ints = NDArray[np.int64]
HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


class Rectangles(Op):
    """(a1, b1, a2, b2, r), each (n,) -> log P of the rectangles (n,) and its derivatives (n, 5)."""

    __props__: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dvector(), pt.dmatrix()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0], storage[1][0] = log_rectangles(*inputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        return [shapes[0], (shapes[0][0], 5)]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True, False] for _ in node.inputs]

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        if isinstance(cotangents[0].type, type(disconnected_type())):
            return [disconnected_type() for _ in inputs]
        return [cotangents[0] * outputs[1][:, k] for k in range(5)]


@register_funcify_default_op_cache_key(Rectangles)
def _rectangles_in_numba(op: Rectangles, node: Any = None, **_: Any) -> Any:
    return log_rectangles


def correlations(plan: Plan) -> dict[tuple[str, str], Any]:
    """The correlation of every pair of outputs of a block, both ways round; LKJ by partial correlations."""
    found: dict[tuple[str, str], Any] = {}
    for block, shape in plan.sigma:
        partial = {}
        for i, j in pairs(len(block)):
            b = np.float64(beta_shape(shape, len(block), j))
            partial[i, j] = 2.0 * pm.Beta(residual_partial(block[j], block[i]), b, b) - 1.0
        rows = correlation_factor(partial, len(block), pt.sqrt)
        for i, j in pairs(len(block)):
            r = sum(a * b for a, b in zip(rows[i], rows[j], strict=False))
            pm.Deterministic(residual_label(block[j], block[i]), r)
            found[block[i], block[j]] = found[block[j], block[i]] = r
    return found


def tied(plan: Plan, design: Design, mean: Any, scales: Mapping[str, Any]) -> None:
    """The potential of all rows measured together. scales: of each output's rows, a function of their numbers."""
    r, parts = correlations(plan), []
    for group in design.ties:
        own = group[group >= 0]
        parts.append(tuple(sorted(own.tolist(), key=lambda row: (design.kind[row] != MEASURED, design.output[row]))))
    patterns: dict[Any, list[tuple[int, ...]]] = {}
    for rows in parts:
        patterns.setdefault(tuple((design.output[k], design.kind[k]) for k in rows), []).append(rows)
    if not patterns:
        return
    total = [
        _pattern([plan.outputs[o] for o, _ in key], np.asarray(rows), (design, mean, scales), r)
        for key, rows in patterns.items()
    ]
    pm.Potential("together", sum(x.sum() for x in total))


def _pattern(
    names: Sequence[str], rows: Ints, about: tuple[Design, Any, Mapping[str, Any]], r: Mapping[Any, Any]
) -> Any:
    """Log density (G,) of groups rows (G, m) of one pattern."""
    design, mean, scales = about
    root = _root(names, r)
    value: Any = 0.0
    e: list[Any] = []
    measured = [k for k in range(len(names)) if design.kind[rows[0, k]] == MEASURED]
    for k in measured:
        s, logs = scales[names[k]](rows[:, k])
        u = _standard(design.dv[rows[:, k]], mean[rows[:, k]], s, logs=logs)
        e.append((u - sum(root[k][j] * e[j] for j in range(k))) / root[k][k])
        value = value - 0.5 * e[k] ** 2 - pt.log(root[k][k]) - HALF_LOG_2PI - pt.log(s)
        value = value - (np.log(design.dv[rows[:, k]]) if logs else 0.0)
    limits: list[tuple[Any, Any]] = []
    for k in range(len(e), len(names)):
        away = sum(root[k][j] * e[j] for j in range(len(e)))
        wide = pt.sqrt(sum(root[k][j] ** 2 for j in range(len(e), k + 1)))
        low, high = _limits(design, mean, scales[names[k]], rows[:, k])
        low, high = (x if isinstance(x, float) else (x - away) / wide for x in (low, high))
        limits.append((low, high))
    return value + _beyond(limits, root, len(e))


def _root(names: Sequence[str], r: Mapping[Any, Any]) -> list[list[Any]]:
    """Cholesky factor of the correlations of some outputs, by its formula."""
    root: list[list[Any]] = []
    for i, a in enumerate(names):
        row: list[Any] = []
        for j in range(i):
            row.append((r[a, names[j]] - sum(row[k] * root[j][k] for k in range(j))) / root[j][j])
        root.append([*row, pt.sqrt(1.0 - sum(x * x for x in row)) if i else pt.as_tensor(np.float64(1.0))])
    return root


def _standard(y: Any, mean: Any, s: Any, *, logs: bool) -> Any:
    return (np.log(y) - pt.log(mean)) / s if logs else (y - mean) / s


def _limits(design: Design, mean: Any, scale: Any, rows: Ints) -> tuple[Any, Any]:
    """Standardised lower and upper limits (G,) of rows beyond a limit, infinite where there is none."""
    s, logs = scale(rows)
    kind, own = int(design.kind[rows[0]]), mean[rows]
    y = _standard(design.dv[rows], own, s, logs=logs)
    if kind == BELOW:
        return -np.inf, y
    return (y, np.inf) if kind == ABOVE else (_standard(design.floor[rows], own, s, logs=logs), y)


def _beyond(limits: list[tuple[Any, Any]], root: list[list[Any]], p: int) -> Any:
    """Log probability of what lies within limits, standardised given the p rows that were measured."""
    from pkpd.bayes.likelihood import log_between, log_phi

    if not limits:
        return 0.0
    low, high = limits[0]
    if len(limits) == 1:
        if isinstance(low, float):
            return log_phi(high)
        return log_phi(-low) if isinstance(high, float) else log_between(low, high)
    r = root[p + 1][p] / pt.sqrt(root[p + 1][p] ** 2 + root[p + 1][p + 1] ** 2)
    none = pt.zeros_like(next(x for x in limits[0] if not isinstance(x, float)))
    return Rectangles(kernels_key())(*(none + x for x in (*limits[0], *limits[1], r)))[0]
