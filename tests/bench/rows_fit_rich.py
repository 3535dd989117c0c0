"""120 subjects x 39 samples with an LKJ omega, simulated: chosen centring against our own non-centred run."""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np

from tests.bench.harness import Measured, row

SEEDS = tuple(range(1, 11))
TRUTH = {"CL": 4.0, "V": 70.0, "KA": 1.0}
DAY = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 20, 23.9)
LAST = (*DAY[:-1], 24, 28, 32, 36, 40, 44, 48, 60, 72, 84, 96)
TIMES = np.array([*DAY, *(24.0 * k - 0.1 for k in range(2, 7)), *(144.0 + t for t in LAST)])
TEXT = """
vtrial: model/1
name: rich
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1 1/h, iiv: {typical: 0.3, prior: 0.4}, above: CL/V, prior: {median: 1, sd: 1}, status: assumed}
  CL: {typical: 4 L/h, iiv: {typical: 0.3, prior: 0.4}, prior: {median: 4, sd: 1}, status: assumed}
  V:  {typical: 70 L, iiv: {typical: 0.3, prior: 0.4}, prior: {median: 70, sd: 1}, status: assumed}
omega: {block: [KA, CL, V], lkj: 2}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
outputs:
  CP: {is: C, error: {log: {typical: 0.2, prior: 0.5}}}
"""


def data(seed: int) -> str:
    """The benchmark's design (PumasAI-Labs/Bayesian-Benchmarks, model 02): 10, 30, 60, 120 mg daily for 7 days."""
    rng = np.random.default_rng(seed)
    lines = ["ID,TIME,AMT,DV,EVID"]
    for i in range(120):
        dose = (10.0, 30.0, 60.0, 120.0)[i // 30]
        cl, v, ka = (x * np.exp(0.3 * rng.normal()) for x in TRUTH.values())
        ke, c = cl / v, np.zeros(len(TIMES))
        for k in range(7):
            s = np.maximum(TIMES - 24.0 * k, 0.0)
            c += dose * ka / (v * (ka - ke)) * (np.exp(-ke * s) - np.exp(-ka * s))
        y = c * np.exp(0.2 * rng.normal(size=len(TIMES)))
        rows = [(24.0 * k, f"{i + 1},{24 * k},{dose},.,1") for k in range(7)]
        rows += [(t, f"{i + 1},{t},.,{value:.8g},0") for t, value in zip(TIMES, y, strict=True)]
        lines += [text for _, text in sorted(rows)]
    return "\n".join(lines) + "\n"


@cache
def run(seed: int, centred: bool) -> dict:
    """2 x (500 + 1500), 7 steps a draw; centred: by the quick look, else not at all."""
    from pkpd.bayes import fit
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(TEXT)
    asked = None if centred else dict.fromkeys(TRUTH, False)
    found = fit(
        model, Records.parse(data(seed), model=model), seed=seed, draws=1500, tune=500, chains=2, cache=False,
        target_accept=0.65, centred=asked,
    )  # fmt: skip
    shutil.rmtree(found.tree_path.parent)
    seconds = sum(v for n, v in found.seconds.items() if n.endswith(".cpu"))
    speed = found.diagnostics["min_ess_bulk"] / found.seconds["sample.cpu"]
    return {**found.diagnostics, "cpu": seconds, "speed": speed}


@row("fit.rich.gain", unit="times", bar=">= 10")
def gain() -> Measured:
    """ESS per CPU second over our own non-centred run, interleaved, the worst of 3 seeds."""
    pairs = [(run(seed, True)["speed"], run(seed, False)["speed"]) for seed in SEEDS[:3]]
    return Measured(min(a / b for a, b in pairs), ", ".join(f"{a:.0f} against {b:.1f}" for a, b in pairs))


@row("fit.rich.limits", unit="seeds", bar="== 0")
def limits() -> Measured:
    """Broken limits: bulk ESS 400, R-hat 1.01, 25 CPU s."""
    found = [run(seed, True) for seed in SEEDS]
    broken = sum(d["min_ess_bulk"] < 400 or d["max_rhat"] > 1.01 or d["cpu"] > 25.0 for d in found)
    each = ", ".join(f"{d['min_ess_bulk']:.0f}/{d['max_rhat']:.4f}/{d['cpu']:.0f}" for d in found)
    return Measured(float(broken), f"bulk ESS/R-hat/CPU s by seed: {each}")


@row("fit.rich.truth", unit="95 % intervals that hold the truth", bar=">= 0.85")
def truth() -> Measured:
    """Typical CL, V, phi, omegas, sigma over 10 data sets."""
    expected = {
        "log_CL": np.log(4.0), "log_V": np.log(70.0), "log_KA": 0.0, "omega_CL": 0.3, "omega_V": 0.3, "CP_log": 0.2,
    }  # fmt: skip
    inside, far = [], 0.0
    for seed in SEEDS:
        for p in run(seed, True)["parameters"]:
            if p["name"] in expected:
                inside.append(p["lower"] <= expected[p["name"]] <= p["upper"])
                far = max(far, abs(p["mean"] - expected[p["name"]]) / p["sd"])
    return Measured(float(np.mean(inside)), f"largest distance {far:.2f} posterior sd (bar 3)")
