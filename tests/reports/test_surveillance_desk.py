"""`vtrial surveillance`: a plan and the record of a run in; page, numbers and table out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.cli import main
from reports.desk import surveillance as desk
from trials.protocol import Protocol
from trials.record import Block, BlockResult, Manifest, parquet, versions, write_block

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "surveillance" / "theophylline.yaml"
REPLICATES, SUBJECTS, RATE, RATIO = 30, 150, 0.4, 2.5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the demonstration's protocol whose events we drew: RATE a year on placebo, RATIO times it at
    400 mg, with a spread of 0.3 over replicates."""
    folder = ROOT / "examples" / "theophylline_copd"
    out, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(6)
    protocol = replace(Protocol.read(folder / "protocol.yaml"), replicates=REPLICATES)
    n = REPLICATES * SUBJECTS
    columns: dict[str, object] = {
        "replicate": np.repeat(np.arange(REPLICATES), SUBJECTS), "arm": np.tile(np.arange(SUBJECTS) % 5, REPLICATES),
        "status": np.zeros(n, np.int8), "stopped.day": np.full(n, np.nan), "dropout.day": np.full(n, np.nan),
        "subject": np.tile(np.arange(SUBJECTS), REPLICATES),
    }  # fmt: skip
    own = np.repeat(RATIO * np.exp(0.3 * rng.normal(size=REPLICATES)), SUBJECTS)
    rate = RATE * np.where(columns["arm"] == 3, own, 1.0)
    for event in ("nausea", "vomiting", "tachycardia"):
        day = rng.exponential(365.25 / rate)
        columns[f"{event}.day"] = np.where(day < 84, day, np.nan)
    block = Block(number=0, first=0, stop=REPLICATES)
    write_block(out, block, BlockResult(tables={"outcomes": parquet(columns)}, counts={}, outcomes=""))
    (out / "model.yaml").write_text((folder / "model.yaml").read_text())
    Manifest(
        key="0" * 64, name=protocol.name, state="finished", inputs={"protocol": protocol.to_dict()}, blocks=(block,),
        failed={}, versions=versions(), command="none",
    ).write(out)  # fmt: skip
    return out


def test_page_numbers_and_table_from_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = EXAMPLE.read_text().replace("label: Vomiting", "label: <script>x</script>")
    plan = tmp_path / "plan.yaml"
    plan.write_text(text)
    asked = ["--run", f"trial={run}", "--draws", "30", "--replicates", "5", "--out", str(tmp_path / "out")]
    assert main(["surveillance", str(plan), *asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    by = {(d["event"], d["plan"], d["truth"]): d for d in told["detected"]}
    assert len(by) == 2 * 8 * 2
    one = by["vomiting", "claims", "stated"]
    shares = [m["value"] for m in one["by_month"]]
    assert shares == sorted(shares)
    assert one["power"]["value"] == shares[-1] > by["vomiting", "claims", "null"]["power"]["value"]
    assert one["power_range"][0] < one["power"]["value"] < one["power_range"][1]
    with (tmp_path / "out" / desk.TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 8 * 36
    assert {r["truth"] for r in rows} == {"stated", "null"}
    page = (tmp_path / "out" / desk.PAGE).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "Taken from runs of virtual trials" in page
    assert "key 0000000000000000" in page


def test_the_ratio_is_that_of_the_run(run: Path) -> None:
    """2.5 times a log-normal of SD 0.3 was put in; 30 replicates of 30 subjects in an arm."""
    from trials.analysis.surveillance_market import truths
    from trials.analysis.surveillance_text import Surveillance

    made = truths(Surveillance.read(EXAMPLE), EXAMPLE.parent, {"trial": run})
    law = made.laws["tachycardia.ratio"]
    assert law.middle == pytest.approx(RATIO * np.exp(0.045), abs=4 * law.error * RATIO)
    assert np.median(made.ratio["tachycardia"]) == pytest.approx(law.middle, rel=0.15)
    assert made.planned["tachycardia"] == 30 / 4000


def test_plan_check_and_schema(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = EXAMPLE.read_text().replace("../../out", str(run))
    plan = tmp_path / "plan.yaml"
    plan.write_text(text)
    assert main(["check", str(EXAMPLE)]) == 0
    assert "a sound surveillance" in capsys.readouterr().out
    assert main(["plan", str(plan)]) == 0
    shown = capsys.readouterr().out
    assert "Critical log ratio" in shown
    assert "plans.claims.alpha" in shown
    assert main(["schema", "surveillance"]) == 0
    assert "Plan" in json.loads(capsys.readouterr().out)["$defs"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--run", "trial"), "--run: needs a name and a directory"),
        (("--run", "other=x"), "--run: is no run of the plan"),
        (("--run", "trial=/nowhere"), "runs.trial: holds no run"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str) -> None:
    assert main(["surveillance", str(EXAMPLE), *more, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Remedy" in told
