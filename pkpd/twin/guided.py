"""Doses guided by measured levels: what a doctor with a model gives next, for many subjects at once.

The dose is a function of the data alone: the particles of every subject have the same addresses, so that two subjects
with the same data get the same dose, whoever is beside them. The doctor sees doses, levels and covariates, never the
truth, and holds the population's typical values to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.build import Compiled, compiled
from pkpd.ground.errors import InputError
from pkpd.model.guidance import Guidance
from pkpd.model.records import Records
from pkpd.model.regimen import Dose, Events, Schedule
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws
from pkpd.twin.case import Case, able, case_of
from pkpd.twin.dosing import require_reach, statistic
from pkpd.twin.importance import Proposal, importance
from pkpd.twin.likelihood import Ahead, People, people
from pkpd.twin.target import ROWS, modes
from pkpd.twin.targets import Target

if TYPE_CHECKING:
    from pkpd.twin.importance import Cloud

__all__ = ["Guide", "Posterior", "affine", "chosen", "guide_of", "interleaved", "pieces", "posterior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SAME = 1e-9


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A guidance opened. draws: one, the typical values of the population; amounts (C,), ascending, of a dose into
    state number `into` every `every` h over `duration` h; change: largest factor at a time (inf: any); particles: 0 for
    the mode alone.
    """

    model: Model
    engine: Compiled
    draws: PopulationDraws
    output: int
    target: Target
    toxic: Target | None
    penalty: float
    horizon: float
    amounts: Floats
    into: int
    every: float
    duration: float
    change: float
    particles: int
    seed: int

    @property
    def aim(self) -> float:
        """What is aimed at where several doses reach the target as surely: its middle, or its only limit."""
        low, high = self.target.low, self.target.high
        if np.isfinite(low) and np.isfinite(high):
            return 0.5 * (low + high)
        return low if np.isfinite(low) else high


