"""`vtrial check` and `vtrial schema`: the texts a user writes, read and described; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reports.desk import guard, say

__all__ = ["check", "schema"]


def check(file: Path, *, machine: bool) -> int:
    """Read a protocol, model or data file in full; InputError says what is wrong, exit 0 that nothing is."""
    kind, facts = _data(file) if file.suffix.lower() == ".csv" else _text(file)
    if machine:
        say.machine({"ok": True, "file": str(file), "kind": kind, **facts})
    else:
        say.result(f"{file}: a sound {kind}", *say.table(facts.items(), indent=2))
    return guard.OK


def _text(file: Path) -> tuple[str, dict[str, Any]]:
    """A YAML text goes to the reader its first key asks for."""
    from pkpd.ground import text
    from pkpd.ground.errors import InputError

    node = text.read(file)
    said = node.get("vtrial") if isinstance(node, Mapping) else None
    kind = str(said).partition("/")[0]
    readers: dict[str, Callable[[Path], dict[str, Any]]] = {"model": _model, "protocol": _protocol}
    if kind not in readers:
        problem = "is missing: which kind of text is this?" if said is None else "must be a kind of text we know"
        remedy = "the first line reads 'vtrial: model/1' or 'vtrial: protocol/1'"
        raise InputError(
            problem, file=file, field="vtrial", value=said, where=getattr(said, "where", None), remedy=remedy
        )
    return kind, readers[kind](file)


def _model(file: Path) -> dict[str, Any]:
    from pkpd.model.spec import Model

    model = Model.read(file)
    return {
        "name": model.name,
        "parameters": ", ".join(model.parameters),
        "states": ", ".join(model.states),
        "outputs": ", ".join(model.outputs),
        "events": ", ".join(model.events) or "none",
    }


def _protocol(file: Path) -> dict[str, Any]:
    from trials.protocol import Protocol

    protocol = Protocol.read(file)
    return {
        "name": protocol.name,
        "arms": ", ".join(protocol.arms),
        "subjects": protocol.subjects,
        "replicates": protocol.replicates,
        "visits": ", ".join(protocol.visit_names),
        "endpoints": ", ".join(protocol.endpoints),
    }


def _data(file: Path) -> tuple[str, dict[str, Any]]:
    from pkpd.model.records import Records

    records = Records.read(file)
    return "data file", {"subjects": len(records.ids), "observations": len(records.dv)}


def schema(kind: str) -> int:
    """Print the JSON Schema of `model` or `protocol`."""
    from pkpd.model import spec
    from trials import protocol

    made = spec.json_schema() if kind == "model" else protocol.json_schema()
    say.result(json.dumps(made, indent=2))
    return guard.OK
