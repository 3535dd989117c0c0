"""Source text of a solver with its discrete adjoint: predictions of the data's rows, and the way back.

Forward: Tsit5 in sixteen lanes, step sizes by the error of the states alone, every accepted step kept. Linear
compartments go by their modes, z(s) = (z + r/l) e^(l s) - r/l, exact whatever the step. Back: the same steps in
reverse, each the exact adjoint of its six stages (Hager 2000, Numer Math 87:247; step sizes held),

    gk_i = h (b_i l + sum_{m>i} a_mi q_m),    q_i = (df/dy)^T gk_i,    l <- l + sum q_i,    gc += (df/dc)^T gk_i,

so that the cost of a gradient does not grow with the number of parameters. c are the constants of a subject:
expressions of its parameters, differentiated once a subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pkpd.bayes import modal
from pkpd.bayes.adjoint_template import IMPORTS, driver
from pkpd.engine import tsit5
from pkpd.engine.derive import jacobian
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.graph import Graph
from pkpd.engine.printer import fixed_nodes, needed, statements
from pkpd.engine.structure import inlined, linear_terms, written_out
from pkpd.model.equations import Expr

__all__ = ["Adjoint", "adjoint_text"]

STAGES = range(1, 7)
FIRST_ROW = 16
MOST_WRITTEN = 20_000
Entries = dict[tuple[int, int], int]
Places = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjoint:
    """text: the module's part; order: the states as it numbers them, those that go by their modes first; starts,
    parent: of the modes, as `kernels.modes` takes them.
    """

    text: str
    order: tuple[str, ...]
    modes: int
    starts: tuple[int, ...]
    parent: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """The states that go by their modes (none: empty), their rates by place, and where V and U are not zero."""

    states: tuple[str, ...] = ()
    rates: Mapping[tuple[int, int], Expr]
    starts: tuple[int, ...] = ()
    parent: tuple[int, ...] = ()
    lower: Places = ()


@dataclass(frozen=True, kw_only=True)
class _Form:
    """The model in terms of its constants: graph of states, time and constants; f of the states that are stepped,
    outputs and their slopes; what of the slopes is constant for a subject. states: amplitudes of modes first.

    constants: those of the equations, then the rates of the modes, V and U at `lower`; flowing: whether there are
    infusions.
    """

    graph: Graph
    states: tuple[int, ...]
    modes: int
    lower: Places
    time: int
    constants: tuple[int, ...]
    f: tuple[int, ...]
    outputs: tuple[int, ...]
    slopes: Entries
    output_slopes: Entries
    kept: tuple[int, ...]
    flowing: bool

    @cached_property
    def rows(self) -> dict[str, int]:
        """First row of each block of the workspace."""
        found, row = {}, FIRST_ROW
        n, nc = len(self.states), len(self.constants)
        for name, size in (("Y", n), ("K1", n), ("YN", n), ("K7", n), ("R", n), ("L", n), ("GR", n), ("C", nc),
                           ("GC", nc), ("D", len(self.kept))):  # fmt: skip
            found[name] = row
            row += size
        return found | {"END": row}

    @property
    def own(self) -> range:
        """Numbers of the states that are stepped."""
        return range(self.modes, len(self.states))

    @property
    def rate(self) -> int:
        """Number among the constants of the first mode's rate; V and U follow."""
        return len(self.constants) - self.modes - 2 * len(self.lower)

    def given(self, states: Sequence[str], time: str) -> dict[int, str]:
        """Locals of every leaf."""
        found = dict(zip(self.states, states, strict=True)) | {self.time: time}
        found |= {n: f"d{k}" for k, n in enumerate(self.kept)}
        return found | {n: f"c{k}" for k, n in enumerate(self.constants)}

    def at(self, block: str, k: int) -> str:
        return f"W[{self.rows[block] + k} * LANES + lane]"

    def loads(self, roots: Sequence[int], *, rates: bool = True) -> list[str]:
        """Statements that load the constants which the roots need, and the modes' rates."""
        given = {*self.kept, *self.constants}
        used, stack = set[int](), list(roots)
        while stack:
            node = stack.pop()
            if node not in used:
                used.add(node)
                stack += () if node in given else self.graph.nodes[node].args
        used |= set(self.constants[self.rate : self.rate + self.modes]) if rates else set()
        lines = [f"c{k} = {self.at('C', k)}" for k, n in enumerate(self.constants) if n in used]
        return lines + [f"d{k} = {self.at('D', k)}" for k, n in enumerate(self.kept) if n in used]


