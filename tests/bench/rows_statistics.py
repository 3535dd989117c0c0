"""Type I error and speed of the primary analysis on summary-level trials of the demo's shape."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals, uniforms
from tests.bench.harness import Measured, row
from trials.analysis.continuous import Contrasts, ancova_dunnett, ancova_mi_dunnett
from trials.design import permuted_blocks
from trials.operating import proportion

Floats = NDArray[np.float64]

SEED = 20261121
ARMS, SUBJECTS, VISITS = 5, 300, 4
REPLICATES, CHUNK = 10_000, 1_000
NOMINAL = "0.0435 .. 0.0565"  # 0.05 -+ 3 sqrt(0.05 0.95/10000)
DEMO_BAR = "<= 4"


def people(replicate: NDArray[np.int64]) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """FEV1-like visits (R, N, V) without any effect, baseline, arm, strata: people first, then allocation."""
    who = {"subject": np.arange(SUBJECTS), "replicate": replicate[:, None]}
    smoking = uniforms(SEED, Purpose.SUMMARY_TRIAL, **who, slot=90)
    strata = (smoking > 0.15).astype(np.int64) + (smoking > 0.6)
    own, first = (normals(SEED, Purpose.SUMMARY_TRIAL, **who, slot=s) for s in (0, 1))
    level = 1.3 + 0.35 * own + 0.05 * strata
    later = [normals(SEED, Purpose.SUMMARY_TRIAL, **who, slot=2 + v) for v in range(VISITS)]
    drift = 0.08 * normals(SEED, Purpose.SUMMARY_TRIAL, **who, slot=40)
    visits = np.stack([level + drift * (v + 1) / VISITS + 0.12 * e for v, e in enumerate(later)], axis=-1)
    arm = permuted_blocks(strata, [1] * ARMS, size=10, seed=SEED, replicate=replicate).astype(np.int64)
    return visits, level + 0.12 * first, arm, strata


def with_dropout(visits: Floats, baseline: Floats, arm: NDArray[np.int64], replicate: NDArray[np.int64]) -> Floats:
    """Missing at random, monotone: leaving after a visit is likelier after a fall from baseline, and in higher arms."""
    out = visits.copy()
    gone = np.zeros(arm.shape, dtype=np.bool_)
    for visit in range(1, VISITS):
        u = uniforms(
            SEED, Purpose.SUMMARY_TRIAL, subject=np.arange(SUBJECTS), replicate=replicate[:, None], index=visit, slot=91
        )
        fall = baseline - visits[:, :, visit - 1]
        gone |= u < 1.0 / (1.0 + np.exp(2.6 - 4.0 * fall - 0.1 * arm))
        out[gone, visit] = np.nan
    return out


def analysed(method: str, replicate: NDArray[np.int64]) -> tuple[Contrasts, float]:
    """The analysis of a chunk of null trials and the share of missing final values."""
    visits, baseline, arm, strata = people(replicate)
    if method == "complete":
        return ancova_dunnett(visits[:, :, -1], baseline, arm, strata, arms=ARMS), 0.0
    data = with_dropout(visits, baseline, arm, replicate)
    found = ancova_mi_dunnett(data, baseline, arm, strata, arms=ARMS, seed=SEED, replicate=replicate)
    return found, float(np.isnan(data[:, :, -1]).mean())


@cache
def family_wise(method: str) -> Measured:
    """Share of null trials that reject any contrast."""
    start, reject, missing = time.process_time(), [], []
    for first in range(0, REPLICATES, CHUNK):
        found, share = analysed(method, np.arange(first, first + CHUNK))
        reject.append(found.reject.any(axis=-1))
        missing.append(share)
    error = proportion(np.concatenate(reject))
    note = (
        f"MCSE {error.mcse:.4f}, {REPLICATES} null trials of {SUBJECTS} in {ARMS} arms, {np.mean(missing):.0%} missing"
    )
    return Measured(error.value, f"{note}, {time.process_time() - start:.0f} s CPU")


@row("statistics.family_wise_error_complete", unit="1", bar=NOMINAL)
def complete_data_error() -> Measured:
    """Primary analysis on complete data at a null protocol."""
    return family_wise("complete")


@row("statistics.family_wise_error_imputed", unit="1", bar=NOMINAL)
def imputed_error() -> Measured:
    """Primary analysis after 20 imputations of missing-at-random dropout at a null protocol."""
    return family_wise("imputed")


@row("statistics.imputation_200_trials", unit="s CPU", bar=DEMO_BAR)
def imputation_speed() -> Measured:
    """The demo's primary analysis, 200 trials x 300 subjects x 4 visits x 20 imputations, compilation apart."""
    replicate = np.arange(200)
    visits, baseline, arm, strata = people(replicate)
    data = with_dropout(visits, baseline, arm, replicate)
    run = {"arms": ARMS, "seed": SEED}
    ancova_mi_dunnett(data[:2], baseline[:2], arm[:2], strata[:2], replicate=replicate[:2], **run)
    start = time.process_time()
    ancova_mi_dunnett(data, baseline, arm, strata, replicate=replicate, **run)
    return Measured(time.process_time() - start, f"{np.isnan(data[:, :, -1]).mean():.0%} missing")
