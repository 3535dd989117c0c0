"""Laboratory grades of a protocol: docetaxel's published shares out of a protocol, and what rules by grade do."""

from __future__ import annotations

import io
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tests.bench.harness import Measured, row
from tests.bench.rows_safety import PRINTED, grade4
from trials.block import simulate_block
from trials.record import Block
from trials.run import prepare
from trials.setting import opened
from trials.trial import outcome_columns, simulate_trial

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ONE_COURSE = """\
vtrial: protocol/1
name: one_course
model: {{file: {model}, parameters: published, draws: 1}}
seed: 20261122
replicates: 1
population: {{law: nhanes_adults}}
subjects: {subjects}
arms:
  full: {{regimen: [{{amount: 180 mg, into: central, duration: 1 h}}]}}
  less: {{regimen: [{{amount: 135 mg, into: central, duration: 1 h}}]}}
laboratory:
  anc: {{true: Circ, term: Neutrophil count decreased, unit: 10^9/L, lln: 2.0, at: every 3 h}}
visits: {{start: {{day: 0}}, end: {{day: 21}}}}
endpoints: {{}}
estimands: {{}}
analyses: {{}}
truth: {{replicates: 1}}
"""


@lru_cache(maxsize=1)
def one_course(subjects: int) -> tuple[dict[float, float], float]:
    """Share with grade 4 in 21 days after 100 and 75 mg/m2, everybody under both, and CPU seconds."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "protocol.yaml"
        model = EXAMPLES / "docetaxel_neutropenia" / "model.yaml"
        (Path(folder) / "model.yaml").write_text(model.read_text(encoding="utf-8"), encoding="utf-8")
        path.write_text(ONE_COURSE.format(model="model.yaml", subjects=subjects), encoding="utf-8")
        payload = prepare(path).variants["main"].payload
    made = simulate_block(payload, Block(number=0, first=0, stop=1))
    table = pq.read_table(io.BytesIO(made.tables["laboratory"])).to_pandas()
    shares = table[table["measure"] == "worst 4"].set_index("arm")["value"]
    return {180.0: float(shares[0]), 135.0: float(shares[1])}, time.process_time() - begin


@row("laboratory.docetaxel", unit="points", bar="<= 2")
def docetaxel() -> Measured:
    """Largest distance from 76.6 and 54.9 %, 10,000 subjects under both doses, true counts every 3 h."""
    found, seconds = one_course(10_000)
    away = max(100 * abs(found[dose] - PRINTED[dose][1]) for dose in PRINTED)
    words = ", ".join(f"{100 * share:.2f} %" for share in found.values())
    return Measured(away, f"{words} after 100 and 75 mg/m2; {seconds:.0f} CPU s")


@row("laboratory.docetaxel_same", unit="subjects of 10,000", bar="<= 1")
def same() -> Measured:
    """Difference from the same 10,000 addresses solved without a protocol (safety.docetaxel)."""
    found, _ = one_course(10_000)
    away = [10_000 * abs(found[dose] - grade4(dose, 10_000)[0]) for dose in PRINTED]
    return Measured(float(max(away)), ", ".join(f"{a:.1f}" for a in away))


@lru_cache(maxsize=1)
def six_courses(replicates: int) -> tuple[pd.DataFrame, float]:
    begin = time.process_time()
    payload = prepare(EXAMPLES / "docetaxel_neutropenia" / "protocol.yaml").variants["main"].payload
    made = simulate_block(payload, Block(number=0, first=0, stop=replicates))
    return pq.read_table(io.BytesIO(made.tables["laboratory"])).to_pandas(), time.process_time() - begin


def _shares(measure: str) -> list[float]:
    table, _ = six_courses(20)
    rows = table[table["measure"] == measure]
    return [float(rows.loc[rows["arm"] == arm, "value"].mean()) for arm in range(3)]


@row("laboratory.rules_cycle1", unit="points", bar="<= 0")
def first_cycle() -> Measured:
    """Grade 4 in the first cycle with a rule against without, 2,400 people under every arm: no rule can act yet."""
    found = _shares("cycle1 4")
    return Measured(100 * max(abs(x - found[0]) for x in found), ", ".join(f"{100 * x:.1f} %" for x in found))


@row("laboratory.rules_cycle6", unit="points", bar=">= 20")
def last_cycle() -> Measured:
    """How much rarer grade 4 is in the sixth cycle when each grade 4 lowers the dose, in the same people."""
    found, dose = _shares("cycle6 4"), _shares("intensity")
    words = "; ".join(f"{100 * x:.1f} % at intensity {100 * d:.1f} %" for x, d in zip(found, dose, strict=True))
    return Measured(100 * (found[0] - found[2]), words)


@row("laboratory.speed", unit="CPU s", bar="<= 60")
def speed() -> Measured:
    """20 replicates of 120 subjects, six courses, two arms of three with rules, everybody under every arm."""
    _, seconds = six_courses(20)
    return Measured(seconds, "")


@row("laboratory.blocks", unit="values", bar="<= 0")
def blocks() -> Measured:
    """Values of the outcome table that differ between one block of six replicates and three blocks of two."""
    setting = opened(prepare(EXAMPLES / "docetaxel_neutropenia" / "protocol.yaml").variants["main"].payload)
    whole = outcome_columns(setting, simulate_trial(setting, range(6)))
    parts = [outcome_columns(setting, simulate_trial(setting, range(k, k + 2))) for k in (0, 2, 4)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    away = sum(int((~_equal(whole[name], joined[name])).sum()) for name in whole)
    return Measured(float(away), f"{sum(x.size for x in whole.values())} values")


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a == b) | ((a != a) & (b != b)))
