"""Benefit and risk weighed: multi-criteria values with swing weights; acceptability where weights are not known.

An alternative's value is the weighted sum over criteria of a partial value that runs from 0 at the criterion's worst
to 1 at its best. Swing weights say how much the whole swing from worst to best of a criterion matters, so they depend
on that range. All of it per draw, so that every statement carries the uncertainty of the effects.

Sources: Mussen, Salek & Walker, Pharmacoepidemiol Drug Saf 2007;16:S2 (MCDA of medicines); Lahdelma & Salminen, Oper
Res 2001;49:444 (SMAA-2); Tervonen et al., Stat Med 2011;30:1419 (SMAA for benefit-risk). The effects table has the
lines of the EMA's: favourable and unfavourable effects, with their uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = ["Acceptability", "Criterion", "Effect", "Weighed", "effects_table", "smaa", "values", "weighed"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One effect. worst, best: the range whose swing is weighed, in the effect's unit; best below worst for a risk.

    swing: points for the whole swing, any scale (the weights are the swings over their sum). curve: 0 is linear, above
    0 the first steps from worst count more (an exponential value function), below 0 the last ones.
    """

    name: str
    worst: float
    best: float
    swing: float = 1.0
    curve: float = 0.0
    kind: Literal["favourable", "unfavourable"] = "favourable"
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """score (D, ..., A); rank (..., A, A): P(alternative a has rank k), k = 0 the best; parts (..., A, C): mean
    contribution of each criterion to the score; mean, lower, upper (..., A); weights (C,).

    clipped: share of effects outside their criterion's range: they got 0 or 1, and the range deserves a look.
    """

    score: Floats
    rank: Floats
    parts: Floats
    mean: Floats
    lower: Floats
    upper: Floats
    weights: Floats
    clipped: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptability:
    """Without known weights: rank (..., A, A) over draws and weights together; central (..., A, C): the mean weights
    under which an alternative is best, NaN where it never is; confidence (..., A): P(best) at its central weights.
    """

    rank: Floats
    central: Floats
    confidence: Floats


def _checked(draws: ArrayLike, criteria: Sequence[Criterion]) -> Floats:
    x = np.asarray(draws, np.float64)
    if x.ndim < 3 or x.shape[-1] != len(criteria):
        raise InputError("must be (draw, ..., alternative, criterion)", field="draws", value=x.shape)
    if not np.isfinite(x).all():
        raise InputError("must be finite: an effect that is not known cannot be weighed", field="draws")
    for criterion in criteria:
        if criterion.best == criterion.worst:
            raise InputError("needs a best that is not its worst", field=criterion.name, value=criterion.best)
        if not criterion.swing >= 0:
            raise InputError("needs a swing weight from 0", field=criterion.name, value=criterion.swing)
    return x


def values(draws: ArrayLike, criteria: Sequence[Criterion]) -> tuple[Floats, float]:
    """Partial values in [0, 1] of draws (D, ..., A, C), and the share of effects outside the ranges.

    >>> nausea = Criterion(name="nausea", worst=0.4, best=0.0)
    >>> values([[[0.1], [0.5]]], [nausea])[0].round(12).tolist()
    [[[0.75], [0.0]]]
    """
    x = _checked(draws, criteria)
    worst, best, curve = (np.array([getattr(c, name) for c in criteria]) for name in ("worst", "best", "curve"))
    place = (x - worst) / (best - worst)
    inside = np.clip(place, 0.0, 1.0)
    bent = np.where(curve == 0, 1.0, curve)
    found = np.where(curve == 0, inside, np.expm1(-bent * inside) / np.expm1(-bent))
    return found, float((np.abs(place - inside) > 1e-12).mean())


