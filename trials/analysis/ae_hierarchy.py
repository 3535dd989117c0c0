"""Hierarchical Bayesian models of adverse events: terms borrow from their body system, systems from each other.

For term j of body system b, subjects with the event in control and treated are binomial with log odds gamma_bj and
gamma_bj + theta_bj. gamma_bj ~ N(mu.gamma_b, sigma2.gamma_b), and
  model "BB" (Berry & Berry, Biometrics 2004;60:418): theta_bj = 0 with probability pi_b, else N(mu.theta_b,
  sigma2.theta_b); pi_b ~ Beta(alpha.pi, beta.pi), alpha.pi and beta.pi exponential above 1;
  model "1a" (Xia, Ma & Carlin, J Biopharm Stat 2011;21:1006): no point mass.
mu_b ~ N(mu.0, tau2.0), mu.0 ~ N(mu.0.0, tau2.0.0), sigma2_b and tau2.0 inverse gamma. Defaults of the hyperparameters
are those of the R package c212 (Carragher), the same as in Berry & Berry 2004.

Gibbs steps for the hyperparameters (alpha.pi, beta.pi by Metropolis steps with pi_b integrated out), one joint step for
each event (`ae_events`). Chance by address: Purpose.AE_MODEL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.analysis.ae_events import USES, Counts, Level, Pair, likelihood, start, updated
from trials.analysis.binary import _counts
from trials.analysis.chains import effective, rhat

__all__ = ["Hyper", "Posterior", "Summary", "hierarchy"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Model = Literal["BB", "1a"]
_BATCH: Final = 50  # sweeps whose chance is drawn at once
_STEPS: Final = 2  # Metropolis steps for (alpha.pi, beta.pi) in a sweep
_STEP: Final = 0.9  # their standard deviation, on log(alpha.pi - 1)
_SYSTEM: Final = 2**20  # addresses of body systems, past those of terms
_WHOLE: Final = 2**21  # address of what all systems share
MAX_RHAT, MIN_ESS = 1.01, 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyper:
    """Fixed hyperparameters; names and defaults of c212 1.0.1 (mu.gamma.0.0 = 0, tau2.gamma.0.0 = 10, ...)."""

    mu_gamma_0_0: float = 0.0
    tau2_gamma_0_0: float = 10.0
    mu_theta_0_0: float = 0.0
    tau2_theta_0_0: float = 10.0
    alpha_gamma_0_0: float = 3.0
    beta_gamma_0_0: float = 1.0
    alpha_theta_0_0: float = 3.0
    beta_theta_0_0: float = 1.0
    alpha_gamma: float = 3.0
    beta_gamma: float = 1.0
    alpha_theta: float = 3.0
    beta_theta: float = 1.0
    lambda_alpha: float = 1.0
    lambda_beta: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of one quantity per term or system (K,): mean, sd, equal-tailed limits, P(> 0), R-hat, effective draws."""

    mean: Floats
    sd: Floats
    median: Floats
    lower: Floats
    upper: Floats
    positive: Floats
    rhat: Floats
    ess: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Draws (C, D, K) by term: log odds in control, log odds ratio; (C, D, B) by body system: mean, P(theta = 0).

    terms: the log odds ratios summarised; accepted: share of event steps accepted. `sound`: R-hat of every theta at
    most 1.01, 400 effective draws or more.
    """

    model: Model
    gamma: Floats
    theta: Floats
    mu_theta: Floats
    zero: Floats
    terms: Summary
    accepted: float
    level: float

    def of_difference(self) -> Summary:
        """Risk differences of the terms."""
        from pkpd.kernels.elementary import expit_array

        return _summary(expit_array(self.gamma + self.theta) - expit_array(self.gamma), self.level)

    def of_systems(self) -> Summary:
        """mu.theta of the body systems."""
        return _summary(self.mu_theta, self.level)

    @property
    def sound(self) -> bool:
        return bool((self.terms.rhat <= MAX_RHAT).all() and (self.terms.ess >= MIN_ESS).all())


def _summary(draws: Floats, level: float) -> Summary:
    flat = draws.reshape(-1, draws.shape[2])
    low, middle, high = np.quantile(flat, [0.5 - 0.5 * level, 0.5, 0.5 + 0.5 * level], axis=0)
    return Summary(
        mean=flat.mean(axis=0), sd=flat.std(axis=0, ddof=1), median=middle, lower=low, upper=high,
        positive=(flat > 0).mean(axis=0), rhat=rhat(draws), ess=effective(draws),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Systems:
    """Hyperparameters of the chains: (C, B) by system, (C,) of all."""

    mu: tuple[Floats, Floats]  # of gamma, of theta
    sigma2: tuple[Floats, Floats]
    pi: Floats
    mu_0: tuple[Floats, Floats]
    tau2_0: tuple[Floats, Floats]
    shape: tuple[Floats, Floats]  # alpha.pi, beta.pi


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """Data with terms sorted by system: `begin` of each system, its number of terms, the system of each term."""

    counts: Counts
    system: Ints
    begin: Ints
    size: Ints
    hyper: Hyper
    point_mass: bool
    stride: tuple[Floats, Floats]  # of shifts of gamma and theta by system, (B,)


def hierarchy(
    x1: ArrayLike, n1: ArrayLike, x0: ArrayLike, n0: ArrayLike, *, system: ArrayLike, model: Model = "BB",
    seed: int = 1, hyper: Hyper | None = None, chains: int = 4, draws: int = 4000, warmup: int = 250,
    level: float = 0.95,
) -> Posterior:  # fmt: skip
    """Sample the posterior of K terms: subjects with the event x1 of n1 treated, x0 of n0 control; `system` (K,) codes.

    The order of terms is kept; systems are those of the codes 0, 1, ... Errors: InputError for counts that are none,
    codes without a term, an unknown model.

    >>> made = hierarchy([30, 10], 100, [10, 10], 100, system=[0, 0], chains=4, draws=100, warmup=50)
    >>> bool(made.terms.positive[0] > 0.9), made.theta.shape
    (True, (4, 100, 2))
    """
    if model not in ("BB", "1a"):
        raise InputError("must be BB or 1a", field="model", value=model)
    case, order = _case(_counts((x1, n1), (x0, n0)), np.asarray(system, np.int64).reshape(-1), hyper or Hyper(), model)
    sizes = chains, warmup, draws
    kept, accepted = _sampled(case, seed, sizes)
    back = np.argsort(order, kind="stable")
    gamma, theta, mu, pi = kept
    return Posterior(model=model, gamma=gamma[..., back], theta=theta[..., back], mu_theta=mu, zero=pi,
                     terms=_summary(theta[..., back], level), accepted=accepted, level=level)  # fmt: skip


def _case(counts: list[Floats], system: Ints, hyper: Hyper, model: Model) -> tuple[_Case, Ints]:
    if system.shape != counts[0].shape:
        raise InputError("needs one code per term", field="system", value=system.size)
    size = np.bincount(system) if system.size and system.min() >= 0 else np.zeros(1, np.int64)
    if (size == 0).any():
        raise InputError("must be codes 0, 1, ... of systems with at least one term each", field="system")
    order = np.argsort(system, kind="stable")
    x1, n1, x0, n0 = (a[order] for a in counts)
    data = Counts(x0=x0, n0=n0, x1=x1, n1=n1)
    begin = np.concatenate([[0], np.cumsum(size)[:-1]])
    case = _Case(counts=data, system=system[order], begin=begin, size=size, hyper=hyper, point_mass=model == "BB",
                 stride=_stride(data, begin))  # fmt: skip
    return case, order


def _stride(c: Counts, begin: Ints) -> tuple[Floats, Floats]:
    """2.4 standard errors of a shift common to a system's terms, by the information in its counts."""
    info = [n * (x + 0.5) * (n - x + 0.5) / (n + 1.0) ** 2 for x, n in ((c.x0, c.n0), (c.x1, c.n1))]
    both, treated = (np.add.reduceat(a, begin) for a in (info[0] + info[1], info[1]))
    return 2.4 / np.sqrt(both + 1.0), 2.4 / np.sqrt(treated + 1.0)


