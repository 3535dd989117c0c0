"""Figures of the exposure analyses: agreement with published results and with simulated truth, speed."""

from __future__ import annotations

import time

import numpy as np

from pkpd import Records, noncompartmental
from pkpd.exposure.bioequivalence import parallel
from pkpd.model.library import data_path
from tests.bench.harness import Measured, row

# WinNonlin on R's Theoph, 320 mg, linear up, log down: Han S, validation of NonCompart, 2018-05-11, test 2
AUC_INF = [214.9236316, 97.3779346, 106.1276685, 114.2162046, 136.3047316, 82.1758833, 100.9876292, 102.1533003,
           97.5200039, 167.8600307, 86.9026173, 125.8315397]  # fmt: skip
CLEARANCE = [1.4889010, 3.2861654, 3.0152363, 2.8017040, 2.3476808, 3.8940865, 3.1687049, 3.1325469, 3.2813780, 1.9063502,
             3.6822827, 2.5430826]  # fmt: skip


@row("exposure.theoph_against_winnonlin", unit="relative", bar="<= 5e-8")
def theoph_against_winnonlin() -> Measured:
    """Largest relative difference of AUCinf and CL/F from the published values (seven decimals)."""
    records = Records.read(data_path("theophylline.csv"))
    found = noncompartmental(records.time.reshape(12, 11), records.dv.reshape(12, 11), 320)
    errors = [np.max(np.abs(found[n] / values - 1)) for n, values in (("auc_inf", AUC_INF), ("cl", CLEARANCE))]
    return Measured(float(max(errors)), "12 subjects, linear up, log down")


@row("exposure.one_exponential", unit="relative", bar="<= 1e-12")
def one_exponential() -> Measured:
    """Worst of AUCinf, AUMCinf, lambda_z, CL, Vss of 1,000 bolus profiles sampled at nine times against the closed form."""
    rate, volume = np.geomspace(0.02, 3.0, 1000), np.linspace(1.0, 50.0, 1000)
    t = np.array([0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 8.0])
    found = noncompartmental(t, (100 / volume)[:, None] * np.exp(-rate[:, None] * t), 100.0, route="bolus")
    truth = {"auc_inf": 100 / (rate * volume), "aumc_inf": 100 / (volume * rate**2), "lambda_z": rate,
             "cl": rate * volume, "vss": volume}  # fmt: skip
    return Measured(max(float(np.max(np.abs(found[n] / v - 1))) for n, v in truth.items()))


@row("exposure.parallel_reference", unit="percentage points", bar="<= 0.005")
def parallel_reference() -> Measured:
    """Ratio and 90 % interval of Clayton and Leslie 1981 against Fuglsang, Schütz, Labes 2015 (two decimals)."""
    test, reference = (
        [2.52, 8.87, 0.79, 1.68, 6.95, 1.05, 0.99, 5.6, 3.16],
        [4.98, 7.14, 1.81, 7.34, 4.25, 6.66, 4.76, 7.16, 5.52],
    )
    worst = 0.0
    for welch, published in ((True, (48.58, 26.78, 88.14)), (False, (48.58, 27.15, 86.94))):
        found = parallel(test, reference, welch=welch)
        got = (found.ratio, found.lower, found.upper)
        worst = max(worst, *(abs(100 * a - b) for a, b in zip(got, published, strict=True)))
    return Measured(worst)


@row("exposure.profiles_per_second", unit="profiles/CPU s", bar=">= 20000")
def profiles_per_second() -> Measured:
    """All parameters of 20,000 profiles of 12 samples, with tau; kernels compiled before."""
    rng = np.random.default_rng(1)
    t = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24.0])
    conc = 10 * (np.exp(-0.15 * t) - np.exp(-1.2 * t)) * np.exp(rng.normal(0, 0.2, (20_000, t.size)))
    noncompartmental(t, conc[:2], 100.0, tau=24)
    start = time.process_time()
    found = noncompartmental(t, conc, 100.0, tau=24)
    return Measured(20_000 / (time.process_time() - start), f"12 samples, {len(found.values)} parameters each")
