"""The numbers of the report, computed once from the outcome and analysis tables.

Two levels are kept apart everywhere: what is expected over replicates, with its MCSE, and what one trial would report.
Arrays are (replicate, arm) unless said otherwise; sums run per replicate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.study import Arm, Endpoint, Study, Term
from trials import operating
from trials.analysis import binary
from trials.operating import Estimate

Array = NDArray[np.float64]
Range = tuple[float, float]
NONE: Range = (np.nan, np.nan)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)  # finer where responses are steep


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Rows of an outcome table sorted into replicate x arm; `arms` are the codes in use."""

    replicates: int
    arms: int
    cell: NDArray[np.int64]

    def total(self, values: NDArray[np.generic]) -> Array:
        """Sum of finite values, (R, A)."""
        x = np.asarray(values, dtype=np.float64)
        summed = np.bincount(self.cell, np.where(np.isfinite(x), x, 0.0), self.replicates * self.arms)
        return summed.reshape(self.replicates, self.arms)

    def count(self, values: NDArray[np.generic]) -> Array:
        """Number of finite values, (R, A)."""
        return self.total(np.isfinite(np.asarray(values, dtype=np.float64)))

    def mean(self, values: NDArray[np.generic]) -> Array:
        """Mean of finite values, (R, A); NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total(values) / self.count(values)

    @property
    def sizes(self) -> Array:
        return self.total(np.ones(self.cell.size))


def cells(outcomes: pd.DataFrame, arms: int) -> Cells:
    """The cells of an outcome table; replicates are numbered in order of appearance by their own number."""
    _, code = np.unique(outcomes["replicate"].to_numpy(), return_inverse=True)
    arm = outcomes["arm"].to_numpy().astype(np.int64)
    return Cells(replicates=int(code.max()) + 1, arms=arms, cell=code.astype(np.int64) * arms + arm)


def middle(values: Array, level: float = 0.95) -> Range:
    """Central range that holds `level` of the finite values."""
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return NONE
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def monte_carlo(estimate: Estimate) -> Range:
    """95 % Monte Carlo interval of an expected value."""
    return estimate.value - 1.96 * estimate.mcse, estimate.value + 1.96 * estimate.mcse


def mean(values: Array) -> Estimate:
    """Mean over replicates with its MCSE; replicates without a value are left out and counted."""
    return operating.mean(np.ascontiguousarray(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One arm against control.

    expected: over replicates, from true values; spread: middle 95 % of replicates' true differences;
    one: what a single trial reports (mean estimate, median limits), limit_mcse the larger MCSE of its limits; trials:
    middle 95 % of the estimates;
    bias, coverage: of estimate and interval against the true difference by potential outcomes, where it was computed.
    """

    arm: Arm
    expected: Estimate
    spread: Range
    one: tuple[float, float, float]
    limit_mcse: float
    trials: Range
    assurance: Estimate
    power: Estimate | None
    bias: Estimate
    coverage: Estimate | None
    differences: Array


def change(outcomes: pd.DataFrame, endpoint: Endpoint, visit: str, *, true: bool) -> Array:
    """The endpoint (change from baseline, or value) at a visit, one per subject (n,); NaN where missing."""
    output = f"{endpoint.output}{'.true' if true else ''}"
    value = outcomes[f"{output}@{visit}"]
    return np.asarray(value - outcomes[f"{output}@{endpoint.baseline}"] if endpoint.change else value, dtype=np.float64)


def true_means(study: Study, outcomes: pd.DataFrame, visit: str) -> Array:
    """Mean true change by replicate and arm, (R, A)."""
    return cells(outcomes, len(study.arms)).mean(change(outcomes, study.main, visit, true=True))


@lru_cache(maxsize=2)
def effects(study: Study) -> tuple[Effect, ...]:
    """The primary comparison of every treated arm that the analysis compares; none without a primary endpoint."""
    if study.primary is None:
        return ()
    means = true_means(study, study.outcomes, study.main.visit)
    compared = set(study.analyses.loc[study.analyses["analysis"] == study.main.key, "contrast"])
    return tuple(
        _effect(study, arm, means[:, arm.index] - means[:, study.control.index])
        for arm in study.treated
        if arm.key in compared
    )


