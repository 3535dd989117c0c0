"""30 % of the values below the limit of quantification: 200 simulated sets of 50 subjects, M3 against discarding."""

from __future__ import annotations

import os
import time
from functools import cache

import numpy as np

from tests.bench.harness import Measured, row

SETS = int(os.environ.get("BLQ_SETS", "200"))
SUBJECTS, DOSE = 50, 100.0
TIMES = np.array([1.0, 4.0, 8.0, 16.0, 24.0, 36.0])
TRUTH = {"CL": 2.0, "V": 20.0, "omega_CL": 0.4, "omega_V": 0.3, "CP_proportional": 0.2}
SHARE = 0.3
TEXT = """
vtrial: model/1
name: limited
states: {central: mg}
parameters:
  CL: {typical: 2 L/h, iiv: {typical: 0.4, prior: 0.5}, prior: {median: 2, sd: 1}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 20, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {proportional: {typical: 0.2, prior: 0.5}}}
"""


def measured(rng: np.random.Generator, subjects: int) -> np.ndarray:
    """Concentrations with error after an intravenous bolus, (subjects, times)."""
    cl = TRUTH["CL"] * np.exp(TRUTH["omega_CL"] * rng.normal(size=(subjects, 1)))
    v = TRUTH["V"] * np.exp(TRUTH["omega_V"] * rng.normal(size=(subjects, 1)))
    c = DOSE / v * np.exp(-cl / v * TIMES)
    return c + TRUTH["CP_proportional"] * c * rng.normal(size=c.shape)


@cache
def limit() -> float:
    """The value that 30 % of all measurements lie below."""
    return float(np.quantile(measured(np.random.default_rng(0), 100_000), SHARE))


def data(seed: int) -> str:
    lines = ["ID,TIME,AMT,DV,EVID,CENS"]
    for i, values in enumerate(measured(np.random.default_rng([20261122, seed]), SUBJECTS)):
        lines.append(f"{i + 1},0,{DOSE},.,1,.")
        low = values < limit()
        lines += [
            f"{i + 1},{t:g},.,{limit() if below else y:.8g},0,{int(below)}"
            for t, y, below in zip(TIMES, values, low, strict=True)
        ]
    return "\n".join(lines) + "\n"


def once(seed: int, method: str) -> dict[str, float]:
    """Posterior medians of one set, 2 x (300 + 300); the compiled density is that of the set before."""
    from pkpd.bayes.centring import frame_of, look, starting_point
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design
    from pkpd.bayes.fit import Settings
    from pkpd.bayes.nuts import draw
    from pkpd.bayes.plan import plan
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(TEXT)
    records = Records.parse(data(seed), model=model)
    made = density(plan(model, "CP"), design(model, records, blq=method))
    _ = made.module
    start = time.process_time()
    seen = look(made)
    law = made.framed(frame_of(made.layout, seen))
    settings = Settings(seed=seed + 1, draws=300, tune=300, chains=2, target_accept=0.9)
    drawn = draw(law, lambda chain: starting_point(law, seen, chain), settings, seed=seed + 1, cores=1)
    named = law.layout.named(drawn.x)
    named |= {name: np.exp(named[f"log_{name}"]) for name in ("CL", "V")}
    found = {name: float(np.median(named[name])) for name in TRUTH}
    found["rhat"] = max(_rhat(named[name]) for name in TRUTH)
    found["divergences"] = float(drawn.stats["diverging"].sum())
    return found | {"share": float(records.below.mean()), "cpu": time.process_time() - start}


def _rhat(x: np.ndarray) -> float:
    """Of Gelman & Rubin, chains split in halves; x (chains, draws)."""
    half = x.shape[1] // 2
    parts = np.concatenate([x[:, :half], x[:, half : 2 * half]])
    within, between = parts.var(axis=1, ddof=1).mean(), parts.mean(axis=1).var(ddof=1)
    return float(np.sqrt(1.0 - 1.0 / half + between / within))


@cache
def study(method: str) -> dict[str, np.ndarray]:
    found = [once(seed, method) for seed in range(SETS)]
    return {name: np.array([f[name] for f in found]) for name in found[0]}


def bias(method: str, name: str) -> tuple[float, float]:
    """Mean relative bias and its MCSE, in percent."""
    away = 100.0 * (study(method)[name] / TRUTH[name] - 1.0)
    return float(away.mean()), float(away.std(ddof=1) / np.sqrt(len(away)))


def told(method: str) -> str:
    each = ", ".join(f"{n} {b:+.1f} ({s:.1f})" for n in TRUTH for b, s in [bias(method, n)])
    s = study(method)
    return (
        f"{method}: bias in % (MCSE): {each}; R-hat > 1.05 in {int((s['rhat'] > 1.05).sum())}, divergences in "
        f"{int((s['divergences'] > 0).sum())} of {len(s['rhat'])} sets; {100 * s['share'].mean():.1f} % below; "
        f"{s['cpu'].mean():.2f} CPU s a set"
    )


@row("fit.blq.bias", unit="%", bar="<= 5")
def blq_bias() -> Measured:
    """Larger absolute mean relative bias of CL and V under M3, two MCSE added; omegas' and discarding's beside it."""
    worst = max(abs(b) + 2.0 * s for b, s in (bias("m3", "CL"), bias("m3", "V")))
    return Measured(worst, f"{told('m3')} | {told('discard')}")
