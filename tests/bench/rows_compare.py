"""Designs beside each other: what pairing gains, exact numbers beside simulation, the null grid, the platform's drift."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from tests.bench.harness import Measured, row
from trials.comparison import Comparison
from trials.design import complete, imbalance, minimised, permuted_blocks
from trials.designs.applied import applied
from trials.designs.exact import exact
from trials.designs.grid import compared
from trials.designs.text import Design
from trials.designs.text_scenarios import Truth

EXAMPLES = Path(__file__).parents[2] / "examples"


def read(name: str) -> Design:
    return Design.read(EXAMPLES / "designs" / f"{name}.yaml")


@cache
def means() -> Comparison:
    """Fixed against group-sequential over examples/compare/scenarios.yaml, MCSE of P(reject) 0.004."""
    designs = {name: read(name) for name in ("means_fixed", "group_sequential_means")}
    return compared(applied(designs, EXAMPLES / "compare" / "scenarios.yaml"))


@row("compare.gain", unit="variance ratio", bar=">= 3")
def gain() -> Measured:
    """Unpaired over paired variance of the difference in power, fixed against group-sequential, sd 1."""
    planned = next(s for s in means().scenarios if s.name == "planned, sd 1")
    (found,) = (d for d in planned.differences if d.measure == "reject")
    return Measured(
        found.gain, f"{found.paired.value:.4f} (MCSE {found.paired.mcse:.4f}, unpaired {found.unpaired:.4f})"
    )


@row("compare.asked_mcse", unit="largest MCSE of P(reject)", bar="<= 0.004")
def asked() -> Measured:
    """Replicates were chosen for 0.004."""
    worst = max(e["reject"].mcse for s in means().scenarios for e in s.estimates.values())
    runs = [s.replicates for s in means().scenarios]
    return Measured(worst, f"{min(runs)} to {max(runs)} trials a scenario")


@row("compare.null_grid", unit="largest type I error", bar="<= 0.0275")
def null_grid() -> Measured:
    """Fixed t test at 20,000 trials over sd 0.5 to 2: exact by theory."""
    design = read("means_fixed")
    assert design.simulate is not None
    grid = replace(design.simulate, truths={"nothing": Truth(effect=0.0)}, grid={"sd": (0.5, 1.0, 2.0)})
    found = compared({"fixed": replace(design, simulate=grid)}, replicates=20_000)
    name, worst = found.largest_type_one()["fixed"]
    return Measured(worst.value, f"{name}, MCSE {worst.mcse:.4f}")


@row("compare.exact", unit="MCSE", bar="<= 4")
def exact_beside() -> Measured:
    """Largest |simulated - exact| over every number of the examples that has both, 20,000 trials each."""
    names = ("means_fixed", "group_sequential_proportions", "proportions_noninferiority", "replicate_crossover", "factorial",
             "simon_two_stage", "platform", "dose_escalation_boin", "dose_escalation_3plus3", "reestimation")  # fmt: skip
    worst, count = 0.0, 0
    for name in names:
        for s in compared({name: read(name)}, replicates=20_000).scenarios:
            if np.isfinite(s.worst()):
                worst = max(worst, s.worst())
                count += sum(not e.approximate for by in s.exact.values() for e in by.values())
    return Measured(worst, f"{count} numbers of {len(names)} designs")


@row("compare.platform_adjusted", unit="type I error", bar="<= 0.0255")
def platform_adjusted() -> Measured:
    """Second arm, linear drift of one sd shared by all arms, adjusted analysis, exact; pooled in the note."""
    text = (EXAMPLES / "designs" / "platform.yaml").read_text()
    truth = Truth(arms={"first": 0.0, "second": 0.0}, trend=1.0)
    found = {
        analysis: exact(Design.parse(text.replace("analysis: adjusted", f"analysis: {analysis}")), truth)[
            "reject_second"
        ]
        for analysis in ("adjusted", "concurrent", "pooled")
    }
    note = ", ".join(f"{name} {e.value:.4f}" for name, e in found.items())
    return Measured(found["adjusted"].value, note)


@row("compare.grid_speed", unit="trials/s", bar=">= 10000")
def grid_speed() -> Measured:
    """One core: 20,000 trials of 172 subjects under two designs with estimates, durations, costs and differences."""
    designs = {name: read(name) for name in ("means_fixed", "group_sequential_means")}
    given = applied(designs, EXAMPLES / "compare" / "scenarios.yaml")
    compared(given, replicates=10)
    begun = time.process_time()
    found = compared(given, replicates=20_000)
    seconds = time.process_time() - begun
    return Measured(
        2 * 20_000 * len(found.scenarios) / seconds, f"{seconds:.1f} s for {len(found.scenarios)} scenarios"
    )


@row("compare.minimisation", unit="of permuted blocks", bar="<= 0.9")
def minimisation() -> Measured:
    """Mean largest imbalance in a level of three factors (2, 3, 4 levels), 100 subjects, probability 0.8, 500 trials,
    over that of permuted blocks of 4 in the 24 cells.
    """
    factors = np.stack([np.floor(np.modf(np.arange(50_000) * k)[0] * n).reshape(500, 100).astype(int)
                        for k, n in ((2**0.5, 2), (3**0.5, 3), (5**0.5, 4))], axis=2)  # fmt: skip
    which, cell = np.arange(500), factors[:, :, 0] * 12 + factors[:, :, 1] * 4 + factors[:, :, 2]
    arms = {
        "minimisation": minimised(factors, [1, 1], probability=0.8, seed=1, replicate=which),
        "permuted blocks of 4 in 24 cells": permuted_blocks(cell, [1, 1], size=4, seed=1, replicate=which),
        "complete": complete(cell, [1, 1], seed=1, replicate=which),
    }
    worst = {name: float(imbalance(arm, factors, [1, 1]).max(axis=1).mean()) for name, arm in arms.items()}
    ratio = worst["minimisation"] / worst["permuted blocks of 4 in 24 cells"]
    return Measured(ratio, ", ".join(f"{name} {value:.2f}" for name, value in worst.items()))
