"""What one call of `solve` asks and what comes back, as arrays.

Windows of summaries over the same output are grouped, so that each is done once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.arrays import owned
from pkpd.engine.build import Compiled
from pkpd.engine.changes import Changes
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.regimen import Events

__all__ = ["STATISTICS", "Path", "Request", "Result", "Windows", "windows_of"]

F64 = NDArray[np.float64]
Path = Literal["auto", "closed", "exact", "ode", "rodas5p", "tsit5"]
STATISTICS = ("average", "maximum", "minimum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Groups of windows over one output: of (G,), lo and hi (n, G, K) [h]; picks: (summary, group, statistic, K)."""

    of: tuple[str, ...]
    lo: F64
    hi: F64
    picks: tuple[tuple[str, int, int, int], ...]

    def summaries(self, stats: F64) -> dict[str, F64]:
        """{summary: (n, K)} from stats (n, G, 3, K)."""
        return {name: np.ascontiguousarray(stats[:, g, k, :width]) for name, g, k, width in self.picks}

    def ends(self) -> dict[str, F64]:
        """{summary: (n, K)}: the ends of its windows."""
        return {name: self.hi[:, g, :width] for name, g, _, width in self.picks}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Arguments of a solve, checked; arrays C-ordered float64; thresholds (n, hazard states, K)."""

    compiled: Compiled
    parameters: F64
    events: Events
    changes: Changes
    start: F64
    times: F64
    windows: Windows
    after: bool
    rtol: float
    atol: float
    max_steps: int
    thresholds: F64
    path: Path
    tile: F64 | None = None

    def sampled(self, lo: int, hi: int) -> F64:
        """Sample times of subjects lo:hi as kernels take them; one block of memory serves all where they are shared."""
        if self.tile is not None and hi - lo <= len(self.tile):
            return self.tile[: hi - lo]
        return cast(F64, owned(self.times[lo:hi], np.float64))

    def taken(self, rows: NDArray[np.intp]) -> Request:
        """The request of some of the subjects."""
        windows = replace(self.windows, lo=self.windows.lo[rows], hi=self.windows.hi[rows])
        return replace(
            self, parameters=self.parameters[rows], events=self.events.subjects(rows),
            changes=self.changes.subjects(rows), start=self.start[rows], times=self.times[rows], windows=windows,
            thresholds=self.thresholds[rows],
        )  # fmt: skip

    def tightened(self, rtol: float) -> Request:
        """The same with tolerances that give about `rtol`, if they are wider."""
        tight = min(self.rtol, rtol)
        return replace(self, rtol=tight, atol=self.atol * tight / self.rtol)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Arrays the chunks fill: values (n, output, T), stats (n, group, statistic, K), crossings, status (n,)."""

    values: F64
    stats: F64
    crossings: F64
    status: NDArray[np.int8]

    @classmethod
    def empty(cls, request: Request) -> Result:
        """All NaN, all OK."""
        n, t = request.times.shape
        groups, k = request.windows.lo.shape[1:]
        return cls(
            values=np.full((n, len(request.compiled.outputs), t), np.nan),
            stats=np.full((n, groups, len(STATISTICS), k), np.nan),
            crossings=np.full_like(request.thresholds, np.inf),
            status=np.zeros(n, np.int8),
        )


def windows_of(
    compiled: Compiled, times: F64, start: F64, asked: Mapping[str, tuple[ArrayLike, ArrayLike]] | None
) -> Windows:
    """The windows of the model's summaries that end at `times`, or those `asked` for; cut at each subject's start."""
    if asked is None:
        lengths = {s.name: s.window for s in compiled.summaries}
        bounds = {name: (times - length, times) for name, length in lengths.items()}
        return _grouped(compiled, bounds, lengths, start)
    known = [s.name for s in compiled.summaries]
    for name in asked:
        if name not in known:
            raise InputError("no such summary", field="windows", value=name, remedy=nearest(name, known))
    bounds = {name: _bounds(name, pair, len(start)) for name, pair in asked.items()}
    return _grouped(compiled, bounds, {name: float(i) for i, name in enumerate(asked)}, start)


def _bounds(name: str, pair: tuple[ArrayLike, ArrayLike], n: int) -> tuple[F64, F64]:
    lo, hi = np.broadcast_arrays(np.asarray(pair[0], np.float64), np.asarray(pair[1], np.float64))
    if lo.ndim not in (1, 2) or (lo.ndim == 2 and lo.shape[0] != n):
        raise InputError(f"must have shape (K,) or ({n}, K)", field=f"windows.{name}", value=lo.shape)
    if (lo > hi).any():
        raise InputError("a window must not end before it starts", field=f"windows.{name}")
    shape = (n, lo.shape[-1])
    return np.broadcast_to(lo, shape), np.broadcast_to(hi, shape)


def _grouped(
    compiled: Compiled, bounds: Mapping[str, tuple[F64, F64]], keys: Mapping[str, float], start: F64
) -> Windows:
    groups: dict[tuple[str, float], str] = {}
    picks = []
    for summary in compiled.summaries:
        if summary.name in bounds:
            key = (summary.of, keys[summary.name])
            groups.setdefault(key, summary.name)
            width = bounds[summary.name][0].shape[1]
            picks.append((summary.name, list(groups).index(key), STATISTICS.index(summary.kind), width))
    n, size = len(start), max((p[3] for p in picks), default=0)
    lo, hi = np.full((n, len(groups), size), np.nan), np.full((n, len(groups), size), np.nan)
    for g, name in enumerate(groups.values()):
        left, right = bounds[name]
        hi[:, g, : right.shape[1]] = right
        lo[:, g, : left.shape[1]] = np.minimum(np.maximum(left, start[:, None]), right)
    return Windows(of=tuple(of for of, _ in groups), lo=lo, hi=hi, picks=tuple(picks))
