"""Evidence of the Bayesian fit, read from what the run has stored: no sampler is imported."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.figures.fit import Density
from reports.study import FitEvidence

if TYPE_CHECKING:
    from pkpd.bayes.checks import Checks
    from pkpd.bayes.vpc import PredictiveCheck
    from pkpd.posterior import Posterior
    from trials.record import RunRecord

POSTERIOR: Final = "posterior.parquet"
DATA: Final = "data.csv"
CHECKS: Final = "checks.json"
REPLICATES: Final = 400
Floats = NDArray[np.float64]
Scale = Literal["log", "logit", "identity"]
_POINTS = 400


def evidence(record: "RunRecord") -> FitEvidence | None:
    """What the run knows of its fit, None when its parameters were published ones."""
    found, choice = record.manifest.diagnostics, record.protocol.model.parameters
    if choice is None or not found:
        return None
    posterior, checks = _posterior(record.directory / POSTERIOR), _checks(record.directory / CHECKS)
    check = _frames(checks.check) if checks is not None else _check(posterior, record)
    made = described(choice.fit, _described(record.directory / DATA, choice.data), found, posterior=posterior)
    return replace(made, checks=checks, check=check, taken=tuple(choice.take))


def described(
    name: str, data: str, found: Mapping[str, Any], *, posterior: "Posterior | None", checks: "Checks | None" = None
) -> FitEvidence:
    """A fit in the words of the report: name of the model, its data, diagnostics as plain data, posterior, checks."""
    table, draws = _table(posterior) if posterior is not None else (_stored(found), {})
    return FitEvidence(
        name=name, data=data, diagnostics=_worst(found), table=table, draws=draws,
        check={} if checks is None else _frames(checks.check), verdict=str(found.get("verdict", "")),
        remarks=tuple(str(remark) for remark in found.get("remarks", ())), checks=checks,
        units={} if posterior is None else _units(posterior), shrinkage=dict(found.get("shrinkage", {})),
        identifiability=dict(found.get("identifiability", {})),
    )  # fmt: skip


def _units(posterior: "Posterior") -> dict[str, str]:
    """Unit of every output."""
    from pkpd.model.dimensions import units_of

    known = units_of(posterior.model)
    return {name: known.get(str(output.is_), "") for name, output in posterior.model.outputs.items()}


def _checks(path: Path) -> "Checks | None":
    import json

    from pkpd.bayes.checks import Checks

    return Checks.from_dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _frames(check: "PredictiveCheck") -> Mapping[str, pd.DataFrame]:
    return {"bands": check.bands, "points": check.points, "corrected": check.corrected, "below": check.below}


def _posterior(path: Path) -> "Posterior | None":
    from pkpd import posterior

    return posterior.read(path) if path.exists() else None


def _described(path: Path, name: str) -> str:
    from pkpd.model.records import Records

    if not path.exists():
        return name
    records = Records.read(path)
    return f"{name} ({len(records)} subjects, {len(records.dv)} observations)"


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
        "ebfmi": min((float(x) for x in found.get("ebfmi", ())), default=_energy(found)),
    }  # fmt: skip


def _energy(found: Mapping[str, Any]) -> float:
    """E-BFMI where no chain has one: infinite for particles, whose method has no energy, else missing."""
    return float("inf") if found.get("method") == "smc" else float("nan")


def _table(posterior: "Posterior") -> tuple[pd.DataFrame, dict[str, Floats]]:
    """Priors and posteriors in natural units, with the density of each prior around the draws; the draws by label."""
    from pkpd.bayes.tables import natural_draws, prior_posterior

    table, draws = prior_posterior(posterior), natural_draws(posterior)
    priors = {p["name"]: p["prior"] for p in posterior.diagnostics["parameters"]}
    rows = zip(table["name"], table["parameter"], strict=True)
    densities = [density(priors[name], scale_of(name), draws.get(label)) for name, label in rows]
    return table.assign(density=pd.Series(densities, index=table.index, dtype=object)), draws


def _stored(found: Mapping[str, Any]) -> pd.DataFrame:
    """The same table on the sampled scales, when the run has not kept the draws."""
    empty = (np.nan, np.nan, np.nan)
    return pd.DataFrame([
        {
            "parameter": p["name"], "unit": "", "median": p["median"], "low": p["lower"], "high": p["upper"],
            **dict(zip(("prior_low", "prior_median", "prior_high"), p.get("prior_interval") or empty, strict=True)),
            "rhat": p["rhat"], "ess": p["ess_bulk"], "ess_tail": p.get("ess_tail", np.nan),
            "contraction": np.nan if p.get("contraction") is None else p["contraction"], "density": None,
        }
        for p in found.get("parameters", ())
    ])  # fmt: skip


def _check(posterior: "Posterior | None", record: "RunRecord") -> Mapping[str, pd.DataFrame]:
    """The visual predictive check, simulated again from the stored draws and data: the same numbers every time."""
    if posterior is None or not (record.directory / DATA).exists():
        return {}
    from pkpd.bayes.vpc import vpc
    from pkpd.model.records import Records

    data = Records.read(record.directory / DATA)
    found = vpc(posterior, data, seed=record.protocol.seed, replicates=REPLICATES)
    return _frames(found)


def scale_of(name: str) -> Scale:
    """The scale a quantity was sampled on, by its name in the diagnostics.

    >>> scale_of("log_CL"), scale_of("omega_CL")
    ('log', 'identity')
    """
    if name.startswith("log_"):
        return "log"
    return "logit" if name.startswith("logit_") else "identity"


def density(prior: Mapping[str, Any] | None, scale: Scale, draws: Floats | None) -> Density | None:
    """Density of a stored prior around the posterior draws, in natural units: f(link(x)) |d link / dx|.

    Families of `pkpd.bayes.prior`: normal(location, scale); half_normal(scale); lkj: (r + 1)/2 ~ Beta(scale, scale);
    horseshoe(scale, tail).
    """
    if prior is None or draws is None or draws.size < 2:
        return None
    span = float(np.ptp(draws))
    x = np.linspace(float(draws.min()) - span, float(draws.max()) + span, _POINTS)
    if scale == "log":
        x = x[x > 0]
        return Density(x=x, density=_family(prior, np.log(x)) / x)
    if scale == "logit":
        x = x[(x > 0) & (x < 1)]
        return Density(x=x, density=_family(prior, np.log(x / (1 - x))) / (x * (1 - x)))
    return Density(x=x, density=_family(prior, x))


def _family(prior: Mapping[str, Any], x: Floats) -> Floats:
    family, location, scale = prior["family"], float(prior.get("location", 0.0)), float(prior["scale"])
    if family == "lkj":
        log_beta = 2 * math.lgamma(scale) - math.lgamma(2 * scale)
        half = np.maximum((1 - np.minimum(x * x, 1.0)) / 4, 1e-300)
        return np.where(np.abs(x) < 1, np.exp((scale - 1) * np.log(half) - log_beta) / 2, 0.0)
    if family == "horseshoe":
        from pkpd.bayes.prior import shares

        sd = np.maximum(scale * shares(float(prior["tail"])), 1e-6 * scale)
        bells = np.exp(-0.5 * (x[:, None] / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
        return np.asarray(bells.mean(axis=1))
    bell = np.exp(-0.5 * ((x - location) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
    return np.where(x >= 0, 2 * bell, 0.0) if family == "half_normal" else bell
