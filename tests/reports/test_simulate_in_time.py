"""`vtrial simulate` where covariates and occasions change within a subject. Witnesses: closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pkpd.ground.streams import Purpose, normals, slots, uniforms
from reports.cli import main

COVARIATES = """
vtrial: model/1
name: changing
covariates:
  WT:   {unit: kg, reference: 70, between: locf}
  CRCL: {unit: mL/min, reference: 100, between: nocb}
  TEMP: {unit: K, reference: 300, between: linear}
states: {A: mg}
parameters:
  K: {typical: 0.1 1/h, effects: {CRCL: power 1 fixed}, status: assumed}
  V: {typical: 10 L, effects: {WT: power 1 fixed}, status: assumed}
  T0: {typical: 300 K, status: assumed}
equations: |
  C = A/V
  d/dt(A) = -K*(TEMP/T0)*A
  SIZE = WT/V
doses: {A: {bioavailability: 1}}
outputs: {CP: {is: C}, S: {is: SIZE}}
"""
RECORDS = """ID,TIME,EVID,AMT,WT,CRCL,TEMP
1,0,1,100,70,100,300
1,4,0,.,70,100,300
1,10,0,.,140,50,330
1,15,0,.,.,.,.
1,20,0,.,35,200,300
1,30,0,.,35,200,300
"""
OCCASIONS = """
vtrial: model/1
name: occasions
states: {A: mg}
parameters:
  CL: {typical: 2 L/h, iiv: 0.3, iov: 0.25, status: assumed}
  V: {typical: 20 L, iov: 0.4, status: assumed}
occasion: {column: OCC}
equations: |
  C = A/V
  d/dt(A) = -CL*C
doses: {A: {bioavailability: 1}}
outputs: {CP: {is: C}}
"""
VISITS = """ID,TIME,EVID,AMT,OCC
3,0,1,100,1
3,12,0,.,1
3,24,0,.,1
3,24,1,100,2
3,24,0,.,2
3,30,0,.,2
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., pd.DataFrame | int]:
    """Simulate texts; the table that comes out, or the exit code where it is not 0."""

    def simulate(model: str, events: str, *options: str, parameters: str | None = None) -> pd.DataFrame | int:
        (tmp_path / "m.yaml").write_text(model)
        (tmp_path / "e.csv").write_text(events)
        given = [] if parameters is None else ["--parameters", str(tmp_path / "p.csv")]
        (tmp_path / "p.csv").write_text(parameters or "")
        out = tmp_path / "out.csv"
        asked = ["--events", str(tmp_path / "e.csv"), "--out", str(out), "--rtol", "1e-11", "--atol", "1e-13", *options]
        code = main(["simulate", str(tmp_path / "m.yaml"), *given, *asked])
        return code if code else pd.read_csv(out)

    return simulate


def test_covariates_of_the_records_hold_as_the_model_says(run: Callable[..., pd.DataFrame]) -> None:
    """A = 100 exp(-integral of 0.1 CRCL/100 TEMP/300), volumes by the record's own weight; from 15 on h nothing is said.

    NOCB: 50 mL/min holds on (4, 10], 200 on (10, 20]; linear: 300 K to 330 K over (4, 10], back over (10, 20].
    """
    found = run(COVARIATES, RECORDS)
    k = 0.1
    parts = {
        4.0: k * 4,
        10.0: k * 4 + k * 0.5 * 6 * 1.05,
        15.0: k * 4 + k * 0.5 * 6 * 1.05 + k * 2 * 5 * (1.1 + 1.05) / 2,
        20.0: k * 4 + k * 0.5 * 6 * 1.05 + k * 2 * 10 * 1.05,
    }
    parts[30.0] = parts[20.0] + k * 2 * 10
    volume = np.array([10.0, 20.0, 20.0, 5.0, 5.0])
    np.testing.assert_allclose(found["CP"], 100 * np.exp(-np.array([*parts.values()])) / volume, rtol=1e-9)
    np.testing.assert_allclose(found["S"], 7.0, rtol=1e-14)  # an equation of the response layer: WT/V at the record


def test_what_changes_is_said(run: Callable[..., pd.DataFrame], capsys: pytest.CaptureFixture[str]) -> None:
    run(COVARIATES, RECORDS)
    said = capsys.readouterr().err
    assert "WT changes within subjects: a value holds from its record on (locf)" in said
    run(COVARIATES, RECORDS, "--json")
    done = json.loads(capsys.readouterr().out)
    assert done["between"] == {"WT": "locf", "CRCL": "nocb", "TEMP": "linear"}


def _drawn(subject: int, replicate: int, seed: int = 20261121) -> tuple[np.ndarray, np.ndarray]:
    """Clearance and volume on occasions 1 and 2, from the addresses."""
    at = {"subject": subject, "replicate": replicate}
    occasion = np.array([1, 2])
    eta = 0.3 * normals(seed, Purpose.IIV, **at, slot=slots(["CL"]))
    cl, v = (normals(seed, Purpose.IOV, **at, index=occasion, slot=slots([name])) for name in ("CL", "V"))
    return 2.0 * np.exp(eta + 0.25 * cl), 20.0 * np.exp(0.4 * v)


