"""Cross-checks of a protocol: every name resolved, every number against the others; the first fault is an InputError.

`inside` looks at the protocol alone, `against_files` also at the model, the data and the population law it names.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkpd.ground import text
from pkpd.ground.text import Node
from pkpd.model import equations
from trials import checks_benefit, checks_chain, checks_conduct, checks_laboratory, checks_twin, quantification
from trials.estimand import Analysis, Endpoint, Estimand
from trials.faults import Fault, Path_, at
from trials.kinds import KINDS
from trials.methods import METHODS, offered, summaries
from trials.protocol import HOURS_PER_DAY, Fitted, Protocol

if TYPE_CHECKING:
    from pkpd.model.rules import Rule
    from pkpd.model.spec import Model
    from populations.covariates import PopulationLaw

__all__ = ["against_files", "inside", "load_model"]

FIELDS = ("estimate", "se", "df", "lower", "upper", "p", "reject")


def inside(protocol: Protocol, node: Node) -> None:
    """The checks that need no other file."""
    fault = Fault(node)
    for check in (
        _arms,
        _visits,
        _allocation,
        _adherence,
        _population,
        checks_conduct.intercurrent,
        checks_conduct.dropout,
        _endpoints,
        checks_twin.prognosis,
        _weights,
        _estimands,
        _analyses,
        checks_conduct.enrolment,
        checks_conduct.data_cut,
        checks_conduct.interims,
        checks_chain.inside,
        checks_laboratory.inside,
        checks_benefit.inside,
        _decisions,
    ):
        check(protocol, fault)


def _arms(protocol: Protocol, fault: Fault) -> None:
    if len(protocol.arms) < 2:
        fault("needs at least two arms", ("arms",), value=len(protocol.arms), remedy="add a control arm")
    for name, arm in protocol.arms.items():
        for number, dose in enumerate(arm.regimen):
            last = float(dose.dose_times()[-1])
            if last > protocol.horizon:
                remedy = f"end it by day {protocol.horizon / HOURS_PER_DAY:g}, or add a later visit"
                path: Path_ = ("arms", name, "regimen", number)
                fault("doses are given after the last visit", path, value=f"{last / HOURS_PER_DAY:g} d", remedy=remedy)
        for number, rule in enumerate(arm.rules):
            _rule(protocol, rule, ("arms", name, "rules", number), fault)
        if arm.tdm is not None:
            checks_twin.guidance(protocol, name, fault)


def _rule(protocol: Protocol, rule: Rule, path: Path_, fault: Fault) -> None:
    for visit in rule.at.visits:
        fault.known(visit, protocol.visit_names, "visit", (*path, "at"))
    if rule.grade is not None and rule.laboratory is None and not rule.at.visits:
        remedy = f"write at: {protocol.visit_names[1]}"
        fault("adverse events are known at visits", (*path, "at"), value=rule.grade, remedy=remedy)


def _visits(protocol: Protocol, fault: Fault) -> None:
    names = protocol.visit_names
    if len(names) < 2:
        fault("needs a baseline and at least one later visit", ("visits",), value=len(names), remedy="add a visit")
    first = protocol.visits[names[0]]
    if first.day != 0 or first.window or first.missed:
        fault("the first visit must be on day 0 with no window and not missed", ("visits", names[0]), value=first.day,
              remedy="baseline: {day: 0}")  # fmt: skip
    for before, after in pairwise(names):
        a, b = protocol.visits[before], protocol.visits[after]
        if a.day == b.day:
            fault(f"is on the same day as {before}", ("visits", after, "day"), remedy="give every visit its own day")
        if a.day + a.window >= b.day - b.window:
            fault(f"its window meets that of {before}", ("visits", after, "window"), value=b.window,
                  remedy="make the windows smaller")  # fmt: skip


def _allocation(protocol: Protocol, fault: Fault) -> None:
    plan, ratios = protocol.allocation, [arm.ratio for arm in protocol.arms.values()]
    fault.distinct(plan.strata, ("allocation", "strata"))
    if plan.method == "complete":
        if plan.size is not None:
            fault("complete randomisation has no blocks", ("allocation", "size"), remedy="leave size out")
        return
    if plan.method == "minimisation":
        _minimisation(protocol, fault)
        return
    if plan.size is None:
        fault("is missing", ("allocation", "size"), remedy=f"add size: {2 * sum(ratios)}")
    if plan.size % sum(ratios):
        remedy = f"the ratios sum to {sum(ratios)}: use {sum(ratios)}, {2 * sum(ratios)} ..."
        fault("must be a multiple of the sum of the ratios", ("allocation", "size"), remedy=remedy)


def _minimisation(protocol: Protocol, fault: Fault) -> None:
    plan, arms = protocol.allocation, sum(arm.ratio for arm in protocol.arms.values())
    if plan.size is not None:
        fault("minimisation has no blocks", ("allocation", "size"), remedy="leave size out")
    if not plan.strata:
        fault("minimisation needs factors", ("allocation", "strata"), remedy="name categorical covariates")
    if plan.probability < 1 / arms:
        fault("is less than an equal share", ("allocation", "probability"), value=plan.probability, remedy="write 0.8")
    if protocol.interims is not None and protocol.interims.select is not None:
        fault("does not go with arms that are dropped", ("allocation", "method"), remedy="write permuted_block")


def _adherence(protocol: Protocol, fault: Fault) -> None:
    habit = protocol.adherence
    for name in ("miss_after_taken", "miss_after_missed"):
        value = getattr(habit, name)
        if habit.kind == "none" and value:
            fault("means nothing where kind is none", ("adherence", name), remedy="kind: markov, or leave it out")
        if value >= 1:
            fault("must be < 1", ("adherence", name), remedy="for example 0.05")


def _population(protocol: Protocol, fault: Fault) -> None:
    for name, shares in protocol.population.set_.items():
        total = sum(shares.values())
        if abs(total - 1) > 1e-9:
            fault("probabilities must sum to 1", ("population", "set", name), value=f"{total:g}",
                  remedy="change one of the shares")  # fmt: skip
    for name, condition in protocol.population.eligible.items():
        path = ("population", "eligible", name)
        parsed = _parsed(condition, path, fault, dotted=False)
        if not isinstance(parsed, equations.Compare | equations.Logic):
            fault("must be a condition", path, remedy="for example 40 <= AGE <= 60")


def _parsed(source: str, path: Path_, fault: Fault, *, dotted: bool) -> equations.Expr:
    with at(fault, path):
        return equations.expression(source, text.locate(fault.node, path), dotted=dotted)


def _endpoints(protocol: Protocol, fault: Fault) -> None:
    for name, endpoint in protocol.endpoints.items():
        path: Path_ = ("endpoints", name)
        fault.known(endpoint.as_, KINDS, "kind of endpoint", (*path, "as"))
        if (endpoint.output is None) == (endpoint.event is None):
            fault("needs either an output or an event", path, remedy="output: FEV1, or event: nausea")
        of = "event" if endpoint.event is not None else "output"
        if KINDS[endpoint.as_].of != of:
            fit = [f"as: {key}" for key, kind in KINDS.items() if kind.of == of]
            fault(f"does not go with an {of}", (*path, "as"), remedy=" or ".join(fit))
        fault.distinct(endpoint.events, (*path, "event"))
        _endpoint_fields(endpoint, path, fault)
        if endpoint.at is None:
            continue
        fault.known(endpoint.at, protocol.visits, "visit", (*path, "at"))
        if endpoint.at == protocol.visit_names[0]:
            fault("must be after the baseline", (*path, "at"), remedy=f"at: {protocol.visit_names[-1]}")


def _endpoint_fields(endpoint: Endpoint, path: Path_, fault: Fault) -> None:
    """What the kind needs is there, and nothing it would silently ignore."""
    kind, given = KINDS[endpoint.as_], _given(path, fault)
    for field in kind.needs:
        if field not in given:
            fault(f"is missing: as {endpoint.as_} needs it", (*path, field), remedy=f"add {field}: ...")
    for field in given:
        if field not in (kind.of, "as", *kind.needs, *kind.takes):
            fault(f"as {endpoint.as_} does not use it", (*path, field), remedy=f"leave {field} out")


def _given(path: Path_, fault: Fault) -> Any:
    """The text's node at a path."""
    found: Any = fault.node
    for part in path:
        found = found[part]
    return found


