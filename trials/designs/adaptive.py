"""Sample-size re-estimation: the next stage is as large as conditional power asks, the test combines stages as planned.

Proschan & Hunsberger, Biometrics 1995;51:1315 (conditional power); Lehmacher & Wassmer, Biometrics 1999;55:1286. The
rule is a pure function of what the interim look shows. Effects are standardised (difference of means / sd), upwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, ndtr, ndtri, stdtr

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.designs.combination import FisherPlan, combined_z, fisher_bounds, product
from trials.designs.sequential import Boundaries
from trials.designs.simulate import Simulated, followed
from trials.designs.sizes import allocated

__all__ = [
    "Combination", "Interim", "Reestimation", "conditional_critical", "conditional_power", "reestimated",
    "simulated_reestimation",
]  # fmt: skip

Floats = NDArray[np.float64]

STAGE = 0
SPREAD = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A combination test over K looks: inverse normal at the bounds of a group-sequential plan, or Fisher's product."""

    bounds: Boundaries | None = None
    fisher: FisherPlan | None = None

    def __post_init__(self) -> None:
        if (self.bounds is None) == (self.fisher is None):
            raise InputError("needs inverse normal bounds or a Fisher plan", field="combination", remedy="give one")
        if self.bounds is not None and self.bounds.plan.sides != 1:
            raise InputError("must be one-sided", field="sides", value=2, remedy="write sides: 1 and half of alpha")

    @property
    def information(self) -> tuple[float, ...]:
        plan = self.bounds.plan if self.bounds is not None else self.fisher
        assert plan is not None
        return plan.information

    def statistic(self, z: Floats) -> Floats:
        """Combined z, or log of the product, after each stage: stage-wise z (R, k) -> (R, k)."""
        if self.fisher is None:
            return combined_z(z, self.information)
        return np.log(product(ndtr(-z), self.fisher.weights[: z.shape[-1]]))

    def followed(self, z: Floats) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Look at the end, rejection, early futility of trials with stage-wise z (R, K)."""
        if self.fisher is None:
            assert self.bounds is not None
            return followed(self.bounds, self.statistic(z))
        replicates, looks = z.shape
        combined, critical = self.statistic(z), np.log(fisher_bounds(self.fisher))
        futility = np.array([*self.fisher.futility, 1.0] if self.fisher.futility else [1.0] * looks)
        futile = (ndtr(-z) >= futility) & (np.arange(looks) < looks - 1) & (futility < 1)
        reject = (combined <= critical) & ~futile
        over = futile | reject
        over[:, -1] = True
        look = np.argmax(over, axis=1)
        rows = np.arange(replicates)
        return look, reject[rows, look], futile[rows, look]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interim:
    """What an interim look shows: `look` (from 0), stage-wise `z` so far (R, look + 1), observed `effect` (R)."""

    look: int
    z: Floats
    effect: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Reestimation:
    """The next stage has the conditional `power` for `effect` (None: the observed one), within stage limits (K).

    least, most: subjects of each stage; the entry of the first stage is not used. whole: rounded up to pairs.
    """

    power: float
    least: tuple[float, ...]
    most: tuple[float, ...]
    effect: float | None = None
    whole: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.power < 1:
            raise InputError("must be between 0 and 1", field="power", value=self.power, remedy="write 0.9")
        if len(self.least) != len(self.most) or any(not 0 < a <= b for a, b in zip(self.least, self.most)):
            problem = "needs a least and a most for each stage, 0 < least <= most"
            raise InputError(problem, field="most", value=list(self.most), remedy="for example [40, 160, 160]")


def conditional_critical(test: Combination, interim: Interim) -> Floats:
    """z that the next stage alone must reach for a rejection at the next look (R)."""
    now, nxt = interim.look, interim.look + 1
    combined = test.statistic(interim.z)[:, now]
    if test.fisher is not None:
        critical, weight = np.log(fisher_bounds(test.fisher)[nxt]), test.fisher.weights[nxt]
        return np.asarray(-ndtri(np.minimum(np.exp((critical - combined) / weight), 1 - 1e-7)))
    assert test.bounds is not None
    t, bounds = test.information, test.bounds.upper
    return np.asarray((bounds[nxt] * np.sqrt(t[nxt]) - combined * np.sqrt(t[now])) / np.sqrt(t[nxt] - t[now]))


def conditional_power(test: Combination, interim: Interim, n: ArrayLike, *, effect: ArrayLike,
                      ratio: float = 1.0) -> Floats:  # fmt: skip
    """P(rejection at the next look) if the next stage has `n` subjects and the standardised effect is `effect` (R)."""
    drift = np.asarray(effect) * np.sqrt(np.asarray(n, dtype=np.float64) * ratio) / (1 + ratio)
    return np.asarray(ndtr(drift - conditional_critical(test, interim)))


def reestimated(rule: Reestimation, test: Combination, interim: Interim, ratio: float = 1.0) -> Floats:
    """Subjects of the next stage (R): the instruction of the rule. An effect <= 0 asks for the most.

    >>> from trials.designs.sequential import Plan, boundaries
    >>> test = Combination(bounds=boundaries(Plan(information=(0.5, 1.0))))
    >>> rule = Reestimation(power=0.8, least=(40, 20), most=(40, 200))
    >>> seen = Interim(look=0, z=np.array([[1.5], [-0.5], [2.5]]), effect=np.array([0.47, -0.2, 0.8]))
    >>> reestimated(rule, test, seen).tolist()
    [84.0, 200.0, 20.0]
    """
    effect = interim.effect if rule.effect is None else np.full(interim.effect.shape, rule.effect)
    need = np.maximum(0.0, conditional_critical(test, interim) + float(ndtri(rule.power)))
    wanted = (1 + ratio) ** 2 / ratio * (need / np.maximum(effect, 1e-12)) ** 2
    n = np.clip(wanted, rule.least[interim.look + 1], rule.most[interim.look + 1])
    return np.asarray(2 * np.ceil(n / 2 - 1e-9) if rule.whole else n)


def simulated_reestimation(test: Combination, rule: Reestimation | None, planned: ArrayLike, *, effect: float,
                           seed: int, replicates: int | ArrayLike, ratio: float = 1.0,
                           statistic: str = "z") -> Simulated:  # fmt: skip
    """Difference of means in stages of re-estimated size; planned: cumulative subjects (K), kept where rule is None.

    Stages are drawn as a whole: z by (arm 0, replicate, stage), for t also the standard deviation of the stage.
    """
    which = np.arange(replicates) if isinstance(replicates, int) else np.asarray(replicates)
    sizes = np.diff(np.asarray(planned, dtype=np.float64), prepend=0.0)
    looks, share = len(test.information), np.sqrt(allocated(ratio)) / (1 + ratio)
    if sizes.size != looks or sizes.min() <= 0:
        raise InputError(f"needs {looks} numbers that increase", field="subjects", value=np.asarray(planned).tolist())
    if statistic not in ("t", "z"):
        raise InputError("must be t or z", field="test", value=statistic, remedy="write t unless sd is known")
    n, seen, z = (np.zeros((which.size, looks)) for _ in range(3))
    n[:, 0] = sizes[0]
    for k in range(looks):
        if k > 0:
            state = Interim(look=k - 1, z=z[:, :k], effect=_pooled(seen[:, :k], n[:, :k]))
            n[:, k] = sizes[k] if rule is None else reestimated(rule, test, state, ratio)
        drift = effect * np.sqrt(n[:, k]) * share
        z[:, k], scale = _stage(drift, n[:, k], statistic, (seed, which, k))
        seen[:, k] = scale / (np.sqrt(n[:, k]) * share)
    look, reject, futile = test.followed(z)
    nothing, rows = np.full(look.shape, np.nan), np.arange(look.size)
    return Simulated(
        looks=looks, look=look, reject=reject, futile=futile, subjects=np.cumsum(n, axis=1)[rows, look],
        time=nothing, events=nothing, time_by_look=np.full(n.shape, np.nan),
    )  # fmt: skip


def _pooled(effects: Floats, n: Floats) -> Floats:
    """The observed effect over all stages so far (R)."""
    return np.asarray(np.sum(effects * n, axis=1) / np.sum(n, axis=1))


def _stage(
    drift: Floats, n: Floats, statistic: str, address: tuple[int, NDArray[np.int64], int]
) -> tuple[Floats, Floats]:
    """z of the stage's p-value and the statistic itself (R)."""
    seed, which, stage = address
    z = drift + normals(seed, Purpose.SUMMARY_STAGE, subject=0, replicate=which, index=stage, slot=STAGE)
    if statistic == "z":
        return z, z
    u = uniforms(seed, Purpose.SUMMARY_STAGE, subject=0, replicate=which, index=stage, slot=SPREAD)
    t = z / np.sqrt(chdtri(n - 2, u) / (n - 2))
    return np.asarray(-ndtri(stdtr(n - 2, -t))), t
