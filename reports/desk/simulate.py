"""`vtrial simulate`: a model, individual parameters and event records in, predicted outputs out; no residual error."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from reports.desk import guard, say
from reports.desk.people import People, drawn, given, own_rows

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled
    from pkpd.engine.solve import Solution
    from pkpd.model.records import Records
    from pkpd.model.spec import Model
    from reports.desk.simulation_input import Told

__all__ = ["Order", "simulate"]

Floats = NDArray[np.float64]
MAX_ROWS: Final = 20_000_000
SHOWN: Final = 20
MISSING: Final = "NA"
HELD: Final = {
    "locf": "a value holds from its record on (locf)",
    "nocb": "a value holds from just after the record before (nocb)",
    "linear": "on the straight line between its records (linear)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked: files, draws of every ID where no parameters are given, tolerances, steps (None: the engine's)."""

    parameters: Path | None
    events: Path
    out: Path
    draws: int | None = None
    seed: int = 20261121
    rtol: float | None = None
    atol: float | None = None
    max_steps: int | None = None
    machine: bool = False


def simulate(name: str, order: Order) -> int:
    """Solve every subject at its observation records, write the table, name whoever failed; 4 where someone did."""
    from pkpd.ground.store import write_atomic
    from reports.desk.simulation_input import events

    model = _model(name)
    _possible(order)
    told = events(order.events, model)
    _not_too_many(told.records, order)
    if order.parameters is None:
        people = drawn(model, told, order.seed, order.draws or 1)
    else:
        people = given(model, told, order.parameters, order.events)
    values, failed = _predicted(model, told, people, order)
    write_atomic(order.out, _table(model, told.records, people, values).encode())
    return _said(order, (model, told), people, failed)


def _model(name: str) -> Model:
    """A file where the name ends in .yaml or .yml, else a model of the library."""
    from pkpd.model import library
    from pkpd.model.spec import Model

    return Model.read(name) if Path(name).suffix in (".yaml", ".yml") else library.load(name)


def _possible(order: Order) -> None:
    from pkpd.ground.errors import InputError

    if order.parameters is not None and order.draws is not None:
        remedy = "leave one of them out"
        raise InputError("goes with no --parameters", field="--draws", value=order.draws, remedy=remedy)
    for path in (order.events, order.parameters):
        if path is not None and path.resolve() == order.out.resolve():
            raise InputError("would replace an input", field="--out", value=str(order.out), remedy="name another file")
    if order.out.is_dir():
        raise InputError("is a directory", field="--out", value=str(order.out), remedy="name a file")


def _not_too_many(records: Records, order: Order) -> None:
    from pkpd.ground.errors import InputError

    rows = len(records.time) * (order.draws or 1)
    if rows > MAX_ROWS:
        problem, remedy = f"asks for {rows} rows, more than {MAX_ROWS}", "ask for fewer draws at a time"
        raise InputError(problem, field="--draws", value=order.draws, remedy=remedy)


def _predicted(model: Model, told: Told, people: People, order: Order) -> tuple[Floats, NDArray[np.int8]]:
    """Outputs (row of the table, output) and status (n * draws,); rows run over subject, draw, observation."""
    from pkpd.engine.status import SolveStatus

    records = told.records
    engine = _engine(model, people)
    times, column = _times(records, people.draws)
    owner, source = _rows(records, people.draws)
    found = np.empty((len(owner), len(_wanted(model))))
    status = np.zeros(len(times), np.int8)
    own = own_rows(model, told, people.line, (owner, source))
    for after in sorted({bool(a) for a in records.after}):
        solution = _solved(engine, records, people, order, times=times, after=after)
        rows = np.flatnonzero(records.after[source] == after)
        at = At(after=after, owner=owner[rows], column=column[source[rows]], row=own[rows], times=times)
        found[rows] = np.stack(_outputs(model, engine, solution, (records, people, at)), axis=1)
        status = np.maximum(status, solution.status)
    lost = np.unique(owner[~np.isfinite(found).all(axis=1)])
    status[lost] = np.where(status[lost] == 0, np.int8(SolveStatus.NOT_FINITE), status[lost])
    return found, status


