"""Adaptive rules are pure functions: tables of examples; the closed test against its definition; size at the null."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from pkpd.ground.errors import InputError
from trials.designs.adaptive import (
    Combination,
    Interim,
    Reestimation,
    conditional_power,
    reestimated,
    simulated_reestimation,
)
from trials.designs.closed import adjusted, intersections, rejected
from trials.designs.combination import FisherPlan, inverse_normal, stage_weights
from trials.designs.selection import Choice, chosen, simulated_arms_means, simulated_enrichment
from trials.designs.sequential import Efficacy, Futility, Plan, boundaries, evenly
from trials.designs.simulate import Instruction, Stages, decide, simulated_means, simulated_rates
from trials.designs.simulate_survival import simulated_survival
from trials.designs.sizes import Error, equivalence_power, means_size
from trials.designs.survival import Accrual, Hazard, Times
from trials.kernels.summary import log_rank

OBF = Efficacy(spending="lan_demets_obrien_fleming")
TWO = boundaries(Plan(information=evenly(2), efficacy=OBF))
THREE = boundaries(Plan(information=evenly(3), efficacy=OBF, futility=Futility(z=(0.0, 0.5))))
GO, YES, NO = Instruction.GO_ON, Instruction.REJECT, Instruction.FUTILE


@pytest.mark.parametrize(
    ("look", "z", "said"),
    [(0, 3.72, YES), (0, 3.70, GO), (0, 0.0, NO), (0, 0.01, GO), (1, 2.52, YES), (1, 0.5, NO), (2, 1.9931, YES), (2, 1.9930, NO)],
)  # fmt: skip
def test_group_sequential_instructions(look: int, z: float, said: Instruction) -> None:
    """Bounds 3.7103, 2.5114, 1.99305 (rpact, gs_boundaries.csv asOF_K3), futility at 0 and 0.5."""
    assert decide(THREE, look, np.array([z]))[0] == said


@pytest.mark.parametrize(
    ("rule", "active", "goes_on"),
    [
        (Choice(), (1, 1, 1), (0, 1, 0)),
        (Choice(), (1, 0, 1), (0, 0, 1)),
        (Choice(kind="best_of", number=2), (1, 1, 1), (0, 1, 1)),
        (Choice(kind="best_of", number=5), (1, 1, 0), (1, 1, 0)),
        (Choice(kind="within", epsilon=0.11), (1, 1, 1), (0, 1, 1)),
        (Choice(kind="all"), (1, 0, 1), (1, 0, 1)),
        (Choice(kind="all", threshold=0.15), (1, 1, 1), (0, 1, 1)),
        (Choice(threshold=0.9), (1, 1, 1), (0, 0, 0)),
    ],
)
def test_choices(rule: Choice, active: tuple[int, ...], goes_on: tuple[int, ...]) -> None:
    effects = np.array([[0.1, 0.5, 0.4]])
    assert chosen(rule, effects, np.array([active], dtype=bool)).astype(int).tolist() == [list(goes_on)]


def test_lots_decide_between_equals() -> None:
    effects, still = np.array([[0.5, 0.5], [0.5, 0.5]]), np.ones((2, 2), bool)
    assert chosen(Choice(), effects, still, np.array([[0.9, 0.1], [0.1, 0.9]])).tolist() == [
        [False, True],
        [True, False],
    ]


def test_the_size_asked_has_the_conditional_power() -> None:
    """Identity: at the size the rule asks for, conditional power at the observed effect is what was asked."""
    for test in (Combination(bounds=TWO), Combination(fisher=FisherPlan())):
        seen = Interim(look=0, z=np.array([[1.2], [2.0]]), effect=np.array([0.3, 0.5]))
        rule = Reestimation(power=0.85, least=(1, 1), most=(1e6, 1e6), whole=False)
        n = reestimated(rule, test, seen)
        assert conditional_power(test, seen, n, effect=seen.effect) == pytest.approx([0.85, 0.85], abs=1e-9)


def test_inverse_normal_of_planned_stages_is_the_pooled_z() -> None:
    """Identity: with stage sizes as planned the combined z is that of all data."""
    z = np.array([[0.4, 1.1, -0.3]])
    sizes = np.array([30.0, 45.0, 75.0])
    pooled = np.cumsum(z * np.sqrt(sizes), axis=1) / np.sqrt(np.cumsum(sizes))
    assert inverse_normal(norm.sf(z), [0.2, 0.5, 1.0]) == pytest.approx(pooled, abs=1e-9)


def test_dunnett_intersection_is_the_multivariate_normal() -> None:
    """Unequal arms: P(max >= m) with rho_ij = l_i l_j, scipy."""
    load = np.array([[0.6, 0.7, 0.8]])
    rho = load.T @ load
    np.fill_diagonal(rho, 1.0)
    z = np.array([[0.3, 1.9, 1.2]])
    expected = 1 - multivariate_normal.cdf(np.full(3, 1.9), np.zeros(3), rho, abseps=1e-8)
    assert adjusted("dunnett", z, np.ones((1, 3), bool), load)[0] == pytest.approx(expected, abs=1e-6)
    p = norm.sf([0.3, 1.9, 1.2])
    everyone = np.ones((1, 3), bool)
    assert adjusted("bonferroni", z, everyone, load)[0] == pytest.approx(3 * p.min())
    assert adjusted("sidak", z, everyone, load)[0] == pytest.approx(1 - (1 - p.min()) ** 3)
    assert adjusted("simes", z, everyone, load)[0] == pytest.approx(min(3 * np.sort(p) / np.arange(1, 4)))
    assert adjusted("hierarchical", z, everyone, load)[0] == pytest.approx(p[0])


def test_closed_test_by_its_definition() -> None:
    """One replicate by hand: a hypothesis falls when all intersections that hold it have fallen, at any look."""
    rng_free = np.linspace(-0.5, 3.4, 12).reshape(2, 2, 3)[:, :, ::-1]
    active = np.ones(rng_free.shape, bool)
    active[:, 1, 0] = False
    load, weights = np.full(rng_free.shape, np.sqrt(0.5)), stage_weights(evenly(2))
    found = rejected("bonferroni", rng_free, active, load, weights=weights, critical=TWO.upper)
    for r, look, h in itertools.product(range(2), range(2), range(3)):
        fallen = []
        for members in intersections(3):
            if not members[h]:
                continue
            total, ever = 0.0, False
            for k in range(look + 1):
                inside = members & active[r, k]
                if not inside.any():
                    break
                p = min(1 - 1e-16, inside.sum() * norm.sf(rng_free[r, k, inside].max()))
                total += weights[k] * norm.isf(p)
                ever |= total / np.sqrt(np.sum(weights[: k + 1] ** 2)) >= TWO.upper[k]
            fallen.append(ever)
        assert found[r, look, h] == all(fallen), (r, look, h)


def test_log_rank_of_a_published_example() -> None:
    """Freireich's 6-MP data (Cox 1972; 21 pairs): survival::survdiff gives O = 9, E = 19.25, variance 6.2570."""
    treated = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    died = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    time = np.array(treated + placebo, dtype=np.float64)
    event = np.array(died + [1] * 21, dtype=bool)
    arm = np.array([1] * 21 + [0] * 21, dtype=np.int64)
    excess, variance = log_rank(time, event, np.argsort(time), arm)
    assert (excess, variance) == pytest.approx((9 - 19.2505, 6.2570), abs=5e-4)


