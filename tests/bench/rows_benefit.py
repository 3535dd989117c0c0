"""Benefit-risk: the published heparin example, areas of the simplex, what the chance of people does to P(best), speed."""

from __future__ import annotations

import math
import time

import numpy as np
from scipy import stats

from pkpd.ground.streams import Purpose, normals, uniforms
from tests.bench.harness import Measured, row
from trials.between import expected
from trials.multicriteria import Criterion, best_by_weight, effects_table, smaa, thresholds, values, weighed

UNIT = [Criterion(name=name, worst=0, best=1) for name in ("a", "b", "c")]


@row(
    "benefit.heparin",
    unit="1",
    bar="<= 0.012",
    command="R package smaa 0.2, tests/Examples/smaa-Ex.Rout.save (10,000 draws)",
)
def heparin() -> Measured:
    """Largest difference of acceptabilities, central weights, confidence factors and scores at fixed weights."""
    events = np.array([[20, 40, 1], [8, 32, 5]])
    n = np.array([[136], [129]])
    u = uniforms(3, Purpose.SWING_WEIGHTS, subject=np.arange(200_000)[:, None, None], replicate=np.arange(2)[:, None],
                 slot=np.arange(3))  # fmt: skip
    x = stats.beta.ppf(u, events, n - events)
    criteria = [
        Criterion(name=name, worst=worst, best=best)
        for name, worst, best in (("proximal", 0.25, 0.0), ("distal", 0.4, 0.15), ("bleeding", 0.1, 0.0))
    ]
    made, fixed = smaa(x, criteria, seed=5), weighed(x, criteria, weights=[0.5, 0.2, 0.3])
    pairs = (
        (made.rank[:, 0], [0.3504, 0.6496]), (made.confidence, [0.6682, 0.8956]),
        (made.central, [[0.1865097, 0.2772205, 0.5362698], [0.4073100, 0.3641477, 0.2285423]]),
        (fixed.rank[:, 0], [0.1279, 0.8721]),
    )  # fmt: skip
    worst = max(float(np.abs(np.asarray(ours) - theirs).max()) for ours, theirs in pairs)
    return Measured(worst, "the bar is three of their standard errors; 200,000 draws here")


@row("benefit.areas", unit="1", bar="<= 0.004")
def areas() -> Measured:
    """(1, 0, 0) against (0, 1/2, 1/2) is best on 4/9 of the simplex; of three equals each on a third, centre 11/18."""
    one = smaa(np.array([[[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]]), UNIT, weights=200_000)
    three = smaa(np.eye(3)[None], UNIT, weights=200_000)
    worst = max(abs(one.rank[0, 0] - 4 / 9), np.abs(three.rank[:, 0] - 1 / 3).max(), abs(three.central[0, 0] - 11 / 18))
    return Measured(float(worst), "200,000 weights")


@row("benefit.chance", unit="1", bar="<= 0.03")
def chance() -> Measured:
    """P(best) of two arms, 200 replicates of 60 people, over 200 runs: mean error without the chance of people; note:
    with it. Parameters' sd of the difference 0.03, people's 0.05, mean 0.03: truth Phi(1)."""
    truth, runs = float(stats.norm.cdf(1.0)), 200
    z = normals(8, Purpose.SWING_WEIGHTS, subject=np.arange(200)[:, None, None], replicate=np.arange(runs)[:, None],
                slot=np.arange(2))  # fmt: skip
    got, raw = [], []
    for k in range(runs):
        x = np.column_stack([np.zeros(200), 0.03 + 0.03 * z[:, k, 0] + 0.05 * z[:, k, 1]])
        clean = expected(x, np.diag([0.0, 0.05**2]))
        got.append((clean[:, 1] > clean[:, 0]).mean())
        raw.append((x[:, 1] > x[:, 0]).mean())
    return Measured(abs(float(np.mean(got)) - truth), f"truth {truth:.3f}; as simulated {np.mean(raw):.3f}")


@row("benefit.seconds", unit="CPU s", bar="<= 1")
def seconds() -> float:
    """One group of people weighed: 1000 draws, 6 arms, 6 criteria, with acceptabilities, thresholds and 51 weights."""
    shape = np.arange(1000)[:, None, None], np.arange(6)[:, None], np.arange(6)
    x = uniforms(2, Purpose.SWING_WEIGHTS, subject=shape[0], replicate=shape[1], slot=shape[2])
    criteria = [Criterion(name=f"c{k}", worst=0, best=1) for k in range(6)]
    smaa(x, criteria, weights=1000)
    begin = time.process_time()
    made = weighed(x, criteria)
    smaa(x, criteria)
    partial, _ = values(x, criteria)
    thresholds(partial.mean(axis=0), [c.name for c in criteria], made.weights)
    best_by_weight(partial, made.weights, np.linspace(0, 1, 51))
    for a in range(1, 6):
        effects_table(x, criteria, alternative=a)
    return time.process_time() - begin if math.isfinite(made.clipped) else math.nan
