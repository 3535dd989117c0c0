"""Posteriors of several modes by sequential Monte Carlo, and quick looks: theophylline, and one dose that flips."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.harness import Measured, row

SEEDS = (1, 2, 3, 4, 5)
WARFARIN = Path(__file__).parents[3] / "shared" / "data" / "pk" / "warfarin.csv"
BAYES = {
    "log_K": (0.165, 0.21), "log_CL": (-2.006, 0.056), "log_V": (2.045, 0.046), "logit_EMAX": (4.81, 0.79),
    "log_EC50": (0.096, 0.097), "log_KOUT": (-2.938, 0.027), "log_E0": (4.570, 0.012),
}  # fmt: skip
"""Mean and sd by three tools on the same priors: PyMC with nutpie, PyMC NUTS, Stan."""
TIMES = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 12.0])
NOISE = 0.15 * np.array([0.9, -0.6, 0.3, -1.2, 0.5, 0.1, 1.1, -0.4, -0.8, 0.6])
LEVELS = 100.0 / 20.0 * 0.8 / 0.55 * (np.exp(-0.25 * TIMES) - np.exp(-0.8 * TIMES)) * np.exp(NOISE)
TEXT = """
vtrial: model/1
name: one_dose
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 0.8 1/h, prior: {median: 0.4, sd: 1}, status: assumed}
  K:  {typical: 0.25 1/h, prior: {median: 0.4, sd: 1}, status: assumed}
  V:  {typical: 20 L, prior: {median: 20, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - K*central
doses: {depot: {bioavailability: 1}}
outputs:
  CP: {is: C, error: {log: {typical: 0.15, prior: 0.5}}}
"""


def quadrature(points: int = 801, widths: int = 60) -> tuple[float, float]:
    """(share of KA above K, log evidence of log C), as in tests/pkpd/bayes/test_modes.py, on a finer grid."""
    a = np.linspace(math.log(0.4) - 4.5, math.log(0.4) + 4.5, points)
    b = a + 0.5 * (a[1] - a[0])
    A, B = np.meshgrid(np.exp(a), np.exp(b), indexing="ij")
    k, mean, first, second = len(TIMES), math.log(20.0), np.zeros(A.shape), np.zeros(A.shape)
    for t, y in zip(TIMES, LEVELS, strict=True):
        away = math.log(y) - np.log(100.0 * A / (A - B) * (np.exp(-B * t) - np.exp(-A * t))) + mean
        first, second = first + away, second + away**2
    log_s = np.linspace(math.log(0.02), math.log(2.5), widths)
    prior = (
        -0.5 * ((a - math.log(0.4)) ** 2)[:, None] - 0.5 * ((b - math.log(0.4)) ** 2)[None] - math.log(2.0 * math.pi)
    )
    above, total = 0.0, 0.0
    for s in np.exp(log_s):
        v = s * s
        logs = -0.5 * (second / v - first**2 / (v * (v + k))) - 0.5 * ((k - 1) * math.log(v) + math.log(v + k))
        logs += (
            prior - 0.5 * k * math.log(2.0 * math.pi) + math.log(math.sqrt(2.0 / math.pi) / 0.5) - 2.0 * v + math.log(s)
        )
        weight = np.exp(logs)
        above, total = above + float(weight[A > B].sum()), total + float(weight.sum())
    return above / total, math.log(total * (a[1] - a[0]) ** 2 * (log_s[1] - log_s[0]))


@cache
def one_dose() -> dict[str, Any]:
    """Diagnostics of the fit by SMC, 8 runs of 1000 particles a side."""
    from pkpd.bayes import fit
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(TEXT)
    rows = "".join(f"1,{t},0,{float(y)!r},0,0,2\n" for t, y in zip(TIMES, LEVELS, strict=True))
    records = Records.parse("ID,TIME,AMT,DV,EVID,MDV,CMT\n1,0,100,0,1,1,1\n" + rows, model=model)
    return fit(model, records, seed=1, method="smc", draws=1000, chains=8, cache=False).diagnostics


@cache
def flipped() -> tuple[dict[str, Any], float]:
    """Theophylline with KA free: diagnostics of the fit by SMC, CPU seconds of its runs."""
    from pkpd.bayes import fit
    from pkpd.model.library import data_path, model_path
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(model_path("theophylline").read_text().replace("above: CL/V, ", ""))
    records = Records.read(data_path("theophylline.csv"), model)
    found = fit(model, records, seed=1, method="smc", draws=500, chains=4, cache=False)
    return found.diagnostics, found.seconds["sample.cpu"]


@cache
def looks(method: str) -> tuple[dict[str, Any], ...]:
    """Diagnostics of quick looks at theophylline, five seeds."""
    from pkpd.bayes import fit
    from pkpd.model.library import data_path, load
    from pkpd.model.records import Records

    model = load("theophylline")
    records = Records.read(data_path("theophylline.csv"), model)
    return tuple(fit(model, records, seed=s, method=method, cache=False).diagnostics for s in SEEDS)


@row("fit.modes.one_dose.share", unit="standard errors", bar="<= 3")
def share() -> Measured:
    """Share of KA above K against quadrature."""
    exact, _ = quadrature()
    first = next(m for m in one_dose()["modes"]["modes"] if m["label"] == "KA above K")
    note = f"{first['share']:.4f} +- {first['share_error']:.4f}, quadrature {exact:.4f}"
    return Measured(abs(first["share"] - exact) / first["share_error"], note)


@row("fit.modes.one_dose.evidence", unit="log", bar="<= 0.06")
def evidence() -> Measured:
    """Log evidence against quadrature."""
    _, exact = quadrature()
    told = one_dose()["modes"]
    found = told["log_evidence"] + float(np.log(LEVELS).sum())
    return Measured(abs(found - exact), f"{found:.3f} +- {told['log_evidence_error']:.3f}, quadrature {exact:.3f}")


@row("fit.modes.theophylline.share", unit="of the posterior", bar="1e-4 .. 1e-3")
def other_share() -> Measured:
    """The flip-flop mode of theophylline with KA free."""
    found, cpu = flipped()
    other = found["modes"]["modes"][1]
    place = f"V {math.exp(other['means']['log_V']):.2f} L, KA {math.exp(other['means']['log_KA']):.4f} 1/h"
    return Measured(other["share"], f"+- {other['share_error']:.1g}, {other['label']}: {place}; {cpu:.0f} CPU s")


@row("fit.modes.theophylline.error", unit="of its log evidence", bar="<= 0.3")
def other_error() -> Measured:
    """Standard error of the log evidence of the flip-flop mode, 4 runs of 500 particles."""
    other = flipped()[0]["modes"]["modes"][1]
    return Measured(other["log_evidence_error"], f"log evidence {other['log_evidence']:.2f}")


def distance(method: str) -> Measured:
    from tests.bench.rows_fit import NAMES, bayes

    far, k = [], []
    for found in looks(method):
        rows = {p["name"]: p for p in found["parameters"]}
        far += [abs(rows[NAMES[n]]["mean"] - bayes()[n][0]) / bayes()[n][1] for n in NAMES]
        k.append(found["quick"]["pareto_k"])
    return Measured(max(far), f"Pareto k {min(k):.2f} to {max(k):.2f} over {len(k)} seeds")


@row("fit.quick.laplace", unit="posterior sd", bar="<= 0.3")
def laplace() -> Measured:
    """Largest distance of typical values from the reference posterior means, theophylline."""
    return distance("laplace")


@row("fit.quick.pathfinder", unit="posterior sd", bar="<= 0.3")
def pathfinder() -> Measured:
    """The same by Pathfinder, 8 paths."""
    return distance("pathfinder")


@cache
def warfarin(method: str, particles: int, runs: int) -> dict[str, Any]:
    """Diagnostics of warfarin PK and PCA (../shared) by another method than NUTS."""
    from pkpd.bayes import fit
    from pkpd.model.library import load
    from pkpd.model.records import Records

    model = load("warfarin_pca")
    records = Records.read(WARFARIN, model)
    return fit(model, records, seed=1, method=method, draws=particles, chains=runs, cache=False).diagnostics


def from_reference(found: dict[str, Any]) -> float:
    """Largest distance of typical values from the Bayes rows of docs/inference.md, posterior sds."""
    rows = {p["name"]: p["mean"] for p in found["parameters"]}
    return max(abs(rows[name] - mean) / sd for name, (mean, sd) in BAYES.items())


@row("fit.modes.warfarin", unit="posterior sd", bar="<= 0.15")
def by_particles() -> Measured:
    """Typical values by SMC, 2 runs of 300 particles: 222 CPU s."""
    found = warfarin("smc", 300, 2)
    told = found["modes"]
    note = f"log evidence {told['log_evidence']:.1f}, se {told['log_evidence_error']:.2f}, {told['families']} families"
    return Measured(from_reference(found), f"{note}, R-hat {found['max_rhat']:.3f}")


@row("fit.quick.warfarin", unit="posterior sd", bar="<= 0.75")
def by_laplace() -> Measured:
    """Typical values by Laplace."""
    found = warfarin("laplace", 1000, 4)
    return Measured(from_reference(found), f"Pareto k {found['quick']['pareto_k']:.2f}")
