"""Arms that go on and arms that are dropped: a multi-arm multi-stage trial of patients.

At each interim look a rule (`trials.designs.selection.chosen`) says which arms go on; whoever enters later is
randomised among those and control, so that the trial keeps its size. The test is the closed inverse normal combination
test of `trials.designs.closed`: a stage's statistics are of the subjects whose endpoint fell due in it, so that the
family-wise error holds whatever is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, uniforms
from trials import design, endpoints
from trials.data_cut import as_of, enrolled
from trials.designs.selection import LOTS, Choice, chosen, ended
from trials.designs.sequential import boundaries
from trials.looks import (
    EFFICACY,
    FUTILITY,
    NOT_SHOWN,
    Conducted,
    Seen,
    _put,
    counted,
    hours_of,
    looks_table,
    question_of,
)
from trials.methods import METHODS, Question
from trials.stopping import Statistic, plan_of, ratio_scale, statistic, tested

if TYPE_CHECKING:
    from trials.looks import Again
    from trials.observed import Floats, Observed
    from trials.planned import Selection
    from trials.protocol import Protocol

__all__ = ["choice_of", "redealt", "selected"]

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


def choice_of(question: Question, rule: Selection) -> Choice:
    """The rule on the scale of effects: towards benefit, of ratios the logarithm."""
    threshold = -np.inf
    if rule.threshold is not None:
        scaled = float(np.log(rule.threshold)) if ratio_scale(question.estimand.summary) else rule.threshold
        threshold = -scaled if tested(question.analysis)[1] == "less" else scaled
    return Choice(kind=rule.choice, number=rule.number, epsilon=rule.epsilon, threshold=threshold)


def selected(protocol: Protocol, trial: Observed, again: Again) -> Conducted:
    """The trial look by look; `again` follows the same people under the arms that the rule left."""
    interims = protocol.interims
    assert interims is not None
    assert interims.select is not None
    question = question_of(protocol, interims.analysis)
    looks, contrasts = len(interims.looks), question.arms - 1
    active = np.ones((trial.replicate.size, looks, contrasts), np.bool_)
    stages: list[tuple[Statistic, Floats]] = []
    hours, when, _ = hours_of(protocol, interims, trial)
    for k in range(looks):
        stages.append(_stage(question, trial, (hours, when), k))
        if k + 1 < looks:
            active[:, k + 1] = _chosen(question, trial, hours[:, k], (active[:, k], k))
            trial = _redealt(question, trial, (hours[:, k], active[:, k + 1], k), again)
            past = hours[:, : k + 1]  # looks that were held stay where they were, whoever comes later
            hours, when, _ = hours_of(protocol, interims, trial)
            hours = np.concatenate([past, np.maximum(hours[:, k + 1 :], past[:, -1:])], axis=1)
    counts, _ = counted(hours, when)
    everybody = np.stack([enrolled(trial, hour) for hour in hours.T], axis=1)
    z = np.nan_to_num(np.stack([stage.z for stage, _ in stages], axis=1), nan=-np.inf, posinf=40.0)
    loading = np.stack([part for _, part in stages], axis=1)
    bounds, rule = boundaries(plan_of(interims, question.analysis)), interims.select
    end = ended(bounds, (np.maximum(z, -40.0), active, loading), np.diff(everybody, axis=1, prepend=0),
                rule=(rule.intersection, rule.success))  # fmt: skip
    final = as_of(trial, hours[np.arange(len(hours)), end.stage])
    analyses = endpoints.analyse(protocol, final)
    nothing = np.full(len(hours), np.nan)
    _put(protocol, analyses, {
        arm: {"reject": end.reject[:, g], "p": nothing} for g, arm in enumerate(question.estimand.compare)
    })  # fmt: skip
    reason = np.where(end.success, EFFICACY, np.where(end.futile, FUTILITY, NOT_SHOWN))
    seen = Seen(
        replicate=trial.replicate, hour=hours, count=counts, held=np.ones(hours.shape, np.bool_),
        found=tuple(stage for stage, _ in stages), enrolled=everybody, active=active,
    )  # fmt: skip
    own: dict[str, Any] = {"upper_bound": np.broadcast_to(bounds.upper, hours.shape), "reject": end.reject[:, None, :]}
    return Conducted(observed=final, analyses=analyses, looks=looks_table(question, seen, (end.stage, reason), own))


def _stage(question: Question, trial: Observed, at: tuple[Floats, Floats], look: int) -> tuple[Statistic, Floats]:
    """Statistics of the subjects who fell due since the look before, and the loadings of Dunnett's correlation."""
    from dataclasses import replace

    hours, when = at
    before = hours[:, look - 1, None] if look else np.full((len(hours), 1), -np.inf)
    seen = as_of(trial, hours[:, look])
    own = replace(seen, arm=np.where((when > before) & (when <= hours[:, look, None]), seen.arm, -1))
    found = METHODS[question.analysis.method].run(question, endpoints.examined(question, own))
    treated, control = np.asarray(found["n_treated"], np.float64), np.asarray(found["n_control"], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(treated / (treated + control[:, None]))
    return statistic(question, found), np.sqrt(share)


def _chosen(question: Question, trial: Observed, hour: Floats, at: tuple[Bools, int]) -> Bools:
    """Who goes on after a look (R, G): by the effects in all that has been seen. An arm without an estimate goes."""
    (active, look), protocol = at, question.protocol
    assert protocol.interims is not None
    assert protocol.interims.select is not None
    rule = protocol.interims.select
    seen = as_of(trial, hour)
    found = statistic(question, METHODS[question.analysis.method].run(question, endpoints.examined(question, seen)))
    loose = np.array([not rule.arms or arm in rule.arms for arm in question.estimand.compare])
    effect = np.nan_to_num(found.effect, nan=-np.inf)
    lots = uniforms(protocol.seed, Purpose.SUMMARY_STAGE, subject=np.arange(effect.shape[1]),
                    replicate=trial.replicate[:, None], index=look, slot=LOTS)  # fmt: skip
    return np.asarray(chosen(choice_of(question, rule), effect, active & loose, lots) | (active & ~loose))


def _redealt(question: Question, trial: Observed, at: tuple[Floats, Bools, int], again: Again) -> Observed:
    """Later entrants among the arms still in; a trial with none left, or with nothing dropped, goes on as it was."""
    hour, active, look = at
    assert trial.entry is not None
    arms = np.ones((len(hour), len(question.protocol.arms)), np.bool_)
    for g, name in enumerate(question.estimand.compare):
        arms[:, question.protocol.arm_names.index(name)] = active[:, g]
    arms[~active.any(axis=1)] = True
    if arms.all():
        return trial
    return again(redealt(question.protocol, trial, (arms, trial.entry > hour[:, None], look)))


def redealt(protocol: Protocol, trial: Observed, at: tuple[Bools, Bools, int]) -> Integers:
    """Arms (R, N) with those who enter later (R, N) randomised among `arms` (R, A) still open, after a look (from 0).

    New permuted blocks, at addresses of their own (slot = stratum + 1,000,000 x look), where something was dropped.
    """
    arms, later, look = at
    plan, found = protocol.allocation, trial.arm.copy()
    ratios = np.array([arm.ratio for arm in protocol.arms.values()])
    for kept in np.unique(arms[~arms.all(axis=1)], axis=0):
        rows = np.flatnonzero((arms == kept).all(axis=1))
        open_ = (ratios * kept).tolist()
        strata = np.where(later[rows], trial.stratum[rows] + 1_000_000 * (look + 1), -1)
        which, seed = trial.replicate[rows], protocol.seed
        if plan.method == "complete":
            dealt = design.complete(strata, open_, seed=seed, replicate=which)
        else:
            size = sum(open_) * max(1, (plan.size or sum(open_)) // int(ratios.sum()))
            dealt = design.permuted_blocks(strata, open_, size=size, seed=seed, replicate=which)
        found[rows] = np.where(dealt >= 0, dealt, found[rows])
    return found
