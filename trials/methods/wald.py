"""What the methods of regressions and ranks share: options, covariates, the table of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials.estimand import Analysis
from trials.methods.method import Question, Table
from trials.observed import Floats, Integers, Observed
from trials.prognosis import SCORE

if TYPE_CHECKING:
    from trials.analysis.survival_data import Compared
    from trials.faults import Fault
    from trials.protocol import Protocol

__all__ = ["adjusted", "codes", "covariates", "options", "strata", "table", "test", "words"]

options = ("alpha", "side", "stratified")


def codes(question: Question, trial: Observed) -> Integers:
    """Arm codes of the question; -1 for a subject whose simulation failed."""
    return np.where(trial.failed, -1, question.codes(trial.arm))


def strata(question: Question, trial: Observed) -> Integers | None:
    """The allocation's strata, where it has any and the analysis does not leave them out."""
    wanted = question.analysis.stratified and question.protocol.allocation.strata
    return trial.stratum if wanted else None


def covariates(question: Question, trial: Observed) -> Floats | None:
    """Baseline of the endpoint's output and prognostic score, (R, N, C), as `adjust` names them."""
    asked, parts = question.analysis.adjust, []
    if "baseline" in asked and question.endpoint.output is not None:
        parts.append(trial.outputs[question.endpoint.output][:, :, 0])
    if SCORE in asked and trial.prognosis is not None:
        parts.append(trial.prognosis[0])
    return np.stack(parts, axis=2) if parts else None


def test(question: Question) -> dict[str, Any]:
    """Arms, level and side."""
    return {"arms": question.arms, "alpha": question.analysis.alpha, "side": question.analysis.side}


def table(question: Question, trial: Observed, found: Compared, *, ratio: bool) -> Table:
    """Columns of the analysis table; `se` of a ratio is that of its logarithm."""
    from pkpd.kernels.elementary import exp_array

    shown: Callable[[Any], NDArray[Any]] = exp_array if ratio else np.asarray
    enrolled = (question.codes(trial.arm) >= 0).sum(axis=1)
    return {
        "estimate": shown(found.estimate), "se": found.se, "lower": shown(found.lower), "upper": shown(found.upper),
        "p": found.p, "reject": found.reject, "status": found.status, "n_control": found.n[:, 0],
        "n_treated": found.n[:, 1:], "x_control": found.x[:, 0], "x_treated": found.x[:, 1:],
        "missing": enrolled - found.n.sum(axis=1),
    }  # fmt: skip


def adjusted(protocol: Protocol, name: str, fault: Fault) -> None:
    """`adjust` names the baseline of an output, the prognostic score, or nothing."""
    from trials import checks_twin

    analysis, path = protocol.analyses[name], ("analyses", name, "adjust")
    given: Any = fault.node["analyses"][name]  # type: ignore[index,call-overload]
    of_event = any(protocol.endpoints[end].output is None for end in protocol.estimands[name].endpoint)
    if SCORE in analysis.adjust:
        checks_twin.adjusted(protocol, name, fault)
    allowed = {SCORE} if of_event else {"baseline", SCORE}
    wrong = [part for part in analysis.adjust if part not in allowed]
    if wrong and "adjust" in given:
        fault("cannot be adjusted for here", path, value=wrong[0],
              remedy=f"one of {', '.join(sorted(allowed))}; strata are in unless stratified: false")  # fmt: skip


def words(text: str) -> Callable[[Analysis], str]:
    """The method in a report, with its level and what it is adjusted for."""

    def said(analysis: Analysis) -> str:
        strata = "" if analysis.stratified else ", not stratified"
        return f"{text}{strata}, {analysis.side}-sided {analysis.alpha:g} for each arm"

    return said
