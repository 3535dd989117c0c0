"""Feedback dosing: rules looked at on decision times change the doses that follow, by what was measured before them.

A decision is a stop in time at which the subject's records so far are all that counts. Rules write the registers of a
subject (dose factor, held doses, delays, stop), which turn its planned doses into the records given; a subject whose
records change is solved again from time 0 with the new ones, so any solver serves, and its bits are those of a plain
solve of the records it ended with. Decisions go in order of time, at one time in the order of the rules; the dose at
the time of a decision follows it. What is measured carries residual error by address, so nothing depends on neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.actions import Table
from pkpd.ground.errors import InputError
from pkpd.model.guidance import Guidance
from pkpd.model.regimen import EventKind, Events
from pkpd.model.rules import Rule

__all__ = ["Course", "Dosed", "advance", "begun"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]
Look = Callable[[I64, Events, F64], Mapping[str, F64]]
Observe = Callable[[int, I64, I64, F64], F64]
Graded = Callable[[int, I64, F64, F64], Flags]
Guided = Callable[[int, I64, F64, F64], F64]
Sampled = Callable[[I64, Events, F64], Any]
Tested = Callable[[int, Any, I64, tuple[F64, F64]], tuple[Flags, I64]]
Seen = tuple[Mapping[str, F64], Any]
Log = list[tuple[I64, F64, int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a caller knows of its subjects.

    look(rows (m,), events of these, times (m, K)) -> {name: (m, K)}: true values of what the rules name, NaN where a
    subject failed; observe(rule, rows, decision (m,), values (m,)) -> measured (m,); graded(rule, rows, since, now) ->
    (m,): whether an adverse event of the rule's grade came in (since, now]; guided(rule, rows, now, factor (m,)) -> the
    dose factor that guidance by levels chooses (m,), NaN where it cannot say. sampled(rows, events of these, until
    (m,)) -> the samples of the laboratory tests that the rules name, of which only tested(rule, samples, places in
    `rows`, (since, now)) knows more -> whether the rule's grade was met in (since, now] (m,), and the last grade, -1:
    unknown.
    """

    look: Look
    observe: Observe
    graded: Graded | None = None
    guided: Guided | None = None
    sampled: Sampled | None = None
    tested: Tested | None = None


