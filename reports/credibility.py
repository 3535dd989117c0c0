"""How far the report can be trusted: limits that gate it, evidence with its witness, and what a report should contain
but this one does not.

Limits, witnesses and the criteria of agreement are fixed here, before any run.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from reports import results, rounding
from reports.study import Arm, FitEvidence, Published, Study

MOST_RHAT: Final = 1.01
LEAST_ESS: Final = 400.0
MOST_DIVERGENCES: Final = 0
MOST_APART: Final = 3.0  # pooled sds between chain means: further apart are different modes
LEAST_EBFMI: Final = 0.3
MOST_MCSE: Final = 0.05  # of a probability
type Verdict = Literal["agrees", "disagrees", "not assessed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A diagnostic with the limit it must keep."""

    name: str
    shown: str
    bar: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A claim of the model set against a witness from outside. `kind` keeps calibration apart from validation."""

    claim: str
    witness: str
    ours: str
    theirs: str
    tolerance: str
    verdict: Verdict
    kind: Literal["validation", "calibration"]


def fit_limits(fit: FitEvidence) -> tuple[Limit, ...]:
    """R-hat, effective sample sizes and divergences against their limits; a diagnostic that is missing does "
    "not hold."""
    d = fit.diagnostics
    rhat, bulk, tail = (d.get(key, math.nan) for key in ("max_rhat", "min_ess_bulk", "min_ess_tail"))
    divergences, apart, ebfmi = (d.get(key, math.nan) for key in ("divergences", "apart", "ebfmi"))
    energy = Limit(name="E-BFMI", shown=rounding.fixed(ebfmi, 2), bar=f"≥ {LEAST_EBFMI:g}", holds=ebfmi >= LEAST_EBFMI)
    broken = Limit(
        name="Divergent transitions", shown=rounding.count(divergences), bar=str(MOST_DIVERGENCES),
        holds=divergences <= MOST_DIVERGENCES,
    )  # fmt: skip
    return (
        Limit(name="R-hat", shown=rounding.fixed(rhat, 3), bar=f"≤ {MOST_RHAT}", holds=rhat <= MOST_RHAT),
        _ess("Effective sample size, bulk", bulk),
        _ess("Effective sample size, tails", tail),
        *(() if math.isinf(ebfmi) else (broken,)),
        Limit(name="Distance of chain means, in sds", shown=rounding.fixed(apart, 2), bar=f"≤ {MOST_APART:g}",
              holds=apart <= MOST_APART),
        *(() if math.isinf(ebfmi) else (energy,)),
    )  # fmt: skip


def _ess(name: str, value: float) -> Limit:
    return Limit(name=name, shown=rounding.count(value), bar=f"≥ {LEAST_ESS:.0f}", holds=value >= LEAST_ESS)


def run_limits(study: Study) -> tuple[Limit, ...]:
    """Completeness of the run, failed solves, failed analyses, and whether replicates suffice."""
    done = int(study.outcomes["replicate"].nunique())
    failed = int((study.outcomes["status"] != 0).sum())
    lost = (
        int((~np.isfinite(study.analyses["estimate"].to_numpy(dtype=np.float64))).sum()) if len(study.analyses) else 0
    )
    worst = max((e.assurance.mcse for e in results.effects(study)), default=0.0)
    return (
        Limit(
            name="Replicates finished", shown=f"{rounding.count(done)} of {rounding.count(study.planned)}", bar="all",
            holds=done == study.planned,
        ),
        _none("Blocks that failed", study.failed_blocks),
        _none("Subjects whose equations could not be solved", failed),
        Limit(name="Comparisons that could not be estimated", shown=rounding.count(lost), bar="0", holds=lost == 0),
        Limit(
            name="Largest MCSE of an assurance", shown=rounding.number(worst, 2), bar=f"≤ {MOST_MCSE}",
            holds=worst <= MOST_MCSE,
        ),
    )  # fmt: skip


def _none(name: str, found: int) -> Limit:
    """A count that must be 0."""
    return Limit(name=name, shown=rounding.count(found), bar="0", holds=found == 0)


def breaches(study: Study) -> tuple[str, ...]:
    """Every limit that does not hold, in words; these come first in the report."""
    limits = (*(fit_limits(study.fit) if study.fit else ()), *run_limits(study))
    return tuple(f"{limit.name}: {limit.shown} (limit {limit.bar})" for limit in limits if not limit.holds)


def nearest(study: Study, level: float) -> Arm:
    """The treated arm whose expected average level is closest to a given one."""
    grid = results.cells(study.outcomes, len(study.arms))
    means = grid.mean(study.outcomes[f"{study.average}@{study.final}"].to_numpy(dtype=np.float64))
    return min(study.treated, key=lambda arm: abs(float(np.nanmean(means[:, arm.index])) - level))


def evidence(study: Study) -> tuple[Evidence, ...]:
    """Published results against what this run gives, in the order of the published list."""
    makers = {"mean_difference": _difference, "risk_ratio": _ratio, "levels": _levels}
    usable = [
        p for p in study.published if p.what == "levels" or (p.what == "mean_difference") <= (study.primary is not None)
    ]
    return tuple(item for published in usable for item in makers[published.what](study, published))


def _verdict(inside: bool) -> Verdict:
    return "agrees" if inside else "disagrees"


