"""Tables of adverse events: witness ../shared/data/ae, the CDISC pilot's published counts, R's poisson.test, roots."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from pkpd.ground.errors import InputError
from trials.analysis import ae_records, ae_tables, binary, rates

SHARED = Path(__file__).resolve().parents[4] / "shared"
PILOT = SHARED / "data" / "trials"
witness = pytest.mark.witness
needs = pytest.mark.skipif(not SHARED.exists(), reason="../shared is not here")


def table(name: str) -> dict[str, np.ndarray]:
    with (SHARED / "data" / "ae" / name).open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


@witness
@needs
def test_risk_differences() -> None:
    """risk_difference_intervals.csv: Newcombe and Miettinen-Nurminen to 4 decimals, all 11 rows."""
    w = table("risk_difference_intervals.csv")
    counts = w["x1"], w["n1"], w["x2"], w["n2"]
    hybrid, score = binary.newcombe(*counts), binary.miettinen_nurminen(*counts)
    got = np.column_stack([hybrid.lower, hybrid.upper, score.lower, score.upper])
    want = np.column_stack([w[c] for c in ("newcombe_lo", "newcombe_hi", "mn_lo", "mn_hi")])
    assert want.shape == (11, 4)
    assert np.abs(got - want).max() <= 0.5e-4 + 1e-12


@witness
@needs
def test_rates() -> None:
    """exposure_adjusted_rates.csv: exact and Wald intervals per 100 person-years to 4 decimals; tern's snapshot."""
    w = table("exposure_adjusted_rates.csv")
    exact, wald = (f(w["events"], w["person_years"] / 100.0) for f in (rates.garwood, rates.rate_wald))
    got = np.column_stack([exact.estimate, exact.lower, exact.upper, wald.lower, wald.upper])
    want = np.column_stack([w[c] for c in ("rate_per_100py", "exact_lo", "exact_hi", "wald_lo", "wald_hi")])
    assert np.abs(got - want).max() <= 0.5e-4


@pytest.mark.parametrize("counts", [(12, 100.0, 4, 90.0), (0, 50.0, 7, 60.0), (3, 8.0, 0, 40.0), (0, 10.0, 0, 20.0)])
def test_score_interval_of_a_rate_difference(counts: tuple[float, ...]) -> None:
    """Independent: the constrained rates by maximising the likelihood over a fine bracket, limits by Brent's roots."""
    x1, t1, x0, t0 = counts

    def score(delta: float) -> float:
        def slope(r: float) -> float:
            return (x1 / (r + delta) if x1 else 0.0) + (x0 / r if x0 else 0.0) - t1 - t0

        low = max(0.0, -delta)
        r = low if slope(low + 1e-12) < 0 else brentq(slope, low + 1e-12, 10.0, xtol=1e-15)
        return float((x1 / t1 - x0 / t0 - delta) / np.sqrt((r + delta) / t1 + r / t0))

    middle = x1 / t1 - x0 / t0
    ends = [brentq(lambda d, s=s: score(d) - s * 1.959963984540054, *sorted((middle - s * 1e-9, middle - s * 5.0)))
            for s in (1, -1)]  # fmt: skip
    got = rates.rate_difference(*counts)
    np.testing.assert_allclose([got.lower, got.upper], ends, rtol=1e-6, atol=1e-9)


def test_rate_ratio_and_its_edges() -> None:
    """R: poisson.test(c(12, 4), c(100, 100))$conf.int gives 0.909232, 12.762344; nothing at all is unknown, not 1."""
    found = rates.rate_ratio([12, 0, 3, 0], [100.0, 10.0, 10.0, 0.0], [4, 0, 0, 1], [100.0, 10.0, 10.0, 10.0])
    np.testing.assert_allclose([found.lower[0], found.upper[0]], [0.909232, 12.762344], rtol=1e-6)
    assert [np.isnan(found.estimate[1]), found.lower[1], found.upper[1]] == [True, 0.0, np.inf]
    assert np.isinf(found.estimate[2])
    assert found.lower[2] > 0
    assert np.isnan(found.estimate[3])
    wide = rates.rate_difference_exact(12, 100.0, 4, 100.0)
    narrow = rates.rate_difference_wald(12, 100.0, 4, 100.0)
    assert wide.lower < narrow.lower < narrow.upper < wide.upper
    with pytest.raises(InputError):
        rates.garwood(1, 0.0)


@pytest.fixture(scope="module")
def pilot() -> ae_records.AdverseEvents:
    return ae_records.read(PILOT / "cdisc_pilot_adae.csv", PILOT / "cdisc_pilot_adsl.csv")


@witness
@needs
def test_pilot_counts(pilot: ae_records.AdverseEvents) -> None:
    """Every TEAE incidence of real_trial_reference_analyses.csv: 12 rows in 3 arms, unique subjects."""
    terms, whole = ae_tables.ae_table(pilot), ae_tables.ae_table(pilot, "any")
    serious = ae_tables.ae_table(pilot, "any", only="serious")
    seen = 0
    with (SHARED / "reference" / "trials" / "real_trial_reference_analyses.csv").open() as file:
        for row in csv.DictReader(file):
            if row["dataset"] != "cdisc_pilot" or row["analysis"] != "TEAE incidence":
                continue
            arm = next(k for k, name in enumerate(pilot.arms) if row["quantity"].endswith(name))
            what = row["quantity"].removesuffix(pilot.arms[arm]).strip()
            found = {"any TEAE subjects": whole, "serious TEAE subjects": serious}.get(what, terms)
            place = terms.label.index(what) if found is terms else 0
            assert found.x[place, arm] == int(row["estimate"]), row["quantity"]
            assert found.n[arm] == int(row["note"].split()[-1])
            seen += 1
    assert seen == 36


