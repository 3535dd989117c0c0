"""Run blocks of a finished run again from what it left on disk, and compare the SHA-256 of their tables: outcomes, and
those of the truth, of the chain from comedication to dose and of what else is asked beside the trial itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pkpd.ground import digest
from pkpd.posterior import draws_digest
from trials import record
from trials.block import Item, simulate_item
from trials.dispatch import Mode, run_blocks
from trials.record import Block, BlockResult, RunRecord
from trials.run import items, payloads_of

__all__ = ["Verdict", "verify"]

TABLES: Final = ("benefit", "chain", "laboratory", "samples", "truth")
"""Compared besides the outcomes; analyses and looks follow from these, curves are shown only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found. checked: blocks run again; different: their numbers where a table differs; damaged: blocks whose
    files are not as they were written; inputs: names of stored inputs that do not match the manifest's hashes; tables:
    names of the tables that differ; compared: of those compared.
    """

    checked: int
    different: tuple[int, ...]
    damaged: tuple[int, ...]
    inputs: tuple[str, ...]
    tables: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether every block gave the numbers on disk."""
        return self.checked > 0 and not (self.different or self.damaged or self.inputs)


def verify(
    directory: str | Path,
    *,
    blocks: int | None = None,
    mode: Mode | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Run the first `blocks` finished blocks again (default all) and compare. InputError where there is no run."""
    run = RunRecord.read(directory)
    chosen = run.done[:blocks]
    stored = {block: record.finished(run.directory, block) for block in chosen}
    sound = [block for block, found in stored.items() if found is not None]
    different: list[int] = []
    checked: list[int] = []
    unlike: set[str] = set()
    seen: set[str] = {"outcomes"}

    def compare(item: Item, result: BlockResult) -> None:
        found = stored[item[1]]
        checked.append(item[1].number)
        wrong = {"outcomes"} if found is None or found["outcomes"] != result.outcomes else set()
        names = [name for name in TABLES if name in result.tables or name in (found or {}).get("files", ())]
        wrong |= {name for name in names if _differs(run, item[1], name, result.tables.get(name))}
        seen.update(names)
        if wrong:
            different.append(item[1].number)
            unlike.update(wrong)
        if on_progress:
            on_progress(len(checked), len(sound))

    def lost(item: Item, _: str) -> None:
        different.append(item[1].number)

    run_blocks(simulate_item, payloads_of(run), items(sound), mode=mode or Mode(), on_done=compare, on_failed=lost,
               versions=record.versions)  # fmt: skip
    return Verdict(
        checked=len(checked), different=tuple(sorted(different)), damaged=_numbers(stored), inputs=_changed(run),
        tables=tuple(sorted(unlike)), compared=tuple(sorted(seen)),
    )  # fmt: skip


def _differs(run: RunRecord, block: Block, name: str, again: bytes | None) -> bool:
    """Whether a table of a block, run again, is not the one on disk; rows in the order they were written."""
    path = run.directory / "blocks" / f"{block.number:05d}.{name}.parquet"
    if again is None or not path.exists():
        return True
    return _digest(path.read_bytes()) != _digest(again)


def _digest(data: bytes) -> str:
    """SHA-256 of the canonical table of a Parquet file, its rows numbered."""
    import io

    import pandas as pd

    frame = pd.read_parquet(io.BytesIO(data))
    return digest.of_table(frame.assign(**{"row number": range(len(frame))}), by=("row number",))


def _numbers(stored: Mapping[Block, object]) -> tuple[int, ...]:
    return tuple(sorted(block.number for block, found in stored.items() if found is None))


def _changed(run: RunRecord) -> tuple[str, ...]:
    """Inputs beside the manifest whose hash is not the one it records, and the key itself."""
    inputs = run.manifest.inputs
    found: dict[str, object] = {"model": run.model.digest, "draws": draws_digest(run.draws)}
    if "others" in inputs:
        found["others"] = {name: model.digest for name, model in run.others.items()}
    wrong = [name for name, value in found.items() if inputs.get(name) != value]
    return (*wrong, *(("key",) if digest.of_json(inputs) != run.manifest.key else ()))