def weighed(draws: ArrayLike, criteria: Sequence[Criterion], *, level: float = 0.95) -> Weighed:
    """Scores under the criteria's swing weights; alternatives that tie share the ranks.

    >>> made = weighed([[[1.0, 0.2], [0.5, 0.0]]], [Criterion(name="effect", worst=0, best=1, swing=3),
    ...                Criterion(name="harm", worst=1, best=0, swing=1)])
    >>> made.mean.round(3).tolist(), made.rank[:, 0].tolist()
    ([0.95, 0.625], [1.0, 0.0])
    """
    partial, clipped = values(draws, criteria)
    swing = np.array([c.swing for c in criteria], np.float64)
    if not swing.sum() > 0:
        raise InputError("needs one swing weight above 0", field="criteria")
    weights = swing / swing.sum()
    parts = partial * weights
    score = parts.sum(axis=-1)
    lower, upper = np.quantile(score, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    return Weighed(score=score, rank=_ranks(score), parts=parts.mean(axis=0), mean=score.mean(axis=0), lower=lower,
                   upper=upper, weights=weights, clipped=clipped)  # fmt: skip


def _ranks(score: Floats) -> Floats:
    """P(rank) (..., A, A) over the first axis of scores (D, ..., A); m alternatives that tie get 1/m of each rank."""
    count = score.shape[-1]
    above = (score[..., None, :] > score[..., :, None] + 1e-12).sum(axis=-1)
    tied = (np.abs(score[..., None, :] - score[..., :, None]) <= 1e-12).sum(axis=-1)
    rank = np.arange(count)
    held = (rank >= above[..., None]) & (rank < (above + tied)[..., None])
    found: Floats = (held / tied[..., None]).mean(axis=0)
    return found


def smaa(
    draws: ArrayLike, criteria: Sequence[Criterion], *, seed: int = 1, order: Sequence[str] | None = None,
    weights: int | None = None,
) -> Acceptability:  # fmt: skip
    """Ranks over weights drawn evenly from all that are possible; swings of the criteria are not read.

    order: names of criteria, the most important swing first: only weights in this order are drawn. weights: how many,
    by default one a draw; draws are used again in turn.
    """
    partial, _ = values(draws, criteria)
    many = weights or partial.shape[0]
    drawn = _weights(many, [c.name for c in criteria], seed, order)
    again = partial[np.arange(many) % partial.shape[0]]
    shaped = drawn.reshape(many, *([1] * (again.ndim - 2)), drawn.shape[1])
    score = (again * shaped).sum(axis=-1)
    best = score >= score.max(axis=-1, keepdims=True) - 1e-12
    share = best / best.sum(axis=-1, keepdims=True)
    total = share.sum(axis=0)[..., None]
    central = np.divide((share[..., None] * shaped).sum(axis=0), total,
                        out=np.full((*total.shape[:-1], drawn.shape[1]), np.nan), where=total > 0)  # fmt: skip
    return Acceptability(rank=_ranks(score), central=central, confidence=_confidence(partial, central))


def _weights(many: int, names: Sequence[str], seed: int, order: Sequence[str] | None) -> Floats:
    """Even on the simplex: exponentials over their sum; sorted, they are even on the ordered part of it."""
    from pkpd.ground.streams import Purpose, uniforms
    from pkpd.kernels.elementary import log_array

    u = uniforms(seed, Purpose.SWING_WEIGHTS, subject=np.arange(many)[:, None], replicate=0, slot=np.arange(len(names)))
    found = -log_array(u)
    found /= found.sum(axis=1, keepdims=True)
    if order is None:
        return found
    if sorted(order) != sorted(names):
        raise InputError("must name every criterion once", field="order", value=", ".join(order))
    out = np.empty_like(found)
    out[:, [list(names).index(name) for name in order]] = -np.sort(-found, axis=1)
    return out


def _confidence(partial: Floats, central: Floats) -> Floats:
    """P(an alternative is best) under its own central weights, over the draws."""
    found = np.full(central.shape[:-1], np.nan)
    for a in range(central.shape[-2]):
        score = (partial * central[..., a, None, :]).sum(axis=-1)
        lead = (score[..., a] >= score.max(axis=-1) - 1e-12).mean(axis=0)
        found[..., a] = np.where(np.isnan(central[..., a, 0]), np.nan, lead)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One line of the effects table: a criterion under an alternative and under the reference, and their difference.

    better: probability that the alternative is better than the reference on this criterion.
    """

    name: str
    kind: str
    unit: str
    alternative: float
    reference: float
    difference: float
    lower: float
    upper: float
    better: float


def effects_table(
    draws: ArrayLike, criteria: Sequence[Criterion], *, alternative: int, reference: int = 0, level: float = 0.95
) -> tuple[Effect, ...]:
    """Favourable effects first, from draws (D, A, C): means, difference with equal-tailed limits, P(better).

    >>> [round(e.difference, 12) for e in effects_table([[[0.1], [0.3]], [[0.2], [0.4]]],
    ...     [Criterion(name="response", worst=0, best=1)], alternative=1)]
    [0.2]
    """
    x = _checked(draws, criteria)
    lines = []
    for k, c in sorted(enumerate(criteria), key=lambda item: item[1].kind):
        own, other = x[:, alternative, k], x[:, reference, k]
        low, high = np.quantile(own - other, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
        gain = (own - other) * (1.0 if c.best > c.worst else -1.0)
        lines.append(Effect(
            name=c.name, kind=c.kind, unit=c.unit, alternative=float(own.mean()), reference=float(other.mean()),
            difference=float((own - other).mean()), lower=float(low), upper=float(high),
            better=float((gain > 0).mean()),
        ))  # fmt: skip
    return tuple(lines)
