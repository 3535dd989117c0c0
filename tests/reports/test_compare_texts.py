"""`vtrial compare` for designs: table, page, JSON; what cannot be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reports.cli import main

DESIGNS = Path(__file__).parents[2] / "examples" / "designs"
PAIR = [str(DESIGNS / f"{name}.yaml") for name in ("means_fixed", "group_sequential_means")]


def test_designs_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", *PAIR, "--replicates", "400", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "group_sequential_means less means_fixed" in said
    told = json.loads((out / "compare.json").read_text())
    planned = told["scenarios"][0]
    assert (planned["scenario"], planned["replicates"]) == ("planned", 400)
    reject = next(d for d in planned["differences"] if d["measure"] == "reject")
    assert reject["variance_ratio"] == pytest.approx((reject["unpaired_mcse"] / reject["mcse"]) ** 2)
    assert planned["exact"]["means_fixed"]["reject"]["how"] == "noncentral t"
    page = (out / "compare.html").read_text()
    assert "<script" not in page
    assert len(re.findall(r"<svg", page)) >= 3
    assert f"{planned['designs']['means_fixed']['subjects']['value']:.0f}" in page


def test_machines_get_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *PAIR, "--mcse", "0.02", "--json", "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["asked_mcse"] == 0.02
    assert all(by["reject"]["mcse"] <= 0.02 for s in told["scenarios"] for by in s["designs"].values())


def test_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = DESIGNS.parent / "dose_finding" / "protocol.yaml"
    assert main(["compare", PAIR[0], str(protocol), "--out", str(tmp_path)]) == 2
    assert "is a protocol, the first is a design" in capsys.readouterr().err
    assert main(["compare", str(DESIGNS / "means.yaml"), "--out", str(tmp_path)]) == 2
    assert "says nothing to simulate" in capsys.readouterr().err
    assert main(["compare", PAIR[0], "--null", "--out", str(tmp_path)]) == 2
    assert "is for protocols" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted((DESIGNS.parent / "compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_sound(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file)]) == 0
    assert "a sound" in capsys.readouterr().out
