"""The report's laboratory toxicity. Witness: two trials of four subjects counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pkpd.model.spec import Model
from reports.figures.palette import looks
from reports.graded import toxicity
from reports.sections.toxicity import toxicity as section
from reports.study import Arm
from reports.tables import Table
from trials.analysis.binary import wilson
from trials.protocol import Protocol

EXAMPLE = Path(__file__).parents[2] / "examples" / "docetaxel_neutropenia"
TEXT = """
vtrial: protocol/1
name: by_hand
model: {file: model.yaml}
seed: 3
population: {law: nhanes_adults}
subjects: 4
arms:
  plain: {regimen: [{amount: 180 mg, into: central}]}
  ruled:
    rules: [{at: dose, laboratory: anc, grade: grade 4, do: {levels: [0.75]}}]
    regimen: [{amount: 180 mg, into: central}]
laboratory:
  anc: {measure: ANC, term: Neutrophil count decreased, unit: 10^9/L, lln: 2, label: Neutrophils, cycles: dose}
visits: {start: {day: 0}, last: {day: 28}}
endpoints: {}
estimands: {}
analyses: {}
"""


@pytest.fixture(scope="module")
def record() -> SimpleNamespace:
    """Trial 0: plain 4 and 2, ruled 3 and 0. Trial 1: plain 4 and 4, ruled 1 and one that nobody could grade."""
    outcomes = pd.DataFrame({
        "replicate": [0, 0, 0, 0, 1, 1, 1, 1], "subject": [0, 1, 2, 3] * 2, "arm": [0, 0, 1, 1] * 2,
        "lab.anc.baseline": 5.0, "lab.anc.baseline_grade": [0, 1, 0, 0, 0, 0, 0, 0],
        "lab.anc.worst": [4, 2, 3, 0, 4, 4, 1, -1],
        "lab.anc.extreme": [0.2, 1.2, 0.8, 3.0, 0.1, 0.3, 1.8, np.nan],
        "lab.anc.day": [8.0, 9.0, 8.0, 20.0, 7.0, 9.0, 10.0, np.nan],
        "lab.anc.days": [4.0, 0.0, 0.0, 0.0, 6.0, 2.0, 0.0, np.nan],
        "lab.anc.cycle1": [4, 2, 3, 0, 4, 4, 1, -1], "lab.anc.cycle2": [1, -2, 0, 0, 4, 1, 1, -1],
        "dose.intensity": [1, 1, 0.75, 1, 1, 1, 1, 0.5], "dose.share": [1, 1, 0.75, 1, 1, 1, 1, 0.5],
        "dose.reductions": [0, 0, 1, 0, 0, 0, 0, 2], "dose.delays": 0, "dose.holds": 0,
        "dose.cause": [0, 0, 0, 0, 0, 0, 0, 2],
    })  # fmt: skip
    rows = [
        (replicate, arm, test, measure, value)
        for test, measure, values in (
            ("anc", "worst 3", ((1.0, 0.5), (1.0, 0.25))), ("anc", "worst 4", ((0.5, 0.25), (1.0, 0.25))),
            ("anc", "days", ((2.0, 1.0), (4.0, 1.0))), ("anc", "cycle1 4", ((0.5, 0.5), (1.0, 1.0))),
            ("", "intensity", ((1.0, 0.8), (1.0, 0.9))), ("", "reductions", ((0.0, 1.0), (0.0, 0.5))),
        )
        for replicate, by_arm in enumerate(values)
        for arm, value in enumerate(by_arm)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["replicate", "arm", "test", "measure", "value"]).assign(n=4)
    model = Model.read(EXAMPLE / "model.yaml")
    return SimpleNamespace(protocol=Protocol.parse(TEXT, complete=False), model=model, outcomes=outcomes,
                           laboratory=table)  # fmt: skip


def test_two_trials_by_hand(record: SimpleNamespace) -> None:
    found = toxicity(record)
    assert found is not None
    (test,) = found.tests
    plain, ruled = test.worst[4]
    assert plain.expected.value == (0.5 + 1.0) / 2
    assert (plain.count, plain.subjects, plain.number) == (3, 4, 2.0)
    limits = wilson([1, 2], [2, 2])
    assert plain.one == (np.median(limits.lower), np.median(limits.upper))
    assert (ruled.expected.value, ruled.count, ruled.subjects) == (0.0, 0, 3)
    assert test.worst[3][1].expected.value == (0.5 + 0.0) / 2
    # shifts of a mean trial: plain 0 -> 4 three times in two trials, 1 -> 2 once; ruled: one not graded
    assert test.shifts[0, 0, 4] == 1.5
    assert test.shifts[0, 1, 2] == 0.5
    assert test.shifts[1, 0, 5] == 0.5
    course = test.courses[0]
    assert course.extreme.value == pytest.approx((0.7 + 0.2) / 2)
    assert course.lasting.value == pytest.approx((2.0 + 4.0) / 2)
    assert course.lasting_any.value == pytest.approx((4.0 + 4.0) / 2)
    # cycle 2: who did not begin it (-2) or has no sample in it (-1) does not count
    assert test.cycles[1][0].expected.value == pytest.approx((0.0 + 0.5) / 2)
    assert test.cycles[1][0].subjects == 3
    doses = found.doses[1]
    assert doses is not None
    assert doses.intensity.value == pytest.approx((0.875 + 0.75) / 2)
    assert doses.reductions.value == pytest.approx(0.75)
    assert [words for words, _ in doses.ended] == ["anc: no lower level"]
    assert doses.ended[0][1].expected.value == 0.25
    assert found.doses[0].ended == ()
    worst = next(same for same in found.same if same.label == "Neutrophils: grade 4")
    assert worst.difference[0] is None
    assert worst.difference[1].value == pytest.approx(((0.25 - 0.5) + (0.25 - 1.0)) / 2)
    assert worst.subjects == (8, 8)


def test_the_section_says_it(record: SimpleNamespace) -> None:
    look = looks([True, False], [False, False])
    arms = tuple(
        Arm(index=k, key=key, label=key, flag="", control=k == 0, ratio=1.0, look=look[k], dosing=())
        for k, key in enumerate(("plain", "ruled"))
    )
    study = SimpleNamespace(toxicity=toxicity(record), arms=arms, control=arms[0])
    tables = {block.caption: block for block in section(study).blocks if isinstance(block, Table)}
    worst = next(table for caption, table in tables.items() if "worst grade after the baseline" in caption)
    four = dict(zip([c.title for c in worst.columns], worst.rows[-1], strict=True))
    assert four["Worst grade"] == "grade 4"
    assert four["plain"].startswith("80 (20)")  # 75, MCSE 25, to the digit it earns
    assert four["ruled"].startswith("0 of 3")  # how many stand behind a zero
    assert "[" in four["ruled"]
    same = next(table for caption, table in tables.items() if "same people" in caption)
    assert any(row[0] == "Neutrophils: grade 4" and "−50" in row[2] for row in same.rows)
    given = next(table for caption, table in tables.items() if caption.startswith("Doses given"))
    assert "no lower level" in given.rows[1][-1]
    shift = next(table for caption, table in tables.items() if "shift" in caption)
    assert len(shift.rows) == 3  # plain from grades 0 and 1, ruled from grade 0


def test_a_run_without_tests_has_no_section(record: SimpleNamespace) -> None:
    protocol = replace(record.protocol, laboratory={})
    assert toxicity(SimpleNamespace(protocol=protocol)) is None
