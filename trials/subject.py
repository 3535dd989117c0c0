"""One cohort through its regimens: exposure, response, adverse events and the end of treatment, visit by visit.

A row is one subject of one replicate. Everything here is latent: what would be seen if nobody left the trial and
nothing was measured with error. A subject whose treatment ends is replayed from time 0 with the doses it really took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials import adverse_events, rules
from trials.adverse_events import Chance, Interval
from trials.rules import Plans

if TYPE_CHECKING:
    from pkpd.model.regimen import Events
    from trials.setting import Setting

__all__ = ["Course", "People", "dosing", "follow"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Allocated subjects, n rows: addresses, `arm` codes, `parameters` (n, P), covariates {name: (n,)}.

    times (n, V): visits, h; taken (n, K): which of the planned doses are taken, in order; draw (n,): number of the
    population draw.
    """

    replicate: NDArray[np.uint32]
    subject: NDArray[np.uint32]
    arm: NDArray[np.int64]
    parameters: Floats
    covariates: Mapping[str, Floats]
    times: Floats
    taken: NDArray[np.bool_]
    draw: NDArray[np.int64]

    def in_arm(self, code: int) -> People:
        """The same people, everyone in one arm (a potential outcome)."""
        return replace(self, arm=np.full_like(self.arm, code))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happened to each row, n rows and V visits.

    values {output, summary or response name: (n, V)}, true values; onset {event: (n,)} h of the first occurrence,
    infinite: none; grade {event: (n,)}, 0: none; stop (n,) h, end of treatment before plan, infinite: none; plans: the
    doses of arms with rules; status (n,): the engine's, NOT_FINITE also for a response that is not a number; a failed
    subject is NaN in `values` and has no events.
    """

    values: dict[str, Floats]
    onset: dict[str, Floats]
    grade: dict[str, NDArray[np.int8]]
    stop: Floats
    status: NDArray[np.int8]
    plans: Plans


def follow(setting: Setting, people: People) -> Course:
    """The course of every row, visit by visit."""
    rows = np.arange(people.arm.size)
    stop = np.full(rows.size, np.inf)
    plans = rules.begun(setting, people)
    values, status = _exposed(setting, people, (rows, stop), plans)
    onset = {name: np.full(rows.size, np.inf) for name in setting.model.events}
    grade = {name: np.zeros(rows.size, np.int8) for name in setting.model.events}
    course = Course(values=values, onset=onset, grade=grade, stop=stop, status=status, plans=plans)
    for visit in range(1, people.times.shape[1]):
        _decide(setting, people, course, visit)
        _interval(setting, people, course, visit)
    return course


def _decide(setting: Setting, people: People, course: Course, visit: int) -> None:
    """Dosing rules up to a visit; whose doses change is solved again from time 0."""

    def look(rows: Rows, events: Events, times: Floats) -> dict[str, Floats]:
        solved, status = _solved(setting, people, rows, (events, times))
        found = {**solved, **_responses(setting, people, (rows, times), solved)}
        for values in found.values():
            values[status != 0] = np.nan
        return {**found, **{name: found[output.is_] for name, output in setting.model.outputs.items()}}

    changed = rules.decide(setting, people, course, visit, look=look)
    if changed.size:
        _replay(setting, people, course, changed)


def _interval(setting: Setting, people: People, course: Course, visit: int) -> None:
    """The events between a visit and the one before it; treatment ends at the first that is bad enough.

    Events after the end of treatment are found again with the exposure that then was.
    """
    interval = Interval(people.times[:, visit - 1], people.times[:, visit])
    chances = {
        name: adverse_events.chance(
            setting.seed, replicate=people.replicate, subject=people.subject, visit=visit, event=name
        )
        for name in setting.model.events
    }
    rates = _rates(setting, course.values, visit)
    found = {name: _found(setting, name, (course, visit), (chances[name], interval, rates[name])) for name in rates}
    ended = _first_bad(setting, found, course.stop)
    new = np.flatnonzero(np.isfinite(ended))
    if new.size:
        course.stop[new] = ended[new]
        rules.stop(course.plans, people, new, ended[new])
        _replay(setting, people, course, new)
        after = _rates(setting, course.values, visit)
        for name in rates:
            drawn = (chances[name], interval, rates[name])
            later = _found(setting, name, (course, visit), drawn, change=(ended, after[name]))
            is_later = found[name][0] > ended
            found[name] = (np.where(is_later, later[0], found[name][0]), np.where(is_later, later[1], found[name][1]))
    for name, (time, level) in found.items():
        first = np.isfinite(time) & ~np.isfinite(course.onset[name])
        course.onset[name][first], course.grade[name][first] = time[first], level[first]


def _rates(setting: Setting, values: Mapping[str, Floats], visit: int) -> dict[str, Floats]:
    """Hazard of each event in the interval that ends at a visit, (n,); 0 where the solve failed."""
    return {
        name: np.nan_to_num(adverse_events.hazard(values[event.risk][:, visit], event.per))
        for name, event in setting.model.events.items()
    }


def _found(
    setting: Setting,
    name: str,
    at: tuple[Course, int],
    drawn: tuple[Chance, Interval, Floats],
    *,
    change: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, NDArray[np.int8]]:
    """Time and grade of one event in the interval, for subjects who have not had it; `change` = (when, hazard then)."""
    (course, visit), (chance, interval, rate) = at, drawn
    when, after = change if change is not None else (np.full(rate.size, np.inf), rate)
    time = adverse_events.onset(chance, interval, (rate, after), when)
    time = np.where(np.isfinite(course.onset[name]), np.inf, time)
    at_least = setting.model.events[name].at_least
    levels = [(level, course.values[column][:, visit]) for level, column in at_least.items()]
    return time, np.where(np.isfinite(time), adverse_events.graded(chance, levels), 0).astype(np.int8)


def _first_bad(setting: Setting, found: Mapping[str, Any], stop: Floats) -> Floats:
    """When treatment ends in this interval, (n,); infinite where it does not or has ended before."""
    ended = np.full(stop.size, np.inf)
    for event in setting.protocol.intercurrent.values():
        for time, grade in found.values():
            ended = np.minimum(ended, np.where((grade >= event.after) & (time >= event.from_), time, np.inf))
    return np.where(np.isfinite(stop), np.inf, ended)


def _replay(setting: Setting, people: People, course: Course, rows: Rows) -> None:
    """Solve rows again from time 0 with the doses before their `stop`, and put the new values in place."""
    values, status = _exposed(setting, people, (rows, course.stop[rows]), course.plans)
    for name, value in values.items():
        course.values[name][rows] = value
    course.status[rows] = status


def _exposed(
    setting: Setting, people: People, who: tuple[Rows, Floats], plans: Plans
) -> tuple[dict[str, Floats], NDArray[np.int8]]:
    """Outputs, summaries and responses at the visits of some rows, {name: (m, V)}, and the engine's status (m,)."""
    rows, stop = who
    visits = people.times.shape[1]
    names = (*setting.compiled.outputs, *setting.model.summaries)
    values = {name: np.empty((rows.size, visits)) for name in names}
    status = np.zeros(rows.size, np.int8)
    for code in np.unique(people.arm[rows]).tolist():
        inside = np.flatnonzero(people.arm[rows] == code)
        members = rows[inside]
        events = dosing(setting, people, (members, stop[inside]), plans)
        found, status[inside] = _solved(setting, people, members, (events, people.times[members]))
        for name in names:
            values[name][inside] = found[name]
    course = {**values, **_responses(setting, people, (rows, people.times[rows]), values)}
    _fail_unknown(setting, course, status)
    return course, status


