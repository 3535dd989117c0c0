"""Methods for an ordered output at a visit."""

from __future__ import annotations

from typing import Final

import numpy as np

from trials.kinds import values_at
from trials.methods import wald
from trials.methods.method import Method, Question, Table
from trials.observed import Observed

__all__ = ["METHODS"]

_KINDS: Final = ("value", "change_from_baseline")


def _proportional_odds(question: Question, trial: Observed) -> Table:
    from trials.analysis.ordinal import proportional_odds

    y = values_at(question.protocol, question.endpoint, trial.outputs)
    found = proportional_odds(y, wald.codes(question, trial), **wald.test(question),
                              strata=wald.strata(question, trial),
                              covariates=wald.covariates(question, trial))  # fmt: skip
    return wald.table(question, trial, found, ratio=True)


def _wilcoxon(question: Question, trial: Observed) -> Table:
    """The win probability with its own interval; the rank test decides."""
    from trials.analysis.ordinal import wilcoxon

    y = values_at(question.protocol, question.endpoint, trial.outputs)
    found = wilcoxon(y, wald.codes(question, trial), **wald.test(question), strata=wald.strata(question, trial))
    missing = (question.codes(trial.arm) >= 0).sum(axis=1) - found.n.sum(axis=1)
    return {
        "estimate": found.win, "se": found.se, "lower": found.lower, "upper": found.upper, "p": found.p,
        "reject": found.reject, "status": found.status, "n_control": found.n[:, 0], "n_treated": found.n[:, 1:],
        "missing": np.asarray(missing),
    }  # fmt: skip


METHODS: Final = {
    "proportional_odds": Method(
        run=_proportional_odds, serves=dict.fromkeys(_KINDS, ("common_odds_ratio",)), uses=(*wald.options, "adjust"),
        words=wald.words("proportional odds regression on arm, strata and covariates"), check=wald.adjusted,
    ),
    "wilcoxon": Method(
        run=_wilcoxon, serves=dict.fromkeys(_KINDS, ("win_probability",)), uses=wald.options,
        words=wald.words("Wilcoxon rank-sum test, van Elteren's over the allocation's strata"),
    ),
}  # fmt: skip
