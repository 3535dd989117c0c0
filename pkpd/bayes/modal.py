"""The family of linear compartments and of what follows them linearly: recognised in any model text, no solver needed.

Linear states without input of their own (depots, compartments, effect compartments) go by their modes; states linear in
themselves given those (the four turnover models, effect compartments with a baseline) by variation of constants with
Gauss-Legendre nodes on a grid that is refined until predictions stand; outputs are any expression of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.density_source import Mapping as Mapped
from pkpd.bayes.density_source import mapping
from pkpd.bayes.family import Family
from pkpd.bayes.grid import Grid, grid_of, nodes_of
from pkpd.bayes.node_source import SPARE, Response, Turnover, response, turnover
from pkpd.bayes.pieces import Pieces, split
from pkpd.engine.actions import ADD, RATE, RESET, SET, STEADY, Dosing, actions_of
from pkpd.engine.block import LinearBlock, linear_block
from pkpd.engine.dynamics import TIME, Dynamics
from pkpd.engine.graph import Graph
from pkpd.engine.structure import _normal, inlined, linear_terms, written_out
from pkpd.model.equations import Binary, Expr, Name, Number, Unary, names

if TYPE_CHECKING:
    from pkpd.model.records import Records

__all__ = ["Modal", "modal_family", "modal_of"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
ZERO = Number(0.0)
_LARGEST = 20_000
APART = 3e-4
"""Half the relative distance put between two states in a row that leave at one rate."""
_DECOMPOSED = {
    True: "cascade(A, l, V, U_)",
    False: "decompose(A, modes_starts, modes_parent, l, V, U_)",
}
CARRY = """y_border, c_border = np.empty((N, l.shape[1])), np.empty((N, l.shape[1]))
    carry(border, border_gap, act_offsets, act_tau, act_keeps, l, V, U_, alpha, beta, rho, y_border, c_border)"""
CARRY_BACK = """carry_back(border, border_gap, act_offsets, act_tau, act_keeps, l, V, U_, alpha, beta, rho, y_border,
               gl, gV_, gU_, galpha, grho)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modal:
    """states: linear ones in the order of the modes; rates: (i, j) -> coefficient; starts, parent: as `kernels.modes`;
    behind: state -> (gain, loss) of x' = gain - loss x, its initial value last; outputs: expression of each output;
    share: dosed state -> bioavailability x scale; lag [h] by dosed state.
    """

    states: tuple[str, ...]
    rates: dict[tuple[int, int], Expr]
    starts: tuple[int, ...]
    parent: tuple[int, ...]
    behind: dict[str, tuple[Expr, Expr, Expr]]
    outputs: tuple[Expr, ...]
    share: dict[str, Expr]
    lag: dict[str, float]

    @property
    def signals(self) -> tuple[str, ...]:
        """Linear states that outputs or states behind read."""
        read = set().union(*(names(e) for e in self.outputs), *(names(e) for b in self.behind.values() for e in b[:2]))
        return tuple(s for s in self.states if s in read)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters the predictions need, sorted."""
        every = (
            *self.rates.values(),
            *self.outputs,
            *self.share.values(),
            *(e for b in self.behind.values() for e in b),
        )
        return tuple(sorted(set().union(*(names(e) for e in every)) - {*self.states, *self.behind}))


def modal_of(dynamics: Dynamics, outputs: tuple[str, ...]) -> Modal | None:
    """The form of the dynamics for the equations `outputs`, or None where it has none."""
    if dynamics.inputs or dynamics.stops or dynamics.transits or dynamics.rate or dynamics.duration:
        return None
    if written_out(dynamics, [*dynamics.derivative.values(), *dynamics.wanted().values()]) > _LARGEST:
        return None
    rows = {s: inlined(e, dynamics.assigned) for s, e in dynamics.derivative.items()}
    linear = _linear(dynamics, rows)
    block = _block(dynamics, linear)
    lag = {s: _number(e) for s, e in dynamics.lag.items()}
    if block is None or not block.modal or None in lag.values():
        return None
    order = tuple(linear[k] for k in block.states)
    wanted = tuple(inlined(dynamics.assigned.get(n, Name(n)), dynamics.assigned) for n in outputs)
    read = set().union(*(names(e) for e in wanted)) - set(linear)
    behind = {s: _behind(dynamics, rows[s], s, frozenset(order)) for s in dynamics.states if s in read}
    if None in behind.values() or any(TIME in names(e) for e in wanted):
        return None
    place = {s: k for k, s in enumerate(order)}
    terms = {s: linear_terms(rows[s], frozenset(order)) or {} for s in order}
    rates = {(place[s], place[o]): c for s in order for o, c in terms[s].items() if o and not _is_zero(c)}
    apart = _apart(rates, block.starts)
    if apart is None:
        return None
    return Modal(
        states=order,
        rates=apart,
        starts=block.starts,
        parent=block.parent,
        behind=behind,  # type: ignore[arg-type]
        outputs=wanted,
        share={s: _share(dynamics, s) for s in order},
        lag={s: float(lag.get(s) or 0.0) for s in order},
    )


def _is_zero(e: Expr) -> bool:
    return e in (ZERO, Unary("-", ZERO))


def _number(e: Expr) -> float | None:
    return float(e.value) if isinstance(e, Number) else None


def _linear(dynamics: Dynamics, rows: Mapping[str, Expr]) -> tuple[str, ...]:
    """States that are linear in one another, without input and without initial value."""
    inside = [s for s in dynamics.states if s not in dynamics.initial]
    while True:
        free = frozenset(dynamics.states) | {TIME}
        kept = []
        for s in inside:
            terms = linear_terms(rows[s], frozenset(inside))
            plain = terms is not None and all(not names(c) & free for c in terms.values())
            if plain and terms is not None and _is_zero(terms.get("", ZERO)):
                kept.append(s)
        if kept == inside:
            return tuple(kept)
        inside = kept


def _block(dynamics: Dynamics, linear: tuple[str, ...]) -> LinearBlock | None:
    """The same states as the engine's block of a smaller model: their order and groups."""
    if not linear:
        return None
    small = replace(
        dynamics, states=linear, assigned={}, outputs=(), summaries=(), initial={},
        derivative={s: inlined(dynamics.derivative[s], dynamics.assigned) for s in linear},
    )  # fmt: skip
    block = linear_block(small)
    return block if block is not None and block.whole else None


