"""Surveillance plans on simulated markets against published tables; full Bayes on CAERS against its own clock and MCMC."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.bench.harness import Measured, row
from tests.bench.rows_signals import table
from trials.analysis import signals, signals_bayes, signals_fit
from trials.analysis.surveillance_found import Found, found
from trials.analysis.surveillance_simulate import prepared, simulated
from trials.analysis.surveillance_text import Surveillance
from trials.dispatch import Mode

TABLE_2 = {1.2: 0.107, 2.0: 0.685}  # Kulldorff et al. 2011, horizon 10, alpha 0.05: power
TABLE_3 = {2.0: 4.13}  # expected time to a signal, in events expected under the null
LOOKS, MARKETS = 600, 6000
TEXT = """
vtrial: surveillance/1
name: kulldorff
seed: 11
months: 600
draws: 2
replicates: 3000
uptake: {{starting: [100], persistence: {{still: [1, 0]}}}}
events:
  event: {{background: {background}, ratio: {ratio}}}
plans:
  watch: {{test: {test}}}
"""


def market(ratio: float, background: str, test: str = "poisson") -> tuple[Found, np.ndarray]:
    """600 looks; person-years chosen so that 10 events are expected by the last."""
    plan = Surveillance.parse(TEXT.format(ratio=ratio, background=background, test=test))
    made = prepared(plan, Path())
    return found(made, simulated(made, mode=Mode(kind="serial"))), np.cumsum(made.use.years)


@lru_cache(maxsize=2)
def kulldorff(ratio: float) -> tuple[Found, np.ndarray]:
    years = np.cumsum(
        prepared(
            Surveillance.parse(TEXT.format(ratio=1, background="{per_1000_years: 1}", test="poisson")), Path()
        ).use.years
    )
    return market(ratio, f"{{per_1000_years: {float(10_000.0 / years[-1])!r}}}")


@row("surveillance.power", unit="", bar="<= 0.02")
def power() -> Measured:
    """Simulated power through the command's machinery, 600 looks, against table 2 (looks after every event)."""
    apart = {r: kulldorff(r)[0].of("event", "watch").power.value - p for r, p in TABLE_2.items()}
    note = ", ".join(f"ratio {r:g}: {x:+.4f}" for r, x in apart.items())
    return Measured(
        max(abs(x) for x in apart.values()), f"{note}; {MARKETS} markets, MCSE 0.006; looks cost about 0.003"
    )


@row("surveillance.time", unit="events", bar="<= 0.15")
def waiting() -> Measured:
    """Mean time to a signal of markets that have one, in events expected under the null, against table 3."""
    answer, years = kulldorff(2.0)
    by = np.array([e.value for e in answer.of("event", "watch").by])
    gained = np.diff(by, prepend=0.0)
    mean = float(gained @ (10.0 * years / years[-1]) / by[-1])
    return Measured(abs(mean - TABLE_3[2.0]), f"{mean:.3f} against {TABLE_3[2.0]}")


@row("surveillance.level", unit="", bar="<= 0.052")
def level() -> Measured:
    """False alarms without an effect at a known rate, level 0.05."""
    e = kulldorff(2.0)[0].of("event", "watch", "null").power
    return Measured(e.value, f"MCSE {e.mcse:.4f}")


@row("signals.full_bayes", unit="s", bar="< 30")
def full_bayes() -> Measured:
    """CPU seconds of the posterior of the hyperparameters and of 17,189 scores over it, CAERS 2012."""
    made = signals.counts(table())
    fit = signals_fit.fit(made.n, made.expected)
    near = signals_fit.shrunk(made.n, made.expected, fit.theta)
    begin = time.process_time()
    post = signals_bayes.hyperposterior(made.n, made.expected, fit, seed=1)
    over = signals_bayes.shrunk_over(made.n, made.expected, post.kept, near)
    spent = time.process_time() - begin
    many = int((over.eb05 >= 2).sum()), int((near.eb05 >= 2).sum())
    shown = ", ".join(f"{x:.3g}" for x in post.median)
    return Measured(spent, f"k {post.k:.2f}, worth {post.effective:.0f} draws, medians {shown}; EB05 >= 2: {many[0]}, "
                    f"fitted {many[1]}")  # fmt: skip


@row("signals.full_bayes_chains", unit="sd", bar="<= 0.15")
def chains() -> Measured:
    """Largest difference of posterior means of the five coordinates from those of random-walk Metropolis, in posterior
    standard deviations: 8 chains of 20,000, their own random numbers, R-hat beside it."""
    made = signals.counts(table())
    fit = signals_fit.fit(made.n, made.expected)
    cells = signals_fit.cells_of(made.n, made.expected, None, "component")
    kept = np.array(
        [signals_fit.coordinates(t) for t in signals_bayes.hyperposterior(made.n, made.expected, fit, seed=1).kept]
    )
    rng = np.random.default_rng(5)
    scale = np.linalg.cholesky(np.cov(kept.T)) * (2.0 / np.sqrt(5.0))
    x = kept[:: len(kept) // 8][:8]
    at, walk = signals_bayes._target(x, cells), np.empty((20_000, 8, 5))
    for k in range(len(walk)):
        size = np.where(rng.random((8, 1)) < 0.3, 0.3, 1.0)
        new = x + size * (rng.standard_normal((8, 5)) @ scale.T)
        value = np.where(new[:, 0] - new[:, 1] >= new[:, 2] - new[:, 3], signals_bayes._target(new, cells), -np.inf)
        move = np.log(rng.random(8)) < value - at
        x, at = np.where(move[:, None], new, x), np.where(move, value, at)
        walk[k] = x
    late = walk[4000:]
    within, between = late.var(axis=0, ddof=1).mean(axis=0), late.mean(axis=0).var(axis=0, ddof=1)
    rhat = np.sqrt(1.0 + between / within)
    apart = np.abs(kept.mean(axis=0) - late.mean(axis=(0, 1))) / late.reshape(-1, 5).std(axis=0)
    return Measured(float(apart.max()), f"R-hat at most {rhat.max():.3f}; {', '.join(f'{a:.3f}' for a in apart)}")
