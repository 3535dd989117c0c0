"""Toxicity probability interval designs mTPI and mTPI-2 (keyboard).

With a uniform prior on the toxicity rate of the current dose, the unit probability mass (posterior probability of an
interval over its length) decides. mTPI compares three intervals: below, around (target - eps1 ... target + eps2) and
above the target. mTPI-2 cuts the outer two into intervals as long as the middle one (the outermost may be shorter),
so that a long interval is no longer favoured. The largest decides: E escalate, S stay, D de-escalate; DU (de-escalate
and never return) where P(p > target | data) > 0.95.

Source: Ji et al., Clin Trials 2010;7:653 (mTPI); Guo et al., Contemp Clin Trials 2017;58:23 (mTPI-2); Yan et al.,
Clin Cancer Res 2017;23:3994 (keyboard, the same decisions).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from trials.designs.escalation import STOP, Design, Instruction, State
from trials.designs.isotonic import closest_to_target, too_toxic

__all__ = ["decisions", "intervals", "mtpi"]

Ints = NDArray[np.int64]
Method = Literal["mTPI", "mTPI-2"]
SLIVER = 1e-9  # a shorter interval is a rounding error


def intervals(target: float, *, eps: tuple[float, float] = (0.05, 0.05), method: Method = "mTPI") -> list[float]:
    """Borders of the intervals from 0 to 1.

    >>> [round(border, 2) for border in intervals(0.2, method="mTPI-2")]
    [0.0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0]
    """
    low, high = target - eps[0], target + eps[1]
    if not 0 < low < high < 1:
        raise InputError("the middle interval must lie inside 0 ... 1", field="eps", value=[low, high])
    if method == "mTPI":
        return [0.0, low, high, 1.0]
    width = high - low
    below = [low - k * width for k in range(1, int(low / width) + 2) if low - k * width > SLIVER]
    above = [high + k * width for k in range(1, int((1 - high) / width) + 2) if high + k * width < 1 - SLIVER]
    return [0.0, *below[::-1], low, high, *above, 1.0]


def decisions(
    n: ArrayLike, toxic: ArrayLike, *, target: float, eps: tuple[float, float] = (0.05, 0.05), method: Method = "mTPI",
    cutoff: float = 0.95, least: int = 1,
) -> NDArray[np.str_]:  # fmt: skip
    """Decisions "E", "S", "D" or "DU" of `toxic` toxicities among `n` subjects at the current dose.

    `least`: subjects from which a dose may be excluded.

    >>> decisions(6, [0, 2, 3, 4], target=0.3).tolist()
    ['E', 'S', 'S', 'DU']
    """
    from scipy.special import betainc

    size, events = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(toxic, dtype=np.float64))
    borders = np.array(intervals(target, eps=eps, method=method))
    below = betainc(events[..., None] + 1.0, (size - events)[..., None] + 1.0, borders)
    mass = np.diff(below, axis=-1) / np.diff(borders)
    middle = int(np.searchsorted(borders, target - eps[0] + SLIVER)) - 1
    most = mass.argmax(axis=-1)
    found = np.where(most < middle, "E", np.where(most > middle, "D", "S"))
    return np.where(too_toxic(size, events, target=target, cutoff=cutoff, least=least), "DU", found)


def mtpi(
    doses: int, target: float, *, patients: int, size: int = 3, start: int = 0, eps: tuple[float, float] = (0.05, 0.05),
    method: Method = "mTPI-2", cutoff: float = 0.95,
) -> Design:  # fmt: skip
    """The design: cohorts of `size` up to `patients`; the MTD by isotonic regression over doses not excluded.

    >>> rule = mtpi(3, 0.3, patients=30).rule
    >>> [int(rule(State.of([3, 3, 0], [0, toxic, 0], 1)).dose[0]) for toxic in (0, 1, 2)]
    [2, 1, 0]
    """

    def excluded(state: State) -> NDArray[np.bool_]:
        out = too_toxic(state.n, state.toxic, target=target, cutoff=cutoff, least=1)
        return np.logical_or.accumulate(out, axis=1)

    def rule(state: State) -> Instruction:
        rows = np.arange(state.dose.size)
        n, toxic = state.n[rows, state.dose], state.toxic[rows, state.dose]
        said = decisions(n, toxic, target=target, eps=eps, method=method, cutoff=cutoff)
        return Instruction.of(_next(state, said, excluded(state)), size)

    def select(state: State) -> Ints:
        out = excluded(state)
        found = closest_to_target(state.n, state.toxic, target=target, admissible=~out, a=0.005)
        return np.where(out[:, 0], STOP, found)

    return Design(doses=doses, patients=patients, size=size, rule=rule, select=select, start=start)


def _next(state: State, said: NDArray[np.str_], out: NDArray[np.bool_]) -> Ints:
    rows, highest = np.arange(state.dose.size), state.n.shape[1] - 1
    above = np.minimum(state.dose + 1, highest)
    up = (said == "E") & (state.dose < highest) & ~out[rows, above]
    down = np.isin(said, ["D", "DU"]) & (state.dose > 0)
    dose = state.dose + np.where(up, 1, np.where(down, -1, 0))
    return np.where(out[:, 0], STOP, dose)
