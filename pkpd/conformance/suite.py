"""`examine(model)`: every identity on one model, each a pass, a failure, or not applicable with the reason."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from pkpd.conformance import balance, dosing, invariance, observed
from pkpd.conformance.case import Case, NotSolved, case_of
from pkpd.conformance.evidence import Check, Conformance, Evidence, Measured, NotApplicable, Verdict
from pkpd.engine.dynamics import dynamics_of
from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["CHECKS", "examine"]

CHECKS: tuple[Check, ...] = (*observed.CHECKS, *balance.CHECKS, *dosing.CHECKS, *invariance.CHECKS)
"""Every check, in the order in which they are made."""


def examine(
    model: Model, *, only: Collection[str] | None = None, on_check: Callable[[str], None] | None = None
) -> Conformance:
    """Make every check on a model, or those named in `only`. on_check hears the name of each before it begins.

    A solve that fails is a failed check. A model that the engine does not run yet has one piece of evidence, not
    applicable, with the engine's words.

    >>> from pkpd.model.library import load
    >>> examine(load("theophylline"), only=["superposition"])["superposition"].verdict.value
    'pass'
    """
    try:
        dynamics_of(model)
    except InputError as refusal:
        return _alone(model, Verdict.NOT_APPLICABLE, refusal.problem)
    try:
        case = case_of(model)
    except NotSolved as failure:
        return _alone(model, Verdict.FAIL, str(failure))
    found = []
    for check in (c for c in CHECKS if only is None or c.name in only):
        if on_check is not None:
            on_check(check.name)
        found.append(_made(check, case))
    return Conformance(model=model.name, regimen=_regimen(case), evidence=tuple(found))


def _alone(model: Model, verdict: Verdict, reason: str) -> Conformance:
    claim = "the typical subject can be solved"
    only = Evidence(name="solved", claim=claim, verdict=verdict, reason=reason)
    return Conformance(model=model.name, regimen="none", evidence=(only,))


def _still() -> Measured:
    raise NotApplicable("the model has no states")


def _made(check: Check, case: Case) -> Evidence:
    try:
        found = check.measure(case) if case.states or not check.dynamic else _still()
    except NotApplicable as reason:
        return Evidence(name=check.name, claim=check.claim, verdict=Verdict.NOT_APPLICABLE, reason=str(reason))
    except NotSolved as failure:
        return Evidence(name=check.name, claim=check.claim, verdict=Verdict.FAIL, reason=str(failure))
    except InputError as refusal:
        return Evidence(name=check.name, claim=check.claim, verdict=Verdict.FAIL, reason=f"refused: {refusal}")
    return Evidence(
        name=check.name, claim=check.claim, value=found.value, tolerance=found.tolerance, reason=found.note,
        verdict=Verdict.PASS if found.value <= found.tolerance else Verdict.FAIL,
    )  # fmt: skip


def _regimen(case: Case) -> str:
    units = case.model.dose_units
    doses = ", ".join(f"{amount:g} {units[s]} into {s}" for s, amount in case.doses.items()) or "no doses"
    times = case.times
    constants = f"time constants {times.fast:g} to {times.slow:g} h"
    every = f"every {times.interval:g} h " if case.doses else ""
    return f"{doses} {every}to {times.horizon:g} h ({constants})"
