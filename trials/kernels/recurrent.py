"""Mean number of recurrent events over replicates (Nelson 1988; Lawless & Nadeau, Technometrics 1995;37:158)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]


@kernel
def mean_frequency(start: F64, stop: F64, event: BOOL, arm: I64, at: F64, out: F64) -> None:
    """out (R, A, T) comes as zeros; rows (R, M) with arm -1 are left out. NaN where nobody is followed that far."""
    last = np.empty(out.shape[1])
    for r in range(stop.shape[0]):
        last[:] = 0.0
        for i in range(stop.shape[1]):
            a = arm[r, i]
            if a < 0:
                continue
            last[a] = max(last[a], stop[r, i])
            if not event[r, i]:
                continue
            at_risk = 0.0
            for j in range(stop.shape[1]):
                if arm[r, j] == a and start[r, j] < stop[r, i] <= stop[r, j]:
                    at_risk += 1.0
            for t in range(at.size):
                if stop[r, i] <= at[t]:
                    out[r, a, t] += 1.0 / at_risk
        for a in range(out.shape[1]):
            for t in range(at.size):
                if at[t] > last[a]:
                    out[r, a, t] = np.nan
