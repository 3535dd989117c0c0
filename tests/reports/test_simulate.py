"""`vtrial simulate` from files to file. Witnesses: reference profiles W1-W4 (their README), closed forms, identities."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.engine.sources import Drawn
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model
from reports.cli import main

SIMULATION = Path(__file__).parents[2] / ".." / "shared" / "reference" / "simulation"
DOSES = {  # dose record of each workload: compartment, AMT, II, ADDL, SS, RATE
    "w1": ("depot", 10000, 24, 6, 1, 0), "w2": ("depot", 100, 0, 0, 0, 0), "w3": ("L", 5, 504, 3, 0, 0),
    "w4": ("central", 100, 504, 5, 0, 100),
}  # fmt: skip
# largest relative error above 1e-6 of the peak (W4 CP: absolute, mg/L), at default and at tight settings
BARS = {
    ("w1", "CP"): (2e-8, 1e-8), ("w2", "CP"): (1.3e-7, 1e-8), ("w2", "RESP"): (1.3e-7, 1e-8),
    ("w3", "L"): (2.7e-6, 1e-8), ("w3", "LT"): (2.7e-6, 1e-8), ("w3", "R"): (2.7e-6, 1e-8), ("w3", "P"): (2.7e-6, 1e-8),
    ("w4", "CP"): (1e-8, 1e-8), ("w4", "CIRC"): (3.7e-6, 1e-8),
}  # fmt: skip

TEXT = """
vtrial: model/1
name: bolus
covariates: {WT: {unit: kg, reference: 70}}
states: {central: mg, other: mg}
parameters:
  CL: {typical: 2 L/h, iiv: 0.3, effects: {WT: power 0.75 fixed}, status: assumed}
  V: {typical: 10 L, iiv: 0.2, status: assumed}
  GROW: {typical: 1e-6 1/h, status: assumed}
equations: |
  C = central/V
  AV10 = 10*AV
  d/dt(central) = -CL*C
  d/dt(other) = GROW*other
