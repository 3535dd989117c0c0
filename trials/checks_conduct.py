"""Checks of what a protocol plans in calendar time: enrolment, data cut, interim looks; the first fault is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkpd.ground import units
from pkpd.ground.errors import InputError
from trials.kinds import KINDS
from trials.methods import METHODS

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from trials.faults import Fault, Path_
    from trials.planned import Interims, LackOfEffect, Region, Rescue
    from trials.protocol import Dropout, Protocol

__all__ = ["against_model", "data_cut", "dropout", "enrolment", "intercurrent", "interims"]

RESERVED = ("stopped", "dropout", "adjusted", "entry")
NOT_SEQUENTIAL = ("max_combo", "mcp_mod")


def intercurrent(protocol: Protocol, fault: Fault) -> None:
    """Each intercurrent event is one thing, of arms and visits that exist; changes of treatment suit the arms."""
    for name, event in protocol.intercurrent.items():
        path: Path_ = ("intercurrent", name)
        said = [field for field in ("after", "switch", "rescue") if getattr(event, field) is not None]
        if len(said) != 1:
            fault("must be one of after, switch, rescue", path, value=", ".join(said) or "none of them",
                  remedy="{after: grade 3}, {switch: {...}} or {rescue: {...}}")  # fmt: skip
        if said != ["after"] and event.from_:
            fault("goes with after", (*path, "from"), remedy="leave it out")
        if said != ["after"] and name in RESERVED:
            fault(f"{name}.day is a column of the outcome table already", path, value=name, remedy="another name")
        if event.switch is not None:
            _switch(protocol, (*path, "switch"), fault)
        if event.rescue is not None:
            _rescue(protocol, (*path, "rescue"), fault)


def _switch(protocol: Protocol, path: Path_, fault: Fault) -> None:
    rule = protocol.intercurrent[str(path[1])].switch
    assert rule is not None
    if not rule.from_:
        fault("names no arm: it would never happen", (*path, "from"), remedy="from: [control]")
    for arm in rule.from_:
        fault.known(arm, protocol.arms, "arm", (*path, "from"))
        _plain(protocol, arm, (*path, "from"), fault)
    fault.known(rule.to, protocol.arms, "arm", (*path, "to"))
    _plain(protocol, rule.to, (*path, "to"), fault)
    if rule.to in rule.from_:
        fault("is one of the arms it comes from", (*path, "to"), value=rule.to, remedy="another arm")
    if any(dose.steady for dose in protocol.arms[rule.to].regimen):
        fault("begins at a steady state, which nobody has who switches", (*path, "to"), value=rule.to,
              remedy="an arm whose regimen is without steady")  # fmt: skip
    fault.distinct(rule.from_, (*path, "from"))
    others = [event.switch for event in protocol.intercurrent.values() if event.switch not in (None, rule)]
    for arm in rule.from_:
        if any(other is not None and arm in other.from_ for other in others):
            fault("switches twice", (*path, "from"), value=arm, remedy="one switch for an arm")


def _rescue(protocol: Protocol, path: Path_, fault: Fault) -> None:
    rule = protocol.intercurrent[str(path[1])].rescue
    assert rule is not None
    for arm in rule.arms or protocol.arm_names:
        fault.known(arm, protocol.arms, "arm", (*path, "arms"))
        _plain(protocol, arm, (*path, "arms") if rule.arms else path, fault)
    if not rule.regimen:
        fault("gives no dose", (*path, "regimen"), remedy="regimen: [{amount: 100 mg, into: depot}]")
    for number, dose in enumerate(rule.regimen):
        if dose.steady:
            fault("a steady state would take the place of the doses that were given", (*path, "regimen", number),
                  remedy="leave steady out")  # fmt: skip
    _levels(protocol, rule, path, fault)


def _levels(protocol: Protocol, rule: Rescue | LackOfEffect, path: Path_, fault: Fault) -> None:
    if not rule.at:
        fault("names no visit: it would never happen", (*path, "at"), remedy="at: [week4]")
    for visit in rule.at:
        fault.known(visit, protocol.visit_names[1:], "visit after the first", (*path, "at"))
    if rule.below is None and rule.above is None:
        fault("needs below or above", path, value=rule.measure, remedy="add below: 1.2 L")


def _plain(protocol: Protocol, arm: str, path: Path_, fault: Fault) -> None:
    """Doses that follow rules are not joined with others."""
    if protocol.arms[arm].rules or protocol.arms[arm].tdm is not None:
        fault("an arm with dosing rules or guidance cannot switch, be switched to or be rescued yet", path, value=arm,
              remedy="an arm with a plain regimen")  # fmt: skip


def dropout(protocol: Protocol, fault: Fault) -> None:
    """Leaving for lack of effect is at visits."""
    for path, plan in _dropouts(protocol):
        if plan.lack_of_effect is not None:
            _levels(protocol, plan.lack_of_effect, (*path, "lack_of_effect"), fault)


def _dropouts(protocol: Protocol) -> list[tuple[Path_, Dropout]]:
    found: list[tuple[Path_, Dropout]] = [(("dropout",), protocol.dropout)]
    for name, change in protocol.sensitivity.items():
        if change.dropout is not None:
            found.append((("sensitivity", name, "dropout"), change.dropout))
    return found


def against_model(protocol: Protocol, model: Model, fault: Fault) -> None:
    """Events, outputs, units and states that changes of treatment and dropout name are the model's."""
    for name, event in protocol.intercurrent.items():
        path: Path_ = ("intercurrent", name)
        if event.after is None and name in model.events:
            fault(f"{name}.day is a column of the outcome table already: an event of the model has the name", path,
                  value=name, remedy="another name")  # fmt: skip
        for number, one in enumerate(event.of):
            fault.known(one, model.events, "event of the model", (*path, "of", number))
        if event.switch is not None:
            fault.known(event.switch.after, model.events, "event of the model", (*path, "switch", "after"))
            if model.events[event.switch.after].kind == "terminal":
                fault("nobody switches after a terminal event", (*path, "switch", "after"), value=event.switch.after)
        if event.rescue is not None:
            _output(model, event.rescue, (*path, "rescue"), fault)
            for number, dose in enumerate(event.rescue.regimen):
                where: Path_ = (*path, "rescue", "regimen", number)
                fault.known(dose.into, model.states, "state of the model", (*where, "into"))
                if not units.same_dimension(dose.amount.unit, model.dose_units[dose.into]):
                    fault(f"is not an amount in {model.dose_units[dose.into]}", (*where, "amount"))
    for path, plan in _dropouts(protocol):
        for name in plan.after:
            fault.known(name, model.events, "event of the model", (*path, "after", name))
        for name in plan.while_:
            moving = [event for event, told in model.events.items() if told.moves]
            fault.known(name, moving, "event whose grade moves", (*path, "while", name))
        if plan.lack_of_effect is not None:
            _output(model, plan.lack_of_effect, (*path, "lack_of_effect"), fault)


