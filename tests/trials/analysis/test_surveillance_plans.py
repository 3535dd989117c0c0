"""Surveillance plans. Witnesses: sums written out for two looks, every sequence of twelve events, a simulated Polya urn,
the Poisson test as the limit of the conditional one, means by plain loops, exact recursion against simulated markets,
rates that a simulation of our own put in. Tables of Kulldorff et al. by simulated markets: tests/bench/rows_signals_plans.py.
"""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from pkpd.ground.errors import InputError
from trials.analysis import surveillance_simulate as simulate
from trials.analysis.signals_fit import Theta, shrunk
from trials.analysis.spontaneous import Cells, meets
from trials.analysis.surveillance import watch
from trials.analysis.surveillance_found import found
from trials.analysis.surveillance_market import use
from trials.analysis.surveillance_rates import Counted, counted, rate_law, ratio_law
from trials.analysis.surveillance_tests import (
    binomial,
    binomial_ratio,
    compared,
    conditional,
    conditional_grouped_power,
    conditional_power,
    grouped,
    grouped_power,
)
from trials.analysis.surveillance_text import Persistence, Surveillance, Uptake, defaults
from trials.dispatch import Mode

HERE = Mode(kind="serial")
TEXT = """
vtrial: surveillance/1
name: tried
seed: 5
months: 24
draws: 40
replicates: 25
uptake: {starting: [100], persistence: {still: [1, 0]}}
events:
  rash: {background: {events: 20, years: 200}, ratio: 2, in_database: 0.02, masking: {share: 0.1, ratio: 5}}
reporting:
  share: 0.1
  others_per_1000_years: 1500
  delay: 1.5
  other_products: 300
  before: 3000
  stimulated: [{from: 10, until: 12, factor: 2}, {from: 12, until: 14, factor: 3, of: all}]
  theta: [0.2, 0.1, 2, 4, 0.3333]
plans:
  known: {test: poisson}
  past: {test: conditional, critical: grouped}
  reports: {test: EB05}
"""


def test_two_looks_are_two_sums():
    made = grouped([2.0, 5.0], alpha=0.05)
    first = next(n for n in range(60) if made.signals(n, 2.0))
    second = next(n for n in range(60) if made.signals(n, 5.0))
    early = stats.poisson.sf(first - 1, 2.0)
    late = sum(stats.poisson.pmf(k, 2.0) * stats.poisson.sf(second - k - 1, 3.0) for k in range(first))
    np.testing.assert_allclose(grouped_power(made, [2.0, 5.0]), [early, early + late], rtol=1e-12)
    assert made.alpha == pytest.approx(early + late, rel=1e-12)
    assert made.alpha <= 0.05
    assert made.critical < watch(5.0).critical  # fewer looks than after every event


def test_against_comparators_every_sequence_of_twelve_events():
    """All 4,096 orders of users' and comparators' events, 2 person-years of comparators to one."""
    plan = binomial(2.0, 12, minimum=3)

    def chance(critical: float, p: float) -> float:
        total = 0.0
        for order in itertools.product((0, 1), repeat=12):
            c = np.cumsum(order)
            n = np.arange(1, 13)
            if ((c >= 3) & (binomial_ratio(c, n, 2.0) >= critical - 1e-9)).any():
                total += p ** c[-1] * (1 - p) ** (12 - c[-1])
        return total

    assert plan.alpha == pytest.approx(chance(plan.critical, 1 / 3), rel=1e-10)
    assert compared(plan, 2.5)[-1] == pytest.approx(chance(plan.critical, 2.5 / 4.5), rel=1e-10)
    values = np.unique([binomial_ratio(c, n, 2.0) for n in range(1, 13) for c in range(1, n + 1)])
    lower = values[values < plan.critical - 1e-6][-1]
    assert plan.alpha <= 0.05 < chance(float(lower), 1 / 3)


