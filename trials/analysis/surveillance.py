"""Watching an event as it comes: the maximised sequential probability ratio test of a Poisson count, exactly.

After each event the count n is compared with what was expected of it by then, u: log likelihood ratio
u - n + n log(n/u) where n > u. A signal is a ratio that reaches a critical value before u reaches the horizon. A count
n signals when its event comes before u_n, the root of the ratio; between these times counts grow by Poisson increments,
so that all probabilities are sums. Kulldorff et al., Sequential Analysis 2011;30:58; a least number of events:
Kulldorff & Silva, REVSTAT 2017;15:373. Time is the number of events expected under the null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Watch", "Watched", "log_ratio", "passed", "watch", "watched"]

Floats = NDArray[np.float64]
_MOST = 5000.0
"""Of the horizon: the sums grow with its square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A plan: critical value of the log likelihood ratio, horizon in events expected under the null, least number of
    events of a signal, and the level that is reached.
    """

    critical: float
    horizon: float
    minimum: int
    alpha: float

    def signals(self, events: ArrayLike, expected: ArrayLike) -> NDArray[np.bool_]:
        """Is it a signal to have seen that many events where so many were expected? Broadcast."""
        n, u = np.asarray(events, np.float64), np.asarray(expected, np.float64)
        inside = u <= self.horizon * (1.0 + 1e-9)  # a last look at 3000 x 0.002 x 0.1 is one at 0.6
        found: NDArray[np.bool_] = (n >= self.minimum) & inside & (log_ratio(n, u) >= self.critical)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a plan does under a relative risk: probability of a signal, expected time to it where there is one, expected
    length of the watch. Times in events expected under the null.
    """

    power: float
    time_to_signal: float
    duration: float


def log_ratio(events: ArrayLike, expected: ArrayLike) -> Floats:
    """Log likelihood ratio of the best relative risk above 1 against 1; 0 where no more came than were expected.

    >>> float(log_ratio(8, 2.0).round(4))
    5.0904
    """
    n, u = np.broadcast_arrays(np.asarray(events, np.float64), np.asarray(expected, np.float64))
    more = n > u
    with np.errstate(divide="ignore", invalid="ignore"):
        found = u - n + n * np.log(n / u)
    return np.where(more, found, 0.0)


def watch(horizon: float, *, alpha: float = 0.05, minimum: int = 1) -> Watch:
    """The plan of level alpha: the largest probability of a signal under the null that does not exceed it.

    With a least number of events the level may jump over alpha; the critical value is then conservative.

    >>> round(watch(10.0).critical, 6)
    3.467952
    """
    from scipy.optimize import brentq

    if not 0.0 < horizon <= _MOST:
        raise InputError(f"must be above 0 and at most {_MOST:g}", field="horizon", value=horizon)
    if not 0.0 < alpha < 0.5:
        raise InputError("must be between 0 and 0.5", field="alpha", value=alpha)
    if minimum < 1:
        raise InputError("must be at least 1", field="minimum", value=minimum)
    if _signals(1e-9, horizon, minimum) <= alpha:
        raise InputError("no critical value: so many events are rarer than alpha", field="minimum", value=minimum,
                         remedy="a longer horizon or fewer events")  # fmt: skip
    critical = float(brentq(lambda c: _signals(c, horizon, minimum) - alpha, 1e-9, 60.0, xtol=1e-11, rtol=1e-14))
    if _signals(critical, horizon, minimum) > alpha * (1.0 + 1e-9):
        critical *= 1.0 + 1e-9
    return Watch(critical=critical, horizon=horizon, minimum=minimum, alpha=_signals(critical, horizon, minimum))


def _signals(critical: float, horizon: float, minimum: int) -> float:
    plan = Watch(critical=critical, horizon=horizon, minimum=minimum, alpha=np.nan)
    return watched(plan, 1.0).power


def watched(plan: Watch, ratio: float) -> Watched:
    """Power, time to signal and length of a plan where the event comes `ratio` times as often as expected.

    >>> round(watched(watch(10.0), 2.0).power, 3)
    0.685
    """
    if not ratio > 0.0:
        raise InputError("must be above 0", field="ratio", value=ratio)
    return passed(_times(plan), plan.minimum, ratio)[0]


def passed(times: Floats, minimum: int, ratio: float) -> tuple[Watched, Floats]:
    """What a process of rate `ratio` does where an n-th event signals if it comes by times[n - minimum], the last one
    the end of the watch; and the probabilities of its counts at the end without a signal.
    """
    from scipy.special import pdtrc
    from scipy.stats import poisson

    alive, before, power, moment = np.ones(1), 0.0, 0.0, 0.0
    for n, time in zip(range(minimum, minimum + len(times)), times, strict=True):
        mean, counts = ratio * (time - before), np.arange(len(alive))
        missing = n - counts  # events until the signal
        comes = pdtrc(missing - 1.0, mean)
        power += float(alive @ comes)
        moment += float(alive @ (before * comes + missing / ratio * pdtrc(missing, mean)))
        steps = poisson.pmf(np.arange(n), mean)
        alive = np.convolve(alive, steps)[:n]
        before = time
    length = moment + float(times[-1]) * float(alive.sum())
    return Watched(power=power, time_to_signal=moment / power if power > 0 else np.nan, duration=length), alive


def _times(plan: Watch) -> Floats:
    """Until when an n-th event signals, n from the least number on; the last is the horizon."""
    from scipy.special import lambertw

    most = plan.minimum + int(2.0 * plan.horizon + 20.0 * np.sqrt(plan.horizon)) + 60
    n = np.arange(plan.minimum, most, dtype=np.float64)
    found = -n * lambertw(-np.exp(-1.0 - plan.critical / n), np.zeros(len(n), np.int64)).real  # the main branch
    last = int(np.searchsorted(found, plan.horizon))
    return np.asarray(np.minimum(found[: last + 1], plan.horizon), np.float64)
