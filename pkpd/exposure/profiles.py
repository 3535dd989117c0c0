"""Profiles made ready for integration: checked, values below the limit treated, time zero put in, packed to the left.

All arrays have subjects in rows and samples along the last axis; a packed row ends in NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.exposure.rules import NcaRules, Route, demand
from pkpd.ground.errors import InputError

__all__ = ["C0_RULES", "F64", "Profiles", "Samples", "prepared", "samples"]

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

C0_RULES = ("", "observed", "back-extrapolated", "first measurable", "zero", "minimum of the interval")
"""Names of the codes in `Profiles.zero_rule`: where the value at time zero comes from."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Checked samples (n, T): time [after the dose], conc (NaN missing), below the limit, lloq (n,), fixed points."""

    time: F64
    conc: F64
    below: Mask
    lloq: F64
    points: Mask


@dataclass(frozen=True, slots=True)
class Profiles:
    """Packed profiles (n, M).

    time, conc: points of integration; measured: quantified, neither imputed nor put in; points: fixed by the user for
    the terminal fit; count (n,) points in a row; zero_rule (n,) index into `C0_RULES`; below_after (n,) time of the
    first sample below the limit after the last measurable one, NaN if none; n_below, n_missing (n,).
    """

    time: F64
    conc: F64
    measured: Mask
    points: Mask
    count: Ints
    zero_rule: Ints
    below_after: F64
    n_below: Ints
    n_missing: Ints


def samples(time: ArrayLike, concentration: ArrayLike, *, lloq: ArrayLike = 0.0, points: ArrayLike | None) -> Samples:
    """Checked arrays of (n, T); InputError names the row that is wrong."""
    conc = np.atleast_2d(np.array(concentration, np.float64))
    demand(conc.ndim == 2, "must have subjects in rows", "concentration", conc.shape, remedy="give (n, T)")
    demand(conc.size > 0, "holds no sample", "concentration", conc.shape, remedy="give at least one")
    at = _shaped(time, conc.shape, "time")
    fixed = np.zeros(conc.shape, np.bool_) if points is None else _shaped(points, conc.shape, "points") > 0
    limit = _per_row(lloq, len(conc), "lloq")
    _refuse_rows(~(np.isfinite(limit) & (limit >= 0)), "must be finite and >= 0", "lloq", "0 where there is no limit")
    _refuse_rows(np.any(np.isinf(conc) | (conc < 0), axis=1), "must be finite and >= 0", "concentration",
                 "write 0 for a value below the limit, NaN for a missing one")  # fmt: skip
    _check_times(at)
    conc = np.where(np.isnan(at), np.nan, conc)
    return Samples(at, conc, (conc < limit[:, None]) | (conc == 0.0), limit, fixed & ~np.isnan(conc))


def _shaped(value: ArrayLike, shape: tuple[int, ...], field: str) -> F64:
    array = np.array(value, np.float64)
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        remedy = f"give {shape[1]} times for all, or shape {shape}"
        raise InputError("does not fit the concentrations", field=field, value=array.shape, remedy=remedy) from None


def _per_row(value: ArrayLike, n: int, field: str) -> F64:
    array = np.array(value, np.float64)
    demand(array.shape in ((), (n,)), "must be one number or one per subject", field, array.shape, remedy=f"({n},)")
    return np.array(np.broadcast_to(array, (n,)))


def _refuse_rows(bad: Mask, problem: str, field: str, remedy: str) -> None:
    if np.any(bad):
        raise InputError(problem, field=f"{field}[{int(np.argmax(bad))}]", remedy=remedy)


def _check_times(at: F64) -> None:
    low = np.any(np.isinf(at) | (at < 0), axis=1)
    _refuse_rows(low, "must be finite and >= 0, counted from the dose", "time", "give a pre-dose sample time 0")
    order = np.maximum.accumulate(np.where(np.isnan(at), -1.0, at), axis=1)
    before = np.concatenate([np.full((len(at), 1), -1.0), order[:, :-1]], axis=1)
    _refuse_rows(np.any(at == before, axis=1), "has two samples at one time", "time", "keep or average one of them")
    _refuse_rows(np.any(at < before, axis=1), "must rise within a subject", "time", "sort the samples by time")


def prepared(raw: Samples, rules: NcaRules, route: Route, steady_tau: F64 | None) -> Profiles:
    """Apply the rules for values below the limit, pack, and put in the value at time zero where none was sampled."""
    seen = ~np.isnan(raw.conc)
    quantified = seen & ~raw.below
    conc, keep = _treated(raw, quantified, rules)
    if route == "bolus":  # a zero at the moment of a bolus is a sample before the dose
        keep &= ~((raw.time == 0.0) & (conc == 0.0))
    packed = _pack(keep, (raw.time, conc, quantified, raw.points))
    return Profiles(
        *_with_zero(packed, route, steady_tau),
        below_after=_first_below_after(raw, quantified),
        n_below=np.count_nonzero(raw.below, axis=1),
        n_missing=np.count_nonzero(np.isnan(raw.conc) & ~np.isnan(raw.time), axis=1),
    )


