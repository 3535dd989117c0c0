"""Outputs, summaries, events, golden numbers: names they point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkpd.model import equations as eq

if TYPE_CHECKING:
    from pkpd.model.checks import Finder
    from pkpd.model.spec import Model

__all__ = ["check_observed"]


def check_observed(model: Model, find: Finder) -> None:
    """InputError for the first name that is not there."""
    assigned = eq.assignments(model.equations)
    values = [*model.states, *assigned]
    for name, output in model.outputs.items():
        _output(model, find, name, values)
        if output.cite is not None:
            find.known(("outputs", name, "cite"), output.cite, model.cite, "key under cite")
    for name, event in model.events.items():
        key = "hazard" if event.hazard else "risk"
        if not event.moves:
            find.known(("events", name, key), event.hazard or event.risk, assigned, "equation")
        _graded(model, find, name, list(assigned))
        for grade, probability in event.at_least.items():
            find.known(("events", name, "at_least", str(grade)), probability, assigned, "equation")
        if list(event.at_least) != sorted(event.at_least):
            find.fail(("events", name, "at_least"), "grades must ascend", list(event.at_least))
        if event.cite is not None:
            find.known(("events", name, "cite"), event.cite, model.cite, "key under cite")
    _golden(model, find, values)


def _graded(model: Model, find: Finder, name: str, assigned: list[str]) -> None:
    """Moves by equations that are there; grades at time 0 by parameters and covariates alone."""
    event, reach = model.events[name], eq.reach(model.equations)
    for move, equation in event.moves.items():
        find.known(("events", name, "moves", move), equation, assigned, "equation")
    if list(event.at_start) != sorted(event.at_start) or (event.at_start and min(event.at_start) != 1):
        find.fail(("events", name, "at_start"), "grades must ascend from 1", list(event.at_start))
    for grade, equation in event.at_start.items():
        path = ("events", name, "at_start", str(grade))
        find.known(path, equation, assigned, "equation")
        late = reach.get(equation, frozenset()) - {*model.parameters, *model.inputs, *assigned}
        if late:
            find.fail(path, f"a grade at time 0 cannot use {min(late)}", equation, "use parameters and covariates")


def _output(model: Model, find: Finder, name: str, values: list[str]) -> None:
    output = model.outputs[name]
    if output.is_:
        find.known(("outputs", name, "is"), output.is_, values, "equation or state")
    for key in ("dispersion", "zeros"):
        if word := getattr(output, key):
            find.known(("outputs", name, key), word, [*values, *model.parameters], "equation or parameter")
    for level, word in output.at_least.items():
        find.known(("outputs", name, "at_least", str(level)), word, values, "equation")
    former = output.previous
    if former is not None:
        if not any(former.name in eq.names(line.expression) for line in model.equations):
            find.fail(("outputs", name, "previous"), "no equation uses it", former.name, f"use {former.name} in one")
        if former.first > len(output.at_least) and output.kind == "ordered":
            find.fail(("outputs", name, "previous", "first"), "no such level", former.first)


def _golden(model: Model, find: Finder, values: list[str]) -> None:
    numbers = [*values, *model.parameters]
    for case, golden in model.golden.items():
        for name in golden.covariates:
            find.known(("golden", case, "covariates", name), name, model.inputs, "covariate")
        for name in golden.parameters:
            find.known(("golden", case, "parameters", name), name, model.parameters, "parameter")
        for i, dose in enumerate(golden.doses):
            find.known(("golden", case, "doses", i, "into"), dose.into, model.states, "state")
        for i, value in enumerate(golden.values):
            find.known(("golden", case, "values", i, "of"), value.of, numbers, "equation, state or parameter")
            needs_time = value.as_ == "value" and value.of not in model.parameters
            if needs_time and value.at is None:
                find.fail(("golden", case, "values", i), "needs at", value.of, "add at: 24 h, or as: maximum")
        if golden.cite is not None:
            find.known(("golden", case, "cite"), golden.cite, model.cite, "key under cite")
    for name, result in model.reproduces.items():
        find.known(("reproduces", name, "cite"), result.cite, model.cite, "key under cite")
