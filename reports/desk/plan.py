"""`vtrial plan`: what a protocol will cost and what it leaves to defaults, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from trials.protocol import Protocol

__all__ = ["plan"]


def plan(file: Path, *, block_size: int | None, machine: bool) -> int:
    """Print subjects, blocks, memory, time and every default of the protocol in `file`."""
    raise NotImplementedError
