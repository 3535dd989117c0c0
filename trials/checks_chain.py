"""Cross-checks of comedication, impairment and food: inside the protocol, and against model, law and library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkpd.ground.errors import InputError
from pkpd.model import equations
from trials.comedication import COVARIATE, Comedication, Condition
from trials.consequences import ANY, SafetyStop
from trials.faults import Fault, Path_, at
from trials.modifiers import enzymes_of
from trials.protocol import HOURS_PER_DAY, Protocol

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from populations.covariates import PopulationLaw

__all__ = ["against_law", "against_model", "exposure_names", "inside"]

FEWEST = 5  # replicates


def inside(protocol: Protocol, fault: Fault) -> None:
    """What needs no other file; the library of interactions comes with the package."""
    for name, plan in protocol.comedication.items():
        path: Path_ = ("comedication", name)
        if name in protocol.conditions:
            fault("is also the name of an impairment or of food", path, value=name, remedy="rename it")
        _source(plan, path, fault)
        _course(plan, path, fault)
        _times(protocol, plan, path, fault)
        for arm in plan.arms:
            fault.known(arm, protocol.arm_names, "arm", (*path, "arms"))
        for enzyme in plan.activity:
            fault.known(enzyme, [e for e in enzymes_of(plan) if e], "enzyme it acts on", (*path, "activity"))
    for name, condition in protocol.conditions.items():
        path = ("food",) if condition is protocol.food else ("impairment", name)
        if (condition.scale == "food") != (path == ("food",)):
            remedy = "write food: {scale: food, ...}, impairment by child_pugh or egfr"
            fault("is not of this block", (*path, "scale"), value=condition.scale, remedy=remedy)
        _classes(condition, path, fault)
    scales = [condition.scale for condition in protocol.conditions.values()]
    fault.distinct(scales, ("impairment",))
    _asked(protocol, fault)


def _asked(protocol: Protocol, fault: Fault) -> None:
    """Consequences and stopping for safety, apart from the names of the model."""
    names = (*protocol.comedication, *protocol.conditions)
    for block in ("consequences", "safety_stop"):
        if getattr(protocol, block) and not names:
            fault("needs a comedication, an impairment or food", (block,), remedy="add one, or leave it out")
        if getattr(protocol, block) and protocol.truth.replicates < FEWEST:
            fault(f"needs {FEWEST} replicates followed with and without", (block,), value=protocol.truth.replicates,
                  remedy=f"truth: {{replicates: {max(FEWEST, min(protocol.replicates, 40))}}}")  # fmt: skip
    for name, rule in protocol.consequences.items():
        path: Path_ = ("consequences", name)
        if (rule.risk is None) == (rule.exposure is None):
            fault("needs a risk or an exposure, one of them", path, value=rule.risk or "neither",
                  remedy="risk: EVENT, or exposure: NAME")  # fmt: skip
        if (rule.above is None) == (rule.below is None):
            fault("needs a limit: above or below, one of them", path, remedy="above: 2")
        if rule.risk is not None and not 0.0 < (rule.above or 0.0) < 1.0:
            fault("a risk has a limit above, that is below 1", (*path, "above"), remedy="above: 0.05")
        if (rule.then == "adjust") != (rule.dose is not None):
            fault("goes with then: adjust, which needs it", (*path, "dose"), value=rule.dose or "none",
                  remedy="then: adjust with dose: 0.5, a share of the planned dose")  # fmt: skip
        for among in rule.among:
            fault.known(among, names, "comedication or impairment", (*path, "among"))
    for name, stop in protocol.safety_stop.items():
        _stop(stop, names, ("safety_stop", name), fault)


def _stop(stop: SafetyStop, names: tuple[str, ...], path: Path_, fault: Fault) -> None:
    fault.known(stop.among, names, "comedication or impairment", (*path, "among"))
    if not stop.looks or any(b <= a for a, b in zip((0, *stop.looks), stop.looks, strict=False)):
        fault("must ascend", (*path, "looks"), value=", ".join(map(str, stop.looks)), remedy="looks: [10, 20, 30]")
    others = {"bayes": ("alpha",), "pocock": ("certainty", "prior")}[stop.rule]
    for field in others:
        if getattr(stop, field) is not None:
            fault(f"does not go with rule: {stop.rule}", (*path, field), remedy=f"leave {field} out")
    if all(least > n for least, n in zip(stop.bounds(), stop.looks, strict=True)):
        fault("never stops: no count at any look is enough", path, value=", ".join(map(str, stop.looks)),
              remedy="larger looks, less certainty, or a larger alpha")  # fmt: skip


def _source(plan: Comedication, path: Path_, fault: Fault) -> None:
    """A pair of the library, or a stated factor: one of them, whole."""
    if not plan.parameters:
        fault("names no parameter", (*path, "parameters"), remedy="write parameters: {CL: -1}")
    if (plan.drug is None) == (plan.clearance is None):
        fault("needs a drug of the library or a stated factor of clearance, one of them", path,
              value=plan.drug or "neither", remedy="drug: and victim:, or clearance: with interval:")  # fmt: skip
    if plan.drug is not None:
        for field, given in (("fm", bool(plan.fm)), ("interval", plan.interval is not None)):
            if given:
                fault("is the library's own for a drug of the library", (*path, field), remedy=f"leave {field} out")
        _pair(plan, path, fault)
        return
    for field in ("victim", "regimen"):
        if getattr(plan, field) is not None:
            fault("goes with drug", (*path, field), remedy=f"leave {field} out, or name a drug")
    factor = float(plan.clearance or 0.0)
    if plan.interval is None:
        fault("is missing: how well the factor is known", (*path, "interval"),
              remedy=f"interval: [LOW, HIGH], 95 %; [{factor:g}, {factor:g}] takes it as exact")  # fmt: skip
    if not plan.interval[0] <= factor <= plan.interval[1]:
        fault("must hold the factor", (*path, "interval"), value=f"{plan.interval[0]:g} to {plan.interval[1]:g}",
              remedy="lower limit first, 95 %")  # fmt: skip
    total = sum(plan.fm.values())
    if plan.fm and (total > 1.0 + 1e-9 or 1.0 - factor > total):
        fault("shares must sum to at most 1 and to at least what is lost", (*path, "fm"), value=f"{total:g}",
              remedy=f"from {max(0.0, 1.0 - factor):g} to 1")  # fmt: skip


def _course(plan: Comedication, path: Path_, fault: Fault) -> None:
    """What goes with a perpetrator's own kinetics."""
    words = [name for name, power in plan.parameters.items() if isinstance(power, str)]
    if plan.apart is not None and plan.drug is None:
        fault("goes with drug", (*path, "apart"), remedy="leave apart out, or name a drug")
    if plan.course == "kinetics":
        if plan.drug is None:
            fault("needs a drug of the library: its concentrations and the enzyme's turnover", (*path, "course"),
                  value=plan.course, remedy="drug: and victim:, or half_life: with a stated factor")  # fmt: skip
        if plan.half_life is not None:
            fault("follows from the kinetics", (*path, "half_life"), remedy="leave half_life out")
    elif words:
        fault("is known with course: kinetics only", (*path, "parameters", words[0]),
              value=plan.parameters[words[0]], remedy="a power of the exposure ratio, for example -1")  # fmt: skip


