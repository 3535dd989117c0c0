"""From what happened to times to an event: (time, event or censored, cause) of an endpoint under its estimand.

Follow-up ends at leaving, at a terminal event, at the last visit, at the endpoint's own visit or at the data cut,
whichever is first.
The end of treatment enters by the estimand's strategy: `treatment_policy` looks past it, `composite` counts it as the
event, `while_on_treatment` and `hypothetical` end follow-up there (the two ask different questions of the same data;
the second takes those who stopped to be like those who did not). Switching and rescue enter alike, each by a strategy
of its own. Times are days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trials.estimand import Endpoint, Estimand
    from trials.kinds import Lived
    from trials.observed import Floats, Observed
    from trials.protocol import Protocol

__all__ = [
    "EventTimes", "changed_by", "ends_with_treatment", "event_times", "first_of", "horizon", "known", "occurrences",
    "stop_strategies", "true_hazards", "true_number", "true_rates", "true_time", "true_wins",
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


def stop_strategies(estimand: Estimand | None, trial: Observed | Lived) -> set[str]:
    """Strategies for events that end treatment (all the same)."""
    given = estimand.strategies if estimand is not None else {}
    return {strategy for name, strategy in given.items() if name not in trial.changes}


def changed_by(estimand: Estimand | None, trial: Observed | Lived, strategy: str) -> Floats:
    """Hour (R, N) of the first switching or rescue that has a strategy, infinite: none."""
    given = estimand.strategies if estimand is not None else {}
    found = np.full(trial.stop.shape, np.inf)
    for name, time in trial.changes.items():
        if given.get(name) == strategy:
            found = np.minimum(found, time)
    return found


def ends_with_treatment(estimand: Estimand | None, trial: Observed | Lived) -> bool:
    """Whether follow-up ends with treatment."""
    return bool(stop_strategies(estimand, trial) & {"while_on_treatment", "hypothetical"})


def first_of(trial: Observed | Lived, name: str, least: int) -> Floats:
    """Hour (R, N) at which an event first was of grade `least` or worse, infinite: never."""
    if name in trial.reached:
        return np.asarray(trial.reached[name][:, :, least - 1])
    return np.where(trial.grade[name] >= least, trial.onset[name], np.inf)


def _first(endpoint: Endpoint, estimand: Estimand | None, trial: Observed | Lived) -> Floats:
    """Hour of the first of the endpoint's events, infinite: none."""
    found = np.full(trial.stop.shape, np.inf)
    for name in endpoint.events:
        found = np.minimum(found, first_of(trial, name, endpoint.at_least))
    found = np.minimum(found, changed_by(estimand, trial, "composite"))
    return np.asarray(np.minimum(found, trial.stop)) if "composite" in stop_strategies(estimand, trial) else found


def _followed(protocol: Protocol, endpoint: Endpoint, estimand: Estimand | None, trial: Observed) -> Floats:
    """Hour at which a subject is last looked at, whatever may end it but the event."""
    end = np.minimum(np.minimum(trial.leave, trial.times[:, :, -1]), horizon(protocol, endpoint) * HOURS_PER_DAY)
    end = end if trial.cut is None else np.minimum(end, np.maximum(trial.cut, 0.0))
    end = np.minimum(end, changed_by(estimand, trial, "hypothetical"))
    return np.asarray(np.minimum(end, trial.stop)) if ends_with_treatment(estimand, trial) else end


def event_times(protocol: Protocol, endpoint: Endpoint, estimand: Estimand | None, trial: Observed) -> EventTimes:
    """Time, event and cause of every subject as the data base holds them."""
    first, end = _first(endpoint, estimand, trial), _followed(protocol, endpoint, estimand, trial)
    last = np.minimum(end, trial.ended)
    event = (first <= last) & ~trial.failed
    competing = ~event & (trial.ended <= end) & ~trial.failed
    until, hour = horizon(protocol, endpoint), np.where(trial.failed, np.nan, np.minimum(first, last))
    time = np.where(hour == until * HOURS_PER_DAY, until, hour / HOURS_PER_DAY)  # 0.7 * 24 / 24 is below 0.7
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

    NaN for all of a trial in which no mean is: follow-up that ends with treatment (somebody stopped), a time or
    survival in the presence of a terminal event that is not part of the endpoint; NaN for a subject whose simulation
    failed.
    """
    until = horizon(protocol, endpoint)
    first = _first(endpoint, estimand, lived) / HOURS_PER_DAY
    ended = lived.ended / HOURS_PER_DAY
    happened = (first <= until) & (first <= ended)
    lost = _stopped(protocol, endpoint, estimand, lived)
    if estimand.summary == "incidence_difference":
        return known(np.where(lost, np.nan, happened), lived)
    lost = lost | (~happened & (ended <= until)).any(axis=1, keepdims=True)
    free = estimand.summary == "survival_difference"
    value = np.where(first > until, 1.0, 0.0) if free else np.minimum(first, until)
    return known(np.where(lost, np.nan, value), lived)


def known(value: NDArray[Any], lived: Lived) -> NDArray[np.float64]:
    """NaN for a subject whose simulation failed."""
    made = np.asarray(value, np.float64)
    return made if lived.failed is None else np.where(lived.failed, np.nan, made)


def _stopped(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[np.bool_]:
    """Whether somebody's follow-up ends with treatment, trial by trial, (R, 1)."""
    until = horizon(protocol, endpoint) * HOURS_PER_DAY
    ends = ends_with_treatment(estimand, lived)
    return np.asarray((lived.stop < until).any(axis=1, keepdims=True) & ends)


