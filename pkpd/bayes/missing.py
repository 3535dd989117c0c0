"""Covariates that are missing in some subjects: each has a prior from the subjects who have it, and is sampled.

On the log scale where all are positive, x ~ N(m, s^2 (1 + 1/n)) with the mean m and the sd s of the n subjects who have
it: the normal predictive distribution. What the subject's own levels say of it is in the posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    from pkpd.bayes.pieces import Pieces
    from pkpd.model.spec import Model

__all__ = ["Absent", "absent_of", "drawn"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
LEAST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """names (m,): `WT of 7`; covariate, subject (m,): which, whose; law (m, 3): location, scale, 1 on the log scale;
    at (E, 3): piece, column of the covariate and number m of every value that is missing.
    """

    names: tuple[str, ...]
    covariate: tuple[str, ...]
    subject: I64
    law: F64
    at: I64


def absent_of(model: Model, ids: tuple[str, ...], pieces: Pieces) -> Absent:
    """What is missing. Errors: InputError for a category, or where too few subjects have the covariate."""
    names: list[str] = []
    owner: list[tuple[str, int]] = []
    law: list[tuple[float, float, float]] = []
    at: list[tuple[int, int, int]] = []
    for column, (name, values) in enumerate(pieces.covariates.items()):
        holes = np.flatnonzero(np.isnan(values))
        if not len(holes):
            continue
        own = _law(model, name, _by_subject(values, pieces))
        for subject in np.unique(pieces.subject[holes]).tolist():
            at += [(int(p), column, len(names)) for p in holes if pieces.subject[p] == subject]
            names.append(f"{name} of {ids[subject]}")
            owner.append((name, subject))
            law.append(own)
    return Absent(
        names=tuple(names), covariate=tuple(name for name, _ in owner),
        subject=np.asarray([s for _, s in owner], np.int64), law=np.asarray(law, np.float64).reshape(-1, 3),
        at=np.asarray(at, np.int64).reshape(-1, 3),
    )  # fmt: skip


def drawn(absent: Absent, z: F64) -> F64:
    """Values of the missing covariates from standard normals z (..., m)."""
    value = absent.law[:, 0] + absent.law[:, 1] * z
    return np.where(absent.law[:, 2] == 1.0, np.exp(np.where(absent.law[:, 2] == 1.0, value, 0.0)), value)


def _by_subject(values: F64, pieces: Pieces) -> F64:
    """First known value of each subject who has one."""
    known = np.flatnonzero(~np.isnan(values))
    return np.asarray(values[known[np.unique(pieces.subject[known], return_index=True)[1]]])


def _law(model: Model, name: str, known: F64) -> tuple[float, float, float]:
    if model.covariates[name].labels or any(e.kind == "category" for p in model.parameters.values()
                                            for n, e in p.effects.items() if n == name):  # fmt: skip
        remedy = "write it, or give the missing ones a category of their own"
        raise InputError("a category that is missing cannot be fitted yet", field=name, remedy=remedy)
    if len(known) < LEAST:
        problem = f"is missing in all but {len(known)} subjects: nothing tells what it may be"
        raise InputError(problem, field=name, remedy="take the covariate out of the model")
    logs = bool((known > 0.0).all())
    values = np.log(known) if logs else known
    return float(values.mean()), float(values.std(ddof=1) * np.sqrt(1.0 + 1.0 / len(known))), float(logs)