@dataclass(slots=True, kw_only=True)
class Dosed:
    """Doses of n subjects as rules have left them, and where each subject stands in its decisions.

    planned: the records before any rule, additional doses written out; of each: owner, time and amount as they are now,
    given (still to be given); factor (n,), stopped (n,) [h, inf: not]; last (n, 2): time and rule of the last decision;
    decisions and acted (n, rules): how many were taken, how many times the rule acted; before (n, rules): time of the
    rule's last decision; unsaid (n,): decisions at which guidance could not say, and the dose stayed; since (n, rules):
    when the rule's present run of holds or delays began, NaN: none; stepped (n, rules): how often it came to a new dose
    level; log: (rows, time, rule, what was done to doses) of every action: `lowered`, `raised`, `held`, `delayed`,
    `resumed`, `stopped`, `same` (no dose was left to be changed).
    """

    rules: tuple[Rule | Guidance, ...]
    planned: Events
    owner: I64
    time: F64
    amount: F64
    given: Flags
    factor: F64
    stopped: F64
    last: F64
    decisions: I64
    acted: I64
    before: F64
    unsaid: I64
    since: F64
    stepped: I64
    log: Log = field(default_factory=list)
    delayed: bool = False

    def events(self, rows: I64 | None = None) -> Events:
        """The records given to some subjects (all by default)."""
        everyone = replace(self.planned, time=self.time, amount=self.amount)
        kept = everyone if rows is None else everyone.subjects(rows)
        given = self.given if rows is None else self.given[_of(self.planned, rows)]
        if not self.delayed and given.all():
            return kept
        owner = np.repeat(np.arange(len(kept)), np.diff(kept.offsets))
        order = np.lexsort((kept.time, owner)) if self.delayed else np.arange(len(owner))
        order = order[given[order]]
        offsets = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(np.bincount(owner[order], minlength=len(kept)), out=offsets[1:])
        return Events(offsets, *(getattr(kept, name)[order] for name in _COLUMNS))

    def stop(self, rows: I64, time: F64) -> None:
        """No dose from `time` (m,) on, for reasons outside the rules."""
        limit = np.full(len(self.factor), np.inf)
        limit[rows] = time
        self.given &= ~(self._dose & (self.time >= limit[self.owner]))
        self.stopped[rows] = np.minimum(self.stopped[rows], time)

    @property
    def _dose(self) -> Flags:
        return np.asarray((self.planned.kind == EventKind.DOSE) | (self.planned.kind == EventKind.RESET_DOSE))

    def act(self, rule: int, rows: I64, now: F64, following: F64) -> Flags:
        """Do what the rule says to `rows` (m,) at `now`; following: its next decision; (m,): whose doses change."""
        text = self.rules[rule]
        assert isinstance(text, Rule)
        do = text.do
        if do.scale_dose is not None:
            factor = np.clip(self.factor[rows] * do.scale_dose, do.at_least, do.at_most)
            return self.scale(rule, rows, now, factor)
        if do.waits:
            return self._wait(rule, rows, now, following)
        return self.end(rule, rows, now) if do.stop else self.lower(rule, rows, now)

    def _wait(self, rule: int, rows: I64, now: F64, following: F64) -> Flags:
        """No dose until `following`, or all later by the rule's delay; the end where that has gone on too long."""
        text = self.rules[rule]
        assert isinstance(text, Rule)
        do = text.do
        fresh = np.isnan(self.since[rows, rule])
        self.since[rows, rule] = np.where(fresh, now, self.since[rows, rule])
        over = now - self.since[rows, rule] >= (np.inf if do.longest is None else do.longest)
        to_come = self._to_come(rows[~over], now[~over], following[~over] if do.hold else np.inf)
        if do.delay is not None:
            self.time[to_come] += do.delay
            self.delayed = True
        else:
            self.given[to_come] = False
        changed = np.zeros(len(rows), np.bool_)
        changed[~over] = self._done(rule, rows[~over], now[~over], to_come, kind="held" if do.hold else "delayed")
        changed[over] = self.end(rule, rows[over], now[over])
        return changed

    def release(self, rule: int, rows: I64, now: F64) -> Flags:
        """Doses of `rows` that a rule held back go on at `now`, a level lower where it says so."""
        text = self.rules[rule]
        assert isinstance(text, Rule)
        self.since[rows, rule] = np.nan
        if text.do.resume is None and not text.do.levels:
            return np.zeros(len(rows), np.bool_)
        self.log.append((rows.copy(), now.copy(), rule, "resumed"))
        return self.lower(rule, rows, now) if text.do.levels else np.zeros(len(rows), np.bool_)

    def lower(self, rule: int, rows: I64, now: F64) -> Flags:
        """Doses of `rows` at the next level of the rule below what they are; the end, or nothing, below the lowest."""
        text = self.rules[rule]
        assert isinstance(text, Rule)
        levels = np.asarray(text.do.levels)
        spare = self.stepped[rows, rule] < text.do.spare
        self.stepped[rows, rule] += 1
        below = levels < self.factor[rows][:, None] * (1.0 - 1e-9)
        step = below.any(axis=1) & ~spare
        ends = ~spare & ~step & (text.do.lowest == "stop")
        changed = np.zeros(len(rows), np.bool_)
        changed[step] = self.scale(rule, rows[step], now[step], levels[below.argmax(axis=1)[step]])
        changed[ends] = self.end(rule, rows[ends], now[ends])
        self._done(rule, rows[~step & ~ends], now[~step & ~ends], np.zeros(len(self.given), np.bool_), kind="same")
        return changed

    def end(self, rule: int, rows: I64, now: F64) -> Flags:
        """No dose of `rows` any more from `now` on."""
        to_come = self._to_come(rows, now, np.inf)
        self.given[to_come] = False
        self.stopped[rows] = np.minimum(self.stopped[rows], now)
        return self._done(rule, rows, now, to_come, kind="stopped")

    def scale(self, rule: int, rows: I64, now: F64, factor: F64) -> Flags:
        """Doses of `rows` (m,) from `now` on are the planned ones times `factor` (m,); (m,): whose doses change."""
        before = self.factor[rows].copy()
        to_come = self._to_come(rows[factor != before], now[factor != before], np.inf)
        self.factor[rows] = factor
        self.amount[to_come] = self.planned.amount[to_come] * self.factor[self.owner[to_come]]
        changed = np.zeros(len(rows), np.bool_)
        for kind, mine in (("lowered", factor < before), ("raised", factor > before), ("same", factor == before)):
            changed[mine] = self._done(rule, rows[mine], now[mine], to_come, kind=kind)
        return changed

    def _to_come(self, rows: I64, now: F64, until: F64 | float) -> Flags:
        """Doses of `rows` still to be given in [now, until)."""
        n = len(self.factor)
        start, end = np.full(n, np.inf), np.full(n, np.inf)
        start[rows], end[rows] = now, until
        to_come = self._dose & self.given & (self.time >= start[self.owner]) & (self.time < end[self.owner])
        return np.asarray(to_come)

    def _done(self, rule: int, rows: I64, now: F64, doses: Flags, *, kind: str) -> Flags:
        """Write down that a rule acted; (m,): for whom that changes any of the doses."""
        if not rows.size:
            return np.zeros(0, np.bool_)
        self.acted[rows, rule] += 1
        changed = np.zeros(len(self.factor), np.bool_)
        changed[self.owner[doses]] = True
        found: Flags = changed[rows]
        for what, mine in ((kind, found), ("same", ~found)):
            if mine.any():
                self.log.append((rows[mine], now[mine], rule, what))
        return found