@witness
@needs
def test_pilot_agrees_with_itself(pilot: ae_records.AdverseEvents) -> None:
    """Identities: worst grades sum to subjects; a first event ends person-time; SOCs hold their terms."""
    terms, socs = ae_tables.ae_table(pilot), ae_tables.ae_table(pilot, "soc")
    assert (ae_tables.by_grade(pilot).sum(axis=2) == terms.x).all()
    severe = ae_tables.ae_table(pilot, "any", least_grade=3)
    assert (severe.x == ae_tables.by_grade(pilot, "any")[:, :, 3:].sum(axis=2)).all()
    assert (terms.events.sum(axis=0) == socs.events.sum(axis=0)).all()
    assert (terms.years <= terms.exposure + 1e-12).all()
    k = terms.label.index("PRURITUS")
    day, happened = ae_tables.time_to_first(pilot, k)
    assert [happened[pilot.arm == a].sum() for a in range(3)] == terms.x[k].tolist()
    np.testing.assert_allclose(np.bincount(pilot.arm, weights=day) / ae_tables.YEAR, terms.years[k], rtol=1e-12)
    curve = ae_tables.first_curves(pilot, k, np.array([0.0, 182.0]))
    assert (curve.survival[0, :, 0] == 1.0).all()
    assert curve.survival[0, 1, 1] < curve.survival[0, 0, 1]  # more itching on xanomeline


def test_an_emergent_event_before_treatment_takes_no_person_time() -> None:
    """By hand: day -50 of a flagged event is no time at risk below 0; a later one of the same subject ends it."""
    people = {"subject": list("abcd"), "arm": ["placebo", "drug", "drug", "drug"], "days": [100.0] * 4}
    events = {"subject": ["b", "c", "c", "d"], "soc": ["S"] * 4, "term": ["R"] * 4, "day": [-50.0, -3.0, 20.0, 10.0]}
    data = ae_records.adverse_events(people, events)
    table = ae_tables.ae_table(data)
    np.testing.assert_allclose(table.years, [[100.0 / 365.25, (100.0 + 20.0 + 10.0) / 365.25]])
    assert (table.undated.tolist(), table.x.tolist()) == ([1], [[0, 3]])
    assert ae_tables.time_to_first(data, 0)[0].tolist() == [100.0, 100.0, 20.0, 10.0]


SUBJECTS = "USUBJID,TRT01A,TRTDURD,SAFFL\n1,Placebo,100,Y\n2,Drug,50,Y\n3,Drug,50,N\n"
EVENTS = "USUBJID,AEBODSYS,AEDECOD,ASTDY,AETOXGR\n2,Skin,Rash,10,3\n2,Skin,Rash,,2\n2,Skin,Rash,-4,5\n3,Skin,Rash,5,1\n"


def test_files(tmp_path: Path) -> None:
    """What is left out is counted; what is wrong has file, line and column."""
    (tmp_path / "s.csv").write_text(SUBJECTS)
    (tmp_path / "e.csv").write_text(EVENTS)
    made = ae_records.read(tmp_path / "e.csv", tmp_path / "s.csv")
    assert made.left_out == {"not treatment-emergent": 1, "subject not in the safety population": 1}
    table = ae_tables.ae_table(made)
    assert table.x.tolist() == [[0, 1]]
    np.testing.assert_allclose(table.years, [[100 / 365.25, 10 / 365.25]])
    assert ae_tables.by_grade(made).tolist() == [[[0] * 6, [0, 0, 0, 1, 0, 0]]]
    for file, old, new, match in (
        ("e.csv", "10,3", "10,horrid", r"e\.csv:2 .*grade"), ("e.csv", "2,Skin,Rash,10", "9,Skin,Rash,x", "no number"),
        ("s.csv", "2,Drug,50", "1,Drug,50", "twice"), ("s.csv", "100", "0", "days"), ("e.csv", "AEDECOD", "X", "missing"),
        ("e.csv", "2,Skin,Rash,,2", "2,Eye,Rash,,2", "two body systems"), ("s.csv", "Placebo", "Other", "control"),
    ):  # fmt: skip
        whole = {"e.csv": EVENTS, "s.csv": SUBJECTS}
        for name, text in whole.items():
            (tmp_path / name).write_text(text.replace(old, new, 1) if name == file else text)
        with pytest.raises(InputError, match=match):
            ae_records.read(tmp_path / "e.csv", tmp_path / "s.csv")


def test_serious_events_are_not_lost_by_how_yes_is_written(tmp_path: Path) -> None:
    """Y, yes and 1 are serious, N and nothing are not; a word that is neither is an error, not a harmless event."""
    (tmp_path / "s.csv").write_text(SUBJECTS)
    lines = [f"2,Skin,Rash,{k},{word}" for k, word in enumerate(("Y", "yes", "1", "N", ""), 1)]
    (tmp_path / "e.csv").write_text("\n".join(["USUBJID,AEBODSYS,AEDECOD,ASTDY,AESER", *lines, ""]))
    made = ae_records.read(tmp_path / "e.csv", tmp_path / "s.csv")
    assert made.serious.tolist() == [True, True, True, False, False]
    (tmp_path / "e.csv").write_text("USUBJID,AEBODSYS,AEDECOD,ASTDY,AESER\n2,Skin,Rash,1,death\n")
    with pytest.raises(InputError, match="Y or N"):
        ae_records.read(tmp_path / "e.csv", tmp_path / "s.csv")
