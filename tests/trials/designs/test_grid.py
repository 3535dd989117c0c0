"""Designs under grids of scenarios: exact numbers beside simulation, common subjects, disturbances, costs, profiles."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm

from pkpd.ground.errors import InputError
from trials.designs.applied import applied
from trials.designs.decisions import go_no_go
from trials.designs.exact import exact, rates_passage
from trials.designs.grid import compared, null_of, samples
from trials.designs.sequential import Plan, boundaries
from trials.designs.text import Design
from trials.designs.text_scenarios import Truth

EXAMPLES = Path(__file__).parents[3] / "examples"
FIXED = """\
vtrial: design/1
name: fixed
endpoint:
  means: {effect: 0.5, sd: 1, test: z}
error: {alpha: 0.025, power: 0.9}
simulate: {seed: 3, replicates: 4000, truths: {planned: {}, nothing: {effect: 0}}}
"""
SEQUENTIAL = FIXED.replace("fixed", "sequential") + "looks: 3\nefficacy: {spending: lan_demets_obrien_fleming}\n"
RATES = """\
vtrial: design/1
name: rates
endpoint:
  proportions: {treated: 0.5, control: 0.3}
error: {alpha: 0.05, sides: 2, power: 0.8}
looks: 2
efficacy: {family: pocock}
simulate: {seed: 3, replicates: 4000, truths: {nothing: {effect: 0}}, grid: {control: [0.1, 0.3, 0.5]}}
"""


def read(source: str) -> Design:
    return Design.parse(source)


def test_recursion_and_simulation_agree_and_designs_share_their_subjects() -> None:
    found = compared({"fixed": read(FIXED), "sequential": read(SEQUENTIAL)})
    planned, nothing = found.scenarios
    assert [s.name for s in found.scenarios] == ["planned", "nothing"]
    for s in found.scenarios:
        assert s.worst() < 3.5
        assert {"reject", "subjects", "early"} <= set(s.exact["sequential"])
    assert nothing.null == {"fixed": "global", "sequential": "global"}
    gain = {d.measure: d.gain for d in planned.differences}
    assert gain["reject"] > 3
    assert found.largest_type_one()["fixed"][0] == "nothing"
    assert planned.exact["fixed"]["reject"].value == pytest.approx(norm.cdf(0.5 * math.sqrt(85 / 2) - norm.ppf(0.975)))


def test_enumeration_of_one_look_is_the_double_sum() -> None:
    """Power of the pooled z test of two proportions, summed over every pair of counts one by one."""
    bounds = boundaries(Plan(information=(1.0,), alpha=0.05, sides=2))
    n, (p1, p0), total = 23, (0.45, 0.2), 0.0
    for x1 in range(n + 1):
        for x0 in range(n + 1):
            pooled = (x1 + x0) / (2 * n)
            se = math.sqrt(pooled * (1 - pooled) * 2 / n)
            if se > 0 and abs(x1 - x0) / n / se >= norm.ppf(0.975):
                total += binom.pmf(x1, n, p1) * binom.pmf(x0, n, p0)
    found = rates_passage(bounds, np.array([[n, n]]), (p1, p0))
    assert found.power == pytest.approx(total, abs=1e-12)
    assert found.stop.sum() == pytest.approx(1.0, abs=1e-12)


def test_null_grid_of_rates_and_its_maximum() -> None:
    found = compared({"rates": read(RATES)})
    assert [s.name for s in found.scenarios] == [f"nothing, control {p}" for p in (0.1, 0.3, 0.5)]
    assert all(s.null == {"rates": "global"} and s.worst() < 3.5 for s in found.scenarios)
    name, worst = found.largest_type_one()["rates"]
    shares = {s.name: s.estimates["rates"]["type_i_error"].value for s in found.scenarios}
    assert worst.value == max(shares.values()) == shares[name]


def test_replicates_follow_the_asked_error() -> None:
    found = compared({"fixed": read(FIXED)}, mcse=0.004)
    for s in found.scenarios:
        e = s.estimates["fixed"]["reject"]
        assert e.mcse <= 0.004
        assert s.replicates < 1.3 * max(2000, s.exact["fixed"]["reject"].value * 0.1 / 0.004**2)
    first = compared({"fixed": read(FIXED)}, replicates=500).scenarios[0].estimates["fixed"]["reject"]
    assert first.n == 500


def test_power_averaged_over_what_is_lost() -> None:
    """z test, a share lost at random: power summed over the binomial numbers that remain."""
    design = replace(read(FIXED), simulate=None)
    found = samples(design, Truth(lost=0.2), seed=8, replicates=np.arange(4000))["reject"].values
    n = np.arange(87)
    remain = binom.pmf(n, 86, 0.8)[2:]
    n1, n0 = np.meshgrid(n[2:], n[2:])
    power = norm.cdf(0.5 / np.sqrt(1 / n1 + 1 / n0) - norm.ppf(0.975))
    expected = float(np.sum(np.outer(remain, remain) * power))
    assert abs(found.mean() - expected) < 3.5 * math.sqrt(expected * (1 - expected) / 4000)


def test_a_trend_in_both_arms_is_no_effect_but_variance() -> None:
    """Alternating arms: bias trend/(N - 1); the variance that is seen is sd^2 + trend^2/12, that of the estimate sd^2."""
    design = replace(read(FIXED.replace(", test: z", "")), simulate=None)
    calm, drift = (samples(design, Truth(trend=t), seed=8, replicates=np.arange(3000)) for t in (0.0, 3.0))
    shift = drift["bias"].values - calm["bias"].values
    assert np.ptp(shift) < 1e-12
    assert abs(float(shift[0])) == pytest.approx(3.0 / 171, rel=0.02)
    expected = norm.cdf((0.5 + shift[0]) * math.sqrt(86 / 2) - 1.974 * math.sqrt(1 + 9 / 12))
    assert abs(drift["reject"].values.mean() - expected) < 0.03
    assert calm["reject"].values.mean() > 0.88 > drift["reject"].values.mean()


def test_costs_profile_and_duration() -> None:
    source = FIXED + (
        "enrolment: {rate: 10, follow_up: 3}\nprofile: {wanted: 0.3}\n"
        "costs: {fixed: 2, subject: 0.03, time: 0.1, value: 100}\n"
    )
    design = read(source)
    (s, _) = compared({"fixed": design}).scenarios
    e, n = s.estimates["fixed"], s.estimates["fixed"]["subjects"].value
    assert abs(e["duration"].value - (n / 10 + 3)) < 4 * e["duration"].mcse
    assert e["cost"].value == pytest.approx(2 + 0.03 * n + 0.1 * e["duration"].value)
    assert e["net"].value == pytest.approx(100 * e["go"].value - e["cost"].value)
    closed = go_no_go(0.5, n / 2, wanted=0.3)
    assert s.exact["fixed"]["go"].value == pytest.approx(float(closed.go), abs=1e-12)
    assert e["go"].value + e["stop"].value + e["unsure"].value == pytest.approx(1)


def test_partial_null_counts_false_rejections_only() -> None:
    design = read((EXAMPLES / "designs" / "arm_selection.yaml").read_text())
    truth = Truth(arms={"low": 0.0, "middle": 0.0, "high": 0.6})
    assert null_of(design, truth) == "partial"
    found = samples(design, truth, seed=1, replicates=np.arange(2000))
    each = [found[f"reject_{arm}"].values for arm in ("low", "middle")]
    assert np.array_equal(found["type_i_error"].values, np.maximum(*each))
    assert found["reject"].values.mean() > 0.8 > 0.06 > found["type_i_error"].values.mean()


def test_survival_scenarios_and_a_margin() -> None:
    """Schoenfeld's limit for a non-inferiority margin of 1.3; dropout and accrual change durations, not the level."""
    source = """\
vtrial: design/1
name: margin
endpoint:
  survival: {hazard_ratio: 1, null: 1.3, control: {median: 12}, accrual: {duration: 12}, follow_up: 12}
error: {alpha: 0.025, power: 0.8}
simulate:
  seed: 4
  replicates: 1000
  truths:
    planned: {}
    margin: {hazard_ratio: 1.3}
    slow: {accrual: {duration: 24}}
    late: {hazard_ratios: {starts: [0, 6], rates: [1, 0.6]}}
"""
    found = {s.name: s for s in compared({"d": read(source)}).scenarios}
    power = found["planned"].estimates["d"]["reject"]
    assert abs(power.value - 0.8) < 4 * power.mcse
    level = found["margin"].estimates["d"]["type_i_error"]
    assert abs(level.value - 0.025) < 4 * 0.005
    assert found["slow"].estimates["d"]["duration"].value > found["planned"].estimates["d"]["duration"].value + 3
    assert "bias" not in found["late"].estimates["d"]
    assert found["late"].exact["d"] == {}


