"""What the protocol's own rules ask of the trial: whom to exclude or dose otherwise, what that costs and does to the
risk, and how likely counts of an adverse event stop the trial with and without the change.

Probabilities are over draws: a risk has the law of `trials.risk_law`, an exposure ratio that of the replicates. What an
exclusion costs and does is counted in the simulated trials themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from reports.chained import Spread, label_of, mean_of, names_of, split_of, spread_of
from trials import event_bounds
from trials.consequences import ANY
from trials.risk_law import RiskLaw, risk_law

if TYPE_CHECKING:
    import pandas as pd

    from trials.consequences import Consequence, SafetyStop
    from trials.protocol import Protocol
    from trials.record import RunRecord

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Probability = tuple[float, float, float]
"""Value, 5 % and 95 %."""
Key = tuple[int, str, int]
"""Arm, group of people, level."""

BINS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """One group of people under one rule: P(above the limit) with the change, and without (None: no such thing);
    decision in words."""

    rule: str
    limit: str
    change: str
    arm: str
    group: str
    above: Probability
    without: Probability | None
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the exclusions of a rule do: subjects excluded, how many more have to be screened for one in the trial, and
    an arm's risk of an event before and after, over replicates."""

    rule: str
    arm: str
    event: str
    excluded: Spread
    recruitment: Spread
    before: Spread
    after: Spread
    difference: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """What another dose does to a group: risk without, with, and with at that dose; the exposure ratio then."""

    rule: str
    change: str
    arm: str
    group: str
    dose: float
    event: str
    risks: tuple[Spread, Spread, Spread]
    ratio: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """One stopping rule in one arm: (subjects, least count, P(stopped by then) with and without) by look; expected
    subjects with and without; people: subjects of that arm in a trial who are counted, over replicates."""

    rule: str
    words: str
    change: str
    arm: str
    looks: tuple[tuple[int, int, Probability, Probability], ...]
    subjects: tuple[float, float]
    people: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """All of it."""

    ruled: tuple[Ruled, ...]
    costs: tuple[Cost, ...]
    adjusted: tuple[Adjusted, ...]
    stops: tuple[Stopped, ...]


def decided(record: "RunRecord") -> Decided | None:
    """What follows from the rules of a run's protocol; None where it has none, or nothing was followed."""
    protocol, table = record.protocol, record.chain
    if table.empty or not (protocol.consequences or protocol.safety_stop):
        return None
    ruled: list[Ruled] = []
    costs: list[Cost] = []
    adjusted: list[Adjusted] = []
    for name, asked in protocol.consequences.items():
        rule = asked if asked.risk is None else replace(asked, risk=_named(record, asked.risk))
        found = list(_judged(table, record, (name, rule)))
        ruled += [line for _, _, line in found]
        acted = [(world, key) for world, key, line in found if line.decision in ("exclude", ALWAYS) or _doses(line)]
        spared = {(world, key) for world, key, line in found if line.decision == SPARED}
        always = {(world, key) for world, key, line in found if line.decision == ALWAYS}
        if rule.then == "exclude" and acted:
            costs += _costs(record, (name, rule), (acted, spared, always))
        if rule.then == "adjust":
            part = {(world, key[0]) for world, key in spared}  # where not all are dosed otherwise
            given = [(w, key) for w, key in acted if key[1] != "all" or (w, key[0]) not in part]
            adjusted += [line for where in given for line in _dosed(table, protocol, (name, rule), where)]
    stops = [
        line for name, stop in protocol.safety_stop.items()
        for line in _stops(record, (name, replace(stop, event=_named(record, stop.event))))
    ]  # fmt: skip
    return Decided(ruled=tuple(ruled), costs=tuple(costs), adjusted=tuple(adjusted), stops=tuple(stops))


SPARED = "not these"
ALWAYS = "exclude, also without"
TOO_MANY = "limit exceeded without it"


