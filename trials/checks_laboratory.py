"""Cross-checks of laboratory tests and of the dosing rules that look at them; the first fault is an InputError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from pkpd.ground.errors import InputError
from pkpd.model import equations
from trials import laboratory
from trials.analysis import grading

if TYPE_CHECKING:
    from pkpd.model.rules import Rule
    from pkpd.model.spec import Model
    from populations.covariates import PopulationLaw
    from trials.faults import Fault, Path_
    from trials.laboratory import Laboratory, Limit
    from trials.protocol import Protocol

__all__ = ["against_law", "against_model", "inside", "truly"]

MOST_CYCLES = 60
MOST_SAMPLES = 5_000
MINUTE = 1.0 / 60.0
AS_EVENT = ("incidence", "time_to_event")


def inside(protocol: Protocol, fault: Fault) -> None:
    """Terms, units, limits, times; rules name tests and grades that exist."""
    for name, test in protocol.laboratory.items():
        path: Path_ = ("laboratory", name)
        _term(test, path, fault)
        _limits(test, path, fault)
        _times(protocol, test, path, fault)
        _cycles(protocol, test, path, fault)
    _endpoints(protocol, fault)
    for arm, plan in protocol.arms.items():
        for number, rule in enumerate(plan.rules):
            if rule.laboratory is not None:
                _rule(protocol, rule, ("arms", arm, "rules", number), fault)


def _term(test: Laboratory, path: Path_, fault: Fault) -> None:
    with _of(fault, path):
        rows = grading.criteria(test.term, version=test.version, unit=test.unit)
    if not rows[0].grades[test.lasting - 1]:
        fault(f"no number gives grade {test.lasting} of {test.term}", (*path, "lasting"), value=test.lasting,
              remedy=f"lasting: grade {_numbered(test)[-1]}")  # fmt: skip


@contextmanager
def _of(fault: Fault, path: Path_) -> Iterator[None]:
    """Errors of what is opened inside, at the field of the test that they name."""
    try:
        yield
    except InputError as error:
        field = (error.field,) if error.field else ()
        fault(error.problem, (*path, *field), value=error.value, remedy=error.remedy)


def _numbered(test: Laboratory) -> list[int]:
    """The grades a number gives."""
    rows = grading.criteria(test.term, version=test.version, unit=test.unit)
    return [g for g in (1, 2, 3, 4) if rows[0].grades[g - 1]]


def _limits(test: Laboratory, path: Path_, fault: Fault) -> None:
    used = grading.limit_of(test.term, unit=test.unit, version=test.version)
    for name in ("lln", "uln"):
        limit = getattr(test, name)
        if name.upper() in used and limit is None:
            fault(f"is missing: {test.term} is graded by it", (*path, name), remedy=f"{name}: the laboratory's limit")
        if isinstance(limit, dict) and len(limit) != 1:
            fault("is by one covariate", (*path, name), value=", ".join(limit),
                  remedy=f"{name}: {{SEX: {{0: 33, 1: 41}}}}")  # fmt: skip
    low, high = (_values(limit) for limit in (test.lln, test.uln))
    if low and high and not max(low) < min(high):
        fault("must lie above lln", (*path, "uln"), value=f"{min(high):g}", remedy=f"a number above {max(low):g}")


def _values(limit: Limit | None) -> list[float]:
    """Every number of a limit of normal."""
    if isinstance(limit, dict):
        return [value for by_code in limit.values() for value in by_code.values()]
    return [] if limit is None else [limit]


def _times(protocol: Protocol, test: Laboratory, path: Path_, fault: Fault) -> None:
    if test.at is None:
        return
    if test.at.dose:
        fault("samples are at a period, times or visits", (*path, "at"), value="dose", remedy="at: every 7 d")
    for visit in test.at.visits:
        fault.known(visit, protocol.visit_names[1:], "visit after the first", (*path, "at"))
    fault.distinct(test.at.visits, (*path, "at"))
    if test.at.visits:
        return
    fewest = int(protocol.horizon / test.at.every) if test.at.every else 0
    if fewest > MOST_SAMPLES:
        fault(f"are {fewest} samples, more than {MOST_SAMPLES}", (*path, "at"), value=f"every {test.at.every:g} h",
              remedy="at: every 7 d")  # fmt: skip
    times = [t for t in test.at.until(protocol.horizon) if t > 0]
    if not times:
        fault("no sample is taken before the last visit", (*path, "at"), remedy="a shorter period")
    if close := next((b for a, b in pairwise(times) if b - a < MINUTE), None):
        fault(
            "samples are at least a minute apart", (*path, "at"), value=f"{close:g} h", remedy="leave one of them out"
        )


def _cycles(protocol: Protocol, test: Laboratory, path: Path_, fault: Fault) -> None:
    when = test.cycles
    if when is None:
        return
    if when.visits:
        fault("cycles begin with doses, at a period or at times", (*path, "cycles"), value=when.visits[0],
              remedy="cycles: dose, or every 21 d")  # fmt: skip
    if when.times and not all(a < b < protocol.horizon for a, b in pairwise((0.0, *when.times))):
        fault("begin after the first, each once and before the last visit", (*path, "cycles"),
              value=", ".join(f"{t:g} h" for t in when.times), remedy="cycles: [21 d, 42 d]")  # fmt: skip
    doses = [sum(d.dose_times().size for d in arm.regimen) for arm in protocol.arms.values()]
    number = max(doses, default=0) if when.dose else len(when.until(protocol.horizon)) + 1
    if number > MOST_CYCLES:
        fault(f"are {number}, more than {MOST_CYCLES}", (*path, "cycles"), value=number, remedy="cycles: every 21 d")


def _endpoints(protocol: Protocol, fault: Fault) -> None:
    """A test may be an event of an endpoint: a sample of a grade or worse."""
    for name, endpoint in protocol.endpoints.items():
        path: Path_ = ("endpoints", name)
        for event in endpoint.events:
            if event not in protocol.laboratory:
                continue
            if endpoint.as_ not in AS_EVENT:
                fault("a laboratory test is no such endpoint", (*path, "as"), value=endpoint.as_,
                      remedy=" or ".join(f"as: {kind}" for kind in AS_EVENT))  # fmt: skip
            numbered = _numbered(protocol.laboratory[event])
            if endpoint.at_least not in numbered:
                fault(f"no number gives that grade of {event}", (*path, "at_least"), value=endpoint.at_least,
                      remedy=" or ".join(f"at_least: {g}" for g in numbered))  # fmt: skip


def _rule(protocol: Protocol, rule: Rule, path: Path_, fault: Fault) -> None:
    fault.known(str(rule.laboratory), protocol.laboratory, "laboratory test", (*path, "laboratory"))
    numbered = _numbered(protocol.laboratory[str(rule.laboratory)])
    if rule.grade not in numbered:
        fault(f"no number gives that grade of {rule.laboratory}", (*path, "grade"), value=rule.grade,
              remedy=" or ".join(f"grade: grade {g}" for g in numbered))  # fmt: skip


def against_model(protocol: Protocol, model: Model, fault: Fault) -> None:
    """What tests look at exists and has a unit that the term is graded in."""
    for name, test in protocol.laboratory.items():
        path: Path_ = ("laboratory", name)
        if name in model.events:
            fault("an event of the model has the name", path, value=name, remedy="another name")
        if test.measure is not None:
            fault.known(test.measure, model.outputs, "output of the model", (*path, "measure"))
            if not model.outputs[test.measure].continuous:
                fault("is a count or a category", (*path, "measure"), value=test.measure, remedy="name a level")
        if test.true_ is not None:
            truly(model, test.true_, (*path, "true"), fault)
            _levels_alone(model, test.true_, (*path, "true"), fault)
    for name in protocol.laboratory:
        with _of(fault, ("laboratory", name)):
            laboratory.opened_test(name, protocol, model)


def truly(model: Model, name: str, path: Path_, fault: Fault) -> None:
    """A name that is known at any time of a trial: an output, a summary, what they are of, the response layer."""
    from pkpd.engine.dynamics import dynamics_of

    there = (*model.outputs, *model.summaries, *model.states, *model.integrated, *model.response)
    fault.known(name, there, "output, summary, state or equation of the model", path)
    reached, solved = equations.reach(model.equations), dynamics_of(model).outputs
    moves = name in model.states or bool(reached.get(name, frozenset()) & set(model.states))
    if moves and name not in (*solved, *model.outputs, *model.summaries, *model.response):
        fault("is integrated but no output is of it", path, value=name,
              remedy=f"add an output to the model: {{is: {name}}}")  # fmt: skip


def _levels_alone(model: Model, name: str, path: Path_, fault: Fault) -> None:
    """What is known at any time, not at visits only."""
    fed = equations.reach(model.equations).get(name, frozenset()) & set(model.previous)
    output = model.outputs.get(name)
    if fed or (output is not None and not output.continuous):
        fault("a test cannot look at counts, categories and what follows from them", path, value=name,
              remedy="name a level or an equation of levels")  # fmt: skip


def against_law(protocol: Protocol, law: PopulationLaw, fault: Fault) -> None:
    """Limits by a covariate know each of its categories."""
    for name, test in protocol.laboratory.items():
        for side in ("lln", "uln"):
            limit = getattr(test, side)
            if not isinstance(limit, dict):
                continue
            (covariate, values), *_ = limit.items()
            path: Path_ = ("laboratory", name, side, covariate)
            fault.known(covariate, law.labels, "categorical covariate of the law", path)
            missing = [code for code in law.labels[covariate] if code not in values]
            known = ", ".join(f"{k} ({v})" for k, v in law.labels[covariate].items())
            if missing:
                fault("has no limit for a category", path, value=missing[0],
                      remedy=f"one for each of {known}")  # fmt: skip
