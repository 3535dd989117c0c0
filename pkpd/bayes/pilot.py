"""A second look, from a short run: coordinates for the run that counts.

The quick look (`bayes.centring`) stands at a mode. Where three samples tell of four values, a subject's mode may lie
far from its mass, and of the population quantities the look says nothing. A pilot in its coordinates gives draws x and
gradients g of log p there; the regression of g on x is minus the mean curvature of log p (Stein's identity), the normal
law next to it, and exact from any draws where log p is quadratic. It is done twice: subject by subject, of what the
rows say of its own values, for the frame; and, together with the covariance of the draws, of the population quantities,
for a linear map that leaves them about standard normal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.centring import (
    Look,
    frame_of,
    given_at,
    pull_of,
    seen_at,
    spreads,
    starting_point,
    told_at,
    without_negative,
)
from pkpd.bayes.density import Density
from pkpd.bayes.frame import Frame, Turn
from pkpd.bayes.nuts import draw
from pkpd.ground.errors import RunFailed

if TYPE_CHECKING:
    from pkpd.bayes.fit import Settings

__all__ = ["curvature", "metric", "piloted", "reframed", "second_look", "turn_of"]

Floats = NDArray[np.float64]
CHAINS, LEAST, MOST, TUNED, TARGET = 2, 100, 500, 0.6, 0.8
"""Of the pilot: chains, least and most steps of each, share of them that tune, target_accept."""
OTHER = 0x9E3779B97F4A7C15
"""What tells the seed of the pilot from that of the run."""
READ = 200
"""Draws of which the second look takes the gradients of the rows."""
KEPT = 0.02
"""Weight of the curvature at the mean beside that of the draws: it decides where draws hardly move."""
UNFOLDED = 3.0
"""Sds of effects are unfolded about this many widths of their draws: about a straight line where they may be 0."""
WIDEST = 3.0
"""Logarithm of how far the sizes of two residual sds may lie apart where they tell the same of the rows."""
PLAIN = 2.0
"""Variances within this factor of 1 are left alone: noise of the pilot."""


def piloted(plain: Density, seen: Look, settings: Settings, *, seed: int, cores: int) -> tuple[Density, Look, Settings]:
    """The density in the coordinates of a second look, what it saw, and settings of which the pilot's steps are taken
    off; the coordinates of the first look where no pilot can run, or where tuning is too short for one.
    """
    law = plain.framed(frame_of(plain.layout, seen, settings.centred))
    steps = min(MOST, settings.tune * settings.chains // (2 * CHAINS))
    if steps < LEAST:
        return law, seen, settings
    tune = int(TUNED * steps)
    how = replace(settings, chains=CHAINS, tune=tune, draws=steps - tune, target_accept=TARGET)
    try:
        drawn = draw(law, partial(starting_point, law, seen), how, seed=seed ^ OTHER, cores=cores)
    except RunFailed:
        return law, seen, settings
    x = drawn.x.reshape(-1, drawn.x.shape[-1])
    found = second_look(law, x[:: max(len(x) // READ, 1)])
    own = plain.framed(frame_of(plain.layout, found, settings.centred))
    try:
        made = own.turned(turn_of(own, reframed(law, own, x)))
    except np.linalg.LinAlgError:  # nothing like a normal law: predictions that vanish under a relative error do that
        return law, seen, settings
    return made, found, replace(settings, tune=settings.tune - CHAINS * steps // settings.chains)


def second_look(law: Density, x: Floats) -> Look:
    """What draws x (S, size) of a framed density tell of each subject."""
    layout = law.layout
    D, n = layout.at.shape
    plain = law.framed(Frame.none(D, layout.sizes[0], n))
    u, pull = _individuals(law, plain, x)
    given = given_at(plain, x[:, : layout.population].mean(axis=0))
    middle = u.mean(axis=0)
    _, info, slope, share = told_at(given, middle)
    errors, typical = x[:, layout.errors], x[:, : layout.sizes[0]]
    wider = 1.0 + np.einsum("njk,sk->snj", share, np.exp(2.0 * (errors - errors.mean(axis=0))) - 1.0)
    pull = pull * wider + np.einsum("njk,sk->snj", slope, typical - typical.mean(axis=0))
    found = without_negative(given, curvature(u, pull, (info, spreads(info, given.root))))
    return seen_at(given, middle, (pull.mean(axis=0), found, slope, share), failed=False)


def _individuals(law: Density, plain: Density, x: Floats) -> tuple[Floats, Floats]:
    """What is each subject's own in every draw, and the gradient of the log density of its rows: (S, N, D) both."""
    layout = law.layout
    roots = layout.roots(layout.population_named(x))
    y = np.where(layout.at >= 0, x[:, layout.at], 0.0)
    z = layout.frame.effects(y, x[:, : layout.sizes[0]], roots, x[:, layout.errors])
    u, pull = np.empty((len(x), *z.shape[:0:-1])), np.empty((len(x), *z.shape[:0:-1]))
    for s in range(len(x)):
        given = given_at(plain, x[s, : layout.population])
        u[s] = given.m + (given.root @ z[s]).T
        pull[s] = pull_of(given, u[s])
    return u, pull


