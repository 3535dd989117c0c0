"""Laboratory toxicity of a trial: worst grades, extremes, time at a grade, grades by cycle, eDISH, doses given.

`columns` is what the outcome table gets of the trial as it went: samples up to leaving, visits that were not missed.
`potential` is what is expected of the same people under every arm, nobody lost: the arms differ by treatment alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trials import dose_course, laboratory, sampling
from trials.analysis import labs
from trials.analysis.liver import AMINOTRANSFERASE, BILIRUBIN, liver, quadrant
from trials.protocol import HOURS_PER_DAY
from trials.sampling import Samples

if TYPE_CHECKING:
    from trials.laboratory import Opened
    from trials.observed import Observed
    from trials.setting import Setting
    from trials.subject import Course, People
    from trials.trial import Trial

__all__ = [
    "KEPT", "NO_CYCLE", "columns", "cycles_of", "kept", "potential", "reached", "samples_table", "seen_of",
    "truly_reached",
]  # fmt: skip

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
NO_CYCLE: Final = -2  # a cycle that did not begin while the subject was in the trial
KEPT: Final = 20  # replicates whose samples are kept one by one


def seen_of(setting: Setting, people: People, course: Course, observed: Observed) -> dict[str, Samples]:
    """The samples of the trial's data base, by test."""
    until = _until(course, observed)
    whole = sampling.of_course(setting, people, course)
    return {name: sampling.seen(setting, people, samples, until) for name, samples in whole.items()}


def kept(samples: Mapping[str, Samples], course: Course, observed: Observed) -> dict[str, Samples]:
    """Those samples that are in the data base when the trial closes it."""
    until = _until(course, observed)[:, None]
    return {name: s if observed.cut is None else s.only(s.time <= until) for name, s in samples.items()}


def _until(course: Course, observed: Observed) -> Floats:
    """When each subject leaves or its follow-up ends (n,) h."""
    until = np.minimum(observed.leave.reshape(-1), course.ended)
    return until if observed.cut is None else np.minimum(until, observed.cut.reshape(-1))


def reached(samples: Mapping[str, Samples], shape: tuple[int, int]) -> dict[str, Floats]:
    """When a sample after the baseline first was of grade 1, 2, ... or worse, {test: (R, N, 5)} h, infinite: never; as
    events have it that may worsen.
    """
    found = {}
    for name, own in samples.items():
        first = [labs.first_time(own.time[:, 1:], own.grade[:, 1:], level) for level in range(1, 6)]
        found[name] = np.stack(first, axis=1).reshape(*shape, 5)
    return found


def truly_reached(setting: Setting, people: People, course: Course, shape: tuple[int, int]) -> dict[str, Floats]:
    """The same of everybody, nobody lost and no visit missed."""
    whole = sampling.of_course(setting, people, course)
    return reached({name: s.only(s.time <= course.ended[:, None]) for name, s in whole.items()}, shape)


def columns(setting: Setting, trial: Trial, seen: Mapping[str, Samples]) -> Columns:
    """Columns of the outcome table, `lab.TEST.*`, `liver.*` and `dose.*`; none where the protocol has no test."""
    if not setting.tests:
        return {}
    until = _until(trial.course, trial.observed)
    found = _doses(setting, trial.people, trial.course, until)
    for name, samples in seen.items():
        own = _of_test(samples) | _by_cycle(setting, (trial.people, trial.course), samples, until)
        found |= {f"lab.{name}.{key}": value for key, value in own.items()}
    return found | {f"liver.{key}": value for key, value in _liver(setting.tests, seen).items()}


def _doses(setting: Setting, people: People, course: Course, until: Floats) -> Columns:
    found = dose_course.dose_course(setting, people, course, until)
    names = ("intensity", "share", "reductions", "delays", "holds", "cause")
    return {f"dose.{name}": getattr(found, name) for name in names}


def _of_test(samples: Samples) -> Columns:
    """Baseline grade, worst grade after it, lowest or highest value and its day, days at the told grade or worse."""
    test, after = samples.test, samples.value[:, 1:]
    extreme = (labs.nadir if test.low else labs.peak)(samples.time[:, 1:], after)
    days = labs.duration(samples.time, samples.value, samples.bound(test.text.lasting), above=not test.low)
    found: Columns = {
        "baseline": samples.value[:, 0], "baseline_grade": samples.grade[:, 0],
        "worst": labs.worst(samples.grade[:, 1:], value=after), "extreme": extreme.value,
        "day": extreme.time / HOURS_PER_DAY, "days": days / HOURS_PER_DAY,
    }  # fmt: skip
    return found if test.low else found | {"times_uln": extreme.value / samples.uln}


