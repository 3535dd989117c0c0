"""A model with its forward sensitivities: one bigger model that the same solvers solve.

    dS/dt = (df/dy) S + df/dp,    S(0) = dy0/dp,    dg/dp = (dg/dy) S + dg/dp          S = dy/dp

The derivatives are nodes of the expression graph of the equations, so what they share with the right-hand side is
computed once; an S that stays zero by structure is no state. Sensitivities have two scales: `natural` (unit of the
output per unit of the parameter) and `log` (per relative change, p dg/dp), which is solved for directly, so that the
tolerances mean the same for every parameter.

Directions (`wrt`): a parameter's name; `dose(STATE)`, a common factor on every dose into the state; `initial(STATE)`,
an amount added to the initial value of the state (log scale: relative to it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.build import Compiled
from pkpd.engine.derive import Derivatives
from pkpd.engine.dynamics import TIME, Dynamics, Tangent
from pkpd.engine.graph import Graph
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.equations import Binary, Call, Compare, Expr, Logic, Name, Number, Unary

__all__ = ["Augmented", "augmented", "derivatives_of", "directions", "extended"]

SCALES = ("log", "natural")
_SPECIAL = re.compile(r"(dose|initial)\((\w+)\)")
_DOSING = ("bioavailability", "lag", "scale", "rate", "duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmented:
    """The bigger model, to be solved by `solve`.

    wrt: names of the directions; outputs: those of the model; where (outputs, directions): number of the derivative
    among the outputs of `compiled`, -1 where it is zero by structure; given: values of the parameters that were added;
    model: the model itself with these parameters.
    """

    compiled: Compiled
    wrt: tuple[str, ...]
    outputs: tuple[str, ...]
    where: NDArray[np.int64]
    given: tuple[float, ...]
    model: Dynamics

    def parameters(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows of the model's parameters (and, of changes, its inputs) with the added parameters."""
        extra = np.broadcast_to(np.asarray(self.given), (len(rows), len(self.given)))
        own = len(self.compiled.parameters) - len(self.given)
        return np.concatenate([rows[:, :own], extra, rows[:, own:]], axis=1)


def augmented(compiled: Compiled, wrt: Sequence[str] | None = None, scale: str = "log") -> Augmented:
    """The model with sensitivities along `wrt` (default: every parameter).

    Errors: InputError for a direction the model does not have or an equation without a derivative.

    >>> from pkpd.engine.build import compiled
    >>> from pkpd.model.library import load
    >>> found = augmented(compiled(load("w2")), ["CL", "KOUT"])
    >>> found.compiled.dynamics.states
    ('depot', 'central', 'R', 'central/CL', 'R/CL', 'R/KOUT')
    """
    if compiled.dynamics.transits:
        remedy = "write the transits as states"
        raise InputError("sensitivities of doses through transits are not there yet", field="doses", remedy=remedy)
    names = directions(compiled, wrt)
    if scale not in SCALES:
        raise InputError("must be log or natural", field="scale", value=scale)
    return _augmented(_Request(compiled, names, scale))


def directions(compiled: Compiled, wrt: Sequence[str] | None) -> tuple[str, ...]:
    """The directions asked for, checked."""
    states = compiled.dynamics.states
    names = compiled.parameters if wrt is None else tuple(wrt)
    for name in names:
        special = _SPECIAL.fullmatch(name)
        if special is not None and special[2] in states:
            continue
        if name not in compiled.parameters:
            known = [*compiled.parameters, *(f"{k}({s})" for k in ("dose", "initial") for s in states)]
            raise InputError("no such parameter", field="wrt", value=name, remedy=nearest(name, known))
    if len(set(names)) != len(names) or not names:
        raise InputError("must be different names, at least one", field="wrt", value=", ".join(names))
    return names


def extended(dynamics: Dynamics, wrt: Sequence[str]) -> tuple[Dynamics, tuple[float, ...]]:
    """The model with a parameter for each `dose(STATE)` and `initial(STATE)`, and the values these have."""
    extra, share, initial = [], dict(dynamics.bioavailability), dict(dynamics.initial)
    for name in wrt:
        special = _SPECIAL.fullmatch(name)
        if special is None:
            continue
        kind, state = special.groups()
        extra.append((name, 1.0 if kind == "dose" else 0.0))
        if kind == "dose":
            share[state] = Binary("*", share.get(state, Number(1.0)), Name(name))
        else:
            initial[state] = Binary("+", initial.get(state, Number(0.0)), Name(name))
    own = len(dynamics.parameters) - len(dynamics.inputs)
    parameters = (*dynamics.parameters[:own], *(n for n, _ in extra), *dynamics.inputs)
    more = replace(dynamics, parameters=parameters, bioavailability=share, initial=initial)
    return more, tuple(value for _, value in extra)


