"""How far a run is: a bar on a terminal, plain lines in a log, JSON lines for machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from reports.desk import say

__all__ = ["Listener", "listening", "remaining", "span"]

EVERY = 5.0  # s between plain lines


class Listener(Protocol):
    """Told of a stage: blocks done, blocks in all (0: none to count), seconds left (None: not known to the teller)."""

    def __call__(self, stage: str, done: int, total: int, left: float | None = None, /) -> None: ...


@contextmanager
def listening(*, machine: bool, unit: str = "blocks") -> Iterator[Listener]:
    """A listener for what is at the other end of stderr; unit: what is counted.

    Blocks done at the first call of a stage were done before (a resumed run): they count in no rate of ours.
    """
    if machine:
        yield _Lines(_as_json, every=0.5)
    elif sys.stderr.isatty():
        with _bar(unit) as listener:
            yield listener
    else:
        yield _Lines(partial(_as_text, unit=unit), every=EVERY)


def remaining(done: int, total: int, seconds: float) -> float | None:
    """Seconds to go at the rate so far; None while nothing is done.

    >>> remaining(20, 100, 10.0)
    40.0
    """
    return (total - done) * seconds / done if done > 0 else None


def span(seconds: float | None) -> str:
    """Seconds in words.

    >>> span(3.21), span(75), span(7325), span(None)
    ('3.2 s', '1 min 15 s', '2 h 2 min', '?')
    """
    if seconds is None:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class _Lines:
    """Writes a line at the start and end of each stage and every few seconds between."""

    def __init__(self, write: Callable[[str, tuple[int, int], float, float | None], None], *, every: float) -> None:
        self._write, self._every = write, every
        self._stage, self._begin, self._before, self._last = "", 0.0, 0, 0.0

    def __call__(self, stage: str, done: int, total: int, left: float | None = None, /) -> None:
        now = time.monotonic()
        first = stage != self._stage
        if first:
            self._stage, self._begin, self._before = stage, now, done
        if not first and done < total and now - self._last < self._every:
            return
        self._last = now
        seconds = now - self._begin
        left = remaining(done - self._before, total - self._before, seconds) if left is None else left
        self._write(stage, (done, total), seconds, left)


def _as_text(stage: str, blocks: tuple[int, int], seconds: float, left: float | None, *, unit: str) -> None:
    done, total = blocks
    if total == 0:
        say.remark(stage)
        return
    pace = f", {span(left)} to go" if 0 < done < total else f" in {span(seconds)}" if done == total else ""
    say.remark(f"{stage}: {done} of {total} {unit}{pace}")


def _as_json(stage: str, blocks: tuple[int, int], seconds: float, left: float | None) -> None:
    values = {"event": "progress", "stage": stage, "done": blocks[0], "total": blocks[1]}
    say.machine({**values, "seconds": round(seconds, 3), "remaining": None if left is None else round(left, 3)})


@contextmanager
def _bar(unit: str) -> Iterator[Listener]:
    """rich's bar: blocks (or what is counted) done, their rate, time to go."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("{task.fields[pace]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def listener(stage: str, done: int, total: int, left: float | None = None, /) -> None:
            if stage not in tasks:
                for earlier, _, _ in tasks.values():
                    progress.update(earlier, total=1, completed=1)
                tasks[stage] = (progress.add_task(stage, total=total or None, pace=""), time.monotonic(), done)
            task, begin, before = tasks[stage]
            pace = _pace(unit, (done - before, total - before), time.monotonic() - begin, left)
            progress.update(task, completed=done, total=total or None, pace=pace)

        yield listener


def _pace(unit: str, blocks: tuple[int, int], seconds: float, left: float | None) -> str:
    """Rate and time to go, in words."""
    done, total = blocks
    if done >= total or seconds <= 0:
        return ""
    left = remaining(done, total, seconds) if left is None else left
    rate = f"{done / seconds:.1f} {unit}/s, " if done else ""
    return "" if left is None else f"{rate}{span(left)} to go"
