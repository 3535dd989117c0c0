"""Events that come again or become worse, over the days of the trial: mean numbers and grades by arm.

`courses(record)` is read by `reports.gather`; sections and figures see only the plain nouns.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trials import operating
from trials.operating import Estimate

if TYPE_CHECKING:
    from pkpd.model.parts import Event
    from trials.record import RunRecord

Array = NDArray[np.float64]
MOSTLY = 0.95
TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCourse:
    """One arm (by its index): mean over trials of the mean number (T,), middle 95 % of trials; mean number of subjects
    followed at the ticks (K,); number: mean number by the last day shown; one: standard error one trial would report;
    shares (G, T): of those followed, at grade 1, 2, ... or worse; days (G): mean days at it; none for events without;
    first: share with a first occurrence, mean and middle 95 % of trials (T,); had: that share by the last day shown.
    """

    arm: int
    value: Array
    lower: Array
    upper: Array
    at_risk: Array
    number: Estimate
    one: float
    shares: Array
    days: tuple[Estimate, ...]
    first: tuple[Array, Array, Array]
    had: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One event; until: the last day to which 95 % of trials have somebody followed in every arm."""

    key: str
    term: str
    moving: bool
    day: Array
    ticks: Array
    until: float
    arms: tuple[ArmCourse, ...]


def courses(record: "RunRecord") -> tuple[Course, ...]:
    """Every event of the model that comes again; none where the run kept no such table."""
    table = record.courses
    if table.empty:
        return ()
    events = record.model.events
    return tuple(
        _course(record, table[table["event"] == key], (key, events[key])) for key in dict.fromkeys(table["event"])
    )


def _course(record: "RunRecord", rows: pd.DataFrame, event: tuple[str, "Event"]) -> Course:
    (key, told), arms = event, len(record.protocol.arms)
    rows = rows.sort_values(["replicate", "arm", "day"], kind="stable")
    day = np.unique(rows["day"].to_numpy())
    shape = (-1, arms, day.size)
    wide = {name: rows[name].to_numpy(np.float64).reshape(shape) for name in rows.columns if name not in ("event",)}
    known = (np.isfinite(wide["mean"]).mean(axis=0) >= MOSTLY).all(axis=0)
    last = int(np.flatnonzero(known).max(initial=0))
    moving = bool(told.moves)
    return Course(
        key=key, term=told.term or key, moving=moving, day=day[: last + 1],
        ticks=np.linspace(0, last, TICKS).round().astype(np.int64), until=float(day[last]),
        arms=tuple(_arm(record, key, wide, (code, last, told.highest if moving else 0)) for code in range(arms)),
    )  # fmt: skip


def _arm(record: "RunRecord", key: str, wide: dict[str, Array], which: tuple[int, int, int]) -> ArmCourse:
    code, last, top = which
    own = wide["mean"][:, code, : last + 1]
    low, high = np.nanquantile(own, [0.025, 0.975], axis=0)
    ticks = np.linspace(0, last, TICKS).round().astype(np.int64)
    first = wide["first"][:, code, : last + 1]
    shares = [np.nanmean(wide[f"least{g}"][:, code, : last + 1], axis=0) for g in range(1, min(top, 4) + 1)]
    return ArmCourse(
        arm=code, value=np.nanmean(own, axis=0), lower=low, upper=high,
        at_risk=wide["at_risk"][:, code, ticks].mean(axis=0), number=operating.mean(own[:, last]),
        one=float(np.nanmedian(wide["se"][:, code, last])),
        shares=np.array(shares).reshape(len(shares), last + 1), days=_days(record, key, code, len(shares)),
        first=(np.nanmean(first, axis=0), *np.nanquantile(first, [0.025, 0.975], axis=0)),
        had=operating.mean(first[:, last]),
    )  # fmt: skip


def _days(record: "RunRecord", key: str, code: int, top: int) -> tuple[Estimate, ...]:
    """Mean days at each grade or worse per subject of the arm."""
    rows = record.outcomes[record.outcomes["arm"] == code]
    found = []
    for level in range(1, top + 1):
        by = rows.groupby("replicate", sort=True)[f"{key}.days{level if level > 1 else ''}"].mean()
        found.append(operating.mean(by.to_numpy(np.float64)))
    return tuple(found)
