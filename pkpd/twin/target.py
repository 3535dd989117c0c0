"""The log posterior of rows, and the mode of each patient: Newton's method over all patients at once.

One solve gives the values around every patient's point from which gradient and Hessian follow by central differences;
another tries several step lengths. Nothing is asked of the model but its values, so that every model text has a twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals
from pkpd.twin.case import Case, slots_of
from pkpd.twin.likelihood import likelihood

__all__ = ["KEPT", "ROWS", "Mode", "evaluated", "mode", "modes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROWS = 65_536
"""Rows solved at once: memory, not meaning."""
STARTS, EACH, KEPT = 6, 4, 3
STEP = 0.03  # of a prior standard deviation: differences of values that carry the solver's 1e-6
STEPS = (1.0, 0.5, 0.2, 0.05, 0.01)
MOST, CLOSE = 40, 1e-4


def evaluated(case: Case, who: Ints, draw: Ints, x: Floats) -> tuple[Floats, Floats]:
    """(log prior, log likelihood) of rows x (R, K), each (R,), in pieces of `ROWS`."""
    z, prior = case.coordinates.effects(draw, x)
    found = np.empty(len(x))
    for lo in range(0, len(x), ROWS):
        part = slice(lo, lo + ROWS)
        found[part] = likelihood(case, who[part], draw[part], z[part])
    return prior, found


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Maximum a posteriori at the median draw: x (n, K), covariance (n, K, K) = inverse Hessian, value (n,), the log
    posterior density there; converged (n,). share (n,): of the Laplace mass of all modes found.
    """

    x: Floats
    covariance: Floats
    value: Floats
    converged: NDArray[np.bool_]
    share: Floats


def mode(case: Case, *, seed: int) -> Mode:
    """The highest mode of every patient, whatever its mass."""
    found = modes(case, seed=seed)
    rows = np.arange(len(case))
    best = np.argmax(found.value.reshape(len(case), -1), axis=1)
    return Mode(**{name: getattr(found, name)[rows, best] for name in Mode.__slots__})


def modes(case: Case, *, seed: int, starts: int = STARTS) -> Mode:
    """Up to `KEPT` modes of every patient, arrays with an axis more, (n, KEPT, ...): those reached from so many starts
    (one: the prior's centre), a mode reached twice once; those that are not there have share 0.
    """
    n, size = len(case), case.coordinates.size
    x, value = _start(case, seed, starts)
    who = np.repeat(np.arange(n), starts)
    found = _climbed(case, who, x.reshape(n * starts, size), value.ravel())
    shaped = Mode(**{k: getattr(found, k).reshape(n, starts, *getattr(found, k).shape[1:]) for k in Mode.__slots__})
    return _distinct(shaped)