_COLUMNS = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")


def _of(events: Events, rows: I64) -> I64:
    """Indices of the records of some subjects, subject by subject."""
    counts = np.diff(events.offsets)[rows]
    first = np.repeat(events.offsets[rows] - (np.cumsum(counts) - counts), counts)
    return np.asarray(first + np.arange(len(first)))


def _expanded(events: Events) -> Events:
    """Additional doses written out, in order of time."""
    if not events.more.any():
        return events
    if (events.kind != EventKind.DOSE).any() or (events.steady == 1).any():
        problem = "rules cannot change additional doses that a reset or a steady state may cancel"
        raise InputError(problem, field="events", remedy="write the doses one by one")
    table = Table.of(events)
    order = np.lexsort((table.index, table.time, table.subject))
    offsets = np.zeros(len(events) + 1, np.int64)
    np.cumsum(np.bincount(table.subject, minlength=len(events)), out=offsets[1:])
    return Events(offsets, *(getattr(table, name)[order] for name in _COLUMNS[:-1]))


def begun(rules: Sequence[Rule | Guidance], events: Events) -> Dosed:
    """The start: doses as planned, no decision taken."""
    planned, n = _expanded(events), len(events)
    owner = np.repeat(np.arange(n), np.diff(planned.offsets))
    shape = n, len(rules)
    return Dosed(
        rules=tuple(rules), planned=planned, owner=owner, time=planned.time.copy(), amount=planned.amount.copy(),
        given=np.ones(len(owner), np.bool_), factor=np.ones(n), stopped=np.full(n, np.inf),
        last=np.column_stack([np.full(n, -np.inf), np.full(n, -1.0)]), decisions=np.zeros(shape, np.int64),
        acted=np.zeros(shape, np.int64), before=np.full(shape, -np.inf), unsaid=np.zeros(n, np.int64),
        since=np.full(shape, np.nan), stepped=np.zeros(shape, np.int64),
    )  # fmt: skip


