"""True size and coverage of the analyses of binary, count and ordered outcomes; MCP-Mod's size and speed.

`python -m tests.bench.rows_sizes` prints the tables of docs/analyses.md. Binary ones by enumeration of every table,
no simulation; the others by simulation with chance by address.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pkpd.ground.streams import Purpose, uniforms
from tests.bench.harness import Measured, row
from trials.analysis import binary, exact, stratified
from trials.analysis.counts import negative_binomial, poisson
from trials.analysis.dose_response import Candidate, contrast_test, dose_means
from trials.analysis.dose_response_fit import fit
from trials.analysis.logistic import marginal
from trials.analysis.ordinal import proportional_odds, wilcoxon

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
SEED = 20261122
RISKS = (0.05, 0.1, 0.2, 0.3, 0.5)
SIZES = (20, 50, 100)
CANDIDATES = (
    Candidate(kind="emax", guesses=(0.2,)), Candidate(kind="linear"), Candidate(kind="exponential", guesses=(0.3,)),
    Candidate(kind="sig_emax", guesses=(0.4, 3.0)),
)  # fmt: skip


def tables(n: int) -> tuple[Floats, Floats]:
    """Events of treated and control of every table, (n + 1, n + 1)."""
    x = np.arange(n + 1.0)
    return np.broadcast_to(x[:, None], (n + 1, n + 1)), np.broadcast_to(x[None, :], (n + 1, n + 1))


def probability(region: Flags, treated: float, control: float) -> float:
    n = region.shape[0] - 1
    one, zero = (stats.binom.pmf(np.arange(n + 1), n, risk) for risk in (treated, control))
    return float((one[:, None] * np.where(region, 1.0, 0.0) * zero[None, :]).sum())


def wald(n: int) -> tuple[Floats, Floats, Floats]:
    """Wald interval of the risk difference, which is what g-computation gives without covariates."""
    a, b = (x / n for x in tables(n))
    half = 1.959963984540054 * np.sqrt(a * (1 - a) / n + b * (1 - b) / n)
    return a - b, a - b - half, a - b + half


@cache
def rejections(n: int) -> dict[str, Flags]:
    """Tables that each two-sided 5 % test rejects. Not estimable (a log odds ratio with an empty cell): not rejected."""
    x1, x0 = tables(n)
    score, hybrid = binary.miettinen_nurminen(x1, n, x0, n), binary.newcombe(x1, n, x0, n)
    _, low, high = wald(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(1 / x1 + 1 / (n - x1) + 1 / x0 + 1 / (n - x0))
        log_odds = np.abs(np.log(x1 * (n - x0) / (x0 * (n - x1)))) / spread > 1.959963984540054
    return {
        "score (Miettinen-Nurminen, risk ratio, odds ratio, CMH)": (score.lower > 0) | (score.upper < 0),
        "Newcombe": (hybrid.lower > 0) | (hybrid.upper < 0),
        "g-computation without covariates (Wald)": (low > 0) | (high < 0),
        "logistic regression, log odds ratio (Wald)": log_odds & np.isfinite(spread),
        "Fisher": exact.fisher_table(n, n) <= 0.05,
        "Boschloo": _unconditional(n, "boschloo"),
        "Barnard": _unconditional(n, "barnard"),
    }


def _unconditional(n: int, name: str) -> Flags:
    """The rejection region grows with the statistic: bisection over its distinct values finds the critical one."""
    extreme = np.round(exact._extremeness(n, n, "two", name), 9)
    values = np.unique(extreme)
    low, high = 0, values.size  # rejected from `high` on
    while low < high:
        middle = (low + high) // 2
        at = np.argwhere(extreme == values[middle])[0]
        p = float(getattr(exact, name)(at[0], n, at[1], n))
        low, high = (low, middle) if p <= 0.05 else (middle + 1, high)
    return extreme >= values[low] if low < values.size else np.zeros(extreme.shape, np.bool_)


def worst_size(region: Flags) -> float:
    return max(probability(region, risk, risk) for risk in np.linspace(0.005, 0.995, 199).tolist())


def coverages(n: int, control: float, treated: float) -> dict[str, float]:
    """Coverage of 95 % intervals."""
    x1, x0 = tables(n)
    score, hybrid = binary.miettinen_nurminen(x1, n, x0, n), binary.newcombe(x1, n, x0, n)
    ratio, odds = binary.miettinen_nurminen_ratio(x1, n, x0, n), stratified.odds_ratio(x1, n, x0, n)
    _, low, high = wald(n)
    truth, true_odds = treated - control, treated / (1 - treated) / (control / (1 - control))
    inside = {
        "Miettinen-Nurminen": (score.lower <= truth) & (truth <= score.upper),
        "Newcombe": (hybrid.lower <= truth) & (truth <= hybrid.upper),
        "Wald": (low <= truth) & (truth <= high),
        "risk ratio (score)": (ratio.lower <= treated / control) & (treated / control <= ratio.upper),
        "odds ratio (score)": (odds.lower <= true_odds) & (true_odds <= odds.upper),
    }
    return {name: probability(region, treated, control) for name, region in inside.items()}


@cache
def chance(replicates: int, subjects: int, slot: int) -> Floats:
    return uniforms(
        SEED, Purpose.SUMMARY_TRIAL, subject=np.arange(subjects)[None, :], replicate=np.arange(replicates)[:, None],
        slot=slot,
    )  # fmt: skip


def arms(n: int, replicates: int) -> NDArray[np.int64]:
    return np.broadcast_to(np.arange(2 * n) % 2, (replicates, 2 * n)).astype(np.int64)


def rates(n: int, mean: float, theta: float, replicates: int) -> dict[str, tuple[float, float]]:
    """Null size and lost fits of count analyses, negative binomial counts."""
    u = chance(replicates, 2 * n, 0)
    y = stats.nbinom.ppf(u, theta, theta / (theta + mean)) if np.isfinite(theta) else stats.poisson.ppf(u, mean)
    arm, found = arms(n, replicates), {}
    for name in ("model", "joint", "robust"):
        made = negative_binomial(y, arm, arms=2, variance=name).compared
        found[f"negative binomial, {name}"] = (made.reject.mean(), np.isnan(made.estimate).mean())
    quasi = poisson(y, arm, arms=2, variance="quasi").compared
    return {**found, "quasi-Poisson": (quasi.reject.mean(), np.isnan(quasi.estimate).mean())}


def adjusted(n: int, risk: float, replicates: int) -> dict[str, tuple[float, float]]:
    """Null size of g-computation with a strong normal covariate."""
    x = stats.norm.ppf(chance(replicates, 2 * n, 1))
    y = (chance(replicates, 2 * n, 2) < 1 / (1 + np.exp(-(np.log(risk / (1 - risk)) + 1.2 * x)))).astype(np.float64)
    found = {}
    for name in ("model", "sandwich", "robust"):
        made = marginal(y, arms(n, replicates), arms=2, covariates=x, variance=name)
        found[f"g-computation with a covariate, {name}"] = (made.reject.mean(), np.isnan(made.estimate).mean())
    return found


def ordered(n: int, replicates: int) -> dict[str, tuple[float, float]]:
    """Null size with five categories of probabilities 0.1, 0.2, 0.4, 0.2, 0.1."""
    y = np.searchsorted([0.1, 0.3, 0.7, 0.9], chance(replicates, 2 * n, 3)).astype(np.float64)
    arm = arms(n, replicates)
    odds, ranks = proportional_odds(y, arm, arms=2), wilcoxon(y, arm, arms=2)
    return {"proportional odds": (odds.reject.mean(), np.isnan(odds.estimate).mean()),
            "Wilcoxon": (ranks.reject.mean(), np.isnan(ranks.p).mean())}  # fmt: skip


def dose_finding(replicates: int, n: int = 20) -> tuple[Floats, NDArray[np.int64], Floats]:
    doses = np.array([0.0, 0.05, 0.2, 0.6, 1.0])
    arm = np.broadcast_to(np.arange(5 * n) % 5, (replicates, 5 * n)).astype(np.int64)
    return stats.norm.ppf(chance(replicates, 5 * n, 4)), arm, doses


@row("trials.mcp_mod.size", unit="", bar="0.02352 .. 0.02648")
def mcp_mod_size() -> Measured:
    """Type I error of the multiple contrast test, one-sided 2.5 %, 5 doses x 20: exact by theory (within 3 MCSE)."""
    y, arm, doses = dose_finding(100_000)
    means = dose_means(y, arm, doses)
    first = contrast_test(dose_means(y[:1], arm[:1], doses), CANDIDATES, alpha=0.025)  # one design: one critical value
    top = (first.contrasts * means.mean[:, None, :]).sum(axis=2)
    largest = (top / np.sqrt(means.covariance[:, :1, 0])).max(axis=1)  # contrasts of length 1, equal groups
    return Measured(float((largest > first.critical).mean()), f"100,000 trials, critical value {first.critical[0]:.4f}")


@row("trials.mcp_mod.speed", unit="trials/s", bar=">= 100")
def mcp_mod_speed() -> Measured:
    """Means, test with adjusted p-values of 4 shapes and their fits, 5 doses x 20, one core, compilation apart."""
    y, arm, doses = dose_finding(400)

    def whole(r: int) -> None:
        means = dose_means(y[:r], arm[:r], doses)
        contrast_test(means, CANDIDATES, alpha=0.025)
        fit(means, [c.kind for c in CANDIDATES])

    return speed(whole, 400)


@row("trials.negative_binomial.speed", unit="trials/s", bar=">= 1000")
def negative_binomial_speed() -> Measured:
    """2 arms x 100, mean 2, theta 1, one core, compilation apart."""
    y = stats.nbinom.ppf(chance(1000, 200, 0), 1.0, 1 / 3)
    return speed(lambda r: negative_binomial(y[:r], arms(100, r), arms=2), 1000)


def speed(run: Callable[[int], object], replicates: int) -> Measured:
    run(2)
    start = time.process_time()
    run(replicates)
    return Measured(replicates / (time.process_time() - start), f"{replicates} trials")


@row("trials.exact.worst_size", unit="", bar="<= 0.05")
def exact_size() -> Measured:
    """Largest size of Fisher, Boschloo and Barnard at 20, 50, 100 per arm over 199 common risks, enumerated."""
    found = {
        (n, name): worst_size(region)
        for n in SIZES
        for name, region in rejections(n).items()
        if name in ("Fisher", "Boschloo", "Barnard")
    }
    which = max(found, key=lambda key: found[key])
    return Measured(found[which], f"{which[1]} at {which[0]} per arm")


def show() -> None:
    """The tables of docs/analyses.md."""
    print("| test, 5 % two-sided | n per arm |", " | ".join(f"{risk:g}" for risk in RISKS), "| largest |")
    print("|---|---|" + "---|" * (len(RISKS) + 1))
    for name in rejections(SIZES[0]):
        for n in SIZES:
            region = rejections(n)[name]
            cells = " | ".join(f"{probability(region, risk, risk):.4f}" for risk in RISKS)
            print(f"| {name} | {n} | {cells} | {worst_size(region):.4f} |")
    print("\n| 95 % interval, risks | " + " | ".join(str(n) for n in SIZES) + " |\n|---|---|---|---|")
    for control, treated in ((0.1, 0.1), (0.1, 0.3), (0.3, 0.5), (0.05, 0.02)):
        every = [coverages(n, control, treated) for n in SIZES]
        for name in every[0]:
            print(f"| {name}, {treated:g} against {control:g} | " + " | ".join(f"{c[name]:.4f}" for c in every) + " |")
    replicates = 4000
    print(f"\nSimulated, {replicates} null trials: size (share without an estimate)")
    for label, run in (
        ("mean 1, theta 1", lambda n: rates(n, 1.0, 1.0, replicates)),
        ("mean 3, theta 0.5", lambda n: rates(n, 3.0, 0.5, replicates)),
        ("mean 1, Poisson", lambda n: rates(n, 1.0, np.inf, replicates)),
        ("risk 0.3", lambda n: adjusted(n, 0.3, replicates)), ("five categories", lambda n: ordered(n, replicates)),
    ):  # fmt: skip
        every = [run(n) for n in SIZES]
        for name in every[0]:
            cells = " | ".join(f"{c[name][0]:.4f} ({c[name][1]:.4f})" for c in every)
            print(f"| {name}, {label} | {cells} |")


if __name__ == "__main__":
    show()
