"""Events by hazard: an event comes when its cumulative hazard, from the subject's start, crosses a random threshold.

Thresholds are sums of standard exponentials by address (`pkpd.model.outcomes.thresholds`). A hazard that moves with a
state or with time is integrated with the states and the crossing found on dense output; one that is constant between
changes of parameters crosses in closed form. first: the first crossing; recurrent: all; terminal: the first, and
nothing is observed after it. Source: Cox & Oakes, Analysis of Survival Data (1984), section 2.2 (inversion of the
integrated hazard).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.build import Compiled
from pkpd.engine.changes import Changes
from pkpd.engine.dynamics import TIME
from pkpd.engine.structure import inlined
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.equations import evaluate, names

if TYPE_CHECKING:
    from pkpd.engine.solve import Solution

__all__ = ["Armed", "armed", "below_zero", "constant_rates", "cut", "falls", "occurring", "of_constant"]

F64 = NDArray[np.float64]
MAX_OCCURRENCES = 65_536
_FALL = 1e-5
"""Beyond the error of integration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """Events to look for: moving (in the order of `table`) and constant; table (n, moving, K), inf where unused."""

    moving: tuple[str, ...]
    constant: tuple[str, ...]
    thresholds: Mapping[str, F64]
    table: F64


def armed(compiled: Compiled, thresholds: Mapping[str, ArrayLike], n: int) -> Armed:
    """Checked thresholds {event: (n, K) or (n,)}; of first and terminal events only the first one counts."""
    kept: dict[str, F64] = {}
    for name, given in thresholds.items():
        if name not in compiled.kinds:
            remedy = nearest(name, list(compiled.kinds))
            raise InputError("no such event with a hazard", field="thresholds", value=name, remedy=remedy)
        array = np.asarray(given, np.float64)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or len(array) != n or not (array >= 0.0).all() or (np.diff(array, axis=1) < 0.0).any():
            raise InputError(f"must be ({n}, K), >= 0 and ascending", field=f"thresholds.{name}", value=array.shape)
        kept[name] = array if compiled.kinds[name] == "recurrent" else array[:, :1]
    moving = tuple(name for name in kept if _moves(compiled, name))
    width = max((kept[name].shape[1] for name in moving), default=0)
    table = np.full((n, len(moving), width), np.inf)
    for h, name in enumerate(moving):
        table[:, h, : kept[name].shape[1]] = kept[name]
    constant = tuple(name for name in kept if name not in moving)
    return Armed(moving=moving, constant=constant, thresholds=kept, table=table)


def _moves(compiled: Compiled, event: str) -> bool:
    dynamics = compiled.dynamics
    return bool(names(inlined(dynamics.risks[event], dynamics.assigned)) & {*dynamics.states, TIME})


def of_constant(rates: F64, changes: Changes, span: tuple[F64, F64], thresholds: F64) -> F64:
    """Crossing times (n, K) of hazards that are constant between changes; inf where none comes before the end.

    rates (n + m,): hazard [1/h] at the start, then after each change; span: start and end of each subject [h].

    >>> of_constant(np.array([0.5]), Changes.none(1, 0), (np.zeros(1), np.ones(1) * 9), np.array([[1.0, 5.0]]))
    array([[ 2., inf]])
    """
    n = len(changes)
    start, end = span
    counts = np.diff(changes.offsets)
    found = np.full(thresholds.shape, np.inf)
    since, total, rate = start.copy(), np.zeros(n), rates[:n]
    for k in range(int(counts.max(initial=0)) + 1):
        row = np.minimum(changes.offsets[:-1] + k, max(len(changes.time) - 1, 0))
        more = k < counts
        until = np.where(more, np.maximum(changes.time[row], since), end) if len(changes.time) else end
        with np.errstate(divide="ignore", invalid="ignore"):
            at = since[:, None] + (thresholds - total[:, None]) / rate[:, None]
        here = (thresholds > total[:, None]) & (at <= np.minimum(until, end)[:, None]) & (rate > 0.0)[:, None]
        found = np.where(here & np.isinf(found), at, found)
        total = total + rate * np.maximum(until - since, 0.0)
        rate = np.where(more, rates[n + row], rate) if len(changes.time) else rate
        since = until
    return found


def falls(summed: F64) -> NDArray[np.bool_]:
    """Whether a cumulative hazard (n, H, T) at ascending times ever falls, (n,): a hazard was below 0.

    >>> falls(np.array([[[0.0, 0.3, 0.2]], [[0.1, 0.1, np.nan]]])).tolist()
    [True, False]
    """
    most = np.fmax.accumulate(np.concatenate([np.zeros((*summed.shape[:2], 1)), summed], axis=2), axis=2)[:, :, 1:]
    with np.errstate(invalid="ignore"):
        return np.asarray((summed < most - _FALL * (1.0 + most)).any(axis=(1, 2)))


def below_zero(rates: F64, changes: Changes) -> NDArray[np.bool_]:
    """Whether a constant hazard is below 0 at the start or after any change, (n,); rates (n + m,)."""
    n = len(changes)
    found = rates[:n] < 0.0
    np.logical_or.at(found, np.repeat(np.arange(n), np.diff(changes.offsets)), rates[n:] < 0.0)
    return np.asarray(found)


def constant_rates(compiled: Compiled, event: str, rows: F64) -> F64:
    """Hazard of an event under each row of parameters."""
    dynamics = compiled.dynamics
    values = {name: rows[:, k] for k, name in enumerate(dynamics.parameters)}
    found = evaluate(inlined(dynamics.risks[event], dynamics.assigned), values)
    return np.array(np.broadcast_to(found, (len(rows),)), np.float64)


def cut(compiled: Compiled, crossings: dict[str, F64]) -> tuple[dict[str, F64], F64]:
    """Crossings without those after a terminal event, and the time of the first terminal event of each subject (n,)."""
    n = len(next(iter(crossings.values())))
    end = np.full(n, np.inf)
    for name, found in crossings.items():
        if compiled.kinds[name] == "terminal":
            end = np.fmin(end, found[:, 0])
    return {name: np.where(found > end[:, None], np.inf, found) for name, found in crossings.items()}, end


def occurring(
    solve: Callable[[Mapping[str, F64]], Solution], draw: Callable[[str, int], F64], kinds: Mapping[str, str]
) -> Solution:
    """A solution in which no recurrent event has run out of thresholds: their number is doubled until it is enough.

    draw(event, K) -> (n, K) thresholds; those of a longer draw begin with those of a shorter one. Moves between grades
    (EVENT.FROM>TO) have many points, also those that are passed over: they begin with more.
    Errors: InputError for a hazard that gives more than 65,536 events in a subject.
    """
    count = {name: (16 if ">" in name else 4) if kind == "recurrent" else 1 for name, kind in kinds.items()}
    while True:
        found = solve({name: draw(name, size) for name, size in count.items()})
        short = [n for n, k in kinds.items() if k == "recurrent" and np.isfinite(found.crossings[n][:, -1]).any()]
        if not short:
            return found
        for name in short:
            count[name] *= 2
            if count[name] > MAX_OCCURRENCES:
                raise InputError("the hazard gives more than 65536 events in a subject", field=f"events.{name}")
