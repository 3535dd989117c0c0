"""Counting values into fixed bins, and what a row of samples says about a subject.

Counts are integers and extremes are exact, so sums over chunks do not depend on their order. Bins are found row by row
(vectorised), then counted for eight times at once: one cache line of bins, eight histograms that stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import log
from pkpd.kernels.intrinsics import inlined, kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
B1 = NDArray[np.bool_]

MAXIMUM, MINIMUM, AVERAGE, AREA, TIME_OF_MAXIMUM, TIME_OF_MINIMUM, TIME_ABOVE, TIME_BELOW, VALUE = range(9)


@inlined
def _cell(z: float, bins: int) -> Any:
    """Cell of a place in bins: 0 below, 1 .. bins, bins + 1 above, bins + 2 not a number."""
    top = np.float64(bins)
    z = -1.0 if z < 0.0 else z
    z = top if z >= top else z
    return np.int32((z if z == z else top + 1.0) + 1.0)


@inlined
def _locate(values: F64, o: int, used: B1, logarithmic: B1, low: F64, per: F64, bins: int, cells: I32) -> None:
    """Cells (n, T) of output `o`. A log scale knows no place for zero and less: they are below."""
    for i in range(values.shape[0]):
        if used[i]:
            for t in range(values.shape[2]):
                x = values[i, o, t]
                y = log(x if x > 0.0 or x != x else 2.2250738585072014e-308) if logarithmic[o, t] else x
                y = -np.inf if logarithmic[o, t] and x <= 0.0 else y
                cells[i, t] = _cell((y - low[o, t]) * per[o, t], bins)


@inlined
def _extremes(values: F64, o: int, used: B1, least: F64, most: F64) -> None:
    for i in range(values.shape[0]):
        if used[i]:
            for t in range(values.shape[2]):
                x = values[i, o, t]
                least[o, t] = x if x < least[o, t] else least[o, t]
                most[o, t] = x if x > most[o, t] else most[o, t]


@kernel
def tally(values: F64, used: B1, logarithmic: B1, low: F64, per: F64, counts: I64, least: F64, most: F64) -> None:
    """Add the subjects `used` (n,) of values (n, output, T) to counts (output, T, bins + 3).

    Cell 0 counts what lies below the grid, 1 .. bins the bins, then what lies above, then what is not a number.
    logarithmic, low, per (output, T): scale of the bins, their start on that scale, bins per unit of that scale.
    least, most (output, T): smallest and largest value so far.
    """
    n, outputs, times = values.shape
    bins = counts.shape[2] - 3
    cells = np.empty((n, times), np.int32)
    for o in range(outputs):
        _locate(values, o, used, logarithmic, low, per, bins, cells)
        _extremes(values, o, used, least, most)
        for first in range(0, times, 8):
            last = min(first + 8, times)
            for i in range(n):
                if used[i]:
                    for t in range(first, last):
                        counts[o, t, cells[i, t]] += 1


@inlined
def _extreme(row: F64, first: int, last: int, sign: float) -> int:
    """Sample of the largest (sign 1) or smallest (sign -1) value, the first where several are equal."""
    best = first
    for j in range(first + 1, last):
        if sign * row[j] > sign * row[best]:
            best = j
    return best


@inlined
def _area(row: F64, times: F64, first: int, last: int) -> Any:
    total = 0.0
    for j in range(first + 1, last):
        total += 0.5 * (times[j] - times[j - 1]) * (row[j - 1] + row[j])
    return total


@inlined
def _inside(row: F64, times: F64, first: int, last: int, threshold: float, sign: float) -> float:
    """Time [h] during which sign (row - threshold) > 0 on straight lines."""
    inside = 0.0
    for j in range(first + 1, last):
        width, a, b = times[j] - times[j - 1], sign * (row[j - 1] - threshold), sign * (row[j] - threshold)
        if a > 0.0 and b > 0.0:
            inside += width
        elif a > 0.0 or b > 0.0:
            inside += width * max(a, b) / abs(b - a)
    return inside


@inlined
def _statistic(row: F64, times: F64, first: int, last: int, kind: int, threshold: float) -> Any:
    if kind == MAXIMUM:
        return row[_extreme(row, first, last, 1.0)]
    if kind == MINIMUM:
        return row[_extreme(row, first, last, -1.0)]
    if kind == TIME_OF_MAXIMUM:
        return times[_extreme(row, first, last, 1.0)]
    if kind == TIME_OF_MINIMUM:
        return times[_extreme(row, first, last, -1.0)]
    if kind == AREA:
        return _area(row, times, first, last)
    if kind == AVERAGE:
        length = times[last - 1] - times[first]
        return _area(row, times, first, last) / length if length > 0.0 else row[first]
    if kind == TIME_ABOVE:
        return _inside(row, times, first, last, threshold, 1.0)
    if kind == TIME_BELOW:
        return _inside(row, times, first, last, threshold, -1.0)
    return row[last - 1]


@kernel
def sampled(values: F64, o: int, times: F64, first: int, last: int, kind: int, threshold: float, out: F64) -> None:
    """One statistic of output `o` of each subject of values (n, output, T), from samples first:last at `times` (T,).

    Straight lines between samples: area is the linear trapezoid, time above a threshold [h] crosses it on the line;
    times of extremes are those of samples. A NaN among the samples makes the result NaN.
    """
    for i in range(values.shape[0]):
        row = values[i, o]
        unknown = 0.0
        for j in range(first, last):
            unknown += 0.0 if row[j] == row[j] else row[j]
        out[i] = _statistic(row, times, first, last, kind, threshold) + unknown
