"""What a section is made of: paragraphs, lists, facts, tables, figures, all of them plain text until the template.

Nothing here is markup except the SVG of a figure; the template escapes every text.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: title, a second line (unit, what the interval is), and whether it is right-aligned."""

    title: str
    under: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of texts under columns; `marks` (one per row, or empty) name a row style: control, flagged, group, "
    "breach."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: Literal["table"] = "table"

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong or (self.marks and len(self.marks) != len(self.rows)):
            raise ValueError(f"table {self.caption!r}: rows must have {len(self.columns)} cells and one mark each")

    def mark(self, row: int) -> str:
        """Style of a row, empty when it has none."""
        return self.marks[row] if self.marks else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plots:
    """One figure of one or several panels, with a caption and, where arms are drawn, their legend."""

    caption: str
    panels: tuple[Markup, ...]
    legend: tuple[tuple[str, str, bool], ...] = ()  # label, colour, open marker
    across: int = 1  # panels side by side where there is room: 1, 2 or 3
    kind: Literal["plots"] = "plots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; `tone` note and warning set it apart."""

    text: str
    tone: Literal["plain", "note", "warning", "good"] = "plain"
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A bulleted list."""

    items: tuple[str, ...]
    kind: Literal["items"] = "items"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Pairs of a term and what it is."""

    facts: tuple[tuple[str, str], ...]
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading inside a section."""

    text: str
    kind: Literal["heading"] = "heading"


type Block = Table | Plots | Text | Items | Facts | Heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A numbered section of the report."""

    key: str
    title: str
    blocks: tuple[Block, ...]


def columns(*titles: str, text: int = 1, words: Sequence[str] = ()) -> tuple[Column, ...]:
    """Columns from `title|second line`; the first `text` of them and those in `words` hold words, the others numbers.

    >>> [c.numeric for c in columns("Arm", "Mean|L")]
    [False, True]
    """
    split = [title.partition("|") for title in titles]
    return tuple(
        Column(title=head, under=under, numeric=i >= text and head not in words)
        for i, (head, _, under) in enumerate(split)
    )


def to_csv(table: Table) -> str:
    """The table as CSV for a spreadsheet; cells that a spreadsheet would run as formulas are prefixed with an "
    "apostrophe.

    >>> to_csv(Table(caption="c", columns=columns("Arm"), rows=(("=1+1",),)))
    "Arm\\r\\n'=1+1\\r\\n"
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([inert(f"{c.title} ({c.under})" if c.under else c.title) for c in table.columns])
    writer.writerows([[inert(cell) for cell in row] for row in table.rows])
    return text.getvalue()


def inert(cell: str) -> str:
    """The cell as a spreadsheet may have it: an apostrophe before what it would run as a formula."""
    return f"'{cell}" if cell.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else cell


def sentence(parts: Sequence[str]) -> str:
    """Join words as a list in a sentence.

    >>> sentence(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""
