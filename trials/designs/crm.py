"""The continual reassessment method (CRM), its skeletons and its time-to-event form (TITE-CRM).

One parameter b with prior N(0, scale^2) bends a skeleton of guessed toxicity rates:

    empiric:   p_d = skeleton_d ^ exp(b)
    logistic:  p_d = expit(intercept + exp(b) x_d),  x_d = logit(skeleton_d) - intercept < 0

A subject with follow-up weight w (1 when complete or toxic) and no toxicity so far contributes 1 - w p_d. The
estimate of b is its posterior mean (Gauss-Legendre quadrature) or its maximum likelihood; the recommended dose has
the plug-in p_d(estimate) closest to the target, of equal ones the lowest.

Source: O'Quigley, Pepe & Fisher, Biometrics 1990;46:33; Lee & Cheung, Clin Trials 2009;6:227 (skeletons by
indifference interval); Cheung & Chappell, Biometrics 2000;56:1177 (TITE-CRM); Cheung, Biometrika 2005;92:863
(coherence). Prior variance 1.34 and intercept 3 as in the R package dfcrm (its documentation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.kernels.elementary import exp_array
from trials.designs.escalation import Design, Instruction, State

__all__ = ["Fit", "Model", "crm", "fit", "fit_subjects", "recommended", "skeleton", "weights"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Method = Literal["bayes", "mle"]
Form = Literal["empiric", "logistic"]
Likelihood = Callable[[Floats], Floats]  # b (1, G) or (S, 1) -> log likelihood (S, G) or (S, 1)
MLE_RANGE = 10.0
"""Bounds of b where it is estimated by maximum likelihood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Working model: `skeleton` of guessed rates, `target` rate, `form`, `method`; `scale` = prior SD of b;
    `intercept` of the logistic form."""

    skeleton: tuple[float, ...]
    target: float
    form: Form = "empiric"
    method: Method = "bayes"
    scale: float = 1.34**0.5
    intercept: float = 3.0

    def __post_init__(self) -> None:
        rates = np.asarray(self.skeleton, dtype=np.float64)
        if not rates.size or not ((rates > 0) & (rates < 1)).all() or (np.diff(rates) <= 0).any():
            raise InputError("must increase inside 0 ... 1", field="skeleton", value=list(self.skeleton))
        if not 0 < self.target < 1:
            raise InputError("must lie inside 0 ... 1", field="target", value=self.target)
        if self.form == "logistic" and _logit(rates).max() >= self.intercept:
            remedy = "choose an intercept above every logit of the skeleton"
            raise InputError("is too small for the skeleton", field="intercept", value=self.intercept, remedy=remedy)

    def log_rates(self, b: ArrayLike) -> tuple[Floats, Floats]:
        """log p and log(1 - p) at b (...): two arrays (..., D)."""
        slope = np.exp(np.asarray(b, dtype=np.float64))[..., None]
        if self.form == "empiric":
            log_p = slope * np.log(np.asarray(self.skeleton))
            with np.errstate(divide="ignore"):
                return log_p, np.log(-np.expm1(log_p))
        eta = self.intercept + slope * (_logit(np.asarray(self.skeleton)) - self.intercept)
        return -np.logaddexp(0.0, -eta), -np.logaddexp(0.0, eta)

    def rates(self, b: ArrayLike) -> Floats:
        """Toxicity rates (..., D) at b (...)."""
        return np.exp(self.log_rates(b)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """`estimate`, `variance` of b (S,) and plug-in toxicity rates `rates` (S, D) with limits `lower`, `upper` at b +-
    z sd. NaN where the maximum likelihood does not exist."""

    estimate: Floats
    variance: Floats
    rates: Floats
    lower: Floats
    upper: Floats


def _logit(p: Floats) -> Floats:
    return np.log(p) - np.log1p(-p)


def _nodes(low: float, high: float, panels: int) -> tuple[Floats, Floats]:
    """Composite Gauss-Legendre rule of 8 points a panel."""
    x, w = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(low, high, panels + 1)
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def _rule_of(model: Model) -> tuple[Floats, Floats, Floats]:
    """Nodes, weights and log prior: the normal prior, or a flat one on the bounds of maximum likelihood."""
    if model.method == "mle":
        b, w = _nodes(-MLE_RANGE, MLE_RANGE, 64)
        return b, w, np.zeros_like(b)
    b, w = _nodes(-9 * model.scale, 9 * model.scale, 56)
    return b, w, -0.5 * (b / model.scale) ** 2


def fit(model: Model, n: ArrayLike, toxic: ArrayLike, *, level: float = 0.9) -> Fit:
    """Fit counts (S, D) of subjects and toxicities, everybody with complete follow-up.

    >>> found = fit(Model(skeleton=(0.1, 0.25, 0.4), target=0.25), [[3, 3, 0]], [[0, 1, 0]])
    >>> int(recommended(found.rates, 0.25)[0])
    1
    """
    size, events = (np.atleast_2d(np.asarray(part, dtype=np.float64)) for part in (n, toxic))
    rest = size - events

    def likelihood(b: Floats) -> Floats:
        return _weighted(model.log_rates(b), events, rest)

    return _fitted(model, likelihood, (events.sum(axis=1), rest.sum(axis=1)), level)


def fit_subjects(model: Model, dose: ArrayLike, toxic: ArrayLike, weight: ArrayLike, *, level: float = 0.9) -> Fit:
    """Fit subjects: `dose` (S, N) from 0 or -1 (nobody there), `toxic` 0/1 and follow-up `weight` 0 ... 1 (S, N).

    A toxicity has weight 1 whatever is given.
    """
    place = np.atleast_2d(np.asarray(dose, dtype=np.int64))
    event = np.atleast_2d(np.asarray(toxic, dtype=np.bool_))
    w = np.where(event, 1.0, np.atleast_2d(np.asarray(weight, dtype=np.float64)))
    if not ((w >= 0) & (w <= 1)).all():
        raise InputError("must lie in 0 ... 1", field="weight", value=float(w.min() if (w < 0).any() else w.max()))
    there, rows, doses = place >= 0, np.arange(place.shape[0]), len(model.skeleton)

    def likelihood(b: Floats) -> Floats:
        log_p = np.broadcast_to(model.log_rates(b)[0].swapaxes(-1, -2), (place.shape[0], doses, b.shape[-1]))
        total = np.zeros((place.shape[0], b.shape[-1]))
        for person in range(place.shape[1]):  # in order of entry: a fixed order of summation
            own = log_p[rows, np.maximum(place[:, person], 0)]
            with np.errstate(divide="ignore"):
                none = np.log1p(-w[:, person, None] * exp_array(own))
            total += np.where(there[:, person, None], np.where(event[:, person, None], own, none), 0.0)
        return total

    return _fitted(model, likelihood, ((event & there).sum(axis=1), (~event & there).sum(axis=1)), level)


def _weighted(logs: tuple[Floats, Floats], events: Floats, rest: Floats) -> Floats:
    """Log likelihood (S, G) of counts at log p, log(1 - p) (G, D) or (S, G, D): summed dose by dose, 0 log 0 = 0."""
    total = np.zeros(np.broadcast_shapes(logs[0].shape[:-1], (events.shape[0], 1)))
    for dose in range(events.shape[1]):
        for log, count in zip(logs, (events, rest), strict=True):
            here = count[:, dose, None]
            total += here * np.where(here > 0, log[..., dose], 0.0)
    return total


def _fitted(model: Model, likelihood: Likelihood, counts: tuple[Ints | Floats, Ints | Floats], level: float) -> Fit:
    from scipy.special import ndtri

    b, w, prior = _rule_of(model)
    log = likelihood(b[None, :]) + prior
    mass = w * exp_array(log - log.max(axis=1, keepdims=True))
    total = mass.sum(axis=1)
    mean, square = (mass * b).sum(axis=1) / total, (mass * b * b).sum(axis=1) / total
    estimate = mean if model.method == "bayes" else _maximum(likelihood, b[log.argmax(axis=1)])
    exists = np.ones_like(mean, dtype=np.bool_) if model.method == "bayes" else (counts[0] > 0) & (counts[1] > 0)
    estimate = np.where(exists, estimate, np.nan)
    variance = square - estimate**2
    reach = float(ndtri(0.5 + level / 2)) * np.sqrt(variance)
    return Fit(
        estimate=estimate, variance=variance, rates=model.rates(estimate), lower=model.rates(estimate + reach),
        upper=model.rates(estimate - reach),
    )  # fmt: skip


def _maximum(likelihood: Likelihood, near: Floats, *, width: float = 0.5) -> Floats:
    """Golden-section search of the maximum around the best node, all trials at once."""
    ratio = (np.sqrt(5.0) - 1) / 2
    low, high = near - width, near + width
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        better = likelihood(left[:, None])[:, 0] < likelihood(right[:, None])[:, 0]
        low, high = np.where(better, left, low), np.where(better, high, right)
    return np.asarray((low + high) / 2)


def recommended(rates: Floats, target: float) -> Ints:
    """The dose (S,) from 0 with the rate closest to the target, of equal ones the lowest; rates (S, D)."""
    return np.abs(rates - target).argmin(axis=1)


def skeleton(
    halfwidth: float, target: float, *, prior_mtd: int, doses: int, form: Form = "empiric", intercept: float = 3.0
) -> Floats:
    """Guessed rates (D,) whose indifference intervals are target +- halfwidth around each dose but the outer two.

    `prior_mtd` (from 1): the dose believed to be the MTD. Lee & Cheung 2009: neighbours d, d + 1 meet at a value of b
    where their rates are target + halfwidth and target - halfwidth.

    >>> skeleton(0.05, 0.25, prior_mtd=3, doses=5).round(3).tolist()
    [0.084, 0.157, 0.25, 0.355, 0.46]
    """
    if not 0 < target - halfwidth < target + halfwidth < 1 or not 1 <= prior_mtd <= doses:
        raise InputError("must leave target +- halfwidth inside 0 ... 1", field="halfwidth", value=halfwidth)
    if form == "logistic" and _logit(np.array(target + halfwidth)) >= intercept:
        raise InputError("is too small for the target", field="intercept", value=intercept)
    x = np.full(doses, np.nan)
    scaled = {name: _scaled(rate, form, intercept) for name, rate in _ends(target, halfwidth).items()}
    x[prior_mtd - 1] = scaled["target"]
    for dose in range(prior_mtd - 1, 0, -1):
        x[dose - 1] = x[dose] * scaled["low"] / scaled["high"]
    for dose in range(prior_mtd - 1, doses - 1):
        x[dose + 1] = x[dose] * scaled["high"] / scaled["low"]
    return np.exp(x) if form == "empiric" else 1.0 / (1.0 + np.exp(-intercept - x))


def _ends(target: float, halfwidth: float) -> dict[str, float]:
    return {"target": target, "low": target - halfwidth, "high": target + halfwidth}


def _scaled(rate: float, form: Form, intercept: float) -> float:
    """What exp(b) multiplies: log p, or logit p - intercept."""
    return float(np.log(rate)) if form == "empiric" else float(_logit(np.array(rate)) - intercept)


def weights(
    followup: ArrayLike, toxic: ArrayLike, window: float, *, scheme: Literal["linear", "adaptive"] = "linear"
) -> Floats:
    """TITE-CRM weights (N,) of subjects followed for `followup`, with toxicities at the end of it where `toxic`.

    linear: followup/window. adaptive (Cheung & Chappell 2000): with the m sorted times of toxicities t_1 ... t_z, a
    subject followed for t in t_m ... t_(m+1) has (m + (t - t_m)/(t_(m+1) - t_m))/(z + 1), with t_0 = 0 and t_(z+1) =
    window.

    >>> weights([30.0, 90.0, 40.0], [0, 0, 1], 90.0).tolist()
    [0.3333333333333333, 1.0, 1.0]
    """
    time, event = np.asarray(followup, dtype=np.float64), np.asarray(toxic, dtype=np.bool_)
    if not window > 0 or (time < 0).any():
        raise InputError("needs a window > 0 and follow-up >= 0", field="window", value=window)
    if scheme == "linear" or not event.any():
        found = time / window
    else:
        times = np.concatenate([[0.0], np.sort(time[event]), [window]])
        found = np.interp(time, times, np.arange(times.size) / (times.size - 1))
    return np.where(event, 1.0, np.minimum(found, 1.0))


def crm(
    model: Model, *, patients: int, size: int = 1, start: int = 0, restrict: bool = True,
    initial: Sequence[int] = (),
) -> Design:  # fmt: skip
    """The design: cohorts of `size`, each at the dose of the last fit; the MTD is the dose of the final fit.

    `restrict`: never skip a dose upwards, never escalate after a cohort whose toxicity rate is at or above the target
    (coherence: for cohorts of 1, right after a toxicity). `initial`: doses (from 0) of the first subjects, followed
    until the first toxicity (two-stage design); maximum likelihood needs it, since it exists only after a toxicity
    and a subject without: until then such a design takes its dose from `initial`, one dose down after toxicities
    only.

    >>> rule = crm(Model(skeleton=(0.1, 0.25, 0.4), target=0.25), patients=12).rule
    >>> int(rule(State.of([0, 1, 0], [0, 1, 0], 1, last=1, given=1)).dose[0])
    0
    """
    if model.method == "mle" and len(initial) < patients:
        remedy = "give a dose for every subject: initial=(0, 0, 0, 1, 1, 1, ...)"
        raise InputError(
            "maximum likelihood needs an initial design", field="initial", value=len(initial), remedy=remedy
        )
    if any(not 0 <= dose < len(model.skeleton) for dose in initial):
        raise InputError("must be doses from 0", field="initial", value=list(initial))

    def rule(state: State) -> Instruction:
        dose = _estimated(model, state)
        if restrict:
            dose = np.minimum(dose, np.where(_coherent(state, model.target), state.dose + 1, state.dose))
        return Instruction.of(_staged(state, dose, initial), size)

    def select(state: State) -> Ints:
        return _estimated(model, state)

    first = initial[0] if initial else start
    return Design(doses=len(model.skeleton), patients=patients, size=size, rule=rule, select=select, start=first)


def _coherent(state: State, target: float) -> NDArray[np.bool_]:
    """Whether the last cohort allows an escalation."""
    return np.asarray((state.last == 0) | (state.last < target * state.given), dtype=np.bool_)


def _estimated(model: Model, state: State) -> Ints:
    """The dose of the fit; without a maximum likelihood the highest dose (no toxicity) or one down (toxicities
    only)."""
    rates = fit(model, state.n, state.toxic).rates
    missing = np.isnan(rates[:, 0])
    none = np.where(state.toxic.sum(axis=1) == 0, state.n.shape[1] - 1, np.maximum(state.dose - 1, 0))
    return np.where(missing, none, recommended(np.where(missing[:, None], 0.0, rates), model.target))


def _staged(state: State, dose: Ints, initial: Sequence[int]) -> Ints:
    """The initial design until the first toxicity, the model's `dose` from then on."""
    if not initial:
        return dose
    treated = state.n.sum(axis=1)
    early = (state.toxic.sum(axis=1) == 0) & (treated < len(initial))
    return np.where(early, np.asarray(initial)[np.minimum(treated, len(initial) - 1)], dose)