def _climbed(case: Case, who: NDArray[np.intp], x: Floats, value: Floats) -> Mode:
    """Newton's method from points x (m, K) of patients `who`."""
    m, size = x.shape
    hessian = np.tile(np.eye(size), (m, 1, 1))
    open_ = np.flatnonzero(np.isfinite(value)) if size else np.empty(0, np.intp)
    for _ in range(MOST):
        if not len(open_):
            break
        slope, curve = _derivatives(case, who[open_], x[open_], value[open_])
        hessian[open_] = curve
        step = np.linalg.solve(_positive(curve), slope[:, :, None])[:, :, 0]
        step *= np.minimum(1.0, 3.0 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        x[open_], value[open_], moved = _advanced(case, who[open_], (x[open_], value[open_]), step)
        open_ = open_[moved > CLOSE]
    covariance = np.linalg.inv(_positive(hessian)) if size else np.zeros((m, 0, 0))
    converged = ~np.isin(np.arange(m), open_) & np.isfinite(value)
    return Mode(x=x, covariance=covariance, value=value, converged=converged, share=np.ones(m))


def _distinct(found: Mode) -> Mode:
    """The `KEPT` heaviest modes, a mode within one standard deviation of a heavier one left out."""
    n, starts, size = found.x.shape
    mass = np.where(np.isfinite(found.value), found.value, -np.inf)
    mass = mass + 0.5 * np.log(np.linalg.det(found.covariance)) if size else mass
    order = np.argsort(-mass, axis=1, kind="stable")
    rows = np.arange(n)[:, None]
    x, mass = found.x[rows, order], np.take_along_axis(mass, order, axis=1)
    inverse = np.linalg.inv(found.covariance[rows, order]) if size else found.covariance[rows, order]
    for j in range(1, starts):
        away = x[:, j, None, :] - x[:, :j]
        near = np.einsum("nji,njik,njk->nj", away, inverse[:, :j], away) < 1.0
        mass[(near & np.isfinite(mass[:, :j])).any(axis=1), j] = -np.inf
    keep = np.argsort(-mass, axis=1, kind="stable")[:, :KEPT]
    mass = np.take_along_axis(mass, keep, axis=1)
    share = np.exp(mass - np.where(np.isfinite(mass[:, :1]), mass[:, :1], 0.0))
    share = np.where(np.isfinite(mass[:, :1]), share, 1.0 / mass.shape[1])
    chosen = np.take_along_axis(order, keep, axis=1)
    columns = {name: getattr(found, name)[rows, chosen] for name in Mode.__slots__}
    return Mode(**(columns | {"share": share / share.sum(axis=1, keepdims=True)}))


def _start(case: Case, seed: int, starts: int) -> tuple[Floats, Floats]:
    """Starts (n, starts, K) and their values: the prior's centre, and the best of `EACH` draws each."""
    n, size = len(case), case.coordinates.size
    count = (starts - 1) * EACH
    x = np.zeros((n, count + EACH, size))
    if size:
        x[:, EACH:] = normals(
            seed, Purpose.TWIN_START, subject=np.arange(count)[None, :, None],
            replicate=case.address[:, None, None], slot=slots_of(case.coordinates)[None, None, :],
        )  # fmt: skip
    value = _values(case, np.arange(n), x[:, EACH - 1 :])
    value = np.where(np.isnan(value), -np.inf, value)
    groups = value[:, 1:].reshape(n, starts - 1, EACH)
    best = 1 + np.arange(starts - 1) * EACH + np.argmax(groups, axis=2)
    place = np.concatenate([np.zeros((n, 1), np.int64), best], axis=1)
    rows = np.arange(n)[:, None]
    return x[:, EACH - 1 :][rows, place].copy(), value[rows, place].copy()


def _values(case: Case, patients: Ints | NDArray[np.intp], x: Floats) -> Floats:
    """Log posterior at the median draw of points x (m, J, K) of some patients, (m, J)."""
    m, points, size = x.shape
    who = np.repeat(np.asarray(patients, np.int64), points)
    draw = np.full(m * points, case.number, np.int64)
    prior, found = evaluated(case, who, draw, np.ascontiguousarray(x.reshape(m * points, size)))
    return (prior + found).reshape(m, points)


def _derivatives(case: Case, patients: NDArray[np.intp], x: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Gradient (m, K) of the log posterior and Hessian (m, K, K) of its negative, by differences of width `STEP`."""
    size = x.shape[1]
    one = STEP * np.eye(size)
    pairs = [(i, j) for i in range(size) for j in range(i)]
    moves = np.concatenate([one, -one, *([(one[i] + one[j])[None] for i, j in pairs]),
                            *([-(one[i] + one[j])[None] for i, j in pairs])])  # fmt: skip
    found = _values(case, patients, x[:, None, :] + moves[None])
    found = np.where(np.isfinite(found), found, value[:, None] - 1e3)
    up, down, both = found[:, :size], found[:, size : 2 * size], found[:, 2 * size :]
    slope = (up - down) / (2.0 * STEP)
    second = (up - 2.0 * value[:, None] + down) / STEP**2
    curve = np.zeros((len(x), size, size))
    for k in range(size):
        curve[:, k, k] = -second[:, k]
    for k, (i, j) in enumerate(pairs):
        whole = (both[:, k] - 2.0 * value + both[:, len(pairs) + k]) / STEP**2
        curve[:, i, j] = curve[:, j, i] = -0.5 * (whole - second[:, i] - second[:, j])
    return slope, curve


def _positive(curve: Floats) -> Floats:
    """Eigenvalues raised to at least 0.25 (the prior alone gives about 1)."""
    values, vectors = np.linalg.eigh(curve)
    return np.asarray(np.einsum("nik,nk,njk->nij", vectors, np.maximum(values, 0.25), vectors))


def _advanced(
    case: Case, patients: NDArray[np.intp], start: tuple[Floats, Floats], step: Floats
) -> tuple[Floats, Floats, Floats]:
    """The best of several lengths of the step; a patient none of them serves stays and is done."""
    x, value = start
    tried = x[:, None, :] + np.asarray(STEPS)[None, :, None] * step[:, None, :]
    found = _values(case, patients, tried)
    found = np.where(np.isnan(found), -np.inf, found)
    best = np.argmax(found, axis=1)
    rows = np.arange(len(x))
    better = found[rows, best] > value
    moved = np.where(better, np.abs(step).max(axis=1) * np.asarray(STEPS)[best], 0.0)
    return (
        np.where(better[:, None], tried[rows, best], x), np.where(better, found[rows, best], value), moved,
    )  # fmt: skip
