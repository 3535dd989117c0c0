"""What is true of some subjects under given doses: levels, responses, outcomes lived through, events by hazard.

Nothing here knows of visits missed, of measurement error or of leaving the trial. A subject whose follow-up a terminal
event ends keeps the values it had then (`values` after `ended`): whoever shows or analyses them leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.model.grades import Path, rises, walked

if TYPE_CHECKING:
    from pkpd.engine.solve import Solution
    from pkpd.model.regimen import Events
    from trials.setting import Setting
    from trials.subject import People

__all__ = ["Latent", "at_times", "lived", "merged"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Given = tuple["Events", Floats]
"""Doses of some rows and the times (m, K) at which they are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """m rows at K times. values {output, summary or response name: (m, K)}; outcomes {count or category: (m, K)};
    crossings {event by hazard: (m, L)} h, inf where none; ended (m,): time of the terminal event; status (m,).
    Of an event whose grade moves, crossings are the times of its jumps, grades {event: (m, L)} those after each jump
    and begun {event: (m,)} the grade at time 0.
    """

    values: dict[str, Floats]
    outcomes: dict[str, Floats]
    crossings: dict[str, Floats]
    ended: Floats
    status: NDArray[np.int8]
    grades: dict[str, NDArray[np.int8]] = field(default_factory=dict)
    begun: dict[str, NDArray[np.int8]] = field(default_factory=dict)

    def path(self, event: str) -> Path:
        """The grades of every row in the course of time."""
        return Path(start=self.begun[event], time=self.crossings[event], grade=self.grades[event])

    def rises(self, event: str) -> tuple[Floats, NDArray[np.int8]]:
        """Times (m, L) at which the grade went up, inf elsewhere, and the grades reached."""
        return rises(self.path(event)), self.grades[event]

    def put(self, rows: Rows, part: Latent) -> Latent:
        """Some rows replaced, in place but for crossings, that may need more room."""
        for mine, theirs in ((self.values, part.values), (self.outcomes, part.outcomes), (self.begun, part.begun)):
            for name, value in theirs.items():
                mine[name][rows] = value
        self.ended[rows], self.status[rows] = part.ended, part.status
        for name, times in part.crossings.items():
            self.crossings[name] = _widened(self.crossings[name], rows, times, np.inf)
        for name, grade in part.grades.items():
            self.grades[name] = _widened(self.grades[name], rows, grade, 0)
        return self


def _widened(old: NDArray[Any], rows: Rows, new: NDArray[Any], empty: float) -> NDArray[Any]:
    """`old` (n, L) with some rows replaced by `new` (m, M), as wide as the wider."""
    wide = np.full((len(old), max(old.shape[1], new.shape[1])), empty, old.dtype)
    wide[:, : old.shape[1]] = old
    wide[rows] = empty
    wide[rows, : new.shape[1]] = new
    return wide


def merged(parts: list[tuple[Rows, Latent]], m: int) -> Latent:
    """Parts that make up m rows, as one."""
    first, times = parts[0][1], next(iter(parts[0][1].values.values())).shape[1]
    whole = Latent(
        values={name: np.empty((m, times)) for name in first.values},
        outcomes={name: np.empty((m, times)) for name in first.outcomes},
        crossings={name: np.full((m, 1), np.inf) for name in first.crossings},
        ended=np.full(m, np.inf), status=np.zeros(m, np.int8),
        grades={name: np.zeros((m, 1), np.int8) for name in first.grades},
        begun={name: np.zeros(m, np.int8) for name in first.begun},
    )  # fmt: skip
    for rows, part in parts:
        whole.put(rows, part)
    return whole


def lived(setting: Setting, people: People, rows: Rows, given: Given) -> Latent:
    """Rows at their visits (m, V): everything the model says of them."""
    events, times = given
    solution, crossings, ended = _with_events(setting, people, rows, given)
    values, until = _values(setting, solution), times
    dead = np.flatnonzero(ended < times.max(axis=1))
    if dead.size:
        until = np.minimum(times, ended[:, None])
        late = _solved(setting, people, rows[dead], (events.subjects(dead), until[dead]))
        for name, value in _values(setting, late).items():
            values[name][dead] = value
    outcomes, responses = _responses(setting, (people, rows), (events, until), values, visits=True)
    paths = {name: _path(setting, people, rows, (name, crossings)) for name in setting.graded}
    events_alone = {name: times for name, times in crossings.items() if name in setting.model.events}
    found = Latent(
        values={**values, **responses}, outcomes=outcomes, ended=ended, status=solution.status.copy(),
        crossings=events_alone | {name: path.time for name, path in paths.items()},
        grades={name: path.grade for name, path in paths.items()},
        begun={name: path.start for name, path in paths.items()},
    )  # fmt: skip
    _fail_unknown(setting, found)
    return found


def _path(setting: Setting, people: People, rows: Rows, of: tuple[str, Mapping[str, Floats]]) -> Path:
    """The grades of one event, of = (its name, the points of its moves by name)."""
    name, crossings = of
    moves = setting.model.moves(name)
    start = _begun(setting, people, rows, name)
    return walked(start, [(move.origin, move.target) for move in moves], [crossings[move.name] for move in moves])


def _begun(setting: Setting, people: People, rows: Rows, name: str) -> NDArray[np.int8]:
    """Grade at time 0 (m,): stated, or drawn at the address of the event; INVALID where its probabilities make none."""
    from pkpd.model.equations import evaluate
    from pkpd.model.outcomes import ordered

    event = setting.model.events[name]
    if not event.at_start:
        return np.full(rows.size, event.start, np.int8)
    known = {p: people.parameters[rows, k] for k, p in enumerate(setting.model.parameters)}
    known |= {c: value[rows] for c, value in people.covariates.items()}
    found = [np.broadcast_to(evaluate(e, known), (rows.size,)) for e in setting.starts[name]]
    who = {"subject": people.subject[rows], "replicate": people.replicate[rows]}
    u = uniforms(setting.seed, Purpose.EVENT_GRADE, **who, index=0, slot=slots([name]))
    return ordered(np.stack(found).astype(np.float64), u).astype(np.int8)


