"""A small trial that still has everything: strata, missed doses, events that end treatment, dropout, imputation."""

from __future__ import annotations

from pathlib import Path

import pytest

MODEL = """\
vtrial: model/1
name: small
covariates: {WT: {unit: kg, reference: 70}}
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 0.8 1/h, iiv: 0.2, status: assumed}
  CL: {typical: 3 L/h, se: 0.1, iiv: 0.3, effects: {WT: power 0.75 fixed}, status: assumed}
  V: {typical: 32 L, iiv: 0.15, status: assumed}
  BASE: {typical: 1.3 L, iiv: 0.3, status: assumed}
  SLOPE: {typical: 0.02 L^2/mg, scale: identity, se: 0.005, status: assumed}
  P0: {typical: 0.1 1, scale: logit, se: 0.2, status: assumed}
  PC: {typical: 0.04 L/mg, scale: identity, status: assumed}
  G2: {typical: 0.7 1, scale: logit, status: assumed}
  G3: {typical: 0.4 1, scale: logit, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
  FEV1 = BASE + SLOPE*CAV
  P_SICK = P0 + (1 - P0)*(1 - exp(-PC*CMAX))
  P_ACHE = P0
  GE2 = G2
  GE3 = G3
summaries:
  CAV: {of: C, as: average, window: 1 d}
  CMAX: {of: C, as: maximum, window: 1 d}
outputs:
  CP: {is: C, error: {additive: 0.3 mg/L, proportional: 0.1}}
  FEV1: {is: FEV1, error: {additive: 0.1 L}}
events:
  sick: {term: Nausea, risk: P_SICK, per: 14 d, at_least: {2: GE2, 3: GE3}}
  ache: {term: Headache, risk: P_ACHE, per: 14 d}
"""

PROTOCOL = """\
vtrial: protocol/1
name: small
model: {file: model.yaml, parameters: published, draws: 50}
seed: 11
replicates: 12
population:
  law: nhanes_adults
  eligible: {age: 40 <= AGE <= 70}
  set: {SMOKING: {0: 0.4, 1: 0.2, 2: 0.4}}
subjects: 24
arms:
  placebo: {regimen: []}
  low: {regimen: [{amount: 200 mg, into: depot, every: 12 h, for: 14 d}]}
  high:
    regimen:
      - {amount: 200 mg, into: depot, every: 12 h, for: 2 d}
      - {amount: 500 mg, into: depot, every: 12 h, from: 2 d, for: 12 d}
allocation: {method: permuted_block, size: 6, strata: [SEX]}
visits: {baseline: {day: 0}, day7: {day: 7, window: 1, missed: 0.05}, day14: {day: 14}}
adherence: {kind: markov, miss_after_taken: 0.05, miss_after_missed: 0.4}
intercurrent: {stopped: {after: grade 3}}
dropout: {hazard: 0.01 1/d, factor_after_stop: 3}
endpoints:
  fev1: {output: FEV1, at: day14, as: change_from_baseline}
  sick: {event: sick, as: incidence}
  any: {event: [sick, ache], as: incidence}
estimands:
  primary:
    endpoint: fev1
    compare: [low, high]
    against: placebo
    summary: mean_difference
    strategies: {stopped: treatment_policy}
  safety:
    endpoint: [sick, any]
    compare: [low, high]
    against: placebo
    summary: risk_difference
    strategies: {stopped: while_on_treatment}
analyses:
  primary:
    method: ancova
    adjust: [baseline, SEX]
    missing: {method: multiple_imputation, imputations: 3}
  safety: {method: miettinen_nurminen, level: 0.9}
decide: {go: high.primary.reject and high.any.upper < 0.8}
keep: {curves: 2, bands: 6}
truth: {replicates: 3}
"""


@pytest.fixture(scope="session")
def model_text() -> str:
    return MODEL


@pytest.fixture(scope="session")
def protocol_text() -> str:
    return PROTOCOL


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The protocol file of the small trial, its model beside it."""
    return written(tmp_path_factory.mktemp("study"), PROTOCOL)


def written(folder: Path, protocol: str, model: str = MODEL) -> Path:
    (folder / "model.yaml").write_text(model, encoding="utf-8")
    (folder / "protocol.yaml").write_text(protocol, encoding="utf-8")
    return folder / "protocol.yaml"


@pytest.fixture
def write_study(tmp_path: Path):
    """A function that writes a changed protocol (and model) and returns its path."""

    def write(*changes: tuple[str, str], model: str = MODEL) -> Path:
        text = PROTOCOL
        for old, new in changes:
            assert old in text, f"the small protocol does not say {old!r}"
            text = text.replace(old, new)
        return written(tmp_path, text, model)

    return write


@pytest.fixture(scope="session")
def setting(study: Path):
    """The small trial opened as a worker opens it."""
    from trials.run import prepare
    from trials.setting import opened

    return opened(prepare(study).variants["main"].payload)
