"""Data as they come: particles are reweighted by each new observation, resampled and moved when too few count.

Resample-move: Gilks WR, Berzuini C, J R Stat Soc B 2001;63:127. Moves see the whole history, so that the particles are
those of the posterior of all data, whatever the order of updates. How many rows come in one update changes nothing:
particles are resampled after the same observations, at the same addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground import digest
from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws
from pkpd.twin.case import Case, Levels, case_of
from pkpd.twin.likelihood import people, pointwise
from pkpd.twin.moves import Evaluate, Particles, covariance_of, moved, resampled
from pkpd.twin.psis import effective
from pkpd.twin.target import ROWS, evaluated, mode
from pkpd.twin.tempering import FIRST_LEVEL, of_patient, prior_particles
from pkpd.twin.twin import METHODS, SEED, Settings, Twins

__all__ = ["Filter", "Update", "as_twins", "begun", "from_prior", "updated"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
KEPT = 0.5
MOVES = 12
LEAST = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update of the log: observations absorbed by now, time [h] of the last, effective draws before and after
    moves, how often particles were moved, the least mean share of moves accepted, hashes of data and particles;
    `previous` is the hash of the update before, `digest` of this one with it: a chain.
    """

    observations: int
    time: float
    ess: float
    moved: int
    accepted: float
    data: str
    particles: str
    previous: str

    @property
    def digest(self) -> str:
        """SHA-256 of everything above."""
        return digest.of_json(self.to_dict(chained=False))

    def to_dict(self, *, chained: bool = True) -> dict[str, Any]:
        """Plain values; with its digest."""
        names = ("observations", "time", "ess", "moved", "accepted", "data", "particles", "previous")
        plain = {name: _plain(getattr(self, name)) for name in names}
        return plain | ({"digest": self.digest} if chained else {})


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The particles of one patient after `seen` observations. case: with all records so far; source: the draws."""

    case: Case
    source: PopulationDraws
    particles: Particles
    seen: int
    seed: int
    log: tuple[Update, ...] = ()

    @property
    def weight(self) -> Floats:
        """Normalised weights (S,)."""
        return self.particles.weight

    @property
    def ess(self) -> float:
        """Effective number of draws, by weights."""
        return float(effective(self.weight))

    @property
    def z(self) -> Floats:
        """Standard normal effects (S, K)."""
        return self.case.coordinates.effects(self.particles.draw, self.particles.x)[0]


def begun(twin: Twins, source: PopulationDraws, *, patient: int = 0) -> Filter:
    """Go on from a twin: its particles and weights. source: the population draws it was made with."""
    from pkpd.twin.subset import subset

    case = subset(twin.case, np.asarray([patient], np.intp))
    draw, x = twin.draw[patient], twin.x[patient]
    prior, found = of_patient(case, 0)(draw, x)
    with np.errstate(divide="ignore"):
        weight = np.log(twin.weight[patient])
    particles = Particles(draw=draw, x=x, log_prior=prior, log_likelihood=found, log_weight=weight)
    made = Filter(case=case, source=source, particles=particles, seen=len(case.records.time), seed=twin.seed)
    return replace(made, log=(_logged(made, moves=0, accepted=np.nan),))


def as_twins(state: Filter) -> Twins:
    """The state as a twin of one patient: for forecasts, doses and checks."""
    p = state.particles
    top = mode(state.case, seed=state.seed)
    few = state.ess < LEAST
    said = (f"only {state.ess:.0f} effective draws after the last update",) if few else ()
    return Twins(
        case=state.case, settings=Settings(particles=len(p)), seed=state.seed, draw=p.draw[None], x=p.x[None],
        weight=state.weight[None], mode=top, k=np.full(1, np.nan), ess=np.full(1, state.ess), warnings=(said,),
        method=np.full(1, METHODS.index("failed" if few else "resample-move"), np.int8),
    )  # fmt: skip


def from_prior(
    model: Model, records: Records, source: PopulationDraws, *, seed: int = SEED, particles: int = 1000
) -> Filter:
    """Begin with the prior and absorb the observations of `records` (one patient) one after the other."""
    case = case_of(model, records, source)
    _one(records)
    empty = replace(case, levels=_until(case.levels, 0))
    made = prior_particles(case, 0, of_patient(empty, 0), seed=seed, particles=particles)
    start = Filter(case=empty, source=source, particles=made, seen=0, seed=seed)
    return updated(start, records)


def _one(records: Records) -> None:
    if len(records) != 1:
        raise InputError("updates are of one patient", field="ID", value=len(records), remedy="one file a patient")


def updated(state: Filter, records: Records) -> Filter:
    """The state after all rows of `records`: the history so far, unchanged, and what is new.

    Errors: InputError when the history differs from what was seen: then begin again.
    """
    _one(records)
    case = case_of(state.case.model, records, state.source)
    _same_past(state, case)
    now = _grown(state, case)
    moves, least = 0, np.nan
    while now.seen < len(records.time):
        now, accepted = _absorbed(now)
        if not np.isnan(accepted):
            moves, least = moves + 1, float(np.fmin(least, accepted))
    return replace(now, log=(*state.log, _logged(now, moves=moves, accepted=least)))


def _same_past(state: Filter, case: Case) -> None:
    """What was seen must still be there, first in the order of time, with the doses before it."""
    old, new, seen = state.case, case, state.seen
    if old.records.ids != new.records.ids:
        raise InputError("is another patient", field="ID", value=new.records.ids[0], remedy="begin again")
    a, b = old.levels, new.levels
    alike = b.time.shape[1] >= seen and all(
        np.array_equal(getattr(a, name)[:, :seen], getattr(b, name)[:, :seen])
        for name in ("time", "value", "output", "below", "after")
    )
    last = float(a.time[0, seen - 1]) if seen else -np.inf
    alike = alike and _same_covariates(case.model, (old.records, new.records), last)
    if not alike or _history(old.records, last) != _history(new.records, last):
        raise InputError("what was seen before has changed", field="records", value=case.records.ids[0],
                         remedy="begin again with all rows: an earlier row was added, changed or left out")  # fmt: skip


def _history(records: Records, last: float) -> str:
    """Digest of doses before `last`."""
    d = records.doses
    before = d.time < last
    names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    return digest.of_json([getattr(d, name)[before].tolist() for name in names])


def _same_covariates(model: Model, pair: tuple[Records, Records], last: float) -> bool:
    """Whether covariates and occasions up to `last` are those they were, whatever rows came after: what was constant
    may change from then on.
    """
    rules = {name: str(c.between) for name, c in model.covariates.items()}
    for name in (*rules, None):
        told = [_told(records, name) for records in pair]
        knots = np.unique(np.concatenate([time for time, _ in told]))
        knots = np.append(knots[knots < last], last)
        grid = np.concatenate([knots, 0.5 * (knots[1:] + knots[:-1])])  # between two of them it is linear, or holds
        first, second = (_held(rules.get(str(name), "locf"), one, grid) for one in told)
        if np.isfinite(last) and not np.array_equal(first, second):
            return False
    return True


def _told(records: Records, name: str | None) -> tuple[Floats, Floats]:
    """Times and values of a covariate of one patient (None: of the occasions), one value where it does not change."""
    if name is None:
        return records.occasion.of_subject(0) if records.occasion is not None else (np.zeros(1), np.zeros(1))
    if name in records.series:
        return records.series[name].of_subject(0)
    return np.zeros(1), np.asarray(records.covariates.get(name, np.zeros(1)), np.float64)[:1]


def _held(between: str, told: tuple[Floats, Floats], at: Floats) -> Floats:
    """Values at times."""
    time, value = told
    if between == "linear":
        return np.interp(at, time, value)
    place = np.searchsorted(time, at, side="left") if between == "nocb" else np.searchsorted(time, at, "right") - 1
    return value[np.clip(place, 0, len(time) - 1)]


def _grown(state: Filter, case: Case) -> Filter:
    """The particles in the coordinates of the new case: effects of a new occasion come from the prior."""
    now, c = state.particles, case.coordinates
    if c.size > state.case.coordinates.size:
        names = c.names[state.case.coordinates.size :]
        z = normals(
            state.seed, Purpose.TWIN_MOVE, subject=np.arange(len(now))[:, None], replicate=int(case.address[0]),
            index=FIRST_LEVEL - 1, slot=slots(names),
        )  # fmt: skip
        spread = np.tile(c.sds / c.sd, (1, c.occasions))[:, -len(names) :]
        now = replace(now, x=np.concatenate([now.x, z * spread[now.draw]], axis=1))
        now = replace(now, log_prior=c.effects(now.draw, now.x)[1])
    return replace(state, case=case, particles=now)


def _until(levels: Levels, count: int) -> Levels:
    """The first observations of one patient."""
    columns: dict[str, Any] = {name: getattr(levels, name)[:, :count] for name in Levels.__slots__}
    return Levels(**columns)


def _absorbed(state: Filter) -> tuple[Filter, float]:
    """The state after the next observations, up to and with the first that leaves too few effective draws."""
    now, whole = state.particles, state.case.levels
    first = state.seen - _reach(whole, state.seen)
    coming = Levels(**{name: getattr(whole, name)[:, first:] for name in Levels.__slots__})
    each = _densities(state, coming)[:, state.seen - first :]
    weights, likelihoods = _summed(now.log_weight, each), _summed(now.log_likelihood, each)
    few = np.flatnonzero(_effective(weights) < KEPT * len(now))
    last = int(few[0]) if len(few) else each.shape[1] - 1
    seen = state.seen + last + 1
    now = replace(now, log_weight=weights[:, last], log_likelihood=likelihoods[:, last])
    if not len(few):
        return replace(state, particles=now, seen=seen), np.nan
    if not np.isfinite(now.log_weight).any():
        raise InputError("no particle can explain the data", field="DV", value=float(whole.value[0, seen - 1]),
                         remedy=f"check the row at {whole.time[0, seen - 1]:g} h and the doses before it")  # fmt: skip
    shape = covariance_of(now)
    case = replace(state.case, levels=_until(whole, seen))
    now = resampled(now, case, 0, seed=state.seed, level=seen)
    now, accepted = moved(now, case, 0, _of(case), seed=state.seed, level=seen, moves=MOVES, shape=shape)
    return replace(state, particles=now, seen=seen), accepted


def _reach(levels: Levels, seen: int) -> int:
    """How many observations seen already the coming ones have partners among."""
    first, last = seen, levels.before.shape[1]
    for t in range(last - 1, -1, -1):
        first = min(first, t - int(levels.before[0, t].max(initial=0))) if t >= first else first
    return seen - first


def _summed(start: Floats, each: Floats) -> Floats:
    """Running sums of `each` (S, J) from `start`, one after the other: the bits of one update a row."""
    return np.cumsum(np.column_stack([start, each]), axis=1)[:, 1:]


def _of(case: Case) -> Evaluate:
    def evaluate(draw: Ints, x: Floats) -> tuple[Floats, Floats]:
        return evaluated(case, np.zeros(len(draw), np.int64), draw, x)

    return evaluate


def _densities(state: Filter, coming: Levels) -> Floats:
    """Log density of every coming observation under every particle, (S, observations)."""
    now, parts = state.particles, []
    z = state.case.coordinates.effects(now.draw, now.x)[0]
    for lo in range(0, len(now), ROWS):
        part = slice(lo, lo + ROWS)
        who = np.zeros(len(now.draw[part]), np.int64)
        parts.append(pointwise(state.case, people(state.case, who, now.draw[part], z[part]), coming))
    return np.concatenate(parts)


def _effective(log_weights: Floats) -> Floats:
    """Effective draws of every column of log weights (S, J); 0 where nothing is left."""
    top = log_weights.max(axis=0)
    raw = np.exp(log_weights - np.where(np.isfinite(top), top, 0.0))
    total = raw.sum(axis=0)
    return np.where(total > 0.0, total * total / np.maximum((raw * raw).sum(axis=0), 1e-300), 0.0)


def _logged(state: Filter, *, moves: int, accepted: float) -> Update:
    p, time = state.particles, state.case.levels.time
    arrays = [np.ascontiguousarray(a, "<f8").tobytes() for a in (p.draw, p.x, p.log_weight)]
    return Update(
        observations=state.seen, time=float(time[0, state.seen - 1]) if state.seen else np.nan, ess=state.ess,
        moved=moves, accepted=accepted, data=state.case.records.digest,
        particles=digest.of_json([digest.of_bytes(a) for a in arrays]),
        previous=state.log[-1].digest if state.log else "",
    )  # fmt: skip
