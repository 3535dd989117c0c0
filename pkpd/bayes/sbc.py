"""Simulation-based calibration: are posteriors right on data whose parameters are known?

Parameters are drawn from the priors, data simulated from them, the model fitted to the data: over many fits the rank of
the true value among L draws of its posterior is uniform on 0 ... L (Talts et al. 2018, arXiv:1804.06788). The data come
from the engine (`individual`, `solve`, `observe`), the fits from the compiled density, so that two codes are compared.
The joint log density of data, effects and parameters is ranked too: it sees what no single parameter does (Modrák et
al. 2023, Bayesian Analysis). One density serves every fit: only the observed values change.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.centring import look, starting_point
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design, measured_outputs
from pkpd.bayes.fit import PACKAGES, Settings, _code_key
from pkpd.bayes.people import People, people, redrawn
from pkpd.bayes.plan import (
    Plan,
    between,
    error_label,
    partial_label,
    plan,
    residual_partial,
    spread_label,
    typical_label,
)
from pkpd.bayes.predictive import studies
from pkpd.bayes.sampling import population_draws
from pkpd.bayes.sbc_design import BINS, StudyDesign, records_of
from pkpd.ground import digest
from pkpd.ground.errors import InputError, RunFailed
from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.posterior import Posterior

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["JOINT", "Calibration", "Outcome", "Quantity", "Study", "calibrated", "fitted", "prepared", "summary"]

Floats = NDArray[np.float64]
JOINT = "joint_log_density"
WORST_RHAT, MOST_DIVERGENT, ATTEMPTS = 1.05, 0.01, 3
LEVELS = (0.5, 0.8, 0.9, 0.95)
LEAST_P = 0.001
LEAST_FITS = 2


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study ready to be fitted: the density (every effect non-centred), the true points x (fits, size) in its form,
    data y (fits, rows), the true values of every ranked quantity (fits,).
    """

    model: Model
    design: StudyDesign
    plan: Plan
    law: Density
    x: Floats
    y: Floats
    truth: Mapping[str, Floats]

    @property
    def key(self) -> str:
        """What decides the outcome of a fit, the number of fits aside."""
        versions = {name: version(name) for name in PACKAGES}
        return digest.of_json([self.model.digest, self.design.digest, versions, _code_key()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One fit. failed: "" or why it does not count. By quantity: rank among the kept draws, `pit` = share of all draws
    below the truth, posterior mean and sd, bulk ESS. seconds: of CPU.
    """

    fit: int
    failed: str = ""
    draws: int = 0
    divergences: int = 0
    rhat: float = 0.0
    seconds: float = 0.0
    truth: dict[str, float] = field(default_factory=dict)
    rank: dict[str, int] = field(default_factory=dict)
    pit: dict[str, float] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)
    ess: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One ranked quantity over the fits that count. counts (20,): fits by bin of the rank; p of chi2 against uniform;
    coverage {level: share of central intervals with the truth}; z: mean and sd of (mean - truth)/sd; contraction:
    mean of 1 - var/prior var, None where there is no prior of its own; ess: least, None where there is none.
    """

    name: str
    counts: tuple[int, ...]
    chi2: float
    p: float
    coverage: dict[str, float]
    z_mean: float
    z_sd: float
    contraction: float | None
    ess: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All of it. needed: what p must exceed, 0.001 over the number of quantities; band (low, high): 99 % of a bin's
    counts; prior_sd: of the quantities that have a prior of their own.
    """

    model: str
    design: str
    key: str
    fits: int
    counted: int
    failures: dict[str, int]
    quantities: tuple[Quantity, ...]
    needed: float
    band: tuple[int, int]
    prior_sd: dict[str, float]
    kept: int
    seconds: float

    @property
    def failed(self) -> float:
        """Share of fits that failed."""
        return 1.0 - self.counted / self.fits

    @property
    def ok(self) -> bool:
        return self.failed <= 0.02 and all(q.p > self.needed for q in self.quantities)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.counted < LEAST_FITS:
            return f"{self.counted} of {self.fits} fits count: too few to say anything; ask for more."
        if self.failed > 0.02:
            worst = max(self.failures, key=lambda reason: self.failures[reason])
            return (
                f"Not calibrated: {self.fits - self.counted} of {self.fits} fits failed (most often: {worst}); "
                "raise tune and draws, or narrow the priors."
            )
        worst_p = min(self.quantities, key=lambda q: q.p)
        told = f"the least p of {len(self.quantities)} quantities is {worst_p.p:.2g} ({worst_p.name})"
        if not self.ok:
            return f"Not calibrated: {told}, below {self.needed:.2g}: see its rank histogram before using such a fit."
        return f"Calibrated as far as {self.counted} fits can tell: {told}, above {self.needed:.2g}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "failed": self.failed, "ok": self.ok, "verdict": self.verdict}


def prepared(model: Model, about: StudyDesign, *, file: str | None = None) -> Study:
    """Draw the truths and simulate the data of all fits. file: of the design, for its errors.

    Errors: InputError for a text that cannot be fitted.
    """
    records = records_of(about, model, file=file)
    how = plan(model, measured_outputs(model, records))
    law = density(how, design(model, records))
    x = _truths(how, law, (about, people(model, records)))
    named = law.layout.named(x)
    posterior = Posterior(draws=_population(how, named), model=model)
    number = np.arange(about.fits)
    y = studies(posterior, records, about.seed, (number, number))
    ranked = {name: named[name] for name in (*how.priors, *(n for n in named if _derived(how, n)))}
    return Study(model=model, design=about, plan=how, law=law, x=x, y=y, truth=ranked)


def _derived(how: Plan, name: str) -> bool:
    """The log of the whole typical value of a free parameter above a floor."""
    return any(name == f"log_{n}" and p.above is not None for n, p in how.model.parameters.items() if n in how.typical)


def _population(how: Plan, named: Mapping[str, Floats]) -> Any:
    import xarray as xr

    return population_draws(how, xr.Dataset({n: ("draw", v) for n, v in named.items() if v.ndim == 1}))


def _truths(how: Plan, law: Density, study: tuple[StudyDesign, People]) -> Floats:
    """Points drawn from the priors, each by its address, (fits, size); effects: those the data are simulated with."""
    from scipy import special

    about, folk = study
    layout, number = law.layout, np.arange(about.fits)
    if how.shrunk or layout.absent:
        remedy = "leave horseshoe priors and missing covariates out"
        raise InputError("this model cannot be calibrated yet", field="model", value=how.model.name, remedy=remedy)

    def u(labels: Iterable[str]) -> Floats:
        where = slots(labels)[None, :]
        return uniforms(about.seed, Purpose.CALIBRATION_PRIOR, subject=number[:, None], replicate=0, slot=where)

    z = redrawn(folk, about.seed, number)
    shapes = layout.shapes()[0]
    pairs = [partial_label(block[j], block[i]) for block, _, i, j in layout.block_pairs]
    ties = layout.sigma_shapes()[0]
    tied = [residual_partial(block[j], block[i]) for block, _, i, j in layout.sigma_pairs]
    parts = [
        _quantiles(how.typical.values(), u(typical_label(how.model, n) for n in how.typical)),
        np.log(_quantiles(how.spread.values(), u(spread_label(n) for n in how.spread))),
        special.logit(special.betaincinv(shapes, shapes, u(pairs))),
        np.log(_quantiles(how.error.values(), u(error_label(n) for n in how.error))),
        np.log(_quantiles(how.between.values(), u(spread_label(between(n)) for n in how.between))),
        special.logit(special.betaincinv(ties, ties, u(tied))),
        *(each.transpose(0, 2, 1).reshape(about.fits, -1) for each in (z.own, z.later)),
    ]
    return np.concatenate(parts, axis=1)


def _quantiles(priors: Iterable[Any], u: Floats) -> Floats:
    columns = [prior.quantile(u[:, k]) for k, prior in enumerate(priors)]
    return np.stack(columns, axis=1) if columns else np.zeros((len(u), 0))


def calibrated(study: Study, *, done: Iterable[int] = (), cores: int = 2) -> Iterator[Outcome]:
    """The fits not yet done, one after the other."""
    had = set(done)
    for number in range(study.design.fits):
        if number not in had:
            yield fitted(study, number, cores=cores)


def fitted(study: Study, number: int, *, cores: int = 2) -> Outcome:
    """One fit of the study, by its number; the same number gives the same outcome whatever `cores`.

    It failed where the data could not be simulated, the sampler could not start, R-hat is above 1.05, more than 1 % of
    the transitions diverged, or three attempts (each with twice the draws) left fewer effective draws than are kept.
    """
    start = time.process_time()
    y = study.y[number]
    if not np.isfinite(y).all():
        return Outcome(fit=number, failed="the data could not be simulated")
    found = Outcome(fit=number, failed="not tried")
    for attempt in range(ATTEMPTS):
        found = _attempt(study, number, attempt, cores)
        if found.failed != FEW:
            break
    return Outcome(**{**found.to_dict(), "seconds": time.process_time() - start})


FEW = "too few effective draws"


def _attempt(study: Study, number: int, attempt: int, cores: int) -> Outcome:
    """The steps of an ordinary fit (`sampling.sampled`) on the study's data."""
    from pkpd.bayes.nuts import draw
    from pkpd.bayes.pilot import piloted

    about = study.design
    draws = about.draws * 2**attempt
    settings = Settings(
        seed=number, draws=draws, tune=about.tune, chains=about.chains, target_accept=about.target_accept
    )
    u = uniforms(about.seed, Purpose.CALIBRATION_FIT, subject=number, replicate=0, index=attempt)
    law, seed = study.law.with_data(study.y[number]), int(float(u) * 2**63)
    form, seen, rest = piloted(law, look(law), settings, seed=seed, cores=cores)
    try:
        drawn = draw(form, partial(starting_point, form, seen), rest, seed=seed, cores=cores)
    except RunFailed:
        return Outcome(fit=number, failed="the sampler could not start")
    divergences = int(drawn.stats["diverging"].sum())
    return _ranked(study, number, (law, form, form.layout.plain(drawn.x)), divergences)


def _ranked(study: Study, number: int, fit: tuple[Density, Density, Floats], divergences: int) -> Outcome:
    """Ranks and diagnostics of the draws x (chain, draw, size) of one fit."""
    from arviz_stats.base import array_stats

    law, form, x = fit
    named = form.layout.named(x)
    values = {name: named[name] for name in study.truth}
    rhat = max(float(array_stats.rhat(v)) for v in values.values())
    ess = {name: float(array_stats.ess(v, method="bulk")) for name, v in values.items()}
    kept = np.linspace(0, x[..., 0].size - 1, study.design.kept).round().astype(np.int64)
    plain = _plain(law, x, named).reshape(-1, x.shape[2])[kept]
    joint = np.asarray([law(point)[0] for point in plain])
    truths = {name: float(v[number]) for name, v in study.truth.items()}
    rank = {name: int((v.ravel()[kept] < truths[name]).sum()) for name, v in values.items()}
    top = law(study.x[number])[0]
    return Outcome(
        fit=number, failed=_failure(rhat, divergences / x[..., 0].size, min(ess.values()) < study.design.kept),
        draws=x[..., 0].size, divergences=divergences, rhat=rhat, ess=ess,
        truth={**truths, JOINT: top},
        rank={**rank, JOINT: int((joint < top).sum())},
        pit={**{n: float((v < truths[n]).mean()) for n, v in values.items()}, JOINT: float((joint < top).mean())},
        mean={**{n: float(v.mean()) for n, v in values.items()}, JOINT: float(joint.mean())},
        sd={**{n: float(v.std(ddof=1)) for n, v in values.items()}, JOINT: float(joint.std(ddof=1))},
    )  # fmt: skip


def _plain(law: Density, x: Floats, named: Mapping[str, Floats]) -> Floats:
    """Draws with every effect non-centred, (chain, draw, size)."""
    z = [named[f"z_{name}"] for name in (*law.layout.plan.spread, *map(between, law.layout.plan.between))]
    return np.concatenate([x[..., : law.layout.population], *z], axis=2)


def _failure(rhat: float, divergent: float, few: bool) -> str:
    if divergent > MOST_DIVERGENT:
        return "more than 1 % of the transitions diverged"
    if few or not np.isfinite(rhat):
        return FEW
    return "R-hat above 1.05" if rhat > WORST_RHAT else ""


def summary(study: Study, outcomes: Iterable[Outcome]) -> Calibration:
    """What the fits say together; failed ones are counted and left out of the ranks."""
    from scipy import stats

    every = sorted(outcomes, key=lambda o: o.fit)
    good = [o for o in every if not o.failed]
    failures: dict[str, int] = {}
    for o in every:
        if o.failed:
            failures[o.failed] = failures.get(o.failed, 0) + 1
    names = [*study.truth, JOINT]
    low, high = (int(stats.binom.ppf(at, max(len(good), 1), 1.0 / BINS)) for at in (0.005, 0.995))
    return Calibration(
        model=study.model.name, design=study.design.name, key=study.key, fits=len(every), counted=len(good),
        failures=failures, quantities=tuple(_quantity(study, name, good) for name in names),
        needed=LEAST_P / len(names), band=(low, high),
        prior_sd={name: prior.sd for name, prior in study.plan.priors.items()}, kept=study.design.kept,
        seconds=sum(o.seconds for o in every),
    )  # fmt: skip


def _quantity(study: Study, name: str, good: list[Outcome]) -> Quantity:
    from scipy import special

    if len(good) < LEAST_FITS:
        none = dict.fromkeys((f"{level:g}" for level in LEVELS), 0.0)
        return Quantity(
            name=name, counts=(0,) * BINS, chi2=0.0, p=0.0, coverage=none, z_mean=0.0, z_sd=0.0, contraction=None,
            ess=None,
        )  # fmt: skip
    rank = np.asarray([o.rank[name] for o in good], np.int64)
    counts = np.bincount(rank * BINS // (study.design.kept + 1), minlength=BINS)
    expected = max(len(good), 1) / BINS
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    pit, truth, mean, sd = (_column(good, what, name) for what in ("pit", "truth", "mean", "sd"))
    inside = np.abs(pit - 0.5)
    z = (mean - truth) / sd
    prior = study.plan.priors.get(name)
    return Quantity(
        name=name, counts=tuple(int(c) for c in counts), chi2=chi2, p=float(special.chdtrc(BINS - 1, chi2)),
        coverage={f"{level:g}": float((inside <= 0.5 * level).mean()) for level in LEVELS},
        z_mean=float(z.mean()), z_sd=float(z.std(ddof=1)),
        contraction=None if prior is None else float((1.0 - (sd / prior.sd) ** 2).mean()),
        ess=None if name == JOINT else min(o.ess[name] for o in good),
    )  # fmt: skip


def _column(good: list[Outcome], what: str, name: str) -> Floats:
    return np.asarray([getattr(o, what)[name] for o in good], np.float64)
