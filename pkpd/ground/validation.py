"""From pydantic's errors to ours: field path, place, value, nearest valid name. Behind `pkpd.ground.text.validated`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, cast

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from pkpd.ground.errors import InputError, Where
from pkpd.ground.text import Listing, Mapping, Node, Scalar, nearest

__all__ = ["Text", "adapter", "shown_path", "validate"]


def _kept(value: Any, check: Callable[[Any], str]) -> str:
    text = check(value)
    return value if isinstance(value, Scalar) else text


_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")
_MAPPING: Final = ("dataclass_type", "dict_type", "model_type")


class _KeepPlace:
    """Keeps a `Scalar` as it is (pydantic would make it a plain str and lose where it stands)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        text = core_schema.str_schema()
        return core_schema.no_info_wrap_validator_function(_kept, text)


Text = Annotated[str, _KeepPlace()]
"""A field that stays a `Scalar`, so that a later check (unit, expression) can name line and column."""


@lru_cache(maxsize=64)
def adapter(kind: Any) -> TypeAdapter[Any]:
    """The (cached) TypeAdapter of a noun."""
    return TypeAdapter(kind)


def validate[T](kind: type[T], node: Node, file: str | None = None) -> T:
    """See `pkpd.ground.text.validated`."""
    try:
        return cast(T, adapter(cast(Hashable, kind)).validate_python(node))
    except ValidationError as error:
        raise _first(kind, node, error.errors(include_url=False), file) from None


def shown_path(path: Sequence[str | int]) -> str:
    """`arms.t200.regimen[0].every`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _first(kind: Any, node: Node, errors: Sequence[Any], file: str | None) -> InputError:
    """The deepest error (inside a union the branch that got furthest), the earliest line among equals."""
    resolved = [(_resolve(node, e["loc"], e["type"]), e) for e in errors]
    (path, here), error = min(
        resolved, key=lambda r: (-len(r[0][0]), r[1]["type"] not in _UNKNOWN, r[0][1].line, r[0][1].column)
    )
    alike = [e for (p, _), e in resolved if p == path]
    problem, remedy = _words(error, alike, _kinds_at(kind, path[:-1]), str(path[-1]) if path else "")
    value = error["input"] if isinstance(error["input"], str) and error["type"] not in _UNKNOWN else None
    remedy = remedy or _fallback(
        error["type"], problem, [name for k in _kinds_at(kind, path[:-1]) for name in _field_names(k)]
    )
    return InputError(problem, file=file, field=shown_path(path) or None, value=value, remedy=remedy, where=here)


def _fallback(kind: str, problem: str, names: Sequence[str]) -> str:
    """The remedy where nothing nearer is known."""
    if kind in _UNKNOWN:
        return f"the keys here are {', '.join(names)}" if names else "remove it"
    if kind.startswith(("greater_than", "less_than")):
        return f"write a number that is {problem.removeprefix('must be ').replace('or must be', 'or')}"
    return "`vtrial schema KIND` (model, protocol, design, surveillance, ...) shows what may stand here"


def _words(error: Any, alike: Sequence[Any], kinds: list[Any], last: str) -> tuple[str, str | None]:
    """(problem, remedy)."""
    names = [name for k in kinds for name in _field_names(k)]
    if error["type"] in _UNKNOWN:
        return "unknown key", nearest(last, names)
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return "is missing", f"add {last}"
    if error["type"] == "literal_error":
        expected = [e["ctx"]["expected"] for e in alike if "expected" in e.get("ctx", {})]
        choices = [w.strip(" '") for text in expected for w in text.replace(" or ", ", ").split(",")]
        return f"must be {' or '.join(expected)}", nearest(str(error["input"]), choices)
    if error["type"] == "vtrial":
        return error["ctx"]["problem"], error["ctx"]["remedy"]
    if error["type"] in _MAPPING:
        return "must be a mapping (key: value)", None
    message = " or ".join(dict.fromkeys(e["msg"].removeprefix("Value error, ") for e in alike))
    message = message.replace("Input should be", "must be").replace("a valid dictionary", "a mapping")
    return message[0].lower() + message[1:], None


def _resolve(node: Node, loc: Sequence[str | int], kind: str) -> tuple[tuple[str | int, ...], Where]:
    """pydantic's location (which names union branches too) as a path in the text, and its place."""
    path: list[str | int] = []
    here: Any = node
    place = node.where
    for n, part in enumerate(loc):
        inside = isinstance(here, Mapping) and part in here
        inside = inside or (isinstance(here, Listing) and isinstance(part, int) and part < len(here))
        if inside:
            path.append(part)
            place = _key_place(here, part) if kind in _UNKNOWN and n == len(loc) - 1 else here[part].where
            here = here[part]
        elif n == len(loc) - 1 and kind.startswith("missing"):
            path.append(part)
    return tuple(path), place


def _key_place(here: Any, part: str | int) -> Where:
    key = next((k for k in here if k == part), None) if isinstance(here, Mapping) else None
    return key.where if isinstance(key, Scalar) else here.where


def _kinds_at(kind: Any, path: Sequence[str | int]) -> list[Any]:
    """The types a value at `path` may have, as far as annotations tell."""
    kinds = list(_flat(kind))
    for part in path:
        kinds = [inner for k in kinds for inner in _inside(k, part)]
    return kinds


def _flat(kind: Any) -> Iterator[Any]:
    origin = typing.get_origin(kind)
    if isinstance(kind, typing.TypeAliasType):
        yield from _flat(kind.__value__)
    elif origin is typing.Annotated:
        yield from _flat(typing.get_args(kind)[0])
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(kind):
            yield from _flat(part)
    else:
        yield kind


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    if dataclasses.is_dataclass(kind):
        hints = hints_of(cast(Hashable, kind))
        for field in dataclasses.fields(kind):
            if part in (field.name, _alias(hints[field.name])):
                yield from _flat(hints[field.name])
        return
    args = [a for a in typing.get_args(kind) if a is not Ellipsis]
    if args:
        yield from _flat(args[-1])


@lru_cache(maxsize=256)
def hints_of(kind: Any) -> dict[str, Any]:
    """The annotations of one of our nouns, evaluated once."""
    return typing.get_type_hints(kind, include_extras=True)


def _field_names(kind: Any) -> list[str]:
    if not dataclasses.is_dataclass(kind):
        return []
    hints = hints_of(cast(Hashable, kind))
    return [_alias(hints[f.name]) or f.name for f in dataclasses.fields(kind)]


def _alias(hint: Any) -> str | None:
    found = [m.alias for m in getattr(hint, "__metadata__", ()) if isinstance(m, FieldInfo)]
    return next((alias for alias in found if alias), None)
