"""Virtual patients: a cohort, one draw of the population parameters per replicate, and each subject's own effects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from populations.cohort import Cohort

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from pkpd.model.timeline import Series, Timeline
    from pkpd.model.variability import PopulationDraws

__all__ = ["Patients", "patients"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patients:
    """`parameters` (R, N, P), in the order of the model's, as they are at the start; `draw` (R,): the population draw
    of each replicate; `classes` {name: (R, N)}: 1 for the members of a class of the mixture, else 0; `line`: when
    occasions change, of R x N subjects, replicate by replicate; `rows` (m, P): parameters under each row of `line`.
    """

    parameters: F64
    draw: NDArray[np.int64]
    classes: dict[str, F64]
    line: Timeline
    rows: F64


def patients(
    model: Model,
    draws: PopulationDraws,
    cohort: Cohort,
    *,
    seed: int,
    borders: F64 | None = None,
    until: float = 0.0,
) -> Patients:
    """Give each subject of a cohort its parameters: typical values of its replicate's draw, covariates, random effects.

    Two levels of chance stay apart: one population draw per replicate (at its own address; a single row serves all),
    one vector of standard normals per subject (slot of the random effect's name) and occasion, scaled by that draw's
    IIV and IOV. borders (R, N, K) [h], ascending: where occasions 1, 2, ... begin; without it they are the periods of
    the model up to `until` [h].
    Errors: InputError for draws of another model and for a covariate the model needs and the cohort has not.
    """
    from pkpd.model.outcomes import classes
    from pkpd.model.timeline import timeline
    from pkpd.model.variability import along

    _check_same(model, draws)
    draw = population_draw(seed, cohort.replicate, len(draws.typical))
    typical, who = np.asarray(draws.typical)[draw], {"subject": cohort.subject, "replicate": cohort.replicate}
    members = classes(model, typical, seed, **who)
    known = {name: np.asarray(values).reshape(-1) for name, values in {**cohort.covariates, **members}.items()}
    size = cohort.subject.size * cohort.replicate.size
    occasion = None if borders is None else _begun(borders.reshape(size, -1))
    line = timeline(model, known, occasion=occasion, until=until, size=size)
    rows = along(model, (typical, lower_roots(np.asarray(draws.omega)[draw])), line, seed=seed, **who)
    start = rows[line.offsets[:-1]].reshape(cohort.replicate.size, cohort.subject.size, -1)
    return Patients(parameters=start, draw=draw, classes=members, line=line, rows=rows)


def _begun(borders: F64) -> Series:
    """Occasion 0 from the start, 1, 2, ... from the borders (n, K) on."""
    from pkpd.model.timeline import Series

    n, size = borders.shape[0], borders.shape[1] + 1
    time = np.column_stack([np.zeros(n), borders])
    number = np.tile(np.arange(float(size)), n)
    return Series(np.arange(n + 1, dtype=np.int64) * size, time.reshape(-1), number)


def _check_same(model: Model, draws: PopulationDraws) -> None:
    """Draws must be in the model's order: a shuffled column would look right and be wrong."""
    for kind, ours, theirs in (
        ("parameters", tuple(model.parameters), draws.names), ("random effects", model.eta_names, draws.eta_names)
    ):  # fmt: skip
        if ours != tuple(theirs):
            problem = f"the population draws are of other {kind} than model {model.name}: {', '.join(ours)}"
            raise InputError(problem, value=", ".join(theirs), remedy="draw from a posterior of this model")


def population_draw(seed: int, replicates: NDArray[np.uint32], rows: int) -> NDArray[np.int64]:
    """Which of `rows` population draws each replicate takes, (R,): uniform, with replacement.

    >>> population_draw(1, np.arange(3, dtype=np.uint32), 1).tolist()
    [0, 0, 0]
    """
    u = uniforms(seed, Purpose.POPULATION_DRAW, subject=0, replicate=replicates)
    return np.minimum(np.floor(u * rows), rows - 1).astype(np.int64)


def lower_roots(omega: F64) -> F64:
    """Lower Cholesky factors of covariance matrices (R, q, q), sums in a fixed order.

    A random effect may have variance 0. Errors: ValueError where a matrix is not positive semidefinite.

    >>> lower_roots(np.array([[[4.0, 0.0], [0.0, 0.0]]])).tolist()
    [[[2.0, 0.0], [0.0, 0.0]]]
    """
    root = np.zeros_like(omega)
    for i in range(omega.shape[-1]):
        for j in range(i + 1):
            left = omega[:, i, j].copy()
            for k in range(j):
                left -= root[:, i, k] * root[:, j, k]
            root[:, i, j] = _pivot(left, omega[:, i, i]) if i == j else _share(left, root[:, j, j])
    return root


def _pivot(left: F64, variance: F64) -> F64:
    """Square root of what is left of a variance; rounding below 0 is 0."""
    slack = 1e-12 * np.abs(variance)
    if not (np.isfinite(left).all() and (left >= -slack).all() and (variance >= 0.0).all()):
        raise ValueError("the covariance matrix of the random effects is not positive semidefinite")
    return np.sqrt(np.where(left > slack, left, 0.0))


def _share(left: F64, pivot: F64) -> F64:
    nothing = pivot == 0.0
    if (nothing & (np.abs(left) > math.sqrt(1e-12))).any():
        raise ValueError("the covariance matrix of the random effects is not positive semidefinite")
    return np.where(nothing, 0.0, left / np.where(nothing, 1.0, pivot))
