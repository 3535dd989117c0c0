"""Crossover, factorial and platform designs. Witnesses: PowerTOST's vignette, our crossover ANOVA, least squares by NumPy,
noncentral t, Bofill Roig et al. 2022.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import nct, t

from pkpd.exposure.bioequivalence import crossover
from pkpd.ground.errors import InputError
from trials.designs.crossover import SEQUENCES, contrast, crossover_power, crossover_size, shared, williams
from trials.designs.exact import exact
from trials.designs.family_factorial import each_of
from trials.designs.family_platform import course, fit_of, reject_probability
from trials.designs.grid import compared, null_of, samples
from trials.designs.sizes import Error
from trials.designs.text import Design
from trials.designs.text_scenarios import Truth

EXAMPLES = Path(__file__).parents[3] / "examples" / "designs"
LIMIT = math.log(1.25)

# PowerTOST 1.5 vignette "Average Bioequivalence", example 1: CV = 0.30, theta0 = 0.95, power at n and with one dropout
POWERTOST = [
    ("2x2", 40, 0.815845), ("2x2", 39, 0.805617), ("2x2x3", 30, 0.820400), ("2x2x3", 29, 0.806873),
    ("2x3x3", 30, 0.820400), ("2x2x4", 20, 0.820240), ("2x2x4", 19, 0.799151),
]  # fmt: skip


def sd(cv: float) -> float:
    return math.sqrt(math.log1p(cv * cv))


@pytest.mark.parametrize(("design", "n", "power"), POWERTOST)
def test_power_of_crossovers_is_that_of_powertost(design: str, n: int, power: float) -> None:
    common = {"effect": math.log(0.95), "sd": sd(0.3), "lower": -LIMIT, "upper": LIMIT}
    assert crossover_power(design, shared(design, n), **common) == pytest.approx(power, abs=5.1e-7)
    if n % 2 == 0:
        assert crossover_size(design, Error(alpha=0.05, power=0.8), **common) == n


def test_size_of_another_ratio() -> None:
    """PowerTOST 1.5 vignette, example 3: sampleN.TOST(CV = 0.20, theta0 = 0.92): n = 28, power 0.822742."""
    common = {"effect": math.log(0.92), "sd": sd(0.2), "lower": -LIMIT, "upper": LIMIT}
    assert crossover_size("2x2", Error(alpha=0.05, power=0.8), **common) == 28
    assert crossover_power("2x2", (14, 14), **common) == pytest.approx(0.822742, abs=5.1e-7)


@pytest.mark.parametrize("design", ["2x2", "2x2x3", "2x3x3", "2x4x4"])
def test_precision_is_that_of_the_anova(design: str) -> None:
    """se^2/mse and df of the crossover ANOVA of any data with these sequences, unequal numbers included."""
    each = tuple(3 + i for i in range(len(SEQUENCES[design])))
    rows = [(f"{s}{k}", p, a) for s, n in zip(SEQUENCES[design], each, strict=True) for k in range(n)
            for p, a in enumerate(s)]  # fmt: skip
    y = np.exp(np.random.default_rng(2).normal(0, 0.3, len(rows)))
    ids, periods, arms = (list(column) for column in zip(*rows, strict=True))
    found = crossover(y, subject=ids, period=periods, treatment=arms)
    variance, df = contrast(design, each)
    assert (found.se**2 / found.mse, found.df) == pytest.approx((variance, df))


@pytest.mark.parametrize(("name", "treatments"), [("3x6x3", "RTU"), ("4x4", "RTUV")])
def test_williams_squares_are_balanced_for_what_came_before(name: str, treatments: str) -> None:
    for rows in (SEQUENCES[name], williams(treatments)):
        pairs = Counter(a + b for row in rows for a, b in pairwise(row))
        assert len(pairs) == len(treatments) * (len(treatments) - 1)
        assert len(set(pairs.values())) == 1
        assert all(sorted(column) == sorted(treatments * (len(rows) // len(treatments))) for column in zip(*rows))


def test_bioequivalence_simulated_and_by_integral() -> None:
    design = Design.read(EXAMPLES / "replicate_crossover.yaml")
    found = compared({"d": design}, replicates=8_000)
    assert [s.null.get("d") for s in found.scenarios] == [None, None, "global"]
    assert max(s.worst() for s in found.scenarios) < 3.5
    assert found.scenarios[2].exact["d"]["type_i_error"].value == pytest.approx(0.05, abs=1e-4)


def test_factorial_is_sized_by_the_noncentral_t() -> None:
    design = Design.read(EXAMPLES / "factorial.yaml")
    n = each_of(design)

    def power(size: int) -> float:
        df, critical = 4 * (size - 1), t.ppf(0.975, 4 * (size - 1))
        return float(nct.sf(critical, df, 0.3 * math.sqrt(size)))

    assert power(n) >= 0.9 > power(n - 1)


def test_factorial_simulated_and_exact() -> None:
    found = compared({"d": Design.read(EXAMPLES / "factorial.yaml")}, replicates=2500)
    by = {s.name: s for s in found.scenarios}
    assert max(s.worst() for s in found.scenarios) < 3.5
    assert by["antagonism"].exact["d"]["bias_vitamin"].value == pytest.approx(-0.1)
    assert by["one_works"].null["d"] == "partial"
    wrong = by["one_works"].estimates["d"]["type_i_error"]
    assert abs(wrong.value - 0.05) < 3.5 * wrong.mcse


def test_holm_rejects_what_bonferroni_does_and_more() -> None:
    text = (EXAMPLES / "factorial.yaml").read_text()
    both = {a: samples(Design.parse(text.replace("adjust: none", f"adjust: {a}")), Truth(arms={"aspirin": 0.15}),
                       seed=1, replicates=np.arange(800)) for a in ("holm", "bonferroni")}  # fmt: skip
    more, less = (both[a]["reject_aspirin"].values for a in ("holm", "bonferroni"))
    if each_of(Design.parse(text.replace("adjust: none", "adjust: holm"))) == each_of(
        Design.parse(text.replace("adjust: none", "adjust: bonferroni"))
    ):
        assert (more >= less).all()
        assert more.sum() > less.sum()


def test_arms_enter_and_leave() -> None:
    made = course((0, 6), (5, 5), 1)
    assert np.bincount(made.arm).tolist()[1:] == [5, 5]
    assert not (made.arm[:6] == 2).any()
    assert (made.period[:6] == 0).all()
    assert set(made.arm[made.period == made.period[-1]].tolist()) == {0, 2}
    late = course((0, 1000), (3, 3), 2)  # nobody is open after the first: the second enters at once
    assert np.bincount(late.arm).tolist() == [12, 3, 3]


def platform(analysis: str = "adjusted") -> Design:
    text = (EXAMPLES / "platform.yaml").read_text()
    return Design.parse(text.replace("analysis: adjusted", f"analysis: {analysis}"))


@pytest.mark.parametrize("analysis", ["adjusted", "concurrent", "pooled"])
def test_analysis_of_an_arm_is_least_squares(analysis: str) -> None:
    """Estimate, standard error and df of the second arm by numpy's lstsq on the rows it is about."""
    enters, sizes = (0, 40), (50, 50)
    made, fit = course(enters, sizes, 1), fit_of(enters, sizes, 1, arm=2, analysis=analysis)
    y = np.random.default_rng(4).normal(size=made.arm.size)
    rows = np.arange(made.arm.size) <= made.last[1]
    if analysis != "adjusted":
        rows &= made.arm != 1
    if analysis == "concurrent":
        rows &= np.isin(made.period, made.period[made.arm == 2])
    columns = [made.arm == 2, np.ones(made.arm.size)]
    if analysis == "adjusted":
        columns += [made.arm == 1, *(made.period == p for p in range(1, made.period.max() + 1))]
    x = np.column_stack(columns).astype(float)[rows]
    beta, rss, rank, _ = np.linalg.lstsq(x, y[rows], rcond=None)
    assert float(fit.weights @ y[fit.rows]) == pytest.approx(beta[0])
    assert fit.df == rows.sum() - rank
    assert fit.variance == pytest.approx(np.linalg.inv(x.T @ x)[0, 0])
    seen = y[fit.rows]
    assert float(seen @ seen - (fit.basis.T @ seen) @ (fit.basis.T @ seen)) == pytest.approx(float(rss[0]))


