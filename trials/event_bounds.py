"""When counts of an adverse event stop a trial: bounds on counts, and the exact probability of reaching them.

`bayes`: stop where P(risk > limit | count) is more than a certainty, with a Beta prior (Thall & Simon, Biometrics
1994;50:337, without their comparison). `pocock`: a binomial test of risk <= limit at one nominal level at every look,
the largest at which the probability of ever stopping at the limit is at most alpha (Ivanova, Qaqish & Schell,
Biometrics 2005;61:540; `toxbdry` of the R package clinfun). Counts are of subjects; each counts once it has been
followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc
from scipy.stats import binom

__all__ = ["Crossing", "bayes", "crossing", "pocock"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """stopped (K, P): probability of having stopped by each look; subjects (P,): expected number at the end."""

    stopped: Floats
    subjects: Floats


def bayes(looks: Sequence[int], limit: float, certainty: float, prior: tuple[float, float]) -> Counts:
    """Least counts (K,) that stop; one more than the subjects where none does.

    >>> bayes([10, 20], 0.2, 0.9, (0.2, 0.8)).tolist()
    [4, 7]
    """
    found = []
    for n in looks:
        events = np.arange(n + 1)
        sure = betaincc(prior[0] + events, prior[1] + n - events, limit) > certainty
        found.append(int(np.argmax(sure)) if sure.any() else n + 1)
    return np.array(found, np.int64)


def pocock(looks: Sequence[int], limit: float, alpha: float) -> Counts:
    """Least counts (K,) that stop, of the test with that probability of ever stopping at risk `limit`.

    >>> pocock([20, 40, 60], 0.2, 0.1).tolist()
    [8, 13, 18]
    """
    n = np.asarray(looks)
    tails = np.unique(np.concatenate([betainc(np.arange(1, m + 1), m - np.arange(m), limit) for m in looks]))
    low, high = 0, tails.size  # nominal levels are the tails themselves; the probability rises with them
    while low < high:
        middle = (low + high) // 2
        spent = crossing(looks, _at_level(n, limit, float(tails[middle])), [limit]).stopped[-1, 0]
        low, high = (middle + 1, high) if spent <= alpha else (low, middle)
    return _at_level(n, limit, float(tails[low - 1]) if low else 0.0)


def _at_level(n: Counts, limit: float, level: float) -> Counts:
    """Least counts whose binomial tail P(count or more) is at most a level."""
    found = []
    for m in n.tolist():
        tail = betainc(np.arange(1, m + 1), m - np.arange(m), limit)  # P(X >= k), k = 1 to m
        small = tail <= level * (1.0 + 1e-12)
        found.append(int(np.argmax(small)) + 1 if small.any() else m + 1)
    return np.array(found, np.int64)


def crossing(looks: Sequence[int], bounds: Counts, risk: ArrayLike) -> Crossing:
    """What happens at risks (P,): counts are carried from look to look among the trials that go on."""
    p = np.atleast_1d(np.asarray(risk, np.float64))
    alive = np.zeros((looks[-1] + 1, p.size))
    alive[0] = 1.0
    stopped, subjects, before = np.zeros((len(looks), p.size)), np.zeros(p.size), 0
    gone = np.zeros(p.size)
    for k, n in enumerate(looks):
        gained: Floats = np.asarray(binom.pmf(np.arange(n - before + 1)[:, None], n - before, p))
        alive = np.stack([np.convolve(alive[:, j], gained[:, j])[: looks[-1] + 1] for j in range(p.size)], axis=1)
        now = alive[bounds[k] :].sum(axis=0)
        alive[bounds[k] :] = 0.0
        gone = gone + now
        stopped[k], before = gone, n
        subjects += n * now
    return Crossing(stopped=stopped, subjects=subjects + looks[-1] * (1.0 - gone))
