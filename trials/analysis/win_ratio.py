"""Win ratio, win odds and net benefit of hierarchical endpoints: every subject against every control, unmatched.

A pair is decided by the first endpoint of the hierarchy that tells them apart. Sources: trials/kernels/pairs.py; win
odds: Dong et al., Stat Biopharm Res 2020;12:99; net benefit: Buyse, Stat Med 2010;29:3245.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.analysis.survival_data import Compared, Floats, Integers, SurvivalStatus, compared

__all__ = ["Level", "Wins", "net_benefit", "timed", "valued", "win_odds", "win_ratio", "wins"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One endpoint of the hierarchy, arrays (R, N): more is better; `timed`: `value` is a time, `event` what came."""

    value: Floats
    event: NDArray[np.bool_]
    timed: bool
    margin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wins:
    """Shares of pairs that each arm wins and loses against control, (R, k, L) by level; `won`, `lost` (R, k) in all.

    variance (R, k, 3): of won, of lost, their covariance; n (R, k + 1) subjects by arm.
    """

    won_at: Floats
    lost_at: Floats
    variance: Floats
    n: Integers

    @property
    def won(self) -> Floats:
        """Share of pairs won, (R, k)."""
        return np.asarray(self.won_at.sum(axis=2))

    @property
    def lost(self) -> Floats:
        """Share of pairs lost, (R, k)."""
        return np.asarray(self.lost_at.sum(axis=2))


def timed(time: ArrayLike, event: ArrayLike) -> Level:
    """A time to something bad (R, N): who has it while the other is still followed without it loses.

    Whoever is censored first leaves the pair undecided. An event counts as before a censoring at the same time.
    """
    return Level(value=np.asarray(time, np.float64), event=np.asarray(event, np.bool_), timed=True)


def valued(value: ArrayLike, *, margin: float = 0.0, better: str = "higher") -> Level:
    """A number (R, N): the better one wins if it differs by more than `margin`; NaN leaves the pair undecided."""
    if better not in ("higher", "lower") or not margin >= 0:
        raise InputError("needs better: higher or lower and a margin of at least 0", field="better", value=better)
    numbers = np.asarray(value, np.float64)
    signed = numbers if better == "higher" else -numbers
    return Level(value=signed, event=np.zeros(signed.shape, np.bool_), timed=False, margin=margin)


def wins(levels: Sequence[Level], arm: ArrayLike, *, arms: int) -> Wins:
    """Every pair of a subject of each arm and a control (arm 0; -1 in no pair), decided level by level.

    >>> found = wins([timed([[5.0, 2.0]], [[False, True]])], [[1, 0]], arms=2)
    >>> found.won.tolist(), found.lost.tolist()
    ([[1.0]], [[0.0]])
    """
    from trials.kernels import pairs

    codes = np.ascontiguousarray(arm, dtype=np.int64)
    if not levels or any(level.value.shape != codes.shape for level in levels):
        raise InputError("needs levels of the shape of arm (replicate, subject)", field="levels", value=len(levels))
    value = np.ascontiguousarray(np.stack([level.value for level in levels], axis=1))
    event = np.ascontiguousarray(np.stack([level.event for level in levels], axis=1))
    is_timed, margin = np.array([level.timed for level in levels]), np.array([level.margin for level in levels])
    shape = (len(codes), arms - 1, len(levels))
    won, lost, variance = np.empty(shape), np.empty(shape), np.empty((*shape[:2], 3))
    pairs.wins(value, event, is_timed, margin, codes, won, lost, variance)
    n = np.stack([(codes == code).sum(axis=1) for code in range(arms)], axis=1)
    return Wins(won_at=won, lost_at=lost, variance=variance, n=n)


def _status(found: Wins, *, ratio: bool) -> NDArray[np.int8]:
    status = np.zeros(found.won.shape, np.int8)
    with np.errstate(invalid="ignore"):
        decided = found.won + found.lost
        if ratio:
            status[(found.won == 0) | (found.lost == 0)] = SurvivalStatus.NO_CONTEST
        status[decided == 0] = SurvivalStatus.NO_EVENTS
    status[~np.isfinite(found.variance).all(axis=2)] = SurvivalStatus.NO_SUBJECTS
    return status


def _x(found: Wins) -> Integers:
    return np.full(found.n.shape, -1, np.int64)  # a pair has no events of its own


def win_ratio(found: Wins, *, alpha: float = 0.05, side: str = "two") -> Compared:
    """Logarithm of won / lost; ties are left out. Above 0 the arm does better."""
    from pkpd.kernels.elementary import log_array

    w, loss = found.won, found.lost
    v = found.variance
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = log_array(w / loss)
        se = np.sqrt(v[..., 0] / w**2 + v[..., 1] / loss**2 - 2 * v[..., 2] / (w * loss))
    return compared((estimate, se, _status(found, ratio=True)), (found.n, _x(found)), alpha=alpha, side=side)


def _benefit(found: Wins) -> tuple[Floats, Floats]:
    v = found.variance
    return found.won - found.lost, np.sqrt(np.maximum(0.0, v[..., 0] + v[..., 1] - 2 * v[..., 2]))


def net_benefit(found: Wins, *, alpha: float = 0.05, side: str = "two") -> Compared:
    """Share won less share lost."""
    estimate, se = _benefit(found)
    status = _status(found, ratio=False)
    status[(status == 0) & ~(se > 0)] = SurvivalStatus.NO_CONTEST
    return compared((estimate, se, status), (found.n, _x(found)), alpha=alpha, side=side)


def win_odds(found: Wins, *, alpha: float = 0.05, side: str = "two") -> Compared:
    """Logarithm of (won + ties/2)/(lost + ties/2)."""
    from pkpd.kernels.elementary import log_array

    benefit, se = _benefit(found)
    status = _status(found, ratio=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate, spread = log_array((1 + benefit) / (1 - benefit)), 2 * se / (1 - benefit**2)
    status[(status == 0) & ~((spread > 0) & np.isfinite(estimate))] = SurvivalStatus.NO_CONTEST
    return compared((estimate, spread, status), (found.n, _x(found)), alpha=alpha, side=side)