def _effect(study: Study, arm: Arm, differences: Array) -> Effect:
    rows = contrast(study.analyses, study.main, arm)
    estimate, lower, upper = (np.asarray(rows[c], dtype=np.float64) for c in ("estimate", "lower", "upper"))
    truth = _truth(study, arm, rows["replicate"])
    return Effect(
        arm=arm,
        expected=mean(differences),
        spread=middle(differences),
        one=(_mean(estimate), _median(lower), _median(upper)),
        limit_mcse=max(operating.quantile(limit, 0.5).mcse for limit in (lower, upper)),
        trials=middle(estimate),
        assurance=operating.proportion(np.asarray(rows["reject"], dtype=bool)),
        power=_power(study, arm),
        bias=operating.bias(estimate, differences if truth is None else truth),
        coverage=None if truth is None else operating.coverage(lower, upper, truth),
        differences=differences,
    )


def _truth(study: Study, arm: Arm, replicate: pd.Series) -> Array | None:
    """True difference of each replicate with every subject under both arms (R,), NaN where it was not computed."""
    known = study.truth
    if known is None or arm.key not in known.columns or study.control.key not in known.columns:
        return None
    difference = known[arm.key] - known[study.control.key]
    return difference.reindex(replicate.to_numpy()).to_numpy(dtype=np.float64)


def contrast(analyses: pd.DataFrame, endpoint: Endpoint, arm: Arm) -> pd.DataFrame:
    """Rows of one comparison, one per replicate in order."""
    named = (analyses["analysis"] == endpoint.key) & (analyses["endpoint"] == endpoint.endpoint)
    rows = analyses[named & (analyses["contrast"] == arm.key)]
    return rows.sort_values("replicate", kind="stable")


def _power(study: Study, arm: Arm) -> Estimate | None:
    if study.median is None:
        return None
    rows = contrast(study.median.analyses, study.main, arm)
    return operating.proportion(np.asarray(rows["reject"], dtype=bool)) if len(rows) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """One adverse event in one arm, at least one grade: incidence and, for treated arms, the difference from "
    "control."""

    arm: Arm
    incidence: Estimate
    spread: Range
    difference: Estimate | None
    one: tuple[float, float, float]
    differences: Array
    subjects: int


def grades(outcomes: pd.DataFrame, keys: Sequence[str]) -> NDArray[np.int64]:
    """Worst grade over some events, one value per subject (n,); 0 where none occurred."""
    found = np.stack([np.asarray(outcomes[f"{key}.grade"], dtype=np.int64) for key in keys])
    return np.asarray(found.max(axis=0), dtype=np.int64)


@lru_cache(maxsize=64)
def risks(study: Study, keys: tuple[str, ...], grade: int) -> tuple[Risk, ...]:
    """Risk of an event (any of `keys`) of at least `grade` in every arm, in protocol order."""
    sorted_rows = cells(study.outcomes, len(study.arms))
    events, sizes = sorted_rows.total(grades(study.outcomes, keys) >= grade), sorted_rows.sizes
    control = [study.control.index]
    found = binary.miettinen_nurminen(events, sizes, events[:, control], sizes[:, control])
    return tuple(_risk(study, arm, (events, sizes), found) for arm in study.arms)


