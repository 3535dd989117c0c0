"""Who is given what, when: one study (or one question) of an interaction, and its grid of times.

The grid has a node at every dose and at the edges of the victim's window, so that rates are smooth within a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Course", "Given", "grid"]

Floats = NDArray[np.float64]
BEFORE: Final = (0.0, 0.5, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 168.0, 336.0)  # h after a dose of the perpetrator
LONG_AGO: Final = (0.0, 1.5, 5.0, 12.0, 24.0, 48.0, 96.0, 168.0, 336.0)
RECENT: Final = 72.0  # h before the victim
VICTIM: Final = (
    0.0,
    0.1,
    0.25,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    12.0,
    16.0,
    20.0,
    24.0,
)
REPEATED: Final = (0.0, 0.25, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0, 9.0, 12.0, 18.0)  # each of many doses
MANY: Final = 5
LATE: Final = (32.0, 40.0, 48.0, 60.0, 72.0, 96.0, 120.0, 168.0, 240.0, 336.0, 480.0, 720.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Doses of one perpetrator: times [h] and amounts [mg]."""

    drug: str
    times: tuple[float, ...]
    amounts: tuple[float, ...]
    intravenous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Perpetrators, and a victim dosed at `doses` [h], whose AUC runs over `window` [h] (its end may be inf).

    control: length of the window without perpetrators, where it differs. activity: multipliers of enzymes by genotype.
    """

    perpetrators: tuple[Given, ...]
    victim: str
    doses: tuple[float, ...]
    window: tuple[float, float]
    control: float | None = None
    oral: bool = True
    activity: dict[str, float] = field(default_factory=dict)


def grid(course: Course, half_life: float) -> tuple[Floats, int]:
    """Nodes [h] and the index of the victim's first dose. half_life: of the victim, which sets how far an endless
    window goes."""
    first, last = min(course.doses), max(course.doses)
    start, stop = course.window
    far = last + min(max(10.0 * half_life, 48.0), 500.0) if math.isinf(stop) else stop
    if course.control is not None and not math.isinf(course.control):
        far = max(far, start + course.control)
    nodes = {first, start, far, *(t for t in (stop, start + (course.control or 0.0)) if not math.isinf(t))}
    given = sorted({t for who in course.perpetrators for t in who.times})
    nodes |= {dose + step for dose in course.doses for step in (VICTIM if len(course.doses) < MANY else REPEATED)}
    nodes |= {last + step for step in LATE}
    after = [t for t in given if t >= first]
    nodes |= {t + step for t in after for step in (BEFORE[:6] if len(course.doses) < MANY else BEFORE[:4:2])}
    early = [t for t in given if t < first]
    for here, following in zip(early, [*early[1:], first]):
        steps = BEFORE if first - here < RECENT else LONG_AGO
        nodes |= {here + step for step in steps if here + step < following}
    begin = min([first, *given])
    kept = np.array(sorted(t for t in nodes if begin <= t <= far))
    kept = kept[np.r_[True, np.diff(kept) > 1e-9]]
    return kept, int(np.searchsorted(kept, first))
