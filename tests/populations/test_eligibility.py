"""Screening: counts against a count by hand (pandas) on real rows with missing values, and its identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.ground import text
from pkpd.ground.errors import InputError
from populations import Criteria, PopulationLaw, screen

NHANES = Path(__file__).parents[3] / "shared" / "data" / "populations" / "nhanes.csv.gz"
nan = np.nan


def test_sequential_and_alone_by_hand() -> None:
    """Six rows counted on paper."""
    rows = {"AGE": np.array([30, 45, 50, nan, 55, 59.0]), "HF": np.array([1, 1, 0, 0, nan, 0.0])}
    found = screen(Criteria.parse({"age": "40 <= AGE <= 60", "pump": "HF == 0"}), rows)
    assert found.eligible.tolist() == [False, False, True, False, False, True]
    assert found.n == 6
    assert (found.lost, found.missing) == ({"age": 1, "pump": 1}, {"age": 1, "pump": 1})
    assert (found.lost_alone, found.missing_alone) == ({"age": 1, "pump": 2}, {"age": 1, "pump": 1})


@pytest.mark.parametrize("text", ["HF != 1", "not HF == 1", "HF < 1 or HF > 1", "HF != 1 or AGE > 50", "not (HF > 0)"])
def test_a_missing_value_never_passes_in_silence(text: str) -> None:
    found = screen(Criteria.parse({"pump": text}), {"HF": np.array([nan, 0.0]), "AGE": np.array([40.0, 40.0])})
    assert found.eligible.tolist() == [False, True]
    assert found.missing == {"pump": 1}
    assert found.lost == {"pump": 0}


def test_a_condition_decided_without_the_missing_value_is_decided() -> None:
    """Kleene's three values: true or unknown is true; false and unknown is false."""
    rows = {"AGE": np.array([nan, nan]), "SMOKING": np.array([2.0, 0.0])}
    found = screen(Criteria.parse({"either": "AGE > 60 or SMOKING == 2"}), rows)
    assert found.eligible.tolist() == [True, False]
    assert found.missing == {"either": 1}
    found = screen(Criteria.parse({"both": "AGE > 60 and SMOKING == 2"}), rows)
    assert (found.lost, found.missing) == ({"both": 1}, {"both": 1})


@pytest.mark.witness
@pytest.mark.skipif(not NHANES.exists(), reason="../shared/data/populations/nhanes.csv.gz is not here")
def test_real_rows_counted_with_pandas() -> None:
    raw = pd.read_csv(NHANES)
    rows = pd.DataFrame({
        "AGE": raw["age_years"], "WT": raw["weight_kg"], "HEART_FAILURE": raw["heart_failure"].astype("Int64"),
        "SCR": raw["creatinine_mg_dl"],
    })  # fmt: skip
    rules = {
        "age": "40 <= AGE <= 60",
        "heart_failure": "HEART_FAILURE == 0",
        "weight": "40 <= WT <= 160",
        "renal": "SCR < 1.5",
    }
    found = screen(Criteria.parse(rules), rows)
    left = raw[raw["age_years"].between(40, 60)]
    lost, missing = {"age": len(raw) - len(left)}, {"age": 0}
    for name, column, ok in (
        ("heart_failure", "heart_failure", lambda x: x == 0),
        ("weight", "weight_kg", lambda x: (x >= 40) & (x <= 160)),
        ("renal", "creatinine_mg_dl", lambda x: x < 1.5),
    ):
        missing[name] = int(left[column].isna().sum())
        seen = left[left[column].notna()]
        left = seen[ok(seen[column])]
        lost[name] = len(seen) - len(left)
    assert (found.lost, found.missing) == (lost, missing)
    assert missing["renal"] > 50  # the witness has something to count
    assert found.eligible.sum() == len(left)
    assert found.missing_alone["renal"] == raw["creatinine_mg_dl"].isna().sum()
    assert found.missing_alone["heart_failure"] == raw["heart_failure"].isna().sum()


def test_every_row_is_accounted_for_once() -> None:
    people = PopulationLaw.read().draw(1, np.arange(3), np.arange(400))
    people["SCR"][:, ::7] = nan
    found = screen(Criteria.parse({"renal": "SCR <= 1", "age": "AGE < 50", "male": "SEX == 1"}), people)
    assert found.n == 1200 == found.eligible.sum() + sum(found.lost.values()) + sum(found.missing.values())
    assert found.missing["renal"] == 3 * len(range(0, 400, 7))
    assert all(found.lost[name] <= found.lost_alone[name] for name in found.lost)


def test_no_criteria_take_everybody() -> None:
    assert screen(Criteria.parse({}), {"AGE": np.array([nan, 30.0])}).eligible.all()


def test_unknown_name_is_told_the_nearest_and_the_place() -> None:
    node = text.parse("eligible:\n  pump: HEART_FAILUR == 0\n", "trial.yaml")
    with pytest.raises(InputError, match=r"trial.yaml:2:9 population.eligible.pump: .*'HEART_FAILUR'.*HEART_FAILURE"):
        Criteria.parse(node["eligible"]).checked(["AGE", "HEART_FAILURE"])
    with pytest.raises(InputError, match="did you mean 'AGE'"):
        screen(Criteria.parse({"age": "AGEE > 3"}), {"AGE": np.array([1.0])})


@pytest.mark.parametrize("bad", ["AGE", "AGE + 1", "40 <=", "AGE = 40", "__import__('os')", ""])
def test_what_is_not_a_condition_is_refused(bad: str) -> None:
    with pytest.raises(InputError, match=r"population\.eligible\.age"):
        Criteria.parse({"age": bad})


def test_a_text_column_is_refused() -> None:
    rows = pd.DataFrame({"SEX": ["male", "female"]})
    with pytest.raises(InputError, match=r"SEX: .*numbers"):
        screen(Criteria.parse({"male": "SEX == 1"}), rows)
