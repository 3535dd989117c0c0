"""A graph as Python statements for numba: locals and operators only, no text of the user in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pkpd.engine.graph import Graph

__all__ = ["Block", "compared", "fixed_nodes", "needed", "statements"]

_INFIX = {"+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!="}
_CALLS = {
    "exp": "exp",
    "log": "log",
    "power": "power",
    "expit": "expit",
    "tanh": "tanh",
    "abs": "abs",
    "sqrt": "np.sqrt",
    "floor": "np.floor",
    "ceil": "np.ceil",
    "min": "least",
    "max": "greatest",
    **{name: name for name in ("cos", "digamma", "factorial", "lgamma", "sin", "trigamma")},
}
_COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}
_TRUTHS = _COMPARISONS | {"and", "or", "not"}
_NESTING = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Statements that assign locals, and the text of each root in terms of them."""

    lines: tuple[str, ...]
    roots: tuple[str, ...]


def fixed_nodes(graph: Graph, roots: Iterable[int]) -> list[int]:
    """Nodes that do not move within a solve but feed something that does (or are roots): computed once per subject."""
    wanted: set[int] = set()
    stack = list(roots)
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if graph.changes[node] or graph.nodes[node].op in _TRUTHS:  # a truth value is no float: store what it compares
            stack.extend(graph.nodes[node].args)
        elif graph.nodes[node].op != "number":
            wanted.add(node)
    return sorted(wanted)


def statements(graph: Graph, roots: Sequence[int], given: Mapping[int, str], prefix: str) -> Block:
    """Python statements for the roots; `given` nodes are already locals, new locals are named `prefix` + number."""
    nodes = needed(graph, roots, given)
    uses = _uses(graph, nodes, roots, given)
    text: dict[int, str] = dict(given)
    depth: dict[int, int] = {}
    lines: list[str] = []
    for node in nodes:
        if node in given:
            continue
        body = _printed(graph, node, text)
        depth[node] = 1 + max((depth.get(a, 0) for a in graph.nodes[node].args), default=0)
        leaf = graph.nodes[node].op in ("number", "symbol")
        if leaf or (uses[node] <= 1 and depth[node] < _NESTING and node not in roots):
            text[node] = body if leaf else f"({body})"
        else:
            text[node], depth[node] = f"{prefix}{node}", 0
            lines.append(f"{text[node]} = {body}")
    return Block(lines=tuple(lines), roots=tuple(text[r] for r in roots))


def needed(graph: Graph, roots: Iterable[int], given: Mapping[int, object]) -> list[int]:
    """Nodes the roots depend on, arguments first; what is given is not looked into."""
    found: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            if node not in given:
                stack.extend(graph.nodes[node].args)
    return sorted(found)


def _uses(graph: Graph, needed: Sequence[int], roots: Sequence[int], given: Mapping[int, str]) -> dict[int, int]:
    uses = dict.fromkeys(needed, 0)
    for root in roots:
        uses[root] += 1
    for node in needed:
        if node not in given:
            copies = 2 if graph.nodes[node].op == "if" else 1
            for a in graph.nodes[node].args:
                uses[a] += copies
    return uses


def _printed(graph: Graph, node: int, text: Mapping[int, str]) -> str:
    found = graph.nodes[node]
    args = [text.get(a, "") for a in found.args]
    if found.op == "number":
        return _number(float(found.value))
    if found.op in _INFIX:
        return f"{args[0]} {found.op} {args[1]}"
    if found.op in ("and", "or"):
        return f"{args[0]} {'&' if found.op == 'and' else '|'} {args[1]}"
    if found.op == "not":
        return f"{args[0]} == False"
    if found.op == "neg":
        return f"-{args[0]}"
    if found.op == "if":
        return f"choose({args[0]}, {args[1]}, {args[2]}, {_known(graph, found.args[0], text)})"
    return f"{_CALLS[found.op]}({', '.join(args)})"


def _known(graph: Graph, condition: int, text: Mapping[int, str]) -> str:
    """NaN where a number under the condition is NaN, else 0: a condition on a missing value is unknown."""
    return " + ".join(f"missing({text[n]})" for n in compared(graph, condition)) or "0.0"


def compared(graph: Graph, condition: int) -> list[int]:
    """The nodes whose values the condition compares, literals left out."""
    leaves: set[int] = set()
    stack = [condition]
    while stack:
        node = graph.nodes[stack.pop()]
        if node.op in _COMPARISONS:
            leaves |= {a for a in node.args if graph.nodes[a].op != "number"}
        elif node.op in ("and", "or", "not"):
            stack.extend(node.args)
    return sorted(leaves)


def _number(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("a literal of a model is finite")
    return repr(value) if value >= 0.0 else f"({value!r})"