def adjoint_text(
    dynamics: Dynamics, outputs: Sequence[str], wrt: Sequence[str], dosed: Sequence[str], *, flowing: bool,
    several: bool = False,
) -> Adjoint | None:  # fmt: skip
    """The text for a model; None where it needs more than this solver has.

    outputs: equations or states the data measure; wrt: parameters with a gradient; dosed: states that get doses;
    flowing: whether there are infusions; several: whether parameters change within a subject. Errors: TypeError for an
    equation without a derivative.
    """
    block = _block(dynamics)
    order = (*block.states, *(s for s in dynamics.states if s not in block.states))
    graph = Graph(frozenset({*dynamics.states, TIME}))
    names = {n: graph.symbol(n) for n in (*dynamics.parameters, TIME, *dynamics.states)}
    leaves = dict(names)
    for name, expr in dynamics.assigned.items():
        names[name] = graph.of(expr, names)
    stepped = order[len(block.states) :]
    f, out = [graph.of(dynamics.derivative[s], names) for s in stepped], [names[o] for o in outputs]
    fixed = fixed_nodes(graph, (*f, *out))
    initial = [graph.of(dynamics.initial_of(s), names) for s in stepped]
    dosing = [node for s in dosed for node in _dosing(dynamics, graph, names, s)]
    rates = [graph.of(e, names) for e in block.rates.values()]
    roots = [*fixed, *initial, *dosing, *rates]
    if any(graph.changes[n] for n in roots) or _moved_stops(dynamics, graph, names, wrt):
        return None
    given = {leaves[n]: k for k, n in enumerate(dynamics.parameters)}
    text, width = _constants(graph, roots, given, [given[leaves[n]] for n in wrt])
    form = _form(graph, fixed, ([leaves[s] for s in order], leaves[TIME]), (f, out), block=block, flowing=flowing)
    lagged = any(graph.literal(n) is None for n in dosing[1::3])
    sizes = {
        "NS": len(order), "NM": len(block.states), "NF": len(fixed), "NC": len(form.constants), "ROOTS": len(roots),
        "DOSING": len(fixed) + len(initial), "RATES": len(roots) - len(rates), "WIDTH": width, "LAGGED": lagged,
        **form.rows,
    }  # fmt: skip
    head = "".join(f"ODE_{name} = {value}\n" for name, value in sizes.items())
    parts = [IMPORTS + head, text, _hoist(form), _slope(form), _outputs(form), _restart(form), _step(form),
             _commit(form), _back(form), _modes(form, tuple(block.rates), several=several)]  # fmt: skip
    return Adjoint(
        text="\n".join(parts) + driver(several=several), order=order, modes=len(block.states), starts=block.starts,
        parent=block.parent,
    )  # fmt: skip


