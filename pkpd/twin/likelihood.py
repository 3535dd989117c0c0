"""Predictions and log densities of rows: a row is one particle of one patient, solved in the engine's lanes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.changes import Changes, in_force, in_time
from pkpd.engine.solve import solve
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model import equations as eq
from pkpd.model.regimen import Events
from pkpd.model.timeline import Timeline
from pkpd.model.variability import individual
from pkpd.residual import CombinedError, error_of, log_density, sd
from pkpd.twin.case import Case, Levels
from pkpd.twin.together import given_before

if TYPE_CHECKING:
    from pkpd.engine.solve import Solution

__all__ = ["Ahead", "People", "errors", "fitted", "likelihood", "log_below", "outputs", "people", "pointwise", "solved"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Individual parameters of R rows as `solve` takes them; who (R,): patient, draw (R,), covariates {name: (R,)} at
    the start, changes, and the covariates of the rows of the changes (all of them, for the response layer).
    """

    who: Ints
    draw: Ints
    parameters: Floats
    inputs: dict[str, Floats]
    changes: Changes
    known: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.who)


def people(case: Case, who: Ints, draw: Ints, z: Floats, *, ahead: Ahead | None = None) -> People:
    """Parameters of rows with standard normals z (R, K). ahead: where the effects of occasions the data do not see come
    from (0 where it is left out).
    """
    rows, line, place = _rows_of(case, who)
    full = np.zeros((len(rows), 1, len(case.draws.eta_names)))
    c = case.coordinates
    full[:, 0, c.subject] = z[rows][:, : len(c.subject)]
    if len(c.occasion):
        full[:, 0, c.occasion] = _occasional(case, z, (rows, who[rows], line.occasion, place), ahead)
    d = draw[rows]
    covariates = {name: values[:, None] for name, values in line.values.items()}
    found = individual(case.model, case.draws.typical[d], _roots(case)[d], covariates, z=full)[:, 0]
    first, inputs, changes = in_time(case.engine, line, found)
    return People(who=who, draw=draw, parameters=first, inputs=inputs, changes=changes, known=line.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Address of effects of occasions to come: seed, particle (R,)."""

    seed: int
    particle: Ints


def _occasional(case: Case, z: Floats, lines: tuple[Ints, Ints, Ints, Ints], ahead: Ahead | None) -> Floats:
    """Effects between occasions of every line of the timeline, (lines, qo)."""
    rows, who, occasion, place = lines
    c = case.coordinates
    size = len(c.occasion)
    found = np.zeros((len(rows), size))
    seen = place >= 0
    if c.occasions:
        own = z[:, len(c.subject) :].reshape(len(z), c.occasions, size)
        found[seen] = own[rows[seen], place[seen]]
    if ahead is not None and not seen.all():
        late = ~seen
        names = [case.draws.eta_names[i] for i in c.occasion]
        found[late] = normals(
            ahead.seed, Purpose.TWIN_OCCASION, subject=ahead.particle[rows[late]][:, None],
            replicate=case.address[who[late]][:, None], index=np.maximum(occasion[late], 0)[:, None], slot=slots(names),
        )  # fmt: skip
    return found


def _roots(case: Case) -> Floats:
    """Cholesky factors of omega in every draw, (D+1, q, q); rows without variance are 0."""
    cached: Floats | None = case.__dict__.get("_roots")
    if cached is None:
        c, q = case.coordinates, len(case.draws.eta_names)
        cached = np.zeros((len(case.draws), q, q))
        cached[:, c.subject[:, None], c.subject[None, :]] = c.roots
        cached[:, c.occasion, c.occasion] = c.sds
        case.__dict__["_roots"] = cached
    return cached


def _rows_of(case: Case, who: Ints) -> tuple[Ints, Timeline, Ints]:
    """(row of each line, the rows' timeline, occasion's number of each line)."""
    line = case.timeline
    counts = np.diff(line.offsets)[who]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    take = np.repeat(line.offsets[:-1][who] - offsets[:-1], counts) + np.arange(offsets[-1])
    found = Timeline(
        offsets=offsets, time=line.time[take], late=line.late[take],
        values={k: v[take] for k, v in line.values.items()}, slopes={k: v[take] for k, v in line.slopes.items()},
        occasion=line.occasion[take],
    )  # fmt: skip
    return np.repeat(np.arange(len(who)), counts), found, case.place[take]


def solved(
    case: Case, folk: People, times: Floats, *, events: Events | None = None, after: bool = False, **asked: Any
) -> Solution:
    """The engine's solution of rows at times (R, T), under their own doses or `events` (R subjects)."""
    doses = case.doses.subjects(folk.who) if events is None else events
    return solve(
        case.engine, folk.parameters, doses, times, covariates=folk.inputs, changes=folk.changes, after=after,
        rtol=case.rtol, atol=case.atol, **asked,
    )  # fmt: skip


def outputs(
    case: Case, folk: People, times: Floats, *, events: Events | None = None, after: bool = False
) -> tuple[dict[str, Floats], NDArray[np.int8]]:
    """True values {output: (R, T)} of every continuous output, those of the response layer too, and the status (R,)."""
    found = solved(case, folk, times, events=events, after=after)
    known: dict[str, Any] = {name: found.values[:, k] for k, name in enumerate(case.engine.outputs)}
    wanted = {name: str(o.is_) for name, o in case.model.outputs.items() if o.continuous}
    if any(name not in known for name in wanted.values()):
        doses = case.doses.subjects(folk.who) if events is None else events
        known |= found.summaries | _here(case, folk, times, doses, after=after)
        for name, expression in case.model.response.items():
            if not eq.names(expression) - known.keys():
                known[name] = eq.evaluate(expression, known)
    shape = times.shape
    return {name: np.broadcast_to(known[is_], shape) for name, is_ in wanted.items()}, found.status


def _here(case: Case, folk: People, times: Floats, doses: Events, *, after: bool) -> dict[str, Floats]:
    """Parameters, covariates and clocks as they are at each time, (R, T)."""
    from pkpd.engine.past import last_dose

    count = times.shape[1]
    who = np.repeat(np.arange(len(folk)), count)
    when = np.where(np.isnan(times), 0.0, times).ravel()
    row = in_force(folk.changes, who, when, samples=True, after=after).reshape(times.shape)
    table = np.concatenate([folk.parameters, folk.changes.parameters[:, : folk.parameters.shape[1]]])
    known = {name: table[:, k][row] for k, name in enumerate(case.model.parameters)}
    line = _lines(case, folk)
    known |= {name: values[line][row] for name, values in folk.known.items() if name}
    tad, dose = last_dose(doses, times, after=after)
    return known | {"TIME": times, "WEEKS": times / 168.0, "TAD": tad, "DOSE": dose}


def _lines(case: Case, folk: People) -> Ints:
    """Line of the timeline of each row of (parameters, changes): the first ones, then the later ones."""
    counts = np.diff(case.timeline.offsets)[folk.who]
    first = np.cumsum(counts) - counts
    later = np.setdiff1d(np.arange(int(counts.sum())), first)
    return np.concatenate([first, later])


def errors(case: Case, draw: Ints) -> dict[str, CombinedError]:
    """Residual error of each continuous output, terms (R, 1) by draw."""
    made = {}
    for name, output in case.model.outputs.items():
        if output.continuous:
            error = error_of(case.model, case.draws, name)
            terms: dict[str, Any] = {
                kind: value[draw][:, None]
                for kind in ("additive", "proportional", "power", "log")
                if isinstance(value := getattr(error, kind), np.ndarray)
            }
            made[name] = replace(error, **terms)
    return made


def fitted(case: Case, folk: People, levels: Levels) -> Floats:
    """True value at every observation, (R, T); NaN where there is none or the solve failed. levels: of the patients."""
    names, who = list(case.model.outputs), folk.who
    times, one = levels.time[who], len(_kinds(levels)) == 1
    values = np.full(times.shape, np.nan)
    for late in np.unique(levels.after[levels.there]):
        found, _ = outputs(case, folk, times, after=bool(late))
        whole = one and bool((levels.after[levels.there] == late).all())
        for k in _kinds(levels):
            cells = True if whole else ((levels.output == k) & (levels.after == late))[who]
            values = found[names[k]] if whole else np.where(cells, found[names[k]], values)
    return values


def _kinds(levels: Levels) -> list[int]:
    """Places of the outputs that are observed."""
    return [int(k) for k in np.unique(levels.output[levels.there])]


def pointwise(case: Case, folk: People, levels: Levels, values: Floats | None = None) -> Floats:
    """Log density of every observation, (R, T), given those before it whose errors are correlated with its own; 0 where
    there is none, -inf where it is impossible or not solved.
    """
    f, who = fitted(case, folk, levels) if values is None else values, folk.who
    law, names = errors(case, folk.draw), list(case.model.outputs)
    y, total = levels.value[who], np.zeros(f.shape)
    for k in _kinds(levels):
        density = log_density(law[names[k]], f, y)
        if levels.below.any():
            density = np.where(levels.below[who], log_below(law[names[k]], f, y), density)
        density = np.where(np.isfinite(f) & ~np.isnan(density), density, -np.inf)
        here = levels.output == k
        total = density if here.all() else np.where(here[who], density, total)
    if not levels.before.any():
        return total
    gained = given_before(case, folk, levels, (f, law))
    return np.where(np.isfinite(gained), total + gained, -np.inf)


def likelihood(case: Case, who: Ints, draw: Ints, z: Floats) -> Floats:
    """Log likelihood of rows, (R,), summed in the order of time."""
    found = pointwise(case, people(case, who, draw, z), case.levels)
    total = np.zeros(len(found))
    for k in range(found.shape[1]):
        total = total + found[:, k]
    return total


def log_below(error: CombinedError, f: Floats, limit: Floats) -> Floats:
    """Log probability that what is measured lies below `limit` where the truth is f: Beal's method M3.

    Beal SL, J Pharmacokinet Pharmacodyn 2001;28:481.

    >>> float(log_below(CombinedError(additive=1.0), np.array(2.0), np.array(2.0)).round(6))
    -0.693147
    """
    from scipy import special

    with np.errstate(all="ignore"):
        if error.precision > 0.0:
            m = f / error.upper
            a, b = m * error.precision, (1.0 - m) * error.precision
            return np.asarray(np.log(special.betainc(a, b, np.clip(limit / error.upper, 0.0, 1.0))))
        scale = sd(error, f)
        eps = (np.log(limit) - np.log(f)) / scale if error.is_log else (limit - f) / scale
        if np.isfinite(error.t):
            return np.asarray(np.log(special.stdtr(error.t, eps)))
        return np.asarray(special.log_ndtr(eps))
