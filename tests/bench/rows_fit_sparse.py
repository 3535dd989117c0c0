"""400 subjects, two compartments, three samples each, an LKJ matrix of four random effects: simulated.

One infusion over an hour, one sample in each of three windows: clearance is known well, the peripheral compartment
hardly subject by subject.
"""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np

from tests.bench.harness import Measured, row

SEED, SUBJECTS = 1, 400
TRUTH = {"CL": 4.0, "VC": 20.0, "Q": 6.0, "VP": 40.0}
SPREAD = {"CL": 0.3, "VC": 0.25, "Q": 0.3, "VP": 0.3}
CORRELATION = {("CL", "VC"): 0.5, ("CL", "VP"): 0.3}
WINDOWS = ((1.0, 2.0), (3.0, 9.0), (12.0, 36.0))
TEXT = """
vtrial: model/1
name: sparse
states: {central: mg, peripheral: mg}
parameters:
  CL: {typical: 4 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 5, sd: 1}, status: assumed}
  VC: {typical: 20 L, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 20, sd: 1}, status: assumed}
  Q:  {typical: 6 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 5, sd: 1}, status: assumed}
  VP: {typical: 40 L, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 50, sd: 1}, status: assumed}
omega: {block: [CL, VC, Q, VP], lkj: 2}
equations: |
  C = central/VC
  d/dt(central) = -CL*C - Q*C + Q*peripheral/VP
  d/dt(peripheral) = Q*C - Q*peripheral/VP
outputs:
  CP: {is: C, error: {log: {typical: 0.15, prior: 0.5}}}
"""


def levels(dose: np.ndarray, p: dict[str, np.ndarray], t: np.ndarray) -> np.ndarray:
    """Concentrations after an infusion over 1 h, by the two exponentials."""
    k, k12, k21 = p["CL"] / p["VC"], p["Q"] / p["VC"], p["Q"] / p["VP"]
    total, root = k + k12 + k21, np.sqrt((k + k12 + k21) ** 2 - 4.0 * k * k21)
    found = 0.0
    for rate, other in (((total + root) / 2, (total - root) / 2), ((total - root) / 2, (total + root) / 2)):
        share = (rate - k21) / (rate - other)
        found = found + share * dose / p["VC"] / rate * (np.exp(-rate * (t - 1.0)) - np.exp(-rate * t))
    return found


def data(seed: int, subjects: int) -> str:
    """Three samples a subject, the last 12 to 36 h after the dose; residual sd 0.15 on the log scale."""
    rng, names = np.random.default_rng(seed), list(TRUTH)
    matrix = np.eye(4)
    for (a, b), r in CORRELATION.items():
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = r
    eta = rng.normal(size=(subjects, 4)) @ np.linalg.cholesky(matrix).T * list(SPREAD.values())
    p = {n: TRUTH[n] * np.exp(eta[:, k : k + 1]) for k, n in enumerate(names)}
    dose = np.where(np.arange(subjects) % 2, 200.0, 100.0)
    t = np.stack([rng.uniform(lo, hi, subjects) for lo, hi in WINDOWS], axis=1).round(2)
    y = levels(dose[:, None], p, t) * np.exp(0.15 * rng.normal(size=t.shape))
    lines = ["ID,TIME,AMT,RATE,DV,EVID"]
    for i in range(subjects):
        lines.append(f"{i + 1},0,{dose[i]},{dose[i]},.,1")
        lines += [f"{i + 1},{a},.,.,{b:.8g},0" for a, b in zip(t[i], y[i], strict=True)]
    return "\n".join(lines) + "\n"


@cache
def run(subjects: int = SUBJECTS) -> dict:
    """4 x (700 + 2000): correlations of effects that three samples hardly tell mix slowly; the rest is default."""
    from pkpd.bayes import fit
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(TEXT)
    found = fit(model, Records.parse(data(SEED, subjects), model=model), seed=SEED, draws=2000, cache=False)
    shutil.rmtree(found.tree_path.parent)
    return {**found.diagnostics, "seconds": found.seconds}


@row("fit.sparse.cpu", unit="CPU s", bar="<= 600")
def cpu() -> Measured:
    """What would be 10 minutes on one core alone, compilation included; the wall seconds are those of a shared machine."""
    seconds = run()["seconds"]
    total = sum(v for n, v in seconds.items() if n.endswith(".cpu"))
    wall = sum(v for n, v in seconds.items() if not n.endswith(".cpu"))
    return Measured(total, f"{seconds['sample.cpu']:.0f} of them sampling; {wall:.0f} s of wall time")


@row("fit.sparse.rhat", unit="R-hat", bar="<= 1.01")
def rhat() -> Measured:
    found = run()
    worst = min(found["parameters"], key=lambda p: p["ess_bulk"])
    note = f"least bulk ESS {found['min_ess_bulk']:.0f} ({worst['name']}), {found['divergences']} divergences"
    return Measured(found["max_rhat"], f"{note}; {found['verdict']}")


@row("fit.sparse.truth", unit="95 % intervals that hold the truth", bar=">= 0.8")
def truth() -> Measured:
    """Typical values, sds, two correlations, the residual sd; one data set."""
    expected = {f"log_{n}": np.log(v) for n, v in TRUTH.items()} | {f"omega_{n}": v for n, v in SPREAD.items()}
    expected |= {f"corr_{a}_{b}": r for (a, b), r in CORRELATION.items()} | {"CP_log": 0.15}
    own = [p for p in run()["parameters"] if p["name"] in expected]
    inside = [p["lower"] <= expected[p["name"]] <= p["upper"] for p in own]
    far = max(abs(p["mean"] - expected[p["name"]]) / p["sd"] for p in own)
    return Measured(float(np.mean(inside)), f"{len(own)} quantities, largest distance {far:.2f} posterior sd")
