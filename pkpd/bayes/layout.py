"""The unconstrained vector a fit samples: where each quantity stands, and draws of it as named quantities.

[typical values | log sds | logits of partial correlations | log residual sds | log sds between occasions | horseshoes |
logits of partial correlations of residual errors | random effects, effect by effect]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.frame import Frame, Turn
from pkpd.bayes.hierarchy import beta_shape, correlation_factor, covariances, pairs
from pkpd.bayes.plan import (
    Plan,
    base_value,
    between,
    correlation_label,
    error_label,
    natural,
    partial_label,
    residual_label,
    residual_partial,
    spread_label,
    typical_label,
)  # fmt: skip
from pkpd.model.equations import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Layout", "columns_of"]

Floats = NDArray[np.float64]
Shapes = tuple[Floats, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
Label = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Places in the vector of a plan with `subjects` subjects.

    at (D, subjects): places of what is each subject's own (`columns_of`); frame: its coordinates, see
    `kernels.standardised`; occasions: of all subjects, where there are effects between them, slots: their subjects;
    absent: missing covariates; turn: what is sampled in place of population quantities (`plain` undoes it).
    """

    plan: Plan
    subjects: int
    at: NDArray[np.int64] = field(compare=False)
    frame: Frame = field(compare=False)
    occasions: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    slots: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), compare=False)
    turn: Turn = field(default_factory=Turn, compare=False)

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
        return population_size(self.plan)

    @property
    def size(self) -> int:
        return int(self.effects.stop) + len(self.plan.between) * len(self.occasions) + len(self.absent)

    @property
    def errors(self) -> slice:
        """Places of the log residual sds."""
        first = sum(self.sizes[:3])
        return slice(first, first + self.sizes[3])

    @property
    def sigma_pairs(self) -> tuple[tuple[tuple[str, ...], float, int, int], ...]:
        """(block of outputs, shape, i, j) of each partial correlation of residual errors, row by row."""
        return tuple((b, s, i, j) for b, s in self.plan.sigma for i, j in pairs(len(b)))

    @property
    def ties(self) -> slice:
        """Places of the logits of partial correlations of residual errors: the last population quantities."""
        return slice(self.population - len(self.sigma_pairs), self.population)

    @property
    def effects(self) -> slice:
        """Places of the subjects' random effects, effect after effect."""
        return slice(self.population, self.population + len(self.plan.spread) * self.subjects)

    @property
    def scales(self) -> NDArray[np.int64]:
        """Places of the log sds: between subjects, between occasions, of residual errors."""
        n_t, q, n_p, n_e = self.sizes
        late = n_t + q + n_p + n_e + np.arange(len(self.plan.between))
        return np.concatenate([n_t + np.arange(q), late, n_t + q + n_p + np.arange(n_e)])

    @property
    def rings(self) -> NDArray[np.int64]:
        """Places (R, 2) of the log additive and proportional sds of outputs that have both."""
        place = {name: self.errors.start + k for k, name in enumerate(self.plan.error)}
        found = [[place.get(f"{o}.additive", -1), place.get(f"{o}.proportional", -1)] for o in self.plan.outputs]
        return np.asarray([pair for pair in found if min(pair) >= 0], np.int64).reshape(-1, 2)

    @property
    def spread_rows(self) -> NDArray[np.int64]:
        """Which of `scales` each row of `at` belongs to, -1: none."""
        q, each, late = len(self.plan.spread), self.most_occasions, len(self.plan.between)
        rows = np.concatenate([np.arange(q), q + np.repeat(np.arange(late), each)])
        return np.concatenate([rows, np.full(len(self.at) - len(rows), -1)]).astype(np.int64)

    def plain(self, y: Floats) -> Floats:
        """Vectors (..., size) of the law from those that are sampled."""
        x, turn, p = np.array(y), self.turn, len(self.turn.middle)
        x[..., :p] = turn.middle + np.einsum("jk,...k->...j", turn.root, y[..., :p])
        if not turn.fold.size:
            return x
        v = x[..., self.scales]
        logs = np.log(np.where(turn.fold > 0.0, turn.fold, 1.0)) + np.log(np.sinh(np.abs(v)))
        x[..., self.scales] = np.where(turn.fold > 0.0, logs, v)
        return self._ringed(self._signed(x, v))

    def sampled(self, x: Floats) -> Floats:
        """What is sampled (..., size), with no sd below 0, of vectors of the law."""
        y, turn, p = np.array(x), self.turn, len(self.turn.middle)
        if turn.ring.size:
            y[..., self.rings] = np.stack(_by_size(np.exp(x[..., self.rings]) * _widths(turn.ring)), axis=-1)
        if turn.fold.size:
            log_sd = y[..., self.scales]
            unfolded = np.arcsinh(np.exp(log_sd) / np.where(turn.fold > 0.0, turn.fold, 1.0))
            y[..., self.scales] = np.where(turn.fold > 0.0, unfolded, log_sd)
        if p:
            y[..., :p] = np.einsum("jk,...k->...j", np.linalg.inv(turn.root), y[..., :p] - turn.middle)
        return y

    def _ringed(self, x: Floats) -> Floats:
        """x with log sds of pairs of residual errors in place of their size and share."""
        if self.turn.ring.size:
            from scipy.special import log_ndtr

            size, share = np.moveaxis(x[..., self.rings], -1, 0)
            w = 0.5 * np.pi * np.exp(np.stack([log_ndtr(-share), log_ndtr(share)], axis=-1))
            x[..., self.rings] = size[..., None] + np.log(np.sin(w)) - np.log(_widths(self.turn.ring))
        return x

    def _signed(self, x: Floats, v: Floats) -> Floats:
        """x with the signs of correlations and coordinates that go with sds below 0."""
        sign = np.where((self.turn.fold > 0.0) & (v < 0.0), -1.0, 1.0)
        n_t, q, n_p, _ = self.sizes
        _, row, column, _ = self.shapes()
        x[..., n_t + q : n_t + q + n_p] *= sign[..., row] * sign[..., column]
        for d, k in enumerate(self.spread_rows):
            if k >= 0:
                x[..., self.at[d][self.at[d] >= 0]] *= sign[..., k, None]
        return x

    def named(self, x: Floats) -> dict[str, Floats]:
        """Draws (..., size) -> quantities by name, those of `population_model`: (...) each, `z_*` (..., subjects)."""
        found = self.population_named(x)
        found |= self._own(x, found)
        return found | self._floors(found)

    def population_named(self, x: Floats) -> dict[str, Floats]:
        """Typical values, spreads, correlations and errors by name, of draws (..., size) or their first (..., p)."""
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
        for k, (block, _, i, j) in enumerate(self.sigma_pairs):
            found[residual_partial(block[j], block[i])] = 1.0 / (1.0 + np.exp(-x[..., self.ties.start + k]))
        found |= _correlations(plan.blocks, found, (partial_label, correlation_label))
        return found | _correlations(plan.sigma, found, (residual_partial, residual_label))

    def _shrunk(self, x: Floats, found: Mapping[str, Floats], at: int) -> dict[str, Floats]:
        """Coefficients with a horseshoe in place of the standard normals behind them, and their shares of the slab."""
        made: dict[str, Floats] = {}
        for k, (name, prior) in enumerate(self.plan.shrunk.items()):
            label = typical_label(self.plan.model, name)
            share = np.sqrt(1.0 / (1.0 + np.exp(-2.0 * (x[..., at] + x[..., at + 1 + k]))))
            made |= {label: prior.scale * found[label] * share, f"share_{name}": share}
        return made

    def _own(self, x: Floats, found: Mapping[str, Floats]) -> dict[str, Floats]:
        """Standard normal effects of subjects (..., subjects), occasions (..., occasions) and missing covariates (...,
        missing), whatever was sampled.
        """
        here = self.at >= 0
        y = np.where(here, x[..., self.at], 0.0)
        z = np.zeros_like(x)
        typical, error = x[..., : self.sizes[0]], x[..., self.errors]
        z[..., self.at[here]] = self.frame.effects(y, typical, self.roots(found), error)[..., here]
        own = z[..., self.effects].reshape(*x.shape[:-1], len(self.plan.spread), self.subjects)
        made = {f"z_{name}": own[..., k, :] for k, name in enumerate(self.plan.spread)}
        size, at = len(self.occasions), self.effects.stop
        made |= {
            f"z_{between(n)}": z[..., at + k * size : at + (k + 1) * size] for k, n in enumerate(self.plan.between)
        }
        return made | ({"z_missing": z[..., self.size - len(self.absent) :]} if self.absent else {})

    @property
    def most_occasions(self) -> int:
        """Of one subject."""
        return int(np.bincount(self.slots).max(initial=0)) if self.plan.between else 0

    def roots(self, found: Mapping[str, Floats]) -> Floats:
        """Root (..., D, D) of the covariance of what is a subject's own: `root`, sds between occasions, 1."""
        q, each = len(self.plan.spread), self.most_occasions
        shape = next(iter(found.values())).shape
        made = np.zeros((*shape, len(self.at), len(self.at)))
        made[..., range(len(self.at)), range(len(self.at))] = 1.0
        if q:
            made[..., :q, :q] = self.root(found)
        for k, name in enumerate(self.plan.between):
            for d in range(q + k * each, q + (k + 1) * each):
                made[..., d, d] = found[spread_label(between(name))]
        return made

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

    def shapes(self) -> Shapes:
        """Beta shape, row, column and start of row of each partial correlation, as the kernel takes them."""
        return _shapes(self.block_pairs, list(self.plan.spread))

    def sigma_shapes(self) -> Shapes:
        """The same of residual errors: rows and columns are outputs."""
        return _shapes(self.sigma_pairs, list(self.plan.outputs))


