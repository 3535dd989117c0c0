"""The one-compartment closed form against 80-digit arithmetic and the identities of linear kinetics."""

from __future__ import annotations

from decimal import Decimal, getcontext
from itertools import pairwise

import numpy as np
import pytest

from pkpd.kernels import linear, statistics

getcontext().prec = 80
ADD, RATE, STEADY, RESET = 0, 1, 2, 3
DEPOT, CENTRAL = 0, 1
GAPS = [0.0, 1e-16, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 0.1, 0.5, 0.9, 3.0, 1e2, 1e3]
NO_STEADY = np.empty((0, 4))


def _table(rows):
    columns = np.asarray(rows, float).reshape(-1, 4).T
    time, kind, target, amount = columns
    return np.array([0, len(rows)]), time.copy(), kind.astype(np.int8), target.astype(np.int32), amount.copy()


def _rates(ka, ke):
    return np.array([ka]), np.array([ke]), np.empty(0), np.empty(0)


def amounts(ka, ke, rows, times, steady=NO_STEADY, after=False):
    times = np.atleast_2d(np.asarray(times, float))
    out = np.empty((1, 2, times.shape[1]))
    linear.amounts(*_rates(ka, ke), *_table(rows), np.asarray(steady, float), times, after, out)
    return out[0]


def windows(ka, ke, rows, lo, hi, steady=NO_STEADY, level=np.nan):
    out = np.empty((1, 1, statistics.COUNT))
    bounds = np.array([[float(lo)]]), np.array([[float(hi)]])
    one = np.ones(1)
    linear.windows(*_rates(ka, ke), *_table(rows), np.asarray(steady, float), one, one, *bounds, level, out)
    return out[0, 0]


def exact_central(ka, ke, t):
    """Bateman function in 80 digits; exactly equal rates by their limit."""
    ka, ke, t = Decimal(ka), Decimal(ke), Decimal(t)
    if ka == ke:
        return ka * t * (-ka * t).exp()
    return ka * ((-ke * t).exp() - (-ka * t).exp()) / (ka - ke)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("sign", [1, -1])
def test_single_dose_is_exact_through_coincident_rates(gap, sign):
    ke = 0.09
    ka = ke * (1.0 + gap) if sign > 0 else ke / (1.0 + gap)
    for t in (1e-3, 0.1, 1.0, 7.0, 24.0, 120.0):
        found = amounts(ka, ke, [(0, ADD, DEPOT, 1.0)], [t])[1, 0]
        exact = exact_central(ka, ke, t)
        assert abs(Decimal(found) - exact) <= Decimal("1e-14") * exact


def test_infusions_against_quadrature_of_the_exact_response():
    # identity: an infusion is the integral of bolus responses; Gauss-Legendre with 60 nodes on the exact function
    nodes, weights = np.polynomial.legendre.leggauss(60)
    ka, ke, duration, t = 0.7, 0.12, 5.0, 9.0
    u = 0.5 * duration * (nodes + 1.0)
    for target in (DEPOT, CENTRAL):
        response = [float(exact_central(ka, ke, t - x)) if target == DEPOT else np.exp(-ke * (t - x)) for x in u]
        expected = 0.5 * duration * float(np.dot(weights, response))
        rows = [(0, RATE, target, 1.0), (duration, RATE, target, -1.0)]
        assert amounts(ka, ke, rows, [t])[1, 0] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("gap", GAPS)
def test_infusion_into_depot_is_smooth_through_coincident_rates(gap):
    # witness: the explicit solution in 80 digits (limit of a shifted rate where the rates coincide)
    ke = 0.2
    ka = ke * (1.0 + gap)
    a, k, t = Decimal(ka), Decimal(ke), Decimal(6)
    if a == k:
        a = a * (1 + Decimal("1e-40"))
    exact = (1 - (-k * t).exp()) / k - ((-k * t).exp() - (-a * t).exp()) / (a - k)
    found = amounts(ka, ke, [(0, RATE, DEPOT, 1.0)], [6.0])[1, 0]
    assert found == pytest.approx(float(exact), rel=1e-13)


def test_superposition_and_no_drift_over_168_doses():
    ka, ke = 0.25, 0.087
    doses = [(12.0 * k, ADD, DEPOT, 100.0) for k in range(168)]
    times = np.array([167 * 12.0 + x for x in (1.0, 6.0, 12.0)])
    found = amounts(ka, ke, doses, times)[1]
    for t, value in zip(times, found, strict=True):
        exact = sum((exact_central(ka, ke, t - d[0]) * 100 for d in doses), Decimal(0))
        assert float(abs(Decimal(value) - exact) / exact) < 2e-14


def test_dose_proportionality_and_bolus_into_central():
    rows = [(0, ADD, CENTRAL, 50.0), (3.0, ADD, DEPOT, 20.0)]
    double = [(t, k, c, 2 * a) for t, k, c, a in rows]
    times = [0.5, 3.0, 4.0, 30.0]
    assert (amounts(0.5, 0.1, double, times) == 2.0 * amounts(0.5, 0.1, rows, times)).all()
    assert amounts(0.5, 0.1, rows, [2.0])[1, 0] == pytest.approx(50.0 * np.exp(-0.2), rel=4e-16)


