"""Largest likelihood ratio of a product's events when its reports are drawn at random (Huang et al., JASA 2011)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@kernel
def largest(
    order: I64, begin: I64, sizes: I64, offset: I64, event: I64, of_events: I64, of_reports: I64, out: F64
) -> None:
    """order (B, R): reports in random order within strata, stratum s from begin[s]; sizes (C, S): reports to take;
    events of report r: event[offset[r]:offset[r + 1]]; of_events (S, E), of_reports (S,). Fills out (B, C).
    """
    count = np.zeros(of_events.shape[1], dtype=np.int64)
    touched = np.empty(of_events.shape[1], dtype=np.int64)
    for b in range(order.shape[0]):
        for c in range(sizes.shape[0]):
            seen, total, best = 0, 0, 0.0
            for s in range(sizes.shape[1]):
                total += sizes[c, s]
                for k in range(begin[s], begin[s] + sizes[c, s]):
                    report = order[b, k]
                    for at in range(offset[report], offset[report + 1]):
                        e = event[at]
                        if count[e] == 0:
                            touched[seen] = e
                            seen += 1
                        count[e] += 1
            for k in range(seen):
                e = touched[k]
                n, expected = float(count[e]), 0.0
                count[e] = 0
                for s in range(sizes.shape[1]):
                    expected += sizes[c, s] * of_events[s, e] / of_reports[s]
                if n > expected:
                    value = n * math.log(n / expected)
                    if total > n:
                        value += (total - n) * math.log((total - n) / (total - expected))
                    best = max(best, value)
            out[b, c] = best
