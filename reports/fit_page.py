"""The page of a fit: verdict, priors and posteriors, how it fits its data."""

import math
from collections.abc import Mapping
from typing import Any

from reports import rounding
from reports.page import Page
from reports.sections import model
from reports.study import FitEvidence
from reports.tables import Facts, Section, Table, Text, columns

__all__ = ["page"]


def page(fit: FitEvidence, found: Mapping[str, Any], facts: tuple[tuple[str, str], ...]) -> Page:
    """The page. found: diagnostics as plain data; facts: provenance."""
    ok = bool(found.get("ok", False))
    sections = [*_foretold(found), Section(key="fit", title="Posterior", blocks=tuple(model.fitted(fit)))]
    if fit.check:
        sections.append(Section(key="data", title="The fit on its own data", blocks=tuple(model.own_data(fit))))
    sections += [
        *_information(found, fit),
        *_modes(found),
        _method(found),
        Section(key="provenance", title="Provenance", blocks=(Facts(facts=facts),)),
    ]
    return Page(
        brand="Fit", kicker="Bayesian population fit · a check of calibration, not validation",
        title=f"Fit of {fit.name}",
        byline=f"{fit.data} · {_drawn(found)}",
        breaches=() if ok else (fit.verdict, "Commands that use a fit refuse this one unless they are forced."),
        answer=(fit.verdict,), trust=_trust(fit), sections=tuple(sections),
    )  # fmt: skip


def _drawn(found: Mapping[str, Any]) -> str:
    chains, draws = found.get("chains", "?"), found.get("draws", "?")
    made = {"smc": f"{chains} runs of {draws} particles", "nuts": f"{chains} chains of {draws} draws"}
    return made.get(str(found.get("method", "nuts")), f"a quick look, {found.get('method')}")


def _trust(fit: FitEvidence) -> tuple[str, ...]:
    said = list(fit.remarks)
    if fit.checks is not None:
        said += fit.checks.remarks
        said.append(
            f"{rounding.percent(fit.checks.check.inside)} of the observed percentiles lie inside their 95 % band."
        )
    return tuple(said) or ("No checks on the data were asked for.",)


def _foretold(found: Mapping[str, Any]) -> list[Section]:
    """What the priors predicted of the data, before the fit."""
    rows = []
    for f in found.get("prior_predictive", ()):
        ranges = (" to ".join(f"{float(f[name][k]):.3g}" for k in (0, 2)) for name in ("predicted", "observed"))
        inside = (rounding.percent(float(share)) for share in f["inside"])
        rows.append((str(f["output"]), str(f["n"]), *ranges, *inside))
    if not rows:
        return []
    table = Table(
        caption="What the priors predict of each measured value, 400 draws of everything: ranges hold 90 % of all that "
        "is predicted and observed, shares say how many observed values lie in the middle of their own prediction.",
        columns=columns("Output", "n|values", "Predicted|5 to 95 %", "Observed|5 to 95 %", "In the central 50 %",
                        "90 %", "95 %"),
        rows=tuple(rows),
        notes=("Wide priors hold more than their nominal share; below half in the central 95 % the fit says so.",),
    )  # fmt: skip
    return [Section(key="prior", title="Before the data", blocks=(table,))]


def _information(found: Mapping[str, Any], fit: FitEvidence) -> list[Section]:
    """Expected standard errors of the population quantities beside what the posterior has."""
    told = found.get("information")
    if not told:
        return []
    names = dict(zip(fit.table["name"], fit.table["parameter"], strict=True)) if "name" in fit.table else {}
    rows = tuple(
        (
            str(names.get(r["name"], r["name"])), _digits(r["se"]), _digits(r["posterior_sd"]),
            _digits(float(r["posterior_sd"]) / float(r["se"])), _digits(r["rse"]), _digits(r["posterior_rse"]),
        )
        for r in told["quantities"]
    )  # fmt: skip
    left = int(told["left_out"])
    notes = ["A posterior narrower than expected leans on its prior; a wider one is far from a normal law, or from the "
             "model the data were expected to follow."]  # fmt: skip
    notes += [f"{left} values beyond a limit of quantification count as none here."] if left else []
    table = Table(
        caption="What these doses and times can tell by the model: expected standard errors from the population Fisher "
        "information at the posterior means (linearised about each subject's own values, the prior left out), beside "
        "the posterior's; on the sampled scale (logarithms, logits), and in per cent of the value (RSE).",
        columns=columns("Quantity", "Expected se", "Posterior sd", "Ratio", "Expected RSE|%", "Posterior RSE|%"),
        rows=rows, notes=tuple(notes),
    )  # fmt: skip
    said = Text(text=str(told["sentence"]))
    return [Section(key="information", title="What the data can tell", blocks=(said, table))]


def _digits(x: float) -> str:
    return f"{float(x):.3g}" if math.isfinite(float(x)) else "–"


def _modes(found: Mapping[str, Any]) -> list[Section]:
    """Modes of the posterior and the share of each, where sequential Monte Carlo looked for them."""
    if "modes" not in found:
        return []
    told = found["modes"]
    modes = told["modes"]
    facts = [("Log evidence", f"{told['log_evidence']:.2f} ± {told['log_evidence_error']:.2f}")]
    facts += [("Runs", f"{told['runs']} independent ones of {told['particles']} particles a mode")]
    facts += [("Remedy", text) for text in told["remedies"]]
    rows = [("Share of the posterior", *(f"{m['share']:.4g} ± {m['share_error']:.1g}" for m in modes))]
    rows += [("Log evidence", *(f"{m['log_evidence']:.2f} ± {m['log_evidence_error']:.2f}" for m in modes))]
    rows += [(name, *(f"{m['means'][name]:.4g} ({m['sds'][name]:.2g})" for m in modes)) for name in modes[0]["means"]]
    table = Table(
        caption="Modes of the posterior, ± standard errors from independent runs; below, mean (sd) within each mode on "
        "the sampled scale.",
        columns=columns("Quantity", *(str(m["label"]) for m in modes)), rows=tuple(rows),
    )  # fmt: skip
    return [Section(key="modes", title="Modes of the posterior", blocks=(Facts(facts=tuple(facts)), table))]


def _method(found: Mapping[str, Any]) -> Section:
    """How it was sampled: gradients, form of the random effects, order of rates."""
    facts = [("Gradients", str(found.get("gradient", {}).get("family", "")))]
    facts += [(f"{name} ordered", str(told)) for name, told in dict(found.get("ordered", {})).items()]
    rows = tuple(
        (
            str(c["name"]), _degree(c["centred"]), rounding.percent(float(c.get("remaining", math.nan))),
            str(c["reason"]),
        )
        for c in found.get("centring", ())
    )  # fmt: skip
    table = Table(
        caption="Form in which each random effect was sampled: from 0 (z scores) to 1 (individual values).",
        columns=columns("Random effect", "Centred|least, mean, most", "Left by the data|of its variance", "Why",
                        words=("Why",)),
        rows=rows,
    )  # fmt: skip
    return Section(key="method", title="How it was sampled", blocks=(Facts(facts=tuple(facts)), table))


def _degree(values: Any) -> str:
    if isinstance(values, (list, tuple)):
        return ", ".join(f"{float(v):.2f}" for v in values)
    return str(values)