summaries: {AV: {of: C, as: average, window: 6 h}}
doses: {central: {bioavailability: 1}, other: {bioavailability: 1}}
outputs: {CP: {is: C}, X: {is: other}, TEN: {is: AV10}}
"""
PARAMETERS = "ID,CL,V,GROW\n1,2,10,1e-6\n2,3,20,1e-6\n"
EVENTS = """ID,TIME,AMT,EVID,CMT
1,0,.,0,.
1,0,100,1,central
1,0,.,0,.
1,5,.,0,.
2,0,100,1,central
2,1,.,0,.
2,4,50,1,1
2,4,.,0,.
2,9.5,.,0,.
"""


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Path]:
    """Write the model, parameters and events; texts by name replace them."""

    def write(**texts: str) -> Path:
        defaults = {"model.yaml": TEXT, "p.csv": PARAMETERS, "e.csv": EVENTS}
        for name, text in (defaults | {n.replace("_", "."): t for n, t in texts.items()}).items():
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def _run(folder: Path, *options: str, given: bool = True) -> int:
    inputs = ["--events", str(folder / "e.csv"), *(["--parameters", str(folder / "p.csv")] if given else [])]
    return main(["simulate", str(folder / "model.yaml"), *inputs, "--out", str(folder / "out.csv"), *options])


def _read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out.csv", dtype={"ID": str})


def _workload(name: str, folder: Path, *options: str) -> tuple[int, pd.DataFrame]:
    """(exit code of the command, reference profiles)."""
    if not SIMULATION.exists():
        pytest.skip(f"{SIMULATION} is not there")
    reference = pd.read_csv(SIMULATION / f"profiles_{name.upper()}.csv")
    compartment, amount, every, more, steady, rate = DOSES[name]
    lines = ["ID,TIME,EVID,AMT,CMT,II,ADDL,SS,RATE"]
    for subject, rows in reference.groupby("ID"):
        lines.append(f"{subject},0,1,{amount},{compartment},{every},{more},{steady},{rate}")
        lines += [f"{subject},{time!r},0,.,.,.,.,.,." for time in rows["TIME"].tolist()]
    (folder / "e.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--parameters", str(SIMULATION / f"params_{name.upper()}.csv"), "--events", str(folder / "e.csv")]
    return main(["simulate", name, *arguments, "--out", str(folder / "out.csv"), *options]), reference


def _error(name: str, output: str, found: pd.DataFrame, reference: pd.DataFrame) -> float:
    right, ours = reference[f"{output}_REF"], found[output]
    if (name, output) == ("w4", "CP"):
        return float(np.abs(ours - right).max())
    there = right.abs() > 1e-6 * right.abs().groupby(reference["ID"]).transform("max")
    return float(np.abs(ours[there] / right[there] - 1.0).max())


@pytest.mark.witness
@pytest.mark.parametrize("name", list(DOSES))
@pytest.mark.parametrize("tight", [False, True])
def test_workloads_meet_the_reference(name: str, tight: bool, tmp_path: Path) -> None:
    options = ["--rtol", "1e-10", "--atol", "1e-12"] if tight else []
    code, reference = _workload(name, tmp_path, *options)
    assert code == 0
    found = pd.read_csv(tmp_path / "out.csv")
    outputs = [output for model, output in BARS if model == name]
    assert list(found.columns) == ["ID", "TIME", *outputs]
    assert found["ID"].tolist() == reference["ID"].tolist()
    assert found["TIME"].tolist() == reference["TIME"].tolist()
    for output in outputs:
        assert _error(name, output, found, reference) <= BARS[name, output][tight], output


def test_rows_are_the_observations_in_the_order_of_the_file(files: Callable[..., Path]) -> None:
    """One compartment, bolus: C = dose/V exp(-CL/V t); a line before the dose at its time sees the level before it."""
    folder = files()
    assert _run(folder, "--rtol", "1e-10", "--atol", "1e-12") == 0
    found = _read(folder)
    assert found[["ID", "TIME"]].to_numpy().tolist() == [
        ["1", 0.0], ["1", 0.0], ["1", 5.0], ["2", 1.0], ["2", 4.0], ["2", 9.5]
    ]  # fmt: skip
    four = 100 / 20 * np.exp(-0.15 * 4)
    right = [0.0, 10.0, 10 * np.exp(-1.0), 5 * np.exp(-0.15), four + 2.5, (four + 2.5) * np.exp(-0.15 * 5.5)]
    np.testing.assert_allclose(found["CP"], right, rtol=1e-9, atol=1e-12)


def test_outputs_of_the_response_layer(files: Callable[..., Path]) -> None:
    """Ten times the average of the last 6 h, here from 0 to 5 h: 10 x (1 - exp(-CL/V 5)) dose/CL / 5."""
    folder = files()
    assert _run(folder, "--rtol", "1e-10") == 0
    np.testing.assert_allclose(_read(folder)["TEN"][2], 10 * (1 - np.exp(-1.0)) * 50 / 5, rtol=1e-8)


def test_numbers_are_written_in_full(files: Callable[..., Path]) -> None:
    folder = files()
    assert _run(folder) == 0
    model, zero = Model.parse(TEXT), np.zeros(1)
    dose = Events.pack([Schedule(zero, zero + 100, zero.astype(np.int32), zero, zero, zero.astype(np.int8))])
    right = solve(compiled(model), np.array([[2.0, 10.0, 1e-6]]), dose, np.array([0.0, 0.0, 5.0])).values[0, 0, 2]
    with (folder / "out.csv").open() as file:
        assert float(list(csv.DictReader(file))[2]["CP"]) == right


def test_a_file_without_evid_and_with_numbers_for_compartments(files: Callable[..., Path]) -> None:
    folder = files()
    assert _run(folder) == 0
    first = (folder / "out.csv").read_bytes()
    lines = [line.split(",") for line in EVENTS.replace("central", "1").strip().splitlines()]
    files(e_csv="\n".join(",".join([*cells[:3], *cells[4:]]) for cells in lines))
    assert _run(folder) == 0
    assert (folder / "out.csv").read_bytes() == first


def test_what_was_measured_is_not_looked_at(files: Callable[..., Path]) -> None:
    folder = files()
    assert _run(folder) == 0
    first = (folder / "out.csv").read_bytes()
    lines = EVENTS.strip().splitlines()
    files(
        e_csv="\n".join(
            [lines[0] + ",DV,MDV,DVID", *(f"{line},{i % 2},1,{i % 2 + 1}" for i, line in enumerate(lines[1:]))]
        )
    )
    assert _run(folder) == 0
    assert (folder / "out.csv").read_bytes() == first


def test_additional_doses_are_explicit_doses(files: Callable[..., Path]) -> None:
    head, seen = "ID,TIME,AMT,EVID,CMT,II,ADDL\n", "1,40,.,0,.,.,.\n"
    folder = files(e_csv=head + "1,0,100,1,central,12,2\n" + seen)
    assert _run(folder) == 0
    first = (folder / "out.csv").read_bytes()
    files(e_csv=head + "".join(f"1,{t},100,1,central,.,.\n" for t in (0, 12, 24)) + seen)
    assert _run(folder) == 0
    assert (folder / "out.csv").read_bytes() == first


def test_people_are_drawn_by_their_number(files: Callable[..., Path]) -> None:
    """The same seed gives ID 2 the same parameters whoever else is in the file; DRAW 1 is what one draw gives."""
    lines = [f"{i},{t},{'100,1,1' if t == 0 else '.,0,.'},70" for i in (1, 2) for t in (0, 3)]
    head = "ID,TIME,AMT,EVID,CMT,WT"
    folder = files(e_csv="\n".join([head, *lines]))
    assert _run(folder, "--draws", "3", "--seed", "5", given=False) == 0
    both = _read(folder)
    assert both[["ID", "DRAW"]].to_numpy().tolist() == [[i, d] for i in ("1", "2") for d in (1, 2, 3)]
    assert both["CP"].nunique() == 6
    files(e_csv="\n".join([head, *lines[2:]]))
    assert _run(folder, "--seed", "5", given=False) == 0
    assert list(_read(folder).columns) == ["ID", "TIME", "CP", "X", "TEN"]
    assert _read(folder)["CP"][0] == both["CP"][3]
    parameters = Drawn(
        model=Model.parse(TEXT), subjects=range(2, 3), seed=5, covariates=lambda who: {"WT": np.full(len(who), 70.0)}
    ).parameters(0, 1)[0]
    np.testing.assert_allclose(
        both["CP"][3], 100 / parameters[1] * np.exp(-parameters[0] / parameters[1] * 3), rtol=1e-6
    )


def test_covariates_of_the_events_reach_drawn_people(files: Callable[..., Path]) -> None:
    """CL grows with (WT/70)^0.75: the logarithm of the level falls in that proportion."""
    logs = []
    for weight in (70, 140):
        folder = files(e_csv=f"ID,TIME,AMT,EVID,CMT,WT\n7,0,100,1,1,{weight}\n7,0,.,0,.,{weight}\n7,3,.,0,.,{weight}\n")
        assert _run(folder, "--rtol", "1e-10", given=False) == 0
        level = _read(folder)["CP"]
        logs.append(np.log(level[0] / level[1]))
    np.testing.assert_allclose(logs[1] / logs[0], 2**0.75, rtol=1e-8)


def test_a_failed_subject_is_named_and_the_others_are_given(
    files: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Growth of 1000/h for an hour has no number: e^1000."""
    events = EVENTS.replace("1,0,100,1,central", "1,0,100,1,other")
    folder = files(p_csv=PARAMETERS.replace("1,2,10,1e-6", "1,2,10,1000"), e_csv=events)
    assert _run(folder) == 4
    said = capsys.readouterr()
    assert "1 of 2 were not solved" in said.err
    assert "ID 1: " in said.err
    found = _read(folder)
    assert found["CP"].isna().tolist() == [True] * 3 + [False] * 3
    assert _run(folder, "--json") == 4
    done = json.loads(capsys.readouterr().out)
    assert [one["ID"] for one in done["failed"]] == ["1"]
    assert done["rows"] == 6
    assert done["units"] == {"TIME": "h", "CP": "mg/L", "X": "mg", "TEN": "mg/L"}


