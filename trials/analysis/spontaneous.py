"""Would spontaneous reports show it, and when? Reports simulated from a trial's rates, watched period by period.

In each period the users of the product suffer the event at a rate of their own and other events at theirs, a share of
which is reported; reports of other products come at the database's rates. All counts are Poisson, by address. Signals
are looked for at the end of each period, on all that was reported so far: IC025 > 0, EB05 >= 2 under stated
hyperparameters, and the sequential test of the product's reports against those the background rate would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.analysis.signals import odds_ratio_limit, yates
from trials.analysis.signals_fit import Theta, below
from trials.analysis.surveillance import Watch
from trials.operating import Estimate, proportion

__all__ = [
    "Cells", "Detection", "Market", "detections", "incidence_rates", "meets", "poisson_quantile",
    "reported",
]  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What happens after approval, in T periods of equal length.

    exposed (T,): person-years of the product's users; background: rate of the event per person-year without the
    product; others: rate of all other events of its users; reporting: share of events that is reported; database:
    reports of the event and of all other events that name other products only, by period.
    """

    exposed: tuple[float, ...]
    background: float
    others: float
    reporting: float
    database: tuple[float, float]

    def __post_init__(self) -> None:
        for name, value in (("exposed", min(self.exposed, default=0.0)), ("background", self.background),
                            ("others", self.others), ("database", min(self.database))):  # fmt: skip
            if not value > 0.0:
                raise InputError("must be above 0", field=name, value=value)
        if not 0.0 < self.reporting <= 1.0:
            raise InputError("must be above 0 and at most 1", field="reporting", value=self.reporting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Reports so far at the end of each period, (R, T) each: of product and event, of the product without the event, of
    the event without the product, of neither.
    """

    both: Floats
    product: Floats
    event: Floats
    neither: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A criterion: first (R,), number of the period of the first signal, from 1 on, 0: none; by (T,): share of
    replicates with a signal up to the end of each period.
    """

    first: NDArray[np.int64]
    by: tuple[Estimate, ...]


def incidence_rates(events: ArrayLike, years: ArrayLike) -> Floats:
    """Rates per person-year of replicates (R,) of a trial arm from events and person-years at risk; half an event is
    added to either of none, so that no replicate says that the event cannot happen.

    >>> incidence_rates([3, 0], [100.0, 50.0]).tolist()
    [0.03, 0.01]
    """
    n, t = np.asarray(events, np.float64), np.asarray(years, np.float64)
    if not (t > 0).all():
        raise InputError("must be above 0", field="years", value=float(np.min(t)))
    return np.asarray(np.where(n > 0, n, 0.5) / t)


def reported(market: Market, rate: ArrayLike, *, seed: int) -> Cells:
    """Reports under the product's own rates of the event per person-year (R,), one of each replicate."""
    own = np.asarray(rate, np.float64)[:, None] * np.asarray(market.exposed)[None, :] * market.reporting
    other = np.broadcast_to(market.others * np.asarray(market.exposed)[None, :] * market.reporting, own.shape)
    rest = [np.full(own.shape, value) for value in market.database]
    counts = [_poisson(mean, seed, slot) for slot, mean in enumerate((own, other, *rest))]
    both, product, event, neither = (np.cumsum(n, axis=1) for n in counts)
    return Cells(both=both, product=product, event=event, neither=neither)


def _poisson(mean: Floats, seed: int, slot: int) -> Floats:
    replicate, period = np.arange(mean.shape[0])[:, None], np.arange(mean.shape[1])[None, :]
    return poisson_quantile(uniforms(seed, Purpose.SPONTANEOUS, subject=period, replicate=replicate, slot=slot), mean)


def poisson_quantile(u: Floats, mean: Floats) -> Floats:
    """The least count whose probability of not being exceeded is at least u: a normal guess, then whole steps.

    >>> poisson_quantile(np.array([0.5, 0.999]), np.array([3.2, 0.0])).tolist()
    [3.0, 0.0]
    """
    from scipy.special import ndtri, pdtr

    z, m = ndtri(u), np.broadcast_to(mean, u.shape)
    k = np.maximum(np.floor(m + z * np.sqrt(m) + (z * z - 1.0) / 6.0), 0.0)
    moving = np.ones(u.shape, np.bool_)  # too low: up until it is not
    while moving.any():
        moving[moving] = pdtr(k[moving], m[moving]) < u[moving]
        k[moving] += 1.0
    moving = k > 0  # too high: down while one less would do
    while moving.any():
        moving[moving] = pdtr(k[moving] - 1.0, m[moving]) >= u[moving]
        k[moving] -= 1.0
        moving &= k > 0
    return np.asarray(k)


def meets(criterion: str, cells: Cells, theta: Theta | None = None) -> NDArray[np.bool_]:
    """Which tables meet a criterion: EB05 >= 2 (needs hyperparameters), IC025 > 0, PRR >= 2 with chi-squared >= 4 and
    n >= 3, lower limit of ROR > 1 with n >= 3. Arrays of one shape.
    """
    from scipy.special import gammainc

    a, b, c, d = cells.both, cells.product, cells.event, cells.neither
    if criterion in ("EB05", "IC025"):
        expected = np.where(a > 0, (a + b) * (a + c) / np.maximum(a + b + c + d, 1.0), 1.0)
        if criterion == "IC025":  # its quantile is above 1 where 1 is not reached with probability 0.025
            return np.asarray((a > 0) & (gammainc(a + 0.5, expected + 0.5) < 0.025))
        if theta is None:
            raise InputError("needs hyperparameters", field="theta", remedy="give alpha1, beta1, alpha2, beta2, p")
        return np.asarray((a > 0) & (below(2.0, a, expected, theta) <= 0.05))
    enough = (a >= 3) & (c > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if criterion == "PRR":
            ratio = a * (c + d) / ((a + b) * c)
            return np.asarray(enough & (ratio >= 2.0) & (yates(a, b, c, d) >= 4.0))
        return np.asarray(enough & (odds_ratio_limit(a, b, c, d) > 1.0))


def detections(
    market: Market, cells: Cells, *, theta: Theta | None = None, watch: Watch | None = None
) -> Mapping[str, Detection]:
    """When each criterion first holds: `IC025`, `EB05` with hyperparameters, `maxSPRT` with a plan."""
    found = {"IC025": _detection(meets("IC025", cells))}
    if theta is not None:
        found["EB05"] = _detection(meets("EB05", cells, theta))
    if watch is not None:
        null = np.cumsum(market.exposed) * market.background * market.reporting
        found["maxSPRT"] = _detection(watch.signals(cells.both, null[None, :]))
    return found


def _detection(signal: NDArray[np.bool_]) -> Detection:
    so_far = np.logical_or.accumulate(signal, axis=1)
    first = np.where(so_far[:, -1], signal.argmax(axis=1) + 1, 0)
    return Detection(first=first, by=tuple(proportion(so_far[:, k]) for k in range(signal.shape[1])))
