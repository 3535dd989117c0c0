"""The chain: the same people with and without a comedication or an impairment, from exposure to risk to dose.

Every world is followed on common random numbers: who has the same address is the same person with the same doses taken
and the same chance of events. Reference: impairment as drawn, nobody takes a comedication; of a class of impairment:
nobody has it. Exposure is that of the planned doses (as taken, before rules, stops and dropout), risk that of the whole
course with them. One row per replicate, world, arm, group of people and measure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials import conduct, latent, modifiers
from trials.checks_chain import exposure_names
from trials.consequences import ANY
from trials.modifiers import World
from trials.protocol import HOURS_PER_DAY
from trials.subject import Course, People, dosing, follow
from trials.trial import people_of

if TYPE_CHECKING:
    from pkpd.model.regimen import Events
    from trials.comedication import Monitor
    from trials.protocol import Protocol
    from trials.setting import Setting
    from trials.trial import Trial

__all__ = ["BAND", "chained", "exposures", "groups", "worlds"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]
Table = dict[str, list[Any]]

BAND = (0.8, 1.25)  # of each person's own exposure without: the band a dose is to restore
CLOSE = 1e-4  # of the log mean ratio, at which a dose is found
ROUNDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A world and what it is compared with; comedication: its name, or "" for a class of impairment."""

    name: str
    world: World
    reference: World
    comedication: str = ""


def worlds(protocol: Protocol) -> tuple[Compared, ...]:
    """Every comedication alone, every class of every condition alone."""
    nobody = dict.fromkeys(protocol.comedication, False)
    made = [
        Compared(
            name=name, world=World(taken={**nobody, name: True}, timed=(name,)),
            reference=World(taken=nobody, timed=(name,)), comedication=name,
        )
        for name in protocol.comedication
    ]  # fmt: skip
    for name, plan in protocol.conditions.items():
        for code, kind in enumerate(plan.classes, start=1):
            if any(kind in factors for factors in plan.parameters.values()):
                made.append(
                    Compared(
                        name=f"{name} {kind}", world=World(taken=nobody, classes={name: code}, timed=()),
                        reference=World(taken=nobody, classes={name: 0}, timed=()),
                    )
                )  # fmt: skip
    return tuple(made)


def exposures(setting: Setting) -> tuple[str, ...]:
    """What exposure is measured by, the first sets the dose."""
    return exposure_names(setting.model)


def chained(setting: Setting, trial: Trial) -> dict[str, Any] | None:
    """The table, or None where the protocol has neither comedication nor impairment."""
    if not setting.effects:
        return None
    table: Table = {name: [] for name in ("replicate", "world", "arm", "group", "level", "measure", "value", "n")}
    base = _Base(setting, trial)
    for compared in worlds(setting.protocol):
        for code, (name, arm) in enumerate(setting.protocol.arms.items()):
            if arm.regimen and _may(setting.protocol, compared, name):
                sides = base.people(compared.world, code), base.people(compared.reference, code)
                for row in _rows(setting, trial, compared, sides):
                    for column, value in zip(table, (row[0], compared.name, code, *row[1:]), strict=True):
                        table[column].append(value)
    return {name: np.array(values) for name, values in table.items()} if table["value"] else None


class _Base:
    """The trial's people before anything changes their parameters; `people(world)` after."""

    def __init__(self, setting: Setting, trial: Trial) -> None:
        from populations.patients import patients

        self.setting, self.cohort = setting, trial.cohort
        protocol = setting.protocol
        self.times = conduct.visit_times(protocol, replicate=trial.cohort.replicate, subject=trial.cohort.subject)
        self.patients = patients(
            setting.model, setting.draws, trial.cohort, seed=setting.seed,
            borders=conduct.occasions(protocol, self.times), until=float(self.times.max(initial=protocol.horizon)),
        )  # fmt: skip
        self.shape = trial.shape
        self.apart = modifiers.by_arm(protocol)
        self.made: dict[int, tuple[World, People]] = {}

    def people(self, world: World, code: int) -> People:
        """Everybody in an arm of a world; who takes what is asked again in every arm only where it depends on it."""
        held = [people for known, people in self.made.values() if known is world]
        if held and not self.apart:
            return held[0].in_arm(code)
        arm = np.full(self.shape, code, np.int64)
        found = modifiers.applied(self.setting, self.cohort, self.patients, arm=arm, world=world)
        people = people_of(self.setting, self.cohort, (arm, self.times), found)
        self.made = {**dict(list(self.made.items())[-1:]), id(world): (world, people)}  # the last two
        return people


