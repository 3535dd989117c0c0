"""`vtrial plan`: what a protocol will cost and what it leaves to defaults, before anything runs."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from trials.protocol import Protocol
    from trials.run import Plan

__all__ = ["plan"]


def plan(file: Path, *, block_size: int | None, machine: bool) -> int:
    """Print subjects, blocks, memory, time and every default of the protocol in `file`."""
    from pkpd.ground import text
    from trials.protocol import Protocol, defaults
    from trials.run import plan as planned

    source = text.read_text(file)
    protocol = Protocol.parse(source, file=str(file))
    found, left_out = planned(protocol, block_size=block_size), defaults(source)
    if machine:
        say.machine(_values(protocol, found) | {"defaults": left_out})
    else:
        say.result(f"{file}: {protocol.name}", *say.table(_rows(protocol, found), indent=2))
        say.result("left to defaults:", *(say.table(left_out.items(), indent=2) or ["  nothing"]))
    return guard.OK


def _rows(protocol: Protocol, found: Plan) -> list[tuple[str, str]]:
    arms = ", ".join(f"{name} ({arm.ratio})" for name, arm in protocol.arms.items())
    replicates = {name: sum(block.stop - block.first for block in blocks) for name, blocks in found.runs.items()}
    count = sum(len(blocks) for blocks in found.runs.values())
    cores = os.cpu_count() or 1
    return [
        ("subjects", f"{protocol.subjects} a replicate in arms {arms}; {found.subjects} in all"),
        ("replicates", ", ".join(f"{name} {number}" for name, number in replicates.items())),
        ("blocks", f"{count}, of up to {_largest(found)} replicates"),
        ("memory", f"about {found.memory:.2g} GB"),
        (
            "time",
            f"about {progress.span(found.seconds)} of one core, {progress.span(found.seconds / cores)} on {cores}",
        ),
        ("parameters", _parameters(protocol)),
        *_weighed(protocol),
        *_quantified(protocol),
        ("seed", str(protocol.seed)),
    ]


def _values(protocol: Protocol, found: Plan) -> dict[str, Any]:
    runs = {name: [asdict(block) for block in blocks] for name, blocks in found.runs.items()}
    return {
        "name": protocol.name, "subjects": found.subjects, "subjects_a_replicate": protocol.subjects, "runs": runs,
        "memory_gb": found.memory, "core_seconds": found.seconds, "seed": protocol.seed,
    }  # fmt: skip


def _largest(found: Plan) -> int:
    return max((block.stop - block.first for blocks in found.runs.values() for block in blocks), default=0)


def _weighed(protocol: Protocol) -> list[tuple[str, str]]:
    plan = protocol.benefit_risk
    if plan is None:
        return []
    kinds = [c.kind for c in plan.criteria.values()]
    weights = "swing weights" if plan.swung else "weights in an order" if plan.order else "no weights"
    replicates = protocol.replicates if plan.replicates is None else min(plan.replicates, protocol.replicates)
    arms = len(plan.compared(protocol.arms))
    effects = f"{kinds.count('favourable')} favourable and {kinds.count('unfavourable')} unfavourable effects"
    return [("benefit-risk", f"{effects}, {weights}; everybody of {replicates} replicates followed in {arms} arms")]


def _quantified(protocol: Protocol) -> list[tuple[str, str]]:
    from trials.quantification import SAID

    told = [
        f"{name} below {'the limit of the model' if q.lloq is None else q.lloq} taken as {SAID[q.below]}"
        for name, q in protocol.quantification.items()
    ]
    return [("quantification", "; ".join(told))] if told else []


def _parameters(protocol: Protocol) -> str:
    choice = protocol.model
    if choice.parameters is None:
        return f"{choice.draws} draws from the published values of {choice.file} and their uncertainty"
    fitted = choice.parameters
    source = f"{', '.join(fitted.take)} from the fit of {fitted.fit} to {fitted.data}"
    return f"{choice.draws} draws, {source} (sampled first if it is not stored), the rest published"
