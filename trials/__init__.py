"""The experiment: protocol, simulation of whole trials, analyses, runs on disk.

`trials.run.run` runs a protocol, `trials.verify.verify` runs it again; nouns are here, loaded when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trials.dispatch import Mode
    from trials.protocol import Protocol
    from trials.record import RunRecord
    from trials.run import Plan, Prepared, Progress
    from trials.verify import Verdict

__all__ = ["Mode", "Plan", "Prepared", "Progress", "Protocol", "RunRecord", "Verdict"]

_HOMES = {
    "Mode": "dispatch", "Plan": "run", "Prepared": "run", "Progress": "run", "Protocol": "protocol",
    "RunRecord": "record", "Verdict": "verify",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trials' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"trials.{_HOMES[name]}"), name)
