"""`twins`: from patients' data to the posterior of each one; `Twin` is one patient of them.

1. mode and Hessian of all patients at once; 2. importance sampling; 3. where Pareto k or the effective number of draws
will not do, another round around what the particles say; 4. then tempering; 5. then NUTS. Each result says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws
from pkpd.twin.case import Case, case_of
from pkpd.twin.importance import Cloud, Proposal, importance, refitted
from pkpd.twin.target import Mode, modes
from pkpd.twin.tempering import Tempered, tempered

__all__ = ["METHODS", "SEED", "Settings", "Twins", "of_case", "twins"]

Floats = NDArray[np.float64]
SEED = 20261121
MODES = "the posterior has"
METHODS = ("importance sampling", "importance sampling, refitted", "tempering", "NUTS", "resample-move", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """particles per patient; limits: Pareto k and effective draws that importance sampling must hold; nuts: whether
    NUTS may be tried last.
    """

    particles: int = 1000
    worst_k: float = 0.7
    least_ess: float = 200.0
    rounds: int = 2
    nuts: bool = True

    def __post_init__(self) -> None:
        if not 100 <= self.particles <= 1_000_000:
            raise InputError("must be from 100 to 1000000", field="particles", value=self.particles)


@dataclass(frozen=True, kw_only=True)
class Twins:
    """The posterior of n patients as weighted particles.

    draw (n, S), x (n, S, K) and z (n, S, K) standard normal effects, weight (n, S); mode: MAP at the median draw;
    method (n,): place in `METHODS`; k, ess (n,); warnings (n,): sentences.
    """

    case: Case
    settings: Settings
    seed: int
    draw: NDArray[np.int64]
    x: Floats
    weight: Floats
    mode: Mode
    method: NDArray[np.int8]
    k: Floats
    ess: Floats
    warnings: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.case)

    @property
    def z(self) -> Floats:
        """Standard normal effects under each particle's own draw, (n, S, K)."""
        n, s, size = self.x.shape
        return self.case.coordinates.effects(self.draw.ravel(), self.x.reshape(n * s, size))[0].reshape(n, s, size)

    def ok(self, patient: int) -> bool:
        """Whether the posterior of a patient may be used."""
        return int(self.method[patient]) < METHODS.index("failed")


def twins(
    model: Model, records: Records, draws: PopulationDraws, *, seed: int = SEED, settings: Settings | None = None,
    until: float | None = None,
) -> Twins:  # fmt: skip
    """The posterior of every patient of `records`, whose random numbers have the address of the patient's identifier.

    draws: of the population parameters, their uncertainty (`published(model, 1000, seed)`, or those of a fit). until:
    last time [h] of interest. Errors: InputError for data or models a twin cannot use.

    >>> from pkpd.model.library import load
    >>> from pkpd.model.variability import point
    >>> model = load("goti_vancomycin")
    >>> data = "ID,TIME,AMT,DUR,DV,EVID,CRCL,WT,DIAL\\nA,0,1000,1,.,1,90,70,0\\nA,11,.,.,9.5,0,90,70,0"
    >>> found = twins(model, Records.parse(data, model=model), point(model))
    >>> found.x.shape, bool(found.k[0] < 0.7)
    ((1, 1000, 3), True)
    """
    return of_case(case_of(model, records, draws, until=until), seed=seed, settings=settings)


def of_case(case: Case, *, seed: int = SEED, settings: Settings | None = None) -> Twins:
    """`twins` of a case that is there already."""
    chosen = settings or Settings()
    tops = modes(case, seed=seed)
    proposal = Proposal.around(tops.x, tops.covariance, tops.share)
    cloud = importance(case, proposal, seed=seed, particles=chosen.particles)
    found = _packed(case, chosen, seed, tops, cloud=cloud)
    for round_ in range(1, chosen.rounds + 1):
        found = _again(found, round_)
    for patient in np.flatnonzero(_weak(found)).tolist():
        found = _tempered(found, patient) if np.isfinite(found.weight[patient]).all() else _impossible(found, patient)
    for patient in np.flatnonzero(_failed(found)).tolist() if chosen.nuts else ():
        found = _sampled(found, patient)
    return found


def _failed(found: Twins) -> NDArray[np.bool_]:
    """Those that failed although some particle can explain the data."""
    return np.asarray((found.method == METHODS.index("failed")) & np.isfinite(found.weight).all(axis=1))


def _packed(case: Case, settings: Settings, seed: int, tops: Mode, *, cloud: Cloud) -> Twins:
    rows, best = np.arange(len(case)), np.argmax(tops.value, axis=1)
    top = Mode(**{name: getattr(tops, name)[rows, best] for name in Mode.__slots__})
    several = (tops.share > 0.01).sum(axis=1)
    said = tuple(_said(cloud, i) + _many(int(several[i])) for i in range(len(case)))
    return Twins(
        case=case, settings=settings, seed=seed, draw=cloud.draw, x=cloud.x, weight=cloud.weight, mode=top,
        method=np.zeros(len(case), np.int8), k=cloud.k, ess=cloud.ess,
        warnings=said,
    )  # fmt: skip


def _many(count: int) -> tuple[str, ...]:
    """What several modes mean."""
    if count < 2:
        return ()
    return (f"{MODES} {count} modes: more than one explanation of the data, all of them are in the intervals",)


