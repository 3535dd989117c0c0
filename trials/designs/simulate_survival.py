"""Two-arm group-sequential log-rank trials in calendar time: accrual, piecewise hazards (a delayed effect), dropout.

A look comes when its number of events has happened; the log-rank test then uses everything observed until that day.
A trial whose events never come is analysed at `until` with those it has, at the bounds of that look.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, key
from trials.designs.sequential import Boundaries
from trials.designs.simulate import Seen, Simulated, Stages, followed
from trials.designs.survival import Hazard, Times

__all__ = ["simulated_survival"]

Floats = NDArray[np.float64]


def simulated_survival(bounds: Boundaries, events: ArrayLike, times: Times, *, subjects: int, seed: int,
                       replicates: int | ArrayLike, entry: str = "even", until: float | None = None,
                       null: float = 1.0) -> Simulated:  # fmt: skip
    """events: cumulative numbers at the looks (K); times: hazards, accrual, dropout, allocation of the subjects.

    entry: even (the i-th of N enters when i are expected) or random. z > 0 where the treated have fewer events than
    expected; with two sides both directions reject. null: hazard ratio under the null hypothesis; where it is not 1 the
    score statistic is shifted by log(null) x its variance. Errors: InputError (events do not increase, dropout in
    pieces).
    """
    from trials.kernels.summary import survival_looks

    wanted = np.asarray(events)
    _check(wanted, len(bounds.upper), subjects, times)
    if entry not in ("even", "random"):
        raise InputError("must be even or random", field="entry", value=entry, remedy="write even")
    which = (np.arange(replicates) if isinstance(replicates, int) else np.asarray(replicates)).astype(np.uint32)
    starts, rates = _rates(times)
    arm = Stages.two_arms(np.array([subjects]), times.ratio).arm
    cumulative = np.concatenate([[0.0], np.cumsum(times.accrual.shares)])
    loss = np.array([times.dropout_control.rates[0], times.dropout_treated.rates[0]])
    out = np.zeros((which.size, wanted.size, 5))
    survival_looks(
        *key(seed, Purpose.SUMMARY_OUTCOME), which, arm, entry == "random", np.array(times.accrual.times), cumulative,
        starts, rates, loss, wanted.astype(np.int64), np.inf if until is None else float(until), out,
    )  # fmt: skip
    if null != 1.0:
        out[:, :, 0] += np.log(null) * np.sqrt(out[:, :, 4])
    return _ended(bounds, _last_known(out), float(np.log(null)))


def _check(events: NDArray[np.generic], looks: int, subjects: int, times: Times) -> None:
    if events.dtype.kind not in "iu" or np.any(np.diff(events, prepend=0) <= 0):
        raise InputError("must be whole numbers that increase", field="events", value=events.tolist())
    if events.size != looks:
        raise InputError(f"needs {looks} numbers, one a look", field="events", value=events.tolist())
    if events[-1] > subjects:
        raise InputError("exceeds the number of subjects", field="events", value=int(events[-1]))
    if len(times.dropout_control.rates) > 1 or len(times.dropout_treated.rates) > 1:
        raise InputError("must have one rate in a simulation", field="dropout")


def _rates(times: Times) -> tuple[Floats, Floats]:
    """Common starts (J) and the rates (2, J) of control and treated."""
    starts = tuple(sorted({*times.control.starts, *times.treated.starts}))

    def of(hazard: Hazard) -> list[float]:
        return [hazard.at(t) for t in starts]

    return np.array(starts), np.array([of(times.control), of(times.treated)])


def _last_known(out: Floats) -> Floats:
    """Without `until`, too few subjects with an event: the look sees all there is, at no known time."""
    return np.where(np.isfinite(out), out, np.nan)


def _ended(bounds: Boundaries, out: Floats, shift: float) -> Simulated:
    look, reject, futile = followed(bounds, out[:, :, 0])
    rows = np.arange(look.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        se = 1.0 / np.sqrt(out[rows, look, 4])
    estimate = out[rows, look, 0] * se - shift
    return Simulated(
        looks=out.shape[1], look=look, reject=reject, futile=futile, subjects=out[rows, look, 3],
        time=out[rows, look, 1], events=out[rows, look, 2], time_by_look=out[:, :, 1],
        seen=Seen(estimate=estimate, se=se, df=np.full(se.shape, np.inf)),
    )  # fmt: skip