def _named(record: "RunRecord", event: str) -> str:
    """`any` of a model with one adverse event is that one: the chain has it under its own name only."""
    return next(iter(record.model.events)) if event == ANY and len(record.model.events) == 1 else event


def _doses(line: Ruled) -> bool:
    return line.decision.startswith("dose")


def _judged(
    table: "pd.DataFrame", record: "RunRecord", what: tuple[str, "Consequence"]
) -> Iterator[tuple[str, Key, Ruled]]:  # fmt: skip
    """(world, key, line) of every change, arm and group of people that a rule looks at."""
    (name, rule), protocol = what, record.protocol
    names = names_of(protocol)
    for world in (w for w in names if (table["world"] == w).any() and _among(protocol, w, rule.among)):
        rows = table[(table["world"] == world) & (table["measure"] != "concerned")]
        parts = {key: _probabilities(part, rule) for key, part in split_of(rows)}
        for key, (above, without) in parts.items():
            if above is not None:
                arm = list(protocol.arms)[key[0]]
                whole = parts.get((key[0], "all", 0), (None, None))[0]
                yield world, key, Ruled(
                    rule=name, limit=_limit(rule, record), change=names[world], arm=protocol.arms[arm].label or arm,
                    group=label_of(protocol, key[1], key[2]), above=above, without=without,
                    decision=_decision(rule, key, (above, without, whole)),
                )  # fmt: skip


def _among(protocol: "Protocol", world: str, among: tuple[str, ...]) -> bool:
    """Whether a rule looks at a world: a comedication's name, or `condition class`."""
    return not among or world in among or any(world.startswith(f"{name} ") for name in among)


def _term(record: "RunRecord", event: str | None) -> str:
    """An adverse event in words, inside a sentence."""
    found = record.model.events.get(event or "")
    if found is None:
        return "any adverse event"
    first = found.term.split(" ")[0]
    return found.term[:1].lower() + found.term[1:] if first[1:].islower() else found.term


def _limit(rule: "Consequence", record: "RunRecord") -> str:
    side = "above" if rule.above is not None else "below"
    risk, ratio = (
        f"risk of {_term(record, rule.risk)} above {100 * rule.limit:g} %",
        f"{rule.exposure} ratio {side} {rule.limit:g}",
    )
    return f"{risk if rule.risk else ratio}, certainty {rule.certainty:g}"


def _probabilities(part: "pd.DataFrame", rule: "Consequence") -> tuple[Probability | None, Probability | None]:
    if rule.exposure is not None:
        values = part[part["measure"] == f"ratio {rule.exposure}"]["value"].to_numpy(np.float64)
        beyond = (values > rule.limit) == (rule.above is not None)
        return (_share(int(beyond.sum()), values.size), None) if values.size else (None, None)
    laws = [_law(part, f"{side} {rule.risk}") for side in ("with", "without")]
    with_, without = (law.above(rule.limit) if law is not None else None for law in laws)
    return with_, without


def _law(part: "pd.DataFrame", measure: str) -> RiskLaw | None:
    rows = part[part["measure"] == measure]
    if rows.empty:
        return None
    people = rows["n"].to_numpy(np.float64)
    return risk_law(np.rint(rows["value"].to_numpy(np.float64) * people), people)


def _share(count: int, of: int) -> Probability:
    """A share of replicates with Jeffreys' 90 % interval."""
    low, high = (float(betaincinv(count + 0.5, of - count + 0.5, q)) for q in (0.05, 0.95))
    return count / of, 0.0 if count == 0 else low, 1.0 if count == of else high


def _decision(
    rule: "Consequence", key: Key, of: tuple[Probability, Probability | None, Probability | None]
) -> str:  # fmt: skip
    """In words: whoever is above the limit; among all who are, those are spared who are surely not."""
    above, without, whole = of
    act = "exclude" if rule.then == "exclude" else f"dose × {rule.dose:g}"
    if without is not None and without[0] >= rule.certainty:
        return TOO_MANY if key[1] == "all" or rule.then == "adjust" else ALWAYS
    if above[0] >= rule.certainty:
        return act
    if key[1] != "all" and whole is not None and whole[0] >= rule.certainty and above[0] <= 1.0 - rule.certainty:
        return SPARED
    return "–"


