"""Speed of the engine on the library's workloads W1 to W4: subjects per CPU second, two threads, time to first result.

Accuracy of the same models at the same settings: the rows `simulate.*`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.build import compiled
from pkpd.engine.solve import Solution, solve
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule
from tests.bench.harness import Measured, row

F64 = NDArray[np.float64]
TIMES = {
    "w1": np.arange(168) + 0.5, "w2": np.arange(145.0), "w3": 2.0 + 12.0 * np.arange(168), "w4": 24.0 * np.arange(1, 127)
}  # fmt: skip
# time, amount, duration, interval of steady state
DOSES = {
    "w1": [(24.0 * k, 10_000.0, 0.0, 24.0 if k == 0 else 0.0) for k in range(7)],
    "w2": [(0.0, 100.0, 0.0, 0.0)],
    "w3": [(504.0 * k, 5.0, 0.0, 0.0) for k in range(4)],
    "w4": [(504.0 * k, 100.0, 1.0, 0.0) for k in range(6)],
}
ROOT = Path(__file__).parents[2]


def _schedule(name: str) -> Schedule:
    time_, amount, duration, interval = np.array(DOSES[name]).T.copy()
    return Schedule(time_, amount, np.zeros(len(time_), np.int32), duration, interval, interval > 0)


def _people(name: str, n: int) -> F64:
    """Parameters (n, P) drawn as the README of the workloads says: log-normal around the typical values."""
    text = load(name)
    typical = np.array([float(p.typical) for p in text.parameters.values()])
    spread = np.array([float(p.iiv.typical) if p.iiv else 0.0 for p in text.parameters.values()])
    found: F64 = typical * np.exp(spread * np.random.default_rng(3).normal(size=(n, len(typical))))
    return found


def _work(name: str, n: int, **options: int) -> Callable[[], Solution]:
    model, people, events = compiled(load(name)), _people(name, n), Events.shared(_schedule(name), n)
    return lambda: solve(model, people, events, TIMES[name], **options)  # type: ignore[arg-type]


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _rate(name: str, n: int = 10_000, repeats: int = 9) -> Measured:
    """Subjects per CPU second: median of several warm runs through `solve`."""
    work = _work(name, n)
    found = work()
    used = [_cpu(work) for _ in range(repeats)]
    ways = ", ".join(f"{way.name.lower()} {count}" for way, count in found.ways().items())
    best = f"best {n / min(used):,.0f}"
    load_ = f"load {os.getloadavg()[0]:.1f}"
    return Measured(n / float(np.median(used)), f"{best}; {ways}; {int((found.status != 0).sum())} failures; {load_}")


@row("engine.w1_rate", unit="subjects/CPU s", bar=">= 400000")
def w1_rate() -> Measured:
    """10,000 subjects, steady state and six more doses, 168 samples."""
    return _rate("w1")


@row("engine.w2_rate", unit="subjects/CPU s", bar=">= 200000")
def w2_rate() -> Measured:
    """10,000 subjects, one dose, 145 samples of two outputs."""
    return _rate("w2")


@row("engine.w3_rate", unit="subjects/CPU s", bar=">= 20000")
def w3_rate() -> Measured:
    """10,000 subjects, four doses, 168 samples of four outputs."""
    return _rate("w3", repeats=5)


@row("engine.w4_rate", unit="subjects/CPU s", bar=">= 50000")
def w4_rate() -> Measured:
    """10,000 subjects, six infusions, 126 samples of two outputs."""
    return _rate("w4", repeats=5)


def _lsoda(people: F64) -> None:
    """W2 by SciPy's LSODA at the same tolerances, one subject after the other."""
    from scipy.integrate import solve_ivp

    for ka, cl, v, imax, ic50, kout, e0 in people.tolist():

        def slope(_: float, y: list[float]) -> tuple[float, float, float]:
            c = y[1] / v  # noqa: B023
            return -ka * y[0], ka * y[0] - cl * c, e0 * kout * (1 - imax * c / (ic50 + c)) - kout * y[2]  # noqa: B023

        solve_ivp(slope, (0.0, 144.0), [100.0, 0.0, e0], "LSODA", TIMES["w2"], rtol=1e-6, atol=1e-8)


