"""Kinds of endpoint (`as:` of a protocol's endpoint): what each is of, which fields it takes, its true value.

A new kind is a row of `KINDS` and the functions that read it from the data base: how an analysis sees it (`values_at`,
`incidence`) stands here beside its true value, so that both are of one variable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from trials.event_times import (
    changed_by,
    first_of,
    known,
    stop_strategies,
    true_hazards,
    true_number,
    true_rates,
    true_time,
    true_wins,
)

if TYPE_CHECKING:
    from trials.estimand import Endpoint, Estimand
    from trials.observed import Floats, Observed
    from trials.protocol import Protocol

__all__ = ["KINDS", "Kind", "Lived", "incidence", "responders", "values_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What is true of subjects, arrays (R, N) or (R, N, V), by the names of :class:`trials.observed.Observed`.

    outputs: without residual error, NaN after a terminal event; nobody has left; occurrences (R, N, L).
    """

    outputs: Mapping[str, Floats]
    onset: Mapping[str, Floats]
    grade: Mapping[str, NDArray[np.int8]]
    stop: Floats
    ended: Floats
    times: Floats
    occurrences: Mapping[str, Floats] = field(default_factory=dict)
    changes: Mapping[str, Floats] = field(default_factory=dict)
    reached: Mapping[str, Floats] = field(default_factory=dict)
    failed: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of endpoint.

    of: what it is a variable of, an `output` or an `event` of the model; events: kind those must have in the model,
    None: any; needs, takes: fields of the endpoint's text that it must have and may have; strategies: for intercurrent
    events; true: (protocol, endpoint, estimand, lived) -> (R, N) the value whose mean in an arm goes into the truth
    table, None where a mean says nothing; jointly: (protocol, endpoint, estimand, lived by arm) -> {arm: (R,)} where
    the truth is of the arms together (a ratio of hazards: 1 for control), None for other summaries; whole: it is known
    once the follow-up to its visit is complete, and not before; changes: strategies for switching and rescue.
    """

    of: Literal["output", "event"]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ("treatment_policy",)
    events: str | None = None
    true: Callable[[Protocol, Endpoint, Estimand, Lived], NDArray[Any]] | None = None
    jointly: Callable[[Protocol, Endpoint, Estimand, Mapping[str, Lived]], dict[str, Floats] | None] | None = None
    whole: bool = False
    changes: tuple[str, ...] = ("treatment_policy",)


def values_at(protocol: Protocol, endpoint: Endpoint, outputs: Mapping[str, Floats]) -> Floats:
    """Value of an output endpoint for each subject, (R, N): at its visit, less the baseline for a change."""
    visits = protocol.visit_names
    found = outputs[str(endpoint.output)]
    value = found[:, :, visits.index(str(endpoint.at))]
    return value - found[:, :, 0] if endpoint.as_ == "change_from_baseline" else value


def incidence(endpoint: Endpoint, estimand: Estimand | None, trial: Observed | Lived) -> NDArray[np.bool_]:
    """Whether each subject has the event endpoint, (R, N); `while_on_treatment` counts none after treatment ended."""
    until = _under(estimand, trial, "while_on_treatment")
    found = np.zeros(trial.stop.shape, np.bool_)
    for name in endpoint.events:
        time = first_of(trial, name, endpoint.at_least)
        found |= np.isfinite(time) & (time <= until)
    return found


def _under(estimand: Estimand | None, trial: Observed | Lived, strategy: str) -> Floats:
    """Hour of the first intercurrent event with a strategy, infinite: none."""
    changed = changed_by(estimand, trial, strategy)
    return np.minimum(changed, trial.stop) if strategy in stop_strategies(estimand, trial) else changed


def responders(protocol: Protocol, endpoint: Endpoint, estimand: Estimand | None, trial: Observed | Lived) -> Floats:
    """1 or 0 for each subject, (R, N), NaN where it is left out; `composite`: who stopped treatment did not respond."""
    found, visit = trial.outputs[str(endpoint.output)], protocol.visit_names.index(str(endpoint.at))
    value, start, limit = found[:, :, visit], found[:, :, 0], float(endpoint.threshold or 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        measure = {"none": value, "absolute": value - start, "relative": (value - start) / start}[endpoint.change]
        reached = measure >= limit if endpoint.responds == "at_least" else measure <= limit
    absent = 0.0 if endpoint.unseen == "non_responder" else np.nan
    made: Floats = np.where(np.isfinite(measure), reached.astype(np.float64), absent)
    failed = _under(estimand, trial, "composite") <= trial.times[:, :, visit]
    return np.where(failed, 0.0, made) if failed.any() else made


def _true_output(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[Any]:
    return values_at(protocol, endpoint, lived.outputs)


def _true_incidence(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[Any]:
    return known(incidence(endpoint, estimand, lived), lived)


def _true_responder(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[Any]:
    return known(responders(protocol, endpoint, estimand, lived), lived)


_HYPOTHETICAL: Final = ("treatment_policy", "hypothetical")

KINDS: Final[dict[str, Kind]] = {
    "value": Kind(of="output", needs=("at",), true=_true_output, whole=True, changes=_HYPOTHETICAL),
    "change_from_baseline": Kind(of="output", needs=("at",), true=_true_output, whole=True, changes=_HYPOTHETICAL),
    "responder": Kind(
        of="output",
        needs=("at", "threshold"),
        takes=("responds", "change", "unseen"),
        strategies=("treatment_policy", "composite"),
        true=_true_responder,
        whole=True,
        changes=("treatment_policy", "composite"),
    ),
    "incidence": Kind(
        of="event",
        takes=("at_least",),
        strategies=("treatment_policy", "while_on_treatment"),
        true=_true_incidence,
        whole=True,
        changes=("treatment_policy", "while_on_treatment"),
    ),
    "time_to_event": Kind(
        of="event",
        takes=("at_least", "at"),
        strategies=("treatment_policy", "while_on_treatment", "composite", "hypothetical"),
        true=true_time,
        jointly=true_hazards,
        changes=("treatment_policy", "composite", "hypothetical"),
    ),
    "hierarchy": Kind(
        of="event",
        takes=("at_least", "at"),
        strategies=("treatment_policy", "while_on_treatment", "hypothetical"),
        jointly=true_wins,
        changes=_HYPOTHETICAL,
    ),
    "recurrences": Kind(
        of="event",
        events="recurrent",
        takes=("at",),
        strategies=("treatment_policy", "while_on_treatment"),
        true=true_number,
        jointly=true_rates,
        changes=_HYPOTHETICAL,
    ),
}