def _costs(
    record: "RunRecord", what: tuple[str, "Consequence"],
    found: tuple[list[tuple[str, Key]], set[tuple[str, Key]], set[tuple[str, Key]]],
) -> Iterator[Cost]:  # fmt: skip
    """What it means not to enrol them, in the simulated trials."""
    (name, rule), outcomes, protocol = what, record.outcomes, record.protocol
    out = _excluded(outcomes, protocol, found)
    replicate = outcomes["replicate"].to_numpy()
    arm = outcomes["arm"].to_numpy()
    share = _by(replicate, out.astype(np.float64), np.ones(out.size, np.bool_))
    with np.errstate(divide="ignore"):
        more = 1.0 / (1.0 - share)
    names = list(record.model.events)
    event = rule.risk or (names[0] if len(names) == 1 else ANY)
    sick = np.logical_or.reduce(
        [np.isfinite(outcomes[f"{e}.day"].to_numpy(np.float64)) for e in _events(record, event)]
    )
    for code, (key, plan) in enumerate(protocol.arms.items()):
        if plan.regimen:
            before, after = (
                _by(replicate, sick.astype(np.float64), (arm == code) & mine) for mine in (out | ~out, ~out)
            )
            yield Cost(
                rule=name, arm=plan.label or key, event=event, excluded=mean_of(share), recruitment=mean_of(more),
                before=mean_of(before), after=mean_of(after), difference=mean_of(after - before),
            )  # fmt: skip


def _events(record: "RunRecord", event: str) -> list[str]:
    return list(record.model.events) if event == ANY else [event]


def _by(replicate: NDArray[np.int64], value: Array, mine: Flags) -> Array:
    """Mean of some rows by replicate, NaN where there is none."""
    order = np.unique(replicate, return_inverse=True)[1]
    count = np.bincount(order, mine)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(order, np.where(mine, value, 0.0)) / count)


def _excluded(
    outcomes: "pd.DataFrame", protocol: "Protocol",
    found: tuple[list[tuple[str, Key]], set[tuple[str, Key]], set[tuple[str, Key]]],
) -> Flags:  # fmt: skip
    acted, spared, always = found
    out = np.zeros(len(outcomes), np.bool_)
    for world, key in acted:
        mine = _of_group(outcomes, key)
        if (world, key) not in always:
            mine &= _of_world(outcomes, protocol, world)
        if key[1] == "all":
            for other, its in spared:
                if other == world and its[0] == key[0]:
                    mine &= ~_of_group(outcomes, its)
        out |= mine
    return out


def _of_group(outcomes: "pd.DataFrame", key: Key) -> Flags:
    if key[1] == "all":
        return np.ones(len(outcomes), np.bool_)
    return np.asarray(outcomes[key[1]].to_numpy() == key[2])


def _of_world(outcomes: "pd.DataFrame", protocol: "Protocol", world: str) -> Flags:
    """Who has the change in the trial."""
    if world in protocol.comedication:
        return np.asarray(outcomes[f"comedication.{world}"].to_numpy() > 0)
    name, kind = world.rsplit(" ", 1)
    plan = protocol.conditions[name]
    return np.asarray(outcomes[plan.covariate].to_numpy() == plan.classes.index(kind) + 1)


