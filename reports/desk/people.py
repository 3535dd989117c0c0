"""Who `vtrial simulate` solves: parameters that are given or drawn, and what changes in the course of time.

Covariates that change hold between their records as the model says (`between:`), occasions from the record that names
them on. A record is seen with its own values: at one time a line before a dose may still be of the former occasion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from reports.desk import say
from reports.desk.simulation_input import Told, key, parameters, unused

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled
    from pkpd.engine.changes import Changes
    from pkpd.model.spec import Model
    from pkpd.model.timeline import Timeline

__all__ = ["People", "drawn", "given", "own_rows"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Subject i in draw d is row i * draws + d.

    line: what holds when, of every row; rows (m, P): parameters under each row of `line`.
    """

    line: Timeline
    rows: Floats
    draws: int

    def in_time(self, engine: Compiled) -> tuple[Floats, dict[str, Floats], Changes]:
        """Parameters, covariates of the integration and changes, as `solve` takes them."""
        from pkpd.engine.changes import in_time

        return in_time(engine, self.line, self.rows)

    @property
    def changing(self) -> bool:
        """Whether anything changes in anybody."""
        return len(self.line.time) > len(self.line)


def given(model: Model, told: Told, path: Path, events: Path) -> People:
    """The parameters of every ID of the events, of each of its occasions where the table has their column."""
    records = told.records
    people = parameters(path, model)
    for name in records.ids:
        if key(name) not in people:
            raise InputError(
                f"has events in {events} and no parameters", file=path, field="ID", value=name,
                remedy="add a line for it",
            )  # fmt: skip
    _no_effects(model, told, path)
    if left := unused(people, records.ids):
        say.remark(f"{path}: {len(left)} of {len(people)} IDs have no events and are left out")
    line = _line(model, told, {})
    rows = [
        _of_occasion(people[key(records.ids[i])], int(occasion), (path, records.ids[i]))
        for i, occasion in zip(line.subject.tolist(), line.occasion.tolist(), strict=True)
    ]
    return People(line=line, rows=np.asarray(rows, np.float64), draws=1)


def _of_occasion(
    person: Mapping[int | None, tuple[float, ...]], occasion: int, at: tuple[Path, str]
) -> tuple[float, ...]:
    found = person.get(occasion, person.get(None))
    if found is None:
        problem, remedy = f"ID {at[1]} has no parameters on occasion {occasion}", "add a line for it"
        raise InputError(problem, file=at[0], value=occasion, remedy=remedy)
    return found


def _no_effects(model: Model, told: Told, path: Path) -> None:
    """Given parameters are final: a covariate that changes cannot have its effect on them any more."""
    for name in told.records.series:
        moved = [parameter for parameter, p in model.parameters.items() if name in p.effects]
        if moved:
            problem = f"changes within a subject and has an effect on {moved[0]}, which is given"
            remedy = "leave --parameters out, keep the covariate constant, or write its effect into the equations"
            raise InputError(problem, file=path, field=name, remedy=remedy)


def drawn(model: Model, told: Told, seed: int, draws: int) -> People:
    """Every ID drawn from the population, typical values as in the text; an ID that is a number is its own address."""
    from pkpd.model.outcomes import classes
    from pkpd.model.variability import along, covariance, point

    who, replicate = _addresses(told.records.ids), np.arange(draws)
    typical = np.repeat(point(model).typical, draws, axis=0)
    root = np.repeat(np.linalg.cholesky(covariance(model))[None], draws, axis=0)
    members = classes(model, typical, seed, subject=who, replicate=replicate)
    apart = {name: values.reshape(-1) for name, values in members.items()}
    line = _line(model, told, apart, draws)
    rows = along(model, (typical, root), line, seed=seed, subject=who, replicate=replicate)
    order = np.arange(draws * len(who)).reshape(draws, len(who)).T.reshape(-1)
    counts = np.diff(line.offsets)[order]
    first = np.repeat(line.offsets[order] - (np.cumsum(counts) - counts), counts)
    return People(line=line.subjects(order), rows=rows[first + np.arange(len(rows))], draws=draws)


def _line(model: Model, told: Told, classes: Mapping[str, Floats], draws: int = 1) -> Timeline:
    """What holds when: draw by draw, all subjects in each."""
    from pkpd.model.timeline import timeline

    records, n = told.records, len(told.records)
    _members_known(model, told, classes)
    until = max(float(records.time.max(initial=0.0)), float(records.doses.time.max(initial=0.0)))
    try:
        one = timeline(model, records.covariates, records.series, occasion=records.occasion, until=until, size=n)
    except InputError as error:
        raise error.within(file=told.file) from None
    line = one.subjects(np.tile(np.arange(n), draws))
    line.values.update({name: values[line.subject] for name, values in classes.items()})
    line.slopes.update({name: np.zeros(len(line.time)) for name in classes})
    return line


def _members_known(model: Model, told: Told, classes: Mapping[str, Floats]) -> None:
    """Classes are drawn with the people, and given as columns of 0 and 1 with given parameters; not both."""
    for name in sorted(model.mixture):
        column = told.records.covariates.get(name)
        if name in classes and (column is not None or name in told.records.series):
            problem, remedy = "the class is drawn with the people", "leave the column out, or give their parameters"
            raise InputError(problem, file=told.file, field=name, remedy=remedy)
        if name not in classes and (column is None or not np.isin(column, (0.0, 1.0)).all()):
            remedy = f"add a column {name}: 1 for its members, else 0"
            raise InputError(
                "who is in this class of the mixture is not said", file=told.file, field=name, remedy=remedy
            )


def _addresses(ids: tuple[str, ...]) -> NDArray[np.int64]:
    """The ID where every one is a whole number that fits an address, else the place in the file."""
    whole = all(name.isascii() and name.isdigit() and int(name) < 2**32 for name in ids)
    return np.asarray([int(name) for name in ids] if whole else range(len(ids)), np.int64)


def own_rows(model: Model, told: Told, line: Timeline, at: tuple[Rows, Rows]) -> Rows:
    """Row of `line` that each line of the table is seen with; at: its row of `line`'s subjects, its observation.

    What the observation's own line says decides: where it is still that of before, the values before hold.
    """
    from pkpd.engine.changes import rows_at

    owner, source = at
    time = told.records.time[source]
    before, from_here = rows_at(line, owner, time, samples=True), rows_at(line, owner, time)
    is_new, is_old = np.ones(len(time), np.bool_), np.ones(len(time), np.bool_)
    for name, values in told.own.items():
        if name in model.covariates and model.covariates[name].between != "locf":
            continue
        column = line.values[name] if name in model.covariates else line.occasion.astype(np.float64)
        said = values[source]
        silent = np.isnan(said)
        is_new &= silent | (said == column[from_here])
        is_old &= silent | (said == column[before])
    if not (is_new | is_old).all():
        k = int(np.flatnonzero(~(is_new | is_old))[0])
        who = told.records.ids[int(told.records.subject[source[k]])]
        problem = f"ID {who} has more than two values of a covariate or occasion at {time[k]:g} h"
        raise InputError(problem, file=told.file, field="TIME", remedy="keep the last one, or move it in time")
    return np.where(is_new, from_here, before)
