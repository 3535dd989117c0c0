"""Adaptive designs that choose: treatment arms (multi-arm multi-stage) or a subgroup (enrichment) at interim looks.

All tests are closed combination tests (`trials.designs.closed`), so that the family-wise error holds whatever is
chosen. A rule is a pure function: effects seen so far, who is in -> who goes on. Known variance; effects upwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.designs.closed import rejected
from trials.designs.combination import stage_weights
from trials.designs.sequential import Boundaries
from trials.designs.simulate import Seen, Stages, event_sums, normal_sums
from trials.operating import Estimate, mean, proportion

__all__ = [
    "Choice", "Chosen", "chosen", "ended", "simulated_arms_means", "simulated_arms_rates", "simulated_enrichment",
]  # fmt: skip

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LOTS = 2  # slot
KINDS = ("best", "best_of", "within", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who goes on: best, best_of (the `number` best), within (`epsilon` of the best), all; none below `threshold`."""

    kind: str = "best"
    number: int = 1
    epsilon: float = 0.0
    threshold: float = -np.inf

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("is no rule", field="selection", value=self.kind, remedy=f"use {', '.join(KINDS)}")
        if self.number < 1 or self.epsilon < 0:
            raise InputError("must be >= 1, and epsilon >= 0", field="number", value=self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Replicates of a design that chooses: `stage` at the end (R, from 0), `success` (stopped or ended with every
    hypothesis still in rejected, or any of them) (R), `reject` (R, G), `active` (R, K, G), `subjects` (R). arm, seen:
    of several arms the best one still in at the end (R, from 0), with its plain estimate.
    """

    stages: int
    stage: NDArray[np.int64]
    success: Bools
    futile: Bools
    reject: Bools
    active: Bools
    subjects: Floats
    arm: NDArray[np.int64] | None = None
    seen: Seen | None = None

    @property
    def power(self) -> Estimate:
        """P(at least one rejection)."""
        return proportion(self.reject.any(axis=1))

    @property
    def success_by_stage(self) -> tuple[Estimate, ...]:
        return tuple(proportion(self.success & (self.stage == k)) for k in range(self.stages))

    @property
    def reject_each(self) -> tuple[Estimate, ...]:
        return tuple(proportion(self.reject[:, g]) for g in range(self.reject.shape[1]))

    @property
    def futility(self) -> Estimate:
        return proportion(self.futile)

    def selected(self, stage: int) -> tuple[Estimate, ...]:
        """P(the trial reaches a stage (from 0) with each hypothesis in)."""
        there = self.stage >= stage
        return tuple(proportion(there & self.active[:, stage, g]) for g in range(self.active.shape[2]))

    @property
    def expected_subjects(self) -> Estimate:
        return mean(self.subjects)


def chosen(rule: Choice, effect: Floats, active: Bools, ties: Floats | None = None) -> Bools:
    """Who goes on (R, G): the instruction of a rule. Of equal effects the one with the least of `ties` (R, G) counts,
    without them the first.

    >>> seen, still = np.array([[0.1, 0.5, 0.45]]), np.array([[True, True, True]])
    >>> chosen(Choice(), seen, still).tolist(), chosen(Choice(kind="within", epsilon=0.1), seen, still).tolist()
    ([[False, True, False]], [[False, True, True]])
    """
    values = np.where(active, effect, -np.inf)
    if rule.kind == "all":
        keep = active.copy()
    elif rule.kind == "within":
        keep = values >= values.max(axis=1, keepdims=True) - rule.epsilon
    else:
        lot = np.zeros(values.shape) + np.arange(values.shape[1]) if ties is None else ties
        place = np.argsort(np.lexsort((lot, -values), axis=1), axis=1)
        keep = place < (rule.number if rule.kind == "best_of" else 1)
    return np.asarray(keep & active & (values > rule.threshold))


def simulated_arms_means(bounds: Boundaries, size: ArrayLike, *, effects: ArrayLike, sd: float = 1.0, choice: Choice,
                         seed: int, replicates: int | ArrayLike, intersection: str = "dunnett",
                         success: str = "all") -> Chosen:  # fmt: skip
    """Means of G arms against one control; size (K, 1 + G): subjects by stage, control first; effects (G).

    success: a trial stops early when `all` hypotheses still in are rejected, or `any`.
    """
    stages = Stages.of(size)
    total, _ = normal_sums(stages, [0.0, *np.asarray(effects, dtype=np.float64)], sd, seed=seed, replicates=replicates)
    n = stages.size.astype(np.float64)
    stage_effect = _against_control(total / n)
    z = stage_effect / (sd * np.sqrt(1 / n[:, :1] + 1 / n[:, 1:]))
    overall = _against_control(np.cumsum(total, axis=1) / np.cumsum(n, axis=0))
    lots = _lots(seed, replicates, z.shape)
    found = _arms(bounds, n, (z, overall, lots), choice, rule=(intersection, success))
    counts = np.cumsum(n, axis=0)
    return _estimated(found, overall, np.broadcast_to(sd * np.sqrt(1 / counts[:, :1] + 1 / counts[:, 1:]), z.shape))


def _estimated(found: Chosen, overall: Floats, se: Floats) -> Chosen:
    """With the estimate of the best arm still in at the end, from all its subjects; overall, se (R, K, G)."""
    rows = np.arange(found.stage.size)
    still = found.active[rows, found.stage]
    arm = np.where(still, overall[rows, found.stage], -np.inf).argmax(axis=1)
    estimate, error = overall[rows, found.stage, arm], se[rows, found.stage, arm]
    known = Seen(estimate=estimate, se=error, df=np.full(arm.shape, np.inf))
    return replace(found, arm=arm.astype(np.int64), seen=known)


def simulated_arms_rates(bounds: Boundaries, size: ArrayLike, *, rates: ArrayLike, control: float, choice: Choice,
                         seed: int, replicates: int | ArrayLike, intersection: str = "dunnett",
                         success: str = "all") -> Chosen:  # fmt: skip
    """Proportions of G arms against one control, score tests with the pooled variance; rates (G)."""
    stages = Stages.of(size)
    total = event_sums(stages, [control, *np.asarray(rates, dtype=np.float64)], seed=seed, replicates=replicates)
    n = stages.size.astype(np.float64)
    pooled = (total[:, :, 1:] + total[:, :, :1]) / (n[:, 1:] + n[:, :1])
    difference = _against_control(total / n)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = difference / np.sqrt(pooled * (1 - pooled) * (1 / n[:, 1:] + 1 / n[:, :1]))
    overall = _against_control(np.cumsum(total, axis=1) / np.cumsum(n, axis=0))
    lots = _lots(seed, replicates, z.shape)
    found = _arms(bounds, n, (np.where(difference == 0, 0.0, z), overall, lots), choice, rule=(intersection, success))
    counts = np.cumsum(n, axis=0)
    rate = np.cumsum(total, axis=1) / counts
    spread = rate * (1 - rate) / counts
    return _estimated(found, overall, np.sqrt(spread[:, :, 1:] + spread[:, :, :1]))


def _lots(seed: int, replicates: int | ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Uniforms (R, K, G) that decide between equal effects."""
    which = np.arange(replicates) if isinstance(replicates, int) else np.asarray(replicates)
    stage, arm = np.arange(shape[1])[:, None], np.arange(shape[2])
    return uniforms(seed, Purpose.SUMMARY_STAGE, subject=arm, replicate=which[:, None, None], index=stage, slot=LOTS)


def _against_control(values: Floats) -> Floats:
    return values[:, :, 1:] - values[:, :, :1]


def _arms(bounds: Boundaries, n: Floats, seen: tuple[Floats, Floats, Floats], choice: Choice, *,
          rule: tuple[str, str]) -> Chosen:  # fmt: skip
    """Selection by the overall effects (R, K, G), test of the stage-wise z (R, K, G), count of subjects."""
    z, overall, lots = seen
    active = np.ones(z.shape, dtype=np.bool_)
    for k in range(1, z.shape[1]):
        active[:, k] = chosen(choice, overall[:, k - 1], active[:, k - 1], lots[:, k - 1])
    loading = np.broadcast_to(np.sqrt(n[:, 1:] / (n[:, 1:] + n[:, :1])), z.shape)
    by_stage = np.sum(active * n[:, 1:], axis=2) + n[:, 0]
    return ended(bounds, (z, active, loading), by_stage, rule=rule)


def ended(bounds: Boundaries, data: tuple[Floats, Bools, Floats], by_stage: Floats, *, rule: tuple[str, str]) -> Chosen:
    """When each trial ends and with what."""
    z, active, loading = data
    intersection, success = rule
    if success not in ("all", "any"):
        raise InputError("must be all or any", field="success", value=success, remedy="write all")
    if len(bounds.upper) != z.shape[1] or bounds.plan.sides != 1:
        raise InputError(f"needs a one-sided plan with {z.shape[1]} looks", field="looks", value=len(bounds.upper))
    found = rejected(intersection, z, active, loading, weights=stage_weights(bounds.plan.information),
                     critical=bounds.upper)  # fmt: skip
    counts = _counted(found, active)
    wins = np.any(found, axis=2) if success == "any" else np.all(found | ~active, axis=2) & active.any(axis=2)
    empty = np.ones(wins.shape, dtype=np.bool_)  # the last look ends every trial
    empty[:, :-1] = ~active[:, 1:].any(axis=2)
    stage = np.argmax(wins | empty, axis=1)
    rows = np.arange(stage.size)
    succeeded = wins[rows, stage]
    return Chosen(
        stages=z.shape[1], stage=stage, success=succeeded, futile=~succeeded & (stage < z.shape[1] - 1),
        reject=counts[rows, stage], active=active, subjects=np.cumsum(by_stage, axis=1)[rows, stage],
    )  # fmt: skip


def _counted(found: Bools, active: Bools) -> Bools:
    """A rejection counts while the hypothesis is in, and stays."""
    return np.logical_or.accumulate(found & active, axis=1)


def simulated_enrichment(bounds: Boundaries, size: ArrayLike, *, prevalence: float, effects: tuple[float, float],
                         sd: float = 1.0, choice: Choice, seed: int, replicates: int | ArrayLike,
                         intersection: str = "dunnett", success: str = "all",
                         ratio: float = 1.0) -> Chosen:  # fmt: skip
    """A subgroup S of given prevalence and everybody (F): hypotheses in this order; size (K): subjects a stage.

    effects: in S and in the rest. If S alone is chosen all later subjects come from it. Correlation of the two
    statistics: sqrt(n_S/n_F). Subsets are drawn as a whole by (subset, replicate, stage).
    """
    if not 0 < prevalence < 1:
        raise InputError("must be between 0 and 1", field="prevalence", value=prevalence, remedy="write 0.4")
    which = np.arange(replicates) if isinstance(replicates, int) else np.asarray(replicates)
    sizes, share = np.asarray(size, dtype=np.float64), ratio / (1 + ratio) ** 2
    looks = sizes.size
    z, loading, active = (np.zeros((which.size, looks, 2)) for _ in range(3))
    total, weighted = np.zeros((which.size, 2)), np.zeros((which.size, 2))
    inside = np.ones((which.size, 2), dtype=np.bool_)
    for k in range(looks):
        n = _subsets(float(sizes[k]), prevalence, inside)
        noise = np.stack([normals(seed, Purpose.SUMMARY_STAGE, subject=s, replicate=which, index=k) for s in (0, 1)], 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = np.where(n > 0, np.asarray(effects) + noise * sd / np.sqrt(n * share), 0.0)
            correlation = np.where(n.sum(axis=1) > 0, n[:, 0] / n.sum(axis=1), 0.0) ** 0.5
        z[:, k] = _population_z(effect, n, sd, share)
        loading[:, k] = np.minimum(correlation, 0.9999)[:, None] ** 0.5
        active[:, k] = inside
        total, weighted = total + n, weighted + n * effect
        inside = chosen(choice, _population_effect(weighted, total), inside)
    by_stage = np.where(active.any(axis=2), sizes, 0.0)
    return ended(bounds, (z, active.astype(np.bool_), loading), by_stage, rule=(intersection, success))


def _subsets(size: float, prevalence: float, inside: Bools) -> Floats:
    """Subjects from S and the rest (R, 2)."""
    everybody = inside[:, 1:] * np.array([prevalence, 1 - prevalence])
    only = (inside[:, :1] & ~inside[:, 1:]) * np.array([1.0, 0.0])
    return np.asarray(size * (everybody + only))


def _population_z(effect: Floats, n: Floats, sd: float, share: float) -> Floats:
    """Stage-wise z of S and F (R, 2)."""
    own = effect[:, 0] * np.sqrt(n[:, 0] * share) / sd
    whole = np.sum(effect * n, axis=1) * np.sqrt(share) / (sd * np.sqrt(np.maximum(n.sum(axis=1), 1e-300)))
    return np.stack([own, whole], axis=1)


def _population_effect(weighted: Floats, total: Floats) -> Floats:
    """Effects over all stages so far in S and F (R, 2)."""
    own = weighted[:, 0] / np.maximum(total[:, 0], 1e-300)
    return np.stack([own, weighted.sum(axis=1) / np.maximum(total.sum(axis=1), 1e-300)], axis=1)
