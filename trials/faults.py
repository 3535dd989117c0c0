"""Errors that know where in a protocol's text a field is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.text import Mapping, Node, nearest
from pkpd.ground.validation import shown_path

__all__ = ["Fault", "Path_", "at"]

Path_ = tuple[str | int, ...]


class Fault:
    """Raises InputErrors that know where in the text a field is."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __call__(self, problem: str, path: Path_, *, value: object = None, remedy: str | None = None) -> NoReturn:
        found: Any = self.node
        for part in path:
            inside = isinstance(found, list) if isinstance(part, int) else isinstance(found, Mapping) and part in found
            found = found[part] if inside else None
        shown = value if value is not None else str(found) if isinstance(found, str) else None
        where = text.locate(self.node, path)
        raise InputError(problem, field=shown_path(path), value=shown, remedy=remedy, where=where)

    def known(self, name: str, valid: Iterable[str], kind: str, path: Path_) -> None:
        """`name` is one of the `valid` names of a `kind`."""
        choices = tuple(valid)
        if name not in choices:
            remedy = nearest(name, choices) or f"the protocol has no {kind}"
            self(f"unknown {kind}", path, value=name, remedy=remedy)

    def distinct(self, names: Sequence[str], path: Path_) -> None:
        """No name twice."""
        twice = next((name for n, name in enumerate(names) if name in names[:n]), None)
        if twice is not None:
            self("named twice", path, value=twice, remedy="name it once")


@contextmanager
def at(fault: Fault, path: Path_) -> Iterator[None]:
    """Errors of what is opened inside learn which field of the protocol named it."""
    try:
        yield
    except InputError as error:
        raise error.within(field=shown_path(path), where=text.locate(fault.node, path)) from None