def _output(model: Model, rule: Rescue | LackOfEffect, path: Path_, fault: Fault) -> None:
    from trials.faults import at
    from trials.switching import limits

    fault.known(rule.measure, model.outputs, "output of the model", (*path, "measure"))
    if not model.outputs[rule.measure].continuous:
        fault("must be a continuous output", (*path, "measure"), value=rule.measure, remedy="name a level")
    with at(fault, path):
        limits(rule, model)


def enrolment(protocol: Protocol, fault: Fault) -> None:
    """Regions that share all sites, caps that leave room for the subjects."""
    from trials.enrolment import sites_of

    plan = protocol.enrolment
    if plan is None:
        return
    spans: list[tuple[Path_, tuple[float, float] | None]] = [(("enrolment",), plan.opening)]
    spans += [(("enrolment", "regions", name), region.opening) for name, region in plan.regions.items()]
    for path, span in spans:
        if span is not None and span[0] > span[1]:
            fault("the last site opens before the first", (*path, "opening"), remedy="opening: [0 d, 90 d]")
    total = sum(region.share for region in plan.regions.values())
    if plan.regions and abs(total - 1) > 1e-9:
        fault("shares of the regions must sum to 1", ("enrolment", "regions"), value=f"{total:g}",
              remedy="change one of the shares")  # fmt: skip
    room, each = 0, plan.site_cap or protocol.subjects
    named: list[tuple[str, Region | None]] = [*plan.regions.items()] or [("", None)]
    for (name, region), sites in zip(named, sites_of(plan), strict=True):
        if sites == 0:
            fault("has no site", ("enrolment", "regions", name, "share"), remedy="a larger share, or more sites")
        most = sites * each
        room += most if region is None or region.cap is None else min(region.cap, most)
    if room < protocol.subjects:
        fault(f"the caps leave room for {room} of {protocol.subjects} subjects",
              ("enrolment", "site_cap" if plan.site_cap else "regions"), value=room,
              remedy="larger caps, or more sites")  # fmt: skip


