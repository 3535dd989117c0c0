"""Everything in a model text that types alone cannot say; each finding names its place, value and remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn

from pkpd.ground.errors import InputError
from pkpd.ground.text import Node, locate, nearest
from pkpd.model import equations as eq
from pkpd.model.checks_observed import check_observed
from pkpd.model.checks_variability import check_variability
from pkpd.model.dimensions import check_units
from pkpd.model.dosing import expression_of
from pkpd.model.parser import KEYWORDS
from pkpd.model.parts import Effect, Horseshoe, Parameter

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["check"]

Path = tuple[str | int, ...]
CLOCKS = ("TIME", "WEEKS", "TAD", "DOSE")
"""Names every equation may use: hours since time 0, weeks (at the visits of a trial only), hours since the last dose
and its amount in the unit of a dose, both 0 before the first."""


class Finder:
    """Raises an InputError at a path of the text."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def fail(self, path: Path, problem: str, value: object = None, remedy: str | None = None) -> NoReturn:
        from pkpd.ground.validation import shown_path

        place = locate(self.node, path)
        raise InputError(problem, where=place, field=shown_path(path), value=value, remedy=remedy)

    def known(self, path: Path, name: str, valid: Iterable[str], what: str) -> None:
        """Fail unless `name` is one of `valid`."""
        names = list(valid)
        if name not in names:
            self.fail(path, f"no such {what}", name, nearest(name, names))


def check(model: Model, node: Node) -> None:
    """Raise the first InputError of a model whose shape is right."""
    find = Finder(node)
    _names(model, find)
    for name, parameter in model.parameters.items():
        _parameter(model, find, name, parameter)
    _references(model, find)
    _structure(model, find)
    check_variability(model, find)
    check_observed(model, find)
    _unused(model, find)
    check_units(model, find)


def _names(model: Model, find: Finder) -> None:
    """One name, one thing."""
    taken: dict[str, str] = dict.fromkeys(CLOCKS, "the clock")
    sections = {"covariates": "a covariate", "states": "a state", "parameters": "a parameter", "summaries": "a summary"}
    sections |= {"mixture": "a class of the mixture", "previous": "an outcome before"}
    for section, what in sections.items():
        for name in getattr(model, section):
            if name in KEYWORDS:
                find.fail((section, name), "is a word of the equations", name, "choose another name")
            if name in taken:
                find.fail((section, name), f"is already {taken[name]}", name, "choose another name")
            taken[name] = what
    for line in model.equations:
        if line.kind == "assign" and line.target in taken:
            problem = f"is already {taken[line.target]}"
            raise InputError(problem, where=line.where, field="equations", value=line.target, remedy="rename it")


def _parameter(model: Model, find: Finder, name: str, p: Parameter) -> None:
    here: Path = ("parameters", name)
    _convertible(find, here, p)
    if p.link == "log" and not p.typical > 0:
        find.fail((*here, "typical"), "must be > 0 on the log scale", str(p.typical), "write a value above 0")
    if p.link == "logit" and not 0 < p.value < 1:
        find.fail((*here, "typical"), "must be between 0 and 1 on the logit scale", str(p.typical), "write 0.5 1")
    if p.cite is not None:
        find.known((*here, "cite"), p.cite, model.cite, "key under cite")
    elif p.status != "assumed":
        find.fail(here, f"is {p.status} but cites nothing", None, "add cite, or status: assumed")
    _prior(find, here, p)
    _above(model, find, here, p)
    for covariate, effect in p.effects.items():
        _effect(model, find, (*here, "effects", covariate), effect)


def _convertible(find: Finder, here: Path, p: Parameter) -> None:
    from pkpd.ground.units import same_dimension

    if p.in_ is not None and not same_dimension(p.typical.unit, p.in_):
        find.fail(
            (*here, "in"), f"{p.typical.unit} cannot be turned into {p.in_}", p.in_, "give a unit of its dimension"
        )


