"""Methods for a continuous output at a visit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trials.estimand import Analysis
from trials.methods.method import Method, Question, Table
from trials.observed import Observed
from trials.prognosis import SCORE

if TYPE_CHECKING:
    from trials.faults import Fault
    from trials.protocol import Protocol

__all__ = ["METHODS"]

_COLUMNS = ("estimate", "se", "df", "lower", "upper", "p", "reject", "n_control", "n_treated", "missing", "status")
_MEANS: Final = {"value": ("mean_difference",), "change_from_baseline": ("mean_difference",)}


def _ancova(question: Question, trial: Observed) -> Table:
    """ANCOVA of the value at the endpoint's visit given baseline: its contrasts are those of the change."""
    from trials.analysis.continuous import ancova_dunnett, ancova_mi_dunnett

    analysis, codes, last = question.analysis, question.codes(trial.arm), question.visit
    output = trial.outputs[str(question.endpoint.output)]
    baseline, visits = np.ascontiguousarray(output[:, :, 0]), np.ascontiguousarray(output[:, :, 1 : last + 1])
    strata = np.where(codes >= 0, trial.stratum, -1)
    test: dict[str, Any] = {"arms": question.arms, "alpha": analysis.alpha, "side": analysis.side}
    if analysis.missing.method == "complete_case":
        found = ancova_dunnett(visits[:, :, -1], baseline, codes, strata, **test, covariates=_score(analysis, trial))
    else:
        off = (trial.stop[:, :, None] <= trial.times[:, :, 1 : last + 1]).astype(np.float64)
        found = ancova_mi_dunnett(
            visits, baseline, codes, strata, **test, seed=question.protocol.seed, replicate=trial.replicate,
            imputations=analysis.missing.imputations, off_treatment=off if question.protocol.intercurrent else None,
        )  # fmt: skip
    return {name: getattr(found, name) for name in _COLUMNS}


def _score(analysis: Analysis, trial: Observed) -> Any:
    """The prognostic score (R, N) where the analysis adjusts for it."""
    return trial.prognosis[0] if trial.prognosis is not None and SCORE in analysis.adjust else None


def _adjusted(protocol: Protocol, name: str, fault: Fault) -> None:
    """A mean is adjusted for its baseline and for all that the allocation was stratified by."""
    from trials import checks_twin

    analysis, path = protocol.analyses[name], ("analyses", name, "adjust")
    if SCORE in analysis.adjust:
        checks_twin.adjusted(protocol, name, fault)
    wanted = ("baseline", *protocol.allocation.strata)
    if set(analysis.adjust) - {SCORE} != set(wanted):
        fault("must be the baseline and the stratification factors", path, value=", ".join(analysis.adjust),
              remedy=f"adjust: [{', '.join(wanted)}]")  # fmt: skip


def _ancova_words(analysis: Analysis) -> str:
    return (
        f"estimated by ANCOVA adjusted for {', '.join(analysis.adjust)}, {analysis.missing.method.replace('_', ' ')}, "
        f"{analysis.multiplicity.capitalize()} adjustment, {analysis.side}-sided {analysis.alpha:g}"
    )


def _imputes(analysis: Analysis) -> bool:
    return analysis.missing.method == "multiple_imputation"


METHODS: Final = {
    "ancova": Method(
        run=_ancova, serves=_MEANS, uses=("adjust", "multiplicity", "missing", "alpha", "side"), words=_ancova_words,
        check=_adjusted, fills=_imputes,
    ),
}  # fmt: skip
