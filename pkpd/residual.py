"""Residual error: how far what is measured lies from what is true. Normal, log-normal, Student t or Beta around f.

sd = sqrt(additive^2 + (proportional f)^2 + (power |f|^exponent)^2), or the sum of the three with `sum_of_sd`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws

__all__ = [
    "CombinedError",
    "correlated",
    "correlation_root",
    "error_of",
    "log_density",
    "observe",
    "sd",
    "taken",
]

Floats = NDArray[np.float64]
Term = Floats | float


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedError:
    """Residual standard deviations (they broadcast over f) and the law around f.

    `additive` in the output's unit, `proportional` a fraction, `power` with `exponent`, `log` on the log scale (then
    y = f exp(log eps)). t: degrees of freedom of a Student t eps (infinite: normal). precision > 0: y/upper is
    Beta(m precision, (1 - m) precision), m = f/upper.
    """

    additive: Term = 0.0
    proportional: Term = 0.0
    power: Term = 0.0
    log: Term = 0.0
    exponent: float = 1.0
    sum_of_sd: bool = False
    t: float = np.inf
    precision: float = 0.0
    upper: float = 1.0

    @property
    def is_log(self) -> bool:
        """Whether the error is on the log scale."""
        return bool(np.any(np.asarray(self.log) > 0.0))


def sd(error: CombinedError, f: ArrayLike) -> Floats:
    """Residual standard deviation (with t: scale) at prediction f; with `log` that of log y.

    >>> sd(CombinedError(additive=0.3, proportional=0.1), [0.0, 4.0]).tolist()
    [0.3, 0.5]
    """
    if error.is_log:
        return np.asarray(
            np.broadcast_to(np.asarray(error.log, np.float64), np.broadcast_shapes(np.shape(f), np.shape(error.log)))
        )
    relative = np.asarray(error.proportional, np.float64) * np.asarray(f, np.float64)
    additive = np.asarray(error.additive, np.float64)
    if not np.any(error.power):
        if error.sum_of_sd:
            return np.asarray(additive + np.abs(relative))
        return np.asarray(np.sqrt(additive * additive + relative * relative))
    from pkpd.kernels.elementary import power_array

    grown = np.asarray(error.power, np.float64) * power_array(np.abs(np.asarray(f, np.float64)), error.exponent)
    if error.sum_of_sd:
        return np.asarray(additive + np.abs(relative) + grown)
    return np.asarray(np.sqrt(additive * additive + relative * relative + grown * grown))


def observe(error: CombinedError, f: ArrayLike, z: ArrayLike) -> Floats:
    """What is measured where the truth is f, z standard normal. A failed prediction (NaN) stays NaN.

    Other laws take the quantile at the probability of z, so that z may be drawn by address and correlated.

    >>> observe(CombinedError(additive=0.5), 2.0, -1.0).tolist()
    1.5
    """
    f = np.asarray(f, np.float64)
    if error.precision > 0.0:
        return _beta(error, f, np.asarray(z, np.float64))
    eps = np.asarray(z, np.float64)
    if np.isfinite(error.t):
        from scipy import special

        eps = -np.sign(eps) * special.stdtrit(error.t, special.ndtr(-np.abs(eps)))
    if not error.is_log:
        return np.asarray(f + sd(error, f) * eps)
    from pkpd.kernels.elementary import exp_array

    return np.asarray(f * exp_array(sd(error, f) * eps))


def _beta(error: CombinedError, f: Floats, z: Floats) -> Floats:
    from scipy import special

    share = f / error.upper
    inside = (share > 0.0) & (share < 1.0)
    m = np.where(inside, share, 0.5)
    y = special.betaincinv(m * error.precision, (1.0 - m) * error.precision, special.ndtr(z))
    return np.asarray(np.where(inside, y * error.upper, np.where(np.isin(share, (0.0, 1.0)), f, np.nan)))


def log_density(error: CombinedError, f: ArrayLike, y: ArrayLike) -> Floats:
    """Log density of the measurement y where the truth is f; -inf where y is impossible.

    >>> float(log_density(CombinedError(additive=1.0), 0.0, 0.0).round(6))
    -0.918939
    """
    from scipy import special

    f, y = np.asarray(f, np.float64), np.asarray(y, np.float64)
    with np.errstate(all="ignore"):
        if error.precision > 0.0:
            m, share = f / error.upper, y / error.upper
            a, b = m * error.precision, (1.0 - m) * error.precision
            value = special.xlogy(a - 1.0, share) + special.xlog1py(b - 1.0, -share) - special.betaln(a, b)
            return np.asarray(np.where((share > 0.0) & (share < 1.0), value - np.log(error.upper), -np.inf))
        scale = sd(error, f)
        eps = (np.log(y) - np.log(f)) / scale if error.is_log else (y - f) / scale
        value = _standard(error.t, eps) - np.log(scale) - (np.log(y) if error.is_log else 0.0)
        return np.asarray(np.where(y > 0.0, value, -np.inf) if error.is_log else value)


def _standard(t: float, eps: Floats) -> Floats:
    """Log density of a standard normal or Student t."""
    from scipy import special

    if not np.isfinite(t):
        return np.asarray(-0.5 * eps * eps - 0.5 * np.log(2.0 * np.pi))
    constant = special.gammaln(0.5 * (t + 1.0)) - special.gammaln(0.5 * t) - 0.5 * np.log(t * np.pi)
    return np.asarray(constant - 0.5 * (t + 1.0) * np.log1p(eps * eps / t))


def correlation_root(model: Model) -> Floats:
    """Lower Cholesky factor of the correlation of the residual errors, (outputs, outputs) in the model's order."""
    names = list(model.outputs)
    matrix = np.eye(len(names))
    for a, b, r in model.residual_correlations:
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = r
    return np.linalg.cholesky(matrix)


def correlated(root: Floats, z: Floats) -> Floats:
    """Correlated standard normals from independent ones, outputs along axis 0, summed in a fixed order."""
    out = np.empty_like(z)
    for i in range(len(root)):
        total = root[i, 0] * z[0]
        for j in range(1, i + 1):
            total = total + root[i, j] * z[j]
        out[i] = total
    return out


def error_of(model: Model, draws: PopulationDraws, output: str) -> CombinedError:
    """The error of one output in every draw, its standard deviations (D,), with the law the model gives it."""
    text = model.outputs[output].error
    terms: dict[str, Any] = {kind: _term(draws, output, kind) for kind in ("additive", "proportional", "power", "log")}
    return CombinedError(
        **terms,
        exponent=1.0 if text.power is None else text.power.exponent,
        sum_of_sd=text.combine == "sd",
        t=np.inf if text.t is None else text.t,
        precision=0.0 if text.beta is None else text.beta.precision,
        upper=1.0 if text.beta is None else text.beta.upper,
    )


def taken(error: CombinedError, draw: NDArray[np.int64], shape: tuple[int, ...]) -> CombinedError:
    """The error of the chosen draws, each term reshaped to (R, *shape)."""
    terms: dict[str, Any] = {}
    for kind in ("additive", "proportional", "power", "log"):
        value = getattr(error, kind)
        if isinstance(value, np.ndarray):
            terms[kind] = value[draw].reshape(len(draw), *shape)
    return replace(error, **terms)


def _term(draws: PopulationDraws, output: str, kind: str) -> Term:
    """A standard deviation in every draw; 0 where the text leaves it out."""
    name = f"{output}.{kind}"
    return draws.error[:, draws.error_names.index(name)] if name in draws.error_names else 0.0
