"""What a stream leaves: counts in fixed bins, extremes, failures, endpoints of every subject, curves of a few.

Counts are integers, extremes and endpoints are exact: summaries of disjoint subjects merge without
rounding, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.status import SolveStatus
from pkpd.ground.errors import InputError

__all__ = ["Curves", "Grid", "Percentiles", "Summary"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Fixed bins of every output and time: low, high (output, T) in the output's unit; logarithmic (output, T); bins.

    >>> Grid.declared([(0.01, 100.0, True)], times=2, bins=4).edges()[0, 0].round(9).tolist()
    [0.01, 0.1, 1.0, 10.0, 100.0]
    """

    low: F64
    high: F64
    logarithmic: NDArray[np.bool_]
    bins: int = 4096

    def __post_init__(self) -> None:
        if not 2 <= self.bins <= 1_000_000:
            raise InputError("must be from 2 to 1000000", field="bins", value=self.bins)
        wide = np.isfinite(self.low) & np.isfinite(self.high) & (self.low < self.high)
        if not (wide & (~self.logarithmic | (self.low >= TINY))).all():
            raise InputError("needs finite low < high, and low > 0 on a log scale", field="grid")

    @classmethod
    def declared(cls, scales: Sequence[tuple[float, float, bool]], *, times: int, bins: int = 4096) -> Grid:
        """One (low, high, logarithmic) an output, the same at all `times` times."""
        low, high, logarithmic = (np.repeat(np.asarray(c)[:, None], times, axis=1) for c in zip(*scales, strict=True))
        return cls(low=low.astype(float), high=high.astype(float), logarithmic=logarithmic.astype(bool), bins=bins)

    @classmethod
    def pilot(cls, values: F64, bins: int = 4096) -> Grid:
        """From the values (n, output, T) of a few subjects: their range, widened by half of it at both ends.

        Logarithmic where no value is negative and the positive ones span more than a factor of 4.
        """
        low, high, positive = _range(values)
        logarithmic = (low >= 0.0) & (positive >= TINY) & (high > 4.0 * positive)
        wide, span = np.where(logarithmic, high / np.where(logarithmic, positive, 1.0), 1.0), high - low
        span = np.where(span > 0.0, span, np.where(high != 0.0, np.abs(high), 1.0) * 1e-3)
        bottom = np.where(logarithmic, np.maximum(positive / np.sqrt(wide), TINY), low - 0.5 * span)
        top = np.where(logarithmic, np.minimum(high * np.sqrt(wide), 1e300), high + 0.5 * span)
        return cls(low=bottom, high=top, logarithmic=logarithmic, bins=bins)

    def scaled(self) -> tuple[F64, F64]:
        """(low, bins per unit), both (output, T), on the scale of the bins."""
        low, high = self._ends()
        return low, np.asarray(self.bins / (high - low))

    def edges(self) -> F64:
        """Edges of the bins in the output's unit, (output, T, bins + 1)."""
        from pkpd.kernels.elementary import exp_array

        low, high = self._ends()
        steps = np.arange(self.bins + 1) / self.bins
        line = low[..., None] + (high - low)[..., None] * steps
        return np.where(self.logarithmic[..., None], exp_array(np.where(self.logarithmic[..., None], line, 0.0)), line)

    def _ends(self) -> tuple[F64, F64]:
        from pkpd.kernels.elementary import log_array

        ends = []
        for value in (self.low, self.high):
            ends.append(np.where(self.logarithmic, log_array(np.where(self.logarithmic, value, 1.0)), value))
        return ends[0], ends[1]

    def same(self, other: Grid) -> bool:
        """Whether two grids have the same bins, bit for bit."""
        pairs = ((getattr(self, n), getattr(other, n)) for n in ("low", "high", "logarithmic"))
        return self.bins == other.bins and all(np.array_equal(a, b) for a, b in pairs)