def _treated(raw: Samples, quantified: Mask, rules: NcaRules) -> tuple[F64, Mask]:
    """Concentrations with values below the limit replaced, and which samples stay."""
    so_far = np.maximum.accumulate(quantified, axis=1)
    still = np.maximum.accumulate(quantified[:, ::-1], axis=1)[:, ::-1]
    conc, keep = np.array(raw.conc), np.array(quantified)
    where = ((~so_far, rules.first), (so_far & still, rules.middle), (so_far & ~still, rules.last))
    for place, rule in where:
        chosen = place & raw.below
        if rule != "missing":
            keep |= chosen
            conc = np.where(chosen, 0.5 * raw.lloq[:, None] if rule == "half" else 0.0, conc)
    return conc, keep & np.any(quantified, axis=1)[:, None]


def _first_below_after(raw: Samples, quantified: Mask) -> F64:
    still = np.maximum.accumulate(quantified[:, ::-1], axis=1)[:, ::-1]
    after = raw.below & ~still & np.any(quantified, axis=1)[:, None]
    first = raw.time[np.arange(len(after)), np.argmax(after, axis=1)] if after.shape[1] else np.empty(0)
    return np.where(np.any(after, axis=1), first, np.nan)


def _pack(keep: Mask, rest: tuple[F64, F64, Mask, Mask]) -> tuple[F64, F64, Mask, Mask]:
    """Kept samples moved to the left in their order; NaN and False behind them."""
    time, conc, measured, points = rest
    order = np.argsort(~keep, axis=1, kind="stable")
    kept = np.take_along_axis(keep, order, axis=1)
    at, value = (np.where(kept, np.take_along_axis(x, order, axis=1), np.nan) for x in (time, conc))
    flags = [np.take_along_axis(x, order, axis=1) & kept for x in (measured, points)]
    return at, value, flags[0], flags[1]


def _with_zero(
    packed: tuple[F64, F64, Mask, Mask], route: Route, steady_tau: F64 | None
) -> tuple[F64, F64, Mask, Mask, Ints, Ints]:
    time, conc, measured, points = packed
    some = ~np.isnan(time[:, 0])
    sampled = time[:, 0] == 0.0
    value, rule = _at_zero(packed, route, steady_tau)
    lead = some & ~sampled
    keep = np.concatenate([lead[:, None], ~np.isnan(time)], axis=1)
    blank = np.zeros((len(time), 1), np.bool_)
    at = np.concatenate([np.zeros((len(time), 1)), time], axis=1)
    height = np.concatenate([value[:, None], conc], axis=1)
    flags = [np.concatenate([blank, x], axis=1) for x in (measured, points)]
    full = _pack(keep, (at, height, flags[0], flags[1]))
    codes = np.where(some, np.where(sampled, 1, rule), 0)
    return *full, np.count_nonzero(~np.isnan(full[0]), axis=1), codes


def _at_zero(packed: tuple[F64, F64, Mask, Mask], route: Route, steady_tau: F64 | None) -> tuple[F64, Ints]:
    """The value at time zero where none was sampled, and the code of its rule."""
    time, conc, measured, _ = packed
    n = len(time)
    if route == "bolus":
        return _back_extrapolated(time, conc, measured)
    if steady_tau is None:
        return np.zeros(n), np.full(n, 4)
    inside = np.where(time <= steady_tau[:, None], conc, np.inf)
    lowest = np.min(inside, axis=1)
    return np.where(np.isfinite(lowest), lowest, 0.0), np.full(n, 5)


def _back_extrapolated(time: F64, conc: F64, measured: Mask) -> tuple[F64, Ints]:
    """Log-linear through the first two points if both are measurable and fall; else the first measurable value."""
    from pkpd.kernels.elementary import exp_array, log_array

    first = np.argmax(measured, axis=1)
    fallback = conc[np.arange(len(conc)), first]
    if time.shape[1] < 2:
        return fallback, np.full(len(conc), 3)
    usable = measured[:, 0] & measured[:, 1] & (conc[:, 1] < conc[:, 0])
    c1, c2 = (np.where(usable, conc[:, k], 1.0) for k in (0, 1))
    gap = np.where(usable, time[:, 1] - time[:, 0], 1.0)
    start = np.where(usable, time[:, 0], 0.0)
    back = c1 * exp_array(log_array(c1 / c2) * (start / gap))
    return np.where(usable, back, fallback), np.where(usable, 2, 3)
