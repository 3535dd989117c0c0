"""Captions and column notes that several sections share, so that one quantity is always named in the same words."""

from reports.rounding import count
from reports.study import Study

MCSE = "MCSE: Monte Carlo standard error, the error left because replicates are finite in number."
SPREAD = (
    "Range of replicates: the middle 95 % of replicates' own true values; it holds the uncertainty of the population "
    "parameters and the chance of who was enrolled."
)
ONE_TRIAL = (
    "One trial would report: mean estimate over replicates and the median lower and upper limits; half of such trials "
    "would report a limit further out."
)


def replicates(study: Study) -> str:
    """How many trials and subjects the numbers stand on."""
    done = int(study.outcomes["replicate"].nunique())
    most = "at most " if len(study.outcomes) < done * study.subjects else ""
    rows = count(len(study.outcomes))
    return f"{count(done)} replicates of {most}{count(study.subjects)} subjects ({rows} subject rows)"


def interval_key(outer: str, inner: str = "95 % Monte Carlo interval of the mean") -> str:
    """What thin and thick lines mean."""
    return f"Marker: mean over replicates. Thick line: {inner}. Thin line: {outer}."


def dose_key(study: Study) -> str:
    """What dashes and open markers mean, empty when no arm is flagged."""
    flagged = [f"{arm.label} ({arm.flag})" for arm in study.arms if arm.flag]
    return f" Dashed, open marker: {'; '.join(flagged)}." if flagged else ""
