"""Calibration of the fit: 300 fits of each of three models from narrow stated priors, `examples/sbc`."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

from tests.bench.harness import Measured, row

EXAMPLES = Path(__file__).parents[2] / "examples" / "sbc"


@cache
def study(name: str):
    """The whole study of an example, some minutes."""
    from pkpd.bayes.sbc import calibrated, prepared, summary
    from pkpd.bayes.sbc_design import StudyDesign
    from pkpd.model.spec import Model

    made = prepared(Model.read(EXAMPLES / f"{name}.yaml"), StudyDesign.read(EXAMPLES / f"{name}_design.yaml"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return summary(made, list(calibrated(made)))


def failed(name: str) -> Measured:
    found = study(name)
    told = ", ".join(f"{n}: {reason}" for reason, n in found.failures.items()) or "none"
    return Measured(found.failed, f"{found.counted} of {found.fits} fits count; failed: {told}")


def least_p(name: str) -> Measured:
    """The least chi-squared p (20 bins, 19 df) times the number of quantities."""
    found = study(name)
    worst = min(found.quantities, key=lambda q: q.p)
    note = (
        f"least p {worst.p:.3g} ({worst.name}) of {len(found.quantities)} quantities, the joint log density among them"
    )
    return Measured(worst.p * len(found.quantities), note)


def coverage(name: str) -> Measured:
    """Coverage of central 90 % intervals, all quantities together."""
    found = study(name)
    each = [q.coverage["0.9"] for q in found.quantities]
    return Measured(sum(each) / len(each), f"from {min(each):.3f} to {max(each):.3f} over {len(each)} quantities")


def seconds(name: str) -> Measured:
    found = study(name)
    return Measured(found.seconds / found.fits, f"mean of {found.fits} fits, 2 chains, one compiled density")


@row("sbc.oral.failed", unit="share of 300 fits", bar="<= 0.02")
def oral_failed() -> Measured:
    return failed("oral")


@row("sbc.oral.p", unit="p x quantities", bar="> 0.001")
def oral_p() -> Measured:
    return least_p("oral")


@row("sbc.oral.coverage_90", unit="share", bar="0.88 .. 0.92")
def oral_coverage() -> Measured:
    return coverage("oral")


@row("sbc.oral.cpu", unit="CPU s a fit", bar="<= 1.5")
def oral_cpu() -> Measured:
    return seconds("oral")


@row("sbc.turnover.failed", unit="share of 300 fits", bar="<= 0.02")
def turnover_failed() -> Measured:
    return failed("turnover")


@row("sbc.turnover.p", unit="p x quantities", bar="> 0.001")
def turnover_p() -> Measured:
    return least_p("turnover")


@row("sbc.turnover.coverage_90", unit="share", bar="0.88 .. 0.92")
def turnover_coverage() -> Measured:
    return coverage("turnover")


@row("sbc.turnover.cpu", unit="CPU s a fit", bar="<= 1.5")
def turnover_cpu() -> Measured:
    return seconds("turnover")


@row("sbc.occasions.failed", unit="share of 300 fits", bar="<= 0.02")
def occasions_failed() -> Measured:
    return failed("occasions")


@row("sbc.occasions.p", unit="p x quantities", bar="> 0.001")
def occasions_p() -> Measured:
    return least_p("occasions")


@row("sbc.occasions.coverage_90", unit="share", bar="0.88 .. 0.92")
def occasions_coverage() -> Measured:
    return coverage("occasions")