def _pair(plan: Comedication, path: Path_, fault: Fault) -> None:
    from pkpd.interactions.library import drugs
    from trials.pairs import regimen_of

    library = drugs()
    victims = [name for name, drug in library.items() if drug.victim is not None]
    perpetrators = [name for name, drug in library.items() if drug.perpetrator is not None]
    if plan.victim is None:
        fault("is missing: the trial's drug as the library calls it", (*path, "victim"), remedy="victim: theophylline")
    fault.known(str(plan.drug), perpetrators, "drug of the library of interactions", (*path, "drug"))
    fault.known(str(plan.victim), victims, "drug of the library of interactions", (*path, "victim"))
    with at(fault, (*path, "regimen")):
        regimen_of(library[str(plan.drug)], plan.regimen)
    if not enzymes_of(plan):
        fault(f"acts on no enzyme of {plan.victim} in the library", (*path, "drug"), value=plan.drug,
              remedy="state clearance: 1, or another drug")  # fmt: skip


def _times(protocol: Protocol, plan: Comedication, path: Path_, fault: Fault) -> None:
    if plan.from_ >= protocol.horizon:
        fault("begins after the last visit", (*path, "from"), value=f"{plan.from_ / HOURS_PER_DAY:g} d",
              remedy=f"before day {protocol.horizon / HOURS_PER_DAY:g}")  # fmt: skip
    if plan.until is not None and plan.until <= plan.from_:
        fault("must be after from", (*path, "until"), value=f"{plan.until / HOURS_PER_DAY:g} d", remedy="leave it out")
    if plan.monitor is not None:
        days = plan.monitor.days
        if not days or any(b <= a for a, b in zip((0.0, *days), days, strict=False)):
            fault("must be after 0 and ascend", (*path, "monitor", "days"), value=", ".join(f"{d:g}" for d in days),
                  remedy="days: [2, 4, 7]")  # fmt: skip
        if plan.monitor.above is None and plan.monitor.below is None:
            fault("needs a limit", (*path, "monitor"), remedy="above: 20 mg/L")