def _levels(cl: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The line before the dose at 24 h says occasion 1 and sees its volume, the line after it that of occasion 2."""
    a24 = 100.0 * np.exp(-24 * cl[0] / v[0])
    after = a24 + 100.0
    return np.array([
        100.0 * np.exp(-12 * cl[0] / v[0]) / v[0], a24 / v[0], after / v[1], after * np.exp(-6 * cl[1] / v[1]) / v[1]
    ])  # fmt: skip


def test_an_occasion_holds_from_the_record_that_names_it(run: Callable[..., pd.DataFrame]) -> None:
    found = run(OCCASIONS, VISITS, "--draws", "3")
    assert found["DRAW"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    expected = np.concatenate([_levels(*_drawn(3, d)) for d in range(3)])
    np.testing.assert_allclose(found["CP"], expected, rtol=1e-9)
    early = VISITS.replace("3,24,0,.,1", "3,24,0,.,2")  # the same sample counted to the new occasion: its volume
    cl, v = _drawn(3, 0)
    np.testing.assert_allclose(run(OCCASIONS, early)["CP"][1], _levels(cl, v)[1] * v[0] / v[1], rtol=1e-9)


def test_parameters_of_each_occasion_can_be_given(run: Callable[..., pd.DataFrame]) -> None:
    table = "ID,OCC,CL,V\n3,1,2,20\n3,2,3,30\n9,1,1,1\n"
    found = run(OCCASIONS, VISITS, parameters=table)
    np.testing.assert_allclose(found["CP"], _levels(np.array([2.0, 3.0]), np.array([20.0, 30.0])), rtol=1e-9)
    same = run(OCCASIONS, VISITS, parameters="ID,CL,V\n3,2,20\n")
    np.testing.assert_allclose(same["CP"], _levels(np.array([2.0, 2.0]), np.array([20.0, 20.0])), rtol=1e-9)


MIXTURE = """
vtrial: model/1
name: mixed
states: {A: mg}
parameters:
  K: {typical: 0.1 1/h, effects: {fast: {1: 2.0}}, status: assumed}
mixture: {fast: 0.3, slow: rest}
equations: d/dt(A) = -K*A
doses: {A: {bioavailability: 1}}
outputs: {AMT1: {is: A}}
"""


def test_classes_are_drawn_with_the_people(run: Callable[..., pd.DataFrame]) -> None:
    """Members of `fast` (30 %: uniform of the address below 0.3) lose exp(-0.2 t), the others exp(-0.1 t)."""
    events = "ID,TIME,EVID,AMT\n" + "".join(f"{i},0,1,100\n{i},5,0,.\n" for i in range(1, 41))
    fast = uniforms(20261121, Purpose.MIXTURE, subject=np.arange(1, 41), replicate=0) < 0.3
    assert 4 < fast.sum() < 20
    np.testing.assert_allclose(run(MIXTURE, events)["AMT1"], 100 * np.exp(np.where(fast, -1.0, -0.5)), rtol=1e-9)


FED = COVARIATES.replace("outputs: {", "outputs: {N: {is: SEEN, kind: count, law: poisson, previous: {name: LAST, first: 0}}, ").replace(
    "  SIZE =", "  SEEN = LAST + 1\n  SIZE ="
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "events", "parameters", "place", "words"),
    [
        (
            COVARIATES.replace(", between: locf", ""),
            RECORDS.replace("1,15,0,.,.,", "1,15,0,.,140,"),
            None,
            "e.csv covariates.WT",
            "changes within a subject",
        ),
        (COVARIATES, RECORDS, "ID,K,V,T0\n1,0.1,10,300\n", "p.csv WT", "has an effect on V, which is given"),
        (OCCASIONS, VISITS.replace("OCC", "VISIT"), None, "e.csv:1 OCC", "column of the model's occasions is missing"),
        (OCCASIONS, VISITS, "ID,OCC,CL,V\n3,1,2,20\n", "p.csv: ID 3 has no parameters on occasion 2", "add a line"),
        (OCCASIONS, VISITS, "ID,OCC,CL,V\n3,1,2,20\n3,1,2,20\n", "p.csv:3 ID", "one line an ID and OCC"),
        (OCCASIONS, VISITS, "ID,OCC,CL,V\n3,1.5,2,20\n", "p.csv:2 OCC", "whole number"),
        (OCCASIONS, VISITS + "3,30,0,.,5\n3,30,0,.,6\n", None, "e.csv TIME", "more than two values"),
        (MIXTURE, "ID,TIME,EVID,AMT,fast\n1,0,1,9,1\n1,5,0,.,1\n", None, "e.csv fast", "drawn with the people"),
        (MIXTURE, "ID,TIME,EVID,AMT\n1,0,1,9\n1,5,0,.\n", "ID,K\n1,0.1\n", "e.csv fast", "is not said"),
        (FED, RECORDS, None, "outputs.N", "depends on the outcome before"),
    ],
)
def test_what_cannot_be_told_is_refused(
    run: Callable[..., pd.DataFrame | int], capsys: pytest.CaptureFixture[str], model: str, events: str,
    parameters: str | None, place: str, words: str,
) -> None:  # fmt: skip
    assert isinstance(code := run(model, events, parameters=parameters), int)
    assert code == 2
    said = capsys.readouterr().err
    assert place in said
    assert words in said
    assert "Remedy" in said
