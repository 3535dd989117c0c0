"""The language reference names every key of the JSON Schema and every function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pkpd.model.equations import FUNCTIONS
from pkpd.model.spec import json_schema

DOCUMENT = Path(__file__).parents[3] / "docs" / "model_language.md"
ELSEWHERE = {("Dose", "steady")}  # regimens are a matter of the protocol


def test_every_key_and_function_is_in_the_document() -> None:
    if not DOCUMENT.exists():
        pytest.skip(f"{DOCUMENT} is not there")
    text, schema = DOCUMENT.read_text(), json_schema()
    keys = {(d.get("title", "Model"), k) for d in (schema, *schema["$defs"].values()) for k in d.get("properties", {})}
    assert {(t, k) for t, k in keys if not re.search(rf"\b{re.escape(k)}\b", text)} <= ELSEWHERE
    assert {f for f in FUNCTIONS if not re.search(rf"\b{f}\b", text)} == set()
