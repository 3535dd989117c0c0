"""One batch of simulated trials, from enrolment to analysis: the numbered loop.

A batch is any set of whole replicates; what a replicate gives does not depend on its batch. Subject s of replicate r is
the same person under every arm and design, enrolled once and allocated to one arm. `potential` follows the same people
under every arm: the true value of an estimand, never part of an analysis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials import (
    conduct,
    design,
    endpoints,
    grades,
    guidance,
    measured,
    modifiers,
    prognosis,
    quantification,
    rules,
    toxicity,
)
from trials.kinds import KINDS, Lived
from trials.observed import Observed
from trials.protocol import HOURS_PER_DAY, Protocol
from trials.subject import Course, People, follow

if TYPE_CHECKING:
    from populations.cohort import Cohort
    from populations.patients import Patients
    from trials.sampling import Samples
    from trials.setting import Setting

__all__ = [
    "Trial", "curves", "lived_of", "outcome_columns", "people_of", "potential", "simulate_trial", "without_of",
]  # fmt: skip

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A batch of R simulated trials of N subjects; `people` and `course` have R x N rows, replicate by replicate."""

    cohort: Cohort
    draw: NDArray[np.int64]
    people: People
    course: Course
    observed: Observed
    analyses: dict[str, Any]
    looks: Columns | None = None
    samples: Mapping[str, Samples] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(R, N)."""
        return self.cohort.replicate.size, self.cohort.subject.size


def simulate_trial(setting: Setting, replicates: Iterable[int]) -> Trial:
    """Simulate and analyse whole replicates. Errors: InputError where nobody is eligible."""
    from populations.cohort import enrol
    from populations.patients import patients

    protocol, seed = setting.protocol, setting.seed
    numbers = np.fromiter(replicates, np.uint32)
    # 1. enrol: each subject is the first eligible of its own line of candidates
    cohort = enrol(
        setting.law, setting.criteria, seed=seed, replicates=numbers, subjects=protocol.subjects,
        overrides=protocol.population.set_,
    )  # fmt: skip
    # 2. draw patients: one population draw per replicate, between-subject effects per subject
    times = conduct.visit_times(protocol, replicate=numbers, subject=cohort.subject)
    borders = conduct.occasions(protocol, times)
    drawn = patients(
        setting.model, setting.draws, cohort, seed=seed, borders=borders,
        until=float(times.max(initial=protocol.horizon)),
    )  # fmt: skip
    peopled = _changed(setting, cohort, times, drawn)  # comedication and impairment
    # 3. allocate in order of enrolment, within strata
    stratum = _strata(setting, cohort)
    arm = _allocated(setting, cohort, stratum)
    entered, samples = _entered(setting, cohort), dict[str, "Samples"]()

    def under(arm: NDArray[np.int64]) -> tuple[People, Course, Observed]:
        # 4. dose histories and visits
        people = peopled(arm)
        # 5. follow everyone visit by visit: exposure, response, adverse events, end of treatment
        course = follow(setting, people)
        # 6. observe: who left, which visits were missed, with what error
        observed = _observed(setting, cohort, course, (arm, stratum, people.times, drawn.draw))
        # 7. foretell, from what was known before randomisation
        if setting.score is not None:
            baseline = {name: observed.outputs[name][:, :, 0] for name in setting.score.sees}
            observed = replace(observed, prognosis=prognosis.scores(setting.score, cohort.covariates, baseline))
        if setting.tests:
            samples.update(toxicity.seen_of(setting, people, course, observed))
            graded = toxicity.reached(samples, arm.shape)
            observed = replace(observed, reached={**observed.reached, **graded})
        return people, course, replace(observed, **entered)

    people, course, observed = under(arm)
    # 8. analyse what was observed; where the trial runs in calendar time, look by look until it ends
    if protocol.enrolment is None:
        analyses, table = endpoints.analyse(protocol, observed), None
    else:
        from trials.looks import conducted

        def again(arm: NDArray[np.int64]) -> Observed:
            nonlocal people, course
            people, course, seen = under(arm)
            return seen

        found = conducted(protocol, observed, again)
        observed, analyses, table = found.observed, found.analyses, found.looks
    return Trial(
        cohort=cohort, draw=drawn.draw, people=people, course=course, observed=observed, analyses=analyses, looks=table,
        samples=toxicity.kept(samples, course, observed),
    )  # fmt: skip


def _changed(
    setting: Setting, cohort: Cohort, times: Floats, drawn: Patients
) -> Callable[[NDArray[np.int64]], People]:  # fmt: skip
    """From arm codes (R, N) to people in these arms, with what changes their parameters (by arm where it is so)."""
    apart = modifiers.by_arm(setting.protocol)
    fixed = None if apart else modifiers.applied(setting, cohort, drawn)

    def peopled(arm: NDArray[np.int64]) -> People:
        mine = modifiers.applied(setting, cohort, drawn, arm=arm) if fixed is None else fixed
        made = people_of(setting, cohort, (arm, times), mine)
        return replace(made, elsewhere=lambda code: peopled(np.full_like(arm, code))) if apart else made

    return peopled


def _entered(setting: Setting, cohort: Cohort) -> dict[str, Any]:
    """Calendar time, site and region of entry, none in a trial without enrolment."""
    plan = setting.protocol.enrolment
    if plan is None:
        return {}
    from trials.enrolment import entries

    found = entries(plan, cohort.subject.size, seed=setting.seed, replicate=cohort.replicate)
    return {"entry": found.time, "site": found.site, "region": found.region}


def _strata(setting: Setting, cohort: Cohort) -> NDArray[np.int64]:
    """Stratum codes (R, N): the categories of the factors as one mixed-radix number."""
    code = np.zeros((cohort.replicate.size, cohort.subject.size), np.int64)
    for name, level in _factors(setting, cohort).items():
        code = code * len(setting.law.labels[name]) + level
    return code


def _factors(setting: Setting, cohort: Cohort) -> dict[str, NDArray[np.int64]]:
    """Level codes (R, N) of the stratification factors, from 0."""
    return {
        name: np.searchsorted(sorted(setting.law.labels[name]), cohort.covariates[name].astype(np.int64))
        for name in setting.protocol.allocation.strata
    }


def _allocated(setting: Setting, cohort: Cohort, stratum: NDArray[np.int64]) -> NDArray[np.int64]:
    protocol, replicate = setting.protocol, cohort.replicate
    ratios = [arm.ratio for arm in protocol.arms.values()]
    plan = protocol.allocation
    if plan.method == "complete":
        return design.complete(stratum, ratios, seed=protocol.seed, replicate=replicate).astype(np.int64)
    if plan.method == "minimisation":
        factors = np.stack(list(_factors(setting, cohort).values()), axis=2)
        dealt = design.minimised(
            factors, ratios, probability=plan.probability, measure=plan.measure, seed=protocol.seed, replicate=replicate
        )
        return dealt.astype(np.int64)
    size = plan.size or sum(ratios)
    arm = design.permuted_blocks(stratum, ratios, size=size, seed=protocol.seed, replicate=replicate)
    return arm.astype(np.int64)


def people_of(setting: Setting, cohort: Cohort, given: tuple[NDArray[np.int64], Floats], drawn: Patients) -> People:
    """Drawn patients in arms, with their visits and the doses they take: given = (arm (R, N), times (R, N, V))."""
    from pkpd.engine.changes import in_time
    from populations.adherence import Adherence, taken

    arm, times = given
    protocol, shape = setting.protocol, arm.shape
    planned = max((len(schedule) for schedule in setting.schedules), default=0)
    habit = protocol.adherence
    rule = Adherence(
        kind=habit.kind, miss_after_taken=habit.miss_after_taken, miss_after_missed=habit.miss_after_missed
    )
    who = {"replicate": cohort.replicate, "subject": cohort.subject}
    doses = taken(rule, seed=protocol.seed, **who, doses=planned)
    covariates = {**cohort.covariates, **drawn.classes}
    start, inputs, changes = in_time(setting.compiled, drawn.line, drawn.rows)
    return People(
        replicate=np.repeat(cohort.replicate, shape[1]), subject=np.tile(cohort.subject, shape[0]), arm=arm.reshape(-1),
        parameters=np.ascontiguousarray(start), line=drawn.line, held=drawn.rows, inputs=inputs, changes=changes,
        covariates={name: np.ascontiguousarray(value).reshape(-1) for name, value in covariates.items()},
        times=times.reshape(arm.size, -1), taken=doses.reshape(arm.size, -1),
        draw=np.repeat(drawn.draw.astype(np.int64), shape[1]),
    )  # fmt: skip


def _observed(
    setting: Setting,
    cohort: Cohort,
    course: Course,
    context: tuple[NDArray[np.int64], NDArray[np.int64], Floats, NDArray[np.int64]],
) -> Observed:
    """The data base of the trial: values with error until the subject leaves, events that happened before that."""
    arm, stratum, flat_times, draw = context
    shape, protocol = arm.shape, setting.protocol
    who = {"replicate": cohort.replicate, "subject": cohort.subject}
    times, stop = flat_times.reshape(*shape, -1), course.stop.reshape(shape)
    ended = course.ended.reshape(shape)
    unseen = (times > ended[:, :, None]) | conduct.missed_visits(protocol, **who)
    outputs = _measured(setting, cohort, course, (draw, unseen))
    low = quantification.below(setting, outputs)
    outputs = {name: quantification.reported(setting, name, value) for name, value in outputs.items()}
    leave = np.minimum(
        conduct.dropout_time(protocol.dropout, stop, seed=protocol.seed, **who),
        _caused(setting, cohort, course, (outputs, times)),
    )
    gone = times > leave[:, :, None]
    outputs = {name: np.where(gone, np.nan, value) for name, value in outputs.items()}
    onset, grade, number, every = {}, {}, {}, {}
    for name in grades.recurrent(setting):
        found = grades.occurrences(course, name).reshape(*shape, -1)
        every[name] = np.where(found <= np.minimum(leave, times[:, :, -1])[:, :, None], found, np.inf)
        number[name] = np.isfinite(every[name]).sum(axis=2)
    for name in course.onset:
        time = course.onset[name].reshape(shape)
        seen = time <= leave
        onset[name] = np.where(seen, time, np.inf)
        grade[name] = np.where(seen, course.grade[name].reshape(shape), 0).astype(np.int8)
    reached = {name: np.where((t := v.reshape(*shape, -1)) <= leave[:, :, None], t, np.inf)
               for name, v in course.reached.items()}  # fmt: skip
    grade |= {name: np.isfinite(time).sum(axis=2).astype(np.int8) for name, time in reached.items()}
    return Observed(
        replicate=cohort.replicate, arm=arm, stratum=stratum, times=times,
        outputs=outputs, onset=onset, grade=grade,
        stop=np.where(stop <= leave, stop, np.inf), leave=leave, ended=np.where(ended <= leave, ended, np.inf),
        number=number, occurrences=every, reached=reached, failed=course.status.reshape(shape) != 0,
        below={name: value & ~gone for name, value in low.items()},
        changes={
            name: np.where(when.reshape(shape) <= np.minimum(leave, ended), when.reshape(shape), np.inf)
            for name, when in course.changed.items()
        },
    )  # fmt: skip


def _caused(setting: Setting, cohort: Cohort, course: Course, seen: tuple[Mapping[str, Floats], Floats]) -> Floats:
    """When subjects leave because of an adverse event or for lack of effect, (R, N) h, infinite: never."""
    dropout, (outputs, times) = setting.protocol.dropout, seen
    lacking = np.full(times.shape, np.inf)
    if dropout.lack_of_effect is not None:
        from trials.switching import limits

        rule = dropout.lack_of_effect
        below, above = limits(rule, setting.model)
        at = [setting.protocol.visit_names.index(name) for name in rule.at]
        with np.errstate(invalid="ignore"):
            asks = (outputs[rule.measure] < below) | (outputs[rule.measure] > above)
        lacking[:, :, at] = np.where(asks, times, np.inf)[:, :, at]
    onset = {name: course.onset[name].reshape(times.shape[:2]) for name in dropout.after}
    who = (cohort.replicate, cohort.subject)
    found = conduct.caused_dropout(dropout, onset, lacking, seed=setting.seed, who=who)
    if not dropout.while_:
        return found
    lasting = conduct.graded_dropout(
        dropout, {name: course.latent.path(name) for name in dropout.while_}, seed=setting.seed,
        replicate=np.repeat(cohort.replicate, times.shape[1]), subject=np.tile(cohort.subject, times.shape[0]),
    )  # fmt: skip
    return np.minimum(found, lasting.reshape(found.shape))


def _measured(
    setting: Setting, cohort: Cohort, course: Course, seen: tuple[NDArray[np.int64], NDArray[np.bool_]]
) -> dict[str, Floats]:
    """Outputs with residual error, NaN where unseen, {output: (R, N, V)}."""
    from pkpd import residual

    draw, unseen = seen
    outputs, visits = setting.model.outputs, np.arange(unseen.shape[2], dtype=np.uint32)
    z = measured.errors(
        setting, subject=cohort.subject[None, :, None], replicate=cohort.replicate[:, None, None], visit=visits,
        draw=draw[:, None, None],
    )  # fmt: skip
    found: dict[str, Floats] = {}
    for name, output in outputs.items():
        true = course.true(setting, name).reshape(unseen.shape)
        if output.continuous:
            own = residual.taken(residual.error_of(setting.model, setting.draws, name), draw, (1, 1))
            true = residual.observe(own, true, z[name])
        found[name] = np.where(unseen, np.nan, true)
    return found


def outcome_columns(setting: Setting, trial: Trial) -> Columns:
    """The outcome table of a batch, one row per subject and replicate; see docs/architecture.md."""
    course, seen, rows = trial.course, trial.observed, trial.people.arm.size
    columns: Columns = {
        "replicate": trial.people.replicate, "subject": trial.people.subject,
        "arm": trial.people.arm.astype(np.int16), "stratum": seen.stratum.reshape(-1).astype(np.int16),
        "draw": np.repeat(trial.draw.astype(np.uint32), trial.shape[1]),
    }  # fmt: skip
    columns |= dict(trial.people.covariates)
    for number, visit in enumerate(setting.protocol.visit_names):
        over = trial.people.times[:, number] > course.ended
        for name in setting.model.outputs:
            columns[f"{name}@{visit}"] = seen.outputs[name].reshape(rows, -1)[:, number]
            if name in seen.below:
                columns[f"{name}.blq@{visit}"] = seen.below[name].reshape(rows, -1)[:, number].astype(np.int8)
            columns[f"{name}.true@{visit}"] = np.where(over, np.nan, course.true(setting, name)[:, number])
        for name in setting.model.summaries:
            columns[f"{name}@{visit}"] = np.where(over, np.nan, course.values[name][:, number])
    for name in setting.model.events:
        columns[f"{name}.grade"] = seen.grade[name].reshape(rows)
        columns[f"{name}.day"] = _days(seen.onset[name])
    for name, count in seen.number.items():
        columns[f"{name}.number"] = count.reshape(rows).astype(np.int32)
    columns |= grades.columns(setting, course, seen)
    if any(setting.rules):
        columns["adjusted.day"] = _days(rules.first_action(course.plans, rows))
    if seen.prognosis is not None:
        columns |= dict(zip(("prognosis", "prognosis.sd"), (p.reshape(rows) for p in seen.prognosis), strict=True))
    columns |= endpoints.time_columns(setting.protocol, seen)
    columns |= guidance.outcome(course.plans, setting, rows)
    columns |= toxicity.columns(setting, trial, trial.samples)
    columns |= {f"{name}.day": _days(when) for name, when in seen.changes.items()}
    columns |= {"stopped.day": _days(seen.stop), "dropout.day": _dropout(setting, seen), "status": course.status}
    return columns if seen.entry is None else _of_enrolled(setting, seen, columns)


def _of_enrolled(setting: Setting, seen: Observed, columns: Columns) -> Columns:
    """The rows of those who entered before the trial ended, with when and where."""
    assert seen.entry is not None
    assert seen.site is not None
    assert seen.region is not None
    columns |= {"entry.day": _days(seen.entry), "site": seen.site.reshape(-1).astype(np.int32)}
    if setting.protocol.enrolment is not None and setting.protocol.enrolment.regions:
        columns["region"] = seen.region.reshape(-1).astype(np.int16)
    columns["arm"] = seen.arm.reshape(-1).astype(np.int16)
    inside = seen.arm.reshape(-1) >= 0
    return columns if inside.all() else {name: np.asarray(value)[inside] for name, value in columns.items()}


def _days(hours: Floats) -> Floats:
    """Days of a time that may never come (infinite), NaN then, flat."""
    return np.where(np.isfinite(hours), hours / HOURS_PER_DAY, np.nan).reshape(-1)


def _dropout(setting: Setting, seen: Observed) -> Floats:
    """Day of leaving, NaN for those who leave after their last visit or the end of their follow-up."""
    return _days(np.where(seen.leave < np.minimum(seen.times[:, :, -1], seen.ended), seen.leave, np.inf))


def potential(setting: Setting, trial: Trial) -> dict[str, Any]:
    """Truth table: mean of every compared endpoint with all subjects of a replicate in one arm, nobody lost."""
    protocol, shape = setting.protocol, trial.shape
    asked = [
        (key, name) for key, estimand in protocol.estimands.items() for name in estimand.endpoint
        if KINDS[protocol.endpoints[name].as_].true or KINDS[protocol.endpoints[name].as_].jointly
    ]  # fmt: skip
    compared = [protocol.estimands[key] for key, _ in asked]
    arms = {arm for estimand in compared for arm in (*estimand.compare, estimand.against)}
    parts: list[tuple[str, str, str, Floats]] = []
    every: dict[str, dict[str, Lived]] = {key: {} for key, _ in asked}
    for code, arm in enumerate(protocol.arm_names):
        if arm not in arms:
            continue
        people = trial.people.in_arm(code)
        worlds: dict[frozenset[str], tuple[Course, Lived]] = {}
        for key, name in asked:
            without = without_of(setting, key)
            if without not in worlds:
                course = follow(setting, people, without=without)
                worlds[without] = course, lived_of(setting, course, people, shape)
            course, every[key][arm] = worlds[without]
            endpoint = protocol.endpoints[name]
            true = KINDS[endpoint.as_].true
            if true is not None:
                value = true(protocol, endpoint, protocol.estimands[key], every[key][arm])
                parts.append((key, name, arm, _mean(value.astype(np.float64), course, shape)))
    parts = _joint(protocol, asked, every, parts)
    labels = {
        column: [part[place] for part in parts for _ in range(shape[0])]
        for place, column in enumerate(("analysis", "endpoint", "arm"))
    }
    means = [part[3] for part in parts]
    return {
        "replicate": np.tile(trial.cohort.replicate, len(parts)), **labels,
        "mean": np.concatenate(means) if means else np.empty(0),
    }  # fmt: skip


def without_of(setting: Setting, key: str) -> frozenset[str]:
    """Changes of treatment that do not happen in the world an estimand asks about."""
    strategies = setting.protocol.estimands[key].strategies
    return frozenset(name for name in setting.added if strategies.get(name) == "hypothetical")


def _joint(
    protocol: Protocol,
    asked: list[tuple[str, str]],
    every: Mapping[str, Mapping[str, Lived]],
    parts: list[tuple[str, str, str, Floats]],
) -> list[tuple[str, str, str, Floats]]:
    """The truth table with those estimands whose truth is of all arms together in place of their means."""
    for key, name in asked:
        endpoint = protocol.endpoints[name]
        jointly = KINDS[endpoint.as_].jointly
        found = jointly(protocol, endpoint, protocol.estimands[key], every[key]) if jointly else None
        if found is not None:
            kept = [part for part in parts if part[:2] != (key, name)]
            parts = kept + [(key, name, arm, value) for arm, value in found.items()]
    return parts


def _mean(value: Floats, course: Course, shape: tuple[int, int]) -> Floats:
    """Mean over the subjects of each replicate, (R,); an output's over those whose follow-up lasts to its visit."""
    alive = ~(np.isnan(value) & np.isfinite(course.ended.reshape(shape)))
    if alive.all():
        return np.asarray(value.mean(axis=1))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(alive, value, 0.0).sum(axis=1) / alive.sum(axis=1))


