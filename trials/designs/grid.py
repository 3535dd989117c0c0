"""Designs x scenarios on common random numbers: what every design does under every truth, and how they differ.

Subject s of replicate r has the same chance (outcome, loss, time of entry) under every design and every truth. Adaptive
designs that draw a stage as a whole (re-estimation, enrichment) share their stages with each other only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.comparison import Comparison, Sample, Scenario, estimated, scenario
from trials.designs import text_checks
from trials.designs.exact import exact
from trials.designs.families import family_of, share
from trials.designs.family_escalation import cohort_of
from trials.designs.selection import Chosen
from trials.designs.simulate import Seen, Simulated
from trials.designs.simulated import drawn, rates_of
from trials.designs.text_scenarios import Truth

if TYPE_CHECKING:
    from trials.designs.text import Design
    from trials.designs.text_scenarios import Simulate

__all__ = ["compared", "null_of", "samples"]

Floats = NDArray[np.float64]
ENTRY = 2  # slot
PILOT = 2_000
CELLS = 4_000_000  # subjects at a time
NEAR = 1e-12


def compared(designs: Mapping[str, Design], *, seed: int | None = None, replicates: int | None = None,
             mcse: float | None = None) -> Comparison:  # fmt: skip
    """Every design under every scenario its text states, against the first design.

    seed, replicates, mcse: instead of the texts'. Errors: InputError (nothing to simulate, different seeds).
    """
    asked = _agreed(designs, seed)
    wanted = mcse if mcse is not None else (asked.mcse if replicates is None else None)
    runs = replicates or asked.replicates
    names = dict.fromkeys(name for d in designs.values() if d.simulate is not None for name in d.simulate.scenarios)
    made = []
    for name in names:
        these = {k: (d, d.simulate.scenarios[name]) for k, d in designs.items()
                 if d.simulate is not None and name in d.simulate.scenarios}  # fmt: skip
        made.append(_scenario(name, these, (asked.seed, runs, wanted, asked.most)))
    return Comparison(
        designs=tuple(designs), scenarios=tuple(made), seed=asked.seed, mcse=wanted, remarks=_remarks(designs, made)
    )


def _agreed(designs: Mapping[str, Design], seed: int | None) -> Simulate:
    """What the texts say about the simulation: one seed, or nothing would be common."""
    said = {name: d.simulate for name, d in designs.items()}
    for name, simulate in said.items():
        if simulate is None:
            remedy = "add simulate: {seed: 1, truths: {planned: {}}}, or give --scenarios FILE"
            raise InputError(f"{name} says nothing to simulate", field="simulate", remedy=remedy)
    found = [s for s in said.values() if s is not None]
    seeds = {s.seed for s in found} if seed is None else {seed}
    if len(seeds) > 1:
        raise InputError("the designs have different seeds: they would share no subject", field="simulate.seed",
                         value=sorted(seeds), remedy="write the same seed, or give --seed")  # fmt: skip
    return replace(found[0], seed=seeds.pop())


Asked = tuple[int, int, float | None, int]  # seed, replicates, MCSE, most replicates


def _scenario(name: str, these: Mapping[str, tuple[Design, Truth]], asked: Asked) -> Scenario:
    seed, runs, mcse, most = asked
    first = runs if mcse is None else min(PILOT, most)
    found = {key: samples(d, t, seed=seed, replicates=np.arange(first)) for key, (d, t) in these.items()}
    while mcse is not None and (more := min(_needed(found, mcse), most)) > first:
        which = np.arange(first, more)
        later = {key: samples(d, t, seed=seed, replicates=which) for key, (d, t) in these.items()}
        found = {key: _joined(found[key], later[key]) for key in found}
        first = more
    null = {key: kind for key, (d, t) in these.items() if (kind := null_of(d, t))}
    known = {key: exact(d, t) for key, (d, t) in these.items()}
    for key in null:
        if "reject" in known[key] and null[key] == "global":
            known[key]["type_i_error"] = known[key]["reject"]
    return scenario(name, found, null=null, exact=known)


def _needed(found: Mapping[str, Mapping[str, Sample]], mcse: float) -> int:
    """Replicates for the asked MCSE of every design's first probability, from those there are."""
    shares = [estimated(by[main_of(by)]) for by in found.values()]
    if all(s.mcse <= mcse for s in shares):
        return 0
    worst = max(s.mcse**2 * s.n for s in shares)
    return max(math.ceil(1.02 * worst / mcse**2), max(s.n for s in shares) + 1)


def main_of(by: Mapping[str, Sample]) -> str:
    """The measure whose error is asked for: the first probability."""
    return next(key for key, sample in by.items() if sample.kind == "share")


def _joined(a: Mapping[str, Sample], b: Mapping[str, Sample]) -> dict[str, Sample]:
    return {key: replace(s, values=np.concatenate([s.values, b[key].values])) for key, s in a.items()}


