"""`vtrial demo` and `vtrial run`: from a protocol to a run on disk and its report."""

from __future__ import annotations

import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from trials.dispatch import Mode
    from trials.record import RunRecord
    from trials.run import Progress

__all__ = ["Order", "Place", "cleared", "demo", "demo_protocol", "run"]

OURS = (
    "manifest.json", "protocol.yaml", "model.yaml", "draws.parquet", "posterior.parquet", "data.csv", "checks.json",
    "report.html", "error.txt",
)  # fmt: skip
FOLDERS = ("blocks", "median", "null", "others", "sensitivity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where blocks run, as the flags say."""

    workers: int | None = None
    scheduler: str | None = None
    serial: bool = False
    insecure: bool = False

    def mode(self) -> Mode:
        """The dispatcher's mode; InputError where the flags exclude each other."""
        from trials.dispatch import Mode

        return Mode.choose(serial=self.serial, workers=self.workers, scheduler=self.scheduler, insecure=self.insecure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything about a run but its protocol. block_size: replicates a block, None lets the planner choose; unsound:
    use a fit that broke its limits.
    """

    out: Path
    place: Place
    resume: bool = False
    force: bool = False
    block_size: int | None = None
    machine: bool = False
    unsound: bool = False


def demo_protocol() -> Path:
    """The demonstration's protocol: shipped inside the wheel, or the checkout's `examples/`.

    >>> demo_protocol().name
    'protocol.yaml'
    """
    room = Path(__file__).resolve().parents[1]
    shipped = room / "demo" / "protocol.yaml"
    return shipped if shipped.exists() else room.parent / "examples" / "theophylline_copd" / "protocol.yaml"


def demo(order: Order) -> int:
    """Run the demonstration. An unfinished demonstration in `out` is gone on with, a finished one made anew."""
    from trials.run import prepare

    protocol, resume, force = demo_protocol(), order.resume, order.force
    if (order.out / "manifest.json").exists() and not (resume or force):
        from trials.record import read_manifest

        found = read_manifest(order.out)
        same = found.key == prepare(protocol).key
        resume, force = same and found.state != "finished", same and found.state == "finished"
    changed = Order(
        out=order.out, place=order.place, resume=resume, force=force, block_size=order.block_size, machine=order.machine
    )
    return _run(protocol, changed, command="vtrial demo")


def run(protocol: Path, order: Order) -> int:
    """Run a protocol and write its report; 0, or RunPartial (4) after the report of what there is."""
    return _run(protocol, order, command=f"vtrial run {shlex.quote(str(protocol))}")


def _run(protocol: Path, order: Order, *, command: str) -> int:
    from pkpd.ground.errors import RunPartial
    from trials.record import RunRecord

    begin = time.monotonic()
    try:
        record = _simulated(protocol, order, command)
    except RunPartial:
        _reported(RunRecord.read(order.out), order, begin)
        raise
    _reported(record, order, begin)
    return guard.OK


def _simulated(protocol: Path, order: Order, command: str) -> RunRecord:
    from pkpd.ground.errors import InputError

    if order.block_size is not None and order.block_size < 1:
        raise InputError("must be >= 1", field="block-size", value=order.block_size, remedy="leave --block-size out")
    from trials.protocol import Protocol
    from trials.run import run as run_trial

    mode, read = order.place.mode(), Protocol.read(protocol)  # a bad protocol must not cost the run that is there
    if order.force and not order.resume:
        cleared(order.out)
    fitted = read.model.parameters
    with progress.listening(machine=order.machine) as heard:
        if fitted is not None:
            heard(f"posterior of {fitted.fit} given {fitted.data}: stored, or sampled now", 0, 0)
        return run_trial(
            protocol, order.out, mode=mode, resume=order.resume, block_size=order.block_size, command=command,
            unsound=order.unsound,
            on_progress=lambda now: heard("simulate", now.blocks_done, now.blocks, _left(now)),
        )  # fmt: skip


def _left(now: Progress) -> float | None:
    """Seconds to go, once the rate means something: the first blocks also compile."""
    return now.eta if now.eta >= 0 and 20 * now.blocks_done >= now.blocks else None


def cleared(out: Path) -> None:
    """Remove the run in `out`, and nothing else that may lie there."""
    from trials.record import read_manifest

    if not (out / "manifest.json").exists():
        return
    read_manifest(out)  # InputError where the file is not a run's
    for name in OURS:
        (out / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)


def _reported(record: RunRecord, order: Order, begin: float) -> None:
    """Write the report and say where it is."""
    from reports.desk.result import written

    path = written(record)
    seconds = time.monotonic() - begin
    if order.machine:
        values = {"state": record.manifest.state, "digest": record.digest, "seconds": round(seconds, 3)}
        say.machine({"event": "done", "report": str(path), "out": str(order.out), **values})
    else:
        say.result(f"report: {path}")
        say.remark(f"outcomes {record.digest[:16]}, {progress.span(seconds)}")
