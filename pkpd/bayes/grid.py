"""Where a state behind linear compartments is integrated: intervals between doses and samples, Gauss-Legendre nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["NODES", "Grid", "grid_of", "nodes_of"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
NODES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Intervals of N subjects, one subject after the other: offsets (N+1), start and length [h], subject (intervals,).

    row (rows,): breakpoint of each row of the data that needs one (a subject has one more breakpoint than intervals),
    -1 for the others.
    """

    offsets: I64
    start: F64
    length: F64
    subject: I64
    row: I64
    nodes: int


@lru_cache(maxsize=8)
def nodes_of(number: int) -> tuple[F64, F64, F64]:
    """Gauss-Legendre points and weights on [0, 1], and the integrals of the Lagrange polynomials up to each point.

    >>> point, weight, inner = nodes_of(3)
    >>> bool(np.allclose(inner.sum(axis=1), point))
    True
    """
    x, w = np.polynomial.legendre.leggauss(number)
    point, weight = 0.5 * (x + 1.0), 0.5 * w
    powers = np.vander(point, number, increasing=True)
    integrals = point[:, None] ** (np.arange(number) + 1.0) / (np.arange(number) + 1.0)
    return point, weight, np.ascontiguousarray(np.linalg.solve(powers.T, integrals.T).T)


def grid_of(subject: I64, time: F64, spans: list[tuple[F64, float, float]], *, first: float) -> Grid:
    """The grid of rows; subject, time (rows,): subject -1 where a row does not need it. spans: times [h] of the actions
    of each subject, when it begins (NaN: 0 or the first action) and when it ends at least (NaN: with its last row).

    After each kink the first interval is at most `first` long, the next may be as long as what lies behind it.
    """
    row = np.full(len(time), -1, np.int64)
    starts, lengths, owner, offsets = [], [], [], [0]
    for i, span in enumerate(spans):
        mine = np.flatnonzero(subject == i)
        edges = _edges(np.unique(time[mine]), span, first)
        row[mine] = offsets[-1] + i + np.searchsorted(edges, time[mine])
        starts.append(edges[:-1])
        lengths.append(np.diff(edges))
        owner.append(np.full(len(edges) - 1, i))
        offsets.append(offsets[-1] + len(edges) - 1)
    return Grid(
        offsets=np.asarray(offsets, np.int64), start=np.concatenate(starts), length=np.concatenate(lengths),
        subject=np.concatenate(owner).astype(np.int64), row=row, nodes=NODES,
    )  # fmt: skip


def _edges(times: F64, span: tuple[F64, float, float], first: float) -> F64:
    """Breakpoints of a subject: its start, the kinks before the last sample, the samples, and what lies between."""
    kinks, begin, end = span
    start = min(0.0, float(kinks[0]) if len(kinks) else 0.0) if np.isnan(begin) else begin
    last = float(np.nanmax([times[-1] if len(times) else start, end]))
    fixed = np.unique(np.concatenate([[start], kinks[kinks <= last], times, [last]]))
    found = [start]
    kink = start
    for lo, hi in pairwise(fixed):
        kink = lo if lo in kinks else kink
        at = lo
        while at < hi:
            step = max(first, at - kink)
            at = hi if hi - at <= 1.2 * step else at + step
            found.append(at)
    return np.asarray(found)
