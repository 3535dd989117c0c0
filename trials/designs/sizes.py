"""Sample size and power of fixed designs: means, equivalence of means, proportions.

Group 1 is the treated, group 2 the control; `ratio` is n1/n2. Sizes are real numbers: `whole` rounds them up by group.
Means: exact, by the noncentral t distribution. Equivalence: two one-sided tests (Schuirmann, J Pharmacokinet Biopharm
1987;15:657), the power integrated over the distribution of the standard deviation (Owen, Biometrika 1965;52:437).
Proportions: score tests with variances under the null by restricted maximum likelihood (Farrington & Manning, Stat Med
1990;9:1447), for a difference of 0 the pooled variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, gammaln, nctdtr, ndtr, ndtri, stdtrit

from pkpd.ground.errors import InputError
from trials.designs.roots import root

__all__ = [
    "Error", "Size", "binomial_size", "equivalence_power", "equivalence_size", "means_power", "means_size",
    "proportions_power", "proportions_size",
]  # fmt: skip

Floats = NDArray[np.float64]
LARGEST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """What a test may get wrong: `alpha` of all sides together, `power` = 1 - beta. Errors: InputError."""

    alpha: float = 0.025
    sides: int = 1
    power: float = 0.9

    def __post_init__(self) -> None:
        if self.sides not in (1, 2):
            raise InputError("must be 1 or 2", field="sides", value=self.sides, remedy="write 1 or 2")
        if not 0 < self.alpha < 0.5 * self.sides:
            raise InputError("must be between 0 and 0.5 a side", field="alpha", value=self.alpha, remedy="write 0.025")
        if not self.alpha / self.sides < self.power < 1:
            raise InputError("must lie between alpha and 1", field="power", value=self.power, remedy="write 0.9")

    @property
    def level(self) -> float:
        """Alpha of one side."""
        return self.alpha / self.sides

    @property
    def quantiles(self) -> tuple[float, float]:
        """z of alpha and of the power."""
        return float(-ndtri(self.level)), float(ndtri(self.power))

    @property
    def information(self) -> float:
        """(z_alpha + z_beta)^2."""
        return sum(self.quantiles) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Subjects as real numbers; `treated` and `control` are NaN where there is one group."""

    total: float
    treated: float = float("nan")
    control: float = float("nan")

    @property
    def whole(self) -> int:
        """Whole subjects, each group rounded up."""
        if math.isnan(self.treated):
            return _up(self.total)
        return _up(self.treated) + _up(self.control)


def _up(n: float) -> int:
    """The next whole number; 64.0000000001 is 64."""
    return math.ceil(n - 1e-9 * max(1.0, n))


def split(total: float, ratio: float) -> Size:
    """A total over two groups."""
    return Size(total=total, treated=total * ratio / (1 + ratio), control=total / (1 + ratio))


def allocated(ratio: float) -> float:
    """The allocation ratio; InputError unless > 0."""
    if not 0 < ratio < LARGEST:
        remedy = "allocation is treated : control, for example 2:1"
        raise InputError("must be > 0 for both groups", field="ratio", value=ratio, remedy=remedy)
    return ratio


def _distance(effect: float, margin: float, sd: float) -> float:
    if not sd > 0:
        raise InputError("must be > 0", field="sd", value=sd, remedy="the standard deviation of one subject's value")
    if effect == margin:
        remedy = "the effect must differ from the null hypothesis"
        raise InputError("equals the null hypothesis: no size is enough", field="effect", value=effect, remedy=remedy)
    return abs(effect - margin) / sd


def _spread(ratio: float, groups: int) -> float:
    """n x variance of the estimate / sd^2 where n is the total."""
    return 1.0 if groups == 1 else (1 + ratio) ** 2 / allocated(ratio)


def means_power(total: float, *, effect: float, sd: float, margin: float = 0.0, ratio: float = 1.0, groups: int = 2,
                level: float = 0.025) -> float:  # fmt: skip
    """Power of the t test of effect = margin with `total` subjects, at one-sided `level`, upwards or downwards.

    >>> round(means_power(128, effect=0.5, sd=1), 4)
    0.8015
    """
    df = total - groups
    shift = _distance(effect, margin, sd) * math.sqrt(total / _spread(ratio, groups))
    return float(1 - nctdtr(df, shift, -stdtrit(df, level)))


def means_size(error: Error, *, effect: float, sd: float, margin: float = 0.0, ratio: float = 1.0, groups: int = 2,
               method: str = "t") -> Size:  # fmt: skip
    """Subjects for a difference of means (or one mean, `groups=1`: paired differences, crossover).

    effect: true difference; margin: difference under the null hypothesis (not 0 for non-inferiority); method: t or
    normal (known sd). Errors: InputError (sd <= 0, effect at the margin).

    >>> round(means_size(Error(power=0.8), effect=0.5, sd=1).total, 2)
    127.53
    """
    approximate = error.information * _spread(ratio, groups) / _distance(effect, margin, sd) ** 2
    total = approximate
    if method == "t":

        def short(n: float) -> float:
            return error.power - means_power(n, effect=effect, sd=sd, margin=margin, ratio=ratio, groups=groups,
                                             level=error.level)  # fmt: skip

        total = root(short, max(approximate, groups + 1e-3), approximate + 4, grow=1.5, tolerance=1e-9)
    return split(total, ratio) if groups == 2 else Size(total=total)


