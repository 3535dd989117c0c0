"""Enrolment against its definition carried out one candidate at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from populations import Criteria, PopulationLaw, Screening, cohort, enrol, screen

RULES = {"age": "40 <= AGE <= 60", "heart_failure": "HEART_FAILURE == 0", "weight": "60 <= WT <= 90"}


@pytest.fixture(scope="module")
def law() -> PopulationLaw:
    return PopulationLaw.read()


@pytest.fixture(scope="module")
def rules() -> Criteria:
    return Criteria.parse(RULES)


def test_the_first_eligible_candidate_is_enrolled(law: PopulationLaw, rules: Criteria) -> None:
    """Definition: attempts 0, 1, 2 ... of each subject, drawn and screened singly; counts add up over them."""
    got = enrol(law, rules, seed=9, replicates=[3, 8], subjects=12)
    lost, missing, screened = dict.fromkeys(RULES, 0), dict.fromkeys(RULES, 0), 0
    for row, replicate in enumerate((3, 8)):
        for subject in range(12):
            for attempt in range(1000):
                person = law.people(9, replicate=replicate, subject=subject, index=attempt)
                found = screen(rules, person)
                screened += 1
                lost = {name: lost[name] + found.lost[name] for name in RULES}
                missing = {name: missing[name] + found.missing[name] for name in RULES}
                if found.eligible:
                    break
            assert got.attempts[row, subject] == attempt
            assert all(got.covariates[name][row, subject] == person[name] for name in law.names)
    assert got.screening.screened == screened
    assert got.screening.lost == {**lost, "known_to_the_law": 0}
    assert got.screening.missing == {**missing, "known_to_the_law": 0}
    assert got.screening.enrolled == 24


def test_any_split_enrols_the_same_people(law: PopulationLaw, rules: Criteria, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = enrol(law, rules, seed=4, replicates=np.arange(6), subjects=40)
    parts = [enrol(law, rules, seed=4, replicates=r, subjects=40) for r in ([0, 1], [2], [3, 4, 5])]
    for name in law.names:
        assert (np.concatenate([x.covariates[name] for x in parts]) == whole.covariates[name]).all()
    assert parts[0].screening + parts[1].screening + parts[2].screening == whole.screening
    some = enrol(law, rules, seed=4, replicates=[5, 2], subjects=np.array([39, 7]))
    assert (some.covariates["WT"] == whole.covariates["WT"][np.ix_([5, 2], [39, 7])]).all()
    monkeypatch.setattr(cohort, "PIECE", 17)
    small = enrol(law, rules, seed=4, replicates=np.arange(6), subjects=40)
    assert small.screening == whole.screening
    assert all((small.covariates[name] == whole.covariates[name]).all() for name in law.names)


def test_everybody_enrolled_is_eligible_and_everybody_screened_is_counted(law: PopulationLaw, rules: Criteria) -> None:
    got = enrol(law, rules, seed=2, replicates=np.arange(10), subjects=50)
    assert screen(rules, got.covariates).eligible.all()
    s = got.screening
    assert s.screened == s.enrolled + sum(s.lost.values()) + sum(s.missing.values())
    assert s.enrolled == 500
    assert s.screened == got.attempts.sum() + 500
    assert Screening.from_dict(s.to_dict()) == s


def test_enrolment_is_the_law_given_eligibility(law: PopulationLaw, rules: Criteria) -> None:
    """Identity of rejection sampling: the cohort's means are those of the eligible among unselected draws, 4 MCSE."""
    got = enrol(law, rules, seed=2, replicates=np.arange(20), subjects=500).covariates
    drawn = law.draw(77, np.arange(60), np.arange(1000))
    kept = screen(rules, drawn).eligible
    for name in ("AGE", "WT", "HT", "SCR", "SMOKING", "DIABETES"):
        a, b = got[name].ravel(), drawn[name][kept]
        mcse = np.sqrt(a.var() / a.size + b.var() / b.size)
        assert a.mean() == pytest.approx(b.mean(), abs=4 * mcse), name


def test_people_the_law_does_not_know_are_not_enrolled(law: PopulationLaw) -> None:
    """NHANES writes 80 for 80 and more: such candidates are screened out, and said to be."""
    got = enrol(law, Criteria.parse({"old": "AGE >= 75"}), seed=1, replicates=np.arange(4), subjects=100)
    assert got.covariates["AGE"].max() == 79
    assert got.screening.lost["known_to_the_law"] > 100
    everybody = enrol(law, Criteria.parse({}), seed=1, replicates=[0], subjects=400)
    assert everybody.covariates["AGE"].max() <= 79


def test_overrides_set_the_prevalence(law: PopulationLaw) -> None:
    """Criteria that do not touch smoking: the cohort's shares are the protocol's, within 4 MCSE."""
    shares = {0: 0.15, 1: 0.45, 2: 0.40}
    rules = Criteria.parse({"age": "40 <= AGE <= 60"})
    got = enrol(law, rules, seed=6, replicates=np.arange(40), subjects=300, overrides={"SMOKING": shares})
    plain = enrol(law, rules, seed=6, replicates=np.arange(40), subjects=300)
    for code, share in shares.items():
        seen = (got.covariates["SMOKING"] == code).mean()
        assert seen == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 12_000))
    assert (got.covariates["WT"] == plain.covariates["WT"]).all()  # the same people, other smoking


def test_impossible_criteria_end_with_advice(law: PopulationLaw) -> None:
    rules = Criteria.parse({"age": "40 <= AGE <= 60", "tall": "HT > 400"})
    with pytest.raises(InputError, match=r"1 in 10,000.*tall \(HT > 400\) alone loses 100 %"):
        enrol(law, rules, seed=1, replicates=np.arange(200), subjects=300)


def test_unknown_covariate_is_refused_before_anything_is_drawn(law: PopulationLaw) -> None:
    with pytest.raises(InputError, match="SMOKING"):
        enrol(law, Criteria.parse({"smoker": "SMOKIN == 2"}), seed=1, replicates=[0], subjects=3)