def _prior(find: Finder, here: Path, p: Parameter) -> None:
    if p.prior is None:
        return
    if isinstance(p.prior, Horseshoe):
        if p.link == "logit" or p.above is not None or p.random:
            find.fail((*here, "prior"), "a horseshoe is for coefficients on the identity or log scale without iiv")
        return
    bounds = p.prior if isinstance(p.prior, tuple) else (p.prior.median,)
    if len(bounds) == 2 and not bounds[0] < bounds[1]:
        find.fail((*here, "prior"), "the low end must be below the high end", list(bounds))
    low, high = {"log": (0.0, math.inf), "logit": (0.0, 1.0), "identity": (-math.inf, math.inf)}[p.link]
    if not all(low < b < high for b in bounds):
        find.fail((*here, "prior"), f"is outside what the {p.link} scale allows", list(bounds))


def _above(model: Model, find: Finder, here: Path, p: Parameter) -> None:
    if p.above is None:
        return
    path = (*here, "above")
    if p.scale != "log":
        find.fail(path, "needs the log scale", p.scale, "leave scale out")
    for name in sorted(eq.names(p.above)):
        find.known(path, name, [n for n in model.parameters if n != here[-1]], "parameter")
        if model.parameters[name].above is not None:
            find.fail(path, "leans on a parameter that is itself above another", name)
    if p.effects:
        find.fail((*here, "effects"), "covariate effects on a parameter with above are not available", None)
    floor = float(eq.evaluate(p.above, {name: q.value for name, q in model.parameters.items()}))
    if not p.value > floor:
        find.fail((*here, "typical"), f"must be greater than {eq.show(p.above)} = {floor:.6g}", str(p.typical))


def _effect(model: Model, find: Finder, path: Path, effect: Effect) -> None:
    name = str(path[-1])
    find.known(path, name, model.inputs, "covariate")
    covariate = model.inputs[name]
    for coefficient in effect.coefficients:
        if isinstance(coefficient, str):
            find.known(path, coefficient, model.parameters, "parameter")
            other = model.parameters[coefficient]
            if other.varies or other.effects or other.above is not None:
                find.fail(path, "a coefficient has no iiv, iov, effects or above of its own", coefficient)
    if effect.kind == "category":
        _categories(find, path, effect, covariate.labels)
    elif covariate.labels:
        find.fail(path, "is a covariate with labels", name, "write {1: FACTOR}")
    elif covariate.reference is None:
        find.fail(("covariates", name), "needs a reference, where its effects are neutral", None, "add reference: 70")
    scale = model.parameters[str(path[1])].link
    if effect.kind == "power" and not (covariate.reference or 0) > 0:
        find.fail(("covariates", name, "reference"), "must be > 0 for a power effect", covariate.reference)
    if effect.kind != "linear" and scale != "log":
        find.fail(path, f"a {effect.kind} effect needs the log scale", scale, "use linear")


def _categories(find: Finder, path: Path, effect: Effect, labels: dict[int, str]) -> None:
    if not labels:
        find.fail(path, "the covariate has no labels", path[-1], "add labels: {0: no, 1: yes}")
    for code, coefficient in effect.categories.items():
        if code not in labels:
            find.fail((*path, str(code)), "no such category", code, f"one of {sorted(labels)}")
        if isinstance(coefficient, float) and not coefficient > 0:
            find.fail((*path, str(code)), "a factor must be > 0", coefficient)


def _references(model: Model, find: Finder) -> None:
    """Names that point at states, equations, parameters and citations."""
    assigned = eq.assignments(model.equations)
    values = [*model.states, *assigned]
    for name in model.doses:
        _dose(model, find, name)
    response = model.response
    for name, summary in model.summaries.items():
        find.known(("summaries", name, "of"), summary.of, values, "equation or state")
        if summary.of in response:
            find.fail(
                ("summaries", name, "of"), "cannot use an equation that itself uses summaries or time", summary.of
            )


