"""`compiled(model)`: how a model will be solved. Plain data; kernels are loaded when they are first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from pkpd.engine.block import LinearBlock, linear_block
from pkpd.engine.choice import Choice, Pilot
from pkpd.engine.dynamics import Dynamics, Statistic, clock_columns, dynamics_of, with_hazards
from pkpd.engine.generate import Method, source
from pkpd.engine.plan import NOTHING_MORE, Needs, plan_of
from pkpd.engine.structure import OneCompartment, one_compartment

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["Compiled", "compiled", "integrating"]


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A model ready to be solved.

    outputs: names along the output axis of a solution; summaries: the model's statistics;
    form: the closed form, or None where the generated ODE solver is needed; kinds: event -> first, recurrent or
    terminal, of the events that have a hazard; choice: the solver of a nonlinear model, where it is given; pilot: finds
    it where it is not.
    """

    dynamics: Dynamics
    form: OneCompartment | None
    choice: Choice | None = None
    pilot: Pilot | None = field(default=None, compare=False, repr=False)
    _texts: dict[tuple[Method, bool, Needs], str] = field(default_factory=dict, compare=False, repr=False)
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self.dynamics.outputs

    @property
    def summaries(self) -> tuple[Statistic, ...]:
        """The model's summaries, in order."""
        return self.dynamics.summaries

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names along the last axis of the parameters, in the model's order."""
        return self.dynamics.parameters[: len(self.dynamics.parameters) - len(self.dynamics.inputs)]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Covariates and classes the integration itself uses: `solve(covariates=)`, the last columns of changes."""
        hidden = {*clock_columns(), *self.dynamics.transits}
        return tuple(name for name in self.dynamics.inputs if not {name, name.partition(".")[0]} & hidden)

    @cached_property
    def block(self) -> LinearBlock | None:
        """The linear block of the model, or None (a model with sensitivities is solved as it is)."""
        return None if self.dynamics.tangent is not None else linear_block(self.dynamics)

    @cached_property
    def gathers(self) -> bool:
        """Whether a state only gathers: a closed form finds no steady state of it."""
        return any(plan_of(self.dynamics).gathers)

    @property
    def chosen(self) -> Choice:
        """The solver of steps; a model with a closed form that needs steps after all has Tsit5."""
        if self.choice is not None:
            return self.choice
        linear = self.form is not None or not self.dynamics.states or (self.block is not None and self.block.whole)
        return Choice() if linear or self.pilot is None else self.pilot.choice()

    @property
    def source(self) -> str:
        """Text of the generated solver of all states."""
        return self.text(self.chosen.method)

    def text(self, method: Method, *, split: bool = False, needs: Needs = NOTHING_MORE) -> str:
        """Text of a generated solver. split: the linear block by its modes; needs: what records and request ask for."""
        key = (method, split, needs)
        if key not in self._texts:
            block = self.block if split else None
            self._texts[key] = source(self.dynamics, method=method, block=block, needs=needs)
        return self._texts[key]


def integrating(compiled: Compiled, events: tuple[str, ...]) -> Compiled:
    """The same with the cumulative hazards of `events` integrated: always by the generated solver."""
    known: dict[tuple[str, ...], Compiled] = compiled.__dict__.setdefault("_integrating", {})
    if events not in known:
        bigger = with_hazards(compiled.dynamics, events)
        known[events] = replace(compiled, dynamics=bigger, form=None, _texts={})
    return known[events]


def compiled(model: Model) -> Compiled:
    """Decide how `model` is solved: closed form where its equations have one, else generated code.

    >>> from pkpd.model.library import load
    >>> compiled(load("theophylline")).outputs
    ('C',)
    """
    kinds = {name: kind for name, (_, kind) in model.hazards.items()}
    found = replace(of_dynamics(dynamics_of(model)), kinds=kinds)
    return replace(found, pilot=Pilot(model, found))


def of_dynamics(dynamics: Dynamics) -> Compiled:
    """The same for the dynamic layer alone."""
    return Compiled(dynamics=dynamics, form=one_compartment(dynamics))
