"""The report's numbers of a trial in calendar time. Witness: two trials counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reports import conducted as room
from reports.conducted import changed, conducted
from reports.event_times import _wide
from reports.sections.conduct import changes, conduct
from trials.protocol import Protocol

TEXT = """
vtrial: protocol/1
name: looks
model: {file: model.yaml}
seed: 3
population: {law: nhanes_adults}
subjects: 4
arms: {none: {label: None, regimen: []}, drug: {regimen: []}}
visits: {start: {day: 0}, last: {day: 28}}
endpoints: {y: {output: Y, at: last, as: value}}
intercurrent: {over: {switch: {after: ache, from: none, to: drug}}}
estimands:
  means: {endpoint: y, compare: drug, against: none, summary: mean_difference, strategies: {over: treatment_policy}}
analyses: {means: {method: ancova, multiplicity: none, alpha: 0.025, side: greater}}
enrolment: {sites: 2, rate: 1 1/d, regions: {north: {share: 0.5}, south: {share: 0.5}}}
interims: {analysis: means, looks: [0.5, 1], efficacy: {family: pocock}, futility: {z: [0]}}
"""


@pytest.fixture
def record() -> SimpleNamespace:
    """Trial 0 ends for effect at the first look with two subjects, trial 1 at the last with four."""
    outcomes = pd.DataFrame({
        "replicate": [0, 0, 1, 1, 1, 1], "subject": [0, 1, 0, 1, 2, 3], "arm": [0, 1, 0, 1, 0, 1],
        "entry.day": [1.0, 5.0, 2.0, 3.0, 8.0, 9.0], "site": [0, 1, 0, 0, 1, 0],
        "over.day": [np.nan, np.nan, 10.0, np.nan, np.nan, np.nan],
    })  # fmt: skip
    looks = pd.DataFrame({
        "replicate": [0, 0, 1, 1], "look": [1, 2, 1, 2], "contrast": 1, "day": [33.0, 60.0, 31.0, 37.0],
        "enrolled": [2, 4, 4, 4], "information": [2, 4, 2, 4], "held": True, "reached": [True, False, True, True],
        "ended": [True, False, False, True], "active": True, "z": [3.0, 0.0, 1.0, 1.0],
        "estimate": [2.0, 0.0, 1.0, 0.5], "upper_bound": [2.178, 2.178, 2.178, 2.178], "lower_bound": [0, -np.inf] * 2,
        "decision": [1, 0, 0, 4], "unbiased": [1.5, np.nan, np.nan, 0.5], "lower": [0.1, np.nan, np.nan, -1.0],
        "upper": [3.0, np.nan, np.nan, 0.9], "repeated_lower": [0.1, np.nan, np.nan, -1.0],
        "repeated_upper": [3.0, np.nan, np.nan, 2.0],
    })  # fmt: skip
    truth = pd.DataFrame({"replicate": [0, 1] * 2, "analysis": "means", "endpoint": "y",
                          "arm": ["none", "none", "drug", "drug"], "mean": [0.0, 0.0, 1.0, 1.0]})  # fmt: skip
    analyses = pd.DataFrame({"replicate": [0, 1], "analysis": "means", "reject": [True, False]})
    protocol = Protocol.parse(TEXT, complete=False)
    return SimpleNamespace(protocol=protocol, outcomes=outcomes, looks=looks, truth=truth, analyses=analyses)


def test_two_trials_by_hand(record: SimpleNamespace) -> None:
    found = conducted(record)
    assert found is not None
    assert (found.end.value, found.subjects.value, found.last_entry.value) == (35.0, 3.0, 7.0)
    assert found.entered[-1] == 3.0
    assert found.information is not None
    assert found.information.value == 3.0
    first, last = found.looks
    assert (first.day.value, first.enrolled.value, first.efficacy.value, first.futility.value) == (32.0, 3.0, 0.5, 0.0)
    assert (last.day.value, last.reached.value, last.efficacy.value) == (37.0, 0.5, 0.0)
    assert first.exact + last.exact < 0.025  # futility is obeyed
    assert [(site.name, site.subjects.value) for site in found.sites] == [
        ("North", 2.0),
        ("South", 1.0),
        ("All sites", 3.0),
    ]
    x = found.estimated
    assert x is not None
    assert (x.naive.value, x.unbiased.value) == (0.25, 0.0)
    assert (x.exact.value, x.repeated.value) == (0.5, 1.0)
    (over,) = changed(record)
    assert (over.arm, over.share.value, over.day.value) == (0, 0.25, 10.0)


def test_sections_say_it(record: SimpleNamespace) -> None:
    arms = tuple(SimpleNamespace(key=key, label=key.title(), index=k) for k, key in enumerate(record.protocol.arms))
    study = SimpleNamespace(
        conduct=conducted(record), changed=changed(record), arms=arms, outcomes=record.outcomes, subjects=4
    )
    tables = [block for block in conduct(study).blocks if block.kind == "table"]
    assert [len(table.rows) for table in tables] == [3, 2, 2]
    assert tables[1].rows[0][1] == "2 (50 %)"
    assert changes(study).blocks[0].rows[0][:2] == ("Over", "None")
    words = dict(room.described(record.protocol))
    assert "2 sites, each 1 eligible subjects a day" in words["Enrolment"]
    assert "futility by z at most 0, not binding" in words["Interim looks"]


def test_ragged_trials_are_padded(record: SimpleNamespace) -> None:
    rows = record.outcomes
    assert np.array_equal(_wide(rows, "arm", -1), [[0, 1, -1, -1], [0, 1, 0, 1]])
    assert np.isnan(_wide(rows, "entry.day", np.nan)[0, 2:]).all()
