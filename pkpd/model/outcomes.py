"""Outcomes that are not measured but counted, classed or lived through: simulation by address, with NumPy.

Counts, ordered categories, outcomes that feed the next one, classes of a mixture, times of events by hazard. Each draw
is the quantile at a uniform of its own address, so it depends on nobody else and on no order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.model import equations as eq
from pkpd.model.observed import Output
from pkpd.model.spec import Model

__all__ = ["INVALID", "classes", "count", "crossing", "lived", "ordered", "simulate", "thresholds", "thresholds_at"]

Floats = NDArray[np.float64]
INVALID: Final = -1
"""An outcome whose probabilities make no sense (negative, above 1, rising with the level, missing): it is counted."""


def count(
    law: str, mean: Floats, u: Floats, *, dispersion: Floats | float = 0.0, zeros: Floats | float = 0.0
) -> Floats:
    """Counts with the given mean at uniforms u, variance mean + dispersion mean^2; -1 where the mean is invalid.

    zeros: share of extra zeros. The smallest k with P(N <= k) >= u, by SciPy's special functions.

    >>> count("poisson", np.array([2.0]), np.array([0.5])).tolist()
    [2.0]
    """
    from scipy import special

    mean, u, extra = np.broadcast_arrays(np.asarray(mean, np.float64), u, np.asarray(zeros, np.float64))
    alpha = np.broadcast_to(np.asarray(dispersion, np.float64), mean.shape)
    sound = (mean >= 0.0) & (extra >= 0.0) & (extra < 1.0) & np.isfinite(mean) & (alpha >= 0.0)
    m, size = np.where(sound & (mean > 0.0), mean, 1.0), 1.0 / np.where(alpha > 0.0, alpha, 1.0)
    rest = np.clip((u - np.where(sound, extra, 0.0)) / (1.0 - np.where(sound, extra, 0.0)), 0.0, 1.0)

    def below(k: Floats) -> Floats:
        poisson = special.pdtr(k, m)
        if law == "poisson":
            return np.asarray(poisson)
        share = size / (size + m)
        return np.asarray(np.where(alpha > 0.0, special.betainc(size, k + 1.0, share), poisson))

    found = _smallest(below, rest, m, np.where(alpha > 0.0, alpha, 0.0) if law != "poisson" else np.zeros_like(m))
    found = np.where((mean == 0.0) | (u <= extra), 0.0, found)
    return np.asarray(np.where(sound, found, float(INVALID)))


def _smallest(below: Any, u: Floats, mean: Floats, alpha: Floats) -> Floats:
    """The smallest whole k with below(k) >= u, by bisection up to an end that is doubled until it is far enough."""
    low, high = np.full_like(mean, -1.0), np.ceil(mean + 10.0 * np.sqrt(mean + alpha * mean * mean) + 10.0)
    for _ in range(40):
        short = (below(high) < u) & (high < 1e12)
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
    while (high - low > 1.0).any():
        middle = np.floor(0.5 * (low + high))
        enough = below(np.maximum(middle, 0.0)) >= u
        wide = high - low > 1.0
        high, low = np.where(wide & enough, middle, high), np.where(wide & ~enough, middle, low)
    return high


def ordered(at_least: Floats, u: Floats) -> Floats:
    """Level 0, 1, ... from P(outcome >= level), at_least (levels, ...); level k where u > 1 - P(outcome >= k).

    >>> ordered(np.array([[0.7], [0.2]]), np.array([0.5])).tolist()
    [1.0]
    """
    falling = (np.diff(at_least, axis=0) <= 1e-12).all(axis=0)
    sound = falling & ((at_least >= 0.0) & (at_least <= 1.0)).all(axis=0)
    level = (u[None] > 1.0 - at_least).sum(axis=0)
    return np.where(sound, level, INVALID).astype(np.float64)


def classes(
    model: Model, typical: Floats, seed: int, *, subject: NDArray[Any], replicate: NDArray[Any]
) -> dict[str, Floats]:
    """Membership (1 or 0) of each class of the mixture, {name: (R, N)}; typical (R, P). Address: `Purpose.MIXTURE`."""
    if not model.mixture:
        return {}
    column = {name: i for i, name in enumerate(model.parameters)}
    u = uniforms(seed, Purpose.MIXTURE, subject=subject[None, :], replicate=replicate[:, None])
    share: dict[str, Floats] = {}
    total = np.zeros((len(replicate), 1))
    for name, value in model.mixture.items():
        if value == "rest":
            share[name] = 1.0 - total
        else:
            given = typical[:, column[value], None] if isinstance(value, str) else np.asarray(value, np.float64)
            share[name] = np.broadcast_to(given, total.shape)
        total = total + share[name]
    if min(float(s.min()) for s in share.values()) < -1e-12:
        raise InputError("the probabilities of the classes exceed 1 in some draws", field="mixture")
    edge, found = np.zeros((len(replicate), 1)), {}
    for name, size in share.items():
        last = name == list(share)[-1]
        found[name] = ((u >= edge) & ((u < edge + size) | last)).astype(np.float64)
        edge = edge + size
    return found


def thresholds(
    seed: int, *, subject: NDArray[Any], replicate: NDArray[Any], event: int, occurrences: int = 1
) -> Floats:
    """Cumulative hazard at which an event comes, (R, N, occurrences), ascending: sums of standard exponentials.

    The k-th event of a recurrent hazard comes when the cumulative hazard from time 0 crosses the k-th threshold.
    Address: `Purpose.HAZARD`, `event` the slot of the event's name, index = occurrence.
    """
    return thresholds_at(
        seed, subject=subject[None, :], replicate=replicate[:, None], event=event, occurrences=occurrences
    )  # fmt: skip


def thresholds_at(
    seed: int, *, subject: NDArray[Any], replicate: NDArray[Any], event: int, occurrences: int = 1
) -> Floats:
    """`thresholds` of any subjects and replicates that broadcast against each other, (..., occurrences)."""
    from pkpd.kernels.elementary import log_array

    u = uniforms(
        seed, Purpose.HAZARD, subject=subject[..., None], replicate=replicate[..., None],
        index=np.arange(occurrences), slot=event,
    )  # fmt: skip
    return np.asarray(np.cumsum(-log_array(u), axis=-1))


def crossing(times: Floats, cumulative: Floats, threshold: Floats) -> Floats:
    """When a cumulative hazard (..., T) at ascending times (T,) crosses thresholds (...): inf where it does not.

    Linear between the times: exact for a hazard that is constant there. The engine finds crossings exactly.
    """
    reached = cumulative >= threshold[..., None]
    k = np.argmax(reached, axis=-1)
    before = np.maximum(k - 1, 0)
    high = np.take_along_axis(cumulative, k[..., None], -1)[..., 0]
    low = np.where(k > 0, np.take_along_axis(cumulative, before[..., None], -1)[..., 0], 0.0)
    start, end = np.where(k > 0, times[before], 0.0), times[k]
    with np.errstate(all="ignore"):
        share = np.where(high > low, (threshold - low) / (high - low), 0.0)
    return np.asarray(np.where(reached.any(axis=-1), start + share * (end - start), np.inf))


def simulate(
    model: Model, known: Mapping[str, Any], seed: int, *, subject: NDArray[Any], replicate: NDArray[Any]
) -> dict[str, Floats]:
    """Every count and ordered outcome at V observations, {output: (R, N, V)}; -1 where it is invalid.

    known: what the response layer reads (parameters, covariates, classes, states, integrated equations, summaries,
    TIME), each broadcasting to (R, N, V). Observations are taken in order: the outcome of one may feed the next.
    Address: `Purpose.OUTCOME`, index = observation, slot of the output's name.
    """
    who = {"subject": subject[None, :], "replicate": replicate[:, None]}
    return lived(model, known, model.response, seed=seed, **who)[0]


def lived(
    model: Model,
    known: Mapping[str, Any],
    response: Mapping[str, eq.Expr],
    *,
    seed: int,
    subject: NDArray[Any],
    replicate: NDArray[Any],
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """As `simulate`, of subjects and replicates that broadcast to a shape S: outcomes and equations, each (*S, V).

    response: equations evaluated at each observation, in order, with the outcome of the observation before.
    """
    wanted = {name: (slots([name]), out) for name, out in model.outputs.items() if not out.continuous}
    who = np.broadcast_shapes(np.shape(subject), np.shape(replicate))
    size = np.broadcast_shapes((*who, 1), *(np.shape(v) for v in known.values()))
    found, made = {name: np.empty(size) for name in wanted}, {name: np.empty(size) for name in response}
    former = {str(out.previous.name): (name, out.previous.first) for name, (_, out) in wanted.items() if out.previous}
    for visit in range(size[-1] if wanted or response else 0):
        values = {name: np.broadcast_to(np.asarray(v, np.float64), size)[..., visit] for name, v in known.items()}
        for name, (source, first) in former.items():
            values[name] = found[source][..., visit - 1] if visit else np.full(size[:-1], first)
        for name, expr in response.items():
            made[name][..., visit] = values[name] = eq.evaluate(expr, values)
        for name, (slot, out) in wanted.items():
            u = uniforms(seed, Purpose.OUTCOME, subject=subject, replicate=replicate, index=visit, slot=slot)
            found[name][..., visit] = _drawn(out, values, u)
    return found, made


def _drawn(out: Output, values: Mapping[str, Any], u: Floats) -> Floats:
    if out.kind == "ordered":
        return ordered(np.stack([np.broadcast_to(values[str(n)], u.shape) for n in out.at_least.values()]), u)
    mean = np.asarray(values[str(out.is_)], np.float64) * (out.per or 1.0)
    extra = values[str(out.zeros)] if out.zeros else 0.0
    spread = values[str(out.dispersion)] if out.dispersion else 0.0
    return count(str(out.law), np.broadcast_to(mean, u.shape), u, dispersion=spread, zeros=extra)
