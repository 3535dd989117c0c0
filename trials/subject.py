"""One cohort through its regimens: exposure, response, adverse events and the end of treatment, visit by visit.

A row is one subject of one replicate. Everything here is latent: what would be seen if nobody left the trial and
nothing was measured with error. A subject whose treatment ends is replayed from time 0 with the doses it really took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.model.grades import MOST, first_reached
from trials import adverse_events, latent, rules, switching
from trials.adverse_events import Chance, Interval
from trials.latent import Latent
from trials.rules import Plans

if TYPE_CHECKING:
    from pkpd.engine.changes import Changes
    from pkpd.model.regimen import Events
    from pkpd.model.timeline import Timeline
    from trials.setting import Setting

__all__ = ["Course", "People", "dosing", "follow"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Found = tuple[Floats, NDArray[np.int8]]
"""Times (n, L) [h] of an event in an interval, inf where none, and their grades."""
Given = tuple[Plans, Mapping[str, Floats]]
"""What decides doses besides arm and end of treatment: doses of arms with rules, times of changes of treatment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Allocated subjects, n rows: addresses, `arm` codes, `parameters` (n, P) at the start, covariates {name: (n,)}.

    times (n, V): visits, h; taken (n, K): which of the planned doses are taken, in order; draw (n,): number of the
    population draw. line: when occasions change, held (m, P): parameters under each of its rows; inputs {name: (n,)}
    and changes: the covariates and changes of the integration. elsewhere: the same people in an arm, where parameters
    depend on the arm (comedication).
    """

    replicate: NDArray[np.uint32]
    subject: NDArray[np.uint32]
    arm: NDArray[np.int64]
    parameters: Floats
    covariates: Mapping[str, Floats]
    times: Floats
    taken: NDArray[np.bool_]
    draw: NDArray[np.int64]
    line: Timeline
    held: Floats
    inputs: Mapping[str, Floats]
    changes: Changes
    elsewhere: Callable[[int], People] | None = None

    def in_arm(self, code: int) -> People:
        """The same people, everyone in one arm (a potential outcome)."""
        if self.elsewhere is not None:
            return self.elsewhere(code)
        return replace(self, arm=np.full_like(self.arm, code))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happened to each row, n rows and V visits.

    latent: true values, outcomes, events by hazard, the end of follow-up; onset {event: (n,)} h of the first
    occurrence, infinite: none; grade {event: (n,)}, 0: none; stop (n,) h, end of treatment before plan, infinite: none;
    plans: the doses of arms with rules; changed {intercurrent event: (n,)} h of switching and rescue, infinite: none;
    reached {event: (n, 5)} h at which an event that may worsen (its grade moves, or it recurs with grades) first was
    of grade 1, 2, ... or worse. A failed subject is NaN in `latent.values` and has no events.
    """

    latent: Latent
    onset: dict[str, Floats]
    grade: dict[str, NDArray[np.int8]]
    stop: Floats
    plans: Plans
    changed: dict[str, Floats]
    reached: dict[str, Floats] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Floats]:
        """True values {output, summary or response name: (n, V)}; after a terminal event those at the event."""
        return self.latent.values

    @property
    def status(self) -> NDArray[np.int8]:
        """The engine's status (n,), NOT_FINITE also for a response that is not a number."""
        return self.latent.status

    @property
    def ended(self) -> Floats:
        """Time of the terminal event (n,) h, infinite: none."""
        return self.latent.ended

    def rises(self) -> dict[str, tuple[Floats, NDArray[np.int8]]]:
        """When each event came or became worse, and how bad it then was, (n, L) each; infinite, 0: nothing."""
        found = {name: (onset[:, None], self.grade[name][:, None]) for name, onset in self.onset.items()}
        worse = {name: (reached, _levels(reached)) for name, reached in self.reached.items()}
        return {**found, **worse, **{name: self.latent.rises(name) for name in self.latent.grades}}

    def true(self, setting: Setting, output: str) -> Floats:
        """True values of an output (n, V): what it is measured of, or the outcome itself."""
        text = setting.model.outputs[output]
        return self.values[str(text.is_)] if text.continuous else self.latent.outcomes[output]