def advance(
    dosed: Dosed, course: Course, until: F64, *, visits: Mapping[str, F64] | None = None, once: bool = False
) -> I64:
    """Take every decision before `until` (n,) [h], in place; the subjects whose doses changed.

    visits {name: (n,)}: actual times of the visits that rules name. once: nobody's doses change twice (where a change
    may move `until`, ask again).
    """
    stale = np.arange(len(dosed.factor))
    touched = np.zeros(len(stale), np.bool_)
    while stale.size:
        times, rules = _candidates(dosed, stale, until, visits or {})
        due = _due(dosed, stale, times, rules, until=until)
        some = due.any(axis=1)
        stale, times, rules, due = stale[some], times[some], rules[some], due[some]
        if not stale.size:
            break
        seen = _seen(dosed, course, (stale, times, due))
        stale = stale[_decided(dosed, course, (stale, times, rules, due), seen)]
        touched[stale] = True
        if once:
            break
    return np.flatnonzero(touched)


def _seen(dosed: Dosed, course: Course, at: tuple[I64, F64, Flags]) -> Seen:
    """What the rules may look at: true levels at the decisions due, samples up to the last of them."""
    rows, times, due = at
    named = any(rule.name is not None for rule in dosed.rules)
    levels = course.look(rows, dosed.events(rows), np.where(due, times, np.nan)) if named else {}
    if course.sampled is None or all(rule.laboratory is None for rule in dosed.rules):
        return levels, None
    return levels, course.sampled(rows, dosed.events(rows), np.where(due, times, -np.inf).max(axis=1))


def _candidates(dosed: Dosed, rows: I64, until: F64, visits: Mapping[str, F64]) -> tuple[F64, I64]:
    """Decision times (m, K), ascending, inf where there are no more, and the rule of each."""
    horizon = float(max(np.max(until, initial=0.0), np.max(dosed.time, initial=0.0)))
    parts: list[F64] = []
    number: list[int] = []
    for k, rule in enumerate(dosed.rules):
        fixed = rule.at.until(horizon + (rule.at.every or 0.0))
        columns = [np.tile(fixed, (len(rows), 1))] if fixed else []
        columns += [visits[name][rows][:, None] for name in rule.at.visits]
        if rule.at.dose:
            columns.append(_dose_times(dosed, rows))
        part = np.concatenate([np.empty((len(rows), 0)), *columns], axis=1)
        end = np.inf if rule.until is None else rule.until
        parts.append(np.where((part >= rule.from_) & (part <= end), part, np.inf))
        number += [k] * part.shape[1]
    times = np.concatenate(parts, axis=1)
    rules = np.broadcast_to(np.asarray(number, np.int64), times.shape)
    order = np.lexsort((rules, times), axis=-1)
    return np.take_along_axis(times, order, axis=1), np.take_along_axis(rules, order, axis=1)


def _dose_times(dosed: Dosed, rows: I64) -> F64:
    """Times of the doses still given (m, K), inf after the last; several at one time are one decision."""
    given = dosed.events(rows)
    dose = (given.kind == EventKind.DOSE) | (given.kind == EventKind.RESET_DOSE)
    counts = np.diff(given.offsets)
    owner = np.repeat(np.arange(len(rows)), counts)
    found = np.full((len(rows), int(counts.max(initial=0))), np.inf)
    column = np.arange(len(owner)) - np.repeat(given.offsets[:-1], counts)
    found[owner, column] = np.where(dose, given.time, np.inf)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = np.inf
    return found


def _due(dosed: Dosed, rows: I64, times: F64, rules: I64, *, until: F64) -> Flags:
    """Decisions not taken yet, before `until`; nobody whose treatment has stopped decides any more."""
    time, rule = dosed.last[rows, 0][:, None], dosed.last[rows, 1][:, None]
    later = (times > time) | ((times == time) & (rules > rule))
    spent = [r.times is not None for r in dosed.rules]
    left = np.ones((len(rows), len(dosed.rules)), np.bool_)
    for k in np.flatnonzero(spent):
        left[:, k] = dosed.acted[rows, k] < (dosed.rules[k].times or 0)
    found: Flags = later & (times < until[rows][:, None]) & (times < dosed.stopped[rows][:, None])
    return found & np.take_along_axis(left, rules, axis=1)


