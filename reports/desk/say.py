"""Words to the user: results on stdout, remarks and errors on stderr, one JSON object a line for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["error", "machine", "remark", "result", "table"]


def result(*lines: str) -> None:
    """What was asked for, on stdout."""
    print(*lines, sep="\n", flush=True)


def remark(*lines: str) -> None:
    """What helps to know, on stderr: the output stays usable in a pipe."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def error(message: str) -> None:
    """What went wrong, on stderr."""
    remark(f"error: {message}")


def machine(values: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    print(json.dumps(values, default=str, allow_nan=False), flush=True)


def table(rows: Iterable[Sequence[object]], *, indent: int = 0) -> list[str]:
    """Rows as lines of aligned columns, the last one ragged.

    >>> table([("a", 1), ("long name", "x")])
    ['a          1', 'long name  x']
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max((len(text[i]) for text in texts if i < len(text) - 1), default=0) for i in range(_columns(texts))]
    return [" " * indent + _joined(text, widths) for text in texts]


def _columns(texts: Sequence[Sequence[str]]) -> int:
    return max((len(text) for text in texts), default=0)


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()