def _levels(reached: Floats) -> NDArray[np.int8]:
    """Grade 1, 2, ... in the shape of `reached` (n, 5), 0 where it was not."""
    return np.where(np.isfinite(reached), np.arange(1, MOST + 1), 0).astype(np.int8)


def follow(setting: Setting, people: People, *, without: frozenset[str] = frozenset()) -> Course:
    """The course of every row, visit by visit; `without` some changes of treatment, in a world that has none."""
    rows = np.arange(people.arm.size)
    changed = switching.begun(setting, rows.size)
    stop = np.full(rows.size, np.inf)
    plans = rules.begun(setting, people)
    course = Course(
        latent=_exposed(setting, people, (rows, stop), (plans, changed)),
        onset={name: np.full(rows.size, np.inf) for name in setting.model.events},
        grade={name: np.zeros(rows.size, np.int8) for name in setting.model.events},
        stop=stop, plans=plans, changed=changed,
        reached={name: np.full((rows.size, MOST), np.inf) for name in adverse_events.worsening(setting.model)},
    )  # fmt: skip
    for visit in range(1, people.times.shape[1]):
        _decide(setting, people, course, visit)
        _interval(setting, people, course, visit, without=without)
        rescued = switching.rescued(setting, people, course, visit, without=without)
        if rescued.size:
            _replay(setting, people, course, rescued)
    return course


def _decide(setting: Setting, people: People, course: Course, visit: int) -> None:
    """Dosing rules up to a visit or the end of follow-up; whose doses change is solved again from time 0."""

    def look(rows: Rows, events: Events, times: Floats) -> dict[str, Floats]:
        found = latent.at_times(setting, people, rows, (events, times))
        named = {name: str(output.is_) for name, output in setting.model.outputs.items() if output.continuous}
        return {**found, **{name: found[is_] for name, is_ in named.items() if is_ in found}}

    while True:  # a change of dose may move the end of follow-up
        changed = rules.decide(setting, people, course, visit, look=look)
        if changed.size:
            _replay(setting, people, course, changed)
        if not changed.size or "terminal" not in setting.compiled.kinds.values():
            return


def _interval(setting: Setting, people: People, course: Course, visit: int, *, without: frozenset[str]) -> None:
    """The events between a visit and the one before it; treatment ends at the first that is bad enough, or changes.

    Events after that are found again with the exposure that then was; one change at a time, the earliest first.
    """
    interval = Interval(people.times[:, visit - 1], people.times[:, visit])
    chances = {
        name: adverse_events.chance(
            setting.seed, replicate=people.replicate, subject=people.subject, visit=visit, event=name
        )
        for name in setting.model.events
    }
    at = (setting, people, course, visit)
    rates = _rates(setting, course.values, visit)
    found = {name: _found(at, name, (chances[name], interval)) for name in chances}
    while (change := _changed(setting, people, course, found, without=without)) is not None:
        for name in chances:
            later = _found(at, name, (chances[name], interval), change=(change, rates.get(name)))
            found[name] = _joined(found[name], later, change)
    for name, (time, level) in found.items():
        first = np.argmin(time, axis=1)[:, None]
        onset, grade = np.take_along_axis(time, first, 1)[:, 0], np.take_along_axis(level, first, 1)[:, 0]
        begun = np.isfinite(onset) & ~np.isfinite(course.onset[name])
        course.onset[name][begun], course.grade[name][begun] = onset[begun], grade[begun]
        if name in course.reached:
            course.reached[name] = np.minimum(course.reached[name], first_reached(time, level))


def _changed(
    setting: Setting, people: People, course: Course, found: Mapping[str, Found], *, without: frozenset[str]
) -> Floats | None:
    """When the treatment of each row ends or changes next because of the events `found`, (n,), infinite where it does
    not; None where nobody's does. The change is noted and the rows are solved again.
    """
    ended = _first_bad(setting, people, found, course.stop)
    times = {name: time for name, (time, _) in found.items()}
    switched = switching.switched(setting, people, course, times, without=without)
    first = np.minimum(ended, np.min(list(switched.values()), axis=0)) if switched else ended
    new = np.flatnonzero(np.isfinite(first))
    if not new.size:
        return None
    stops = new[ended[new] <= first[new]]
    course.stop[stops] = ended[stops]
    rules.stop(course.plans, people, stops, ended[stops])
    for name, when in switched.items():
        over = new[(when[new] == first[new]) & np.isinf(course.stop[new])]
        course.changed[name][over] = when[over]
    for name, added in setting.added.items():  # who has stopped before its switch does not switch
        if added.switch is not None:
            when = course.changed[name]
            when[stops] = np.where(when[stops] > ended[stops], np.inf, when[stops])
    _replay(setting, people, course, new)
    return first


