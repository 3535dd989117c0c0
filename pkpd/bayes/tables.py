"""Priors against posteriors in the units a reader knows; what a report prints of a fit. No sampler is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pkpd.bayes.plan import correlation_label, error_label, natural, residual_label, spread_label, typical_label
from pkpd.model.equations import evaluate, show
from pkpd.model.parts import inside_unit
from pkpd.posterior import Posterior

__all__ = ["natural_draws", "prior_posterior"]

Floats = NDArray[np.float64]
Entry = tuple[str, str, Callable[[Floats], Floats]]
"""Label, unit, and the way from the sampled scale to natural units."""


def prior_posterior(posterior: Posterior) -> pd.DataFrame:
    """A row per population parameter, natural units: parameter, unit, prior_median, prior_low, prior_high, median, low,
    high (central 95 %), mean and sd on the sampled scale, contraction, rhat, ess, ess_tail, mcse.
    """
    entries = _entries(posterior)
    rows = []
    for summary in posterior.diagnostics["parameters"]:
        label, unit, turned = entries[summary["name"]]
        rows.append({"parameter": label, "unit": unit, "name": summary["name"], **_values(summary, turned)})
    return pd.DataFrame(rows)


def _values(summary: dict[str, Any], turned: Callable[[Floats], Floats]) -> dict[str, float]:
    prior = summary["prior_interval"] or (np.nan, np.nan, np.nan)
    low, median, high = (float(x) for x in turned(np.asarray(prior, np.float64)))
    ours = turned(np.asarray([summary["lower"], summary["median"], summary["upper"]]))
    contraction = summary["contraction"]
    return {
        "prior_low": low, "prior_median": median, "prior_high": high,
        "low": float(ours[0]), "median": float(ours[1]), "high": float(ours[2]),
        "mean": summary["mean"], "sd": summary["sd"], "mcse": summary["mcse"],
        "contraction": np.nan if contraction is None else contraction,
        "rhat": summary["rhat"], "ess": summary["ess_bulk"], "ess_tail": summary["ess_tail"],
    }  # fmt: skip


def natural_draws(posterior: Posterior) -> dict[str, Floats]:
    """Posterior draws (D,) in natural units by the label of `prior_posterior`."""
    draws, model = posterior.draws, posterior.model
    values = {name: draws.typical[:, i] for i, name in enumerate(draws.names)}
    labels = {name: label for name, (label, _, _) in _entries(posterior).items()}
    found: dict[str, Floats] = {}
    for name, p in model.parameters.items():
        key = typical_label(model, name)
        if key in labels:
            found[labels[key]] = values[name] if p.above is None else values[name] - evaluate(p.above, values)
        if p.above is not None and f"log_{name}" in labels:
            found[labels[f"log_{name}"]] = values[name]
    sd = np.sqrt(np.einsum("dii->di", draws.omega))
    for i, a in enumerate(draws.eta_names):
        found[labels[spread_label(a)]] = sd[:, i]
        for j, b in enumerate(draws.eta_names[:i]):
            if correlation_label(b, a) in labels:
                found[labels[correlation_label(b, a)]] = draws.omega[:, i, j] / (sd[:, i] * sd[:, j])
    for i, name in enumerate(draws.error_names):
        found[labels[_error_name(name)]] = draws.error[:, i]
    return found


def _entries(posterior: Posterior) -> dict[str, Entry]:
    """Name in the PyMC model -> how a reader is told."""
    model, draws = posterior.model, posterior.draws
    reported = {summary["name"] for summary in posterior.diagnostics["parameters"]}
    found: dict[str, Entry] = {}
    for name, p in model.parameters.items():
        floor = "" if p.above is None else f" above {show(p.above)}"
        found[typical_label(model, name)] = (name + floor, p.unit, lambda x, p=p: natural(p, x))  # type: ignore[misc]
        if p.above is not None:
            found[f"log_{name}"] = (name, p.unit, np.exp)
    for i, a in enumerate(draws.eta_names):
        found[spread_label(a)] = (f"omega {a}", "1", _same)
        for b in draws.eta_names[:i]:
            found[correlation_label(b, a)] = (f"correlation {b} {a}", "1", _same)
    for name in draws.error_names:
        if "~" in name:
            a, _, b = name.partition("~")
            found[_error_name(name)] = (f"residual correlation {a} {b}", "1", _same)
            continue
        output, _, kind = name.partition(".")
        term = getattr(model.outputs[output].error, kind)
        unit = inside_unit(term.typical.unit) if kind == "additive" else "1"
        found[error_label(name)] = (f"{output} {kind} sd", unit, _same)
    return {name: entry for name, entry in found.items() if name in reported}


def _error_name(name: str) -> str:
    """The name in the tree of a residual sd, or of a correlation `A~B` of errors."""
    return residual_label(*name.split("~")) if "~" in name else error_label(name)


def _same(x: Floats) -> Floats:
    return x