class _Request:
    """A cached call: equal where text, directions and scale are."""

    def __init__(self, compiled: Compiled, wrt: tuple[str, ...], scale: str) -> None:
        self.compiled, self.wrt, self.scale = compiled, wrt, scale
        self.key = (compiled.dynamics.text(), compiled.dynamics.inputs, compiled.choice, wrt, scale)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self.key == other.key


@lru_cache(maxsize=64)
def _augmented(request: _Request) -> Augmented:
    model, given = extended(replace(request.compiled.dynamics, summaries=()), request.wrt)
    work = _Work.of(model, request.wrt, request.scale)
    dynamics, where = work.dynamics()
    bigger = Compiled(dynamics=dynamics, form=None, choice=request.compiled.choice)
    return Augmented(compiled=bigger, wrt=request.wrt, outputs=model.outputs, where=where, given=given, model=model)


def derivatives_of(
    dynamics: Dynamics, wrt: Sequence[str], scale: str, exprs: Sequence[Expr]
) -> tuple[dict[str, Expr], dict[tuple[int, int], Expr]]:
    """Derivatives of expressions of parameters: assigned names they use, and {(expression, direction): derivative}."""
    work = _Work.of(dynamics, tuple(wrt), scale)
    found: dict[tuple[int, int], Expr] = {}
    for k in range(len(wrt)):
        along = work.along(k, {})
        for i, expr in enumerate(exprs):
            slope = work.derived(along, expr, "rate")
            if slope is not None:
                found[i, k] = work.expression(slope)
    return {**dynamics.assigned, **work.written}, found


