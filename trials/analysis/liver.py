"""Potential drug-induced liver injury: eDISH quadrants, the components of Hy's law, the FDA's stopping rules.

Sources: FDA, Guidance for Industry. Drug-Induced Liver Injury: Premarketing Clinical Evaluation, July 2009; Senior,
Drug Saf 2014;37(Suppl 1):S9 (eDISH). Multiples are of the upper limit of normal; "above 3" is strict. That no other
cause explains a case is for a physician to judge: a case here is a *potential* one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["WINDOW", "Liver", "Quadrant", "Stopping", "liver", "quadrant", "stopping"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
AMINOTRANSFERASE, BILIRUBIN, PHOSPHATASE = 3.0, 2.0, 2.0
WINDOW: Final = 30.0  # days: bilirubin within 30 days of the ALT elevation (Clin Kidney J 2022;15:1553, Table 1)


class Quadrant(IntEnum):
    """Peak aminotransferase against peak bilirubin, whatever their times."""

    UNKNOWN = -1
    NORMAL = 0  # ALT or AST <= 3, bilirubin <= 2
    TEMPLE = 1  # ALT or AST > 3 alone: Temple's corollary, lower right
    CHOLESTASIS = 2  # bilirubin > 2 alone: cholestasis or Gilbert's syndrome, upper left
    HY = 3  # both: potential Hy's law, upper right


@dataclass(frozen=True, slots=True, kw_only=True)
class Liver:
    """One row per subject (N,), in the order of `subject`; peaks in multiples of the upper limit of normal.

    aminotransferase, bilirubin: the components ever; in_time: bilirubin > 2 on a day of, or at most `window` days
    after, an aminotransferase > 3; no_cholestasis: 1 where alkaline phosphatase was < 2 up to that bilirubin, 0 where
    not, -1 where not measured or not asked (no such bilirubin); hy: all of them, with -1 = not known, for want of a
    measurement: also where an aminotransferase > 3 has no bilirubin on its day or in the `window` after, or a
    bilirubin > 2 no aminotransferase on its day or in the `window` before; day: of that bilirubin, NaN where none.
    """

    subject: NDArray[np.str_]
    peak_aminotransferase: Floats
    peak_bilirubin: Floats
    quadrant: NDArray[np.int8]
    aminotransferase: Flags
    bilirubin: Flags
    in_time: Flags
    no_cholestasis: NDArray[np.int8]
    hy: NDArray[np.int8]
    day: Floats


def quadrant(aminotransferase: ArrayLike, bilirubin: ArrayLike) -> NDArray[np.int8]:
    """Quadrant of peaks in multiples of the upper limit of normal; UNKNOWN where one is missing.

    >>> quadrant([1.0, 3.1, 1.0, 3.1, 3.0], [1.0, 2.0, 2.1, 2.1, 2.0]).tolist()
    [0, 1, 2, 3, 0]
    """
    a, b = np.broadcast_arrays(np.asarray(aminotransferase, np.float64), np.asarray(bilirubin, np.float64))
    found = (a > AMINOTRANSFERASE) * Quadrant.TEMPLE + (b > BILIRUBIN) * Quadrant.CHOLESTASIS
    return np.where(np.isnan(a) | np.isnan(b), Quadrant.UNKNOWN, found).astype(np.int8)


def liver(
    subject: ArrayLike, day: ArrayLike, *, alt: ArrayLike, bilirubin: ArrayLike, ast: ArrayLike | None = None,
    alp: ArrayLike | None = None, window: float = WINDOW,
) -> Liver:  # fmt: skip
    """Judge visits after the start of treatment: a row per subject and day, (M,), values in multiples of the limit.

    >>> found = liver(["a", "a"], [10, 20], alt=[4.0, 2.0], bilirubin=[1.0, 2.5], alp=[1.2, 1.1])
    >>> Quadrant(found.quadrant[0]).name, found.in_time.tolist(), found.hy.tolist()
    ('HY', [True], [1])
    """
    names = np.asarray(subject).astype(np.str_).reshape(-1)
    days = np.asarray(day, np.float64).reshape(-1)
    blood = [
        np.full(names.shape, np.nan) if a is None else np.asarray(a, np.float64) for a in (alt, ast, bilirubin, alp)
    ]
    if any(a.shape != names.shape for a in (days, *blood)):
        raise InputError("all columns must have one length", field="subject", value=names.size)
    visits = np.column_stack([days, np.fmax(blood[0], blood[1]), blood[2], blood[3]])
    unique, code = np.unique(names, return_inverse=True)
    rows = [_case(visits[code == k], window) for k in range(unique.size)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Liver(
        subject=unique, peak_aminotransferase=table[:, 0], peak_bilirubin=table[:, 1],
        quadrant=quadrant(table[:, 0], table[:, 1]), aminotransferase=table[:, 0] > AMINOTRANSFERASE,
        bilirubin=table[:, 1] > BILIRUBIN, in_time=table[:, 2] > 0, no_cholestasis=table[:, 3].astype(np.int8),
        hy=table[:, 4].astype(np.int8), day=table[:, 5],
    )  # fmt: skip


def _case(visits: Floats, window: float) -> tuple[float, ...]:
    """Peaks, in time, no cholestasis, Hy's law, day; the first pair without cholestasis counts, else the first pair."""
    day, enzyme, bilirubin, phosphatase = visits[np.argsort(visits[:, 0], kind="stable")].T
    peaks = _peak(enzyme), _peak(bilirubin)
    ruled_out = peaks[0] <= AMINOTRANSFERASE or peaks[1] <= BILIRUBIN
    raised = day[enzyme > AMINOTRANSFERASE]
    measured = not np.isnan(peaks).any()
    high = day[bilirubin > BILIRUBIN]
    followed = _near(day[np.isfinite(bilirubin)], raised, window) and _near(day[np.isfinite(enzyme)], high, -window)
    found: tuple[float, ...] = (0.0, -1.0, 0.0 if (ruled_out or measured) and followed else -1.0, np.nan)
    for at in high:
        if not ((raised <= at) & (raised >= at - window)).any():
            continue
        before = phosphatase[(day <= at) & np.isfinite(phosphatase)]
        free = float(before.max() < PHOSPHATASE) if before.size else -1.0
        if found[0] == 0.0 or free == 1.0:
            found = (1.0, free, free, float(at))
        if free == 1.0:
            break
    return (*peaks, *found)


