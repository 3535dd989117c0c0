"""`summarise`: any number of subjects through `solve` in chunks, reduced as they come; no array of curves is ever held.

Memory does not grow with the number of subjects but for their endpoints (8 bytes each, or a Parquet file). The result
is the same, bit for bit, for any chunk size, thread count and order: counts are integers, extremes and endpoints are
exact, parameters come by address.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import batched
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine import endpoints as ends
from pkpd.engine.build import Compiled, of_dynamics
from pkpd.engine.endpoints import Endpoint
from pkpd.engine.request import Path as SolvePath
from pkpd.engine.solve import CHUNK, Solution, solve
from pkpd.engine.sources import Given, Source
from pkpd.engine.status import SolveStatus
from pkpd.engine.summary import Curves, EndpointDigest, Grid, Summary
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.regimen import Events, Schedule

__all__ = ["PILOT", "Endpoint", "Settings", "summarise"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Doses = Schedule | Events
PILOT = 1024
"""Subjects, the first of the source, whose values choose the bins where none are declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the subjects are solved; see `solve`. chunk: subjects at a time (the result does not depend on it)."""

    after: bool = False
    rtol: float = 1e-6
    atol: float = 1e-8
    max_steps: int = 100_000
    path: SolvePath = "auto"
    threads: int = 1
    chunk: int = CHUNK


def summarise(
    compiled: Compiled,
    source: Source | F64,
    events: Doses | Mapping[str, Doses],
    times: ArrayLike,
    *,
    outputs: Mapping[str, str] | Sequence[str] | None = None,
    grid: Grid | None = None,
    bins: int = 4096,
    endpoints: Sequence[Endpoint] = (),
    keep: ArrayLike = (),
    spill: Path | None = None,
    settings: Settings = Settings(),
) -> Summary:
    """Distribution of outputs at `times` (T,) [h], endpoints of every subject, curves of the addresses in `keep`.

    source: parameters (n, P), or a `Source` such as `Drawn`; events: doses shared by all (`Schedule`), of each subject
    (`Events`), or {group: doses}: every subject is then solved in every group. outputs: names of states or equations,
    or {label: name}. grid: declared bins, else `Grid.pilot` of the first 1,024 subjects in all groups, with `bins`
    bins. spill: endpoints go to this Parquet file instead of memory. Errors: InputError for what does not fit together.

    >>> from pkpd.model.library import load
    >>> from pkpd.engine.build import compiled
    >>> from pkpd.engine.sources import Drawn
    >>> from pkpd.ground.units import Quantity
    >>> from pkpd.model.regimen import Dose, Regimen
    >>> model = load("theophylline")
    >>> doses = Regimen((Dose(amount=Quantity(300, "mg"), into="depot"),)).schedule(model.states)
    >>> cmax = Endpoint(name="CMAX", of="C", kind="maximum", end=24.0)
    >>> people = Drawn(model=model, subjects=range(100), seed=1)
    >>> found = summarise(compiled(model), people, doses, [1.0, 2.0, 4.0], endpoints=[cmax])
    >>> found.percentiles([5, 50, 95]).value.shape, found.endpoint("CMAX").shape
    ((3, 1, 1, 3), (100,))
    """
    job = _job(
        compiled,
        source,
        events,
        np.asarray(times, np.float64),
        outputs=outputs,
        endpoints=tuple(endpoints),
        settings=settings,
    )
    kept = np.unique(np.asarray(keep, np.int64))
    grid = job.pilot(bins) if grid is None else grid
    if grid.low.shape != (len(job.outputs), len(job.times)):
        raise InputError("the grid is of other outputs or times", field="grid", value=grid.low.shape)
    tallies = [_Tally.empty(job, grid) for _ in range(max(1, settings.threads))]
    with _Rows(job, spill) as rows:
        curves = [piece.curves for piece in _pieces(job, kept, tallies, rows)]
    return _summary(job, grid, tallies, rows, curves=curves)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A stream, checked. compiled: solves the wanted outputs (labels in `outputs`) and the endpoints' statistics."""

    compiled: Compiled
    source: Source
    doses: dict[str, Doses]
    times: F64
    outputs: tuple[str, ...]
    columns: tuple[int, ...]
    endpoints: tuple[Endpoint, ...]
    settings: Settings

    def solved(self, parameters: F64, doses: Doses, lo: int) -> Solution:
        """Subjects from `lo` on, in one group."""
        n, s = len(parameters), self.settings
        events = doses.subjects(np.arange(lo, lo + n)) if isinstance(doses, Events) else Events.shared(doses, n)
        windows = ends.windows(self.endpoints)
        return solve(
            self.compiled, parameters, events, self.times, windows=windows, after=s.after, rtol=s.rtol, atol=s.atol,
            max_steps=s.max_steps, path=s.path,
        )  # fmt: skip

    def values(self, solution: Solution) -> F64:
        """Wanted outputs (n, output, T)."""
        plain = self.columns == tuple(range(solution.values.shape[1]))
        return solution.values if plain else np.ascontiguousarray(solution.values[:, self.columns])

    def pilot(self, bins: int) -> Grid:
        """The grid that the first subjects choose."""
        parameters = self.source.parameters(0, min(PILOT, len(self.source)))
        found = [self.values(self.solved(parameters, doses, 0)) for doses in self.doses.values()]
        return Grid.pilot(np.concatenate(found), bins)

    def rows(self, solution: Solution, values: F64) -> F64:
        """Endpoints (n, endpoint)."""
        columns = (
            ends.values(e, solution.summaries, values, self.outputs.index(e.of), times=self.times)
            for e in self.endpoints
        )
        return np.stack([*columns], axis=1) if self.endpoints else np.empty((len(values), 0))