def data_cut(protocol: Protocol, fault: Fault) -> None:
    """A day or a number of events, of an analysis that has events, after somebody has been measured."""
    plan, path = protocol.data_cut, ("data_cut",)
    if plan is None:
        return
    if protocol.enrolment is None:
        fault("needs enrolment: it is a day of the calendar", path, value="data_cut",
              remedy="add enrolment: {sites: 20, rate: 0.02 1/d}")  # fmt: skip
    if plan.day is None and plan.events is None:
        fault("needs a day or a number of events", path, remedy="data_cut: {day: 720}")
    if (plan.events is None) != (plan.analysis is None):
        missing = "analysis" if plan.analysis is None else "events"
        fault("is missing: events are those of an analysis", (*path, missing), remedy=f"add {missing}: ...")
    if plan.analysis is not None:
        _has_events(protocol, plan.analysis, (*path, "analysis"), fault)
        if plan.events is not None and plan.events > protocol.subjects:
            fault(f"more events than the {protocol.subjects} subjects can have", (*path, "events"),
                  remedy="fewer events, or more subjects")  # fmt: skip
    if plan.day is not None:
        for name in protocol.analyses:
            _measured(protocol, name, plan.day, ((*path, "day"), fault))


def _has_events(protocol: Protocol, name: str, path: Path_, fault: Fault) -> None:
    fault.known(name, protocol.analyses, "analysis", path)
    for endpoint in protocol.estimands[name].endpoint[:1]:
        if protocol.endpoints[endpoint].as_ != "time_to_event":
            fault("counts no events: its endpoint is not a time to an event", path, value=name,
                  remedy="name an analysis of an endpoint as: time_to_event")  # fmt: skip


def _measured(protocol: Protocol, name: str, day: float, at: tuple[Path_, Fault]) -> None:
    """Somebody's endpoint can be known by a day of the calendar."""
    path, fault = at
    for key in protocol.estimands[name].endpoint:
        endpoint = protocol.endpoints[key]
        visit = protocol.visits[endpoint.at or protocol.visit_names[-1]]
        early = visit.day - visit.window
        if KINDS[endpoint.as_].whole and METHODS[protocol.analyses[name].method].partial:
            early = min(v.day - v.window for n, v in protocol.visits.items() if n != protocol.visit_names[0])
        if (KINDS[endpoint.as_].whole and day <= early) or day <= 0:
            fault(f"nobody's {key} is measured by then: its visit is on day {visit.day:g} after entry", path, value=day,
                  remedy=f"a day well after {visit.day:g}")  # fmt: skip


