"""The chain for the report: what comedication and impairment do to exposure, risk, dose and monitoring.

`chained(record)` is read by `reports.gather`; the section sees only the plain nouns. Over replicates: each has its own
parameters, its own draw of the interaction and its own people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trials import operating
from trials.analysis.nnt import Needed, needed_of_draws
from trials.operating import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from trials.comedication import Comedication, Condition
    from trials.protocol import Protocol
    from trials.record import RunRecord

Array = NDArray[np.float64]

LEAST = 5  # replicates from which an interval is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median over replicates with 5 % and 95 % quantiles; n replicates."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """One event: incidence without and with, their mean difference (90 %) and the number needed to harm (95 %)."""

    event: str
    without: Estimate
    with_: Estimate
    difference: Spread
    needed: Needed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One change in one arm and one group of people. people: mean number in a replicate; ratios {exposure: geometric
    mean ratio}, persons {exposure: 5 % and 95 % of persons, median over replicates}; inside: share within 0.8 to 1.25
    of the own exposure without, as planned and with the dose."""

    change: str
    arm: str
    group: str
    people: float
    ratios: Mapping[str, Spread]
    persons: Mapping[str, tuple[float, float]]
    risks: tuple[Risk, ...]
    dose: Spread | None
    inside: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What changes clearance, in words, with the exposure ratio of the reference person (90 %)."""

    change: str
    what: str
    effect: Spread | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What samples find: limit in words; by day: share out of limits with and without; day: mean of those found;
    before: share of those with an adverse event who were found before it. Means, 5 % and 95 % over replicates."""

    change: str
    arm: str
    limit: str
    days: tuple[tuple[float, Spread, Spread], ...]
    day: Spread
    before: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The exposure ratio of the reference person over time: day from which each step holds, its median and 5 % and 95 %
    over draws; half, gone: day by which half of the full effect is there, and by which a tenth is left after the end
    (median, 5 %, 95 %; NaN: not in this trial)."""

    change: str
    day: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    begins: float
    ends: float
    last: float
    half: Spread
    gone: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """All of it; concerned: share of the trial's subjects by change; exposures: names, the first sets the dose."""

    sources: tuple[Source, ...]
    groups: tuple[Group, ...]
    concerned: tuple[tuple[str, Estimate], ...]
    watches: tuple[Watch, ...]
    exposures: tuple[str, ...]
    replicates: int
    composite: bool
    paths: tuple[Path, ...] = ()


def chained(record: "RunRecord") -> Chain | None:
    """The chain of a run, None where its protocol has neither comedication nor impairment."""
    table, protocol = record.chain, record.protocol
    if table.empty:
        return None
    names = names_of(protocol)
    worlds = [world for world in names if (table["world"] == world).any()]
    ratios = dict.fromkeys(m for m in table["measure"] if m.startswith("ratio ") and m.count(" ") == 1)
    everybody = table[table["measure"] == "concerned"]
    return Chain(
        sources=_sources(record), exposures=tuple(name.removeprefix("ratio ") for name in ratios),
        groups=tuple(
            _group(rows, (names[world], protocol, key), list(ratios))
            for world in worlds
            for key, rows in split_of(table[(table["world"] == world) & (table["measure"] != "concerned")])
        ),
        concerned=tuple(
            (names[world], operating.mean(_by_replicate(everybody[everybody["world"] == world]))) for world in worlds
        ),
        watches=tuple(
            watch for name, plan in protocol.comedication.items()
            for watch in _watches(table[table["world"] == name], plan, (names[name], protocol))
        ),
        replicates=int(table["replicate"].nunique()), composite=bool((table["measure"] == "with any").any()),
        paths=tuple(
            _path(plan, record.effects[name], (names[name], protocol.horizon))
            for name, plan in protocol.comedication.items() if plan.course == "kinetics"
        ),
    )  # fmt: skip


def _by_replicate(rows: "pd.DataFrame") -> Array:
    """One value per replicate (arms repeat it)."""
    return rows.drop_duplicates("replicate").sort_values("replicate")["value"].to_numpy(np.float64)


def names_of(protocol: "Protocol") -> dict[str, str]:
    """Names of worlds in words, in the order of the protocol."""
    found = {name: plan.label or _plain(name) for name, plan in protocol.comedication.items()}
    for name, plan in protocol.conditions.items():
        for kind in plan.classes:
            said = {"child_pugh": "Child-Pugh", "egfr": "Renal impairment,", "food": "Fed"}[plan.scale]
            if plan.label:
                said = f"{plan.label}," if plan.scale == "egfr" else plan.label
            found[f"{name} {kind}"] = said if plan.scale == "food" else f"{said} {kind}"
    return found


