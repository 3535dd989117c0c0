"""What a generated solver is made from: the numbered nodes of a model, and the phrases every method's text needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import batched

from pkpd.engine.block import LinearBlock
from pkpd.engine.dynamics import TIME, Dynamics, Tangent
from pkpd.engine.graph import Graph
from pkpd.engine.printer import Block, fixed_nodes, statements
from pkpd.engine.tangent_source import groups

__all__ = [
    "BLOCKS", "NOTHING_MORE", "POINTS", "Needs", "Plan", "Split", "at", "combined", "dense_rows", "error_lines",
    "fed", "fixed_given", "function", "lane_loop", "load_fixed", "loads", "moment", "plan_of", "seen", "slopes",
]  # fmt: skip

BLOCKS = ("Y", "K1", "YN", "K7", "D2", "D3", "D4", "R", "YS", "RS", "X", "XK", "M", "C")
POINTS = 7  # rows of an output for its windows: five points of the step, their mean, whether it turns
_HAIR = 2.0**-46  # more than the rounding of a time that parameters give, less than any tolerance sees
_FIRST_ROW = 16  # kernels.lanes.FIRST_FREE_ROW, repeated so that generating needs no numba


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The linear block inside a model: its states are carried by its modes, exactly, and feed the other states.

    states: their numbers; rates, inverse (m,): nodes of the eigenvalues and of 1/rate; V, U: nodes of the modes and of
    their inverse, where they are not zero by structure; constant: node of the constant input of each state that has
    one; outputs: numbers of the outputs that are of the block alone, which the closed form computes.
    """

    states: tuple[int, ...]
    rates: tuple[int, ...]
    inverse: tuple[int, ...]
    V: dict[tuple[int, int], int]
    U: dict[tuple[int, int], int]
    constant: dict[int, int]
    outputs: tuple[int, ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        """Everything that is constant for a subject."""
        return (*self.rates, *self.inverse, *self.V.values(), *self.U.values(), *self.constant.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What records and request ask of a solver besides steps, samples and hazards; else it is not compiled.

    rates: infusions into states that are stepped (into a linear block they need nothing more); switches: compartments
    go off and on; steady: steady states; windows: statistics over windows.
    """

    rates: bool = False
    switches: bool = False
    steady: bool = False
    windows: bool = False


NOTHING_MORE = Needs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbered nodes of one model: derivatives, outputs, initial values, and what is computed once per subject.

    names: of the states; groups: numbers of the states that the norm of the error takes together; inputs: symbols of
    the input rates of the states, for total derivatives; own: numbers of the states the method steps; edges: whether
    the equations may jump or bend at times at which the solver stops; hazards: whether states integrate hazards.
    """

    graph: Graph
    states: tuple[int, ...]
    time: int
    inputs: tuple[int, ...]
    parameters: tuple[int, ...]
    derivative: tuple[int, ...]
    outputs: tuple[int, ...]
    initial: tuple[int, ...]
    fixed: tuple[int, ...]
    needs: Needs
    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    tangent: Tangent | None
    split: Split | None
    windows: tuple[int, ...]
    edges: bool
    hazards: bool

    @property
    def rows(self) -> dict[str, int]:
        """First row of each block of the workspace."""
        n, row, found = len(self.states), _FIRST_ROW, {}
        for name in BLOCKS:
            found[name] = row
            row += n if name != "M" or self.needs.switches else 0
        found["FIVE"] = found["C"] + len(self.fixed) + n
        found["end"] = found["FIVE"] + (POINTS * len(self.outputs) if self.watched else 0)
        return found

    @property
    def own(self) -> tuple[int, ...]:
        """Numbers of the states the method steps: all, or those outside the linear block."""
        inside = self.split.states if self.split else ()
        return tuple(k for k in range(len(self.states)) if k not in inside)

    @property
    def fed(self) -> tuple[int, ...]:
        """States whose rate of input is looked at: the block's, and all where infusions run into others."""
        every = self.needs.rates or self.tangent is not None
        return tuple(range(len(self.states))) if every else (self.split.states if self.split else ())

    @property
    def gathers(self) -> tuple[bool, ...]:
        """Which states only gather: nothing that has to repeat in a steady state depends on them."""
        used = [set(self.graph.needed([node])) for node in self.derivative]
        found: set[int] = set()
        while True:
            needed = set().union(*(used[k] for k in range(len(used)) if k not in found))
            more = {k for k, node in enumerate(self.states) if node not in needed | used[k]} - found
            if not more:
                return tuple(k in found for k in range(len(used)))
            found |= more

    @property
    def watched(self) -> tuple[int, ...]:
        """Numbers of the outputs whose windows the steps see: those of the block's outputs are closed forms."""
        return tuple(k for k in self.windows if k in self.stepped)

    @property
    def stepped(self) -> tuple[int, ...]:
        """Numbers of the outputs to be had inside a step."""
        closed = self.split.outputs if self.split else ()
        return tuple(k for k in range(len(self.outputs)) if k not in closed)


def plan_of(dynamics: Dynamics, needs: Needs = NOTHING_MORE, block: LinearBlock | None = None) -> Plan:
    """Nodes of a model; block: its linear block, if that is to be carried by its modes."""
    inputs = tuple(f"input/{s}" for s in dynamics.states)
    graph = Graph(frozenset({*dynamics.states, TIME, *inputs}))
    names = {n: graph.symbol(n) for n in (*dynamics.parameters, TIME, *dynamics.states)}
    leaves = dict(names)
    for name, expr in dynamics.assigned.items():
        names[name] = graph.of(expr, names)
    derivative = tuple(graph.of(dynamics.derivative[s], names) for s in dynamics.states)
    outputs = tuple(graph.of(e, names) for e in dynamics.wanted().values())
    initial = tuple(graph.of(dynamics.initial_of(s), names) for s in dynamics.states)
    added: list[int] = []
    split = None if block is None else _split(graph, block, added)
    together = groups(dynamics.states, dynamics.tangent)
    if split is not None:
        together = (tuple(k for k in together[0] if k not in split.states), *together[1:])
    return Plan(
        graph=graph,
        states=tuple(leaves[s] for s in dynamics.states),
        time=leaves[TIME],
        inputs=tuple(graph.symbol(name) for name in inputs),
        parameters=(*(leaves[p] for p in dynamics.parameters), *added),
        derivative=derivative,
        outputs=outputs,
        initial=initial,
        fixed=tuple(sorted({*fixed_nodes(graph, (*derivative, *outputs)), *(split.nodes if split else ())})),
        needs=needs,
        names=dynamics.states,
        groups=together,
        tangent=dynamics.tangent,
        split=split,
        windows=_windows(dynamics) if needs.windows else (),
        edges=bool(dynamics.stops),
        hazards=bool(dynamics.hazards),
    )


def _windows(dynamics: Dynamics) -> tuple[int, ...]:
    """Numbers of the outputs that a summary is of."""
    return tuple(sorted({list(dynamics.wanted()).index(s.of) for s in dynamics.summaries}))


def _split(graph: Graph, block: LinearBlock, added: list[int]) -> Split:
    """Symbols of the block's modes, in the order of the columns of `LinearBlock.columns`; they go to `added`."""

    def symbol(name: str) -> int:
        added.append(graph.symbol(f"block/{name}"))
        return added[-1]

    m, lower = len(block.states), block.lower
    rates = tuple(symbol(f"rate{k}") for k in range(m))
    V = {(i, k): symbol(f"v{i}_{k}") for i, k in lower}
    U = {(i, k): symbol(f"u{i}_{k}") for i, k in lower}
    constant = {i: symbol(f"b{i}") for i in block.driven}
    inverse = tuple(graph.apply("/", graph.number(1.0), rate) for rate in rates)
    return Split(states=block.states, rates=rates, inverse=inverse, V=V, U=U, constant=constant, outputs=block.outputs)


def function(head: str, body: Sequence[str], how: str = "inline") -> str:
    """Text of a function."""
    lines = "\n".join(f"    {line}" for line in body) or "    pass"
    return f"\n@{how}\ndef {head}:\n{lines}\n"


def at(row: int | str, offset: int = 0) -> str:
    """A place of the workspace in this lane."""
    return f"W[({row} + {offset}) * LANES + lane]"


def lane_loop(head: str, body: Sequence[str], how: str = "inline") -> str:
    """Text of a function that does the same for every lane."""
    return function(head, ["wide()", "for lane in range(LANES):", *(f"    {line}" for line in body)], how)


def fixed_given(plan: Plan) -> dict[int, str]:
    """Locals of what is constant for a subject."""
    return {node: f"c{k}" for k, node in enumerate(plan.fixed)}


def load_fixed(plan: Plan, roots: Sequence[int]) -> list[str]:
    """Statements that load the constants the roots need."""
    used = set(plan.graph.needed(roots))
    return [f"c{k} = {at('C', k)}" for k, node in enumerate(plan.fixed) if node in used]


def loads(plan: Plan, rows: Sequence[tuple[str, str]], roots: Sequence[int]) -> list[str]:
    """Statements that load time, step, rows of every state into locals, and the constants of the roots."""
    lines = ["t = W[lane]", "h = W[LANES + lane]"]
    rows = [*rows, ("M", "m")] if plan.needs.switches else rows
    for row, local in rows:
        lines += [f"{local}{j} = {at(row, j)}" for j in (plan.fed if row == "R" else range(len(plan.states)))]
    return lines + load_fixed(plan, roots)


def fed(plan: Plan, j: int, text: str) -> str:
    """The slope of state j with its rate of input and its switch."""
    whole = f"{text} + r{j}" if j in plan.fed else text
    return f"({whole}) * m{j}" if plan.needs.switches else whole


def seen(plan: Plan, outputs: Sequence[int]) -> list[int]:
    """Numbers of the states these outputs depend on: only these need dense output."""
    used = set(plan.graph.needed([plan.outputs[k] for k in outputs]))
    return [k for k, node in enumerate(plan.states) if node in used]


def moment(plan: Plan, node: float) -> str:
    """Time of a stage at a fraction of the step; the ends are a hair inside the step where equations may jump there."""
    if plan.edges and node in (0.0, 1.0):
        end = "t" if node == 0.0 else "fma(h, 1.0, t)"
        return f"fma({_HAIR if node == 0.0 else -_HAIR!r}, abs({end}) + 1.0, {end})"
    return f"fma(h, {node!r}, t)" if node else "t"


def slopes(plan: Plan, states: Sequence[str], time: str, stage: int) -> list[str]:
    """Statements for the derivatives at one stage, `k{stage}_{state}`, of the states the method steps."""
    given = fixed_given(plan) | dict(zip(plan.states, states, strict=True)) | {plan.time: time}
    own = plan.own if stage > 1 else range(len(plan.states))
    block: Block = statements(plan.graph, [plan.derivative[j] for j in own], given, f"x{stage}_")
    return [*block.lines, *(f"k{stage}_{j} = {fed(plan, j, text)}" for j, text in zip(own, block.roots, strict=True))]


def combined(weights: Sequence[float], j: int) -> str:
    """sum of weight * k_i of state j, by fused multiply-adds."""
    text = ""
    for i, weight in enumerate(weights, start=1):
        if weight != 0.0:
            text = f"fma({weight!r}, k{i}_{j}, {text})" if text else f"{weight!r} * k{i}_{j}"
    return text


def error_lines(group: int, errors: Mapping[int, tuple[str, str]]) -> list[str]:
    """Statements for `total{group}`, the sum of squares of scaled errors; errors: state -> texts of error, new state.

    Up to four divisions are made one, 1/(a b c d) times what each lacks: they are the dearest instructions of a step.
    """
    lines = [f"total{group} = 0.0"]
    for some in batched(errors, 4):
        for j in some:
            lines += [f"a{j} = abs(y{j})", f"b{j} = abs({errors[j][1]})"]
            lines.append(f"s{j} = atol + rtol * (a{j} if a{j} > b{j} else b{j})")
        lines.append(f"one = 1.0 / ({' * '.join(f's{j}' for j in some)})")
        for j in some:
            others = "".join(f" * s{k}" for k in some if k != j)
            lines += [f"e{j} = ({errors[j][0]}) * (one{others})", f"total{group} = fma(e{j}, e{j}, total{group})"]
    return lines


def dense_rows(plan: Plan) -> list[int]:
    """Numbers of the stepped states that need rows of dense output."""
    return [j for j in seen(plan, plan.stepped) if j in plan.own]
