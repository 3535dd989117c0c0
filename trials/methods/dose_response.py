"""MCP-Mod for a continuous output at a visit: one test of a dose response, then curves or the target dose.

The arms of the estimand with the control are the doses. `dose_response`: the estimate of an arm is the modelled
difference from the control at its dose; `target_dose`: the estimate, the same for every arm, is the dose with `effect`
over the control, NaN where the test does not reject or no dose studied has it. `p` and `reject` are of the multiple
contrast test (the largest statistic), one for all arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.analysis.statuses import NO_TARGET
from trials.estimand import Analysis, Estimand
from trials.methods import wald
from trials.methods.method import Method, Question, Table
from trials.observed import Floats, Observed

if TYPE_CHECKING:
    from trials.analysis.dose_response import Candidate, DoseMeans
    from trials.analysis.dose_response_fit import Fits
    from trials.faults import Fault
    from trials.protocol import Protocol

__all__ = ["METHODS", "doses_of"]


def doses_of(protocol: Protocol, estimand: Estimand, analysis: Analysis) -> Mapping[str, float]:
    """The dose of every arm of the estimand: as stated, else 0 or the amount of its regimen's only dose item."""
    found: dict[str, float] = {}
    unit = ""
    for arm in (estimand.against, *estimand.compare):
        items = protocol.arms[arm].regimen
        if arm in analysis.doses:
            found[arm] = float(analysis.doses[arm])
        elif len(items) <= 1:
            found[arm] = float(items[0].amount) if items else 0.0
            other = items[0].amount.unit if items else unit
            if unit and other != unit:
                raise InputError("the arms' doses have different units", field="doses", value=f"{unit}, {other}",
                                 remedy="give all in one unit, or state doses:")  # fmt: skip
            unit = other
        else:
            raise InputError("has several doses: say which is meant", field="doses", value=arm,
                             remedy=f"doses: {{{arm}: ...}}")  # fmt: skip
    return found


def _candidates(analysis: Analysis) -> list[Candidate]:
    """The candidate set; falling where a low response is asked for (side less)."""
    from trials.analysis.dose_response import Candidate

    sign = -1 if analysis.side == "less" else 1
    return [Candidate(kind=kind, guesses=tuple(guesses), sign=sign) for kind, guesses in analysis.shapes.items()]


def _means(question: Question, trial: Observed) -> tuple[DoseMeans, NDArray[np.int64]]:
    """Adjusted means by ascending dose, and the place of each compared arm among them."""
    from trials.analysis.dose_response import dose_means

    doses = np.array(list(doses_of(question.protocol, question.estimand, question.analysis).values()))
    order = np.argsort(doses, kind="stable")
    place = np.empty(doses.size, np.int64)
    place[order] = np.arange(doses.size)
    codes = wald.codes(question, trial)
    output = trial.outputs[str(question.endpoint.output)]
    more = wald.covariates(question, trial)
    means = dose_means(
        output[:, :, question.visit], np.where(codes >= 0, place[codes], -1), doses[order],
        strata=wald.strata(question, trial), covariates=more,
    )  # fmt: skip
    return means, place


def _mcp_mod(question: Question, trial: Observed) -> Table:
    from trials.analysis.dose_response import contrast_test
    from trials.analysis.dose_response_fit import fit

    analysis, (means, place) = question.analysis, _means(question, trial)
    # candidates point the way asked for: large statistics speak against the null on either side
    test = contrast_test(means, _candidates(analysis), alpha=analysis.alpha, side="greater")
    fits = fit(means, list(analysis.shapes))
    p = np.where(np.isnan(test.p).any(axis=1), np.nan, test.p.min(axis=1))
    k, size = question.arms - 1, means.size[:, place]
    both = {"p": _wide(p, k), "reject": _wide(test.reject, k), "n_control": size[:, 0], "n_treated": size[:, 1:],
            "missing": means.missing, "df": _wide(means.df, k)}  # fmt: skip
    if question.estimand.summary == "target_dose":
        return {**both, **_target(fits, (test.reject, test.status), analysis, k)}
    value, se = _effects(fits, means.doses[place[1:]], analysis)
    half = _quantile(means.df, analysis)[:, None] * se
    status = np.where(_wide(test.status, k) != 0, _wide(test.status, k), np.where(np.isnan(value), 1, 0))
    return {**both, "estimate": value, "se": se, "lower": value - half, "upper": value + half,
            "status": status.astype(np.int8)}  # fmt: skip


def _wide(values: NDArray[Any], k: int) -> NDArray[Any]:
    return np.ascontiguousarray(np.broadcast_to(values[:, None], (values.size, k)))


def _weights(fits: Fits, analysis: Analysis) -> Floats:
    """Akaike weights, or all of it on the best."""
    if analysis.select == "average":
        return fits.weights
    least = np.where(np.isfinite(fits.aic), fits.aic, np.inf)
    best = np.eye(fits.aic.shape[1])[least.argmin(axis=1)]
    return np.where(np.isfinite(least).any(axis=1)[:, None], best, np.nan)


