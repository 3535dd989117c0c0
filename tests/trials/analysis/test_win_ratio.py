"""Witnesses: all pairs by a plain loop, the jackknife, the bootstrap, closed forms."""

import numpy as np
import pytest

from trials.analysis.survival_data import SurvivalStatus
from trials.analysis.win_ratio import Wins, net_benefit, timed, valued, win_odds, win_ratio, wins


def hierarchy(seed: int, n: int, m: int = 1) -> tuple[list, np.ndarray]:
    """Death, then admission, then a score, with censoring and ties: m replicates of n subjects."""
    rng = np.random.default_rng(seed)
    arm = np.tile(np.arange(n) % 2, (m, 1))
    until = rng.integers(5, 12, (m, n)).astype(float)
    death = rng.geometric(0.08, (m, n)) + 2.0 * arm * rng.integers(0, 3, (m, n))
    admitted = rng.geometric(0.15, (m, n)).astype(float)
    last = np.minimum(until, death)
    score = np.where(rng.random((m, n)) < 0.1, np.nan, rng.normal(0.2 * arm, 1.0, (m, n)))
    levels = [
        timed(last, death <= until), timed(np.minimum(admitted, last), admitted <= last),
        valued(score, margin=0.1),
    ]  # fmt: skip
    return levels, arm


def one_pair(levels: list, i: int, j: int) -> tuple[int, int]:
    """(level, 1 for i and -1 for j), said in words; (-1, 0) undecided."""
    for number, level in enumerate(levels):
        a, b = level.value[0, i], level.value[0, j]
        if not level.timed:
            if abs(a - b) > level.margin:
                return number, 1 if a > b else -1
            continue
        first, second = level.event[0, i], level.event[0, j]
        if second and (b < a or (b == a and not first)):
            return number, 1
        if first and (a < b or (a == b and not second)):
            return number, -1
    return -1, 0


def test_pairs_equal_a_plain_loop():
    levels, arm = hierarchy(1, 36)
    found = wins(levels, arm, arms=2)
    treated, control = np.flatnonzero(arm[0] == 1), np.flatnonzero(arm[0] == 0)
    won, lost = np.zeros(3), np.zeros(3)
    for i in treated:
        for j in control:
            level, sign = one_pair(levels, i, j)
            won[level] += sign > 0
            lost[level] += sign < 0
    pairs = treated.size * control.size
    np.testing.assert_allclose(found.won_at[0, 0], won / pairs, atol=1e-15)
    np.testing.assert_allclose(found.lost_at[0, 0], lost / pairs, atol=1e-15)
    assert (won > 0).all()


def without(levels: list, arm: np.ndarray, out: int) -> Wins:
    codes = arm.copy()
    codes[0, out] = -1
    return wins(levels, codes, arms=2)


def test_variance_of_the_net_benefit_is_the_jackknife():
    """Of a two-sample U-statistic: (n1-1)/n1 sum (W(-i) - W)^2 + (n0-1)/n0 sum (W(-j) - W)^2, exactly."""
    levels, arm = hierarchy(2, 30)
    whole = wins(levels, arm, arms=2)
    total = {"net": 0.0, "ratio": 0.0}
    for code in (0, 1):
        group = np.flatnonzero(arm[0] == code)
        left = [without(levels, arm, i) for i in group]
        net = np.array([(w.won - w.lost)[0, 0] for w in left]) - (whole.won - whole.lost)[0, 0]
        ratio = np.log([(w.won / w.lost)[0, 0] for w in left]) - np.log(whole.won / whole.lost)[0, 0]
        total["net"] += (group.size - 1) / group.size * np.sum(net**2)
        total["ratio"] += (group.size - 1) / group.size * np.sum(ratio**2)
    assert net_benefit(whole).se[0, 0] == pytest.approx(np.sqrt(total["net"]), rel=1e-12)
    assert win_ratio(whole).se[0, 0] == pytest.approx(np.sqrt(total["ratio"]), rel=0.05)  # not linear: near only


def test_standard_errors_are_those_of_the_bootstrap():
    """600 bootstrap samples within arms: the standard deviation of log win ratio and log win odds within 8 %."""
    levels, arm = hierarchy(3, 120)
    rng, again = np.random.default_rng(4), 600
    picked = np.concatenate([rng.choice(np.flatnonzero(arm[0] == code), (again, 60)) for code in (0, 1)], axis=1)
    samples = [
        type(v)(value=v.value[0][picked], event=v.event[0][picked], timed=v.timed, margin=v.margin) for v in levels
    ]
    drawn = wins(samples, np.repeat([[0, 1]], 60, axis=1) * np.ones((again, 1), int), arms=2)
    for compare in (win_ratio, win_odds, net_benefit):
        expected = compare(drawn).estimate.std()
        assert compare(wins(levels, arm, arms=2)).se[0, 0] == pytest.approx(expected, rel=0.08)


def test_no_censoring_no_ties_is_mann_whitney():
    """Win share = U/(n1 n0); win ratio, win odds and net benefit say the same then."""
    from scipy import stats

    rng = np.random.default_rng(5)
    values, arm = rng.normal(size=(1, 40)), np.array([[0, 1] * 20])
    found = wins([valued(values)], arm, arms=2)
    u = stats.mannwhitneyu(values[0, 1::2], values[0, ::2]).statistic
    assert found.won[0, 0] == pytest.approx(u / 400)
    assert win_ratio(found).estimate[0, 0] == pytest.approx(win_odds(found).estimate[0, 0])
    lower = wins([valued(values, better="lower")], arm, arms=2)
    assert lower.won[0, 0] == found.lost[0, 0]


def test_one_sided_contests_have_a_status():
    time, arm = np.array([[1.0, 5.0, 2.0, 6.0]]), np.array([[0, 1, 0, 1]])
    found = wins([timed(time, time < 4)], arm, arms=2)
    assert win_ratio(found).status[0, 0] == SurvivalStatus.NO_CONTEST
    assert not win_ratio(found).reject[0, 0]
    nothing = wins([timed(time, time < 0)], arm, arms=2)
    assert net_benefit(nothing).status[0, 0] == SurvivalStatus.NO_EVENTS
    assert win_ratio(wins([timed(time, time < 4)], 0 * arm, arms=2)).status[0, 0] == SurvivalStatus.NO_SUBJECTS
