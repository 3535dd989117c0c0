"""`nca`: the labelled layer. Samples in a table or `Records` in; one row per profile out: units, reasons, rules."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pkpd.exposure.analysis import Exposure, noncompartmental
from pkpd.exposure.profiles import C0_RULES, F64
from pkpd.exposure.rules import NcaReason, NcaRules, Route, demand
from pkpd.ground import units
from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pkpd.model.records import Records

__all__ = ["CDISC", "nca"]

CDISC = {
    "cmax": "CMAX", "tmax": "TMAX", "cmax_dose": "CMAXD", "c0": "C0", "tlag": "TLAG", "tlast": "TLST", "clast": "CLST",
    "clast_pred": "CLSTP", "auc_last": "AUCLST", "auc_all": "AUCALL", "auc_inf": "AUCIFO", "auc_inf_dose": "AUCIFOD",
    "auc_inf_pred": "AUCIFP", "extrapolated": "AUCPEO", "extrapolated_pred": "AUCPEP", "back_extrapolated": "AUCPBEO",
    "aumc_last": "AUMCLST", "aumc_inf": "AUMCIFO", "aumc_inf_pred": "AUMCIFP", "lambda_z": "LAMZ",
    "half_life": "LAMZHL", "lambda_z_points": "LAMZNPT", "lambda_z_lower": "LAMZLL", "lambda_z_upper": "LAMZUL",
    "r2": "R2", "adjusted_r2": "R2ADJ",
}  # fmt: skip
"""Our names and the CDISC codes (PPTESTCD) that do not depend on the route."""

_CONC = ("cmax", "c0", "clast", "clast_pred", "cavg", "cmin", "ctrough")
_TIME = (
    "tmax",
    "tmin",
    "tlast",
    "tlag",
    "lambda_z_lower",
    "lambda_z_upper",
    "half_life",
    "mrt",
    "mrt_pred",
    "mrt_last",
)
_PERCENT = ("extrapolated", "extrapolated_pred", "back_extrapolated", "fluctuation", "swing", "predose_percent")


@dataclass(frozen=True, slots=True)
class _Wide:
    """Profiles side by side: keys (n), time and conc (n, T), and what is constant within a profile (n,)."""

    keys: tuple[tuple[Any, ...], ...]
    by: tuple[str, ...]
    time: F64
    conc: F64
    constants: dict[str, F64]


def nca(
    data: pd.DataFrame | Records,
    *,
    by: Sequence[str] = ("ID",),
    time: str = "TIME",
    concentration: str = "DV",
    dose: str | float | None = None,
    route: Route = "extravascular",
    duration: str | float = 0.0,
    tau: str | float | None = None,
    steady: bool = False,
    lloq: str | float = 0.0,
    windows: Mapping[str, tuple[float, float]] | None = None,
    terminal: Mapping[Hashable, tuple[float, float]] | None = None,
    rules: NcaRules | None = None,
    time_unit: str = "h",
    concentration_unit: str = "mg/L",
    dose_unit: str = "mg",
) -> pd.DataFrame:
    """Non-compartmental parameters, one row per profile (a group of `by`).

    data: a table with one row per sample, time counted from the dose of the profile; or `Records` with one dose per
    subject, whose amount, time, infusion, interval and steady state are taken. dose, duration, tau, lloq: a number, or
    the name of a column that is constant within a profile. terminal {profile: (from, to)}: times of the points of a
    terminal fit chosen by eye. Columns are the parameters of :func:`noncompartmental` (docs/exposure.md), then
    `zero_rule`, `below_limit`, `missing`, and `reasons`, which says why each NaN of the row is one. Clearances are in L
    per time unit and volumes in L (per kg for a dose per kg), whatever the units given. `attrs["rules"]` and
    `attrs["units"]` record the rules and the unit of every column. Errors: InputError with field, profile and remedy.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"ID": 1, "TIME": [0, 1, 2, 4, 8], "DV": [0, 10, 8, 4, 1.0]})
    >>> found = nca(table, dose=100, concentration_unit="ng/mL")
    >>> round(float(found["cl"].iloc[0]), 1), found.attrs["units"]["cl"]
    (2699.3, 'L/h')
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        wide = _from_table(
            data, by, (time, concentration), {"dose": dose, "duration": duration, "tau": tau, "lloq": lloq}
        )
    else:
        wide, route, steady = _from_records(data, route, steady, {"dose": dose, "tau": tau, "lloq": lloq})
    unit = _units(time_unit, concentration_unit, dose_unit)
    found = noncompartmental(
        wide.time, wide.conc, wide.constants["dose"], route=route, duration=wide.constants["duration"],
        tau=wide.constants["tau"], steady=steady, lloq=wide.constants["lloq"], windows=windows,
        points=_fixed(wide, terminal), rules=rules,
    )  # fmt: skip
    return _frame(pd.DataFrame, wide, found, unit)