def _behind(dynamics: Dynamics, row: Expr, state: str, linear: frozenset[str]) -> tuple[Expr, Expr, Expr] | None:
    """(gain, loss, initial) of x' = gain - loss x, both free of other states than the linear ones."""
    terms = linear_terms(row, frozenset({state}))
    allowed = linear | frozenset(dynamics.parameters)
    start = inlined(dynamics.initial_of(state), dynamics.assigned)
    if terms is None or any(not names(c) <= allowed for c in terms.values()) or not names(start) <= allowed - linear:
        return None
    return terms.get("", ZERO), Unary("-", terms.get(state, ZERO)), start


def _apart(rates: dict[tuple[int, int], Expr], starts: tuple[int, ...]) -> dict[tuple[int, int], Expr] | None:
    """The same rates, two states in a row that leave at one rate a little faster and slower: the modes need them apart.

    With rates k (1 - e) and k (1 + e) the product of transforms k^2/(s + k)^2 moves by e^2 (k^2 - s^2 ...): 1e-7 for
    e = 3e-4, far below the solver's error. None for three and more of one rate (their transforms cancel to e^-2).
    """
    single = [lo for lo, hi in pairwise(starts) if hi - lo == 1]
    leaving: dict[tuple[int, Expr], list[int]] = {}
    for j in single:
        leaving.setdefault(_normal(rates.get((j, j), ZERO)), []).append(j)
    groups = [g for g in leaving.values() if len(g) > 1]
    if any(len(g) > 2 for g in groups):
        return None
    factor = {j: 1.0 + sign * APART for g in groups for j, sign in zip(g, (-1.0, 1.0), strict=True)}
    return {(i, j): Binary("*", Number(factor[j]), c) if j in factor else c for (i, j), c in rates.items()}


