"""How subjects go through the trial: when they come, which visits they miss, when they leave. All by address.

Times are hours since the first dose; arrays are (replicate, subject) or (replicate, subject, visit).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.model.grades import MOST, Path
from trials.protocol import HOURS_PER_DAY, Dropout, Protocol

__all__ = [
    "along", "caused_dropout", "dropout_time", "graded_dropout", "missed_at", "missed_visits", "occasions",
    "visit_times",
]  # fmt: skip

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Words = NDArray[np.uint32]


def visit_times(protocol: Protocol, *, replicate: Words, subject: Words) -> Floats:
    """Time of each visit in order, h, shape (R, N, V): the planned day, uniform within its window."""
    visits = [protocol.visits[name] for name in protocol.visit_names]
    days = np.array([visit.day for visit in visits])
    windows = np.array([visit.window for visit in visits])
    shape = (len(replicate), len(subject), len(visits))
    if not windows.any():
        return np.broadcast_to(days * HOURS_PER_DAY, shape).copy()
    index = np.arange(len(visits), dtype=np.uint32)
    u = uniforms(
        protocol.seed, Purpose.VISIT_TIME, subject=subject[:, None], replicate=replicate[:, None, None], index=index
    )
    return (days + windows * (2.0 * u - 1.0)) * HOURS_PER_DAY


def occasions(protocol: Protocol, times: Floats) -> Floats | None:
    """Where the occasions the protocol declares begin after the first, h, (R, N, K); None where it declares none."""
    if protocol.occasions is None:
        return None
    at, names = protocol.occasions.at, protocol.visit_names
    if at.visits:
        return np.ascontiguousarray(times[:, :, sorted(names.index(name) for name in at.visits)])
    fixed = np.asarray([time for time in at.until(float(times.max(initial=protocol.horizon))) if time > 0.0])
    return np.broadcast_to(fixed, (*times.shape[:2], fixed.size)).copy()


def missed_visits(protocol: Protocol, *, replicate: Words, subject: Words) -> Flags:
    """Which visits are missed although the subject is in the trial, shape (R, N, V)."""
    chance = np.array([protocol.visits[name].missed for name in protocol.visit_names])
    shape = (len(replicate), len(subject), chance.size)
    if not chance.any():
        return np.zeros(shape, np.bool_)
    index = np.arange(chance.size, dtype=np.uint32)
    u = uniforms(
        protocol.seed, Purpose.MISSED_VISIT, subject=subject[:, None], replicate=replicate[:, None, None], index=index
    )
    return u < chance


def missed_at(protocol: Protocol, visit: int, *, replicate: Words, subject: Words) -> Flags:
    """Which of n subjects miss one visit, at the addresses of `missed_visits`; all arrays (n,)."""
    chance = protocol.visits[protocol.visit_names[visit]].missed
    if not chance:
        return np.zeros(len(subject), np.bool_)
    u = uniforms(protocol.seed, Purpose.MISSED_VISIT, subject=subject, replicate=replicate, index=visit)
    return u < chance


def caused_dropout(
    dropout: Dropout, onset: Mapping[str, Floats], lacking: Floats, *, seed: int, who: tuple[Words, Words]
) -> Floats:
    """When each subject leaves because of an adverse event or for lack of effect, h, (R, N); infinite where never.

    onset {event: (R, N)}; lacking (R, N, V): times of visits at which effect is lacking, infinite elsewhere; who:
    replicate, subject. The number that decides is one per subject and event, one per subject and visit. What an event
    does while it lasts: `graded_dropout`.
    """
    replicate, subject = who
    found = np.full((len(replicate), len(subject)), np.inf)
    at = {"subject": subject[None, :], "replicate": replicate[:, None]}
    for name, probability in dropout.after.items():
        u = uniforms(seed, Purpose.DROPOUT, **at, index=1, slot=slots([name]))
        found = np.minimum(found, np.where(u < probability, onset[name], np.inf))
    if dropout.lack_of_effect is not None:
        u = uniforms(
            seed, Purpose.DROPOUT, subject=subject[:, None], replicate=replicate[:, None, None],
            index=2 + np.arange(lacking.shape[2]),
        )  # fmt: skip
        leaves = np.where(u < dropout.lack_of_effect.probability, lacking, np.inf)
        found = np.minimum(found, leaves.min(axis=2))
    return found


def graded_dropout(
    dropout: Dropout, paths: Mapping[str, Path], *, seed: int, replicate: Words, subject: Words
) -> Floats:
    """When each of n subjects leaves because an event is as bad as it is, h, infinite: never; replicate, subject (n,).

    The hazard follows the grade; the time is where its integral reaches a unit exponential, one number per subject and
    event. Among competing causes the first counts.
    """
    from pkpd.kernels.elementary import log_array

    found = np.full(subject.size, np.inf)
    for name, rates in dropout.while_.items():
        u = uniforms(
            seed, Purpose.DROPOUT, subject=subject, replicate=replicate, index=1, slot=slots([f"{name}.while"])
        )
        by_grade = np.array([max(((g, r) for g, r in rates.items() if g <= level), default=(0, 0.0))[1]
                             for level in range(MOST + 1)])  # fmt: skip
        found = np.minimum(found, along(paths[name], by_grade, -log_array(u)))
    return found


def along(path: Path, by_grade: Floats, threshold: Floats) -> Floats:
    """Hour (n,) at which a hazard `by_grade` (6,) [1/h] along a path of grades has summed up to `threshold` (n,).

    >>> one = Path(start=np.zeros(1, np.int8), time=np.array([[2.0, 5.0]]), grade=np.array([[1, 0]], np.int8))
    >>> along(one, np.array([0.0, 0.5, 0, 0, 0, 0]), np.array([1.0]))
    array([4.])
    """
    begin = np.concatenate([np.zeros((len(threshold), 1)), path.time], axis=1)
    rate = by_grade[np.concatenate([path.start[:, None], path.grade], axis=1)]
    rate = np.where(np.isfinite(begin), rate, 0.0)
    end = np.concatenate([path.time, np.full((len(threshold), 1), np.inf)], axis=1)
    with np.errstate(invalid="ignore"):
        gained = np.where(rate > 0, rate * (end - begin), 0.0)
    reached = np.cumsum(gained, axis=1)
    before = np.concatenate([np.zeros((len(threshold), 1)), reached[:, :-1]], axis=1)
    place = np.argmax(reached >= threshold[:, None], axis=1)[:, None]
    at, used, own = (np.take_along_axis(v, place, axis=1)[:, 0] for v in (begin, before, rate))
    with np.errstate(divide="ignore", invalid="ignore"):
        time = at + (threshold - used) / own
    return np.where(reached[:, -1] >= threshold, time, np.inf)


def dropout_time(dropout: Dropout, stop: Floats, *, seed: int, replicate: Words, subject: Words) -> Floats:
    """When each subject leaves the trial, h, shape (R, N); infinite where never.

    The hazard is constant, and multiplied by `factor_after_stop` from `stop` (R, N; infinite: never stopped) on. The
    time is where the cumulative hazard crosses a unit exponential, one number per subject.
    """
    if dropout.hazard == 0:
        return np.full(stop.shape, np.inf)
    from pkpd.kernels.elementary import log_array

    u = uniforms(seed, Purpose.DROPOUT, subject=subject[None, :], replicate=replicate[:, None])
    before = np.full(stop.shape, dropout.hazard)
    return crossing(-log_array(u), before, stop, dropout.hazard * dropout.factor_after_stop)


def crossing(threshold: Floats, hazard: Floats, change: Floats, after: Floats | float) -> Floats:
    """Time at which a cumulative hazard, `hazard` until time `change` and `after` from then on, reaches `threshold`.

    >>> crossing(np.array([2.0]), np.array([1.0]), np.array([1.0]), 0.5)
    array([3.])
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        early = np.where(hazard > 0, threshold / hazard, np.inf)
        used = np.where(np.isfinite(change), hazard * change, np.inf)
        late = np.where(np.asarray(after) > 0, change + (threshold - used) / after, np.inf)
    return np.where(early <= change, early, late)
