"""Linear models: outputs and windows of a chunk of subjects in closed form, whatever the number of compartments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import ADD, MULTIPLY, RATE, REPLACE, STEADY, SUPERPOSE, Actions
from pkpd.engine.block import LinearBlock, Matrices
from pkpd.engine.dynamics import TIME
from pkpd.engine.paths import actions_in, lost_parameters, named
from pkpd.engine.request import STATISTICS, Request, Result
from pkpd.engine.status import SolveStatus, Way
from pkpd.engine.structure import inlined
from pkpd.model.equations import evaluate

__all__ = ["block_values", "block_windows", "linear_chunk"]

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
    values = block_values if direct else _bent_values
    lost = values(request, result, slice(lo, hi), matrices, actions=actions)
    groups = range(len(request.windows.of))
    doubtful = block_windows(request, result, slice(lo, hi), matrices, actions=actions, groups=groups)
    settled = np.isin(actions.kind, (STEADY, SUPERPOSE))
    owner = np.repeat(np.arange(hi - lo), np.diff(actions.offsets))
    unsteady = np.bincount(owner[settled], minlength=hi - lo) > 0
    result.status[lo:hi][lost] = np.where(unsteady[lost], SolveStatus.NOT_STEADY, SolveStatus.NOT_FINITE)
    lost_parameters(request, result, lo, hi)
    result.way[lo:hi] = Way.LINEAR
    again: Flags = doubtful & (result.status[lo:hi] == SolveStatus.OK)
    return again


def _own_actions(block: LinearBlock, actions: Actions, states: int) -> tuple[NDArray[Any], ...]:
    """Kinds, targets in the order of the block, amounts, and steady regimens (m, 4), as the block sees them.

    What goes into a state outside is nothing to the block, but its time stands; a steady state of such a dose is the
    block's own without doses.
    """
    place = np.full(states, -1, np.int32)
    place[list(block.states)] = np.arange(len(block.states), dtype=np.int32)
    target = place[actions.target]
    outside = target < 0
    outside[outside] = np.isin(actions.kind[outside], (ADD, RATE, REPLACE, MULTIPLY))
    steady = actions.steady.copy()
    steady[place[actions.steady_target] < 0, 0] = 0.0
    return (
        np.where(outside, np.int8(ADD), actions.kind), np.maximum(target, 0),
        np.where(outside, 0.0, actions.amount), steady,
    )  # fmt: skip


def _arguments(request: Request, part: slice, matrices: Matrices, rows: slice, *, actions: Actions) -> tuple[Any, ...]:
    block = request.compiled.block
    if block is None:
        raise TypeError("no linear block")
    kind, target, amount, steady = _own_actions(block, actions, len(request.compiled.dynamics.states))
    return (
        matrices.A, matrices.b, matrices.y0, np.ascontiguousarray(matrices.weights[:, rows]),
        np.ascontiguousarray(matrices.constant[:, rows]), np.asarray(block.starts), np.asarray(block.parent),
        actions.offsets, actions.time, kind, target, amount, steady, request.start[part],
    )  # fmt: skip


def block_values(request: Request, result: Result, part: slice, matrices: Matrices, *, actions: Actions) -> Flags:
    """Fill the outputs that are of the linear block alone; which subjects have a value that is not finite."""
    block = request.compiled.block
    if block is None:
        raise TypeError("no linear block")
    columns = np.asarray(block.outputs, np.int64)
    return _filled(request, part, matrices, actions, out=result.values[part], columns=columns)


def _filled(
    request: Request, part: slice, matrices: Matrices, actions: Actions, *, out: F64, columns: NDArray[np.int64]
) -> Flags:
    from pkpd.kernels.compartments import linear_outputs

    block, lost = request.compiled.block, np.zeros(len(out), np.bool_)
    exact = request.path == "exact" or not (block and block.modal)
    fill: Callable[..., int] = linear_outputs
    arguments = _arguments(request, part, matrices, slice(None), actions=actions)
    fill(*arguments, request.sampled(part.start, part.stop), request.after, exact, columns, out, lost)
    return lost


def _bent_values(request: Request, result: Result, part: slice, matrices: Matrices, *, actions: Actions) -> Flags:
    """The same where there are outputs that are not affine: these from the states."""
    size = matrices.constant.shape[1]
    out = np.empty((part.stop - part.start, size, request.times.shape[1]))
    lost = _filled(request, part, matrices, actions, out=out, columns=np.arange(size))
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


def block_windows(
    request: Request, result: Result, part: slice, matrices: Matrices, *, actions: Actions, groups: Sequence[int]
) -> Flags:
    """Fill these groups of windows; which subjects' modes are not to be trusted for them."""
    from pkpd.kernels.linear_windows import linear_windows

    block, windows = request.compiled.block, request.windows
    fill: Callable[..., None] = linear_windows
    if block is None:
        raise TypeError("no linear block")
    if not groups:
        return np.zeros(part.stop - part.start, np.bool_)
    every = len(groups) == len(windows.of)
    chosen = slice(None) if every else np.asarray(groups)
    left, right = (np.ascontiguousarray(side[part, chosen]) for side in (windows.lo, windows.hi))
    rows = np.asarray([block.outputs.index(request.compiled.outputs.index(windows.of[g])) for g in groups], np.int64)
    out, good = np.empty((*left.shape, len(STATISTICS))), np.zeros(len(left), np.bool_)
    arguments = _arguments(request, part, matrices, slice(None), actions=actions)
    fill(*arguments, rows, left, right, windows.level[chosen], out, good)
    result.stats[part, chosen] = out
    return ~good
