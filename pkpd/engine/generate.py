"""Dynamics -> Python source of its eight-lane Tsit5 solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pkpd.engine import tsit5
from pkpd.engine.dynamics import TIME, Dynamics, Tangent
from pkpd.engine.graph import Graph
from pkpd.engine.printer import Block, fixed_nodes, statements
from pkpd.engine.tangent_source import MARK, groups, norm, tangent_functions
from pkpd.engine.template import DRIVER, HEADER, NO_WINDOWS, WINDOWS

__all__ = ["source"]

_BLOCKS = ("Y", "K1", "YN", "K7", "D2", "D3", "D4", "R", "YP", "YS", "RS", "X", "XK", "M", "C")
_FIRST_ROW = 16  # kernels.lanes.FIRST_FREE_ROW, repeated so that generating needs no numba


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbered nodes of one model: derivatives, outputs, initial values, and what is computed once per subject.

    names: of the states; groups: numbers of the states that the norm of the error takes together.
    """

    graph: Graph
    states: tuple[int, ...]
    time: int
    parameters: tuple[int, ...]
    derivative: tuple[int, ...]
    outputs: tuple[int, ...]
    initial: tuple[int, ...]
    fixed: tuple[int, ...]
    switches: bool
    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    tangent: Tangent | None

    @property
    def rows(self) -> dict[str, int]:
        """First row of each block of the workspace."""
        n, row, found = len(self.states), _FIRST_ROW, {}
        for name in _BLOCKS:
            found[name] = row
            row += n if name != "M" or self.switches else 0
        found["end"] = found["C"] + len(self.fixed) + n
        return found


def _plan(dynamics: Dynamics, switches: bool) -> Plan:
    graph = Graph(frozenset({*dynamics.states, TIME}))
    names = {n: graph.symbol(n) for n in (*dynamics.parameters, TIME, *dynamics.states)}
    leaves = dict(names)
    for name, expr in dynamics.assigned.items():
        names[name] = graph.of(expr, names)
    derivative = tuple(graph.of(dynamics.derivative[s], names) for s in dynamics.states)
    outputs = tuple(graph.of(e, names) for e in dynamics.wanted().values())
    initial = tuple(graph.of(dynamics.initial_of(s), names) for s in dynamics.states)
    return Plan(
        graph=graph,
        states=tuple(leaves[s] for s in dynamics.states),
        time=leaves[TIME],
        parameters=tuple(leaves[p] for p in dynamics.parameters),
        derivative=derivative,
        outputs=outputs,
        initial=initial,
        fixed=tuple(fixed_nodes(graph, (*derivative, *outputs))),
        switches=switches,
        names=dynamics.states,
        groups=groups(dynamics.states, dynamics.tangent),
        tangent=dynamics.tangent,
    )


def source(dynamics: Dynamics, *, switches: bool = False) -> str:
    """The module's text; only generated names and numbers occur in it, never the user's words.

    switches: compartments can be turned off and on.
    """
    plan = _plan(dynamics, switches)
    rows = plan.rows
    header = HEADER.format(
        digest=dynamics.digest(),
        ns=len(plan.states),
        np=len(plan.states) - len(dynamics.hazards),
        no=len(plan.outputs),
        rows=rows["end"],
        layout=", ".join(str(rows[k]) for k in _BLOCKS),
    )
    parts = [header, _prepare(plan), _initial(plan), _switch(plan), _outputs(plan), _restart(plan), _step(plan)]
    parts += [_commit(plan), _tangent(plan)]
    windows = WINDOWS if dynamics.summaries else NO_WINDOWS
    driver = DRIVER if plan.tangent is None else DRIVER.replace(MARK, "")
    return "\n".join([*parts, driver.replace("{signature}", _SIGNATURE).replace("{windows}", windows)])


_SIGNATURE = (
    "(float64[:, ::1], int64[::1], float64[::1], int8[::1], int32[::1], float64[::1], float64[:, ::1], int32[::1], "
    "float64[:, ::1], float64[::1], float64[:, ::1], boolean, int64[::1], float64[:, :, ::1], float64[:, :, ::1], "
    "float64, float64, int64, float64[:, :, ::1], float64[:, :, ::1], "
    "float64[:, :, ::1], float64[:, :, :, ::1], int8[::1])"
)


def _function(head: str, body: Sequence[str], how: str = "inline") -> str:
    lines = "\n".join(f"    {line}" for line in body) or "    pass"
    return f"\n@{how}\ndef {head}:\n{lines}\n"


def _at(row: int | str, offset: int = 0) -> str:
    return f"W[({row} + {offset}) * 8 + lane]"


def _prepare(plan: Plan) -> str:
    """Constants of a subject and its initial state, from its row of parameters."""
    given = {node: f"p[{k}]" for k, node in enumerate(plan.parameters)}
    block = statements(plan.graph, (*plan.fixed, *plan.initial), given, "x")
    n = len(plan.fixed)
    stores = [f"{_at('C', k)} = {text}" for k, text in enumerate(block.roots[:n])]
    stores += [f"{_at('C', n + k)} = {text}" for k, text in enumerate(block.roots[n:])]
    return _function("prepare(p, W, lane)", [*block.lines, *stores])