def _risk(study: Study, arm: Arm, counts: tuple[Array, Array], found: binary.Interval) -> Risk:
    events, sizes = counts
    share = events / sizes
    differences = share[:, arm.index] - share[:, study.control.index]
    one = (_mean(found.estimate[:, arm.index]), _median(found.lower[:, arm.index]), _median(found.upper[:, arm.index]))
    return Risk(
        arm=arm,
        incidence=mean(share[:, arm.index]),
        spread=middle(share[:, arm.index]),
        difference=None if arm.control else mean(differences),
        one=(np.nan, np.nan, np.nan) if arm.control else one,
        differences=differences,
        subjects=int(sizes[:, arm.index].sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Ratio of expected incidences of one arm against control with its MCSE, and the median limits of one trial."""

    arm: Arm
    value: float
    mcse: float
    one: Range


def risk_ratio(study: Study, keys: Sequence[str], arm: Arm) -> Ratio:
    """Ratio of incidences; the MCSE follows from the linearised ratio, replicate by replicate."""
    sorted_rows = cells(study.outcomes, len(study.arms))
    events, sizes = sorted_rows.total(grades(study.outcomes, keys) >= 1), sorted_rows.sizes
    treated, control = (events[:, a] / sizes[:, a] for a in (arm.index, study.control.index))
    ratio = float(treated.mean() / control.mean()) if control.mean() > 0 else np.nan
    residual = treated - ratio * control
    error = float(residual.std(ddof=1) / np.sqrt(residual.size) / control.mean()) if residual.size > 1 else np.nan
    found = binary.miettinen_nurminen_ratio(
        events[:, arm.index], sizes[:, arm.index], events[:, study.control.index], sizes[:, study.control.index]
    )
    return Ratio(arm=arm, value=ratio, mcse=error, one=(_median(found.lower), _median(found.upper)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Binned:
    """A response in bins of exposure, each (b,): exposure, mean, its MCSE, 10th and 90th percentile of subjects."""

    exposure: Array
    mean: Array
    mcse: Array
    low: Array
    high: Array


def binned(exposure: Array, response: Array, replicate: NDArray[np.int64]) -> Binned:
    """Mean response in bins of exposure (n,) cut at the quantiles `SHARES`, errors clustered by replicate.

    With d_r = sum_r (y - mean) over a replicate's subjects in the bin: MCSE = sqrt(sum d_r^2) / n.
    """
    kept = np.isfinite(exposure) & np.isfinite(response)
    x, y, r = exposure[kept], response[kept], replicate[kept]
    edges = np.unique(np.quantile(x, SHARES)) if x.size else np.zeros(0)
    place = np.searchsorted(edges, x, side="right")
    found = [_bin(x[place == b], y[place == b], r[place == b]) for b in range(edges.size + 1) if np.any(place == b)]
    columns = np.array(found).reshape(-1, 5).T
    return Binned(**dict(zip(("exposure", "mean", "mcse", "low", "high"), columns, strict=True)))


def _bin(x: Array, y: Array, replicate: NDArray[np.int64]) -> tuple[float, ...]:
    centre = float(y.mean())
    residual = y - centre
    clusters = np.bincount(replicate, residual)
    low, high = np.quantile(y, [0.1, 0.9])
    return float(np.median(x)), centre, float(np.sqrt((clusters**2).sum()) / y.size), float(low), float(high)


def thinned(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of `count` row numbers, evenly spaced: the same rows every time.

    >>> thinned(10, 4)
    array([0, 2, 5, 7])
    """
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return (np.arange(most, dtype=np.int64) * count) // most


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Variance of one trial's estimate of a difference, by source, as standard deviations (unit of the endpoint)."""

    parameters: float
    subjects: float
    residual: float
    total: float
    monte_carlo: float


def budget(study: Study, effect: Effect) -> Budget:
    """Split the variance of the estimates over replicates.

    Between subjects: sampling variance of the true difference of means within a replicate; parameters: what remains of
    the variance of true differences; residual, missing data and analysis: variance of estimate - true difference.
    """
    sorted_rows = cells(study.outcomes, len(study.arms))
    y = change(study.outcomes, study.main, study.main.visit, true=True)
    n, first, second = sorted_rows.count(y), sorted_rows.total(y), sorted_rows.total(y * y)
    with np.errstate(invalid="ignore", divide="ignore"):
        sampling = (second / n - (first / n) ** 2) / (n - 1)
    pair = [effect.arm.index, study.control.index]
    within = float(np.nanmean(sampling[:, pair].sum(axis=1)))
    true = float(np.nanvar(effect.differences, ddof=1))
    estimate = np.asarray(contrast(study.analyses, study.main, effect.arm)["estimate"], dtype=np.float64)
    rest = float(np.nanvar(estimate - effect.differences, ddof=1))
    return Budget(
        parameters=float(np.sqrt(max(true - within, 0.0))),
        subjects=float(np.sqrt(within)),
        residual=float(np.sqrt(rest)),
        total=float(np.sqrt(np.nanvar(estimate, ddof=1))),
        monte_carlo=effect.expected.mcse,
    )


def term_keys(study: Study) -> tuple[tuple[str, tuple[str, ...], int], ...]:
    """Every event to report: name, its keys, highest grade; the composite last."""
    single = tuple((term.term, (term.key,), term.grades) for term in study.terms)
    if len(study.composite) < 2:
        return single
    highest = max((term.grades for term in _chosen(study)), default=1)
    return (*single, ("Any of these", study.composite, highest))


def _chosen(study: Study) -> list[Term]:
    return [term for term in study.terms if term.key in study.composite]


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else np.nan


def _median(values: Array) -> float:
    usable = values[~np.isnan(values)]
    return float(np.median(usable)) if usable.size else np.nan


def forget() -> None:
    """Let go of the studies whose numbers are remembered."""
    effects.cache_clear()
    risks.cache_clear()
