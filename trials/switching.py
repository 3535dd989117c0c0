"""Changes of treatment after randomisation: switching to another arm's regimen, rescue medication.

Switching: at the first occurrence of an event a subject of some arms goes over, with a probability, to the regimen of
another arm, that begins then (or after a delay) as if it entered there; its own doses end. Who has stopped treatment
does not switch; the end of treatment ends the new doses too. Rescue: where a measured output is too low or too high at
a visit, doses are added to the subject's own from then on. Chance by address (`Purpose.SWITCHING`, slot of the name),
no arm in it. All added doses are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, slots, uniforms
from trials import conduct, measured

if TYPE_CHECKING:
    from pkpd.model.regimen import Events, Schedule
    from pkpd.model.spec import Model
    from trials.comedication import Monitor
    from trials.planned import LackOfEffect, Rescue, Switch
    from trials.protocol import Protocol
    from trials.setting import Setting
    from trials.subject import Course, People

__all__ = ["Added", "begun", "given", "limits", "opened", "rescued", "switched"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A change of treatment opened: doses from its time on, codes of the arms it happens in; below and above in the
    output's unit (NaN: no limit).
    """

    schedule: Schedule
    arms: tuple[int, ...]
    switch: Switch | None = None
    rescue: Rescue | None = None
    below: float = np.nan
    above: float = np.nan


def opened(protocol: Protocol, model: Model) -> dict[str, Added]:
    """The changes of treatment of a protocol by name."""
    from pkpd.model.regimen import Regimen

    found: dict[str, Added] = {}
    for name, event in protocol.intercurrent.items():
        if event.switch is not None:
            schedule = protocol.regimen(event.switch.to).schedule(model.dose_units)
            codes = tuple(protocol.arm_names.index(arm) for arm in event.switch.from_)
            found[name] = Added(schedule=schedule, arms=codes, switch=event.switch)
        if event.rescue is not None:
            schedule = Regimen(event.rescue.regimen).schedule(model.dose_units)
            codes = tuple(protocol.arm_names.index(arm) for arm in event.rescue.arms or protocol.arm_names)
            below, above = limits(event.rescue, model)
            found[name] = Added(schedule=schedule, arms=codes, rescue=event.rescue, below=below, above=above)
    return found


def limits(rescue: Rescue | LackOfEffect | Monitor, model: Model) -> tuple[float, float]:
    """below and above in the unit of the measured output, NaN where there is none. Errors: InputError (dimension)."""
    from pkpd.ground import units
    from pkpd.model.dimensions import units_of

    unit = units_of(model)[str(model.outputs[rescue.measure].is_)]
    below, above = (
        np.nan if level is None else float(level) * units.factor(level.unit, unit)
        for level in (rescue.below, rescue.above)
    )
    return below, above


def begun(setting: Setting, n: int) -> dict[str, Floats]:
    """Nobody has changed yet: {name: (n,)} h, infinite."""
    return {name: np.full(n, np.inf) for name in setting.added}


def switched(
    setting: Setting, people: People, course: Course, times: Mapping[str, Floats], *, without: frozenset[str]
) -> dict[str, Floats]:
    """When subjects go over because of an event of this interval, {name: (n,)} h, infinite where none.

    times: {event: (n, L)} of the interval.
    """
    found: dict[str, Floats] = {}
    for name, added in setting.added.items():
        if added.switch is None or name in without:
            continue
        first = times[added.switch.after].min(axis=1)
        when = first + added.switch.delay
        may = (
            np.isin(people.arm, added.arms)
            & np.isinf(course.changed[name])
            & np.isinf(course.onset[added.switch.after])
        )
        may &= (when < np.minimum(course.ended, people.times[:, -1])) & np.isinf(course.stop)
        who = np.flatnonzero(may)
        u = uniforms(setting.seed, Purpose.SWITCHING, subject=people.subject[who], replicate=people.replicate[who],
                     slot=slots([name]))  # fmt: skip
        found[name] = np.full(when.size, np.inf)
        found[name][who] = np.where(u < added.switch.probability, when[who], np.inf)
    return found


def rescued(setting: Setting, people: People, course: Course, visit: int, *, without: frozenset[str]) -> Rows:
    """Rows that get rescue from a visit on, noted in `course.changed`. A missed visit rescues nobody."""
    protocol, rows = setting.protocol, np.zeros(people.arm.size, np.bool_)
    here, time = protocol.visit_names[visit], people.times[:, visit]
    for name, added in setting.added.items():
        if added.rescue is None or name in without or here not in added.rescue.at:
            continue
        value = measured.at_visit(setting, people, course, added.rescue.measure, visit=visit)
        missed = conduct.missed_at(protocol, visit, replicate=people.replicate, subject=people.subject)
        with np.errstate(invalid="ignore"):
            asks = (value < added.below) | (value > added.above)
        new = asks & ~missed & np.isin(people.arm, added.arms) & np.isinf(course.changed[name]) & (time < course.ended)
        course.changed[name][new] = time[new]
        rows |= new
    return np.flatnonzero(rows)


def _end(protocol: Protocol) -> float:
    """Hour after which nothing is looked at."""
    return protocol.horizon + 24.0 * protocol.visits[protocol.visit_names[-1]].window


def given(setting: Setting, own: Events, rows: Rows, changed: Mapping[str, Floats], *, stop: Floats) -> Events:
    """The doses of some rows: their `own` until they switched, and those added; stop (m,): end of treatment."""
    from pkpd.model.regimen import Events

    owner = np.repeat(np.arange(rows.size), np.diff(own.offsets))
    keep = np.ones(owner.size, np.bool_)
    names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    parts: list[tuple[NDArray[np.intp], dict[str, NDArray[np.generic]]]] = []
    for name, added in setting.added.items():
        when = changed[name][rows]
        who, schedule = np.flatnonzero(np.isfinite(when)), added.schedule
        if not who.size:
            continue
        if added.switch is not None:
            keep &= own.time < when[owner]
        at = np.repeat(who, len(schedule))
        time = (when[who][:, None] + schedule.time).reshape(-1)
        taken = time <= _end(setting.protocol)
        taken &= time < stop[at] if added.switch is not None else True
        columns = {c: np.tile(getattr(schedule, c), who.size)[taken] for c in names[1:]}
        parts.append((at[taken], {"time": time[taken], **columns}))
    if not parts:
        return own
    whole = np.concatenate([owner[keep], *(at for at, _ in parts)])
    columns = {c: np.concatenate([getattr(own, c)[keep], *(part[c] for _, part in parts)]) for c in names}
    order = np.lexsort((columns["time"], whole))
    offsets = np.zeros(rows.size + 1, np.int64)
    np.cumsum(np.bincount(whole, minlength=rows.size), out=offsets[1:])
    return Events(offsets, *(columns[c][order].astype(getattr(own, c).dtype) for c in names))
