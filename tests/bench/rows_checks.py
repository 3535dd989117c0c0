"""Checks of a fit where the truth is known: predictive checks and NPDE over many studies, leave-one-out against refits."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np

from tests.bench.harness import Measured, row

STUDIES, SUBJECTS, MANY, FEW = 200, 30, 1000, 10
TEXT = """
vtrial: model/1
name: checks
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1.5 1/h, iiv: {typical: 0.4, prior: 1}, above: CL/V, prior: {median: 1.4, sd: 1}, status: assumed}
  CL: {typical: 3 L/h, iiv: {typical: 0.3, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
outputs:
  CP: {is: C, error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}, proportional: {typical: 0.12, prior: 0.5}}}
"""
DESIGN = """
vtrial: sbc/1
name: checks
seed: 1
groups:
  - {subjects: 30, doses: [{amount: 320 mg, into: depot, at: 0 h}], samples: {CP: [0.5 h, 1 h, 2 h, 4 h, 6 h, 9 h, 12 h, 24 h]}}
"""
LIMIT = 1.5


@cache
def truth(studies: int = STUDIES, subjects: int = SUBJECTS, judges: int = 2000):
    """The truth as a posterior of one draw, the study's records, studies of it, simulations to judge them by."""
    from pkpd.bayes.predictive import simulated
    from pkpd.bayes.sbc_design import StudyDesign, records_of
    from pkpd.model.spec import Model
    from pkpd.model.variability import point
    from pkpd.posterior import Posterior

    model = Model.parse(TEXT)
    posterior = Posterior(draws=point(model), model=model)
    records = records_of(StudyDesign.parse(DESIGN.replace("subjects: 30", f"subjects: {subjects}")), model)
    data = simulated(posterior, records, seed=101, replicates=studies)
    return posterior, records, data, simulated(posterior, records, seed=7, replicates=judges)


def censored(records, values):
    low = values < LIMIT
    return replace(records, dv=np.where(low, LIMIT, values), below=low)


@cache
def inside(limited: bool) -> tuple[float, float]:
    """Share of observed percentiles, and of fractions below the limit, inside their 95 % bands."""
    from pkpd.bayes.vpc import vpc

    posterior, records, data, judges = truth()
    percentiles, fractions = [], []
    for values in data:
        study = censored(records, values) if limited else replace(records, dv=values)
        found = vpc(posterior, study, seed=7, studies=judges[:1000])
        percentiles.append(found.inside)
        if limited:
            b = found.below
            fractions.append(float(((b["observed"] >= b["lower"]) & (b["observed"] <= b["upper"])).mean()))
    return float(np.mean(percentiles)), float(np.mean(fractions)) if fractions else float("nan")


@row("checks.vpc_inside", unit="share", bar="0.93 .. 0.97")
def vpc_inside() -> Measured:
    return Measured(
        inside(False)[0], f"observed percentiles inside their 95 % band, {STUDIES} studies of {SUBJECTS} subjects"
    )


@row("checks.vpc_inside_limit", unit="share", bar="0.93 .. 0.97")
def vpc_inside_limit() -> Measured:
    return Measured(inside(True)[0], f"the same with values below {LIMIT} mg/L censored; those that can be seen")


@row("checks.vpc_below_inside", unit="share", bar="0.93 .. 1")
def vpc_below_inside() -> Measured:
    return Measured(
        inside(True)[1], "fractions below the limit inside their 95 % band (counts: the band holds at least 95 %)"
    )


@cache
def rejected(limited: bool) -> dict[str, float]:
    """Share of 1000 studies of 10 subjects in which each test of NPDE rejects at 5 %, `chi` that of a chi-squared test
    of their variance.
    """
    from scipy import special

    from pkpd.bayes.residuals import normality, residuals

    posterior, records, data, judges = truth(MANY, FEW, 1000)
    found = []
    for values in data:
        study = censored(records, values) if limited else replace(records, dv=values)
        made = residuals(posterior.model, study, judges, seed=7)
        told = normality(made.npde, made.reference)
        tail = float(special.chdtr(told["n"] - 1, (told["n"] - 1) * told["sd"] ** 2))
        found.append({**told, "chi": 2.0 * min(tail, 1.0 - tail)})
    return {name: float(np.mean([f[name] < 0.05 for f in found])) for name in ("p_mean", "p_sd", "p_shape", "chi")}


def worst(limited: bool) -> Measured:
    shares = rejected(limited)
    far = max((shares[name] for name in ("p_mean", "p_sd", "p_shape")), key=lambda share: abs(share - 0.05))
    return Measured(
        far, ", ".join(f"{name} {share:.3f}" for name, share in shares.items()) + f"; {MANY} studies, MCSE 0.007"
    )


@row("checks.npde_size", unit="share rejected at 5 %", bar="0.03 .. 0.07")
def npde_size() -> Measured:
    return worst(False)


@row("checks.npde_size_limit", unit="share rejected at 5 %", bar="0.03 .. 0.07")
def npde_size_limit() -> Measured:
    """With a tenth to a half of the values below the limit (Nguyen 2012)."""
    return worst(True)


@cache
def theophylline():
    """PSIS-LOO of the theophylline fit, and the same by twelve fits without each subject."""
    from pkpd.bayes import fit
    from pkpd.bayes.loo import leave_one_out, refitted
    from pkpd.model.library import data_path, load
    from pkpd.model.records import Records

    model = load("theophylline")
    records = Records.read(data_path("theophylline.csv"), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = leave_one_out(model, records, fit(model, records, seed=1).posterior.draws, seed=1)
        exact = refitted(replace(found, k=np.full(12, 9.0)), model, records, seed=1, most=12)
    return found, exact


@row("checks.loo_refits", unit="log density", bar="<= 0.3")
def loo_refits() -> Measured:
    """Subjects with k < 0.5: largest |PSIS-LOO - log density under the fit of the other eleven|."""
    found, exact = theophylline()
    good = found.k < 0.5
    away = np.abs(found.elpd - exact.elpd)
    note = (
        f"{good.sum()} of 12 subjects; k 0.5 to 0.7: {away[(found.k >= 0.5) & (found.k <= 0.7)].max(initial=0.0):.2f}; "
    )
    return Measured(
        float(away[good].max()),
        note + f"above, where it is said to be untrustworthy: {away[found.k > 0.7].max(initial=0.0):.1f}",
    )


@row("checks.loo_cpu", unit="CPU s", bar="<= 3")
def loo_cpu() -> Measured:
    """All checks of the theophylline fit but refits."""
    import time

    from pkpd.bayes import fit
    from pkpd.bayes.checks import checked
    from pkpd.model.library import data_path, load
    from pkpd.model.records import Records

    model = load("theophylline")
    records = Records.read(data_path("theophylline.csv"), model)
    found = fit(model, records, seed=1)
    (found.tree_path.parent / "checks.json").unlink(missing_ok=True)
    start = time.process_time()
    made = checked(found, records, seed=1, refits=0)
    return Measured(time.process_time() - start, f"elpd {made.loo.total:.1f}, {len(made.loo.doubtful)} doubtful")
