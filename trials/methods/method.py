"""What an analysis method is: a function of a question and the data base, and what it serves and uses, beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials.estimand import Analysis, Endpoint, Estimand
from trials.observed import Integers, Observed

if TYPE_CHECKING:
    from trials.faults import Fault
    from trials.protocol import Protocol

__all__ = ["Method", "Question", "Table"]

Table = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one analysis is asked about one endpoint."""

    protocol: Protocol
    estimand: Estimand
    analysis: Analysis
    endpoint: Endpoint

    @property
    def arms(self) -> int:
        """Number of arms it is about, control included."""
        return 1 + len(self.estimand.compare)

    @property
    def visit(self) -> int:
        """Number of the endpoint's visit, 0 is the baseline."""
        return self.protocol.visit_names.index(str(self.endpoint.at))

    def codes(self, arm: Integers) -> Integers:
        """Arm codes of the estimand: 0 control, 1, 2 ... the compared arms in order, -1 any other arm."""
        codes = np.full(len(self.protocol.arms) + 1, -1, np.int64)  # the last entry serves arm -1
        for code, name in enumerate((self.estimand.against, *self.estimand.compare)):
            codes[self.protocol.arm_names.index(name)] = code
        return codes[arm]


def _no_check(protocol: Protocol, name: str, fault: Fault) -> None:
    """Nothing beyond what the table says."""


def _never(analysis: Analysis) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An analysis method.

    run: (question, observed) -> columns of the analysis table, arrays (R, k) of contrasts or (R,); a column it leaves
    out is NaN, -1 or False there. serves: {kind of endpoint: summaries it estimates}; uses: fields of `Analysis` beside
    `method` that it reads, every other one is refused in a text; words: the method in a report, of an analysis; check:
    (protocol, name of the analysis, fault), what else must hold; fills: whether an analysis stands in for values after
    the end of follow-up, so that it cannot be used with a terminal event; partial: takes subjects whose endpoint's
    visit has not come yet (at an interim look, or where the data base closes before).
    """

    run: Callable[[Question, Observed], Table]
    serves: Mapping[str, tuple[str, ...]]
    uses: tuple[str, ...]
    words: Callable[[Analysis], str]
    check: Callable[[Protocol, str, Fault], None] = _no_check
    fills: Callable[[Analysis], bool] = _never
    partial: bool = False
