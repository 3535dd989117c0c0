"""`vtrial surveillance`: plans of surveillance in; power, time to signal and false alarms out, on simulated markets."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import guard, say

if TYPE_CHECKING:
    from reports.desk.trial import Place
    from reports.surveillance_page import Shown
    from trials.analysis.surveillance_text import Surveillance

__all__ = ["Order", "planned", "surveillance"]

PAGE, NUMBERS, TABLE = "surveillance.html", "surveillance.json", "surveillance.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked. runs: NAME=DIR instead of the text's directories; draws, replicates, seed: instead of its own."""

    file: Path
    out: Path
    place: Place
    runs: tuple[str, ...] = ()
    seed: int | None = None
    draws: int | None = None
    replicates: int | None = None
    machine: bool = False


def surveillance(order: Order) -> int:
    """Read, simulate, write. Errors: InputError."""
    from pkpd.ground.store import write_atomic
    from reports.page import render
    from reports.surveillance_page import Shown, page, told
    from trials.analysis.surveillance_found import found
    from trials.analysis.surveillance_simulate import prepared, simulated
    from trials.analysis.surveillance_text import Surveillance

    plan = _asked(Surveillance.read(order.file), order)
    runs = dict(_run(text) for text in order.runs)
    made = prepared(plan, order.file.parent, runs)
    answer = found(made, simulated(made, mode=order.place.mode()))
    shown = Shown(made=made, found=answer, facts=_facts(order, plan, runs))
    order.out.mkdir(parents=True, exist_ok=True)
    write_atomic(order.out / TABLE, _table(shown).encode())
    write_atomic(order.out / NUMBERS, (json.dumps(told(shown), allow_nan=False, indent=1) + "\n").encode())
    write_atomic(order.out / PAGE, render(page(shown)).encode())
    if order.machine:
        say.machine({"event": "done", "page": str(order.out / PAGE), **told(shown)})
    else:
        say.result(*_lines(shown))
        say.remark(f"page: {order.out / PAGE}", f"numbers: {order.out / NUMBERS}, by month: {order.out / TABLE}")
    return guard.OK


def planned(file: Path, *, machine: bool) -> int:
    """Tell the plans, their critical values and all defaults; nothing is simulated. Errors: InputError."""
    from pkpd.ground.text import read_text
    from reports.surveillance_truths import card
    from reports.tables import Table
    from trials.analysis.surveillance_simulate import prepared
    from trials.analysis.surveillance_text import Surveillance, defaults

    source = read_text(file)
    plan = Surveillance.parse(source, str(file))
    made, left_out = prepared(plan, file.parent), defaults(source)
    tables = [block for block in card(made).blocks if isinstance(block, Table)]
    if machine:
        rows = [dict(zip((c.title for c in t.columns), row, strict=True)) for t in tables for row in t.rows]
        say.machine({"name": plan.name, "markets": made.rows, "draws": made.truths.draws, "plans": rows,
                     "person_years": float(made.use.years.sum()), "defaults": left_out})  # fmt: skip
        return guard.OK
    say.result(f"{file}: {plan.name}", f"  {made.rows:,} markets under each truth, {made.truths.draws} draws of what "
               f"is not known; {made.use.years.sum():,.0f} person-years in {plan.months} months")  # fmt: skip
    for table in tables:
        say.result("", *say.table([tuple(c.title for c in table.columns), *table.rows], indent=2))
    say.result("", "left to defaults:", *(say.table(left_out.items(), indent=2) or ["  nothing"]))
    return guard.OK


def _asked(plan: Surveillance, order: Order) -> Surveillance:
    given = {name: getattr(order, name) for name in ("seed", "draws", "replicates")}
    return replace(plan, **{name: value for name, value in given.items() if value is not None})


def _run(text: str) -> tuple[str, Path]:
    from pkpd.ground.errors import InputError

    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise InputError("needs a name and a directory", field="--run", value=text, remedy="write --run trial=out")
    return name, Path(place)


def _facts(order: Order, plan: Surveillance, runs: dict[str, Path]) -> list[tuple[str, str]]:
    from trials.record import read_manifest, versions

    facts = [("Text", str(order.file)), ("Version", versions()["vtrial"]), ("Seed", str(plan.seed))]
    for name, given in plan.runs.items():
        place = runs.get(name, (order.file.parent / given).resolve())
        manifest = read_manifest(place)
        facts.append((f"Run {name}", f"{manifest.name} in {runs.get(name, Path(given))}, key {manifest.key[:16]}"))
    return facts


def _table(shown: Shown) -> str:
    """Every truth, event, plan and month."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("truth", "event", "plan", "month", "probability", "mcse", "low", "high"))
    for d in shown.found.detected.values():
        for k, e in enumerate(d.by):
            limits = ("" if math.isnan(x) else f"{x:.6g}" for x in (d.low[k], d.high[k]))
            writer.writerow((d.truth, d.event, d.plan, k + 1, f"{e.value:.6g}", f"{e.mcse:.3g}", *limits))
    return text.getvalue()


def _lines(shown: Shown) -> list[str]:
    from reports.surveillance_page import breaches, month, power, sentences

    plan = shown.made.plan
    out = [f"{plan.name}: {shown.made.rows:,} markets of {plan.months} months", ""]
    for event, label in shown.events.items():
        rows = [
            (label, f"P(signal by month {plan.months})", "median month", "90 % of markets", "excess until", "P(false)")
        ]
        for name, called in shown.plans.items():
            d = shown.found.of(event, name)
            rows.append((
                called, power(d.power), month(d.months.median, plan.months),
                f"{month(d.months.low, plan.months)} to {month(d.months.high, plan.months)}", f"{d.until.value:.3g}",
                power(shown.found.of(event, name, "null").power),
            ))  # fmt: skip
        out += [*say.table(rows, indent=2), ""]
    return [*out, *sentences(shown), *(f"READ THIS: {line}" for line in breaches(shown))]
