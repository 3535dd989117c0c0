"""Methods for the time to an event, for recurrent events and for hierarchies of events.

Ratios (of hazards, rates, restricted means, wins) are given as ratios with their intervals; `se` is that of the
logarithm. Every arm is tested at `alpha` alone: nothing is adjusted for several arms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trials.estimand import Analysis
from trials.event_times import event_times, horizon, occurrences
from trials.methods.method import Method, Question, Table
from trials.observed import Integers, Observed

if TYPE_CHECKING:
    from trials.analysis.survival_data import Compared

__all__ = ["METHODS"]

Data = tuple[NDArray[np.float64], NDArray[np.bool_], Integers]
"""time [d], event, arm codes of the question, each (R, N)."""


def _data(question: Question, trial: Observed) -> Data:
    found = event_times(question.protocol, question.endpoint, question.estimand, trial)
    return found.time, found.event, question.codes(trial.arm)


def _strata(question: Question, trial: Observed) -> dict[str, Any]:
    """The allocation's strata, where it has any and the analysis does not leave them out."""
    wanted = question.analysis.stratified and question.protocol.allocation.strata
    return {"strata": trial.stratum} if wanted else {}


def _test(question: Question) -> dict[str, Any]:
    return {"arms": question.arms, "alpha": question.analysis.alpha, "side": question.analysis.side}


def _table(question: Question, trial: Observed, found: Compared, *, ratio: bool) -> Table:
    """Columns of the analysis table; a failed subject is in no arm and is counted as missing."""
    from pkpd.kernels.elementary import exp_array

    shown = exp_array if ratio else np.asarray
    return {
        "estimate": shown(found.estimate), "se": found.se, "lower": shown(found.lower), "upper": shown(found.upper),
        "p": found.p, "reject": found.reject, "status": found.status, "n_control": found.n[:, 0],
        "n_treated": found.n[:, 1:], "x_control": found.x[:, 0], "x_treated": found.x[:, 1:],
        "missing": ((question.codes(trial.arm) >= 0) & trial.failed).sum(axis=1),
    }  # fmt: skip


def _logrank(question: Question, trial: Observed) -> Table:
    from trials.analysis.survival import logrank

    (time, event, arm), asked = _data(question, trial), question.analysis
    options = {**_test(question), **_strata(question, trial)}
    found = logrank(time, event, arm, **options, rho=asked.rho, gamma=asked.gamma)
    return _table(question, trial, found, ratio=True)


def _max_combo(question: Question, trial: Observed) -> Table:
    from trials.analysis.survival import max_combo

    time, event, arm = _data(question, trial)
    found = max_combo(time, event, arm, **{**_test(question), **_strata(question, trial)})
    return _table(question, trial, found.compared, ratio=True)


def _cox(question: Question, trial: Observed) -> Table:
    from trials.analysis.cox import cox_arms

    time, event, arm = _data(question, trial)
    found = cox_arms(time, event, arm, **{**_test(question), **_strata(question, trial)})
    return _table(question, trial, found, ratio=True)


def _rmst(question: Question, trial: Observed) -> Table:
    from trials.analysis.survival import rmst

    ratio = question.estimand.summary == "rmst_ratio"
    tau = horizon(question.protocol, question.endpoint)
    time, event, arm = _data(question, trial)
    found = rmst(time, event, arm, **_test(question), tau=tau, ratio=ratio)
    return _table(question, trial, found, ratio=ratio)


def _milestone(question: Question, trial: Observed) -> Table:
    from trials.analysis.survival import milestone

    time, event, arm = _data(question, trial)
    found = milestone(time, event, arm, **_test(question), at=horizon(question.protocol, question.endpoint))
    return _table(question, trial, found, ratio=False)


def _aalen_johansen(question: Question, trial: Observed) -> Table:
    from trials.analysis.survival import incidence_difference

    seen = event_times(question.protocol, question.endpoint, question.estimand, trial)
    at = horizon(question.protocol, question.endpoint)
    found = incidence_difference(seen.time, seen.cause, question.codes(trial.arm), **_test(question), at=at)
    return _table(question, trial, found, ratio=False)


