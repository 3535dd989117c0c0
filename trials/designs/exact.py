"""Operating characteristics of a design under a truth without simulation, where there is a way.

Means with known sd: recursion over the looks at the whole numbers of subjects. One t test: the noncentral t. Two
proportions: enumeration of all pairs of counts, look by look. Combination tests without an effect: the level of the
plan, whatever the sizes. Group-sequential t and log-rank tests: the recursion of the normal limit, marked approximate.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, ndtr, ndtri, stdtrit
from scipy.stats import binom

from trials.comparison import Exact
from trials.designs import sizes, text_checks
from trials.designs.characteristics import Passage, passage
from trials.designs.designed import survival_of, times_under
from trials.designs.families import family_of
from trials.designs.sequential import Boundaries, boundaries
from trials.designs.simulate import Instruction, Stages, decide, score_z
from trials.designs.simulated import looks_of, rates_of

if TYPE_CHECKING:
    from trials.designs.text import Design, Means, Proportions, Survival
    from trials.designs.text_scenarios import Profile, Truth

__all__ = ["exact", "rates_passage"]

Floats = NDArray[np.float64]
LARGEST = 4_000_000  # pairs of counts that are enumerated


def exact(design: Design, truth: Truth) -> dict[str, Exact]:
    """By measure of `trials.designs.grid`; empty where only simulation knows.

    >>> from trials.designs.text import Design
    >>> from trials.designs.text_scenarios import Truth
    >>> made = Design.parse("{vtrial: design/1, name: a, endpoint: {means: {effect: 0.5, sd: 1}}}")
    >>> round(exact(made, Truth())["reject"].value, 3)
    0.903
    """
    e, family = design.endpoint, family_of(design)
    if family is not None:
        return family.exact(design, truth)
    if truth.lost or truth.trend or design.select is not None or design.enrich is not None:
        return {}
    if design.reestimate is not None:
        return _combined(design, truth)
    if e.means is not None:
        return _means(design, e.means, truth)
    if e.proportions is not None:
        return _proportions(design, e.proportions, truth)
    if e.survival is not None:
        return _survival(design, e.survival, truth)
    return {}


def _bounds(design: Design) -> Boundaries:
    return boundaries(text_checks.plan_of(design))


def _combined(design: Design, truth: Truth) -> dict[str, Exact]:
    """Stage-wise p-values are independent and uniform without an effect: the rule may do what it likes."""
    m, rule = design.endpoint.means, design.reestimate
    assert m is not None
    assert rule is not None
    effect = m.effect if truth.effect is None else truth.effect
    if effect != m.margin or rule.fisher is not None:
        return {}
    found = passage(_bounds(design), 0.0)
    return {"reject": Exact(value=found.power, how="level of the combination test")}


def _means(design: Design, m: Means, truth: Truth) -> dict[str, Exact]:
    looks, ratio = looks_of(design), text_checks.ratio_of(design)
    n = np.cumsum(Stages.two_arms(np.array(looks), ratio).size, axis=0).astype(np.float64)
    sd = m.sd if truth.sd is None else truth.sd
    information = 1 / (sd**2 * (1 / n[:, 0] + 1 / n[:, 1]))
    drift = ((m.effect if truth.effect is None else truth.effect) - m.margin) * math.sqrt(information[-1])
    if m.test == "t" and len(looks) == 1:
        return {"reject": Exact(value=_one_t(design, drift, float(n.sum()) - 2), how="noncentral t")}
    bounds = replace(_bounds(design), information=information / information[-1])
    found = _of_passage(passage(bounds, drift), np.array(looks, dtype=np.float64), approximate=m.test == "t")
    if m.test == "z" and len(looks) == 1 and design.profile is not None:
        effect = drift / math.sqrt(information[0]) + m.margin
        found |= _decided(design.profile, effect, 1 / math.sqrt(information[0]), m.margin)
    return found


def _one_t(design: Design, shift: float, df: float) -> float:
    level = text_checks.error_of(design).level
    critical = -float(stdtrit(df, level))
    above = float(1 - nctdtr(df, shift, critical))
    return above + (float(nctdtr(df, shift, -critical)) if design.error.sides == "2" else 0.0)


def _decided(profile: Profile, effect: float, se: float, margin: float) -> dict[str, Exact]:
    """Go and Stop of the dual criterion; see `trials.designs.decisions.go_no_go`."""
    least = margin if profile.least is None else profile.least
    first, second = least + float(ndtri(profile.sure)) * se, profile.wanted + float(ndtri(profile.likely)) * se
    go, stop = float(ndtr((effect - max(first, second)) / se)), float(ndtr((min(first, second) - effect) / se))
    how = "closed form"
    return {"go": Exact(value=go, how=how), "stop": Exact(value=stop, how=how)}


def _of_passage(found: Passage, subjects: Floats, *, approximate: bool, how: str = "recursion") -> dict[str, Exact]:
    values = {
        "reject": float(found.reject.sum() + found.wrong.sum()), "subjects": float(found.stop @ subjects),
        "early": float(found.stop[:-1].sum()), "futile": float(found.futile[:-1].sum()),
    }  # fmt: skip
    return {name: Exact(value=value, how=how, approximate=approximate) for name, value in values.items()}


def _proportions(design: Design, p: Proportions, truth: Truth) -> dict[str, Exact]:
    looks = looks_of(design)
    n = np.cumsum(Stages.two_arms(np.array(looks), text_checks.ratio_of(design)).size, axis=0)
    if int(np.prod(n[-1] + 1)) > LARGEST:
        return {}
    found = rates_passage(_bounds(design), n, rates_of(p, truth), null=p.null, measure=p.measure)
    return _of_passage(found, np.array(looks, dtype=np.float64), approximate=False, how="enumeration")


def rates_passage(
    bounds: Boundaries, n: NDArray[np.int64], rates: tuple[float, float], *, null: float | None = None,
    measure: str = "difference",
) -> Passage:  # fmt: skip
    """Where a trial of two proportions ends: n (K, 2) cumulative subjects of control and treated, rates (treated,
    control). The probability of every pair of counts is carried from look to look among the trials that go on.
    """
    alive, before = np.ones((1, 1)), np.zeros(2, dtype=np.int64)
    ends: dict[Instruction, list[float]] = {Instruction.REJECT: [], Instruction.FUTILE: []}
    for k, now in enumerate(n):
        more = [_increments(int(b), int(a), rate) for b, a, rate in zip(before, now, rates[::-1])]
        alive = more[0] @ alive @ more[1].T  # control x treated
        said = _said(bounds, k, now, null=null, measure=measure)
        for instruction, into in ends.items():
            into.append(float(alive[said == instruction].sum()))
        alive, before = np.where(said == Instruction.GO_ON, alive, 0.0), now
    reject, futile = (np.array(ends[i]) for i in (Instruction.REJECT, Instruction.FUTILE))
    return Passage(information=bounds.information, reject=reject, wrong=np.zeros(len(n)), futile=futile)


def _increments(before: int, now: int, rate: float) -> Floats:
    """P(count now | count before): (now + 1, before + 1)."""
    gained = np.arange(now + 1)[:, None] - np.arange(before + 1)
    return np.asarray(binom.pmf(gained, now - before, rate))


def _said(
    bounds: Boundaries, look: int, n: NDArray[np.int64], *, null: float | None, measure: str
) -> NDArray[np.int8]:  # fmt: skip
    """The rule's instruction for every pair of counts, control x treated."""
    control, treated = (np.arange(size + 1.0) / size for size in n)
    p0, p1 = np.meshgrid(control, treated, indexing="ij")
    of = np.asarray(float(n[1])), np.asarray(float(n[0]))
    z = score_z(p1.ravel(), p0.ravel(), of, null=null, measure=measure)
    return decide(bounds, look, z).reshape(p1.shape)


def _survival(design: Design, s: Survival, truth: Truth) -> dict[str, Exact]:
    """The normal limit of the log-rank test under proportional hazards (Schoenfeld), expected times of the events."""
    if truth.delay or truth.hazard_ratios is not None:
        return {}
    solved, ratio = survival_of(design), text_checks.ratio_of(design)
    events = np.array([float(sizes._up(float(d))) for d in solved.events.looks])
    hazard = s.hazard_ratio if truth.hazard_ratio is None else truth.hazard_ratio
    drift = -math.log(hazard / s.null) * math.sqrt(events[-1] * ratio) / (1 + ratio)
    times, subjects = times_under(design, truth), solved.subjects.whole
    when = np.array([times.when(float(d), subjects) for d in events])
    entered = subjects * times.accrual.entered(when)
    bounds = replace(solved.events.bounds, information=events / events[-1])
    made = passage(bounds, drift)
    found = _of_passage(made, entered, approximate=True)
    found["events"] = Exact(value=float(made.stop @ events), how="recursion", approximate=True)
    found["duration"] = Exact(value=float(made.stop @ when), how="recursion", approximate=True)
    return found
