"""How comedication and impairment enter a trial: factors of individual parameters, at one place, by draw and by person.

A comedication leaves of enzyme e the activity left_e. Of a person whose pathway has activity g_e (genotype, smoking,
liver; 1: the person fm holds for) it takes the share loss = sum fm_e g_e (1 - left_e) / (1 - sum fm_e (1 - g_e)) of the
clearance that this person has: nothing where g is 0 (phenoconversion). Clearance times 1 - level loss, level 0 before
it begins, 1 at its full effect. Other parameters take their power of the exposure ratio 1/(1 - level loss). A drug of
the library whose course is its kinetics has a level of each enzyme in each draw (`trials.pair_course`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals, slots, uniforms

if TYPE_CHECKING:
    from pkpd.model.timeline import Timeline
    from populations.cohort import Cohort
    from populations.patients import Patients
    from trials.comedication import Comedication, Condition
    from trials.protocol import Protocol
    from trials.setting import Setting

__all__ = ["DRAWS", "Effects", "World", "applied", "by_arm", "drawn", "lost", "profile", "refined"]

Floats = NDArray[np.float64]
Effects = dict[str, dict[str, Floats]]
"""Drawn effects by name: of a comedication fm and left (D, E), with its kinetics time [h since it began], first (share
of first pass) and `level.ENZYME` (D, T); of a condition `parameter.class` (D,)."""

DRAWS = 400
LEAST_LEFT = 0.002  # of a clearance: the library's shares sum to 0.995 at most
STEPS = 14  # of half a half-life each, in which an effect comes or goes
NORMAL_975 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is otherwise than in the trial: who takes what, {comedication: all who may (True) or nobody}; {condition:
    code of the class that everybody is in}; timed: comedications at whose times parameters are looked at again, of all
    or of these (two worlds with the same ones have the same steps, so that equal people have equal bits).
    """

    taken: Mapping[str, bool] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    timed: tuple[str, ...] | None = None


def enzymes_of(plan: Comedication) -> tuple[str, ...]:
    """Enzymes a comedication acts on, in the order of its columns."""
    if plan.drug is None:
        return tuple(plan.fm) or ("",)
    from pkpd.interactions.library import drugs

    perpetrator, victim = drugs()[plan.drug].perpetrator, drugs()[str(plan.victim)].victim
    assert perpetrator is not None
    assert victim is not None
    acted = {act.enzyme for entity in perpetrator.entities for act in entity.acts}
    return tuple(pathway.enzyme for pathway in victim.pathways if pathway.enzyme in acted)


def drawn(protocol: Protocol, *, median: bool = False) -> Effects:
    """Draws of all effects of a protocol; at their median, one draw. Nothing without the blocks."""
    made: Effects = {name: _of_comedication(plan, name, protocol) for name, plan in protocol.comedication.items()}
    made |= {name: _of_condition(plan, name, protocol.seed) for name, plan in protocol.conditions.items()}
    if not median:
        return made
    return {
        name: {key: np.median(x, axis=0, keepdims=True) for key, x in parts.items()} for name, parts in made.items()
    }


def _of_comedication(plan: Comedication, name: str, protocol: Protocol) -> dict[str, Floats]:
    seed = protocol.seed
    if plan.drug is not None:
        from trials.pairs import pair

        names = plan.drug, str(plan.victim)
        if plan.course == "kinetics":
            return _over_time(plan, names, protocol)
        found = pair(names, plan.regimen, draws=DRAWS, seed=seed, apart=plan.apart)
        if found.enzymes != enzymes_of(plan):
            raise AssertionError(f"{name}: enzymes {found.enzymes}")
        return {"fm": found.fm, "left": found.left}
    assert plan.clearance is not None
    factor = _factor(plan.clearance, plan.interval, name, seed)[:, None]
    share = np.array([list(plan.fm.values()) or [1.0]])
    fm = share * np.maximum(1.0, (1.0 - factor) / share.sum())  # at least what is lost
    return {"fm": fm, "left": np.broadcast_to(1.0 - (1.0 - factor) / fm.sum(axis=1, keepdims=True), fm.shape).copy()}


def _over_time(plan: Comedication, names: tuple[str, str], protocol: Protocol) -> dict[str, Floats]:
    from trials.pair_course import Times, over_time

    lasts = np.inf if plan.until is None else plan.until - plan.from_
    times = Times(lasts=lasts, until=protocol.horizon - plan.from_, every=_every(protocol, plan), apart=plan.apart)
    found = over_time(names, plan.regimen, times, draws=DRAWS, seed=protocol.seed)
    if found.steady.enzymes != enzymes_of(plan):
        raise AssertionError(f"{names}: enzymes {found.steady.enzymes}")
    levels = {f"level.{enzyme}": found.level[:, k] for k, enzyme in enumerate(found.steady.enzymes)}
    time = np.broadcast_to(found.time, found.first.shape).copy()
    return {"fm": found.steady.fm, "left": found.steady.left, "time": time, "first": found.first, **levels}


