"""Tipping point: by how much worse missing values of treated subjects must be for a difference to be lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.continuous import Imputed, ancova_imputed
from trials.analysis.contrasts import Contrasts

__all__ = ["tipping_point"]

Floats = NDArray[np.float64]
_HALVINGS = 40


def tipping_point(
    imputed: Imputed, baseline: ArrayLike, arm: ArrayLike, strata: ArrayLike, *, arms: int, limit: float,
    alpha: float = 0.05, side: str = "two", multiplicity: str = "dunnett",
) -> Floats:  # fmt: skip
    """Smallest delta between 0 and `limit` that, added to the imputed values of treated subjects, loses significance in
    the direction found without it.

    imputed: what :func:`trials.analysis.continuous.impute` gave, with delta 0; limit: signed, the most that is thought
    possible, in the unit of the values. Returns (R, k): NaN where nothing is significant at 0, `limit`'s sign times
    infinity where it still is at the limit. Found by bisection on the same imputations, to limit / 2^40.
    """
    if not np.isfinite(limit) or limit == 0.0:
        raise InputError("must be finite and not 0", field="limit", value=limit)
    codes = np.asarray(arm, np.int64)
    moved = np.where(imputed.imputed & (codes > 0), 1.0, 0.0)

    def compared(delta: Floats) -> Contrasts:
        shifted = replace(imputed, final=imputed.final + delta[:, None] * moved)
        return ancova_imputed(shifted, baseline, codes, strata, arms=arms, alpha=alpha, side=side,
                              multiplicity=multiplicity)  # fmt: skip

    return np.stack([_bisected(compared, j, limit, codes.shape[0]) for j in range(arms - 1)], axis=1)


def _bisected(compared: Callable[[Floats], Contrasts], j: int, limit: float, replicates: int) -> Floats:
    """Of contrast j, (R,): significant means in the direction found at 0."""
    low, high = np.zeros(replicates), np.full(replicates, limit)
    first = compared(low)
    sign = np.sign(first.estimate[:, j])

    def holds(found: Contrasts) -> NDArray[np.bool_]:
        return np.asarray(found.reject[:, j] & (np.sign(found.estimate[:, j]) == sign))

    at_limit = holds(compared(high))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        still = holds(compared(middle))
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    lost = np.where(at_limit, np.sign(limit) * np.inf, high)
    return np.where(first.reject[:, j], lost, np.nan)