def _solved(
    setting: Setting, people: People, rows: Rows, given: tuple[Events, Floats]
) -> tuple[dict[str, Floats], NDArray[np.int8]]:
    """Outputs and summaries of some rows at times (m, K) under the doses given, {name: (m, K)}, and the status (m,)."""
    from pkpd.engine.solve import solve

    events, times = given
    found = solve(setting.compiled, people.parameters[rows], events, times)
    values = {name: found.values[:, number] for number, name in enumerate(setting.compiled.outputs)}
    return {**values, **found.summaries}, found.status


def _fail_unknown(setting: Setting, found: dict[str, Floats], status: NDArray[np.int8]) -> None:
    """A subject whose output or risk is not a number has failed too: counted, not imputed, not without risk."""
    from pkpd.engine.status import SolveStatus

    outputs = [output.is_ for output in setting.model.outputs.values()]
    events = setting.model.events.values()
    chances = [name for event in events for name in (event.risk, *event.at_least.values())]
    unknown = np.zeros(status.size, np.bool_)
    for name in outputs:
        unknown |= ~np.isfinite(found[name]).all(axis=1)
    for name in chances:  # the baseline ends no interval
        unknown |= np.isnan(found[name][:, 1:]).any(axis=1)
    status[unknown & (status == SolveStatus.OK)] = SolveStatus.NOT_FINITE
    for value in found.values():
        value[unknown] = np.nan


def dosing(setting: Setting, people: People, who: tuple[Rows, Floats], plans: Plans | None = None) -> Events:
    """The doses really given to some rows of one arm: planned, taken, as rules left them, before treatment ended."""
    from pkpd.model.regimen import Events

    rows, stop = who
    code = int(people.arm[rows[0]])
    if plans is not None and code in plans:
        return rules.given(plans[code], rows, stop)
    schedule = setting.schedules[code]
    taken = people.taken[rows][:, : len(schedule)]
    return Events.shared(schedule, rows.size, taken=taken, stop=stop)


def _responses(
    setting: Setting, people: People, at: tuple[Rows, Floats], solved: Mapping[str, Floats]
) -> dict[str, Floats]:
    """The response layer of rows at times (m, K): equations of summaries and time, with NumPy, {name: (m, K)}."""
    from pkpd.model.equations import evaluate

    rows, times = at
    known: dict[str, Floats] = {name: value[rows, None] for name, value in people.covariates.items()}
    known |= {name: people.parameters[rows, number, None] for number, name in enumerate(setting.model.parameters)}
    known |= {"TIME": times, "WEEKS": times / 168.0, **solved}
    found: dict[str, Floats] = {}
    for name, expression in setting.responses.items():
        value = np.asarray(evaluate(expression, known), np.float64)
        known[name] = found[name] = np.array(np.broadcast_to(value, times.shape), order="C")
    return found