def _block(dynamics: Dynamics) -> _Block:
    """The linear compartments, where something else is left to step; what only gathers has no rate of its own, and a
    model with such a state among them is stepped as a whole.
    """
    if written_out(dynamics, list(dynamics.derivative.values())) > MOST_WRITTEN:
        return _Block(rates={})
    rows = {s: inlined(e, dynamics.assigned) for s, e in dynamics.derivative.items()}
    linear = modal._linear(dynamics, rows)
    block = modal._block(dynamics, linear)
    if block is None or not block.modal or len(linear) == len(dynamics.states):
        return _Block(rates={})
    states = tuple(linear[k] for k in block.states)
    terms = [linear_terms(rows[s], frozenset(states)) or {} for s in states]
    found = {(i, states.index(o)): c for i, row in enumerate(terms) for o, c in row.items() if o}
    rates = modal._apart({k: c for k, c in found.items() if not modal._is_zero(c)}, block.starts)
    if rates is None or any((k, k) not in rates for k in range(len(states))):
        return _Block(rates={})
    flow: dict[int, set[int]] = {j: {i for i, k in rates if k == j} | {j} for j in range(len(states))}
    for _ in states:
        flow = {j: set().union(*(flow[i] for i in reached)) for j, reached in flow.items()}
    lower = tuple((i, j) for i in range(len(states)) for j in range(len(states)) if i in flow[j])
    return _Block(states=states, rates=rates, starts=block.starts, parent=block.parent, lower=lower)


def _dosing(dynamics: Dynamics, graph: Graph, names: Mapping[str, int], state: str) -> list[int]:
    """Share, lag and scale of a dosed state."""
    tables = ((dynamics.bioavailability, 1.0), (dynamics.lag, 0.0), (dynamics.scale, 1.0))
    return [graph.of(t[state], names) if state in t else graph.number(x) for t, x in tables]


def _moved_stops(dynamics: Dynamics, graph: Graph, names: Mapping[str, int], wrt: Sequence[str]) -> bool:
    """Whether the equations jump at a time that a parameter moves."""
    stops = [graph.of(e, names) for e in dynamics.stops[: dynamics.jumps]]
    return bool(jacobian(graph, stops, [names[n] for n in wrt]))


def _form(
    graph: Graph, fixed: Sequence[int], leaves: tuple[Sequence[int], int], roots: tuple[Sequence[int], Sequence[int]],
    *, block: _Block, flowing: bool,
) -> _Form:  # fmt: skip
    """The same nodes with the constants as leaves, states of the block as sums over modes; and the derivatives."""
    M, (states, time) = len(block.states), leaves
    named = [str(graph.nodes[n].value) for n in states]
    y = [f"mode {k}" for k in range(M)] + named[M:]
    new = Graph(frozenset({*y, TIME}))
    symbols = tuple(new.symbol(n) for n in y)
    known = {n: new.symbol(f"constant {k}") for k, n in enumerate(fixed)} | {time: new.symbol(TIME)}
    more = [new.symbol(f"rate {k}") for k in range(M)]
    V = {place: new.symbol("V {} {}".format(*place)) for place in block.lower}
    U = [new.symbol("U {} {}".format(*place)) for place in block.lower]
    for i in range(M):
        terms = [new.apply("*", V[i, k], symbols[k]) for k in range(M) if (i, k) in V]
        known[states[i]] = terms[0]
        for term in terms[1:]:
            known[states[i]] = new.apply("+", known[states[i]], term)
    known |= dict(zip(states[M:], symbols[M:], strict=True))
    for n in needed(graph, [*roots[0], *roots[1]], known):
        if n not in known:
            node, literal = graph.nodes[n], graph.literal(n)
            known[n] = new.apply(node.op, *(known[a] for a in node.args)) if literal is None else new.number(literal)
    constants = (*(known[n] for n in fixed), *more, *V.values(), *U)
    f, out = (tuple(known[n] for n in group) for group in roots)
    slopes, output_slopes = (jacobian(new, group, (*symbols, *constants)) for group in (f, out))
    kept = tuple(n for n in fixed_nodes(new, (*f, *slopes.values())) if n not in constants)
    return _Form(
        graph=new, states=symbols, modes=M, lower=block.lower, time=known[time], constants=constants, f=f, outputs=out,
        slopes=slopes, output_slopes=output_slopes, kept=kept, flowing=flowing,
    )  # fmt: skip


