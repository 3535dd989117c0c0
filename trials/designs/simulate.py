"""Two-arm group-sequential trials on outcomes of stated distributions, many replicates at once.

The rule is a pure function: (look, statistic) -> stop with rejection, stop for futility, go on. Arrays: replicate R,
look K. Chance by address, so that designs and effects are compared on the same subjects. Arm 0 is control, arm 1
treated; larger outcomes are better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, key
from trials.designs.sequential import Boundaries
from trials.designs.sizes import allocated, restricted
from trials.operating import Estimate, mean, proportion

__all__ = [
    "CALM", "Disturbance", "Instruction", "Seen", "Simulated", "Stages", "decide", "followed", "simulated_means",
    "simulated_rates",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Instruction(IntEnum):
    """What a rule says after a look."""

    GO_ON = 0
    REJECT = 1
    FUTILE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The estimate at the end of each replicate, not corrected for looks, its standard error, its df: (R) each.

    Of means the difference, of proportions the risk difference, of survival -log hazard ratio (one step from the
    log-rank statistic): upwards is better.
    """

    estimate: Floats
    se: Floats
    df: Floats

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Limits whose error on each side is `level`."""
        half = -stdtrit(self.df, level) * self.se
        return self.estimate - half, self.estimate + half

    def above(self, value: float) -> Floats:
        """P(effect > value) under a flat prior (R)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(stdtr(self.df, (self.estimate - value) / self.se))


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """Replicates: `look` at which each ended (R, from 0), `reject`, `futile` (early stop) (R), `subjects` (R).

    time, events: calendar time and events at the end (R), NaN where the outcome has none. by_look: the same at every
    look whether reached or not (R, K). seen: the estimate at the end, None where the design has no plain one.
    """

    looks: int
    look: Ints
    reject: Bools
    futile: Bools
    subjects: Floats
    time: Floats
    events: Floats
    time_by_look: Floats
    seen: Seen | None = None

    @property
    def power(self) -> Estimate:
        return proportion(self.reject)

    @property
    def reject_by_look(self) -> tuple[Estimate, ...]:
        """P(rejection at each look)."""
        return tuple(proportion(self.reject & (self.look == k)) for k in range(self.looks))

    @property
    def futility(self) -> Estimate:
        """P(early stop for futility)."""
        return proportion(self.futile)

    @property
    def expected_subjects(self) -> Estimate:
        return mean(self.subjects)

    @property
    def expected_time(self) -> Estimate:
        return mean(self.time)

    @property
    def expected_events(self) -> Estimate:
        return mean(self.events)

    @property
    def analysis_times(self) -> tuple[Estimate, ...]:
        """Mean calendar time of each look among the trials that reach it."""
        return tuple(mean(self.time_by_look[self.look >= k, k]) for k in range(self.looks))


def decide(bounds: Boundaries, look: int, z: Floats) -> NDArray[np.int8]:
    """Instructions (R) after a look (from 0) with statistics z (R). The last look ends the trial: never GO_ON.

    >>> from trials.designs.sequential import Plan, boundaries
    >>> bounds = boundaries(Plan(information=(0.5, 1.0)))
    >>> [Instruction(i).name for i in decide(bounds, 0, np.array([3.0, 1.0]))]
    ['REJECT', 'GO_ON']
    """
    size = np.abs(z) if bounds.plan.sides == 2 else z
    last = look == len(bounds.upper) - 1
    out = np.where(last | (size <= bounds.lower[look]), Instruction.FUTILE, Instruction.GO_ON)
    return np.where(size >= bounds.upper[look], Instruction.REJECT, out).astype(np.int8)


