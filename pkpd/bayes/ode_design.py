"""The data of a fit as the generated solver's likelihood wants them. Imports no PyTensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.pieces import first_of, holding
from pkpd.engine.actions import Table
from pkpd.engine.augment import augmented
from pkpd.engine.build import Compiled
from pkpd.engine.observe_source import observe_functions
from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events

if TYPE_CHECKING:
    from pkpd.bayes.pieces import Pieces
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
    compiled: Compiled, records: Records, outputs: Sequence[str], wrt: Sequence[str], *, base: F64,
    pieces: Pieces | None = None, rtol: float = 1e-6, atol: float = 1e-8,
) -> OdeDesign:  # fmt: skip
    """The data of a fit for the generated solver.

    outputs: the equation that each output of the data measures, by their number in `records.output`; wrt: parameters
    that carry a gradient; base (pieces, parameters and inputs): values of the others; pieces: where parameters change
    within a subject, the rows of X.
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
    several = pieces is not None and pieces.several
    solver = model.compiled.text(compiled.chosen.method)  # the bigger model has no pilot of its own
    source = solver + observe_functions(dynamics, several=several)
    more = _by_piece(pieces, doses, subject) if pieces is not None and several else ()
    return OdeDesign(source=source, wrt=model.wrt, arrays=(np.array(base, np.float64), columns, *doses, *design, *more))


def _by_piece(
    pieces: Pieces, doses: tuple[NDArray[Any], ...], subject: NDArray[np.int64]
) -> tuple[NDArray[Any], ...]:  # fmt: skip
    """first (subjects + 1,), owner, begin (pieces,), piece of each dose; row and piece of every slope there is, and the
    piece of each row.
    """
    first = first_of(pieces)
    given = np.repeat(np.arange(len(first) - 1), np.diff(doses[0]))
    before = pieces.row - first[subject] + 1
    row = np.repeat(np.arange(len(subject)), before)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(before) - before, before)
    inside = holding(pieces, given, doses[1])
    return first, pieces.subject, pieces.start, inside, row, first[subject][row] + nth, pieces.row


def _written_out(events: Events) -> tuple[NDArray[Any], ...]:
    """offsets, time, amount, target, duration, rate of plain doses, additional ones written out."""
    if (events.steady > 0).any():
        remedy = "write the doses out"
        raise InputError("steady states cannot be fitted by the ODE path yet", field="SS", remedy=remedy)
    table = Table.of(events)
    rate = np.where(table.rate > 0.0, table.rate, 0.0)
    length = np.where(rate > 0.0, 0.0, table.duration)
    count = np.bincount(table.subject, minlength=len(events))
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return offsets, table.time.copy(), table.amount.copy(), np.asarray(table.target, np.int64), length, rate


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
