"""Sample sizes beyond the truth tables: rpact 3.3.4 (alpha 0.025, beta 0.1 unless said), R's integrate, identities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from pkpd.ground.errors import InputError
from trials.designs.counts import Exposure, counts_power, counts_size
from trials.designs.sequential import Efficacy, Futility, Plan
from trials.designs.sequential_size import sequential_survival
from trials.designs.simulate import score_z
from trials.designs.sizes import (
    Error,
    binomial_size,
    equivalence_power,
    equivalence_size,
    means_power,
    means_size,
    proportions_size,
    restricted,
)
from trials.designs.survival import NONE, Accrual, Hazard, Times, events_needed, survival_size

ERROR = Error()
TWELVE = Accrual.uniform(12.0)
MEDIAN = Hazard.median(12.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"treated": 0.4, "control": 0.2, "measure": "ratio"}, 216.471079),  # riskRatio = TRUE
        ({"treated": 0.5, "control": 0.5, "null": 0.8, "measure": "ratio"}, 854.947845),  # riskRatio, thetaH0 = .8
        ({"treated": 0.75, "control": 0.8, "null": -0.1, "ratio": 2.0}, 3095.14746),  # thetaH0 = -.1, allocation 2
        ({"treated": 0.1, "control": 0.25}, 265.511402),
    ],
)
def test_proportions_as_rpact(given: dict, expected: float) -> None:
    assert proportions_size(ERROR, **given).total == pytest.approx(expected, rel=1e-7)


def test_one_group_as_rpact() -> None:
    """getSampleSizeMeans(groups = 1, thetaH0 = .2, alternative = .6, stDev = 1.1); Rates(groups = 1, .3, .5)."""
    assert means_size(ERROR, effect=0.6, sd=1.1, margin=0.2, groups=1).total == pytest.approx(81.4074386, rel=1e-7)
    assert binomial_size(ERROR, rate=0.5, null=0.3, exact=False).total == pytest.approx(59.2087247, rel=1e-7)
    assert binomial_size(ERROR, rate=0.5, null=0.3).total == 66  # normalApproximation = FALSE
    assert binomial_size(ERROR, rate=0.5, null=0.7).total == 66  # the mirror image


SURVIVAL = [
    # hazardRatio = .7, median2 = 12, accrualTime = 12, followUpTime = 12, allocationRatioPlanned = 2
    (0.7, MEDIAN, TWELVE, {"method": "hsieh_freedman", "ratio": 2.0}, (NONE, NONE), 379.580658, 684.386654),
    (0.7, MEDIAN, TWELVE, {"method": "freedman", "ratio": 2.0}, (NONE, NONE), 336.237538, 606.238697),
    # piecewiseSurvivalTime = c(0,6,12), lambda2 = c(.1,.05,.02), accrualTime = c(0,6,12), accrualIntensity = c(.2,.8)
    # relative, dropoutRate1 = .1, dropoutRate2 = .05, dropoutTime = 12
    (0.7, Hazard(starts=(0, 6, 12), rates=(0.1, 0.05, 0.02)), Accrual(times=(0, 6, 12), intensities=(0.2, 0.8)), {},
     (Hazard.share(0.1, 12), Hazard.share(0.05, 12)), 330.377914, 606.648285),
    (0.8, MEDIAN, TWELVE, {"null": 1.2}, (NONE, NONE), 255.652024, 426.636818),  # thetaH0 = 1.2
    (1.4, MEDIAN, TWELVE, {"ratio": 2.0}, (NONE, NONE), 417.647862, 581.604398),
]  # fmt: skip


@pytest.mark.parametrize(("ratio", "control", "accrual", "given", "dropout", "events", "subjects"), SURVIVAL)
def test_survival_as_rpact(ratio, control, accrual, given, dropout, events, subjects) -> None:
    needed = events_needed(ERROR, hazard_ratio=ratio, **given)
    times = Times(
        treated=control.times(ratio), control=control, accrual=accrual, ratio=given.get("ratio", 1.0),
        dropout_treated=dropout[0], dropout_control=dropout[1],
    )  # fmt: skip
    assert needed == pytest.approx(events, rel=1e-7)
    assert survival_size(needed, times, follow_up=12.0).subjects.total == pytest.approx(subjects, rel=1e-7)


def test_follow_up_is_solved_from_the_subjects_as_rpact() -> None:
    """getSampleSizeSurvival(median1 = 20, median2 = 12, accrualTime = 12, maxNumberOfSubjects = 250)."""
    times = Times(treated=Hazard.median(20.0), control=MEDIAN, accrual=TWELVE)
    found = survival_size(events_needed(ERROR, hazard_ratio=0.6), times, subjects=250.0)
    assert found.follow_up == pytest.approx(17.4067787, abs=1e-6)
    with pytest.raises(InputError, match="never give"):
        survival_size(300.0, times, subjects=250.0)


def test_sequential_survival_with_everything_as_rpact() -> None:
    """asOF with bsP at c(.4,.7,1), HR .65, hazards, accrual and dropout in pieces, 2 to 1, followUpTime = 10."""
    plan = Plan(
        information=(0.4, 0.7, 1.0), efficacy=Efficacy(spending="lan_demets_obrien_fleming"),
        futility=Futility(spending="lan_demets_pocock"),
    )  # fmt: skip
    control = Hazard(starts=(0, 6, 12), rates=(0.1, 0.05, 0.02))
    times = Times(
        treated=control.times(0.65), control=control, accrual=Accrual(times=(0, 6, 12), intensities=(0.2, 0.8)), ratio=2.0,
        dropout_treated=Hazard.share(0.1, 12), dropout_control=Hazard.share(0.05, 12),
    )  # fmt: skip
    found = sequential_survival(plan, times, hazard_ratio=0.65, follow_up=10.0)
    events = found.events
    got = [found.subjects.total, events.maximum, events.expected_null, events.expected_half, events.expected_effect]
    assert got == pytest.approx([640.534985, 313.66657, 155.866579, 219.897713, 221.330008], rel=1e-6)
    assert found.times == pytest.approx([11.10584, 14.3665539, 22.0], rel=1e-6)
    assert (found.expected_duration, found.expected_subjects) == pytest.approx((15.3487007, 625.88097), rel=1e-6)


@pytest.mark.parametrize(
    ("cv", "n", "ratio", "power"),
    [(0.05, 4, 1.0, 0.9630012), (0.1, 6, 0.95, 0.7745328), (0.6, 140, 0.95, 0.8185334), (1.0, 210, 1.0, 0.7254359)],
)
def test_equivalence_power_by_another_integral(cv: float, n: int, ratio: float, power: float) -> None:
    """R: integrate((pnorm((L - log th)/se - t s) - pnorm((-L - log th)/se + t s)) 2 df s dchisq(df s^2, df), 0, L/(t se))."""
    sd, limit = np.log1p(cv**2) ** 0.5, np.log(1.25)
    found = equivalence_power(2 / n, n - 2, effect=np.log(ratio), sd=sd, lower=-limit, upper=limit)
    assert found == pytest.approx(power, abs=1e-7)


def test_smallest_equivalence_trials() -> None:
    limit = np.log(1.25)
    error = Error(alpha=0.05, power=0.8)
    for cv, n in ((0.05, 4), (0.1, 8)):  # power at 4 and at 6 is 0.963 and 0.775
        sd = np.log1p(cv**2) ** 0.5
        found = equivalence_size(
            error, effect=np.log(0.95 if n == 8 else 1), sd=sd, lower=-limit, upper=limit, crossover=True
        )
        assert found.total == n


@pytest.mark.parametrize("effect", [10.0, 2.0, 0.3, 0.001, -0.5])
def test_the_size_has_the_power(effect: float) -> None:
    size = means_size(ERROR, effect=effect, sd=1.0, ratio=1.5)
    assert means_power(size.total, effect=effect, sd=1.0, ratio=1.5) == pytest.approx(0.9, abs=1e-8)


def test_restricted_rates_maximise_the_likelihood() -> None:
    """Identity: no rates on the line p1 - p2 = -0.1 (p1/p2 = 0.8) are likelier than the restricted ones."""
    for p1, p2, r in ((0.7, 0.9, 1.0), (0.0, 0.3, 2.0), (1.0, 1.0, 0.5), (0.95, 0.9, 1.0)):
        for null, measure in ((-0.1, "difference"), (0.8, "ratio")):
            best = float(restricted(p1, p2, null, r, measure=measure)[1])
            grid = np.linspace(0.1001 if measure == "difference" else 0.0001, 0.9999, 2001)
            first = grid + null if measure == "difference" else null * grid
            with np.errstate(divide="ignore"):
                likely = (
                    r * (p1 * np.log(first) + (1 - p1) * np.log1p(-first))
                    + p2 * np.log(grid)
                    + (1 - p2) * np.log1p(-grid)
                )
            assert grid[np.argmax(likely)] == pytest.approx(best, abs=1e-3)


def test_score_statistic_of_nothing_is_nothing() -> None:
    n = (np.array([50.0]), np.array([50.0]))
    assert score_z(np.array([0.0]), np.array([0.0]), n)[0] == 0.0
    assert score_z(np.array([0.4]), np.array([0.2]), n)[0] == pytest.approx(0.2 / np.sqrt(0.3 * 0.7 * 0.04))


def test_information_of_counts_with_accrual_and_dropout() -> None:
    """E[1/(1/(rate t) + k)] by scipy's quad over entry and dropout; a short accrual is the fixed time."""
    rate, k, leave = 0.8, 0.4, 0.3
    spread = Exposure(accrual=Accrual.uniform(2.0), follow_up=1.0, dropout=Hazard.constant(leave))

    def of(t: float) -> float:
        return rate * t / (1 + k * rate * t)

    def until(planned: float) -> float:
        lost = quad(lambda t: leave * np.exp(-leave * t) * of(t), 0, planned)[0]
        return lost + np.exp(-leave * planned) * of(planned)

    expected = quad(lambda entry: until(3.0 - entry) / 2.0, 0, 2)[0]
    assert spread.information(rate, k) == pytest.approx(expected, rel=1e-9)
    short = Exposure(accrual=Accrual.uniform(1e-9), follow_up=1.0)
    assert short.information(rate, k) == pytest.approx(Exposure(fixed=1.0).information(rate, k), rel=1e-8)
    given = {"control": 1.0, "rate_ratio": 0.7, "overdispersion": k, "exposure": spread}
    assert counts_power(counts_size(ERROR, **given).total, **given) == pytest.approx(0.9, abs=1e-9)
