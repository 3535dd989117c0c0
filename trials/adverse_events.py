"""Adverse events: whether, when and how bad, from the model's risks; the first occurrence of each event per subject.

`risk` is the probability over `per` at constant exposure, so the hazard of an interval between visits is
-log(1 - risk)/per with the exposure at the interval's end. The event happens where the cumulative hazard crosses a
unit exponential whose uniform has its own address (subject, replicate, visit, event): occurrence and time are one
number, and an interval of length d at constant exposure has risk 1 - (1 - risk)^(d/per). Grades by CTCAE v5 from
P(grade >= g).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, slots, uniforms
from trials.conduct import crossing

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["Chance", "Interval", "chance", "grade_of_each", "graded", "hazard", "onset", "worsening"]

Floats = NDArray[np.float64]
Words = NDArray[np.uint32]
MAX_RISK = 1.0 - 2.0**-53


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two visits of each subject, h: after `start` up to `end`, both (n,)."""

    start: Floats
    end: Floats


@dataclass(frozen=True, slots=True)
class Chance:
    """The two numbers that decide an event of an interval: unit exponential `threshold` and uniform `grade`, (n,)."""

    threshold: Floats
    grade: Floats


def chance(seed: int, *, replicate: Words, subject: Words, visit: int, event: str) -> Chance:
    """The chance of event `event` in the interval that ends at visit number `visit`; arrays (n,)."""
    from pkpd.kernels.elementary import log_array

    address: dict[str, Any] = {"subject": subject, "replicate": replicate, "index": visit, "slot": slots([event])}
    u = uniforms(seed, Purpose.EVENT, **address)
    return Chance(-log_array(u), uniforms(seed, Purpose.EVENT_GRADE, **address))


def hazard(risk: Floats, per: float) -> Floats:
    """Hazard [1/h] at which the probability over `per` hours is `risk`; risks beyond [0, 1] are brought back.

    >>> round(float(1 - np.exp(-84 * hazard(np.array([0.3]), 84.0))[0]), 12)
    0.3
    """
    from pkpd.kernels.elementary import log_array

    return -log_array(1.0 - np.minimum(np.maximum(risk, 0.0), MAX_RISK)) / per


def onset(chance: Chance, interval: Interval, rates: tuple[Floats, Floats], change: Floats) -> Floats:
    """Time of the event in the interval, h, infinite where none; `rates` before and after time `change`, all (n,)."""
    since = np.maximum(change - interval.start, 0.0)
    time = interval.start + crossing(chance.threshold, rates[0], since, rates[1])
    return np.where(time <= interval.end, time, np.inf)


def graded(chance: Chance, at_least: Sequence[tuple[int, Floats]]) -> NDArray[np.int8]:
    """Grade of an event that happens: the highest g with u < P(grade >= g); 1 where none, shape (n,).

    >>> u = Chance(np.zeros(3), np.array([0.05, 0.2, 0.9]))
    >>> graded(u, [(2, np.full(3, 0.3)), (3, np.full(3, 0.1))])
    array([3, 2, 1], dtype=int8)
    """
    grade = np.ones(chance.grade.shape, np.int8)
    for level, probability in sorted(at_least, key=lambda item: item[0]):
        grade[chance.grade < probability] = level
    return grade


def worsening(model: Model) -> tuple[str, ...]:
    """Events that may become worse after their first occurrence: grades that move, recurrent events with grades."""
    return tuple(
        name for name, event in model.events.items()
        if event.moves or (event.kind == "recurrent" and event.at_least)
    )  # fmt: skip


def grade_of_each(seed: int, *, replicate: Words, subject: Words, event: str, count: int) -> Floats:
    """The numbers that decide the grades of the occurrences 0, 1, ... of a recurrent event, (n, count)."""
    return uniforms(
        seed, Purpose.EVENT_GRADE, subject=subject[:, None], replicate=replicate[:, None],
        index=np.arange(count), slot=slots([event]),
    )  # fmt: skip
