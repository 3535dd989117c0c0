"""A quick look before sampling: where to start, and in which coordinates to sample each subject's random effects.

Laplace-EM on the compiled density: subjects are independent given the population, so that Newton steps of all subjects
at once need one gradient and q differences of it. What the rows of subject i tell of its individual values u, gradient
and curvature of their log density at the end, become the frame of the fit (`kernels.standardised`): coordinates that
are standard normal a posteriori for any population, centred as far as the data tell of a subject, not centred where
they do not, or where omega is small. What is left of an effect's variance, w_ij = Var(eta_ij | data, population) /
omega_j^2, is reported as the degree of centring 1 - w_ij.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.density import Density
from pkpd.bayes.frame import Frame
from pkpd.bayes.layout import Layout
from pkpd.bayes.plan import base_value, between
from pkpd.ground.streams import Purpose, normals
from pkpd.model import together
from pkpd.model.parts import inside
from pkpd.model.variability import point

__all__ = [
    "Choice",
    "Given",
    "Look",
    "chosen",
    "frame_of",
    "given_at",
    "look",
    "pull_of",
    "seen_at",
    "spreads",
    "starting_point",
    "told_at",
    "without_negative",
]

Floats = NDArray[np.float64]
Told = tuple[Floats, Floats, Floats, Floats]
"""pull, info, slope and share of `Look`."""
ROUNDS = 6
UNFINISHED = 0.1
"""Gradient by population sd from which a subject whose last step failed is tried again."""
LEAST_VARIANCE = 1e-4
LITTLE = 0.01
"""Step in a log residual error."""
NOTHING = 1e-3
"""Information, over that of the population, below which the rows say nothing."""
ASKED = 100.0
"""Information, over that of the population, of an effect that the user wants centred: its prior moves it by 1 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """population (p,): the first quantities of the sampled vector; individual (N, D): what is each subject's own
    (values on the parameters' scales, effects of occasions, standardised missing covariates); pull (N, D), info
    (N, D, D): gradient and minus curvature of the log density of each subject's rows there; slope (N, D, typical):
    minus its derivative by typical values; share (N, D, errors): of each residual error in what the rows say; spread
    (N, D, D): covariance of what is each subject's own; remaining: share of each effect's variance that the data leave,
    (subjects,) or (occasions,) by name; failed: it got nowhere.
    """

    population: Floats
    individual: Floats
    pull: Floats
    info: Floats
    slope: Floats
    share: Floats
    spread: Floats
    remaining: dict[str, Floats]
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was decided for one random effect, and why. centred (N,): degree of centring of each subject; remaining:
    share of its variance that the data leave, mean over subjects.
    """

    name: str
    centred: Floats
    remaining: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data: least, mean and largest degree."""
        degree = self.centred
        return {
            "name": self.name, "centred": [float(degree.min()), float(degree.mean()), float(degree.max())],
            "remaining": self.remaining, "reason": self.reason,
        }  # fmt: skip


def look(density: Density) -> Look:
    """The quick look at a density, whatever its frame."""
    layout = density.layout
    D, n = layout.at.shape
    plain = density.framed(Frame.none(D, layout.sizes[0], n))
    population, u = _first(layout)
    good = bool(np.isfinite(plain(given_at(plain, population).point(u))[0]))
    for k in range(ROUNDS if good else 0):
        u, covariance = _individuals(given_at(plain, population), u, steps=8 if k == 0 else 2)
        population = _population(layout, population, u, covariance)
        population = _fixed(given_at(plain, population), u)
    found = told_at(given_at(plain, population), u) if good else None
    if found is None or not all(np.isfinite(a).all() for a in found):
        population, u = _first(layout)
        found, good = _nothing(layout), False
    return seen_at(given_at(plain, population), u, found, failed=not good)


def _nothing(layout: Layout) -> Told:
    (D, n), (n_t, _, _, n_e) = layout.at.shape, layout.sizes
    return np.zeros((n, D)), np.zeros((n, D, D)), np.zeros((n, D, n_t)), np.zeros((n, D, n_e))


def seen_at(given: Given, u: Floats, told: Told, *, failed: bool) -> Look:
    """The look at a point of which `told_at` has told."""
    spread = spreads(told[1], given.root)
    left = np.einsum("njj->nj", spread) / np.diag(given.root @ given.root.T)
    return Look(
        population=given.population, individual=u, pull=told[0], info=told[1], slope=told[2], share=told[3],
        spread=spread, remaining=_by_name(given.layout, left), failed=failed,
    )  # fmt: skip


