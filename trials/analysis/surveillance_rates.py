"""Rates and rate ratios of a finished run of a virtual trial, one a replicate, without the chance of its subjects.

A replicate has one draw of the model's parameters and a limited number of virtual subjects: its events vary more than
its true rate. Given the rates the events of an arm are Poisson, those of two arms binomial given their sum; over the
replicates rates have a gamma law and shares a beta law, of unknown middle and spread (flat prior on the logarithm of
the one and on the other, the standard deviation of the log rate; Gelman, Bayesian Anal 2006;1:515). A replicate's rate
is drawn from its posterior, by address: over the replicates these draws have the law of the true rates, narrower than
that of the counts, and with the error of a limited number of subjects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    from trials.record import RunRecord

__all__ = ["Counted", "Law", "counted", "rate_law", "ratio_law"]

Floats = NDArray[np.float64]
LEAST = 10  # replicates
_DAYS, _CELLS, _WIDEST = 365.25, 60, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """First events (R,) and person-years at risk (R,) of an arm, by replicate."""

    events: Floats
    years: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Of a rate (per person-year) or a rate ratio over the replicates of a run.

    middle: pooled over all replicates; error: of its logarithm by the limited number of subjects; spread: posterior
    mean and 95 % limits of the standard deviation of the logarithm over replicates, without the chance of subjects;
    crude: the same with it. `drawn(place (n,), u (2, n))`: of replicates `place`.
    """

    middle: float
    error: float
    spread: tuple[float, float, float]
    crude: float
    events: tuple[int, ...]
    years: tuple[float, ...]
    replicates: int
    drawn: Callable[[NDArray[np.int64], Floats], Floats]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Posterior of middle (log) and spread on a grid of cells: both (G,), cumulated weights (G,)."""

    middle: Floats
    spread: Floats
    cumulated: Floats

    def pick(self, u: Floats) -> tuple[Floats, Floats]:
        place = np.minimum(np.searchsorted(self.cumulated, u), len(self.cumulated) - 1)
        return self.middle[place], self.spread[place]

    def told(self) -> tuple[float, float, float]:
        weight = np.diff(self.cumulated, prepend=0.0)
        order = np.argsort(self.spread, kind="stable")
        total = np.cumsum(weight[order])
        low, high = (float(self.spread[order][np.searchsorted(total, q)]) for q in (0.025, 0.975))
        return float(weight @ self.spread), low, high


def counted(record: RunRecord, event: str, arm: str) -> Counted:
    """Events and person-years of an arm: until the first event, the end of treatment or of follow-up.

    Errors: InputError for an event or arm the run does not have, for a trial in calendar time.
    """
    from pkpd.ground.text import nearest

    protocol, table = record.protocol, record.outcomes
    for what, name, known in (("event", event, record.model.events), ("arm", arm, protocol.arms)):
        if name not in known:
            problem = f"is no {what} of the run in {record.directory}"
            raise InputError(problem, field=what, value=name, remedy=nearest(name, known))
    if "entry.day" in table.columns:
        problem = "recruits in calendar time: its follow-up differs by subject, rates are not taken from it"
        raise InputError(problem, field="run", value=str(record.directory), remedy="state the ratio")
    mine = table[(table["arm"] == list(protocol.arms).index(arm)) & (table["status"] == 0)]
    times = mine[[f"{event}.day", "stopped.day", "dropout.day"]].to_numpy(np.float64)
    end = np.fmin(np.fmin(times[:, 1], times[:, 2]), _treated(record, arm))
    seen = times[:, 0] <= end
    days = np.where(seen, times[:, 0], end)
    place = mine["replicate"].to_numpy(np.int64)
    several = int(table["replicate"].max()) + 1
    return Counted(
        events=np.bincount(place, weights=seen, minlength=several),
        years=np.bincount(place, weights=days / _DAYS, minlength=several),
    )


def _treated(record: RunRecord, arm: str) -> float:
    """Day of the last visit, or of the end of the arm's doses where that is earlier."""
    protocol = record.protocol
    last = max(float(visit.day) for visit in protocol.visits.values())
    doses = protocol.arms[arm].regimen
    ends = [float(d.dose_times()[-1] + (d.every or 0.0)) / 24.0 for d in doses]
    return min(last, max(ends)) if ends else last


def _enough(several: int) -> None:
    if several < LEAST:
        problem = f"has {several} replicates: the model's uncertainty cannot be seen in so few"
        raise InputError(problem, field="run", remedy=f"run the protocol with at least {LEAST}, better 200 replicates")