def _shapes(found: tuple[tuple[tuple[str, ...], float, int, int], ...], order: list[str]) -> Shapes:
    rows = [(beta_shape(s, len(b), j), order.index(b[i]), order.index(b[j]), j == 0) for b, s, i, j in found]
    table = np.asarray(rows, np.float64).reshape(-1, 4)
    whole = table[:, 1:].astype(np.int64)
    return table[:, 0].copy(), whole[:, 0].copy(), whole[:, 1].copy(), whole[:, 2].copy()


def _correlations(
    blocks: tuple[tuple[tuple[str, ...], float], ...], found: Mapping[str, Floats], labels: tuple[Label, Label]
) -> dict[str, Floats]:
    """Correlations from partial ones, both by name; labels: of a partial correlation and of a correlation."""
    made = {}
    for block, _ in blocks:
        partial = {(i, j): 2.0 * found[labels[0](block[j], block[i])] - 1.0 for i, j in pairs(len(block))}
        rows = correlation_factor(partial, len(block), np.sqrt)
        for i, j in pairs(len(block)):
            total = sum(a * b for a, b in zip(rows[i], rows[j], strict=False))
            made[labels[1](block[j], block[i])] = np.asarray(total)
    return made


def _widths(ring: Floats) -> Floats:
    """What additive and proportional sds (R, 2) are multiplied by before their sizes are compared."""
    return np.stack([np.ones(len(ring)), ring], axis=-1)