def _by_name(layout: Layout, columns: Floats) -> dict[str, Floats]:
    """Of (N, D) what belongs to each random effect: (subjects,), of those between occasions (occasions,)."""
    found = {n: columns[:, k] for k, n in enumerate(layout.plan.spread)}
    size = len(layout.occasions)
    for k, name in enumerate(layout.plan.between):
        first = layout.effects.stop + k * size
        value = np.empty(size)
        here = (layout.at >= first) & (layout.at < first + size)
        value[layout.at[here] - first] = columns.T[here]
        found[between(name)] = value
    return found


def chosen(seen: Look, asked: Mapping[str, bool] | None = None) -> tuple[Choice, ...]:
    """One decision for each random effect, subject by subject; asked: effects that the user decides."""
    made = []
    for name, left in seen.remaining.items():
        centred = np.clip(1.0 - left, 0.0, 1.0)
        reason = f"the data leave {100 * left.min():.0f} to {100 * left.max():.0f} % of its variance"
        if seen.failed:
            reason = "the quick look at the data failed"
        if asked is not None and name in asked:
            centred, reason = np.full(len(left), float(asked[name])), f"asked for ({reason})"
        made.append(Choice(name=name, centred=centred, remaining=float(left.mean()), reason=reason))
    return tuple(made)


def frame_of(layout: Layout, seen: Look, asked: Mapping[str, bool] | None = None) -> Frame:
    """The coordinates of what is each subject's own; asked: effects to centre wholly (True) or not at all (False)."""
    info, slope, pull = seen.info.copy(), seen.slope.copy(), seen.pull.copy()
    m, root = _hierarchy(layout, seen.population)
    for name, whole in (asked or {}).items():
        for j in _rows(layout, name):
            if whole:
                least = ASKED / float(root[j] @ root[j])
                info[:, j, j] = np.where(layout.at[j] >= 0, np.maximum(info[:, j, j], least), 0.0)
            else:
                info[:, j, :], info[:, :, j], slope[:, j, :], pull[:, j] = 0.0, 0.0, 0.0, 0.0
    known = _inverse(info, root)
    slope, pull = known @ slope, np.einsum("nij,nj->ni", known, pull)
    for j, name in enumerate(layout.plan.spread):  # the rows see a typical value through u alone where it has an effect
        if name in layout.plan.typical:
            slope[:, :, list(layout.plan.typical).index(name)] = np.eye(len(root))[j]
    peak = seen.individual - m + pull + np.einsum("nik,k->ni", slope, seen.population[: layout.sizes[0]])
    return Frame(
        info=np.ascontiguousarray(np.moveaxis(info, 0, -1)), peak=np.ascontiguousarray(peak.T),
        slope=np.ascontiguousarray(np.moveaxis(slope, 0, -1)),
        share=np.ascontiguousarray(np.moveaxis(seen.share, 0, -1)), seen=seen.population[layout.errors].copy(),
    )  # fmt: skip


def _inverse(info: Floats, root: Floats) -> Floats:
    """Inverses of info (N, D, D) where it says something beside the population."""
    values, vectors = np.linalg.eigh(np.einsum("ji,njk,kl->nil", root, info, root))
    turned = np.einsum("ij,njk->nik", root, vectors)
    return np.asarray(np.einsum("nik,nk,njk->nij", turned, values / (values**2 + NOTHING**2), turned))


def _rows(layout: Layout, name: str) -> range:
    """Which of the D rows belong to a random effect."""
    spread, each = list(layout.plan.spread), layout.most_occasions
    if name in spread:
        return range(spread.index(name), spread.index(name) + 1)
    first = len(spread) + [between(n) for n in layout.plan.between].index(name) * each
    return range(first, first + each)


