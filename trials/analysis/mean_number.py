"""Mean cumulative number of recurrent events up to a day, with death as the end of all events, by arm.

mu(t) = integral of S(u-) dN(u)/Y(u): N counts events, Y who is followed, S is the Kaplan-Meier estimate of being alive
(Ghosh & Lin, Biometrics 2000;56:554; Cook & Lawless, Stat Med 1997;16:911). Without deaths S is 1 and mu the
Nelson-Aalen estimate of the mean function (Nelson, J Qual Technol 1988;20:24). The variance is the sum of squared
influences of the subjects (robust to dependence of a subject's events; without deaths Lawless & Nadeau, Technometrics
1995;37:158). Being in follow-up is taken to say nothing of events to come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["MeanNumber", "mean_number"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanNumber:
    """Arrays (R, A, T): mean number of events by each time, its standard error, subjects followed to it.

    NaN at times to which nobody of the arm is followed.
    """

    value: Floats
    se: Floats
    at_risk: Ints


def mean_number(
    times: ArrayLike, until: ArrayLike, arm: ArrayLike, *, arms: int, at: ArrayLike, died: ArrayLike | None = None
) -> MeanNumber:
    """times (R, N, L), inf where none; until (R, N): end of follow-up, 0 for who is not in; died (R, N): ends it there.

    >>> found = mean_number([[[2.0, 5.0]]], [[7.0]], [[0]], arms=1, at=[3.0, 6.0])
    >>> found.value.tolist(), found.at_risk.tolist()
    ([[[1.0, 2.0]]], [[[1, 1]]])
    """
    when, end, code = np.asarray(times, np.float64), np.asarray(until, np.float64), np.asarray(arm, np.int64)
    dead = np.zeros(end.shape, np.bool_) if died is None else np.asarray(died, np.bool_)
    if when.shape[:2] != end.shape or code.shape != end.shape or not np.isfinite(end).all():
        raise InputError("needs times (R, N, L), a finite end of follow-up and an arm (R, N)", field="until",
                         value=f"{when.shape}, {end.shape}, {code.shape}")  # fmt: skip
    grid = np.asarray(at, np.float64).reshape(-1)
    value, se = np.full((2, len(end), arms, grid.size), np.nan)
    at_risk = np.zeros((len(end), arms, grid.size), np.int64)
    for r in range(len(end)):
        for a in range(arms):
            who = (code[r] == a) & (end[r] > 0)
            at_risk[r, a] = (end[r][who][:, None] >= grid).sum(axis=0)
            if who.any():
                value[r, a], se[r, a] = _one(when[r][who], end[r][who], dead[r][who], grid)
    blank = at_risk == 0
    value[blank], se[blank] = np.nan, np.nan
    return MeanNumber(value=value, se=se, at_risk=at_risk)


def _one(when: Floats, end: Floats, dead: Flags, grid: Floats) -> tuple[Floats, Floats]:
    """One arm of one trial: mean number and standard error at `grid` (T,).

    Influence of subject i at t: sum of its S/Y at its events up to t, less sum of S dN/Y^2 while it is followed; less
    (mu(t) - mu(d))/Y(d) at its death d up to t, plus the sum of (mu(t) - mu(s)) dD/Y^2 while it is followed.
    """
    seen = np.where(when <= end[:, None], when, np.inf)
    point = np.unique(np.concatenate([seen[np.isfinite(seen)], end[dead]]))
    if not point.size:
        return np.zeros(grid.size), np.zeros(grid.size)
    followed = end.size - np.searchsorted(np.sort(end), point, side="left")  # at risk at the point itself
    events = np.bincount(np.searchsorted(point, seen[np.isfinite(seen)]), minlength=point.size)
    deaths = np.bincount(np.searchsorted(point, end[dead]), minlength=point.size)
    alive = np.cumprod(1.0 - deaths / followed)
    before = np.concatenate([[1.0], alive[:-1]])
    weight = before / followed
    mean = np.concatenate([[0.0], np.cumsum(weight * events)])
    spent = np.concatenate([[0.0], np.cumsum(weight * events / followed)])
    hazard = np.concatenate([[0.0], np.cumsum(deaths / followed**2)])
    product = np.concatenate([[0.0], np.cumsum(mean[1:] * deaths / followed**2)])
    now = np.searchsorted(point, grid, side="right")  # number of points up to each time
    left = np.minimum(now, np.searchsorted(point, end, side="right")[:, None])
    own = np.zeros((end.size, grid.size))
    place = np.searchsorted(point, np.where(np.isfinite(seen), seen, point[0]))
    step = np.where(np.isfinite(seen), weight[place], 0.0)
    for column in range(seen.shape[1]):
        own += np.where(seen[:, column, None] <= grid, step[:, column, None], 0.0)
    total = mean[now]
    influence = own - spent[left] + total * hazard[left] - product[left]
    if dead.any():
        at = np.searchsorted(point, end[dead])
        lost = (total - mean[at + 1][:, None]) / followed[at][:, None]
        influence[dead] -= np.where(end[dead][:, None] <= grid, lost, 0.0)
    return total, np.sqrt((influence**2).sum(axis=0))
