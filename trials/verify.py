"""Run blocks of a finished run again from what it left on disk, and compare the SHA-256 of their outcome tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pkpd.ground import digest
from pkpd.posterior import draws_digest
from trials import record
from trials.block import Item, simulate_item
from trials.dispatch import Mode, run_blocks
from trials.record import Block, BlockResult, RunRecord
from trials.run import items, payloads_of

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found. checked: blocks run again; different: their numbers where the outcomes differ; damaged: blocks
    whose files are not as they were written; inputs: names of stored inputs that do not match the manifest's hashes.
    """

    checked: int
    different: tuple[int, ...]
    damaged: tuple[int, ...]
    inputs: tuple[str, ...]

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

    def compare(item: Item, result: BlockResult) -> None:
        found = stored[item[1]]
        checked.append(item[1].number)
        if found is None or found["outcomes"] != result.outcomes:
            different.append(item[1].number)
        if on_progress:
            on_progress(len(checked), len(sound))

    def lost(item: Item, _: str) -> None:
        different.append(item[1].number)

    run_blocks(simulate_item, payloads_of(run), items(sound), mode=mode or Mode(), on_done=compare, on_failed=lost,
               versions=record.versions)  # fmt: skip
    return Verdict(
        checked=len(checked), different=tuple(sorted(different)), damaged=_numbers(stored), inputs=_changed(run)
    )


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