@dataclass(slots=True)
class _Work:
    """One model on its way: its graph, the node of every name, symbols of sensitivities that are not zero."""

    model: Dynamics
    wrt: tuple[str, ...]
    scale: str
    graph: Graph
    names: dict[str, int]
    seeds: list[int]
    written: dict[str, Expr] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Dynamics, wrt: tuple[str, ...], scale: str) -> _Work:
        sensitivities = (f"{s}/{n}" for s in model.states for n in wrt)
        graph = Graph(frozenset({*model.states, TIME, *sensitivities}))
        names = {n: graph.symbol(n) for n in (*model.parameters, TIME, *model.states)}
        for name, expr in model.assigned.items():
            names[name] = graph.of(expr, names)
        work = cls(model, wrt, scale, graph, names, [])
        work.seeds = [work._seed(name) for name in wrt]
        return work

    def _seed(self, name: str) -> int:
        """What one unit of the direction changes its parameter by."""
        if self.scale == "natural":
            return self.graph.number(1.0)
        special = _SPECIAL.fullmatch(name)
        if special is None or special[1] == "dose":
            return self.names[name]
        given = self.model.initial[special[2]]
        if isinstance(given, Binary) and given.left == Number(0.0):
            remedy = "use the natural scale"
            raise InputError("the initial value is 0, which has no logarithm", field="wrt", value=name, remedy=remedy)
        return self.graph.of(given, self.names)

    def along(self, k: int, tangents: Mapping[str, int]) -> Derivatives:
        """Derivatives along direction k, given the nodes of the states' own derivatives."""
        seeds = {self.names[state]: node for state, node in tangents.items()}
        return Derivatives(self.graph, seeds | {self.names[self.wrt[k]]: self.seeds[k]})

    def derived(self, along: Derivatives, expr: Expr, what: str) -> int | None:
        try:
            return along.of(self.graph.of(expr, self.names))
        except TypeError as error:
            raise InputError(f"{error}: no sensitivities of this model", field=what) from error

    def nonzero(self, k: int) -> list[str]:
        """States whose sensitivity along direction k may differ from 0: a fixed point over the structure."""
        one = self.graph.number(1.0)
        found = [s for s in self.model.states if self._entered(k, s)]
        while True:
            along = self.along(k, dict.fromkeys(found, one))
            more = [
                s for s in self.model.states
                if s not in found and self.derived(along, self.model.derivative[s], f"d/dt({s})") is not None
            ]  # fmt: skip
            if not more:
                return [s for s in self.model.states if s in found]
            found += more

    def _entered(self, k: int, state: str) -> bool:
        """Whether the direction reaches the state at its start or by a dose, an infusion or a stop."""
        along = self.along(k, {})
        given = [self.model.initial_of(state)]
        given += [getattr(self.model, kind)[state] for kind in _DOSING if state in getattr(self.model, kind)]
        if any(self.derived(along, expr, state) is not None for expr in given):
            return True
        moved = any(self.derived(along, expr, "stops") is not None for expr in self.model.stops[: self.model.jumps])
        slope = self.graph.of(self.model.derivative[state], self.names)
        return moved and self.names[TIME] in self.graph.needed([slope])

    def dynamics(self) -> tuple[Dynamics, NDArray[np.int64]]:
        """The bigger model, and the number of each output's derivative."""
        model, pairs = self.model, [self.nonzero(k) for k in range(len(self.wrt))]
        derivative, initial = dict(model.derivative), dict(model.initial)
        outputs, where = list(model.outputs), np.full((len(model.outputs), len(self.wrt)), -1, np.int64)
        wanted: dict[str, Expr] = {}
        for k, (name, states) in enumerate(zip(self.wrt, pairs, strict=True)):
            along = self.along(k, {s: self.graph.symbol(f"{s}/{name}") for s in states})
            for s in states:
                derivative[f"{s}/{name}"] = self.expression(self.derived(along, model.derivative[s], f"d/dt({s})"))
                initial[f"{s}/{name}"] = self.expression(self.derived(along, model.initial_of(s), f"{s}(0)"))
            for o, (output, expr) in enumerate(model.wanted().items()):
                slope = self.derived(along, expr, output)
                if slope is not None:
                    where[o, k] = len(outputs)
                    outputs.append(f"{output}/{name}")
                    wanted[outputs[-1]] = self.expression(slope)
        every = [(s, f"{s}/{n}") for n, states in zip(self.wrt, pairs, strict=True) for s in states]
        hidden = [name for s, name in every if s in model.hazards]
        shown = [name for s, name in every if s not in model.hazards]
        plain = [s for s in model.states if s not in model.hazards]
        tangent = self._tangent(pairs)
        bigger = replace(
            model, states=(*plain, *shown, *model.hazards, *hidden), hazards=(*model.hazards, *hidden),
            assigned={**model.assigned, **self.written, **wanted}, derivative=derivative, initial=initial,
            outputs=tuple(outputs), tangent=tangent,
        )  # fmt: skip
        return bigger, where

    def _tangent(self, pairs: Sequence[Sequence[str]]) -> Tangent:
        """How the dosing of each direction moves, as expressions."""
        tables: dict[str, dict[tuple[str, str], Expr]] = {kind: {} for kind in _DOSING}
        stops: dict[tuple[int, str], Expr] = {}
        for k, name in enumerate(self.wrt):
            along = self.along(k, {})
            for kind in _DOSING:
                for state, expr in getattr(self.model, kind).items():
                    slope = self.derived(along, expr, f"doses.{state}.{kind}")
                    if slope is not None:
                        tables[kind][state, name] = self.expression(slope)
            for nth, expr in enumerate(self.model.stops[: self.model.jumps]):
                slope = self.derived(along, expr, "stops")
                if slope is not None:
                    stops[nth, name] = self.expression(slope)
        states = {name: tuple(found) for name, found in zip(self.wrt, pairs, strict=True)}
        return Tangent(wrt=self.wrt, states=states, dosing=tables, stops=stops)

    def expression(self, node: int | None) -> Expr:
        """The node as an expression; every operation is an assigned name of its own: nothing is written out twice."""
        if node is None:
            return Number(0.0)
        for n in self.graph.needed([node]):
            found = self.graph.nodes[n]
            if found.op not in ("number", "symbol") and f"node {n}" not in self.written:
                self.written[f"node {n}"] = _operation(found.op, [self._leaf(a) for a in found.args])
        return self._leaf(node)

    def _leaf(self, node: int) -> Expr:
        found = self.graph.nodes[node]
        if found.op == "number":
            return Number(float(found.value))
        return Name(str(found.value)) if found.op == "symbol" else Name(f"node {node}")


def _operation(op: str, args: list[Expr]) -> Expr:
    if op == "neg":
        return Unary("-", args[0])
    if op == "power":
        return Call("pow", tuple(args))
    if op in ("+", "-", "*", "/"):
        return Binary(op, *args)  # type: ignore[arg-type]
    if op in ("and", "or", "not"):
        return Logic(op, tuple(args))  # type: ignore[arg-type]
    if op in ("<", "<=", ">", ">=", "==", "!="):
        return Compare((op,), tuple(args))
    return Call(op, tuple(args))
