"""Random effects, occasions and mixtures: what types alone cannot say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pkpd.model.parts import Shared, Spread

if TYPE_CHECKING:
    from pkpd.model.checks import Finder
    from pkpd.model.spec import Model

__all__ = ["check_variability"]

MOST = 5.0
SAYING = "is a standard deviation {}, and more than 5 is no variability between people"


def check_variability(model: Model, find: Finder) -> None:
    """InputError for the first thing wrong."""
    _percent(model, find)
    _shared(model, find)
    _occasions(model, find)
    _varying(model, find)
    _correlations(model, find)
    _residual_correlations(model, find)
    _blocks(model, find, "omega")
    _blocks(model, find, "sigma")
    _mixture(model, find)


def _percent(model: Model, find: Finder) -> None:
    """Spreads on a log scale and relative errors that can only be percentages: 30 for 0.3 would be believed."""
    for name, p in model.parameters.items():
        for key in ("iiv", "iov"):
            spread = getattr(p, key)
            if p.link == "log" and isinstance(spread, Spread) and spread.typical > MOST:
                remedy = f"write {spread.typical / 100:g} for {spread.typical:g} %"
                find.fail(("parameters", name, key), SAYING.format("of the logarithm"), float(spread.typical), remedy)
    for name, output in model.outputs.items():
        for key in ("proportional", "log"):
            term = getattr(output.error, key)
            if term is not None and term.typical > MOST:
                remedy = f"write {term.typical / 100:g} for {term.typical:g} %"
                find.fail(("outputs", name, "error", key), SAYING.format("as a fraction"), float(term.typical), remedy)


def _shared(model: Model, find: Finder) -> None:
    for name, p in model.parameters.items():
        if isinstance(p.iiv, Shared):
            others = [n for n in model.subject_etas if n != name]
            find.known(("parameters", name, "iiv", "eta"), p.iiv.eta, others, "parameter with an iiv of its own")
        if p.shape is not None and not p.varies:
            find.fail(("parameters", name, "scale"), "shapes an eta the parameter has not", p.scale, "add iiv")


def _occasions(model: Model, find: Finder) -> None:
    if model.occasion_etas and model.occasion is None:
        name = model.occasion_etas[0]
        find.fail(("parameters", name, "iov"), "needs an occasion", None, "add occasion: {column: OCC} or {every: 7 d}")
    if model.occasion is not None and not model.occasion_etas:
        find.fail(("occasion",), "no parameter varies between occasions", None, "add iov to one, or leave occasion out")
    if model.occasion is not None and model.occasion.column in model.inputs:
        find.fail(("occasion", "column"), "is a covariate already", model.occasion.column, "name another column")


def _varying(model: Model, find: Finder) -> None:
    for name, covariate in model.covariates.items():
        if covariate.labels and covariate.between == "linear":
            find.fail(("covariates", name, "between"), "categories have nothing in between", "linear", "use locf")
    for name, p in model.parameters.items():
        changing = [c for c in p.effects if c in model.varying]
        if changing and p.above is not None:
            find.fail(("parameters", name, "effects"), "a parameter with above cannot change in time", changing[0])


def _correlations(model: Model, find: Finder) -> None:
    etas = model.subject_etas
    seen: set[frozenset[str]] = set()
    for i, (a, b, _) in enumerate(model.correlations):
        for name in (a, b):
            find.known(("correlations", i), name, etas, "parameter with iiv")
        if a == b or frozenset((a, b)) in seen:
            find.fail(("correlations", i), "pairs a parameter with itself or twice with another", f"{a}, {b}")
        seen.add(frozenset((a, b)))
    if not _definite(etas, model.correlations):
        find.fail(("correlations",), "together they are not possible (not positive definite)", None, "weaken them")


def _residual_correlations(model: Model, find: Finder) -> None:
    names = tuple(model.outputs)
    inside = {frozenset((a, b)) for block in model.sigma for a in block.block for b in block.block}
    pairs: set[frozenset[str]] = set()
    for i, (a, b, _) in enumerate(model.residual_correlations):
        for name in (a, b):
            find.known(("residual_correlations", i), name, names, "output")
            _has_error(model, find, ("residual_correlations", i), name)
        if a == b or frozenset((a, b)) in pairs:
            find.fail(("residual_correlations", i), "pairs an output with itself or twice with another", f"{a}, {b}")
        if model.sigma and frozenset((a, b)) not in inside:
            problem, remedy = "is in no block of sigma", "put both outputs into one block, or leave sigma out"
            find.fail(("residual_correlations", i), problem, f"{a}, {b}", remedy)
        pairs.add(frozenset((a, b)))
    if not _definite(names, model.residual_correlations):
        find.fail(("residual_correlations",), "together they are not possible (not positive definite)", None)


def _has_error(model: Model, find: Finder, path: tuple[str | int, ...], name: str) -> None:
    if model.outputs[name].error.beta is not None or not model.outputs[name].continuous:
        find.fail(path, "has no residual standard deviation", name, "leave it out")


def _blocks(model: Model, find: Finder, key: str) -> None:
    blocks = model.omega if key == "omega" else model.sigma
    known, what, one = (
        (model.subject_etas, "parameter with iiv", "parameter")
        if key == "omega"
        else (tuple(model.outputs), "output", "output")
    )
    n = "n" if one == "output" else ""
    seen: dict[str, int] = {}
    for k, block in enumerate(blocks):
        path: tuple[str | int, ...] = (key, "block") if len(blocks) == 1 else (key, k, "block")
        for i, name in enumerate(block.block):
            find.known((*path, i), name, known, what)
            if key == "sigma":
                _has_error(model, find, (*path, i), name)
            if name in seen:
                problem = f"names a{n} {one} twice" if seen[name] == k else f"names a{n} {one} of another block"
                find.fail(path, problem, name, f"one block for each {one}")
            seen[name] = k
        if key == "sigma" and len(block.block) < 2:
            find.fail(path, "names fewer than two outputs", ", ".join(block.block), "name two, or leave sigma out")


def _definite(names: tuple[str, ...], correlations: tuple[tuple[str, str, float], ...]) -> bool:
    """Whether the correlation matrix has a Cholesky factor."""
    size = len(names)
    matrix = [[float(i == j) for j in range(size)] for i in range(size)]
    for a, b, r in correlations:
        i, j = names.index(a), names.index(b)
        matrix[i][j] = matrix[j][i] = r
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(matrix[i][k] * matrix[j][k] for k in range(j))
            if i == j and rest <= 1e-10:
                return False
            matrix[i][j] = math.sqrt(rest) if i == j else rest / matrix[j][j]
    return True


def _mixture(model: Model, find: Finder) -> None:
    """At least two classes; the last may be `rest`; probabilities that are all numbers add up to 1."""
    shares = model.mixture
    if not shares:
        return
    if len(shares) < 2:
        find.fail(("mixture",), "needs two classes or more", None, "add the other: {responder: 0.3, other: rest}")
    last = list(shares)[-1]
    for name, share in shares.items():
        if share == "rest":
            if name != last:
                find.fail(("mixture", name), "only the last class can be rest", share)
        elif isinstance(share, str):
            find.known(("mixture", name), share, model.parameters, "parameter")
            if model.parameters[share].varies or model.parameters[share].effects:
                find.fail(("mixture", name), "a probability has no iiv, iov or effects of its own", share)
            if model.parameters[share].link != "logit":
                find.fail(("mixture", name), "a probability needs the logit scale", share, "add scale: logit")
    numbers = [s for s in shares.values() if isinstance(s, float)]
    total = sum(numbers)
    whole = len(numbers) == len(shares)
    if total > 1 + 1e-9 or (whole and abs(total - 1) > 1e-9):
        find.fail(("mixture",), "the probabilities must add up to 1", total, "let the last one be rest")
    if not whole and shares[last] != "rest":
        find.fail(("mixture", last), "must be rest where another is a parameter", shares[last], f"{last}: rest")
