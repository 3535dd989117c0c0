"""Outcomes of stated distributions for many replicates, and the log-rank statistic at every look.

Addresses: counter = (subject, replicate, 0, slot); the same subject of the same replicate has the same chance under
every arm and every design. Log-rank: Mantel, Cancer Chemother Rep 1966;50:163, ties by the hypergeometric variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import log
from pkpd.kernels.intrinsics import inlined, kernel
from pkpd.kernels.philox import U32, Word, normal_quantile, philox, uniform

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

OUTCOME = 0
LOSS = 1
ENTRY = 2


@inlined
def _chance(k0: Word, k1: Word, subject: int, replicate: Word, slot: int) -> float:
    w0, w1, _, _ = philox(np.uint64(subject), np.uint64(replicate), np.uint64(0), np.uint64(slot), np.uint64(k0),
                          np.uint64(k1))  # fmt: skip
    return float(uniform(w0, w1))


@kernel
def normal_stages(k0: Word, k1: Word, replicate: U32, arm: I64, stage: I64, mean: F64, sd: F64, total: F64,
                  square: F64) -> None:  # fmt: skip
    """Sums and sums of squares of N(mean, sd) by replicate, stage and arm: arm, stage (N,), mean, sd (A,),
    total, square (R, K, A) come as zeros.
    """
    for r in range(replicate.size):
        for i in range(arm.size):
            a, k = arm[i], stage[i]
            x = mean[a] + sd[a] * normal_quantile(_chance(k0, k1, i, replicate[r], OUTCOME))
            total[r, k, a] += x
            square[r, k, a] += x * x


@kernel
def event_stages(k0: Word, k1: Word, replicate: U32, arm: I64, stage: I64, rate: F64, total: F64) -> None:
    """Numbers of events by replicate, stage and arm: rate (A,), total (R, K, A) comes as zeros."""
    for r in range(replicate.size):
        for i in range(arm.size):
            if _chance(k0, k1, i, replicate[r], OUTCOME) < rate[arm[i]]:
                total[r, stage[i], arm[i]] += 1.0


@inlined
def _waiting(u: float, starts: F64, rates: F64) -> float:
    """The time at which a hazard constant in pieces has accumulated -log u; infinite if never."""
    left = -log(u)
    for j in range(starts.size):
        last = j == starts.size - 1
        width = np.inf if last else starts[j + 1] - starts[j]
        if rates[j] > 0.0 and left <= rates[j] * width:
            return float(starts[j] + left / rates[j])
        if rates[j] > 0.0:
            left -= rates[j] * width
    return np.inf


@inlined
def _entry(u: float, times: F64, cumulative: F64) -> float:
    """Entry time of the subject at quantile u of accrual (cumulative share at `times`)."""
    j = 0
    while j < times.size - 2 and u > cumulative[j + 1]:
        j += 1
    share = cumulative[j + 1] - cumulative[j]
    return float(times[j] + (u - cumulative[j]) / share * (times[j + 1] - times[j])) if share > 0.0 else times[j]


@kernel
def log_rank(observed: F64, event: NDArray[np.bool_], order: I64, arm: I64) -> tuple[float, float]:
    """O - E of arm 1 and its variance; `order` sorts `observed` (n) upwards; arm -1 is left out."""
    at_risk, treated = 0.0, 0.0
    for i in range(arm.size):
        if arm[i] >= 0:
            at_risk += 1.0
            treated += arm[i]
    excess, variance = 0.0, 0.0
    i, n = 0, order.size
    while i < n:
        time, died, died_treated, gone, gone_treated = observed[order[i]], 0.0, 0.0, 0.0, 0.0
        while i < n and observed[order[i]] == time:
            j = order[i]
            if arm[j] >= 0:
                gone += 1.0
                gone_treated += arm[j]
                if event[j]:
                    died += 1.0
                    died_treated += arm[j]
            i += 1
        if died > 0.0:
            share = treated / at_risk
            excess += died_treated - died * share
            if at_risk > 1.0:
                variance += died * share * (1.0 - share) * (at_risk - died) / (at_risk - 1.0)
        at_risk -= gone
        treated -= gone_treated
    return excess, variance


@kernel
def survival_looks(k0: Word, k1: Word, replicate: U32, arm: I64, random_entry: bool, times: F64, cumulative: F64,
                   starts: F64, rates: F64, loss: F64, events: I64, until: float, out: F64) -> None:  # fmt: skip
    """Sequential log-rank trials. Hazards: starts (J,), rates (2, J) of control and treated; loss (2,) constant
    dropout rates; events (K,) at which one looks, at the latest at calendar time `until`. out (R, K, 5): z (events
    fewer than expected are positive), calendar time, events, subjects entered, information (variance).
    """
    n = arm.size
    entry, free, calendar = np.empty(n), np.empty(n), np.empty(n)
    event = np.empty(n, dtype=np.bool_)
    here, seen, now = np.empty(n, dtype=np.int64), np.empty(n), np.empty(n, dtype=np.bool_)
    for r in range(replicate.size):
        for i in range(n):
            a = arm[i]
            share = _chance(k0, k1, i, replicate[r], ENTRY) if random_entry else (i + 1.0) / n
            entry[i] = _entry(share, times, cumulative)
            wait = _waiting(_chance(k0, k1, i, replicate[r], OUTCOME), starts, rates[a])
            lost = np.inf
            if loss[a] > 0.0:
                lost = -log(_chance(k0, k1, i, replicate[r], LOSS)) / loss[a]
            event[i] = wait <= lost
            free[i] = min(wait, lost)
            calendar[i] = entry[i] + wait if event[i] else np.inf
        by_calendar = np.sort(calendar)
        for k in range(events.size):
            cut = min(by_calendar[events[k] - 1] if events[k] <= n else np.inf, until)
            died, entered = 0.0, 0.0
            for i in range(n):
                inside = entry[i] <= cut
                here[i] = arm[i] if inside else -1
                now[i] = event[i] and calendar[i] <= cut
                # an event at the cut itself must not fall behind it by rounding: its own time, not cut - entry
                seen[i] = free[i] if now[i] else min(free[i], cut - entry[i])
                entered += 1.0 if inside else 0.0
                died += 1.0 if now[i] else 0.0
            excess, variance = log_rank(seen, now, np.argsort(seen), here)
            out[r, k, 0] = -excess / np.sqrt(variance) if variance > 0.0 else 0.0
            out[r, k, 1] = cut
            out[r, k, 2] = died
            out[r, k, 3] = entered
            out[r, k, 4] = variance
