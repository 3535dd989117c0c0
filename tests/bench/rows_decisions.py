"""Decisions under uncertainty: doses guided by levels against a fixed dose."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from tests.bench.harness import Measured, row
from trials.run import prepare
from trials.setting import opened
from trials.trial import outcome_columns, simulate_trial

VANCOMYCIN = Path(__file__).parents[2] / "examples" / "vancomycin_tdm" / "protocol.yaml"
TRIALS = 20


@cache
def _vancomycin() -> tuple[pd.DataFrame, float]:
    """Outcomes of the first 20 trials, and the CPU seconds they took once everything is compiled."""
    setting = opened(prepare(VANCOMYCIN).variants["main"].payload)
    simulate_trial(setting, range(1))
    begun = time.process_time()
    table = pd.DataFrame(outcome_columns(setting, simulate_trial(setting, range(TRIALS))))
    return table, time.process_time() - begun


def _share(arm: int) -> Measured:
    """Subjects of an arm in the band on day 4: mean over trials."""
    table, _ = _vancomycin()
    shares = table[table["arm"] == arm].groupby("replicate")["IN_BAND.true@day4"].mean()
    error = float(shares.std(ddof=1) / np.sqrt(len(shares)))
    return Measured(float(shares.mean()), f"MCSE {error:.3f}, {TRIALS} trials of 120")


@row("guidance.fixed_in_band", unit="", bar="<= 0.45")
def fixed() -> Measured:
    """1 g every 12 h: AUC24 of 400 to 600 on day 4."""
    return _share(0)


@row("guidance.guided_in_band", unit="", bar=">= 0.58")
def guided() -> Measured:
    """The same, guided by three levels."""
    return _share(1)


@row("guidance.cpu", unit="ms", bar="<= 10")
def cost() -> Measured:
    """CPU of a guided subject with two decisions, everything else of the trial included."""
    table, seconds = _vancomycin()
    subjects = int((table["arm"] == 1).sum())
    return Measured(1e3 * seconds / subjects, f"{subjects} subjects, 100 draws, 10 doses")
