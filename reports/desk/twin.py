"""`vtrial twin`: one patient's data in; posterior, forecast and doses out, as a page and as JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.desk import guard, say

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws
    from pkpd.twin.accounts import Account, Inputs
    from pkpd.twin.dosing import Candidate, Chosen
    from pkpd.twin.sequential import Filter
    from pkpd.twin.twin import Twins

__all__ = ["Aim", "Order", "twin"]

AMOUNTS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
INTERVALS = (8.0, 12.0, 24.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a dose is to reach, as text, and the candidates: amounts, intervals [h], infusion [h] (None: as the last
    dose), from `start` [h] (None: the next dose) over `horizon` [h].
    """

    target: str | None = None
    toxic: str | None = None
    amounts: str | None = None
    intervals: str | None = None
    infusion: float | None = None
    start: float | None = None
    horizon: float = 72.0
    penalty: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked: the data, the model, where the answer goes."""

    data: Path
    model: str
    out: Path
    posterior: Path | None = None
    id: str | None = None
    drug: str = ""
    particles: int = 2000
    draws: int = 1000
    seed: int = 20261121
    stream: bool = False
    force: bool = False
    machine: bool = False


def twin(order: Order, aim: Aim) -> int:
    """Read, infer, choose, write; 3 where the answer must not be used."""
    model, draws, source = _population(order)
    text, records = _records(order, model)
    fitting, far = _domain(model, records)
    made = _inferred(fitting, records, draws, order)
    updates: tuple[Any, ...] = ()
    if order.stream:
        made, updates = _streamed(fitting, made, draws, text=text)
    found = _account(made, _inputs(made, model, draws, source), aim, far=far, updates=updates)
    _written(found, order, model)
    return guard.OK if found.sound else guard.FAILED


def _population(order: Order) -> tuple[Model, PopulationDraws, str]:
    """Model, population draws and what these are."""
    from pkpd import posterior
    from pkpd.ground.errors import InputError
    from pkpd.model import library
    from pkpd.model.spec import Model
    from pkpd.model.variability import published

    known = Path(order.model).suffix in (".yaml", ".yml")
    model = Model.read(order.model) if known else library.load(order.model)
    if order.posterior is None:
        return (
            model,
            published(model, order.draws, order.seed),
            "published values and standard errors of the model text",
        )
    found = posterior.read(order.posterior)
    posterior.require_sound(found, force=order.force)
    if found.model.digest != model.digest:
        remedy = "name the model it was fitted with"
        raise InputError("is the fit of another model", file=order.posterior, value=found.model.name, remedy=remedy)
    return model, found.draws, f"posterior {found.digest}"


def _records(order: Order, model: Model) -> tuple[str, Records]:
    """(text of the CSV, records) of the one patient."""
    from pkpd.ground import text as ground_text
    from pkpd.ground.errors import InputError
    from pkpd.model.records import MAX_BYTES, Records
    from pkpd.twin.fhir import records_text

    if order.data.suffix.lower() == ".json":
        written = records_text(order.data, model, drug=order.drug)
    else:
        written = ground_text.read_text(order.data, MAX_BYTES)
    records = Records.parse(written, str(order.data), model)
    if order.id is None and len(records) > 1:
        raise InputError("holds several patients", file=order.data, field="ID", value=len(records),
                         remedy=f"name one with --id, for example --id {records.ids[0]}")  # fmt: skip
    if order.id is not None:
        written = _only(written, order.id)
        records = Records.parse(written, str(order.data), model)
    return written, records


def _only(text: str, name: str) -> str:
    """The header and the lines of one ID. Errors: InputError when there are none."""
    import csv
    import io

    from pkpd.ground.errors import InputError

    rows = list(csv.reader(io.StringIO(text)))
    place = [c.strip() for c in rows[0]].index("ID")
    kept = [row for row in rows[1:] if len(row) > place and row[place].strip() == name]
    if not kept:
        raise InputError("no such patient", field="--id", value=name, remedy="name an ID of the file")
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([rows[0], *kept])
    return out.getvalue()


def _domain(model: Model, records: Records) -> tuple[Model, tuple[str, ...]]:
    """The model to work with, without its ranges where the patient lies outside them, and why."""
    from pkpd.twin.fit_checks import outside, relaxed

    far = outside(model, records)
    return (relaxed(model) if far else model), far


def _inferred(model: Model, records: Records, draws: PopulationDraws, order: Order) -> Twins:
    from pkpd.ground.errors import InputError
    from pkpd.twin.twin import Settings, twins

    found = twins(model, records, draws, seed=order.seed, settings=Settings(particles=order.particles))
    if not np.isfinite(found.weight).all():
        remedy = "check that row, its units, and the doses before it"
        raise InputError("; ".join(found.warnings[0]), file=order.data, remedy=remedy)
    return found


def _streamed(model: Model, made: Twins, draws: PopulationDraws, *, text: str) -> tuple[Twins, tuple[Any, ...]]:
    """Every further line of stdin (same columns as the file) as an update; one JSON object a line of answer."""
    from pkpd.model.records import Records
    from pkpd.twin.sequential import as_twins, begun, updated

    state = begun(made, draws)
    rows = text.rstrip("\n")
    for line in _lines():
        rows = f"{rows}\n{line}"
        state = updated(state, Records.parse(rows, "<stdin>", model))
        say.machine({"event": "update"} | state.log[-1].to_dict() | _now(state))
    return as_twins(state), state.log


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def _now(state: Filter) -> dict[str, Any]:
    """The true level at the last row, and its 90 % interval."""
    from pkpd.twin.forecasting import forecast
    from pkpd.twin.sequential import as_twins

    last = float(np.nanmax(state.case.levels.time))
    found = forecast(as_twins(state), np.asarray([last]), levels=(0.05, 0.5, 0.95))
    lower, median, upper = found.latent[0, :, 0].tolist()
    return {"output": found.output, "lower": lower, "median": median, "upper": upper}


def _inputs(made: Twins, model: Model, draws: PopulationDraws, source: str) -> Inputs:
    """Hashes of what went in; the model as it is written, whatever its ranges."""
    from pkpd.twin.accounts import Inputs

    return replace(Inputs.of(made, draws, source), model=model.digest)


def _account(made: Twins, inputs: Inputs, aim: Aim, *, far: tuple[str, ...], updates: Sequence[Any]) -> Account:
    from pkpd.model.dimensions import units_of
    from pkpd.twin.accounts import account

    chosen = _chosen(made, aim)
    last = float(np.nanmax(made.case.levels.time))
    doses = made.case.doses
    end = max([last, *(doses.time + doses.duration).tolist()])
    return account(
        made, inputs, until=end + 24.0, outside=far, chosen=chosen, updates=updates,
        units=units_of(made.case.model),
    )  # fmt: skip


def _chosen(made: Twins, aim: Aim) -> Chosen | None:
    from pkpd.ground.errors import InputError
    from pkpd.twin.dosing import choose
    from pkpd.twin.targets import Target

    if aim.target is None:
        if aim.toxic is not None or aim.amounts is not None:
            raise InputError(
                "is needed to choose a dose", field="--target", remedy='for example --target "AUC24 400..600"'
            )
        return None
    model = made.case.model
    measured = list(model.outputs)[int(made.case.records.output.min())]
    toxic = None if aim.toxic is None else Target.parse(aim.toxic, model, field="--toxic", default=measured)
    return choose(
        made, _candidates(made, aim), Target.parse(aim.target, model, field="--target", default=measured),
        start=_start(made) if aim.start is None else aim.start, horizon=aim.horizon, toxic=toxic, penalty=aim.penalty,
    )  # fmt: skip


def _interval(made: Twins) -> float:
    """Hours between the last two doses, 24 where there is one."""
    times = np.unique(made.case.doses.time)
    return float(times[-1] - times[-2]) if len(times) > 1 else 24.0


def _start(made: Twins) -> float:
    """When the next dose is due: an interval after the last, not before the last row of the data."""
    doses = made.case.doses
    due = float(doses.time.max()) + _interval(made) if len(doses.time) else 0.0
    return max(due, float(np.nanmax(made.case.levels.time)))


def _candidates(made: Twins, aim: Aim) -> tuple[Candidate, ...]:
    """Every amount at every interval; by default around the last dose, infused at its rate."""
    from pkpd.ground.errors import InputError
    from pkpd.twin.dosing import Candidate

    doses = made.case.doses
    if not len(doses.time):
        raise InputError("a dose can only be chosen after one was given", field="--target", remedy="give the doses")
    amount, duration, into = float(doses.amount[-1]), float(doses.duration[-1]), int(doses.target[-1])
    amounts = _numbers(aim.amounts, "--doses") or tuple(amount * f for f in AMOUNTS)
    every = _numbers(aim.intervals, "--every") or tuple(sorted({*INTERVALS, _interval(made)}))
    found = []
    for size in amounts:
        over = duration * size / amount if aim.infusion is None else aim.infusion
        found += [Candidate(amount=size, every=e, duration=min(over, e), into=into) for e in every]
    return tuple(found)


def _numbers(text: str | None, field: str) -> tuple[float, ...]:
    from pkpd.ground.errors import InputError

    if text is None:
        return ()
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(np.isfinite(value) and value > 0 for value in found):
        raise InputError(
            "must be numbers > 0, separated by commas", field=field, value=text, remedy="write 500,750,1000"
        )
    return found


def _written(found: Account, order: Order, model: Model) -> None:
    from pkpd.ground.store import write_atomic
    from pkpd.model.dimensions import units_of
    from reports.twin_page import render

    units = units_of(model)
    shown = {name: units.get(str(output.is_), "") for name, output in model.outputs.items()}
    into = int(found.chosen.best.candidate.into) if found.chosen else 0
    shown["dose"] = list(model.dose_units.values())[into] if model.dose_units else ""
    order.out.mkdir(parents=True, exist_ok=True)
    page = render(found, shown).encode()
    answer = json.dumps(found.to_dict(), indent=1, allow_nan=False).encode()
    write_atomic(order.out / "twin.html", page)
    write_atomic(order.out / "twin.json", answer)
    _said(found, order, hashlib.sha256(page).hexdigest())


def _said(found: Account, order: Order, page: str) -> None:
    paths = {"page": str(order.out / "twin.html"), "json": str(order.out / "twin.json")}
    if order.machine:
        say.machine({"event": "done", "sound": found.sound, "verdict": found.verdict, "page_sha256": page, **paths})
        return
    for warning in (*found.outside, *found.warnings):
        say.remark(f"note: {warning}")
    say.result(found.verdict)
    if found.chosen is not None:
        best = found.chosen.best
        c = best.candidate
        from reports.twin_page import chance

        harm = f", P(toxic) {chance(best.toxic, best.toxic_mcse, found)}" if found.chosen.toxic else ""
        reached = chance(best.reached, best.reached_mcse, found)
        say.result(f"best: {c.amount:g} every {c.every:g} h over {c.duration:.3g} h: P(target) {reached}{harm} (MCSE)")
    say.result(f"{paths['page']}, {paths['json']}")
