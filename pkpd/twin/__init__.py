"""The twin: one patient's data in, the posterior of that patient out, and what may be said with it.

A door of its own: `from pkpd.twin import twins`. No sampler is imported.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pkpd.twin.twin import Settings, Twins, twins

__all__ = ["Settings", "Twins", "twins"]

_HOMES = {"Settings": "twin", "Twins": "twin", "twins": "twin"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pkpd.twin' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"pkpd.twin.{_HOMES[name]}"), name)
