"""Numbers for graph nodes: the same expressions as the kernels', evaluated over subjects by NumPy on our functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.graph import Graph
from pkpd.engine.printer import compared

__all__ = ["values_of"]

F64 = NDArray[np.float64]

_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal, "and": np.logical_and,
    "or": np.logical_or, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
_ONE: dict[str, Callable[[Any], Any]] = {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "not": np.logical_not,
}  # fmt: skip


def values_of(graph: Graph, roots: Sequence[int], given: Mapping[int, F64], n: int) -> list[F64]:
    """Value of each root for n subjects, each (n,); given: value of every symbol they need, (n,) or a number."""
    found: dict[int, Any] = dict(given)
    with np.errstate(all="ignore"):
        for node in graph.needed(roots):
            if node not in found:
                found[node] = _value(graph, node, found)
    return [np.array(np.broadcast_to(found[root], (n,)), dtype=np.float64, order="C") for root in roots]


def _value(graph: Graph, node: int, found: Mapping[int, Any]) -> Any:
    op, args = graph.nodes[node].op, [found[a] for a in graph.nodes[node].args]
    if op == "number":
        return float(graph.nodes[node].value)
    if op in _TWO:
        return _TWO[op](*args)
    if op in _ONE:
        return _ONE[op](*args)
    if op == "if":
        unknown = [np.isnan(found[a]) for a in compared(graph, graph.nodes[node].args[0])]
        chosen = np.where(args[0], args[1], args[2])
        return np.where(np.logical_or.reduce(np.broadcast_arrays(*unknown)), np.nan, chosen) if unknown else chosen
    return _transcendental(op, args)


def _transcendental(op: str, args: list[Any]) -> Any:
    from pkpd.kernels import elementary

    if op in ("cos", "digamma", "factorial", "lgamma", "sin", "trigamma"):
        from pkpd.model import special

        return getattr(special, op)(np.asarray(args[0], np.float64))
    if op == "power":
        return elementary.power_array(*args)
    if op == "tanh":
        z = elementary.exp_array(-2.0 * np.abs(args[0]))
        return np.copysign((1.0 - z) / (1.0 + z), args[0])
    return {"exp": elementary.exp_array, "log": elementary.log_array, "expit": elementary.expit_array}[op](args[0])