def samples(design: Design, truth: Truth, *, seed: int, replicates: NDArray[np.int64]) -> dict[str, Sample]:
    """All measures of a design under a truth, one value a replicate (R)."""
    family = family_of(design)
    if family is not None:
        out = family.samples(design, truth, (seed, replicates))
        return out | _entering(design, truth, out, (seed, replicates)) | _worth(design, out)
    found = drawn(design, truth, {"seed": seed, "replicates": replicates})
    out = _chosen(design, truth, found) if isinstance(found, Chosen) else _plain(design, truth, found)
    out |= _sizes(found.subjects)
    if isinstance(found, Simulated) and np.isfinite(found.time).any():
        out["events"] = Sample(label="Events", values=found.events)
        out |= _times(found.time)
    else:
        out |= _entering(design, truth, out, (seed, replicates))
    out |= _estimates(design, truth, found) if isinstance(found, Simulated) else _of_best(design, truth, found)
    return out | _worth(design, out)


def _entering(
    design: Design, truth: Truth, out: Mapping[str, Sample], chance: tuple[int, NDArray[np.int64]]
) -> dict[str, Sample]:  # fmt: skip
    """Durations, where the design says how fast subjects enter. A cohort of an escalation is followed up before the
    next one enters: who comes meanwhile is not taken.
    """
    if design.enrolment is None:
        return {}
    rate, subjects = design.enrolment.rate if truth.rate is None else truth.rate, out["subjects"].values
    waits = 1.0 if design.endpoint.escalation is None else np.ceil(subjects / cohort_of(design.endpoint.escalation))
    return _times(_entered(subjects, rate, chance) + waits * design.enrolment.follow_up)


def _plain(design: Design, truth: Truth, found: Simulated) -> dict[str, Sample]:
    out = {"reject": share("P(reject)", found.reject)}
    if null_of(design, truth):
        out["type_i_error"] = share("Type I error", found.reject)
    if found.looks > 1:
        out["early"] = share("P(stop early)", found.look < found.looks - 1)
        out["futile"] = share("P(stop early for futility)", found.futile)
    return out


def _chosen(design: Design, truth: Truth, found: Chosen) -> dict[str, Sample]:
    """Of several hypotheses: rejections of any, false ones (family-wise), of each."""
    names = list(design.select.arms) if design.select is not None else ["subgroup", "everybody"]
    out = {"reject": share("P(reject any)", found.reject.any(axis=1))}
    false = ~_effective(design, truth)
    if false.any():
        out["type_i_error"] = share("Type I error (family-wise)", (found.reject & false).any(axis=1))
    out |= {f"reject_{n}": share(f"P(reject {n})", found.reject[:, g]) for g, n in enumerate(names)}
    out["early"] = share("P(stop early)", found.stage < found.stages - 1)
    out["futile"] = share("P(stop early for futility)", found.futile)
    return out


def null_of(design: Design, truth: Truth) -> str:
    """`global` where no rejection would be right, `partial` where some would be wrong, else nothing.

    >>> from trials.designs.text import Design
    >>> made = Design.parse("{vtrial: design/1, name: a, endpoint: {means: {effect: 0.5, sd: 1}}}")
    >>> null_of(made, Truth(effect=0.0)), null_of(made, Truth())
    ('global', '')
    """
    family = family_of(design)
    if family is not None and family.effective is None:
        return ""
    true = _effective(design, truth)
    return "" if true.all() else "partial" if true.any() else "global"


def _effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    """Of every hypothesis: is there an effect beyond the null hypothesis (with two sides: any difference from it)?"""
    family = family_of(design)
    if family is not None and family.effective is not None:
        return family.effective(design, truth)
    distance = _distances(design, truth)
    return np.abs(distance) > NEAR if design.error.sides == "2" else distance > NEAR


def _distances(design: Design, truth: Truth) -> Floats:
    m, p, s = design.endpoint.means, design.endpoint.proportions, design.endpoint.survival
    if design.select is not None:
        control = 0.0 if p is None else p.control if truth.control is None else truth.control
        return np.array([truth.arms.get(arm, value) - control for arm, value in design.select.arms.items()])
    if design.enrich is not None:
        own, rest = truth.effects or design.enrich.effects
        return np.array([own, design.enrich.prevalence * own + (1 - design.enrich.prevalence) * rest])
    if m is not None:
        return np.array([(m.effect if truth.effect is None else truth.effect) - m.margin])
    if p is not None:
        treated, control = rates_of(p, truth)
        null = float(p.measure == "ratio") if p.null is None else p.null
        return np.array([treated - null * control if p.measure == "ratio" else treated - control - null])
    assert s is not None
    ratios = _ratios(design, truth)
    return np.array([max(-math.log(ratio / s.null) for ratio in ratios)])


def _ratios(design: Design, truth: Truth) -> tuple[float, ...]:
    """All hazard ratios a truth has in the course of time."""
    s = design.endpoint.survival
    assert s is not None
    if truth.hazard_ratios is not None:
        return text_checks.hazard_of(truth.hazard_ratios, "hazard_ratios").rates
    ratio = s.hazard_ratio if truth.hazard_ratio is None else truth.hazard_ratio
    return (1.0, ratio) if truth.delay else (ratio,)


