"""How commands begin and end: help at once, errors as one message, exit codes (identity: the codes of the README)."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pkpd.ground.errors import InputError, RunFailed, RunPartial
from reports.cli import main
from reports.desk import doctor, guard, say
from reports.desk.trial import demo_protocol

COMMANDS = (
    "demo",
    "run",
    "check",
    "plan",
    "design",
    "fit",
    "compare",
    "sbc",
    "simulate",
    "twin",
    "report",
    "verify",
    "schema",
    "models",
    "doctor",
)


def _spent() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_names_every_command_in_half_a_second() -> None:
    command = [sys.executable, "-m", "reports.cli", "--help"]
    subprocess.run(command, capture_output=True, check=True)  # warm
    seconds = []
    for _ in range(5):
        start = time.perf_counter(), _spent()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(min(time.perf_counter() - start[0], _spent() - start[1]))  # the bound is of the program
    assert min(seconds) < 0.5
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: vtrial {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["nope"], ["run"], ["run", "a", "b"], ["schema", "dose"], ["run", "a", "--workers", "x"]]
)
def test_wrong_usage_is_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "Usage: vtrial" in said.err
    assert said.out == ""


def _raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("must be > 0", field="x", value=-1), 2),
        (RunFailed("disk full"), 3),
        (RunPartial("2 blocks missing"), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("division by zero"), 3),
        (OSError(28, "No space left on device"), 3),
    ],
)
def test_every_error_is_one_line_and_a_code(
    error: BaseException, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.exit_code(_raising(error), out=tmp_path, machine=False) == code
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1
    assert "Traceback" not in said.err


def test_an_unexpected_error_leaves_its_traceback_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.exit_code(_raising(ZeroDivisionError("x")), out=tmp_path, machine=True) == 3
    assert "ZeroDivisionError" in (tmp_path / "error.txt").read_text()
    said = json.loads(capsys.readouterr().out)
    assert (said["event"], said["exit_code"]) == ("error", 3)
    assert str(tmp_path / "error.txt") in said["message"]


def test_without_a_run_the_traceback_still_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert guard.exit_code(_raising(ZeroDivisionError("x")), out=tmp_path / "none", machine=False) == 3
    (left,) = tmp_path.iterdir()
    assert "ZeroDivisionError" in left.read_text()


def test_doctor_knows_this_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = {item["name"]: item for item in json.loads(capsys.readouterr().out)["findings"]}
    assert all(findings[f"room {name}"]["ok"] for name in ("pkpd", "populations", "trials", "reports"))


def test_doctor_sees_a_room_that_is_another_packages(tmp_path: Path) -> None:
    (tmp_path / "pkpd").mkdir()
    (tmp_path / "pkpd" / "__init__.py").write_text("")
    program = "import sys; from reports.cli import main; sys.path.insert(0, sys.argv[1]); sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert "BAD  room pkpd" in done.stdout
    assert "ok   room trials" in done.stdout


def test_doctor_ends_with_3_where_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = doctor.Finding(name="cores", found="0", ok=False, remedy="buy one")
    monkeypatch.setattr(doctor, "examine", lambda: (bad,))
    assert doctor.doctor(machine=False) == 3


def test_the_demo_protocol_is_there() -> None:
    assert demo_protocol().read_text(encoding="utf-8").startswith("vtrial: protocol/1")


def test_machines_never_get_nan(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        say.machine({"value": float("nan")})