def _classes(plan: Condition, path: Path_, fault: Fault) -> None:
    if not plan.parameters:
        fault("names no parameter", (*path, "parameters"), remedy="parameters: {CL: {CLASS: FACTOR}}")
    for kind in plan.shares:
        fault.known(kind, plan.classes, f"class of {plan.scale}", (*path, "shares"))
    for parameter, factors in plan.parameters.items():
        for kind in factors:
            fault.known(kind, plan.classes, f"class of {plan.scale}", (*path, "parameters", parameter))
            if kind not in plan.intervals.get(parameter, {}):
                exact = f"[{factors[kind]:g}, {factors[kind]:g}]"
                remedy = f"intervals: {{{parameter}: {{{kind}: [LOW, HIGH]}}}}, 95 %; {exact} takes it as exact"
                here: Path_ = (*path, "intervals", parameter, kind)
                fault("is missing: how well the factor is known", here, remedy=remedy)
    for parameter, limits in plan.intervals.items():
        fault.known(parameter, plan.parameters, "parameter with factors", (*path, "intervals"))
        for kind, (low, high) in limits.items():
            fault.known(kind, plan.parameters[parameter], "class with a factor", (*path, "intervals", parameter))
            if not low <= plan.parameters[parameter][kind] <= high:
                fault("must hold the factor", (*path, "intervals", parameter, kind), value=f"{low:g} to {high:g}",
                      remedy="lower limit first, 95 %")  # fmt: skip
    if plan.scale == "egfr" and plan.shares:
        fault("the class follows from EGFR", (*path, "shares"), remedy="leave shares out, set eligibility on EGFR")
    if plan.scale != "egfr" and not 0.0 < sum(plan.shares.values()) <= 1.0 + 1e-9:
        fault("shares must be given and sum to at most 1", (*path, "shares"), value=f"{sum(plan.shares.values()):g}",
              remedy="shares: {CLASS: 0.1}; the rest has none")  # fmt: skip


def against_model(protocol: Protocol, model: Model, fault: Fault) -> None:
    """Parameters and measured outputs exist; limits have their dimension; genotype that the model does not use."""
    from trials.switching import limits

    places: list[tuple[Path_, tuple[str, ...]]] = [
        (("comedication", name), tuple(plan.parameters)) for name, plan in protocol.comedication.items()
    ]
    places += [
        (("food",) if plan is protocol.food else ("impairment", name), tuple(plan.parameters))
        for name, plan in protocol.conditions.items()
    ]
    for path, names in places:
        for name in names:
            fault.known(name, model.parameters, f"parameter of model {model.name}", (*path, "parameters"))
    for name, plan in protocol.comedication.items():
        here: Path_ = ("comedication", name)
        _genotype(protocol, model, (plan, here), fault)
        if plan.monitor is not None:
            fault.known(plan.monitor.measure, model.outputs, "output of the model", (*here, "monitor", "measure"))
            if not model.outputs[plan.monitor.measure].continuous:
                fault("must be continuous", (*here, "monitor", "measure"), remedy="name a level")
            with at(fault, (*here, "monitor")):
                limits(plan.monitor, model)

    events = (*model.events, ANY)
    for name, rule in protocol.consequences.items():
        if rule.risk is not None:
            fault.known(rule.risk, events, "event of the model", ("consequences", name, "risk"))
        if rule.exposure is not None:
            fault.known(
                rule.exposure, exposure_names(model), "exposure of the model", ("consequences", name, "exposure")
            )
    for name, stop in protocol.safety_stop.items():
        fault.known(stop.event, events, "event of the model", ("safety_stop", name, "event"))


def exposure_names(model: Model) -> tuple[str, ...]:
    """What exposure is measured by: averages and maxima of the model's summaries, an average first; without any, its
    first continuous output."""
    found = [(s.as_ != "average", name) for name, s in model.summaries.items() if s.as_ in ("average", "maximum")]
    if found:
        return tuple(name for _, name in sorted(found, key=lambda item: item[0]))
    return tuple(str(output.is_) for output in model.outputs.values() if output.continuous)[:1]


def _genotype(protocol: Protocol, model: Model, what: tuple[Comedication, Path_], fault: Fault) -> None:
    """A pathway whose genotype is drawn must change the model's clearance too, or poor metabolisers would lose nothing
    of a clearance that they do not have."""
    (plan, path), choice = what, protocol.population.genotype
    for enzyme in enzymes_of(plan):
        used = any(covariate == enzyme or covariate.startswith(f"{enzyme}_") for covariate in model.covariates)
        if choice is not None and enzyme in choice.genes and not used:
            fault(f"acts on {enzyme}, whose genotype model {model.name} does not use", path, value=enzyme,
                  remedy=f"let the model's clearance depend on {enzyme}_ACTIVITY, or take the gene out")  # fmt: skip


def against_law(protocol: Protocol, law: PopulationLaw, fault: Fault) -> None:
    """Covariates that `who` and `activity` name."""
    known = (*law.names, *(COVARIATE[plan.scale] for plan in protocol.conditions.values()))
    for name, plan in protocol.comedication.items():
        path: Path_ = ("comedication", name)
        conditions: dict[Path_, str | None] = {(*path, "who"): plan.who}
        conditions |= {(*path, "arms", arm, "who"): taken.who for arm, taken in plan.arms.items()}
        for where, who in conditions.items():
            _condition(who, known, where, fault)
        for by in plan.activity.values():
            for covariate in by:
                fault.known(covariate, known, "covariate", (*path, "activity"))


def _condition(who: str | None, known: tuple[str, ...], path: Path_, fault: Fault) -> None:
    if who is None:
        return
    try:
        asked = equations.expression(who)
    except InputError as error:
        fault(error.problem, path, value=who, remedy=error.remedy or "who: SMOKING == 2")
    for used in sorted(equations.names(asked)):
        fault.known(used, known, "covariate", path)