def cycles_of(test: Opened, setting: Setting) -> int:
    """How many cycles a test is told by; 0: it is not."""
    when = test.text.cycles
    if when is None:
        return 0
    if when.dose:
        return max((np.unique(schedule.time).size for schedule in setting.schedules), default=0)
    return len(_fixed(test, setting))


def _fixed(test: Opened, setting: Setting) -> Floats:
    """Beginnings of cycles that hang on no dose, h."""
    assert test.text.cycles is not None
    horizon = setting.protocol.horizon
    return np.array([t for t in (0.0, *test.text.cycles.until(horizon)) if t < horizon])


def _by_cycle(setting: Setting, who: tuple[People, Course], samples: Samples, until: Floats) -> Columns:
    """Worst grade in each cycle, NO_CYCLE where it did not begin before `until` (n,); a sample at the time of a dose
    belongs to the cycle before it.
    """
    number = cycles_of(samples.test, setting)
    if not number:
        return {}
    if samples.test.text.cycles is not None and samples.test.text.cycles.dose:
        starts = dose_course.cycle_starts(setting, *who, most=number)
    else:
        starts = np.broadcast_to(_fixed(samples.test, setting), (len(samples.time), number))
    until = np.minimum(until, who[0].times[:, -1])
    starts = np.where(starts < until[:, None], starts, np.inf)
    cycle = (starts[:, None, :] < samples.time[:, :, None]).sum(axis=2)
    grade = np.where(np.isnan(samples.value), -1, samples.grade)
    found = {}
    for k in range(number):
        worst = np.where(cycle == k + 1, grade, -1)[:, 1:].max(axis=1, initial=-1)
        found[f"cycle{k + 1}"] = np.where(np.isfinite(starts[:, k]), worst, NO_CYCLE).astype(np.int8)
    return found


def _liver(tests: Mapping[str, Opened], seen: Mapping[str, Samples]) -> Columns:
    """Peaks in multiples of the upper limit, quadrant of eDISH, Hy's law (1 potential case, 0 not, -1 not known)."""
    named = laboratory.of_liver(tests)
    if not named:
        return {}
    day, value = _joined({key: seen[test.name] for key, test in named.items()})
    enzyme = np.fmax(value.get("alt", np.nan), value.get("ast", np.nan))
    peaks = [labs.peak(day, x).value for x in (enzyme, value["bilirubin"])]
    peak_day = [labs.peak(day, x).time for x in (enzyme, value["bilirubin"])]
    unknown = np.isnan(peaks[0]) & ~(peaks[1] <= BILIRUBIN) | np.isnan(peaks[1]) & ~(peaks[0] <= AMINOTRANSFERASE)
    hy, first = np.where(unknown, -1, 0).astype(np.int8), np.full(len(day), np.nan)
    raised = np.flatnonzero((peaks[0] > AMINOTRANSFERASE) | (peaks[1] > BILIRUBIN))
    if raised.size:
        visits = {key: x[raised].reshape(-1) for key, x in value.items()}
        who = np.repeat([f"{row:09d}" for row in raised], day.shape[1])
        judged = liver(
            who, day[raised].reshape(-1), alt=visits.get("alt", np.full(who.size, np.nan)), ast=visits.get("ast"),
            bilirubin=visits["bilirubin"], alp=visits.get("alp"),
        )  # fmt: skip
        hy[raised], first[raised] = judged.hy, judged.day
    return {
        "aminotransferase": peaks[0], "bilirubin": peaks[1], "quadrant": quadrant(*peaks), "hy": hy, "hy_day": first,
        "aminotransferase_day": peak_day[0], "bilirubin_day": peak_day[1],
    }  # fmt: skip


def _joined(seen: Mapping[str, Samples]) -> tuple[Floats, dict[str, Floats]]:
    """Samples after the baseline of several tests on one line of days: (n, S), multiples of the upper limit."""
    times = np.concatenate([s.time[:, 1:] for s in seen.values()], axis=1) / HOURS_PER_DAY
    order, start, value = np.argsort(times, axis=1, kind="stable"), 0, {}
    for key, samples in seen.items():
        own = np.full(times.shape, np.nan)
        stop = start + samples.time.shape[1] - 1
        own[:, start:stop] = samples.value[:, 1:] / samples.uln[:, None]
        value[key], start = np.take_along_axis(own, order, axis=1), stop
    return _merged(np.take_along_axis(times, order, axis=1), value)


