"""The same numbers wherever and however a trial is run, and after whatever ended it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pkpd.ground.errors import InputError
from trials.dispatch import Mode
from trials.record import RunRecord
from trials.run import Progress, run

ROOT = Path(__file__).parents[2]
QUIET = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
RUNNER = """
import sys, time
from trials.dispatch import Mode
from trials.run import run
run(sys.argv[1], sys.argv[2], mode=Mode(kind=sys.argv[3], count=1), block_size=1, on_progress=lambda p: time.sleep(0.05))
"""


@pytest.fixture(scope="module")
def reference(study: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Serial, blocks of four replicates."""
    return run(study, tmp_path_factory.mktemp("reference") / "out", mode=Mode(kind="serial"), block_size=4)


def same(found: RunRecord, expected: RunRecord) -> bool:
    """Outcome tables bit by bit (digest), analyses, truth and curves too; of the side run as well."""
    assert found.manifest.state == "finished"
    assert found.median is not None
    assert expected.median is not None
    for name in ("analyses", "truth", "curves"):
        mine, theirs = (getattr(r, name) for r in (found, expected))
        order = [c for c in ("replicate", "analysis", "endpoint", "contrast", "arm", "subject", "time") if c in mine]
        mine, theirs = (t.sort_values(order, kind="stable").reset_index(drop=True) for t in (mine, theirs))
        assert mine.equals(theirs), name
    return found.digest == expected.digest and found.median.digest == expected.median.digest


@pytest.mark.parametrize("size", [1, 5, 12])
def test_block_size_changes_nothing(study: Path, tmp_path: Path, reference: RunRecord, size: int):
    assert same(run(study, tmp_path / "out", mode=Mode(kind="serial"), block_size=size), reference)


def test_threads_change_nothing(study: Path, tmp_path: Path, reference: RunRecord):
    told: list[Progress] = []
    found = run(study, tmp_path / "out", mode=Mode(kind="threads", count=2), block_size=3, on_progress=told.append)
    assert same(found, reference)
    assert [p.blocks_done for p in told] == list(range(1, 9))
    assert told[-1].replicates_done == told[-1].replicates == 24


@pytest.mark.parametrize("count", [1, 2])
def test_processes_change_nothing(study: Path, tmp_path: Path, reference: RunRecord, count: int):
    assert same(run(study, tmp_path / "out", mode=Mode(kind="workers", count=count), block_size=5), reference)


def test_a_scheduler_started_elsewhere_changes_nothing(study: Path, tmp_path: Path, reference: RunRecord):
    """`dask scheduler` and two `dask worker` processes on loopback, as a user would start them."""
    with cluster(tmp_path, workers=2) as address:
        mode = Mode.choose(scheduler=address)
        assert same(run(study, tmp_path / "out", mode=mode, block_size=3), reference)


@pytest.mark.parametrize("kind", ["serial", "threads"])
def test_a_killed_run_is_gone_on_with(study: Path, tmp_path: Path, reference: RunRecord, kind: str):
    """SIGKILL at about half of the blocks; --resume keeps the finished ones and gives the numbers of an unbroken run."""
    out = tmp_path / "out"
    started = subprocess.Popen([sys.executable, "-c", RUNNER, str(study), str(out), kind], env=QUIET)
    try:
        wait_for(lambda: len(list(out.glob("blocks/*.json"))) >= 6, started)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait(10)
    before = {path: path.stat().st_mtime_ns for path in out.glob("blocks/*.json")}
    assert 6 <= len(before) < 12
    found = run(study, out, mode=Mode(kind="serial"), resume=True)
    assert same(found, reference)
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())


def test_another_run_is_not_gone_on_with(study: Path, write_study, tmp_path: Path):
    """A changed seed is another run key: exit 2, and what is there stays."""
    out = tmp_path / "out"
    run(study, out, mode=Mode(kind="serial"), block_size=6, replicates=6)
    digest = RunRecord.read(out).digest
    other = write_study(("seed: 11", "seed: 12"), ("replicates: 12", "replicates: 6"))
    with pytest.raises(InputError, match=r"holds another run \(.*protocol.* changed\)") as caught:
        run(other, out, mode=Mode(kind="serial"), resume=True)
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="holds no run"):
        run(study, tmp_path / "nothing", mode=Mode(kind="serial"), resume=True)
    assert RunRecord.read(out).digest == digest


@pytest.mark.parametrize("kind", ["serial", "threads"])
def test_ctrl_c_ends_within_two_seconds(study: Path, tmp_path: Path, kind: str):
    """SIGINT to a running process: it is gone within 2 s, its blocks stay, the manifest says interrupted.

    The best of three tries: the bound is of the program, not of what else the machine is doing.
    """
    for number in range(3):
        out = tmp_path / f"out{number}"
        started, seconds = stopped(study, out, kind)
        if seconds < 2:
            break
    assert seconds < 2
    assert started.returncode in (130, -signal.SIGINT, 1)
    found = RunRecord.read(out)
    assert found.manifest.state == "interrupted"
    assert 3 <= len(found.done) < 12
    assert run(study, out, mode=Mode(kind="serial"), resume=True).manifest.state == "finished"


def stopped(study: Path, out: Path, kind: str) -> tuple[subprocess.Popen[bytes], float]:
    """A run that got SIGINT after three blocks, and the seconds it took to end."""
    started = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(study), str(out), kind], env=QUIET, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: len(list(out.glob("blocks/*.json"))) >= 3, started)
        started.send_signal(signal.SIGINT)
        begin = time.monotonic()
        started.wait(20)
        return started, time.monotonic() - begin
    finally:
        started.kill()


def wait_for(true, started: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert started.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < end, "the run did not get that far"
        time.sleep(0.005)


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """A scheduler and workers as separate processes on loopback; ended by their process ids."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    scheduler = [*dask, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in [scheduler, *[[*worker, "--host", "127.0.0.1", "--no-nanny"]] * workers]:
            started.append(
                subprocess.Popen(command, cwd=folder, env=QUIET, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        wait_for(lambda: listening(port), started[0])
        yield address
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(10)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
