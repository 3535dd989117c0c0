"""Signals on CAERS 2012 (../shared/data/signals): speed of fit and scores, agreement with openEBGM 0.9.1."""

from __future__ import annotations

import csv
import gzip
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.bench.harness import Measured, row
from trials.analysis import signals, signals_fit, signals_ratio, signals_reports

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "signals"


@lru_cache(maxsize=1)
def table() -> signals_reports.Reports:
    return signals_reports.read(FOLDER / "caers_2012_supplements.csv.gz")


def theta(name: str) -> signals_fit.Theta:
    with (FOLDER / "caers_hyperparameters.csv").open() as file:
        found = next(r for r in csv.DictReader(file) if r["fit"] == name)
    a1, b1, a2, b2, p = (float(found[k]) for k in ("alpha1", "beta1", "alpha2", "beta2", "P"))
    return signals_fit.Theta(alpha1=a1, beta1=b1, alpha2=a2, beta2=b2, p=p)


@row("signals.fit_and_scores", unit="s", bar="< 1")
def speed() -> Measured:
    def work() -> int:
        made = signals.counts(table())
        signals.disproportionality(made)
        fit = signals_fit.fit(made.n, made.expected)
        return signals_fit.shrunk(made.n, made.expected, fit.theta).ebgm.size

    work()
    begin = time.perf_counter()
    pairs = work()
    return Measured(time.perf_counter() - begin, f"wall, counts, all scores and fit of {pairs} pairs, warm")


@row("signals.likelihood", unit="", bar="<= 0.01")
def likelihood() -> Measured:
    """-log L of our fit above that of the optimum openEBGM publishes (negative: better)."""
    made = signals.counts(table())
    fit = signals_fit.fit(made.n, made.expected)
    there = signals_fit.negative_log_likelihood(theta("unstratified_full"), made.n, made.expected)
    return Measured(fit.negative_log_likelihood - there, f"{fit.status.name}, theta {fit.theta.text()}")


@row("signals.likelihood_strata", unit="", bar="-0.01 .. 0.01")
def likelihood_strata() -> Measured:
    made = signals.counts(
        signals_reports.read(FOLDER / "caers_2012_supplements.csv.gz", signals_reports.Columns(strata=("sex",)))
    )
    fit = signals_fit.fit(made.n, made.expected)
    there = signals_fit.negative_log_likelihood(theta("sex_stratified_autosquash"), made.n, made.expected)
    return Measured(fit.negative_log_likelihood - there, f"{fit.status.name}, theta {fit.theta.text()}")


@row("signals.test", unit="products", bar="== 49")
def products() -> Measured:
    """Products at a false discovery rate of 5 %, and the CPU seconds of 4,999 draws."""
    signals_ratio.likelihood_ratio_test(table(), seed=1, replicates=19)
    begin = time.process_time()
    found = signals_ratio.likelihood_ratio_test(table(), seed=1, replicates=4999)
    return Measured(float((found.fdr < 0.05).sum()), f"{time.process_time() - begin:.2f} CPU s for 4999 draws, warm")


@row("signals.ebgm", unit="", bar="<= 1e-3")
def scores() -> Measured:
    """Largest relative difference of EBGM and EB05 at the given hyperparameters."""
    read = table()
    made = signals.counts(read)
    got = signals_fit.shrunk(made.n, made.expected, theta("unstratified_autosquash"))
    place = {(read.products[p], read.events[e]): k for k, (p, e) in enumerate(zip(made.product, made.event))}
    with gzip.open(FOLDER / "caers_reference_scores.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    at = [place[r["product"], r["event"]] for r in rows]
    worst = max(
        float(np.max(np.abs(ours[at] / np.array([float(r[name]) for r in rows]) - 1)))
        for ours, name in ((got.ebgm, "EBGM"), (got.eb05, "EB05"))
    )
    return Measured(worst, f"{len(rows)} pairs; the witness has 5 decimals")