def _frame(make: Any, wide: _Wide, found: Exposure, unit: dict[str, tuple[str, float]]) -> pd.DataFrame:
    columns: dict[str, Any] = {name: [key[k] for key in wide.keys] for k, name in enumerate(wide.by)}
    for name, value in found.values.items():
        columns[name] = value * unit.get(name, ("", 1.0))[1]
    columns["zero_rule"] = [C0_RULES[k] for k in found.profiles.zero_rule]
    columns["below_limit"], columns["missing"] = found.profiles.n_below, found.profiles.n_missing
    columns["reasons"] = [_because(found, k) for k in range(len(wide.keys))]
    frame = make(columns)
    areas = unit["auc_last"][0]
    names = {name: unit.get(name, (areas if name.startswith("auc[") else "1", 1.0))[0] for name in found.values}
    frame.attrs = {"rules": found.rules, "units": names}
    return cast("pd.DataFrame", frame)


def _because(found: Exposure, subject: int) -> str:
    """`cl, vz: no dose given; c0: not defined for this route`."""
    groups: dict[NcaReason, list[str]] = {}
    for name, reason in found.why(subject).items():
        groups.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason.text}" for reason, names in groups.items())


def _units(time: str, conc: str, dose: str) -> dict[str, tuple[str, float]]:
    """Unit of each parameter and the factor that takes it there from dose/concentration."""
    (size_c, dim_c), (size_d, dim_d) = units.parsed(conc), units.parsed(dose)
    demand(units.same_dimension(time, "h"), "must be a unit of time", "time_unit", time, remedy="h, min or d")
    left = dict(dim_d)
    for name, power in dim_c:
        left[name] = left.get(name, 0) - power
    dimension = {name: power for name, power in left.items() if power}
    volume = dimension == {"length": 3}
    per_kg = dimension == {"length": 3, "mass": -1}
    demand(volume or per_kg, f"dose in {dose} per concentration in {conc} is no volume", "concentration_unit",
                  conc, remedy="turn amounts of substance into mass first (molar mass)")  # fmt: skip
    target = "L" if volume else "L/kg"
    size = size_d / size_c / units.parsed(target)[0]
    flow = f"L/{time}" if volume else f"L/{time}/kg"
    table = dict.fromkeys(_CONC, (conc, 1.0)) | dict.fromkeys(_TIME, (time, 1.0))
    table |= dict.fromkeys(_PERCENT, ("percent", 1.0)) | {"lambda_z": (f"1/{time}", 1.0)}
    table |= {f"{kind}_{end}": (f"{conc}*{time}" + "^2" * (kind == "aumc"), 1.0)
              for kind in ("auc", "aumc") for end in ("last", "all", "inf", "inf_pred", "tau")}  # fmt: skip
    table |= {f"auc_{end}_dose": (f"{conc}*{time}/({dose})", 1.0) for end in ("last", "inf", "tau")}
    table |= {"cmax_dose": (f"{conc}/({dose})", 1.0), "cl": (flow, size), "cl_pred": (flow, size)}
    return table | dict.fromkeys(("vz", "vz_pred", "vss", "vss_pred"), (target, size))


def _fixed(wide: _Wide, terminal: Mapping[Hashable, tuple[float, float]] | None) -> Any:
    """Points of the terminal fits chosen by eye; a key is the profile's value of `by`, a tuple if `by` has several."""
    if not terminal:
        return None
    mask = np.zeros(wide.time.shape, np.bool_)
    known = {key if len(key) > 1 else key[0]: row for row, key in enumerate(wide.keys)}
    for key, (start, end) in terminal.items():
        demand(key in known, "is no profile of the data", "terminal", key, remedy="name one of them")
        demand(start < end, "must be (from, to) with from < to", f"terminal[{key}]", (start, end), remedy="(8, 24)")
        row = known[key]
        mask[row] = (wide.time[row] >= start) & (wide.time[row] <= end)
        demand(np.any(mask[row]), "holds no sample", f"terminal[{key}]", (start, end), remedy="widen it")
    return mask


def _from_table(
    data: pd.DataFrame, by: Sequence[str], axes: tuple[str, str], given: Mapping[str, str | float | None]
) -> _Wide:
    by, (time, concentration) = (by,) if isinstance(by, str) else tuple(by), axes
    wanted = [*by, time, concentration, *(v for v in given.values() if isinstance(v, str))]
    for name in wanted:
        remedy = f"name one of {', '.join(map(str, data.columns))}"
        demand(name in data.columns, "is not a column of the table", "data", name, remedy=remedy)
    demand(len(data) > 0, "has no rows", "data", 0, remedy="give at least one sample")
    numbers = {name: _numeric(data, name) for name in wanted[len(by) :]}
    labels = list(zip(*(data[name].tolist() for name in by), strict=True))
    keys = tuple(dict.fromkeys(labels))
    rows = {key: k for k, key in enumerate(keys)}
    group = np.asarray([rows[label] for label in labels])
    demand(not np.any(np.isnan(numbers[time])), "has missing times", time, None, remedy="drop the rows without a time")
    order = np.lexsort((numbers[time], group))
    at, conc = _widened(group[order], numbers[time][order], numbers[concentration][order], len(keys))
    constants = {n: _constant(v, numbers, group, keys) for n, v in given.items()}
    _refuse_samples(at, conc, keys)
    return _Wide(keys, by, at, conc, constants)


