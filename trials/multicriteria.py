"""Benefit and risk weighed: multi-criteria values with swing weights; acceptability where weights are not known.

An alternative's value is the weighted sum over criteria of a partial value that runs from 0 at the criterion's worst
to 1 at its best. Swing weights say how much the whole swing from worst to best of a criterion matters, so they depend
on that range. All of it per draw, so that every statement carries the uncertainty of the effects.

Sources: Mussen, Salek & Walker, Pharmacoepidemiol Drug Saf 2007;16:S2 (MCDA of medicines); Lahdelma & Salminen, Oper
Res 2001;49:444 (SMAA-2); Tervonen et al., Stat Med 2011;30:1419 (SMAA for benefit-risk). The effects table has the
lines of the EMA's: favourable and unfavourable effects, with their uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError

__all__ = [
    "Acceptability", "Criterion", "Effect", "Order", "Threshold", "Weighed", "best_by_weight", "best_over",
    "central_weights", "effects_table", "outside", "possible_weights", "smaa", "swing_weights", "thresholds", "values",
    "weighed",
]  # fmt: skip

Floats = NDArray[np.float64]
Order = Sequence[str | Sequence[str]]
"""Names of criteria, the most important swing first; names in one place share it, in either order."""

SAME = 1e-12  # scores this close tie
NARROW = 1e-9  # stretches of weight this short are left out
LEAST_WEIGHTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One effect. worst, best: the range whose swing is weighed, in the effect's unit; best below worst for a risk.

    swing: points for the whole swing, any scale (the weights are the swings over their sum). Between worst and best the
    partial value is linear; `points` ((effect, value), ...) make it linear by pieces; curve: 0 is linear, above 0 the
    first steps from worst count more (an exponential value function), below 0 the last ones.
    """

    name: str
    worst: float
    best: float
    swing: float = 1.0
    curve: float = 0.0
    kind: Literal["favourable", "unfavourable"] = "favourable"
    unit: str = ""
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """score (D, ..., A); rank (..., A, A): P(alternative a has rank k), k = 0 the best; parts (..., A, C): mean
    contribution of each criterion to the score; mean, lower, upper (..., A); weights (C,); best (D, ..., A): 1 for the
    best of a draw, 1/m for each of m that tie.

    Limits are NaN for a single draw, which knows no uncertainty. clipped: share of effects outside their criterion's
    range: they got 0 or 1, and the range deserves a look (`outside` says whose).
    """

    score: Floats
    rank: Floats
    parts: Floats
    mean: Floats
    lower: Floats
    upper: Floats
    weights: Floats
    clipped: float
    best: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptability:
    """Without known weights: rank (..., A, A) over draws and weights together; central (..., A, C): the mean weights
    under which an alternative is best, NaN where it never is; confidence (..., A): P(best) at its central weights;
    best (D, ..., A): share of the weights for which it is best, by draw; score (M, ..., A): draw m mod D, weights m.
    """

    rank: Floats
    central: Floats
    confidence: Floats
    best: Floats
    score: Floats


def _checked(draws: ArrayLike, criteria: Sequence[Criterion]) -> Floats:
    x = np.asarray(draws, np.float64)
    if x.ndim < 3 or x.shape[-1] != len(criteria) or 0 in x.shape:
        raise InputError("must be (draw, ..., alternative, criterion), none of them empty", field="draws",
                         value=x.shape)  # fmt: skip
    if not np.isfinite(x).all():
        raise InputError("must be finite: an effect that is not known cannot be weighed", field="draws",
                         remedy="leave out draws in which an effect is missing, and count them")  # fmt: skip
    names = [c.name for c in criteria]
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise InputError("named twice", field="criteria", value=twice)
    for criterion in criteria:
        _checked_criterion(criterion)
    return x


