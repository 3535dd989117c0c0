"""The YAML door. Witness: the YAML 1.2.2 core schema (yaml.org/spec/1.2.2, chapter 10.3) for what is no number, and the
list of refusals of the text format; each refusal names file, line and column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field

from pkpd.ground import text
from pkpd.ground.errors import InputError, Where
from pkpd.ground.validation import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    __pydantic_config__ = ConfigDict(extra="forbid")
    amount: Text
    for_: Annotated[str | None, Field(alias="for")] = None
    kind: Literal["bolus", "infusion"] = "bolus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    __pydantic_config__ = ConfigDict(extra="forbid")
    arms: dict[str, tuple[Item, ...]]
    seed: int = 1
    model: str | Item = ""


def refused(source: str) -> InputError:
    with pytest.raises(InputError) as caught:
        text.parse(source, "p.yaml")
    return caught.value


def test_scalars_stay_text_where_yaml_1_1_would_change_them() -> None:
    node = text.parse("[no, 12:30, 1e-3, 0x1f, 2026-11-21, 1.0, 'x']")
    assert node == ["no", "12:30", "1e-3", "0x1f", "2026-11-21", "1.0", "x"]


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, "twice"),
        ("a: &x 1", 1, "anchors"),
        ("a: 1\nb: *a", 2, "anchors"),
        ("a: !!python/object:os.system x", 1, "tags"),
        ("a: !x 1", 1, "tags"),
        ("b:\n  <<: {a: 1}", 2, "merge"),
        ("a: " + "[" * 60 + "]" * 60, 1, "deeper than 50"),
        ("a: 1_000", 1, "underscores"),
        ("a: .nan", 1, "finite"),
        ("a: -.inf", 1, "finite"),
        ("a:\nb: 1", 1, "has no value"),
        ("a: [1, null]", 1, "has no value"),
        ("%YAML 1.1\n---\na: 1", 1, "directives"),
        ("a: 1\n---\nb: 2", 2, "more than one document"),
        ("{[1]: 2}", 1, "plain text"),
        ("a: [1", 2, "not valid YAML"),
        ("a: 'x", 1, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "tab indents"),
    ],
)
def test_what_is_refused_says_where(source: str, line: int, said: str) -> None:
    error = refused(source)
    assert error.file == "p.yaml"
    assert said in error.problem
    assert error.line == line
    assert error.exit_code == 2


def test_a_quoted_number_look_alike_is_text() -> None:
    assert text.parse("a: '1_000'\nb: 'null'\nc: ''") == {"a": "1_000", "b": "null", "c": ""}


def test_every_value_knows_its_place() -> None:
    node = text.parse("a:\n  - 1\n  - {b: 22}\ne: |\n    x = 1\n    y = zz\n", "f.yaml")
    assert text.locate(node, ("a", 1, "b")) == Where("f.yaml", 3, 9)
    assert text.locate(node, ("a", 7, "b")) == Where("f.yaml", 2, 3)
    block = text.locate(node, ("e",))
    assert block.at(1, 4) == Where("f.yaml", 6, 9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"a: \x00", "binary"),
        (bytes(range(256)), "not UTF-8"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (b"a: " + b"x" * 1_000_001, "larger than"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "f.yaml").write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        text.read(tmp_path / "f.yaml")
    assert caught.value.file == str(tmp_path / "f.yaml")


def test_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: |\r\n  x = 1\r\n  y = 2\r\n")
    assert text.read(tmp_path / "f.yaml") == {"a": "1", "b": "x = 1\ny = 2\n"}


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        text.read(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="is a directory"):
        text.read(tmp_path)


def test_validated_keeps_places_and_types() -> None:
    plan = text.validated(Plan, text.parse("arms: {a: [{amount: 5 mg, for: 3 d}]}\nseed: 7"))
    assert plan == Plan(arms={"a": (Item(amount="5 mg", for_="3 d"),)}, seed=7)
    assert plan.arms["a"][0].amount.where.column == 21  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("source", "field", "problem", "remedy"),
    [
        ("arms: {a: [{amout: 5 mg}]}", "arms.a[0].amout", "unknown key", "'amount'"),
        ("arms: {a: [{amount: 5 mg, fro: 3 d}]}", "arms.a[0].fro", "unknown key", "'for'"),
        ("arms: {a: [{for: 3 d}]}", "arms.a[0].amount", "is missing", "add amount"),
        ("arms: {a: [{amount: 1 mg, kind: infuson}]}", "arms.a[0].kind", "must be", "'infusion'"),
        ("arms: {}\nseed: seven", "seed", "valid integer", ""),
        ("arms: {}\nseed: 1.5", "seed", "valid integer", ""),
        ("arms: {}\nmodel: {amount: [1]}", "model.amount", "valid string", ""),
        ("arms: [a]", "arms", "mapping", ""),
        ("amrs: {}", "amrs", "unknown key", "'arms'"),
        ("- 1", None, "mapping", ""),
    ],
)
def test_errors_name_path_place_and_the_nearest_name(source: str, field: str, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        text.validated(Plan, text.parse(source, "p.yaml"))
    error = caught.value
    assert error.field == field
    assert problem in error.problem
    assert remedy in (error.remedy or "")
    assert (error.file, error.line is None, error.column is None) == ("p.yaml", False, False)


@settings(max_examples=150, deadline=1000)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%, \n\t0_.~?"), max_size=60))
def test_no_text_does_more_than_an_input_error(source: str) -> None:
    """Any text is a plan or one sentence: no other exception, no traceback, no half-made value."""
    found: object = None
    try:
        found = text.validated(Plan, text.parse(source))
    except InputError as error:
        found = error
    assert isinstance(found, (Plan, InputError))
    assert isinstance(found, Plan) or (found.problem and "\n" not in str(found))


def test_plain_values_make_the_same_tree() -> None:
    assert text.from_plain({"a": [1, 2.5, True], "b": None}) == {"a": ["1", "2.5", "true"]}
