"""Witness: identities of block randomisation; balance within half a block."""

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.design import complete, permuted_blocks


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