def _may(protocol: Protocol, compared: Compared, arm: str) -> bool:
    """Whether anybody in the arm may take the comedication of a world."""
    plan = protocol.comedication.get(compared.comedication)
    return plan is None or not plan.arms or arm in plan.arms


def _log(x: Floats) -> Floats:
    """Logarithms with the same bits on every machine."""
    from pkpd.kernels.elementary import log_array

    return log_array(x)


def _exp(x: float) -> float:
    """Likewise its inverse."""
    from pkpd.kernels.elementary import exp_array

    return float(exp_array([x])[0])


Row = tuple[int, str, int, str, float, int]
"""replicate, group, level, measure, value, n"""


def _rows(setting: Setting, trial: Trial, compared: Compared, sides: tuple[People, People]) -> Iterator[Row]:
    """Everything measured of one world in one arm."""
    at = _visit(setting.protocol, compared)
    events = _doses(setting, sides[0], np.arange(sides[0].arm.size))
    seen = [_exposure(setting, people, events, at=at) for people in sides]
    courses = [follow(setting, people) for people in sides]
    fine = (courses[0].status == 0) & (courses[1].status == 0)
    who = _concerned(sides, compared) & fine
    measures: dict[str, Floats] = {}
    for name in exposures(setting):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = _log(seen[0][name] / seen[1][name])
        measures[f"ratio {name}"] = np.where(np.isfinite(ratio), ratio, np.nan)
    risks: dict[str, list[Flags]] = {
        name: [np.isfinite(course.onset[name]) for course in courses] for name in setting.model.events
    }
    if len(risks) > 1:
        risks[ANY] = [np.logical_or.reduce([pair[k] for pair in risks.values()]) for k in (0, 1)]
    detected = _monitored(setting, compared, sides, events)
    if "day found" in detected:
        detected["found before"] = _before(courses[0], detected["day found"], _begins(setting.protocol, compared))
    detected |= _adjusted(setting, compared, (sides[0], events), (seen[1], at))
    for (replicate, group, level), rows in _members(setting, trial, sides[0], who):
        address = (replicate, group, level)
        for name, log_ratio in measures.items():
            known = log_ratio[rows][np.isfinite(log_ratio[rows])]
            if known.size:
                low, high = np.quantile(known, (0.05, 0.95))
                for key, value in (("", known.mean()), (" low", low), (" high", high)):
                    yield (*address, f"{name}{key}", _exp(value), known.size)
        for name, pair in risks.items():
            for side, happened in zip(("with", "without"), pair, strict=True):
                yield (*address, f"{side} {name}", float(happened[rows].mean()), rows.size)
        yield from ((*address, *found) for found in _dose(setting, (sides[0], events), (seen[1], at), rows))
        for name, values in detected.items():
            known = values[rows][np.isfinite(values[rows])]
            if known.size:
                yield (*address, name, float(known.mean()), known.size)
    for replicate, share in _shares(trial, compared, setting):
        yield (replicate, "all", 0, "concerned", share, trial.shape[1])


def _begins(protocol: Protocol, compared: Compared) -> float:
    """When samples are counted from [h]."""
    return max(protocol.comedication[compared.comedication].from_, 0.0)


def _before(course: Course, day: Floats, begin: float) -> Floats:
    """Of those with a first adverse event after the beginning: 1 where a sample was out of limits before it."""
    first = np.min(list(course.onset.values()), axis=0, initial=np.inf)
    with np.errstate(invalid="ignore"):
        found = (begin + day * HOURS_PER_DAY < first).astype(np.float64)
    return np.where(np.isfinite(first) & (first > begin), found, np.nan)


