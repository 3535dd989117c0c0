"""Finds the linear block of a model: states whose equations are affine in the block's own states, with constant rates.

The block is the largest such set; it may be the whole model. Its states are put in the order the kernels want:
strongly connected groups upstream first, each group a tree whose root comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.derive import affine, jacobian
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.graph import Graph
from pkpd.engine.numeric import values_of

__all__ = ["LinearBlock", "Matrices", "linear_block"]

F64 = NDArray[np.float64]
_LARGEST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """y' = A y + b, y(0) = y0, outputs = constant + weights y, of n subjects; m states in the block's order."""

    A: F64
    b: F64
    y0: F64
    weights: F64
    constant: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearBlock:
    """states: numbers in `Dynamics.states`, in the block's order; starts, parent: as kernels.compartments takes them;
    modal: every group is a reversible tree, so that its rates are real; whole: the block is the whole model;
    outputs: numbers of the outputs that are affine in the block's states and nothing else that moves; fed: numbers of
    the others that depend on the block's states directly.
    """

    graph: Graph
    states: tuple[int, ...]
    starts: tuple[int, ...]
    parent: tuple[int, ...]
    modal: bool
    whole: bool
    outputs: tuple[int, ...]
    fed: tuple[int, ...]
    parameters: tuple[int, ...]
    symbols: tuple[int, ...]
    derivative: tuple[int, ...]
    initial: tuple[int, ...]
    roots: tuple[int, ...]
    _known: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def lower(self) -> tuple[tuple[int, int], ...]:
        """Places (i, j) of the block where state j reaches state i: the modes' matrices are zero elsewhere."""
        return cast(tuple[tuple[int, int], ...], self._once("lower", self._lower))

    def _lower(self) -> tuple[tuple[int, int], ...]:
        m = len(self.states)
        flow = set(self._jacobian("derivative"))
        reached = {j: _reached(j, range(m), flow) for j in range(m)}
        return tuple((i, j) for i in range(m) for j in range(m) if i in reached[j])

    @property
    def driven(self) -> tuple[int, ...]:
        """Places in the block of the states with a constant input, as three rows of made-up parameters show."""
        return cast(tuple[int, ...], self._once("driven", self._driven))

    def _driven(self) -> tuple[int, ...]:
        rows = np.array([[0.3 + 0.1 * k, 1.7 + 0.2 * k, 0.9 / (1 + k)] for k in range(len(self.parameters))]).T
        b = self.matrices(np.ascontiguousarray(rows), states=False).b
        return tuple(int(i) for i in np.flatnonzero((b != 0.0).any(axis=0) | np.isnan(b).any(axis=0)))

    def matrices(self, parameters: F64, *, states: bool) -> Matrices:
        """Numbers for parameters (n, P). The rows of weights are `outputs`, then, with `states`, the states."""
        n, m, q = len(parameters), len(self.states), len(self.outputs)
        given: dict[int, F64] = {node: parameters[:, k] for k, node in enumerate(self.parameters)}
        given |= {symbol: np.zeros(1) for symbol in self.symbols}
        A, b, y0 = np.zeros((n, m, m)), np.zeros((n, m)), np.zeros((n, m))
        rows = q + m if states else q
        weights, constant = np.zeros((n, rows, m)), np.zeros((n, rows))
        for (i, j), values in self._slopes("derivative", given, n):
            A[:, i, j] = values
        for (i, j), values in self._slopes("roots", given, n):
            weights[:, i, j] = values
        if states:
            weights[:, q:, :] = np.eye(m)
        for table, nodes in ((b, self.derivative), (y0, self.initial), (constant, self.roots)):
            for k, values in enumerate(values_of(self.graph, nodes, given, n)):
                table[:, k] = values
        return Matrices(A=A, b=b, y0=y0, weights=weights, constant=constant)

    def _slopes(self, which: str, given: Mapping[int, F64], n: int) -> Iterable[tuple[tuple[int, int], F64]]:
        found = self._jacobian(which)
        return zip(found, values_of(self.graph, list(found.values()), given, n), strict=True)

    def _jacobian(self, which: str) -> Mapping[tuple[int, int], int]:
        """Nodes of the slopes of `derivative` or `roots`."""
        made = self._once(which, lambda: jacobian(self.graph, getattr(self, which), self.symbols))
        return cast(Mapping[tuple[int, int], int], made)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What follows from the structure alone is worked out once: it takes as long as solving a hundred subjects."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]


