"""Dose finding and adaptive designs: trials a second on one core, and simulation against exact enumeration."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tests.bench.harness import Measured, row
from trials.designs import adaptive_randomisation, basket, boin, crm, escalation

TRUTH = [0.04, 0.15, 0.3, 0.48, 0.68]
RATES = [0.2, 0.2, 0.2, 0.4, 0.4]


def rate(work: Callable[[np.ndarray], object], trials: int) -> Measured:
    """Trials a CPU second, compiled kernels loaded before."""
    work(np.arange(10))
    begin = time.process_time()
    work(np.arange(trials))
    return Measured(trials / (time.process_time() - begin), f"{trials} trials")


@row("adaptive.boin", unit="trials/s", bar=">= 20000")
def boin_rate() -> Measured:
    design = boin.boin(5, 0.3, patients=30)
    return rate(lambda names: escalation.simulate(design, TRUTH, seed=1, replicates=names), 40_000)


@row("adaptive.crm", unit="trials/s", bar=">= 2000")
def crm_rate() -> Measured:
    skeleton = tuple(crm.skeleton(0.05, 0.25, prior_mtd=3, doses=5))
    design = crm.crm(crm.Model(skeleton=skeleton, target=0.25), patients=24, start=2)
    return rate(lambda names: escalation.simulate(design, TRUTH, seed=1, replicates=names), 10_000)


@row("adaptive.randomisation", unit="trials/s", bar=">= 500")
def randomisation_rate() -> Measured:
    looks = tuple(range(100, 1001, 100))
    design = adaptive_randomisation.Design(arms=3, looks=looks, least=0.2, softening=0.5, higher_is_better=False)

    def work(names: np.ndarray) -> object:
        return adaptive_randomisation.simulate(design, [0.25, 0.2, 0.3], seed=1, replicates=names)

    return rate(work, 4_000)


@row("adaptive.basket", unit="trials/s", bar=">= 200")
def basket_rate() -> Measured:
    prior, options = basket.Prior(mean=-1.4, nex_mean=-1.4), {"null": 0.2, "threshold": 0.9, "futility": 0.05}

    def work(names: np.ndarray) -> object:
        return basket.simulate(prior, RATES, [[10] * 5, [25] * 5], seed=1, replicates=names, **options)

    return rate(work, 2_000)


@row("adaptive.boin_exact", unit="SE", bar="<= 3.5")
def boin_agreement() -> Measured:
    design = boin.boin(5, 0.3, patients=30)
    begin = time.process_time()
    exact = escalation.enumerate_exactly(design, TRUTH)
    seconds = time.process_time() - begin
    found = escalation.simulate(design, TRUTH, seed=2, replicates=np.arange(100_000)).characteristics()
    worst = 0.0
    for name in ("selected", "patients", "toxicities", "total"):
        error = np.maximum(exact.sd[name], 1e-2) / np.sqrt(100_000)
        worst = max(worst, float((np.abs(getattr(found, name) - getattr(exact, name)) / error).max()))
    return Measured(worst, f"worst of 18 characteristics, 100,000 trials; enumeration took {seconds:.2f} CPU s")
