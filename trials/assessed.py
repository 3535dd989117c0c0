"""A run's arms weighed by its `benefit_risk`: scores, ranks and what they hang on, everybody and by subgroup and dose.

Draws are replicates, each with its own population parameters: effects are means over everybody in every arm
(`trials.benefit`), with the chance of who was simulated taken out (`trials.between`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from trials import multicriteria, operating
from trials.analysis.nnt import Needed, needed_of_draws
from trials.between import expected
from trials.multicriteria import Criterion, Effect, Threshold
from trials.operating import Estimate
from trials.weighing import ALL

if TYPE_CHECKING:
    import pandas as pd

    from trials.protocol import Protocol
    from trials.record import RunRecord
    from trials.weighing import BenefitRisk

__all__ = ["Assessment", "Judged", "Limits", "Utility", "assessed", "judged"]

Floats = NDArray[np.float64]

GRID = np.linspace(0.0, 1.0, 51)
GROUPS: Final = 20  # of replicates, left out in turn
WEIGHTS: Final = 50  # the same for every group left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Mean and equal-tailed limits over draws, arrays of one shape; limits are NaN for a single draw."""

    mean: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One group of people. A arms, C criteria, D draws.

    people: mean number followed in a replicate; draws used, missing: replicates in which some effect has no value;
    score (A,); gain (A,) over the reference arm and better (A,): P(gain > 0); parts (A, C): mean contributions; rank
    (A, A): P(arm has rank k); best: P(arm is best); seen (A,): the same with the chance of who was simulated; chance
    (A,): share of the variance of the gain that was that chance; outside (A, C): share of draws beyond the range;
    effects {arm: its lines against the reference}; needed {(arm, criterion): numbers needed}; thresholds, by_weight
    (C, G, A): P(best) on `GRID` weights; free_rank, central, confidence: whatever the weights (SMAA); risk, benefit
    (D, A): gains by unfavourable and favourable criteria.
    """

    group: str
    level: str
    people: float
    draws: int
    missing: int
    score: Limits
    gain: Limits
    better: Floats
    parts: Floats
    rank: Floats
    best: tuple[Estimate, ...]
    seen: Floats
    chance: Floats
    outside: Floats
    effects: Mapping[int, tuple[Effect, ...]]
    needed: Mapping[tuple[int, str], Needed]
    thresholds: tuple[Threshold, ...]
    by_weight: Floats
    free_rank: Floats
    central: Floats
    confidence: Floats
    risk: Floats
    benefit: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Utility:
    """The score by dose: arms in order of `doses`; curve on `grid` (G,) between them, effects interpolated by monotone
    cubics draw by draw (fewer than three doses: no curve); optimum: median and limits of each draw's best dose on the
    grid; best: the dose with the highest mean score."""

    arms: tuple[int, ...]
    doses: Floats
    grid: Floats
    curve: Limits
    optimum: tuple[float, float, float]
    best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """All of it. arms: names; labels of arms and criteria; shares: criteria that are shares of people; weights (C,): of
    the scores' contributions and thresholds; weighting: swing, order or none (then scores and ranks are over all
    weights that are possible); parameters: how many draws of the population parameters the run has."""

    arms: tuple[str, ...]
    reference: int
    criteria: tuple[Criterion, ...]
    labels: tuple[str, ...]
    shares: tuple[bool, ...]
    weights: Floats
    weighting: str
    everybody: Judged
    groups: tuple[Judged, ...]
    utility: Utility | None
    sensitivity: Mapping[str, Judged]
    level: float
    dose_unit: str
    source: str
    status: str
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """What is the same for every group of people."""

    plan: BenefitRisk
    criteria: tuple[Criterion, ...]
    shares: tuple[bool, ...]
    weights: Floats
    weighting: str
    reference: int
    names: tuple[str, ...]
    seed: int

    @property
    def arms(self) -> int:
        return len(self.names)


def assessed(record: RunRecord) -> Assessment | None:
    """The assessment of a run, None where its protocol weighs nothing or no replicate was measured."""
    plan, protocol, table = record.protocol.benefit_risk, record.protocol, record.benefit
    if plan is None or table.empty:
        return None
    frame = _frame(record, plan)
    everybody = judged(frame, table[table["group"] == ALL], (ALL, ""))
    if everybody is None:
        return None
    parts = [
        judged(frame, rows, (group.label or group.by, _words(protocol, name, level)))
        for name, group in plan.subgroups.items()
        for level, rows in _levels(table[table["group"] == name])
    ]
    others = {
        name: judged(frame, run.benefit[run.benefit["group"] == ALL], (ALL, ""))
        for name, run in record.sensitivity.items()
        if len(run.benefit)
    }
    names = plan.compared(protocol.arms)
    return Assessment(
        arms=names, reference=frame.reference, criteria=frame.criteria, shares=frame.shares,
        labels=tuple(c.label or name.replace("_", " ").capitalize() for name, c in plan.criteria.items()),
        weights=frame.weights, weighting=frame.weighting, everybody=everybody,
        groups=tuple(part for part in parts if part is not None), utility=_utility(frame, table),
        sensitivity={name: part for name, part in others.items() if part is not None},
        level=plan.level, dose_unit=plan.dose_unit, source=plan.source, status=plan.status,
        parameters=len(record.draws.typical),
    )  # fmt: skip


def _frame(record: RunRecord, plan: BenefitRisk) -> _Frame:
    protocol = record.protocol
    shares = tuple(_is_share(protocol, plan, name) for name in plan.criteria)
    criteria = tuple(
        Criterion(
            name=name, worst=c.worst, best=c.best, kind=c.kind, points=c.points, unit=_unit(record, plan, name),
            swing=1.0 if c.swing is None else c.swing,
        )
        for name, c in plan.criteria.items()
    )  # fmt: skip
    names, order = tuple(plan.criteria), plan.order
    arms = plan.compared(protocol.arms)
    return _Frame(
        plan=plan, criteria=criteria, shares=shares,
        weights=multicriteria.swing_weights(criteria) if plan.swung else multicriteria.central_weights(names, order),
        weighting="swing" if plan.swung else "order" if order else "none",
        reference=arms.index(plan.reference(protocol.arms, protocol.estimands)), names=arms, seed=protocol.seed,
    )  # fmt: skip


def _is_share(protocol: Protocol, plan: BenefitRisk, name: str) -> bool:
    criterion = plan.criteria[name]
    if criterion.endpoint is None:
        return criterion.limited
    return protocol.endpoints[criterion.endpoint].as_ in ("responder", "incidence")


def _unit(record: RunRecord, plan: BenefitRisk, name: str) -> str:
    """Unit of an effect, "" for a share of people."""
    from pkpd.model.dimensions import units_of

    if _is_share(record.protocol, plan, name):
        return ""
    criterion = plan.criteria[name]
    if criterion.summary is not None:
        return units_of(record.model).get(criterion.summary, "")
    output = record.model.outputs[str(record.protocol.endpoints[str(criterion.endpoint)].output)]
    return units_of(record.model).get(str(output.is_), "")


def _levels(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """Rows by level, ascending."""
    return [(int(level), rows[rows["level"] == level]) for level in sorted(rows["level"].unique().tolist())]


def _words(protocol: Protocol, name: str, level: int) -> str:
    """A level of a subgroup in words."""
    plan = protocol.benefit_risk
    assert plan is not None
    group = plan.subgroups[name]
    if group.cuts:
        return group.words(level)
    if group.by.startswith("comedication."):
        drug = group.by.removeprefix("comedication.")
        label = protocol.comedication[drug].label or drug.replace("_", " ")
        return f"{'with' if level else 'without'} {label}"
    for condition in protocol.conditions.values():
        if condition.covariate == group.by:
            return condition.classes[level - 1] if level else "none"
    return protocol.population.people().labels.get(group.by, {}).get(level, str(level))


def _known(rows: pd.DataFrame) -> tuple[Floats, Floats | None, int]:
    """Effects (R, A C) as simulated, mean covariance of the chance of who was, None: not known; replicates left out."""
    raw = np.stack([np.asarray(x, np.float64) for x in rows["effects"]])
    known = np.isfinite(raw).all(axis=1)
    triangles = [np.asarray(x, np.float64) for x in rows["noise"][known] if len(x)]
    if not triangles:
        return raw[known], None, int((~known).sum())
    noise = np.zeros((raw.shape[1],) * 2)
    noise[np.triu_indices(len(noise))] = np.mean(triangles, axis=0)
    return raw[known], noise + np.triu(noise, 1).T, int((~known).sum())


def _clean(frame: _Frame, raw: Floats, noise: Floats | None) -> Floats:
    """Effects (R, A, C) without the chance of who was simulated."""
    clean = raw if noise is None or len(raw) < 2 else expected(raw, noise)
    clean = clean.reshape(-1, frame.arms, len(frame.criteria))
    return np.where(np.array(frame.shares), np.clip(clean, 0.0, 1.0), clean)


def _probabilities(frame: _Frame, best: Floats, seen: tuple[Floats, Floats | None]) -> tuple[Estimate, ...]:
    """P(best) of every arm from `best` (D, A), with its Monte Carlo error.

    Draws without the chance of people still share a mean that has it, so they err together: the error is the larger of
    that of independent draws and of the jackknife that leaves out groups of replicates, effects as `seen`.
    """
    raw, noise = seen
    plain, groups = [operating.mean(best[:, a]) for a in range(frame.arms)], min(GROUPS, len(raw))
    if noise is None or groups < 3:
        return tuple(plain)
    names, weights = [c.name for c in frame.criteria], frame.weights[None]
    if frame.weighting != "swing":
        weights = multicriteria.possible_weights(WEIGHTS, names, frame.seed, frame.plan.order)
    group = np.arange(len(raw)) % groups
    without = np.array([
        multicriteria.best_over(_clean(frame, raw[group != k], noise), frame.criteria, weights).mean(axis=0)
        for k in range(groups)
    ])  # fmt: skip
    error = np.sqrt((groups - 1) * without.var(axis=0)).tolist()
    score = multicriteria.weighed(raw.reshape(-1, frame.arms, len(names)), frame.criteria, weights=frame.weights).score
    error = [
        max(e, _wrong_lead(score, a)) if x.value in (0.0, 1.0) else e
        for a, (x, e) in enumerate(zip(plain, error, strict=True))
    ]
    return tuple(replace(x, mcse=max(x.mcse, e)) for x, e in zip(plain, error, strict=True))


def _wrong_lead(score: Floats, arm: int) -> float:
    """Error of a probability of 0 or 1: by the chance of people alone the arm's mean may lie on the wrong side of the
    best of the others; score (D, A) as simulated."""
    mean = score.mean(axis=0)
    other = int(np.argmax(np.where(np.arange(mean.size) == arm, -np.inf, mean)))
    gap = operating.mean(score[:, arm] - score[:, other])
    wrong = 0.5 * math.erfc(abs(gap.value) / gap.mcse / math.sqrt(2.0)) if gap.mcse > multicriteria.SAME else 0.0
    return math.sqrt(wrong * (1.0 - wrong))


def judged(frame: _Frame, rows: pd.DataFrame, who: tuple[str, str]) -> Judged | None:
    """One group of people from its rows of the table; None where no replicate has all effects."""
    if rows.empty:
        return None
    flat, noise, missing = _known(rows)
    if not len(flat):
        return None
    raw, draws = flat.reshape(-1, frame.arms, len(frame.criteria)), _clean(frame, flat, noise)
    criteria, own = frame.criteria, multicriteria.weighed(draws, frame.criteria, weights=frame.weights)
    as_seen = multicriteria.weighed(raw, criteria, weights=frame.weights)
    free = multicriteria.smaa(draws, criteria, seed=frame.seed)
    partial, _ = multicriteria.values(draws, criteria)
    score, rank, best, seen = own.score, own.rank, own.best, as_seen.best
    if frame.weighting != "swing":
        asked = free if frame.weighting == "none" else multicriteria.smaa(
            draws, criteria, seed=frame.seed, order=frame.plan.order)  # fmt: skip
        score, rank, best = asked.score, asked.rank, asked.best
        seen = multicriteria.smaa(raw, criteria, seed=frame.seed, order=frame.plan.order).best
    gain = score - score[:, [frame.reference]]
    risky = np.array([c.kind == "unfavourable" for c in criteria])
    apart = (partial - partial[:, [frame.reference]]) * frame.weights
    return Judged(
        group=who[0], level=who[1], people=float(rows["n"].mean()), draws=len(draws), missing=missing,
        score=_limits(score, len(draws), frame), gain=_limits(gain, len(draws), frame),
        better=_above(gain),
        parts=own.parts, rank=rank, best=_probabilities(frame, best, (flat, noise)),
        seen=seen.mean(axis=0), chance=_chance(own.score, as_seen.score, frame),
        outside=multicriteria.outside(draws, criteria), effects=_effects(draws, frame), needed=_needed(draws, frame),
        thresholds=multicriteria.thresholds(partial.mean(axis=0), [c.name for c in criteria], frame.weights),
        by_weight=multicriteria.best_by_weight(partial, frame.weights, GRID),
        free_rank=free.rank, central=free.central, confidence=free.confidence,
        risk=apart[..., risky].sum(axis=-1), benefit=apart[..., ~risky].sum(axis=-1),
    )  # fmt: skip


def _above(gain: Floats) -> Floats:
    """P(gain > 0), half of it where there is none."""
    same = np.abs(gain) <= multicriteria.SAME
    return np.asarray(((gain > 0) & ~same).mean(axis=0) + 0.5 * same.mean(axis=0))


def _limits(x: Floats, draws: int, frame: _Frame) -> Limits:
    """Mean and limits over the first axis; a single draw of the effects has no limits, however many weights."""
    if draws < 2:
        none = np.full(x.shape[1:], np.nan)
        return Limits(mean=x.mean(axis=0), lower=none, upper=none)
    tail = 0.5 * (1.0 - frame.plan.level)
    low, high = np.quantile(x, [tail, 1.0 - tail], axis=0)
    return Limits(mean=x.mean(axis=0), lower=low, upper=high)


def _chance(clean: Floats, raw: Floats, frame: _Frame) -> Floats:
    """Share of the variance of each arm's gain that came from who was simulated; NaN for the reference itself."""
    if len(raw) < 2:
        return np.full(frame.arms, np.nan)
    kept, whole = ((x - x[:, [frame.reference]]).var(axis=0) for x in (clean, raw))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(1.0 - kept / whole, 0.0, 1.0))


