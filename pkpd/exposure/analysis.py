"""`noncompartmental`: the analysis of n subjects at once. Every value is a number, or NaN with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.exposure.areas import Segments, Tail, areas, segments, tail_areas, value_at
from pkpd.exposure.profiles import F64, Profiles, prepared, samples
from pkpd.exposure.rules import NcaReason, NcaRules, Route, demand
from pkpd.exposure.terminal import Terminal, terminal

__all__ = ["Exposure", "accumulation", "noncompartmental"]

Codes = NDArray[np.int8]
Because = tuple[Any, Any]
"""Where (n,) a reason applies, and the reason: one, or one per subject."""
_ROUTES: Final = get_args(Route)


@dataclass(frozen=True, slots=True)
class Exposure:
    """Results of n subjects: values and reasons by parameter (n,), the profiles used, and every rule in words.

    `reasons[name]` is an `NcaReason`, OK where `values[name]` is a number. Parameters and units: docs/exposure.md.
    """

    values: dict[str, F64]
    reasons: dict[str, Codes]
    profiles: Profiles
    rules: dict[str, str]

    def __getitem__(self, name: str) -> F64:
        return self.values[name]

    def why(self, subject: int) -> dict[str, NcaReason]:
        """The parameters of one subject that are NaN, each with its reason."""
        found = {name: NcaReason(int(codes[subject])) for name, codes in self.reasons.items()}
        return {name: reason for name, reason in found.items() if reason is not NcaReason.OK}


def noncompartmental(
    time: ArrayLike,
    concentration: ArrayLike,
    dose: ArrayLike | None = None,
    *,
    route: Route = "extravascular",
    duration: ArrayLike = 0.0,
    tau: ArrayLike | None = None,
    steady: bool = False,
    lloq: ArrayLike = 0.0,
    windows: Mapping[str, tuple[float, float]] | None = None,
    points: ArrayLike | None = None,
    rules: NcaRules | None = None,
) -> Exposure:
    """Non-compartmental analysis of profiles after one dose at time 0 (or of one dosing interval at steady state).

    time (T,) or (n, T), rising, from the dose on, NaN where a row is shorter; concentration (n, T) or (T,), NaN where
    missing, 0 or below `lloq` (scalar or (n,)) where below the limit of quantification. dose, duration of the infusion,
    tau: scalar or (n,). windows {name: (start, end)} give partial areas `auc[name]`; points (n, T): where true, the
    points of the terminal fit (a row without any is fitted by the rules). Units are the caller's: dose per
    concentration is a volume.
    Errors: InputError names argument and row. Source: Gabrielsson and Weiner, Pharmacokinetic and Pharmacodynamic Data
    Analysis, 5th ed. 2016; formulas in docs/exposure.md.

    >>> found = noncompartmental([0, 1, 2, 4, 8], [0, 10, 8, 4, 1.0], dose=100)
    >>> round(float(found["auc_last"][0]), 3), round(float(found["half_life"][0]), 3)
    (34.161, 2.0)
    >>> noncompartmental([0, 1, 2], [0, 5, 4.0])["cl"], noncompartmental([0, 1, 2], [0, 5, 4.0]).why(0)["cl"].name
    (array([nan]), 'NO_DOSE')
    """
    chosen = rules or NcaRules()
    demand(route in _ROUTES, "is not a route", "route", route, remedy=f"one of {', '.join(_ROUTES)}")
    raw = samples(time, concentration, lloq=lloq, points=points)
    n = len(raw.conc)
    demand(
        "half" not in (chosen.first, chosen.middle) or bool(np.all(raw.lloq > 0)),
        "must be > 0 where a rule takes half of it", "lloq", lloq, remedy="give the limit of quantification",
    )  # fmt: skip
    doses, lengths, tau_h = _positive(dose, n, "dose"), _duration(duration, n, route), _positive(tau, n, "tau")
    demand(not steady or not np.any(np.isnan(tau_h)), "is needed at steady state", "tau", tau, remedy="give tau")
    p = prepared(raw, chosen, route, tau_h if steady else None)
    book = _Book(p, chosen, route, dose=doses, duration=lengths, tau=tau_h, steady=steady)
    with np.errstate(all="ignore"):  # `put` gives a reason to whatever is no number
        for write in (_peak, _last, _slope, _infinite, _interval, _disposition):
            write(book)
        _windows(book, windows or {})
    return Exposure(book.values, book.reasons, p, _said(chosen, route, steady))


def accumulation(first: Exposure, steady: Exposure) -> dict[str, F64]:
    """Accumulation ratios of the same subjects, steady state over first dose: `auc_tau` and `cmax` (n,), no unit.

    Both analyses need tau. The ratio of a missing value is NaN (its reason is in the analysis it comes from).

    >>> t, c = [0, 2, 4, 8, 12], [0, 8, 5, 2, 1.0]
    >>> one = noncompartmental(t, c, tau=12); more = noncompartmental(t, [1, 9, 6, 3, 1.0], tau=12, steady=True)
    >>> {name: round(float(value[0]), 3) for name, value in accumulation(one, more).items()}
    {'auc_tau': 1.246, 'cmax': 1.125}
    """
    for name, found in (("first", first), ("steady", steady)):
        known = ~np.all(found.reasons["auc_tau"] == NcaReason.NO_TAU)
        demand(known, "was analysed without tau", name, None, remedy="give tau to the analysis")
    return {name: steady[name] / first[name] for name in ("auc_tau", "cmax")}


def _positive(value: ArrayLike | None, n: int, field: str) -> F64:
    """One number per subject, > 0 or NaN (unknown)."""
    array = np.array(np.nan if value is None else value, np.float64)
    demand(array.shape in ((), (n,)), "must be one number or one per subject", field, array.shape, remedy=f"({n},)")
    wrong = ~(np.isnan(array) | (np.isfinite(array) & (array > 0)))
    demand(not np.any(wrong), "must be finite and > 0", field, value, remedy="NaN where it is not known")
    return np.array(np.broadcast_to(array, (n,)))


def _duration(value: ArrayLike, n: int, route: Route) -> F64:
    array = np.array(np.broadcast_to(np.array(value, np.float64), (n,)))
    if route == "infusion":
        good = bool(np.all(np.isfinite(array) & (array > 0)))
        demand(good, "must be finite and > 0 for an infusion", "duration", value, remedy="give its length")
    else:
        demand(bool(np.all(array == 0)), f"is for infusions, the route is {route}", "duration", value,
                      remedy='say route="infusion"')  # fmt: skip
    return array


class _Book:
    """The parameters as they are worked out: value and reason of each, and what the later ones need."""

    def __init__(
        self, p: Profiles, rules: NcaRules, route: Route, *, dose: F64, duration: F64, tau: F64, steady: bool
    ) -> None:
        self.p, self.rules, self.route, self.steady = p, rules, route, steady
        self.dose, self.duration, self.tau = dose, duration, tau
        self.values: dict[str, F64] = {}
        self.reasons: dict[str, Codes] = {}
        self.rows = np.arange(len(dose))
        self.empty = ~np.any(p.measured, axis=1)
        zero = np.zeros(len(dose))
        self.tmax = self.tlast = self.clast = zero
        self.tail: Tail = (zero, zero, zero)
        self.fit: Terminal
        self.curve: Segments

    def put(self, name: str, value: Any, *reasons: Because) -> None:
        """Write a parameter; the first reason that applies makes it NaN, and a value that is no number says so."""
        number = np.array(np.broadcast_to(np.asarray(value, np.float64), self.dose.shape))
        code = np.where(np.isfinite(number), NcaReason.OK, NcaReason.OUT_OF_RANGE)
        because: tuple[Because, ...] = ((self.empty, NcaReason.NO_MEASURABLE), *reasons)
        for where, reason in reversed(because):
            code = np.where(where, reason, code)
        self.values[name] = np.where(code == NcaReason.OK, number, np.nan)
        self.reasons[name] = code.astype(np.int8)

    def after(self, name: str) -> Because:
        """Reason handed on from another parameter: applies where that one is NaN."""
        return self.reasons[name] != NcaReason.OK, self.reasons[name]


def _peak(b: _Book) -> None:
    """Cmax and tmax (the first) of measured values; of [0, tau] at steady state."""
    inside = b.p.measured & (b.p.time <= b.tau[:, None]) if b.steady else b.p.measured
    shown = np.where(inside, b.p.conc, -np.inf)
    column = np.argmax(shown, axis=1)
    nothing = (~np.any(inside, axis=1), NcaReason.NO_MEASURABLE)
    b.put("cmax", shown[b.rows, column], nothing)
    b.put("tmax", b.p.time[b.rows, column], nothing)
    b.put("cmax_dose", b.values["cmax"] / b.dose, (np.isnan(b.dose), NcaReason.NO_DOSE), nothing)
    b.tmax = np.where(np.isnan(b.values["tmax"]), 0.0, b.values["tmax"])
    b.curve = segments(b.p, b.rules.method, b.tmax)
    not_bolus = (np.full(b.empty.shape, b.route != "bolus"), NcaReason.NOT_THIS_ROUTE)
    start = b.p.conc[:, 0]
    b.put("c0", start, not_bolus)
    bolus = (np.full(b.empty.shape, b.route == "bolus"), NcaReason.NOT_THIS_ROUTE)
    b.put("predose_percent", 100.0 * np.where(b.p.zero_rule == 1, start, 0.0) / b.values["cmax"], bolus, nothing)


def _last(b: _Book) -> None:
    """The last measurable value, areas up to it, and the lag before the first."""
    last = b.p.measured.shape[1] - 1 - np.argmax(b.p.measured[:, ::-1], axis=1)
    b.tlast, b.clast = b.p.time[b.rows, last], b.p.conc[b.rows, last]
    b.put("tlast", b.tlast)
    b.put("clast", b.clast)
    auc, aumc = areas(b.curve, np.zeros(len(b.rows)), b.tlast)
    b.put("auc_last", auc)
    b.put("aumc_last", aumc)
    gap = np.where(np.isnan(b.p.below_after), 0.0, b.p.below_after - b.tlast)
    b.put("auc_all", auc + 0.5 * b.clast * gap)
    b.put("auc_last_dose", auc / b.dose, (np.isnan(b.dose), NcaReason.NO_DOSE))
    b.put("mrt_last", aumc / auc - b.duration / 2.0, (auc == 0.0, NcaReason.ZERO_DIVISOR))
    first = np.argmax(b.p.conc > 0.0, axis=1)
    before = np.where(first > 0, b.p.time[b.rows, np.maximum(first - 1, 0)], 0.0)
    by_vein = (np.full(b.empty.shape, b.route != "extravascular"), NcaReason.NOT_THIS_ROUTE)
    b.put("tlag", before, by_vein)


def _slope(b: _Book) -> None:
    """The terminal fit and what it predicts at tlast."""
    from pkpd.kernels.elementary import exp_array

    fit = terminal(b.p, b.rules, route=b.route, tmax=b.tmax, duration=b.duration)
    b.fit, missing = fit, (fit.reason != NcaReason.OK, fit.reason)
    for name in ("lambda_z", "half_life"):
        b.put(name, getattr(fit, name), missing)
    for name, value in (("points", fit.points), ("lower", fit.lower), ("upper", fit.upper)):
        b.put(f"lambda_z_{name}", value, (np.isnan(value), fit.reason))
    for name in ("r2", "adjusted_r2", "span_ratio"):
        b.put(name, getattr(fit, name), (np.isnan(getattr(fit, name)), fit.reason))
    known = np.where(fit.reason == NcaReason.OK, fit.intercept - fit.lambda_z * b.tlast, 0.0)
    b.put("clast_pred", exp_array(known), missing)
    end = np.maximum(b.p.count - 1, 0)
    b.tail = (b.p.time[b.rows, end], b.p.conc[b.rows, end], fit.lambda_z)


def _infinite(b: _Book) -> None:
    """Areas to infinity from the observed and from the predicted last value; a single dose only."""
    no_slope = (b.fit.reason != NcaReason.OK, NcaReason.NO_TERMINAL_SLOPE)
    many = (np.full(b.empty.shape, b.steady), NcaReason.STEADY_STATE)
    for suffix, value in (("", b.clast), ("_pred", b.values["clast_pred"])):
        auc, aumc = tail_areas((b.tlast, value, b.fit.lambda_z), b.tlast)
        whole, moment = b.values["auc_last"] + auc, b.values["aumc_last"] + aumc
        percent = 100.0 * auc / whole
        limit = b.rules.max_extrapolated
        far = (percent > (np.inf if limit is None else limit), NcaReason.LARGE_EXTRAPOLATION)
        b.put(f"auc_inf{suffix}", whole, no_slope, many, far)
        b.put(f"aumc_inf{suffix}", moment, no_slope, many, far)
        b.put(f"extrapolated{suffix}", percent, no_slope, many)
    b.put("auc_inf_dose", b.values["auc_inf"] / b.dose, (np.isnan(b.dose), NcaReason.NO_DOSE), b.after("auc_inf"))
    back = np.where(b.p.zero_rule > 1, _first_segment(b), 0.0)
    not_bolus = (np.full(b.empty.shape, b.route != "bolus"), NcaReason.NOT_THIS_ROUTE)
    b.put("back_extrapolated", 100.0 * back / b.values["auc_inf"], not_bolus, b.after("auc_inf"))


def _first_segment(b: _Book) -> F64:
    second = b.p.time[:, 1] if b.p.time.shape[1] > 1 else np.zeros(len(b.rows))
    end = np.where(np.isnan(second), 0.0, second)
    return areas(b.curve, np.zeros(len(end)), end)[0]


def _partial(b: _Book, start: F64, end: F64) -> tuple[F64, F64]:
    """AUC and AUMC over [start, end]: by interpolation up to the last point, by lambda_z beyond it."""
    inside = areas(b.curve, start, end)
    beyond = tail_areas(b.tail, start, end)
    return inside[0] + beyond[0], inside[1] + beyond[1]


def _interval(b: _Book) -> None:
    """The dosing interval [0, tau]: areas, average, extremes, trough, fluctuation."""
    no_tau = (np.isnan(b.tau), NcaReason.NO_TAU)
    tau = np.where(np.isnan(b.tau), 0.0, b.tau)
    auc, aumc = _partial(b, np.zeros(len(tau)), tau)
    short = (np.isnan(auc), NcaReason.NO_TERMINAL_SLOPE)
    b.put("auc_tau", auc, no_tau, short)
    b.put("aumc_tau", aumc, no_tau, short)
    b.put("auc_tau_dose", auc / b.dose, no_tau, (np.isnan(b.dose), NcaReason.NO_DOSE), short)
    single = (np.full(b.empty.shape, not b.steady), NcaReason.NOT_STEADY_STATE)
    trough = value_at(b.curve, b.tail, tau)
    sampled = np.concatenate([b.p.zero_rule[:, None] < 2, np.ones(b.p.time[:, 1:].shape, np.bool_)], axis=1)
    shown = np.where((b.p.time <= tau[:, None]) & sampled, b.p.conc, np.inf)
    column = np.argmin(shown, axis=1)
    low, average = shown[b.rows, column], auc / np.where(tau > 0, tau, 1.0)
    b.put("cavg", average, no_tau, single, short)
    unseen = (np.isinf(low), NcaReason.NO_MEASURABLE)
    b.put("cmin", low, no_tau, single, unseen)
    b.put("tmin", b.p.time[b.rows, column], no_tau, single, unseen)
    b.put("ctrough", trough, no_tau, single, (np.isnan(trough), NcaReason.NO_TERMINAL_SLOPE))
    swing = b.values["cmax"] - b.values["cmin"]
    b.put(
        "fluctuation",
        100.0 * swing / b.values["cavg"],
        no_tau,
        single,
        b.after("cavg"),
        b.after("cmax"),
        b.after("cmin"),
    )
    zero = (b.values["cmin"] == 0.0, NcaReason.ZERO_DIVISOR)
    b.put("swing", 100.0 * swing / np.where(low > 0, low, 1.0), no_tau, single, b.after("cmax"), b.after("cmin"), zero)
    _accumulation_index(b, tau, no_tau)


def _accumulation_index(b: _Book, tau: F64, no_tau: Because) -> None:
    from pkpd.kernels.elementary import exp_array

    no_slope = (b.fit.reason != NcaReason.OK, NcaReason.NO_TERMINAL_SLOPE)
    rate = np.where(b.fit.reason == NcaReason.OK, b.fit.lambda_z, 1.0) * np.where(tau > 0, tau, 1.0)
    b.put("accumulation_index", 1.0 / (1.0 - exp_array(-rate)), no_tau, no_slope)


def _disposition(b: _Book) -> None:
    """Clearance, volumes and mean residence time; at steady state from the dosing interval."""
    no_dose = (np.isnan(b.dose), NcaReason.NO_DOSE)
    by_mouth = (np.full(b.empty.shape, b.route == "extravascular"), NcaReason.NOT_THIS_ROUTE)
    suffixes = ("",) if b.steady else ("", "_pred")
    for suffix in suffixes:
        name = "auc_tau" if b.steady else f"auc_inf{suffix}"
        area, no_area = b.values[name], b.after(name)
        zero = (area == 0.0, NcaReason.ZERO_DIVISOR)
        clearance = b.dose / np.where(area == 0.0, 1.0, area)
        b.put(f"cl{suffix}", clearance, no_dose, no_area, zero)
        b.put(f"vz{suffix}", clearance / b.fit.lambda_z, no_dose, no_area, zero, _slopeless(b))
        mrt, missing = _residence(b, area, suffix)
        b.put(f"mrt{suffix}", mrt, missing, no_area, zero)
        b.put(f"vss{suffix}", clearance * mrt, by_mouth, no_dose, missing, no_area, zero)


def _slopeless(b: _Book) -> Because:
    return b.fit.reason != NcaReason.OK, NcaReason.NO_TERMINAL_SLOPE


def _residence(b: _Book, area: F64, suffix: str) -> tuple[F64, Because]:
    """Mean residence time less half the infusion; at steady state (AUMCtau + tau AUC(tau to infinity))/AUCtau."""
    safe = np.where(area == 0.0, 1.0, area)
    if not b.steady:
        return b.values[f"aumc_inf{suffix}"] / safe - b.duration / 2.0, b.after(f"aumc_inf{suffix}")
    tau = np.where(np.isnan(b.tau), 0.0, b.tau)
    beyond = areas(b.curve, tau, np.maximum(b.tlast, tau))[0] + tail_areas(b.tail, tau)[0]
    return (b.values["aumc_tau"] + tau * beyond) / safe - b.duration / 2.0, _slopeless(b)


def _windows(b: _Book, windows: Mapping[str, tuple[float, float]]) -> None:
    for name, (start, end) in windows.items():
        good = bool(np.isfinite(start) and np.isfinite(end) and 0 <= start < end)
        demand(good, "must be (start, end) with 0 <= start < end", f"windows.{name}", (start, end), remedy="(0, 12)")
        limits = (np.full(len(b.rows), float(x)) for x in (start, end))
        auc, _ = _partial(b, *limits)
        b.put(f"auc[{name}]", auc, (np.isnan(auc), NcaReason.NO_TERMINAL_SLOPE))


def _said(rules: NcaRules, route: Route, steady: bool) -> dict[str, str]:
    """The rules in words: those chosen, and those that are always so."""
    zero = {"bolus": "back-extrapolated log-linearly from two falling points, else the first measurable value"}
    other = "lowest value of the interval" if steady else "zero"
    return rules.described() | {
        "route": route,
        "profile": "one dosing interval at steady state" if steady else "one dose",
        "value at time zero where not sampled": zero.get(route, other),
        "tmax": "the first",
        "missing values": "left out",
        "partial areas": "interpolated by the rule of the segment; beyond the last point by lambda_z from it",
        "AUMC of a linear segment": "trapezoid of t C",
        "mean residence time": "AUMC/AUC less half the infusion"
        + (", with the time to be absorbed" if route == "extravascular" else ""),
        "clearance": "dose/AUCtau" if steady else "dose/AUCinf, observed and predicted",
    }
