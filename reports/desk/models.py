"""`vtrial models` and `vtrial models show`: the library told in full, equations, parameters, compartments, course."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reports.desk import guard, say

if TYPE_CHECKING:
    from pkpd.model.parts import Effect, Parameter
    from pkpd.model.spec import Model

__all__ = ["about", "models", "show"]

WIDTH: Final = 110
CURVES: Final = 4


def models(*, machine: bool) -> int:
    """List the library: name, what it is, how many golden numbers."""
    from pkpd.model import library

    found = {name: library.load(name) for name in library.models()}
    if machine:
        say.machine({"models": {name: model.about for name, model in found.items()}})
        return guard.OK
    rows = [
        (name, f"{_count(m)} golden", textwrap.shorten(m.about, 84, placeholder=" ...")) for name, m in found.items()
    ]
    say.result(*say.table(rows))
    say.remark("vtrial models show NAME tells all about one; --text prints the text to copy.")
    return guard.OK


def show(name: str, *, svg: Path | None = None, text: bool = False, machine: bool) -> int:
    """Tell a model of the library, or of a file: equations, parameters, compartments, profile; or print its text."""
    from pkpd.ground.text import read_text
    from pkpd.model import library
    from pkpd.model.spec import Model

    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else library.model_path(name)
    model, written = Model.read(path), read_text(path)
    if machine:
        say.machine({"name": name, "text": written, "model": model.to_dict()})
    elif text:
        say.result(written.rstrip("\n"))
    else:
        say.result(*about(model), *_course(model, svg))
    return guard.OK


def _short(text: str) -> str:
    return textwrap.shorten(text, 84, placeholder=" ...")


def _count(model: Model) -> int:
    return sum(len(golden.values) for golden in model.golden.values())


def about(model: Model) -> list[str]:
    """Everything a model text says, laid out for reading; no solve."""
    from reports.desk.diagram import diagram

    lines = [model.name, "", *_wrapped(model.about)]
    sections: list[tuple[str, list[str]]] = [
        ("Equations", _equations(model)),
        ("Compartments", diagram(model)),
        ("Parameters", _parameters(model)),
        ("Correlations of random effects", [f"{a}, {b}: {r:.3g}" for a, b, r in model.correlations]),
        ("Covariates", say.table(_covariates(model))),
        ("Classes", [f"{name}: {share}" for name, share in model.mixture.items()]),
        ("Doses", say.table(_doses(model))),
        ("Outputs", say.table(_outputs(model))),
        ("Events", say.table(_events(model))),
        ("Holds for", [line for key, value in model.domain.items() for line in _wrapped(f"{key}: {value}")]),
        ("Golden numbers", say.table(_golden(model))),
        ("Should reproduce", [line for r in model.reproduces.values() for line in _reproduced(r)]),
        ("Sources", [line for key, value in model.cite.items() for line in _wrapped(f"[{key}] {value}")]),
    ]
    for title, body in sections:
        if body:
            lines += ["", title, *(f"  {line}" for line in body)]
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _equations(model: Model) -> list[str]:
    from pkpd.model.equations import show as shown

    left = {"assign": "{}", "initial": "{}(0)", "derivative": "d/dt({})"}
    return [f"{left[line.kind].format(line.target)} = {shown(line.expression)}" for line in model.equations]


def _parameters(model: Model) -> list[str]:
    head = ("name", "typical", "unit", "scale", "se", "between subjects", "effects", "status", "source")
    rows = [head, *(_parameter(name, p) for name, p in model.parameters.items())]
    notes = [line for name, p in model.parameters.items() if p.note for line in _wrapped(f"{name}: {p.note}")]
    return [*say.table(rows), *(["", *notes] if notes else [])]


def _parameter(name: str, p: Parameter) -> tuple[str, ...]:
    effects = ", ".join(f"{covariate} {_effect(effect)}" for covariate, effect in p.effects.items())
    return (
        name, f"{float(p.typical):.6g}", p.typical.unit, p.scale, f"{p.se:.3g}" if p.se else "", _spread(p), effects,
        p.status, p.cite or "",
    )  # fmt: skip


def _spread(p: Parameter) -> str:
    from pkpd.model.parts import Shared

    between = f", between occasions {p.iov.typical:.3g}" if p.iov is not None else ""
    if isinstance(p.iiv, Shared):
        return f"that of {p.iiv.eta}{between}"
    return (f"{p.iiv.typical:.4g}" if p.iiv is not None else "") + between


def _effect(effect: Effect) -> str:
    if effect.kind == "category":
        return " ".join(f"{code}: x {value}" for code, value in effect.categories.items())
    return f"{effect.kind} {effect.coefficient}"


def _covariates(model: Model) -> Iterator[tuple[str, ...]]:
    for name, c in model.covariates.items():
        labels = ", ".join(f"{code} {label}" for code, label in c.labels.items())
        span = f"{c.range[0]:g} to {c.range[1]:g}" if c.range else ""
        reference = f"reference {c.reference:g}" if c.reference is not None else ""
        yield name, "" if labels else c.unit, reference, labels or span


def _doses(model: Model) -> Iterator[tuple[str, ...]]:
    from pkpd.model.dosing import expression_of
    from pkpd.model.equations import show as shown

    for state, target in model.doses.items():
        given = ", ".join(f"{key} {shown(expression_of(value))}" for key, value in target.given().items())
        yield state, model.dose_units[state], given


def _outputs(model: Model) -> Iterator[tuple[str, ...]]:
    from pkpd.model.dimensions import units_of

    units = units_of(model)
    for name, o in model.outputs.items():
        of = str(o.is_) or ", ".join(f">= {level}: {p}" for level, p in o.at_least.items())
        law = _error(model, name) if o.continuous else (o.law or o.kind).replace("_", " ")
        yield name, of, "" if units.get(str(o.is_), "1") == "1" else units[str(o.is_)], law, o.note or ""


def _error(model: Model, name: str) -> str:
    from pkpd.model.observed import terms_of

    error = model.outputs[name].error
    terms = [f"{kind} {term.typical}" for kind, term in terms_of(error).items()]
    if error.beta is not None:
        terms.append(f"beta, precision {error.beta.precision:g}")
    return " + ".join(terms)


def _events(model: Model) -> Iterator[tuple[str, ...]]:
    for name, event in model.events.items():
        yield name, event.kind, f"hazard {event.hazard}" if event.hazard else f"risk {event.risk} over {event.per:g} h"


def _golden(model: Model) -> Iterator[tuple[str, ...]]:
    for case, golden in model.golden.items():
        for value in golden.values:
            yield case, value.of, _asked(value), str(value.is_), "" if value.kind == "exact" else value.kind
        if golden.note:
            yield case, "", golden.note, "", ""


def _asked(value: Any) -> str:
    if value.as_ == "value":
        return f"at {value.at or 0:g} h"
    limit = f" {value.limit}" if value.limit is not None else ""
    until = f" to {value.until:g} h" if value.until is not None else ""
    return str(value.as_).replace("_", " ") + limit + until


def _reproduced(result: Any) -> Iterable[str]:
    said = f"{result.what}: {result.value} [{result.cite}, {result.status}]"
    return _wrapped(said + (f". {result.note}" if result.note else ""))


def _course(model: Model, svg: Path | None) -> list[str]:
    """The profile of the typical subject, or why there is none."""
    from pkpd.conformance.case import NotSolved
    from pkpd.ground.errors import InputError
    from reports.desk import profile

    try:
        course = profile.course_of(model)
    except (InputError, NotSolved) as refusal:
        if svg is not None:
            raise
        return ["", "Profile", f"  none: {getattr(refusal, 'problem', refusal)}"]
    if svg is not None:
        profile.write_svg(model, course, svg)
    lines = ["", f"Profile of the typical subject, {course.title}"]
    for curve in course.curves[:CURVES]:
        lines += ["", *(f"  {line}" for line in profile.drawn(course, curve))]
    return lines
