"""How a fit fits its data, as blocks: for the report of a trial and for the page of a fit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from pkpd.bayes.checks import Checks
from reports import rounding
from reports.figures import checks as drawing
from reports.figures import fit as fit_drawing
from reports.tables import Block, Plots, Table, Text, columns

__all__ = ["goodness", "identifiability", "left_out", "predictive", "statistics"]

Floats = NDArray[np.float64]
Units = Mapping[str, str]


def goodness(found: Checks, units: Units, eta: Mapping[str, float]) -> list[Block]:
    """Observed against predicted, residuals, shrinkage; units by output; eta: shrinkage by random effect."""
    blocks: list[Block] = []
    for k, (output, rows) in enumerate(_parts(found.rows).items()):
        label = _label(output, units)
        caption = (
            f"{label}, {_counted(rows)}. Above: observed against the prediction of the population (no random effects, "
            "posterior median) and of the subject's own curve (posterior mean). Below: normalised prediction "
            "distribution errors, decorrelated within subjects, standard normal if the model is right; grey holds "
            "95 %, the line is a running mean."
        )
        blocks.append(Plots(caption=caption, panels=_panels(output, rows, units, f"gof{k}"), across=3))
    blocks += [_residuals(found), _shrinkage(found, eta)]
    return blocks


def _parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows by output, in the order they come."""
    if "output" not in frame:
        return {"": frame}
    return {str(name): frame[frame["output"] == name] for name in dict.fromkeys(frame["output"])}


def _label(output: str, units: Units) -> str:
    unit = units.get(output, "")
    name = output or "Concentration"
    return f"{name} ({unit})" if unit and unit != "1" else name


def _counted(rows: pd.DataFrame) -> str:
    low = int(rows["below"].astype(bool).sum())
    more = f", {low} below the limit of quantification (triangles)" if low else ""
    return f"{len(rows)} observations of {rows['id'].nunique()} subjects{more}"


def _values(frame: pd.DataFrame, column: str) -> Floats:
    return frame[column].to_numpy(dtype=np.float64)


def _panels(output: str, rows: pd.DataFrame, units: Units, name: str) -> tuple[Markup, ...]:
    low, label = rows["below"].to_numpy(dtype=bool), _label(output, units)

    def cloud(x: str, y: str, x_label: str, y_label: str) -> drawing.Cloud:
        return drawing.Cloud(x=_values(rows, x), y=_values(rows, y), below=low, x_label=x_label, y_label=y_label)

    population = cloud("population", "observed", f"population, {label}", f"observed, {label}")
    own = cloud("individual", "observed", f"individual, {label}", f"observed, {label}")
    weighted = cloud("individual", "iwres", f"individual, {label}", "IWRES")
    in_time = cloud("time", "npde", "Time (h)", "NPDE")
    by_size = cloud("population", "npde", f"population, {label}", "NPDE")
    return (
        drawing.agreement(population, name=f"{name}a", title="Observed, population"),
        drawing.agreement(own, name=f"{name}b", title="Observed, individual"),
        drawing.scatter(weighted, name=f"{name}c", title="Individual residuals"),
        drawing.scatter(in_time, name=f"{name}d", title="NPDE over time"),
        drawing.scatter(by_size, name=f"{name}e", title="NPDE over prediction"),
        drawing.quantiles(_values(rows, "npde"), name=f"{name}f", title="NPDE, quantiles"),
    )


def _residuals(found: Checks) -> Table:
    rows = []
    for output, part in found.npde.items():
        if "mean" not in part:
            continue
        shown = [f"{part[key]:.2f} ± {1.96 * part[f'{key}_se']:.2f}" for key in ("mean", "sd")]
        tests = [rounding.p_value(part[key]) for key in ("p_mean", "p_sd", "p_shape")]
        name = "all outputs" if output == "all" else output
        rows.append((name, rounding.count(part["n"]), *shown, *tests))
    return Table(
        caption="NPDE against the standard normal.",
        columns=columns("Output", "n", "Mean|± 95 % of chance", "SD|± 95 % of chance", "p, mean", "p, sd", "p, shape"),
        rows=tuple(rows[:-1] if len(rows) == 2 else rows),
        notes=(
            "p: among simulated studies; shape by Kolmogorov's distance. The data were used for the fit: NPDE lean a "
            "little towards a good fit.",
        ),
    )


