"""Limits of quantification: what a trial reports of a measured value that lies below one.

    quantification: {CP: {lloq: 0.1 mg/L, below: half}}

A value below the limit is reported as below it (`CP.blq@VISIT` 1) and stands in the data base as half the limit, as
zero, or not at all (the first of the methods of Beal, J Pharmacokinet Pharmacodyn 2001;28:481, M1): analyses, dosing
rules, rescue and monitoring see what the data base holds. True values have no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from pkpd.ground.fields import Measured

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from trials.faults import Fault
    from trials.protocol import Protocol
    from trials.setting import Setting

__all__ = ["SAID", "Quantification", "against_model", "below", "described", "limit_of", "reported"]

Floats = NDArray[np.float64]
SAID = {"half": "half the limit", "zero": "zero", "missing": "missing (M1)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantification:
    """lloq: lower limit of an output (default: the model's); below: what stands for a value below it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    lloq: Measured | None = None
    below: Literal["half", "zero", "missing"]


def limit_of(protocol: Protocol, model: Model, output: str) -> float:
    """The limit in the output's unit, -inf where it has none. InputError on another dimension."""
    from trials.guidance import unit_of

    if output not in protocol.quantification:
        return -np.inf
    told = protocol.quantification[output].lloq or model.outputs[output].lloq
    return -np.inf if told is None else told.to(unit_of(model, output))


def below(setting: Setting, values: Mapping[str, Floats]) -> dict[str, NDArray[np.bool_]]:
    """Which measured values lie below the limit of their output, of the outputs that have one."""
    with np.errstate(invalid="ignore"):
        return {
            name: np.asarray(values[name] < limit_of(setting.protocol, setting.model, name))
            for name in setting.protocol.quantification if name in values
        }  # fmt: skip


def reported(setting: Setting, output: str, value: Floats) -> Floats:
    """Measured values of an output as the data base holds them."""
    if output not in setting.protocol.quantification:
        return value
    limit = limit_of(setting.protocol, setting.model, output)
    instead = {"half": 0.5 * limit, "zero": 0.0, "missing": np.nan}[setting.protocol.quantification[output].below]
    with np.errstate(invalid="ignore"):
        return np.where(value < limit, instead, value)


def against_model(protocol: Protocol, model: Model, fault: Fault) -> None:
    """Outputs that are measured and have a limit in their own unit; a limit of the model says what stands below it."""
    from trials.faults import at

    measured = [name for name, output in model.outputs.items() if output.continuous]
    for name, told in protocol.quantification.items():
        path = ("quantification", name)
        fault.known(name, measured, "continuous output of the model", path)
        if told.lloq is None and model.outputs[name].lloq is None:
            fault("has no limit of quantification in the model", path, value=name, remedy="write lloq: 0.1 mg/L here")
        with at(fault, (*path, "lloq")):
            limit = limit_of(protocol, model, name)
        if not limit > 0.0:
            fault("must be > 0", (*path, "lloq"), value=limit, remedy="leave it out where there is no limit")
    for name in measured:
        if model.outputs[name].lloq is not None and name not in protocol.quantification:
            problem = f"the model's output {name} has a limit of quantification: say what stands for a value below it"
            fault(problem, ("quantification",), remedy=f"write quantification: {{{name}: {{below: half}}}}")


def described(protocol: Protocol, model: Model) -> tuple[str, ...]:
    """A sentence for each output that has a limit."""
    from trials.guidance import unit_of

    return tuple(
        f"{name} below {limit_of(protocol, model, name):g} {unit_of(model, name)} is reported as below the limit of "
        f"quantification and analysed as {SAID[told.below]}."
        for name, told in protocol.quantification.items()
    )
