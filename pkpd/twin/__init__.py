"""The twin: one patient's data in, the posterior of that patient out, and what may be said with it.

A door of its own: `from pkpd.twin import twins`. No sampler is imported.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pkpd.twin.accounts import Account, account
    from pkpd.twin.dosing import Candidate, choose
    from pkpd.twin.fit_checks import data_checks
    from pkpd.twin.forecasting import Forecast, forecast
    from pkpd.twin.sequential import Filter, begun, updated
    from pkpd.twin.targets import Target
    from pkpd.twin.twin import Settings, Twins, twins

__all__ = [
    "Account",
    "Candidate",
    "Filter",
    "Forecast",
    "Settings",
    "Target",
    "Twins",
    "account",
    "begun",
    "choose",
    "data_checks",
    "forecast",
    "twins",
    "updated",
]

_HOMES = {
    "Account": "accounts", "Candidate": "dosing", "Filter": "sequential", "Forecast": "forecasting", "Settings": "twin",
    "Target": "targets", "Twins": "twin", "account": "accounts", "begun": "sequential", "choose": "dosing",
    "data_checks": "fit_checks", "forecast": "forecasting", "twins": "twin", "updated": "sequential",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pkpd.twin' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"pkpd.twin.{_HOMES[name]}"), name)
