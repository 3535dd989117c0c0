"""Everything in a model text that types alone cannot say; each finding names its place, value and remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from pkpd.ground.errors import InputError
from pkpd.ground.text import Node, locate, nearest
from pkpd.model import equations as eq
from pkpd.model.dimensions import check_units
from pkpd.model.parser import KEYWORDS
from pkpd.model.parts import Effect, Parameter

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["check"]

Path = tuple[str | int, ...]


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
    _correlations(model, find)
    _unused(model, find)
    check_units(model, find)


def _names(model: Model, find: Finder) -> None:
    """One name, one thing."""
    from pkpd.model.spec import CLOCKS

    taken: dict[str, str] = dict.fromkeys(CLOCKS, "the clock")
    sections = ("covariates", "states", "parameters", "summaries")
    for section, what in zip(sections, ("a covariate", "a state", "a parameter", "a summary"), strict=True):
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
    if p.scale == "log" and not p.typical > 0:
        find.fail((*here, "typical"), "must be > 0 on the log scale", str(p.typical), "write a value above 0")
    if p.scale == "logit" and not 0 < p.value < 1:
        find.fail((*here, "typical"), "must be between 0 and 1 on the logit scale", str(p.typical), "write 0.5 1")
    if p.cite is not None:
        find.known((*here, "cite"), p.cite, model.cite, "key under cite")
    elif p.status != "assumed":
        find.fail(here, f"is {p.status} but cites nothing", None, "add cite, or status: assumed")
    if p.iov is not None:
        find.fail((*here, "iov"), "between-occasion variability is not available yet", None, "leave iov out")
    _prior(find, here, p)
    _above(model, find, here, p)
    for covariate, effect in p.effects.items():
        _effect(model, find, (*here, "effects", covariate), effect)


def _prior(find: Finder, here: Path, p: Parameter) -> None:
    if p.prior is None:
        return
    bounds = p.prior if isinstance(p.prior, tuple) else (p.prior.median,)
    if len(bounds) == 2 and not bounds[0] < bounds[1]:
        find.fail((*here, "prior"), "the low end must be below the high end", list(bounds))
    low, high = {"log": (0.0, math.inf), "logit": (0.0, 1.0), "identity": (-math.inf, math.inf)}[p.scale]
    if not all(low < b < high for b in bounds):
        find.fail((*here, "prior"), f"is outside what the {p.scale} scale allows", list(bounds))


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
    find.known(path, name, model.covariates, "covariate")
    covariate = model.covariates[name]
    for coefficient in effect.coefficients:
        if isinstance(coefficient, str):
            find.known(path, coefficient, model.parameters, "parameter")
            other = model.parameters[coefficient]
            if other.random or other.effects or other.above is not None:
                find.fail(path, "a coefficient has no iiv, effects or above of its own", coefficient)
    if effect.kind == "category":
        _categories(find, path, effect, covariate.labels)
    elif covariate.labels:
        find.fail(path, "is a covariate with labels", name, "write {1: FACTOR}")
    elif covariate.reference is None:
        find.fail(("covariates", name), "needs a reference, where its effects are neutral", None, "add reference: 70")
    scale = model.parameters[str(path[1])].scale
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
    for name, target in model.doses.items():
        find.known(("doses", name), name, model.states, "state")
        for key in ("bioavailability", "lag"):
            value = getattr(target, key)
            if isinstance(value, str):
                find.known(("doses", name, key), value, model.parameters, "parameter")
            elif not value >= 0:
                find.fail(("doses", name, key), "must be >= 0", value)
    for name, output in model.outputs.items():
        find.known(("outputs", name, "is"), output.is_, values, "equation or state")
        if output.cite is not None:
            find.known(("outputs", name, "cite"), output.cite, model.cite, "key under cite")
    response = model.response
    for name, summary in model.summaries.items():
        find.known(("summaries", name, "of"), summary.of, values, "equation or state")
        if summary.of in response:
            find.fail(
                ("summaries", name, "of"), "cannot use an equation that itself uses summaries or time", summary.of
            )
    for name, event in model.events.items():
        find.known(("events", name, "risk"), event.risk, assigned, "equation")
        for grade, probability in event.at_least.items():
            find.known(("events", name, "at_least", str(grade)), probability, assigned, "equation")
        if list(event.at_least) != sorted(event.at_least):
            find.fail(("events", name, "at_least"), "grades must ascend", list(event.at_least))
        if event.cite is not None:
            find.known(("events", name, "cite"), event.cite, model.cite, "key under cite")


def _structure(model: Model, find: Finder) -> None:
    """States against equations; what may use what."""
    from pkpd.model.spec import CLOCKS

    lines = model.equations
    known = {*model.parameters, *model.states, *model.covariates, *model.summaries, *CLOCKS}
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
    response = model.response
    for line in lines:
        if line.target not in response and (direct := eq.names(line.expression) & set(model.covariates)):
            problem, remedy = "the dynamics cannot use a covariate", "let it act through effects on a parameter"
            raise InputError(problem, where=line.where, field="equations", value=min(direct), remedy=remedy)
        if line.kind == "assign":
            continue
        used = eq.names(line.expression).union(*(reach.get(n, frozenset()) for n in eq.names(line.expression)))
        barred = {*model.summaries, *CLOCKS} | (set(model.states) if line.kind == "initial" else set())
        if used & barred:
            what = "an initial value" if line.kind == "initial" else "a derivative"
            problem = f"{what} cannot use {min(used & barred)}"
            raise InputError(problem, where=line.where, field="equations", value=line.target)


def _correlations(model: Model, find: Finder) -> None:
    etas = model.eta_names
    seen: set[frozenset[str]] = set()
    for i, (a, b, _) in enumerate(model.correlations):
        for name in (a, b):
            find.known(("correlations", i), name, etas, "parameter with iiv")
        if a == b or frozenset((a, b)) in seen:
            find.fail(("correlations", i), "pairs a parameter with itself or twice with another", f"{a}, {b}")
        seen.add(frozenset((a, b)))
    if model.omega is not None:
        for i, name in enumerate(model.omega.block):
            find.known(("omega", "block", i), name, etas, "parameter with iiv")
        if len(set(model.omega.block)) < len(model.omega.block):
            find.fail(("omega", "block"), "names a parameter twice", list(model.omega.block))
    if _definite(etas, model) is False:
        find.fail(("correlations",), "together they are not possible (not positive definite)", None, "weaken them")


def _definite(etas: tuple[str, ...], model: Model) -> bool:
    """Whether the correlation matrix has a Cholesky factor."""
    size = len(etas)
    matrix = [[float(i == j) for j in range(size)] for i in range(size)]
    for a, b, r in model.correlations:
        i, j = etas.index(a), etas.index(b)
        matrix[i][j] = matrix[j][i] = r
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(matrix[i][k] * matrix[j][k] for k in range(j))
            if i == j and rest <= 1e-10:
                return False
            matrix[i][j] = math.sqrt(rest) if i == j else rest / matrix[j][j]
    return True


def _unused(model: Model, find: Finder) -> None:
    """A parameter, covariate or summary that nothing uses is a slip of the pen."""
    used = {name for line in model.equations for name in eq.names(line.expression)}
    for p in model.parameters.values():
        used |= {c for effect in p.effects.values() for c in effect.coefficients if isinstance(c, str)}
        used |= set(p.effects) | (eq.names(p.above) if p.above is not None else frozenset())
    used |= {v for t in model.doses.values() for v in (t.bioavailability, t.lag) if isinstance(v, str)}
    for section, what in (("parameters", "parameter"), ("covariates", "covariate"), ("summaries", "summary")):
        for name in getattr(model, section):
            if name not in used:
                find.fail((section, name), f"the {what} is used by nothing", name, "remove it, or use it")
