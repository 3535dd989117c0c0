"""Digests. Witness: FIPS 180-2 test vector of SHA-256; identities of sorting and of the canonical form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pkpd.ground import digest


@pytest.fixture
def table() -> pd.DataFrame:
    columns = {"replicate": [0, 0, 1], "subject": [0, 1, 0], "x": [1.5, np.nan, -0.0], "arm": ["a", "b", "a"]}
    return pd.DataFrame(columns).astype({"replicate": "u4", "subject": "u4"})


def test_published_vector() -> None:
    assert digest.of_text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_ignores_the_order_of_keys_and_refuses_nan() -> None:
    assert digest.canonical_json({"b": 0.1, "a": [1, None, "é"]}) == '{"a":[1,null,"\\u00e9"],"b":0.1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest.of_json(float("nan"))


def test_a_table_is_judged_by_its_content(table: pd.DataFrame) -> None:
    shuffled = table.iloc[[2, 0, 1]][["x", "arm", "subject", "replicate"]].reset_index(drop=True)
    assert digest.of_table(shuffled) == digest.of_table(table)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(x=[1.5, np.nan, 0.0]),
        lambda t: t.assign(x=[np.nextafter(1.5, 2), np.nan, -0.0]),
        lambda t: t.assign(x=t["x"].astype("f4")),
        lambda t: t.assign(arm=["a", "b", "b"]),
        lambda t: t.rename(columns={"x": "y"}),
        lambda t: t.iloc[:2],
    ],
)
def test_any_change_of_content_shows(table: pd.DataFrame, change) -> None:
    assert digest.of_table(change(table)) != digest.of_table(table)


def test_rows_that_cannot_be_told_apart_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="not identified"):
        digest.of_table(table, by=("replicate",))


def test_lists_in_a_column_count_to_the_last_bit() -> None:
    """Long ones too, of which text shows a part only; as lists or arrays; where one ends and the next begins."""
    numbers = np.arange(3000, dtype=np.float64)
    frame = pd.DataFrame({"row": [0, 1], "x": [numbers, np.array([np.nan])]})
    told = digest.of_table(frame, by=("row",))
    assert told == digest.of_table(frame.assign(x=[numbers.tolist(), [np.nan]]), by=("row",))
    changed = numbers.copy()
    changed[1500] = np.nextafter(1500.0, 2000.0)
    assert told != digest.of_table(frame.assign(x=[changed, np.array([np.nan])]), by=("row",))
    assert told != digest.of_table(frame.assign(x=[numbers[:-1], np.array([2999.0, np.nan])]), by=("row",))
