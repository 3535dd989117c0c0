"""Outcomes with what a plan does not count on: subjects without an outcome, a trend over the order of entry.

The same addresses as `trials.designs.simulate`: without a disturbance every subject has the outcome it has there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from pkpd.ground.streams import Purpose, normals, uniforms
from trials.designs.simulate import Disturbance, Stages

__all__ = ["disturbed_events", "disturbed_normals", "progress"]

Floats = NDArray[np.float64]
Chance = tuple[int, int | ArrayLike]
OUTCOME, LOSS = 0, 1  # slots
CELLS = 4_000_000  # subjects at a time


def progress(subjects: int) -> Floats:
    """Place of each subject in the order of entry (N), 0 for the first and 1 for the last.

    >>> progress(3).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.arange(subjects, dtype=np.float64) / max(subjects - 1, 1)


def disturbed_normals(
    stages: Stages, means: tuple[float, ...], sd: float, *, disturbed: Disturbance, chance: Chance
) -> tuple[Floats, Floats, Floats]:
    """Numbers, sums and sums of squares (R, K, A) of the outcomes that are seen."""
    shift = np.asarray(means)[stages.arm] + disturbed.trend * progress(stages.arm.size)
    parts = []
    for where in _batches(stages, chance):
        seen = _seen(disturbed, where)
        x = (shift + sd * normals(**where, slot=OUTCOME)) * seen
        parts.append(np.stack([_summed(stages, part) for part in (seen, x, x * x)]))
    count, total, square = np.concatenate(parts, axis=1)
    return count, total, square


def disturbed_events(
    stages: Stages, rates: tuple[float, ...], *, disturbed: Disturbance, chance: Chance
) -> tuple[Floats, Floats]:
    """Numbers of subjects seen and of events among them (R, K, A)."""
    rate = np.asarray(rates)[stages.arm]
    if disturbed.trend:
        rate = expit(logit(rate) + disturbed.trend * progress(stages.arm.size))
    parts = []
    for where in _batches(stages, chance):
        seen = _seen(disturbed, where)
        parts.append(np.stack([_summed(stages, part) for part in (seen, seen * (uniforms(**where) < rate))]))
    count, total = np.concatenate(parts, axis=1)
    return count, total


def _batches(stages: Stages, chance: Chance) -> Iterator[dict[str, Any]]:
    """Addresses (r, N) of some replicates at a time."""
    seed, replicates = chance
    which = np.arange(replicates) if isinstance(replicates, int) else np.asarray(replicates)
    subject = np.arange(stages.arm.size)
    step = max(1, CELLS // max(stages.arm.size, 1))
    for first in range(0, which.size, step):
        yield {"seed": seed, "purpose": Purpose.SUMMARY_OUTCOME, "subject": subject,
               "replicate": which[first : first + step, None]}  # fmt: skip


def _seen(disturbed: Disturbance, where: dict[str, Any]) -> Floats:
    if not disturbed.lost:
        return np.ones((where["replicate"].shape[0], where["subject"].size))
    return np.asarray(uniforms(**where, slot=LOSS) >= disturbed.lost, dtype=np.float64)


def _summed(stages: Stages, values: Floats) -> Floats:
    """Sums over the subjects of each stage and arm, (r, K, A)."""
    looks, arms = stages.size.shape
    out = np.zeros((values.shape[0], looks, arms))
    for k in range(looks):
        for a in range(arms):
            out[:, k, a] = values[:, (stages.stage == k) & (stages.arm == a)].sum(axis=1)
    return out