def _merged(day: Floats, value: dict[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
    """Samples of one day and subject as one: each takes what its neighbour at the same time has."""
    same = np.diff(day, axis=1) == 0.0
    for x in value.values():
        for k in range(same.shape[1]):
            fill = same[:, k] & np.isnan(x[:, k + 1])
            x[fill, k + 1] = x[fill, k]
            fill = same[:, k] & ~np.isnan(x[:, k + 1])
            x[fill, k] = np.nan
    return day, value


def samples_table(setting: Setting, trial: Trial, seen: Mapping[str, Samples]) -> Columns | None:
    """The samples of the first replicates one by one: replicate, subject, arm, test, day, value, grade."""
    people = trial.people
    told = np.flatnonzero(people.replicate < KEPT)
    if not seen or not told.size:
        return None
    parts: list[dict[str, Any]] = []
    for name, samples in seen.items():
        taken = ~np.isnan(samples.value[told])
        who = told[np.nonzero(taken)[0]]
        parts.append({
            "replicate": people.replicate[who], "subject": people.subject[who], "arm": people.arm[who].astype(np.int16),
            "test": np.full(who.size, name), "day": samples.time[told][taken] / HOURS_PER_DAY,
            "value": samples.value[told][taken], "grade": samples.grade[told][taken],
        })  # fmt: skip
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def potential(setting: Setting, trial: Trial) -> dict[str, Any] | None:
    """A row per replicate, arm and measure of the same people under every arm, nobody lost (visits are missed as they
    were); None without tests.

    measures by test: `worst G` and `cycleK G`, the share with grade G or worse (of those graded; whose cycle began),
    `days` (mean) at the told grade; test `liver`: `quadrant 3`, `hy` (shares of those judged); no test, of doses:
    `intensity`, `share`, `reductions`, `delays`, `holds` (means), `cause C` (share). n: subjects that count.
    """
    if not setting.tests:
        return None
    from trials.subject import follow

    table: dict[str, list[Any]] = {name: [] for name in ("replicate", "arm", "test", "measure", "value", "n")}
    for code in range(len(setting.protocol.arms)):
        people = trial.people.in_arm(code)
        course = follow(setting, people)
        for test, measure, value, n in _measures(setting, trial, (people, course)):
            for column, part in zip(table, (trial.cohort.replicate, code, test, measure, value, n), strict=True):
                table[column].append(np.broadcast_to(np.asarray(part), trial.cohort.replicate.shape))
    return {name: np.concatenate(parts) for name, parts in table.items()}


def _measures(
    setting: Setting, trial: Trial, who: tuple[People, Course]
) -> list[tuple[str, str, Floats, NDArray[np.int64]]]:
    """(test, measure, value (R,), n (R,)) of a world."""
    people, course = who
    fine = (course.status == 0).reshape(trial.shape)
    until = course.ended
    found = []

    def add(test: str, measure: str, value: NDArray[Any], of: NDArray[np.bool_]) -> None:
        among = of.reshape(trial.shape) & fine
        n = among.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = np.where(among, value.reshape(trial.shape), 0.0).sum(axis=1) / n
        found.append((test, measure, mean, n))

    whole = sampling.of_course(setting, people, course)
    seen = {name: sampling.seen(setting, people, samples, until) for name, samples in whole.items()}
    for name, samples in seen.items():
        made = _of_test(samples) | _by_cycle(setting, who, samples, until)
        for key, value in made.items():
            if key == "worst" or key.startswith("cycle"):
                for level in samples.test.levels:
                    add(name, f"{key} {level}", value >= level, value >= 0)
        add(name, "days", made["days"], np.isfinite(made["days"]))
    injury = _liver(setting.tests, seen)
    if injury:
        add("liver", "quadrant 3", injury["quadrant"] == 3, injury["quadrant"] >= 0)
        add("liver", "hy", injury["hy"] == 1, injury["hy"] >= 0)
    doses = _doses(setting, people, course, until)
    for key in ("intensity", "share", "reductions", "delays", "holds"):
        add("", key, doses[f"dose.{key}"], np.isfinite(doses[f"dose.{key}"]))
    for cause in range(dose_course.FIRST_RULE + max(len(rules) for rules in setting.rules)):
        add("", f"cause {cause}", doses["dose.cause"] == cause, np.ones(people.arm.size, np.bool_))
    return found