def _near(measured: Floats, days: Floats, window: float) -> bool:
    """Whether each of `days` has a measurement at most `window` after it (below 0: before it)."""
    away = (measured[None, :] - days[:, None]) * np.sign(window or 1.0)
    return bool(((away >= 0.0) & (away <= abs(window))).any(axis=1).all())


def _peak(x: Floats) -> float:
    return float(np.nanmax(x)) if np.isfinite(x).any() else np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Which of the guidance's reasons to stop treatment a subject meets (N,); `day` of the first, NaN where none."""

    subject: NDArray[np.str_]
    above_8: Flags
    above_5_for_2_weeks: Flags
    above_3_with_liver_function: Flags
    above_3_with_symptoms: Flags
    day: Floats


def stopping(
    subject: ArrayLike, day: ArrayLike, *, alt: ArrayLike, ast: ArrayLike | None = None,
    bilirubin: ArrayLike | None = None, inr: ArrayLike | None = None, symptoms: ArrayLike | None = None,
) -> Stopping:  # fmt: skip
    """The FDA's rules of 2009 on visits (M,): ALT or AST > 8; > 5 for more than 2 weeks; > 3 with bilirubin > 2 or
    INR > 1.5; > 3 with symptoms (fatigue, nausea, vomiting, right upper quadrant pain, fever, rash, eosinophilia).

    Between visits above 5 the value is taken to stay above 5. INR itself, not its multiple.

    >>> stopping(["a", "a"], [0, 15], alt=[5.5, 6.0]).above_5_for_2_weeks.tolist()
    [True]
    """
    names = np.asarray(subject).astype(np.str_).reshape(-1)
    days = np.asarray(day, np.float64).reshape(-1)
    given = [
        np.full(names.shape, np.nan) if a is None else np.asarray(a, np.float64)
        for a in (alt, ast, bilirubin, inr, symptoms)
    ]
    if any(a.shape != names.shape for a in (days, *given)):
        raise InputError("all columns must have one length", field="subject", value=names.size)
    enzyme = np.fmax(given[0], given[1])
    rules = [
        enzyme > 8.0, np.zeros(names.shape, np.bool_),
        (enzyme > 3.0) & ((given[2] > BILIRUBIN) | (given[3] > 1.5)), (enzyme > 3.0) & (given[4] > 0),
    ]  # fmt: skip
    unique, code = np.unique(names, return_inverse=True)
    for k in range(unique.size):
        own = np.flatnonzero(code == k)
        own = own[np.argsort(days[own], kind="stable")]
        rules[1][own] = _lasting(days[own], enzyme[own])
    met = np.stack([[rule[code == k].any() for rule in rules] for k in range(unique.size)])
    any_rule = np.logical_or.reduce(rules)
    first = [days[any_rule & (code == k)].min(initial=np.inf) for k in range(unique.size)]
    when = np.where(np.isinf(first), np.nan, first)
    return Stopping(subject=unique, above_8=met[:, 0], above_5_for_2_weeks=met[:, 1],
                    above_3_with_liver_function=met[:, 2], above_3_with_symptoms=met[:, 3], day=when)  # fmt: skip


def _lasting(day: Floats, enzyme: Floats) -> Flags:
    """At which visits the value has been above 5 for more than 14 days."""
    out, since = np.zeros(day.shape, np.bool_), np.nan
    for k in np.flatnonzero(np.isfinite(enzyme)):
        if enzyme[k] <= 5.0:
            since = np.nan
        elif np.isnan(since):
            since = day[k]
        out[k] = day[k] - since > 14.0
    return out