def _decided(dosed: Dosed, course: Course, at: tuple[I64, F64, I64, Flags], seen: Seen) -> Flags:
    """Take the decisions of `rows` in order until one changes their doses; (m,): for whom that happened."""
    rows, times, rules, due = at
    changed = np.zeros(len(rows), np.bool_)
    for k in range(times.shape[1]):
        for number, rule in enumerate(dosed.rules):
            mine = np.flatnonzero(due[:, k] & (rules[:, k] == number) & ~changed)
            if rule.times is not None:
                mine = mine[dosed.acted[rows[mine], number] < rule.times]
            if not mine.size:
                continue
            who, now = rows[mine], times[mine, k]
            if isinstance(rule, Guidance):
                changed[mine] = _guided(dosed, course, (number, who, now))
                continue
            values = seen[0][rule.name][mine, k] if rule.name is not None else np.zeros(mine.size)
            hit = _hit(dosed, course, (number, who, now), values)
            if rule.laboratory is not None:
                hit |= _tested(dosed, course, (number, who, now), (seen[1], mine))
            _taken(dosed, number, who, now)
            over = ~hit & ~np.isnan(dosed.since[who, number])
            if over.any():
                changed[mine[over]] = dosed.release(number, who[over], now[over])
            if hit.any():
                later = np.where(rules[mine, k + 1 :] == number, times[mine, k + 1 :], np.inf)
                following = later.min(axis=1, initial=np.inf)
                changed[mine[hit]] = dosed.act(number, who[hit], now[hit], following[hit])
    return changed


def _tested(dosed: Dosed, course: Course, at: tuple[int, I64, F64], seen: tuple[Any, I64]) -> Flags:
    """Whether a laboratory test asks the rule to act: its grade is met, or doses wait and it has not come back."""
    number, who, now = at
    rule = dosed.rules[number]
    assert isinstance(rule, Rule)
    assert course.tested is not None
    hit, last = course.tested(number, *seen, (dosed.before[who, number], now))
    if rule.do.resume is None:
        return hit
    waits = ~np.isnan(dosed.since[who, number])
    return np.where(waits, (last < 0) | (last > rule.do.resume), hit)


def _taken(dosed: Dosed, number: int, who: I64, now: F64) -> None:
    """A decision of a rule is behind `who`."""
    dosed.last[who] = np.column_stack([now, np.full(who.size, float(number))])
    dosed.decisions[who, number] += 1
    dosed.before[who, number] = now


def _guided(dosed: Dosed, course: Course, at: tuple[int, I64, F64]) -> Flags:
    """Decisions of guidance by levels: the dose it chooses; (m,): whose doses change."""
    number, who, now = at
    assert course.guided is not None
    factor = course.guided(number, who, now, dosed.factor[who])
    _taken(dosed, number, who, now)
    dosed.unsaid[who] += np.isnan(factor)
    changed = np.zeros(who.size, np.bool_)
    other = ~np.isnan(factor) & (factor != dosed.factor[who])
    if other.any():
        changed[other] = dosed.scale(number, who[other], now[other], factor[other])
    return changed


def _hit(dosed: Dosed, course: Course, at: tuple[int, I64, F64], values: F64) -> Flags:
    """Whether any condition of the rule holds; a level that is not known holds nothing."""
    number, who, now = at
    rule = dosed.rules[number]
    assert isinstance(rule, Rule)
    found = np.full(len(who), rule.name is None and rule.grade is None)
    if rule.name is not None:
        exact = rule.true_ is not None
        level = values if exact else course.observe(number, who, dosed.decisions[who, number], values)
        if rule.below is not None:
            found |= level < float(rule.below)
        if rule.above is not None:
            found |= level > float(rule.above)
    if rule.grade is not None and rule.laboratory is None and course.graded is not None:
        found |= course.graded(number, who, dosed.before[who, number], now)
    return found
