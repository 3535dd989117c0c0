"""Methods for how often a recurrent event happened, follow-up time as offset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from trials.event_times import occurrences
from trials.methods import wald
from trials.methods.method import Method, Question, Table
from trials.observed import Observed

__all__ = ["METHODS"]


def _rates(name: str, **fixed: str) -> Callable[[Question, Observed], Table]:
    """Occurrences until the end of each subject's follow-up; nobody without follow-up is in an arm."""

    def run(question: Question, trial: Observed) -> Table:
        from trials.analysis import counts

        times, until = occurrences(question.protocol, question.endpoint, question.estimand, trial)
        number = (times <= until[:, :, None]).sum(axis=2).astype(np.float64)
        codes = np.where(until > 0, wald.codes(question, trial), -1)
        options: dict[str, Any] = {**wald.test(question), **fixed, "strata": wald.strata(question, trial),
                                   "exposure": np.where(until > 0, until, 1.0)}  # fmt: skip
        found = getattr(counts, name)(number, codes, **options, covariates=wald.covariates(question, trial))
        return wald.table(question, trial, found.compared, ratio=True)

    return run


def _method(run: Callable[[Question, Observed], Table], text: str) -> Method:
    return Method(run=run, serves={"recurrences": ("rate_ratio",)}, uses=(*wald.options, "adjust"),
                  words=wald.words(text), check=wald.adjusted)  # fmt: skip


METHODS: Final = {
    "negative_binomial": _method(
        _rates("negative_binomial", variance="joint"),
        "negative binomial regression on arm and strata, follow-up as offset, variance with the dispersion's",
    ),
    "quasi_poisson": _method(
        _rates("poisson", variance="quasi"),
        "Poisson regression on arm and strata, follow-up as offset, variance times Pearson's dispersion",
    ),
}
