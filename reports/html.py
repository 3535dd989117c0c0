"""One self-contained HTML file: no script, nothing fetched, every text escaped.

path = write(RunRecord.read("out"), Path("out/report.html"))
"""

import itertools
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pkpd.ground import store
from reports import results
from reports.sections import sections
from reports.sections.headline import headline
from reports.study import Study

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%|(?:mg|mg/L|L|h|kg)\b)")
_LONGEST = 4000


def write(record: Any, out: str | Path) -> Path:
    """Write the report of a run.

    record: a finished or partial `RunRecord`; out: the file, or a directory (then `report.html` in it).
    Returns the path. Errors: RunFailed when no block finished or the disk is full; nothing torn is left.
    """
    from reports.gather import study

    path = Path(out)
    target = path if path.suffix == ".html" else path / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        store.write_atomic(target, render(study(record)).encode("utf-8"))
    finally:
        results.forget()
    return target


def render(study: Study) -> str:
    """The page of a study as text; the same study gives the same bytes."""
    numbers: Mapping[str, Callable[[], int]] = {kind: itertools.count(1).__next__ for kind in ("table", "figure")}
    text: str = environment().get_template("report.html.j2").render(
        study=study, headline=headline(study), sections=sections(study), next_table=numbers["table"],
        next_figure=numbers["figure"],
    )  # fmt: skip
    return text


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates' environment: everything is escaped, what is not defined is an error."""
    return Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_clean,
    )  # fmt: skip


def _clean(value: Any) -> Any:
    """Drop control and direction-changing characters, keep numbers with their units, cut what is absurdly long."""
    if type(value) is not str:  # Markup (figures) is a subclass and passes
        return value
    clean = _BEFORE_UNIT.sub("\u00a0", _UNSAFE.sub("", value))
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + "…"