def _every(protocol: Protocol, plan: Comedication) -> float | None:
    """The shortest interval between doses of the trial's drug in the arms concerned."""
    arms = [protocol.arms[name] for name in plan.arms or protocol.arms]
    return min((dose.every for arm in arms for dose in arm.regimen if dose.every is not None), default=None)


def by_arm(protocol: Protocol) -> bool:
    """Whether who takes what depends on the arm."""
    return any(plan.arms for plan in protocol.comedication.values())


def _of_condition(plan: Condition, name: str, seed: int) -> dict[str, Floats]:
    return {
        f"{parameter}.{kind}": _factor(
            value, plan.intervals.get(parameter, {}).get(kind), f"{name}.{parameter}.{kind}", seed
        )
        for parameter, factors in plan.parameters.items()
        for kind, value in factors.items()
    }


def _factor(value: float, interval: tuple[float, float] | None, name: str, seed: int) -> Floats:
    """Log-normal draws (D,) with that median and 95 % interval; the value itself without one."""
    if interval is None:
        return np.full(DRAWS, value)
    z = normals(seed, Purpose.COMEDICATION, subject=np.arange(DRAWS), replicate=0, slot=slots([name]))
    sd = np.log(interval[1] / interval[0]) / (2.0 * NORMAL_975)
    return np.asarray(value * np.exp(sd * z))


def lost(fm: Floats, left: Floats, activity: Floats) -> Floats:
    """Share of a person's own clearance that a comedication takes (negative: adds), over the last axis (enzymes).

    >>> float(lost(np.array([0.8]), np.array([0.25]), np.array([1.0])))
    0.6000000000000001
    >>> float(lost(np.array([0.8]), np.array([0.25]), np.array([0.0])))
    0.0
    """
    taken = fm * activity * (1.0 - left)
    rest = 1.0 - (fm * (1.0 - activity)).sum(axis=-1)
    return np.asarray(taken.sum(axis=-1) / np.where(rest > 1e-12, rest, 1.0))  # who has no pathway loses nothing


def profile(plan: Comedication) -> tuple[Floats, Floats]:
    """Times [h] from which a level (0 none, 1 full effect) holds, the first -inf; the mean level of each step.

    >>> from trials.comedication import Comedication
    >>> [x.tolist() for x in profile(Comedication(parameters={"CL": -1.0}, clearance=0.5, from_=24.0, until=48.0))]
    [[-inf, 24.0, 48.0], [0.0, 1.0, 0.0]]
    """
    until = np.inf if plan.until is None else plan.until
    steps = [(-np.inf, 0.0)]
    reached = _moved(plan, steps, (plan.from_, until), (0.0, 1.0))
    if np.isfinite(until):
        _moved(plan, steps, (until, np.inf), (reached, 0.0))
    if plan.from_ <= 0.0 and plan.half_life is None:  # at its full effect from the beginning
        steps = [(-np.inf, steps[1][1]), *steps[2:]]
    times, levels = zip(*steps, strict=True)
    return np.array(times), np.array(levels)


def _moved(
    plan: Comedication, steps: list[tuple[float, float]], when: tuple[float, float], way: tuple[float, float]
) -> float:
    """Steps of a level on its way (from, to) while `when` (from, until) lasts, added to `steps`; the level then."""
    (start, end), (here, aim) = when, way
    if plan.half_life is None:
        steps.append((start, aim))
        return aim
    size = 0.5 * plan.half_life
    for k in range(STEPS):
        at = start + k * size
        if at >= end:
            return here
        part = min(1.0, (end - at) / size)  # the last one may be cut short
        left = 0.5 ** (0.5 * part)
        steps.append((at, float(aim + (here - aim) * (1.0 - left) / (0.5 * part * np.log(2.0)))))
        here = aim + (here - aim) * left
    if start + STEPS * size < end:
        steps.append((start + STEPS * size, aim))
        here = aim
    return here


