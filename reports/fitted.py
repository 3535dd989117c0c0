"""Evidence of the Bayesian fit, read from stored artefacts: no sampler is imported."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.figures.fit import Density
from reports.scales import Quantity, by_name, link, natural, slope
from reports.study import FitEvidence

if TYPE_CHECKING:
    from pkpd.posterior import Posterior
    from trials.record import RunRecord

POSTERIOR: Final = "posterior.parquet"
CHECKS: Final = {"bands": "vpc_bands.parquet", "points": "vpc_points.parquet"}
Floats = NDArray[np.float64]
_POINTS = 400


def evidence(record: "RunRecord") -> FitEvidence | None:
    """What the run knows of its fit, None when its parameters were published ones."""
    found, choice = record.manifest.diagnostics, record.protocol.model.parameters
    if choice is None or not found:
        return None
    posterior = _posterior(record.directory / POSTERIOR)
    known = by_name(posterior) if posterior is not None else {}
    rows = [_row(p, known) for p in found.get("parameters", ())]
    draws = {quantity.shown: quantity.draws for quantity in known.values()}
    return FitEvidence(
        name=choice.fit, data=choice.data, diagnostics=_worst(found), table=pd.DataFrame(rows), draws=draws,
        check=_checks(record.directory), verdict=str(found.get("verdict", "")),
        remarks=tuple(str(remark) for remark in found.get("remarks", ())), taken=tuple(choice.take),
    )  # fmt: skip


def _posterior(path: Path) -> "Posterior | None":
    from pkpd import posterior

    return posterior.read(path) if path.exists() else None


def _worst(found: Mapping[str, Any]) -> Mapping[str, float]:
    """The worst of each diagnostic; NaN (which breaks every limit) where there is none."""
    parameters = found.get("parameters", ())

    def over(key: str, worst: Any) -> float:
        values = [float(p[key]) for p in parameters if p.get(key) is not None]
        return float(worst(values)) if values and not np.isnan(values).any() else float("nan")

    return {
        "max_rhat": over("rhat", max), "min_ess_bulk": over("ess_bulk", min), "min_ess_tail": over("ess_tail", min),
        "divergences": float(found.get("divergences", np.nan)), "chains": float(found.get("chains", np.nan)),
        "draws": float(found.get("draws", np.nan)), "apart": over("apart", max),
        "ebfmi": min((float(x) for x in found.get("ebfmi", ())), default=float("nan")),
    }  # fmt: skip


def _row(p: Mapping[str, Any], known: Mapping[str, Quantity]) -> dict[str, Any]:
    """One line of the table of priors and posteriors, in natural units where the quantity is known."""
    quantity = known.get(str(p["name"]))
    scale = quantity.scale if quantity is not None else "identity"
    interval = p.get("prior_interval") or (np.nan, np.nan, np.nan)
    stored = np.array([*interval, p["lower"], p["median"], p["upper"]], dtype=np.float64)
    prior_low, prior_median, prior_high, low, median, high = natural(scale, stored)
    return {
        "parameter": quantity.shown if quantity is not None else str(p["name"]),
        "unit": quantity.unit if quantity is not None else "",
        "prior_median": prior_median, "prior_low": prior_low, "prior_high": prior_high,
        "median": median, "low": low, "high": high, "rhat": p["rhat"], "ess": p["ess_bulk"],
        "density": None if quantity is None else density(p.get("prior"), quantity),
    }  # fmt: skip


def density(prior: Mapping[str, Any] | None, quantity: Quantity) -> Density | None:
    """Density of a stored prior around the posterior draws, in natural units.

    Families of `pkpd.bayes.prior`: normal(location, scale); half_normal(scale); lkj: (r + 1)/2 ~ Beta(scale, scale).
    """
    draws = quantity.draws
    if prior is None or draws.size < 2:
        return None
    span = float(np.ptp(draws))
    x = np.linspace(float(draws.min()) - span, float(draws.max()) + span, _POINTS)
    if quantity.scale != "identity":
        x = x[(x > 0) & ((x < 1) | (quantity.scale == "log"))]
    return Density(x=x, density=_family(prior, link(quantity.scale, x)) * slope(quantity.scale, x))


def _family(prior: Mapping[str, Any], x: Floats) -> Floats:
    family, location, scale = prior["family"], float(prior.get("location", 0.0)), float(prior["scale"])
    if family == "lkj":
        inside = np.abs(x) < 1
        log_beta = 2 * math.lgamma(scale) - math.lgamma(2 * scale)
        half = np.where(inside, (1 - np.minimum(x * x, 1.0)) / 4, 1.0)
        return np.where(inside, np.exp((scale - 1) * np.log(np.maximum(half, 1e-300)) - log_beta) / 2, 0.0)
    bell = np.exp(-0.5 * ((x - location) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
    return np.where(x >= 0, 2 * bell, 0.0) if family == "half_normal" else bell


def _checks(folder: Path) -> dict[str, pd.DataFrame]:
    paths = {name: folder / file for name, file in CHECKS.items()}
    return (
        {name: pd.read_parquet(path) for name, path in paths.items()} if all(p.exists() for p in paths.values()) else {}
    )
