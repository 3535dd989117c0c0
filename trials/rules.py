"""Dosing rules of the arms inside a trial: what a subject's own measurements and adverse events do to its doses.

Decisions before a visit know the adverse events up to the visit before it and every level up to the decision itself; a
decision at a visit (by its name) is taken when the events up to that visit are known. Levels are measured with the
output's residual error, by address: `Purpose.RULE`, index = decision of the rule, slot = number of the rule in its arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals
from trials.guidance import guiding

if TYPE_CHECKING:
    from pkpd.engine.feedback import Dosed
    from pkpd.model.guidance import Guidance
    from pkpd.model.regimen import Events
    from pkpd.model.rules import Action, Rule
    from pkpd.model.spec import Model
    from trials.protocol import Arm
    from trials.sampling import Samples
    from trials.setting import Setting
    from trials.subject import Course, People

__all__ = ["Plan", "Plans", "begun", "decide", "described", "first_action", "given", "in_units", "of_arm", "stop"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Look = Callable[[Rows, "Events", Floats], Mapping[str, Floats]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The doses of one arm with rules: members, ascending rows; dosed: their doses, in that order."""

    members: Rows
    dosed: Dosed


Plans = dict[int, Plan]
"""By arm code; an arm without rules has none."""


def of_arm(arm: Arm, model: Model) -> tuple[Rule | Guidance, ...]:
    """The rules of an arm with their levels in the model's units, then its guidance by levels."""
    return (*in_units(arm.rules, model), *(() if arm.tdm is None else (arm.tdm,)))


def in_units(rules: Sequence[Rule], model: Model) -> tuple[Rule, ...]:
    """Rules with their levels in the model's units."""
    from pkpd.model.dimensions import units_of

    units = units_of(model) if rules else {}
    units |= {name: units[output.is_] for name, output in model.outputs.items() if output.is_ in units}
    units |= {name: units[summary.of] for name, summary in model.summaries.items() if summary.of in units}
    return tuple(rule.in_unit(units[rule.name]) if rule.name in units else rule for rule in rules)


def begun(setting: Setting, people: People) -> Plans:
    """Every arm's plan: the doses its subjects would take if no rule ever acted."""
    from pkpd.engine import feedback
    from pkpd.model.regimen import Events

    plans: Plans = {}
    for code, rules in enumerate(setting.rules):
        members = np.flatnonzero(people.arm == code)
        if rules and members.size:
            schedule = setting.schedules[code]
            events = Events.shared(schedule, members.size, taken=people.taken[members][:, : len(schedule)])
            plans[code] = Plan(members=members, dosed=feedback.begun(rules, events))
    return plans


def given(plan: Plan, rows: Rows, stop: Floats) -> Events:
    """The doses of some rows of the arm before `stop` (m,) [h]."""
    from pkpd.model.regimen import Events

    events = plan.dosed.events(np.searchsorted(plan.members, rows))
    owner = np.repeat(np.arange(rows.size), np.diff(events.offsets))
    keep = events.time < stop[owner]
    offsets = np.zeros(rows.size + 1, np.int64)
    np.cumsum(np.bincount(owner[keep], minlength=rows.size), out=offsets[1:])
    names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    return Events(offsets, *(getattr(events, name)[keep] for name in names))


def stop(plans: Plans, people: People, rows: Rows, time: Floats) -> None:
    """Treatment of some rows has ended at `time` (m,) [h]: their rules decide nothing any more."""
    for code, plan in plans.items():
        mine = people.arm[rows] == code
        plan.dosed.stop(np.searchsorted(plan.members, rows[mine]), time[mine])


def decide(setting: Setting, people: People, course: Course, visit: int, *, look: Look) -> Rows:
    """Every decision before visit number `visit` or the end of follow-up, in place; the rows whose doses changed.

    In a model with a terminal event every subject's doses change at most once: the end may then be another.

    look(rows, events, times (m, K)) -> {name: (m, K)}: outputs, summaries, equations as they truly are.
    """
    from pkpd.engine import feedback

    changed = [np.empty(0, np.intp)]
    for code, plan in course.plans.items():
        members = plan.members
        eyes = feedback.Course(
            look=_looking(look, members),
            observe=_observing(setting, people, code, members), graded=_grading(setting.rules[code], course, members),
            guided=guiding(setting, people, plan, code, look=look),
            sampled=_sampling(setting, people, members), tested=_testing(setting.rules[code]),
        )  # fmt: skip
        visits = {name: people.times[members, k] for k, name in enumerate(setting.protocol.visit_names)}
        until = np.minimum(people.times[members, visit], course.ended[members])
        terminal = "terminal" in setting.compiled.kinds.values()
        found = feedback.advance(plan.dosed, eyes, until, visits=visits, once=terminal)
        course.stop[members] = np.minimum(course.stop[members], plan.dosed.stopped)
        changed.append(members[found])
    return np.sort(np.concatenate(changed))


def _looking(look: Look, members: Rows) -> Look:
    return lambda rows, events, times: look(members[rows], events, times)


