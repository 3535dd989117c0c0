"""Records. Witness: R's datasets::Theoph through ../shared/data/pk, whose README counts the other studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.model import library
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.timeline import timeline

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


FULL = "ID,TIME,AMT,DV,EVID,CMT,RATE,DUR,II,SS,ADDL,WT\n"


def full(*lines: str) -> Records:
    return Records.parse(FULL + "".join(f"{line}\n" for line in lines), model=library.load("theophylline"))


def test_every_kind_of_record() -> None:
    """NONMEM's EVID, RATE, SS; CMT by name, negative to switch off; 5 and 6 as in rxode2."""
    found = full(
        "1,0,100,.,1,depot,0,0,12,1,0,70", "1,1,.,2,0,.,.,.,.,.,.,70", "1,2,50,.,4,central,25,0,0,0,0,70",
        "1,3,0.5,.,6,depot,.,.,.,.,.,70", "1,3,7,.,5,1,.,.,.,.,.,70", "1,4,.,.,2,-depot,.,.,.,.,.,70",
        "1,5,.,.,2,depot,.,.,.,.,.,70", "1,6,.,.,2,.,.,.,.,.,.,70", "1,7,.,.,3,.,.,.,.,.,.,70",
        "1,8,60,.,1,2,0,3,24,2,0,70", "1,9,0,.,1,2,5,0,0,1,0,70",
    )  # fmt: skip
    doses = found.doses
    assert doses.kind.tolist() == [1, 4, 6, 5, 7, 8, 3, 1, 1]
    assert doses.time.tolist() == [0, 2, 3, 3, 4, 5, 7, 8, 9]
    assert doses.target.tolist() == [0, 1, 0, 0, 0, 0, 0, 1, 1]
    assert doses.amount.tolist() == [100, 50, 0.5, 7, 0, 0, 0, 60, 0]
    assert doses.rate.tolist() == [0, 25, 0, 0, 0, 0, 0, 0, 5]
    assert doses.duration.tolist() == [0, 2, 0, 0, 0, 0, 0, 3, 0]
    assert doses.steady.tolist() == [1, 0, 0, 0, 0, 0, 0, 2, 1]
    assert doses.interval.tolist() == [12, 0, 0, 0, 0, 0, 0, 24, 0]
    with pytest.raises(InputError, match="cannot be fitted yet"):
        found.require_doses("fitted")