def _constants(graph: Graph, roots: Sequence[int], given: Mapping[int, int], places: Sequence[int]) -> tuple[str, int]:
    """`ode_constants(p, out)`: roots, then their slopes along the columns of X; its adjoint; and the width of out."""
    symbol = {place: node for node, place in given.items()}
    found = jacobian(graph, roots, [symbol[k] for k in places])
    block = statements(graph, [*roots, *found.values()], {n: f"p[{k}]" for n, k in given.items()}, "x")
    ahead = [*block.lines, *(f"out[{k}] = {text}" for k, text in enumerate(block.roots))]
    back = [f"gx[{column}] += g[{row}] * out[{len(roots) + e}]" for e, (row, column) in enumerate(found)]
    text = _function("ode_constants(p, out)", ahead) + _function("ode_constants_back(out, g, gx)", back)
    return text, len(roots) + len(found)


def _function(head: str, lines: Sequence[str], how: str = "inline") -> str:
    return f"\n@{how}\ndef {head}:\n" + "".join(f"    {line}\n" for line in lines or ["pass"])


def _lanes(head: str, lines: Sequence[str]) -> str:
    """A function that does the same for every lane."""
    return _function(head, ["wide()", "for lane in range(LANES):", *(f"    {line}" for line in lines)], "forced")


def _modes(form: _Form, rates: Places, *, several: bool) -> str:
    """Between the modes' arrays and a lane's constants, a dose and the modes, and the matrix of rates."""
    M, at, put = form.modes, form.rate, "+=" if several else "="
    v, u = at + M, at + M + len(form.lower)
    load = [f"{form.at('C', at + k)} = l[i, {k}]" for k in range(M)]
    load += [f"{form.at('C', v + e)} = V[i, {a}, {b}]" for e, (a, b) in enumerate(form.lower)]
    load += [f"{form.at('C', u + e)} = U[i, {a}, {b}]" for e, (a, b) in enumerate(form.lower)]
    store = [f"gl[i, {k}] {put} {form.at('GC', at + k)}" for k in range(M)]
    store += [f"gV[i, {a}, {b}] {put} {form.at('GC', v + e)}" for e, (a, b) in enumerate(form.lower)]
    store += [f"gU[i, {a}, {b}] {put} {form.at('GC', u + e)}" for e, (a, b) in enumerate(form.lower)]
    give, took = [f"if state >= {M}:", "    W[(block + state) * LANES + lane] += amount"], [
        "total = 0.0", f"if state >= {M}:", "    total = W[(block + state) * LANES + lane]"
    ]  # fmt: skip
    for s in range(M):
        give.append(f"if state == {s}:")
        took.append(f"if state == {s}:")
        for e, (k, b) in enumerate(form.lower):
            if b == s:
                give.append(f"    W[(block + {k}) * LANES + lane] += {form.at('C', u + e)} * amount")
                took.append(f"    total += {form.at('C', u + e)} * W[(block + {k}) * LANES + lane]")
                took.append(f"    {form.at('GC', u + e)} += amount * W[(block + {k}) * LANES + lane]")
    fill = [f"A[i, {a}, {b}] = own[i, ODE_RATES + {e}]" for e, (a, b) in enumerate(rates)]
    back = [f"gown[ODE_RATES + {e}] = gA[i, {a}, {b}]" for e, (a, b) in enumerate(rates)]
    return (
        _function("ode_load_modes(W, lane, i, l, V, U)", load) + _function("ode_kept(W, lane, i, gl, gV, gU)", store)
        + _function("ode_give(W, lane, block, state, amount)", give)
        + _function("ode_taken(W, lane, block, state, amount)", [*took, "return total"])
        + _function("ode_rates(own, i, A)", fill) + _function("ode_rates_back(gA, i, gown)", back)
    )  # fmt: skip


def _hoist(form: _Form) -> str:
    """What is constant for a subject besides its constants."""
    given = {n: form.at("C", k) for k, n in enumerate(form.constants)}
    block = statements(form.graph, form.kept, given, "x")
    stores = [f"{form.at('D', k)} = {text}" for k, text in enumerate(block.roots)]
    return _function("ode_hoist(W, lane)", [*block.lines, *stores])


