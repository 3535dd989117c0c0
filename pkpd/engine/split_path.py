"""Models with a linear block: the block by its modes inside the generated solver, its own outputs in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.block import LinearBlock
from pkpd.engine.linear_path import block_values, block_windows
from pkpd.engine.paths import actions_in, lost_parameters, needs_of
from pkpd.engine.request import STATISTICS, Request, Result, Windows
from pkpd.engine.status import SolveStatus, Way

__all__ = ["extended", "split_chunk"]

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


def extended(block: LinearBlock, parameters: F64) -> tuple[F64, Flags]:
    """Parameters (n, P) with the columns the generated text expects of the block; (n,) whether its modes are good."""
    from pkpd.kernels.compartments import block_modes

    matrices = block.matrices(parameters, states=False)
    n, m = matrices.b.shape
    rates, V, U, good = np.empty((n, m)), np.empty((n, m, m)), np.empty((n, m, m)), np.empty(n, np.bool_)
    fill: Callable[..., None] = block_modes
    fill(matrices.A, np.asarray(block.starts), np.asarray(block.parent), rates, V, U, good)
    lower = [V[:, i, j] for i, j in block.lower] + [U[:, i, j] for i, j in block.lower]
    columns = [*parameters.T, *rates.T, *lower, *(matrices.b[:, i] for i in block.driven)]
    whole: F64 = np.stack(columns, axis=1) if n else np.empty((0, len(columns)))
    return np.ascontiguousarray(whole), good


def split_chunk(request: Request, result: Result, lo: int, hi: int) -> Flags:
    """Subjects lo:hi; returns (hi - lo,): who must be solved in another way (rates that coincide)."""
    from pkpd.engine.load import solver

    compiled, part = request.compiled, slice(lo, hi)
    block = compiled.block
    if block is None:
        raise TypeError("no linear block")
    parameters, good = extended(block, request.parameters[part])
    actions = actions_in(request, lo, hi)
    own, rest = _windows(request, part, block)
    stats = np.full((*rest.lo.shape, len(STATISTICS)), np.nan)
    which = np.asarray([compiled.outputs.index(of) for of in rest.of], np.int64)
    method = compiled.chosen.method
    solver(compiled.text(method, split=True, needs=needs_of(actions, rest, block.states)))(
        parameters, actions.offsets, actions.time, actions.kind, actions.target, actions.amount, actions.steady,
        actions.steady_target, np.empty((0, parameters.shape[1])), request.start[part], request.sampled(lo, hi),
        request.after, which, rest.lo, rest.hi, rest.level, request.rtol, request.atol, request.patience(method),
        request.thresholds[part], result.crossings[part], result.values[part], stats, result.status[part],
    )  # fmt: skip
    result.stats[part][:, [k for k in range(len(request.windows.of)) if k not in own]] = stats
    if block.outputs:
        matrices = block.matrices(request.parameters[part], states=False)
        lost = block_values(request, result, part, matrices, actions=actions)
        result.status[part][lost & (result.status[part] == SolveStatus.OK)] = SolveStatus.NOT_FINITE
        good &= ~block_windows(request, result, part, matrices, actions=actions, groups=own)
    lost_parameters(request, result, lo, hi)
    result.way[part] = Way.SPLIT_TSIT5 if method == "tsit5" else Way.SPLIT_RODAS5P
    return ~good


def _windows(request: Request, part: slice, block: LinearBlock) -> tuple[list[int], Windows]:
    """Groups of windows on outputs of the block; the windows of the others, of these subjects."""
    windows, outputs = request.windows, request.compiled.outputs
    own = [g for g, of in enumerate(windows.of) if outputs.index(of) in block.outputs]
    rest = [g for g in range(len(windows.of)) if g not in own]
    lo, hi = (np.ascontiguousarray(side[part][:, rest]) for side in (windows.lo, windows.hi))
    return own, replace(windows, of=tuple(windows.of[g] for g in rest), lo=lo, hi=hi, level=windows.level[rest])
