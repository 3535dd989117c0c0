"""The one YAML door: scalars stay text, every value knows its place, everything clever is refused.

YAML 1.1 would read `no` as False, `12:30` as 750, `1e-3` as text, and keep the last of two equal keys. Here a scalar is
text until the noun that owns it gives it a type. Anchors, aliases, tags, merge keys, directives, several documents,
duplicate keys, nulls, nesting beyond 50 and texts beyond 1 MB are refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from pkpd.ground.errors import InputError, Where

__all__ = [
    "Listing",
    "Mapping",
    "Node",
    "Scalar",
    "from_plain",
    "locate",
    "nearest",
    "parse",
    "read",
    "read_text",
    "validated",
]

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 50
_LOADER: Final[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_UNDERSCORED: Final = re.compile(r"[+-]?[0-9][0-9.]*(_[0-9.]+)+([eE][+-]?[0-9]+)?")
_NOT_A_NUMBER: Final = re.compile(r"[+-]?\.?(nan|inf|infinity)", re.IGNORECASE)
_NULLS: Final = frozenset({"~", "null", "Null", "NULL"})


class Scalar(str):
    """Text with a place (`where`)."""

    where: Where

    def __new__(cls, text: str, where: Where) -> Scalar:
        made = super().__new__(cls, text)
        made.where = where
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class Mapping(dict[str, "Node"]):
    """A dict whose keys are `Scalar`; `where` is where it starts."""

    where: Where


class Listing(list["Node"]):
    """A list; `where` is where it starts."""

    where: Where


Node = Scalar | Mapping | Listing


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """A remedy naming the closest valid name, or all of them when they are few.

    >>> nearest("ratoi", ["ratio", "label"])
    "did you mean 'ratio'?"
    """
    names = sorted(set(valid))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    close = close or [n for n in names if n.lower() == name.lower()][:1]
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid here: {', '.join(names)}" if 0 < len(names) <= 30 else None


def read_text(path: str | Path, limit: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file of at most `limit` bytes, lines ended by a newline; a byte-order mark is dropped."""
    path = Path(path)
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= limit and not path.is_dir() else b""
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(reason, file=path, remedy="check the path; it is relative to the file that names it") from None
    if path.is_dir():
        raise InputError("is a directory, not a file", file=path, remedy="name the file inside it")
    if size > limit:
        raise InputError(f"is larger than {limit} bytes", file=path, value=size, remedy="split the text")
    return _decoded(raw, str(path))