def _checked_criterion(c: Criterion) -> None:
    if not (math.isfinite(c.worst) and math.isfinite(c.best)):
        raise InputError("needs finite ends of its range", field=c.name, value=f"{c.worst:g} to {c.best:g}")
    if c.best == c.worst:
        raise InputError("needs a best that is not its worst", field=c.name, value=c.best)
    if not (c.swing >= 0 and math.isfinite(c.swing)):
        raise InputError("needs a swing weight from 0", field=c.name, value=c.swing)
    if not math.isfinite(c.curve) or (c.curve and c.points):
        raise InputError("needs a finite curve, or points, not both", field=c.name, value=c.curve)
    places, worth = _knots(c)
    if not (np.diff(places) > 0).all() or not (np.diff(worth) >= 0).all():
        raise InputError("needs points inside its range whose values do not fall from worst (0) to best (1)",
                         field=c.name, value=", ".join(f"({x:g}, {v:g})" for x, v in c.points))  # fmt: skip


def _knots(c: Criterion) -> tuple[Floats, Floats]:
    """Places 0 to 1 between worst and best, and partial values there, ends included."""
    found = sorted(((x - c.worst) / (c.best - c.worst), v) for x, v in c.points)
    return np.array([0.0, *(p for p, _ in found), 1.0]), np.array([0.0, *(v for _, v in found), 1.0])


def _partial(inside: Floats, c: Criterion) -> Floats:
    """Partial value at places 0 to 1 of the range; neither form of the exponential overflows."""
    if c.points:
        return np.asarray(np.interp(inside, *_knots(c)))
    if abs(c.curve) < 1e-8:
        return inside
    if c.curve > 0:
        return np.asarray(np.expm1(-c.curve * inside) / math.expm1(-c.curve))
    return np.asarray(np.exp(c.curve * (1.0 - inside)) * np.expm1(c.curve * inside) / math.expm1(c.curve))


def _places(x: Floats, criteria: Sequence[Criterion]) -> Floats:
    worst, best = (np.array([getattr(c, name) for c in criteria]) for name in ("worst", "best"))
    return np.asarray((x - worst) / (best - worst))


def values(draws: ArrayLike, criteria: Sequence[Criterion]) -> tuple[Floats, float]:
    """Partial values in [0, 1] of draws (D, ..., A, C), and the share of effects outside the ranges.

    >>> nausea = Criterion(name="nausea", worst=0.4, best=0.0)
    >>> values([[[0.1], [0.5]]], [nausea])[0].round(12).tolist()
    [[[0.75], [0.0]]]
    """
    x = _checked(draws, criteria)
    inside = np.clip(_places(x, criteria), 0.0, 1.0)
    found = np.stack([_partial(inside[..., k], c) for k, c in enumerate(criteria)], axis=-1)
    return found, float(outside(x, criteria).mean())


def outside(draws: ArrayLike, criteria: Sequence[Criterion]) -> Floats:
    """Share of draws outside each criterion's range (..., A, C): beyond it every effect counts as its end.

    >>> outside([[[0.1], [0.5]]], [Criterion(name="nausea", worst=0.4, best=0.0)]).tolist()
    [[0.0], [1.0]]
    """
    place = _places(_checked(draws, criteria), criteria)
    return np.asarray(((place < -SAME) | (place > 1.0 + SAME)).mean(axis=0))


def swing_weights(criteria: Sequence[Criterion]) -> Floats:
    """Swings over their sum (C,)."""
    swing = np.array([c.swing for c in criteria], np.float64)
    if not swing.sum() > 0:
        raise InputError("needs one swing weight above 0", field="criteria")
    return np.asarray(swing / swing.sum())


def weighed(
    draws: ArrayLike, criteria: Sequence[Criterion], *, weights: ArrayLike | None = None, level: float = 0.95
) -> Weighed:
    """Scores under the criteria's swing weights, or under `weights` (C,); alternatives that tie share the ranks.

    >>> made = weighed([[[1.0, 0.2], [0.5, 0.0]]], [Criterion(name="effect", worst=0, best=1, swing=3),
    ...                Criterion(name="harm", worst=1, best=0, swing=1)])
    >>> made.mean.round(3).tolist(), made.rank[:, 0].tolist()
    ([0.95, 0.625], [1.0, 0.0])
    """
    partial, clipped = values(draws, criteria)
    own = swing_weights(criteria) if weights is None else np.asarray(weights, np.float64)
    if own.shape != (len(criteria),) or not (own >= 0).all() or not abs(own.sum() - 1.0) < 1e-9:
        raise InputError("must be one from 0 for each criterion and sum to 1", field="weights", value=own.tolist())
    parts = partial * own
    score = parts.sum(axis=-1)
    lower, upper = _limits(score, level)
    return Weighed(score=score, rank=_ranks(score), parts=parts.mean(axis=0), mean=score.mean(axis=0), lower=lower,
                   upper=upper, weights=own, clipped=clipped, best=_best(score))  # fmt: skip