def followed(bounds: Boundaries, z: Floats) -> tuple[Ints, Bools, Bools]:
    """Look at the end, rejection, early futility of trials with statistics z (R, K)."""
    replicates, looks = z.shape
    look = np.full(replicates, -1, dtype=np.int64)
    reject, futile = np.zeros(replicates, np.bool_), np.zeros(replicates, np.bool_)
    for k in range(looks):
        going = look < 0
        said = decide(bounds, k, z[:, k])
        look[going & (said != Instruction.GO_ON)] = k
        reject |= going & (said == Instruction.REJECT)
        futile |= going & (said == Instruction.FUTILE) & (k < looks - 1)
    return look, reject, futile


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Who is in which stage and arm: `arm`, `stage` (N), `size` (K, A) subjects by stage and arm."""

    arm: Ints
    stage: Ints
    size: Ints

    @classmethod
    def of(cls, size: ArrayLike) -> Stages:
        """From subjects by stage and arm (K, A): in each stage the arms take turns in proportion.

        >>> Stages.of([[1, 2]]).arm.tolist()
        [1, 0, 1]
        """
        counts = np.asarray(size)
        if counts.dtype.kind not in "iu" or counts.ndim != 2 or counts.min() < 0 or counts.sum() == 0:
            raise InputError("must be whole numbers >= 0, by stage and arm", field="subjects", value=size)
        turn = [(np.arange(n) + 0.5) / max(n, 1) for row in counts for n in row]
        arm = [np.full(n, a) for row in counts for a, n in enumerate(row)]
        stage = [np.full(n, k) for k, row in enumerate(counts) for n in row]
        place, arms, stages = (np.concatenate(part) for part in (turn, arm, stage))
        order = np.lexsort((arms, place, stages))
        return cls(arm=arms[order].astype(np.int64), stage=stages[order].astype(np.int64), size=counts.astype(np.int64))

    @classmethod
    def two_arms(cls, cumulative: ArrayLike, ratio: float = 1.0) -> Stages:
        """From cumulative totals at the looks (K), treated : control as `ratio`; treated are rounded.

        >>> Stages.two_arms([58, 116]).size.tolist()
        [[29, 29], [29, 29]]
        """
        total = np.asarray(cumulative)
        if total.dtype.kind not in "iu" or np.any(np.diff(total, prepend=0) <= 0):
            remedy = "cumulative whole numbers, for example [58, 116, 174]"
            raise InputError("must increase", field="subjects", value=list(np.atleast_1d(total)), remedy=remedy)
        treated = np.rint(total * ratio / (1 + allocated(ratio))).astype(np.int64)
        return cls.of(np.diff(np.stack([total - treated, treated], axis=1), axis=0, prepend=0))


def _addressed(seed: int, replicates: int | ArrayLike) -> tuple[tuple[np.uint32, np.uint32], NDArray[np.uint32]]:
    which = np.arange(replicates) if isinstance(replicates, int) else np.asarray(replicates)
    return key(seed, Purpose.SUMMARY_OUTCOME), which.astype(np.uint32)


def normal_sums(stages: Stages, means: ArrayLike, sd: ArrayLike, *, seed: int,
                replicates: int | ArrayLike) -> tuple[Floats, Floats]:  # fmt: skip
    """Sums and sums of squares (R, K, A) of normal outcomes."""
    from trials.kernels.summary import normal_stages

    address, which = _addressed(seed, replicates)
    looks, arms = stages.size.shape
    total, square = np.zeros((which.size, looks, arms)), np.zeros((which.size, looks, arms))
    centre, spread = (np.broadcast_to(np.asarray(x, dtype=np.float64), (arms,)).copy() for x in (means, sd))
    normal_stages(*address, which, stages.arm, stages.stage, centre, spread, total, square)
    return total, square


def event_sums(stages: Stages, rates: ArrayLike, *, seed: int, replicates: int | ArrayLike) -> Floats:
    """Numbers of events (R, K, A) of binary outcomes."""
    from trials.kernels.summary import event_stages

    address, which = _addressed(seed, replicates)
    total = np.zeros((which.size, *stages.size.shape))
    event_stages(*address, which, stages.arm, stages.stage, np.asarray(rates, dtype=np.float64), total)
    return total


def t_bounds(bounds: Boundaries, df: Floats) -> Boundaries:
    """Bounds for t statistics with the same one-sided levels as those for z, look by look."""

    def as_t(z: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(z), -stdtrit(df, ndtr(-z)), z)

    return replace(bounds, upper=as_t(bounds.upper), lower=as_t(bounds.lower))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What a plan does not count on: a share of subjects `lost`, a `trend` of the outcome over the order of entry (by
    so much the last subject is above the first one, in every arm; of binary outcomes in log odds).
    """

    lost: float = 0.0
    trend: float = 0.0


CALM = Disturbance()


