"""Importing is cheap and honest: light rooms, sorted names that exist, a command that starts at once.

Witness: `sys.modules` of a fresh interpreter.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

ROOMS = ("pkpd", "populations", "trials", "reports")
HEAVY = ("numba", "sympy", "arviz", "scipy.stats", "pymc", "pytensor", "nutpie", "dask", "distributed", "matplotlib")


def _loaded(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after `code`; it must print nothing itself."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_loads_nothing_heavy_and_says_nothing(room: str) -> None:
    assert not _loaded(f"import {room}").intersection(HEAVY)


@pytest.mark.parametrize("room", ROOMS)
def test_names_of_a_room_are_sorted_and_exist(room: str) -> None:
    module = importlib.import_module(room)
    assert list(module.__all__) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


def _called(*arguments: str) -> set[str]:
    """Names of all modules loaded after one command that must succeed."""
    quiet = "with contextlib.redirect_stdout(io.StringIO()):"
    call = f"    assert main({list(arguments)!r}) == 0"
    return _loaded("\n".join(["import contextlib, io", "from reports.cli import main", quiet, call]))


def test_help_loads_no_numbers() -> None:
    loaded = _called("--help")
    assert "reports.cli" in loaded
    assert not loaded.intersection({"numpy", "pandas", "pydantic", "rich", "pkpd.ground.text", *HEAVY})


@pytest.mark.parametrize("file", ["examples/theophylline_copd/protocol.yaml", "pkpd/library/theophylline.yaml"])
def test_check_loads_no_engine_and_no_sampler(file: str, pytestconfig: pytest.Config) -> None:
    assert not _called("check", "--quick", str(pytestconfig.rootpath / file)).intersection(HEAVY)