def _sampled(case: _Case, seed: int, sizes: tuple[int, int, int]) -> tuple[list[Floats], float]:
    chains, warmup, draws = sizes
    terms, systems = case.system.size, case.size.size
    out = [np.empty((chains, draws, width)) for width in (terms, terms, systems, systems)]
    state, accepted = _begun(case, seed, chains), 0
    pair = start(case.counts, _level(case, state))
    for first in range(0, warmup + draws, _BATCH):
        sweeps = np.arange(first, min(first + _BATCH, warmup + draws))
        chance = _chance(case, seed, chains, sweeps + 1)
        for k, sweep in enumerate(sweeps.tolist()):
            pair, taken = updated(case.counts, _level(case, state), pair, chance[0][k])
            state = _swept(case, state, pair, (chance[1][k], chance[2][k]))
            state, pair = _shifted(case, state, pair, (chance[1][k][..., 5:], chance[2][k][:, 0, -4:]))
            if sweep >= warmup:
                accepted += int(taken.sum())
                for kept, value in zip(out, (pair.gamma, pair.theta, state.mu[1], state.pi), strict=True):
                    kept[:, sweep - warmup] = value
    return out, accepted / max(chains * draws * terms, 1)


def _chance(case: _Case, seed: int, chains: int, sweeps: Ints) -> tuple[Floats, Floats, Floats]:
    """Uniforms (S, C, K, USES) of events, (S, C, B, 9) of systems, (S, C, 1, 8 + 3 steps) of all."""
    parts = (0, case.system.size, USES), (_SYSTEM, case.size.size, 9), (_WHOLE, 1, 8 + 3 * _STEPS)
    found = [
        uniforms(
            seed, Purpose.AE_MODEL, subject=first + np.arange(many)[:, None],
            replicate=np.arange(chains)[:, None, None], index=sweeps[:, None, None, None], slot=np.arange(uses),
        )
        for first, many, uses in parts
    ]  # fmt: skip
    return found[0], found[1], found[2]