def _initial(plan: Plan) -> str:
    n = len(plan.fixed)
    return _function("initial(W, lane)", [f"{_at('Y', k)} = {_at('C', n + k)}" for k in range(len(plan.states))])


def _switch(plan: Plan) -> str:
    """Turn a compartment on (1) or off (0)."""
    return _function("switch(W, lane, state, on)", ["W[(M + state) * 8 + lane] = on"] if plan.switches else [])


def _fixed_given(plan: Plan) -> dict[int, str]:
    return {node: f"c{k}" for k, node in enumerate(plan.fixed)}


def _load_fixed(plan: Plan, roots: Sequence[int]) -> list[str]:
    used = set(plan.graph.needed(roots))
    return [f"c{k} = {_at('C', k)}" for k, node in enumerate(plan.fixed) if node in used]


def _seen(plan: Plan) -> list[int]:
    """Numbers of the states the outputs depend on: only these need dense output."""
    used = set(plan.graph.needed(plan.outputs))
    return [k for k, node in enumerate(plan.states) if node in used]


def _output_lines(plan: Plan, time: str, store: str) -> list[str]:
    """Statements that store every output from locals y0, y1, ... and the constants c0, c1, ..."""
    given = _fixed_given(plan) | {s: f"y{k}" for k, s in enumerate(plan.states)} | {plan.time: time}
    block = statements(plan.graph, plan.outputs, given, "x")
    return [*block.lines, *(f"{store.format(k)} = {text}" for k, text in enumerate(block.roots))]


def _outputs(plan: Plan) -> str:
    """Outputs at the current state, at a fraction of the step, and at every sample inside the step."""
    fixed, seen = _load_fixed(plan, plan.outputs), _seen(plan)
    head = ["t = W[lane]", "h = W[8 + lane]", *fixed]
    now = ["t = W[lane]", *fixed, *(f"y{k} = {_at('Y', k)}" for k in seen), *_output_lines(plan, "t", "out[{}]")]
    coefficients = [line for k in seen for line in _coefficients(k)]
    dense = [f"y{k} = {_polynomial(k)}" for k in seen]
    at = "fma(theta, h, t)"
    inside = [*head, *coefficients, *dense, *_output_lines(plan, at, "out[{}]")]
    loop = [
        "theta = (times[i, j] - t) * per_h",
        *dense,
        *_output_lines(plan, "times[i, j]", "values[i, {}, j]"),
        "j += 1",
    ]
    pending = "times[i, j] < limit or (inclusive and times[i, j] == limit)"
    samples = [
        *head,
        "per_h = 1.0 / h",
        *coefficients,
        "i, j = I[lane], I[16 + lane]",
        f"while j < times.shape[1] and ({pending}):",
    ]
    samples += [*(f"    {line}" for line in loop), "I[16 + lane] = j"]
    samples.append("W[112 + lane] = times[i, j] if j < times.shape[1] else np.inf")
    return (
        _function("outputs_now(W, lane, out)", now)
        + _function("dense_outputs(W, lane, theta, out)", inside)
        + _function("samples_in_step(W, I, lane, times, limit, inclusive, values)", samples, "forced")
    )


def _coefficients(k: int) -> list[str]:
    rows = [f"a{k}_0 = {_at('Y', k)}", f"a{k}_1 = h * {_at('K1', k)}"]
    return rows + [f"a{k}_{p} = {_at(f'D{p}', k)}" for p in (2, 3, 4)]


def _polynomial(k: int) -> str:
    text = f"a{k}_4"
    for p in (3, 2, 1, 0):
        text = f"fma(theta, {text}, a{k}_{p})"
    return text


def _slopes(plan: Plan, states: Sequence[str], time: str, stage: int) -> list[str]:
    """Statements for the derivatives at one stage, `k{stage}_{state}`."""
    given = _fixed_given(plan) | dict(zip(plan.states, states, strict=True)) | {plan.time: time}
    block: Block = statements(plan.graph, plan.derivative, given, f"x{stage}_")
    slope = "k{0}_{1} = ({2} + r{1}) * m{1}" if plan.switches else "k{0}_{1} = {2} + r{1}"
    return [*block.lines, *(slope.format(stage, j, text) for j, text in enumerate(block.roots))]


def _lane_loop(head: str, body: Sequence[str], how: str = "inline") -> str:
    return _function(head, ["for lane in range(8):", *(f"    {line}" for line in body)], how)