def interims(protocol: Protocol, fault: Fault) -> None:
    """Looks that increase, error spent once, an analysis that can be looked at, arms that exist."""
    plan, path = protocol.interims, ("interims",)
    if plan is None:
        return
    if protocol.enrolment is None:
        fault("needs enrolment: looks are at times of the calendar", path, value="interims",
              remedy="add enrolment: {sites: 20, rate: 0.02 1/d}")  # fmt: skip
    fault.known(plan.analysis, protocol.analyses, "analysis", (*path, "analysis"))
    _analysis(protocol, plan, fault)
    _looks(protocol, plan, fault)
    _days(protocol, plan, fault)
    _selection(protocol, plan, fault)
    _solved(protocol, plan, fault)


def _analysis(protocol: Protocol, plan: Interims, fault: Fault) -> None:
    estimand, analysis = protocol.estimands[plan.analysis], protocol.analyses[plan.analysis]
    path: Path_ = ("interims", "analysis")
    if len(estimand.endpoint) > 1:
        fault("has several endpoints: looks are at one", path, value=plan.analysis, remedy="an estimand of its own")
    if analysis.method in NOT_SEQUENTIAL:
        fault(f"{analysis.method} has no group-sequential law", path, value=plan.analysis,
              remedy="an analysis by logrank, cox, ancova or another single test")  # fmt: skip
    if analysis.prior is not None:
        fault("a posterior has no group-sequential law: no bound keeps alpha", ("analyses", plan.analysis, "prior"),
              remedy="leave out the prior of the analysis looked at, or the looks")  # fmt: skip
    several = len(estimand.compare) > 1
    if several and plan.select is None:
        fault("compares several arms: alpha would be spent on each", path, value=plan.analysis,
              remedy="add select: {choice: all} (a closed test), or compare one arm")  # fmt: skip
    if several and "multiplicity" in METHODS[analysis.method].uses and analysis.multiplicity != "none":
        fault("alpha would be spent twice: the closed test already adjusts for the arms",
              ("analyses", plan.analysis, "multiplicity"), value=analysis.multiplicity,
              remedy="multiplicity: none")  # fmt: skip


def _looks(protocol: Protocol, plan: Interims, fault: Fault) -> None:
    from trials.designs.checks import increasing

    path: Path_ = ("interims", "looks")
    if len(plan.looks) < 2:
        fault("needs at least two looks: an interim and the last", path, remedy="looks: [0.5, 1]")
    try:
        increasing(plan.fractions, "looks")
    except InputError as error:
        fault(error.problem, path, value=error.value, remedy=error.remedy)
    if plan.counted and any(look != int(look) for look in plan.looks):
        fault("must be whole numbers, or fractions that end at 1", path, remedy="looks: [0.5, 1]")
    if plan.of == "events":
        _events(protocol, plan, fault)
        return
    if plan.maximum is not None:
        fault("goes with of: events", ("interims", "maximum"), remedy="leave it out: every subject is looked at")
    kind = protocol.endpoints[protocol.estimands[plan.analysis].endpoint[0]].as_
    if not KINDS[kind].whole:
        fault(f"information of an endpoint as {kind} is not in subjects", ("interims", "of"), value=plan.of,
              remedy="of: events, with an endpoint as: time_to_event")  # fmt: skip
    if plan.counted and plan.looks[-1] != protocol.subjects:
        fault(f"the last look is at all {protocol.subjects} subjects", path, value=plan.looks[-1],
              remedy=f"end with {protocol.subjects}, or write fractions")  # fmt: skip


def _events(protocol: Protocol, plan: Interims, fault: Fault) -> None:
    _has_events(protocol, plan.analysis, ("interims", "of"), fault)
    if plan.events is None:
        fault("is missing: how many events at the last look", ("interims", "maximum"), remedy="add maximum: 200")
    if plan.counted and plan.maximum not in (None, plan.events):
        fault("says it twice: looks are numbers already", ("interims", "maximum"), remedy="leave it out")
    if plan.events > protocol.subjects:
        path: Path_ = ("interims", "looks" if plan.counted else "maximum")
        fault(f"more events than the {protocol.subjects} subjects can have", path, value=plan.events,
              remedy="fewer events, or more subjects")  # fmt: skip
    if protocol.data_cut is not None and protocol.data_cut.events is not None:
        fault("the last look ends the trial already", ("data_cut", "events"), remedy="leave it out")