def _begun(case: _Case, seed: int, chains: int) -> _Systems:
    """Chains start apart: means about the empirical log odds, variances around 1, pi uniform."""
    from pkpd.kernels.philox import quantile_array

    u = _chance(case, seed, chains, np.zeros(1, np.int64))[1][0]
    z = quantile_array(u)
    c = case.counts
    odds = np.log((c.x0 + 0.5) / (c.n0 - c.x0 + 0.5))
    middle = np.add.reduceat(odds, case.begin) / case.size
    one = np.ones(chains)
    return _Systems(
        mu=(middle + z[..., 0], 0.7 * z[..., 1]), sigma2=(np.exp(z[..., 2]), np.exp(z[..., 3])), pi=u[..., 4],
        mu_0=((middle + z[..., 0]).mean(axis=1), 0.7 * z[..., 1].mean(axis=1)), tau2_0=(one, one),
        shape=(1.5 * one, 1.5 * one),
    )  # fmt: skip


def _level(case: _Case, s: _Systems) -> Level:
    from pkpd.kernels.elementary import log_array

    at = case.system
    zero = log_array(s.pi) if case.point_mass else np.full(s.pi.shape, -np.inf)
    some = log_array(1.0 - s.pi) if case.point_mass else np.zeros(s.pi.shape)
    return Level(mean_gamma=s.mu[0][:, at], var_gamma=s.sigma2[0][:, at], mean_theta=s.mu[1][:, at],
                 var_theta=s.sigma2[1][:, at], log_zero=zero[:, at], log_some=some[:, at])  # fmt: skip


def _swept(case: _Case, s: _Systems, pair: Pair, chance: tuple[Floats, Floats]) -> _Systems:
    """Every hyperparameter once, given the events."""
    u, w = chance
    some = pair.some.astype(np.float64)
    values = (pair.gamma, np.ones(some.shape)), (pair.theta, some)
    gamma, theta = (
        _half(case, values[k], (s.sigma2[k], s.mu_0[k], s.tau2_0[k]), (u[..., at], w[:, 0, at]), fixed=fixed)
        for k, (at, fixed) in enumerate(zip((slice(0, 2), slice(2, 4)), _fixed(case.hyper), strict=True))
    )
    shape, pi = s.shape, s.pi
    if case.point_mass:
        shape, pi = _point_mass(case, shape, some, (u[..., 4], w[:, 0, 4 : 4 + 3 * _STEPS]))
    mu, sigma2, mu_0, tau2_0 = zip(gamma, theta, strict=True)
    return _Systems(mu=mu, sigma2=sigma2, pi=pi, mu_0=mu_0, tau2_0=tau2_0, shape=shape)