def _dosed(
    table: "pd.DataFrame", protocol: "Protocol", what: tuple[str, "Consequence"], where: tuple[str, Key]
) -> Iterator[Adjusted]:
    (name, rule), (world, key) = what, where
    rows = table[(table["world"] == world) & (table["arm"] == key[0])]
    rows = rows[(rows["group"] == key[1]) & (rows["level"] == key[2]) & (rows["measure"] != "concerned")]
    wide = rows.pivot(index="replicate", columns="measure", values="value")
    measures = [str(m) for m in wide]
    events = [m.removeprefix("with ") for m in measures if m.startswith("with ")]
    event = rule.risk or (ANY if ANY in events else events[0] if events else "")
    exposure = rule.exposure or next(m.removeprefix("ratio ") for m in measures if m.startswith("ratio "))
    dose = float(rule.dose or 1.0)
    arm = list(protocol.arms)[key[0]]
    columns = (f"without {event}", f"with {event}", f"adjusted {dose:g} {event}")
    yield Adjusted(
        rule=name, change=names_of(protocol)[world], arm=protocol.arms[arm].label or arm,
        group=label_of(protocol, key[1], key[2]), dose=dose, event=event,
        risks=tuple(mean_of(wide.get(c, ())) for c in columns),  # type: ignore[arg-type]
        ratio=spread_of(np.exp(wide[f"adjusted {dose:g} log {exposure}"])),
    )  # fmt: skip


def _stops(record: "RunRecord", what: tuple[str, "SafetyStop"]) -> Iterator[Stopped]:
    """A stopping rule in every arm where the change is, exactly for every risk, averaged over its law."""
    (name, stop), protocol, table = what, record.protocol, record.chain
    bounds, names = np.array(stop.bounds(), np.int64), names_of(protocol)
    edges = np.sin(0.5 * np.pi * np.arange(BINS + 1) / BINS) ** 2
    middle = event_bounds.crossing(stop.looks, bounds, 0.5 * (edges[1:] + edges[:-1]))
    for world in (w for w in names if (table["world"] == w).any() and _among(protocol, w, (stop.among,))):
        rows = table[(table["world"] == world) & (table["group"] == "all")]
        for code in sorted({int(c) for c in rows["arm"]}):
            laws = [_law(rows[rows["arm"] == code], f"{side} {stop.event}") for side in ("with", "without")]
            if laws[0] is None or laws[1] is None:
                continue
            sides = [_stopping(law, (stop, bounds), (middle, edges)) for law in laws if law is not None]
            arm = list(protocol.arms)[code]
            yield Stopped(
                rule=name, words=_words(stop, _term(record, stop.event)), change=names[world],
                arm=protocol.arms[arm].label or arm,
                looks=tuple(
                    (n, int(bounds[k]), sides[0][0][k], sides[1][0][k]) for k, n in enumerate(stop.looks)
                ),
                subjects=(sides[0][1], sides[1][1]), people=_counted(record, world, code),
            )  # fmt: skip


def _stopping(
    law: RiskLaw, rule: tuple["SafetyStop", NDArray[np.int64]], of: tuple[event_bounds.Crossing, Array]
) -> tuple[list[Probability], float]:
    """P(stopped) by look over the law of the risk, with its values at the 5 % and 95 % quantiles of the risk (it rises
    with it), and the expected subjects."""
    (stop, bounds), (middle, edges) = rule, of
    ends = event_bounds.crossing(stop.looks, bounds, law.mixture.quantile([0.05, 0.95])).stopped
    mean = law.mean_of(middle.stopped, edges)
    found = [(float(m), float(low), float(high)) for m, (low, high) in zip(mean, ends, strict=True)]
    return found, float(law.mean_of(middle.subjects, edges))


def _words(stop: "SafetyStop", event: str) -> str:
    said = f"{event[:1].upper()}{event[1:]}"
    if stop.rule == "pocock":
        return f"{said}: test of risk ≤ {100 * stop.above:g} % at one level, alpha {stop.alpha or 0.05:g} in all"
    a, b = stop.beta
    return f"{said}: P(risk > {100 * stop.above:g} %) > {stop.certainty or 0.9:g}, prior Beta({a:g}, {b:g})"


def _counted(record: "RunRecord", world: str, code: int) -> Spread:
    outcomes = record.outcomes
    mine = _of_world(outcomes, record.protocol, world) & (outcomes["arm"].to_numpy() == code)
    order = np.unique(outcomes["replicate"].to_numpy(), return_inverse=True)[1]
    return mean_of(np.bincount(order, mine))
