"""Actions of a model with sensitivities: derivatives of its dosing evaluated for the subjects, then merged in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pkpd.engine.actions import Actions, Dosing
from pkpd.engine.arrays import F64
from pkpd.engine.changes import Changes
from pkpd.engine.dynamics import Dynamics, Tangent
from pkpd.engine.tangent_actions import Stops, moved, with_tangents
from pkpd.model.equations import Expr
from pkpd.model.regimen import Events

__all__ = ["bigger", "slopes"]

Column = Callable[[Expr], F64]
_TABLES = {"bioavailability": "share", "lag": "lag", "scale": "scale", "rate": "rate", "duration": "duration"}


def bigger(
    actions: Actions, given: tuple[Events, Dosing, Changes, F64 | None], dynamics: Dynamics, column: Column
) -> Actions:
    """Actions with those of the sensitivities; given: what they come of, with the model event times (n, K);

    column evaluates an expression of parameters for every row of them.
    """
    events, dosing, changes, stops = given
    tangent = dynamics.tangent
    if tangent is None:
        return actions
    records = moved(events, dosing, changes, slopes(dynamics, tangent, column))
    number = {state: k for k, state in enumerate(dynamics.states)}
    place = {n: {number[s]: number[f"{s}/{n}"] for s in tangent.states[n]} for n in tangent.wrt}
    return with_tangents(actions, records, place, _stops(dynamics, stops, changes, column))


def slopes(dynamics: Dynamics, tangent: Tangent, column: Column) -> dict[str, Dosing]:
    """{direction: derivatives of how doses arrive}, of the directions that move it at all."""
    found: dict[str, dict[str, F64]] = {}
    for kind, table in tangent.dosing.items():
        for (state, name), expr in table.items():
            values = column(expr)
            tables = found.setdefault(name, {})
            empty = np.zeros((len(values), len(dynamics.states)))
            tables.setdefault(_TABLES[kind], empty)[:, dynamics.states.index(state)] = values
    nothing = np.zeros((1, len(dynamics.states)))
    return {n: Dosing(**{"share": _like(t, nothing), "lag": _like(t, nothing), **t}) for n, t in found.items()}


def _like(tables: dict[str, F64], nothing: F64) -> F64:
    rows = len(next(iter(tables.values())))
    return np.broadcast_to(nothing, (rows, nothing.shape[1]))


def _stops(dynamics: Dynamics, stops: F64 | None, changes: Changes, column: Column) -> Stops | None:
    """Derivatives of the model event times, one column for each of them and each change of the parameters."""
    tangent = dynamics.tangent
    if stops is None or tangent is None or not tangent.stops:
        return None
    found: dict[int, F64] = {}
    n, count = stops.shape[0], len(dynamics.stops)
    for (nth, name), expr in tangent.stops.items():
        values = column(expr)
        table = found.setdefault(tangent.wrt.index(name), np.zeros_like(stops))
        table[:, nth] = values[:n]
        if len(values) > n:
            later = np.zeros((n, (stops.shape[1] - count) // count))
            later[changes.subject, np.arange(len(changes.time)) - changes.offsets[changes.subject]] = values[n:]
            table[:, count + nth * later.shape[1] : count + (nth + 1) * later.shape[1]] = later
    return Stops(time=stops, slopes=found)
