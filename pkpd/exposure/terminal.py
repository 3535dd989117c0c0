"""The terminal slope: log-linear regression on the last points, chosen by adjusted R2.

Source of the choice (largest adjusted R2; within 1e-4 the fit with more points): the convention of WinNonlin, whose
published results on Theoph and Indometh it reproduces (tests/pkpd/test_exposure.py). Only declining fits compete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.exposure.profiles import F64, Profiles
from pkpd.exposure.rules import NcaReason, NcaRules, Route

__all__ = ["Terminal", "terminal"]

Mask = NDArray[np.bool_]
LN2 = 0.6931471805599453


@dataclass(frozen=True, slots=True)
class Terminal:
    """Per subject (n,): lambda_z [1/time], intercept of ln C at time 0, r2, adjusted_r2, points, lower, upper [time],
    half_life [time], span_ratio [half-lives]; reason (NcaReason, OK where lambda_z is a number)."""

    lambda_z: F64
    intercept: F64
    r2: F64
    adjusted_r2: F64
    points: F64
    lower: F64
    upper: F64
    half_life: F64
    span_ratio: F64
    reason: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _Fits:
    """Fits from column j to the last eligible point, (n, M): points, slope, intercept, r2."""

    points: F64
    slope: F64
    intercept: F64
    r2: F64

    def adjusted(self) -> F64:
        k = self.points
        enough = k > 2
        return np.where(enough, 1.0 - (1.0 - self.r2) * (k - 1.0) / np.where(enough, k - 2.0, 1.0), np.nan)


def terminal(p: Profiles, rules: NcaRules, *, route: Route, tmax: F64, duration: F64) -> Terminal:
    """The terminal fit of every subject; points fixed by the user are taken as they are."""
    by_user = np.any(p.points, axis=1)
    chosen = _eligible(p, rules, route=route, tmax=tmax, duration=duration)
    mask = np.where(by_user[:, None], p.points & p.measured, chosen)
    fits = _suffix_fits(p.time, p.conc, mask)
    column = np.where(by_user, np.argmax(mask, axis=1), _best(fits, mask, rules))
    rows = np.arange(len(mask))
    picked = {name: getattr(fits, name)[rows, column] for name in ("points", "slope", "intercept", "r2")}
    enough = picked["points"] >= rules.min_points
    declines = picked["slope"] < 0
    eligible = np.count_nonzero(mask, axis=1)
    reason = np.where(enough & declines, NcaReason.OK, NcaReason.NO_DECLINE)
    reason = np.where(eligible < rules.min_points, NcaReason.FEW_POINTS, reason)
    reason = np.where(by_user & (reason != NcaReason.OK), NcaReason.FEW_FIXED_POINTS, reason)
    last = np.max(np.where(mask, p.time, -np.inf), axis=1, initial=-np.inf)
    adjusted = fits.adjusted()[rows, column]
    return _limited(picked, reason.astype(np.int8), rules, adjusted=adjusted, lower=p.time[rows, column], upper=last)


def _limited(
    picked: dict[str, F64], reason: NDArray[np.int8], rules: NcaRules, *, adjusted: F64, lower: F64, upper: F64
) -> Terminal:
    """Half-life, span, and the limits of the rules; what is not OK becomes NaN."""
    rate = np.where(reason == NcaReason.OK, -picked["slope"], np.nan)
    half_life = LN2 / rate
    span = (upper - lower) / half_life
    if rules.min_adjusted_r2 is not None:
        reason = np.where((reason == NcaReason.OK) & (adjusted < rules.min_adjusted_r2), NcaReason.POOR_FIT, reason)
    if rules.min_span_ratio is not None:
        reason = np.where((reason == NcaReason.OK) & (span < rules.min_span_ratio), NcaReason.SHORT_SPAN, reason)
    good = reason == NcaReason.OK
    shown = np.isin(reason, (NcaReason.OK, NcaReason.POOR_FIT, NcaReason.SHORT_SPAN))  # the fit itself stays visible

    def only(x: F64, where: Mask) -> F64:
        return np.where(where, x, np.nan)

    return Terminal(
        lambda_z=only(rate, good), intercept=only(picked["intercept"], good), half_life=only(half_life, good),
        r2=only(picked["r2"], shown), adjusted_r2=only(adjusted, shown), points=only(picked["points"], shown),
        lower=only(lower, shown), upper=only(upper, shown), span_ratio=only(span, shown), reason=reason.astype(np.int8),
    )  # fmt: skip


def _eligible(p: Profiles, rules: NcaRules, *, route: Route, tmax: F64, duration: F64) -> Mask:
    """Measured points after tmax (from tmax after a bolus), and not before the end of an infusion."""
    with_cmax = route == "bolus" if rules.include_cmax is None else rules.include_cmax
    late = p.time >= tmax[:, None] if with_cmax else p.time > tmax[:, None]
    return p.measured & late & (p.time >= duration[:, None])


def _suffix_fits(time: F64, conc: F64, mask: Mask) -> _Fits:
    """Regressions on all masked points from column j on, by updating means and centred sums (no cancellation)."""
    from pkpd.kernels.elementary import log_array

    n, m = time.shape
    x, y = np.where(mask, time, 0.0), log_array(np.where(mask, conc, 1.0))
    out = np.full((4, n, m), np.nan)
    k = mx = my = sxx = sxy = syy = np.zeros(n)
    for j in range(m - 1, -1, -1):
        used = mask[:, j]
        k = k + used
        dx, dy = np.where(used, x[:, j] - mx, 0.0), np.where(used, y[:, j] - my, 0.0)
        mx, my = mx + dx / np.maximum(k, 1.0), my + dy / np.maximum(k, 1.0)
        shift = np.where(used, y[:, j] - my, 0.0)
        sxx, sxy, syy = sxx + dx * np.where(used, x[:, j] - mx, 0.0), sxy + dx * shift, syy + dy * shift
        fit = used & (sxx > 0.0)
        slope = np.where(fit, sxy / np.where(fit, sxx, 1.0), np.nan)
        flat = fit & (syy > 0.0)
        r2 = np.where(flat, slope * sxy / np.where(flat, syy, 1.0), np.nan)
        out[:, :, j] = np.where(used, k, 0.0), slope, my - slope * mx, np.minimum(r2, 1.0)
    return _Fits(*out)


def _best(fits: _Fits, mask: Mask, rules: NcaRules) -> NDArray[np.int64]:
    """Column where the chosen fit starts: among declining fits, the longest within `tie` of the best adjusted R2."""
    adjusted = fits.adjusted()
    able = mask & (fits.points >= rules.min_points) & (fits.slope < 0.0) & ~np.isnan(adjusted)
    score = np.where(able, adjusted, -np.inf)
    top = np.max(score, axis=1, initial=-np.inf)
    near = able & (score > np.where(np.isfinite(top), top, 0.0)[:, None] - max(rules.tie, 1e-300))
    near |= able & (score == top[:, None])
    found = np.any(near, axis=1)
    return np.where(found, np.argmax(near, axis=1), 0)
