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


@row("prognosis.cpu", unit="ms", bar="<= 2")
def score() -> Measured:
    """CPU of one subject's prognostic score: a level of vancomycin at 24 h from covariates, 100 draws."""
    from pkpd.ground.units import Quantity
    from pkpd.model.library import load
    from pkpd.model.regimen import Dose, Regimen
    from pkpd.model.variability import point
    from pkpd.twin.prognosis import Question, enrolled, foretold

    model, n = load("goti_vancomycin"), 2000
    control = Regimen((Dose(amount=Quantity(1000, "mg"), into="central", every=12, for_=24, duration=1),))
    asked = Question(output="CP", at=24.0, control=control.schedule(model.dose_units), particles=100)
    people = enrolled(
        {"CRCL": np.linspace(20, 140, n), "WT": np.full(n, 70.0), "DIAL": np.zeros(n)}, ids=tuple(map(str, range(n)))
    )
    foretold(model, people, point(model), asked)
    begun = time.process_time()
    foretold(model, people, point(model), asked)
    return Measured(1e3 * (time.process_time() - begun) / n, f"{n} subjects")


@row("guidance.cpu", unit="ms", bar="<= 10")
def cost() -> Measured:
    """CPU of a guided subject with two decisions, everything else of the trial included."""
    table, seconds = _vancomycin()
    subjects = int((table["arm"] == 1).sum())
    return Measured(1e3 * seconds / subjects, f"{subjects} subjects, 100 draws, 10 doses")
