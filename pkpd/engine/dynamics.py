"""The dynamic layer of a model as the engine sees it: unit-blind, names resolved, response layer left out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from pkpd.model.equations import Binary, Call, Compare, Expr, Name, Number, names, reach, show, walk

if TYPE_CHECKING:
    from pkpd.model.dosing import Transit
    from pkpd.model.spec import Model

__all__ = [
    "TIME", "Absorption", "Dynamics", "Statistic", "Tangent", "clock_columns", "dynamics_of", "linear_columns",
    "slot_columns", "with_hazards", "with_slots",
]  # fmt: skip

TIME = "TIME"
"""The name of time [h] inside equations."""


def linear_columns(name: str) -> tuple[str, str, str]:
    """Columns of a covariate that is linear between records: value at the start, slope [1/h], start [h]."""
    return f"{name}.value", f"{name}.slope", f"{name}.start"


def clock_columns() -> tuple[str, str, str]:
    """Columns of the last dose: when it was [h], whether there was one, its amount."""
    return "TAD.since", "TAD.given", "DOSE"


def slot_columns(state: str, slots: int) -> tuple[tuple[str, str, str, str, str], ...]:
    """Columns of each dose on its way to a state through transits: arrival [h], amount, log(ktr/n!), n, ktr [1/h]."""
    return tuple(
        (f"{state}.{k}.start", f"{state}.{k}.amount", f"{state}.{k}.factor", f"{state}.{k}.n", f"{state}.{k}.ktr")
        for k in range(slots)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Absorption:
    """Transits before a state: their number n, mean transit time [h], the share that arrives and its lag [h]."""

    number: Expr
    time: Expr
    share: Expr | None
    lag: Expr | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A summary: `kind` (of `request.STATISTICS`) of equation or state `of` over a window of `window` hours.

    threshold: of time_above and time_below [h above or below it].
    """

    name: str
    of: str
    kind: str
    window: float
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tangent:
    """What a model with sensitivities (see `augment`) knows of its directions.

    wrt: names of the directions; states: direction -> states with a sensitivity, itself the state `STATE/DIRECTION`;
    dosing: kind (bioavailability, lag, ...) -> (state, direction) -> derivative; stops: (number, direction) -> the same
    """

    wrt: tuple[str, ...]
    states: Mapping[str, tuple[str, ...]]
    dosing: Mapping[str, Mapping[tuple[str, str], Expr]]
    stops: Mapping[tuple[int, str], Expr]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """Everything a solve needs.

    states, parameters: names in the model's order, parameters followed by `inputs` (covariates and classes that the
    integration itself uses; one that is linear in time is three of them, see `linear_columns`); assigned: name ->
    expression, each after what it needs; initial, derivative: by state (initial defaults to 0); bioavailability, lag,
    scale (dose's unit -> state's), rate and duration of infusions that the model gives: by state (1, 0 h, 1, none, none
    by default); stops: expressions of parameters that are times [h] at which a solver must stop, first the `jumps` at
    which equations may jump, then those at which they bend; outputs: names of
    equations or states that are wanted; summaries: statistics of such names; risks: event -> hazard [1/h]; hazards: the
    last states, that integrate the hazard of an event each (see `with_hazards`);
    tangent: of a model with sensitivities; transits: by state, whose doses come as columns of `inputs` (see `past`).
    """

    states: tuple[str, ...]
    parameters: tuple[str, ...]
    assigned: Mapping[str, Expr]
    derivative: Mapping[str, Expr]
    initial: Mapping[str, Expr]
    bioavailability: Mapping[str, Expr]
    lag: Mapping[str, Expr]
    outputs: tuple[str, ...]
    summaries: tuple[Statistic, ...] = ()
    hazards: tuple[str, ...] = ()
    scale: Mapping[str, Expr] = field(default_factory=dict)
    rate: Mapping[str, Expr] = field(default_factory=dict)
    duration: Mapping[str, Expr] = field(default_factory=dict)
    stops: tuple[Expr, ...] = ()
    jumps: int = 0
    tangent: Tangent | None = None
    inputs: tuple[str, ...] = ()
    risks: Mapping[str, Expr] = field(default_factory=dict)
    transits: Mapping[str, Absorption] = field(default_factory=dict)

    def text(self) -> str:
        """Canonical text of the equations, for hashing."""
        parts = [f"states {self.states}", f"parameters {self.parameters}", f"outputs {self.outputs}"]
        for label in ("assigned", "derivative", "initial", "bioavailability", "lag", "scale", "rate", "duration"):
            parts += [f"{label} {name} = {show(expr)}" for name, expr in getattr(self, label).items()]
        parts += [f"stop {show(expr)}" for expr in self.stops]
        parts += [f"transits {state} {t}" for state, t in self.transits.items()]
        if self.tangent is not None:
            parts.append(f"tangent {self.tangent.states}")
        return "\n".join(parts)

    def digest(self) -> str:
        """SHA-256 of the canonical text."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def wanted(self) -> dict[str, Expr]:
        """Output name -> expression (a state is its own expression)."""
        return {name: self.assigned.get(name, Name(name)) for name in self.outputs}

    def initial_of(self, state: str) -> Expr:
        """Initial value, 0 unless the text says otherwise."""
        return self.initial.get(state, Number(0.0))

    def moving(self) -> frozenset[str]:
        """States, time, and every assigned name that depends on them."""
        found = {*self.states, TIME}
        for name, expr in self.assigned.items():
            if names(expr) & found:
                found.add(name)
        return frozenset(found)


def dynamics_of(model: Model) -> Dynamics:
    """The dynamic layer of a model: what its outputs, summaries and response equations need of it."""
    used = [name for name in model.inputs if name in model.solved]
    moving = {name: _linear(name) for name in used if model.inputs[name].between == "linear"}
    inputs = tuple(column for name in used for column in (linear_columns(name) if name in moving else (name,)))
    if {"TAD", "DOSE"} & model.solved:
        inputs, moving = (*inputs, *clock_columns()), {**moving, "TAD": _since_dose()}
    plain = Dynamics(
        states=tuple(model.states),
        parameters=(*model.parameters, *inputs),
        assigned={**moving, **model.dynamics},
        derivative=model.derivatives,
        initial=model.initials,
        bioavailability=_dose_option(model, "bioavailability"),
        lag=_dose_option(model, "lag"),
        scale=_dose_option(model, "scale"),
        rate=_dose_option(model, "rate"),
        duration=_dose_option(model, "duration"),
        outputs=_outputs(model),
        summaries=tuple(
            Statistic(name=name, of=str(s.of), kind=s.as_, window=s.window) for name, s in model.summaries.items()
        ),
        inputs=inputs,
        risks={name: Name(equation) for name, (equation, _) in model.hazards.items()},
    )
    jumps, bends = _stops(plain, _conditions), _stops(plain, _bends)
    plain = replace(plain, stops=(*jumps, *(b for b in bends if b not in jumps)), jumps=len(jumps))
    return _with_transits(plain, {state: t.transit for state, t in model.doses.items() if t.transit is not None})


def _since_dose() -> Expr:
    since, given, _ = (Name(column) for column in clock_columns())
    return Binary("*", given, Binary("-", Name(TIME), since))


def _with_transits(dynamics: Dynamics, given: Mapping[str, Transit]) -> Dynamics:
    """Doses into these states come as an input in time: their share is 0 for whoever applies doses."""
    from pkpd.model.dosing import expression_of

    transits = {
        state: Absorption(
            number=expression_of(t.number), time=expression_of(t.time), share=dynamics.bioavailability.get(state),
            lag=dynamics.lag.get(state),
        )
        for state, t in given.items()
    }  # fmt: skip
    found = replace(
        dynamics,
        transits=transits,
        bioavailability={**dynamics.bioavailability, **dict.fromkeys(transits, Number(0.0))},
        lag={state: lag for state, lag in dynamics.lag.items() if state not in transits},
        derivative={
            state: Binary("+", expr, Name(f"{state}.input")) if state in transits else expr
            for state, expr in dynamics.derivative.items()
        },
    )
    for state in transits:
        found = with_slots(found, state, 1)
    return found


def with_slots(dynamics: Dynamics, state: str, slots: int) -> Dynamics:
    """The dynamics with room for `slots` doses at once on their way to `state`."""
    columns = [name for one in slot_columns(state, slots) for name in one]
    old = [n for n in dynamics.inputs if n.startswith(f"{state}.") and n.endswith(_SLOT)]
    at = dynamics.inputs.index(old[0]) if old else len(dynamics.inputs)
    inputs = (*dynamics.inputs[:at], *columns, *dynamics.inputs[at + len(old) :])
    own = dynamics.parameters[: len(dynamics.parameters) - len(dynamics.inputs)]
    total: Expr | None = None
    for one in slot_columns(state, slots):
        term = _pulse(*(Name(name) for name in one))
        total = term if total is None else Binary("+", total, term)
    assigned = {**dynamics.assigned, f"{state}.input": Number(0.0) if total is None else total}
    return replace(dynamics, inputs=inputs, parameters=(*own, *inputs), assigned=assigned)


_LONGEST = 5_000  # nodes of a comparison written out
_SLOT = (".start", ".amount", ".factor", ".n", ".ktr")


def _pulse(*parts: Expr) -> Expr:
    """amount exp(log(ktr/n!) + n log(ktr s) - ktr s) from s = 0 on."""
    start, amount, factor, n, ktr = parts
    s = Binary("*", ktr, Binary("-", Name(TIME), start))
    power = Binary("*", n, Call("log", (Call("max", (s, Number(1e-300))),)))
    whole = Binary("*", amount, Call("exp", (Binary("-", Binary("+", factor, power), s),)))
    return Call("if", (Compare((">=",), (Name(TIME), start)), whole, Number(0.0)))


def with_hazards(dynamics: Dynamics, events: tuple[str, ...]) -> Dynamics:
    """The dynamics with one more state and output for each of the events: its cumulative hazard, `EVENT.hazard`."""
    states = tuple(f"{event}.hazard" for event in events)
    return replace(
        dynamics,
        states=(*dynamics.states, *states),
        derivative={**dynamics.derivative, **{s: dynamics.risks[e] for s, e in zip(states, events, strict=True)}},
        outputs=(*dynamics.outputs, *states),
        hazards=states,
    )


def _linear(name: str) -> Expr:
    value, slope, start = (Name(column) for column in linear_columns(name))
    return Binary("+", value, Binary("*", slope, Binary("-", Name(TIME), start)))


Pairs = list[tuple[Expr, Expr]]


def _stops(dynamics: Dynamics, compared: Callable[[Expr], Pairs]) -> tuple[Expr, ...]:
    """Model event times: when what is compared meets, at times that parameters give."""
    states, found = frozenset(dynamics.states), dict[str, Expr]()
    moving = {TIME}
    for name, expr in dynamics.assigned.items():
        if names(expr) & moving:
            moving.add(name)
    for expr in (*dynamics.assigned.values(), *dynamics.derivative.values()):
        for a, b in compared(expr):
            if (names(a) | names(b)) & moving and (time := _meeting(a, b, dynamics, states)) is not None:
                found[show(time)] = time
    return tuple(found.values())


def _conditions(expr: Expr) -> Pairs:
    """What conditions compare."""
    return [pair for node in walk(expr) if isinstance(node, Compare) for pair in pairwise(node.operands)]


def _bends(expr: Expr) -> Pairs:
    """What `max`, `min` and `abs` compare, and where a smooth switch is half way."""
    found: Pairs = []
    for node in walk(expr):
        match node:
            case Call("max" | "min", args):
                found += combinations(args, 2)
            case Call("abs" | "expit" | "tanh", (inner,)):  # a steep slope is soon over
                found.append((inner, Number(0.0)))
    return found


def _meeting(a: Expr, b: Expr, dynamics: Dynamics, states: frozenset[str]) -> Expr | None:
    """The time at which a = b, where both are straight lines in time and know no state."""
    from pkpd.engine.structure import inlined, linear_terms, written_out

    if written_out(dynamics, (a, b)) > _LONGEST:
        return None
    left, right = (inlined(side, dynamics.assigned) for side in (a, b))
    if (names(left) | names(right)) & states:
        return None
    for clock, other, plain in ((left, right, b), (right, left, a)):
        if clock == Name(TIME) and TIME not in names(other):
            return plain
    lines = [linear_terms(side, frozenset({TIME})) for side in (left, right)]
    if lines[0] is None or lines[1] is None:
        return None
    slope, offset = ([line.get(key, Number(0.0)) for line in lines if line is not None] for key in (TIME, ""))
    if slope[0] == slope[1]:
        return None
    return Binary("/", Binary("-", offset[1], offset[0]), Binary("-", slope[0], slope[1]))


def _dose_option(model: Model, name: str) -> dict[str, Expr]:
    """State -> expression, for the states that are given one."""
    from pkpd.model.dosing import expression_of

    found = {state: getattr(target, name) for state, target in model.doses.items()}
    return {state: expression_of(value) for state, value in found.items() if value is not None}


def _outputs(model: Model) -> tuple[str, ...]:
    """Names of dynamic equations or states, in order of first mention: outputs, summaries, response equations."""
    inside = {*model.states, *model.dynamics}
    mentioned = [str(o.is_) for o in model.outputs.values()] + [str(s.of) for s in model.summaries.values()]
    for expr in model.response.values():
        mentioned += sorted(names(expr))
    mentioned += _chances(model)
    return tuple(dict.fromkeys(name for name in mentioned if name in inside))


def _chances(model: Model) -> list[str]:
    """Equations of states that probabilities, counts and grades are drawn with (the others need no solver)."""
    found = [name for e in model.events.values() for name in (e.risk, *e.at_least.values())]
    for output in model.outputs.values():
        found += [str(name) for name in (*output.at_least.values(), output.dispersion, output.zeros)]
    reached = reach(model.equations)
    return [name for name in found if reached.get(name, frozenset()) & set(model.states)]
