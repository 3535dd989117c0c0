"""A design text solved: boundaries, sample size, what to expect; simulated where asked. Plain data for page and JSON.

solved(design)          no simulation
simulated(design, n)    each truth of the text, n trials
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials.designs import counts, sizes, text_checks
from trials.designs.characteristics import Characteristics
from trials.designs.families import family_of
from trials.designs.sequential import Boundaries, boundaries
from trials.designs.sequential_size import SequentialSurvival, sequential_size, sequential_survival
from trials.designs.sizes import Size
from trials.designs.survival import Times
from trials.designs.text_scenarios import Truth

if TYPE_CHECKING:
    from trials.designs import text
    from trials.designs.text import Design

__all__ = ["solved", "survival_of", "times_of", "times_under"]

Floats = NDArray[np.float64]


def solved(design: Design) -> dict[str, Any]:
    """Everything that needs no simulation, as plain data: `bounds`, `size`, `expected`, `remarks`.

    >>> from trials.designs.text import Design
    >>> made = solved(Design.parse("{vtrial: design/1, name: a, endpoint: {means: {effect: 0.5, sd: 1}}}"))
    >>> made["size"]["subjects"], made["size"]["total"]
    (172, 170.06...)
    """
    kind = design.endpoint.kind
    out: dict[str, Any] = {
        "design": design.name, "about": design.about, "endpoint": kind, "alpha": design.error.alpha,
        "sides": int(design.error.sides), "power": design.error.power,
    }  # fmt: skip
    if design.select is not None or design.enrich is not None or design.reestimate is not None:
        del out["power"]  # that of the plan without adaptation
        return {**out, **_adaptive(design)}
    if kind == "survival":
        return {**out, **_survival(design)}
    family = family_of(design)
    if family is not None:
        made = {**out, **family.solved(design)}
        return {name: value for name, value in made.items() if value is not None}
    fixed, remarks = _fixed(design)
    if len(design.looks) == 1:
        return {**out, "size": _size(fixed), "remarks": remarks}
    found = sequential_size(text_checks.plan_of(design), fixed.total)
    split = sizes.split(found.maximum, text_checks.ratio_of(design))
    one = math.isnan(fixed.treated)
    unit = {"subjects": found.looks}
    return {
        **out,
        "size": _size(Size(total=found.maximum) if one else split),
        "fixed": _size(fixed),
        "bounds": _bounds(found.bounds, found.characteristics, unit, _scale(design)),
        "expected": _expected(found.characteristics, fixed.total, "subjects"),
        "remarks": remarks,
    }


def _fixed(design: Design) -> tuple[Size, list[str]]:
    """Size of the fixed design and what one should know about it."""
    error, ratio, endpoint = text_checks.error_of(design), text_checks.ratio_of(design), design.endpoint
    if endpoint.means is not None:
        return _means(design, endpoint.means)
    if endpoint.proportions is not None:
        p = endpoint.proportions
        size = sizes.proportions_size(
            error, treated=p.treated, control=p.control, null=p.null, ratio=ratio, measure=p.measure
        )
        return size, ["score test (Farrington-Manning); normal approximation"]
    if endpoint.one_proportion is not None:
        one = endpoint.one_proportion
        word = "exact binomial test; a few larger sizes may have less power" if one.exact else "normal approximation"
        return sizes.binomial_size(error, rate=one.rate, null=one.null, exact=one.exact), [word]
    assert endpoint.counts is not None
    return _counts(design, endpoint.counts), ["negative binomial regression, Wald test of the log rate ratio"]


def _means(design: Design, m: text.Means) -> tuple[Size, list[str]]:
    groups = int(m.groups)
    size = sizes.means_size(
        text_checks.error_of(design), effect=m.effect, sd=m.sd, margin=m.margin, ratio=text_checks.ratio_of(design),
        groups=groups, method="t" if m.test == "t" else "normal",
    )  # fmt: skip
    word = "exact, noncentral t" if m.test == "t" else "known standard deviation"
    if m.test == "t" and len(design.looks) > 1:
        word += " for the fixed design, inflated for the looks (approximate: simulate at small sizes)"
    return size, [word]


def _counts(design: Design, c: text.Counts) -> Size:
    exposure = counts.Exposure(
        fixed=c.exposure, accrual=None if c.accrual is None else text_checks.accrual_of(c.accrual),
        follow_up=c.follow_up, dropout=text_checks.hazard_of(c.dropout, "dropout"),
    )  # fmt: skip
    return counts.counts_size(
        text_checks.error_of(design), control=c.control, rate_ratio=c.rate_ratio, overdispersion=c.overdispersion,
        exposure=exposure, null=c.null, ratio=text_checks.ratio_of(design),
    )  # fmt: skip


def times_of(design: Design) -> Times:
    """Hazards, accrual, dropout and allocation of a survival design."""
    return times_under(design, Truth())


def times_under(design: Design, truth: Truth) -> Times:
    """The same where a truth says otherwise: another hazard ratio (in pieces), control, accrual or dropout."""
    from trials.designs.survival import Hazard

    s = design.endpoint.survival
    assert s is not None
    control = text_checks.hazard_of(truth.hazard or s.control, "control")
    lost = text_checks.hazard_of(truth.dropout or s.dropout, "dropout")
    apart = None if truth.dropout is not None else s.dropout_treated
    treated_lost = lost if apart is None else text_checks.hazard_of(apart, "dropout_treated")
    ratio = s.hazard_ratio if truth.hazard_ratio is None else truth.hazard_ratio
    factors = Hazard(starts=(0.0, truth.delay), rates=(1.0, ratio)) if truth.delay > 0 else Hazard.constant(ratio)
    if truth.hazard_ratios is not None:
        factors = text_checks.hazard_of(truth.hazard_ratios, "hazard_ratios")
    return Times(
        treated=control.changed(factors), control=control,
        accrual=text_checks.accrual_of(truth.accrual or s.accrual), dropout_treated=treated_lost,
        dropout_control=lost, ratio=text_checks.ratio_of(design),
    )  # fmt: skip


def survival_of(design: Design) -> SequentialSurvival:
    """The solved survival design, of one look or more."""
    s = design.endpoint.survival
    assert s is not None
    return sequential_survival(
        text_checks.plan_of(design), times_of(design), hazard_ratio=s.hazard_ratio, null=s.null, method=s.method,
        follow_up=s.follow_up, subjects=s.subjects,
    )  # fmt: skip


def _survival(design: Design) -> dict[str, Any]:
    found = survival_of(design)
    s, e, ratio = design.endpoint.survival, found.events, text_checks.ratio_of(design)
    assert s is not None
    unit = {"events": e.looks, "time": found.times, "entered": found.entered}
    spread = (1 + ratio) / np.sqrt(ratio * e.looks)
    out: dict[str, Any] = {
        "size": {
            **_size(found.subjects), "events": e.maximum, "whole_events": sizes._up(e.maximum),
            "duration": found.duration, "follow_up": found.duration - times_of(design).accrual.duration,
        },
        "remarks": [f"log-rank test, events by {s.method}", "times and durations are means under the stated hazards"],
    }  # fmt: skip
    if len(design.looks) == 1:
        return out
    return {
        **out,
        "bounds": _bounds(e.bounds, e.characteristics, unit, lambda z: s.null * np.exp(-z * spread)),
        "expected": {
            **_expected(e.characteristics, e.maximum / e.characteristics.inflation, "events"),
            "duration_effect": found.expected_duration, "subjects_effect": found.expected_subjects,
        },
    }  # fmt: skip


def _adaptive(design: Design) -> dict[str, Any]:
    """Bounds of a combination test; sizes are those the text says."""
    remarks = ["stages are combined with the planned weights; power and size by simulation"]
    rule = design.reestimate
    if rule is not None and rule.fisher is not None:
        return {
            "bounds": _fisher_rows(design, rule),
            "size": {"subjects": round(rule.subjects[-1])},
            "remarks": remarks,
        }
    bounds = boundaries(text_checks.plan_of(design))
    rows = _bounds(bounds, None, _planned(design), None)  # P(reject) of the plan is not that of the adaptive design
    size = {"subjects": round(float(next(iter(_planned(design).values()))[-1]))}
    return {"bounds": rows, "size": size, "remarks": remarks}


def _planned(design: Design) -> dict[str, Floats]:
    looks = np.arange(1.0, len(design.looks) + 1.0)
    if design.reestimate is not None:
        return {"subjects": np.array(design.reestimate.subjects)}
    if design.select is not None:
        control = design.select.control or design.select.each
        return {"at_most": np.asarray(looks * float(len(design.select.arms) * design.select.each + control))}
    assert design.enrich is not None
    return {"subjects": np.cumsum(design.enrich.subjects)}


def _fisher_rows(design: Design, rule: text.Reestimate) -> list[dict[str, Any]]:
    from trials.designs.combination import fisher_bounds, fisher_spent

    plan = fisher_plan(design)
    critical = fisher_bounds(plan)
    spent = np.cumsum(fisher_spent(plan, critical.tolist()))
    futility = [*plan.futility, None] if plan.futility else [None] * len(critical)
    return [
        {"look": k + 1, "information": plan.information[k], "subjects": rule.subjects[k],
         "critical_product": float(critical[k]), "futility_p": futility[k], "alpha_spent": float(spent[k])}
        for k in range(len(critical))
    ]  # fmt: skip


def fisher_plan(design: Design) -> Any:
    """The Fisher combination of a re-estimation text."""
    from trials.designs.combination import FisherPlan

    assert design.reestimate is not None
    assert design.reestimate.fisher is not None
    f = design.reestimate.fisher
    return FisherPlan(
        information=design.looks, alpha=design.error.alpha, method=f.method, futility=f.futility, critical=f.critical
    )


def _scale(design: Design) -> Any:
    """From z to the effect observed there, where that is a plain function of the size."""
    m = design.endpoint.means
    if m is None:
        return None
    fixed = sequential_size(text_checks.plan_of(design), _fixed(design)[0].total).looks
    spread = m.sd * np.sqrt(sizes._spread(text_checks.ratio_of(design), int(m.groups)) / fixed)
    return lambda z: m.margin + z * spread


def _size(size: Size) -> dict[str, Any]:
    out: dict[str, Any] = {"subjects": size.whole, "total": size.total}
    if not math.isnan(size.treated):
        out |= {"treated": size.treated, "control": size.control}
    return out


def _expected(found: Characteristics, fixed: float, unit: str) -> dict[str, Any]:
    return {
        "inflation": found.inflation,
        f"{unit}_effect": fixed * found.expected_effect,
        f"{unit}_half_effect": fixed * found.expected_half,
        f"{unit}_no_effect": fixed * found.expected_null,
    }


def _bounds(
    bounds: Boundaries, found: Characteristics | None, unit: dict[str, Floats], scale: Any
) -> list[dict[str, Any]]:
    """One row a look; None where there is no bound."""
    lower = np.where(np.isfinite(bounds.lower), bounds.lower, np.nan)
    columns: dict[str, Floats] = {
        "information": bounds.information, **unit, "critical_z": bounds.upper, "stage_level": bounds.stage_level,
        "alpha_spent": bounds.alpha_spent, "futility_z": lower, "beta_spent": bounds.beta_spent,
    }  # fmt: skip
    if scale is not None:
        columns["effect_at_critical"] = scale(bounds.upper)
    if found is not None:
        columns |= _passages(found)
    return [
        {"look": k + 1, **{name: _plain(values[k]) for name, values in columns.items()}}
        for k in range(len(bounds.upper))
    ]


def _passages(found: Characteristics) -> dict[str, Floats]:
    return {
        "reject_effect": found.under_effect.reject, "stop_effect": found.under_effect.stop,
        "reject_no_effect": found.under_null.reject + found.under_null.wrong, "stop_no_effect": found.under_null.stop,
    }  # fmt: skip


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