def _dose(model: Model, find: Finder, name: str) -> None:
    """What a dose option may name: parameters, covariates and equations of them; its numbers must make sense."""
    find.known(("doses", name), name, model.states, "state")
    target = model.doses[name]
    reach = eq.reach(model.equations)
    for key, value in target.given().items():
        path: Path = ("doses", name, *key.split("."))
        if isinstance(value, float):
            if not value >= 0 or (value == 0 and key in ("duration", "rate", "scale", "transit.time")):
                find.fail(path, "must be >= 0" if not value >= 0 else "must be > 0", value, "write a larger number")
            continue
        for word in sorted(eq.names(expression_of(value))):
            find.known(path, word, [*model.parameters, *model.inputs, *reach], "parameter, covariate or equation")
            if barred := reach.get(word, frozenset({word})) & {
                *model.states,
                *model.summaries,
                *CLOCKS,
                *model.previous,
            }:
                find.fail(path, f"a dose option cannot depend on {min(barred)}", word, "use parameters and covariates")
    if target.duration is not None and target.rate is not None:
        find.fail(("doses", name), "has both a duration and a rate", name, "keep one of them")
    scaled = target.scale != 1.0
    if scaled != (target.unit is not None):
        find.fail(("doses", name), "scale and unit go together", name, "add unit: mg/kg, the unit of a dose")


def _structure(model: Model, find: Finder) -> None:
    """States against equations; what may use what."""
    lines = model.equations
    known = {*model.parameters, *model.states, *model.inputs, *model.summaries, *model.previous, *CLOCKS}
    eq.check_names(lines, known)
    for line in lines:
        if line.kind != "assign" and line.target not in model.states:
            remedy = nearest(line.target, model.states) or "declare it under states"
            problem = "no such state"
            raise InputError(problem, where=line.where, field="equations", value=line.target, remedy=remedy)
    given = {line.target for line in lines if line.kind == "derivative"}
    for state in model.states:
        if state not in given:
            find.fail(("states", state), "has no equation", state, f"add d/dt({state}) = ...")
    reach = eq.reach(lines)
    for line in lines:
        if line.kind != "assign":
            _barred(model, line, reach)
    for name, event in model.events.items():
        if event.hazard and (late := reach.get(event.hazard, frozenset()) & _late(model)):
            find.fail(("events", name, "hazard"), f"a hazard cannot use {min(late)}", event.hazard)
        for move, equation in event.moves.items():
            if late := reach.get(equation, frozenset()) & _late(model):
                find.fail(("events", name, "moves", move), f"an intensity cannot use {min(late)}", equation)


def _late(model: Model) -> set[str]:
    """What is known only when the integration is done."""
    return {*model.summaries, *model.previous, "WEEKS"}


def _barred(model: Model, line: eq.Equation, reach: Mapping[str, frozenset[str]]) -> None:
    """A derivative uses nothing of the response layer, an initial value no state or clock either."""
    used = eq.names(line.expression).union(*(reach.get(n, frozenset()) for n in eq.names(line.expression)))
    barred = _late(model) | ({*model.states, *CLOCKS} if line.kind == "initial" else set())
    if used & barred:
        what = "an initial value" if line.kind == "initial" else "a derivative"
        problem = f"{what} cannot use {min(used & barred)}"
        remedy = "use parameters and covariates" if line.kind == "initial" else "use states, parameters and TIME [h]"
        raise InputError(problem, where=line.where, field="equations", value=line.target, remedy=remedy)


def _unused(model: Model, find: Finder) -> None:
    """A parameter, covariate or summary that nothing uses is a slip of the pen."""
    used = {name for line in model.equations for name in eq.names(line.expression)}
    for p in model.parameters.values():
        used |= {c for effect in p.effects.values() for c in effect.coefficients if isinstance(c, str)}
        used |= set(p.effects) | (eq.names(p.above) if p.above is not None else frozenset())
    used |= {n for t in model.doses.values() for v in t.given().values() for n in eq.names(expression_of(v))}
    used |= {share for share in model.mixture.values() if isinstance(share, str)}
    used |= {name for output in model.outputs.values() for name in output.equations}
    for section, what in (
        ("parameters", "parameter"),
        ("covariates", "covariate"),
        ("summaries", "summary"),
        ("mixture", "class"),
    ):
        for name in getattr(model, section):
            if name not in used and not (section == "mixture" and used & set(model.mixture)):
                find.fail((section, name), f"the {what} is used by nothing", name, "remove it, or use it")
