"""A witness test that is skipped although its numbers are there fails the run (identity: a project made for it)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.witness
def test_witness():
    pytest.skip("no numbers")

def test_other():
    pass
"""


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(("shared", "code"), [(False, 0), (True, 1)])
def test_a_skipped_witness(shared: bool, code: int, processes: str, tmp_path: Path) -> None:
    tests = tmp_path / "repo" / "tests"
    tests.mkdir(parents=True)
    (tests / "conftest.py").write_text(CONFTEST.read_text())
    (tests / "test_it.py").write_text(TESTS)
    (tests.parent / "pytest.ini").write_text("[pytest]\nmarkers = witness: w\n")
    if shared:
        (tmp_path / "shared").mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(tests)]
    command += ["-n", processes]
    done = subprocess.run(command, cwd=tests.parent, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert ("the run fails" in done.stdout) is shared