@pytest.mark.parametrize(("ka", "ke"), [(0.25, 0.1), (0.1, 0.1), (0.05, 0.1), (1.5, 0.02)])
@pytest.mark.parametrize(("target", "duration"), [(DEPOT, 0.0), (CENTRAL, 0.0), (CENTRAL, 5.0), (CENTRAL, 30.0),
                                                  (CENTRAL, 24.0), (DEPOT, 3.0)])  # fmt: skip
def test_steady_state_is_a_long_run_of_doses(ka, ke, target, duration):
    interval, count = 12.0, 400
    long = []
    for k in range(count):
        if duration:
            long += [(interval * k, RATE, target, 100 / duration)]
            long += [(interval * k + duration, RATE, target, -100 / duration)]
        else:
            long += [(interval * k, ADD, target, 100.0)]
    long.sort(key=lambda row: (row[0], row[3]))
    base = interval * (count - 1)
    times = np.array([0.5, 4.0, 11.5])
    expected = amounts(ka, ke, long, base + times)
    running = int(duration // interval)
    rows = [(0, STEADY, target, 0)]
    rows += [(0, RATE, target, 100 / duration)] if duration else [(0, ADD, target, 100.0)]
    if duration:
        ends = [duration - j * interval for j in range(running + 1)]
        rows += [(end, RATE, target, -100 / duration) for end in sorted(ends)]
    found = amounts(ka, ke, rows, times, steady=[[100.0, interval, duration, interval]])
    np.testing.assert_allclose(found, expected, rtol=3e-13, atol=1e-13)


def test_window_average_is_dose_over_clearance():
    # identity: AUC over an interval at steady state = dose; over all time = dose/ke (amounts)
    average, *_ = windows(0.25, 0.09, [(0, ADD, DEPOT, 100.0)], 0.0, 2000.0)
    assert average * 2000.0 == pytest.approx(100.0 / 0.09, rel=1e-14)
    rows = [(0, STEADY, DEPOT, 0)] + [(12.0 * k, ADD, DEPOT, 100.0) for k in range(14)]
    average, *_ = windows(0.25, 0.09, rows, 0.0, 168.0, steady=[[100.0, 12.0, 0.0, 12.0]])
    assert average == pytest.approx(100.0 / 0.09 / 12.0, rel=1e-13)


@pytest.mark.parametrize(("ka", "ke"), [(0.25, 0.1), (0.1, 0.1), (0.1, 0.1 * (1 + 1e-9)), (0.03, 0.3), (5.0, 0.01)])
def test_windows_against_fine_sampling(ka, ke):
    rows = [(0, ADD, DEPOT, 100.0), (5, ADD, CENTRAL, 30.0), (12, RATE, CENTRAL, 4.0), (20, RATE, CENTRAL, -4.0),
            (14, ADD, DEPOT, 60.0), (22.5, RATE, DEPOT, 9.0), (30, RATE, DEPOT, -9.0)]  # fmt: skip
    rows.sort()
    lo, hi = 3.3, 41.7
    average, top, low, *_ = windows(ka, ke, rows, lo, hi)
    corners = np.array([lo, 5, 12, 14, 20, 22.5, 30, hi])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    total, peak, bottom = 0.0, -np.inf, np.inf
    for a, b in pairwise(corners):
        values = amounts(ka, ke, rows, 0.5 * (a + b) + 0.5 * (b - a) * nodes)[1]
        total += 0.5 * (b - a) * float(np.dot(weights, values))
        fine = amounts(ka, ke, rows, np.linspace(a + 1e-9, b, 20001))[1]
        peak, bottom = max(peak, fine.max()), min(bottom, fine.min())
    assert average == pytest.approx(total / (hi - lo), rel=1e-12)
    assert top >= peak
    assert top == pytest.approx(peak, rel=1e-6)
    assert low == pytest.approx(bottom, rel=1e-6)


def test_zero_width_window_is_the_value_before_a_dose():
    rows = [(0, ADD, DEPOT, 100.0), (12, ADD, CENTRAL, 50.0)]
    value = amounts(0.3, 0.1, rows, [12.0])[1, 0]
    assert windows(0.3, 0.1, rows, 12.0, 12.0) == pytest.approx([value] * 3 + [12.0, 12.0, 0.0, 0.0], rel=1e-15)
    assert windows(0.3, 0.1, rows, 0.0, 0.0).tolist() == [0.0] * 7


def test_sample_at_a_dose_sees_before_or_after():
    rows = [(0, ADD, CENTRAL, 10.0)]
    assert amounts(0.3, 0.1, rows, [0.0])[1, 0] == 0.0
    assert amounts(0.3, 0.1, rows, [0.0], after=True)[1, 0] == 10.0


def test_reset_and_no_doses():
    rows = [(0, ADD, DEPOT, 10.0), (5, RESET, DEPOT, 0.0), (5, ADD, CENTRAL, 3.0)]
    assert amounts(0.3, 0.1, rows, [6.0])[1, 0] == pytest.approx(3.0 * np.exp(-0.1), rel=1e-15)
    assert amounts(0.3, 0.1, [], [0.0, 6.0]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def _gradient(ka, cl, v, rows, times, steady=NO_STEADY):
    value, gradient = linear.concentration_gradient(
        np.array([ka]), np.array([cl]), np.array([v]), *_table(rows), np.asarray(steady, float),
        np.atleast_2d(np.asarray(times, float)), False,
    )  # fmt: skip
    return value[0], gradient[0]


def _exact_concentration(ka, cl, v, rows, t):
    """Superposition of boluses in 80 digits; arguments are Decimal."""
    ke, total = cl / v, Decimal(0)
    for time, _, target, amount in rows:
        s = Decimal(t) - Decimal(time)
        if s > 0:
            bateman = ka * ((-ke * s).exp() - (-ka * s).exp()) / (ka - ke)
            total += Decimal(amount) * (bateman if target == DEPOT else (-ke * s).exp())
    return total / v


@pytest.mark.parametrize("gap", [0.0, 1e-13, 1e-9, 1e-5, 0.03, 0.7, 20.0, 1e3])
@pytest.mark.parametrize("sign", [1, -1])
def test_sensitivities_against_central_differences_in_80_digits(gap, sign):
    cl, v = 3.0, 32.0
    ka = (cl / v) * (1.0 + gap) if sign > 0 else (cl / v) / (1.0 + gap)
    rows = [(0, ADD, DEPOT, 100.0), (4.0, ADD, CENTRAL, 10.0), (12.0, ADD, DEPOT, 80.0)]
    times = [0.5, 3.0, 11.0, 13.0, 40.0]
    value, gradient = _gradient(ka, cl, v, rows, times)
    point = [Decimal(ka), Decimal(cl), Decimal(v)]
    for j, t in enumerate(times):
        for k in range(3):
            step = point[k] * Decimal("1e-20")
            up, down = list(point), list(point)
            up[k], down[k] = up[k] + step, down[k] - step
            exact = (_exact_concentration(*up, rows, t) - _exact_concentration(*down, rows, t)) / (2 * step)
            scale = abs(value[j]) / float(point[k])
            assert abs(gradient[k, j] - float(exact)) <= 3e-13 * max(abs(float(exact)), scale)


@pytest.mark.parametrize("duration", [0.0, 5.0, 30.0])
@pytest.mark.parametrize("ka", [0.4, 3.0 / 32.0])
def test_sensitivities_at_steady_state_against_differences(ka, duration):
    # central differences of the closed form itself: error about 1e-9 (step 1e-6)
    steady = [[100.0, 12.0, duration, 12.0]]
    target = CENTRAL if duration else DEPOT
    rows = [(0, STEADY, target, 0)] + ([(0, RATE, target, 20.0)] if duration else [(0, ADD, target, 100.0)])
    times, point = [1.0, 4.0], [ka, 3.0, 32.0]
    _, gradient = _gradient(*point, rows, times, steady)
    for k in range(3):
        up, down = list(point), list(point)
        up[k] *= 1 + 1e-6
        down[k] *= 1 - 1e-6
        slope = (_gradient(*up, rows, times, steady)[0] - _gradient(*down, rows, times, steady)[0]) / (up[k] - down[k])
        np.testing.assert_allclose(gradient[k], slope, rtol=1e-7, atol=1e-9)


def test_value_of_the_gradient_kernel_is_the_closed_form():
    rows = [(12.0 * k, ADD, DEPOT, 100.0) for k in range(20)]
    times = [0.0, 5.0, 30.0, 250.0]
    value, _ = _gradient(0.4, 3.0, 32.0, rows, times)
    np.testing.assert_allclose(value, amounts(0.4, 3.0 / 32.0, rows, times)[1] / 32.0, rtol=1e-14)


def test_bits_do_not_depend_on_the_number_of_samples():
    rows = [(0, ADD, DEPOT, 100.0), (12, ADD, DEPOT, 100.0)]
    times = np.linspace(0.1, 40, 57)
    whole = amounts(0.3, 0.09, rows, times)
    assert all((amounts(0.3, 0.09, rows, [t])[:, 0] == whole[:, k]).all() for k, t in enumerate(times))


def test_not_a_number_never_hides():
    assert np.isnan(amounts(np.nan, 0.1, [(0, ADD, DEPOT, 1.0)], [1.0])).any()
    assert np.isnan(windows(0.3, np.nan, [(0, ADD, DEPOT, 1.0)], 0.0, 5.0)).all()
    found = amounts(0.3, 0.1, [(0, ADD, DEPOT, 1.0)], [1.0, np.nan])
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, 0]).all()
