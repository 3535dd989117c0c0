"""The data of a fit as the generated solver's likelihood wants them. Imports no PyTensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.augment import augmented
from pkpd.engine.build import Compiled
from pkpd.engine.observe_source import observe_functions
from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events

if TYPE_CHECKING:
    from pkpd.model.records import Records

__all__ = ["OdeDesign", "ode_design"]

F64 = NDArray[np.float64]
MAX_STEPS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OdeDesign:
    """What `prediction` needs besides X. wrt: names along the columns of X; arrays: the other inputs of the kernel."""

    source: str
    wrt: tuple[str, ...]
    arrays: tuple[Any, ...]


def ode_design(
    compiled: Compiled, records: Records, outputs: Sequence[str], wrt: Sequence[str], *, base: F64, rtol: float = 1e-6,
    atol: float = 1e-8,
) -> OdeDesign:  # fmt: skip
    """The data of a fit for the generated solver.

    outputs: the equation that each output of the data measures, by their number in `records.output`; wrt: parameters
    that carry a gradient; base (subjects, parameters and inputs): values of the others.
    Errors: InputError for records the likelihood does not take yet, an unknown parameter, or no derivative.
    """
    records.require_doses("fitted")
    model = augmented(compiled, wrt, "natural")
    dynamics = model.compiled.dynamics
    doses = _written_out(records.doses)
    tangent = dynamics.tangent
    if tangent is None or tangent.stops:
        raise InputError("a model event time that depends on a parameter cannot be fitted yet", field="equations")
    times, subject, column = _grid(records)
    number = {state: k for k, state in enumerate(dynamics.states)}
    where = np.full((len(dynamics.states), len(model.wrt)), -1, np.int64)
    for k, name in enumerate(model.wrt):
        for state in tangent.states[name]:
            where[number[state], k] = number[f"{state}/{name}"]
    output = np.asarray([model.outputs.index(name) for name in outputs], np.int64)[records.output]
    columns = np.asarray([dynamics.parameters.index(name) for name in model.wrt], np.int64)
    design = (times, subject, column, output, model.where, where, np.array([rtol, atol, MAX_STEPS]))
    source = model.compiled.source + observe_functions(dynamics)
    return OdeDesign(source=source, wrt=model.wrt, arrays=(np.array(base, np.float64), columns, *doses, *design))


def _written_out(events: Events) -> tuple[NDArray[Any], ...]:
    """offsets, time, amount, target, duration, rate of plain doses."""
    if (events.steady > 0).any() or events.more.any():
        remedy = "write the doses out"
        raise InputError(
            "steady states and additional doses cannot be fitted by the ODE path yet", field="SS", remedy=remedy
        )
    rate = np.where(events.rate > 0.0, events.rate, 0.0)
    length = np.where(rate > 0.0, 0.0, events.duration)
    target = np.asarray(events.target, np.int64)
    return np.asarray(events.offsets, np.int64), events.time.copy(), events.amount.copy(), target, length, rate


def _grid(records: Records) -> tuple[F64, NDArray[np.int64], NDArray[np.int64]]:
    """Times (subjects, most rows), ascending, NaN last, and where each row stands.

    A row that follows a dose at its own time is the first moment after it.
    """
    subject = np.asarray(records.subject, np.int64)
    time = np.where(records.after, np.nextafter(records.time, np.inf), records.time)
    count = np.bincount(subject, minlength=len(records))
    order = np.lexsort((time, subject))
    column = np.empty(len(subject), np.int64)
    column[order] = np.concatenate([np.arange(n) for n in count])
    times = np.full((len(count), int(count.max())), np.nan)
    times[subject, column] = time
    return times, subject, column