def _half(
    case: _Case, values: tuple[Floats, Floats], now: tuple[Floats, Floats, Floats], chance: tuple[Floats, Floats],
    *, fixed: tuple[float, ...],
) -> tuple[Floats, Floats, Floats, Floats]:  # fmt: skip
    """mu, sigma2 (C, B), mu.0, tau2.0 (C,) of gamma or theta: `values` and which of them count, (C, K).

    now: sigma2, mu.0 and tau2.0 as they are; fixed: as in `_fixed`.
    """
    (value, counted), (sigma2, mu_0, tau2_0), (u, w) = values, now, chance
    many, total = (np.add.reduceat(a, case.begin, axis=1) for a in (counted, value * counted))
    mu = _mean((total, many), sigma2, (mu_0[:, None], tau2_0[:, None]), u[..., 0])
    away = np.add.reduceat(counted * (value - mu[:, case.system]) ** 2, case.begin, axis=1)
    sigma2 = _variance(fixed[0] + 0.5 * many, fixed[1] + 0.5 * away, u[..., 1])
    count, prior = np.float64(mu.shape[1]), (np.float64(fixed[2]), np.float64(fixed[3]))
    mu_0 = _mean((mu.sum(axis=1), count), tau2_0, prior, w[:, 0])
    spread = ((mu - mu_0[:, None]) ** 2).sum(axis=1)
    return mu, sigma2, mu_0, _variance(fixed[4] + 0.5 * count, fixed[5] + 0.5 * spread, w[:, 1])


type _Number = Floats | np.float64


def _shifted(case: _Case, s: _Systems, pair: Pair, chance: tuple[Floats, Floats]) -> tuple[_Systems, Pair]:
    """Move a system's mean together with its terms, and all means together: where counts say little, means and terms
    would otherwise follow each other in small steps. Metropolis steps of fixed size; the differences stay as they are.
    """
    from dataclasses import replace

    u, w = chance
    for k, moves in ((0, np.ones(pair.some.shape)), (1, pair.some.astype(np.float64))):
        step = case.stride[k] * _normals(u[..., 2 * k])
        pair, taken = _moved(case, pair, k, (step[:, case.system] * moves, _ahead(s, k, step), u[..., 2 * k + 1]))
        s = replace(s, mu=_added(s.mu, k, step * taken))
        shift = (case.stride[k].min() * _normals(w[:, 2 * k]))[:, None]
        centre, variance = _fixed(case.hyper)[k][2:4]
        away = s.mu_0[k][:, None] - centre
        gain = -0.5 * ((away + shift) ** 2 - away**2) / variance
        pair, taken = _moved(case, pair, k, (shift * moves, gain, w[:, 2 * k + 1, None]), together=True)
        shift = shift * taken
        s = replace(s, mu=_added(s.mu, k, shift), mu_0=_added(s.mu_0, k, shift[:, 0]))
    return s, pair


def _added(both: tuple[Floats, Floats], k: int, more: Floats) -> tuple[Floats, Floats]:
    return (both[0] + more, both[1]) if k == 0 else (both[0], both[1] + more)


