"""Allocation of enrolled subjects to arms, by address, in order of enrolment; vectorised over replicates.

Subjects stand along the last axis in order of enrolment. A subject's arm depends on (seed, replicate) and on the strata
of the subjects before it in its replicate, on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

__all__ = ["complete", "permuted_blocks"]

Arms = NDArray[np.int16]


def _ratios(ratios: Sequence[int]) -> NDArray[np.int64]:
    shares = np.asarray(ratios)
    if shares.ndim != 1 or shares.size < 1 or not (shares == np.floor(shares)).all() or shares.min() < 0:
        raise InputError("ratios must be whole numbers >= 0, one per arm", field="allocation", value=list(ratios))
    if shares.sum() == 0:
        raise InputError("ratios must not all be 0", field="allocation", value=list(ratios))
    return shares.astype(np.int64)


def permuted_blocks(strata: ArrayLike, ratios: Sequence[int], *, size: int, seed: int, replicate: ArrayLike) -> Arms:
    """Arms (R, N) int16 by permuted blocks of `size` within each stratum; strata (R, N) codes, -1 = not enrolled.

    Each complete block of a stratum holds every arm in the exact ratio, in random order; `size` must be a multiple of
    the ratios' sum. Arm -1 where the stratum is -1. Address: subject = place in block, index = block, slot = stratum.

    >>> sorted(permuted_blocks([[0] * 4], [1, 1], size=4, seed=1, replicate=[0])[0].tolist())
    [0, 0, 1, 1]
    """
    shares, cells = _ratios(ratios), np.asarray(strata, dtype=np.int64)
    if size <= 0 or size % int(shares.sum()):
        raise InputError(
            f"must be a positive multiple of the ratios' sum {int(shares.sum())}", field="allocation.size", value=size,
            remedy="choose a block size that holds every arm in its ratio",
        )  # fmt: skip
    names = _replicates(replicate, cells)
    deck = np.repeat(np.arange(shares.size, dtype=np.int16), shares * (size // int(shares.sum())))
    arm = np.full(cells.shape, -1, dtype=np.int16)
    for stratum in np.unique(cells[cells >= 0]).tolist():
        members = cells == stratum
        order = np.cumsum(members, axis=-1) - 1
        blocks = -(-int(order.max() + 1) // size)
        dealt = _deal(deck, seed, names, blocks=blocks, stratum=stratum)
        arm[members] = np.take_along_axis(dealt, np.maximum(order, 0), axis=-1)[members]
    return arm


def _replicates(replicate: ArrayLike, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    names = np.asarray(replicate, dtype=np.int64)
    if cells.ndim != 2 or names.shape != cells.shape[:1]:
        raise InputError("must be (R,) beside strata (R, N)", field="replicate", value=f"{names.shape}, {cells.shape}")
    return names


def _deal(deck: Arms, seed: int, replicate: NDArray[np.int64], *, blocks: int, stratum: int) -> Arms:
    """The arms of a stratum in order, (R, blocks * size): each block's deck in the order of its uniforms."""
    u = uniforms(
        seed, Purpose.ALLOCATION, subject=np.arange(deck.size), replicate=replicate[:, None, None],
        index=np.arange(blocks)[:, None], slot=stratum,
    )  # fmt: skip
    dealt: Arms = deck[np.argsort(u, axis=-1, kind="stable")].reshape(replicate.size, -1)
    return dealt


def complete(strata: ArrayLike, ratios: Sequence[int], *, seed: int, replicate: ArrayLike) -> Arms:
    """Arms (R, N) int16, each subject independently with the ratios' probabilities; strata only says who is enrolled.

    >>> complete([[0, 0, -1]], [1, 0], seed=1, replicate=[0]).tolist()
    [[0, 0, -1]]
    """
    shares, cells = _ratios(ratios), np.asarray(strata, dtype=np.int64)
    names = _replicates(replicate, cells)
    u = uniforms(seed, Purpose.ALLOCATION, subject=np.arange(cells.shape[1]), replicate=names[:, None])
    # Whole-number edges: the last one is exact, so that u < 1 always falls in an arm.
    arm = np.searchsorted(np.cumsum(shares), u * shares.sum(), side="right").astype(np.int16)
    return np.where(cells >= 0, arm, np.int16(-1))