def _share(dynamics: Dynamics, state: str) -> Expr:
    one = Number(1.0)
    share, scale = dynamics.bioavailability.get(state, one), dynamics.scale.get(state, one)
    share, scale = inlined(share, dynamics.assigned), inlined(scale, dynamics.assigned)
    return share if scale == one else Binary("*", share, scale)


def modal_family(
    form: Modal, dynamics: Dynamics, records: Records, output: I64, *, pieces: Pieces, first: float
) -> Family | None:  # fmt: skip
    """The family for these records; output (rows,): place of each row's output among `form.outputs`.

    first: length [h] of the grid's first interval after a dose; the subjects of the arrays are the pieces. None where a
    record is not taken (infusions at steady state, a steady state of what lies behind, a dose into a state behind).
    """
    given = _actions(form, dynamics, records, pieces)
    if given is None:
        return None
    arrays, dosed = given
    rows = _rows(pieces.row, records, arrays)
    read = np.where(_behind_rows(form, output), pieces.row, -1)
    owner = np.repeat(pieces.subject, np.diff(arrays["offsets"]))
    if np.isin(records.subject[read >= 0], owner[arrays["kind"] == STEADY]).any():
        return None
    spans = _spans(arrays, pieces)
    grid = grid_of(read, np.asarray(records.time, np.float64), spans, first=first) if form.behind else None
    order = ["offsets", "since", "kind", "dose", "amount", "steady"]
    found = {f"act_{n}": arrays[n] for n in order}
    found |= {"modes_starts": _ints(form.starts), "modes_parent": _ints(form.parent), "chosen": _chosen(form)}
    found |= {"dosed": dosed, "row_subject": pieces.row, "row_output": output, **rows}
    if pieces.several:
        found |= _borders(arrays, pieces)
    if grid is not None:
        found |= _grid_arrays(grid, arrays) | {"grid_joined": pieces.joined}
    flowing = bool((arrays["kind"] == RATE).any())
    text, parts = _texts(form, flowing, pieces.several)
    intervals = 0 if grid is None else len(grid.length)
    return Family(
        name="modes",
        columns=tuple(Name(n) for n in form.parameters),
        arrays=found,
        parts=parts,
        predict=text[0],
        pull=text[1],
        about={
            "states": list(form.states),
            "behind": list(form.behind),
            "intervals": intervals,
            "first": first,
            "pieces": len(pieces.subject),
        },
    )


def _ints(values: Any) -> I64:
    return np.asarray(values, np.int64)


def _chosen(form: Modal) -> I64:
    return _ints([form.states.index(s) for s in form.signals])


def _actions(
    form: Modal, dynamics: Dynamics, records: Records, pieces: Pieces
) -> tuple[dict[str, Any], I64] | None:  # fmt: skip
    """Action arrays of the kernel, times included, and the places of the dosed states among the modes."""
    size, states = len(pieces.subject), dynamics.states
    lag = np.zeros((size, len(states)))
    for s, hours in form.lag.items():
        lag[:, states.index(s)] = hours
    found = actions_of(records.doses, Dosing(share=np.ones((size, len(states))), lag=lag), pieces.changes)
    kinds = {ADD, RATE, STEADY, RESET, SET}
    held = found.kind == STEADY
    if not set(found.kind.tolist()) <= kinds or (held.any() and (found.steady[:, 2] > 0.0).any()):
        return None
    acted = [states[int(s)] for s in np.unique(found.target[~np.isin(found.kind, (RESET, SET))])]
    if any(s not in form.states for s in acted):
        return None
    dosed = _ints(sorted(form.states.index(s) for s in acted))
    place = {states.index(form.states[d]): k for k, d in enumerate(dosed)}
    dose = _ints([place.get(int(s), 0) for s in found.target])
    rows = (found.time, _ints(found.kind), dose, np.asarray(found.amount, np.float64))
    offsets, time, kind, dose, amount = split(found.offsets, rows, pieces) if pieces.several else (found.offsets, *rows)
    if pieces.several and any(names(form.share[form.states[d]]) for d in dosed) and (lag.any() or (kind == RATE).any()):
        return None  # a dose on its way at a border: its share is that of when it was given
    since = np.diff(time, prepend=0.0)
    since[offsets[:-1][np.diff(offsets) > 0]] = 0.0
    arrays = {
        "offsets": _ints(offsets), "time": time, "since": since, "kind": kind, "dose": dose, "amount": amount,
        "steady": np.asarray(found.steady, np.float64),
    }  # fmt: skip
    return arrays, dosed


