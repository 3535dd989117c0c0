"""The prior of a fit on the unconstrained scale: log density with gradient, and draws, of many points at once.

The law that a compiled density holds besides its rows, every effect non-centred: a test compares the two. For samplers
that go from prior to posterior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    from pkpd.bayes.layout import Layout

__all__ = ["PriorLaw", "prior_law"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
INSIDE = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorLaw:
    """Places in the vector and scales of what stands there. normal: with location (others are standard normal);
    half: logs of half-normals; beta: logits of Beta(shape, shape); cauchy: logs of half-Cauchys.
    """

    size: int
    normal: Ints
    location: Floats
    scale: Floats
    half: Ints
    half_scale: Floats
    beta: Ints
    shape: Floats
    cauchy: Ints
    cauchy_scale: Floats

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """Log density (n,) and gradient (n, size) at x (n, size)."""
        from scipy.special import expit, gammaln

        away = (x[:, self.normal] - self.location) / self.scale
        value = (-0.5 * away**2 - np.log(self.scale) - HALF_LOG_2PI).sum(axis=1)
        g = np.zeros_like(x)
        g[:, self.normal] = -away / self.scale
        with np.errstate(over="ignore"):
            square = np.exp(2.0 * (x[:, self.half] - np.log(self.half_scale)))
        logs = x[:, self.half] - np.log(self.half_scale)
        value += (logs - 0.5 * square + 0.5 * math.log(2.0 / math.pi)).sum(axis=1)
        g[:, self.half] = 1.0 - square
        u = x[:, self.beta]
        constant = gammaln(2.0 * self.shape) - 2.0 * gammaln(self.shape)
        value += (constant - self.shape * (np.logaddexp(0.0, u) + np.logaddexp(0.0, -u))).sum(axis=1)
        g[:, self.beta] = self.shape * (1.0 - 2.0 * expit(u))
        a = x[:, self.cauchy] - np.log(self.cauchy_scale)
        value += (math.log(2.0 / math.pi) + a - np.logaddexp(0.0, 2.0 * a)).sum(axis=1)
        g[:, self.cauchy] = 1.0 - 2.0 * expit(2.0 * a)
        return value, g

    def draw(self, z: Floats) -> Floats:
        """Points (n, size) of the prior from standard normals (n, size)."""
        from scipy.special import betaincinv, logit, ndtr

        x = z.copy()
        x[:, self.normal] = self.location + self.scale * z[:, self.normal]
        x[:, self.half] = np.log(self.half_scale * np.maximum(np.abs(z[:, self.half]), INSIDE))
        share = np.clip(ndtr(z[:, self.beta]), INSIDE, 1.0 - INSIDE)
        x[:, self.beta] = logit(np.clip(betaincinv(self.shape, self.shape, share), INSIDE, 1.0 - INSIDE))
        share = np.clip(ndtr(z[:, self.cauchy]), INSIDE, 1.0 - INSIDE)
        x[:, self.cauchy] = np.log(self.cauchy_scale * np.tan(0.5 * math.pi * share))
        return x


def prior_law(layout: Layout) -> PriorLaw:
    """The prior of a layout without frame and turn."""
    plan = layout.plan
    n_t, q, n_p, n_e = layout.sizes
    late, shrunk = n_t + q + n_p + n_e, list(plan.shrunk.values())
    between, first = len(plan.between), late + len(plan.between)
    cauchy = np.arange(first, first + (len(shrunk) + 1 if shrunk else 0))
    own, ties = np.arange(layout.population, layout.size), np.arange(layout.ties.start, layout.ties.stop)
    priors = list(plan.typical.values())
    if first + len(cauchy) + len(ties) != layout.population:
        raise InputError("this model has a prior that only NUTS knows yet", field="method", remedy="use method nuts")
    half = [*range(n_t, n_t + q), *range(n_t + q + n_p, late + between)]
    scales = [p.scale for p in (*plan.spread.values(), *plan.error.values(), *plan.between.values())]
    return PriorLaw(
        size=layout.size, normal=np.concatenate([np.arange(n_t), own]),
        location=np.concatenate([[p.location for p in priors], np.zeros(len(own))]),
        scale=np.concatenate([[p.scale for p in priors], np.ones(len(own))]),
        half=np.asarray(half, np.int64), half_scale=np.asarray(scales, np.float64),
        beta=np.concatenate([np.arange(n_t + q, n_t + q + n_p), ties]),
        shape=np.concatenate([layout.shapes()[0], layout.sigma_shapes()[0]]),
        cauchy=cauchy, cauchy_scale=np.asarray([p.tail for p in shrunk[:1]] + [1.0] * len(shrunk), np.float64),
    )  # fmt: skip
