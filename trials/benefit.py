"""What every arm does to everybody: the effects of `benefit_risk`, measured in potential outcomes.

All subjects of a replicate are followed in each arm, with the same doses taken, the same chance of events and nobody
lost: arms differ by treatment alone. One row per replicate and group of people: the mean effects (arm by criterion),
and how uncertain they are because so many people and no more were followed, which `trials.assessed` takes out
again: what is left is the uncertainty of the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trials.estimand import Estimand
from trials.kinds import KINDS, Lived
from trials.subject import Course, follow
from trials.trial import lived_of, without_of
from trials.weighing import ALL, BenefitRisk, EffectCriterion, Subgroup

if TYPE_CHECKING:
    from trials.setting import Setting
    from trials.trial import Trial

__all__ = ["NOISY", "measured"]

Floats = NDArray[np.float64]
World = tuple[Course, Lived]

NOISY: Final = 50
"""Replicates whose chance of who was followed is kept: its mean over them is well known."""


def measured(setting: Setting, trial: Trial) -> dict[str, Any] | None:
    """The table, or None where the protocol weighs nothing.

    Columns: replicate, group, level (of the group), n people; effects: list of A x C means, arm by arm; noise: upper
    triangle of their covariance from who was followed, row by row (empty after replicate `NOISY`, or below two people).
    """
    plan = setting.protocol.benefit_risk
    if plan is None:
        return None
    effects = _everybody(setting, trial, plan)
    rows: dict[str, list[Any]] = {name: [] for name in ("replicate", "group", "level", "n", "effects", "noise")}
    for group, level, inside in _groups(trial, plan, failed=np.isnan(effects).all(axis=(1, 2))):
        people = inside.sum(axis=1)
        mean, apart = _mean(effects, inside)
        for place in np.flatnonzero(people).tolist():
            number = int(trial.cohort.replicate[place])
            noisy = number < NOISY and people[place] > 1
            made = (number, group, level, int(people[place]), mean[place], _noise(apart[place], noisy=noisy))
            for column, value in zip(rows, made, strict=True):
                rows[column].append(value)
    kinds = {"replicate": np.uint32, "level": np.int32, "n": np.int32}
    order = np.argsort(rows["replicate"], kind="stable").tolist()  # whatever the block, replicate by replicate
    rows = {name: [x[k] for k in order] for name, x in rows.items()}
    return {name: np.array(x, kinds[name]) if name in kinds else x for name, x in rows.items()}


def _everybody(setting: Setting, trial: Trial, plan: BenefitRisk) -> Floats:
    """Effects (R, A, C, N) of everybody under every arm; NaN in every arm for who failed in one, NaN for a value that
    nobody alive has."""
    protocol, found, failed = setting.protocol, [], np.zeros(trial.shape, np.bool_)
    for arm in plan.compared(protocol.arms):
        people = trial.people.in_arm(list(protocol.arms).index(arm))
        worlds: dict[frozenset[str], World] = {}
        for criterion in plan.criteria.values():
            estimand = _estimand(setting, criterion)
            without = frozenset() if estimand is None else without_of(setting, estimand)
            if without not in worlds:
                course = follow(setting, people, without=without)
                worlds[without] = course, lived_of(setting, course, people, trial.shape)
                failed |= (course.status != 0).reshape(trial.shape)
            found.append(_effect(setting, criterion, worlds[without]))
    made = np.stack(found, axis=1)
    made[np.broadcast_to(failed[:, None], made.shape)] = np.nan
    return made.reshape(len(made), -1, len(plan.criteria), trial.shape[1])


def _estimand(setting: Setting, criterion: EffectCriterion) -> str | None:
    """The first estimand of the criterion's endpoint: its strategies hold here too; none: treatment policy."""
    named = (key for key, e in setting.protocol.estimands.items() if criterion.endpoint in e.endpoint)
    return next(named, None)


def _effect(setting: Setting, criterion: EffectCriterion, world: World) -> Floats:
    """The criterion of everybody (R, N)."""
    protocol = setting.protocol
    if criterion.summary is not None:
        return _exposure(setting, criterion, world)
    name = str(criterion.endpoint)
    key = _estimand(setting, criterion)
    policy = Estimand(endpoint=(name,), compare=(), against="", summary="", strategies={})
    true = KINDS[protocol.endpoints[name].as_].true
    assert true is not None  # by the checks
    value = true(protocol, protocol.endpoints[name], protocol.estimands[key] if key else policy, world[1])
    return np.asarray(value, np.float64)


def _exposure(setting: Setting, criterion: EffectCriterion, world: World) -> Floats:
    """An exposure at its visit (R, N), or whether it is beyond the limit; NaN once follow-up has ended."""
    from pkpd.ground import units
    from pkpd.model.dimensions import units_of

    (course, lived), name = world, str(criterion.summary)
    visit = setting.protocol.visit_names.index(str(criterion.at))
    value = course.values[name][:, visit].reshape(lived.stop.shape)
    value = np.where(lived.times[:, :, visit] > lived.ended, np.nan, value)
    limit = criterion.above if criterion.above is not None else criterion.below
    if limit is None:
        return value
    edge = float(limit) * units.factor(limit.unit, units_of(setting.model)[name])
    beyond = value > edge if criterion.above is not None else value < edge
    return np.where(np.isnan(value), np.nan, beyond.astype(np.float64))


def _groups(
    trial: Trial, plan: BenefitRisk, *, failed: NDArray[np.bool_]
) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """(group, level, who is in it (R, N)): everybody, then every level that occurs."""
    yield ALL, 0, ~failed
    for name, group in plan.subgroups.items():
        code = _levels(trial.people.covariates[group.by].reshape(trial.shape), group)
        for level in np.unique(code[np.isfinite(code)]).tolist():
            yield name, int(level), (code == level) & ~failed


def _levels(covariate: Floats, group: Subgroup) -> Floats:
    """The category, or how many cuts are at or below the value; NaN where it is not known."""
    if not group.cuts:
        return covariate
    place = np.searchsorted(np.array(group.cuts), covariate, side="right").astype(np.float64)
    return np.where(np.isnan(covariate), np.nan, place)


def _mean(effects: Floats, inside: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Means (R, A C) of those inside, NaN where nobody has the effect, and what each person adds to their error
    (R, A C, N), 0 for who is not counted."""
    seen = np.isfinite(effects) & inside[:, None, None]
    count = seen.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, effects, 0.0).sum(axis=-1) / count
        apart = np.where(seen, effects - mean[..., None], 0.0) / count[..., None]
    shape = (len(effects), -1, effects.shape[-1])
    return mean.reshape(len(effects), -1), apart.reshape(shape)


def _noise(apart: Floats, *, noisy: bool) -> Floats:
    """Upper triangle of the covariance of the means: the sum of the persons' shares, n / (n - 1) times."""
    if not noisy:
        return np.empty(0)
    n = int((apart != 0).any(axis=0).sum())
    full = np.einsum("pn,qn->pq", apart, apart) * (n / max(n - 1, 1))
    return np.asarray(full[np.triu_indices(len(full))])