def _difference(study: Study, published: Published) -> tuple[Evidence, ...]:
    arm = nearest(study, published.at_level)
    effect = next(e for e in results.effects(study) if e.arm.index == arm.index)
    low, high = published.interval
    ours = rounding.with_mcse(effect.expected.value, effect.expected.mcse, published.unit)
    spread = rounding.interval(*effect.spread, rounding.places(effect.expected.mcse))
    return (
        Evidence(
            claim=f"{published.claim} ({arm.label}, the arm whose average level is closest to "
            f"{rounding.plain(published.at_level)} "
            f"{study.exposure_unit})",
            witness=published.witness,
            ours=f"{ours}; 95 % of replicates {spread}",
            theirs=rounding.with_interval(published.value, published.interval, 2, published.unit),
            tolerance="the expected value lies inside the published 95 % interval",
            verdict=_verdict(low <= effect.expected.value <= high),
            kind=published.kind,
        ),
    )  # fmt: skip


def _ratio(study: Study, published: Published) -> tuple[Evidence, ...]:
    arm = nearest(study, published.at_level)
    ratio = results.risk_ratio(study, (published.event,), arm)
    low, high = published.interval
    return (
        Evidence(
            claim=f"{published.claim} ({arm.label})",
            witness=published.witness,
            ours=f"{rounding.with_mcse(ratio.value, ratio.mcse)}; one trial reports {rounding.interval(*ratio.one, 1)}",
            theirs=rounding.with_interval(published.value, published.interval, 1),
            tolerance="the expected ratio lies inside the published 95 % interval",
            verdict=_verdict(low <= ratio.value <= high),
            kind=published.kind,
        ),
    )


def _levels(study: Study, published: Published) -> tuple[Evidence, ...]:
    found = []
    for time, observed in zip(published.times, published.values, strict=True):
        level = study.levels.get((published.key, time))
        shown = (
            "not computed"
            if level is None
            else rounding.with_interval(level.median, (level.low, level.high), 1, published.unit)
        )
        verdict: Verdict = "not assessed"
        if level is not None:
            verdict = _verdict(level.low <= observed <= level.high)
        found.append(
            Evidence(
                claim=f"{published.claim}, {rounding.plain(time)} h after the dose",
                witness=published.witness, ours=shown, theirs=f"{rounding.fixed(observed, 1)} {published.unit}",
                tolerance=f"the observed mean lies inside the 95 % range of the means of {published.people} people",
                verdict=verdict, kind=published.kind,
            )
        )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """One item of the checklist: what it asks, whether this report has it, and where or why not."""

    item: str
    state: Literal["covered", "partly", "not covered", "not applicable"]
    where: str


def coverage(study: Study) -> tuple[Coverage, ...]:
    """What guidance on simulation reports asks for, item by item, and what is missing here."""
    return (
        _either("Question, context of use", bool(study.question and study.context), "Question and context of use"),
        _no("Model risk: influence and decision consequence", "for the user to argue; the context of use is printed"),
        _partly("Acceptance limits fixed before the results", "sampler, run and agreement; none on the decision"),
        _yes("Estimands with intercurrent events", "Question and context of use"),
        _yes("Design: arms, allocation, randomisation", "Design"),
        _off("Adaptive features and interims", "the design has no interim look"),
        _yes("Data model and parameters with source and status", "Data and model; Assumptions"),
        _partly("Assumptions with impact", "listed with status; only sensitivity runs measure an impact"),
        _partly("Data used, exclusions, relevance", "source named; relevance to be argued by the user"),
        _partly("Verification of code and numerical error", "tests of the software; tolerances are not propagated"),
        _yes("Calibration apart from validation", "Validation and calibration"),
        _partly("Validation against external data", "Validation and calibration") if study.published
        else _no("Validation against external data", "no published result is known for this model"),
        _partly("Uncertainty by source", "Efficacy, last table; structural uncertainty only by sensitivity runs"),
        _no("Scenarios: null, harmful, optimistic", "one scenario is simulated"),
        _no("Type I error over a null grid", "not simulated in this run; the analysis has its own tests"),
        _either("Power and assurance with MCSE", study.median is not None, "Operating characteristics"),
        _either("Bias and coverage of the estimator", study.truth is not None, "Efficacy; nothing is selected"),
        _partly("Priors justified; prior sensitivity", "priors are shown; no sensitivity to them") if study.fit
        else _off("Priors justified; prior sensitivity", "nothing was fitted"),
        _yes("MCMC evidence", "Data and model") if study.fit else _off("MCMC evidence", "nothing was fitted"),
        _partly("Missing data: mechanism, tipping point", "missing at random by design; no tipping point"),
        _yes("Multiplicity", "Dunnett adjustment of the primary comparisons; none for adverse events")
        if study.simultaneous else _no("Multiplicity", "no adjustment; none for adverse events"),
        _partly("Safety: risks per arm with bounds", "risks with intervals; no exposure-adjusted rates"),
        _off("Trial integrity at interims", "no interim look"),
        _off("External control or twin", "not used"),
        _yes("Reproducibility: seed, versions, hashes, command", "Provenance"),
    )  # fmt: skip


def _yes(item: str, where: str) -> Coverage:
    return Coverage(item=item, state="covered", where=where)


def _partly(item: str, where: str) -> Coverage:
    return Coverage(item=item, state="partly", where=where)


def _no(item: str, where: str) -> Coverage:
    return Coverage(item=item, state="not covered", where=where)


def _off(item: str, where: str) -> Coverage:
    return Coverage(item=item, state="not applicable", where=where)


def _either(item: str, whole: bool, where: str) -> Coverage:
    return _yes(item, where) if whole else _partly(item, where)
