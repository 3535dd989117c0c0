"""`vtrial qt`: ECG intervals with concentrations in, the decision, a page and numbers out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.streams import Purpose, normals
from reports.cli import main
from reports.desk import qt as desk
from trials.analysis import qt, qt_data

TIMES = (-0.5, 0.5, 1.0, 2.0, 4.0, 8.0)


def ecgs(path: Path, *, slope: float = 0.5, people: int = 10, drug: str = "<b>x</b>") -> Path:
    """A crossover of `people`, QT from QTcF = 400 + slope x conc + noise (sd 2 ms), two dose levels of one drug."""
    z = normals(9, Purpose.SUMMARY_TRIAL, subject=np.arange(people)[:, None], replicate=0, slot=np.arange(60))
    lines = ["id,treatment,drug,time_h,conc,qt_ms,hr_bpm"]
    for s in range(people):
        for arm, name in enumerate(("placebo", "low", "high")):
            for k, t in enumerate(TIMES):
                conc = 10.0 * arm * (1 + 0.2 * z[s, 59]) * math.exp(-0.3 * t) if arm and t > 0 else 0.0
                rate = 60.0 + z[s, 20 * arm + k]
                qtcf = 400.0 + slope * conc + 2.0 * z[s, 20 * arm + 10 + k]
                cells = (s, name, "" if name == "placebo" else drug, t, conc, qtcf * (60.0 / rate) ** (1 / 3), rate)
                lines.append(",".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")
    return path


def run(tmp_path: Path, *more: str, **made: float) -> int:
    file = ecgs(tmp_path / "ecg.csv", **made)  # type: ignore[arg-type]
    fixed = ["--column", "subject=id", "--draws", "400", "--out", str(tmp_path / "out")]
    return main(["qt", str(file), *fixed, *more])


def test_the_decision_the_numbers_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--herg", "<b>x</b>=100,80,125", "--unbound", "<b>x</b>=0.1") == 0
    said = capsys.readouterr().out
    told = json.loads((tmp_path / "out" / desk.NUMBERS).read_text())
    drug = told["drugs"]["<b>x</b>"]
    data = qt_data.read(tmp_path / "ecg.csv", columns={"subject": "id"})
    course = qt.course_of(data, 1)
    fit = qt.concentration_qt(course)
    low, high = drug["doses"]["low"], drug["doses"]["high"]
    assert drug["slope"]["estimate"] == pytest.approx(fit.slope().estimate[0])
    assert drug["slope"]["estimate"] == pytest.approx(0.5, abs=0.15)
    assert high["cmax"] == pytest.approx(2.0 * low["cmax"])
    assert low["excluded"] is (low["ddqtcf"]["upper_90"] < 10.0) is True
    assert drug["excluded"] is high["excluded"]
    assert drug["margins"]["herg_margin"]["estimate"] == pytest.approx(100.0 / (0.1 * high["cmax"]))
    assert ("is excluded" in said) is high["excluded"]
    text = (tmp_path / "out" / desk.PAGE).read_text()
    assert "<b>x</b>" not in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert text.count("<svg") >= 5


def test_a_strong_drug_is_not_excluded_and_serves_as_positive_control(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--json", "--positive", "<b>x</b>", slope=1.5, people=6) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["drugs"]["<b>x</b>"]["excluded"] is False
    assert told["drugs"]["<b>x</b>"]["assay_sensitive"] is True


def test_a_drug_without_a_model_ends_with_3_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, people=1) == 3
    assert "no model" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / desk.NUMBERS).read_text())
    assert told["drugs"]["<b>x</b>"]["status"] != "OK"


@pytest.mark.parametrize(("more", "said"), [
    (("--at", "x"), "--at: is not NAME=VALUE"),
    (("--at", "<b>x</b>=-1"), "is not a positive number"),
    (("--herg", "<b>x</b>=1,2"), "IC50,LOWER,UPPER"),
    (("--positive", "y"), "is not a drug of the file"),
    (("--placebo", "none"), "no line is of none"),
    (("--column", "people=id"), "must be one of"),
])  # fmt: skip
def test_bad_orders_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert run(tmp_path, *more, people=2) == 2
    assert said in capsys.readouterr().err
