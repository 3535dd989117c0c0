"""Recruitment at many sites: the Poisson-gamma model, exact where it can be, simulated with what it cannot.

Site i recruits as a Poisson process of rate lambda_i ~ Gamma(shape a = 1/cv^2, mean m) once it is open. With S sites
open for t, the total is negative binomial of size S a and mean S m t, and the time to n subjects is a/m times a beta
prime (n, S a) variable. Simulation adds opening dates, caps per site and for the trial, screen failure and a ramp-up:
`simulate` up to a time, `arrivals` subject by subject.

Source: Anisimov & Fedorov, Stat Med 2007;26:4958. Time in any one unit; rates are per site and that unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

__all__ = ["Arrivals", "Sites", "arrivals", "empty_sites", "mean_and_sd", "simulate", "time_to", "total_quantile"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """`number` of sites, `rate` = mean rate of a site, `cv` of rates between sites (0: all the same); share of those
    screened who fail (`screen_failure`: rates are of the screened); `opening` times (S,) (empty: all at 0); `cap` of
    enrolled subjects at one site."""

    number: int
    rate: float
    cv: float = 0.0
    screen_failure: float = 0.0
    opening: tuple[float, ...] = ()
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.number < 1 or not self.rate > 0 or self.cv < 0:
            raise InputError("needs sites, a rate > 0 and a cv >= 0", field="sites", value=[self.number, self.rate])
        if not 0 <= self.screen_failure < 1:
            raise InputError("must lie in 0 ... 1", field="screen_failure", value=self.screen_failure)
        if self.opening and (len(self.opening) != self.number or min(self.opening) < 0):
            raise InputError(f"needs {self.number} times >= 0", field="opening", value=list(self.opening))
        if self.cap is not None and self.cap < 1:
            raise InputError("must be >= 1", field="cap", value=self.cap)

    @property
    def enrolled_rate(self) -> float:
        """Mean rate of enrolment of one site."""
        return self.rate * (1 - self.screen_failure)


def _simple(sites: Sites) -> None:
    if sites.opening or sites.cap is not None:
        remedy = "simulate it"
        raise InputError("has no closed form with opening dates or caps", field="opening", remedy=remedy)


def mean_and_sd(sites: Sites, time: float) -> tuple[float, float]:
    """Mean and SD of the total after `time`.

    >>> [round(x, 4) for x in mean_and_sd(Sites(number=20, rate=0.5, cv=0.8), 12.0)]
    [120.0, 24.0998]
    """
    _simple(sites)
    mean = sites.number * sites.enrolled_rate * time
    return mean, float(np.sqrt(mean + mean**2 * sites.cv**2 / sites.number))


def _at_least(sites: Sites, time: ArrayLike, target: ArrayLike) -> Floats:
    """P(total after `time` >= `target`)."""
    from scipy.special import betainc, gammainc

    t, n = np.asarray(time, dtype=np.float64), np.asarray(target, dtype=np.float64)
    mean = sites.number * sites.enrolled_rate * t
    safe = np.maximum(n, 1.0)
    if sites.cv == 0:
        found = gammainc(safe, mean)
    else:
        size = sites.number / sites.cv**2
        found = betainc(safe, size, mean / (mean + size))
    return np.where(n <= 0, 1.0, found)


def total_quantile(sites: Sites, time: float, level: ArrayLike) -> NDArray[np.int64]:
    """The smallest total k with P(total <= k) >= level, by bisection on the exact distribution.

    >>> total_quantile(Sites(number=20, rate=0.5, cv=0.8), 12.0, [0.05, 0.5, 0.95]).tolist()
    [83, 119, 162]
    """
    _simple(sites)
    wanted = np.atleast_1d(np.asarray(level, dtype=np.float64))
    if ((wanted <= 0) | (wanted >= 1)).any():
        raise InputError("must lie inside 0 ... 1", field="level", value=wanted.tolist())
    mean, sd = mean_and_sd(sites, time)
    low = np.full(wanted.shape, -1, dtype=np.int64)
    high = np.full(wanted.shape, int(mean + 10 * sd + 50), dtype=np.int64)
    while (1 - _at_least(sites, time, high + 1) < wanted).any():
        high = high * 2
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = 1 - _at_least(sites, time, middle + 1) >= wanted
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


def time_to(sites: Sites, target: int, level: ArrayLike) -> Floats:
    """Quantiles of the time to `target` subjects.

    >>> time_to(Sites(number=20, rate=0.5, cv=0.8), 120, 0.5).round(4).tolist()
    12.0954
    """
    from scipy.special import betaincinv, gammaincinv

    _simple(sites)
    if target < 1:
        raise InputError("must be >= 1", field="target", value=target)
    wanted, rate = np.asarray(level, dtype=np.float64), sites.number * sites.enrolled_rate
    if sites.cv == 0:
        return np.asarray(gammaincinv(target, wanted) / rate)
    size = sites.number / sites.cv**2
    share = betaincinv(float(target), size, wanted)
    return np.asarray(size / rate * share / (1 - share))


def empty_sites(sites: Sites, time: float) -> float:
    """Expected number of sites without a subject after `time`.

    >>> round(empty_sites(Sites(number=20, rate=0.5, cv=0.8), 12.0), 4)
    1.702
    """
    _simple(sites)
    mean = sites.enrolled_rate * time
    each = np.exp(-mean) if sites.cv == 0 else (1 + mean * sites.cv**2) ** (-1 / sites.cv**2)
    return float(sites.number * each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Simulated enrolment: `by_site` (R, S) subjects at the end, `total` (R,), and the sorted times (R, K) of the
    subjects, NaN where there is none."""

    by_site: NDArray[np.int64]
    total: NDArray[np.int64]
    times: Floats


