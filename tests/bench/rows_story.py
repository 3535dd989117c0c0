"""The demonstration as a visitor meets it: seconds and memory of the first and second run, and of small commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from tests.bench.harness import Measured, row

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "tests" / "story" / "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One command: wall seconds, peak of the resident memory of it and its children [GB], exit code, last line said."""

    seconds: float
    peak: float
    code: int
    said: str


def _ran(arguments: list[str], environment: dict[str, str] | None = None) -> Ran:
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "reports.cli", *arguments],
            cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        peaks = [0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - start
        watcher.join()
        said.seek(0)
        lines = said.read().splitlines() or [""]
    return Ran(seconds=seconds, peak=max(peaks), code=code, said=lines[-1])


def _watch(pid: int, peaks: list[float]) -> None:
    """Every 50 ms the resident memory of a process and its children, until it ends."""
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            family = [process, *process.children(recursive=True)]
            peaks.append(sum(one.memory_info().rss for one in family) / 1e9)
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        return


@cache
def _demo_twice() -> tuple[Ran, Ran]:
    """The demonstration with empty caches, then again with what the first run left."""
    with tempfile.TemporaryDirectory(prefix="vtrial-bench-") as folder:
        caches = {
            "VTRIAL_CACHE": f"{folder}/cache", "NUMBA_CACHE_DIR": f"{folder}/numba",
            "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor", "MPLCONFIGDIR": f"{folder}/mpl",
        }  # fmt: skip
        first = _ran(["demo", "--out", f"{folder}/first"], caches)
        second = _ran(["demo", "--out", f"{folder}/second"], caches)
        for out in ("first", "second"):
            assert Path(folder, out, "report.html").stat().st_size > 10_000, (first.said, second.said)
    return first, second


def _sound(ran: Ran, code: int = 0) -> Ran:
    if ran.code != code:
        raise RuntimeError(f"exit {ran.code}, expected {code}: {ran.said}")
    return ran


@row("demo.first_seconds", unit="s", bar="<= 120", command="uv run vtrial demo (all caches empty)")
def first_seconds() -> Measured:
    """Fit, compilation, simulation and report."""
    ran = _sound(_demo_twice()[0])
    return Measured(ran.seconds, ran.said)


@row("demo.second_seconds", unit="s", bar="<= 30", command="uv run vtrial demo (again, another --out)")
def second_seconds() -> Measured:
    """Posterior and kernels stored; everything is simulated again."""
    ran = _sound(_demo_twice()[1])
    return Measured(ran.seconds, ran.said)


@row("demo.peak_memory", unit="GB", bar="<= 2")
def peak_memory() -> Measured:
    """Resident memory of the process and its children, the larger of both runs."""
    first, second = _demo_twice()
    return Measured(max(first.peak, second.peak), f"first {first.peak:.2f}, second {second.peak:.2f}")


@row("cli.help_seconds", unit="s", bar="<= 0.5", command="uv run vtrial --help (warm)")
def help_seconds() -> float:
    """Median of five."""
    return sorted(_sound(_ran(["--help"])).seconds for _ in range(5))[2]


@row("cli.bad_input_seconds", unit="s", bar="<= 2", command="uv run vtrial run BAD.yaml (a negative dose)")
def bad_input_seconds() -> float:
    """The slowest of five processes that refuse a protocol."""
    with tempfile.TemporaryDirectory() as folder:
        for source in GOOD.iterdir():
            text = source.read_text(encoding="utf-8").replace("amount: 200 mg", "amount: -200 mg")
            Path(folder, source.name).write_text(text, encoding="utf-8")
        return max(_sound(_ran(["run", f"{folder}/protocol.yaml"]), code=2).seconds for _ in range(5))
