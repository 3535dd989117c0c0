"""All measures of a table of reports together, ranked, with the customary criteria of a signal.

A signal is a hypothesis to look into: reports have no denominator, and what is reported is not what happened.
Criteria: EB05 >= 2 (DuMouchel 1999; Szarfman et al., Drug Saf 2002;25:381), IC025 > 0 (Bate et al., Eur J Clin
Pharmacol 1998;54:315), PRR >= 2 with chi-squared >= 4 and n >= 3 (Evans et al. 2001), lower limit of
ROR > 1 with n >= 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trials.analysis.signals import Counts, Scores, counts, disproportionality
from trials.analysis.signals_fit import Fit, Shrunk, SignalStatus, Theta, Truncation, fit, shrunk
from trials.analysis.signals_reports import Reports

__all__ = ["CRITERIA", "Signals", "signals"]

CRITERIA: Final = {
    "EB05": "EB05 >= 2",
    "IC025": "IC025 > 0",
    "PRR": "PRR >= 2, chi-squared >= 4, n >= 3",
    "ROR": "lower 95 % limit of ROR > 1, n >= 3",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Pairs (K,) as in `counts`; `order` ranks them, by EB05, or by IC025 where no hyperparameters could be had.

    theta: fitted (then `fit` is there) or given; None where the fit failed, and the shrunk scores are NaN. meets: the
    criteria's answers (K,); settled: how many pairs meet EB05 >= 2 under each optimum of the fit, the best first.
    """

    reports: Reports
    counts: Counts
    scores: Scores
    fit: Fit | None
    theta: Theta | None
    shrunk: Shrunk
    meets: dict[str, NDArray[np.bool_]]
    settled: tuple[int, ...]
    order: NDArray[np.int64]


def signals(table: Reports, *, theta: Theta | None = None, truncation: Truncation = "component") -> Signals:
    """Count, score, shrink and rank. theta: hyperparameters to use instead of fitted ones."""
    made = counts(table)
    scores = disproportionality(made)
    found = None if theta is not None else _fitted(made, truncation)
    if found is not None and found.status is SignalStatus.OK:
        theta = found.theta
    small = _none(made.n.size) if theta is None else shrunk(made.n, made.expected, theta)
    first = scores.ic_lower if theta is None else small.eb05
    others = found.others if found is not None and theta is not None else ()
    settled = [] if theta is None else [_many(small)]
    settled += [_many(shrunk(made.n, made.expected, other)) for _, other in others]
    return Signals(
        reports=table, counts=made, scores=scores, fit=found, theta=theta, shrunk=small,
        meets=_meets(made, scores, small), settled=tuple(settled), order=np.argsort(-first, kind="stable"),
    )  # fmt: skip


def _fitted(made: Counts, truncation: Truncation) -> Fit:
    from trials.analysis.signals import with_zeros

    if truncation != "none":
        return fit(made.n, made.expected, truncation=truncation)
    n, expected, many = with_zeros(made)
    return fit(n, expected, weight=many, truncation=truncation)


def _none(size: int) -> Shrunk:
    none = np.full(size, np.nan)
    return Shrunk(ebgm=none, eb05=none, eb95=none, weight=none)


def _many(small: Shrunk) -> int:
    return int((small.eb05 >= 2.0).sum())


def _meets(made: Counts, scores: Scores, small: Shrunk) -> dict[str, NDArray[np.bool_]]:
    enough = made.n >= 3
    return {
        "EB05": small.eb05 >= 2.0,
        "IC025": scores.ic_lower > 0.0,
        "PRR": enough & (scores.prr >= 2.0) & (scores.chi2 >= 4.0),
        "ROR": enough & (scores.ror_lower > 1.0),
    }
