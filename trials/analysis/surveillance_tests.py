"""Sequential tests beside that of a known Poisson rate: looks at stated times, a comparator, a rate from past events.

`grouped`: the Poisson test looked at a few times, its level exact for those looks. `binomial`: of n events of users and
comparators, how many are users'; no rate need be known (Kulldorff et al., Sequential Analysis 2011;30:58).
`conditional`: the background rate is c past events in V person-years, both counted in the likelihood (Li & Kulldorff,
Stat Med 2010;29:284; exact: Silva, Li & Kulldorff, Sequential Analysis 2019;38:115); its time is person-years of users
over V. All levels are exact sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.surveillance import Watch, log_ratio, passed

__all__ = [
    "Compared", "Conditional", "binomial", "binomial_ratio", "compared", "conditional", "conditional_grouped",
    "conditional_grouped_power", "conditional_power", "conditional_ratio", "grouped", "grouped_power",
]  # fmt: skip

Floats = NDArray[np.float64]
_SLACK = 1e-9  # of a log likelihood ratio that reaches the critical value by its own definition


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A test against comparators with `odds` person-years to one of the users': critical log likelihood ratio, most
    events of both, least events of users, level that is reached.
    """

    critical: float
    odds: float
    most: int
    minimum: int
    alpha: float

    def signals(self, users: ArrayLike, others: ArrayLike) -> NDArray[np.bool_]:
        """Is it a signal to have seen so many events of users and of comparators? Broadcast."""
        c, rest = np.asarray(users, np.float64), np.asarray(others, np.float64)
        found: NDArray[np.bool_] = (
            (c >= self.minimum)
            & (c + rest <= self.most)
            & (binomial_ratio(c, c + rest, self.odds) >= self.critical - _SLACK)
        )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditional:
    """A test against `past` events: critical log likelihood ratio, longest watch in person-years of users over those of
    the past, least events, level that is reached.
    """

    critical: float
    past: int
    horizon: float
    minimum: int
    alpha: float

    def signals(self, events: ArrayLike, time: ArrayLike) -> NDArray[np.bool_]:
        """Is it a signal to have seen so many events in `time` person-years over those of the past? Broadcast."""
        k, t = np.asarray(events, np.float64), np.asarray(time, np.float64)
        found: NDArray[np.bool_] = (
            (k >= self.minimum) & (t <= self.horizon * (1.0 + 1e-9))
            & (conditional_ratio(k, t, self.past) >= self.critical - _SLACK)
        )  # fmt: skip
        return found


def grouped_power(plan: Watch, looks: ArrayLike, ratio: float = 1.0) -> Floats:
    """Probability of a signal by each look (T,), where `looks` events are expected by then under the null, rising.

    >>> grouped_power(Watch(critical=1.0, horizon=2.0, minimum=1, alpha=0.1), [2.0]).round(6).tolist()
    [0.052653]
    """
    from scipy.stats import poisson

    u = np.asarray(looks, np.float64)
    alive, before, out, lost = np.ones(1), 0.0, np.zeros(len(u)), 0.0
    for j, time in enumerate(u.tolist()):
        size = max(len(alive), int(ratio * time + 12.0 * np.sqrt(ratio * time)) + 30)
        alive = np.convolve(alive, poisson.pmf(np.arange(size), ratio * (time - before)))[:size]
        signal = plan.signals(np.arange(size), time)
        lost += float(alive[signal].sum())
        alive, before, out[j] = np.where(signal, 0.0, alive), time, lost
    return out


def grouped(looks: ArrayLike, *, alpha: float = 0.05, minimum: int = 1) -> Watch:
    """The Poisson test at stated looks: the least critical value whose level does not exceed alpha.

    Looks (T,) in events expected under the null. Counts are whole, so the level stays below alpha.

    >>> made = grouped([2.0])  # one look: P(6 or more at mean 2) = 0.0166, P(5 or more) = 0.0527
    >>> bool(made.signals(6, 2.0)), bool(made.signals(5, 2.0)), round(made.alpha, 4)
    (True, False, 0.0166)
    """
    u = np.asarray(looks, np.float64)
    _asked(alpha, minimum)
    if u.size == 0 or not u[0] > 0 or (np.diff(u) < 0).any():
        raise InputError("must rise from above 0", field="looks", value=u.tolist())
    top = int(u[-1] + 20.0 * np.sqrt(u[-1])) + 60
    levels = np.unique(log_ratio(np.arange(minimum, top)[:, None], u[None, :]).round(12))
    levels = levels[levels > 0.0]

    def level(critical: float) -> float:
        made = Watch(critical=critical, horizon=float(u[-1]), minimum=minimum, alpha=np.nan)
        return float(grouped_power(made, u)[-1])

    critical, reached = _least(levels, level, alpha)
    return Watch(critical=critical - 1e-11, horizon=float(u[-1]), minimum=minimum, alpha=reached)