def true_number(protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Lived) -> NDArray[np.float64]:
    """Number of occurrences of each subject up to the horizon, until its end of follow-up (or of treatment).

    NaN for a summary of which it is not the truth, and for a subject whose simulation failed.
    """
    end = np.minimum(lived.ended, horizon(protocol, endpoint) * HOURS_PER_DAY)
    end = np.minimum(end, lived.stop) if ends_with_treatment(estimand, lived) else end
    if estimand.summary != "rate_ratio":
        return np.full(end.shape, np.nan)
    found = [(lived.occurrences[name] <= end[:, :, None]).sum(axis=2) for name in endpoint.events]
    return known(np.sum(found, axis=0), lived)


def _whole(
    protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Mapping[str, Lived]
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Times, events and arm codes (R, A N) of every subject under every arm of an estimand, followed to the horizon."""
    until, parts = horizon(protocol, endpoint), []
    for code, arm in enumerate((estimand.against, *estimand.compare)):
        own = lived[arm]
        first, last = _first(endpoint, estimand, own) / HOURS_PER_DAY, np.minimum(own.ended / HOURS_PER_DAY, until)
        lost = np.zeros(first.shape, np.bool_) if own.failed is None else own.failed
        lost = lost | _stopped(protocol, endpoint, estimand, own)
        parts.append((np.minimum(first, last), first <= last, np.where(lost, -1, code)))
    time, event, codes = (np.concatenate([part[k] for part in parts], axis=1) for k in range(3))
    return time, event, codes


def true_hazards(
    protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Mapping[str, Lived]
) -> dict[str, Floats] | None:
    """{arm: (R,)} hazard relative to control: Cox's ratio in all subjects under every arm, nobody lost; not stratified.

    Where hazards are not proportional it is the average that follow-up to the horizon gives. NaN as for `true_time`.
    """
    from pkpd.kernels.elementary import exp_array
    from trials.analysis.cox import cox_arms

    if estimand.summary != "hazard_ratio":
        return None
    found = exp_array(cox_arms(*_whole(protocol, endpoint, estimand, lived), arms=1 + len(estimand.compare)).estimate)
    return _relative(estimand, found)


def true_rates(
    protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Mapping[str, Lived]
) -> dict[str, Floats] | None:
    """{arm: (R,)} rate of occurrences relative to control: Andersen-Gill's ratio in all subjects under every arm.

    Where nobody's follow-up ends early it is the ratio of the mean numbers; where death or the end of treatment ends
    it early, that of rates among those still followed: what `lwyy` and `andersen_gill` estimate.
    """
    from pkpd.kernels.elementary import exp_array
    from trials.analysis.recurrent import andersen_gill

    if estimand.summary != "rate_ratio":
        return None
    until, times, ends, codes = horizon(protocol, endpoint) * HOURS_PER_DAY, [], [], []
    for code, arm in enumerate((estimand.against, *estimand.compare)):
        own = lived[arm]
        end = np.minimum(own.ended, until)
        ends.append(np.minimum(end, own.stop) if ends_with_treatment(estimand, own) else end)
        times.append(np.concatenate([own.occurrences[name] for name in endpoint.events], axis=2))
        codes.append(np.full(end.shape, code) if own.failed is None else np.where(own.failed, -1, code))
    found = andersen_gill(
        np.concatenate(_as_long(times), axis=1) / HOURS_PER_DAY, np.concatenate(ends, axis=1) / HOURS_PER_DAY,
        np.concatenate(codes, axis=1), arms=1 + len(estimand.compare), model="andersen_gill",
    )  # fmt: skip
    return _relative(estimand, exp_array(found.estimate))


def _as_long(times: list[Floats]) -> list[Floats]:
    """Occurrences (R, N, L) of each arm with as many places, infinite: none."""
    most = max(part.shape[2] for part in times)
    return [
        np.concatenate([part, np.full((*part.shape[:2], most - part.shape[2]), np.inf)], axis=2) for part in times
    ]  # fmt: skip


def _relative(estimand: Estimand, ratio: Floats) -> dict[str, Floats]:
    """{arm: (R,)} of ratios to control (R, k), 1 for control, NaN where there is none."""
    ones = np.where(np.isnan(ratio[:, 0]), np.nan, 1.0)
    return {estimand.against: ones, **{arm: ratio[:, k].copy() for k, arm in enumerate(estimand.compare)}}


def true_wins(
    protocol: Protocol, endpoint: Endpoint, estimand: Estimand, lived: Mapping[str, Lived]
) -> dict[str, Floats] | None:
    """{arm: (R,)} win ratio, odds (1 for control) or net benefit (0) of every subject under an arm against every
    subject under control, followed to the horizon: the horizon is part of the question.
    """
    from trials.analysis import win_ratio

    whole = [
        _whole(protocol, replace(endpoint, event=(name,)), estimand, lived) for name in endpoint.events
    ]  # fmt: skip
    levels = [win_ratio.timed(time, event) for time, event, _ in whole]
    found = win_ratio.wins(levels, whole[0][2], arms=1 + len(estimand.compare))
    won, lost = found.won, found.lost
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = {
            "win_ratio": won / lost, "win_odds": (1 + won - lost) / (1 - won + lost), "net_benefit": won - lost
        }[estimand.summary]  # fmt: skip
    own = np.where(np.isnan(shown[:, 0]), np.nan, 0.0 if estimand.summary == "net_benefit" else 1.0)
    return {estimand.against: own, **{arm: shown[:, k].copy() for k, arm in enumerate(estimand.compare)}}
