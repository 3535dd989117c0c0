"""A block: a range of whole replicates, a pure function of (payload, block). Runs anywhere, returns Parquet bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pkpd.ground import digest
from trials import toxicity
from trials.benefit import measured
from trials.event_course import event_course
from trials.record import Block, BlockResult, parquet
from trials.setting import Payload, Setting, opened
from trials.trial import Trial, curves, outcome_columns, potential, simulate_trial
from trials.worlds import chained

__all__ = ["Item", "simulate_block", "simulate_item"]

Item = tuple[str, Block]


def simulate_block(payload: Payload, block: Block) -> BlockResult:
    """Simulate and analyse the replicates of a block.

    Tables: outcomes, analyses, and where the block has them curves, truth, looks, chain, samples and laboratory;
    counts: screening and status of the solver.
    """
    import pandas as pd

    setting = opened(payload)
    trial = simulate_trial(setting, block.replicates)
    outcomes = outcome_columns(setting, trial)
    told = _told(setting, trial)
    tables = {
        "outcomes": outcomes, "analyses": trial.analyses, "curves": curves(setting, trial),
        "truth": potential(setting, told) if told else None, "looks": trial.looks,
        "courses": event_course(setting, trial),
        "chain": chained(setting, told) if told else None, "benefit": _weighed(setting, trial),
        "samples": toxicity.samples_table(setting, trial, trial.samples),
        "laboratory": toxicity.potential(setting, told) if told else None,
    }  # fmt: skip
    counts = {"screening": trial.cohort.screening.to_dict(), "status": _statuses(outcomes["status"])}
    return BlockResult(
        tables={name: parquet(columns) for name, columns in tables.items() if columns},
        counts=counts,
        outcomes=digest.of_table(pd.DataFrame(outcomes, copy=False)),
    )


def simulate_item(payloads: Mapping[str, Payload], item: Item) -> BlockResult:
    """One block of one of several runs that share their workers: item = (name of the run, block)."""
    name, block = item
    return simulate_block(payloads[name], block)


def _told(setting: Setting, trial: Trial) -> Trial | None:
    """Those replicates of the batch whose truth is asked for."""
    wanted = trial.cohort.replicate < setting.protocol.truth.replicates
    if not wanted.any():
        return None
    return trial if wanted.all() else simulate_trial(setting, trial.cohort.replicate[wanted].tolist())


def _weighed(setting: Setting, trial: Trial) -> dict[str, Any] | None:
    """Effects for `benefit_risk`, of those replicates that it asks for."""
    plan = setting.protocol.benefit_risk
    if plan is None:
        return None
    wanted = [number for number in trial.cohort.replicate.tolist() if plan.measured(number)]
    if not wanted:
        return None
    return measured(setting, trial if len(wanted) == trial.cohort.replicate.size else simulate_trial(setting, wanted))


def _statuses(status: Any) -> dict[str, int]:
    """How many subjects ended with each status of the engine."""
    codes, counts = np.unique(status, return_counts=True)
    return {str(int(code)): int(count) for code, count in zip(codes, counts, strict=True)}