def test_against_the_past_a_simulated_urn_and_the_known_rate():
    """Gaps of a Poisson process over a gamma past; with 10^5 past events the Poisson critical value of the horizon."""
    plan, rng, n = conditional(20, 0.5, minimum=2), np.random.default_rng(2), 10_000
    past = rng.gamma(20.5, 1.0, n)
    for ratio in (1.0, 2.0):
        time = np.cumsum(rng.exponential(1.0 / ratio, (n, 90)), axis=1) / past[:, None]
        share = plan.signals(np.arange(1, 91)[None, :], time).any(axis=1).mean()
        told = conditional_power(plan, ratio)
        assert share == pytest.approx(told, abs=4 * np.sqrt(told * (1 - told) / n))
    assert plan.alpha == pytest.approx(0.05, rel=1e-8)
    assert conditional(100_000, 10.0 / 100_000).critical == pytest.approx(watch(10.0).critical, abs=1e-4)


def test_the_conditional_test_is_near_the_documented_one_of_r():
    """R's Sequential, help of CV.CondPoisson: 20 past events, at most 20 new ones, signals from the second on, exact:
    3.149115. It takes the past's end to be anywhere between two events, we Jeffreys' prior."""
    from trials.analysis.surveillance import passed
    from trials.analysis.surveillance_tests import Conditional, _anew, _within

    def level(critical: float) -> float:
        plan = Conditional(critical=critical, past=20, horizon=99.0, minimum=2, alpha=np.nan)
        times = _within(plan)[:19]  # until the twentieth event
        return float(1.0 - _anew(passed(times, 2, 20.0)[1], times[-1], 20, 1.0).sum())

    assert brentq(lambda c: level(c) - 0.05, 2.0, 5.0) == pytest.approx(3.149115, abs=0.004)


def test_person_years_of_an_exponential_stay():
    """Entered evenly over month s and leaving at rate 1/8: by month 40 the integral of exp(-t/8)."""
    made = use(Uptake(starting=(100.0, 0.0), persistence=Persistence(mean=8.0)), 40)
    assert made.started[-1] == 100.0
    entries = (np.arange(1000) + 0.5) / 1000
    exact = 100.0 * np.mean(8.0 * (1.0 - np.exp(-(40.0 - entries) / 8.0))) / 12.0
    assert made.years.sum() == pytest.approx(exact, rel=1e-7)


def test_reports_have_the_means_of_plain_loops():
    """Delay, stimuli, masking and the reports there at launch; 2,000 markets, four standard errors."""
    plan = replace(Surveillance.parse(TEXT), draws=1, replicates=2000)
    made = simulate.prepared(plan, Path())
    made = replace(made, truths=replace(made.truths, factor=np.ones(1), background={"rash": np.array([0.4])},
                                        ratio={"rash": np.array([2.0])}, reported={"rash": np.array([0.1])},
                                        share=np.array([0.1]), others=np.array([1.5])), replicates=2000)  # fmt: skip
    market = simulate._Market.of(made, (0, 1))
    cells = simulate._cells(made, market, ("rash", "stated"), unmasked=False)
    years, late = use(plan.uptake, 24).years, 1.5 / 2.5
    both = product = 0.0
    for month in range(1, 25):
        arrive = sum(years[s - 1] * late ** (month - s) / 2.5 for s in range(1, month + 1))
        of_all = 3.0 if 12 <= month <= 14 else 1.0
        both += arrive * 0.4 * 2.0 * 0.1 * of_all * (2.0 if 10 <= month <= 12 else 1.0)
        product += arrive * 1.5 * 0.1 * of_all
    share = 0.9 * 0.02 + 0.1 * 0.1
    event, neither = (24 * 300 + 3000) * share, (24 * 300 + 3000) * (1 - share)
    for name, mean in (("both", both), ("product", product), ("event", event), ("neither", neither)):
        assert getattr(cells, name)[:, -1].mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 2000)), name
    plain = simulate._cells(made, market, ("rash", "stated"), unmasked=True).event[:, -1].mean()
    assert plain == pytest.approx((24 * 300 + 3000) * 0.9 * 0.02, abs=4 * np.sqrt(183.6 / 2000))


