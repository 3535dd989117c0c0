"""What comes next: latent values and new measurements, with their uncertainty, under the doses given or others.

Particles, effects of occasions to come and residual errors keep their addresses, so that two regimens are compared in
the same virtual copies of the patient (common random numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.regimen import Events, Schedule
from pkpd.residual import observe
from pkpd.twin.likelihood import Ahead, People, errors, outputs, people
from pkpd.twin.target import ROWS
from pkpd.twin.twin import Twins

__all__ = ["Forecast", "folk", "followed", "forecast", "measured", "quantiles"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
REPEATS = 4
"""Measurements drawn of each particle: the residual error costs nothing beside the solve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Quantiles of one output at `levels`, each (n, levels, T): `latent`, the true value, and `measured`, a new
    measurement of it. times (n, T) h. failed (n,): weight of particles whose solve failed; they are left out.
    """

    output: str
    levels: tuple[float, ...]
    times: Floats
    latent: Floats
    measured: Floats
    failed: Floats


def forecast(
    twins: Twins, times: ArrayLike, *, output: str | None = None, schedule: Schedule | None = None,
    levels: tuple[float, ...] = LEVELS, after: bool = False,
) -> Forecast:  # fmt: skip
    """Quantiles at times (n, T) or (T,) h. schedule: all doses of the patient instead of those of the data."""
    asked = np.asarray(times, np.float64)
    asked = np.broadcast_to(asked, (len(twins), asked.shape[-1]))
    name = output or next(n for n, o in twins.case.model.outputs.items() if o.continuous)
    step = max(1, ROWS // twins.draw.shape[1])
    parts = [_part(twins, np.arange(lo, min(lo + step, len(twins))), asked, name=name, schedule=schedule,
                   levels=levels, after=after) for lo in range(0, len(twins), step)]  # fmt: skip
    latent, seen, failed = (np.concatenate([p[k] for p in parts]) for k in range(3))
    return Forecast(output=name, levels=levels, times=asked, latent=latent, measured=seen, failed=failed)


def _part(
    twins: Twins, patients: Ints, times: Floats, *, name: str, schedule: Schedule | None, levels: tuple[float, ...],
    after: bool,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    size = twins.draw.shape[1]
    everyone = folk(twins, patients)
    values = followed(twins, everyone, times[patients], schedule=schedule, after=after)[name]
    shape = (len(patients), size, times.shape[1])
    weight = twins.weight[patients]
    drawn = measured(twins, everyone, values, name).reshape(len(patients), size * REPEATS, shape[2])
    latent = values.reshape(shape)
    lost = np.sum(np.where(np.isnan(latent).all(axis=2), weight, 0.0), axis=1)
    wide = np.repeat(weight / REPEATS, REPEATS, axis=1)
    return quantiles(latent, weight, levels), quantiles(drawn, wide, levels), lost


def folk(twins: Twins, patients: Ints) -> People:
    """Every particle of some patients, patient after patient."""
    size = twins.draw.shape[1]
    who = np.repeat(patients, size)
    draw, x = twins.draw[patients].ravel(), twins.x[patients].reshape(len(who), twins.x.shape[2])
    z, _ = twins.case.coordinates.effects(draw, x)
    ahead = Ahead(seed=twins.seed, particle=np.tile(np.arange(size), len(patients)))
    return people(twins.case, who, draw, z, ahead=ahead)


def followed(
    twins: Twins, everyone: People, times: Floats, *, schedule: Schedule | None = None, after: bool = False
) -> dict[str, Floats]:
    """True values {output: (rows, T)} at times (patients, T) of the rows' patients; NaN where a solve failed."""
    size = twins.draw.shape[1]
    events = None if schedule is None else Events.shared(schedule, len(everyone))
    wide = np.repeat(times, size, axis=0)
    return outputs(twins.case, everyone, wide, events=events, after=after)[0]


def measured(twins: Twins, everyone: People, values: Floats, output: str) -> Floats:
    """`REPEATS` new measurements of every row and time, (rows x REPEATS, T), repeats of a row together."""
    size, count = twins.draw.shape[1], values.shape[1]
    who: dict[str, Any] = {
        "subject": (np.arange(len(everyone)) % size)[:, None, None],
        "replicate": twins.case.address[everyone.who][:, None, None],
        "index": np.arange(count)[None, None, :] * REPEATS + np.arange(REPEATS)[None, :, None],
    }
    z = normals(twins.seed, Purpose.TWIN_MEASURED, **who, slot=slots([output])[0])
    law = errors(twins.case, np.repeat(everyone.draw, REPEATS))[output]
    return observe(law, np.repeat(values, REPEATS, axis=0), z.reshape(-1, count))


def quantiles(values: Floats, weight: Floats, levels: tuple[float, ...]) -> Floats:
    """Weighted quantiles (n, levels, T) of values (n, S, T) with weights (n, S); NaN values are left out.

    Linear between the midpoints of the steps of the distribution function.
    """
    n, _, count = values.shape
    found = np.full((n, len(levels), count), np.nan)
    for i in range(n):
        order = np.argsort(values[i], axis=0, kind="stable")
        ranked = np.take_along_axis(values[i], order, axis=0)
        mass = np.where(np.isnan(ranked), 0.0, weight[i][order])
        total = np.cumsum(mass, axis=0)
        for t in range(count):
            if total[-1, t] > 0.0:
                keep = mass[:, t] > 0.0
                middle = (total[keep, t] - 0.5 * mass[keep, t]) / total[-1, t]
                found[i, :, t] = np.interp(levels, middle, ranked[keep, t])
    return found
