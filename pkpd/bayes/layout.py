"""The unconstrained vector a fit samples: where each quantity stands, and draws of it as named quantities.

[typical values | log sds | logits of partial correlations | log residual sds | random effects, effect by effect]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.hierarchy import beta_shape, correlation_factor, covariances, pairs
from pkpd.bayes.plan import (
    Plan,
    base_value,
    between,
    correlation_label,
    error_label,
    natural,
    partial_label,
    spread_label,
    typical_label,
)  # fmt: skip
from pkpd.model.equations import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Layout"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Places in the vector of a plan with `subjects` subjects.

    centred (effects, subjects): degree of centring, 0 (the vector holds z) to 1 (the individual value on the
    parameter's scale), see `kernels.effects`; occasions: of all subjects, where there are effects between them, slots:
    their subjects, late (effects, occasions): degree of centring of those effects; absent: missing covariates,
    absent_subject: theirs.
    """

    plan: Plan
    subjects: int
    centred: Floats = field(compare=False)
    occasions: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    absent_subject: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), compare=False)
    slots: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), compare=False)
    late: Floats = field(default_factory=lambda: np.empty((0, 0)), compare=False)

    def every(self, centred: float) -> Floats:
        """One degree of centring for all."""
        return np.full((len(self.plan.spread), self.subjects), centred)

    @property
    def block_pairs(self) -> tuple[tuple[tuple[str, ...], float, int, int], ...]:
        """(block, shape, i, j) of each partial correlation, row by row."""
        return tuple((b, s, i, j) for b, s in self.plan.blocks for i, j in pairs(len(b)))

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of typical values, random effects, partial correlations, residual sds."""
        return len(self.plan.typical), len(self.plan.spread), len(self.block_pairs), len(self.plan.error)

    @property
    def population(self) -> int:
        """Population quantities: they come first."""
        shrunk = len(self.plan.shrunk)
        return sum(self.sizes) + len(self.plan.between) + (shrunk + 1 if shrunk else 0)

    @property
    def size(self) -> int:
        return int(self.effects.stop) + len(self.plan.between) * len(self.occasions) + len(self.absent)

    @property
    def effects(self) -> slice:
        """Places of the subjects' random effects, effect after effect."""
        return slice(self.population, self.population + len(self.plan.spread) * self.subjects)

    def named(self, x: Floats) -> dict[str, Floats]:
        """Draws (..., size) -> quantities by name, those of `population_model`: (...) each, `z_*` (..., subjects)."""
        plan, model = self.plan, self.plan.model
        n_t, q, n_p, _ = self.sizes
        found = {typical_label(model, name): x[..., k] for k, name in enumerate(plan.typical)}
        found |= {spread_label(name): np.exp(x[..., n_t + k]) for k, name in enumerate(plan.spread)}
        for k, (block, _, i, j) in enumerate(self.block_pairs):
            found[partial_label(block[j], block[i])] = 1.0 / (1.0 + np.exp(-x[..., n_t + q + k]))
        found |= {error_label(name): np.exp(x[..., n_t + q + n_p + k]) for k, name in enumerate(plan.error)}
        at = n_t + q + n_p + len(plan.error)
        found |= {spread_label(between(name)): np.exp(x[..., at + k]) for k, name in enumerate(plan.between)}
        found |= self._shrunk(x, found, at + len(plan.between))
        found |= self._correlations(found)
        found |= self._effects(x, found)
        found |= self._later(x, found)
        return found | self._floors(found)

    def _shrunk(self, x: Floats, found: Mapping[str, Floats], at: int) -> dict[str, Floats]:
        """Coefficients with a horseshoe in place of the standard normals behind them, and their shares of the slab."""
        made: dict[str, Floats] = {}
        for k, (name, prior) in enumerate(self.plan.shrunk.items()):
            label = typical_label(self.plan.model, name)
            share = np.sqrt(1.0 / (1.0 + np.exp(-2.0 * (x[..., at] + x[..., at + 1 + k]))))
            made |= {label: prior.scale * found[label] * share, f"share_{name}": share}
        return made

    def _later(self, x: Floats, named: Mapping[str, Floats]) -> dict[str, Floats]:
        """Standard normal effects of occasions (..., occasions) and of missing covariates (..., missing)."""
        size, at, found = len(self.occasions), self.effects.stop, {}
        for k, name in enumerate(self.plan.between):
            value, degree = x[..., at + k * size : at + (k + 1) * size], self.late[k]
            sd = named[spread_label(between(name))][..., None]
            found[f"z_{between(name)}"] = (value - degree * self.own_value(named, name)[..., self.slots]) * sd**-degree
        if self.absent:
            found["z_missing"] = x[..., self.size - len(self.absent) :]
        return found

    def _correlations(self, found: Mapping[str, Floats]) -> dict[str, Floats]:
        made = {}
        for block, _ in self.plan.blocks:
            partial = {(i, j): 2.0 * found[partial_label(block[j], block[i])] - 1.0 for i, j in pairs(len(block))}
            rows = correlation_factor(partial, len(block), np.sqrt)
            for i, j in pairs(len(block)):
                total = sum(a * b for a, b in zip(rows[i], rows[j], strict=False))
                made[correlation_label(block[j], block[i])] = np.asarray(total)
        return made

    def _effects(self, x: Floats, found: Mapping[str, Floats]) -> dict[str, Floats]:
        """Standard normal effects of the subjects, whatever was sampled."""
        spread, shape = list(self.plan.spread), x.shape[:-1]
        if not spread:
            return {}
        values = x[..., self.effects].reshape(*shape, len(spread), self.subjects)
        root = self.root(found)
        z: dict[str, Floats] = {}
        for j, name in enumerate(spread):
            mean = np.zeros_like(values[..., j, :]) + np.asarray(self._typical(found, name))[..., None]
            for k in range(j):
                mean = mean + root[..., j, k, None] * z[spread[k]]
            degree = self.centred[j]
            z[name] = (values[..., j, :] - degree * mean) * root[..., j, j, None] ** -degree
        return {f"z_{name}": value for name, value in z.items()}

    def own_value(self, named: Mapping[str, Floats], name: str) -> Floats:
        """The subjects' values (..., subjects) of a parameter on its scale, without occasions and covariates."""
        typical = np.asarray(self._typical(named, name))[..., None] + np.zeros(self.subjects)
        if name not in self.plan.spread:
            return typical
        j, root = list(self.plan.spread).index(name), self.root(named)
        for k, other in enumerate(list(self.plan.spread)[: j + 1]):
            typical = typical + root[..., j, k, None] * named[f"z_{other}"]
        return typical

    @property
    def columns(self) -> NDArray[np.int64]:
        """Places (subjects, D) of what is each subject's own: effects, those of its occasions, missing covariates; -1
        where a subject has fewer.
        """
        q, at, size = len(self.plan.spread), self.effects.stop, len(self.occasions)
        first = self.population + np.arange(q)[None, :] * self.subjects + np.arange(self.subjects)[:, None]
        more: list[list[int]] = [[] for _ in range(self.subjects)]
        for k in range(len(self.plan.between)):
            for s, i in enumerate(self.slots.tolist()):
                more[i].append(at + k * size + s)
        for n, i in enumerate(self.absent_subject.tolist()):
            more[i].append(self.size - len(self.absent) + n)
        width = max((len(m) for m in more), default=0)
        rest = np.asarray([m + [-1] * (width - len(m)) for m in more], np.int64).reshape(self.subjects, width)
        return np.concatenate([first, rest], axis=1)

    def root(self, found: Mapping[str, Floats]) -> Floats:
        """Cholesky factor (..., q, q) of the random effects' covariance."""
        spread = list(self.plan.spread)
        sd = np.stack([found[spread_label(n)] for n in spread], axis=-1)
        shape = sd.shape[:-1]
        partial = {pair: np.zeros(int(np.prod(shape))) for pair in pairs(len(spread))}
        for block, _, i, j in self.block_pairs:
            value = 2.0 * found[partial_label(block[j], block[i])] - 1.0
            partial[spread.index(block[i]), spread.index(block[j])] = np.ravel(value)
        made = covariances(sd.reshape(-1, len(spread)), partial)[0]
        return made.reshape(*shape, len(spread), len(spread))

    def _typical(self, found: Mapping[str, Floats], name: str) -> Floats | float:
        model = self.plan.model
        return found[typical_label(model, name)] if name in self.plan.typical else base_value(model, name)

    def _floors(self, found: Mapping[str, Floats]) -> dict[str, Floats]:
        """log of the whole typical value of each free parameter above a floor."""
        model = self.plan.model
        values = {n: natural(p, np.asarray(self._typical(found, n))) for n, p in model.parameters.items()}
        made = {}
        for name, p in model.parameters.items():
            if p.above is not None:
                values[name] = values[name] + np.asarray(evaluate(p.above, values))
                if name in self.plan.typical:
                    made[f"log_{name}"] = np.log(values[name])
        return made

    def shapes(self) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Beta shape, row, column and start of row of each partial correlation, as the kernel takes them."""
        order = list(self.plan.spread)
        rows = [
            (beta_shape(s, len(b), j), order.index(b[i]), order.index(b[j]), j == 0) for b, s, i, j in self.block_pairs
        ]
        table = np.asarray(rows, np.float64).reshape(-1, 4)
        whole = table[:, 1:].astype(np.int64)
        return table[:, 0].copy(), whole[:, 0].copy(), whole[:, 1].copy(), whole[:, 2].copy()