def _estimands(protocol: Protocol, fault: Fault) -> None:
    for name, estimand in protocol.estimands.items():
        path: Path_ = ("estimands", name)
        fault.distinct(estimand.compare, (*path, "compare"))
        for arm in (*estimand.compare, estimand.against):
            fault.known(arm, protocol.arms, "arm", (*path, "against" if arm == estimand.against else "compare"))
        if estimand.against in estimand.compare:
            fault("an arm cannot be compared with itself", (*path, "compare"), value=estimand.against)
        for endpoint in estimand.endpoint:
            fault.known(endpoint, protocol.endpoints, "endpoint", (*path, "endpoint"))
            _matches(protocol, estimand, protocol.endpoints[endpoint], (path, fault))
        _strategies(protocol, estimand, (*path, "strategies"), fault)
        if name not in protocol.analyses:
            fault("has no analysis", path, value=name, remedy=f"add analyses: {{{name}: ...}}")


def _strategies(protocol: Protocol, estimand: Estimand, path: Path_, fault: Fault) -> None:
    """Every intercurrent event has a strategy, those that end treatment the same: the data base does not say which of
    them it was.
    """
    for event in estimand.strategies:
        fault.known(event, protocol.intercurrent, "intercurrent event", (*path, event))
    for event in protocol.intercurrent:
        if event not in estimand.strategies:
            fault(f"has no strategy for the intercurrent event {event}", path if estimand.strategies else path[:-1],
                  value=event, remedy=f"strategies: {{{event}: treatment_policy}}, or another strategy")  # fmt: skip
    used = sorted({strategy for event, strategy in estimand.strategies.items() if event not in protocol.changes})
    if len(used) > 1:
        fault("must be one strategy for all intercurrent events", path, value=", ".join(used), remedy=used[-1])