def _shrinkage(found: Checks, eta: Mapping[str, float]) -> Table:
    rows = [(f"eta of {name}", rounding.percent(value)) for name, value in eta.items()]
    rows += [(f"residuals of {name}", rounding.percent(value)) for name, value in found.epsilon.items()]
    return Table(
        caption="Shrinkage.", columns=columns("Of", "Shrinkage"), rows=tuple(rows),
        notes=(
            "1 − sd of the subjects' posterior means over the sd between subjects; of residuals 1 − sd(IWRES). Above "
            "30 % plots of individual estimates or residuals hide more than they show; predictive checks do not.",
        ),
    )  # fmt: skip


def predictive(frames: Mapping[str, pd.DataFrame], units: Units) -> list[Block]:
    """The visual predictive checks of every output: plain, prediction-corrected, fraction below the limit."""
    blocks: list[Block] = []
    corrected = _parts(frames["corrected"]) if "corrected" in frames else {}
    low = _parts(frames["below"]) if len(frames.get("below", ())) else {}
    points = _parts(frames["points"])
    for k, (output, bands) in enumerate(_parts(frames["bands"]).items()):
        label, mine = _label(output, units), points[output]
        limit = float(_values(low[output], "limit").max()) if output in low else np.nan
        panels = [fit_drawing.predictive_check(_check(bands, mine, "value", label=label, limit=limit), name=f"vpc{k}")]
        if output in low:
            panels.append(drawing.below(_fraction(low[output]), name=f"blq{k}", title=f"{label} below the limit"))
        caption = (
            f"{label}: {len(mine)} observations, and their 5th, 50th and 95th percentiles (lines) by bin, over the "
            "95 % bands in which the fitted model puts these percentiles when it simulates the same study (shaded)."
        )
        more = " Below: the share of values under the limit of quantification." if output in low else ""
        blocks.append(Plots(caption=caption + more, panels=tuple(panels)))
        if output in corrected and _differs(bands, corrected[output]):
            drawn = fit_drawing.predictive_check(
                _check(corrected[output], mine, "corrected", label=f"corrected {label}"), name=f"pcvpc{k}"
            )
            caption = (
                f"{label}, prediction-corrected: every value times (median prediction of its bin)/(its own), so that "
                "doses and covariates that differ within a bin do not blur the check."
            )
            blocks.append(Plots(caption=caption, panels=(drawn,)))
    return blocks


def _differs(bands: pd.DataFrame, corrected: pd.DataFrame) -> bool:
    a, b = _values(bands, "observed"), _values(corrected, "observed")
    return not np.allclose(a, b, rtol=1e-3, equal_nan=True)


def _check(
    bands: pd.DataFrame, points: pd.DataFrame, column: str, *, label: str, limit: float = np.nan
) -> fit_drawing.Check:
    levels = sorted(bands["percentile"].unique())
    parts = {level: bands[bands["percentile"] == level].sort_values("time") for level in levels}

    def stack(what: str) -> Floats:
        return np.stack([_values(parts[level], what) for level in levels], axis=1)

    shown = points[~points["below"].to_numpy(dtype=bool)] if "below" in points else points
    return fit_drawing.Check(
        time=_values(parts[levels[0]], "time"), observed=stack("observed"), lower=stack("lower"),
        median=stack("median"), upper=stack("upper"), points=shown[["time", column]].to_numpy(dtype=np.float64),
        x_label="Time (h)", y_label=label, limit=limit,
    )  # fmt: skip


