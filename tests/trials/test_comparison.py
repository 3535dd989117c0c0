"""Paired differences of designs: closed forms and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trials.compared import _worth
from trials.comparison import Sample, contrasted, estimated, scenario
from trials.designs.text_scenarios import Costs

RNG = np.random.default_rng(7)


def share(values: np.ndarray) -> Sample:
    return Sample(label="x", values=values.astype(np.float64), kind="share")


def test_error_of_a_difference_of_shares_is_that_of_discordant_pairs() -> None:
    """McNemar: var(p1 - p2) = (b + c - (b - c)^2/n)/n^2, with n - 1 for n in the outer division."""
    a, b = RNG.random(500) < 0.6, RNG.random(500) < 0.5
    found, unpaired = contrasted(share(a), share(b))
    n, only_a, only_b = 500, int((a & ~b).sum()), int((~a & b).sum())
    assert found.value == pytest.approx((only_a - only_b) / n)
    assert found.mcse**2 == pytest.approx((only_a + only_b - (only_a - only_b) ** 2 / n) / (n * (n - 1)))
    assert unpaired == pytest.approx(math.hypot(estimated(share(a)).mcse, estimated(share(b)).mcse))


def test_shares_that_never_differ_are_not_known_to_be_equal() -> None:
    same = share(np.array([True, False] * 50))
    found, unpaired = contrasted(same, same)
    assert found.value == 0
    assert 0 < found.mcse < unpaired


def test_shares_that_always_differ_are_not_known_exactly() -> None:
    """One design rejects in all of 50 trials, the other in none: the difference is 1 with the error of half a pair."""
    found, _ = contrasted(share(np.ones(50)), share(np.zeros(50)))
    assert found.value == 1.0
    assert found.mcse == pytest.approx(math.sqrt(0.5 / 51 / 50))


def test_a_decision_to_stop_is_no_success() -> None:
    """Net value of a protocol that decides to stop in all of its trials, whatever is decided first: its cost."""
    out = {
        name: Sample(label=name, values=np.full(4, value), kind="share")
        for name, value in (("decide_stop", 1.0), ("decide_go", 0.0), ("reject", 1.0), ("subjects", 10.0))
    }
    out["duration"] = Sample(label="days", values=np.zeros(4))
    costs = Costs(subject=2.0, value=100.0)
    assert _worth(out, costs)["net"].values.tolist() == [-20.0] * 4
    del out["decide_go"]
    assert _worth(out, costs)["net"].values.tolist() == [80.0] * 4


def test_pairing_leaves_what_is_not_common() -> None:
    """x = c + e, y = c + f with var c = 9, var e = var f = 1: the variance ratio is 20/2."""
    common, own = RNG.normal(0, 3, 20_000), RNG.normal(0, 1, (2, 20_000))
    made = {n: {"m": Sample(label="m", values=common + e)} for n, e in zip("ab", own, strict=True)}
    (found,) = scenario("s", made).differences
    assert (found.design, found.against) == ("b", "a")
    assert found.gain == pytest.approx(10, rel=0.05)


def test_paired_quantiles_against_repetition() -> None:
    """The standard deviation of the difference of medians over 400 repetitions of 300 correlated pairs."""
    common, own = RNG.normal(0, 1, (400, 300, 1)), RNG.normal(0, 0.5, (400, 300, 2))
    x = common + own
    spread = float(np.diff(np.median(x, axis=1), axis=1).std(ddof=1))
    errors = [
        contrasted(*(Sample(label="", values=x[i, :, k], kind="quantile", q=0.5) for k in (1, 0)))[0].mcse
        for i in range(40)
    ]
    assert np.mean(errors) == pytest.approx(spread, rel=0.12)
    apart = np.mean([contrasted(*(Sample(label="", values=x[i, :, k], kind="quantile") for k in (1, 0)))[1]
                     for i in range(40)])  # fmt: skip
    assert apart > 1.5 * spread


def test_what_a_trial_does_not_have_is_left_out_of_its_pair() -> None:
    a = Sample(label="", values=np.array([1.0, 2.0, np.nan, 4.0]))
    b = Sample(label="", values=np.array([0.0, np.nan, 1.0, 2.0]))
    found, _ = contrasted(a, b)
    assert (found.value, found.n, found.failed) == (1.5, 2, 2)