def _matches(protocol: Protocol, estimand: Estimand, endpoint: Endpoint, at: tuple[Path_, Fault]) -> None:
    path, fault = at
    wanted = summaries(endpoint.as_)
    if estimand.summary not in wanted:
        remedy = " or ".join(f"summary: {name}" for name in wanted)
        fault("does not go with the endpoint", (*path, "summary"), remedy=remedy)
    kind = KINDS[endpoint.as_]
    for event, strategy in estimand.strategies.items():
        allowed = kind.changes if event in protocol.changes else kind.strategies
        if strategy not in allowed:
            fault(f"is not for endpoints as {endpoint.as_}", (*path, "strategies"), value=strategy,
                  remedy=" or ".join(allowed))  # fmt: skip


def _analyses(protocol: Protocol, fault: Fault) -> None:
    for name, analysis in protocol.analyses.items():
        path: Path_ = ("analyses", name)
        fault.known(name, protocol.estimands, "estimand", path)
        fault.known(analysis.method, METHODS, "method", (*path, "method"))
        estimand = protocol.estimands[name]
        for endpoint in estimand.endpoint:
            fit = offered(protocol.endpoints[endpoint].as_, estimand.summary)
            if analysis.method not in fit:
                remedy = " or ".join(f"method: {method}" for method in fit)
                fault("does not estimate this estimand", (*path, "method"), remedy=remedy)
        _options(analysis, path, fault)
        METHODS[analysis.method].check(protocol, name, fault)


def _options(analysis: Analysis, path: Path_, fault: Fault) -> None:
    """No option that the method would silently ignore."""
    for option in _given(path, fault):
        if option not in ("method", *METHODS[analysis.method].uses):
            fault(f"{analysis.method} does not use it", (*path, option), remedy=f"leave {option} out")


