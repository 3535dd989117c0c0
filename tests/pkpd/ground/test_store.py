"""Files. Witness: the mode bits of the file system, /dev/full, and what is left in the directory after a failure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pkpd.ground import store
from pkpd.ground.errors import InputError, RunFailed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VTRIAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_private(root: Path) -> None:
    path = store.cache_dir("kernels")
    assert path == root / "kernels"
    assert [stat.S_IMODE(p.stat().st_mode) for p in (root, path)] == [0o700, 0o700]


def test_a_readable_directory_of_ours_is_made_private(root: Path) -> None:
    root.mkdir(mode=0o755)
    assert stat.S_IMODE(store.cache_dir("kernels").parent.stat().st_mode) == 0o700


def test_a_directory_others_may_write_is_refused(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(InputError, match="written by others"):
        store.cache_dir("kernels")


def test_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.mkdir(mode=0o700)
    (root / "kernels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link"):
        store.cache_dir("kernels")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "block.parquet"
    store.write_atomic(path, b"one")
    store.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["block.parquet"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "block.parquet"
    store.write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailed, match="No space left"):
        store.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["block.parquet"]


def test_a_held_lock_is_a_failure_not_a_hang(tmp_path: Path) -> None:
    import threading

    held, release = threading.Event(), threading.Event()

    def holder() -> None:
        with store.locked(tmp_path / "x"):
            held.set()
            release.wait(10)

    thread = threading.Thread(target=holder)
    thread.start()
    held.wait(10)
    with pytest.raises(RunFailed, match="another process"), store.locked(tmp_path / "x", timeout=0.05):
        pass
    release.set()
    thread.join()
