"""Sample size of group-sequential designs: the fixed size times the inflation, expected sizes, analysis times.

The t-test's size is inflated as the z-test's is (the usual scaling; its error at small sizes is what simulation shows).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trials.designs.characteristics import Characteristics, characteristics
from trials.designs.sequential import Boundaries, Plan, boundaries
from trials.designs.sizes import Error, Size, split
from trials.designs.survival import Times, events_needed, survival_size

__all__ = ["SequentialSize", "SequentialSurvival", "sequential_size", "sequential_survival"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSize:
    """`maximum` and `looks` (K, cumulative) subjects or events; expected under the effect, half of it and none."""

    bounds: Boundaries
    characteristics: Characteristics
    maximum: float
    looks: Floats
    expected_effect: float
    expected_half: float
    expected_null: float

    @property
    def reject(self) -> Floats:
        """P(rejection at each look) under the effect (K)."""
        return self.characteristics.under_effect.reject

    @property
    def early(self) -> float:
        """P(stop before the last look) under the effect."""
        return float(self.characteristics.under_effect.stop[:-1].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSurvival:
    """`events` as a `SequentialSize`; `subjects`, expected analysis times (K), durations (means over where it stops).

    entered: subjects entered by each analysis (K); expected_subjects: their mean under the effect.
    """

    events: SequentialSize
    subjects: Size
    times: Floats
    entered: Floats
    duration: float
    expected_duration: float
    expected_subjects: float


def sequential_size(plan: Plan, fixed: float) -> SequentialSize:
    """A fixed size (subjects, events or information) made group-sequential.

    >>> from trials.designs.sequential import Efficacy, evenly
    >>> plan = Plan(information=evenly(3), efficacy=Efficacy(family="pocock"))
    >>> round(sequential_size(plan, 170.06263).maximum, 3)
    195.681
    """
    bounds = boundaries(plan)
    found = characteristics(bounds)
    maximum = fixed * found.inflation
    return SequentialSize(
        bounds=bounds, characteristics=found, maximum=maximum, looks=bounds.information * maximum,
        expected_effect=fixed * found.expected_effect, expected_half=fixed * found.expected_half,
        expected_null=fixed * found.expected_null,
    )  # fmt: skip


def sequential_survival(plan: Plan, times: Times, *, hazard_ratio: float, null: float = 1.0,
                        method: str = "schoenfeld", follow_up: float | None = None,
                        subjects: float | None = None) -> SequentialSurvival:  # fmt: skip
    """Group-sequential log-rank design; give the follow-up after the last entry, or the number of subjects.

    times.treated should be the control's hazard x hazard_ratio where that is the assumption; analysis times and
    durations are those under `times`.
    """
    error = Error(alpha=plan.alpha, sides=plan.sides, power=plan.power)
    needed = events_needed(error, hazard_ratio=hazard_ratio, null=null, ratio=times.ratio, method=method)
    events = sequential_size(plan, needed)
    size = survival_size(events.maximum, times, follow_up=follow_up, subjects=subjects)
    when = np.array([times.when(float(d), size.subjects.total) for d in events.looks[:-1]] + [size.duration])
    stop = events.characteristics.under_effect.stop
    entered = size.subjects.total * times.accrual.entered(when)
    return SequentialSurvival(
        events=events, subjects=split(size.subjects.total, times.ratio), times=when, entered=entered,
        duration=size.duration, expected_duration=float(stop @ when), expected_subjects=float(stop @ entered),
    )  # fmt: skip
