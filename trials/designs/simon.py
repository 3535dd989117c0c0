"""Simon's two-stage designs for one arm with a binary response, by exhaustive search.

Stage 1 treats n1; the trial stops for futility with at most r1 responses; otherwise n - n1 more are treated and the
drug is rejected with at most r responses in all. Among designs with type I error <= alpha at p0 and power >= 1 - beta
at p1, the *optimal* one has the least expected size under p0, the *minimax* one the least n (then the least expected
size).

Source: Simon, Control Clin Trials 1989;10:1. For given n1, r1 and n, r is the largest that keeps the power, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

__all__ = ["Characteristics", "TwoStage", "characteristics", "decide", "minimax", "optimal", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Decision = Literal["stop", "continue", "reject", "promising"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStage:
    """Stop with <= `r1` responses among the first `n1`; the drug is promising with more than `r` among `n`."""

    r1: int
    n1: int
    r: int
    n: int

    def __post_init__(self) -> None:
        if not (0 <= self.r1 < self.n1 < self.n and self.r1 <= self.r < self.n):
            value = [self.r1, self.n1, self.r, self.n]
            raise InputError("needs 0 <= r1 < n1 < n and r1 <= r < n", field="design", value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristics:
    """By true response rate: `promising` (type I error or power), `stopped` early, `expected` size, and, where
    simulated, the Monte Carlo standard errors `mcse` of these three (0 when exact)."""

    promising: Floats
    stopped: Floats
    expected: Floats
    mcse: tuple[Floats, Floats, Floats]


def decide(design: TwoStage, stage: Literal[1, 2], responses: int) -> Decision:
    """The rule: what `responses` so far mean at the end of a stage.

    >>> design = TwoStage(r1=1, n1=10, r=5, n=29)
    >>> decide(design, 1, 1), decide(design, 1, 2), decide(design, 2, 5), decide(design, 2, 6)
    ('stop', 'continue', 'reject', 'promising')
    """
    if stage == 1:
        return "stop" if responses <= design.r1 else "continue"
    return "reject" if responses <= design.r else "promising"


def _pmf(n: int, p: float) -> Floats:
    from scipy.special import comb

    x = np.arange(n + 1)
    return np.asarray(comb(n, x) * p**x * (1 - p) ** (n - x), dtype=np.float64)


def _tail(n: int, p: float) -> Floats:
    """P(X > k) for k = -1 ... n (index k + 1)."""
    return np.concatenate([np.cumsum(_pmf(n, p)[::-1])[::-1], [0.0]])


def _exact(design: TwoStage, p: float) -> tuple[float, float, float]:
    first, tail = _pmf(design.n1, p), _tail(design.n - design.n1, p)
    stop = float(first[: design.r1 + 1].sum())
    x = np.arange(design.r1 + 1, design.n1 + 1)
    more = np.clip(design.r - x, -1, design.n - design.n1)
    return float((first[x] * tail[more + 1]).sum()), stop, design.n1 + (1 - stop) * (design.n - design.n1)


def characteristics(design: TwoStage, p: ArrayLike) -> Characteristics:
    """Exact operating characteristics at true response rates p.

    >>> found = characteristics(TwoStage(r1=1, n1=10, r=5, n=29), [0.1, 0.3])
    >>> found.promising.round(3).tolist(), round(float(found.expected[0]), 2)
    ([0.047, 0.805], 15.01)
    """
    rates = np.atleast_1d(np.asarray(p, dtype=np.float64))
    rows = np.array([_exact(design, float(rate)) for rate in rates])
    zero = np.zeros(rates.size)
    return Characteristics(promising=rows[:, 0], stopped=rows[:, 1], expected=rows[:, 2], mcse=(zero, zero, zero))


def simulate(design: TwoStage, p: ArrayLike, *, seed: int, replicates: ArrayLike) -> Characteristics:
    """The same by simulation: subject i of a replicate responds when its u < p, so that rates share their people."""
    rates, names = np.atleast_1d(np.asarray(p, dtype=np.float64)), np.asarray(replicates, dtype=np.int64)
    u = uniforms(seed, Purpose.TWO_STAGE, subject=np.arange(design.n), replicate=names[:, None])
    first = (u[:, : design.n1, None] < rates).sum(axis=1)
    total = (u[:, :, None] < rates).sum(axis=1)
    going = first > design.r1
    parts = (going & (total > design.r), ~going, np.where(going, design.n, design.n1))
    means = [np.asarray(part.mean(axis=0), dtype=np.float64) for part in parts]
    errors = [np.asarray(part.std(axis=0, ddof=1) / np.sqrt(names.size)) for part in parts]
    mcse = (errors[0], errors[1], errors[2])
    return Characteristics(promising=means[0], stopped=means[1], expected=means[2], mcse=mcse)


def optimal(p0: float, p1: float, *, alpha: float = 0.05, beta: float = 0.2, most: int = 300) -> TwoStage:
    """The optimal design; the search ends when no larger n can be better. InputError where none has n <= `most`.

    >>> optimal(0.1, 0.3)
    TwoStage(r1=1, n1=10, r=5, n=29)
    """
    _check(p0, p1, alpha, beta)
    best: tuple[float, TwoStage] | None = None
    for n in range(2, most + 1):
        if best is not None and _least(n, (p0, p1), beta, best[0]) >= best[0]:
            return best[1]
        found = _best_of_size(n, (p0, p1), (alpha, beta))
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    raise _none(most)


def minimax(p0: float, p1: float, *, alpha: float = 0.05, beta: float = 0.2, most: int = 300) -> TwoStage:
    """The minimax design. InputError where none has n <= `most`.

    >>> minimax(0.1, 0.3)
    TwoStage(r1=1, n1=15, r=5, n=25)
    """
    _check(p0, p1, alpha, beta)
    for n in range(2, most + 1):
        found = _best_of_size(n, (p0, p1), (alpha, beta))
        if found is not None:
            return found[1]
    raise _none(most)


def _check(p0: float, p1: float, alpha: float, beta: float) -> None:
    if not 0 < p0 < p1 < 1:
        raise InputError("needs 0 < p0 < p1 < 1", field="p1", value=[p0, p1])
    if not (0 < alpha < 0.5 and 0 < beta < 0.5):
        raise InputError("error rates must lie between 0 and 0.5", field="alpha", value=[alpha, beta])


def _none(most: int) -> InputError:
    return InputError("no design within the largest size", field="most", value=most, remedy="allow more subjects")


def _best_of_size(n: int, p: tuple[float, float], errors: tuple[float, float]) -> tuple[float, TwoStage] | None:
    """Of all designs of n subjects that keep the errors, the one with the least expected size under p0."""
    best: tuple[float, TwoStage] | None = None
    for n1 in range(1, n):
        if best is not None and n1 >= best[0]:
            break
        r, keeps = _searched(n1, n, p, errors)
        expected = n1 + (1 - np.cumsum(_pmf(n1, p[0])))[:n1] * (n - n1)
        expected = np.where(keeps, expected, np.inf)
        r1 = int(expected.argmin())
        if keeps[r1] and (best is None or expected[r1] < best[0]):
            best = float(expected[r1]), TwoStage(r1=r1, n1=n1, r=int(r[r1]), n=n)
    return best


def _searched(n1: int, n: int, p: tuple[float, float], errors: tuple[float, float]) -> tuple[Ints, NDArray[np.bool_]]:
    """For r1 = 0 ... n1 - 1: the largest r that keeps the power (-1: none), and whether the type I error is kept
    too."""
    null, power = (_promising(n1, n, rate) for rate in p)
    enough = power >= 1 - errors[1]
    r = enough.sum(axis=1) - 1  # power falls with r
    kept = np.take_along_axis(null, np.maximum(r, 0)[:, None], axis=1)[:, 0] <= errors[0]
    return r, (r >= np.arange(n1)) & kept


def _promising(n1: int, n: int, p: float) -> Floats:
    """P(X1 > r1, X1 + X2 > r) for r1 = 0 ... n1 - 1 (rows) and r = 0 ... n - 1."""
    first, tail = _pmf(n1, p), _tail(n - n1, p)
    more = np.clip(np.arange(n) - np.arange(n1 + 1)[:, None], -1, n - n1)
    joint = first[:, None] * tail[more + 1]
    return np.asarray(np.cumsum(joint[::-1], axis=0)[::-1][1:], dtype=np.float64)


def _least(n: int, p: tuple[float, float], beta: float, best: float) -> float:
    """A bound: no design of n or more subjects has a smaller expected size under p0.

    For each n1 the largest r1 under which enough trials continue at p1 stops the most at p0; the bound grows with n.
    """
    found = np.inf
    for n1 in range(1, min(n, int(best) + 1)):
        r1 = int((np.cumsum(_pmf(n1, p[1])) <= beta).sum()) - 1
        stop = float(np.cumsum(_pmf(n1, p[0]))[r1]) if r1 >= 0 else 0.0
        found = min(found, n1 + (1 - stop) * (n - n1))
    return found