def _loads(plan: Plan, rows: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["t = W[lane]", "h = W[8 + lane]"]
    rows = [*rows, ("M", "m")] if plan.switches else rows
    lines += [f"{local}{j} = {_at(row, j)}" for row, local in rows for j in range(len(plan.states))]
    return lines + _load_fixed(plan, plan.derivative)


def _restart(plan: Plan) -> str:
    """First slope and first step of lanes flagged new; the other lanes keep theirs."""
    n = range(len(plan.states))
    body = [*_loads(plan, [("Y", "y"), ("R", "r")]), *_slopes(plan, [f"y{j}" for j in n], "t", 1)]
    body += ["d0 = 0.0", "d1 = 0.0"]
    for j in n:
        body += [f"s{j} = 1.0 / (atol + rtol * abs(y{j}))", f"d0 += abs(y{j}) * s{j}", f"d1 += abs(k1_{j}) * s{j}"]
    body += ["new = W[40 + lane] == 1.0", "W[8 + lane] = 0.01 * (d0 + 1e-6) / d1 if new else h"]
    body += [f"{_at('K1', j)} = k1_{j} if new else {_at('K1', j)}" for j in n]
    return _lane_loop("restart(W, rtol, atol)", body)


def _combined(weights: Sequence[float], j: int) -> str:
    """sum of weight * k_i of state j, by fused multiply-adds."""
    text = ""
    for i, weight in enumerate(weights, start=1):
        if weight != 0.0:
            text = f"fma({weight!r}, k{i}_{j}, {text})" if text else f"{weight!r} * k{i}_{j}"
    return text


def _step(plan: Plan) -> str:
    """All stages, the error norm and the dense coefficients of one step, for all lanes."""
    n = range(len(plan.states))
    body = _loads(plan, [("Y", "y"), ("K1", "k1_"), ("R", "r")])
    for stage in range(2, 8):
        body += [f"u{stage}_{j} = fma(h, {_combined(tsit5.A[stage - 1], j)}, y{j})" for j in n]
        body.append(f"t{stage} = fma(h, {tsit5.C[stage - 1]!r}, t)")
        body += _slopes(plan, [f"u{stage}_{j}" for j in n], f"t{stage}", stage)
    for g, group in enumerate(plan.groups):
        body += [f"total{g} = 0.0", *(line for j in group for line in _error_lines(j, g))]
    body += [f"W[16 + lane] = {norm([len(group) for group in plan.groups])}"]
    for j in n:
        body += [f"{_at('YN', j)} = u7_{j}", f"{_at('K7', j)} = k7_{j}"]
    for j in _seen(plan):
        body += [f"{_at(f'D{p}', j)} = h * ({_combined([b[p - 1] for b in tsit5.dense()], j)})" for p in (2, 3, 4)]
    return _lane_loop("step(W, rtol, atol)", body, "forced")


def _error_lines(j: int, group: int) -> list[str]:
    return [
        f"a{j} = abs(y{j})",
        f"b{j} = abs(u7_{j})",
        f"e{j} = h * ({_combined(tsit5.ERROR, j)}) / (atol + rtol * (a{j} if a{j} > b{j} else b{j}))",
        f"total{group} = fma(e{j}, e{j}, total{group})",
    ]


def _tangent(plan: Plan) -> str:
    """Jumps of sensitivities, which need the slopes of the model's own states."""
    own = [k for k, name in enumerate(plan.names) if k in plan.groups[0]]
    roots = [plan.derivative[k] for k in own]
    given = _fixed_given(plan) | {node: f"y{k}" for k, node in enumerate(plan.states)} | {plan.time: "t"}
    block = statements(plan.graph, roots, given, "x")
    rows = [("Y", "y"), ("R", "r"), *([("M", "m")] if plan.switches else [])]
    lines = [f"{local}{k} = {_at(row, k)}" for row, local in rows for k in own]
    slope = "s{0} = ({1} + r{0}) * m{0}" if plan.switches else "s{0} = {1} + r{0}"
    lines += [*_load_fixed(plan, roots), *block.lines, *(slope.format(k, t) for k, t in zip(own, block.roots, strict=True))]
    return tangent_functions(plan, lines, [f"s{k}" for k in range(len(plan.names))])


def _commit(plan: Plan) -> str:
    """Accepted lanes move on; every lane gets its next step, cut at its next stop; the last two before it are equal."""
    body = ["accepted = W[32 + lane] == 1.0"]
    for j in range(len(plan.states)):
        for old, new in (("Y", "YN"), ("K1", "K7")):
            body.append(f"{_at(old, j)} = {_at(new, j)} if accepted else {_at(old, j)}")
    body += [
        "there = W[56 + lane] if accepted else 0.0",
        "moved = W[48 + lane] if there == 1.0 else W[lane] + W[8 + lane]",
        "t = moved if accepted else W[lane]",
        "rest = W[48 + lane] - t",
        "h = W[64 + lane]",
        "W[lane] = t",
        "W[104 + lane] = there",
        "W[56 + lane] = 0.0 if h < rest else 1.0",
        "h = 0.5 * rest if (h > 0.5 * rest and h < rest) else h",
        "W[8 + lane] = h if h < rest else rest",
    ]
    return _lane_loop("commit(W)", body, "forced")
