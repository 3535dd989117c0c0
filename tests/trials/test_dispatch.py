"""Where blocks may run, and what happens to a block that kills its worker."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pkpd.ground.errors import InputError, RunFailed
from trials import dispatch
from trials.dispatch import Mode, run_blocks


def test_flags_choose_one_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    assert Mode.choose() == Mode(kind="threads")
    assert Mode.choose(serial=True).kind == "serial"
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:8786")
    assert Mode.choose().address == "tcp://127.0.0.1:8786"
    assert Mode.choose(workers=3) == Mode(kind="workers", count=3)
    for flags in ({"serial": True, "workers": 2}, {"workers": 0}, {"workers": 1, "scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(InputError):
            Mode.choose(**flags)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("tcp://127.0.0.1:8786", True), ("tcp://localhost:8786", True), ("tcp://[::1]:8786", True),
        ("127.0.0.1:8786", True), ("tls://10.0.0.7:8786", True), ("tcp://10.0.0.7:8786", False),
        ("10.0.0.7:8786", False), ("tcp://node7:8786", False), ("ucx://node7:8786", False),
    ],
)  # fmt: skip
def test_plain_tcp_stays_on_this_machine(address: str, allowed: bool):
    """Anyone who reaches a plain scheduler runs code on it: only loopback or TLS, unless insecure is said."""
    if not allowed:
        with pytest.raises(InputError, match="insecure"):
            Mode.choose(scheduler=address)
    assert Mode.choose(scheduler=address, insecure=not allowed).address == address


def test_other_versions_are_refused():
    """One differing package, in the scheduler or in a worker, is named."""
    ours = {"python": "3.13.0", "numpy": "2.4.0"}
    dispatch._compare(ours, {"a": dict(ours)})
    with pytest.raises(InputError, match=r"worker b runs numpy 2.3.9, this is 2.4.0"):
        dispatch._compare(ours, {"a": ours, "worker b": {**ours, "numpy": "2.3.9"}})


def test_serial_calls_in_order_and_a_defect_is_said():
    seen: list[tuple[int, int]] = []
    run_blocks(_square, 2, [3, 1], mode=Mode(kind="serial"), on_done=lambda b, r: seen.append((b, r)), on_failed=_never)
    assert seen == [(3, 18), (1, 2)]
    with pytest.raises(RunFailed, match=r"block 5: ZeroDivisionError"):
        run_blocks(_broken, 0, [5], mode=Mode(kind="serial"), on_done=_never, on_failed=_never)


@pytest.mark.parametrize("kind", ["threads"])
def test_errors_keep_their_kind_through_dask(kind: str):
    """A user error raised by a block stays one (exit 2); a defect is a failed run (exit 3)."""
    with pytest.raises(InputError, match="nobody is eligible"):
        run_blocks(_refused, 0, [5], mode=Mode(kind=kind, count=1), on_done=_never, on_failed=_never)
    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        run_blocks(_broken, 0, [5], mode=Mode(kind=kind, count=1), on_done=_never, on_failed=_never)


def test_at_most_two_blocks_per_thread_are_under_way():
    """Forty blocks on one thread: whenever a result is handed over, at most three more have begun than were handed."""
    BEGUN.clear()
    most: list[int] = []

    def done(block: int, _: int) -> None:
        time.sleep(0.002)
        most.append(len(BEGUN) - len(most))

    run_blocks(_begin, None, list(range(40)), mode=Mode(kind="threads", count=1), on_done=done, on_failed=_never)
    assert sorted(BEGUN) == list(range(40))
    assert max(most) <= 4


def test_a_block_that_kills_its_workers_costs_only_itself():
    """SIGKILL from inside one block, again and again: it alone is lost."""
    done: dict[int, int] = {}
    lost: dict[int, str] = {}
    run_blocks(
        _deadly,
        3,
        list(range(6)),
        mode=Mode(kind="workers", count=1),
        on_done=done.__setitem__,
        on_failed=lost.__setitem__,
    )
    assert sorted(done) == [0, 1, 2, 4, 5]
    assert list(lost) == [3]
    assert "died" in lost[3]


def test_no_scheduler_is_a_user_error():
    with pytest.raises(InputError, match="no scheduler answers"):
        dispatch._connected("tcp://127.0.0.1:9")


BEGUN: list[int] = []


def _begin(_: object, block: int) -> int:
    from tests.trials import test_dispatch  # the module itself: a function may travel by value

    test_dispatch.BEGUN.append(block)
    return block


def _square(payload: int, block: int) -> int:
    return payload * block**2


def _broken(payload: int, block: int) -> float:
    return block / payload


def _refused(payload: int, block: int) -> None:
    raise InputError("nobody is eligible")


def _deadly(payload: int, block: int) -> int:
    if block == payload:
        os.kill(os.getpid(), signal.SIGKILL)
    return block


def _never(*_: object) -> None:
    raise AssertionError("must not be called")
