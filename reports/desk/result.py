"""`vtrial report` and `vtrial verify`: a run on disk, said again or simulated again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import guard, say

if TYPE_CHECKING:
    from trials.record import RunRecord

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
    raise NotImplementedError