def test_exact_probability_without_drift_is_the_noncentral_t() -> None:
    fit = fit_of((0,), (30,), 1, arm=1, analysis="pooled")
    mean = np.where(course((0,), (30,), 1).arm == 1, 0.6, 0.0)
    found = reject_probability(fit, mean, sd=1.0, level=0.025)
    expected = nct.sf(t.ppf(0.975, fit.df), fit.df, 0.6 / math.sqrt(fit.variance))
    assert found == pytest.approx(expected, abs=1e-9)


def test_drift_shared_by_all_spares_the_adjusted_analysis_and_breaks_the_pooled() -> None:
    """Bofill Roig et al., BMC Med Res Methodol 2022;22:228: equal trends, linear or a step: the model with steps for
    periods holds the level; pooling does not. A trend of the first arm alone reaches the second arm's test.
    """
    nothing = {"first": 0.0, "second": 0.0}
    equal = [Truth(arms=nothing, trend=1.0, shape=s) for s in ("linear", "step", "inverted_u")]
    apart = Truth(arms=nothing, trends={"first": 1.0})
    for truth in equal:
        assert exact(platform(), truth)["reject_second"].value < 0.0255
        assert abs(exact(platform(), truth)["bias_second"].value) < 0.02
        assert exact(platform("concurrent"), truth)["reject_second"].value < 0.0255
    assert exact(platform("pooled"), equal[0])["reject_second"].value > 0.2
    biased = exact(platform(), apart)["bias_second"].value
    assert abs(biased) > 0.03
    assert abs(exact(platform("concurrent"), apart)["bias_second"].value) < 1e-12
    assert null_of(platform(), apart) == "global"


def test_platform_simulated_and_exact() -> None:
    found = compared({a: platform(a) for a in ("adjusted", "pooled")}, replicates=600)
    assert max(s.worst() for s in found.scenarios) < 3.8  # the largest of 40
    planned = {d.measure: d for d in found.scenarios[0].differences}
    assert planned["reject_second"].gain > 3


WRONG = [
    ("factorial", "{aspirin: 0, vitamin: 0}", "{asprin: 0}", "is no treatment"),
    ("platform", "trends: {first: 1}", "trends: {third: 1}", "is no arm"),
    ("platform", "      first: {effect: 0.4}", "      first: {effect: 0.4, enters: 3}", "no arm at the beginning"),
    ("platform", "trend: 1, shape: step", "cv: 1", "says nothing here"),
    ("replicate_crossover", "crossover: 2x2x4", "crossover: 5x5", "must be"),
    ("replicate_crossover", "{effect: 0.8}", "{effect: -0.1}", "ratio > 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "words"), WRONG)
def test_one_clear_error(name: str, old: str, new: str, words: str) -> None:
    text = (EXAMPLES / f"{name}.yaml").read_text()
    assert old in text
    with pytest.raises(InputError, match=words) as wrong:
        Design.parse(text.replace(old, new), "d.yaml")
    assert wrong.value.line
