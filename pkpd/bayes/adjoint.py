"""The family of the generated solver with its discrete adjoint: data as its text wants them. Imports no PyTensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.adjoint_source import adjoint_text
from pkpd.bayes.family import Family
from pkpd.bayes.pieces import first_of, holding
from pkpd.engine.build import Compiled
from pkpd.model.equations import Name

if TYPE_CHECKING:
    from pkpd.bayes.pieces import Pieces
    from pkpd.model.records import Records
    from pkpd.model.regimen import Events

__all__ = ["RTOL", "adjoint_family"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
RTOL, MAX_STEPS = 1e-6, 20_000
KEPT = ("failed", "last", "flow", "own", "l", "V", "U", "a_first", "a_time", "a_what", "a_amount", "rec", "tag")
GIVEN = ("base", "place", "offsets", "time", "given", "state", "slot", "length", "rate", "s_offsets", "s_time", "s_row",
         "output", "starts", "parent", "settings")  # fmt: skip
BACK = ("offsets", "given", "slot", "length", "rate", "s_row", "output")


def adjoint_family(
    compiled: Compiled, records: Records, outputs: Sequence[str], wrt: Sequence[str], *, output: NDArray[np.int64],
    base: F64, pieces: Pieces | None = None, rtol: float = RTOL,
) -> Family | None:  # fmt: skip
    """The family, or None for what it does not take: stiff models, transits, steady states, jumps at times that a
    parameter moves.

    outputs: the equations that are measured; output (rows,): which of them each row measures; wrt: parameters that
    carry a gradient; base (pieces, parameters and inputs): values of the others; pieces: where parameters change within
    a subject, the rows of X. The absolute tolerance is rtol/100.
    """
    dynamics, doses = compiled.dynamics, records.doses
    several = pieces is not None and pieces.several
    refused = dynamics.transits or dynamics.hazards or (doses.steady > 0).any()
    if refused or compiled.chosen.method != "tsit5":
        return None
    dosed = [dynamics.states[k] for k in sorted(set(doses.target.tolist()))]
    flowing = bool((doses.duration > 0.0).any() or (doses.rate > 0.0).any())
    try:
        made = adjoint_text(dynamics, outputs, wrt, dosed, flowing=flowing, several=several)
    except TypeError:  # an equation without a derivative
        return None
    if made is None:
        return None
    place = np.asarray([dynamics.parameters.index(n) for n in wrt], np.int64)
    starts, parent = (np.asarray(x, np.int64) for x in (made.starts, made.parent))
    states = [made.order.index(s) for s in dynamics.states]
    slots = [dosed.index(s) if s in dosed else -1 for s in dynamics.states]
    given = _doses(doses, np.asarray(states, np.int64), np.asarray(slots, np.int64))
    settings = np.array([rtol, 1e-2 * rtol, MAX_STEPS])
    arrays = (np.array(base, np.float64), place, *given, *_rows(records), output, starts, parent, settings)
    more = _borders(pieces, given) if pieces is not None and several else {}
    own = (("ode", (*GIVEN, *more)), ("kept", (*KEPT, *(["held"] if more else []))), ("ode", (*BACK, *_back(more))))
    text, kept, back = (", ".join(f"{p}_{n}" for n in ns) for p, ns in own)
    return Family(
        name="ode",
        columns=tuple(Name(n) for n in wrt),
        arrays={f"ode_{n}": a for n, a in (dict(zip(GIVEN, arrays, strict=True)) | more).items()},
        parts=(made.text,),
        predict=f"f, {kept} = ode_solved(X, {text})",
        pull=f"ode_pulled(gf, gX, {kept}, {back})",
        about={"solver": "generated, with its adjoint", "modes": list(made.order[: made.modes]), "rtol": rtol}
        | ({"pieces": len(base)} if more else {}),
    )


def _borders(pieces: Pieces, given: tuple[NDArray[Any], ...]) -> dict[str, NDArray[Any]]:
    """Offsets of the subjects' pieces, when each begins, and the piece of each dose: what it is when it is given."""
    offsets, time = given[:2]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return {"first": first_of(pieces), "border": pieces.start, "inside": holding(pieces, owner, time)}


def _back(more: dict[str, NDArray[Any]]) -> tuple[str, ...]:
    """Which of them the way back takes."""
    return tuple(name for name in more if name != "border")


def _doses(doses: Events, states: I64, slots: I64) -> tuple[NDArray[Any], ...]:
    """offsets, time, amount, state, slot, length, rate of single doses, additional ones written out."""
    times = 1 + np.maximum(np.asarray(doses.more, np.int64), 0)
    rows = np.repeat(np.arange(len(times)), times)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    rate = np.where(doses.rate > 0.0, doses.rate, 0.0)[rows]
    length = np.where(rate > 0.0, 0.0, doses.duration[rows])
    first = np.concatenate([[0], np.cumsum(times)])
    target = np.asarray(doses.target, np.int64)[rows]
    time = doses.time[rows] + np.where(nth > 0, nth * doses.interval[rows], 0.0)
    return first[doses.offsets].astype(np.int64), time, doses.amount[rows], states[target], slots[target], length, rate


def _rows(records: Records) -> tuple[NDArray[Any], ...]:
    """offsets, times and numbers of the rows, in order of subject and time; a row after a dose at its own time is the
    first moment after it.
    """
    subject = np.asarray(records.subject, np.int64)
    time = np.where(records.after, np.nextafter(records.time, np.inf), records.time)
    order = np.lexsort((time, subject)).astype(np.int64)
    counts = np.bincount(subject, minlength=len(records))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), time[order], order
