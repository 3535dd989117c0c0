"""`vtrial simulate`: a model, individual parameters and event records in, predicted outputs out; no residual error."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from reports.desk import guard, say

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled
    from pkpd.engine.solve import Solution
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["Order", "simulate"]

Floats = NDArray[np.float64]
MAX_ROWS: Final = 20_000_000
SHOWN: Final = 20
MISSING: Final = "NA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked: files, draws of every ID where no parameters are given, tolerances (the engine's where None)."""

    parameters: Path | None
    events: Path
    out: Path
    draws: int | None = None
    seed: int = 20261121
    rtol: float | None = None
    atol: float | None = None
    machine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Subject i in draw d is row i * draws + d of parameters (rows, P) and covariates {name: (rows,)}."""

    parameters: Floats
    covariates: dict[str, Floats]
    draws: int


def simulate(name: str, order: Order) -> int:
    """Solve every subject at its observation records, write the table, name whoever failed; 4 where someone did."""
    from pkpd.engine.build import compiled
    from pkpd.ground.store import write_atomic
    from reports.desk.simulation_input import events

    model = _model(name)
    _possible(order)
    records = events(order.events, model)
    people = _drawn(model, records, order) if order.parameters is None else _given(model, records, order)
    _not_too_many(records, people, order)
    engine = compiled(model)
    values, failed = _predicted(model, engine, records, people, order=order)
    write_atomic(order.out, _table(model, records, people, values).encode())
    return _said(order, records, people, failed)


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


def _given(model: Model, records: Records, order: Order) -> People:
    """The parameters of every ID of the events."""
    from pkpd.ground.errors import InputError
    from reports.desk.simulation_input import key, parameters, unused

    assert order.parameters is not None
    people = parameters(order.parameters, model)
    for name in records.ids:
        if key(name) not in people:
            problem = f"has events in {order.events} and no parameters"
            raise InputError(problem, file=order.parameters, field="ID", value=name, remedy="add a line for it")
    if left := unused(people, records.ids):
        say.remark(f"{order.parameters}: {len(left)} of {len(people)} IDs have no events and are left out")
    values = np.asarray([people[key(name)].values for name in records.ids], np.float64)
    return People(parameters=values, covariates=records.covariates, draws=1)


def _drawn(model: Model, records: Records, order: Order) -> People:
    """Every ID drawn from the population, typical values as in the text; an ID that is a number is its own address."""
    from pkpd.engine.sources import Drawn

    draws, who = order.draws or 1, _addresses(records.ids)
    people = (
        Drawn(model=model, subjects=who, seed=order.seed, replicate=d, covariates=lambda _: records.covariates)
        for d in range(draws)
    )
    rows = np.stack([drawn.parameters(0, len(who)) for drawn in people], axis=1)
    repeated = {name: np.repeat(values, draws) for name, values in records.covariates.items()}
    return People(parameters=rows.reshape(len(who) * draws, -1), covariates=repeated, draws=draws)


def _addresses(ids: tuple[str, ...]) -> NDArray[np.int64]:
    """The ID where every one is a whole number that fits an address, else the place in the file."""
    whole = all(name.isascii() and name.isdigit() and int(name) < 2**32 for name in ids)
    return np.asarray([int(name) for name in ids] if whole else range(len(ids)), np.int64)


def _not_too_many(records: Records, people: People, order: Order) -> None:
    from pkpd.ground.errors import InputError

    rows = len(records.time) * people.draws
    if rows > MAX_ROWS:
        problem, remedy = f"asks for {rows} rows, more than {MAX_ROWS}", "ask for fewer draws at a time"
        raise InputError(problem, field="--draws", value=order.draws, remedy=remedy)


def _predicted(
    model: Model, engine: Compiled, records: Records, people: People, *, order: Order
) -> tuple[Floats, NDArray[np.int8]]:
    """Outputs (row of the table, output) and status (n * draws,); rows run over subject, draw, observation."""
    from pkpd.engine.status import SolveStatus

    times, column = _times(records, people.draws)
    owner, source = _rows(records, people.draws)
    found = np.empty((len(owner), len(_wanted(model))))
    status = np.zeros(len(times), np.int8)
    for after in sorted({bool(a) for a in records.after}):
        solution = _solved(engine, records, people, order, times=times, after=after)
        rows = records.after[source] == after
        clocks = _clocks(records, people, times, after=after)
        parts = _outputs(model, engine, solution, people, clocks=clocks)
        found[rows] = np.stack([part[owner[rows], column[source[rows]]] for part in parts], axis=1)
        status = np.maximum(status, solution.status)
    lost = np.unique(owner[~np.isfinite(found).all(axis=1)])
    status[lost] = np.where(status[lost] == 0, np.int8(SolveStatus.NOT_FINITE), status[lost])
    return found, status


def _solved(
    engine: Compiled, records: Records, people: People, order: Order, *, times: Floats, after: bool
) -> Solution:
    from pkpd.engine.solve import solve

    events = records.doses.subjects(np.repeat(np.arange(len(records)), people.draws))
    asked: dict[str, Any] = {"rtol": order.rtol, "atol": order.atol}
    tolerances = {name: value for name, value in asked.items() if value is not None}
    return solve(engine, people.parameters, events, times, after=after, **tolerances)


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


def _outputs(
    model: Model, engine: Compiled, solution: Solution, people: People, *, clocks: dict[str, Floats]
) -> list[Floats]:
    """Every output of the model (n * draws, T), those of the response layer evaluated."""
    from pkpd.model import equations as eq

    known: dict[str, Any] = {name: solution.values[:, k] for k, name in enumerate(engine.outputs)}
    wanted = _wanted(model)
    if any(name not in known for name in wanted.values()):
        reach = eq.reach(model.equations)
        needed = set(wanted.values()).union(*(reach.get(name, frozenset()) for name in wanted.values()))
        known |= {name: people.parameters[:, k, None] for k, name in enumerate(model.parameters)}
        known |= {name: values[:, None] for name, values in people.covariates.items()}
        known |= solution.summaries | clocks
        for name, expression in model.response.items():
            if name in needed:
                known[name] = eq.evaluate(expression, known)
    return [np.broadcast_to(known[name], clocks["TIME"].shape) for name in wanted.values()]


def _clocks(records: Records, people: People, times: Floats, *, after: bool) -> dict[str, Floats]:
    """TIME, WEEKS, TAD and DOSE at the observations, each (n * draws, T)."""
    from pkpd.engine.past import last_dose

    events = records.doses.subjects(np.repeat(np.arange(len(records)), people.draws))
    since, amount = last_dose(events, times, after=after)
    return {"TIME": times, "WEEKS": times / 168.0, "TAD": since, "DOSE": amount}


def _wanted(model: Model) -> dict[str, str]:
    """Output -> the state or equation it is; an ordered category is none."""
    from pkpd.ground.errors import InputError

    found = {name: str(output.is_) for name, output in model.outputs.items() if output.is_}
    if not found:
        raise InputError(f"model {model.name} has no output with a value to predict", field="outputs")
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


def _said(order: Order, records: Records, people: People, status: NDArray[np.int8]) -> int:
    from pkpd.engine.status import SolveStatus

    bad = np.flatnonzero(status)
    rows = len(records.time) * people.draws
    who = {int(i): SolveStatus(int(status[i])) for i in bad}
    if order.machine:
        owner = [(records.ids[i // people.draws], i % people.draws + 1, status.name) for i, status in who.items()]
        failed = [dict(zip(("ID", "DRAW", "status"), one, strict=True)) for one in owner]
        say.machine({"event": "done", "out": str(order.out), "rows": rows, "subjects": len(records), "failed": failed})
    else:
        say.result(f"{order.out}: {rows} rows of {len(records)} subjects")
    if who:
        say.error(f"{len(who)} of {len(status)} were not solved; their cells are {MISSING}")
        say.remark(*_named(records, people, who))
    return guard.PARTIAL if who else guard.OK


def _named(records: Records, people: People, who: Mapping[int, Any]) -> list[str]:
    lines = []
    for i, status in list(who.items())[:SHOWN]:
        draw = f" draw {i % people.draws + 1}" if people.draws > 1 else ""
        lines.append(f"  ID {records.ids[i // people.draws]}{draw}: {status.name}: {status.advice}")
    return lines + ([f"  and {len(who) - SHOWN} more"] if len(who) > SHOWN else [])
