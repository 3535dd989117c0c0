"""`vtrial check` and `vtrial schema`: the texts a user writes, read and described; a model is also examined."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, say

if TYPE_CHECKING:
    from pkpd.conformance.evidence import Conformance, Evidence
    from pkpd.model.spec import Model

__all__ = ["check", "schema"]


def check(file: Path, *, quick: bool, machine: bool) -> int:
    """Read a protocol, model or data file in full; InputError says what is wrong, exit 0 that nothing is.

    A model whose text is sound is examined too, unless `quick`: exit 3 where a check of the conformance suite fails.
    """
    file = _place(file)
    kind, facts = _data(file) if file.suffix.lower() == ".csv" else _text(file)
    if not machine:
        say.result(f"{file}: a sound {kind}", *say.table(facts.items(), indent=2))
    examined = _examined(file) if kind == "model" and not quick else None
    failed = examined is not None and bool(examined.of(examined.FAIL))
    if machine:
        shown = {} if examined is None else {"conformance": examined.to_dict()}
        say.machine({"ok": not failed, "file": str(file), "kind": kind, **facts, **shown})
    elif examined is not None:
        say.result(*_lines(examined))
    return guard.FAILED if failed else guard.OK


def _place(file: Path) -> Path:
    """The file, or the library's model of that name where there is no such file."""
    from pkpd.model import library

    bare = not file.suffix and len(file.parts) == 1 and not file.exists()
    return library.model_path(file.name) if bare and file.name in library.models() else file


def _examined(file: Path) -> Conformance:
    """The evidence of the conformance suite; the engine is loaded only here, after the text is known to be sound."""
    from pkpd.conformance.suite import examine
    from pkpd.model.spec import Model

    if sys.stderr.isatty():
        say.remark("examining the model (it is compiled the first time, which takes some seconds) ...")
    return examine(Model.read(file))


def _lines(examined: Conformance) -> list[str]:
    counts = [(len(examined.of(verdict)), verdict.value) for verdict in type(examined.FAIL)]
    head = ", ".join(f"{count} {word}" for count, word in counts if count)
    return [f"conformance: {head}", f"  {examined.regimen}", *say.table(map(_row, examined.evidence), indent=2)]


def _row(evidence: Evidence) -> tuple[str, ...]:
    """Verdict, name, claim, value against tolerance, note."""
    word = {"pass": "pass", "fail": "FAIL"}.get(evidence.verdict.value, "-")
    numbers = "" if evidence.value is None else f"{evidence.value:.1e} <= {evidence.tolerance:.0e}"
    if word == "FAIL":
        numbers = numbers.replace("<=", "> ")
    return word, evidence.name, evidence.claim, numbers, evidence.reason


def _text(file: Path) -> tuple[str, dict[str, Any]]:
    """A YAML text goes to the reader its first key asks for."""
    from pkpd.ground import text
    from pkpd.ground.errors import InputError

    node = text.read(file)
    said = node.get("vtrial") if isinstance(node, Mapping) else None
    kind = str(said).partition("/")[0]
    readers: dict[str, Callable[[Path], dict[str, Any]]] = {
        "model": _model, "protocol": _protocol, "sbc": _study, "design": _design, "scenarios": _scenarios,
        "surveillance": _surveillance,
    }  # fmt: skip
    if kind not in readers:
        problem = "is missing: which kind of text is this?" if said is None else "must be a kind of text we know"
        known = ", ".join(f"'vtrial: {name}/1'" for name in readers)
        remedy = f"the first line reads one of {known}"
        raise InputError(
            problem, file=file, field="vtrial", value=said, where=getattr(said, "where", None), remedy=remedy
        )
    return kind, readers[kind](file)


def _model(file: Path) -> dict[str, Any]:
    from pkpd.model.spec import Model

    model = Model.read(file)
    found = {
        "name": model.name,
        "parameters": ", ".join(model.parameters),
        "states": ", ".join(model.states),
        "outputs": ", ".join(model.outputs),
        "events": ", ".join(model.events) or "none",
    }
    return found | _places(model)


def _places(model: Model) -> dict[str, str]:
    """Rates that can change places, with the remedy; they concern whoever fits the model."""
    from pkpd.bayes.exchange import exchanges

    told = [e.sentence for e in exchanges(model)]
    return {"in a fit": " ".join(told)} if told else {}


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


def _study(file: Path) -> dict[str, Any]:
    from pkpd.bayes.sbc_design import StudyDesign

    design = StudyDesign.read(file)
    subjects = sum(group.subjects for group in design.groups)
    return {"name": design.name, "subjects": subjects, "fits": design.fits, "ranks among": f"{design.kept} draws"}


def _design(file: Path) -> dict[str, Any]:
    from trials.designs.text import Design

    design = Design.read(file)
    looks = ", ".join(f"{t:.4g}" for t in design.looks)
    return {"name": design.name, "endpoint": design.endpoint.kind, "looks at information": looks}


def _scenarios(file: Path) -> dict[str, Any]:
    from trials.designs.text_scenarios import Scenarios

    said = Scenarios.read(file)
    names = () if said.simulate is None else tuple(said.simulate.scenarios)
    return {"scenarios": "; ".join(names) or "none", "costs": "yes" if said.costs is not None else "none"}


def _surveillance(file: Path) -> dict[str, Any]:
    from trials.analysis.surveillance_text import Surveillance

    said = Surveillance.read(file)
    return {
        "name": said.name, "months": said.months, "events": ", ".join(said.events), "plans": ", ".join(said.plans),
        "runs": ", ".join(f"{name} ({place})" for name, place in said.runs.items()) or "none",
    }  # fmt: skip


def _data(file: Path) -> tuple[str, dict[str, Any]]:
    from pkpd.model.records import Records

    records = Records.read(file)
    return "data file", {"subjects": len(records.ids), "observations": len(records.dv)}


def schema(kind: str) -> int:
    """Print the JSON Schema of a kind of text."""
    from pkpd.bayes import sbc_design
    from pkpd.model import spec
    from trials import protocol
    from trials.analysis import surveillance_text
    from trials.designs import text as design
    from trials.designs import text_scenarios

    schemas: dict[str, Callable[[], Any]] = {
        "model": spec.json_schema,
        "protocol": protocol.json_schema,
        "design": design.json_schema,
        "sbc": sbc_design.json_schema,
        "scenarios": text_scenarios.json_schema,
        "surveillance": surveillance_text.json_schema,
    }
    say.result(json.dumps(schemas[kind](), indent=2))
    return guard.OK