def applied(
    setting: Setting,
    cohort: Cohort,
    drawn: Patients,
    *,
    arm: NDArray[np.int64] | None = None,
    world: World | None = None,
) -> Patients:
    """The patients with their comedication and impairment: parameters changed, new covariates among `classes`; arm
    codes (R, N) are needed where comedication is `by_arm`.

    Covariates: `comedication.NAME` 1 for who takes it, and the class of every condition. Without the blocks: as they
    are. Which draw of the effects a replicate takes has its own address, the same for all effects.
    """
    protocol, effects = setting.protocol, setting.effects
    if not effects:
        return drawn
    world = world or World()
    size = len(next(iter(next(iter(effects.values())).values())))
    u = uniforms(setting.seed, Purpose.COMEDICATION, subject=0, replicate=cohort.replicate, index=1)
    row = np.minimum(np.floor(u * size), size - 1).astype(np.int64)
    codes = {name: _class(setting, cohort, name, world) for name in protocol.conditions}
    known = {**cohort.covariates, **drawn.classes}
    known |= {protocol.conditions[name].covariate: code for name, code in codes.items()}
    taking = {name: _takes(setting, cohort, (name, known, arm), world) for name in protocol.comedication}
    line, parent = refined(drawn.line, _borders(setting, world))
    rows = drawn.rows[parent].copy()
    column = {name: k for k, name in enumerate(setting.model.parameters)}
    for name, plan in protocol.conditions.items():
        for parameter, factor in _by_class(plan, effects[name], codes[name], row).items():
            rows[:, column[parameter]] *= factor.reshape(-1)[line.subject]
    for name, comedication in protocol.comedication.items():
        kept, first = _kept(comedication, effects[name], (taking[name], known, row), line)
        for parameter, power in comedication.parameters.items():
            rows[:, column[parameter]] *= _power(kept, power, first)
    classes = {**drawn.classes, **{protocol.conditions[name].covariate: code for name, code in codes.items()}}
    classes |= {f"comedication.{name}": value for name, value in taking.items()}
    start = rows[line.offsets[:-1]].reshape(drawn.parameters.shape)
    return replace(drawn, parameters=start, classes=classes, line=line, rows=rows)


def _power(kept: Floats, power: float | str, first: Floats) -> Floats:
    """That power of the exposure ratio 1/kept; of first pass its share `first`, of clearance the rest, inverted."""
    from pkpd.kernels.elementary import power_array

    if isinstance(power, str):
        return power_array(kept, -first if power == "first_pass" else 1.0 - first)
    return kept if power == -1.0 else power_array(kept, np.asarray(-power))


def _kept(
    plan: Comedication,
    effect: Mapping[str, Floats],
    who: tuple[Floats, Mapping[str, Floats], NDArray[np.int64]],
    line: Timeline,
) -> tuple[Floats, Floats]:
    """What is left of everybody's clearance in each row of the timeline, and the share of first pass in its loss."""
    taking, known, row = who
    if plan.course == "steady":
        loss = taking * _loss(plan, effect, known, row)
        return 1.0 - _level(plan, line.time) * loss.reshape(-1)[line.subject], np.zeros(1)
    begins = plan.from_ + effect["time"][0]  # the very numbers of the borders
    place = np.searchsorted(begins, np.maximum(line.time, 0.0), side="right") - 1
    before, place = place < 0, np.maximum(place, 0)
    draw = np.repeat(row, taking.shape[1])[line.subject]
    lost_now = np.zeros(line.time.size)
    for number, enzyme in enumerate(enzymes_of(plan)):
        each = taking * _loss(plan, effect, known, row, only=number)
        level = np.where(before, 0.0, effect[f"level.{enzyme}"][draw, place])
        lost_now += level * each.reshape(-1)[line.subject]
    return np.maximum(1.0 - lost_now, LEAST_LEFT), effect["first"][draw, place]


def _class(setting: Setting, cohort: Cohort, name: str, world: World) -> Floats:
    """Code of everybody's class (R, N)."""
    from trials.comedication import EGFR

    plan, shape = setting.protocol.conditions[name], (cohort.replicate.size, cohort.subject.size)
    if name in world.classes:
        return np.full(shape, float(world.classes[name]))
    if plan.scale == "egfr":
        value = cohort.covariates["EGFR"]
        return np.asarray(sum((value < limit).astype(np.float64) for limit in EGFR))
    u = uniforms(setting.seed, Purpose.IMPAIRMENT, subject=cohort.subject[None, :],
                 replicate=cohort.replicate[:, None], slot=slots([plan.covariate]))  # fmt: skip
    edges = np.cumsum([1.0 - sum(plan.shares.values()), *(plan.shares.get(kind, 0.0) for kind in plan.classes)])
    return np.minimum(np.searchsorted(edges, u, side="right"), len(plan.classes)).astype(np.float64)


def _takes(
    setting: Setting,
    cohort: Cohort,
    who: tuple[str, Mapping[str, Floats], NDArray[np.int64] | None],
    world: World,
) -> Floats:
    """1 for everybody who takes a comedication (R, N)."""
    (name, known, arm), shape = who, (cohort.replicate.size, cohort.subject.size)
    plan, protocol = setting.protocol.comedication[name], setting.protocol
    asked, share = _asked(plan.who, known, shape), np.full(shape, plan.share)
    if plan.arms:
        if arm is None:
            raise AssertionError(f"{name}: taken by arm, and no arms")
        asked = np.zeros(shape)
        for code, here in enumerate(protocol.arms):
            if here in plan.arms:
                own = plan.arms[here]
                mine = _asked(plan.who if own.who is None else own.who, known, shape)
                asked = np.where(arm == code, mine, asked)
                share = np.where(arm == code, plan.share if own.share is None else own.share, share)
    if name in world.taken:
        return asked * float(world.taken[name])
    u = uniforms(setting.seed, Purpose.COMEDICATION, subject=cohort.subject[None, :],
                 replicate=cohort.replicate[:, None], index=2, slot=slots([name]))  # fmt: skip
    return np.asarray(asked * (u < share))


