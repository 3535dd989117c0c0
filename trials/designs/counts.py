"""Sample size for event counts: negative binomial rates, fixed exposure or exposure by calendar.

The variance of the log rate of a subject observed for t is 1/(rate t) + k, k the overdispersion (variance of counts:
mu + k mu^2; k = 0 is Poisson). Zhu & Lakkis, Stat Med 2014;33:376 (method 3, as in rpact); Muetze et al., Stat Methods
Med Res 2019;28:2326 for exposures that differ.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pkpd.ground.errors import InputError
from trials.designs.sizes import Error, Size, allocated
from trials.designs.survival import NONE, Accrual, Hazard

__all__ = ["Exposure", "counts_power", "counts_size"]

Floats = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


class Exposure:
    """How long subjects are observed: the same time for all, or from entry to the end of the study or dropout."""

    def __init__(self, *, fixed: float | None = None, accrual: Accrual | None = None, follow_up: float = 0.0,
                 dropout: Hazard = NONE) -> None:  # fmt: skip
        if (fixed is None) == (accrual is None):
            raise InputError("give one of a fixed time and accrual", field="exposure", remedy="remove the other")
        if fixed is not None and not fixed > 0:
            raise InputError("must be > 0", field="exposure.fixed", value=fixed, remedy="write the observation time")
        if len(dropout.rates) > 1:
            raise InputError("must have one rate here", field="exposure.dropout", value=list(dropout.rates))
        self.fixed, self.accrual, self.follow_up, self.rate = fixed, accrual, follow_up, dropout.rates[0]

    def information(self, rate: float, overdispersion: float) -> float:
        """Mean information of one subject about the log rate: E[1/(1/(rate t) + k)].

        >>> round(Exposure(fixed=1).information(0.8, 0.4), 4)
        0.6061
        """
        if self.fixed is not None:
            return float(self._left(np.array([self.fixed]), rate, overdispersion)[0])
        assert self.accrual is not None
        accrual, end = self.accrual, self.accrual.duration + self.follow_up
        total = 0.0
        for (low, high), share in zip(zip(accrual.times, accrual.times[1:]), accrual.shares):
            entry = (low + high) / 2 + (high - low) / 2 * _NODES
            total += share * float(np.sum(_WEIGHTS / 2 * self._left(end - entry, rate, overdispersion)))
        return total

    def _left(self, planned: Floats, rate: float, k: float) -> Floats:
        """Mean information of subjects who would stay for `planned` times and drop out at a constant rate."""

        def of(t: Floats) -> Floats:
            return rate * t / (1 + k * rate * t)

        if self.rate == 0:
            return of(planned)
        t = planned[:, None] / 2 * (1 + _NODES)
        lost = np.sum(planned[:, None] / 2 * _WEIGHTS * self.rate * np.exp(-self.rate * t) * of(t), axis=1)
        return lost + np.exp(-self.rate * planned) * of(planned)


def _variance(rates: tuple[float, float], overdispersion: float, exposure: Exposure, ratio: float) -> float:
    """n2 x variance of the log rate ratio."""
    treated, control = (exposure.information(rate, overdispersion) for rate in rates)
    return 1 / (ratio * treated) + 1 / control


def _checked(control: float, rate_ratio: float, null: float, overdispersion: float) -> float:
    """The distance on the log scale."""
    if not control > 0:
        raise InputError("must be > 0", field="control", value=control, remedy="events per unit of time")
    if not overdispersion >= 0:
        raise InputError("must be >= 0", field="overdispersion", value=overdispersion, remedy="0 for Poisson counts")
    if not rate_ratio > 0 or not null > 0 or rate_ratio == null:
        problem = "must be > 0 and differ from the null hypothesis"
        raise InputError(problem, field="rate_ratio", value=rate_ratio, remedy="write for example 0.7")
    return math.log(rate_ratio / null)


def counts_size(error: Error, *, control: float, rate_ratio: float, overdispersion: float, exposure: Exposure,
                null: float = 1.0, ratio: float = 1.0) -> Size:  # fmt: skip
    """Subjects for a ratio of negative binomial rates; `control` is the events per unit of time.

    >>> counts_size(Error(), control=1, rate_ratio=0.8, overdispersion=0.4, exposure=Exposure(fixed=1)).whole
    1288
    """
    distance = _checked(control, rate_ratio, null, overdispersion)
    variance = _variance((control * rate_ratio, control), overdispersion, exposure, allocated(ratio))
    second = error.information * variance / distance**2
    return Size(total=second * (1 + ratio), treated=second * ratio, control=second)


def counts_power(total: float, *, control: float, rate_ratio: float, overdispersion: float, exposure: Exposure,
                 null: float = 1.0, ratio: float = 1.0, level: float = 0.025) -> float:  # fmt: skip
    """Power with `total` subjects.

    >>> round(counts_power(1288, control=1, rate_ratio=0.8, overdispersion=0.4, exposure=Exposure(fixed=1)), 4)
    0.9002
    """
    distance = abs(_checked(control, rate_ratio, null, overdispersion))
    variance = _variance((control * rate_ratio, control), overdispersion, exposure, allocated(ratio))
    return float(ndtr(distance * math.sqrt(total / (1 + ratio) / variance) + float(ndtri(level))))
