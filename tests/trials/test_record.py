"""What is on disk: whole files or none, found again as written."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError, RunFailed
from trials import record
from trials.block import simulate_block
from trials.dispatch import Mode
from trials.record import Block, Manifest, RunRecord
from trials.run import blocks_of, prepare, run
from trials.verify import verify


@pytest.fixture(scope="module")
def finished(study: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run(study, tmp_path_factory.mktemp("record") / "out", mode=Mode(kind="serial"), block_size=5, command="test")


def test_draws_survive_parquet(study: Path):
    """Identity, bit by bit, covariance and names included."""
    draws = prepare(study).draws
    again = record.read_draws(record.draws_bytes(draws))
    for field in dataclasses.fields(draws):
        assert np.array_equal(getattr(again, field.name), getattr(draws, field.name)), field.name


def test_manifest_survives_json(finished: RunRecord):
    plain = json.loads(json.dumps(finished.manifest.to_dict()))
    assert Manifest.from_dict(plain) == finished.manifest
    assert finished.manifest.state == "finished"
    assert finished.manifest.digest == finished.digest
    assert [(b.first, b.stop) for b in finished.manifest.blocks] == [(0, 5), (5, 10), (10, 12)]


def test_a_run_reads_back_as_it_was_simulated(finished: RunRecord, study: Path):
    outcomes = finished.outcomes
    assert len(outcomes) == 12 * 24
    assert outcomes["replicate"].is_monotonic_increasing
    assert finished.protocol == prepare(study).protocol
    assert finished.model.digest == prepare(study).variants["main"].inputs["model"]
    assert finished.counts["screening"]["enrolled"] == 12 * 24
    assert finished.counts["status"] == {"0": 12 * 24}
    assert set(finished.truth["replicate"]) == {0, 1, 2}
    assert finished.median is not None
    assert len(finished.median.outcomes) == 12 * 24
    assert len(finished.median.draws) == 1
    assert len(finished.decisions) == 12
    assert finished.curves.groupby("arm")["subject"].count().nunique() == 1


def test_verify_finds_the_same_numbers_and_sees_a_changed_one(finished: RunRecord, tmp_path: Path):
    import shutil

    assert verify(finished.directory, mode=Mode(kind="serial")).same
    copy = tmp_path / "copy"
    shutil.copytree(finished.directory, copy)
    path = copy / "blocks" / "00001.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "outcomes": "0" * 64}))
    verdict = verify(copy, blocks=2, mode=Mode(kind="serial"))
    assert (verdict.checked, verdict.different, verdict.same) == (2, (1,), False)
    (copy / "blocks" / "00000.outcomes.parquet").write_bytes(b"torn")
    assert verify(copy, mode=Mode(kind="serial")).damaged == (0,)
    model = copy / "model.yaml"
    model.write_text(model.read_text().replace("typical: 3 L/h", "typical: 4 L/h"))
    assert verify(copy, blocks=1, mode=Mode(kind="serial")).inputs == ("model",)


def test_a_full_disk_leaves_no_torn_file(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """ENOSPC in the middle of the run: RunFailed (exit 3), whole blocks only, and the run can be gone on with."""
    real, count = os.fsync, iter(range(1000))

    def full(handle: int) -> None:
        if next(count) >= 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out"
    with pytest.raises(RunFailed, match="--resume") as caught:
        run(study, out, mode=Mode(kind="serial"), block_size=2)
    assert caught.value.exit_code == 3
    assert not list(out.rglob("*.part"))
    done = RunRecord.read(out).done
    assert 0 < len(done) < 6
    assert all(record.finished(out, block) for block in done)
    monkeypatch.setattr(os, "fsync", real)
    assert run(study, out, mode=Mode(kind="serial"), resume=True).manifest.state == "finished"


def test_a_torn_block_is_not_taken_for_finished(study: Path, tmp_path: Path):
    block = Block(number=0, first=0, stop=1)
    result = simulate_block(prepare(study).variants["main"].payload, block)
    record.write_block(tmp_path, block, result)
    assert record.finished(tmp_path, block)
    assert record.finished(tmp_path, Block(number=0, first=0, stop=2)) is None
    path = tmp_path / "blocks" / "00000.analyses.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert record.finished(tmp_path, block) is None


def test_another_directory_is_refused(tmp_path: Path, finished: RunRecord, study: Path):
    with pytest.raises(InputError, match="holds no run"):
        RunRecord.read(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not a manifest"):
        RunRecord.read(tmp_path)
    with pytest.raises(InputError, match="holds a run already"):
        run(study, finished.directory)


def test_blocks_cover_every_replicate_once(study: Path):
    protocol = prepare(study, replicates=1000).protocol
    for size in (None, 1, 7, 1000, 5000):
        covered = [r for block in blocks_of(protocol, size) for r in block.replicates]
        assert covered == list(range(1000))
