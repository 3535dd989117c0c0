"""Visual predictive checks: observed percentiles over what the fitted model gives when it simulates the study again.

With a limit of quantification a value below it counts as lowest, on both sides; a percentile that falls there is not
shown (NaN), and the fraction below the limit has bands of its own (Bergstrand & Karlsson 2009, AAPS J 11:371). The
prediction-corrected check multiplies every value by (median prediction of its bin)/(its own prediction), so that doses
and covariates that differ within a bin do not blur it (Bergstrand et al. 2011, AAPS J 13:143). A VPC is a check of
calibration on the data of the fit, not a validation. Karlsson & Holford (2008), PAGE 17 abstract 1434.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pkpd.bayes.design import measured_outputs
from pkpd.bayes.predictive import population, simulated
from pkpd.ground.errors import InputError
from pkpd.model.parts import inside
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.posterior import Posterior

__all__ = ["PredictiveCheck", "limits", "nominal_bins", "vpc"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PERCENTILES = (5.0, 50.0, 95.0)
BAND = (2.5, 50.0, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveCheck:
    """`bands`: a row per output, bin and percentile: output, bin, time [h], n, percentile, observed, lower, median,
    upper (95 % of the simulated percentile); `corrected` the same after prediction correction; `below`: a row per
    output with a limit and bin: output, bin, time, n, limit, observed, lower, median, upper fraction below the limit.
    `points`: the observations (id, output, time, value, corrected, below). `failed`: simulated rows lost to failed
    solves, left out.
    """

    bands: pd.DataFrame
    corrected: pd.DataFrame
    below: pd.DataFrame
    points: pd.DataFrame
    replicates: int
    failed: int

    @property
    def inside(self) -> float:
        """Share of observed percentiles inside their band, of those that can be seen."""
        b = self.bands[self.bands["observed"].notna() & self.bands["lower"].notna()]
        return float(((b["observed"] >= b["lower"]) & (b["observed"] <= b["upper"])).mean())


def vpc(
    posterior: Posterior,
    records: Records,
    *,
    seed: int,
    replicates: int = 1000,
    bins: ArrayLike | None = None,
    studies: Floats | None = None,
) -> PredictiveCheck:
    """Observed against simulated percentiles by bin of nominal time; `bins` (rows,) overrides the binning.

    Each replicate is the whole study again: one posterior row, new random effects, new residual errors. studies:
    simulated already (replicates, rows).
    """
    group = nominal_bins(records) if bins is None else np.asarray(bins)
    if group.shape != records.time.shape:
        raise InputError("must give one bin for each observation", field="bins", value=group.shape)
    y = simulated(posterior, records, seed=seed, replicates=replicates) if studies is None else studies
    limit = limits(posterior.model, records)
    low = records.below | (records.dv < limit)
    factor = _correction(posterior, records, group)
    cells = _cells(posterior.model, records, group)
    observed, with_limit = np.where(low, -np.inf, records.dv), np.where(y < limit, -np.inf, y)
    who, names = np.asarray(records.ids)[records.subject], np.asarray(list(posterior.model.outputs))[records.output]
    points = {"id": who, "output": names, "time": records.time, "value": records.dv, "corrected": records.dv * factor}
    return PredictiveCheck(
        bands=_every(cells, records, observed, with_limit),
        corrected=_every(cells, records, observed * factor, with_limit * factor),
        below=_fractions(cells, records, limit, (low, y < limit)),
        points=pd.DataFrame({**points, "below": low}), replicates=len(y), failed=int(np.isnan(y).sum()),
    )  # fmt: skip


def limits(model: Model, records: Records) -> Floats:
    """Lower limit of quantification of every row: the output's in the model, else the highest that its data name; -inf
    where there is none.
    """
    found = np.full(len(records.dv), -np.inf)
    for k, output in enumerate(model.outputs.values()):
        rows = records.output == k
        told = records.dv[rows & records.below]
        known = [float(inside(output.lloq))] if output.lloq is not None else []
        found[rows] = max([*known, *told.tolist()], default=-np.inf)
    return found


def _correction(posterior: Posterior, records: Records, group: NDArray[np.int64]) -> Floats:
    """Median prediction of the bin over the row's own; 1 where there is nothing to divide by."""
    found, f = np.ones(len(records.dv)), population(posterior, records)
    for output, k, rows in _cells(posterior.model, records, group):
        del output, k
        middle = float(np.nanmedian(f[rows])) if np.isfinite(f[rows]).any() else 0.0
        good = rows & np.isfinite(f) & (f > 1e-9 * max(middle, 1e-300)) & (middle > 0.0)
        found[good] = middle / f[good]
    return found


def _cells(model: Model, records: Records, group: NDArray[np.int64]) -> list[tuple[str, int, Bools]]:
    """(output, bin, rows) of every cell, in order."""
    names = np.asarray(list(model.outputs))[records.output]
    return [
        (output, int(k), (group == k) & (names == output))
        for output in measured_outputs(model, records)
        for k in np.unique(group[names == output])
    ]


def _every(cells: list[tuple[str, int, Bools]], records: Records, observed: Floats, y: Floats) -> pd.DataFrame:
    return pd.DataFrame([
        {"output": output, **row} for output, k, rows in cells for row in _bands(k, rows, records, (observed, y))
    ])  # fmt: skip


def _bands(number: int, rows: Bools, records: Records, values: tuple[Floats, Floats]) -> list[dict[str, float]]:
    observed, part = _seen(np.asarray(values[0][rows])[None])[:, 0], values[1][:, rows]
    part = part[~np.isnan(part).any(axis=1)]
    spread = np.full((3, len(PERCENTILES)), np.nan)
    if len(part):
        each = _seen(part)
        visible = np.isfinite(each).mean(axis=1) > 0.5  # a band of what is mostly below the limit says nothing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            spread = np.where(visible, np.nanpercentile(each, BAND, axis=1), np.nan)
    head = {"bin": number, "time": float(np.median(records.time[rows])), "n": int(rows.sum())}
    return [
        {
            **head, "percentile": level, "observed": float(observed[k]), "lower": float(spread[0, k]),
            "median": float(spread[1, k]), "upper": float(spread[2, k]),
        }
        for k, level in enumerate(PERCENTILES)
    ]  # fmt: skip


def _seen(values: Floats) -> Floats:
    """Percentiles (percentile, replicate) of values (replicate, n); NaN where one falls below the limit."""
    with np.errstate(invalid="ignore"):
        found = np.percentile(values, PERCENTILES, axis=1)
    return np.where(np.isfinite(found), found, np.nan)


def _fractions(
    cells: list[tuple[str, int, Bools]], records: Records, limit: Floats, below: tuple[Bools, Bools]
) -> pd.DataFrame:
    rows = []
    for output, k, mine in cells:
        if not np.isfinite(limit[mine]).any():
            continue
        low, median, high = np.percentile(below[1][:, mine].mean(axis=1), BAND)
        rows.append({
            "output": output, "bin": k, "time": float(np.median(records.time[mine])), "n": int(mine.sum()),
            "limit": float(limit[mine].max()), "observed": float(below[0][mine].mean()), "lower": float(low),
            "median": float(median), "upper": float(high),
        })  # fmt: skip
    names = ("output", "bin", "time", "n", "limit", "observed", "lower", "median", "upper")
    return pd.DataFrame(rows, columns=list(names))


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
