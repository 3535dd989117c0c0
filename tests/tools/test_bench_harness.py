"""The bench harness tells a figure that holds from one that does not (identity: rows written for the purpose)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import harness
from tests.bench.harness import Bar, Measured, Row, measure, select

ROOT = Path(__file__).parents[2]


def _row(name: str, value: float, bar: str) -> Row:
    return Row(name=name, unit="1", bar=Bar.parse(bar), command="c", measure=lambda: Measured(value, "note"))


@pytest.mark.parametrize(
    ("bar", "value", "holds"),
    [
        ("<= 1e-7", 1e-7, True), ("< 1", 1.0, False), (">= 400", 399.9, False), ("> 0", 0.1, True), ("== 0", 0.0, True),
        ("0.04 .. 0.06", 0.05, True), ("0.04 .. 0.06", 0.061, False), ("<= 1", math.nan, False),
        ("-1 .. 1", math.nan, False),
    ],
)  # fmt: skip
def test_bars(bar: str, value: float, holds: bool) -> None:
    assert measure(_row("r", value, bar)).holds is holds


@pytest.mark.parametrize("bar", ["", "small", "<= ", "1 .. x", "~ 1"])
def test_what_is_no_bar_is_refused(bar: str) -> None:
    with pytest.raises(ValueError, match=r"bar|float"):
        Bar.parse(bar)


def test_a_row_that_raises_does_not_hold_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(name="r", unit="1", bar=Bar.parse(">= 0"), command="c", measure=lambda: 1 / 0)
    result = measure(row)
    assert not result.holds
    assert math.isnan(result.value)
    assert result.note == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_select_by_name_and_prefix() -> None:
    found = tuple(_row(name, 0, "<= 1") for name in ("fit.a", "fit.b", "run.a"))
    assert [row.name for row in select(found, ["fit.*"])] == ["fit.a", "fit.b"]
    assert [row.name for row in select(found, [])] == ["fit.a", "fit.b", "run.a"]
    with pytest.raises(KeyError, match="fit"):
        select(found, ["fit"])


@pytest.mark.parametrize(("value", "code"), [(0.5, 0), (1.5, 1), (math.nan, 1)])
def test_command_prints_and_stores_all_it_measured(
    value: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "discover", lambda: (_row("one", value, "<= 1"),))
    assert command.main(["--json", str(tmp_path / "rows.json")]) == code
    (stored,) = json.loads((tmp_path / "rows.json").read_text())
    assert stored["value"] == (None if math.isnan(value) else value)
    assert set(stored) >= {"name", "value", "unit", "bar", "holds", "command", "versions"}
    said = capsys.readouterr().out
    assert ("holds" if code == 0 else "FAILS") in said
    assert "numpy" in said


def test_no_rows_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "discover", tuple)
    assert command.main([]) == 1


def test_every_rows_module_is_found_and_an_unknown_name_is_refused() -> None:
    """The real command in a process of its own: all `rows_*.py` import, names are unique."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "no-such-row"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no bench row is called 'no-such-row'" in done.stderr