def simulate(sites: Sites, until: float, *, seed: int, replicates: ArrayLike, most: int | None = None) -> Arrivals:
    """Enrolment up to time `until`, or to `most` subjects in all, whichever is first.

    Address: a site's rate (slot 0), its number of arrivals (slot 1) and their times (slot 2, index = arrival): a site
    that opens later, or an arm more, changes no other site. A cap keeps the first subjects of a site.
    """
    names, site = np.asarray(replicates, dtype=np.int64)[:, None], np.arange(sites.number)
    opening = np.array(sites.opening or (0.0,) * sites.number)
    at = {"subject": site, "replicate": names}
    rate = _rates(sites, uniforms(seed, Purpose.RECRUITMENT, **at, slot=0))
    count = _poisson(rate * np.maximum(until - opening, 0.0), uniforms(seed, Purpose.RECRUITMENT, **at, slot=1))
    index = np.arange(int(count.max(initial=0)))
    each = {"subject": site[:, None], "replicate": names[:, :, None], "index": index}
    u = uniforms(seed, Purpose.RECRUITMENT, **each, slot=2)
    when = np.where(index < count[:, :, None], opening[:, None] + u * (until - opening)[:, None], np.nan)
    when = np.sort(when, axis=2)[:, :, : sites.cap]
    flat = np.sort(when.reshape(when.shape[0], -1), axis=1)
    last = np.full(flat.shape[0], np.inf)
    if most is not None and flat.shape[1] >= most:
        last = np.where(np.isnan(flat[:, most - 1]), np.inf, flat[:, most - 1])
        flat = flat[:, :most]
    by_site = np.asarray((when <= last[:, None, None]).sum(axis=2), dtype=np.int64)
    return Arrivals(by_site=by_site, total=by_site.sum(axis=1), times=flat)


def arrivals(
    sites: Sites, count: int, *, seed: int, replicates: ArrayLike, first: int = 0, ramp: float = 0.0
) -> Floats:
    """Times (R, S, count) of the first subjects of each site, ascending, without caps.

    A site's rate rises linearly from 0 at its opening to its full value after `ramp`. Address: site number `first` + i,
    slot 0 its rate, slot 3 the waiting times (index = subject): more subjects or sites change none of these.

    >>> early = arrivals(Sites(number=2, rate=1.0), 3, seed=1, replicates=[0])
    >>> bool((early == arrivals(Sites(number=2, rate=1.0), 9, seed=1, replicates=[0])[:, :, :3]).all())
    True
    """
    from pkpd.kernels.elementary import log_array

    names, site = np.asarray(replicates, dtype=np.int64)[:, None], first + np.arange(sites.number)
    rate = _rates(sites, uniforms(seed, Purpose.RECRUITMENT, subject=site, replicate=names, slot=0))
    u = uniforms(
        seed, Purpose.RECRUITMENT, subject=site[:, None], replicate=names[:, :, None], index=np.arange(count), slot=3
    )
    full = np.cumsum(-log_array(u), axis=2) / rate[:, :, None]  # days at the full rate
    waited = np.where(full < ramp / 2, np.sqrt(2 * ramp * full), full + ramp / 2)
    opening = np.array(sites.opening or (0.0,) * sites.number)
    return np.asarray(opening[:, None] + waited)


def _rates(sites: Sites, u: Floats) -> Floats:
    """Rates of enrolment (R, S): inverse gamma distribution function."""
    from scipy.special import gammaincinv

    if sites.cv == 0:
        return np.full(u.shape, sites.enrolled_rate)
    shape = 1 / sites.cv**2
    return np.asarray(gammaincinv(shape, u) * sites.enrolled_rate / shape)


def _poisson(mean: Floats, u: Floats) -> NDArray[np.int64]:
    """Inverse Poisson distribution function, element by element: the smallest k with P(X <= k) >= u."""
    from scipy.special import gammaincc

    low = np.full(mean.shape, -1, dtype=np.int64)
    high = np.asarray(np.ceil(mean + 12 * np.sqrt(mean) + 40), dtype=np.int64)
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = (gammaincc(np.maximum(middle, 0) + 1.0, mean) >= u) & (middle >= 0)
        move = high - low > 1
        low, high = np.where(move & ~enough, middle, low), np.where(move & enough, middle, high)
    return high
