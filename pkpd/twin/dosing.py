"""Which dose? Every candidate regimen in the same particles: the chance to reach the target and to do harm.

The metrics are of the latent course: no residual error is in them. Of an output of the dynamics they are the engine's
own windows (no grid); of one of the response layer they come from a grid of five minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events, Schedule
from pkpd.twin.case import Case
from pkpd.twin.forecasting import folk, quantiles
from pkpd.twin.likelihood import People, outputs
from pkpd.twin.targets import Target
from pkpd.twin.twin import Twins

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled

__all__ = ["Candidate", "Choice", "Chosen", "choose", "metric", "regimen", "require_reach", "statistic"]

Floats = NDArray[np.float64]
GRID = 1.0 / 12.0  # h
_KINDS = {
    "auc": "average", "average": "average", "peak": "maximum", "maximum": "maximum", "minimum": "minimum",
    "time above": "time_above", "time below": "time_below",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """`amount` (unit of a dose into state number `into`) every `every` h, each over `duration` h (0: a bolus)."""

    amount: float
    every: float
    duration: float = 0.0
    into: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("amount", self.amount, 0.0), ("every", self.every, 1e-3)):
            if not (np.isfinite(value) and value >= least):
                raise InputError(f"must be >= {least:g}", field=f"candidate.{name}", value=value)
        if not 0.0 <= self.duration <= self.every:
            raise InputError("must be from 0 to the interval", field="candidate.duration", value=self.duration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One candidate: median and 90 % interval of the target's metric, P(target) and its MCSE, P(toxic) and its MCSE
    (0 without a toxic range), utility = P(target) - penalty P(toxic) and its MCSE; behind: how much less useful than
    the best (paired), and the MCSE of that; failed: weight of particles that were not solved (no target reached there).
    """

    candidate: Candidate
    median: float
    lower: float
    upper: float
    reached: float
    reached_mcse: float
    toxic: float
    toxic_mcse: float
    utility: float
    utility_mcse: float
    behind: float
    behind_mcse: float
    failed: float

    @property
    def tied(self) -> bool:
        """Not told apart from the best: behind by less than two standard errors."""
        return self.behind <= 2.0 * self.behind_mcse


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Every candidate, the most useful first."""

    target: Target
    toxic: Target | None
    start: float
    horizon: float
    penalty: float
    choices: tuple[Choice, ...]

    @cached_property
    def best(self) -> Choice:
        """The most useful."""
        return self.choices[0]


def regimen(twins: Twins, patient: int, candidate: Candidate, *, start: float, horizon: float) -> Schedule:
    """The patient's doses before `start` [h], then the candidate's to the end of the horizon [h]."""
    d = twins.case.doses
    rows = np.arange(d.offsets[patient], d.offsets[patient + 1])
    rows = rows[d.time[rows] < start]
    count = int(np.ceil(horizon / candidate.every - 1e-9))
    time = start + candidate.every * np.arange(count) if candidate.amount > 0.0 else np.zeros(0)
    more = len(time)
    columns = {
        "time": time, "amount": np.full(more, candidate.amount), "target": np.full(more, candidate.into),
        "duration": np.full(more, candidate.duration), "kind": np.ones(more),
    }  # fmt: skip
    names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
    return Schedule(*(
        np.concatenate([getattr(d, n)[rows], columns.get(n, np.zeros(more))]).astype(getattr(d, n).dtype) for n in names
    ))  # fmt: skip


def metric(
    twins: Twins, patient: int, target: Target, schedule: Schedule, *, start: float, horizon: float,
    everyone: People | None = None,
) -> Floats:  # fmt: skip
    """The target's metric in every particle of a patient, (S,)."""
    rows = folk(twins, np.asarray([patient], np.int64)) if everyone is None else everyone
    return statistic(twins.case, rows, target, Events.shared(schedule, len(rows)), start=start, horizon=horizon)


def statistic(case: Case, rows: People, target: Target, events: Events, *, start: float, horizon: float) -> Floats:
    """The target's metric of rows (R,) under their `events`, over `horizon` [h] from `start` [h]; NaN: not solved."""
    end = start + horizon
    low = start if target.metric in ("minimum", "maximum") else max(end - target.window, start)
    if target.metric == "trough":
        found, _ = outputs(case, rows, np.full((len(rows), 1), end), events=events)
        return found[target.output][:, 0]
    dynamic = case.model.outputs[target.output].is_ in case.engine.outputs
    by = _window if dynamic else _grid
    return by(case, rows, target, events, span=(low, end)) * (end - low if target.metric == "auc" else 1.0)


