"""`vtrial ddi`: a question in; table, JSON and page of the matrix out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reports.cli import main
from reports.desk import ddi as desk

TEXT = """vtrial: ddi/1
name: <script>x</script>
victims: [midazolam]
perpetrators:
  - drug: rifampicin
    regimens: [{name: =1+1, dose: 600, interval: 24, doses: 7}]
  - ketoconazole
draws: 100
"""


def test_table_json_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that a page or a spreadsheet must not run are inert; the three files agree."""
    (tmp_path / "q.yaml").write_text(TEXT)
    assert main(["ddi", str(tmp_path / "q.yaml"), "--out", str(tmp_path / "out")]) == 0
    assert "Of 3 pairs, 2 more probably than not" in capsys.readouterr().out
    with (tmp_path / "out" / desk.TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == desk.COLUMNS
    induced = next(r for r in rows if r["perpetrator"] == "rifampicin")
    assert induced["regimen"] == "'=1+1"
    assert float(induced["auc_upper"]) < 0.5
    assert induced["driver"].startswith("induction")
    data = json.loads((tmp_path / "out" / desk.DATA).read_text())
    assert data["pairs"][0]["auc"][0] == pytest.approx(float(rows[0]["auc_ratio"]), rel=1e-5)
    assert data["calibration"]["studies"] == 179
    text = (tmp_path / "out" / desk.PAGE).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a blank is not a clearance" in text
    assert "<svg" in text


def test_an_unknown_drug_is_an_error_not_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line that names the file's nearest valid name."""
    (tmp_path / "q.yaml").write_text(TEXT.replace("midazolam", "midazolan"))
    assert main(["ddi", str(tmp_path / "q.yaml"), "--out", str(tmp_path / "out"), "--json"]) == 2
    assert "midazolam" in "".join(capsys.readouterr())


HEAD = (
    "osp_id,study,perpetrator,victim,victim_route,perp_route,perp_dose,perp_times_h,victim_time_h,auc_from_h,auc_to_h,"
    "victim_auc_end_h,aucr_obs,dose_correction_factor,genotype,enzyme\n"
)


def test_observed_ratios_are_compared_and_rows_without_inputs_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two rows by hand: a ratio of 10 with doses corrected by 2, and a drug nobody knows."""
    table = tmp_path / "t.csv"
    row = "S0-T24-R4,73,0,inf,inf,10.0,2.0,,CYP3A4\n"
    table.write_text(HEAD + f"1,one,Ketoconazole,Midazolam,PO,PO,400,{row}2,two,Nonesuch,Midazolam,PO,PO,400,{row}")
    assert main(["ddi", "--against", str(table), "--out", str(tmp_path / "out")]) == 0
    assert "no inputs: row 2, nonesuch is not in the library as perpetrator" in capsys.readouterr().out
    with (tmp_path / "out" / desk.CHECK).open() as file:
        rows = list(csv.DictReader(file))
    assert [r["row"] for r in rows] == ["1", "2"]
    assert float(rows[0]["observed"]) == 5.0
    assert float(rows[0]["lower"]) < float(rows[0]["predicted"]) < float(rows[0]["upper"])
    assert float(rows[0]["fold_error"]) == pytest.approx(
        max(float(rows[0]["predicted"]) / 5, 5 / float(rows[0]["predicted"])), rel=1e-4
    )
    assert rows[0]["rows_in_calibration"] == "5"
