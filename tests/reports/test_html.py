"""The page: self-contained, valid in structure, nothing a user writes can become markup. Witness: html.parser."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from reports import html, results
from reports.figures import design
from reports.figures.palette import looks
from reports.figures.svg import plain
from reports.study import Study

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg></title><script>x</script>",
    "--><script>x</script><!--",
    "{{ 7*7 }}{% for x in y %}",
    "$\\frac{1}{0}$ \\$ ^_{",
    "a\u202egm 006\u2066\u0000\u0007b",
    "x" * 5000,
    "javascript:alert(1)&#60;script&#62;",
    "日本語 ε µ ½ 💊",
)
ELEMENTS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "nav",
        "p",
        "ol",
        "ul",
        "li",
        "a",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "section",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "small",
        "dl",
        "dt",
        "dd",
        "figure",
        "figcaption",
        "b",
        "span",
        "svg",
        "g",
        "path",
        "text",
        "tspan",
        "use",
        "defs",
        "clippath",
        "rect",
        "circle",
        "line",
    ]
)
VOID = frozenset({"meta"})


class Page(HTMLParser):
    """Elements, attributes, ids, text; and whether every element was closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, tag
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == attribute]


@pytest.fixture(scope="module")
def text(study: Study) -> str:
    return html.render(study)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_is_self_contained(page: Page, text: str) -> None:
    assert page.stack == []
    assert set(page.elements) <= ELEMENTS
    assert page.comments == []
    assert all(value.startswith("#") for value in page.values("href"))
    assert not page.values("src")
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    policy = next(value for value in page.values("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not re.findall(r"https?://", text)
    assert "@import" not in text
    assert "url(h" not in text


def test_ids_are_unique_and_every_reference_has_its_target(page: Page, text: str) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in page.values("href")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted <= set(ids)


def test_every_section_and_number_is_there(page: Page, text: str) -> None:
    """Issue 2, item 6: what the report must contain."""
    keys = ("question", "design", "model", "vpc", "population", "exposure", "efficacy", "safety", "response", "benefit-risk",
            "operating", "sensitivity", "validation", "assumptions", "computation", "limitations", "provenance")  # fmt: skip
    assert [value for value in page.values("id") if value in keys] == list(keys)
    figures, tables = (re.findall(rf"<b>{kind} (\d+)\.</b>", text) for kind in ("Figure", "Table"))
    assert figures == [str(k) for k in range(1, len(figures) + 1)]
    assert tables == [str(k) for k in range(1, len(tables) + 1)]
    assert page.elements["figure"] == len(figures) >= 12
    assert sum(1 for key, value in ((k, v) for _, k, v in page.attributes) if key == "role" and value == "img") >= 25
    words = " ".join(page.text)
    assert "nan" not in re.findall(r"[a-z]+", words.lower())
    assert re.search(r"NNT[HB] \d[\d.,]*\s\(NNT[HB] \d", words)  # numbers needed beside the risk differences


DRAWING = frozenset(["svg", "g", "path", "text", "tspan", "use", "defs", "clippath", "rect", "circle", "line"])


@pytest.fixture(scope="module")
def small(build: Callable[..., Study]) -> Study:
    return build(3, 60)


@pytest.fixture(scope="module")
def clean(small: Study) -> Page:
    return Page(html.render(small))


@pytest.mark.parametrize("first", [0, 1])
def test_no_word_of_a_user_becomes_markup(small: Study, clean: Page, first: int) -> None:
    """Every text a protocol or model file can hold, made hostile: same elements outside the figures, text only."""
    word = "".join(HOSTILE[first::2])
    dirty = Page(html.render(hostile(small, word)))
    assert set(dirty.elements) <= ELEMENTS
    assert {k: n for k, n in dirty.elements.items() if k not in DRAWING} == {
        k: n for k, n in clean.elements.items() if k not in DRAWING
    }
    assert {key for _, key, _ in dirty.attributes} == {key for _, key, _ in clean.attributes}
    assert dirty.comments == []
    assert not [v for v in dirty.values("href") if not v.startswith("#")]
    shown = "".join(dirty.text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08]", shown)
    assert HOSTILE[first] in shown
    assert max(len(part) for part in dirty.text) < 25_000


@pytest.mark.parametrize("word", HOSTILE)
def test_no_label_of_a_figure_becomes_markup(word: str) -> None:
    """matplotlib would read `$` as mathematics and write labels into comments; only drawing elements may come out."""
    look = looks([True], [False])[0]
    lane = design.Lane(label=word, note=word, look=look, steps=(design.Step(start=0, end=9, size=1, text=word),))
    page = Page(str(design.sketch([lane], {word: 0.0, "end": 9.0}, name="x")))
    assert set(page.elements) <= DRAWING
    assert page.comments == []
    assert {key for _, key, _ in page.attributes} <= {
        "viewbox", "role", "aria-label", "class", "id", "d", "style", "transform", "x", "y", "width", "height", "href",
        "clip-path",
    }  # fmt: skip
    assert plain(word, 10)[:9] in "".join(page.text)


def hostile(study: Study, word: str) -> Study:
    """The study with `word` in every place where a user's words come in."""
    swap = dataclasses.replace
    return swap(
        study, name=word, question=word, context=word, command=word,
        arms=tuple(swap(a, label=f"{word}{a.index}", flag=a.flag and word) for a in study.arms),
        terms=tuple(swap(t, term=f"{word}{t.key}", soc=word) for t in study.terms),
        parameters=tuple(swap(p, source=word, note=word) for p in study.parameters),
        primary=swap(study.main, unit=word), exposure_unit=word, design=tuple((word, word) for _ in study.design),
        estimands=tuple((word, word) for _ in study.estimands), provenance=tuple((word, word) for _ in study.provenance),
        screening=tuple(swap(s, name=word, rule=word) for s in study.screening),
        labels={"SMOKING": {k: f"{word}{k}" for k in (0, 1, 2)}, "SEX": {0: word, 1: word}},
        units=dict.fromkeys(study.units, word), decisions=tuple(swap(d, name=word, rule=word) for d in study.decisions),
        published=tuple(swap(p, claim=word, witness=word, unit=word) for p in study.published),
        sensitivities=tuple(swap(v, label=word, about=word) for v in study.sensitivities),
    )  # fmt: skip


def test_the_same_study_gives_the_same_bytes(study: Study, text: str) -> None:
    results.forget()
    assert html.render(study) == text


def test_a_breached_limit_is_said_first(build: Callable[..., Study]) -> None:
    study = build(4, 60)
    broken = dataclasses.replace(
        study, planned=8, failed_blocks=1,
        fit=study.fit and dataclasses.replace(study.fit, diagnostics={"max_rhat": 1.2, "divergences": 3.0}),
    )  # fmt: skip
    text = html.render(broken)
    first = text.index("Limits breached")
    assert first < text.index('<p class="answer">')
    for words in ("R-hat: 1.200", "Divergent transitions: 3", "Replicates finished: 4 of 8", "Blocks that failed: 1"):
        assert words in text[first : text.index('<p class="answer">')]
    assert "Effective sample size, bulk: not estimable" in text  # a diagnostic that is missing does not hold


def test_a_study_without_efficacy_or_fit_or_curves_is_still_reported(build: Callable[..., Study]) -> None:
    study = dataclasses.replace(build(3, 60), primary=None, fit=None, median=None, sensitivities=(), curves=None)
    page = Page(html.render(study))
    assert "efficacy" not in page.values("id")
    assert "safety" in page.values("id")
