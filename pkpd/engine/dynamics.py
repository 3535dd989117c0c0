"""The dynamic layer of a model as the engine sees it: unit-blind, names resolved, response layer left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pkpd.model.equations import Expr, Name, Number, names, show

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["TIME", "Dynamics", "Statistic", "dynamics_of"]

TIME = "TIME"
"""The name of time [h] inside equations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A summary: `kind` (average, maximum, minimum) of equation or state `of` over a window of `window` hours."""

    name: str
    of: str
    kind: str
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """Everything a solve needs.

    states, parameters: names in the model's order; assigned: name -> expression, each after what it needs;
    initial, derivative: by state (initial defaults to 0); bioavailability, lag: by state (1 and 0 h by default);
    outputs: names of equations or states that are wanted; summaries: statistics of such names.
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

    def text(self) -> str:
        """Canonical text of the equations, for hashing."""
        parts = [f"states {self.states}", f"parameters {self.parameters}", f"outputs {self.outputs}"]
        for label in ("assigned", "derivative", "initial", "bioavailability", "lag"):
            parts += [f"{label} {name} = {show(expr)}" for name, expr in getattr(self, label).items()]
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
    return Dynamics(
        states=tuple(model.states),
        parameters=tuple(model.parameters),
        assigned=model.dynamics,
        derivative=model.derivatives,
        initial=model.initials,
        bioavailability={s: _expression(d.bioavailability) for s, d in model.doses.items()},
        lag={s: _expression(d.lag) for s, d in model.doses.items()},
        outputs=_outputs(model),
        summaries=tuple(
            Statistic(name=name, of=str(s.of), kind=s.as_, window=s.window) for name, s in model.summaries.items()
        ),
    )


def _expression(value: float | str) -> Expr:
    return Name(value) if isinstance(value, str) else Number(value)


def _outputs(model: Model) -> tuple[str, ...]:
    """Names of dynamic equations or states, in order of first mention: outputs, summaries, response equations."""
    inside = {*model.states, *model.dynamics}
    mentioned = [str(o.is_) for o in model.outputs.values()] + [str(s.of) for s in model.summaries.values()]
    for expr in model.response.values():
        mentioned += sorted(names(expr))
    return tuple(dict.fromkeys(name for name in mentioned if name in inside))
