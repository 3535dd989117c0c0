"""A quick look before sampling: where to start, and which random effects to sample as individual values.

Laplace-EM on the compiled density with every effect centred: subjects are independent given the population, so that
Newton steps of all subjects at once need one gradient and q differences of it. The remaining variance of a subject's
effect over its population variance, w_ij = Cov_i,jj / omega_j^2 (shrinkage of the variance), says which form
mixes: the centred Gibbs sampler of a normal hierarchy has convergence rate w, the non-centred 1 - w (Papaspiliopoulos,
Roberts & Sköld 2007, Stat Sci 22:59, section 2). A centred effect has a funnel where omega may be small, so what counts
is w at the lower end of omega: with s^2 = omega^2 w/(1 - w) the noise of a subject's value, sd(log omega) about
(2 N)^-1/2/(1 - w) and omega_low = omega exp(-2.33 sd), w_low = s^2/(s^2 + omega_low^2). Subject by subject, an effect
is centred to the degree 1 - w_low where w_low is below a limit, else not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.density import Density
from pkpd.bayes.layout import Layout
from pkpd.bayes.plan import base_value, between, spread_label
from pkpd.ground.streams import Purpose, normals
from pkpd.model.parts import inside

__all__ = ["Choice", "Look", "chosen", "formed", "look", "starting_point"]

Floats = NDArray[np.float64]
ROUNDS = 12
LEAST_VARIANCE = 1e-4
UNFINISHED = 0.1
"""Gradient by population sd from which a subject whose last step failed is tried again."""
CENTRED_BELOW = 0.3
"""Share of variance left by the data, at the lower end of omega, above which a subject's effect is not centred at
all: a partly centred effect has a neck where omega may be near 0 (measured: docs/inference.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """x (size,): the end of the quick look, every effect centred; remaining: share of each effect's variance that the
    data leave, (N,) by name; spread (N, D, D): covariance of what is each subject's own (`Layout.columns`);
    failed: it got nowhere.
    """

    x: Floats
    remaining: dict[str, Floats]
    spread: Floats
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
    """The quick look at a density, whatever it centres."""
    layout = density.layout
    whole = density.with_centred(layout.every(1.0), np.ones(layout.late.shape))
    x = _first(whole.layout)
    covariance = np.zeros((layout.subjects, *2 * (layout.columns.shape[1],)))
    good = np.isfinite(whole(x)[0])
    for k in range(ROUNDS if good else 0):
        x, covariance = _individuals(whole, x, steps=8 if k == 0 else 2)
        x = _population(whole, x, covariance)
        x = _fixed(whole, x)
    good = bool(good and np.isfinite(whole(x)[0]) and np.isfinite(covariance).all())
    remaining = _remaining(whole.layout, x, covariance if good else None)
    return Look(x=x if good else _first(whole.layout), remaining=remaining, spread=covariance, failed=not good)


def _remaining(layout: Layout, x: Floats, covariance: Floats | None) -> dict[str, Floats]:
    """Var(effect | data) over its population variance, by effect: (subjects,), of those between occasions (occasions,).

    For an occasion, of its value where the subject's is known: that is what mixes, level by level.
    """
    n_t, q, n_p, n_e = layout.sizes
    names = [*layout.plan.spread, *(between(n) for n in layout.plan.between)]
    sizes = [layout.subjects] * q + [len(layout.occasions)] * len(layout.plan.between)
    if covariance is None:
        return {n: np.ones(size) for n, size in zip(names, sizes, strict=True)}
    omega = np.exp(x[n_t : n_t + q])
    left = np.einsum("ijj->ij", covariance)[:, :q] / omega**2
    found = {n: left[:, k] for k, n in enumerate(layout.plan.spread)}
    for k, name in enumerate(layout.plan.between):
        inside = _occasion_variances(layout, covariance, name)[1]
        found[between(name)] = inside / np.exp(2.0 * x[n_t + q + n_p + n_e + k])
    return found


def _occasion_variances(layout: Layout, covariance: Floats, name: str) -> tuple[Floats, Floats]:
    """Variance given the data of an occasion's value less its subject's, and of its value where the subject's is known
    too, (occasions,) each.
    """
    size, k = len(layout.occasions), list(layout.plan.between).index(name)
    own = list(layout.plan.spread).index(name) if name in layout.plan.spread else -1
    found = np.empty((2, size))
    for s, i in enumerate(layout.slots.tolist()):
        d = int(np.flatnonzero(layout.columns[i] == layout.effects.stop + k * size + s)[0])
        c = covariance[i]
        away = c[d, d] if own < 0 else c[d, d] + c[own, own] - 2.0 * c[d, own]
        found[:, s] = away, c[d, d] if own < 0 or c[own, own] <= 0.0 else c[d, d] - c[d, own] ** 2 / c[own, own]
    return found[0], found[1]


def formed(density: Density, choices: Sequence[Choice]) -> Density:
    """The density in the form that was decided."""
    plan, decided = density.layout.plan, {c.name: c.centred for c in choices}
    own = [decided[n] for n in plan.spread]
    late = [decided[between(n)] for n in plan.between]
    return density.with_centred(
        np.stack(own) if own else density.layout.centred, np.stack(late) if late else density.layout.late
    )


def chosen(seen: Look, asked: Mapping[str, bool] | None = None) -> tuple[Choice, ...]:
    """One decision for each random effect, subject by subject; asked: effects that the user decides."""
    made = []
    for name, left in seen.remaining.items():
        low = at_low(left)
        centred = np.where((low < CENTRED_BELOW) & (not seen.failed), 1.0 - low, 0.0)
        reason = f"the data leave {100 * left.min():.0f} to {100 * left.max():.0f} % of its variance"
        reason += f", {100 * low.min():.0f} to {100 * low.max():.0f} % at the lower end of its sd"
        if seen.failed:
            reason = "the quick look at the data failed"
        if asked is not None and name in asked:
            centred, reason = np.full(len(left), float(asked[name])), f"asked for ({reason})"
        made.append(Choice(name=name, centred=centred, remaining=float(left.mean()), reason=reason))
    return tuple(made)


def at_low(left: Floats) -> Floats:
    """The share of variance left by the data, (N,), if omega were at the lower end of what N subjects can tell.

    >>> np.round([at_low(np.full(12, 0.07))[0], at_low(np.full(12, 0.19))[0], at_low(np.full(120, 0.19))[0]], 2)
    array([0.17, 0.43, 0.25])
    """
    kept = np.clip(left, 1e-9, 1.0 - 1e-6)
    noise = kept / (1.0 - kept)
    low = np.exp(-2.0 * 2.33 / (np.sqrt(2.0 * len(left)) * (1.0 - float(kept.mean()))))
    return np.asarray(noise / (noise + low))


def starting_point(density: Density, seen: Look, seed: int) -> Floats:
    """A chain's first point: the quick look's population and individuals, moved by chance, in the density's form."""
    layout = density.layout
    n_t, q, _, _ = layout.sizes
    moved = normals(seed % 2**63, Purpose.FIT, subject=np.arange(layout.size), replicate=0)
    x = seen.x.copy()
    sd = np.exp(x[n_t : n_t + q])
    width = np.full(layout.population, 0.2)
    for k, name in enumerate(layout.plan.typical):
        own = sd[list(layout.plan.spread).index(name)] if name in layout.plan.spread else 0.2
        width[k] = min(own / np.sqrt(layout.subjects), layout.plan.typical[name].scale)
    x[: layout.population] += width * moved[: layout.population]
    columns = layout.columns
    deviation = np.sqrt(np.maximum(np.einsum("ijj->ij", seen.spread), 0.0))
    here = columns >= 0
    x[columns[here]] += deviation[here] * moved[columns[here]]
    return _converted(density.layout, x)


def _converted(layout: Layout, x: Floats) -> Floats:
    """From every effect centred to the layout's own form."""
    every = replace(layout, centred=layout.every(1.0), late=np.ones(layout.late.shape))
    named = every.named(x)
    root, out = every.root(named), x.copy()
    v = out[layout.effects].reshape(len(layout.plan.spread), layout.subjects)
    for j, name in enumerate(layout.plan.spread):
        z, degree = named[f"z_{name}"], layout.centred[j]
        mean = v[j] - root[j, j] * z  # u = mean + L z
        v[j] = degree * mean + root[j, j] ** degree * z
    size = len(layout.occasions)
    for k, name in enumerate(layout.plan.between):
        here = slice(layout.effects.stop + k * size, layout.effects.stop + (k + 1) * size)
        sd, degree = named[spread_label(between(name))], layout.late[k]
        out[here] = degree * layout.own_value(named, name)[layout.slots] + sd**degree * named[f"z_{between(name)}"]
    return out


def _first(layout: Layout) -> Floats:
    """Typical values, spreads and errors of the text; individuals at the typical values."""
    plan, model = layout.plan, layout.plan.model
    x = np.zeros(layout.size)
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
    v = x[layout.effects].reshape(q, layout.subjects)
    for j, name in enumerate(plan.spread):
        v[j] = base_value(model, name)
    size = len(layout.occasions)
    for k, name in enumerate(plan.between):
        x[layout.effects.stop + k * size : layout.effects.stop + (k + 1) * size] = base_value(model, name)
    return x


def _spread(model: Any, name: str) -> float:
    found = model.parameters[name].spread
    return max(float(found.typical), 0.01) if found is not None else 0.3


def _individuals(density: Density, x: Floats, *, steps: int) -> tuple[Floats, Floats]:
    """Damped Newton steps of every subject's effects at once; covariances (N, q, q) at the end.

    Each subject has its own damping (Levenberg & Marquardt) and keeps a step only where its own density grows.
    """
    layout = density.layout
    columns, sd = layout.columns, _scales(layout, x)
    here, q = columns >= 0, columns.shape[1]
    x, damping, failed = x.copy(), np.full(layout.subjects, 1e-3), np.zeros(layout.subjects, np.bool_)
    value = _by_subject(density, x)
    for n in range(4 * steps):
        g = _effects(density, x)
        if n >= steps and not (failed & (np.abs(g * sd).max(axis=1) > UNFINISHED)).any():
            break
        precision = _precision(density, x, g, sd)
        damped = precision + damping[:, None, None] * np.einsum("njj->nj", precision)[:, :, None] * np.eye(q)
        step = np.clip(np.linalg.solve(damped, g[:, :, None])[:, :, 0], -2.0 * sd, 2.0 * sd)
        trial = x.copy()
        trial[columns[here]] += step[here]
        new = _by_subject(density, trial)
        better = new > value
        failed = ~better
        kept = np.where(better[:, None], step, 0.0)
        x[columns[here]] += kept[here]
        value = np.where(better, new, value)
        damping = np.clip(np.where(better, 0.2 * damping, 10.0 * damping), 1e-6, 1e6)
    covariance = np.linalg.inv(_precision(density, x, _effects(density, x), sd))
    return x, covariance


def _scales(layout: Layout, x: Floats) -> Floats:
    """Population sd of each column of `layout.columns`; 1 for a missing covariate."""
    n_t, q, n_p, n_e = layout.sizes
    found = np.ones(layout.columns.shape)
    found[:, :q] = np.exp(x[n_t : n_t + q])
    size = len(layout.occasions)
    for k in range(len(layout.plan.between)):
        first = layout.effects.stop + k * size
        here = (layout.columns >= first) & (layout.columns < first + size)
        found[here] = np.exp(x[n_t + q + n_p + n_e + k])
    return found


def _by_subject(density: Density, x: Floats) -> Floats:
    """Log density of each subject's rows and effects, (N,), constants left out; -inf where a prediction failed."""
    layout, rows = density.layout, density.by_row(x)
    rows = np.where(np.isfinite(rows), rows, -np.inf)
    found = np.zeros(layout.subjects)
    np.add.at(found, density.subject, rows)
    z = layout.named(x)
    for name in layout.plan.spread:
        found -= 0.5 * z[f"z_{name}"] ** 2
    for name in layout.plan.between:
        np.add.at(found, layout.slots, -0.5 * z[f"z_{between(name)}"] ** 2)
    if layout.absent:
        np.add.at(found, layout.absent_subject, -0.5 * z["z_missing"] ** 2)
    return found


def _effects(density: Density, x: Floats) -> Floats:
    """Gradient of what is each subject's own, (N, D)."""
    columns = density.layout.columns
    return np.where(columns >= 0, density(x)[1][columns], 0.0)


def _precision(density: Density, x: Floats, g: Floats, sd: Floats) -> Floats:
    """Minus the Hessian of each subject's block by differences, at least a tenth of the least population precision."""
    columns = density.layout.columns
    made = np.zeros((*columns.shape, columns.shape[1]))
    for j in range(columns.shape[1]):
        here = columns[:, j] >= 0
        h = 1e-4 * np.maximum(sd[:, j], 0.01)
        near = x.copy()
        near[columns[here, j]] += h[here]
        made[:, :, j] = np.where(here[:, None], -(_effects(density, near) - g) / h[:, None], 0.0)
    made = np.nan_to_num(0.5 * (made + made.transpose(0, 2, 1)))
    made += np.where(columns < 0, 1.0, 0.0)[:, :, None] * np.eye(columns.shape[1])
    values, vectors = np.linalg.eigh(made)
    values = np.maximum(values, 0.1 / np.max(sd, axis=1)[:, None] ** 2)
    return np.asarray(np.einsum("nij,nj,nkj->nik", vectors, values, vectors))


def _population(density: Density, x: Floats, covariance: Floats) -> Floats:
    """Typical values of the parameters with effects, their spread and correlations, from the individuals."""
    layout, plan = density.layout, density.layout.plan
    n_t, q, n_p, _ = layout.sizes
    x = x.copy()
    _between_sds(layout, x, covariance)
    if not q:
        return x
    v = x[layout.effects].reshape(q, layout.subjects).T
    sd = np.exp(x[n_t : n_t + q])
    centre = np.array([base_value(plan.model, n) for n in plan.spread])
    for j, name in enumerate(plan.spread):
        if name in plan.typical:
            prior, at = plan.typical[name], list(plan.typical).index(name)
            weight = layout.subjects / sd[j] ** 2
            x[at] = (weight * v[:, j].mean() + prior.location / prior.scale**2) / (weight + 1.0 / prior.scale**2)
            centre[j] = x[at]
    omega = np.einsum("ni,nj->ij", v - centre, v - centre) + covariance[:, :q, :q].sum(axis=0)
    omega /= layout.subjects
    x[n_t : n_t + q] = 0.5 * np.log(np.maximum(np.diag(omega), LEAST_VARIANCE))
    x[n_t + q : n_t + q + n_p] = _partials(layout, omega)
    return x


def _between_sds(layout: Layout, x: Floats, covariance: Floats) -> None:
    """Sds between occasions from the occasions' values less their subjects', into x."""
    n_t, q, n_p, n_e = layout.sizes
    size, named = len(layout.occasions), layout.named(x)
    for k, name in enumerate(layout.plan.between):
        first = layout.effects.stop + k * size
        away = x[first : first + size] - layout.own_value(named, name)[layout.slots]
        variance = float((away**2 + _occasion_variances(layout, covariance, name)[0]).mean())
        x[n_t + q + n_p + n_e + k] = 0.5 * np.log(max(variance, LEAST_VARIANCE))


def _partials(layout: Layout, omega: Floats) -> Floats:
    """Logits of the partial correlations of each block, drawn a little towards none."""
    order, made = list(layout.plan.spread), []
    for block, _ in layout.plan.blocks:
        at = [order.index(n) for n in block]
        part = omega[np.ix_(at, at)]
        scale = np.sqrt(np.maximum(np.diag(part), LEAST_VARIANCE))
        correlation = 0.9 * part / np.outer(scale, scale) + 0.1 * np.eye(len(at))
        root = np.linalg.cholesky(correlation)
        for i in range(len(at)):
            left = 1.0
            for j in range(i):
                p = float(np.clip(root[i, j] / np.sqrt(left), -0.95, 0.95))
                made.append(2.0 * np.arctanh(p))
                left *= 1.0 - p * p
    return np.asarray(made)


def _fixed(density: Density, x: Floats) -> Floats:
    """A Newton step, one by one, of what has no random effect: other typical values and residual errors."""
    layout, plan = density.layout, density.layout.plan
    n_t, q, n_p, n_e = layout.sizes
    own = [k for k, n in enumerate(plan.typical) if n not in plan.spread]
    for k in [*own, *range(n_t + q + n_p, n_t + q + n_p + n_e)]:
        h = 1e-4
        near = x.copy()
        near[k] += h
        (value, g), (_, g_near) = density(x), density(near)
        curve = (g[k] - g_near[k]) / h
        step = g[k] / curve if curve > 0.0 else 0.5 * np.sign(g[k])
        trial = x.copy()
        trial[k] += float(np.clip(step, -0.7, 0.7))
        x = trial if density(trial)[0] > value else x
    return x
