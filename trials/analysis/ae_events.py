"""The level of events in the hierarchical model of adverse events: log odds in control and log odds ratio, updated.

One Metropolis-Hastings step updates an event's pair (gamma, theta), and whether theta is 0, together. The proposal does
not depend on where the chain is: the two hypotheses are chosen by their Laplace weights, then the pair is drawn from a
Student t with 4 degrees of freedom at the mode, by the curvature there. Given the hyperparameters the steps are nearly
independent draws, and the heavy tails keep every state within reach; nothing is tuned. Arrays (C, K): chain, event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["USES", "Counts", "Level", "Pair", "likelihood", "start", "updated"]

Floats = NDArray[np.float64]
USES: Final = 6  # uniforms of one step: hypothesis, two normals, two of the scale, acceptance
_NEWTON: Final = 3
_LOG_2PI: Final = math.log(2.0 * math.pi)
_T1: Final = math.lgamma(2.5) - math.lgamma(2.0) - 0.5 * math.log(4.0 * math.pi)
_T2: Final = -_LOG_2PI


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Subjects with the event and subjects, control (0) and treated (1), (K,) each."""

    x0: Floats
    n0: Floats
    x1: Floats
    n1: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Prior of each event given its body system, (C, K): means and variances of gamma and theta; log P(theta = 0),
    -inf without a point mass, and log P(theta != 0).
    """

    mean_gamma: Floats
    var_gamma: Floats
    mean_theta: Floats
    var_theta: Floats
    log_zero: Floats
    log_some: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """gamma: log odds in control; theta: log odds ratio; `some`: theta is not 0, (C, K)."""

    gamma: Floats
    theta: Floats
    some: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """Mode and lower root of the covariance of the pair; mode and sd of gamma alone; log odds of `some`."""

    gamma: Floats
    theta: Floats
    l11: Floats
    l21: Floats
    l22: Floats
    alone: Floats
    sd: Floats
    log_odds: Floats


def _softplus(x: Floats) -> Floats:
    from pkpd.kernels.elementary import exp_array, log_array

    return np.maximum(x, 0.0) + log_array(1.0 + exp_array(-np.abs(x)))


def _expit(x: Floats) -> Floats:
    from pkpd.kernels.elementary import expit_array

    return expit_array(x)


def likelihood(c: Counts, gamma: Floats, theta: Floats) -> Floats:
    """Binomial log likelihood of both arms without its constants, (C, K)."""
    treated = gamma + theta
    return c.x0 * gamma - c.n0 * _softplus(gamma) + c.x1 * treated - c.n1 * _softplus(treated)


def _normal(x: Floats, mean: Floats, variance: Floats) -> Floats:
    from pkpd.kernels.elementary import log_array

    return -0.5 * (_LOG_2PI + log_array(variance) + (x - mean) ** 2 / variance)


def _target(c: Counts, level: Level, pair: Pair) -> Floats:
    theta = _normal(pair.theta, level.mean_theta, level.var_theta)
    prior = np.where(pair.some, level.log_some + theta, level.log_zero)
    return likelihood(c, pair.gamma, pair.theta) + _normal(pair.gamma, level.mean_gamma, level.var_gamma) + prior


def _looked(c: Counts) -> tuple[Floats, Floats, Floats, Floats]:
    """Empirical log odds of control and treated with their variances, half an event added."""
    from pkpd.kernels.elementary import log_array

    ends = [(x + 0.5, n - x + 0.5) for x, n in ((c.x0, c.n0), (c.x1, c.n1))]
    odds = [log_array(a / b) for a, b in ends]
    spread = [1.0 / a + 1.0 / b for a, b in ends]
    return odds[0], odds[1], spread[0], spread[1]


def _pair_mode(c: Counts, level: Level) -> tuple[Floats, ...]:
    """Mode and lower root of the covariance by Newton steps from the empirical log odds shrunk to the prior."""
    odds0, odds1, v0, v1 = _looked(c)
    gamma = _shrunk(odds0, v0, level.mean_gamma, level.var_gamma)
    theta = _shrunk(odds1 - odds0, v0 + v1, level.mean_theta, level.var_theta)
    for last in range(_NEWTON + 1):
        p0, p1 = _expit(gamma), _expit(gamma + theta)
        w1 = c.n1 * p1 * (1.0 - p1)
        a = c.n0 * p0 * (1.0 - p0) + w1 + 1.0 / level.var_gamma
        d = w1 + 1.0 / level.var_theta
        determinant = a * d - w1 * w1
        if last == _NEWTON:
            break
        up = c.x1 - c.n1 * p1
        g = c.x0 - c.n0 * p0 + up - (gamma - level.mean_gamma) / level.var_gamma
        h = up - (theta - level.mean_theta) / level.var_theta
        gamma = gamma + np.clip((d * g - w1 * h) / determinant, -2.0, 2.0)
        theta = theta + np.clip((a * h - w1 * g) / determinant, -2.0, 2.0)
    l11 = np.sqrt(d / determinant)
    l21 = -w1 / determinant / l11
    return gamma, theta, l11, l21, 1.0 / np.sqrt(d)


def _shrunk(x: Floats, v: Floats, mean: Floats, variance: Floats) -> Floats:
    return (x * variance + mean * v) / (v + variance)


def _alone_mode(c: Counts, level: Level) -> tuple[Floats, Floats]:
    """Mode and sd of gamma where theta is 0."""
    odds0, odds1, v0, v1 = _looked(c)
    gamma = _shrunk((odds0 * v1 + odds1 * v0) / (v0 + v1), v0 * v1 / (v0 + v1), level.mean_gamma, level.var_gamma)
    x, n = c.x0 + c.x1, c.n0 + c.n1
    for last in range(_NEWTON + 1):
        p = _expit(gamma)
        a = n * p * (1.0 - p) + 1.0 / level.var_gamma
        if last == _NEWTON:
            break
        gamma = gamma + np.clip((x - n * p - (gamma - level.mean_gamma) / level.var_gamma) / a, -2.0, 2.0)
    return gamma, 1.0 / np.sqrt(a)


def _proposal(c: Counts, level: Level) -> _Proposal:
    from pkpd.kernels.elementary import log_array

    gamma, theta, l11, l21, l22 = _pair_mode(c, level)
    if np.isneginf(level.log_zero).all():
        endless = np.full(gamma.shape, np.inf)
        return _Proposal(gamma=gamma, theta=theta, l11=l11, l21=l21, l22=l22, alone=gamma, sd=l11, log_odds=endless)
    alone, sd = _alone_mode(c, level)
    some, zero = np.ones(gamma.shape, np.bool_), np.zeros(gamma.shape, np.bool_)
    top = _target(c, level, Pair(gamma=gamma, theta=theta, some=some)) + _LOG_2PI + log_array(l11 * l22)
    bottom = _target(c, level, Pair(gamma=alone, theta=0.0 * alone, some=zero)) + 0.5 * _LOG_2PI + log_array(sd)
    odds = np.clip(top - bottom, -12.0, 12.0)  # neither hypothesis is ever out of reach
    return _Proposal(gamma=gamma, theta=theta, l11=l11, l21=l21, l22=l22, alone=alone, sd=sd, log_odds=odds)


def _density(q: _Proposal, pair: Pair) -> Floats:
    """log of the proposal's density at a pair."""
    from pkpd.kernels.elementary import log_array

    first = (pair.gamma - q.gamma) / q.l11
    second = (pair.theta - q.theta - q.l21 * first) / q.l22
    both = _T2 - 3.0 * log_array(1.0 + 0.25 * (first * first + second * second)) - log_array(q.l11 * q.l22)
    lone = (pair.gamma - q.alone) / q.sd
    one = _T1 - 2.5 * log_array(1.0 + 0.25 * lone * lone) - log_array(q.sd)
    some = -_softplus(-q.log_odds) + both
    return np.where(pair.some, some, -_softplus(q.log_odds) + one)