def _by_size(sds: Floats) -> tuple[Floats, Floats]:
    """Log size and share (`kernels.turned`) of pairs (..., 2)."""
    from scipy.special import ndtri

    a, b = np.moveaxis(sds, -1, 0)
    low, high = (2.0 / np.pi * np.arctan2(one, other) for one, other in ((b, a), (a, b)))
    return np.log(np.hypot(a, b)), np.where(b < a, ndtri(low), -ndtri(high))


def population_size(plan: Plan) -> int:
    """Population quantities of the vector."""
    correlations = sum(len(pairs(len(block))) for block, _ in plan.blocks)
    shrunk = len(plan.shrunk) + 1 if plan.shrunk else 0
    ties = sum(len(pairs(len(block))) for block, _ in plan.sigma)
    return shrunk + len(plan.typical) + len(plan.spread) + correlations + len(plan.error) + len(plan.between) + ties


def columns_of(plan: Plan, subjects: int, occasions: NDArray[np.int64], absent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places (D, subjects) in the vector of what is each subject's own: effects, those of its occasions, effect after
    effect, missing covariates; -1 where a subject has fewer. occasions, absent: whose each of them is.
    """
    population = population_size(plan)
    first = population + np.arange(len(plan.spread) * subjects).reshape(-1, subjects)
    at, rows = population + first.size, [first]
    for owner in (*[occasions] * len(plan.between), absent):
        each = np.full((int(np.bincount(owner).max(initial=0)) if len(owner) else 0, subjects), -1)
        seen = np.zeros(subjects, np.int64)
        for n, i in enumerate(owner.tolist()):
            each[seen[i], i] = at + n
            seen[i] += 1
        at += len(owner)
        rows.append(each)
    return np.ascontiguousarray(np.concatenate(rows), np.int64)
