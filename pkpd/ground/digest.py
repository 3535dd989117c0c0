"""SHA-256 of texts, canonical JSON and canonical tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["canonical_json", "of_bytes", "of_json", "of_table", "of_text"]


def of_bytes(data: bytes) -> str:
    """SHA-256 of bytes, as hex."""
    return hashlib.sha256(data).hexdigest()


def of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes.

    >>> of_text("abc")[:16]
    'ba7816bf8f01cfea'
    """
    return of_bytes(text.encode())


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, shortest round-trip floats; NaN and infinity are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def of_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value.

    >>> of_json({"b": 1, "a": [0.1]}) == of_json({"a": [0.1], "b": 1})
    True
    """
    return of_text(canonical_json(value))


def of_table(frame: pd.DataFrame, by: Sequence[str] = ("replicate", "subject")) -> str:
    """SHA-256 of a table: rows sorted by `by` (which must identify a row), columns by name, raw little-endian values.

    Independent of row order, column order and index. Column names and types are part of the digest. A NaN counts as NaN
    whatever its bits; a column of lists counts as float64. Errors: ValueError when two rows share their `by` values.
    """
    if frame.duplicated(list(by)).any():
        raise ValueError(f"rows are not identified by {list(by)}")
    ordered = frame.sort_values(list(by), kind="stable")
    digest = hashlib.sha256(f"vtrial-table/1 {len(frame)}\n".encode())
    for name in sorted(map(str, frame.columns)):
        kind, data = _column(ordered[name])
        digest.update(f"{canonical_json(name)} {kind} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _column(column: pd.Series[Any]) -> tuple[str, bytes]:
    """(type, bytes) of a column."""
    if len(column) and all(isinstance(value, (np.ndarray, list)) for value in column):
        parts = [np.asarray(value, np.float64).reshape(-1) for value in column]
        sizes, numbers = np.array([part.size for part in parts], "<i8"), np.concatenate(parts)
        return "lists", sizes.tobytes() + np.where(np.isnan(numbers), np.nan, numbers).astype("<f8").tobytes()
    if column.dtype.kind not in "biuf" or not isinstance(column.dtype, np.dtype):
        texts = [None if missing else str(v) for v, missing in zip(column, column.isna(), strict=True)]
        return "text", canonical_json(texts).encode()
    values = np.ascontiguousarray(column.to_numpy())
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
    little = values.astype(values.dtype.newbyteorder("<"))
    return little.dtype.str, little.tobytes()
