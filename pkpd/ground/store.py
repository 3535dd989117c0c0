"""Files: a private cache directory, atomic writes, locks."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pkpd.ground.errors import InputError, RunFailed

__all__ = ["cache_dir", "locked", "write_atomic"]


def cache_dir(kind: str) -> Path:
    """`<user cache>/vtrial/<kind>`, made with mode 0700. `VTRIAL_CACHE` names another root.

    Generated code is imported from here, so a directory that is not ours, or that others may write, is refused.
    """
    root = os.environ.get("VTRIAL_CACHE")
    if not root:
        from platformdirs import user_cache_path

        root = str(user_cache_path("vtrial"))
    path = Path(root).expanduser().absolute()
    for part in (path, path / kind):
        _private(part)
    return path / kind


def _private(path: Path) -> None:
    remedy = "set VTRIAL_CACHE to a directory of your own (mode 0700)"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = path.stat(follow_symlinks=False)
    except OSError as error:
        raise InputError(f"the cache directory cannot be made ({error.strerror})", file=path, remedy=remedy) from None
    if not stat.S_ISDIR(seen.st_mode):
        raise InputError("the cache directory is a link or a file", file=path, remedy=remedy)
    if hasattr(os, "getuid") and seen.st_uid != os.getuid():
        raise InputError("the cache directory belongs to another user", file=path, value=seen.st_uid, remedy=remedy)
    if os.name == "posix" and seen.st_mode & 0o077:
        if seen.st_mode & 0o022:
            mode = oct(seen.st_mode & 0o777)
            raise InputError("the cache directory may be written by others", file=path, value=mode, remedy=remedy)
        path.chmod(0o700)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none: temporary name beside it, fsync, rename.

    Errors: RunFailed (disk full, no permission); no torn or temporary file is left.
    """
    path = Path(path)
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise RunFailed(f"{path}: cannot be written ({error.strerror or error})") from error
        raise


def _umask() -> int:
    """The umask, without the race of setting it where the system tells."""
    with suppress(OSError, StopIteration, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077


@contextmanager
def locked(path: str | Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold the lock file `path`.lock; RunFailed after `timeout` seconds."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(f"{path}.lock", timeout=timeout):
            yield
    except Timeout:
        raise RunFailed(f"{path}: another process holds the lock since {timeout:.0f} s") from None
