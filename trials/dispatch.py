"""Map a pure function over blocks: here, on threads, on processes of this machine, or on a cluster. The only Dask file.

`run_blocks` keeps at most two blocks per thread under way, hands each result to the caller as it comes (only the
caller writes) and releases it. What a block gives does not depend on where it ran.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pkpd.ground.errors import InputError, RunFailed, VtrialError

__all__ = ["Mode", "run_blocks"]

LOOPBACK: Final = ("localhost", "ip6-localhost")
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
WAIT_FOR_WORKERS: Final = 30.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Where blocks run: `serial`, `threads` (Dask in this process), `workers` (processes here) or `scheduler`.

    count: threads or workers (0: one for each core); address: of a scheduler, `tcp://host:port` or `tls://...`;
    insecure: allow plain TCP to another machine.
    """

    kind: Literal["serial", "threads", "workers", "scheduler"] = "threads"
    count: int = 0
    address: str | None = None
    insecure: bool = False

    @classmethod
    def choose(
        cls, *, serial: bool = False, workers: int | None = None, scheduler: str | None = None, insecure: bool = False
    ) -> Mode:
        """The mode of the command line's flags; without any, DASK_SCHEDULER_ADDRESS, else threads of this process.

        Errors: InputError for two flags at once, workers < 1, or plain TCP to another machine without `insecure`.

        >>> Mode.choose(workers=2)
        Mode(kind='workers', count=2, address=None, insecure=False)
        """
        if serial + (workers is not None) + (scheduler is not None) > 1:
            remedy = "give one of serial, workers, scheduler"
            raise InputError("more than one place to run", field="mode", remedy=remedy)
        if serial:
            return cls(kind="serial")
        if workers is not None:
            if workers < 1:
                raise InputError("must be >= 1", field="workers", value=workers, remedy="--workers 2, or leave it out")
            return cls(kind="workers", count=workers)
        address = scheduler or os.environ.get("DASK_SCHEDULER_ADDRESS") or None
        if address is None:
            return cls()
        _refuse_open(address, insecure)
        return cls(kind="scheduler", address=address, insecure=insecure)


