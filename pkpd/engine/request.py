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
from pkpd.engine.choice import PATIENCE
from pkpd.engine.generate import Method
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.regimen import Events

__all__ = ["STATISTICS", "Path", "Request", "Result", "Windows", "windows_of"]

F64 = NDArray[np.float64]
Path = Literal["auto", "closed", "exact", "ode", "rodas5p", "tsit5"]
# the order of kernels.statistics
STATISTICS = (
    "average", "maximum", "minimum", "time_of_maximum", "time_of_minimum", "time_above", "time_below",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Groups of windows over one output: of (G,), lo and hi (n, G, K) [h], level (G,): its threshold, NaN for none.

    picks: (summary, group, statistic, K).
    """

    of: tuple[str, ...]
    lo: F64
    hi: F64
    level: F64
    picks: tuple[tuple[str, int, int, int], ...]

    def summaries(self, stats: F64) -> dict[str, F64]:
        """{summary: (n, K)} from stats (n, G, K, statistic)."""
        return {name: np.ascontiguousarray(stats[:, g, :width, k]) for name, g, k, width in self.picks}

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

    @property
    def method(self) -> Method:
        """Of the steps of all states: the one asked for, else the chosen one."""
        return self.path if self.path == "tsit5" or self.path == "rodas5p" else self.compiled.chosen.method

    @property
    def patient(self) -> bool:
        """Whether a subject that takes too many steps of Tsit5 is left at that: the method was asked for by name."""
        return self.path in ("tsit5", "rodas5p") or self.compiled.choice is not None

    def patience(self, method: Method) -> int:
        """Attempted steps after which a subject is given up by this method."""
        return self.max_steps if self.patient or method == "rodas5p" else min(self.max_steps, PATIENCE)

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
    """Arrays the chunks fill: values (n, output, T), stats (n, group, K, statistic), crossings, status and way (n,)."""

    values: F64
    stats: F64
    crossings: F64
    status: NDArray[np.int8]
    way: NDArray[np.int8]

    @classmethod
    def empty(cls, request: Request) -> Result:
        """All NaN, all OK."""
        n, t = request.times.shape
        groups, k = request.windows.lo.shape[1:]
        return cls(
            values=np.full((n, len(request.compiled.outputs), t), np.nan),
            stats=np.full((n, groups, k, len(STATISTICS)), np.nan),
            crossings=np.full_like(request.thresholds, np.inf),
            status=np.zeros(n, np.int8),
            way=np.zeros(n, np.int8),
        )


def windows_of(
    compiled: Compiled, times: F64, start: F64, asked: Mapping[str, tuple[ArrayLike, ArrayLike]] | None
) -> Windows:
    """The windows of the model's summaries that end at `times`, or those `asked` for; cut at each subject's start."""
    if asked is None:
        bounds = {s.name: (times - s.window, times) for s in compiled.summaries}
        return _grouped(compiled, bounds, start, alike={s.name: str(s.window) for s in compiled.summaries})
    known = [s.name for s in compiled.summaries]
    for name in asked:
        if name not in known:
            raise InputError("no such summary", field="windows", value=name, remedy=nearest(name, known))
    bounds = {name: _bounds(name, pair, len(start)) for name, pair in asked.items()}
    return _grouped(compiled, bounds, start, alike=_alike(bounds))


def _alike(bounds: Mapping[str, tuple[F64, F64]]) -> dict[str, str]:
    """For each name the first whose windows are the same."""
    found: dict[str, str] = {}
    for name, (lo, hi) in bounds.items():
        same = (k for k in dict.fromkeys(found.values()) if _same(bounds[k][0], lo) and _same(bounds[k][1], hi))
        found[name] = next(same, name)
    return found


def _same(a: F64, b: F64) -> bool:
    """Equal arrays; the memory that broadcasting shares is compared once."""
    if a.shape != b.shape or a.strides != b.strides:
        return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)
    some = slice(None) if a.strides[0] else slice(1)
    return np.array_equal(a[some], b[some], equal_nan=True)


def _bounds(name: str, pair: tuple[ArrayLike, ArrayLike], n: int) -> tuple[F64, F64]:
    lo, hi = np.broadcast_arrays(np.asarray(pair[0], np.float64), np.asarray(pair[1], np.float64))
    if lo.ndim not in (1, 2) or (lo.ndim == 2 and lo.shape[0] != n):
        raise InputError(f"must have shape (K,) or ({n}, K)", field=f"windows.{name}", value=lo.shape)
    if (lo > hi).any():
        raise InputError("a window must not end before it starts", field=f"windows.{name}")
    shape = (n, lo.shape[-1])
    return np.broadcast_to(lo, shape), np.broadcast_to(hi, shape)


def _grouped(
    compiled: Compiled, bounds: Mapping[str, tuple[F64, F64]], start: F64, *, alike: Mapping[str, str]
) -> Windows:
    """One group for the summaries of an output over the same windows, but each threshold needs its own."""
    groups: list[tuple[str, str, float | None]] = []
    picks = []
    for summary in (s for s in compiled.summaries if s.name in bounds):
        key, limit = (summary.of, alike[summary.name]), summary.threshold
        fit = [k for k, group in enumerate(groups) if group[:2] == key and (limit is None or group[2] in (None, limit))]
        if not fit:
            fit = [len(groups)]
            groups.append((*key, None))
        if limit is not None:
            groups[fit[0]] = (*key, limit)
        width = bounds[summary.name][0].shape[1]
        picks.append((summary.name, fit[0], STATISTICS.index(summary.kind), width))
    n, size = len(start), max((p[3] for p in picks), default=0)
    lo, hi = np.full((n, len(groups), size), np.nan), np.full((n, len(groups), size), np.nan)
    for name, g, _, width in picks:
        left, right = bounds[name]
        hi[:, g, :width] = right
        lo[:, g, :width] = np.minimum(np.maximum(left, start[:, None]), right)
    level = np.asarray([np.nan if g[2] is None else g[2] for g in groups], np.float64)
    return Windows(of=tuple(g[0] for g in groups), lo=lo, hi=hi, level=level, picks=tuple(picks))
