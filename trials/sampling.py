"""Laboratory samples of a trial: what a laboratory would see of each subject, graded; the same for rules and tables.

A sample's chance is addressed by what it is, so that whoever looks at it sees the same value: at a visit it is the
value of the data base (`Purpose.RESIDUAL`, index = visit), outside visits `Purpose.LABORATORY`, index = minute of the
trial, slot of the output's name. The baseline is the value of the first visit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose
from trials import conduct, laboratory, latent, measured
from trials.analysis import grading, labs
from trials.laboratory import Opened
from trials.quantification import reported

if TYPE_CHECKING:
    from pkpd.model.regimen import Events
    from trials.setting import Setting
    from trials.subject import Course, People

__all__ = ["Samples", "met", "of_course", "of_rules", "seen"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Grades = NDArray[np.int8]
Flags = NDArray[np.bool_]
MINUTES = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples of one test of n subjects, the baseline's first. time (n, S) h; value (n, S) in the test's unit, NaN:
    none; grade (n, S), -1: none or not gradable, that of the baseline as if the baseline before it were normal; lln,
    uln (n,): limits of normal.
    """

    test: Opened
    time: Floats
    value: Floats
    grade: Grades
    lln: Floats
    uln: Floats

    def bound(self, level: int) -> Floats:
        """The value beyond which a grade of `level` begins (n,)."""
        text = self.test.text
        return grading.bound(
            text.term, level, lln=self.lln, uln=self.uln, baseline=self.value[:, 0], unit=text.unit,
            version=text.version,
        )  # fmt: skip

    def only(self, keep: Flags) -> Samples:
        """The samples of `keep` (n, S), the others as if they had not been taken."""
        return Samples(
            test=self.test, time=self.time, value=np.where(keep, self.value, np.nan), lln=self.lln, uln=self.uln,
            grade=np.where(keep, self.grade, grading.UNKNOWN).astype(np.int8),
        )  # fmt: skip


def of_course(setting: Setting, people: People, course: Course) -> dict[str, Samples]:
    """All samples of everybody under the doses really given, whoever leaves or misses a visit."""
    from trials.subject import dosing

    found: dict[str, Samples] = {}
    rows, times = np.arange(people.arm.size), _times(setting, people)
    true = {name: np.full(t.shape, np.nan) for name, t in times.items()}
    for code in np.unique(people.arm).tolist() if times else ():
        mine = np.flatnonzero(people.arm == code)
        events = dosing(setting, people, (mine, course.stop[mine]), course.plans, changed=course.changed)
        part = _true(setting, people, rows[mine], (events, {name: t[mine] for name, t in times.items()}))
        for name, value in part.items():
            true[name][mine] = value
    for name, test in setting.tests.items():
        found[name] = _samples(setting, (people, rows), test, (times[name], true[name]))
    return found


def of_rules(setting: Setting, people: People, rows: Rows, events: Events, *, until: Floats) -> dict[str, Samples]:
    """The samples of some rows under `events` up to `until` (m,) h, by test that a rule of their arm names."""
    named = {str(r.laboratory) for r in setting.rules[int(people.arm[rows[0]])] if r.laboratory is not None}
    every = {name: t[rows] for name, t in _times(setting, people).items() if name in named}
    times = {name: np.where(t <= until[:, None], t, np.nan) for name, t in every.items()}
    true = _true(setting, people, rows, (events, times))
    found = {}
    for name, time in times.items():
        test = setting.tests[name]
        samples = _samples(setting, (people, rows), test, (time, true[name]))
        found[name] = samples.only(~_missed(setting, people, rows, test))
    return found


def _times(setting: Setting, people: People) -> dict[str, Floats]:
    return {name: laboratory.sample_times(test, people.times) for name, test in setting.tests.items()}


def _true(
    setting: Setting, people: People, rows: Rows, given: tuple[Events, Mapping[str, Floats]]
) -> dict[str, Floats]:
    """True values at the times of every test, in the model's units, solved together."""
    events, times = given
    if not times:
        return {}
    found: dict[str, Floats] = {}
    whole = np.concatenate(list(times.values()), axis=1)
    order = np.argsort(whole, axis=1, kind="stable")
    seen = latent.at_times(setting, people, rows, (events, np.take_along_axis(whole, order, axis=1)))
    start = 0
    for name, time in times.items():
        value = np.empty(whole.shape)
        np.put_along_axis(value, order, seen[setting.tests[name].column], axis=1)
        found[name] = value[:, start : start + time.shape[1]]
        start += time.shape[1]
    return found


def _samples(setting: Setting, who: tuple[People, Rows], test: Opened, at: tuple[Floats, Floats]) -> Samples:
    """True values (m, S) as the laboratory sees and grades them."""
    (people, rows), (time, true) = who, at
    value = (true if test.text.measure is None else _seen(setting, who, test, at)) * test.factor
    limits = laboratory.limits(test, {n: v[rows] for n, v in people.covariates.items()}, rows.size)
    return Samples(test=test, time=time, value=value, grade=_graded(test, value, limits), **limits)