def _least(levels: Floats, level: object, alpha: float) -> tuple[float, float]:
    """The least of the possible values of a ratio whose level does not exceed alpha, and that level."""
    assert callable(level)
    if not levels.size:
        problem = "no critical value: so many events never come"
        raise InputError(problem, field="minimum", remedy="a longer watch or fewer events")
    low, high = -1, len(levels) - 1
    if level(float(levels[high]) - 1e-11) > alpha:
        raise InputError(
            "no critical value: no count is rare enough", field="alpha", value=alpha, remedy="watch longer"
        )
    while high - low > 1:
        middle = (low + high) // 2
        if level(float(levels[middle]) - 1e-11) > alpha:
            low = middle
        else:
            high = middle
    return float(levels[high]), float(level(float(levels[high]) - 1e-11))


def _asked(alpha: float, minimum: int) -> None:
    if not 0.0 < alpha < 0.5:
        raise InputError("must be between 0 and 0.5", field="alpha", value=alpha)
    if minimum < 1:
        raise InputError("must be at least 1", field="minimum", value=minimum)


def binomial_ratio(users: ArrayLike, events: ArrayLike, odds: float) -> Floats:
    """Log likelihood ratio of c of n events being users' where 1/(1 + odds) is expected; 0 where no more are.

    >>> float(binomial_ratio(5, 5, 1.0).round(6))  # 5 log 2
    3.465736
    """
    from scipy.special import xlogy

    c, n = np.broadcast_arrays(np.asarray(users, np.float64), np.asarray(events, np.float64))
    safe = np.maximum(n, 1.0)
    found = xlogy(c, c / safe) + xlogy(n - c, (n - c) / safe) + n * np.log1p(odds) - (n - c) * np.log(odds)
    return np.where(c * (1.0 + odds) > n, found, 0.0)


def compared(plan: Compared, ratio: float) -> Floats:
    """Probability of a signal by the n-th event of both (most,), where users have it `ratio` times as often."""
    p = ratio / (ratio + plan.odds)
    alive, out, lost = np.ones(1), np.zeros(plan.most), 0.0
    for n in range(1, plan.most + 1):
        alive = np.append(alive * (1.0 - p), 0.0) + np.append(0.0, alive * p)
        c = np.arange(n + 1)
        signal = plan.signals(c, n - c)
        lost += float(alive[signal].sum())
        alive, out[n - 1] = np.where(signal, 0.0, alive), lost
    return out


def binomial(odds: float, most: int, *, alpha: float = 0.05, minimum: int = 1) -> Compared:
    """The test against comparators, looked at after every event; its level does not exceed alpha at fewer looks either.

    >>> made = binomial(1.0, 5)  # of five events all must be users': 1/32
    >>> bool(made.signals(5, 0)), bool(made.signals(4, 0)), made.alpha
    (True, False, 0.03125)
    """
    _asked(alpha, minimum)
    if not odds > 0 or not 1 <= most <= 2000:
        raise InputError("needs odds above 0 and 1 to 2000 events", field="most", value=most)
    n = np.arange(1, most + 1)
    levels = np.unique(np.concatenate([binomial_ratio(np.arange(1, k + 1), k, odds) for k in n]).round(12))

    def level(critical: float) -> float:
        return float(
            compared(Compared(critical=critical, odds=odds, most=most, minimum=minimum, alpha=np.nan), 1.0)[-1]
        )

    critical, reached = _least(levels[levels > 0], level, alpha)
    return Compared(critical=critical - 1e-11, odds=odds, most=most, minimum=minimum, alpha=reached)