def _fixed(h: Hyper) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For gamma and theta: shape and rate of sigma2, mean and variance of mu.0, shape and rate of tau2.0."""
    return (
        (h.alpha_gamma, h.beta_gamma, h.mu_gamma_0_0, h.tau2_gamma_0_0, h.alpha_gamma_0_0, h.beta_gamma_0_0),
        (h.alpha_theta, h.beta_theta, h.mu_theta_0_0, h.tau2_theta_0_0, h.alpha_theta_0_0, h.beta_theta_0_0),
    )


def _ahead(s: _Systems, k: int, step: Floats) -> Floats:
    """Gain of the prior of mu_b by a step, (C, B)."""
    away = s.mu[k] - s.mu_0[k][:, None]
    found: Floats = -0.5 * ((away + step) ** 2 - away**2) / s.tau2_0[k][:, None]
    return found


def _moved(
    case: _Case, pair: Pair, k: int, move: tuple[Floats, Floats, Floats], *, together: bool = False
) -> tuple[Pair, Floats]:
    """Shift gamma (k = 0) or theta (1) of terms where it is accepted; 1.0 where it is, (C, B), or (C, 1) together.

    move: the shift (C, K) or (C, 1), the gain of the prior and a uniform, (C, B) or (C, 1).
    """
    from dataclasses import replace

    from pkpd.kernels.elementary import log_array

    shift, gain, u = move
    new = replace(pair, gamma=pair.gamma + shift) if k == 0 else replace(pair, theta=pair.theta + shift)
    change = likelihood(case.counts, new.gamma, new.theta) - likelihood(case.counts, pair.gamma, pair.theta)
    by = change.sum(axis=1, keepdims=True) if together else np.add.reduceat(change, case.begin, axis=1)
    taken = log_array(np.ascontiguousarray(u)) < by + gain
    where = np.broadcast_to(taken, pair.gamma.shape) if together else taken[:, case.system]
    kept = Pair(gamma=np.where(where, new.gamma, pair.gamma), theta=np.where(where, new.theta, pair.theta),
                some=pair.some)  # fmt: skip
    return kept, taken.astype(np.float64)


def _normals(u: Floats) -> Floats:
    from pkpd.kernels.philox import quantile_array

    return quantile_array(np.ascontiguousarray(u))


def _mean(seen: tuple[Floats, _Number], variance: Floats, prior: tuple[_Number, _Number], u: Floats) -> Floats:
    """Normal mean given (sum, number) of values with a variance, and a normal prior (mean, variance)."""
    from pkpd.kernels.philox import quantile_array

    total, many = seen
    precision = many / variance + 1.0 / prior[1]
    found: Floats = (total / variance + prior[0] / prior[1]) / precision + quantile_array(
        np.ascontiguousarray(u)
    ) / np.sqrt(precision)
    return found


def _variance(shape: _Number, rate: Floats, u: Floats) -> Floats:
    """Inverse gamma by its quantile."""
    from scipy.special import gammaincinv

    found: Floats = rate / gammaincinv(shape, u)
    return found


def _point_mass(
    case: _Case, shape: tuple[Floats, Floats], some: Floats, chance: tuple[Floats, Floats]
) -> tuple[tuple[Floats, Floats], Floats]:
    """(alpha.pi, beta.pi) with pi integrated out, then pi."""
    from scipy.special import betaincinv

    from pkpd.kernels.elementary import exp_array, log_array
    from pkpd.kernels.philox import quantile_array

    u, w = chance
    many = np.add.reduceat(some, case.begin, axis=1)
    seen: tuple[Floats, Floats] = (case.size.astype(np.float64) - many, many)
    alpha, beta = shape
    now = _log_shape(case.hyper, alpha, beta, seen)
    for k in range(_STEPS):
        step = exp_array(_STEP * quantile_array(np.ascontiguousarray(w[:, 3 * k : 3 * k + 2])))
        new = 1.0 + (alpha - 1.0) * step[:, 0], 1.0 + (beta - 1.0) * step[:, 1]
        there = _log_shape(case.hyper, *new, seen)
        taken = log_array(np.ascontiguousarray(w[:, 3 * k + 2])) < there - now
        alpha, beta = np.where(taken, new[0], alpha), np.where(taken, new[1], beta)
        now = np.where(taken, there, now)
    pi = betaincinv(alpha[:, None] + seen[0], beta[:, None] + seen[1], u)
    return (alpha, beta), np.clip(pi, 1e-12, 1.0 - 1e-12)


def _log_shape(hyper: Hyper, alpha: Floats, beta: Floats, seen: tuple[Floats, Floats]) -> Floats:
    """log density of log(alpha - 1), log(beta - 1) given how many thetas of each system are 0 and are not."""
    from scipy.special import betaln

    from pkpd.kernels.elementary import log_array

    likely = betaln(alpha[:, None] + seen[0], beta[:, None] + seen[1]) - betaln(alpha, beta)[:, None]
    prior = -hyper.lambda_alpha * alpha - hyper.lambda_beta * beta + log_array(alpha - 1.0) + log_array(beta - 1.0)
    found: Floats = likely.sum(axis=1) + prior
    return found
