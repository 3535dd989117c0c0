"""A trial in calendar time: when it looks, what it sees, what it decides, when it ends.

An interim sees the data base as of its calendar hour (`trials.data_cut.as_of`) and runs the protocol's own analysis of
it; the rule (`trials.stopping`, `trials.designs`) turns the statistic into an instruction. Every replicate is followed
through all looks; those after its end are computed and marked as not reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials import endpoints
from trials.data_cut import as_of, calendar, end_of_follow_up, enrolled, reached
from trials.designs.sequential import Boundaries
from trials.designs.simulate import followed
from trials.methods import METHODS, Question
from trials.stopping import Exact, Statistic, adapted, exact, plan_of, ratio_scale, statistic, tested

if TYPE_CHECKING:
    from trials.observed import Floats, Observed
    from trials.planned import Interims
    from trials.protocol import Protocol

__all__ = ["Conducted", "Seen", "closing", "conducted", "counted", "hours_of", "look_at", "question_of"]

Integers = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]
Again = Callable[[Integers], "Observed"]
"""The same people under other arms (R, N)."""

GO_ON, EFFICACY, FUTILITY, HARM, NOT_SHOWN = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conducted:
    """How a batch of trials went: the data base at the end of each, its analyses, the table of looks."""

    observed: Observed
    analyses: dict[str, Any]
    looks: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Looks of a batch, replicate (R,): hour (R, K) calendar, count (R, K) of information, held (R, K), statistics by
    look (K), enrolled (R, K), active (R, K, G) which contrasts are still in.
    """

    replicate: NDArray[np.uint32]
    hour: Floats
    count: Integers
    held: NDArray[np.bool_]
    found: tuple[Statistic, ...]
    enrolled: Integers
    active: NDArray[np.bool_]

    def part(self, name: str) -> Floats:
        """A field of the statistics (R, K, G)."""
        return np.stack([getattr(each, name) for each in self.found], axis=1)


def question_of(protocol: Protocol, name: str) -> Question:
    """What the analysis of that name is asked about the first endpoint of its estimand."""
    estimand = protocol.estimands[name]
    endpoint = protocol.endpoints[estimand.endpoint[0]]
    return Question(protocol=protocol, estimand=estimand, analysis=protocol.analyses[name], endpoint=endpoint)


def closing(protocol: Protocol, trial: Observed) -> Floats:
    """Calendar hour (R,) at which the data base is closed if no look ends the trial before."""
    end, plan = end_of_follow_up(trial), protocol.data_cut
    if plan is not None and plan.day is not None:
        end = np.minimum(end, plan.day * 24.0)
    if plan is not None and plan.events is not None:
        hours = calendar(question_of(protocol, str(plan.analysis)), trial, "events")
        end = np.minimum(end, reached(hours, plan.events))
    return end


def hours_of(protocol: Protocol, interims: Interims, trial: Observed) -> tuple[Floats, Floats, Integers]:
    """Calendar hours of the looks (R, K), of each subject's information (R, N), numbers wanted by look (R, K).

    The last look is at the closing of the data base, or at the last event wanted.
    """
    when = calendar(question_of(protocol, interims.analysis), trial, interims.of)
    most = np.full(len(when), interims.events or 0) if interims.of == "events" else np.isfinite(when).sum(axis=1)
    wanted = np.ceil(most[:, None] * np.array(interims.fractions) - 1e-9).astype(np.int64)
    last = closing(protocol, trial)
    if interims.of == "events":
        last = np.minimum(last, reached(when, most))
    hours = np.stack([np.minimum(reached(when, n), last) for n in wanted.T], axis=1)
    if interims.days:
        hours[:, :-1] = np.minimum(np.array(interims.days) * 24.0, last[:, None])
    hours[:, -1] = last
    return hours, when, wanted


def counted(hours: Floats, when: Floats) -> tuple[Integers, NDArray[np.bool_]]:
    """Information at each look (R, K), and whether it is held: later than the one before, with more to see, not at the
    end. The last always is.
    """
    counts = np.stack([(when <= hour[:, None]).sum(axis=1) for hour in hours.T], axis=1)
    held = (hours < hours[:, -1:]) & (counts < counts[:, -1:])
    held[:, 1:] &= counts[:, 1:] > counts[:, :-1]
    held &= counts > 0
    held[:, -1] = True
    return counts, held