def _days(protocol: Protocol, plan: Interims, fault: Fault) -> None:
    path: Path_ = ("interims", "days")
    if not plan.days:
        return
    if len(plan.days) != len(plan.looks) - 1:
        fault(f"needs {len(plan.looks) - 1} days, one for each look but the last", path, value=list(plan.days),
              remedy="leave it out for looks by information")  # fmt: skip
    if any(b <= a for a, b in zip((0.0, *plan.days), plan.days, strict=False)):
        fault("must increase from above 0", path, value=list(plan.days), remedy="days: [180, 360]")
    if plan.efficacy.spending in (None, "given"):
        fault("looks on days spend alpha by the information seen: they need a spending function",
              ("interims", "efficacy"), remedy="efficacy: {spending: lan_demets_obrien_fleming}")  # fmt: skip
    if plan.futility is not None and plan.futility.spending is not None:
        fault("looks on days need bounds that do not hang on the information", ("interims", "futility"),
              remedy="futility: {z: [0]}")  # fmt: skip
    if plan.select is not None:
        fault("arms are selected at looks by information", path, remedy="leave days out")
    _measured(protocol, plan.analysis, plan.days[0], (path, fault))


def _selection(protocol: Protocol, plan: Interims, fault: Fault) -> None:
    rule, path = plan.select, ("interims", "select")
    if rule is None:
        return
    estimand, analysis = protocol.estimands[plan.analysis], protocol.analyses[plan.analysis]
    for arm in rule.arms:
        fault.known(arm, protocol.arms, "arm", (*path, "arms"))
        if arm not in estimand.compare:
            fault(f"is not compared by {plan.analysis}: it cannot be dropped", (*path, "arms"), value=arm,
                  remedy=f"one of {', '.join(estimand.compare)}")  # fmt: skip
    fault.distinct(rule.arms, (*path, "arms"))
    if rule.choice == "best_of" and rule.number >= len(rule.arms or estimand.compare):
        fault("nothing would be dropped", (*path, "number"), value=rule.number, remedy="a smaller number")
    if plan.of != "subjects" or not KINDS[protocol.endpoints[estimand.endpoint[0]].as_].whole:
        fault("arms are selected by an endpoint at a visit: stages must be of different subjects", path,
              value=plan.analysis, remedy="of: subjects, and an output or an incidence")  # fmt: skip
    if METHODS[analysis.method].partial:
        fault("stages must be of different subjects: incomplete follow-up would count in two",
              ("analyses", plan.analysis, "method"), remedy="method: ancova")  # fmt: skip
    if analysis.side == "two" or "side" not in METHODS[analysis.method].uses:
        fault("must be one-sided where arms are selected", ("analyses", plan.analysis, "side"), value=analysis.side,
              remedy="side: greater, and half of alpha")  # fmt: skip
    if protocol.allocation.method == "minimisation":
        fault("arms are not minimised anew after some are dropped yet", ("allocation", "method"), value="minimisation",
              remedy="method: permuted_block")  # fmt: skip
    if plan.futility is not None:
        fault("arms are dropped by select, with threshold for futility", ("interims", "futility"),
              remedy="select: {threshold: 0}")  # fmt: skip


def _solved(protocol: Protocol, plan: Interims, fault: Fault) -> None:
    """The plan can be solved; its errors name fields of the design, which are those of the text."""
    from trials.designs.sequential import boundaries
    from trials.stopping import plan_of

    try:
        boundaries(plan_of(plan, protocol.analyses[plan.analysis]))
    except InputError as error:
        parts = tuple((error.field or "efficacy").split("."))
        known = {"alpha": ("analyses", plan.analysis, "alpha"), "power": ("interims", "futility", "power")}
        path: Path_ = known.get(parts[0], ("interims", *parts))
        fault(error.problem, path, value=error.value, remedy=error.remedy)
