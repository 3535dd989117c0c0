"""`vtrial check` of a model: text first, then conformance; exit 0, 2 or 3 (identity: planted defects)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pkpd.conformance import case as room
from pkpd.model.library import model_path
from reports.cli import main


def _said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_name_of_the_library_is_examined(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "theophylline"]) == 0
    lines = _said(capsys)
    assert lines[0].endswith("theophylline.yaml: a sound model")
    (head,) = [line for line in lines if line.startswith("conformance: ")]
    assert " pass, " in head
    assert " fail" not in head
    assert any(line.split()[:2] == ["pass", "mass_balance"] for line in lines)
    assert any(line.split()[:2] == ["-", "lag"] and "the text has no lag" in line for line in lines)


def test_quick_reads_the_text_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--quick", str(model_path("theophylline"))]) == 0
    assert not any(line.startswith("conformance") for line in _said(capsys))


def test_a_file_comes_before_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theophylline").write_text("vtrial: nothing/1\n")
    assert main(["check", "theophylline"]) == 2
    assert "nothing/1" in capsys.readouterr().err


def _forgetful(real: Any) -> Any:
    """An engine that gives every dose twice over."""

    def solve(compiled: Any, parameters: Any, events: Any, times: Any, **options: Any) -> Any:
        columns = {name: getattr(events, name) for name in type(events).__slots__}
        return real(compiled, parameters, type(events)(**columns | {"amount": 2.0 * events.amount}), times, **options)

    return solve


def test_a_failed_check_ends_with_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(room, "solve", _forgetful(room.solve))
    assert main(["check", "theophylline"]) == 3
    failed = [line.split()[1] for line in _said(capsys) if line.strip().startswith("FAIL")]
    assert {"arrival", "exposure", "mass_balance", "second_reading"} <= set(failed)


def test_machines_get_the_evidence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "theophylline", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is True
    found = {e["name"]: e for e in said["conformance"]["evidence"]}
    assert found["exposure"]["verdict"] == "pass"
    assert found["exposure"]["value"] <= found["exposure"]["tolerance"]
    monkeypatch.setattr(room, "solve", _forgetful(room.solve))
    assert main(["check", "theophylline", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False
