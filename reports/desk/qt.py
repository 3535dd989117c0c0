"""`vtrial qt`: ECG intervals with concentrations in; ICH E14's decision, a page and a file of numbers out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, say

if TYPE_CHECKING:
    from trials.analysis.qt_risk import Herg
    from trials.analysis.qt_study import Asked, Dose, Drug, QtStudy

__all__ = ["Order", "qt"]

NUMBERS, PAGE = "qt.json", "qt.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked: the file, names in it, where answers go; texts NAME=VALUE of columns, concentrations, hERG."""

    file: Path
    out: Path
    placebo: str
    positive: str | None
    columns: tuple[str, ...]
    at: tuple[str, ...]
    herg: tuple[str, ...]
    unbound: tuple[str, ...]
    df: str
    flat: bool
    draws: int
    seed: int
    machine: bool


def qt(order: Order) -> int:
    """Read, analyse, write; 3 where a drug has no model. Errors: InputError with file, line and column."""
    from pkpd.ground.store import write_atomic
    from reports.page import render
    from reports.qt_page import page
    from trials.analysis import qt_data, qt_study

    data = qt_data.read(order.file, columns=_pairs(order.columns, "--column"), placebo=order.placebo)
    study = qt_study.studied(data, _asked(order))
    told = _told(study)
    order.out.mkdir(parents=True, exist_ok=True)
    write_atomic(order.out / NUMBERS, (json.dumps(told, indent=1, allow_nan=False) + "\n").encode())
    write_atomic(order.out / PAGE, render(page(study, order.file.name)).encode())
    if order.machine:
        say.machine({"event": "done", "out": str(order.out), **told})
    else:
        say.result(*_lines(study))
        say.remark(f"numbers: {order.out / NUMBERS}", f"page: {order.out / PAGE}")
    return guard.FAILED if study.failed else guard.OK


def _asked(order: Order) -> Asked:
    from trials.analysis.qt_bayes import Priors
    from trials.analysis.qt_study import Asked

    return Asked(
        df=order.df, at=_numbers(order.at, "--at"), positive=order.positive, draws=order.draws, seed=order.seed,
        priors=Priors.flat() if order.flat else Priors(), unbound=_numbers(order.unbound, "--unbound"),
        herg={name: _herg(text) for name, text in _pairs(order.herg, "--herg").items()},
    )  # fmt: skip


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    from pkpd.ground.errors import InputError

    made = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (name and found and value):
            raise InputError("is not NAME=VALUE", field=option, value=text)
        made[name] = value
    return made


def _numbers(texts: Sequence[str], option: str) -> dict[str, float]:
    return {name: _number(value, option) for name, value in _pairs(texts, option).items()}


def _number(text: str, option: str) -> float:
    from pkpd.ground.errors import InputError

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0.0):
        raise InputError("is not a positive number", field=option, value=text)
    return value


def _herg(text: str) -> Herg:
    from pkpd.ground.errors import InputError
    from trials.analysis.qt_risk import Herg

    values = [_number(part, "--herg") for part in text.split(",")]
    if len(values) not in (1, 3):
        raise InputError("is not IC50 or IC50,LOWER,UPPER", field="--herg", value=text)
    return Herg(ic50=values[0]) if len(values) == 1 else Herg(ic50=values[0], lower=values[1], upper=values[2])


def _told(study: QtStudy) -> dict[str, Any]:
    """Plain JSON; null for what is not known."""
    return {
        "subjects": len(study.data.subjects), "df": study.asked.df, "positive": study.asked.positive,
        "drugs": {drug.name: _drug(drug) for drug in study.drugs},
        "placebo": {"subjects": study.placebo.subjects, "outliers": dict(study.placebo.counts)},
        "qtc_on_rr_ms_per_s": {" ".join(key): _contrast(slope) for key, slope in study.rate.items()},
    }  # fmt: skip


def _drug(drug: Drug) -> dict[str, Any]:
    if drug.status:
        return {"status": drug.status.name}
    return {
        "status": "OK", "lines": drug.lines, "subjects": drug.people, "slope": _contrast(drug.slope),
        "treatment": _contrast(drug.treatment), "singular": bool(drug.fit.fit.singular[0]),
        "quadratic_p": _plain(drug.quadratic_p), "assay_sensitive": drug.sensitive,
        "restricted_log_likelihood": float(drug.fit.fit.log_likelihood[0]),
        "effective_draws": None if drug.posterior is None else round(drug.posterior.effective, 1),
        "excluded": drug.highest.excluded, "doses": {dose.treatment: _dose(dose) for dose in drug.doses},
        "margins": {name: {"estimate": m.estimate, "lower": m.lower, "upper": m.upper, "whole": m.whole}
                    for name, m in drug.margins.items()},
    }  # fmt: skip


def _dose(dose: Dose) -> dict[str, Any]:
    h, b = dose.hysteresis, dose.bayes
    return {
        "subjects": dose.people, "cmax": _plain(dose.cmax), "cmax_90": [_plain(x) for x in dose.cmax_interval],
        "at": _plain(dose.conc), "ddqtcf": _contrast(dose.added), "excluded": dose.excluded,
        "bayes": None if b is None else {"mean": b.mean, "lower": b.lower, "upper": b.upper, "below_10_ms": b.below},
        "hysteresis": {
            "delay_h": _plain(h.delay), "delay_90": [_plain(x) for x in h.delay_interval], "loop": _plain(h.area),
            "loop_90": [_plain(x) for x in h.area_interval], "suggested": h.suggested,
        },
        "largest_heart_rate_change": None if dose.heart_rate is None
        else _plain(float(dose.heart_rate.mean[dose.heart_rate.worst])),
        "outliers": dict(dose.outliers.counts),
    }  # fmt: skip


def _contrast(found: Any) -> dict[str, Any]:
    low, high = found.interval(0.90)
    names = {"estimate": found.estimate, "se": found.se, "df": found.df, "lower_90": low, "upper_90": high}
    return {name: _plain(float(value[0])) for name, value in names.items()}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _lines(study: QtStudy) -> list[str]:
    from reports.qt_page import rows, sentences

    heads = ("treatment", "subjects", "Cmax", "at", "ddQTcF", "Bayesian", "P(< 10 ms)", "excluded")
    failed = [f"{drug.name}: no model, {drug.status.advice}." for drug in study.failed]
    return [*failed, *sentences(study), "", *say.table([heads, *rows(study)], indent=2)]
