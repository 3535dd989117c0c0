"""`vtrial compare` for texts: designs on summary-level outcomes, protocols on virtual patients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import guard, say

if TYPE_CHECKING:
    from reports.desk.trial import Place
    from trials.comparison import Comparison
    from trials.designs.text_scenarios import Costs

__all__ = ["Order", "compare", "kind_of"]

PAGE, NUMBERS = "compare.html", "compare.json"
OMITTED = ("estimate_", "width_")  # on the page, not on the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked. null: protocols also with the control's regimen in every arm; place: where blocks run."""

    files: tuple[Path, ...]
    out: Path
    place: Place
    scenarios: Path | None = None
    seed: int | None = None
    replicates: int | None = None
    mcse: float | None = None
    null: bool = False
    force: bool = False
    machine: bool = False


def kind_of(file: Path) -> str:
    """`design`, `protocol`, ... of a text's first key."""
    from pkpd.ground import text

    node = text.read(file)
    said = node.get("vtrial") if isinstance(node, text.Mapping) else None
    return str(said).partition("/")[0]


def compare(order: Order) -> int:
    """Compare, write page and JSON, say the answer. Errors: InputError."""
    from pkpd.ground.store import write_atomic
    from reports.compare_page import page
    from reports.page import render

    found = _protocols(order) if _kind(order.files) == "protocol" else _designs(order)
    order.out.mkdir(parents=True, exist_ok=True)
    facts = [("Text", str(file)) for file in order.files]
    title = " · ".join(found.designs)
    write_atomic(order.out / PAGE, render(page(found, title, facts)).encode())
    write_atomic(order.out / NUMBERS, (json.dumps(found.to_dict(), allow_nan=False, indent=1) + "\n").encode())
    if order.machine:
        say.machine({"event": "done", "page": str(order.out / PAGE), **found.to_dict()})
    else:
        say.result(*_lines(found))
        say.remark(f"page: {order.out / PAGE}", f"numbers: {order.out / NUMBERS}")
    return guard.OK


def _kind(files: Sequence[Path]) -> str:
    from pkpd.ground.errors import InputError

    kinds = {file: kind_of(file) for file in files}
    first = kinds[files[0]]
    for file, kind in kinds.items():
        if kind not in ("design", "protocol"):
            remedy = "compare designs (vtrial: design/1), protocols (vtrial: protocol/1) or fits (.parquet)"
            raise InputError("cannot be compared", file=file, field="vtrial", value=kind, remedy=remedy)
        if kind != first:
            remedy = "compare designs with designs, protocols with protocols"
            raise InputError(f"is a {kind}, the first is a {first}", file=file, field="vtrial", remedy=remedy)
    return first


def _designs(order: Order) -> Comparison:
    from pkpd.ground.errors import InputError
    from trials.designs.applied import applied
    from trials.designs.grid import compared
    from trials.designs.text import Design

    if order.null:
        remedy = "write a truth without an effect"
        raise InputError("is for protocols; a design states its null scenarios", field="--null", remedy=remedy)
    read = {file: Design.read(file) for file in order.files}
    designs = dict(zip(_names(order.files, [d.name for d in read.values()]), read.values(), strict=True))
    if order.scenarios is not None:
        designs = applied(designs, order.scenarios)
    return compared(designs, seed=order.seed, replicates=order.replicates, mcse=order.mcse)


def _protocols(order: Order) -> Comparison:
    from pkpd.ground.errors import InputError
    from reports.desk import progress, trial
    from trials.compared import compared
    from trials.protocol import Protocol

    if order.mcse is not None:
        remedy = "give --replicates"
        raise InputError("is for designs", field="--mcse", value=order.mcse, remedy=remedy)
    names = _names(order.files, [Protocol.read(file).name for file in order.files])
    costs = _costs(order.scenarios)
    for name in names if order.force else ():
        trial.cleared(order.out / name)
    with progress.listening(machine=order.machine) as heard:
        return compared(
            dict(zip(names, order.files, strict=True)), order.out, mode=order.place.mode(), seed=order.seed,
            replicates=order.replicates, null=order.null, costs=costs,
            on_progress=lambda name, now: heard(name, now.blocks_done, now.blocks, now.eta if now.eta >= 0 else None),
        )  # fmt: skip


def _costs(file: Path | None) -> Costs | None:
    """The costs of a scenarios file; protocols hear nothing else of it."""
    from pkpd.ground.errors import InputError
    from trials.designs.text_scenarios import Scenarios

    if file is None:
        return None
    found = Scenarios.read(file)
    for name in ("simulate", "enrolment", "profile"):
        if getattr(found, name) is not None:
            raise InputError("is not heard by protocols", file=file, field=name, remedy="keep costs alone")
    return found.costs


def _names(files: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Names of the texts, or their files where two are alike."""
    if len(set(names)) == len(names):
        return list(names)
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in files]


def _lines(found: Comparison) -> list[str]:
    from reports.compare_page import cell, sentences

    out = []
    for s in found.scenarios:
        rows = [("", *s.estimates)]
        shown = [key for key in s.labels if not key.startswith(OMITTED)]
        rows += [(s.labels[key], *(cell(s, design, key) for design in s.estimates)) for key in shown]
        out += [f"{s.name} ({s.replicates} trials)", *say.table(rows, indent=2), ""]
    return [*out, *sentences(found)]
