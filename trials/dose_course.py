"""What subjects were given of what was planned: relative dose intensity, reductions, delays, holds, why doses ended.

Relative dose intensity: amount over time on treatment, given over planned (Hryniuk & Bush, J Clin Oncol 1984;2:1281).
Time on treatment: from the first planned dose to the last dose given, and one interval more (that between the last two
planned doses), so that doses held at the very end lower the share of the planned amount, not the intensity. Doses from
the last visit on are neither planned nor given. Of several compartments amounts are added. Treatment ended early
where a dose was still to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.model.regimen import EventKind

if TYPE_CHECKING:
    from pkpd.model.regimen import Events, Schedule
    from trials.setting import Setting
    from trials.subject import Course, People

__all__ = ["BY_EVENT", "FIRST_RULE", "ONGOING", "DoseCourse", "cycle_starts", "dose_course"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]
Rows = NDArray[np.intp]
ONGOING: Final = 0  # treatment did not end before plan
BY_EVENT: Final = 1  # an adverse event, or what else the protocol ends treatment by
FIRST_RULE: Final = 2  # a dosing rule: 2 the first of the arm, 3 the second ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseCourse:
    """Of n subjects: intensity relative to plan, share of the planned amount (NaN where nothing is planned), counts of
    decisions that lowered the dose, delayed or held doses, and why treatment ended (ONGOING, BY_EVENT, FIRST_RULE + k).
    """

    intensity: Floats
    share: Floats
    reductions: Integers
    delays: Integers
    holds: Integers
    cause: NDArray[np.int8]


def dose_course(setting: Setting, people: People, course: Course, until: Floats) -> DoseCourse:
    """The doses of everybody before `until` (n,) h, leaving the trial or the end of follow-up, and before the last
    visit: later ones are neither planned nor given.
    """
    n, end = people.arm.size, people.times[:, -1]
    until = np.minimum(until, end)
    intensity, share = np.full(n, np.nan), np.full(n, np.nan)
    for code in np.unique(people.arm).tolist():
        rows, schedule = np.flatnonzero(people.arm == code), setting.schedules[code]
        if len(schedule):
            intensity[rows], share[rows] = _intensity(
                _given(setting, people, course, rows), schedule, (until[rows], end[rows])
            )
    counts = {kind: np.zeros(n, np.int32) for kind in ("lowered", "delayed", "held")}
    early = course.stop <= np.minimum(until, _last_planned(setting, people, course))
    cause = np.where(early, BY_EVENT, ONGOING).astype(np.int8)
    last = np.minimum(until, course.stop)
    for plan in course.plans.values():
        for rows, time, rule, kind in plan.dosed.log:
            mine = plan.members[rows]
            seen = time <= last[mine]
            if kind in counts:
                np.add.at(counts[kind], mine[seen], 1)
            elif kind == "stopped":
                cause[mine[seen & early[mine]]] = FIRST_RULE + rule
    return DoseCourse(intensity=intensity, share=share, reductions=counts["lowered"], delays=counts["delayed"],
                      holds=counts["held"], cause=cause)  # fmt: skip


def _last_planned(setting: Setting, people: People, course: Course) -> Floats:
    """When the last dose would be given, had treatment not ended (n,) h; minus infinity without doses."""
    last = np.full(people.arm.size, -np.inf)
    for code, schedule in enumerate(setting.schedules):
        last[people.arm == code] = schedule.time.max(initial=-np.inf)
    for plan in course.plans.values():
        np.maximum.at(last, plan.members[plan.dosed.owner], plan.dosed.time)
    return last


def _given(setting: Setting, people: People, course: Course, rows: Rows) -> Events:
    """The doses of the arm's own plan: not those of rescue, nor of a treatment switched to."""
    from trials.subject import dosing

    stop = course.stop[rows]
    for name, added in setting.added.items():
        if added.switch is not None:
            stop = np.minimum(stop, course.changed[name][rows])
    return dosing(setting, people, (rows, stop), course.plans)


def _dose(kind: NDArray[np.int8]) -> NDArray[np.bool_]:
    return np.asarray((kind == EventKind.DOSE) | (kind == EventKind.RESET_DOSE))


def _intensity(events: Events, schedule: Schedule, ends: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Relative dose intensity and share of the planned amount (m,); ends: of what is given and of what is planned."""
    m, (until, end) = len(events), ends
    owner = np.repeat(np.arange(m), np.diff(events.offsets))
    keep = _dose(events.kind) & (events.time < until[owner])
    amount = np.bincount(owner[keep], events.amount[keep], minlength=m)
    last = np.full(m, -np.inf)
    np.maximum.at(last, owner[keep], events.time[keep])
    times = np.unique(schedule.time)
    interval = times[-1] - times[-2] if times.size > 1 else 1.0
    before = np.searchsorted(times, end, side="left")  # planned times before the end
    sums = np.array([0.0, *(schedule.amount[schedule.time <= time].sum() for time in times)])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(before > 0, amount / sums[before], np.nan)
    planned = times[np.maximum(before, 1) - 1] - times[0] + interval
    spent = np.where(np.isfinite(last), last - times[0] + interval, planned)
    return share * planned / spent, share


def cycle_starts(setting: Setting, people: People, course: Course, *, most: int) -> Floats:
    """When each dose was given, (n, most) h: times at which one or more doses are, infinite after the last."""
    found = np.full((people.arm.size, most), np.inf)
    for code in np.unique(people.arm).tolist():
        rows = np.flatnonzero(people.arm == code)
        events = _given(setting, people, course, rows)
        owner = np.repeat(np.arange(rows.size), np.diff(events.offsets))
        keep = _dose(events.kind)
        pairs = np.unique(np.column_stack([owner[keep], events.time[keep]]), axis=0)
        who = pairs[:, 0].astype(np.intp)
        first = np.searchsorted(who, np.arange(rows.size))
        place = np.arange(who.size) - first[who]
        inside = place < most
        found[rows[who[inside]], place[inside]] = pairs[inside, 1]
    return found
