"""What every status of the analysis table means, whichever method gave it."""

from __future__ import annotations

__all__ = ["advice"]

NO_TARGET = 47
_OWN = {NO_TARGET: "no dose in the range studied has the effect asked for, or the dose response was not established"}


def advice(code: int) -> str:
    """One sentence for the reader of a report.

    >>> advice(44)
    'a group has no subject in any stratum that has both'
    """
    from trials.analysis.contrasts import AnalysisStatus
    from trials.analysis.regression import RegressionStatus
    from trials.analysis.survival_data import SurvivalStatus

    for kind in (AnalysisStatus, SurvivalStatus, RegressionStatus):
        if code in set(kind):
            return str(kind(code).advice)
    return _OWN.get(code, f"status {code}")
