"""Published mean levels, simulated: many studies of the published size, each with one draw of the population "
"parameters."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from reports.study import Level, Published

if TYPE_CHECKING:
    from trials.record import RunRecord

Floats = NDArray[np.float64]
STUDIES: Final = 400
ADDRESS: Final = 2_000_000  # replicates of the classes of a mixture from here on: those of trials are below
_INTERVALS: Final = 60  # dosing intervals before the one that is looked at: steady state


def simulated(record: "RunRecord", listed: tuple[Published, ...]) -> dict[tuple[str, float], Level]:
    """Mean levels by (key of the published result, time in h): median and central 95 % over simulated studies.

    A study's people have the reference covariates (70 kg, never smoked, where the text says so), take every dose and
    are at steady state; the pre-dose level is that before the next dose too. Residual error is in: levels are measured.
    """
    return {
        (item.key, time): level
        for item in listed
        if item.what == "levels"
        for time, level in zip(item.times, _levels(record, item), strict=True)
    }


def _levels(record: "RunRecord", item: Published) -> list[Level]:
    means = _means(record, item)
    if not np.isfinite(means).any():
        return []
    low, middle, high = np.nanquantile(means, [0.025, 0.5, 0.975], axis=0)
    return [Level(median=float(m), low=float(a), high=float(b)) for a, m, b in zip(low, middle, high, strict=True)]


def _means(record: "RunRecord", item: Published) -> Floats:
    """Mean measured level by study and time, (S, T)."""
    from pkpd.engine.build import compiled
    from pkpd.engine.solve import solve
    from pkpd.ground.units import Quantity
    from pkpd.model.regimen import Dose, Events, Regimen

    model, engine = record.model, compiled(record.model)
    people, covariates = _people(record, item.people)
    start = item.every * _INTERVALS
    dose = Dose(
        amount=Quantity(item.amount, "mg"), into=next(iter(model.doses)), every=item.every, times=_INTERVALS + 1
    )
    events = Events.shared(Regimen((dose,)).schedule(model.dose_units), len(people))
    found = solve(engine, people, events, start + np.asarray(item.times), covariates=covariates)
    output = next(name for name, out in model.outputs.items() if out.is_ in engine.outputs)
    true = found.values[:, engine.outputs.index(model.outputs[output].is_)]
    return _measured(record, output, true.reshape(-1, item.people, len(item.times))).mean(axis=1)


def _people(record: "RunRecord", size: int) -> tuple[Floats, dict[str, Floats]]:
    """Parameters of STUDIES x size people, (n, P), on one occasion, and covariates and classes {name: (n,)}."""
    from pkpd.ground.streams import Purpose, normals
    from pkpd.model.outcomes import classes
    from pkpd.model.variability import individual
    from populations.patients import lower_roots

    model, draws = record.model, record.draws
    row = (np.arange(STUDIES) * len(draws)) // STUDIES if len(draws) > STUDIES else np.arange(STUDIES) % len(draws)
    z = normals(
        record.protocol.seed, Purpose.EXTERNAL_CHECK, subject=np.arange(size)[None, :, None],
        replicate=np.arange(STUDIES)[:, None, None], slot=np.arange(len(draws.eta_names)),
    )  # fmt: skip
    covariates = {
        name: np.full((STUDIES, size), 0.0 if c.reference is None else float(c.reference))
        for name, c in model.covariates.items()
    }
    who = {"subject": np.arange(size), "replicate": ADDRESS + np.arange(STUDIES)}
    covariates |= classes(model, draws.typical[row], record.protocol.seed, **who)
    values = individual(model, draws.typical[row], lower_roots(draws.omega[row]), covariates, z=z)
    flat = {name: np.ascontiguousarray(value).reshape(-1) for name, value in covariates.items()}
    return np.ascontiguousarray(values.reshape(STUDIES * size, -1)), flat


def _measured(record: "RunRecord", output: str, true: Floats) -> Floats:
    """Levels (S, n, T) with residual error, each study with the residual standard deviations of its draw."""
    from pkpd import residual
    from pkpd.ground.streams import Purpose, normals

    draws = record.draws
    row = (np.arange(STUDIES) * len(draws)) // STUDIES if len(draws) > STUDIES else np.arange(STUDIES) % len(draws)
    z = normals(
        record.protocol.seed, Purpose.EXTERNAL_CHECK, subject=np.arange(true.shape[1])[None, :, None],
        replicate=np.arange(STUDIES)[:, None, None], index=1 + np.arange(true.shape[2]),
    )  # fmt: skip
    error = residual.error_of(record.model, draws, output)
    return residual.observe(residual.taken(error, row, (1, 1)), true, z)
