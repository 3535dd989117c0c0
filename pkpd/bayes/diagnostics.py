"""Is this posterior fit to bet a dose on? Convergence, modes, contraction, shrinkage; one verdict with its remedy.

R-hat and ESS are rank-normalised split-chain (Vehtari et al. 2021, Bayesian Analysis 16:667), from arviz_stats; E-BFMI
after Betancourt (2016). The mode check exists because flip-flop fits show R-hat 1.8 with no divergence at all: chains
whose means lie more than 3 pooled within-chain sds apart are in different modes, and that is an error, not a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.prior import Prior

__all__ = [
    "DISAGREE",
    "Chains",
    "Diagnostics",
    "Identifiability",
    "Limits",
    "ParameterSummary",
    "diagnose",
    "shrinkage",
]

Floats = NDArray[np.float64]
DISAGREE = "Chains disagree"
CENTRAL_95 = (0.025, 0.5, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a fit must hold before anything downstream may use it."""

    rhat: float = 1.01
    ess: float = 400.0
    divergences: int = 0
    ebfmi: float = 0.3
    apart: float = 3.0
    correlation: float = 0.95  # above it two parameters cannot be told apart: said, not refused
    contraction: float = 0.1  # below it a posterior is its prior: said, not refused
    shrinkage: float = 0.3  # above it a subject's own estimate leans on the population: said, not refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """What the sampler returned: population parameters (chain, draw) by name, divergences, energy (chain, draw)."""

    values: Mapping[str, Floats]
    divergences: int
    energy: Floats | None  # None: draws of no Hamiltonian chain


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSummary:
    """One population parameter on its own scale (log, logit or identity): posterior, prior, convergence.

    `lower`, `upper`: central 95 %. `contraction` = 1 - (posterior sd / prior sd)^2, None for derived quantities.
    `apart`: largest distance between chain means in pooled within-chain sds.
    """

    name: str
    mean: float
    sd: float
    lower: float
    median: float
    upper: float
    mcse: float
    rhat: float
    ess_bulk: float
    ess_tail: float
    apart: float
    prior: dict[str, Any] | None
    prior_interval: tuple[float, float, float] | None
    contraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiability:
    """What the data can tell apart. correlation: posterior correlations of the parameters `names`, rows in their order;
    weakest: contraction (1 - variance/prior variance) of the combination of parameters the data tell least of, in units
    of prior sds, and its `direction` {name: loading}, squares summing to 1.
    """

    names: tuple[str, ...]
    correlation: tuple[tuple[float, ...], ...]
    weakest: float
    direction: dict[str, float]

    def pairs(self, above: float) -> list[tuple[str, str, float]]:
        """(a, b, r) with |r| above a bar, the strongest first."""
        found = [(a, self.names[j], self.correlation[i][j]) for i, a in enumerate(self.names) for j in range(i)]
        return sorted((p for p in found if abs(p[2]) > above), key=lambda p: -abs(p[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """All of it, and `verdict`: one sentence; `ok` False marks the fit, and downstream refuses it unless forced."""

    parameters: tuple[ParameterSummary, ...]
    chains: int
    draws: int
    divergences: int
    ebfmi: tuple[float, ...]
    shrinkage: dict[str, float]
    identifiability: Identifiability
    limits: Limits
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def worst_rhat(self) -> float:
        return max(p.rhat for p in self.parameters)

    @property
    def least_ess(self) -> float:
        return min(p.ess_bulk for p in self.parameters)

    @property
    def verdict(self) -> str:
        """One sentence: what holds, or the first limit that is broken and what to do."""
        if self.problems:
            more = f" ({len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            return self.problems[0] + more
        return (
            f"The fit holds its limits: R-hat at most {self.worst_rhat:.4f}, bulk ESS at least {self.least_ess:.0f}, "
            f"{self.divergences} divergences in {self.chains} chains of {self.draws} draws."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, `ok`, `verdict` and the worst values included."""
        worst = {
            "max_rhat": self.worst_rhat,
            "min_ess_bulk": self.least_ess,
            "min_ess_tail": min(p.ess_tail for p in self.parameters),
            "min_ebfmi": min(self.ebfmi, default=float("nan")),
            "max_apart": max(p.apart for p in self.parameters),
        }
        return {**asdict(self), **worst, "ok": self.ok, "verdict": self.verdict}


def diagnose(
    chains: Chains, priors: Mapping[str, Prior], shrunk: Mapping[str, float], limits: Limits | None = None
) -> Diagnostics:
    """Summaries of every population parameter, checked against `limits`."""
    bars = limits or Limits()
    rows = tuple(_summary(name, x, priors.get(name)) for name, x in chains.values.items())
    ebfmi = () if chains.energy is None else tuple(float(x) for x in _bfmi(chains.energy))
    shape = next(iter(chains.values.values())).shape
    told = _identifiability(chains.values, priors)
    return Diagnostics(
        parameters=rows,
        chains=shape[0],
        draws=shape[1],
        divergences=chains.divergences,
        ebfmi=ebfmi,
        shrinkage=dict(shrunk),
        identifiability=told,
        limits=bars,
        problems=tuple(_problems(rows, chains.divergences, ebfmi, bars)),
        remarks=(*_remarks(shrunk, bars), *_unidentified(rows, told, bars)),
    )


def shrinkage(eta: Floats, omega_sd: Floats) -> float:
    """1 - sd over subjects of the posterior mean eta / posterior mean omega. eta (draws, subjects), omega_sd (draws,).

    >>> shrinkage(np.array([[-1.0, 1.0], [-1.0, 1.0]]), np.array([2.0, 2.0])).__round__(3)
    0.293
    """
    return float(1.0 - np.std(eta.mean(0), ddof=1) / omega_sd.mean())


def _identifiability(values: Mapping[str, Floats], priors: Mapping[str, Prior]) -> Identifiability:
    names = tuple(name for name in values if name in priors)
    if not names:
        return Identifiability(names=(), correlation=(), weakest=1.0, direction={})
    x = np.stack([values[name].ravel() / priors[name].sd for name in names], axis=1)
    covariance = np.atleast_2d(np.cov(x, rowvar=False))
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    variances, vectors = np.linalg.eigh(covariance)
    return Identifiability(
        names=names, correlation=tuple(tuple(float(r) for r in row) for row in correlation),
        weakest=float(1.0 - variances[-1]),
        direction={name: float(v) for name, v in zip(names, vectors[:, -1], strict=True)},
    )  # fmt: skip


def _unidentified(rows: tuple[ParameterSummary, ...], told: Identifiability, bars: Limits) -> list[str]:
    """Parameters that cannot be told apart, and those of which the data say nothing."""
    apart = [
        f"The data hardly tell {a} from {b}: their posterior correlation is {r:.3f}; their combination is known better "
        "than either. Fix one, or add data that separate them."
        for a, b, r in told.pairs(bars.correlation)
    ]
    little = [
        f"The data say little of {p.name}: its posterior is nearly its prior (contraction {p.contraction:.2f})."
        for p in rows
        if p.contraction is not None and p.contraction < bars.contraction
    ]
    return apart + little


def _summary(name: str, x: Floats, prior: Prior | None) -> ParameterSummary:
    from arviz_stats.base import array_stats

    lower, median, upper = (float(q) for q in np.quantile(x, CENTRAL_95))
    sd = float(x.std(ddof=1))
    return ParameterSummary(
        name=name,
        mean=float(x.mean()),
        sd=sd,
        lower=lower,
        median=median,
        upper=upper,
        mcse=float(array_stats.mcse(x, method="mean")),
        rhat=float(array_stats.rhat(x)),
        ess_bulk=float(array_stats.ess(x, method="bulk")),
        ess_tail=float(array_stats.ess(x, method="tail", prob=(0.05, 0.95))),
        apart=_apart(x),
        prior=None if prior is None else prior.to_dict(),
        prior_interval=None if prior is None else _interval(prior),
        contraction=None if prior is None else 1.0 - (sd / prior.sd) ** 2,
    )


def _interval(prior: Prior) -> tuple[float, float, float]:
    lower, median, upper = prior.quantile(CENTRAL_95)
    return float(lower), float(median), float(upper)


def _apart(x: Floats) -> float:
    """Largest distance between chain means over the pooled within-chain sd; 0 for one chain."""
    means = x.mean(1)
    within = float(np.sqrt(x.var(1, ddof=1).mean()))
    return float(np.ptp(means)) / within if within > 0.0 else (np.inf if np.ptp(means) > 0.0 else 0.0)


def _bfmi(energy: Floats) -> Floats:
    """Mean squared step of the energy over its variance, per chain."""
    return np.asarray(np.square(np.diff(energy, axis=1)).mean(1) / energy.var(1))


def _problems(
    rows: tuple[ParameterSummary, ...], divergences: int, ebfmi: tuple[float, ...], bars: Limits
) -> list[str]:
    """Broken limits, the gravest first. A NaN breaks every limit."""
    far = max(rows, key=lambda p: _nan_last(p.apart))
    rhat = max(rows, key=lambda p: _nan_last(p.rhat))
    ess = min(rows, key=lambda p: -_nan_last(-p.ess_bulk))
    tail = min(rows, key=lambda p: -_nan_last(-p.ess_tail))
    least = min(ebfmi, default=np.inf)
    checks = (
        (far.apart <= bars.apart, f"{DISAGREE} about {far.name} by {far.apart:.1f} sd: different modes; "
         "order the rates (above: CL/V for absorption) or give an informative prior."),
        (divergences <= bars.divergences, f"{divergences} divergent transitions: the posterior is not explored; "
         "raise target_accept towards 0.99 or simplify the random effects."),
        (rhat.rhat <= bars.rhat, f"R-hat of {rhat.name} is {rhat.rhat:.3f}, above {bars.rhat}: chains have not mixed; "
         "double tune and draws."),
        (ess.ess_bulk >= bars.ess, f"Bulk ESS of {ess.name} is {ess.ess_bulk:.0f}, below {bars.ess:.0f}: "
         "double the draws."),
        (tail.ess_tail >= bars.ess, f"Tail ESS of {tail.name} is {tail.ess_tail:.0f}, below {bars.ess:.0f}: "
         "double the draws."),
        (least >= bars.ebfmi, f"E-BFMI is {least:.2f}, below {bars.ebfmi}: the energy is badly explored; "
         "centre well-informed random effects or tighten the priors of the scales."),
    )  # fmt: skip
    return [problem for holds, problem in checks if not holds]


def _nan_last(x: float) -> float:
    return np.inf if np.isnan(x) else x


def _remarks(shrunk: Mapping[str, float], bars: Limits) -> list[str]:
    return [
        f"Shrinkage of {name} is {100 * value:.0f} %: individual estimates of it lean on the population."
        for name, value in shrunk.items()
        if value > bars.shrinkage
    ]