def _engine(model: Model, people: People) -> Compiled:
    """The model's solver; where something changes it shows every state too, so that a record is seen as it says."""
    from pkpd.engine.build import compiled, of_dynamics

    engine = compiled(model)
    shown = tuple(dict.fromkeys((*engine.outputs, *model.states)))
    if not people.changing or shown == engine.outputs:
        return engine
    return of_dynamics(replace(engine.dynamics, outputs=shown))


def _solved(
    engine: Compiled, records: Records, people: People, order: Order, *, times: Floats, after: bool
) -> Solution:
    from pkpd.engine.solve import solve

    events = records.doses.subjects(np.repeat(np.arange(len(records)), people.draws))
    asked: dict[str, Any] = {"rtol": order.rtol, "atol": order.atol, "max_steps": order.max_steps}
    tolerances = {name: value for name, value in asked.items() if value is not None}
    parameters, covariates, changes = people.in_time(engine)
    return solve(
        engine, parameters, events, times, covariates=covariates, changes=changes, after=after, **tolerances
    )  # fmt: skip


def _times(records: Records, draws: int) -> tuple[Floats, NDArray[np.int64]]:
    """Times (n * draws, T), NaN beyond a subject's own, and the column of every observation (m,)."""
    counts = np.bincount(records.subject, minlength=len(records))
    first = np.cumsum(counts) - counts
    column = np.arange(len(records.time)) - first[records.subject]
    times = np.full((len(records), int(counts.max())), np.nan)
    times[records.subject, column] = records.time
    return np.repeat(times, draws, axis=0), column


def _rows(records: Records, draws: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row of the parameters, observation) of every line of the table, in the order of the file, draw by draw."""
    if draws == 1:
        return records.subject, np.arange(len(records.time))
    owner, source = [], []
    for i in range(len(records)):
        mine = np.flatnonzero(records.subject == i)
        owner.append(np.repeat(i * draws + np.arange(draws), len(mine)))
        source.append(np.tile(mine, draws))
    return np.concatenate(owner), np.concatenate(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """Lines of the table: subject and draw (`owner`), column of its times (n * draws, T), row of what holds there."""

    after: bool
    owner: NDArray[np.int64]
    column: NDArray[np.int64]
    row: NDArray[np.int64]
    times: Floats

    def of(self, values: Floats) -> Floats:
        """Values at the lines, of all times (n * draws, T)."""
        picked: Floats = values[self.owner, self.column]
        return picked


def _outputs(model: Model, engine: Compiled, solution: Solution, given: tuple[Records, People, At]) -> list[Floats]:
    """Every output of the model at the lines of the table, those of the response layer evaluated."""
    from pkpd.model import equations as eq

    at = given[2]
    known: dict[str, Any] = {name: at.of(solution.values[:, k]) for k, name in enumerate(engine.outputs)}
    wanted = _wanted(model)
    reach = eq.reach(model.equations)
    needed = set(wanted.values()).union(*(reach.get(name, frozenset()) for name in wanted.values()))
    if given[1].changing or any(name not in known for name in wanted.values()):
        known |= {name: at.of(values) for name, values in solution.summaries.items()} | _held(model, *given)
        _own_values(model, known, given[1], at)
        for name, expression in model.response.items():
            if name in needed:
                known[name] = eq.evaluate(expression, known)
    return [np.broadcast_to(known[name], at.owner.shape) for name in wanted.values()]


def _held(model: Model, records: Records, people: People, at: At) -> dict[str, Floats]:
    """Parameters, covariates and clocks at the lines of the table."""
    from pkpd.engine.past import last_dose

    events = records.doses.subjects(np.repeat(np.arange(len(records)), people.draws))
    since, amount = last_dose(events, at.times, after=at.after)
    time = at.of(at.times)
    found = {name: people.rows[at.row, k] for k, name in enumerate(model.parameters)}
    found |= people.line.at(at.row, time)
    return found | {"TIME": time, "WEEKS": time / 168.0, "TAD": at.of(since), "DOSE": at.of(amount)}


def _own_values(model: Model, known: dict[str, Any], people: People, at: At) -> None:
    """Equations of the dynamics where a line is seen with other values than the solver's sample: from its states."""
    from pkpd.engine.changes import rows_at
    from pkpd.model import equations as eq

    theirs = rows_at(people.line, at.owner, known["TIME"], samples=True, after=at.after)
    other = np.flatnonzero(theirs != at.row)
    if not other.size:
        return
    mine = {name: np.asarray(values)[other] for name, values in known.items() if name not in model.integrated}
    for name, expression in model.integrated.items():
        mine[name] = np.broadcast_to(eq.evaluate(expression, mine), other.shape)
        if name in known:
            known[name][other] = mine[name]


