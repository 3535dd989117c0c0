"""Methods for a continuous output at a visit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trials.estimand import Analysis
from trials.methods.method import Method, Question, Table
from trials.observed import Floats, Integers, Observed
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

    analysis, last = question.analysis, question.visit
    visits, baseline, codes, strata = _seen(question, trial)
    test = _test(question)
    if analysis.missing.method == "complete_case":
        found = ancova_dunnett(visits[:, :, -1], baseline, codes, strata, **test, covariates=_score(analysis, trial))
    else:
        how = analysis.missing
        off = (trial.stop[:, :, None] <= trial.times[:, :, 1 : last + 1]).astype(np.float64)
        retrieved = question.protocol.stop_grade is not None and how.assume == "at_random"
        found = ancova_mi_dunnett(
            visits, baseline, codes, strata, **test, seed=question.protocol.seed, replicate=trial.replicate,
            imputations=how.imputations, off_treatment=off if retrieved else None, assume=how.assume, delta=how.delta,
        )  # fmt: skip
    return {name: getattr(found, name) for name in _COLUMNS}


def _mmrm(question: Question, trial: Observed) -> Table:
    """Mixed model of all visits after baseline up to the endpoint's."""
    from trials.analysis.mmrm import mmrm

    analysis = question.analysis
    found = mmrm(
        *_seen(question, trial), **_test(question), covariates=_score(analysis, trial), df=analysis.df,
        covariance=analysis.covariance,
    )  # fmt: skip
    return {name: getattr(found, name) for name in _COLUMNS}


def _seen(question: Question, trial: Observed) -> tuple[Floats, Floats, Integers, Integers]:
    """Visits after baseline up to the endpoint's (R, N, V), baseline, arm codes, strata (R, N)."""
    output, codes = trial.outputs[str(question.endpoint.output)], question.codes(trial.arm)
    visits = np.ascontiguousarray(output[:, :, 1 : question.visit + 1])
    return visits, np.ascontiguousarray(output[:, :, 0]), codes, np.where(codes >= 0, trial.stratum, -1)


def _test(question: Question) -> dict[str, Any]:
    analysis = question.analysis
    return {
        "arms": question.arms, "alpha": analysis.alpha, "side": analysis.side, "multiplicity": analysis.multiplicity
    }  # fmt: skip


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


def _imputable(protocol: Protocol, name: str, fault: Fault) -> None:
    """What complete cases would silently ignore."""
    _adjusted(protocol, name, fault)
    how = protocol.analyses[name].missing
    for field, unused in (("assume", how.assume == "at_random"), ("delta", how.delta == 0.0)):
        if how.method == "complete_case" and not unused:
            fault("goes with multiple imputation only", ("analyses", name, "missing", field),
                  remedy="missing: {method: multiple_imputation, ...}")  # fmt: skip


def _repeated(protocol: Protocol, name: str, fault: Fault) -> None:
    """What an ANCOVA asks, and no more visits than a covariance can be estimated of."""
    from trials.analysis.mmrm import MOST_VISITS

    _adjusted(protocol, name, fault)
    names = protocol.visit_names
    for endpoint in protocol.estimands[name].endpoint:
        if names.index(str(protocol.endpoints[endpoint].at)) > MOST_VISITS:
            fault(f"mmrm takes at most {MOST_VISITS} visits after baseline", ("analyses", name, "method"),
                  remedy="method: ancova, or an earlier visit")  # fmt: skip


def _ancova_words(analysis: Analysis) -> str:
    missing = analysis.missing
    how = missing.method.replace("_", " ")
    if missing.assume != "at_random":
        how += f" ({missing.assume.replace('_', ' ')})"
    if missing.delta != 0.0:
        how += f", {missing.delta:g} added to imputed values of treated subjects"
    return f"estimated by ANCOVA adjusted for {', '.join(analysis.adjust)}, {how}, {_test_words(analysis)}"


def _mmrm_words(analysis: Analysis) -> str:
    names = {"kenward_roger": "Kenward-Roger", "satterthwaite": "Satterthwaite"}
    return (
        "estimated by a mixed model for repeated measures of all visits up to that one (REML, "
        f"{analysis.covariance.replace('_', ' ')} covariance, {names[analysis.df]} degrees of freedom) adjusted for "
        f"{', '.join(analysis.adjust)}, missing values at random, {_test_words(analysis)}"
    )


def _test_words(analysis: Analysis) -> str:
    adjustment = "no adjustment for multiplicity" if analysis.multiplicity == "none" else "Dunnett adjustment"
    return f"{adjustment}, {analysis.side}-sided {analysis.alpha:g}"


def _always(analysis: Analysis) -> bool:
    return True


def _imputes(analysis: Analysis) -> bool:
    return analysis.missing.method == "multiple_imputation"


METHODS: Final = {
    "ancova": Method(
        run=_ancova, serves=_MEANS, uses=("adjust", "multiplicity", "missing", "alpha", "side"), words=_ancova_words,
        check=_imputable, fills=_imputes,
    ),
    "mmrm": Method(
        run=_mmrm, serves=_MEANS, uses=("adjust", "multiplicity", "alpha", "side", "df", "covariance"),
        words=_mmrm_words, check=_repeated, fills=_always, partial=True,
    ),
}  # fmt: skip