def starting_point(density: Density, seen: Look, seed: int) -> Floats:
    """A chain's first point: the look's population, moved by chance, and coordinates drawn at random; all of it by
    chance where the population's quantities are turned, about standard normal.
    """
    layout = density.layout
    n_t, q, _, _ = layout.sizes
    moved = normals(seed % 2**63, Purpose.FIT, subject=np.arange(layout.size), replicate=0)
    if layout.turn.root.size:
        return moved
    sd = np.exp(seen.population[n_t : n_t + q])
    width = np.full(layout.population, 0.2)
    for k, name in enumerate(layout.plan.typical):
        own = sd[list(layout.plan.spread).index(name)] if name in layout.plan.spread else 0.2
        width[k] = min(own / np.sqrt(layout.subjects), layout.plan.typical[name].scale)
    x = moved.copy()
    x[: layout.population] = seen.population + width * moved[: layout.population]
    return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A density without a frame at one population: m (D,) typical values of the parameters with effects, 0 for the rest
    of what is a subject's own, root (D, D) of its covariance and the inverse.
    """

    density: Density
    population: Floats
    m: Floats
    root: Floats
    inverse: Floats

    @property
    def layout(self) -> Layout:
        return self.density.layout

    def point(self, u: Floats) -> Floats:
        """The sampled vector where what is each subject's own is u (N, D)."""
        x, at = np.zeros(self.layout.size), self.layout.at
        x[: self.layout.population] = self.population
        x[at[at >= 0]] = (self.inverse @ (u - self.m).T)[at >= 0]
        return x


def given_at(density: Density, population: Floats) -> Given:
    m, root = _hierarchy(density.layout, population)
    return Given(density=density, population=population, m=m, root=root, inverse=np.linalg.inv(root))


def _hierarchy(layout: Layout, population: Floats) -> tuple[Floats, Floats]:
    """m (D,) and root (D, D) of `Given`."""
    typical = dict(zip(layout.plan.typical, population, strict=False))
    m = np.zeros(len(layout.at))
    m[: len(layout.plan.spread)] = [typical.get(n, base_value(layout.plan.model, n)) for n in layout.plan.spread]
    return m, layout.roots(layout.population_named(population))


def _first(layout: Layout) -> tuple[Floats, Floats]:
    """Typical values, spreads and errors of the text; individuals at the typical values."""
    plan, model = layout.plan, layout.plan.model
    x = np.zeros(layout.population)
    n_t, q, n_p, _ = layout.sizes
    x[:n_t] = [0.0 if n in plan.shrunk else base_value(model, n) for n in plan.typical]
    x[n_t : n_t + q] = np.log([_spread(model, n) for n in plan.spread])
    for k, name in enumerate(plan.error):
        output, _, kind = name.partition(".")
        typical = getattr(model.outputs[output].error, kind).typical
        value = inside(typical) if hasattr(typical, "unit") else float(typical)
        x[n_t + q + n_p + k] = np.log(max(value, 1e-3 * plan.error[name].scale))
    for k, name in enumerate(plan.between):
        found = model.parameters[name].iov
        x[n_t + q + n_p + len(plan.error) + k] = np.log(max(found.typical, 0.01) if found is not None else 0.1)
    x[layout.ties] = _ties(layout)
    own = np.zeros((layout.subjects, len(layout.at)))
    own[:, :q] = [base_value(model, n) for n in plan.spread]
    return x, own


def _ties(layout: Layout) -> Floats:
    """Logits of the partial correlations of residual errors by the text."""
    matrix, order = together.matrices(layout.plan.model, point(layout.plan.model))[0], list(layout.plan.model.outputs)
    made = []
    for block, _ in layout.plan.sigma:
        at = [order.index(n) for n in block]
        made += _logits(np.linalg.cholesky(matrix[np.ix_(at, at)]))
    return np.asarray(made)


def _spread(model: Any, name: str) -> float:
    found = model.parameters[name].spread
    return max(float(found.typical), 0.01) if found is not None else 0.3


def _individuals(given: Given, u: Floats, *, steps: int) -> tuple[Floats, Floats]:
    """Damped Newton steps of every subject's values at once, u (N, D); covariances (N, D, D) at the end.

    Steps are of standard normal effects; each subject has its own damping (Levenberg & Marquardt) and keeps a step only
    where its own density grows.
    """
    q, root = len(given.m), given.root
    if not q:
        return u, np.zeros((len(u), 0, 0))
    damping, failed = np.full(len(u), 1e-3), np.zeros(len(u), np.bool_)
    value = _by_subject(given, u)
    for n in range(4 * steps):
        pull, info = _information(given, u)
        precision = _precision(info, root)
        damped = precision + damping[:, None, None] * np.einsum("njj->nj", precision)[:, :, None] * np.eye(q)
        uphill = pull @ root - (u - given.m) @ given.inverse.T
        if n >= steps and not (failed & (np.abs(uphill).max(axis=1) > UNFINISHED)).any():
            break
        step = np.clip(np.linalg.solve(damped, uphill[:, :, None])[:, :, 0], -2.0, 2.0) @ root.T
        new = _by_subject(given, u + step)
        better = new > value
        failed = ~better
        u = np.where(better[:, None], u + step, u)
        value = np.where(better, new, value)
        damping = np.clip(np.where(better, 0.2 * damping, 10.0 * damping), 1e-6, 1e6)
    return u, spreads(_information(given, u)[1], root)