def _effects(draws: Floats, frame: _Frame) -> dict[int, tuple[Effect, ...]]:
    others = [a for a in range(frame.arms) if a != frame.reference]
    return {
        a: multicriteria.effects_table(
            draws, frame.criteria, alternative=a, reference=frame.reference, level=frame.plan.level
        )
        for a in others
    }


def _needed(draws: Floats, frame: _Frame) -> dict[tuple[int, str], Needed]:
    """Numbers needed of the criteria that are shares of people, less than one in a million is none; none from a single
    draw."""
    if len(draws) < 2:
        return {}
    return {
        (a, c.name): needed_of_draws(
            np.round(draws[:, a, k] - draws[:, frame.reference, k], 6), harmful=c.best < c.worst, level=frame.plan.level
        )
        for a in range(frame.arms)
        for k, c in enumerate(frame.criteria)
        if frame.shares[k] and a != frame.reference
    }


def _utility(frame: _Frame, table: pd.DataFrame) -> Utility | None:
    """The score by dose under the weights of the frame; None without doses."""
    if not frame.plan.doses:
        return None
    raw, noise, _ = _known(table[table["group"] == ALL])
    draws = _clean(frame, raw, noise)
    named = sorted(frame.plan.doses.items(), key=lambda item: item[1])
    doses, arms = np.array([dose for _, dose in named]), tuple(frame.names.index(arm) for arm, _ in named)
    grid = doses if len(doses) < 3 else np.unique(np.concatenate([np.linspace(doses[0], doses[-1], 81), doses]))
    effects = draws[:, list(arms)]
    if len(doses) >= 3:
        from scipy.interpolate import PchipInterpolator

        effects = PchipInterpolator(doses, effects, axis=1)(grid)
    score = multicriteria.weighed(effects, frame.criteria, weights=frame.weights).score
    at_best = grid[np.argmax(score, axis=1)]
    tail = 0.5 * (1.0 - frame.plan.level)
    low, mid, high = np.quantile(at_best, [tail, 0.5, 1.0 - tail]) if len(score) > 1 else [np.nan, at_best[0], np.nan]
    return Utility(
        arms=arms, doses=doses, grid=grid, curve=_limits(score, len(score), frame),
        optimum=(float(mid), float(low), float(high)), best=float(grid[np.argmax(score.mean(axis=0))]),
    )  # fmt: skip