def curvature(u: Floats, pull: Floats, before: tuple[Floats, Floats]) -> Floats:
    """Minus the regression of pull on u (S, N, D) of every subject; before: information and covariance it leans on."""
    away, pulled = u - u.mean(axis=0), pull - pull.mean(axis=0)
    second = np.einsum("sni,snj->nij", away, away) / len(u) + KEPT * before[1]
    mixed = np.einsum("sni,snj->nij", pulled, away) / len(u) - KEPT * before[0] @ before[1]
    found = -np.linalg.solve(second, mixed.swapaxes(1, 2))
    return np.asarray(0.5 * (found + found.swapaxes(1, 2)))


def reframed(old: Density, new: Density, x: Floats) -> Floats:
    """Draws x (S, size) of one frame in the coordinates of another."""
    layout, here = old.layout, old.layout.at >= 0
    roots = layout.roots(layout.population_named(x))
    typical, errors = x[:, : layout.sizes[0]], x[:, layout.errors]
    y = np.where(here, x[:, layout.at], 0.0)
    z = layout.frame.effects(y, typical, roots, errors)
    made = x.copy()
    made[:, layout.at[here]] = new.layout.frame.coordinates(z, typical, roots, errors)[:, here]
    return made


def turn_of(law: Density, x: Floats) -> Turn:
    """The map of the population quantities from draws x (S, size) of a density.

    Sds that may be 0 are unfolded, those of errors with two are told by their size and share. The rest is linear:
    between the covariance C of draws and that of gradients, G, the matrix M with M G M = C, the nearest in Fisher
    divergence.
    """
    p = law.layout.population
    fold, ring = UNFOLDED * np.exp(x[:, law.layout.scales]).std(axis=0), _ring(law, x)
    fold[np.isin(law.layout.scales, law.layout.rings)] = 0.0
    unfolded = law.turned(Turn(fold=fold, ring=ring))
    y = unfolded.layout.sampled(x)
    own, g = y[:, :p], np.stack([unfolded(one)[1][:p] for one in y])
    scale = np.sqrt(own.std(axis=0) / g.std(axis=0))
    weight = len(x) / (len(x) + p)
    C, G = (weight * np.cov(a, rowvar=False) + (1.0 - weight) * np.eye(p) for a in (own / scale, g * scale))
    values, vectors = np.linalg.eigh(metric(C, G))
    values = np.where(np.abs(np.log(values)) > np.log(PLAIN), values, 1.0)
    root = (vectors * np.sqrt(values)) @ vectors.T
    return Turn(middle=own.mean(axis=0), root=scale[:, None] * root, fold=fold, ring=ring)


def _ring(law: Density, x: Floats) -> Floats:
    """c of each output with two residual sds a, b: where log(a^2 + c^2 b^2) varies least over the draws."""
    from scipy.optimize import minimize_scalar

    made = []
    for a, b in x[:, law.layout.rings].transpose(1, 2, 0):
        middle = a.mean() - b.mean()
        found = minimize_scalar(
            lambda c, a=a, b=b: float(np.var(np.logaddexp(2.0 * a, 2.0 * (b + c)))),
            bounds=(middle - WIDEST, middle + WIDEST), method="bounded",
        )  # fmt: skip
        made.append(np.exp(found.x))
    return np.asarray(made)


def metric(C: Floats, G: Floats) -> Floats:
    """M with M G M = C, all symmetric and positive definite."""
    values, vectors = np.linalg.eigh(G)
    half, back = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
    inner, turned = np.linalg.eigh(half @ C @ half)
    return np.asarray(back @ (turned * np.sqrt(inner)) @ turned.T @ back)