def _slope(form: _Form) -> str:
    """Slopes of one lane's states."""
    values = [f"y{j}" for j in range(len(form.states))]
    block = statements(form.graph, form.f, form.given(values, "t"), "x")
    lines = ["t = W[lane]", *(f"{y} = {form.at('Y', j)}" for j, y in enumerate(values))]
    lines += [*form.loads(form.f), *block.lines]
    lines += [f"out[{k}] = c{form.rate + k} * y{k} + {form.at('R', k)}" for k in range(form.modes)]
    lines += [f"out[{j}] = {text} + {form.at('R', j)}" for j, text in zip(form.own, block.roots, strict=True)]
    return _function("ode_slope(W, lane, out)", lines)


def _outputs(form: _Form) -> str:
    """An output of one lane, and its adjoint."""
    n = len(form.states)
    given = form.given([form.at("Y", j) for j in range(n)], "t")
    ahead, back = ["t = W[lane]"], ["t = W[lane]"]
    for o, root in enumerate(form.outputs):
        slopes = {column: e for (row, column), e in form.output_slopes.items() if row == o}
        one = statements(form.graph, [root], given, "x")
        several = statements(form.graph, list(slopes.values()), given, "x")
        targets = [form.at("L", c) if c < n else form.at("GC", c - n) for c in slopes]
        pull = [f"{where} += g * {text}" for where, text in zip(targets, several.roots, strict=True)]
        inside = [*form.loads([root], rates=False), *one.lines, f"return {one.roots[0]}"]
        ahead += [f"if o == {o}:", *(f"    {line}" for line in inside)]
        inside = [*form.loads(list(slopes.values()), rates=False), *several.lines, *pull] or ["pass"]
        back += [f"if o == {o}:", *(f"    {line}" for line in inside)]
    ahead.append("return np.nan")
    return _function("ode_output(W, lane, o)", ahead) + _function("ode_output_back(W, lane, o, g)", back)


def _rows(form: _Form) -> list[str]:
    n = range(len(form.states))
    rates = [f"r{j} = {form.at('R', j)}" for j in n if form.flowing]
    return ["t = W[lane]", "h = W[LANES + lane]", *(f"y{j} = {form.at('Y', j)}" for j in n), *rates]


def _begun(form: _Form) -> list[str]:
    """z{k}, the amplitude of a mode over what its input holds, q{k}."""
    if not form.flowing:
        return [f"z{k} = y{k}" for k in range(form.modes)]
    lines = [f"q{k} = r{k} / c{form.rate + k}" for k in range(form.modes)]
    return lines + [f"z{k} = y{k} + q{k}" for k in range(form.modes)]


def _stage(form: _Form, stage: int, roots: Sequence[int]) -> tuple[list[str], tuple[str, ...]]:
    """Statements up to the roots at the values u{stage}_j."""
    values = [f"u{stage}_{j}" for j in range(len(form.states))]
    block = statements(form.graph, roots, form.given(values, f"t{stage}"), f"x{stage}_")
    c = tsit5.C[stage - 1]
    return [f"t{stage} = {f'fma(h, {c!r}, t)' if c else 't'}", *block.lines], block.roots


def _moved(form: _Form, stage: int) -> list[str]:
    """u{stage}_j: y_j + h sum a k, and the modes at that fraction of the step; e{stage}_k: what is left of a mode."""
    if stage == 1:
        return [f"u1_{j} = y{j}" for j in range(len(form.states))]
    lines, c = [], tsit5.C[stage - 1]
    for k in range(form.modes):
        same = stage == 7
        lines.append(f"e{stage}_{k} = {f'e6_{k}' if same else f'exp(c{form.rate + k} * (h * {c!r}))'}")
        lines.append(f"u{stage}_{k} = {f'fma(z{k}, e{stage}_{k}, -q{k})' if form.flowing else f'z{k} * e{stage}_{k}'}")
    return lines + [f"u{stage}_{j} = fma(h, {_combined(tsit5.A[stage - 1], 'k', j)}, y{j})" for j in form.own]


