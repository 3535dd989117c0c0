"""How a command ends: every error becomes one message and an exit code, never a traceback on the screen."""

from __future__ import annotations

import errno
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import say

if TYPE_CHECKING:
    from pkpd.ground.errors import VtrialError

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "OK", "PARTIAL", "exit_code"]

OK, BAD_INPUT, FAILED, PARTIAL, INTERRUPTED = 0, 2, 3, 4, 130


def exit_code(command: Callable[[], int], *, out: Path | None, machine: bool) -> int:
    """Run a command; 0 ok, 2 bad input, 3 failed, 4 partial, 130 interrupted.

    out: directory of the run, where an unexpected error leaves `error.txt`; machine: say errors as JSON.
    """
    try:
        return command()
    except _ours() as error:
        return _ended(error.exit_code, str(error), machine=machine, error=error)
    except KeyboardInterrupt:
        return _ended(INTERRUPTED, _interrupted(out), machine=machine)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _ended(FAILED, _unexpected(error, out), machine=machine)


def _ours() -> tuple[type[VtrialError], ...]:
    """Errors raised on purpose; none where another package took the name `pkpd` (`doctor` must be able to say so)."""
    try:
        from pkpd.ground.errors import VtrialError
    except ImportError:
        return ()
    return (VtrialError,)


def _ended(code: int, message: str, *, machine: bool, error: object = None) -> int:
    if machine:
        parts = {name: getattr(error, name, None) for name in ("file", "line", "column", "field", "value", "remedy")}
        known = {name: value for name, value in parts.items() if value is not None}
        say.machine({"event": "error", "exit_code": code, "message": message, **known})
    say.error(message)
    return code


def _interrupted(out: Path | None) -> str:
    kept = (
        f"finished blocks are kept in {out}; the same command with --resume goes on" if _a_run(out) else "no run begun"
    )
    return f"interrupted: {kept}"


def _a_run(out: Path | None) -> bool:
    return out is not None and (out / "manifest.json").exists()


def _unexpected(error: Exception, out: Path | None) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({error.filename or 'no file named'}). Remedy: free some space, then --resume"
    where = _kept(out, "".join(traceback.format_exception(error)))
    kind, words = type(error).__name__, str(error).splitlines() or ["no message"]
    return f"unexpected {kind}: {words[0][:200]}. This is a defect; the traceback is in {where}"


def _kept(out: Path | None, text: str) -> Path:
    """Where the traceback was written: `error.txt` of the run, else a new file of the temporary directory."""
    if out is not None and out.is_dir():
        try:
            (out / "error.txt").write_text(text, encoding="utf-8")
            return out / "error.txt"
        except OSError:
            pass
    with tempfile.NamedTemporaryFile(
        "w", prefix="vtrial-", suffix="-error.txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    return Path(file.name)
