"""Witness: identities of block randomisation; balance within half a block."""

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.design import complete, imbalance, minimised, permuted_blocks


def strata_of(replicates, subjects, levels=3):
    """Strata without a generator: a fixed irregular sequence."""
    r, s = np.ogrid[:replicates, :subjects]
    return ((r * 7919 + s * s * 104729 + s * 31) % 1009) % levels


def test_every_complete_block_holds_the_exact_ratio():
    strata = strata_of(20, 120)
    arm = permuted_blocks(strata, [1, 2, 1], size=8, seed=3, replicate=np.arange(20))
    for r in range(20):
        for level in range(3):
            own = arm[r][strata[r] == level]
            for block in range(own.size // 8):
                assert np.bincount(own[8 * block : 8 * block + 8], minlength=3).tolist() == [2, 4, 2]


def test_imbalance_stays_within_a_block_at_any_time():
    arm = permuted_blocks(np.zeros((50, 100), int), [1, 1], size=4, seed=1, replicate=np.arange(50))
    assert np.abs(np.cumsum(1 - 2 * arm.astype(int), axis=1)).max() == 2


def test_permutations_are_equally_likely():
    """Six orders of AABB: chi-square with 5 df, 0.1 % critical value 20.5."""
    arm = permuted_blocks(np.zeros((1, 4 * 3000), int), [1, 1], size=4, seed=9, replicate=[5]).reshape(-1, 4)
    _, counts = np.unique(arm, axis=0, return_counts=True)
    assert counts.size == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5


def test_a_replicate_does_not_know_its_batch_nor_later_subjects():
    strata = strata_of(8, 60)
    whole = permuted_blocks(strata, [1, 1, 1], size=6, seed=11, replicate=np.arange(8))
    part = permuted_blocks(strata[[6, 2], :31], [1, 1, 1], size=6, seed=11, replicate=[6, 2])
    np.testing.assert_array_equal(part, whole[[6, 2], :31])
    other = permuted_blocks(strata, [1, 1, 1], size=6, seed=12, replicate=np.arange(8))
    assert (other != whole).mean() > 0.5
    assert (whole[0] != whole[1]).any()


def test_subjects_not_enrolled_take_no_place():
    strata = strata_of(4, 60)
    holes = strata.copy()
    holes[:, ::5] = -1
    arm = permuted_blocks(holes, [1, 1], size=4, seed=1, replicate=np.arange(4))
    assert (arm[:, ::5] == -1).all()
    keep = np.ones(60, bool)
    keep[::5] = False
    np.testing.assert_array_equal(
        arm[:, keep], permuted_blocks(strata[:, keep], [1, 1], size=4, seed=1, replicate=np.arange(4))
    )


def test_complete_randomisation_has_the_ratio():
    strata = np.zeros((10, 3000), int)
    strata[:, 0] = -1
    arm = complete(strata, [1, 3], seed=2, replicate=np.arange(10))
    assert (arm[:, 0] == -1).all()
    share = (arm[:, 1:] == 1).mean()
    assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 29990))
    np.testing.assert_array_equal(arm[[7]], complete(strata[[7]], [1, 3], seed=2, replicate=[7]))


def test_an_arm_with_ratio_0_gets_nobody():
    assert set(np.unique(complete(np.zeros((2, 500), int), [1, 0, 1], seed=2, replicate=[0, 1]))) == {0, 2}


@pytest.mark.parametrize(
    ("ratios", "size", "match"),
    [([1, 1], 3, "multiple"), ([1, 1], 0, "multiple"), ([0, 0], 4, "all be 0"), ([1.5, 1], 4, "whole"),
     ([-1, 2], 4, "whole")],
)  # fmt: skip
def test_bad_allocations(ratios, size, match):
    with pytest.raises(InputError, match=match):
        permuted_blocks(np.zeros((1, 4), int), ratios, size=size, seed=1, replicate=[0])


def factors_of(replicates: int, subjects: int) -> np.ndarray:
    """Two, three and four levels, an irregular sequence."""
    return np.stack([strata_of(replicates, subjects + k, levels)[:, k:] for k, levels in enumerate((2, 3, 4))], axis=2)


