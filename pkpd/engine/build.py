"""`compiled(model)`: how a model will be solved. Plain data; kernels are loaded when they are first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pkpd.engine.dynamics import Dynamics, Statistic, dynamics_of
from pkpd.engine.generate import source
from pkpd.engine.structure import OneCompartment, one_compartment

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["Compiled", "compiled"]


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A model ready to be solved.

    outputs: names along the output axis of a solution; summaries: the model's statistics;
    form: the closed form, or None where the generated ODE solver is needed.
    """

    dynamics: Dynamics
    form: OneCompartment | None

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
        """Names along the last axis of the parameters."""
        return self.dynamics.parameters

    @cached_property
    def source(self) -> str:
        """Text of the generated ODE solver."""
        return source(self.dynamics)

    @cached_property
    def switching(self) -> str:
        """The same for event records that turn compartments off and on."""
        return source(self.dynamics, switches=True)


def compiled(model: Model) -> Compiled:
    """Decide how `model` is solved: closed form where its equations have one, else generated code.

    >>> from pkpd.model.library import load
    >>> compiled(load("theophylline")).outputs
    ('C',)
    """
    return of_dynamics(dynamics_of(model))


def of_dynamics(dynamics: Dynamics) -> Compiled:
    """The same for the dynamic layer alone."""
    return Compiled(dynamics=dynamics, form=one_compartment(dynamics))
