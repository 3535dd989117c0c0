"""Which way each subject of a request is solved. It depends on the subject's own records and parameters alone.

    closed form of one compartment -> closed form of any linear model -> linear block by its modes, the rest in steps
    -> all in steps

A subject with records that a closed form does not know (compartments off and on; for the general form also changes of
parameters), or whose windows its modes cannot be trusted with, goes through the generated solver. The method of the
steps is the model's (`choice`); a subject that takes more than `PATIENCE` attempts of Tsit5 is solved by Rodas5P.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.algebraic import algebraic_chunk
from pkpd.engine.linear_path import linear_chunk
from pkpd.engine.paths import closed_chunk, ode_chunk
from pkpd.engine.request import Request, Result
from pkpd.engine.split_path import split_chunk
from pkpd.engine.status import SolveStatus, Way
from pkpd.ground.errors import InputError
from pkpd.model.regimen import EventKind

__all__ = ["PATHS", "Chunk", "chosen"]

Chunk = Callable[[Request, Result, int, int], None]
Flags = NDArray[np.bool_]
Fast = Callable[[Request, Result, int, int], Flags | None]

PATHS = ("auto", "closed", "exact", "ode", "rodas5p", "tsit5")
_TIGHT = 1e-10


def chosen(request: Request) -> Chunk:
    """The function that solves a chunk. Errors: InputError for a path the model does not have."""
    chunk = _chosen(request)
    return chunk if request.patient else _relieved(chunk)


def _relieved(chunk: Chunk) -> Chunk:
    """The same, and a subject for which Tsit5 ran out of patience is solved by Rodas5P."""

    def relieved(request: Request, result: Result, lo: int, hi: int) -> None:
        chunk(request, result, lo, hi)
        stuck = result.status[lo:hi] == SolveStatus.STEP_LIMIT
        stuck &= np.isin(result.way[lo:hi], (Way.TSIT5, Way.SPLIT_TSIT5))
        _elsewhere(replace(request, path="rodas5p"), result, lo + np.flatnonzero(stuck), ode_chunk)

    return relieved


def _chosen(request: Request) -> Chunk:
    path = request.path
    if path not in PATHS:
        raise InputError(f"must be one of {', '.join(PATHS)}", field="path", value=path)
    if not request.compiled.dynamics.states:
        return algebraic_chunk
    exact = path in ("auto", "closed", "exact") and not request.compiled.dynamics.hazards  # a crossing needs the steps
    fast = _form(request) if exact else None
    if fast is None and path in ("closed", "exact"):
        raise InputError("this model has no closed form for what is asked", field="path", value=path, remedy="use ode")
    if fast is None:
        if path != "auto" or not _splits(request):
            return ode_chunk
        fast = split_chunk
    apart = _apart(request, general=fast is not closed_chunk)
    if path != "auto" and apart.any():
        raise InputError("a subject has records no closed form knows", field="path", value=path, remedy="use auto")
    return _routed(fast, apart)


def _form(request: Request) -> Fast | None:
    form, block = request.compiled.form, request.compiled.block
    wanted = request.windows.of
    if form is not None and request.path != "exact" and all(of in form.scale for of in wanted):
        return closed_chunk
    if block is None or not block.whole or not (block.modal or request.path != "auto"):
        return None
    known = {request.compiled.outputs[k] for k in block.outputs}
    return linear_chunk if all(of in known for of in wanted) and (block.modal or not wanted) else None


def _splits(request: Request) -> bool:
    """Whether the linear block may be carried by its modes: not where a window is of an output that bends its states.

    Steps that no longer follow the block are too wide for the quadrature of such a window.
    """
    block, outputs = request.compiled.block, request.compiled.outputs
    if block is None or block.whole or not block.modal or not request.compiled.chosen.split:
        return False
    return not any(outputs.index(of) in block.fed for of in request.windows.of)


def _apart(request: Request, *, general: bool) -> Flags:
    """(n,) subjects whose records the closed form does not know."""
    events, n = request.events, len(request.parameters)
    owner = np.repeat(np.arange(n), np.diff(events.offsets))
    switched = np.isin(events.kind, (EventKind.OFF, EventKind.ON))
    found: Flags = np.bincount(owner[switched], minlength=n) > 0
    if general and (events.steady > 0).any() and request.compiled.gathers:
        found |= np.bincount(owner[events.steady > 0], minlength=n) > 0
    return found | (np.diff(request.changes.offsets) > 0) if general else found


def _routed(fast: Fast, apart: Flags) -> Chunk:
    def chunk(request: Request, result: Result, lo: int, hi: int) -> None:
        away = np.flatnonzero(apart[lo:hi])
        if not len(away):
            doubtful = fast(request, result, lo, hi)
            if doubtful is not None and doubtful.any():
                again = request if fast is split_chunk else request.tightened(_TIGHT)
                _elsewhere(again, result, lo + np.flatnonzero(doubtful), ode_chunk)
            return
        _elsewhere(request, result, lo + away, ode_chunk)
        rest = np.flatnonzero(~apart[lo:hi])
        _elsewhere(request, result, lo + rest, _routed(fast, np.zeros(len(rest), np.bool_)))

    return chunk


def _elsewhere(request: Request, result: Result, rows: NDArray[np.intp], solver: Chunk) -> None:
    """Some subjects of a request solved apart."""
    if len(rows):
        part = request.taken(rows)
        found = Result.empty(part)
        solver(part, found, 0, len(rows))
        result.values[rows], result.stats[rows], result.status[rows] = found.values, found.stats, found.status
        result.crossings[rows], result.way[rows] = found.crossings, found.way