def test_criteria_on_reports_are_those_of_the_list():
    rng, theta = np.random.default_rng(3), Theta(alpha1=0.2, beta1=0.1, alpha2=2.0, beta2=4.0, p=1 / 3)
    a, b, c = rng.poisson(4.0, 500) * 1.0, rng.poisson(40.0, 500) * 1.0, rng.poisson(90.0, 500) * 1.0
    cells = Cells(both=a, product=b, event=c, neither=np.full(500, 5000.0))
    expected = (a + b) * (a + c) / (a + b + c + 5000.0)
    np.testing.assert_array_equal(meets("EB05", cells, theta), (shrunk(a, expected, theta).eb05 >= 2.0) & (a > 0))
    low = stats.gamma.ppf(0.025, a + 0.5) / (expected + 0.5)
    np.testing.assert_array_equal(meets("IC025", cells), low > 1.0)
    ratio = a / (a + b) / (c / (c + 5000.0))
    for k in range(0, 500, 25):
        chi2 = stats.chi2_contingency([[a[k], b[k]], [c[k], 5000.0]], correction=True)[0]
        assert meets("PRR", cells)[k] == (a[k] >= 3 and ratio[k] >= 2.0 and chi2 >= 4.0)


def test_markets_signal_as_often_as_the_recursion_says():
    """No uncertainty: 4,000 markets against the exact probabilities at 24 looks, under the ratio and without effect."""
    source = TEXT.replace("{events: 20, years: 200}", "{per_1000_years: 100}").replace(
        "replicates: 25", "replicates: 100"
    )
    plan = Surveillance.parse(source.replace("  past: {test: conditional, critical: grouped}\n", ""))
    plan = replace(plan, plans={"known": plan.plans["known"]})
    made = simulate.prepared(plan, Path())
    assert (made.truths.draws, made.replicates) == (1, 4000)
    answer = found(made, simulate.simulated(made, mode=HERE))
    looks = np.cumsum(made.use.years) * 0.1
    for truth, ratio in (("stated", 2.0), ("null", 1.0)):
        exact = grouped_power(made.tests["rash", "known"], looks, ratio)
        seen = np.array([e.value for e in answer.of("rash", "known", truth).by])
        assert np.abs(seen - exact).max() < 4.5 * np.sqrt(0.25 / 4000)
        assert seen[-1] == pytest.approx(exact[-1], abs=4 * np.sqrt(exact[-1] * (1 - exact[-1]) / 4000))
    one = answer.of("rash", "known")
    excess = 0.1 * (2.0 - 1.0) * one.waiting.value * made.use.years[-1]  # person-years are even but for the first month
    assert one.until.value == pytest.approx(excess - 0.1 * (made.use.years[1] - made.use.years[0]), rel=1e-9)


def test_a_rate_from_few_past_events_breaks_the_level_of_one_test_and_not_of_the_other():
    """20 past events, 40 more expected: the true rate is a gamma variable; the conditional test holds its level."""
    plan = replace(Surveillance.parse(TEXT.replace("[100]", "[400]")), draws=400, replicates=10)
    made = simulate.prepared(replace(plan, plans={k: plan.plans[k] for k in ("known", "past")}), Path())
    answer = found(made, simulate.simulated(made, mode=HERE))
    known, past = (answer.of("rash", name, "null").power for name in ("known", "past"))
    assert known.value - 4 * known.mcse > 0.05
    exact = conditional_grouped_power(made.tests["rash", "past"], np.cumsum(made.use.years) / 200.0)
    assert past.value == pytest.approx(exact[-1], abs=4 * past.mcse)
    assert 0.04 < exact[-1] <= 0.05 < exact[-1] + 0.01


