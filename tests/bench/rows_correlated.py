"""Correlated residual errors: 20 simulated sets of 40 subjects x 8 pairs, r 0.6, some values below a limit; a whole fit."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.bench.harness import Measured, row

if TYPE_CHECKING:
    from pkpd.bayes.fit import Fit

SETS = int(os.environ.get("CORRELATED_SETS", "20"))
SUBJECTS, DOSE, LIMIT = 40, 100.0, 0.4
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 18.0, 24.0])
TRUTH = {
    "log_CL": np.log(2.0), "log_V": np.log(20.0), "log_RB": np.log(0.7), "omega_CL": 0.3, "omega_V": 0.2,
    "CP_proportional": 0.15, "CB_log": 0.2, "residual_corr_CP_CB": 0.6,
}  # fmt: skip
TEXT = """
vtrial: model/1
name: blood_and_plasma
states: {central: mg}
parameters:
  CL: {typical: 2 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 2, sd: 1}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 20, sd: 1}, status: assumed}
  RB: {typical: 0.7 1, prior: {median: 0.7, sd: 1}, status: assumed}
equations: |
  C = central/V
  B = RB*C
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {proportional: {typical: 0.15, prior: 0.5}}, lloq: 0.4 mg/L}
  CB: {is: B, error: {log: {typical: 0.2, prior: 0.5}}, lloq: 0.4 mg/L}
"""
TIED = TEXT + "residual_correlations: [[CP, CB, 0.0]]\n"


def data(seed: int) -> str:
    """One set, written with NumPy alone: closed form, errors by the formula of a bivariate normal."""
    rng = np.random.default_rng([20261122, seed])
    cl = np.exp(TRUTH["log_CL"] + 0.3 * rng.normal(size=SUBJECTS))
    v = np.exp(TRUTH["log_V"] + 0.2 * rng.normal(size=SUBJECTS))
    c = DOSE / v[:, None] * np.exp(-(cl / v)[:, None] * TIMES)
    e, other = rng.normal(size=(2, *c.shape))
    r = TRUTH["residual_corr_CP_CB"]
    plasma = c * (1.0 + 0.15 * e)
    blood = 0.7 * c * np.exp(0.2 * (r * e + np.sqrt(1.0 - r * r) * other))
    lines = ["ID,TIME,AMT,DV,EVID,DVID,CENS"]
    for i in range(SUBJECTS):
        lines.append(f"{i + 1},0,{DOSE},.,1,.,.")
        for k, t in enumerate(TIMES):
            for name, y in (("CP", plasma[i, k]), ("CB", blood[i, k])):
                lines.append(f"{i + 1},{t:g},.,{max(y, LIMIT):.8g},0,{name},{int(y < LIMIT)}")
    return "\n".join(lines) + "\n"


def once(seed: int) -> dict[str, np.ndarray]:
    """Posterior draws of one set by name, 2 x (300 + 300)."""
    from pkpd.bayes.centring import frame_of, look, starting_point
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design
    from pkpd.bayes.fit import Settings
    from pkpd.bayes.nuts import draw
    from pkpd.bayes.plan import plan
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(TIED)
    made = density(plan(model, ["CP", "CB"]), design(model, Records.parse(data(seed), model=model)))
    seen = look(made)
    law = made.framed(frame_of(made.layout, seen))
    settings = Settings(seed=seed + 1, draws=300, tune=300, chains=2, target_accept=0.9)
    drawn = draw(law, lambda chain: starting_point(law, seen, chain), settings, seed=seed + 1, cores=1)
    named = law.layout.named(drawn.x)
    return {name: named[name].ravel() for name in TRUTH}


@cache
def study() -> tuple[np.ndarray, np.ndarray, float]:
    """(truth inside the central 95 % (sets, quantities), z-scores, CPU seconds a set)."""
    start = time.process_time()
    every = [once(seed) for seed in range(SETS)]
    truth = np.array(list(TRUTH.values()))
    low, high = (np.array([[np.quantile(s[n], q) for n in TRUTH] for s in every]) for q in (0.025, 0.975))
    mean, sd = (np.array([[f(s[n]) for n in TRUTH] for s in every]) for f in (np.mean, np.std))
    return (low <= truth) & (truth <= high), (mean - truth) / sd, (time.process_time() - start) / SETS


@row("fit.correlated.coverage", unit="of 1", bar=">= 0.8")
def coverage() -> Measured:
    """Share of sets whose 95 % interval holds the truth, of the worst of 8 quantities."""
    inside, z, seconds = study()
    each = inside.mean(axis=0)
    worst = list(TRUTH)[int(np.argmin(each))]
    told = f"{worst}; of r {each[-1]:.2f}, its mean z {z[:, -1].mean():+.2f} (se {1 / np.sqrt(SETS):.2f})"
    return Measured(float(each.min()), f"{told}; all {inside.mean():.3f} over {SETS} sets, {seconds:.1f} CPU s a set")


@cache
def fits() -> tuple[Fit, Fit]:
    """The first set by the product's `fit`: with the correlation and without."""
    from pkpd.bayes import fit
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    made = []
    for text in (TIED, TEXT):
        model = Model.parse(text)
        made.append(fit(model, Records.parse(data(0), model=model), seed=1, cache=False))
    return made[0], made[1]


