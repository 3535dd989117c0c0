"""Doses guided by measured levels inside a trial (`tdm:` of an arm): from a subject's levels so far to its next dose.

Levels are measured with the residual error of the subject's population draw, by address: `Purpose.RULE`, index = number
of the level, slot = number of the rule in its arm. Doses and their times are known as they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals
from pkpd.model.guidance import Guidance

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.regimen import Dose, Events
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws
    from pkpd.twin.guided import Guide
    from trials.protocol import Protocol
    from trials.rules import Look, Plan, Plans
    from trials.setting import Payload, Setting
    from trials.subject import People

__all__ = ["described", "dose_of", "guide_for", "guides", "guiding", "lloq_of", "other_name", "outcome", "unit_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


def dose_of(protocol: Protocol, arm: str) -> Dose:
    """The dose that guidance changes: the one given from its first decision on."""
    guidance = protocol.arms[arm].tdm
    assert guidance is not None
    first = min(guidance.decide.until(protocol.horizon))
    return next(d for d in protocol.arms[arm].regimen if d.dose_times()[-1] >= first)


def guide_for(protocol: Protocol, arm: str, model: Model, draws: PopulationDraws | None = None) -> Guide:
    """The guide of an arm by `model` at its typical values: the medians of `draws`, else those of the text."""
    from pkpd import posterior
    from pkpd.model.variability import point
    from pkpd.twin.guided import guide_of

    guidance = protocol.arms[arm].tdm
    assert guidance is not None
    typical = point(model) if draws is None else posterior.median(draws)
    return guide_of(guidance, dose_of(protocol, arm), model, typical, seed=protocol.seed)


def guides(payload: Payload, own: Model) -> tuple[Guide | None, ...]:
    """Guides by arm code."""
    from pkpd.model.spec import Model

    found: list[Guide | None] = []
    for name, arm in payload.protocol.arms.items():
        if arm.tdm is None:
            found.append(None)
        elif other_name(name) in payload.others:
            found.append(guide_for(payload.protocol, name, Model.from_dict(payload.others[other_name(name)])))
        else:
            found.append(guide_for(payload.protocol, name, own, payload.draws))
    return tuple(found)


def other_name(arm: str) -> str:
    """Name of the model that guides an arm among the other models of a run."""
    return f"tdm.{arm}"


def lloq_of(guidance: Guidance, model: Model) -> float:
    """Lower limit of quantification in the unit of the level; -inf without one. InputError on another dimension."""
    if guidance.lloq is None:
        return -np.inf
    return guidance.lloq.to(unit_of(model, guidance.measure))


def unit_of(model: Model, output: str) -> str:
    """Unit of a level."""
    from pkpd.model.dimensions import units_of

    error = model.outputs[output].error.additive
    return units_of(model).get(str(model.outputs[output].is_), "1" if error is None else error.typical.unit)


def guiding(
    setting: Setting, people: People, plan: Plan, code: int, *, look: Look
) -> Callable[[int, Rows, Floats, Floats], Floats]:
    """What the engine asks at a decision: dose factors of subjects of an arm, NaN where the levels tell nothing."""
    from pkpd.twin.guided import chosen

    def guided(rule: int, rows: Rows, now: Floats, factor: Floats) -> Floats:
        guide, schedule = setting.guides[code], setting.schedules[code]
        assert guide is not None
        found = factor.copy()
        for time in np.unique(now).tolist():
            mine, coming = np.flatnonzero(now == time), schedule.time >= time
            if coming.any():
                known = _known(setting, people, (plan, code), (rule, rows[mine], time), look=look)
                planned, start = float(schedule.amount[coming][0]), float(schedule.time[coming][0])
                found[mine] = chosen(guide, known, planned * factor[mine], start=start) / planned
        return found

    return guided


def _known(
    setting: Setting, people: People, arm: tuple[Plan, int], at: tuple[int, Rows, float], *, look: Look
) -> Records:
    """What is known of some members of an arm at a decision: doses before it, levels up to it, covariates."""
    from pkpd.model.records import Records

    (plan, code), (rule, rows, now) = arm, at
    guide, guidance, who = setting.guides[code], setting.rules[code][rule], plan.members[rows]
    assert guide is not None
    assert isinstance(guidance, Guidance)
    times = np.asarray(guidance.levels.until(now), np.float64)
    doses = plan.dosed.events(rows)
    limit = lloq_of(guidance, setting.model)
    level = _levels(setting, people, (who, doses, times), (rule, guidance), look=look)
    n, count = level.shape
    return Records(
        ids=tuple(str(i) for i in who.tolist()), doses=_before(doses, now), subject=np.repeat(np.arange(n), count),
        time=np.tile(times, n), dv=np.where(level < limit, limit, level).reshape(-1),
        output=np.full(n * count, guide.output, np.int64), after=np.zeros(n * count, np.bool_), varying=(), digest="",
        covariates={name: people.covariates[name][who] for name in guide.model.covariates},
        below=(level < limit).reshape(-1),
    )  # fmt: skip


def _levels(
    setting: Setting, people: People, given: tuple[Rows, Events, Floats], asked: tuple[int, Guidance], *, look: Look
) -> Floats:
    """Measured levels (n, K), NaN where the subject's solve failed."""
    from pkpd import residual

    (who, doses, times), (rule, guidance) = given, asked
    if not times.size:
        return np.empty((who.size, 0))
    true = look(who, doses, np.tile(times, (who.size, 1)))[guidance.measure]
    z = normals(
        setting.seed, Purpose.RULE, subject=people.subject[who][:, None], replicate=people.replicate[who][:, None],
        index=np.arange(times.size, dtype=np.uint32), slot=rule,
    )  # fmt: skip
    error = residual.error_of(setting.model, setting.draws, guidance.measure)
    return residual.observe(residual.taken(error, people.draw[who], (1,)), true, z)


