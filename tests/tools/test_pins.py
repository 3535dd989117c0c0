"""The pins are complete and are what is installed (witness: the metadata of the installed packages)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.pins import BEGIN, END, difference, pins_of, with_pins

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def _needed(name: str, seen: set[str]) -> Iterator[str]:
    """Names of all packages that the installed `name` needs here, itself among them."""
    if canonicalize_name(name) in seen:
        return
    seen.add(canonicalize_name(name))
    yield canonicalize_name(name)
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _needed(requirement.name, seen)


def test_every_installed_dependency_is_pinned_to_its_version() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    pins = dict(pin.split(";")[0].strip().split("==") for pin in project["tool"]["uv"]["constraint-dependencies"])
    seen: set[str] = set()
    names = [name for text in project["project"]["dependencies"] for name in _needed(Requirement(text).name, seen)]
    assert len(names) > 50
    assert {name: metadata.version(name) for name in names} == {name: pins.get(name) for name in names}


def test_pins_name_no_host() -> None:
    text = PROJECT.read_text(encoding="utf-8")
    assert not re.search(r"https?://|index-url|@ ", text[text.index(BEGIN) : text.index(END)])


def test_a_range_is_not_a_pin() -> None:
    with pytest.raises(ValueError, match="not an exact pin"):
        pins_of("numpy>=2.4")


def test_difference_names_both_sides() -> None:
    assert difference(["a==1"], ["a==1"]) == []
    assert len(difference(["a==1", "c==1"], ["a==2"])) == 3


def test_pins_replace_only_their_own_part() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_pins(text, {"x": ["a==1"]}) == f'before\n{BEGIN}\nx = [\n  "a==1",\n]\n{END}\nafter\n'
    with pytest.raises(ValueError, match="lacks the lines"):
        with_pins("nothing", {})
