"""What a twin is made of: the model, the population's draws, the patients' data as padded arrays, and coordinates.

A patient's unknowns are which draw d of the population parameters is the true one, and the random effects: between
subjects, and between the occasions the data see. They are worked with as x, one coordinate a random effect:

    eta = L x - shift_d,   shift_d = scale(typical_d) - scale(typical at the posterior median)

L is the Cholesky factor of omega at the posterior median. So x says where the individual parameter lies, whatever the
draw: the data speak of x almost alone, and one proposal serves all draws. The prior of x given d is normal, exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.build import Compiled, compiled
from pkpd.ground.errors import InputError
from pkpd.ground.streams import slots
from pkpd.model import equations as eq
from pkpd.model.records import Records
from pkpd.model.regimen import Events
from pkpd.model.spec import Model
from pkpd.model.timeline import Timeline, timeline
from pkpd.model.together import require_normal
from pkpd.model.variability import PopulationDraws
from pkpd.posterior import median

__all__ = ["Case", "Coordinates", "Levels", "able", "address", "case_of", "slots_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Observations of n patients, padded to T: time [h] (NaN beyond a patient's own, ascending), value, output (index
    into `model.outputs`), below (lies below value), after (follows a dose at its very time), there; row: of the data;
    before (n, T, K): how many columns back partners with correlated errors stand (`twin.together`), 0: none.
    """

    time: Floats
    value: Floats
    output: Ints
    below: NDArray[np.bool_]
    after: NDArray[np.bool_]
    row: Ints
    before: Ints

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which cells hold an observation, (n, T)."""
        return np.asarray(self.row >= 0)

    @classmethod
    def of(cls, records: Records, model: Model) -> Levels:
        """The observations of records; a value below its output's limit of quantification is censored."""
        from pkpd.twin.together import before

        limits = [output.lloq for output in model.outputs.values()]
        order = np.lexsort((np.arange(len(records.time)), records.time, records.subject))
        who = records.subject[order]
        count = np.bincount(who, minlength=len(records))
        column = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
        row = np.full((len(records), int(count.max(initial=0))), -1, np.int64)
        row[who, column] = order
        known = np.asarray([-np.inf if limit is None else limit for limit in limits])
        limit = known[records.output]
        low = records.dv < limit
        value = np.where(low, limit, records.dv)
        return cls(
            time=np.where(row >= 0, records.time[row], np.nan), value=np.where(row >= 0, value[row], np.nan),
            output=np.where(row >= 0, records.output[row], -1), below=(row >= 0) & (records.below | low)[row],
            after=(row >= 0) & records.after[row], row=row, before=before(model, records, row),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Between x and the random effects. D draws and, as number D, the posterior median.

    subject, occasion: places of the live effects in `eta_names` (an effect without variance is none); root (qs, qs):
    of the median; roots (D+1, qs, qs), shift (D+1, qs); sd (qo,), sds (D+1, qo) of the effects between occasions;
    occasions: how many the data see. K = qs + occasions x qo coordinates; names (K,).
    """

    subject: Ints
    occasion: Ints
    root: Floats
    roots: Floats
    shift: Floats
    sd: Floats
    sds: Floats
    occasions: int
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """K."""
        return len(self.names)

    def effects(self, draw: Ints, x: Floats) -> tuple[Floats, Floats]:
        """Standard normals z (R, K) of x (R, K) under `draw` (R,), and the log prior density of x (R,)."""
        q = len(self.subject)
        eta = _times(self.root, x[:, :q]) - self.shift[draw]
        z = np.empty_like(x)
        z[:, :q] = _solved(self.roots[draw], eta)
        ratio = self.sd / self.sds
        z[:, q:] = x[:, q:] * np.tile(ratio, (1, self.occasions))[draw]
        jacobian = np.log(np.diagonal(self.root)).sum() - np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        jacobian = jacobian + self.occasions * np.log(ratio).sum(axis=1)
        density = -0.5 * _square(z) - 0.5 * self.size * np.log(2.0 * np.pi)
        return z, density + jacobian[draw]

    def places(self, draw: Ints, z: Floats) -> Floats:
        """x (R, K) of standard normals z (R, K) under `draw`: the inverse of `effects`."""
        q = len(self.subject)
        x = np.empty_like(z)
        eta = _each(self.roots[draw], z[:, :q]) + self.shift[draw]
        x[:, :q] = _solved(np.broadcast_to(self.root, (len(z), q, q)), eta)
        x[:, q:] = z[:, q:] / np.tile(self.sd / self.sds, (1, self.occasions))[draw]
        return x


def _square(z: Floats) -> Floats:
    total = np.zeros(len(z))
    for k in range(z.shape[1]):
        total = total + z[:, k] * z[:, k]
    return total


def _times(root: Floats, x: Floats) -> Floats:
    """root x of one lower triangle, in a fixed order: a row's bits depend on nobody else."""
    return _each(np.broadcast_to(root, (len(x), *root.shape)), x)


def _each(roots: Floats, x: Floats) -> Floats:
    out = np.empty_like(x)
    for i in range(x.shape[1]):
        total = roots[:, i, 0] * x[:, 0]
        for j in range(1, i + 1):
            total = total + roots[:, i, j] * x[:, j]
        out[:, i] = total
    return out


def _solved(roots: Floats, right: Floats) -> Floats:
    """Forward substitution, row by row."""
    out = np.empty_like(right)
    for i in range(right.shape[1]):
        rest = right[:, i]
        for j in range(i):
            rest = rest - roots[:, i, j] * out[:, j]
        out[:, i] = rest / roots[:, i, i]
    return out


@dataclass(frozen=True, kw_only=True)
class Case:
    """n patients under one model. draws: D of the population and, last, their median; timeline: what holds when;
    place (rows of the timeline,): the occasion's number among those the data see, -1 beyond them; address (n,): of
    their random numbers.
    """

    model: Model
    engine: Compiled
    draws: PopulationDraws
    records: Records
    levels: Levels
    timeline: Timeline
    place: Ints
    coordinates: Coordinates
    address: NDArray[np.uint32]
    rtol: float = 1e-6
    atol: float = 1e-8

    def __len__(self) -> int:
        return len(self.records)

    @property
    def number(self) -> int:
        """D: draw D is the median."""
        return len(self.draws) - 1

    @property
    def doses(self) -> Events:
        """Doses of the patients."""
        return self.records.doses


def address(name: str) -> int:
    """Where a patient's random numbers are: BLAKE2b-32 of the identifier, whatever the batch."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")


def case_of(
    model: Model, records: Records, draws: PopulationDraws, *, until: float | None = None,
    engine: Compiled | None = None,
) -> Case:  # fmt: skip
    """The patients of `records` under `model`. until: last time [h] of interest (default: of the data); engine: of the
    model, where it is there already.

    All must have seen as many occasions (`groups`). Errors: InputError for what a twin cannot do yet.
    """
    able(model)
    _readable(model, records)
    if draws.names != tuple(model.parameters) or draws.eta_names != model.eta_names:
        remedy = "take the draws of a fit of this model, or its published values"
        raise InputError("the draws are of other parameters or random effects", field="draws", remedy=remedy)
    constant = {k: v for k, v in records.covariates.items() if k in model.covariates}
    series = {k: v for k, v in records.series.items() if k in model.covariates}
    last = max([*records.time.tolist(), *records.doses.time.tolist(), 0.0])
    line = timeline(model, constant or {"": np.zeros(len(records))}, series, occasion=records.occasion,
                    until=max(last, until or 0.0))  # fmt: skip
    place, count = _occasions(model, records, line)
    whole = _with_median(_merged(draws))
    return Case(
        model=model, engine=engine or compiled(model), draws=whole, records=records,
        levels=_levels(model, records),
        timeline=line, place=place, coordinates=_coordinates(model, whole, count),
        address=np.asarray([address(name) for name in records.ids], np.uint32),
    )  # fmt: skip


def _levels(model: Model, records: Records) -> Levels:
    from pkpd.twin.together import require_known

    found = Levels.of(records, model)
    require_known(found)
    return found


def able(model: Model) -> None:
    """InputError for a model no twin can follow."""
    from pkpd.model.support import refuse

    refuse(model, "engine")
    require_normal(model, "followed by a twin")
    if model.mixture:
        raise InputError("mixtures cannot be followed by a twin yet", field="model", value=model.name,
                         remedy="leave them out of the model")  # fmt: skip


def _readable(model: Model, records: Records) -> None:
    if records.over.any() or np.isfinite(records.floor).any():
        remedy = "write the limit of quantification with CENS 1 and no LIMIT"
        raise InputError("values above a limit or in an interval cannot inform a twin yet", field="CENS", remedy=remedy)
    names = list(model.outputs)
    for k in np.unique(records.output).tolist():
        if not model.outputs[names[k]].continuous:
            raise InputError("counts and categories cannot inform a twin yet", field="DVID", value=names[k],
                             remedy="leave their rows out")  # fmt: skip


def _merged(draws: PopulationDraws) -> PopulationDraws:
    """One draw, where all are the same."""
    arrays = (draws.typical, draws.omega, draws.error)
    same = all((a == a[:1]).all() for a in arrays)
    return replace(draws, typical=arrays[0][:1], omega=arrays[1][:1], error=arrays[2][:1]) if same else draws


def _with_median(draws: PopulationDraws) -> PopulationDraws:
    middle = median(draws)
    pairs = ((draws.typical, middle.typical), (draws.omega, middle.omega), (draws.error, middle.error))
    typical, omega, error = (np.concatenate(pair) for pair in pairs)
    return replace(draws, typical=typical, omega=omega, error=error)


def _occasions(model: Model, records: Records, line: Timeline) -> tuple[Ints, int]:
    """Number of each row's occasion among those that begin by the patient's last observation; how many there are."""
    place = np.full(len(line.time), -1, np.int64)
    counts = []
    for i in range(len(line)):
        rows = slice(line.offsets[i], line.offsets[i + 1])
        last = records.time[records.subject == i].max(initial=0.0)
        seen = list(dict.fromkeys(line.occasion[rows][line.time[rows] <= last].tolist()))
        place[rows] = [seen.index(o) if o in seen else -1 for o in line.occasion[rows].tolist()]
        counts.append(len(seen))
    if not model.occasion_etas:
        return np.zeros(len(line.time), np.int64), 0
    if len(set(counts)) > 1:
        remedy = "follow them one by one"
        raise InputError("patients of one call must have seen as many occasions", field="records", remedy=remedy)
    return place, counts[0]


def _coordinates(model: Model, draws: PopulationDraws, occasions: int) -> Coordinates:
    variance = np.einsum("dii->di", draws.omega)
    live = (variance > 0.0).all(axis=0)
    names = draws.eta_names
    own = len(model.subject_etas)  # effects between occasions follow those between subjects
    subject = np.asarray([i for i in range(own) if live[i]], np.int64)
    occasion = np.asarray([i for i in range(own, len(names)) if live[i]], np.int64)
    roots = np.linalg.cholesky(draws.omega[:, subject[:, None], subject[None, :]])
    sds = np.sqrt(variance[:, occasion])
    shift = (
        np.column_stack([_placed(model, draws, names[i]) for i in subject])
        if len(subject)
        else np.zeros((len(draws), 0))
    )
    made = [names[i] for i in subject] + [f"{names[i]}@{o}" for o in range(occasions) for i in occasion]
    return Coordinates(
        subject=subject, occasion=occasion, root=roots[-1], roots=roots, shift=shift - shift[-1], sd=sds[-1], sds=sds,
        occasions=occasions, names=tuple(made),
    )  # fmt: skip


def _placed(model: Model, draws: PopulationDraws, name: str) -> Floats:
    """Typical values on the scale of the random effect, (D,)."""
    p = model.parameters[name]
    values = {n: draws.typical[:, i] for i, n in enumerate(draws.names)}
    value = values[name] if p.above is None else values[name] - eq.evaluate(p.above, values)
    if p.above is not None or p.link == "log":
        return np.asarray(np.log(value))
    return np.asarray(np.log(value / (1.0 - value)) if p.link == "logit" else value)


def slots_of(coordinates: Coordinates) -> NDArray[np.uint32]:
    """Slots of the coordinates' random numbers, by name."""
    return slots(coordinates.names)