def simulated_means(bounds: Boundaries, cumulative: ArrayLike, *, effect: float, sd: float = 1.0, seed: int,
                    replicates: int | ArrayLike, ratio: float = 1.0, margin: float = 0.0,
                    test: str = "t", disturbed: Disturbance = CALM) -> Simulated:  # fmt: skip
    """Difference of means; test: t (pooled variance, bounds as levels) or z (known sd); cumulative subjects (K).

    >>> from trials.designs.sequential import Plan, boundaries
    >>> bounds = boundaries(Plan(information=(0.5, 1.0)))
    >>> found = simulated_means(bounds, [40, 80], effect=0.8, seed=1, replicates=2000)
    >>> abs(found.power.value - 0.94) < 0.03
    True
    """
    if test not in ("t", "z"):
        raise InputError("must be t or z", field="test", value=test, remedy="write t unless sd is known")
    stages = Stages.two_arms(cumulative, ratio)
    planned = np.cumsum(stages.size.sum(axis=1)).astype(np.float64)
    if disturbed == CALM:
        total, square = normal_sums(stages, [0.0, effect], sd, seed=seed, replicates=replicates)
        n = np.cumsum(stages.size, axis=0).astype(np.float64)[None]
    else:
        from trials.designs.disturbed import disturbed_normals

        counts, total, square = disturbed_normals(
            stages, (0.0, effect), sd, disturbed=disturbed, chance=(seed, replicates)
        )
        n = np.cumsum(counts, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.cumsum(total, axis=1) / n
        scale = np.sqrt(1 / n[:, :, 0] + 1 / n[:, :, 1])
    estimate = means[:, :, 1] - means[:, :, 0]
    if test == "z":
        se = np.broadcast_to(sd * scale, estimate.shape)
        return _ended(bounds, (estimate - margin) / se, planned, (estimate, se, np.full(se.shape, np.inf)))
    within = np.sum(np.cumsum(square, axis=1) - n * means**2, axis=2)
    df = np.broadcast_to(n.sum(axis=2) - 2, estimate.shape)
    se = np.sqrt(within / df) * scale
    t = (estimate - margin) / se
    if disturbed.lost:
        return _ended(bounds, _as_z(t, df), planned, (estimate, se, df))
    return _ended(t_bounds(bounds, df[0]), t, planned, (estimate, se, df))


def _as_z(t: Floats, df: Floats) -> Floats:
    """z of the same p-value."""
    return np.asarray(np.sign(t) * -ndtri(stdtr(df, -np.abs(t))))


def simulated_rates(bounds: Boundaries, cumulative: ArrayLike, *, treated: float, control: float, seed: int,
                    replicates: int | ArrayLike, ratio: float = 1.0, null: float | None = None,
                    measure: str = "difference", disturbed: Disturbance = CALM) -> Simulated:  # fmt: skip
    """Two proportions by the score test (Farrington & Manning; pooled variance where the null is no difference)."""
    stages = Stages.two_arms(cumulative, ratio)
    planned = np.cumsum(stages.size.sum(axis=1)).astype(np.float64)
    if disturbed == CALM:
        total = np.cumsum(event_sums(stages, [control, treated], seed=seed, replicates=replicates), axis=1)
        n = np.cumsum(stages.size, axis=0).astype(np.float64)[None]
    else:
        from trials.designs.disturbed import disturbed_events

        counts, events = disturbed_events(stages, (control, treated), disturbed=disturbed, chance=(seed, replicates))
        n, total = np.cumsum(counts, axis=1), np.cumsum(events, axis=1)
    p1, p0 = total[:, :, 1] / n[:, :, 1], total[:, :, 0] / n[:, :, 0]
    z = score_z(p1, p0, (n[:, :, 1], n[:, :, 0]), null=null, measure=measure)
    se = np.sqrt(p1 * (1 - p1) / n[:, :, 1] + p0 * (1 - p0) / n[:, :, 0])
    return _ended(bounds, z, planned, (p1 - p0, se, np.full(se.shape, np.inf)))


def score_z(p1: Floats, p2: Floats, n: tuple[Floats, Floats], *, null: float | None = None,
            measure: str = "difference") -> Floats:  # fmt: skip
    """Score statistic of p1 - p2 (or p1/p2) against its null; 0 where nothing differs and nothing varies."""
    null = float(measure == "ratio") if null is None else null
    weight = null if measure == "ratio" else 1.0
    distance = p1 - weight * p2 - (0.0 if measure == "ratio" else null)
    q1, q2 = restricted(p1, p2, null, n[0] / n[1], measure=measure)
    variance = q1 * (1 - q1) / n[0] + weight**2 * q2 * (1 - q2) / n[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(distance == 0, 0.0, distance / np.sqrt(variance))


def _ended(bounds: Boundaries, z: Floats, cumulative: Floats, seen: tuple[Floats, Floats, Floats]) -> Simulated:
    look, reject, futile = followed(bounds, z)
    nothing, rows = np.full(look.shape, np.nan), np.arange(look.size)
    estimate, se, df = (x[rows, look] for x in seen)
    return Simulated(
        looks=z.shape[1], look=look, reject=reject, futile=futile, subjects=cumulative[look],
        time=nothing, events=nothing, time_by_look=np.full(z.shape, np.nan),
        seen=Seen(estimate=estimate, se=se, df=df),
    )  # fmt: skip