def _weights(protocol: Protocol, fault: Fault) -> None:
    """Weights of models: of all or none of those whose runs change nothing else, and they sum to 1."""
    given: dict[Path_, float | None] = {("model", "weight"): protocol.model.weight}
    for name, change in protocol.sensitivity.items():
        if change.model is not None:
            path: Path_ = ("sensitivity", name, "model", "weight")
            other = change.adherence is not None or change.dropout is not None
            if other and change.model.weight is not None:
                fault("only a run that changes nothing else has a weight", path, remedy="leave it out")
            if not other:
                given[path] = change.model.weight
    known = {path: weight for path, weight in given.items() if weight is not None}
    if not known:
        return
    missing = next((path for path in given if path not in known), None)
    if missing is not None:
        fault("is missing: other models have one", missing, remedy="give every model a weight, or none")
    total = sum(known.values())
    if len(known) < 2 or abs(total - 1.0) > 1e-6:
        fault("weights of the models must sum to 1", ("model", "weight"), value=f"{total:g}",
              remedy="add sensitivity: {NAME: {model: {file: ..., weight: ...}}}, or change one")  # fmt: skip


def _decisions(protocol: Protocol, fault: Fault) -> None:
    for name, rule in protocol.decide.items():
        path: Path_ = ("decide", name)
        for used in sorted(equations.names(_parsed(rule, path, fault, dotted=True))):
            parts = used.split(".")
            if len(parts) != 3:
                fault("must read ARM.ANALYSIS.FIELD", path, value=used, remedy="for example t300.primary.reject")
            fault.known(parts[0], protocol.arms, "arm", path)
            fault.known(parts[1], [*protocol.analyses, *protocol.endpoints], "analysis or endpoint", path)
            fault.known(parts[2], FIELDS, "field", path)
            _one_result(protocol, used, path, fault)


def _one_result(protocol: Protocol, used: str, path: Path_, fault: Fault) -> None:
    """A dotted name stands for exactly one row of the analysis table."""
    arm, name, _ = used.split(".")
    rows = [(e, key) for key, e in protocol.estimands.items() if arm in e.compare
            for endpoint in e.endpoint if name in (key, endpoint)]  # fmt: skip
    if len(rows) != 1:
        problem = "has no result" if not rows else "has several results"
        remedy = "name one endpoint of an estimand that compares it"
        fault(f"{name} of {arm} {problem}", path, value=used, remedy=remedy)


def against_files(protocol: Protocol, node: Node, folder: Path) -> None:
    """The checks that open the model, the data and the population law; paths are relative to `folder`."""
    fault = Fault(node)
    model = load_model(protocol, folder, fault)
    law = checks_twin.law_of(protocol, fault)
    _against_model(protocol, (model, folder), fault)
    _against_law(protocol, (model, law), fault)
    if protocol.model.parameters is not None:
        _against_fit(protocol.model.parameters, (model, folder), fault)
    for name, change in protocol.sensitivity.items():
        if change.model is not None:
            path: Path_ = ("sensitivity", name, "model", "file")
            other = load_model(protocol.varied(change), folder, fault, path)
            _against_model(protocol, (other, folder), fault)
            _against_law(protocol, (other, law), fault)


def load_model(protocol: Protocol, folder: Path, fault: Fault | None = None, at: Path_ = ("model", "file")) -> Model:
    """The protocol's model text, beside the protocol."""
    from pkpd.model.spec import Model

    path = folder / protocol.model.file
    if fault is not None and not path.is_file():
        fault("no such file", at, value=protocol.model.file, remedy=f"it is looked for as {path}")
    return Model.read(path)


