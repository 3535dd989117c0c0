"""Derivatives on the expression graph: exact, by the rules of calculus, with structural zeros left out.

A derivative is a node of the same graph, so what it shares with the equations is computed once. Where an expression
jumps or bends (`if`, `min`, `abs`, `floor`), the derivative is that of the branch that holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pkpd.engine.graph import Graph

__all__ = ["Derivatives", "affine", "jacobian"]

_ARITHMETIC = {"+", "-", "*", "/", "neg", "number", "symbol"}
_SMOOTH_STEPS = {"floor", "ceil", "<", "<=", ">", ">=", "==", "!=", "and", "or", "not"}


@dataclass(slots=True)
class Derivatives:
    """Total derivatives along `seeds`: {node of a symbol: node of its derivative}; a missing symbol has derivative 0.

    >>> from pkpd.engine.graph import Graph
    >>> graph = Graph(frozenset({"x"}))
    >>> x = graph.symbol("x")
    >>> d = Derivatives(graph, {x: graph.number(1.0)})
    >>> d.of(graph.apply("*", x, x)) == graph.apply("+", x, x)
    True
    """

    graph: Graph
    seeds: Mapping[int, int]
    _known: dict[int, int | None] = field(default_factory=dict)

    def of(self, node: int) -> int | None:
        """The node of the derivative, or None where it is zero by structure."""
        for n in self.graph.needed([node]):
            if n not in self._known:
                self._known[n] = self._derived(n)
        return self._known[node]

    def _derived(self, n: int) -> int | None:
        if n in self.seeds:
            seed = self.seeds[n]
            return None if self.graph.literal(seed) == 0.0 else seed
        op, args = self.graph.nodes[n].op, self.graph.nodes[n].args
        parts = [self._known[a] for a in args]
        if op in _SMOOTH_STEPS or all(p is None for p in parts):
            return None
        if op in ("+", "-"):
            return self._sum(op, parts[0], parts[1])
        if op == "*":
            return self._sum("+", self._times(parts[0], args[1]), self._times(parts[1], args[0]))
        if op == "/":
            return self._quotient(n, args, parts)
        if op == "power":
            return self._power(n, args, parts)
        if op in ("if", "min", "max"):
            return self._branch(op, args, parts)
        outer = self._function(op, n, args[0])
        return self._times(parts[0], outer)

    def _sum(self, op: str, a: int | None, b: int | None) -> int | None:
        if b is None:
            return a
        if a is None:
            return b if op == "+" else self.graph.apply("neg", b)
        return self.graph.apply(op, a, b)

    def _times(self, derivative: int | None, factor: int) -> int | None:
        if derivative is None or self.graph.literal(factor) == 0.0:
            return None
        return self.graph.apply("*", derivative, factor)

    def _quotient(self, n: int, args: tuple[int, ...], parts: list[int | None]) -> int | None:
        """(a/b)' = (a' - (a/b) b')/b."""
        top = self._sum("-", parts[0], self._times(parts[1], n))
        return None if top is None else self.graph.apply("/", top, args[1])

    def _power(self, n: int, args: tuple[int, ...], parts: list[int | None]) -> int | None:
        """(a^b)' = b a^b/a a' + a^b log(a) b'; finite where a is 0: see `_rising`; the second term is 0 there."""
        g, (base, exponent) = self.graph, args
        first = second = None
        if parts[0] is not None:
            first = self._times(parts[0], self._rising(n, base, exponent))
        if parts[1] is not None:
            zero = g.number(0.0)
            slope = g.apply("if", g.apply("==", base, zero), zero, g.apply("*", n, g.apply("log", base)))
            second = self._times(parts[1], slope)
        return self._sum("+", first, second)

    def _rising(self, n: int, base: int, exponent: int) -> int:
        """b a^(b-1), by the value n = a^b; 0 in place of the infinite slope of b < 1 at a = 0.

        A state rests there, before its first dose, and its own sensitivities are 0 too: their product has the limit 0,
        which infinity times 0 has not. A Jacobian with an entry of 0 costs a Rosenbrock method order, not consistency.
        """
        g, zero, one = self.graph, self.graph.number(0.0), self.graph.number(1.0)
        b = g.literal(exponent)
        at_zero = zero if b is not None else g.apply("if", g.apply("==", exponent, one), one, zero)
        return g.apply("if", g.apply("==", base, zero), at_zero, g.apply("*", exponent, g.apply("/", n, base)))

    def _branch(self, op: str, args: tuple[int, ...], parts: list[int | None]) -> int:
        g, zero = self.graph, self.graph.number(0.0)
        yes, no = (zero if p is None else p for p in parts[-2:])
        if yes == no:
            return yes
        condition = args[0] if op == "if" else g.apply("<" if op == "min" else ">", args[0], args[1])
        return g.apply("if", condition, yes, no)

    def _function(self, op: str, n: int, x: int) -> int:
        """Derivative of a function of one argument at `x`, whose value is the node `n`."""
        g, one = self.graph, self.graph.number(1.0)
        if op == "neg":
            return g.number(-1.0)
        if op == "exp":
            return n
        if op == "log":
            return g.apply("/", one, x)
        if op == "sqrt":
            zero = g.number(0.0)
            return g.apply("if", g.apply("==", x, zero), zero, g.apply("/", g.number(0.5), n))
        if op == "expit":
            return g.apply("*", n, g.apply("-", one, n))
        if op == "tanh":
            return g.apply("-", one, g.apply("*", n, n))
        if op == "abs":
            return g.apply("if", g.apply("<", x, g.number(0.0)), g.number(-1.0), one)
        return self._special(op, n, x)

    def _special(self, op: str, n: int, x: int) -> int:
        """The same for the functions of `kernels.special`."""
        g = self.graph
        if op == "sin":
            return g.apply("cos", x)
        if op == "cos":
            return g.apply("neg", g.apply("sin", x))
        if op == "lgamma":
            return g.apply("digamma", x)
        if op == "digamma":
            return g.apply("trigamma", x)
        if op == "factorial":
            return g.apply("*", n, g.apply("digamma", g.apply("+", x, g.number(1.0))))
        raise TypeError(f"no derivative of {op!r}")


def jacobian(graph: Graph, functions: Iterable[int], variables: Iterable[int]) -> dict[tuple[int, int], int]:
    """{(row, column): node} of d function/d variable, only where it is not zero by structure.

    `variables` are symbol nodes; rows and columns count in the order given.
    """
    rows, found, one = list(functions), {}, graph.number(1.0)
    for column, variable in enumerate(variables):
        along = Derivatives(graph, {variable: one})
        for row, function in enumerate(rows):
            slope = along.of(function)
            if slope is not None:
                found[row, column] = slope
    return found


def affine(graph: Graph, node: int, variables: Iterable[int]) -> bool:
    """Whether the node is a constant plus constants times `variables`, and moves with nothing else."""
    inside = set(variables)
    for n in graph.needed([node]):
        if graph.changes[n]:
            op = graph.nodes[n].op
            if op not in _ARITHMETIC or (op == "symbol" and n not in inside):
                return False
    return not any(graph.changes[slope] for slope in jacobian(graph, [node], inside).values())