def _effects(fits: Fits, doses: Floats, analysis: Analysis) -> tuple[Floats, Floats]:
    """Effects over the control (R, k) and standard errors; of an average that of Buckland, Burnham & Augustin, with the
    spread of the shapes around it.
    """
    from trials.analysis.dose_response_fit import curve

    each, se = curve(fits, doses, less_placebo=True)
    weights = _weights(fits, analysis)[..., None]
    value = np.where(weights > 0, weights * each, 0.0).sum(axis=1)
    spread = np.sqrt(np.where(np.isnan(se), np.inf, se) ** 2 + (each - value[:, None, :]) ** 2)
    total = np.where(weights > 0, weights * spread, 0.0).sum(axis=1)
    lost = np.isnan(weights).any(axis=1)
    return np.where(lost, np.nan, value), np.where(lost | ~np.isfinite(total), np.nan, total)


def _quantile(df: Floats, analysis: Analysis) -> Floats:
    from scipy.special import stdtrit

    found: Floats = stdtrit(df, 0.5 + 0.5 * analysis.level)
    return found


def _target(fits: Fits, tested: tuple[NDArray[np.bool_], NDArray[np.int8]], analysis: Analysis, k: int) -> Table:
    """Target dose of the weighted curves' shapes: the weighted mean of the shapes' doses (MCPMod's aveAIC), with the
    standard error of Buckland, Burnham & Augustin.
    """
    from trials.analysis.dose_response_fit import target_dose

    reject, status = tested
    made = target_dose(fits, float(analysis.effect or 0.0))
    weights = np.where(np.isfinite(made.dose) & np.isfinite(made.se), _weights(fits, analysis), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    share = np.divide(weights, total, out=np.zeros(weights.shape), where=total > 0)
    dose = np.where(share > 0, share * made.dose, 0.0).sum(axis=1)
    spread = np.sqrt(made.se**2 + (made.dose - dose[:, None]) ** 2)
    se = np.where(share > 0, share * spread, 0.0).sum(axis=1)
    none = (total[:, 0] <= 0) | ~reject
    dose, se = np.where(none, np.nan, dose), np.where(none, np.nan, se)
    z = _quantile(np.full(dose.shape, np.inf), analysis)
    why = np.where(status != 0, status, np.where(none, NO_TARGET, 0)).astype(np.int8)
    return {"estimate": _wide(dose, k), "se": _wide(se, k), "lower": _wide(np.maximum(dose - z * se, 0.0), k),
            "upper": _wide(dose + z * se, k), "status": _wide(why, k)}  # fmt: skip


def _checked(protocol: Protocol, name: str, fault: Fault) -> None:
    """Candidates with guesses, one dose for each arm, an effect where a target dose is asked for."""
    from trials.analysis.dose_response import Candidate
    from trials.faults import at

    analysis, estimand, path = protocol.analyses[name], protocol.estimands[name], ("analyses", name)
    if not analysis.shapes:
        fault(
            "is missing: mcp_mod needs candidate shapes", (*path, "shapes"), remedy="shapes: {linear: [], emax: [25]}"
        )
    for kind, guesses in analysis.shapes.items():
        with at(fault, (*path, "shapes", kind)):
            Candidate(kind=kind, guesses=tuple(guesses))
    for arm in analysis.doses:
        fault.known(arm, (estimand.against, *estimand.compare), "arm of the estimand", (*path, "doses", arm))
    with at(fault, path):
        doses = doses_of(protocol, estimand, analysis)
    _distinct(doses, estimand, (*path,), fault)
    if analysis.side == "two":
        fault("a dose response has a direction", (*path, "side"), value="two", remedy="side: greater, or less")
    asked = estimand.summary == "target_dose"
    if asked and not analysis.effect:
        fault("is missing: a target dose needs an effect over the control", (*path, "effect"), remedy="effect: 1.4")
    if not asked and analysis.effect is not None:
        fault("only a target dose uses it", (*path, "effect"), remedy="summary: target_dose, or leave it out")
    if asked and analysis.effect and (analysis.effect < 0) != (analysis.side == "less"):
        fault("points against side", (*path, "effect"), value=analysis.effect, remedy="a negative effect: side: less")
    wald.adjusted(protocol, name, fault)


def _distinct(doses: Mapping[str, float], estimand: Estimand, path: tuple[str, ...], fault: Fault) -> None:
    if doses[estimand.against] != 0.0:
        fault("the control's dose must be 0", path, value=doses[estimand.against],
              remedy=f"against: a placebo arm, or doses: {{{estimand.against}: 0}}")  # fmt: skip
    if len(set(doses.values())) < len(doses):
        shown = ", ".join(f"{arm} {dose:g}" for arm, dose in doses.items())
        fault("two arms have one dose", path, value=shown, remedy="say them: doses: {ARM: daily dose, ...}")


def _words(analysis: Analysis) -> str:
    shapes = ", ".join(analysis.shapes)
    chosen = "AIC-weighted average of the fits" if analysis.select == "average" else "fit with the lowest AIC"
    return (
        f"MCP-Mod with {shapes}: multiple contrast test ({analysis.side}, {analysis.alpha:g}), {chosen}, "
        f"{100 * analysis.level:g} % intervals by the delta method"
    )


METHODS: Final = {
    "mcp_mod": Method(
        run=_mcp_mod, serves=dict.fromkeys(("value", "change_from_baseline"), ("dose_response", "target_dose")),
        uses=("alpha", "side", "level", "stratified", "adjust", "shapes", "doses", "effect", "select"), words=_words,
        check=_checked,
    ),
}  # fmt: skip