def _range(values: F64) -> tuple[F64, F64, F64]:
    """Least, largest and least positive value (output, T) over subjects; 0, 0, inf where there is none."""
    finite = np.isfinite(values)
    there = finite.any(axis=0)
    low = np.where(there, np.min(values, axis=0, where=finite, initial=np.inf), 0.0)
    high = np.where(there, np.max(values, axis=0, where=finite, initial=-np.inf), 0.0)
    return low, high, np.min(values, axis=0, where=finite & (values > 0.0), initial=np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """value (level, group, output, T), and `resolution`: the subjects' percentile lies within value +- resolution.

    That is the error of the bins alone; it says nothing of how many subjects there are.
    """

    levels: tuple[float, ...]
    value: F64
    resolution: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Full curves of a declared subsample: subject (k,) ascending, values (k, group, output, T)."""

    subject: I64
    values: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """counts (group, output, T, bins + 3): below, the bins, above, not a number; least, most (group, output, T).

    failed (group, status): subjects by `SolveStatus`, those with OK among them; subject (n,) and endpoints (n, group,
    endpoint) in order of address, NaN for a failed subject, or None where they went to the file `spilled`;
    how: `solver` or `samples` for each endpoint.
    """

    groups: tuple[str, ...]
    outputs: tuple[str, ...]
    times: F64
    grid: Grid
    counts: I64
    least: F64
    most: F64
    failed: I64
    endpoint_names: tuple[str, ...]
    how: tuple[str, ...]
    subject: I64 | None
    endpoints: F64 | None
    curves: Curves
    endpoint_digest: str = ""
    spilled: Path | None = None

    @property
    def subjects(self) -> int:
        """How many subjects were solved in each group."""
        return int(self.failed[0].sum())

    def failures(self, group: str) -> dict[SolveStatus, int]:
        """How many subjects of a group ended with each status other than OK."""
        row = self.failed[self.groups.index(group)]
        return {status: int(row[status]) for status in SolveStatus if status != SolveStatus.OK and row[status]}

    def endpoint(self, name: str, group: str | None = None) -> F64:
        """One endpoint of every subject, (n,), in order of address."""
        if self.endpoints is None:
            raise InputError("the endpoints are in a file", field=name, remedy=f"read {self.spilled}")
        which = 0 if group is None else self.groups.index(group)
        return self.endpoints[:, which, self.endpoint_names.index(name)]

    def percentiles(self, levels: ArrayLike) -> Percentiles:
        """Percentiles of the solved subjects at `levels` (0 to 100), as numpy's `linear` method defines them.

        An order statistic is placed evenly within its bin; bins are cut at the smallest and largest value.
        """
        asked = np.atleast_1d(np.asarray(levels, np.float64))
        if asked.ndim != 1 or not ((asked >= 0.0) & (asked <= 100.0)).all():
            raise InputError("must be from 0 to 100", field="levels", value=levels)
        shape = (len(asked), *self.counts.shape[:3])
        value, resolution, edges = np.empty(shape), np.empty(shape), self.grid.edges()
        for cell in np.ndindex(*self.counts.shape[:3]):
            whole = np.concatenate([[self.least[cell]], edges[cell[1:]], [self.most[cell]]])
            whole = np.clip(whole, self.least[cell], self.most[cell])
            value[(slice(None), *cell)], resolution[(slice(None), *cell)] = _quantiles(
                self.counts[cell][:-1], whole, asked / 100.0
            )
        return Percentiles(levels=tuple(asked.tolist()), value=value, resolution=resolution)

    def merged(self, other: Summary) -> Summary:
        """The summary of both sets of subjects, which must be disjoint and on one grid; exact, in either order."""
        self._must_fit(other)
        (mine, my_rows), (theirs, their_rows) = self._held(), other._held()
        if np.intersect1d(mine, theirs, assume_unique=True).size:
            raise InputError("both summaries hold the same subjects", field="subject")
        subject, order = _joined(mine, theirs)
        kept, kept_order = _joined(self.curves.subject, other.curves.subject)
        endpoints = np.concatenate([my_rows, their_rows])[order]
        curves = np.concatenate([self.curves.values, other.curves.values])[kept_order]
        return replace(
            self,
            counts=self.counts + other.counts,
            least=np.minimum(self.least, other.least),
            most=np.maximum(self.most, other.most),
            failed=self.failed + other.failed,
            subject=subject,
            endpoints=endpoints,
            curves=Curves(subject=kept, values=curves),
            endpoint_digest=rows_digest([(subject, endpoints)]),
        )

    def _must_fit(self, other: Summary) -> None:
        for name in ("groups", "outputs", "endpoint_names", "how"):
            if getattr(self, name) != getattr(other, name):
                raise InputError("summaries differ in it", field=name, value=getattr(other, name))
        if not (np.array_equal(self.times, other.times) and self.grid.same(other.grid)):
            raise InputError("summaries differ in it", field="grid", remedy="give every stream the grid of the first")

    def _held(self) -> tuple[I64, F64]:
        if self.subject is None or self.endpoints is None:
            raise InputError("endpoints that went to a file are not merged", field="spill", remedy="leave spill out")
        return self.subject, self.endpoints

    def digest(self) -> str:
        """SHA-256 of everything in it: equal for any chunk size, thread count and order of work."""
        names = (self.groups, self.outputs, self.endpoint_names, self.how, self.grid.bins)
        found = hashlib.sha256(repr(names).encode())
        arrays = (self.times, self.grid.low, self.grid.high, self.grid.logarithmic, self.counts, self.least, self.most)
        for array in (*arrays, self.failed, self.curves.subject, self.curves.values):
            found.update(_bytes(array))
        found.update(self.endpoint_digest.encode())
        return found.hexdigest()


def rows_digest(parts: Sequence[tuple[I64, F64]]) -> str:
    """SHA-256 of endpoint rows in order of address."""
    found = EndpointDigest()
    for subject, rows in parts:
        found.add(subject, rows)
    return found.value()


class EndpointDigest:
    """A running SHA-256 over (address, endpoints) rows, whatever the pieces they come in."""

    def __init__(self) -> None:
        self._who, self._what = hashlib.sha256(), hashlib.sha256()

    def add(self, subject: I64, rows: F64) -> None:
        """Take the next rows."""
        self._who.update(_bytes(subject))
        self._what.update(_bytes(rows))

    def value(self) -> str:
        """The digest so far."""
        return hashlib.sha256(self._who.digest() + self._what.digest()).hexdigest()


def _bytes(array: NDArray[np.generic]) -> bytes:
    """Little-endian bytes, one NaN whatever its bits."""
    values = np.ascontiguousarray(array)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values)
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _joined(a: I64, b: I64) -> tuple[I64, NDArray[np.intp]]:
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")
    return both[order], order


def _quantiles(counts: I64, edges: F64, shares: F64) -> tuple[F64, F64]:
    """Quantiles (level,) and their resolution from counts (cells,) between edges (cells + 1,)."""
    reached = np.cumsum(counts)
    n = int(reached[-1])
    if n == 0:
        return np.full(len(shares), np.nan), np.full(len(shares), np.nan)
    rank = shares * (n - 1)
    first = np.floor(rank).astype(np.int64)
    rest = rank - first
    low, low_error = _order_statistic(counts, reached, edges, first)
    high, high_error = _order_statistic(counts, reached, edges, np.minimum(first + 1, n - 1))
    exact = rest == 0.0
    value = np.where(exact, low, (1.0 - rest) * low + rest * high)
    return value, np.where(exact, low_error, (1.0 - rest) * low_error + rest * high_error)


def _order_statistic(counts: I64, reached: I64, edges: F64, rank: I64) -> tuple[F64, F64]:
    """The value of rank `rank` (from 0), evenly within its bin, and how far from it the true one may be."""
    cell = np.searchsorted(reached, rank, side="right")
    left, right = edges[cell], edges[cell + 1]
    within = (rank - (reached[cell] - counts[cell]) + 0.5) / counts[cell]
    last = rank == reached[-1] - 1
    value = np.where(last, edges[-1], np.where(rank == 0, edges[0], left + (right - left) * within))
    error = np.maximum(value - left, right - value) + 1e-9 * (right - left)
    return value, np.where(last | (rank == 0), 0.0, error)
