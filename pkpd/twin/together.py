"""Observations of one patient whose residual errors are correlated: each given those of its group that stand before it.

The density of a group (`model.together`) is a product of conditional ones, so that rows may come one by one. In
standardised values u = (y - f)/s, normal with the correlations of the particle's draw, of values below a limit the
probability: log p(u_t | before) = J(before and t) - J(before).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.model.together import MOST_BEYOND, earlier, matrices
from pkpd.residual import CombinedError, sd

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model
    from pkpd.twin.case import Case, Levels
    from pkpd.twin.likelihood import People

__all__ = ["before", "given_before", "given_others", "log_joint", "require_known"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Seen = tuple[Floats, Mapping[str, CombinedError]]
"""True values of the observations (R, T), and the residual error of each output."""
HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


def before(model: Model, records: Records, row: Ints) -> Ints:
    """How many columns back each observation's partners before it stand, (n, T, K - 1), 0: none. row (n, T): of the
    data, -1: none.
    """
    partner = earlier(model, records)
    column = np.zeros(len(records.time), np.int64)
    there = row >= 0
    column[row[there]] = np.nonzero(there)[1]
    found = np.zeros((*row.shape, partner.shape[1]), np.int64)
    own = partner[row[there]]
    found[there] = np.where(own >= 0, column[row[there]][:, None] - column[own], 0)
    return found


def require_known(levels: Levels) -> None:
    """InputError where more than two correlated values of one time lie below a limit."""
    for i, t in zip(*np.nonzero((levels.before > 0).any(axis=2)), strict=True):
        if levels.below[i, [t, *_back(levels, i, t)]].sum() > MOST_BEYOND:
            problem = "three or more correlated values below a limit at one time have no probability here yet"
            raise InputError(problem, field="CENS", value=f"{levels.time[i, t]:g} h", remedy="leave one out")


def _back(levels: Levels, patient: int, t: int) -> list[int]:
    return sorted(t - int(d) for d in levels.before[patient, t] if d > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows of one patient: standardised values u (R, T), correlations of the outputs S (R, outputs, outputs), and which
    output (T,) a column is of.
    """

    u: Floats
    S: Floats
    output: Ints
    below: Bools

    def joint(self, columns: list[int], below: Bools) -> Floats:
        """J of some columns, (R,)."""
        output = self.output[columns]
        return log_joint(self.u[:, columns], self.S[:, output[:, None], output[None, :]], below[columns])

    def gain(self, t: int, others: list[int]) -> Floats:
        """J(t and others) - J(others) - J(t)."""
        return self.joint([t, *others], self.below) - self.joint(others, self.below) - self.joint([t], self.below)


def given_before(case: Case, folk: People, levels: Levels, seen: Seen) -> Floats:
    """log p(y_t | partners before it) - log p(y_t) of every observation, (R, T). seen: true values (R, T) and laws."""
    found = np.zeros(seen[0].shape)
    order = np.argsort(folk.who, kind="stable")
    ranked, u, S = folk.who[order], _standardised(case, folk.who, levels, seen), _matrices(case)
    patients, columns = np.nonzero((levels.before > 0).any(axis=2))
    known = np.isin(patients, ranked)
    for i, t in zip(patients[known].tolist(), columns[known].tolist(), strict=True):
        at = order[np.searchsorted(ranked, i) : np.searchsorted(ranked, i, side="right")]
        rows = _Rows(u=u[at], S=S[folk.draw[at]], output=levels.output[i], below=levels.below[i])
        found[at, t] = rows.gain(t, _back(levels, i, t))
    return found


def given_others(case: Case, folk: People, t: int, seen: Seen) -> tuple[Floats, Floats] | None:
    """Of one observation of the patient whose rows these are, given all its partners: log p(y_t | them) - log p(y_t)
    and P(Y_t < y_t | them), (R,) each; None where it has none. Of partners below a limit those are left out that have
    no probability here.
    """
    levels, patient = case.levels, int(folk.who[0])
    group = _group(levels, patient, t)
    if not group:
        return None
    below = levels.below[patient].copy()
    if below[group].sum() >= MOST_BEYOND:
        group = [k for k in group if not below[k]]
    u = _standardised(case, folk.who, levels, seen)
    rows = _Rows(u=u, S=_matrices(case)[folk.draw], output=levels.output[patient], below=below.copy())
    below[t] = True
    return rows.gain(t, group), np.exp(rows.joint([t, *group], below) - rows.joint(group, below))


def _group(levels: Levels, patient: int, t: int) -> list[int]:
    """Columns of the partners of an observation, before and after it."""
    count = levels.before.shape[1]
    later = [k for k in range(t + 1, count) if k - t in levels.before[patient, k].tolist()]
    return [*_back(levels, patient, t), *later]


def _matrices(case: Case) -> Floats:
    cached: Floats | None = case.__dict__.get("_residual_matrices")
    if cached is None:
        cached = case.__dict__["_residual_matrices"] = matrices(case.model, case.draws)
    return cached


def _standardised(case: Case, who: Ints, levels: Levels, seen: tuple[Floats, Mapping[str, CombinedError]]) -> Floats:
    """(y - f)/s of every observation, (R, T); on the log scale where the error is."""
    f, law = seen
    y, found = levels.value[who], np.full(f.shape, np.nan)
    with np.errstate(all="ignore"):
        for k, name in enumerate(case.model.outputs):
            if name not in law or not (levels.output == k).any():
                continue
            away = np.log(y) - np.log(f) if law[name].is_log else y - f
            found = np.where((levels.output == k)[who], away / sd(law[name], f), found)
    return found


def log_joint(u: Floats, S: Floats, below: Bools) -> Floats:
    """Log density (R,) of standard normals u (R, m) with correlations S (R, m, m); of those `below` (at most two) the
    probability that they lie below u.

    >>> S = np.array([[[1.0, 0.5], [0.5, 1.0]]])
    >>> float(np.exp(log_joint(np.zeros((1, 2)), S, np.array([True, True])))[0].round(6))  # 1/4 + asin(1/2)/(2 pi)
    0.333333
    """
    from scipy import special

    a, c = np.flatnonzero(~below), np.flatnonzero(below)
    value, mean, left = np.zeros(len(u)), np.zeros((len(u), len(c))), S[:, c[:, None], c[None, :]]
    with np.errstate(all="ignore"):
        if len(a):
            A = np.linalg.inv(S[:, a[:, None], a[None, :]])
            across = S[:, c[:, None], a[None, :]] @ A
            v = np.einsum("rij,rj->ri", A, u[:, a])
            value = 0.5 * (np.linalg.slogdet(A)[1] - (v * u[:, a]).sum(axis=1)) - len(a) * HALF_LOG_2PI
            mean = np.einsum("rij,rj->ri", across, u[:, a])
            left = left - across @ S[:, a[:, None], c[None, :]]
        if not len(c):
            return np.asarray(value)
        wide = np.sqrt(np.einsum("rii->ri", left))
        z = (u[:, c] - mean) / wide
        if len(c) == 1:
            return np.asarray(value + special.log_ndtr(z[:, 0]))
        from pkpd.kernels.binormal import log_rectangles

        none = np.full(len(u), -np.inf)
        r = left[:, 0, 1] / (wide[:, 0] * wide[:, 1])
        return np.asarray(value + log_rectangles(none, z[:, 0].copy(), none, z[:, 1].copy(), r)[0])
