"""Records. Witness: R's datasets::Theoph through ../shared/data/pk, whose README counts the other studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.model import library
from pkpd.model.records import Records

SHARED = Path(__file__).parents[4] / "shared" / "data" / "pk"
HEAD = "ID,TIME,AMT,DV,EVID,CMT,WT\n"
DOSE = "1,0,10,.,1,1,70\n"


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"no witness: {SHARED / name} is not there")
    return SHARED / name


@pytest.mark.witness
def test_our_theophylline_is_the_published_one() -> None:
    ours = Records.read(library.data_path("theophylline.csv"), library.load("theophylline"))
    theirs = Records.read(shared("theophylline.csv"))
    assert (len(ours), ours.dv.size, ours.doses.time.size) == (12, 132, 12)
    for name in ("subject", "time", "dv", "output"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    for name in ("offsets", "time", "amount", "target"):
        assert np.array_equal(getattr(ours.doses, name), getattr(theirs.doses, name)), name
    assert ours.ids == theirs.ids
    assert np.array_equal(ours.covariates["WT"], theirs.covariates["WT"])


def test_known_values_of_theophylline() -> None:
    """R: subset(Theoph, Subject == 1)$conc[2:3] is 2.84 6.57; sum(Theoph$conc) is 654.78 (11 x 12 rows)."""
    ours = Records.read(library.data_path("theophylline.csv"))
    assert ours.dv[1:3].tolist() == [2.84, 6.57]
    assert ours.dv.sum() == pytest.approx(654.78, abs=1e-9)
    assert ours.after.tolist() == [t == 0 for t in ours.time]


@pytest.mark.witness
@pytest.mark.parametrize(
    ("name", "subjects", "doses", "observed"),
    [("warfarin.csv", 32, 32, [251, 232]), ("phenobarbital.csv", 59, 589, [155])],
)
def test_counts_of_the_other_studies(name: str, subjects: int, doses: int, observed: list[int]) -> None:
    found = Records.read(shared(name))
    assert (len(found), found.doses.time.size) == (subjects, doses)
    assert np.bincount(found.output).tolist() == observed
    assert found.varying == ()


def test_infusion_steady_state_and_additional_doses() -> None:
    head = "ID,TIME,AMT,DV,EVID,RATE,II,SS,ADDL\n"
    found = Records.parse(head + "1,0,100,.,1,50,12,1,2\n1,30,0,1.5,0,.,.,.,.\n1,40,60,.,1,0,0,0,0\n").doses
    assert found.time.tolist() == [0, 12, 24, 40]
    assert found.duration.tolist() == [2, 2, 2, 0]
    assert found.steady.tolist() == [True, False, False, False]
    assert found.interval.tolist() == [12, 0, 0, 0]


def test_a_covariate_that_changes_is_flagged_not_averaged() -> None:
    found = Records.parse(HEAD + DOSE + "1,1,0,3,0,2,71\n")
    assert found.varying == ("WT",)
    assert found.covariates == {}


def test_an_observation_after_a_dose_at_the_same_time_is_marked() -> None:
    found = Records.parse(HEAD + "1,0,0,1,0,2,70\n" + DOSE + "1,0,0,2,0,2,70\n1,1,0,3,0,2,70\n")
    assert found.after.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("source", "line", "column", "said"),
    [
        ("", None, None, "is empty"),
        (HEAD, 1, None, "no data"),
        ("ID,TIME,AMT,DV,CMT\n1,0,1,1,1\n", 1, "EVID", "missing"),
        ("ID,ID,AMT,DV,CMT\n", 1, "ID", "twice"),
        ("ID,,AMT\n", 1, None, "column name"),
        (HEAD + DOSE + "1,1,0,abc,0,2,70\n", 3, "DV", "number"),
        (HEAD + DOSE + "1,1,0,1_0,0,2,70\n", 3, "DV", "number"),
        (HEAD + DOSE + "1,1,0,inf,0,2,70\n", 3, "DV", "number"),
        (HEAD + DOSE + "1,1,0,.,0,2,70\n", 3, "DV", "missing"),
        (HEAD + "1,-1,10,.,1,1,70\n", 2, "TIME", ">= 0"),
        (HEAD + "1,2,10,.,1,1,70\n1,1,0,3,0,2,70\n", 3, "TIME", "backwards"),
        (HEAD + "1,0,0,.,1,1,70\n1,1,0,3,0,2,70\n", 2, "AMT", "> 0"),
        (HEAD + "1,0,-5,.,1,1,70\n1,1,0,3,0,2,70\n", 2, "AMT", "> 0"),
        (HEAD + DOSE + "1,1,5,3,0,2,70\n", 3, "AMT", "no amount"),
        (HEAD + DOSE, 2, "ID", "no observation"),
        (HEAD + "1,0,10,.,1,3,70\n1,1,0,3,0,2,70\n", 2, "CMT", "compartment"),
        (HEAD + "1,0,10,.,1,1.5,70\n1,1,0,3,0,2,70\n", 2, "CMT", "whole"),
        (HEAD + "1,0,10,.,4,1,70\n", 2, "EVID", "not read yet"),
        (HEAD + "1,0,10,.,.,1,70\n", 2, "EVID", "missing"),
        (HEAD + DOSE + "1,1,0,3,0,2,70\n1,1,0,3,0,2,70\n", 4, None, "repeats"),
        (HEAD + DOSE + "1,1,0,3,0,2,70\n2,0,0,1,0,2,60\n1,3,0,2,0,2,70\n", 5, "ID", "comes back"),
        (HEAD + DOSE + "1,1,0,3,0,2\n", 3, None, "6 cells"),
        (HEAD + DOSE + "1,1,0,3,0,2,heavy\n", 3, "WT", "number"),
        (HEAD + DOSE + '1,1,0,"3,0,2,70\n', None, None, "CSV"),
    ],
)
def test_bad_files(source: str, line: int | None, column: str | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Records.parse(source, "d.csv", library.load("theophylline"))
    error = caught.value
    assert said in error.problem
    assert error.file == "d.csv"
    assert error.field == column
    assert line is None or error.line == line


def test_several_outputs_need_a_dvid() -> None:
    source = (library.ROOT / "theophylline.yaml").read_text().replace("outputs:\n", "outputs:\n  C2: {is: C}\n")
    model = type(library.load("theophylline")).parse(source)
    with pytest.raises(InputError, match="DVID"):
        Records.parse(HEAD + DOSE + "1,1,0,3,0,2,70\n", model=model)