def _fraction(rows: pd.DataFrame) -> drawing.Fraction:
    ordered = rows.sort_values("time")
    names = ("time", "observed", "lower", "median", "upper")
    return drawing.Fraction(**{name: _values(ordered, name) for name in names})


def statistics(found: Checks, units: Units) -> Table:
    """Posterior predictive p-values."""
    rows, marks = [], []
    for row in found.p_values.to_dict("records"):
        numbers = {name: float(row[name]) for name in ("observed", "median", "lower", "upper", "p")}
        extreme = not 0.005 <= numbers["p"] <= 0.995
        middle, low, high = (rounding.number(numbers[name]) for name in ("median", "lower", "upper"))
        rows.append((
            _label(str(row["output"]), units), str(row["statistic"]), rounding.number(numbers["observed"]),
            f"{middle} ({low} to {high})", rounding.p_value(numbers["p"]),
        ))  # fmt: skip
        marks.append("flagged" if extreme else "")
    return Table(
        caption="Posterior predictive p-values: statistics of the data among those of simulated studies.",
        columns=columns("Output", "Statistic", "Observed", "Simulated|median (95 %)", "p", text=2),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "p: share of simulated studies with a larger value; near 0 or 1 the model does not give what was seen. "
            "The sd between subjects is that of the subjects' means.",
        ),
    )  # fmt: skip


def left_out(found: Checks) -> list[Block]:
    """Leave-one-subject-out."""
    if found.loo is None:
        return []
    loo = found.loo
    low, high = loo.total - 1.96 * loo.se, loo.total + 1.96 * loo.se
    text = (
        f"Expected log predictive density of a new subject's data, summed over {len(loo.ids)} subjects: "
        f"{rounding.fixed(loo.total, 1)} (95 % {rounding.fixed(low, 1)} to {rounding.fixed(high, 1)}); the fit leans "
        f"on the subjects it predicts by {rounding.fixed(loo.effective_parameters, 1)} effective parameters. "
        "Differences between models of the same data mean something, the number itself does not."
    )
    refits = [name for name, k in zip(loo.ids, loo.k, strict=True) if k == 0.0]
    caption = (
        "Each subject left out: log predictive density of its data under all others, its own effects summed out, and "
        f"Pareto's k. {_refits(refits)}"
    )
    drawn = drawing.left_out(loo.ids, loo.elpd, np.minimum(loo.k, 2.0), name="loo")
    blocks: list[Block] = [Text(text=text), Plots(caption=caption, panels=(drawn,))]
    if loo.doubtful:
        warning = f"Not to be trusted (k above 0.7, too optimistic): {', '.join(loo.doubtful[:12])}."
        blocks.append(Text(text=warning, tone="warning"))
    return blocks


def _refits(names: list[str]) -> str:
    if not names:
        return "Crosses: values that cannot be trusted."
    return f"Fitted again without the subject, because k was above 0.7 (shown as 0): {', '.join(names[:12])}."


def identifiability(told: Mapping[str, Any]) -> list[Block]:
    """Posterior correlations and the combination the data tell least of; `told` as the diagnostics hold it."""
    names = [str(n) for n in told.get("names", ())]
    if len(names) < 2:
        return []
    matrix = np.asarray(told["correlation"], np.float64)
    direction = dict(told["direction"])
    heavy = sorted(direction, key=lambda n: -abs(direction[n]))[:3]
    parts = ", ".join(f"{direction[n]:+.2f} {n}" for n in heavy if abs(direction[n]) > 0.2)
    weakest = float(told["weakest"])
    caption = (
        f"Posterior correlations (hundredths). The data tell least of the combination {parts} (in prior sds): its "
        f"variance is {rounding.percent(1.0 - weakest)} of the prior's."
    )
    return [Plots(caption=caption, panels=(drawing.correlations(names, matrix, name="corr"),))]
