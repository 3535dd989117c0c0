"""Analysis methods by the name a protocol gives them; the functions that compute open their kernels when called."""

from __future__ import annotations

from typing import Final

from trials.methods import binary, continuous, counts, dose_response, ordinal, survival
from trials.methods.method import Method, Question, Table
from trials.methods.posterior import with_priors

__all__ = ["METHODS", "Method", "Question", "Table", "offered", "summaries"]

METHODS: Final[dict[str, Method]] = with_priors({
    **continuous.METHODS, **binary.METHODS, **counts.METHODS, **ordinal.METHODS, **dose_response.METHODS,
    **survival.METHODS,
})  # fmt: skip


def summaries(kind: str | None = None) -> tuple[str, ...]:
    """Summaries that some method estimates of a kind of endpoint (None: of any).

    >>> summaries("incidence")[0]
    'risk_difference'
    """
    found = [s for m in METHODS.values() for of, names in m.serves.items() if kind in (None, of) for s in names]
    return tuple(dict.fromkeys(found))


def offered(kind: str, summary: str) -> tuple[str, ...]:
    """Methods that estimate a summary of a kind of endpoint.

    >>> offered("incidence", "risk_difference")[0]
    'miettinen_nurminen'
    """
    return tuple(name for name, method in METHODS.items() if summary in method.serves.get(kind, ()))
