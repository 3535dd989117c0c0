"""Sections on data, model, fit and the check of the fit on its own data."""

import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from reports import rounding
from reports.credibility import fit_limits
from reports.figures import fit as drawing
from reports.sections import fit_checks
from reports.study import FitEvidence, Parameter, Study
from reports.tables import Block, Heading, Plots, Section, Table, Text, columns

_STATUS_ORDER = {"assumed": 0, "copied": 1, "verified": 2}


def model(study: Study) -> Section:
    """Data, fit with priors and posteriors, sampler diagnostics."""
    blocks: list[Block] = []
    if study.fit is None:
        blocks.append(Text(text="No model was fitted for this run: parameters come from the model text (table below)."))
    else:
        blocks += _fit(study.fit)
    blocks.append(_values(study))
    return Section(key="model", title="Data and model", blocks=tuple(blocks))


def _fit(fit: FitEvidence) -> list[Block]:
    intro = (
        f"Model {fit.name}, fitted to {fit.data} by Hamiltonian Monte Carlo. The posterior draws feed the trial: each "
        "replicate uses one draw of the population parameters, so that their uncertainty reaches every result."
    )
    return [Text(text=intro), *fitted(fit)]


def fitted(fit: FitEvidence) -> list[Block]:
    """Verdict, diagnostics, priors and posteriors of a fit."""
    blocks: list[Block] = [Text(text=fit.verdict), _diagnostics(fit), _priors(fit)]
    blocks += [Text(text=remark, tone="note") for remark in fit.remarks]
    panels = _panels(fit)
    if panels:
        caption = "Posterior draws (bars) and prior density (dashed). Where the prior is far wider, the data decided."
        blocks.append(Plots(caption=caption, panels=panels, across=3))
    return [*blocks, *fit_checks.identifiability(fit.identifiability)]


def _diagnostics(fit: FitEvidence) -> Table:
    limits = fit_limits(fit)
    rows = tuple((limit.name, limit.shown, limit.bar, "holds" if limit.holds else "BREACHED") for limit in limits)
    return Table(
        caption="Sampler diagnostics against limits fixed in advance.",
        columns=columns("Diagnostic", "Worst value", "Limit", "Verdict", words=("Verdict",)),
        rows=rows,
        marks=tuple("" if limit.holds else "breach" for limit in limits),
    )


def _priors(fit: FitEvidence) -> Table:
    return Table(
        caption="Priors and posteriors of the population parameters: median (central 95 %).",
        columns=columns(
            "Parameter", "Unit", "Prior", "Posterior", "Contraction", "R-hat", "Bulk ESS", "Tail ESS", text=2
        ),
        rows=tuple(_prior_row(row) for row in fit.table.to_dict("records")),
        notes=(
            "Contraction: 1 − posterior variance over prior variance, 1 where the data decide, 0 where the prior does.",
        ),
    )


def _prior_row(row: dict[Hashable, Any]) -> tuple[str, ...]:
    def value(key: str) -> float:
        found = row.get(key, math.nan)
        return float(found) if isinstance(found, int | float) else math.nan

    return (
        str(row["parameter"]),
        str(row.get("unit", "")),
        _summary(value("prior_median"), value("prior_low"), value("prior_high")),
        _summary(value("median"), value("low"), value("high")),
        rounding.fixed(value("contraction"), 3) if math.isfinite(value("contraction")) else "",
        rounding.fixed(value("rhat"), 3),
        *(rounding.count(value(name)) if math.isfinite(value(name)) else "" for name in ("ess", "ess_tail")),
    )


def _summary(median: float, low: float, high: float) -> str:
    if not math.isfinite(median):
        return "derived" if not math.isfinite(low) else rounding.NOT_ESTIMABLE
    return f"{rounding.number(median)} ({rounding.number(low)} to {rounding.number(high)})"


def _panels(fit: FitEvidence) -> tuple[Markup, ...]:
    panels = []
    for k, row in enumerate(fit.table.to_dict("records")):
        name = str(row["parameter"])
        draws = fit.draws.get(name)
        if draws is None or draws.size < 20 or float(np.ptp(draws)) == 0:
            continue
        unit = str(row.get("unit", ""))
        label = f"{name}, {unit}" if unit and unit != "1" else name
        density = row.get("density")
        prior = density if isinstance(density, drawing.Density) else None
        panels.append(drawing.prior_posterior(label, prior, draws, name=f"prior{k}"))
    return tuple(panels)


def _values(study: Study) -> Table:
    rows = sorted(study.parameters, key=lambda p: (_STATUS_ORDER.get(p.status, 3),))
    return Table(
        caption="Parameters of the simulation model.",
        columns=columns(
            "Parameter", "Value", "Unit", "Uncertainty|standard error", "Between subjects|standard deviation",
            "Effects", "Status", words=("Unit", "Effects", "Status"),
        ),
        rows=tuple(_value_row(p) for p in rows),
        notes=(
            "Standard errors and standard deviations are on the parameter's scale (log unless said otherwise). "
            "Values marked "
            "“from the fit” are typical values of the text; the run used the posterior draws.",
        ),
    )  # fmt: skip


def _value_row(p: Parameter) -> tuple[str, ...]:
    def shown(x: float) -> str:
        return rounding.plain(x) if math.isfinite(x) and x > 0 else "–"

    scale = f" ({p.scale})" if p.scale not in ("log", "") else ""
    name = f"{p.name} (from the fit)" if p.fitted else p.name
    return name, rounding.plain(p.typical), p.unit, shown(p.se) + scale, shown(p.iiv), p.effects or "–", p.status


def predictive_check(study: Study) -> Section:
    """The checks of the fit on its own data: residuals, predictive checks, subjects left out."""
    title = "The fit on its own data"
    if study.fit is None or not study.fit.check:
        reason = "the run used published parameters" if study.fit is None else "the run has not kept the data"
        text = f"No predictive check is shown: {reason}."
        return Section(key="vpc", title=title, blocks=(Text(text=text, tone="note"),))
    return Section(key="vpc", title=title, blocks=tuple(own_data(study.fit)))


def own_data(fit: FitEvidence) -> list[Block]:
    """The blocks of that section."""
    seen, inside = _inside(fit.check["bands"])
    reading = (
        f"{inside} of {seen} observed percentiles lie inside their simulated 95 % band. This uses the data of the fit: "
        "it is a check of calibration, not validation."
    )
    blocks: list[Block] = [Heading(text="Visual predictive check")]
    blocks += [*fit_checks.predictive(fit.check, fit.units), Text(text=reading)]
    if fit.checks is None:
        return blocks
    blocks += [Text(text=remark, tone="note") for remark in fit.checks.remarks]
    blocks.append(fit_checks.statistics(fit.checks, fit.units))
    blocks += [Heading(text="Residuals"), *fit_checks.goodness(fit.checks, fit.units, fit.shrinkage)]
    left = fit_checks.left_out(fit.checks)
    return blocks + ([Heading(text="Subjects left out"), *left] if left else [])


def _inside(bands: pd.DataFrame) -> tuple[int, int]:
    """(percentiles that can be seen, those inside their band)."""
    observed, lower, upper = (bands[name].to_numpy(dtype=np.float64) for name in ("observed", "lower", "upper"))
    usable = np.isfinite(observed) & np.isfinite(lower)
    inside = usable & (observed >= lower) & (observed <= upper)
    return int(usable.sum()), int(inside.sum())