def test_a_reset_or_a_steady_state_cancels_additional_doses() -> None:
    """NONMEM: pending additional doses are cancelled; those before it were given."""
    for line in ("1,24,.,.,3,.,.,.,.,.,.,70", "1,24,.,.,2,.,.,.,.,.,.,70", "1,24,9,.,1,1,0,0,12,1,0,70"):
        found = full("1,0,100,.,1,1,0,0,12,0,5,70", line, "1,50,.,2,0,.,.,.,.,.,.,70").doses
        expected = [0, 12, 24] if ",2,." not in line else [0, 12, 24, 36, 48, 60]
        assert found.time.tolist() == expected
        assert found.amount.tolist()[:2] == [100, 100]


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ("1,0,100,.,1,1,-3,0,0,0,0,70", "RATE", "-1 or -2"),
        ("1,0,100,.,1,1,-1,0,0,0,0,70", "RATE", "gives doses into depot no rate"),
        ("1,0,100,.,1,1,-2,0,0,0,0,70", "RATE", "gives doses into depot no duration"),
        ("1,0,100,.,1,1,5,5,0,0,0,70", "DUR", "goes not with RATE"),
        ("1,0,100,.,1,1,0,0,0,1,0,70", "II", "is needed"),
        ("1,0,100,.,1,1,0,0,0,3,0,70", "SS", "0 to 2"),
        ("1,0,100,.,1,1,0,0,0,0,3,70", "II", "is needed"),
        ("1,0,0,.,1,1,0,0,0,1,0,70", "AMT", "> 0"),
        ("1,0,0,1,0,1,5,0,0,0,0,70", "RATE", "an observation has no RATE"),
    ],
)
def test_records_that_make_no_sense(line: str, column: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        full(line, "1,50,.,2,0,.,.,.,.,.,.,70")
    assert caught.value.field == column
    assert said in caught.value.problem


VARYING = """
vtrial: model/1
name: varying
covariates: {WT: {unit: kg, reference: 70, between: locf}, CR: {unit: mg/L, reference: 10, between: linear},
             ALB: {unit: g/L, reference: 40, between: nocb}}
states: {A: mg}
parameters:
  CL: {typical: 3 L/h, iov: 0.2, effects: {WT: power 1 fixed, CR: power -0.5 fixed, ALB: power 1 fixed}, status: assumed}
  V: {typical: 30 L, status: assumed}
occasion: {column: OCC}
equations: d/dt(A) = -CL/V*A
outputs: {C: {is: A}}
"""


def varying() -> tuple[Model, Records]:
    model = Model.parse(VARYING)
    head = "ID,TIME,AMT,DV,EVID,CMT,WT,CR,ALB,OCC,SEX\n"
    lines = ["1,0,100,.,1,A,70,10,40,1,1", "1,10,.,2,0,.,80,20,30,1,1", "1,20,50,.,1,A,.,40,20,2,1", "1,30,.,2,0,.,90,.,.,2,1",
             "2,0,100,.,1,A,60,8,45,1,0", "2,5,.,2,0,.,60,8,45,1,0"]  # fmt: skip
    return model, Records.parse(head + "".join(f"{line}\n" for line in lines), model=model)


def test_covariates_between_their_records() -> None:
    model, found = varying()
    assert found.varying == ("WT", "CR", "ALB")
    assert found.covariates["SEX"].tolist() == [1, 0]
    made = timeline(model, found.covariates, found.series, occasion=found.occasion)
    first = slice(made.offsets[0], made.offsets[1])

    def at(name: str, time: float, *, late: bool = False) -> float:
        """What is in force: the last row at or before `time`, the late one only with `late`."""
        rows = [k for k in range(first.stop) if made.time[k] < time or (made.time[k] == time and made.late[k] <= late)]
        start = made.time[rows[-1]]
        return float(
            made.values[name][rows[-1]] + made.slopes[name][rows[-1]] * (time - start if start > -np.inf else 0)
        )

    assert [at("WT", t) for t in (0, 9, 10, 25, 30, 99)] == [70, 70, 80, 80, 90, 90]
    assert [at("CR", t) for t in (0, 5, 10, 15, 20, 25)] == [10, 15, 20, 30, 40, 40]
    assert [at("ALB", t) for t in (0, 5, 10, 15, 20, 25)] == [40, 30, 30, 20, 20, 20]
    assert at("ALB", 0, late=True) == 30
    assert made.occasion[made.time == 20].tolist() == [2] * int((made.time == 20).sum())
    assert made.occasion[0] == 1
    second = slice(made.offsets[1], made.offsets[2])
    assert set(made.values["WT"][second]) == {60.0}
    with pytest.raises(InputError, match="between"):
        timeline(Model.parse(VARYING.replace(", between: locf", "")), found.covariates, found.series)


def test_periods_are_occasions() -> None:
    model = Model.parse(VARYING.replace("{column: OCC}", "{every: 7 d}"))
    made = timeline(model, {"WT": np.array([70.0]), "CR": np.array([10.0]), "ALB": np.array([40.0])}, until=400.0)
    assert made.time.tolist() == [-np.inf, 168.0, 336.0]
    assert made.occasion.tolist() == [0, 1, 2]


def same(a: Records, b: Records) -> None:
    for name in ("offsets", "time", "amount", "target", "duration", "interval", "steady", "kind", "rate", "more"):
        assert np.array_equal(getattr(a.doses, name), getattr(b.doses, name)), name
    for name in ("ids", "subject", "time", "dv", "output", "after", "below", "varying"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert list(a.covariates) == list(b.covariates)
    for name, values in a.covariates.items():
        assert np.array_equal(values, b.covariates[name])
    assert list(a.series) == list(b.series)
    for name, series in a.series.items():
        assert np.array_equal(series.time, b.series[name].time)
        assert np.array_equal(series.value, b.series[name].value)


def test_what_is_written_reads_back() -> None:
    model, found = varying()
    same(found, Records.parse(found.to_csv(model), model=model))
    assert found.series
    assert found.varying
    theophylline = library.load("theophylline")
    ours = Records.read(library.data_path("theophylline.csv"), theophylline)
    same(ours, Records.parse(ours.to_csv(theophylline), model=theophylline))
    every = full(
        "1,0,100,.,1,depot,0,0,12,1,3,70", "1,2,50,.,4,central,25,0,0,0,0,70", "1,2,.,2,0,.,.,.,.,.,.,70",
        "1,3,7,.,5,1,.,.,.,.,.,70", "1,4,.,.,2,-depot,.,.,.,.,.,70", "1,5,.,.,2,depot,.,.,.,.,.,70",
        "1,8,60,.,1,2,0,3,24,2,0,70", "1,9,.,2,0,.,.,.,.,.,.,70",
    )  # fmt: skip
    same(every, Records.parse(every.to_csv(theophylline), model=theophylline))


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
        (HEAD + DOSE + "1,0,0,2,0,2,70\n1,0,30,.,1,1,70\n", 4, "TIME", "stands after an observation"),
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
        (HEAD + "1,0,10,.,7,1,70\n", 2, "EVID", "0 to 6"),
        (HEAD + "1,0,10,.,1,gut,70\n1,1,0,3,0,2,70\n", 2, "CMT", "no such compartment"),
        (HEAD + "1,0,10,.,1,-1,70\n1,1,0,3,0,2,70\n", 2, "CMT", "needs a compartment"),
        (HEAD + "1,0,10,.,3,1,70\n1,1,0,3,0,2,70\n", 2, "AMT", "no meaning with EVID 3"),
        (HEAD + "1,0,10,.,.,1,70\n", 2, "EVID", "missing"),
        (HEAD + DOSE + "1,1,0,3,0,2,70\n1,1,0,3,0,2,70\n", 4, None, "repeats"),
        (HEAD + DOSE + "1,1,0,3,0,2,70\n2,0,0,1,0,2,60\n1,3,0,2,0,2,70\n", 5, "ID", "comes back"),
        (HEAD + DOSE + "1,1,0,3,0,2\n", 3, None, "6 cells"),
        (HEAD + DOSE + "1,1,0,3,0,2,heavy\n", 3, "WT", "number"),
        (HEAD + DOSE + '1,1,0,"3,0,2,70\n', None, None, "CSV"),
        ((HEAD + DOSE).replace(",", ";"), 1, None, "not separated by commas"),
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


def test_censored_values_read_back() -> None:
    """CENS 1: DV is the limit, LIMIT the lower end of an interval; CENS -1: above DV (the codes of Monolix)."""
    source = "ID,TIME,AMT,DV,EVID,CENS\n1,0,100,.,1,.\n1,1,0,5,0,0\n1,2,0,0.5,0,1\n"
    found = Records.parse(source)
    assert found.below.tolist() == [False, True]
    assert found.line.tolist() == [3, 4]
    assert Records.parse(found.to_csv()).below.tolist() == [False, True]
    with pytest.raises(InputError, match="limit of quantification cannot be analysed yet"):
        found.require_measured("analysed")
    with pytest.raises(InputError, match="must be 0, 1 or -1"):
        Records.parse(source.replace(",0.5,0,1", ",0.5,0,2"))
    more = "ID,TIME,AMT,DV,EVID,CENS,LIMIT\n1,0,100,.,1,.,.\n1,1,0,5,0,-1,.\n1,2,0,0.5,0,1,0.1\n1,3,0,0.5,0,1,.\n"
    found = Records.parse(more)
    for again in (found, Records.parse(found.to_csv())):
        assert again.over.tolist() == [True, False, False]
        assert again.below.tolist() == [False, True, True]
        assert again.floor.tolist() == [-np.inf, 0.1, -np.inf]
        assert not again.covariates
    with pytest.raises(InputError, match="lies below DV"):
        Records.parse(more.replace("1,0.1", "1,0.7"))
