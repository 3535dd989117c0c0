"""A prognostic score: what a subject's outcome would be under the control regimen, foretold before randomisation.

The posterior predictive mean and standard deviation of one measurement, from covariates and what was measured before
treatment (run-in), over the draws of the population's parameters. Like guidance by levels it is a function of the data
alone. The table is locked: a file beside it holds the SHA-256 of the table, and of everything the table follows from.

Schuler A et al., Int J Biostat 2022;18:329 (PROCOVA): adjusting for such a score divides the variance of the effect by
1/(1 - rho^2), rho its correlation with the outcome; the analysis stays valid however wrong the score is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.engine.build import Compiled, compiled
from pkpd.ground import digest, store, text
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.records import Records
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws
from pkpd.posterior import draws_digest
from pkpd.residual import observe
from pkpd.twin.case import able, case_of
from pkpd.twin.guided import interleaved, pieces, posterior
from pkpd.twin.likelihood import errors, outputs

__all__ = ["KIND", "Prognosis", "Question", "enrolled", "foretold", "prognosis", "read", "write"]

Floats = NDArray[np.float64]
KIND: Final = "vtrial-prognosis/1"
NODES: Final = 9


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is foretold: a measurement of `output` at `at` h, when the doses of `control` are given after what the
    records say. particles: of each subject's posterior.
    """

    output: str
    at: float
    control: Schedule
    particles: int = 200
    seed: int = 20261122

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = ("time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more")
        doses = {name: getattr(self.control, name).tolist() for name in names}
        return {"output": self.output, "at": self.at, "control": doses, "particles": self.particles, "seed": self.seed}


