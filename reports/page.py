"""A page of its own for one answer (a fit, a calibration study): one HTML file, no script, every text escaped."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reports.tables import Section

__all__ = ["Page", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the template is given: plain texts and blocks. breaches: what must be read first."""

    brand: str
    kicker: str
    title: str
    byline: str
    breaches: tuple[str, ...]
    answer: tuple[str, ...]
    trust: tuple[str, ...]
    sections: tuple[Section, ...]


def render(page: Page) -> str:
    """The page as text; the same page gives the same bytes."""
    from reports.html import environment

    numbers: Mapping[str, Callable[[], int]] = {kind: itertools.count(1).__next__ for kind in ("table", "figure")}
    template = environment().get_template("page.html.j2")
    text: str = template.render(page=page, next_table=numbers["table"], next_figure=numbers["figure"])
    return text