def run_blocks[B, R](
    function: Callable[[Any, B], R],
    payload: Any,
    blocks: Sequence[B],
    *,
    mode: Mode,
    on_done: Callable[[B, R], None],
    on_failed: Callable[[B, str], None],
    versions: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """`on_done(block, function(payload, block))` for each block, in whatever order they finish.

    on_failed: a block whose worker died again and again; versions: a function compared between here and each worker
    before the first block. Errors: InputError (address, versions), RunFailed (a block raised, the cluster was lost).
    """
    if not blocks:
        return
    if mode.kind == "serial":
        for block in blocks:
            on_done(block, _called(function, payload, block))
        return
    with _client(mode) as client:
        if mode.kind == "scheduler":
            _same_versions(client, versions)
        for block, result in _stream(client, function, payload, blocks):
            if isinstance(result, _Lost):
                on_failed(block, result.reason)
            else:
                on_done(block, result)


def _called[B, R](function: Callable[[Any, B], R], payload: Any, block: B) -> R:
    try:
        return function(payload, block)
    except VtrialError:
        raise
    except Exception as error:
        raise RunFailed(f"block {block}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Lost:
    reason: str


def _held(payload: Any) -> Any:
    """The payload as a task: kept on the workers, made again from the scheduler's copy when the holder dies."""
    return payload


def _stream(client: Any, function: Any, payload: Any, blocks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """(block, result) as they finish; two blocks per thread are under way, a result is released once handed over.

    Dask blames a worker's death on every task it held, so a lost block is tried once more with nobody else under way.
    """
    held = client.submit(_held, payload, key=f"vtrial-payload-{os.urandom(6).hex()}", pure=False)
    suspects = []
    for block, result in _flow(client, (function, held), blocks, 2 * max(1, sum(client.nthreads().values()))):
        if isinstance(result, _Lost):
            suspects.append(block)
        else:
            yield block, result
    yield from _flow(client, (function, held), suspects, 1)


def _flow(client: Any, call: tuple[Any, Any], blocks: Sequence[Any], width: int) -> Iterator[tuple[Any, Any]]:
    """(block, result) with at most `width` blocks under way."""
    from distributed import as_completed

    run = os.urandom(6).hex()
    waiting = iter(enumerate(blocks))
    under_way: dict[str, Any] = {}
    done = as_completed(loop=client.loop)

    def feed() -> None:
        for number, block in waiting:
            future = client.submit(_called, *call, block, key=f"vtrial-block-{run}-{number}", pure=False)
            under_way[future.key] = block
            done.add(future)
            return

    for _ in range(width):
        feed()
    for future in done:
        block, result = under_way.pop(future.key), _result(future)
        future.release()
        feed()
        yield block, result


def _result(future: Any) -> Any:
    """The value of a finished future, or `_Lost` where its workers died."""
    from distributed import KilledWorker

    if future.status == "cancelled":
        raise RunFailed("the cluster was lost; finished blocks are kept")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return _Lost("its worker died every time it was tried (out of memory, or killed)")
    if error is not None and not isinstance(error, VtrialError):
        raise RunFailed(f"{type(error).__name__}: {error}") from error
    return future.result()


@contextmanager
def _client(mode: Mode) -> Iterator[Any]:
    """A Dask client of the mode; nothing of it outlives the block, and Ctrl-C does not wait for what is under way."""
    from distributed import Client

    _quiet()
    cluster = None if mode.kind == "scheduler" else _cluster(mode)
    client = None
    try:
        client = _connected(mode.address) if cluster is None else Client(cluster)
        yield client
    except KeyboardInterrupt:
        _abandon(client, cluster)
        cluster = client = None
        raise
    finally:
        for thing in (client, cluster):
            if thing is not None:
                with suppress(Exception):
                    thing.close(timeout=10)


def _cluster(mode: Mode) -> Any:
    """A cluster of this machine, on the loopback interface, without dashboard or memory limit."""
    import dask
    from distributed import LocalCluster

    count = mode.count or os.cpu_count() or 1
    shape: dict[str, Any] = {"processes": False, "n_workers": 1, "threads_per_worker": count}
    if mode.kind == "workers":
        shape = {"processes": True, "n_workers": count, "threads_per_worker": 1, "host": "127.0.0.1"}
    settings = {
        "distributed.nanny.pre-spawn-environ": ONE_THREAD,
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.allowed-failures": 1,  # a lost block is tried again alone, see `_stream`
    }
    with dask.config.set(settings):
        here = "127.0.0.1:0"  # without an address Dask's HTTP server takes port 8787 of every interface
        quiet = {"dashboard_address": here, "worker_dashboard_address": here, "silence_logs": logging.CRITICAL}
        return LocalCluster(memory_limit=0, **quiet, **shape)


def _connected(address: str | None) -> Any:
    from distributed import Client

    try:
        with socket.create_connection(_host_and_port(str(address)), timeout=3):
            pass  # a refused connection is known at once, Dask would go on trying
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        problem = f"no scheduler answers ({type(error).__name__})"
        raise InputError(problem, field="scheduler", value=address, remedy="start one: dask scheduler") from None
    try:
        client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS)
    except TimeoutError:
        client.close(timeout=2)
        raise InputError("the scheduler has no workers", field="scheduler", value=address) from None
    return client


def _host_and_port(address: str) -> tuple[str, int]:
    """`tcp://host:port` as (host, port); 8786 where no port is given."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    return parts.hostname or "", parts.port or 8786


def _same_versions(client: Any, versions: Callable[[], Mapping[str, str]]) -> None:
    """Refuse a scheduler or worker that runs other versions than we do, before the first block."""
    found = client.get_versions(check=False)
    ours = found["client"]["packages"]
    theirs = {"the scheduler": {name: found["scheduler"]["packages"].get(name) for name in ("python", "distributed")}}
    _compare({name: ours[name] for name in ("python", "distributed")}, theirs)
    try:
        workers = client.run(versions)
    except Exception as error:
        problem = f"a worker cannot load this package ({type(error).__name__}: {error})"
        raise InputError(problem, field="scheduler", remedy="install the same vtrial on every worker") from None
    _compare(versions(), {f"worker {name}": found for name, found in workers.items()})


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Mapping[str, Any]]) -> None:
    for place, found in theirs.items():
        for name, version in ours.items():
            if found.get(name) != version:
                problem = f"{place} runs {name} {found.get(name)}, this is {version}"
                raise InputError(problem, field="scheduler", remedy="install the same versions everywhere")


def _refuse_open(address: str, insecure: bool) -> None:
    """Plain TCP leaves this machine only when asked to: anyone who reaches such a scheduler runs code on it."""
    if insecure or address.startswith(("tls://", "wss://")):
        return
    host = _host(address)
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host not in LOOPBACK:
        problem = "is plain TCP to another machine"
        remedy = "use tls://, or --insecure on a closed network"
        raise InputError(problem, field="scheduler", value=address, remedy=remedy)


def _host(address: str) -> str:
    with suppress(ValueError):
        return _host_and_port(address)[0]
    return address


def _abandon(client: Any, cluster: Any) -> None:
    """Stop at once: kill our worker processes, leave threads to die with the process."""
    for nanny in getattr(cluster, "workers", {}).values():
        with suppress(Exception):
            nanny.process.process.kill()
    if client is not None and cluster is None:
        with suppress(Exception):
            client.close(timeout=1)


def _quiet() -> None:
    """Dask's own log lines are not for the user of this command."""
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
