"""What must hold before a concentration-QTc model is believed: delay, heart rate, correction, linearity; and outliers.

By-time means are observed, not modelled: within subjects where everybody on the drug also had placebo (crossover), else
between groups with Welch's interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.streams import Purpose, uniforms
from trials.analysis.binary import Interval, clopper_pearson
from trials.analysis.qt import LEVEL, Course, QtFit, concentration_qt
from trials.analysis.qt_data import Ecgs, bazett
from trials.analysis.random_effects import Contrast, contrast, fitted, moments

__all__ = [
    "CATEGORIES",
    "DELAY",
    "HEART_RATE",
    "ByTime",
    "Deciles",
    "Hysteresis",
    "Outliers",
    "Panel",
    "added_by_time",
    "deciles",
    "hysteresis",
    "linearity",
    "outliers",
    "panel",
    "rate_slope",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HEART_RATE = 10.0  # bpm: mean changes beyond it ask for another correction (Garnett et al. 2018)
DELAY = 1.0  # h: shorter delays hardly bias the slope (Ring, FDA/ASA workshop: <= 0.5-1 h none, > 2 h over 20 %)
CATEGORIES = {"QTcF > 450 ms": ("qtcf", 450.0), "QTcF > 480 ms": ("qtcf", 480.0), "QTcF > 500 ms": ("qtcf", 500.0),
              "dQTcF > 30 ms": ("change", 30.0), "dQTcF > 60 ms": ("change", 60.0)}  # fmt: skip
RESAMPLES, BINS = 1000, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One treatment against placebo as tables of subjects (N or M) by time (T), NaN = missing.

    paired: the rows of `active` and `placebo` are the same subjects.
    """

    times: Floats
    active: Floats
    placebo: Floats
    conc: Floats
    paired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTime:
    """Mean difference from placebo by time (T,), its two-sided interval, subjects on the drug seen."""

    times: Floats
    mean: Floats
    lower: Floats
    upper: Floats
    n: Integers

    @property
    def worst(self) -> int:
        """Place of the largest absolute mean."""
        return int(np.nanargmax(np.abs(self.mean)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hysteresis:
    """delay [h] of the mean effect's peak after the mean concentration's, with its bootstrap interval; `area` of the
    loop (conc x ms; > 0: counter-clockwise, the effect comes late): mean of the subjects' own areas with its t
    interval, in a parallel design the area of the means without one; suggested: the delay is above `DELAY`.
    """

    peak_conc: float
    peak_effect: float
    delay: float
    delay_interval: tuple[float, float]
    area: float
    area_interval: tuple[float, float]
    suggested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciles:
    """Observed ddQTcF (the model's intercept, times and baseline taken off) by tenths of the concentration: medians of
    concentration, means over subjects, intervals, lines."""

    conc: Floats
    mean: Floats
    lower: Floats
    upper: Floats
    n: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """Subjects of a treatment with at least one line after the dose in each category, among those seen."""

    treatment: str
    subjects: int
    counts: Mapping[str, int]
    shares: Mapping[str, Interval]
    lines: Mapping[str, int]


def panel(data: Ecgs, treatment: int, value: Floats) -> Panel:
    """The table of `value` (n,) of a treatment (code) and of placebo, after the dose; repeated lines are averaged."""
    after = ~data.before
    placebo = np.flatnonzero(after & (data.drug == 0))
    active = np.flatnonzero(after & (data.treatment == treatment))
    times = np.unique(data.time[active])
    people = np.unique(data.subject[active])
    paired = bool(np.isin(people, data.subject[placebo]).all())
    controls = people if paired else np.unique(data.subject[placebo])
    return Panel(
        times=times, paired=paired, active=_table(data, active, value, (people, times)),
        conc=_table(data, active, data.conc, (people, times)), placebo=_table(data, placebo, value, (controls, times)),
    )  # fmt: skip


def _table(data: Ecgs, rows: NDArray[np.intp], value: Floats, axes: tuple[Integers, Floats]) -> Floats:
    people, times = axes
    rows = rows[np.isin(data.subject[rows], people) & np.isin(data.time[rows], times) & np.isfinite(value[rows])]
    place = np.searchsorted(people, data.subject[rows]) * times.size + np.searchsorted(times, data.time[rows])
    total = np.bincount(place, weights=value[rows], minlength=people.size * times.size)
    count = np.bincount(place, minlength=people.size * times.size)
    made: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return made.reshape(people.size, times.size)


def added_by_time(shown: Panel, level: float = LEVEL) -> ByTime:
    """Mean difference from placebo at every time: paired or Welch's t interval."""
    if shown.paired:
        mean, error, df, n = _moments(shown.active - shown.placebo)
        error = error**2
    else:
        mean, error, df, n = _moments(shown.active)
        other, se, free, _ = _moments(shown.placebo)
        with np.errstate(invalid="ignore", divide="ignore"):
            df = (error**2 + se**2) ** 2 / (error**4 / df + se**4 / free)
        mean, error = mean - other, error**2 + se**2
    half = _t(level, df) * np.sqrt(error)
    return ByTime(times=shown.times, mean=mean, lower=mean - half, upper=mean + half, n=n)


def _moments(table: Floats) -> tuple[Floats, Floats, Floats, Integers]:
    """Mean, standard error, degrees of freedom, number by column, NaN left out; NaN where fewer than two."""
    seen = np.isfinite(table)
    n = seen.sum(axis=0)
    mean = np.where(n > 0, np.where(seen, table, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)
    square = (np.where(seen, table - mean, 0.0) ** 2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(n > 1, np.sqrt(square / np.maximum(n - 1, 1) / np.maximum(n, 1)), np.nan)
    return mean, error, np.maximum(n - 1.0, 1.0), n


def _t(level: float, df: ArrayLike) -> Floats:
    from scipy.special import stdtrit

    made: Floats = stdtrit(np.asarray(df, np.float64), 0.5 * (1.0 + level))
    return made


def hysteresis(shown: Panel, *, seed: int = 20261121, level: float = LEVEL) -> Hysteresis:
    """Whether the effect lags behind the concentration (of a panel of dQTcF)."""
    conc, effect = _columns(shown.conc), _columns(shown.active) - _columns(shown.placebo)
    if not (np.isfinite(conc).any() and np.isfinite(effect).any()):
        nothing = float("nan")
        return Hysteresis(
            peak_conc=nothing, peak_effect=nothing, delay=nothing, delay_interval=(nothing, nothing), area=nothing,
            area_interval=(nothing, nothing), suggested=False,
        )  # fmt: skip
    top, peak = int(np.nanargmax(conc)), int(np.nanargmax(effect))
    delays = _delays(shown, seed)
    tail = 0.5 * (1.0 - level)
    limits = np.quantile(delays, (tail, 1.0 - tail))
    area, interval = _area(conc, effect), (float("nan"), float("nan"))
    if shown.paired:
        own = np.array([_area(c, e) for c, e in zip(shown.conc, shown.active - shown.placebo, strict=True)])
        mean, error, df, _ = _moments(own[:, None])
        half = float((_t(level, df) * error)[0])
        area, interval = float(mean[0]), (float(mean[0]) - half, float(mean[0]) + half)
    delay = float(shown.times[peak] - shown.times[top])
    return Hysteresis(
        peak_conc=float(shown.times[top]), peak_effect=float(shown.times[peak]), delay=delay,
        delay_interval=(float(limits[0]), float(limits[1])), area=area, area_interval=interval,
        suggested=delay > DELAY,
    )  # fmt: skip


def _columns(table: Floats) -> Floats:
    return _moments(table)[0]


def _delays(shown: Panel, seed: int) -> Floats:
    """Delays of the peaks in resamples of the subjects (of pairs in a crossover)."""

    def drawn(rows: int, slot: int) -> NDArray[np.intp]:
        u = uniforms(
            seed, Purpose.BOOTSTRAP, subject=np.arange(rows), replicate=np.arange(RESAMPLES)[:, None], slot=slot
        )
        return np.minimum((u * rows).astype(np.intp), rows - 1)

    def means(table: Floats, pick: NDArray[np.intp]) -> Floats:
        """Column means of every resample, NaN left out, by counts of each row; NaN where nobody was seen."""
        weight = np.stack([np.bincount(p, minlength=table.shape[0]) for p in pick]).astype(np.float64)
        seen = np.isfinite(table)
        count = weight @ seen
        made: Floats = np.where(count > 0, (weight @ np.where(seen, table, 0.0)) / np.maximum(count, 1.0), np.nan)
        return made

    def top(table: Floats) -> NDArray[np.intp]:
        return np.where(np.isnan(table), -np.inf, table).argmax(axis=1)

    pick = drawn(shown.active.shape[0], 0)
    other = pick if shown.paired else drawn(shown.placebo.shape[0], 1)
    effect = means(shown.active, pick) - means(shown.placebo, other)
    made: Floats = shown.times[top(effect)] - shown.times[top(means(shown.conc, pick))]
    return made


def _area(conc: Floats, effect: Floats) -> float:
    """Signed area of the loop from the origin through the times and back: counter-clockwise positive."""
    seen = np.isfinite(conc) & np.isfinite(effect)
    x, y = np.append(0.0, conc[seen]), np.append(0.0, effect[seen])
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def rate_slope(data: Ecgs, *, on_drug: bool, corrected: str = "fridericia", df: str = "kenward_roger") -> Contrast:
    """Slope of QTc on RR, ms per s, within subjects with intercepts and slopes of their own: 0 where the correction
    holds. on_drug: lines after a drug, else all lines without one; corrected: "fridericia" or "bazett"."""
    here = (data.drug > 0) & ~data.before
    here = here if on_drug else ~here
    y = data.qtcf if corrected == "fridericia" else bazett(data.qt, data.rr)
    here &= np.isfinite(y) & np.isfinite(data.rr)
    nothing = np.array([np.nan])
    if np.unique(data.subject[here]).size < 3:
        return Contrast(estimate=nothing, se=nothing, df=nothing)
    rr = data.rr[here] / 1000.0
    x = np.stack([np.ones(rr.size), rr - rr.mean()], axis=-1)[None]
    codes = np.unique(data.subject[here], return_inverse=True)[1]
    return contrast(fitted(moments(x, x * [1.0, 10.0], y[here][None], codes)), [0.0, 1.0], df)


def linearity(course: Course, df: str = "kenward_roger") -> tuple[Contrast, float]:
    """The coefficient of the squared concentration (ms at `scale`) and its two-sided p."""
    from scipy.special import stdtr

    found = concentration_qt(course, df=df, quadratic=True).curvature()
    t = abs(found.estimate[0] / found.se[0])
    return found, float(2.0 * stdtr(found.df[0], -t)) if np.isfinite(t) else float("nan")


def deciles(course: Course, fit: QtFit, level: float = LEVEL) -> Deciles:
    """Observed against modelled: ddQTcF by tenths of the positive concentrations (of the first replicate)."""
    beta, used = fit.fit.beta[0], (course.group > 0) & (course.conc[0] > 0.0) & np.isfinite(course.change[0])
    at = np.zeros(course.time.size)
    for k, time in enumerate(fit.times[1:]):
        at[course.time == time] = beta[-(fit.times.size - 1) + k]
    baseline = course.baseline[0] - np.nanmean(course.baseline[0])
    added = course.change[0] - beta[0] - at - beta[3] * baseline
    used &= np.isfinite(added)
    conc = course.conc[0][used]
    cuts = np.quantile(conc, np.arange(1, BINS) / BINS)
    place = np.searchsorted(cuts, conc, side="right")
    rows = []
    for k in np.unique(place):
        here = np.flatnonzero(used)[place == k]
        people = np.unique(course.subject[here], return_inverse=True)[1]
        means = np.bincount(people, weights=added[here]) / np.bincount(people)
        mean, error, df, _ = _moments(means[:, None])
        half = float((_t(level, df) * error)[0])
        rows.append((float(np.median(course.conc[0][here])), float(mean[0]), half, here.size))
    table = np.array(rows)
    return Deciles(
        conc=table[:, 0], mean=table[:, 1], lower=table[:, 1] - table[:, 2], upper=table[:, 1] + table[:, 2],
        n=table[:, 3].astype(np.int64),
    )  # fmt: skip


def outliers(data: Ecgs, treatment: int) -> Outliers:
    """Subjects and lines of a treatment (code) beyond the categorical limits of ICH E14, after the dose."""
    here = ~data.before & (data.treatment == treatment) & np.isfinite(data.qtcf)
    people = np.unique(data.subject[here])
    counts, lines = {}, {}
    for name, (what, limit) in CATEGORIES.items():
        with np.errstate(invalid="ignore"):
            beyond = here & (getattr(data, what) > limit)
        counts[name], lines[name] = int(np.unique(data.subject[beyond]).size), int(beyond.sum())
    return Outliers(
        treatment=data.treatments[treatment], subjects=int(people.size), counts=counts, lines=lines,
        shares={name: clopper_pearson(x, people.size, level=LEVEL) for name, x in counts.items()},
    )  # fmt: skip
