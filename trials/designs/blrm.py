"""Two-parameter Bayesian logistic regression of toxicity on dose (BLRM) with overdose control (EWOC).

    logit p(d) = log alpha + beta log(d / reference),  (log alpha, log beta) ~ bivariate normal

Posterior by quadrature on a grid over the prior's standardised coordinates; probabilities of the toxicity intervals
(under, target, over) and quantiles come from the posterior distribution function of log alpha given beta, so that the
borders of the intervals cost no accuracy. A dose is eligible where P(p > over) is below the limit (0.25).

Source: Neuenschwander, Branson & Gsponer, Stat Med 2008;27:2420; Babb, Rogatko & Zacks, Stat Med 1998;17:1103 (EWOC).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.kernels.elementary import exp_array, expit_array
from trials.designs.escalation import STOP, Design, Instruction, State

__all__ = ["Model", "Posterior", "blrm", "lattice", "posterior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REACH = 7.0  # of the grid, in prior standard deviations


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """`doses` and `reference` in one unit; prior `mean`, `sd` of (log alpha, log beta) and their `correlation`;
    interval of target toxicity (`low`, `high`); `limit` of the probability of overdose; `grid` points of (log alpha,
    log beta)."""

    doses: tuple[float, ...]
    reference: float
    mean: tuple[float, float] = (-0.847, 0.0)
    sd: tuple[float, float] = (2.0, 1.0)
    correlation: float = 0.0
    low: float = 0.16
    high: float = 0.33
    limit: float = 0.25
    grid: tuple[int, int] = (561, 281)

    def __post_init__(self) -> None:
        doses = np.asarray(self.doses, dtype=np.float64)
        if not doses.size or doses.min() <= 0 or (np.diff(doses) <= 0).any() or not self.reference > 0:
            raise InputError("must be positive and increase", field="doses", value=list(self.doses))
        if min(self.sd) <= 0 or not -1 < self.correlation < 1:
            raise InputError("must be SDs > 0 and a correlation inside -1 ... 1", field="sd", value=list(self.sd))
        if not 0 < self.low < self.high < 1:
            raise InputError("must be 0 < low < high < 1", field="low", value=[self.low, self.high])


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """By dose (D,): `mean`, `sd` of p, probabilities `under`, `target`, `over`, and `quantiles` (D, levels)."""

    mean: Floats
    sd: Floats
    under: Floats
    target: Floats
    over: Floats
    quantiles: Floats
    limit: float

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """Doses that overdose control allows."""
        return self.over < self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Nodes of log alpha and beta, both (A, B), the prior's density at them, and the step of log alpha."""

    log_alpha: Floats
    beta: Floats
    density: Floats
    step: float


def _grid(model: Model) -> _Grid:
    """Equally spaced nodes of both coordinates over REACH prior standard deviations."""
    first, second = (np.linspace(-REACH, REACH, count) for count in model.grid)
    z, y = np.meshgrid(first, second, indexing="ij")
    rho = model.correlation
    density = exp_array(-0.5 * (z**2 - 2 * rho * z * y + y**2) / (1 - rho**2))
    log_alpha, beta = model.mean[0] + model.sd[0] * z, exp_array(model.mean[1] + model.sd[1] * y)
    return _Grid(log_alpha=log_alpha, beta=beta, density=density, step=float(model.sd[0] * (first[1] - first[0])))


def _x(model: Model) -> Floats:
    return np.log(np.asarray(model.doses) / model.reference)


def _updated(model: Model, grid: _Grid, n: Ints, toxic: Ints) -> Floats:
    """Posterior mass (A, B), sum 1, of one data set (D,)."""
    log = np.zeros_like(grid.density)
    for x, size, events in zip(_x(model), n, toxic, strict=True):
        if size:
            eta = grid.log_alpha + grid.beta * x
            log += events * eta - size * np.logaddexp(0.0, eta)
    mass = grid.density * exp_array(log - log.max())
    return np.asarray(mass / mass.sum())


def posterior(
    model: Model, n: ArrayLike, toxic: ArrayLike, *, levels: tuple[float, ...] = (0.025, 0.5, 0.975)
) -> Posterior:
    """Posterior by dose after `toxic` toxicities among `n` subjects (D,).

    >>> model = Model(doses=(1.0, 3.0, 10.0, 30.0, 100.0), reference=30.0)
    >>> posterior(model, [3, 3, 3, 0, 0], [0, 0, 1, 0, 0]).eligible.tolist()
    [True, True, True, False, False]
    """
    size, events = np.asarray(n, dtype=np.int64), np.asarray(toxic, dtype=np.int64)
    if size.shape != (len(model.doses),) or events.shape != size.shape or (events > size).any() or (events < 0).any():
        raise InputError("must be 0 ... n, dose by dose", field="toxic", value=events.tolist())
    grid = _grid(model)
    mass = _updated(model, grid, size, events)
    rates = [expit_array(grid.log_alpha + grid.beta * x) for x in _x(model)]
    mean = np.array([(mass * p).sum() for p in rates])
    square = np.array([(mass * p * p).sum() for p in rates])
    below_logit = _distribution(model, grid, mass)
    below, above = (below_logit(np.full(mean.shape, np.log(rate / (1 - rate)))) for rate in (model.low, model.high))
    return Posterior(
        mean=mean, sd=np.sqrt(np.maximum(square - mean**2, 0.0)), under=below, target=above - below, over=1 - above,
        quantiles=_quantiles(below_logit, mean.size, levels), limit=model.limit,
    )  # fmt: skip