def test_nothing_depends_on_blocks_or_on_other_plans(monkeypatch):
    plan = Surveillance.parse(TEXT)
    made = simulate.prepared(plan, Path())
    whole = simulate.simulated(made, mode=HERE)
    monkeypatch.setattr(simulate, "_ROWS", 60)
    np.testing.assert_array_equal(simulate.simulated(made, mode=HERE), whole)
    alone = simulate.prepared(replace(plan, plans={"past": plan.plans["past"]}), Path())
    np.testing.assert_array_equal(simulate.simulated(alone, mode=HERE)[:, :, 0], whole[:, :, 1])


def test_the_law_of_rates_is_found_without_the_chance_of_subjects():
    """300 replicates of our own: rates log-normal with SD 0.4 (control 0.1 a year), counts Poisson in 60 person-years."""
    rng, r = np.random.default_rng(8), 300
    ratio = 2.0 * np.exp(0.4 * rng.normal(size=r))
    years = np.full(r, 60.0)
    treated = Counted(events=rng.poisson(0.1 * ratio * years) * 1.0, years=years)
    control = Counted(events=rng.poisson(0.1 * years) * 1.0, years=years)
    for law in (ratio_law(treated, control), rate_law(treated)):
        assert law.spread[1] < 0.4 < law.spread[2]
        drawn = np.log(law.drawn(np.arange(r), rng.random((2, r))))
        assert drawn.std() == pytest.approx(0.4, abs=0.12)
        assert law.crude > 1.2 * drawn.std()
    assert ratio_law(treated, control).middle == pytest.approx(2.0 * np.exp(0.08), rel=0.12)
    with pytest.raises(InputError, match="no ratio"):
        ratio_law(treated, Counted(events=np.zeros(r), years=years))
    with pytest.raises(InputError, match="9 replicates"):
        rate_law(Counted(events=np.ones(9), years=np.ones(9)))


def test_time_at_risk_ends_with_event_treatment_dropout_doses_or_the_last_visit():
    """By hand, in days: event at 10; stop at 20 before an event at 30; dropout at 40; doses end at 50 of 60; failed."""
    table = pd.DataFrame({
        "replicate": [0, 0, 0, 1, 1, 1], "arm": [1, 1, 1, 1, 1, 0], "status": [0, 0, 0, 0, 9, 0],
        "e.day": [10, 30, np.nan, np.nan, 1, np.nan], "stopped.day": [np.nan, 20, np.nan, np.nan, np.nan, np.nan],
        "dropout.day": [np.nan, np.nan, 40, np.nan, np.nan, np.nan],
    })  # fmt: skip
    dose = SimpleNamespace(dose_times=lambda: np.array([0.0, 49.0 * 24]), every=24.0)
    arms = {"placebo": SimpleNamespace(regimen=()), "drug": SimpleNamespace(regimen=(dose,))}
    visits = {"end": SimpleNamespace(day=60)}
    record = SimpleNamespace(protocol=SimpleNamespace(arms=arms, visits=visits), outcomes=table, directory="here",
                             model=SimpleNamespace(events={"e": None}))  # fmt: skip
    seen = counted(record, "e", "drug")
    assert seen.events.tolist() == [1.0, 0.0]
    assert (seen.years * 365.25).tolist() == pytest.approx([10 + 20 + 40, 50])
    assert (counted(record, "e", "placebo").years * 365.25).tolist() == pytest.approx([0, 60])
    with pytest.raises(InputError, match="no arm"):
        counted(record, "e", "drugs")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ratio: 2,", "ratio: {value: 2, interval: [3, 4]},", "the interval must hold the value"),
        ("ratio: 2,", "ratio: {run: trial, arm: a, against: b},", "is not among the runs"),
        ("{events: 20, years: 200}", "{events: 20}", "needs exactly one of"),
        ("{events: 20, years: 200}", "{per_1000_years: 100}", "needs the past's events"),
        ("  theta: [0.2, 0.1, 2, 4, 0.3333]\n", "", "needs hyperparameters"),
        ("in_database: 0.02, ", "", "needed by plans on reports"),
        ("{test: EB05}", "{test: EB05, alpha: 0.05}", "belongs to a test on a cohort"),
        ("{test: conditional, critical: grouped}", "{test: binomial}", "belong together"),
        ("{test: poisson}", "{test: poisson, from: 3, lag: 4}", "nothing to look at"),
        ("months: 24", "month: 24", "did you mean 'months'"),
    ],
)
def test_what_is_refused(old, new, words):
    assert old in TEXT
    with pytest.raises(InputError) as error:
        Surveillance.parse(TEXT.replace(old, new))
    assert words in str(error.value)
    assert error.value.remedy