def guide_of(text: Guidance, dose: Dose, model: Model, draws: PopulationDraws, *, seed: int) -> Guide:
    """The guidance of an arm whose dose is `dose`. draws: the typical values, one draw.

    Errors: InputError for what the model cannot serve.
    """
    able(model)
    if model.occasion is not None and model.occasion.column is not None:
        problem = f"{model.name} varies between occasions of its data, which a trial's levels do not name"
        raise InputError(problem, field="model", value=model.name, remedy="name a model without, as model: FILE")
    names = list(model.outputs)
    if text.measure not in names or not model.outputs[text.measure].continuous:
        remedy = f"one of {', '.join(n for n in names if model.outputs[n].continuous)}"
        raise InputError(f"is no level of model {model.name}", field="measure", value=text.measure, remedy=remedy)
    if dose.into not in model.states:
        raise InputError(f"model {model.name} has no such state", field="model", value=dose.into,
                         remedy="give its states the names of the trial's model")  # fmt: skip
    parse = {"model": model, "default": text.measure}
    target = Target.parse(text.target, **parse)  # type: ignore[arg-type]
    toxic = None if text.toxic is None else Target.parse(text.toxic, field="toxic", **parse)  # type: ignore[arg-type]
    for aim, named in ((target, "target"), (toxic, "toxic")):
        if aim is not None:
            require_reach(aim, text.horizon, field=named, every=dose.every)
    return Guide(
        model=model, engine=compiled(model), draws=draws, output=names.index(text.measure),
        target=target, toxic=toxic,
        penalty=text.penalty, horizon=text.horizon, amounts=np.asarray(text.amounts(model.dose_units[dose.into])),
        into=list(model.states).index(dose.into), every=float(dose.every or 0.0), duration=dose.duration,
        change=text.change or np.inf, particles=text.draws if text.by == "draws" else 0, seed=seed,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Weighted particles of n subjects, draw (n, S), x (n, S, K), weight (n, S); NaN where none explains the data."""

    draw: Ints
    x: Floats
    weight: Floats

    def people(self, case: Case, seed: int) -> People:
        """The particles as rows, subject after subject; occasions to come have effects of their own, but in a mode."""
        n, s, size = self.x.shape
        draw = self.draw.reshape(n * s)
        z, _ = case.coordinates.effects(draw, self.x.reshape(n * s, size))
        ahead = Ahead(seed=seed, particle=np.tile(np.arange(s), n)) if s > 1 else None
        return people(case, np.repeat(np.arange(n), s), draw, z, ahead=ahead)


def posterior(case: Case, *, seed: int, particles: int) -> Posterior:
    """A quick posterior: the mode from one start and importance sampling around it; particles 0: the mode alone."""
    top = modes(case, seed=seed, starts=1)
    n, rows = len(case), np.arange(len(case))
    if particles == 0:
        good = np.isfinite(top.value[rows, 0])[:, None]
        return Posterior(draw=np.full((n, 1), case.number), x=top.x[:, :1], weight=np.where(good, 1.0, np.nan))
    cloud: Cloud = importance(
        case, Proposal.around(top.x, top.covariance, top.share), seed=seed, particles=particles
    )  # fmt: skip
    return Posterior(draw=cloud.draw, x=cloud.x, weight=cloud.weight)


def chosen(guide: Guide, records: Records, present: Floats, *, start: float) -> Floats:
    """The dose of each subject from `start` [h] on, (n,); NaN where no particle explains the data.

    records: doses given so far, levels and covariates known by now; present (n,): the dose as it is.
    """
    found, done = [np.zeros(0)], 0
    for part in pieces(records, guide.particles):
        found.append(_chosen(guide, part, present[done : done + len(part)], start))
        done += len(part)
    return np.concatenate(found)


def pieces(records: Records, particles: int) -> Iterator[Records]:
    """The subjects in order, so many at a time that their particles fit."""
    from pkpd.twin.subset import patients

    step = max(1, ROWS // max(particles, 1))
    for lo in range(0, len(records), step):
        rows = np.arange(lo, min(lo + step, len(records)))
        yield records if len(rows) == len(records) else patients(records, rows)


def _chosen(guide: Guide, records: Records, present: Floats, start: float) -> Floats:
    until = start + guide.horizon
    case = case_of(guide.model, records, guide.draws, until=until, engine=guide.engine)
    case = replace(case, address=np.zeros(len(case), np.uint32))
    found = posterior(case, seed=guide.seed, particles=guide.particles)
    rows = found.people(case, guide.seed)
    reached = _course(guide, case, rows, guide.target, start=start)
    harmed = reached if _same(guide.target, guide.toxic) else _course(guide, case, rows, guide.toxic, start=start)
    use, middle = np.empty((len(guide.amounts), len(case))), np.empty((len(guide.amounts), len(case)))
    for c in range(len(guide.amounts)):
        value = reached(c).reshape(found.weight.shape)
        use[c] = np.sum(found.weight * _gain(guide, value, harmed(c).reshape(value.shape)), axis=1)
        middle[c] = _median(value, found.weight)
    best = _best(guide, use, middle, present)
    return np.where(np.isfinite(found.weight).all(axis=1), best, np.nan)


def _course(
    guide: Guide, case: Case, rows: People, target: Target | None, *, start: float
) -> Callable[[int], Floats]:  # fmt: skip
    """The metric of rows under allowed dose number c, (R,). Where it is a straight line in the dose, two solves do."""
    if target is None:
        return lambda _: np.zeros(len(rows))

    def solved(amount: float) -> Floats:
        events = _ahead(guide, case.doses, amount, start).subjects(rows.who)
        return statistic(case, rows, target, events, start=start, horizon=guide.horizon)

    amounts = guide.amounts
    if len(amounts) < 3 or not affine(guide.engine, guide.model, target):
        return lambda c: solved(float(amounts[c]))
    low, high = solved(float(amounts[0])), solved(float(amounts[-1]))
    return lambda c: low + (high - low) * ((amounts[c] - amounts[0]) / (amounts[-1] - amounts[0]))


def affine(engine: Compiled, model: Model, target: Target) -> bool:
    """Whether a target's metric is a straight line in the dose: a mean or a level of linear kinetics."""
    of, block = str(model.outputs[target.output].is_), engine.block
    if target.metric not in ("auc", "average", "trough") or of not in engine.outputs or block is None:
        return False
    given = engine.dynamics.rate or engine.dynamics.duration
    return bool(block.whole and engine.outputs.index(of) in block.outputs and not given)


def _same(a: Target, b: Target | None) -> bool:
    """Whether two targets look at one metric."""
    return b is not None and str(replace(a, low=0.0, high=1.0)) == str(replace(b, low=0.0, high=1.0))


def _ahead(guide: Guide, past: Events, amount: float, start: float) -> Events:
    """The doses of the past, then `amount` to the end of the horizon."""
    count = round(guide.horizon / guide.every)
    time = np.asarray(start + guide.every * np.arange(count), np.float64)
    whole = np.ones(count)
    coming = Events.shared(
        Schedule(time, amount * whole, (guide.into * whole).astype(np.int32), guide.duration * whole, 0.0 * whole,
                 np.zeros(count, np.int8)), len(past),
    )  # fmt: skip
    both = Events.joined([past, coming])
    n = len(past)
    return interleaved(both, n)


def interleaved(both: Events, n: int) -> Events:
    """Subject i of the first n and subject n + i as one subject."""
    owner = np.repeat(np.arange(2 * n), np.diff(both.offsets)) % max(n, 1)
    order = np.argsort(owner, kind="stable")
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=n), out=offsets[1:])
    names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    return Events(offsets, *(getattr(both, name)[order] for name in names))


def _gain(guide: Guide, value: Floats, other: Floats) -> Floats:
    """1 where the target is reached, less the penalty where harm is done; not solved: neither reached nor safe."""
    gain = guide.target.met(value).astype(np.float64)
    if guide.toxic is None:
        return gain
    return np.asarray(gain - guide.penalty * (guide.toxic.met(other) | np.isnan(other)))


def _median(value: Floats, weight: Floats) -> Floats:
    """Weighted median along the last axis, (n,)."""
    order = np.argsort(value, axis=1, kind="stable")
    ranked, mass = np.take_along_axis(value, order, axis=1), np.take_along_axis(weight, order, axis=1)
    first = np.argmax(np.cumsum(mass, axis=1) >= 0.5 - SAME, axis=1)
    return np.asarray(np.take_along_axis(ranked, first[:, None], axis=1)[:, 0])


def _best(guide: Guide, use: Floats, middle: Floats, present: Floats) -> Floats:
    """The most useful allowed dose; as useful ones: the nearest to the aim, then the smaller. use, middle (C, n)."""
    amount = guide.amounts[:, None]
    allowed = (amount >= present / guide.change - SAME * present) & (amount <= present * guide.change + SAME * present)
    use = np.where(allowed, use, -np.inf)
    top = use >= use.max(axis=0) - SAME
    gap = np.where(np.isnan(middle), np.inf, np.abs(middle - guide.aim))
    gap = np.where(top & allowed, gap, np.inf)
    near = top & allowed & (gap <= gap.min(axis=0) * (1.0 + SAME))
    found = guide.amounts[np.argmax(near, axis=0)]
    return np.where(allowed.any(axis=0), found, present)