def _combined(weights: Sequence[float], letter: str, j: int, first: int = 1) -> str:
    """sum of weights * letter{i}_j by fused multiply-adds."""
    text = ""
    for i, weight in enumerate(weights, start=first):
        if weight != 0.0:
            text = f"fma({weight!r}, {letter}{i}_{j}, {text})" if text else f"{weight!r} * {letter}{i}_{j}"
    return text


def _slopes(form: _Form, stage: int, roots: Sequence[str]) -> list[str]:
    """k{stage}_j of the states that are stepped."""
    flow = " + r{0}" if form.flowing else ""
    return [f"k{stage}_{j} = {text}{flow.format(j)}" for j, text in zip(form.own, roots, strict=False)]


def _restart(form: _Form) -> str:
    """First slope and first step of lanes flagged new (Hairer, Norsett & Wanner I, section II.4), no longer than a
    tenth of the fastest mode's time: doses into the block are not in the first slopes of the others.
    """
    lines, roots = _stage(form, 1, form.f)
    body = [*_rows(form), *form.loads(form.f), *_moved(form, 1), *lines, *_slopes(form, 1, roots)]
    body += ["d0 = 0.0", "d1 = 0.0"]
    for j in form.own:
        body += [f"s{j} = 1.0 / (atol + rtol * abs(y{j}))", f"d0 += abs(y{j}) * s{j}", f"d1 += abs(k1_{j}) * s{j}"]
    body += ["fastest = 1e-300", *(f"fastest = greatest(fastest, -c{form.rate + k})" for k in range(form.modes))]
    body += ["first = least(0.01 * (d0 + 1e-6) / d1, 0.1 / fastest)", "new = W[5 * LANES + lane] == 1.0"]
    body += ["W[9 * LANES + lane] = first if new else W[9 * LANES + lane]"]
    body += [f"{form.at('K1', j)} = k1_{j} if new else {form.at('K1', j)}" for j in form.own]
    return _lanes("ode_restart(W, rtol, atol)", body)


def _step(form: _Form) -> str:
    """The stages and the error of one step."""
    body = [*_rows(form), *(f"k1_{j} = {form.at('K1', j)}" for j in form.own), *form.loads(form.f), *_begun(form)]
    for stage in range(2, 8):
        lines, roots = _stage(form, stage, form.f)
        body += [*_moved(form, stage), *lines, *_slopes(form, stage, roots)]
    body.append("total = 0.0")
    for j in form.own:
        body += [f"a{j} = abs(y{j})", f"b{j} = abs(u7_{j})", f"s{j} = atol + rtol * (a{j} if a{j} > b{j} else b{j})"]
        body += [f"e{j} = h * ({_combined(tsit5.ERROR, 'k', j)}) / s{j}", f"total = fma(e{j}, e{j}, total)"]
    body.append(f"W[2 * LANES + lane] = np.sqrt(total * {1.0 / len(form.own)!r})")
    body += [f"{form.at('YN', j)} = u7_{j}" for j in range(len(form.states))]
    return _lanes("ode_step(W, rtol, atol)", [*body, *(f"{form.at('K7', j)} = k7_{j}" for j in form.own)])