def _plain(name: str) -> str:
    return name.replace("_", " ").capitalize()


def split_of(rows: "pd.DataFrame") -> list[tuple[tuple[int, str, int], "pd.DataFrame"]]:
    """((arm, group, level), rows), all of an arm before its groups."""
    keys: Any = rows.groupby(["arm", "group", "level"], sort=True)
    parts = {(int(a), str(g), int(k)): part for (a, g, k), part in keys}
    return sorted(parts.items(), key=lambda item: (item[0][0], item[0][1] != "all", item[0][1], item[0][2]))


def _group(rows: "pd.DataFrame", what: tuple[str, "Protocol", tuple[int, str, int]], ratios: list[str]) -> Group:
    name, protocol, (code, group, level) = what
    wide = rows.pivot(index="replicate", columns="measure", values="value")
    events = [m.removeprefix("with ") for m in dict.fromkeys(rows["measure"]) if m.startswith("with ")]
    arm = list(protocol.arms)[code]
    return Group(
        change=name, arm=protocol.arms[arm].label or arm, group=label_of(protocol, group, level),
        people=float(rows[rows["measure"].str.startswith("with ")].drop_duplicates("replicate")["n"].mean()),
        ratios={m.removeprefix("ratio "): spread_of(wide[m]) for m in ratios if m in wide},
        persons={
            m.removeprefix("ratio "): (float(wide[f"{m} low"].median()), float(wide[f"{m} high"].median()))
            for m in ratios
            if m in wide
        },
        risks=tuple(_risk(wide, event) for event in events),
        dose=spread_of(wide["dose"]) if "dose" in wide else None,
        inside=tuple(float(wide[m].mean()) if m in wide else np.nan  # type: ignore[arg-type]
                     for m in ("within as planned", "within adjusted")),
    )  # fmt: skip


def spread_of(values: Any) -> Spread:
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if not x.size:
        return Spread(value=np.nan, low=np.nan, high=np.nan, n=0)
    low, middle, high = np.quantile(x, (0.05, 0.5, 0.95))
    enough = x.size >= LEAST
    return Spread(
        value=float(middle), low=float(low) if enough else np.nan, high=float(high) if enough else np.nan, n=x.size
    )


def _risk(wide: "pd.DataFrame", event: str) -> Risk:
    with_, without = (wide[f"{side} {event}"].to_numpy(np.float64) for side in ("with", "without"))
    known = np.isfinite(with_) & np.isfinite(without)
    difference = with_[known] - without[known]
    mean = replace(spread_of(difference), value=float(difference.mean()) if difference.size else np.nan)
    return Risk(
        event=event, without=operating.mean(without), with_=operating.mean(with_), difference=mean,
        needed=needed_of_draws(difference) if difference.size >= LEAST else None,
    )  # fmt: skip


def label_of(protocol: "Protocol", group: str, level: int) -> str:
    """A group of people in words."""
    if group == "all":
        return "all"
    for plan in protocol.conditions.values():
        if plan.covariate == group:
            kind = plan.classes[level - 1] if level else "none"
            return f"{_plain(group).replace('Child pugh', 'Child-Pugh')} {kind}"
    labels = protocol.population.people().labels.get(group, {})
    return f"{group.removesuffix('_PHENOTYPE')} {labels.get(level, level)}"


def _sources(record: "RunRecord") -> tuple[Source, ...]:
    protocol, names, found = record.protocol, names_of(record.protocol), []
    for name, plan in protocol.comedication.items():
        parts = record.effects[name]
        ratio = 1.0 / (1.0 - (parts["fm"] * (1.0 - parts["left"])).sum(axis=1))
        what, status = _source(plan)
        found.append(Source(change=names[name], what=what + _when(plan), effect=spread_of(ratio), status=status))
    for condition in protocol.conditions.values():
        words = "; ".join(
            f"{kind}: {_factors(condition, kind)}"
            for kind in condition.classes
            if any(kind in factors for factors in condition.parameters.values())
        )
        cite = f". {condition.cite}" if condition.cite else ""
        scale = {"child_pugh": "Child-Pugh", "egfr": "Renal impairment", "food": "Food"}[condition.scale]
        found.append(Source(change=condition.label or scale, what=words + cite, effect=None, status=condition.status))
    return tuple(found)


def _factors(condition: "Condition", kind: str) -> str:
    return ", ".join(
        "{} × {:g} ({:g} to {:g})".format(name, factors[kind], *condition.intervals[name][kind])
        for name, factors in condition.parameters.items()
        if kind in factors
    )