def _wanted(model: Model) -> dict[str, str]:
    """Output -> the state or equation it is; an ordered category is none."""
    from pkpd.ground.errors import InputError
    from pkpd.model import equations as eq

    found = {name: str(output.is_) for name, output in model.outputs.items() if output.is_}
    if not found:
        raise InputError(f"model {model.name} has no output with a value to predict", field="outputs")
    reach = eq.reach(model.equations)
    for name, is_ in found.items():
        if fed := {is_, *reach.get(is_, frozenset())} & set(model.previous):
            problem = f"depends on the outcome before ({min(fed)}), which a prediction does not have"
            raise InputError(problem, field=f"outputs.{name}", value=is_, remedy="simulate it in a trial: vtrial run")
    return found


def _table(model: Model, records: Records, people: People, values: Floats) -> str:
    """ID, (DRAW,) TIME and outputs; numbers that read back the same; NA for whoever failed."""
    owner, source = _rows(records, people.draws)
    drawn = people.draws > 1
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["ID", *(["DRAW"] if drawn else []), "TIME", *_wanted(model)])
    for row, (who, observation) in enumerate(zip(owner.tolist(), source.tolist(), strict=True)):
        draw = [who % people.draws + 1] if drawn else []
        name, time = records.ids[who // people.draws], repr(float(records.time[observation]))
        writer.writerow([name, *draw, time, *map(_cell, values[row].tolist())])
    return out.getvalue()


def _cell(value: float) -> str:
    return repr(value) if np.isfinite(value) else MISSING


def _said(order: Order, source: tuple[Model, Told], people: People, status: NDArray[np.int8]) -> int:
    from pkpd.engine.status import SolveStatus

    model, told = source
    records, held = (
        told.records,
        {name: model.covariates[name].between for name in told.own if name in model.covariates},
    )
    bad = np.flatnonzero(status)
    rows = len(records.time) * people.draws
    who = {int(i): SolveStatus(int(status[i])) for i in bad}
    if order.machine:
        owner = [(records.ids[i // people.draws], i % people.draws + 1, status.name) for i, status in who.items()]
        failed = [dict(zip(("ID", "DRAW", "status"), one, strict=True)) for one in owner]
        say.machine(
            {
                "event": "done",
                "out": str(order.out),
                "rows": rows,
                "subjects": len(records),
                "failed": failed,
                "between": held,
                "units": _units(model),
            }
        )
    else:
        say.result(f"{order.out}: {rows} rows of {len(records)} subjects")
        say.remark("units: " + ", ".join(f"{name} {unit}" for name, unit in _units(model).items()))
        for name, how in held.items():
            say.remark(f"{name} changes within subjects: {HELD[str(how)]}")
    if who:
        say.error(f"{len(who)} of {len(status)} were not solved; their cells are {MISSING}")
        say.remark(*_named(records, people, who))
    return guard.PARTIAL if who else guard.OK


def _units(model: Model) -> dict[str, str]:
    """Units of the table's columns."""
    from pkpd.model.dimensions import units_of

    known = {**model.states, **units_of(model)}
    return {"TIME": "h"} | {name: known.get(of, "1") for name, of in _wanted(model).items()}


def _named(records: Records, people: People, who: Mapping[int, Any]) -> list[str]:
    lines = []
    for i, status in list(who.items())[:SHOWN]:
        draw = f" draw {i % people.draws + 1}" if people.draws > 1 else ""
        lines.append(f"  ID {records.ids[i // people.draws]}{draw}: {status.name}: {status.advice}")
    return lines + ([f"  and {len(who) - SHOWN} more"] if len(who) > SHOWN else [])