def _commit(form: _Form) -> str:
    """Accepted lanes move on; a step cut at a stop does not shorten those after it."""
    body = ["accepted = W[4 * LANES + lane] == 1.0"]
    moves = [("Y", "YN", j) for j in range(len(form.states))] + [("K1", "K7", j) for j in form.own]
    body += [f"{form.at(old, j)} = {form.at(new, j)} if accepted else {form.at(old, j)}" for old, new, j in moves]
    body += [
        "there = W[7 * LANES + lane] if accepted else 0.0",
        "moved = W[6 * LANES + lane] if there == 1.0 else W[lane] + W[LANES + lane]",
        "t = moved if accepted else W[lane]",
        "h = W[8 * LANES + lane]",
        "wanted = W[9 * LANES + lane]",
        "h = wanted if (there == 1.0 and wanted > h) else h",
        "rest = W[6 * LANES + lane] - t",
        "W[lane] = t",
        "W[9 * LANES + lane] = h",
        "W[13 * LANES + lane] = there",
        "W[7 * LANES + lane] = 0.0 if h < rest else 1.0",
        "half = 0.5 * rest if (h > 0.5 * rest and h < rest) else h",
        "W[LANES + lane] = half if half < rest else rest",
    ]
    return _lanes("ode_commit(W)", body)


def _back(form: _Form) -> str:
    """The adjoint of one step of every lane: rows L, GC, GR."""
    n, entries = range(len(form.states)), list(form.slopes)
    every = (*form.f, *form.slopes.values())
    body = [*_rows(form), *(f"l{j} = {form.at('L', j)}" for j in n), *form.loads(every), *_begun(form)]
    texts: dict[int, tuple[str, ...]] = {}
    for stage in STAGES:
        own = form.f if stage < 6 else ()
        lines, roots = _stage(form, stage, (*own, *form.slopes.values()))
        body += [*_moved(form, stage), *lines, *_slopes(form, stage, roots[: len(own)])]
        texts[stage] = roots[len(own) :]
    for stage in reversed(STAGES):
        later = [tsit5.A[m - 1][stage - 1] for m in range(stage + 1, 7)]
        for j in form.own:
            more = _combined(later, "q", j, stage + 1)
            total = f"{tsit5.A[6][stage - 1]!r} * l{j}" + (f" + {more}" if more else "")
            body.append(f"g{stage}_{j} = h * ({total})")
        for c in n:
            terms = [f"g{stage}_{form.modes + r} * {texts[stage][e]}" for e, (r, k) in enumerate(entries) if k == c]
            body.append(f"q{stage}_{c} = {' + '.join(terms) or '0.0'}")
    body += _modes_back(form)
    for j in form.own:
        body.append(f"{form.at('L', j)} = l{j} + ({' + '.join(f'q{s}_{j}' for s in STAGES)})")
        if form.flowing:
            body.append(f"{form.at('GR', j)} += {' + '.join(f'g{s}_{j}' for s in STAGES)}")
    for k in range(form.rate + form.modes + len(form.lower)):
        terms = [
            f"g{s}_{form.modes + r} * {texts[s][e]}" for e, (r, c) in enumerate(entries) for s in STAGES
            if c == len(n) + k
        ]  # fmt: skip
        body += [f"{form.at('GC', k)} += {' + '.join(terms)}"] if terms else []
    return _lanes("ode_back(W)", body)


def _modes_back(form: _Form) -> list[str]:
    """The adjoint of z(s) = (z + q) e^(l s) - q at the stages and at the end, q = r/l."""
    lines = []
    for k in range(form.modes):
        lines.append(f"p{k} = q6_{k} + l{k}")  # the last stage and the end of the step are one moment
        parts = [(f"q{s}_{k}", f"e{s}_{k}", tsit5.C[s - 1]) for s in range(2, 6)] + [(f"p{k}", f"e6_{k}", 1.0)]
        kept = " + ".join(f"{g} * {e}" for g, e, _ in parts)
        slope = " + ".join(f"{g} * {e} * {c!r}" for g, e, c in parts)
        lines += [f"w{k} = {kept}", f"{form.at('L', k)} = q1_{k} + w{k}", f"m{k} = h * z{k} * ({slope})"]
        if form.flowing:
            held = " + ".join(g for g, _, _ in parts)
            lines += [f"f{k} = (w{k} - ({held})) / c{form.rate + k}", f"{form.at('GR', k)} += f{k}"]
            lines.append(f"m{k} -= f{k} * q{k}")
        lines.append(f"{form.at('GC', form.rate + k)} += m{k}")
    return lines
