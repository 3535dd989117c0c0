"""Tables of a trial by arm: who was randomised, finished and why not, baseline characteristics, adverse events.

Plain columns in (one entry a subject, or an event), one number an arm out; `arms` are the labels in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.survival_data import normal_quantile

__all__ = ["Means", "counts", "incidence", "means"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """By arm (A,): number with a value, mean, standard deviation, t interval of the mean; NaN where undefined."""

    n: Integers
    mean: Floats
    sd: Floats
    lower: Floats
    upper: Floats


def _members(arm: ArrayLike, arms: Sequence[object]) -> list[NDArray[np.bool_]]:
    column = np.asarray(arm, dtype=object)
    return [column == label for label in arms]


def counts(arm: ArrayLike, flag: ArrayLike | None, *, arms: Sequence[object]) -> Integers:
    """Subjects of each arm for whom `flag` is true (None: all).

    >>> counts(["a", "b", "b"], [True, True, False], arms=["a", "b"]).tolist()
    [1, 1]
    """
    members = _members(arm, arms)
    kept = np.ones(members[0].shape, np.bool_) if flag is None else np.asarray(flag, np.bool_)
    if kept.shape != members[0].shape:
        raise InputError("must have one entry a subject", field="flag", value=kept.shape)
    return np.array([int((own & kept).sum()) for own in members], np.int64)


def means(arm: ArrayLike, value: ArrayLike, *, arms: Sequence[object], level: float = 0.95) -> Means:
    """Mean, standard deviation and t interval of a column by arm; NaN values are left out.

    >>> found = means(["a", "a", "b"], [1.0, 3.0, 5.0], arms=["a", "b"])
    >>> found.mean.tolist(), found.n.tolist(), round(float(found.sd[0]), 4)
    ([2.0, 5.0], [2, 1], 1.4142)
    """
    from scipy.special import stdtrit

    normal_quantile(level)
    column = np.asarray(value, np.float64)
    parts = [column[own & np.isfinite(column)] for own in _members(arm, arms)]
    n = np.array([part.size for part in parts], np.int64)
    mean = np.array([part.mean() if part.size else np.nan for part in parts])
    sd = np.array([part.std(ddof=1) if part.size > 1 else np.nan for part in parts])
    half = stdtrit(np.maximum(n - 1, 1), 0.5 + 0.5 * level) * sd / np.sqrt(np.maximum(n, 1))
    return Means(n=n, mean=mean, sd=sd, lower=mean - half, upper=mean + half)


def incidence(
    subject: ArrayLike, arm: ArrayLike, counted: ArrayLike | None = None, *, arms: Sequence[object]
) -> Integers:
    """Subjects of each arm with at least one of the events (one entry an event) that `counted` marks.

    >>> incidence([1, 1, 2, 3], ["a", "a", "a", "b"], [True, True, False, True], arms=["a", "b"]).tolist()
    [1, 1]
    """
    who, members = np.asarray(subject, dtype=object), _members(arm, arms)
    kept = np.ones(who.shape, np.bool_) if counted is None else np.asarray(counted, np.bool_)
    return np.array([len(set(who[own & kept].tolist())) for own in members], np.int64)