def _joined(before: Found, later: Found, ended: Floats) -> Found:
    """Events up to the end of treatment as they were, after it as they now are."""
    is_late = before[0] > ended[:, None], later[0] > ended[:, None]
    time = np.concatenate([np.where(is_late[0], np.inf, before[0]), np.where(is_late[1], later[0], np.inf)], axis=1)
    return time, np.where(np.isfinite(time), np.concatenate([before[1], later[1]], axis=1), 0).astype(np.int8)


def _rates(setting: Setting, values: Mapping[str, Floats], visit: int) -> dict[str, Floats]:
    """Hazard of each event by risk in the interval that ends at a visit, (n,); 0 where the solve failed."""
    return {
        name: np.nan_to_num(adverse_events.hazard(values[event.risk][:, visit], event.per))
        for name, event in setting.model.events.items()
        if event.risk
    }


def _found(
    at: tuple[Setting, People, Course, int],
    name: str,
    drawn: tuple[Chance, Interval],
    *,
    change: tuple[Floats, Floats | None] | None = None,
) -> Found:
    """Times and grades of one event in the interval; `change` = (when treatment ended, hazard before that)."""
    setting, _, course, visit = at
    chance, interval = drawn
    event = setting.model.events[name]
    if event.moves:
        time, reached = course.latent.rises(name)
        time = np.where((time > interval.start[:, None]) & (time <= interval.end[:, None]), time, np.inf)
        return time, np.where(np.isfinite(time), reached, 0).astype(np.int8)
    if event.hazard:
        time = course.latent.crossings[name]
        time = np.where((time > interval.start[:, None]) & (time <= interval.end[:, None]), time, np.inf)
        if event.kind == "recurrent":
            return time, _occurrences_graded(at[:3], name, time)
        time = np.where(np.isfinite(course.onset[name])[:, None], np.inf, time)
        levels = _levels_at(at[:3], event.at_least, time)
    else:
        rate = _rates(setting, course.values, visit)[name]
        when, before = change if change is not None else (np.full(rate.size, np.inf), rate)
        onset = adverse_events.onset(chance, interval, (rate if before is None else before, rate), when)
        time = np.where(np.isfinite(course.onset[name]) | (onset > course.ended), np.inf, onset)[:, None]
        levels = [(level, course.values[column][:, visit]) for level, column in event.at_least.items()]
    grade = adverse_events.graded(chance, levels)[:, None]
    return time, np.where(np.isfinite(time), grade, 0).astype(np.int8)


def _levels_at(
    who: tuple[Setting, People, Course], at_least: Mapping[int, str], time: Floats
) -> list[tuple[int, Floats]]:
    """P(grade >= g) at the time of the event itself, (n,) each; 0 where there is none."""
    setting, people, course = who
    rows = np.flatnonzero(np.isfinite(time).any(axis=1))
    found = {level: np.zeros(len(time)) for level in at_least}
    if not at_least or not rows.size:
        return list(found.items())
    for members, events in _by_arm(setting, people, (rows, course.stop[rows]), (course.plans, course.changed)):
        seen = latent.at_times(setting, people, rows[members], (events, time[rows[members], :1]))
        for level, column in at_least.items():
            found[level][rows[members]] = seen[column][:, 0]
    return list(found.items())


def _occurrences_graded(who: tuple[Setting, People, Course], name: str, time: Floats) -> NDArray[np.int8]:
    """Grades (n, L) of the occurrences of a recurrent event, each by its own number, at its own time."""
    setting, people, _ = who
    grade, at_least = np.isfinite(time).astype(np.int8), setting.model.events[name].at_least
    if not at_least or not grade.any():
        return grade
    drawn = adverse_events.grade_of_each(
        setting.seed, replicate=people.replicate, subject=people.subject, event=name, count=time.shape[1]
    )
    for level, p in _levels_of_each(who, at_least, time):
        grade = np.where(np.isfinite(time) & (drawn < p), level, grade)
    return grade.astype(np.int8)