def look_at(question: Question, trial: Observed, hour: Floats) -> Statistic:
    """The analysis of the data base as of a calendar hour (R,)."""
    seen = as_of(trial, hour)
    return statistic(question, METHODS[question.analysis.method].run(question, endpoints.examined(question, seen)))


def conducted(protocol: Protocol, trial: Observed, again: Again) -> Conducted:
    """From what would be observed with follow-up to the last visit to what the trial holds when it ends."""
    interims = protocol.interims
    if interims is None:
        return _closed(protocol, trial)
    if interims.select is not None:
        from trials.selecting import selected

        return selected(protocol, trial, again)
    question = question_of(protocol, interims.analysis)
    hours, when, wanted = hours_of(protocol, interims, trial)
    counts, held = counted(hours, when)
    found = tuple(look_at(question, trial, hour) for hour in hours.T)
    seen = Seen(
        replicate=trial.replicate, hour=hours, count=counts, held=held, found=found,
        active=np.ones((*hours.shape, 1), np.bool_),
        enrolled=np.stack([enrolled(trial, hour) for hour in hours.T], axis=1),
    )  # fmt: skip
    return _decided(protocol, trial, seen, wanted)


def _closed(protocol: Protocol, trial: Observed) -> Conducted:
    """A trial without interim looks: one row a replicate, its end."""
    hour = closing(protocol, trial)
    final = trial if protocol.data_cut is None else as_of(trial, hour)
    looks: Columns = {
        "replicate": trial.replicate, "look": np.ones(hour.size, np.int16), "day": hour / 24.0,
        "enrolled": enrolled(trial, hour).astype(np.int32), "ended": np.ones(hour.size, np.bool_),
    }  # fmt: skip
    return Conducted(observed=final, analyses=endpoints.analyse(protocol, final), looks=looks)


def _decided(protocol: Protocol, trial: Observed, seen: Seen, wanted: Integers) -> Conducted:
    """Group-sequential test of one contrast: bounds for each trial's counts, its end, inference there."""
    assert protocol.interims is not None
    question = question_of(protocol, protocol.interims.analysis)
    plan = plan_of(protocol.interims, question.analysis)
    z, shape = np.where(seen.held, seen.part("z")[:, :, 0], np.nan), seen.hour.shape
    upper, lower = np.full(shape, np.inf), np.full(shape, -np.inf)
    look, reject, futile = np.zeros(shape[0], np.int64), *np.zeros((2, shape[0]), np.bool_)
    parts: list[tuple[NDArray[np.intp], Exact]] = []
    for rows, counts, bounds in _groups(plan, np.where(seen.held, seen.count, 0), wanted):
        upper[rows], lower[rows] = bounds.upper, bounds.lower
        look[rows], reject[rows], futile[rows] = followed(bounds, z[rows])
        end = _at_end(seen, rows, look[rows])
        parts.append((rows, exact(bounds, counts, look[rows], end)))
    won = np.take_along_axis(z, look[:, None], axis=1)[:, 0]
    reason = np.where(reject, np.where(won > 0, EFFICACY, HARM), np.where(futile, FUTILITY, NOT_SHOWN))
    final = as_of(trial, np.take_along_axis(seen.hour, look[:, None], axis=1)[:, 0])
    analyses = endpoints.analyse(protocol, final)
    shown = {name: _original(question, _gathered(parts, name, shape[0])) for name in Exact.__slots__ if name != "p"}
    if tested(question.analysis)[1] == "less":
        shown |= {"lower": shown["upper"], "upper": shown["lower"], "repeated_lower": shown["repeated_upper"],
                  "repeated_upper": shown["repeated_lower"]}  # fmt: skip
    p = _gathered(parts, "p", shape[0])
    put = {"reject": reject, "p": p, "lower": shown["repeated_lower"], "upper": shown["repeated_upper"]}
    _put(protocol, analyses, {question.estimand.compare[0]: put})
    own = {"upper_bound": upper[:, :, None], "lower_bound": lower[:, :, None]}
    table = looks_table(question, seen, (look, reason), own)
    table |= at_end(table, shape, {"p": p, **shown})
    return Conducted(observed=final, analyses=analyses, looks=table)