def _segment(arrays: Mapping[str, Any], subject: I64, time: F64, after: NDArray[np.bool_]) -> tuple[I64, F64]:
    """Number of the last action before each point (`after`: at its time too), -1 for none, and hours since it."""
    segment = np.full(len(subject), -1, np.int64)
    offsets, when = arrays["offsets"], arrays["time"]
    for k, i in enumerate(subject):
        mine = when[offsets[i] : offsets[i + 1]]
        count = int(np.searchsorted(mine, time[k], side="right" if after[k] else "left"))
        segment[k] = offsets[i] + count - 1 if count else -1
    return segment, np.where(segment >= 0, time - when[segment] if len(when) else 0.0, 0.0)


def _rows(subject: I64, records: Records, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    segment, since = _segment(arrays, subject, np.asarray(records.time, np.float64), records.after)
    return {"row_runs": _runs(subject, segment), "row_since": since}


def _runs(subject: I64, segment: I64) -> I64:
    """First point, end, subject and segment of points that stand together."""
    turns = np.flatnonzero((np.diff(subject) != 0) | (np.diff(segment) != 0)) + 1
    first = np.concatenate([[0], turns])
    end = np.concatenate([turns, [len(subject)]])
    return np.ascontiguousarray(np.stack([first, end, subject[first], segment[first]], axis=1), np.int64)


def _behind_rows(form: Modal, output: I64) -> NDArray[np.bool_]:
    """Rows whose output reads a state behind."""
    reads = np.array([bool(names(e) & set(form.behind)) for e in form.outputs])
    return np.asarray(reads[output])


def _spans(arrays: Mapping[str, Any], pieces: Pieces) -> list[tuple[F64, float, float]]:
    """Times of the actions, begin and least end of every piece, as `grid_of` takes them."""
    kinks = [arrays["time"][lo:hi] for lo, hi in pairwise(arrays["offsets"])]
    begin = np.where(np.isfinite(pieces.start), pieces.start, np.nan)
    return list(zip(kinks, begin.tolist(), [*begin[1:].tolist(), np.nan], strict=True))


def _borders(arrays: Mapping[str, Any], pieces: Pieces) -> dict[str, NDArray[Any]]:
    """What `kernels.pieces.carry` takes."""
    offsets, time = arrays["offsets"], arrays["time"]
    owner = np.repeat(np.arange(len(pieces.subject)), np.diff(offsets))
    begin = np.where(np.isfinite(pieces.start), pieces.start, 0.0)
    before = time[np.maximum(offsets[:-1] - 1, 0)] if len(time) else np.zeros(len(begin))
    wiped = np.isin(arrays["kind"], (RESET, STEADY))
    count = np.concatenate([[0], np.cumsum(wiped)])
    keeps = (count[1:] - count[offsets[:-1]][owner]) == 0
    tau = np.where(pieces.joined[owner] == 1, time - begin[owner], 0.0)
    gap = np.where(pieces.joined == 1, begin - before, 0.0)
    return {"border": pieces.joined, "border_gap": gap, "act_tau": tau, "act_keeps": keeps.astype(np.int64)}


def _grid_arrays(grid: Grid, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    point, weight, inner = nodes_of(grid.nodes)
    subject = np.repeat(grid.subject, grid.nodes)
    time = (grid.start[:, None] + grid.length[:, None] * point[None, :]).ravel()
    segment, since = _segment(arrays, subject, time, np.ones(len(time), np.bool_))
    return {
        "grid_offsets": grid.offsets, "grid_length": grid.length, "gl_weight": weight, "gl_inner": inner,
        "gl_point": point, "node_runs": _runs(subject, segment), "node_since": since, "row_break": grid.row,
    }  # fmt: skip


def _texts(form: Modal, flowing: bool, several: bool) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Statements (predict, pull) and the mappings they call."""
    made = _Maps.of(form)
    S, B, M = len(form.signals), len(form.behind), len(form.states)
    flow = "True" if flowing else "False"
    entries = list(form.rates)
    fill = [f"A[i, {a}, {b}] = sys_[i, {e}]" for e, (a, b) in enumerate(entries)]
    place = [f"share[i, d] = sys_[i, {len(entries)} + dosed[d]]"]
    ahead = f"""N, rows, D, acts = X.shape[0], row_subject.size, dosed.size, act_since.size
    sys_, A, share = np.empty((N, {made.system.width})), np.zeros((N, {M}, {M})), np.empty((N, D))
    for i in range(N):
        system(X[i], sys_[i])
        {_indented(fill, 8)}
        for d in range(D):
            {place[0]}
    l, V, U_ = np.empty((N, {M})), np.empty((N, {M}, {M})), np.empty((N, {M}, {M}))
    {_DECOMPOSED[max(np.diff(form.starts)) == 1]}
    H, T, R = np.empty((acts, {M}, D)), np.empty((acts, {M}, D)), np.empty((acts, D))
    histories(l, act_offsets, act_since, act_kind, act_dose, act_amount, act_steady, H, T, R)
    alpha, beta, rho = np.empty((acts, {M})), np.empty((acts, {M})), np.empty((acts, {M}))
    weighted(act_offsets, dosed, U_, share, H, T, R, alpha, beta, rho)
    {CARRY if several else ""}
    s_row, E_row = np.empty(({S}, rows)), np.empty({M} * rows)
    signals(row_runs, row_since, chosen, l, V, alpha, rho, {flow}, E_row, s_row)
    {_behind_ahead(form, made, flow) if B else ""}
    f, told = np.empty(rows), np.empty((rows, {made.respond.width}))
    respond(X, row_subject, row_output, s_row, {_each("x_{}", B, "row_break, ")}f, told)"""
    back = _pulled(form, made, flow, several)
    return (_clean(ahead), _clean(back)), made.parts


def _pulled(form: Modal, made: _Maps, flow: str, several: bool) -> str:
    """The statements from gf to gX."""
    B, entries = len(form.behind), list(form.rates)
    return f"""gl, gV_, gU_ = np.zeros(l.shape), np.zeros(V.shape), np.zeros(U_.shape)
    galpha, grho, gshare = np.zeros(alpha.shape), np.zeros(alpha.shape), np.zeros(share.shape)
    gs_row = np.zeros(s_row.shape)
    {_indented([f"gx_{b} = np.zeros(x_{b}.size)" for b in range(B)], 4)}
    respond_back(row_subject, row_output, gf, told, gs_row, {_each("gx_{}", B, "row_break, ")}gX)
    {_behind_back(form, made, flow) if B else ""}
    signals_back(row_runs, row_since, chosen, l, V, alpha, beta, rho, {flow}, E_row, gs_row, gl, gV_,
                 galpha, grho)
    {CARRY_BACK if several else ""}
    weighted_back(act_offsets, dosed, U_, share, H, R, galpha, grho, gU_, gshare)
    gA = np.empty(A.shape)
    decompose_back(l, V, U_, gl, gV_, gU_, gA)
    gsys = np.zeros({made.system.values})
    for i in range(N):
        {_indented([f"gsys[{e}] = gA[i, {a}, {b}]" for e, (a, b) in enumerate(entries)], 8)}
        for d in range(D):
            gsys[{len(entries)} + dosed[d]] = gshare[i, d]
        system_back(sys_[i], gsys, gX[i])"""


def _behind_ahead(form: Modal, made: _Maps, flow: str) -> str:
    S, B, M = len(form.signals), len(form.behind), len(form.states)
    states = "\n    ".join(
        f"""x_{b}, keep_{b}, whole_{b} = np.empty(grid_length.size + N), np.empty(nodes), np.empty(grid_length.size)
    carried(grid_offsets, grid_length, W{2 * b}, W{2 * b + 1}, gl_weight, gl_inner, gl_point,
            {made.still[b]}, grid_joined, begun[:, {b}].copy(), x_{b},
            keep_{b}, whole_{b})"""
        for b in range(B)
    )
    return f"""nodes, G = node_since.size, gl_weight.size
    s_node, E_node = np.zeros(({S}, nodes + {SPARE})), np.empty({M} * nodes)
    signals(node_runs, node_since, chosen, l, V, alpha, rho, {flow}, E_node, s_node)
    {_indented([f"{n} = np.empty(nodes + {SPARE})" for n in made.nodes], 4)}
    turn(X, s_node, grid_offsets, G, {", ".join(made.nodes)})
    begun = np.empty((N, {made.start.width}))
    for i in range(N):
        start(X[i], begun[i])
    {states}"""


def _behind_back(form: Modal, made: _Maps, flow: str) -> str:
    B = len(form.behind)
    states = "\n    ".join(
        f"""gbegun_{b} = np.zeros(N)
    carried_back(grid_offsets, grid_length, W{2 * b}, W{2 * b + 1}, gl_weight, gl_inner, gl_point,
                 {made.still[b]}, grid_joined, x_{b}, keep_{b}, whole_{b},
                 gx_{b}, gW{2 * b}, gW{2 * b + 1}, gbegun_{b})"""
        for b in range(B)
    )
    take = _indented([f"gstart[{b}] = gbegun_{b}[i]" for b in range(B)], 8)
    slopes = made.nodes[2 * B :]
    adjoints = [f"gW{b}" for b in range(2 * B)]
    return f"""gs_node, gstart, sums_ = np.zeros(s_node.shape), np.empty({B}), np.empty({made.turn.sums})
    {_indented([f"{n} = np.zeros(nodes + {SPARE})" for n in adjoints], 4)}
    {states}
    turn_back(X, grid_offsets, G, {", ".join([*slopes, *adjoints])}, sums_, gs_node, gX)
    for i in range(N):
        {take}
        start_back(begun[i], gstart, gX[i])
    signals_back(node_runs, node_since, chosen, l, V, alpha, beta, rho, {flow}, E_node, gs_node, gl,
                 gV_, galpha, grho)"""


def _indented(lines: list[str], depth: int) -> str:
    return ("\n" + " " * depth).join(lines) or "pass"


def _each(name: str, count: int, before: str) -> str:
    """`before` and the name with each number, or nothing."""
    return before + "".join(f"{name.format(k)}, " for k in range(count)) if count else ""


def _clean(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip() not in ("", "pass"))


@dataclass(slots=True)
class _Maps:
    """The generated mappings of a form."""

    system: Mapped
    turn: Turnover
    start: Mapped
    respond: Response
    still: list[bool]

    @property
    def parts(self) -> tuple[str, ...]:
        behind = (self.turn.text, self.start.text) if self.still else ()
        return (self.system.text, *behind, self.respond.text)

    @property
    def nodes(self) -> list[str]:
        """Arrays over the nodes: gain and loss of each state behind, their slopes."""
        return [*(f"W{k}" for k in range(2 * len(self.still))), *(f"D{k}" for k in range(self.turn.slopes))]

    @classmethod
    def of(cls, form: Modal) -> _Maps:
        moving = frozenset((*form.states, *form.behind))
        graph = Graph(moving)
        node = {n: graph.symbol(n) for n in (*form.parameters, *form.states, *form.behind)}
        own = [node[n] for n in form.parameters]
        seen = [node[n] for n in form.signals]
        after = [node[n] for n in form.behind]
        pieces = [graph.of(e, node) for b in form.behind.values() for e in b[:2]]
        return cls(
            still=[not graph.changes[node] for node in pieces[1::2]],
            system=mapping("system", graph, [graph.of(e, node) for e in _system(form)], own),
            turn=turnover(graph, pieces, own, seen),
            start=mapping("start", graph, [graph.of(b[2], node) for b in form.behind.values()], own),
            respond=response(graph, [graph.of(e, node) for e in form.outputs], own, (seen, after)),
        )


def _system(form: Modal) -> list[Expr]:
    return [*form.rates.values(), *(form.share[s] for s in form.states)]