def lattice(model: Model, n: ArrayLike, toxic: ArrayLike) -> tuple[Floats, Floats]:
    """The posterior as it is summed: toxicity rates (D, A, B) at the nodes of the grid and their mass (A, B), sum 1."""
    grid = _grid(model)
    mass = _updated(model, grid, np.asarray(n, dtype=np.int64), np.asarray(toxic, dtype=np.int64))
    return np.stack([expit_array(grid.log_alpha + grid.beta * x) for x in _x(model)]), mass


def _cumulative(mass: Floats) -> tuple[Floats, Floats]:
    """Distribution (A, B) along log alpha up to each node (trapezoid with Euler-Maclaurin's first correction) and
    slope."""
    slope = np.gradient(mass, axis=0)
    total = np.cumsum(mass, axis=0) - mass / 2
    return total - slope / 12, mass


def _distribution(model: Model, grid: _Grid, mass: Floats) -> Callable[[Floats], Floats]:
    """P(logit p(d) <= border) by dose, as a function of borders (D,)."""
    tables, x = _cumulative(mass), _x(model)

    def below(border: Floats) -> Floats:
        return np.array([_at(grid, tables, b - grid.beta[0] * at).sum() for b, at in zip(border, x, strict=True)])

    return below


def _at(grid: _Grid, tables: tuple[Floats, Floats], point: Floats) -> Floats:
    """Cubic Hermite interpolation of the distribution of each beta's column (B,) at log alpha `point` (B,)."""
    total, slope = tables
    place = (point - grid.log_alpha[0]) / grid.step
    node = np.clip(np.floor(place).astype(np.int64), 0, total.shape[0] - 2)
    t, column = np.clip(place - node, 0.0, 1.0), np.arange(point.size)
    left, right = total[node, column], total[node + 1, column]
    rise, fall = slope[node, column], slope[node + 1, column]
    jump = right - left
    return np.asarray(left + t * jump + t * (1 - t) * ((1 - t) * (rise - jump) - t * (fall - jump)))


def _quantiles(below: Callable[[Floats], Floats], doses: int, levels: tuple[float, ...]) -> Floats:
    """Quantiles of p (D, levels) by bisection on the logit scale."""
    found = np.empty((doses, len(levels)))
    for column, level in enumerate(levels):
        low, high = np.full(doses, -700.0), np.full(doses, 40.0)
        for _ in range(50):
            middle = (low + high) / 2
            under = below(middle) < level
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        found[:, column] = expit_array((low + high) / 2)
    return found


def blrm(model: Model, *, patients: int, size: int = 3, start: int = 0, least: int = 6) -> Design:
    """The design: the next cohort gets the eligible dose with the most probability in the target interval, at most
    one above the current one; the trial stops when no dose is eligible. The MTD is the eligible dose of that kind
    among those with at least `least` subjects (none: no recommendation).

    >>> model = Model(doses=(1.0, 3.0, 10.0), reference=10.0, grid=(141, 71))
    >>> int(blrm(model, patients=30).rule(State.of([3, 0, 0], [3, 0, 0], 0)).dose[0])
    -1
    """
    known: dict[tuple[int, ...], tuple[Floats, NDArray[np.bool_]]] = {}
    grid = _grid(model)

    def judged(n: Ints, toxic: Ints) -> tuple[Floats, NDArray[np.bool_]]:
        name = (*n.tolist(), *toxic.tolist())
        if name not in known:
            known[name] = _judged(model, grid, n, toxic)
        return known[name]

    def rule(state: State) -> Instruction:
        doses = np.arange(len(model.doses))
        pairs = [judged(n, toxic) for n, toxic in zip(state.n, state.toxic, strict=True)]
        return Instruction.of([_best(on, ok & (doses <= at + 1)) for (on, ok), at in zip(pairs, state.dose)], size)

    def select(state: State) -> Ints:
        pairs = [judged(n, toxic) for n, toxic in zip(state.n, state.toxic, strict=True)]
        found = [_best(on, ok & (n >= least)) for (on, ok), n in zip(pairs, state.n, strict=True)]
        return np.asarray(found, dtype=np.int64)

    return Design(doses=len(model.doses), patients=patients, size=size, rule=rule, select=select, start=start)


def _judged(model: Model, grid: _Grid, n: Ints, toxic: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """Probability of the target interval, and eligibility, by dose."""
    below = _distribution(model, grid, _updated(model, grid, n, toxic))
    low, high = (below(np.full(n.shape, np.log(rate / (1 - rate)))) for rate in (model.low, model.high))
    return high - low, 1 - high < model.limit


def _best(on_target: Floats, allowed: NDArray[np.bool_]) -> int:
    return int(np.where(allowed, on_target, -1.0).argmax()) if allowed.any() else STOP