@row("fit.correlated.ess", unit="draws", bar=">= 400")
def ess() -> Measured:
    """Least bulk ESS of a whole fit, default settings."""
    found = fits()[0].diagnostics
    r = next(p for p in found["parameters"] if p["name"] == "residual_corr_CP_CB")
    told = f"r {r['median']:.3f} ({r['lower']:.3f} to {r['upper']:.3f}), R-hat {found['max_rhat']:.4f}, "
    told += f"{found['divergences']} divergences, {fits()[0].seconds['sample.cpu']:.1f} CPU s of sampling"
    return Measured(float(min(p["ess_bulk"] for p in found["parameters"])), told)


@row("fit.correlated.loo", unit="se", bar=">= 4")
def loo() -> Measured:
    """What leaving subjects out says the correlation gains, over its standard error."""
    from pkpd.bayes.loo import leave_one_out
    from pkpd.model.records import Records

    found = []
    for made in fits():
        model = made.posterior.model
        records = Records.parse(data(0), model=model)
        found.append(leave_one_out(model, records, made.posterior.draws, seed=1, most=200))
    gain = found[0].elpd - found[1].elpd
    se = float(np.sqrt(len(gain)) * gain.std(ddof=1))
    return Measured(float(gain.sum()) / se, f"{gain.sum():.1f} (se {se:.1f}); doubtful {len(found[0].doubtful)}")


FITS = int(os.environ.get("CORRELATED_FITS", "60"))
STUDY = """
vtrial: sbc/1
name: pairs
seed: 20261122
groups:
  - subjects: 8
    doses: [{amount: 100 mg, into: central, at: 0 h}]
    samples: {CP: [1 h, 4 h, 8 h, 12 h], CB: [1 h, 4 h, 8 h, 12 h]}
"""
PRIORS = (
    ("median: 2, sd: 1", "median: 2, sd: 0.2"), ("median: 20, sd: 1", "median: 20, sd: 0.2"),
    ("median: 0.7, sd: 1", "median: 0.7, sd: 0.2"), ("prior: 0.5", "prior: 0.3"), ("lloq: 0.4 mg/L", "lloq: 0.0001 mg/L"),
)  # fmt: skip


@row("fit.correlated.calibration", unit="p", bar=">= 0.001")
def calibration() -> Measured:
    """Least p of the uniform ranks of truths drawn from the priors, r with LKJ(1) among them, over quantities."""
    from dataclasses import replace

    from pkpd.bayes.sbc import calibrated, prepared, summary
    from pkpd.bayes.sbc_design import StudyDesign
    from pkpd.model.spec import Model

    text = TEXT + "sigma: {block: [CP, CB], lkj: 1}\n"
    for change in PRIORS:
        text = text.replace(*change)
    study = prepared(Model.parse(text), replace(StudyDesign.parse(STUDY), fits=FITS))
    start = time.process_time()
    outcomes = list(calibrated(study))
    found = summary(study, outcomes)
    r = next(q for q in found.quantities if q.name.startswith("residual_corr"))
    told = f"r: p {r.p:.2f}, mean z {r.z_mean:+.2f}, sd {r.z_sd:.2f}, 90 % intervals hold {r.coverage['0.9']:.2f}; "
    told += f"{found.counted} of {found.fits} fits counted, {(time.process_time() - start) / FITS:.1f} CPU s each"
    return Measured(min(q.p for q in found.quantities), told)


def microseconds(text: str, blq: str) -> float:
    """CPU time of a value and gradient of the first set's density, the least of 8 times 300."""
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design
    from pkpd.bayes.plan import plan
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(text)
    law = density(plan(model, ["CP", "CB"]), design(model, Records.parse(data(0), model=model), blq=blq))
    x = np.zeros(law.layout.size)
    x[:7] = [*(TRUTH[n] for n in ("log_CL", "log_V", "log_RB")), *np.log([0.3, 0.2, 0.15, 0.2])]
    law(x)
    found = []
    for _ in range(8):
        start = time.process_time()
        for _ in range(300):
            law(x)
        found.append((time.process_time() - start) / 300)
    return 1e6 * min(found)


@row("fit.correlated.density", unit="us", bar="<= 400")
def whole() -> Measured:
    """Value and gradient, 640 rows, 71 of them below a limit."""
    tied, plain = microseconds(TIED, "m3"), microseconds(TEXT, "m3")
    measured = microseconds(TIED, "discard"), microseconds(TEXT, "discard")
    told = f"independent {plain:.0f}; without values below a limit {measured[0]:.0f} and {measured[1]:.0f}"
    return Measured(tied, told)
