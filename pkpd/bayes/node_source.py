"""Source text of what a density asks at many points: states behind at their nodes, outputs at the rows of the data.

Points of a subject are taken eight at a time, the last eight beyond its end: what they find there is the next
subject's, who writes it anew, so that every loop has the length of a vector. Where sums are made they are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pkpd.bayes.density_source import function
from pkpd.engine.graph import Graph
from pkpd.engine.printer import fixed_nodes, statements

__all__ = ["SPARE", "Response", "Turnover", "response", "turnover"]

SPARE = 8
"""Points more than there are that arrays over nodes hold."""
_DIVISOR = re.compile(r" / (x\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """`turn(X, s, offsets, G, <roots>, <slopes>)` and `turn_back(X, offsets, G, <slopes>, <roots' adjoints>, sums, gs,
    gX)`: roots at the nodes and their slopes that move there; slopes: how many of them.
    """

    text: str
    slopes: int
    sums: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """`respond(X, subject, output, s, <at, states behind>, f, told)` and `respond_back(subject, output, gf, told, gs,
    <at, adjoints of states behind>, gX)`: outputs at the rows; width: of told (rows, width).
    """

    text: str
    width: int


def turnover(graph: Graph, roots: Sequence[int], fixed: Sequence[int], moving: Sequence[int]) -> Turnover:
    """Gains and losses of states behind; fixed: symbols of the subject (columns of X); moving: signals (rows of s).

    What does not move is computed once a subject.
    """
    from pkpd.engine.derive import jacobian

    found = jacobian(graph, roots, [*fixed, *moving])
    names = {node: f"p{k}" for k, node in enumerate(fixed)}
    bent = [(place, node) for place, node in found.items() if graph.changes[node]]
    flat = [(place, node) for place, node in found.items() if not graph.changes[node]]
    inside = [*roots, *(node for _, node in bent)]
    still = [n for n in fixed_nodes(graph, inside) if n not in names]
    before = statements(graph, still, names, "c")
    known = {**names, **dict(zip(still, before.roots, strict=True))} | {n: f"s[{k}, at]" for k, n in enumerate(moving)}
    block = statements(graph, inside, known, "x")
    B, K = len(roots), len(fixed)
    values = [f"W{k}" for k in range(B)] + [f"D{k}" for k in range(len(bent))]
    loop = [*_reciprocals(block.lines), *(f"{n}[at] = {t}" for n, t in zip(values, block.roots, strict=True))]
    ahead = _over_nodes(_loaded([*before.lines, *loop]) + list(before.lines), loop, [])
    late = statements(graph, [node for _, node in flat], names, "c")
    back, after = _pulled(bent, flat, late.roots, (B, K))
    behind = _over_nodes(_loaded([*late.lines, *after]), back, [*late.lines, *after], sums=B + K)
    adjoints = [f"G{k}" for k in range(B)]
    text = function(f"turn(X, s, offsets, G, {', '.join(values)})", ahead) + function(
        f"turn_back(X, offsets, G, {', '.join([*values[B:], *adjoints])}, sums, gs, gX)", behind
    )
    return Turnover(text=text, slopes=len(bent), sums=8 * (B + K))


def _reciprocals(lines: Sequence[str]) -> list[str]:
    """What divides several times is inverted once: a vector of quotients costs four of everything else."""
    counts: dict[str, int] = {}
    for name in _DIVISOR.findall("\n".join(lines)):
        counts[name] = counts.get(name, 0) + 1
    often = {name for name, count in counts.items() if count > 1}
    found = []
    for line in lines:
        found.append(_DIVISOR.sub(lambda m: f" * r{m[1]}" if m[1] in often else m[0], line))
        made = line.split(" = ", 1)[0]
        found += [f"r{made} = 1.0 / {made}"] if made in often else []
    return found


def _loaded(lines: Sequence[str]) -> list[str]:
    """The subject's own values that the lines use, as locals."""
    used = sorted({int(k) for k in re.findall(r"\bp(\d+)\b", "\n".join(lines))})
    return [f"p{k} = X[i, {k}]" for k in used]


def _over_nodes(before: Sequence[str], inside: Sequence[str], after: Sequence[str], sums: int = 0) -> list[str]:
    """A loop over subjects and, eight at a time, their nodes; sums: rows of eight to clear for each subject."""
    clear = [f"for k in range({8 * sums}):", "    sums[k] = 0.0"] if sums else []
    return [
        "separate()", "for i in range(offsets.size - 1):",
        *(f"    {line}" for line in [*before, *clear]),
        "    end = offsets[i + 1] * G", "    for first in range(offsets[i] * G, end, 8):",
        "        for lane in range(8):",
        "            at = np.uint64(first + lane)",  # unsigned: numba then asks of no index whether it is negative
        *(f"            {line}" for line in inside or ["pass"]),
        *(f"    {line}" for line in after),
    ]  # fmt: skip


