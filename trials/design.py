"""Allocation of enrolled subjects to arms, by address, in order of enrolment; vectorised over replicates.

Subjects stand along the last axis in order of enrolment. A subject's arm depends on (seed, replicate) and on the strata
of the subjects before it in its replicate, on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

__all__ = ["complete", "imbalance", "minimised", "permuted_blocks"]

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


def minimised(
    factors: ArrayLike, ratios: Sequence[int], *, probability: float = 0.8,
    measure: Literal["range", "variance"] = "range", weights: Sequence[float] | None = None,
    seed: int, replicate: ArrayLike,
) -> Arms:  # fmt: skip
    """Arms (R, N) int16 by minimisation over factors (R, N, F) of level codes, -1 = not enrolled.

    For each subject the arm is sought that leaves the least imbalance in the levels of its own factors: the sum over
    factors of weight x range (or variance) of the numbers of subjects by arm. It is given with `probability`, each
    other arm with an equal share of the rest; of several best ones each is as likely. Arms of unequal ratio are as many
    equal arms as their ratio says, so that every subject has the ratio's chances (Kuznetsova & Tymofyeyev, Stat Med
    2012;31:711).
    Pocock & Simon, Biometrics 1975;31:103. Address: subject in order of enrolment, as `complete`.

    >>> minimised([[[0], [0], [0], [0]]], [1, 1], probability=1.0, seed=1, replicate=[0]).sum()
    np.int64(2)
    """
    shares, levels = _ratios(ratios), np.asarray(factors, dtype=np.int64)
    if levels.ndim != 3 or levels.shape[2] < 1:
        raise InputError("must be (R, N, F) with a factor", field="factors", value=str(levels.shape))
    names = _replicates(replicate, levels[:, :, 0])
    real = np.repeat(np.arange(shares.size, dtype=np.int16), shares)
    if not 1 / real.size <= probability <= 1:
        remedy = "write 0.8, or 1 for no chance but in ties"
        raise InputError("must lie between an equal share and 1", field="probability", value=probability, remedy=remedy)
    weight = np.ones(levels.shape[2]) if weights is None else np.asarray(weights, dtype=np.float64)
    u = uniforms(seed, Purpose.ALLOCATION, subject=np.arange(levels.shape[1]), replicate=names[:, None])
    counts = np.zeros((names.size, levels.shape[2], int(levels.max(initial=0)) + 1, real.size))
    rows, columns = np.arange(names.size)[:, None], np.arange(levels.shape[2])
    arm = np.full(levels.shape[:2], -1, dtype=np.int16)
    for s in range(levels.shape[1]):
        here = (levels[:, s] >= 0).all(axis=1)
        own = np.maximum(levels[:, s], 0)
        best = _least(counts[rows, columns, own], weight, measure)
        given = _drawn(best, probability, u[:, s])
        counts[rows, columns, own, given[:, None]] += here[:, None]
        arm[here, s] = real[given[here]]
    return arm


def _least(counts: NDArray[np.float64], weight: NDArray[np.float64], measure: str) -> NDArray[np.bool_]:
    """Which arms would leave the least imbalance: counts (R, F, S) in the subject's own levels -> (R, S)."""
    then = counts[:, :, None, :] + np.eye(counts.shape[2])
    spread = np.ptp(then, axis=3) if measure == "range" else then.var(axis=3, ddof=1 if counts.shape[2] > 1 else 0)
    total = (spread * weight[:, None]).sum(axis=1)
    return np.asarray(total <= total.min(axis=1, keepdims=True) + 1e-9)


def _drawn(best: NDArray[np.bool_], probability: float, u: NDArray[np.float64]) -> NDArray[np.int64]:
    """An arm for each replicate by its uniform (R,): the best share `probability`, the others the rest."""
    count = best.sum(axis=1, keepdims=True)
    others = np.maximum(best.shape[1] - count, 1)
    chance = np.where(best, probability / count, (1 - probability) / others)
    chance = np.where(count == best.shape[1], 1 / best.shape[1], chance)
    edges = np.cumsum(chance, axis=1)
    return np.asarray(np.minimum((u[:, None] >= edges).sum(axis=1), best.shape[1] - 1))


def imbalance(arm: ArrayLike, factors: ArrayLike, ratios: Sequence[int]) -> NDArray[np.float64]:
    """Largest range of subjects by arm, each over its ratio, in any level of each factor: (R, F).

    >>> imbalance([[0, 0, 1, 0]], [[[0], [1], [0], [1]]], [1, 1]).tolist()
    [[2.0]]
    """
    given, levels, shares = np.asarray(arm), np.asarray(factors), _ratios(ratios)
    out = np.zeros((levels.shape[0], levels.shape[2]))
    for level in range(int(levels.max(initial=0)) + 1):
        inside = levels == level
        n = np.stack([(inside & (given == a)[:, :, None]).sum(axis=1) / shares[a] for a in np.flatnonzero(shares)])
        out = np.maximum(out, np.ptp(n, axis=0))
    return out