def _recurrent(model: str) -> Callable[[Question, Observed], Table]:
    def run(question: Question, trial: Observed) -> Table:
        from trials.analysis.recurrent import andersen_gill

        times, until = occurrences(question.protocol, question.endpoint, question.estimand, trial)
        options = {**_test(question), **_strata(question, trial), "model": model}
        found = andersen_gill(times, until, question.codes(trial.arm), **options)
        return _table(question, trial, found, ratio=True)

    return run


def _wins(question: Question, trial: Observed) -> Table:
    """The endpoint's events in order of importance, each a time of its own."""
    from dataclasses import replace

    from trials.analysis import win_ratio

    protocol, endpoint, codes = question.protocol, question.endpoint, question.codes(trial.arm)
    each = [
        event_times(protocol, replace(endpoint, event=(name,)), question.estimand, trial) for name in endpoint.events
    ]
    levels = [win_ratio.timed(np.nan_to_num(seen.time), seen.event) for seen in each]
    found = win_ratio.wins(levels, np.where(trial.failed, -1, codes), arms=question.arms)
    summary = question.estimand.summary
    compare = {"win_ratio": win_ratio.win_ratio, "win_odds": win_ratio.win_odds, "net_benefit": win_ratio.net_benefit}
    made = compare[summary](found, alpha=question.analysis.alpha, side=question.analysis.side)
    return _table(question, trial, made, ratio=summary != "net_benefit")


def _words(text: str) -> Callable[[Analysis], str]:
    def words(analysis: Analysis) -> str:
        weights = f" with weights G({analysis.rho:g}, {analysis.gamma:g})" if analysis.rho or analysis.gamma else ""
        strata = "" if analysis.stratified else ", not stratified"
        return f"{text}{weights}{strata}, {analysis.side}-sided {analysis.alpha:g} for each arm"

    return words


def _method(
    run: Callable[[Question, Observed], Table], serves: dict[str, tuple[str, ...]], words: str, *uses: str
) -> Method:
    return Method(run=run, serves=serves, uses=("alpha", "side", *uses), words=_words(words))


_TIME: Final = "time_to_event"
METHODS: Final[dict[str, Method]] = {
    "logrank": _method(
        _logrank, {_TIME: ("hazard_ratio",)},
        "log-rank test (the hazard ratio is its one-step estimate), stratified where the allocation is",
        "stratified", "rho", "gamma",
    ),
    "cox": _method(
        _cox, {_TIME: ("hazard_ratio",)}, "Cox regression (Efron), stratified where the allocation is", "stratified"
    ),
    "max_combo": _method(
        _max_combo, {_TIME: ("hazard_ratio",)},
        "MaxCombo of G(0,0), G(0,1), G(1,0), G(1,1) (the hazard ratio is that of G(0,0)), stratified where the "
        "allocation is",
        "stratified",
    ),
    "rmst": _method(_rmst, {_TIME: ("rmst_difference", "rmst_ratio")}, "restricted mean time from Kaplan-Meier curves"),
    "kaplan_meier": _method(_milestone, {_TIME: ("survival_difference",)}, "Kaplan-Meier with Greenwood's variance"),
    "aalen_johansen": _method(
        _aalen_johansen, {_TIME: ("incidence_difference",)}, "Aalen-Johansen, terminal events as a competing cause"
    ),
    "lwyy": _method(
        _recurrent("lwyy"), {"recurrences": ("rate_ratio",)},
        "Andersen-Gill model with variance robust by subject (LWYY), stratified where the allocation is", "stratified",
    ),
    "andersen_gill": _method(
        _recurrent("andersen_gill"), {"recurrences": ("rate_ratio",)},
        "Andersen-Gill model, model-based variance, stratified where the allocation is", "stratified",
    ),
    "pwp": _method(
        _recurrent("pwp"), {"recurrences": ("hazard_ratio",)},
        "Prentice-Williams-Peterson model in total time, variance robust by subject, stratified where the allocation "
        "is",
        "stratified",
    ),
    "win_ratio": _method(
        _wins, {"hierarchy": ("win_ratio", "win_odds", "net_benefit")},
        "all pairs with control, decided by the first event of the hierarchy, variance of a U-statistic",
    ),
}  # fmt: skip
