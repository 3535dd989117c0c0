"""Progress as plain lines and as JSON lines (identity: what was reported)."""

from __future__ import annotations

import json

import pytest

from reports.desk import progress


def test_plain_lines_say_start_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.listening(machine=False) as heard:
        for done in range(101):
            heard("simulate", done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "simulate: 0 of 100 blocks"
    assert lines[-1].startswith("simulate: 100 of 100 blocks in ")
    assert len(lines) == 2  # nothing between: the stage took less than a few seconds


def test_machine_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.listening(machine=True) as heard:
        heard("simulate", 3, 10)
        heard("simulate", 10, 10)
    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["done"], first["total"], first["remaining"]) == (3, 10, None)
    assert last["remaining"] == 0


def test_blocks_of_an_earlier_run_count_in_no_rate() -> None:
    assert progress.remaining(0, 40, 12.0) is None
    assert progress.remaining(10, 40, 12.0) == 36.0
