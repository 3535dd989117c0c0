"""Bayesian reading of a comparison: what a trial's estimate and a prior say together.

The estimate's likelihood is normal, or Student's t where its standard error is estimated with finite degrees of
freedom; the prior is a mixture of normals on the scale on which the estimate is about normal (differences, logarithms
of ratios): Spiegelhalter, Freedman & Parmar, JRSS A 1994;157:357; a vague part makes it robust (Schmidli et al.,
Biometrics 2014;70:1023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["NormalMixture", "Updated", "updated"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalMixture:
    """Weights (sum 1), means and sds of a mixture of normals.

    >>> NormalMixture(weight=(0.8, 0.2), mean=(-0.4, 0.0), sd=(0.2, 2.0)).table.shape
    (3, 2)
    """

    weight: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.weight) == len(self.mean) == len(self.sd) >= 1:
            raise InputError("weight, mean and sd must be of one length", field="prior")
        if min(self.weight) <= 0.0 or abs(sum(self.weight) - 1.0) > 1e-9:
            raise InputError("must be above 0 and sum to 1", field="prior.weight", value=self.weight)
        if min(self.sd) <= 0.0:
            raise InputError("must be above 0", field="prior.sd", value=min(self.sd))

    @property
    def table(self) -> Floats:
        """(3, K)."""
        return np.asarray([self.weight, self.mean, self.sd], np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """Posterior of each contrast, all of the estimates' shape: mean, sd, equal-tailed interval (lower, upper),
    below and above: probability of either side of the margin.
    """

    mean: Floats
    sd: Floats
    lower: Floats
    upper: Floats
    below: Floats
    above: Floats


def updated(
    estimate: ArrayLike, se: ArrayLike, prior: NormalMixture, *, df: ArrayLike = np.inf, margin: float = 0.0,
    level: float = 0.95,
) -> Updated:  # fmt: skip
    """Posteriors of estimates (...) with standard errors and degrees of freedom (broadcast); NaN stays NaN.

    Conjugate where df is infinite: precision 1/se^2 + 1/sd^2.

    >>> made = updated(-0.5, 0.2, NormalMixture(weight=(1.0,), mean=(0.0,), sd=(0.2,)))
    >>> round(float(made.mean), 6), round(float(made.sd), 6)
    (-0.25, 0.141421)
    """
    from trials.kernels.updating import update

    if not 0.0 < level < 1.0:
        raise InputError("must be between 0 and 1", field="level", value=level)
    value, error, freedom = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (estimate, se, df)))
    out = np.empty((value.size, 6))
    flat = [np.ascontiguousarray(a).reshape(-1) for a in (value, error, freedom)]
    update(flat[0], flat[1], flat[2], prior.table, float(margin), 0.5 - 0.5 * level, out)
    return Updated(**{name: out[:, k].reshape(value.shape) for k, name in enumerate(Updated.__slots__)})