def _levels_of_each(
    who: tuple[Setting, People, Course], at_least: Mapping[int, str], time: Floats
) -> list[tuple[int, Floats]]:
    """P(grade >= g) at the time of every occurrence (n, L); 0 where there is none."""
    setting, people, course = who
    rows = np.flatnonzero(np.isfinite(time).any(axis=1))
    found = {level: np.zeros(time.shape) for level in sorted(at_least)}
    order = np.argsort(time[rows], axis=1, kind="stable")  # the solver takes ascending times, then NaN
    sorted_ = np.take_along_axis(time[rows], order, axis=1)
    asked = np.where(np.isfinite(sorted_), sorted_, np.nan)
    for members, events in _by_arm(setting, people, (rows, course.stop[rows]), (course.plans, course.changed)):
        seen = latent.at_times(setting, people, rows[members], (events, asked[members]))
        for level in found:
            value = np.empty((members.size, time.shape[1]))
            np.put_along_axis(value, order[members], seen[at_least[level]], axis=1)
            found[level][rows[members]] = np.nan_to_num(value)
    return list(found.items())


def _first_bad(setting: Setting, people: People, found: Mapping[str, Found], stop: Floats) -> Floats:
    """When treatment ends in this interval, (n,); infinite where it does not or has ended before."""
    ended = np.full(stop.size, np.inf)
    for key, event in setting.protocol.intercurrent.items():
        if event.after is None:
            continue
        first = np.full(stop.size, np.inf)
        for name in event.of or found:
            time, grade = found[name]
            bad = np.where((grade >= event.after) & (time >= event.from_), time, np.inf)
            first = np.minimum(first, bad.min(axis=1))
        if event.probability < 1:
            u = uniforms(setting.seed, Purpose.SWITCHING, subject=people.subject, replicate=people.replicate,
                         slot=slots([key]))  # fmt: skip
            first = np.where(u < event.probability, first, np.inf)
        ended = np.minimum(ended, first)
    return np.where(np.isfinite(stop), np.inf, ended)


def _replay(setting: Setting, people: People, course: Course, rows: Rows) -> None:
    """Solve rows again from time 0 with the doses before their `stop`, and put the new values in place."""
    given = (course.plans, course.changed)
    course.latent.put(rows, _exposed(setting, people, (rows, course.stop[rows]), given))


def _exposed(setting: Setting, people: People, who: tuple[Rows, Floats], given: Given) -> Latent:
    """What is true of some rows at their visits."""
    rows, _ = who
    parts = [
        (inside, latent.lived(setting, people, rows[inside], (events, people.times[rows[inside]])))
        for inside, events in _by_arm(setting, people, who, given)
    ]
    return latent.merged(parts, rows.size)


def _by_arm(setting: Setting, people: People, who: tuple[Rows, Floats], given: Given) -> list[tuple[Rows, Events]]:
    """(places in `rows`, the doses of these) of every arm."""
    (rows, stop), (plans, changed) = who, given
    arms = [np.flatnonzero(people.arm[rows] == code) for code in np.unique(people.arm[rows]).tolist()]
    return [(inside, dosing(setting, people, (rows[inside], stop[inside]), plans, changed=changed)) for inside in arms]


def dosing(
    setting: Setting,
    people: People,
    who: tuple[Rows, Floats],
    plans: Plans | None = None,
    *,
    changed: Mapping[str, Floats] | None = None,
) -> Events:
    """The doses really given to some rows of one arm: planned, taken, as rules left them, before treatment ended, and
    those of another regimen (`changed`: when, of all rows).
    """
    from pkpd.model.regimen import Events

    rows, stop = who
    code = int(people.arm[rows[0]])
    if plans is not None and code in plans:
        return rules.given(plans[code], rows, stop)
    schedule = setting.schedules[code]
    taken = people.taken[rows][:, : len(schedule)]
    own = Events.shared(schedule, rows.size, taken=taken, stop=stop)
    return switching.given(setting, own, rows, changed, stop=stop) if changed else own
