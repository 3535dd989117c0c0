"""From a matplotlib Figure to an inline SVG: deterministic, without script, with unique ids and a text alternative.

matplotlib is seen only through this module and its neighbours; figures are `Figure` objects on the SVG canvas, never
the global state of pyplot. Every element must be on a short list of drawing elements: whatever a label contains,
nothing but drawing can reach the page.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.figures.palette import GRID, INK, MUTED

_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "vtrial", "text.parse_math": False, "text.usetex": False,
    "font.family": ["DejaVu Sans"], "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "legend.frameon": False,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.linewidth": 0.8,
    "lines.linewidth": 1.6, "lines.markersize": 5, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.unicode_minus": True, "figure.facecolor": "white", "svg.image_inline": True, "path.simplify": True,
}  # fmt: skip
_ALLOWED = frozenset({"svg", "g", "path", "text", "tspan", "use", "defs", "clipPath", "rect", "circle", "line"})
# labels far too long for their figure are drawn over its edge; letters our measuring font lacks are the browser's
_HARMLESS = (r"constrained_layout not applied", r"Glyph \d+ .*missing from font")
_TEXT = frozenset({"text", "tspan"})
_DROPPED = frozenset({"metadata", "style", "title", "desc"})
_ATTRIBUTES = frozenset({
    "id", "class", "d", "style", "transform", "x", "y", "width", "height", "viewBox", "r", "cx", "cy", "x1", "x2", "y1",
    "y2", "href", "clip-path", "points",
})  # fmt: skip
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)


def style() -> AbstractContextManager[None]:
    """The look of every figure, as a context: draw inside it."""
    settings: Any = dict(_STYLE)
    return matplotlib.rc_context(settings)


def figure(
    width: float, height: float, *, columns: int = 1, widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """An empty figure of so many inches with axes side by side, of relative `widths`."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(drawn)
    axes = drawn.subplots(1, columns, squeeze=False, gridspec_kw={"width_ratios": widths or [1.0] * columns})
    return drawn, [axis for row in axes for axis in row]


def plain(text: str, limit: int = 60) -> str:
    """A label safe to draw: no control or direction-changing characters, shortened with an ellipsis.

    >>> plain("a\\u202eb\\n c"), plain("x" * 9, 5)
    ('ab c', 'xxxx…')
    """
    clean = " ".join(_CONTROL_CHARACTERS.sub("", text.replace("\n", " ").replace("\t", " ")).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def wrapped(text: str, width: int = 13) -> str:
    """A label on up to three short lines.

    >>> wrapped("50 mg, 4 weeks of 6").split("\\n")
    ['50 mg, 4', 'weeks of 6']
    """
    lines = [""]
    for word in plain(text, 36).split():
        if len(lines[-1]) + len(word) < width or not lines[-1]:
            lines[-1] = f"{lines[-1]} {word}".strip()
        else:
            lines.append(word)
    return "\n".join(lines[:3])


def render(drawn: Figure, *, name: str, title: str) -> Markup:
    """The figure as an `<svg>` element for a page; `name` prefixes every id, `title` is read aloud."""
    text = io.StringIO()
    with warnings.catch_warnings():
        for message in _HARMLESS:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(text.getvalue())
    _clean(root, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": plain(title, 300), "class": "plot"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # built from the list above


def _clean(element: ElementTree.Element, name: str) -> None:
    """Keep drawing elements and attributes only; strip namespaces; prefix ids and the references to them."""
    element.tag = _local(element.tag)
    if element.tag not in _ALLOWED:
        raise ValueError(f"matplotlib wrote an element that is not on the list: {element.tag}")
    element.attrib = {
        _local(key): _prefixed(_local(key), value, name)
        for key, value in element.attrib.items()
        if _local(key) in _ATTRIBUTES
    }
    if element.tag not in _TEXT:
        element.text = None  # indentation
    for child in list(element):
        child.tail = None
        if not isinstance(child.tag, str) or _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, name)


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]


def _prefixed(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    return value.replace("url(#", f"url(#{name}-") if "url(#" in value else value
