"""`solve`: one verb for the closed form and the generated ODE solver, any number of subjects, identical bits."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.actions import owned, start_times
from pkpd.engine.algebraic import seen_by_steps
from pkpd.engine.build import Compiled, integrating
from pkpd.engine.changes import Changes
from pkpd.engine.hazards import Armed, armed, below_zero, constant_rates, cut, falls, of_constant
from pkpd.engine.past import with_past
from pkpd.engine.request import Path, Request, Result, windows_of
from pkpd.engine.routes import Chunk, chosen
from pkpd.engine.status import SolveStatus, Way
from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events

__all__ = ["CHUNK", "Solution", "SolveStatus", "Way", "solve"]

CHUNK = 4096
F64 = NDArray[np.float64]
WindowTable = Mapping[str, tuple[ArrayLike, ArrayLike]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """values (n, output, T) in the order of `Compiled.outputs`; summaries {name: (n, K)}; status (n,) int8.

    crossings {event: (n, K)}: times [h] of events by hazard, inf where none comes by the last time asked; ended (n,):
    time of the first terminal event, inf without: samples and windows that end after it are NaN.
    way (n,): how each subject was solved, as `Way`. A subject whose status is not OK has NaN everywhere.
    """

    values: F64
    summaries: dict[str, F64]
    status: NDArray[np.int8]
    crossings: dict[str, F64] = field(default_factory=dict)
    ended: F64 = field(default_factory=lambda: np.empty(0))
    way: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))

    def failures(self) -> dict[SolveStatus, int]:
        """How many subjects ended with each status other than OK."""
        codes, counts = np.unique(self.status, return_counts=True)
        return {SolveStatus(int(c)): int(k) for c, k in zip(codes, counts, strict=True) if c != 0}

    def ways(self) -> dict[Way, int]:
        """How many subjects were solved in each way."""
        codes, counts = np.unique(self.way, return_counts=True)
        return {Way(int(c)): int(k) for c, k in zip(codes, counts, strict=True)}


def solve(
    compiled: Compiled,
    parameters: F64,
    events: Events,
    times: ArrayLike,
    *,
    covariates: Mapping[str, ArrayLike] | None = None,
    changes: Changes | None = None,
    thresholds: Mapping[str, ArrayLike] | None = None,
    windows: WindowTable | None = None,
    after: bool = False,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_steps: int = 100_000,
    path: Path = "auto",
    threads: int = 1,
) -> Solution:
    """Outputs and summaries of n subjects.

    parameters (n, P) in the order of the model; events of n subjects; times (n, T) or (T,) [h], NaN where nothing is
    asked. covariates {name: (n,)}: of `compiled.inputs`. changes: rows of parameters and inputs that replace those of a
    subject in the course of time (covariates that vary). thresholds {event: (n, K)}: cumulative hazards at which events
    come, ascending. Summaries of the model are computed at every time over [time - window, time] cut at the subject's
    start; `windows={name: (start, end)}` (each (n, K) or (K,)) asks for these instead. A sample or window end at the
    time of a dose comes before the dose; samples come after it with `after`. rtol, atol: tolerances per step of the ODE
    path (RMS over states). max_steps: attempted steps of a subject, as many again for every hundred of its actions
    (doses, ends of infusions, changes, stops). threads: fixed chunks of 4,096 subjects on a thread pool; the bits are
    those of one thread.
    Errors: InputError for shapes that do not fit or a path the model does not have.
    """
    values = _with_inputs(_parameters(parameters, compiled), compiled, covariates or {})
    if len(events) != len(values):
        raise InputError(f"events of {len(events)} subjects for {len(values)} rows of parameters", field="events")
    _tolerances(rtol, atol, max_steps)
    asked = _times(times, len(values))
    rising = _ascending(asked[:1] if np.ndim(times) == 1 else asked)
    order = None if rising else np.argsort(asked, axis=1, kind="stable")
    start = start_times(events)
    hazards = armed(compiled, thresholds or {}, len(values))
    compiled, values, moving = with_past(compiled, values, events, _changes(changes, values))
    request = Request(
        compiled=seen_by_steps(integrating(compiled, hazards.moving) if hazards.moving else compiled),
        parameters=values,
        events=events,
        changes=moving,
        start=start,
        times=asked if order is None else np.take_along_axis(asked, order, axis=1),
        windows=windows_of(compiled, asked, start, windows),
        after=after,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        path=path,
        tile=None if np.ndim(times) != 1 or order is not None else np.array(asked[:CHUNK], order="C"),
        thresholds=hazards.table,
    )
    result = _run(chosen(request), request, threads)
    found = _solution(request, result, order, len(compiled.outputs))
    return _with_events(found, request, result, hazards, asked=asked) if thresholds else found


def _with_events(found: Solution, request: Request, result: Result, hazards: Armed, *, asked: F64) -> Solution:
    """The times of events, and nothing after a terminal one."""
    crossings = {name: result.crossings[:, h, : hazards.thresholds[name].shape[1]].copy()
                 for h, name in enumerate(hazards.moving)}  # fmt: skip
    wrong = falls(result.values[:, found.values.shape[1] :])
    rows = np.concatenate([request.parameters, request.changes.parameters])
    tops = np.concatenate([asked, request.windows.hi.reshape(len(asked), -1)], axis=1)
    span = request.start, np.fmax.reduce(tops, axis=1, initial=-np.inf)
    for name in hazards.constant:
        rates = constant_rates(request.compiled, name, rows)
        crossings[name] = of_constant(rates, request.changes, span, hazards.thresholds[name])
        wrong |= below_zero(rates, request.changes)
    _fail(found, wrong & (found.status == 0))
    for times in crossings.values():
        times[found.status != 0] = np.nan
    kept, ended = cut(request.compiled, {name: crossings[name] for name in hazards.thresholds})
    found.values[np.broadcast_to((asked > ended[:, None])[:, None, :], found.values.shape)] = np.nan
    ends = request.windows.ends()
    for name, values in found.summaries.items():
        values[ends[name] > ended[:, None]] = np.nan
    return replace(found, crossings=kept, ended=ended)


def _fail(found: Solution, rows: NDArray[np.bool_]) -> None:
    """Subjects with a negative hazard have no events at all."""
    found.status[rows] = SolveStatus.NEGATIVE_HAZARD
    found.values[rows] = np.nan
    for values in found.summaries.values():
        values[rows] = np.nan


def _run(chunk: Chunk, request: Request, threads: int) -> Result:
    n = len(request.parameters)
    result = Result.empty(request)
    pieces = [(lo, min(lo + CHUNK, n)) for lo in range(0, n, CHUNK)]
    if threads <= 1 or len(pieces) <= 1:
        for lo, hi in pieces:
            chunk(request, result, lo, hi)
        return result
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda piece: chunk(request, result, *piece), pieces))
    return result


def _solution(request: Request, result: Result, order: NDArray[np.intp] | None, outputs: int) -> Solution:
    failed = result.status != 0
    result.values[failed] = np.nan
    result.stats[failed] = np.nan
    values = result.values[:, :outputs]
    if order is not None:
        back = np.argsort(order, axis=1, kind="stable")
        values = np.take_along_axis(values, back[:, None, :], axis=2)
    return Solution(values=values, summaries=request.windows.summaries(result.stats), status=result.status,
                    way=result.way)  # fmt: skip


def _parameters(parameters: Any, compiled: Compiled) -> F64:
    values: F64 = owned(parameters, np.float64)
    wanted = len(compiled.parameters)
    if values.ndim != 2 or values.shape[1] != wanted:
        raise InputError(f"must have shape (subjects, {wanted})", field="parameters", value=values.shape)
    return values


def _with_inputs(parameters: F64, compiled: Compiled, covariates: Mapping[str, ArrayLike]) -> F64:
    """Parameters followed by the covariates the integration uses."""
    if not compiled.inputs:
        return parameters
    columns = []
    for name in compiled.inputs:
        if (found := _input(name, covariates)) is None:
            raise InputError("the model's equations need it", field="covariates", value=name, remedy=f"give {name}")
        columns.append(np.broadcast_to(np.asarray(found, np.float64), (len(parameters),)))
    whole: F64 = owned(np.column_stack([parameters, *columns]), np.float64)
    return whole


def _input(name: str, covariates: Mapping[str, ArrayLike]) -> ArrayLike | None:
    """A covariate that may be linear in time but is given as a constant has no slope."""
    plain, _, part = name.partition(".")
    if name in covariates or not part:
        return covariates.get(name)
    return covariates.get(plain) if part == "value" else 0.0


def _changes(changes: Changes | None, parameters: F64) -> Changes:
    n, size = parameters.shape
    return Changes.none(n, size) if changes is None else changes.checked(n, size)


def _times(times: ArrayLike, n: int) -> F64:
    array = np.asarray(times, dtype=np.float64)
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] != n):
        raise InputError(f"must have shape (times,) or ({n}, times)", field="times", value=array.shape)
    if np.isinf(array).any():
        raise InputError("must be finite (or NaN for nothing asked)", field="times")
    return np.broadcast_to(array, (n, array.shape[-1]))  # the chunks make kernels' own arrays of it


def _ascending(times: F64) -> bool:
    return bool(((times[:, 1:] >= times[:, :-1]) | np.isnan(times[:, 1:])).all())


def _tolerances(rtol: float, atol: float, max_steps: int) -> None:
    for name, value, least in (("rtol", rtol, 1e-14), ("atol", atol, 0.0), ("max_steps", max_steps, 1)):
        if not value >= least or not np.isfinite(value):
            raise InputError(f"must be finite and >= {least:g}", field=name, value=value)
