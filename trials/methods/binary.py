"""Methods for whether something happened."""

from __future__ import annotations

from typing import Final

import numpy as np

from trials.estimand import Analysis
from trials.kinds import incidence
from trials.methods.method import Method, Question, Table
from trials.observed import Observed

__all__ = ["METHODS"]


def _miettinen_nurminen(question: Question, trial: Observed) -> Table:
    """A failed subject is in no numerator and no denominator: it is counted as missing."""
    from trials.analysis.binary import miettinen_nurminen

    event, all_codes = incidence(question.endpoint, question.estimand, trial), question.codes(trial.arm)
    missing = ((all_codes >= 0) & trial.failed).sum(axis=1)
    codes = np.where(trial.failed, -1, all_codes)
    n = np.stack([(codes == code).sum(axis=1) for code in range(question.arms)], axis=1)
    x = np.stack([(event & (codes == code)).sum(axis=1) for code in range(question.arms)], axis=1)
    found = miettinen_nurminen(x[:, 1:], n[:, 1:], x[:, :1], n[:, :1], level=question.analysis.level)
    reject = (found.lower > 0) | (found.upper < 0)
    return {
        "estimate": found.estimate, "lower": found.lower, "upper": found.upper, "p": found.p, "reject": reject,
        "n_control": n[:, 0], "n_treated": n[:, 1:], "x_control": x[:, 0], "x_treated": x[:, 1:],
        "missing": missing,
    }  # fmt: skip


def _words(analysis: Analysis) -> str:
    return f"Miettinen-Nurminen interval, {100 * analysis.level:g} %"


METHODS: Final = {
    "miettinen_nurminen": Method(
        run=_miettinen_nurminen, serves={"incidence": ("risk_difference",)}, uses=("level",), words=_words
    ),
}
