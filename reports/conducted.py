"""A trial in calendar time, for the report: who came when and where, when it looked, when and why it ended.

`conducted(record)` is read by `reports.gather`; sections and figures see only the plain nouns.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reports import event_times
from trials import operating
from trials.operating import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from trials.planned import LackOfEffect, Rescue
    from trials.protocol import Protocol
    from trials.record import RunRecord

Array = NDArray[np.float64]
Range = tuple[float, float]

POINTS = 121


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """A region (or all of them): its sites, subjects of a trial with their middle 95 % of trials, subjects of one site
    (median and middle 95 % of sites), mean number of sites without a subject.
    """

    name: str
    sites: int
    subjects: Estimate
    spread: Range
    one_site: tuple[float, float, float]
    empty: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: information planned (fraction, count), its day among trials that reach it (middle 95 %), who has
    entered by then, bounds (median), how many trials reach it and end there and why; exact: probability of a rejection
    there if there is no effect, NaN where it is not computed.
    """

    number: int
    fraction: float
    count: float
    day: Estimate
    days: Range
    enrolled: Estimate
    bounds: Range
    reached: Estimate
    efficacy: Estimate
    futility: Estimate
    harm: Estimate
    exact: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """An arm that may be dropped: how often it is in each look, how often it is rejected for."""

    key: str
    inside: tuple[Estimate, ...]
    rejected: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """Estimates at the end against the true value: of the analysis itself and median-unbiased; share of trials whose
    estimate lies above it (1/2 where it is median-unbiased); coverage of the two intervals.
    """

    naive: Estimate
    unbiased: Estimate
    above: tuple[Estimate, Estimate]
    exact: Estimate
    repeated: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """Recruitment (day (T,), mean and middle 95 % of trials of the number entered), the end of the trial, its looks."""

    day: Array
    entered: Array
    lower: Array
    upper: Array
    planned: int
    last_entry: Estimate
    last_entries: Range
    end: Estimate
    ends: Range
    subjects: Estimate
    sites: tuple[Sites, ...]
    analysis: str
    unit: str
    looks: tuple[Look, ...]
    information: Estimate | None
    power: Estimate | None
    selection: tuple[Arm, ...]
    estimated: Estimated | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Subjects of an arm (by its index) whose treatment changed by an intercurrent event: mean share over trials,
    middle 95 % of trials, mean day.
    """

    event: str
    arm: int
    share: Estimate
    spread: Range
    day: Estimate


def changed(record: "RunRecord") -> tuple[Changed, ...]:
    """Switching and rescue of a run, arms in which they happen only."""
    rows, found = record.outcomes, []
    for event in record.protocol.changes if not rows.empty else ():
        for arm in range(len(record.protocol.arms)):
            part = rows[rows["arm"] == arm]
            share = part[f"{event}.day"].notna().astype(np.float64).groupby(part["replicate"]).mean()
            shares = np.asarray(share, dtype=np.float64)
            if shares.any():
                days = part.groupby("replicate")[f"{event}.day"].mean()
                found.append(
                    Changed(event=event, arm=arm, share=operating.mean(shares), spread=_middle(shares),
                            day=operating.mean(days))
                )  # fmt: skip
    return tuple(found)


def conducted(record: "RunRecord") -> Conduct | None:
    """None for a trial without a calendar."""
    protocol = record.protocol
    if protocol.enrolment is None or record.outcomes.empty or record.looks.empty:
        return None
    table, rows = record.looks, record.outcomes
    ended = table[table["ended"]].drop_duplicates("replicate").sort_values("replicate")
    last = rows.groupby("replicate")["entry.day"].max().to_numpy()
    day, counts = _curve(rows, float(ended["day"].max()))
    plan, interims = protocol.enrolment, protocol.interims
    return Conduct(
        day=day, entered=counts.mean(axis=0), lower=np.quantile(counts, 0.025, axis=0),
        upper=np.quantile(counts, 0.975, axis=0), planned=protocol.subjects, last_entry=operating.mean(last),
        last_entries=_middle(last), end=operating.mean(ended["day"]), ends=_middle(ended["day"].to_numpy()),
        subjects=operating.mean(ended["enrolled"]), sites=_sites(rows, protocol),
        analysis=interims.analysis if interims else "", unit=interims.of if interims else "",
        looks=_looks(record) if interims else (),
        information=operating.mean(ended["information"]) if interims else None,
        power=_power(record) if interims else None, selection=_selection(record), estimated=_estimated(record),
    ) if plan else None  # fmt: skip


def _middle(values: Array) -> Range:
    low, high = np.quantile(np.asarray(values, np.float64), [0.025, 0.975])
    return float(low), float(high)


def _curve(rows: "pd.DataFrame", end: float) -> tuple[Array, Array]:
    """Days and numbers entered by then in each trial (R, T)."""
    day = np.linspace(0.0, end, POINTS)
    counts = [np.searchsorted(np.sort(part), day, side="right") for _, part in rows.groupby("replicate")["entry.day"]]
    return day, np.array(counts, np.float64)


def _sites(rows: "pd.DataFrame", protocol: "Protocol") -> tuple[Sites, ...]:
    from trials.enrolment import sites_of

    assert protocol.enrolment is not None
    numbers = sites_of(protocol.enrolment)
    _, code = np.unique(rows["replicate"].to_numpy(), return_inverse=True)
    trials, total = int(code.max()) + 1, sum(numbers)
    counts = np.bincount(code * total + rows["site"].to_numpy(), minlength=trials * total).reshape(trials, total)
    parts, first = [], 0
    for name, number in zip(protocol.enrolment.regions, numbers, strict=False):
        parts.append(_region(name.replace("_", " ").capitalize(), counts[:, first : first + number]))
        first += number
    return (*parts, _region("All sites", counts))


def _region(name: str, counts: NDArray[Any]) -> Sites:
    low, middle, high = np.quantile(counts, [0.025, 0.5, 0.975])
    return Sites(
        name=name, sites=counts.shape[1], subjects=operating.mean(counts.sum(axis=1)),
        spread=_middle(counts.sum(axis=1)), one_site=(float(middle), float(low), float(high)),
        empty=operating.mean((counts == 0).sum(axis=1)),
    )  # fmt: skip


def _looks(record: "RunRecord") -> tuple[Look, ...]:
    interims = record.protocol.interims
    assert interims is not None
    table = record.looks.drop_duplicates(["replicate", "look"])
    exact, most = _exact(record.protocol), interims.events or float(table["information"].max())
    return tuple(
        _look(table[table["look"] == number + 1], (interims.fractions[number], most), number, exact[number])
        for number in range(len(interims.looks))
    )


def _look(rows: "pd.DataFrame", plan: tuple[float, float], number: int, exact: float) -> Look:
    """plan: fraction of the information, and what all of it is."""
    there = rows[rows["reached"] & rows["held"]]
    decision = rows["decision"].to_numpy()
    lower = rows["lower_bound"].median() if "lower_bound" in rows else np.nan
    return Look(
        number=number + 1, fraction=plan[0], count=plan[0] * plan[1],
        day=operating.mean(there["day"]), days=_middle(there["day"].to_numpy()) if len(there) else (np.nan, np.nan),
        enrolled=operating.mean(there["enrolled"]), bounds=(float(lower), float(rows["upper_bound"].median())),
        reached=operating.proportion(rows["reached"] & rows["held"]),
        efficacy=operating.proportion(decision == 1), futility=operating.proportion(decision == 2),
        harm=operating.proportion(decision == 3), exact=exact,
    )  # fmt: skip


def _exact(protocol: "Protocol") -> list[float]:
    """P(rejection at each look) under no effect, by recursion; NaN where arms are selected."""
    from trials.designs.characteristics import passage
    from trials.designs.sequential import boundaries
    from trials.stopping import plan_of

    interims = protocol.interims
    assert interims is not None
    if interims.select is not None:
        return [np.nan] * len(interims.looks)
    found = passage(boundaries(plan_of(interims, protocol.analyses[interims.analysis])), 0.0)
    return [float(p) for p in found.reject + found.wrong]


def _power(record: "RunRecord") -> Estimate:
    """Share of trials with a rejection of the analysis looked at, of any arm."""
    interims, rows = record.protocol.interims, record.analyses
    assert interims is not None
    mine = rows[rows["analysis"] == interims.analysis]
    return operating.proportion(mine.groupby("replicate")["reject"].any())


def _selection(record: "RunRecord") -> tuple[Arm, ...]:
    interims, table = record.protocol.interims, record.looks
    if interims is None or interims.select is None:
        return ()
    names = record.protocol.arm_names
    return tuple(
        Arm(
            key=names[code],
            inside=tuple(
                operating.proportion(rows["active"] & rows["reached"])
                for _, rows in table[table["contrast"] == code].groupby("look")
            ),
            rejected=operating.proportion(table[(table["contrast"] == code) & table["ended"]]["reject"]),
        )
        for code in sorted(table["contrast"].unique())
    )


def _estimated(record: "RunRecord") -> Estimated | None:
    """Against the true value of the estimand in each trial; None where there is none."""
    interims, table = record.protocol.interims, record.looks
    if interims is None or interims.select is not None:
        return None
    rows = table[table["ended"]].sort_values("replicate")
    truth = _truth(record, rows["replicate"].to_numpy())
    if truth is None:
        return None
    known = np.isfinite(truth)
    rows, truth = rows[known], truth[known]
    naive, unbiased = rows["estimate"].to_numpy(), rows["unbiased"].to_numpy()
    return Estimated(
        naive=operating.bias(naive, truth), unbiased=operating.bias(unbiased, truth),
        above=(operating.proportion(naive > truth), operating.proportion(unbiased > truth)),
        exact=operating.coverage(rows["lower"], rows["upper"], truth),
        repeated=operating.coverage(rows["repeated_lower"], rows["repeated_upper"], truth),
    )  # fmt: skip


def _truth(record: "RunRecord", replicates: NDArray[Any]) -> Array | None:
    """True contrast (R,), NaN in trials whose truth was not computed."""
    interims, protocol = record.protocol.interims, record.protocol
    assert interims is not None
    estimand = protocol.estimands[interims.analysis]
    rows = record.truth
    rows = rows[rows["analysis"] == interims.analysis] if not rows.empty else rows
    ratios = (*event_times.TRUE_RATIOS, "hazard_ratio", "win_ratio", "win_odds")
    if rows.empty or estimand.summary not in (*ratios, *event_times.TRUE_DIFFERENCES, "mean_difference"):
        return None
    by_arm = rows.pivot(index="replicate", columns="arm", values="mean").reindex(replicates)
    one, zero = (by_arm[arm].to_numpy(np.float64) for arm in (estimand.compare[0], estimand.against))
    found = np.asarray(one / zero if estimand.summary in ratios else one - zero)
    return found if np.isfinite(found).any() else None


def described(protocol: "Protocol") -> tuple[tuple[str, str], ...]:
    """Enrolment, data cut and looks in words, for the facts of the design."""
    plan, cut = protocol.enrolment, protocol.data_cut
    if plan is None:
        return ()
    parts = [f"{plan.sites} sites, each {plan.rate:g} eligible subjects a day on average"]
    parts += [f"rates gamma with cv {plan.cv:g}"] if plan.cv else []
    parts += [f"rising over {plan.ramp_up / 24:g} d"] if plan.ramp_up else []
    parts += [f"opening from day {plan.opening[0] / 24:g} to {plan.opening[1] / 24:g}"] if plan.opening[1] else []
    parts += [f"at most {plan.site_cap} subjects a site"] if plan.site_cap else []
    for name, region in plan.regions.items():
        own = [f"{100 * region.share:g} % of the sites"]
        own += [f"at most {region.cap} subjects"] if region.cap else []
        own += [f"{region.rate:g} a day"] if region.rate else []
        own += [f"opening from day {region.opening[0] / 24:g} to {region.opening[1] / 24:g}"] if region.opening else []
        parts.append(f"{name.replace('_', ' ')}: {', '.join(own)}")
    closing = []
    if cut is not None:
        closing += [f"day {cut.day:g}"] if cut.day else []
        closing += [f"{cut.events} events of {cut.analysis}"] if cut.events else []
    found = [("Enrolment", "; ".join(parts)), ("Data cut", ", or ".join(closing))]
    return (*found, ("Interim looks", _plan(protocol)))


def changes(protocol: "Protocol") -> tuple[tuple[str, str], ...]:
    """Switching, rescue and the causes of leaving in words, for the facts of the design."""
    parts = []
    for name, event in protocol.intercurrent.items():
        if (switch := event.switch) is not None:
            later = f" {switch.delay / 24:g} d later" if switch.delay else ""
            parts.append(
                f"{name}: after {switch.after.replace('_', ' ')} {100 * switch.probability:g} % of "
                f"{', '.join(switch.from_)} go over to the regimen of {switch.to}{later}"
            )
        if (rescue := event.rescue) is not None:
            parts.append(f"{name}: doses are added at {', '.join(rescue.at)} where {_level(rescue)}")
    leaving = [
        f"{100 * p:g} % leave at the first {name.replace('_', ' ')}" for name, p in protocol.dropout.after.items()
    ]
    leaving += [
        f"{24 * rate:g} per day leave while {name.replace('_', ' ')} is of grade {grade} or worse"
        for name, rates in protocol.dropout.while_.items() for grade, rate in rates.items()
    ]  # fmt: skip
    if (lack := protocol.dropout.lack_of_effect) is not None:
        leaving.append(f"{100 * lack.probability:g} % leave at {', '.join(lack.at)} where {_level(lack)}")
    return ("Changes of treatment", "; ".join(parts)), ("Causes of leaving", "; ".join(leaving))


def _level(rule: "Rescue | LackOfEffect") -> str:
    sides = [f"below {rule.below}"] * (rule.below is not None) + [f"above {rule.above}"] * (rule.above is not None)
    return f"the measured {rule.measure} is {' or '.join(sides)}"


def _plan(protocol: "Protocol") -> str:
    plan = protocol.interims
    if plan is None:
        return ""
    rule = plan.efficacy
    bounds = (rule.family or rule.spending or "").replace("_", " ")
    at = ", ".join(f"{look:g}" for look in plan.looks)
    parts = [f"{plan.analysis} at {at} of the {plan.of}" if not plan.counted else f"{plan.analysis} at {at} {plan.of}"]
    parts += [f"on days {', '.join(f'{day:g}' for day in plan.days)} and at the end"] if plan.days else []
    parts += [f"efficacy by {bounds}{f' ({rule.shape:g})' if rule.shape else ''}"]
    if plan.futility is not None:
        how = plan.futility.spending or f"z at most {', '.join(f'{z:g}' for z in plan.futility.z)}"
        parts.append(f"futility by {how.replace('_', ' ')}, {'binding' if plan.futility.binding else 'not binding'}")
    if plan.select is not None:
        parts.append(f"arms: {plan.select.choice.replace('_', ' ')}, closed test by {plan.select.intersection}")
    return "; ".join(parts)
