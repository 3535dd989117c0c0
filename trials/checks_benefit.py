"""Cross-checks of `benefit_risk`: inside the protocol, and against model and population law."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from trials.comedication import COVARIATE
from trials.faults import Fault, Path_, at
from trials.protocol import Protocol
from trials.weighing import ALL, MEASURED, BenefitRisk, EffectCriterion, Subgroup

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from populations.covariates import PopulationLaw

__all__ = ["against_law", "against_model", "inside"]

HERE: Path_ = ("benefit_risk",)


def inside(protocol: Protocol, fault: Fault) -> None:
    """What needs no other file."""
    plan = protocol.benefit_risk
    if plan is None:
        return
    for kind in ("favourable", "unfavourable"):
        if all(c.kind != kind for c in plan.criteria.values()):
            fault(f"has no {kind} effect", (*HERE, "criteria"), value=", ".join(plan.criteria) or "none",
                  remedy=f"add a criterion of kind: {kind}")  # fmt: skip
    for name, criterion in plan.criteria.items():
        path: Path_ = (*HERE, "criteria", name)
        _source(protocol, criterion, path, fault)
        _range(protocol, criterion, path, fault)
    _weights(plan, fault)
    _arms(protocol, plan, fault)
    for name, group in plan.subgroups.items():
        if name == ALL:
            fault("is the name of everybody", (*HERE, "subgroups"), value=name, remedy="rename it")
        if any(b <= a for a, b in pairwise(group.cuts)):
            fault("must ascend", (*HERE, "subgroups", name, "cuts"), value=", ".join(f"{c:g}" for c in group.cuts),
                  remedy="cuts: [50, 65]")  # fmt: skip


def _source(protocol: Protocol, criterion: EffectCriterion, path: Path_, fault: Fault) -> None:
    """An endpoint, or an exposure at a visit."""
    if (criterion.endpoint is None) == (criterion.summary is None):
        fault("needs either an endpoint or a summary", path, value=criterion.endpoint or "neither",
              remedy="endpoint: NAME, or summary: CMAX with at: VISIT")  # fmt: skip
    if criterion.endpoint is not None:
        fault.known(criterion.endpoint, protocol.endpoints, "endpoint", (*path, "endpoint"))
        kind = protocol.endpoints[criterion.endpoint].as_
        if kind not in MEASURED:
            fault(f"as {kind} has no mean to weigh", (*path, "endpoint"), value=criterion.endpoint,
                  remedy=f"an endpoint as {', '.join(MEASURED)}")  # fmt: skip
        for field in ("at", "above", "below"):
            if getattr(criterion, field) is not None:
                fault("goes with summary", (*path, field), remedy=f"leave {field} out: the endpoint says it")
        return
    if criterion.at is None:
        fault("is missing: when exposure is measured", (*path, "at"), remedy=f"at: {protocol.visit_names[-1]}")
    fault.known(criterion.at, protocol.visit_names[1:], "visit after the first", (*path, "at"))
    if criterion.above is not None and criterion.below is not None:
        fault("needs one limit, above or below", path, value=str(criterion.above), remedy="two criteria, if both harm")


def _is_share(protocol: Protocol, criterion: EffectCriterion) -> bool:
    if criterion.endpoint is None:
        return criterion.limited
    return protocol.endpoints[criterion.endpoint].as_ in ("responder", "incidence")


def _range(protocol: Protocol, criterion: EffectCriterion, path: Path_, fault: Fault) -> None:
    low, high = sorted((criterion.worst, criterion.best))
    if low == high:
        fault("must differ from worst", (*path, "best"), value=f"{high:g}", remedy="name the range whose swing counts")
    if _is_share(protocol, criterion) and not 0 <= low < high <= 1:
        outside = "worst" if not 0 <= criterion.worst <= 1 else "best"
        fault("is a share of people, from 0 to 1", (*path, outside), value=f"{getattr(criterion, outside):g}",
              remedy="write 0.2 for 20 %")  # fmt: skip
    rising = criterion.best > criterion.worst
    counted = criterion.endpoint is not None and protocol.endpoints[criterion.endpoint].as_ == "incidence"
    if rising and counted and criterion.kind == "unfavourable":
        fault("must be below worst: more of an unfavourable event is worse", (*path, "best"), value=f"{high:g}",
              remedy=f"worst: {high:g}, best: {low:g}")  # fmt: skip
    points = sorted(criterion.points, reverse=not rising)
    places, worth = [x for x, _ in points], [0.0, *(v for _, v in points), 1.0]
    if any(not low < x < high for x in places) or len(set(places)) < len(places):
        fault("must lie between worst and best, each once", (*path, "points"),
              value=", ".join(f"{x:g}" for x in places), remedy=f"between {low:g} and {high:g}")  # fmt: skip
    if any(b < a for a, b in pairwise(worth)):
        fault("values must not fall from worst (0) to best (1)", (*path, "points"),
              value=", ".join(f"{v:g}" for v in worth[1:-1]), remedy="nearer to best is worth no less")  # fmt: skip


def _weights(plan: BenefitRisk, fault: Fault) -> None:
    """Swings or ranks, of all criteria or of none."""
    given = {
        field: [name for name, c in plan.criteria.items() if getattr(c, field) is not None]
        for field in ("swing", "rank")
    }
    for field, names in given.items():
        missing = [name for name in plan.criteria if name not in names]
        if names and missing:
            fault("is missing: other criteria have one", (*HERE, "criteria", missing[0], field),
                  remedy=f"give every criterion a {field}, or none")  # fmt: skip
    if given["swing"] and given["rank"]:
        fault("goes without swing", (*HERE, "criteria", given["rank"][0], "rank"), remedy="leave one of them out")
    if given["swing"] and not any(c.swing for c in plan.criteria.values()):
        fault("of some criterion must be above 0", (*HERE, "criteria", given["swing"][0], "swing"), remedy="swing: 100")
    ranks = sorted({c.rank for c in plan.criteria.values() if c.rank is not None})
    if ranks and ranks != list(range(1, len(ranks) + 1)):
        fault("must be 1, 2, ... without a gap", (*HERE, "criteria", given["rank"][0], "rank"),
              value=", ".join(map(str, ranks)), remedy="criteria may share a rank")  # fmt: skip


def _arms(protocol: Protocol, plan: BenefitRisk, fault: Fault) -> None:
    fault.distinct(plan.arms, (*HERE, "arms"))
    for arm in plan.arms:
        fault.known(arm, protocol.arms, "arm", (*HERE, "arms"))
    compared = plan.compared(protocol.arms)
    if len(compared) < 2:
        fault("needs two arms", (*HERE, "arms"), value=", ".join(compared), remedy="name another, or leave arms out")
    if plan.against is not None:
        fault.known(plan.against, compared, "arm that is weighed", (*HERE, "against"))
    for arm in plan.doses:
        fault.known(arm, compared, "arm that is weighed", (*HERE, "doses"))
    missing = [arm for arm in compared if plan.doses and arm not in plan.doses]
    if missing:
        fault("is missing: other arms have one", (*HERE, "doses", missing[0]), remedy="give every arm its dose")
    if len(set(plan.doses.values())) < len(plan.doses):
        fault("two arms have the same dose", (*HERE, "doses"), value=", ".join(f"{d:g}" for d in plan.doses.values()),
              remedy="leave arms out by arms:, or doses")  # fmt: skip
    if plan.dose_unit and not plan.doses:
        fault("goes with doses", (*HERE, "dose_unit"), remedy="leave it out, or give doses")


def against_model(protocol: Protocol, model: Model, fault: Fault) -> None:
    """Exposures exist, limits have their dimension."""
    from pkpd.ground import units
    from pkpd.model.dimensions import units_of

    for name, criterion in protocol.benefit_risk.criteria.items() if protocol.benefit_risk else ():
        path: Path_ = (*HERE, "criteria", name)
        if criterion.summary is not None:
            fault.known(criterion.summary, model.summaries, "summary of the model", (*path, "summary"))
            limit = "above" if criterion.above is not None else "below"
            if criterion.limited:
                with at(fault, (*path, limit)):
                    units.factor(getattr(criterion, limit).unit, units_of(model)[criterion.summary])


def against_law(protocol: Protocol, law: PopulationLaw, fault: Fault) -> None:
    """Covariates that split people exist; those without categories have cuts."""
    for name, group in protocol.benefit_risk.subgroups.items() if protocol.benefit_risk else ():
        path: Path_ = (*HERE, "subgroups", name)
        known = (*law.names, *classified(protocol))
        fault.known(group.by, known, "covariate", (*path, "by"))
        coded = group.by in law.labels or group.by in classified(protocol)
        _cuts(group, path, fault, coded=coded)


def classified(protocol: Protocol) -> tuple[str, ...]:
    """Covariates with categories that comedication and impairment add."""
    taken = (f"comedication.{name}" for name in protocol.comedication)
    return (*(COVARIATE[plan.scale] for plan in protocol.conditions.values()), *taken)


def _cuts(group: Subgroup, path: Path_, fault: Fault, *, coded: bool) -> None:
    if coded and group.cuts:
        fault(f"{group.by} has categories of its own", (*path, "cuts"), remedy="leave cuts out")
    if not coded and not group.cuts:
        fault(f"is missing: {group.by} has no categories", (*path, "cuts"), remedy="cuts: [50]")
