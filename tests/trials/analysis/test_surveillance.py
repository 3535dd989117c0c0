"""The sequential test of a Poisson count and simulated reports. Witnesses: tables 1 to 3 of Kulldorff et al. (Sequential
Analysis 2011;30:58), critical values of R's Sequential (CV.Poisson) with a least number of events, plain simulation.
"""

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from trials.analysis.signals import information
from trials.analysis.signals_fit import Theta
from trials.analysis.spontaneous import Market, detections, incidence_rates, reported
from trials.analysis.surveillance import log_ratio, watch, watched

TABLE_1 = {(0.1, 0.05): 2.044069, (1, 0.05): 2.853937, (5, 0.05): 3.297183, (20, 0.05): 3.628123,
           (1, 0.01): 4.670428, (10, 0.01): 5.260513, (10, 0.001): 7.724863}  # fmt: skip
TABLE_2 = {(1, 2): (0.185, 3), (10, 1.2): (0.107, 3), (10, 2): (0.685, 3), (20, 1.5): (0.450, 3), (20, 3): (0.99997, 5)}
TABLE_3 = {(1, 1): (0.22, 0.96), (10, 2): (4.13, 5.98), (20, 1.5): (8.68, 14.91), (20, 5): (0.91, 0.91)}


@pytest.mark.parametrize(("horizon", "alpha"), list(TABLE_1))
def test_critical_values_are_the_published_ones(horizon, alpha):
    plan = watch(horizon, alpha=alpha)
    assert plan.critical == pytest.approx(TABLE_1[horizon, alpha], abs=1.1e-6)
    assert plan.alpha == pytest.approx(alpha, rel=1e-8)


def test_power_and_times_are_the_published_ones():
    for (horizon, ratio), (power, digits) in TABLE_2.items():
        assert watched(watch(horizon), ratio).power == pytest.approx(power, abs=0.51 * 10.0**-digits)
    for (horizon, ratio), (to_signal, length) in TABLE_3.items():
        found = watched(watch(horizon), ratio)
        assert (found.time_to_signal, found.duration) == pytest.approx((to_signal, length), abs=0.0051)


def test_a_least_number_of_events_lowers_the_critical_value_as_in_r():
    """Sequential 1.1, CV.Poisson(SampleSize=10, M=3 and 10), and (SampleSize=1, M=3)."""
    for horizon, minimum, critical in ((10.0, 3, 3.064248), (10.0, 10, 2.281441), (1.0, 3, 1.774218)):
        assert watch(horizon, minimum=minimum).critical == pytest.approx(critical, abs=1e-6)
    with pytest.raises(InputError, match="rarer than alpha"):
        watch(1.0, minimum=9)


def test_a_plan_signals_as_often_as_it_says():
    """20,000 Poisson processes at twice the expected rate, looked at after every event."""
    plan, rng, n = watch(5.0, minimum=2), np.random.default_rng(4), 20_000
    times = np.cumsum(rng.exponential(0.5, (n, 60)), axis=1)
    signal = plan.signals(np.arange(1, 61)[None, :], times)
    told = watched(plan, 2.0)
    share, at = signal.any(axis=1), times[np.arange(n), signal.argmax(axis=1)]
    assert share.mean() == pytest.approx(told.power, abs=4 * np.sqrt(told.power * (1 - told.power) / n))
    assert at[share].mean() == pytest.approx(told.time_to_signal, abs=4 * at[share].std() / np.sqrt(share.sum()))
    assert float(log_ratio(2, 3.0)) == 0.0


MARKET = Market(exposed=(200.0,) * 8, background=0.02, others=1.0, reporting=0.1, database=(100.0, 9900.0))


def test_reports_have_their_means_and_do_not_depend_on_how_many_there_are():
    cells = reported(MARKET, np.full(4000, 0.05), seed=3)
    for found, mean in ((cells.both, 8.0), (cells.product, 160.0), (cells.event, 800.0), (cells.neither, 79200.0)):
        assert found[:, -1].mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 4000))
    few = reported(MARKET, np.full(7, 0.05), seed=3)
    np.testing.assert_array_equal(few.both, cells.both[:7])


def test_signals_come_as_soon_as_the_reports_meet_the_criterion():
    theta = Theta(alpha1=0.2, beta1=0.1, alpha2=2.0, beta2=4.0, p=0.33)
    cells, plan = reported(MARKET, np.full(300, 0.08), seed=5), watch(3.2)
    found = detections(MARKET, cells, theta=theta, watch=plan)
    assert set(found) == {"IC025", "EB05", "maxSPRT"}
    for r in range(20):
        first = 0
        for t in range(8):
            a, b, c, d = (float(x[r, t]) for x in (cells.both, cells.product, cells.event, cells.neither))
            e = (a + b) * (a + c) / (a + b + c + d)
            low = np.log2(stats.gamma.ppf(0.025, a + 0.5) / (e + 0.5))
            assert information(np.array([a]), np.array([e]), 0.025)[1][0] == pytest.approx(low, rel=1e-10)
            first = t + 1 if first == 0 and low > 0 else first
        assert found["IC025"].first[r] == first
    null = detections(MARKET, reported(MARKET, np.full(4000, 0.02), seed=6), watch=plan)["maxSPRT"]
    assert 0.0 < null.by[-1].value <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)  # looks by period: below the level
    assert found["maxSPRT"].by[-1].value > 0.9
    assert [e.value for e in found["EB05"].by] == sorted(e.value for e in found["EB05"].by)


def test_the_last_look_is_within_the_horizon_whatever_the_rounding():
    """3000 x 0.002 x 0.1 is above 0.6 in doubles; a look after the horizon is none."""
    plan, last = watch(0.6), 3000 * 0.002 * 0.1
    assert last > plan.horizon
    assert plan.signals(5, [last, 0.61]).tolist() == [True, False]


def test_rates_of_a_trial_and_wrong_markets():
    assert incidence_rates([4, 0], [50.0, 25.0]).tolist() == [0.08, 0.02]
    with pytest.raises(InputError, match="years"):
        incidence_rates([1], [0.0])
    with pytest.raises(InputError, match="reporting"):
        Market(exposed=(1.0,), background=0.1, others=1.0, reporting=1.5, database=(1.0, 1.0))
