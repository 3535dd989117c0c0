"""Methods for whether something happened: an event, or an output that reached a threshold (`responder`).

Every arm is tested at `alpha` (or by its interval at `level`) alone: nothing is adjusted for several arms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trials.estimand import Analysis
from trials.kinds import incidence, responders
from trials.methods import wald
from trials.methods.method import Method, Question, Table
from trials.observed import Floats, Integers, Observed

if TYPE_CHECKING:
    from trials.analysis.binary import Interval

__all__ = ["METHODS"]

Counts = tuple[Floats, Floats, Floats, Floats]
_RISKS: Final = ("risk_difference", "risk_ratio", "odds_ratio")
_SCALES: Final = {"risk_difference": "difference", "risk_ratio": "ratio", "odds_ratio": "odds"}


def _happened(question: Question, trial: Observed) -> tuple[Floats, Integers]:
    """1, 0 or NaN (left out) for each subject, and the arm codes; a failed subject is in no arm."""
    if question.endpoint.output is not None:
        found = responders(question.protocol, question.endpoint, question.estimand, trial)
    else:
        found = incidence(question.endpoint, question.estimand, trial).astype(np.float64)
    return found, np.where(np.isnan(found), -1, wald.codes(question, trial))


def _counted(question: Question, trial: Observed) -> tuple[Counts, dict[str, NDArray[Any]]]:
    """x1, n1 (R, k), x0, n0 (R, 1), and the columns of counts."""
    event, codes = _happened(question, trial)
    n = np.stack([(codes == code).sum(axis=1) for code in range(question.arms)], axis=1)
    x = np.stack([((event == 1.0) & (codes == code)).sum(axis=1) for code in range(question.arms)], axis=1)
    missing = (question.codes(trial.arm) >= 0).sum(axis=1) - n.sum(axis=1)
    columns = {"n_control": n[:, 0], "n_treated": n[:, 1:], "x_control": x[:, 0], "x_treated": x[:, 1:],
               "missing": missing}  # fmt: skip
    x, n = x.astype(np.float64), n.astype(np.float64)
    return (x[:, 1:], n[:, 1:], x[:, :1], n[:, :1]), columns


def _interval(name: str, null: float = 0.0) -> Callable[[Question, Observed], Table]:
    """An interval of `analysis.binary` (or of the odds ratio); the decision is whether it excludes the null."""

    def run(question: Question, trial: Observed) -> Table:
        from trials.analysis import binary, stratified

        compute: Any = stratified.odds_ratio if name == "odds_ratio" else getattr(binary, name)
        counts, columns = _counted(question, trial)
        found: Interval = compute(*counts, level=question.analysis.level)
        reject = (found.lower > null) | (found.upper < null)
        return {"estimate": found.estimate, "lower": found.lower, "upper": found.upper, "p": found.p,
                "reject": reject, **columns}  # fmt: skip

    return run


def _exact(name: str) -> Callable[[Question, Observed], Table]:
    """An exact p-value decides; the risk difference has the Miettinen-Nurminen interval beside it."""

    def run(question: Question, trial: Observed) -> Table:
        from trials.analysis import exact
        from trials.analysis.binary import miettinen_nurminen

        counts, columns = _counted(question, trial)
        found = miettinen_nurminen(*counts, level=question.analysis.level)
        p = getattr(exact, name)(*counts, side=question.analysis.side)
        return {"estimate": found.estimate, "lower": found.lower, "upper": found.upper, "p": p,
                "reject": p <= question.analysis.alpha, **columns}  # fmt: skip

    return run


def _logistic(question: Question, trial: Observed) -> Table:
    """Marginal risks by g-computation; a Wald test on the scale of the summary."""
    from trials.analysis.logistic import marginal

    event, codes = _happened(question, trial)
    scale = _SCALES[question.estimand.summary]
    found = marginal(event, codes, **wald.test(question), strata=wald.strata(question, trial),
                     covariates=wald.covariates(question, trial), scale=scale)  # fmt: skip
    return wald.table(question, trial, found, ratio=scale != "difference")


def _cmh(question: Question, trial: Observed) -> Table:
    """Mantel-Haenszel over the allocation's strata; decided by the CMH test, two-sided."""
    from trials.analysis.stratified import mantel_haenszel

    event, codes = _happened(question, trial)
    _, columns = _counted(question, trial)
    cells = wald.strata(question, trial)
    cells = np.zeros(codes.shape, np.int64) if cells is None else cells
    levels = range(int(cells.max(initial=0)) + 1)
    n, x = (
        np.stack(
            [[((codes == arm) & (cells == s) & flag).sum(axis=1) for s in levels] for arm in range(question.arms)]
        ).transpose(2, 0, 1)
        for flag in (np.ones(codes.shape, np.bool_), event == 1.0)
    )  # (R, arms, strata)
    found = mantel_haenszel(x[:, 1:], n[:, 1:], x[:, :1], n[:, :1], scale=_SCALES[question.estimand.summary],
                            level=question.analysis.level)  # fmt: skip
    reject = found.p <= 1 - question.analysis.level
    return {"estimate": found.estimate, "se": found.se, "lower": found.lower, "upper": found.upper, "p": found.p,
            "reject": reject, "status": found.status, **columns}  # fmt: skip


def _at_level(text: str) -> Callable[[Analysis], str]:
    return lambda analysis: f"{text}, {100 * analysis.level:g} %"


def _decided(text: str) -> Callable[[Analysis], str]:
    def words(analysis: Analysis) -> str:
        test = f"{text}, {analysis.side}-sided {analysis.alpha:g} for each arm"
        return f"{test}; Miettinen-Nurminen interval, {100 * analysis.level:g} %"

    return words


def _both(*summaries: str) -> dict[str, tuple[str, ...]]:
    return {"incidence": summaries, "responder": summaries}


METHODS: Final[dict[str, Method]] = {
    "miettinen_nurminen": Method(
        run=_interval("miettinen_nurminen"), serves=_both("risk_difference"), uses=("level",),
        words=_at_level("Miettinen-Nurminen interval"),
    ),
    "newcombe": Method(
        run=_interval("newcombe"), serves=_both("risk_difference"), uses=("level",),
        words=_at_level("Newcombe's hybrid score interval"),
    ),
    "risk_ratio": Method(
        run=_interval("miettinen_nurminen_ratio", 1.0), serves=_both("risk_ratio"), uses=("level",),
        words=_at_level("score interval of the risk ratio (Miettinen-Nurminen)"),
    ),
    "odds_ratio": Method(
        run=_interval("odds_ratio", 1.0), serves=_both("odds_ratio"), uses=("level",),
        words=_at_level("score interval of the odds ratio (Miettinen-Nurminen)"),
    ),
    "cmh": Method(
        run=_cmh, serves=_both(*_RISKS), uses=("level", "stratified"),
        words=_at_level("Mantel-Haenszel over the allocation's strata, Cochran-Mantel-Haenszel test, interval"),
    ),
    "logistic": Method(
        run=_logistic, serves=_both(*_RISKS), uses=(*wald.options, "adjust"),
        words=wald.words("marginal risks by g-computation from logistic regression on arm, strata and covariates"),
        check=wald.adjusted,
    ),
    **{
        name: Method(
            run=_exact(name), serves=_both("risk_difference"), uses=("alpha", "side", "level"), words=_decided(text)
        )
        for name, text in (
            ("fisher", "Fisher's exact test"), ("barnard", "Barnard's exact unconditional test"),
            ("boschloo", "Boschloo's exact unconditional test"),
        )
    },
}  # fmt: skip
