"""The trials room: what the demonstration's simulation costs, and what cutting it into blocks adds."""

from __future__ import annotations

import tempfile
import time
from functools import cache
from pathlib import Path

from tests.bench.harness import Measured, row
from trials.block import simulate_block
from trials.dispatch import Mode, run_blocks
from trials.record import Block, BlockResult, write_block
from trials.run import blocks_of, prepare
from trials.setting import Payload

ROOT = Path(__file__).parents[2]
FITTED = "parameters: {fit: theophylline, data: theophylline.csv, take: [CL, V]}"


@cache
def _payload() -> Payload:
    """The demo's main run on published parameters (no sampler), kernels compiled and warm."""
    with tempfile.TemporaryDirectory() as name:
        for file in (ROOT / "examples" / "theophylline_copd").glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            assert file.name != "protocol.yaml" or FITTED in text
            Path(name, file.name).write_text(text.replace(FITTED, "parameters: published"), encoding="utf-8")
        payload = prepare(Path(name, "protocol.yaml")).variants["main"].payload
    simulate_block(payload, Block(number=0, first=0, stop=1))
    return payload


@row("trials.demo_seconds", unit="s", bar="<= 15")
def demo_seconds() -> Measured:
    """5 arms x 60 x 200 replicates with 20 imputations, potential outcomes and kept curves; threads of this process."""
    payload = _payload()
    blocks = blocks_of(payload.protocol)
    done: list[BlockResult] = []
    wall, cpu = time.perf_counter(), time.process_time()
    run_blocks(
        simulate_block, payload, blocks, mode=Mode(), on_done=lambda _, result: done.append(result), on_failed=_lost
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = payload.protocol.replicates * payload.protocol.subjects
    return Measured(wall, f"{cpu:.1f} s CPU for {rows} subjects in {len(done)} blocks, {rows / cpu:.0f} per CPU-second")


@row("trials.block_overhead", unit="percent", bar="<= 5")
def block_overhead() -> Measured:
    """CPU that 1,000 blocks cost beyond their work (Dask, result written with fsync), over the CPU of that work.

    Measured as 1,000 blocks that only hand over a finished result, against the work of a block of the default size.
    """
    payload = _payload()
    block = blocks_of(payload.protocol)[20]
    begin = time.process_time()
    result = simulate_block(payload, block)
    work = time.process_time() - begin
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        empty = [Block(number=n, first=n, stop=n + 1) for n in range(1000)]
        begin = time.process_time()
        run_blocks(_handed, result, empty, mode=Mode(), on_done=lambda b, r: write_block(out, b, r), on_failed=_lost)
        extra = (time.process_time() - begin) / len(empty)
    return Measured(100 * extra / work, f"{1e3 * extra:.2f} ms of {1e3 * work:.0f} ms CPU per block")


def _handed(result: BlockResult, block: Block) -> BlockResult:
    return result


def _lost(block: Block, reason: str) -> None:
    raise RuntimeError(f"{block}: {reason}")
