"""Metrics of proarrhythmic risk beside the ECG: an open table; the margin of hERG block is the first.

CiPA's torsade metric (qNet of the action-potential model) will be another row: what it needs of a drug is its free
exposure (`Exposure`) and its channel blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pkpd.ground.errors import InputError

__all__ = ["METRICS", "Exposure", "Herg", "Margin", "Metric", "herg_margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Geometric mean Cmax (total), sd of its logarithm over `people` subjects, share unbound in plasma."""

    cmax: float
    sd_log: float
    people: int
    unbound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Herg:
    """IC50 of hERG block in the unit of the concentrations, with its interval of `level` (NaN: not known)."""

    ic50: float
    lower: float = math.nan
    upper: float = math.nan
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """IC50 over free Cmax with a two-sided interval; `whole`: whether both errors are in it."""

    estimate: float
    lower: float
    upper: float
    level: float
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric: what it says, the published value it is held against and where that is from, how it is computed."""

    words: str
    held_against: float
    source: str
    run: Callable[[Exposure, Herg], Margin]


def herg_margin(exposure: Exposure, herg: Herg, level: float = 0.90) -> Margin:
    """IC50 / (unbound x geometric mean Cmax); the interval adds both variances on the log scale.

    ICH E14/S7B Q&A (2022) asks for the margin at the free Cmax and compares it with that of reference drugs in the same
    assay. Errors: InputError for values that are not positive, an unbound share above 1, limits the wrong way round.

    >>> m = herg_margin(Exposure(cmax=2.0, sd_log=0.2, people=25, unbound=0.5), Herg(ic50=30.0, lower=20.0, upper=45.0))
    >>> round(m.estimate, 1), round(m.lower, 1), m.whole
    (30.0, 21.2, True)
    """
    from scipy.special import ndtri

    for name, value in (("ic50", herg.ic50), ("cmax", exposure.cmax), ("unbound", exposure.unbound)):
        if not (value > 0.0 and math.isfinite(value)):
            raise InputError("must be positive", field=name, value=value)
    if exposure.unbound > 1.0:
        raise InputError("must be at most 1", field="unbound", value=exposure.unbound)
    known = not (math.isnan(herg.lower) or math.isnan(herg.upper))
    if known and not 0.0 < herg.lower <= herg.ic50 <= herg.upper:
        raise InputError("must be LOWER,UPPER around the IC50", field="herg", value=(herg.lower, herg.upper))
    z, zi = float(ndtri(0.5 + level / 2.0)), float(ndtri(0.5 + herg.level / 2.0))
    of_ic50 = math.log(herg.upper / herg.lower) / (2.0 * zi) if known else 0.0
    of_cmax = exposure.sd_log / math.sqrt(exposure.people) if exposure.people > 1 else 0.0
    estimate, width = herg.ic50 / (exposure.unbound * exposure.cmax), z * math.hypot(of_ic50, of_cmax)
    return Margin(
        estimate=estimate, lower=estimate * math.exp(-width), upper=estimate * math.exp(width), level=level,
        whole=known and exposure.people > 1,
    )  # fmt: skip


METRICS: Mapping[str, Metric] = {
    "herg_margin": Metric(
        words="IC50 of hERG block over free Cmax", held_against=30.0,
        source="Redfern et al., Cardiovasc Res 2003;58:32: a provisional margin of 30",
        run=herg_margin,
    ),
}  # fmt: skip
"""Name -> metric. A new one is a row here."""