def _adjusted(
    setting: Setting, compared: Compared, who: tuple[People, Events], reference: tuple[dict[str, Floats], int]
) -> dict[str, Floats]:
    """What the doses that the protocol's consequences name would do: events (m,), and log ratios of exposure to that
    without at the planned dose."""
    (people, events), (without, at), found = who, reference, {}
    name = compared.comedication or next(iter(compared.world.classes))
    rules = [rule for rule in setting.protocol.consequences.values() if not rule.among or name in rule.among]
    for factor in sorted({rule.dose for rule in rules if rule.dose is not None}):
        regimens = [setting.protocol.regimen(arm).scaled(factor) for arm in setting.protocol.arms]
        schedules = tuple(regimen.schedule(setting.model.dose_units) for regimen in regimens)
        course = follow(replace(setting, schedules=schedules), people)
        fine = course.status == 0
        happened = {key: np.isfinite(onset) for key, onset in course.onset.items()}
        if len(happened) > 1:
            happened[ANY] = np.logical_or.reduce(list(happened.values()))
        for key, flags in happened.items():
            found[f"adjusted {factor:g} {key}"] = np.where(fine, flags, np.nan)
        for key, value in _exposure(setting, people, _scaled(events, factor), at=at).items():
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = _log(value / without[key])
            found[f"adjusted {factor:g} log {key}"] = np.where(np.isfinite(ratio), ratio, np.nan)
    return found


def _visit(protocol: Protocol, compared: Compared) -> int:
    """The last visit while the comedication is taken, else the last."""
    days = [protocol.visits[name].day * HOURS_PER_DAY for name in protocol.visit_names]
    if not compared.comedication:
        return len(days) - 1
    plan = protocol.comedication[compared.comedication]
    later = [k for k, t in enumerate(days) if t > max(plan.from_, 0.0)]
    inside = [k for k in later if plan.until is None or days[k] <= plan.until]
    if inside:
        return inside[-1]
    return later[0] if plan.until is not None else len(days) - 1  # between two visits: the first that sees its tail


def _doses(setting: Setting, people: People, rows: Rows) -> Events:
    """Planned doses as taken, without rules and stops."""
    return dosing(setting, people, (rows, np.full(rows.size, np.inf)))


def _exposure(
    setting: Setting, people: People, events: Events, *, at: int, rows: Rows | None = None
) -> dict[str, Floats]:
    """Exposure at a visit (m,) by measure."""
    mine = np.arange(people.arm.size) if rows is None else rows
    found = latent.at_times(setting, people, mine, (events, people.times[mine, at : at + 1]))
    return {name: found[name][:, 0] for name in exposures(setting)}


def _concerned(sides: tuple[People, People], compared: Compared) -> Flags:
    """Whom the world differs for: who would take the comedication, everybody for a class of impairment."""
    if not compared.comedication:
        return np.ones(sides[0].arm.size, np.bool_)
    return np.asarray(sides[0].covariates[f"comedication.{compared.comedication}"] > 0)


def _shares(trial: Trial, compared: Compared, setting: Setting) -> Iterator[tuple[int, float]]:
    """Share of each simulated trial's subjects who take it, or have a condition of that class."""
    if compared.comedication:
        mine = trial.people.covariates[f"comedication.{compared.comedication}"] > 0
    else:
        (name, code), *_ = compared.world.classes.items()
        mine = trial.people.covariates[setting.protocol.conditions[name].covariate] == code
    for place, replicate in enumerate(trial.cohort.replicate.tolist()):
        yield replicate, float(mine.reshape(trial.shape)[place].mean())


def groups(protocol: Protocol, names: Mapping[str, Any]) -> tuple[str, ...]:
    """Covariates that split people: phenotypes of genes, impairment, what changes activity."""
    found = [
        f"{gene}_PHENOTYPE" for gene in (protocol.population.genotype.genes if protocol.population.genotype else ())
    ]
    found += [plan.covariate for plan in protocol.conditions.values()]
    found += [covariate for plan in protocol.comedication.values() for by in plan.activity.values() for covariate in by]
    return tuple(dict.fromkeys(name for name in found if name in names))


