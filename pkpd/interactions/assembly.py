"""From drugs and courses to arrays, and from a parameter vector to what it means there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.interactions.course import Course, Given, grid
from pkpd.interactions.drug import Act, Drug, Victim, average, concentrations
from pkpd.interactions.dynamic import Batch, Outcome, Quantities, Tracks, solve
from pkpd.interactions.model import Layout

__all__ = ["Assembly", "assemble", "predict", "quantities"]

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
WALL: Final = ("CYP3A4",)  # enzymes of the gut wall that victims meet here
TINY: Final = 1e-300
REACH: Final = 0.5
MOST: Final = 0.995  # the largest sum of shares of named enzymes


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A batch and where its parameters stand: potency (2: mechanism, drug; M, T), gut (2: all, drug; M, T), emax (M,
    T), kdeg
    (2: liver, gut; T), fm (R, P) with multipliers of the genotype, fg, extraction (R,), link: row, pathway, in the
    wall (L,)."""

    batch: Batch
    potency: Index
    gut: Index
    emax: Index
    longer: Index
    kdeg: Index
    fm: Index
    multiplier: Floats
    fg: Index
    extraction: Index
    link: tuple[Index, Index, NDArray[np.bool_]]
    row_of_track: Index
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Schedule:
    nodes: Floats
    first: int
    perpetrators: tuple[Given, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """An entity that acts on a track's enzyme."""

    inlet: Floats
    gut: Floats
    act: Act
    drug: str
    mechanism: str


def assemble(courses: Sequence[Course], drugs: Mapping[str, Drug], of: Layout, *, share: bool = True) -> Assembly:
    """Arrays of the courses. share: rows of equal perpetrators and times share their tracks. Errors: InputError, a
    drug the library
    does not have in that part."""
    for course in courses:
        _known(course, drugs)
    schedules, which = _schedules(courses, drugs, share=share)
    enzymes = [{p.enzyme for p in _victim(drugs, c).pathways} for c in courses]
    wanted: list[set[str]] = [set() for _ in schedules]
    for k, names in zip(which, enzymes):
        wanted[k] |= names
    slots = {
        (s, enzyme): found
        for s, schedule in enumerate(schedules)
        for enzyme, found in _slots(schedule, drugs, wanted[s]).items()
    }
    return _arrays((courses, drugs, of), (schedules, which), slots)


def _known(course: Course, drugs: Mapping[str, Drug]) -> None:
    for name, part in ((course.victim, "victim"), *((g.drug, "perpetrator") for g in course.perpetrators)):
        if name not in drugs or getattr(drugs[name], part) is None:
            raise InputError(f"is not in the library as {part}", value=name, remedy=nearest(name, drugs))


def _victim(drugs: Mapping[str, Drug], course: Course) -> Victim:
    who = drugs[course.victim].victim
    assert who is not None
    return who


def _schedules(
    courses: Sequence[Course], drugs: Mapping[str, Drug], *, share: bool
) -> tuple[list[_Schedule], list[int]]:
    keys = [(c.perpetrators, c.doses, c.window, c.control) if share else (k,) for k, c in enumerate(courses)]
    longest: dict[object, float] = {}
    for key, course in zip(keys, courses):
        longest[key] = max(longest.get(key, 0.0), _victim(drugs, course).half_life.value)
    order = {key: k for k, key in enumerate(longest)}
    made: list[_Schedule | None] = [None] * len(order)
    for key, course in zip(keys, courses):
        if made[order[key]] is None:
            nodes, first = grid(course, longest[key])
            made[order[key]] = _Schedule(nodes=nodes, first=first, perpetrators=course.perpetrators)
    return [m for m in made if m is not None], [order[key] for key in keys]


def _slots(schedule: _Schedule, drugs: Mapping[str, Drug], wanted: set[str]) -> dict[str, list[_Slot]]:
    middle = 0.5 * (schedule.nodes[1:] + schedule.nodes[:-1])
    found: dict[str, list[_Slot]] = {}
    for given in schedule.perpetrators:
        who = drugs[given.drug].perpetrator
        assert who is not None
        doses = np.array(given.times), np.array(given.amounts)
        inlet, gut = _profiles(drugs[given.drug], middle, doses, intravenous=given.intravenous)
        for e, entity in enumerate(who.entities):
            for act in entity.acts:
                if act.enzyme in wanted:
                    slot = _Slot(
                        inlet=inlet[:, e], gut=gut[:, e], act=act.at(average(who, entity)), drug=given.drug,
                        mechanism=act.mechanism,
                    )  # fmt: skip
                    found.setdefault(act.enzyme, []).append(slot)
    return found


def _profiles(drug: Drug, middle: Floats, doses: tuple[Floats, Floats], *, intravenous: bool) -> tuple[Floats, Floats]:
    """Coefficients (3, entity, time) of the log concentration in the log factor of half-lives, through -REACH, 0,
    REACH."""
    shorter, here, longer = (
        np.log(np.maximum(concentrations(drug, middle, doses, intravenous=intravenous, longer=np.exp(z)), TINY))
        for z in (-REACH, 0.0, REACH)
    )
    curve = np.array([here, (longer - shorter) / (2 * REACH), (longer + shorter - 2 * here) / (2 * REACH**2)])
    return curve[:, 0], curve[:, 1]


def _arrays(
    what: tuple[Sequence[Course], Mapping[str, Drug], Layout],
    when: tuple[list[_Schedule], list[int]], slots: dict[tuple[int, str], list[_Slot]],
) -> Assembly:  # fmt: skip
    (courses, drugs, of), (schedules, which) = what, when
    steps = max(s.nodes.size - 1 for s in schedules)
    begin = steps - max(s.nodes.size - 1 - s.first for s in schedules)
    tracks, places = _tracks(schedules, slots, of, steps)
    keys, victims = list(slots), [_victim(drugs, c) for c in courses]
    links = [
        (r, keys.index((which[r], p.enzyme)), k, p.enzyme in WALL)
        for r, who in enumerate(victims) for k, p in enumerate(who.pathways) if (which[r], p.enzyme) in slots
    ]  # fmt: skip
    table = np.array([link[:3] for link in links], dtype=np.int64).reshape(-1, 3)
    firsts = np.array([which.index(s) for s, _ in keys], dtype=np.int64)
    batch = Batch(
        step=_padded([np.diff(s.nodes) for s in schedules], steps), tracks=tracks, schedule=np.array(which),
        begin=begin, links=_rounds(table), **_rows((courses, drugs), (schedules, which), steps),
    )  # fmt: skip
    return Assembly(
        batch=batch, link=(table[:, 0], table[:, 2], np.array([link[3] for link in links], dtype=bool)),
        row_of_track=firsts, size=len(of.names), **places, **_shares((courses, victims), of),
    )  # fmt: skip


def _padded(columns: list[Floats], steps: int) -> Floats:
    """Columns under each other at the end of `steps` rows; zeros before."""
    made = np.zeros((steps, len(columns)))
    for k, column in enumerate(columns):
        made[steps - column.size :, k] = column
    return made


def _rounds(table: Index) -> tuple[tuple[Index, Index, Index], ...]:
    """Links in rounds in which no row is twice."""
    if not len(table):
        return ()
    turn = np.array([int((table[:k, 0] == row).sum()) for k, row in enumerate(table[:, 0])])
    here = np.arange(len(table))
    return tuple((table[turn == t, 0], table[turn == t, 1], here[turn == t]) for t in range(turn.max() + 1))


def _tracks(
    schedules: list[_Schedule], slots: dict[tuple[int, str], list[_Slot]], of: Layout, steps: int
) -> tuple[Tracks, dict[str, Any]]:
    many, deep = len(slots), max((len(s) for s in slots.values()), default=1)
    inlet, gut = np.zeros((2, 3, steps, deep, many))
    inlet[0], gut[0] = np.log(TINY), np.log(TINY)
    constants = {
        "ki": np.inf, "kinact": 0.0, "ki_inactivation": np.inf, "emax": 0.0, "ec50": np.inf,
    }  # fmt: skip
    made = {name: np.full((deep, many), value) for name, value in constants.items()}
    nothing = len(of.names)
    potency, wall = np.full((2, 2, deep, many), nothing)
    emax, longer = np.full((2, deep, many), nothing)
    kdeg = np.full((2, many), nothing)
    for t, ((_, enzyme), found) in enumerate(slots.items()):
        kdeg[:, t] = of.at(f"kdeg:{enzyme}:liver"), of.at(f"kdeg:{enzyme}:gut")
        for m, slot in enumerate(found):
            begin = steps - slot.inlet.shape[1]
            inlet[:, begin:, m, t], gut[:, begin:, m, t] = slot.inlet, slot.gut
            for name, column in made.items():
                column[m, t] = getattr(slot.act, name)
            potency[:, m, t] = of.at(f"mech:{slot.mechanism}"), of.at(f"potency:{slot.drug}:{enzyme}")
            wall[:, m, t] = of.at("gut"), of.at(f"gut:{slot.drug}")
            emax[m, t], longer[m, t] = of.at(f"emax:{slot.drug}:{enzyme}"), of.at(f"half_life:{slot.drug}")
    schedule = np.array([s for s, _ in slots], dtype=np.int64)
    tracks = Tracks(schedule=schedule, inlet=inlet, gut=gut, **made)
    return tracks, {"potency": potency, "gut": wall, "emax": emax, "longer": longer, "kdeg": kdeg}


def _rows(
    what: tuple[Sequence[Course], Mapping[str, Drug]], when: tuple[list[_Schedule], list[int]], steps: int
) -> dict[str, Any]:
    (courses, drugs), (schedules, which) = what, when
    victims = [_victim(drugs, c) for c in courses]
    doses: list[Floats] = []
    treated: list[Floats] = []
    control: list[Floats] = []
    for course, s in zip(courses, which):
        nodes = schedules[s].nodes
        start, stop = course.window
        other = stop if course.control is None else start + course.control
        doses.append(np.isin(np.round(nodes[:-1], 6), np.round(course.doses, 6)).astype(float))
        for kept, end in ((treated, stop), (control, other)):
            kept.append(((nodes[:-1] >= start - 1e-9) & (nodes[1:] <= end + 1e-9)).astype(float))
    endless = [[np.isinf(c.window[1]) for c in courses],
               [np.isinf(c.window[1] if c.control is None else c.control) for c in courses]]  # fmt: skip
    return {
        "dose": _padded(doses, steps),
        "windows": (_padded(treated, steps) > 0, _padded(control, steps) > 0), "endless": np.array(endless),
        "oral": np.array([c.oral for c in courses]), "ka": np.array([v.ka.value for v in victims]),
        "half_life": np.array([v.half_life.value for v in victims]),
        "renal": np.array([v.renal.value if v.renal else 0.0 for v in victims]),
    }  # fmt: skip


def _shares(who: tuple[Sequence[Course], list[Victim]], of: Layout) -> dict[str, Any]:
    courses, victims = who
    deep = max(len(v.pathways) for v in victims)
    fm, multiplier = np.full((len(courses), deep), -1), np.ones((len(courses), deep))
    for r, (course, victim) in enumerate(zip(courses, victims)):
        for k, p in enumerate(victim.pathways):
            fm[r, k], multiplier[r, k] = of.at(f"fm:{course.victim}:{p.enzyme}"), course.activity.get(p.enzyme, 1.0)
    places = {part: np.array([of.at(f"{part}:{c.victim}") for c in courses]) for part in ("fg", "extraction")}
    return {"fm": fm, "multiplier": multiplier, **places}


def quantities(a: Assembly, theta: Floats) -> Quantities:
    """theta (1 or R, D, n) on the scales of `Layout`."""
    full = np.concatenate([theta, np.zeros((*theta.shape[:2], 1))], axis=2)
    own = theta.shape[0] > 1
    row_of_track = a.row_of_track if own else np.zeros_like(a.row_of_track)
    row = np.arange(a.fg.size) if own else np.zeros(a.fg.size, dtype=np.int64)

    def track(places: Index) -> Floats:  # (..., T) -> (..., T, D)
        return np.asarray(full[row_of_track, :, places])

    potency = track(a.potency[0]) + track(a.potency[1])
    wall = track(a.gut[0]) + track(a.gut[1])
    shares = _expit(np.where(a.fm[..., None] >= 0, full[row[:, None], :, np.maximum(a.fm, 0)], -np.inf))
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True) / MOST, 1.0)
    present = 1.0 - shares.sum(axis=1) + (shares * a.multiplier[..., None]).sum(axis=1)
    own_share = shares * a.multiplier[..., None] / present[:, None]
    extraction = _expit(full[row, :, a.extraction])
    x = extraction / (1.0 - extraction) * present
    fg = np.where((a.fg < a.size)[:, None], _expit(full[row, :, a.fg]), 1.0)
    rows, paths, walled = a.link
    return Quantities(
        potency_liver=np.exp(potency), potency_gut=np.exp(potency + wall), emax=np.exp(track(a.emax)),
        longer=track(a.longer),
        kdeg_liver=np.exp(track(a.kdeg[0])), kdeg_gut=np.exp(track(a.kdeg[1])),
        fm=own_share[rows, paths], wall=np.broadcast_to(walled[:, None], own_share[rows, paths].shape).astype(float),
        fg=fg, extraction=x / (1.0 + x), speed=(x / (1.0 + x)) / extraction,
    )  # fmt: skip


def _expit(value: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-value)))


def predict(a: Assembly, theta: Floats) -> Outcome:
    """AUC and Cmax ratios (R, D) of theta (1 or R, D, n)."""
    return solve(a.batch, quantities(a, theta))
