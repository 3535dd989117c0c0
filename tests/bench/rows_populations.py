"""Figures of the populations room: enrolment time, fidelity of the law's headline numbers."""

from __future__ import annotations

import time

import numpy as np

from populations import Criteria, PopulationLaw, enrol
from tests.bench.harness import Measured, row

DEMO = {"age": "40 <= AGE <= 60", "heart_failure": "HEART_FAILURE == 0", "weight": "40 <= WT <= 160"}
SMOKING = {"SMOKING": {0: 0.15, 1: 0.45, 2: 0.40}}
NHANES = {"WT": 84.0, "HT": 167.9, "SCR": 0.879}  # weighted adults, NHANES 2017-2018


@row("populations.enrol_demo", unit="CPU s", bar="<= 2")
def enrol_demo() -> Measured:
    """300 subjects in 200 replicates under the demo's criteria; kernels compiled before."""
    law, criteria = PopulationLaw.read(), Criteria.parse(DEMO)
    enrol(law, criteria, seed=1, replicates=[0], subjects=2, overrides=SMOKING)
    start = time.process_time()
    cohort = enrol(law, criteria, seed=1, replicates=np.arange(200), subjects=300, overrides=SMOKING)
    used = time.process_time() - start
    accepted = cohort.screening.enrolled / cohort.screening.screened
    return Measured(used, f"60,000 enrolled, acceptance {accepted:.3f}")


@row("populations.means_against_nhanes", unit="relative", bar="<= 0.01")
def means_against_nhanes() -> Measured:
    """Largest relative error of the mean weight, height and creatinine of 400,000 adults."""
    people = PopulationLaw.read().draw(1, np.arange(100), np.arange(4000))
    errors = {name: abs(float(people[name].mean()) / mean - 1.0) for name, mean in NHANES.items()}
    return Measured(max(errors.values()), ", ".join(f"{name} {error:.4f}" for name, error in errors.items()))