def _by_subject(given: Given, u: Floats) -> Floats:
    """Log density of each subject's rows and effects, (N,), constants left out; -inf where a prediction failed."""
    rows = given.density.by_row(given.point(u))
    rows = np.where(np.isfinite(rows), rows, -np.inf)
    found = np.zeros(len(u))
    np.add.at(found, given.density.subject, rows)
    z = given.inverse @ (u - given.m).T
    return np.asarray(found - 0.5 * (z * z).sum(axis=0))


def pull_of(given: Given, u: Floats) -> Floats:
    """Gradient (N, D) of the log density of each subject's rows by its values."""
    x, at = given.point(u), given.layout.at
    total = np.where(at >= 0, (given.density(x)[1] + x)[at], 0.0)  # without the effects' own -z
    return np.asarray((given.inverse.T @ total).T)


def _information(given: Given, u: Floats) -> tuple[Floats, Floats]:
    """(`pull`, minus its derivative by u, symmetric, by central differences) of every subject: (N, D), (N, D, D)."""
    made = np.empty((*u.shape, u.shape[1]))
    for j in range(u.shape[1]):
        h = np.zeros(u.shape[1])
        h[j] = 1e-4 * max(float(np.sqrt(given.root[j] @ given.root[j])), 0.01)
        made[:, :, j] = (pull_of(given, u - h) - pull_of(given, u + h)) / (2.0 * h[j])
    return pull_of(given, u), np.nan_to_num(0.5 * (made + made.transpose(0, 2, 1)))


def _precision(info: Floats, root: Floats) -> Floats:
    """1 + L' info L of every subject, information that is negative left out."""
    values, vectors = np.linalg.eigh(np.einsum("ji,njk,kl->nil", root, info, root))
    return np.asarray(np.einsum("nij,nj,nkj->nik", vectors, 1.0 + np.maximum(values, 0.0), vectors))


def spreads(info: Floats, root: Floats) -> Floats:
    """Covariances (N, D, D) of each subject's values given the population."""
    inverse = np.linalg.inv(_precision(info, root)) if len(root) else info
    return np.asarray(np.einsum("ij,njk,lk->nil", root, inverse, root))


def told_at(given: Given, u: Floats) -> Told:
    """pull, info, slope and share of `Look` at the end.

    pull is what holds u against the population, the gradient where u is a mode; where it is none the coordinates still
    stay about u.
    """
    plan, back = given.layout.plan, given.inverse
    slope = np.zeros((*u.shape, given.layout.sizes[0]))
    if not u.shape[1]:
        return u, np.zeros((len(u), 0, 0)), slope, np.zeros((len(u), 0, given.layout.sizes[3]))
    here, info = _information(given, u)
    for k, name in enumerate(plan.typical):
        if name not in plan.spread:
            near = given.population.copy()
            near[k] += 1e-4 * min(plan.typical[name].scale, 1.0)
            slope[:, :, k] = (here - pull_of(replace(given, population=near), u)) / (near[k] - given.population[k])
    return (u - given.m) @ back.T @ back, without_negative(given, info), slope, _shares(given, u, info)


def _shares(given: Given, u: Floats, info: Floats) -> Floats:
    """(N, D, errors): of each residual error in the variance of the rows that tell of a value, by how its information
    falls with the error's logarithm.
    """
    first, own = given.layout.errors.start, np.einsum("njj->nj", info)
    made = np.zeros((*u.shape, given.layout.sizes[3]))
    for k in range(made.shape[2]):
        near = given.population.copy()
        near[first + k] += LITTLE
        there = np.einsum("njj->nj", _information(replace(given, population=near), u)[1])
        falls = np.log(np.where((own > 0.0) & (there > 0.0), there / np.where(own > 0.0, own, 1.0), 1.0))
        made[:, :, k] = np.clip(-0.5 * falls / LITTLE, 0.0, 1.0)
    return made / np.maximum(made.sum(axis=2, keepdims=True), 1.0)