def conditional_ratio(events: ArrayLike, time: ArrayLike, past: int) -> Floats:
    """Log likelihood ratio of two rates against one: k events in `time` person-years over those of the `past` events.

    >>> float(conditional_ratio(4, 0.1, 20).round(6))
    0.684316
    """
    from scipy.special import xlogy

    k, t = np.broadcast_arrays(np.asarray(events, np.float64), np.asarray(time, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = xlogy(k, k * (1.0 + t) / (t * (past + k))) + past * np.log(past * (1.0 + t) / (past + k))
    return np.where(k > past * t, found, 0.0)


def conditional(past: int, horizon: float, *, alpha: float = 0.05, minimum: int = 1) -> Conditional:
    """The test against a rate of `past` events, looked at after every event until `horizon` (person-years over
    the past's).

    >>> round(conditional(50, 0.2).alpha, 9)
    0.05
    """
    from scipy.optimize import brentq

    _asked(alpha, minimum)
    if past < 1 or not 0 < horizon * past <= 2000:
        raise InputError("needs past events, and a watch of at most 2000 of them", field="past", value=past)

    def level(critical: float) -> float:
        plan = Conditional(critical=critical, past=past, horizon=horizon, minimum=minimum, alpha=np.nan)
        return conditional_power(plan, 1.0)

    if level(1e-9) <= alpha:
        raise InputError("no critical value: so many events are rarer than alpha", field="minimum", value=minimum,
                         remedy="a longer watch or fewer events")  # fmt: skip
    critical = float(brentq(lambda c: level(c) - alpha, 1e-9, 60.0, xtol=1e-10, rtol=1e-13))
    if level(critical) > alpha * (1.0 + 1e-9):
        critical *= 1.0 + 1e-9
    return Conditional(critical=critical, past=past, horizon=horizon, minimum=minimum, alpha=level(critical))


def conditional_power(plan: Conditional, ratio: float) -> float:
    """Probability of a signal within the watch, where users have the event `ratio` times as often.

    The rate times the past's person-years is a gamma variable of shape past + 1/2 (Jeffreys' prior): between the past
    that ended with its last event (shape `past`, Li & Kulldorff's law) and the one that ended just before another.
    Given it the events are a Poisson process, so the recursion of a known rate is made once, at a rate near the mean,
    and its paths are weighted anew.
    """
    _, alive = passed(_within(plan), plan.minimum, ratio * plan.past)
    return float(1.0 - _anew(alive, plan.horizon, plan.past, ratio).sum())


def _anew(paths: Floats, time: float, past: int, ratio: float) -> Floats:
    """Probabilities of counts at a time, made at the rate ratio x past, if the rate is ratio x Gamma(past + 1/2)."""
    from scipy.special import gammaln

    rate, k = ratio * past, np.arange(len(paths))
    log_weight = (
        rate * time - k * np.log(rate) + k * np.log(ratio) + gammaln(past + 0.5 + k) - gammaln(past + 0.5)
        - (past + 0.5 + k) * np.log1p(ratio * time)
    )  # fmt: skip
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(paths) + log_weight))


def conditional_grouped_power(plan: Conditional, looks: ArrayLike, ratio: float = 1.0) -> Floats:
    """Probability of a signal by each look (T,), looks in person-years of users over those of the past, rising."""
    from scipy.stats import poisson

    t, rate = np.asarray(looks, np.float64), ratio * plan.past
    alive, before, out, lost = np.ones(1), 0.0, np.zeros(len(t)), 0.0
    for j, time in enumerate(t.tolist()):
        mean = rate * time  # its spread is that of past and present together
        size = max(len(alive), int(1.1 * mean + 12.0 * np.sqrt(mean * (1.0 + ratio * time))) + 30)
        alive = np.convolve(alive, poisson.pmf(np.arange(size), rate * (time - before)))[:size]
        signal = plan.signals(np.arange(size), time)
        lost += float(_anew(np.where(signal, alive, 0.0), time, plan.past, ratio).sum())
        alive, before, out[j] = np.where(signal, 0.0, alive), time, lost
    return out


def conditional_grouped(past: int, looks: ArrayLike, *, alpha: float = 0.05, minimum: int = 1) -> Conditional:
    """The test against past events at stated looks: the least critical value whose level does not exceed alpha."""
    t = np.asarray(looks, np.float64)
    _asked(alpha, minimum)
    top = int(past * t[-1] + 20.0 * np.sqrt(past * t[-1] * (1.0 + t[-1]))) + 60
    levels = np.unique(conditional_ratio(np.arange(minimum, top)[:, None], t[None, :], past).round(12))

    def level(critical: float) -> float:
        made = Conditional(critical=critical, past=past, horizon=float(t[-1]), minimum=minimum, alpha=np.nan)
        return float(conditional_grouped_power(made, t)[-1])

    critical, reached = _least(levels[levels > 0.0], level, alpha)
    return Conditional(critical=critical - 1e-11, past=past, horizon=float(t[-1]), minimum=minimum, alpha=reached)


def _within(plan: Conditional) -> Floats:
    """Until when a k-th event signals, k from the least number on; the last is the end of the watch."""
    most = plan.minimum
    while conditional_ratio(most, plan.horizon, plan.past) < plan.critical:
        most += max(1, most // 8)
    k = np.arange(plan.minimum, most + 1, dtype=np.float64)
    low, high = np.zeros(len(k)), k / plan.past
    for _ in range(70):
        middle = 0.5 * (low + high)
        reaches = conditional_ratio(k, middle, plan.past) >= plan.critical
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    last = int(np.searchsorted(low, plan.horizon))
    return np.asarray(np.minimum(low[: last + 1], plan.horizon), np.float64)
