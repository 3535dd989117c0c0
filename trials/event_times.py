"""From what happened to times to an event: (time, event or censored, cause) of an endpoint under its estimand.

Follow-up ends at leaving, at a terminal event, at the last visit or at the endpoint's own visit, whichever is first.
The end of treatment enters by the estimand's strategy: `treatment_policy` looks past it, `composite` counts it as the
event, `while_on_treatment` and `hypothetical` end follow-up there (the two ask different questions of the same data;
the second takes those who stopped to be like those who did not). Times are days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trials.estimand import Endpoint, Estimand
    from trials.kinds import Lived
    from trials.observed import Floats, Observed
    from trials.protocol import Protocol

__all__ = [
    "EventTimes", "ends_with_treatment", "event_times", "horizon", "occurrences", "true_number", "true_time",
]  # fmt: skip

HOURS_PER_DAY = 24.0
CENSORED, EVENT, COMPETING = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTimes:
    """Arrays (R, N): time [d], NaN for a subject whose simulation failed; event; cause: 0 censored, 1 the event, 2 a
    terminal event that is not part of the endpoint.
    """

    time: Floats
    event: NDArray[np.bool_]
    cause: NDArray[np.int8]


def horizon(protocol: Protocol, endpoint: Endpoint) -> float:
    """The day up to which an endpoint is looked at: that of its visit, else of the last."""
    visit = endpoint.at or protocol.visit_names[-1]
    return float(protocol.visits[visit].day)


def _strategies(estimand: Estimand | None) -> set[str]:
    return set(estimand.strategies.values()) if estimand is not None else set()


def ends_with_treatment(estimand: Estimand | None) -> bool:
    """Whether follow-up ends with treatment."""
    return bool(_strategies(estimand) & {"while_on_treatment", "hypothetical"})


def _first(endpoint: Endpoint, estimand: Estimand | None, trial: Observed | Lived) -> Floats:
    """Hour of the first of the endpoint's events, infinite: none."""
    found = np.full(trial.stop.shape, np.inf)
    for name in endpoint.events:
        found = np.minimum(found, np.where(trial.grade[name] >= endpoint.at_least, trial.onset[name], np.inf))
    return np.minimum(found, trial.stop) if "composite" in _strategies(estimand) else found


def _followed(protocol: Protocol, endpoint: Endpoint, estimand: Estimand | None, trial: Observed) -> Floats:
    """Hour at which a subject is last looked at, whatever may end it but the event."""
    end = np.minimum(np.minimum(trial.leave, trial.times[:, :, -1]), horizon(protocol, endpoint) * HOURS_PER_DAY)
    return np.minimum(end, trial.stop) if ends_with_treatment(estimand) else end


def event_times(protocol: Protocol, endpoint: Endpoint, estimand: Estimand | None, trial: Observed) -> EventTimes:
    """Time, event and cause of every subject as the data base holds them."""
    first, end = _first(endpoint, estimand, trial), _followed(protocol, endpoint, estimand, trial)
    last = np.minimum(end, trial.ended)
    event = (first <= last) & ~trial.failed
    competing = ~event & (trial.ended <= end) & ~trial.failed
    time = np.where(trial.failed, np.nan, np.minimum(first, last)) / HOURS_PER_DAY
    cause = np.where(event, EVENT, np.where(competing, COMPETING, CENSORED)).astype(np.int8)
    return EventTimes(time=time, event=event, cause=cause)


def occurrences(
    protocol: Protocol, endpoint: Endpoint, estimand: Estimand | None, trial: Observed
) -> tuple[Floats, Floats]:
    """Days of every occurrence (R, N, L), infinite: none, and of the end of follow-up (R, N), 0 for who failed."""
    end = np.minimum(_followed(protocol, endpoint, estimand, trial), trial.ended)
    times = np.concatenate([trial.occurrences[name] for name in endpoint.events], axis=2)
    return times / HOURS_PER_DAY, np.where(trial.failed, 0.0, end) / HOURS_PER_DAY


def true_time(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[np.float64]:
    """The value of each subject whose mean in an arm is true: restricted time [d], freedom from the event, the event.

    NaN where no mean is: follow-up that ends with treatment (somebody stopped), and a time or survival in the presence
    of a terminal event that is not part of the endpoint. Summaries without a mean of their own (ratios of hazards) get
    the risk of the event up to the horizon.
    """
    until = horizon(protocol, endpoint)
    first = _first(endpoint, estimand, lived) / HOURS_PER_DAY
    if ends_with_treatment(estimand) and (lived.stop < until * HOURS_PER_DAY).any():
        return np.full(first.shape, np.nan)
    ended = lived.ended / HOURS_PER_DAY
    happened = (first <= until) & (first <= ended)
    if estimand.summary not in ("rmst_difference", "rmst_ratio", "survival_difference"):
        return happened.astype(np.float64)
    if (~happened & (ended <= until)).any():
        return np.full(first.shape, np.nan)
    free = estimand.summary == "survival_difference"
    return np.where(first > until, 1.0, 0.0) if free else np.minimum(first, until)


def true_number(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[np.float64]:
    """Number of occurrences of each subject up to the horizon, until its end of follow-up (or of treatment)."""
    end = np.minimum(lived.ended, horizon(protocol, endpoint) * HOURS_PER_DAY)
    end = np.minimum(end, lived.stop) if ends_with_treatment(estimand) else end
    found = [(lived.occurrences[name] <= end[:, :, None]).sum(axis=2) for name in endpoint.events]
    return np.sum(found, axis=0).astype(np.float64)