def at_times(setting: Setting, people: People, rows: Rows, given: Given) -> dict[str, Floats]:
    """Outputs, summaries and responses at any times (m, K), NaN where the solve failed; no outcome is lived through."""
    solution = _solved(setting, people, rows, given)
    values = _values(setting, solution)
    found = {**values, **_responses(setting, (people, rows), given, values, visits=False)[1]}
    for value in found.values():
        value[solution.status != 0] = np.nan
    return found


def _values(setting: Setting, solution: Solution) -> dict[str, Floats]:
    found = {name: solution.values[:, number].copy() for number, name in enumerate(setting.compiled.outputs)}
    return found | solution.summaries


def _solved(
    setting: Setting,
    people: People,
    rows: Rows,
    given: Given,
    *,
    thresholds: Mapping[str, Floats] | None = None,
) -> Solution:
    from pkpd.engine.solve import solve

    events, times = given
    covariates = {name: value[rows] for name, value in people.inputs.items()}
    return solve(
        setting.compiled, people.parameters[rows], events, times, covariates=covariates,
        changes=people.changes.subjects(rows), thresholds=thresholds,
    )  # fmt: skip


def _with_events(
    setting: Setting, people: People, rows: Rows, given: Given
) -> tuple[Solution, dict[str, Floats], Floats]:
    """The solution, times of events by hazard {event: (m, L)} and of the first terminal one (m,)."""
    from pkpd.engine.hazards import occurring
    from pkpd.model.outcomes import thresholds_at

    kinds = setting.compiled.kinds
    if not kinds:
        return _solved(setting, people, rows, given), {}, np.full(rows.size, np.inf)

    def draw(event: str, occurrences: int) -> Floats:
        return thresholds_at(
            setting.seed, subject=people.subject[rows], replicate=people.replicate[rows],
            event=int(slots([event])[0]), occurrences=occurrences,
        )  # fmt: skip

    found = occurring(lambda asked: _solved(setting, people, rows, given, thresholds=asked), draw, kinds)
    crossings = {name: np.where(np.isnan(times), np.inf, times) for name, times in found.crossings.items()}
    return found, crossings, found.ended


def _responses(
    setting: Setting, who: tuple[People, Rows], given: Given, solved: Mapping[str, Floats], *, visits: bool
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Outcomes (where the times are the visits) and the response layer of rows at times (m, K), with NumPy."""
    from pkpd.model import outcomes
    from pkpd.model.equations import evaluate

    (people, rows), times = who, given[1]
    known = {**_held(setting, people, rows, given), **solved}
    if visits and setting.lived_through:
        addresses = {"subject": people.subject[rows], "replicate": people.replicate[rows]}
        return outcomes.lived(setting.model, known, setting.responses, seed=setting.seed, **addresses)
    found: dict[str, Floats] = {}
    for name, expression in (setting.responses if visits else setting.timely).items():
        value = np.asarray(evaluate(expression, known), np.float64)
        known[name] = found[name] = np.array(np.broadcast_to(value, times.shape), order="C")
    return {}, found


def _held(setting: Setting, people: People, rows: Rows, given: Given) -> dict[str, Floats]:
    """Covariates, parameters and clocks at times (m, K): a sample at the border of an occasion is before it."""
    from pkpd.engine.changes import rows_at
    from pkpd.engine.past import last_dose

    events, times = given
    known: dict[str, Floats] = {name: value[rows, None] for name, value in people.covariates.items()}
    held = people.parameters[rows, None]
    if len(people.changes.time):
        owner = np.repeat(rows.astype(np.int64), times.shape[1])
        at = rows_at(people.line, owner, times.reshape(-1), samples=True)
        held = people.held[at].reshape(*times.shape, -1)
    known |= {name: held[:, :, number] for number, name in enumerate(setting.model.parameters)}
    if setting.looks_back:
        since, amount = last_dose(events, times, after=False)
        known |= {"TAD": since, "DOSE": amount}
    return known | {"TIME": times, "WEEKS": times / 168.0}


def _fail_unknown(setting: Setting, found: Latent) -> None:
    """A subject whose output or risk is not a number has failed too: counted, not imputed, not without risk."""
    from pkpd.engine.status import SolveStatus
    from pkpd.model.outcomes import INVALID

    status, unknown = found.status, np.zeros(found.status.size, np.bool_)
    unknown |= status != SolveStatus.OK
    for output in setting.model.outputs.values():
        if output.continuous:
            unknown |= ~np.isfinite(found.values[str(output.is_)]).all(axis=1)
    for value in found.outcomes.values():
        unknown |= ~np.isfinite(value).all(axis=1) | (value == INVALID).any(axis=1)
    for event in setting.model.events.values():  # the baseline ends no interval
        for name in (event.risk, *event.at_least.values()):
            if name:
                unknown |= np.isnan(found.values[name][:, 1:]).any(axis=1)
    for start in found.begun.values():
        unknown |= start == INVALID
        start[unknown] = 0
    status[unknown & (status == SolveStatus.OK)] = SolveStatus.NOT_FINITE
    lost: tuple[dict[str, Any], ...] = (found.values, found.outcomes)
    for values in lost:
        for value in values.values():
            value[unknown] = np.nan
    found.ended[unknown] = np.inf
    for times in found.crossings.values():
        times[unknown] = np.inf