def _against_model(protocol: Protocol, given: tuple[Model, Path], fault: Fault) -> None:
    from pkpd.model.support import refuse

    model, folder = given
    refuse(model, "trial")
    _occasions(protocol, model, fault)
    _by_hazard(protocol, model, fault)
    for name, endpoint in protocol.endpoints.items():
        if endpoint.output is not None:
            fault.known(endpoint.output, model.outputs, "output of the model", ("endpoints", name, "output"))
        for event in endpoint.events:
            if event in protocol.laboratory:
                continue
            fault.known(event, model.events, "event of the model", ("endpoints", name, "event"))
            if (told := model.events[event]).moves and endpoint.at_least > told.highest:
                fault(f"{event} has no grade above {told.highest}", ("endpoints", name, "at_least"),
                      value=endpoint.at_least, remedy=f"at_least: {told.highest}")  # fmt: skip
            wanted = KINDS[endpoint.as_].events
            if wanted not in (None, model.events[event].kind) and not model.events[event].moves:
                fault(f"as {endpoint.as_} needs an event of kind {wanted}", ("endpoints", name, "event"), value=event,
                      remedy=f"kind: {wanted} in the model, or as: time_to_event")  # fmt: skip
    for name, arm in protocol.arms.items():
        for number, dose in enumerate(arm.regimen):
            path: Path_ = ("arms", name, "regimen", number)
            fault.known(dose.into, model.states, "state of the model", (*path, "into"))
            _dose_unit(dose, (model, path), fault)
        for number, rule in enumerate(arm.rules):
            _rule_names(model, rule, ("arms", name, "rules", number), fault)
        if arm.tdm is not None:
            checks_twin.guided(protocol, name, (model, folder), fault)
    if protocol.prognosis is not None:
        checks_twin.foretold(protocol, (model, folder), fault)
    checks_conduct.against_model(protocol, model, fault)
    checks_chain.against_model(protocol, model, fault)
    checks_laboratory.against_model(protocol, model, fault)
    quantification.against_model(protocol, model, fault)
    checks_benefit.against_model(protocol, model, fault)


def _occasions(protocol: Protocol, model: Model, fault: Fault) -> None:
    """Who says when an occasion begins: the model by a period, else the protocol; nobody where nothing varies."""
    told, own = protocol.occasions, model.occasion
    path: Path_ = ("occasions",)
    if told is None:
        if own is not None and own.column is not None:
            remedy = "add occasions: {at: every 21 d}, or {at: [VISIT, ...]}"
            fault(
                f"is missing: model {model.name} varies between occasions of its data ({own.column})",
                path,
                remedy=remedy,
            )
        return
    if own is None:
        fault(
            f"model {model.name} has no variability between occasions", path, value="occasions", remedy="leave it out"
        )
    if own.every is not None:
        problem = f"model {model.name} says itself when they begin, every {own.every / HOURS_PER_DAY:g} d"
        fault(problem, path, value="occasions", remedy="leave it out")
    if told.at.dose:
        remedy = "write every 7 d, times, or visits"
        fault("an occasion begins at a period, at times or at visits", (*path, "at"), value="dose", remedy=remedy)
    for visit in told.at.visits:
        fault.known(visit, protocol.visit_names[1:], "visit after the first", (*path, "at"))
    fault.distinct(told.at.visits, (*path, "at"))
    times = told.at.times
    if any(time == 0 for time in times) or len(set(times)) < len(times):
        fault("must be after time 0, each once", (*path, "at"), remedy="the first occasion begins with the trial")


def _by_hazard(protocol: Protocol, model: Model, fault: Fault) -> None:
    """What an event by hazard asks of the protocol and of its own grades."""
    reached = equations.reach(model.equations)
    for name, event in model.events.items():
        path: Path_ = ("model", "file")
        if event.hazard and any(reached.get(c, frozenset()) & set(model.previous) for c in event.at_least.values()):
            problem = f"grades of an event by hazard ({name}.at_least) cannot depend on a former outcome"
            fault(problem, path, remedy="let them depend on levels")
    terminal = [name for name, event in model.events.items() if event.kind == "terminal"]
    for name, analysis in protocol.analyses.items():
        if terminal and METHODS[analysis.method].fills(analysis):
            problem = f"values after a terminal event ({terminal[0]}) cannot be imputed"
            remedy = "method: complete_case, the analysis of those whose follow-up lasts to the visit"
            if "missing" not in METHODS[analysis.method].uses:
                remedy = "method: ancova, the analysis of those whose follow-up lasts to the visit"
            field = "missing" if "missing" in METHODS[analysis.method].uses else "method"
            value = analysis.missing.method if field == "missing" else analysis.method
            fault(problem, ("analyses", name, field), value=value, remedy=remedy)