def _decoded(raw: bytes, file: str) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("is not UTF-8 text", file=file, line=line, remedy="save the file as UTF-8 text") from None
    if "\x00" in text:
        raise InputError("is a binary file, not text", file=file, remedy="name a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(path: str | Path) -> Node:
    """Parse a YAML file; see `parse`."""
    return parse(read_text(path), str(path))


def parse(text: str, file: str = "<text>") -> Node:
    """A tree of `Mapping`, `Listing` and `Scalar`; every error is an `InputError` with file, line and column.

    >>> parse("a: [1e-3, no]")
    {'a': ['1e-3', 'no']}
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"is larger than {MAX_BYTES} characters", file=file, value=len(text), remedy="split the text")
    try:
        return _Builder(file, text.split("\n")).build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Where(file, mark.line + 1, mark.column + 1) if mark else None
        problem = " ".join(str(p) for p in (error.context, error.problem) if p)
        if any("\t" in line[: len(line) - len(line.lstrip())] for line in _line(text, place)):
            raise InputError("a tab indents this line", where=place, file=file, remedy="indent with spaces") from None
        remedy = "close every bracket and quote, and indent what belongs together alike"
        raise InputError(f"is not valid YAML: {problem}", where=place, file=file, remedy=remedy) from None
    except yaml.YAMLError as error:
        problem, remedy = " ".join(str(error).split()), "write plain text without control characters"
        raise InputError(f"is not valid YAML: {problem}", file=file, remedy=remedy) from None


def _line(text: str, place: Where | None) -> list[str]:
    """The line of a place; none where the text has ended."""
    return text.split("\n")[place.line - 1 : place.line] if place else []


class _Builder:
    """Builds the tree from the parser's events with its own stack, so that no text can exhaust Python's."""

    def __init__(self, file: str, lines: list[str]) -> None:
        self.file, self.lines = file, lines
        self.stack: list[Mapping | Listing] = []
        self.keys: list[Scalar | None] = []
        self.root: Node | None = None

    def build(self, events: Iterator[Any]) -> Node:
        for event in events:
            self._take(event)
        if self.root is None:
            raise InputError("is empty", file=self.file, remedy="write the text, or name the right file")
        return self.root

    def _take(self, event: Any) -> None:
        self._refuse(event)
        if isinstance(event, yaml.ScalarEvent):
            self._put(self._scalar(event))
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            made = Mapping() if isinstance(event, yaml.MappingStartEvent) else Listing()
            made.where = self._where(event)
            self._put(made)
            self.stack.append(made)
            self.keys.append(None)
            if len(self.stack) > MAX_DEPTH:
                raise InputError(f"is nested deeper than {MAX_DEPTH}", where=made.where, remedy="write it flatter")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()
            self.keys.pop()

    def _put(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if isinstance(top, Listing):
            top.append(_usable(node, f"item {len(top) + 1}"))
            return
        key = self.keys[-1]
        if key is None:
            self.keys[-1] = self._key(node, top)
        else:
            self.keys[-1] = None
            top[key] = _usable(node, str(key))

    def _key(self, node: Node, top: Mapping) -> Scalar:
        if not isinstance(node, Scalar):
            raise InputError("a key must be plain text", where=node.where, remedy="write a name before the colon")
        if node == "<<":
            raise InputError("merge keys are refused", where=node.where, remedy="write the keys out")
        if node in top:
            first = next(k for k in top if k == node)
            line = first.where.line if isinstance(first, Scalar) else 0
            remedy = f"keep one; the first is on line {line}"
            raise InputError("the key is written twice", where=node.where, field=str(node), remedy=remedy)
        if not node:
            raise InputError("a key is empty", where=node.where, remedy="write a name before the colon")
        return node

    def _scalar(self, event: Any) -> Scalar:
        made = Scalar(event.value, self._where(event))
        if not event.style:  # plain; the C parser says "" and the Python one None
            made.__dict__["problem"] = _plain_problem(event.value)
        return made

    def _where(self, event: Any) -> Where:
        mark, style = event.start_mark, getattr(event, "style", None)
        line, column = mark.line + 1, mark.column + 1
        if style == "|":
            body = next((text for text in self.lines[line:] if text.strip()), "")
            return Where(self.file, line, column, len(body) - len(body.lstrip(" ")))
        return Where(self.file, line, column + 1 if style in ("'", '"') else column)

    def _refuse(self, event: Any) -> None:
        place = Where(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError("anchors and aliases are refused", where=place, remedy="write the value out")
        if getattr(event, "tag", None):
            raise InputError("tags are refused", where=place, value=event.tag, remedy="drop the tag")
        if isinstance(event, yaml.DocumentStartEvent):
            if event.version or event.tags:
                raise InputError("directives are refused", where=place, remedy="drop the line that starts with %")
            if self.root is not None:
                raise InputError("holds more than one document", where=place, remedy="one file, one text")


def _usable(node: Node, field: str) -> Node:
    """A value; nulls and what only looks like a number are refused here (as keys they are just text)."""
    if isinstance(node, Scalar) and (problem := node.__dict__.pop("problem", None)):
        raise InputError(problem[0], where=node.where, value=str(node) or None, remedy=problem[1], field=field)
    return node


def _plain_problem(text: str) -> tuple[str, str] | None:
    if text == "" or text in _NULLS:
        return "has no value", "give a value or leave the key out"
    if _UNDERSCORED.fullmatch(text):
        return "a number must not hold underscores", f"write {text.replace('_', '')}"
    if _NOT_A_NUMBER.fullmatch(text):
        return "is not a finite number", "give a finite number"
    return None


def from_plain(value: Any, file: str = "<values>") -> Node:
    """The tree of plain dicts, lists, texts and numbers (such as `to_dict` makes); places are unknown."""
    where = Where(file, 0, 0)
    made: Node
    if isinstance(value, dict):
        made = Mapping({Scalar(str(k), where): from_plain(v, file) for k, v in value.items() if v is not None})
    elif isinstance(value, (list, tuple)):
        made = Listing(from_plain(v, file) for v in value)
    else:
        return Scalar(str(value).lower() if isinstance(value, bool) else str(value), where)
    made.where = where
    return made


def locate(node: Node, path: Iterable[str | int]) -> Where:
    """The place of the value at `path`, or of the nearest thing above it that exists."""
    here: Any = node
    for part in path:
        if (isinstance(here, Mapping) and part in here) or (isinstance(here, Listing) and part in range(len(here))):
            here = here[part]  # type: ignore[index]
        else:
            break
    return here.where  # type: ignore[no-any-return]


def validated[T](kind: type[T], node: Node, file: str | None = None) -> T:
    """`node` as a `kind` (a frozen dataclass with `__pydantic_config__ = ConfigDict(extra="forbid")`).

    Errors become one `InputError` with field path, line, value and the nearest valid key.
    """
    from pkpd.ground.validation import validate  # pydantic is loaded when a text is read, not when this is imported

    return validate(kind, node, file)
