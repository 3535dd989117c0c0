"""The report of events that come again or become worse: its numbers against the outcome table."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from reports.gather import study
from reports.html import render
from reports.sections.event_course import event_course
from reports.tables import Table
from trials.dispatch import Mode
from trials.record import RunRecord
from trials.run import run

MODEL = """
vtrial: model/1
name: graded
states: {A: mg}
parameters:
  K: {typical: 0.02 1/h, status: assumed}
  U: {typical: 0.006 1/h, status: assumed}
  S: {typical: 0.01 1/mg, status: assumed}
  D: {typical: 0.02 1/h, status: assumed}
  Q: {typical: 0.15 1, scale: logit, status: assumed}
  B: {typical: 0.02 1/h, status: assumed}
  T: {typical: 0.01 1/h, status: assumed}
equations: |
  d/dt(A) = -K*A
  UP = U*(1 + S*A)
  WORSE = 0.5*UP
  DOWN = D
  Q1 = Q
  HB = B
  BAD = exp(-T*TIME)
outputs: {A: {is: A, error: {additive: 1 mg}}}
events:
  rash: {term: Rash, soc: Skin, moves: {0 to 1: UP, 1 to 2: WORSE, 1 to 0: DOWN, 2 to 1: DOWN}, at_start: {1: Q1}}
  bleed: {term: Bleeding, soc: Blood, hazard: HB, kind: recurrent, at_least: {3: BAD}}
"""
PROTOCOL = """
vtrial: protocol/1
name: graded
model: {file: model.yaml}
seed: 17
replicates: 3
population: {law: nhanes_adults}
subjects: 60
arms: {none: {regimen: []}, drug: {regimen: [{amount: 300 mg, into: A, every: 24 h, for: 10 d}]}}
visits: {start: {day: 0}, day3: {day: 3}, day7: {day: 7}, last: {day: 10}}
endpoints:
  any: {event: rash, as: incidence}
  bad: {event: rash, as: incidence, at_least: 2}
  spells: {event: rash, as: recurrences}
estimands:
  any: {endpoint: any, compare: drug, against: none, summary: risk_difference}
  bad: {endpoint: bad, compare: drug, against: none, summary: risk_difference}
  spells: {endpoint: spells, compare: drug, against: none, summary: rate_ratio}
analyses:
  any: {method: miettinen_nurminen}
  bad: {method: miettinen_nurminen}
  spells: {method: lwyy}
truth: {replicates: 1}
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("graded")
    (folder / "model.yaml").write_text(MODEL)
    (folder / "protocol.yaml").write_text(PROTOCOL)
    return run(folder / "protocol.yaml", folder / "out", mode=Mode.choose(serial=True))


def test_worst_grades_numbers_and_days(record: RunRecord) -> None:
    """Means over replicates of the outcome table's own columns; grades of a row sum to 100 %."""
    told, table = study(record), record.outcomes
    tables = [block for block in event_course(told).blocks if isinstance(block, Table)]
    worst, numbers = tables
    drug = table[table["arm"] == 1]
    row = next(row for row in worst.rows if row[0] == "Rash" and row[1] == "Drug")
    shown = [float(cell.split()[0]) for cell in row[2:5]]
    expected = [100 * (drug["rash.grade"] == g).groupby(drug["replicate"]).mean().mean() for g in range(3)]
    assert np.allclose(shown, expected, atol=0.6)
    assert abs(sum(shown) - 100) < 1.5
    spells = next(row for row in numbers.rows if row[0] == "Rash" and row[1] == "Drug")
    assert float(spells[2].split()[0]) == pytest.approx(100 * drug["rash.day"].notna().mean(), abs=0.6)
    assert float(spells[3].split()[0]) == pytest.approx(drug["rash.number"].mean(), abs=0.06)
    assert float(spells[5].split()[0]) == pytest.approx(drug["rash.days"].mean(), abs=0.2)
    bleeds = next(row for row in numbers.rows if row[0] == "Bleeding" and row[1] == "None")
    assert bleeds[5] == "–"


def test_the_page_holds_the_section_and_its_figures(record: RunRecord) -> None:
    """One curve an event, one picture of grades for the event whose grade moves."""
    page = render(study(record))
    section = re.search(r'<section id="courses">.*?</section>', page, re.S)
    assert section is not None
    text = html.unescape(section[0])
    assert text.count("<svg") == 5
    assert "Mean number of episodes per subject" in text
    assert "Mean number of events per subject" in text
    assert (record.directory / "blocks" / "00000.courses.parquet").exists()
