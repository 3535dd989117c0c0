"""Parameters that change within a subject: a history in pieces, one for each occasion and value of a covariate.

From one border to the next everything holds (LOCF or NOCB); what stands in the compartments at a border goes on.
Borders, and which side of one a record or a sample is on, are the engine's own (`engine.changes`, `engine.actions`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import RATE, RESET, SET, STEADY
from pkpd.engine.changes import Changes, in_force, rows_at
from pkpd.engine.dynamics import linear_columns
from pkpd.ground.errors import InputError
from pkpd.model.timeline import Timeline, timeline

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["Pieces", "first_of", "holding", "needed", "pieces_of", "split"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """P pieces, subject after subject: subject (P,), start (P,) [h] (-inf: the subject's first), late (P,), covariates
    {name: (P,)}, NaN where missing; row (rows,): piece of each observation; slot (P,): place of the piece's occasion
    among the K occasions of all subjects, whose subject and number are `occasions` (K, 2); inputs {column: (P,)}: of
    the covariates in the equations themselves.
    """

    subject: I64
    start: F64
    late: NDArray[np.bool_]
    covariates: dict[str, F64]
    row: I64
    slot: I64
    occasions: I64
    inputs: dict[str, F64] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether any subject has more than one."""
        return bool(np.isfinite(self.start).any())

    @property
    def joined(self) -> I64:
        """1 where a piece goes on from the one before, else 0."""
        return np.isfinite(self.start).astype(np.int64)

    @property
    def changes(self) -> Changes:
        """Borders as the engine takes them."""
        later = np.isfinite(self.start)
        count = np.bincount(self.subject[later], minlength=int(self.subject.max()) + 1)
        return Changes(
            offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64), time=self.start[later],
            parameters=np.empty((int(later.sum()), 0)), late=self.late[later],
        )  # fmt: skip


def needed(model: Model) -> tuple[str, ...]:
    """Covariates that act on a parameter."""
    return tuple(dict.fromkeys(c for effects in model.effects.values() for c in effects))


def first_of(pieces: Pieces) -> I64:
    """Offsets (subjects + 1,) of the subjects' pieces."""
    return np.append(np.flatnonzero(~np.isfinite(pieces.start)), len(pieces.start)).astype(np.int64)


def holding(pieces: Pieces, subject: I64, time: F64) -> I64:
    """The piece that holds at records, as the engine has it."""
    later = np.flatnonzero(np.isfinite(pieces.start))
    place = np.concatenate([first_of(pieces)[:-1], later])
    return np.asarray(place[in_force(pieces.changes, subject, time)], np.int64)


def pieces_of(model: Model, records: Records) -> Pieces:
    """The pieces of every subject.

    Errors: InputError for a covariate that is not there, or that moves linearly where it acts on parameters.
    """
    acting, n = needed(model), len(records)
    names = tuple(dict.fromkeys((*acting, *(name for name in model.covariates if name in model.solved))))
    for name in names:
        _check(model, records, name, acts=name in acting)
    constant = {k: np.asarray(records.covariates[k], np.float64) for k in names if k in records.covariates}
    line = timeline(
        model, constant, {k: records.series[k] for k in names if k in records.series},
        occasion=records.occasion if model.occasion_etas else None, until=float(records.time.max(initial=0.0)), size=n,
    )  # fmt: skip
    row = np.empty(len(records.time), np.int64)
    for after in (False, True):
        here = records.after == after
        row[here] = rows_at(line, records.subject[here], records.time[here], samples=True, after=after)
    seen, slot = np.unique(np.stack([line.subject, line.occasion], axis=1), axis=0, return_inverse=True)
    return Pieces(
        subject=line.subject, start=np.asarray(line.time), late=line.late, row=row,
        covariates={name: np.asarray(line.values[name]) for name in acting},
        slot=slot.reshape(-1).astype(np.int64), occasions=seen.astype(np.int64),
        inputs=_inputs(line, [name for name in names if name in model.solved]),
    )  # fmt: skip


def _inputs(line: Timeline, names: list[str]) -> dict[str, F64]:
    """Columns of the covariates in the equations, as the engine has them."""
    began = np.where(np.isfinite(line.time), line.time, 0.0)
    found: dict[str, F64] = {}
    for name in names:
        value, slope, start = linear_columns(name)
        found |= {name: line.values[name], value: line.values[name], slope: line.slopes[name], start: began}
    return found


def _check(model: Model, records: Records, name: str, *, acts: bool) -> None:
    if name not in records.covariates and name not in records.series:
        raise InputError("the data lack a covariate of the model", field=name, remedy="add the column")
    if name in model.solved and np.isnan(records.covariates.get(name, np.zeros(1))).any():
        remedy = "write its value"
        raise InputError("a covariate of the equations that is missing cannot be fitted yet", field=name, remedy=remedy)
    if acts and name in records.series and model.covariates[name].between == "linear":
        remedy = "write between: locf or nocb"
        raise InputError("a covariate that moves linearly cannot be fitted yet", field=name, remedy=remedy)


_Rows = tuple[F64, I64, I64, F64]


def split(offsets: I64, rows: _Rows, pieces: Pieces) -> tuple[I64, F64, I64, I64, F64]:
    """Actions by piece: offsets (P+1,) and time, kind, dosed state, amount. rows: the same by subject, borders as SET.

    A piece after the first begins with an action at its border that starts the infusions that still run.
    """
    bounds: list[int] = [0]
    made: list[tuple[float, int, int, float]] = []
    for lo, hi in pairwise(offsets.tolist()):
        running: dict[int, float] = {}
        for time, kind, dose, amount in zip(*(column[lo:hi].tolist() for column in rows), strict=True):
            if kind == SET:
                bounds.append(len(made))
                made += [(time, RATE, d, running.get(d, 0.0)) for d in sorted({0, *running})]
                continue
            if kind == RATE:
                running[dose] = running.get(dose, 0.0) + amount
            elif kind in (RESET, STEADY):
                running = {}
            made.append((time, kind, dose, amount))
        bounds.append(len(made))
    if len(bounds) != len(pieces.subject) + 1:
        raise AssertionError("borders and pieces differ")
    table = np.asarray(made, np.float64).reshape(-1, 4)
    whole = table[:, 1:3].astype(np.int64)
    return np.asarray(bounds, np.int64), table[:, 0].copy(), whole[:, 0].copy(), whole[:, 1].copy(), table[:, 3].copy()
