"""Rules of a trial with interim looks: critical values for what was seen, statistics of an analysis, exact inference.

Pure functions of numbers. The information of a look is a count of events or subjects; the plan's error is spent by the
planned fractions, and where a trial looked at other counts (too few events in the end, looks on calendar days) critical
values are solved again for the counts it had. Statistics are z of the analysis' own p-value, so that t tests, score
tests and exact tests keep their law; effects point towards benefit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from trials.designs import inference, sequential, spending
from trials.designs.sequential import Boundaries, Plan, boundaries
from trials.methods import METHODS, Question

if TYPE_CHECKING:
    from trials.estimand import Analysis
    from trials.methods import Table
    from trials.planned import Interims

__all__ = ["Exact", "Statistic", "adapted", "exact", "plan_of", "ratio_scale", "statistic", "tested"]

Floats = NDArray[np.float64]
RATIOS = (
    "hazard_ratio", "rmst_ratio", "rate_ratio", "win_ratio", "win_odds", "risk_ratio", "odds_ratio",
    "common_odds_ratio",
)  # fmt: skip


def tested(analysis: Analysis) -> tuple[float, str]:
    """Alpha and side of the test of an analysis; of one that has an interval only, those of its level."""
    uses = METHODS[analysis.method].uses
    alpha = analysis.alpha if "alpha" in uses else round(1.0 - analysis.level, 12)
    return alpha, analysis.side if "side" in uses else "two"


def ratio_scale(summary: str) -> bool:
    """Whether estimates are ratios, analysed by their logarithms."""
    return summary in RATIOS


def plan_of(interims: Interims, analysis: Analysis) -> Plan:
    """The group-sequential plan of a protocol's looks."""
    alpha, side = tested(analysis)
    given, futility = interims.efficacy, interims.futility
    efficacy = sequential.Efficacy(
        family=given.family, spending=given.spending, shape=given.shape, early=given.early, cumulative=given.cumulative
    )
    lower = None if futility is None else sequential.Futility(
        z=futility.z, spending=futility.spending, shape=futility.shape, cumulative=futility.cumulative,
        binding=futility.binding,
    )  # fmt: skip
    return Plan(
        information=interims.fractions, alpha=alpha, sides=2 if side == "two" else 1, efficacy=efficacy,
        futility=lower, power=0.9 if futility is None else futility.power,
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def adapted(plan: Plan, counts: tuple[int, ...], planned: tuple[int, ...]) -> Boundaries:
    """Bounds for looks at `counts` where `planned` were planned; a count of 0 is a look that was not held.

    Equal counts give the plan's own bounds. Else each look has spent what its count is worth of the plan's maximum, the
    last spends all that is left; futility bounds stay as planned. A boundary family has no spending: its critical
    values stay too.
    """
    whole = boundaries(plan)
    if counts == planned:
        return whole
    held = [k for k, count in enumerate(counts) if count > 0]
    upper, lower = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    if not held:  # nothing happened to the end: nothing is shown, no alpha is spent
        return replace(whole, upper=upper, lower=lower)
    lower[held] = whole.lower[held]
    upper[held] = _spent(plan, whole, [counts[k] for k in held], (planned[-1], held))
    return replace(whole, upper=upper, lower=lower)


def _spent(plan: Plan, whole: Boundaries, seen: list[int], at: tuple[int, list[int]]) -> Floats:
    most, held = at
    rule = plan.efficacy
    if rule.spending is None:
        return np.asarray(whole.upper[held])
    if rule.spending == sequential.GIVEN:
        used = np.array(rule.cumulative)[held]
    else:
        fraction = np.minimum(np.array(seen) / most, 1.0)
        used = spending.spent(rule.spending, fraction, plan.alpha, shape=rule.shape, sides=plan.sides)
    used = np.append(np.minimum(used, plan.alpha)[:-1], plan.alpha)
    futility = None
    if plan.futility is not None and plan.futility.binding and len(held) > 1:
        futility = sequential.Futility(z=tuple(whole.lower[held][:-1].tolist()), binding=True)
    information = tuple(count / seen[-1] for count in seen)
    given = sequential.Efficacy(spending=sequential.GIVEN, cumulative=tuple(used.tolist()))
    return boundaries(replace(plan, information=information, efficacy=given, futility=futility)).upper


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One look at an analysis, arrays (R, G) by contrast: z, effect (of ratios the logarithm) towards benefit, and its
    standard error, such that effect / se is z.
    """

    z: Floats
    effect: Floats
    se: Floats


def statistic(question: Question, found: Table) -> Statistic:
    """z from the p-value and the side the estimate is on; NaN where the analysis has no answer."""
    _, side = tested(question.analysis)
    ratio = ratio_scale(question.estimand.summary)
    shape = (len(np.asarray(found["estimate"])), question.arms - 1)
    estimate, p, se = (_wide(found.get(name), shape) for name in ("estimate", "p", "se"))
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = (np.log(estimate) if ratio else estimate) * (-1.0 if side == "less" else 1.0)
        p = np.where(np.isfinite(effect), np.clip(p, 1e-300, 1.0 - 1e-16), np.nan)
        z = np.sign(effect) * -ndtri(p / 2) if side == "two" else -ndtri(p)
        implied = np.where(np.abs(z) > 0.05, np.abs(effect / z), np.nan)
    own = np.where(np.isfinite(se) & (se > 0), se, _half_width(question, found, shape))
    return Statistic(z=z, effect=effect, se=np.where(np.isfinite(implied) & (effect * z > 0), implied, own))


def _wide(value: Any, shape: tuple[int, int]) -> Floats:
    """A column of a method's table as (R, G), NaN where it has none."""
    made = np.full(shape, np.nan) if value is None else np.asarray(value, dtype=np.float64)
    return np.broadcast_to(made if made.ndim == 2 else made[:, None], shape).copy()


def _half_width(question: Question, found: Table, shape: tuple[int, int]) -> Floats:
    """A standard error read off the interval, for methods that give none."""
    alpha, side = tested(question.analysis)
    lower, upper = _wide(found.get("lower"), shape), _wide(found.get("upper"), shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        if ratio_scale(question.estimand.summary):
            lower, upper = np.log(lower), np.log(upper)
        return np.asarray((upper - lower) / (2 * -ndtri(alpha / 2 if side == "two" else alpha)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """What a trial that ended says (R,): p-value, median-unbiased effect, its exact limits, limits of the repeated
    interval; effects towards benefit, of ratios logarithms. Limits have the error alpha / sides on each side.
    """

    p: Floats
    unbiased: Floats
    lower: Floats
    upper: Floats
    repeated_lower: Floats
    repeated_upper: Floats


def exact(bounds: Boundaries, counts: tuple[int, ...], look: NDArray[np.int64], seen: Statistic) -> Exact:
    """Inference by the stage-wise ordering for trials (R,) that ended at `look`, all with the same counts.

    seen: statistics (R, 1) at the end. p and limits are those of the test: futility stops belong to its law only where
    they are binding. The median-unbiased effect is that of the trial as it is run, which obeys them.
    """
    plan, (z, effect, se) = bounds.plan, (part[:, 0] for part in (seen.z, seen.effect, seen.se))
    held = [k for k, count in enumerate(counts) if count > 0]
    obeyed = _order(bounds, (counts, held), futility=True)
    binding = plan.futility is None or plan.futility.binding
    order = obeyed if binding else _order(bounds, (counts, held), futility=False)
    error = plan.alpha / plan.sides
    found = np.full((4, z.size), np.nan)
    for place, k in enumerate(held):
        rows = np.flatnonzero((look == k) & np.isfinite(z))
        if rows.size:
            above = inference.exceedance(order, place, z[rows], np.zeros(rows.size))
            found[0, rows] = above if plan.sides == 1 else 2 * np.minimum(above, 1 - above)
            for line, (law, level) in enumerate(((obeyed, 0.5), (order, error), (order, 1 - error)), start=1):
                found[line, rows] = inference.drift_at(law, place, z[rows], level) * se[rows]
    half = bounds.upper[look] * se
    return Exact(
        p=found[0], unbiased=found[1], lower=found[2], upper=found[3], repeated_lower=effect - half,
        repeated_upper=effect + half,
    )  # fmt: skip


def _order(bounds: Boundaries, looks: tuple[tuple[int, ...], list[int]], *, futility: bool) -> inference.Ordering:
    """The law of the looks that were held."""
    counts, held = looks
    lower = bounds.lower[held].tolist() if futility else [-np.inf] * len(held)
    information = [float(counts[k]) for k in held]
    return inference.ordering(information, bounds.upper[held].tolist(), lower, sides=bounds.plan.sides)
