"""Adherence: which doses are taken, as a two-state Markov chain over the doses.

States taken and missed; P(miss | last taken) = `miss_after_taken`, P(miss | last missed) = `miss_after_missed`. The
first dose is drawn from the stationary law, so every dose is missed with probability a / (1 + a - b), a and b in that
order, and a run of missed doses has mean length 1 / (1 - b). Such chains describe electronic monitoring data
(Girard P et al., Stat Med 1998;17:2313).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

__all__ = ["Adherence", "taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adherence:
    """`kind` none: every dose is taken; markov: see the module. Probabilities in [0, 1), InputError otherwise."""

    kind: Literal["none", "markov"] = "none"
    miss_after_taken: float = 0.0
    miss_after_missed: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("none", "markov"):
            raise InputError("unknown kind", field="adherence.kind", value=self.kind, remedy="one of none, markov")
        for name in ("miss_after_taken", "miss_after_missed"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise InputError("must lie in [0, 1)", field=f"adherence.{name}", value=value)
            if self.kind == "none" and value != 0.0:
                raise InputError("means nothing where kind is none", field=f"adherence.{name}", value=value)

    @property
    def missed(self) -> float:
        """Expected fraction of doses missed.

        >>> round(Adherence(kind="markov", miss_after_taken=0.05, miss_after_missed=0.4).missed, 4)
        0.0769
        """
        return self.miss_after_taken / (1.0 + self.miss_after_taken - self.miss_after_missed)


def taken(
    adherence: Adherence, *, seed: int, replicate: ArrayLike, subject: ArrayLike, doses: int
) -> NDArray[np.bool_]:
    """Which of `doses` planned doses each subject takes, (R, N, doses); replicate (R,), subject (N,).

    Dose k of a subject needs its doses 0..k only: a longer plan, another arm or another block changes nothing.

    >>> taken(Adherence(), seed=1, replicate=[0], subject=[0, 1], doses=3).all()
    np.True_
    """
    rows, columns = np.asarray(replicate, dtype=np.uint32), np.asarray(subject, dtype=np.uint32)
    result = np.ones((rows.size, columns.size, doses), dtype=np.bool_)
    if adherence.kind == "none":
        return result
    missing = np.full((rows.size, columns.size), adherence.missed)
    for dose in range(doses):
        u = uniforms(seed, Purpose.ADHERENCE, subject=columns, replicate=rows[:, None], index=dose)
        result[:, :, dose] = u >= missing
        missing = np.where(result[:, :, dose], adherence.miss_after_taken, adherence.miss_after_missed)
    return result