def _window(case: Case, rows: People, target: Target, events: Events, *, span: tuple[float, float]) -> Floats:
    """The engine's statistic over the window, (R,)."""
    from pkpd.engine.solve import solve

    name = "TWIN"
    asked = (np.full((len(rows), 1), span[0]), np.full((len(rows), 1), span[1]))
    found = solve(
        _engine(case, target), rows.parameters, events, np.zeros((len(rows), 0)),
        covariates=rows.inputs, changes=rows.changes, windows={name: asked}, rtol=case.rtol, atol=case.atol,
    )  # fmt: skip
    share = span[1] - span[0] if target.metric.startswith("time") else 1.0
    return found.summaries[name][:, 0] / share


def _engine(case: Case, target: Target) -> Compiled:
    """The model with one statistic: what the target needs."""
    from pkpd.engine.build import of_dynamics
    from pkpd.engine.dynamics import Statistic

    known: dict[tuple[str, str, float], Compiled] = case.engine.__dict__.setdefault("_engines", {})
    key = (target.output, _KINDS[target.metric], -1.0 if np.isnan(target.limit) else target.limit)
    if key not in known:
        of, limit = str(case.model.outputs[target.output].is_), None if np.isnan(target.limit) else target.limit
        one = Statistic(name="TWIN", of=of, kind=key[1], window=24.0, threshold=limit)
        known[key] = of_dynamics(replace(case.engine.dynamics, summaries=(one,)))
    return known[key]


def _grid(case: Case, rows: People, target: Target, events: Events, *, span: tuple[float, float]) -> Floats:
    """The same from values every five minutes, (R,)."""
    times = np.linspace(span[0], span[1], max(2, 1 + round((span[1] - span[0]) / GRID)))
    wide = np.repeat(times[None], len(rows), axis=0)
    values = outputs(case, rows, wide, events=events)[0][target.output]
    if target.metric in ("peak", "maximum"):
        return np.asarray(values.max(axis=1))
    if target.metric == "minimum":
        return np.asarray(values.min(axis=1))
    if target.metric in ("auc", "average"):
        return np.asarray((0.5 * (values[:, 1:] + values[:, :-1])).mean(axis=1))
    away = values - target.limit if target.metric == "time above" else target.limit - values
    return _share(away)