@pytest.mark.witness
def test_steps_a_subject_may_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An indirect response over six days takes more than five steps: each subject says so and how to mend it."""
    assert _workload("w2", tmp_path, "--max-steps", "5")[0] == 4
    said = capsys.readouterr().err
    assert "were not solved" in said
    assert "STEP_LIMIT" in said
    assert pd.read_csv(tmp_path / "out.csv")["CP"].isna().all()


@pytest.mark.parametrize(
    ("texts", "place", "words"),
    [
        ({"p_csv": "ID,CL,V\n1,2,10\n"}, "p.csv:1 GROW", "column is missing"),
        ({"p_csv": "ID,CL,V,GROW,VV\n1,2,10,1,1\n"}, "p.csv:1 VV", "no such parameter"),
        ({"p_csv": "ID,CL,V,GROW\n1,2,ten,1\n"}, "p.csv:2 V", "must be a number"),
        ({"p_csv": "ID,CL,V,GROW\n1,2,inf,1\n"}, "p.csv:2 V", "must be a number"),
        ({"p_csv": "ID,CL,V,GROW\n1,2,.,1\n"}, "p.csv:2 V", "is missing"),
        ({"p_csv": PARAMETERS + "1.0,2,10,1\n"}, "p.csv:4 ID", "parameters already (line 2)"),
        ({"p_csv": PARAMETERS.replace("\n2,", "\n3,")}, "p.csv ID", "has no parameters"),
        ({"p_csv": "CL,V,GROW\n2,10,1\n"}, "p.csv:1 ID", "column is missing"),
        ({"p_csv": "ID,CL,V,GROW\n"}, "p.csv:1", "no data"),
        ({"p_csv": 'ID,CL,V,GROW\n1,"2,10,1\n'}, "p.csv:", "not valid CSV"),
        ({"p_csv": "ID,CL,CL,GROW\n1,2,10,1\n"}, "p.csv:1 CL", "there twice"),
        ({"e_csv": EVENTS.replace("1,5,.,0,.", "1,5,.,0")}, "e.csv:5", "4 cells, the header 5"),
        ({"e_csv": EVENTS.replace("2,4,50,1,1", "2,4,50,1,centrall")}, "e.csv:8 CMT", "no such compartment"),
        ({"e_csv": EVENTS.replace("2,4,50,1,1", "2,4,50,1,9")}, "e.csv:8 CMT", "no such compartment"),
        ({"e_csv": EVENTS.replace("1,5,", "1,-5,")}, "e.csv:5 TIME", "must be >= 0"),
        ({"e_csv": EVENTS.replace("2,9.5,", "2,0.5,")}, "e.csv:10 TIME", "goes backwards"),
        ({"e_csv": EVENTS.replace("2,9.5,", "2,x,")}, "e.csv:10 TIME", "must be a number"),
        ({"e_csv": EVENTS.replace("ID,TIME", "ID,time")}, "e.csv:1 time", "in capitals"),
        ({"e_csv": EVENTS.replace("TIME,", "WHEN,")}, "e.csv:1 TIME", "column is missing"),
        ({"e_csv": EVENTS.replace("\n2,", "\n=2+5,")}, "e.csv:6 ID", "formula"),
        ({"e_csv": EVENTS + "1,7,.,0,.\n"}, "e.csv:11 ID", "comes back"),
        ({"e_csv": ""}, "e.csv:1", "no data"),
    ],
)
def test_wrong_tables_are_refused(
    files: Callable[..., Path], capsys: pytest.CaptureFixture[str], texts: dict[str, str], place: str, words: str
) -> None:
    folder = files(**texts)
    assert _run(folder) == 2
    said = capsys.readouterr().err
    assert f"{folder}/{place}" in said
    assert words in said.replace("has events in " + str(folder / "e.csv") + " and no parameters", "has no parameters")
    assert "Remedy" in said
    assert not (folder / "out.csv").exists()


def test_options_that_do_not_go_together(files: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = files()
    assert _run(folder, "--draws", "2") == 2
    assert _run(folder, "--rtol", "-1") == 2
    assert _run(folder, "--draws", "100000000", given=False) == 2
    assert _run(folder, given=False) == 2  # WT is nowhere
    for out, words in (("e.csv", "replace an input"), ("", "is a directory")):
        arguments = ["simulate", "w2", "--events", str(folder / "e.csv"), "--out", str(folder / out)]
        assert main(arguments) == 2
        assert words in capsys.readouterr().err
    assert main(["simulate", "w9", "--events", str(folder / "e.csv"), "--out", str(folder / "out.csv")]) == 2
    assert "no such model" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["e.csv", "model.yaml", "p.csv"]
    assert (folder / "e.csv").read_text() == EVENTS


CLOCKS = """\
vtrial: model/1
name: since
states: {A: mg}
parameters: {K: {typical: 0.1 1/h, status: assumed}, D0: {typical: 100 mg, status: assumed}}
equations: |
  d/dt(A) = -K*A
  SINCE = TAD*K
  LAST = DOSE/D0
doses: {A: {lag: 1 h}}
outputs: {S: {is: SINCE}, L: {is: LAST}}
"""


def test_time_and_amount_of_the_last_dose(files: Callable[..., Path]) -> None:
    """TAD counts from the record whatever the lag, 0 before the first dose; a sample before its dose sees the one before."""
    events = "ID,TIME,EVID,AMT,CMT,II,ADDL\n1,1,0,.,.,.,.\n1,2,1,100,A,4,1\n1,2.5,0,.,.,.,.\n1,8,0,.,.,.,.\n"
    events += "1,10,0,.,.,.,.\n1,10,1,50,A,.,.\n1,10,0,.,.,.,.\n1,13,0,.,.,.,.\n"
    folder = files(model_yaml=CLOCKS, p_csv="ID,K,D0\n1,0.1,100\n", e_csv=events)
    assert _run(folder) == 0
    found = _read(folder)
    np.testing.assert_allclose(found["S"], np.array([0, 0.5, 2, 4, 0, 3]) * 0.1, rtol=1e-14)
    assert found["L"].tolist() == [0.0, 1.0, 1.0, 1.0, 0.5, 0.5]