def _numeric(data: pd.DataFrame, name: str) -> F64:
    try:
        return np.array(data[name].to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        remedy = "write 0 for a value below the limit and give lloq, leave a missing value empty"
        raise InputError("holds something that is not a number", field=name, remedy=remedy) from None


def _widened(group: Any, time: F64, conc: F64, n: int) -> tuple[F64, F64]:
    """Long to wide: rows of one profile side by side, NaN behind the shorter ones."""
    counts = np.bincount(group, minlength=n)
    first = np.cumsum(counts) - counts
    place = np.arange(len(group)) - first[group]
    wide = np.full((2, n, int(np.max(counts))), np.nan)
    wide[0, group, place], wide[1, group, place] = time, conc
    return wide[0], wide[1]


def _refuse_samples(at: F64, conc: F64, keys: Sequence[tuple[Any, ...]]) -> None:
    """What `samples` would refuse by row, here by the name of the profile."""
    apart = "keep or average one of them; name what tells the profiles apart in `by`"
    faults = (
        (np.diff(at, axis=1) == 0, "has two samples at one time", apart),
        ((at < 0) | np.isinf(at), "has a sample before the dose", "leave it out, or give a pre-dose sample time 0"),
        ((conc < 0) | np.isinf(conc), "has a concentration that is negative or not finite", "0 where below the limit"),
    )
    for wrong, problem, remedy in faults:
        rows = np.any(wrong, axis=1)
        if np.any(rows):
            key = keys[int(np.argmax(rows))]
            raise InputError(problem, field=f"profile {', '.join(map(str, key))}", remedy=remedy)


def _constant(
    value: str | float | None, numbers: Mapping[str, F64], group: Any, keys: Sequence[tuple[Any, ...]]
) -> F64:
    """One number per profile from a number or a column."""
    if not isinstance(value, str):
        return np.full(len(keys), np.nan if value is None else float(value))
    out = np.full(len(keys), np.nan)
    out[group[::-1]] = numbers[value][::-1]
    same = (numbers[value] == out[group]) | (np.isnan(numbers[value]) & np.isnan(out[group]))
    if not np.all(same):
        key = keys[group[int(np.argmin(same))]]
        raise InputError("must be constant within a profile", field=f"{value}, profile {', '.join(map(str, key))}",
                         remedy="give one value for all rows of the profile")  # fmt: skip
    return out


def _from_records(
    data: Records, route: Route, steady: bool, given: Mapping[str, str | float | None]
) -> tuple[_Wide, Route, bool]:
    """Profiles of records with one dose per subject; what the dose says is not to be said again."""
    for name, value in given.items():
        demand(not isinstance(value, str), "must be a number with records", name, value, remedy="give a number")
    demand(given["dose"] is None, "is in the records", "dose", given["dose"], remedy="leave it out")
    demand(not steady, "is in the records (SS)", "steady", steady, remedy="leave it out")
    one = len(np.unique(data.output)) <= 1
    demand(one, "holds several outputs", "DVID", None, remedy="pass a table of the samples of one of them")
    data.require_doses("analysed")
    data.require_measured("analysed")
    doses, n = data.doses, len(data)
    several = np.diff(doses.offsets) != 1
    if np.any(several):
        subject = data.ids[int(np.argmax(several))]
        raise InputError("needs one dose per subject", field=f"subject {subject}",
                         remedy="pass a table of samples with the time since the dose of the interval")  # fmt: skip
    held = bool(np.any(doses.steady))
    demand(held == bool(np.all(doses.steady)), "must be alike in all subjects", "SS", None, remedy="analyse them apart")
    infused = bool(np.any(doses.duration > 0))
    at = data.time - doses.time[data.subject]
    order = np.lexsort((at, data.subject))
    time, conc = _widened(data.subject[order], at[order], data.dv[order], n)
    interval = np.where(doses.interval > 0, doses.interval, np.nan)
    tau = interval if given["tau"] is None else np.full(n, float(cast(float, given["tau"])))
    lloq = np.full(n, float(cast(float, given["lloq"])))
    constants = {"dose": doses.amount, "duration": doses.duration, "tau": tau, "lloq": lloq}
    keys = tuple((name,) for name in data.ids)
    _refuse_samples(time, conc, keys)
    return _Wide(keys, ("ID",), time, conc, constants), "infusion" if infused else route, held