def _share(away: Floats) -> Floats:
    """Share of the time that `away` (S, T) is > 0, crossings by linear interpolation."""
    a, b = away[:, :-1], away[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(a > 0.0, a / (a - b), b / (b - a))
    share = np.where((a > 0.0) & (b > 0.0), 1.0, np.where((a <= 0.0) & (b <= 0.0), 0.0, part))
    return np.where(np.isnan(away).any(axis=1), np.nan, share.mean(axis=1))


def choose(
    twins: Twins, candidates: Sequence[Candidate], target: Target, *, patient: int = 0, start: float,
    horizon: float = 72.0, toxic: Target | None = None, penalty: float = 1.0,
) -> Chosen:  # fmt: skip
    """Every candidate from `start` [h] over `horizon` [h], in the same particles; the most useful first.

    A candidate is followed to the end of the interval in which the horizon ends, and a window holds whole intervals of
    it: a trough is before a dose, and a day of a dose every 48 h is half of two days. Errors: InputError without
    candidates, for a horizon shorter than an interval, or than the time of an area.
    """
    if not candidates:
        raise InputError("no candidate regimen", field="candidates", remedy="give amounts and intervals")
    longest = max(c.every for c in candidates)
    if not horizon >= longest:
        remedy = f"at least {longest:g} h"
        raise InputError("is shorter than an interval", field="horizon", value=horizon, remedy=remedy)
    for aim, named in ((target, "target"), (toxic, "toxic")):
        if aim is not None:
            require_reach(aim, horizon, field=named)
    rows, weight = folk(twins, np.asarray([patient], np.int64)), twins.weight[patient]
    made = [_measured(twins, patient, c, rows, aims=(target, toxic), start=start, horizon=horizon) for c in candidates]
    use = np.stack([t.astype(float) - penalty * x for _, t, x in made])
    best = int(np.argmax(use @ weight))
    found = [
        _choice(candidate, values, weight, (reached, harmed), use=use[[k, best]])
        for k, (candidate, (values, reached, harmed)) in enumerate(zip(candidates, made, strict=True))
    ]
    found.sort(key=lambda c: (-c.utility, c.candidate.amount, -c.candidate.every))
    return Chosen(target=target, toxic=toxic, start=start, horizon=horizon, penalty=penalty, choices=tuple(found))


def require_reach(target: Target, horizon: float, *, field: str, every: float | None = None) -> None:
    """InputError where an area is asked for over more time than is followed, or (`every` h, where doses have one
    interval) an area or a mean over a part of an interval.
    """
    if target.metric == "auc" and target.window > horizon + 1e-9:
        problem, remedy = f"is over more than the horizon of {horizon:g} h", f"a horizon of {target.window:g} h or more"
        raise InputError(problem, field=field, value=str(target), remedy=remedy)
    if every and target.metric in ("auc", "average") and abs(_whole(target.window, every) - target.window) > 1e-9:
        name, whole = "AUC" if target.metric == "auc" else "average", _whole(target.window, every)
        raise InputError(f"is over a part of an interval of {every:g} h", field=field, value=str(target),
                         remedy=f"write {name}{whole:g} ..., over whole intervals")  # fmt: skip


def _whole(time: float, every: float) -> float:
    """The least number of whole intervals that is no shorter than a time [h].

    >>> _whole(72.0, 12.0), _whole(24.0, 36.0)
    (72.0, 36.0)
    """
    return every * float(np.ceil(time / every - 1e-9))


def _over_intervals(
    twins: Twins, patient: int, target: Target, plan: tuple[Schedule, float], *, rows: People, span: tuple[float, float]
) -> Floats:  # fmt: skip
    """The metric with a window of whole intervals of the candidate; an area is that of the target's own time."""
    schedule, every = plan
    wide = replace(target, window=_whole(target.window, every))
    found = metric(twins, patient, wide, schedule, start=span[0], horizon=span[1], everyone=rows)
    return found * (target.window / wide.window) if target.metric == "auc" else found


def _measured(
    twins: Twins, patient: int, candidate: Candidate, rows: People, *, aims: tuple[Target, Target | None],
    start: float, horizon: float,
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:  # fmt: skip
    """The metric, whether the target is reached, whether harm is done, each (S,). Not solved: not reached, not safe."""
    span = start, _whole(horizon, candidate.every)
    plan = regimen(twins, patient, candidate, start=start, horizon=span[1]), candidate.every
    target, toxic = aims
    values = _over_intervals(twins, patient, target, plan, rows=rows, span=span)
    if toxic is None:
        return values, target.met(values), np.zeros(len(values), np.bool_)
    other = _over_intervals(twins, patient, toxic, plan, rows=rows, span=span)
    return values, target.met(values), toxic.met(other) | np.isnan(other)


def _choice(
    candidate: Candidate, values: Floats, weight: Floats, flags: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    *, use: Floats,
) -> Choice:  # fmt: skip
    (reached, reached_mcse), (toxic, toxic_mcse) = (_mean(f.astype(float), weight) for f in flags)
    utility, utility_mcse = _mean(use[0], weight)
    behind, behind_mcse = _mean(use[1] - use[0], weight)
    lower, median, upper = quantiles(values[None, :, None], weight[None], (0.05, 0.5, 0.95))[0, :, 0].tolist()
    return Choice(
        candidate=candidate, median=median, lower=lower, upper=upper, reached=reached, reached_mcse=reached_mcse,
        toxic=toxic, toxic_mcse=toxic_mcse, utility=utility, utility_mcse=utility_mcse, behind=behind,
        behind_mcse=behind_mcse, failed=float(weight[np.isnan(values)].sum()),
    )  # fmt: skip


def _mean(values: Floats, weight: Floats) -> tuple[float, float]:
    """Weighted mean and its Monte Carlo standard error sqrt(sum w^2 (v - mean)^2)."""
    mean = float(np.sum(weight * values))
    return mean, float(np.sqrt(np.sum(weight * weight * (values - mean) ** 2)))
