"""What the fitted model says of the data: the study simulated again, and predictions of every observation.

The simulation is the product's own: `individual`, `solve`, random numbers by address; no sampler is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.bayes.design import measured_outputs
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.model.records import Records
from pkpd.model.variability import PopulationDraws, individual
from pkpd.posterior import Posterior, median
from pkpd.residual import error_of, observe, sd, taken

if TYPE_CHECKING:
    from pkpd.bayes.fit import Fit
    from pkpd.model.spec import Model

__all__ = ["effects", "population", "predictions", "simulated", "studies"]

Floats = NDArray[np.float64]
BAND = (2.5, 97.5)
CHUNK = 250


def simulated(posterior: Posterior, records: Records, *, seed: int, replicates: int) -> Floats:
    """Observations of `replicates` studies of the same design, (replicates, rows); NaN where a solve failed."""
    u = uniforms(seed, Purpose.PREDICTIVE_DRAW, subject=0, replicate=np.arange(replicates))
    size = len(posterior.draws)
    row = np.minimum((u * size).astype(np.int64), size - 1)
    parts = [
        studies(posterior, records, seed, (np.arange(lo, min(lo + CHUNK, replicates)), row[lo : lo + CHUNK]))
        for lo in range(0, replicates, CHUNK)
    ]
    return np.concatenate(parts)


def effects(seed: int, subjects: int, size: int, replicate: NDArray[np.int64]) -> Floats:
    """Standard normal effects of new subjects, (replicates, subjects, size)."""
    return normals(
        seed, Purpose.PREDICTIVE_IIV, subject=np.arange(subjects)[None, :, None], replicate=replicate[:, None, None],
        slot=np.arange(size)[None, None, :],
    )  # fmt: skip


def studies(
    posterior: Posterior, records: Records, seed: int, which: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Floats:
    """Observations of new studies, (replicates, rows); which: numbers of the replicates (their address), and the
    posterior row of each.
    """
    replicate, row = which
    draws, model = posterior.draws, posterior.model
    z = effects(seed, len(records), len(draws.eta_names), replicate)
    covariates = {name: np.tile(x, (len(replicate), 1)) for name, x in records.covariates.items()}
    theta = individual(model, draws.typical[row], np.linalg.cholesky(draws.omega[row]), covariates, z=z)
    f = _predicted(posterior, records, theta)
    noise = normals(
        seed, Purpose.PREDICTIVE_RESIDUAL, subject=records.subject[None, :], replicate=replicate[:, None],
        index=np.arange(len(records.dv))[None, :],
    )  # fmt: skip
    found = np.empty_like(f)
    for output in measured_outputs(model, records):
        mine = _rows_of(model, records, output)
        error = taken(error_of(model, draws, output), row, (1,))
        found[:, mine] = observe(error, f[:, mine], noise[:, mine])
    return found


def _rows_of(model: Model, records: Records, output: str) -> NDArray[np.bool_]:
    """The rows that measure an output."""
    return np.asarray(records.output == list(model.outputs).index(output))


def _predicted(posterior: Posterior, records: Records, theta: Floats) -> Floats:
    """Predictions of the data's rows, (R, rows), for individual parameters theta (R, N, P)."""
    model = posterior.model
    made = compiled(model)
    place = [made.outputs.index(str(out.is_)) if str(out.is_) in made.outputs else -1 for out in model.outputs.values()]
    which = np.asarray(place)[records.output]
    times, column = _times(records)
    repeats, n = theta.shape[:2]
    everyone = np.tile(np.arange(n), repeats)
    flat = theta.reshape(repeats * n, -1)
    found = np.empty((repeats, len(records.dv)))
    for after in np.unique(records.after):
        solution = solve(made, flat, records.doses.subjects(everyone), times[everyone], after=bool(after))
        values = solution.values.reshape(repeats, n, len(made.outputs), -1)
        rows = records.after == after
        found[:, rows] = values[:, records.subject[rows], which[rows], column[rows]]
    return found


def _times(records: Records) -> tuple[Floats, NDArray[np.int64]]:
    """Sample times (N, most rows), NaN last, and the column of each row; a subject's rows stand in the order of the
    file.
    """
    count = np.bincount(records.subject, minlength=len(records))
    column = np.concatenate([np.arange(k) for k in count])[np.argsort(np.argsort(records.subject, kind="stable"))]
    times = np.full((len(records), int(count.max())), np.nan)
    times[records.subject, column] = records.time
    return times, column


def predictions(fit: Fit, records: Records, *, most_draws: int = 1000) -> pd.DataFrame:
    """Observed against predicted, a row per observation: id, time, observed, population, individual, lower, upper,
    iwres, output, below.

    population: no random effects, at the posterior median. individual: posterior mean of the subject's own curve over
    evenly spaced draws, lower and upper its central 95 %. iwres: (observed - individual)/sd at the median residual
    error; NaN where the value lies below the limit of quantification.
    """
    posterior = fit.posterior
    middle = median(posterior.draws)
    theta = _individuals(fit, records, most_draws)
    own = _predicted(posterior, records, theta)
    lower, upper = np.nanpercentile(own, BAND, axis=0)
    mean = np.nanmean(own, axis=0)
    weighted = np.where(records.below, np.nan, _weighted(posterior.model, middle, records, mean))
    return pd.DataFrame(
        {
            "id": np.asarray(records.ids)[records.subject], "time": records.time, "observed": records.dv,
            "population": population(posterior, records),
            "individual": mean, "lower": lower, "upper": upper, "iwres": weighted,
            "output": np.asarray(list(posterior.model.outputs))[records.output], "below": records.below,
        }
    )  # fmt: skip


def _weighted(model: Model, middle: PopulationDraws, records: Records, mean: Floats) -> Floats:
    """Residuals over their sd; of a log error, on the log scale."""
    found = np.empty_like(mean)
    for output in measured_outputs(model, records):
        rows, error = _rows_of(model, records, output), error_of(model, middle, output)
        f, y = mean[rows], records.dv[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            away = np.log(y / f) if error.is_log else y - f
        found[rows] = away / sd(error, f)
    return found


def population(posterior: Posterior, records: Records) -> Floats:
    """Prediction of every row (rows,) without random effects, at the posterior median."""
    middle = median(posterior.draws)
    n, q = len(records), len(middle.eta_names)
    covariates = {name: x[None, :] for name, x in records.covariates.items()}
    theta = individual(posterior.model, middle.typical, np.zeros((1, q, q)), covariates, z=np.zeros((1, n, q)))
    found: Floats = _predicted(posterior, records, theta)[0]
    return found


def _individuals(fit: Fit, records: Records, most: int) -> Floats:
    """Parameters of the fitted subjects in evenly spaced draws, (R, N, P); their z come from the stored tree."""
    posterior = fit.posterior
    draws = posterior.draws
    row = np.unique(np.linspace(0, len(draws) - 1, min(most, len(draws))).astype(np.int64))
    tree = fit.tree()["posterior"]
    z = np.stack(
        [np.asarray(tree[f"z_{name}"].values).reshape(len(draws), -1)[row] for name in draws.eta_names], axis=2
    )
    covariates = {name: np.tile(x, (len(row), 1)) for name, x in records.covariates.items()}
    return individual(posterior.model, draws.typical[row], np.linalg.cholesky(draws.omega[row]), covariates, z=z)
