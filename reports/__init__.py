"""What is said: the report of a run as one HTML file, and the command `vtrial`.

`write_report(record, out)` writes the report of a `trials.RunRecord`; nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.html import write as write_report
    from reports.study import Study

__all__ = ["Study", "write_report"]

_HOMES = {"Study": ("study", "Study"), "write_report": ("html", "write")}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(f"reports.{module}"), attribute)