def _still(found: Twins, patient: int) -> tuple[str, ...]:
    """What a better sample does not take back: the modes were found before any was drawn."""
    return tuple(said for said in found.warnings[patient] if said.startswith(MODES))


def _said(cloud: Cloud, patient: int) -> tuple[str, ...]:
    lost = float(cloud.failed[patient])
    return (f"{lost:.0%} of the particles were not solved or are ruled out by the data",) if lost > 0.05 else ()


def _weak(found: Twins) -> NDArray[np.bool_]:
    return np.asarray(~(found.k <= found.settings.worst_k) | ~(found.ess >= found.settings.least_ess))


def _again(found: Twins, round_: int) -> Twins:
    """Another round for the weak ones, around the moments of their particles; kept where it is better."""
    weak = np.flatnonzero(_weak(found) & np.isfinite(found.weight).all(axis=1))
    if not len(weak):
        return found
    part = _subcase(found.case, weak)
    cloud = Cloud(
        draw=found.draw[weak], x=found.x[weak], weight=found.weight[weak], log_likelihood=np.zeros(0),
        log_weight=np.zeros(0), k=found.k[weak], ess=found.ess[weak], failed=np.zeros(len(weak)),
    )  # fmt: skip
    new = importance(part, refitted(cloud), seed=found.seed, particles=found.settings.particles, round_=round_)
    better = weak[new.k < cloud.k]
    return _replaced(found, better, new, np.flatnonzero(new.k < cloud.k), method=1)


def _replaced(found: Twins, rows: NDArray[np.intp], cloud: Cloud, taken: NDArray[np.intp], *, method: int) -> Twins:
    columns = {name: getattr(found, name).copy() for name in ("draw", "x", "weight", "k", "ess", "method")}
    for name in ("draw", "x", "weight", "k", "ess"):
        columns[name][rows] = getattr(cloud, name)[taken]
    columns["method"][rows] = method
    warnings = list(found.warnings)
    for row, place in zip(rows.tolist(), taken.tolist(), strict=True):
        warnings[row] = (*_said(cloud, place), *_still(found, row))
    return replace(found, warnings=tuple(warnings), **columns)


def _subcase(case: Case, patients: NDArray[np.intp]) -> Case:
    """Some patients of a case."""
    from pkpd.twin.subset import subset

    return subset(case, patients)


def _tempered(found: Twins, patient: int) -> Twins:
    made = tempered(found.case, patient, seed=found.seed, particles=found.settings.particles)
    ess = made.distinct * len(made.particles)
    good = made.finished and made.accepted > 0.05 and ess >= found.settings.least_ess
    said = [f"importance sampling failed (Pareto k {found.k[patient]:.2f}, {found.ess[patient]:.0f} effective draws)"]
    said += [*([] if good else [_trouble(made)]), *_still(found, patient)]
    return _placed(found, patient, made.particles.draw, made.particles.x, ess=ess if good else 0.0,
                   method=METHODS.index("tempering" if good else "failed"), said=said)  # fmt: skip


def _impossible(found: Twins, patient: int) -> Twins:
    """No particle can explain the data: say which row."""
    from pkpd.twin.forecasting import folk
    from pkpd.twin.likelihood import pointwise

    case = found.case
    density = pointwise(case, folk(found, np.asarray([patient], np.int64)), case.levels)
    rows = np.flatnonzero(~np.isfinite(density).any(axis=0) & case.levels.there[patient])
    names = list(case.model.outputs)
    levels = case.levels
    cells = [(names[levels.output[patient, t]], levels.value[patient, t], levels.time[patient, t]) for t in rows]
    why = "(before any drug, no error there, or not solved)"
    said = ["no particle can explain the data"]
    said += [f"{name} {value:g} at {time:g} h is impossible under the model {why}" for name, value, time in cells]
    warnings, method = list(found.warnings), found.method.copy()
    warnings[patient], method[patient] = tuple(said), METHODS.index("failed")
    return replace(found, warnings=tuple(warnings), method=method)


def _trouble(made: Tempered) -> str:
    if not made.finished:
        return f"tempering did not reach the posterior in {made.levels} levels"
    return (
        f"tempering's moves were accepted too rarely ({made.accepted:.1%}, {made.distinct:.0%} of particles distinct)"
    )


def _sampled(found: Twins, patient: int) -> Twins:
    from pkpd.bayes.individual import sampled  # PyMC: never loaded by workers

    draw, x, ess, verdict = sampled(found.case, patient, seed=found.seed, particles=found.settings.particles)
    good = not verdict and ess >= found.settings.least_ess
    said = [*found.warnings[patient], *([verdict] if verdict else [])]
    return _placed(found, patient, draw, x, ess=ess, method=METHODS.index("NUTS" if good else "failed"), said=said)


def _placed(
    found: Twins, patient: int, draw: NDArray[np.int64], x: Floats, *, ess: float, method: int, said: Sequence[str]
) -> Twins:
    """Particles of equal weight in place of a patient's."""
    columns = {name: getattr(found, name).copy() for name in ("draw", "x", "weight", "ess", "method")}
    columns["draw"][patient], columns["x"][patient] = draw, x
    columns["weight"][patient], columns["ess"][patient], columns["method"][patient] = 1.0 / len(draw), ess, method
    warnings = list(found.warnings)
    warnings[patient] = tuple(said)
    return replace(found, warnings=tuple(warnings), **columns)
