"""When and where each subject enters: sites recruit as Poisson processes, the first to come are enrolled. By address.

A site's rate and its subjects' waiting times depend on (seed, replicate, site) alone; subject s of a replicate is the
s-th to come. Caps of sites and regions keep the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trials.designs.recruitment import Sites, arrivals
from trials.planned import Enrolment, Region

__all__ = ["Entries", "entries", "sites_of"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
HOURS_PER_DAY = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Arrays (R, N) in order of entry: `time` of entry [h] since the first site opened, `site` and `region` from 0."""

    time: Floats
    site: Integers
    region: Integers


def sites_of(plan: Enrolment) -> tuple[int, ...]:
    """Number of sites of each region (one region where none is named), by largest remainders.

    >>> sites_of(Enrolment(sites=10, rate=1.0, regions={"a": Region(share=0.75), "b": Region(share=0.25)}))
    (8, 2)
    """
    if not plan.regions:
        return (plan.sites,)
    wanted = np.array([region.share for region in plan.regions.values()]) * plan.sites
    found = np.floor(wanted + 1e-9).astype(np.int64)
    order = np.argsort(-(wanted - found), kind="stable")
    found[order[: plan.sites - int(found.sum())]] += 1
    return tuple(int(n) for n in found)


def entries(plan: Enrolment, subjects: int, *, seed: int, replicate: NDArray[np.uint32]) -> Entries:
    """The first `subjects` to come. The plan's caps must leave room for them (`trials.checks_conduct`)."""
    count = max(8, -(-2 * subjects // plan.sites))
    while True:  # until no site could still have come earlier: what is found does not depend on how many were drawn
        drawn = min(count, plan.site_cap or subjects, subjects)
        times, site, region = _drawn(plan, drawn, (seed, replicate))
        merged = _first(times, subjects)
        last = np.take_along_axis(times.reshape(len(times), -1), merged[:, -1:], axis=1)
        whole = drawn == min(plan.site_cap or subjects, subjects)
        if whole or (np.isfinite(last[:, 0]) & (times[:, :, -1] > last).all(axis=1)).all():
            break
        count *= 2
    flat = [np.broadcast_to(part, times.shape).reshape(len(times), -1) for part in (times, site, region)]
    time, where, area = (np.take_along_axis(part, merged, axis=1) for part in flat)
    return Entries(
        time=np.asarray(time * HOURS_PER_DAY, np.float64), site=where.astype(np.int64), region=area.astype(np.int64)
    )


def _first(times: Floats, subjects: int) -> NDArray[np.intp]:
    """Places of the first to come, in order; of two at one time the site of the lower number."""
    return np.argsort(times.reshape(len(times), -1), axis=1, kind="stable")[:, :subjects]


def _drawn(plan: Enrolment, count: int, at: tuple[int, NDArray[np.uint32]]) -> tuple[Floats, Integers, Integers]:
    """Days (R, S, count) at which subjects come, infinite beyond the cap of a region; site and region (S, 1)."""
    seed, replicate = at
    parts, areas = [], []
    for number, (first, sites, region) in enumerate(_regions(plan)):
        ramp = plan.ramp_up / HOURS_PER_DAY
        times = arrivals(sites, count, seed=seed, replicates=replicate, first=first, ramp=ramp)
        if region is not None and region.cap is not None and region.cap < times[0].size:
            limit = np.sort(times.reshape(len(times), -1), axis=1)[:, region.cap - 1]
            times = np.where(times <= limit[:, None, None], times, np.inf)
        parts.append(times)
        areas.append(np.full(sites.number, number))
    return np.concatenate(parts, axis=1), np.arange(plan.sites)[:, None], np.concatenate(areas)[:, None]


def _regions(plan: Enrolment) -> Iterator[tuple[int, Sites, Region | None]]:
    """(number of the first site, sites, region) of every region that has sites."""
    first = 0
    named: list[Region | None] = list(plan.regions.values()) or [None]
    for number, region in zip(sites_of(plan), named, strict=True):
        start, end = (region.opening if region is not None else None) or plan.opening
        opening = np.linspace(start, end, number) / HOURS_PER_DAY
        rate = (region.rate if region is not None else None) or plan.rate
        yield first, Sites(number=number, rate=rate, cv=plan.cv, opening=tuple(opening.tolist())), region
        first += number
