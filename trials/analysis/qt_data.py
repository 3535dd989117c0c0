"""ECG intervals with drug concentrations, as a file gives them: one line a subject, treatment and time."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["COLUMNS", "Ecgs", "bazett", "ecgs", "fridericia", "read"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

COLUMNS = {
    "subject": "subject", "treatment": "treatment", "time": "time_h", "conc": "conc", "qt": "qt_ms", "rr": "rr_ms",
    "hr": "hr_bpm", "qtcf": "qtcf_ms", "baseline": "qtcf_base_ms", "period": "period", "drug": "drug",
}  # fmt: skip
"""What a line may hold -> the usual name of its column. Needed: subject, treatment, time, conc, and QTcF or QT with RR
or heart rate."""
NEEDED = ("subject", "treatment", "time", "conc")
TEXTS = frozenset({"subject", "treatment", "period", "drug"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecgs:
    """Lines (n,) by subject, treatment, time: codes into the sorted names, times [h] from the dose (<= 0: before it).

    conc: as given, 0 on placebo; qtcf, baseline, change [ms]; rr [ms]: NaN where the file has none. baseline: the
    column of that name, else the mean of the lines before the dose of the same period (without periods: treatment).
    drug: code of each treatment's drug, 0 for placebo. before (n,): lines before the dose.
    """

    subjects: tuple[str, ...]
    treatments: tuple[str, ...]
    drugs: tuple[str, ...]
    subject: Integers
    treatment: Integers
    drug: Integers
    time: Floats
    conc: Floats
    qtcf: Floats
    baseline: Floats
    rr: Floats
    rr_baseline: Floats
    qt: Floats

    @property
    def change(self) -> Floats:
        """QTcF less baseline, ms."""
        return self.qtcf - self.baseline

    @property
    def before(self) -> NDArray[np.bool_]:
        """Lines before the dose."""
        return self.time <= 0.0

    @property
    def hr_change(self) -> Floats:
        """Heart rate less its baseline, beats a minute."""
        return 60_000.0 / self.rr - 60_000.0 / self.rr_baseline


def fridericia(qt: ArrayLike, rr: ArrayLike) -> Floats:
    """QTcF = QT / (RR / 1000)^(1/3), both in ms (Fridericia, Acta Med Scand 1920;53:469).

    >>> round(float(fridericia(400.0, 512.0)), 9)
    500.0
    """
    made: Floats = np.asarray(qt, np.float64) / np.cbrt(np.asarray(rr, np.float64) / 1000.0)
    return made


def bazett(qt: ArrayLike, rr: ArrayLike) -> Floats:
    """QTcB = QT / (RR / 1000)^(1/2), both in ms (Bazett, Heart 1920;7:353).

    >>> float(bazett(400.0, 640.0))
    500.0
    """
    made: Floats = np.asarray(qt, np.float64) / np.sqrt(np.asarray(rr, np.float64) / 1000.0)
    return made


def read(path: str | Path, *, columns: Mapping[str, str] | None = None, placebo: str = "placebo") -> Ecgs:
    """Read a CSV with a header; `columns` renames some of `COLUMNS`; `placebo`: name of that treatment.

    An empty cell, `NA`, `NaN` or `.` is a missing value; so is nothing else. Errors: InputError with line and column.
    """
    names = {**COLUMNS, **(columns or {})}
    path = Path(path)
    unknown = sorted(set(columns or {}) - set(COLUMNS))
    if unknown:
        raise InputError(f"must be one of {', '.join(COLUMNS)}", field="--column", value=unknown[0])
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _table(csv.DictReader(file, strict=True), names, placebo)
    except InputError as error:
        raise error.within(file=path) from None
    except FileNotFoundError:
        raise InputError("there is no such file", file=path) from None
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise InputError(f"cannot be read as CSV ({error})", file=path) from None


def _table(rows: csv.DictReader[str], names: Mapping[str, str], placebo: str) -> Ecgs:
    header = rows.fieldnames or []
    for key in NEEDED:
        if names[key] not in header:
            raise InputError("the file has no such column", field=names[key], remedy=f"--column {key}=NAME")
    found: dict[str, list[str]] = {key: [] for key, name in names.items() if name in header}
    for row in rows:
        for key, values in found.items():
            values.append((row[names[key]] or "").strip())
    texts = {key: values for key, values in found.items() if key in TEXTS}
    numbers = {key: _numbers(values, names[key]) for key, values in found.items() if key not in TEXTS}
    return ecgs(texts, numbers, placebo=placebo)


def _numbers(values: Sequence[str], name: str) -> Floats:
    made = np.full(len(values), np.nan)
    for k, text in enumerate(values):
        if text in ("", "NA", "NaN", "."):
            continue
        try:
            made[k] = float(text)
        except ValueError:
            made[k] = math.inf
        if math.isinf(made[k]):
            raise InputError("is not a number", field=name, value=text, line=k + 2)
    return made


def ecgs(texts: Mapping[str, Sequence[str]], numbers: Mapping[str, ArrayLike], *, placebo: str = "placebo") -> Ecgs:
    """The lines of columns named as in `COLUMNS`.

    Errors: InputError where QTcF cannot be had, no line is of placebo, a value is impossible, or a name is empty.
    """
    values = {key: np.asarray(column, np.float64) for key, column in numbers.items()}
    n = len(texts["subject"])
    for key in ("subject", "treatment"):
        if "" in texts[key]:
            raise InputError("is empty", field=key, line=list(texts[key]).index("") + 2)
    qtcf, qt, rr = _corrected(values, n)
    subjects, subject = np.unique(np.array(texts["subject"], dtype=object).astype(str), return_inverse=True)
    named, treatment = np.unique(np.array(texts["treatment"], dtype=object).astype(str), return_inverse=True)
    if placebo not in named:
        raise InputError(f"no line is of {placebo}", field="treatment", remedy="--placebo NAME")
    drugs, of_treatment = _drugs([str(x) for x in named], texts, treatment, placebo)
    period = np.unique(np.array(texts["period"]), return_inverse=True)[1] if "period" in texts else treatment
    conc = np.where(treatment == list(named).index(placebo), 0.0, values["conc"])
    _plausible(values["time"], conc, qtcf)
    before, groups = values["time"] <= 0.0, subject * (period.max(initial=0) + 1) + period
    baseline = values.get("baseline", _mean_before(qtcf, before, groups))
    order = np.lexsort((values["time"], period, treatment, subject))
    arrays = {"subject": subject, "treatment": treatment, "drug": of_treatment[treatment], "time": values["time"],
              "conc": conc, "qtcf": qtcf, "baseline": baseline, "rr": rr, "qt": qt,
              "rr_baseline": _mean_before(rr, before, groups)}  # fmt: skip
    return Ecgs(
        subjects=tuple(map(str, subjects)), treatments=tuple(map(str, named)), drugs=drugs,
        **{name: np.ascontiguousarray(array[order]) for name, array in arrays.items()},
    )  # fmt: skip


def _corrected(values: Mapping[str, Floats], n: int) -> tuple[Floats, Floats, Floats]:
    """QTcF, QT, RR; what the file has not is computed, or NaN."""
    nothing = np.full(n, np.nan)
    rr = values["rr"] if "rr" in values else 60_000.0 / values["hr"] if "hr" in values else nothing
    qt = values.get("qt", nothing)
    if "qtcf" not in values and ("qt" not in values or rr is nothing):
        remedy = "give qtcf_ms, or qt_ms with rr_ms or hr_bpm"
        raise InputError("QTcF is not there and cannot be computed", field="qtcf_ms", remedy=remedy)
    return values.get("qtcf", fridericia(qt, rr)), qt, rr


def _drugs(
    named: Sequence[str], texts: Mapping[str, Sequence[str]], treatment: Integers, placebo: str
) -> tuple[tuple[str, ...], Integers]:
    """Names of drugs, placebo first, and the code of each treatment's: its `drug`, by default the treatment itself."""
    of = {}
    for code, name in enumerate(named):
        given = {texts["drug"][k] for k in np.flatnonzero(treatment == code).tolist()} if "drug" in texts else {name}
        if len(given) != 1 and name != placebo:
            raise InputError(f"{name} is of more than one drug", field="drug", value=", ".join(sorted(given)))
        of[name] = placebo if name == placebo else given.pop() or name
    drugs = (placebo, *sorted({drug for name, drug in of.items() if name != placebo}))
    return drugs, np.array([drugs.index(of[name]) for name in named], np.int64)


def _plausible(time: Floats, conc: Floats, qtcf: Floats) -> None:
    checks = (("time_h", ~np.isfinite(time), "is missing"), ("conc", conc < 0.0, "must not be negative"),
              ("qtcf_ms", (qtcf < 200.0) | (qtcf > 800.0), "must be in ms (200 to 800)"))  # fmt: skip
    for name, wrong, problem in checks:
        if wrong.any():
            raise InputError(problem, field=name, line=int(np.flatnonzero(wrong)[0]) + 2)


def _mean_before(value: Floats, before: NDArray[np.bool_], groups: Integers) -> Floats:
    """Mean of the lines before the dose of each group, at every line of the group; NaN where it has none."""
    used = before & np.isfinite(value)
    size = int(groups.max(initial=0)) + 1
    total = np.bincount(groups[used], weights=value[used], minlength=size)
    count = np.bincount(groups[used], minlength=size)
    made: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)[groups]
    return made