def foretold(
    model: Model, records: Records, draws: PopulationDraws, question: Question, *, engine: Compiled | None = None
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the measurement of each subject, (n,) each; NaN where the data rule the model out.

    Errors: InputError for a model no twin can follow, or an output it does not have.
    """
    able(model)
    known = [name for name, o in model.outputs.items() if o.continuous]
    if question.output not in known:
        raise InputError("no such continuous output", field="output", value=question.output,
                         remedy=nearest(question.output, known) or ", ".join(known))  # fmt: skip
    built = engine or compiled(model)
    parts = [_foretold(model, part, draws, question, engine=built) for part in pieces(records, question.particles)]
    point, sd = ([p[k] for p in parts] for k in range(2))
    return np.concatenate([np.zeros(0), *point]), np.concatenate([np.zeros(0), *sd])


def _foretold(
    model: Model, records: Records, draws: PopulationDraws, question: Question, *, engine: Compiled
) -> tuple[Floats, Floats]:
    case = case_of(model, records, draws, until=question.at, engine=engine)
    case = replace(case, address=np.zeros(len(case), np.uint32))
    found = posterior(case, seed=question.seed, particles=question.particles)
    rows = found.people(case, question.seed)
    n = len(case)
    events = interleaved(Events.joined([case.doses, Events.shared(question.control, n)]), n).subjects(rows.who)
    true, _ = outputs(case, rows, np.full((len(rows), 1), question.at), events=events)
    nodes, mass = np.polynomial.hermite_e.hermegauss(NODES)
    law = errors(case, rows.draw)[question.output]
    shape = (n, -1)
    value = observe(law, true[question.output], np.broadcast_to(nodes, (len(rows), NODES))).reshape(shape)
    weight = (found.weight[:, :, None] * (mass / mass.sum())).reshape(value.shape)
    return _moments(value, weight)


def _moments(value: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation along the last axis; NaN where less than half of the weight has a value."""
    there = np.isfinite(value)
    weight, value = np.where(there, weight, 0.0), np.where(there, value, 0.0)
    total = weight.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(total >= 0.5, weight / total, np.nan)
    mean = np.sum(weight * value, axis=1)
    return mean, np.sqrt(np.sum(weight * (value - mean[:, None]) ** 2, axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prognosis:
    """The score of n subjects: ids, point and sd (n,); lock: what it follows from, by SHA-256, and the settings."""

    ids: tuple[str, ...]
    point: Floats
    sd: Floats
    lock: dict[str, Any]

    @property
    def table(self) -> bytes:
        """The table as it is written: ID, point, sd, in full precision."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["ID", "point", "sd"])
        for name, point, sd in zip(self.ids, self.point.tolist(), self.sd.tolist(), strict=True):
            rows.writerow([name, repr(point), repr(sd)])
        return out.getvalue().encode()


def prognosis(model: Model, records: Records, draws: PopulationDraws, question: Question) -> Prognosis:
    """The score of every subject of `records`: covariates, and doses and values before treatment if there are any.

    >>> from pkpd.model.library import load
    >>> from pkpd.model.variability import point
    >>> model = load("goti_vancomycin")
    >>> data = enrolled({"CRCL": [90.0, 30.0], "WT": [70.0, 70.0], "DIAL": [0.0, 0.0]}, ids=("A", "B"))
    >>> dose = Schedule(*(np.array([v]) for v in (0.0, 1000.0, 0, 1.0, 0.0, 0)))
    >>> made = prognosis(model, data, point(model), Question(output="CP", at=12.0, control=dose))
    >>> bool(made.point[1] > made.point[0])
    True
    """
    mean, sd = foretold(model, records, draws, question)
    made = Prognosis(ids=records.ids, point=mean, sd=sd, lock={})
    inputs = {"data": records.digest, "model": model.digest, "draws": draws_digest(draws)}
    body = {"kind": KIND, "inputs": inputs, "settings": question.to_dict(), "table": digest.of_bytes(made.table)}
    return replace(made, lock=body | {"digest": digest.of_json(body)})


def enrolled(covariates: Mapping[str, ArrayLike], *, ids: Sequence[str]) -> Records:
    """Subjects of whom only covariates are known, as records."""
    columns = {name: np.ascontiguousarray(values, np.float64) for name, values in covariates.items()}
    for name, values in columns.items():
        if values.shape != (len(ids),):
            raise InputError(f"must have one value for each of {len(ids)} subjects", field=name, value=values.shape)
    nobody, none = np.zeros(0, np.int64), np.zeros(0)
    empty = Schedule(none, none, none.astype(np.int32), none, none, none.astype(np.int8))
    plain = {"ids": list(ids), "covariates": {name: values.tolist() for name, values in columns.items()}}
    return Records(
        ids=tuple(ids), doses=Events.shared(empty, len(ids)), subject=nobody, time=none, dv=none, output=nobody,
        after=np.zeros(0, np.bool_), covariates=columns, varying=(), digest=digest.of_json(plain),
    )  # fmt: skip


def write(made: Prognosis, path: str | Path) -> Path:
    """Write the table (CSV) and its lock beside it (`.lock.json`)."""
    path = Path(path)
    store.write_atomic(path, made.table)
    store.write_atomic(lock_path(path), (json.dumps(made.lock, indent=1, sort_keys=True) + "\n").encode())
    return path


def lock_path(path: Path) -> Path:
    """Where the lock of a table is."""
    return path.with_name(path.name + ".lock.json")


def read(
    path: str | Path,
    *,
    records: Records | None = None,
    model: Model | None = None,
    draws: PopulationDraws | None = None,
) -> Prognosis:
    """The score of a file, after every hash was compared. records, model, draws: must be those it was made with.

    Errors: InputError for a table or a lock that was changed, or other inputs.
    """
    path = Path(path)
    content = text.read_text(path).encode()
    lock = _lock(path)
    remedy = "compute the score again, from data that hold no treatment"
    if digest.of_bytes(content) != lock["table"]:
        raise InputError("the table is not the one that was locked", file=path, field="table",
                         value=digest.of_bytes(content)[:16], remedy=remedy)  # fmt: skip
    given = {
        "data": None if records is None else records.digest, "model": None if model is None else model.digest,
        "draws": None if draws is None else draws_digest(draws),
    }  # fmt: skip
    for name, found in given.items():
        if found is not None and found != lock["inputs"][name]:
            raise InputError(f"the score was made with other {name}", file=path, field=f"inputs.{name}",
                             value=found[:16], remedy=remedy)  # fmt: skip
    rows = list(csv.reader(io.StringIO(content.decode())))[1:]
    point, sd = (np.asarray([float(row[k]) for row in rows], np.float64) for k in (1, 2))
    return Prognosis(ids=tuple(row[0] for row in rows), point=point, sd=sd, lock=lock)


def _lock(path: Path) -> dict[str, Any]:
    """The lock of a table, whole and unchanged."""
    where = lock_path(path)
    try:
        lock = json.loads(text.read_text(where))
        body = {name: value for name, value in lock.items() if name != "digest"}
        whole = lock["kind"] == KIND and {"table", "inputs", "settings"} <= body.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole or digest.of_json(body) != lock["digest"]:
        raise InputError("the lock was changed, or is none", file=where, field="digest",
                         remedy="compute the score again")  # fmt: skip
    return dict(lock)