def test_defaults_are_told():
    told = defaults(TEXT)
    assert told["plans.known.alpha"] == "0.05"
    assert told["uptake.factor"] == "1.0"
    assert "plans.reports.alpha" not in told
    assert "seed" not in told


ONE_LOOK = """
vtrial: surveillance/1
name: one
seed: 1
months: 12
draws: 1
replicates: 2000
uptake: {starting: [100], persistence: {mean: 1000}, factor: {value: FACTOR}}
events: {rash: {background: {per_1000_years: 10}, ratio: 4}}
plans:
  known: {test: poisson, critical: grouped, every: 12}
  comparator: {test: binomial, comparators: 1, every: 12}
"""


def first_signals(factor: float) -> tuple[simulate.Prepared, np.ndarray]:
    """Share of markets with a signal at the one look: (truths, plans)."""
    made = simulate.prepared(Surveillance.parse(ONE_LOOK.replace("FACTOR", str(factor))), Path())
    return made, (simulate.block(simulate._Payload.of(made), (0, 1)) > 0).mean(axis=(1, 3, 4))


def test_a_look_beyond_the_planned_end_sees_what_came_by_the_end():
    """Use half as much again as planned, one look: the count by the planned end is Poisson, of its stated mean. (It was
    dropped: no signal ever, at any ratio.)"""
    made, share = first_signals(1.5)
    plan = made.tests["rash", "known"]
    least = next(n for n in range(99) if plan.signals(n, plan.horizon))
    for k, ratio in enumerate((4.0, 1.0)):
        exact = stats.poisson.sf(least - 1, ratio * plan.horizon)
        assert share[k, 0] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2000))


def test_a_comparator_test_is_long_enough_for_the_effect_it_looks_for():
    """One look at all events, brute force. (A watch of as many events as come without effect was over by then: 0.015.)"""
    made, share = first_signals(1.0)
    plan, years = made.tests["rash", "comparator"], made.use.years.sum()
    c, rest = np.arange(150)[:, None], np.arange(150)[None, :]
    for k, ratio in enumerate((4.0, 1.0)):
        both = stats.poisson.pmf(c, 0.01 * years * ratio) * stats.poisson.pmf(rest, 0.01 * years)
        exact = float((both * (binomial_ratio(c, c + rest, 1.0) >= plan.critical)).sum())
        assert share[k, 1] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2000) + 0.02)
    assert share[0, 1] > 0.7


@pytest.mark.parametrize("test", ["poisson, critical: grouped", "conditional, critical: grouped"])
def test_more_events_than_ever_come_are_refused_by_name(test):
    source = ONE_LOOK.replace("FACTOR", "1").replace("{per_1000_years: 10}", "{events: 20, years: 2000}")
    plan = Surveillance.parse(source.replace("poisson, critical: grouped", f"{test}, minimum: 500"))
    with pytest.raises(InputError, match="never come") as error:
        simulate.prepared(plan, Path())
    assert error.value.field == "plans.known.minimum"
