"""Does the fitted model give back the data? Visual predictive check and predictions, as plain tables.

The simulation is the product's own: `individual`, `solve`, random numbers by address; no sampler is imported. A VPC is
a check of calibration on the data of the fit, not a validation. Karlsson & Holford (2008), PAGE 17 abstract 1434.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pkpd.bayes.design import measured_outputs
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.model.records import Records
from pkpd.model.variability import PopulationDraws, individual
from pkpd.posterior import Posterior, median
from pkpd.residual import error_of, observe, sd, taken

if TYPE_CHECKING:
    from pkpd.bayes.fit import Fit
    from pkpd.model.spec import Model

__all__ = ["PredictiveCheck", "effects", "nominal_bins", "predictions", "simulated", "studies", "vpc"]

Floats = NDArray[np.float64]
PERCENTILES = (5.0, 50.0, 95.0)
BAND = (2.5, 50.0, 97.5)
CHUNK = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveCheck:
    """`bands`: a row per output, bin and percentile: output, bin, time [h], n, percentile, observed, lower, median,
    upper (95 % of the simulated percentile). `points`: the observations. `failed`: simulated rows lost to failed
    solves, left out.
    """

    bands: pd.DataFrame
    points: pd.DataFrame
    replicates: int
    failed: int

    @property
    def inside(self) -> float:
        """Share of observed percentiles inside their band."""
        b = self.bands
        return float(((b["observed"] >= b["lower"]) & (b["observed"] <= b["upper"])).mean())


def vpc(
    posterior: Posterior, records: Records, *, seed: int, replicates: int = 1000, bins: ArrayLike | None = None
) -> PredictiveCheck:
    """Observed against simulated percentiles by bin of nominal time; `bins` (rows,) overrides the binning.

    Each replicate is the whole study again: one posterior row, new random effects, new residual errors.
    """
    group = nominal_bins(records) if bins is None else np.asarray(bins)
    if group.shape != records.time.shape:
        raise InputError("must give one bin for each observation", field="bins", value=group.shape)
    y = simulated(posterior, records, seed=seed, replicates=replicates)
    names = np.asarray(list(posterior.model.outputs))[records.output]
    rows = [
        {"output": output, **row}
        for output in measured_outputs(posterior.model, records)
        for k in np.unique(group[names == output])
        for row in _bands(int(k), (group == k) & (names == output), y, records)
    ]
    who = np.asarray(records.ids)[records.subject]
    points = pd.DataFrame({"id": who, "output": names, "time": records.time, "value": records.dv})
    return PredictiveCheck(
        bands=pd.DataFrame(rows), points=points, replicates=replicates, failed=int(np.isnan(y).sum())
    )


def nominal_bins(records: Records) -> NDArray[np.int64]:
    """A bin for each row, by output: the subject's k-th sample where all have as many, else about equal counts of
    similar times.

    Rows of an output with the same time always share a bin.
    """
    found = np.empty(len(records.time), np.int64)
    for output in np.unique(records.output):
        rows = records.output == output
        found[rows] = _bins(records.subject[rows], np.asarray(records.time[rows]))
    return found


def _bins(subject: NDArray[np.int64], time: Floats) -> NDArray[np.int64]:
    count = np.unique(subject, return_counts=True)[1]
    if (count == count[0]).all():
        order = np.lexsort((time, subject))
        found = np.empty(len(order), np.int64)
        found[order] = np.tile(np.arange(count[0]), len(count))
        return found
    wanted = int(np.clip(np.median(count), 3, 12))
    edges = np.unique(np.quantile(time, np.linspace(0.0, 1.0, wanted + 1)[1:-1], method="inverted_cdf"))
    return np.searchsorted(edges, time, side="left").astype(np.int64)


def _bands(number: int, rows: NDArray[np.bool_], y: Floats, records: Records) -> list[dict[str, float]]:
    observed = np.percentile(records.dv[rows], PERCENTILES)
    part = y[:, rows]
    part = part[np.isfinite(part).all(axis=1)]
    if not len(part):
        part = np.full((1, int(rows.sum())), np.nan)
    spread = np.percentile(np.percentile(part, PERCENTILES, axis=1), BAND, axis=1)
    head = {"bin": number, "time": float(np.median(records.time[rows])), "n": int(rows.sum())}
    return [
        {
            **head, "percentile": level, "observed": float(observed[k]), "lower": float(spread[0, k]),
            "median": float(spread[1, k]), "upper": float(spread[2, k]),
        }
        for k, level in enumerate(PERCENTILES)
    ]  # fmt: skip


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
    iwres, output.

    population: no random effects, at the posterior median. individual: posterior mean of the subject's own curve over
    evenly spaced draws, lower and upper its central 95 %. iwres: (observed - individual)/sd at the median residual
    error.
    """
    posterior = fit.posterior
    middle = median(posterior.draws)
    theta = _individuals(fit, records, most_draws)
    own = _predicted(posterior, records, theta)
    lower, upper = np.nanpercentile(own, (BAND[0], BAND[2]), axis=0)
    mean = own.mean(axis=0)
    weighted = _weighted(posterior.model, middle, records, mean)
    return pd.DataFrame(
        {
            "id": np.asarray(records.ids)[records.subject], "time": records.time, "observed": records.dv,
            "population": _predicted(posterior, records, _typical(posterior, records, middle))[0],
            "individual": mean, "lower": lower, "upper": upper, "iwres": weighted,
            "output": np.asarray(list(posterior.model.outputs))[records.output],
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


def _typical(posterior: Posterior, records: Records, middle: PopulationDraws) -> Floats:
    n, q = len(records), len(middle.eta_names)
    covariates = {name: x[None, :] for name, x in records.covariates.items()}
    return individual(posterior.model, middle.typical, np.zeros((1, q, q)), covariates, z=np.zeros((1, n, q)))


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