def _sizes(subjects: Floats) -> dict[str, Sample]:
    return {
        "subjects": Sample(label="Subjects", values=subjects),
        "subjects_50": Sample(label="Subjects, median", values=subjects, kind="quantile", q=0.5),
        "subjects_90": Sample(label="Subjects, 90 %", values=subjects, kind="quantile", q=0.9),
    }


def _times(time: Floats) -> dict[str, Sample]:
    return {
        "duration": Sample(label="Duration", values=time),
        "duration_90": Sample(label="Duration, 90 %", values=time, kind="quantile", q=0.9),
    }


def _entered(subjects: Floats, rate: float, chance: tuple[int, NDArray[np.int64]]) -> Floats:
    """When the last subject entered (R): the same people come at the same times under every design."""
    seed, which = chance
    last = np.maximum(subjects.astype(np.int64), 1)
    step = max(1, CELLS // int(last.max()))
    parts = []
    for first in range(0, which.size, step):
        now = slice(first, first + step)
        u = uniforms(seed, Purpose.SUMMARY_OUTCOME, subject=np.arange(int(last[now].max())),
                     replicate=which[now, None], slot=ENTRY)  # fmt: skip
        arrivals = np.cumsum(-np.log(u), axis=1)
        parts.append(arrivals[np.arange(arrivals.shape[0]), last[now] - 1] / rate)
    return np.concatenate(parts)


def _estimates(design: Design, truth: Truth, found: Simulated) -> dict[str, Sample]:
    """Bias and coverage of the plain estimate at the end, and what the profile says to it."""
    seen = found.seen
    if seen is None:
        return {}
    out: dict[str, Sample] = {}
    true = _true(design, truth)
    if math.isfinite(true):
        out |= _bias(seen, np.full(seen.estimate.shape, true), text_checks.error_of(design).level)
    profile = design.profile
    if profile is not None:
        least, wanted = _limits(design)
        first, second = seen.above(least) >= profile.sure, seen.above(wanted) >= profile.likely
        out |= {"go": share("P(Go)", first & second), "stop": share("P(Stop)", ~first & ~second),
                "unsure": share("P(neither)", first ^ second)}  # fmt: skip
    return out


def _of_best(design: Design, truth: Truth, found: Chosen) -> dict[str, Sample]:
    """Bias and coverage of the plain estimate of the arm that looks best at the end: what selection does to it."""
    if found.seen is None or found.arm is None:
        return {}
    true = _distances(design, truth)[found.arm]
    return _bias(found.seen, true, text_checks.error_of(design).level)


def _bias(seen: Seen, true: Floats, level: float) -> dict[str, Sample]:
    low, high = seen.interval(level)
    known = np.isfinite(low) & np.isfinite(high)
    inside = np.where(known, ((low <= true) & (true <= high)).astype(np.float64), np.nan)
    return {
        "bias": Sample(label="Bias of the plain estimate", values=seen.estimate - true),
        "coverage": Sample(label="Coverage of its interval", values=inside, kind="share"),
    }


def _true(design: Design, truth: Truth) -> float:
    """What the plain estimate should be; NaN where hazards are not proportional."""
    m, p = design.endpoint.means, design.endpoint.proportions
    if m is not None:
        return m.effect if truth.effect is None else truth.effect
    if p is not None:
        if truth.trend:
            return math.nan
        treated, control = rates_of(p, truth)
        return treated - control
    ratios = _ratios(design, truth)
    return -math.log(ratios[0]) if len(ratios) == 1 else math.nan


def _limits(design: Design) -> tuple[float, float]:
    """least and wanted on the scale of the estimate."""
    profile, s, m, p = design.profile, design.endpoint.survival, design.endpoint.means, design.endpoint.proportions
    assert profile is not None
    if s is not None:
        return -math.log(profile.least or s.null), -math.log(profile.wanted)
    margin = m.margin if m is not None else (p.null or 0.0) if p is not None and p.measure == "difference" else 0.0
    return (margin if profile.least is None else profile.least), profile.wanted


def _worth(design: Design, out: Mapping[str, Sample]) -> dict[str, Sample]:
    """Cost, and what a success is worth less the cost."""
    costs = design.costs
    if costs is None:
        return {}
    cost = costs.fixed + costs.subject * out["subjects"].values
    if costs.time:
        cost = cost + costs.time * out["duration"].values
    found = {"cost": Sample(label="Cost", values=cost)}
    if costs.value is not None:
        success = out["go"] if "go" in out else out["reject"]
        found["net"] = Sample(label="Net value", values=costs.value * success.values - cost)
    return found


def _remarks(designs: Mapping[str, Design], made: list[Scenario]) -> tuple[str, ...]:
    """What whoever reads the numbers should know."""
    staged = [name for name, d in designs.items() if d.reestimate is not None or d.enrich is not None]
    found = []
    if staged and len(staged) < len(designs):
        found.append(f"{', '.join(staged)}: stages are drawn as a whole, not subject by subject, so that they share no "
                     "chance with the other designs; pairing gains nothing there.")  # fmt: skip
    if any("bias" in by for s in made for by in s.estimates.values()):
        found.append("Estimates and intervals are the plain ones, not corrected for interim looks or selection.")
    return tuple(found)