def test_exact_t_power_is_that_of_the_size() -> None:
    design = read(FIXED.replace(", test: z", ""))
    assert exact(design, Truth())["reject"].value == pytest.approx(0.9032, abs=2e-3)  # 86 an arm for 0.9
    assert exact(design, Truth(effect=0.0))["reject"].value == pytest.approx(0.025, abs=1e-12)
    assert exact(design, Truth(lost=0.1)) == {}


def test_scenarios_of_a_file_and_what_they_may_not_say(tmp_path: Path) -> None:
    designs = {"fixed": read(FIXED), "sequential": read(SEQUENTIAL)}
    given = applied(designs, EXAMPLES / "compare" / "scenarios.yaml")
    assert len(given["fixed"].simulate.scenarios) == 9  # type: ignore[union-attr]
    assert given["sequential"].costs.value == 100  # type: ignore[union-attr]
    wrong = tmp_path / "s.yaml"
    wrong.write_text("vtrial: scenarios/1\nsimulate:\n  seed: 1\n  truths: {a: {hazard_ratio: 1}}\n")
    with pytest.raises(
        InputError, match=r"s.yaml:4:\d+ simulate.truths.a.hazard_ratio: says nothing here \(design fixed"
    ):
        applied(designs, wrong)


def test_different_seeds_are_refused() -> None:
    other = read(SEQUENTIAL.replace("seed: 3", "seed: 4"))
    with pytest.raises(InputError, match="would share no subject"):
        compared({"fixed": read(FIXED), "sequential": other})
    assert compared({"fixed": read(FIXED), "sequential": other}, seed=9, replicates=50).seed == 9


