"""Designs beside each other on the same virtual patients: operating characteristics and their paired differences.

A design under a scenario gives `Sample`s, one value a replicate. Subject s of replicate r is the same person under
every design, so a difference is averaged replicate by replicate: its Monte Carlo error is that of the differences,
smaller than that of two independent runs as far as the designs agree on the same people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trials.operating import Estimate, difference, mean, proportion, quantile

__all__ = ["Comparison", "Difference", "Exact", "Sample", "Scenario", "contrasted", "estimated", "scenario"]

Floats = NDArray[np.float64]
Kind = Literal["share", "mean", "quantile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value a replicate (R,), NaN where there is none, and what is said of them: share, mean or `q` quantile."""

    label: str
    values: Floats
    kind: Kind = "mean"
    q: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """The same number without simulation. how: by which way; approximate: it rests on a normal approximation."""

    value: float
    how: str
    approximate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A measure of `design` less that of `against`. unpaired: MCSE had the two designs met different people; pairs:
    replicates that have both.
    """

    measure: str
    design: str
    against: str
    paired: Estimate
    unpaired: float

    @property
    def gain(self) -> float:
        """Variance without pairing over variance with it: so many times the replicates would be needed. NaN for 0/0."""
        if self.paired.mcse > 0:
            return (self.unpaired / self.paired.mcse) ** 2
        return math.inf if self.unpaired > 0 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What all designs did under one truth. null: `global` or `partial` by design, where nothing or not all is true to
    find; exact: by design and measure; shares: the measures that are probabilities.
    """

    name: str
    replicates: int
    labels: dict[str, str]
    shares: frozenset[str]
    estimates: dict[str, dict[str, Estimate]]
    differences: tuple[Difference, ...]
    null: dict[str, str] = field(default_factory=dict)
    exact: dict[str, dict[str, Exact]] = field(default_factory=dict)

    @property
    def main(self) -> str:
        """The measure that is spoken of first: the first probability."""
        return next(key for key in self.labels if key in self.shares)

    def off(self, design: str, measure: str) -> float:
        """(simulated - exact) in Monte Carlo errors; of a probability the error is that of the exact one. NaN where
        nothing varies.
        """
        e, known = self.estimates[design][measure], self.exact[design][measure].value
        exact_error = math.sqrt(max(known * (1.0 - known), 0.0) / max(e.n, 1)) if measure in self.shares else e.mcse
        return (e.value - known) / exact_error if exact_error > 0 else math.nan

    def worst(self) -> float:
        """Largest |simulated - exact| in Monte Carlo errors, of numbers that are exact; NaN without any."""
        found = [abs(self.off(d, m)) for d, by in self.exact.items() for m, e in by.items() if not e.approximate]
        return max((x for x in found if not math.isnan(x)), default=math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Designs in order, the first is compared against; scenarios in order; remarks for whoever reads it."""

    designs: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    seed: int
    remarks: tuple[str, ...] = ()
    mcse: float | None = None

    def largest_type_one(self) -> dict[str, tuple[str, Estimate]]:
        """By design: the null scenario with the most false rejections, and their share."""
        found: dict[str, tuple[str, Estimate]] = {}
        for s in self.scenarios:
            for design in s.null:
                share = s.estimates[design]["type_i_error"]
                if design not in found or share.value > found[design][1].value:
                    found[design] = s.name, share
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for machines; what cannot be estimated is None."""
        largest = {d: {"scenario": n, **_plain(e)} for d, (n, e) in self.largest_type_one().items()}
        return {
            "designs": list(self.designs), "seed": self.seed, "asked_mcse": self.mcse, "remarks": list(self.remarks),
            "largest_type_i_error": largest, "scenarios": [_scenario(s) for s in self.scenarios],
        }  # fmt: skip


def estimated(sample: Sample) -> Estimate:
    """A sample as value and MCSE; replicates without a value are counted as failed."""
    if sample.kind == "share":
        good = sample.values[np.isfinite(sample.values)]
        found = proportion(good > 0.5)
        return Estimate(value=found.value, mcse=found.mcse, n=found.n, failed=sample.values.size - good.size)
    if sample.kind == "mean":
        return mean(sample.values)
    found = quantile(sample.values, sample.q)
    sure = found.mcse <= 1e-9 * max(1.0, abs(found.value))  # of a few possible values one stands fast
    return Estimate(value=found.value, mcse=0.0 if sure else found.mcse, n=found.n, failed=found.failed)


def contrasted(a: Sample, b: Sample) -> tuple[Estimate, float]:
    """a - b with its paired MCSE, and the MCSE that two independent runs would have.

    Shares that differ in no replicate, or in all: the error of half a pair that is otherwise, never 0. Quantiles: the
    correlation of the two estimates is that of the indicators of lying below them (Bahadur's representation).

    >>> same = Sample(label="x", values=np.array([1.0, 0.0, 1.0, 1.0]), kind="share")
    >>> contrasted(same, same)[0].value
    0.0
    """
    both = np.isfinite(a.values) & np.isfinite(b.values)
    x, y = a.values[both], b.values[both]
    first, second = (estimated(Sample(label=s.label, values=v, kind=s.kind, q=s.q)) for s, v in ((a, x), (b, y)))
    apart = math.hypot(first.mcse, second.mcse)
    if a.kind == "quantile":
        return _quantiles((x, y), (first, second), apart), apart
    found = difference(x, y)
    error = found.mcse
    if a.kind == "share" and x.size and np.ptp(x - y) == 0.0:
        error = math.sqrt(0.5 / (x.size + 1.0) / x.size)
    return Estimate(value=found.value, mcse=error, n=found.n, failed=a.values.size - x.size), apart


def _quantiles(values: tuple[Floats, Floats], found: tuple[Estimate, Estimate], apart: float) -> Estimate:
    below = [(v <= e.value).astype(np.float64) for v, e in zip(values, found, strict=True)]
    spread = [float(b.std()) for b in below]
    together = float(np.mean(below[0] * below[1]) - below[0].mean() * below[1].mean())
    rho = together / (spread[0] * spread[1]) if min(spread) > 0 else 0.0
    variance = apart**2 - 2.0 * rho * found[0].mcse * found[1].mcse
    return Estimate(value=found[0].value - found[1].value, mcse=math.sqrt(max(variance, 0.0)), n=values[0].size)


def scenario(
    name: str, samples: Mapping[str, Mapping[str, Sample]], *, null: Mapping[str, str] | None = None,
    exact: Mapping[str, Mapping[str, Exact]] | None = None,
) -> Scenario:  # fmt: skip
    """Estimates of every design, and differences of each against the first in what both have."""
    fullest = sorted(samples.values(), key=len, reverse=True)
    labels = {key: s.label for by in fullest for key, s in by.items()}
    shares = frozenset(key for by in fullest for key, s in by.items() if s.kind == "share")
    first, *others = samples
    made = []
    for design in others:
        for key in (key for key in samples[design] if key in samples[first]):
            paired, unpaired = contrasted(samples[design][key], samples[first][key])
            made.append(Difference(measure=key, design=design, against=first, paired=paired, unpaired=unpaired))
    known = {d: {k: e for k, e in by.items() if k in samples[d]} for d, by in (exact or {}).items()}
    return Scenario(
        name=name, replicates=max(s.values.size for by in samples.values() for s in by.values()),
        labels=labels, shares=shares,
        estimates={d: {k: estimated(s) for k, s in by.items()} for d, by in samples.items()},
        differences=tuple(made), null=dict(null or {}), exact=known,
    )  # fmt: skip


def _plain(e: Estimate) -> dict[str, Any]:
    return {"value": _number(e.value), "mcse": _number(e.mcse), "n": e.n, "failed": e.failed}


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _scenario(s: Scenario) -> dict[str, Any]:
    return {
        "scenario": s.name, "replicates": s.replicates, "null": s.null,
        "labels": s.labels,
        "designs": {d: {k: _plain(e) for k, e in by.items()} for d, by in s.estimates.items()},
        "exact": {
            d: {k: {"value": e.value, "how": e.how, "approximate": e.approximate} for k, e in by.items()}
            for d, by in s.exact.items()
        },
        "differences": [
            {"measure": d.measure, "design": d.design, "against": d.against, **_plain(d.paired),
             "unpaired_mcse": _number(d.unpaired), "variance_ratio": _number(d.gain)}
            for d in s.differences
        ],
    }  # fmt: skip
