"""The one bench harness: a figure the project promises is a row, and a row is a function.

`python -m tests.bench [NAME ...] [--json FILE]` discovers `tests/bench/rows_*.py`, measures the rows and prints
name, value, unit, bar, whether it holds, the command and the versions it was measured with.
"""

from __future__ import annotations

import importlib
import operator
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Bar", "Measured", "Result", "Row", "discover", "measure", "row", "rows", "select", "versions"]

HERE = Path(__file__).parent
PACKAGES = ("numpy", "scipy", "pandas", "numba", "pymc", "pytensor", "nutpie", "arviz", "dask", "pyarrow")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "==": operator.eq
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a value must satisfy: `<= 1e-7`, `>= 400`, `0.0473 .. 0.0527`. A NaN satisfies no bar."""

    text: str
    holds: Callable[[float], bool]

    @classmethod
    def parse(cls, text: str) -> Bar:
        """Read a bar; ValueError on anything that is not `OP NUMBER` or `LOW .. HIGH`.

        >>> Bar.parse("<= 2").holds(1.5), Bar.parse("0 .. 1").holds(1.5), Bar.parse("<= 2").holds(float("nan"))
        (True, False, False)
        """
        between = re.fullmatch(r"\s*(\S+)\s*\.\.\s*(\S+)\s*", text)
        if between:
            low, high = float(between[1]), float(between[2])
            return cls(text=text, holds=lambda value: low <= value <= high)
        single = re.fullmatch(r"\s*(<=|>=|==|<|>)\s*(\S+)\s*", text)
        if not single:
            raise ValueError(f"a bar reads '<= 1e-7' or '0.04 .. 0.06', got {text!r}")
        compare, limit = COMPARISONS[single[1]], float(single[2])
        return cls(text=text, holds=lambda value: compare(value, limit))


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured value with a word on how it was measured."""

    value: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A figure to measure: `name`, `unit`, the `bar` it must hold, the `command` that reproduces it."""

    name: str
    unit: str
    bar: Bar
    command: str
    measure: Callable[[], float | Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A measured row. `value` is NaN and `holds` False where the measurement itself failed; `note` then says why."""

    name: str
    value: float
    unit: str
    bar: str
    holds: bool
    command: str
    note: str
    seconds: float
    versions: dict[str, str]


_ROWS: dict[str, Row] = {}


def row(
    name: str, *, unit: str, bar: str, command: str | None = None
) -> Callable[[Callable[[], float | Measured]], Callable[[], float | Measured]]:
    """Register the decorated function as a bench row; a name may be used once."""

    def register(function: Callable[[], float | Measured]) -> Callable[[], float | Measured]:
        if name in _ROWS and _ROWS[name].measure.__module__ != function.__module__:
            raise ValueError(f"bench row {name!r} is defined in {_ROWS[name].measure.__module__} already")
        run = command or f"uv run --group dev python -m tests.bench {name}"
        _ROWS[name] = Row(name=name, unit=unit, bar=Bar.parse(bar), command=run, measure=function)
        return function

    return register


def discover(folder: Path = HERE) -> tuple[Row, ...]:
    """Import every `rows_*.py` of `folder` (the tests.bench package) and return all rows in order of name."""
    for path in sorted(folder.glob("rows_*.py")):
        importlib.import_module(f"tests.bench.{path.stem}")
    return rows()


def rows() -> tuple[Row, ...]:
    """All rows registered so far, in order of name."""
    return tuple(_ROWS[name] for name in sorted(_ROWS))


def select(found: Iterable[Row], names: Iterable[str]) -> tuple[Row, ...]:
    """The rows called `names` (a name may end in `*`), or all; KeyError names the first that nobody defines."""
    found, wanted = tuple(found), tuple(names)
    for name in wanted:
        if not any(_matches(row.name, name) for row in found):
            raise KeyError(name)
    return tuple(row for row in found if not wanted or any(_matches(row.name, name) for name in wanted))


def _matches(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def measure(row: Row) -> Result:
    """Measure one row. A measurement that raises is a row that does not hold, never a lost table."""
    start = time.perf_counter()
    try:
        got = row.measure()
        measured = got if isinstance(got, Measured) else Measured(float(got))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        measured = Measured(float("nan"), f"{type(error).__name__}: {error}")
    return Result(
        name=row.name, value=float(measured.value), unit=row.unit, bar=row.bar.text,
        holds=row.bar.holds(float(measured.value)), command=row.command, note=measured.note,
        seconds=time.perf_counter() - start, versions=versions(),
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, of this commit and of the packages whose numbers a row may depend on."""
    found = {"python": sys.version.split()[0], "commit": _commit()}
    for package in ("vtrial", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except OSError:
        return "unknown"
