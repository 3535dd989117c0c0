"""Errors with an exit code: what is wrong, where, what was given, what to do.

A failure inside a computation is a value (a status); these are for what stops a command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["InputError", "RunFailed", "RunPartial", "VtrialError", "Where"]


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a text: file, line and column count from 1; `indent` is set for the body of a block scalar.

    >>> Where("a.yaml", 3, 5).at(0, 2)
    Where(file='a.yaml', line=3, column=7, indent=None)
    """

    file: str
    line: int
    column: int
    indent: int | None = None

    def at(self, row: int, offset: int) -> Where:
        """The place `row` lines and `offset` characters (both from 0) into the scalar that starts here."""
        if self.indent is not None:
            return Where(self.file, self.line + 1 + row, self.indent + offset + 1)
        return Where(self.file, self.line + row, offset + 1 if row else self.column + offset)


class VtrialError(Exception):
    """Any error this package raises on purpose; `exit_code` is what the command ends with."""

    exit_code: ClassVar[int] = 3


class RunFailed(VtrialError):
    """The run could not be finished (disk full, worker lost ...); finished work is kept."""


class RunPartial(VtrialError):
    """The run ended with some blocks missing; it can be resumed."""

    exit_code: ClassVar[int] = 4


class InputError(VtrialError):
    """Something the user wrote is wrong. One line: `file:line:column field: problem, got VALUE. Remedy: ...`.

    >>> str(InputError("must be > 0", file="p.yaml", line=7, field="arms.a.every", value="-12 h"))
    "p.yaml:7 arms.a.every: must be > 0, got '-12 h'"
    """

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        problem: str,
        *,
        file: object | None = None,
        field: str | None = None,
        value: object | None = None,
        line: int | None = None,
        column: int | None = None,
        remedy: str | None = None,
        where: Where | None = None,
    ) -> None:
        if where is not None:
            file, line, column = file or where.file, line or where.line, column or where.column
        self.problem, self.field, self.value, self.remedy = problem, field, value, remedy
        self.file = None if file is None else str(file)
        self.line, self.column = line, column
        super().__init__(self._text())

    def _text(self) -> str:
        numbers = [str(n) for n in (self.line, self.column) if n is not None]
        place = ":".join([self.file, *numbers] if self.file else (["line " + ":".join(numbers)] if numbers else []))
        field = " ".join(self.field.split()) if self.field else None  # a key may hold a line break, a message may not
        head = " ".join(part for part in (place, field) if part)
        text = f"{head}: {self.problem}" if head else self.problem
        if self.value is not None:
            text += f", got {_shown(self.value)}"
        text = f"{text}. Remedy: {self.remedy}" if self.remedy else text
        return " ".join(text.splitlines())

    def within(self, *, file: object | None = None, field: str | None = None, where: Where | None = None) -> InputError:
        """The same error with what is still unknown about its place filled in."""
        known = where or Where("", 0, 0)
        return InputError(
            self.problem,
            file=self.file or (str(file) if file is not None else known.file or None),
            field=self.field or field,
            value=self.value,
            line=self.line or known.line or None,
            column=self.column or (known.column or None if self.line is None else None),
            remedy=self.remedy,
        )


def _shown(value: object) -> str:
    """A value on one line, never longer than 80 characters."""
    text = repr(str(value)) if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