def _source(plan: "Comedication") -> tuple[str, str]:
    """Where an effect is from, and its status."""
    if plan.drug is None:
        limits = " (95 % {:g} to {:g})".format(*plan.interval) if plan.interval else ""
        cite = f"; {plan.cite}" if plan.cite else ""
        return f"clearance × {plan.clearance:g}{limits}{cite}", plan.status
    from pkpd.interactions.drug import statuses
    from pkpd.interactions.library import drugs
    from pkpd.interactions.shipped import shipped
    from trials.pairs import regimen_of

    pair = (plan.drug, str(plan.victim))
    studies = shipped().pairs.get(pair, 0)
    assumed = sum(status == "assumed" for name in pair for status in statuses(drugs()[name]))
    known = (
        f"{studies} studies of the pair in the calibration" if studies else "no study of the pair in the calibration"
    )
    regimen = regimen_of(drugs()[plan.drug], plan.regimen).name
    return f"{plan.drug} {regimen} on {plan.victim}, library of interactions", f"{known}; {assumed} values assumed"


def _when(plan: "Comedication") -> str:
    parts = [f"from day {plan.from_ / 24:g}"] if plan.from_ else []
    parts += [f"until day {plan.until / 24:g}"] if plan.until is not None else []
    parts += [f"half-life of the change {plan.half_life:g} h"] if plan.half_life else []
    parts += ["coming and going by its kinetics"] if plan.course == "kinetics" else []
    parts += [f"{plan.apart:g} h before the trial's drug"] if plan.apart is not None else []
    parts += [f"where {plan.who}"] if plan.who else []
    parts += [f"in {', '.join(plan.arms)} only"] if plan.arms else []
    return f"; {', '.join(parts)}" if parts else ""


def _watches(rows: "pd.DataFrame", plan: "Comedication", what: tuple[str, "Protocol"]) -> list[Watch]:
    if plan.monitor is None:
        return []
    (name, protocol), rows = what, rows[rows["group"] == "all"]
    limits = {"above": plan.monitor.above, "below": plan.monitor.below}
    sides = [f"{side} {str(limit).removesuffix(' 1')}" for side, limit in limits.items() if limit is not None]
    found = []
    arms: Any = rows.groupby("arm", sort=True)
    for code, part in arms:
        wide = part.pivot(index="replicate", columns="measure", values="value")
        arm = list(protocol.arms)[int(code)]
        days = tuple(
            (day, mean_of(wide[f"found by {day:g}"]), mean_of(wide[f"false by {day:g}"])) for day in plan.monitor.days
        )
        day, before = (mean_of(wide.get(found_, ())) for found_ in ("day found", "found before"))
        found.append(Watch(change=name, arm=protocol.arms[arm].label or arm, days=days, day=day, before=before,
                           limit=f"{plan.monitor.measure} {' or '.join(sides)}"))  # fmt: skip
    return found


def mean_of(values: Any) -> Spread:
    """Mean over replicates with 5 % and 95 % quantiles."""
    made = spread_of(values)
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    return replace(made, value=float(x.mean())) if x.size else made


def _path(plan: "Comedication", effect: Mapping[str, Array], what: tuple[str, float]) -> Path:
    """The course of a perpetrator by its kinetics, from the day of its first dose on."""
    name, horizon = what
    full = effect["fm"] * (1.0 - effect["left"])
    levels = [effect[key] for key in effect if key.startswith("level.")]
    lost = np.array([full[:, k, None] * level for k, level in enumerate(levels)]).sum(axis=0)
    ratio = 1.0 / (1.0 - lost)
    time = plan.from_ + effect["time"][0]
    low, middle, high = np.quantile(ratio, (0.05, 0.5, 0.95), axis=0)
    size, most = np.abs(np.log(ratio)), np.abs(np.log1p(-full.sum(axis=1)))[:, None]
    until = np.inf if plan.until is None else plan.until
    half = _first(time, (size >= 0.5 * most) & (time < until), plan.from_)
    gone = _first(time, (size <= 0.1 * most) & (time >= until), until)
    shown = tuple(float(t) / 24.0 for t in time)
    return Path(
        change=name, day=shown, middle=tuple(middle.tolist()), low=tuple(low.tolist()), high=tuple(high.tolist()),
        begins=plan.from_ / 24.0,
        ends=min(until, horizon) / 24.0, last=horizon / 24.0, half=half, gone=gone,
    )  # fmt: skip


def _first(time: Array, reached: NDArray[np.bool_], begin: float) -> Spread:
    """Days from `begin` to the first step (D, T) where something is reached; of the draws that reach it."""
    there = reached.any(axis=1)
    return spread_of((time[np.argmax(reached, axis=1)][there] - begin) / 24.0 if there.mean() > 0.95 else ())
