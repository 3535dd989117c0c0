"""Events that come again or become worse in the course of the trial, arm by arm: one table of curves per replicate.

As the data base holds it: subjects count while they are followed. `mean`: mean cumulative number of occurrences (of a
grade that moves: of episodes) with a terminal event as the end of all; `least1`, `least2`, ...: share of those followed
that are at that grade or worse on that day; `first`: share with a first occurrence by that day. Read by the report; no
analysis uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.model.grades import MOST, grade_at
from trials import grades
from trials.analysis.mean_number import mean_number
from trials.protocol import HOURS_PER_DAY

if TYPE_CHECKING:
    from trials.setting import Setting
    from trials.trial import Trial

__all__ = ["DAYS", "event_course"]

Floats = NDArray[np.float64]
DAYS: Final = 61
"""Points of a curve, from day 0 to the last visit."""


def event_course(setting: Setting, trial: Trial) -> dict[str, Any] | None:
    """Columns replicate, arm, event, day, at_risk, mean, se, first, least1 ... least4; None: no event comes again."""
    names, seen = grades.recurrent(setting), trial.observed
    if not names:
        return None
    day = np.linspace(0.0, setting.protocol.horizon / HOURS_PER_DAY, DAYS)
    end = grades.followed(seen)
    replicates, arms = end.shape[0], len(setting.protocol.arms)
    shape = (replicates, arms, day.size)
    replicate = np.broadcast_to(seen.replicate[:, None, None], shape)
    arm = np.broadcast_to(np.arange(arms, dtype=np.int16)[:, None], shape)
    parts: list[dict[str, Any]] = []
    for name in names:
        found = mean_number(
            seen.occurrences[name] / HOURS_PER_DAY, end / HOURS_PER_DAY, seen.arm, arms=arms, at=day,
            died=np.isfinite(seen.ended) & (seen.ended <= end),
        )  # fmt: skip
        shares = _shares(trial, name, (end, day), arms)
        columns = {"replicate": replicate, "arm": arm, "day": np.broadcast_to(day, shape), "at_risk": found.at_risk}
        columns |= {"mean": found.value, "se": found.se, "first": _first(trial, name, (end, day), arms)}
        columns |= {f"least{level + 1}": shares[level] for level in range(MOST - 1)}
        flat = {key: np.ascontiguousarray(value).reshape(-1) for key, value in columns.items()}
        parts.append({**flat, "event": [name] * flat["day"].size})
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0] if key != "event"}
    return joined | {"event": [name for part in parts for name in part["event"]]}


def _first(trial: Trial, name: str, at: tuple[Floats, Floats], arms: int) -> Floats:
    """Share of subjects who have had the event, (R, A, T): Aalen-Johansen, a terminal event competing."""
    from trials.analysis.survival import cumulative_incidence

    (end, day), seen = at, trial.observed
    onset = seen.onset[name]
    cause = np.where(onset <= end, 1, np.where(np.isfinite(seen.ended) & (seen.ended <= end), 2, 0))
    time = np.minimum(onset, end) / HOURS_PER_DAY
    code = np.where(end > 0, seen.arm, -1)
    return np.asarray(cumulative_incidence(time, cause, code, arms=arms, causes=2, at=day).value[:, :, 0])


def _shares(trial: Trial, name: str, at: tuple[Floats, Floats], arms: int) -> Floats:
    """Share of those followed who are at grade 1, 2, ... or worse, (4, R, A, T); NaN for an event without such."""
    (end, day), seen = at, trial.observed
    found = np.full((MOST - 1, end.shape[0], arms, day.size), np.nan)
    if name not in trial.course.latent.grades:
        return found
    hours = np.broadcast_to(day * HOURS_PER_DAY, (end.size, day.size))
    now = grade_at(trial.course.latent.path(name), hours).reshape(*end.shape, day.size)
    there = (end[:, :, None] >= day * HOURS_PER_DAY) & (end > 0)[:, :, None]
    for code in range(arms):
        mine = there & (seen.arm == code)[:, :, None]
        number = mine.sum(axis=1)
        for level in range(MOST - 1):
            with np.errstate(divide="ignore", invalid="ignore"):
                found[level, :, code] = (mine & (now > level)).sum(axis=1) / number
    return found