def lived_of(setting: Setting, course: Course, people: People, shape: tuple[int, int]) -> Lived:
    """What is true of the followed subjects, for the kinds of endpoint."""
    protocol, times = setting.protocol, people.times
    graded = toxicity.truly_reached(setting, people, course, shape) if setting.tests else {}
    used = {str(e.output) for e in protocol.endpoints.values() if e.output is not None}
    over = times > course.ended[:, None]
    true = {name: np.where(over, np.nan, course.true(setting, name)).reshape(*shape, -1) for name in sorted(used)}
    return Lived(
        outputs=true,
        onset={name: value.reshape(shape) for name, value in course.onset.items()},
        grade={name: value.reshape(shape) for name, value in course.grade.items()},
        stop=course.stop.reshape(shape), ended=course.ended.reshape(shape), times=times.reshape(*shape, -1),
        occurrences={name: grades.occurrences(course, name).reshape(*shape, -1) for name in grades.recurrent(setting)},
        reached={name: time.reshape(*shape, -1) for name, time in course.reached.items()} | graded,
        failed=course.status.reshape(shape) != 0,
        changes={name: when.reshape(shape) for name, when in course.changed.items()},
    )  # fmt: skip


def curves(setting: Setting, trial: Trial) -> dict[str, Any] | None:
    """Solved outputs of the kept subjects on a fixed grid, or None where this batch has none of them.

    Curve j of an arm is that of replicate j mod `replicates`: the (j div replicates)-th subject allocated to the arm.
    """
    from pkpd.engine.solve import solve
    from trials.subject import dosing

    grid, people = _grid(setting.protocol), trial.people
    parts: list[dict[str, Any]] = []
    for code in range(len(setting.protocol.arms)):
        rows, shown = _kept(setting.protocol, trial, code)
        if not rows.size:
            continue
        given = (rows, trial.course.stop[rows])
        events = dosing(setting, people, given, trial.course.plans, changed=trial.course.changed)
        inputs = {name: value[rows] for name, value in people.inputs.items()}
        found = solve(
            setting.compiled, people.parameters[rows], events, grid, windows={}, covariates=inputs,
            changes=people.changes.subjects(rows),
        )  # fmt: skip
        found.values[np.broadcast_to((grid > trial.course.ended[rows, None])[:, None], found.values.shape)] = np.nan
        draw = np.repeat(trial.draw, trial.shape[1])[rows]
        labels: dict[str, NDArray[Any]] = {"replicate": people.replicate[rows], "subject": people.subject[rows],
                  "arm": people.arm[rows].astype(np.int16), "draw": draw.astype(np.uint32), "shown": shown}  # fmt: skip
        part = {name: np.repeat(value, grid.size) for name, value in labels.items()}
        part["time"] = np.tile(grid, rows.size)
        for name, output in setting.model.outputs.items():
            if output.continuous and output.is_ in setting.compiled.outputs:
                part[name] = found.values[:, setting.compiled.outputs.index(output.is_)].reshape(-1)
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else None


def _kept(protocol: Protocol, trial: Trial, code: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Rows of an arm whose curves are kept, and which of them are shown one by one."""
    most = max(protocol.keep.curves, protocol.keep.bands) if protocol.keep.curves else 0
    rows: list[int] = []
    numbers: list[int] = []
    arm = trial.people.arm.reshape(trial.shape)
    for place, replicate in enumerate(trial.cohort.replicate.tolist()):
        wanted = range(replicate, most, protocol.replicates)
        members = np.flatnonzero(arm[place] == code)[: len(wanted)]
        rows += (place * trial.shape[1] + members).tolist()
        numbers += list(wanted)[: members.size]
    return np.array(rows, np.intp), np.array(numbers, np.int64) < protocol.keep.curves


def _grid(protocol: Protocol) -> Floats:
    """Hourly over the first week, half-hourly over the last day."""
    end = protocol.horizon
    first = np.arange(0.0, min(168.0, end) + 0.5, 1.0)
    last = np.arange(max(0.0, end - 24.0), end + 0.25, 0.5)
    return np.unique(np.concatenate([first, last]))