def slow_minimisation(factors: np.ndarray, p: float, u: np.ndarray, arms: int) -> list[int]:
    """Pocock & Simon 1975 with the range, one subject after the other, in plain Python."""
    seen: list[tuple[tuple[int, ...], int]] = []
    for s, levels in enumerate(factors.tolist()):
        scores = []
        for arm in range(arms):
            total = 0
            for f, level in enumerate(levels):
                n = [sum(1 for past, a in seen if past[f] == level and a == k) + (k == arm) for k in range(arms)]
                total += max(n) - min(n)
            scores.append(total)
        best = [a for a in range(arms) if scores[a] == min(scores)]
        chance = [
            1 / arms if len(best) == arms else p / len(best) if a in best else (1 - p) / (arms - len(best))
            for a in range(arms)
        ]
        given = int(np.searchsorted(np.cumsum(chance), u[s], side="right"))
        seen.append((tuple(levels), min(given, arms - 1)))
    return [a for _, a in seen]


def test_minimisation_is_that_of_pocock_and_simon():
    factors, where = factors_of(3, 60), {"subject": np.arange(60), "replicate": np.arange(3)[:, None]}
    u = uniforms(5, Purpose.ALLOCATION, **where)
    for arms in (2, 3):
        found = minimised(factors, [1] * arms, probability=0.8, seed=5, replicate=np.arange(3))
        for r in range(3):
            assert found[r].tolist() == slow_minimisation(factors[r], 0.8, u[r], arms)


def test_one_level_is_efrons_biased_coin():
    """Efron, Biometrika 1971;58:403: with p = 2/3 and even n the limit of P(no imbalance) is 1/2; variance stays bounded."""
    found = minimised(np.zeros((6000, 60, 1), int), [1, 1], probability=2 / 3, seed=2, replicate=np.arange(6000))
    difference = np.abs(60 - 2 * found.sum(axis=1, dtype=int))
    assert abs((difference == 0).mean() - 0.5) < 3.5 * 0.5 / np.sqrt(6000)
    assert abs((difference == 2).mean() - 0.375) < 3.5 * 0.49 / np.sqrt(6000)


def test_minimisation_balances_every_factor_better_than_blocks_within_cells():
    """Margins of 3 factors (24 cells) with 60 subjects; Pocock & Simon's reason for the method."""
    factors, which = factors_of(200, 60), np.arange(200)
    cell = factors[:, :, 0] * 12 + factors[:, :, 1] * 4 + factors[:, :, 2]
    arms = {
        "complete": complete(cell, [1, 1], seed=3, replicate=which),
        "blocks": permuted_blocks(cell, [1, 1], size=4, seed=3, replicate=which),
        "minimised": minimised(factors, [1, 1], probability=0.8, seed=3, replicate=which),
    }
    worst = {name: imbalance(arm, factors, [1, 1]).mean() for name, arm in arms.items()}
    assert worst["minimised"] < worst["blocks"] < worst["complete"]


def test_unequal_ratios_have_their_chance_at_every_subject():
    """Kuznetsova & Tymofyeyev 2012: 2:1 from the first subject on, P(first arm) = 2/3 for each."""
    factors = factors_of(4000, 9)
    arm = minimised(factors, [2, 1], probability=0.9, seed=8, replicate=np.arange(4000))
    assert np.abs((arm == 0).mean(axis=0) - 2 / 3).max() < 3.9 * np.sqrt(2 / 9 / 4000)


def test_minimised_replicates_do_not_know_their_batch_nor_who_is_not_enrolled():
    factors, which = factors_of(5, 40), np.arange(5)
    whole = minimised(factors, [1, 1], seed=4, replicate=which)
    np.testing.assert_array_equal(minimised(factors[[3, 1], :25], [1, 1], seed=4, replicate=[3, 1]), whole[[3, 1], :25])
    absent = factors.copy()
    absent[:, 20:, 1] = -1
    without = minimised(absent, [1, 1], seed=4, replicate=which)
    assert (without[:, 20:] == -1).all()
    np.testing.assert_array_equal(without[:, :20], whole[:, :20])
    with pytest.raises(InputError, match="equal share"):
        minimised(factors, [1, 1], probability=0.3, seed=4, replicate=which)