def _pulled(
    bent: Sequence[tuple[tuple[int, int], int]], flat: Sequence[tuple[tuple[int, int], int]], slopes: Sequence[str],
    size: tuple[int, int],
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Statements of `turn_back` at a node and, after its nodes, for a subject.

    sums: a row of eight for each root (its adjoint, for slopes that do not move), then for each column of X.
    """
    B, K = size
    rows = sorted({row for (row, _), _ in flat})
    columns = sorted({column for (_, column), _ in bent if column < K})
    inside = ["mine = first + lane < end", *(f"g{b} = G{b}[at]" for b in range(B))]
    inside += [f"sums[{8 * b} + lane] += g{b} if mine else 0.0" for b in rows]
    moved: dict[int, list[str]] = {}
    for k, ((row, column), _) in enumerate(bent):
        if column < K:
            inside.append(f"v{k} = g{row} * D{k}[at]")
            inside.append(f"sums[{8 * (B + column)} + lane] += v{k} if mine else 0.0")
        else:
            moved.setdefault(column - K, []).append(f"g{row} * D{k}[at]")
    for (row, column), slope in zip([place for place, _ in flat], slopes, strict=True):
        if column >= K:
            moved.setdefault(column - K, []).append(f"g{row} * {slope}")
    inside += [f"gs[{c}, at] = {' + '.join(terms)}" for c, terms in moved.items()]
    after = [f"for k in range({B + K}):", "    sums[k] = across(sums, 8 * k)"]
    after += [f"gX[i, {column}] += sums[{B + column}]" for column in columns]
    after += [
        f"gX[i, {column}] += sums[{row}] * {slope}"
        for ((row, column), _), slope in zip(flat, slopes, strict=True)
        if column < K
    ]
    return inside, after


def response(
    graph: Graph, outputs: Sequence[int], fixed: Sequence[int], moving: tuple[Sequence[int], Sequence[int]]
) -> Response:
    """Outputs at the rows; moving: signals (rows of s) and states behind (x_0, x_1 ... at the rows' breakpoints)."""
    from pkpd.engine.derive import jacobian

    seen, after = moving
    K, S, B = len(fixed), len(seen), len(after)
    names = {node: f"X[i, {k}]" for k, node in enumerate(fixed)} | {node: f"s[{k}, r]" for k, node in enumerate(seen)}
    names |= {node: f"b{k}" for k, node in enumerate(after)}
    ahead, back, width = [], [], 1
    for o, root in enumerate(outputs):
        found = jacobian(graph, [root], [*fixed, *seen, *after])
        block = statements(graph, [root, *found.values()], names, "x")
        lines = [*block.lines, f"f[r] = {block.roots[0]}"]
        lines += [f"told[r, {e}] = {text}" for e, text in enumerate(block.roots[1:])]
        lines = [
            f"b{k} = x_{k}[at[r]] if at[r] >= 0 else 0.0" for k in range(B) if re.search(rf"\bb{k}\b", "\n".join(lines))
        ] + lines
        ahead.append((o, lines))
        back.append((o, [_gathered(column, e, (K, S)) for e, (_, column) in enumerate(found)]))
        width = max(width, len(found))
    behind = "".join(f", x_{k}" for k in range(B))
    gbehind = "".join(f", gx_{k}" for k in range(B))
    also = ", at" if B else ""
    text = function(f"respond(X, subject, output, s{also}{behind}, f, told)", _over_rows(ahead)) + function(
        f"respond_back(subject, output, gf, told, gs{also}{gbehind}, gX)", _over_rows(back)
    )
    return Response(text=text, width=width)


def _gathered(column: int, e: int, size: tuple[int, int]) -> str:
    """The statement that gives slope e of a row's output to the adjoint of its variable."""
    K, S = size
    if column < K:
        return f"gX[i, {column}] += gf[r] * told[r, {e}]"
    if column < K + S:
        return f"gs[{column - K}, r] += gf[r] * told[r, {e}]"
    return f"if at[r] >= 0: gx_{column - K - S}[at[r]] += gf[r] * told[r, {e}]"


def _over_rows(cases: Sequence[tuple[int, Sequence[str]]]) -> list[str]:
    """A loop over rows with a case for each output."""
    found = ["separate()", "for r in range(subject.size):", "    i = subject[r]"]
    for o, lines in cases:
        found.append(f"    {'if' if o == 0 else 'elif'} output[r] == {o}:")
        found += [f"        {line}" for line in lines or ["pass"]]
    return found