def test_turns_are_taken_in_proportion() -> None:
    stages = Stages.two_arms([30, 60], ratio=2.0)
    assert stages.size.tolist() == [[10, 20], [10, 20]]
    assert np.bincount(stages.arm[:15]).tolist() == [5, 10]
    assert np.all(np.diff(stages.stage) >= 0)


def test_replicates_do_not_depend_on_each_other() -> None:
    """Chance by address: replicates 5 to 7 alone are those of a run of ten."""
    control = Hazard.median(12.0)
    times = Times(treated=control.times(0.6), control=control, accrual=Accrual.uniform(6.0))
    for run in (
        lambda which: simulated_means(THREE, [20, 40, 60], effect=0.5, seed=3, replicates=which).subjects,
        lambda which: simulated_rates(THREE, [40, 80, 120], treated=0.5, control=0.3, seed=3, replicates=which).subjects,
        lambda which: simulated_survival(THREE, [10, 20, 30], times, subjects=50, seed=3, replicates=which).time,
        lambda which: simulated_enrichment(TWO, [40, 40], prevalence=0.4, effects=(0.5, 0.1), choice=Choice(), seed=3, replicates=which).reject,
        lambda which: simulated_reestimation(Combination(bounds=TWO), Reestimation(power=0.8, least=(20, 20), most=(20, 90)), [20, 40], effect=0.5, seed=3, replicates=which).subjects,
    ):  # fmt: skip
        assert np.array_equal(run(10)[5:8], run(np.array([5, 6, 7])))


def test_type_one_error_at_the_null() -> None:
    """Exact procedures: within 3.3 MCSE of 0.025 at 20,000 null trials; closed tests at most that."""
    runs = {"seed": 77, "replicates": 20_000}
    fisher = Combination(fisher=FisherPlan(information=evenly(2), futility=(0.6,)))
    rule = Reestimation(power=0.9, least=(10, 20), most=(10, 200))
    exact = [
        simulated_means(THREE, [30, 60, 90], effect=0.0, test="z", **runs).power,
        simulated_reestimation(Combination(bounds=TWO), rule, [40, 80], effect=0.0, statistic="t", **runs).power,
        simulated_reestimation(fisher, rule, [40, 80], effect=0.0, **runs).power,
    ]
    assert exact[0].value < 0.025 + 3.3 * exact[0].mcse  # its futility bounds are not binding
    for found in exact[1:]:
        assert abs(found.value - 0.025) < 3.3 * found.mcse
    arms = simulated_arms_means(
        TWO, [[20] * 4] * 2, effects=(0, 0, 0), choice=Choice(kind="within", epsilon=0.2), **runs
    )
    subgroup = simulated_enrichment(TWO, [60, 60], prevalence=0.3, effects=(0, 0), choice=Choice(), **runs)
    for selected in (arms, subgroup):
        assert selected.power.value < 0.025 + 3.3 * selected.power.mcse


@pytest.mark.parametrize(("cv", "n", "power"), [(0.2, 20, 0.834680), (0.25, 28, 0.807439), (0.3, 40, 0.815845)])
def test_equivalence_power_as_published(cv: float, n: int, power: float) -> None:
    """2x2 crossover, ratio 0.95: sampleN.TOST(CV) of R's PowerTOST (its documentation)."""
    sd, limit = np.sqrt(np.log1p(cv**2)), np.log(1.25)
    found = equivalence_power(2 / n, n - 2, effect=np.log(0.95), sd=sd, lower=-limit, upper=limit)
    assert found == pytest.approx(power, abs=2e-6)


@pytest.mark.parametrize(("ratio", "field"), [(0.0, "ratio"), (-1.0, "ratio")])
def test_sizes_refuse_what_makes_no_sense(ratio: float, field: str) -> None:
    with pytest.raises(InputError) as wrong:
        means_size(Error(), effect=0.5, sd=1.0, ratio=ratio)
    assert wrong.value.field == field
