"""The subjects of a data set under draws of the population: parameters through time, occasions and missing covariates.

What changes is a `Timeline`; from each of its rows on the parameters are evaluated again and the engine is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.missing import Absent, absent_of, drawn
from pkpd.bayes.pieces import pieces_of
from pkpd.engine.build import compiled
from pkpd.engine.changes import in_time
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.timeline import Timeline, timeline
from pkpd.model.variability import individual

__all__ = ["Effects", "People", "effects", "people", "redrawn"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Standard normals of R replicates: own (R, N, qs) between subjects, later (R, K, qo) between the K occasions of
    all subjects, missing (R, M) of the missing covariates.
    """

    own: Floats
    later: Floats
    missing: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """N subjects: line, what holds when, NaN where a covariate is missing; slot (rows of the line,): the row's occasion
    among the K, which are `occasions` (K, 2), subject and number; absent: what is missing.
    """

    model: Model
    records: Records
    line: Timeline
    slot: Ints
    occasions: Ints
    absent: Absent

    def none(self, replicates: int = 1) -> Effects:
        """No random effects; missing covariates at the middle of what they may be."""
        own, later = len(self.model.subject_etas), len(self.model.occasion_etas)
        return Effects(
            own=np.zeros((replicates, len(self.records), own)),
            later=np.zeros((replicates, len(self.occasions), later)),
            missing=np.zeros((replicates, len(self.absent.names))),
        )  # fmt: skip

    def predictions(self, typical: Floats, roots: Floats, z: Effects) -> Floats:
        """True value of every row of the data, (R, rows), under typical values (R, P) and roots of omega (R, q, q)."""
        repeats, n = len(typical), len(self.records)
        everyone = np.tile(np.arange(n), repeats)
        line = self.line.subjects(everyone)
        lines = np.tile(np.arange(len(self.line.time)), repeats)
        of = np.repeat(np.arange(repeats), len(self.line.time))
        values = self._known(line, lines, of, z.missing)
        both = np.concatenate([z.own[of, self.line.subject[lines]], z.later[of, self.slot[lines]]], axis=1)[:, None, :]
        theta = individual(self.model, typical[of], roots[of], {k: v[:, None] for k, v in values.items()}, z=both)[:, 0]
        return self._solved(replace(line, values=values), theta, everyone)

    def _known(self, line: Timeline, lines: Ints, of: Ints, z: Floats) -> dict[str, Floats]:
        """Covariates of the rows, the missing ones from their z (R, M)."""
        values = dict(line.values)
        if not self.absent.names:
            return values
        filled = drawn(self.absent, z)
        owner = self.line.subject[lines]
        for number, (name, subject) in enumerate(zip(self.absent.covariate, self.absent.subject, strict=True)):
            here = (owner == subject) & np.isnan(values[name])
            values[name] = np.where(here, filled[of, number], values[name])
        return values

    def _solved(self, line: Timeline, theta: Floats, everyone: Ints) -> Floats:
        model, records, made = self.model, self.records, compiled(self.model)
        which, n = _places(model, records), len(self.records)
        first, inputs, changes = in_time(made, line, theta)
        times, column = _times(records)
        repeats = len(everyone) // n
        found = np.empty((repeats, len(records.dv)))
        for after in np.unique(records.after):
            solution = solve(
                made, first, records.doses.subjects(everyone), times[everyone], covariates=inputs, after=bool(after),
                changes=changes if len(changes.time) else None,
            )  # fmt: skip
            values = solution.values.reshape(repeats, n, len(made.outputs), -1)
            rows = records.after == after
            found[:, rows] = values[:, records.subject[rows], which[rows], column[rows]]
        return found


def people(model: Model, records: Records) -> People:
    """The subjects of a data set. Errors: InputError for covariates that are not there or cannot be used."""
    known = set(model.covariates)
    pieces = pieces_of(model, records)
    line = timeline(
        model, {k: np.asarray(v, np.float64) for k, v in records.covariates.items() if k in known},
        {k: v for k, v in records.series.items() if k in known},
        occasion=records.occasion if model.occasion_etas else None, until=float(records.time.max(initial=0.0)),
        size=len(records),
    )  # fmt: skip
    seen, slot = np.unique(np.stack([line.subject, line.occasion], axis=1), axis=0, return_inverse=True)
    return People(
        model=model, records=records, line=line, slot=slot.reshape(-1).astype(np.int64),
        occasions=seen.astype(np.int64), absent=absent_of(model, records.ids, pieces),
    )  # fmt: skip


def effects(seed: int, subjects: int, size: int, replicate: Ints) -> Floats:
    """Standard normal effects of new subjects, (replicates, subjects, size)."""
    return normals(
        seed, Purpose.PREDICTIVE_IIV, subject=np.arange(subjects)[None, :, None], replicate=replicate[:, None, None],
        slot=np.arange(size)[None, None, :],
    )  # fmt: skip


def redrawn(folk: People, seed: int, replicate: Ints) -> Effects:
    """Effects of other subjects of the same design, by address: occasions at index 1 + number, covariates by name."""
    model, who = folk.model, folk.occasions
    later = normals(
        seed, Purpose.PREDICTIVE_IIV, subject=who[None, :, 0, None], replicate=replicate[:, None, None],
        index=1 + who[None, :, 1, None], slot=np.arange(len(model.occasion_etas))[None, None, :],
    )  # fmt: skip
    names = dict(zip(folk.absent.covariate, slots(dict.fromkeys(folk.absent.covariate)), strict=False))
    places = np.asarray([names[name] for name in folk.absent.covariate], np.uint32)
    missing = normals(
        seed, Purpose.PREDICTIVE_IIV, subject=folk.absent.subject[None, :], replicate=replicate[:, None],
        slot=places[None, :],
    )  # fmt: skip
    own = effects(seed, len(folk.records), len(model.subject_etas), replicate)
    return Effects(own=own, later=later, missing=missing)


def _places(model: Model, records: Records) -> Ints:
    """Where each row's output stands among what the engine gives."""
    made = compiled(model)
    names = [str(out.is_) for out in model.outputs.values()]
    place = np.asarray([made.outputs.index(n) if n in made.outputs else -1 for n in names])[records.output]
    if (place < 0).any():
        lost = list(model.outputs)[int(records.output[np.argmax(place < 0)])]
        raise InputError("is not solved by the engine: it cannot be predicted", field=f"outputs.{lost}")
    return np.asarray(place, np.int64)


def _times(records: Records) -> tuple[Floats, Ints]:
    """Sample times (N, most rows), NaN last, and the column of each row; a subject's rows stand in the order of the
    file.
    """
    count = np.bincount(records.subject, minlength=len(records))
    column = np.concatenate([np.arange(k) for k in count])[np.argsort(np.argsort(records.subject, kind="stable"))]
    times = np.full((len(records), int(count.max())), np.nan)
    times[records.subject, column] = records.time
    return times, column
