"""What a group-sequential plan may not say; each error names the field, the value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pkpd.ground.errors import InputError
from trials.designs import spending
from trials.designs.sequential import FAMILIES, GIVEN, Efficacy, Futility, Plan

__all__ = ["checked", "increasing"]


def checked(plan: Plan) -> Plan:
    """The plan itself, where nothing is wrong with it."""
    increasing(plan.information, "looks")
    if not 0 < plan.alpha < 0.5 * plan.sides:
        raise InputError("must be between 0 and 0.5 a side", field="alpha", value=plan.alpha, remedy="write 0.025")
    if plan.sides not in (1, 2):
        raise InputError("must be 1 or 2", field="sides", value=plan.sides, remedy="write 1 or 2")
    if not plan.alpha / plan.sides < plan.power < 1:
        raise InputError("must lie between alpha and 1", field="power", value=plan.power, remedy="write 0.9")
    _efficacy(plan.efficacy, len(plan.information), plan.alpha)
    if plan.futility is not None:
        _futility(plan.futility, plan)
    return plan


def increasing(fractions: Sequence[float], field: str) -> None:
    """Information fractions: above 0, strictly increasing, the last 1."""
    if not fractions:
        raise InputError("needs at least one look", field=field, remedy="write [1] for a fixed design")
    for before, now in zip((0.0, *fractions), fractions, strict=False):
        if not before < now:
            problem = "information fractions must increase from above 0"
            raise InputError(problem, field=field, value=list(fractions), remedy="write for example [0.5, 0.75, 1]")
    if abs(fractions[-1] - 1) > 1e-12:
        problem = "the last information fraction must be 1"
        raise InputError(problem, field=field, value=fractions[-1], remedy="divide by the maximum information")


def _efficacy(rule: Efficacy, looks: int, alpha: float) -> None:
    if (rule.family is None) == (rule.spending is None):
        problem = "alpha would be spent twice" if rule.family else "says no rule"
        remedy = "keep one of family and spending"
        value = f"{rule.family} and {rule.spending}" if rule.family else None
        raise InputError(problem, field="efficacy", value=value, remedy=remedy)
    if rule.family is not None and rule.family not in FAMILIES:
        remedy = f"use {', '.join(FAMILIES)}"
        raise InputError("is no boundary family", field="efficacy.family", value=rule.family, remedy=remedy)
    if rule.family == "haybittle_peto" and not rule.early > 0:
        raise InputError("must be > 0", field="efficacy.early", value=rule.early, remedy="write 3")
    if rule.spending is not None:
        _spender((rule.spending, rule.shape), rule.cumulative, looks, ("efficacy", alpha))


def _futility(rule: Futility, plan: Plan) -> None:
    looks = len(plan.information)
    if bool(rule.z) == (rule.spending is not None):
        problem = "beta would be spent twice" if rule.z else "says no rule"
        raise InputError(problem, field="futility", remedy="keep one of z and spending")
    if rule.spending is not None:
        _spender((rule.spending, rule.shape), rule.cumulative, looks, ("futility", 1 - plan.power))
    elif len(rule.z) != looks - 1:
        problem = f"needs {looks - 1} values, one for each look but the last"
        raise InputError(problem, field="futility.z", value=list(rule.z), remedy="write -6 where none may stop")


def _spender(rule: tuple[str, float], cumulative: tuple[float, ...], looks: int, total: tuple[str, float]) -> None:
    """A spending function, or what is given instead: non-decreasing, the total at the end."""
    (name, shape), (field, error) = rule, total
    if name != GIVEN:
        try:
            spending.spent(name, [1.0], error, shape=shape)
        except InputError as wrong:
            raise InputError(
                wrong.problem, field=f"{field}.{wrong.field}", value=wrong.value, remedy=wrong.remedy
            ) from None
        return
    values, where = np.array(cumulative), f"{field}.cumulative"
    if len(values) != looks:
        remedy = "error spent up to each look"
        raise InputError(f"needs {looks} values, one a look", field=where, value=list(cumulative), remedy=remedy)
    if values[0] < 0 or np.any(np.diff(values) < 0):
        remedy = "write what is spent up to each look, not at it"
        raise InputError("is cumulative: it must not fall", field=where, value=list(cumulative), remedy=remedy)
    if abs(values[-1] - error) > 1e-9:
        problem = f"must end at {error:g}, all that may be spent"
        raise InputError(problem, field=where, value=list(cumulative), remedy="change the last value")