def _before(events: Events, now: float) -> Events:
    """The doses before `now`."""
    from pkpd.model.regimen import Events

    keep = events.time < now
    owner = np.repeat(np.arange(len(events)), np.diff(events.offsets))[keep]
    offsets = np.zeros(len(events) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=len(events)), out=offsets[1:])
    names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    return Events(offsets, *(getattr(events, name)[keep] for name in names))


def outcome(plans: Plans, setting: Setting, n: int) -> Mapping[str, Floats | NDArray[np.int32]]:
    """Columns of the outcome table: the dose last given where levels guide it, decisions without an answer."""
    if not any(guide is not None for guide in setting.guides):
        return {}
    dose, unsaid = np.full(n, np.nan), np.zeros(n, np.int32)
    for code, plan in plans.items():
        if setting.guides[code] is not None:
            dose[plan.members] = plan.dosed.factor * setting.schedules[code].amount[-1]
            unsaid[plan.members] = plan.dosed.unsaid
    return {"tdm.dose": dose, "tdm.unsaid": unsaid}


def described(guidance: Guidance) -> str:
    """The guidance in words."""

    def when(text: Any) -> str:
        return f"every {text.every:g} h" if text.every else ", ".join(f"{t:g} h" for t in text.times) or "never"

    by = f"{guidance.draws} draws of the posterior" if guidance.by == "draws" else "the mode of the posterior"
    toxic = f", {guidance.penalty:g} times the chance of {guidance.toxic} against it" if guidance.toxic else ""
    most = f", at most {guidance.change:g}-fold at a time" if guidance.change else ""
    return (
        f"{guidance.measure} measured at {when(guidance.levels)}, dose chosen at {when(guidance.decide)} for "
        f"{guidance.target} over {guidance.horizon:g} h{toxic}{most}, by {by} under "
        f"{guidance.model or 'the typical values of the model of the trial'}"
    )