def _members(setting: Setting, trial: Trial, people: People, who: Flags) -> Iterator[tuple[tuple[int, str, int], Rows]]:
    """((replicate, group, level), rows) of all and of every group."""
    size = trial.shape[1]
    for place, replicate in enumerate(trial.cohort.replicate.tolist()):
        mine = place * size + np.flatnonzero(who[place * size : (place + 1) * size])
        if mine.size:
            yield (replicate, "all", 0), mine
        for name in groups(setting.protocol, people.covariates):
            codes = people.covariates[name][mine]
            levels = np.unique(codes[np.isfinite(codes)])
            for level in levels if levels.size > 1 else ():
                yield (replicate, name, int(level)), mine[codes == level]


def _dose(
    setting: Setting, who: tuple[People, Events], aim: tuple[dict[str, Floats], int], rows: Rows
) -> Iterator[tuple[str, float, int]]:
    """Factor of all doses at which the mean log exposure of rows is as without, and who is then within the band."""
    (people, events), (reference, at), name = who, aim, exposures(setting)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = _log(reference[name][rows])
    mine, log_factor, off = events.subjects(rows), 0.0, np.empty(0)
    inside = np.isfinite(goal)
    for turn in range(ROUNDS):
        with np.errstate(divide="ignore", invalid="ignore"):
            now = _log(_exposure(setting, people, _scaled(mine, _exp(log_factor)), at=at, rows=rows)[name])
            off = now - goal
        known = inside & np.isfinite(off)
        if not known.any():
            return
        if turn == 0:
            yield "within as planned", _within(off[known]), int(known.sum())
        if abs(off[known].mean()) < CLOSE:
            yield "dose", _exp(log_factor), int(known.sum())
            yield "within adjusted", _within(off[known]), int(known.sum())
            return
        log_factor -= float(off[known].mean())
    yield "dose", float("nan"), 0


def _within(off: Floats) -> float:
    return float(((off >= np.log(BAND[0])) & (off <= np.log(BAND[1]))).mean())


def _scaled(events: Events, factor: float) -> Events:
    """All amounts times a factor; of infusions the rate, not the duration."""
    rate = np.where(events.rate > 0.0, events.rate * factor, events.rate)
    return replace(events, amount=events.amount * factor, rate=rate)


def _monitored(setting: Setting, compared: Compared, sides: tuple[People, People], events: Events) -> dict[str, Floats]:
    """What samples on the days of the plan find: by each day whether one was out of limits (with and without), and of
    those found the day; (m,) each, NaN where nothing can be said."""
    plan = setting.protocol.comedication[compared.comedication].monitor if compared.comedication else None
    if plan is None:
        return {}
    begin, found = _begins(setting.protocol, compared), {}
    for side, people in zip(("found", "false"), sides, strict=True):
        out = _out_of_limits(setting, people, (events, begin), plan)
        for k, day in enumerate(plan.days):
            found[f"{side} by {day:g}"] = out[:, : k + 1].any(axis=1).astype(np.float64)
        if side == "found":
            first = np.array(plan.days)[np.argmax(out, axis=1)]
            found["day found"] = np.where(out.any(axis=1), first, np.nan)
    return found


def _out_of_limits(setting: Setting, people: People, given: tuple[Events, float], plan: Monitor) -> Flags:
    """Whether each sample, measured with error, is out of limits (m, K)."""
    from pkpd import residual
    from trials import measured
    from trials.quantification import reported
    from trials.switching import limits

    (events, begin), m = given, people.arm.size
    times = np.broadcast_to(begin + np.array(plan.days) * HOURS_PER_DAY, (m, len(plan.days)))
    output = setting.model.outputs[plan.measure]
    true = latent.at_times(setting, people, np.arange(m), (events, np.ascontiguousarray(times)))[str(output.is_)]
    index = np.arange(len(plan.days), dtype=np.uint32) + np.uint32(1_000_000)  # apart from the visits
    z = measured.errors(setting, subject=people.subject[:, None], replicate=people.replicate[:, None], visit=index,
                        draw=people.draw[:, None])  # fmt: skip
    error = residual.taken(residual.error_of(setting.model, setting.draws, plan.measure), people.draw, (1,))
    seen = reported(setting, plan.measure, residual.observe(error, true, z[plan.measure]))
    below, above = limits(plan, setting.model)
    with np.errstate(invalid="ignore"):
        return np.asarray((seen < below) | (seen > above))
