"""Pairwise comparisons of two groups by endpoints in order of importance, with the variance of a U-statistic.

Sources: Pocock et al., Eur Heart J 2012;33:176 (win ratio); Bebu & Lachin, Biostatistics 2016;17:178 (variance without
assuming the null hypothesis); Dong et al., Pharm Stat 2016;15:430.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import inlined, kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]


@inlined
def contest(value: F64, event: BOOL, timed: BOOL, margin: F64, i: np.int64, j: np.int64, level: int) -> int:
    """1: i wins, -1: j wins, 0: undecided. Timed: who has the event while the other is followed without it loses."""
    mine, other = value[level, i], value[level, j]
    if timed[level]:
        if event[level, j] and (other < mine or (other == mine and not event[level, i])):
            return 1
        if event[level, i] and (mine < other or (mine == other and not event[level, j])):
            return -1
        return 0
    if mine - other > margin[level]:
        return 1
    return -1 if other - mine > margin[level] else 0


@kernel
def wins(value: F64, event: BOOL, timed: BOOL, margin: F64, arm: I64, won: F64, lost: F64, variance: F64) -> None:
    """value, event (R, L, N); arm (R, N). Fills won and lost (R, k, L), shares of all pairs decided at each level, and
    variance (R, k, 3): of the share won, of the share lost, their covariance; NaN for a group below 2 subjects.
    """
    n = arm.shape[1]
    up, down = np.empty(n), np.empty(n)
    for r in range(arm.shape[0]):
        control = np.flatnonzero(arm[r] == 0)
        mine, happened = value[r], event[r]
        for a in range(won.shape[1]):
            treated = np.flatnonzero(arm[r] == a + 1)
            pairs = float(treated.size * control.size)
            up[:] = 0.0
            down[:] = 0.0
            won[r, a] = 0.0
            lost[r, a] = 0.0
            for i in treated:
                for j in control:
                    for level in range(timed.size):
                        found = contest(mine, happened, timed, margin, i, j, level)
                        if found > 0:
                            won[r, a, level] += 1.0
                            up[i] += 1.0
                            up[j] += 1.0
                        elif found < 0:
                            lost[r, a, level] += 1.0
                            down[i] += 1.0
                            down[j] += 1.0
                        if found != 0:
                            break
            won[r, a] /= pairs
            lost[r, a] /= pairs
            variance[r, a] = 0.0
            _spread(up, down, treated, float(control.size), variance[r, a])
            _spread(up, down, control, float(treated.size), variance[r, a])


@kernel
def _spread(up: F64, down: F64, group: I64, others: float, out: F64) -> None:
    """Add one group's part: sample variances and covariance of its members' shares, over its size."""
    m = group.size
    if m < 2 or others < 2.0:
        out[:] = np.nan
        return
    first, second = 0.0, 0.0
    for i in group:
        first += up[i] / others
        second += down[i] / others
    first /= m
    second /= m
    a, b, c = 0.0, 0.0, 0.0
    for i in group:
        u, d = up[i] / others - first, down[i] / others - second
        a += u * u
        b += d * d
        c += u * d
    scale = 1.0 / ((m - 1.0) * m)
    out[0] += a * scale
    out[1] += b * scale
    out[2] += c * scale
