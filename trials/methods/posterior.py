"""A prior in an analysis: any method whose estimates are about normal, read as a posterior (`analysis.updating`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trials.estimand import Analysis, Prior
from trials.methods.method import Method, Question, Table
from trials.observed import Floats, Observed

if TYPE_CHECKING:
    from trials.analysis.updating import NormalMixture
    from trials.faults import Fault
    from trials.protocol import Protocol

__all__ = ["SERVED", "with_priors"]

SERVED = (
    "ancova", "mmrm", "logistic", "negative_binomial", "quasi_poisson", "proportional_odds", "cox", "rmst",
    "kaplan_meier", "aalen_johansen", "lwyy", "andersen_gill", "pwp", "win_ratio",
)  # fmt: skip
"""Methods that estimate with a standard error: of a ratio that of its logarithm."""


def with_priors(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The table with `prior` and `margin` among the options of the methods that can be read so."""
    return {name: _read(method) if name in SERVED else method for name, method in methods.items()}


def _read(method: Method) -> Method:
    def run(question: Question, observed: Observed) -> Table:
        found = method.run(question, observed)
        return found if question.analysis.prior is None else _updated(question, found)

    def words(analysis: Analysis) -> str:
        return method.words(analysis) + ("" if analysis.prior is None else f"; {_said(analysis)}")

    def check(protocol: Protocol, name: str, fault: Fault) -> None:
        method.check(protocol, name, fault)
        _checked(protocol, name, fault)

    return replace(method, run=run, words=words, check=check, uses=(*method.uses, "prior", "margin"))


def _ratio(summary: str) -> bool:
    return summary.endswith(("_ratio", "_odds"))


def _mixture(parts: tuple[Prior, ...], *, ratio: bool) -> NormalMixture:
    from trials.analysis.updating import NormalMixture

    at = tuple(float(np.log(p.at)) if ratio else p.at for p in parts)
    return NormalMixture(weight=tuple(p.weight for p in parts), mean=at, sd=tuple(p.sd for p in parts))


def _updated(question: Question, found: Table) -> Table:
    """Posterior mean, sd and interval in place of estimate, error and interval; p: probability of no such effect."""
    from pkpd.kernels.elementary import exp_array, log_array
    from trials.analysis.updating import updated

    analysis, ratio = question.analysis, _ratio(question.estimand.summary)
    estimate = log_array(found["estimate"]) if ratio else found["estimate"]
    margin = analysis.margin if analysis.margin is not None else float(ratio)
    tail = analysis.alpha if analysis.side != "two" else 0.5 * analysis.alpha
    made = updated(
        estimate, found["se"], _mixture(analysis.prior or (), ratio=ratio), df=found.get("df", np.inf),
        margin=float(np.log(margin)) if ratio else margin, level=1.0 - 2.0 * tail,
    )  # fmt: skip
    right, wrong = _sides(analysis, made.below, made.above)
    mean, lower, upper = (exp_array(a) if ratio else a for a in (made.mean, made.lower, made.upper))
    return {
        **found, "estimate": mean, "se": made.sd, "df": np.full_like(made.sd, np.nan), "lower": lower, "upper": upper,
        "p": wrong, "reject": right > 1.0 - tail,
    }  # fmt: skip


def _sides(analysis: Analysis, below: Floats, above: Floats) -> tuple[Floats, Floats]:
    """Probability of the effect that is wanted, and of the other side (two-sided: twice the smaller)."""
    if analysis.side == "two":
        return np.maximum(below, above), 2.0 * np.minimum(below, above)
    return (above, below) if analysis.side == "greater" else (below, above)


def _checked(protocol: Protocol, name: str, fault: Fault) -> None:
    analysis, path = protocol.analyses[name], ("analyses", name)
    ratio = _ratio(protocol.estimands[name].summary)
    if analysis.prior is None:
        if analysis.margin is not None:
            fault("goes with a prior only", (*path, "margin"), remedy="add prior: {at: ..., sd: ...}")
        return
    total = sum(part.weight for part in analysis.prior)
    if abs(total - 1.0) > 1e-9:
        fault("weights must sum to 1", (*path, "prior"), value=f"{total:g}", remedy="give each part its share")
    for value in (*(part.at for part in analysis.prior), analysis.margin if analysis.margin is not None else 1.0):
        if ratio and not value > 0.0:
            fault("must be above 0: it is a ratio", (*path, "prior"), value=f"{value:g}", remedy="1 is no effect")
    if analysis.multiplicity != "none" and len(protocol.estimands[name].compare) > 1 and analysis.method in _TOGETHER:
        fault("a posterior of each arm knows no adjustment for several", (*path, "multiplicity"),
              value=analysis.multiplicity, remedy="multiplicity: none")  # fmt: skip


_TOGETHER = ("ancova", "mmrm")


def _said(analysis: Analysis) -> str:
    parts = [f"{p.weight:g} of N({p.at:g}, sd {p.sd:g})" for p in analysis.prior or ()]
    margin = "no effect" if analysis.margin is None else f"{analysis.margin:g}"
    alone = len(parts) == 1
    prior = parts[0].removeprefix("1 of ") if alone else " + ".join(parts)
    tail = analysis.alpha if analysis.side != "two" else 0.5 * analysis.alpha
    return (
        f"read with the prior {prior} (of a ratio: sd of its logarithm) as a posterior: estimate and interval are the "
        f"posterior's, p is the probability of the wrong side of {margin}, an effect is claimed above {1.0 - tail:g}"
    )