def _rule_names(model: Model, rule: Rule, path: Path_, fault: Fault) -> None:
    """What a rule looks at exists, and its levels have its dimension."""
    from trials.rules import in_units

    if rule.measure is not None:
        fault.known(rule.measure, model.outputs, "output of the model", (*path, "measure"))
        if not model.outputs[rule.measure].continuous:
            remedy = "name a continuous output, or an equation as true:"
            fault(
                "a rule cannot look at counts and categories yet", (*path, "measure"), value=rule.measure, remedy=remedy
            )
    if rule.true_ is not None:
        checks_laboratory.truly(model, rule.true_, (*path, "true"), fault)
        _seen_by_rules(model, rule.true_, (*path, "true"), fault)
    with at(fault, path):
        in_units((rule,), model)


def _seen_by_rules(model: Model, name: str, path: Path_, fault: Fault) -> None:
    """What is known at any time, not at visits only."""
    output = model.outputs.get(name)
    fed = equations.reach(model.equations).get(name, frozenset()) & set(model.previous)
    if fed or (output is not None and not output.continuous):
        problem = "a rule cannot look at counts, categories and what follows from them yet"
        fault(problem, path, value=name, remedy="name a level or an equation of levels")


def _dose_unit(dose: Any, at: tuple[Model, Path_], fault: Fault) -> None:
    from pkpd.ground import units

    model, path = at
    wanted = model.dose_units[dose.into]
    if not units.same_dimension(dose.amount.unit, wanted):
        fault(f"is not an amount in {wanted}", (*path, "amount"), remedy=f"give it in {wanted}")


def _against_law(protocol: Protocol, given: tuple[Model, PopulationLaw], fault: Fault) -> None:
    model, law = given
    checks_chain.against_law(protocol, law, fault)
    checks_laboratory.against_law(protocol, law, fault)
    checks_benefit.against_law(protocol, law, fault)
    known = (*law.names,)
    for name in protocol.population.set_:
        fault.known(name, known, "covariate", ("population", "set", name))
        if law.genotype and name in law.genotype.names:
            fault("is drawn with the genotype", ("population", "set", name), value=name,
                  remedy="set ancestry or frequencies under population.genotype")  # fmt: skip
        _categories(name, law, protocol.population.set_[name], fault)
    for name, condition in protocol.population.eligible.items():
        path: Path_ = ("population", "eligible", name)
        for used in sorted(equations.names(_parsed(condition, path, fault, dotted=False))):
            fault.known(used, known, "covariate", path)
    for name in protocol.allocation.strata:
        fault.known(name, known, "covariate", ("allocation", "strata"))
        if name not in law.labels:
            fault("has no categories to stratify by", ("allocation", "strata"), value=name,
                  remedy=f"one of {', '.join(law.labels)}")  # fmt: skip
    for name, covariate in model.covariates.items():
        fault.known(name, known, f"covariate of the law (needed by model {model.name})", ("population", "law"))
        drawn = law.genotype.labels.get(name, {}) if law.genotype else {}
        if drawn and covariate.labels and dict(covariate.labels) != drawn:
            fault(f"model {model.name} codes {name} otherwise", ("population", "genotype"),
                  value=", ".join(drawn.values()), remedy=f"code it as {drawn}")  # fmt: skip


def _categories(name: str, law: PopulationLaw, shares: dict[int, float], fault: Fault) -> None:
    labels = law.labels.get(name)
    for code in shares:
        if labels is not None and code not in labels:
            fault("unknown category", ("population", "set", name), value=code,
                  remedy=f"one of {', '.join(f'{k} ({v})' for k, v in labels.items())}")  # fmt: skip


def _against_fit(fitted: Fitted, given: tuple[Model, Path], fault: Fault) -> None:
    from trials.run import data_file, fit_model

    (model, folder), path = given, ("model", "parameters")
    with at(fault, (*path, "fit")):
        theirs = fit_model(fitted.fit, folder)
    with at(fault, (*path, "data")):
        data_file(fitted.data, folder)
    fault.distinct(fitted.take, (*path, "take"))
    for name in fitted.take:
        fault.known(name, model.parameters, f"parameter of model {model.name}", (*path, "take"))
        fault.known(name, theirs.parameters, f"parameter of the fitted model {theirs.name}", (*path, "take"))