@cache
def gauss_legendre(points: int) -> tuple[Floats, Floats]:
    """Nodes and weights on -1 ... 1, computed once."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return np.asarray(nodes), np.asarray(weights)


def equivalence_power(variance: float, df: float, *, effect: float, sd: float, lower: float, upper: float,
                      level: float = 0.05) -> float:  # fmt: skip
    """P(both one-sided t tests reject, each at `level`); the estimate has variance `variance` x sd^2, sd^2 has `df`.

    Bioequivalence on the log scale: lower = log 0.8, upper = log 1.25, sd of one subject's log ratio. Checked against
    the table of Phillips, J Pharmacokinet Biopharm 1990;18:137 (2x2 crossover, CV 20 %, n = 20: power 0.8347).

    >>> sd = (np.log(1 + 0.2**2)) ** 0.5
    >>> limit = np.log(1.25)
    >>> round(equivalence_power(2 / 20, 18, effect=np.log(0.95), sd=sd, lower=-limit, upper=limit), 4)
    0.8347
    """
    se, critical = sd * math.sqrt(variance), -float(stdtrit(df, level))
    widest = (upper - lower) / (2 * critical * se)  # beyond this s/sd no estimate is inside
    nodes, weights = gauss_legendre(120)
    low, high = max(0.0, 1 - 9 / math.sqrt(2 * df)), min(widest, 1 + 9 / math.sqrt(2 * df))
    if high <= low:
        return 0.0
    s = low + (nodes + 1) * (high - low) / 2
    log_density = (df - 1) * np.log(s) - df * s * s / 2 + math.log(2) + df / 2 * math.log(df / 2) - gammaln(df / 2)
    inside = ndtr((upper - effect) / se - critical * s) - ndtr((lower - effect) / se + critical * s)
    return float(np.sum(weights * np.exp(log_density) * np.maximum(inside, 0)) * (high - low) / 2)


def equivalence_size(error: Error, *, effect: float, sd: float, lower: float, upper: float, ratio: float = 1.0,
                     crossover: bool = False) -> Size:  # fmt: skip
    """Smallest whole number of subjects (even, or in steps of 1 + ratio) for two one-sided t tests at alpha each.

    sd: between subjects of a parallel design, within subjects of a 2x2 crossover. Errors: InputError (an effect
    outside the limits).

    >>> sd, limit = np.log(1 + 0.2**2) ** 0.5, np.log(1.25)
    >>> equivalence_size(Error(alpha=0.05, power=0.8), effect=np.log(0.95), sd=sd, lower=-limit, upper=limit,
    ...                  crossover=True).total
    20.0
    """
    if not lower < effect < upper:
        problem = f"must lie between the limits {lower:g} and {upper:g}"
        raise InputError(problem, field="effect", value=effect, remedy="no size shows equivalence of what is not")
    spread = 2.0 if crossover else _spread(ratio, 2)
    step = 2 if crossover or float(ratio).is_integer() is False else 1 + int(ratio)

    def enough(n: int) -> bool:
        found = equivalence_power(spread / n, n - 2, effect=effect, sd=sd, lower=lower, upper=upper, level=error.level)
        return found >= error.power

    n = _first(enough, step)
    return Size(total=float(n)) if crossover else split(float(n), ratio)


def _first(enough: Callable[[int], bool], step: int) -> int:
    """The first multiple of `step` above 3 that is enough, by doubling and bisection."""
    high = max(1, -(-4 // step))
    low = high - 1
    while not enough(high * step):
        low, high = high, 2 * high
        if high * step > LARGEST:
            raise InputError("needs more than 10^9 subjects", field="effect", remedy="a larger effect, a wider limit")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle * step) else (middle, high)
    return high * step


def restricted(p1: ArrayLike, p2: ArrayLike, null: float, ratio: ArrayLike, *, measure: str) -> tuple[Floats, Floats]:
    """Maximum likelihood rates under p1 - p2 = null (or p1/p2 = null) where p1, p2 are seen in groups ratio : 1.

    Arrays broadcast. Farrington & Manning, Stat Med 1990;9:1447, appendix.
    """
    one, two, r = (np.asarray(x, dtype=np.float64) for x in (p1, p2, ratio))
    if measure == "ratio":
        a, b = (1 + r) * null, -(null * r + one * r + 1 + two * null)
        second = (-b - np.sqrt(b * b - 4 * a * (one * r + two))) / (2 * a)
        return null * second, second
    if null == 0:
        pooled = (r * one + two) / (r + 1)
        return pooled, pooled
    share = 1 / r  # their theta = n2/n1
    a, b = 1 + share, -(1 + share + one + share * two + null * (share + 2))
    c, d = null * null + null * (2 * one + share + 1) + one + share * two, -one * null * (1 + null)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a * a) + d / (2 * a)
    u = np.copysign(np.sqrt(np.maximum((b / (3 * a)) ** 2 - c / (3 * a), 0.0)), v)
    cosine = np.where(u == 0, 0.0, v / np.where(u == 0, 1.0, u) ** 3)
    w = (np.pi + np.arccos(np.clip(cosine, -1.0, 1.0))) / 3
    first = np.clip(2 * u * np.cos(w) - b / (3 * a), max(0.0, null), min(1.0, 1 + null))
    return first, first - null


def _rate(p: float, field: str) -> float:
    if not 0 < p < 1:
        raise InputError("must be between 0 and 1", field=field, value=p, remedy="write a probability, for example 0.3")
    return p


def _deviations(p1: float, p2: float, null: float, ratio: float, *, measure: str) -> tuple[float, float, float]:
    """sqrt(n2 x variance) of the test's numerator under the null and the true rates; the distance."""
    _rate(p1, "treated"), _rate(p2, "control"), allocated(ratio)
    if measure not in ("difference", "ratio"):
        raise InputError("must be difference or ratio", field="measure", value=measure, remedy="write difference")
    weight = null if measure == "ratio" else 1.0
    distance = p1 - null * p2 if measure == "ratio" else p1 - p2 - null
    if distance == 0:
        raise InputError("equals the null hypothesis: no size is enough", field="treated", value=p1,
                         remedy="the effect must differ from the margin")  # fmt: skip
    q1, q2 = (float(q) for q in restricted(p1, p2, null, ratio, measure=measure))
    under = [math.sqrt(a * (1 - a) / ratio + weight**2 * b * (1 - b)) for a, b in ((q1, q2), (p1, p2))]
    return under[0], under[1], abs(distance)