def _observing(
    setting: Setting, people: People, code: int, members: Rows
) -> Callable[[int, Rows, NDArray[np.int64], Floats], Floats]:
    """Measured levels: the truth with the output's residual error of the subject's population draw, as reported."""
    from pkpd import residual
    from trials.quantification import reported

    def observe(rule: int, rows: Rows, decision: NDArray[np.int64], values: Floats) -> Floats:
        who = members[rows]
        z = normals(setting.seed, Purpose.RULE, subject=people.subject[who], replicate=people.replicate[who],
                    index=decision.astype(np.uint32), slot=rule)  # fmt: skip
        output = str(setting.rules[code][rule].measure)
        error = residual.error_of(setting.model, setting.draws, output)
        return reported(
            setting, output, np.asarray(residual.observe(residual.taken(error, people.draw[who], ()), values, z))
        )

    return observe


def _grading(
    rules: Sequence[Rule | Guidance], course: Course, members: Rows
) -> Callable[[int, Rows, Floats, Floats], NDArray[np.bool_]]:
    """Whether an adverse event of the rule's grade or worse began after `since` and by `now`."""

    def graded(rule: int, rows: Rows, since: Floats, now: Floats) -> NDArray[np.bool_]:
        who, found = members[rows], np.zeros(rows.size, np.bool_)
        for time, level in course.rises().values():
            bad = level[who] >= (rules[rule].grade or 1)
            found |= (bad & (time[who] > since[:, None]) & (time[who] <= now[:, None])).any(axis=1)
        return found

    return graded


def _sampling(setting: Setting, people: People, members: Rows) -> Callable[[Rows, Events, Floats], Any]:
    """Laboratory samples of members of an arm."""
    from trials import sampling

    def sampled(rows: Rows, events: Events, until: Floats) -> dict[str, Samples]:
        return sampling.of_rules(setting, people, members[rows], events, until=until)

    return sampled


def _testing(
    rules: Sequence[Rule | Guidance],
) -> Callable[[int, Any, Rows, tuple[Floats, Floats]], tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Whether samples since a rule's last decision meet its grade, and the last grade."""
    from trials import sampling

    def tested(
        rule: int, samples: Mapping[str, Samples], places: Rows, window: tuple[Floats, Floats]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        text = rules[rule]
        assert text.laboratory is not None
        return sampling.met(samples[text.laboratory], (text.grade or 1, text.seen, text.lasting), places, window)

    return tested


def first_action(plans: Plans, n: int) -> Floats:
    """When a rule first acted on each of n rows, h; infinite: never."""
    found = np.full(n, np.inf)
    for plan in plans.values():
        for rows, time, *_ in plan.dosed.log:
            np.minimum.at(found, plan.members[rows], time)
    return found


def described(rule: Rule) -> str:
    """The rule in words.

    >>> from pkpd.model.rules import Action, Rule, When
    >>> described(Rule(at=When(visits=("week2",)), grade=3, do=Action(scale_dose=0.5)))
    'at week2, after an adverse event of grade 3 or worse: later doses times 0.5'
    """
    when, do, look = rule.at, rule.do, "measured" if rule.measure else "true"
    times = ", ".join(when.visits or (f"day {t / 24:g}" for t in when.times))
    at = f"every {when.every / 24:g} d" if when.every else "before each dose" if when.dose else f"at {times}"
    conditions = [
        f"if the {look} {rule.name} is {side} {level}" for side, level in (("below", rule.below), ("above", rule.above))
        if level is not None
    ]  # fmt: skip
    if rule.laboratory is not None:
        seen = {"worst": "since the last decision", "last": "in the last sample"}[rule.seen]
        longer = f" for more than {rule.lasting / 24:g} d" if rule.lasting is not None else ""
        conditions.append(f"if {rule.laboratory} was of grade {rule.grade} or worse{longer} {seen}")
    elif rule.grade is not None:
        conditions.append(f"after an adverse event of grade {rule.grade} or worse")
    return f"{at}, {' or '.join(conditions)}: {_done(do)}" if conditions else f"{at}: {_done(do)}"


def _done(do: Action) -> str:
    """What a rule does, in words."""
    what = "no dose until the next decision" if do.hold else "no dose any more"
    if do.scale_dose is not None:
        what = f"later doses times {do.scale_dose:g}"
    if do.delay is not None:
        what = f"later doses {do.delay / 24:g} d later"
    if do.resume is not None:
        what += f", again until the last sample is of grade {do.resume} or better"
    if do.longest is not None:
        what += f", no dose any more where that has gone on for {do.longest / 24:g} d"
    if do.levels:
        same = f" from time {do.spare + 1} on," if do.spare else ""
        steps = ", ".join(f"{level:g}" for level in do.levels[do.spare :])
        end = "the end of treatment" if do.lowest == "stop" else "no change"
        lower = f"{same} the next lower of {steps} times the planned dose, {end} below that"
        what = f"{what}; when doses go on{lower}" if do.waits else lower.strip()
    return what