def test_selection_makes_the_plain_estimate_too_good() -> None:
    """One stage, all arms without effect: the best of three has the mean of the largest of three correlated normals.

    sd of each estimate sqrt(2/n), correlation 1/2 = sqrt(1/n) x normals about a common control: E max = 0.8463 sqrt(1/n).
    """
    source = """\
vtrial: design/1
name: best
endpoint: {means: {effect: 0.6, sd: 1}}
looks: [0.999999, 1]
efficacy: {spending: lan_demets_obrien_fleming}
select: {arms: {a: 0, b: 0, c: 0}, each: 50, choice: all}
"""
    found = samples(read(source), Truth(), seed=3, replicates=np.arange(4000))["bias"]
    stop = 0.84628 / math.sqrt(100)  # both stages are observed unless all are rejected
    assert abs(found.values.mean() - stop) < 4 * found.values.std() / math.sqrt(4000)
    kept = samples(read(source.replace("{a: 0, b: 0, c: 0}", "{a: 0, b: -9, c: -9}")), Truth(), seed=3,
                   replicates=np.arange(4000))  # fmt: skip
    assert abs(kept["bias"].values.mean()) < 4 * kept["bias"].values.std() / math.sqrt(4000)
    assert abs(kept["coverage"].values.mean() - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)
