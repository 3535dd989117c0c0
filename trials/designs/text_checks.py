"""From the text of a design to the plans that are solved, and what a text may not combine."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pkpd.ground.errors import InputError
from trials.designs import sequential, survival
from trials.designs.checks import checked
from trials.designs.families import family_of
from trials.designs.sequential import Plan
from trials.designs.sizes import Error

if TYPE_CHECKING:
    from trials.designs import text
    from trials.designs.text import Design
    from trials.designs.text_parts import Entry, Rates
    from trials.designs.text_scenarios import Truth

__all__ = ["accrual_of", "error_of", "hazard_of", "inside", "plan_of", "ratio_of"]

FIXED = ("one_proportion",)


def inside(design: Design) -> Design:
    """The design itself, where nothing is wrong with it. Errors: InputError with the field."""
    error_of(design)
    _combinations(design)
    plan_of(design)
    _extras(design)
    if design.simulate is not None:
        _truths(design)
    return design


def _combinations(design: Design) -> None:
    kind, looks = design.endpoint.kind, len(design.looks)
    adaptive = [name for name in ("reestimate", "select", "enrich") if getattr(design, name) is not None]
    if len(adaptive) > 1:
        problem = f"a design does one of {', '.join(adaptive)}"
        raise InputError(problem, field=adaptive[1], remedy="keep one of them, or write two designs")
    if (kind in FIXED or family_of(design) is not None) and (looks > 1 or adaptive):
        raise InputError("has no interim looks here", field="looks", value=list(design.looks), remedy="remove looks")
    if (design.efficacy is not None or design.futility is not None) and looks == 1:
        field = "efficacy" if design.efficacy is not None else "futility"
        raise InputError("needs looks", field=field, remedy="write looks: [0.5, 1]")
    if design.efficacy is None and looks > 1 and (design.reestimate is None or design.reestimate.fisher is None):
        remedy = "write {spending: lan_demets_obrien_fleming}, or {family: none} to reject only at the last look"
        raise InputError("is missing: when may a look reject?", field="efficacy", remedy=remedy)
    if adaptive and looks < 2:
        raise InputError("needs looks", field=adaptive[0], remedy="write looks: [0.5, 1]")
    if adaptive and design.error.sides == "2":
        raise InputError("must be one-sided", field="error.sides", value=2, remedy="write sides: 1 and half of alpha")
    if design.reestimate is not None and kind != "means":
        raise InputError("is for means", field="reestimate", remedy="write endpoint: {means: ...}")
    if design.select is not None and kind not in ("means", "proportions"):
        raise InputError("is for means or proportions", field="select", remedy="write endpoint: {means: ...}")
    if design.enrich is not None and kind != "means":
        raise InputError("is for means", field="enrich", remedy="write endpoint: {means: ...}")
    _unheard(design)
    if design.reestimate is not None:
        _stages(design.reestimate, looks)
    if design.enrich is not None and len(design.enrich.subjects) != looks:
        value = list(design.enrich.subjects)
        raise InputError(f"needs {looks} numbers, one a stage", field="enrich.subjects", value=value,
                         remedy="as many as there are looks")  # fmt: skip


def _unheard(design: Design) -> None:
    """What an adaptive design would not listen to is refused."""
    fisher = design.reestimate is not None and design.reestimate.fisher is not None
    if fisher and (design.efficacy is not None or design.futility is not None):
        field = "efficacy" if design.efficacy is not None else "futility"
        remedy = "remove it: reestimate.fisher has its own bounds"
        raise InputError("is not heard with Fisher's product", field=field, remedy=remedy)
    for name in ("select", "enrich"):
        if getattr(design, name) is not None and design.futility is not None:
            raise InputError(f"is not heard with {name}", field="futility", remedy=f"use {name}.threshold")
    if design.select is not None and ratio_of(design) != 1:
        value = f"{design.allocation.treated:g} : {design.allocation.control:g}"
        raise InputError("is not heard with select", field="allocation", value=value, remedy="use select.control")


def _stages(rule: text.Reestimate, looks: int) -> None:
    for name in ("subjects", "least", "most"):
        values = getattr(rule, name)
        if len(values) != looks:
            raise InputError(f"needs {looks} numbers, one a stage", field=f"reestimate.{name}", value=list(values),
                             remedy="as many as there are looks")  # fmt: skip
    if any(b <= a for a, b in zip((0.0, *rule.subjects), rule.subjects)):
        raise InputError("must increase", field="reestimate.subjects", value=list(rule.subjects),
                         remedy="cumulative numbers, for example [40, 80, 120]")  # fmt: skip
    if any(not 0 < a <= b for a, b in zip(rule.least, rule.most)):
        raise InputError("must be > 0 and not above most", field="reestimate.least", value=list(rule.least),
                         remedy="subjects of each stage, for example [40, 40, 40]")  # fmt: skip


TRUTHS = {
    "means": ("effect", "sd", "lost", "trend"),
    "proportions": ("treated", "control", "effect", "lost", "trend"),
    "survival": ("hazard_ratio", "delay", "hazard_ratios", "hazard", "accrual", "dropout"),
}


def _truths(design: Design) -> None:
    """A truth may only speak of what the design has."""
    assert design.simulate is not None
    kind = design.endpoint.kind
    family = family_of(design)
    if kind not in TRUTHS and family is None:
        raise InputError("is not simulated", field="endpoint", value=kind, remedy="remove simulate")
    m, s = design.endpoint.means, design.endpoint.survival
    if m is not None and m.groups == "1":
        raise InputError("is not simulated with one group", field="means.groups", value=1, remedy="remove simulate")
    truths = design.simulate.truths
    losses = [s.dropout, s.dropout_treated, *(t.dropout for t in truths.values())] if s is not None else []
    if any(lost is not None and len(lost.rates) > 1 for lost in losses):
        raise InputError("must have one rate in a simulation", field="dropout", remedy="write {share: 0.05, by: 12}")
    for name, truth in truths.items():
        for part in _said(truth):
            _heard(design, part, f"simulate.truths.{name}.{part}")
        _agrees(design, truth, f"simulate.truths.{name}")
        if family is not None and family.check is not None:
            family.check(design, truth, f"simulate.truths.{name}")
    for axis in design.simulate.grid:
        _heard(design, axis, f"simulate.grid.{axis}")
    _outcomes(design)


def _said(truth: Truth) -> list[str]:
    return [f.name for f in fields(truth) if getattr(truth, f.name) not in (None, (), {}, 0.0, "linear")]


def _heard(design: Design, part: str, field: str) -> None:
    """InputError where a design of this kind has nothing that `part` could change."""
    kind, family = design.endpoint.kind, family_of(design)
    known = {*(TRUTHS[kind] if family is None else family.truths)}
    if design.select is not None:
        known = {"arms", "sd"} if kind == "means" else {"arms", "control"}
    if design.enrich is not None:
        known = {"effects", "sd"}
    if design.reestimate is not None:
        known = {"effect", "sd"}
    if design.enrolment is not None:
        known.add("rate")
    if part not in known:
        raise InputError("says nothing here", field=field, remedy=f"use {', '.join(sorted(known))}")


def _agrees(design: Design, truth: Truth, field: str) -> None:
    """InputError where the parts of a truth do not go together."""
    for arm in truth.arms:
        if design.select is not None and arm not in design.select.arms:
            remedy = f"the arms are {', '.join(design.select.arms)}"
            raise InputError("is no arm", field=f"{field}.arms.{arm}", value=arm, remedy=remedy)
    if truth.effects and len(truth.effects) != 2:
        raise InputError("needs two effects", field=f"{field}.effects", value=list(truth.effects),
                         remedy="in the subgroup and in the rest")  # fmt: skip
    if truth.hazard_ratios is not None and (truth.hazard_ratio is not None or truth.delay):
        raise InputError("says the hazard ratio twice", field=f"{field}.hazard_ratios", remedy="keep one of them")
    if design.endpoint.proportions is not None and truth.effect is not None and truth.treated is not None:
        raise InputError("says the treated rate twice", field=f"{field}.effect", remedy="keep one of them")


def _outcomes(design: Design) -> None:
    """Every point of the grid must be possible; costs of time and profiles need what they are about."""
    from trials.designs.simulated import rates_of

    assert design.simulate is not None
    p = design.endpoint.proportions
    for name, truth in design.simulate.scenarios.items():
        if p is not None and design.select is None and not all(0 <= rate <= 1 for rate in rates_of(p, truth)):
            problem = f"has a rate outside 0 to 1 in {name}"
            raise InputError(
                problem, field="simulate.truths", value=rates_of(p, truth), remedy="change control or effect"
            )


def _extras(design: Design) -> None:
    """What `enrolment`, `profile` and `costs` may not say."""
    chooses = design.select is not None or design.enrich is not None or family_of(design) is not None
    if design.enrolment is not None and (design.endpoint.survival is not None or design.enrich is not None):
        remedy = "the endpoint has accrual" if design.endpoint.survival is not None else "remove it"
        raise InputError("is not heard here", field="enrolment", remedy=remedy)
    timed = design.endpoint.escalation is not None and design.endpoint.escalation.rule == "tite_crm"
    if design.enrolment is not None and timed:
        remedy = "remove it: window and every of the escalation say when subjects come and how long they are followed"
        raise InputError("is not heard here", field="enrolment", remedy=remedy)
    profile, s = design.profile, design.endpoint.survival
    if profile is not None and (chooses or design.reestimate is not None):
        raise InputError("needs a plain estimate of one effect", field="profile", remedy="remove it")
    if profile is not None and s is not None and min(profile.wanted, profile.least or s.null) <= 0:
        raise InputError("must be hazard ratios > 0", field="profile.wanted", value=profile.wanted, remedy="write 0.8")
    if design.costs is not None and design.costs.time > 0 and s is None and design.enrolment is None and not timed:
        remedy = "write enrolment: {rate: 20, follow_up: 3}"
        raise InputError("needs to know how long the trial takes", field="costs.time", remedy=remedy)


def error_of(design: Design) -> Error:
    return Error(alpha=design.error.alpha, sides=int(design.error.sides), power=design.error.power)


def ratio_of(design: Design) -> float:
    return design.allocation.treated / design.allocation.control


def plan_of(design: Design) -> Plan:
    """The group-sequential plan, checked; one look without a rule is a fixed design."""
    efficacy, futility = design.efficacy, design.futility
    fixed = sequential.Efficacy(family="none")
    return checked(Plan(
        information=design.looks, alpha=design.error.alpha, sides=int(design.error.sides), power=design.error.power,
        efficacy=fixed if efficacy is None else sequential.Efficacy(**_values(efficacy)),
        futility=None if futility is None else sequential.Futility(**_values(futility)),
    ))  # fmt: skip


def _values(noun: Any) -> dict[str, Any]:
    return {f.name: getattr(noun, f.name) for f in fields(noun)}


def hazard_of(rates: Rates | None, field: str) -> survival.Hazard:
    """The hazard a text means; none is 0."""
    if rates is None:
        return survival.NONE
    try:
        if rates.median is not None:
            return survival.Hazard.median(rates.median)
        if rates.rate is not None:
            return survival.Hazard.constant(rates.rate)
        if rates.share is not None:
            return survival.Hazard.share(rates.share, rates.by or math.nan)
        return survival.Hazard(starts=rates.starts, rates=rates.rates)
    except InputError as error:
        raise InputError(error.problem, field=field, value=error.value, remedy=error.remedy) from None


def accrual_of(entry: Entry) -> survival.Accrual:
    if entry.duration is not None:
        return survival.Accrual.uniform(entry.duration)
    intensities = entry.intensities or (1.0,) * (len(entry.times) - 1)
    return survival.Accrual(times=entry.times, intensities=intensities)