def _asked(who: str | None, known: Mapping[str, Floats], shape: tuple[int, int]) -> Floats:
    """1 for everybody who meets a condition on covariates (R, N)."""
    from pkpd.model import equations

    if who is None:
        return np.ones(shape)
    return np.broadcast_to(equations.evaluate(equations.expression(who), known), shape).astype(np.float64)


def _loss(
    plan: Comedication,
    effect: Mapping[str, Floats],
    known: Mapping[str, Floats],
    row: NDArray[np.int64],
    *,
    only: int | None = None,
) -> Floats:
    """Share of everybody's clearance lost at full effect (R, N); by one of the enzymes, of all that it has."""
    shape = next(iter(known.values())).shape
    activity = []
    for enzyme in enzymes_of(plan):
        g = known.get(f"{enzyme}_ACTIVITY", np.ones(shape))
        for covariate, factors in plan.activity.get(enzyme, {}).items():
            for code, factor in factors.items():
                g = np.where(known[covariate] == code, g * factor, g)
        activity.append(g)
    left = effect["left"][row][:, None, :]
    if only is not None:  # the others untouched
        left = np.where(np.arange(left.shape[-1]) == only, left, 1.0)
    return lost(effect["fm"][row][:, None, :], left, np.stack(activity, axis=-1))


def _by_class(plan: Condition, effect: Mapping[str, Floats], code: Floats, row: NDArray[np.int64]) -> dict[str, Floats]:
    """{parameter: factor (R, N)} of a condition; 1 for class 0 and classes without a factor."""
    found: dict[str, Floats] = {}
    for parameter, factors in plan.parameters.items():
        value = np.ones(code.shape)
        for kind in factors:
            here = code == plan.classes.index(kind) + 1
            value = np.where(here, effect[f"{parameter}.{kind}"][row][:, None], value)
        found[parameter] = value
    return found


def _borders(setting: Setting, world: World) -> Floats:
    """Times at which some comedication's level changes, ascending."""
    plans = setting.protocol.comedication
    timed = plans if world.timed is None else world.timed
    times = [_changes(plans[name], setting.effects[name]) for name in timed]
    found = np.unique(np.concatenate(times)) if times else np.empty(0)
    return found[np.isfinite(found)]


def _changes(plan: Comedication, effect: Mapping[str, Floats]) -> Floats:
    """Times at which a comedication's level changes; before the trial there is nothing to change."""
    if plan.course == "steady" and plan.from_ >= 0.0:
        return profile(plan)[0]
    times = profile(plan)[0] if plan.course == "steady" else plan.from_ + effect["time"][0]
    return np.asarray(times[times > 0.0])


def _level(plan: Comedication, time: Floats) -> Floats:
    times, levels = profile(plan)
    when = time if plan.from_ >= 0.0 else np.maximum(time, 0.0)
    return np.asarray(levels[np.searchsorted(times, when, side="right") - 1])


def refined(line: Timeline, borders: Floats) -> tuple[Timeline, NDArray[np.int64]]:
    """The timeline with a row of everybody at each border too, and the row of the old one that each row continues."""
    from pkpd.model.timeline import Timeline

    if not borders.size:
        return line, np.arange(line.time.size)
    n, m = len(line), line.time.size
    who = np.concatenate([line.subject, np.repeat(np.arange(n), borders.size)])
    when = np.concatenate([line.time, np.tile(borders, n)])
    old = np.concatenate([np.arange(m), np.full(n * borders.size, -1)])
    order = np.lexsort((-old, when, who))  # of equal times the old row first
    parent = np.maximum.accumulate(old[order])
    again = np.concatenate([[False], (who[order][1:] == who[order][:-1]) & (when[order][1:] == when[order][:-1])])
    kept = ~again | (old[order] >= 0)
    time, parent, owner, own = when[order][kept], parent[kept], who[order][kept], old[order][kept] >= 0
    with np.errstate(invalid="ignore"):  # the first row of everybody is at -inf
        values = line.at(parent, time)
    made = Timeline(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n))]).astype(np.int64), time=time,
        late=line.late[parent] & own, values=values,
        slopes={name: value[parent] for name, value in line.slopes.items()}, occasion=line.occasion[parent],
    )  # fmt: skip
    return made, parent
