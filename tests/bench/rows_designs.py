"""Trial designs: speed of boundaries and of summary-level trials on one core, type I error at known information."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

from tests.bench.harness import Measured, row
from trials.designs import sequential
from trials.designs.sequential import Boundaries, Efficacy, Futility, Plan, boundaries, evenly
from trials.designs.simulate import Simulated, simulated_means
from trials.designs.simulate_survival import simulated_survival
from trials.designs.survival import Accrual, Hazard, Times

SEED = 20261122
NOMINAL = "0.02352 .. 0.02648"  # 0.025 -+ 3 sqrt(0.025 0.975/100000)


def design(looks: int) -> Boundaries:
    return boundaries(Plan(information=evenly(looks), efficacy=Efficacy(spending="lan_demets_obrien_fleming")))


def rate(run: Callable[[int], Simulated], replicates: int) -> Measured:
    """Replicates a second of CPU, one thread, compilation apart."""
    run(10)
    start = time.process_time()
    found = run(replicates)
    seconds = time.process_time() - start
    return Measured(
        replicates / seconds, f"{replicates} trials, power {found.power.value:.3f} (MCSE {found.power.mcse:.4f})"
    )


@row("designs.log_rank_200", unit="trials/s", bar=">= 2000")
def log_rank() -> Measured:
    """Two arms, 200 subjects, 3 looks at 50, 100, 150 events, accrual over 12 months, dropout, log-rank at each."""
    control = Hazard.median(12.0)
    loss = Hazard.share(0.05, 12.0)
    times = Times(
        treated=control.times(0.65), control=control, accrual=Accrual.uniform(12.0), dropout_treated=loss,
        dropout_control=loss,
    )  # fmt: skip
    bounds = design(3)
    return rate(
        lambda n: simulated_survival(bounds, [50, 100, 150], times, subjects=200, seed=SEED, replicates=n), 20_000
    )


@row("designs.t_test_200", unit="trials/s", bar=">= 10000")
def t_test() -> Measured:
    """Two arms, 200 subjects one by one, 3 looks, t tests with pooled variance."""
    bounds = design(3)
    return rate(lambda n: simulated_means(bounds, [66, 132, 200], effect=0.4, seed=SEED, replicates=n), 100_000)


@row("designs.boundary", unit="ms", bar="<= 20")
def boundary() -> Measured:
    """Alpha and binding beta spending, 5 looks, solved afresh (mean of 20): the design every other table is made of."""
    plans = [
        Plan(
            information=evenly(5), power=0.8 + 0.001 * i,
            efficacy=Efficacy(spending="hwang_shih_decani", shape=-4.0),
            futility=Futility(spending="hwang_shih_decani", shape=-2.0, binding=True),
        )
        for i in range(20)
    ]  # fmt: skip
    sequential._solved.cache_clear()
    start = time.process_time()
    for plan in plans:
        boundaries(plan)
    return Measured(1000 * (time.process_time() - start) / len(plans), "alpha and beta spending, binding, 5 looks")


@cache
def null_size(kind: str) -> Measured:
    """Share of 100,000 null trials that reject."""
    if kind == "z":
        found = simulated_means(design(3), [60, 120, 180], effect=0.0, seed=SEED, replicates=100_000, test="z")
    else:
        bounds = boundaries(Plan(information=(1.0,), efficacy=Efficacy(family="none")))
        found = simulated_means(bounds, [40], effect=0.0, seed=SEED, replicates=100_000, test="t")
    return Measured(found.power.value, f"MCSE {found.power.mcse:.5f}")


@row("designs.null_sequential_known_information", unit="1", bar=NOMINAL)
def null_sequential() -> Measured:
    """Type I error of a group-sequential z test, 3 looks."""
    return null_size("z")


@row("designs.null_t_fixed", unit="1", bar=NOMINAL)
def null_t() -> Measured:
    """Type I error of a t test at 20 an arm."""
    return null_size("t")