@dataclass(slots=True)
class _Nodes:
    """The model on a graph: every name's node."""

    graph: Graph
    names: dict[str, int]
    derivative: list[int]
    initial: list[int]
    outputs: list[int]
    symbols: list[int]

    @classmethod
    def of(cls, dynamics: Dynamics) -> _Nodes:
        graph = Graph(frozenset({*dynamics.states, TIME}))
        names = {n: graph.symbol(n) for n in (*dynamics.parameters, TIME, *dynamics.states)}
        symbols = [names[s] for s in dynamics.states]
        for name, expr in dynamics.assigned.items():
            names[name] = graph.of(expr, names)
        return cls(
            graph=graph,
            names=names,
            derivative=[graph.of(dynamics.derivative[s], names) for s in dynamics.states],
            initial=[graph.of(dynamics.initial_of(s), names) for s in dynamics.states],
            outputs=[graph.of(e, names) for e in dynamics.wanted().values()],
            symbols=symbols,
        )


def linear_block(dynamics: Dynamics) -> LinearBlock | None:
    """The largest linear block of at most twelve states, or None."""
    nodes = _Nodes.of(dynamics)
    inside = _members(nodes, [k for k, s in enumerate(dynamics.states) if s not in dynamics.hazards])
    if not inside or len(inside) > _LARGEST:
        return None
    flow = _flow(nodes, inside)
    states, starts = _ordered(inside, flow)
    parent = _trees(states, starts, flow)
    symbols = [nodes.symbols[s] for s in states]
    outputs = [k for k, node in enumerate(nodes.outputs) if affine(nodes.graph, node, symbols)]
    return LinearBlock(
        graph=nodes.graph,
        states=tuple(states),
        starts=tuple(starts),
        parent=tuple(-1 if p is None else p for p in parent or [None] * len(states)),
        modal=parent is not None,
        whole=len(states) == len(dynamics.states),
        outputs=tuple(outputs),
        fed=tuple(k for k, node in enumerate(nodes.outputs) if k not in outputs and _uses(nodes.graph, node, symbols)),
        parameters=tuple(nodes.names[p] for p in dynamics.parameters),
        symbols=tuple(symbols),
        derivative=tuple(nodes.derivative[s] for s in states),
        initial=tuple(nodes.initial[s] for s in states),
        roots=tuple(nodes.outputs[k] for k in outputs),
    )


def _uses(graph: Graph, node: int, symbols: list[int]) -> bool:
    return not set(symbols).isdisjoint(graph.needed([node]))


def _members(nodes: _Nodes, inside: list[int]) -> list[int]:
    """Fixed point: drop every state whose equation is not affine in the states that are left."""
    while True:
        symbols = [nodes.symbols[s] for s in inside]
        kept = [s for s in inside if affine(nodes.graph, nodes.derivative[s], symbols)]
        if kept == inside:
            return inside
        inside = kept


def _flow(nodes: _Nodes, inside: list[int]) -> set[tuple[int, int]]:
    """(to, from) pairs of different states with a rate that is not zero by structure."""
    found = jacobian(nodes.graph, [nodes.derivative[s] for s in inside], [nodes.symbols[s] for s in inside])
    return {(inside[i], inside[j]) for i, j in found if i != j}


def _reached(start: int, inside: Iterable[int], flow: set[tuple[int, int]]) -> set[int]:
    """What `start` feeds, directly or not; itself included."""
    found, stack = {start}, [start]
    while stack:
        here = stack.pop()
        new = [s for s in inside if (s, here) in flow and s not in found]
        found.update(new)
        stack.extend(new)
    return found


def _ordered(inside: list[int], flow: set[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """States in groups, upstream first (in the model's order where it is free), each group breadth first."""
    feeds = {s: _reached(s, inside, flow) for s in inside}
    groups: list[list[int]] = []
    for s in inside:
        if not any(s in g for g in groups):
            groups.append([t for t in inside if t in feeds[s] and s in feeds[t]])
    order: list[int] = []
    starts = [0]
    while groups:
        ready = next(g for g in groups if not any(g[0] in feeds[h[0]] for h in groups if h is not g))
        groups.remove(ready)
        order += _breadth_first(ready, flow)
        starts.append(len(order))
    return order, starts


def _breadth_first(group: list[int], flow: set[tuple[int, int]]) -> list[int]:
    found = [group[0]]
    for here in found:
        found += [s for s in group if s not in found and ((s, here) in flow or (here, s) in flow)]
    return found


def _trees(states: list[int], starts: list[int], flow: set[tuple[int, int]]) -> list[int | None] | None:
    """Each state's neighbour nearer the root (its place in `states`), if every group is a reversible tree."""
    parent: list[int | None] = []
    for lo, hi in pairwise(starts):
        group = states[lo:hi]
        pairs = {(a, b) for a, b in flow if a in group and b in group}
        if len(pairs) != 2 * (len(group) - 1) or any((b, a) not in pairs for a, b in pairs):
            return None
        for k, s in enumerate(group):
            before = [lo + p for p in range(k) if (s, group[p]) in pairs]
            parent.append(before[0] if before else None)
    return parent