def _groups(
    plan: Any, counts: Integers, wanted: Integers
) -> list[tuple[NDArray[np.intp], tuple[int, ...], Boundaries]]:
    """Replicates with the same counts, the counts, and their bounds."""
    keys, place = np.unique(np.concatenate([counts, wanted], axis=1), axis=0, return_inverse=True)
    looks, found = counts.shape[1], []
    for number, key in enumerate(keys.tolist()):
        seen = tuple(key[:looks])
        found.append((np.flatnonzero(place.reshape(-1) == number), seen, adapted(plan, seen, tuple(key[looks:]))))
    return found


def _at_end(seen: Seen, rows: NDArray[np.intp], look: Integers) -> Statistic:
    """Statistics (n, 1) of some replicates at the look that ended them."""
    parts = {name: seen.part(name)[rows, look] for name in Statistic.__slots__}
    return Statistic(**parts)


def _gathered(parts: list[tuple[NDArray[np.intp], Exact]], name: str, size: int) -> Floats:
    whole = np.full(size, np.nan)
    for rows, part in parts:
        whole[rows] = getattr(part, name)
    return whole


def _original(question: Question, effect: Floats) -> Floats:
    """Effects towards benefit on the scale of the estimate."""
    from pkpd.kernels.elementary import exp_array

    signed = -effect if tested(question.analysis)[1] == "less" else effect
    return exp_array(signed) if ratio_scale(question.estimand.summary) else signed


def _put(protocol: Protocol, analyses: dict[str, Any], given: dict[str, dict[str, NDArray[Any]]]) -> None:
    """Columns of the tested contrasts in the analysis table, in place: {contrast: {column: (R,)}}."""
    assert protocol.interims is not None
    name = protocol.interims.analysis
    endpoint = protocol.estimands[name].endpoint[0]
    labels = (analyses["analysis"], analyses["endpoint"], analyses["contrast"])
    for contrast, columns in given.items():
        rows = [n for n, row in enumerate(zip(*labels, strict=True)) if row == (name, endpoint, contrast)]
        for column, values in columns.items():
            analyses[column][rows] = values


def looks_table(question: Question, seen: Seen, end: tuple[Integers, Integers], bounds: dict[str, Floats]) -> Columns:
    """One row per replicate, look and contrast, in this order. end: look (R,) at which a trial ended, and why."""
    look, reason = end
    replicates, looks, contrasts = (*seen.hour.shape, question.arms - 1)
    shape = (replicates, looks, contrasts)
    number = np.broadcast_to(np.arange(looks)[None, :, None], shape)
    last = look[:, None, None]
    ended = (number == last) & np.ones(shape, np.bool_)

    def flat(value: NDArray[Any]) -> NDArray[Any]:
        wide = value if value.ndim == 3 else value[:, :, None] if value.ndim == 2 else value[:, None, None]
        return np.ascontiguousarray(np.broadcast_to(wide, shape)).reshape(-1)

    z = np.where(seen.held[:, :, None], seen.part("z"), np.nan)
    estimate = np.where(seen.held[:, :, None], _original(question, seen.part("effect")), np.nan)
    names = np.array([question.protocol.arm_names.index(arm) for arm in question.estimand.compare])
    return {
        "replicate": flat(seen.replicate),
        "look": flat(number + 1).astype(np.int16), "contrast": flat(np.broadcast_to(names, shape)).astype(np.int16),
        "day": flat(seen.hour / 24.0), "enrolled": flat(seen.enrolled).astype(np.int32),
        "information": flat(seen.count).astype(np.int32), "held": flat(seen.held), "reached": flat(number <= last),
        "ended": flat(ended), "active": flat(seen.active), "z": flat(z), "estimate": flat(estimate),
        **{name: flat(value) for name, value in bounds.items()},
        "decision": flat(np.where(ended, reason[:, None, None], GO_ON)).astype(np.int8),
    }  # fmt: skip


def at_end(table: Columns, shape: tuple[int, int], values: dict[str, Floats]) -> Columns:
    """Columns that a trial has at its end only: {name: (R,)} -> NaN in the rows of other looks (one contrast)."""
    found: Columns = {}
    for name, value in values.items():
        column = np.where(table["ended"], np.repeat(value, shape[1]), np.nan)
        found[name] = column
    return found