def without_negative(given: Given, info: Floats) -> Floats:
    back = given.inverse
    known = np.einsum("ji,njk,kl->nil", back, _precision(info, given.root) - np.eye(len(back)), back)
    return np.asarray(0.5 * (known + known.swapaxes(1, 2)))


def _population(layout: Layout, population: Floats, u: Floats, covariance: Floats) -> Floats:
    """Typical values of the parameters with effects, their spread and correlations, sds between occasions."""
    plan = layout.plan
    n_t, q, n_p, n_e = layout.sizes
    x = population.copy()
    second = _by_name(layout, np.where(layout.at >= 0, (u**2 + np.einsum("njj->nj", covariance)).T, 0.0).T)
    for k, name in enumerate(plan.between):
        x[n_t + q + n_p + n_e + k] = 0.5 * np.log(max(float(second[between(name)].mean()), LEAST_VARIANCE))
    if not q:
        return x
    sd = np.exp(x[n_t : n_t + q])
    centre = np.array([base_value(plan.model, n) for n in plan.spread])
    for j, name in enumerate(plan.spread):
        if name in plan.typical:
            prior, at = plan.typical[name], list(plan.typical).index(name)
            weight = layout.subjects / sd[j] ** 2
            x[at] = (weight * u[:, j].mean() + prior.location / prior.scale**2) / (weight + 1.0 / prior.scale**2)
            centre[j] = x[at]
    away = u[:, :q] - centre
    omega = (np.einsum("ni,nj->ij", away, away) + covariance[:, :q, :q].sum(axis=0)) / layout.subjects
    x[n_t : n_t + q] = 0.5 * np.log(np.maximum(np.diag(omega), LEAST_VARIANCE))
    x[n_t + q : n_t + q + n_p] = _partials(layout, omega)
    return x


def _partials(layout: Layout, omega: Floats) -> Floats:
    """Logits of the partial correlations of each block, drawn a little towards none."""
    order, made = list(layout.plan.spread), []
    for block, _ in layout.plan.blocks:
        at = [order.index(n) for n in block]
        part = omega[np.ix_(at, at)]
        scale = np.sqrt(np.maximum(np.diag(part), LEAST_VARIANCE))
        correlation = 0.9 * part / np.outer(scale, scale) + 0.1 * np.eye(len(at))
        made += _logits(np.linalg.cholesky(correlation))
    return np.asarray(made)


def _logits(root: Floats) -> list[float]:
    """Logits of the partial correlations of a correlation matrix, from its root; none beyond 0.95."""
    made = []
    for i in range(len(root)):
        left = 1.0
        for j in range(i):
            p = float(np.clip(root[i, j] / np.sqrt(left), -0.95, 0.95))
            made.append(2.0 * np.arctanh(p))
            left *= 1.0 - p * p
    return made


def _fixed(given: Given, u: Floats) -> Floats:
    """A Newton step, one by one, of what has no random effect: other typical values, residual errors and their
    correlations.
    """
    n_t, q, n_p, n_e = given.layout.sizes
    own = [k for k, n in enumerate(given.layout.plan.typical) if n not in given.layout.plan.spread]
    x = given.population
    ties = given.layout.ties
    for k in [*own, *range(n_t + q + n_p, n_t + q + n_p + n_e), *range(ties.start, ties.stop)]:
        step = 0.02 * np.eye(len(x))[k]
        below, here, above = (_integrated(replace(given, population=x + d), u) for d in (-step, 0.0 * step, step))
        slope, curve = 0.5 * (above - below), 2.0 * here - above - below
        move = float(np.clip(slope / curve if curve > 0.0 else 35.0 * np.sign(slope), -35.0, 35.0))
        for part in (move, 0.25 * move):
            if _integrated(replace(given, population=x + part * step), u) > here:
                x = x + part * step
                break
    return x


def _integrated(given: Given, u: Floats) -> float:
    """Log density with the individuals integrated out about u, constants left out: log p - sum log det(precision)/2.

    Without the second term residual errors come out too small.
    """
    value = given.density(given.point(u))[0]
    known = np.linalg.slogdet(_precision(_information(given, u)[1], given.root))[1]
    return value - 0.5 * float(known.sum())
