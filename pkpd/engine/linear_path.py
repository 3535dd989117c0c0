"""Linear models: outputs and windows of a chunk of subjects in closed form, whatever the number of compartments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import STEADY, SUPERPOSE, Actions
from pkpd.engine.block import LinearBlock, Matrices
from pkpd.engine.dynamics import TIME
from pkpd.engine.paths import actions_in, lost_parameters, named
from pkpd.engine.request import Request, Result
from pkpd.engine.status import SolveStatus
from pkpd.engine.structure import inlined
from pkpd.model.equations import evaluate

__all__ = ["linear_chunk", "local_targets"]

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


def linear_chunk(request: Request, result: Result, lo: int, hi: int) -> Flags:
    """Subjects lo:hi of a wholly linear model; returns (hi - lo,): who must be solved in another way after all."""
    block = request.compiled.block
    if block is None or not block.whole:
        raise TypeError("not a linear model")
    actions = actions_in(request, lo, hi)
    direct = block.outputs == tuple(range(len(request.compiled.outputs)))
    matrices = block.matrices(request.parameters[lo:hi], states=not direct)
    lost = _values(request, result, slice(lo, hi), matrices, actions=actions)
    doubtful = _windows(request, result, slice(lo, hi), matrices, actions=actions)
    settled = np.isin(actions.kind, (STEADY, SUPERPOSE))
    owner = np.repeat(np.arange(hi - lo), np.diff(actions.offsets))
    unsteady = np.bincount(owner[settled], minlength=hi - lo) > 0
    result.status[lo:hi][lost] = np.where(unsteady[lost], SolveStatus.NOT_STEADY, SolveStatus.NOT_FINITE)
    lost_parameters(request, result, lo, hi)
    again: Flags = doubtful & (result.status[lo:hi] == SolveStatus.OK)
    return again


def local_targets(block: LinearBlock, actions: Actions, states: int) -> NDArray[np.int32]:
    """The actions' targets in the order of the block."""
    place = np.zeros(states, np.int32)
    place[list(block.states)] = np.arange(len(block.states))
    found: NDArray[np.int32] = place[actions.target]
    return found


def _arguments(request: Request, part: slice, matrices: Matrices, rows: slice, *, actions: Actions) -> tuple[Any, ...]:
    block = request.compiled.block
    if block is None:
        raise TypeError("no linear block")
    return (
        matrices.A, matrices.b, matrices.y0, np.ascontiguousarray(matrices.weights[:, rows]),
        np.ascontiguousarray(matrices.constant[:, rows]), np.asarray(block.starts), np.asarray(block.parent),
        actions.offsets, actions.time, actions.kind,
        local_targets(block, actions, len(request.compiled.dynamics.states)), actions.amount, actions.steady,
        request.start[part],
    )  # fmt: skip


def _values(request: Request, result: Result, part: slice, matrices: Matrices, *, actions: Actions) -> Flags:
    """Fill the outputs; which subjects have a value that is not a number."""
    from pkpd.kernels.compartments import linear_outputs

    block, times, size = request.compiled.block, request.times[part], matrices.constant.shape[1]
    direct = block is not None and size == len(block.outputs)
    out = result.values[part] if direct else np.empty((len(times), size, times.shape[1]))
    lost = np.zeros(len(times), np.bool_)
    fill: Callable[..., int] = linear_outputs
    arguments = _arguments(request, part, matrices, slice(None), actions=actions)
    exact = request.path == "exact" or not (block and block.modal)
    fill(*arguments, times, request.after, exact, out, lost)
    if not direct:
        _rest(request, result, part, out)
    return lost


def _rest(request: Request, result: Result, part: slice, out: F64) -> None:
    """Outputs that are not affine in the states, from the states."""
    dynamics, block = request.compiled.dynamics, request.compiled.block
    if block is None:
        raise TypeError("no linear block")
    q = len(block.outputs)
    known = {name: column[:, None] for name, column in named(dynamics, request.parameters[part]).items()}
    known |= {TIME: request.times[part]}
    known |= {dynamics.states[s]: out[:, q + k] for k, s in enumerate(block.states)}
    for k, expr in enumerate(dynamics.wanted().values()):
        if k in block.outputs:
            result.values[part, k] = out[:, block.outputs.index(k)]
        else:
            result.values[part, k] = evaluate(inlined(expr, dynamics.assigned), known)


def _windows(request: Request, result: Result, part: slice, matrices: Matrices, *, actions: Actions) -> Flags:
    """Fill the windows; which subjects' modes are not to be trusted for them."""
    from pkpd.kernels.linear_windows import linear_windows

    doubtful = np.zeros(part.stop - part.start, np.bool_)
    block = request.compiled.block
    fill: Callable[..., None] = linear_windows
    for g, of in enumerate(request.windows.of):
        if block is None:
            raise TypeError("no linear block")
        row = block.outputs.index(request.compiled.outputs.index(of))
        left, right = (np.ascontiguousarray(side[part, g]) for side in (request.windows.lo, request.windows.hi))
        out, good = np.empty((len(left), 3, left.shape[1])), np.zeros(len(left), np.bool_)
        fill(*_arguments(request, part, matrices, slice(row, row + 1), actions=actions), left, right, out, good)
        result.stats[part, g] = out
        doubtful |= ~good
    return doubtful
