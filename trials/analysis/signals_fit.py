"""Multi-item gamma-Poisson shrinker: lambda = observed / expected has a mixture of two gamma laws as its prior.

n ~ Poisson(lambda E), lambda ~ P Gamma(alpha1, beta1) + (1 - P) Gamma(alpha2, beta2) (rates beta); marginally a mixture
of negative binomials. Pairs that no report names are not in the table, so the law is truncated at n >= 1: `component`
(each component by itself, as DuMouchel & Pregibon and openEBGM do: p is then a share of the pairs seen), `joint` (the
mixture: p is a share of all pairs) or `none` (cells of 0 are given too). The fit: damped Newton steps from several
starts in log and logit coordinates, EM where they fail, then the Hessian is looked at.
Sources: DuMouchel, Am Stat 1999;53:177; DuMouchel & Pregibon, KDD 2001; openEBGM (Canida & Ihrie, R J 2017;9:499).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Cells", "Fit", "Shrunk", "SignalStatus", "Theta", "below", "cells_of", "coordinates", "em", "fit",
    "log_likelihood", "logs_and_share", "negative_log_likelihood", "shrunk", "theta_of",
]  # fmt: skip

Floats = NDArray[np.float64]
Truncation = Literal["component", "joint", "none"]
Cells = tuple[Floats, Floats, Floats, Truncation]  # n, expected, weight, truncation
STARTS: Final = (
    (0.2, 0.1, 2.0, 4.0, 1 / 3), (2.0, 0.5, 2.0, 2.0, 0.1), (0.5, 0.05, 3.0, 3.0, 0.02), (10.0, 1.0, 4.0, 3.0, 0.05),
    (0.1, 0.1, 10.0, 10.0, 0.2), (30.0, 3.0, 2.0, 2.0, 0.02),
)  # fmt: skip
_NONE = (np.nan, np.nan, np.nan, np.nan, np.nan)
_EDGE = 13.0  # beyond exp(13) or below exp(-13) a parameter has left for the edge of its range
_ENOUGH = 1e-10  # what another Newton step would still gain


class SignalStatus(IntEnum):
    """How a fit ended; without OK there are no shrunk scores unless the caller gives hyperparameters."""

    OK = 0
    NOT_CONVERGED = 1
    NOT_A_MINIMUM = 2
    EDGE = 3
    TOO_FEW = 4

    @property
    def advice(self) -> str:
        """One sentence for the reader."""
        return _ADVICE[self]


_ADVICE = {
    SignalStatus.OK: "the optimum was found and its Hessian is positive definite",
    SignalStatus.NOT_CONVERGED: "no start reached an optimum; give hyperparameters of a larger data base",
    SignalStatus.NOT_A_MINIMUM: "the Hessian is not positive definite; give hyperparameters of a larger data base",
    SignalStatus.EDGE: "the data do not tell two components apart; give hyperparameters of a larger data base",
    SignalStatus.TOO_FEW: "fewer than 20 different cells; give hyperparameters of a larger data base",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Theta:
    """Hyperparameters; component 1 has weight p and, as fitted, the larger mean."""

    alpha1: float
    beta1: float
    alpha2: float
    beta2: float
    p: float

    def __post_init__(self) -> None:
        from pkpd.ground.errors import InputError

        sizes = (self.alpha1, self.beta1, self.alpha2, self.beta2)
        if not all(0.0 < size < np.inf for size in sizes) or not 0.0 <= self.p <= 1.0:
            remedy = "alpha1, beta1, alpha2, beta2 > 0 and p between 0 and 1"
            raise InputError("are not hyperparameters", field="theta", value=self.text(), remedy=remedy)

    def text(self) -> str:
        """Five numbers, comma-separated."""
        return ", ".join(f"{v:.6g}" for v in (self.alpha1, self.beta1, self.alpha2, self.beta2, self.p))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Hyperparameters with standard errors (delta method; NaN unless OK) and how they were found.

    negative_log_likelihood: without the constants log n!; starts: how many; agreed: how many ended within 0.01 of the
    best; used_em: EM was needed; left: what another Newton step promises; others: further local optima that are less
    than 3 worse, best first, each with its -log likelihood: scores that change much between them are not settled.
    """

    theta: Theta
    se: tuple[float, float, float, float, float]
    negative_log_likelihood: float
    status: SignalStatus
    starts: int
    agreed: int
    used_em: bool
    left: float
    others: tuple[tuple[float, Theta], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """Posterior of lambda: geometric mean, quantiles 5 % and 95 %, weight of component 1; arrays of one shape."""

    ebgm: Floats
    eb05: Floats
    eb95: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class _End:
    x: Floats
    value: float
    gradient: Floats
    hessian: Floats
    left: float
    used_em: bool = False


def cells_of(n: ArrayLike, expected: ArrayLike, weight: ArrayLike | None, truncation: Truncation) -> Cells:
    """Equal cells are one with a weight: nothing is lost, and a table of pairs has many of them."""
    from pkpd.ground.errors import InputError

    counts, means = (np.asarray(v, dtype=np.float64).ravel() for v in np.broadcast_arrays(n, expected))
    many = np.ones(counts.size) if weight is None else np.asarray(weight, dtype=np.float64).ravel()
    if not (
        np.all(counts >= (0 if truncation == "none" else 1))
        and np.all(counts == np.floor(counts))
        and np.all(means > 0)
    ):
        remedy = "n whole and >= 1 (>= 0 without truncation), expected > 0"
        raise InputError("are not counts with their expectations", field="n", remedy=remedy)
    cells, back = np.unique(np.stack([counts, means]), axis=1, return_inverse=True)
    return cells[0], cells[1], np.bincount(back.ravel(), weights=many, minlength=cells.shape[1]), truncation


def _components(x: Floats, cells: Cells) -> tuple[list[Floats], list[Floats], list[Floats]]:
    """By component: log mass at n (truncated where components are), its derivative to (log alpha, log beta) (2, K),
    log mass at 0 before truncation."""
    from scipy.special import digamma, gammaln

    n, expected = cells[:2]
    levels, back = np.unique(n, return_inverse=True)
    masses, slopes, zeros = [], [], []
    for k in (0, 2):
        a, b = np.exp(x[k : k + 2])
        shrink = -np.log1p(expected / b)  # log(b / (b + E))
        rising = (gammaln(a + levels) - gammaln(a))[back]
        mass = rising + a * shrink + n * np.log(expected / (b + expected))
        to_a = a * ((digamma(a + levels) - digamma(a))[back] + shrink)
        slope = np.stack([to_a, a - b * (a + n) / (b + expected)])
        if cells[3] == "component":
            seen = -np.expm1(a * shrink)
            mass = mass - np.log(seen)
            slope += np.exp(a * shrink) / seen * np.stack([a * shrink, a * expected / (b + expected)])
        masses.append(mass)
        slopes.append(slope)
        zeros.append(a * shrink)
    return masses, slopes, zeros


def _objective(x: Floats, cells: Cells) -> tuple[float, Floats]:
    """-log likelihood without log n!, and its gradient to (log a1, log b1, log a2, log b2, logit p)."""
    masses, slopes, zeros = _components(x, cells)
    expected, weight, truncation = cells[1:]
    log_p, log_q = -np.logaddexp(0.0, -x[4]), -np.logaddexp(0.0, x[4])
    p = np.exp(log_p)
    first, second = log_p + masses[0], log_q + masses[1]
    total = np.logaddexp(first, second)
    share = np.exp(first - total)
    value, gradient = float(weight @ total), np.empty(5)
    gradient[0:2] = slopes[0] @ (weight * share)
    gradient[2:4] = slopes[1] @ (weight * (1.0 - share))
    gradient[4] = weight @ (share - p)
    if truncation == "joint":
        seen = p * -np.expm1(zeros[0]) + np.exp(log_q) * -np.expm1(zeros[1])
        value -= float(weight @ np.log(seen))
        gradient += _of_zeros(x, (p, np.exp(log_q)), zeros, (expected, weight / seen))
    return -value, -gradient


def _of_zeros(x: Floats, p: tuple[float, float], zeros: list[Floats], cells: tuple[Floats, Floats]) -> Floats:
    """Gradient of -sum w log(1 - mass at 0)."""
    expected, over = cells
    out = np.empty(5)
    for k in (0, 1):
        a, b = np.exp(x[2 * k : 2 * k + 2])
        mass = over * p[k] * np.exp(zeros[k])
        out[2 * k] = mass @ zeros[k]
        out[2 * k + 1] = mass @ (a * expected / (b + expected))
    out[4] = p[0] * p[1] * (over @ (np.exp(zeros[0]) - np.exp(zeros[1])))
    return out


def negative_log_likelihood(
    theta: Theta,
    n: ArrayLike,
    expected: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    truncation: Truncation = "component",
) -> float:
    """-log likelihood of the counts, without the constants log n! (they do not move the optimum).

    >>> round(negative_log_likelihood(Theta(alpha1=1, beta1=1, alpha2=1, beta2=1, p=0.5), [1], [1.0]), 6)
    0.693147
    """
    return _objective(coordinates(theta), cells_of(n, expected, weight, truncation))[0]


def coordinates(theta: Theta) -> Floats:
    sizes = np.log([theta.alpha1, theta.beta1, theta.alpha2, theta.beta2])
    p = min(max(theta.p, 1e-300), 1.0 - 1e-16)
    return np.append(sizes, np.log(p) - np.log1p(-p))


def theta_of(x: Floats) -> Theta:
    a1, b1, a2, b2 = (float(v) for v in np.exp(x[:4]))
    return Theta(alpha1=a1, beta1=b1, alpha2=a2, beta2=b2, p=float(np.exp(-np.logaddexp(0.0, -x[4]))))


def _hessian(x: Floats, cells: Cells) -> Floats:
    step, out = 1e-4, np.empty((5, 5))
    for k in range(5):
        move = np.zeros(5)
        move[k] = step
        out[k] = (_objective(x + move, cells)[1] - _objective(x - move, cells)[1]) / (2.0 * step)
    return 0.5 * (out + out.T)


def _newton(x: Floats, cells: Cells, most: int = 100) -> _End:
    """Newton steps with |eigenvalues| and damping: always downhill, never more than 1 in a coordinate."""
    value, gradient = _objective(x, cells)
    damping = 1e-3
    for _ in range(most):
        hessian = _hessian(x, cells)
        sizes, axes = np.linalg.eigh(hessian)
        along, curved = axes.T @ gradient, np.maximum(np.abs(sizes), 1e-9 * np.abs(sizes).max() + 1e-12)
        left = float(0.5 * np.sum(along**2 / curved))
        if left < _ENOUGH or np.abs(x).max() > _EDGE:
            break
        for _ in range(40):
            step = -axes @ (along / (curved + damping * curved.max()))
            step /= max(1.0, float(np.abs(step).max()))
            after = _objective(x + step, cells)
            if after[0] < value:
                break
            damping = max(10.0 * damping, 1e-9)
        else:
            break
        x, (value, gradient), damping = x + step, after, 0.1 * damping
    return _End(x, value, gradient, hessian, left)


def em(
    theta: Theta, n: ArrayLike, expected: ArrayLike, *, steps: int = 200, truncation: Truncation = "component"
) -> Theta:
    """EM steps from theta; the likelihood never falls. What truncation hid is imputed as cells of 0.

    >>> start = Theta(alpha1=0.2, beta1=0.1, alpha2=2, beta2=4, p=0.3)
    >>> n, expected = [1, 2, 9, 1, 3], [0.5, 1.0, 1.0, 2.0, 2.0]
    >>> negative_log_likelihood(em(start, n, expected, steps=5), n, expected) < negative_log_likelihood(
    ...     start, n, expected)
    True
    """
    return theta_of(_em(coordinates(theta), cells_of(n, expected, None, truncation), steps))


def _em(x: Floats, cells: Cells, steps: int) -> Floats:
    from scipy.special import digamma

    n, expected, weight, truncation = cells
    for _ in range(steps):
        masses, _, zeros = _components(x, cells)
        p = 1.0 / (1.0 + np.exp(-x[4]))
        share = 1.0 / (1.0 + np.exp(masses[1] - masses[0]) * (1 - p) / p)
        seen = p * -np.expm1(zeros[0]) + (1 - p) * -np.expm1(zeros[1])
        held = []
        for k, (part, of) in enumerate(((share, p), (1 - share, 1 - p))):
            a, b = np.exp(x[2 * k : 2 * k + 2])
            shown = weight * part
            odds = {"component": part / -np.expm1(zeros[k]), "joint": of / seen, "none": 0.0}[truncation]
            lost = weight * odds * np.exp(zeros[k])
            size = float(shown.sum() + lost.sum())
            mean = float(shown @ ((a + n) / (b + expected)) + lost @ (a / (b + expected))) / size
            logs = (
                float(shown @ digamma(a + n) + lost.sum() * digamma(a) - (shown + lost) @ np.log(b + expected)) / size
            )
            x[2 * k] = np.log(_shape(np.log(mean) - logs))
            x[2 * k + 1] = x[2 * k] - np.log(mean)
            held.append(size if truncation == "joint" else float(shown.sum()))
        x[4] = np.log(held[0]) - np.log(held[1])
    return x


def _shape(gap: float) -> float:
    """Solve log a - digamma(a) = gap for a (Minka 2002: start and Newton steps in 1/a)."""
    from scipy.special import digamma, polygamma

    a = (3.0 - gap + np.sqrt((gap - 3.0) ** 2 + 24.0 * gap)) / (12.0 * gap)
    for _ in range(5):
        a = 1.0 / (1.0 / a + (np.log(a) - digamma(a) - gap) / (a * a * (1.0 / a - polygamma(1, a))))
    return float(a)


def fit(
    n: ArrayLike, expected: ArrayLike, *, weight: ArrayLike | None = None, truncation: Truncation = "component",
    starts: tuple[tuple[float, ...], ...] = STARTS,
) -> Fit:  # fmt: skip
    """Maximum likelihood of the hyperparameters. n, expected: (K,); weight: how many cells have them.

    Without truncation cells of n = 0 belong to the data (`signals.with_zeros`). The status says whether the result may
    be used.
    """
    cells = cells_of(n, expected, weight, truncation)
    if cells[0].size < 20:
        return _failed(SignalStatus.TOO_FEW)
    ends = [_from(np.append(np.log(s[:4]), np.log(s[4] / (1 - s[4]))), cells) for s in starts]
    ends = sorted((_ordered(end) for end in ends if np.isfinite(end.value)), key=lambda end: end.value)
    if not ends:
        return _failed(SignalStatus.NOT_CONVERGED)
    best = ends[0]
    status = _status(best)
    return Fit(
        theta=theta_of(best.x), se=_errors(best) if status is SignalStatus.OK else _NONE,
        negative_log_likelihood=best.value, status=status, starts=len(starts),
        agreed=sum(end.value < best.value + 0.01 for end in ends), used_em=best.used_em, left=best.left,
        others=_others(ends),
    )  # fmt: skip


def _errors(end: _End) -> tuple[float, float, float, float, float]:
    """Delta method from the coordinates of the fit."""
    theta = theta_of(end.x)
    scale = np.append(np.exp(end.x[:4]), theta.p * (1 - theta.p))
    a1, b1, a2, b2, p = (float(v) for v in scale * np.sqrt(np.diag(np.linalg.inv(end.hessian))))
    return a1, b1, a2, b2, p


def _others(ends: list[_End]) -> tuple[tuple[float, Theta], ...]:
    """Optima that are not the best one; two ends within 0.01 in value and 5 % in every parameter are one."""
    kept = [ends[0]]
    for end in ends[1:]:
        near = end.value < ends[0].value + 3.0 and _status(end) is SignalStatus.OK
        if near and not any(abs(end.value - k.value) < 0.01 and float(np.abs(end.x - k.x).max()) < 0.05 for k in kept):
            kept.append(end)
    return tuple((end.value, theta_of(end.x)) for end in kept[1:])


def _failed(status: SignalStatus) -> Fit:
    theta = Theta(alpha1=1.0, beta1=1.0, alpha2=1.0, beta2=1.0, p=0.5)
    return Fit(theta=theta, se=_NONE, negative_log_likelihood=np.nan, status=status, starts=0, agreed=0,
               used_em=False, left=np.nan)  # fmt: skip


def _from(x: Floats, cells: Cells) -> _End:
    """Newton; where that ends at no minimum, EM from the start and Newton again; the better of the two."""
    with np.errstate(all="ignore"):
        first = _newton(x, cells)
        if _status(first) is SignalStatus.OK:
            return first
        second = _newton(_em(x.copy(), cells, 100), cells)
    worse = not second.value < first.value
    return first if worse else _End(second.x, second.value, second.gradient, second.hessian, second.left, used_em=True)


def _status(end: _End) -> SignalStatus:
    if np.abs(end.x).max() > _EDGE:
        return SignalStatus.EDGE
    if not end.left < 1e-4:
        return SignalStatus.NOT_CONVERGED
    sizes = np.linalg.eigvalsh(end.hessian)
    return SignalStatus.OK if sizes[0] > 1e-7 * sizes[-1] and sizes[0] > 1e-6 else SignalStatus.NOT_A_MINIMUM


def _ordered(end: _End) -> _End:
    """Component 1 is the one with the larger mean."""
    if end.x[0] - end.x[1] >= end.x[2] - end.x[3]:
        return end
    turn = [2, 3, 0, 1, 4]
    signs = np.array([1.0, 1.0, 1.0, 1.0, -1.0])
    return _End(end.x[turn] * signs, end.value, end.gradient[turn] * signs,
                end.hessian[np.ix_(turn, turn)] * np.outer(signs, signs), end.left, end.used_em)  # fmt: skip


def shrunk(n: ArrayLike, expected: ArrayLike, theta: Theta) -> Shrunk:
    """Posterior of lambda for every pair (K,), given hyperparameters.

    >>> made = shrunk([16], [0.40643623], Theta(alpha1=3.2538, beta1=0.3999, alpha2=2.0261, beta2=1.9081, p=0.0653))
    >>> [round(float(v[0]), 2) for v in (made.ebgm, made.eb05, made.eb95)]  # openEBGM: 23.26, 15.68, 33.48
    [23.26, 15.69, 33.48]
    """
    from scipy.special import digamma

    counts, means = (np.asarray(v, dtype=np.float64).ravel() for v in np.broadcast_arrays(n, expected))
    found, back = np.unique(np.stack([counts, means]), axis=1, return_inverse=True)
    cells: Cells = (found[0], found[1], np.ones(found.shape[1]), "none")
    masses = _components(coordinates(theta), cells)[0]
    with np.errstate(divide="ignore", over="ignore"):
        odds = np.log(theta.p) - np.log1p(-theta.p) + masses[0] - masses[1]
        q = 1.0 / (1.0 + np.exp(-odds))
    shapes = theta.alpha1 + cells[0], theta.alpha2 + cells[0]
    rates = theta.beta1 + cells[1], theta.beta2 + cells[1]
    logs = [digamma(a) - np.log(b) for a, b in zip(shapes, rates, strict=True)]
    ebgm = np.exp(q * logs[0] + (1 - q) * logs[1])
    eb05, eb95 = (_quantile(u, q, shapes, rates) for u in (0.05, 0.95))
    return Shrunk(ebgm=ebgm[back], eb05=eb05[back], eb95=eb95[back], weight=q[back])


def _share(n: Floats, expected: Floats, theta: Theta) -> Floats:
    """Posterior weight of component 1, of arrays of one shape."""
    masses = _components(coordinates(theta), (n.ravel(), expected.ravel(), np.ones(n.size), "none"))[0]
    with np.errstate(divide="ignore", over="ignore"):
        odds = np.log(theta.p) - np.log1p(-theta.p) + (masses[0] - masses[1]).reshape(n.shape)
        return np.asarray(1.0 / (1.0 + np.exp(-odds)))


def logs_and_share(n: Floats, expected: Floats, theta: Theta) -> tuple[Floats, Floats]:
    """Posterior mean of log lambda and weight of component 1, of arrays of one shape."""
    from scipy.special import digamma

    q = _share(n, expected, theta)
    first = digamma(theta.alpha1 + n) - np.log(theta.beta1 + expected)
    return np.asarray(q * first + (1.0 - q) * (digamma(theta.alpha2 + n) - np.log(theta.beta2 + expected))), q


def log_likelihood(x: Floats, cells: Cells) -> Floats:
    """Log likelihoods (S,) at rows (S, 5) of log alpha1, log beta1, log alpha2, log beta2, logit p, without log n!."""
    step = max(1, 200_000 // max(1, cells[0].size))
    parts = [_log_likelihood(x[k : k + step], cells) for k in range(0, len(x), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _log_likelihood(x: Floats, cells: Cells) -> Floats:
    from scipy.special import gammaln

    n, expected, weight, truncation = cells
    levels, back = np.unique(n, return_inverse=True)
    masses, zeros = [], []
    for k in (0, 2):
        a, b = np.exp(x[:, k, None]), np.exp(x[:, k + 1, None])
        zero = -a * np.log1p(expected / b)
        mass = (gammaln(a + levels) - gammaln(a))[:, back] + zero + n * np.log(expected / (b + expected))
        masses.append(mass - np.log(-np.expm1(zero)) if truncation == "component" else mass)
        zeros.append(zero)
    log_p, log_q = -np.logaddexp(0.0, -x[:, 4, None]), -np.logaddexp(0.0, x[:, 4, None])
    total = np.logaddexp(log_p + masses[0], log_q + masses[1])
    if truncation == "joint":
        total = total - np.log(np.exp(log_p) * -np.expm1(zeros[0]) + np.exp(log_q) * -np.expm1(zeros[1]))
    return np.asarray(total @ weight)


def below(limit: float | Floats, n: Floats, expected: Floats, theta: Theta) -> Floats:
    """P(lambda < limit) after n where `expected` were: EB05 >= 2 says that it is at most 0.05 at 2. One shape.

    >>> held = Theta(alpha1=3.2538, beta1=0.3999, alpha2=2.0261, beta2=1.9081, p=0.0653)
    >>> float(below(15.6858, np.array([16.0]), np.array([0.40643623]), held)[0].round(3))
    0.05
    """
    from scipy.special import gammainc

    q = _share(n, expected, theta)
    first = gammainc(theta.alpha1 + n, (theta.beta1 + expected) * limit)
    return np.asarray(q * first + (1.0 - q) * gammainc(theta.alpha2 + n, (theta.beta2 + expected) * limit))


def _quantile(u: float, q: Floats, shapes: tuple[Floats, Floats], rates: tuple[Floats, Floats]) -> Floats:
    """Quantile of the mixture: between those of its components; Newton steps, halved where they leave the bracket."""
    from scipy.special import gammainc, gammaincinv, gammaln

    ends = [gammaincinv(a, u) / b for a, b in zip(shapes, rates, strict=True)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    x = q * ends[0] + (1 - q) * ends[1]
    for _ in range(80):
        cdf = q * gammainc(shapes[0], rates[0] * x) + (1 - q) * gammainc(shapes[1], rates[1] * x) - u
        low, high = np.where(cdf < 0, x, low), np.where(cdf < 0, high, x)
        dens = sum(
            part * np.exp(a * np.log(b) + (a - 1) * np.log(x) - b * x - gammaln(a))
            for part, a, b in zip((q, 1 - q), shapes, rates, strict=True)
        )
        after = x - cdf / np.maximum(dens, 1e-300)
        after = np.where((after > low) & (after < high), after, 0.5 * (low + high))
        moved = np.abs(after - x) > 1e-13 * x
        x = after
        if not moved.any():
            break
    return np.asarray(x)
