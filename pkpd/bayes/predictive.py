"""What the fitted model says of the data: the study simulated again, and predictions of every observation.

The simulation is the product's own: `individual`, `solve`, random numbers by address; no sampler is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.bayes.design import measured_outputs
from pkpd.bayes.people import Effects, people, redrawn
from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.model import together
from pkpd.model.records import Records
from pkpd.model.variability import PopulationDraws
from pkpd.posterior import Posterior, median
from pkpd.residual import error_of, observe, sd, taken

if TYPE_CHECKING:
    from pkpd.bayes.fit import Fit
    from pkpd.model.spec import Model

__all__ = ["population", "predictions", "simulated", "studies"]

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


def studies(
    posterior: Posterior, records: Records, seed: int, which: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Floats:
    """Observations of new studies, (replicates, rows); which: numbers of the replicates (their address), and the
    posterior row of each.
    """
    replicate, row = which
    draws, model = posterior.draws, posterior.model
    folk = people(model, records)
    f = folk.predictions(draws.typical[row], np.linalg.cholesky(draws.omega[row]), redrawn(folk, seed, replicate))
    noise = normals(
        seed, Purpose.PREDICTIVE_RESIDUAL, subject=records.subject[None, :], replicate=replicate[:, None],
        index=np.arange(len(records.dv))[None, :],
    )  # fmt: skip
    tied = together.groups(model, records)
    if len(tied):
        noise = together.correlated(noise, tied, records.output, together.matrices(model, draws)[row])
    found = np.empty_like(f)
    for output in measured_outputs(model, records):
        mine = _rows_of(model, records, output)
        error = taken(error_of(model, draws, output), row, (1,))
        found[:, mine] = observe(error, f[:, mine], noise[:, mine])
    return found


def _rows_of(model: Model, records: Records, output: str) -> NDArray[np.bool_]:
    """The rows that measure an output."""
    return np.asarray(records.output == list(model.outputs).index(output))


def predictions(fit: Fit, records: Records, *, most_draws: int = 1000) -> pd.DataFrame:
    """Observed against predicted, a row per observation: id, time, observed, population, individual, lower, upper,
    iwres, output, below.

    population: no random effects, at the posterior median. individual: posterior mean of the subject's own curve over
    evenly spaced draws, lower and upper its central 95 %. iwres: (observed - individual)/sd at the median residual
    error; NaN where the value lies below the limit of quantification.
    """
    posterior = fit.posterior
    middle = median(posterior.draws)
    own = _own_curves(fit, records, most_draws)
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
    folk, q = people(posterior.model, records), len(middle.eta_names)
    found: Floats = folk.predictions(middle.typical, np.zeros((1, q, q)), folk.none())[0]
    return found


def _own_curves(fit: Fit, records: Records, most: int) -> Floats:
    """Predictions of the fitted subjects in evenly spaced draws, (R, rows); their effects come from the stored tree."""
    draws, folk = fit.posterior.draws, people(fit.posterior.model, records)
    row = np.unique(np.linspace(0, len(draws) - 1, min(most, len(draws))).astype(np.int64))
    tree, zero = fit.tree()["posterior"], folk.none(len(row))

    def stored(names: Sequence[str], empty: Floats) -> Floats:
        columns = [np.asarray(tree[f"z_{n}"].values, np.float64).reshape(len(draws), -1)[row] for n in names]
        return np.stack(columns, axis=2) if columns else empty

    model = folk.model
    z = Effects(
        own=stored(model.subject_etas, zero.own),
        later=stored([n for n in draws.eta_names if n not in model.subject_etas], zero.later),
        missing=stored(["missing"], zero.missing)[:, :, 0] if folk.absent.names else zero.missing,
    )
    parts = [
        folk.predictions(draws.typical[row[at]], np.linalg.cholesky(draws.omega[row[at]]), _some(z, at))
        for at in np.array_split(np.arange(len(row)), -(-len(row) // CHUNK))
    ]
    return np.concatenate(parts)


def _some(z: Effects, at: NDArray[np.intp]) -> Effects:
    return Effects(own=z.own[at], later=z.later[at], missing=z.missing[at])
