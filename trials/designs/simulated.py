"""A design text simulated under each of its truths: operating characteristics with Monte Carlo standard errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from trials.comparison import Sample, estimated
from trials.designs import sizes, text_checks
from trials.designs.adaptive import Combination, Reestimation, simulated_reestimation
from trials.designs.designed import fisher_plan, survival_of, times_under
from trials.designs.families import family_of
from trials.designs.selection import (
    Choice,
    Chosen,
    simulated_arms_means,
    simulated_arms_rates,
    simulated_enrichment,
)
from trials.designs.sequential import Boundaries, boundaries
from trials.designs.sequential_size import sequential_size
from trials.designs.simulate import Disturbance, Simulated, simulated_means, simulated_rates
from trials.designs.simulate_survival import simulated_survival
from trials.operating import Estimate

if TYPE_CHECKING:
    from trials.designs.text import Design, Proportions
    from trials.designs.text_scenarios import Truth

__all__ = ["drawn", "looks_of", "simulated"]


def simulated(design: Design, replicates: int | None = None) -> list[dict[str, Any]]:
    """One row a truth (and point of the grid), as plain data. All truths and designs of a seed meet the same subjects.

    replicates: instead of the text's number (with `mcse`, what any probability needs: 1/(4 mcse^2)). A text without
    `simulate` gives no rows.
    """
    if design.simulate is None:
        return []
    asked = design.simulate
    enough = None if asked.mcse is None else min(math.ceil(0.25 / asked.mcse**2), asked.most)
    runs = replicates or enough or asked.replicates
    family = family_of(design)
    chance = {"seed": design.simulate.seed, "replicates": runs}
    return [
        {"truth": name, **(_row(design, drawn(design, truth, chance)) if family is None else
                           _measured(family.samples(design, truth, (asked.seed, np.arange(runs)))))}
        for name, truth in design.simulate.scenarios.items()
    ]  # fmt: skip


def _measured(found: dict[str, Sample]) -> dict[str, Any]:
    """A row of a design with rules of its own; its main probability is called power."""
    main, *others = found
    rows = {name: _plain(estimated(found[name])) for name in others if name != "type_i_error"}
    labels = {"power": found[main].label, **{name: found[name].label for name in rows}}
    return {"power": _plain(estimated(found[main])), **rows, "labels": labels}


def drawn(design: Design, truth: Truth, chance: dict[str, Any]) -> Simulated | Chosen:
    """Trials of a design under one truth; chance: seed and replicates (how many, or which)."""
    if design.reestimate is not None:
        return _reestimation(design, truth, chance)
    if design.select is not None:
        return _selection(design, truth, chance)
    if design.enrich is not None:
        return _enrichment(design, truth, chance)
    if design.endpoint.survival is not None:
        return _survival(design, truth, chance)
    return _two_arms(design, truth, chance)


def _row(design: Design, found: Simulated | Chosen) -> dict[str, Any]:
    out: dict[str, Any] = {"power": _plain(found.power)}
    if isinstance(found, Simulated):
        out["reject_by_look"] = [_plain(e) for e in found.reject_by_look]
        if np.isfinite(found.time).any():
            out |= {"duration": _plain(found.expected_time), "events": _plain(found.expected_events)}
    else:
        names = list(design.select.arms) if design.select is not None else ["subgroup", "everybody"]
        out["success_by_look"] = [_plain(e) for e in found.success_by_stage]
        out["reject"] = {name: _plain(e) for name, e in zip(names, found.reject_each)}
        out["in_last_stage"] = {name: _plain(e) for name, e in zip(names, found.selected(found.stages - 1))}
    return {**out, "stop_futile": _plain(found.futility), "subjects": _plain(found.expected_subjects)}


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "mcse": estimate.mcse, "n": estimate.n}


def _bounds(design: Design) -> Boundaries:
    return boundaries(text_checks.plan_of(design))


def looks_of(design: Design) -> list[int]:
    """Whole cumulative subjects at the looks of a design for means or proportions, each group rounded up."""
    error, ratio, m, p = text_checks.error_of(design), text_checks.ratio_of(design), design.endpoint.means, None
    if m is not None:
        method = "t" if m.test == "t" else "normal"
        size = sizes.means_size(error, effect=m.effect, sd=m.sd, margin=m.margin, ratio=ratio, method=method)
    else:
        p = design.endpoint.proportions
        assert p is not None
        size = sizes.proportions_size(
            error, treated=p.treated, control=p.control, null=p.null, ratio=ratio, measure=p.measure
        )
    looks = sequential_size(text_checks.plan_of(design), size.total).looks
    return [sizes.split(float(n), ratio).whole for n in looks]


def _two_arms(design: Design, truth: Truth, chance: dict[str, Any]) -> Simulated:
    ratio, m = text_checks.ratio_of(design), design.endpoint.means
    disturbed = Disturbance(lost=truth.lost, trend=truth.trend)
    if m is not None:
        return simulated_means(
            _bounds(design), looks_of(design), effect=_or(truth.effect, m.effect), sd=_or(truth.sd, m.sd),
            ratio=ratio, margin=m.margin, test=m.test, disturbed=disturbed, **chance,
        )  # fmt: skip
    p = design.endpoint.proportions
    assert p is not None
    treated, control = rates_of(p, truth)
    return simulated_rates(
        _bounds(design), looks_of(design), treated=treated, control=control, null=p.null, measure=p.measure,
        ratio=ratio, disturbed=disturbed, **chance,
    )  # fmt: skip


def rates_of(p: Proportions, truth: Truth) -> tuple[float, float]:
    """True rates of treated and control."""
    control = _or(truth.control, p.control)
    return (_or(truth.treated, p.treated) if truth.effect is None else control + truth.effect), control


def _or(said: float | None, assumed: float) -> float:
    return assumed if said is None else said


def _survival(design: Design, truth: Truth, chance: dict[str, Any]) -> Simulated:
    solved, s = survival_of(design), design.endpoint.survival
    assert s is not None
    events = np.array([sizes._up(float(d)) for d in solved.events.looks], dtype=np.int64)
    return simulated_survival(
        solved.events.bounds, events, times_under(design, truth), subjects=solved.subjects.whole, null=s.null, **chance
    )


def _reestimation(design: Design, truth: Truth, chance: dict[str, Any]) -> Simulated:
    rule, m = design.reestimate, design.endpoint.means
    assert rule is not None
    assert m is not None
    test = Combination(bounds=_bounds(design)) if rule.fisher is None else Combination(fisher=fisher_plan(design))
    sd = _or(truth.sd, m.sd)
    asked = Reestimation(
        power=rule.conditional_power, least=rule.least, most=rule.most,
        effect=None if rule.effect is None else (rule.effect - m.margin) / m.sd,
    )  # fmt: skip
    return simulated_reestimation(
        test, asked, rule.subjects, effect=(_or(truth.effect, m.effect) - m.margin) / sd,
        ratio=text_checks.ratio_of(design), statistic=m.test, **chance,
    )  # fmt: skip


def _selection(design: Design, truth: Truth, chance: dict[str, Any]) -> Chosen:
    s, m, p = design.select, design.endpoint.means, design.endpoint.proportions
    assert s is not None
    choice = Choice(kind=s.choice, number=s.number, epsilon=s.epsilon, threshold=_or(s.threshold, -np.inf))
    size = [[s.control or s.each, *([s.each] * len(s.arms))]] * len(design.looks)
    values = [truth.arms.get(arm, assumed) for arm, assumed in s.arms.items()]
    rules: dict[str, Any] = {"choice": choice, "intersection": s.intersection, "success": s.success}
    if m is not None:
        return simulated_arms_means(_bounds(design), size, effects=values, sd=_or(truth.sd, m.sd), **rules, **chance)
    assert p is not None
    control = _or(truth.control, p.control)
    return simulated_arms_rates(_bounds(design), size, rates=values, control=control, **rules, **chance)


def _enrichment(design: Design, truth: Truth, chance: dict[str, Any]) -> Chosen:
    e, m = design.enrich, design.endpoint.means
    assert e is not None
    assert m is not None
    own, rest = truth.effects or e.effects
    choice = Choice(kind=e.choice, epsilon=e.epsilon, threshold=_or(e.threshold, -np.inf))
    return simulated_enrichment(
        _bounds(design), e.subjects, prevalence=e.prevalence, effects=(own, rest), sd=_or(truth.sd, m.sd),
        choice=choice, intersection=e.intersection, success=e.success, ratio=text_checks.ratio_of(design), **chance,
    )  # fmt: skip
