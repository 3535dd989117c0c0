"""A run opens no door to other machines (witness: the listening sockets the system lists)."""

from __future__ import annotations

import os

import psutil
import pytest

from trials.dispatch import Mode, run_blocks


def _listening(_: object, pid: str) -> list[str]:
    """Addresses on which the process `pid` and its children listen."""
    family = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children(recursive=True)]
    sockets = [socket for process in family for socket in process.net_connections(kind="inet")]
    return [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]


@pytest.mark.parametrize(
    "mode", [Mode(kind="threads", count=1), Mode(kind="workers", count=1)], ids=lambda mode: mode.kind
)
def test_only_the_loopback_interface_listens(mode: Mode) -> None:
    found: list[str] = []
    me = str(os.getpid())
    run_blocks(_listening, None, [me], mode=mode, on_done=lambda _, got: found.extend(got), on_failed=_no)
    assert found
    assert set(found) <= {"127.0.0.1", "::1"}


def test_two_runs_at_once_do_not_meet() -> None:
    """A second cluster in the same process starts while the first is up: no port is fixed."""
    modes = (Mode(kind="threads", count=1), Mode(kind="threads", count=1))
    found: list[int] = []

    def inner(_: int, got: int) -> None:
        run_blocks(_twice, None, [got], mode=modes[1], on_done=lambda _, x: found.append(x), on_failed=_no)

    run_blocks(_twice, None, [1], mode=modes[0], on_done=inner, on_failed=_no)
    assert found == [4]


def _twice(_: object, block: int) -> int:
    return 2 * block


def _no(*_: object) -> None:
    pytest.fail("a block was lost")
