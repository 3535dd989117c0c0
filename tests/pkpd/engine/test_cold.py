"""Processes that start together with an empty cache: one compiles, the others load; no symbolic algebra is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KERNEL = """
from pkpd.kernels.elementary import _exp_fill as kernel
import numpy as np
x = np.zeros(3)
kernel(x, np.empty(3))
print(sum(kernel.stats.cache_misses.values()), sum(kernel.stats.cache_hits.values()))
"""
GENERATED = """
import sys
from pkpd.engine.build import compiled
from pkpd.engine.load import solver
from pkpd.model.library import load
found = solver(compiled(load("w2")).text("tsit5"))
assert "sympy" not in sys.modules
print(sum(found.stats.cache_misses.values()), sum(found.stats.cache_hits.values()))
"""


def _together(text, folder, count=2):
    """(misses, hits) of each of several processes that start at once with the cache in `folder`."""
    folder.mkdir(mode=0o700)
    env = {**os.environ, "VTRIAL_CACHE": str(folder), "NUMBA_CACHE_DIR": str(folder / "numba"), "PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([sys.executable, "-c", text], env=env, stdout=subprocess.PIPE) for _ in range(count)]
    said = [process.communicate(timeout=300)[0].split() for process in running]
    assert not any(process.returncode for process in running)
    return sorted(tuple(int(x) for x in line) for line in said)


def test_a_kernel_is_compiled_once(tmp_path):
    assert _together(KERNEL, tmp_path / "cache") == [(0, 1), (1, 0)]


@pytest.mark.slow
def test_a_generated_solver_is_compiled_once(tmp_path):
    assert _together(GENERATED, tmp_path / "cache") == [(0, 1), (1, 0)]