def _seen(setting: Setting, who: tuple[People, Rows], test: Opened, at: tuple[Floats, Floats]) -> Floats:
    """Measured values (m, S): the truth with the output's residual error at each sample's own address."""
    from pkpd import residual

    (people, rows), (time, true) = who, at
    output = str(test.text.measure)
    subject, replicate = people.subject[rows][:, None], people.replicate[rows][:, None]
    visits = np.array([0, *test.visits] if test.times is None else [0], np.uint32)
    z = np.empty(time.shape)
    given: dict[str, Any] = {"subject": subject, "replicate": replicate, "draw": people.draw[rows][:, None]}
    z[:, : visits.size] = measured.errors(setting, visit=visits, **given)[output]
    if test.times is not None:
        minutes = np.round(test.times * MINUTES).astype(np.uint32)
        z[:, 1:] = measured.errors(setting, visit=minutes, purpose=Purpose.LABORATORY, **given)[output]
    error = residual.taken(residual.error_of(setting.model, setting.draws, output), people.draw[rows], (1,))
    return reported(setting, output, np.asarray(residual.observe(error, true, z)))


def _graded(test: Opened, value: Floats, limits: Mapping[str, Floats]) -> Grades:
    """Grades (m, S); the baseline's own against a normal baseline, or against itself where that makes no difference."""
    text, base = test.text, value[:, :1]
    lln, uln = (limits[name][:, None] for name in ("lln", "uln"))

    def graded(x: Floats, baseline: Floats) -> Grades:
        return grading.grade(text.term, x, lln=lln, uln=uln, baseline=baseline, unit=text.unit, version=text.version)

    found = graded(value, base)
    two = grading.criteria(text.term, version=text.version, unit=text.unit)[0].baseline != "any"
    found[:, :1] = graded(base, (lln if test.low else uln) if two else base)
    return found


def _missed(setting: Setting, people: People, rows: Rows, test: Opened) -> Flags:
    """Samples (m, S) that are not taken because the visit is missed."""
    if test.times is not None:
        return np.zeros((rows.size, test.times.size + 1), np.bool_)
    who = {"replicate": people.replicate[rows], "subject": people.subject[rows]}
    return np.stack([conduct.missed_at(setting.protocol, visit, **who) for visit in (0, *test.visits)], axis=1)


def seen(setting: Setting, people: People, samples: Samples, until: Floats) -> Samples:
    """The samples of a trial's data base: taken at visits that were not missed, up to `until` (n,) h."""
    rows = np.arange(people.arm.size)
    return samples.only((samples.time <= until[:, None]) & ~_missed(setting, people, rows, samples.test))


def met(samples: Samples, rule: tuple[int, str, float | None], places: Rows, window: tuple[Floats, Floats]) -> tuple[
    Flags, NDArray[np.int64]
]:  # fmt: skip
    """Whether a grade was met in (since, now], and the last grade there (m,), -1: none.

    rule: grade, `worst` or `last`, and the time at that grade that must be exceeded, or None.
    """
    (level, which, lasting), (since, now) = rule, window
    time, grade = samples.time[places], samples.grade[places]
    inside = (time > since[:, None]) & (time <= now[:, None]) & (grade >= 0)
    last = _last(grade, inside)
    if lasting is not None:
        value = np.where(time <= now[:, None], samples.value[places], np.nan)
        course = _from(_ascending(time), value, since)
        spent = labs.duration(*course, samples.bound(level)[places], above=not samples.test.low)
        return spent > lasting, last
    worst = np.where(inside, grade, -1).max(axis=1, initial=-1)
    return np.asarray((worst if which == "worst" else last) >= level), last


def _last(grade: Grades, inside: Flags) -> NDArray[np.int64]:
    """The grade of the last sample inside, (m,)."""
    places = np.where(inside, np.arange(grade.shape[1]), -1).max(axis=1, initial=-1)
    found = np.take_along_axis(grade, np.maximum(places, 0)[:, None], axis=1)[:, 0]
    return np.where(places >= 0, found, -1).astype(np.int64)


def _from(time: Floats, value: Floats, since: Floats) -> tuple[Floats, Floats]:
    """The straight lines between samples from `since` (m,) on: the last sample before it moves along its line to it."""
    time, value, known = time.copy(), value.copy(), ~np.isnan(value)
    before = known & (time < since[:, None])
    after = np.argmax(known & ~before, axis=1)
    place = before.shape[1] - 1 - np.argmax(before[:, ::-1], axis=1)
    who = np.flatnonzero(before.any(axis=1) & (known & ~before).any(axis=1))
    i, j = place[who], after[who]
    share = (since[who] - time[who, i]) / (time[who, j] - time[who, i])
    edge = value[who, i] + share * (value[who, j] - value[who, i])
    value[before] = np.nan
    time[who, i], value[who, i] = since[who], edge
    return np.maximum.accumulate(time, axis=1), value


def _ascending(time: Floats) -> Floats:
    """Times with those that are not known (after the last asked for) at the end."""
    return np.where(np.isnan(time), np.finfo(np.float64).max, time)
