"""A pair of the library over time: how the loss of clearance comes and goes with the perpetrator's own kinetics.

The dynamic model of `pkpd.interactions` (concentrations at liver and gut wall after every dose, turnover of the enzyme)
gives activities at any time. A step is one interval of doses: its loss is 1 minus the inverse of the AUC ratio of the
library's victim if this interval came again and again. So activities count when the victim is absorbed and while it is
there: for a slow victim that is the interval's mean, for a fast one the hours after its dose. At steady state it is the
ratio that `vtrial ddi` gives. Doses of the perpetrator lie `apart` hours before those of the victim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trials.pairs import APART, Drawn, Pair, alone, drawn, held, single

if TYPE_CHECKING:
    from pkpd.interactions.assembly import Assembly
    from pkpd.interactions.course import Course
    from pkpd.interactions.dynamic import Quantities

__all__ = ["Over", "Times", "course_of", "over_time"]

Floats = NDArray[np.float64]
SETTLED = 10.0  # of the slowest half-life, after which there is steady state
FEWEST, LONGEST = 240.0, 9600.0  # h until then
ALIKE = 0.012  # of the log exposure ratio, within which neighbouring steps are one
FINE = 6.0  # h between the starting points of the grid's nodes, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When what is given [h from the victim's dose beside which the perpetrator begins]: doses of the perpetrator while
    it lasts, steps until `until`; every: interval of the victim's doses (None: one a step); apart: see above."""

    lasts: float
    until: float
    every: float | None = None
    apart: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """steady: the pair at steady state; time (T,) [h] from which level (D, E, T) of the loss holds (1: as at steady
    state), the first 0; first (D, T): share of the log exposure ratio that is first pass, the rest is clearance."""

    steady: Pair
    time: Floats
    level: Floats
    first: Floats

    def ratio(self) -> Floats:
        """Exposure ratio of the reference person in each step (D, T)."""
        lost = (self.steady.fm * (1.0 - self.steady.left))[:, :, None] * self.level
        return np.asarray(1.0 / (1.0 - lost.sum(axis=1)))


@lru_cache(maxsize=16)
def over_time(names: tuple[str, str], regimen: str | None, times: Times, *, draws: int, seed: int) -> Over:
    """The pair names = (perpetrator, victim). Errors: InputError for what the library does not have."""
    return course_of(drawn(names, regimen, draws=draws, seed=seed), times)


def course_of(of: Drawn, times: Times) -> Over:
    """`over_time` of a pair that is drawn."""
    tau = of.regimen.interval
    apart = min(APART, 0.5 * tau) if times.apart is None else times.apart
    often = min(times.every or math.inf, tau, FINE)
    period = tau * max(1.0, round(min(times.every or tau, max(24.0, tau)) / tau))
    steady, factor = _steady(of, apart)
    course = _given(of, times, (apart, often))
    doses = np.arange(0.0, period - 1e-6, times.every or period)
    edges = np.arange(0.0, times.until + period, period)
    made, nodes = of.assembled(course), _nodes(of, course) - apart
    rises, whole, first = _rises(made, nodes, (edges, doses))
    fm, full = steady.fm, steady.fm * (1.0 - steady.left)  # (D, E)
    lost = _lost(rises, whole, factor[:, None]).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(full[:, :, None] != 0.0, lost / full[:, :, None], 0.0)
        most = np.where(full > 0.0, fm / full, np.inf)  # no more than all of the pathway
    level = np.minimum(level, most[:, :, None])
    size = -np.log1p(-(full[:, :, None] * level).sum(axis=1))
    begin = _joined(np.stack([size, size * first]))
    width = np.diff(np.append(begin, edges.size - 1))
    level, first = (np.add.reduceat(x, begin, axis=-1) / width for x in (level, first))
    return Over(steady=steady, time=edges[begin], level=level, first=first)