def _job(
    compiled: Compiled, source: Source | F64, events: Doses | Mapping[str, Doses], times: F64, *, outputs: Any,
    endpoints: tuple[Endpoint, ...], settings: Settings,
) -> _Job:  # fmt: skip
    source = Given(values=source) if isinstance(source, np.ndarray) else source
    doses = dict(events) if isinstance(events, Mapping) else {"": events}
    wanted = _wanted(compiled, outputs)
    if not len(source) or not doses:
        raise InputError("needs at least one subject and one group", field="source")
    for name, given in doses.items():
        if isinstance(given, Events) and len(given) != len(source):
            raise InputError(f"events of {len(given)} subjects for {len(source)}", field=f"events.{name}")
    if times.ndim != 1 or not times.size or not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise InputError("must be finite and ascend", field="times")
    if settings.chunk < 1:
        raise InputError("must be at least 1", field="chunk", value=settings.chunk)
    _check(endpoints, wanted)
    made = _asked(compiled, wanted, endpoints)
    columns = tuple(made.outputs.index(name) for name in wanted.values())
    return _Job(
        compiled=made, source=source, doses=doses, times=times, outputs=tuple(wanted), columns=columns,
        endpoints=endpoints, settings=settings,
    )  # fmt: skip


def _wanted(compiled: Compiled, outputs: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Label -> state or equation."""
    if outputs is None:
        return {name: name for name in compiled.outputs}
    wanted = dict(outputs) if isinstance(outputs, Mapping) else {name: name for name in outputs}
    known = [*compiled.dynamics.states, *compiled.dynamics.assigned]
    for label, name in wanted.items():
        if name not in known:
            remedy = nearest(name, known)
            raise InputError("no such state or equation", field=f"outputs.{label}", value=name, remedy=remedy)
    if not wanted:
        raise InputError("names nothing", field="outputs")
    return wanted


def _check(endpoints: Sequence[Endpoint], wanted: Mapping[str, str]) -> None:
    names = [e.name for e in endpoints]
    for e in endpoints:
        if e.of not in wanted:
            raise InputError("no such output", field=e.name, value=e.of, remedy=nearest(e.of, wanted))
        if names.count(e.name) > 1:
            raise InputError("two endpoints have this name", field="endpoints", value=e.name)


def _asked(compiled: Compiled, wanted: Mapping[str, str], endpoints: Sequence[Endpoint]) -> Compiled:
    """A solver of the wanted outputs and statistics, and of no others."""
    names = tuple(dict.fromkeys(wanted.values()))
    statistics = ends.statistics(endpoints, wanted)
    if names == compiled.outputs and statistics == compiled.summaries:
        return compiled
    return of_dynamics(replace(compiled.dynamics, outputs=names, summaries=statistics))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tally:
    """Counts, extremes and statuses that one thread adds to."""

    grid: Grid
    low: F64
    per: F64
    counts: I64
    least: F64
    most: F64
    failed: I64

    @classmethod
    def empty(cls, job: _Job, grid: Grid) -> _Tally:
        low, per = grid.scaled()
        shape = (len(job.doses), len(job.outputs), len(job.times))
        return cls(
            grid=grid, low=np.ascontiguousarray(low), per=np.ascontiguousarray(per),
            counts=np.zeros((*shape, grid.bins + 3), np.int64), least=np.full(shape, np.inf),
            most=np.full(shape, -np.inf), failed=np.zeros((len(job.doses), len(SolveStatus)), np.int64),
        )  # fmt: skip

    def add(self, group: int, values: F64, status: NDArray[np.int8]) -> None:
        from pkpd.kernels.histogram import tally

        fill: Callable[..., None] = tally
        at = self.counts[group], self.least[group], self.most[group]
        fill(values, status == 0, np.ascontiguousarray(self.grid.logarithmic), self.low, self.per, *at)
        self.failed[group] += np.bincount(status, minlength=len(SolveStatus))

    def joined(self, other: _Tally) -> _Tally:
        """Both together; exact, so in any order."""
        return replace(
            self, counts=self.counts + other.counts, failed=self.failed + other.failed,
            least=np.minimum(self.least, other.least), most=np.maximum(self.most, other.most),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A chunk, reduced: addresses (n,), endpoints (n, group, endpoint), curves kept (who, (k, group, output, T))."""

    subject: I64
    rows: F64
    curves: tuple[I64, F64]


def _reduced(job: _Job, kept: I64, tally: _Tally, bound: tuple[int, int]) -> _Piece:
    lo, hi = bound
    subject, parameters = job.source.addresses(lo, hi), job.source.parameters(lo, hi)
    shown = np.flatnonzero(np.isin(subject, kept)) if kept.size else np.empty(0, np.int64)
    rows = np.empty((len(subject), len(job.doses), len(job.endpoints)))
    curves = np.empty((len(shown), len(job.doses), len(job.outputs), len(job.times)))
    for g, doses in enumerate(job.doses.values()):
        solution = job.solved(parameters, doses, lo)
        values = job.values(solution)
        tally.add(g, values, solution.status)
        rows[:, g], curves[:, g] = job.rows(solution, values), values[shown]
    return _Piece(subject=subject, rows=rows, curves=(subject[shown], curves))


def _pieces(job: _Job, kept: I64, tallies: list[_Tally], rows: _Rows) -> Iterator[_Piece]:
    """Every chunk, reduced, in order; as many at work as there are tallies."""
    size, n = job.settings.chunk, len(job.source)
    bounds = [(lo, min(lo + size, n)) for lo in range(0, n, size)]
    free: SimpleQueue[_Tally] = SimpleQueue()
    for tally in tallies:
        free.put(tally)

    def work(bound: tuple[int, int]) -> _Piece:
        tally = free.get()
        try:
            return _reduced(job, kept, tally, bound)
        finally:
            free.put(tally)

    with ThreadPoolExecutor(len(tallies)) as pool:
        for wave in batched(bounds, 8 * len(tallies)):
            for piece in pool.map(work, wave) if len(tallies) > 1 else map(work, wave):
                rows.add(piece)
                yield piece


@dataclass(slots=True)
class _Rows:
    """Endpoints as they come, in order: an array, or row groups of a Parquet file."""

    job: _Job
    spill: Path | None
    subject: I64 = field(init=False)
    values: F64 = field(init=False)
    digest: EndpointDigest = field(default_factory=EndpointDigest)
    at: int = 0
    writer: Any = None

    def __enter__(self) -> _Rows:
        n = 0 if self.spill is not None else len(self.job.source)
        self.subject = np.empty(n, np.int64)
        self.values = np.empty((n, len(self.job.doses), len(self.job.endpoints)))
        return self

    def add(self, piece: _Piece) -> None:
        """The next chunk."""
        self.digest.add(piece.subject, piece.rows)
        if self.spill is not None:
            self._write(piece)
            return
        part = slice(self.at, self.at + len(piece.subject))
        self.subject[part], self.values[part], self.at = piece.subject, piece.rows, part.stop

    def _write(self, piece: _Piece) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        groups, names = list(self.job.doses), [e.name for e in self.job.endpoints]
        cells = [(f"{n}@{g}" if g else n, j, k) for j, g in enumerate(groups) for k, n in enumerate(names)]
        columns = {label: piece.rows[:, j, k] for label, j, k in cells}
        table = pa.table({"subject": piece.subject, **columns})
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.spill, table.schema)
        self.writer.write_table(table)

    def __exit__(self, *ended: object) -> None:
        if self.writer is not None:
            self.writer.close()
        if self.spill is not None and ended[0] is not None:
            self.spill.unlink(missing_ok=True)  # half a file of endpoints must not pass for the whole


def _summary(job: _Job, grid: Grid, tallies: list[_Tally], rows: _Rows, *, curves: list[tuple[I64, F64]]) -> Summary:
    who, what = (np.concatenate(parts) for parts in zip(*curves, strict=True))
    by_address, order = np.argsort(who, kind="stable"), np.argsort(rows.subject, kind="stable")
    memory, total = rows.spill is None, functools.reduce(_Tally.joined, tallies)
    return Summary(
        groups=tuple(job.doses), outputs=job.outputs, times=job.times, grid=grid,
        counts=total.counts, least=total.least, most=total.most, failed=total.failed,
        endpoint_names=tuple(e.name for e in job.endpoints), how=tuple(e.how for e in job.endpoints),
        subject=rows.subject[order] if memory else None, endpoints=rows.values[order] if memory else None,
        curves=Curves(subject=who[by_address], values=what[by_address]), endpoint_digest=rows.digest.value(),
        spilled=rows.spill,
    )  # fmt: skip
