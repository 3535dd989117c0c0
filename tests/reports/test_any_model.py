"""A run and its report of a model with everything: occasions, mixture, hazards, counts, categories, a Markov state."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trials.dispatch import Mode
from trials.record import RunRecord
from trials.run import run

MODEL = """
vtrial: model/1
name: all_of_it
covariates: {WT: {unit: kg, reference: 70}}
states: {A: mg}
parameters:
  K: {typical: 0.02 1/h, iov: 0.2, se: 0.05, effects: {fast: {1: 2.0}}, status: assumed}
  V: {typical: 10 L, iiv: 0.2, status: assumed}
  W0: {typical: 70 kg, status: assumed}
  B: {typical: 0.0005 L/mg/h, iiv: 0.4, status: assumed}
  H0: {typical: 0.0005 1/h, iiv: 0.3, status: assumed}
  LAM: {typical: 3 1, status: assumed}
  A1: {typical: 0.4 1, scale: identity, status: assumed}
  E: {typical: 0.2 L/mg, scale: identity, status: assumed}
  P01: {typical: 0.3 1, scale: logit, status: assumed}
  P11: {typical: 0.8 1, scale: logit, status: assumed}
  S: {typical: 0.002 1/h, status: assumed}
occasion: {column: OCC}
mixture: {fast: 0.25, slow: rest}
equations: |
  C = A/V
  d/dt(A) = -K*(WT/W0)*A
  HD = H0
  HB = B*C
  MEAN = LAM*exp(-E*CAV)
  PAIN1 = expit(A1 - E*C)
  STAY = P01 + (P11 - P01)*LAST
  SEVERE = exp(-S*TIME)
  RISK = P01*expit(E*CMAX)
  FEV = LAM + E*CAV
summaries: {CAV: {of: C, as: average, window: 1 d}, CMAX: {of: C, as: maximum, window: 1 d}}
doses: {A: {bioavailability: 1}}
outputs:
  CP: {is: C, error: {additive: 0.2 mg/L}}
  FEV: {is: FEV, error: {additive: 0.1 1}}
  N: {is: MEAN, kind: count, law: poisson}
  PAIN: {kind: ordered, at_least: {1: PAIN1}}
  SICK: {kind: ordered, at_least: {1: STAY}, previous: {name: LAST, first: 0}}
residual_correlations: [[CP, FEV, 0.4]]
events:
  death: {hazard: HD, kind: terminal}
  bleed: {hazard: HB, kind: recurrent, term: Haemorrhage}
  rash: {hazard: HD, kind: first, at_least: {3: SEVERE}, term: Rash}
  ache: {risk: RISK, per: 7 d, term: Headache}
"""
PROTOCOL = """
vtrial: protocol/1
name: all_of_it
model: {file: model.yaml, draws: 20}
seed: 11
replicates: 4
population: {law: nhanes_adults, eligible: {age: 40 <= AGE <= 70}}
subjects: 40
arms:
  placebo: {regimen: []}
  drug:
    regimen: [{amount: 60 mg, into: A, every: 24 h, for: 14 d}]
    rules: [{at: day7, measure: CP, above: 8 mg/L, grade: grade 3, do: {scale_dose: 0.5}}]
allocation: {method: permuted_block, size: 4, strata: [SEX]}
visits: {baseline: {day: 0}, day7: {day: 7, window: 1}, day14: {day: 14}}
occasions: {at: [day7]}
adherence: {kind: markov, miss_after_taken: 0.05, miss_after_missed: 0.4}
intercurrent: {stopped: {after: grade 3}}
dropout: {hazard: 0.01 1/d}
endpoints:
  calls: {output: N, at: day14, as: change_from_baseline}
  fev: {output: FEV, at: day14, as: change_from_baseline}
  death: {event: death, as: incidence}
  any: {event: [bleed, ache, rash], as: incidence}
estimands:
  primary:
    {endpoint: [calls, fev], compare: [drug], against: placebo, summary: mean_difference, strategies: {stopped: treatment_policy}}
  safety:
    {endpoint: [death, any], compare: [drug], against: placebo, summary: risk_difference, strategies: {stopped: while_on_treatment}}
analyses:
  primary: {method: ancova, adjust: [baseline, SEX]}
  safety: {method: miettinen_nurminen, level: 0.9}
decide: {go: drug.calls.reject}
keep: {curves: 2, bands: 6}
truth: {replicates: 2}
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return _run(tmp_path_factory.mktemp("all"), block_size=4)


def _run(folder: Path, block_size: int) -> RunRecord:
    (folder / "model.yaml").write_text(MODEL)
    (folder / "protocol.yaml").write_text(PROTOCOL)
    return run(folder / "protocol.yaml", folder / "out", mode=Mode.choose(serial=True), block_size=block_size)


def test_any_split_of_the_run_has_the_same_bits(record: RunRecord, tmp_path: Path) -> None:
    assert _run(tmp_path, block_size=1).digest == record.digest
    assert (record.outcomes["status"] == 0).all()
    assert record.outcomes["bleed.number"].max() > 1
    assert np.isfinite(record.analyses["estimate"]).all()


def test_the_report_says_what_the_trial_was(record: RunRecord) -> None:
    from reports.gather import study
    from reports.html import render

    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render(study(record))))
    for words in (
        "K differ from occasion to occasion, a new one at day7", "fast 0.25, slow rest",
        "death: nothing is observed or averaged after it", "among those whose follow-up lasts to the visit",
        "between occasions 0.2", "Haemorrhage", "Headache",
    ):  # fmt: skip
        assert words in page, words