def _drawn(q: _Proposal, u: Floats) -> Pair:
    """A pair from uniforms (C, K, USES); the scale of the t is 4 over a chi-square of 4 degrees of freedom."""
    from pkpd.kernels.elementary import log_array
    from pkpd.kernels.philox import quantile_array

    some = u[..., 0] < _expit(q.log_odds)
    wide = np.sqrt(4.0 / (-2.0 * log_array(u[..., 3] * u[..., 4])))
    first, second = wide * quantile_array(u[..., 1]), wide * quantile_array(u[..., 2])
    gamma = np.where(some, q.gamma + q.l11 * first, q.alone + q.sd * first)
    return Pair(gamma=gamma, theta=np.where(some, q.theta + q.l21 * first + q.l22 * second, 0.0), some=some)


def start(c: Counts, level: Level) -> Pair:
    """The modes, theta not 0."""
    gamma, theta, *_ = _pair_mode(c, level)
    return Pair(gamma=gamma, theta=theta, some=np.ones(gamma.shape, np.bool_))


def updated(c: Counts, level: Level, pair: Pair, u: Floats) -> tuple[Pair, NDArray[np.bool_]]:
    """The pairs after one step with uniforms u (C, K, USES), and which proposals were accepted."""
    from pkpd.kernels.elementary import log_array

    q = _proposal(c, level)
    new = _drawn(q, u)
    gain = _target(c, level, new) - _target(c, level, pair) + _density(q, pair) - _density(q, new)
    taken = log_array(u[..., 5]) < gain
    chosen = (np.where(taken, a, b) for a, b in ((new.gamma, pair.gamma), (new.theta, pair.theta)))
    gamma, theta = chosen
    return Pair(gamma=gamma, theta=theta, some=np.where(taken, new.some, pair.some)), taken
