"""CTCAE grades, courses and liver injury: witness NCI CTCAE v5.0 as in ../shared/data/ctcae, FDA guidance 2009, CDISC."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.analysis import grading, labs, liver
from trials.analysis.grading import grade
from trials.analysis.liver import Quadrant

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
witness = pytest.mark.witness
needs = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
TERMS = {"Anemia (hemoglobin)": "Anemia", "Bilirubin increased": "bilirubin increased"}
# limits of normal for the test: value's unit of the file; multiples are of ULN = 40, an abnormal baseline of 60
LOW = {"Neutrophil count decreased": 2.0, "Platelet count decreased": 150.0, "White blood cell decreased": 4.0,
       "Lymphocyte count decreased": 1.0, "Anemia": 120.0, "Hypoglycemia": 3.9}  # fmt: skip


def table(name: str) -> list[dict[str, str]]:
    with (SHARED / name).open() as file:
        return list(csv.DictReader(file))


def bounds(row: dict[str, str]) -> list[tuple[int, float, bool]]:
    """(grade, bound in the file's basis, whether the bound itself has the grade) of one row of the witness."""
    found = []
    for k in (1, 2, 3, 4):
        text = row[f"grade{k}_bound"]
        word = text.lstrip("<>=")
        if not word or not (word.replace(".", "").isdigit() or word in ("LLN", "ULN")):
            continue  # clinical
        value = {"LLN": LOW.get(TERMS.get(row["term"], row["term"]), 0.0), "ULN": 6.1}.get(word)
        inclusive = text.startswith(">=") or (row["term"] == "QTc prolonged")
        found.append((k, float(word) if value is None else value, inclusive))
    return found


@witness
@needs
def test_every_bound_below_at_above() -> None:
    """Each bound of ctcae_v5_numeric_thresholds.csv: just below, at, just above, both baselines."""
    seen = 0
    for row in table("ctcae/ctcae_v5_numeric_thresholds.csv"):
        term = TERMS.get(row["term"], row["term"])
        low, abnormal = row["direction"] == "low", row["basis"] == "xBase"
        scale = {"abs": 1.0, "xULN": 40.0, "xBase": 60.0}[row["basis"]]
        limits = {"lln": LOW[term]} if low else {"uln": 6.1 if term == "Hyperglycemia" else 40.0}
        version = "4.03" if term == "Hyperglycemia" else "5.0"
        base = 60.0 if abnormal else 100.0 if low else 445.0 if "QTc" in term else 40.0
        for k, bound, inclusive in bounds(row):
            value, step = bound * scale, 1e-6 * bound * scale
            worse, better = (value - step, value + step) if low else (value + step, value - step)
            got = grade(term, [better, value, worse], baseline=base, version=version, **limits)
            assert got.tolist() == [k - 1, k if inclusive else k - 1, k], (row["term"], row["unit"], k)
            seen += 1
    assert seen == 50


@witness
@needs
def test_every_term_of_the_witness_is_graded() -> None:
    """The 40 terms of ctcae_v5_lab_terms.csv are in our table, with as many numeric grades or fewer."""
    ours = {row.term.casefold(): row for row in grading.lab_terms("5.0")}
    theirs = {row["term"].casefold() for row in table("ctcae/ctcae_v5_lab_terms.csv")}
    assert len(theirs) == 40
    assert theirs <= set(ours)


@pytest.mark.parametrize(
    ("term", "first", "bounds"),
    [("ALP", 2.0, (2.5, 5, 20)), ("GGT", 2.0, (2.5, 5, 20)), ("AST", 1.5, (3, 5, 20)), ("BILI", 1.0, (1.5, 3, 10))],
)
def test_abnormal_baseline(term: str, first: float, bounds: tuple[float, ...]) -> None:
    """Multiples of an abnormal baseline; NCI CTCAE v5.0's text: 1.5 and 2.0 x baseline are grade 1, 1.0 is not."""
    at = np.array([first, *bounds]) * 53.0
    expected = [0 if term == "BILI" else 1, 1, 2, 3]
    assert grade(term, at, uln=40.0, baseline=53.0).tolist() == expected
    assert grade(term, at * (1 + 1e-6), uln=40.0, baseline=53.0).tolist() == [1, 2, 3, 4]
    assert grade(term, at * (1 - 1e-6), uln=40.0, baseline=53.0).tolist() == [0, 1, 2, 3]


def test_what_is_missing_is_not_graded() -> None:
    """Three-valued: a missing limit or baseline matters only where it could change the grade."""
    assert grade("ANC", [0.4, 1.4, 1.6]).tolist() == [4, 2, -1]
    assert grade("ALT", [39.0, 500.0], uln=40.0).tolist() == [0, -1]
    assert grade("CREAT", [7.0, 4.0, 1.0], uln=1.0).tolist() == [4, 3, -1]
    assert grade("CREAT", 1.2, uln=1.3, baseline=0.5).tolist() == 2  # the text: > 1.5 x baseline, whatever the ULN
    assert grade("QTc", [505.0, 495.0], baseline=[np.nan, 430.0]).tolist() == [3, 3]
    assert grade("CREAT", 1.5 * 1.2, uln=1.2, baseline=1.2).tolist() == 1  # 1.7999999999999998 in binary


def test_versions_and_units() -> None:
    """Hyperglycaemia is v4.03's; v4.03's liver enzymes know no baseline (NCI 2010)."""
    with pytest.raises(InputError, match=r"version 4\.03"):
        grade("Hyperglycemia", 9.0, uln=6.1)
    assert grade("Hyperglycemia", [161.0], uln=110.0, unit="mg/dL", version="4.03").tolist() == [2]
    assert grade("ALT", 100.0, uln=40.0, baseline=60.0).tolist() == 1
    assert grade("ALT", 121.0, uln=40.0, baseline=60.0, version="4.03").tolist() == 2
    assert grade("Anemia", [9.9], lln=12.0, unit="g/dL").tolist() == [2]
    for wrong in ({"unit": "mol/L"}, {"version": "3.0"}):
        with pytest.raises(InputError):
            grade("Anemia", 90.0, **wrong)
    with pytest.raises(InputError, match="above the upper"):
        grade("ANC", 1.0, lln=3.0, uln=2.0)


def test_courses() -> None:
    """Identities of a triangle: 2 days below half its depth; nothing measured is NaN, not 0."""
    day, course = np.array([0.0, 2.0, 4.0, 6.0]), np.array([[1.0, 1.0, 0.0, 1.0], [np.nan] * 4])
    assert labs.nadir(day, course).time.tolist()[0] == 4.0
    assert np.isnan(labs.nadir(day, course).value[1])
    np.testing.assert_allclose(labs.duration(day, course, 0.5), [2.0, np.nan])
    np.testing.assert_allclose(labs.duration(day, course, 0.5, above=True), [4.0, np.nan])
    grades = grade("ANC", [[2.5, 1.2, 0.4, np.nan]], lln=2.0)
    assert labs.first_time(day, grades, 2).tolist() == [2.0]
    assert labs.worst(grades).tolist() == [4]
    enzymes = np.array([[30.0, 30.0, 500.0], [30.0, np.nan, 39.0]])  # no baseline: 500 may be any grade
    unknown = grade("ALT", enzymes, uln=40.0)
    assert labs.worst(unknown, value=enzymes).tolist() == [-1, 0]
    table = labs.shifts([0, 0, 2, -1], [3, 0, 2, 4], [0, 1, 1, 0], arms=2)
    assert table.worsened(2).tolist() == [1, 0]
    assert table.count.sum() == 4
    assert table.count[0, 5, 4] == 1


def test_hys_law_by_component() -> None:
    """FDA 2009: each component missing in turn; a bilirubin before the aminotransferase is not in time."""
    day = [0, 7, 14]
    case = {"alt": [4.0, 3.5, 2.0], "bilirubin": [1.0, 2.1, 2.5], "alp": [1.0, 1.9, 2.5]}
    found = liver.liver(["a"] * 3, day, **case)
    assert found.hy.tolist() == [1]
    assert found.day.tolist() == [7.0]
    changed = {
        "alt": [3.0, 2.0, 2.0], "bilirubin": [1.0, 2.0, 2.0], "alp": [1.0, 2.0, 2.5],
    }  # fmt: skip
    for name, column in changed.items():
        assert liver.liver(["a"] * 3, day, **{**case, name: column}).hy.tolist() == [0], name
    late = liver.liver(["a"] * 3, [0, 31, 40], **{**case, "alt": [4.0, 2.0, 2.0]})
    assert late.quadrant.tolist() == [Quadrant.HY]
    assert not late.in_time[0]
    assert late.hy.tolist() == [0]
    without = liver.liver(["a"] * 3, day, alt=case["alt"], bilirubin=case["bilirubin"])
    assert without.hy.tolist() == [-1]
    ast = liver.liver(["a"] * 3, day, alt=[1.0] * 3, ast=case["alt"], bilirubin=case["bilirubin"], alp=case["alp"])
    assert ast.hy.tolist() == [1]


def test_hys_law_is_not_ruled_out_by_what_was_not_measured() -> None:
    """By the definition: bilirubin within 30 days from an aminotransferase > 3, of either nothing may be missing."""
    nothing = np.nan

    def hy(alt: list[float], bilirubin: list[float]) -> int:
        return int(liver.liver(["a"] * 3, [1, 30, 70], alt=alt, bilirubin=bilirubin, alp=[1.0] * 3).hy[0])

    assert hy([1, 4, 1], [1, nothing, nothing]) == hy([1, 4, 1], [1, nothing, 3]) == -1
    assert hy([1, nothing, nothing], [1, 1, 3]) == -1
    assert hy([1, 4, 1], [1, 1, nothing]) == hy([1, 4, 1], [1, 1, 3]) == hy([1, 1, nothing], [1, 1, 1]) == 0
    assert hy([1, 4, nothing], [1, 3, nothing]) == 1


def test_stopping_rules() -> None:
    """FDA 2009: > 8; > 5 for more than two weeks; > 3 with bilirubin > 2 or INR > 1.5; > 3 with symptoms."""
    days = [0, 14, 15]
    alone = liver.stopping(["a"] * 3, days, alt=[8.0, 6.0, 4.0])
    assert [alone.above_8[0], alone.above_5_for_2_weeks[0], alone.above_3_with_liver_function[0]] == [False] * 3
    assert np.isnan(alone.day[0])
    long = liver.stopping(["a"] * 3, days, alt=[5.1, 6.0, 5.1])
    assert long.above_5_for_2_weeks[0]
    assert long.day[0] == 15.0
    assert liver.stopping(["a"], [1], alt=[8.1]).above_8[0]
    assert liver.stopping(["a"], [1], alt=[3.1], inr=[1.6]).above_3_with_liver_function[0]
    assert liver.stopping(["a"], [1], ast=[3.1], alt=[1.0], bilirubin=[2.1]).above_3_with_liver_function[0]
    assert liver.stopping(["a"], [1], alt=[3.1], symptoms=[True]).above_3_with_symptoms[0]


@witness
@needs
def test_cdisc_pilot() -> None:
    """eDISH of the CDISC pilot: quadrants counted here by hand from the file's ratios, and worst ALT grades."""
    peaks: dict[tuple[str, str], float] = {}
    visits: dict[tuple[str, str], dict[str, float]] = {}
    rows = [r for r in table("trials/cdisc_pilot_adlbhy.csv") if r["AVISIT"] != "Baseline" and r["R2A1HI"]]
    for r in rows:
        kind = "BILI" if r["PARAMCD"] == "BILI" else "AT"
        at = (r["USUBJID"], kind)
        peaks[at] = max(peaks.get(at, 0.0), float(r["R2A1HI"]))
        visits.setdefault((r["USUBJID"], r["ADY"]), {})[r["PARAMCD"]] = float(r["R2A1HI"])
    columns = [[v.get(p, np.nan) for v in visits.values()] for p in ("ALT", "AST", "BILI")]
    names, days = zip(*visits, strict=True)
    found = liver.liver(names, [float(d) for d in days], alt=columns[0], ast=columns[1], bilirubin=columns[2])
    by_hand = [
        2 * (peaks[s, "BILI"] > 2) + (peaks[s, "AT"] > 3) if (s, "BILI") in peaks and (s, "AT") in peaks else -1
        for s in found.subject.tolist()
    ]
    assert found.quadrant.tolist() == by_hand
    assert [by_hand.count(q) for q in (1, 2, 3)] == [3, 1, 1]
    case = found.subject.tolist().index("01-705-1186")  # on placebo, raised before treatment
    assert found.in_time[case]
    assert found.hy[case] == -1  # the file has no alkaline phosphatase
    assert np.count_nonzero(found.hy) == 1