def proportions_size(error: Error, *, treated: float, control: float, null: float | None = None, ratio: float = 1.0,
                     measure: str = "difference") -> Size:  # fmt: skip
    """Subjects for two proportions: difference or ratio, superiority or (null not 0 or 1) non-inferiority.

    >>> round(proportions_size(Error(), treated=0.4, control=0.2).total, 3)
    216.471
    """
    null = _null(null, measure)
    zero, one, distance = _deviations(treated, control, null, ratio, measure=measure)
    z_alpha, z_beta = error.quantiles
    second = ((z_alpha * zero + z_beta * one) / distance) ** 2
    return Size(total=second * (1 + ratio), treated=second * ratio, control=second)


def proportions_power(total: float, *, treated: float, control: float, null: float | None = None, ratio: float = 1.0,
                      measure: str = "difference", level: float = 0.025) -> float:  # fmt: skip
    """Power of the score test with `total` subjects (normal approximation).

    >>> round(proportions_power(216.471, treated=0.4, control=0.2), 4)
    0.9
    """
    null = _null(null, measure)
    zero, one, distance = _deviations(treated, control, null, ratio, measure=measure)
    return float(ndtr((distance * math.sqrt(total / (1 + ratio)) + float(ndtri(level)) * zero) / one))


def _null(null: float | None, measure: str) -> float:
    return float(measure == "ratio") if null is None else null


def binomial_size(error: Error, *, rate: float, null: float, exact: bool = True) -> Size:
    """Subjects for one proportion against `null`: score test by normal approximation, or the exact binomial test.

    Exact power is a sawtooth of n: the size is the smallest n whose power suffices; a few larger ones may not.

    >>> binomial_size(Error(), rate=0.5, null=0.3).total
    66.0
    """
    _rate(rate, "treated"), _rate(null, "null")
    if rate == null:
        raise InputError("equals the null hypothesis: no size is enough", field="treated", value=rate)
    z_alpha, z_beta = error.quantiles
    deviation = z_alpha * math.sqrt(null * (1 - null)) + z_beta * math.sqrt(rate * (1 - rate))
    approximate = (deviation / (rate - null)) ** 2
    if not exact:
        return Size(total=approximate)
    n = max(1, int(0.5 * approximate) - 10)
    while _binomial_power(n, rate, null, error.level) < error.power:
        n += 1
    return Size(total=float(n))


def _binomial_power(n: int, rate: float, null: float, level: float) -> float:
    """Power of the exact one-sided binomial test towards `rate`."""
    if rate < null:
        rate, null = 1 - rate, 1 - null
    at_least = np.arange(n + 1)
    tails = np.concatenate([[1.0], bdtrc(at_least[:-1], n, null)])  # P(X >= x)
    allowed = np.flatnonzero(tails <= level)
    if not allowed.size:
        return 0.0
    first = int(allowed[0])
    return 1.0 if first == 0 else float(bdtrc(first - 1, n, rate))
