"""Expressions as a graph with shared nodes: common subexpressions are found by construction.

Chosen over a computer-algebra system because the order of evaluation stays the one the user wrote, the same text gives
the same generated source in every process, and no import of half a second is needed. Nodes are numbered in order of
creation, so arguments always come before their users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pkpd.model.equations import Binary, Call, Compare, Expr, Logic, Name, Number, Unary

__all__ = ["Graph", "Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """`op` is number, symbol, an operator of the graph or a function; `args` are node numbers; `value` of a leaf."""

    op: str
    args: tuple[int, ...] = ()
    value: float | str = 0.0


@dataclass(slots=True)
class Graph:
    """Hash-consed nodes; `moving` holds the symbols that change within a solve (states, time)."""

    moving: frozenset[str]
    nodes: list[Node] = field(default_factory=list)
    changes: list[bool] = field(default_factory=list)
    _index: dict[Node, int] = field(default_factory=dict)

    def number(self, value: float) -> int:
        """A literal."""
        return self._add(Node("number", (), float(value)))

    def symbol(self, name: str) -> int:
        """A state, parameter or time."""
        return self._add(Node("symbol", (), name))

    def apply(self, op: str, *args: int) -> int:
        """An operation, folded where it is trivial (x*1, x+0, literals under + - *)."""
        folded = self._folded(op, args)
        return self._add(Node(op, args)) if folded is None else folded

    def literal(self, node: int) -> float | None:
        """The value of a number node, else None."""
        found = self.nodes[node]
        return float(found.value) if found.op == "number" else None

    def _add(self, node: Node) -> int:
        known = self._index.get(node)
        if known is not None:
            return known
        self._index[node] = len(self.nodes)
        self.nodes.append(node)
        self.changes.append(
            node.value in self.moving if node.op == "symbol" else any(self.changes[a] for a in node.args)
        )
        return len(self.nodes) - 1

    def _folded(self, op: str, args: tuple[int, ...]) -> int | None:
        a = self.literal(args[0])
        b = self.literal(args[1]) if len(args) == 2 else None
        if op in ("+", "-", "*") and a is not None and b is not None:
            return self.number({"+": a + b, "-": a - b, "*": a * b}[op])
        if op == "/" and a is not None and b:
            return self.number(a / b)
        if op == "neg" and a is not None:
            return self.number(-a)
        if op in ("+", "-") and b == 0.0:
            return args[0]
        if op == "+" and a == 0.0:
            return args[1]
        if op in ("*", "/") and b == 1.0:
            return args[0]
        if op == "*" and a == 1.0:
            return args[1]
        if op == "/" and b is None and self.changes[args[0]] and not self.changes[args[1]]:
            return self.apply("*", args[0], self.apply("/", self.number(1.0), args[1]))
        return None

    def of(self, expr: Expr, names: Mapping[str, int]) -> int:
        """The node of an expression tree; `names` maps every free name to a node."""
        match expr:
            case Number(value):
                return self.number(value)
            case Name(name):
                return names[name]
            case Unary(_, operand):
                return self.apply("neg", self.of(operand, names))
            case Binary("^", left, right) | Call("pow", (left, right)):
                return self._power(self.of(left, names), self.of(right, names))
            case Binary(op, left, right):
                return self.apply(op, self.of(left, names), self.of(right, names))
            case Compare(ops, operands):
                parts = [self.of(o, names) for o in operands]
                return self._all([self.apply(op, a, b) for op, a, b in zip(ops, parts, parts[1:], strict=False)])
            case Logic(op, operands):
                parts = [self.of(o, names) for o in operands]
                return self.apply("not", parts[0]) if op == "not" else self._all(parts, op)
            case Call("if", (condition, yes, no)):
                return self.apply("if", *(self.of(x, names) for x in (condition, yes, no)))
            case Call(function, args):
                return self._called(function, [self.of(a, names) for a in args])
        raise TypeError(f"not an expression: {expr!r}")

    def _all(self, parts: list[int], op: str = "and") -> int:
        node = parts[0]
        for part in parts[1:]:
            node = self.apply(op, node, part)
        return node

    def _power(self, base: int, exponent: int) -> int:
        """x^n as products for a literal whole n up to 16, else the power function."""
        n = self.literal(exponent)
        if n is None or n != int(n) or abs(n) > 16:
            return self._raised(base, exponent)
        product = self.number(1.0)
        for _ in range(abs(int(n))):
            product = self.apply("*", product, base)
        return self.apply("/", self.number(1.0), product) if n < 0 else product

    def _raised(self, base: int, exponent: int) -> int:
        """x^y; (a/b)^y with a constant a as (b/a)^-y, because b times the constant 1/a needs no division."""
        found = self.nodes[base]
        if found.op == "/" and not self.changes[found.args[0]]:
            inverse = self.apply("/", found.args[1], found.args[0])
            return self.apply("power", inverse, self.apply("neg", exponent))
        return self.apply("power", base, exponent)

    def _called(self, function: str, args: list[int]) -> int:
        if function == "log10":
            return self.apply("/", self.apply("log", args[0]), self.number(2.302585092994045684))
        if function == "logit":
            return self.apply("log", self.apply("/", args[0], self.apply("-", self.number(1.0), args[0])))
        if function in ("min", "max"):
            node = args[0]
            for other in args[1:]:
                node = self.apply(function, node, other)
            return node
        return self.apply(function, *args)

    def needed(self, roots: Iterable[int]) -> list[int]:
        """Every node the roots depend on, arguments first."""
        found: set[int] = set()
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack.extend(self.nodes[node].args)
        return sorted(found)
