"""`vtrial report` and `vtrial verify`: a run on disk, said again or simulated again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from trials.record import RunRecord
    from trials.verify import Verdict

__all__ = ["report", "verify", "written"]


def report(directory: Path, *, machine: bool) -> int:
    """Write the report of a run again."""
    from trials.record import RunRecord

    path = written(RunRecord.read(directory))
    if machine:
        say.machine({"event": "done", "report": str(path)})
    else:
        say.result(f"report: {path}")
    return guard.OK


def written(record: RunRecord) -> Path:
    """The report of a run, written into its directory."""
    from reports import html

    return html.write(record, record.directory)


def verify(directory: Path, *, blocks: int | None, machine: bool) -> int:
    """Simulate blocks of a run again and compare; 3 where a number is not what is on disk."""
    from trials.verify import verify as verified

    with progress.listening(machine=machine) as heard:
        verdict = verified(
            directory, blocks=blocks, on_progress=lambda done, total: heard("simulate again", done, total)
        )
    if machine:
        say.machine({"event": "done", "same": verdict.same, **asdict(verdict)})
    else:
        say.result(f"{directory}: {_words(verdict)}")
    return guard.OK if verdict.same else guard.FAILED


def _words(verdict: Verdict) -> str:
    if verdict.same:
        tables = f", also {', '.join(others)}" if (others := [n for n in verdict.compared if n != "outcomes"]) else ""
        return f"{verdict.checked} blocks simulated again, every outcome table identical{tables}"
    parts = {
        "blocks differ": verdict.different, "in tables": verdict.tables, "blocks damaged": verdict.damaged,
        "inputs changed": verdict.inputs,
    }  # fmt: skip
    found = [f"{words}: {', '.join(map(str, numbers))}" for words, numbers in parts.items() if numbers]
    return f"NOT verified: {'; '.join(found) or 'no finished block'} ({verdict.checked} simulated again)"