@row("engine.w2_vs_lsoda", unit="x", bar=">= 300")
def w2_vs_lsoda() -> Measured:
    """CPU seconds per subject of SciPy's LSODA over ours, W2 at rtol 1e-6: median of five interleaved rounds."""
    n, few = 10_000, 40
    work, people = _work("w2", n), _people("w2", few)
    work(), _lsoda(people[:2])
    rounds = [(_cpu(lambda: _lsoda(people)) / few, _cpu(work) / n) for _ in range(5)]
    theirs, ours = np.median(rounds, axis=0)
    return Measured(float(theirs / ours), f"{1 / theirs:,.0f}/s against {1 / ours:,.0f}/s")


def _both(n: int = 40_960) -> tuple[Callable[[], Solution], Callable[[], Solution]]:
    return _work("w2", n, threads=1), _work("w2", n, threads=2)


@row("engine.two_threads_cpu", unit="x", bar="<= 1.05")
def two_threads_cpu() -> Measured:
    """CPU seconds of two threads over those of one, W2, 40,960 subjects: median of 11 interleaved ratios; same bits."""
    one, two = _both()
    if one().values.tobytes() != two().values.tobytes():
        return Measured(float("nan"), "the bits differ")
    ratios = [_cpu(two) / _cpu(one) for _ in range(11)]
    return Measured(float(np.median(ratios)), f"{min(ratios):.3f} to {max(ratios):.3f}; load {os.getloadavg()[0]:.1f}")


@row("engine.two_threads_wall", unit="x", bar=">= 1.7")
def two_threads_wall() -> Measured:
    """Seconds of one thread over those of two, W2, 40,960 subjects: best of 20 interleaved ratios."""
    one, two = _both()
    one(), two()
    ratios = []
    for _ in range(20):
        begin = time.perf_counter()
        one()
        middle = time.perf_counter()
        two()
        ratios.append((middle - begin) / (time.perf_counter() - middle))
    return Measured(
        max(ratios), f"median {np.median(ratios):.2f}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


_FIRST = """
import sys
import numpy as np
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule
text = load("w2")
row = np.array([[float(p.typical) for p in text.parameters.values()]])
zero = np.zeros(1)
doses = Schedule(zero, zero + 100.0, np.zeros(1, np.int32), zero, zero, zero.astype(bool))
found = solve(compiled(text), row, Events.shared(doses, 1), np.arange(145.0))
assert abs(found.values[0, 1, 48] / 19.0 - 1) < 1 and not found.status.any()
assert "sympy" not in sys.modules
"""


def _latency(folder: str) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    env = {**os.environ, "VTRIAL_CACHE": folder, "NUMBA_CACHE_DIR": f"{folder}/numba", "PYTHONPATH": str(ROOT)}
    begin, used = time.perf_counter(), _children()
    subprocess.run([sys.executable, "-c", _FIRST], env=env, check=True)
    return time.perf_counter() - begin, _children() - used


def _children() -> float:
    """CPU seconds of the processes that have ended."""
    said = os.times()
    return said.children_user + said.children_system


@row("engine.latency_cold", unit="s", bar="<= 6")
def latency_cold() -> Measured:
    """From the start of a process to the first result of W2, every cache of kernels empty: best of 3."""
    found = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            found.append(_latency(folder))
    wall, cpu = np.array(found).T
    return Measured(float(wall.min()), _said(wall, cpu))


def _said(wall: F64, cpu: F64) -> str:
    return (
        f"{wall.min():.2f} to {wall.max():.2f}; CPU {cpu.min():.2f} to {cpu.max():.2f}; load {os.getloadavg()[0]:.1f}"
    )


@row("engine.latency_warm", unit="s", bar="<= 2")
def latency_warm() -> Measured:
    """The same with warm caches, median of 7; sympy is not imported (else the row fails)."""
    with tempfile.TemporaryDirectory() as folder:
        _latency(folder)
        found = [_latency(folder) for _ in range(7)]
    wall, cpu = np.array(found).T
    return Measured(float(np.median(wall)), _said(wall, cpu))