def _lost(rises: Floats, whole: Floats, factor: Floats) -> Floats:
    """Shares of clearance (E, D, T) that enzymes take: what each alone would, in proportion, so that they sum to what
    all of them take together; log ratios times a factor."""
    each, sum_ = -np.expm1(-rises * factor), -np.expm1(-whole * factor)
    total = each.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(np.abs(total) > 1e-6, np.clip(sum_ / total, 0.5, 2.0), 1.0)
    return np.asarray(each * scale)


def _steady(of: Drawn, apart: float) -> tuple[Pair, Floats]:
    """The pair at steady state, and the factor (D,) of log ratios: what pair and population add, and the last digits
    by which the grids differ."""
    from pkpd.interactions.dynamic import solve

    before = _many(of)
    course = single(of, before, apart)
    made = of.assembled(course)
    each, share = alone(of, made)
    joint = np.log(solve(made[0].batch, made[1]).auc[0])
    tau = of.regimen.interval
    edges = tau * (before - 1) + apart + np.array([0.0, tau])
    here = _rises(made, _nodes(of, course), (edges, np.zeros(1)))[1][:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.where(np.abs(here) > 1e-3, np.clip(joint / here, 0.8, 1.25), 1.0)
    return held(of, made, _lost(each[:, :, None], joint[:, None], share[:, None])[:, :, 0]), share * near


def _many(of: Drawn) -> int:
    """Doses until steady state: ten half-lives of what is slowest among the perpetrator's molecules and the enzymes,
    at their central values."""
    from pkpd.interactions.library import TURNOVER

    giver, taker = (of.library[name] for name in of.names)
    assert giver.perpetrator is not None
    assert taker.victim is not None
    slow = [entity.half_life.value for entity in giver.perpetrator.entities if entity.acts]
    acted = {act.enzyme for entity in giver.perpetrator.entities for act in entity.acts}
    for pathway in taker.victim.pathways:
        if pathway.enzyme in acted and pathway.enzyme in TURNOVER:
            slow.append(math.log(2.0) / min(TURNOVER[pathway.enzyme].liver, TURNOVER[pathway.enzyme].gut))
    return math.ceil(min(max(SETTLED * max(slow), FEWEST), LONGEST) / of.regimen.interval) + 1


def _given(of: Drawn, times: Times, when: tuple[float, float]) -> Course:
    """Doses of the perpetrator from time 0; a victim taken `apart` later and again and again, for the nodes."""
    from pkpd.interactions.course import Course, Given

    (apart, often), tau = when, of.regimen.interval
    count = max(1, math.ceil(min(times.lasts, times.until) / tau - 1e-9))
    doses = tuple((apart + np.arange(0.0, max(times.until, 24.0), often)).tolist())
    given = Given(drug=of.names[0], times=tuple(tau * k for k in range(count)), amounts=(of.regimen.dose,) * count)
    return Course(perpetrators=(given,), victim=of.names[1], doses=doses, window=(0.0, apart + times.until))


def _nodes(of: Drawn, course: Course) -> Floats:
    """The grid on which `assemble` solves a course."""
    from pkpd.interactions.course import grid

    who = of.library[of.names[1]].victim
    assert who is not None
    return grid(course, who.half_life.value)[0]


def _rises(
    made: tuple[Assembly, Quantities], nodes: Floats, when: tuple[Floats, Floats]
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """log AUC ratio that each enzyme alone would make, (E, D, T): if an interval between `edges` came again and again,
    with the victim's doses at times from its beginning; when = (edges, doses). That of all of them together
    (D, T), and the share of first pass in it."""
    from pkpd.interactions.dynamic import activities

    (assembly, q), (edges, doses) = made, when
    first = int(np.searchsorted(nodes, edges[0] - 1e-9))
    liver, gut = (x.transpose(1, 0, 2) for x in activities(replace(assembly.batch, begin=first), q))  # (track, K, D)
    many = assembly.link[1].size
    every, walls = np.ones((2, *liver.shape[1:]))
    found = np.zeros((many, q.fg.shape[1], edges.size - 1))
    where = (nodes[first:], edges, doses)
    for _, tracks, links in assembly.batch.links:
        for track, link in zip(tracks.tolist(), links.tolist(), strict=True):
            r, wall = q.fm[link] * (liver[track] - 1.0), q.wall[link] * (gut[track] - 1.0)
            every, walls = every + r, walls + wall
            found[link] = _areas(made, (1.0 + r, 1.0 + wall), where)[0]
    whole, passed = _areas(made, (every, walls), where)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.abs(whole) > 1e-6, passed / whole, 0.0)
    return found, whole, np.clip(share, 0.0, 1.0)


def _areas(
    made: tuple[Assembly, Quantities], r: tuple[Floats, Floats], when: tuple[Floats, ...]
) -> tuple[Floats, Floats]:
    """log ratios (D, T) of AUC and of what gets through gut wall and liver; r = activity (K, D) of all of the liver
    and of the gut wall."""
    (assembly, q), (liver, wall) = made, r
    batch = assembly.batch
    x, y = q.extraction[0] / (1.0 - q.extraction[0]), (1.0 - q.fg[0]) / q.fg[0]
    renal, total = float(batch.renal[0]), math.log(2) / float(batch.half_life[0]) * q.speed[0]
    enters = (1.0 + y) * (1.0 + x) / ((1.0 + y * wall) * (1.0 + x * liver))
    rate = total * (renal + (1.0 - renal) * liver * (1.0 + x) / (1.0 + x * liver))
    nodes, edges, doses = when
    area, came = _repeated((enters, rate), (nodes, edges, doses), ka=float(batch.ka[0]))
    return np.log(area * total[:, None] / doses.size), np.log(came / doses.size)


def _repeated(
    what: tuple[Floats, Floats], when: tuple[Floats, Floats, Floats], *, ka: float
) -> tuple[Floats, Floats]:  # fmt: skip
    """AUC (D, T) over each interval at the steady state of its own repetition, and what enters in it: enters, rate (K,
    D) of a victim in one compartment with absorption ka, doses of 1 at times from the interval's beginning."""
    (enters, rate), (nodes, edges, doses) = what, when
    middle, width = 0.5 * (nodes[1:] + nodes[:-1]), np.diff(nodes)
    area, through = np.zeros((2, rate.shape[1], edges.size - 1))
    for k in range(edges.size - 1):
        mine = np.flatnonzero((middle > edges[k]) & (middle < edges[k + 1]))
        if not mine.size:  # beyond the grid
            area[:, k], through[:, k] = area[:, k - 1], through[:, k - 1]
            continue
        period, at, gone = edges[k + 1] - edges[k], edges[k] + doses, 0
        depot = float((np.exp(-ka * (period - doses)) / -np.expm1(-ka * period)).sum())
        left, body, stays = np.ones(rate.shape[1]), np.zeros(rate.shape[1]), np.zeros(rate.shape[1])
        for i in mine.tolist():
            while gone < at.size and at[gone] <= nodes[i] + 1e-6:
                depot, gone = depot + 1.0, gone + 1
            entered = depot * -math.expm1(-ka * width[i]) * enters[i]
            depot *= math.exp(-ka * width[i])
            spent = rate[i] * width[i]
            lost = -np.expm1(-spent)
            after = body * (1.0 - lost) + entered * lost / spent
            area[:, k] += (body - after + entered) / rate[i]
            through[:, k] += entered
            stays += left * lost / rate[i]  # area of a unit that was there at the beginning
            body, left = after, left * (1.0 - lost)
        area[:, k] += stays * body / (1.0 - left)
    return area, through


def _joined(size: Floats) -> NDArray[np.int64]:
    """Where steps begin that are not alike in all draws; size (..., T): log ratios."""
    begin, low, high = [0], size[..., 0], size[..., 0]
    for k in range(1, size.shape[-1]):
        low, high = np.minimum(low, size[..., k]), np.maximum(high, size[..., k])
        if (high - low).max(initial=0.0) > ALIKE:
            begin.append(k)
            low = high = size[..., k]
    return np.array(begin)
