"""What the main tables do not show: times to events, recurrences, hierarchies (curves by arm), responders, dose
responses, ratios and ranks; what each analysis found.

`timed(record, arms)` is read by `reports.gather`; sections and figures see only the plain nouns.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials import operating
from trials.operating import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from trials.protocol import Protocol
    from trials.record import RunRecord

Array = NDArray[np.float64]
Range = tuple[float, float]

POINTS, TICKS = 121, 6
MOSTLY = 0.95
KINDS = ("time_to_event", "recurrences", "hierarchy")
RATIOS = (
    "hazard_ratio", "rmst_ratio", "rate_ratio", "win_ratio", "win_odds", "risk_ratio", "odds_ratio",
    "common_odds_ratio",
)  # fmt: skip
TRUE_DIFFERENCES = (
    "rmst_difference", "survival_difference", "incidence_difference", "risk_difference", "dose_response",
)  # fmt: skip
TRUE_TOGETHER = ("hazard_ratio", "win_ratio", "win_odds", "net_benefit")
TRUE_RATIOS = ("rmst_ratio", "rate_ratio", "risk_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCurve:
    """One arm (by its index): day (T,), mean over trials of the curve, middle 95 % of trials; mean number at risk of a
    trial at `ticks` (K,); subjects of a trial and events of the mean trial.
    """

    arm: int
    day: Array
    value: Array
    lower: Array
    upper: Array
    at_risk: Array
    subjects: float
    events: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Curves of one endpoint under one way with intercurrent events; `incidence`: rising, competing causes apart."""

    endpoint: str
    events: tuple[str, ...]
    strategy: str
    until: float
    incidence: bool
    ticks: Array
    arms: tuple[ArmCurve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One contrast of one analysis over its trials: mean estimate (of a ratio: the geometric mean), median limits,
    middle 95 % of estimates, share that rejects; bias and coverage against the true value where there is one;
    beyond: trials with an estimate of 0 or infinity, of which a ratio has no geometric mean.
    """

    analysis: str
    endpoint: str
    arm: str
    against: str
    summary: str
    method: str
    ratio: bool
    estimate: Estimate
    limits: Range
    spread: Range
    rejected: Estimate
    bias: Estimate | None
    coverage: Estimate | None
    events: tuple[float, float]
    failed: tuple[tuple[str, int], ...]
    beyond: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Curves of the events of a run, and every analysis that the main tables do not show."""

    curves: tuple[Curves, ...]
    compared: tuple[Compared, ...]


def timed(record: "RunRecord") -> Timed | None:
    """None where the main tables show every analysis."""
    protocol = record.protocol
    asked = [
        (key, name) for key, estimand in protocol.estimands.items() for name in estimand.endpoint
        if _further(protocol.endpoints[name].as_, estimand.summary)
        or any(event in protocol.laboratory for event in protocol.endpoints[name].events)
    ]  # fmt: skip
    if not asked or record.outcomes.empty:
        return None
    compared = [
        _compared(record, (key, name), arm) for key, name in asked for arm in protocol.estimands[key].compare
    ]  # fmt: skip
    return Timed(
        curves=tuple(_curves(record, [w for w in asked if protocol.endpoints[w[1]].as_ in KINDS])),
        compared=tuple(compared),
    )


def _further(kind: str, summary: str) -> bool:
    """Whether an analysis is none of the main tables': mean differences of outputs, risk differences of events."""
    shown = {"incidence": "risk_difference", "value": "mean_difference", "change_from_baseline": "mean_difference"}
    return shown.get(kind) != summary


def _strategy(protocol: "Protocol", key: str) -> str:
    return ", ".join(sorted(set(protocol.estimands[key].strategies.values()))).replace("_", " ")


def _curves(record: "RunRecord", asked: list[tuple[str, str]]) -> list[Curves]:
    """One for each endpoint and strategy: analyses that share both share the curves."""
    protocol = record.protocol
    found: dict[tuple[str, str, bool], list[str]] = {}
    for key, name in asked:
        if protocol.endpoints[name].as_ == "time_to_event":
            incidence = protocol.estimands[key].summary == "incidence_difference"
            found.setdefault((name, _strategy(protocol, key), incidence), []).append(key)
    rows = record.outcomes.sort_values(["replicate", "subject"], kind="stable")
    return [
        _one(protocol, rows, (keys, name, strategy), incidence) for (name, strategy, incidence), keys in found.items()
    ]


def _one(protocol: "Protocol", rows: "pd.DataFrame", which: tuple[list[str], str, str], incidence: bool) -> Curves:
    """Of every arm that one of the analyses compares."""
    from trials.event_times import horizon

    (key, *_), name, strategy = which
    until = horizon(protocol, protocol.endpoints[name])
    time, cause, arm = (
        _wide(rows, column, absent)
        for column, absent in ((f"{key}.{name}.time", np.nan), (f"{key}.{name}.cause", 0), ("arm", -1))
    )
    ticks, wanted = _ticks(protocol, until), [protocol.estimands[k] for k in which[0]]
    codes = {protocol.arm_names.index(a) for estimand in wanted for a in (estimand.against, *estimand.compare)}
    arms = len(protocol.arm_names)
    drawn = _values((time, cause, arm.astype(np.int64)), arms, np.linspace(0.0, until, POINTS), incidence)
    at_risk = _values((time, cause, arm.astype(np.int64)), arms, ticks, False, risk=True)
    events = np.stack([((arm == a) & (cause == 1)).sum(axis=1) for a in range(arms)], axis=1)
    subjects = np.stack([(arm == a).sum(axis=1) for a in range(arms)], axis=1)
    return Curves(
        endpoint=name, events=protocol.endpoints[name].events, strategy=strategy, until=until, incidence=incidence,
        ticks=ticks, arms=tuple(
            _arm_curve(a, (np.linspace(0.0, until, POINTS), drawn[:, a]), at_risk[:, a].mean(axis=0),
                       (float(subjects[:, a].mean()), float(events[:, a].mean())))
            for a in sorted(codes)
        ),
    )  # fmt: skip


def _wide(rows: "pd.DataFrame", column: str, absent: float) -> NDArray[Any]:
    """A column of sorted rows as (R, N); where a trial ended before everybody had entered, `absent` fills the line."""
    _, number, counts = np.unique(rows["replicate"].to_numpy(), return_inverse=True, return_counts=True)
    values = rows[column].to_numpy()
    found = np.full((counts.size, int(counts.max())), absent, values.dtype)
    found[number, np.arange(number.size) - np.repeat(np.cumsum(counts) - counts, counts)] = values
    return found


def _ticks(protocol: "Protocol", until: float) -> Array:
    """Days of the visits up to the horizon, or as many equal steps where they are few, many or late."""
    days = np.array(sorted(visit.day for visit in protocol.visits.values() if visit.day <= until), dtype=np.float64)
    return days if 3 <= days.size <= 8 and days[0] == 0.0 else np.linspace(0.0, until, TICKS)


def _values(data: tuple[Any, Any, Any], arms: int, at: Array, incidence: bool, *, risk: bool = False) -> Array:
    """Survival, cumulative incidence or number at risk at days (R, A, T)."""
    from trials.analysis import survival

    time, cause, arm = data
    if incidence:
        codes = np.where(np.isnan(time), 0, cause).astype(np.int64)
        return survival.cumulative_incidence(time, codes, arm, arms=arms, causes=2, at=at).value[:, :, 0]
    found = survival.kaplan_meier(time, cause == 1, arm, arms=arms, at=at)
    return found.at_risk if risk else found.survival


def _arm_curve(arm: int, drawn: tuple[Array, Array], at_risk: Array, counts: tuple[float, float]) -> ArmCurve:
    """Mean and middle 95 % over trials; where more than a twentieth of them are not followed so far, nothing."""
    day, values = drawn
    known = np.isfinite(values).mean(axis=0) >= MOSTLY
    low, high, mean = (np.full(day.size, np.nan) for _ in range(3))
    if known.any():
        low[known], high[known] = np.nanquantile(values[:, known], [0.025, 0.975], axis=0)
        mean[known] = np.nanmean(values[:, known], axis=0)
    return ArmCurve(
        arm=arm, day=day, value=mean, lower=low, upper=high, at_risk=at_risk, subjects=counts[0], events=counts[1]
    )


def _compared(record: "RunRecord", which: tuple[str, str], arm: str) -> Compared:
    (key, name), protocol = which, record.protocol
    estimand, analysis, table = protocol.estimands[key], protocol.analyses[key], record.analyses
    rows = table[(table["analysis"] == key) & (table["endpoint"] == name) & (table["contrast"] == arm)]
    rows = rows.sort_values("replicate", kind="stable")
    estimate, lower, upper = (rows[c].to_numpy(np.float64) for c in ("estimate", "lower", "upper"))
    ratio = estimand.summary in RATIOS
    truth = _truth(record, which, arm, rows["replicate"].to_numpy())
    counts = [rows[c].to_numpy(np.float64) for c in ("x_control", "x_treated")]
    return Compared(
        analysis=key, endpoint=name, arm=arm, against=estimand.against, summary=estimand.summary.replace("_", " "),
        method=analysis.method.replace("_", " "), ratio=ratio, estimate=_centre(estimate, ratio=ratio),
        limits=(_median(lower), _median(upper)),
        spread=_middle(estimate),
        rejected=operating.proportion(rows["reject"].to_numpy(np.bool_)),
        bias=None if truth is None else operating.bias(estimate, truth),
        coverage=None if truth is None else operating.coverage(lower, upper, truth),
        events=(float(counts[0].mean()), float(counts[1].mean())),
        failed=_failures(rows["status"].to_numpy()[np.isnan(estimate)]),
        beyond=int((ratio & ((estimate == 0) | np.isinf(estimate))).sum()),
    )  # fmt: skip


def _centre(estimate: Array, *, ratio: bool) -> Estimate:
    """Mean, of ratios the geometric mean with the error of the delta method."""
    if not ratio:
        return operating.mean(estimate)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = operating.mean(np.log(estimate))
    value = float(np.exp(logs.value))
    return Estimate(value=value, mcse=value * logs.mcse, n=logs.n, failed=logs.failed)


def _middle(values: Array) -> Range:
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def _median(values: Array) -> float:
    finite = values[~np.isnan(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _failures(status: NDArray[np.int8]) -> tuple[tuple[str, int], ...]:
    """Words and numbers of the trials without an estimate."""
    from trials.analysis.statuses import advice

    codes, numbers = np.unique(status[status != 0], return_counts=True)
    return tuple((advice(int(c)), int(k)) for c, k in zip(codes, numbers, strict=True))


def _truth(record: "RunRecord", which: tuple[str, str], arm: str, replicates: NDArray[Any]) -> Array | None:
    """True value of the estimand in each trial (R,), NaN where it was not computed; None where there is none, or where
    more than a twentieth of the trials asked for it have none.
    """
    estimand, truth = record.protocol.estimands[which[0]], record.truth
    kind = record.protocol.endpoints[which[1]].as_
    known = (*TRUE_DIFFERENCES, *TRUE_RATIOS, *(TRUE_TOGETHER if kind in KINDS else ()))
    if estimand.summary not in known or truth.empty:
        return None
    rows = truth[(truth["analysis"] == which[0]) & (truth["endpoint"] == which[1])]
    if rows.empty:
        return None
    by_arm = rows.pivot(index="replicate", columns="arm", values="mean").reindex(replicates)
    one, zero = (by_arm[a].to_numpy(np.float64) for a in (arm, estimand.against))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(one - zero if estimand.summary in (*TRUE_DIFFERENCES, "net_benefit") else one / zero)
    asked = np.isin(replicates, rows["replicate"].to_numpy())
    # the few trials in which nobody happens to stop, or to die of something else, stand for no others
    return found if np.isfinite(found[asked]).mean() >= MOSTLY else None