def rate_law(seen: Counted) -> Law:
    """The law of an arm's rate. Errors: InputError where nothing happened or replicates are few.

    >>> same = rate_law(Counted(events=np.full(40, 500.0), years=np.full(40, 100.0)))
    >>> round(same.middle, 4), round(same.spread[0], 2)
    (5.0, 0.01)
    """
    from scipy.special import gammaincinv, gammaln

    x, t = seen.events, seen.years
    _enough(len(x))
    if x.sum() == 0:
        problem = "did not happen in the arm in any replicate: there is no rate"
        raise InputError(problem, field="event", remedy="state the rate, or run more subjects")

    def likelihood(middle: Floats, spread: Floats) -> Floats:
        a = 1.0 / spread[:, None] ** 2
        b = a / np.exp(middle[:, None])
        return np.asarray(
            (gammaln(a + x) - gammaln(a) - a * np.log1p(t / b) + x * np.log(t / (b + t))).sum(axis=1)
        )  # fmt: skip

    middle, error = float(x.sum() / t.sum()), float(1.0 / np.sqrt(x.sum()))
    grid = _grid(likelihood, np.log(middle), error, len(x))

    def drawn(place: NDArray[np.int64], u: Floats) -> Floats:
        log_mean, spread = grid.pick(u[0])
        a = 1.0 / spread**2
        return np.asarray(gammaincinv(a + x[place], u[1]) / (a / np.exp(log_mean) + t[place]))

    return Law(
        middle=middle, error=error, spread=grid.told(), crude=float(np.log(np.where(x > 0, x, 0.5) / t).std(ddof=1)),
        events=(int(x.sum()),), years=(float(t.sum()),), replicates=len(x), drawn=drawn,
    )  # fmt: skip


def ratio_law(treated: Counted, control: Counted) -> Law:
    """The law of the rate ratio of two arms of the same replicates. Errors: InputError.

    >>> some = ratio_law(Counted(events=np.full(40, 600.0), years=np.full(40, 100.0)),
    ...                  Counted(events=np.full(40, 300.0), years=np.full(40, 100.0)))
    >>> round(some.middle, 4), round(some.spread[0], 2)
    (2.0, 0.01)
    """
    from scipy.special import betaincinv, betaln

    x, y = treated.events, control.events
    _enough(len(x))
    if x.sum() == 0 or y.sum() == 0:
        problem = "did not happen in one of the two arms in any replicate: there is no ratio"
        raise InputError(problem, field="event", remedy="take the arm's own rate (as: rate) with a stated background")
    odds = control.years / treated.years

    def likelihood(middle: Floats, spread: Floats) -> Floats:
        a, b = (part[:, None] for part in _shapes(middle, spread))
        return np.asarray((betaln(a + x, b + y) - betaln(a, b)).sum(axis=1))

    pooled, error = float(x.sum() / y.sum()), float(np.sqrt(1.0 / x.sum() + 1.0 / y.sum()))
    grid = _grid(likelihood, np.log(pooled), error, len(x))

    def drawn(place: NDArray[np.int64], u: Floats) -> Floats:
        a, b = _shapes(*grid.pick(u[0]))
        p = betaincinv(a + x[place], b + y[place], u[1])
        return np.asarray(p / (1.0 - p) * odds[place])

    crude = np.log(np.where(x > 0, x, 0.5) / np.where(y > 0, y, 0.5) * odds)
    return Law(
        middle=pooled * float(control.years.sum() / treated.years.sum()), error=error, spread=grid.told(),
        crude=float(crude.std(ddof=1)), events=(int(x.sum()), int(y.sum())),
        years=(float(treated.years.sum()), float(control.years.sum())), replicates=len(x), drawn=drawn,
    )  # fmt: skip


def _shapes(middle: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Shapes of the beta law of a share whose log odds are about `middle`, with about that standard deviation."""
    share = 1.0 / (1.0 + np.exp(-middle))
    size = 1.0 / (spread**2 * share * (1.0 - share))
    return size * share, size * (1.0 - share)


def _grid(likelihood: Callable[[Floats, Floats], Floats], centre: float, error: float, several: int) -> _Grid:
    """The posterior on cells even in spread, and for each spread in the middle within 4.5 of its errors."""
    spread = (np.arange(_CELLS) + 0.5) * (_WIDEST / _CELLS)
    reach = 4.5 * np.sqrt(error**2 + spread**2 / several)
    steps = np.linspace(-1.0, 1.0, 2 * _CELLS // 3)
    middle = (centre + reach[:, None] * steps).ravel()
    every = np.repeat(spread, len(steps))
    parts = [likelihood(middle[k : k + 200], every[k : k + 200]) for k in range(0, len(middle), 200)]
    weight = np.concatenate(parts) + np.log(np.repeat(reach, len(steps)))
    weight = np.exp(weight - weight.max())
    total = np.cumsum(weight)
    return _Grid(middle, every, total / total[-1])
