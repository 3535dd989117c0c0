"""Text of a Rodas5P step for all lanes: exact derivatives, sparse LU without pivoting for the model's pattern.

Pivots of I/(gamma h) - J are positive where J has non-positive real parts on its diagonal blocks, and the step shrinks
where they are not; a pivot of zero gives an error that is not a number, and the step is repeated with a smaller h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkpd.engine import rodas5p as method
from pkpd.engine.derive import Derivatives, jacobian
from pkpd.engine.modes_source import Modes
from pkpd.engine.plan import (
    Plan,
    at,
    combined,
    dense_rows,
    error_lines,
    fed,
    fixed_given,
    lane_loop,
    loads,
    moment,
    slopes,
)  # fmt: skip
from pkpd.engine.printer import statements
from pkpd.engine.tangent_source import norm

__all__ = ["Elimination", "rodas5p_step"]


@dataclass(frozen=True, slots=True)
class Elimination:
    """Symbolic LU of a pattern: order of the pivots, entries of L and U (row, column) with fill-in."""

    order: tuple[int, ...]
    lower: tuple[tuple[int, int], ...]
    upper: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, pattern: set[tuple[int, int]], states: Sequence[int]) -> Elimination:
        """Diagonal pivots, least fill-in first (Markowitz); ties in the order of the states."""
        filled = {(i, j) for i, j in pattern if i != j}
        left, order = list(states), []
        lower, upper = [], []
        while left:
            below = {k: [i for i in left if (i, k) in filled] for k in left}
            right = {k: [j for j in left if (k, j) in filled] for k in left}
            k = min(left, key=lambda k: (len(below[k]) * len(right[k]), states.index(k)))
            left.remove(k)
            order.append(k)
            lower += [(i, k) for i in below[k]]
            upper += [(k, j) for j in right[k]]
            filled |= {(i, j) for i in below[k] for j in right[k] if i != j}
        return cls(tuple(order), tuple(lower), tuple(upper))

    def factor(self, pattern: set[tuple[int, int]]) -> list[str]:
        """Statements: from m{i}_{j} to multipliers l{i}_{k}, rows of U in m and reciprocals p{k} of the pivots."""
        known = set(pattern) | {(k, k) for k in self.order}
        lines = []
        for k in self.order:
            lines.append(f"p{k} = 1.0 / m{k}_{k}")
            right = [j for row, j in self.upper if row == k]
            for i in (i for i, column in self.lower if column == k):
                lines.append(f"l{i}_{k} = -m{i}_{k} * p{k}")
                for j in right:
                    new = f"fma(l{i}_{k}, m{k}_{j}, m{i}_{j})" if (i, j) in known else f"l{i}_{k} * m{k}_{j}"
                    lines.append(f"m{i}_{j} = {new}")
                    known.add((i, j))
        return lines

    def solve(self, name: str) -> list[str]:
        """Statements that replace the right-hand side {name}_{j} by the solution."""
        lines = []
        for k in self.order:
            for i in (i for i, column in self.lower if column == k):
                lines.append(f"{name}_{i} = fma(l{i}_{k}, {name}_{k}, {name}_{i})")
        for k in reversed(self.order):
            for j in (j for row, j in self.upper if row == k):
                lines.append(f"{name}_{k} = fma(-m{k}_{j}, {name}_{j}, {name}_{k})")
            lines.append(f"{name}_{k} = {name}_{k} * p{k}")
        return lines


def rodas5p_step(plan: Plan) -> str:
    """All stages, the error norm and the dense coefficients of one step, for all lanes."""
    own, modes = plan.own, Modes(plan)
    slope = jacobian(plan.graph, [plan.derivative[j] for j in own], [plan.states[j] for j in own])
    pattern = {(own[i], own[j]) for i, j in slope}
    clock = _clock(plan)
    roots = [*plan.derivative, *slope.values(), *clock.values(), *modes.nodes]
    body = [*loads(plan, [("Y", "y"), ("R", "r")], roots), "per_h = 1.0 / h", *modes.begin()]
    body += _first(plan, list(slope.values()), clock, [(own[i], own[j]) for i, j in slope])
    body += [f"m{j}_{j} = per_h * {1.0 / method.GAMMA!r}{f' - j{j}_{j}' if (j, j) in pattern else ''}" for j in own]
    body += [f"m{i}_{j} = -j{i}_{j}" for i, j in sorted(pattern) if i != j]
    elimination = Elimination.of(pattern, own)
    body += elimination.factor(pattern)
    for stage in range(1, 9):
        body += _stage(plan, modes, stage, clock, elimination=elimination)
    return lane_loop("step(W, rtol, atol)", [*body, *_end(plan), *modes.end("u9_")], "forced")


def _clock(plan: Plan) -> dict[int, int]:
    """State -> node of the total derivative of its slope with time, through the clock and through the linear block."""
    graph = plan.graph
    seeds = {plan.time: graph.number(1.0)}
    for s in plan.split.states if plan.split else ():
        seeds[plan.states[s]] = graph.apply("+", plan.derivative[s], plan.inputs[s])
    along = Derivatives(graph, seeds)
    found = {j: along.of(plan.derivative[j]) for j in plan.own}
    return {j: node for j, node in found.items() if node is not None}


def _first(plan: Plan, slope: list[int], clock: dict[int, int], places: list[tuple[int, int]]) -> list[str]:
    """f, the Jacobian j{i}_{j} and df/dt g{j} at the start of the step, computed together."""
    given = fixed_given(plan) | {node: f"y{k}" for k, node in enumerate(plan.states)} | {plan.time: "t1"}
    given |= {plan.inputs[k]: f"r{k}" for k in plan.fed}
    roots = [*(plan.derivative[j] for j in plan.own), *slope, *clock.values()]
    block = statements(plan.graph, roots, given, "x1_")
    n, q = len(plan.own), len(slope)
    lines = [f"t1 = {moment(plan, 0.0)}", *block.lines]
    by = {j: f" * m{j}" if plan.needs.switches else "" for j in plan.own}
    lines += [f"f1_{j} = {fed(plan, j, text)}" for j, text in zip(plan.own, block.roots[:n], strict=True)]
    lines += [f"j{i}_{j} = ({t}){by[i]}" for (i, j), t in zip(places, block.roots[n : n + q], strict=True)]
    return lines + [f"g{j} = h * ({t}){by[j]}" for j, t in zip(clock, block.roots[n + q :], strict=True)]


def _stage(plan: Plan, modes: Modes, stage: int, clock: dict[int, int], *, elimination: Elimination) -> list[str]:
    """One stage: k{stage}_{j} for every state the method steps."""
    own, lines = plan.own, []
    weights, outside = method.A[stage - 1], method.C[stage - 1]
    if stage > 1:
        before = f"u{stage - 1}_" if stage > 6 else "y"
        inside = [f"{before}{j} + k{stage - 1}_{j}" for j in own]
        if stage <= 6:
            inside = [f"y{j} + ({combined(weights, j)})" for j in own]
        lines += [f"u{stage}_{j} = {text}" for j, text in zip(own, inside, strict=True)]
        node = method.NODES[stage - 1]
        lines += modes.at(repr(node), f"u{stage}_")
        lines.append(f"t{stage} = {moment(plan, node)}")
        lines += _renamed(slopes(plan, [f"u{stage}_{j}" for j in range(len(plan.states))], f"t{stage}", stage), stage)
    for j in own:
        text = f"f{stage}_{j}"
        if stage > 1:
            text = f"fma(per_h, {combined(outside, j)}, {text})"
        if j in clock and method.TIME[stage - 1]:
            text = f"fma({method.TIME[stage - 1]!r}, g{j}, {text})"
        lines.append(f"k{stage}_{j} = {text}")
    return lines + elimination.solve(f"k{stage}")


def _renamed(lines: list[str], stage: int) -> list[str]:
    """`slopes` names its results k{stage}_{j}; here these are the slopes f, k what the solve makes of them."""
    return [f"f{line[1:]}" if line.startswith(f"k{stage}_") else line for line in lines]


def _end(plan: Plan) -> list[str]:
    """New state, error norm, dense rows: a1 = (y1 - y) + K_1, a2 = K_2 - K_1, a3 = K_3 - K_2, a4 = -K_3."""
    lines = [f"u9_{j} = u8_{j} + k8_{j}" for j in plan.own]
    if plan.split is not None:
        lines += [f"u9_{s} = u8_{s}" for s in plan.split.states]
    for g, group in enumerate(plan.groups):
        lines += error_lines(g, {j: (f"k8_{j}", f"u9_{j}") for j in group})
    lines.append(f"W[2 * LANES + lane] = {norm([len(group) for group in plan.groups])}")
    lines += [f"{at('YN', j)} = u9_{j}" for j in plan.own]
    for j in dense_rows(plan):
        lines += [f"h{m}_{j} = {combined(row, j)}" for m, row in enumerate(method.H, start=1)]
        lines += [f"{at('K7', j)} = (u9_{j} - y{j}) + h1_{j}", f"{at('D2', j)} = h2_{j} - h1_{j}"]
        lines += [f"{at('D3', j)} = h3_{j} - h2_{j}", f"{at('D4', j)} = -h3_{j}"]
    return lines