def _limits(x: Floats, level: float) -> tuple[Floats, Floats]:
    """Equal tails over the first axis; NaN where there is but one draw."""
    if len(x) < 2:
        return np.full(x.shape[1:], np.nan), np.full(x.shape[1:], np.nan)
    low, high = np.quantile(x, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    return low, high


def _best(score: Floats) -> Floats:
    """Share of being best in each draw: 1, or 1/m where m tie."""
    lead = score >= score.max(axis=-1, keepdims=True) - SAME
    return np.asarray(lead / lead.sum(axis=-1, keepdims=True))


def _ranks(score: Floats) -> Floats:
    """P(rank) (..., A, A) over the first axis of scores (D, ..., A); m alternatives that tie get 1/m of each rank."""
    count = score.shape[-1]
    above = (score[..., None, :] > score[..., :, None] + SAME).sum(axis=-1)
    tied = (np.abs(score[..., None, :] - score[..., :, None]) <= SAME).sum(axis=-1)
    rank = np.arange(count)
    held = (rank >= above[..., None]) & (rank < (above + tied)[..., None])
    found: Floats = (held / tied[..., None]).mean(axis=0)
    return found


def smaa(
    draws: ArrayLike, criteria: Sequence[Criterion], *, seed: int = 1, order: Order | None = None,
    weights: int | None = None,
) -> Acceptability:  # fmt: skip
    """Ranks over weights drawn evenly from all that are possible; swings of the criteria are not read.

    order: only weights in this order are drawn. weights: how many, at least one a draw, rounded up so that every draw
    meets equally many; draws are used again in turn. Default 20 000.
    """
    partial, _ = values(draws, criteria)
    size = partial.shape[0]
    if weights is not None and weights < 1:
        raise InputError("must be from 1", field="weights", value=weights)
    many = size * -(-max(size, LEAST_WEIGHTS if weights is None else weights) // size)
    drawn = possible_weights(many, [c.name for c in criteria], seed, order)
    again = partial[np.arange(many) % size]
    shaped = drawn.reshape(many, *([1] * (again.ndim - 2)), drawn.shape[1])
    score = (again * shaped).sum(axis=-1)
    share = _best(score)
    total = share.sum(axis=0)[..., None]
    central = np.divide((share[..., None] * shaped).sum(axis=0), total,
                        out=np.full((*total.shape[:-1], drawn.shape[1]), np.nan), where=total > 0)  # fmt: skip
    return Acceptability(
        rank=_ranks(score), central=central, confidence=_confidence(partial, central), score=score,
        best=share.reshape(many // size, size, *share.shape[1:]).mean(axis=0),
    )  # fmt: skip


def _places_of(names: Sequence[str], order: Order) -> list[list[int]]:
    """Numbers of the criteria in each place of an order."""
    groups = [[place] if isinstance(place, str) else list(place) for place in order]
    if sorted(name for group in groups for name in group) != sorted(names):
        shown = ", ".join(name for group in groups for name in group)
        raise InputError("must name every criterion once", field="order", value=shown)
    return [[list(names).index(name) for name in group] for group in groups]


def possible_weights(many: int, names: Sequence[str], seed: int, order: Order | None = None) -> Floats:
    """Weights (many, C), even on the simplex: exponentials over their sum; sorted, they are even on the ordered part of
    it. Within a place of the order they keep the order they were drawn in, which is independent of their sizes."""
    from pkpd.ground.streams import Purpose, uniforms
    from pkpd.kernels.elementary import log_array

    u = uniforms(seed, Purpose.SWING_WEIGHTS, subject=np.arange(many)[:, None], replicate=0, slot=np.arange(len(names)))
    found = -log_array(u)
    found /= found.sum(axis=1, keepdims=True)
    if order is None:
        return found
    falling, out, done = -np.sort(-found, axis=1), np.empty_like(found), 0
    for group in _places_of(names, order):
        within = np.argsort(np.argsort(-found[:, group], axis=1), axis=1)
        out[:, group] = np.take_along_axis(falling[:, done : done + len(group)], within, axis=1)
        done += len(group)
    return out


def central_weights(names: Sequence[str], order: Order | None = None) -> Floats:
    """Mean of all possible weights (C,): equal, or the centroid of those in an order (Barron & Barrett, Manage Sci
    1996;42:1515): the k-th of n has the mean of 0 (k - 1 times), 1/k, ..., 1/n.

    >>> central_weights(["a", "b", "c"], ["c", "a", "b"]).round(4).tolist()
    [0.2778, 0.1111, 0.6111]
    """
    n = len(names)
    if order is None:
        return np.full(n, 1.0 / n)
    falling = np.cumsum(1.0 / np.arange(n, 0, -1))[::-1] / n
    found, done = np.empty(n), 0
    for group in _places_of(names, order):
        found[group] = falling[done : done + len(group)].mean()
        done += len(group)
    return found


def _confidence(partial: Floats, central: Floats) -> Floats:
    """P(an alternative is best) under its own central weights, over the draws; ties shared."""
    found = np.full(central.shape[:-1], np.nan)
    for a in range(central.shape[-2]):
        score = (partial * np.nan_to_num(central[..., a, None, :])).sum(axis=-1)
        lead = _best(score)[..., a].mean(axis=0)
        found[..., a] = np.where(np.isnan(central[..., a, 0]), np.nan, lead)
    return found


def best_over(draws: ArrayLike, criteria: Sequence[Criterion], weights: ArrayLike) -> Floats:
    """Share of the weights (W, C) under which each alternative is best, by draw (D, A), of draws (D, A, C).

    >>> one = Criterion(name="effect", worst=0, best=1), Criterion(name="harm", worst=1, best=0)
    >>> best_over([[[1.0, 1.0], [0.5, 0.0]]], one, [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]).round(3).tolist()
    [[0.333, 0.667]]
    """
    partial, _ = values(draws, criteria)
    found = [_best((partial * own).sum(axis=-1)) for own in np.asarray(weights, np.float64)]
    return np.asarray(np.mean(found, axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """How the best alternative hangs on one criterion's weight, the others' keeping their proportions.

    pieces: (from weight, to weight, the alternative with the highest mean score); below, above: the nearest weights at
    which another one takes over, NaN: none; next_below, next_above: that alternative, -1: none.
    """

    criterion: str
    weight: float
    pieces: tuple[tuple[float, float, int], ...]
    below: float
    above: float
    next_below: int
    next_above: int


def thresholds(partial: ArrayLike, names: Sequence[str], weights: ArrayLike) -> tuple[Threshold, ...]:
    """One for each criterion, exactly: mean scores are straight lines in a weight. partial (A, C): mean partial values.

    >>> a, b = thresholds([[1.0, 0.0], [0.0, 1.0]], ["gain", "harm"], [0.7, 0.3])
    >>> a.below, a.next_below, b.pieces
    (0.5, 1, ((0.0, 0.5, 0), (0.5, 1.0, 1)))
    """
    v, w = np.asarray(partial, np.float64), np.asarray(weights, np.float64)
    return tuple(_threshold(v[:, k], _rest(v, w, k), (name, float(w[k]))) for k, name in enumerate(names))


def _shares(w: Floats, k: int) -> Floats:
    """Weights of the others over their sum, 0 for k; equal where k has all the weight."""
    rest = w.copy()
    rest[k] = 0.0
    if rest.sum() <= 0:
        rest = np.where(np.arange(w.size) == k, 0.0, 1.0 if w.size > 1 else 0.0)
    return np.asarray(rest / rest.sum() if rest.sum() > 0 else rest)


def _rest(v: Floats, w: Floats, k: int) -> Floats:
    return np.asarray((v * _shares(w, k)).sum(axis=-1))


def _threshold(at_one: Floats, at_zero: Floats, what: tuple[str, float]) -> Threshold:
    """The upper envelope of lines with these values at weights 0 and 1."""
    name, weight = what
    slope = at_one - at_zero
    steps = slope[:, None] - slope[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = np.where(np.abs(steps) > SAME, (at_zero[None, :] - at_zero[:, None]) / steps, np.nan)
    inner = np.unique(cut[(cut > NARROW) & (cut < 1.0 - NARROW)])
    edges = np.array([0.0, *inner[np.diff(inner, prepend=0.0) > NARROW].tolist(), 1.0])
    pieces: list[tuple[float, float, int]] = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        score = at_zero + slope * (0.5 * (low + high))
        lead = int(np.flatnonzero(score >= score.max() - SAME)[0])
        if pieces and pieces[-1][2] == lead:
            pieces[-1] = (pieces[-1][0], high, lead)
        else:
            pieces.append((low, high, lead))
    here = next(i for i, (_, high, _) in enumerate(pieces) if weight <= high or i == len(pieces) - 1)
    first, last = here == 0, here == len(pieces) - 1
    return Threshold(
        criterion=name, weight=weight, pieces=tuple(pieces),
        below=math.nan if first else pieces[here][0], above=math.nan if last else pieces[here][1],
        next_below=-1 if first else pieces[here - 1][2], next_above=-1 if last else pieces[here + 1][2],
    )  # fmt: skip


def best_by_weight(partial: ArrayLike, weights: ArrayLike, grid: ArrayLike) -> Floats:
    """P(best) (C, G, A) over draws of partial values (D, A, C) as each criterion's weight runs over `grid` (G,)."""
    v, w, at = (np.asarray(x, np.float64) for x in (partial, weights, grid))
    found = np.empty((w.size, at.size, v.shape[1]))
    for k in range(w.size):
        one, zero = v[..., k], _rest(v, w, k)
        for g, share in enumerate(at):
            found[k, g] = _best(zero + (one - zero) * share).mean(axis=0)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One line of the effects table: a criterion under an alternative and under the reference, and their difference.

    own, other: equal-tailed limits of the two; better: probability that the alternative is better than the reference
    on this criterion, half of it where they are equal. Limits are NaN for a single draw.
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
    own: tuple[float, float]
    other: tuple[float, float]


def effects_table(
    draws: ArrayLike, criteria: Sequence[Criterion], *, alternative: int, reference: int = 0, level: float = 0.95
) -> tuple[Effect, ...]:
    """Favourable effects first, from draws (D, A, C): means, difference with equal-tailed limits, P(better).

    >>> [round(e.difference, 12) for e in effects_table([[[0.1], [0.3]], [[0.2], [0.4]]],
    ...     [Criterion(name="response", worst=0, best=1)], alternative=1)]
    [0.2]
    """
    x = _checked(draws, criteria)
    for field, place in (("alternative", alternative), ("reference", reference)):
        if x.ndim != 3 or not 0 <= place < x.shape[1]:
            raise InputError("is not an alternative of draws (D, A, C)", field=field, value=place)
    if alternative == reference:
        raise InputError("is the reference itself", field="alternative", value=alternative)
    lines = []
    for k, c in sorted(enumerate(criteria), key=lambda item: item[1].kind):
        own, other = x[:, alternative, k], x[:, reference, k]
        (low, high), mine, theirs = (_limits(part, level) for part in (own - other, own, other))
        gain = (own - other) / (c.best - c.worst)
        gain = np.where(np.abs(gain) <= SAME, 0.0, gain)  # a last bit is no difference
        lines.append(Effect(
            name=c.name, kind=c.kind, unit=c.unit, alternative=float(own.mean()), reference=float(other.mean()),
            difference=float((own - other).mean()), lower=float(low), upper=float(high),
            better=float((gain > 0).mean() + 0.5 * (gain == 0).mean()),
            own=(float(mine[0]), float(mine[1])), other=(float(theirs[0]), float(theirs[1])),
        ))  # fmt: skip
    return tuple(lines)
